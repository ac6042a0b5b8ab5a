//! What a shard does for its connections, one behaviour per test: over the real sessions, jobs and
//! ledger, with a ring that the test plays.

use std::net::IpAddr;

use farm::messages::{FromShard, MinerState, ToShard};
use pow::Hash256;
use session::{ShareOutcome, Tick};
use shard::counters::{CloseReason, RefusalReason};
use shard::{AcceptEnd, AllowList, Completion, ConnId, Guard, ListenerIndex, Panicked, ReceiveEnd};

use crate::world::{HANDSHAKE, SECOND, World, job_id, submit};

fn closed(world: &World, reason: CloseReason) -> u64 {
    world.counters.closed[reason as usize].value()
}

fn shares(world: &World, outcome: ShareOutcome) -> u64 {
    world.counters.shares[outcome as usize].value()
}

#[test]
fn a_client_gets_a_job_and_its_share_is_credited() {
    let mut world = World::new(4);
    world.new_tip();
    let miner = world.miner(1);
    let text = world.ring.read(miner);
    assert!(text.starts_with("{\"id\":1,\"result\":[[["), "{text}");
    assert!(text.contains("{\"id\":2,\"result\":true,\"error\":null}\n"), "{text}");
    let id = job_id(&text).expect("a job follows").to_owned();
    world.ring.deliver(miner, submit(3, &id, 7).as_bytes());
    world.turn();
    assert_eq!(world.ring.read(miner), "{\"id\":3,\"result\":true,\"error\":null}\n");
    world.pass(2 * SECOND);
    let rows = world.lane.take(|message| match message {
        FromShard::Report(report) => Some(report.rows),
        _ => None,
    });
    let mut reported = rows.iter().flatten().rev();
    let credited = reported.find(|row| &*row.name == "farm.1");
    assert_eq!(credited.expect("it is reported").totals.accepted, 1);
}

#[test]
fn shares_of_one_turn_are_hashed_together_and_answered_in_one_send_each() {
    let mut world = World::new(4);
    world.new_tip();
    let miners = [world.miner(1), world.miner(2)];
    let ids = miners.map(|miner| job_id(&world.ring.read(miner)).expect("a job").to_owned());
    let (batches, sends) = (world.counters.batches.value(), world.counters.sends.value());
    for (miner, id) in miners.iter().zip(&ids) {
        let three: String = (0..3).map(|nonce| submit(10 + nonce, id, nonce)).collect();
        world.ring.deliver(*miner, three.as_bytes());
    }
    world.turn();
    assert_eq!(world.counters.batches.value() - batches, 1);
    assert_eq!(world.counters.sends.value() - sends, 2);
    for miner in miners {
        let text = world.ring.read(miner);
        let order: Vec<&str> = text.lines().map(|line| &line[..8]).collect();
        assert_eq!(order, ["{\"id\":10", "{\"id\":11", "{\"id\":12"]);
    }
}

#[test]
fn the_same_share_twice_in_one_batch_is_credited_once() {
    let mut world = World::new(2);
    world.new_tip();
    let miner = world.miner(1);
    let id = job_id(&world.ring.read(miner)).expect("a job").to_owned();
    let twice = submit(3, &id, 7) + &submit(4, &id, 7);
    world.ring.deliver(miner, twice.as_bytes());
    world.settle();
    let text = world.ring.read(miner);
    assert!(text.contains("{\"id\":3,\"result\":true") && text.contains("[22,"), "{text}");
    assert_eq!(shares(&world, ShareOutcome::Accepted), 1);
    assert_eq!(shares(&world, ShareOutcome::Duplicate), 1);
}

#[test]
fn more_shares_than_a_batch_are_all_judged_in_their_turn() {
    let mut world = World::new(2);
    world.new_tip();
    let miner = world.miner(1);
    let id = job_id(&world.ring.read(miner)).expect("a job").to_owned();
    let burst: String = (0..120).map(|nonce| submit(10 + nonce, &id, nonce)).collect();
    world.ring.deliver(miner, burst.as_bytes());
    world.turn();
    assert_eq!(shares(&world, ShareOutcome::Accepted), 120);
    world.settle();
    assert_eq!(world.ring.read(miner).matches("\"result\":true").count(), 120);
    assert_eq!(closed(&world, CloseReason::Limit), 0);
}

