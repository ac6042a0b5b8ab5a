//! The data plane on its thread: a shard, its ring and its lane, turn after turn. Both hosts run
//! this and nothing else; it returns when the shard is drained or the engine stops.
//!
//! ```text
//! loop: turn ─► (nobody brought news meanwhile?) ─► submit and wait in the ring ─► turn …
//!                                                   until the deadline, at most 500 ms
//! ```
//!
//! A panic outside the fence ends this life of the shard: its connections are closed, and a new
//! life begins on the same thread with the same listening sockets. The third panic within a minute
//! ends the process instead (`guard.rs`), behind the turn in which it came. Blocks that were found
//! leave the shard in either case.

use std::cell::RefCell;
use std::os::fd::OwnedFd;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::sync::mpsc::Sender;
use std::thread;
use std::time::{Duration, Instant};

use pow::Kernel;
use session::{Remembered, Tick};
use shard::{Counters, Guard, Shard, ShardSettings, Total, Turn};
use uring::{Pretend, Ring, Setup, UringError};

use crate::clock;
use crate::config::StartError;
use crate::guard::Fence;
use crate::lanes::{BlocksUnderWay, Line, ShardEnd};

/// What has panicked if no connection did.
const ITSELF: &str = "the shard itself, which begins anew";
/// The longest sleep of a shard: its heartbeat for the watchdog.
const SLEEP_MAX: Duration = Duration::from_millis(500);
/// After a turn that served more than this, followers are on their way and pay for waiting.
const GATHER_ABOVE: usize = 4;
/// How long followers may gather: nothing to a miner, a third of the CPU to a busy shard.
const GATHER_US: u32 = 500;

/// The kernel takes down the rings of a process that was killed, or of a shard's last life, some
/// time after their end, and counts their memory until then.
const RING_LIMIT: Duration = Duration::from_secs(2);
/// How often a ring is tried meanwhile.
const RING_RETRY_EVERY: Duration = Duration::from_millis(20);

/// What a shard's thread is given. It outlives the shard's lives.
pub(crate) struct Berth {
    pub(crate) index: u16,
    pub(crate) core: usize,
    pub(crate) listeners: Vec<OwnedFd>,
    /// Connections for its first life, each with the place of its listener.
    pub(crate) waiting: RefCell<Vec<(usize, OwnedFd)>>,
    pub(crate) settings: ShardSettings,
    /// Where workers had settled before any of its lives.
    pub(crate) remembered: Arc<[Remembered]>,
    /// The connections of all shards.
    pub(crate) total: Arc<Total>,
    pub(crate) kernel: Kernel,
    pub(crate) gather: bool,
    pub(crate) pretend: Pretend,
    pub(crate) line: Arc<Line>,
    pub(crate) counters: Arc<Counters>,
}

/// What a shard's thread tells the engine: once, when its first ring is made or cannot be.
pub(crate) type Started = Sender<Result<Ready, StartError>>;

/// A shard's thread listens.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Ready {
    /// Its ring lets followers gather.
    pub(crate) gathers: bool,
}

/// Why a life of a shard has ended.
pub(crate) enum End {
    /// Drained, or told to stop.
    Orderly,
    /// The ring could not be made, or failed for good.
    Ring(StartError),
    /// Panics, which have been counted.
    Panicked,
}

/// Serves the shard until it is drained or stopped. The caller is its pinned thread.
pub(crate) fn serve(berth: &Berth, started: Started) {
    let fence = Fence::new(berth.index);
    live_again_and_again(&fence, berth.line.blocks(), started, |life, started| {
        live(berth, life, (&fence, &fence), started)
    });
}

/// Begins a new life after each that has ended by a panic or by a ring that failed.
fn live_again_and_again(
    fence: &Fence,
    blocks: &BlocksUnderWay,
    started: Started,
    mut live: impl FnMut(u32, &mut Option<Started>) -> End,
) {
    let mut started = Some(started);
    for life in 1.. {
        match catch_unwind(AssertUnwindSafe(|| live(life, &mut started))) {
            Ok(End::Orderly) => return,
            Ok(End::Ring(error)) => match started.take() {
                Some(started) => {
                    // The engine has given up waiting if nobody hears it.
                    let _ = started.send(Err(error));
                    return;
                }
                None => {
                    tracing::error!("the ring has failed: {error}");
                    fence.note("its ring");
                }
            },
            Ok(End::Panicked) => {}
            Err(_) => fence.note(ITSELF),
        }
        if fence.is_doomed() {
            fence.end_process(|| blocks.is_none());
        }
    }
}

