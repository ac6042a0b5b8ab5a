//! The account of every worker: what was credited and what was refused, and how fast it hashes.
//!
//! A shard counts in `ShardWorkers` and reports cumulative values; the coordinator's `Ledger` adds
//! up what has grown since the last report of the same shard and incarnation. So a report that is
//! lost, repeated or late does no harm, and the totals add up again with the next one. Not here:
//! payouts, history on disk, and the upstream's own verdicts.
//!
//! An account is never taken away, so it must cost something to get one: whoever calls
//! [`ShardWorkers::intern`] does so when a name has its first credited share. Until then a name's
//! connections and refused shares stand under [`OTHER`], and names alone fill no table.

use alloc::borrow::Cow;
use alloc::boxed::Box;
use alloc::collections::BTreeMap;
use alloc::format;
use alloc::string::String;
use alloc::sync::Arc;
use alloc::vec::Vec;

use session::{Remembered, Settled, ShareOutcome, Tick};

use crate::extranonce::ShardIndex;

/// Workers with an account, farm-wide and so also in each shard. Names come from miners: without a
/// bound one hostile miner could fill the memory. 65,536 is three times the largest farm
/// in one process, and costs about 24 MiB and 24 MiB per shard when all are in use. The tables have
/// room for all from the start: what is not used takes addresses but no memory, and a table that
/// never moves leaves no holes behind and stops nobody while it is copied.
pub const WORKERS_MAX: usize = 65_536;
/// Longer names are cut and marked with a hash of the whole, so that two of them stay two.
pub const WORKER_NAME_BYTES_MAX: usize = 96;
/// Rows of one report: no single message may hold the coordinator from a block behind it.
pub const REPORT_ROWS_MAX: usize = 1_024;
/// Of these, rows of workers without news, in turn: a lost report is made good by them although
/// its workers may have left.
const REFRESH_ROWS: usize = 64;
/// The account of all names beyond [`WORKERS_MAX`], and of those without any credited share. No
/// worker has it for a name: see [`ledger_name`].
pub const OTHER: &str = "other";
/// A hash rate is measured over all full buckets of its window and the one that is being filled.
const RATE_BUCKET_MICROS: u64 = 30_000_000;
const RATE_BUCKETS: usize = 11;
/// An hour in buckets of 5 minutes.
const HOUR_BUCKET_MICROS: u64 = 300_000_000;
const HOUR_BUCKETS: usize = 13;
/// A day in buckets of an hour. All three together cost a worker about 450 bytes.
const DAY_BUCKET_MICROS: u64 = 3_600_000_000;
const DAY_BUCKETS: usize = 25;
/// The window of the measured hash rate, in µs: 5 minutes.
pub const RATE_WINDOW_MICROS: u64 = RATE_BUCKET_MICROS * (RATE_BUCKETS as u64 - 1);
/// A worker's first moments are stretched to this: one lucky share is no hash rate.
const RATE_STRETCH_MICROS: u64 = RATE_BUCKET_MICROS;
/// Hashes that one unit of difficulty stands for: 2^32, as miners and pools count.
const HASHES_PER_DIFFICULTY: f64 = 4_294_967_296.0;

const _: () = assert!(REFRESH_ROWS < REPORT_ROWS_MAX);
const _: () = assert!(RATE_WINDOW_MICROS == 300_000_000);
const _: () = assert!(HOUR_BUCKET_MICROS * (HOUR_BUCKETS as u64 - 1) == 3_600_000_000);
const _: () = assert!(DAY_BUCKET_MICROS * (DAY_BUCKETS as u64 - 1) == 86_400_000_000);

/// Why a share was not credited.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
#[repr(u8)]
pub enum Reason {
    /// ntime below the job's minimum or too far ahead.
    BadNtime,
    /// The same share again.
    Duplicate,
    /// The hash misses the assigned target.
    LowDifficulty,
    /// A field that is not what it should be.
    Malformed,
    /// Submitted before the connection subscribed.
    NotSubscribed,
    /// The job's previous hash was superseded.
    Stale,
    /// Submitted under a name that did not authorize.
    Unauthorized,
    /// A job that this connection was never given, or that is long gone.
    UnknownJob,
    /// Version bits outside the granted mask.
    VersionOutsideMask,
}

