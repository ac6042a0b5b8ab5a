//! Follows tips that come faster than they spread: a miner that skips one has reached it with the
//! next.

use perf::crowds::TipSpread;

/// Spreads that are kept for the runner: it asks often enough.
const SPREADS_MAX: usize = 256;
/// Hex digits of a previous hash.
const HASH_DIGITS: usize = 64;

/// Every miner's newest tip.
pub(crate) struct Tips {
    /// The previous hash of every tip so far, as it stands in the line; the first has number 1.
    known: Vec<Vec<u8>>,
    /// The newest tip of each miner.
    reached: Vec<u32>,
    /// Tips that some miner has not reached, the oldest first.
    open: Vec<(u32, TipSpread)>,
    /// Those that all have reached, for the runner.
    done: Vec<TipSpread>,
}

impl Tips {
    /// Nobody has heard of any.
    pub(crate) fn new(miners: usize) -> Tips {
        let reached = vec![0; miners];
        Tips { known: Vec::new(), reached, open: Vec::new(), done: Vec::new() }
    }

    /// A miner read a job announcement.
    pub(crate) fn hear(&mut self, miner: usize, line: &[u8], now_ns: u64) {
        let Some(prev_hash) = prev_hash(line) else { return };
        let tip = match self.known.iter().rposition(|known| known == prev_hash) {
            Some(index) => index as u32 + 1,
            None => {
                self.known.push(prev_hash.to_vec());
                let tip = self.known.len() as u32;
                self.open.push((tip, TipSpread { first_ns: now_ns, after_us: Vec::new() }));
                tip
            }
        };
        let former = self.reached[miner];
        self.reached[miner] = former.max(tip);
        let miners = self.reached.len();
        for (number, spread) in &mut self.open {
            if (former + 1..=tip).contains(number) {
                spread.after_us.push(((now_ns - spread.first_ns) / 1_000) as u32);
            }
        }
        while self.open.first().is_some_and(|(_, spread)| spread.after_us.len() == miners) {
            self.done.push(self.open.remove(0).1);
        }
        if self.done.len() > SPREADS_MAX {
            self.done.remove(0);
        }
    }

    /// What spread since the last time.
    pub(crate) fn take(&mut self) -> Vec<TipSpread> {
        std::mem::take(&mut self.done)
    }
}

/// The second string of the parameters.
fn prev_hash(line: &[u8]) -> Option<&[u8]> {
    let params = line.windows(8).position(|window| window == b"\"params\"")? + 8;
    let hash = line[params..].split(|byte| *byte == b'"').nth(3)?;
    (hash.len() == HASH_DIGITS).then_some(hash)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn line(tip: char) -> Vec<u8> {
        let hash = tip.to_string().repeat(HASH_DIGITS);
        format!(r#"{{"id":null,"method":"mining.notify","params":["7","{hash}","01"]}}"#).into()
    }

    #[test]
    fn who_skips_a_tip_has_reached_it_with_the_next() {
        let mut tips = Tips::new(2);
        tips.hear(0, &line('a'), 1_000);
        tips.hear(1, &line('a'), 3_000);
        assert_eq!(tips.take().len(), 1);
        tips.hear(0, &line('b'), 10_000);
        tips.hear(0, &line('c'), 20_000);
        assert!(tips.take().is_empty(), "the other one knows neither");
        tips.hear(1, &line('c'), 50_000);
        let spreads: Vec<_> =
            tips.take().into_iter().map(|tip| (tip.first_ns, tip.after_us)).collect();
        assert_eq!(spreads, [(10_000, vec![0, 40]), (20_000, vec![0, 30])]);
    }

    #[test]
    fn each_tip_has_its_own_last_miner() {
        let mut tips = Tips::new(2);
        for (miner, tip, at) in [(0, 'a', 0), (1, 'a', 0), (0, 'b', 1_000), (0, 'c', 2_000)] {
            tips.hear(miner, &line(tip), at);
        }
        tips.take();
        tips.hear(1, &line('b'), 5_000);
        tips.hear(1, &line('c'), 9_000);
        // The first to hear of a tip may be behind on the one before it.
        tips.hear(1, &line('d'), 10_000);
        tips.hear(0, &line('d'), 11_000);
        let last: Vec<u32> = tips.take().iter().map(TipSpread::last_us).collect();
        assert_eq!(last, [4, 7, 1]);
    }
}
