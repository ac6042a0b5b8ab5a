//! The two ends of the line between the engine and a node.
//!
//! The engine holds a `NodeLink`, the node's threads share a `NodeEnd`. Templates are one slot in
//! which the newest replaces an unread older one; blocks and verdicts are queues, because none of
//! them may be lost. A mutex guards both: this line carries a few messages a second, never a share.
//!
//! Blocks that an earlier process left behind go before everything: while they are not sent, no
//! template passes (`hold_templates`), so that nobody mines before they are on their way.
//!
//! This is not a queue for anything hot, and it knows no node: the simulated one uses it, and so
//! does every other source of templates. Blocks are taken by the clerk alone (`blocks`).

use std::borrow::Cow;
use std::collections::VecDeque;
use std::fmt;
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use pow::{Hash256, Template};

/// Wakes the engine's coordinator: called after every template and every verdict, from the node's
/// thread, with no lock held. It must not block.
pub type Waker = Arc<dyn Fn() + Send + Sync>;

/// Blocks handed over and not yet taken by the node.
///
/// A farm finds a block every few days; a demo a few per second. Beyond this the caller keeps the
/// block and tries again: no policy may drop one.
pub const SUBMISSIONS_MAX: usize = 256;

/// How long the engine's end waits, when it is dropped, for the clerk to put its papers in order.
const CLERK_ENDS_MAX: Duration = Duration::from_millis(250);

/// A whole block on its way to one node.
#[derive(Clone, Debug)]
pub struct SubmitBlock {
    /// The caller's number, returned with the verdict.
    pub id: u64,
    /// Which node, by its place in the configuration.
    pub node: u8,
    /// Which attempt at this node, from 1.
    pub attempt: u32,
    /// It was found on the newest tip: it goes before all others.
    pub urgent: bool,
    /// The serialised block, witness included.
    pub bytes: Arc<[u8]>,
    /// What the journal and the operator know it by.
    pub facts: Arc<BlockFacts>,
}

/// What a block is known by, wherever it is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct BlockFacts {
    /// The header's hash, in header byte order.
    pub hash: Hash256,
    /// The height in its coinbase.
    pub height: u32,
    /// Who found it.
    pub worker: Arc<str>,
}

/// A block that an earlier process left in the journal, whole and not settled.
#[derive(Clone, Debug)]
pub struct RestoredBlock {
    /// The serialised block, witness included.
    pub bytes: Arc<[u8]>,
    /// What it is known by.
    pub facts: Arc<BlockFacts>,
}

/// One node's verdict about one block.
#[derive(Clone, Debug)]
pub struct SubmitResult {
    /// The number of the submission that this answers.
    pub id: u64,
    /// Which node said so.
    pub node: u8,
    /// What became of the block.
    pub outcome: BlockOutcome,
    /// When the block was handed over.
    pub submitted: Instant,
    /// When its first byte went out to the node; none if none did.
    pub first_byte: Option<Instant>,
    /// When the verdict was known.
    pub decided: Instant,
}

/// What the clerk tells of the journal about one block.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum JournalWord {
    /// There is no journal.
    Off,
    /// Written: it outlives this process.
    Written,
    /// Synced: it outlives a loss of power.
    Durable,
    /// It could not be written or synced, and why.
    Failed(Arc<str>),
    /// The journal took too long: the block went out before it was written.
    SentFirst,
}

/// A [`JournalWord`] and the block that it is about.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct JournalNote {
    /// The number of the submission.
    pub id: u64,
    /// What happened.
    pub word: JournalWord,
}

/// A block of which nothing more is to be done.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SettledBlock {
    /// The header's hash.
    pub hash: Hash256,
    /// It was refused: its record is kept for somebody to look at.
    pub refused: bool,
}

/// What a node says about a submitted block, in the words of BIP22.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum BlockOutcome {
    /// The block is valid and is the tip (BIP22: null).
    Accepted,
    /// The node has this block already.
    Duplicate,
    /// The block may be valid but is not on the best chain: its tip was superseded.
    Inconclusive,
    /// The block is not valid, with the node's reason.
    Rejected(Cow<'static, str>),
    /// No verdict, and why: no answer, no connection, a node that starts or wants a password. The
    /// node may have the block all the same.
    Unknown(Cow<'static, str>),
}

impl BlockOutcome {
    /// The string that `submitblock` answers with; `None` is its null, an accepted block. Of no
    /// verdict: why there is none.
    pub fn reason(&self) -> Option<&str> {
        match self {
            BlockOutcome::Accepted => None,
            BlockOutcome::Duplicate => Some("duplicate"),
            BlockOutcome::Inconclusive => Some("inconclusive"),
            BlockOutcome::Rejected(reason) | BlockOutcome::Unknown(reason) => Some(reason),
        }
    }
}

impl fmt::Display for BlockOutcome {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.reason().unwrap_or("accepted"))
    }
}

