//! What the tests of this crate show: a farm's snapshot and a job, made by the farm's own code.

use std::sync::Arc;

use farm::blocks::{
    BlockFacts, BlockRecord, Journaled, NodeRecord, Outcome, RetryPolicy, SubmitResult,
};
use farm::jobs::JobSettings;
use farm::ledger::{LongRates, WorkerStatus, WorkerTotals};
use farm::status::JobStatus;
use farm::{Coordinator, CoordinatorSettings, Status};
use session::Tick;

/// The moment at which the tests' farms stand.
pub(crate) const NOW: Tick = Tick(100_000_000);

/// The snapshot of a farm with two nodes that has just begun.
pub(crate) fn status() -> Status {
    let jobs = JobSettings {
        payout_script: vec![0x51],
        signature: Vec::new(),
        group_prefix: Vec::new(),
        extranonce1_size: 4,
        extranonce2_size: 4,
        version_mask: 0x1fff_e000,
        first_number: 1,
    };
    let settings = CoordinatorSettings {
        jobs,
        nodes: 2,
        retry: RetryPolicy::default(),
        template_silence_micros: 1,
        no_work: farm::NoWork::Park,
    };
    let coordinator = Coordinator::new(settings, pow::Kernel::detect(), NOW);
    coordinator.expect("the sizes are possible").status()
}

/// A worker with one connection that has done nothing yet.
pub(crate) fn worker(name: &str) -> WorkerStatus {
    WorkerStatus {
        name: name.into(),
        place: 1,
        totals: WorkerTotals::default(),
        hashes_per_second: 0.0,
        long_rates: LongRates::default(),
        connections: 1,
        last_share: None,
        best_difficulty: 0.0,
        settled: None,
    }
}

/// A job whose template came in at that moment.
pub(crate) fn job(received: Tick) -> JobStatus {
    JobStatus {
        number: 1,
        tip: 1,
        height: 1,
        prev_hash: pow::Hash256([0; 32]),
        bits: 0x207f_ffff,
        network_difficulty: 1.0,
        coinbase_value: 0,
        transactions: 0,
        weight: 0,
        coinbase_parts: [100, 8, 92],
        received,
        tip_since: received,
    }
}

/// A block that one node has taken and the other has not answered for.
pub(crate) fn block() -> BlockRecord {
    let worker = "farm.a".into();
    let said = |answer| NodeRecord { attempts: 1, answer: Some(answer), answered: Some(NOW) };
    let silence = SubmitResult::Unknown("the node did not answer in time".into());
    BlockRecord {
        id: 1,
        facts: Arc::new(BlockFacts { hash: pow::Hash256([0xab; 32]), height: 9, worker }),
        job_number: Some(4),
        found: Tick(98_000_000),
        late: false,
        restored: false,
        first_byte: Some(Tick(98_001_500)),
        journaled: Journaled::Durable,
        sent_first: false,
        outcome: Outcome::Accepted,
        nodes: vec![said(SubmitResult::Accepted), said(silence)],
    }
}
