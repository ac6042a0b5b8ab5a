//! Threads and real sockets: the machine around the farm's values.
//!
//! Read in this order: `start` (the [`Engine`]: what starts in which order, and the handle),
//! `plane` (the loop of a shard's thread), `coordinator` (the loop of the coordinator's), `lanes`
//! (what runs between them), `placement`, `listener` and `kept` (listeners that outlive a crash),
//! `guard`. Two hosts run the same plane: `host_glommio`, the chosen one, and `host_thread`, for
//! comparison.
//!
//! Deliberately absent: configuration files, HTTP, logs' formats, signals (`ops`); everything about
//! a protocol (`session`), about who works on what (`farm`), and about bytes on sockets (`shard`).
#![deny(unsafe_code)]

mod clock;
mod config;
mod coordinator;
mod fd;
mod guard;
mod host_glommio;
mod host_thread;
mod kept;
mod lanes;
mod listener;
mod placement;
mod plane;
mod pulse;
mod start;

pub use clock::now;
pub use config::{EngineConfig, Host, Listen, StartError};
pub use kept::{Inherited, Keeper, NoKeeper};
pub use lanes::{BLOCKS_RESERVED, FROM_SHARD_MAX, LaneStatus, TO_SHARD_MAX};
pub use placement::{Placement, SHARDS_MAX, allowed_cores};
pub use start::{Engine, ListError};
pub use uring::{Feature, Pretend, UringError, probe};
