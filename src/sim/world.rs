//! The world: shards on simulated rings, the coordinator, the node, the miners and the network
//! between them, stepped in the order of one virtual clock. Everything that happens follows from
//! the seed.

use std::cell::Cell;
use std::collections::BTreeMap;
use std::net::{IpAddr, Ipv4Addr};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;

use farm::blocks::{RetryPolicy, SubmitBlock, SubmitResult};
use farm::extranonce::ShardIndex;
use farm::jobs::JobSettings;
use farm::messages::ToShard;
use farm::{Coordinator, CoordinatorSettings, Input, Output};
use pow::{Difficulty, Kernel, Template};
use session::{Settings, Tick};
use shard::{AdmissionSettings, AllowList, Counters, Guard, Panicked, Shard, ShardSettings, Turn};

use crate::checker::Checker;
use crate::faults::{Faults, Sabotage};
use crate::lane::SimLane;
use crate::link::LinkId;
use crate::miner::{Miner, Note, Role};
use crate::node::Node;
use crate::random::Random;
use crate::ring::{SimRing, Wish};

/// One virtual second.
pub const SECOND: u64 = 1_000_000;
/// About every second hash is a share.
const DIFFICULTY: f64 = 4.65e-10;
const EXTRANONCE1_SIZE: u8 = 4;
const EXTRANONCE2_SIZE: u8 = 4;
/// What a turn costs in virtual time, and each served completion in it.
const TURN_US: u64 = 20;
const SERVED_US: u64 = 8;
/// How long the world waits before it offers a message to a full lane again.
const LANE_RETRY_US: u64 = 1_000;

/// What is to be simulated.
#[derive(Clone, Debug)]
pub struct Plan {
    /// Everything that is drawn follows from it.
    pub seed: u64,
    /// How many miners; 0 draws it.
    pub miners: usize,
    /// How many shards; 0 draws it.
    pub shards: usize,
    /// The faults; `None` draws them.
    pub faults: Option<Faults>,
    /// How long things go wrong, in virtual µs.
    pub storm_us: u64,
    /// Mean time between two shares of a miner, in µs.
    pub share_us: u64,
    /// When every link breaks at once, in virtual µs.
    pub power_cut_at: Option<u64>,
    /// A lie, for a run that must fail.
    pub sabotage: Option<Sabotage>,
}

impl Plan {
    /// The world of a seed.
    pub fn of_seed(seed: u64) -> Plan {
        Plan {
            seed,
            miners: 0,
            shards: 0,
            faults: None,
            storm_us: 60 * SECOND,
            share_us: 2 * SECOND,
            power_cut_at: None,
            sabotage: None,
        }
    }
}

/// What a run that kept every promise has seen.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Summary {
    /// A hash of everything that happened, in its order.
    pub trace: u64,
    /// Steps taken.
    pub events: u64,
    /// Shares whose credit a miner has read.
    pub credited: u64,
    /// Shares that were refused, with their miner's knowledge.
    pub refused: u64,
    /// Blocks that the node got.
    pub blocks: usize,
    /// Connections that were made.
    pub connections: u64,
    /// Guarded calls that panicked.
    pub panics: u64,
    /// From the power cut to the moment at which the last miner mined again, in virtual µs; 0
    /// without a power cut.
    pub power_back_us: u64,
}

/// A promise that was broken.
#[derive(Clone, Debug)]
pub struct Failure {
    /// The seed that shows it.
    pub seed: u64,
    /// When, in virtual µs.
    pub at: u64,
    /// What.
    pub what: String,
}

impl std::fmt::Display for Failure {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let Failure { seed, at, what } = self;
        write!(
            f,
            "seed {seed} at {}.{:06} s: {what}\nreplay: HEADFRAME_SEED={seed} cargo test -p sim \
             --test simulation -- replay --nocapture",
            at / SECOND,
            at % SECOND
        )
    }
}

