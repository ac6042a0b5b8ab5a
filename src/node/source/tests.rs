//! The threads against nodes that speak HTTP over real sockets and do what nodes should not.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering::Relaxed};
use std::time::{Duration, Instant};

use pow::{Hash256, Template};
use serde_json::json;

use super::fake_node::{FakeNode, Habit, until};
use super::*;
use crate::link::WorkHealth;
use crate::rpc::Auth;

/// Long for everything that happens at once, on a machine that does other things too.
const SOON: Duration = Duration::from_secs(20);

struct Farm {
    link: NodeLink,
    nodes: Nodes,
    work: Option<WorkHealth>,
    newest: Option<Arc<Template>>,
    tips: Vec<(Hash256, bool)>,
}

impl Farm {
    fn of(nodes: &[&FakeNode]) -> Farm {
        Farm::on(Network::Regtest, nodes)
    }

    fn on(network: Network, nodes: &[&FakeNode]) -> Farm {
        let auth = || Auth::User { user: "u".into(), password: "p".into() };
        let endpoint = |node: &&FakeNode| Endpoint::new(&node.url(), auth()).expect("good");
        Farm::at(network, nodes.iter().map(endpoint))
    }

    fn at(network: Network, nodes: impl Iterator<Item = Endpoint>) -> Farm {
        let config = |(index, endpoint): (usize, Endpoint)| NodeConfig {
            name: format!("node {index}").into(),
            endpoint,
            zmq_hashblock: None,
        };
        let proposal = ProposalParts {
            payout_script: vec![0x51],
            signature: b"/test/".to_vec(),
            extranonce_size: 8,
        };
        let nodes = nodes.enumerate().map(config).collect();
        let config = SourceConfig { nodes, network, proposal, journal: None };
        let (link, nodes) = start(config).expect("there are threads");
        Farm { link, nodes, work: None, newest: None, tips: Vec::new() }
    }

    fn look(&mut self) {
        self.work = self.link.try_work().or(self.work);
        if let Some(template) = self.link.try_template() {
            let full = template.witness_commitment.is_some();
            self.tips.push((template.prev_hash, full));
            self.newest = Some(template);
        }
    }

    /// Waits for a full template on this tip.
    fn mines_on(&mut self, tip: Hash256) {
        let mut on_tip = || {
            self.look();
            let newest = self.newest.as_ref();
            newest.is_some_and(|newest| {
                newest.prev_hash == tip && newest.witness_commitment.is_some()
            })
        };
        until("miners work on that tip", SOON, &mut on_tip);
    }

    fn is(&mut self, node: usize, kind: &str) {
        until(kind, SOON + SOON, || match &self.nodes.states()[node].health {
            NodeHealth::Fault(fault) => fault.kind() == kind,
            NodeHealth::Ready => kind == "ready",
            NodeHealth::Connecting => false,
        });
    }

    fn source(&self) -> Option<usize> {
        self.nodes.states().iter().position(|state| state.is_source)
    }
}

#[test]
fn tips_come_at_once_and_reorganisations_are_followed() {
    let node = FakeNode::start();
    let first = node.mine(3);
    let mut farm = Farm::of(&[&node]);
    farm.mines_on(first);
    assert_eq!(farm.work, Some(WorkHealth::Up));
    let tip = node.mine(1);
    farm.mines_on(tip);
    let tip = node.reorganise(2, 1);
    farm.mines_on(tip);
    let state = &farm.nodes.states()[0];
    assert_eq!((state.tip, state.tip_source), (Some(tip), Some("wait")));
    assert!(state.is_source && state.latency.is_some() && state.template_age.is_some());
    let (checks, proposals) = (node.requests("getblockhash"), node.requests("proposal"));
    assert_eq!((checks, proposals), (1, 1), "a node that is well is checked and asked once");
}

#[test]
fn a_flood_of_tips_ends_on_the_last_one() {
    let node = FakeNode::start();
    node.mine(1);
    let mut farm = Farm::of(&[&node]);
    farm.is(0, "ready");
    for _ in 0..200 {
        node.mine(1);
        farm.look();
    }
    let last = node.mine(1);
    farm.mines_on(last);
    assert_eq!(farm.newest.as_ref().map(|newest| newest.height), Some(203));
    assert_eq!(farm.nodes.states()[0].failures, 0);
}