#[test]
fn a_thousand_pipelined_submits_are_all_answered() {
    let mut world = World::new(512);
    world.new_tip();
    let miner = world.miner(1);
    let id = job_id(&world.ring.read(miner)).expect("a job").to_owned();
    // The replies to the first one are under way while all others come.
    world.ring.hold_sends = true;
    let burst: String = (0..1_000).map(|nonce| submit(10 + nonce, &id, nonce)).collect();
    world.ring.deliver(miner, burst.as_bytes());
    world.turn();
    assert_eq!(shares(&world, ShareOutcome::Accepted), 1_000);
    world.ring.hold_sends = false;
    world.ring.finish_send(usize::MAX);
    world.settle();
    let text = world.ring.read(miner);
    assert_eq!(text.matches("\"result\":true").count(), 1_000);
    assert_eq!(world.shard.connections().count(), 1, "it is still served");
}

#[test]
fn short_sends_are_continued_before_anything_else() {
    let mut world = World::new(2);
    world.new_tip();
    let miner = world.connect(1);
    world.ring.hold_sends = true;
    world.ring.deliver(miner, HANDSHAKE);
    world.turn();
    world.new_tip();
    let mut turns = 0;
    while !world.ring.held.is_empty() {
        assert_eq!(world.ring.held.len(), 1, "one send in flight");
        world.ring.finish_send(7);
        world.turn();
        turns += 1;
    }
    assert!(turns > 20, "the sends were short");
    let text = world.ring.read(miner);
    assert!(text.lines().all(|line| line.starts_with('{') && line.ends_with('}')), "{text}");
    assert_eq!(text.matches("mining.notify\",\"params\"").count(), 2, "{text}");
    assert!(world.counters.short_sends.value() > 20);
}

#[test]
fn a_newer_job_replaces_an_unsent_one_for_a_slow_reader() {
    let mut world = World::new(2);
    world.new_tip();
    let miner = world.miner(1);
    world.ring.read(miner);
    world.ring.hold_sends = true;
    world.new_tip();
    world.settle();
    for _ in 0..5 {
        world.new_tip();
        world.settle();
    }
    world.ring.hold_sends = false;
    world.ring.finish_send(usize::MAX);
    world.settle();
    let text = world.ring.read(miner);
    assert_eq!(text.matches("mining.notify").count(), 2, "the first, then only the newest");
    assert!(job_id(&text).expect("a job").starts_with('7'), "{text}");
}

#[test]
fn a_reader_that_stops_is_cut_off_and_others_are_not() {
    let mut world = World::new(4);
    world.new_tip();
    let slow = world.miner(1);
    let other = world.miner(2);
    world.ring.hold_sends = true;
    world.new_tip();
    world.settle();
    world.ring.hold_sends = false;
    let at = world.ring.held.iter().position(|(conn, ..)| *conn == other).expect("it was sent");
    world.ring.held.swap(0, at);
    world.ring.finish_send(usize::MAX);
    world.pass(8 * SECOND);
    assert!(world.ring.closed.is_empty());
    world.pass(3 * SECOND / 2);
    assert_eq!(world.ring.closed, [slow], "within ten seconds, and not only at their end");
    assert_eq!(closed(&world, CloseReason::SlowReader), 1);
    assert_eq!(world.shard.connections().count(), 1);
}

#[test]
fn completions_of_a_former_connection_are_dropped() {
    let mut world = World::new(1);
    world.new_tip();
    let first = world.miner(1);
    let cause = ReceiveEnd::Failed(104);
    world.ring.completions.push_back(Completion::ReceiveEnded { conn: first, cause });
    world.settle();
    let second = world.miner(2);
    assert_eq!((second.slot, second.generation), (first.slot, first.generation + 1));
    let id = job_id(&world.ring.read(second)).expect("a job").to_owned();
    world.ring.deliver(first, submit(3, &id, 7).as_bytes());
    let cause = ReceiveEnd::Failed(104);
    world.ring.completions.push_back(Completion::ReceiveEnded { conn: first, cause });
    world.ring.completions.push_back(Completion::Closed { conn: first });
    world.settle();
    assert_eq!(world.counters.completions_stale.value(), 3);
    assert_eq!(shares(&world, ShareOutcome::Accepted), 0);
    assert_eq!(world.shard.connections().count(), 1);
    assert_eq!(world.ring.lent, 0, "the stale buffer was given back");
}

