//! The ring of one thread: sockets in, completions out. Driven by a host of `engine` (wait, then
//! let the shard take everything), by the load generators, and by tests.
//!
//! A completion finds its owner by its tag, `operation | generation | slot`; one whose generation
//! is not the slot's is stale and dropped. A close runs like this:
//!
//! ```text
//! close(conn) ─ nothing in flight ──────────────────────────────► close(2) ─► Closed
//!             └ cancel by file ─► last receive, last send (Sent), the cancel itself ─┘
//! ```
//!
//! Absent on purpose: time (the host knows when to wake), protocol, policy (how many sockets are
//! adopted in a turn, when an accept that ran out of descriptors is armed again).
#![allow(unsafe_code)]

use std::collections::VecDeque;
use std::io;
use std::marker::PhantomData;
use std::os::fd::{AsRawFd, OwnedFd};
use std::time::Duration;

use io_uring::types::{CancelBuilder, Fd, SubmitArgs, Timespec};
use io_uring::{IoUring, cqueue, opcode, squeue};
use rustix::io::Errno;
use rustix::net::{SendFlags, SocketFlags};
use shard::{AcceptEnd, Chunk, Completion, ConnId, ListenerIndex, ReceiveEnd};

use crate::buffers::{BUFFER_GROUP, Buffer, Buffers};
use crate::peer;
use crate::probe::{self, POLL_IN, Pretend};
use crate::slots::Slots;
use crate::{Capabilities, UringError};

/// Sizes of a ring. `Setup::default()` is that of a shard with 20,000 connections.
#[derive(Debug, Clone)]
pub struct Setup {
    /// Submissions that can be collected before a system call, a power of two.
    pub entries: u32,
    /// Completions that can wait, a power of two. At least twice what is outstanding at once, else
    /// the kernel keeps the rest in memory of its own, which is slower but loses nothing.
    pub completions: u32,
    /// Provided buffers, a power of two to 32,768.
    pub buffers: u16,
    /// Bytes of each provided buffer.
    pub buffer_bytes: u32,
    /// Whether waits may let followers gather, where the kernel can.
    pub gather: bool,
    /// What a test wants the kernel to lack.
    pub pretend: Pretend,
}

impl Default for Setup {
    fn default() -> Setup {
        Setup {
            entries: 4_096,
            // A receive and a send of each connection are 40,000.
            completions: 65_536,
            buffers: 2_048,
            buffer_bytes: 1_024,
            gather: true,
            pretend: Pretend::default(),
        }
    }
}

/// An accepted socket that has no slot yet. Dropping it closes it.
#[derive(Debug)]
pub struct Socket(OwnedFd);

/// What happened beside the completions, for metrics and tests.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Statistics {
    /// Completions that carried another generation than their slot.
    pub stale: u64,
    /// Times that the completion queue had overflowed.
    pub overflows: u64,
    /// Multishot operations that the kernel ended without a fault and that were armed again.
    pub rearmed: u64,
    /// Accepted sockets whose peer had gone before it could be named.
    pub gone_at_accept: u64,
    /// Submissions that the kernel did not take at once and that were kept for the next wait.
    pub deferred: u64,
}

struct Listener {
    file: OwnedFd,
    armed: bool,
    /// The shard has asked for the end of the accept, and it has not come yet.
    stopping: bool,
}

/// One io_uring with its sockets and buffers. It belongs to the thread that made it.
///
/// ```compile_fail
/// fn send<T: Send>() {}
/// send::<uring::Ring>();
/// ```
pub struct Ring {
    io: IoUring,
    buffers: Buffers,
    slots: Slots,
    listeners: Vec<Listener>,
    watches: Vec<OwnedFd>,
    /// Completions that were made here, not by the kernel.
    local: VecDeque<Completion<Buffer, Socket>>,
    /// What the kernel could not take yet, oldest first.
    deferred: VecDeque<squeue::Entry>,
    /// Submissions whose last completion has not been seen.
    outstanding: usize,
    gather: bool,
    statistics: Statistics,
    /// Neither `Send` nor `Sync`: the kernel refuses a second thread (`SINGLE_ISSUER`).
    _thread: PhantomData<*const ()>,
}

/// Completions that end a gathering early: more would only wait for their own sake.
const GATHERED_MAX: usize = 64;

/// How long the kernel may take to give back what is in flight when a ring is dropped. Cancelled
/// socket operations end at once; after this long the memory is left to the kernel for ever.
const REAP_LIMIT: Duration = Duration::from_secs(5);

