//! The farm at one moment, as plain data: what the coordinator publishes and the operator's pages
//! show. Nothing here is configured; everything was measured or counted.

use alloc::vec::Vec;

use pow::{Hash256, Template};
use session::{Class, Job, Tick};

use crate::blocks::{BlockCounts, BlockRecord, NodeAnswers};
use crate::extranonce::ShardIndex;
use crate::jobs::JobError;
use crate::ledger::{LongRates, WorkerTotals};
use crate::outage::OutageStatus;

/// Jobs that a snapshot shows: half an hour of them at two a minute, and 13 KiB.
pub const JOBS_SHOWN_MAX: usize = 64;

/// Whether there is work for the miners.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum WorkState {
    /// There was no usable template yet.
    None,
    /// The newest template is as new as it should be.
    Current,
    /// Nothing was heard from the source for too long; miners still have its last job.
    Silent,
}

/// The job that miners should have.
#[derive(Clone, Debug, PartialEq)]
pub struct JobStatus {
    /// Its farm-wide number.
    pub number: u32,
    /// The number of its tip, counted from this process's start.
    pub tip: u32,
    /// The height of the block that is sought.
    pub height: u32,
    /// The hash of its tip, in header byte order.
    pub prev_hash: Hash256,
    /// The network's target in compact form.
    pub bits: u32,
    /// The network's difficulty.
    pub network_difficulty: f64,
    /// Subsidy and fees in satoshi.
    pub coinbase_value: u64,
    /// Transactions besides the coinbase.
    pub transactions: usize,
    /// Their weight, in weight units.
    pub weight: u64,
    /// Bytes of the coinbase before the extranonces, of these, and behind them; no witness.
    pub coinbase_parts: [usize; 3],
    /// When its template came in.
    pub received: Tick,
    /// When the first template on its tip came in.
    pub tip_since: Tick,
}

impl JobStatus {
    pub(crate) fn of(job: &Job, template: &Template, tip_since: Tick) -> JobStatus {
        JobStatus {
            number: job.number,
            tip: job.tip,
            height: job.height,
            prev_hash: template.prev_hash,
            bits: template.bits,
            network_difficulty: job.network_target.difficulty(),
            coinbase_value: template.coinbase_value,
            transactions: template.transactions.len(),
            weight: template.weight,
            coinbase_parts: [
                job.coinbase_first.len(),
                job.work.extranonce_size(),
                job.coinbase_second.len(),
            ],
            received: job.received,
            tip_since,
        }
    }

    /// Bytes of the coinbase that miners hash.
    pub fn coinbase_bytes(&self) -> usize {
        self.coinbase_parts.iter().sum()
    }

    /// Whether firmware of this class is known to hash a coinbase of this size right.
    pub fn suits(&self, class: Class) -> bool {
        let [first, extranonce, second] = self.coinbase_parts;
        class.coinbase_limit().takes(first, extranonce, second)
    }
}

/// The farm's extranonce space, in prefixes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SpaceStatus {
    /// All that there are.
    pub capacity: u64,
    /// Can be leased.
    pub free: u64,
    /// Held by shards, in use or ready.
    pub leased: u64,
    /// Wait until no job of their last miner can be credited.
    pub resting: u64,
    /// Ranges that came back from a shard that did not hold them: always 0, or a bug.
    pub faults: u64,
}

/// One shard as the coordinator sees it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ShardStatus {
    /// Which.
    pub shard: ShardIndex,
    /// Prefixes that it holds.
    pub leased: u64,
    /// How often it was refused a lease.
    pub lease_refusals: u64,
    /// Messages and jobs that wait for room in its lane.
    pub messages_waiting: usize,
    /// Jobs that a newer one replaced before its lane had room.
    pub jobs_replaced: u64,
    /// It has closed all connections.
    pub drained: bool,
}

/// The farm at one moment.
#[derive(Clone, Debug, PartialEq)]
pub struct Status {
    /// The moment.
    pub at: Tick,
    /// Since the coordinator began, in µs.
    pub uptime_micros: u64,
    /// Whether there is work.
    pub work: WorkState,
    /// There is no work that the source stands by, and since when.
    pub outage: Option<OutageStatus>,
    /// Since the newest template came in, in µs; `None` before the first.
    pub template_age_micros: Option<u64>,
    /// The newest job.
    pub job: Option<JobStatus>,
    /// The newest [`JOBS_SHOWN_MAX`] jobs, oldest first; the last one is `job`.
    pub jobs: Vec<JobStatus>,
    /// Jobs made since the start.
    pub jobs_made: u64,
    /// Templates of which no job could be made.
    pub jobs_refused: u64,
    /// Why no job could be made of the newest template.
    pub job_error: Option<JobError>,
    /// Worker names with an account of their own.
    pub workers: usize,
    /// Connections that are authorized under some name.
    pub connections: u64,
    /// The farm's totals since the start.
    pub totals: WorkerTotals,
    /// The farm's measured hash rate over 5 minutes, in hashes per second.
    pub hashes_per_second: f64,
    /// The same over an hour and a day.
    pub long_rates: LongRates,
    /// The newest 100 blocks, oldest first.
    pub blocks: Vec<BlockRecord>,
    /// How many blocks went which way.
    pub block_counts: BlockCounts,
    /// What each node has answered to submitted blocks, by the kinds of `SubmitResult`.
    pub block_answers: Vec<NodeAnswers>,
    /// From the share to the first byte out, of the newest block that went out, in µs.
    pub block_first_byte_micros: Option<u64>,
    /// Blocks of which no node has said its last word.
    pub blocks_unsettled: usize,
    /// The extranonce space.
    pub space: SpaceStatus,
    /// The shards that run.
    pub shards: Vec<ShardStatus>,
    /// No new miners are taken.
    pub draining: bool,
}

impl Status {
    /// Since the newest tip was first heard of, in µs.
    pub fn tip_age_micros(&self) -> Option<u64> {
        self.job.as_ref().map(|job| self.at.since(job.tip_since))
    }
}
