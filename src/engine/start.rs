//! The engine: starts its threads in order, and is the handle by which `ops` looks at them and
//! stops them. It owns no data of the shards and never waits for one of them, except to end.

use std::cell::RefCell;
use std::net::SocketAddr;
use std::os::fd::OwnedFd;
use std::sync::Arc;
use std::sync::mpsc::{self, Receiver, RecvTimeoutError, Sender, channel};
use std::time::{Duration, Instant};

use farm::blocks::RetryPolicy;
use farm::coordinator::TEMPLATE_SILENCE_MICROS;
use farm::extranonce::ShardIndex;
use farm::jobs::JobSettings;
use farm::ledger::WorkerStatus;
use farm::messages::MinerRow;
use farm::{Coordinator, CoordinatorSettings, Status};
use nix::sys::signal::{SigSet, SigmaskHow};
use node::NodeLink;
use session::{Settings, Tick};
use shard::{AdmissionSettings, Counters, ShardSettings, Total};

use crate::config::{EngineConfig, Host, StartError};
use crate::coordinator::{self, Board, Command, Desk, Miners};
use crate::kept::{Inherited, Keeper, Listeners, NoKeeper};
use crate::lanes::{Bell, BlocksUnderWay, CoordinatorEnd, LaneStatus, Line};
use crate::placement::Placement;
use crate::plane::{Berth, Ready};
use crate::pulse::Pulse;
use crate::{clock, host_glommio, host_thread};

/// How long a thread may take to say that it runs: rings and executors are made in milliseconds.
const START_LIMIT: Duration = Duration::from_secs(10);

/// Send buffers that a shard makes beforehand: those of its busiest turns.
const BUFFERS_RESERVED: usize = 256;

/// The farm at work: shards, coordinator, and the line to the node. Dropping it stops everything
/// at once; [`Engine::drain`] first lets the miners go in order.
pub struct Engine {
    addresses: Vec<SocketAddr>,
    placement: Placement,
    gathers: bool,
    counters: Vec<Arc<Counters>>,
    lines: Vec<Arc<Line>>,
    bell: Arc<Bell>,
    commands: Sender<Command>,
    board: Arc<Board>,
    shards: Vec<Join>,
    coordinator: Option<Join>,
    _pulse: Pulse,
}

/// Waits for a thread's end; whether it ended in order.
type Join = Box<dyn FnOnce() -> bool + Send + Sync>;

/// Why there is no list of miners or workers.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ListError {
    /// The coordinator did not answer in time.
    Timeout,
    /// Too many lists are being made.
    Busy,
    /// The engine has stopped.
    Stopped,
}

impl std::fmt::Display for ListError {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            ListError::Timeout => "the list was not complete in time",
            ListError::Busy => "other lists are being made: try again later",
            ListError::Stopped => "the engine has stopped",
        })
    }
}

impl std::error::Error for ListError {}

impl Engine {
    /// Binds the listeners, then starts the coordinator and the shards, each on its core. When it
    /// returns, every shard accepts.
    ///
    /// # Errors
    /// Whose fault it is and what to change; nothing runs then.
    pub fn start(config: EngineConfig, node: NodeLink) -> Result<Engine, StartError> {
        Engine::start_again(config, node, Inherited::default(), &mut NoKeeper)
    }

    /// Starts with the listeners of an earlier process, as far as they are still wanted, and gives
    /// all to a keeper for the next one.
    ///
    /// # Errors
    /// As [`Engine::start`].
    pub fn start_again(
        config: EngineConfig,
        node: NodeLink,
        inherited: Inherited,
        keeper: &mut dyn Keeper,
    ) -> Result<Engine, StartError> {
        let placement = Placement::choose(config.shards, &config.cores)?;
        if placement.crowded {
            tracing::warn!(
                shards = placement.shards.len(),
                "more shards than cores of their own: they share cores and gain nothing"
            );
        }
        let shards = placement.shards.len();
        let listeners = Listeners::open(&config.listen, shards, inherited, keeper)?;
        let addresses = listeners.addresses.clone();
        // Every thread from here on inherits the mask: signals are the ops thread's alone.
        let _blocked = SignalsBlocked::new()?;
        let bell = Bell::awaited().map_err(bell_failed)?;
        let mut engine = Engine::start_coordinator(&config, placement, addresses, bell, node)?;
        // An error drops the engine, which ends what was started.
        engine.start_shards(&config, listeners)?;
        Ok(engine)
    }

