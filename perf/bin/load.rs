//! The load generator: many Stratum V1 miners on one ring, so that one core can load a server to
//! the full.
//!
//! Usage: `perf-load SERVER SERVER_PID MODE [key=value …]`, with MODE one of
//! - `closed`: each connection sends its next share when the last was answered;
//! - `open`: shares fall due at `rate` a second, latency counts from the due time;
//! - `idle`: only connects and waits, for memory and for job fan-outs;
//! - `echo-closed`, `echo-open`, `echo-idle`: the same against `perf-echo`.
//!
//! Keys: `connections=N seconds=S rate=R first=K` (number of the first miner), `storm=1` (connect,
//! reset all, connect again: the second ramp is reported), `request=BYTES` (echo's line),
//! `trigger=1` (echo-idle asks for a broadcast each second), `hold=1` (print `ready` and wait for a
//! line on standard input before measuring). It prints one JSON report.
#![forbid(unsafe_code)]

use std::collections::{BTreeMap, VecDeque};
use std::error::Error;
use std::net::SocketAddr;
use std::time::{Duration, Instant};

use hdrhistogram::Histogram;
use perf::report::LoadReport;
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
/// Slots above this belong to no miner: the control connection of `echo-idle`.
const CONTROL_EXTRA: usize = 1;

struct Options {
    server: SocketAddr,
    pid: u32,
    echo: bool,
    mode: String,
    keys: BTreeMap<String, u64>,
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
    conns: Vec<Conn>,
    pool: Vec<Vec<u8>>,
    started: Instant,
    ready: usize,
    closed: u64,
    closed_loop: bool,
    measuring: bool,
    latency_ns: Histogram<u64>,
    answered: u64,
    refused: u64,
    request_bytes: u64,
    reply_bytes: u64,
    job_bytes: u64,
    fan_out: FanOut,
    report: LoadReport,
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
    let options = Options::parse()?;
    let mut load = Load::new(options)?;
    let before = process::usage(load.options.pid).unwrap_or_default();
    load.ramp()?;
    if load.key("storm", 0) == 1 {
        load.reset_all()?;
        load.ramp()?;
    }
    load.settle(Duration::from_millis(1_500))?;
    if load.key("hold", 0) == 1 {
        println!("ready");
        std::io::stdin().read_line(&mut String::new())?;
    }
    match load.options.mode.as_str() {
        "closed" => load.run_closed()?,
        "open" => load.run_open()?,
        "idle" => load.run_idle()?,
        other => return Err(format!("no such mode: {other}").into()),
    }
    let after = process::usage(load.options.pid).unwrap_or_default();
    let growth = after.resident_bytes as i64 - before.resident_bytes as i64;
    load.report.server_growth_bytes = growth;
    println!("{}", serde_json::to_string(&load.finish())?);
    Ok(())
}

impl Options {
    fn parse() -> Result<Options, Box<dyn Error>> {
        let mut arguments = std::env::args().skip(1);
        let usage = "usage: perf-load SERVER SERVER_PID MODE [key=value …]";
        let server = arguments.next().ok_or(usage)?.parse()?;
        let pid = arguments.next().ok_or(usage)?.parse()?;
        let mode = arguments.next().ok_or(usage)?;
        let mut keys = BTreeMap::new();
        for argument in arguments {
            let (key, value) = argument.split_once('=').ok_or(usage)?;
            keys.insert(key.to_owned(), value.parse()?);
        }
        let echo = mode.starts_with("echo-");
        let mode = mode.trim_start_matches("echo-").to_owned();
        Ok(Options { server, pid, echo, mode, keys })
    }
}

impl Load {
    fn new(options: Options) -> Result<Load, Box<dyn Error>> {
        let setup = Setup { gather: false, ..Setup::default() };
        Ok(Load {
            closed_loop: options.mode == "closed",
            options,
            ring: Ring::new(setup)?,
            conns: Vec::new(),
            pool: Vec::new(),
            started: Instant::now(),
            ready: 0,
            closed: 0,
            measuring: false,
            latency_ns: Histogram::new_with_bounds(1, LATENCY_NS_MAX, 3)?,
            answered: 0,
            refused: 0,
            request_bytes: 0,
            reply_bytes: 0,
            job_bytes: 0,
            fan_out: FanOut::default(),
            report: LoadReport::default(),
        })
    }

    fn key(&self, key: &str, default: u64) -> u64 {
        self.options.keys.get(key).copied().unwrap_or(default)
    }

    fn now_ns(&self) -> u64 {
        self.started.elapsed().as_nanos() as u64
    }

