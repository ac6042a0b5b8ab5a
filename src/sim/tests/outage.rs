//! The node is away: for 45 seconds nobody notices, for two minutes miners are kept or released,
//! as their operator wants (`no_work`), and when it is back so is work.

use farm::NoWork;
use sim::world::{Outage, SECOND};
use sim::{Faults, Plan, Summary, run};

/// More than are released within a second.
const MINERS: usize = 2_500;
/// From the first good template to the first job that a miner has.
const WORK_BACK_US_MAX: u64 = SECOND;

fn plan(seconds: u64, no_work: NoWork) -> Plan {
    let outage = Outage { at: 10 * SECOND, for_us: seconds * SECOND, no_work };
    Plan {
        faults: Some(Faults::none()),
        miners: MINERS,
        shards: 4,
        storm_us: (30 + seconds) * SECOND,
        share_us: 20 * SECOND,
        outage: Some(outage),
        ..Plan::of_seed(45)
    }
}

fn summary(plan: &Plan) -> Summary {
    let summary = run(plan).unwrap_or_else(|failure| panic!("{failure}"));
    println!("{:?}: {summary:?}", plan.outage);
    let back = summary.work_back_us.expect("there is work again");
    assert!(back <= WORK_BACK_US_MAX, "{back} us");
    summary
}

#[test]
fn forty_five_seconds_without_a_node_drop_nobody() {
    let summary = summary(&plan(45, NoWork::Release));
    assert_eq!((summary.released, summary.connections), (0, MINERS as u64));
}

#[test]
fn two_minutes_drop_nobody_who_is_parked() {
    let summary = summary(&plan(120, NoWork::Park));
    assert_eq!((summary.released, summary.connections), (0, MINERS as u64));
}

#[test]
fn two_minutes_release_everybody_at_the_pace_and_all_are_back_at_work() {
    let summary = summary(&plan(120, NoWork::Release));
    assert_eq!(summary.released, MINERS as u64, "each once, and nobody in between");
    let pace = summary.released_per_second;
    assert!((900..=1_000).contains(&pace), "{pace} a second");
    assert!(summary.connections > 2 * MINERS as u64, "they try, and are refused until then");
}

/// Whatever else goes wrong meanwhile, every promise holds.
#[test]
fn an_outage_among_all_other_faults() {
    let mut released = 0;
    for seed in 1..=12 {
        let no_work = if seed % 4 == 0 { NoWork::Park } else { NoWork::Release };
        let outage = Outage { at: 5 * SECOND, for_us: 75 * SECOND, no_work };
        let plan = Plan { outage: Some(outage), storm_us: 100 * SECOND, ..Plan::of_seed(seed) };
        match run(&plan) {
            Ok(summary) if no_work == NoWork::Park => assert_eq!(summary.released, 0),
            Ok(summary) => released += summary.released,
            Err(failure) => panic!("with an outage: {failure}"),
        }
    }
    assert!(released > 50, "{released} were released");
}
