//! Sessions whose miners may come back: kept for ten minutes, under a bound of number and memory.
//! It knows ages and addresses, nothing of connections; `resume` puts them in and takes them out.

use alloc::boxed::Box;
use alloc::collections::{BTreeMap, BTreeSet};
use core::net::IpAddr;

use farm::extranonce::REST_MICROS_MIN;
use farm::messages::ParkedSession;
use session::{SessionId, Tick};

/// How long a miner may stay away. A machine that restarts takes three minutes, a switch that is
/// exchanged less than ten; whoever comes later has nothing in flight any more.
pub const PARKED_US_MAX: u64 = 600_000_000;

/// Memory of all parked sessions of a shard. One takes about 1 KiB and at most 100 KiB, so this is
/// every miner of a shard with 20,000 of them, all of whom a power cut parks at once.
pub const PARKED_BYTES_MAX: usize = 64 << 20;

/// The parked sessions of one shard.
pub(crate) struct ParkedSessions {
    sessions: BTreeMap<SessionId, Box<ParkedSession>>,
    /// The same ones by age: those without a counted share, then the others. When room is short the
    /// first go first, so that nobody can push working miners out by coming and going.
    by_age: [BTreeSet<(Tick, SessionId)>; 2],
    bytes: usize,
    sessions_max: usize,
    /// Not later than the moment at which the oldest one is too old.
    due: Tick,
}

impl ParkedSessions {
    /// Room for `sessions_max`.
    pub(crate) fn new(sessions_max: usize) -> ParkedSessions {
        ParkedSessions {
            sessions: BTreeMap::new(),
            by_age: [BTreeSet::new(), BTreeSet::new()],
            bytes: 0,
            sessions_max,
            due: Tick::NEVER,
        }
    }

    /// Keeps a session. The caller then asks for [`ParkedSessions::surplus`].
    pub(crate) fn put(&mut self, parked: Box<ParkedSession>) {
        let id = parked.session.session_id();
        self.due = self.due.min(parked.since.plus_micros(PARKED_US_MAX));
        self.bytes += bytes_of(&parked);
        self.by_age[rank(&parked)].insert((parked.since, id));
        let former = self.sessions.insert(id, parked);
        assert!(former.is_none(), "a session is in one place");
    }

    /// The address that had this session, if it is here.
    pub(crate) fn peer_of(&self, id: SessionId) -> Option<IpAddr> {
        self.sessions.get(&id).map(|parked| parked.peer)
    }

    /// Hands a session out.
    pub(crate) fn take(&mut self, id: SessionId) -> Option<Box<ParkedSession>> {
        let parked = self.sessions.remove(&id)?;
        self.bytes -= bytes_of(&parked);
        self.by_age[rank(&parked)].remove(&(parked.since, id));
        Some(parked)
    }

    /// One that was waited for long enough. Call until `None`.
    pub(crate) fn expired(&mut self, now: Tick) -> Option<Box<ParkedSession>> {
        if now < self.due {
            return None;
        }
        let oldest = self.by_age.iter().filter_map(|by_age| by_age.first()).min();
        let Some((since, id)) = oldest.copied() else {
            self.due = Tick::NEVER;
            return None;
        };
        self.due = since.plus_micros(PARKED_US_MAX);
        if now < self.due {
            return None;
        }
        self.take(id)
    }

    /// One for which there is no room. Call until `None`.
    pub(crate) fn surplus(&mut self) -> Option<Box<ParkedSession>> {
        if self.sessions.len() <= self.sessions_max && self.bytes <= PARKED_BYTES_MAX {
            return None;
        }
        let first = self.by_age.iter().find_map(|by_age| by_age.first());
        let (_, id) = first.copied()?;
        self.take(id)
    }

    /// One whose prefix another miner may have at once, because none of its jobs is live: the jobs
    /// before `oldest_job` are not.
    pub(crate) fn rested(&mut self, oldest_job: u32, now: Tick) -> Option<Box<ParkedSession>> {
        let has_rested = |&(since, id): &(Tick, SessionId)| {
            let parked = &self.sessions[&id];
            parked.session.newest_job() < oldest_job && now.since(since) >= REST_MICROS_MIN
        };
        let firsts = self.by_age.iter().filter_map(|by_age| by_age.first().copied());
        let (_, id) = firsts.filter(has_rested).min()?;
        self.take(id)
    }

    /// How many there are, and how many there may be.
    pub(crate) fn level(&self) -> (usize, usize) {
        (self.sessions.len(), self.sessions_max)
    }

    /// Memory that they take, in bytes.
    pub(crate) fn bytes(&self) -> usize {
        self.bytes
    }
}

fn bytes_of(parked: &ParkedSession) -> usize {
    size_of::<ParkedSession>() + parked.session.memory_bytes() - size_of::<session::Parked>()
}

fn rank(parked: &ParkedSession) -> usize {
    usize::from(parked.session.has_shares())
}
