//! The configuration, in two stages: `RawConfig` is the file as it was written, `Config` cannot
//! be wrong. `keys` is the one table behind both and behind the sample; `fault` is what is said
//! when a file is refused. Called by `run`, `check` and `demo`.

mod alerts;
mod fault;
mod keys;
mod meaning;
pub(crate) mod payout;
mod places;
mod raw;
mod sample;
mod source;
mod value;

use std::fs::File;
use std::io::Read;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};

pub use alerts::{Alerts, Webhook};
pub use fault::Faults;
pub use places::{Places, Spot};
pub use sample::sample;
use shard::AllowList;
pub use source::{Bitcoind, Login, NodeConfig, Nodes, Secret};

/// More than any farm's file; a larger one is not a configuration.
const FILE_BYTES_MAX: u64 = 1 << 20;

/// Where `run` and `check` look when no file is named, in this order.
pub const SEARCHED: [&str; 2] = ["headframe.toml", "/etc/headframe/headframe.toml"];

/// What the daemon is to do. Every value is within its limits and they agree with each other.
#[derive(Clone, Debug, PartialEq)]
pub struct Config {
    /// Where miners connect: at least one.
    pub listen: Vec<Listen>,
    /// The state folder, if the file names one.
    pub state_directory: Option<PathBuf>,
    /// The threads that serve miners.
    pub shards: Shards,
    /// The difficulty of shares.
    pub difficulty: Difficulty,
    /// What happens to miners when there is no work.
    pub no_work: NoWork,
    /// Where work comes from and where blocks go to.
    pub node: NodeConfig,
    /// Who is paid for a block.
    pub payout: Payout,
    /// The page, health, metrics and the API.
    pub http: SocketAddr,
    /// What is logged, and how.
    pub log: Log,
    /// Who hears of blocks and of silent miners.
    pub alerts: Alerts,
    /// What bounds memory.
    pub limits: Limits,
}

/// One `[[listen]]`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Listen {
    /// At least one; port 0 takes a free one.
    pub addresses: Vec<SocketAddr>,
    /// Who may connect.
    pub allow: AllowList,
    /// Who must begin a connection with a PROXY header; usually nobody.
    pub proxy_from: AllowList,
    /// Bytes that a miner may roll in the coinbase.
    pub extranonce2_size: u8,
}

/// `[shards]`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Shards {
    /// 0: every core but the coordinator's.
    pub count: usize,
    /// The cores to pin shards to; empty: all that this process may use.
    pub cores: Vec<usize>,
    /// Whether requests may gather before a wake, where the kernel can.
    pub gather: bool,
    /// Which kind of thread hosts a shard.
    pub host: Host,
    /// A SHA-256 kernel by name; none: the fastest for this CPU.
    pub kernel: Option<String>,
}

/// Which kind of thread hosts a shard.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Host {
    /// A pinned glommio executor whose one task blocks in the shard's ring.
    Glommio,
    /// A bare pinned thread.
    Thread,
}

/// `[difficulty]`: minimum ≤ start ≤ maximum.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Difficulty {
    /// What each miner should send.
    pub shares_per_minute: f64,
    /// What a new miner gets.
    pub start: f64,
    /// Whether a miner of a known class gets its class's start instead: nobody chose another.
    pub start_by_class: bool,
    /// Never easier.
    pub minimum: f64,
    /// Never harder.
    pub maximum: f64,
}

/// `[payout]`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Payout {
    /// The output script; none: the simulated node's own.
    pub script: Option<Vec<u8>>,
    /// Bytes in the coinbase after the extranonce.
    pub signature: Vec<u8>,
}

/// What happens to miners when there has been no work for a while.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum NoWork {
    /// They are let go, so that they use their own other pools.
    Release,
    /// They are kept.
    Park,
}

/// `[log]`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Log {
    /// Nothing finer is logged.
    pub level: tracing::Level,
    /// Text or JSON lines.
    pub format: Format,
}

