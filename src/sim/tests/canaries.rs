//! The checkers can fail: for each kind of lie about the world, or by it, a run must end with the
//! complaint that belongs to it. A canary that lives means a promise that nobody watches.

use sim::world::SECOND;
use sim::{Faults, Plan, Sabotage, run};

/// So many worlds hear each lie at most.
const SEEDS: u64 = 8;

/// A world without faults and with one lie.
fn sabotaged(lie: Sabotage) -> Plan {
    // New connections need new prefixes; without them nobody would take from a shared lease.
    let reset_us = if lie == Sabotage::SharedLease { SECOND / 2 } else { 0 };
    let of_death = matches!(lie, Sabotage::LeaseOfTheDead | Sabotage::SameLife);
    let death_us = if of_death { 5 * SECOND } else { 0 };
    let reorgs = if lie == Sabotage::TipWithoutNumber { 500 } else { 0 };
    let clock_us = if lie == Sabotage::ClockOfTheDate { 5 * SECOND } else { 0 };
    let hostile = if lie == Sabotage::EndlessSendBuffer { 500 } else { 0 };
    // A life that is another's double even makes the same session ids, which is found out at once.
    let resumes = if lie == Sabotage::SameLife { 0 } else { 700 };
    let faults = Faults { reset_us, death_us, reorgs, clock_us, hostile, ..Faults::none() };
    Plan {
        faults: Some(faults),
        miners: 12,
        shards: 2,
        storm_us: 40 * SECOND,
        resumes,
        sabotage: Some(lie),
        ..Plan::of_seed(11)
    }
}

/// The first complaint of this kind. A lie shows only where somebody could be hurt by it: a prefix
/// that nobody takes twice harms nobody.
fn complaint_of(lie: Sabotage, kind: &str) -> String {
    let mut others = Vec::new();
    for seed in 11..11 + SEEDS {
        match run(&Plan { seed, ..sabotaged(lie) }) {
            Err(failure) if failure.what.contains(kind) => return failure.to_string(),
            other => others.push(format!("{other:?}")),
        }
    }
    panic!("{lie:?} made nobody say that it {kind}, but {others:#?}");
}

#[test]
fn the_same_world_without_a_lie_keeps_its_promises() {
    let plan = Plan { sabotage: None, ..sabotaged(Sabotage::LostJob) };
    run(&plan).expect("nothing is wrong with it");
    for lie in [
        Sabotage::SharedLease,
        Sabotage::SameLife,
        Sabotage::TipWithoutNumber,
        Sabotage::ClockOfTheDate,
        Sabotage::EndlessSendBuffer,
    ] {
        let plan = Plan { sabotage: None, ..sabotaged(lie) };
        let summary = run(&plan).unwrap_or_else(|failure| panic!("without {lie:?}: {failure}"));
        assert_eq!(summary.deaths > 0, lie == Sabotage::SameLife, "{summary:?}");
        assert_eq!(summary.floods_cut > 0, lie == Sabotage::EndlessSendBuffer, "{summary:?}");
    }
}

#[test]
fn each_lie_is_caught_by_the_check_that_it_offends() {
    for (lie, complaint) in [
        (Sabotage::BytesTwice, "error 22 for request"),
        (Sabotage::ForeignReset, "were closed without a reason"),
        (Sabotage::LostJob, "is on tip"),
        (Sabotage::LostBlock, "never reached a node"),
        (Sabotage::SharedLease, "on shard 0 and is on 1"),
        (Sabotage::LostReply, "has no reply to request"),
        (Sabotage::CreditTwice, "a share was credited twice"),
        (Sabotage::OldTip, "was sent back from tip"),
        (Sabotage::PaddedReport, "the ledger holds"),
        (Sabotage::LeaseOfTheDead, "was used a moment ago"),
        (Sabotage::SameLife, "the ledger holds"),
        (Sabotage::TipWithoutNumber, "a share was credited twice"),
        (Sabotage::ClockOfTheDate, "tells the time"),
        (Sabotage::EndlessSendBuffer, "was not cut off"),
    ] {
        let said = complaint_of(lie, complaint);
        assert!(said.contains("replay: HEADFRAME_SEED="), "it says how to replay: {said}");
    }
}
