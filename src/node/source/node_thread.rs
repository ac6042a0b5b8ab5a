//! The thread that has one node's templates: what is asked when, and what the answers mean.
//!
//! ```text
//! check: chain, first block, loading? ─► template ─► proposal, once ─► to the choice
//!        ▲                                  ▲                             │
//!        └── pause, 0.1 to 5 s ◄── fault    └── new tip, long poll answered, or 30 s ◄┘
//! ```
//! A new tip is heard by `tip_thread`, which fetches its header and then rings here. No long poll
//! is open meanwhile: it would wake with the tip, and bitcoind makes and writes the whole template
//! under the lock that a header needs too, so that the job from the header would come no sooner
//! than the template.
//!
//! Only where the node cannot wait for its tip a long poll is open between two templates, on a
//! connection and a thread of its own (`poller`), because nothing can take a request back from a
//! node: one that is given up holds a thread of the node's until its tip or mempool changes. When
//! the tip is heard otherwise, the poll has a moment to bring the template, and is overtaken by a
//! plain request if it does not.
//!
//! Whether the node is the source is none of its business: every node is asked alike, so that a
//! backup's template is as fresh as the first one's.

use std::sync::Arc;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use bitcoin::constants::genesis_block;
use bitcoin::hashes::Hash;
use pow::{Hash256, Template};
use serde_json::json;

use super::NodeConfig;
use super::choice::Observed;
use super::health::NodeFault;
use super::poller::Poller;
use super::post::{Backoff, Post, SharedBell, Voice, Wake, What, pause_after};
use super::proposal::{ProposalParts, proposal};
use super::warnings::{Sight, warnings};
use crate::payout::Network;
use crate::rpc::{
    CallLimits, ChainInfo, Client, NetworkInfo, RpcError, TemplateAnswer, TemplateError,
    TemplateFacts, TemplateReader, TipHeader,
};

/// A template is asked for at least so often: fees grow, and an answer is a sign of life.
const REFRESH: Duration = Duration::from_secs(30);
/// How long the long poll may take to bring a new tip's template before it is asked for plainly.
/// A node makes and writes one in 0.1 to 1 s; two at once cost it twice.
const POLL_LEAD: Duration = Duration::from_secs(1);
/// A node that needs longer for a template has no use while it is so.
const TEMPLATE_LIMITS: CallLimits = CallLimits {
    timeout: Duration::from_secs(15),
    stall: Duration::from_secs(5),
    ..CallLimits::TEMPLATE
};
/// The same for everything small.
const QUICK_LIMITS: CallLimits = CallLimits {
    timeout: Duration::from_secs(5),
    stall: Duration::from_secs(2),
    ..CallLimits::QUICK
};
/// A proposal checks a whole block under the node's main lock.
const PROPOSAL_LIMITS: CallLimits =
    CallLimits { timeout: Duration::from_secs(30), ..CallLimits::QUICK };
/// How often health, mempool and peers are looked at.
const SIGHT_EVERY: Duration = Duration::from_secs(30);
/// How long "was busy" is remembered.
const BUSY_REMEMBERED: Duration = Duration::from_secs(600);
/// An unanswered proposal is tried again so often.
const PROPOSAL_RETRY: Duration = Duration::from_secs(60);
/// A fault may be looked at again this soon, whatever is rung for.
const LOOK_AGAIN_MIN: Duration = Duration::from_millis(100);

pub(super) struct NodeThread {
    network: Network,
    parts: ProposalParts,
    client: Client,
    reader: TemplateReader,
    post: Post,
    bell: SharedBell,
    poller: Poller,
    /// What was found at the last check; none after a fault.
    checked: Option<Checked>,
    /// What the node was when it took our proposal.
    proposed: Option<Consensus>,
    proposal_due: Duration,
    /// The height at which it was last, across its restarts.
    height: Option<u32>,
    sight_due: Duration,
    busy_until: Option<Duration>,
    newest: Option<Newest>,
    /// The tip of its newest template.
    tip: Option<Hash256>,
    /// The header of the newest tip that the node was asked about.
    ground: Option<TipHeader>,
}

struct Checked {
    info: ChainInfo,
    node: NetworkInfo,
}

/// What decides whether a node takes our blocks.
#[derive(Clone, PartialEq, Eq)]
struct Consensus {
    version: i64,
    subversion: String,
    rules: Vec<String>,
}

struct Newest {
    weight: u64,
    bytes: u64,
    /// How far the node's clock was ahead, in seconds.
    clock_ahead: Option<i64>,
}

