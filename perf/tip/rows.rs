//! What is measured: the node alone, and headframe behind it.

use std::error::Error;
use std::io::{BufRead as _, BufReader, Write as _};
use std::process::{Child, Command, Stdio};
use std::sync::mpsc::{Receiver, channel};
use std::thread;
use std::time::{Duration, Instant};

use node::payout::Network;
use node::rpc::{CallLimits, TemplateReader};
use perf::process::monotonic_ns;
use perf::servers::{GENERATOR_CORE, Kind, Server, program};
use perf::tips::TipReport;

use crate::chain::{Chain, POLL_LIMITS, Tip};

/// Until every miner has the full template of a tip; it takes seconds at most.
const HEARD_MAX: Duration = Duration::from_secs(120);

/// How headframe hears of tips.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Way {
    /// `zmq_hashblock` is configured.
    Zmq,
    /// It is not: a call that the node answers when its tip moves.
    Call,
}

/// One template of the node alone; times by [`monotonic_ns`].
pub(crate) struct NodeTip {
    pub(crate) tip: Tip,
    /// When the long poll's answer was read to its end.
    pub(crate) polled_ns: u64,
    /// What a plain request took right after it, when the template was made already.
    pub(crate) again: Duration,
    pub(crate) answer_bytes: usize,
    pub(crate) transactions: usize,
    /// What `node::rpc` took to read it, no transaction being known.
    pub(crate) parse: Duration,
    /// The same when all of them are known.
    pub(crate) parse_known: Duration,
}

/// One configuration of headframe.
pub(crate) struct Row {
    pub(crate) way: Way,
    pub(crate) tips: Vec<(Tip, TipReport)>,
}

impl Way {
    pub(crate) const ALL: [Way; 2] = [Way::Zmq, Way::Call];

    pub(crate) fn name(self) -> &'static str {
        match self {
            Way::Zmq => "`zmq_hashblock`",
            Way::Call => "no ZMQ: `waitfornewblock`",
        }
    }
}

/// Asks the node for templates with a long poll that is open before the tip: nobody has one sooner.
pub(crate) fn node_alone(chain: &mut Chain, tips: usize) -> Result<Vec<NodeTip>, Box<dyn Error>> {
    let mut client = chain.client();
    let mut found = Vec::new();
    let first = client.template(None, CallLimits::TEMPLATE)?;
    let (_, facts) = TemplateReader::new(Network::Regtest).read(first.json())?;
    let mut id = facts.longpollid.ok_or("the node has no long poll")?;
    for _ in 0..tips {
        let block = chain.prepare()?;
        let (tip, polled) = thread::scope(|scope| {
            let poll = scope.spawn(|| {
                let answer = client.template(Some(&id), POLL_LIMITS);
                answer.map(|answer| (answer, monotonic_ns()))
            });
            (chain.submit(&block), poll.join())
        });
        let (tip, (answer, polled_ns)) = (tip?, polled.map_err(|_| "the poll panicked")??);
        let started = Instant::now();
        client.template(None, CallLimits::TEMPLATE)?;
        let again = started.elapsed();
        let mut reader = TemplateReader::new(Network::Regtest);
        let started = Instant::now();
        let (template, facts) = reader.read(answer.json())?;
        let parse = started.elapsed();
        let started = Instant::now();
        reader.read(answer.json())?;
        let parse_known = started.elapsed();
        if template.prev_hash.to_string() != tip.hash {
            return Err("the long poll was answered before the tip".into());
        }
        id = facts.longpollid.ok_or("the node has no long poll")?;
        let transactions = template.transactions.len();
        let answer_bytes = answer.json().len();
        found.push(NodeTip {
            tip,
            polled_ns,
            again,
            answer_bytes,
            transactions,
            parse,
            parse_known,
        });
    }
    Ok(found)
}

/// Headframe behind the node, and its miners.
pub(crate) fn headframe(
    chain: &mut Chain,
    way: Way,
    miners: usize,
    tips: usize,
) -> Result<Row, Box<dyn Error>> {
    let zmq = match way {
        Way::Zmq => format!("zmq_hashblock = \"{}\"\n", chain.node.zmq()),
        Way::Call => String::new(),
    };
    let node = format!(
        "rpc = \"{}\"\ncookie_file = {:?}\n{zmq}network = \"regtest\"\n",
        chain.node.url(),
        chain.node.cookie()
    );
    let server = Server::start(&Kind::OnBitcoind { node }, None)?;
    let farm = Farm::connect(&server, miners)?;
    let mut found = Vec::new();
    for _ in 0..tips {
        let block = chain.prepare()?;
        let tip = chain.submit(&block)?;
        let report = farm.heard(&tip)?;
        if report.unclean > 0 {
            return Err(format!("{} miners were not told to drop old jobs", report.unclean).into());
        }
        found.push((tip, report));
    }
    Ok(Row { way, tips: found })
}

/// The load generator in its mode `tips`.
struct Farm {
    generator: Child,
    lines: Receiver<String>,
}

impl Farm {
    fn connect(server: &Server, miners: usize) -> Result<Farm, Box<dyn Error>> {
        let mut command = Command::new("taskset");
        command.args(["-c", GENERATOR_CORE]).arg(program("perf-load"));
        command.args([server.address.to_string(), server.pid.to_string(), "tips".to_owned()]);
        command.args([format!("connections={miners}"), "hold=1".to_owned()]);
        let mut generator = command.stdin(Stdio::piped()).stdout(Stdio::piped()).spawn()?;
        let input = generator.stdin.take();
        let output = generator.stdout.take().ok_or("a generator without output")?;
        let (sender, lines) = channel();
        thread::spawn(move || {
            let lines = BufReader::new(output).lines().map_while(Result::ok);
            let _ = lines.map(|line| sender.send(line)).take_while(Result::is_ok).count();
        });
        let farm = Farm { generator, lines };
        if farm.lines.recv_timeout(HEARD_MAX)? != "ready" {
            return Err("the generator found no work".into());
        }
        input.ok_or("a generator without input")?.write_all(b"go\n")?;
        Ok(farm)
    }

    /// What the miners heard of a tip.
    fn heard(&self, tip: &Tip) -> Result<TipReport, Box<dyn Error>> {
        let until = Instant::now() + HEARD_MAX;
        loop {
            let left = until.saturating_duration_since(Instant::now());
            let report: TipReport = serde_json::from_str(&self.lines.recv_timeout(left)?)?;
            if report.prev_hash == tip.hash {
                return Ok(report);
            }
        }
    }
}

impl Drop for Farm {
    fn drop(&mut self) {
        // It may have ended already.
        let _ = self.generator.kill();
        let _ = self.generator.wait();
    }
}
