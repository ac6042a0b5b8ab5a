//! `run`: the daemon. This thread becomes the ops thread: it checks file and host, takes the
//! state folder, starts the farm, and then serves pages, signals and the service manager until
//! it is told to end. It is never pinned and does nothing that a shard could wait for.

use std::net::SocketAddr;
use std::path::Path;
use std::pin::pin;
use std::sync::Arc;
use std::time::{Duration, Instant};

use engine::Inherited;
use node::simulated::Control;
use tokio::net::TcpListener;
use tokio::time::{MissedTickBehavior, interval, interval_at};

use crate::accounts::AccountsLog;
use crate::blocks::BlockLog;
use crate::cli::FileArgs;
use crate::config::{Config, NodeConfig, Places};
use crate::exit::{Exit, Stop};
use crate::finding::Finding;
use crate::firmware::FirmwareLog;
use crate::history::History;
use crate::host;
use crate::logs::{LogCounts, Logs};
use crate::manager::Manager;
use crate::signals::{Asked, Signals};
use crate::start::Surroundings;
use crate::state::{self, StateFolder};
use crate::summary::Summary;
use crate::view::{Running, View};
use crate::{alerts, http, logins, signals, start, version};

/// SIGTERM drains within 5 s: the shards have 4 s of them, the rest is for ending the threads.
const DRAIN_LIMIT: Duration = Duration::from_millis(4_500);
/// All of it, the history's last seconds with it; they have what the drain has left.
const END_LIMIT: Duration = Duration::from_millis(4_800);
/// How often the farm is looked at, and the service manager told how it is.
const LOOK_EVERY: Duration = Duration::from_secs(1);

/// Runs until a signal ends it.
pub fn run(args: &FileArgs) -> Result<Exit, Stop> {
    // First of all, while the descriptors that were passed are the only ones of their numbers.
    let inherited = Inherited::take().map_err(|error| {
        Stop::unavailable(format!("what the service manager passed cannot be used: {error}"))
    })?;
    let (config, places) = Config::load(args.config.as_deref())?;
    host::raise_limits().map_err(Stop::unavailable)?;
    let mut findings = host::findings(&config);
    if let NodeConfig::Bitcoind(nodes) = &config.node {
        findings.extend(logins::findings(nodes, places.path()));
    }
    let warnings = allowed(findings, &places)?;
    let folder = state::folder(config.state_directory.as_deref()).map_err(Stop::unavailable)?;
    let state = StateFolder::take(&folder).map_err(Stop::unavailable)?;
    let kept = inherited.addresses();
    host::await_ports(&config, &kept);
    allowed(host::ports(&config, None, &kept), &places)?;
    let asked = signals::start()?;
    let logs = Logs::start(config.log)?;
    tracing::info!(version = version::LONG, state = %state.path().display(), "headframe starts");
    for warning in warnings {
        tracing::warn!("{warning}");
    }
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .map_err(Stop::unavailable)?;
    let mut manager = Manager::found();
    let surroundings = Surroundings {
        state: Some(state.path()),
        logs: Some(logs.counts()),
        inherited,
        keeper: &mut manager,
    };
    let opened = runtime.block_on(open(&config, surroundings))?;
    let others = Others { asked, logs: logs.counts(), manager };
    let farm = runtime.block_on(serve(&config, state.path(), opened, others))?;
    // The pages hold the farm too: they go first.
    runtime.shutdown_timeout(Duration::from_millis(100));
    let orderly = Arc::into_inner(farm).is_none_or(|farm| farm.engine.stop());
    tracing::info!(orderly, "headframe has ended");
    if orderly { Ok(Exit::Done) } else { Err(Stop::internal("a thread ended by a panic")) }
}

/// Faults of the host end the start; warnings are for the log.
fn allowed(findings: Vec<Finding>, places: &Places) -> Result<Vec<String>, Stop> {
    let (faults, warnings): (Vec<Finding>, Vec<Finding>) =
        findings.into_iter().partition(Finding::is_fault);
    if faults.is_empty() {
        return Ok(warnings.into_iter().map(|warning| warning.what).collect());
    }
    let lines = faults.iter().map(|fault| fault.line(places)).collect();
    Err(Stop { exit: Exit::Unavailable, lines })
}

/// Whom the daemon hears and tells, beside miners, nodes and readers of pages.
struct Others {
    asked: Signals,
    logs: LogCounts,
    manager: Manager,
}

