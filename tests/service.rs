//! The daemon as a service: what it says to its manager, what outlives a crash, and how it ends.
//! The manager is the tests' own and speaks systemd's protocol; the daemon, its sockets and the
//! miners are real.

mod support;

#[path = "service/unit.rs"]
mod unit;

use std::io::{BufRead, BufReader, Write};
use std::net::{SocketAddr, TcpStream};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use miner::{Fleet, FleetConfig, Stats};
use pow::Kernel;
use regtest::Port;
use regtest::knocks::Crowd;
use regtest::manager::{self, Manager};
use support::{Daemon, HEADFRAME, Home, LIMIT, get};

/// SIGTERM drains within this.
const DRAIN_LIMIT: Duration = Duration::from_secs(5);
/// Miners of the drain's test; the long campaign asks for more.
const DRAINED_MINERS: usize = 1_000;
/// Deaths in one test of a crash; the long campaign asks for more.
const KILLS: usize = 3;
/// Miners in it.
const MINERS: usize = 300;

/// A daemon's file with its ports, which stay its own while it is down.
struct Place {
    home: Home,
    ports: Vec<Port>,
    pages: Port,
    /// As many as may connect, also from one source.
    connections: usize,
}

impl Place {
    fn new(ports: usize, connections: usize) -> Place {
        let ports = (0..ports).map(|_| Port::claim()).collect();
        Place { home: Home::new(), ports, pages: Port::claim(), connections }
    }

    fn address(&self, port: usize) -> SocketAddr {
        SocketAddr::from(([127, 0, 0, 1], self.ports[port].number()))
    }

    fn pages(&self) -> String {
        format!("127.0.0.1:{}", self.pages.number())
    }

    /// The file for some of the ports. A share is a few thousand hashes, and no block is found.
    fn file(&self, ports: &[usize], shards: usize) -> PathBuf {
        let addresses: Vec<String> =
            ports.iter().map(|port| format!("\"{}\"", self.address(*port))).collect();
        let connections = self.connections;
        let more = format!(
            "difficulty = 1e9\nblock_seconds = 0\n[shards]\ncount = {shards}\n\
             [difficulty]\nstart = 1e-6\nminimum = 1e-6\nmaximum = 1e-6\n\
             [limits]\nconnections = {connections}\nper_source = {connections}\n\
             [log]\nformat = \"json\"\n"
        );
        let text = self.home.config(&more);
        let any = "address = \"127.0.0.1:0\"";
        let text = text.replacen(any, &format!("address = [{}]", addresses.join(", ")), 1);
        self.home.write(&text.replacen(any, &format!("address = \"{}\"", self.pages()), 1))
    }

    /// Mines on the first port.
    fn mine(&self, miners: usize) -> Fleet {
        let config = FleetConfig {
            address: self.address(0),
            connections: miners,
            threads: 1,
            user_prefix: "farm".to_owned(),
            seed: 7,
            kernel: Kernel::detect(),
        };
        Fleet::start(config).expect("miners")
    }
}

/// A manager of the real daemon.
fn managed(place: &Place) -> Manager {
    Manager::new(Path::new(HEADFRAME), place.home.path("notify"))
}

/// A daemon with everything that its manager keeps.
fn start(manager: &Manager, file: &Path) -> Daemon {
    Daemon::of(manager.start(file))
}

/// Waits for something that miners count.
fn until(fleet: &Fleet, what: &str, limit: Duration, done: impl Fn(&Stats) -> bool) {
    let since = Instant::now();
    while !done(&fleet.stats()) {
        assert!(since.elapsed() < limit, "{what} did not come about: {:?}", fleet.stats());
        std::thread::yield_now();
    }
}

/// A number from the environment, for the long campaign.
fn asked_for(name: &str, else_: usize) -> usize {
    std::env::var(name).map_or(else_, |text| text.parse().expect("a number"))
}

