//! What miners work on, sentence by sentence: "which tip" and "new tip", in virtual time. Blocks
//! are letters; a chain is told as its letters and heights.

use std::collections::BTreeMap;

use pow::Hash256;
use proptest::prelude::*;

use super::*;

const MAIN: usize = 0;
const BACKUP: usize = 1;
/// A height with nothing special about it, on any network.
const HEIGHT: u32 = 900_001;

struct World {
    choice: Choice,
    network: Network,
    now: Duration,
    published: Vec<Arc<Template>>,
    works: Vec<WorkHealth>,
    notes: Vec<Note>,
}

impl World {
    fn new(nodes: usize) -> World {
        World::on(Network::Main, nodes)
    }

    fn on(network: Network, nodes: usize) -> World {
        let mut world = World {
            choice: Choice::new(network, nodes),
            network,
            now: START_PATIENCE,
            published: Vec::new(),
            works: Vec::new(),
            notes: Vec::new(),
        };
        world.drain();
        world
    }

    fn drain(&mut self) {
        while let Some(output) = self.choice.poll() {
            match output {
                Output::Publish(template) => self.published.push(template),
                Output::Work(work) => self.works.push(work),
                Output::Note(note) => self.notes.push(note),
            }
        }
    }

    fn hear(&mut self, node: usize, observed: Observed) {
        self.now += Duration::from_millis(1);
        self.choice.handle(self.now, node, observed);
        self.drain();
    }

    /// A full template of a node, asked for just now.
    fn full(&mut self, node: usize, tip: char, height: u32) {
        let asked = self.now;
        self.full_asked(node, tip, height, asked);
    }

    fn full_asked(&mut self, node: usize, tip: char, height: u32, asked: Duration) {
        let template = Arc::new(full(tip, height));
        self.hear(node, Observed::Template { template, asked });
    }

    fn tip(&mut self, node: usize, tip: char, height: u32) {
        let learned = self.now;
        self.hear(node, Observed::Tip { header: header(tip, height), learned });
    }

    fn fail(&mut self, node: usize, fault: NodeFault) {
        self.hear(node, Observed::Failed(fault));
    }

    fn pass(&mut self, time: Duration) {
        let until = self.now + time;
        while self.now < until {
            self.now = (self.now + Duration::from_secs(1)).min(until);
            self.choice.tick(self.now);
            self.drain();
        }
    }

    /// What was published since the last look: letter of the tip, whether it is a full one.
    fn news(&mut self) -> Vec<(char, bool)> {
        let news = std::mem::take(&mut self.published);
        news.iter().map(|template| (letter(template), !template.transactions.is_empty())).collect()
    }

    fn work(&self) -> WorkHealth {
        *self.works.last().expect("the first word comes at once")
    }
}

fn hash(tip: char) -> Hash256 {
    Hash256([tip as u8; 32])
}

fn letter(template: &Template) -> char {
    template.prev_hash.0[0] as char
}

/// The earliest time on a tip: a function of the chain alone, as the median time is.
fn earliest(tip: char) -> u32 {
    1_800_000_000 + 10 * tip as u32 + 1
}

fn header(tip: char, height: u32) -> TipHeader {
    TipHeader {
        hash: hash(tip),
        prev_hash: Hash256::ZERO,
        height,
        confirmations: 1,
        version: 0x2000_0000,
        bits: 0x1703_4219,
        time: 1_800_003_000,
        median_time: earliest(tip) - 1,
    }
}

/// A template on a tip of this height.
fn full(tip: char, height: u32) -> Template {
    Template {
        height: height + 1,
        prev_hash: hash(tip),
        version: 0x2000_0004,
        bits: 0x1703_4219,
        curtime: 1_800_004_000,
        min_ntime: earliest(tip),
        coinbase_value: 320_000_000,
        coinbase_version: 2,
        coinbase_sequence: 0xffff_fffe,
        coinbase_locktime: height,
        witness_commitment: Some(vec![0x6a; 38]),
        coinbase_aux: Vec::new(),
        merkle_path: vec![Hash256([9; 32])],
        transactions: Arc::from([Arc::from([0_u8; 60])]),
        weight: 240,
    }
}

fn unreachable() -> NodeFault {
    NodeFault::Unreachable("connection refused".into())
}

fn loading() -> NodeFault {
    NodeFault::InitialDownload { progress: 0.1 }
}

// New tip.