#[test]
fn a_receive_without_buffers_is_armed_again() {
    let mut world = World::new(2);
    let miner = world.miner(1);
    let cause = ReceiveEnd::NoBuffers;
    world.ring.completions.push_back(Completion::ReceiveEnded { conn: miner, cause });
    world.settle();
    assert_eq!(world.ring.rearmed, [miner]);
    assert_eq!(world.counters.no_buffers.value(), 1);
}

#[test]
fn what_was_read_before_the_end_is_answered_before_the_close() {
    let mut world = World::new(2);
    world.new_tip();
    let miner = world.miner(1);
    let id = job_id(&world.ring.read(miner)).expect("a job").to_owned();
    world.ring.deliver(miner, submit(3, &id, 7).as_bytes());
    let cause = ReceiveEnd::Eof;
    world.ring.completions.push_back(Completion::ReceiveEnded { conn: miner, cause });
    world.settle();
    assert_eq!(world.ring.read(miner), "{\"id\":3,\"result\":true,\"error\":null}\n");
    assert_eq!(world.ring.closed, [miner]);
    assert_eq!(closed(&world, CloseReason::PeerClosed), 1);
}

#[test]
fn sources_off_the_list_and_over_the_limit_are_refused() {
    let mut world = World::with(8, AllowList::private(), 2);
    let sources = ["8.8.8.8", "10.0.0.1", "10.0.0.1", "::ffff:10.0.0.1", "192.168.1.1"];
    for (socket, source) in sources.iter().enumerate() {
        world.ring.connect(socket as u32, source.parse::<IpAddr>().expect("an address"));
    }
    world.settle();
    assert_eq!(world.ring.refused, [0, 3]);
    assert_eq!(world.counters.refused[RefusalReason::NotAllowed as usize].value(), 1);
    assert_eq!(world.counters.refused[RefusalReason::PerSource as usize].value(), 1);
    assert_eq!(world.counters.connections_accepted.value(), 3);
}

#[test]
fn a_listener_without_descriptors_is_armed_again_later() {
    let mut world = World::new(2);
    assert_eq!(world.ring.armed.len(), 1);
    let (listener, cause) = (ListenerIndex(0), AcceptEnd::Exhausted);
    world.ring.completions.push_back(Completion::AcceptEnded { listener, cause });
    let turn = world.turn();
    assert_eq!(world.ring.armed.len(), 1, "not at once");
    assert_eq!(turn.deadline.since(world.now), 10_000);
    world.now = turn.deadline;
    world.turn();
    assert_eq!(world.ring.armed.len(), 2);
    let cause = AcceptEnd::Finished;
    world.ring.completions.push_back(Completion::AcceptEnded { listener, cause });
    world.turn();
    assert_eq!(world.ring.armed.len(), 3, "an end without a fault is armed at once");
}

#[test]
fn a_block_waits_for_room_and_is_never_dropped() {
    let mut world = World::new(2);
    world.new_tip();
    world.settle();
    world.job(0x207f_ffff);
    world.settle();
    let miner = world.miner(1);
    let id = job_id(&world.ring.read(miner)).expect("a job").to_owned();
    world.settle();
    world.lane.from_shard.clear();
    world.lane.room = 0;
    let burst: String = (0..20).map(|nonce| submit(10 + nonce, &id, nonce)).collect();
    world.ring.deliver(miner, burst.as_bytes());
    let turn = world.turn();
    let found = world.counters.blocks_found.value();
    assert!(found > 0, "with these bits every second hash is a block");
    assert_eq!(world.counters.blocks_held.value(), found);
    assert!(turn.deadline.since(world.now) <= 1_000, "it is offered again soon");
    world.lane.room = usize::MAX;
    world.turn();
    let hashes = world.lane.take(|message| match message {
        FromShard::Block(block) => Some(block.hash),
        _ => None,
    });
    assert_eq!(hashes.len() as u64, found);
}