/// How a log line looks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Format {
    /// For people.
    Text,
    /// One JSON object per line.
    Json,
    /// Fields of the systemd journal.
    Journald,
}

/// `[limits]`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Limits {
    /// Miners in all; none: what the limit of open files allows, at most `CONNECTIONS_DEFAULT`.
    pub connections: Option<usize>,
    /// Of these, connections that are not authorized yet; none: half of them, so that strangers
    /// never take the places of the miners that are here.
    pub unauthenticated: Option<usize>,
    /// Of those, connections from one source address; none: no limit of its own.
    pub per_source: Option<usize>,
    /// Shares remembered per miner, against duplicates.
    pub fingerprints: usize,
    /// Workers that have metrics of their own.
    pub worker_series: usize,
}

/// Two and a half times the farm that one process was sized and measured for: the memory of their
/// slots is only taken when they are there.
pub const CONNECTIONS_DEFAULT: usize = 50_000;

/// Open files beside the miners: rings, lanes, listeners, pages, logs, and some to spare.
pub const FILES_BESIDE_CONNECTIONS: usize = 1_000;

impl Config {
    /// Reads the file at `path`, or the first of `SEARCHED` that exists.
    pub fn load(path: Option<&Path>) -> Result<(Config, Places), Faults> {
        let path = match path {
            Some(path) => path.to_owned(),
            None => {
                let searched: Vec<PathBuf> = SEARCHED.iter().map(PathBuf::from).collect();
                let found = searched.iter().find(|path| path.exists()).cloned();
                found.ok_or_else(|| Faults::not_found(&searched))?
            }
        };
        Config::parse(&path, &read(&path)?)
    }

    /// Bytes that a miner may roll: one number for the farm in this version.
    pub fn extranonce2_size(&self) -> u8 {
        self.listen.first().map_or(4, |listen| listen.extranonce2_size)
    }

    /// Reads `text`; `path` is only named in findings.
    pub fn parse(path: &Path, text: &str) -> Result<(Config, Places), Faults> {
        let mut faults = Vec::new();
        let raw = raw::RawConfig::read(text, &mut faults);
        // A document that is not TOML has no meaning to look for.
        let broken = !faults.is_empty() && raw.is_empty();
        let config = if broken { None } else { meaning::config(&raw, &mut faults) };
        match config {
            Some(config) if faults.is_empty() => Ok((config, Places::of(path, text, &raw))),
            _ => Err(Faults::within(path, text, faults)),
        }
    }
}

/// The whole file as text, with the reason in words where that cannot be had.
fn read(path: &Path) -> Result<String, Faults> {
    let of_file = |what: String, remedy: &str| Err(Faults::of_file(path, what, remedy));
    let mut file = match File::open(path) {
        Ok(file) => file,
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => {
            return of_file(
                "there is no such file".to_owned(),
                "name another with --config, or write one with `headframe generate config`",
            );
        }
        Err(error) => {
            return of_file(
                format!("the file cannot be opened: {error}"),
                "make it readable for the user that runs headframe",
            );
        }
    };
    if file.metadata().is_ok_and(|metadata| metadata.is_dir()) {
        return of_file("this is a directory".to_owned(), "name the file inside it");
    }
    let mut bytes = Vec::new();
    if let Err(error) = (&mut file).take(FILE_BYTES_MAX + 1).read_to_end(&mut bytes) {
        return of_file(format!("the file cannot be read: {error}"), "name another with --config");
    }
    if bytes.len() as u64 > FILE_BYTES_MAX {
        return of_file(
            format!("the file is larger than {FILE_BYTES_MAX} bytes"),
            "name a headframe configuration; no real one is that large",
        );
    }
    String::from_utf8(bytes).map_err(|error| {
        let offset = error.utf8_error().valid_up_to();
        let text = String::from_utf8_lossy(error.as_bytes()).into_owned();
        let fault = fault::Fault::new(offset, "the file is not UTF-8 text", "save it as UTF-8");
        Faults::within(path, &text, vec![fault])
    })
}

#[cfg(test)]
mod tests;