/// What can happen next.
#[derive(Clone, Debug)]
pub(crate) enum Event {
    Turn(usize),
    Up(usize, LinkId),
    Down(usize, LinkId),
    HangUp(usize, LinkId),
    TimedOut(usize, LinkId),
    Coordinate,
    CoordinatorTimer,
    Second,
    Tip,
    Refresh,
    /// Every healthy miner must have a job on this tip by now.
    TipDue(usize, u64),
    Mine(usize, LinkId),
    Connect(usize),
    NodeAnswers(u64, SubmitResult),
    Reset,
    Vanish,
    Clog,
    Unclog(usize, LinkId),
    StopReader,
    StartReader(usize, LinkId),
    Stall,
    PowerCut,
    Heal,
    LastTip,
    StopMining,
    Verify,
    Drain,
    End,
}

/// A shard and what it stands on.
pub(crate) struct Host {
    pub(crate) shard: Shard<SimRing>,
    pub(crate) ring: SimRing,
    pub(crate) lane: SimLane,
    pub(crate) counters: Arc<Counters>,
    next_turn: Option<u64>,
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

/// One simulated world.
pub struct World {
    pub(crate) plan: Plan,
    pub(crate) now: u64,
    pub(crate) faults: Faults,
    pub(crate) random: Random,
    pub(crate) hosts: Vec<Host>,
    pub(crate) miners: Vec<Miner>,
    pub(crate) node: Node,
    pub(crate) coordinator: Coordinator,
    pub(crate) checker: Checker,
    pub(crate) healed: bool,
    pub(crate) kernel: Kernel,
    pub(crate) all_drained: bool,
    pub(crate) mining: bool,
    events: u64,
    queue: BTreeMap<(u64, u64), Event>,
    sequence: u64,
    next_link: LinkId,
    /// When a message is offered again that found its lane full.
    retry_at: Option<u64>,
    guard_random: Cell<u64>,
    ended: bool,
}

/// Runs the world of a plan to its end, or to the first broken promise.
pub fn run(plan: &Plan) -> Result<Summary, Failure> {
    let mut world = World::new(plan.clone());
    world.begin();
    while !world.ended {
        world.step();
        if let Some(what) = world.checker.broken.take() {
            return Err(Failure { seed: plan.seed, at: world.now, what });
        }
    }
    Ok(world.summary())
}

impl World {
    fn new(plan: Plan) -> World {
        let kernel = Kernel::detect();
        let mut random = Random::new(plan.seed);
        let faults = plan.faults.clone().unwrap_or_else(|| Faults::draw(&mut random));
        let drawn = [random.within(8, 40) as usize, random.within(1, 4) as usize];
        let miners = if plan.miners == 0 { drawn[0] } else { plan.miners };
        let shards = if plan.shards == 0 { drawn[1] } else { plan.shards };
        let hosts =
            (0..shards).map(|index| host(index as u16, miners, &faults, kernel, &mut random));
        let hosts = hosts.collect();
        let miners = (0..miners).map(|index| {
            let role = draw_role(&faults, &mut random);
            Miner::new(index, role, random.fork())
        });
        let miners = miners.collect();
        let settings = CoordinatorSettings {
            jobs: job_settings(),
            retry: RetryPolicy::default(),
            template_silence_micros: 120 * SECOND,
        };
        let coordinator =
            Coordinator::new(settings, kernel, Tick(0)).expect("four bytes are a width");
        World {
            plan,
            now: 0,
            faults,
            hosts,
            miners,
            node: Node::new(kernel, random.fork()),
            coordinator,
            checker: Checker::default(),
            healed: false,
            kernel,
            all_drained: false,
            mining: true,
            events: 0,
            queue: BTreeMap::new(),
            sequence: 0,
            next_link: 0,
            retry_at: None,
            guard_random: Cell::new(random.bits()),
            random,
            ended: false,
        }
    }

