//! The whole engine with real sockets, the simulated node and miners that really hash: both hosts,
//! several shards, with and without gathering.

#[path = "engine/resuming.rs"]
mod resuming;
mod support;

use std::collections::BTreeSet;
use std::fs;
use std::net::{SocketAddr, TcpStream};
use std::sync::Arc;
use std::time::{Duration, Instant};

use engine::{Engine, EngineConfig, Feature, Host, Listen, Pretend, StartError, UringError};
use node::WorkHealth;
use node::simulated::{Control, Parameters};
use pow::{Difficulty, Hash256, Template};
use rustix::net::sockopt::set_socket_linger;
use shard::AllowList;
use shard::counters::CloseReason;
use support::{Answer, Miner, PATIENCE};

/// About a thousand hashes per share: found in a moment, and not by every nonce.
const SHARE_DIFFICULTY: f64 = 2.5e-7;

fn any_port() -> Listen {
    Listen {
        address: "127.0.0.1:0".parse().expect("an address"),
        allow: AllowList::private(),
        proxy_from: AllowList::none(),
    }
}

/// An engine on loopback whose shares are easy; `network` is the difficulty of a block.
fn config() -> EngineConfig {
    let anyone_can_spend = vec![0x51];
    let mut config = EngineConfig::new(vec![any_port()], anyone_can_spend, 7);
    config.start_difficulty = Difficulty::new(SHARE_DIFFICULTY).expect("a positive number");
    config.wished_pace = None;
    config
}

fn start(config: EngineConfig, network: f64) -> (Engine, Control) {
    let parameters = Parameters {
        difficulty: network,
        block_seconds: 0.0,
        transactions: 20,
        ..Parameters::default()
    };
    let (link, control) = node::simulated::spawn(parameters).expect("the node starts");
    (Engine::start(config, link).expect("the engine starts"), control)
}

fn address(engine: &Engine) -> SocketAddr {
    engine.local_addrs()[0]
}

/// Asks again until `done` says so: for what other threads publish a moment later.
fn await_that(what: &str, mut done: impl FnMut() -> bool) {
    let started = Instant::now();
    while !done() {
        assert!(started.elapsed() < PATIENCE, "{what} did not come about");
        std::thread::yield_now();
    }
}

/// Six miners on an engine: disjoint extranonces, shares that count, and an orderly end.
fn check(host: Host, shards: usize, gather: bool) {
    const MINERS: usize = 6;
    const SHARES: usize = 3;
    let (engine, _node) = start(EngineConfig { host, shards, gather, ..config() }, 1e6);
    assert_eq!(engine.placement().shards.len(), shards);
    let mut miners: Vec<Miner> = (0..MINERS)
        .map(|index| Miner::at_work(address(&engine), &format!("farm.rig{index}")))
        .collect();
    let prefixes: BTreeSet<&[u8]> =
        miners.iter().map(|miner| miner.extranonce1.as_slice()).collect();
    assert_eq!(prefixes.len(), MINERS, "extranonces are disjoint");
    for round in 0..SHARES {
        for miner in &mut miners {
            assert_eq!(miner.submit_share(), Answer::Result("true".into()), "round {round}");
        }
    }
    let accepted: u64 = engine.counters().iter().map(|counters| counters.shares[0].value()).sum();
    assert_eq!(accepted, (MINERS * SHARES) as u64, "every share was counted once");
    let mut listed = engine.list_miners(PATIENCE).expect("the shards answer");
    listed.sort_by(|(_, a), (_, b)| a.worker.cmp(&b.worker));
    assert_eq!(listed.len(), MINERS);
    for (index, (shard, row)) in listed.iter().enumerate() {
        assert_eq!(&*row.worker, format!("farm.rig{index}"));
        assert_eq!(row.accepted, SHARES as u64);
        assert!(usize::from(shard.0) < shards);
    }
    await_that("the ledger's sum", || engine.status().totals.accepted == (MINERS * SHARES) as u64);
    assert_eq!(engine.list_workers(PATIENCE).expect("it answers").len(), MINERS);
    assert!(engine.drain(PATIENCE), "drained in time");
    miners.into_iter().for_each(Miner::read_to_end);
    let address = address(&engine);
    assert!(engine.stop(), "no thread panicked");
    assert!(TcpStream::connect(address).is_err(), "nobody listens any more");
}

