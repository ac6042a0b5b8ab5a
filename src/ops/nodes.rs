//! From the nodes of the configuration to what `node::source` starts from, and what it knows of
//! them as people read it. `run` starts it for good, `check --peers` for a look.

use std::time::{Duration, Instant};

use node::blocks::{Journal, JournaledBlock};
use node::rpc::{Auth, Endpoint};
use node::source::{NodeConfig, NodeFault, NodeHealth, NodeState, ProposalParts, SourceConfig};

use crate::config::payout::EXTRANONCE1_BYTES;
use crate::config::{Bitcoind, Config, Login, Nodes, Spot};
use crate::finding::Finding;
use crate::logins::{read_password, spot};

/// A node that was not heard by then is not there: it is past every limit of a first answer.
const HEARD_LIMIT: Duration = Duration::from_secs(25);
/// How often the nodes are looked at meanwhile.
const LOOK_EVERY: Duration = Duration::from_millis(50);
/// What a node warns of is asked right after its first template, and answered within this.
const WARNINGS_LIMIT: Duration = Duration::from_secs(2);

/// What `node::source` starts from.
pub(crate) fn source_config(
    config: &Config,
    nodes: &Nodes,
    journal: Option<(Journal, Vec<JournaledBlock>)>,
) -> Result<SourceConfig, Finding> {
    let proposal = ProposalParts {
        payout_script: config.payout.script.clone().unwrap_or_default(),
        signature: config.payout.signature.clone(),
        extranonce_size: EXTRANONCE1_BYTES + usize::from(config.extranonce2_size()),
    };
    let read = nodes.nodes.iter().enumerate().map(|(index, node)| node_config(index, node));
    let read: Result<Vec<NodeConfig>, Finding> = read.collect();
    Ok(SourceConfig { nodes: read?, network: nodes.network, proposal, journal })
}

fn node_config(index: usize, node: &Bitcoind) -> Result<NodeConfig, Finding> {
    let auth = match &node.login {
        Login::Cookie(path) => Auth::Cookie(path.clone()),
        Login::Password { user, password } => {
            Auth::User { user: user.clone(), password: password.0.clone() }
        }
        Login::PasswordFile { user, path } => {
            let fault = |what| Finding::fault(spot(index, "password_file"), what).of(&node.name);
            Auth::User { user: user.clone(), password: read_password(path).map_err(fault)? }
        }
    };
    let endpoint = Endpoint::new(&node.url, auth).map_err(|error| {
        let what = format!("{error}; {}", error.remedy());
        Finding::fault(spot(index, "rpc"), what).of(&node.name)
    })?;
    let (name, zmq_hashblock) = (node.name.as_str().into(), node.zmq_hashblock.clone());
    Ok(NodeConfig { name, endpoint, zmq_hashblock })
}

/// Asks every node what `run` would ask, and says what is wrong and what is well.
pub(crate) fn ask(config: &Config, nodes: &Nodes) -> (Vec<Finding>, Vec<String>) {
    let started = source_config(config, nodes, None).and_then(|source| {
        node::source::start(source)
            .map_err(|error| Finding::fault(Spot::FILE, format!("no thread: {error}; free some")))
    });
    let (link, board) = match started {
        Ok(started) => started,
        Err(finding) => return (vec![finding], Vec::new()),
    };
    let states = heard(|| board.states());
    drop(link);
    let found = states.iter().enumerate().flat_map(|(index, state)| of_state(index, nodes, state));
    let well = states.iter().filter(|state| state.health == NodeHealth::Ready).map(summary);
    (found.collect(), well.collect())
}

/// Looks until every node has been heard, and what it warns of.
fn heard(look: impl Fn() -> Vec<NodeState>) -> Vec<NodeState> {
    let mut until = Instant::now() + HEARD_LIMIT;
    let mut settling = false;
    loop {
        let states = look();
        let silent = states.iter().any(|state| state.health == NodeHealth::Connecting);
        if !silent && !settling {
            (settling, until) = (true, Instant::now() + WARNINGS_LIMIT);
        }
        if Instant::now() >= until {
            return states;
        }
        std::thread::sleep(LOOK_EVERY);
    }
}

/// What is to be said of one node, at the value that would mend it.
fn of_state(index: usize, nodes: &Nodes, state: &NodeState) -> Vec<Finding> {
    let mut found = Vec::new();
    match &state.health {
        NodeHealth::Ready => {}
        NodeHealth::Connecting => {
            let what = sentence(&NodeFault::Slow);
            found.push(Finding::fault(spot(index, "rpc"), what).of(&state.name));
        }
        NodeHealth::Fault(fault) => {
            let spot = spot_of(fault, index, &nodes.nodes[index].login);
            found.push(Finding::fault(spot, sentence(fault)).of(&state.name));
        }
    }
    found.extend(state.warnings.iter().map(|words| {
        let key = if words.contains("zmq_hashblock") { "zmq_hashblock" } else { "rpc" };
        Finding::warning(spot(index, key), words.clone()).of(&state.name)
    }));
    found
}