#[test]
fn the_list_of_miners_says_who_is_here() {
    let mut world = World::new(600);
    world.new_tip();
    for number in 0..500 {
        world.miner(number);
    }
    world.connect(500);
    world.lane.from_shard.clear();
    world.lane.to_shard.push_back(ToShard::ListMiners { query: 9 });
    world.settle();
    let slices = world.lane.take(|message| match message {
        FromShard::Miners { query: 9, rows, done } => Some((rows, done)),
        _ => None,
    });
    assert_eq!(slices.iter().map(|(_, done)| *done).collect::<Vec<_>>(), [false, true]);
    let rows: Vec<_> = slices.into_iter().flat_map(|(rows, _)| rows).collect();
    assert_eq!(rows.len(), 501);
    let mining = rows.iter().filter(|row| row.state == MinerState::Mining);
    assert!(mining.clone().all(|row| &*row.worker == "farm.1" && &*row.user_agent == "t/1"));
    assert_eq!(mining.count(), 500);
    let mut prefixes: Vec<_> = rows.iter().filter_map(|row| row.extranonce1).collect();
    prefixes.sort();
    prefixes.dedup();
    assert_eq!(prefixes.len(), 500, "no two miners have one prefix");
}

#[test]
fn a_drain_answers_flushes_closes_and_reports() {
    let mut world = World::new(300);
    world.new_tip();
    let miners: Vec<ConnId> = (0..280).map(|number| world.miner(number)).collect();
    let id = job_id(&world.ring.read(miners[0])).expect("a job").to_owned();
    world.ring.deliver(miners[0], submit(3, &id, 7).as_bytes());
    world.lane.to_shard.push_back(ToShard::Drain);
    world.ring.connect(999, IpAddr::from([10, 9, 9, 9]));
    for _ in 0..50 {
        if world.turn().drained {
            break;
        }
    }
    assert!(world.ring.read(miners[0]).contains("{\"id\":3,\"result\":true"));
    assert!(world.turn().drained, "nothing holds it up");
    assert_eq!(world.ring.closed.len(), 280);
    assert_eq!(closed(&world, CloseReason::Drained), 280);
    assert_eq!(world.ring.refused, [999]);
    let messages = world.lane.take(Some);
    let drained = messages.iter().position(|message| matches!(message, FromShard::Drained));
    assert_eq!(drained, Some(messages.len() - 1), "the shard's last word");
    let reported = messages.iter().rev().find_map(|message| match message {
        FromShard::Report(report) => {
            let row = report.rows.iter().find(|row| &*row.name == "farm.1")?;
            Some((row.totals.accepted, row.connections))
        }
        _ => None,
    });
    assert_eq!(reported, Some((1, 0)), "the last report has everything");
}

#[test]
fn a_drain_ends_in_time_with_a_reader_that_stops() {
    let mut world = World::new(2);
    world.new_tip();
    let slow = world.miner(1);
    world.ring.hold_sends = true;
    world.new_tip();
    world.settle();
    world.lane.to_shard.push_back(ToShard::Drain);
    world.turn();
    assert!(world.ring.closed.is_empty(), "its last bytes may still go out");
    world.pass(4 * SECOND + SECOND / 2);
    assert_eq!(world.ring.closed, [slow]);
    assert!(world.turn().drained);
}

/// A miner on a job whose every second hash is a block, and ten shares that it has not sent yet.
fn miner_with_blocks() -> (World, ConnId, String) {
    let mut world = World::new(2);
    world.job(0x207f_ffff);
    world.settle();
    let miner = world.miner(1);
    let id = job_id(&world.ring.read(miner)).expect("a job").to_owned();
    world.settle();
    world.lane.from_shard.clear();
    let burst = (0..10).map(|nonce| submit(10 + nonce, &id, nonce)).collect();
    (world, miner, burst)
}

fn blocks_sent(world: &mut World) -> u64 {
    let block = |message| matches!(message, FromShard::Block(_)).then_some(());
    world.lane.take(block).len() as u64
}

#[test]
fn a_block_is_not_lost_with_a_miner_that_resets_in_the_same_turn() {
    let (mut world, miner, burst) = miner_with_blocks();
    world.ring.deliver(miner, burst.as_bytes());
    let cause = ReceiveEnd::Failed(104);
    world.ring.completions.push_back(Completion::ReceiveEnded { conn: miner, cause });
    world.turn();
    assert_eq!(shares(&world, ShareOutcome::Accepted), 10);
    assert!(world.counters.blocks_found.value() > 0, "with these bits every second one is");
    assert_eq!(blocks_sent(&mut world), world.counters.blocks_found.value());
    world.settle();
    assert_eq!(closed(&world, CloseReason::PeerReset), 1);
    assert_eq!(world.shard.levels()[0].held, 0, "its slot is free");
}

