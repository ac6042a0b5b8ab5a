//! The provided buffers of one ring: memory that the kernel fills and names by number. Used by
//! `ring.rs` only.
//!
//! ```text
//! entries: [addr len id | tail] [addr len id] …   shared with the kernel, one page-aligned block
//! memory:  [buffer 0][buffer 1] … [buffer n-1]    lent to the kernel or to the shard, never both
//! ```
//!
//! A buffer is either *published* (the kernel may write it) or *lent* (a [`Buffer`] value exists).
//! `lent` holds that truth, so that a handle of another ring cannot reach kernel-owned memory.

#![allow(unsafe_code)]

use std::alloc::{Layout, alloc_zeroed, dealloc, handle_alloc_error};
use std::ptr::NonNull;
use std::sync::atomic::{AtomicU16, Ordering};

use io_uring::IoUring;
use io_uring::types::BufRingEntry;

use crate::UringError;

/// One received piece of a connection's stream, to be given back to the ring that lent it.
#[derive(Debug)]
#[must_use = "a buffer that is not given back is lost to its ring"]
pub struct Buffer {
    id: u16,
    length: u32,
}

pub(crate) struct Buffers {
    entries: NonNull<BufRingEntry>,
    memory: NonNull<u8>,
    count: u16,
    bytes_each: u32,
    /// Where the next buffer is published, modulo `count`. Wraps with the kernel's own counter.
    tail: u16,
    lent: Box<[bool]>,
    /// The kernel may write here: memory that is still registered when dropped is never freed.
    registered: bool,
}

/// The only buffer group of a ring.
pub(crate) const BUFFER_GROUP: u16 = 0;

/// The kernel wants the entries on a page of their own.
const PAGE_BYTES: usize = 4096;

/// The kernel's own limit on the entries of one buffer ring.
const BUFFERS_MAX: u16 = 32_768;

impl Buffers {
    /// Allocates `count` (a power of two) buffers and registers them with `io`.
    pub(crate) fn register(
        io: &IoUring,
        count: u16,
        bytes_each: u32,
    ) -> Result<Buffers, UringError> {
        if !count.is_power_of_two() || count > BUFFERS_MAX {
            return Err(UringError::Misuse("the number of buffers is no power of two to 32,768"));
        }
        if bytes_each == 0 {
            return Err(UringError::Misuse("a buffer of no bytes"));
        }
        let mut buffers = Buffers {
            entries: allocate(Buffers::entries_layout(count)).cast(),
            memory: allocate(Buffers::memory_layout(count, bytes_each)),
            count,
            bytes_each,
            tail: 0,
            lent: vec![false; usize::from(count)].into_boxed_slice(),
            registered: false,
        };
        let address = buffers.entries.as_ptr() as u64;
        // SAFETY: the entries are a zeroed, page-aligned block of `count` entries that lives until
        // `unregister`, or for ever.
        let registered =
            unsafe { io.submitter().register_buf_ring_with_flags(address, count, BUFFER_GROUP, 0) };
        registered
            .map_err(|error| UringError::from_os("registering the provided buffers", &error))?;
        buffers.registered = true;
        for id in 0..count {
            buffers.publish(id);
        }
        Ok(buffers)
    }

    fn entries_layout(count: u16) -> Layout {
        let bytes = usize::from(count) * size_of::<BufRingEntry>();
        Layout::from_size_align(bytes, PAGE_BYTES).expect("at most 512 KiB")
    }

    fn memory_layout(count: u16, bytes_each: u32) -> Layout {
        let bytes = usize::from(count) * bytes_each as usize;
        Layout::from_size_align(bytes, PAGE_BYTES).expect("far below the address space")
    }

    /// Takes over the buffer that a completion names.
    ///
    /// Panics if the kernel names one that it does not hold: then nothing here can be trusted.
    pub(crate) fn take(&mut self, id: u16, length: u32) -> Buffer {
        assert!(id < self.count, "the kernel named a buffer that does not exist");
        assert!(length <= self.bytes_each, "the kernel wrote more than a buffer holds");
        let lent = &mut self.lent[usize::from(id)];
        assert!(!*lent, "the kernel named a buffer that it had given away");
        *lent = true;
        Buffer { id, length }
    }

    /// The bytes of a lent buffer.
    ///
    /// Panics on a buffer of another ring, as far as that can be told.
    pub(crate) fn bytes<'a>(&'a mut self, buffer: &'a mut Buffer) -> &'a mut [u8] {
        assert!(self.lent.get(usize::from(buffer.id)) == Some(&true), "a buffer of another ring");
        assert!(buffer.length <= self.bytes_each, "a buffer of another ring");
        let offset = usize::from(buffer.id) * self.bytes_each as usize;
        // SAFETY: the buffer lies inside `memory` (checked above), is not published to the kernel
        // (`lent`), and both borrows exclude every other reference to it.
        unsafe {
            let start = self.memory.as_ptr().add(offset);
            std::slice::from_raw_parts_mut(start, buffer.length as usize)
        }
    }

    /// Returns a buffer to the kernel.
    pub(crate) fn give(&mut self, buffer: Buffer) {
        let lent = self.lent.get_mut(usize::from(buffer.id)).expect("a buffer of another ring");
        assert!(*lent, "a buffer of another ring");
        *lent = false;
        self.publish(buffer.id);
    }

    fn publish(&mut self, id: u16) {
        let at = usize::from(self.tail & (self.count - 1));
        let offset = usize::from(id) * self.bytes_each as usize;
        // SAFETY: `at` and `offset` lie inside their blocks; the kernel reads an entry only below
        // the published tail, and this one is above it until the store below.
        unsafe {
            let entry = &mut *self.entries.as_ptr().add(at);
            entry.set_addr(self.memory.as_ptr().add(offset) as u64);
            entry.set_len(self.bytes_each);
            entry.set_bid(id);
        }
        self.tail = self.tail.wrapping_add(1);
        // SAFETY: the tail lies in the first entry, is two-aligned, and is only ever accessed
        // atomically by both sides.
        unsafe {
            let tail = BufRingEntry::tail(self.entries.as_ptr()).cast_mut();
            AtomicU16::from_ptr(tail).store(self.tail, Ordering::Release);
        }
    }

    /// Takes the memory back from the kernel, once nothing that could write to it is in flight.
    pub(crate) fn unregister(&mut self, io: &IoUring) {
        self.registered = io.submitter().unregister_buf_ring(BUFFER_GROUP).is_err();
    }
}

impl Drop for Buffers {
    fn drop(&mut self) {
        if self.registered {
            return;
        }
        // SAFETY: both blocks came from `allocate` with these layouts, and the kernel gave them
        // back.
        unsafe {
            dealloc(self.entries.as_ptr().cast(), Buffers::entries_layout(self.count));
            let layout = Buffers::memory_layout(self.count, self.bytes_each);
            dealloc(self.memory.as_ptr(), layout);
        }
    }
}

/// A zeroed block, or the process ends as for any other failed allocation.
fn allocate(layout: Layout) -> NonNull<u8> {
    assert!(layout.size() > 0);
    // SAFETY: the layout has a size.
    let block = unsafe { alloc_zeroed(layout) };
    NonNull::new(block).unwrap_or_else(|| handle_alloc_error(layout))
}
