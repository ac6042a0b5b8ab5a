//! One TCP connection of the simulated network: two directions with delay, a send buffer that
//! fills, and the ways in which it ends. It knows times and bytes, nothing of rings or Stratum.

use std::collections::VecDeque;
use std::net::IpAddr;

use shard::{Chunk, ConnId};

use crate::miner::Submitted;
use crate::random::Random;

/// Bytes that the kernel takes from a shard before its peer has read any: SO_SNDBUF, scaled down
/// as the simulated jobs are.
pub const SEND_BUFFER_BYTES: usize = 2_048;

/// Number of a link, unique in its world.
pub type LinkId = u32;

/// One direction: segments under way, in order.
#[derive(Debug, Default)]
pub struct Pipe {
    flight: VecDeque<(u64, Vec<u8>)>,
    bytes: usize,
    last_at: u64,
}

impl Pipe {
    /// Puts bytes on the way in one or more segments; returns when each arrives.
    pub fn write(
        &mut self,
        now: u64,
        bytes: &[u8],
        delay_us_max: u64,
        splits: u64,
        random: &mut Random,
    ) -> Vec<u64> {
        let mut arrivals = Vec::new();
        let mut rest = bytes;
        while !rest.is_empty() {
            let whole = rest.len() == 1 || arrivals.len() >= 8 || !random.happens(splits);
            let cut =
                if whole { rest.len() } else { random.within(1, rest.len() as u64 - 1) as usize };
            let (segment, left) = rest.split_at(cut);
            let at = self.last_at.max(now + random.within(1, delay_us_max));
            self.last_at = at;
            self.bytes += segment.len();
            self.flight.push_back((at, segment.to_vec()));
            arrivals.push(at);
            rest = left;
        }
        arrivals
    }

    /// The bytes that have arrived by now.
    pub fn arrived(&mut self, now: u64) -> Vec<u8> {
        let mut bytes = Vec::new();
        while self.flight.front().is_some_and(|(at, _)| *at <= now) {
            let (_, segment) = self.flight.pop_front().expect("it was just seen");
            bytes.extend_from_slice(&segment);
        }
        self.bytes -= bytes.len();
        bytes
    }

    /// Drops what is under way.
    pub fn cut(&mut self) {
        self.flight.clear();
        self.bytes = 0;
    }

    /// Bytes under way.
    pub fn bytes(&self) -> usize {
        self.bytes
    }

    /// When the last byte arrives, or arrived.
    pub fn last_at(&self) -> u64 {
        self.last_at
    }
}

/// A link as both ends and the world see it.
#[derive(Debug)]
pub struct Link {
    /// Its number.
    pub id: LinkId,
    /// Whose it is.
    pub miner: usize,
    /// The miner's address.
    pub peer: IpAddr,
    /// The connection that the shard made of it.
    pub conn: Option<ConnId>,
    /// From miner to shard.
    pub up: Pipe,
    /// From shard to miner.
    pub down: Pipe,
    /// Bytes at the shard's side that no receive has taken.
    pub unread_up: VecDeque<u8>,
    /// Bytes at the miner's side that it has not read.
    pub unread_down: Vec<u8>,
    /// The shard's receive is armed.
    pub is_armed: bool,
    /// The one send for which there was no room yet.
    pub pending: Option<(Chunk, usize)>,
    /// Since when it waits.
    pub pending_since: u64,
    /// A send was submitted whose completion was not taken.
    pub sending: bool,
    /// The connection broke with this errno.
    pub broken: Option<i32>,
    /// The miner has closed its side, and when that arrives.
    pub miner_closed_at: Option<u64>,
    /// The end was reported to the shard.
    pub end_reported: bool,
    /// The shard has closed its side.
    pub shard_closed: bool,
    /// Bytes that the miner has written.
    pub written_up: u64,
    /// Bytes that the shard has taken from its receive.
    pub taken_up: u64,
    /// Shares that the shard has not taken whole, each with the place of its end in the stream.
    pub shares_up: VecDeque<(u64, Submitted)>,
    /// Bytes do not move.
    pub is_clogged: bool,
    /// The miner does not read.
    pub is_reader_stopped: bool,
    /// When it was last disturbed: clogged, stopped, or released from it.
    pub disturbed_at: Option<u64>,
    /// Why the shard may close it, if it may.
    pub excuse: Option<&'static str>,
}

impl Link {
    /// A link that has just been connected.
    pub fn new(id: LinkId, miner: usize, peer: IpAddr) -> Link {
        Link {
            id,
            miner,
            peer,
            conn: None,
            up: Pipe::default(),
            down: Pipe::default(),
            unread_up: VecDeque::new(),
            unread_down: Vec::new(),
            is_armed: false,
            pending: None,
            pending_since: 0,
            sending: false,
            broken: None,
            miner_closed_at: None,
            end_reported: false,
            shard_closed: false,
            written_up: 0,
            taken_up: 0,
            shares_up: VecDeque::new(),
            is_clogged: false,
            is_reader_stopped: false,
            disturbed_at: None,
            excuse: None,
        }
    }

    /// Room in the shard's send buffer.
    pub fn room(&self) -> usize {
        SEND_BUFFER_BYTES.saturating_sub(self.down.bytes() + self.unread_down.len())
    }

    /// Something happened to it after which the shard may close it, and it is no longer held to
    /// any bound.
    pub fn disturb(&mut self, now: u64, excuse: &'static str) {
        self.disturbed_at = Some(now);
        self.excuse = Some(excuse);
    }
}