/// The operation of a completion, in the top byte of its tag.
mod operation {
    pub(super) const RECEIVE: u64 = 1;
    pub(super) const SEND: u64 = 2;
    pub(super) const CANCEL: u64 = 3;
    pub(super) const ACCEPT: u64 = 4;
    pub(super) const WATCH: u64 = 5;
    /// Ends an accept, or everything at the end: nobody waits for its completion.
    pub(super) const STOP: u64 = 6;
}

fn tag(operation: u64, conn: ConnId) -> u64 {
    operation << 56 | u64::from(conn.generation & 0xff_ffff) << 32 | u64::from(conn.slot)
}

/// The tag of what belongs to no connection.
fn tag_indexed(operation: u64, index: usize) -> u64 {
    let slot = u32::try_from(index).expect("a handful of listeners and watches");
    tag(operation, ConnId { slot, generation: 0 })
}

fn untag(tag: u64) -> (u64, ConnId) {
    let conn = ConnId { slot: tag as u32, generation: (tag >> 32) as u32 & 0xff_ffff };
    (tag >> 56, conn)
}

impl Ring {
    /// Makes a ring on this thread, after asking the kernel for everything that it needs.
    ///
    /// # Errors
    /// What is missing or forbidden, with the remedy.
    pub fn new(setup: Setup) -> Result<Ring, UringError> {
        let Capabilities { gather } = probe::probe(&setup.pretend)?;
        let io = probe::build(setup.entries, setup.completions, &setup.pretend)?;
        let buffers = Buffers::register(&io, setup.buffers, setup.buffer_bytes)?;
        Ok(Ring {
            io,
            buffers,
            slots: Slots::default(),
            listeners: Vec::new(),
            watches: Vec::new(),
            local: VecDeque::new(),
            deferred: VecDeque::new(),
            outstanding: 0,
            gather: gather && setup.gather,
            statistics: Statistics::default(),
            _thread: PhantomData,
        })
    }

    /// Whether a wait can let followers gather: the kernel has it and the set-up allows it.
    pub fn can_gather(&self) -> bool {
        self.gather
    }

    /// What happened beside the completions so far.
    pub fn statistics(&self) -> Statistics {
        self.statistics
    }

    /// Takes over a listening socket. Nothing is accepted before [`shard::Ring::accept`].
    pub fn listen(&mut self, file: OwnedFd) -> ListenerIndex {
        let index = u16::try_from(self.listeners.len()).expect("a handful of listeners");
        let listener = Listener { file, armed: false, stopping: false };
        self.listeners.push(listener);
        ListenerIndex(index)
    }

    /// Takes over a connection that was accepted before this ring was there, as if it had come to
    /// one of its listeners.
    pub fn bring(&mut self, listener: ListenerIndex, file: OwnedFd) {
        match peer::address_of(&file) {
            Some(peer) => {
                let socket = Socket(file);
                self.local.push_back(Completion::Accepted { listener, socket, peer });
            }
            None => self.statistics.gone_at_accept += 1,
        }
    }

    /// Reports [`Completion::Woken`] whenever this non-blocking event counter was written to.
    pub fn watch(&mut self, counter: OwnedFd) {
        self.watches.push(counter);
        self.arm_watch(self.watches.len() - 1);
    }

    /// Binds a connected (or connecting, non-blocking) socket to a slot and arms its receive: the
    /// client side, for load generators and tests.
    pub fn adopt_fd(&mut self, file: OwnedFd, conn: ConnId) {
        self.slots.bind(conn, file);
        self.arm_receive(conn);
    }

    /// Submits what is queued and blocks until a completion is at hand or `deadline` has passed;
    /// `None` waits for ever, zero only submits. With `gather_us` (µs, where [`Ring::can_gather`])
    /// it first lets that long pass, so that more completions come together.
    ///
    /// # Errors
    /// Only what the ring cannot live with; a signal or the deadline is no error.
    pub fn wait(&mut self, deadline: Option<Duration>, gather_us: Option<u32>) -> io::Result<()> {
        self.submit_deferred();
        let ready = !self.local.is_empty() || !self.io.completion().is_empty();
        if ready || deadline == Some(Duration::ZERO) || !self.deferred.is_empty() {
            return self.submit();
        }
        let mut arguments = SubmitArgs::new();
        let limit = deadline
            .map(|deadline| Timespec::new().sec(deadline.as_secs()).nsec(deadline.subsec_nanos()));
        if let Some(limit) = &limit {
            arguments = arguments.timespec(limit);
        }
        let mut want = 1;
        if let Some(gather_us) = gather_us.filter(|_| self.gather) {
            arguments = arguments.min_wait_usec(gather_us);
            want = GATHERED_MAX;
        }
        harmless(self.io.submitter().submit_with_args(want, &arguments))
    }

