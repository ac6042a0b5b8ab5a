//! Tests of `coordinator`: shards whose lanes fill up, die and come back, and the farm around them.

use std::collections::{BTreeMap, BTreeSet};

use proptest::prelude::*;

use pow::{Extranonce, Share};
use session::ShareOutcome;

use super::*;
use crate::blocks::{FoundBlock, Outcome};
use crate::jobs::OUTBOX_MESSAGES_MAX;
use crate::ledger::{ShardWorkers, new_report};
use crate::outage::NO_WORK_MICROS;
use crate::templates_for_tests::{settings, template, transactions};

const SHARD: ShardIndex = ShardIndex(0);

fn coordinator(extranonce1_size: u8) -> Coordinator {
    let settings = CoordinatorSettings {
        jobs: JobSettings { extranonce1_size, ..settings() },
        nodes: 1,
        retry: RetryPolicy::default(),
        template_silence_micros: TEMPLATE_SILENCE_MICROS,
        no_work: NoWork::Release,
    };
    Coordinator::new(settings, Kernel::detect(), Tick(0)).expect("a possible size")
}

fn outputs(coordinator: &mut Coordinator, now: u64, input: Input) -> Vec<Output> {
    coordinator.handle(Tick(now), input);
    core::iter::from_fn(|| coordinator.poll()).collect()
}

fn new_work(prev: u8) -> Input {
    Input::Template(Arc::new(template(100, prev, &transactions(2))))
}

fn jobs_of(outputs: &[Output]) -> Vec<(u16, u32, u32)> {
    let jobs = |output: &Output| match output {
        Output::ToShard(shard, ToShard::Job(job)) => vec![(shard.0, job.number, job.tip)],
        Output::ToShard(shard, ToShard::Jobs(jobs)) => {
            jobs.iter().map(|job| (shard.0, job.number, job.tip)).collect()
        }
        _ => Vec::new(),
    };
    outputs.iter().flat_map(jobs).collect()
}

#[test]
fn every_shard_gets_every_job_and_a_late_one_gets_what_can_be_credited() {
    let mut farm = coordinator(4);
    outputs(&mut farm, 0, Input::ShardStarted(SHARD));
    outputs(&mut farm, 0, Input::ShardStarted(ShardIndex(1)));
    assert_eq!(farm.status().work, WorkState::None);
    let sent = outputs(&mut farm, 1, new_work(1));
    assert_eq!(jobs_of(&sent), [(0, 1, 1), (1, 1, 1)]);
    assert!(matches!(sent.last(), Some(Output::StatusChanged)));
    let sent = outputs(&mut farm, 2, new_work(2));
    assert_eq!(jobs_of(&sent), [(0, 2, 2), (1, 2, 2)]);
    let sent = outputs(&mut farm, 3, Input::ShardStarted(ShardIndex(2)));
    assert_eq!(jobs_of(&sent), [(2, 1, 1), (2, 2, 2)]);
    let job = farm.status().job.expect("there is a job");
    assert_eq!((job.number, job.tip, job.height, job.transactions), (2, 2, 100, 2));
    assert_eq!(job.tip_since, Tick(2));
}

#[test]
fn the_status_says_how_old_the_work_is_and_when_the_source_is_silent() {
    let mut farm = coordinator(4);
    outputs(&mut farm, 0, Input::Timer);
    assert_eq!((farm.status().work, farm.status().template_age_micros), (WorkState::None, None));
    outputs(&mut farm, 1_000, new_work(1));
    outputs(&mut farm, 31_000, new_work(1));
    outputs(&mut farm, 41_000, Input::Timer);
    let status = farm.status();
    assert_eq!(status.work, WorkState::Current);
    assert_eq!((status.template_age_micros, status.tip_age_micros()), (Some(10_000), Some(40_000)));
    outputs(&mut farm, 31_001 + TEMPLATE_SILENCE_MICROS, Input::Timer);
    assert_eq!(farm.status().work, WorkState::Silent);
    // A template of which no job can be made is a sign of life, and is named.
    let bad = Template { bits: 0, ..template(100, 2, &[]) };
    outputs(&mut farm, 31_002 + TEMPLATE_SILENCE_MICROS, Input::Template(Arc::new(bad)));
    let status = farm.status();
    assert_eq!((status.job_error, status.jobs_refused), (Some(JobError::Bits(0)), 1));
    assert_eq!(status.job.expect("the last good one").number, 2);
}

