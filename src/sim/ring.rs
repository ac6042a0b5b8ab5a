//! The simulated ring: `shard::Ring` over links with faults. It reports completions in an order of
//! its own (never against what a real ring promises), runs out of buffers, sends short, and checks
//! that the shard keeps its side: one send in flight, none after close, every buffer given back.

use std::cell::RefCell;
use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::net::IpAddr;
use std::panic::resume_unwind;
use std::rc::Rc;

use shard::{AcceptEnd, Chunk, Completion, ConnId, ListenerIndex, ReceiveEnd, Ring};

use crate::faults::{Faults, Sabotage};
use crate::link::{Link, LinkId};
use crate::miner::Submitted;
use crate::random::Random;

/// Bytes of one provided buffer: small, so that lines are often cut.
const BUFFER_BYTES: usize = 512;
/// How late a completion of a closed connection comes at most.
const HAUNT_US_MAX: u64 = 5_000_000;
/// What a reset looks like to the shard: ECONNRESET.
pub const RESET: i32 = 104;
const ECANCELED: i32 = 125;
const EPIPE: i32 = 32;

/// A buffer on loan.
#[derive(Debug)]
pub struct Buf(Vec<u8>);

/// An accepted socket without a slot.
#[derive(Debug)]
pub struct Socket(LinkId);

/// What a shard dies of, when it is to die.
#[derive(Debug)]
pub struct ShardDied;

/// What the ring wants the world to do later.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Wish {
    /// The shard has something to serve.
    Wake,
    /// Bytes for the miner arrive.
    Deliver(LinkId),
    /// The miner sees the end of its link.
    HangUp(LinkId),
}

/// One shard's ring, with its end of all its links.
pub struct SimRing {
    /// The present moment; the world sets it before every call.
    pub now: u64,
    /// What goes wrong.
    pub faults: Faults,
    /// A lie to be told once.
    pub sabotage: Option<Sabotage>,
    /// What the world must do, and when.
    pub wishes: Vec<(u64, Wish)>,
    /// What the shard or the ring did that nobody may.
    pub violations: Vec<String>,
    /// Miners that the shard has closed although nothing had happened to them. Only a panic in
    /// their own session can be the reason.
    pub closed_without_reason: Vec<usize>,
    /// Links that got a slot since the last look, each with its miner.
    pub adopted: Vec<(usize, LinkId)>,
    /// Shares that the shard has taken whole since the last look, each with its miner.
    pub taken: Vec<(usize, Submitted)>,
    /// Shares that were read in the turn in which their link was reset, for the world that lies
    /// about them.
    pub forgotten: Rc<RefCell<BTreeSet<[u8; 32]>>>,
    /// The shard dies at the so-many-th completion that it takes from now on: a panic outside the
    /// fence, in the middle of a turn.
    pub dies_after: Option<u64>,
    /// A drain may close anybody.
    pub is_draining: bool,
    /// So may a release of miners for whom there is no work.
    pub is_releasing: bool,
    random: Random,
    links: BTreeMap<LinkId, Link>,
    by_conn: BTreeMap<ConnId, LinkId>,
    ready: VecDeque<Completion<Buf, Socket>>,
    delayed: BTreeMap<(u64, u64), Completion<Buf, Socket>>,
    sequence: u64,
    backlog: VecDeque<LinkId>,
    accepting: bool,
    buffers_out: usize,
}

impl SimRing {
    /// A ring without links.
    pub fn new(faults: Faults, random: Random) -> SimRing {
        SimRing {
            now: 0,
            faults,
            sabotage: None,
            wishes: Vec::new(),
            violations: Vec::new(),
            closed_without_reason: Vec::new(),
            adopted: Vec::new(),
            taken: Vec::new(),
            forgotten: Rc::default(),
            dies_after: None,
            is_draining: false,
            is_releasing: false,
            random,
            links: BTreeMap::new(),
            by_conn: BTreeMap::new(),
            ready: VecDeque::new(),
            delayed: BTreeMap::new(),
            sequence: 0,
            backlog: VecDeque::new(),
            accepting: false,
            buffers_out: 0,
        }
    }

