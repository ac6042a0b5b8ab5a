//! Limits, deadlines and overload: who has to leave, who has not, and that nobody who hashes does.

use farm::messages::MinerState;
use shard::admission::{ADOPTIONS_PER_TURN, WAITING_FOR_ROOM_MAX};
use shard::counters::{CloseReason, RefusalReason};
use shard::shedding::{HANDSHAKE_GRACE_US, IDLE_FIXED_US, IDLE_US, UNRESPONSIVE_US};
use shard::turn::{BYTES_PER_TURN, COMPLETIONS_PER_TURN};
use shard::{Completion, ConnId};

use crate::world::{HANDSHAKE, SECOND, World, job_id, submit};

const MILLISECOND: u64 = 1_000;

fn closed(world: &World, reason: CloseReason) -> u64 {
    world.counters.closed[reason as usize].value()
}

fn refused(world: &World, reason: RefusalReason) -> u64 {
    world.counters.refused[reason as usize].value()
}

fn is_served(world: &World, conn: ConnId) -> bool {
    world.shard.connections().any(|served| served.conn == conn)
}

/// A turn that cannot take all that the ring has, then `micros` in which it is busy.
fn busy_turn(world: &mut World, micros: u64) {
    let woken = || Completion::Woken;
    let missing = (COMPLETIONS_PER_TURN + 1).saturating_sub(world.ring.completions.len());
    world.ring.completions.extend((0..missing).map(|_| woken()));
    world.turn();
    world.now = world.now.plus_micros(micros);
}

/// So many microseconds behind the ring.
fn stay_behind(world: &mut World, micros: u64) {
    let end = world.now.plus_micros(micros);
    while world.now < end {
        busy_turn(world, 5 * MILLISECOND);
    }
}

fn share(world: &mut World, miner: ConnId, job: &str, nonce: u32) {
    world.ring.deliver(miner, submit(3, job, nonce).as_bytes());
}

#[test]
fn the_oldest_stranger_makes_room_and_never_a_miner() {
    let mut world = World::limited(8, 8);
    world.new_tip();
    let miners = [0, 1, 2, 3].map(|number| world.miner(number));
    let strangers: Vec<ConnId> = (4..8).map(|number| world.connect(number)).collect();
    world.pass(HANDSHAKE_GRACE_US / 2);
    world.knock(8);
    let turn = world.turn();
    assert!(turn.deadline > world.now, "a full shard does not spin");
    assert_eq!(closed(&world, CloseReason::Crowded), 0, "they have their time");
    world.pass(HANDSHAKE_GRACE_US / 2);
    assert_eq!(world.ring.closed, [strangers[0]], "one is enough, and the oldest it is");
    assert!(world.ring.adopted.contains_key(&8));
    let late = world.ring.adopted[&8];
    world.ring.deliver(late, HANDSHAKE);
    world.settle();
    // As long as strangers are here, whoever knocks gets in; then the farm is full.
    for number in 9..12 {
        world.knock(number);
        world.pass(SECOND / 4);
        let conn = world.ring.adopted[&number];
        world.ring.deliver(conn, HANDSHAKE);
        world.settle();
    }
    assert_eq!(closed(&world, CloseReason::Crowded), 4);
    world.knock(12);
    world.settle();
    assert_eq!(refused(&world, RefusalReason::Connections), 1);
    assert!(miners.into_iter().all(|miner| is_served(&world, miner)));
    let mining = world.shard.connections().filter(|conn| conn.state == MinerState::Mining);
    assert_eq!(mining.count(), 8);
}

/// Somebody at this address connects and authorizes; `None` where it was not let in.
fn come(world: &mut World, socket: u32, address: &str) -> Option<ConnId> {
    world.ring.connect(socket, address.parse().expect("an address"));
    world.settle();
    // Whoever makes room has left before the next look.
    world.pass(SECOND / 4);
    let conn = *world.ring.adopted.get(&socket)?;
    world.ring.deliver(conn, HANDSHAKE);
    world.settle();
    Some(conn)
}

