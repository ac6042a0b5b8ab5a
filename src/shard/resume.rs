//! How a miner gets its session back: who asks, where the session is, and what happens meanwhile.
//!
//! ```text
//!  subscribe with an id ──► here, live       its older connection is closed first, then as parked
//!                           here, parked     given to this connection, in this turn
//!                           not here         asked of the coordinator ─► GiveParked ─► that shard
//!                                            ◄─ Resumed ◄─ Parked ◄─ (the same two cases there)
//!                           nowhere, another address's, too late     a new session
//! ```
//!
//! A session is in one place at any time: in a connection, in a table of parked ones, or in one
//! message; its prefix is leased to the shard where that is. What comes too late for the connection
//! that asked is parked here, and found here when the miner asks again.

use alloc::boxed::Box;
use alloc::collections::{BTreeMap, VecDeque};
use core::mem;
use core::net::IpAddr;

use farm::extranonce::ShardIndex;
use farm::messages::{FromShard, ParkedSession};
use session::{Input, SessionId, Tick};

use crate::counters::CloseReason;
use crate::guard::Guard;
use crate::lane::Lane;
use crate::parked::ParkedSessions;
use crate::ring::{ConnId, Ring};
use crate::shard::{Hands, Shard};

/// How long a miner waits for its old session: a hundred times what two healthy lanes take, and a
/// fifteenth of the time that it has for its handshake.
pub const RESUME_US_MAX: u64 = 1_000_000;

/// Connections that may wait for a session from elsewhere; a further one begins a new session.
pub const RESUMES_WAITING_MAX: usize = 4_096;

/// Sessions that other shards may ask for at a time; a further question is not answered.
pub const GIVES_WAITING_MAX: usize = 1_024;

/// A connection that wants the session of a former one.
#[derive(Clone, Copy, Debug)]
struct Waiting {
    conn: ConnId,
    id: SessionId,
    until: Tick,
    step: Step,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Step {
    /// To be looked for here.
    Look,
    /// Not here, and the coordinator was not asked yet.
    Unsent,
    Asked,
    /// Nobody has it.
    InVain,
}

/// Who asks for a session.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Claim {
    /// The source address, IPv4-mapped addresses as IPv4.
    pub(crate) peer: IpAddr,
    /// When the connection was accepted. Questions may overtake each other on their ways, and the
    /// miner is at the end of its newest connection.
    pub(crate) connected: Tick,
}

/// A session that another shard asks for.
#[derive(Clone, Copy, Debug)]
struct Give {
    asker: ShardIndex,
    id: SessionId,
    claim: Claim,
}

/// Sessions of one shard by their ids, and who asks for which.
pub(crate) struct Resumes {
    /// Where each session with a connection is.
    live: BTreeMap<SessionId, ConnId>,
    pub(crate) parked: ParkedSessions,
    /// Oldest first.
    waiting: VecDeque<Waiting>,
    /// Oldest first.
    gives: VecDeque<Give>,
    /// Something has changed for one of those that wait.
    stirred: bool,
}

/// Where a session is that a connection asks for.
enum Found {
    Here(Box<ParkedSession>),
    /// It is another address's, or nothing is left of it.
    InVain,
    Elsewhere,
}

impl Resumes {
    pub(crate) fn new(sessions_max: usize) -> Resumes {
        Resumes {
            live: BTreeMap::new(),
            parked: ParkedSessions::new(sessions_max),
            waiting: VecDeque::new(),
            gives: VecDeque::new(),
            stirred: false,
        }
    }

    /// A connection has a session now.
    pub(crate) fn begins(&mut self, id: SessionId, conn: ConnId) {
        self.live.insert(id, conn);
    }

    /// It has it no more.
    pub(crate) fn ends(&mut self, id: SessionId) {
        self.live.remove(&id);
    }