    /// A miner connects.
    pub fn connect(&mut self, id: LinkId, miner: usize, peer: IpAddr) {
        self.links.insert(id, Link::new(id, miner, peer));
        self.backlog.push_back(id);
        self.pump_accept();
    }

    /// A link, unless both ends have left it.
    pub fn link(&mut self, id: LinkId) -> Option<&mut Link> {
        self.links.get_mut(&id)
    }

    /// A link, read only.
    pub fn peek(&self, id: LinkId) -> Option<&Link> {
        self.links.get(&id)
    }

    /// All links.
    pub fn links(&self) -> impl Iterator<Item = &Link> {
        self.links.values()
    }

    /// Whether the shard has anything to take.
    pub fn has_ready(&self) -> bool {
        !self.ready.is_empty()
    }

    /// When the next completion that is under way is there.
    pub fn next_ripe(&self) -> Option<u64> {
        self.delayed.first_key_value().map(|((at, _), _)| *at)
    }

    /// The miner writes; returns when its bytes arrive.
    pub fn miner_writes(&mut self, id: LinkId, bytes: &[u8]) -> Vec<u64> {
        let (now, delay, splits) = (self.now, self.faults.delay_us_max, self.faults.splits);
        match self.links.get_mut(&id) {
            Some(link) => {
                link.written_up += bytes.len() as u64;
                link.up.write(now, bytes, delay, splits, &mut self.random)
            }
            None => Vec::new(),
        }
    }

    /// Shares stand at these places of the bytes that the miner is about to write.
    pub fn miner_submits(&mut self, id: LinkId, shares: Vec<(u64, Submitted)>) {
        if let Some(link) = self.links.get_mut(&id) {
            let from = link.written_up;
            link.shares_up.extend(shares.into_iter().map(|(end, share)| (from + end, share)));
        }
    }

    /// Takes note of the shares that the shard takes whole with these bytes. What comes after its
    /// close is nobody's any more.
    fn note_taken(&mut self, conn: ConnId, bytes: usize) {
        let id = self.by_conn.get(&conn);
        let Some(link) = id.and_then(|id| self.links.get_mut(id)) else { return };
        if link.shard_closed {
            return;
        }
        link.taken_up += bytes as u64;
        while link.shares_up.front().is_some_and(|(end, _)| *end <= link.taken_up) {
            let (_, share) = link.shares_up.pop_front().expect("it was just seen");
            self.taken.push((link.miner, share));
        }
    }

    /// Moves what has arrived at the shard's side into its receive.
    pub fn arrive_up(&mut self, id: LinkId) {
        let now = self.now;
        let Some(link) = self.links.get_mut(&id) else { return };
        if link.is_clogged || link.broken.is_some() || link.shard_closed {
            return;
        }
        let bytes = link.up.arrived(now);
        link.unread_up.extend(bytes);
        self.pump_receive(id);
    }

    /// Everything that is under way to the shard is there now.
    pub fn arrive_at_once(&mut self, id: LinkId) {
        let Some(link) = self.links.get_mut(&id) else { return };
        if link.is_clogged || link.broken.is_some() || link.shard_closed {
            return;
        }
        let bytes = link.up.arrived(u64::MAX);
        link.unread_up.extend(bytes);
        self.pump_receive(id);
    }

    /// The bytes that have arrived at the miner, unless it does not read.
    pub fn arrive_down(&mut self, id: LinkId) -> Vec<u8> {
        let now = self.now;
        let Some(link) = self.links.get_mut(&id) else { return Vec::new() };
        if link.is_clogged || link.broken.is_some() {
            return Vec::new();
        }
        let bytes = link.down.arrived(now);
        link.unread_down.extend(bytes);
        if link.is_reader_stopped {
            return Vec::new();
        }
        let bytes = std::mem::take(&mut link.unread_down);
        if let Some((chunk, from)) = link.pending.take() {
            self.transmit(id, chunk, from);
        }
        bytes
    }

