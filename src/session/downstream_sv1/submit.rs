//! A share's way through the machine: the checks that need no hash, the question to the shard, and
//! the judgement when the hash is there.
//!
//! The order is fixed, the first that fails answers: subscribed (25) → authorized (24) → job known
//! (21) → lengths and hex (20) → version mask (20) → time (20) → duplicate (22) → hash → network
//! target: a block, whatever follows → superseded tip (21) → share target (23) → recorded and
//! credited. Duplicates are looked for twice, because two alike can be in one batch.

use super::announcements::Epoch;
use super::answers::Answer;
use super::{DownstreamSv1, Notice, Subscription};
use crate::contract::{
    Close, FoundShare, LimitReached, ShareEvent, ShareOutcome, ShareToCheck, Tick, Ticket, Verdict,
};
use crate::fingerprints::{BLOCK, Fingerprint, FingerprintTable};
use crate::job::{Job, JobIndex, RenderId};
use crate::shared::{Found, Shared};
use alloc::boxed::Box;
use alloc::collections::VecDeque;
use pow::{Difficulty, Extranonce, Hash256, Share, Target};
use wire::hex;
use wire::sv1::{ErrorCode, Id, Reason, Submit};

impl DownstreamSv1 {
    pub(super) fn submit(&mut self, shared: &Shared, id: Id<'_>, submit: &Submit<'_>) {
        if self.answers.is_full() {
            return self.close_now(Close::Limit(LimitReached::RepliesQueued));
        }
        match self.examine(shared, submit) {
            Ok(check) => {
                let is_rolled = check.share.version != shared.job(check.index).version;
                if self.rolling.is_lost_with(is_rolled) {
                    self.notices.push_back(Notice::RollingLost);
                }
                self.answers.push_submit(id, Answer::ExpectVerdict);
                self.checks.open(check);
            }
            Err(rejected) => {
                let answer = Answer::Error(code(rejected.outcome), rejected.text);
                self.reject(id, rejected, answer);
            }
        }
    }

    /// A submit whose fields have the wrong types or are missing.
    pub(super) fn bad_submit(&mut self, id: Id<'_>, reason: Reason) {
        if self.answers.is_full() {
            return self.close_now(Close::Limit(LimitReached::RepliesQueued));
        }
        if self.subscription == Subscription::None {
            let rejected = Rejected::new(ShareOutcome::NotSubscribed);
            return self.reject(id, rejected, Answer::Error(code(rejected.outcome), rejected.text));
        }
        self.reject(id, Rejected::new(ShareOutcome::Malformed), Answer::Invalid(reason));
    }

    fn reject(&mut self, id: Id<'_>, rejected: Rejected, answer: Answer) {
        self.answers.push_submit(id, answer);
        self.notice_share(rejected.worker, rejected.outcome, rejected.difficulty, 0.0);
        if rejected.outcome == ShareOutcome::NotSubscribed {
            self.close_after_answers(Close::NotSubscribed);
        }
    }

    /// Every check that comes before the hash.
    fn examine(&self, shared: &Shared, submit: &Submit<'_>) -> Result<Check, Rejected> {
        if self.subscription == Subscription::None {
            return Err(Rejected::new(ShareOutcome::NotSubscribed));
        }
        let Some(worker) = self.worker(&submit.worker) else {
            return Err(Rejected::new(ShareOutcome::Unauthorized));
        };
        let by_worker = |rejected: Rejected| Rejected { worker: Some(worker), ..rejected };
        let (id, epoch, index) = self
            .find_job(shared, &submit.job_id)
            .ok_or(by_worker(Rejected::new(ShareOutcome::UnknownJob)))?;
        let difficulty = epoch.difficulty.get();
        let of_job = |rejected| Rejected { difficulty, ..by_worker(rejected) };
        let job = shared.job(index);
        let share = self.read_share(shared, submit, job, epoch).map_err(of_job)?;
        if !(job.min_ntime..=job.ntime_max(self.now)).contains(&share.ntime) {
            return Err(of_job(Rejected::new(ShareOutcome::BadNtime)));
        }
        let fingerprint = Fingerprint::of(self.key, job.content, &share);
        if self.is_known(fingerprint) {
            return Err(of_job(Rejected::new(ShareOutcome::Duplicate)));
        }
        let (number, target, difficulty) = (id.number, epoch.target, epoch.difficulty);
        let verdict = None;
        let is_newest = self.announcements.is_newest(id);
        let check = Check {
            share,
            index,
            number,
            worker,
            is_newest,
            fingerprint,
            target,
            difficulty,
            verdict,
        };
        Ok(check)
    }

