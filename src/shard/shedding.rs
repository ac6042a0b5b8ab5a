//! Who leaves when there is too much: at a limit those make room for others whose peer acknowledges
//! nothing any more, then the oldest that are not authorized, then those that have never had a
//! share accepted (`idle`); an overloaded shard sheds the strangers first, and then those that do
//! not hash. Whoever hashes is never asked to leave.
//!
//! Each shard looks among its own: where all who could make room sit on another one, a newcomer is
//! refused here, and its next try lands on any shard.

use alloc::collections::VecDeque;

use farm::messages::MinerState;
use session::Tick;

use crate::admission::ADOPTIONS_PER_TURN;
use crate::counters::CloseReason;
use crate::fan_out::VISITS_PER_TURN;
use crate::guard::Guard;
use crate::idle::Idle;
use crate::ring::{ConnId, Ring};
use crate::shard::{Hands, Shard};
use crate::slot::{Slot, Slots};

/// So long nobody has to make room: a handshake is three round trips, also over a satellite.
pub const HANDSHAKE_GRACE_US: u64 = 2_000_000;

/// Who has had no accepted share for so long, and is here for as long, does not hash as far as we
/// can see. At the usual 12 shares a minute nobody is so unlucky; a lottery miner is, and stays
/// unless the shard is at its last means.
pub const IDLE_US: u64 = 300_000_000;

/// Where the difficulty follows the shares, whoever hashes has one long before this many are due:
/// without any, no more than one in 160,000 is only unlucky. It is given [`IDLE_US`] at least.
pub const IDLE_SHARES_DUE: u32 = 12;

/// Where every miner has the same difficulty a slow one may wait long for its first share. Who has
/// had none for an hour makes room in a full house for somebody who may have more.
pub const IDLE_FIXED_US: u64 = 3_600_000_000;

/// Who has acknowledged nothing for so long, although it owes it, is gone: a machine that lost its
/// power, whose connection the keep-alive ends some half a minute later. The farm that returns
/// meanwhile needs its place.
pub const UNRESPONSIVE_US: u64 = 10_000_000;

/// How often a full shard looks for such connections, at the most: one look at all of 50,000 takes
/// some 30 ms.
const SEARCH_EVERY_US: u64 = 1_000_000;

/// Connections that one turn looks at for that: half a millisecond of system calls.
const SEARCHED_PER_TURN: u32 = 1_024;

/// Connections that one turn sheds: as many as it seats, so that shedding costs what seating does.
pub(crate) const SHED_PER_TURN: usize = ADOPTIONS_PER_TURN;

/// What the connections that are not authorized may hold on average, in bytes of their sessions'
/// heaps: a cut line of firmware, its names and its answers. While the budget of all is spent
/// nobody may hold more, so that twice as much is the most; with slot and session that is less than
/// 2 KiB each (a test says so).
pub const EARLY_BYTES_EACH: usize = 512;

/// The connections that are not authorized yet, in the order in which they came.
#[derive(Default)]
pub(crate) struct Newcomers {
    /// Among them some that have left or are authorized: those go when they come to the front, or
    /// when they are the most.
    queue: VecDeque<ConnId>,
    /// Bytes that their sessions hold on the heap.
    bytes: usize,
    /// The first slot that was not looked at for idle miners.
    cursor: u32,
}

/// A look at all connections of a full shard for those that are half-open or idle.
#[derive(Default)]
pub(crate) struct Search {
    /// Those that it found idle; complete when it is over.
    idle: Idle,
    /// The first slot that was not looked at; `None` between two searches.
    cursor: Option<u32>,
    /// No earlier may the next one begin.
    next: Tick,
}

impl Search {
    /// Connections that were found idle and are still here.
    pub(crate) fn idle_found(&self) -> usize {
        self.idle.len()
    }
}

impl Newcomers {
    /// Somebody was seated; `count` are not authorized with this one.
    pub(crate) fn seated(&mut self, conn: ConnId, count: usize, slots: &mut Slots) {
        if self.queue.len() >= 2 * count + ADOPTIONS_PER_TURN {
            self.queue.retain(|conn| slots.named(*conn).is_some_and(|place| is_new(place)));
        }
        self.queue.push_back(conn);
    }