    fn begin(&mut self) {
        self.sabotage();
        for index in 0..self.hosts.len() {
            let Host { shard, ring, .. } = &mut self.hosts[index];
            shard.start(ring);
            let started = Input::ShardStarted(ShardIndex(index as u16));
            self.coordinator.handle(Tick(0), started);
            self.wake(index, 1);
        }
        self.at(10, Event::Tip);
        self.at(SECOND, Event::Second);
        let spread = if self.plan.power_cut_at.is_some() { 2 * SECOND } else { SECOND };
        for miner in 0..self.miners.len() {
            let at = self.random.within(100, spread);
            self.at(at, Event::Connect(miner));
        }
        self.begin_weather();
        let storm = self.plan.storm_us;
        self.at(storm, Event::Heal);
        self.at(storm + SECOND, Event::LastTip);
        self.at(storm + 25 * SECOND, Event::StopMining);
        self.at(storm + 31 * SECOND, Event::Verify);
        self.at(storm + 32 * SECOND, Event::Drain);
        self.at(storm + 38 * SECOND, Event::End);
    }

    /// Something is to happen at a moment, not before now.
    pub(crate) fn at(&mut self, at: u64, event: Event) {
        self.sequence += 1;
        self.queue.insert((at.max(self.now), self.sequence), event);
    }

    /// Something is to happen in a while.
    pub(crate) fn after(&mut self, micros: u64, event: Event) {
        self.at(self.now + micros, event);
    }

    fn step(&mut self) {
        let Some(((at, _), event)) = self.queue.pop_first() else {
            return self.checker.fail("nothing is left to happen".to_owned());
        };
        self.now = at;
        self.events += 1;
        self.checker.trace(&[at, tag(&event)]);
        match event {
            Event::Turn(host) => self.turn(host),
            Event::Up(host, link) => {
                self.with_ring(host, |ring| ring.arrive_up(link));
            }
            Event::Down(host, link) => self.deliver(host, link),
            Event::HangUp(host, link) => self.hang_up(host, link),
            Event::TimedOut(host, link) => self.time_out(host, link),
            Event::Coordinate => self.coordinate(),
            Event::CoordinatorTimer => self.tell_coordinator(Input::Timer),
            Event::Second => {
                self.tell_coordinator(Input::Timer);
                self.check_readers();
                self.after(SECOND, Event::Second);
            }
            Event::Tip => self.new_tip(true),
            Event::LastTip => self.new_tip(false),
            Event::Refresh => self.refresh(),
            Event::TipDue(tip, adopted) => self.check_tip(tip, adopted),
            Event::Mine(miner, link) => self.mine(miner, link),
            Event::Connect(miner) => self.connect(miner),
            Event::NodeAnswers(id, result) => {
                self.tell_coordinator(Input::Submitted { id, result });
            }
            Event::StopMining => self.mining = false,
            Event::Verify => self.verify(),
            Event::Drain => {
                self.hosts.iter_mut().for_each(|host| host.ring.is_draining = true);
                self.tell_coordinator(Input::Drain);
            }
            Event::End => {
                self.verify_drained();
                self.ended = true;
            }
            weather => self.change_weather(weather),
        }
    }

