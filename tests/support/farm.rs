//! One `headframe run` on the simulated node, with a miner on it who behaves and watches: what the
//! hostile tests share. The attacks are not here.

use std::fs;
use std::io::{BufRead, BufReader, ErrorKind, Write};
use std::net::{Ipv4Addr, Shutdown, SocketAddr, TcpStream};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering::Relaxed};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use serde_json::{Value, json};
use socket2::{Domain, SockFilter, SockRef, Socket, Type};

use crate::support::{Daemon, Home, get};

/// Every hash is a share, no share is a block, and each half second brings a new tip.
const CHAIN: &str = "difficulty = 1e14\nblock_seconds = 0.5\nspacing = \"fixed\"\n\
    [difficulty]\nstart = 1e-10\nminimum = 1e-10\nmaximum = 1e-10\n\
    [shards]\ncount = 1\n[log]\nformat = \"json\"\n";
/// Everything that a miner says before it has work.
pub(crate) const HANDSHAKE: &[u8] =
    b"{\"id\": 1, \"method\": \"mining.subscribe\", \"params\": [\"test/1\"]}\n\
    {\"id\": 2, \"method\": \"mining.authorize\", \"params\": [\"farm.rig\", \"x\"]}\n";
/// What a test waits for comes sooner, unless it never comes.
pub(crate) const PATIENCE: Duration = Duration::from_secs(20);
/// A well-behaved miner never waits longer for an answer, whatever others do.
const ANSWER_MAX: Duration = Duration::from_secs(1);
/// Between two requests of the witness.
const PACE: Duration = Duration::from_millis(20);

/// A daemon, its addresses, and the miner who must not notice anything.
pub(crate) struct Farm {
    daemon: Daemon,
    stratum: SocketAddr,
    pages: String,
    witness: Witness,
    /// Keeps the state folder until the end.
    _home: Home,
}

impl Farm {
    /// Starts the daemon, `more` standing at the end of its file, and the witness on it.
    pub(crate) fn start(more: &str) -> Farm {
        let home = Home::new();
        let text = home.config(&format!("{CHAIN}{more}"));
        let mut daemon = Daemon::start(&home.write(&text));
        let stratum = daemon.wait_for_address("miners connect here");
        let pages = daemon.wait_for_address("pages are served here");
        daemon.until_ready(&pages);
        let stratum = stratum.parse().expect("an address");
        let witness = Witness::start(stratum);
        Farm { daemon, stratum, pages, witness, _home: home }
    }

    /// A fresh connection.
    pub(crate) fn connect(&self) -> Peer {
        Peer::of(TcpStream::connect(self.stratum).expect("it listens"))
    }

    /// A connection from another address of this machine; none if it was cut at once.
    pub(crate) fn connect_from(&self, source: Ipv4Addr) -> Option<Peer> {
        let socket = Socket::new(Domain::IPV4, Type::STREAM, None).expect("a socket");
        socket.bind(&SocketAddr::from((source, 0)).into()).expect("127/8 is ours");
        socket.connect(&self.stratum.into()).ok().map(|()| Peer::of(socket.into()))
    }

    /// A connection that takes few bytes that it does not read.
    pub(crate) fn connect_narrow(&self) -> Peer {
        let socket = Socket::new(Domain::IPV4, Type::STREAM, None).expect("a socket");
        socket.set_recv_buffer_size(4_096).expect("a size");
        socket.connect(&self.stratum.into()).expect("it listens");
        Peer::of(socket.into())
    }

    /// A connection that has work.
    pub(crate) fn miner(&self) -> Peer {
        let mut peer = self.connect();
        peer.begin_mining();
        peer
    }

    /// A connection that has work, or none if it was closed before.
    pub(crate) fn try_miner(&self) -> Option<Peer> {
        let mut peer = self.connect();
        peer.send(HANDSHAKE);
        loop {
            let line: Value = serde_json::from_str(&peer.line()?).expect("JSON");
            if line["method"] == "mining.notify" {
                return Some(peer);
            }
        }
    }

