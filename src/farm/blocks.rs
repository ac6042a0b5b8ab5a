//! Found blocks: from a header that meets its network target to the node's last word on it.
//!
//! `BlockDesk` keeps the transactions of every job that can still be credited, assembles the whole
//! block, hands it out for submission and keeps the book on what became of it. It does not hash,
//! judge or journal: shards have tested the header, and the engine sends what `poll` gives.

use alloc::collections::{BTreeMap, BTreeSet, VecDeque};
use alloc::sync::Arc;
use alloc::vec::Vec;
use core::fmt;

use pow::{Extranonce, Hash256, Template};
use session::{JOBS_LIVE_MAX, Job, TIPS_LATE_MAX, Tick};

/// Jobs whose transactions are kept. Shards keep `JOBS_LIVE_MAX`; twice that leaves a block that
/// waited in a full lane its transactions. They are shared between templates, not copied.
pub const JOBS_KEPT_MAX: usize = 128;
/// Blocks on superseded tips that are submitted within one second; each costs the node a full
/// check under its main lock, for a small chance.
pub const LATE_BLOCKS_PER_SECOND_MAX: u32 = 8;
/// Whole blocks in memory while the node has them: 16 of 4 MB.
pub const BLOCKS_OPEN_MAX: usize = 16;
/// Blocks that wait to be assembled. Only a network target that every share meets fills this.
pub const BLOCKS_WAITING_MAX: usize = 4_096;
/// Without an answer for this long a submission counts as not answered, in µs: a node checks a
/// block within seconds, and a lost answer must not hold its place for ever.
pub const ANSWER_MICROS_MAX: u64 = 60_000_000;
/// Records that are kept for the operator.
pub const BLOCK_RECORDS_MAX: usize = 100;
/// Header hashes that are remembered against a second submission.
const HASHES_SEEN_MAX: usize = 8_192;

const _: () = assert!(JOBS_KEPT_MAX >= 2 * JOBS_LIVE_MAX);
const _: () = assert!(HASHES_SEEN_MAX > BLOCKS_WAITING_MAX + BLOCKS_OPEN_MAX);

/// A header that meets the network target of its job, as a shard found it.
#[derive(Clone, Debug)]
pub struct FoundBlock {
    /// The number of its job; the job's coinbase halves belong to it.
    pub job_number: u32,
    /// The tip of its job.
    pub tip: u32,
    /// The 80 bytes that were hashed.
    pub header: [u8; 80],
    /// What stands between the coinbase's halves: the miner's prefix and its extranonce2.
    pub extranonce: Extranonce,
    /// The header's hash.
    pub hash: Hash256,
    /// Who found it.
    pub worker: Arc<str>,
    /// When its shard saw it.
    pub found: Tick,
}

/// Why a found block is not submitted.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Declined {
    /// This header was handed in before.
    Duplicate,
    /// No such job is kept: it is older than everything that can be credited.
    JobUnknown,
    /// Its tip is more than [`TIPS_LATE_MAX`] tips old.
    TooOld,
    /// More late blocks in this second than [`LATE_BLOCKS_PER_SECOND_MAX`].
    TooManyLate,
    /// [`BLOCKS_WAITING_MAX`] others wait: the network target is no target.
    Flood,
}

/// What became of a submission.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// Not answered yet.
    Submitted,
    /// The node took it into its best chain.
    Accepted,
    /// The node had it already.
    Duplicate,
    /// Valid as far as it was looked at, but not on the best chain.
    Stale,
    /// The node's reason against it.
    Refused(Arc<str>),
    /// No answer came; the node may have it.
    Unknown,
}

/// A node's answer to one submission.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum SubmitResult {
    /// In the best chain.
    Accepted,
    /// Known already.
    Duplicate,
    /// Not on the best chain.
    Stale,
    /// Valid once its time has come: tried again.
    TimeTooNew,
    /// Refused for this reason.
    Refused(Arc<str>),
    /// No answer: a timeout, a broken link. Tried again.
    Unknown,
}