impl Reason {
    /// All reasons; each stands at its own number.
    pub const ALL: [Reason; 9] = [
        Reason::BadNtime,
        Reason::Duplicate,
        Reason::LowDifficulty,
        Reason::Malformed,
        Reason::NotSubscribed,
        Reason::Stale,
        Reason::Unauthorized,
        Reason::UnknownJob,
        Reason::VersionOutsideMask,
    ];

    /// The reason of a refused share; `None` for an accepted one.
    pub fn of(outcome: ShareOutcome) -> Option<Reason> {
        Some(match outcome {
            ShareOutcome::Accepted => return None,
            ShareOutcome::BadNtime => Reason::BadNtime,
            ShareOutcome::Duplicate => Reason::Duplicate,
            ShareOutcome::LowDifficulty => Reason::LowDifficulty,
            ShareOutcome::Malformed => Reason::Malformed,
            ShareOutcome::NotSubscribed => Reason::NotSubscribed,
            ShareOutcome::Stale => Reason::Stale,
            ShareOutcome::Unauthorized => Reason::Unauthorized,
            ShareOutcome::UnknownJob => Reason::UnknownJob,
            ShareOutcome::VersionOutsideMask => Reason::VersionOutsideMask,
        })
    }

    /// The reason as a metric label and in the API.
    pub fn label(self) -> &'static str {
        match self {
            Reason::BadNtime => "bad_ntime",
            Reason::Duplicate => "duplicate",
            Reason::LowDifficulty => "low_difficulty",
            Reason::Malformed => "malformed",
            Reason::NotSubscribed => "not_subscribed",
            Reason::Stale => "stale",
            Reason::Unauthorized => "unauthorized",
            Reason::UnknownJob => "unknown_job",
            Reason::VersionOutsideMask => "version_outside_mask",
        }
    }
}

/// What adds up about a worker. Every field only ever grows within one incarnation of a shard.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct WorkerTotals {
    /// Credited shares.
    pub accepted: u64,
    /// Refused shares, by [`Reason`].
    pub rejected: [u64; Reason::ALL.len()],
    /// The sum of the credited difficulties.
    pub difficulty_accepted: f64,
    /// The sum of the difficulties assigned to the refused shares.
    pub difficulty_rejected: f64,
    /// Hashes that met the network target.
    pub blocks: u64,
}

impl WorkerTotals {
    /// Counts one verdict. `difficulty` is the credited one, or the one that was assigned.
    pub fn count(&mut self, outcome: ShareOutcome, difficulty: f64) {
        match Reason::of(outcome) {
            None => {
                self.accepted += 1;
                self.difficulty_accepted += difficulty;
            }
            Some(reason) => {
                self.rejected[reason as usize] += 1;
                self.difficulty_rejected += difficulty;
            }
        }
    }

    /// All refused shares.
    pub fn rejected_all(&self) -> u64 {
        self.rejected.iter().sum()
    }

    /// Adds `other` to this.
    pub fn add(&mut self, other: &WorkerTotals) {
        self.accepted += other.accepted;
        for (sum, more) in self.rejected.iter_mut().zip(other.rejected) {
            *sum += more;
        }
        self.difficulty_accepted += other.difficulty_accepted;
        self.difficulty_rejected += other.difficulty_rejected;
        self.blocks += other.blocks;
    }

    /// What has grown since `earlier`; nothing where `earlier` is ahead.
    pub fn since(&self, earlier: &WorkerTotals) -> WorkerTotals {
        let mut grown = WorkerTotals {
            accepted: self.accepted.saturating_sub(earlier.accepted),
            rejected: self.rejected,
            difficulty_accepted: (self.difficulty_accepted - earlier.difficulty_accepted).max(0.0),
            difficulty_rejected: (self.difficulty_rejected - earlier.difficulty_rejected).max(0.0),
            blocks: self.blocks.saturating_sub(earlier.blocks),
        };
        for (now, before) in grown.rejected.iter_mut().zip(earlier.rejected) {
            *now = now.saturating_sub(before);
        }
        grown
    }
}

/// A worker's name as the ledger has it, and with it the API, the history and the metrics: as the
/// miner gave it, unless that is too long or [`OTHER`]. Then it is marked with a hash of the whole.
pub fn ledger_name(name: &str) -> Cow<'_, str> {
    if name == OTHER || name.len() > WORKER_NAME_BYTES_MAX {
        Cow::Owned(marked_name(name))
    } else {
        Cow::Borrowed(name)
    }
}

