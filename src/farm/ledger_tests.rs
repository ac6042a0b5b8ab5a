//! Tests of `ledger`: shards that count, a lane that loses, repeats and reorders their reports, and
//! a ledger that must still add up.

use std::collections::BTreeMap;

use proptest::prelude::*;

use super::*;

const SHARDS: usize = 2;
const NAMES: [&str; 6] = ["a.1", "a.2", "b", "c.rig", "d", "e"];
const SECOND: u64 = 1_000_000;

#[derive(Clone, Debug)]
enum Op {
    Share {
        shard: usize,
        name: usize,
        outcome: ShareOutcome,
        difficulty: f64,
    },
    Block {
        shard: usize,
        name: usize,
    },
    Connect {
        shard: usize,
        name: usize,
    },
    Disconnect {
        shard: usize,
        name: usize,
    },
    Report {
        shard: usize,
    },
    /// The lane was full, and the shard knows it.
    ReportUnsent {
        shard: usize,
    },
    /// One of the reports under way arrives: any of them, and maybe again later.
    Arrive {
        nth: usize,
        again: bool,
    },
    Lose {
        nth: usize,
    },
    Restart {
        shard: usize,
    },
}

fn op() -> impl Strategy<Value = Op> {
    let shard = 0..SHARDS;
    let name = 0..NAMES.len();
    let outcome = prop::sample::select(ShareOutcome::ALL.to_vec());
    // Powers of two add up exactly in any order, so that the sums can be compared for equality.
    let difficulty = (-20i32..20).prop_map(|power| 2f64.powi(power));
    let one = (shard.clone(), name);
    prop_oneof![
        12 => (one.clone(), outcome, difficulty).prop_map(
            |((shard, name), outcome, difficulty)| Op::Share { shard, name, outcome, difficulty }
        ),
        1 => one.clone().prop_map(|(shard, name)| Op::Block { shard, name }),
        2 => one.clone().prop_map(|(shard, name)| Op::Connect { shard, name }),
        2 => one.prop_map(|(shard, name)| Op::Disconnect { shard, name }),
        4 => shard.clone().prop_map(|shard| Op::Report { shard }),
        1 => shard.clone().prop_map(|shard| Op::ReportUnsent { shard }),
        4 => (any::<usize>(), any::<bool>()).prop_map(|(nth, again)| Op::Arrive { nth, again }),
        2 => any::<usize>().prop_map(|nth| Op::Lose { nth }),
        1 => shard.prop_map(|shard| Op::Restart { shard }),
    ]
}

struct World {
    shards: Vec<ShardWorkers>,
    incarnations: Vec<u32>,
    shard_limit: usize,
    ledger: Ledger,
    under_way: Vec<(ShardIndex, Report)>,
    /// What really happened, by name; and which connections are open, by shard and name.
    truth: BTreeMap<&'static str, WorkerTotals>,
    connections: BTreeMap<(usize, &'static str), u32>,
    now: Tick,
}

impl World {
    fn new(shard_limit: usize, farm_limit: usize) -> World {
        World {
            shards: (0..SHARDS).map(|_| ShardWorkers::with_limit(1, shard_limit)).collect(),
            incarnations: vec![1; SHARDS],
            shard_limit,
            ledger: Ledger::with_limit(Tick(0), farm_limit),
            under_way: Vec::new(),
            truth: BTreeMap::new(),
            connections: BTreeMap::new(),
            now: Tick(0),
        }
    }

    fn apply(&mut self, op: &Op) {
        self.now = self.now.plus_micros(SECOND / 3);
        match *op {
            Op::Share { shard, name, outcome, difficulty } => {
                let id = self.shards[shard].intern(NAMES[name]);
                self.shards[shard].count(id, outcome, difficulty, difficulty, self.now);
                self.truth.entry(NAMES[name]).or_default().count(outcome, difficulty);
            }
            Op::Block { shard, name } => {
                let id = self.shards[shard].intern(NAMES[name]);
                self.shards[shard].count_block(id);
                self.truth.entry(NAMES[name]).or_default().blocks += 1;
            }
            Op::Connect { shard, name } => {
                let id = self.shards[shard].intern(NAMES[name]);
                self.shards[shard].connected(id);
                *self.connections.entry((shard, NAMES[name])).or_default() += 1;
            }
            Op::Disconnect { shard, name } => {
                let id = self.shards[shard].intern(NAMES[name]);
                let open = self.connections.entry((shard, NAMES[name])).or_default();
                if *open > 0 {
                    *open -= 1;
                    self.shards[shard].disconnected(id);
                }
            }
            Op::Report { shard } => {
                let mut report = Report::default();
                if self.shards[shard].report(&mut report) {
                    self.under_way.push((ShardIndex(shard as u16), report));
                }
            }
            Op::ReportUnsent { shard } => {
                let mut report = Report::default();
                self.shards[shard].report(&mut report);
                self.shards[shard].unsent(&report);
            }
            Op::Arrive { nth, again } => self.arrive(nth, again),
            Op::Lose { nth } => {
                if !self.under_way.is_empty() {
                    self.under_way.swap_remove(nth % self.under_way.len());
                }
            }
            Op::Restart { shard } => self.restart(shard),
        }
        self.never_too_much();
    }

