//! Who gets in and who is let go: PROXY headers, hellos of other protocols, and the release of
//! miners for whom there is no work.

use std::net::IpAddr;

use farm::messages::{FromShard, MinerRow, MinerState, ToShard};
use shard::counters::{CloseReason, RefusalReason};
use shard::{AllowList, ConnId};

use crate::world::{HANDSHAKE, PROXY, SECOND, World, job_id, submit};

fn closed(world: &World, reason: CloseReason) -> u64 {
    world.counters.closed[reason as usize].value()
}

fn refused(world: &World, reason: RefusalReason) -> u64 {
    world.counters.refused[reason as usize].value()
}

/// Connects from the load balancer.
fn connect_proxied(world: &mut World, socket: u32) -> ConnId {
    world.ring.connect(socket, PROXY.parse().expect("an address"));
    world.settle();
    world.ring.adopted[&socket]
}

fn rows(world: &mut World) -> Vec<MinerRow> {
    world.lane.from_shard.clear();
    world.lane.to_shard.push_back(ToShard::ListMiners { query: 1 });
    world.settle();
    let rows = world.lane.take(|message| match message {
        FromShard::Miners { rows, .. } => Some(rows),
        _ => None,
    });
    rows.into_iter().flatten().collect()
}

fn header(client: &str) -> Vec<u8> {
    format!("PROXY TCP4 {client} 10.0.0.2 51000 3333\r\n").into_bytes()
}

/// A header of version 2 with an extension of `padding` bytes.
fn binary(command: u8, client: [u8; 4], padding: usize) -> Vec<u8> {
    let [high, low] = (12 + 3 + padding as u16).to_be_bytes();
    let [more, less] = (padding as u16).to_be_bytes();
    let head = [&b"\r\n\r\n\0\r\nQUIT\n"[..], &[0x20 | command, 0x11, high, low]].concat();
    let ports = [0xc7, 0x38, 0x0d, 0x05];
    [&head[..], &client, &[10, 0, 0, 2], &ports, &[4, more, less], &vec![0; padding]].concat()
}

#[test]
fn the_address_of_the_header_is_the_miners_and_it_mines_in_every_split() {
    let long = [binary(1, [203, 0, 113, 7], 600), HANDSHAKE.to_vec()].concat();
    let short = [header("203.0.113.7"), HANDSHAKE.to_vec()].concat();
    for stream in [short, long] {
        for cut in (0..stream.len()).step_by(7) {
            let mut world = World::new(2);
            world.new_tip();
            let miner = connect_proxied(&mut world, 1);
            for part in [&stream[..cut], &stream[cut..]] {
                if !part.is_empty() {
                    world.ring.deliver(miner, part);
                    world.settle();
                }
            }
            let text = world.ring.read(miner);
            let id = job_id(&text).unwrap_or_else(|| panic!("cut at {cut}: {text}")).to_owned();
            world.ring.deliver(miner, submit(3, &id, 7).as_bytes());
            world.settle();
            assert!(world.ring.read(miner).contains("{\"id\":3,\"result\":true"), "cut at {cut}");
            let rows = rows(&mut world);
            assert_eq!(rows[0].peer, "203.0.113.7".parse::<IpAddr>().expect("an address"));
            assert_eq!((rows.len(), rows[0].state), (1, MinerState::Mining));
            assert_eq!(world.ring.lent, 0, "every buffer was given back");
        }
    }
}

#[test]
fn a_header_without_an_address_leaves_the_load_balancers_own() {
    let local = binary(0, [203, 0, 113, 7], 0);
    for header in [&b"PROXY UNKNOWN\r\n"[..], &local] {
        let mut world = World::new(2);
        let miner = connect_proxied(&mut world, 1);
        world.ring.deliver(miner, header);
        world.ring.deliver(miner, HANDSHAKE);
        world.settle();
        let rows = rows(&mut world);
        assert_eq!(rows[0].peer, PROXY.parse::<IpAddr>().expect("an address"));
        assert_eq!(rows[0].state, MinerState::Mining);
    }
}

