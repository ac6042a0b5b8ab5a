//! Stratum V1: one JSON object per line.
//!
//! Reading order: [`message`] (what can be said), [`mod@line`] (bytes to lines), [`mod@parse`] (a
//! miner's line to a [`Request`]; `scan` is its fast way for `mining.submit`, the JSON crate its
//! way for all else), [`server`] (a server's line, for those who play the miner), [`mod@write`]
//! (messages to bytes).
//!
//! Deliberately absent: order, state and verdicts. Whatever a miner may say at any time parses
//! here; whether it may say it now is `session`'s to judge.

pub mod id;
mod json;
pub mod line;
pub mod message;
pub mod parse;
mod scan;
pub mod server;
pub mod write;

pub use id::{ID_BYTES_INLINE, ID_BYTES_MAX, Id, IdOwned};
pub use line::{LINE_BYTES_MAX, LineTooLong, Lines, Splitter};
pub use message::{
    Configure, Message, MinimumDifficulty, Reason, Reply, Request, Submit, Subscribe,
    VersionRolling,
};
pub use parse::{ParseError, parse};
pub use server::{
    ServerError, ServerMessage, ServerNotify, Subscribed, granted_mask, parse_server, subscribed,
};
pub use write::{ConfigureReply, ErrorCode, Notify};