    /// Submits what is queued, and takes completions that are due, without blocking.
    fn submit(&mut self) -> io::Result<()> {
        let queue = self.io.submission();
        let idle = queue.is_empty() && !queue.taskrun() && !queue.cq_overflow();
        drop(queue);
        if idle { Ok(()) } else { harmless(self.io.submit()) }
    }

    /// Queues an operation. What it refers to must live until its last completion: sockets and
    /// chunks do so in `slots`, `listeners` and `watches`, received bytes in `buffers`.
    fn push(&mut self, entry: squeue::Entry) {
        self.outstanding += 1;
        if self.deferred.is_empty() && (self.try_push(&entry) || self.submit_and_push(&entry)) {
            return;
        }
        self.statistics.deferred += 1;
        self.deferred.push_back(entry);
    }

    fn try_push(&mut self, entry: &squeue::Entry) -> bool {
        // SAFETY: what the entry refers to lives in this ring until its last completion, and
        // `drop` reaps all of them before it frees anything.
        unsafe { self.io.submission().push(entry).is_ok() }
    }

    /// The queue is full: hand it to the kernel, which empties it unless it is short of memory.
    fn submit_and_push(&mut self, entry: &squeue::Entry) -> bool {
        // A refusal shows again at the next wait, which reports it.
        self.io.submit().is_ok() && self.try_push(entry)
    }

    fn submit_deferred(&mut self) {
        while let Some(entry) = self.deferred.pop_front() {
            if !self.try_push(&entry) && !self.submit_and_push(&entry) {
                self.deferred.push_front(entry);
                return;
            }
        }
    }

    fn arm_watch(&mut self, index: usize) {
        let file = Fd(self.watches[index].as_raw_fd());
        let poll = opcode::PollAdd::new(file, POLL_IN).multi(true).build();
        self.push(poll.user_data(tag_indexed(operation::WATCH, index)));
    }

    fn arm_receive(&mut self, conn: ConnId) {
        let Some(slot) = self.slots.open(conn) else { return };
        let Some(file) = slot.file.as_ref().filter(|_| !slot.receiving) else { return };
        let receive = opcode::RecvMulti::new(Fd(file.as_raw_fd()), BUFFER_GROUP).build();
        slot.receiving = true;
        self.push(receive.user_data(tag(operation::RECEIVE, conn)));
    }

    fn arm_accept(&mut self, index: usize) {
        let listener = &mut self.listeners[index];
        if listener.armed {
            return;
        }
        listener.armed = true;
        let accept = opcode::AcceptMulti::new(Fd(listener.file.as_raw_fd()))
            .flags(SocketFlags::CLOEXEC.bits().cast_signed())
            .build();
        self.push(accept.user_data(tag_indexed(operation::ACCEPT, index)));
    }

    fn next_entry(&mut self) -> Option<cqueue::Entry> {
        if let Some(entry) = self.io.completion().next() {
            return Some(entry);
        }
        // The kernel keeps what did not fit and hands it over when asked.
        if self.io.submission().cq_overflow() {
            self.statistics.overflows += 1;
            // A refusal shows again at the next wait, which reports it.
            let _ = self.io.submit();
            return self.io.completion().next();
        }
        None
    }

    /// What a completion of the kernel means to the shard, if anything.
    fn translate(&mut self, entry: &cqueue::Entry) -> Option<Completion<Buffer, Socket>> {
        let (operation, conn) = untag(entry.user_data());
        let more = cqueue::more(entry.flags());
        if !more {
            self.outstanding = self.outstanding.checked_sub(1).expect("one last completion each");
        }
        match operation {
            operation::RECEIVE => self.received(conn, entry, more),
            operation::SEND => self.sent(conn, entry.result()),
            operation::CANCEL => {
                self.slots.bound(conn)?.cancelling = false;
                self.close_if_idle(conn);
                None
            }
            operation::ACCEPT => self.accepted(conn.slot as usize, entry.result(), more),
            operation::WATCH => self.woken(conn.slot as usize, more),
            operation::STOP => None,
            _ => unreachable!("the kernel answered what was never asked"),
        }
    }

