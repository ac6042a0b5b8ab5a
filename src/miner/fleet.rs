//! The handle of a running fleet: start it, look at it, stop it.

use std::fmt;
use std::io;
use std::net::SocketAddr;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::sync_channel;
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::{self, JoinHandle};

use mio::{Poll, Waker};
use pow::Kernel;

use crate::hash;
use crate::io::{Io, Shared, WAKER};
use crate::schedule::Schedule;
use crate::stats::{Stats, Tally};

/// Most connections of one fleet: the descriptors of one process allow no more, with the server
/// in the same one.
pub const CONNECTIONS_MAX: usize = 9_000;
/// Most hash threads: more than the cores of any machine.
pub const THREADS_MAX: usize = 1_024;
/// Finds on their way to the IO thread; a hash thread waits when it is full.
const FINDS_QUEUED_MAX: usize = 4_096;

/// What a fleet is like.
#[derive(Clone, Debug)]
pub struct FleetConfig {
    /// Where the server listens.
    pub address: SocketAddr,
    /// Miners, each with a connection of its own.
    pub connections: usize,
    /// Hash threads; at most as many as there are cores makes sense.
    pub threads: usize,
    /// A miner's user name is this and its number: `demo.0`, `demo.1` …
    pub user_prefix: String,
    /// Decides nonces and the jitter of reconnects.
    pub seed: u64,
    /// How this processor hashes.
    pub kernel: Kernel,
}

/// Why a fleet did not start.
#[derive(Debug)]
pub enum FleetError {
    /// No connection, or more than [`CONNECTIONS_MAX`]: the caller's fault.
    Connections(usize),
    /// No thread, or more than [`THREADS_MAX`]: the caller's fault.
    Threads(usize),
    /// The host lacks descriptors or threads.
    Host(io::Error),
}

/// A running fleet. Dropping it stops it as [`Fleet::stop`] does.
pub struct Fleet {
    schedule: Arc<Schedule>,
    tally: Arc<Mutex<Tally>>,
    stopping: Arc<AtomicBool>,
    waker: Arc<Waker>,
    hashers: Vec<JoinHandle<()>>,
    io: Option<JoinHandle<io::Result<()>>>,
}

impl Fleet {
    /// Starts the threads, which connect, subscribe, authorize and mine from then on.
    ///
    /// # Errors
    /// A number is outside its limits, or the host has no more threads or descriptors.
    pub fn start(config: FleetConfig) -> Result<Fleet, FleetError> {
        if !(1..=CONNECTIONS_MAX).contains(&config.connections) {
            return Err(FleetError::Connections(config.connections));
        }
        if !(1..=THREADS_MAX).contains(&config.threads) {
            return Err(FleetError::Threads(config.threads));
        }
        let poll = Poll::new().map_err(FleetError::Host)?;
        let waker = Arc::new(Waker::new(poll.registry(), WAKER).map_err(FleetError::Host)?);
        let (finds_in, finds) = sync_channel(FINDS_QUEUED_MAX);
        let mut fleet = Fleet {
            schedule: Arc::new(Schedule::new(config.connections, config.seed)),
            tally: Arc::new(Mutex::new(Tally::new(config.connections))),
            stopping: Arc::new(AtomicBool::new(false)),
            waker,
            hashers: Vec::new(),
            io: None,
        };
        let shared = Shared {
            schedule: fleet.schedule.clone(),
            tally: fleet.tally.clone(),
            finds,
            stopping: fleet.stopping.clone(),
        };
        let prefix = config.user_prefix;
        let users = (0..config.connections).map(|number| format!("{prefix}.{number}"));
        let mut io = Io::new(poll, config.address, users, config.seed, shared);
        let io = spawn("miner-io".into(), move || io.run())?;
        fleet.io = Some(io);
        for number in 0..config.threads {
            let (schedule, finds) = (fleet.schedule.clone(), finds_in.clone());
            let waker = fleet.waker.clone();
            let hasher = move || {
                // A lost wake delays a share until the next event, nothing worse.
                let wake = || drop(waker.wake());
                hash::run(config.kernel, &schedule, &finds, &wake);
            };
            fleet.hashers.push(spawn(format!("miner-hash-{number}"), hasher)?);
        }
        Ok(fleet)
    }

    /// What the fleet has done so far.
    pub fn stats(&self) -> Stats {
        let tally = self.tally.lock().unwrap_or_else(PoisonError::into_inner);
        tally.snapshot(self.schedule.hashes())
    }

    /// Stops hashing, waits up to two seconds for the replies that are due, closes, and returns
    /// the last figures.
    pub fn stop(mut self) -> Stats {
        self.halt();
        self.stats()
    }

    fn halt(&mut self) {
        self.schedule.stop();
        for hasher in self.hashers.drain(..) {
            // A hash thread that panicked has printed why; the figures stand.
            let _ = hasher.join();
        }
        self.stopping.store(true, Ordering::Release);
        let _ = self.waker.wake();
        if let Some(io) = self.io.take() {
            let _ = io.join();
        }
    }
}

impl Drop for Fleet {
    fn drop(&mut self) {
        self.halt();
    }
}

fn spawn<T: Send + 'static>(
    name: String,
    run: impl FnOnce() -> T + Send + 'static,
) -> Result<JoinHandle<T>, FleetError> {
    thread::Builder::new().name(name).spawn(run).map_err(FleetError::Host)
}

impl fmt::Debug for Fleet {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Fleet").finish_non_exhaustive()
    }
}

impl fmt::Display for FleetError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            FleetError::Connections(count) => {
                write!(f, "{count} miners: 1 to {CONNECTIONS_MAX} are possible")
            }
            FleetError::Threads(count) => {
                write!(f, "{count} hash threads: 1 to {THREADS_MAX} are possible")
            }
            FleetError::Host(error) => write!(f, "the miners cannot be started: {error}"),
        }
    }
}

impl std::error::Error for FleetError {}
