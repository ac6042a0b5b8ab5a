//! The load generator: many Stratum V1 miners on one ring, so that one core can load a server to
//! the full.
//!
//! Usage: `perf-load SERVER SERVER_PID MODE [key=value …]`, with MODE one of
//! - `closed`: each connection sends its next share when the last was answered;
//! - `open`: shares fall due at `rate` a second, latency counts from the due time;
//! - `idle`: only connects and waits, for memory and for job fan-outs;
//! - `tips`: tells of each new tip, as a line of JSON, once its full template has reached every
//!   miner; ends when the server does;
//! - `echo-closed`, `echo-open`, `echo-idle`: the same against `perf-echo`.
//!
//! Keys: `connections=N seconds=S rate=R first=K` (number of the first miner), `storm=1` (connect,
//! reset all, connect again: the second ramp is reported), `request=BYTES` (echo's line),
//! `trigger=1` (echo-idle asks for a broadcast each second), `hold=1` (print `ready` and wait for a
//! line on standard input before measuring). It prints one JSON report.
#![forbid(unsafe_code)]

use std::collections::VecDeque;
use std::error::Error;
use std::net::SocketAddr;
use std::time::{Duration, Instant};

use hdrhistogram::Histogram;
use perf::process::Usage;
use perf::report::LoadReport;
use perf::tips::TipWatch;
use perf::traffic::{Heard, Miner};
use perf::{process, sockets};
use shard::{Chunk, Completion, ConnId, ReceiveEnd, Ring as _};
use uring::{Ring, Setup};

/// Connects between two turns of the ring while ramping.
const CONNECTS_PER_TURN: u32 = 64;
/// A ramp that takes longer has failed.
const RAMP_SECONDS_MAX: u64 = 120;
/// Latencies above this are counted as this.
const LATENCY_NS_MAX: u64 = 60_000_000_000;
/// What runs before the window is not measured.
const WARM_UP: Duration = Duration::from_millis(700);
/// Most shares put on the wire between two looks at the completions.
const DUE_BATCH: usize = 64;
/// A prime stride, so that due shares visit the connections in no order a server could like.
const STRIDE: u64 = 7_919;
/// What every wrong command line is answered with.
const USAGE: &str = "usage: perf-load SERVER SERVER_PID MODE [key=value …]";

struct Options {
    server: SocketAddr,
    pid: u32,
    echo: bool,
    mode: Mode,
    connections: u32,
    first: u32,
    seconds: u64,
    rate: u64,
    request_bytes: usize,
    storm: bool,
    trigger: bool,
    hold: bool,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Mode {
    Closed,
    Open,
    Idle,
    Tips,
}

struct Conn {
    miner: Miner,
    generation: u32,
    open: bool,
    ready: bool,
    sending: bool,
    outbox: Vec<u8>,
    partial: Vec<u8>,
    /// When each unanswered share was sent or due, in nanoseconds.
    waiting: VecDeque<u64>,
}

struct Load {
    options: Options,
    ring: Ring,
    /// The miners, then the control connection of `echo-idle`, if there is one.
    conns: Vec<Conn>,
    pool: Vec<Vec<u8>>,
    started: Instant,
    ready: usize,
    window: Option<Window>,
    latency_ns: Histogram<u64>,
    fan_out: FanOut,
    tips: TipWatch,
    report: LoadReport,
}

/// What the clocks showed when the measured window opened.
struct Window {
    since: Instant,
    own_cpu_ns: u64,
    server_cpu_ns: u64,
}

/// The job now going out, seen from the miners.
#[derive(Default)]
struct FanOut {
    /// Which job; a keep-alive of a job that is already out everywhere is no fan-out.
    key: String,
    heard: usize,
    first_ns: u64,
    cpu_before_ns: u64,
}

fn main() -> Result<(), Box<dyn Error>> {
    let mut load = Load::new(Options::parse()?)?;
    let before = load.server_usage();
    load.ramp()?;
    if load.options.storm {
        load.reset_all()?;
        load.ramp()?;
    }
    load.settle(Duration::from_millis(1_500))?;
    if load.options.hold {
        println!("ready");
        std::io::stdin().read_line(&mut String::new())?;
    }
    match load.options.mode {
        Mode::Closed => load.run_closed()?,
        Mode::Open => load.run_open()?,
        Mode::Idle => load.run_idle()?,
        Mode::Tips => load.run_tips()?,
    }
    load.report.server_bytes = load.server_usage().anonymous_bytes;
    load.report.server_growth_bytes =
        load.report.server_bytes as i64 - before.anonymous_bytes as i64;
    println!("{}", serde_json::to_string(&load.finish())?);
    Ok(())
}

impl Options {
    fn parse() -> Result<Options, Box<dyn Error>> {
        let mut arguments = std::env::args().skip(1);
        let server = arguments.next().ok_or(USAGE)?.parse()?;
        let pid = arguments.next().ok_or(USAGE)?.parse()?;
        let mode = arguments.next().ok_or(USAGE)?;
        let (echo, mode) = match mode.strip_prefix("echo-") {
            Some(mode) => (true, mode),
            None => (false, mode.as_str()),
        };
        let mode = match mode {
            "closed" => Mode::Closed,
            "open" => Mode::Open,
            "idle" => Mode::Idle,
            "tips" => Mode::Tips,
            other => return Err(format!("no such mode: {other}").into()),
        };
        let mut options = Options {
            server,
            pid,
            echo,
            mode,
            connections: 100,
            first: 0,
            seconds: 3,
            rate: 5_000,
            request_bytes: 150,
            storm: false,
            trigger: false,
            hold: false,
        };
        for argument in arguments {
            match argument.split_once('=').ok_or(USAGE)? {
                ("connections", value) => options.connections = value.parse()?,
                ("first", value) => options.first = value.parse()?,
                ("seconds", value) => options.seconds = value.parse()?,
                ("rate", value) => options.rate = value.parse()?,
                ("request", value) => options.request_bytes = value.parse()?,
                ("storm", value) => options.storm = value == "1",
                ("trigger", value) => options.trigger = value == "1",
                ("hold", value) => options.hold = value == "1",
                _ => return Err(USAGE.into()),
            }
        }
        Ok(options)
    }
}

impl Load {
    fn new(options: Options) -> Result<Load, Box<dyn Error>> {
        let setup = Setup { gather: false, ..Setup::default() };
        Ok(Load {
            tips: TipWatch::new(options.connections as usize),
            options,
            ring: Ring::new(setup)?,
            conns: Vec::new(),
            pool: Vec::new(),
            started: Instant::now(),
            ready: 0,
            window: None,
            latency_ns: Histogram::new_with_bounds(1, LATENCY_NS_MAX, 3)?,
            fan_out: FanOut::default(),
            report: LoadReport::default(),
        })
    }

