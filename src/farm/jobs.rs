//! From a template to the bytes that miners get: jobs, their renderings, and the way of a job from
//! the coordinator to a shard.
//!
//! `JobMaker` lives with the coordinator, `Outbox` stands there in front of each shard's lane, and
//! `Renderings` lives in each shard. Which miner gets which rendering when is `session`'s to say.

use alloc::collections::VecDeque;
use alloc::rc::Rc;
use alloc::string::ToString;
use alloc::sync::Arc;
use alloc::vec::Vec;
use core::fmt;

use pow::{
    Coinbase, CoinbaseError, CoinbaseParts, Hash256, Kernel, Target, Template, Work, WorkError,
    WorkParts,
};
use session::{Job, RenderId, Tick};
use wire::sv1::{Notify, write};

use crate::messages::ToShard;

/// Renderings that a shard keeps: two a second for as long as the slowest reader may take.
pub const RENDERINGS_MAX: usize = 64;
/// Messages besides jobs that wait for room in a shard's lane. The coordinator answers one lease
/// and sends one report back at a time, so this is room for operators' questions.
pub const OUTBOX_MESSAGES_MAX: usize = 32;

/// What all jobs of the farm have in common.
#[derive(Clone, Debug)]
pub struct JobSettings {
    /// scriptPubKey that gets the whole value.
    pub payout_script: Vec<u8>,
    /// Bytes after the extranonce that say who made the block.
    pub signature: Vec<u8>,
    /// Fixed bytes before the miner's own: the upstream's prefix, padding, a group id. Empty for
    /// the one group of a solo farm.
    pub group_prefix: Vec<u8>,
    /// Bytes of the miner's fixed extranonce1.
    pub extranonce1_size: u8,
    /// Bytes of the extranonce2 that it rolls.
    pub extranonce2_size: u8,
    /// Version bits that miners may set.
    pub version_mask: u32,
    /// The first job's number, above all that an earlier life of the farm gave out; at least 1.
    pub first_number: u32,
}

/// A template of which no job can be made.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum JobError {
    /// The source's fault: compact bits that are no target.
    Bits(u32),
    /// The source's fault: the earliest allowed time is after the template's own.
    Time {
        /// The template's time, seconds since 1970.
        curtime: u32,
        /// The earliest that the network takes, seconds since 1970.
        min_ntime: u32,
    },
    /// The operator's or the source's fault: the coinbase would not be valid.
    Coinbase(CoinbaseError),
    /// The source's or the configuration's fault: a merkle path or extranonce of impossible size.
    Work(WorkError),
    /// 2^32 jobs were made.
    NumbersUsedUp,
}

impl fmt::Display for JobError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            JobError::Bits(bits) => write!(f, "the template's bits {bits:08x} are no target"),
            JobError::Time { curtime, min_ntime } => {
                write!(f, "the template's time {curtime} is before its earliest, {min_ntime}")
            }
            JobError::Coinbase(error) => write!(f, "no valid coinbase: {error}"),
            JobError::Work(error) => write!(f, "no work: {error}"),
            JobError::NumbersUsedUp => f.write_str("all job numbers are used up"),
        }
    }
}

impl core::error::Error for JobError {}

/// Makes jobs of templates, with numbers and tips that rise.
pub struct JobMaker {
    settings: JobSettings,
    kernel: Kernel,
    next_number: u32,
    tip: Option<Tip>,
    tips: u32,
}

struct Tip {
    prev_hash: Hash256,
    /// One value per tip: a pool treats jobs with another as stale.
    min_ntime: u32,
    /// The newest job on this tip has no transactions although the source may have some.
    coinbase_only: bool,
}

impl JobMaker {
    /// No job yet.
    pub fn new(settings: JobSettings, kernel: Kernel) -> JobMaker {
        let next_number = settings.first_number.max(1);
        JobMaker { settings, kernel, next_number, tip: None, tips: 0 }
    }

