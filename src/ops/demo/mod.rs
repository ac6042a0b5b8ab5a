//! `demo`: everything at work on loopback. A simulated node with a real chain, the very farm that
//! `run` runs, and CPU miners that really hash. `progress` shows it, `verdict` judges it.

mod pace;
mod progress;
mod verdict;

use std::path::Path;
use std::time::{Duration, Instant};

use engine::{Inherited, NoKeeper};
use miner::{Fleet, FleetConfig};
use node::simulated::Control;
use pow::Kernel;
use tokio::time::{MissedTickBehavior, interval};

use self::pace::Pace;
use self::progress::{Facts, Progress};
use self::verdict::{Outcome, judge};
use crate::cli::{DemoArgs, Protocol};
use crate::config::{Config, FILES_BESIDE_CONNECTIONS};
use crate::exit::{Exit, Stop, say};
use crate::finding::Finding;
use crate::run::{self, Open};
use crate::signals::{Asked, Signals};
use crate::start::Surroundings;
use crate::state::StateFolder;
use crate::view::{Running, View};
use crate::{host, signals};

/// How long the hash rate is measured before the chain's difficulty is set by it.
const MEASURE: Duration = Duration::from_secs(1);
/// About one block in so many seconds, where there is time for several.
const BLOCK_SECONDS: f64 = 5.0;
/// A short demonstration still expects so many blocks: none at all is then 1 in 3,000.
const BLOCKS_EXPECTED_MIN: f64 = 8.0;
/// Shares are about so many times easier than blocks.
const SHARES_PER_BLOCK: f64 = 100.0;
/// So many shares per miner are expected in all: each must have one, and the last ones must not
/// depend on luck.
const SHARES_PER_MINER: f64 = 4.0;
/// Hashes that a share of difficulty 1 takes on average.
const HASHES_PER_DIFFICULTY: f64 = 4_294_967_296.0;
/// Luck may keep the first block away: then the miners go on for so long, and no longer.
const GRACE: Duration = Duration::from_secs(5);
/// The simulated chain is made and checked block by block; even a slow machine takes seconds.
const WORK_LIMIT: Duration = Duration::from_secs(60);
/// How often it is looked whether it is ready.
const WORK_EVERY: Duration = Duration::from_millis(20);

/// What this machine can do, and the difficulties that follow from it.
struct Plan {
    miners: usize,
    seconds: u32,
    threads: usize,
    hashes_per_second: f64,
    block_seconds: f64,
    block_difficulty: f64,
    share_difficulty: f64,
}

/// Shows everything, and judges it.
pub fn demo(args: &DemoArgs) -> Result<Exit, Stop> {
    refuse_what_is_not_built(args)?;
    host::raise_limits().map_err(Stop::unavailable)?;
    enough_files(args.miners)?;
    let asked = signals::start()?;
    let mut progress = Progress::new(args.json);
    progress.line("measuring what this CPU can do …");
    let plan = Plan::measure(args);
    let folder = tempfile::Builder::new()
        .prefix("headframe-demo-")
        .tempdir()
        .map_err(|error| Stop::unavailable(format!("no temporary folder: {error}")))?;
    let state = StateFolder::take(folder.path()).map_err(Stop::unavailable)?;
    let config = plan.config()?;
    enough_of_the_host(&config)?;
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .map_err(Stop::unavailable)?;
    let shown = runtime.block_on(show(&plan, &config, asked, &mut progress));
    runtime.shutdown_timeout(Duration::from_millis(100));
    // The lock's file is closed before the folder is removed, also after a failure.
    drop(state);
    folder.close().map_err(|error| Stop::unavailable(format!("temporary folder: {error}")))?;
    let outcome = shown?;
    if args.json {
        say(&outcome.json(&plan));
    } else {
        outcome.lines(&plan).iter().for_each(|line| say(line));
    }
    match outcome.reasons() {
        [] => Ok(Exit::Done),
        reasons => Err(Stop { exit: Exit::Failed, lines: reasons.to_vec() }),
    }
}

