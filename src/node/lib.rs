//! Where work comes from and where blocks go to.
//!
//! `link` is how the engine talks to any node: templates come out, blocks go in, verdicts come
//! back, and a closure of the engine's wakes its coordinator. `simulated` is the node that needs
//! nothing installed: a chain of its own that fills a mempool, moves its tip, reorganises, and
//! checks every submitted block in full.
//!
//! Read `link`, then `simulated::chain` (what happens), then `simulated::check` (what is allowed).
//!
//! Deliberately absent: miners, shards, configuration files. This crate is the only user of the
//! `bitcoin` crate, and its block check uses nothing of `pow`, so that one can catch the other.

#![forbid(unsafe_code)]

pub mod blocks;
mod link;
pub mod payout;
pub mod rpc;
pub mod simulated;

pub use link::{
    BlockFacts, BlockOutcome, BlockSource, JournalNote, JournalWord, NodeEnd, NodeLink,
    RestoredBlock, SUBMISSIONS_MAX, SettledBlock, SubmitBlock, SubmitResult, Waker, WorkHealth,
    link,
};
