//! Found blocks: from a header that meets its network target to every node's last word on it.
//!
//! `BlockDesk` keeps the transactions of every job that can still be credited, assembles the whole
//! block, hands it out for each node and keeps the book on what became of it. `outcome` says what
//! answers mean, `way` when a node is asked again. Nothing here hashes, judges or journals: shards
//! have tested the header, the engine sends what `poll` gives, and the node's side writes it down.

mod outcome;
mod way;

use alloc::boxed::Box;
use alloc::collections::{BTreeMap, BTreeSet, VecDeque};
use alloc::sync::Arc;
use alloc::vec;
use alloc::vec::Vec;
use core::fmt;

use pow::{Extranonce, Hash256, Template};
use session::{JOBS_LIVE_MAX, Job, TIPS_LATE_MAX, Tick};

pub use self::outcome::{Outcome, RetryPolicy, SubmitResult};
pub use self::way::ANSWER_MICROS_MAX;
use self::way::Way;

/// Jobs whose transactions are kept. Shards keep `JOBS_LIVE_MAX`; twice that leaves a block that
/// waited in a full lane its transactions. They are shared between templates, not copied.
pub const JOBS_KEPT_MAX: usize = 128;
/// Blocks on superseded tips that are submitted within one second; each costs the node a full
/// check under its main lock, for a small chance.
pub const LATE_BLOCKS_PER_SECOND_MAX: u32 = 8;
/// Nodes that blocks go to: a farm has one or two, and each costs a submission of megabytes.
pub const NODES_MAX: usize = 16;
/// Whole blocks in memory while nodes have them: 16 of 4 MB.
pub const BLOCKS_OPEN_MAX: usize = 16;
/// Those of them that are not on the newest tip: nodes that do not answer for old blocks must not
/// keep a new one waiting.
const OTHERS_OPEN_MAX: usize = 8;
/// Blocks that wait to be assembled. Only a network target that every share meets fills this.
pub const BLOCKS_WAITING_MAX: usize = 4_096;
/// Records that are kept for the operator.
pub const BLOCK_RECORDS_MAX: usize = 100;
/// Header hashes that are remembered against a second submission.
const HASHES_SEEN_MAX: usize = 8_192;

const _: () = assert!(JOBS_KEPT_MAX >= 2 * JOBS_LIVE_MAX);
const _: () = assert!(HASHES_SEEN_MAX > BLOCKS_WAITING_MAX + BLOCKS_OPEN_MAX);
const _: () = assert!(OTHERS_OPEN_MAX < BLOCKS_OPEN_MAX);

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

/// A whole block for one node.
#[derive(Clone, Debug)]
pub struct SubmitBlock {
    /// Comes back with the answer.
    pub id: u64,
    /// Which node, by its place in the configuration.
    pub node: u8,
    /// Which attempt at this node, from 1.
    pub attempt: u32,
    /// It was found on the newest tip: it goes before all others.
    pub urgent: bool,
    /// The serialized block, with the coinbase's witness where it has one.
    pub bytes: Arc<[u8]>,
    /// What the journal and the operator know it by.
    pub facts: Arc<BlockFacts>,
}

/// What a block is known by, wherever it is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct BlockFacts {
    /// The header's hash.
    pub hash: Hash256,
    /// The height in its coinbase.
    pub height: u32,
    /// Who found it.
    pub worker: Arc<str>,
}

/// A block that the journal still had when the process started.
#[derive(Clone, Debug)]
pub struct RestoredBlock {
    /// The serialized block.
    pub bytes: Arc<[u8]>,
    /// What it is known by.
    pub facts: Arc<BlockFacts>,
}

/// Where a block stands with the journal.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Journaled {
    /// There is no journal.
    Off,
    /// It is being written.
    Pending,
    /// It outlives this process.
    Written,
    /// It outlives a loss of power.
    Durable,
    /// It could not be written, and why.
    Failed(Arc<str>),
}

impl Journaled {
    /// As the API calls it.
    pub fn name(&self) -> &'static str {
        match self {
            Journaled::Off => "off",
            Journaled::Pending => "pending",
            Journaled::Written => "written",
            Journaled::Durable => "durable",
            Journaled::Failed(_) => "failed",
        }
    }
}