#[test]
fn a_new_tip_is_first_a_job_from_its_header_and_then_the_full_template() {
    let mut world = World::new(1);
    world.full(MAIN, 'a', HEIGHT);
    assert_eq!(world.news(), [('a', true)]);
    world.tip(MAIN, 'b', HEIGHT + 1);
    let quick = world.published.last().expect("a job from the header").clone();
    assert_eq!(world.news(), [('b', false)]);
    assert_eq!((quick.height, quick.coinbase_value), (HEIGHT + 2, 312_500_000));
    assert_eq!((quick.version, quick.bits), (0x2000_0004, 0x1703_4219));
    assert_eq!((quick.witness_commitment.as_ref(), quick.merkle_path.len()), (None, 0));
    world.full(MAIN, 'b', HEIGHT + 1);
    assert_eq!(world.news(), [('b', true)]);
}

#[test]
fn only_full_templates_follow_once_work_on_a_tip_is_out() {
    let mut world = World::new(1);
    world.full(MAIN, 'a', HEIGHT);
    // The template of a tip comes before the news of it.
    world.full(MAIN, 'b', HEIGHT + 1);
    world.news();
    world.tip(MAIN, 'b', HEIGHT + 1);
    world.tip(MAIN, 'b', HEIGHT + 1);
    assert_eq!(world.news(), []);
    world.full(MAIN, 'b', HEIGHT + 1);
    assert_eq!(world.news(), [('b', true)], "fees have grown");
}

#[test]
fn where_a_header_does_not_say_enough_the_full_template_is_awaited() {
    let retarget = 2_016 * 400;
    let rows = [
        (Network::Main, retarget - 2, true),
        (Network::Main, retarget - 1, false),
        (Network::Main, retarget, true),
        (Network::Test, HEIGHT, false),
        (Network::Testnet4, HEIGHT, false),
        (Network::Regtest, 150, true),
        (Network::Regtest, 2_016, true),
    ];
    for (network, height, quick) in rows {
        let mut world = World::on(network, 1);
        // A template of the same period, or the version could be another.
        world.full(MAIN, 'a', if height == retarget { height } else { height - 1 });
        world.news();
        world.tip(MAIN, 'b', height);
        let wanted: &[(char, bool)] = if quick { &[('b', false)] } else { &[] };
        assert_eq!(world.news(), wanted, "{network} {height}");
        world.full(MAIN, 'b', height);
        assert_eq!(world.news(), [('b', true)], "{} {height}", world.network);
    }
}

#[test]
fn the_earliest_time_is_one_value_per_tip_also_when_the_tip_comes_back() {
    let mut world = World::new(2);
    world.full(MAIN, 'a', HEIGHT);
    world.tip(MAIN, 'b', HEIGHT + 1);
    let mut template = full('b', HEIGHT + 1);
    template.min_ntime -= 5;
    world.hear(MAIN, Observed::Template { template: Arc::new(template), asked: world.now });
    world.tip(MAIN, 'a', HEIGHT);
    world.full(MAIN, 'a', HEIGHT);
    world.tip(MAIN, 'b', HEIGHT + 1);
    world.full(BACKUP, 'b', HEIGHT + 1);
    world.fail(MAIN, unreachable());
    let mut values = BTreeMap::<char, Vec<u32>>::new();
    for template in &world.published {
        values.entry(letter(template)).or_default().push(template.min_ntime);
    }
    assert!(values.values().map(Vec::len).sum::<usize>() >= 7, "{values:?}");
    for (tip, values) in values {
        assert!(values.iter().all(|value| *value == earliest(tip)), "{tip}: {values:?}");
    }
}

#[test]
fn an_earliest_time_that_rises_is_believed() {
    let mut world = World::new(1);
    world.full(MAIN, 'a', HEIGHT);
    let mut template = full('a', HEIGHT);
    (template.min_ntime, template.curtime) = (1_800_009_000, 1_800_009_000);
    world.hear(MAIN, Observed::Template { template: Arc::new(template), asked: world.now });
    world.full(MAIN, 'a', HEIGHT);
    let last = world.published.last().expect("three came");
    assert_eq!((last.min_ntime, last.curtime), (1_800_009_000, 1_800_009_000));
}

