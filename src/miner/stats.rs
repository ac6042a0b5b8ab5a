//! What a fleet has done so far.

use std::collections::BTreeMap;
use std::time::Duration;

use hdrhistogram::Histogram;

use crate::connection::Verdict;

/// The longest latency that is told apart, in microseconds: a minute.
const LATENCY_US_MAX: u64 = 60_000_000;

/// Figures of a fleet. Counts are since its start.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Stats {
    /// Connections that are open.
    pub connected: usize,
    /// Connections that have work.
    pub working: usize,
    /// Connections opened again after a close.
    pub reconnects: u64,
    /// Connects that were refused: nobody listened.
    pub refused: u64,
    /// Hashes tried.
    pub hashes: u64,
    /// Shares sent.
    pub submitted: u64,
    /// Shares that the server took.
    pub accepted: u64,
    /// Shares that it refused, by the error's code.
    pub rejected: BTreeMap<i64, u64>,
    /// Of the refused: 21, and a clean job for another tip had come before the reply.
    pub rejected_expected: u64,
    /// Shares that were sent and lost with their connection.
    pub unanswered: u64,
    /// Shares found too late to be sent.
    pub abandoned: u64,
    /// Accepted shares of each connection.
    pub accepted_by_connection: Vec<u64>,
    /// Median from submit sent to reply read, in microseconds.
    pub p50_us: u64,
    /// The 99th percentile of the same.
    pub p99_us: u64,
}

impl Stats {
    /// Shares refused for whatever reason.
    pub fn rejected_total(&self) -> u64 {
        self.rejected.values().sum()
    }

    /// Shares refused that should not have been.
    pub fn rejected_unexpected(&self) -> u64 {
        self.rejected_total() - self.rejected_expected
    }

    /// Connections that have no accepted share yet.
    pub fn without_share(&self) -> usize {
        self.accepted_by_connection.iter().filter(|accepted| **accepted == 0).count()
    }
}

/// The figures while they are made, with the latencies behind the percentiles.
#[derive(Debug)]
pub(crate) struct Tally {
    pub(crate) stats: Stats,
    latency_us: Histogram<u64>,
}

impl Tally {
    pub(crate) fn new(connections: usize) -> Self {
        let stats = Stats { accepted_by_connection: vec![0; connections], ..Stats::default() };
        let latency_us = Histogram::new_with_bounds(1, LATENCY_US_MAX, 3)
            .expect("the bounds are in order and three digits are allowed");
        Tally { stats, latency_us }
    }

    pub(crate) fn judged(&mut self, connection: usize, verdict: &Verdict) {
        match verdict.code {
            None => {
                self.stats.accepted += 1;
                self.stats.accepted_by_connection[connection] += 1;
            }
            Some(code) => {
                *self.stats.rejected.entry(code).or_default() += 1;
                self.stats.rejected_expected += u64::from(verdict.expected);
            }
        }
        self.latency_us.saturating_record(micros(verdict.latency));
    }

    pub(crate) fn snapshot(&self, hashes: u64) -> Stats {
        Stats {
            hashes,
            p50_us: self.latency_us.value_at_quantile(0.5),
            p99_us: self.latency_us.value_at_quantile(0.99),
            ..self.stats.clone()
        }
    }
}

fn micros(latency: Duration) -> u64 {
    u64::try_from(latency.as_micros()).unwrap_or(u64::MAX).max(1)
}
