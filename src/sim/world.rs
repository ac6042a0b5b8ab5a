//! The world: shards on simulated rings, the coordinator, the node, the miners and the network
//! between them, stepped in the order of one virtual clock. Everything that happens follows from
//! the seed.

use std::cell::Cell;
use std::collections::BTreeMap;
use std::sync::Arc;

use farm::blocks::{RetryPolicy, SubmitBlock, SubmitResult};
use farm::{Coordinator, CoordinatorSettings, Input, NoWork};
use pow::Kernel;
use session::Tick;
use shard::Total;

use crate::checker::Checker;
use crate::crowd::draw_role;
use crate::desk::job_settings;
use crate::faults::{Faults, Sabotage};
use crate::host::{Host, host};
use crate::link::LinkId;
use crate::miner::Miner;
use crate::node::Node;
use crate::random::Random;

/// One virtual second.
pub const SECOND: u64 = 1_000_000;
pub(crate) const EXTRANONCE2_SIZE: u8 = 4;
/// The nodes that blocks go to: one that gives work, and a backup beside it.
const NODES: usize = 2;

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
    /// When the node is down, if ever, and what its farm does about it.
    pub outage: Option<Outage>,
    /// Per mille of honest miners that name their session when they come back.
    pub resumes: u64,
    /// How long a miner stays away that has lost its link, in virtual µs; 0 draws it each time.
    pub away_us: u64,
    /// A lie, for a run that must fail.
    pub sabotage: Option<Sabotage>,
}

/// A time without a node.
#[derive(Clone, Copy, Debug)]
pub struct Outage {
    /// When it begins, in virtual µs.
    pub at: u64,
    /// How long it lasts, in virtual µs; it must end before the storm does.
    pub for_us: u64,
    /// What becomes of the miners.
    pub no_work: NoWork,
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
            outage: None,
            resumes: 700,
            away_us: 0,
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
    /// Miners that had their session again on a new connection.
    pub resumed: u64,
    /// Shares that were sent again on such a connection and counted, once, now or before.
    pub saved: u64,
    /// Shares that were sent again and did not count.
    pub spoilt: u64,
    /// Guarded calls that panicked.
    pub panics: u64,
    /// Shards that died and began anew.
    pub deaths: u64,
    /// Miners that were cut off because replies were queued for them without end.
    pub floods_cut: u64,
    /// From the power cut to the moment at which the last miner mined again, in virtual µs; 0
    /// without a power cut.
    pub power_back_us: u64,
    /// Connections that were closed because there was no work.
    pub released: u64,
    /// The most of them within a second.
    pub released_per_second: u64,
    /// From the first template after an outage to the first miner that had its job, in virtual µs.
    pub work_back_us: Option<u64>,
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
    /// This flood must be cut off by now.
    FloodDue(usize, LinkId),
    Connect(usize),
    NodeAnswers(u64, u8, SubmitResult),
    Reset,
    Vanish,
    Clog,
    Unclog(usize, LinkId),
    StopReader,
    StartReader(usize, LinkId),
    Stall,
    Death,
    ClockJump,
    PowerCut,
    NodeDown,
    NodeUp,
    /// Whoever was being released is gone by now.
    ReleaseOver,
    Heal,
    LastTip,
    StopMining,
    Verify,
    Drain,
    End,
}

