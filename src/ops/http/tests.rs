//! The pages over a real socket, showing a farm made by hand.

use std::io::{Read, Write};
use std::net::{Shutdown, SocketAddr, TcpStream};
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::sync::mpsc::channel;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use engine::{LaneStatus, ListError};
use farm::blocks::{BlockRecord, Outcome};
use farm::coordinator::TEMPLATE_SILENCE_MICROS;
use farm::extranonce::ShardIndex;
use farm::ledger::{LongRates, Reason, WorkerStatus, WorkerTotals};
use farm::messages::{MinerRow, MinerState};
use farm::status::WorkState;
use farm::{OutageStatus, Status};
use node::source::{NodeFault, NodeHealth, NodeState};
use serde_json::Value;
use session::{Prefix, Tick};
use shard::Counters;

mod lists;
mod openapi;
mod openmetrics;

use super::serve;
use crate::alerts::WayStatus;
use crate::history::{HistoryState, HistoryStatus};
use crate::samples::{self, NOW, block as found_block};
use crate::view::{
    COORDINATOR_HEARTBEAT_US_MAX, HEARTBEAT_US_MAX, Hanging, ShardView, View, hanging,
};

struct Farm {
    status: Mutex<Arc<Status>>,
    counters: [Arc<Counters>; 2],
    /// The coordinator's newest turn, in µs.
    heartbeat: AtomicU64,
    listening: Vec<SocketAddr>,
    nodes: Mutex<Vec<NodeState>>,
    miners: Result<Vec<(ShardIndex, MinerRow)>, ListError>,
    workers: Result<Vec<WorkerStatus>, ListError>,
    /// How often somebody asked for one of them.
    lists_made: AtomicU64,
    /// The moment at which it stands.
    now: AtomicU64,
    /// Workers that have metrics of their own.
    series: usize,
    /// Since when it is known what earlier processes counted.
    learned: Option<Tick>,
}

impl Farm {
    fn new() -> Farm {
        let mut status = samples::status();
        status.work = WorkState::Current;
        status.outage = None;
        status.block_counts.accepted = 3;
        status.block_first_byte_micros = Some(1_500);
        status.blocks.push(found_block());
        let counters: [Arc<Counters>; 2] = Default::default();
        counters.iter().for_each(|shard| shard.heartbeat_us.set(NOW.as_micros()));
        let row = |connection| {
            let row = MinerRow {
                connection,
                peer: "10.0.0.7".parse().expect("an address"),
                state: MinerState::Mining,
                user_agent: "cgminer/4.12 \"x\"".into(),
                worker: "farm.a".into(),
                extranonce1: Prefix::new(&[0, 0, 1, 0xff]),
                difficulty: 16_384.0,
                accepted: 5,
                rejected: 1,
                connected: Tick(40_000_000),
                last_share: None,
            };
            (ShardIndex(0), row)
        };
        Farm {
            status: Mutex::new(Arc::new(status)),
            counters,
            heartbeat: AtomicU64::new(NOW.as_micros()),
            nodes: Mutex::default(),
            listening: vec!["127.0.0.1:3333".parse().expect("an address")],
            miners: Ok((0..250).rev().map(row).collect()),
            workers: Ok((0..30).rev().map(worker).collect()),
            lists_made: AtomicU64::default(),
            now: AtomicU64::new(NOW.as_micros()),
            series: 0,
            learned: Some(Tick(0)),
        }
    }

    fn change(&self, change: impl FnOnce(&mut Status)) {
        let mut status = self.status.lock().expect("no test panics with it");
        change(Arc::make_mut(&mut status));
    }
}

impl View for Farm {
    fn now(&self) -> Tick {
        Tick(self.now.load(Relaxed))
    }

    fn started(&self) -> Tick {
        Tick(10_000_000)
    }

    fn status(&self) -> Arc<Status> {
        self.status.lock().expect("no test panics with it").clone()
    }

    fn coordinator_heartbeat(&self) -> Tick {
        Tick(self.heartbeat.load(Relaxed))
    }

    fn shards(&self) -> Vec<ShardView> {
        self.counters.iter().map(|counters| ShardView::new(7, counters)).collect()
    }

