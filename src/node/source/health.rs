//! How each node is, in the words of an operator: what is wrong, whose fault it is, what to do.
//!
//! [`Board`] holds the newest state of every node; [`Nodes`] is the handle through which pages,
//! metrics and logs look at it. The source's thread alone writes. Nothing is decided here.

use std::fmt;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use pow::Hash256;

use crate::payout::Network;

/// Why no templates are taken from a node.
#[derive(Clone, Debug, PartialEq)]
pub enum NodeFault {
    /// No connection: nothing listens there, or the network between is cut.
    Unreachable(String),
    /// Its cookie cannot be read; the path, and why. It is down, or the operator's fault: the path
    /// is another one, or this user may not read it.
    Cookie(String),
    /// The operator's fault: cookie, user or password are not the node's.
    Unauthorized,
    /// The operator's fault: it follows another chain than the one that is configured.
    WrongNetwork {
        /// The chain that is configured.
        wanted: Network,
        /// What the node says, or what its first block is.
        found: String,
    },
    /// Signet blocks need the signature of its federation, so nobody else can mine there.
    Signet,
    /// It starts, with its own words (RPC error -28).
    Warming(String),
    /// It does not know the best chain yet: initial download, or a reindex (RPC error -10).
    InitialDownload {
        /// The node's own estimate, 0 to 1.
        progress: f64,
    },
    /// It has no peers, so that its tip may be old and a block would reach nobody (RPC error -9).
    NoPeers,
    /// Its templates need rules that we do not know: newer consensus than ours.
    UnknownRule(String),
    /// It has no thread left for our requests (HTTP 503).
    Busy,
    /// It did not begin to answer in time.
    Slow,
    /// It began to answer and stopped in the middle.
    Stalled,
    /// It answered what no node should, with the first thing that is wrong.
    Garbage(String),
    /// It refused a request, with its own words.
    Refused(String),
    /// It would not take our block: its reason for a proposal with our real coinbase.
    ProposalRefused(String),
}

impl NodeFault {
    /// One word for metrics and for telling two faults apart.
    pub fn kind(&self) -> &'static str {
        match self {
            NodeFault::Unreachable(_) => "unreachable",
            NodeFault::Cookie(_) => "cookie",
            NodeFault::Unauthorized => "unauthorized",
            NodeFault::WrongNetwork { .. } => "wrong-network",
            NodeFault::Signet => "signet",
            NodeFault::Warming(_) => "warming",
            NodeFault::InitialDownload { .. } => "initial-download",
            NodeFault::NoPeers => "no-peers",
            NodeFault::UnknownRule(_) => "unknown-rule",
            NodeFault::Busy => "busy",
            NodeFault::Slow => "slow",
            NodeFault::Stalled => "stalled",
            NodeFault::Garbage(_) => "garbage",
            NodeFault::Refused(_) => "refused",
            NodeFault::ProposalRefused(_) => "proposal-refused",
        }
    }

    /// Whether its tip must not be followed either: another chain, an old part of it, or one on
    /// which our blocks would not count. With the other faults only its templates are missing.
    pub fn is_distrust(&self) -> bool {
        match self {
            NodeFault::WrongNetwork { .. }
            | NodeFault::Signet
            | NodeFault::InitialDownload { .. }
            | NodeFault::NoPeers
            | NodeFault::UnknownRule(_)
            | NodeFault::ProposalRefused(_) => true,
            NodeFault::Unreachable(_)
            | NodeFault::Cookie(_)
            | NodeFault::Unauthorized
            | NodeFault::Warming(_)
            | NodeFault::Busy
            | NodeFault::Slow
            | NodeFault::Stalled
            | NodeFault::Garbage(_)
            | NodeFault::Refused(_) => false,
        }
    }

    /// What the operator can do, where anything.
    pub fn remedy(&self) -> Option<&'static str> {
        match self {
            NodeFault::Unreachable(_) => {
                Some("is bitcoind running with server=1, and do rpcbind and rpcallowip let us in?")
            }
            NodeFault::Cookie(_) => Some(
                "start bitcoind, correct cookie_file, or let this user read it \
                 (rpccookieperms=group)",
            ),
            NodeFault::Unauthorized => {
                Some("give its cookie_file, or user and password as in its rpcauth")
            }
            NodeFault::WrongNetwork { .. } => {
                Some("correct [node] network, or the port in [node] rpc")
            }
            NodeFault::Signet => Some("mine on regtest or testnet4 instead"),
            NodeFault::NoPeers => Some("let it connect: addnode=, or look at its firewall"),
            NodeFault::UnknownRule(_) => Some("a newer Headframe may know the rule"),
            NodeFault::Busy => Some("raise its rpcthreads and rpcworkqueue"),
            NodeFault::Slow | NodeFault::Stalled => Some("look at its disk, memory and load"),
            NodeFault::ProposalRefused(_) => Some("correct [payout], or that node's policy"),
            NodeFault::Warming(_)
            | NodeFault::InitialDownload { .. }
            | NodeFault::Garbage(_)
            | NodeFault::Refused(_) => None,
        }
    }
}