    fn arrive(&mut self, nth: usize, again: bool) {
        if self.under_way.is_empty() {
            return;
        }
        let nth = nth % self.under_way.len();
        let (shard, report) = &self.under_way[nth];
        self.ledger.apply(*shard, report, self.now);
        if !again {
            self.under_way.swap_remove(nth);
        }
    }

    /// The last reports of a life arrive, then it ends; what it left under way is stale.
    fn restart(&mut self, shard: usize) {
        self.settle(shard);
        self.ledger.shard_died(ShardIndex(shard as u16));
        self.incarnations[shard] += 1;
        let incarnation = self.incarnations[shard];
        self.shards[shard] = ShardWorkers::with_limit(incarnation, self.shard_limit);
        self.connections.retain(|(of, _), _| *of != shard);
        // The new life is heard of at once; everything older must then change nothing.
        self.settle(shard);
    }

    fn settle(&mut self, shard: usize) {
        let mut report = Report::default();
        self.shards[shard].report(&mut report);
        self.ledger.apply(ShardIndex(shard as u16), &report, self.now);
    }

    fn never_too_much(&self) {
        let total = self.ledger.total();
        let truth = self.truth_in_all();
        assert!(total.accepted <= truth.accepted);
        assert!(total.difficulty_accepted <= truth.difficulty_accepted);
        let (mut sum, mut connections) = (WorkerTotals::default(), 0);
        for worker in self.ledger.workers(self.now) {
            sum.add(&worker.totals);
            connections += u64::from(worker.connections);
        }
        assert_eq!(&sum, total, "the accounts add up to the total");
        assert_eq!(connections, self.ledger.connections());
    }

    fn truth_in_all(&self) -> WorkerTotals {
        let mut all = WorkerTotals::default();
        self.truth.values().for_each(|totals| all.add(totals));
        all
    }

    /// After one report of each shard that arrives, whatever was lost before, everything agrees.
    fn end(mut self) {
        (0..SHARDS).for_each(|shard| self.settle(shard));
        for nth in 0..self.under_way.len() {
            let (shard, report) = &self.under_way[nth];
            self.ledger.apply(*shard, report, self.now);
        }
        assert_eq!(*self.ledger.total(), self.truth_in_all());
        let open: u64 = self.connections.values().map(|open| u64::from(*open)).sum();
        assert_eq!(self.ledger.connections(), open);
        let named: Vec<WorkerStatus> =
            self.ledger.workers(self.now).filter(|worker| &*worker.name != OTHER).collect();
        for worker in &named {
            let truth = self.truth.get(&*worker.name).copied().unwrap_or_default();
            assert!(worker.totals.accepted <= truth.accepted);
            if self.shard_limit >= NAMES.len() {
                assert_eq!(worker.totals, truth, "{}", worker.name);
            }
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 256, ..ProptestConfig::default() })]

    #[test]
    fn totals_are_true_whatever_happens_to_reports(ops in prop::collection::vec(op(), 1..300)) {
        let mut world = World::new(NAMES.len(), NAMES.len());
        ops.iter().for_each(|op| world.apply(op));
        world.end();
    }

    #[test]
    fn nothing_is_lost_when_names_find_no_room(
        ops in prop::collection::vec(op(), 1..300),
        shard_limit in 0..4usize,
        farm_limit in 0..4usize,
    ) {
        let mut world = World::new(shard_limit, farm_limit);
        ops.iter().for_each(|op| world.apply(op));
        prop_assert!(world.ledger.len() <= farm_limit);
        prop_assert!(world.shards.iter().all(|shard| shard.len() <= shard_limit));
        world.end();
    }

