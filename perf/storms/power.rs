//! A farm loses its power and comes back: all at once, which no firmware does, and as firmware
//! does while the daemon itself comes back later.

use std::collections::BTreeMap;
use std::error::Error;
use std::thread;
use std::time::{Duration, Instant};

use perf::crowds::{Counts, Order, Working};
use perf::process::monotonic_ns;
use rustix::process::Signal;

use crate::crowd::Crowd;
use crate::daemon::{Daemon, Place, Setting, listen_drops, sum};
use crate::figures::{Figure, Latency, Picture, seconds};
use crate::plot;
use crate::{Found, Plan};

/// Miners that stay.
pub(crate) const WITNESSES: u32 = 1_000;
/// Miners of one generator: its open files allow no more, with as many that are being closed.
pub(crate) const FARM: u32 = 9_000;
/// What the stayers' p99 may be of the quiet one.
const STAYERS_TIMES: f64 = 2.0;
/// How long the counts may take to agree: each worker is reported once a second, a thousand of
/// them at a time.
const AGREE_MAX: Duration = Duration::from_secs(60);
/// What a picture shows before a storm and at least after it.
const BEFORE_NS: u64 = 1_000_000_000;
const AFTER_NS: u64 = 3_000_000_000;

/// 9,000 miners are cut.
pub(crate) fn nine_thousand(plan: &Plan) -> Result<Found, Box<dyn Error>> {
    cut(plan, 1, Duration::from_secs(2))
}

/// 18,000 miners are cut.
pub(crate) fn eighteen_thousand(plan: &Plan) -> Result<Found, Box<dyn Error>> {
    cut(plan, 2, Duration::from_secs(4))
}

/// So many farms are cut at once and come back at once.
fn cut(plan: &Plan, farms: u32, limit: Duration) -> Result<Found, Box<dyn Error>> {
    let place = Place::new(&Setting::QUIET)?;
    let daemon = Daemon::start(&place)?;
    let each = plan.clients(FARM);
    let mut witnesses = Crowd::witnesses(&daemon, plan.clients(WITNESSES))?;
    let start = |number| Crowd::farm(&daemon, each, number * each, &[]).map(|(crowd, _)| crowd);
    let mut crowds = (0..farms).map(start).collect::<Result<Vec<_>, _>>()?;
    thread::sleep(plan.watch(2));
    let quiet_from = monotonic_ns();
    thread::sleep(plan.watch(8));
    let drops = listen_drops();
    let cut_ns = monotonic_ns();
    crowds.iter_mut().try_for_each(|crowd| crowd.order(Order::Cut))?;
    let back = crowds.iter().map(Crowd::working).collect::<Result<Vec<_>, _>>()?;
    let back_ns = back.iter().map(last_ns).max().unwrap_or(cut_ns);
    let drops = listen_drops() - drops;
    let pause = Duration::from_nanos(back_ns - cut_ns) + Duration::from_millis(500);
    thread::sleep(pause.max(Duration::from_nanos(AFTER_NS)).min(plan.watch(4)));
    let samples = witnesses.samples()?;
    let quiet = Latency::of(&samples, quiet_from, cut_ns);
    let storm = Latency::of(&samples, cut_ns, back_ns);
    let miners = each * farms;
    let stayed = plan.clients(WITNESSES);
    let took = Duration::from_nanos(back_ns - cut_ns);
    let mut figures = vec![
        Figure::time(
            format!("{miners} miners cut and reconnecting at once: all have work"),
            took,
            limit,
        )
        .noting(format!("{drops} SYNs dropped by a full queue, to be sent again")),
        Figure::p99(
            format!("p99 of {stayed} that stayed, from the cut to then"),
            storm,
            quiet,
            Some(STAYERS_TIMES),
        ),
    ];
    crowds.push(witnesses);
    figures.push(equal(&daemon, &mut crowds, miners)?);
    let to_ns = back_ns.max(cut_ns + AFTER_NS);
    let svg = plot::storm(
        &format!("{miners} miners cut and reconnecting at once, and {stayed} that stayed"),
        &samples,
        &back,
        (cut_ns - BEFORE_NS, cut_ns, to_ns),
    );
    Ok(Found { figures, pictures: vec![Picture { name: format!("power-{}", farms * FARM), svg }] })
}

/// When the last of them had work.
pub(crate) fn last_ns(working: &Working) -> u64 {
    working.since_ns + u64::from(working.after_us.last().copied().unwrap_or(0)) * 1_000
}

