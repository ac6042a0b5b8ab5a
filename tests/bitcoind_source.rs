//! Templates from real bitcoinds, through the threads that a farm runs: tips over ZMQ and without,
//! floods, blocks taken back and allowed again, restarts, a reindex, a node that is stopped, and a
//! backup with another tip of the same height.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::thread;
use std::time::{Duration, Instant};

use node::payout::Network;
use node::source::{
    NodeConfig, NodeHealth, Nodes, ProposalParts, SourceConfig, start as start_source,
};
use node::{NodeLink, WorkHealth};
use pow::Template;
use regtest::Bitcoind;

/// Long for what a node does at once, on a machine that does other things too.
const SOON: Duration = Duration::from_secs(30);

struct Farm {
    link: NodeLink,
    nodes: Nodes,
    work: Option<WorkHealth>,
    newest: Option<Arc<Template>>,
    /// Every template so far: tip, height, whether it is a full one.
    seen: Vec<(String, u32, bool)>,
    min_ntimes: BTreeMap<String, u32>,
}

impl Farm {
    fn of(network: Network, nodes: &[(&Bitcoind, bool)]) -> Farm {
        let config = |(node, zmq): &(&Bitcoind, bool)| NodeConfig {
            name: node.url().into(),
            endpoint: node.endpoint(),
            zmq_hashblock: zmq.then(|| node.zmq()),
        };
        let proposal = ProposalParts {
            payout_script: vec![0x51],
            signature: b"/headframe/".to_vec(),
            extranonce_size: 8,
        };
        let nodes = nodes.iter().map(config).collect();
        let config = SourceConfig { nodes, network, proposal, journal: None };
        let (link, nodes) = start_source(config).expect("there are threads");
        let (seen, min_ntimes) = (Vec::new(), BTreeMap::new());
        Farm { link, nodes, work: None, newest: None, seen, min_ntimes }
    }

    fn look(&mut self) {
        self.work = self.link.try_work().or(self.work);
        let Some(template) = self.link.try_template() else { return };
        let tip = template.prev_hash.to_string();
        let min_ntime = *self.min_ntimes.entry(tip.clone()).or_insert(template.min_ntime);
        assert_eq!(template.min_ntime, min_ntime, "one value per tip");
        self.seen.push((tip, template.height, template.witness_commitment.is_some()));
        self.newest = Some(template);
    }

    /// Waits for a full template on this tip, and tells how long that took.
    fn mines_on(&mut self, tip: &str) -> Duration {
        let since = Instant::now();
        until(&format!("work on {tip}"), || {
            self.look();
            self.seen.last().is_some_and(|(on, _, full)| on == tip && *full)
        });
        since.elapsed()
    }

    fn is(&mut self, node: usize, kind: &str) {
        until(kind, || {
            self.look();
            match &self.nodes.states()[node].health {
                NodeHealth::Fault(fault) => fault.kind() == kind,
                NodeHealth::Ready => kind == "ready",
                NodeHealth::Connecting => false,
            }
        });
    }

    fn source(&self) -> Option<usize> {
        self.nodes.states().iter().position(|state| state.is_source)
    }

    fn has_work(&mut self, health: WorkHealth) {
        until("the word about the work", || {
            self.look();
            self.work == Some(health)
        });
    }
}

fn until(what: &str, mut is_so: impl FnMut() -> bool) {
    let end = Instant::now() + SOON + SOON;
    while !is_so() {
        assert!(Instant::now() < end, "still not: {what}");
        thread::park_timeout(Duration::from_millis(1));
    }
}