    /// A connection asks for a session. `false` if too many wait already.
    pub(crate) fn ask(&mut self, conn: ConnId, id: SessionId, now: Tick) -> bool {
        if self.waiting.len() >= RESUMES_WAITING_MAX {
            return false;
        }
        let until = now.plus_micros(RESUME_US_MAX);
        self.waiting.push_back(Waiting { conn, id, until, step: Step::Look });
        self.stirred = true;
        true
    }

    /// Another shard asks for a session.
    pub(crate) fn asked_for(&mut self, asker: ShardIndex, id: SessionId, claim: Claim) {
        if self.gives.len() < GIVES_WAITING_MAX {
            self.gives.push_back(Give { asker, id, claim });
            self.stirred = true;
        }
    }

    /// The coordinator's answer has come, and with it perhaps the session.
    fn answered(&mut self, id: SessionId, found: bool) {
        let step = if found { Step::Look } else { Step::InVain };
        for waiting in self.waiting.iter_mut().filter(|waiting| waiting.id == id) {
            waiting.step = step;
        }
        self.stirred = true;
    }

    /// When somebody has waited long enough, or at once where there is something to do.
    pub(crate) fn deadline(&self, now: Tick) -> Tick {
        if self.stirred {
            return now;
        }
        self.waiting.front().map_or(Tick::NEVER, |waiting| waiting.until)
    }

    /// Connections that wait.
    pub(crate) fn waiting(&self) -> usize {
        self.waiting.len()
    }
}

impl<R: Ring> Shard<R> {
    /// Gives sessions to those who want them back, as far as they are here.
    pub(crate) fn resume<G: Guard>(&mut self, hands: &mut Hands<'_, R, G>) {
        if hands.now < self.resumes.deadline(hands.now) {
            return;
        }
        self.resumes.stirred = false;
        self.clear_the_way(hands);
        let mut waiting = mem::take(&mut self.resumes.waiting);
        waiting.retain_mut(|waiting| self.serve_waiting(waiting, hands));
        // Nobody asks while sessions are given out, but whoever did would stand behind these.
        waiting.append(&mut self.resumes.waiting);
        self.resumes.waiting = waiting;
    }

    /// Closes connections whose sessions have gone on elsewhere: the miner is there now.
    fn clear_the_way<G: Guard>(&mut self, hands: &mut Hands<'_, R, G>) {
        for index in 0..self.resumes.gives.len() {
            let Give { id, claim, .. } = self.resumes.gives[index];
            self.close_older(id, claim, hands);
        }
    }

    /// Ends the connection that has this session, if it is the same address's and older than the
    /// one that claims it. Whether nobody has it now.
    fn close_older<G: Guard>(
        &mut self,
        id: SessionId,
        claim: Claim,
        hands: &mut Hands<'_, R, G>,
    ) -> bool {
        let Some(conn) = self.resumes.live.get(&id).copied() else { return true };
        let place = self.slots.at(conn.slot);
        let is_foreign = place.peer.to_canonical() != claim.peer;
        if is_foreign || place.tally.connected > claim.connected {
            return false;
        }
        self.lose(conn.slot, CloseReason::Resumed, hands);
        true
    }

    /// Whether this connection has to wait on.
    fn serve_waiting<G: Guard>(
        &mut self,
        waiting: &mut Waiting,
        hands: &mut Hands<'_, R, G>,
    ) -> bool {
        let Waiting { conn, id, until, step } = *waiting;
        let Some(place) = self.slots.named(conn).filter(|place| place.session.is_some()) else {
            return false;
        };
        let claim = place.claim();
        match step {
            Step::Look => match self.find(id, claim, hands) {
                Found::Here(parked) => self.give_session(conn, parked, hands),
                Found::InVain => self.begin_anew(conn.slot),
                Found::Elsewhere => {
                    waiting.step = Step::Unsent;
                    return true;
                }
            },
            Step::InVain => self.begin_anew(conn.slot),
            Step::Unsent | Step::Asked if hands.now < until => return true,
            Step::Unsent | Step::Asked => self.begin_anew(conn.slot),
        }
        false
    }

