//! shard: the data plane. A plain struct that takes what its ring reports, lets sessions answer,
//! and gives its ring what must go out; one per core, no lock, no clock, no thread of its own.
//!
//! Deliberately absent: io_uring, waiting, threads (`engine` hosts a shard), protocol (`session`
//! has it), anything that crosses shards but the lane to the coordinator.
#![cfg_attr(not(test), no_std)]
#![forbid(unsafe_code)]
extern crate alloc;

pub mod counters;
pub mod guard;
pub mod lane;
pub mod ring;
pub mod turn;

pub use counters::Counters;
pub use guard::{Guard, Panicked};
pub use lane::Lane;
pub use ring::{AcceptEnd, Chunk, Completion, ConnId, ListenerIndex, ReceiveEnd, Ring};
pub use turn::Turn;
