//! What crosses between the coordinator and a shard. Everything here is owned data that a lane can
//! carry; nothing is a question that somebody blocks on.

use alloc::boxed::Box;
use alloc::sync::Arc;
use alloc::vec::Vec;
use core::net::IpAddr;

use session::{Job, Parked, Prefix, Remembered, SessionId, Tick};

pub use crate::blocks::FoundBlock;
pub use crate::extranonce::{Lease, PrefixRange, ShardIndex, SpaceFull};
pub use crate::ledger::{Report, WorkerRow};

/// Rows of one answer to [`ToShard::ListMiners`]: a shard with 20,000 miners answers over many
/// turns, and its miners hear nothing of it.
pub const MINER_ROWS_MAX: usize = 256;

/// From the coordinator to a shard.
#[derive(Debug)]
pub enum ToShard {
    /// New work. A newer job may have replaced older ones under way.
    Job(Arc<Job>),
    /// The first word to a shard that begins while others serve: every job that can still be
    /// credited, oldest first. A miner that comes over from another shard knows them too.
    Jobs(Vec<Arc<Job>>),
    /// The answer to [`FromShard::WantLease`].
    Lease(Lease),
    /// The other answer to it.
    LeaseRefused(SpaceFull),
    /// A report that was read, for its memory.
    Recycled(Box<Report>),
    /// List the connections, by [`FromShard::Miners`] under the same number.
    ListMiners {
        /// Returned with every row.
        query: u64,
    },
    /// There is no work: refuse whoever comes, and close the connections at this pace, so that
    /// miners use their next pool.
    Release {
        /// Connections of this shard to close in a second at most; at least 1.
        per_second: u32,
    },
    /// There is work again: take miners, and close nobody who is still here.
    Serve,
    /// Another shard's miner wants this session; answered by [`FromShard::Parked`].
    GiveParked {
        /// Where the miner is now.
        asker: ShardIndex,
        /// The session.
        id: SessionId,
        /// The miner's source address.
        peer: IpAddr,
        /// When the connection that asks was accepted.
        connected: Tick,
    },
    /// The answer to [`FromShard::WantParked`].
    Resumed {
        /// The session that was asked for.
        id: SessionId,
        /// What is left of it; its prefix is leased to this shard now. `None` where nobody has it,
        /// or not for that address.
        parked: Option<Box<ParkedSession>>,
    },
    /// Where workers have settled, also on other shards, and so where they are to start.
    Remember(Vec<Remembered>),
    /// Stop accepting, answer what was read, close all, then say [`FromShard::Drained`].
    Drain,
}

/// From a shard to the coordinator.
#[derive(Debug)]
pub enum FromShard {
    /// A header that meets its network target: travels before everything else.
    Block(Box<FoundBlock>),
    /// Workers' cumulative totals, once a second.
    Report(Box<Report>),
    /// The pool of prefixes is half empty.
    WantLease {
        /// How many prefixes.
        prefixes: u32,
    },
    /// Prefixes that this shard does not need; they rest at the coordinator.
    Returned(Vec<PrefixRange>),
    /// A miner names a session that this shard does not know; answered by [`ToShard::Resumed`].
    WantParked {
        /// The session.
        id: SessionId,
        /// The miner's source address.
        peer: IpAddr,
        /// When the connection that asks was accepted: one that is newer keeps the session.
        connected: Tick,
    },
    /// The answer to [`ToShard::GiveParked`].
    Parked {
        /// Who asked.
        asker: ShardIndex,
        /// The session that was asked for.
        id: SessionId,
        /// What is left of it, and with it its prefix: this shard has forgotten both.
        parked: Option<Box<ParkedSession>>,
    },
    /// Part of the answer to [`ToShard::ListMiners`].
    Miners {
        /// The number of the question.
        query: u64,
        /// At most [`MINER_ROWS_MAX`] connections.
        rows: Vec<MinerRow>,
        /// No more rows will come.
        done: bool,
    },
    /// Every connection is closed and everything was sent.
    Drained,
}

/// A session whose connection has ended, kept for the miner to come back to.
#[derive(Debug)]
pub struct ParkedSession {
    /// The source address that had it, IPv4-mapped addresses as IPv4. The id travels in plain text,
    /// so it is worth nothing from anywhere else.
    pub peer: IpAddr,
    /// When its connection ended.
    pub since: Tick,
    /// What a later connection may resume.
    pub session: Parked,
}

/// Where a connection stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum MinerState {
    /// Accepted, not subscribed yet.
    Connected,
    /// Subscribed, no worker authorized yet.
    Subscribed,
    /// Subscribed and authorized: it has work, or waits for the first job.
    Mining,
}

/// One connection as the API lists it.
#[derive(Clone, Debug, PartialEq)]
pub struct MinerRow {
    /// The connection's number within its shard: slot and generation.
    pub connection: u64,
    /// The source address.
    pub peer: IpAddr,
    /// Where it stands.
    pub state: MinerState,
    /// What it says it is, cut to what the session keeps.
    pub user_agent: Box<str>,
    /// The first name that it authorized, empty before.
    pub worker: Arc<str>,
    /// Its extranonce1, once subscribed.
    pub extranonce1: Option<Prefix>,
    /// The difficulty that it was last told.
    pub difficulty: f64,
    /// Credited shares of this connection.
    pub accepted: u64,
    /// Refused shares of this connection.
    pub rejected: u64,
    /// When it was accepted.
    pub connected: Tick,
    /// When its newest credited share came.
    pub last_share: Option<Tick>,
}
