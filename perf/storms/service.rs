//! What a service manager sees: a death under load with the listeners in its store, and a stop.

use std::error::Error;
use std::io::Read as _;
use std::process::Child;
use std::thread;
use std::time::{Duration, Instant};

use perf::crowds::Order;
use perf::servers::program;
use regtest::knocks::Crowd as Knockers;
use regtest::manager::Manager;
use rustix::process::Signal;

use crate::crowd::Crowd;
use crate::daemon::{Daemon, Place, Setting, notify_socket, on_its_core};
use crate::figures::{Figure, seconds};
use crate::power::FARM;
use crate::{Found, Plan};

/// From the start of the next process to its READY.
const READY: Duration = Duration::from_millis(500);
/// From SIGTERM to the end.
const DRAINED: Duration = Duration::from_secs(5);
/// Deaths of the row.
const DEATHS: usize = 3;

/// The daemon is killed again and again while miners mine and others knock.
pub(crate) fn kill(plan: &Plan) -> Result<Found, Box<dyn Error>> {
    let place = Place::new(&Setting::QUIET)?;
    let manager = Manager::new(&program("headframe"), notify_socket(&place.folder));
    let start = || on_its_core(|| manager.start(&place.file)).map(quiet);
    let mut daemon = Daemon::of(&place, start()?);
    manager.hear_until("READY=1");
    let miners = plan.clients(FARM);
    let (mut crowd, _) = Crowd::farm(&daemon, miners, 0, &[])?;
    let knockers = Knockers::start(place.address);
    let (mut to_ready, mut outages, mut returns) = (Vec::new(), Vec::new(), Vec::new());
    for _ in 0..if plan.short { 1 } else { DEATHS } {
        thread::sleep(plan.watch(2));
        manager.rest();
        let killed = Instant::now();
        daemon.signal(Signal::KILL)?;
        daemon.end()?;
        crowd.order(Order::Await)?;
        let started = Instant::now();
        daemon = Daemon::of(&place, start()?);
        let ready = manager.hear_until("READY=1").at;
        to_ready.push(ready.duration_since(started));
        outages.push(ready.duration_since(killed));
        crowd.working()?;
        returns.push(ready.elapsed());
    }
    let knocks = knockers.stop();
    let counts = crowd.counts()?;
    let refused = knocks.refused + knocks.unreached + knocks.swallowed + counts.refused_connects;
    let worst = |times: &[Duration]| times.iter().copied().max().unwrap_or_default();
    let what = format!("kill -9 with {miners} miners on it");
    let figures = vec![
        Figure::time(format!("{what}: READY again"), worst(&to_ready), READY).noting(format!(
            "the worst of {} deaths, from the start of the next process; {} from the death; the \
             last miner had work {} after READY",
            to_ready.len(),
            seconds(worst(&outages)),
            seconds(worst(&returns))
        )),
        Figure::holds(format!("{what}: SYNs refused"), refused.to_string(), "0", refused == 0)
            .noting(format!(
                "with the listeners in the store; {} connects of miners, {} others were answered \
                 and {} ended by the death",
                counts.connects, knocks.answered, knocks.ended
            )),
    ];
    drop((daemon, crowd));
    Ok(Found { figures, pictures: Vec::new() })
}

/// Nobody reads what it says, and it must not wait for anybody to.
fn quiet(mut child: Child) -> Child {
    if let Some(mut errors) = child.stderr.take() {
        thread::spawn(move || {
            let mut bytes = [0; 4_096];
            while errors.read(&mut bytes).is_ok_and(|count| count > 0) {}
        });
    }
    child
}

/// A farm of 18,000 is told to go.
pub(crate) fn drain(plan: &Plan) -> Result<Found, Box<dyn Error>> {
    let place = Place::new(&Setting::QUIET)?;
    let mut daemon = Daemon::start(&place)?;
    let each = plan.clients(FARM);
    let farm = |number| Crowd::farm(&daemon, each, number * each, &[]).map(|(crowd, _)| crowd);
    let mut crowds = [farm(0)?, farm(1)?];
    thread::sleep(plan.watch(2));
    let asked = Instant::now();
    daemon.signal(Signal::TERM)?;
    let in_order = daemon.end()?;
    let took = asked.elapsed();
    let miners = each * 2;
    // The crowds have as much to do with it as the daemon had.
    let (mut closed, since) = (0, Instant::now());
    while closed < u64::from(miners) && since.elapsed() < DRAINED {
        closed = 0;
        for crowd in &mut crowds {
            closed += crowd.counts()?.closed;
        }
    }
    let mut figure = Figure::time(format!("SIGTERM with {miners} miners: ended"), took, DRAINED);
    figure.met = figure.met.map(|met| met && in_order && closed >= u64::from(miners));
    let end = if in_order { "in order" } else { "**with an error**" };
    let figure =
        figure.noting(format!("{closed} closes, of those too that came back meanwhile; {end}"));
    Ok(Found { figures: vec![figure], pictures: Vec::new() })
}