#[test]
fn a_lane_that_was_full_gets_the_newest_job_and_no_older_one() {
    let mut farm = coordinator(4);
    outputs(&mut farm, 0, Input::ShardStarted(SHARD));
    farm.handle(Tick(1), new_work(1));
    let Some(Output::ToShard(shard, job)) = farm.poll() else { panic!("a job") };
    farm.unsent(shard, job);
    assert!(jobs_of(&core::iter::from_fn(|| farm.poll()).collect::<Vec<_>>()).is_empty());
    let sent = outputs(&mut farm, 2, new_work(2));
    assert_eq!(jobs_of(&sent), [(0, 2, 2)]);
    assert_eq!(farm.status().shards[0].jobs_replaced, 1);
}

#[test]
fn a_shard_that_begins_anew_hears_of_former_jobs_before_any_newer_one() {
    let mut farm = coordinator(4);
    let numbers = |sent: &[Output]| jobs_of(sent).iter().map(|job| job.1).collect::<Vec<u32>>();
    (0..70).for_each(|_| drop(outputs(&mut farm, 1, new_work(1))));
    farm.handle(Tick(2), Input::ShardStarted(SHARD));
    let Some(Output::ToShard(shard, jobs)) = farm.poll() else { panic!("jobs") };
    // Its lane was still full of what its former life was told.
    farm.unsent(shard, jobs);
    let sent = outputs(&mut farm, 3, new_work(2));
    let newest_64_and_the_new_one: Vec<u32> = (7..=71).collect();
    assert_eq!(numbers(&sent), newest_64_and_the_new_one);
}

#[test]
fn a_found_block_goes_to_the_node_before_anything_else() {
    let mut farm = coordinator(4);
    outputs(&mut farm, 0, Input::ShardStarted(SHARD));
    let sent = outputs(&mut farm, 1, new_work(1));
    let Some(Output::ToShard(_, ToShard::Job(job))) = sent.into_iter().next() else { panic!() };
    let kernel = Kernel::detect();
    let share = Share {
        extranonce: Extranonce::new(&[1; 8]).expect("eight bytes"),
        version: job.version,
        ntime: job.curtime,
        nonce: 5,
    };
    let found = FoundBlock {
        job_number: job.number,
        tip: job.tip,
        header: job.work.header(kernel, &share).to_bytes(),
        extranonce: share.extranonce,
        hash: kernel.hash_share(&job.work, &share),
        worker: Arc::from("rig"),
        found: Tick(2),
    };
    // A job waits in front of the lane; the block does not wait behind it.
    farm.handle(Tick(2), new_work(2));
    farm.handle(Tick(2), Input::FromShard(SHARD, FromShard::Block(Box::new(found))));
    let Some(Output::SubmitBlock(block)) = farm.poll() else { panic!("the block") };
    assert_eq!(&block.bytes[..80], job.work.header(kernel, &share).to_bytes());
    let (id, node, first_byte) = (block.id, block.node, Some(Tick(3)));
    let answer = Input::Submitted { id, node, result: SubmitResult::Stale, first_byte };
    let sent = outputs(&mut farm, 3, answer);
    let settled = |output: &Output| matches!(output, Output::BlockSettled(_));
    assert!(sent.iter().any(settled), "its record in the journal is over");
    let status = farm.status();
    assert_eq!((status.block_counts.found, status.block_counts.stale), (1, 1));
    assert_eq!(status.blocks[0].outcome, Outcome::Stale);
    assert!(status.blocks[0].late);
}