#[test]
fn a_block_is_not_lost_when_a_send_fails_in_the_same_turn() {
    let (mut world, miner, burst) = miner_with_blocks();
    let (first, others) = burst.split_once('\n').expect("ten lines");
    world.ring.hold_sends = true;
    world.ring.deliver(miner, format!("{first}\n").as_bytes());
    world.turn();
    world.ring.deliver(miner, others.as_bytes());
    let (conn, chunk, _) = world.ring.held.pop_front().expect("the first reply is in flight");
    world.ring.completions.push_back(Completion::Sent { conn, chunk, result: Err(32) });
    world.turn();
    assert_eq!(shares(&world, ShareOutcome::Accepted), 10);
    assert!(world.counters.blocks_found.value() > 1, "with these bits every second one is");
    assert_eq!(blocks_sent(&mut world), world.counters.blocks_found.value());
    world.settle();
    assert_eq!(closed(&world, CloseReason::PeerReset), 1);
}

#[test]
fn a_block_is_saved_before_its_miner_hears_of_it_or_two_seconds_have_passed() {
    for saved in [true, false] {
        let (mut world, miner, burst) = miner_with_blocks();
        let stranger = world.miner(2);
        world.ring.read(stranger);
        world.lane.blocks_are_saved = false;
        world.ring.deliver(miner, burst.as_bytes());
        let turn = world.turn();
        assert!(blocks_sent(&mut world) > 0, "with these bits every second share is one");
        assert!(turn.deadline.since(world.now) <= 1_000, "it looks again soon");
        assert_eq!(world.ring.read(miner), "");
        world.ring.deliver(stranger, b"{\"id\":7,\"method\":\"mining.ping\",\"params\":[]}\n");
        world.turn();
        assert!(world.ring.read(stranger).contains("\"id\":7"), "others wait for nothing");
        world.lane.blocks_are_saved = saved;
        world.now = world.now.plus_micros(if saved { 250 } else { 2_000_000 });
        world.turn();
        world.settle();
        let heard = world.ring.read(miner);
        assert_eq!(heard.matches("\"result\":true").count(), 10, "{heard}");
    }
}

#[test]
fn an_answer_that_waits_for_its_block_is_dropped_with_its_connection() {
    let (mut world, miner, burst) = miner_with_blocks();
    world.lane.blocks_are_saved = false;
    world.ring.deliver(miner, burst.as_bytes());
    world.turn();
    let cause = ReceiveEnd::Failed(104);
    world.ring.completions.push_back(Completion::ReceiveEnded { conn: miner, cause });
    world.turn();
    world.lane.blocks_are_saved = true;
    world.settle();
    assert_eq!(closed(&world, CloseReason::PeerReset), 1);
    assert_eq!(world.shard.levels()[0].held, 0, "its slot is free");
    assert_eq!(world.ring.read(miner), "");
}

/// What the coordinator gets of ten shares, every second of them a block, when these calls into
/// sessions panic: the hash and the finder of each block.
fn blocks_despite(victim: Option<u32>, when: When) -> Vec<(Hash256, String)> {
    let (mut world, miner, burst) = miner_with_blocks();
    world.ring.deliver(miner, burst.as_bytes());
    let saboteur = Saboteur { calls: 0.into(), victim: victim.unwrap_or(u32::MAX), when };
    world.shard.turn(world.now, &mut world.ring, &mut world.lane, &saboteur);
    assert!(victim.is_none_or(|victim| saboteur.calls.get() > victim), "so many calls are made");
    let mut blocks = world.lane.take(|message| match message {
        FromShard::Block(block) => Some((block.hash, block.worker.to_string())),
        _ => None,
    });
    assert_eq!(world.counters.blocks_found.value(), blocks.len() as u64);
    world.settle();
    assert_eq!(closed(&world, CloseReason::Panicked), u64::from(victim.is_some()));
    assert_eq!(world.counters.panics.value(), u64::from(victim.is_some()));
    blocks.sort();
    blocks
}

#[test]
fn a_block_outlives_a_panic_of_its_session_wherever_it_is() {
    let all = blocks_despite(None, When::Instead);
    assert!(all.len() > 2 && all.len() < 10, "with these bits about every second one is");
    assert!(all.iter().all(|(_, finder)| finder == "farm.1"), "{all:?}");
    // The shares were read when the first call ended, and nothing of them was handed over.
    assert_eq!(blocks_despite(Some(0), When::AtTheEnd), all);
    // Ten polls hand them out to be hashed, one more waits, one call takes the hashes.
    let (first_poll, verdicts) = (1, 12);
    for victim in first_poll..=verdicts {
        assert_eq!(blocks_despite(Some(victim), When::Instead), all, "call {victim}");
    }
    assert_eq!(blocks_despite(Some(verdicts), When::AtTheEnd), all);
    // The polls that hand the blocks over, and the first one after them.
    for poll in 0..=all.len() as u32 {
        let victim = verdicts + 1 + poll;
        assert_eq!(blocks_despite(Some(victim), When::Instead), all, "call {victim}");
    }
}

