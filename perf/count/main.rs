//! What callgrind counts: the data plane from received bytes to the chunk that is sent, over a ring
//! that is only memory, with a stub in place of the hash. `perf/instructions` runs it under
//! valgrind, which collects inside the `measured_…` functions alone, and compares the counts with
//! the recorded ones; no clock is involved.
//!
//! Usage: `perf-count share|fan-out|ramp|parse NUMBER`.
#![forbid(unsafe_code)]

mod memory_ring;
mod world;

use std::hint::black_box;

use world::World;

/// Connections of the world that serves shares: enough that nothing stays in a register.
const CONNECTIONS: u32 = 64;
/// Shares that arrive in one turn, as under load.
const SHARES_PER_TURN: usize = 8;

fn main() {
    let mut arguments = std::env::args().skip(1);
    let what = arguments.next().unwrap_or_default();
    let number = arguments.next().and_then(|text| text.parse().ok()).unwrap_or(1_000);
    match what.as_str() {
        "share" => shares(number),
        "fan-out" => fan_out(number),
        "ramp" => ramp(number),
        "parse" => parse(number),
        _ => {
            eprintln!("usage: perf-count share|fan-out|ramp|parse NUMBER");
            std::process::exit(64);
        }
    }
}

/// Shares of miners that have been mining for a while: pools filled, tables grown.
fn shares(number: u32) {
    let mut world = World::new();
    world.connect(CONNECTIONS);
    for round in 0..4 {
        for slot in 0..CONNECTIONS {
            world.receive_share(slot, round);
        }
        world.turn();
    }
    let before = world.accepted();
    let mut nonce = 4;
    let mut slot = 0;
    for _ in 0..number as usize / SHARES_PER_TURN {
        for _ in 0..SHARES_PER_TURN {
            world.receive_share(slot, nonce);
            slot = (slot + 1) % CONNECTIONS;
            nonce += u32::from(slot == 0);
        }
        measured_turn(&mut world);
    }
    let served = (number as usize / SHARES_PER_TURN * SHARES_PER_TURN) as u64;
    assert_eq!(world.accepted() - before, served, "every share is new and is credited");
}

/// One new job to every miner.
fn fan_out(number: u32) {
    let mut world = World::new();
    world.connect(number);
    world.new_job();
    measured_fan_out(&mut world);
    assert_eq!(world.notified(), number, "every miner has the new job");
}

/// Connect, subscribe, authorize, first job.
fn ramp(number: u32) {
    let mut world = World::new();
    measured_ramp(&mut world, number);
    assert_eq!(world.notified(), number, "every miner has its first job");
}

fn parse(number: u32) {
    let line = concat!(
        r#"{"id":4217,"method":"mining.submit","params":["farm-north.rack-17.unit-042","#,
        r#""1f3a68f0c0de","00a1b2c3","68f0c0df","9e3779b1","00c26000"]}"#
    );
    for _ in 0..number {
        measured_parse(line.as_bytes());
    }
}

#[inline(never)]
fn measured_turn(world: &mut World) {
    world.turn();
}

#[inline(never)]
fn measured_fan_out(world: &mut World) {
    world.turn();
}

#[inline(never)]
fn measured_ramp(world: &mut World, number: u32) {
    world.connect(number);
}

#[inline(never)]
fn measured_parse(line: &[u8]) {
    let parsed = wire::sv1::parse(black_box(line));
    assert!(black_box(parsed).is_ok());
}
