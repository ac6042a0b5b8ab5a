//! A running `perf-crowd`: the runner's end of its orders.

use std::error::Error;
use std::io::{BufRead as _, BufReader, Write as _};
use std::process::{Child, ChildStdin, Command, Stdio};
use std::sync::OnceLock;
use std::sync::mpsc::{Receiver, channel};
use std::thread;
use std::time::Duration;

use perf::crowds::{Counts, Order, TipSpread, Told, Working};
use perf::servers::{GENERATOR_CORE, program};

use crate::daemon::Daemon;

/// Nothing that a crowd tells takes so long.
const TOLD_MAX: Duration = Duration::from_secs(150);
/// Of the miners whose latency is measured, above every other process of the core.
const REAL_TIME: [&str; 3] = ["chrt", "-f", "20"];
/// Of all other crowds, so that the runner's own glances at the daemon are not late.
const NICE: [&str; 3] = ["nice", "-n", "5"];
/// Shares a second of each miner whose latency is measured.
const WITNESS_RATE: f64 = 2.0;
/// Shares a second of each other miner: 12 a minute.
const FARM_RATE: f64 = 0.2;
/// The number of the first witness: no farm has so many miners.
const FIRST_WITNESS: u32 = 1_000_000;

/// One crowd.
pub(crate) struct Crowd {
    /// The number of its first miner.
    pub(crate) first: u32,
    process: Child,
    orders: Option<ChildStdin>,
    told: Receiver<String>,
}

impl Crowd {
    /// Any crowd, at a low priority.
    pub(crate) fn start(
        daemon: &Daemon,
        habit: &str,
        clients: u32,
        options: &[String],
    ) -> Result<Crowd, Box<dyn Error>> {
        Crowd::launch(&NICE, daemon, habit, clients, options)
    }

    /// Miners at 12 shares a minute, once all have work.
    pub(crate) fn farm(
        daemon: &Daemon,
        clients: u32,
        first: u32,
        options: &[&str],
    ) -> Result<(Crowd, Working), Box<dyn Error>> {
        let rate = f64::from(clients) * FARM_RATE;
        let mut all = vec![format!("first={first}"), format!("rate={rate}")];
        all.extend(options.iter().map(|option| (*option).to_owned()));
        let crowd = Crowd::start(daemon, "miners", clients, &all)?;
        let working = crowd.working()?;
        Ok((crowd, working))
    }

    /// The miners whose latency is measured, once all have work.
    pub(crate) fn witnesses(daemon: &Daemon, clients: u32) -> Result<Crowd, Box<dyn Error>> {
        let rate = f64::from(clients) * WITNESS_RATE;
        let options = [format!("first={FIRST_WITNESS}"), format!("rate={rate}")];
        let priority = if may_be_real_time() { REAL_TIME.as_slice() } else { &[] };
        let crowd = Crowd::launch(priority, daemon, "miners", clients, &options)?;
        crowd.working()?;
        Ok(crowd)
    }

    fn launch(
        priority: &[&str],
        daemon: &Daemon,
        habit: &str,
        clients: u32,
        options: &[String],
    ) -> Result<Crowd, Box<dyn Error>> {
        let mut command = Command::new("taskset");
        command.args(["-c", GENERATOR_CORE]).args(priority).arg(program("perf-crowd"));
        command.args([daemon.address.to_string(), habit.to_owned(), format!("clients={clients}")]);
        command.args(options).stdin(Stdio::piped()).stdout(Stdio::piped());
        let mut process = command.spawn()?;
        let output = process.stdout.take().ok_or("a crowd without output")?;
        let orders = process.stdin.take();
        let (sender, told) = channel();
        thread::spawn(move || {
            let lines = BufReader::new(output).lines().map_while(Result::ok);
            lines.map(|line| sender.send(line)).take_while(Result::is_ok).count()
        });
        let first = options.iter().find_map(|option| option.strip_prefix("first="));
        let first = first.and_then(|first| first.parse().ok()).unwrap_or(0);
        Ok(Crowd { first, process, orders, told })
    }

    /// Tells it what to do.
    pub(crate) fn order(&mut self, order: Order) -> Result<(), Box<dyn Error>> {
        let input = self.orders.as_mut().ok_or("a crowd without input")?;
        Ok(input.write_all(format!("{}\n", order.word()).as_bytes())?)
    }

    fn told(&self) -> Result<Told, Box<dyn Error>> {
        let line = self.told.recv_timeout(TOLD_MAX).map_err(|_| "a crowd fell silent")?;
        Ok(serde_json::from_str(&line)?)
    }

    /// When everybody had work, or what it came for.
    pub(crate) fn working(&self) -> Result<Working, Box<dyn Error>> {
        match self.told()? {
            Told::Working(working) => Ok(working),
            other => Err(format!("a crowd told {other:?} instead of its work").into()),
        }
    }

    /// When an order was carried out.
    pub(crate) fn done(&self) -> Result<u64, Box<dyn Error>> {
        match self.told()? {
            Told::Done { at_ns } => Ok(at_ns),
            other => Err(format!("a crowd told {other:?} instead of an end").into()),
        }
    }

    /// What it has counted.
    pub(crate) fn counts(&mut self) -> Result<Counts, Box<dyn Error>> {
        self.order(Order::Count)?;
        self.rested()
    }

    /// What it had counted when all was answered, after [`Order::Rest`].
    pub(crate) fn rested(&mut self) -> Result<Counts, Box<dyn Error>> {
        match self.told()? {
            Told::Counts(counts) => Ok(counts),
            other => Err(format!("a crowd told {other:?} instead of its counts").into()),
        }
    }

    /// The answers since the last time.
    pub(crate) fn samples(&mut self) -> Result<Vec<(u64, u32)>, Box<dyn Error>> {
        self.order(Order::Samples)?;
        match self.told()? {
            Told::Samples(samples) => Ok(samples),
            other => Err(format!("a crowd told {other:?} instead of its samples").into()),
        }
    }

    /// The tips since the last time.
    pub(crate) fn tips(&mut self) -> Result<Vec<TipSpread>, Box<dyn Error>> {
        self.order(Order::Tips)?;
        match self.told()? {
            Told::Tips(tips) => Ok(tips),
            other => Err(format!("a crowd told {other:?} instead of its tips").into()),
        }
    }
}

impl Drop for Crowd {
    fn drop(&mut self) {
        // It may have ended already.
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}

/// Whether a process may have a real-time priority here.
pub(crate) fn may_be_real_time() -> bool {
    static MAY: OnceLock<bool> = OnceLock::new();
    *MAY.get_or_init(|| {
        let mut command = Command::new(REAL_TIME[0]);
        command.args(&REAL_TIME[1..]).arg("true").stderr(Stdio::null());
        command.status().is_ok_and(|status| status.success())
    })
}
