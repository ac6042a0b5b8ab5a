//! Which node is the source, and what is published next. Pure: news and the time come in, what to
//! do comes out; the threads of `source` drive it, and so do its tests.
//!
//! ```text
//! templates, tips, faults of each node ──► Choice ──► Publish(template)   to the engine
//!                                                 ──► Work(Up | Down)     is anybody behind it
//!                                                 ──► Note                for the log
//! ```
//! The rules, in the order in which they are tried:
//!
//! - The first node of the configuration that is ready is the source. The next one takes over at
//!   once when it fails, because a change of source costs miners one job; the first one gets its
//!   place back when it has been ready for a while, longer after each failure.
//! - What the source says is its best chain is followed, up, sideways and down: a reorganisation
//!   or an operator's `invalidateblock` is its business. A node that is still loading the chain is
//!   no source.
//! - Height decides only between nodes. With another tip of the same height nobody takes over; a
//!   node that has been higher for a while, than the source ever was, does.
//! - A new tip is published twice: from its header alone, where that is allowed, and then as the
//!   full template. On a tip for which work is out, only full templates follow.
//! - The earliest time (`min_ntime`) is one value per tip, whoever says it, however often.
//!
//! Not here: requests, retries and what makes a node healthy (`node_thread`, `tip_thread`).

use std::collections::VecDeque;
use std::sync::Arc;
use std::time::Duration;

use pow::{Hash256, Template};

use super::health::{NodeFault, NodeHealth};
use crate::link::WorkHealth;
use crate::payout::Network;
use crate::rpc::{TipHeader, coinbase_only};

/// How long, after the start, a node waits for those before it that were not heard yet.
pub const START_PATIENCE: Duration = Duration::from_secs(1);
/// How long another node may be ahead before it becomes the source. A block is at all nodes of
/// one farm within a second or two; a node that lacks it for longer has lost its peers.
pub const BEHIND_PATIENCE: Duration = Duration::from_secs(10);
/// How long a node must be ready to get its place back after its first failure; doubled with each.
pub const RETURN_PATIENCE: Duration = Duration::from_secs(5);
/// The doubling ends here: even a node full of errors is tried again now and then.
pub const RETURN_PATIENCE_MAX: Duration = Duration::from_secs(300);
/// A node that was ready for so long has its failures forgiven.
pub const FORGIVEN_AFTER: Duration = Duration::from_secs(600);
/// How old the last word of a source may be whose templates fail while its tips still come.
pub const HEARD_MAX: Duration = Duration::from_secs(30);
/// Tips whose earliest time is remembered, for those that come back. Reorganisations are a few
/// blocks deep.
pub const TIPS_REMEMBERED: usize = 64;

/// What is heard of one node. All times are of one monotonic clock.
#[derive(Clone, Debug)]
pub enum Observed {
    /// A template that can be mined; with it the node is ready.
    Template {
        /// The work.
        template: Arc<Template>,
        /// When it was asked for: what the node did before that is in it.
        asked: Duration,
    },
    /// The header of its best block.
    Tip {
        /// The header.
        header: TipHeader,
        /// When the node was heard to be there.
        learned: Duration,
    },
    /// It answered, without news.
    Heard,
    /// It cannot be used, until a template comes that was asked for later.
    Failed(NodeFault),
}

/// What to do.
#[derive(Clone, Debug)]
pub enum Output {
    /// Hand this to the engine.
    Publish(Arc<Template>),
    /// Tell the engine whether any node stands behind what was published.
    Work(WorkHealth),
    /// Tell the operator.
    Note(Note),
}

/// What the operator should know. Nodes are named by their place in the configuration.
#[derive(Clone, Debug, PartialEq)]
pub enum Note {
    /// Miners work for another node's templates from now on.
    Source {
        /// Whose they were.
        from: Option<usize>,
        /// Whose they are.
        to: usize,
        /// What was decisive.
        why: Why,
    },
    /// The source has another tip.
    Tip {
        /// The source.
        node: usize,
        /// Its tip.
        hash: Hash256,
        /// The tip's height.
        height: u32,
        /// How far this is above the last one; 0 or less in a reorganisation.
        step: i64,
    },
    /// A node cannot be used any more, or for another reason than before.
    Fault {
        /// Which.
        node: usize,
        /// Why.
        fault: NodeFault,
    },
    /// A node can be used (again).
    Ready {
        /// Which.
        node: usize,
    },
    /// The network's rules cannot be told from a header here: the full template is awaited.
    NoShortcut {
        /// The source.
        node: usize,
        /// The height whose block is sought.
        height: u32,
    },
}