    /// The link breaks: what is under way is lost, both ends see the errno.
    pub fn break_link(&mut self, id: LinkId, errno: i32) {
        let Some(link) = self.links.get_mut(&id) else { return };
        if link.broken.is_some() {
            return;
        }
        link.broken = Some(errno);
        link.up.cut();
        link.down.cut();
        link.unread_up.clear();
        link.unread_down.clear();
        if let (Some((chunk, _)), Some(conn)) = (link.pending.take(), link.conn) {
            self.complete(Completion::Sent { conn, chunk, result: Err(errno) });
        }
        self.pump_receive(id);
    }

    /// A lie: a healthy link is reported as reset. Whether it is one of this ring's.
    pub fn report_reset(&mut self, id: LinkId) -> bool {
        let Some(link) = self.links.get_mut(&id) else { return false };
        let Some(conn) = link.conn.filter(|_| link.is_armed && link.excuse.is_none()) else {
            return false;
        };
        link.is_armed = false;
        self.complete(Completion::ReceiveEnded { conn, cause: ReceiveEnd::Failed(RESET) });
        true
    }

    /// The miner closes its side; the end arrives behind its bytes.
    pub fn miner_closes(&mut self, id: LinkId) -> u64 {
        let now = self.now;
        let Some(link) = self.links.get_mut(&id) else { return now };
        let at = link.up.last_at().max(now + 1);
        link.miner_closed_at = Some(at);
        at
    }

    /// Both ends are done with it.
    pub fn forget(&mut self, id: LinkId) {
        if self.links.get(&id).is_some_and(|link| link.conn.is_none()) {
            self.links.remove(&id);
            self.backlog.retain(|waiting| *waiting != id);
        }
    }

    /// Buffers that the shard has not given back: none between two turns.
    pub fn buffers_out(&self) -> usize {
        self.buffers_out - self.ready.iter().filter(is_received).count()
    }

    /// The shard is gone with everything that it held; the kernel closes its sockets. Those in the
    /// backlog are the listener's, which outlives the shard. In the middle of a turn nothing of
    /// that turn had been submitted.
    pub fn die(&mut self, mid_turn: bool) {
        self.ready.clear();
        self.delayed.clear();
        self.by_conn.clear();
        self.taken.clear();
        self.closed_without_reason.clear();
        self.accepting = false;
        self.buffers_out = 0;
        self.dies_after = None;
        for link in self.links.values_mut() {
            if link.shard_closed || self.backlog.contains(&link.id) {
                continue;
            }
            link.shard_closed = true;
            link.is_armed = false;
            link.sending = false;
            link.conn = None;
            link.pending = None;
            if mid_turn || !link.unread_up.is_empty() || link.broken.is_some() {
                link.down.cut();
            }
            link.unread_up.clear();
            let gone = link.down.last_at().max(self.now) + 1;
            self.wishes.push((gone, Wish::HangUp(link.id)));
        }
    }

    fn pump_accept(&mut self) {
        while self.accepting {
            let Some(id) = self.backlog.pop_front() else { return };
            let listener = ListenerIndex(0);
            if self.random.happens(self.faults.exhausted) {
                self.backlog.push_front(id);
                self.accepting = false;
                let cause = AcceptEnd::Exhausted;
                return self.complete(Completion::AcceptEnded { listener, cause });
            }
            let Some(link) = self.links.get(&id) else { continue };
            let (socket, peer) = (Socket(id), link.peer);
            self.complete(Completion::Accepted { listener, socket, peer });
        }
    }

