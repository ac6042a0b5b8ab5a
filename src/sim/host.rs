//! A shard and what it stands on, turn after turn: what `engine`'s plane is in the product.

use std::cell::Cell;
use std::collections::VecDeque;
use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};
use std::sync::Arc;

use farm::extranonce::Lease;
use pow::{Difficulty, Kernel};
use session::{Settings, ShareOutcome, Tick};
use shard::{AdmissionSettings, AllowList, Counters, Guard, Panicked, Shard, ShardSettings, Turn};

use crate::checker::LANE_SLOTS_AMPLE;
use crate::faults::{Faults, Sabotage};
use crate::lane::SimLane;
use crate::random::Random;
use crate::ring::{ShardDied, SimRing, Wish};
use crate::world::{EXTRANONCE2_SIZE, Event, SECOND, World};

/// About every second hash is a share.
const DIFFICULTY: f64 = 4.65e-10;
/// What a turn costs in virtual time, and each served completion in it.
const TURN_US: u64 = 20;
const SERVED_US: u64 = 8;
/// From the death of a shard to the first turn of its next life.
const REBIRTH_US: u64 = 2_000;
/// Credit that is older was reported: once a second, and half a second for what comes between.
const UNREPORTED_US_MAX: u64 = 3 * SECOND / 2;

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
    /// What the life before had leased last, for a world that lies about leases.
    pub(crate) dead_lease: Option<Lease>,
    pub(crate) drained: bool,
    /// Connections so far that had to make room for others.
    pub(crate) made_room: u64,
    settings: ShardSettings,
    /// The counters when this life began: shards count on through their lives.
    before: Books,
    /// Credited shares after each turn that credited some, for a while.
    credit_log: VecDeque<(u64, u64)>,
}

/// What a shard has counted that must not get lost.
#[derive(Clone, Copy, Default)]
struct Books {
    accepted: u64,
    difficulty: f64,
    blocks: u64,
}

impl Books {
    fn of(counters: &Counters) -> Books {
        Books {
            accepted: counters.shares[ShareOutcome::Accepted as usize].value(),
            difficulty: counters.difficulty_accepted.value(),
            blocks: counters.blocks_found.value(),
        }
    }
}

impl Host {
    /// Which life of the shard runs.
    pub(crate) fn life(&self) -> u32 {
        self.settings.incarnation
    }

    /// Remembers how much was credited by now.
    fn log_credit(&mut self, now: u64) {
        let accepted = Books::of(&self.counters).accepted;
        if self.credit_log.back().is_none_or(|(_, newest)| *newest < accepted) {
            self.credit_log.push_back((now, accepted));
        }
        let old = |log: &VecDeque<(u64, u64)>| {
            log.get(1).is_some_and(|(at, _)| at + UNREPORTED_US_MAX < now)
        };
        while old(&self.credit_log) {
            self.credit_log.pop_front();
        }
    }

