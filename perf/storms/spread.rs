//! New tips that come faster than anybody needs them: how long each takes to its last miner, beside
//! one that comes alone.

use std::error::Error;
use std::thread;
use std::time::Duration;

use perf::crowds::TipSpread;

use crate::crowd::Crowd;
use crate::daemon::{Daemon, Place, Setting};
use crate::figures::{Figure, Picture};
use crate::plot;
use crate::power::FARM;
use crate::{Found, Plan};

/// Seconds between tips that come alone, and between those of a storm.
const ALONE_SECONDS: f64 = 2.0;
const SHORT_ALONE_SECONDS: f64 = 0.5;
const STORM_SECONDS: f64 = 0.1;
/// What the last miner may take of one fan-out.
const TIMES: f64 = 2.0;

/// Tips a second that are still the storm that was meant.
const RATE_MIN: f64 = 9.0;

/// The row.
pub(crate) fn tips(plan: &Plan) -> Result<Found, Box<dyn Error>> {
    let apart = if plan.short { SHORT_ALONE_SECONDS } else { ALONE_SECONDS };
    let (alone, _) = spreads(plan, apart, 14)?;
    let (storm, miners) = spreads(plan, STORM_SECONDS, 6)?;
    let one = median(&alone).ok_or("no tip came alone")?;
    let worst = storm.iter().max_by_key(|tip| tip.last_us()).ok_or("no tip came in the storm")?;
    let middle = median(&storm).ok_or("no tip came in the storm")?;
    let ms = |tip: &TipSpread| f64::from(tip.last_us()) / 1e3;
    let ratio = ms(worst) / ms(one).max(1e-3);
    let value = format!("{:.1} ms, {ratio:.2} ×", ms(worst));
    let what = format!("fan-out to {miners} miners with 10 new tips a second: last miner on a tip");
    let rate = per_second(&storm);
    let mut figure = Figure {
        quiet: format!("{:.1} ms", ms(one)),
        ..Figure::holds(what, value, "≤ 2 × one fan-out", ratio <= TIMES)
    };
    // Where the daemon made fewer tips this was another storm.
    figure.met = figure.met.filter(|_| rate >= RATE_MIN);
    let figure = figure.noting(format!(
        "after the first miner; the worst of {} tips, {rate:.1} of which came in a second, median \
         {:.1} ms; quiet: median of {} that came alone",
        storm.len(),
        ms(middle),
        alone.len()
    ));
    let curves =
        [("a tip alone", one), ("in the storm, median", middle), ("in the storm, worst", worst)];
    let svg = plot::fan_out(&format!("A new tip to {miners} miners"), &curves);
    let picture = Picture { name: "fan-out".to_owned(), svg };
    Ok(Found { figures: vec![figure], pictures: vec![picture] })
}

/// Every tip of a while, and the number of miners.
fn spreads(
    plan: &Plan,
    tip_seconds: f64,
    seconds: u64,
) -> Result<(Vec<TipSpread>, u32), Box<dyn Error>> {
    let place = Place::new(&Setting { tip_seconds, ..Setting::QUIET })?;
    let daemon = Daemon::start(&place)?;
    let miners = plan.clients(FARM);
    let (mut crowd, _) = Crowd::farm(&daemon, miners, 0, &["rate=0"])?;
    // Tips of the time in which they came are no fan-out.
    thread::sleep(Duration::from_secs_f64(tip_seconds * 1.5));
    crowd.tips()?;
    let shortest = Duration::from_secs_f64(tip_seconds * 2.5);
    thread::sleep(plan.watch(seconds).max(shortest));
    Ok((crowd.tips()?, miners))
}

/// Tips a second, by when their first miners had them.
fn per_second(tips: &[TipSpread]) -> f64 {
    let (Some(first), Some(last)) = (tips.first(), tips.last()) else { return 0.0 };
    let seconds = (last.first_ns - first.first_ns) as f64 / 1e9;
    if seconds > 0.0 { (tips.len() - 1) as f64 / seconds } else { 0.0 }
}

fn median(tips: &[TipSpread]) -> Option<&TipSpread> {
    let mut sorted: Vec<&TipSpread> = tips.iter().collect();
    sorted.sort_by_key(|tip| tip.last_us());
    sorted.get(sorted.len().checked_sub(1)? / 2).copied()
}
