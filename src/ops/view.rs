//! What the pages look at: snapshots and counters, gathered behind one trait, so that pages and
//! metrics know nothing of threads, and tests can show them any farm.

use std::fmt;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use engine::{Engine, LaneStatus, ListError};
use farm::Status;
use farm::coordinator::TEMPLATE_SILENCE_MICROS;
use farm::extranonce::ShardIndex;
use farm::ledger::WorkerStatus;
use farm::messages::MinerRow;
use farm::status::WorkState;
use node::source::{NodeState, Nodes};
use session::Tick;
use shard::Counters;

use crate::alerts::{Alerts, WayStatus};
use crate::history::{self, Earlier, HistoryStatus};
use crate::logs::LogCounts;

/// A shard that has not taken a turn for so long hangs, in µs: it wakes every 500 ms of itself.
pub const HEARTBEAT_US_MAX: u64 = 2_000_000;

/// A coordinator that has not taken a turn for so long hangs, in µs: the pulse wakes it once a
/// second, so that one beat may be late by another.
pub const COORDINATOR_HEARTBEAT_US_MAX: u64 = 2_000_000;

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
    /// When the coordinator took its newest turn.
    fn coordinator_heartbeat(&self) -> Tick;
    /// All shards.
    fn shards(&self) -> Vec<ShardView>;
    /// The lanes of each shard, in the same order.
    fn lanes(&self) -> Vec<LaneStatus>;
    /// What a node is called, by its place in the configuration; its number where it has no name.
    fn node_name(&self, node: usize) -> Arc<str> {
        let named = self.nodes().get(node).map(|state| state.name.clone());
        named.unwrap_or_else(|| Arc::from(node.to_string()))
    }
    /// The bitcoinds, in the order of the configuration; none where the node is simulated.
    fn nodes(&self) -> Vec<NodeState>;
    /// Where miners can connect.
    fn listening(&self) -> &[SocketAddr];
    /// Whether the ring lets requests gather before a wake.
    fn gathers(&self) -> bool;
    /// All connections, each with its shard.
    fn list_miners(&self, limit: Duration) -> Result<Vec<(ShardIndex, MinerRow)>, ListError>;
    /// The account of every worker, with what earlier processes counted.
    fn list_workers(&self, limit: Duration) -> Result<Vec<WorkerStatus>, ListError>;
    /// How the history is, and what it says of earlier processes.
    fn history(&self) -> HistoryStatus;
    /// Workers that have metrics of their own.
    fn worker_series(&self) -> usize;
    /// How alerts are delivered; nothing where nobody wants any.
    fn alerts(&self) -> Vec<WayStatus> {
        Vec::new()
    }
    /// Log lines that were dropped.
    fn log_lost(&self) -> u64;
    /// Log lines that were held back, because others had said the same.
    fn log_suppressed(&self) -> u64;
}

/// The engine as it runs, and what `ops` knows beside it.
#[derive(Debug)]
pub struct Running {
    /// The farm at work.
    pub engine: Engine,
    /// The moment at which this process started.
    pub started: Tick,
    /// Counts the log lines that nobody reads, where there is a log.
    pub logs: Option<LogCounts>,
    /// What earlier processes counted, where there is a history.
    pub earlier: Arc<Earlier>,
    /// Workers that have metrics of their own.
    pub worker_series: usize,
    /// What is told to whom.
    pub alerts: Alerts,
    /// The bitcoinds, unless the node is simulated.
    pub nodes: Option<Nodes>,
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

    fn coordinator_heartbeat(&self) -> Tick {
        self.engine.coordinator_heartbeat()
    }

    fn shards(&self) -> Vec<ShardView> {
        let cores = self.engine.placement().shards.iter();
        let counters = self.engine.counters().iter();
        cores.zip(counters).map(|(core, counters)| ShardView::new(*core, counters)).collect()
    }

    fn lanes(&self) -> Vec<LaneStatus> {
        self.engine.lanes()
    }