#[test]
fn reports_are_booked_and_their_memory_goes_back() {
    let mut farm = coordinator(4);
    outputs(&mut farm, 0, Input::ShardStarted(SHARD));
    let mut workers = ShardWorkers::new(1);
    let rig = workers.intern("rig");
    workers.connected(rig);
    workers.count(rig, ShareOutcome::Accepted, 16.0, 20.0, Tick(5));
    let mut report = new_report();
    let room = report.rows.capacity();
    workers.report(&mut report);
    let mut sent = outputs(&mut farm, 6, Input::FromShard(SHARD, FromShard::Report(report)));
    let Output::ToShard(SHARD, ToShard::Recycled(mut report)) = sent.remove(0) else { panic!() };
    assert_eq!((report.rows.len(), report.rows.capacity()), (0, room));
    let status = farm.status();
    assert_eq!((status.workers, status.connections, status.totals.accepted), (1, 1, 1));
    assert_eq!(farm.workers(0).0[0].best_difficulty, 20.0);
    // The shard dies; its last report was still in the lane.
    workers.count(rig, ShareOutcome::Accepted, 16.0, 20.0, Tick(7));
    workers.report(&mut report);
    outputs(&mut farm, 8, Input::ShardDied(SHARD));
    outputs(&mut farm, 8, Input::FromShard(SHARD, FromShard::Report(report)));
    let status = farm.status();
    assert_eq!((status.connections, status.totals.accepted), (0, 2));
}

#[test]
fn a_question_for_the_miners_is_answered_once_by_every_shard() {
    let mut farm = coordinator(4);
    let empty = outputs(&mut farm, 0, Input::ListMiners { query: 1 });
    assert!(matches!(empty[0], Output::Miners { query: 1, shard: None, done: true, .. }));
    (0..3).for_each(|shard| drop(outputs(&mut farm, 0, Input::ShardStarted(ShardIndex(shard)))));
    let asked = outputs(&mut farm, 1, Input::ListMiners { query: 2 });
    let is_question =
        |output: &&Output| matches!(output, Output::ToShard(_, ToShard::ListMiners { query: 2 }));
    assert_eq!(asked.iter().filter(is_question).count(), 3);
    let mut answer = |shard: u16, done: bool| {
        let message = FromShard::Miners { query: 2, rows: Vec::new(), done };
        let sent = outputs(&mut farm, 2, Input::FromShard(ShardIndex(shard), message));
        sent.iter().any(|output| matches!(output, Output::Miners { query: 2, done: true, .. }))
    };
    assert!(!answer(0, false));
    assert!(!answer(0, true));
    assert!(!answer(1, true));
    // The last one dies instead of answering.
    let sent = outputs(&mut farm, 3, Input::ShardDied(ShardIndex(2)));
    assert!(matches!(sent[0], Output::Miners { query: 2, shard: None, done: true, .. }));
    for query in 10..10 + MINER_QUERIES_MAX as u64 {
        outputs(&mut farm, 4, Input::ListMiners { query });
    }
    let refused = outputs(&mut farm, 4, Input::ListMiners { query: 99 });
    assert!(matches!(refused[0], Output::MinersBusy { query: 99 }));
}

#[test]
fn draining_ends_when_the_last_shard_has_ended() {
    let mut farm = coordinator(1);
    (0..3).for_each(|shard| drop(outputs(&mut farm, 0, Input::ShardStarted(ShardIndex(shard)))));
    let want = FromShard::WantLease { prefixes: 3 };
    outputs(&mut farm, 0, Input::FromShard(SHARD, want));
    assert_eq!(farm.status().space.leased, 3);
    let sent = outputs(&mut farm, 1, Input::Drain);
    let drains = |output: &&Output| matches!(output, Output::ToShard(_, ToShard::Drain));
    assert_eq!(sent.iter().filter(drains).count(), 3);
    let mut ended = |input: Input| {
        let sent = outputs(&mut farm, 2, input);
        sent.iter().any(|output| matches!(output, Output::Drained))
    };
    assert!(!ended(Input::FromShard(SHARD, FromShard::Drained)));
    assert!(!ended(Input::ShardDied(ShardIndex(1))));
    assert!(ended(Input::FromShard(ShardIndex(2), FromShard::Drained)));
    assert!(!ended(Input::ShardDied(ShardIndex(2))), "said once");
    let status = farm.status();
    assert_eq!((status.draining, status.space.leased, status.space.resting), (true, 0, 3));
}

#[test]
fn a_farm_without_shards_is_drained_at_once() {
    let sent = outputs(&mut coordinator(4), 0, Input::Drain);
    assert!(sent.iter().any(|output| matches!(output, Output::Drained)));
}