#[test]
fn miners_mine_on_glommio_hosts() {
    for (shards, gather) in [(1, true), (1, false), (2, true), (4, false)] {
        check(Host::Glommio, shards, gather);
    }
}

#[test]
fn miners_mine_on_bare_threads() {
    for (shards, gather) in [(1, true), (1, false), (2, false), (4, true)] {
        check(Host::Thread, shards, gather);
    }
}

#[test]
fn the_coordinators_heart_beats_without_work_or_miners() {
    let (link, _node_end) = node::link();
    let (engine, began) = (Engine::start(config(), link).expect("it starts"), engine::now());
    // Later than all turns of the start: only the pulse brings these.
    let later = began.plus_micros(1_500_000);
    await_that("a beat of the pulse", || engine.coordinator_heartbeat() >= later);
    assert!(engine.coordinator_heartbeat() <= engine::now());
}

#[test]
fn one_core_runs_everything() {
    let any = engine::Placement::choose(0, &[]).expect("this process runs on some core");
    let cores = vec![any.coordinator];
    let (engine, _node) = start(EngineConfig { cores, ..config() }, 1e6);
    assert_eq!(engine.placement().shards, [any.coordinator]);
    assert_eq!(engine.placement().coordinator, any.coordinator);
    let mut miner = Miner::at_work(address(&engine), "lonely");
    assert_eq!(miner.submit_share(), Answer::Result("true".into()));
}

#[test]
fn a_found_block_reaches_the_node_and_everybody_gets_its_tip() {
    let (engine, node) = start(EngineConfig { shards: 2, ..config() }, SHARE_DIFFICULTY);
    let mut miners: Vec<Miner> =
        (0..4).map(|index| Miner::at_work(address(&engine), &format!("m{index}"))).collect();
    let before = node.stats().height;
    assert_eq!(miners[0].submit_share(), Answer::Result("true".into()));
    await_that("the block in the chain", || node.stats().height > before);
    let stats = node.stats();
    assert_eq!((stats.accepted, stats.rejected.len()), (1, 0), "{stats:?}");
    await_that("the coordinator's account", || engine.status().block_counts.accepted == 1);
    // Its share may be of the old tip (21) only until the new one is read.
    for miner in &mut miners {
        let started = Instant::now();
        while miner.submit_share() != Answer::Result("true".into()) {
            assert!(started.elapsed() < PATIENCE, "the new tip never came");
        }
    }
}

#[test]
fn a_reset_and_a_flood_of_garbage_disturb_nobody() {
    let (engine, _node) = start(EngineConfig { shards: 1, ..config() }, 1e6);
    let mut honest = Miner::at_work(address(&engine), "honest");
    for round in 0..20 {
        let mut rude = Miner::connected(address(&engine), "rude");
        match round % 4 {
            0 => {}
            1 => rude.send(b"{\"id\":1,\"method\":\"mining.subs"),
            2 => rude.send(b"\x16\x03\x01\x02\x00\x01\xff\xfe nothing of this is Stratum\n"),
            _ => rude = Miner::at_work(address(&engine), "rude"),
        }
        set_socket_linger(rude.socket(), Some(Duration::ZERO)).expect("linger can be set");
        drop(rude);
        assert_eq!(honest.submit_share(), Answer::Result("true".into()), "round {round}");
    }
    await_that("the end of the rude", || {
        engine.list_miners(PATIENCE).expect("the shard answers").len() == 1
    });
    assert_eq!(engine.counters()[0].panics.value(), 0);
    assert_eq!(honest.submit_share(), Answer::Result("true".into()));
}

