//! From one or several bitcoinds to one stream of templates.
//!
//! ```text
//! node 0:  node_thread ──┐ templates, faults
//!          tip_thread  ──┤ tips, signs of life        ┌► NodeEnd: templates, is there work
//! node 1:  …           ──┴──► `nodes` thread: Choice ─┤
//!                                                     └► Board: what pages and metrics show
//! ```
//! Read `choice` (which node is the source, what is published next: pure), then `node_thread` and
//! `tip_thread` (what is asked of a node and when), then `health` (what operators see of it).
//! `zmtp`, `proposal` and `warnings` are pure parts of those.
//!
//! Each thread belongs to one node and blocks in one request at a time, under a limit; after a
//! failure it pauses, 0.1 s to 5 s. So a node that is silent, slow, wrong or full of errors costs
//! nobody else anything, and megabytes of JSON are read here, never on the coordinator.
//!
//! Blocks go their own way (`blocks`), with threads and connections of their own.

pub mod choice;
mod health;
mod node_thread;
mod poller;
mod post;
mod proposal;
mod tip_thread;
mod warnings;
pub mod zmtp;

#[cfg(test)]
mod fake_node;
#[cfg(test)]
mod tests;

use std::io;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::sync::mpsc::{Receiver, RecvTimeoutError, sync_channel};
use std::thread;
use std::time::{Duration, Instant};

pub use health::{NodeFault, NodeHealth, NodeState, Nodes};
pub use proposal::{ProposalParts, proposal};
pub use warnings::{Sight, warnings};

use crate::blocks::{self, Journal, JournaledBlock, Submitter};
use crate::link::{NodeEnd, NodeLink, link};
use crate::payout::Network;
use crate::rpc::Endpoint;
use choice::{Choice, Note, Observed, Output};
use health::Board;
use node_thread::NodeThread;
use post::{Backoff, Bell, Clock, NEWS_MAX, News, Post, SharedBell, Voice, What};
use tip_thread::TipThread;

/// How often the choice is told the time, and the engine looked after.
const TICK: Duration = Duration::from_millis(250);

/// One bitcoind.
#[derive(Clone, Debug)]
pub struct NodeConfig {
    /// What logs, pages and metrics call it.
    pub name: Arc<str>,
    /// Where its RPC is, and who we are to it.
    pub endpoint: Endpoint,
    /// Where it publishes `hashblock`, as `tcp://host:port`.
    pub zmq_hashblock: Option<String>,
}

/// Where work comes from and where blocks go to.
pub struct SourceConfig {
    /// The nodes; the first is preferred.
    pub nodes: Vec<NodeConfig>,
    /// The chain that all of them must follow.
    pub network: Network,
    /// What each of them is asked about once, before its templates are mined.
    pub proposal: ProposalParts,
    /// Where blocks are kept until they are settled, and what it held at the start.
    pub journal: Option<(Journal, Vec<JournaledBlock>)>,
}

/// Starts the threads of every node. They end once the link is dropped and their requests, none
/// of which is waited for, are answered. No node needs to be there yet.
///
/// # Errors
/// The host has no thread left.
///
/// # Panics
/// There is no node.
pub fn start(config: SourceConfig) -> io::Result<(NodeLink, Nodes)> {
    let submitters = |node: &NodeConfig| blocks::rpc::submitters(&node.endpoint);
    let submitters = config.nodes.iter().map(submitters).collect();
    start_with(config, submitters)
}

fn start_with(
    config: SourceConfig,
    submitters: Vec<Vec<Box<dyn Submitter>>>,
) -> io::Result<(NodeLink, Nodes)> {
    assert!(!config.nodes.is_empty(), "a source needs a node");
    let (link, end) = link();
    blocks::start(end.clone(), config.journal, submitters)?;
    let board = Board::new(config.nodes.iter().map(|node| node.name.clone()));
    let nodes = board.nodes();
    let (sender, news) = sync_channel(NEWS_MAX);
    let clock = Clock::start();
    let mut bells = Vec::new();
    for (node, config_of_node) in config.nodes.iter().enumerate() {
        let post = Post { node, clock, sender: sender.clone() };
        let bell = SharedBell::default();
        bells.push(bell.clone());
        let (network, parts) = (config.network, config.proposal.clone());
        let (of_node, to, rung) = (config_of_node.clone(), post.clone(), bell.clone());
        let templates = move || {
            NodeThread::new(&of_node, network, parts.clone(), to.clone(), rung.clone()).run();
        };
        let (of_node, to, rung) = (config_of_node.clone(), post.clone(), bell.clone());
        let tips = move || TipThread::new(&of_node, to.clone(), rung.clone()).run();
        let builder = |name: &str| thread::Builder::new().name(format!("{name}-{node}"));
        let (to, rung) = (post.clone(), bell.clone());
        builder("node").spawn(move || keep_running(&to, &rung, templates))?;
        builder("tip").spawn(move || keep_running(&post, &bell, tips))?;
    }
    let source = Source {
        choice: Choice::new(config.network, config.nodes.len()),
        names: config.nodes.into_iter().map(|node| node.name).collect(),
        end,
        board,
        bells,
        warnings: Vec::new(),
    };
    thread::Builder::new().name("nodes".into()).spawn(move || source.run(&news, clock))?;
    Ok((link, nodes))
}