fn refuse_what_is_not_built(args: &DemoArgs) -> Result<(), Stop> {
    match args.protocol {
        Some(Protocol::Sv2) => Err(Stop::not_in_this_version("--protocol sv2")),
        Some(Protocol::Both) => Err(Stop::not_in_this_version("--protocol both")),
        Some(Protocol::Sv1) | None if args.declare => Err(Stop::not_in_this_version("--declare")),
        Some(Protocol::Sv1) | None => Ok(()),
    }
}

/// Both ends of every connection are in this process.
fn enough_files(miners: u32) -> Result<(), Stop> {
    let needed = 2 * u64::from(miners) + FILES_BESIDE_CONNECTIONS as u64;
    match host::files_max() {
        Some(files) if files < needed => Err(Stop::unavailable(format!(
            "open files are limited to {files}, but {miners} miners and their server need \
             {needed}; raise the limit (`ulimit -n {needed}`) or use fewer --miners"
        ))),
        _ => Ok(()),
    }
}

/// What `check` would say of this host.
fn enough_of_the_host(config: &Config) -> Result<(), Stop> {
    let faults = host::findings(config);
    let mut faults = faults.into_iter().filter(Finding::is_fault).map(|fault| fault.what);
    faults.next().map_or(Ok(()), |fault| Err(Stop::unavailable(fault)))
}

impl Plan {
    fn measure(args: &DemoArgs) -> Plan {
        let threads = std::thread::available_parallelism().map_or(1, usize::from);
        let rate = miner::measure_hash_rate(Kernel::detect(), threads, MEASURE);
        Plan::of(args.miners as usize, args.seconds, threads, rate)
    }

    fn of(miners: usize, seconds: u32, threads: usize, hashes_per_second: f64) -> Plan {
        let duration = f64::from(seconds);
        let block_seconds = BLOCK_SECONDS.min(duration / BLOCKS_EXPECTED_MIN);
        let shares_wanted = SHARES_PER_MINER * miners as f64 / duration;
        let shares_per_second = shares_wanted.max(SHARES_PER_BLOCK / block_seconds);
        let share_difficulty = hashes_per_second / shares_per_second / HASHES_PER_DIFFICULTY;
        Plan {
            miners,
            seconds,
            threads,
            hashes_per_second,
            block_seconds,
            block_difficulty: block_difficulty(hashes_per_second, block_seconds),
            share_difficulty: share_difficulty.max(node::simulated::DIFFICULTY_MIN),
        }
    }

    /// The same file that somebody would write by hand for this.
    fn config(&self) -> Result<Config, Stop> {
        let text = format!(
            "[listen]\naddress = \"127.0.0.1:0\"\n\
             [http]\naddress = \"127.0.0.1:0\"\n\
             [difficulty]\nstart = {share}\nminimum = {share}\nmaximum = {share}\n\
             [node]\nsimulated = true\n\
             [node.simulation]\ndifficulty = {block}\nblock_seconds = 20.0\nseed = {seed}\n\
             [payout]\nsignature = \"/headframe demo/\"\n\
             [limits]\nconnections = {miners}\n",
            share = self.share_difficulty,
            block = self.block_difficulty,
            seed = std::process::id(),
            miners = self.miners,
        );
        let read = Config::parse(Path::new("demo"), &text).map_err(Stop::internal);
        read.map(|(config, _)| config)
    }

    fn fleet(&self, farm: &Running) -> Result<Fleet, Stop> {
        let address = farm.engine.local_addrs().first().copied();
        let address = address.ok_or_else(|| Stop::internal("the engine listens nowhere"))?;
        Fleet::start(FleetConfig {
            address,
            connections: self.miners,
            threads: self.threads,
            user_prefix: "demo".to_owned(),
            seed: u64::from(std::process::id()),
            kernel: Kernel::detect(),
        })
        .map_err(Stop::unavailable)
    }
}

/// At this difficulty a block is found every `block_seconds` on average.
fn block_difficulty(hashes_per_second: f64, block_seconds: f64) -> f64 {
    let difficulty = hashes_per_second * block_seconds / HASHES_PER_DIFFICULTY;
    difficulty.max(node::simulated::DIFFICULTY_MIN)
}

