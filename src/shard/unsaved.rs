//! Answers to shares that are blocks, until the block is where the end of this process cannot lose
//! it: a miner that has heard "true" was paid for a block that is in the journal, or at a node.

use alloc::collections::VecDeque;

use session::Tick;

use crate::ring::{Chunk, ConnId};

/// An answer waits no longer: the journal is written in a millisecond or two, and where its disk
/// hangs, a node has the block, and has judged it, in this time. No miner gives up so soon.
pub(crate) const ANSWER_HELD_US_MAX: u64 = 2_000_000;

/// How often the shard looks whether a block is saved.
const LOOK_US: u64 = 250;

/// What would be in flight already, were it not for a block. To its connection each is the one send
/// that is under way.
pub(crate) struct Unsaved {
    /// Since when, to whom, and what.
    held: VecDeque<(Tick, ConnId, Chunk)>,
}

impl Unsaved {
    pub(crate) fn new() -> Unsaved {
        Unsaved { held: VecDeque::new() }
    }

    pub(crate) fn hold(&mut self, conn: ConnId, chunk: Chunk, now: Tick) {
        self.held.push_back((now, conn, chunk));
    }

    /// The next answer that may go: any if the blocks are `saved`, else one that has waited enough.
    pub(crate) fn next(&mut self, saved: bool, now: Tick) -> Option<(ConnId, Chunk)> {
        let waited = |(since, ..): &(Tick, _, _)| now.since(*since) >= ANSWER_HELD_US_MAX;
        if !saved && !self.held.front().is_some_and(waited) {
            return None;
        }
        self.held.pop_front().map(|(_, conn, chunk)| (conn, chunk))
    }

    pub(crate) fn deadline(&self, now: Tick) -> Tick {
        if self.held.is_empty() { Tick::NEVER } else { now.plus_micros(LOOK_US) }
    }
}