    /// One turn of a shard, and what follows from it.
    fn turn(&mut self, index: usize) {
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

    /// Messages that have arrived at the coordinator.
    fn coordinate(&mut self) {
        let first = self.random.below(self.hosts.len() as u64) as usize;
        for turn in 0..self.hosts.len() {
            let index = (first + turn) % self.hosts.len();
            self.hosts[index].lane.now = self.now;
            while let Some(message) = self.hosts[index].lane.take() {
                let shard = ShardIndex(index as u16);
                self.tell_coordinator(Input::FromShard(shard, message));
            }
        }
    }

    pub(crate) fn tell_coordinator(&mut self, input: Input) {
        self.coordinator.handle(Tick(self.now), input);
        while let Some(output) = self.coordinator.poll() {
            match output {
                Output::ToShard(shard, message) => self.send_to_shard(shard, message),
                Output::SubmitBlock(block) => self.submit(&block),
                Output::Drained => self.all_drained = true,
                Output::Miners { .. } | Output::MinersBusy { .. } | Output::StatusChanged => {}
            }
        }
    }

    fn send_to_shard(&mut self, shard: ShardIndex, message: ToShard) {
        let index = usize::from(shard.0);
        let lane = &mut self.hosts[index].lane;
        lane.now = self.now;
        match lane.offer(message) {
            Ok(at) => self.wake(index, at),
            Err(message) => {
                self.coordinator.unsent(shard, message);
                if self.retry_at.is_none_or(|at| at <= self.now) {
                    self.retry_at = Some(self.now + LANE_RETRY_US);
                    self.after(LANE_RETRY_US, Event::CoordinatorTimer);
                }
            }
        }
    }

    fn submit(&mut self, block: &SubmitBlock) {
        let result = match self.node.judge(block) {
            Ok(result) => result,
            Err(what) => return self.checker.fail(what),
        };
        let silent = !self.healed && self.random.happens(self.faults.silent_node);
        let found = result == SubmitResult::Accepted;
        let result = if silent { SubmitResult::Unknown } else { result };
        let micros = self.random.within(100, 50_000);
        self.after(micros, Event::NodeAnswers(block.id, result));
        if found && !self.healed {
            self.after(micros, Event::Tip);
        }
    }

    fn new_tip(&mut self, again: bool) {
        if again && self.healed {
            return;
        }
        let back = !self.healed && self.random.happens(self.faults.reorgs);
        let template = self.node.new_tip(self.now, back);
        self.adopt(template);
        let tip = self.node.tips.len() - 1;
        self.after(self.tip_bound_us(), Event::TipDue(tip, self.now));
        if again && self.checker.tips_planned == 0 {
            self.checker.tips_planned += 1;
            self.after(2 * SECOND, Event::Refresh);
        }
    }

    fn refresh(&mut self) {
        if self.healed {
            return;
        }
        if self.random.happens(300) {
            self.at(self.now, Event::Tip);
        } else {
            let template = self.node.refresh(self.now);
            self.adopt(template);
        }
        let micros = self.random.within(SECOND / 10, 6 * SECOND);
        self.after(micros, Event::Refresh);
    }

    fn adopt(&mut self, template: Arc<Template>) {
        self.checker.job_made(self.node.tips.len() - 1);
        self.tell_coordinator(Input::Template(template));
    }

    pub(crate) fn connect(&mut self, index: usize) {
        if self.miners[index].link.is_some() {
            return;
        }
        let host = self.random.below(self.hosts.len() as u64) as usize;
        let link = self.next_link;
        self.next_link += 1;
        let draining = self.hosts[host].ring.is_draining;
        self.checker.connections += u64::from(!draining);
        let [_, a, b, c] = (index as u32 + 1).to_be_bytes();
        let peer = IpAddr::V4(Ipv4Addr::new(10, a, b, c));
        self.with_ring(host, |ring| ring.connect(link, index, peer));
        let hello = self.miners[index].connected((host, link));
        let role = self.miners[index].role;
        if matches!(role, Role::Babbler | Role::Flooder | Role::Mute) {
            self.with_ring(host, |ring| {
                if let Some(link) = ring.link(link) {
                    link.excuse = Some("its miner misbehaves");
                }
            });
        }
        self.write(host, link, &hello);
    }

    fn write(&mut self, host: usize, link: LinkId, bytes: &[u8]) {
        let arrivals = self.with_ring(host, |ring| ring.miner_writes(link, bytes));
        arrivals.into_iter().for_each(|at| self.at(at, Event::Up(host, link)));
    }

    fn mine(&mut self, index: usize, link: LinkId) {
        let Some((host, _)) = self.miners[index].link.filter(|(_, held)| *held == link) else {
            return;
        };
        if self.mining {
            let bytes = self.miners[index].mine(self.kernel);
            if !bytes.is_empty() {
                self.write_shares(index, host, link, &bytes);
            }
        }
        self.mine_later(index, link);
    }

    /// Sends what a miner has just mined.
    pub(crate) fn write_shares(&mut self, miner: usize, host: usize, link: LinkId, bytes: &[u8]) {
        let found = self.miners[miner].found();
        self.with_ring(host, |ring| ring.miner_submits(link, found));
        self.write(host, link, bytes);
    }

    fn mine_later(&mut self, index: usize, link: LinkId) {
        let micros = self.random.within(1, 2 * self.plan.share_us);
        self.after(micros, Event::Mine(index, link));
    }

    fn deliver(&mut self, host: usize, link: LinkId) {
        let bytes = self.with_ring(host, |ring| ring.arrive_down(link));
        let miner = self.hosts[host].ring.peek(link).map(|link| link.miner);
        let Some(miner) = miner.filter(|_| !bytes.is_empty()) else { return };
        if self.miners[miner].link != Some((host, link)) {
            return;
        }
        let bytes = self.tamper(miner, bytes);
        let notes = self.miners[miner].read(self.now, &bytes);
        for note in notes {
            if let Note::Mining = note {
                self.mine_later(miner, link);
            }
            self.note(miner, note);
        }
    }

    fn hang_up(&mut self, host: usize, link: LinkId) {
        let Some(end) = self.hosts[host].ring.peek(link) else { return };
        let miner = end.miner;
        let attached = self.miners[miner].link == Some((host, link));
        if attached && end.is_clogged && end.broken.is_none() {
            return self.after(SECOND / 5, Event::HangUp(host, link));
        }
        self.with_ring(host, |ring| ring.forget(link));
        if attached {
            self.lose(miner);
        }
    }

    /// A miner has lost its connection and will come back.
    pub(crate) fn lose(&mut self, miner: usize) {
        let lost = self.miners[miner].disconnected();
        self.checker.lost(&lost);
        let micros = self.random.within(SECOND / 20, 2 * SECOND);
        self.after(micros, Event::Connect(miner));
    }

    fn summary(&self) -> Summary {
        Summary {
            trace: self.checker.trace_hash(),
            events: self.events,
            credited: self.checker.credited(),
            refused: self.checker.refused,
            blocks: self.node.submitted.len(),
            connections: self.checker.connections,
            panics: self.checker.panics,
            power_back_us: self.checker.power_back_us,
        }
    }
}

fn host(index: u16, miners: usize, faults: &Faults, kernel: Kernel, random: &mut Random) -> Host {
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

fn job_settings() -> JobSettings {
    JobSettings {
        payout_script: vec![0x51],
        signature: b"/sim/".to_vec(),
        group_prefix: Vec::new(),
        extranonce1_size: EXTRANONCE1_SIZE,
        extranonce2_size: EXTRANONCE2_SIZE,
        version_mask: 0x1fff_e000,
        first_number: 1,
    }
}

fn draw_role(faults: &Faults, random: &mut Random) -> Role {
    if !random.happens(faults.hostile) {
        return Role::Honest;
    }
    const BAD: [Role; 5] =
        [Role::Duplicator, Role::Guesser, Role::Babbler, Role::Flooder, Role::Mute];
    BAD[random.below(BAD.len() as u64) as usize]
}

/// The kind of an event, for the trace.
fn tag(event: &Event) -> u64 {
    match event {
        Event::Turn(host) => 1 << 32 | *host as u64,
        Event::Up(_, link) => 2 << 32 | u64::from(*link),
        Event::Down(_, link) => 3 << 32 | u64::from(*link),
        Event::HangUp(_, link) | Event::TimedOut(_, link) => 4 << 32 | u64::from(*link),
        Event::Mine(miner, _) | Event::Connect(miner) => 5 << 32 | *miner as u64,
        _ => 6 << 32,
    }
}
