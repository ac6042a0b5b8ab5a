//! A crowd of clients on one ring: miners that were told to go away and come back, and those who
//! want no work at all. It does what its habit says and what its runner orders (`perf::crowds`).
//!
//! Usage: `perf-crowd SERVER HABIT [key=value …]`, with HABIT one of `miners`, `low` (valid shares
//! below their difficulty), `drip`, `silent`, `garbage`, `connects`. Keys: `clients=N`, `first=N`
//! (number of the first), `rate=R` (shares, drips or connects a second by all of them),
//! `back=at-once|firmware`, `vanishing=1` (a second handle of each socket is kept, so that they can
//! lose their power). It ends with its standard input.
//!
//! Shares fall due at the rate, whether the server keeps up or not, and their latency counts from
//! the due time. Deliberately absent: hashing, and any verdict; both are others'.
#![forbid(unsafe_code)]

#[path = "../crowd/client.rs"]
mod client;
#[path = "../crowd/habits.rs"]
mod habits;
#[path = "../crowd/options.rs"]
mod options;
#[path = "../crowd/tips.rs"]
mod tips;

use std::cmp::Reverse;
use std::collections::BinaryHeap;
use std::error::Error;
use std::io::{Write as _, stdin, stdout};
use std::sync::mpsc::{Receiver, TryRecvError, channel};
use std::thread;
use std::time::Duration;

use client::{Client, State};
use habits::Habit;
use options::Options;
use perf::crowds::{Counts, Order, Told, Working};
use perf::process::monotonic_ns;
use perf::sockets;
use perf::traffic::Heard;
use shard::{Chunk, Completion, ConnId, ReceiveEnd, Ring as _};
use uring::{Ring, Setup};

/// Connects between two turns of the ring.
const CONNECTS_PER_TURN: usize = 64;
/// Actions between two turns of the ring.
const ACTIONS_PER_TURN: usize = 64;
/// A prime stride, so that due shares visit the connections in no order a server could like.
const STRIDE: u64 = 7_919;
/// How long an order may wait for the ring.
const ORDERS_EVERY: Duration = Duration::from_millis(5);
/// ECONNREFUSED, as the ring reports it.
const REFUSED: i32 = 111;
/// What never becomes a request: the beginning of one, then a name without an end.
const DRIP: &[u8] = b"{\"id\":1,\"method\":\"mining.subscribe\",\"params\":[\"drip/";

struct Crowd {
    options: Options,
    ring: Ring,
    clients: Vec<Client>,
    orders: Receiver<Order>,
    /// When who connects next.
    returns: BinaryHeap<Reverse<(u64, u32)>>,
    working: Working,
    /// The runner waits for everybody to have work.
    tells_working: bool,
    acts: bool,
    /// The runner waits for the last answer.
    rests: bool,
    vanished: bool,
    /// When the number of actions was zero, and the number.
    due: (u64, u64),
    unanswered: u64,
    counts: Counts,
    samples: Vec<(u64, u32)>,
    tips: tips::Tips,
    pool: Vec<Vec<u8>>,
    random: u64,
}

fn main() -> Result<(), Box<dyn Error>> {
    let mut crowd = Crowd::new(Options::parse()?)?;
    loop {
        match crowd.orders.try_recv() {
            Ok(order) => crowd.carry_out(order)?,
            Err(TryRecvError::Disconnected) => return Ok(()),
            Err(TryRecvError::Empty) => {}
        }
        crowd.connect_due();
        crowd.act_due();
        crowd.turn()?;
        crowd.tell_working()?;
        if crowd.rests && crowd.unanswered == 0 {
            crowd.rests = false;
            tell(&Told::Counts(crowd.counts()))?;
        }
    }
}

fn tell(told: &Told) -> Result<(), Box<dyn Error>> {
    let mut out = stdout().lock();
    serde_json::to_writer(&mut out, told)?;
    out.write_all(b"\n")?;
    Ok(out.flush()?)
}

