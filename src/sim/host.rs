//! A shard and what it stands on, turn after turn: what `engine`'s plane is in the product.

use std::cell::Cell;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;

use pow::{Difficulty, Kernel};
use session::{Settings, Tick};
use shard::{AdmissionSettings, AllowList, Counters, Guard, Panicked, Shard, ShardSettings, Turn};

use crate::faults::Faults;
use crate::lane::SimLane;
use crate::random::Random;
use crate::ring::{SimRing, Wish};
use crate::world::{EXTRANONCE2_SIZE, Event, World};

/// About every second hash is a share.
const DIFFICULTY: f64 = 4.65e-10;
/// What a turn costs in virtual time, and each served completion in it.
const TURN_US: u64 = 20;
const SERVED_US: u64 = 8;

/// A shard and what it stands on.
pub(crate) struct Host {
    pub(crate) shard: Shard<SimRing>,
    pub(crate) ring: SimRing,
    pub(crate) lane: SimLane,
    pub(crate) counters: Arc<Counters>,
    pub(crate) next_turn: Option<u64>,
    /// It does nothing before this moment.
    pub(crate) busy_until: u64,
    pub(crate) stalled_at: Option<u64>,
    pub(crate) drained: bool,
}

/// The fence around sessions, which also makes panics of its own.
struct Fence<'a> {
    random: &'a Cell<u64>,
    per_million: u64,
    panics: Cell<u64>,
}

impl Guard for Fence<'_> {
    fn run<T>(&self, call: impl FnOnce() -> T) -> Result<T, Panicked> {
        if self.per_million > 0 {
            let mut random = Random::new(self.random.get());
            let drawn = random.below(1_000_000);
            self.random.set(random.bits());
            if drawn < self.per_million {
                self.panics.set(self.panics.get() + 1);
                return Err(Panicked);
            }
        }
        // A session that panics by itself is a fault that the simulation is to show.
        catch_unwind(AssertUnwindSafe(call)).map_err(|_| Panicked)
    }
}

impl World {
    /// One turn of a shard, and what follows from it.
    pub(crate) fn turn(&mut self, index: usize) {
        let now = self.now;
        let host = &mut self.hosts[index];
        if host.next_turn != Some(now) {
            return;
        }
        host.next_turn = None;
        if host.drained {
            return;
        }
        let per_million = if self.healed { 0 } else { self.faults.panics };
        let fence = Fence { random: &self.guard_random, per_million, panics: Cell::new(0) };
        host.lane.now = now;
        host.ring.now = now;
        let Host { shard, ring, lane, .. } = host;
        let turn = shard.turn(Tick(now), ring, lane, &fence);
        let panics = fence.panics.get();
        self.follow_turn(index, turn, panics);
    }

    fn follow_turn(&mut self, index: usize, turn: Turn, panics: u64) {
        let now = self.now;
        self.checker.panics += panics;
        let host = &mut self.hosts[index];
        host.drained = turn.drained;
        host.busy_until = host.busy_until.max(now + TURN_US + SERVED_US * turn.served as u64);
        let again = host.ring.has_ready() || turn.deadline <= Tick(now);
        // What is under way to it wakes it when it arrives, however early this turn was.
        let arrivals = [host.lane.next_arrival(), host.ring.next_ripe()].into_iter().flatten();
        let next = arrivals.fold(turn.deadline.as_micros(), u64::min);
        let next = if again { now } else { next };
        self.wake(index, next);
        self.follow_ring(index);
        let arrivals = std::mem::take(&mut self.hosts[index].lane.wishes);
        arrivals.into_iter().for_each(|at| self.at(at, Event::Coordinate));
        self.check_turn(index, panics);
    }

    /// Lets a shard take a turn at a moment, or as soon as it can.
    pub(crate) fn wake(&mut self, index: usize, at: u64) {
        let now = self.now;
        let host = &mut self.hosts[index];
        let at = at.max(host.busy_until).max(now + 1);
        if host.next_turn.is_none_or(|next| at < next) {
            host.next_turn = Some(at);
            self.at(at, Event::Turn(index));
        }
    }

    /// Does something with a ring, and what the ring then wishes.
    pub(crate) fn with_ring<T>(&mut self, index: usize, act: impl FnOnce(&mut SimRing) -> T) -> T {
        let ring = &mut self.hosts[index].ring;
        ring.now = self.now;
        let result = act(ring);
        self.follow_ring(index);
        result
    }

    fn follow_ring(&mut self, index: usize) {
        let wishes = std::mem::take(&mut self.hosts[index].ring.wishes);
        for (at, wish) in &wishes {
            match *wish {
                Wish::Wake => self.wake(index, *at),
                Wish::Deliver(link) => self.at(*at, Event::Down(index, link)),
                Wish::HangUp(link) => self.at(*at, Event::HangUp(index, link)),
            }
        }
        if let Some(what) = self.hosts[index].ring.violations.pop() {
            self.checker.fail(what);
        }
    }
}

pub(crate) fn host(
    index: u16,
    miners: usize,
    faults: &Faults,
    kernel: Kernel,
    random: &mut Random,
) -> Host {
    let session = Settings {
        extranonce2_size: EXTRANONCE2_SIZE,
        start_difficulty: Difficulty::new(DIFFICULTY).expect("a positive number"),
        ..Settings::default()
    };
    // Twice the miners, because connections that are gone hold their slots for a while.
    let connections_max = 2 * miners + 64;
    let admission = AdmissionSettings {
        allow: vec![AllowList::private()],
        connections_max,
        per_source_max: 64,
    };
    let settings = ShardSettings {
        index,
        incarnation: 1,
        seed: random.bits(),
        session,
        admission,
        buffers_reserved: 16,
    };
    let counters = Arc::new(Counters::default());
    Host {
        shard: Shard::new(settings, kernel, counters.clone()),
        ring: SimRing::new(faults.clone(), random.fork()),
        lane: SimLane::new(faults.lane_slots, faults.lane_us_max, random.fork()),
        counters,
        next_turn: None,
        busy_until: 0,
        stalled_at: None,
        drained: false,
    }
}
