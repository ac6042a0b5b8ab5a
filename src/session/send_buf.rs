//! The buffer that a shard lends to a machine while it drains it: what it holds in the end becomes
//! the connection's one send. It is no queue: while a send is in flight the buffer is closed, and
//! what cannot be written stays typed in the machine.

use alloc::vec::Vec;

/// Bytes after which no further reply is started: four receive buffers full of submits fit in their
/// answers, and a peer that reads slowly holds no more than this besides one rendering.
pub const SEND_BYTES_MAX: usize = 16 * 1024;

/// A lent buffer: open, or closed because the connection's one send is in flight.
#[derive(Debug, Default)]
pub struct SendBuf {
    bytes: Vec<u8>,
    open: bool,
}

impl SendBuf {
    /// An empty, open buffer.
    pub const fn new() -> SendBuf {
        SendBuf { bytes: Vec::new(), open: true }
    }

    /// An open buffer that writes behind what `bytes` holds, so that allocations can be reused.
    pub const fn from_vec(bytes: Vec<u8>) -> SendBuf {
        SendBuf { bytes, open: true }
    }

    /// A buffer into which nothing can be written.
    pub const fn closed() -> SendBuf {
        SendBuf { bytes: Vec::new(), open: false }
    }

    /// Closes the buffer: what follows must wait for the next send.
    pub fn close(&mut self) {
        self.open = false;
    }

    /// Opens the buffer: the send is done.
    pub fn reopen(&mut self) {
        self.open = true;
    }

    /// Whether bytes may be written.
    pub const fn is_open(&self) -> bool {
        self.open
    }

    /// Whether a further reply or job may be started.
    pub(crate) fn has_room(&self) -> bool {
        self.open && self.bytes.len() < SEND_BYTES_MAX
    }

    /// Whether nothing has been written.
    pub fn is_empty(&self) -> bool {
        self.bytes.is_empty()
    }

    /// What has been written.
    pub fn as_bytes(&self) -> &[u8] {
        &self.bytes
    }

    /// Appends the bytes of a shared rendering.
    pub fn append(&mut self, bytes: &[u8]) {
        assert!(self.open, "a closed buffer takes no bytes");
        self.bytes.extend_from_slice(bytes);
    }

    /// Where the writers of `wire` put their lines.
    pub(crate) fn vec(&mut self) -> &mut Vec<u8> {
        assert!(self.open, "a closed buffer takes no bytes");
        &mut self.bytes
    }

    /// Takes what was written and leaves an empty buffer that is open or closed as before.
    pub fn take(&mut self) -> Vec<u8> {
        core::mem::take(&mut self.bytes)
    }

    /// Ends the loan.
    pub fn into_vec(self) -> Vec<u8> {
        self.bytes
    }
}