    fn start_coordinator(
        config: &EngineConfig,
        placement: Placement,
        addresses: Vec<SocketAddr>,
        bell: Bell,
        node: NodeLink,
    ) -> Result<Engine, StartError> {
        let bell = Arc::new(bell);
        let settings = coordinator_settings(config);
        let mut farm = Coordinator::new(settings, config.kernel, clock::now())
            .map_err(StartError::Extranonce)?;
        farm.remember(config.remembered.iter().cloned());
        let blocks = Arc::new(BlocksUnderWay::default());
        let line = || Line::new(bell.clone(), blocks.clone()).map(Arc::new);
        let lines = placement.shards.iter().map(|_| line());
        let lines: Vec<Arc<Line>> = lines.collect::<Result<_, _>>().map_err(bell_failed)?;
        let ends = lines.iter().cloned().map(CoordinatorEnd::new).collect();
        let waker = bell.clone();
        node.set_waker(Arc::new(move || waker.ring()));
        let (commands, inbox) = channel();
        let (desk, board) = Desk::new(farm, ends, node, blocks.clone(), inbox);
        let rescue = Bell::awaited().map_err(bell_failed)?;
        let rescued = rescue.counter().map_err(bell_failed)?;
        let pulse = Pulse::start(bell.clone(), rescue)?;
        let thread = coordinator::start(placement.coordinator, desk, bell.clone(), rescued)?;
        Ok(Engine {
            addresses,
            gathers: true,
            counters: placement.shards.iter().map(|_| counters_from_now()).collect(),
            placement,
            lines,
            bell,
            commands,
            board,
            shards: Vec::new(),
            coordinator: Some(Box::new(move || thread.join().is_ok())),
            _pulse: pulse,
        })
    }

    fn start_shards(
        &mut self,
        config: &EngineConfig,
        listeners: Listeners,
    ) -> Result<(), StartError> {
        let (started, ready) = channel();
        let total = Arc::new(Total::default());
        let Listeners { sockets, mut waiting, .. } = listeners;
        let each = waiting.len().div_ceil(sockets.len());
        for (index, sockets) in sockets.into_iter().enumerate() {
            let berth = self.berth(config, index, sockets, total.clone());
            let rest = waiting.split_off(each.min(waiting.len()));
            berth.waiting.replace(std::mem::replace(&mut waiting, rest));
            let started = started.clone();
            let join: Join = match config.host {
                Host::Glommio => {
                    let thread = host_glommio::start(berth, started)?;
                    Box::new(move || thread.join().is_ok())
                }
                Host::Thread => {
                    let thread = host_thread::start(berth, started)?;
                    Box::new(move || thread.join().is_ok())
                }
            };
            self.shards.push(join);
        }
        drop(started);
        for _ in 0..self.shards.len() {
            self.gathers &= hear(&ready)?.gathers;
        }
        if config.gather && !self.gathers {
            tracing::warn!("this kernel cannot let followers gather (Linux 6.12): plain waits");
        }
        Ok(())
    }

    fn berth(
        &self,
        config: &EngineConfig,
        index: usize,
        listeners: Vec<OwnedFd>,
        total: Arc<Total>,
    ) -> Berth {
        let number = u16::try_from(index).expect("at most SHARDS_MAX");
        Berth {
            index: number,
            core: self.placement.shards[index],
            listeners,
            settings: shard_settings(config, number, self.placement.shards.len()),
            waiting: RefCell::default(),
            remembered: config.remembered.clone(),
            total,
            kernel: config.kernel,
            gather: config.gather,
            pretend: config.pretend.clone(),
            line: self.lines[index].clone(),
            counters: self.counters[index].clone(),
        }
    }

