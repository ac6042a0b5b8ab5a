//! One connection as one sans-IO state machine: bytes, verdicts and time go in; bytes, shares to
//! check, events and deadlines come out.
//!
//! Read in this order: `contract` (what goes in and out), `job` and `shared` (the work that all
//! connections of a shard have in common), `downstream_sv1` (the machine), then its parts;
//! `vardiff` (the controller of one miner's difficulty) stands alone.
//!
//! What is deliberately absent: sockets, clocks, randomness and the hash itself. A share is handed
//! out as a question ([`Output::Check`]) and comes back as a verdict, so that the shard can hash
//! all shares of a turn together. The machine is driven the same way by `shard`, by `sim` and by
//! the tests beside it:
//!
//! ```text
//!   Bytes, Job, Verdicts, Timer ─► handle ─┐        one handle, then poll_output
//!                                          ▼        until it says Wait
//!   Check, Event, Ask, Close, Wait ◄─ poll_output ─► bytes into the SendBuf
//! ```
#![cfg_attr(not(test), no_std)]
#![forbid(unsafe_code)]
extern crate alloc;

mod class;
mod contract;
mod downstream_sv1;
mod fingerprints;
mod job;
mod memory;
mod send_buf;
mod shared;
mod vardiff;

pub use class::{Class, CoinbaseLimit};
pub use contract::{
    Close, Command, Event, FoundShare, Input, LimitReached, NotSv1, Output, Policy, Prefix,
    Question, Refusal, SessionId, ShareEvent, ShareOutcome, ShareToCheck, Tick, Ticket, Verdict,
};
pub use downstream_sv1::{
    DownstreamSv1, NAME_BYTES_MAX, NAMES_MAX, Parked, REPLIES_QUEUED_MAX, State,
    USER_AGENT_BYTES_MAX,
};
pub use job::{Job, JobIndex, JobRef, RenderId, Rendering};
pub use memory::{Memory, REMEMBERED_MAX, Remembered, Settled};
pub use send_buf::{SEND_BYTES_MAX, SendBuf};
pub use shared::{Found, JOBS_LIVE_MAX, Settings, Shared, TIPS_LATE_MAX};
pub use vardiff::{Alarm, Bounds, PER_MINUTE_MAX, PER_MINUTE_MIN, Pace, Vardiff};