/// Runs one of a node's threads to its end. A panic in it is a fault of ours that this node's
/// answers brought out: the node is out of use, and asked again from the beginning.
fn keep_running(post: &Post, bell: &Bell, run: impl Fn()) {
    let mut backoff = Backoff::new();
    while catch_unwind(AssertUnwindSafe(&run)).is_err() {
        tracing::error!(node = post.node, "a panic in a node's thread; please report it");
        let fault = NodeFault::Garbage("what we have a fault with: please report it".to_owned());
        post.observed(Observed::Failed(fault));
        if bell.pause(backoff.next()) {
            return;
        }
    }
}

/// The thread that decides, and that alone talks to the engine.
struct Source {
    choice: Choice,
    names: Vec<Arc<str>>,
    end: NodeEnd,
    board: Arc<Board>,
    bells: Vec<SharedBell>,
    /// Who warned of what, by node.
    warnings: Vec<(usize, Voice, Vec<String>)>,
}

/// Whatever ends this thread ends those of the nodes. Without it a farm would mine on an old tip
/// for ever: better to start again.
impl Drop for Source {
    fn drop(&mut self) {
        if thread::panicking() {
            tracing::error!("a panic in the choice of nodes: aborting; please report it");
            std::process::abort();
        }
        self.bells.iter().for_each(|bell| bell.stop());
    }
}

impl Source {
    fn run(mut self, news: &Receiver<News>, clock: Clock) {
        self.act();
        while !self.end.is_closed() {
            match news.recv_timeout(TICK) {
                Ok(news) => self.take(news),
                Err(RecvTimeoutError::Timeout) => self.choice.tick(clock.now()),
                Err(RecvTimeoutError::Disconnected) => return,
            }
            self.act();
        }
    }

    fn take(&mut self, news: News) {
        let node = news.node;
        match news.what {
            What::Observed(observed) => {
                if matches!(observed, Observed::Template { .. }) {
                    self.board.change(node, |place| place.template_at = Some(Instant::now()));
                }
                self.choice.handle(news.at, node, observed);
            }
            What::Latency(latency) => {
                self.board.change(node, |place| place.state.latency = Some(latency));
            }
            What::TipSource(source) => {
                self.board.change(node, |place| place.state.tip_source = Some(source));
            }
            What::Warnings(voice, list) => self.warn(node, voice, list),
        }
    }

    fn warn(&mut self, node: usize, voice: Voice, list: Vec<String>) {
        let is_his = |known: &(usize, Voice, Vec<String>)| (known.0, known.1) == (node, voice);
        let before = self.warnings.iter().position(is_his).map(|at| self.warnings.remove(at).2);
        let before = before.unwrap_or_default();
        for words in list.iter().filter(|words| !before.contains(words)) {
            tracing::warn!(node = &*self.names[node], "{words}");
        }
        self.warnings.push((node, voice, list));
    }

    /// Does what was decided, and shows how things are.
    fn act(&mut self) {
        while let Some(output) = self.choice.poll() {
            match output {
                Output::Publish(template) => self.end.publish(template),
                Output::Work(health) => self.end.report_work(health),
                Output::Note(note) => self.log(&note),
            }
        }
        for node in 0..self.names.len() {
            let behind = self.choice.behind(node);
            let behind = (behind > 0).then(|| format!("{behind} blocks behind another node"));
            let of_node = self.warnings.iter().filter(|(of, _, _)| *of == node);
            let said = of_node.flat_map(|(_, _, list)| list.iter().cloned());
            let warnings = said.chain(behind).collect();
            let (choice, tip) = (&self.choice, self.choice.tip(node));
            self.board.change(node, |place| {
                place.state.is_source = choice.source() == Some(node);
                place.state.health = choice.health(node).clone();
                place.state.failing_for = choice.failing_for(node);
                place.state.height = tip.map(|(_, height)| height);
                place.state.tip = tip.map(|(hash, _)| hash);
                place.state.failures = choice.failures(node);
                place.state.warnings = warnings;
            });
        }
    }

    fn log(&self, note: &Note) {
        let name = |node: usize| &*self.names[node];
        match note {
            Note::Source { from: None, to, .. } => {
                tracing::info!(node = name(*to), "templates come from this node");
            }
            Note::Source { from: Some(from), to, why } => {
                let (from, to) = (name(*from), name(*to));
                tracing::warn!(from, to, ?why, "templates come from another node");
            }
            Note::Tip { node, hash, height, step } if *step > 0 => {
                tracing::info!(node = name(*node), height, %hash, "new tip");
            }
            Note::Tip { node, hash, height, step } => {
                let node = name(*node);
                tracing::warn!(node, height, %hash, step, "the node's best chain was reorganised");
            }
            Note::Fault { node, fault } => {
                let remedy = fault.remedy().unwrap_or_default();
                tracing::warn!(node = name(*node), remedy, "the node {fault}");
            }
            Note::Ready { node } => tracing::info!(node = name(*node), "the node is ready"),
            Note::NoShortcut { node, height } => {
                tracing::debug!(node = name(*node), height, "no job from the header alone");
            }
        }
    }
}