/// Why the source changed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Why {
    /// There was none, or it failed, and this is the first that is ready.
    FirstReady,
    /// It stands before the other in the configuration and is ready again.
    Preferred,
    /// The other lacks blocks that this one has.
    Behind {
        /// How many.
        blocks: u32,
    },
}

/// The decisions about some nodes.
pub struct Choice {
    network: Network,
    seats: Vec<Seat>,
    /// The node whose work is published: stays when it fails, until another is ready.
    source: Option<usize>,
    published: Option<Published>,
    earliest: EarliestTimes,
    work: Option<WorkHealth>,
    outputs: VecDeque<Output>,
    now: Duration,
}

struct Seat {
    health: NodeHealth,
    /// Its best block, as far as known.
    tip: Option<Tip>,
    /// Its newest template, of whatever tip.
    newest: Option<Held>,
    /// The highest that it was since it became ready.
    reach: u32,
    ready_since: Duration,
    /// The newest failure: a template must have been asked for after it.
    failed_at: Duration,
    /// The first of those failures since it was ready.
    fault_since: Duration,
    failures: u32,
    failures_ever: u64,
    heard_at: Option<Duration>,
    /// Since when it is ready and higher than the source was ever.
    ahead_since: Option<Duration>,
}

#[derive(Clone)]
struct Tip {
    hash: Hash256,
    height: u32,
    header: Option<TipHeader>,
    /// The node was there at this moment or later.
    learned: Duration,
    /// The node was there at this moment or before.
    heard: Duration,
}

#[derive(Clone)]
struct Held {
    template: Arc<Template>,
    received: Duration,
}

/// What the engine has.
struct Published {
    node: usize,
    /// The node's own template, or the one made from a header.
    original: Arc<Template>,
    /// The moment of which its time is.
    received: Duration,
}

impl Choice {
    /// Nothing heard yet of `nodes` nodes; the preferred one is the first.
    pub fn new(network: Network, nodes: usize) -> Choice {
        let mut choice = Choice {
            network,
            seats: (0..nodes).map(|_| Seat::new()).collect(),
            source: None,
            published: None,
            earliest: EarliestTimes::default(),
            work: None,
            outputs: VecDeque::new(),
            now: Duration::ZERO,
        };
        choice.judge_work();
        choice
    }

    /// Takes in what was heard of a node. Drain [`Choice::poll`] after it.
    pub fn handle(&mut self, now: Duration, node: usize, observed: Observed) {
        self.now = now.max(self.now);
        let news = match observed {
            Observed::Template { template, asked } => self.take_template(node, template, asked),
            Observed::Tip { header, learned } => self.take_tip(node, header, learned),
            Observed::Heard => {
                self.seats[node].heard_at = Some(self.now);
                false
            }
            Observed::Failed(fault) => {
                self.take_fault(node, fault);
                false
            }
        };
        self.choose();
        if news && self.source == Some(node) {
            self.advance(node);
        }
        self.judge_work();
    }

    /// Lets time pass; wanted once a second.
    pub fn tick(&mut self, now: Duration) {
        self.now = now.max(self.now);
        self.choose();
        self.judge_work();
    }

    /// What to do next.
    pub fn poll(&mut self) -> Option<Output> {
        self.outputs.pop_front()
    }

    /// The node whose work is published.
    pub fn source(&self) -> Option<usize> {
        self.source
    }

    /// Whether a node can be used.
    pub fn health(&self, node: usize) -> &NodeHealth {
        &self.seats[node].health
    }

    /// Hash and height of a node's best block, as far as heard.
    pub fn tip(&self, node: usize) -> Option<(Hash256, u32)> {
        self.seats[node].tip.as_ref().map(|tip| (tip.hash, tip.height))
    }