impl NodeThread {
    pub(super) fn new(
        config: &NodeConfig,
        network: Network,
        parts: ProposalParts,
        post: Post,
        bell: SharedBell,
    ) -> NodeThread {
        NodeThread {
            network,
            parts,
            client: Client::new(&config.endpoint),
            reader: TemplateReader::new(network),
            poller: Poller::new(&config.endpoint, post.clone(), bell.clone()),
            post,
            bell,
            checked: None,
            proposed: None,
            proposal_due: Duration::ZERO,
            height: None,
            sight_due: Duration::ZERO,
            busy_until: None,
            newest: None,
            tip: None,
            ground: None,
        }
    }

    pub(super) fn run(mut self) {
        let mut backoff = Backoff::new();
        let mut polled = None;
        while !self.bell.is_stopped() {
            let began = self.post.clock.now();
            let patience = match self.round(polled.take()) {
                Ok(()) => {
                    backoff.reset();
                    REFRESH
                }
                Err(fault) => {
                    let took = self.post.clock.now().saturating_sub(began);
                    let pause = pause_after(&fault, took, backoff.next());
                    self.failed(fault);
                    if self.bell.pause(LOOK_AGAIN_MIN) {
                        return;
                    }
                    pause.saturating_sub(LOOK_AGAIN_MIN)
                }
            };
            match self.wait(patience) {
                Wait::Ask => {}
                Wait::Polled(answer) => polled = Some(answer),
                Wait::Stop => return,
            }
        }
    }

    fn failed(&mut self, fault: NodeFault) {
        self.checked = None;
        self.poller.forget();
        if fault == NodeFault::Busy {
            self.busy_until = Some(self.post.clock.now() + BUSY_REMEMBERED);
        }
        self.client.disconnect();
        self.post.observed(Observed::Failed(fault));
    }

    /// Waits until a template should be asked for or has come.
    fn wait(&mut self, patience: Duration) -> Wait {
        let started = self.post.clock.now();
        let mut until = started + patience;
        loop {
            let left = until.saturating_sub(self.post.clock.now());
            match self.bell.wait(left) {
                Wake::Time | Wake::Doubt => return Wait::Ask,
                Wake::Stop => return Wait::Stop,
                Wake::Polled(polled) => match self.poller.take(polled) {
                    Some(Ok(answer)) if self.checked.is_some() => return Wait::Polled(answer),
                    // What is wrong with the node a plain request will show.
                    Some(_) => return Wait::Ask,
                    None => {}
                },
                Wake::News if self.checked.is_some() && self.rung() == self.tip => {}
                Wake::News if self.checked.is_some() && self.poller.is_open() => {
                    until = until.min(self.post.clock.now() + POLL_LEAD);
                }
                Wake::News => return Wait::Ask,
            }
        }
    }

    /// One template, by whatever way, and everything that goes before it.
    fn round(&mut self, polled: Option<(Duration, TemplateAnswer)>) -> Result<(), NodeFault> {
        if self.checked.is_none() {
            self.checked = Some(self.check()?);
        }
        let was_polled = polled.is_some();
        let (asked, answer) = match polled {
            Some(polled) => polled,
            None => {
                let asked = self.post.clock.now();
                let answer = self.ask(|client| client.template(None, TEMPLATE_LIMITS))?;
                self.post.tell(What::Latency(self.post.clock.now().saturating_sub(asked)));
                (asked, answer)
            }
        };
        let (template, facts) = self.reader.read(answer.json()).map_err(fault_of_template)?;
        drop(answer);
        self.stand(&template)?;
        let template = Arc::new(template);
        self.propose(&template, &facts)?;
        self.height = Some(template.height.saturating_sub(1));
        self.newest = Some(Newest::of(&template));
        let tip = template.prev_hash;
        self.post.observed(Observed::Template { template, asked });
        // A long poll was asked for on an older tip, so that its word about a new one may be
        // doubted: a plain request says the same, or another thing.
        if self.tip.replace(tip) != Some(tip) && was_polled && self.rung() != Some(tip) {
            self.bell.doubt();
        }
        if let Some(id) = facts.longpollid.filter(|_| self.bell.is_prompt() == Some(false)) {
            self.poller.open(id, tip);
        }
        self.look()
    }

    /// Looks whether the node knows the block that its template stands on, and whether that bears
    /// it. Nobody is to mine on a block that does not exist.
    fn stand(&mut self, template: &Template) -> Result<(), NodeFault> {
        let prev_hash = template.prev_hash;
        let known = [self.bell.tip(), self.ground.take()];
        let known = known.into_iter().flatten().find(|header| header.hash == prev_hash);
        let ground = match known {
            Some(header) => header,
            // The template was quicker than the thread of tips.
            None => {
                let header = self.ask(|client| client.header(&prev_hash, QUICK_LIMITS))?;
                let unknown =
                    || format!("a template on {prev_hash}, a block that it does not know");
                header.ok_or_else(|| NodeFault::Garbage(unknown()))?
            }
        };
        let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default().as_secs();
        let now = u32::try_from(now).unwrap_or(u32::MAX);
        self.reader.fits(template, &ground, now).map_err(fault_of_template)?;
        self.ground = Some(ground);
        Ok(())
    }