#[test]
fn tips_are_followed_up_in_a_flood_back_and_up_again() {
    for zmq in [true, false] {
        let start = if zmq { Bitcoind::start_with_zmq } else { Bitcoind::start };
        let Some(mut node) = start(&[]) else { return };
        let mut farm = Farm::of(Network::Regtest, &[(&node, zmq)]);
        // A fresh regtest, whose tip is years old, is mined.
        let first = node.tip();
        farm.mines_on(&first);
        assert_eq!(farm.newest.as_ref().map(|newest| newest.height), Some(1));
        let way = if zmq { "zmq" } else { "wait" };
        until(way, || farm.nodes.states()[0].tip_source == Some(way));
        for _ in 0..10 {
            let tip = node.mine(1).pop().expect("one block");
            farm.mines_on(&tip);
        }
        // An empty mempool's template is as quick as a header; a full one's comes after it.
        node.fill_mempool(1_000);
        let tip = node.mine_empty();
        farm.mines_on(&tip);
        let of_tip: Vec<bool> =
            farm.seen.iter().filter(|(on, _, _)| *on == tip).map(|(_, _, full)| *full).collect();
        assert_eq!(of_tip[..2], [false, true], "first from the header alone");
        assert_eq!(farm.newest.as_ref().map(|newest| newest.transactions.len()), Some(1_000));
        // In 60 s a farm hears 200; here they come as quickly as the node makes them.
        let flood = node.mine(200);
        farm.mines_on(&flood[199]);
        node.invalidate(&flood[199]);
        farm.mines_on(&flood[198]);
        node.invalidate(&flood[195]);
        farm.mines_on(&flood[194]);
        let other = node.mine_empty();
        farm.mines_on(&other);
        node.reconsider(&flood[195]);
        farm.mines_on(&flood[199]);
        let state = &farm.nodes.states()[0];
        assert_eq!((state.failures, &state.health), (0, &NodeHealth::Ready), "{state:?}");
        assert_eq!(state.warnings, Vec::<String>::new());
        assert_eq!(farm.work, Some(WorkHealth::Up));
    }
}

#[test]
fn a_node_that_restarts_with_another_cookie_or_a_reindex_is_found_again() {
    let Some(mut node) = Bitcoind::start(&[]) else { return };
    let tip = node.mine(150).pop().expect("many blocks");
    let mut farm = Farm::of(Network::Regtest, &[(&node, false)]);
    farm.mines_on(&tip);
    node.stop();
    farm.has_work(WorkHealth::Down);
    let before = farm.seen.len();
    node.run();
    farm.has_work(WorkHealth::Up);
    farm.mines_on(&tip);
    node.kill();
    farm.has_work(WorkHealth::Down);
    node.run_unready(&["-reindex"]);
    farm.has_work(WorkHealth::Up);
    let next = node.mine(1).pop().expect("one block");
    farm.mines_on(&next);
    let lower = farm.seen[before..].iter().find(|(_, height, _)| *height < 151);
    assert_eq!(lower, None, "nobody mines on what a reindex has found so far");
}

#[test]
fn a_backup_of_the_same_height_takes_over_from_a_node_that_is_stopped() {
    let Some(mut main) = Bitcoind::start(&[]) else { return };
    let Some(mut backup) = Bitcoind::start(&[]) else { return };
    let tip = main.mine(3).pop().expect("three blocks");
    backup.mine(2);
    let other = backup.mine_empty();
    assert_eq!(main.height(), backup.height());
    assert_ne!(tip, other);
    let mut farm = Farm::of(Network::Regtest, &[(&main, false), (&backup, false)]);
    farm.is(1, "ready");
    farm.mines_on(&tip);
    assert_eq!(farm.source(), Some(0));
    main.signal("STOP");
    let silent = farm.mines_on(&other);
    assert!(silent < Duration::from_secs(15), "{silent:?} without a source");
    assert_eq!((farm.source(), farm.work), (Some(1), Some(WorkHealth::Up)));
    main.signal("CONT");
    farm.is(0, "ready");
    assert_eq!(farm.source(), Some(1), "of equals the first stays");
    let higher = main.mine(1).pop().expect("one block");
    farm.mines_on(&higher);
    assert_eq!(farm.source(), Some(0));
    main.kill();
    farm.mines_on(&other);
    assert_eq!(farm.work, Some(WorkHealth::Up));
}

#[test]
fn another_network_and_a_node_without_peers_are_told_apart() {
    let Some(regtest) = Bitcoind::start(&[]) else { return };
    let mut farm = Farm::of(Network::Main, &[(&regtest, false)]);
    farm.is(0, "wrong-network");
    let Some(mut alone) = Bitcoind::prepare_on("main", &["-connect=0"]) else {
        return;
    };
    alone.run();
    let mut farm = Farm::of(Network::Main, &[(&alone, false)]);
    farm.is(0, "no-peers");
    assert_eq!((farm.newest.is_none(), farm.work), (true, Some(WorkHealth::Down)));
}
