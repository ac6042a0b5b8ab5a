//! The table that knows which shares of one connection were counted already: 64-bit keyed
//! fingerprints of headers, on the present tip and on the one before. One per connection, so that a
//! miner can only ever collide with itself, and keyed, so that it cannot even do that on purpose.

use alloc::vec::Vec;
use pow::Share;

/// The table grows by blocks of this many: an idle miner has none, an ordinary one has one.
pub(crate) const BLOCK: usize = 64;

/// Counted shares of one connection.
#[derive(Debug, Default)]
pub(crate) struct Fingerprints {
    current: FingerprintTable,
    previous: FingerprintTable,
}

impl Fingerprints {
    pub(crate) fn contains(&self, fingerprint: Fingerprint) -> bool {
        self.current.contains(fingerprint) || self.previous.contains(fingerprint)
    }

    /// Remembers a share of the present tip.
    pub(crate) fn insert(&mut self, fingerprint: Fingerprint) {
        self.current.insert(fingerprint);
    }

    /// A new tip: what was the present one's is now the previous one's. The table that goes gives
    /// its memory to the present one, so that a steady miner does not allocate at a tip.
    pub(crate) fn turn_over(&mut self) {
        core::mem::swap(&mut self.current, &mut self.previous);
        self.current.clear();
    }

    /// Forgets the previous tip: its shares earn nothing any more, so they go first for room.
    pub(crate) fn forget_previous(&mut self) {
        self.previous = FingerprintTable::default();
    }

    pub(crate) fn len(&self) -> usize {
        self.current.len + self.previous.len
    }

    pub(crate) fn memory_bytes(&self) -> usize {
        self.current.memory_bytes() + self.previous.memory_bytes()
    }
}

/// A header's fingerprint; never zero.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Fingerprint(u64);

impl Fingerprint {
    /// Mixes what tells two headers of one connection apart. `key` is the connection's own seed and
    /// `content` the job's. Folded 128-bit products: each input bit reaches every bit of the sum,
    /// so 4,096 shares meet by chance once in 2^41 connections.
    pub(crate) fn of(key: u64, content: u64, share: &Share) -> Fingerprint {
        let mut sum = fold(key ^ FIRST, content ^ SECOND);
        for chunk in share.extranonce.as_slice().chunks(8) {
            let mut word = [0; 8];
            word[..chunk.len()].copy_from_slice(chunk);
            sum = fold(sum ^ FIRST, u64::from_le_bytes(word) ^ key ^ THIRD);
        }
        let times = u64::from(share.ntime) << 32 | u64::from(share.nonce);
        sum = fold(sum ^ times ^ SECOND, key ^ THIRD);
        sum = fold(sum ^ u64::from(share.version) ^ FIRST, key.rotate_left(32) ^ SECOND);
        Fingerprint(sum.max(1))
    }
}

/// The two halves of the whole product, folded together.
fn fold(left: u64, right: u64) -> u64 {
    let product = u128::from(left) * u128::from(right);
    product as u64 ^ (product >> 64) as u64
}

/// Open addressing with linear probing; zero is an empty slot.
#[derive(Debug, Default)]
pub(crate) struct FingerprintTable {
    slots: Vec<u64>,
    /// 4 × `len` ≤ 3 × `slots.len()`: a probe always ends at an empty slot.
    len: usize,
}

impl FingerprintTable {
    pub(crate) fn contains(&self, fingerprint: Fingerprint) -> bool {
        !self.slots.is_empty() && self.slots[self.place(fingerprint)] != 0
    }

    pub(crate) fn len(&self) -> usize {
        self.len
    }

    pub(crate) fn memory_bytes(&self) -> usize {
        self.slots.capacity() * size_of::<u64>()
    }

    pub(crate) fn insert(&mut self, fingerprint: Fingerprint) {
        if (self.len + 1) * 4 > self.slots.len() * 3 {
            self.grow();
        }
        let place = self.place(fingerprint);
        if self.slots[place] == 0 {
            self.slots[place] = fingerprint.0;
            self.len += 1;
        }
    }

    /// Where the fingerprint stands, or the empty slot where it would.
    fn place(&self, fingerprint: Fingerprint) -> usize {
        let slots = self.slots.len();
        // The high half of the product maps evenly onto any size, so sizes need no power of two.
        let mut place = ((u128::from(fingerprint.0) * slots as u128) >> 64) as usize;
        while self.slots[place] != 0 && self.slots[place] != fingerprint.0 {
            place = if place + 1 == slots { 0 } else { place + 1 };
        }
        place
    }

    /// One block more, or an eighth where that is more: moving everything for every 64 shares
    /// would cost a table of a million fingerprints thousands of moves per share.
    fn grow(&mut self) {
        let blocks = (self.len / (8 * BLOCK)).max(1);
        let slots = self.slots.len() + blocks * SLOTS_PER_BLOCK;
        let mut bigger = Vec::new();
        bigger.reserve_exact(slots);
        bigger.resize(slots, 0);
        let old = core::mem::replace(&mut self.slots, bigger);
        for value in old.into_iter().filter(|value| *value != 0) {
            let place = self.place(Fingerprint(value));
            self.slots[place] = value;
        }
    }