    fn pump_receive(&mut self, id: LinkId) {
        let Some(link) = self.links.get_mut(&id) else { return };
        let Some(conn) = link.conn else { return };
        while link.is_armed && !link.unread_up.is_empty() {
            let starved = self.buffers_out >= self.faults.buffers;
            if starved || self.random.happens(self.faults.no_buffers) {
                link.is_armed = false;
                let cause = ReceiveEnd::NoBuffers;
                return self.complete(Completion::ReceiveEnded { conn, cause });
            }
            let count = link.unread_up.len().min(BUFFER_BYTES);
            let bytes: Vec<u8> = link.unread_up.drain(..count).collect();
            self.buffers_out += 1;
            if self.sabotage == Some(Sabotage::BytesTwice)
                && bytes.len() > 40
                && self.now > 5_000_000
            {
                self.sabotage = None;
                self.buffers_out += 1;
                let buf = Buf(bytes.clone());
                self.ready.push_back(Completion::Received { conn, buf });
            }
            self.ready.push_back(Completion::Received { conn, buf: Buf(bytes) });
            self.wishes.push((self.now, Wish::Wake));
        }
        let ended = link.miner_closed_at.is_some_and(|at| at <= self.now && link.up.bytes() == 0);
        let cause = match link.broken {
            Some(errno) => ReceiveEnd::Failed(errno),
            None if ended => ReceiveEnd::Eof,
            None => return,
        };
        if link.is_armed && !link.end_reported {
            link.end_reported = true;
            link.is_armed = false;
            self.complete(Completion::ReceiveEnded { conn, cause });
        }
    }

    /// As much of a chunk as there is room for goes on its way.
    fn transmit(&mut self, id: LinkId, chunk: Chunk, from: usize) {
        let link = self.links.get_mut(&id).expect("a link that sends exists");
        let conn = link.conn.expect("it has a slot");
        if let Some(errno) = link.broken {
            return self.complete_later(Completion::Sent { conn, chunk, result: Err(errno) });
        }
        let vanished = link.miner_closed_at.is_some_and(|at| at <= self.now);
        if vanished {
            return self.complete_later(Completion::Sent { conn, chunk, result: Err(EPIPE) });
        }
        let bytes = &chunk.bytes()[from..];
        let endless = link.is_reader_stopped && self.sabotage == Some(Sabotage::EndlessSendBuffer);
        let room = if endless { usize::MAX } else { link.room() };
        let mut count = bytes.len().min(room);
        if count == 0 {
            link.pending = Some((chunk, from));
            link.pending_since = self.now;
            return;
        }
        if self.random.happens(self.faults.short_sends) {
            count = self.random.within(1, count as u64) as usize;
        }
        let (delay, splits) = (self.faults.delay_us_max, self.faults.splits);
        let sent = &bytes[..count];
        let arrivals = link.down.write(self.now, sent, delay, splits, &mut self.random);
        self.wishes.extend(arrivals.into_iter().map(|at| (at, Wish::Deliver(id))));
        self.complete_later(Completion::Sent { conn, chunk, result: Ok(count) });
    }

    fn complete(&mut self, completion: Completion<Buf, Socket>) {
        self.ready.push_back(completion);
        self.wishes.push((self.now, Wish::Wake));
    }

    fn complete_later(&mut self, completion: Completion<Buf, Socket>) {
        if self.faults.completion_us_max == 0 {
            return self.complete(completion);
        }
        let at = self.now + self.random.below(self.faults.completion_us_max);
        self.sequence += 1;
        self.delayed.insert((at, self.sequence), completion);
        self.wishes.push((at, Wish::Wake));
    }

    /// Moves what is due into the queue that the shard reads.
    fn ripen(&mut self) {
        while let Some(entry) = self.delayed.first_entry() {
            if entry.key().0 > self.now {
                return;
            }
            let completion = entry.remove();
            // Only ghosts have a buffer here; it is theirs from now on, not while they wait.
            self.buffers_out += usize::from(is_received(&&completion));
            self.ready.push_back(completion);
        }
    }