    /// The next job. After an error nothing has changed, and the next template may do.
    pub fn make(&mut self, template: &Template, now: Tick) -> Result<Job, JobError> {
        let (number, mask) = (self.next_number, self.settings.version_mask);
        let next_number = number.checked_add(1).ok_or(JobError::NumbersUsedUp)?;
        let network_target =
            Target::from_compact(template.bits).ok_or(JobError::Bits(template.bits))?;
        let same_tip = self.tip.as_ref().filter(|tip| tip.prev_hash == template.prev_hash);
        let tip = if same_tip.is_some() { self.tips } else { self.tips + 1 };
        let coinbase = self.coinbase(template, tip)?;
        let work = self.work(template, &coinbase)?;
        let coinbase_only = template.transactions.is_empty();
        let replaces_coinbase_only =
            same_tip.is_some_and(|tip| tip.coinbase_only) && !coinbase_only;
        // A source that raises it on one tip knows better than we do; lowering it gains nothing.
        let min_ntime =
            same_tip.map_or(template.min_ntime, |tip| tip.min_ntime.max(template.min_ntime));
        if min_ntime > template.curtime {
            return Err(JobError::Time { curtime: template.curtime, min_ntime });
        }
        let version = template.version & !mask;
        let content = self.content(version, &coinbase, &work);
        self.next_number = next_number;
        self.tips = tip;
        self.tip = Some(Tip { prev_hash: template.prev_hash, min_ntime, coinbase_only });
        Ok(Job {
            number,
            tip,
            height: template.height,
            received: now,
            curtime: template.curtime,
            min_ntime,
            version,
            version_mask: mask,
            network_target,
            content,
            work,
            coinbase_first: coinbase.first,
            coinbase_second: coinbase.second,
            replaces_coinbase_only,
        })
    }

    /// The tip's number stands in the coinbase, so that a template that comes again after a
    /// reorganisation and back makes other headers: no share can be credited on both.
    fn coinbase(&self, template: &Template, tip: u32) -> Result<Coinbase, JobError> {
        let [.., high, low] = tip.to_be_bytes();
        let prefix = [&[high, low], self.settings.group_prefix.as_slice()].concat();
        let parts = CoinbaseParts {
            template,
            prefix: &prefix,
            extranonce_size: self.extranonce_size(),
            payout_script: &self.settings.payout_script,
            signature: &self.settings.signature,
        };
        Coinbase::new(&parts).map_err(JobError::Coinbase)
    }

    fn work(&self, template: &Template, coinbase: &Coinbase) -> Result<Work, JobError> {
        let parts = WorkParts {
            coinbase_first: &coinbase.first,
            coinbase_second: &coinbase.second,
            extranonce_size: self.extranonce_size(),
            merkle_path: &template.merkle_path,
            prev_hash: template.prev_hash,
            bits: template.bits,
        };
        Work::new(parts).map_err(JobError::Work)
    }

    /// Bytes of extranonce1 and extranonce2 together.
    pub fn extranonce_size(&self) -> usize {
        usize::from(self.settings.extranonce1_size) + usize::from(self.settings.extranonce2_size)
    }

    /// A number that two jobs share only when every share of one is a share of the other: an
    /// equal template that comes again (a reorganisation and back) must not pay twice.
    fn content(&self, version: u32, coinbase: &Coinbase, work: &Work) -> u64 {
        let mut bytes = Vec::with_capacity(1_024);
        bytes.extend_from_slice(&version.to_le_bytes());
        bytes.extend_from_slice(&work.prev_hash().0);
        bytes.extend_from_slice(&work.bits().to_le_bytes());
        bytes.extend_from_slice(&(coinbase.first.len() as u64).to_le_bytes());
        bytes.extend_from_slice(&coinbase.first);
        bytes.extend_from_slice(&(coinbase.second.len() as u64).to_le_bytes());
        bytes.extend_from_slice(&coinbase.second);
        work.path().iter().for_each(|node| bytes.extend_from_slice(&node.0));
        let digest = self.kernel.sha256d(&bytes).0;
        digest.iter().take(8).fold(0, |seed, byte| (seed << 8) | u64::from(*byte))
    }
}

/// What a rendering's bytes are known by. By number, not by place: places are used again.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct RenderingKey {
    number: u32,
    second: u32,
    clean: bool,
}

/// A shard's `mining.notify` lines: made on demand, at most one per job, second and clean value,
/// shared by all connections that need it.
pub struct Renderings {
    /// Newest last. The one in demand is nearly always the newest or the one before.
    kept: VecDeque<(RenderingKey, Rc<[u8]>)>,
    line: Vec<u8>,
    made: u64,
}

impl Default for Renderings {
    fn default() -> Renderings {
        Renderings::new()
    }
}

impl Renderings {
    /// Nothing rendered yet.
    pub fn new() -> Renderings {
        let kept = VecDeque::with_capacity(RENDERINGS_MAX);
        Renderings { kept, line: Vec::new(), made: 0 }
    }