    fn received(
        &mut self,
        conn: ConnId,
        entry: &cqueue::Entry,
        more: bool,
    ) -> Option<Completion<Buffer, Socket>> {
        let result = entry.result();
        let length = u32::try_from(result).unwrap_or(0);
        let id = cqueue::buffer_select(entry.flags());
        let buf = id.map(|id| self.buffers.take(id, length));
        let Some(slot) = self.slots.bound(conn) else {
            self.statistics.stale += 1;
            self.give_back(buf);
            return None;
        };
        slot.receiving = more;
        if slot.closing {
            self.give_back(buf);
            self.close_if_idle(conn);
            return None;
        }
        if length > 0 {
            let buf = buf.expect("bytes arrive only in provided buffers");
            if !more {
                self.statistics.rearmed += 1;
                self.arm_receive(conn);
            }
            return Some(Completion::Received { conn, buf });
        }
        self.give_back(buf); // some kernels pick a buffer even for the end of a stream
        let cause = match result {
            0 => ReceiveEnd::Eof,
            error if error == -Errno::NOBUFS.raw_os_error() => ReceiveEnd::NoBuffers,
            error => ReceiveEnd::Failed(-error),
        };
        Some(Completion::ReceiveEnded { conn, cause })
    }

    fn give_back(&mut self, buf: Option<Buffer>) {
        if let Some(buf) = buf {
            self.buffers.give(buf);
        }
    }

    fn sent(&mut self, conn: ConnId, result: i32) -> Option<Completion<Buffer, Socket>> {
        let Some(slot) = self.slots.bound(conn) else {
            self.statistics.stale += 1;
            return None;
        };
        slot.sending = false;
        let chunk = slot.chunk.take().expect("a send in flight holds its chunk");
        self.close_if_idle(conn);
        let result = usize::try_from(result).map_err(|_| -result);
        Some(Completion::Sent { conn, chunk, result })
    }

    fn close_if_idle(&mut self, conn: ConnId) {
        let Some(slot) = self.slots.bound(conn) else { return };
        if slot.closing && !slot.in_flight() {
            slot.file = None; // closes it
            self.local.push_back(Completion::Closed { conn });
        }
    }

    fn accepted(
        &mut self,
        index: usize,
        result: i32,
        more: bool,
    ) -> Option<Completion<Buffer, Socket>> {
        let listener = ListenerIndex(u16::try_from(index).expect("made from a u16"));
        self.listeners[index].armed = more;
        if result < 0 {
            let cause = self.accept_end(index, Errno::from_raw_os_error(-result));
            return Some(Completion::AcceptEnded { listener, cause });
        }
        if !more && std::mem::take(&mut self.listeners[index].stopping) {
            let cause = AcceptEnd::Stopped;
            self.local.push_back(Completion::AcceptEnded { listener, cause });
        } else if !more {
            self.statistics.rearmed += 1;
            self.arm_accept(index);
        }
        let file = own(result);
        let Some(peer) = peer::address_of(&file) else {
            self.statistics.gone_at_accept += 1;
            return None;
        };
        Some(Completion::Accepted { listener, socket: Socket(file), peer })
    }

    fn accept_end(&mut self, index: usize, errno: Errno) -> AcceptEnd {
        if std::mem::take(&mut self.listeners[index].stopping) {
            return AcceptEnd::Stopped;
        }
        match errno {
            Errno::MFILE | Errno::NFILE | Errno::NOBUFS | Errno::NOMEM => AcceptEnd::Exhausted,
            Errno::CANCELED => AcceptEnd::Finished,
            other => AcceptEnd::Failed(other.raw_os_error()),
        }
    }

    fn woken(&mut self, index: usize, more: bool) -> Option<Completion<Buffer, Socket>> {
        let mut count = [0; 8];
        // One read takes all wakes so far; finding none means that an earlier read took this one.
        let _ = rustix::io::read(&self.watches[index], &mut count);
        if !more {
            self.statistics.rearmed += 1;
            self.arm_watch(index);
        }
        Some(Completion::Woken)
    }

    /// Cancels everything and waits until the kernel holds nothing of ours any more.
    fn reap(&mut self) -> bool {
        let everything = opcode::AsyncCancel2::new(CancelBuilder::any().all()).build();
        let started = std::time::Instant::now();
        self.push(everything.user_data(tag_indexed(operation::STOP, 0)));
        loop {
            self.submit_deferred();
            while let Some(entry) = self.next_entry() {
                if !cqueue::more(entry.flags()) {
                    self.outstanding = self.outstanding.saturating_sub(1);
                }
                if untag(entry.user_data()).0 == operation::ACCEPT && entry.result() >= 0 {
                    drop(own(entry.result()));
                }
            }
            if self.outstanding == 0 {
                return true;
            }
            let Some(left) = REAP_LIMIT.checked_sub(started.elapsed()) else { return false };
            let limit = Timespec::new().sec(left.as_secs()).nsec(left.subsec_nanos());
            let arguments = SubmitArgs::new().timespec(&limit);
            if harmless(self.io.submitter().submit_with_args(1, &arguments)).is_err() {
                return false;
            }
        }
    }
}

