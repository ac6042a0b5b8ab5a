//! One client of a crowd, and what is known of its connection.

use std::collections::VecDeque;
use std::os::fd::OwnedFd;

use perf::traffic::Miner;

/// Where a client is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum State {
    /// It has no connection.
    Away,
    /// It is connected or connecting, and has no work yet.
    Beginning,
    /// It has what it came for.
    Working,
    /// Its connection is being closed.
    Closing,
}

/// One client.
pub(crate) struct Client {
    pub(crate) number: u32,
    pub(crate) miner: Miner,
    pub(crate) state: State,
    /// Which connection of its slot this is.
    pub(crate) generation: u32,
    /// Connects in a row that brought no work.
    pub(crate) failures: u32,
    pub(crate) sending: bool,
    pub(crate) outbox: Vec<u8>,
    pub(crate) partial: Vec<u8>,
    /// When each unanswered share was due.
    pub(crate) waiting: VecDeque<u64>,
    /// Accepted shares, over all its connections.
    pub(crate) accepted: u32,
    /// Bytes of its endless request that were sent.
    pub(crate) drips: usize,
    /// A second handle of its socket, where it may vanish.
    pub(crate) second: Option<OwnedFd>,
}

impl Client {
    /// One that has not connected.
    pub(crate) fn new(number: u32) -> Client {
        Client {
            number,
            miner: Miner::new(number),
            state: State::Away,
            generation: 0,
            failures: 0,
            sending: false,
            outbox: Vec::new(),
            partial: Vec::new(),
            waiting: VecDeque::new(),
            accepted: 0,
            drips: 0,
            second: None,
        }
    }

    /// A new connection begins.
    pub(crate) fn begin(&mut self, second: Option<OwnedFd>) {
        self.miner = Miner::new(self.number);
        self.state = State::Beginning;
        self.generation += 1;
        self.sending = false;
        self.outbox.clear();
        self.partial.clear();
        self.drips = 0;
        self.second = second;
    }

    /// Whether the other side may still be spoken to.
    pub(crate) fn is_open(&self) -> bool {
        matches!(self.state, State::Beginning | State::Working)
    }
}
