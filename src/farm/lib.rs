//! Many connections as one value: who has which extranonces, what they work on, what they found.
//!
//! Read in this order: `messages` (what crosses between the coordinator and a shard), `extranonce`
//! (who may use which prefix), `jobs` (from a template to the bytes that miners get), `ledger`
//! (who was credited with what), `resume` (which shard has a session), `blocks` (from a found
//! header to the node's last word), `outage` (what becomes of miners without work), and
//! `coordinator`, which holds the farm's side of all of them; `status` is what it publishes.
//!
//! Each of these has two ends: one with the coordinator, which knows the farm, and one in every
//! shard, which knows its miners and must not wait for anybody. Deliberately absent: threads,
//! lanes, clocks and sockets (`engine`), what a single connection says (`session`), and files.
#![cfg_attr(not(test), no_std)]
#![forbid(unsafe_code)]
extern crate alloc;

pub mod blocks;
pub mod coordinator;
pub mod extranonce;
#[cfg(test)]
mod firmware_tests;
pub mod jobs;
pub mod ledger;
pub mod messages;
pub mod outage;
pub mod resume;
pub mod status;
#[cfg(test)]
mod templates_for_tests;

pub use coordinator::{Coordinator, CoordinatorSettings, Input, Output};
pub use outage::{NoWork, OutageStatus, WorkHealth};
pub use status::Status;