    /// The slot of the oldest, and when it came.
    fn oldest(&mut self, slots: &mut Slots) -> Option<(u32, Tick)> {
        while let Some(conn) = self.queue.front().copied() {
            match slots.named(conn) {
                Some(place) if is_new(place) => {
                    return Some((conn.slot, place.tally.connected));
                }
                _ => drop(self.queue.pop_front()),
            }
        }
        None
    }

    /// Entries, those among them that do not count any more included.
    pub(crate) fn len(&self) -> usize {
        self.queue.len()
    }

    /// Bytes that the sessions hold on the heap.
    pub(crate) fn bytes(&self) -> usize {
        self.bytes
    }

    /// A session that was not authorized holds none of its bytes as such any more.
    pub(crate) fn forget_bytes(&mut self, place: &mut Slot) {
        self.bytes -= core::mem::take(&mut place.early_bytes) as usize;
    }
}

/// Whether a connection is served and not authorized.
fn is_new(place: &Slot) -> bool {
    place.session.is_some() && place.state != MinerState::Mining
}

/// Whether a connection that is served gives no sign that it hashes.
fn is_idle(place: &Slot, now: Tick) -> bool {
    let since = place.tally.last_share.unwrap_or(place.tally.connected);
    place.session.is_some()
        && place.state == MinerState::Mining
        && now.since(since) >= IDLE_US
        && now.since(place.tally.connected) >= IDLE_US
}

/// Since when a connection could have had a share accepted and has not; `None` once it has, and for
/// strangers. While there is no work nobody can.
fn idle_since(place: &Slot, work_since: Option<Tick>) -> Option<Tick> {
    let is_idle = place.session.is_some()
        && place.state == MinerState::Mining
        && place.tally.last_share.is_none();
    work_since.filter(|_| is_idle).map(|since| since.max(place.tally.connected))
}

impl<R: Ring> Shard<R> {
    /// Asks as many to leave as those who wait need room.
    pub(crate) fn make_room<G: Guard>(&mut self, hands: &mut Hands<'_, R, G>) {
        self.search(hands);
        for _ in 0..self.admission.lacking() {
            let Some((slot, since)) = self.newcomers.oldest(&mut self.slots) else {
                break;
            };
            if hands.now.since(since) < HANDSHAKE_GRACE_US {
                break;
            }
            self.lose(slot, CloseReason::Crowded, hands);
        }
        while self.search.cursor.is_none() && self.admission.lacking_in_all() > 0 {
            let Some(conn) = self.search.idle.next() else {
                return;
            };
            let place = self.slots.named(conn);
            if place.is_some_and(|place| idle_since(place, self.work_since).is_some()) {
                self.lose(conn.slot, CloseReason::Idle, hands);
            }
        }
    }

    /// Authorized for so long without one accepted share, a connection makes room.
    fn idle_max_us(&self) -> u64 {
        let pace = self.shared.settings().pace();
        pace.map_or(IDLE_FIXED_US, |pace| pace.due_us(IDLE_SHARES_DUE).max(IDLE_US))
    }

    /// While places are missing: looks at some connections, closes those that are half-open, and
    /// notes those that are idle.
    fn search<G: Guard>(&mut self, hands: &mut Hands<'_, R, G>) {
        let is_due = self.search.next <= hands.now;
        if self.search.cursor.is_none() && (!is_due || self.admission.lacking_in_all() == 0) {
            return;
        }
        let from = self.search.cursor.unwrap_or(0);
        if from == 0 {
            self.search.idle.clear();
        }
        let idle_max_us = self.idle_max_us();
        let mut closed = 0;
        let mut to = from;
        while to < self.slots.len() && to - from < SEARCHED_PER_TURN && closed < SHED_PER_TURN {
            let place = self.slots.at(to);
            if place.session.is_some() && place.state == MinerState::Mining {
                let conn = self.slots.conn(to);
                let idle_since = idle_since(place, self.work_since);
                let idle_since = idle_since.filter(|since| hands.now.since(*since) >= idle_max_us);
                if hands.ring.unacknowledged_us(conn) >= UNRESPONSIVE_US {
                    self.lose(to, CloseReason::Unresponsive, hands);
                    closed += 1;
                } else if let Some(since) = idle_since {
                    self.search.idle.add(place.peer, since, conn);
                }
            }
            to += 1;
        }
        self.search.cursor = (to < self.slots.len()).then_some(to);
        if self.search.cursor.is_none() {
            self.search.next = hands.now.plus_micros(SEARCH_EVERY_US);
            self.search.idle.order();
        }
        self.admission.search(self.search.cursor.is_some());
    }