#[test]
fn the_manager_hears_ready_alive_and_stopping() {
    let place = Place::new(1, 1_000);
    let manager = managed(&place);
    let mut daemon = start(&manager, &place.file(&[0], 2));
    let names =
        [0, 1].map(|shard| format!("stratum-127.0.0.1_{}-{shard}", place.ports[0].number()));
    for name in &names {
        let told = manager.hear();
        assert!(told.says("FDSTORE=1") && told.value("FDNAME") == Some(name), "{told:?}");
    }
    assert_eq!(manager.kept(), names);
    let ready = manager.hear();
    assert!(ready.says("READY=1"), "{ready:?}");
    assert!(ready.value("STATUS").is_some_and(|status| status.starts_with("0 conn")), "{ready:?}");
    assert!(TcpStream::connect(place.address(0)).is_ok(), "ready means that it listens");
    let first = manager.hear_until("WATCHDOG=1");
    let second = manager.hear_until("WATCHDOG=1");
    assert!(second.at.duration_since(first.at) < Duration::from_secs(5), "about once a second");
    daemon.until_ready(&place.pages());
    let miner = TcpStream::connect(place.address(0)).expect("it listens");
    manager.hear_until("STATUS=1 connections, work is current");
    daemon.signal("TERM");
    manager.hear_until("STOPPING=1");
    assert_eq!(daemon.end(), Some(0));
    let rest = manager.rest();
    assert!(rest.iter().any(|told| told.says("EXTEND_TIMEOUT_USEC=5000000")), "{rest:?}");
    let told = |word: &str| {
        rest.iter().any(|told| told.value("STATUS").is_some_and(|status| status.contains(word)))
    };
    assert!(told("draining, "), "{rest:?}");
    drop(miner);
}

/// The first death is by SIGKILL, the second as the watchdog kills.
#[test]
fn a_death_under_load_refuses_and_swallows_nobody() {
    let place = Place::new(1, 1_000);
    let manager = managed(&place);
    let file = place.file(&[0], 2);
    let mut daemon = start(&manager, &file);
    manager.hear_until("READY=1");
    let fleet = place.mine(MINERS);
    let crowd = Crowd::start(place.address(0));
    let (mut to_ready_ms, mut outage_ms) = (Vec::new(), Vec::new());
    for death in 0..asked_for("HEADFRAME_KILLS", KILLS) {
        until(&fleet, "work for all", LIMIT, |stats| stats.working == MINERS);
        let before = fleet.stats();
        until(&fleet, "shares", LIMIT, |stats| stats.accepted > before.accepted);
        assert_eq!(manager.kept().len(), 2);
        manager.rest();
        let killed = Instant::now();
        daemon.signal(if death % 2 == 0 { "KILL" } else { "ABRT" });
        daemon.child.wait().expect("its end");
        let started = Instant::now();
        daemon = start(&manager, &file);
        let ready = manager.hear_until("READY=1").at;
        to_ready_ms.push(ready.duration_since(started).as_millis());
        outage_ms.push(ready.duration_since(killed).as_millis());
        until(&fleet, "their return", LIMIT, |stats| {
            stats.reconnects >= before.reconnects + MINERS as u64
        });
    }
    until(&fleet, "work for all", LIMIT, |stats| stats.working == MINERS);
    let knocks = crowd.stop();
    let stats = fleet.stop();
    println!("{knocks:?}; refused miners: {}", stats.refused);
    println!("from start to READY {to_ready_ms:?} ms, from death to READY {outage_ms:?} ms");
    assert_eq!((knocks.refused, knocks.unreached, knocks.swallowed, stats.refused), (0, 0, 0, 0));
    assert!(knocks.answered > 100, "{knocks:?}");
    assert_eq!(manager.kept().len(), 2, "the same two all the time");
    drained(&mut daemon);
}

/// What the test above counts is there to be counted.
#[test]
fn without_a_manager_a_death_refuses() {
    let place = Place::new(1, 1_000);
    let file = place.file(&[0], 2);
    let mut daemon = manager::alone(|| Daemon::start(&file));
    assert_eq!(daemon.wait_for_address("miners connect here"), place.address(0).to_string());
    let crowd = Crowd::start(place.address(0));
    daemon.signal("KILL");
    daemon.child.wait().expect("its end");
    while TcpStream::connect(place.address(0)).is_ok() {}
    let knocks = crowd.stop();
    assert!(knocks.refused > 0, "{knocks:?}");
    assert_eq!((knocks.unreached, knocks.swallowed), (0, 0), "{knocks:?}");
}

/// Ends a daemon in order.
fn drained(daemon: &mut Daemon) {
    let asked = Instant::now();
    daemon.signal("TERM");
    assert_eq!(daemon.end(), Some(0));
    assert!(asked.elapsed() < DRAIN_LIMIT, "{:?}", asked.elapsed());
}

