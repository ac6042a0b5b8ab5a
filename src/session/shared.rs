//! What the machines of one shard have in common: the live jobs, the tip, the settings, and where
//! workers have settled. Read-only
//! for machines; the shard changes it only between two handles.

use crate::job::{Job, JobIndex, JobRef};
use crate::memory::{Memory, Remembered};
use crate::vardiff::Pace;
use alloc::sync::Arc;
use pow::Difficulty;

/// Jobs that can still be credited. At a refresh every 30 s this is half an hour on one tip, and a
/// miner that works on an older job has ignored dozens of newer ones.
pub const JOBS_LIVE_MAX: usize = 64;

/// Tips behind the newest whose shares are still tested against the network's target: a block that
/// late can only win in a reorganisation, and those are never deeper.
pub const TIPS_LATE_MAX: u32 = 6;

/// What holds for every connection of a listener.
#[derive(Debug, Clone, PartialEq)]
pub struct Settings {
    /// Bytes that a miner may roll, 2 to 16.
    pub extranonce2_size: u8,
    /// The difficulty of a miner nobody knows yet.
    pub start_difficulty: Difficulty,
    /// Whether a miner whose class is known starts where its class does instead.
    pub start_by_class: bool,
    /// The shares that each miner should send, which its difficulty is made to follow; none: it
    /// changes by [`crate::Policy`] alone.
    pub wished_pace: Option<Pace>,
    /// No wish of the farm's policy goes below it.
    pub minimum_difficulty: Difficulty,
    /// No wish of the farm's policy and no automatic raise goes above it.
    pub maximum_difficulty: Difficulty,
    /// Bits that may be granted for version rolling: what every upstream allows.
    pub version_mask: u32,
    /// Silence after which the present work is announced again, microseconds.
    pub keepalive_us: u64,
    /// Time for subscribe and authorize, microseconds.
    pub handshake_us: u64,
    /// Time for the first byte, microseconds.
    pub first_byte_us: u64,
    /// Shares of one miner remembered against repetition, on the present and the previous tip.
    pub fingerprints_max: usize,
}

impl Settings {
    /// The pace that difficulties follow; none where there is but one difficulty to choose.
    pub fn pace(&self) -> Option<Pace> {
        self.wished_pace.filter(|_| self.minimum_difficulty < self.maximum_difficulty)
    }

    /// The difficulty that is nearest to `wanted` within the farm's bounds.
    pub(crate) fn bounded(&self, wanted: Difficulty) -> Difficulty {
        if wanted < self.minimum_difficulty {
            self.minimum_difficulty
        } else if self.maximum_difficulty < wanted {
            self.maximum_difficulty
        } else {
            wanted
        }
    }
}

impl Default for Settings {
    fn default() -> Settings {
        Settings {
            extranonce2_size: 4,
            start_difficulty: Difficulty::new(16_384.0).expect("a positive number"),
            start_by_class: false,
            wished_pace: None,
            minimum_difficulty: Difficulty::new(1e-18).expect("a positive number"),
            maximum_difficulty: Difficulty::new(1e18).expect("a positive number"),
            version_mask: 0x1fff_e000,
            keepalive_us: 30_000_000,
            handshake_us: 15_000_000,
            first_byte_us: 5_000_000,
            fingerprints_max: 4_096,
        }
    }
}

/// What became of a job number that a miner named.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Found {
    /// Live, on the newest tip.
    Current(JobIndex),
    /// Live, but its tip was superseded: no credit, though it may still be a block.
    Superseded(JobIndex),
    /// Never given out, or gone.
    Unknown,
}

/// The jobs and settings of one shard.
#[derive(Debug)]
pub struct Shared {
    settings: Settings,
    jobs: [Option<Arc<Job>>; JOBS_LIVE_MAX],
    newest: Option<JobRef>,
    /// The newest job that made all work before it worthless; ≤ the newest job's number.
    clean_number: u32,
    tip: u32,
    memory: Memory,
}

impl Shared {
    /// No job yet.
    pub fn new(settings: Settings) -> Shared {
        assert!((1..=16).contains(&settings.extranonce2_size), "firmware knows 1 to 16 bytes");
        let jobs = [const { None }; JOBS_LIVE_MAX];
        Shared { settings, jobs, newest: None, clean_number: 0, tip: 0, memory: Memory::default() }
    }

    /// What holds for every connection.
    pub fn settings(&self) -> &Settings {
        &self.settings
    }

    /// Makes `job` the newest; only between two handles. Jobs that nobody can use any more go.
    pub fn adopt(&mut self, job: Arc<Job>) -> JobRef {
        let before = self.newest.map_or(0, |newest| newest.number);
        assert!(job.number > before, "job numbers rise: {} after {before}", job.number);
        assert!(job.tip >= self.tip, "tips rise: {} after {}", job.tip, self.tip);
        let index = JobIndex((job.number % JOBS_LIVE_MAX as u32) as u8);
        let newest = JobRef { index, number: job.number };
        if job.tip != self.tip || job.replaces_coinbase_only || self.newest.is_none() {
            self.clean_number = job.number;
        }
        self.tip = job.tip;
        for slot in &mut self.jobs {
            let late = slot.as_ref().is_some_and(|live| job.tip - live.tip > TIPS_LATE_MAX);
            if late {
                *slot = None;
            }
        }
        self.jobs[usize::from(index.0)] = Some(job);
        self.newest = Some(newest);
        newest
    }