    /// Shares of this life that were credited too long ago to be lost with it.
    fn reported_at_least(&self, now: u64) -> u64 {
        let old = self.credit_log.front().filter(|(at, _)| at + UNREPORTED_US_MAX < now);
        old.map_or(0, |(_, accepted)| accepted.saturating_sub(self.before.accepted))
    }
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
        let lies = self.plan.sabotage == Some(Sabotage::ClockOfTheDate);
        let skew = if lies { SECOND * self.node.clock_off.max(0) as u64 } else { 0 };
        host.lane.now = now;
        host.ring.now = now;
        let Host { shard, ring, lane, .. } = host;
        let turn =
            catch_unwind(AssertUnwindSafe(|| shard.turn(Tick(now + skew), ring, lane, &fence)));
        let panics = fence.panics.get();
        match turn {
            Ok(mut turn) => {
                turn.deadline = Tick(turn.deadline.as_micros().saturating_sub(skew));
                self.follow_turn(index, turn, panics);
            }
            Err(cause) if cause.is::<ShardDied>() => {
                self.checker.panics += panics;
                self.bury(index, true);
            }
            Err(cause) => resume_unwind(cause),
        }
    }

    fn follow_turn(&mut self, index: usize, turn: Turn, panics: u64) {
        let now = self.now;
        self.checker.panics += panics;
        let host = &mut self.hosts[index];
        host.drained = turn.drained;
        host.log_credit(now);
        host.busy_until = host.busy_until.max(now + TURN_US + SERVED_US * turn.served as u64);
        let again = host.ring.has_ready() || turn.deadline <= Tick(now);
        // What is under way to it wakes it when it arrives, however early this turn was.
        let arrivals = [host.lane.next_arrival(), host.ring.next_ripe()].into_iter().flatten();
        let next = arrivals.fold(turn.deadline.as_micros(), u64::min);
        let next = if again { now } else { next };
        self.wake(index, next);
        self.follow_ring(index);
        self.follow_lane(index);
        self.check_turn(index, panics);
    }

    /// A life of a shard begins on the present ring: the first, or the next.
    pub(crate) fn begin_life(&mut self, index: usize) {
        let now = self.now;
        let Host { shard, ring, lane, .. } = &mut self.hosts[index];
        lane.now = now;
        lane.begin();
        ring.now = now;
        shard.share_total(self.total.clone());
        shard.start(ring);
        self.follow_lane(index);
        self.follow_ring(index);
        self.wake(index, now + 1);
    }

    /// A shard is dead. What it had not told is lost, and what that may be is known; a new life
    /// begins on its thread.
    pub(crate) fn bury(&mut self, index: usize, mid_turn: bool) {
        self.settle_books(index, mid_turn);
        let (now, kernel) = (self.now, self.kernel);
        let host = &mut self.hosts[index];
        host.ring.now = now;
        host.ring.die(mid_turn);
        host.dead_lease = host.lane.last_lease.take();
        if self.plan.sabotage != Some(Sabotage::SameLife) {
            host.settings.incarnation += 1;
        }
        host.shard = Shard::new(host.settings.clone(), kernel, host.counters.clone());
        host.before = Books::of(&host.counters);
        host.credit_log.clear();
        host.next_turn = None;
        host.busy_until = now + REBIRTH_US;
        self.checker.deaths += 1;

        self.begin_life(index);
    }

    /// What a dead shard takes with it: the credit since its last report, and blocks that found no
    /// room in the lane.
    fn settle_books(&mut self, index: usize, mid_turn: bool) {
        let now = self.now;
        let host = &self.hosts[index];
        let (books, told) = (Books::of(&host.counters), host.lane.told.credit());
        let unreported = books.accepted - host.before.accepted - told.0;
        let blocks = books.blocks - host.before.blocks - host.lane.told.blocks;
        let prompt = self.faults.lane_slots >= LANE_SLOTS_AMPLE
            && host.stalled_at.is_none_or(|at| at + UNREPORTED_US_MAX < now);
        if prompt && told.0 < host.reported_at_least(now) {
            let what =
                format!("{unreported} shares were not reported within {UNREPORTED_US_MAX} µs");
            self.checker.fail(what);
        }
        if blocks > 0 && !mid_turn && !host.lane.is_full() {
            self.checker.fail(format!("{blocks} blocks stayed behind although the lane had room"));
        }
        self.checker.unreported += unreported;
        self.checker.unreported_difficulty += books.difficulty - host.before.difficulty - told.1;
        self.checker.blocks_buried += blocks;
    }

    fn follow_lane(&mut self, index: usize) {
        let arrivals = std::mem::take(&mut self.hosts[index].lane.wishes);
        arrivals.into_iter().for_each(|at| self.at(at, Event::Coordinate));
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
        proxy_from: vec![AllowList::none()],
        connections_max,
        per_source_max: 64,
        unauthenticated_max: connections_max,
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
        shard: Shard::new(settings.clone(), kernel, counters.clone()),
        ring: SimRing::new(faults.clone(), random.fork()),
        lane: SimLane::new(faults.lane_slots, faults.lane_us_max, random.fork()),
        counters,
        next_turn: None,
        busy_until: 0,
        stalled_at: None,
        drained: false,
        made_room: 0,
        dead_lease: None,
        settings,
        before: Books::default(),
        credit_log: VecDeque::new(),
    }
}