    fn clear(&mut self) {
        // A table that a busy hour blew up is given back; an ordinary one is used again.
        if self.slots.len() > SLOTS_KEPT_MAX {
            self.slots = Vec::new();
        } else {
            self.slots.fill(0);
        }
        self.len = 0;
    }
}

/// Three quarters full at most: 64 fingerprints need 86 slots.
const SLOTS_PER_BLOCK: usize = (BLOCK * 4).div_ceil(3);

/// Four blocks: what a miner on its target rate fills in 20 minutes.
const SLOTS_KEPT_MAX: usize = 4 * SLOTS_PER_BLOCK;

// Digits of pi, e and the golden ratio: odd, with half of their bits set, chosen for nothing.
const FIRST: u64 = 0x243f_6a88_85a3_08d3;
const SECOND: u64 = 0xb7e1_5162_8aed_2a6b;
const THIRD: u64 = 0x9e37_79b9_7f4a_7c15;

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use std::collections::BTreeSet;

    fn share(nonce: u32) -> Share {
        let extranonce = pow::Extranonce::new(&[1, 2, 3, 4, 5, 6, 7, 8]).expect("eight bytes");
        Share { extranonce, version: 0x2000_0000, ntime: 1_700_000_000, nonce }
    }

    #[test]
    fn every_field_and_the_key_make_another_fingerprint() {
        let base = Fingerprint::of(1, 2, &share(3));
        let mut seen = BTreeSet::from([base.0]);
        let mut other = |fingerprint: Fingerprint| assert!(seen.insert(fingerprint.0));
        other(Fingerprint::of(2, 2, &share(3)));
        other(Fingerprint::of(1, 3, &share(3)));
        other(Fingerprint::of(1, 2, &share(4)));
        other(Fingerprint::of(1, 2, &Share { version: 0x2000_2000, ..share(3) }));
        other(Fingerprint::of(1, 2, &Share { ntime: 1_700_000_001, ..share(3) }));
        for at in 0..8 {
            let mut bytes = [1, 2, 3, 4, 5, 6, 7, 8];
            bytes[at] ^= 1;
            let extranonce = pow::Extranonce::new(&bytes).expect("eight bytes");
            other(Fingerprint::of(1, 2, &Share { extranonce, ..share(3) }));
        }
        assert_eq!(Fingerprint::of(1, 2, &share(3)), base);
    }

    #[test]
    fn a_million_neighbouring_shares_have_a_million_fingerprints() {
        let mut all: Vec<_> =
            (0..1_000_000).map(|nonce| Fingerprint::of(7, 9, &share(nonce)).0).collect();
        all.sort_unstable();
        all.dedup();
        assert_eq!(all.len(), 1_000_000);
    }

    #[test]
    fn the_table_grows_by_blocks_and_stays_small() {
        let mut table = FingerprintTable::default();
        assert_eq!(table.memory_bytes(), 0, "an idle miner has no table");
        for nonce in 0..4_096 {
            table.insert(Fingerprint::of(7, 9, &share(nonce)));
            let needed = (table.len() * 4).div_ceil(3);
            let spare = table.slots.len() - needed;
            assert!(spare <= SLOTS_PER_BLOCK.max(needed / 8) + 1, "{spare} spare at {nonce}");
        }
        assert!(table.memory_bytes() <= 48 * 1_024, "{}", table.memory_bytes());
    }

    #[test]
    fn two_tips_are_remembered_and_the_third_is_forgotten() {
        let mut all = Fingerprints::default();
        let [first, second] = [1, 2].map(|nonce| Fingerprint::of(7, 9, &share(nonce)));
        all.insert(first);
        all.turn_over();
        all.insert(second);
        assert!(all.contains(first) && all.contains(second));
        assert_eq!(all.len(), 2);
        all.turn_over();
        assert!(!all.contains(first) && all.contains(second));
        all.forget_previous();
        assert!(!all.contains(second));
        assert_eq!(all.len(), 0);
    }

    proptest! {
        #[test]
        fn the_table_is_a_set(values in prop::collection::vec(1..400_u64, 0..700)) {
            let mut table = FingerprintTable::default();
            let mut model = BTreeSet::new();
            for value in values {
                // Crowded at both ends, so that probing wraps.
                let value = if value % 2 == 0 { u64::MAX - value } else { value };
                prop_assert_eq!(table.contains(Fingerprint(value)), model.contains(&value));
                table.insert(Fingerprint(value));
                model.insert(value);
                prop_assert_eq!(table.len(), model.len());
            }
            for value in &model {
                prop_assert!(table.contains(Fingerprint(*value)));
            }
        }
    }
}