#[test]
fn a_template_that_was_on_its_way_when_the_tip_changed_is_not_mined() {
    let mut world = World::new(1);
    world.full(MAIN, 'a', HEIGHT);
    let asked = world.now;
    world.pass(Duration::from_millis(5));
    world.tip(MAIN, 'b', HEIGHT + 1);
    world.news();
    world.full_asked(MAIN, 'a', HEIGHT, asked);
    assert_eq!(world.news(), [], "it is of before");
    // One that is higher than the news is of after it.
    world.full_asked(MAIN, 'c', HEIGHT + 2, asked);
    assert_eq!(world.news(), [('c', true)]);
    // And what is asked for later is true whatever it says.
    world.full(MAIN, 'a', HEIGHT);
    assert_eq!(world.news(), [('a', true)]);
}

#[test]
fn news_of_a_tip_that_a_template_has_overtaken_changes_nothing() {
    let mut world = World::new(1);
    world.full(MAIN, 'a', HEIGHT);
    let learned = world.now;
    world.now += Duration::from_millis(5);
    world.full(MAIN, 'c', HEIGHT + 2);
    world.news();
    world.hear(MAIN, Observed::Tip { header: header('b', HEIGHT + 1), learned });
    assert_eq!(world.news(), []);
}

// Which tip.

#[test]
fn the_sources_best_chain_wins_at_a_greater_an_equal_and_a_lower_height() {
    let mut world = World::new(2);
    world.full(MAIN, 'a', HEIGHT);
    world.full(BACKUP, 'a', HEIGHT);
    world.news();
    for (tip, height) in [('b', HEIGHT + 1), ('c', HEIGHT + 1), ('d', HEIGHT - 2), ('a', HEIGHT)] {
        world.tip(MAIN, tip, height);
        world.full(MAIN, tip, height);
        assert_eq!(world.news(), [(tip, false), (tip, true)]);
    }
    let steps: Vec<i64> = world
        .notes
        .iter()
        .filter_map(|note| match note {
            Note::Tip { step, .. } => Some(*step),
            _ => None,
        })
        .collect();
    assert_eq!(steps, [1, 1, 0, -3, 2]);
}

#[test]
fn invalidateblock_and_reconsiderblock_are_followed_also_beside_a_higher_backup() {
    let mut world = World::new(2);
    world.full(MAIN, 'b', HEIGHT + 1);
    world.full(BACKUP, 'b', HEIGHT + 1);
    world.tip(MAIN, 'a', HEIGHT);
    world.full(MAIN, 'a', HEIGHT);
    world.pass(Duration::from_secs(60));
    world.news();
    assert_eq!(world.choice.source(), Some(MAIN), "it left that block by its own decision");
    world.tip(MAIN, 'b', HEIGHT + 1);
    world.full(MAIN, 'b', HEIGHT + 1);
    assert_eq!(world.news(), [('b', false), ('b', true)], "a tip that comes back is new work");
}

#[test]
fn a_node_that_loads_its_chain_is_no_source_and_its_tips_are_not_followed() {
    let mut world = World::new(1);
    world.full(MAIN, 'a', HEIGHT);
    world.news();
    world.fail(MAIN, loading());
    for height in 1..50 {
        world.tip(MAIN, 'x', height);
    }
    assert_eq!((world.news().len(), world.work()), (0, WorkHealth::Down));
    world.full(MAIN, 'a', HEIGHT);
    assert_eq!((world.news(), world.work()), (vec![('a', true)], WorkHealth::Up));
}

#[test]
fn on_a_change_of_source_its_tip_is_adopted_at_whatever_height() {
    for (tip, height) in [('a', HEIGHT), ('b', HEIGHT), ('b', HEIGHT + 1), ('b', HEIGHT - 1)] {
        let mut world = World::new(2);
        world.full(MAIN, 'a', HEIGHT);
        world.full(BACKUP, tip, height);
        assert_eq!(world.news(), [('a', true)], "a backup's news are not the miners'");
        world.fail(MAIN, unreachable());
        assert_eq!(world.news(), [(tip, true)]);
        assert_eq!((world.choice.source(), world.work()), (Some(BACKUP), WorkHealth::Up));
        assert!(!world.works.contains(&WorkHealth::Down) || world.works.len() == 2, "no gap");
    }
}

#[test]
fn between_sources_of_equal_height_the_first_stays() {
    let mut world = World::new(2);
    world.full(BACKUP, 'b', HEIGHT);
    assert_eq!(world.choice.source(), Some(BACKUP), "the first that is ready");
    world.full(MAIN, 'a', HEIGHT);
    world.pass(Duration::from_secs(60));
    assert_eq!((world.choice.source(), world.news()), (Some(BACKUP), vec![('b', true)]));
    // The tie is broken.
    world.tip(MAIN, 'c', HEIGHT + 1);
    assert_eq!((world.choice.source(), world.news()), (Some(MAIN), vec![('c', false)]));
}