/// As above, and has a share accepted.
fn hash(world: &mut World, socket: u32, address: &str) -> Option<ConnId> {
    let conn = come(world, socket, address)?;
    let id = job_id(&world.ring.read(conn)).expect("a job").to_owned();
    share(world, conn, &id, socket);
    world.settle();
    assert!(world.ring.read(conn).contains("{\"id\":3,\"result\":true"));
    Some(conn)
}

#[test]
fn one_machine_that_never_hashes_cannot_hold_every_place() {
    const PLACES: u32 = 20;
    let mut world = World::following(PLACES as usize);
    world.new_tip();
    let holders: Vec<ConnId> =
        (0..PLACES).map(|socket| come(&mut world, socket, "10.0.0.9").expect("a place")).collect();
    world.pass(IDLE_US / 2);
    assert_eq!(hash(&mut world, 100, "10.1.1.100"), None, "they may still find a share");
    assert_eq!(refused(&world, RefusalReason::Connections), 1);
    world.pass(IDLE_US / 2);
    for (count, socket) in (0..PLACES).zip(200..) {
        let miner = hash(&mut world, socket, &format!("10.1.1.{socket}")).expect("a place");
        assert!(is_served(&world, miner));
        assert_eq!(closed(&world, CloseReason::Idle), u64::from(count) + 1);
        assert_eq!(world.ring.closed, holders[..=count as usize], "the oldest first");
    }
    // All hash now, or did: nobody makes room for ever.
    world.pass(2 * IDLE_FIXED_US);
    assert_eq!(hash(&mut world, 300, "10.1.1.1"), None);
    assert_eq!(world.shard.connections().count(), PLACES as usize);
    assert_eq!(closed(&world, CloseReason::Idle), u64::from(PLACES));
}

#[test]
fn the_source_with_the_most_idle_connections_makes_room_first() {
    let mut world = World::following(9);
    world.new_tip();
    let lone = come(&mut world, 0, "10.0.0.1").expect("a place");
    let few = [1, 2].map(|socket| come(&mut world, socket, "10.0.0.2").expect("a place"));
    let hashing = [3, 4].map(|socket| hash(&mut world, socket, "10.0.0.3").expect("a place"));
    let many = [5, 6, 7, 8].map(|socket| come(&mut world, socket, "10.0.0.3").expect("a place"));
    world.pass(IDLE_US);
    assert_eq!(world.ring.closed, [], "nobody wants their places");
    for socket in 10..13 {
        hash(&mut world, socket, "10.0.1.1").expect("a place");
    }
    assert_eq!(world.ring.closed[..2], many[..2]);
    // Two each: whichever goes, the other is next.
    hash(&mut world, 13, "10.0.1.1").expect("a place");
    let mut third = world.ring.closed[2..].to_vec();
    third.sort_by_key(|conn| conn.slot);
    assert_eq!(third, [few[0], many[2]]);
    assert!(is_served(&world, lone) && hashing.into_iter().all(|conn| is_served(&world, conn)));
}

#[test]
fn nobody_is_idle_while_there_is_no_work() {
    let mut world = World::following(2);
    let miners = [1, 2].map(|number| world.miner(number));
    world.pass(2 * IDLE_US);
    world.new_tip();
    world.pass(IDLE_US - SECOND);
    assert_eq!(come(&mut world, 3, "10.0.1.1"), None);
    assert!(miners.into_iter().all(|miner| is_served(&world, miner)));
    world.pass(SECOND);
    come(&mut world, 4, "10.0.1.1").expect("a place");
    assert_eq!(closed(&world, CloseReason::Idle), 1);
}

#[test]
fn where_all_have_one_difficulty_a_slow_miner_has_an_hour() {
    let mut world = World::limited(2, 2);
    world.new_tip();
    let slow = [1, 2].map(|number| world.miner(number));
    world.pass(IDLE_FIXED_US - 2 * SECOND);
    assert_eq!(come(&mut world, 3, "10.0.1.1"), None);
    assert!(slow.into_iter().all(|miner| is_served(&world, miner)));
    world.pass(2 * SECOND);
    come(&mut world, 4, "10.0.1.1").expect("a place");
    assert_eq!(closed(&world, CloseReason::Idle), 1);
}