#[derive(Clone, Debug)]
enum Op {
    Template {
        new_tip: bool,
        full: bool,
    },
    Start(u16),
    Die(u16),
    Want(u16),
    Return(u16),
    /// From here on, until it opens, this shard's lane takes nothing.
    Lane {
        shard: u16,
        open: bool,
    },
    Pass(u64),
}

fn op() -> impl Strategy<Value = Op> {
    let shard = 0..3u16;
    prop_oneof![
        4 => (any::<bool>(), any::<bool>())
            .prop_map(|(new_tip, full)| Op::Template { new_tip, full }),
        2 => shard.clone().prop_map(Op::Start),
        1 => shard.clone().prop_map(Op::Die),
        6 => shard.clone().prop_map(Op::Want),
        2 => shard.clone().prop_map(Op::Return),
        3 => (shard, any::<bool>()).prop_map(|(shard, open)| Op::Lane { shard, open }),
        2 => (0..15_000_000u64).prop_map(Op::Pass),
    ]
}

/// The shards as the other end of the lanes.
struct World {
    farm: Coordinator,
    now: u64,
    prev: u8,
    newest: u32,
    /// Per running shard: the newest job it has, and the ranges that it holds.
    shards: BTreeMap<ShardIndex, (u32, Vec<PrefixRange>)>,
    closed: BTreeSet<ShardIndex>,
    /// The shards that let their miners go.
    released: BTreeSet<ShardIndex>,
}

impl World {
    fn apply(&mut self, op: &Op) {
        match *op {
            Op::Template { new_tip, full } => {
                self.prev = self.prev.wrapping_add(u8::from(new_tip));
                let transactions = transactions(usize::from(full));
                self.newest += 1;
                self.drive(Input::Template(Arc::new(template(9, self.prev, &transactions))));
            }
            Op::Start(shard) => {
                self.released.remove(&ShardIndex(shard));
                self.shards.insert(ShardIndex(shard), (0, Vec::new()));
                self.drive(Input::ShardStarted(ShardIndex(shard)));
            }
            Op::Die(shard) => {
                self.shards.remove(&ShardIndex(shard));
                self.drive(Input::ShardDied(ShardIndex(shard)));
            }
            Op::Want(shard) => {
                let message = FromShard::WantLease { prefixes: 1_024 };
                self.drive(Input::FromShard(ShardIndex(shard), message));
            }
            Op::Return(shard) => {
                let held = self.shards.get_mut(&ShardIndex(shard));
                let ranges = held.map(|(_, ranges)| core::mem::take(ranges)).unwrap_or_default();
                self.drive(Input::FromShard(ShardIndex(shard), FromShard::Returned(ranges)));
            }
            Op::Lane { shard, open: true } => {
                self.closed.remove(&ShardIndex(shard));
                self.drive(Input::Timer);
            }
            Op::Lane { shard, open: false } => {
                self.closed.insert(ShardIndex(shard));
            }
            Op::Pass(micros) => {
                self.now += micros;
                self.drive(Input::Timer);
            }
        }
    }

    fn drive(&mut self, input: Input) {
        self.farm.handle(Tick(self.now), input);
        while let Some(output) = self.farm.poll() {
            let Output::ToShard(shard, message) = output else { continue };
            if self.closed.contains(&shard) {
                self.farm.unsent(shard, message);
                continue;
            }
            self.receive(shard, message);
        }
        self.check();
    }

    fn receive(&mut self, shard: ShardIndex, message: ToShard) {
        match message {
            ToShard::Jobs(jobs) => {
                jobs.into_iter().for_each(|job| self.receive(shard, ToShard::Job(job)));
            }
            ToShard::Job(job) => {
                let (newest, _) = self.shards.get_mut(&shard).expect("only to running shards");
                assert!(job.number > *newest, "no job twice, none out of order");
                *newest = job.number;
            }
            ToShard::Lease(lease) => {
                for range in &lease.ranges {
                    let apart = |other: &PrefixRange| {
                        range.start() + range.count() <= other.start()
                            || other.start() + other.count() <= range.start()
                    };
                    let held = self.shards.values().flat_map(|(_, ranges)| ranges);
                    assert!(held.into_iter().all(apart), "leases are disjoint");
                    let (_, ranges) = self.shards.get_mut(&shard).expect("a running shard");
                    ranges.push(*range);
                }
            }
            ToShard::LeaseRefused(full) => assert_eq!(full.leased + full.resting, full.capacity),
            ToShard::Release { .. } => {
                let never = self.newest == 0 && self.now >= NO_WORK_MICROS;
                assert!(never, "only a farm that never had work waits for it");
                self.released.insert(shard);
            }
            ToShard::Serve => drop(self.released.remove(&shard)),
            other => panic!("{other:?} was not asked for"),
        }
    }