/// One found block, for the operator.
#[derive(Clone, Debug, PartialEq)]
pub struct BlockRecord {
    /// The number of the submission.
    pub id: u64,
    /// Height, hash, finder.
    pub facts: Arc<BlockFacts>,
    /// The number of its job; none for a block of an earlier process.
    pub job_number: Option<u32>,
    /// When a shard saw it, or when the journal gave it back.
    pub found: Tick,
    /// Found on a tip that was superseded already.
    pub late: bool,
    /// Found by an earlier process, and given back by the journal.
    pub restored: bool,
    /// When its first byte went out to any node.
    pub first_byte: Option<Tick>,
    /// Where it stands with the journal.
    pub journaled: Journaled,
    /// It went out before the journal had it, because the disk took too long.
    pub sent_first: bool,
    /// What became of it, by the best word of all nodes.
    pub outcome: Outcome,
    /// How it stands with each node.
    pub nodes: Vec<NodeRecord>,
}

/// How one block stands with one node.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct NodeRecord {
    /// Submissions made so far.
    pub attempts: u32,
    /// The newest answer.
    pub answer: Option<SubmitResult>,
    /// When it came.
    pub answered: Option<Tick>,
}

impl BlockRecord {
    /// From the share to the first byte out, in µs. None for a block of an earlier process, whose
    /// share is nobody's memory any more.
    pub fn first_byte_micros(&self) -> Option<u64> {
        let at = self.first_byte.filter(|_| !self.restored)?;
        Some(at.since(self.found))
    }
}

/// How many blocks went which way since the start.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct BlockCounts {
    /// Handed in by shards.
    pub found: u64,
    /// Given back by the journal.
    pub restored: u64,
    /// Taken into the best chain.
    pub accepted: u64,
    /// Known to a node already.
    pub duplicate: u64,
    /// Not on the best chain.
    pub stale: u64,
    /// Refused by every node that answered: an alarm.
    pub refused: u64,
    /// Not submitted, by [`Declined`], in its order.
    pub declined: [u64; Declined::ALL.len()],
    /// Safe against a loss of power.
    pub journal_durable: u64,
    /// Sent before the journal had them.
    pub journal_late: u64,
    /// Could not be journaled.
    pub journal_failed: u64,
}

/// What one node has answered since the start, by [`SubmitResult::kind`].
pub type NodeAnswers = [u64; SubmitResult::KINDS];

/// A block of which nothing more is to be done.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SettledBlock {
    /// The header's hash.
    pub hash: Hash256,
    /// It was refused: it is kept for somebody to look at.
    pub refused: bool,
}

/// The farm's found blocks.
pub struct BlockDesk {
    nodes: usize,
    jobs: BTreeMap<u32, KeptJob>,
    tip: u32,
    seen: BTreeSet<[u8; 32]>,
    seen_in_order: VecDeque<[u8; 32]>,
    waiting: VecDeque<Waiting>,
    open: BTreeMap<u64, Open>,
    settled: VecDeque<SettledBlock>,
    /// Found by this process, in no journal, and without any node's last word.
    unsaved: BTreeSet<u64>,
    records: VecDeque<BlockRecord>,
    counts: BlockCounts,
    answers: Vec<NodeAnswers>,
    first_byte_micros: Option<u64>,
    next_id: u64,
    retry: RetryPolicy,
    late_second: u64,
    late_in_second: u32,
}

#[derive(Clone)]
struct KeptJob {
    job: Arc<Job>,
    transactions: Arc<[Arc<[u8]>]>,
    has_witness: bool,
}

struct Waiting {
    id: u64,
    facts: Arc<BlockFacts>,
    /// The tip of its job; none for a block of an earlier process.
    tip: Option<u32>,
    parts: Parts,
}

/// What a whole block is made of.
enum Parts {
    /// Its job is held here too, so that a block in the queue outlives its job on the desk.
    Found { block: Box<FoundBlock>, kept: KeptJob },
    /// It is whole already.
    Whole(Arc<[u8]>),
}

struct Open {
    bytes: Arc<[u8]>,
    facts: Arc<BlockFacts>,
    tip: Option<u32>,
    ways: Vec<Way>,
    best: Outcome,
    counted: bool,
    /// When the first node gave its last word.
    spoken: Option<Tick>,
}

