//! The one source of chance in a simulated world: SplitMix64 (Steele, Lea, Flood 2014), integers
//! only, so that a seed means the same on every machine.

/// A stream of numbers that is a function of its seed.
#[derive(Clone, Debug)]
pub struct Random {
    state: u64,
}

impl Random {
    /// The stream of a seed.
    pub fn new(seed: u64) -> Random {
        Random { state: seed }
    }

    /// A stream of its own for one part of the world, so that what the part draws disturbs nobody.
    pub fn fork(&mut self) -> Random {
        Random::new(self.bits())
    }

    /// 64 random bits.
    pub fn bits(&mut self) -> u64 {
        self.state = self.state.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut mixed = self.state;
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        mixed ^ (mixed >> 31)
    }

    /// A number below `bound`, which is above zero.
    pub fn below(&mut self, bound: u64) -> u64 {
        ((u128::from(self.bits()) * u128::from(bound)) >> 64) as u64
    }

    /// A number from `low` to `high`, both included.
    pub fn within(&mut self, low: u64, high: u64) -> u64 {
        low + self.below(high - low + 1)
    }

    /// Whether something happens that happens in `per_mille` of a thousand cases.
    pub fn happens(&mut self, per_mille: u64) -> bool {
        self.below(1_000) < per_mille
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_stream_is_the_published_one() {
        let mut random = Random::new(1_234_567);
        let first = [random.bits(), random.bits(), random.bits()];
        let published = [6_457_827_717_110_365_317, 3_203_168_211_198_807_973];
        assert_eq!(first[..2], published);
        assert_eq!(first[2], 9_817_491_932_198_370_423);
    }

    #[test]
    fn bounds_hold_and_are_reached() {
        let mut random = Random::new(3);
        let drawn: Vec<u64> = (0..1_000).map(|_| random.within(5, 9)).collect();
        assert!((5..=9).all(|value| drawn.contains(&value)));
        assert!(drawn.iter().all(|value| (5..=9).contains(value)));
        let hits = (0..10_000).filter(|_| random.happens(250)).count();
        assert!((2_300..2_700).contains(&hits), "{hits}");
    }
}