impl fmt::Display for NodeFault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            NodeFault::Unreachable(why) => write!(f, "cannot be reached: {why}"),
            NodeFault::Cookie(why) => {
                write!(f, "cannot be asked, for its cookie cannot be read: {why}")
            }
            NodeFault::Unauthorized => f.write_str("refuses our credentials (HTTP 401)"),
            NodeFault::WrongNetwork { wanted, found } => {
                write!(f, "follows {found}, but {wanted} is configured")
            }
            NodeFault::Signet => {
                f.write_str("follows signet, whose blocks only its federation can sign")
            }
            NodeFault::Warming(words) => write!(f, "is starting: {words}"),
            NodeFault::InitialDownload { progress } => {
                write!(f, "is still loading the chain: {:.2} % of it is there", progress * 100.0)
            }
            NodeFault::NoPeers => f.write_str("has no peers"),
            NodeFault::UnknownRule(rule) => write!(f, "needs the rule {rule:?}, unknown to us"),
            NodeFault::Busy => f.write_str("is busy: its work queue is full (HTTP 503)"),
            NodeFault::Slow => f.write_str("does not answer in time"),
            NodeFault::Stalled => f.write_str("stopped in the middle of an answer"),
            NodeFault::Garbage(what) => write!(f, "answered nonsense: {what}"),
            NodeFault::Refused(words) => write!(f, "refused a request: {words}"),
            NodeFault::ProposalRefused(reason) => {
                write!(f, "would refuse our blocks: {reason}")
            }
        }
    }
}

impl std::error::Error for NodeFault {}

/// Whether templates are taken from a node.
#[derive(Clone, Debug, PartialEq)]
pub enum NodeHealth {
    /// It was not heard yet.
    Connecting,
    /// Its newest template can be mined.
    Ready,
    /// It cannot be used.
    Fault(NodeFault),
}

impl fmt::Display for NodeHealth {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            NodeHealth::Connecting => f.write_str("connecting"),
            NodeHealth::Ready => f.write_str("ready"),
            NodeHealth::Fault(fault) => fault.fmt(f),
        }
    }
}

/// One node at one moment.
#[derive(Clone, Debug, PartialEq)]
pub struct NodeState {
    /// Its name in the configuration.
    pub name: Arc<str>,
    /// Whether miners work on its templates.
    pub is_source: bool,
    /// Whether they could.
    pub health: NodeHealth,
    /// For how long its templates have failed; none while it is ready.
    pub failing_for: Option<Duration>,
    /// Height of its best block.
    pub height: Option<u32>,
    /// Hash of its best block, in header byte order.
    pub tip: Option<Hash256>,
    /// Age of its newest template.
    pub template_age: Option<Duration>,
    /// How long it took to answer with that template.
    pub latency: Option<Duration>,
    /// How news of a tip come from it: "zmq", "wait", "long-poll" or "poll".
    pub tip_source: Option<&'static str>,
    /// How often it became unusable.
    pub failures: u64,
    /// What the operator should look at, each with the settings to change.
    pub warnings: Vec<String>,
}

/// A look at the nodes, for pages, metrics and logs. Clones share it.
#[derive(Clone)]
pub struct Nodes {
    board: Arc<Board>,
}

impl Nodes {
    /// Every node in the order of the configuration.
    pub fn states(&self) -> Vec<NodeState> {
        let now = Instant::now();
        let places = self.board.lock();
        let aged = |place: &Place| {
            let age = place.template_at.map(|at| now.saturating_duration_since(at));
            NodeState { template_age: age, ..place.state.clone() }
        };
        places.iter().map(aged).collect()
    }
}

impl fmt::Debug for Nodes {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_list().entries(self.states()).finish()
    }
}

/// The newest state of every node.
pub(super) struct Board {
    places: Mutex<Vec<Place>>,
}

/// One node's place on the board.
pub(super) struct Place {
    /// Its state; `template_age` is worked out when somebody looks.
    pub(super) state: NodeState,
    /// When its newest template came.
    pub(super) template_at: Option<Instant>,
}

impl Board {
    /// A board of nodes that were not heard yet.
    pub(super) fn new(names: impl Iterator<Item = Arc<str>>) -> Arc<Board> {
        let place = |name| Place {
            state: NodeState {
                name,
                is_source: false,
                health: NodeHealth::Connecting,
                failing_for: None,
                height: None,
                tip: None,
                template_age: None,
                latency: None,
                tip_source: None,
                failures: 0,
                warnings: Vec::new(),
            },
            template_at: None,
        };
        Arc::new(Board { places: Mutex::new(names.map(place).collect()) })
    }

    /// The handle for those who look.
    pub(super) fn nodes(self: &Arc<Board>) -> Nodes {
        Nodes { board: self.clone() }
    }

    /// Changes one node's place.
    pub(super) fn change(&self, node: usize, change: impl FnOnce(&mut Place)) {
        change(&mut self.lock()[node]);
    }

    // A poisoned board still holds whole values: each field is replaced at once.
    fn lock(&self) -> MutexGuard<'_, Vec<Place>> {
        self.places.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_look_shows_ages_that_grow() {
        let board = Board::new(["main".into(), "backup".into()].into_iter());
        let nodes = board.nodes();
        assert!(nodes.states().iter().all(|state| state.template_age.is_none()));
        board.change(1, |place| place.template_at = Some(Instant::now()));
        board.change(1, |place| place.state.health = NodeHealth::Ready);
        let states = nodes.states();
        assert_eq!((states[0].health.clone(), &*states[0].name), (NodeHealth::Connecting, "main"));
        let age = states[1].template_age.expect("a template came");
        assert!(nodes.states()[1].template_age.expect("it is still there") >= age);
    }

    #[test]
    fn a_fault_reads_as_a_sentence_after_the_name() {
        let wanted = Network::Main;
        let rows = [
            (
                NodeFault::Warming("Loading block index…".into()),
                "is starting: Loading block index…",
            ),
            (
                NodeFault::WrongNetwork { wanted, found: "regtest".into() },
                "follows regtest, but main is configured",
            ),
            (
                NodeFault::InitialDownload { progress: 0.125 },
                "is still loading the chain: 12.50 % of it is there",
            ),
        ];
        for (fault, sentence) in rows {
            assert_eq!(fault.to_string(), sentence);
        }
    }
}
