//! What the engine is told when it starts, and why it may not start. `ops` fills it from the
//! configuration file, `perf` and the tests by hand; nothing here reads a file.

use std::fmt;
use std::io;
use std::net::SocketAddr;
use std::sync::Arc;

use farm::NoWork;
use farm::extranonce::SpaceError;
use pow::{Difficulty, Kernel};
use session::{Pace, Remembered};
use shard::admission::AllowList;
use uring::{Pretend, UringError};

/// Which kind of thread hosts a shard. The data plane is the same.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Host {
    /// A pinned glommio executor whose one task blocks in the shard's ring.
    Glommio,
    /// A bare pinned thread, for tests and comparison.
    Thread,
}

/// An address on which every shard listens.
#[derive(Debug, Clone)]
pub struct Listen {
    /// Where; port 0 takes a free port, see [`crate::Engine::local_addrs`].
    pub address: SocketAddr,
    /// Who may connect there.
    pub allow: AllowList,
    /// Who of them must begin with a PROXY header, whose address then counts as the miner's; nobody
    /// else may begin with one.
    pub proxy_from: AllowList,
}

/// Everything the engine starts from.
#[derive(Debug, Clone)]
pub struct EngineConfig {
    /// Where miners connect; at least one.
    pub listen: Vec<Listen>,
    /// Number of shards; 0 = one for each core but the coordinator's, at least one.
    pub shards: usize,
    /// The cores to use; empty = all that this process may use. The last is the coordinator's.
    pub cores: Vec<usize>,
    /// What hosts a shard.
    pub host: Host,
    /// Whether a busy shard lets followers gather, where the kernel can.
    pub gather: bool,
    /// The SHA-256 kernel of every share.
    pub kernel: Kernel,
    /// Connections at most, over all shards.
    pub connections_max: usize,
    /// Connections at most that are not authorized yet, shared evenly between the shards.
    pub unauthenticated_max: usize,
    /// Of these, connections from one source address at most, counted per shard.
    pub per_source_max: usize,
    /// Shares of one miner remembered against repetition.
    pub fingerprints_max: usize,
    /// The difficulty of a miner nobody knows yet.
    pub start_difficulty: Difficulty,
    /// Whether a miner whose class is known starts where its class does instead.
    pub start_by_class: bool,
    /// The shares that each miner should send, which difficulties are made to follow.
    pub wished_pace: Option<Pace>,
    /// No miner's difficulty goes below it.
    pub minimum_difficulty: Difficulty,
    /// No miner's difficulty goes above it.
    pub maximum_difficulty: Difficulty,
    /// Where workers had settled in an earlier life of the farm, oldest first.
    pub remembered: Arc<[Remembered]>,
    /// Bytes of the miner's fixed extranonce1, 1 to 4.
    pub extranonce1_size: u8,
    /// Bytes that a miner may roll.
    pub extranonce2_size: u8,
    /// Version bits that miners may roll.
    pub version_mask: u32,
    /// scriptPubKey that gets the whole value of a block.
    pub payout_script: Vec<u8>,
    /// Bytes in the coinbase that say who made the block.
    pub signature: Vec<u8>,
    /// The nodes that found blocks go to, as many as the line's other end has; at least one.
    pub nodes: usize,
    /// What becomes of the miners when there is no work.
    pub no_work: NoWork,
    /// Number of the first job, above all that an earlier life of the farm gave out; at least 1.
    pub first_job: u32,
    /// A secret random number: session ids and fingerprints are keyed with it.
    pub seed: u64,
    /// What a test wants the kernel to lack.
    pub pretend: Pretend,
}

impl EngineConfig {
    /// The defaults, with what has none: where to listen, who is paid, and the random seed.
    pub fn new(listen: Vec<Listen>, payout_script: Vec<u8>, seed: u64) -> EngineConfig {
        EngineConfig {
            listen,
            shards: 0,
            cores: Vec::new(),
            host: Host::Glommio,
            gather: true,
            kernel: Kernel::detect(),
            connections_max: 20_000,
            unauthenticated_max: 20_000,
            per_source_max: 20_000,
            fingerprints_max: 4_096,
            start_difficulty: Difficulty::new(16_384.0).expect("a positive number"),
            start_by_class: true,
            wished_pace: Pace::per_minute(12.0),
            minimum_difficulty: Difficulty::new(1e-18).expect("a positive number"),
            maximum_difficulty: Difficulty::new(1e18).expect("a positive number"),
            remembered: Arc::default(),
            extranonce1_size: 4,
            extranonce2_size: 4,
            version_mask: 0x1fff_e000,
            payout_script,
            signature: Vec::new(),
            nodes: 1,
            no_work: NoWork::Release,
            first_job: 1,
            seed,
            pretend: Pretend::default(),
        }
    }
}

/// Why the engine did not start. Every text names what to change.
#[derive(Debug)]
pub enum StartError {
    /// The configuration's fault: there is no address to listen on.
    NoListener,
    /// The configuration's fault: this process may not use that core.
    Core {
        /// The core that was asked for.
        core: usize,
        /// The cores that this process may use.
        allowed: Vec<usize>,
    },
    /// The configuration's fault: more shards than make sense.
    Shards {
        /// How many were asked for.
        asked: usize,
    },
    /// The configuration's fault: the extranonce sizes do not work.
    Extranonce(SpaceError),
    /// The host's fault: somebody else listens there.
    PortTaken {
        /// Where we wanted to listen.
        address: SocketAddr,
    },
    /// The host's fault: the address cannot be listened on.
    Listen {
        /// Where we wanted to listen.
        address: SocketAddr,
        /// What the kernel said.
        error: io::Error,
    },
    /// The host's fault: no ring for a shard.
    Ring(UringError),
    /// The host's fault: glommio could not start an executor.
    Executor(String),
    /// The host's fault: anything else that the kernel refused.
    Os {
        /// What was tried.
        what: &'static str,
        /// What the kernel said.
        error: io::Error,
    },
    /// Our fault: a thread ended while it was starting.
    ThreadEnded(String),
}

impl fmt::Display for StartError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            StartError::NoListener => f.write_str("there is no address to listen on"),
            StartError::Core { core, allowed } => {
                write!(f, "core {core} is not among those that this process may use: {allowed:?}")
            }
            StartError::Shards { asked } => {
                write!(f, "{asked} shards are more than {}", crate::SHARDS_MAX)
            }
            StartError::Extranonce(error) => write!(f, "the extranonce sizes do not work: {error}"),
            StartError::PortTaken { address } => {
                write!(
                    f,
                    "{address} is taken: another process listens there; stop it or change \
                     [listen] address"
                )
            }
            StartError::Listen { address, error } => {
                write!(f, "cannot listen on {address}: {error}")
            }
            StartError::Ring(error) => write!(f, "{error}"),
            StartError::Executor(error) => {
                write!(
                    f,
                    "cannot start an executor: {error}; if it is about locked memory, raise \
                     LimitMEMLOCK= (ulimit -l) to 2 MiB a shard"
                )
            }
            StartError::Os { what, error } => write!(f, "{what} failed: {error}"),
            StartError::ThreadEnded(name) => {
                write!(f, "the thread {name} ended while it was starting: please report it")
            }
        }
    }
}

impl std::error::Error for StartError {}