    fn lanes(&self) -> Vec<LaneStatus> {
        let lane = LaneStatus { to_shard: 1, to_shard_full: 2, from_shard: 3, from_shard_full: 4 };
        vec![lane]
    }

    fn nodes(&self) -> Vec<NodeState> {
        self.nodes.lock().expect("no test panics with it").clone()
    }

    fn listening(&self) -> &[SocketAddr] {
        &self.listening
    }

    fn gathers(&self) -> bool {
        true
    }

    fn alerts(&self) -> Vec<WayStatus> {
        let way = |way| WayStatus { way, delivered: 3, failed: 2, dropped: 1, waiting: 4 };
        vec![way("webhook"), way("command")]
    }

    fn list_miners(&self, _: Duration) -> Result<Vec<(ShardIndex, MinerRow)>, ListError> {
        self.lists_made.fetch_add(1, Relaxed);
        self.miners.clone()
    }

    fn list_workers(&self, _: Duration) -> Result<Vec<WorkerStatus>, ListError> {
        self.lists_made.fetch_add(1, Relaxed);
        self.workers.clone()
    }

    fn history(&self) -> HistoryStatus {
        let totals = WorkerTotals { accepted: 1_000, ..WorkerTotals::default() };
        let written = Some(Tick(NOW.as_micros() - 4_000_000));
        HistoryStatus {
            state: HistoryState::Writing,
            bytes: 4_096,
            written,
            totals,
            learned: self.learned,
            ..HistoryStatus::default()
        }
    }

    fn worker_series(&self) -> usize {
        self.series
    }

    fn log_lost(&self) -> u64 {
        9
    }

    fn log_suppressed(&self) -> u64 {
        8
    }
}

/// A worker whose every field says something; every third has no connection.
fn worker(number: u32) -> WorkerStatus {
    let mut totals = WorkerTotals { accepted: 5, blocks: 2, ..WorkerTotals::default() };
    totals.rejected[Reason::Stale as usize] = 3;
    totals.difficulty_accepted = 5.5;
    WorkerStatus {
        name: format!("farm.{number:02}").into(),
        place: u64::from(number) + 1,
        totals,
        hashes_per_second: 1e12,
        long_rates: LongRates { hour: 2e12, day: 3e12 },
        connections: number % 3,
        last_share: Some(Tick(NOW.as_micros() - 7_000_000)),
        best_difficulty: 77.0,
        settled: None,
    }
}

/// Serves the farm on a thread of its own, as long as the test's process lives.
fn serving(farm: Arc<Farm>) -> SocketAddr {
    let (sender, receiver) = channel();
    std::thread::spawn(move || {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
        runtime.expect("a runtime").block_on(async move {
            let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.expect("a port");
            sender.send(listener.local_addr().expect("bound")).expect("the test waits");
            serve(listener, farm).await.expect("it serves for ever");
        });
    });
    receiver.recv().expect("it is bound")
}

fn get(address: SocketAddr, path: &str) -> (u16, String) {
    let mut stream = TcpStream::connect(address).expect("it listens");
    write!(stream, "GET {path} HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n").expect("sent");
    let mut answer = String::new();
    stream.read_to_string(&mut answer).expect("an answer");
    let (head, body) = answer.split_once("\r\n\r\n").expect("a head and a body");
    let code = head.split(' ').nth(1).and_then(|code| code.parse().ok()).expect("a code");
    (code, body.to_owned())
}

fn json(address: SocketAddr, path: &str) -> (u16, Value) {
    let (code, body) = get(address, path);
    (code, serde_json::from_str(&body).unwrap_or_else(|error| panic!("{error} in {body}")))
}

#[test]
fn a_hanging_shard_is_neither_live_nor_ready() {
    let farm = Arc::new(Farm::new());
    let address = serving(farm.clone());
    assert_eq!(json(address, "/livez").0, 200);
    assert_eq!(json(address, "/readyz").0, 200);
    farm.counters[1].heartbeat_us.set(NOW.as_micros() - HEARTBEAT_US_MAX - 1);
    for page in ["/livez", "/readyz"] {
        let (code, body) = json(address, page);
        assert_eq!(code, 503);
        assert_eq!(body["reasons"][0], "shard 1 took no turn for 2.0 s");
    }
}