/// Orders until the input ends.
fn listen() -> Receiver<Order> {
    let (sender, orders) = channel();
    thread::spawn(move || {
        let lines = stdin().lines().map_while(Result::ok);
        let known = lines.filter_map(|line| Order::of(&line));
        known.map(|order| sender.send(order)).take_while(Result::is_ok).count()
    });
    orders
}

impl Crowd {
    fn new(options: Options) -> Result<Crowd, Box<dyn Error>> {
        let now_ns = monotonic_ns();
        let clients = match options.habit {
            Habit::Connects => 0,
            _ => options.clients,
        };
        Ok(Crowd {
            ring: Ring::new(Setup { gather: false, ..Setup::default() })?,
            clients: (0..clients).map(|index| Client::new(options.first + index)).collect(),
            orders: listen(),
            returns: (0..clients).map(|slot| Reverse((now_ns, slot))).collect(),
            working: Working { since_ns: now_ns, after_us: Vec::new() },
            tells_working: true,
            acts: true,
            rests: false,
            vanished: false,
            due: (now_ns, 0),
            unanswered: 0,
            counts: Counts::default(),
            samples: Vec::new(),
            tips: tips::Tips::new(clients as usize),
            pool: Vec::new(),
            random: 0x9e37_79b9_7f4a_7c15,
            options,
        })
    }

    fn carry_out(&mut self, order: Order) -> Result<(), Box<dyn Error>> {
        match order {
            Order::Cut => self.cut(),
            Order::Await => self.begin_working(),
            Order::Vanish => {
                self.vanished = true;
                let second = |client: &Client| client.second.as_ref().map(sockets::vanish);
                self.clients.iter().filter_map(second).collect::<Result<(), _>>()?;
                tell(&Told::Done { at_ns: monotonic_ns() })?;
            }
            Order::Rest => (self.acts, self.rests) = (false, true),
            Order::Mine => self.acts = true,
            Order::Count => tell(&Told::Counts(self.counts()))?,
            Order::Samples => tell(&Told::Samples(std::mem::take(&mut self.samples)))?,
            Order::Tips => tell(&Told::Tips(self.tips.take()))?,
        }
        Ok(())
    }

    fn counts(&self) -> Counts {
        let accepted_by_miner = self.clients.iter().map(|client| client.accepted).collect();
        let working = self.clients.iter().filter(|client| client.state == State::Working);
        Counts { working: working.count() as u64, accepted_by_miner, ..self.counts.clone() }
    }

    /// Resets every connection; each comes back once it is closed.
    fn cut(&mut self) {
        self.begin_working();
        for slot in 0..self.clients.len() {
            if self.clients[slot].is_open() {
                self.leave(slot);
            }
        }
    }

    fn begin_working(&mut self) {
        self.working = Working { since_ns: monotonic_ns(), after_us: Vec::new() };
        self.tells_working = true;
    }

    /// Gives a connection up; `Closed` follows.
    fn leave(&mut self, slot: usize) {
        let client = &mut self.clients[slot];
        client.state = State::Closing;
        client.second = None;
        let lost = client.waiting.len() as u64;
        client.waiting.clear();
        self.unanswered -= lost;
        self.counts.lost += lost;
        self.ring.close(self.id(slot));
    }

    fn id(&self, slot: usize) -> ConnId {
        ConnId { slot: slot as u32, generation: self.clients[slot].generation }
    }

    fn connect_due(&mut self) {
        for _ in 0..CONNECTS_PER_TURN {
            let now_ns = monotonic_ns();
            let Some(Reverse((due_ns, slot))) = self.returns.peek().copied() else { return };
            if due_ns > now_ns || self.vanished {
                return;
            }
            self.returns.pop();
            // Garbage may have been due before its connection was.
            if self.clients[slot as usize].state == State::Away {
                self.connect(slot as usize);
            }
        }
    }

