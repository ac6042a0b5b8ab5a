//! What the operator meets: configuration, commands, pages, metrics, logs.
//!
//! Read `cli` (what may be typed), then `run` or `demo` (what happens), then `config`, `http` and
//! `metrics`. Nothing here is on the path of a share: this crate looks at snapshots and counters
//! and never touches a shard's memory.

#![forbid(unsafe_code)]

mod accounts;
pub mod alerts;
mod blocks;
mod capacity;
pub mod check;
pub mod cli;
pub mod config;
pub mod demo;
mod difficulties;
pub mod exit;
pub mod finding;
mod firmware;
pub mod generate;
pub mod history;
pub mod host;
pub mod http;
mod logins;
pub mod logs;
mod manager;
pub mod metrics;
mod nodes;
pub mod run;
#[cfg(test)]
mod samples;
pub mod signals;
pub mod start;
pub mod state;
mod summary;
pub mod version;
pub mod view;