#[test]
fn strangers_share_their_own_limit_and_those_that_wait_are_served_in_their_order() {
    let mut world = World::limited(1_000, 10);
    world.new_tip();
    for number in 0..100 {
        world.knock(number);
    }
    world.settle();
    assert_eq!(world.ring.adopted.len(), 10);
    // Each that is authorized makes room at once.
    for number in 0..90 {
        let conn = world.ring.adopted[&number];
        world.ring.deliver(conn, HANDSHAKE);
        world.settle();
        assert_eq!(world.ring.adopted.len(), 11 + number as usize);
    }
    assert_eq!(closed(&world, CloseReason::Crowded), 0);
    // The last ten say nothing, and make room for others.
    for number in 100..110 {
        world.knock(number);
    }
    world.pass(HANDSHAKE_GRACE_US + SECOND / 4);
    assert_eq!(closed(&world, CloseReason::Crowded), 10);
    assert_eq!(world.ring.adopted.len(), 110);
    assert_eq!(refused(&world, RefusalReason::Connections), 0);
}

#[test]
fn half_open_connections_make_room_for_the_farm_that_returns() {
    const MINERS: u32 = 200;
    let mut world = World::limited(MINERS as usize, MINERS as usize);
    world.new_tip();
    let miners: Vec<ConnId> = (0..MINERS).map(|number| world.miner(number)).collect();
    let gone = &miners[..150];
    for (conn, silence_us) in gone.iter().zip([UNRESPONSIVE_US, 60 * SECOND].iter().cycle()) {
        world.ring.gone_us.insert(*conn, *silence_us);
    }
    // These are only late.
    world.ring.gone_us.insert(miners[160], UNRESPONSIVE_US - 1);
    world.pass(SECOND);
    assert_eq!(world.shard.connections().count(), 200, "nobody is asked while there is room");
    for number in 200..350 {
        world.knock(number);
        if number % 50 == 0 {
            world.settle();
        }
    }
    world.pass(SECOND);
    for number in 200..350 {
        let conn = world.ring.adopted[&number];
        world.ring.deliver(conn, HANDSHAKE);
        world.settle();
    }
    assert_eq!(closed(&world, CloseReason::Unresponsive), 150);
    assert_eq!(refused(&world, RefusalReason::Connections), 0);
    assert!(miners[150..].iter().all(|miner| is_served(&world, *miner)));
    assert_eq!(world.shard.connections().count(), 200);
    // Now all answer, and the farm is full.
    world.pass(2 * SECOND);
    world.knock(350);
    world.settle();
    assert_eq!(refused(&world, RefusalReason::Connections), 1);
}

#[test]
fn few_sockets_wait_for_room_when_every_place_is_taken() {
    let limit = 4 * WAITING_FOR_ROOM_MAX;
    let mut world = World::limited(limit, limit);
    let many = (limit + WAITING_FOR_ROOM_MAX + 50) as u32;
    for number in 0..many {
        world.knock(number);
        if number % 32 == 0 {
            world.settle();
        }
    }
    world.settle();
    assert_eq!(world.ring.adopted.len(), limit);
    assert_eq!(refused(&world, RefusalReason::Connections), 50, "descriptors are limited too");
    world.pass(HANDSHAKE_GRACE_US + SECOND / 4);
    assert_eq!(world.ring.adopted.len(), limit + WAITING_FOR_ROOM_MAX);
}

#[test]
fn deadlines_count_from_the_start_however_somebody_drips() {
    let mut world = World::new(64);
    world.new_tip();
    let silent = world.connect(0);
    let drippers: Vec<ConnId> = (1..40).map(|number| world.connect(number)).collect();
    let subscribed = world.connect(40);
    world
        .ring
        .deliver(subscribed, HANDSHAKE.split_inclusive(|byte| *byte == b'\n').next().unwrap());
    let lottery = world.miner(41);
    for second in 1..=16 {
        for dripper in &drippers {
            if is_served(&world, *dripper) {
                world.ring.deliver(*dripper, &HANDSHAKE[second - 1..second]);
            }
        }
        world.pass(SECOND);
        assert_eq!(is_served(&world, silent), second < 5, "after {second} s");
        let open = drippers.iter().filter(|dripper| is_served(&world, **dripper)).count();
        assert_eq!(open, if second < 15 { 39 } else { 0 }, "after {second} s");
    }
    assert!(!is_served(&world, subscribed));
    assert_eq!(closed(&world, CloseReason::Handshake), 41);
    world.pass(2 * 3_600 * SECOND);
    assert!(is_served(&world, lottery), "a miner may find one share a day");
}