/// A worker of one shard: small, dense, and never given to another name in that incarnation.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct WorkerId(pub u32);

impl WorkerId {
    /// The account of the names that have none of their own.
    pub const OTHER: WorkerId = WorkerId(0);
}

/// One worker of one shard, as it stands: cumulative since that shard's incarnation began.
#[derive(Clone, Debug, PartialEq)]
pub struct WorkerRow {
    /// The shard's own number for it.
    pub id: WorkerId,
    /// Its name, shared: no bytes are copied for a report.
    pub name: Arc<str>,
    /// Everything since the incarnation began.
    pub totals: WorkerTotals,
    /// Connections that are authorized under this name now.
    pub connections: u32,
    /// When its newest credited share came.
    pub last_share: Option<Tick>,
    /// The highest difficulty that one of its hashes had.
    pub best_difficulty: f64,
    /// Where its connections have settled.
    pub settled: Option<Settled>,
}

/// What a shard says about its workers: those with news since its last report, and some others.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Report {
    /// Which life of the shard: a restarted shard counts from zero again under the next number.
    pub incarnation: u32,
    /// Rises with each report of an incarnation.
    pub sequence: u64,
    /// At most [`REPORT_ROWS_MAX`] rows.
    pub rows: Vec<WorkerRow>,
}

/// The workers of one shard. Counting a share is an index and an addition.
pub struct ShardWorkers {
    incarnation: u32,
    sequence: u64,
    by_name: BTreeMap<Arc<str>, WorkerId>,
    rows: Vec<ShardRow>,
    /// Workers with news, each once.
    changed: Vec<WorkerId>,
    refresh_next: usize,
    /// Something was ever counted.
    is_used: bool,
    workers_max: usize,
}

struct ShardRow {
    row: WorkerRow,
    changed: bool,
}

impl ShardWorkers {
    /// An empty table for one life of a shard.
    pub fn new(incarnation: u32) -> ShardWorkers {
        ShardWorkers::with_limit(incarnation, WORKERS_MAX)
    }

    /// As [`ShardWorkers::new`], for at most `workers_max` names besides [`OTHER`].
    pub fn with_limit(incarnation: u32, workers_max: usize) -> ShardWorkers {
        let workers_max = workers_max.min(WORKERS_MAX);
        let mut workers = ShardWorkers {
            incarnation,
            sequence: 0,
            by_name: BTreeMap::new(),
            rows: Vec::with_capacity(1 + workers_max),
            // Marking a row never allocates, because there is room for every row once.
            changed: Vec::with_capacity(1 + workers_max),
            refresh_next: 0,
            is_used: false,
            workers_max,
        };
        workers.push(Arc::from(OTHER));
        workers
    }

    /// The worker of this name, made when there is room, else [`WorkerId::OTHER`]. Called with the
    /// first credited share of a name on a connection, and not with those that follow.
    pub fn intern(&mut self, name: &str) -> WorkerId {
        let name = ledger_name(name);
        if let Some(id) = self.by_name.get(&*name) {
            return *id;
        }
        // Row 0 is the account of the others and no name of a miner.
        if self.rows.len() > self.workers_max {
            return WorkerId::OTHER;
        }
        let (id, name) = (WorkerId(self.rows.len() as u32), Arc::from(name));
        self.by_name.insert(Arc::clone(&name), id);
        self.push(name);
        id
    }

    /// The worker of this name, or [`WorkerId::OTHER`] as long as it has no account here.
    pub fn known(&self, name: &str) -> WorkerId {
        self.by_name.get(&*ledger_name(name)).copied().unwrap_or(WorkerId::OTHER)
    }

    fn push(&mut self, name: Arc<str>) {
        let id = WorkerId(self.rows.len() as u32);
        let row = WorkerRow {
            id,
            name,
            totals: WorkerTotals::default(),
            connections: 0,
            last_share: None,
            best_difficulty: 0.0,
            settled: None,
        };
        self.rows.push(ShardRow { row, changed: false });
    }

    /// A worker's name, as it is reported.
    pub fn name(&self, id: WorkerId) -> &Arc<str> {
        &self.rows[id.0 as usize].row.name
    }