    /// For how long a node's templates have failed without a good one between; none while it is
    /// ready.
    pub fn failing_for(&self, node: usize) -> Option<Duration> {
        let seat = &self.seats[node];
        let fails = matches!(seat.health, NodeHealth::Fault(_));
        fails.then(|| self.now.saturating_sub(seat.fault_since))
    }

    /// How often a node that was ready failed.
    pub fn failures(&self, node: usize) -> u64 {
        self.seats[node].failures_ever
    }

    /// By how many blocks a node that could be used is behind the highest of the others.
    pub fn behind(&self, node: usize) -> u32 {
        let highest = self.seats.iter().filter(|seat| seat.is_ready()).map(Seat::height).max();
        match (&self.seats[node], highest) {
            (seat, Some(highest)) if seat.is_ready() => highest.saturating_sub(seat.height()),
            _ => 0,
        }
    }

    /// Tells whether it is news of the node's best chain.
    fn take_template(&mut self, node: usize, template: Arc<Template>, asked: Duration) -> bool {
        let now = self.now;
        let seat = &mut self.seats[node];
        seat.heard_at = Some(now);
        if matches!(seat.health, NodeHealth::Fault(_)) && asked < seat.failed_at {
            return false;
        }
        let news = seat.follow_template(&template, asked, now);
        if news {
            seat.newest = Some(Held { template, received: now });
        }
        if seat.is_ready() {
            return news;
        }
        seat.health = NodeHealth::Ready;
        seat.ready_since = now;
        seat.reach = seat.height();
        self.note(Note::Ready { node });
        news
    }

    /// Tells whether it is news of the node's best chain.
    fn take_tip(&mut self, node: usize, header: TipHeader, learned: Duration) -> bool {
        let now = self.now;
        let seat = &mut self.seats[node];
        seat.heard_at = Some(now);
        seat.follow_header(header, learned) && !seat.is_distrusted()
    }

    fn take_fault(&mut self, node: usize, fault: NodeFault) {
        let seat = &mut self.seats[node];
        let was_ready = seat.is_ready();
        let same = matches!(&seat.health, NodeHealth::Fault(old) if old.kind() == fault.kind());
        if !matches!(seat.health, NodeHealth::Fault(_)) {
            seat.fault_since = self.now;
        }
        if was_ready {
            seat.failures_ever += 1;
            let long = self.now.saturating_sub(seat.ready_since) > FORGIVEN_AFTER;
            seat.failures = if long { 1 } else { seat.failures.saturating_add(1) };
        }
        seat.failed_at = self.now;
        seat.ahead_since = None;
        seat.health = NodeHealth::Fault(fault.clone());
        if !same {
            self.note(Note::Fault { node, fault });
        }
    }

    fn choose(&mut self) {
        self.watch_heights();
        let current = self.source.filter(|source| self.seats[*source].is_ready());
        let next = match current {
            None => self.first_ready().map(|node| (node, Why::FirstReady)),
            Some(current) => self.ahead_of(current).or_else(|| self.preferred_to(current)),
        };
        let Some((to, why)) = next.filter(|(node, _)| Some(*node) != self.source) else { return };
        let from = self.source.replace(to);
        self.seats.iter_mut().for_each(|seat| seat.ahead_since = None);
        self.note(Note::Source { from, to, why });
        self.advance(to);
    }

    /// Of those that are ready the highest, and of equals the first.
    fn first_ready(&self) -> Option<usize> {
        let ready = self.seats.iter().enumerate().filter(|(_, seat)| seat.is_ready());
        let (found, _) = ready.rev().max_by_key(|(_, seat)| seat.height())?;
        let unheard = |seat: &Seat| seat.health == NodeHealth::Connecting;
        let begins = self.source.is_none() && self.now < START_PATIENCE;
        (!begins || !self.seats[..found].iter().any(unheard)).then_some(found)
    }

    /// A node that has been higher for a while than the source was ever. What the source was and
    /// is not any more, it left by its own decision.
    fn ahead_of(&self, current: usize) -> Option<(usize, Why)> {
        let long =
            |seat: &Seat| seat.ahead_since.is_some_and(|since| self.now - since >= BEHIND_PATIENCE);
        let (node, seat) = self.seats.iter().enumerate().find(|(_, seat)| long(seat))?;
        let blocks = seat.height().saturating_sub(self.seats[current].height());
        Some((node, Why::Behind { blocks }))
    }