    /// Takes note of how this turn has kept up with the ring, and does what the level asks for.
    pub(crate) fn relieve<G: Guard>(&mut self, hands: &mut Hands<'_, R, G>) {
        // Blocks that wait for a coordinator which takes none are no overload of this shard.
        let is_behind = self.is_behind && !self.outgoing.is_choked();
        self.overload.observe(hands.now, is_behind);
        let level = self.overload.level();
        self.counters.overload_level.set(u64::from(level));
        self.admission.hold(level >= 1);
        let mut shed = 0;
        while level >= 2 && shed < SHED_PER_TURN {
            let oldest = self.newcomers.oldest(&mut self.slots);
            let old = |since: &Tick| hands.now.since(*since) >= HANDSHAKE_GRACE_US;
            let Some((slot, _)) = oldest.filter(|(_, since)| old(since)) else {
                break;
            };
            self.lose(slot, CloseReason::Overload, hands);
            shed += 1;
        }
        if level >= 3 {
            self.shed_idle(SHED_PER_TURN - shed, hands);
        }
    }

    /// Looks at some slots, and lets those go that do not hash.
    fn shed_idle<G: Guard>(&mut self, most: usize, hands: &mut Hands<'_, R, G>) {
        let mut shed = 0;
        for _ in 0..VISITS_PER_TURN.min(self.slots.len()) {
            if shed == most {
                return;
            }
            let slot = self.newcomers.cursor % self.slots.len();
            self.newcomers.cursor = slot + 1;
            if is_idle(self.slots.at(slot), hands.now) {
                self.lose(slot, CloseReason::Overload, hands);
                shed += 1;
            }
        }
    }

    /// Takes note of what a session that is not authorized holds after it was read. All of them
    /// have a budget together; once it is spent, whoever takes more than a fair part of it goes.
    pub(crate) fn weigh<G: Guard>(&mut self, slot: u32, hands: &mut Hands<'_, R, G>) {
        let place = self.slots.at_mut(slot);
        let Some(session) = place.session.as_ref().filter(|_| place.state != MinerState::Mining)
        else {
            return;
        };
        let bytes = session.memory_bytes();
        self.newcomers.bytes += bytes;
        self.newcomers.bytes -= core::mem::replace(&mut place.early_bytes, bytes as u32) as usize;
        let budget = self.settings.admission.unauthenticated_max.saturating_mul(EARLY_BYTES_EACH);
        if self.newcomers.bytes > budget && bytes > EARLY_BYTES_EACH {
            self.lose(slot, CloseReason::Limit, hands);
        }
    }
}

#[cfg(test)]
mod tests {
    use session::DownstreamSv1;

    use super::*;

    /// What `slot::Slots`, `deadlines` and the lists of slots in the shard hold for each beside it.
    const LISTS_BYTES: usize = 6 * size_of::<ConnId>();

    #[test]
    fn a_stranger_costs_two_kib_at_the_most() {
        let fixed = size_of::<Slot>() + size_of::<DownstreamSv1>() + LISTS_BYTES;
        println!("{fixed} bytes, and at most {} on the heap", 2 * EARLY_BYTES_EACH);
        assert!(fixed + 2 * EARLY_BYTES_EACH <= 2_048, "{fixed} bytes");
    }
}
