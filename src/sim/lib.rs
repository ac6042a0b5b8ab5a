//! sim: the deterministic world. It hosts the same `shard` and the same `farm::Coordinator` as the
//! product, on a simulated ring, lane and network with a virtual clock; everything that happens
//! follows from one seed, and a broken promise names the seed that shows it.
//!
//! Read in this order: [`world`] (what there is and what happens next) with `host` (shards), `desk`
//! (the coordinator) and `crowd` (miners), [`faults`] (what goes wrong), `weather` (how it goes
//! wrong), `checker` and `verify` (what must hold all the same), `lies` (so that one sees them
//! fail), then the parts: [`ring`] over [`link`]s, [`lane`], [`miner`], [`node`], [`random`].
//!
//! Deliberately absent: `engine`, real sockets, real time, threads.
#![forbid(unsafe_code)]

mod checker;
mod crowd;
mod desk;
pub mod faults;
mod host;
pub mod lane;
mod lies;
pub mod link;
pub mod miner;
pub mod node;
pub mod random;
pub mod ring;
mod verify;
mod weather;
pub mod world;

pub use faults::{Faults, Sabotage};
pub use world::{Failure, Plan, Summary, run};