    /// What the ledger calls a worker of this name, with an account or without one. No bytes are
    /// copied for a name with an account.
    pub fn called(&self, name: &str) -> Arc<str> {
        let name = ledger_name(name);
        let known = self.by_name.get_key_value(&*name);
        known.map_or_else(|| Arc::from(&*name), |(known, _)| known.clone())
    }

    /// How many names have an account of their own.
    pub fn len(&self) -> usize {
        self.rows.len() - 1
    }

    /// Whether no name has an account yet.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Counts one verdict on a share. `difficulty` is what was credited, or for a refused share
    /// what was assigned; `hash_difficulty` is what the hash itself had, 0 where none was made.
    pub fn count(
        &mut self,
        id: WorkerId,
        outcome: ShareOutcome,
        difficulty: f64,
        hash_difficulty: f64,
        now: Tick,
    ) {
        let row = self.change(id);
        row.totals.count(outcome, difficulty);
        if outcome == ShareOutcome::Accepted {
            row.last_share = Some(now);
            row.best_difficulty = row.best_difficulty.max(hash_difficulty);
        }
    }

    /// Counts a hash that met the network target.
    pub fn count_block(&mut self, id: WorkerId) {
        self.change(id).totals.blocks += 1;
    }

    /// A connection under this name has settled there. The account of many names settles nowhere.
    pub fn settled(&mut self, id: WorkerId, settled: Settled) {
        if id == WorkerId::OTHER {
            return;
        }
        let row = &self.rows[id.0 as usize].row;
        let settled = settled.beside(row.settled, row.connections > 1);
        if row.settled != Some(settled) {
            self.change(id).settled = Some(settled);
        }
    }

    /// A connection authorized under this name.
    pub fn connected(&mut self, id: WorkerId) {
        self.change(id).connections += 1;
    }

    /// A connection under this name is gone.
    pub fn disconnected(&mut self, id: WorkerId) {
        let row = self.change(id);
        debug_assert!(row.connections > 0);
        row.connections = row.connections.saturating_sub(1);
    }

    /// Fills `report` with the next rows; `false`, and nothing to send, when nothing was ever
    /// counted. Reuses what `report` holds, so that a report that came back costs no allocation.
    pub fn report(&mut self, report: &mut Report) -> bool {
        report.rows.clear();
        report.rows.reserve(REPORT_ROWS_MAX.min(self.rows.len()));
        let fresh = self.changed.len().min(REPORT_ROWS_MAX - REFRESH_ROWS);
        for id in self.changed.drain(..fresh) {
            let row = &mut self.rows[id.0 as usize];
            row.changed = false;
            report.rows.push(row.row.clone());
        }
        for _ in 0..REFRESH_ROWS.min(self.rows.len()) {
            let row = &self.rows[self.refresh_next % self.rows.len()];
            self.refresh_next = (self.refresh_next + 1) % self.rows.len();
            if !row.changed && report.rows.len() < REPORT_ROWS_MAX {
                report.rows.push(row.row.clone());
            }
        }
        self.sequence += 1;
        report.incarnation = self.incarnation;
        report.sequence = self.sequence;
        self.is_used
    }

    /// A report could not be sent: its workers have news again.
    pub fn unsent(&mut self, report: &Report) {
        for row in &report.rows {
            self.change(row.id);
        }
    }

    /// Whether workers with news are left over for a further report.
    pub fn has_news(&self) -> bool {
        !self.changed.is_empty()
    }

    fn change(&mut self, id: WorkerId) -> &mut WorkerRow {
        self.is_used = true;
        let row = &mut self.rows[id.0 as usize];
        if !row.changed {
            row.changed = true;
            self.changed.push(id);
        }
        &mut row.row
    }
}

/// The farm's account on the coordinator's side.
pub struct Ledger {
    by_name: BTreeMap<Arc<str>, usize>,
    accounts: Vec<Account>,
    shards: BTreeMap<ShardIndex, ShardAccounts>,
    total: WorkerTotals,
    connections: u64,
    rates: Rates,
    workers_max: usize,
    /// Who has settled anew since somebody asked; at most one for each row of a report.
    settled: Vec<Remembered>,
}

/// What was last heard from one life of a shard, by its own worker numbers.
struct ShardAccounts {
    incarnation: u32,
    workers: Vec<Option<Heard>>,
}