    /// The live job behind an id that this connection was given.
    fn find_job(&self, shared: &Shared, id: &str) -> Option<(RenderId, &Epoch, JobIndex)> {
        let id = RenderId::parse(id)?;
        let epoch = self.announcements.epoch_of(id)?;
        match shared.find(id.number) {
            Found::Current(index) | Found::Superseded(index) => Some((id, epoch, index)),
            Found::Unknown => None,
        }
    }

    fn read_share(
        &self,
        shared: &Shared,
        submit: &Submit<'_>,
        job: &Job,
        epoch: &Epoch,
    ) -> Result<Share, Rejected> {
        let malformed = |text| Rejected { text, ..Rejected::new(ShareOutcome::Malformed) };
        let mut extranonce2 = [0; EXTRANONCE2_SIZE_MAX];
        let size = usize::from(shared.settings().extranonce2_size);
        match hex::decode_into(&submit.extranonce2, &mut extranonce2) {
            Ok(bytes) if bytes == size => {}
            _ => return Err(malformed("invalid extranonce2")),
        }
        // A time has eight digits since 2004: fewer is no lost zero but a lost digit.
        let ntime = Some(&submit.ntime).filter(|text| text.len() == 8);
        let ntime = ntime.and_then(|text| hex::u32_left_padded(text));
        let ntime = ntime.ok_or(malformed("invalid ntime"))?;
        let nonce = hex::u32_left_padded(&submit.nonce).ok_or(malformed("invalid nonce"))?;
        // Without negotiation the sixth field means nothing, whatever stands there.
        let version_bits = match (epoch.mask, submit.version_bits.as_deref()) {
            (Some(_), Some(text)) => {
                hex::u32_left_padded(text).ok_or(malformed("invalid version bits"))?
            }
            _ => 0,
        };
        if version_bits & !(epoch.mask.unwrap_or(0) & job.version_mask) != 0 {
            return Err(Rejected::new(ShareOutcome::VersionOutsideMask));
        }
        let prefix = self.extranonce1().expect("a job is only given with a prefix");
        let extranonce = Extranonce::joined(prefix.as_bytes(), &extranonce2[..size])
            .expect("4 and 16 bytes fit");
        // Here it costs one connection; in the batch, all that are hashed with it.
        assert_eq!(extranonce.len(), job.work.extranonce_size(), "one extranonce size farm-wide");
        // In-mask bits of the job's version are clear, so OR, XOR and replacing mean the same.
        Ok(Share { extranonce, version: job.version | version_bits, ntime, nonce })
    }

    fn is_known(&self, fingerprint: Fingerprint) -> bool {
        self.fingerprints.contains(fingerprint)
            || self.late_blocks.as_ref().is_some_and(|late| late.table.contains(fingerprint))
    }

    /// Verdicts may come in any order; they are judged in the order of the submits, so that of two
    /// shares alike always the first counts.
    pub(super) fn settle(&mut self, shared: &Shared, verdicts: &[(Ticket, Verdict)]) {
        for (ticket, verdict) in verdicts {
            self.checks.keep(*ticket, verdict.hash);
        }
        while let Some((check, hash)) = self.checks.next_hashed() {
            let outcome = self.judge(shared, &check, hash);
            let hash_difficulty = Difficulty::of_hash(&hash).get();
            let difficulty = check.difficulty.get();
            self.notice_share(Some(check.worker), outcome, difficulty, hash_difficulty);
            self.answers.settle_oldest(match outcome {
                ShareOutcome::Accepted => Answer::True,
                rejected => Answer::Error(code(rejected), text(rejected)),
            });
        }
    }