    fn nodes(&self) -> Vec<NodeState> {
        self.nodes.as_ref().map(Nodes::states).unwrap_or_default()
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

    fn list_workers(&self, limit: Duration) -> Result<Vec<WorkerStatus>, ListError> {
        let mut workers = self.engine.list_workers(limit)?;
        self.earlier.complete(&mut workers, engine::now(), history::unix());
        Ok(workers)
    }

    fn history(&self) -> HistoryStatus {
        self.earlier.status()
    }

    fn worker_series(&self) -> usize {
        self.worker_series
    }

    fn alerts(&self) -> Vec<WayStatus> {
        self.alerts.status()
    }

    fn log_lost(&self) -> u64 {
        self.logs.as_ref().map_or(0, LogCounts::lost)
    }

    fn log_suppressed(&self) -> u64 {
        self.logs.as_ref().map_or(0, LogCounts::suppressed)
    }
}

/// One of the engine's loops that takes no turns.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Hanging {
    /// The shard of this number, and the age of its newest turn in µs.
    Shard(usize, u64),
    /// The coordinator, and the age of its newest turn in µs: miners keep an old tip.
    Coordinator(u64),
}

impl fmt::Display for Hanging {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        let seconds = |micros: u64| micros as f64 / 1e6;
        match *self {
            Hanging::Shard(shard, age) => {
                write!(out, "shard {shard} took no turn for {:.1} s", seconds(age))
            }
            Hanging::Coordinator(age) => {
                write!(out, "the coordinator took no turn for {:.1} s", seconds(age))
            }
        }
    }
}

/// Every loop that hangs, the shards in their order.
pub fn hanging(view: &dyn View) -> Vec<Hanging> {
    let now = view.now();
    let age =
        |shard: &ShardView| now.as_micros().saturating_sub(shard.counters.heartbeat_us.value());
    let shards = view.shards();
    let ages = shards.iter().map(age).enumerate();
    let shards = ages.filter(|(_, age)| *age > HEARTBEAT_US_MAX);
    let coordinator = coordinator_hangs(view).then(|| coordinator_age_micros(view));
    let shards = shards.map(|(shard, age)| Hanging::Shard(shard, age));
    shards.chain(coordinator.map(Hanging::Coordinator)).collect()
}

/// Whether miners get work that is worth mining on, judged at this moment: the snapshot stands
/// still when the coordinator does, and says "current" for ever.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Work {
    /// None has come from the node yet.
    None,
    /// The node gives it, and the coordinator hands it on.
    Current,
    /// The node has given none for longer than it may.
    Silent,
    /// The coordinator hangs: whatever the node gives, miners keep what they have.
    Unknown,
}

impl Work {
    /// The state as the API's word.
    pub fn name(self) -> &'static str {
        match self {
            Work::None => "none",
            Work::Current => "current",
            Work::Silent => "silent",
            Work::Unknown => "unknown",
        }
    }
}

/// How it stands with work now.
pub fn work(view: &dyn View, status: &Status) -> Work {
    let age = template_age_micros(view, status).unwrap_or_default();
    match status.work {
        _ if coordinator_hangs(view) => Work::Unknown,
        WorkState::None => Work::None,
        WorkState::Current if age <= TEMPLATE_SILENCE_MICROS => Work::Current,
        WorkState::Current | WorkState::Silent => Work::Silent,
    }
}

/// Whether the coordinator takes no turns.
pub fn coordinator_hangs(view: &dyn View) -> bool {
    coordinator_age_micros(view) > COORDINATOR_HEARTBEAT_US_MAX
}

/// Since the snapshot was made, in µs: about a second at most, unless the coordinator hangs.
pub fn snapshot_age_micros(view: &dyn View, status: &Status) -> u64 {
    view.now().since(status.at)
}

/// Since the coordinator's newest turn, in µs.
pub fn coordinator_age_micros(view: &dyn View) -> u64 {
    view.now().as_micros().saturating_sub(view.coordinator_heartbeat().as_micros())
}

/// Since the newest template came in, in µs, until now: the snapshot's own age counts too, because
/// a coordinator that hangs makes no new one.
pub fn template_age_micros(view: &dyn View, status: &Status) -> Option<u64> {
    let since = snapshot_age_micros(view, status);
    status.template_age_micros.map(|age| age.saturating_add(since))
}