impl shard::Ring for Ring {
    type Buf = Buffer;
    type Socket = Socket;

    fn next(&mut self) -> Option<Completion<Buffer, Socket>> {
        loop {
            if let Some(made_here) = self.local.pop_front() {
                return Some(made_here);
            }
            let entry = self.next_entry()?;
            if let Some(completion) = self.translate(&entry) {
                return Some(completion);
            }
        }
    }

    fn bytes<'a>(&'a mut self, buf: &'a mut Buffer) -> &'a mut [u8] {
        self.buffers.bytes(buf)
    }

    fn give(&mut self, buf: Buffer) {
        self.buffers.give(buf);
    }

    fn accept(&mut self, listener: ListenerIndex) {
        let index = usize::from(listener.0);
        // Wanted again before it stopped: its end is then `Finished`, which asks to be armed.
        self.listeners[index].stopping = false;
        self.arm_accept(index);
    }

    fn stop_accepting(&mut self, listener: ListenerIndex) {
        let index = usize::from(listener.0);
        let state = &mut self.listeners[index];
        if !state.armed {
            let cause = AcceptEnd::Stopped;
            self.local.push_back(Completion::AcceptEnded { listener, cause });
        } else if !std::mem::replace(&mut state.stopping, true) {
            let accept = tag_indexed(operation::ACCEPT, index);
            let cancel = opcode::AsyncCancel2::new(CancelBuilder::user_data(accept)).build();
            self.push(cancel.user_data(tag_indexed(operation::STOP, index)));
        }
    }

    fn adopt(&mut self, socket: Socket, conn: ConnId) {
        self.adopt_fd(socket.0, conn);
    }

    fn refuse(&mut self, socket: Socket) {
        drop(socket);
    }

    fn recv(&mut self, conn: ConnId) {
        self.arm_receive(conn);
    }

    fn send(&mut self, conn: ConnId, chunk: Chunk, from: usize) {
        let Some(slot) = self.slots.open(conn) else {
            let result = Err(Errno::CANCELED.raw_os_error());
            self.local.push_back(Completion::Sent { conn, chunk, result });
            return;
        };
        assert!(!slot.sending, "one send in flight per connection");
        let file = Fd(slot.file.as_ref().expect("an open slot has a file").as_raw_fd());
        slot.sending = true;
        let bytes = &slot.chunk.insert(chunk).bytes()[from..];
        let length = u32::try_from(bytes.len()).unwrap_or(u32::MAX);
        let send = opcode::Send::new(file, bytes.as_ptr(), length)
            .flags(SendFlags::NOSIGNAL.bits().cast_signed())
            .build();
        self.push(send.user_data(tag(operation::SEND, conn)));
    }

    fn unacknowledged_us(&mut self, conn: ConnId) -> u64 {
        let slot = self.slots.open(conn);
        slot.and_then(|slot| slot.file.as_ref()).map_or(0, peer::unacknowledged_us)
    }

    fn close(&mut self, conn: ConnId) {
        let Some(slot) = self.slots.open(conn) else { return };
        slot.closing = true;
        let file = slot.file.as_ref().map(AsRawFd::as_raw_fd);
        if let Some(file) = file.filter(|_| slot.in_flight()) {
            slot.cancelling = true;
            let cancel = opcode::AsyncCancel2::new(CancelBuilder::fd(Fd(file)).all()).build();
            self.push(cancel.user_data(tag(operation::CANCEL, conn)));
        } else {
            self.close_if_idle(conn);
        }
    }
}

impl Drop for Ring {
    fn drop(&mut self) {
        if self.reap() {
            self.buffers.unregister(&self.io);
        } else {
            // The kernel may still read chunks and write buffers: leave both to it for ever.
            self.slots.leak();
        }
    }
}

/// Takes over a descriptor that the kernel has just made for us.
fn own(descriptor: i32) -> OwnedFd {
    use std::os::fd::FromRawFd;
    // SAFETY: a successful accept's result is a new descriptor that nobody else knows.
    unsafe { OwnedFd::from_raw_fd(descriptor) }
}

/// A wait that ends by its deadline or by a signal, or that asks to drain completions first, is no
/// error.
fn harmless(result: io::Result<usize>) -> io::Result<()> {
    let Err(error) = result else { return Ok(()) };
    let harmless = [Errno::TIME, Errno::INTR, Errno::BUSY, Errno::AGAIN];
    let errno = error.raw_os_error().map(Errno::from_raw_os_error);
    if errno.is_some_and(|errno| harmless.contains(&errno)) { Ok(()) } else { Err(error) }
}
