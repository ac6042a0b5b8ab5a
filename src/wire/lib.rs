//! Bytes to messages and back, for the connections of miners.
//!
//! Read [`sv1`] top-down: a [`sv1::Splitter`] cuts lines out of received bytes, [`sv1::parse()`]
//! turns a line into a typed request, [`sv1::write`] appends the answer to the caller's buffer.
//! [`looks_like`] tells the protocols of one port apart by a connection's first bytes,
//! [`proxy_protocol`] reads what a load balancer sends before them, and [`hex`] is the text form of
//! bytes that SV1 uses everywhere.
//!
//! Deliberately absent: sockets, clocks, and any state beyond one unfinished line.
//! `session` drives it for the farm, `miner` and `perf` for the other side of the wire.
#![cfg_attr(not(test), no_std)]
#![forbid(unsafe_code)]

extern crate alloc;

mod first_bytes;
pub mod hex;
pub mod proxy_protocol;
pub mod sv1;

pub use first_bytes::{FIRST_BYTES_MAX, FirstBytes, TLS_REFUSAL, looks_like};