    /// The sum of the samples of a metric whose line contains `label`.
    pub(crate) fn metric(&self, name: &str, label: &str) -> u64 {
        let page = get(&self.pages, "/metrics");
        let lines = page.lines().filter(|line| line.starts_with(name) && line.contains(label));
        let values = lines.filter_map(|line| line.rsplit(' ').next());
        values.map(|value| value.parse::<f64>().expect("a number") as u64).sum()
    }

    /// Connections closed for a reason so far.
    pub(crate) fn closed(&self, reason: &str) -> u64 {
        self.metric("headframe_connections_closed_total", &format!("reason=\"{reason}\""))
    }

    /// Waits until so many connections were closed for a reason, and not one more.
    pub(crate) fn until_closed(&self, reason: &str, wanted: u64) {
        self.until(reason, || self.closed(reason) >= wanted);
        assert_eq!(self.closed(reason), wanted, "{reason}");
    }

    /// Waits for something that must come.
    pub(crate) fn until(&self, what: &str, mut come: impl FnMut() -> bool) {
        let since = Instant::now();
        while !come() {
            let page = || get(&self.pages, "/metrics");
            assert!(since.elapsed() < PATIENCE, "{what} did not come:\n{}", page());
        }
    }

    /// The memory that the daemon has resident, in KiB; its peak is counted from here on.
    pub(crate) fn resident_kib(&self) -> u64 {
        // Where the kernel does not forget a peak, the start's own may hide some of the growth.
        let _ = fs::write(format!("/proc/{}/clear_refs", self.daemon.child.id()), "5");
        self.memory_kib("VmRSS:")
    }

    /// By how much the daemon's peak is above what it was then, in KiB.
    pub(crate) fn growth_kib(&self, before: u64) -> u64 {
        self.memory_kib("VmHWM:").saturating_sub(before)
    }

    fn memory_kib(&self, name: &str) -> u64 {
        let path = format!("/proc/{}/status", self.daemon.child.id());
        let status = fs::read_to_string(path).expect("it runs");
        let line = status.lines().find_map(|line| line.strip_prefix(name)).expect("a size");
        line.trim_end_matches("kB").trim().parse().expect("a number")
    }

    /// The files and sockets that the daemon holds. Those of the history are opened by a thread of
    /// their own, some time after the start.
    pub(crate) fn descriptors(&self) -> usize {
        let path = format!("/proc/{}/fd", self.daemon.child.id());
        let held = fs::read_dir(path).expect("it runs").flatten();
        let names = held.map(|file| fs::read_link(file.path()).unwrap_or_default());
        names.filter(|name| !name.to_string_lossy().contains("history.db")).count()
    }

    /// What must hold after every attack: the witness noticed nothing and still gets new work,
    /// nothing panicked, nobody else is left, and a stop takes its ordinary course.
    pub(crate) fn end(mut self) {
        let jobs = self.witness.jobs();
        self.until("two more jobs", || self.witness.jobs() >= jobs + 2);
        self.until("the others' end", || {
            self.metric("headframe_miners{", "state=\"setup\"") == 0
                && self.metric("headframe_miners{", "state=\"mining\"") == 1
        });
        self.until("calm", || self.metric("headframe_overload_level", "") == 0);
        assert_eq!(self.metric("headframe_panics_total", ""), 0);
        assert_eq!(self.closed("panicked"), 0);
        self.witness.stop();
        self.until_gone();
        let asked = Instant::now();
        self.daemon.signal("TERM");
        assert_eq!(self.daemon.end(), Some(0));
        assert!(asked.elapsed() < Duration::from_secs(5), "{:?}", asked.elapsed());
    }

    fn until_gone(&self) {
        self.until("the witness's end", || self.metric("headframe_miners{", "mining") == 0);
    }
}

