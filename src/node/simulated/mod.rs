//! The node that needs nothing installed: a chain of its own.
//!
//! Read `chain` (the tip, the clock, what may happen), `check` (what a valid block is),
//! `assemble` (templates), then `wallet`, `mempool` and `coins` (where real transactions come
//! from), and `host` (the thread that runs it all on real time).
//!
//! Deliberately absent: a network, a script interpreter, a difficulty adjustment. Bits are a
//! parameter, because regtest's own would make every share a block.

mod assemble;
mod chain;
mod check;
mod coins;
mod host;
mod mempool;
mod parameters;
mod rng;
mod wallet;

#[cfg(test)]
mod tests;

pub use chain::{Chain, REORG_DEPTH_MAX, REPLACEMENT_MAX, ReorgError, Stats, UnixMicros};
pub use host::{Control, ControlError, ORDERS_MAX, SpawnError, spawn, spawn_with};
pub use parameters::{
    ANSWER_SECONDS_MAX, BLOCK_SECONDS_MAX, BLOCK_SECONDS_MIN, DIFFICULTY_MAX, DIFFICULTY_MIN,
    ParameterError, Parameters, START_HEIGHT_MAX, Spacing, TEMPLATE_SECONDS_MAX, TRANSACTIONS_MAX,
    bits_of_difficulty,
};