/// One life of the shard. The guard is the fence, unless a test stands in between.
pub(crate) fn live<G: Guard>(
    berth: &Berth,
    life: u32,
    (fence, guard): (&Fence, &G),
    started: &mut Option<Started>,
) -> End {
    let mut lane = ShardEnd::begin(berth.line.clone(), life);
    let mut ring = match make_ring(berth, &lane) {
        Ok(ring) => ring,
        Err(error) => return End::Ring(error),
    };
    let settings = ShardSettings { incarnation: life, ..berth.settings.clone() };
    let counters = &berth.counters;
    let mut shard = Shard::new(settings, berth.kernel, counters.clone());
    shard.share_total(berth.total.clone());
    shard.remember(berth.remembered.iter().cloned());
    shard.start(&mut ring);
    tracing::info!(shard = berth.index, core = berth.core, life, "the shard listens");
    if let Some(started) = started.take() {
        // The engine has given up waiting if nobody hears it.
        let _ = started.send(Ok(Ready { gathers: ring.can_gather() }));
    }
    let turns = || take_turns(&mut shard, &mut ring, &mut lane, counters, (fence, guard));
    let end = catch_unwind(AssertUnwindSafe(turns)).unwrap_or_else(|_| {
        fence.note(ITSELF);
        End::Panicked
    });
    if fence.is_doomed() {
        fence.end_process(|| shard.hand_over_blocks(&mut lane) && berth.line.blocks().is_none());
    }
    // Those of a turn that did not come to its end.
    shard.hand_over_blocks(&mut lane);
    end
}

/// Turn after turn, until the shard is drained, told to stop, or broken.
fn take_turns<G: Guard>(
    shard: &mut Shard<Ring>,
    ring: &mut Ring,
    lane: &mut ShardEnd,
    counters: &Counters,
    (fence, guard): (&Fence, &G),
) -> End {
    loop {
        let began = clock::now();
        let turn = shard.turn(began, ring, lane, guard);
        let ended = clock::now();
        let busy_us = ended.since(began);
        counters.busy_us.add(busy_us);
        counters.turn_duration.record(busy_us, 1);
        if fence.is_doomed() {
            return End::Panicked;
        }
        if turn.drained || lane.is_stopped() {
            return End::Orderly;
        }
        let may_sleep = lane.lie_down();
        let (sleep, gather) = rest(&turn, ended, may_sleep);
        if let Err(error) = ring.wait(Some(sleep), gather) {
            return End::Ring(StartError::Os { what: "waiting in the ring", error });
        }
        lane.get_up();
    }
}

/// How long to wait in the ring after a turn, and whether followers may gather.
fn rest(turn: &Turn, now: Tick, may_sleep: bool) -> (Duration, Option<u32>) {
    if !may_sleep {
        return (Duration::ZERO, None);
    }
    let sleep = Duration::from_micros(turn.deadline.since(now)).min(SLEEP_MAX);
    let busy = turn.served > GATHER_ABOVE && !turn.fanning_out;
    let gather = busy && sleep > Duration::from_micros(GATHER_US.into());
    (sleep, gather.then_some(GATHER_US))
}

fn make_ring(berth: &Berth, lane: &ShardEnd) -> Result<Ring, StartError> {
    let descriptor =
        |error| StartError::Os { what: "duplicating a descriptor of the shard", error };
    let setup = Setup { gather: berth.gather, pretend: berth.pretend.clone(), ..Setup::default() };
    let until = Instant::now() + RING_LIMIT;
    let pause = || {
        thread::sleep(RING_RETRY_EVERY);
        Instant::now() < until
    };
    let mut ring = new_ring(|| Ring::new(setup.clone()), pause).map_err(StartError::Ring)?;
    let mut listeners = Vec::new();
    for listener in &berth.listeners {
        listeners.push(ring.listen(listener.try_clone().map_err(descriptor)?));
    }
    for (listener, connection) in berth.waiting.take() {
        ring.bring(listeners[listener], connection);
    }
    ring.watch(lane.counter().map_err(descriptor)?);
    Ok(ring)
}