impl SubmitResult {
    /// Reads the result of `submitblock` (BIP 22): null is acceptance, else a reason.
    pub fn from_bip22(reason: Option<&str>) -> SubmitResult {
        match reason {
            None => SubmitResult::Accepted,
            Some("duplicate") => SubmitResult::Duplicate,
            Some(
                "inconclusive"
                | "inconclusive-not-best-prevblk"
                | "stale-prevblk"
                | "stale-chain-tip",
            ) => SubmitResult::Stale,
            Some("time-too-new") => SubmitResult::TimeTooNew,
            Some(reason) => SubmitResult::Refused(Arc::from(reason)),
        }
    }
}

/// When a submission without a final answer is made again.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct RetryPolicy {
    /// Attempts of a block that the node did not answer for.
    pub unknown_attempts_max: u32,
    /// The wait before the next attempt, in µs.
    pub wait_micros: u64,
    /// Attempts of a block whose time is ahead of the node's clock.
    pub time_attempts_max: u32,
}

impl Default for RetryPolicy {
    fn default() -> RetryPolicy {
        // 7,200 s is as far as a block's time may be ahead at all.
        RetryPolicy { unknown_attempts_max: 30, wait_micros: 1_000_000, time_attempts_max: 7_200 }
    }
}

impl RetryPolicy {
    fn wants_another(&self, result: &SubmitResult, attempts: u32) -> bool {
        match result {
            SubmitResult::Unknown => attempts < self.unknown_attempts_max,
            SubmitResult::TimeTooNew => attempts < self.time_attempts_max,
            SubmitResult::Accepted
            | SubmitResult::Duplicate
            | SubmitResult::Stale
            | SubmitResult::Refused(_) => false,
        }
    }
}

/// A whole block for every node.
#[derive(Clone, Debug)]
pub struct SubmitBlock {
    /// Comes back with the answer.
    pub id: u64,
    /// The serialized block, with the coinbase's witness where it has one.
    pub bytes: Arc<[u8]>,
}

/// One found block, for the operator.
#[derive(Clone, Debug, PartialEq)]
pub struct BlockRecord {
    /// The number of the submission.
    pub id: u64,
    /// The height in its coinbase.
    pub height: u32,
    /// The number of its job.
    pub job_number: u32,
    /// The header's hash.
    pub hash: Hash256,
    /// Who found it.
    pub worker: Arc<str>,
    /// When.
    pub found: Tick,
    /// Found on a tip that was superseded already.
    pub late: bool,
    /// Submissions made so far.
    pub attempts: u32,
    /// What became of it.
    pub outcome: Outcome,
}

/// How many blocks went which way since the start.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct BlockCounts {
    /// Handed in by shards.
    pub found: u64,
    /// Taken into the best chain.
    pub accepted: u64,
    /// Known to the node already.
    pub duplicate: u64,
    /// Not on the best chain.
    pub stale: u64,
    /// Refused by the node: an alarm.
    pub refused: u64,
    /// Given up without an answer.
    pub unknown: u64,
    /// Not submitted, by [`Declined`], in its order.
    pub declined: [u64; 5],
}

/// The farm's found blocks.
pub struct BlockDesk {
    jobs: BTreeMap<u32, KeptJob>,
    tip: u32,
    seen: BTreeSet<[u8; 32]>,
    seen_in_order: VecDeque<[u8; 32]>,
    waiting: VecDeque<Waiting>,
    open: BTreeMap<u64, Open>,
    records: VecDeque<BlockRecord>,
    counts: BlockCounts,
    next_id: u64,
    retry: RetryPolicy,
    late_second: u64,
    late_in_second: u32,
}

struct KeptJob {
    job: Arc<Job>,
    transactions: Arc<[Arc<[u8]>]>,
    has_witness: bool,
}

struct Waiting {
    id: u64,
    block: FoundBlock,
    /// Held here too, so that a block in the queue outlives its job on the desk.
    job: Arc<Job>,
    transactions: Arc<[Arc<[u8]>]>,
    has_witness: bool,
}

struct Open {
    bytes: Arc<[u8]>,
    attempts: u32,
    step: Step,
}

/// What happens next to a block that is open.
#[derive(Clone, Copy)]
enum Step {
    /// It is sent, for the first time or again.
    Send(Tick),
    /// The answer that is awaited is given up.
    GiveUp(Tick),
}

impl Step {
    fn due(self) -> Tick {
        match self {
            Step::Send(due) | Step::GiveUp(due) => due,
        }
    }
}