#[test]
fn a_hanging_coordinator_is_neither_live_nor_ready() {
    let farm = Arc::new(Farm::new());
    let address = serving(farm.clone());
    let at_most = NOW.as_micros() - COORDINATOR_HEARTBEAT_US_MAX;
    farm.heartbeat.store(at_most, Relaxed);
    assert_eq!(hanging(&*farm), []);
    assert_eq!(json(address, "/livez").0, 200);
    farm.heartbeat.store(at_most - 1, Relaxed);
    assert_eq!(hanging(&*farm), [Hanging::Coordinator(COORDINATOR_HEARTBEAT_US_MAX + 1)]);
    for page in ["/livez", "/readyz"] {
        let (code, body) = json(address, page);
        assert_eq!(code, 503);
        assert_eq!(body["reasons"][0], "the coordinator took no turn for 2.0 s");
    }
}

#[test]
fn a_hanging_coordinator_is_seen_wherever_its_snapshot_is_shown() {
    let farm = Arc::new(Farm::new());
    let address = serving(farm.clone());
    let shown = || {
        let (_, metrics) = get(address, "/metrics");
        let value = |name: &str| {
            let line = metrics.lines().find_map(|line| line.strip_prefix(name));
            line.unwrap_or_else(|| panic!("{name} is missing in\n{metrics}")).trim().to_owned()
        };
        let up = value("headframe_upstream_up{upstream=\"node\"}");
        let age = value("headframe_snapshot_age_seconds ");
        let (code, body) = json(address, "/api/v1/status");
        assert_eq!(code, 200);
        let coordinator = &body["coordinator"];
        assert_eq!(age.parse::<f64>().ok(), body["snapshot_age_seconds"].as_f64());
        let hangs = coordinator["hangs"].as_bool().expect("yes or no");
        let heartbeat = coordinator["heartbeat_age_seconds"].as_f64().expect("a number");
        (up, age, hangs, heartbeat, body["work"].as_str().unwrap_or_default().to_owned())
    };
    let second_ago = NOW.as_micros() - 1_000_000;
    farm.heartbeat.store(second_ago, Relaxed);
    farm.change(|status| status.at = Tick(second_ago));
    let row = |up: &str, age: &str, hangs, heartbeat, work: &str| {
        (up.to_owned(), age.to_owned(), hangs, heartbeat, work.to_owned())
    };
    assert_eq!(shown(), row("1", "1.0", false, 1.0, "current"));
    assert!(!get(address, "/").1.contains("hangs"));
    farm.heartbeat.store(NOW.as_micros() - 9_000_000, Relaxed);
    farm.change(|status| status.at = Tick(NOW.as_micros() - 10_000_000));
    assert_eq!(shown(), row("0", "10.0", true, 9.0, "unknown"));
    let (_, page) = get(address, "/");
    assert!(page.contains("coordinator hangs") && page.contains("10.0 s ago"), "{page}");
}

#[test]
fn a_template_grows_old_though_the_snapshot_stands_still() {
    let farm = Arc::new(Farm::new());
    let address = serving(farm.clone());
    let stale = |age: u64| {
        farm.change(|status| {
            status.at = Tick(NOW.as_micros() - 50_000_000);
            status.template_age_micros = Some(age);
        });
        json(address, "/readyz")
    };
    assert_eq!(stale(TEMPLATE_SILENCE_MICROS - 50_000_000).0, 200);
    let (code, body) = stale(TEMPLATE_SILENCE_MICROS - 49_000_000);
    assert_eq!(code, 503);
    assert_eq!(body["reasons"][0], "no work has come from the node for 121 s");
    let (_, text) = get(address, "/metrics");
    assert!(text.contains("\nheadframe_template_age_seconds 121.0\n"), "{text}");
    assert!(text.contains("\nheadframe_upstream_up{upstream=\"node\"} 0\n"), "{text}");
    let (_, body) = json(address, "/api/v1/status");
    assert_eq!(body["template_age_seconds"], 121.0);
    assert_eq!(body["work"], "silent");
}

/// A bitcoind of which everything is known.
fn bitcoind(health: NodeHealth) -> NodeState {
    NodeState {
        name: "127.0.0.1:8332".into(),
        is_source: true,
        health,
        failing_for: None,
        height: Some(850_000),
        tip: Some(pow::Hash256::ZERO),
        template_age: Some(Duration::from_secs(7)),
        latency: Some(Duration::from_millis(250)),
        tip_source: Some("zmq"),
        failures: 3,
        warnings: vec!["no peers: let it connect".to_owned()],
    }
}

