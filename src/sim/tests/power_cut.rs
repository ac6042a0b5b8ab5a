//! The power returns: twenty thousand miners lose their links in one moment and come back within
//! two seconds (promise F1), over four shards.

use sim::world::SECOND;
use sim::{Faults, Plan, run};

const MINERS: usize = 20_000;
/// All of them mine again within this, reconnecting included.
const BACK_US_MAX: u64 = 10 * SECOND;

#[test]
fn twenty_thousand_miners_are_back_in_ten_seconds() {
    let plan = Plan {
        faults: Some(Faults::none()),
        miners: MINERS,
        shards: 4,
        storm_us: 14 * SECOND,
        share_us: 20 * SECOND,
        power_cut_at: Some(4 * SECOND),
        ..Plan::of_seed(20_000)
    };
    let summary = run(&plan).unwrap_or_else(|failure| panic!("{failure}"));
    println!("{summary:?}");
    assert_eq!(summary.connections, 2 * MINERS as u64, "each connects twice and never again");
    assert!(summary.power_back_us > 0, "they did come back");
    assert!(summary.power_back_us < BACK_US_MAX, "{} us", summary.power_back_us);
}