    /// The newest tip of which the other thread has told.
    fn rung(&self) -> Option<Hash256> {
        self.bell.tip().map(|tip| tip.hash)
    }

    fn check(&mut self) -> Result<Checked, NodeFault> {
        let info = self.ask(|client| client.blockchain_info(QUICK_LIMITS))?;
        self.check_network(&info)?;
        let first = self.ask(|client| client.call("getblockhash", &json!([0]), QUICK_LIMITS))?;
        let wanted = Hash256(
            genesis_block(bitcoin::Network::from(self.network)).block_hash().to_byte_array(),
        );
        if first.as_str() != Some(wanted.to_string().as_str()) {
            let found = format!("a chain called {} whose first block is {first}", info.chain);
            return Err(NodeFault::WrongNetwork { wanted: self.network, found });
        }
        if loads(self.network, &info, self.height) {
            return Err(NodeFault::InitialDownload { progress: info.progress });
        }
        let node = self.ask(|client| client.network_info(QUICK_LIMITS))?;
        Ok(Checked { info, node })
    }

    fn check_network(&self, info: &ChainInfo) -> Result<(), NodeFault> {
        match info.network() {
            Some(Network::Signet) => Err(NodeFault::Signet),
            Some(found) if found == self.network => Ok(()),
            _ => {
                let found = info.chain.clone();
                Err(NodeFault::WrongNetwork { wanted: self.network, found })
            }
        }
    }

    /// Asks once whether our blocks would be taken, and again when the node's consensus may have
    /// changed. A node that is too busy to say is not doubted for that.
    fn propose(&mut self, template: &Template, facts: &TemplateFacts) -> Result<(), NodeFault> {
        let Some(checked) = &self.checked else { return Ok(()) };
        let consensus = Consensus {
            version: checked.node.version,
            subversion: checked.node.subversion.clone(),
            rules: facts.rules.clone(),
        };
        let now = self.post.clock.now();
        if self.proposed.as_ref() == Some(&consensus) || now < self.proposal_due {
            return Ok(());
        }
        let block = proposal(template, &self.parts)
            .map_err(|error| NodeFault::ProposalRefused(error.to_string()))?;
        match self.client.propose(&block, PROPOSAL_LIMITS) {
            Ok(None) => self.proposed = Some(consensus),
            Ok(Some(reason)) if is_race(&reason) => {}
            Ok(Some(reason)) => return Err(NodeFault::ProposalRefused(reason)),
            Err(_) => self.proposal_due = now + PROPOSAL_RETRY,
        }
        Ok(())
    }

    /// Looks after the node's health and warnings when that is due.
    fn look(&mut self) -> Result<(), NodeFault> {
        let now = self.post.clock.now();
        if now < self.sight_due {
            return Ok(());
        }
        self.sight_due = now + SIGHT_EVERY;
        let info = self.ask(|client| client.blockchain_info(QUICK_LIMITS))?;
        self.check_network(&info)?;
        if loads(self.network, &info, None) {
            return Err(NodeFault::InitialDownload { progress: info.progress });
        }
        let node = self.ask(|client| client.network_info(QUICK_LIMITS))?;
        let mempool = self.ask(|client| client.mempool_info(QUICK_LIMITS))?;
        let Some(newest) = &self.newest else { return Ok(()) };
        let sight = Sight {
            network: self.network,
            template_weight: newest.weight,
            template_bytes: newest.bytes,
            mempool_vbytes: mempool.bytes,
            clock_ahead: newest.clock_ahead,
            peers_ahead: node.timeoffset,
            peers: node.connections,
            was_busy: self.busy_until.is_some_and(|until| now < until),
            own: [info.warnings.as_slice(), node.warnings.as_slice()].concat(),
        };
        self.post.tell(What::Warnings(Voice::Templates, warnings(&sight)));
        self.checked = Some(Checked { info, node });
        Ok(())
    }

    fn ask<T>(
        &mut self,
        question: impl FnOnce(&mut Client) -> Result<T, RpcError>,
    ) -> Result<T, NodeFault> {
        question(&mut self.client).map_err(|error| match error {
            RpcError::InitialDownload => {
                let known = self.checked.as_ref().map_or(0.0, |checked| checked.info.progress);
                NodeFault::InitialDownload { progress: known }
            }
            error => fault_of_rpc(error),
        })
    }
}