#[test]
fn a_node_is_shown_on_every_page_that_speaks_of_nodes() {
    let farm = Arc::new(Farm::new());
    let address = serving(farm.clone());
    let set = |health| {
        *farm.nodes.lock().expect("no test panics with it") = vec![bitcoind(health)];
    };
    set(NodeHealth::Ready);
    let (code, body) = json(address, "/readyz");
    assert_eq!((code, &body["nodes"][0]["state"]), (200, &Value::from("ready")));
    let (_, body) = json(address, "/api/v1/status");
    let node = &body["nodes"][0];
    assert_eq!(node["name"], "127.0.0.1:8332");
    assert_eq!((node["height"].as_u64(), node["tips_by"].as_str()), (Some(850_000), Some("zmq")));
    assert_eq!(node["warnings"][0], "no peers: let it connect");
    let metric = |name: &str| {
        let (_, text) = get(address, "/metrics");
        let start = format!("headframe_template_provider_{name}{{node=\"127.0.0.1:8332\"}} ");
        let line = text.lines().find_map(|line| line.strip_prefix(&start).map(str::to_owned));
        line.unwrap_or_else(|| panic!("{start} is missing in\n{text}"))
    };
    assert_eq!((metric("up"), metric("active")), ("1.0".to_owned(), "1.0".to_owned()));
    assert_eq!((metric("height"), metric("failures_total")), ("850000.0".into(), "3".into()));
    set(NodeHealth::Fault(NodeFault::Unauthorized));
    assert_eq!(metric("up"), "0.0");
    let (code, body) = json(address, "/readyz");
    assert_eq!(code, 200, "the miners have work: another node may give it");
    assert_eq!(body["nodes"][0]["state"], "unauthorized");
    let long = |seconds, is_source| {
        let mut node = bitcoind(NodeHealth::Fault(NodeFault::Garbage("<html>".to_owned())));
        (node.failing_for, node.is_source) = (Some(Duration::from_secs(seconds)), is_source);
        *farm.nodes.lock().expect("no test panics with it") = vec![node];
        json(address, "/readyz")
    };
    assert_eq!((long(10, true).0, long(3_600, false).0), (200, 200), "soon over, or a backup");
    let (code, body) = long(11, true);
    assert_eq!((code, body["ready"].as_bool()), (503, Some(false)));
    let why = body["reasons"][0].as_str().expect("a reason");
    assert!(why.starts_with("the templates of 127.0.0.1:8332 fail for 11 s"), "{why}");
    let why = body["reasons"][1].as_str().expect("what it says");
    assert!(why.starts_with("127.0.0.1:8332: the node answered nonsense: <html>; "), "{why}");
    assert_eq!(json(address, "/livez").0, 200, "nothing here hangs");
    set(NodeHealth::Fault(NodeFault::Unauthorized));
    let micros = 65_000_000;
    farm.change(|status| status.outage = Some(OutageStatus { micros, is_released: true }));
    let (code, body) = json(address, "/readyz");
    assert_eq!(code, 503);
    let released = "no node gives work for 65 s: miners are released to their other pools";
    assert_eq!(body["reasons"][0], released);
    let why = body["reasons"][1].as_str().expect("a reason");
    let wanted =
        "127.0.0.1:8332: the node refuses our credentials (HTTP 401); give its cookie_file";
    assert!(why.starts_with(wanted), "{why}");
    set(NodeHealth::Connecting);
    let (_, body) = json(address, "/readyz");
    assert_eq!(body["reasons"][1], "127.0.0.1:8332: the node was not heard yet");
}

#[test]
fn readiness_needs_work_and_ends_with_draining() {
    let farm = Arc::new(Farm::new());
    let address = serving(farm.clone());
    farm.change(|status| status.work = WorkState::None);
    let (code, body) = json(address, "/readyz");
    assert_eq!((code, body["ready"].as_bool()), (503, Some(false)));
    assert_eq!(body["reasons"][0], "no work has come from the node yet");
    farm.change(|status| {
        status.work = WorkState::Silent;
        status.template_age_micros = Some(130_000_000);
        status.draining = true;
    });
    let (code, body) = json(address, "/readyz");
    assert_eq!(code, 503);
    assert_eq!(body["reasons"][0], "no work has come from the node for 130 s");
    assert_eq!(body["reasons"][1], "draining");
    assert_eq!(json(address, "/livez").0, 200, "draining is no fault");
}