    fn connect(&mut self, slot: usize) {
        self.counts.connects += 1;
        let number = self.clients[slot].number;
        let Ok(file) = sockets::begin_connect(self.options.server, number) else {
            self.counts.refused_connects += 1;
            self.clients[slot].failures += 1;
            return self.come_back(slot);
        };
        let second = self.options.vanishing.then(|| file.try_clone().ok()).flatten();
        let client = &mut self.clients[slot];
        client.begin(second);
        if self.options.habit.mines() {
            client.miner.write_subscribe(&mut client.outbox);
        }
        self.ring.adopt_fd(file, self.id(slot));
        self.flush(slot);
        if !self.options.habit.mines() {
            self.works(slot);
        }
    }

    /// A client has what it came for.
    fn works(&mut self, slot: usize) {
        let client = &mut self.clients[slot];
        (client.state, client.failures) = (State::Working, 0);
        let after_ns = monotonic_ns() - self.working.since_ns;
        self.working.after_us.push((after_ns / 1_000) as u32);
    }

    fn tell_working(&mut self) -> Result<(), Box<dyn Error>> {
        let all = |client: &Client| client.state == State::Working;
        if self.tells_working && self.clients.iter().all(all) {
            self.tells_working = false;
            tell(&Told::Working(std::mem::take(&mut self.working)))?;
        }
        Ok(())
    }

    /// A client is away and tries again when its firmware would.
    fn come_back(&mut self, slot: usize) {
        let client = &mut self.clients[slot];
        client.state = State::Away;
        if self.options.habit.mines() {
            let wait_ns = self.options.back_off.wait_ns(client.number, client.failures);
            self.returns.push(Reverse((monotonic_ns() + wait_ns, slot as u32)));
        }
    }

    /// When the next action is due.
    fn due_ns(&self) -> u64 {
        self.due.0 + (self.due.1 as f64 / self.options.rate * 1e9) as u64
    }

    fn act_due(&mut self) {
        if self.options.rate <= 0.0 {
            return;
        }
        for _ in 0..ACTIONS_PER_TURN {
            let due_ns = self.due_ns();
            if due_ns > monotonic_ns() {
                return;
            }
            if self.acts && !self.vanished {
                self.act(due_ns);
            }
            self.due.1 += 1;
        }
    }

    fn act(&mut self, due_ns: u64) {
        if self.options.habit == Habit::Connects {
            self.counts.connects += 1;
            // Its end is a reset at once.
            let knock = sockets::begin_connect(self.options.server, self.due.1 as u32);
            self.counts.refused_connects += u64::from(knock.is_err());
            return;
        }
        let slot = (self.due.1.wrapping_mul(STRIDE) % self.clients.len() as u64) as usize;
        let client = &mut self.clients[slot];
        match (self.options.habit, client.state) {
            (Habit::Miners | Habit::Low, State::Working) => {
                client.miner.write_share(&mut client.outbox);
                client.waiting.push_back(due_ns);
                self.unanswered += 1;
            }
            (Habit::Drip, State::Working) => {
                client.outbox.push(DRIP.get(client.drips).copied().unwrap_or(b'x'));
                client.drips += 1;
            }
            (Habit::Garbage, State::Working) => {
                for _ in 0..32 {
                    self.random ^= self.random << 13;
                    self.random ^= self.random >> 7;
                    self.random ^= self.random << 17;
                    client.outbox.extend_from_slice(&self.random.to_le_bytes());
                }
            }
            (Habit::Garbage, State::Away) => return self.connect(slot),
            _ => return,
        }
        self.counts.sent += 1;
        self.flush(slot);
    }

    fn flush(&mut self, slot: usize) {
        let client = &mut self.clients[slot];
        if client.sending || !client.is_open() || client.outbox.is_empty() {
            return;
        }
        let spare = self.pool.pop().unwrap_or_default();
        let bytes = std::mem::replace(&mut client.outbox, spare);
        client.sending = true;
        self.ring.send(self.id(slot), Chunk::Own(bytes), 0);
    }