#[test]
fn shares_of_a_session_that_panicked_are_credited_to_nobody() {
    let (mut world, miner, burst) = miner_with_blocks();
    world.ring.deliver(miner, burst.as_bytes());
    let saboteur = Saboteur { calls: 0.into(), victim: 0, when: When::AtTheEnd };
    world.shard.turn(world.now, &mut world.ring, &mut world.lane, &saboteur);
    assert!(ShareOutcome::ALL.into_iter().all(|outcome| shares(&world, outcome) == 0));
    assert!(blocks_sent(&mut world) > 0);
}

/// Where in a call it panics.
#[derive(Clone, Copy)]
enum When {
    /// Before it has done anything.
    Instead,
    /// When it has done everything, and nobody gets to see what it returns.
    AtTheEnd,
}

/// Panics in the call whose number it is told.
struct Saboteur {
    calls: core::cell::Cell<u32>,
    victim: u32,
    when: When,
}

impl Guard for Saboteur {
    fn run<T>(&self, call: impl FnOnce() -> T) -> Result<T, Panicked> {
        let number = self.calls.get();
        self.calls.set(number + 1);
        match self.when {
            When::Instead if number == self.victim => Err(Panicked),
            When::AtTheEnd if number == self.victim => {
                drop(call());
                Err(Panicked)
            }
            _ => Ok(call()),
        }
    }
}

#[test]
fn a_panic_at_any_call_costs_one_connection() {
    for victim in 0..12 {
        let mut world = World::new(4);
        world.new_tip();
        let miners = [world.miner(1), world.miner(2)];
        let ids = miners.map(|miner| job_id(&world.ring.read(miner)).expect("a job").to_owned());
        for (miner, id) in miners.iter().zip(&ids) {
            world.ring.deliver(*miner, submit(3, id, 7).as_bytes());
        }
        let saboteur = Saboteur { calls: 0.into(), victim, when: When::Instead };
        world.shard.turn(world.now, &mut world.ring, &mut world.lane, &saboteur);
        assert!(saboteur.calls.get() > victim, "the turn makes so many calls");
        world.settle();
        assert_eq!(world.counters.panics.value(), 1);
        assert_eq!(closed(&world, CloseReason::Panicked), 1);
        assert_eq!(world.shard.connections().count(), 1, "call {victim}");
        let healthy = miners.iter().position(|miner| !world.ring.closed.contains(miner));
        let healthy = healthy.expect("one is left");
        let text = world.ring.read(miners[healthy]);
        assert_eq!(text, "{\"id\":3,\"result\":true,\"error\":null}\n", "call {victim}");
        let again = submit(4, &ids[healthy], 8);
        world.ring.deliver(miners[healthy], again.as_bytes());
        world.settle();
        assert!(world.ring.read(miners[healthy]).contains("{\"id\":4,\"result\":true"));
    }
}

