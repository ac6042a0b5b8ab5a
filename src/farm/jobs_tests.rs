//! Tests of `jobs`: what a job says, what a rendering's bytes say, and what a lane gets first.

use std::collections::BTreeMap;

use proptest::prelude::*;

use pow::{Extranonce, Share};
use session::Rendering;
use wire::sv1::{ServerMessage, parse_server};

use super::*;
use crate::ledger::new_report;
use crate::templates_for_tests::{MASK, settings, template, transactions};

fn maker() -> JobMaker {
    JobMaker::new(settings(), Kernel::detect())
}

#[test]
fn numbers_rise_and_a_tip_is_a_new_previous_hash() {
    let mut maker =
        JobMaker::new(JobSettings { first_number: 700, ..settings() }, Kernel::detect());
    let mut made = Vec::new();
    // The same tip three times, the next, and back again (a reorganisation): each way is a new tip.
    for (height, prev) in [(9, 1), (9, 1), (9, 1), (10, 2), (9, 1), (9, 3)] {
        let job = maker.make(&template(height, prev, &[]), Tick(made.len() as u64)).expect("a job");
        made.push((job.number, job.tip, job.height));
    }
    let wanted = [(700, 1, 9), (701, 1, 9), (702, 1, 9), (703, 2, 10), (704, 3, 9), (705, 4, 9)];
    assert_eq!(made, wanted);
}

#[test]
fn a_job_carries_the_template_without_the_bits_that_miners_roll() {
    let template = template(300, 1, &transactions(5));
    let job = maker().make(&template, Tick(77)).expect("a job");
    assert_eq!(job.version, template.version & !MASK);
    assert_eq!(job.version_mask, MASK);
    assert_eq!((job.received, job.curtime), (Tick(77), template.curtime));
    assert_eq!(job.work.extranonce_size(), 8);
    assert_eq!(job.work.path(), template.merkle_path);
    assert_eq!(Some(job.network_target), Target::from_compact(template.bits));
    assert!(!job.replaces_coinbase_only);
}

#[test]
fn min_ntime_is_one_value_per_tip_and_never_below_the_sources() {
    let mut maker = maker();
    let mut min_ntime_of = |prev: u8, min_ntime: u32| {
        let template = Template { min_ntime, ..template(5, prev, &[]) };
        maker.make(&template, Tick(0)).expect("a job").min_ntime
    };
    assert_eq!(min_ntime_of(1, 1_000), 1_000);
    assert_eq!(min_ntime_of(1, 900), 1_000);
    assert_eq!(min_ntime_of(1, 1_100), 1_100);
    assert_eq!(min_ntime_of(2, 500), 500);
}

#[test]
fn only_a_full_job_after_an_empty_one_on_the_same_tip_replaces_it() {
    let full = transactions(2);
    let mut maker = maker();
    let mut replaces = |prev: u8, full_block: bool| {
        let transactions = if full_block { full.as_slice() } else { &[] };
        let job = maker.make(&template(5, prev, transactions), Tick(0)).expect("a job");
        job.replaces_coinbase_only
    };
    assert!(!replaces(1, false));
    assert!(!replaces(1, false), "empty after empty");
    assert!(replaces(1, true));
    assert!(!replaces(1, true), "full after full");
    assert!(!replaces(2, false));
    assert!(!replaces(3, true), "a new tip is clean by itself");
}

#[test]
fn a_tip_that_comes_back_makes_other_headers() {
    let mut maker = JobMaker::new(settings(), Kernel::detect());
    let [a, b] = [template(100, 1, &[]), template(100, 2, &[])];
    let jobs = [&a, &b, &a].map(|template| maker.make(template, Tick(1)).expect("a job"));
    assert_eq!(jobs[0].work.prev_hash(), jobs[2].work.prev_hash());
    assert_ne!(
        jobs[0].coinbase_first, jobs[2].coinbase_first,
        "a share of one is none of the other"
    );
    assert_ne!(jobs[0].content, jobs[2].content);
}

#[test]
fn content_is_equal_only_when_every_header_is() {
    let base = template(300, 1, &transactions(3));
    let content = |template: &Template, settings: JobSettings| {
        let mut maker = JobMaker::new(settings, Kernel::detect());
        maker.make(template, Tick(9)).expect("a job").content
    };
    let same = content(&base, settings());
    let later = Template { curtime: base.curtime + 30, ..base.clone() };
    assert_eq!(content(&later, settings()), same, "miners roll the time themselves");
    let rolled = Template { version: base.version ^ 0x2000, ..base.clone() };
    assert_eq!(content(&rolled, settings()), same, "and the bits of the mask");
    let others = [
        Template { version: base.version ^ 1, ..base.clone() },
        Template { bits: 0x1d00_ffff, ..base.clone() },
        Template { coinbase_value: 1, ..base.clone() },
        Template { height: 301, ..base.clone() },
        template(300, 2, &transactions(3)),
        template(300, 1, &transactions(4)),
    ];
    for other in &others {
        assert_ne!(content(other, settings()), same);
    }
    let signature = b"/farm-8/".to_vec();
    assert_ne!(content(&base, JobSettings { signature, ..settings() }), same);
}

