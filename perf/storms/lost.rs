//! Half of a farm loses its power without a word, so that its connections stay half-open, and comes
//! back on new ones.

use std::error::Error;
use std::thread;
use std::time::{Duration, Instant};

use perf::crowds::Order;
use perf::process::monotonic_ns;

use crate::crowd::Crowd;
use crate::daemon::{Daemon, Place, Setting, sum};
use crate::figures::{Figure, Latency};
use crate::power::{FARM, WITNESSES, last_ns};
use crate::{Found, Plan};

/// When all that came back mine.
const MINING: Duration = Duration::from_secs(4);
/// When nothing of the lost connections is held any more.
const FREE: Duration = Duration::from_secs(90);
/// Tips meanwhile, so that the daemon has something to say to those that are gone.
const TIP_SECONDS: f64 = 20.0;

/// The row.
pub(crate) fn half_open(plan: &Plan) -> Result<Found, Box<dyn Error>> {
    let place = Place::new(&Setting { tip_seconds: TIP_SECONDS, ..Setting::QUIET })?;
    let daemon = Daemon::start(&place)?;
    let (farm, stay) = (plan.clients(FARM), plan.clients(WITNESSES));
    let mut witnesses = Crowd::witnesses(&daemon, stay)?;
    let (mut gone, _) = Crowd::farm(&daemon, farm, 0, &["vanishing=1"])?;
    let descriptors = daemon.descriptors()?;
    thread::sleep(plan.watch(5));
    gone.order(Order::Vanish)?;
    let vanished_ns = gone.done()?;
    let vanished = Instant::now();
    let (back, working) = Crowd::farm(&daemon, farm, 0, &[])?;
    let took = Duration::from_nanos(last_ns(&working) - working.since_ns);
    let both = daemon.descriptors()?;
    if both < descriptors + farm as usize {
        return Err(format!("{both} fds while half the farm is half-open: it is not").into());
    }
    let mining = u64::from(farm + stay);
    // As many descriptors as before, and only those that came back hold prefixes.
    daemon.until("the end of the half-open", |daemon| {
        let page = daemon.get("/metrics")?.0;
        let miners = sum(&page, "headframe_miners", "state=\"mining\"");
        Ok(miners == mining && daemon.descriptors()? <= descriptors)
    })?;
    let free = vanished.elapsed();
    let latency = Latency::of(&witnesses.samples()?, vanished_ns, monotonic_ns());
    let page = daemon.get("/metrics")?.0;
    let parked = sum(&page, "headframe_sessions_parked", "");
    let leased = sum(&page, "headframe_extranonce_prefixes", "state=\"leased\"");
    let what = format!("{farm} half-open while {farm} return");
    let figures = vec![
        Figure::time(format!("{what}: all that return have work"), took, MINING)
            .noting(format!("{both} fds then; witnesses meanwhile: {latency}")),
        Figure::time(format!("{what}: fds and prefixes free again"), free, FREE).noting(format!(
            "after the cut, {descriptors} fds as before it, and {mining} connections hold \
             prefixes ({leased} are leased to the shard); {parked} sessions are parked for ten \
             minutes, and give theirs up when somebody needs it"
        )),
    ];
    drop((gone, back));
    Ok(Found { figures, pictures: Vec::new() })
}