#[test]
fn metrics_are_sums_over_the_shards_under_their_names() {
    let farm = Arc::new(Farm::new());
    for (index, counters) in farm.counters.iter().enumerate() {
        counters.shares[0].add(10 + index as u64);
        counters.shares[7].add(1);
        counters.difficulty_accepted.add(0.5);
        counters.share_latency.record(100, 2);
        counters.fan_out_clean.record(1_000_000, 1);
    }
    let (code, text) = get(serving(farm), "/metrics");
    assert_eq!(code, 200);
    let wanted = [
        r#"headframe_shares_total{side="down",protocol="sv1",result="accepted",reason="none"} 21"#,
        r#"headframe_share_difficulty_total{side="down",result="accepted"} 1.0"#,
        r#"headframe_share_duration_seconds_count{side="down"} 4"#,
        r#"headframe_share_duration_seconds_bucket{le="0.000064",side="down"} 0"#,
        r#"headframe_share_duration_seconds_bucket{le="0.000128",side="down"} 4"#,
        r#"headframe_share_duration_seconds_bucket{le="+Inf",side="down"} 4"#,
        r#"headframe_job_fanout_seconds_sum{kind="clean"} 2.0"#,
        r#"headframe_blocks_found_total{outcome="accepted"} 3"#,
        r#"headframe_queue_depth{lane="to_shard_0"} 1"#,
        r#"headframe_queue_full_total{lane="from_shard_0",policy="kept_by_shard"} 4"#,
        r#"headframe_miners{protocol="sv1",state="mining"} 0"#,
        "headframe_log_lost_total 9",
        "headframe_log_suppressed_total 8",
        "headframe_coordinator_heartbeat_age_seconds 0.0",
        "headframe_connections_accepted_total 0",
        "# TYPE headframe_shares counter",
        "# EOF",
    ];
    let duplicates = r#"protocol="sv1",result="rejected",reason="duplicate"} 2"#;
    assert!(text.contains(duplicates), "{text}");
    for line in wanted {
        assert!(text.lines().any(|found| found == line), "{line} is missing in\n{text}");
    }
}

/// A metric as operators ask for it: its name, its type, and the names of its labels.
type Metric = (String, String, Vec<String>);

/// The metrics of a scrape, sorted.
fn exported(text: &str) -> Vec<Metric> {
    let types = text.lines().filter_map(|line| line.strip_prefix("# TYPE "));
    let mut metrics: Vec<Metric> = types
        .map(|line| {
            let (name, kind) = line.split_once(' ').expect("a name and a type");
            let labelled = |line: &&str| {
                let rest = line.strip_prefix(name);
                let rest = rest
                    .map(|rest| rest.trim_start_matches("_total").trim_start_matches("_bucket"));
                rest.is_some_and(|rest| rest.starts_with('{'))
            };
            let labels = text.lines().find(labelled).map_or("", |line| {
                line.split_once('{').and_then(|(_, rest)| rest.split_once('}')).expect("labels").0
            });
            let names =
                labels.split(',').filter_map(|label| label.split_once('=')).map(|(name, _)| name);
            let names = names.filter(|name| *name != "le").map(str::to_owned).collect();
            let total = if kind == "counter" { "_total" } else { "" };
            (format!("{name}{total}"), kind.to_owned(), names)
        })
        .collect();
    metrics.sort();
    metrics
}

/// The metrics that the page for operators has an entry for, sorted.
fn documented(page: &str) -> Vec<Metric> {
    let entries = page.lines().filter_map(|line| line.strip_prefix("- `"));
    let mut metrics: Vec<Metric> = entries
        .map(|entry| {
            let (name, rest) = entry.split_once("` (").expect("a name, then its type in brackets");
            let (facts, _) = rest.split_once("):").expect("the brackets end on the line");
            let (kind, labels) = facts.split_once("; ").unwrap_or((facts, ""));
            let labels = labels.split(", ").filter(|label| !label.is_empty());
            (name.to_owned(), kind.to_owned(), labels.map(str::to_owned).collect())
        })
        .collect();
    metrics.sort();
    metrics
}

