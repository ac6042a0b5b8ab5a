//! CPU miners that hash for real: many Stratum V1 connections over a few hash threads.
//!
//! ```text
//!            lines                    work                    slices
//!  server ─────────► io (1 thread) ─────────► schedule ─────────────► hash (H threads)
//!         ◄───────── connection × N ◄──────────────────── found ─────┘
//! ```
//!
//! Read `connection` (one miner as a sans-IO machine), `schedule` (who is hashed for next),
//! `hash` (what a slice is), `io` (sockets), `fleet` (the handle).
//!
//! Deliberately absent: Stratum V2, GPUs, several servers. This is the other side of a
//! demonstration and of tests, not a miner to earn with.

#![forbid(unsafe_code)]

mod connection;
mod fleet;
mod hash;
mod io;
mod schedule;
mod stats;
#[cfg(test)]
mod tests;

pub use fleet::{CONNECTIONS_MAX, Fleet, FleetConfig, FleetError, THREADS_MAX};
pub use hash::measure_hash_rate;
pub use stats::Stats;
