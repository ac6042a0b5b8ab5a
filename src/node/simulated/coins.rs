//! The unspent outputs of the active chain, and what a block changes about them.
//!
//! A block's change is a value: applying it moves the tip forward, reverting it moves the tip
//! back. Who may spend what is decided in `check`.

use std::collections::HashMap;

use bitcoin::{OutPoint, TxOut};

/// One unspent output and where it came from.
#[derive(Clone, Debug)]
pub(super) struct Coin {
    pub(super) output: TxOut,
    pub(super) height: u32,
    pub(super) coinbase: bool,
}

/// The set of unspent outputs.
#[derive(Debug, Default)]
pub(super) struct Coins {
    unspent: HashMap<OutPoint, Coin>,
}

/// What one block does to the set. An output made and spent within the block is in neither list.
#[derive(Debug, Default)]
pub(super) struct Change {
    pub(super) spent: Vec<(OutPoint, Coin)>,
    pub(super) created: Vec<(OutPoint, Coin)>,
}

impl Coins {
    pub(super) fn find(&self, outpoint: &OutPoint) -> Option<&Coin> {
        self.unspent.get(outpoint)
    }

    pub(super) fn apply(&mut self, change: &Change) {
        for (outpoint, _) in &change.spent {
            let gone = self.unspent.remove(outpoint);
            assert!(gone.is_some(), "a checked block spends what exists");
        }
        for (outpoint, coin) in &change.created {
            self.unspent.insert(*outpoint, coin.clone());
        }
    }

    pub(super) fn revert(&mut self, change: &Change) {
        for (outpoint, _) in &change.created {
            let gone = self.unspent.remove(outpoint);
            assert!(gone.is_some(), "the tip's outputs are unspent");
        }
        for (outpoint, coin) in &change.spent {
            self.unspent.insert(*outpoint, coin.clone());
        }
    }

    /// Every coin, ordered by outpoint: the map's own order would differ between two runs.
    pub(super) fn sorted(&self) -> Vec<(OutPoint, &Coin)> {
        let mut all: Vec<_> =
            self.unspent.iter().map(|(outpoint, coin)| (*outpoint, coin)).collect();
        all.sort_unstable_by_key(|(outpoint, _)| *outpoint);
        all
    }
}