/// Makes a ring; where there is no memory for one, again as long as `pause` says so.
fn new_ring<T>(
    mut make: impl FnMut() -> Result<T, UringError>,
    mut pause: impl FnMut() -> bool,
) -> Result<T, UringError> {
    loop {
        match make() {
            Err(UringError::Memory) if pause() => {}
            made => return made,
        }
    }
}

#[cfg(test)]
mod tests {
    use std::os::unix::process::ExitStatusExt;
    use std::process::Command;
    use std::sync::mpsc::channel;

    use uring::Feature;

    use super::*;

    #[test]
    fn memory_for_a_ring_is_waited_for_and_nothing_else() {
        let full = || Err(UringError::Memory);
        let mut free = [full(), full(), Ok(7)].into_iter();
        assert_eq!(new_ring(|| free.next().expect("no more tries"), || true), Ok(7));
        let mut pauses = [true, false].into_iter();
        let never = new_ring(full, || pauses.next().expect("no more pauses"));
        assert_eq!(never, Err::<u32, _>(UringError::Memory));
        let refused = || Err::<u32, _>(UringError::Forbidden);
        assert_eq!(new_ring(refused, || panic!("no pause")), Err(UringError::Forbidden));
    }

    #[test]
    fn a_shard_that_panics_lives_again() {
        let (started, _ready) = channel();
        let mut lives = Vec::new();
        let blocks = BlocksUnderWay::default();
        live_again_and_again(&Fence::new(0), &blocks, started, |life, _| {
            lives.push(life);
            assert!(life > 2, "a panic outside the fence, on purpose");
            End::Orderly
        });
        assert_eq!(lives, [1, 2, 3]);
    }

    #[test]
    fn a_third_panic_in_a_minute_ends_the_process() {
        const CHILD: &str = "ENGINE_TEST_PANICS";
        if std::env::var_os(CHILD).is_some() {
            let (started, _ready) = channel();
            let blocks = BlocksUnderWay::default();
            live_again_and_again(&Fence::new(0), &blocks, started, |_, _| panic!("on purpose"));
            return;
        }
        let name = "plane::tests::a_third_panic_in_a_minute_ends_the_process";
        let output = Command::new(std::env::current_exe().expect("this test binary"))
            .args(["--exact", name, "--nocapture"])
            .env(CHILD, "1")
            .output()
            .expect("it runs again");
        let (abort, told) = (6, String::from_utf8_lossy(&output.stderr));
        assert_eq!(output.status.signal(), Some(abort), "{told}");
        assert_eq!(told.matches("on purpose").count(), 3, "{told}");
    }

    #[test]
    fn a_ring_that_cannot_be_made_is_told_to_the_engine() {
        let (started, ready) = channel();
        let missing = UringError::Missing(vec![Feature::DeferTaskrun]);
        let error = || End::Ring(StartError::Ring(missing.clone()));
        let (fence, blocks) = (Fence::new(0), BlocksUnderWay::default());
        live_again_and_again(&fence, &blocks, started, |_, _| error());
        let told = ready.recv().expect("it was told").expect_err("there is no ring");
        assert!(told.to_string().contains("IORING_SETUP_DEFER_TASKRUN"), "{told}");
    }

    #[test]
    fn followers_gather_only_behind_a_busy_turn_that_sends_no_job() {
        let now = Tick(1_000_000);
        let turn = |served, fanning_out, in_us: u64| Turn {
            served,
            deadline: now.plus_micros(in_us),
            fanning_out,
            drained: false,
        };
        let second = 1_000_000;
        assert_eq!(rest(&turn(5, false, second), now, true), (SLEEP_MAX, Some(GATHER_US)));
        assert_eq!(rest(&turn(4, false, second), now, true), (SLEEP_MAX, None));
        assert_eq!(rest(&turn(5, true, second), now, true), (SLEEP_MAX, None));
        assert_eq!(rest(&turn(5, false, 300), now, true), (Duration::from_micros(300), None));
        assert_eq!(rest(&turn(5, false, second), now, false), (Duration::ZERO, None));
        let overdue = Turn { deadline: Tick(0), ..turn(9, false, 0) };
        assert_eq!(rest(&overdue, now, true), (Duration::ZERO, None));
    }
}
