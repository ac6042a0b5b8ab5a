//! What the data plane asks of whatever moves its bytes. `uring::Ring` is the real one, `sim` has a
//! simulated one, tests have small ones. Waiting and gathering are not here: they belong to the
//! host, which alone knows a clock and a thread.

use alloc::rc::Rc;
use alloc::vec::Vec;
use core::net::IpAddr;

/// Bits of [`ConnId::generation`], so that operation, generation and slot share one 64-bit tag.
pub const GENERATION_BITS: u32 = 24;

/// A connection's slot and how often that slot was reused before: a completion of a former
/// connection carries an older generation and is dropped.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ConnId {
    /// Index in the shard's slot table.
    pub slot: u32,
    /// Which use of the slot; only the low [`GENERATION_BITS`] bits are ever set.
    pub generation: u32,
}

/// Which of the shard's listeners, in the order in which its host gave them to the ring.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct ListenerIndex(pub u16);

/// Bytes on their way out. A chunk moves into the ring and comes back with [`Completion::Sent`].
#[derive(Clone, Debug)]
pub enum Chunk {
    /// A buffer of this connection alone, from the shard's pool.
    Own(Vec<u8>),
    /// A rendering that many connections send at once.
    Shared(Rc<[u8]>),
}

impl Chunk {
    /// The bytes to be sent, whoever owns them.
    pub fn bytes(&self) -> &[u8] {
        match self {
            Chunk::Own(bytes) => bytes,
            Chunk::Shared(bytes) => bytes,
        }
    }
}

/// Why a connection's multishot receive ended. Nothing more is received before [`Ring::recv`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ReceiveEnd {
    /// The peer has closed its sending half.
    Eof,
    /// The provided buffers ran out (ENOBUFS), or the ring ended the receive without a fault of
    /// the peer: give buffers back and arm again.
    NoBuffers,
    /// The socket failed with this errno, for instance ECONNRESET.
    Failed(i32),
}

/// Why a listener's multishot accept ended. Nothing more is accepted before [`Ring::accept`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum AcceptEnd {
    /// The ring ended the accept without an error: arm again at once.
    Finished,
    /// No descriptors or no memory (EMFILE, ENFILE, ENOBUFS, ENOMEM): arm again after a pause.
    Exhausted,
    /// [`Ring::stop_accepting`] took effect.
    Stopped,
    /// The listener failed with this errno.
    Failed(i32),
}

/// What has happened. Completions are owned values, so that nothing borrows from the ring.
#[derive(Debug)]
pub enum Completion<B, S> {
    /// A connection was accepted. The shard answers with [`Ring::adopt`] or [`Ring::refuse`].
    Accepted {
        /// Where it arrived.
        listener: ListenerIndex,
        /// The accepted socket, not yet bound to a slot.
        socket: S,
        /// Its source address (IPv4-mapped IPv6 addresses are left as they are).
        peer: IpAddr,
    },
    /// A multishot accept has ended.
    AcceptEnded {
        /// Which listener no longer accepts.
        listener: ListenerIndex,
        /// Why.
        cause: AcceptEnd,
    },
    /// Bytes have arrived, never zero of them. The buffer goes back by [`Ring::give`] in this turn.
    Received {
        /// From whom.
        conn: ConnId,
        /// Where the bytes are.
        buf: B,
    },
    /// A multishot receive has ended.
    ReceiveEnded {
        /// Whose.
        conn: ConnId,
        /// Why.
        cause: ReceiveEnd,
    },
    /// A send has ended, and its chunk comes back.
    Sent {
        /// To whom.
        conn: ConnId,
        /// What was given to [`Ring::send`].
        chunk: Chunk,
        /// How many bytes went out (possibly fewer than asked), or the errno.
        result: Result<usize, i32>,
    },
    /// The connection is closed and no later completion names it: its slot may be used again.
    Closed {
        /// Which connection.
        conn: ConnId,
    },
    /// Something outside woke the ring (a lane's event counter).
    Woken,
}

/// The shard's way to sockets: completions in, submissions out. No call blocks.
///
/// A connection lives from [`Ring::adopt`] to [`Completion::Closed`]. In between the shard keeps at
/// most one send in flight on it, and never sends after [`Ring::close`].
pub trait Ring {
    /// A received buffer, on loan from the ring until [`Ring::give`].
    type Buf;
    /// An accepted socket that has no slot yet. Dropping it closes it.
    type Socket;

    /// The next thing that happened, oldest first per connection; `None` when nothing more is at
    /// hand now.
    fn next(&mut self) -> Option<Completion<Self::Buf, Self::Socket>>;

    /// The bytes of a received buffer, writable so that they can be parsed in place.
    fn bytes<'a>(&'a mut self, buf: &'a mut Self::Buf) -> &'a mut [u8];

    /// Returns a received buffer to the ring.
    fn give(&mut self, buf: Self::Buf);

    /// Arms (again) the accept of a listener.
    fn accept(&mut self, listener: ListenerIndex);

    /// Ends the accept of a listener. [`Completion::Accepted`] may still come until
    /// [`Completion::AcceptEnded`] does.
    fn stop_accepting(&mut self, listener: ListenerIndex);

    /// Binds an accepted socket to a slot and arms its receive.
    fn adopt(&mut self, socket: Self::Socket, conn: ConnId);

    /// Closes an accepted socket that gets no slot.
    fn refuse(&mut self, socket: Self::Socket);

    /// Arms the receive of a connection again after [`Completion::ReceiveEnded`].
    fn recv(&mut self, conn: ConnId);

    /// Sends a chunk's bytes, beginning at offset `from`.
    fn send(&mut self, conn: ConnId, chunk: Chunk, from: usize);

    /// For how long the peer has acknowledged nothing, in µs, while it owes it and was asked for it
    /// again and again; zero for any other. Asked only when every place is taken: it may cost a
    /// system call.
    fn unacknowledged_us(&mut self, conn: ConnId) -> u64;

    /// Cancels what is in flight on a connection, closes it, and reports [`Completion::Closed`]
    /// after the last completion that names it.
    fn close(&mut self, conn: ConnId);
}