#[derive(Clone, Copy)]
struct Heard {
    account: usize,
    sequence: u64,
    totals: WorkerTotals,
    connections: u32,
    settled: Option<Settled>,
}

struct Account {
    name: Arc<str>,
    totals: WorkerTotals,
    connections: u32,
    last_share: Option<Tick>,
    best_difficulty: f64,
    settled: Option<Settled>,
    rates: Rates,
}

/// Hash rates over longer windows than 5 minutes, or since the worker was first heard of.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct LongRates {
    /// Hashes per second over the last hour.
    pub hour: f64,
    /// Hashes per second over the last 24 hours.
    pub day: f64,
}

/// A worker as the operator sees it.
#[derive(Clone, Debug, PartialEq)]
pub struct WorkerStatus {
    /// The name, as [`ledger_name`] gives it; [`OTHER`] for all without an account.
    pub name: Arc<str>,
    /// Its place in the order in which workers had their first credited share, from 1 on, for the
    /// life of the process; 0 for [`OTHER`].
    pub place: u64,
    /// Everything since this process started.
    pub totals: WorkerTotals,
    /// Hashes per second, measured from credited difficulty over the last 5 minutes.
    pub hashes_per_second: f64,
    /// The same over the last hour and the last day.
    pub long_rates: LongRates,
    /// Connections that are authorized under this name now.
    pub connections: u32,
    /// When its newest credited share came.
    pub last_share: Option<Tick>,
    /// The highest difficulty that one of its hashes had.
    pub best_difficulty: f64,
    /// Where its connections have settled since this process started.
    pub settled: Option<Settled>,
}

impl Ledger {
    /// An empty ledger.
    pub fn new(now: Tick) -> Ledger {
        Ledger::with_limit(now, WORKERS_MAX)
    }

    /// As [`Ledger::new`], for at most `workers_max` names besides [`OTHER`].
    pub fn with_limit(now: Tick, workers_max: usize) -> Ledger {
        let workers_max = workers_max.min(WORKERS_MAX);
        let mut ledger = Ledger {
            by_name: BTreeMap::new(),
            accounts: Vec::with_capacity(1 + workers_max),
            shards: BTreeMap::new(),
            total: WorkerTotals::default(),
            connections: 0,
            rates: Rates::new(now),
            workers_max,
            settled: Vec::new(),
        };
        ledger.push(Arc::from(OTHER), now);
        ledger
    }

    /// Adds what has grown since this shard's last report. Rows of an earlier incarnation, rows
    /// that were heard already, and rows that no shard of ours could send change nothing.
    pub fn apply(&mut self, shard: ShardIndex, report: &Report, now: Tick) {
        let known = self.shards.get(&shard).map(|accounts| accounts.incarnation);
        if known.is_some_and(|known| report.incarnation < known) {
            return;
        }
        if known != Some(report.incarnation) {
            self.forget_connections(shard);
            let incarnation = report.incarnation;
            let workers = Vec::with_capacity(1 + self.workers_max);
            self.shards.insert(shard, ShardAccounts { incarnation, workers });
        }
        for row in &report.rows {
            self.apply_row(shard, report.sequence, row, now);
        }
    }

    fn apply_row(&mut self, shard: ShardIndex, sequence: u64, row: &WorkerRow, now: Tick) {
        let index = row.id.0 as usize;
        if index > WORKERS_MAX {
            return;
        }
        let heard = self.heard(shard, index);
        let heard = match heard {
            Some(heard) if heard.sequence >= sequence => return,
            Some(heard) => heard,
            None => Heard {
                account: self.account_of(row, now),
                sequence: 0,
                totals: WorkerTotals::default(),
                connections: 0,
                settled: None,
            },
        };
        let grown = row.totals.since(&heard.totals);
        self.total.add(&grown);
        self.rates.add(grown.difficulty_accepted, now);
        self.connections -= u64::from(heard.connections);
        self.connections += u64::from(row.connections);
        let account = &mut self.accounts[heard.account];
        if let Some(settled) = row.settled.filter(|_| row.settled != heard.settled) {
            let others = account.connections > heard.connections;
            let settled = settled.beside(account.settled, others);
            if account.settled != Some(settled) {
                account.settled = Some(settled);
                self.settled.push(Remembered { worker: account.name.clone(), settled });
            }
        }
        account.totals.add(&grown);
        account.rates.add(grown.difficulty_accepted, now);
        account.connections = account.connections - heard.connections + row.connections;
        account.last_share = account.last_share.max(row.last_share);
        account.best_difficulty = account.best_difficulty.max(row.best_difficulty);
        let (totals, connections, settled) = (row.totals, row.connections, row.settled);
        let heard = Heard { sequence, totals, connections, settled, ..heard };
        if let Some(accounts) = self.shards.get_mut(&shard) {
            accounts.workers[index] = Some(heard);
        }
    }

