//! The one thread that owns all sockets of a fleet.
//!
//! Edge-triggered, non-blocking, one turn at a time: read what came, send what was found, open
//! what is due. It hashes nothing and decides nothing that `connection` can decide.

use std::cmp::Reverse;
use std::collections::{BinaryHeap, VecDeque};
use std::io::{self, ErrorKind, Read, Write};
use std::net::SocketAddr;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::Receiver;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use mio::net::TcpStream;
use mio::{Events, Interest, Poll, Token};
use wire::sv1::Splitter;

use crate::connection::{Found, JobCache, Miner, News};
use crate::schedule::{Schedule, mix};
use crate::stats::Tally;

/// The waker's token: no connection has it.
pub(crate) const WAKER: Token = Token(usize::MAX);
/// Connects under way at one time: below every listener's backlog, so that no SYN is dropped.
const CONNECTING_MAX: usize = 256;
/// Bytes that wait for one socket: a server that reads nothing is left.
const OUT_BYTES_MAX: usize = 64 << 10;
/// The first wait before coming again; it doubles up to 32 times that.
const RETRY_FIRST: Duration = Duration::from_millis(250);
const RETRY_DOUBLINGS_MAX: u32 = 5;
/// How long a stopping fleet waits for the replies that it is owed.
const DRAIN: Duration = Duration::from_secs(2);
/// Events of one turn, and bytes of one read.
const EVENTS: usize = 1024;
const READ_BYTES: usize = 64 << 10;

/// The sockets of a fleet and everything that goes in and out of them.
pub(crate) struct Io {
    poll: Poll,
    address: SocketAddr,
    connections: Vec<Connection>,
    cache: JobCache,
    buffer: Vec<u8>,
    schedule: Arc<Schedule>,
    tally: Arc<Mutex<Tally>>,
    finds: Receiver<Found>,
    stopping: Arc<AtomicBool>,
    /// Connections to open as soon as fewer than [`CONNECTING_MAX`] are under way.
    due: VecDeque<usize>,
    connecting: usize,
    retries: BinaryHeap<Reverse<(Instant, usize)>>,
    seed: u64,
}

struct Connection {
    miner: Miner,
    socket: Socket,
    splitter: Splitter,
    out: Vec<u8>,
    /// Invariant: `sent <= out.len()`.
    sent: usize,
    attempts: u32,
    opened_before: bool,
    working: bool,
}

enum Socket {
    Closed,
    Connecting(TcpStream),
    Open(TcpStream),
}

/// What an IO thread shares with its fleet.
pub(crate) struct Shared {
    pub(crate) schedule: Arc<Schedule>,
    pub(crate) tally: Arc<Mutex<Tally>>,
    pub(crate) finds: Receiver<Found>,
    pub(crate) stopping: Arc<AtomicBool>,
}

impl Io {
    pub(crate) fn new(
        poll: Poll,
        address: SocketAddr,
        users: impl Iterator<Item = String>,
        seed: u64,
        shared: Shared,
    ) -> Io {
        let connections: Vec<_> = users.map(Connection::new).collect();
        Io {
            poll,
            address,
            due: (0..connections.len()).collect(),
            connections,
            cache: JobCache::default(),
            buffer: vec![0; READ_BYTES],
            schedule: shared.schedule,
            tally: shared.tally,
            finds: shared.finds,
            stopping: shared.stopping,
            connecting: 0,
            retries: BinaryHeap::new(),
            seed,
        }
    }

    /// Runs until told to stop, then until every reply is in or [`DRAIN`] is over.
    pub(crate) fn run(&mut self) -> io::Result<()> {
        let mut events = Events::with_capacity(EVENTS);
        let mut drained_by = None;
        loop {
            self.open_due();
            let now = Instant::now();
            let wake_at = self.retries.peek().map(|Reverse((at, _))| *at).or(drained_by);
            let timeout = wake_at.map(|at| at.saturating_duration_since(now));
            match self.poll.poll(&mut events, timeout.map(round_up)) {
                Err(error) if error.kind() == ErrorKind::Interrupted => continue,
                polled => polled?,
            }
            for event in &events {
                if event.token() != WAKER {
                    self.ready(event.token().0);
                }
            }
            self.submit_finds();
            if self.stopping.load(Ordering::Acquire) {
                // The hash threads have ended, so no find comes after this.
                self.submit_finds();
                self.retries.clear();
                self.due.clear();
                let by = *drained_by.get_or_insert_with(|| Instant::now() + DRAIN);
                let waiting = self.connections.iter().any(|one| one.miner.unanswered() > 0);
                if !waiting || Instant::now() >= by {
                    self.close_all();
                    return Ok(());
                }
            }
        }
    }