/// A connection of somebody who knows the protocol, and may abuse it.
pub(crate) struct Peer {
    reader: BufReader<TcpStream>,
}

/// How the other side ended a connection.
#[derive(Debug)]
pub(crate) struct Ended {
    /// The lines that came before.
    pub(crate) lines: Vec<String>,
}

impl Peer {
    pub(crate) fn of(stream: TcpStream) -> Peer {
        stream.set_nodelay(true).expect("a socket");
        stream.set_read_timeout(Some(PATIENCE)).expect("a time-out");
        stream.set_write_timeout(Some(PATIENCE)).expect("a time-out");
        Peer { reader: BufReader::new(stream) }
    }

    pub(crate) fn stream(&self) -> &TcpStream {
        self.reader.get_ref()
    }

    /// Sends as much as the other side takes: it may have closed already, which is no fault here.
    /// The number of bytes that the kernel took.
    pub(crate) fn send(&self, mut bytes: &[u8]) -> usize {
        let whole = bytes.len();
        while !bytes.is_empty() {
            match self.stream().write(bytes) {
                Ok(count) => bytes = &bytes[count..],
                Err(error) => {
                    let reset = [ErrorKind::BrokenPipe, ErrorKind::ConnectionReset];
                    assert!(reset.contains(&error.kind()), "{error}");
                    break;
                }
            }
        }
        whole - bytes.len()
    }

    /// The next line, or nothing when the other side has closed.
    pub(crate) fn line(&mut self) -> Option<String> {
        let mut line = String::new();
        match self.reader.read_line(&mut line) {
            Ok(0) => None,
            Ok(_) => Some(line),
            Err(error) if error.kind() == ErrorKind::ConnectionReset => None,
            Err(error) => panic!("neither a line nor an end: {error}"),
        }
    }

    /// The next answer, whatever is announced before it.
    pub(crate) fn answer(&mut self) -> Option<Value> {
        loop {
            let line: Value = serde_json::from_str(&self.line()?).expect("JSON");
            if line.get("method").is_none() {
                return Some(line);
            }
        }
    }

    /// Sends one request and takes its answer.
    pub(crate) fn ask(&mut self, request: &Value) -> Value {
        self.send(format!("{request}\n").as_bytes());
        self.answer().unwrap_or_else(|| panic!("closed at {request}"))
    }

    pub(crate) fn subscribe(&mut self) -> Value {
        self.ask(&json!({"id": 1, "method": "mining.subscribe", "params": ["test/1"]}))
    }

    /// Subscribes, authorizes, and waits for the first job, whose id it returns.
    pub(crate) fn begin_mining(&mut self) -> (String, String) {
        assert!(self.subscribe()["error"].is_null());
        let authorize = json!({"id": 2, "method": "mining.authorize", "params": ["farm.rig", "x"]});
        assert_eq!(self.ask(&authorize)["result"], true);
        loop {
            let line: Value = serde_json::from_str(&self.line().expect("work")).expect("JSON");
            if line["method"] == "mining.notify" {
                let text = |at: usize| line["params"][at].as_str().expect("text").to_owned();
                return (text(0), text(7));
            }
        }
    }

    /// Whether the connection still works.
    pub(crate) fn is_alive(&mut self) -> bool {
        self.ask(&json!({"id": "alive", "method": "mining.ping", "params": []}))["id"] == "alive"
    }

    /// Waits until the other side closes.
    pub(crate) fn ended(mut self) -> Ended {
        let mut lines = Vec::new();
        while let Some(line) = self.line() {
            lines.push(line);
        }
        Ended { lines }
    }

    /// Ends in order.
    pub(crate) fn close(self) {
        // The other side may have been first.
        let _ = self.stream().shutdown(Shutdown::Both);
    }

