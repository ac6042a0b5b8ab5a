//! The table that knows which shares of one connection were counted already: 64-bit keyed
//! fingerprints of headers, on the present tip and on the one before. One per connection, so that a
//! miner can only ever collide with itself, and keyed, so that it cannot even do that on purpose.

use alloc::vec::Vec;
use pow::Share;

/// The table grows by this many fingerprints: an idle miner has none, an ordinary one a block.
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

    fn grow(&mut self) {
        let slots = self.slots.len() + SLOTS_PER_BLOCK;
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