    /// Where the next completion stands: somewhere near the front, never before one that a real
    /// ring would have reported earlier.
    fn pick(&mut self) -> usize {
        let window = (self.faults.reorder + 1).min(self.ready.len() as u64).max(1);
        let drawn = self.random.below(window) as usize;
        let Some(chosen) = self.ready.get(drawn) else { return 0 };
        let goes_first = |earlier: &Completion<Buf, Socket>| must_precede(earlier, chosen);
        self.ready.iter().take(drawn).position(goes_first).unwrap_or(drawn)
    }

    /// Reports something of a connection that is closed, when its slot may have a new tenant.
    fn haunt(&mut self, conn: ConnId) {
        let at = self.now + self.random.within(1, HAUNT_US_MAX);
        let ghost = if self.random.happens(500) {
            Completion::Received { conn, buf: Buf(b"no stratum\n".to_vec()) }
        } else {
            Completion::ReceiveEnded { conn, cause: ReceiveEnd::Failed(RESET) }
        };
        self.sequence += 1;
        self.delayed.insert((at, self.sequence), ghost);
        self.wishes.push((at, Wish::Wake));
    }

    fn check_close(&mut self, id: LinkId) {
        let Some(link) = self.links.get(&id) else { return };
        if link.excuse.is_some() || link.broken.is_some() || link.miner_closed_at.is_some() {
            return;
        }
        if !self.is_draining && !self.is_releasing {
            self.closed_without_reason.push(link.miner);
        }
    }
}

impl Ring for SimRing {
    type Buf = Buf;
    type Socket = Socket;

    fn next(&mut self) -> Option<Completion<Buf, Socket>> {
        if self.dies_after.as_mut().is_some_and(|left| {
            *left = left.saturating_sub(1);
            *left == 0
        }) {
            // Without the hook, which would print what is no fault.
            resume_unwind(Box::new(ShardDied));
        }
        self.ripen();
        let place = self.pick();
        let completion = self.ready.remove(place)?;
        if let Completion::Sent { conn, .. } = completion {
            let id = self.by_conn.get(&conn);
            if let Some(link) = id.and_then(|id| self.links.get_mut(id)) {
                link.sending = false;
            }
        }
        if let Completion::Received { conn, ref buf } = completion {
            self.note_taken(conn, buf.0.len());
        }
        if let Completion::ReceiveEnded { conn, cause: ReceiveEnd::Failed(_) } = completion
            && self.sabotage == Some(Sabotage::ForgottenWithReset)
            && let Some(link) = self.by_conn.get(&conn).and_then(|id| self.links.get(id))
        {
            let of_miner = self.taken.iter().filter(|(miner, _)| *miner == link.miner);
            self.forgotten.borrow_mut().extend(of_miner.map(|(_, share)| share.hash.0));
        }
        if let Completion::Closed { conn } = completion {
            self.by_conn.remove(&conn);
        }
        Some(completion)
    }

    fn bytes<'a>(&'a mut self, buf: &'a mut Buf) -> &'a mut [u8] {
        &mut buf.0
    }

    fn give(&mut self, _buf: Buf) {
        self.buffers_out -= 1;
    }

    fn accept(&mut self, _listener: ListenerIndex) {
        if self.accepting {
            self.violations.push("an armed listener was armed again".to_owned());
        }
        self.accepting = true;
        self.pump_accept();
    }

    fn stop_accepting(&mut self, listener: ListenerIndex) {
        self.accepting = false;
        self.complete(Completion::AcceptEnded { listener, cause: AcceptEnd::Stopped });
    }

    fn adopt(&mut self, socket: Socket, conn: ConnId) {
        if self.by_conn.insert(conn, socket.0).is_some() {
            self.violations.push(format!("{conn:?} was given out twice"));
        }
        if let Some(link) = self.links.get_mut(&socket.0) {
            self.adopted.push((link.miner, socket.0));
            link.conn = Some(conn);
            link.is_armed = true;
        }
        self.pump_receive(socket.0);
    }

    fn refuse(&mut self, socket: Socket) {
        if let Some(link) = self.links.get_mut(&socket.0) {
            link.shard_closed = true;
            self.wishes.push((self.now + 1, Wish::HangUp(socket.0)));
        }
    }