    fn find<G: Guard>(
        &mut self,
        id: SessionId,
        claim: Claim,
        hands: &mut Hands<'_, R, G>,
    ) -> Found {
        let was_live = self.resumes.live.contains_key(&id);
        if !self.close_older(id, claim, hands) {
            return Found::InVain;
        }
        match self.resumes.parked.peer_of(id) {
            Some(had) if had == claim.peer => {
                self.resumes.parked.take(id).map_or(Found::InVain, Found::Here)
            }
            Some(_) => Found::InVain,
            None if was_live || self.draining.is_some() => Found::InVain,
            None => Found::Elsewhere,
        }
    }

    fn give_session<G: Guard>(
        &mut self,
        conn: ConnId,
        parked: Box<ParkedSession>,
        hands: &mut Hands<'_, R, G>,
    ) {
        self.counters.sessions_resumed.add(1);
        let session = parked.session;
        let (id, prefix) = (session.session_id(), session.prefix());
        self.hold(conn, prefix, id);
        let mut left = Some(Box::new(session));
        self.handle(conn.slot, Input::Resumed(&mut left), hands);
        self.make_ready(conn.slot);
    }

    fn begin_anew(&mut self, slot: u32) {
        self.counters.resumes_in_vain.add(1);
        self.ask(slot);
    }

    /// A session has come over the lane. It is this shard's now, whether or not somebody waits.
    pub(crate) fn session_came(&mut self, id: SessionId, parked: Option<Box<ParkedSession>>) {
        self.resumes.answered(id, parked.is_some());
        if let Some(parked) = parked {
            self.counters.sessions_moved.add(1);
            self.resumes.parked.put(parked);
        }
    }

    /// Gives up sessions that nobody came back for, and those for which there is no room.
    pub(crate) fn let_parked_go(&mut self, now: Tick) {
        while let Some(parked) = self.resumes.parked.expired(now) {
            self.let_go(&parked, now);
        }
        while let Some(parked) = self.resumes.parked.surplus() {
            self.let_go(&parked, now);
        }
    }

    /// The farm has no prefix left: one that is kept for somebody who is away goes to a miner who
    /// is here, if it has rested. Whether there was one.
    pub(crate) fn reclaim_prefix(&mut self, now: Tick) -> bool {
        let oldest_job = self.horizon.live().map_or(0, |live| live.oldest);
        let rested = self.resumes.parked.rested(oldest_job, now);
        rested.inspect(|parked| self.let_go(parked, now)).is_some()
    }

    fn let_go(&mut self, parked: &ParkedSession, now: Tick) {
        let ParkedSession { since, session, .. } = parked;
        let until = (self.horizon.live(), now);
        self.leases.give_back_parked(session.prefix(), session.newest_job(), *since, until);
    }

    /// Asks for sessions that are elsewhere, and sends those that are wanted there. `false` when
    /// the lane is full.
    pub(crate) fn write_resumes<L: Lane>(&mut self, lane: &mut L) -> bool {
        for waiting in self.resumes.waiting.iter_mut() {
            if waiting.step != Step::Unsent {
                continue;
            }
            let Some(place) = self.slots.named(waiting.conn) else { continue };
            let (id, Claim { peer, connected }) = (waiting.id, place.claim());
            if lane.send(FromShard::WantParked { id, peer, connected }).is_err() {
                return false;
            }
            waiting.step = Step::Asked;
        }
        while let Some(Give { asker, id, claim }) = self.resumes.gives.front().copied() {
            let is_its_own = self.resumes.parked.peer_of(id) == Some(claim.peer);
            let parked = if is_its_own { self.resumes.parked.take(id) } else { None };
            match lane.send(FromShard::Parked { asker, id, parked }) {
                Ok(()) => drop(self.resumes.gives.pop_front()),
                Err(FromShard::Parked { parked, .. }) => {
                    parked.into_iter().for_each(|parked| self.resumes.parked.put(parked));
                    return false;
                }
                Err(_) => return false,
            }
        }
        true
    }
}