    #[test]
    fn the_hash_rate_is_that_of_a_steady_miner(
        start in 0..10_000_000_000u64,
        every_ms in 100..20_000u64,
        minutes in 7..20u64,
    ) {
        let mut ledger = RateWindow::<RATE_BUCKETS, RATE_BUCKET_MICROS>::new(Tick(start));
        let difficulty = 1_000.0;
        let mut now = start;
        while now < start + minutes * 60 * SECOND {
            now += every_ms * 1_000;
            ledger.add(difficulty, Tick(now));
        }
        let true_rate = difficulty * HASHES_PER_DIFFICULTY * 1_000.0 / every_ms as f64;
        let shares_in_window = 300_000.0 / every_ms as f64;
        let measured = ledger.hashes_per_second(Tick(now));
        // One share more or less in the window is all that may be off.
        let error = (measured / true_rate - 1.0).abs();
        prop_assert!(error <= 1.01 / shares_in_window, "{measured} of {true_rate}");
        // And it is forgotten when the miner stops.
        prop_assert_eq!(ledger.hashes_per_second(Tick(now + 331 * SECOND)), 0.0);
        let half = ledger.hashes_per_second(Tick(now + 150 * SECOND)) / true_rate;
        prop_assert!((0.3..0.7).contains(&half), "{half} after half a window");
    }
}

#[test]
fn the_long_rates_are_those_of_a_steady_miner_that_stops() {
    const MINUTE: u64 = 60 * SECOND;
    let mut ledger = Ledger::new(Tick(0));
    let mut shard = ShardWorkers::new(1);
    let mut report = Report::default();
    let id = shard.intern("rig");
    // Five shares of 1,000 a minute, for 30 hours; then as many that are refused.
    for minute in 1..=30 * 60 {
        for _ in 0..5 {
            shard.count(id, ShareOutcome::Accepted, 1_000.0, 1_000.0, Tick(minute * MINUTE));
            shard.count(id, ShareOutcome::Stale, 1_000.0, 0.0, Tick(minute * MINUTE));
        }
        assert!(shard.report(&mut report));
        ledger.apply(ShardIndex(0), &report, Tick(minute * MINUTE));
    }
    let true_rate = 5_000.0 * HASHES_PER_DIFFICULTY / 60.0;
    let end = 30 * 60 * MINUTE;
    let rates = |ledger: &Ledger, at: u64| {
        let worker = ledger.page(0, 9, Tick(at)).0.remove(0);
        assert_eq!(worker.long_rates, ledger.long_rates(Tick(at)), "there is one worker");
        (worker.long_rates.hour / true_rate, worker.long_rates.day / true_rate)
    };
    let (hour, day) = rates(&ledger, end);
    assert!((hour - 1.0).abs() < 0.02 && (day - 1.0).abs() < 0.001, "{hour} {day}");
    let (hour, day) = rates(&ledger, end + 30 * MINUTE);
    assert!((0.4..0.6).contains(&hour) && (0.97..0.99).contains(&day), "{hour} {day}");
    let (hour, day) = rates(&ledger, end + 12 * 60 * MINUTE);
    assert!(hour == 0.0 && (0.45..0.55).contains(&day), "{hour} {day}");
    assert_eq!(rates(&ledger, end + 26 * 60 * MINUTE), (0.0, 0.0));
}

#[test]
fn the_pages_of_workers_are_the_whole_once() {
    let mut ledger = Ledger::with_limit(Tick(0), 25);
    let mut shard = ShardWorkers::new(1);
    let mut report = Report::default();
    for name in 0..40 {
        let id = shard.intern(&format!("rig.{name}"));
        shard.count(id, ShareOutcome::Accepted, 1.0, 1.0, Tick(1));
    }
    assert!(shard.report(&mut report));
    ledger.apply(ShardIndex(0), &report, Tick(1));
    let (mut names, mut next) = (Vec::new(), Some(0));
    while let Some(from) = next {
        let (rows, more) = ledger.page(from, 7, Tick(1));
        assert!(rows.len() <= 7);
        names.extend(rows.into_iter().map(|row| row.name));
        next = more;
    }
    names.sort();
    let mut whole: Vec<Arc<str>> = ledger.workers(Tick(1)).map(|worker| worker.name).collect();
    whole.sort();
    assert_eq!((whole.len(), names), (26, whole));
    assert_eq!(ledger.page(usize::MAX, usize::MAX, Tick(1)), (Vec::new(), None));
}

