//! Where work comes from and where blocks go to.
//!
//! `link` is how the engine talks to any node: templates come out, blocks go in, verdicts come
//! back, and a closure of the engine's wakes its coordinator. `simulated` is the node that needs
//! nothing installed: a chain of its own that fills a mempool, moves its tip, reorganises, and
//! checks every submitted block in full. `source` is the farm's own bitcoinds: one stream of
//! templates from several nodes, over `rpc`; `blocks` is the way of a found block to all of them.
//!
//! Read `link`, then `source::choice` (which node is followed), `simulated::chain` (what happens),
//! `simulated::check` (what is allowed).
//!
//! Deliberately absent: miners, shards, configuration files. This crate is the only user of the
//! `bitcoin` crate, and its block check uses nothing of `pow`, so that one can catch the other.

#![forbid(unsafe_code)]

pub mod blocks;
mod link;
pub mod payout;
pub mod rpc;
pub mod simulated;
pub mod source;

pub use link::{
    BlockFacts, BlockOutcome, BlockSource, JournalNote, JournalWord, NodeEnd, NodeLink,
    RestoredBlock, SUBMISSIONS_MAX, SettledBlock, SubmitBlock, SubmitResult, Waker, WorkHealth,
    link,
};
