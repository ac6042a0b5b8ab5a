//! What a ring knows of its connections: one slot each, with what is in flight on it. Used by
//! `ring.rs` only; nothing here talks to the kernel.
//!
//! A slot's file is closed, and [`shard::Completion::Closed`] reported, only when nothing is in
//! flight: an armed receive holds the file, and the kernel reads the chunk of an armed send.

use std::os::fd::OwnedFd;

use shard::{Chunk, ConnId};

/// One connection, or the vacancy that it left.
pub(crate) struct Slot {
    /// Which use of the slot this is; a completion with another one is stale.
    pub(crate) generation: u32,
    /// The socket, from adoption until nothing is in flight after a close.
    pub(crate) file: Option<OwnedFd>,
    /// What the kernel is sending. Some exactly while `sending`.
    pub(crate) chunk: Option<Chunk>,
    /// A multishot receive is armed.
    pub(crate) receiving: bool,
    /// A send is in flight.
    pub(crate) sending: bool,
    /// A cancellation by this file's number is in flight: the number must not be reused before.
    pub(crate) cancelling: bool,
    /// The shard has given the connection up.
    pub(crate) closing: bool,
}

impl Slot {
    const fn vacant() -> Slot {
        Slot {
            generation: 0,
            file: None,
            chunk: None,
            receiving: false,
            sending: false,
            cancelling: false,
            closing: false,
        }
    }

    /// Whether the kernel will still complete something of this connection.
    pub(crate) fn in_flight(&self) -> bool {
        self.receiving || self.sending || self.cancelling
    }
}

#[derive(Default)]
pub(crate) struct Slots {
    all: Vec<Slot>,
}

impl Slots {
    /// Binds a file to a slot.
    ///
    /// Panics if the slot is still in use: the shard reuses one only after its `Closed`.
    pub(crate) fn bind(&mut self, conn: ConnId, file: OwnedFd) {
        let index = conn.slot as usize;
        if index >= self.all.len() {
            self.all.resize_with(index + 1, Slot::vacant);
        }
        let slot = &mut self.all[index];
        assert!(slot.file.is_none(), "a slot was given twice");
        assert!(!slot.in_flight(), "a vacant slot has something in flight");
        *slot = Slot { generation: conn.generation, file: Some(file), ..Slot::vacant() };
    }

    /// The slot of a connection that has not been closed yet.
    pub(crate) fn open(&mut self, conn: ConnId) -> Option<&mut Slot> {
        self.bound(conn).filter(|slot| !slot.closing)
    }

    /// The slot of a connection, closing or not; `None` if the slot is vacant or reused.
    pub(crate) fn bound(&mut self, conn: ConnId) -> Option<&mut Slot> {
        let slot = self.all.get_mut(conn.slot as usize)?;
        (slot.file.is_some() && slot.generation == conn.generation).then_some(slot)
    }

    /// Gives up everything without freeing it: the kernel may still use it.
    pub(crate) fn leak(&mut self) {
        std::mem::forget(std::mem::take(&mut self.all));
    }
}