#[test]
fn a_source_that_is_not_allowed_is_turned_away() {
    let allow = AllowList::parse(["10.0.0.0/8"]).expect("a block");
    let listen = vec![Listen { allow, ..any_port() }, any_port()];
    let (engine, _node) = start(EngineConfig { listen, shards: 2, ..config() }, 1e6);
    let [closed, open] = engine.local_addrs() else { panic!("two addresses") };
    Miner::connected(*closed, "stranger").read_to_end();
    assert_eq!(Miner::at_work(*open, "friend").submit_share(), Answer::Result("true".into()));
}

#[test]
fn a_load_balancer_says_whose_its_connections_are() {
    let proxy_from = AllowList::parse(["127.0.0.0/8"]).expect("a block");
    let listen = vec![Listen { proxy_from, ..any_port() }, any_port()];
    let (engine, _node) = start(EngineConfig { listen, shards: 1, ..config() }, 1e6);
    let [behind, direct] = engine.local_addrs() else { panic!("two addresses") };
    let header = b"PROXY TCP4 203.0.113.7 10.0.0.2 51000 3333\r\n";
    let mut miner = Miner::at_work_behind(*behind, "miner", header);
    assert_eq!(miner.submit_share(), Answer::Result("true".into()));
    let rows = engine.list_miners(PATIENCE).expect("the shard answers");
    let peers: Vec<String> = rows.iter().map(|(_, row)| row.peer.to_string()).collect();
    assert_eq!(peers, ["203.0.113.7"]);
    // Nobody else is believed, and there nobody comes without a header.
    let mut liar = Miner::connected(*direct, "liar");
    liar.send(header);
    liar.read_to_end();
    let mut beside = Miner::connected(*behind, "beside");
    beside.send(b"{\"id\":1,\"method\":\"mining.subscribe\",\"params\":[]}\n");
    beside.read_to_end();
    let closed = |reason: CloseReason| engine.counters()[0].closed[reason as usize].value();
    assert_eq!(closed(CloseReason::ProxyHeader), 1);
    assert_eq!(closed(CloseReason::ProxyMissing), 1);
    assert_eq!(miner.submit_share(), Answer::Result("true".into()));
}

#[test]
fn the_farm_learns_from_its_node_whether_there_is_work() {
    let (link, node) = node::link();
    let engine = Engine::start(config(), link).expect("the engine starts");
    let outage = || engine.status().outage;
    assert!(outage().is_some(), "no work before the first template");
    node.publish(Arc::new(template()));
    await_that("the first job", || outage().is_none());
    node.report_work(WorkHealth::Down);
    await_that("the outage", || outage().is_some_and(|outage| !outage.is_released));
    node.report_work(WorkHealth::Up);
    await_that("the end of the outage", || outage().is_none());
}

/// Work that needs no node.
fn template() -> Template {
    Template {
        height: 1,
        prev_hash: Hash256::ZERO,
        version: 0x2000_0000,
        bits: 0x207f_ffff,
        curtime: 1_800_000_000,
        min_ntime: 1_799_990_000,
        coinbase_value: 5_000_000_000,
        coinbase_version: 2,
        coinbase_sequence: 0xffff_fffe,
        coinbase_locktime: 0,
        witness_commitment: None,
        coinbase_aux: Vec::new(),
        merkle_path: Vec::new(),
        transactions: Arc::from([]),
        weight: 0,
    }
}