/// One simulated world.
pub struct World {
    pub(crate) plan: Plan,
    pub(crate) now: u64,
    pub(crate) faults: Faults,
    pub(crate) random: Random,
    pub(crate) hosts: Vec<Host>,
    pub(crate) miners: Vec<Miner>,
    /// The connections of all shards.
    pub(crate) total: Arc<Total>,
    pub(crate) node: Node,
    pub(crate) coordinator: Coordinator,
    pub(crate) checker: Checker,
    pub(crate) healed: bool,
    pub(crate) kernel: Kernel,
    pub(crate) all_drained: bool,
    /// The node gives no templates and answers nothing.
    pub(crate) node_is_down: bool,
    /// Blocks that are on their way to it meanwhile.
    pub(crate) blocks_waiting: Vec<SubmitBlock>,
    pub(crate) mining: bool,
    events: u64,
    queue: BTreeMap<(u64, u64), Event>,
    sequence: u64,
    pub(crate) next_link: LinkId,
    /// When a message is offered again that found its lane full.
    pub(crate) retry_at: Option<u64>,
    pub(crate) guard_random: Cell<u64>,
    /// The backup's own, so that the world beside it is the same with and without it.
    pub(crate) backup_random: Random,
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
        let (seed, mut random) = (plan.seed, Random::new(plan.seed));
        let faults = plan.faults.clone().unwrap_or_else(|| Faults::draw(&mut random));
        let drawn = [random.within(8, 40) as usize, random.within(1, 4) as usize];
        let miners = if plan.miners == 0 { drawn[0] } else { plan.miners };
        let shards = if plan.shards == 0 { drawn[1] } else { plan.shards };
        let total = Arc::new(Total::default());
        let hosts =
            (0..shards).map(|index| host(index as u16, miners, &faults, kernel, &mut random));
        let hosts = hosts.collect();
        let miners = (0..miners).map(|index| {
            let role = draw_role(&faults, &mut random);
            Miner::new(index, role, plan.resumes, random.fork())
        });
        let miners = miners.collect();
        let settings = CoordinatorSettings {
            jobs: job_settings(),
            nodes: NODES,
            retry: RetryPolicy::default(),
            template_silence_micros: 120 * SECOND,
            no_work: plan.outage.map_or(NoWork::Release, |outage| outage.no_work),
        };
        let coordinator =
            Coordinator::new(settings, kernel, Tick(0)).expect("four bytes are a width");
        World {
            plan,
            now: 0,
            faults,
            hosts,
            miners,
            total,
            node: Node::new(kernel, random.fork()),
            coordinator,
            checker: Checker::default(),
            healed: false,
            kernel,
            all_drained: false,
            node_is_down: false,
            blocks_waiting: Vec::new(),
            mining: true,
            events: 0,
            queue: BTreeMap::new(),
            sequence: 0,
            next_link: 0,
            retry_at: None,
            guard_random: Cell::new(random.bits()),
            backup_random: Random::new(!seed),
            random,
            ended: false,
        }
    }

    fn begin(&mut self) {
        self.sabotage();
        (0..self.hosts.len()).for_each(|index| self.begin_life(index));
        self.at(10, Event::Tip);
        self.at(SECOND, Event::Second);
        let spread = if self.plan.power_cut_at.is_some() { 2 * SECOND } else { SECOND };
        for miner in 0..self.miners.len() {
            let at = self.random.within(100, spread);
            self.at(at, Event::Connect(miner));
        }
        self.begin_weather();
        if let Some(outage) = self.plan.outage {
            self.at(outage.at, Event::NodeDown);
            self.at(outage.at + outage.for_us, Event::NodeUp);
        }
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
            Event::FloodDue(host, link) => self.check_flood(host, link),
            Event::Connect(miner) => self.connect(miner),
            Event::NodeAnswers(id, node, result) => {
                let first_byte = Some(Tick(self.now));
                self.tell_coordinator(Input::Submitted { id, node, result, first_byte });
            }
            Event::NodeDown => self.lose_node(),
            Event::NodeUp => self.regain_node(),
            Event::ReleaseOver => {
                self.hosts.iter_mut().for_each(|host| host.ring.is_releasing = false);
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

    fn summary(&self) -> Summary {
        Summary {
            trace: self.checker.trace_hash(),
            events: self.events,
            credited: self.checker.credited(),
            refused: self.checker.refused,
            blocks: self.node.submitted.len(),
            connections: self.checker.connections,
            resumed: self.checker.resumed,
            saved: self.checker.saved,
            spoilt: self.checker.spoilt,
            panics: self.checker.panics,
            deaths: self.checker.deaths,
            floods_cut: self.checker.floods_cut,
            power_back_us: self.checker.power_back_us,
            released: self.checker.released,
            released_per_second: self.checker.released_per_second,
            work_back_us: self.checker.work_back_us,
        }
    }
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
