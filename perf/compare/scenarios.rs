//! What is measured: which server, which load, how many connections; and one round of it.

use std::error::Error;
use std::io::{BufRead as _, BufReader, Write as _};
use std::ops::Range;
use std::path::PathBuf;
use std::process::{Child, ChildStdin, ChildStdout, Command, Stdio};
use std::time::Duration;

use perf::process;
use perf::report::{LoadReport, Spread};
use perf::servers::{GENERATOR_CORE, Kind, Server, program};
use serde::Serialize;

/// One generator holds at most this many connections; nofile ends at 20,000. A job's way to all
/// miners is timed by one generator alone.
const CONNECTIONS_PER_GENERATOR: u64 = 10_000;
/// Bytes of a submit, its reply and a job, until headframe was seen to carry others: the table says
/// what each row carried.
const USUAL_BYTES: [u64; 3] = [115, 43, 1_231];
/// Seconds between new tips where jobs are measured, and where none may come into a round.
const TIPS_SECONDS: u32 = 2;
const NO_TIPS_SECONDS: u32 = 3_600;
/// Seconds between the new tips of the peer's template source.
const PEER_TIPS_SECONDS: u64 = 3;
/// The peer is not asked for more than it was built for.
const PEER_CONNECTIONS_MAX: u64 = 10_000;
/// A generator above this share of its core may itself be what limited a closed loop.
const GENERATOR_CORE_MAX: f64 = 0.97;
/// A closed loop is saturated when the server has at least this share of its core.
const SATURATED_CORE: f64 = 0.93;

/// What was asked for.
pub(crate) struct Plan {
    /// One minute, only to see that it runs.
    pub(crate) short: bool,
    /// Rounds of each comparison.
    pub(crate) rounds: usize,
    /// Where tests/peers put the peer.
    pub(crate) peer: Option<PathBuf>,
    /// Where the table goes.
    pub(crate) out: Option<PathBuf>,
    /// Only comparisons whose title begins like this.
    pub(crate) only: Option<String>,
}

/// How one load runs.
#[derive(Clone, Debug, Serialize)]
pub(crate) enum Load {
    /// Each connection sends when answered.
    Closed,
    /// Shares a second.
    Open(u64),
    /// New jobs only.
    FanOut,
    /// Everybody connects, is cut off, and comes back: the return is timed.
    Storm,
    /// Everybody connects and waits: what they cost in memory.
    Idle,
}

/// A comparison: the same load on several servers, in turn.
pub(crate) struct Scenario {
    name: String,
    load: Load,
    entries: Vec<Entry>,
}

/// One server of a comparison, and how many miners it gets.
struct Entry {
    server: String,
    kind: Kind,
    connections: u64,
}

/// One line of the table.
#[derive(Serialize)]
pub(crate) struct Row {
    /// The comparison it belongs to.
    pub(crate) scenario: String,
    /// Which server.
    pub(crate) server: String,
    /// Which load.
    pub(crate) load: Load,
    /// Connections.
    pub(crate) connections: u64,
    /// Rounds that came to an end.
    pub(crate) rounds: usize,
    /// CPU per share, in microseconds.
    pub(crate) cpu_us: Spread,
    /// Shares (or lines) a second.
    pub(crate) rate: Spread,
    /// Latency percentiles, in microseconds.
    pub(crate) p50_us: Spread,
    /// The 99th.
    pub(crate) p99_us: Spread,
    /// Part of the server's core.
    pub(crate) server_core: Spread,
    /// Part of the generator's core.
    pub(crate) generator_core: Spread,
    /// First connect to last miner with work, in milliseconds.
    pub(crate) ramp_ms: Spread,
    /// First to last byte of a job, in milliseconds.
    pub(crate) fan_out_ms: Spread,
    /// The server's CPU for one job and one connection, in microseconds.
    pub(crate) fan_out_cpu_us: Spread,
    /// Growth of the server's own memory per connection, in bytes.
    pub(crate) bytes_per_connection: Spread,
    /// The server's own memory in all, in MiB.
    pub(crate) server_mib: Spread,
    /// Shares that were not answered `true`, over all rounds.
    pub(crate) refused: u64,
    /// Bytes of a request, a reply and a job.
    pub(crate) bytes: [u64; 3],
    /// Why the row does not count, if it does not.
    pub(crate) invalid: Option<String>,
}