#[test]
fn at_the_start_the_preferred_node_has_a_moment() {
    let start = |first_fails: bool| {
        let mut world = World::new(2);
        world.now = Duration::ZERO;
        if first_fails {
            world.fail(MAIN, unreachable());
        }
        world.full(BACKUP, 'b', HEIGHT);
        world
    };
    let mut world = start(false);
    assert_eq!(world.news(), []);
    world.full(MAIN, 'a', HEIGHT);
    assert_eq!(world.news(), [('a', true)]);
    let mut world = start(false);
    world.pass(START_PATIENCE);
    assert_eq!(world.news(), [('b', true)]);
    assert_eq!(start(true).news(), [('b', true)], "it is known to be down");
}

#[test]
fn the_preferred_node_gets_its_place_back_after_a_while_on_the_same_tip() {
    let mut world = World::new(2);
    world.full(MAIN, 'a', HEIGHT);
    world.full(BACKUP, 'a', HEIGHT);
    world.fail(MAIN, unreachable());
    world.full(MAIN, 'a', HEIGHT);
    world.news();
    world.pass(RETURN_PATIENCE - Duration::from_millis(10));
    assert_eq!(world.choice.source(), Some(BACKUP));
    world.pass(Duration::from_millis(10));
    assert_eq!((world.choice.source(), world.news()), (Some(MAIN), vec![('a', true)]));
}

#[test]
fn a_node_full_of_errors_gets_its_place_back_ever_more_slowly() {
    let mut world = World::new(2);
    world.full(BACKUP, 'a', HEIGHT);
    world.full(MAIN, 'a', HEIGHT);
    let mut waits = Vec::new();
    for _ in 0..9 {
        world.fail(MAIN, NodeFault::Stalled);
        world.full(MAIN, 'a', HEIGHT);
        let since = world.now;
        while world.choice.source() != Some(MAIN) {
            world.pass(Duration::from_secs(1));
        }
        waits.push((world.now - since).as_secs());
    }
    assert_eq!(waits, [5, 10, 20, 40, 80, 160, 300, 300, 300]);
    world.pass(FORGIVEN_AFTER + Duration::from_secs(1));
    world.fail(MAIN, NodeFault::Stalled);
    world.full(MAIN, 'a', HEIGHT);
    world.pass(RETURN_PATIENCE);
    assert_eq!(world.choice.source(), Some(MAIN));
}

#[test]
fn a_tip_that_our_node_lacks_is_mined_only_when_it_goes_on_lacking_it() {
    let mut world = World::new(2);
    world.full(MAIN, 'a', HEIGHT);
    world.full(BACKUP, 'a', HEIGHT);
    world.news();
    world.tip(BACKUP, 'b', HEIGHT + 1);
    world.full(BACKUP, 'b', HEIGHT + 1);
    world.pass(BEHIND_PATIENCE - Duration::from_secs(1));
    assert_eq!((world.choice.source(), world.news()), (Some(MAIN), vec![]));
    assert_eq!((world.choice.behind(MAIN), world.choice.behind(BACKUP)), (1, 0));
    world.pass(Duration::from_secs(1));
    assert_eq!((world.choice.source(), world.news()), (Some(BACKUP), vec![('b', true)]));
    let why = Why::Behind { blocks: 1 };
    assert!(world.notes.contains(&Note::Source { from: Some(MAIN), to: BACKUP, why }));
    // It stays there while the first lacks the block, and goes back when it has it.
    world.full(MAIN, 'a', HEIGHT);
    world.pass(Duration::from_secs(600));
    assert_eq!(world.choice.source(), Some(BACKUP));
    world.full(MAIN, 'b', HEIGHT + 1);
    assert_eq!(world.choice.source(), Some(MAIN));
}

#[test]
fn a_node_that_catches_up_in_time_stays_the_source() {
    let mut world = World::new(2);
    world.full(MAIN, 'a', HEIGHT);
    for (tip, height) in [('b', HEIGHT + 1), ('c', HEIGHT + 2), ('d', HEIGHT + 3)] {
        world.full(BACKUP, tip, height);
        world.pass(BEHIND_PATIENCE - Duration::from_secs(2));
        world.full(MAIN, tip, height);
        world.pass(Duration::from_secs(30));
        assert_eq!(world.choice.source(), Some(MAIN));
    }
}

// Faults.