    /// Zero of everything once the server is gone: what its end was, its connections tell.
    fn server_usage(&self) -> Usage {
        process::usage(self.options.pid).unwrap_or_default()
    }

    fn now_ns(&self) -> u64 {
        self.started.elapsed().as_nanos() as u64
    }

    /// Connects every miner and waits until each has work.
    fn ramp(&mut self) -> Result<(), Box<dyn Error>> {
        let Options { connections, first, echo, .. } = self.options;
        let start = Instant::now();
        for number in 0..connections {
            let slot = number as usize;
            self.connect(slot, first + number)?;
            if echo {
                self.conns[slot].ready = true;
                self.ready += 1;
            } else {
                let conn = &mut self.conns[slot];
                conn.miner.write_subscribe(&mut conn.outbox);
                self.flush(slot);
            }
            if number % CONNECTS_PER_TURN == 0 {
                self.turn(Duration::ZERO)?;
            }
        }
        while self.ready < connections as usize {
            self.turn(Duration::from_millis(100))?;
            if start.elapsed() > Duration::from_secs(RAMP_SECONDS_MAX) {
                let (ready, closed) = (self.ready, self.report.closed);
                return Err(format!("only {ready} of {connections} ready, {closed} closed").into());
            }
        }
        self.report.ramp_us = start.elapsed().as_micros() as u64;
        self.report.connections = u64::from(connections);
        Ok(())
    }

    /// Puts a new connection into a slot, which is the next one or held an earlier connection.
    fn connect(&mut self, slot: usize, number: u32) -> Result<(), Box<dyn Error>> {
        let fd = sockets::connect(self.options.server, number)?;
        let generation = self.conns.get(slot).map_or(1, |conn| conn.generation + 1);
        let conn = Conn::new(number, generation);
        match self.conns.get_mut(slot) {
            Some(earlier) => *earlier = conn,
            None => self.conns.push(conn),
        }
        self.ring.adopt_fd(fd, self.id(slot));
        Ok(())
    }

    fn id(&self, slot: usize) -> ConnId {
        ConnId { slot: slot as u32, generation: self.conns[slot].generation }
    }

    /// Resets every connection at once, as a power cut does.
    fn reset_all(&mut self) -> Result<(), Box<dyn Error>> {
        for slot in 0..self.conns.len() {
            self.conns[slot].open = false;
            self.ring.close(self.id(slot));
        }
        self.ready = 0;
        let mut left = self.conns.len();
        while left > 0 {
            self.ring.wait(Some(Duration::from_millis(100)), None)?;
            while let Some(completion) = self.ring.next() {
                match completion {
                    Completion::Closed { .. } => left -= 1,
                    Completion::Received { buf, .. } => self.ring.give(buf),
                    _ => {}
                }
            }
        }
        Ok(())
    }