/// Every comparison of this plan, in the order of the table.
#[must_use]
pub(crate) fn all(plan: &Plan) -> Vec<Scenario> {
    let peer = plan.peer.is_some();
    if plan.short {
        return vec![
            compared("closed loop", Load::Closed, &[200], false),
            compared("open loop, 2,000/s", Load::Open(2_000), &[200], false),
            compared("new job", Load::FanOut, &[200], false),
        ];
    }
    let mut scenarios = vec![
        compared("closed loop", Load::Closed, &[100, 1_000, 10_000, 19_000], peer),
        compared("open loop, 5,000/s", Load::Open(5_000), &[10_000], peer),
        compared("open loop, 20,000/s", Load::Open(20_000), &[10_000], false),
        compared("new job", Load::FanOut, &[10_000], peer),
        compared("reconnect storm", Load::Storm, &[10_000], peer),
    ];
    let mut add = |name: &str, load, entries| {
        scenarios.push(Scenario { name: name.to_owned(), load, entries });
    };
    add("idle miners", Load::Idle, idle(peer));
    add("hosts, closed loop", Load::Closed, hosts());
    add("hosts, open loop, 20,000/s", Load::Open(20_000), hosts());
    add("kernels, closed loop", Load::Closed, kernels());
    add("allocators, closed loop", Load::Closed, allocators());
    scenarios
}

/// One shard of headframe, as `cargo build` makes it, with these lines in `[shards]`.
fn headframe(shards: &str, block_seconds: u32) -> Kind {
    Kind::Headframe { program: "headframe", shards: shards.to_owned(), block_seconds }
}

fn compared(name: &str, load: Load, connections: &[u64], peer: bool) -> Scenario {
    let fan_out = matches!(load, Load::FanOut);
    let block_seconds = if fan_out { TIPS_SECONDS } else { NO_TIPS_SECONDS };
    let mut entries = Vec::new();
    for connections in connections.iter().copied() {
        let mut add = |server: &str, kind| {
            entries.push(Entry { server: server.to_owned(), kind, connections });
        };
        add("echo floor", Kind::Echo { bytes: USUAL_BYTES });
        add("headframe", headframe("", block_seconds));
        if peer && connections <= PEER_CONNECTIONS_MAX {
            add("translator_sv2", Kind::Translator);
        }
    }
    Scenario { name: name.to_owned(), load, entries }
}

fn hosts() -> Vec<Entry> {
    let mut entries = Vec::new();
    for host in ["glommio", "thread"] {
        for gather in [true, false] {
            let shards = format!("host = \"{host}\"\ngather = {gather}");
            let server = format!("{host}, {}", if gather { "gathering" } else { "plain wait" });
            let kind = headframe(&shards, NO_TIPS_SECONDS);
            entries.push(Entry { server, kind, connections: 10_000 });
        }
    }
    entries
}

fn kernels() -> Vec<Entry> {
    let known = [
        ("auto", ""),
        ("sha-ni", "sha_ni"),
        ("avx512", "avx512bw"),
        ("avx512vl", "avx512vl"),
        ("avx2", "avx2"),
        ("ring", ""),
        ("scalar", ""),
    ];
    let usable =
        known.into_iter().filter(|(_, flag)| flag.is_empty() || process::processor_has(flag));
    let entry = |(kernel, _): (&str, &str)| Entry {
        server: format!("kernel {kernel}"),
        kind: headframe(&format!("kernel = \"{kernel}\""), NO_TIPS_SECONDS),
        connections: 1_000,
    };
    usable.map(entry).collect()
}

/// headframe with each allocator that it can be built with.
fn allocators() -> Vec<Entry> {
    let programs = [("mimalloc", "headframe"), ("the system's", "headframe-system-allocator")];
    let entry = |(server, program): (&str, &'static str)| Entry {
        server: server.to_owned(),
        kind: Kind::Headframe { program, shards: String::new(), block_seconds: NO_TIPS_SECONDS },
        connections: 10_000,
    };
    programs.into_iter().map(entry).collect()
}

fn idle(peer: bool) -> Vec<Entry> {
    let mut entries = allocators();
    for entry in allocators() {
        entries.push(Entry { connections: 19_000, ..entry });
    }
    if peer {
        let server = "translator_sv2".to_owned();
        let connections = PEER_CONNECTIONS_MAX;
        entries.push(Entry { server, kind: Kind::Translator, connections });
    }
    entries
}

/// A running load generator, by its standard streams.
struct Generator {
    child: Child,
    input: ChildStdin,
    output: BufReader<ChildStdout>,
}