/// Starts everything, shows it until the time is over, and takes the last figures.
async fn show(
    plan: &Plan,
    config: &Config,
    asked: Signals,
    progress: &mut Progress,
) -> Result<Outcome, Stop> {
    let nothing_kept = Inherited::default();
    let surroundings =
        Surroundings { state: None, logs: None, inherited: nothing_kept, keeper: &mut NoKeeper };
    let Open { farm, chain, pages } = run::open(config, surroundings).await?;
    let node = chain.ok_or_else(|| Stop::internal("the demo's node is not simulated"))?;
    work(&farm).await?;
    let fleet = plan.fleet(&farm)?;
    progress.line(&format!(
        "{} miners, {:.1} million hashes/s on {} threads; a block about every {:.1} s",
        plan.miners,
        plan.hashes_per_second / 1e6,
        plan.threads,
        plan.block_seconds,
    ));
    progress.line(&format!("see http://{pages}/ while it runs"));
    watch(plan, &fleet, &node, asked, progress).await;
    let stats = tokio::task::spawn_blocking(move || fleet.stop()).await.map_err(Stop::internal)?;
    let drained = run::drained(&farm).await;
    let facts = Facts::of(&stats, &node);
    progress.end();
    Ok(judge(stats, &facts, node.stats().rejected, drained))
}

/// Waits for the first job, so that the miners' time is not spent on making the chain.
async fn work(farm: &Running) -> Result<(), Stop> {
    let wanted = async {
        let mut look = interval(WORK_EVERY);
        while farm.status().job.is_none() {
            look.tick().await;
        }
    };
    let waited = tokio::time::timeout(WORK_LIMIT, wanted).await;
    waited.map_err(|_| Stop::internal("the simulated node gave no work"))
}

/// Shows the figures until the time is over or somebody interrupts.
async fn watch(
    plan: &Plan,
    fleet: &Fleet,
    node: &Control,
    mut asked: Signals,
    progress: &mut Progress,
) {
    let started = Instant::now();
    let end = Duration::from_secs(u64::from(plan.seconds));
    let mut pace = Pace::new(plan.hashes_per_second, started);
    let mut look = interval(progress.every());
    look.set_missed_tick_behavior(MissedTickBehavior::Delay);
    loop {
        tokio::select! {
            asked = asked.recv() => match asked {
                Some(Asked::End) | None => return,
                Some(Asked::Reload | Asked::Upgrade) => {}
            },
            _ = look.tick() => {
                let stats = fleet.stats();
                let facts = Facts::of(&stats, node);
                let elapsed = started.elapsed();
                progress.show(elapsed.min(end), end, &facts);
                if let Some(rate) = pace.corrected(Instant::now(), stats.hashes) {
                    // A chain that cannot follow only finds blocks more or less often.
                    let _ = node.set_difficulty(block_difficulty(rate, plan.block_seconds));
                }
                let complete = facts.blocks > 0 && stats.without_share() == 0;
                if elapsed >= end && (complete || elapsed >= end + GRACE) {
                    return;
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn difficulties_follow_from_the_hash_rate() {
        let plan = Plan::of(8, 60, 2, 20e6);
        let block_seconds = plan.block_difficulty * HASHES_PER_DIFFICULTY / 20e6;
        assert!((block_seconds - 5.0).abs() < 1e-9, "{block_seconds}");
        assert!((plan.block_difficulty / plan.share_difficulty - 100.0).abs() < 1e-9);
        plan.config().expect("a good file");
    }

    #[test]
    fn many_miners_in_a_short_time_get_easier_shares() {
        let plan = Plan::of(500, 20, 2, 20e6);
        let shares = 20e6 / (plan.share_difficulty * HASHES_PER_DIFFICULTY) * 20.0;
        assert!((shares - 2_000.0).abs() < 1e-6, "{shares}");
        assert!(plan.share_difficulty < plan.block_difficulty);
        plan.config().expect("a good file");
    }

    #[test]
    fn a_slow_machine_never_asks_for_less_than_there_is() {
        let plan = Plan::of(10_000, 1, 1, 1.0);
        assert_eq!(plan.share_difficulty, node::simulated::DIFFICULTY_MIN);
        plan.config().expect("a good file");
    }
}