impl BlockDesk {
    /// An empty desk.
    pub fn new(retry: RetryPolicy) -> BlockDesk {
        BlockDesk {
            jobs: BTreeMap::new(),
            tip: 0,
            seen: BTreeSet::new(),
            seen_in_order: VecDeque::new(),
            waiting: VecDeque::new(),
            open: BTreeMap::new(),
            records: VecDeque::new(),
            counts: BlockCounts::default(),
            next_id: 1,
            retry,
            late_second: 0,
            late_in_second: 0,
        }
    }

    /// Keeps what a block on `job` needs. Call before any shard can see the job.
    pub fn keep(&mut self, job: Arc<Job>, template: &Template) {
        self.tip = self.tip.max(job.tip);
        let oldest_tip = self.tip.saturating_sub(TIPS_LATE_MAX);
        self.jobs.retain(|_, kept| kept.job.tip >= oldest_tip);
        let kept = KeptJob {
            transactions: template.transactions.clone(),
            has_witness: template.witness_commitment.is_some(),
            job,
        };
        self.jobs.insert(kept.job.number, kept);
        while self.jobs.len() > JOBS_KEPT_MAX {
            self.jobs.pop_first();
        }
    }

    /// Takes a found block in; it comes out of [`BlockDesk::poll`] as a whole block, at once unless
    /// [`BLOCKS_OPEN_MAX`] others are with the node.
    pub fn found(&mut self, block: FoundBlock, now: Tick) -> Result<u64, Declined> {
        self.counts.found += 1;
        let taken = self.take_in(block, now);
        if let Err(declined) = taken {
            self.counts.declined[declined as usize] += 1;
        }
        taken
    }

    fn take_in(&mut self, block: FoundBlock, now: Tick) -> Result<u64, Declined> {
        if self.seen.contains(&block.hash.0) {
            return Err(Declined::Duplicate);
        }
        let tips_old = self.tip.saturating_sub(block.tip);
        if tips_old > TIPS_LATE_MAX {
            return Err(Declined::TooOld);
        }
        let kept = self.jobs.get(&block.job_number).ok_or(Declined::JobUnknown)?;
        let (job, transactions) = (kept.job.clone(), kept.transactions.clone());
        let has_witness = kept.has_witness;
        if self.waiting.len() >= BLOCKS_WAITING_MAX {
            return Err(Declined::Flood);
        }
        let late = tips_old > 0;
        if late && !self.late_allowed(now) {
            return Err(Declined::TooManyLate);
        }
        self.remember(block.hash.0);
        let id = self.next_id;
        self.next_id += 1;
        self.record(id, &block, job.height, late);
        self.waiting.push_back(Waiting { id, block, job, transactions, has_witness });
        Ok(id)
    }

    fn late_allowed(&mut self, now: Tick) -> bool {
        let second = now.as_micros() / 1_000_000;
        if second != self.late_second {
            self.late_second = second;
            self.late_in_second = 0;
        }
        self.late_in_second += 1;
        self.late_in_second <= LATE_BLOCKS_PER_SECOND_MAX
    }

    fn remember(&mut self, hash: [u8; 32]) {
        self.seen.insert(hash);
        self.seen_in_order.push_back(hash);
        while self.seen_in_order.len() > HASHES_SEEN_MAX {
            if let Some(oldest) = self.seen_in_order.pop_front() {
                self.seen.remove(&oldest);
            }
        }
    }

    fn record(&mut self, id: u64, block: &FoundBlock, height: u32, late: bool) {
        self.records.push_back(BlockRecord {
            id,
            height,
            job_number: block.job_number,
            hash: block.hash,
            worker: block.worker.clone(),
            found: block.found,
            late,
            attempts: 0,
            outcome: Outcome::Submitted,
        });
        while self.records.len() > BLOCK_RECORDS_MAX {
            self.records.pop_front();
        }
    }

