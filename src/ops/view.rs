//! What the pages look at: snapshots and counters, gathered behind one trait, so that pages and
//! metrics know nothing of threads, and tests can show them any farm.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use engine::{Engine, LaneStatus, ListError};
use farm::Status;
use farm::extranonce::ShardIndex;
use farm::messages::MinerRow;
use session::Tick;
use shard::Counters;

use crate::logs::Lost;

/// A shard that has not taken a turn for so long hangs, in µs: it wakes every 500 ms of itself.
pub const HEARTBEAT_US_MAX: u64 = 2_000_000;

/// One shard's thread and its counters.
#[derive(Clone, Debug)]
pub struct ShardView {
    /// The core it is pinned to.
    pub core: usize,
    /// What it counts.
    pub counters: Arc<Counters>,
}

impl ShardView {
    /// The shard on `core`.
    pub fn new(core: usize, counters: &Arc<Counters>) -> ShardView {
        ShardView { core, counters: counters.clone() }
    }
}

/// A farm that can be looked at from any thread. Only the lists wait, for at most their limit.
pub trait View: Send + Sync + 'static {
    /// The present moment of the engine's clock.
    fn now(&self) -> Tick;
    /// The moment at which this process started.
    fn started(&self) -> Tick;
    /// The newest snapshot of the farm.
    fn status(&self) -> Arc<Status>;
    /// All shards.
    fn shards(&self) -> Vec<ShardView>;
    /// The lanes of each shard, in the same order.
    fn lanes(&self) -> Vec<LaneStatus>;
    /// Where miners can connect.
    fn listening(&self) -> &[SocketAddr];
    /// Whether the ring lets requests gather before a wake.
    fn gathers(&self) -> bool;
    /// All connections, each with its shard.
    fn list_miners(&self, limit: Duration) -> Result<Vec<(ShardIndex, MinerRow)>, ListError>;
    /// Log lines that were dropped.
    fn log_lost(&self) -> u64;
}

/// The engine as it runs, and what `ops` knows beside it.
#[derive(Debug)]
pub struct Running {
    /// The farm at work.
    pub engine: Engine,
    /// The moment at which this process started.
    pub started: Tick,
    /// Counts lost log lines, where there is a log.
    pub lost: Option<Lost>,
}

impl View for Running {
    fn now(&self) -> Tick {
        engine::now()
    }

    fn started(&self) -> Tick {
        self.started
    }

    fn status(&self) -> Arc<Status> {
        self.engine.status()
    }

    fn shards(&self) -> Vec<ShardView> {
        let cores = self.engine.placement().shards.iter();
        let counters = self.engine.counters().iter();
        cores.zip(counters).map(|(core, counters)| ShardView::new(*core, counters)).collect()
    }

    fn lanes(&self) -> Vec<LaneStatus> {
        self.engine.lanes()
    }

    fn listening(&self) -> &[SocketAddr] {
        self.engine.local_addrs()
    }

    fn gathers(&self) -> bool {
        self.engine.gathers()
    }

    fn list_miners(&self, limit: Duration) -> Result<Vec<(ShardIndex, MinerRow)>, ListError> {
        self.engine.list_miners(limit)
    }

    fn log_lost(&self) -> u64 {
        self.lost.as_ref().map_or(0, Lost::lines)
    }
}

/// The shards that hang, by number, with the age of their newest turn in µs.
pub fn hanging(view: &dyn View) -> Vec<(usize, u64)> {
    let now = view.now();
    let age =
        |shard: &ShardView| now.as_micros().saturating_sub(shard.counters.heartbeat_us.value());
    let shards = view.shards();
    let ages = shards.iter().map(age).enumerate();
    ages.filter(|(_, age)| *age > HEARTBEAT_US_MAX).collect()
}
