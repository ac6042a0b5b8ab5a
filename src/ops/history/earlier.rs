//! What the pages see of the history: what earlier processes counted, added to what this one
//! counts, and whether the file is well. Locks here are held for moments and never while a disk is
//! waited for.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use farm::ledger::{LongRates, WorkerStatus, WorkerTotals};
use session::Tick;

use super::Kept;

/// How the history is.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum HistoryState {
    /// There is none: nothing asked for it.
    #[default]
    Off,
    /// It is being read; totals of earlier processes are not known yet.
    Opening,
    /// It is written.
    Writing,
    /// It cannot be written; what it lacks is in memory.
    Failing,
}

impl HistoryState {
    /// The state as the API's word.
    pub fn name(self) -> &'static str {
        match self {
            HistoryState::Off => "off",
            HistoryState::Opening => "opening",
            HistoryState::Writing => "writing",
            HistoryState::Failing => "failing",
        }
    }
}

/// The history at one moment.
#[derive(Clone, Debug, Default)]
pub struct HistoryStatus {
    /// How it is.
    pub state: HistoryState,
    /// Why it fails, in words.
    pub says: Option<String>,
    /// Bytes on disk.
    pub bytes: u64,
    /// When it was last written.
    pub written: Option<Tick>,
    /// Writes that failed.
    pub failures: u64,
    /// Since when it is known what earlier processes counted, as far as it ever will be.
    pub learned: Option<Tick>,
    /// What earlier processes counted, of all workers.
    pub totals: WorkerTotals,
}

/// What earlier processes counted, and how the file is.
#[derive(Debug, Default)]
pub struct Earlier {
    inner: Mutex<Inner>,
}

#[derive(Debug, Default)]
struct Inner {
    status: HistoryStatus,
    workers: Arc<BTreeMap<Arc<str>, Kept>>,
}

impl Earlier {
    /// Of a farm whose history is about to be opened.
    pub(crate) fn opening() -> Earlier {
        let earlier = Earlier::default();
        earlier.lock().status.state = HistoryState::Opening;
        earlier
    }

    /// How the history is.
    pub fn status(&self) -> HistoryStatus {
        self.lock().status.clone()
    }

    /// Adds what earlier processes counted to the accounts of this one. Workers that have not come
    /// back are added, without a connection. In the order of first shares these workers come before
    /// those that only this process knows.
    pub(crate) fn complete(&self, workers: &mut Vec<WorkerStatus>, now: Tick, unix: i64) {
        let earlier = self.lock().workers.clone();
        if earlier.is_empty() {
            return;
        }
        let tick_of = |at: i64| {
            let micros = u64::try_from(unix.saturating_sub(at)).ok()?.checked_mul(1_000_000)?;
            now.as_micros().checked_sub(micros).map(Tick)
        };
        let here: BTreeSet<Arc<str>> = workers.iter().map(|worker| worker.name.clone()).collect();
        let places = earlier.values().map(|kept| kept.place).max().unwrap_or(0);
        for worker in workers.iter_mut() {
            worker.place += if worker.place > 0 { places } else { 0 };
            if let Some(kept) = earlier.get(&worker.name) {
                worker.place = kept.place;
                worker.totals.add(&kept.totals);
                worker.best_difficulty = worker.best_difficulty.max(kept.best);
                worker.last_share = worker.last_share.or(kept.last_share.and_then(tick_of));
            }
        }
        let absent = earlier.values().filter(|kept| !here.contains(&kept.name));
        workers.extend(absent.map(|kept| WorkerStatus {
            name: kept.name.clone(),
            place: kept.place,
            totals: kept.totals,
            hashes_per_second: 0.0,
            long_rates: LongRates::default(),
            connections: 0,
            last_share: kept.last_share.and_then(tick_of),
            best_difficulty: kept.best,
            settled: None,
        }));
    }

    pub(crate) fn learned(&self, kept: Vec<Kept>, now: Tick) {
        let mut totals = WorkerTotals::default();
        kept.iter().for_each(|kept| totals.add(&kept.totals));
        let workers = kept.into_iter().map(|kept| (kept.name.clone(), kept)).collect();
        let mut inner = self.lock();
        (inner.status.totals, inner.status.learned) = (totals, Some(now));
        inner.status.state = HistoryState::Writing;
        inner.workers = Arc::new(workers);
    }

    /// There is a new file; what was learned from the one before stays.
    pub(crate) fn learned_nothing(&self, now: Tick) {
        let status = &mut self.lock().status;
        status.state = HistoryState::Writing;
        status.learned.get_or_insert(now);
    }

    pub(crate) fn wrote(&self, at: Tick, bytes: u64) {
        let status = &mut self.lock().status;
        (status.state, status.says) = (HistoryState::Writing, None);
        (status.written, status.bytes) = (Some(at), bytes);
    }

    pub(crate) fn failed(&self, says: String) {
        let status = &mut self.lock().status;
        (status.state, status.says) = (HistoryState::Failing, Some(says));
        status.failures += 1;
    }

    // A poisoned lock still holds whole values.
    fn lock(&self) -> MutexGuard<'_, Inner> {
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
