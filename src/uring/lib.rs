//! A small wrapper of `io_uring`, safe outside: the sockets of shards and of load generators.
//!
//! Read in this order: [`Ring`] (`ring.rs`: what a turn does), `slots.rs` (what is known of one
//! connection), `buffers.rs` (the provided buffers), `peer.rs` (the other end), `probe.rs` (what a
//! kernel must have), `error.rs`.
//!
//! All ring `unsafe` of the project lives here. Deliberately absent: any protocol, any policy
//! (who may connect, who is too slow), any clock, any thread. A [`Ring`] implements
//! [`shard::Ring`]; waiting and gathering belong to the host and are methods beside the trait.
#![deny(unsafe_code)]

mod buffers;
mod error;
mod peer;
mod probe;
mod ring;
mod slots;

pub use buffers::Buffer;
pub use error::UringError;
pub use probe::{Capabilities, Feature, Pretend, probe};
pub use ring::{Ring, Setup, Socket, Statistics};