    /// How long nothing is due.
    fn idle(&self) -> Duration {
        let now_ns = monotonic_ns();
        let mut due_ns = now_ns + ORDERS_EVERY.as_nanos() as u64;
        if let Some(Reverse((return_ns, _))) = self.returns.peek() {
            due_ns = due_ns.min(*return_ns);
        }
        if self.options.rate > 0.0 {
            due_ns = due_ns.min(self.due_ns());
        }
        Duration::from_nanos(due_ns.saturating_sub(now_ns))
    }

    fn turn(&mut self) -> Result<(), Box<dyn Error>> {
        self.ring.wait(Some(self.idle()), None)?;
        let now_ns = monotonic_ns();
        while let Some(completion) = self.ring.next() {
            match completion {
                Completion::Received { conn, mut buf } => {
                    let slot = conn.slot as usize;
                    // Taken out, so that its bytes and the client can be used together.
                    let mut lines = std::mem::take(&mut self.clients[slot].partial);
                    lines.extend_from_slice(self.ring.bytes(&mut buf));
                    self.ring.give(buf);
                    let end = lines.iter().rposition(|byte| *byte == b'\n').map_or(0, |at| at + 1);
                    self.hear_lines(slot, &lines[..end], now_ns);
                    lines.drain(..end);
                    self.clients[slot].partial = lines;
                    self.flush(slot);
                }
                Completion::Sent { conn, chunk, .. } => {
                    if let Chunk::Own(mut buffer) = chunk {
                        buffer.clear();
                        self.pool.push(buffer);
                    }
                    self.clients[conn.slot as usize].sending = false;
                    self.flush(conn.slot as usize);
                }
                Completion::ReceiveEnded { conn, cause: ReceiveEnd::NoBuffers } => {
                    self.ring.recv(conn);
                }
                Completion::ReceiveEnded { conn, cause } => self.ended(conn.slot as usize, cause),
                Completion::Closed { conn } => self.come_back(conn.slot as usize),
                _ => {}
            }
        }
        Ok(())
    }

    /// The server has ended a connection, or refused it.
    fn ended(&mut self, slot: usize, cause: ReceiveEnd) {
        if !self.clients[slot].is_open() {
            return;
        }
        if matches!(cause, ReceiveEnd::Failed(REFUSED)) {
            self.counts.refused_connects += 1;
        } else {
            self.counts.closed += 1;
        }
        let client = &mut self.clients[slot];
        client.failures += u32::from(client.state != State::Working);
        self.leave(slot);
    }

    fn hear_lines(&mut self, slot: usize, bytes: &[u8], now_ns: u64) {
        if !self.options.habit.mines() {
            return;
        }
        for line in bytes.split(|byte| *byte == b'\n').filter(|line| !line.is_empty()) {
            let client = &mut self.clients[slot];
            match client.miner.hear(line) {
                Heard::Subscribed => {
                    let password = self.options.habit.password();
                    client.miner.write_authorize_with(password, &mut client.outbox);
                }
                Heard::Answered { accepted } => self.answered(slot, accepted, now_ns),
                Heard::Job => {
                    let is_first = client.state == State::Beginning;
                    self.tips.hear(slot, line, now_ns);
                    if is_first {
                        self.works(slot);
                    }
                }
                Heard::Authorized | Heard::Other => {}
            }
        }
    }

    fn answered(&mut self, slot: usize, accepted: bool, now_ns: u64) {
        let client = &mut self.clients[slot];
        let Some(due_ns) = client.waiting.pop_front() else { return };
        self.unanswered -= 1;
        client.accepted += u32::from(accepted);
        self.counts.accepted += u64::from(accepted);
        self.counts.rejected += u64::from(!accepted);
        let latency_us = now_ns.saturating_sub(due_ns) / 1_000;
        self.samples.push((now_ns, u32::try_from(latency_us).unwrap_or(u32::MAX)));
    }
}