    /// Connects every miner and waits until each has work.
    fn ramp(&mut self) -> Result<(), Box<dyn Error>> {
        let connections = self.key("connections", 100) as u32;
        let first = self.key("first", 0) as u32;
        let start = Instant::now();
        for number in 0..connections {
            let fd = sockets::connect(self.options.server, first + number)?;
            let slot = number as usize;
            let generation = self.conns.get(slot).map_or(1, |conn| conn.generation + 1);
            let conn = Conn::new(first + number, generation);
            if slot < self.conns.len() {
                self.conns[slot] = conn;
            } else {
                self.conns.push(conn);
            }
            self.ring.adopt_fd(fd, ConnId { slot: number, generation });
            if self.options.echo {
                self.conns[slot].ready = true;
                self.ready += 1;
            } else {
                let conn = &mut self.conns[slot];
                conn.miner.write_subscribe(&mut conn.outbox);
                self.flush(slot);
            }
            if number % CONNECTS_PER_TURN == 0 {
                self.turn(Some(Duration::ZERO))?;
            }
        }
        while self.ready < connections as usize {
            self.turn(Some(Duration::from_millis(100)))?;
            if start.elapsed() > Duration::from_secs(RAMP_SECONDS_MAX) {
                let (ready, closed) = (self.ready, self.closed);
                return Err(format!("only {ready} of {connections} ready, {closed} closed").into());
            }
        }
        self.report.ramp_us = start.elapsed().as_micros() as u64;
        self.report.connections = u64::from(connections);
        Ok(())
    }

