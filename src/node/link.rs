//! The two ends of the line between the engine and a node.
//!
//! The engine holds a `NodeLink`, the node's thread a `NodeEnd`. Templates are one slot in which
//! the newest replaces an unread older one; blocks and verdicts are queues, because none of them
//! may be lost. A mutex guards both: this line carries a few messages a second, never a share.
//!
//! This is not a queue for anything hot, and it knows no node: the simulated one uses it, and so
//! does every other source of templates.

use std::borrow::Cow;
use std::collections::VecDeque;
use std::fmt;
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use pow::Template;

/// Wakes the engine's coordinator: called after every template and every verdict, from the node's
/// thread, with no lock held. It must not block.
pub type Waker = Arc<dyn Fn() + Send + Sync>;

/// Blocks handed over and not yet taken by the node.
///
/// A farm finds a block every few days; a demo a few per second. Beyond this the caller keeps the
/// block and tries again: no policy may drop one.
pub const SUBMISSIONS_MAX: usize = 256;

/// A whole block on its way to the node.
#[derive(Clone, Debug)]
pub struct SubmitBlock {
    /// The caller's number, returned with the verdict.
    pub id: u64,
    /// The serialised block, witness included.
    pub bytes: Arc<[u8]>,
}

/// The node's verdict about one block.
#[derive(Clone, Debug)]
pub struct SubmitResult {
    /// The number of the submission that this answers.
    pub id: u64,
    /// What became of the block.
    pub outcome: BlockOutcome,
    /// When the block was handed over.
    pub submitted: Instant,
    /// When the verdict was known.
    pub decided: Instant,
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
}

impl BlockOutcome {
    /// The string that `submitblock` answers with; `None` is its null, an accepted block.
    pub fn reason(&self) -> Option<&str> {
        match self {
            BlockOutcome::Accepted => None,
            BlockOutcome::Duplicate => Some("duplicate"),
            BlockOutcome::Inconclusive => Some("inconclusive"),
            BlockOutcome::Rejected(reason) => Some(reason),
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
    /// A block to judge; answer it with [`NodeEnd::answer`].
    Block {
        /// What the engine handed over.
        block: SubmitBlock,
        /// When it did so.
        submitted: Instant,
    },
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
}

#[derive(Default)]
struct State {
    template: Option<Arc<Template>>,
    work: Option<WorkHealth>,
    submissions: VecDeque<(SubmitBlock, Instant)>,
    results: VecDeque<SubmitResult>,
    waker: Option<Waker>,
    nudged: bool,
    closed: bool,
}

/// A new line; give one end to the engine and run the node on the other.
pub fn link() -> (NodeLink, NodeEnd) {
    let desk = Arc::new(Desk { state: Mutex::new(State::default()), node: Condvar::new() });
    (NodeLink { desk: desk.clone() }, NodeEnd { desk })
}

impl NodeLink {
    /// Sets who is woken by news, and wakes it once: something may have come before.
    pub fn set_waker(&self, waker: Waker) {
        self.desk.lock().waker = Some(waker.clone());
        waker();
    }

    /// The newest template that was not taken yet.
    pub fn try_template(&self) -> Option<Arc<Template>> {
        self.desk.lock().template.take()
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
    fn drop(&mut self) {
        self.desk.lock().closed = true;
        self.desk.node.notify_one();
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
        let idle =
            |state: &mut State| state.submissions.is_empty() && !state.nudged && !state.closed;
        let (mut state, _) = self
            .desk
            .node
            .wait_timeout_while(self.desk.lock(), patience, idle)
            .unwrap_or_else(PoisonError::into_inner);
        state.nudged = false;
        match state.submissions.pop_front() {
            Some((block, submitted)) => BlockSource::Block { block, submitted },
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
mod tests {
    use std::sync::atomic::{AtomicUsize, Ordering};

    use pow::Hash256;

    use super::*;

    fn template(height: u32) -> Arc<Template> {
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
        SubmitBlock { id, bytes: Arc::from([0_u8; 80]) }
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
        end.answer(SubmitResult { id: 7, outcome, submitted: now, decided: now });
        assert_eq!(wakes.load(Ordering::Relaxed), 3);
        let result = link.try_result().expect("it was answered");
        assert_eq!((result.id, result.outcome.reason()), (7, Some("inconclusive")));
        assert!(link.try_result().is_none());
    }
}