    /// A node before the source in the configuration that may have its place back.
    fn preferred_to(&self, current: usize) -> Option<(usize, Why)> {
        let source = &self.seats[current];
        let may = |seat: &Seat| {
            let rested = self.now.saturating_sub(seat.ready_since) >= seat.patience();
            let agrees = seat.tip_hash() == source.tip_hash() || seat.height() > source.height();
            seat.is_ready() && rested && agrees
        };
        let node = self.seats[..current].iter().position(may)?;
        Some((node, Why::Preferred))
    }

    fn watch_heights(&mut self) {
        let Some(source) = self.source.filter(|source| self.seats[*source].is_ready()) else {
            return;
        };
        let (now, reach) = (self.now, self.seats[source].reach);
        for seat in &mut self.seats {
            let ahead = seat.is_ready() && seat.height() > reach;
            seat.ahead_since = if ahead { seat.ahead_since.or(Some(now)) } else { None };
        }
    }

    /// Publishes what the source has that the engine does not.
    fn advance(&mut self, node: usize) {
        let seat = &self.seats[node];
        let Some(tip) = seat.tip.clone() else { return };
        if let Some(held) = seat.newest.clone().filter(|held| held.template.prev_hash == tip.hash) {
            if !self.published.as_ref().is_some_and(|last| last.is(node, &held.template)) {
                self.publish(node, &tip, held);
            }
            return;
        }
        // Work on this tip is out already: only a full template is worth more.
        if self.published_tip() == Some(tip.hash) {
            return;
        }
        let Some((header, known)) = tip.header.as_ref().zip(self.last_known(node)) else { return };
        let elapsed = self.now.saturating_sub(known.received);
        match coinbase_only(header, &known.template, self.network, elapsed) {
            Some(template) => {
                let held = Held { template: Arc::new(template), received: self.now };
                self.publish(node, &tip, held);
            }
            None => self.note(Note::NoShortcut { node, height: tip.height.saturating_add(1) }),
        }
    }

    /// A node's newest template, or another's that is out, to go on from.
    fn last_known(&self, node: usize) -> Option<Held> {
        let of_others = || {
            let last = self.published.as_ref()?;
            Some(Held { template: last.original.clone(), received: last.received })
        };
        self.seats[node].newest.clone().or_else(of_others)
    }

    fn publish(&mut self, node: usize, tip: &Tip, held: Held) {
        let Held { template: original, received } = held;
        if self.published_tip() != Some(tip.hash) {
            let before = self.published.as_ref().map(|last| i64::from(last.original.height));
            let height = i64::from(original.height);
            let step = before.map_or(1, |before| height - before);
            self.note(Note::Tip { node, hash: tip.hash, height: tip.height, step });
        }
        let template = self.at_this_moment(&original, self.now.saturating_sub(received));
        self.published = Some(Published { node, original, received });
        self.outputs.push_back(Output::Publish(template));
    }

    /// The template with the one earliest time of its tip, and with its own time as it would be
    /// now: a backup's template may have been waiting for half a minute.
    fn at_this_moment(&mut self, original: &Arc<Template>, age: Duration) -> Arc<Template> {
        let min_ntime = self.earliest.of(original.prev_hash, original.min_ntime);
        let seconds = u32::try_from(age.as_secs()).unwrap_or(u32::MAX);
        let curtime = original.curtime.saturating_add(seconds).max(min_ntime);
        if (min_ntime, curtime) == (original.min_ntime, original.curtime) {
            return original.clone();
        }
        Arc::new(Template { min_ntime, curtime, ..Template::clone(original) })
    }

    fn published_tip(&self) -> Option<Hash256> {
        self.published.as_ref().map(|last| last.original.prev_hash)
    }

    fn judge_work(&mut self) {
        let stands = self.source.is_some_and(|source| {
            let seat = &self.seats[source];
            // Templates fail but tips come: what miners have is worth less, but it is not stale.
            let heard =
                seat.heard_at.is_some_and(|at| at > seat.fault_since && self.now - at < HEARD_MAX);
            let on_tip = seat.tip_hash().is_some() && seat.tip_hash() == self.published_tip();
            seat.is_ready() || (!seat.is_distrusted() && heard && on_tip)
        });
        let work = if stands { WorkHealth::Up } else { WorkHealth::Down };
        if self.work.replace(work) != Some(work) {
            self.outputs.push_back(Output::Work(work));
        }
    }

