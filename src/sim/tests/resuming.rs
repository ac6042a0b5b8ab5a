//! Miners that lose their links and come back to their sessions, on whatever shard: promise S5.

use sim::world::SECOND;
use sim::{Faults, Plan, Sabotage, Summary, run};

/// A world where shares are often under way, and every link breaks at once for five seconds. No
/// tip comes any more by then, so that nothing but the cut can spoil a share.
fn cut(seed: u64, shards: usize) -> Plan {
    let faults = Faults { delay_us_max: 150_000, ..Faults::none() };
    Plan {
        faults: Some(faults),
        miners: 60,
        shards,
        storm_us: 4 * SECOND,
        share_us: SECOND / 10,
        power_cut_at: Some(8 * SECOND),
        away_us: 5 * SECOND,
        ..Plan::of_seed(seed)
    }
}

/// The sum over some seeds.
fn sum(plan: impl Fn(u64) -> Plan) -> Summary {
    let runs = (1..=8).map(|seed| run(&plan(seed)).unwrap_or_else(|failure| panic!("{failure}")));
    let add = |sum: Summary, one: Summary| Summary {
        resumed: sum.resumed + one.resumed,
        saved: sum.saved + one.saved,
        spoilt: sum.spoilt + one.spoilt,
        connections: sum.connections + one.connections,
        ..sum
    };
    runs.reduce(add).expect("some seeds")
}

#[test]
fn shares_in_flight_over_a_cut_of_five_seconds_count_on_one_shard_and_on_four() {
    for shards in [1, 4] {
        let sum = sum(|seed| cut(seed, shards));
        println!("{shards} shards: {sum:?}");
        assert!(sum.resumed > 8 * 60 / 2, "seven in ten miners name their session: {sum:?}");
        assert!(sum.saved > 200, "shares were under way: {sum:?}");
        assert_eq!(sum.spoilt, 0, "{sum:?}");
    }
}

#[test]
fn thieves_and_links_that_break_all_the_time_disturb_nobody() {
    let sum = sum(|seed| {
        let faults = Faults {
            delay_us_max: 20_000,
            reset_us: SECOND / 4,
            vanish_us: SECOND,
            hostile: 500,
            ..Faults::none()
        };
        Plan { faults: Some(faults), miners: 30, shards: 3, ..Plan::of_seed(seed) }
    });
    println!("{sum:?}");
    assert!(sum.resumed > 300 && sum.saved > 5, "{sum:?}");
}

/// Every link breaks while replies are under way, and each session goes on without the shares that
/// were counted: whoever sends them again on another shard has them counted twice.
#[test]
fn a_share_that_two_shards_count_is_found_out() {
    let told = |lie, seed| run(&Plan { sabotage: lie, ..cut(seed, 4) });
    told(None, 1).unwrap_or_else(|failure| panic!("{failure}"));
    let said = told(Some(Sabotage::ForgottenShares), 1).expect_err("a share was counted twice");
    assert!(said.what.contains("shards credited"), "{said}");
}

/// The network gives a thief its victim's address: both see to it that somebody hears of it.
#[test]
fn a_session_that_is_given_to_another_is_found_out() {
    let faults = Faults { hostile: 700, reset_us: SECOND, ..Faults::none() };
    let plan = |seed| Plan {
        faults: Some(faults.clone()),
        miners: 30,
        shards: 2,
        sabotage: Some(Sabotage::BorrowedAddress),
        ..Plan::of_seed(seed)
    };
    let said = (1..=8).filter_map(|seed| run(&plan(seed)).err());
    let said: Vec<String> = said.map(|failure| failure.what).collect();
    let found = |what: &str| said.iter().any(|said| said.contains(what));
    let complaints = ["was given the session of another", "were closed without a reason"];
    assert!(complaints.into_iter().any(found), "{said:#?}");
}
