//! One pending send per connection: what goes into the ring, what comes back short, and the pool
//! from which its buffers are. Nothing queues behind a send; a session that finds the buffer closed
//! keeps its replies typed and its newest job unrendered.

use alloc::vec::Vec;

/// A peer that takes no byte for this long is cut off: long enough for a link that stalls over a
/// few retransmissions, and a second below the ten that are promised, because a busy shard looks at
/// its deadlines only between its turns.
pub(crate) const SEND_STALL_US_MAX: u64 = 9_000_000;

/// A peer that takes no byte for this long and goes on asking does not read: a burst of an honest
/// one, after a stall of its line, is answered within a round trip or two.
pub(crate) const UNREAD_US_MAX: u64 = 1_000_000;

/// Replies that may wait for such a peer. A second's worth of honest shares is far less.
pub(crate) const REPLIES_UNREAD_MAX: usize = 64;

/// How long the last bytes of an ended session may take.
pub(crate) const FLUSH_US_MAX: u64 = 2_000_000;

/// Buffers kept for reuse: as many as a batch of the fan-out and a batch of shares need at once.
pub(crate) const BUFFERS_POOLED_MAX: usize = 512;

/// Bytes reserved in a pooled buffer: some replies; a subscribe with its first job grows it once.
pub(crate) const BUFFER_BYTES: usize = 512;

/// A buffer that grew beyond this goes back to the allocator, so that the pool stays within 2 MiB.
pub(crate) const BUFFER_POOLED_BYTES_MAX: usize = 4_096;

const _: () = assert!(BUFFERS_POOLED_MAX * BUFFER_POOLED_BYTES_MAX <= 2 << 20);

/// Send buffers that wait for their next use.
pub(crate) struct Buffers {
    pooled: Vec<Vec<u8>>,
}

impl Buffers {
    /// A pool with `reserved` buffers made beforehand.
    pub(crate) fn new(reserved: usize) -> Buffers {
        let mut pooled = Vec::with_capacity(BUFFERS_POOLED_MAX);
        let reserved = reserved.min(BUFFERS_POOLED_MAX);
        pooled.extend((0..reserved).map(|_| Vec::with_capacity(BUFFER_BYTES)));
        Buffers { pooled }
    }

    /// An empty buffer.
    pub(crate) fn take(&mut self) -> Vec<u8> {
        self.pooled.pop().unwrap_or_else(|| Vec::with_capacity(BUFFER_BYTES))
    }

    /// Buffers at hand.
    pub(crate) fn len(&self) -> usize {
        self.pooled.len()
    }

    /// A buffer is no longer needed.
    pub(crate) fn put_back(&mut self, mut buffer: Vec<u8>) {
        let fits = (1..=BUFFER_POOLED_BYTES_MAX).contains(&buffer.capacity());
        if fits && self.pooled.len() < BUFFERS_POOLED_MAX {
            buffer.clear();
            self.pooled.push(buffer);
        }
    }
}