#[test]
fn who_must_send_a_header_and_who_must_not() {
    for (proxied, bytes, reason) in [
        (true, HANDSHAKE, CloseReason::ProxyMissing),
        (true, b"GET / HTTP/1.1\r\n\r\n", CloseReason::ProxyMissing),
        (true, b"\x16\x03\x01\x02\x00\x01", CloseReason::ProxyMissing),
        (true, b"PROXY TCP4 203.0.113.7\r\n", CloseReason::ProxyMalformed),
        (true, b"\r\n\r\n\0\r\nQUIT\n\x31\x11\0\x0c", CloseReason::ProxyMalformed),
        (true, b"PROXY UNKNOWN\r\nPROXY UNKNOWN\r\n", CloseReason::ProxyHeader),
        (true, b"PROXY UNKNOWN\r\nGET / HTTP/1.1\r\n", CloseReason::Http),
        (false, b"PROXY TCP4 203.0.113.7 10.0.0.2 1 2\r\n", CloseReason::ProxyHeader),
        (false, b"\r\n\r\n\0\r\nQUIT\n\x21\x11\0\x0c", CloseReason::ProxyHeader),
    ] {
        let mut world = World::new(2);
        let conn = if proxied { connect_proxied(&mut world, 1) } else { world.connect(1) };
        world.ring.deliver(conn, bytes);
        world.settle();
        assert_eq!(world.ring.closed, [conn], "{}", bytes.escape_ascii());
        assert_eq!(closed(&world, reason), 1, "{reason:?}: {}", bytes.escape_ascii());
        assert_eq!(world.ring.read(conn), "", "nothing that it would understand");
        // Nothing of it is left: as many may come as there is room for.
        for socket in 2..4 {
            connect_proxied(&mut world, socket);
        }
        assert_eq!(world.shard.connections().count(), 2);
    }
}

#[test]
fn a_header_that_does_not_come_ends_like_any_silence() {
    for begun in [&b""[..], b"PROXY TCP4 203.0"] {
        let mut world = World::new(2);
        let conn = connect_proxied(&mut world, 1);
        if !begun.is_empty() {
            world.ring.deliver(conn, begun);
        }
        world.pass(4 * SECOND);
        assert_eq!(world.shard.connections().count(), 1);
        world.pass(2 * SECOND);
        assert_eq!(world.ring.closed, [conn]);
        assert_eq!(closed(&world, CloseReason::Handshake), 1);
    }
}

#[test]
fn the_limit_per_source_is_that_of_the_named_source() {
    let mut world = World::with(16, AllowList::private(), 2);
    let mut number = 0;
    let mut come = |world: &mut World, client: &str| {
        number += 1;
        let conn = connect_proxied(world, number);
        world.ring.deliver(conn, &header(client));
        world.settle();
        conn
    };
    // The load balancer may have more than one source may, and a source off the allow list may
    // come through it: the list is about who connects to us.
    for client in ["203.0.113.7", "203.0.113.7", "203.0.113.8", "203.0.113.8", "203.0.113.9"] {
        come(&mut world, client);
    }
    assert_eq!(world.shard.connections().count(), 5);
    let fourth = come(&mut world, "203.0.113.7");
    assert_eq!(world.ring.closed, [fourth]);
    assert_eq!(closed(&world, CloseReason::PerSource), 1);
    let first = ConnId { slot: 0, generation: 0 };
    let cause = shard::ReceiveEnd::Eof;
    world.ring.completions.push_back(shard::Completion::ReceiveEnded { conn: first, cause });
    world.settle();
    let next = come(&mut world, "203.0.113.7");
    assert_eq!(world.shard.connections().count(), 5, "who left has made room");
    // Whoever is authorized counts no more: a farm may stand behind one address.
    world.ring.deliver(next, HANDSHAKE);
    world.settle();
    for count in 6..10 {
        let miner = come(&mut world, "203.0.113.7");
        world.ring.deliver(miner, HANDSHAKE);
        world.settle();
        assert_eq!(world.shard.connections().count(), count);
    }
    assert_eq!(closed(&world, CloseReason::PerSource), 1);
}

#[test]
fn a_tls_client_hears_its_own_alert_and_others_nothing() {
    let hello = b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03";
    let mut world = World::new(4);
    let tls = world.connect(1);
    world.ring.deliver(tls, hello);
    let http = world.connect(2);
    world.ring.deliver(http, b"GET / HTTP/1.1\r\n\r\n");
    let noise = world.connect(3);
    world.ring.deliver(noise, &[0xa7; 64]);
    world.settle();
    assert_eq!(world.ring.wire[tls.slot as usize], wire::TLS_REFUSAL);
    assert!(world.ring.wire[http.slot as usize].is_empty());
    assert!(world.ring.wire[noise.slot as usize].is_empty());
    assert_eq!(world.ring.closed.len(), 3);
    for reason in [CloseReason::Tls, CloseReason::Http, CloseReason::NotStratum] {
        assert_eq!(closed(&world, reason), 1, "{reason:?}");
    }
}