    fn tally(&self) -> MutexGuard<'_, Tally> {
        self.tally.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn open_due(&mut self) {
        let now = Instant::now();
        while let Some(&Reverse((at, index))) = self.retries.peek() {
            if at > now {
                break;
            }
            self.retries.pop();
            self.due.push_back(index);
        }
        while self.connecting < CONNECTING_MAX {
            let Some(index) = self.due.pop_front() else { break };
            if self.connect(index).is_err() {
                self.retry(index);
            }
        }
    }

    fn connect(&mut self, index: usize) -> io::Result<()> {
        let mut stream = TcpStream::connect(self.address)?;
        let interest = Interest::READABLE | Interest::WRITABLE;
        self.poll.registry().register(&mut stream, Token(index), interest)?;
        self.connections[index].socket = Socket::Connecting(stream);
        self.connecting += 1;
        Ok(())
    }

    fn ready(&mut self, index: usize) {
        if let Socket::Connecting(stream) = &self.connections[index].socket {
            match connected(stream) {
                Ok(false) => return,
                Ok(true) => self.opened(index),
                Err(error) => {
                    let refused = error.kind() == ErrorKind::ConnectionRefused;
                    self.tally().stats.refused += u64::from(refused);
                    return self.close(index);
                }
            }
        }
        if self.connections[index].flush().is_err() {
            return self.close(index);
        }
        if !self.read(index) {
            self.close(index);
        }
    }

    fn opened(&mut self, index: usize) {
        self.connecting -= 1;
        let connection = &mut self.connections[index];
        let socket = std::mem::replace(&mut connection.socket, Socket::Closed);
        if let Socket::Connecting(stream) = socket {
            // Without it a share may wait for an acknowledgement; it is mined all the same.
            let _ = stream.set_nodelay(true);
            connection.socket = Socket::Open(stream);
        }
        connection.miner.connected(&mut connection.out);
        let again = std::mem::replace(&mut connection.opened_before, true);
        let mut tally = self.tally();
        tally.stats.connected += 1;
        tally.stats.reconnects += u64::from(again);
    }

    // False when the connection is at its end.
    fn read(&mut self, index: usize) -> bool {
        loop {
            let Socket::Open(stream) = &mut self.connections[index].socket else { return true };
            let bytes = match stream.read(&mut self.buffer) {
                Ok(0) => return false,
                Ok(bytes) => bytes,
                Err(error) if error.kind() == ErrorKind::WouldBlock => return true,
                Err(error) if error.kind() == ErrorKind::Interrupted => continue,
                Err(_) => return false,
            };
            if !self.take(index, bytes) || self.connections[index].flush().is_err() {
                return false;
            }
        }
    }

    fn take(&mut self, index: usize, bytes: usize) -> bool {
        let now = Instant::now();
        let connection = &mut self.connections[index];
        let Connection { miner, splitter, out, .. } = connection;
        let mut lines = splitter.feed(&self.buffer[..bytes]);
        let (mut changed, mut clean) = (false, false);
        while let Some(line) = lines.next() {
            let Ok(line) = line else { return false };
            match miner.line(now, line, &mut self.cache, out) {
                News::Nothing => {}
                News::Work { clean: void } => {
                    changed = true;
                    clean |= void;
                }
                News::Verdict(verdict) => {
                    self.schedule.settled(index, verdict.code.is_none());
                    let mut tally = self.tally.lock().unwrap_or_else(PoisonError::into_inner);
                    tally.judged(index, &verdict);
                }
                News::Close => return false,
            }
        }
        if changed {
            let task = miner.task();
            connection.attempts = 0;
            let first = task.is_some() && !std::mem::replace(&mut connection.working, true);
            self.schedule.assign(index, task);
            if clean {
                self.schedule.clean_job();
            }
            self.tally().stats.working += usize::from(first);
        }
        true
    }