    /// Answers what comes for so long.
    fn settle(&mut self, time: Duration) -> Result<(), Box<dyn Error>> {
        let end = Instant::now() + time;
        while Instant::now() < end {
            self.turn(Duration::from_millis(20))?;
        }
        Ok(())
    }

    /// The answers send the next shares.
    fn run_closed(&mut self) -> Result<(), Box<dyn Error>> {
        for slot in 0..self.conns.len() {
            self.share(slot, self.now_ns());
        }
        self.settle(WARM_UP)?;
        self.open_window();
        self.settle(Duration::from_secs(self.options.seconds))?;
        self.close_window();
        Ok(())
    }

    /// Share `k` is due at `k / rate`, whether the server keeps up or not.
    fn run_open(&mut self) -> Result<(), Box<dyn Error>> {
        let rate = self.options.rate as f64;
        let start_ns = self.now_ns();
        let warm_ns = start_ns + WARM_UP.as_nanos() as u64;
        let end_ns = warm_ns + self.options.seconds * 1_000_000_000;
        let mut number = 0_u64;
        let mut number_at_window = 0;
        loop {
            let now_ns = self.now_ns();
            if now_ns >= end_ns {
                break;
            }
            if self.window.is_none() && now_ns >= warm_ns {
                number_at_window = number;
                self.open_window();
            }
            for _ in 0..DUE_BATCH {
                let due_ns = start_ns + (number as f64 / rate * 1e9) as u64;
                if due_ns > now_ns {
                    break;
                }
                let slot = (number.wrapping_mul(STRIDE) % self.conns.len() as u64) as usize;
                self.share(slot, due_ns);
                number += 1;
            }
            // Spinning keeps the wake-ups of the generator off the server's account.
            self.turn(Duration::ZERO)?;
        }
        self.close_window();
        self.report.due = number - number_at_window;
        Ok(())
    }

    fn run_idle(&mut self) -> Result<(), Box<dyn Error>> {
        self.open_window();
        let control = self.conns.len();
        if self.options.trigger {
            self.connect(control, control as u32)?;
        }
        for _ in 0..self.options.seconds {
            if self.options.trigger {
                self.conns[control].outbox.extend_from_slice(b"B\n");
                self.flush(control);
            }
            self.settle(Duration::from_secs(1))?;
        }
        self.close_window();
        Ok(())
    }

    fn run_tips(&mut self) -> Result<(), Box<dyn Error>> {
        self.open_window();
        while self.report.closed == 0 {
            self.turn(Duration::from_millis(100))?;
            if let Some(tip) = self.tips.take() {
                println!("{}", serde_json::to_string(&tip)?);
            }
        }
        Ok(())
    }

    fn open_window(&mut self) {
        (self.report.answered, self.report.refused) = (0, 0);
        self.latency_ns.clear();
        self.window = Some(Window {
            own_cpu_ns: process::usage(std::process::id()).unwrap_or_default().cpu_ns,
            server_cpu_ns: self.server_usage().cpu_ns,
            since: Instant::now(),
        });
    }

    fn close_window(&mut self) {
        let Some(window) = self.window.take() else { return };
        let server_cpu_ns = self.server_usage().cpu_ns;
        let own_cpu_ns = process::usage(std::process::id()).unwrap_or_default().cpu_ns;
        let report = &mut self.report;
        report.window_us = window.since.elapsed().as_micros() as u64;
        report.server_cpu_ns = server_cpu_ns.saturating_sub(window.server_cpu_ns);
        report.generator_cpu_ns = own_cpu_ns.saturating_sub(window.own_cpu_ns);
    }

    fn finish(mut self) -> LoadReport {
        self.report.p50_us = self.latency_ns.value_at_quantile(0.5) / 1_000;
        self.report.p99_us = self.latency_ns.value_at_quantile(0.99) / 1_000;
        self.report.max_us = self.latency_ns.max() / 1_000;
        self.report
    }

    /// Sends one more share, or one more line to an echo.
    fn share(&mut self, slot: usize, at_ns: u64) {
        let conn = &mut self.conns[slot];
        if !conn.open {
            return;
        }
        let before = conn.outbox.len();
        if self.options.echo {
            conn.outbox.resize(before + self.options.request_bytes - 1, b'x');
            conn.outbox.push(b'\n');
        } else {
            conn.miner.write_share(&mut conn.outbox);
        }
        self.report.request_bytes = (conn.outbox.len() - before) as u64;
        conn.waiting.push_back(at_ns);
        self.flush(slot);
    }

    fn flush(&mut self, slot: usize) {
        let conn = &mut self.conns[slot];
        if conn.sending || !conn.open || conn.outbox.is_empty() {
            return;
        }
        let spare = self.pool.pop().unwrap_or_default();
        let bytes = std::mem::replace(&mut conn.outbox, spare);
        conn.sending = true;
        self.ring.send(self.id(slot), Chunk::Own(bytes), 0);
    }