    /// The next block to send, new or again. Call until `None`.
    pub fn poll(&mut self, now: Tick) -> Option<SubmitBlock> {
        self.give_up_answers(now);
        let due = |open: &Open| matches!(open.step, Step::Send(due) if due <= now);
        let id = match self.open.iter().find(|(_, open)| due(open)) {
            Some((id, _)) => *id,
            None => self.open_next(now)?,
        };
        let open = self.open.get_mut(&id)?;
        open.step = Step::GiveUp(now.plus_micros(ANSWER_MICROS_MAX));
        open.attempts += 1;
        let (attempts, bytes) = (open.attempts, open.bytes.clone());
        if let Some(record) = self.record_mut(id) {
            record.attempts = attempts;
        }
        Some(SubmitBlock { id, bytes })
    }

    fn give_up_answers(&mut self, now: Tick) {
        let given_up = |open: &Open| matches!(open.step, Step::GiveUp(due) if due <= now);
        while let Some(id) = self.open.iter().find(|(_, open)| given_up(open)).map(|(id, _)| *id) {
            self.submitted(id, SubmitResult::Unknown, now);
        }
    }

    fn open_next(&mut self, now: Tick) -> Option<u64> {
        if self.open.len() >= BLOCKS_OPEN_MAX {
            return None;
        }
        let next = self.waiting.pop_front()?;
        let bytes = Arc::from(assemble(&next));
        self.open.insert(next.id, Open { bytes, attempts: 0, step: Step::Send(now) });
        Some(next.id)
    }

    /// When [`BlockDesk::poll`] has something to do again.
    pub fn due(&self) -> Option<Tick> {
        self.open.values().map(|open| open.step.due()).min()
    }

    /// A node's answer. One of several nodes that took the block settles it; an answer to a block
    /// that is settled changes nothing.
    pub fn submitted(&mut self, id: u64, result: SubmitResult, now: Tick) {
        let Some(open) = self.open.get_mut(&id) else { return };
        if self.retry.wants_another(&result, open.attempts) {
            open.step = Step::Send(now.plus_micros(self.retry.wait_micros));
            return;
        }
        self.open.remove(&id);
        let (outcome, count) = match result {
            SubmitResult::Accepted => (Outcome::Accepted, &mut self.counts.accepted),
            SubmitResult::Duplicate => (Outcome::Duplicate, &mut self.counts.duplicate),
            SubmitResult::Stale => (Outcome::Stale, &mut self.counts.stale),
            SubmitResult::Refused(reason) => (Outcome::Refused(reason), &mut self.counts.refused),
            SubmitResult::TimeTooNew => {
                (Outcome::Refused(Arc::from("time-too-new")), &mut self.counts.refused)
            }
            SubmitResult::Unknown => (Outcome::Unknown, &mut self.counts.unknown),
        };
        *count += 1;
        if let Some(record) = self.record_mut(id) {
            record.outcome = outcome;
        }
    }

    fn record_mut(&mut self, id: u64) -> Option<&mut BlockRecord> {
        self.records.iter_mut().rev().find(|record| record.id == id)
    }

    /// The newest [`BLOCK_RECORDS_MAX`] blocks, oldest first.
    pub fn records(&self) -> impl Iterator<Item = &BlockRecord> + '_ {
        self.records.iter()
    }

    /// How many blocks went which way.
    pub fn counts(&self) -> BlockCounts {
        self.counts
    }

    /// Blocks without a final answer.
    pub fn unsettled(&self) -> usize {
        self.waiting.len() + self.open.len()
    }

    /// Jobs whose transactions are kept.
    pub fn jobs_kept(&self) -> usize {
        self.jobs.len()
    }
}

impl fmt::Display for Declined {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Declined::Duplicate => "this header was submitted before",
            Declined::JobUnknown => "its job is older than all that can be credited",
            Declined::TooOld => "its tip is more than 6 tips old",
            Declined::TooManyLate => "too many late blocks within one second",
            Declined::Flood => "4,096 blocks wait already: every share meets the network target",
        })
    }
}

impl core::error::Error for Declined {}

/// The block as the network knows it: the halves that miners hash are stripped of the witness, the
/// submitted coinbase is not.
fn assemble(found: &Waiting) -> Vec<u8> {
    let (job, block) = (&found.job, &found.block);
    let coinbase = pow::full_coinbase(
        &job.coinbase_first,
        block.extranonce.as_slice(),
        &job.coinbase_second,
        found.has_witness,
    );
    pow::assemble_block(&block.header, &coinbase, &found.transactions)
}

#[cfg(test)]
#[path = "blocks_tests.rs"]
mod tests;
