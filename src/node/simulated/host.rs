//! The thread on which a simulated chain lives, on real time.
//!
//! It waits for a block, an order or the chain's next deadline, whichever is first, and publishes
//! every template. It ends when the engine drops its link. Nothing is decided here.

use std::collections::VecDeque;
use std::fmt;
use std::io;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use super::chain::{Chain, REORG_DEPTH_MAX, REPLACEMENT_MAX, ReorgError, Stats, UnixMicros};
use super::parameters::{ParameterError, Parameters, bits_of_difficulty};
use crate::link::{BlockSource, NodeEnd, NodeLink, SubmitResult, link};

/// Orders that wait for the thread: people and tests give a few a second.
pub const ORDERS_MAX: usize = 64;

/// Gives orders to a running chain and reads what happened. Clones share it; dropping it does not
/// stop the chain.
#[derive(Clone)]
pub struct Control {
    board: Arc<Board>,
    end: NodeEnd,
}

struct Board {
    orders: Mutex<VecDeque<Order>>,
    stats: Mutex<Stats>,
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

/// Starts a chain on a thread of its own. The thread ends once the link is dropped.
///
/// # Errors
/// A parameter is outside its limits, or no thread can be started.
pub fn spawn(parameters: Parameters) -> Result<(NodeLink, Control), SpawnError> {
    parameters.validate().map_err(SpawnError::Parameters)?;
    let (link, end) = link();
    let board = Arc::new(Board { orders: Mutex::default(), stats: Mutex::new(Stats::default()) });
    let control = Control { board: board.clone(), end: end.clone() };
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
        match end.wait(Duration::from_micros(until)) {
            BlockSource::Block { block, submitted } => {
                let outcome = chain.submit(clock.now(), &block.bytes);
                // A caller that reads the verdict and then the figures finds it counted.
                *board.stats() = chain.stats();
                let decided = Instant::now();
                end.answer(SubmitResult { id: block.id, outcome, submitted, decided });
            }
            BlockSource::Nothing => {}
            BlockSource::Closed => return,
        }
        while let Some(order) = board.next_order() {
            obey(&mut chain, clock.now(), order);
        }
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
        let mut orders = self.board.orders.lock().unwrap_or_else(PoisonError::into_inner);
        if orders.len() >= ORDERS_MAX {
            return Err(ControlError::Busy);
        }
        orders.push_back(order);
        drop(orders);
        self.end.nudge();
        Ok(())
    }
}

impl Board {
    fn stats(&self) -> MutexGuard<'_, Stats> {
        self.stats.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn next_order(&self) -> Option<Order> {
        self.orders.lock().unwrap_or_else(PoisonError::into_inner).pop_front()
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