#[test]
fn a_lost_last_report_of_an_idle_worker_is_made_good() {
    let mut shard = ShardWorkers::new(1);
    let mut ledger = Ledger::new(Tick(0));
    let mut report = Report::default();
    for name in 0..2_000 {
        let id = shard.intern(&format!("rig.{name}"));
        shard.count(id, ShareOutcome::Accepted, 1.0, 1.0, Tick(1));
    }
    // Everything that has news is lost.
    while shard.has_news() {
        assert!(shard.report(&mut report));
        assert!(report.rows.len() <= REPORT_ROWS_MAX);
    }
    for _ in 0..2_001usize.div_ceil(REFRESH_ROWS) {
        assert!(shard.report(&mut report));
        ledger.apply(ShardIndex(0), &report, Tick(2));
    }
    assert_eq!(ledger.total().accepted, 2_000);
    assert_eq!(ledger.len(), 2_000);
}

#[test]
fn a_report_that_came_back_is_filled_again_without_growing() {
    let mut shard = ShardWorkers::new(1);
    let ids: Vec<WorkerId> = (0..5_000).map(|name| shard.intern(&format!("w{name}"))).collect();
    let mut report = new_report();
    let room = report.rows.capacity();
    let place = report.rows.as_ptr();
    for second in 0..20 {
        ids.iter().for_each(|id| shard.count(*id, ShareOutcome::Stale, 0.0, 0.0, Tick(second)));
        assert!(shard.report(&mut report));
    }
    assert_eq!(report.rows.capacity(), room);
    assert_eq!(report.rows.as_ptr(), place);
    assert!(shard.changed.capacity() > 5_000);
}

#[test]
fn an_empty_shard_reports_nothing() {
    let mut shard = ShardWorkers::new(1);
    assert!(shard.is_empty());
    assert!(!shard.report(&mut Report::default()));
}

#[test]
fn long_names_are_cut_and_stay_apart() {
    let mut shard = ShardWorkers::new(1);
    let stem = "ü".repeat(WORKER_NAME_BYTES_MAX);
    let (one, two) = (shard.intern(&format!("{stem}1")), shard.intern(&format!("{stem}2")));
    assert_ne!(one, two);
    assert_eq!(shard.intern(&format!("{stem}1")), one, "the cut is stable");
    for id in [one, two] {
        assert!(shard.name(id).len() <= WORKER_NAME_BYTES_MAX);
        assert!(shard.name(id).starts_with("üüü"));
    }
}

#[test]
fn a_miner_may_not_call_itself_into_the_account_of_the_others() {
    let mut shard = ShardWorkers::new(1);
    let own = shard.intern(OTHER);
    assert_ne!(own, WorkerId::OTHER);
    assert_ne!(&**shard.name(own), OTHER);
    assert_eq!(*shard.called(OTHER), **shard.name(own));
    assert_eq!(shard.intern(OTHER), own, "the mark is stable");
    shard.count(own, ShareOutcome::Accepted, 1.0, 1.0, Tick(1));
    shard.count(WorkerId::OTHER, ShareOutcome::Stale, 1.0, 0.0, Tick(1));
    let (mut report, mut ledger) = (Report::default(), Ledger::new(Tick(0)));
    assert!(shard.report(&mut report));
    ledger.apply(ShardIndex(0), &report, Tick(1));
    let rows: Vec<WorkerStatus> = ledger.workers(Tick(1)).collect();
    assert_eq!((rows.len(), ledger.len()), (2, 1));
    assert_eq!((&*rows[0].name, rows[0].totals.accepted), (&**shard.name(own), 1));
    assert_eq!((&*rows[1].name, rows[1].totals.rejected_all()), (OTHER, 1));
}

#[test]
fn a_full_table_gives_no_account_and_still_knows_the_name() {
    let mut shard = ShardWorkers::with_limit(1, 1);
    let named = shard.intern("a");
    assert_ne!(named, WorkerId::OTHER);
    assert_eq!(shard.intern("b"), WorkerId::OTHER);
    assert_eq!(shard.intern("a"), named);
    assert_eq!((&*shard.called("a"), &*shard.called("b")), ("a", "b"));
}

#[test]
fn every_refusal_has_a_reason_of_its_own() {
    let mut labels = std::collections::BTreeSet::new();
    for (index, reason) in Reason::ALL.iter().enumerate() {
        assert_eq!(*reason as usize, index);
        labels.insert(reason.label());
    }
    assert_eq!(labels.len(), Reason::ALL.len());
    let refused = ShareOutcome::ALL.iter().filter_map(|outcome| Reason::of(*outcome));
    assert_eq!(refused.map(Reason::label).collect::<std::collections::BTreeSet<_>>(), labels);
    for outcome in ShareOutcome::ALL {
        let label = Reason::of(outcome).map_or("accepted", Reason::label);
        assert_eq!(label, outcome.name(), "one name for one thing");
    }
}