#[test]
fn every_fault_is_told_apart_and_the_node_is_taken_when_it_is_well() {
    let info = |chain: &str| {
        json!({
            "chain": chain, "blocks": 1, "headers": 1, "bestblockhash": "0".repeat(64),
            "initialblockdownload": false, "verificationprogress": 1.0, "warnings": "",
        })
    };
    let loading = json!({
        "chain": "regtest", "blocks": 0, "headers": 1, "bestblockhash": "0".repeat(64),
        "initialblockdownload": true, "verificationprogress": 0.1, "warnings": "",
    });
    let template = "getblocktemplate";
    let rows = [
        ("*", Habit::Status(401), "unauthorized"),
        ("*", Habit::Status(403), "refused"),
        ("*", Habit::Status(503), "busy"),
        ("*", Habit::Error(-28, "Loading block index…"), "warming"),
        (template, Habit::Error(-10, "is in initial sync"), "initial-download"),
        (template, Habit::Error(-9, "is not connected!"), "no-peers"),
        (
            template,
            Habit::Error(-8, "Support for 'blake2b' rule requires explicit client support"),
            "unknown-rule",
        ),
        (template, Habit::Body(b"<html>no</html>".to_vec()), "garbage"),
        (template, Habit::Result(json!({ "height": -1 })), "garbage"),
        (template, Habit::Huge(100_000_000), "garbage"),
        ("getblockchaininfo", Habit::Result(info("main")), "wrong-network"),
        ("getblockchaininfo", Habit::Result(info("signet")), "signet"),
        ("getblockchaininfo", Habit::Result(loading), "initial-download"),
        ("getblockhash", Habit::Result(json!("ab".repeat(32))), "wrong-network"),
        ("*", Habit::Cut, "unreachable"),
    ];
    let check = |(method, habit, kind): (&'static str, Habit, &'static str)| {
        let node = FakeNode::start();
        let tip = node.mine(1);
        node.has(method, habit.clone());
        let mut farm = Farm::of(&[&node]);
        farm.is(0, kind);
        farm.look();
        assert!(farm.newest.is_none(), "{habit:?}");
        assert_eq!(farm.work, Some(WorkHealth::Down), "{habit:?}");
        if !matches!(kind, "wrong-network" | "signet" | "unknown-rule") {
            node.heal();
            farm.mines_on(tip);
        }
    };
    thread::scope(|scope| {
        rows.map(|row| scope.spawn(move || check(row))).map(|row| {
            row.join().expect("the row holds");
        })
    });
}

#[test]
fn templates_that_cannot_be_are_refused_and_raise_no_earliest_time() {
    let unknown = json!("ab".repeat(32));
    // At that height regtest's subsidy has ended, so that the value fits.
    let far = json!({ "height": 700_000, "coinbasevalue": 0 });
    let rows = [
        (json!({ "coinbasevalue": 0 }), "coinbasevalue is 0, below"),
        (json!({ "previousblockhash": unknown }), "a block that it does not know"),
        (far, "height is 700000 on a tip of height 3"),
        (json!({ "mintime": 1_800_000_090 }), "at most on that tip"),
    ];
    for (change, said) in rows {
        let node = FakeNode::start();
        let tip = node.mine(3);
        let mut bad = node.template();
        let changed = change.as_object().expect("fields").iter();
        changed.for_each(|(field, value)| bad[field] = value.clone());
        node.has("getblocktemplate", Habit::Result(bad));
        let mut farm = Farm::of(&[&node]);
        farm.is(0, "garbage");
        let says = farm.nodes.states()[0].health.to_string();
        assert!(says.contains(said), "{says}");
        farm.look();
        assert!(farm.newest.is_none(), "{change} is mined");
        node.heal();
        farm.mines_on(tip);
        let min_ntime = farm.newest.as_ref().map(|newest| newest.min_ntime);
        assert_eq!(min_ntime, Some(1_800_000_003), "{change}");
    }
}

#[test]
fn a_node_that_stops_in_the_middle_keeps_miners_on_their_job() {
    let node = FakeNode::start();
    node.has("help", Habit::Result(json!("help: unknown command: waitfornewblock")));
    let tip = node.mine(1);
    let mut farm = Farm::of(&[&node]);
    farm.mines_on(tip);
    until("a long poll is open", SOON, || node.requests("getblocktemplate") == 2);
    node.has("getblocktemplate", Habit::Stall);
    // The long poll that was open before is answered still.
    let last = node.mine(1);
    farm.mines_on(last);
    let next = node.mine(1);
    farm.is(0, "stalled");
    farm.look();
    // Its tips still come, so there is work on the right one.
    assert_eq!(farm.tips.last(), Some(&(next, false)));
    node.heal();
    farm.mines_on(next);
    farm.is(0, "ready");
}

#[test]
fn no_long_poll_stands_between_a_header_and_a_node_that_waits_for_its_tip() {
    let node = FakeNode::start();
    let tip = node.mine(1);
    let mut farm = Farm::of(&[&node]);
    farm.mines_on(tip);
    for _ in 0..5 {
        let next = node.mine(1);
        farm.mines_on(next);
    }
    assert_eq!(node.long_polls(), 0);
    // The next node cannot wait, and gets them.
    let other = FakeNode::start();
    other.has("help", Habit::Error(-32601, "Method not found"));
    let tip = other.mine(1);
    let mut farm = Farm::of(&[&other]);
    farm.mines_on(tip);
    until("a long poll is open", SOON, || other.long_polls() == 1);
}

