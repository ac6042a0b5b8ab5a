//! The checkers can fail: for each kind of lie about the world, or by it, a run must end with the
//! complaint that belongs to it. A canary that lives means a promise that nobody watches.

use sim::world::SECOND;
use sim::{Faults, Plan, Sabotage, run};

/// A world without faults and with one lie.
fn sabotaged(lie: Sabotage) -> Plan {
    // New connections need new prefixes; without them nobody would take from a shared lease.
    let reset_us = if lie == Sabotage::SharedLease { SECOND / 2 } else { 0 };
    let of_death = matches!(lie, Sabotage::LeaseOfTheDead | Sabotage::SameLife);
    let death_us = if of_death { 5 * SECOND } else { 0 };
    Plan {
        faults: Some(Faults { reset_us, death_us, ..Faults::none() }),
        miners: 12,
        shards: 2,
        storm_us: 40 * SECOND,
        sabotage: Some(lie),
        ..Plan::of_seed(11)
    }
}

fn complaint_of(lie: Sabotage) -> String {
    match run(&sabotaged(lie)) {
        Ok(summary) => panic!("{lie:?} went unnoticed: {summary:?}"),
        Err(failure) => failure.to_string(),
    }
}

#[test]
fn the_same_world_without_a_lie_keeps_its_promises() {
    let plan = Plan { sabotage: None, ..sabotaged(Sabotage::LostJob) };
    run(&plan).expect("nothing is wrong with it");
    let plan = Plan { sabotage: None, ..sabotaged(Sabotage::SameLife) };
    let summary = run(&plan).expect("shards may die");
    assert!(summary.deaths > 1, "{summary:?}");
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
    ] {
        let said = complaint_of(lie);
        assert!(said.contains(complaint), "{lie:?}: {said}");
        assert!(said.contains("HEADFRAME_SEED=11"), "it says how to replay: {said}");
    }
}
