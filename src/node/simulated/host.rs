//! The thread on which a simulated chain lives, on real time.
//!
//! It waits for a block, an order or the chain's next deadline, whichever is first, and publishes
//! every template. Blocks come to it as they come to any node: from the clerk, by a `Submitter`.
//! It ends when that is dropped, after the engine has dropped its link. Nothing is decided here.

use std::collections::VecDeque;
use std::fmt;
use std::io;
use std::sync::mpsc::{Sender, channel};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::thread;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use pow::Hash256;

use super::chain::{Chain, REORG_DEPTH_MAX, REPLACEMENT_MAX, ReorgError, Stats, UnixMicros};
use super::parameters::{ParameterError, Parameters, bits_of_difficulty};
use crate::blocks::{self, Journal, JournaledBlock, Submitter};
use crate::link::{BlockOutcome, NodeEnd, NodeLink, link};

/// Orders that wait for the thread: people and tests give a few a second.
pub const ORDERS_MAX: usize = 64;

/// Gives orders to a running chain and reads what happened. Clones share it; dropping it does not
/// stop the chain.
#[derive(Clone)]
pub struct Control {
    board: Arc<Board>,
}

struct Board {
    inbox: Mutex<Inbox>,
    news: Condvar,
    stats: Mutex<Stats>,
}

/// What the chain's thread is to do.
#[derive(Default)]
struct Inbox {
    orders: VecDeque<Order>,
    blocks: VecDeque<Asked>,
    closed: bool,
}

/// A block, and who waits for the verdict.
type Asked = (Arc<[u8]>, Sender<BlockOutcome>);

/// The way of blocks to the chain's thread.
struct ToChain {
    board: Arc<Board>,
    /// How long this node takes to answer.
    delay: Duration,
}

#[derive(Clone, Copy, Debug)]
enum Order {
    Mine,
    Reorg { depth: u32, replacement: u32 },
    Difficulty(f64),
}

/// Why a chain could not be started.
#[derive(Debug)]
pub enum SpawnError {
    /// The configuration's fault.
    Parameters(ParameterError),
    /// The host has no thread left.
    Thread(io::Error),
}

/// Why an order was not taken.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum ControlError {
    /// The difficulty is outside its limits.
    Difficulty(ParameterError),
    /// The reorganisation is outside its limits.
    Reorg(ReorgError),
    /// [`ORDERS_MAX`] orders wait already: the chain is busy or has ended.
    Busy,
}

/// Starts a chain on a thread of its own, without a journal. The thread ends once the link is
/// dropped.
///
/// # Errors
/// A parameter is outside its limits, or no thread can be started.
pub fn spawn(parameters: Parameters) -> Result<(NodeLink, Control), SpawnError> {
    spawn_with(parameters, None)
}

/// Starts a chain on a thread of its own, and the journal of the blocks that are found on it.
///
/// # Errors
/// A parameter is outside its limits, or no thread can be started.
pub fn spawn_with(
    parameters: Parameters,
    journal: Option<(Journal, Vec<JournaledBlock>)>,
) -> Result<(NodeLink, Control), SpawnError> {
    parameters.validate().map_err(SpawnError::Parameters)?;
    let (link, end) = link();
    let stats = Mutex::new(Stats::default());
    let board = Arc::new(Board { inbox: Mutex::default(), news: Condvar::new(), stats });
    let delay = Duration::from_secs_f64(parameters.answer_seconds);
    let submitter: Box<dyn Submitter> = Box::new(ToChain { board: board.clone(), delay });
    let control = Control { board: board.clone() };
    blocks::start(end.clone(), journal, vec![vec![submitter]]).map_err(SpawnError::Thread)?;
    thread::Builder::new()
        .name("node".into())
        .spawn(move || run(parameters, &end, &board))
        .map_err(SpawnError::Thread)?;
    Ok((link, control))
}

fn run(parameters: Parameters, end: &NodeEnd, board: &Board) {
    let clock = Clock::new();
    let mut chain = Chain::new(parameters, clock.now()).expect("spawn validated the parameters");
    loop {
        if let Some(template) = chain.take_template() {
            end.publish(template);
        }
        *board.stats() = chain.stats();
        let until = chain.next_deadline().0.saturating_sub(clock.now().0);
        let Some((orders, blocks)) = board.wait(Duration::from_micros(until)) else { return };
        for (bytes, asker) in blocks {
            let outcome = chain.submit(clock.now(), &bytes);
            // A caller that reads the verdict and then the figures finds it counted.
            *board.stats() = chain.stats();
            // An asker that has gone away wants no answer.
            let _ = asker.send(outcome);
        }
        orders.into_iter().for_each(|order| obey(&mut chain, clock.now(), order));
        chain.tick(clock.now());
    }
}