impl Generator {
    fn line(&mut self) -> std::io::Result<String> {
        let mut line = String::new();
        self.output.read_line(&mut line)?;
        Ok(line.trim_end().to_owned())
    }
}

impl Scenario {
    /// What the progress line says.
    #[must_use]
    pub(crate) fn title(&self) -> String {
        format!("{}, {} servers", self.name, self.entries.len())
    }

    /// Runs all rounds, the servers in turn.
    ///
    /// # Errors
    /// When a server or a generator does not start.
    pub(crate) fn run(&self, plan: &Plan) -> Result<Vec<Row>, Box<dyn Error>> {
        let mut reports: Vec<Vec<LoadReport>> = vec![Vec::new(); self.entries.len()];
        let mut seen = None;
        for _ in 0..plan.rounds {
            for (index, entry) in self.entries.iter().enumerate() {
                let kind = entry.kind.with_bytes(seen);
                match self.round(plan, &kind, entry.connections) {
                    Ok(report) => {
                        // The next floor is given the bytes that headframe was seen to carry.
                        if matches!(kind, Kind::Headframe { .. }) {
                            seen = Some(report.bytes());
                        }
                        reports[index].push(report);
                    }
                    Err(error) => eprintln!("perf-compare: {}: {error}", entry.server),
                }
            }
        }
        let pairs = self.entries.iter().zip(&reports);
        Ok(pairs.map(|(entry, reports)| self.row(entry, reports)).collect())
    }

    fn round(
        &self,
        plan: &Plan,
        kind: &Kind,
        connections: u64,
    ) -> Result<LoadReport, Box<dyn Error>> {
        let mut server = Server::start(kind, plan.peer.as_deref())?;
        let count = connections.div_ceil(CONNECTIONS_PER_GENERATOR);
        let parts = (0..count).map(|at| connections * at / count..connections * (at + 1) / count);
        let generators = parts.map(|part| self.generator(plan, kind, &server, part, count));
        let mut generators = generators.collect::<Result<Vec<_>, _>>()?;
        for generator in &mut generators {
            if generator.line()? != "ready" {
                let _ = generator.child.wait();
                return Err("the generator found no work".into());
            }
        }
        for generator in &mut generators {
            generator.input.write_all(b"go\n")?;
        }
        if matches!(self.load, Load::FanOut) && *kind == Kind::Translator {
            for _ in 0..self.seconds(plan) / PEER_TIPS_SECONDS {
                std::thread::sleep(Duration::from_secs(PEER_TIPS_SECONDS));
                server.new_tip();
            }
        }
        let mut reports = Vec::new();
        for generator in &mut generators {
            let report = generator.line()?;
            generator.child.wait()?;
            reports.push(serde_json::from_str::<LoadReport>(&report)?);
        }
        Ok(merge(reports))
    }

    fn seconds(&self, plan: &Plan) -> u64 {
        match (plan.short, &self.load) {
            (_, Load::Storm) => 1,
            // As long as the worker's rows take to reach the farm's ledger.
            (_, Load::Idle) => 3,
            (true, Load::FanOut) => 5,
            (true, _) => 2,
            (false, Load::FanOut) => 12,
            (false, _) => 4,
        }
    }

    fn generator(
        &self,
        plan: &Plan,
        kind: &Kind,
        server: &Server,
        part: Range<u64>,
        count: u64,
    ) -> Result<Generator, Box<dyn Error>> {
        let echo = matches!(kind, Kind::Echo { .. });
        let mode = match self.load {
            Load::Closed => "closed",
            Load::Open(_) => "open",
            Load::FanOut | Load::Storm | Load::Idle => "idle",
        };
        let (first, connections) = (part.start, part.end - part.start);
        let mut command = Command::new("taskset");
        command.args(["-c", GENERATOR_CORE]).arg(program("perf-load"));
        command.arg(server.address.to_string()).arg(server.pid.to_string());
        command.arg(format!("{}{mode}", if echo { "echo-" } else { "" }));
        command.arg(format!("connections={connections}")).arg(format!("first={first}"));
        command.arg(format!("seconds={}", self.seconds(plan))).arg("hold=1");
        if let Kind::Echo { bytes, .. } = kind {
            command.arg(format!("request={}", bytes[0]));
        }
        if let Load::Open(rate) = self.load {
            command.arg(format!("rate={}", rate / count));
        }
        if echo && matches!(self.load, Load::FanOut) {
            command.arg("trigger=1");
        }
        if matches!(self.load, Load::Storm) {
            command.arg("storm=1");
        }
        let mut child = command.stdin(Stdio::piped()).stdout(Stdio::piped()).spawn()?;
        let input = child.stdin.take().ok_or("a generator without input")?;
        let output = child.stdout.take().ok_or("a generator without output")?;
        Ok(Generator { child, input, output: BufReader::new(output) })
    }