    fn recv(&mut self, conn: ConnId) {
        let Some(id) = self.by_conn.get(&conn).copied() else {
            return self.violations.push("a receive was armed on no connection".to_owned());
        };
        if let Some(link) = self.links.get_mut(&id) {
            if link.is_armed {
                self.violations.push("an armed receive was armed again".to_owned());
            }
            link.is_armed = true;
        }
        self.pump_receive(id);
    }

    fn send(&mut self, conn: ConnId, chunk: Chunk, from: usize) {
        let Some(id) = self.by_conn.get(&conn).copied() else {
            return self.violations.push("a send on no connection".to_owned());
        };
        let Some(link) = self.links.get_mut(&id) else { return };
        if link.sending || link.shard_closed || from >= chunk.bytes().len() {
            self.violations.push(format!("miner {}: a second, late or empty send", link.miner));
            return;
        }
        link.sending = true;
        self.transmit(id, chunk, from);
    }

    /// No miner here goes without a word: its link ends, or it takes what it is sent.
    fn unacknowledged_us(&mut self, _: ConnId) -> u64 {
        0
    }

    fn close(&mut self, conn: ConnId) {
        let Some(id) = self.by_conn.get(&conn).copied() else {
            return self.violations.push("a close of no connection".to_owned());
        };
        self.check_close(id);
        let link = self.links.get_mut(&id).expect("a connection has its link");
        link.shard_closed = true;
        link.is_armed = false;
        link.conn = None;
        // As TCP does: closing over unread bytes resets, and what was under way is lost.
        if !link.unread_up.is_empty() || link.broken.is_some() {
            link.down.cut();
        }
        let gone = link.down.last_at().max(self.now) + 1;
        let pending = link.pending.take();
        link.unread_up.clear();
        if let Some((chunk, _)) = pending {
            self.complete(Completion::Sent { conn, chunk, result: Err(ECANCELED) });
        }
        // Completions of it that are still to come all come before the last one.
        let of_conn = self.delayed.iter().filter(|(_, held)| conn_of(held) == Some(conn));
        let late: Vec<(u64, u64)> = of_conn.map(|(key, _)| *key).collect();
        for key in late {
            let completion = self.delayed.remove(&key).expect("it was just seen");
            self.ready.push_back(completion);
        }
        self.complete(Completion::Closed { conn });
        self.wishes.push((gone, Wish::HangUp(id)));
        if self.random.happens(self.faults.stale) {
            self.haunt(conn);
        }
    }
}

/// Whether a completion has a buffer.
fn is_received(completion: &&Completion<Buf, Socket>) -> bool {
    matches!(completion, Completion::Received { .. })
}

/// The connection that a completion names.
fn conn_of(completion: &Completion<Buf, Socket>) -> Option<ConnId> {
    match completion {
        Completion::Received { conn, .. }
        | Completion::ReceiveEnded { conn, .. }
        | Completion::Sent { conn, .. }
        | Completion::Closed { conn } => Some(*conn),
        Completion::Accepted { .. } | Completion::AcceptEnded { .. } | Completion::Woken => None,
    }
}

/// Whether a real ring reports `earlier` before `later`: the receives of a connection are in order,
/// its close is the last of all, and a listener's end comes behind its sockets.
fn must_precede(earlier: &Completion<Buf, Socket>, later: &Completion<Buf, Socket>) -> bool {
    if matches!(earlier, Completion::AcceptEnded { .. } | Completion::Accepted { .. }) {
        return matches!(later, Completion::AcceptEnded { .. } | Completion::Accepted { .. });
    }
    if conn_of(earlier).is_none() || conn_of(earlier) != conn_of(later) {
        return false;
    }
    let is_receive = |completion: &Completion<Buf, Socket>| {
        matches!(completion, Completion::Received { .. } | Completion::ReceiveEnded { .. })
    };
    matches!(later, Completion::Closed { .. }) || (is_receive(earlier) && is_receive(later))
}
