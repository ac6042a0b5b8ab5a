//! What a crowd of clients (`bin/crowd.rs`) is told and tells: the runner writes one word a line,
//! the crowd answers with one [`Told`] as a line of JSON. Times are of
//! [`monotonic_ns`](crate::process::monotonic_ns), so that runner and crowds share them.

use serde::{Deserialize, Serialize};

/// What a crowd can be told.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Order {
    /// Reset every connection at once, as a power cut does, and come back.
    Cut,
    /// Tell [`Told::Working`] when every connection has work; times count from now on.
    Await,
    /// Acknowledge and answer nothing from now on: machines without power, seen from the server.
    Vanish,
    /// Send no more shares; answered by [`Told::Counts`] when all are answered.
    Rest,
    /// Send shares again.
    Mine,
    /// Tell [`Told::Counts`].
    Count,
    /// Tell [`Told::Samples`] of everything since the last time.
    Samples,
    /// Tell [`Told::Tips`] of everything since the last time.
    Tips,
}

impl Order {
    const ALL: [(Order, &str); 8] = [
        (Order::Cut, "cut"),
        (Order::Await, "await"),
        (Order::Vanish, "vanish"),
        (Order::Rest, "rest"),
        (Order::Mine, "mine"),
        (Order::Count, "count"),
        (Order::Samples, "samples"),
        (Order::Tips, "tips"),
    ];

    /// The word on the line.
    #[must_use]
    pub fn word(self) -> &'static str {
        let found = Order::ALL.iter().find(|(order, _)| *order == self);
        found.map_or("", |(_, word)| word)
    }

    /// The order behind a word.
    #[must_use]
    pub fn of(word: &str) -> Option<Order> {
        Order::ALL.iter().find(|(_, known)| *known == word.trim()).map(|(order, _)| *order)
    }
}

/// What a crowd tells.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub enum Told {
    /// Every connection has work, or is open where its habit asks for no more.
    Working(Working),
    /// The order was carried out at this moment.
    Done {
        /// When.
        at_ns: u64,
    },
    /// What was counted since the start.
    Counts(Counts),
    /// Answers to shares: when each came, and its latency from the due time in µs.
    Samples(Vec<(u64, u32)>),
    /// The tips that every miner has reached or passed.
    Tips(Vec<TipSpread>),
}

/// How a crowd got work.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
pub struct Working {
    /// When it began to connect, or was cut.
    pub since_ns: u64,
    /// How long after that each connection had work, in µs, in the order in which they got it.
    pub after_us: Vec<u32>,
}

/// What a crowd has counted since its start.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
pub struct Counts {
    /// Connects that were begun.
    pub connects: u64,
    /// Connects that were refused, as nobody listened.
    pub refused_connects: u64,
    /// Connections that have work, or are open where the habit asks for no more.
    pub working: u64,
    /// Connections that the server ended.
    pub closed: u64,
    /// Shares, drips or other actions that were sent.
    pub sent: u64,
    /// Shares that were answered with `true`.
    pub accepted: u64,
    /// Shares that were answered otherwise.
    pub rejected: u64,
    /// Shares without an answer, because their connection ended first.
    pub lost: u64,
    /// Accepted shares of each miner.
    pub accepted_by_miner: Vec<u32>,
}

/// How one tip spread over a crowd.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
pub struct TipSpread {
    /// When its first miner had it.
    pub first_ns: u64,
    /// How long after that each miner had it or a later one, in µs, in that order.
    pub after_us: Vec<u32>,
}

impl TipSpread {
    /// When the last miner had it or a later one, in µs after the first.
    #[must_use]
    pub fn last_us(&self) -> u32 {
        self.after_us.last().copied().unwrap_or(0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_order_is_its_word() {
        for (order, word) in Order::ALL {
            assert_eq!((order.word(), Order::of(word)), (word, Some(order)));
        }
        assert_eq!(Order::of("dance"), None);
    }
}
