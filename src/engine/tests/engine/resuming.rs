//! Miners that come back under their session ids over real sockets, to one shard and to two.

use std::collections::BTreeSet;
use std::net::{Ipv4Addr, SocketAddr, SocketAddrV4, TcpStream};
use std::time::Duration;

use crate::support::{Answer, Miner, PATIENCE};
use engine::{Engine, EngineConfig, Host, Listen};
use node::simulated::{Control, Parameters};
use pow::Difficulty;
use rustix::net::sockopt::set_socket_linger;
use rustix::net::{AddressFamily, SocketType, bind, connect, socket};
use shard::AllowList;

/// About a thousand hashes per share.
const SHARE_DIFFICULTY: f64 = 2.5e-7;

/// An engine on loopback whose node never finds a block, nor do its miners.
fn start(shards: usize, host: Host) -> (Engine, Control) {
    let address = "127.0.0.1:0".parse().expect("an address");
    let (allow, proxy_from) = (AllowList::private(), AllowList::none());
    let listen = Listen { address, allow, proxy_from };
    let mut config = EngineConfig::new(vec![listen], vec![0x51], 7);
    config.start_difficulty = Difficulty::new(SHARE_DIFFICULTY).expect("a positive number");
    config.wished_pace = None;
    let parameters = Parameters {
        difficulty: 1e6,
        block_seconds: 0.0,
        transactions: 20,
        ..Parameters::default()
    };
    let (link, control) = node::simulated::spawn(parameters).expect("the node starts");
    let config = EngineConfig { shards, host, ..config };
    (Engine::start(config, link).expect("the engine starts"), control)
}

/// A connection to the engine from this address.
fn connected_from(source: Ipv4Addr, address: SocketAddr) -> TcpStream {
    let from = socket(AddressFamily::INET, SocketType::STREAM, None).expect("a socket");
    bind(&from, &SocketAddrV4::new(source, 0)).expect("all of 127/8 is ours");
    connect(&from, &address).expect("the engine listens");
    TcpStream::from(from)
}

fn reset(miner: Miner) {
    set_socket_linger(miner.socket(), Some(Duration::ZERO)).expect("linger can be set");
    drop(miner);
}

/// The shard that serves the connection with this extranonce1.
fn shard_of(engine: &Engine, extranonce1: &[u8]) -> u16 {
    let listed = engine.list_miners(PATIENCE).expect("the shards answer");
    let is_it = |row: &farm::messages::MinerRow| {
        row.extranonce1.is_some_and(|prefix| prefix.as_bytes() == extranonce1)
    };
    let serving: Vec<u16> =
        listed.iter().filter(|(_, row)| is_it(row)).map(|(shard, _)| shard.0).collect();
    assert_eq!(serving.len(), 1, "one connection has this extranonce");
    serving[0]
}

fn sum(engine: &Engine, counter: impl Fn(&shard::Counters) -> u64) -> u64 {
    engine.counters().iter().map(|counters| counter(counters)).sum()
}

/// A miner that is cut off again and again until it was on every shard: what it had found before
/// each cut counts after it, once.
fn check(shards: usize, host: Host) {
    const ROUNDS_MAX: usize = 64;
    let (engine, _node) = start(shards, host);
    let address = engine.local_addrs()[0];
    let mut miner = Miner::at_work(address, "farm.rig");
    let (session, extranonce1) = (miner.session.clone(), miner.extranonce1.clone());
    let mut served_by = BTreeSet::from([shard_of(&engine, &extranonce1)]);
    let (mut rounds, mut moves) = (0, 0);
    let mut at = *served_by.first().expect("one");
    while rounds < 3 || served_by.len() < shards || moves < shards - 1 {
        rounds += 1;
        assert!(rounds < ROUNDS_MAX, "the kernel gives every connection to one shard");
        let (counted, in_flight) = (miner.find_share(), miner.find_share());
        assert_eq!(miner.submit(&counted), Answer::Result("true".into()));
        match rounds % 3 {
            0 => reset(miner),
            1 => drop(miner),
            // Half open: the engine hears nothing of its end.
            _ => std::mem::forget(miner),
        }
        miner = Miner::connected(address, "farm.rig").back_at_work(&session);
        assert_eq!((&miner.session, &miner.extranonce1), (&session, &extranonce1));
        assert_eq!(miner.submit(&in_flight), Answer::Result("true".into()), "round {rounds}");
        assert_eq!(miner.submit(&in_flight), Answer::Error(22));
        assert_eq!(miner.submit(&counted), Answer::Error(22), "counted before the cut");
        let now_at = shard_of(&engine, &extranonce1);
        moves += usize::from(now_at != at);
        at = now_at;
        served_by.insert(at);
    }
    assert_eq!(sum(&engine, |shard| shard.sessions_resumed.value()), rounds as u64);
    assert_eq!(sum(&engine, |shard| shard.sessions_moved.value()), moves as u64);
    assert_eq!(sum(&engine, |shard| shard.shares[0].value()), 2 * rounds as u64);
    assert!(engine.drain(PATIENCE), "drained in time");
    assert_eq!(engine.status().totals.accepted, 2 * rounds as u64, "every shard's ledger");
    assert_eq!(engine.status().space.faults, 0);
    assert!(engine.stop(), "no thread panicked");
}

#[test]
fn a_miner_goes_on_where_it_was_on_one_shard_and_on_two() {
    check(1, Host::Glommio);
    check(2, Host::Glommio);
    check(2, Host::Thread);
}

#[test]
fn another_address_with_the_id_gets_a_new_session_and_disturbs_nobody() {
    for shards in [1, 2] {
        let (engine, _node) = start(shards, Host::Glommio);
        let address = engine.local_addrs()[0];
        let mut victim = Miner::at_work(address, "farm.victim");
        let in_flight = victim.find_share();
        // So many that some land on either shard.
        for _ in 0..8 {
            let socket = connected_from(Ipv4Addr::new(127, 0, 0, 9), address);
            let thief = Miner::over(socket, "thief").back_at_work(&victim.session);
            assert_ne!(thief.session, victim.session);
            assert_ne!(thief.extranonce1, victim.extranonce1);
        }
        assert_eq!(victim.submit_share(), Answer::Result("true".into()), "it is still served");
        let (session, extranonce1) = (victim.session.clone(), victim.extranonce1.clone());
        reset(victim);
        let socket = connected_from(Ipv4Addr::new(127, 0, 0, 9), address);
        let thief = Miner::over(socket, "thief").back_at_work(&session);
        assert_ne!((&thief.session, &thief.extranonce1), (&session, &extranonce1));
        let mut victim = Miner::connected(address, "farm.victim").back_at_work(&session);
        assert_eq!(victim.submit(&in_flight), Answer::Result("true".into()));
        assert_eq!(sum(&engine, |shard| shard.resumes_in_vain.value()), 9);
    }
}