    /// Waits so long for something to come, and answers all that came.
    fn turn(&mut self, wait: Duration) -> Result<(), Box<dyn Error>> {
        self.ring.wait(Some(wait), None)?;
        let now_ns = self.now_ns();
        while let Some(completion) = self.ring.next() {
            match completion {
                Completion::Received { conn, mut buf } => {
                    let slot = conn.slot as usize;
                    // Taken out, so that its bytes and the miners can be used together.
                    let mut lines = std::mem::take(&mut self.conns[slot].partial);
                    lines.extend_from_slice(self.ring.bytes(&mut buf));
                    self.ring.give(buf);
                    let end = lines.iter().rposition(|byte| *byte == b'\n').map_or(0, |at| at + 1);
                    self.hear_lines(slot, &lines[..end], now_ns);
                    lines.drain(..end);
                    self.conns[slot].partial = lines;
                    self.flush(slot);
                }
                Completion::Sent { conn, chunk, .. } => {
                    if let Chunk::Own(mut buffer) = chunk {
                        buffer.clear();
                        self.pool.push(buffer);
                    }
                    self.conns[conn.slot as usize].sending = false;
                    self.flush(conn.slot as usize);
                }
                Completion::ReceiveEnded { conn, cause: ReceiveEnd::NoBuffers } => {
                    self.ring.recv(conn);
                }
                Completion::ReceiveEnded { conn, .. } => {
                    self.conns[conn.slot as usize].open = false;
                    self.report.closed += 1;
                    self.ring.close(conn);
                }
                _ => {}
            }
        }
        Ok(())
    }

    fn hear_lines(&mut self, slot: usize, bytes: &[u8], now_ns: u64) {
        for line in bytes.split(|byte| *byte == b'\n').filter(|line| !line.is_empty()) {
            let size = line.len() as u64 + 1;
            let heard = match (self.options.echo, self.conns[slot].waiting.is_empty()) {
                (false, _) => self.conns[slot].miner.hear(line),
                (true, false) => Heard::Answered { accepted: true },
                (true, true) => Heard::Job,
            };
            match heard {
                Heard::Subscribed => {
                    let conn = &mut self.conns[slot];
                    conn.miner.write_authorize(&mut conn.outbox);
                }
                Heard::Answered { accepted } => self.answer(slot, accepted, size, now_ns),
                Heard::Job if self.options.mode == Mode::Tips && self.window.is_some() => {
                    self.tips.hear(slot, line, process::monotonic_ns());
                }
                Heard::Job => self.job(slot, size, now_ns),
                Heard::Authorized | Heard::Other => {}
            }
        }
    }

    fn answer(&mut self, slot: usize, accepted: bool, size: u64, now_ns: u64) {
        self.report.answered += 1;
        self.report.refused += u64::from(!accepted);
        self.report.reply_bytes = size;
        if let Some(since_ns) = self.conns[slot].waiting.pop_front() {
            self.latency_ns.saturating_record(now_ns.saturating_sub(since_ns));
        }
        if self.options.mode == Mode::Closed {
            self.share(slot, now_ns);
        }
    }

    fn job(&mut self, slot: usize, size: u64, now_ns: u64) {
        self.report.job_bytes = size;
        let conn = &mut self.conns[slot];
        if !conn.ready {
            conn.ready = true;
            self.ready += 1;
            return;
        }
        if self.window.is_none() {
            return;
        }
        let miners = self.options.connections as usize;
        let key = self.conns[slot].miner.job_key();
        let same = self.fan_out.key == key;
        let complete = self.fan_out.heard == miners;
        // An echo's jobs have no ids: behind a complete one comes the next.
        if complete && same && !self.options.echo {
            return;
        }
        if complete || !same || self.fan_out.heard == 0 {
            let (key, cpu_before_ns) = (key.to_owned(), self.server_usage().cpu_ns);
            self.fan_out = FanOut { key, heard: 0, first_ns: now_ns, cpu_before_ns };
        }
        self.fan_out.heard += 1;
        if self.fan_out.heard == miners {
            // The time first: reading the CPU takes a while.
            self.report.fan_out_us.push((self.now_ns() - self.fan_out.first_ns) / 1_000);
            let cpu_ns = self.server_usage().cpu_ns;
            self.report.fan_out_cpu_ns.push(cpu_ns.saturating_sub(self.fan_out.cpu_before_ns));
        }
    }
}

impl Conn {
    fn new(number: u32, generation: u32) -> Conn {
        Conn {
            miner: Miner::new(number),
            generation,
            open: true,
            ready: false,
            sending: false,
            outbox: Vec::new(),
            partial: Vec::new(),
            waiting: VecDeque::new(),
        }
    }
}