#[test]
fn without_another_node_miners_keep_their_job_and_the_engine_is_told() {
    let mut world = World::new(1);
    assert_eq!(world.works, [WorkHealth::Down]);
    world.full(MAIN, 'a', HEIGHT);
    world.fail(MAIN, unreachable());
    world.fail(MAIN, unreachable());
    world.fail(MAIN, NodeFault::Warming("Loading…".into()));
    assert_eq!(world.news(), [('a', true)]);
    assert_eq!(world.works, [WorkHealth::Down, WorkHealth::Up, WorkHealth::Down]);
    let faults = world.notes.iter().filter(|note| matches!(note, Note::Fault { .. })).count();
    assert_eq!(faults, 2, "each kind is told once");
    world.full(MAIN, 'a', HEIGHT);
    assert_eq!((world.news(), world.work()), (vec![('a', true)], WorkHealth::Up));
}

#[test]
fn a_template_that_was_asked_for_before_the_fault_is_no_recovery() {
    let mut world = World::new(1);
    world.full(MAIN, 'a', HEIGHT);
    let asked = world.now;
    world.fail(MAIN, NodeFault::Slow);
    world.full_asked(MAIN, 'a', HEIGHT, asked);
    assert_eq!(world.choice.health(MAIN), &NodeHealth::Fault(NodeFault::Slow));
    world.full(MAIN, 'a', HEIGHT);
    assert_eq!(world.choice.health(MAIN), &NodeHealth::Ready);
}

#[test]
fn tips_of_a_node_whose_templates_fail_are_followed_by_the_header_alone() {
    let soft = [NodeFault::Slow, NodeFault::Busy, NodeFault::Garbage("half".into())];
    for fault in soft {
        let mut world = World::new(1);
        world.full(MAIN, 'a', HEIGHT);
        world.fail(MAIN, fault.clone());
        world.tip(MAIN, 'b', HEIGHT + 1);
        assert_eq!(world.news(), [('a', true), ('b', false)], "{fault}");
        assert_eq!(world.work(), WorkHealth::Up, "what miners have is not stale");
        // It goes on failing, and lives.
        for _ in 0..60 {
            world.fail(MAIN, fault.clone());
            world.hear(MAIN, Observed::Heard);
            world.pass(Duration::from_secs(2));
        }
        assert_eq!(world.work(), WorkHealth::Up);
        world.pass(HEARD_MAX);
        assert_eq!(world.work(), WorkHealth::Down, "it does not even say that it lives");
    }
}

#[test]
fn how_long_templates_fail_is_told_while_tips_keep_miners_at_work() {
    let mut world = World::new(1);
    world.full(MAIN, 'a', HEIGHT);
    assert_eq!(world.choice.failing_for(MAIN), None);
    let fault = || NodeFault::Garbage("not a template".into());
    world.fail(MAIN, fault());
    for height in 1..20 {
        world.tip(MAIN, (b'a' + height) as char, HEIGHT + u32::from(height));
        world.pass(Duration::from_secs(1));
        // Each try fails anew; the first of them counts.
        world.fail(MAIN, fault());
    }
    let failing = world.choice.failing_for(MAIN).expect("no template came");
    assert!(failing.as_secs() >= 19, "{failing:?}");
    assert_eq!(world.work(), WorkHealth::Up, "nobody is released for that");
    assert_eq!(world.choice.source(), Some(MAIN));
    world.full(MAIN, 't', HEIGHT + 19);
    assert_eq!(world.choice.failing_for(MAIN), None);
}

#[test]
fn of_several_ready_nodes_the_highest_follows_and_of_equals_the_first() {
    let mut world = World::new(4);
    (0..4).for_each(|node| world.full(node, 'a', HEIGHT));
    world.full(2, 'b', HEIGHT + 1);
    world.full(3, 'b', HEIGHT + 1);
    world.fail(MAIN, unreachable());
    assert_eq!(world.choice.source(), Some(2));
    world.fail(2, unreachable());
    assert_eq!(world.choice.source(), Some(3));
    world.tip(1, 'b', HEIGHT + 1);
    assert_eq!(world.choice.source(), Some(1), "never failed, and before it in the list");
}

#[test]
fn a_backups_template_is_of_this_moment_when_it_is_needed() {
    let mut world = World::new(2);
    world.full(MAIN, 'a', HEIGHT);
    world.full(BACKUP, 'a', HEIGHT);
    world.pass(Duration::from_secs(29));
    world.fail(MAIN, unreachable());
    let last = world.published.last().expect("the backup's");
    assert_eq!(last.curtime, full('a', HEIGHT).curtime + 29);
}