#[test]
fn threads_are_pinned_and_no_signal_reaches_them() {
    let own_mask = || {
        let ours = fs::read_to_string("/proc/thread-self/status").expect("our own thread");
        let mask = ours.lines().find_map(|line| line.strip_prefix("SigBlk:"));
        mask.expect("a mask").trim().to_owned()
    };
    let before = own_mask();
    let (engine, _node) = start(EngineConfig { shards: 1, ..config() }, 1e6);
    let (shard, coordinator) = (engine.placement().shards[0], engine.placement().coordinator);
    let mut seen = BTreeSet::new();
    for task in fs::read_dir("/proc/self/task").expect("our own threads").flatten() {
        // A thread of another test may end meanwhile.
        let Ok(status) = fs::read_to_string(task.path().join("status")) else { continue };
        let field = |name: &str| {
            let line = status.lines().find_map(|line| line.strip_prefix(name));
            line.map(str::trim).unwrap_or_default().to_owned()
        };
        let name = field("Name:");
        // glommio adds the executor's number to a name.
        let kind =
            ["shard-0", "coordinator", "pulse"].into_iter().find(|kind| name.starts_with(kind));
        if let Some(kind) = kind {
            let blocked = u64::from_str_radix(&field("SigBlk:"), 16).expect("a mask");
            let (hup, int, term, usr2) = (1 << 0, 1 << 1, 1 << 14, 1 << 11);
            let all = hup | int | term | usr2;
            assert_eq!(blocked & all, all, "{name} would take a signal");
            seen.insert((kind, field("Cpus_allowed_list:")));
        }
    }
    // Other tests' engines have threads of these names too, some on other cores.
    assert!(seen.contains(&("shard-0", shard.to_string())), "{seen:?}");
    assert!(seen.contains(&("coordinator", coordinator.to_string())), "{seen:?}");
    assert!(seen.iter().any(|(kind, _)| *kind == "pulse"), "{seen:?}");
    assert_eq!(own_mask(), before, "the caller takes its signals as before");
}

#[test]
fn a_start_that_cannot_be_says_why_and_leaves_nothing_behind() {
    let refused = |config: EngineConfig| {
        let (link, _node) = node::simulated::spawn(Parameters::default()).expect("the node starts");
        Engine::start(config, link).expect_err("it must not start")
    };
    let (running, _node) = start(EngineConfig { shards: 1, ..config() }, 1e6);
    let taken = Listen { address: address(&running), ..any_port() };
    let error = refused(EngineConfig { listen: vec![taken], ..config() });
    assert!(matches!(error, StartError::PortTaken { .. }), "{error}");

    let error = refused(EngineConfig { listen: Vec::new(), ..config() });
    assert!(matches!(error, StartError::NoListener), "{error}");

    for host in [Host::Glommio, Host::Thread] {
        let missing = vec![Feature::MultishotReceive];
        let pretend = Pretend { missing, setup_fails: None };
        let error = refused(EngineConfig { host, shards: 2, pretend, ..config() });
        assert!(matches!(error, StartError::Ring(UringError::Missing(_))), "{error}");
        assert!(error.to_string().contains("multishot receive"), "{error}");
    }
    let error = refused(EngineConfig { cores: vec![1_000], ..config() });
    assert!(error.to_string().contains("core 1000 is not among"), "{error}");
    let mut miner = Miner::at_work(address(&running), "undisturbed");
    assert_eq!(miner.submit_share(), Answer::Result("true".into()));
}

#[test]
fn a_kernel_without_gathering_serves_all_the_same() {
    let missing = vec![Feature::MinimumWait];
    let pretend = Pretend { missing, setup_fails: None };
    let (engine, _node) = start(EngineConfig { pretend, ..config() }, 1e6);
    assert!(!engine.gathers());
    let mut miner = Miner::at_work(address(&engine), "old kernel");
    assert_eq!(miner.submit_share(), Answer::Result("true".into()));
}

/// glommio 0.9.0 parks for ever when its preemption timer fires at the wrong moment, which a busy
/// machine brings about within a few dozen starts (`host_glommio.rs`).
#[test]
fn engines_that_stop_at_once_always_end() {
    let (ended, all) = std::sync::mpsc::channel();
    std::thread::spawn(move || {
        for _ in 0..40 {
            let (engine, _node) = start(EngineConfig { shards: 2, ..config() }, 1e6);
            ended.send(engine.stop()).expect("the test waits");
        }
    });
    for index in 0..40 {
        assert_eq!(all.recv_timeout(PATIENCE), Ok(true), "engine {index}");
    }
}