// An order that its giver could not know to be impossible (the chain is too young) does nothing.
fn obey(chain: &mut Chain, now: UnixMicros, order: Order) {
    match order {
        Order::Mine => chain.mine(now),
        Order::Reorg { depth, replacement } => {
            let young = chain.reorg(now, depth, replacement);
            debug_assert!(!matches!(young, Err(ReorgError::Replacement(_))));
        }
        Order::Difficulty(difficulty) => {
            let changed = chain.set_difficulty(now, difficulty);
            assert_eq!(changed, Ok(()), "the control handle checked it");
        }
    }
}

impl Control {
    /// Somebody else finds a block, now.
    ///
    /// # Errors
    /// Too many orders wait.
    pub fn mine(&self) -> Result<(), ControlError> {
        self.give(Order::Mine)
    }

    /// Takes back `depth` blocks and finds `replacement` others; see [`Chain::reorg`]. A chain
    /// with fewer blocks than that since its start does nothing.
    ///
    /// # Errors
    /// The depth or the replacement is outside its limits, or too many orders wait.
    pub fn reorg(&self, depth: u32, replacement: u32) -> Result<(), ControlError> {
        if depth == 0 || depth > REORG_DEPTH_MAX {
            return Err(ControlError::Reorg(ReorgError::Depth(depth)));
        }
        if replacement > REPLACEMENT_MAX {
            return Err(ControlError::Reorg(ReorgError::Replacement(replacement)));
        }
        self.give(Order::Reorg { depth, replacement })
    }

    /// Changes the difficulty with a block that is found at once; see [`Chain::set_difficulty`].
    ///
    /// # Errors
    /// The difficulty is outside its limits, or too many orders wait.
    pub fn set_difficulty(&self, difficulty: f64) -> Result<(), ControlError> {
        bits_of_difficulty(difficulty).map_err(ControlError::Difficulty)?;
        self.give(Order::Difficulty(difficulty))
    }

    /// What happened so far; all zero until the history stands.
    pub fn stats(&self) -> Stats {
        self.board.stats().clone()
    }

    fn give(&self, order: Order) -> Result<(), ControlError> {
        let mut inbox = self.board.inbox();
        if inbox.orders.len() >= ORDERS_MAX || inbox.closed {
            return Err(ControlError::Busy);
        }
        inbox.orders.push_back(order);
        drop(inbox);
        self.board.news.notify_one();
        Ok(())
    }
}

impl Submitter for ToChain {
    fn submit(&mut self, block: &[u8], _: &Hash256, sent: &mut dyn FnMut()) -> BlockOutcome {
        let (asker, answer) = channel();
        sent();
        thread::sleep(self.delay);
        self.board.inbox().blocks.push_back((Arc::from(block), asker));
        self.board.news.notify_one();
        answer.recv().unwrap_or(BlockOutcome::Unknown("the simulated chain has ended".into()))
    }
}

impl Drop for ToChain {
    fn drop(&mut self) {
        self.board.inbox().closed = true;
        self.board.news.notify_one();
    }
}

impl Board {
    fn stats(&self) -> MutexGuard<'_, Stats> {
        self.stats.lock().unwrap_or_else(PoisonError::into_inner)
    }

    // A poisoned inbox still holds whole values: nothing panics between two of its fields.
    fn inbox(&self) -> MutexGuard<'_, Inbox> {
        self.inbox.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Waits for something to do, at most that long. None: nobody will want anything any more.
    fn wait(&self, patience: Duration) -> Option<(VecDeque<Order>, Vec<Asked>)> {
        let idle =
            |inbox: &mut Inbox| inbox.orders.is_empty() && inbox.blocks.is_empty() && !inbox.closed;
        let waited = self.news.wait_timeout_while(self.inbox(), patience, idle);
        let (mut inbox, _) = waited.unwrap_or_else(PoisonError::into_inner);
        if inbox.closed && inbox.blocks.is_empty() {
            return None;
        }
        Some((std::mem::take(&mut inbox.orders), inbox.blocks.drain(..).collect()))
    }
}

/// Time of day at the start, monotonic from there: a stepped clock does not shake the chain.
struct Clock {
    unix: Duration,
    started: Instant,
}

impl Clock {
    fn new() -> Self {
        let unix = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
        Clock { unix, started: Instant::now() }
    }

    fn now(&self) -> UnixMicros {
        UnixMicros((self.unix + self.started.elapsed()).as_micros() as u64)
    }
}

impl fmt::Debug for Control {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Control").finish_non_exhaustive()
    }
}

impl fmt::Display for SpawnError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            SpawnError::Parameters(error) => write!(f, "{error}"),
            SpawnError::Thread(error) => write!(f, "cannot start the node's thread: {error}"),
        }
    }
}

impl std::error::Error for SpawnError {}

impl fmt::Display for ControlError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            ControlError::Difficulty(error) => write!(f, "{error}"),
            ControlError::Reorg(error) => write!(f, "{error}"),
            ControlError::Busy => write!(f, "{ORDERS_MAX} orders wait for the chain already"),
        }
    }
}

impl std::error::Error for ControlError {}