/// Looks after a farm until it is drained.
async fn serve(
    config: &Config,
    state: &Path,
    opened: Open,
    others: Others,
) -> Result<Arc<Running>, Stop> {
    let Open { farm, chain: _chain, pages } = opened;
    let Others { mut asked, logs, mut manager } = others;
    for address in farm.engine.local_addrs() {
        tracing::info!(%address, "miners connect here");
    }
    tracing::info!(address = %pages, "pages are served here");
    manager.ready(&*farm);
    let history = History::start(state, &farm)?;
    let alerts = alerts::Threads::start(&farm)?;
    let mut look = interval(manager.look_every().min(LOOK_EVERY));
    look.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let mut blocks = BlockLog::default();
    let mut firmware = FirmwareLog::default();
    let mut summary = Summary::new(farm.now());
    let mut accounts = AccountsLog::default();
    loop {
        tokio::select! {
            asked = asked.recv() => match asked {
                Some(Asked::Reload) => {
                    tracing::warn!("SIGHUP: reloading the configuration is not in this version");
                }
                Some(Asked::Upgrade) => {
                    tracing::warn!("SIGUSR2: upgrading in place is not in this version");
                }
                Some(Asked::End) | None => break,
            },
            _ = look.tick() => {
                tell(&mut blocks, &farm);
                let status = farm.engine.status();
                firmware.tell(&farm.shards(), status.job.as_ref(), config.extranonce2_size());
                summary.tell(farm.now(), &status);
                accounts.tell(status.workers);
                logs.tell();
                manager.look(&*farm);
            }
        }
    }
    let end = Instant::now() + END_LIMIT;
    drain(&farm, &mut manager).await;
    tell(&mut blocks, &farm);
    // On a thread of its own, so that the pages are served meanwhile.
    let stopped = tokio::task::spawn_blocking(move || {
        alerts.iter().for_each(|alerts| alerts.end(end));
        history.stop(end);
        alerts.into_iter().for_each(|alerts| alerts.wait(end));
    });
    let stopped = stopped.await;
    stopped.map_err(Stop::internal)?;
    Ok(farm)
}

fn tell(blocks: &mut BlockLog, farm: &Running) {
    blocks.tell(&farm.engine.status(), |node| farm.node_name(node).to_string());
}

/// A farm at work, and where its pages are served.
pub(crate) struct Open {
    pub(crate) farm: Arc<Running>,
    /// Steers the chain, where that is a simulated one.
    pub(crate) chain: Option<Control>,
    pub(crate) pages: SocketAddr,
}

/// Starts the farm and serves its pages. The pages' port comes first: it is the cheaper one to
/// find taken.
pub(crate) async fn open(config: &Config, surroundings: Surroundings<'_>) -> Result<Open, Stop> {
    let listener = TcpListener::bind(config.http).await.map_err(|error| {
        Stop::unavailable(format!("[http] address {} cannot be used: {error}", config.http))
    })?;
    let pages = listener.local_addr().map_err(Stop::unavailable)?;
    let (farm, chain) = start::start(config, surroundings)?;
    let farm = Arc::new(farm);
    let view: Arc<dyn View> = farm.clone();
    tokio::spawn(http::serve(listener, view));
    Ok(Open { farm, chain, pages })
}

/// Drains the farm without holding up the pages; whether all was answered in time.
pub(crate) async fn drained(farm: &Arc<Running>) -> bool {
    let farm = farm.clone();
    let drained = tokio::task::spawn_blocking(move || farm.engine.drain(DRAIN_LIMIT)).await;
    drained.unwrap_or(false)
}

/// The service manager hears all the while that it goes on, and how far it is.
async fn drain(farm: &Arc<Running>, manager: &mut Manager) {
    tracing::info!("draining: no new miners, answering what was read");
    manager.stopping();
    // At once: a timer, also one that is due, takes a millisecond, and a drain may take less.
    manager.draining(&**farm);
    let mut drained = pin!(drained(farm));
    let mut look = interval_at((Instant::now() + LOOK_EVERY).into(), LOOK_EVERY);
    let in_time = loop {
        tokio::select! {
            _ = look.tick() => manager.draining(&**farm),
            in_time = &mut drained => break in_time,
        }
    };
    if !in_time {
        tracing::warn!("not everything was drained in time");
    }
}