    /// Where miners connect, in the order of the configuration, with the ports that were taken.
    pub fn local_addrs(&self) -> &[SocketAddr] {
        &self.addresses
    }

    /// Which thread runs on which core.
    pub fn placement(&self) -> &Placement {
        &self.placement
    }

    /// Whether busy shards let followers gather: it is wanted and the kernel can.
    pub fn gathers(&self) -> bool {
        self.gathers
    }

    /// What each shard counts, in the order of the shards.
    pub fn counters(&self) -> &[Arc<Counters>] {
        &self.counters
    }

    /// How full each shard's lanes are, in the order of the shards.
    pub fn lanes(&self) -> Vec<LaneStatus> {
        self.lines.iter().map(|line| line.status()).collect()
    }

    /// The farm at a recent moment, at most about a second ago.
    pub fn status(&self) -> Arc<Status> {
        self.board.status()
    }

    /// When the coordinator took its newest turn: the pulse wakes it once a second, so an old
    /// moment means that it hangs, and that [`Engine::status`] is of that moment.
    pub fn coordinator_heartbeat(&self) -> Tick {
        self.board.heartbeat()
    }

    /// Every connection, with its shard. The shards answer between their turns; nobody waits for
    /// this but the caller.
    ///
    /// # Errors
    /// When the list was not complete within `limit`, or could not be begun.
    pub fn list_miners(&self, limit: Duration) -> Result<Vec<(ShardIndex, MinerRow)>, ListError> {
        let deadline = Instant::now() + limit;
        let (asker, answers) = channel();
        self.command(Command::ListMiners(asker))?;
        let mut all = Vec::new();
        loop {
            match receive(&answers, deadline)? {
                Miners::Busy => return Err(ListError::Busy),
                Miners::Rows(rows, done) => {
                    let known = |(shard, row): (Option<ShardIndex>, _)| Some((shard?, row));
                    all.extend(rows.into_iter().filter_map(known));
                    if done {
                        return Ok(all);
                    }
                }
            }
        }
    }

    /// Every worker's account.
    ///
    /// # Errors
    /// When the coordinator did not answer within `limit`.
    pub fn list_workers(&self, limit: Duration) -> Result<Vec<WorkerStatus>, ListError> {
        let deadline = Instant::now() + limit;
        let (mut all, mut next) = (Vec::new(), Some(0));
        while let Some(from) = next {
            let (asker, answers) = channel();
            self.command(Command::ListWorkers(from, asker))?;
            let (rows, more) = receive(&answers, deadline)?;
            all.extend(rows);
            next = more;
        }
        Ok(all)
    }

    /// Stops accepting, lets every shard answer what was read and close its connections, and waits
    /// for the node's word on every block. True if all of that was done within `limit`.
    pub fn drain(&self, limit: Duration) -> bool {
        let until = Instant::now() + limit;
        self.command(Command::Drain).is_ok() && self.board.wait_drained(until)
    }

    /// Ends every thread. True if none of them had panicked.
    pub fn stop(mut self) -> bool {
        self.end()
    }

    fn command(&self, command: Command) -> Result<(), ListError> {
        self.commands.send(command).map_err(|_| ListError::Stopped)?;
        self.bell.ring();
        Ok(())
    }

    fn end(&mut self) -> bool {
        self.lines.iter().for_each(|line| line.stop());
        let mut orderly = true;
        for join in self.shards.drain(..) {
            orderly &= join();
        }
        if let Some(join) = self.coordinator.take() {
            // It cannot have ended before, unless by a panic, which `join` tells.
            let _ = self.command(Command::Stop);
            orderly &= join();
        }
        orderly
    }
}