#[test]
fn garbage_closes_its_sender_only() {
    let mut world = World::new(8);
    world.new_tip();
    let healthy = world.miner(1);
    let long = vec![b'x'; 64 * 1024];
    let hostile: [(CloseReason, &[u8]); 8] = [
        (CloseReason::Tls, b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03aaaaaaaaaaaaaaaa"),
        (CloseReason::Http, b"GET / HTTP/1.1\r\nhost: a\r\n\r\n"),
        (CloseReason::ProxyHeader, b"PROXY TCP4 10.0.0.1 10.0.0.2 4000 3333\r\n"),
        (CloseReason::ProxyHeader, b"\r\n\r\n\0\r\nQUIT\n\x21\x11\0\x0c"),
        (CloseReason::NotStratum, b"\x00\xff\x00\xff\x00\xff\x00\xff\x00\xff\x00\xff\x00\xff\x00"),
        (CloseReason::Malformed, b"{\"id\":1,\"method\":\"mining.ping\"\nGET / HTTP/1.1\r\n"),
        (
            CloseReason::NotSubscribed,
            b"{\"id\":1,\"method\":\"mining.submit\",\"params\":[\"a\",\"1.1\",\"00000001\",\
              \"00000001\",\"00000001\"]}\n",
        ),
        (CloseReason::Limit, &long),
    ];
    for (number, (reason, bytes)) in hostile.iter().enumerate() {
        let conn = world.connect(10 + number as u32);
        let before = closed(&world, *reason);
        if *bytes == long.as_slice() {
            world.ring.deliver(conn, b"{\"id\":1,\"params\":\"");
        }
        for bytes in bytes.chunks(4_096) {
            world.ring.deliver(conn, bytes);
            world.turn();
        }
        world.settle();
        assert!(world.ring.closed.contains(&conn), "hostile {number}");
        assert_eq!(closed(&world, *reason), before + 1, "hostile {number}: {reason:?}");
    }
    let all = CloseReason::ALL.map(|reason| closed(&world, reason)).iter().sum::<u64>();
    assert_eq!(all, hostile.len() as u64, "each under one reason");
    let named = world.counters.malformed_peer.value().map(|peer| peer.to_string());
    assert_eq!(named.as_deref(), Some("10.0.0.15"), "the machine with the broken line");
    let id = job_id(&world.ring.read(healthy)).expect("a job").to_owned();
    world.ring.deliver(healthy, submit(3, &id, 7).as_bytes());
    world.settle();
    assert!(world.ring.read(healthy).contains("{\"id\":3,\"result\":true"));
}

#[test]
fn a_name_that_authorizes_again_is_one_worker() {
    let mut world = World::new(2);
    world.new_tip();
    let miner = world.miner(1);
    let id = job_id(&world.ring.read(miner)).expect("a job").to_owned();
    for (name, nonce) in ["farm.1", "farm.2", "farm.1"].into_iter().zip(7..) {
        let line =
            format!("{{\"id\":9,\"method\":\"mining.authorize\",\"params\":[\"{name}\",\"x\"]}}\n");
        world.ring.deliver(miner, line.as_bytes());
        world.ring.deliver(miner, submit(3, &id, nonce).replace("farm.1", name).as_bytes());
        world.settle();
    }
    world.pass(2 * SECOND);
    let rows = world.lane.take(|message| match message {
        FromShard::Report(report) => Some(report.rows),
        _ => None,
    });
    let connections = |name: &str| {
        let mut rows = rows.iter().flatten().rev();
        rows.find(|row| &*row.name == name).map(|row| row.connections)
    };
    assert_eq!((connections("farm.1"), connections("farm.2")), (Some(1), Some(1)));
}

#[test]
fn after_a_stall_a_peer_is_heard_before_it_is_judged() {
    let mut world = World::new(2_000);
    let miners: Vec<ConnId> = (0..1_500).map(|number| world.connect(number)).collect();
    for miner in &miners {
        world.ring.deliver(*miner, HANDSHAKE);
    }
    // The shard gets to run again after the time for the first byte, with more than one turn's
    // completions before it.
    world.now = world.now.plus_micros(6 * SECOND);
    world.settle();
    assert_eq!(world.shard.connections().count(), 1_500);
    assert_eq!(closed(&world, CloseReason::Handshake), 0);
}

#[test]
fn a_new_job_after_a_stall_judges_nobody_who_was_not_heard() {
    let mut world = World::new(2);
    let miner = world.connect(1);
    world.ring.deliver(miner, HANDSHAKE);
    // A job waits in the lane too, and goes out before the bytes are read.
    world.now = world.now.plus_micros(6 * SECOND);
    world.new_tip();
    world.settle();
    assert_eq!(world.shard.connections().count(), 1);
    assert!(world.ring.read(miner).contains("mining.notify"));
}

#[test]
fn silent_connections_are_closed_when_their_time_is_up() {
    let mut world = World::new(2_000);
    for number in 0..1_500 {
        world.connect(number);
    }
    world.pass(4 * SECOND);
    assert_eq!(world.shard.connections().count(), 1_500);
    world.pass(2 * SECOND);
    assert_eq!(world.shard.connections().count(), 0);
    assert_eq!(closed(&world, CloseReason::Handshake), 1_500);
    assert_eq!(world.counters.heartbeat_us.value(), world.now.as_micros());
    assert!(world.now > Tick(0));
}