    fn heard(&mut self, shard: ShardIndex, index: usize) -> Option<Heard> {
        let workers = &mut self.shards.get_mut(&shard)?.workers;
        if workers.len() <= index {
            workers.resize(index + 1, None);
        }
        workers[index]
    }

    /// Who has settled anew since this was last asked.
    pub fn take_settled(&mut self) -> Vec<Remembered> {
        core::mem::take(&mut self.settled)
    }

    /// A shard is gone: its credit stays, its connections do not.
    pub fn shard_died(&mut self, shard: ShardIndex) {
        self.forget_connections(shard);
    }

    fn forget_connections(&mut self, shard: ShardIndex) {
        let Some(accounts) = self.shards.get_mut(&shard) else { return };
        for heard in accounts.workers.iter_mut().flatten() {
            self.accounts[heard.account].connections -= heard.connections;
            self.connections -= u64::from(heard.connections);
            heard.connections = 0;
        }
    }

    /// The farm's totals.
    pub fn total(&self) -> &WorkerTotals {
        &self.total
    }

    /// The farm's hash rate over the last 5 minutes, in hashes per second.
    pub fn hashes_per_second(&self, now: Tick) -> f64 {
        self.rates.minutes.hashes_per_second(now)
    }

    /// The farm's hash rates over longer windows.
    pub fn long_rates(&self, now: Tick) -> LongRates {
        self.rates.long(now)
    }

    /// Connections that are authorized under some name; one may count under several.
    pub fn connections(&self) -> u64 {
        self.connections
    }

    /// How many names have an account of their own.
    pub fn len(&self) -> usize {
        self.accounts.len() - 1
    }

    /// Whether no worker was heard of yet.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Every worker with an account, then [`OTHER`] if anything was counted there.
    pub fn workers(&self, now: Tick) -> impl Iterator<Item = WorkerStatus> + '_ {
        let accounts = self.accounts.iter().enumerate();
        let (other, named) = (accounts.clone().take(1), accounts.skip(1));
        let other = other.filter(|(_, account)| account.is_used());
        named.chain(other).map(move |(place, account)| account.status(place, now))
    }

    /// At most `most` workers from the account of number `from` on, and the number of the next one,
    /// if there is one. Accounts keep their numbers, so that the pages together are the whole.
    pub fn page(&self, from: usize, most: usize, now: Tick) -> (Vec<WorkerStatus>, Option<usize>) {
        let end = self.accounts.len().min(from.saturating_add(most));
        let accounts = self.accounts.get(from..end).unwrap_or_default();
        let used = accounts.iter().enumerate();
        // The account of the others is no worker before it is used.
        let used = used.filter(|(index, account)| from + index > 0 || account.is_used());
        let rows = used.map(|(index, account)| account.status(from + index, now)).collect();
        (rows, (end < self.accounts.len()).then_some(end))
    }

    fn account_of(&mut self, row: &WorkerRow, now: Tick) -> usize {
        if row.id == WorkerId::OTHER {
            return 0;
        }
        if let Some(account) = self.by_name.get(&row.name) {
            return *account;
        }
        if self.len() >= self.workers_max {
            return 0;
        }
        self.by_name.insert(row.name.clone(), self.accounts.len());
        self.push(row.name.clone(), now)
    }

    fn push(&mut self, name: Arc<str>, now: Tick) -> usize {
        let index = self.accounts.len();
        self.accounts.push(Account {
            name,
            totals: WorkerTotals::default(),
            connections: 0,
            last_share: None,
            best_difficulty: 0.0,
            settled: None,
            rates: Rates::new(now),
        });
        index
    }
}