/// Where a node's end takes its next block from.
#[derive(Debug)]
pub enum BlockSource {
    /// A block to send; answer it with [`NodeEnd::answer`].
    Block {
        /// What the engine handed over.
        block: SubmitBlock,
        /// When it did so.
        submitted: Instant,
    },
    /// A block whose record in the journal is over.
    Settled(SettledBlock),
    /// The time is over, or somebody called [`NodeEnd::nudge`].
    Nothing,
    /// The engine dropped its link and every block that it handed over was taken: stop.
    Closed,
}

/// Whether the source of templates has work that is worth mining, in its own judgement.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum WorkHealth {
    /// A node stands behind the newest template.
    Up,
    /// No node does, from now on: what miners have may be superseded and nobody would know.
    Down,
}

/// The engine's end: templates and verdicts out, blocks in. Dropping it stops the node.
pub struct NodeLink {
    desk: Arc<Desk>,
}

/// The node's end. Clones share the line, so that a control handle can nudge the node's thread.
#[derive(Clone)]
pub struct NodeEnd {
    desk: Arc<Desk>,
}

struct Desk {
    state: Mutex<State>,
    node: Condvar,
    /// Tells of the clerk's end.
    ended: Condvar,
}

#[derive(Default)]
struct State {
    template: Option<Arc<Template>>,
    work: Option<WorkHealth>,
    /// Templates wait for blocks of an earlier process.
    held: bool,
    restored: VecDeque<RestoredBlock>,
    submissions: VecDeque<(SubmitBlock, Instant)>,
    settled: VecDeque<SettledBlock>,
    results: VecDeque<SubmitResult>,
    notes: VecDeque<JournalNote>,
    waker: Option<Waker>,
    nudged: bool,
    closed: bool,
    /// A clerk serves this line and has not ended yet.
    serving: bool,
}

/// A new line; give one end to the engine and run the node on the other.
pub fn link() -> (NodeLink, NodeEnd) {
    let (node, ended) = (Condvar::new(), Condvar::new());
    let desk = Arc::new(Desk { state: Mutex::new(State::default()), node, ended });
    (NodeLink { desk: desk.clone() }, NodeEnd { desk })
}

impl NodeLink {
    /// Sets who is woken by news, and wakes it once: something may have come before.
    pub fn set_waker(&self, waker: Waker) {
        self.desk.lock().waker = Some(waker.clone());
        waker();
    }

    /// The newest template that was not taken yet. None passes while blocks of an earlier process
    /// wait to be sent.
    pub fn try_template(&self) -> Option<Arc<Template>> {
        let mut state = self.desk.lock();
        if state.held { None } else { state.template.take() }
    }

    /// The next block that an earlier process left behind; the oldest first. They want to go out
    /// again like any other.
    pub fn try_restored(&self) -> Option<RestoredBlock> {
        self.desk.lock().restored.pop_front()
    }

    /// The next word of the journal.
    pub fn try_note(&self) -> Option<JournalNote> {
        self.desk.lock().notes.pop_front()
    }

    /// Says that nothing more is to be done for a block.
    pub fn settle(&self, block: SettledBlock) {
        self.desk.lock().settled.push_back(block);
        self.desk.node.notify_one();
    }

    /// The newest word about the work's health that was not taken yet. Take it before the
    /// template: the one that says `Up` comes with a template, or the newest is good still.
    pub fn try_work(&self) -> Option<WorkHealth> {
        self.desk.lock().work.take()
    }

    /// The next verdict, in the order in which the node decided.
    pub fn try_result(&self) -> Option<SubmitResult> {
        self.desk.lock().results.pop_front()
    }

    /// Hands a block to the node.
    ///
    /// # Errors
    /// Returns the block when [`SUBMISSIONS_MAX`] wait already: keep it and try again.
    pub fn submit(&self, block: SubmitBlock) -> Result<(), SubmitBlock> {
        let mut state = self.desk.lock();
        if state.submissions.len() >= SUBMISSIONS_MAX {
            return Err(block);
        }
        state.submissions.push_back((block, Instant::now()));
        drop(state);
        self.desk.node.notify_one();
        Ok(())
    }
}

