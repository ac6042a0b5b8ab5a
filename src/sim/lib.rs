//! sim: the deterministic world. It hosts the same `shard` and the same `farm::Coordinator` as the
//! product, on a simulated ring, lane and network with a virtual clock; everything that happens
//! follows from one seed, and a broken promise names the seed that shows it.
//!
//! Read in this order: [`world`] (what there is and what happens next), [`faults`] (what goes
//! wrong), `weather` (how it goes wrong), `checker` (what must hold all the same), then the parts:
//! [`ring`] over [`link`]s, [`lane`], [`miner`], [`node`], [`random`].
//!
//! Deliberately absent: `engine`, real sockets, real time, threads.
#![forbid(unsafe_code)]

mod checker;
pub mod faults;
pub mod lane;
pub mod link;
pub mod miner;
pub mod node;
pub mod random;
pub mod ring;
mod weather;
pub mod world;

pub use faults::{Faults, Sabotage};
pub use world::{Failure, Plan, Summary, run};