    fn note(&mut self, note: Note) {
        self.outputs.push_back(Output::Note(note));
    }
}

impl Published {
    fn is(&self, node: usize, template: &Arc<Template>) -> bool {
        self.node == node && Arc::ptr_eq(&self.original, template)
    }
}

impl Seat {
    fn new() -> Seat {
        Seat {
            health: NodeHealth::Connecting,
            tip: None,
            newest: None,
            reach: 0,
            ready_since: Duration::ZERO,
            failed_at: Duration::ZERO,
            fault_since: Duration::ZERO,
            failures: 0,
            failures_ever: 0,
            heard_at: None,
            ahead_since: None,
        }
    }

    fn is_ready(&self) -> bool {
        self.health == NodeHealth::Ready
    }

    fn is_distrusted(&self) -> bool {
        match &self.health {
            NodeHealth::Connecting => true,
            NodeHealth::Ready => false,
            NodeHealth::Fault(fault) => fault.is_distrust(),
        }
    }

    fn height(&self) -> u32 {
        self.tip.as_ref().map_or(0, |tip| tip.height)
    }

    fn tip_hash(&self) -> Option<Hash256> {
        self.tip.as_ref().map(|tip| tip.hash)
    }

    /// How long it must be ready to get its place back.
    fn patience(&self) -> Duration {
        match self.failures {
            0 => Duration::ZERO,
            failures => {
                let doubled = RETURN_PATIENCE.saturating_mul(1 << (failures - 1).min(16));
                doubled.min(RETURN_PATIENCE_MAX)
            }
        }
    }

    /// Takes the template's tip for the node's, unless a later word contradicts it. A request
    /// that was on its way while the tip changed may have been answered on either side of it: the
    /// higher one is believed, and the next template, which is asked for after it, decides.
    fn follow_template(&mut self, template: &Template, asked: Duration, now: Duration) -> bool {
        let height = template.height.saturating_sub(1);
        if let Some(tip) = self.tip.as_mut() {
            if tip.hash == template.prev_hash {
                tip.learned = tip.learned.max(asked);
                return true;
            }
            if asked < tip.learned && height <= tip.height {
                return false;
            }
        }
        let hash = template.prev_hash;
        self.tip = Some(Tip { hash, height, header: None, learned: asked, heard: now });
        self.reach = self.reach.max(height);
        true
    }

    /// Takes the header for the node's tip, unless a later word contradicts it; see above.
    fn follow_header(&mut self, header: TipHeader, learned: Duration) -> bool {
        if let Some(tip) = self.tip.as_mut() {
            if tip.hash == header.hash {
                tip.learned = tip.learned.max(learned);
                tip.header = Some(header);
                return false;
            }
            let earlier = learned < tip.learned;
            let doubtful = learned < tip.heard && header.height < tip.height;
            if earlier || doubtful {
                return false;
            }
        }
        let (hash, height) = (header.hash, header.height);
        self.tip = Some(Tip { hash, height, header: Some(header), learned, heard: learned });
        self.reach = self.reach.max(height);
        true
    }
}

/// The earliest time that is allowed on each tip, as it was published first.
#[derive(Default)]
struct EarliestTimes {
    newest_last: VecDeque<(Hash256, u32)>,
}

impl EarliestTimes {
    /// The one value of a tip. A later, higher claim is believed, or the block would be refused;
    /// a lower one gains nothing.
    fn of(&mut self, tip: Hash256, claimed: u32) -> u32 {
        if let Some((_, known)) = self.newest_last.iter_mut().find(|(known, _)| *known == tip) {
            *known = claimed.max(*known);
            return *known;
        }
        if self.newest_last.len() == TIPS_REMEMBERED {
            self.newest_last.pop_front();
        }
        self.newest_last.push_back((tip, claimed));
        claimed
    }
}

#[cfg(test)]
#[path = "choice_tests.rs"]
mod tests;
