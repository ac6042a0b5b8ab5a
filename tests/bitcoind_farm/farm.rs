//! The daemon on a real node and the miners that hash on it: what the tests of `bitcoind_farm`
//! share.

use std::env;
use std::net::SocketAddr;
use std::path::Path;
use std::sync::OnceLock;
use std::thread;
use std::time::{Duration, Instant};

use bitcoin::Block;
use bitcoin::consensus::encode::deserialize_hex;
use miner::{Fleet, FleetConfig, Stats, measure_hash_rate};
use pow::Kernel;
use regtest::Bitcoind;
use serde_json::{Value, json};

use crate::crowd::Crowd;
use crate::support::{Daemon, Home, LIMIT, get};

/// What stands in the coinbases of these farms.
pub(crate) const SIGNATURE: &str = "/farm-7/";
/// Shares a second where it does not matter: a few, for each is a block here.
pub(crate) const SHARES: f64 = 10.0;
/// Hashes behind one unit of difficulty.
const HASHES: f64 = 4_294_967_296.0;
/// The error code of a stale share: the only one that a miner who does all right may hear.
const STALE: i64 = 21;
/// The part of the harness's file that says where work comes from.
const SIMULATED: &str = "simulated = true\n[node.simulation]\ntransactions = 10\n\
    start_height = 110\n";

/// A file for a farm on the node at this URL, whose miners find `shares` a second between them.
/// On regtest every share is a block.
pub(crate) fn config(home: &Home, url: &str, cookie: &Path, payout: &str, shares: f64) -> String {
    let difficulty = hash_rate() / shares / HASHES;
    let node = format!("rpc = \"{url}\"\ncookie_file = {cookie:?}\nnetwork = \"regtest\"\n");
    let text = home.config(&format!(
        "[payout]\n{payout}\n[difficulty]\nstart = {difficulty:e}\nminimum = {difficulty:e}\n\
         maximum = {difficulty:e}\n[shards]\ncount = 1\n\
         [log]\nformat = \"json\"\n"
    ));
    assert!(text.contains(SIMULATED), "{text}");
    text.replace(SIMULATED, &node)
}

/// The same file with a backup for its node.
pub(crate) fn with_backup(text: &str, url: &str, cookie: &Path) -> String {
    let backup = format!("[[node.backup]]\nrpc = \"{url}\"\ncookie_file = {cookie:?}\n[payout]\n");
    text.replace("[payout]\n", &backup)
}

/// What one hash thread reaches here, in hashes per second.
fn hash_rate() -> f64 {
    static RATE: OnceLock<f64> = OnceLock::new();
    *RATE.get_or_init(|| measure_hash_rate(Kernel::detect(), 1, Duration::from_millis(200)))
}

/// A running daemon and its addresses.
pub(crate) struct Farm {
    daemon: Daemon,
    stratum: SocketAddr,
    pages: String,
}

impl Farm {
    /// Starts the daemon and waits until it has work.
    pub(crate) fn start(file: &Path) -> Farm {
        Farm::of(Daemon::start(file))
    }

    /// The same of a daemon that was started.
    pub(crate) fn of(mut daemon: Daemon) -> Farm {
        let stratum = daemon.wait_for_address("miners connect here");
        let pages = daemon.wait_for_address("pages are served here");
        daemon.until_ready(&pages);
        Farm { daemon, stratum: stratum.parse().expect("an address"), pages }
    }

    /// So many miners, for whom one thread hashes.
    pub(crate) fn fleet(&self, connections: usize) -> Fleet {
        let config = FleetConfig {
            address: self.stratum,
            connections,
            threads: 1,
            user_prefix: "farm".to_owned(),
            seed: 7,
            kernel: Kernel::detect(),
        };
        Fleet::start(config).expect("there are threads")
    }

    /// Listeners, who mine nothing.
    pub(crate) fn crowd(&self, count: usize) -> Crowd {
        Crowd::start(self.stratum, count)
    }

    pub(crate) fn is_ready(&self) -> bool {
        get(&self.pages, "/readyz").contains("\"ready\":true")
    }

    /// Waits until it is, and tells why it is not.
    pub(crate) fn until_ready(&self) {
        let since = Instant::now();
        while !self.is_ready() {
            assert!(since.elapsed() < LIMIT, "{}", get(&self.pages, "/readyz"));
        }
    }

    /// Blocks that an earlier process had left in the journal.
    pub(crate) fn restored(&self) -> u64 {
        self.page("/api/v1/status")["blocks"]["restored"].as_u64().expect("a number")
    }

    /// A page of the API.
    pub(crate) fn page(&self, path: &str) -> Value {
        let page = get(&self.pages, path);
        let (_, body) = page.split_once("\r\n\r\n").expect("a body");
        serde_json::from_str(body).expect("JSON")
    }

    /// The sum of a metric's samples.
    pub(crate) fn metric(&self, name: &str) -> f64 {
        let page = get(&self.pages, "/metrics");
        let lines = page.lines().filter(|line| line.starts_with(name));
        let values = lines.filter_map(|line| line.rsplit(' ').next());
        values.map(|value| value.parse::<f64>().expect("a number")).sum()
    }

    /// Ends the daemon as a power cut would.
    pub(crate) fn kill(mut self) {
        self.daemon.signal("KILL");
        assert_eq!(self.daemon.end(), None, "it was killed");
    }

    /// Ends it in order.
    pub(crate) fn end(mut self) {
        assert_eq!(self.metric("headframe_panics_total"), 0.0);
        self.daemon.signal("TERM");
        assert_eq!(self.daemon.end(), Some(0));
    }
}

/// Miners that do all right hear of nothing but stale shares.
pub(crate) fn assert_only_stale(stats: &Stats) {
    let strange: Vec<_> = stats.rejected.iter().filter(|(code, _)| **code != STALE).collect();
    assert!(strange.is_empty(), "{strange:?} of {stats:?}");
}

/// Waits for something that must come.
pub(crate) fn until(what: &str, mut is_so: impl FnMut() -> bool) {
    let since = Instant::now();
    while !is_so() {
        assert!(since.elapsed() < LIMIT, "still not: {what}");
        thread::park_timeout(Duration::from_micros(500));
    }
}

/// Waits for a moment, however far it is.
pub(crate) fn wait_for(moment: Instant) {
    let mut left = moment.saturating_duration_since(Instant::now());
    while !left.is_zero() {
        thread::park_timeout(left);
        left = moment.saturating_duration_since(Instant::now());
    }
}

/// The block of the main chain at a height.
pub(crate) fn block_at(node: &mut Bitcoind, height: u64) -> Block {
    let hash = node.rpc("getblockhash", json!([height]));
    let hex = node.rpc("getblock", json!([hash, 0]));
    deserialize_hex(hex.as_str().expect("hex")).expect("a block")
}

/// What the environment says, or this.
pub(crate) fn from_environment(name: &str, otherwise: u64) -> u64 {
    env::var(name).map_or(otherwise, |text| text.parse().expect("a number"))
}