impl Drop for NodeLink {
    /// Lets the clerk write down what was settled last: a process that ends at once would send a
    /// block again that everybody has.
    fn drop(&mut self) {
        let mut state = self.desk.lock();
        state.closed = true;
        self.desk.node.notify_one();
        let serving = |state: &mut State| state.serving;
        drop(self.desk.ended.wait_timeout_while(state, CLERK_ENDS_MAX, serving));
    }
}

impl fmt::Debug for NodeLink {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("NodeLink").finish_non_exhaustive()
    }
}

impl NodeEnd {
    /// Puts a template on the desk; one that nobody read yet is replaced.
    pub fn publish(&self, template: Arc<Template>) {
        let waker = {
            let mut state = self.desk.lock();
            state.template = Some(template);
            state.waker.clone()
        };
        wake(waker);
    }

    /// Says whether there is work; a word that nobody read yet is replaced.
    pub fn report_work(&self, health: WorkHealth) {
        let waker = {
            let mut state = self.desk.lock();
            state.work = Some(health);
            state.waker.clone()
        };
        wake(waker);
    }

    /// Whether the engine dropped its link. Blocks that it handed over may still be on the line.
    pub fn is_closed(&self) -> bool {
        self.desk.lock().closed
    }

    /// Leaves blocks of an earlier process for the engine, and keeps templates back until
    /// [`NodeEnd::release_templates`].
    pub(crate) fn restore(&self, blocks: Vec<RestoredBlock>) {
        let waker = {
            let mut state = self.desk.lock();
            state.held = !blocks.is_empty();
            state.restored.extend(blocks);
            state.waker.clone()
        };
        wake(waker);
    }

    /// Lets templates pass from now on.
    pub(crate) fn release_templates(&self) {
        let waker = {
            let mut state = self.desk.lock();
            state.held = false;
            state.waker.clone()
        };
        wake(waker);
    }

    /// Passes on a word of the journal.
    pub(crate) fn note(&self, note: JournalNote) {
        let waker = {
            let mut state = self.desk.lock();
            state.notes.push_back(note);
            state.waker.clone()
        };
        wake(waker);
    }

    /// A clerk begins or ends to serve this line.
    pub(crate) fn serve(&self, serving: bool) {
        self.desk.lock().serving = serving;
        self.desk.ended.notify_all();
    }

    /// Reports the verdict about a block.
    pub fn answer(&self, result: SubmitResult) {
        let waker = {
            let mut state = self.desk.lock();
            state.results.push_back(result);
            state.waker.clone()
        };
        wake(waker);
    }

    /// Waits for a block, at most `patience` long.
    pub fn wait(&self, patience: Duration) -> BlockSource {
        let idle = |state: &mut State| {
            let quiet = state.submissions.is_empty() && state.settled.is_empty();
            quiet && !state.nudged && !state.closed
        };
        let (mut state, _) = self
            .desk
            .node
            .wait_timeout_while(self.desk.lock(), patience, idle)
            .unwrap_or_else(PoisonError::into_inner);
        state.nudged = false;
        if let Some((block, submitted)) = state.submissions.pop_front() {
            return BlockSource::Block { block, submitted };
        }
        match state.settled.pop_front() {
            Some(block) => BlockSource::Settled(block),
            None if state.closed => BlockSource::Closed,
            None => BlockSource::Nothing,
        }
    }

    /// Ends a [`NodeEnd::wait`] of the node's thread, now or at its next call.
    pub fn nudge(&self) {
        self.desk.lock().nudged = true;
        self.desk.node.notify_one();
    }
}

impl fmt::Debug for NodeEnd {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("NodeEnd").finish_non_exhaustive()
    }
}

impl Desk {
    // A poisoned desk still holds whole values: nothing panics between two of its fields.
    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn wake(waker: Option<Waker>) {
    if let Some(waker) = waker {
        waker();
    }
}

#[cfg(test)]
pub(crate) mod tests {
    use std::sync::atomic::{AtomicUsize, Ordering};

    use pow::Hash256;

    use super::*;