#[test]
fn a_turn_reads_within_its_budget_and_nothing_is_lost() {
    let mut world = World::new(400);
    world.new_tip();
    let miners: Vec<ConnId> = (0..200).map(|number| world.miner(number)).collect();
    let id = job_id(&world.ring.read(miners[0])).expect("a job").to_owned();
    let burst: String = (0..35).map(|nonce| submit(10 + nonce, &id, nonce)).collect();
    for miner in &miners {
        world.ring.read(*miner);
        world.ring.deliver(*miner, burst.as_bytes());
    }
    let read = || world.counters.bytes_received.value();
    let before = read();
    world.shard.turn(world.now, &mut world.ring, &mut world.lane, &shard::NoGuard);
    let taken = read() - before;
    assert!((BYTES_PER_TURN..BYTES_PER_TURN + 4_096).contains(&taken), "{taken}");
    world.settle();
    for miner in miners {
        assert_eq!(world.ring.read(miner).matches("\"result\":true").count(), 35);
    }
}

#[test]
fn each_level_sheds_its_own_and_hashing_miners_stay() {
    let mut world = World::new(400);
    world.new_tip();
    let hashing = world.miner(0);
    let id = job_id(&world.ring.read(hashing)).expect("a job").to_owned();
    let idle: Vec<ConnId> = (1..200).map(|number| world.miner(number)).collect();
    world.pass(IDLE_US - 60 * SECOND);
    share(&mut world, hashing, &id, 7);
    world.pass(60 * SECOND);
    let fresh = world.miner(201);
    let strangers: Vec<ConnId> = (202..290).map(|number| world.connect(number)).collect();
    world.pass(HANDSHAKE_GRACE_US);
    let late = world.connect(300);
    let level = |world: &World| world.counters.overload_level.value();
    stay_behind(&mut world, 95 * MILLISECOND);
    assert_eq!((level(&world), world.ring.armed.len()), (0, 1));

    stay_behind(&mut world, 20 * MILLISECOND);
    assert_eq!(level(&world), 1);
    world.knock(301);
    stay_behind(&mut world, 100 * MILLISECOND);
    assert!(!world.ring.adopted.contains_key(&301), "it waits");
    assert_eq!(world.shard.connections().count(), 201 + 89, "nobody was shed");

    stay_behind(&mut world, 500 * MILLISECOND);
    assert_eq!(level(&world), 2);
    assert!(strangers.iter().all(|stranger| !is_served(&world, *stranger)));
    assert!(is_served(&world, late), "it has not had its time");
    assert_eq!(closed(&world, CloseReason::Overload), 88);

    stay_behind(&mut world, 2 * SECOND);
    assert_eq!(level(&world), 3);
    assert!(idle.iter().all(|idle| !is_served(&world, *idle)));
    assert!(is_served(&world, hashing) && is_served(&world, fresh));
    assert_eq!(closed(&world, CloseReason::Overload), 89 + 199, "with the late stranger");

    // It catches up: a level falls each second, then whoever has waited is served.
    world.settle();
    for expected in [3, 2, 1] {
        assert_eq!(level(&world), expected);
        assert!(!world.ring.adopted.contains_key(&301));
        world.pass(SECOND);
    }
    assert_eq!(level(&world), 0);
    assert!(world.ring.adopted.contains_key(&301));
    assert_eq!(world.ring.armed.len(), 2, "the listener is armed again");
}

#[test]
fn an_overloaded_shard_wakes_to_look_whether_it_still_is() {
    let mut world = World::new(4);
    stay_behind(&mut world, 110 * MILLISECOND);
    world.ring.completions.clear();
    let turn = world.turn();
    assert_eq!(world.counters.overload_level.value(), 1);
    assert!(turn.deadline.since(world.now) <= SECOND);
    world.now = world.now.plus_micros(SECOND);
    world.turn();
    assert_eq!(world.counters.overload_level.value(), 0);
    assert_eq!(world.ring.armed.len(), 2);
}