/// Metrics, ledger, API and the crowds count the same.
fn equal(daemon: &Daemon, crowds: &mut [Crowd], cut: u32) -> Result<Figure, Box<dyn Error>> {
    crowds.iter_mut().try_for_each(|crowd| crowd.order(Order::Rest))?;
    let mut all = Counts::default();
    let mut by_worker = BTreeMap::new();
    for crowd in crowds.iter_mut() {
        let counts = crowd.rested()?;
        let number = |index: usize| format!("w.{:07}", crowd.first + index as u32);
        let each = counts.accepted_by_miner.iter().enumerate();
        by_worker.extend(each.map(|(index, accepted)| (number(index), u64::from(*accepted))));
        all.accepted += counts.accepted;
        all.rejected += counts.rejected;
        all.lost += counts.lost;
        all.closed += counts.closed;
    }
    let since = Instant::now();
    let mut seen = Seen::of(daemon, &by_worker)?;
    while !seen.agree() && since.elapsed() < AGREE_MAX {
        thread::sleep(Duration::from_millis(200));
        seen = Seen::of(daemon, &by_worker)?;
    }
    // Of a share whose connection was reset nobody can say whether it had arrived.
    let explained = (all.accepted..=all.accepted + all.lost).contains(&seen.metrics);
    let met = seen.agree() && explained && seen.unexplained <= all.lost && all.closed == 0;
    let Counts { accepted, rejected, lost, .. } = all;
    let Seen { metrics, ledger, workers, unexplained } = seen;
    let value =
        format!("{metrics}, {ledger}, {workers}, {accepted} + {}", metrics - accepted.min(metrics));
    let what = format!("accepted shares after {cut} were cut: metrics, ledger, API, generators");
    Ok(Figure::holds(what, value, "equal", met).noting(format!(
        "{lost} shares were on their way when their connections were reset, of which the last \
         number had arrived; {unexplained} more in the accounts of single workers than they know \
         of; {rejected} refused; agreed after {}",
        seconds(since.elapsed())
    )))
}

/// What the daemon says of accepted shares.
struct Seen {
    metrics: u64,
    ledger: u64,
    workers: u64,
    /// How far the accounts of single workers are from what their miners know.
    unexplained: u64,
}

impl Seen {
    fn of(daemon: &Daemon, known: &BTreeMap<String, u64>) -> Result<Seen, Box<dyn Error>> {
        let page = daemon.get("/metrics")?.0;
        let metrics = sum(&page, "headframe_shares_total", "result=\"accepted\"");
        let status = daemon.json("/api/v1/status")?;
        let ledger = status["shares"]["accepted"].as_u64().unwrap_or(0);
        let (mut workers, mut unexplained, mut offset) = (0, 0, 0);
        loop {
            let page = daemon.json(&format!("/api/v1/workers?limit=1000&offset={offset}"))?;
            let rows = page["workers"].as_array().ok_or("no workers")?;
            for row in rows {
                let accepted = row["shares"]["accepted"].as_u64().unwrap_or(0);
                let own = known.get(row["worker"].as_str().unwrap_or_default());
                workers += accepted;
                unexplained += accepted.abs_diff(own.copied().unwrap_or(0));
            }
            offset += rows.len();
            if rows.is_empty() {
                return Ok(Seen { metrics, ledger, workers, unexplained });
            }
        }
    }

    fn agree(&self) -> bool {
        self.metrics == self.ledger && self.ledger == self.workers
    }
}

/// The daemon dies with the farm on it and comes back ten seconds later, with nobody who keeps its
/// listeners: now each firmware's own back-off says when its machines mine again.
pub(crate) fn firmware(plan: &Plan) -> Result<Found, Box<dyn Error>> {
    let away = Duration::from_secs(10);
    let place = Place::new(&Setting::QUIET)?;
    let mut daemon = Daemon::start(&place)?;
    let miners = plan.clients(FARM);
    let (mut crowd, _) = Crowd::farm(&daemon, miners, 0, &["back=firmware"])?;
    daemon.signal(Signal::KILL)?;
    daemon.end()?;
    crowd.order(Order::Await)?;
    thread::sleep(away);
    let daemon = Daemon::start(&place)?;
    let ready_ns = monotonic_ns();
    let working = crowd.working()?;
    let counts = crowd.counts()?;
    let after = |index: usize| {
        let at_ns = working.since_ns + u64::from(working.after_us[index]) * 1_000;
        seconds(Duration::from_nanos(at_ns.saturating_sub(ready_ns)))
    };
    let last = working.after_us.len().checked_sub(1).ok_or("nobody was cut")?;
    let [half, most, all] = [last / 2, last * 99 / 100, last].map(after);
    let what = format!(
        "{miners} miners with firmware's back-off, the daemon away for 10 s: all have work"
    );
    let figure = Figure::recorded(what, all).noting(format!(
        "after READY; half after {half}, 99 % after {most}; {} connects, {} of them refused",
        counts.connects, counts.refused_connects
    ));
    drop(daemon);
    Ok(Found { figures: vec![figure], pictures: Vec::new() })
}
