//! What the load generator, the echo floor and the runner share.
//!
//! Read `bin/compare.rs` first: it starts a floor, a peer and headframe in turn, drives each with
//! `bin/load.rs`, and prints one table of ratios. `bin/echo.rs` is the floor: the same ring with
//! the same bytes in and out and nothing in between. `bin/tip.rs` measures on a real bitcoind how
//! long a new block takes to the last miner. `bin/storms.rs` plays hostile crowds with
//! `bin/crowd.rs` against the daemon. Wall time gates nothing here.
#![forbid(unsafe_code)]

pub mod crowds;
pub mod process;
pub mod report;
pub mod servers;
pub mod sockets;
pub mod tips;
pub mod traffic;