    /// Takes in where a worker has settled; only between two handles.
    pub fn remember(&mut self, remembered: Remembered) {
        self.memory.learn(remembered);
    }

    /// Where workers have settled.
    pub fn memory(&self) -> &Memory {
        &self.memory
    }

    /// The job that every miner should have.
    pub fn newest(&self) -> Option<JobRef> {
        self.newest
    }

    /// The job at `index`, which must come from [`Shared::find`] or [`Shared::newest`].
    pub fn job(&self, index: JobIndex) -> &Arc<Job> {
        self.jobs[usize::from(index.0)].as_ref().expect("an index is only given for a live job")
    }

    /// Where the job with this number stands, and whether its tip is the newest.
    pub fn find(&self, number: u32) -> Found {
        let index = JobIndex((number % JOBS_LIVE_MAX as u32) as u8);
        match &self.jobs[usize::from(index.0)] {
            Some(job) if job.number != number => Found::Unknown,
            Some(job) if job.tip == self.tip => Found::Current(index),
            Some(_) => Found::Superseded(index),
            None => Found::Unknown,
        }
    }

    /// The newest tip's number.
    pub fn tip(&self) -> u32 {
        self.tip
    }

    /// The number of the newest job that made all earlier work worthless: a miner that was last
    /// given an earlier one gets the newest with `clean`.
    pub(crate) fn clean_number(&self) -> u32 {
        self.clean_number
    }
}

const _: () = assert!(JOBS_LIVE_MAX <= 256, "a job's index is one byte");

#[cfg(test)]
mod tests {
    use super::*;
    use crate::contract::Tick;
    use alloc::vec::Vec;
    use pow::{Hash256, Target, Work, WorkParts};

    fn job(number: u32, tip: u32) -> Arc<Job> {
        let parts = WorkParts {
            coinbase_first: &[1],
            coinbase_second: &[2],
            extranonce_size: 8,
            merkle_path: &[],
            prev_hash: Hash256([tip as u8; 32]),
            bits: 0x1d00_ffff,
        };
        Arc::new(Job {
            number,
            tip,
            height: tip,
            received: Tick(1),
            curtime: 100,
            min_ntime: 90,
            version: 0x2000_0000,
            version_mask: 0,
            network_target: Target::MAX,
            content: u64::from(number),
            work: Work::new(parts).expect("fits"),
            coinbase_first: Vec::new(),
            coinbase_second: Vec::new(),
            replaces_coinbase_only: false,
        })
    }

    #[test]
    fn a_number_is_found_while_its_place_and_its_tip_live() {
        let mut shared = Shared::new(Settings::default());
        assert_eq!(shared.find(0), Found::Unknown);
        assert_eq!(shared.newest(), None);
        let first = shared.adopt(job(1, 1));
        assert_eq!(shared.newest(), Some(first));
        assert_eq!(shared.find(1), Found::Current(first.index));
        for number in 2..=64 {
            shared.adopt(job(number, 1));
        }
        assert_eq!(shared.find(1), Found::Current(first.index), "64 jobs live");
        shared.adopt(job(65, 2));
        assert_eq!(shared.find(1), Found::Unknown, "its place was taken");
        assert_eq!(shared.find(2), Found::Superseded(JobIndex(2)));
        assert_eq!(shared.find(66), Found::Unknown);
        shared.adopt(job(66, 7));
        assert_eq!(shared.find(3), Found::Superseded(JobIndex(3)), "six tips late");
        shared.adopt(job(67, 8));
        assert_eq!(shared.find(4), Found::Unknown, "seven");
        assert_eq!(shared.find(65), Found::Superseded(JobIndex(1)));
    }

    #[test]
    #[should_panic(expected = "job numbers rise")]
    fn a_number_is_never_used_again() {
        let mut shared = Shared::new(Settings::default());
        shared.adopt(job(2, 1));
        shared.adopt(job(2, 1));
    }

    #[test]
    fn a_job_tells_the_time_by_its_template() {
        let job = job(1, 1);
        assert_eq!(job.second_at(Tick(0)), 100, "before it came in");
        assert_eq!(job.second_at(Tick(1_000_000)), 100);
        assert_eq!(job.second_at(Tick(1_000_001)), 101);
        assert_eq!(job.begin_of(101), Tick(1_000_001));
        assert_eq!(job.ntime_max(Tick(1_000_001)), 7_101);
        assert_eq!(job.second_at(Tick::NEVER), u32::MAX, "it saturates");
    }
}