#[test]
fn a_backup_that_waits_for_its_template_leaves_the_job_alone() {
    let mut world = World::new(2);
    world.full(MAIN, 'a', HEIGHT);
    world.full(BACKUP, 'a', HEIGHT);
    world.tip(MAIN, 'b', HEIGHT + 1);
    world.tip(BACKUP, 'b', HEIGHT + 1);
    world.news();
    world.fail(MAIN, NodeFault::Stalled);
    assert_eq!(world.news(), [], "work on that tip is out");
    world.full(BACKUP, 'b', HEIGHT + 1);
    assert_eq!(world.news(), [('b', true)]);
}

// Anything, in any order.

#[derive(Clone, Debug)]
enum Step {
    /// A node moves to another place of the chain and says so, or says it again.
    Tip {
        node: usize,
        place: usize,
    },
    /// A template of where the node is, asked for so many ms ago.
    Full {
        node: usize,
        ago: u64,
    },
    Fail {
        node: usize,
        distrust: bool,
    },
    Heard {
        node: usize,
    },
    Pass {
        seconds: u64,
    },
}

/// A small tree: the letters and heights at which a node may be.
const PLACES: [(char, u32); 6] = [
    ('a', HEIGHT),
    ('b', HEIGHT + 1),
    ('c', HEIGHT + 1),
    ('d', HEIGHT + 2),
    ('e', HEIGHT + 2),
    ('f', HEIGHT + 3),
];

fn steps() -> impl Strategy<Value = Vec<Step>> {
    let node = 0..3_usize;
    let step = prop_oneof![
        4 => (node.clone(), 0..PLACES.len()).prop_map(|(node, place)| Step::Tip { node, place }),
        6 => (node.clone(), 0..400_u64).prop_map(|(node, ago)| Step::Full { node, ago }),
        1 => (node.clone(), any::<bool>())
            .prop_map(|(node, distrust)| Step::Fail { node, distrust }),
        1 => node.prop_map(|node| Step::Heard { node }),
        2 => (0..20_u64).prop_map(|seconds| Step::Pass { seconds }),
    ];
    proptest::collection::vec(step, 1..200)
}

proptest! {
    #[test]
    fn whatever_happens_miners_follow_the_source(steps in steps()) {
        let mut world = World::new(3);
        // Where each node truly is, and since when.
        let mut places = [(0, Duration::ZERO); 3];
        let mut min_ntimes = BTreeMap::new();
        let mut last: Option<Arc<Template>> = None;
        for step in steps {
            world.now += Duration::from_millis(500);
            match step {
                Step::Tip { node, place } => {
                    if places[node].0 != place {
                        places[node] = (place, world.now);
                    }
                    world.tip(node, PLACES[place].0, PLACES[place].1);
                }
                Step::Full { node, ago } => {
                    let asked = world.now - Duration::from_millis(ago);
                    let (tip, height) = PLACES[places[node].0];
                    world.full_asked(node, tip, height, asked);
                }
                Step::Fail { node, distrust } => {
                    world.fail(node, if distrust { loading() } else { NodeFault::Slow });
                }
                Step::Heard { node } => world.hear(node, Observed::Heard),
                Step::Pass { seconds } => world.pass(Duration::from_secs(seconds)),
            }
            for template in std::mem::take(&mut world.published) {
                let min_ntime = *min_ntimes.entry(letter(&template)).or_insert(template.min_ntime);
                prop_assert_eq!(template.min_ntime, min_ntime);
                prop_assert!(template.curtime >= template.min_ntime);
                let same = last.as_ref().is_some_and(|last| last.prev_hash == template.prev_hash);
                prop_assert!(!(same && template.transactions.is_empty()), "a job taken back");
                last = Some(template);
            }
            let ready = (0..3).any(|node| world.choice.health(node) == &NodeHealth::Ready);
            let source = world.choice.source();
            if let Some(source) = source.filter(|_| ready) {
                // Every height here allows a job from the header: so the miners are where it is.
                prop_assert_eq!(world.choice.health(source), &NodeHealth::Ready);
                let (tip, _) = world.choice.tip(source).expect("it is ready");
                prop_assert_eq!(tip, hash(PLACES[places[source].0].0));
                prop_assert_eq!(last.as_ref().map(|last| last.prev_hash), Some(tip));
                prop_assert_eq!(world.work(), WorkHealth::Up);
            } else {
                prop_assert!(!ready);
            }
        }
    }
}