/// A shard at work with so many miners, all of whom have a job.
fn at_work(miners: u32) -> World {
    let mut world = World::new(miners as usize + 8);
    world.new_tip();
    for number in 0..miners {
        world.miner(number);
    }
    world
}

/// Turns exactly when the shard wants them, until the moment.
fn run_to(world: &mut World, end: u64) {
    while world.now.as_micros() < end {
        let turn = world.turn();
        let next = turn.deadline.max(world.now.plus_micros(1));
        world.now = next.min(session::Tick(end));
    }
    world.turn();
}

#[test]
fn without_work_miners_leave_at_the_pace_and_nobody_new_gets_in() {
    let mut world = at_work(300);
    let id = job_id(&world.ring.read(ConnId { slot: 299, generation: 0 })).unwrap().to_owned();
    let began = world.now.as_micros();
    world.lane.to_shard.push_back(ToShard::Release { per_second: 100 });
    world.ring.connect(1_000, IpAddr::from([10, 9, 9, 9]));
    for tenth in 1..=20 {
        run_to(&mut world, began + tenth * SECOND / 10);
        let gone = closed(&world, CloseReason::NoWork);
        assert!((tenth * 10..=tenth * 10 + 1).contains(&gone), "{gone} in {tenth} tenths");
    }
    assert_eq!(refused(&world, RefusalReason::NoWork), 1, "closed at once, and not left to wait");
    // Whoever is still here mines on.
    world.ring.deliver(ConnId { slot: 299, generation: 0 }, submit(3, &id, 7).as_bytes());
    run_to(&mut world, began + 21 * SECOND / 10);
    let text = world.ring.read(ConnId { slot: 299, generation: 0 });
    assert!(text.contains("{\"id\":3,\"result\":true"), "{text}");
    run_to(&mut world, began + 4 * SECOND);
    assert_eq!(closed(&world, CloseReason::NoWork), 300);
    assert_eq!(world.shard.connections().count(), 0);
    let turn = world.turn();
    assert!(turn.deadline > world.now, "a shard without miners and work has nothing to do");
}

#[test]
fn with_work_again_the_rest_stays_and_the_others_may_return() {
    let mut world = at_work(100);
    let began = world.now.as_micros();
    world.lane.to_shard.push_back(ToShard::Release { per_second: 10 });
    run_to(&mut world, began + SECOND);
    let gone = closed(&world, CloseReason::NoWork);
    assert!((10..=11).contains(&gone), "{gone}");
    world.lane.to_shard.push_back(ToShard::Serve);
    world.new_tip();
    world.settle();
    world.pass(5 * SECOND);
    assert_eq!(closed(&world, CloseReason::NoWork), gone);
    let back = world.miner(5_000);
    assert!(job_id(&world.ring.read(back)).is_some());
    assert_eq!(world.shard.connections().count() as u64, 101 - gone);
    // The next outage begins with the first slot again.
    world.lane.to_shard.push_back(ToShard::Release { per_second: 1_000 });
    world.settle();
    let end = world.now.as_micros() + SECOND;
    run_to(&mut world, end);
    assert_eq!(world.shard.connections().count(), 0);
}

#[test]
fn a_stall_is_not_made_up_for_by_a_burst() {
    let mut world = at_work(200);
    world.lane.to_shard.push_back(ToShard::Release { per_second: 100 });
    world.turn();
    world.now = world.now.plus_micros(SECOND);
    world.settle();
    let gone = closed(&world, CloseReason::NoWork);
    assert!(gone <= 4, "{gone} at once");
}

#[test]
fn a_drain_goes_before_a_release_and_both_end() {
    let mut world = at_work(50);
    world.lane.to_shard.push_back(ToShard::Release { per_second: 1 });
    world.turn();
    world.lane.to_shard.push_back(ToShard::Drain);
    for _ in 0..50 {
        if world.turn().drained {
            break;
        }
        world.now = world.now.plus_micros(SECOND / 100);
    }
    assert!(world.turn().drained);
    assert_eq!(closed(&world, CloseReason::NoWork) + closed(&world, CloseReason::Drained), 50);
}