#[test]
fn every_metric_is_documented_and_every_documented_one_exists() {
    let farm = Farm { series: 1, ..Farm::new() };
    farm.change(|status| status.template_age_micros = Some(1));
    *farm.nodes.lock().expect("no test panics with it") = vec![bitcoind(NodeHealth::Ready)];
    let (_, text) = get(serving(Arc::new(farm)), "/metrics");
    let page = include_str!("../../../docs/metrics.md");
    let (exported, documented) = (exported(&text), documented(page));
    assert!(exported.len() > 40, "{exported:?}");
    for metric in &exported {
        assert!(documented.contains(metric), "docs/metrics.md lacks {metric:?}");
    }
    for metric in &documented {
        assert!(exported.contains(metric), "docs/metrics.md has {metric:?}, which is not exported");
    }
    let values = text.lines().filter(|line| !line.starts_with('#'));
    let labels = values.filter_map(|line| line.split_once('{')?.1.split_once('}'));
    let pairs = labels.flat_map(|(labels, _)| labels.split(',')).filter_map(|l| l.split_once('='));
    for (name, value) in pairs.filter(|(name, _)| ["reason", "state", "outcome"].contains(name)) {
        let quoted = format!("`{}`", value.trim_matches('"'));
        assert!(page.contains(&quoted), "docs/metrics.md does not explain {name}={value}");
    }
}

#[test]
fn status_and_page_show_the_farm_and_other_paths_are_refused() {
    let address = serving(Arc::new(Farm::new()));
    let (code, body) = json(address, "/api/v1/status");
    assert_eq!(code, 200);
    assert_eq!(body["work"], "current");
    assert_eq!(body["uptime_seconds"], 90.0);
    assert_eq!(body["shares_ever"]["accepted"], 1_000);
    assert_eq!(body["history"]["state"], "writing");
    assert_eq!(body["history"]["written_age_seconds"], 4.0);
    assert_eq!(body["blocks"]["accepted"], 3);
    assert_eq!(body["shards"][1]["core"], 7);
    let (code, page) = get(address, "/");
    assert_eq!(code, 200);
    assert!(page.contains("127.0.0.1:3333") && page.contains("/metrics"), "{page}");
    assert_eq!(json(address, "/api/v2").0, 404);
}

#[test]
fn blocks_are_shown_with_what_every_node_said() {
    let address = serving(Arc::new(Farm::new()));
    let (code, body) = json(address, "/api/v1/blocks");
    assert_eq!(code, 200);
    let block = &body["blocks"][0];
    assert_eq!((&block["height"], &block["worker"]), (&9.into(), &"farm.a".into()));
    assert_eq!((&block["outcome"], &block["journal"]), (&"accepted".into(), &"durable".into()));
    assert_eq!((&block["first_byte_us"], &block["age_seconds"]), (&1_500.into(), &2.0.into()));
    assert_eq!(block["hash"], "ab".repeat(32));
    let (taken, silent) = (&block["nodes"][0], &block["nodes"][1]);
    assert_eq!((&taken["node"], &taken["answer"]), (&"0".into(), &"accepted".into()));
    assert_eq!((&silent["node"], &silent["answer"]), (&"1".into(), &"no_answer".into()));
    assert_eq!(silent["reason"], "the node did not answer in time");
}

#[test]
fn silent_connections_do_not_keep_the_pages_from_others() {
    let address = serving(Arc::new(Farm::new()));
    let silent: Vec<TcpStream> =
        (0..40).map(|_| TcpStream::connect(address).expect("it listens")).collect();
    for garbage in ["\u{16}\u{3}\u{1}", "GET", "{\"id\":1}\n"] {
        let mut stream = TcpStream::connect(address).expect("it listens");
        stream.write_all(garbage.as_bytes()).expect("sent");
        stream.shutdown(Shutdown::Write).expect("it is open");
        // Whatever it answers, it ends.
        let mut answer = Vec::new();
        let _ = stream.read_to_end(&mut answer);
    }
    assert_eq!(json(address, "/livez").0, 200);
    drop(silent);
}