#[test]
fn a_farm_that_returns_at_once_is_no_overload() {
    const MINERS: u32 = 5_000;
    let mut world = World::new(MINERS as usize + 8);
    world.new_tip();
    world.settle();
    (0..MINERS).for_each(|number| world.knock(number));
    let (mut turns, mut seated) = (0, 0);
    while world.counters.miners_mining.value() < u64::from(MINERS) {
        world.turn();
        // What 64 handshakes cost at the most, here in an unoptimised build.
        world.now = world.now.plus_micros(4 * MILLISECOND);
        let adopted: Vec<ConnId> = world.ring.adopted.range(seated..).map(|(_, at)| *at).collect();
        assert!(adopted.len() <= ADOPTIONS_PER_TURN);
        seated += adopted.len() as u32;
        adopted.into_iter().for_each(|conn| world.ring.deliver(conn, HANDSHAKE));
        assert_eq!(world.counters.overload_level.value(), 0);
        turns += 1;
        assert!(turns < 10_000, "{seated} of {MINERS}");
    }
    assert_eq!(world.shard.connections().count(), MINERS as usize);
}

#[test]
fn who_asks_on_without_reading_is_cut_at_64_answers() {
    let mut world = World::new(8);
    world.new_tip();
    let [deaf, slow] = [world.miner(1), world.miner(2)];
    let pings = |count: u32| -> String {
        let ping = |id| format!("{{\"id\":{id},\"method\":\"mining.ping\",\"params\":[]}}\n");
        (0..count).map(ping).collect()
    };
    world.ring.hold_sends = true;
    for miner in [deaf, slow] {
        world.ring.deliver(miner, pings(1).as_bytes());
    }
    world.settle();
    world.pass(SECOND / 2);
    for miner in [deaf, slow] {
        world.ring.deliver(miner, pings(200).as_bytes());
    }
    world.settle();
    assert_eq!(world.ring.closed, [], "a burst after a stall is honest");
    while let Some(at) = world.ring.held.iter().position(|(conn, ..)| *conn == slow) {
        world.ring.held.swap(0, at);
        world.ring.finish_send(usize::MAX);
        world.settle();
    }
    world.pass(SECOND);
    for miner in [deaf, slow] {
        world.ring.deliver(miner, pings(1).as_bytes());
    }
    world.settle();
    assert_eq!(world.ring.closed, [deaf]);
    assert_eq!(closed(&world, CloseReason::SlowReader), 1);
}

#[test]
fn strangers_hold_no_more_than_their_budget() {
    const STRANGERS: u32 = 300;
    let mut world = World::limited(STRANGERS as usize, STRANGERS as usize);
    world.new_tip();
    let mut honest = Vec::new();
    // Half of a line of 8 KiB each, in parts: far above what all may hold.
    let line = [b"{\"id\":1,\"method\":\"".to_vec(), vec![b'a'; 4_000]].concat();
    for number in 0..STRANGERS {
        let conn = world.connect(number);
        if number % 10 == 0 {
            world.ring.deliver(conn, &HANDSHAKE[..40]);
            honest.push(conn);
        } else {
            world.ring.deliver(conn, &line[..2_000]);
            world.settle();
            if is_served(&world, conn) {
                world.ring.deliver(conn, &line[2_000..]);
            }
        }
        world.settle();
        for level in world.shard.levels() {
            assert!(level.held <= level.limit, "{level:?}");
        }
    }
    let cut = closed(&world, CloseReason::Limit);
    assert!((200..270).contains(&cut), "{cut} were cut");
    for conn in honest {
        world.ring.deliver(conn, &HANDSHAKE[40..]);
        world.settle();
        let connection = world.shard.connections().find(|served| served.conn == conn);
        assert_eq!(connection.expect("it is served").state, MinerState::Mining);
    }
    world.pass(16 * SECOND);
    let held = |world: &World, name| {
        world.shard.levels().iter().find(|level| level.name == name).expect("it is there").held
    };
    assert_eq!(held(&world, "bytes of connections not authorized"), 0);
    assert_eq!(held(&world, "connections not authorized"), 0);
    assert_eq!(world.shard.connections().count(), 30);
}
