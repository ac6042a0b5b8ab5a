//! What leaves the shard for the coordinator: blocks before everything else, wishes for prefixes,
//! the workers' totals once a second, rows for the API when asked. Whatever finds the lane full is
//! kept or can be made again; nothing waits in a queue without a limit.

use alloc::boxed::Box;
use alloc::collections::VecDeque;
use alloc::sync::Arc;
use alloc::vec::Vec;

use farm::ledger::{Report, new_report};
use farm::messages::{FoundBlock, FromShard, MINER_ROWS_MAX, MinerRow, ToShard};
use pow::Hash256;
use session::Tick;

use crate::checks::CHECKS_PER_BATCH;
use crate::lane::Lane;
use crate::resume::Claim;
use crate::ring::Ring;
use crate::shard::{Draining, Shard};
use crate::slot::Slot;

/// How often the workers' totals leave the shard.
pub(crate) const REPORT_US: u64 = 1_000_000;

/// Blocks that may wait for room in the lane before the shard stops reading from its miners. None
/// is ever dropped; a coordinator that takes none for so long is dead, and the watchdog's business.
pub(crate) const BLOCKS_HELD_MAX: usize = 1_024;

/// Questions for the list of miners that may be open; a further one takes the oldest's place,
/// whose asker has given up.
pub(crate) const QUERIES_MAX: usize = 4;

/// How soon a message is offered again that found the lane full.
const RETRY_US: u64 = 1_000;

/// What waits to leave the shard.
pub(crate) struct Outgoing {
    blocks: VecDeque<Box<FoundBlock>>,
    next_report: Tick,
    /// A report whose memory came back.
    spare: Option<Box<Report>>,
    queries: VecDeque<Query>,
    surplus: Option<FromShard>,
    drained_sent: bool,
    lane_is_full: bool,
}

/// One question for the list of miners, and how far its answer is.
struct Query {
    number: u64,
    cursor: u32,
}

impl Outgoing {
    pub(crate) fn new(now: Tick) -> Outgoing {
        Outgoing {
            blocks: VecDeque::new(),
            next_report: now.plus_micros(REPORT_US),
            spare: Some(new_report()),
            queries: VecDeque::new(),
            surplus: None,
            drained_sent: false,
            lane_is_full: false,
        }
    }

    pub(crate) fn hold_block(&mut self, block: Box<FoundBlock>) {
        self.blocks.push_back(block);
    }

    /// Whether the block of this hash waits.
    pub(crate) fn holds(&self, hash: &Hash256) -> bool {
        self.blocks.iter().any(|block| block.hash == *hash)
    }

    /// Blocks that wait, and how many may: one batch of shares can go beyond the mark at which
    /// reading stops.
    pub(crate) fn blocks_held(&self) -> (usize, usize) {
        (self.blocks.len(), BLOCKS_HELD_MAX + 2 * CHECKS_PER_BATCH)
    }

    /// Whether so many blocks wait that no further share may be read.
    pub(crate) fn is_choked(&self) -> bool {
        self.blocks.len() >= BLOCKS_HELD_MAX
    }

    /// When there is next something to send, or to send again.
    pub(crate) fn deadline(&self, now: Tick) -> Tick {
        match (self.lane_is_full, self.queries.is_empty()) {
            (true, _) => now.plus_micros(RETRY_US),
            (false, false) => now,
            (false, true) => self.next_report,
        }
    }

    pub(crate) fn is_drained(&self) -> bool {
        self.drained_sent && self.blocks.is_empty()
    }
}

impl<R: Ring> Shard<R> {
    /// Takes what the coordinator has sent. No session is being driven, so that jobs may change.
    pub(crate) fn read_lane<L: Lane>(&mut self, now: Tick, lane: &mut L) {
        while let Some(message) = lane.receive() {
            match message {
                ToShard::Job(job) => self.adopt_job(job),
                ToShard::Jobs(jobs) => jobs.into_iter().for_each(|job| self.adopt_job(job)),
                ToShard::Lease(lease) => self.leases.granted(&lease),
                ToShard::LeaseRefused(full) => self.leases.refused(full, now),
                ToShard::Recycled(report) => self.outgoing.spare = Some(report),
                ToShard::ListMiners { query } => {
                    if self.outgoing.queries.len() == QUERIES_MAX {
                        self.outgoing.queries.pop_front();
                    }
                    self.outgoing.queries.push_back(Query { number: query, cursor: 0 });
                }
                ToShard::Release { per_second } => self.begin_release(per_second, now),
                ToShard::Serve => self.end_release(),
                ToShard::GiveParked { asker, id, peer, connected } => {
                    self.resumes.asked_for(asker, id, Claim { peer, connected });
                }
                ToShard::Resumed { id, parked } => self.session_came(id, parked),
                ToShard::Remember(remembered) => self.remember(remembered),
                ToShard::Drain => {
                    self.admission.drain();
                    self.draining.get_or_insert(Draining { since: now, cursor: 0 });
                }
            }
        }
    }