    /// The line of `job` for its own second `second`: its id is the hex digits of both, and its
    /// ntime is `second`.
    pub fn get(&mut self, job: &Job, second: u32, clean: bool) -> Rc<[u8]> {
        let key = RenderingKey { number: job.number, second, clean };
        if let Some((_, line)) = self.kept.iter().rev().find(|(kept, _)| *kept == key) {
            return line.clone();
        }
        if self.kept.len() == RENDERINGS_MAX {
            self.kept.pop_front();
        }
        let line = self.render(job, key);
        self.kept.push_back((key, line.clone()));
        self.made += 1;
        line
    }

    fn render(&mut self, job: &Job, key: RenderingKey) -> Rc<[u8]> {
        self.line.clear();
        let id = RenderId { number: key.number, second: key.second }.to_string();
        write::notify(
            &mut self.line,
            &Notify {
                job_id: &id,
                prev_hash: &job.work.prev_hash(),
                coinbase_first: &job.coinbase_first,
                coinbase_second: &job.coinbase_second,
                merkle_path: job.work.path(),
                version: job.version,
                bits: job.work.bits(),
                ntime: key.second,
                clean: key.clean,
            },
        );
        Rc::from(self.line.as_slice())
    }

    /// How many lines were rendered so far.
    pub fn made(&self) -> u64 {
        self.made
    }
}

/// What waits for room in one shard's lane. Only the newest job is worth sending, and one on a new
/// tip is worth more than everything else.
#[derive(Default)]
pub struct Outbox {
    /// At most two: a job that makes earlier work on its tip worthless is not skipped, because the
    /// shard would not learn that miners must drop that work.
    jobs: VecDeque<Arc<Job>>,
    messages: VecDeque<ToShard>,
    /// What a shard must know before any newer job.
    former: Option<Vec<Arc<Job>>>,
    tip_sent: u32,
    jobs_replaced: u64,
}

impl Outbox {
    /// Puts a message in. Refused, and handed back, when [`OUTBOX_MESSAGES_MAX`] others wait: a
    /// shard that takes nothing for so long is not alive. A job is never refused, nor is whether
    /// there is work: of that only the newest is kept.
    pub fn push(&mut self, message: ToShard) -> Result<(), ToShard> {
        match message {
            ToShard::Job(job) => self.push_job(job),
            ToShard::Jobs(jobs) => self.former = Some(jobs),
            ToShard::Release { .. } | ToShard::Serve => self.push_posture(message),
            message if self.messages.len() >= OUTBOX_MESSAGES_MAX => return Err(message),
            message => self.messages.push_back(message),
        }
        Ok(())
    }

    fn push_posture(&mut self, message: ToShard) {
        self.messages.retain(|held| !matches!(held, ToShard::Release { .. } | ToShard::Serve));
        self.messages.push_back(message);
    }

    fn push_job(&mut self, job: Arc<Job>) {
        while let Some(last) = self.jobs.back() {
            if last.tip == job.tip && last.replaces_coinbase_only && !job.replaces_coinbase_only {
                break;
            }
            self.jobs.pop_back();
            self.jobs_replaced += 1;
        }
        debug_assert!(self.jobs.len() <= 1);
        self.jobs.push_back(job);
    }

    /// The next message for the lane.
    pub fn pop(&mut self) -> Option<ToShard> {
        if let Some(jobs) = self.former.take() {
            return Some(ToShard::Jobs(jobs));
        }
        let on_new_tip = self.jobs.front().is_some_and(|job| job.tip > self.tip_sent);
        let message = if on_new_tip { None } else { self.messages.pop_front() };
        if message.is_some() {
            return message;
        }
        let job = self.jobs.pop_front()?;
        self.tip_sent = job.tip;
        Some(ToShard::Job(job))
    }

    /// The lane was full: `message`, the last that [`Outbox::pop`] gave, is the next again, unless
    /// something better has come meanwhile.
    pub fn unsent(&mut self, message: ToShard) {
        match message {
            ToShard::Job(job) => {
                // Whether its tip was ever sent is not known any more; a job too early harms not.
                self.tip_sent = job.tip.saturating_sub(1);
                let newer = core::mem::take(&mut self.jobs);
                self.push_job(job);
                newer.into_iter().for_each(|job| self.push_job(job));
            }
            ToShard::Jobs(jobs) => self.former = Some(jobs),
            message => self.messages.push_front(message),
        }
    }

    /// Messages and jobs that wait.
    pub fn len(&self) -> usize {
        self.jobs.len() + self.messages.len() + usize::from(self.former.is_some())
    }

    /// Whether nothing waits.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Jobs that a newer one replaced before they were sent.
    pub fn jobs_replaced(&self) -> u64 {
        self.jobs_replaced
    }
}

#[cfg(test)]
#[path = "jobs_tests.rs"]
mod tests;
