//! shard: the data plane. A plain struct that takes what its ring reports, lets sessions answer,
//! and gives its ring what must go out; one per core, no lock, no clock, no thread of its own.
//!
//! Read in this order: `turn` (its header walks one share through the shard), `shard` (what happens
//! to one connection), then its parts: `checks` (the batch that is hashed together), `send` (the
//! one pending send), `fan_out` (how a job reaches everybody), `admission` (who may connect),
//! `shedding` (who makes room, and who leaves an overloaded shard), `overload` (what that is),
//! `proxied` (who connects through a load balancer), `release` (how miners leave when there is no
//! work), `resume` and `parked` (who comes back to what), `deadlines`, `report` (what leaves for
//! the coordinator), `slot` (the table). [`ring`], [`lane`] and [`guard`] are what a host brings;
//! [`counters`] is what everybody may read.
//!
//! Deliberately absent: io_uring, waiting, threads (`engine` hosts a shard), protocol (`session`
//! has it), anything that crosses shards but the lane to the coordinator.
#![cfg_attr(not(test), no_std)]
#![forbid(unsafe_code)]
extern crate alloc;

pub mod admission;
mod checks;
pub mod counters;
mod deadlines;
mod fan_out;
pub mod guard;
mod idle;
pub mod lane;
pub mod overload;
pub mod parked;
mod proxied;
mod release;
mod report;
pub mod resume;
pub mod ring;
mod send;
mod shard;
pub mod shedding;
mod slot;
pub mod turn;
mod unsaved;

pub use admission::{AdmissionSettings, AllowList, Cidr, CidrError, Total};
pub use counters::Counters;
pub use guard::{Guard, NoGuard, Panicked};
pub use lane::Lane;
pub use ring::{AcceptEnd, Chunk, Completion, ConnId, ListenerIndex, ReceiveEnd, Ring};
pub use shard::{Connection, Level, Shard, ShardSettings};
pub use turn::Turn;