#[test]
fn a_backup_takes_over_from_a_node_that_hangs_and_gives_the_place_back() {
    let (main, backup) = (FakeNode::start(), FakeNode::start());
    let (tip, other) = (main.mine(2), backup.mine(2));
    assert_ne!(tip, other, "same height, another hash");
    let mut farm = Farm::of(&[&main, &backup]);
    farm.is(1, "ready");
    farm.mines_on(tip);
    main.has("*", Habit::Hang);
    farm.mines_on(other);
    assert_eq!(farm.source(), Some(1));
    farm.is(0, "slow");
    assert_eq!(farm.work, Some(WorkHealth::Up), "nobody was without work");
    main.heal();
    farm.is(0, "ready");
    assert_eq!(farm.source(), Some(1), "of equals the first stays");
    let higher = main.mine(1);
    farm.mines_on(higher);
    assert_eq!(farm.source(), Some(0));
}

#[test]
fn a_node_that_goes_down_is_found_again_and_nothing_spins() {
    let node = FakeNode::start();
    let tip = node.mine(1);
    let mut farm = Farm::of(&[&node]);
    farm.mines_on(tip);
    node.go_down();
    farm.is(0, "unreachable");
    until("the engine is told", SOON, || {
        farm.look();
        farm.work == Some(WorkHealth::Down)
    });
    node.heal();
    let next = node.mine(1);
    farm.mines_on(next);
    assert_eq!(farm.work, Some(WorkHealth::Up));
    // A node that answers at once and always wrongly.
    node.has("*", Habit::Status(503));
    farm.is(0, "busy");
    let before = node.requests("getblockchaininfo") + node.requests("getbestblockhash");
    let since = Instant::now();
    until("three seconds", SOON, || since.elapsed() > Duration::from_secs(3));
    let after = node.requests("getblockchaininfo") + node.requests("getbestblockhash");
    assert!(after - before < 80, "{} requests in three seconds", after - before);
}

#[test]
fn a_cookie_that_cannot_be_read_is_told_with_its_path_and_the_systems_reason() {
    let node = FakeNode::start();
    node.mine(1);
    let folder = std::env::temp_dir();
    let missing = folder.join("headframe-has-no-such-cookie");
    for (path, reason) in [(missing, "No such file"), (folder, "Is a directory")] {
        let endpoint = Endpoint::new(&node.url(), Auth::Cookie(path.clone())).expect("good");
        let mut farm = Farm::at(Network::Regtest, [endpoint].into_iter());
        farm.is(0, "cookie");
        let says = farm.nodes.states()[0].health.to_string();
        assert!(says.contains(&path.display().to_string()) && says.contains(reason), "{says}");
    }
    assert_eq!(node.requests("getblockchaininfo"), 0, "nobody asks without a right to");
}

#[test]
fn a_node_that_would_refuse_our_blocks_is_left_out() {
    let (main, backup) = (FakeNode::start(), FakeNode::start());
    main.has("proposal", Habit::Result(json!("bad-txns-vout-script-toolarge")));
    main.mine(1);
    let tip = backup.mine(1);
    let mut farm = Farm::of(&[&main, &backup]);
    farm.mines_on(tip);
    farm.is(0, "proposal-refused");
    assert_eq!(farm.source(), Some(1));
}

#[test]
fn a_panic_costs_one_node_a_moment() {
    let (sender, news) = sync_channel(NEWS_MAX);
    let post = Post { node: 3, clock: Clock::start(), sender };
    let runs = AtomicUsize::new(0);
    keep_running(&post, &Bell::default(), || {
        assert!(runs.fetch_add(1, Relaxed) == 2, "two runs fail on purpose");
    });
    assert_eq!(runs.load(Relaxed), 3);
    let told = news
        .try_iter()
        .filter(|news| news.node == 3 && matches!(news.what, What::Observed(Observed::Failed(_))));
    assert_eq!(told.count(), 2);
}

#[test]
fn threads_end_with_the_link() {
    let node = FakeNode::start();
    let tip = node.mine(1);
    let mut farm = Farm::of(&[&node]);
    farm.mines_on(tip);
    drop(farm);
    let mut before = (usize::MAX, Instant::now());
    until("no requests for six seconds", Duration::from_secs(60), || {
        let now = node.requests("waitfornewblock");
        if now != before.0 {
            before = (now, Instant::now());
        }
        before.1.elapsed() > Duration::from_secs(6)
    });
}