    fn check(&self) {
        let space = self.farm.status().space;
        assert_eq!(space.free + space.leased + space.resting, space.capacity);
        assert_eq!(space.faults, 0);
        for (shard, (newest, ranges)) in &self.shards {
            let held: u64 = ranges.iter().map(|range| u64::from(range.count())).sum();
            // What is leased and not here waits in front of a closed lane.
            assert!(held <= self.farm.space.leased_to(*shard));
            if !self.closed.contains(shard) {
                assert_eq!(*newest, self.newest, "an open lane has the newest job at once");
                let serves = self.newest == 0 || !self.released.contains(shard);
                assert!(serves, "with work, a shard serves");
            }
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 128, ..ProptestConfig::default() })]

    #[test]
    fn leases_stay_disjoint_and_jobs_arrive(ops in prop::collection::vec(op(), 1..150)) {
        let mut world = World {
            farm: coordinator(1),
            now: 0,
            prev: 0,
            newest: 0,
            shards: BTreeMap::new(),
            closed: BTreeSet::new(),
            released: BTreeSet::new(),
        };
        ops.iter().for_each(|op| world.apply(op));
        world.closed.clear();
        world.drive(Input::Timer);
        (0..3).for_each(|shard| world.apply(&Op::Die(shard)));
        world.apply(&Op::Template { new_tip: true, full: true });
        world.apply(&Op::Pass(crate::extranonce::REST_MICROS_MIN));
        prop_assert_eq!(world.farm.status().space.free, 255, "nothing leaks");
    }
}

/// What each shard was told about work, by shard: the pace of a release, or 0 to serve.
fn postures(outputs: &[Output]) -> Vec<(u16, u32)> {
    let told = |output: &Output| match output {
        Output::ToShard(shard, ToShard::Release { per_second }) => Some((shard.0, *per_second)),
        Output::ToShard(shard, ToShard::Serve) => Some((shard.0, 0)),
        _ => None,
    };
    let mut told: Vec<_> = outputs.iter().filter_map(told).collect();
    told.sort_unstable_by_key(|(shard, _)| *shard);
    told
}

#[test]
fn without_work_for_a_minute_every_shard_releases_its_part_until_there_is_work() {
    let mut farm = coordinator(4);
    for shard in 0..3 {
        outputs(&mut farm, 0, Input::ShardStarted(ShardIndex(shard)));
    }
    outputs(&mut farm, 1, new_work(1));
    outputs(&mut farm, 100, Input::Work(WorkHealth::Down));
    let due = 100 + NO_WORK_MICROS;
    assert_eq!(farm.deadline(), Some(Tick(due)));
    assert_eq!(postures(&outputs(&mut farm, due - 1, Input::Timer)), []);
    let said = outputs(&mut farm, due, Input::Timer);
    assert_eq!(postures(&said), [(0, 333), (1, 333), (2, 333)], "1,000 a second at most");
    assert!(said.iter().any(|output| matches!(output, Output::Released)));
    assert_eq!(farm.deadline(), None, "nothing is wanted before there is work");
    assert!(farm.status().outage.expect("there is no work").is_released);
    // A shard that begins anew meanwhile takes nobody either.
    let said = outputs(&mut farm, due + 1, Input::ShardStarted(ShardIndex(1)));
    assert_eq!(postures(&said), [(1, 333)]);
    let said = outputs(&mut farm, due + 2, new_work(2));
    assert_eq!((jobs_of(&said).len(), postures(&said)), (3, Vec::new()), "not before it is up");
    let said = outputs(&mut farm, due + 3, Input::Work(WorkHealth::Up));
    assert_eq!(postures(&said), [(0, 0), (1, 0), (2, 0)]);
    assert!(said.iter().any(|output| matches!(output, Output::Serving)));
    assert_eq!(farm.status().outage, None);
}