    fn row(&self, entry: &Entry, reports: &[LoadReport]) -> Row {
        let spread = |value: fn(&LoadReport) -> f64| Spread::of(reports.iter().map(value));
        let fan_out = reports.iter().flat_map(|report| &report.fan_out_us);
        let fan_out_cpu = reports.iter().flat_map(|report| &report.fan_out_cpu_ns);
        let connections = entry.connections as f64;
        let last = reports.last().cloned().unwrap_or_default();
        Row {
            scenario: self.name.clone(),
            server: entry.server.clone(),
            load: self.load.clone(),
            connections: entry.connections,
            rounds: reports.len(),
            cpu_us: spread(|report| report.cpu_per_share_ns() / 1e3),
            rate: spread(|report| report.answered as f64 * 1e6 / report.window_us.max(1) as f64),
            p50_us: spread(|report| report.p50_us as f64),
            p99_us: spread(|report| report.p99_us as f64),
            server_core: spread(LoadReport::server_core),
            generator_core: spread(LoadReport::generator_core),
            ramp_ms: spread(|report| report.ramp_us as f64 / 1e3),
            fan_out_ms: Spread::of(fan_out.map(|us| *us as f64 / 1e3)),
            fan_out_cpu_us: Spread::of(fan_out_cpu.map(|ns| *ns as f64 / 1e3 / connections)),
            bytes_per_connection: Spread::of(
                reports.iter().map(|report| report.server_growth_bytes as f64 / connections),
            ),
            server_mib: spread(|report| report.server_bytes as f64 / f64::from(1 << 20)),
            refused: reports.iter().map(|report| report.refused).sum(),
            bytes: last.bytes(),
            invalid: self.fault(&entry.kind, reports),
        }
    }

    /// Why these reports are not a measurement of the server, if they are not.
    fn fault(&self, kind: &Kind, reports: &[LoadReport]) -> Option<String> {
        if reports.is_empty() {
            return Some("no round succeeded".to_owned());
        }
        let closed: u64 = reports.iter().map(|report| report.closed).sum();
        if closed > 0 {
            return Some(format!("{closed} connections were closed by the server"));
        }
        let refused: u64 = reports.iter().map(|report| report.refused).sum();
        let answered: u64 = reports.iter().map(|report| report.answered).sum();
        if refused * 100 > answered {
            return Some(format!("{refused} of {answered} shares refused"));
        }
        let slack = |report: &&LoadReport| report.server_core() < SATURATED_CORE;
        match self.load {
            // The peer spreads over its pool, so its own core is never full.
            Load::Closed if *kind != Kind::Translator => reports.iter().find(slack).map(|report| {
                match report.generator_core() > GENERATOR_CORE_MAX {
                    true => "the generator was the bottleneck".to_owned(),
                    false => "the server was not saturated".to_owned(),
                }
            }),
            Load::Open(rate) => {
                let late = |report: &&LoadReport| {
                    (report.answered as f64) < 0.98 * report.due.max(1) as f64
                };
                let behind = reports.iter().find(late);
                behind.map(|_| format!("the server did not keep up with {rate}/s"))
            }
            _ => None,
        }
    }
}

/// Several generators into one server count as one load.
fn merge(reports: Vec<LoadReport>) -> LoadReport {
    let mut reports = reports.into_iter();
    let mut sum = reports.next().unwrap_or_default();
    for report in reports {
        sum.connections += report.connections;
        sum.answered += report.answered;
        sum.refused += report.refused;
        sum.due += report.due;
        sum.closed += report.closed;
        sum.generator_cpu_ns += report.generator_cpu_ns;
        sum.server_cpu_ns = sum.server_cpu_ns.max(report.server_cpu_ns);
        sum.ramp_us = sum.ramp_us.max(report.ramp_us);
        sum.p50_us = sum.p50_us.max(report.p50_us);
        sum.p99_us = sum.p99_us.max(report.p99_us);
        sum.max_us = sum.max_us.max(report.max_us);
        sum.server_bytes = sum.server_bytes.max(report.server_bytes);
        // Each saw the growth of all.
        sum.server_growth_bytes = sum.server_growth_bytes.max(report.server_growth_bytes);
    }
    sum
}
