//! Seeds: each draws a world and its faults, and every promise must hold in it. A failing seed
//! prints how to replay it.
//!
//! `HEADFRAME_SEEDS=n` runs n fresh seeds instead of 300, `HEADFRAME_FIRST=n` begins elsewhere,
//! `HEADFRAME_SEED=n` replays one with its summary.

use sim::{Faults, Plan, Sabotage, run};

const SEEDS: u64 = 300;

/// Seeds that once showed a fault; each stays for ever.
///
/// 224: after a stall with two buffers, peers that had spoken in time were closed as silent.
/// 2109, 2143: a question for a session overtook that of a newer connection of the same miner, and
/// took it away from there. 2216: a late block that was sent again was called a duplicate. 231: the
/// checker took a session that moved within one microsecond for two. 39, 276: who made room in an
/// overloaded shard was closed without a reason that the checker knew.
const ONCE_FAILED: [u64; 7] = [39, 224, 231, 276, 2109, 2143, 2216];

fn number(name: &str) -> Option<u64> {
    let text = std::env::var(name).ok()?;
    Some(text.parse().unwrap_or_else(|_| panic!("{name} is a number, not {text:?}")))
}

#[test]
fn every_promise_holds_in_every_seed() {
    let first = number("HEADFRAME_FIRST").unwrap_or(1);
    let seeds = number("HEADFRAME_SEEDS").unwrap_or(SEEDS);
    let (mut credited, mut blocks, mut events, mut failed) = (0, 0, 0, Vec::new());
    let (mut deaths, mut floods_cut) = (0, 0);
    for seed in ONCE_FAILED.into_iter().chain(first..first + seeds) {
        match run(&Plan::of_seed(seed)) {
            Ok(summary) => {
                credited += summary.credited;
                blocks += summary.blocks;
                events += summary.events;
                deaths += summary.deaths;
                floods_cut += summary.floods_cut;
            }
            Err(failure) => failed.push(failure.to_string()),
        }
    }
    println!("{seeds} seeds: {events} events, {credited} shares, {blocks} blocks");
    println!("{deaths} deaths of shards, {floods_cut} floods cut off");
    assert!(failed.is_empty(), "{} seeds failed\n{}", failed.len(), failed.join("\n"));
    assert!(credited > 100 * seeds, "the worlds are alive");
}

/// A shard once forgot a share with a connection that was reset in the turn in which it was read,
/// and a block with it. The seeds would have shown it.
#[test]
fn the_seeds_find_a_block_that_is_forgotten_with_a_reset() {
    let plan = |seed| Plan { sabotage: Some(Sabotage::ForgottenWithReset), ..Plan::of_seed(seed) };
    let found = (1..=SEEDS).find_map(|seed| run(&plan(seed)).err());
    let failure = found.expect("one of the seeds shows it");
    println!("{failure}");
    assert!(failure.what.contains("never reached a node"), "{failure}");
}

#[test]
fn replay() {
    let seed = number("HEADFRAME_SEED").unwrap_or(1);
    match run(&Plan::of_seed(seed)) {
        Ok(summary) => println!("seed {seed}: {summary:?}"),
        Err(failure) => panic!("{failure}"),
    }
}

#[test]
fn one_seed_is_one_history() {
    for seed in 1..6 {
        let plan = Plan::of_seed(seed);
        let first = run(&plan).expect("this seed keeps its promises");
        let second = run(&plan).expect("this seed keeps its promises");
        assert_eq!(first, second);
        let other = run(&Plan::of_seed(seed + 1_000)).map(|other| other.trace);
        assert_ne!(other.ok(), Some(first.trace));
    }
}

#[test]
fn without_faults_every_share_counts_and_none_is_lost() {
    let plan = Plan { faults: Some(Faults::none()), miners: 20, shards: 2, ..Plan::of_seed(7) };
    let summary = run(&plan).expect("nothing goes wrong");
    assert_eq!(summary.connections, 20, "nobody is ever disconnected");
    assert_eq!(summary.panics, 0);
    assert!(summary.credited > 500, "{summary:?}");
}