    fn judge(&mut self, shared: &Shared, check: &Check, hash: Hash256) -> ShareOutcome {
        let (index, superseded) = match shared.find(check.number) {
            Found::Current(index) => (index, false),
            Found::Superseded(index) => (index, true),
            Found::Unknown => return ShareOutcome::UnknownJob,
        };
        if self.is_known(check.fingerprint) {
            return ShareOutcome::Duplicate;
        }
        let is_block = shared.job(index).network_target.is_met_by(&hash);
        if superseded {
            if is_block && self.admit_late_block(check.fingerprint) {
                self.notice_block(check, hash);
            }
            return ShareOutcome::Stale;
        }
        if is_block {
            self.notice_block(check, hash);
        }
        let accepted = check.target.is_met_by(&hash);
        if accepted || is_block {
            self.record(shared, check.fingerprint);
        }
        if accepted && check.is_newest {
            self.weigh_share(shared);
        }
        if accepted { ShareOutcome::Accepted } else { ShareOutcome::LowDifficulty }
    }

    /// Remembers a share. A full table first gives up the previous tip, then raises the miner's
    /// difficulty with every block of fingerprints more, and in the end the connection goes: a
    /// miner that heeds the difficulty never gets there.
    fn record(&mut self, shared: &Shared, fingerprint: Fingerprint) {
        let full = shared.settings().fingerprints_max;
        if self.fingerprints.len() >= full {
            self.fingerprints.forget_previous();
        }
        self.fingerprints.insert(fingerprint);
        let Some(over) = self.fingerprints.len().checked_sub(full) else { return };
        if over >= full.div_ceil(4).max(BLOCK) {
            self.close_after_answers(Close::Limit(LimitReached::Fingerprints));
        } else if over % BLOCK == 0 {
            let (wanted, settings) = (self.announcements.wanted(), shared.settings());
            if wanted < settings.maximum_difficulty {
                let raised = Difficulty::new(wanted.get() * RAISE);
                let raised = raised.unwrap_or(settings.maximum_difficulty);
                self.impose(shared, raised);
            }
        }
    }

    fn admit_late_block(&mut self, fingerprint: Fingerprint) -> bool {
        let late = self.late_blocks.get_or_insert_with(|| Box::new(LateBlocks::default()));
        late.admit(self.now, fingerprint)
    }

    fn notice_block(&mut self, check: &Check, hash: Hash256) {
        let Check { share, index: job, number, worker, .. } = *check;
        self.blocks.push_back(FoundShare { job, number, share, hash, worker });
    }

    fn notice_share(
        &mut self,
        worker: Option<u8>,
        outcome: ShareOutcome,
        difficulty: f64,
        hash_difficulty: f64,
    ) {
        let event = ShareEvent { worker, outcome, difficulty, hash_difficulty };
        self.notices.push_back(Notice::Share(event));
    }
}

/// A submit that needs no hash to be refused.
#[derive(Debug, Clone, Copy)]
struct Rejected {
    outcome: ShareOutcome,
    text: &'static str,
    worker: Option<u8>,
    difficulty: f64,
}

impl Rejected {
    fn new(outcome: ShareOutcome) -> Rejected {
        Rejected { outcome, text: text(outcome), worker: None, difficulty: 0.0 }
    }
}

/// The error code of an outcome.
fn code(outcome: ShareOutcome) -> ErrorCode {
    match outcome {
        ShareOutcome::NotSubscribed => ErrorCode::NotSubscribed,
        ShareOutcome::Unauthorized => ErrorCode::Unauthorized,
        ShareOutcome::UnknownJob | ShareOutcome::Stale => ErrorCode::Stale,
        ShareOutcome::Duplicate => ErrorCode::Duplicate,
        ShareOutcome::LowDifficulty => ErrorCode::LowDifficulty,
        ShareOutcome::Malformed
        | ShareOutcome::VersionOutsideMask
        | ShareOutcome::BadNtime
        | ShareOutcome::Accepted => ErrorCode::Other,
    }
}

/// The text beside the code.
fn text(outcome: ShareOutcome) -> &'static str {
    match outcome {
        ShareOutcome::Accepted => "accepted",
        ShareOutcome::NotSubscribed => "not subscribed",
        ShareOutcome::Unauthorized => "unauthorized worker",
        ShareOutcome::UnknownJob => "job not found",
        ShareOutcome::Malformed => "malformed submit",
        ShareOutcome::VersionOutsideMask => "invalid version mask",
        ShareOutcome::BadNtime => "ntime out of range",
        ShareOutcome::Duplicate => "duplicate share",
        ShareOutcome::Stale => "stale share",
        ShareOutcome::LowDifficulty => "low difficulty share",
    }
}