enum Wait {
    Ask,
    Polled((Duration, TemplateAnswer)),
    Stop,
}

impl Newest {
    fn of(template: &Template) -> Newest {
        // Where the chain's own time rules, the node's clock does not show.
        let clock_shows = template.curtime > template.min_ntime;
        let ours = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
        let ahead = i64::from(template.curtime) - ours.as_secs() as i64;
        Newest {
            weight: template.weight,
            bytes: template.transactions.iter().map(|bytes| bytes.len() as u64).sum(),
            clock_ahead: clock_shows.then_some(ahead),
        }
    }
}

/// Whether the node does not know the best chain yet. On the main chain it refuses templates by
/// itself then, with the better reason where it has no peers. A regtest says so of itself as long
/// as its tip is a day old, so there it counts only when there are headers without blocks, as in a
/// download, or when it has come back lower than it was, as in a reindex.
fn loads(network: Network, info: &ChainInfo, height_before: Option<u32>) -> bool {
    let lower = height_before.is_some_and(|before| info.blocks < before);
    info.initial_download
        && match network {
            Network::Main => false,
            Network::Regtest => info.headers > info.blocks || lower,
            Network::Test | Network::Testnet4 | Network::Signet => true,
        }
}

/// Answers to a proposal that speak of the moment and not of the block.
fn is_race(reason: &str) -> bool {
    reason.starts_with("inconclusive") || reason.starts_with("duplicate")
}

/// A call's failure in the words of an operator.
pub(super) fn fault_of_rpc(error: RpcError) -> NodeFault {
    match error {
        RpcError::Unreachable(why) => NodeFault::Unreachable(why),
        RpcError::Cookie(why) => NodeFault::Cookie(why),
        RpcError::Unauthorized => NodeFault::Unauthorized,
        RpcError::Busy => NodeFault::Busy,
        RpcError::Warming(words) => NodeFault::Warming(words),
        RpcError::InitialDownload => NodeFault::InitialDownload { progress: 0.0 },
        RpcError::NoPeers => NodeFault::NoPeers,
        RpcError::UnknownRule(rule) if rule == "signet" => NodeFault::Signet,
        RpcError::UnknownRule(rule) => NodeFault::UnknownRule(rule),
        RpcError::Timeout => NodeFault::Slow,
        RpcError::Stalled => NodeFault::Stalled,
        RpcError::Garbage(what) => NodeFault::Garbage(what),
        error @ RpcError::TooLarge(_) => NodeFault::Garbage(error.to_string()),
        error @ (RpcError::Forbidden | RpcError::Rpc { .. }) => {
            NodeFault::Refused(format!("{error}; {}", error.remedy()))
        }
    }
}

fn fault_of_template(error: TemplateError) -> NodeFault {
    match error {
        TemplateError::Signet => NodeFault::Signet,
        TemplateError::UnknownRule(rule) => NodeFault::UnknownRule(rule),
        error => NodeFault::Garbage(error.to_string()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn info(initial_download: bool, blocks: u32, headers: u32) -> ChainInfo {
        ChainInfo {
            chain: "regtest".into(),
            blocks,
            headers,
            best_hash: Hash256::ZERO,
            initial_download,
            progress: 0.5,
            warnings: Vec::new(),
        }
    }

    #[test]
    fn a_node_that_loads_is_told_from_an_old_regtest() {
        let rows = [
            // A fresh regtest: years old, and all there is.
            (Network::Regtest, info(true, 0, 0), None, false),
            (Network::Regtest, info(true, 7, 7), Some(7), false),
            // It downloads or connects what a reindex has found.
            (Network::Regtest, info(true, 7, 150), None, true),
            // It has just begun a reindex.
            (Network::Regtest, info(true, 0, 0), Some(150), true),
            // Its operator took blocks back.
            (Network::Regtest, info(false, 140, 150), Some(150), false),
            (Network::Testnet4, info(true, 90_000, 90_000), None, true),
            (Network::Testnet4, info(false, 90_000, 90_001), Some(90_002), false),
            // It says so itself, or that it has no peers.
            (Network::Main, info(true, 900_000, 900_000), None, false),
        ];
        for (network, info, before, wanted) in rows {
            assert_eq!(loads(network, &info, before), wanted, "{network} {info:?} {before:?}");
        }
    }

    #[test]
    fn a_race_is_no_refusal() {
        assert!(is_race("inconclusive-not-best-prevblk"));
        assert!(is_race("duplicate-inconclusive"));
        assert!(!is_race("bad-txns-vout-script-toolarge"));
    }
}
