//! What is known of each worker beside the file: what earlier processes counted, and how much of
//! this one's counting is written. From two snapshots follows what a batch must hold; a batch that
//! could not be written is made again, and larger.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::sync::Arc;

use farm::Status;
use farm::blocks::Outcome;
use farm::ledger::{OTHER, WorkerStatus, WorkerTotals};
use session::Tick;

use super::{Batch, BlockRow, EventRow, Kept, ShareRow};

/// Events that wait for a file that cannot be written; beyond it the oldest are forgotten.
const EVENTS_WAITING_MAX: usize = 65_536;

/// A moment on both clocks.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Moment {
    /// The engine's.
    pub(crate) tick: Tick,
    /// Seconds since 1970.
    pub(crate) unix: i64,
}

impl Moment {
    fn unix_of(self, tick: Tick) -> i64 {
        self.unix - (self.tick.since(tick) / 1_000_000) as i64
    }
}

/// What is known beside the file.
#[derive(Debug, Default)]
pub(crate) struct Book {
    workers: BTreeMap<Arc<str>, Entry>,
    /// What is in the file of each block of the snapshot, by the block's number.
    blocks: BTreeMap<u64, Outcome>,
    events: VecDeque<EventRow>,
}

#[derive(Debug, Default)]
struct Entry {
    /// Of earlier processes.
    earlier: WorkerTotals,
    /// Of this one, as far as it is written.
    written: WorkerTotals,
    best: f64,
    last_share: Option<i64>,
    /// The file has a row for it.
    is_known: bool,
    is_connected: bool,
}

impl Book {
    /// Takes in what a file holds of earlier processes.
    pub(crate) fn learn(&mut self, kept: &[Kept]) {
        for Kept { name, totals, best, last_share, .. } in kept {
            let entry = self.workers.entry(name.clone()).or_default();
            (entry.earlier, entry.is_known) = (*totals, true);
            (entry.best, entry.last_share) = (*best, *last_share);
        }
    }

    /// The file is a new one: it is to be told all totals again, also those of earlier processes.
    pub(crate) fn begin_anew(&mut self) {
        self.blocks.clear();
        self.workers.values_mut().for_each(|entry| entry.is_known = false);
    }

    /// Notes an event.
    pub(crate) fn event(
        &mut self,
        at: i64,
        kind: &'static str,
        worker: Option<&Arc<str>>,
        says: String,
    ) {
        if self.events.len() == EVENTS_WAITING_MAX {
            self.events.pop_front();
        }
        self.events.push_back(EventRow { at, kind, worker: worker.cloned(), says });
    }

    /// What the file lacks.
    pub(crate) fn batch(
        &mut self,
        workers: &[WorkerStatus],
        status: &Status,
        now: Moment,
    ) -> Batch {
        let shares = workers.iter().filter_map(|worker| self.share(worker, now)).collect();
        let mut batch = Batch { shares, ..Batch::default() };
        // Earlier workers that have not come back are only told to a new file.
        let told: BTreeSet<Arc<str>> =
            batch.shares.iter().filter(|row| row.is_new).map(|row| row.name.clone()).collect();
        for (name, entry) in self.workers.iter().filter(|(_, entry)| !entry.is_known) {
            if !told.contains(name) {
                batch.shares.push(entry.row(name, WorkerTotals::default()));
            }
        }
        for block in &status.blocks {
            if self.blocks.get(&block.id) != Some(&block.outcome) {
                batch.blocks.push(BlockRow::of(block, now.unix_of(block.found)));
            }
        }
        batch.events = self.events.iter().cloned().collect();
        batch
    }

    /// A worker of whom there is nothing to write is none yet: a file for ever keeps no names that
    /// only connected.
    fn share(&mut self, worker: &WorkerStatus, now: Moment) -> Option<ShareRow> {
        let is_none = worker.totals == WorkerTotals::default();
        if is_none && !self.workers.contains_key(&worker.name) {
            return None;
        }
        let entry = self.workers.entry(worker.name.clone()).or_default();
        let is_connected = worker.connections > 0;
        let turned = std::mem::replace(&mut entry.is_connected, is_connected) != is_connected;
        let last_share = worker.last_share.map(|tick| now.unix_of(tick)).or(entry.last_share);
        // A second more or less on the clock is no news.
        let grown = worker.totals.since(&entry.written);
        let is_news = grown != WorkerTotals::default() || !entry.is_known;
        if is_news {
            entry.last_share = last_share;
            entry.best = entry.best.max(worker.best_difficulty);
        }
        let row = is_news.then(|| entry.row(&worker.name, grown));
        // The others come and go with every miner that connects: that tells nobody anything.
        if turned && *worker.name != *OTHER {
            let (kind, says) = match is_connected {
                true => ("connected", "it has a connection".to_owned()),
                false => ("gone", "its last connection has ended".to_owned()),
            };
            self.event(now.unix, kind, Some(&worker.name), says);
        }
        row
    }

    /// A batch is in the file.
    pub(crate) fn written(&mut self, batch: &Batch, workers: &[WorkerStatus], status: &Status) {
        for row in &batch.shares {
            if let Some(entry) = self.workers.get_mut(&row.name) {
                entry.is_known = true;
            }
        }
        for worker in workers {
            if let Some(entry) = self.workers.get_mut(&worker.name) {
                entry.written = worker.totals;
            }
        }
        self.blocks = status.blocks.iter().map(|block| (block.id, block.outcome.clone())).collect();
        self.events.drain(..batch.events.len());
    }
}

impl Entry {
    fn row(&self, name: &Arc<str>, grown: WorkerTotals) -> ShareRow {
        let mut earlier = self.earlier;
        earlier.add(&self.written);
        let (name, best, last_share) = (name.clone(), self.best, self.last_share);
        ShareRow { name, is_new: !self.is_known, earlier, grown, best, last_share }
    }
}