    /// Loses its power: nothing that is sent to it is acknowledged or answered from now on.
    pub(crate) fn vanish(&self) {
        /// BPF_RET with the constant 0: of every packet nothing is kept.
        const RETURN_CONSTANT: u16 = 0x06;
        let nothing = [SockFilter::new(RETURN_CONSTANT, 0, 0, 0)];
        SockRef::from(self.stream()).attach_filter(&nothing).expect("a filter of one's own socket");
    }

    /// Ends with a reset, as a machine that loses its power and comes back.
    pub(crate) fn reset(self) {
        let socket = Socket::from(self.reader.into_inner());
        socket.set_linger(Some(Duration::ZERO)).expect("a socket");
    }
}

/// What the witness has seen.
#[derive(Default)]
struct Seen {
    stop: AtomicBool,
    jobs: AtomicU64,
    accepted: AtomicU64,
}

/// A miner who submits one share after the other, and panics when one is not answered in time.
struct Witness {
    seen: Arc<Seen>,
    thread: Option<JoinHandle<()>>,
}

impl Witness {
    fn start(stratum: SocketAddr) -> Witness {
        let mut peer = Peer::of(TcpStream::connect(stratum).expect("it listens"));
        let job = peer.begin_mining();
        let seen = Arc::new(Seen::default());
        let theirs = seen.clone();
        let thread = Some(std::thread::spawn(move || mine(peer, job, &theirs)));
        Witness { seen, thread }
    }

    /// Jobs so far, the first apart.
    fn jobs(&self) -> u64 {
        let thread = self.thread.as_ref().expect("it was not stopped");
        assert!(!thread.is_finished(), "the witness was disturbed");
        self.seen.jobs.load(Relaxed)
    }

    fn stop(&mut self) {
        self.seen.stop.store(true, Relaxed);
        let thread = self.thread.take().expect("it is stopped once");
        thread.join().expect("the witness was undisturbed");
        assert!(self.seen.accepted.load(Relaxed) > 0, "no share was accepted");
    }
}

fn mine(peer: Peer, mut job: (String, String), seen: &Seen) {
    let mut wire = peer.reader;
    wire.get_ref().set_read_timeout(Some(PACE)).expect("a time-out");
    let (mut text, mut nonce, mut asked) = (Vec::new(), 0_u32, None::<Instant>);
    let mut due = Instant::now();
    while !seen.stop.load(Relaxed) || asked.is_some() {
        if asked.is_none() && Instant::now() >= due {
            nonce += 1;
            let (id, ntime) = &job;
            let nonce = format!("{nonce:08x}");
            let submit = json!({"id": nonce, "method": "mining.submit",
                "params": ["farm.rig", id, "00000000", ntime, nonce]});
            writeln!(wire.get_ref(), "{submit}").expect("the witness may send");
            (asked, due) = (Some(Instant::now()), Instant::now() + PACE);
        }
        match wire.read_until(b'\n', &mut text) {
            Ok(0) => panic!("the witness was closed"),
            Ok(_) => {
                let line: Value = serde_json::from_slice(&text).expect("JSON");
                text.clear();
                if line["method"] == "mining.notify" {
                    let at = |at: usize| line["params"][at].as_str().expect("text").to_owned();
                    job = (at(0), at(7));
                    seen.jobs.fetch_add(1, Relaxed);
                } else if line.get("method").is_none() {
                    let since = asked.take().expect("an answer is to a share");
                    assert!(since.elapsed() < ANSWER_MAX, "answered after {:?}", since.elapsed());
                    let stale = line["error"][0] == 21;
                    assert!(line["result"] == true || stale, "{line}");
                    assert_eq!(line["id"], format!("{nonce:08x}"));
                    seen.accepted.fetch_add(u64::from(!stale), Relaxed);
                }
            }
            Err(error) if error.kind() == ErrorKind::WouldBlock => {}
            Err(error) => panic!("the witness was cut: {error}"),
        }
        assert!(asked.is_none_or(|since| since.elapsed() < ANSWER_MAX), "a share has no answer");
    }
}