/// A share on its way to be hashed and back.
#[derive(Debug, Clone, Copy)]
pub(super) struct Check {
    share: Share,
    index: JobIndex,
    number: u32,
    worker: u8,
    /// Whether it was found at the difficulty that was announced last.
    is_newest: bool,
    fingerprint: Fingerprint,
    target: Target,
    difficulty: Difficulty,
    verdict: Option<Hash256>,
}

/// Shares that are being hashed, in the order of their submits.
#[derive(Debug, Default)]
pub(super) struct Checks {
    /// ≤ `REPLIES_QUEUED_MAX`, because each has its answer in the queue of answers.
    queue: VecDeque<Check>,
    /// Entries at the front that the host was asked for; ≤ `queue.len()`.
    asked: usize,
    /// The ticket of the first entry.
    first: u32,
}

impl Checks {
    fn open(&mut self, check: Check) {
        self.queue.push_back(check);
    }

    pub(super) fn is_empty(&self) -> bool {
        self.queue.is_empty()
    }

    pub(super) fn all(&self) -> impl Iterator<Item = (ShareToCheck, u8)> + '_ {
        let to_check = |check: &Check| ShareToCheck { job: check.index, share: check.share };
        self.queue.iter().map(move |check| (to_check(check), check.worker))
    }

    pub(super) fn ask_next(&mut self) -> Option<(Ticket, ShareToCheck)> {
        let check = self.queue.get(self.asked)?;
        let ticket = Ticket(self.first.wrapping_add(self.asked as u32));
        self.asked += 1;
        Some((ticket, ShareToCheck { job: check.index, share: check.share }))
    }

    fn keep(&mut self, ticket: Ticket, hash: Hash256) {
        let place = ticket.0.wrapping_sub(self.first) as usize;
        if place < self.asked {
            self.queue[place].verdict = Some(hash);
        }
    }

    fn next_hashed(&mut self) -> Option<(Check, Hash256)> {
        let hash = self.queue.front()?.verdict?;
        self.first = self.first.wrapping_add(1);
        self.asked -= 1;
        Some((self.queue.pop_front()?, hash))
    }

    /// Gives back what a burst took.
    pub(super) fn release(&mut self) {
        if self.queue.is_empty() && self.queue.capacity() > CHECKS_KEPT_MAX {
            self.queue = VecDeque::new();
        }
    }

    pub(super) fn memory_bytes(&self) -> usize {
        self.queue.capacity() * size_of::<Check>()
    }
}

/// Blocks found on superseded tips: each header once, few per second.
#[derive(Debug, Default)]
pub(super) struct LateBlocks {
    table: FingerprintTable,
    window: Tick,
    in_window: u32,
}

impl LateBlocks {
    /// Whether this one is to be sent to the node.
    fn admit(&mut self, now: Tick, fingerprint: Fingerprint) -> bool {
        if now.since(self.window) >= LATE_WINDOW_US {
            self.window = now;
            self.in_window = 0;
        }
        if self.in_window == LATE_BLOCKS_PER_WINDOW_MAX {
            return false;
        }
        self.in_window += 1;
        if self.table.len() >= LATE_BLOCKS_MAX {
            self.table = FingerprintTable::default();
        }
        self.table.insert(fingerprint);
        true
    }

    pub(super) fn memory_bytes(&self) -> usize {
        size_of::<LateBlocks>() + self.table.memory_bytes()
    }
}

/// The settings allow no more.
const EXTRANONCE2_SIZE_MAX: usize = 16;

/// What a full table raises a miner's difficulty by, as a step of the ramp does.
const RAISE: f64 = 4.0;

/// As `answers`: room for one receive buffer of submits.
const CHECKS_KEPT_MAX: usize = 32;

/// Late blocks per window and connection. Outside of test networks one in a year is many; here it
/// keeps one miner from flooding the node with blocks that cannot win.
const LATE_BLOCKS_PER_WINDOW_MAX: u32 = 8;
const LATE_WINDOW_US: u64 = 1_000_000;

/// Late blocks remembered, so that none is sent twice.
const LATE_BLOCKS_MAX: usize = 512;