#[test]
fn a_template_that_makes_no_job_changes_nothing() {
    let mut maker = maker();
    let good = template(5, 1, &[]);
    let bad = |prev_hash| Template { prev_hash, ..good.clone() };
    let other = Hash256([9; 32]);
    assert_eq!(
        maker.make(&Template { bits: 0x2100_ffff << 1, ..bad(other) }, Tick(0)).err(),
        Some(JobError::Bits(0x2100_ffff << 1))
    );
    let late = Template { min_ntime: good.curtime + 1, ..bad(other) };
    let error = maker.make(&late, Tick(0)).expect_err("too late");
    assert!(matches!(error, JobError::Time { .. }), "{error}");
    let long = Template { coinbase_aux: vec![0; 90], ..bad(other) };
    let error = maker.make(&long, Tick(0)).expect_err("too long");
    assert!(matches!(error, JobError::Coinbase(CoinbaseError::ScriptTooLong { .. })), "{error}");
    let deep = Template { merkle_path: vec![other; 40], ..bad(other) };
    let error = maker.make(&deep, Tick(0)).expect_err("too deep");
    assert!(matches!(error, JobError::Work(WorkError::PathTooDeep { depth: 40 })), "{error}");
    let job = maker.make(&good, Tick(0)).expect("a job");
    assert_eq!((job.number, job.tip), (1, 1));
}

#[test]
fn job_numbers_end_and_do_not_wrap() {
    let last = JobSettings { first_number: u32::MAX - 1, ..settings() };
    let mut maker = JobMaker::new(last, Kernel::detect());
    assert!(maker.make(&template(5, 1, &[]), Tick(0)).is_ok());
    let error = maker.make(&template(5, 1, &[]), Tick(0)).err();
    assert_eq!(error, Some(JobError::NumbersUsedUp));
}

#[test]
fn what_a_miner_builds_from_the_line_is_the_job() {
    let job = maker().make(&template(300, 1, &transactions(7)), Tick(0)).expect("a job");
    let line = Renderings::new().get(&job, 1_700_000_123, true);
    let mut text = line.to_vec();
    assert_eq!(text.pop(), Some(b'\n'));
    let ServerMessage::Notify(notify) = parse_server(&text).expect("a line of ours") else {
        panic!("no notify")
    };
    let id = RenderId { number: job.number, second: 1_700_000_123 };
    assert_eq!(RenderId::parse(&notify.job_id), Some(id));
    assert_eq!((notify.ntime, notify.clean), (1_700_000_123, true));
    let extranonce = [1, 2, 3, 4, 5, 6, 7, 8];
    let mut coinbase = notify.coinbase_first.clone();
    coinbase.extend_from_slice(&extranonce);
    coinbase.extend_from_slice(&notify.coinbase_second);
    let kernel = Kernel::detect();
    let root = pow::merkle_root(kernel, kernel.sha256d(&coinbase), &notify.merkle_path);
    let header = pow::Header {
        version: notify.version | 0x4000,
        prev_hash: notify.prev_hash,
        merkle_root: root,
        ntime: notify.ntime,
        bits: notify.bits,
        nonce: 42,
    };
    let share = Share {
        extranonce: Extranonce::new(&extranonce).expect("eight bytes"),
        version: job.version | 0x4000,
        ntime: 1_700_000_123,
        nonce: 42,
    };
    assert_eq!(header.hash(kernel), kernel.hash_share(&job.work, &share));
}

fn rendering() -> impl Strategy<Value = (u8, u8, bool)> {
    (0..3u8, 0..4u8, any::<bool>())
}

proptest! {
    #[test]
    fn a_rendering_is_made_once_and_shared(asked in prop::collection::vec(rendering(), 1..200)) {
        let mut maker = maker();
        let jobs: Vec<Job> = (0..3)
            .map(|prev| maker.make(&template(5, prev, &[]), Tick(0)).expect("a job"))
            .collect();
        let mut renderings = Renderings::new();
        let mut seen = BTreeMap::new();
        for (job, second, clean) in asked {
            // A shard names it by the job's place; the cache by its number.
            let index = session::JobIndex(job);
            let wanted = Rendering { job: index, second: u32::from(second), clean };
            let line = renderings.get(&jobs[usize::from(job)], wanted.second, wanted.clean);
            let before = seen.insert((job, second, clean), line.clone());
            match before {
                Some(before) => prop_assert!(Rc::ptr_eq(&before, &line)),
                None => prop_assert_eq!(seen.values().filter(|other| **other == line).count(), 1),
            }
        }
        prop_assert_eq!(renderings.made(), seen.len() as u64);
    }

    #[test]
    fn a_lane_gets_what_matters_first(ops in prop::collection::vec(lane_op(), 1..200)) {
        let mut world = Lane::new();
        ops.iter().for_each(|op| world.apply(op));
        world.end();
    }
}