    fn submit_finds(&mut self) {
        while let Ok(found) = self.finds.try_recv() {
            let index = found.connection;
            let connection = &mut self.connections[index];
            let open = matches!(connection.socket, Socket::Open(_));
            let written =
                open && connection.miner.submit(Instant::now(), &found, &mut connection.out);
            let failed = written && connection.flush().is_err();
            let mut tally = self.tally();
            match written {
                true => tally.stats.submitted += 1,
                false => tally.stats.abandoned += 1,
            }
            drop(tally);
            if !written {
                self.schedule.settled(index, false);
            }
            if failed {
                self.close(index);
            }
        }
    }

    fn close(&mut self, index: usize) {
        self.forget(index);
        self.retry(index);
    }

    fn forget(&mut self, index: usize) {
        let connection = &mut self.connections[index];
        let socket = std::mem::replace(&mut connection.socket, Socket::Closed);
        let unanswered = connection.miner.disconnected();
        connection.splitter = Splitter::new();
        connection.out.clear();
        connection.sent = 0;
        let working = std::mem::replace(&mut connection.working, false);
        self.schedule.assign(index, None);
        let mut tally = self.tally();
        tally.stats.unanswered += unanswered as u64;
        tally.stats.working -= usize::from(working);
        tally.stats.connected -= usize::from(matches!(socket, Socket::Open(_)));
        drop(tally);
        self.connecting -= usize::from(matches!(socket, Socket::Connecting(_)));
    }

    // Doubling waits, spread by half and half again, so that a fleet does not come back as one.
    fn retry(&mut self, index: usize) {
        let connection = &mut self.connections[index];
        let wait = RETRY_FIRST * (1 << connection.attempts.min(RETRY_DOUBLINGS_MAX));
        connection.attempts += 1;
        self.seed = mix(self.seed ^ index as u64);
        let spread = 0.5 + (self.seed >> 40) as f64 / (1_u64 << 24) as f64;
        self.retries.push(Reverse((Instant::now() + wait.mul_f64(spread), index)));
    }

    fn close_all(&mut self) {
        for index in 0..self.connections.len() {
            self.forget(index);
        }
    }
}

impl Connection {
    fn new(user: String) -> Self {
        Connection {
            miner: Miner::new(user),
            socket: Socket::Closed,
            splitter: Splitter::new(),
            out: Vec::new(),
            sent: 0,
            attempts: 0,
            opened_before: false,
            working: false,
        }
    }

    fn flush(&mut self) -> io::Result<()> {
        let Socket::Open(stream) = &mut self.socket else { return Ok(()) };
        while self.sent < self.out.len() {
            match stream.write(&self.out[self.sent..]) {
                Ok(0) => return Err(ErrorKind::WriteZero.into()),
                Ok(bytes) => self.sent += bytes,
                Err(error) if error.kind() == ErrorKind::WouldBlock => break,
                Err(error) if error.kind() == ErrorKind::Interrupted => {}
                Err(error) => return Err(error),
            }
        }
        self.out.drain(..self.sent);
        self.sent = 0;
        if self.out.len() > OUT_BYTES_MAX {
            return Err(ErrorKind::TimedOut.into());
        }
        Ok(())
    }
}

// Whether a connect is done; an error when it failed.
fn connected(stream: &TcpStream) -> io::Result<bool> {
    if let Some(error) = stream.take_error()? {
        return Err(error);
    }
    match stream.peer_addr() {
        Ok(_) => Ok(true),
        Err(error) if error.kind() == ErrorKind::NotConnected => Ok(false),
        Err(error) => Err(error),
    }
}

// The poll counts milliseconds; rounding down would make it spin through the last one.
fn round_up(timeout: Duration) -> Duration {
    Duration::from_millis(timeout.as_millis() as u64 + 1)
}