impl Drop for Engine {
    fn drop(&mut self) {
        self.end();
    }
}

impl std::fmt::Debug for Engine {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let Engine { addresses, placement, .. } = self;
        write!(f, "Engine({addresses:?}, {placement:?})")
    }
}

fn coordinator_settings(config: &EngineConfig) -> CoordinatorSettings {
    CoordinatorSettings {
        jobs: JobSettings {
            payout_script: config.payout_script.clone(),
            signature: config.signature.clone(),
            group_prefix: Vec::new(),
            extranonce1_size: config.extranonce1_size,
            extranonce2_size: config.extranonce2_size,
            version_mask: config.version_mask,
            first_number: config.first_job,
        },
        nodes: config.nodes,
        retry: RetryPolicy::default(),
        template_silence_micros: TEMPLATE_SILENCE_MICROS,
        no_work: config.no_work,
    }
}

fn shard_settings(config: &EngineConfig, index: u16, shards: usize) -> ShardSettings {
    ShardSettings {
        index,
        incarnation: 0,
        seed: config.seed,
        session: Settings {
            extranonce2_size: config.extranonce2_size,
            start_difficulty: config.start_difficulty,
            start_by_class: config.start_by_class,
            wished_pace: config.wished_pace,
            minimum_difficulty: config.minimum_difficulty,
            maximum_difficulty: config.maximum_difficulty,
            version_mask: config.version_mask,
            fingerprints_max: config.fingerprints_max,
            ..Settings::default()
        },
        admission: AdmissionSettings {
            allow: config.listen.iter().map(|listen| listen.allow.clone()).collect(),
            proxy_from: config.listen.iter().map(|listen| listen.proxy_from.clone()).collect(),
            connections_max: config.connections_max,
            per_source_max: config.per_source_max,
            unauthenticated_max: config.unauthenticated_max.div_ceil(shards),
        },
        buffers_reserved: BUFFERS_RESERVED,
    }
}

fn hear(ready: &Receiver<Result<Ready, StartError>>) -> Result<Ready, StartError> {
    ready.recv_timeout(START_LIMIT).unwrap_or_else(|error| {
        let silent = matches!(error, mpsc::RecvTimeoutError::Timeout);
        let what = if silent { "of a shard (silent)" } else { "of a shard" };
        Err(StartError::ThreadEnded(what.to_owned()))
    })
}

fn receive<T>(answers: &Receiver<T>, deadline: Instant) -> Result<T, ListError> {
    let limit = deadline.saturating_duration_since(Instant::now());
    answers.recv_timeout(limit).map_err(|error| match error {
        RecvTimeoutError::Timeout => ListError::Timeout,
        RecvTimeoutError::Disconnected => ListError::Stopped,
    })
}

fn bell_failed(error: impl Into<std::io::Error>) -> StartError {
    StartError::Os { what: "making an event counter", error: error.into() }
}

/// Blocks all signals on this thread, and so on every thread that it starts, until dropped.
struct SignalsBlocked(SigSet);

impl SignalsBlocked {
    fn new() -> Result<SignalsBlocked, StartError> {
        let former = SigSet::all().thread_swap_mask(SigmaskHow::SIG_BLOCK);
        former.map(SignalsBlocked).map_err(|errno| StartError::Os {
            what: "blocking the signals of the engine's threads",
            error: errno.into(),
        })
    }
}

impl Drop for SignalsBlocked {
    fn drop(&mut self) {
        // It was this thread's mask before, so it is a valid one.
        let _ = self.0.thread_set_mask();
    }
}

/// A shard's counters, its heart beating from now on: it is not hung before its first turn.
fn counters_from_now() -> Arc<Counters> {
    let counters = Counters::default();
    counters.heartbeat_us.set(clock::now().as_micros());
    Arc::new(counters)
}

#[cfg(test)]
mod tests;