fn settled(difficulty: f64) -> Settled {
    let difficulty = pow::Difficulty::new(difficulty).expect("positive");
    Settled { difficulty, class: session::Class::Antminer }
}

#[test]
fn where_a_worker_settles_is_reported_and_told_on_once() {
    let mut ledger = Ledger::new(Tick(0));
    let mut shard = ShardWorkers::new(1);
    let mut report = Report::default();
    let rig = shard.intern("rig");
    shard.connected(rig);
    shard.settled(rig, settled(512.0));
    shard.settled(WorkerId::OTHER, settled(1.0));
    for _ in 0..2 {
        assert!(shard.report(&mut report));
        ledger.apply(ShardIndex(0), &report, Tick(0));
    }
    let told = ledger.take_settled();
    assert_eq!(told, [Remembered { worker: "rig".into(), settled: settled(512.0) }]);
    shard.settled(rig, settled(512.0));
    assert!(!shard.has_news(), "it is there already");
    assert_eq!(ledger.take_settled(), []);
    let page = ledger.page(0, 9, Tick(0)).0;
    assert_eq!(page[0].settled, Some(settled(512.0)));
}

#[test]
fn machines_under_one_name_do_not_push_each_other_up() {
    let mut ledger = Ledger::new(Tick(0));
    let mut shards = [ShardWorkers::new(1), ShardWorkers::new(1)];
    let say = |ledger: &mut Ledger, shards: &mut [ShardWorkers; 2]| {
        for (index, shard) in (0..).zip(shards) {
            let mut report = Report::default();
            shard.report(&mut report);
            ledger.apply(ShardIndex(index), &report, Tick(0));
        }
        ledger.take_settled().last().map(|last| last.settled)
    };
    // Two on the first shard, one on the second, all of them "nat".
    let nat = shards.each_mut().map(|shard| shard.intern("nat"));
    shards[0].connected(nat[0]);
    shards[0].connected(nat[0]);
    shards[1].connected(nat[1]);
    shards[0].settled(nat[0], settled(65_536.0));
    assert_eq!(say(&mut ledger, &mut shards), Some(settled(65_536.0)), "all that is known");
    shards[0].settled(nat[0], settled(1_024.0));
    assert_eq!(say(&mut ledger, &mut shards), Some(settled(1_024.0)), "the lower on one shard");
    shards[1].settled(nat[1], settled(32_768.0));
    assert_eq!(say(&mut ledger, &mut shards), None, "nor by one on another shard");
    shards[1].settled(nat[1], settled(512.0));
    assert_eq!(say(&mut ledger, &mut shards), Some(settled(512.0)));
    // The small ones go; who stays is alone, and what it has is what it needs.
    shards[1].disconnected(nat[1]);
    shards[0].disconnected(nat[0]);
    assert_eq!(say(&mut ledger, &mut shards), None);
    shards[0].settled(nat[0], settled(65_536.0));
    assert_eq!(say(&mut ledger, &mut shards), Some(settled(65_536.0)));
}

#[test]
fn places_are_in_the_order_of_first_shares_and_never_change() {
    let (mut shard, mut ledger) = (ShardWorkers::new(1), Ledger::new(Tick(0)));
    let mut report = Report::default();
    for name in ["z", "m", "!x"] {
        shard.count(WorkerId::OTHER, ShareOutcome::Stale, 1.0, 0.0, Tick(1));
        let id = shard.intern(name);
        shard.count(id, ShareOutcome::Accepted, 1.0, 1.0, Tick(1));
        assert!(shard.report(&mut report));
        ledger.apply(ShardIndex(0), &report, Tick(1));
        let places = |rows: Vec<WorkerStatus>| -> BTreeMap<u64, Arc<str>> {
            rows.into_iter().map(|row| (row.place, row.name)).collect()
        };
        let all = places(ledger.workers(Tick(1)).collect());
        let order = [OTHER, "z", "m", "!x"];
        assert!(
            all.iter()
                .zip(0..)
                .all(|((place, name), at)| *place == at && **name == *order[at as usize])
        );
        let pages = (0..4).flat_map(|from| ledger.page(from, 1, Tick(1)).0);
        assert_eq!(places(pages.collect()), all);
    }
}
