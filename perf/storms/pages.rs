//! The pages with as many miners as there can be: how long they take, and whether a share notices.

use std::error::Error;
use std::thread;
use std::time::{Duration, Instant};

use perf::process::monotonic_ns;

use crate::crowd::Crowd;
use crate::daemon::{Daemon, Place, Setting};
use crate::figures::{Figure, Latency, seconds};
use crate::power::{FARM, WITNESSES};
use crate::{Found, Plan};

/// One page.
const PAGE: Duration = Duration::from_millis(200);
/// Between two requests: far more often than anybody scrapes.
const EVERY: Duration = Duration::from_millis(100);
/// Pairs of windows, one without requests and one with them.
const PAIRS: usize = 5;
/// The most rows that one page of the list has.
const ROWS: u32 = 1_000;

/// The row.
pub(crate) fn pages(plan: &Plan) -> Result<Found, Box<dyn Error>> {
    let place = Place::new(&Setting::QUIET)?;
    let daemon = Daemon::start(&place)?;
    let each = plan.clients(FARM);
    let mut witnesses = Crowd::witnesses(&daemon, plan.clients(WITNESSES))?;
    let farm = |number| Crowd::farm(&daemon, each, number * each, &[]).map(|(crowd, _)| crowd);
    let crowds = [farm(0)?, farm(1)?];
    let miners = each * 2 + plan.clients(WITNESSES);
    thread::sleep(plan.watch(2));
    let (mut quiet, mut scraped) = (Vec::new(), Vec::new());
    let (mut metrics, mut lists) = (Vec::new(), Vec::new());
    for _ in 0..if plan.short { 1 } else { PAIRS } {
        witnesses.samples()?;
        let from_ns = monotonic_ns();
        thread::sleep(plan.watch(3));
        quiet.push(Latency::of(&witnesses.samples()?, from_ns, u64::MAX));
        let (from_ns, since) = (monotonic_ns(), Instant::now());
        let mut offset = 0;
        while since.elapsed() < plan.watch(3) {
            metrics.push(daemon.get("/metrics")?.1);
            thread::sleep(EVERY);
            let path = format!("/api/v1/miners?limit={ROWS}&offset={offset}");
            lists.push(daemon.get(&path)?.1);
            offset = if offset + ROWS < miners { offset + ROWS } else { 0 };
            thread::sleep(EVERY);
        }
        scraped.push(Latency::of(&witnesses.samples()?, from_ns, u64::MAX));
    }
    let shown = daemon.json("/api/v1/miners?limit=1")?["total"].as_u64().unwrap_or(0);
    if shown != u64::from(miners) {
        return Err(format!("{shown} of {miners} miners are in the list").into());
    }
    drop(crowds);
    let mut figures = vec![
        page("/metrics", miners, &mut metrics),
        page("/api/v1/miners, 1,000 rows", miners, &mut lists),
    ];
    let [before, during] = [middle(&mut quiet), middle(&mut scraped)];
    let worst_quiet = quiet.iter().map(|window| window.p99_us).max().unwrap_or(0);
    let mut figure =
        Figure::p99("the same: p99 of shares while pages are read", during, before, None);
    figure.budget = "none measurable".to_owned();
    figure.met = before.is_quiet().then_some(during.p99_us <= worst_quiet);
    let note = format!(
        "medians of {} windows each, one request every 100 ms; quiet windows reach {:.2} ms",
        quiet.len(),
        f64::from(worst_quiet) / 1e3
    );
    figures.push(figure.noting(note));
    Ok(Found { figures, pictures: Vec::new() })
}

fn page(name: &str, miners: u32, times: &mut [Duration]) -> Figure {
    times.sort_unstable();
    let worst = times.last().copied().unwrap_or_default();
    let median = times.get(times.len() / 2).copied().unwrap_or_default();
    let note = format!("the worst of {}, median {}", times.len(), seconds(median));
    Figure::time(format!("{name} with {miners} miners"), worst, PAGE).noting(note)
}

/// The window whose p99 is the median.
fn middle(windows: &mut [Latency]) -> Latency {
    windows.sort_unstable_by_key(|window| window.p99_us);
    windows.get(windows.len().saturating_sub(1) / 2).copied().unwrap_or_default()
}