#[test]
fn a_stuck_lane_learns_only_the_last_word_about_work() {
    let mut farm = coordinator(4);
    outputs(&mut farm, 0, Input::ShardStarted(SHARD));
    outputs(&mut farm, 1, new_work(1));
    let mut now = 2;
    let mut held = None;
    for _ in 0..2 * OUTBOX_MESSAGES_MAX as u64 {
        outputs(&mut farm, now, Input::Work(WorkHealth::Down));
        now += NO_WORK_MICROS;
        farm.handle(Tick(now), Input::Timer);
        // Its lane takes nothing.
        while let Some(output) = farm.poll() {
            if let Output::ToShard(shard, message) = output {
                farm.unsent(shard, message);
            }
        }
        farm.handle(Tick(now), Input::Work(WorkHealth::Up));
        while let Some(output) = farm.poll() {
            if let Output::ToShard(shard, message) = output {
                held = Some(format!("{message:?}"));
                farm.unsent(shard, message);
            }
        }
        assert!(farm.status().shards[0].messages_waiting <= 2);
    }
    assert!(held.is_some());
    let told = postures(&outputs(&mut farm, now + 1, Input::Timer));
    assert_eq!(told.last(), Some(&(0, 0)), "{told:?}");
}

fn remembered(worker: &str, difficulty: f64) -> Remembered {
    let difficulty = pow::Difficulty::new(difficulty).expect("positive");
    let settled = session::Settled { difficulty, class: session::Class::Unknown };
    Remembered { worker: worker.into(), settled }
}

/// What each shard is told of where workers have settled.
fn memories(outputs: &[Output]) -> Vec<(u16, Vec<Remembered>)> {
    let told = |output: &Output| match output {
        Output::ToShard(shard, ToShard::Remember(told)) => Some((shard.0, told.clone())),
        _ => None,
    };
    let mut told: Vec<_> = outputs.iter().filter_map(told).collect();
    told.sort_by_key(|(shard, _)| *shard);
    told
}

#[test]
fn every_shard_hears_where_workers_have_settled() {
    let mut farm = coordinator(4);
    let start = |farm: &mut Coordinator, shard| {
        memories(&outputs(farm, 0, Input::ShardStarted(ShardIndex(shard))))
    };
    farm.remember([remembered("old", 64.0)]);
    assert_eq!(start(&mut farm, 0), [], "it was made with that");
    assert_eq!(start(&mut farm, 1), []);
    let mut workers = ShardWorkers::new(1);
    let rig = workers.intern("rig");
    workers.connected(rig);
    let news = remembered("rig", 512.0);
    workers.settled(rig, news.settled);
    let mut report = new_report();
    workers.report(&mut report);
    let told = outputs(&mut farm, 1, Input::FromShard(SHARD, FromShard::Report(report)));
    let all = vec![news.clone()];
    assert_eq!(memories(&told), [(0, all.clone()), (1, all.clone())]);
    assert_eq!(memories(&outputs(&mut farm, 2, Input::Timer)), [], "once");
    assert_eq!(start(&mut farm, 2), [(2, all.clone())], "and what begins later");
    assert_eq!(start(&mut farm, 1), [(1, all)], "or anew");
}

#[test]
fn a_stuck_lane_learns_all_that_was_settled_meanwhile_behind_the_jobs() {
    let mut farm = coordinator(4);
    outputs(&mut farm, 0, Input::ShardStarted(SHARD));
    farm.memory.learn(remembered("first", 1.0));
    farm.handle(Tick(1), Input::Timer);
    let Some(Output::ToShard(shard, message)) = farm.poll() else { panic!("the news") };
    farm.unsent(shard, message);
    for number in 0..3_000 {
        farm.memory.learn(remembered(&number.to_string(), 1.0));
    }
    assert_eq!(memories(&outputs(&mut farm, 1, new_work(1))).len(), 13, "1 + 12 × 256");
    assert!(farm.status().shards[0].messages_waiting == 0);
}