    pub(crate) fn template(height: u32) -> Arc<Template> {
        Arc::new(Template {
            height,
            prev_hash: Hash256::ZERO,
            version: 0x2000_0000,
            bits: 0x207f_ffff,
            curtime: 1,
            min_ntime: 1,
            coinbase_value: 0,
            coinbase_version: 2,
            coinbase_sequence: 0,
            coinbase_locktime: 0,
            witness_commitment: None,
            coinbase_aux: Vec::new(),
            merkle_path: Vec::new(),
            transactions: Arc::from([]),
            weight: 0,
        })
    }

    fn block(id: u64) -> SubmitBlock {
        let facts = Arc::new(BlockFacts { hash: Hash256::ZERO, height: 1, worker: "rig".into() });
        let bytes = Arc::from([0_u8; 80]);
        SubmitBlock { id, node: 0, attempt: 1, urgent: true, bytes, facts }
    }

    #[test]
    fn the_newest_template_replaces_an_unread_one() {
        let (link, end) = link();
        end.publish(template(1));
        end.publish(template(2));
        assert_eq!(link.try_template().map(|template| template.height), Some(2));
        assert!(link.try_template().is_none());
    }

    #[test]
    fn the_newest_word_about_the_work_replaces_an_unread_one() {
        let (link, end) = link();
        assert_eq!(link.try_work(), None);
        end.report_work(WorkHealth::Down);
        end.report_work(WorkHealth::Up);
        assert_eq!((link.try_work(), link.try_work()), (Some(WorkHealth::Up), None));
        assert!(!end.is_closed());
        drop(link);
        assert!(end.is_closed());
    }

    #[test]
    fn blocks_keep_their_order_and_are_returned_when_full() {
        let (link, end) = link();
        for id in 0..SUBMISSIONS_MAX as u64 {
            link.submit(block(id)).expect("there is room");
        }
        let refused = link.submit(block(999)).expect_err("the line is full");
        assert_eq!(refused.id, 999);
        drop(link);
        for id in 0..SUBMISSIONS_MAX as u64 {
            let BlockSource::Block { block, .. } = end.wait(Duration::ZERO) else {
                panic!("block {id} is lost");
            };
            assert_eq!(block.id, id);
        }
        assert!(matches!(end.wait(Duration::from_secs(60)), BlockSource::Closed));
    }

    #[test]
    fn no_template_passes_a_block_of_an_earlier_process() {
        let (link, end) = link();
        let SubmitBlock { bytes, facts, .. } = block(0);
        end.restore(vec![RestoredBlock { bytes, facts }]);
        end.publish(template(1));
        assert!(link.try_template().is_none());
        assert_eq!(link.try_restored().map(|block| block.facts.height), Some(1));
        assert!(link.try_template().is_none(), "taken is not sent");
        end.release_templates();
        assert_eq!(link.try_template().map(|template| template.height), Some(1));
    }

    #[test]
    fn what_is_settled_reaches_the_clerk_before_the_end() {
        let (link, end) = link();
        let settled = SettledBlock { hash: Hash256::ZERO, refused: true };
        link.settle(settled);
        link.submit(block(7)).expect("there is room");
        drop(link);
        assert!(matches!(end.wait(Duration::ZERO), BlockSource::Block { .. }));
        assert!(matches!(end.wait(Duration::ZERO), BlockSource::Settled(one) if one == settled));
        assert!(matches!(end.wait(Duration::ZERO), BlockSource::Closed));
    }

    #[test]
    fn a_nudge_ends_one_wait() {
        let (_link, end) = link();
        end.nudge();
        assert!(matches!(end.wait(Duration::from_secs(60)), BlockSource::Nothing));
        assert!(matches!(end.wait(Duration::ZERO), BlockSource::Nothing));
    }

    #[test]
    fn each_template_and_verdict_wakes_and_so_does_setting_the_waker() {
        let (link, end) = link();
        let wakes = Arc::new(AtomicUsize::new(0));
        let counter = wakes.clone();
        link.set_waker(Arc::new(move || {
            counter.fetch_add(1, Ordering::Relaxed);
        }));
        end.publish(template(1));
        let now = Instant::now();
        let outcome = BlockOutcome::Inconclusive;
        let first_byte = Some(now);
        let answer =
            SubmitResult { id: 7, node: 0, outcome, submitted: now, first_byte, decided: now };
        end.answer(answer);
        assert_eq!(wakes.load(Ordering::Relaxed), 3);
        let result = link.try_result().expect("it was answered");
        assert_eq!((result.id, result.outcome.reason()), (7, Some("inconclusive")));
        assert!(link.try_result().is_none());
    }
}