    /// Sends what is due, most important first, until the lane is full.
    pub(crate) fn write_lane<L: Lane>(&mut self, now: Tick, lane: &mut L) {
        self.let_parked_go(now);
        let sent = self.hand_over_blocks(lane)
            && self.write_prefixes(now, lane)
            && self.write_resumes(lane)
            && self.write_miners(lane)
            && self.write_report(now, lane)
            && self.write_drained(lane);
        self.outgoing.lane_is_full = !sent;
        if !sent {
            self.counters.lane_full.add(1);
        }
    }

    /// Hands the blocks that wait over to the lane, as far as it has room; true if none is left.
    /// A turn does so itself: its host needs this only for a shard that will have no further one.
    pub fn hand_over_blocks<L: Lane>(&mut self, lane: &mut L) -> bool {
        while let Some(block) = self.outgoing.blocks.pop_front() {
            if let Err(block) = lane.send_block(block) {
                self.outgoing.blocks.push_front(block);
                break;
            }
        }
        self.counters.blocks_held.set(self.outgoing.blocks.len() as u64);
        self.outgoing.blocks.is_empty()
    }

    fn write_prefixes<L: Lane>(&mut self, now: Tick, lane: &mut L) -> bool {
        self.leases.advance(self.horizon.live(), now);
        let open = self.draining.is_none();
        if open
            && let Some(prefixes) = self.leases.wanted(now)
            && lane.send(FromShard::WantLease { prefixes }).is_err()
        {
            self.leases.not_asked();
            return false;
        }
        loop {
            let surplus = self.outgoing.surplus.take().or_else(|| {
                self.leases.surplus().map(|range| FromShard::Returned(Vec::from([range])))
            });
            let Some(surplus) = surplus else {
                return true;
            };
            if let Err(unsent) = lane.send(surplus) {
                self.outgoing.surplus = Some(unsent);
                return false;
            }
        }
    }

    /// One slice of one answer per turn, so that a shard with many miners serves them in between.
    fn write_miners<L: Lane>(&mut self, lane: &mut L) -> bool {
        let Some(query) = self.outgoing.queries.front() else {
            return true;
        };
        let (number, from) = (query.number, query.cursor.min(self.slots.len()));
        let to = (from + MINER_ROWS_MAX as u32).min(self.slots.len());
        let open = (from..to).filter(|slot| self.slots.at(*slot).session.is_some());
        let rows = open.map(|slot| self.miner_row(slot)).collect();
        let done = to == self.slots.len();
        if lane.send(FromShard::Miners { query: number, rows, done }).is_err() {
            return false;
        }
        if done {
            self.outgoing.queries.pop_front();
        } else if let Some(query) = self.outgoing.queries.front_mut() {
            query.cursor = to;
        }
        true
    }

    fn miner_row(&self, slot: u32) -> MinerRow {
        let Slot { generation, peer, state, ref session, prefix, tally, .. } = *self.slots.at(slot);
        let session = session.as_ref().expect("rows are made of open connections");
        MinerRow {
            connection: u64::from(generation) << 32 | u64::from(slot),
            peer,
            state,
            user_agent: Box::from(session.user_agent().unwrap_or_default()),
            worker: self.called(slot, 0).unwrap_or_else(|| Arc::from("")),
            extranonce1: prefix,
            difficulty: session.difficulty().get(),
            accepted: tally.accepted,
            rejected: tally.rejected,
            connected: tally.connected,
            last_share: tally.last_share,
        }
    }

    fn write_report<L: Lane>(&mut self, now: Tick, lane: &mut L) -> bool {
        let closing = self.draining.is_some() && self.slots.used() == 0;
        if now < self.outgoing.next_report && !(closing && self.workers.has_news()) {
            return true;
        }
        self.set_gauges();
        let mut report = self.outgoing.spare.take().unwrap_or_else(new_report);
        if !self.workers.report(&mut report) {
            self.outgoing.spare = Some(report);
            self.outgoing.next_report = now.plus_micros(REPORT_US);
            return true;
        }
        match lane.send(FromShard::Report(report)) {
            Ok(()) => {
                // More news than one report holds goes on in the next turn.
                let pause_us = if self.workers.has_news() { 0 } else { REPORT_US };
                self.outgoing.next_report = now.plus_micros(pause_us);
                true
            }
            Err(FromShard::Report(report)) => {
                self.workers.unsent(&report);
                self.outgoing.spare = Some(report);
                false
            }
            Err(_) => false,
        }
    }

    fn write_drained<L: Lane>(&mut self, lane: &mut L) -> bool {
        let done = self.draining.is_some()
            && self.slots.used() == 0
            && self.admission.waiting() == 0
            && !self.admission.is_accepting()
            && !self.workers.has_news();
        if done && !self.outgoing.drained_sent {
            self.outgoing.drained_sent = lane.send(FromShard::Drained).is_ok();
            return self.outgoing.drained_sent;
        }
        true
    }

    fn set_gauges(&self) {
        let (counters, open) = (&self.counters, self.admission.open() as u64);
        let has_work = self.shared.newest().is_some();
        let mining = if has_work { self.miners_mining } else { 0 };
        counters.miners_mining.set(mining);
        counters.miners_parked.set(self.miners_mining - mining);
        counters.miners_setup.set(open - self.miners_mining);
        counters.sessions_parked.set(self.resumes.parked.level().0 as u64);
    }
}