impl BlockDesk {
    /// An empty desk before so many nodes.
    pub fn new(nodes: usize, retry: RetryPolicy) -> BlockDesk {
        assert!((1..=NODES_MAX).contains(&nodes), "blocks go to some node, and to no crowd");
        BlockDesk {
            nodes,
            jobs: BTreeMap::new(),
            tip: 0,
            seen: BTreeSet::new(),
            seen_in_order: VecDeque::new(),
            waiting: VecDeque::new(),
            open: BTreeMap::new(),
            settled: VecDeque::new(),
            unsaved: BTreeSet::new(),
            records: VecDeque::new(),
            counts: BlockCounts::default(),
            answers: vec![NodeAnswers::default(); nodes],
            first_byte_micros: None,
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
    /// [`BLOCKS_OPEN_MAX`] others are with the nodes.
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
        let kept = self.jobs.get(&block.job_number).ok_or(Declined::JobUnknown)?.clone();
        if self.waiting.len() >= BLOCKS_WAITING_MAX {
            return Err(Declined::Flood);
        }
        let late = tips_old > 0;
        if late && !self.late_allowed(now) {
            return Err(Declined::TooManyLate);
        }
        let (hash, height, worker) = (block.hash, kept.job.height, block.worker.clone());
        let facts = Arc::new(BlockFacts { hash, height, worker });
        let mut record = self.record(facts.clone(), block.found);
        (record.job_number, record.late) = (Some(block.job_number), late);
        let tip = Some(block.tip);
        let parts = Parts::Found { block: Box::new(block), kept };
        let id = self.enqueue(record, tip, parts);
        self.unsaved.insert(id);
        Ok(id)
    }

    /// Takes in a block that the journal gave back: it goes to every node again. Nothing is
    /// refused here: the journal's size bounds them, and they come once.
    pub fn restore(&mut self, block: RestoredBlock, now: Tick) {
        if self.seen.contains(&block.facts.hash.0) {
            return;
        }
        self.counts.restored += 1;
        let mut record = self.record(block.facts, now);
        (record.restored, record.journaled) = (true, Journaled::Durable);
        self.enqueue(record, None, Parts::Whole(block.bytes));
    }

    fn enqueue(&mut self, record: BlockRecord, tip: Option<u32>, parts: Parts) -> u64 {
        let (id, facts) = (record.id, record.facts.clone());
        self.next_id += 1;
        self.remember(facts.hash.0);
        self.records.push_back(record);
        while self.records.len() > BLOCK_RECORDS_MAX {
            self.records.pop_front();
        }
        self.waiting.push_back(Waiting { id, facts, tip, parts });
        id
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

    fn record(&self, facts: Arc<BlockFacts>, found: Tick) -> BlockRecord {
        BlockRecord {
            id: self.next_id,
            facts,
            job_number: None,
            found,
            late: false,
            restored: false,
            first_byte: None,
            journaled: Journaled::Pending,
            sent_first: false,
            outcome: Outcome::Submitted,
            nodes: vec![NodeRecord::default(); self.nodes],
        }
    }

    /// The next block to send to a node, new or again. Call until `None`.
    pub fn poll(&mut self, now: Tick) -> Option<SubmitBlock> {
        self.give_up_answers(now);
        self.end_the_wait_for_others(now);
        while self.open_next(now) {}
        let tip = self.tip;
        let due = self.open.iter().flat_map(|(id, open)| {
            let wanting = open.ways.iter().enumerate().filter(|(_, way)| way.wants_sending(now));
            wanting.map(move |(node, _)| (!open.is_urgent(tip), *id, node))
        });
        let (_, id, node) = due.min()?;
        let open = self.open.get_mut(&id)?;
        let attempt = open.ways[node].send(now);
        let submit = SubmitBlock {
            id,
            node: node as u8,
            attempt,
            urgent: open.is_urgent(tip),
            bytes: open.bytes.clone(),
            facts: open.facts.clone(),
        };
        if let Some(record) = self.record_mut(id) {
            record.nodes[node].attempts = attempt;
        }
        Some(submit)
    }

    fn give_up_answers(&mut self, now: Tick) {
        let overdue = |open: &Open| open.ways.iter().position(|way| way.is_overdue(now));
        let next =
            |desk: &BlockDesk| desk.open.iter().find_map(|(id, open)| Some((*id, overdue(open)?)));
        while let Some((id, node)) = next(self) {
            let silence = SubmitResult::Unknown(Arc::from("silence for a minute"));
            self.submitted(id, node as u8, silence, None, now);
        }
    }

    /// One node has spoken long ago and another still says nothing: that was it.
    fn end_the_wait_for_others(&mut self, now: Tick) {
        let patience = self.retry.others_micros_max;
        let over = |open: &Open| open.spoken.is_some_and(|since| now.since(since) >= patience);
        while let Some(id) = self.open.iter().find(|(_, open)| over(open)).map(|(id, _)| *id) {
            self.settle(id);
        }
    }

    /// Opens one block, if there is one that may be: first the oldest on the newest tip. Others
    /// keep some places free for those.
    fn open_next(&mut self, now: Tick) -> bool {
        let on_tip = |waiting: &Waiting| waiting.tip == Some(self.tip);
        let place = match self.waiting.iter().position(on_tip) {
            Some(place) => place,
            None => {
                let others = self.open.values().filter(|open| !open.is_urgent(self.tip));
                let full = others.filter(|open| open.spoken.is_none()).count() >= OTHERS_OPEN_MAX;
                if full {
                    return false;
                }
                0
            }
        };
        if place >= self.waiting.len() || !self.make_room() {
            return false;
        }
        let Some(next) = self.waiting.remove(place) else { return false };
        let bytes = match &next.parts {
            Parts::Found { block, kept } => Arc::from(assemble(block, kept)),
            Parts::Whole(bytes) => bytes.clone(),
        };
        let open = Open {
            bytes,
            facts: next.facts,
            tip: next.tip,
            ways: vec![Way::new(now); self.nodes],
            best: Outcome::Submitted,
            counted: false,
            spoken: None,
        };
        self.open.insert(next.id, open);
        true
    }

    /// Whether one more may be open. A block that some node has spoken about gives up its place,
    /// the oldest first: what the others would say matters less than a new one.
    fn make_room(&mut self) -> bool {
        if self.open.len() < BLOCKS_OPEN_MAX {
            return true;
        }
        let spoken = self.open.iter().find(|(_, open)| open.spoken.is_some());
        let Some(id) = spoken.map(|(id, _)| *id) else { return false };
        self.settle(id);
        true
    }

    /// When [`BlockDesk::poll`] has something to do again.
    pub fn due(&self) -> Option<Tick> {
        let ways = self.open.values().flat_map(|open| open.ways.iter().filter_map(Way::due));
        let spoken = self.open.values().filter_map(|open| open.spoken);
        let ends = spoken.map(|since| since.plus_micros(self.retry.others_micros_max));
        ways.chain(ends).min()
    }

    /// A node's answer, and when the block's first byte went out to it. Each node has a last word
    /// of its own; the best of them is the block's outcome.
    pub fn submitted(
        &mut self,
        id: u64,
        node: u8,
        result: SubmitResult,
        first_byte: Option<Tick>,
        now: Tick,
    ) {
        let place = usize::from(node);
        if place >= self.nodes {
            return;
        }
        self.answers[place][result.kind()] += 1;
        let retry = self.retry;
        let word = self.open.get_mut(&id).and_then(|open| {
            let word = open.ways[place].answered(&result, &retry, now)?;
            open.spoken.get_or_insert(now);
            self.unsaved.remove(&id);
            if word.rank() > open.best.rank() {
                open.best = word;
            }
            Some(open.best.clone())
        });
        self.note_answer(id, place, result, first_byte, now);
        let Some(best) = word else { return };
        if best == Outcome::Accepted {
            self.count_outcome(id);
        }
        if let Some(record) = self.record_mut(id) {
            record.outcome = best;
        }
        if self.open.get(&id).is_some_and(|open| open.ways.iter().all(Way::is_done)) {
            self.settle(id);
        }
    }

    fn note_answer(
        &mut self,
        id: u64,
        node: usize,
        result: SubmitResult,
        first_byte: Option<Tick>,
        now: Tick,
    ) {
        let Some(record) = self.record_mut(id) else { return };
        record.nodes[node].answer = Some(result);
        record.nodes[node].answered = Some(now);
        if record.first_byte.is_none() && first_byte.is_some() {
            record.first_byte = first_byte;
            let micros = record.first_byte_micros();
            self.first_byte_micros = micros.or(self.first_byte_micros);
        }
    }

    /// A block's outcome is counted once: when it cannot become better, or when it is over.
    fn count_outcome(&mut self, id: u64) {
        let Some(open) = self.open.get_mut(&id).filter(|open| !open.counted) else { return };
        open.counted = true;
        let count = match open.best {
            Outcome::Accepted => &mut self.counts.accepted,
            Outcome::Duplicate => &mut self.counts.duplicate,
            Outcome::Stale => &mut self.counts.stale,
            Outcome::Refused(_) => &mut self.counts.refused,
            Outcome::Submitted => unreachable!("some node has spoken"),
        };
        *count += 1;
    }

    fn settle(&mut self, id: u64) {
        self.count_outcome(id);
        if let Some(open) = self.open.remove(&id) {
            let refused = matches!(open.best, Outcome::Refused(_));
            self.settled.push_back(SettledBlock { hash: open.facts.hash, refused });
        }
    }

    /// The next block of which nothing more is to be done: its journal record is over.
    pub fn next_settled(&mut self) -> Option<SettledBlock> {
        self.settled.pop_front()
    }

    /// What the journal says of a block.
    pub fn journaled(&mut self, id: u64, journaled: Journaled) {
        match journaled {
            Journaled::Durable => self.counts.journal_durable += 1,
            Journaled::Failed(_) => self.counts.journal_failed += 1,
            Journaled::Off | Journaled::Pending | Journaled::Written => {}
        }
        if matches!(journaled, Journaled::Written | Journaled::Durable) {
            self.unsaved.remove(&id);
        }
        if let Some(record) = self.record_mut(id) {
            record.journaled = journaled;
        }
    }

    /// A block went out before the journal had it.
    pub fn sent_first(&mut self, id: u64) {
        self.counts.journal_late += 1;
        if let Some(record) = self.record_mut(id) {
            record.sent_first = true;
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

    /// What each node has answered.
    pub fn answers(&self) -> &[NodeAnswers] {
        &self.answers
    }

    /// From the share to the first byte out, of the newest block that went out, in µs.
    pub fn first_byte_micros(&self) -> Option<u64> {
        self.first_byte_micros
    }

    /// Blocks of which no node has said its last word.
    pub fn unsettled(&self) -> usize {
        self.waiting.len() + self.open.values().filter(|open| open.spoken.is_none()).count()
    }

    /// Blocks that would be lost if the process ended now: no journal has them, and no node has
    /// said its last word.
    pub fn unsaved(&self) -> usize {
        self.unsaved.len()
    }

    /// The jobs that shards keep too: the newest [`JOBS_LIVE_MAX`], oldest first.
    pub fn jobs_live(&self) -> impl Iterator<Item = &Arc<Job>> + '_ {
        let skipped = self.jobs.len().saturating_sub(JOBS_LIVE_MAX);
        self.jobs.values().skip(skipped).map(|kept| &kept.job)
    }

    /// Jobs whose transactions are kept.
    pub fn jobs_kept(&self) -> usize {
        self.jobs.len()
    }
}

impl Open {
    fn is_urgent(&self, tip: u32) -> bool {
        self.tip == Some(tip)
    }
}

impl Declined {
    /// All reasons, in their order.
    pub const ALL: [Declined; 5] = [
        Declined::Duplicate,
        Declined::JobUnknown,
        Declined::TooOld,
        Declined::TooManyLate,
        Declined::Flood,
    ];

    /// As metrics call it.
    pub fn name(self) -> &'static str {
        match self {
            Declined::Duplicate => "duplicate",
            Declined::JobUnknown => "job_unknown",
            Declined::TooOld => "too_old",
            Declined::TooManyLate => "too_many_late",
            Declined::Flood => "flood",
        }
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
fn assemble(block: &FoundBlock, kept: &KeptJob) -> Vec<u8> {
    let job = &kept.job;
    let coinbase = pow::full_coinbase(
        &job.coinbase_first,
        block.extranonce.as_slice(),
        &job.coinbase_second,
        kept.has_witness,
    );
    pow::assemble_block(&block.header, &coinbase, &kept.transactions)
}

#[cfg(test)]
#[path = "blocks_tests.rs"]
mod tests;
