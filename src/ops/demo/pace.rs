//! Keeps the chain at the pace of the miners. The rate that is measured beforehand can be far
//! off, because other programs come and go; then the chain's difficulty follows, with a block, as
//! a retarget does.

use std::time::{Duration, Instant};

/// How long the rate is observed before it is believed.
const WINDOW: Duration = Duration::from_secs(3);
/// By how much the rate must be off before the chain follows: luck and a busy second stay within.
const OFF_MIN: f64 = 1.5;

/// The rate that the chain's difficulty was set for, and what has been hashed since.
#[derive(Debug)]
pub(super) struct Pace {
    hashes_per_second: f64,
    since: Instant,
    hashes: u64,
}

impl Pace {
    /// Miners that begin now, at the rate that was measured.
    pub(super) fn new(hashes_per_second: f64, now: Instant) -> Pace {
        Pace { hashes_per_second, since: now, hashes: 0 }
    }

    /// The new rate, once the old one has proved wrong. `hashes` counts from the beginning.
    pub(super) fn corrected(&mut self, now: Instant, hashes: u64) -> Option<f64> {
        let elapsed = now.saturating_duration_since(self.since);
        if elapsed < WINDOW {
            return None;
        }
        let rate = hashes.saturating_sub(self.hashes) as f64 / elapsed.as_secs_f64();
        (self.since, self.hashes) = (now, hashes);
        let off = rate / self.hashes_per_second;
        if rate <= 0.0 || (1.0 / OFF_MIN..=OFF_MIN).contains(&off) {
            return None;
        }
        self.hashes_per_second = rate;
        Some(rate)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_chain_follows_a_wrong_rate_and_leaves_a_right_one() {
        let start = Instant::now();
        let at = |seconds| start + Duration::from_secs(seconds);
        let mut pace = Pace::new(1_000.0, start);
        assert_eq!(pace.corrected(at(2), 20_000), None, "too early to tell");
        assert_eq!(pace.corrected(at(4), 40_000), Some(10_000.0));
        assert_eq!(pace.corrected(at(8), 80_000), None, "right now");
        assert_eq!(pace.corrected(at(12), 120_000 - 12_000), None, "a little slower");
        assert_eq!(pace.corrected(at(16), 108_000), None, "no hash at all is no rate");
        assert_eq!(pace.corrected(at(20), 108_000 + 4_000), Some(1_000.0));
    }
}