    /// Resets every connection at once, as a power cut does.
    fn reset_all(&mut self) -> Result<(), Box<dyn Error>> {
        for slot in 0..self.conns.len() {
            let conn = &mut self.conns[slot];
            conn.open = false;
            self.ring.close(ConnId { slot: slot as u32, generation: conn.generation });
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

    fn settle(&mut self, time: Duration) -> Result<(), Box<dyn Error>> {
        let end = Instant::now() + time;
        while Instant::now() < end {
            self.turn(Some(Duration::from_millis(20)))?;
        }
        Ok(())
    }

    fn run_closed(&mut self) -> Result<(), Box<dyn Error>> {
        for slot in 0..self.conns.len() {
            self.share(slot, self.now_ns());
        }
        self.settle_loop(WARM_UP, Some(Duration::from_millis(100)))?;
        let seconds = Duration::from_secs(self.key("seconds", 3));
        self.open_window();
        self.settle_loop(seconds, Some(Duration::from_millis(100)))?;
        self.close_window();
        Ok(())
    }

    fn settle_loop(
        &mut self,
        time: Duration,
        wait: Option<Duration>,
    ) -> Result<(), Box<dyn Error>> {
        let end = Instant::now() + time;
        while Instant::now() < end {
            self.turn(wait)?;
        }
        Ok(())
    }

    /// Share `k` is due at `k / rate`, whether the server keeps up or not.
    fn run_open(&mut self) -> Result<(), Box<dyn Error>> {
        let rate = self.key("rate", 5_000) as f64;
        let seconds = self.key("seconds", 3) as f64;
        let start_ns = self.now_ns();
        let warm_ns = start_ns + WARM_UP.as_nanos() as u64;
        let end_ns = warm_ns + (seconds * 1e9) as u64;
        let mut number = 0_u64;
        let mut number_at_window = 0;
        loop {
            let now_ns = self.now_ns();
            if now_ns >= end_ns {
                break;
            }
            if !self.measuring && now_ns >= warm_ns {
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
            self.turn(Some(Duration::ZERO))?;
        }
        self.close_window();
        self.report.due = number - number_at_window;
        Ok(())
    }

    fn run_idle(&mut self) -> Result<(), Box<dyn Error>> {
        self.open_window();
        let control = self.key("trigger", 0) == 1;
        let slot = self.conns.len();
        if control {
            let fd = sockets::connect(self.options.server, slot as u32)?;
            self.conns.push(Conn::new(slot as u32, 1));
            self.ring.adopt_fd(fd, ConnId { slot: slot as u32, generation: 1 });
        }
        for _ in 0..self.key("seconds", 3) {
            if control {
                self.conns[slot].outbox.extend_from_slice(b"B\n");
                self.flush(slot);
            }
            self.settle(Duration::from_secs(1))?;
        }
        self.close_window();
        Ok(())
    }

    fn open_window(&mut self) {
        (self.measuring, self.answered, self.refused) = (true, 0, 0);
        self.latency_ns.clear();
        let own = process::usage(std::process::id()).unwrap_or_default();
        let server = process::usage(self.options.pid).unwrap_or_default();
        self.report.generator_cpu_ns = own.cpu_ns;
        self.report.server_cpu_ns = server.cpu_ns;
        self.report.window_us = self.started.elapsed().as_micros() as u64;
    }

    fn close_window(&mut self) {
        let report = &mut self.report;
        let server = process::usage(self.options.pid).unwrap_or_default();
        let own = process::usage(std::process::id()).unwrap_or_default();
        report.window_us = self.started.elapsed().as_micros() as u64 - report.window_us;
        report.server_cpu_ns = server.cpu_ns.saturating_sub(report.server_cpu_ns);
        report.generator_cpu_ns = own.cpu_ns.saturating_sub(report.generator_cpu_ns);
        (report.answered, report.refused) = (self.answered, self.refused);
        self.measuring = false;
    }

    fn finish(mut self) -> LoadReport {
        let us = |ns: u64| ns / 1_000;
        self.report.p50_us = us(self.latency_ns.value_at_quantile(0.5));
        self.report.p99_us = us(self.latency_ns.value_at_quantile(0.99));
        self.report.max_us = us(self.latency_ns.max());
        self.report.closed = self.closed;
        self.report.request_bytes = self.request_bytes;
        self.report.reply_bytes = self.reply_bytes;
        self.report.job_bytes = self.job_bytes;
        self.report
    }

    /// Sends one more share, or one more line to an echo.
    fn share(&mut self, slot: usize, at_ns: u64) {
        let request = self.key("request", 150) as usize;
        let conn = &mut self.conns[slot];
        if !conn.open {
            return;
        }
        let before = conn.outbox.len();
        if self.options.echo {
            conn.outbox.resize(before + request - 1, b'x');
            conn.outbox.push(b'\n');
        } else {
            conn.miner.write_share(&mut conn.outbox);
        }
        self.request_bytes = (conn.outbox.len() - before) as u64;
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
        let id = ConnId { slot: slot as u32, generation: conn.generation };
        self.ring.send(id, Chunk::Own(bytes), 0);
    }

    fn turn(&mut self, wait: Option<Duration>) -> Result<(), Box<dyn Error>> {
        self.ring.wait(wait, None)?;
        let now_ns = self.now_ns();
        while let Some(completion) = self.ring.next() {
            match completion {
                Completion::Received { conn, mut buf } => {
                    let slot = conn.slot as usize;
                    // Taken out, so that the bytes on loan and the miners can be used together.
                    let mut lines = std::mem::take(&mut self.conns[slot].partial);
                    let bytes = self.ring.bytes(&mut buf);
                    if lines.is_empty() && bytes.last() == Some(&b'\n') {
                        lines.extend_from_slice(bytes);
                        self.ring.give(buf);
                        self.hear_lines(slot, &lines, now_ns);
                        lines.clear();
                    } else {
                        lines.extend_from_slice(bytes);
                        self.ring.give(buf);
                        let whole = lines.iter().rposition(|byte| *byte == b'\n');
                        if let Some(end) = whole.map(|at| at + 1) {
                            self.hear_lines(slot, &lines[..end], now_ns);
                            lines.drain(..end);
                        }
                    }
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
                    self.closed += 1;
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
                Heard::Job => self.job(slot, size, now_ns),
                Heard::Authorized | Heard::Other => {}
            }
        }
    }

    fn answer(&mut self, slot: usize, accepted: bool, size: u64, now_ns: u64) {
        self.answered += 1;
        self.refused += u64::from(!accepted);
        self.reply_bytes = size;
        if let Some(since_ns) = self.conns[slot].waiting.pop_front() {
            self.latency_ns.saturating_record(now_ns.saturating_sub(since_ns));
        }
        if self.closed_loop {
            self.share(slot, now_ns);
        }
    }

    fn job(&mut self, slot: usize, size: u64, now_ns: u64) {
        self.job_bytes = size;
        let conn = &mut self.conns[slot];
        if !conn.ready {
            conn.ready = true;
            self.ready += 1;
            return;
        }
        if !self.measuring {
            return;
        }
        let miners = self.conns.len() - usize::from(self.key("trigger", 0) == 1) * CONTROL_EXTRA;
        let key = self.conns[slot].miner.job_key();
        if self.fan_out.heard == miners && (self.options.echo || self.fan_out.key != key) {
            self.fan_out.heard = 0;
        }
        if self.fan_out.heard == 0 || self.fan_out.key != key {
            let server = process::usage(self.options.pid).unwrap_or_default();
            let key = key.to_owned();
            self.fan_out = FanOut { key, heard: 0, first_ns: now_ns, cpu_before_ns: server.cpu_ns };
        }
        if self.fan_out.heard < miners {
            self.fan_out.heard += 1;
            self.close_fan_out(miners);
        }
    }

    fn close_fan_out(&mut self, miners: usize) {
        if self.fan_out.heard < miners {
            return;
        }
        let now_ns = self.now_ns();
        self.report.fan_out_us.push((now_ns - self.fan_out.first_ns) / 1_000);
        let server = process::usage(self.options.pid).unwrap_or_default();
        let cpu_ns = server.cpu_ns.saturating_sub(self.fan_out.cpu_before_ns);
        self.report.fan_out_cpu_ns.push(cpu_ns);
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