/// Gets an answer to a request.
fn subscribe(mut stream: TcpStream) {
    stream.set_read_timeout(Some(LIMIT)).expect("a time-out");
    let request = b"{\"id\":1,\"method\":\"mining.subscribe\",\"params\":[]}\n";
    stream.write_all(request).expect("it is open");
    let mut line = String::new();
    BufReader::new(&stream).read_line(&mut line).expect("an answer");
    assert!(line.contains("\"error\":null"), "{line:?}");
}

/// The names that are kept for some ports.
fn names(place: &Place, ports: &[usize], shards: usize) -> Vec<String> {
    let of = |port: &usize| {
        let number = place.ports[*port].number();
        (0..shards).map(move |shard| format!("stratum-127.0.0.1_{number}-{shard}"))
    };
    let mut names: Vec<String> = ports.iter().flat_map(of).collect();
    names.sort_unstable();
    names
}

#[test]
fn other_shards_and_addresses_are_what_the_next_process_keeps() {
    let place = Place::new(3, 1_000);
    let manager = managed(&place);
    let mut daemon = start(&manager, &place.file(&[0, 1], 3));
    manager.hear_until("READY=1");
    assert_eq!(manager.kept(), names(&place, &[0, 1], 3));
    drained(&mut daemon);
    // Of these, some wait at the listeners of shards that will be gone.
    let waiting: Vec<TcpStream> =
        (0..60).map(|_| TcpStream::connect(place.address(0)).expect("it is kept")).collect();
    let (fewer, more) = (place.file(&[0, 2], 1), 4);
    daemon = start(&manager, &fewer);
    manager.hear_until("READY=1");
    assert_eq!(manager.kept(), names(&place, &[0, 2], 1));
    assert!(TcpStream::connect(place.address(1)).is_err(), "nobody listens there any more");
    assert!(TcpStream::connect(place.address(2)).is_ok());
    waiting.into_iter().for_each(subscribe);
    drained(&mut daemon);
    daemon = start(&manager, &place.file(&[2, 0], more));
    manager.hear_until("READY=1");
    assert_eq!(manager.kept(), names(&place, &[0, 2], more));
    let fleet = place.mine(100);
    until(&fleet, "work for all", LIMIT, |stats| stats.working == 100);
    let page = get(&place.pages(), "/api/v1/miners");
    let serve = |shard: usize| page.contains(&format!("\"shard\":{shard},"));
    assert!((0..more).all(serve), "every listener is served: {page}");
    assert_eq!(fleet.stop().refused, 0);
    drained(&mut daemon);
    manager.forget_all();
    assert!(TcpStream::connect(place.address(0)).is_err(), "a stopped service listens nowhere");
}

#[test]
fn a_store_that_is_too_small_is_said() {
    let place = Place::new(3, 1_000);
    let manager = managed(&place);
    let mut daemon = start(&manager, &place.file(&[0, 1, 2], 3));
    let warning = daemon.wait_for("FileDescriptorStoreMax=9");
    assert!(warning.contains("keeps 8 of 9 listeners"), "{warning}");
    manager.hear_until("READY=1");
    assert_eq!(manager.kept().len(), manager::KEPT_MAX);
    drained(&mut daemon);
}

#[test]
fn a_farm_is_drained_in_time() {
    let miners = asked_for("HEADFRAME_DRAINED_MINERS", DRAINED_MINERS);
    manager::raise_open_files();
    let place = Place::new(1, miners + 100);
    let manager = managed(&place);
    let mut daemon = start(&manager, &place.file(&[0], 0));
    manager.hear_until("READY=1");
    let half = miners / 2;
    let fleets = [half, miners - half].map(|miners| place.mine(miners));
    for fleet in &fleets {
        let all = fleet.stats().accepted_by_connection.len();
        until(fleet, "work for all", LIMIT, |stats| stats.working == all);
    }
    manager.rest();
    let asked = Instant::now();
    daemon.signal("TERM");
    assert_eq!(daemon.end(), Some(0));
    let took = asked.elapsed();
    println!("{miners} miners were drained in {} ms", took.as_millis());
    assert!(took < DRAIN_LIMIT, "{took:?}");
    let told = manager.rest();
    assert!(told.iter().any(|told| told.says("STOPPING=1")), "{told:?}");
    drop(fleets);
}