#[test]
fn renderings_are_bounded() {
    let job = maker().make(&template(5, 1, &[]), Tick(0)).expect("a job");
    let mut renderings = Renderings::new();
    (0..1_000).for_each(|second| drop(renderings.get(&job, second, false)));
    assert_eq!(renderings.kept.len(), RENDERINGS_MAX);
    assert_eq!(renderings.made(), 1_000);
    let newest = renderings.get(&job, 999, false);
    assert_eq!((renderings.made(), Rc::strong_count(&newest)), (1_000, 2));
}

#[derive(Clone, Debug)]
enum LaneOp {
    Job { new_tip: bool, full: bool },
    Message,
    Pop { full_lane: bool },
}

fn lane_op() -> impl Strategy<Value = LaneOp> {
    prop_oneof![
        (prop::bool::weighted(0.3), any::<bool>())
            .prop_map(|(new_tip, full)| LaneOp::Job { new_tip, full }),
        Just(LaneOp::Message),
        prop::bool::weighted(0.3).prop_map(|full_lane| LaneOp::Pop { full_lane }),
    ]
}

/// An outbox, and what its shard has seen.
struct Lane {
    outbox: Outbox,
    maker: JobMaker,
    prev: u8,
    full: Vec<bitcoin::Transaction>,
    newest: (u32, u32),
    /// The newest job that made earlier ones on its tip worthless.
    replacing: (u32, u32),
    sent: (u32, u32),
    replacing_sent: u32,
    queries_in: u64,
    queries_out: u64,
}

impl Lane {
    fn new() -> Lane {
        Lane {
            outbox: Outbox::default(),
            maker: maker(),
            prev: 0,
            full: transactions(1),
            newest: (0, 0),
            replacing: (0, 0),
            sent: (0, 0),
            replacing_sent: 0,
            queries_in: 0,
            queries_out: 0,
        }
    }

    fn apply(&mut self, op: &LaneOp) {
        match *op {
            LaneOp::Job { new_tip, full } => {
                self.prev = self.prev.wrapping_add(u8::from(new_tip));
                let transactions = if full { self.full.as_slice() } else { &[] };
                let template = template(5, self.prev, transactions);
                let job = self.maker.make(&template, Tick(0)).expect("a job");
                self.newest = (job.number, job.tip);
                if job.replaces_coinbase_only {
                    self.replacing = self.newest;
                }
                self.outbox.push(ToShard::Job(Arc::new(job))).expect("never refused");
            }
            LaneOp::Message => {
                let query = self.queries_in;
                let pushed = self.outbox.push(ToShard::ListMiners { query });
                let waiting = self.queries_in - self.queries_out;
                assert_eq!(pushed.is_ok(), waiting < OUTBOX_MESSAGES_MAX as u64);
                self.queries_in += u64::from(pushed.is_ok());
            }
            LaneOp::Pop { full_lane } => {
                let message = self.outbox.pop();
                match message {
                    Some(message) if full_lane => self.outbox.unsent(message),
                    Some(message) => self.send(message),
                    None => assert_eq!(
                        (self.sent.0, self.queries_out),
                        (self.newest.0, self.queries_in)
                    ),
                }
            }
        }
        assert!(self.outbox.len() <= 2 + OUTBOX_MESSAGES_MAX);
    }

    fn send(&mut self, message: ToShard) {
        match message {
            ToShard::Job(job) => {
                assert!(job.number > self.sent.0, "numbers rise");
                assert_eq!(job.tip, self.newest.1, "an old tip's job is never sent");
                let replacing = job.number == self.replacing.0;
                assert!(job.number == self.newest.0 || replacing, "newest or not to be skipped");
                self.sent = (job.number, job.tip);
                if job.replaces_coinbase_only {
                    self.replacing_sent = job.number;
                }
            }
            ToShard::ListMiners { query } => {
                assert_eq!(query, self.queries_out, "messages keep their order");
                assert_eq!(self.sent.1, self.newest.1, "a new tip overtakes everything");
                self.queries_out += 1;
            }
            other => panic!("{other:?} was never put in"),
        }
    }

    fn end(mut self) {
        while let Some(message) = self.outbox.pop() {
            self.send(message);
        }
        assert_eq!(self.sent, self.newest);
        assert_eq!(self.queries_out, self.queries_in);
        if self.replacing.1 == self.newest.1 {
            assert_eq!(self.replacing_sent, self.replacing.0, "miners drop the empty job");
        }
        assert!(self.outbox.is_empty());
    }
}

#[test]
fn a_full_outbox_hands_back_everything_but_jobs() {
    let mut outbox = Outbox::default();
    let job = Arc::new(maker().make(&template(5, 1, &[]), Tick(0)).expect("a job"));
    for _ in 0..OUTBOX_MESSAGES_MAX {
        outbox.push(ToShard::Drain).expect("there is room");
    }
    assert!(matches!(outbox.push(ToShard::Recycled(new_report())), Err(ToShard::Recycled(_))));
    outbox.push(ToShard::Job(job)).expect("a job always has room");
    assert!(matches!(outbox.pop(), Some(ToShard::Job(_))));
}