impl Account {
    fn is_used(&self) -> bool {
        self.totals != WorkerTotals::default() || self.connections > 0
    }

    fn status(&self, place: usize, now: Tick) -> WorkerStatus {
        WorkerStatus {
            name: self.name.clone(),
            place: place as u64,
            totals: self.totals,
            hashes_per_second: self.rates.minutes.hashes_per_second(now),
            long_rates: self.rates.long(now),
            connections: self.connections,
            last_share: self.last_share,
            best_difficulty: self.best_difficulty,
            settled: self.settled,
        }
    }
}

/// The work of an account over 5 minutes, an hour and a day.
struct Rates {
    minutes: RateWindow<RATE_BUCKETS, RATE_BUCKET_MICROS>,
    hour: RateWindow<HOUR_BUCKETS, HOUR_BUCKET_MICROS>,
    day: RateWindow<DAY_BUCKETS, DAY_BUCKET_MICROS>,
}

impl Rates {
    fn new(now: Tick) -> Rates {
        let (minutes, hour) = (RateWindow::new(now), RateWindow::new(now));
        Rates { minutes, hour, day: RateWindow::new(now) }
    }

    fn add(&mut self, difficulty: f64, now: Tick) {
        self.minutes.add(difficulty, now);
        self.hour.add(difficulty, now);
        self.day.add(difficulty, now);
    }

    fn long(&self, now: Tick) -> LongRates {
        LongRates { hour: self.hour.hashes_per_second(now), day: self.day.hashes_per_second(now) }
    }
}

/// Credited difficulty by bucket of so many µs; the sum over the buckets is the work of the span
/// that they cover, so the estimate has no bias from a bucket that is not full yet.
struct RateWindow<const BUCKETS: usize, const MICROS: u64> {
    since: Tick,
    /// The number of the newest bucket that was written, counted from tick 0.
    newest: u64,
    buckets: [f64; BUCKETS],
}

impl<const BUCKETS: usize, const MICROS: u64> RateWindow<BUCKETS, MICROS> {
    fn new(now: Tick) -> Self {
        let newest = now.as_micros() / MICROS;
        RateWindow { since: now, newest, buckets: [0.0; BUCKETS] }
    }

    fn add(&mut self, difficulty: f64, now: Tick) {
        let bucket = now.as_micros() / MICROS;
        let passed = bucket.saturating_sub(self.newest).min(BUCKETS as u64);
        for step in 0..passed {
            self.buckets[(bucket - step) as usize % BUCKETS] = 0.0;
        }
        self.newest = self.newest.max(bucket);
        self.buckets[self.newest as usize % BUCKETS] += difficulty;
    }

    fn hashes_per_second(&self, now: Tick) -> f64 {
        let bucket = now.as_micros() / MICROS;
        let oldest = bucket.saturating_sub(BUCKETS as u64 - 1);
        let kept = self.newest.saturating_sub(BUCKETS as u64 - 1).max(oldest)..=self.newest;
        let work: f64 = kept.map(|bucket| self.buckets[bucket as usize % BUCKETS]).sum();
        let covered = now.as_micros() - oldest * MICROS;
        let micros = covered.min(now.since(self.since)).max(RATE_STRETCH_MICROS);
        work * HASHES_PER_DIFFICULTY * 1e6 / micros as f64
    }
}

/// The first bytes of a name, all if there are few, and a hash of the whole of it.
fn marked_name(name: &str) -> String {
    let mark = format!("~{:08x}", fnv1a(name.as_bytes()));
    let mut end = name.len().min(WORKER_NAME_BYTES_MAX - mark.len());
    while !name.is_char_boundary(end) {
        end -= 1;
    }
    format!("{}{mark}", &name[..end])
}

/// FNV-1a: stable over versions and restarts, which is all that a mark needs.
fn fnv1a(bytes: &[u8]) -> u32 {
    bytes.iter().fold(0x811c_9dc5, |hash, byte| (hash ^ u32::from(*byte)).wrapping_mul(0x0100_0193))
}

/// A report in a box, with room reserved: made once per shard and sent to and fro.
pub fn new_report() -> Box<Report> {
    Box::new(Report { rows: Vec::with_capacity(REPORT_ROWS_MAX), ..Report::default() })
}

#[cfg(test)]
#[path = "ledger_tests.rs"]
mod tests;
