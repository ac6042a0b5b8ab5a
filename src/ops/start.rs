//! From a configuration to a farm at work: the node, then the engine. Shared by `run` and `demo`,
//! so that the demonstration shows the very thing that runs.

use std::fs::File;
use std::io::Read;
use std::path::Path;
use std::sync::Arc;
use std::time::{SystemTime, UNIX_EPOCH};

use engine::{Engine, EngineConfig, Inherited, Keeper, StartError};
use node::blocks::{Journal, JournaledBlock};
use node::simulated::Control;
use pow::{Difficulty, Kernel};
use session::Pace;

use crate::alerts::Alerts;
use crate::config::{Config, Host, NoWork, NodeConfig};
use crate::difficulties::Difficulties;
use crate::exit::Stop;
use crate::history::{self, Earlier};
use crate::host;
use crate::logs::LogCounts;
use crate::nodes::source_config;
use crate::view::Running;

/// Whoever configures no payout mines for nobody: OP_TRUE, on a chain whose coins are worth
/// nothing. Only the simulated node lets `[payout]` be left out.
const PAYOUT_OF_THE_SIMULATION: [u8; 1] = [0x51];
/// 2026-01-01, in seconds since 1970.
const JOB_NUMBERS_SINCE: u64 = 1_767_225_600;

/// What a process gets from those around it, beside its file.
pub struct Surroundings<'a> {
    /// Where blocks are journaled, if anywhere.
    pub state: Option<&'a Path>,
    /// What the log has lost and held back, where there is a log.
    pub logs: Option<LogCounts>,
    /// Listeners that were kept for this process.
    pub inherited: Inherited,
    /// Who keeps them for the next one.
    pub keeper: &'a mut dyn Keeper,
}

/// Starts the nodes' threads and the engine, and gives the means to steer a simulated chain. The
/// threads inherit this thread's signal mask and cores: call it from a thread that is not pinned,
/// after `signals::start`.
pub fn start(
    config: &Config,
    surroundings: Surroundings<'_>,
) -> Result<(Running, Option<Control>), Stop> {
    let Surroundings { state, logs, inherited, keeper } = surroundings;
    let started = engine::now();
    let mut engine_config = engine_config(config)?;
    if let Some(state) = state {
        engine_config.remembered = Difficulties::open(state, history::unix()).remembered();
    }
    let journal = state.map(|state| journal(state, &config.node.chain())).transpose()?;
    let (link, nodes, control) = match &config.node {
        NodeConfig::Simulated(parameters) => {
            let spawned = node::simulated::spawn_with(*parameters, journal);
            let (link, control) = spawned.map_err(Stop::unavailable)?;
            (link, None, Some(control))
        }
        NodeConfig::Bitcoind(nodes) => {
            let source = source_config(config, nodes, journal);
            let source = source.map_err(|finding| Stop::unavailable(finding.what))?;
            let (link, nodes) = node::source::start(source).map_err(Stop::unavailable)?;
            (link, Some(nodes), None)
        }
    };
    let engine = Engine::start_again(engine_config, link, inherited, keeper);
    let engine = engine.map_err(|error| match error {
        StartError::ThreadEnded(_) => Stop::internal(error),
        error => Stop::unavailable(error),
    })?;
    let earlier = if state.is_some() { Earlier::opening() } else { Earlier::default() };
    let (earlier, worker_series) = (Arc::new(earlier), config.limits.worker_series);
    let alerts = Alerts::new(&config.alerts, config.difficulty.shares_per_minute);
    Ok((Running { engine, started, logs, earlier, worker_series, alerts, nodes }, control))
}

/// Blocks that an earlier process found and did not see settled come with it.
fn journal(state: &Path, chain: &str) -> Result<(Journal, Vec<JournaledBlock>), Stop> {
    let (journal, blocks) = Journal::open(state, chain).map_err(Stop::unavailable)?;
    for warning in journal.warnings() {
        tracing::warn!("{warning}");
    }
    Ok((journal, blocks))
}

fn engine_config(config: &Config) -> Result<EngineConfig, Stop> {
    let listen = config.listen.iter().flat_map(|listen| {
        let allow = &listen.allow;
        listen.addresses.iter().map(|address| engine::Listen {
            address: *address,
            allow: allow.clone(),
            proxy_from: listen.proxy_from.clone(),
        })
    });
    let script = config.payout.script.clone().unwrap_or(PAYOUT_OF_THE_SIMULATION.to_vec());
    let connections = host::connections(config.limits.connections, host::files_max())
        .map_err(Stop::unavailable)?;
    let mut plan = EngineConfig::new(listen.collect(), script, secret()?);
    plan.shards = config.shards.count;
    plan.cores = config.shards.cores.clone();
    plan.host = match config.shards.host {
        Host::Glommio => engine::Host::Glommio,
        Host::Thread => engine::Host::Thread,
    };
    plan.gather = config.shards.gather;
    if let Some(name) = &config.shards.kernel {
        plan.kernel = Kernel::named(name).map_err(Stop::unavailable)?;
    }
    plan.connections_max = connections;
    plan.unauthenticated_max =
        config.limits.unauthenticated.unwrap_or(connections.div_ceil(2)).min(connections);
    plan.per_source_max = config.limits.per_source.unwrap_or(plan.unauthenticated_max);
    plan.fingerprints_max = config.limits.fingerprints;
    plan.start_difficulty = difficulty(config.difficulty.start)?;
    plan.start_by_class = config.difficulty.start_by_class;
    plan.wished_pace = Pace::per_minute(config.difficulty.shares_per_minute);
    plan.minimum_difficulty = difficulty(config.difficulty.minimum)?;
    plan.maximum_difficulty = difficulty(config.difficulty.maximum)?;
    plan.extranonce2_size = config.extranonce2_size();
    plan.signature = config.payout.signature.clone();
    plan.no_work = match config.no_work {
        NoWork::Release => farm::NoWork::Release,
        NoWork::Park => farm::NoWork::Park,
    };
    plan.first_job = first_job();
    plan.nodes = match &config.node {
        NodeConfig::Simulated(_) => 1,
        NodeConfig::Bitcoind(nodes) => nodes.nodes.len(),
    };
    Ok(plan)
}

fn difficulty(value: f64) -> Result<Difficulty, Stop> {
    Difficulty::new(value).ok_or_else(|| Stop::internal("a difficulty that was checked is none"))
}

/// Eight bytes that nobody can guess: session ids and fingerprints are keyed with them.
fn secret() -> Result<u64, Stop> {
    let mut bytes = [0; 8];
    File::open("/dev/urandom")
        .and_then(|mut file| file.read_exact(&mut bytes))
        .map_err(|error| Stop::unavailable(format!("/dev/urandom cannot be read: {error}")))?;
    Ok(u64::from_le_bytes(bytes))
}

/// Jobs are made less often than once a second, so that the time gives every start numbers above
/// all earlier ones, and a job id of before a restart never names a job of after it.
fn first_job() -> u32 {
    let now = SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |now| now.as_secs());
    u32::try_from(now.saturating_sub(JOB_NUMBERS_SINCE)).unwrap_or(1).max(1)
}