/// The value that a fault is about.
fn spot_of(fault: &NodeFault, index: usize, login: &Login) -> Spot {
    match fault {
        NodeFault::Unauthorized => match login {
            Login::Cookie(_) => spot(index, "cookie_file"),
            Login::Password { .. } => spot(index, "password"),
            Login::PasswordFile { .. } => spot(index, "password_file"),
        },
        NodeFault::Cookie(_) => spot(index, "cookie_file"),
        NodeFault::WrongNetwork { .. } | NodeFault::Signet => Spot::of("node", "network"),
        NodeFault::ProposalRefused(_) => Spot::of("payout", ""),
        _ => spot(index, "rpc"),
    }
}

/// A fault as a sentence about the node, with the remedy.
pub(crate) fn sentence(fault: &NodeFault) -> String {
    format!("the node {fault}; {}", remedy(fault))
}

/// What can be done about a fault; some pass by themselves.
pub(crate) fn remedy(fault: &NodeFault) -> &'static str {
    fault.remedy().unwrap_or(match fault {
        NodeFault::Warming(_) | NodeFault::InitialDownload { .. } => "wait until it is done",
        _ => "see that a bitcoind answers there",
    })
}

/// What is well with a node.
fn summary(state: &NodeState) -> String {
    let height = state.height.map_or("?".to_owned(), |height| height.to_string());
    let latency = state.latency.map_or("?".to_owned(), |time| format!("{:.3}", time.as_secs_f64()));
    let tips = state.tip_source.unwrap_or("poll");
    let name = &state.name;
    format!("node {name}: ready at height {height}, a template in {latency} s, tips by {tips}")
}

#[cfg(test)]
mod tests {
    use node::payout::Network;

    use super::*;

    fn state(health: NodeHealth) -> NodeState {
        NodeState {
            name: "10.0.0.2:8332".into(),
            is_source: false,
            health,
            failing_for: None,
            height: Some(850_000),
            tip: None,
            template_age: None,
            latency: Some(Duration::from_millis(250)),
            tip_source: Some("zmq"),
            failures: 0,
            warnings: Vec::new(),
        }
    }

    fn two_nodes() -> Nodes {
        let node = |name: &str, login| Bitcoind {
            name: name.to_owned(),
            url: format!("http://{name}"),
            login,
            zmq_hashblock: None,
        };
        let nodes = vec![
            node("127.0.0.1:8332", Login::Cookie("/c".into())),
            node("10.0.0.2:8332", Login::PasswordFile { user: "u".into(), path: "/p".into() }),
        ];
        Nodes { network: Network::Main, nodes }
    }

    #[test]
    fn every_fault_stands_at_the_value_that_would_mend_it() {
        let backup = |key| Spot { section: "node.backup", table: 0, key, item: 0 };
        let rows = [
            (NodeFault::Unauthorized, backup("password_file")),
            (NodeFault::Cookie("/x: Is a directory".into()), backup("cookie_file")),
            (NodeFault::Signet, Spot::of("node", "network")),
            (NodeFault::ProposalRefused("bad-txns".into()), Spot::of("payout", "")),
            (NodeFault::NoPeers, backup("rpc")),
            (NodeFault::Warming("Loading…".into()), backup("rpc")),
            (NodeFault::Garbage("x".into()), backup("rpc")),
        ];
        for (fault, spot) in rows {
            let found = of_state(1, &two_nodes(), &state(NodeHealth::Fault(fault)));
            assert!(found[0].is_fault() && found[0].spot == spot, "{found:?}");
            let (what, remedy) = found[0].what.split_once("; ").expect("a remedy");
            assert!(what.starts_with("the node ") && !remedy.is_empty(), "{found:?}");
        }
    }

    #[test]
    fn warnings_are_no_faults_and_the_well_are_summed_up() {
        let warned = NodeState {
            warnings: vec!["zmq_hashblock is x; set y".to_owned(), "no peers; connect".to_owned()],
            ..state(NodeHealth::Ready)
        };
        let found = of_state(0, &two_nodes(), &warned);
        assert!(found.iter().all(|finding| !finding.is_fault()), "{found:?}");
        assert_eq!(found[0].spot, Spot::of("node", "zmq_hashblock"));
        assert_eq!(found[1].spot, Spot::of("node", "rpc"));
        assert_eq!(
            summary(&warned),
            "node 10.0.0.2:8332: ready at height 850000, a template in 0.250 s, tips by zmq"
        );
    }
}
