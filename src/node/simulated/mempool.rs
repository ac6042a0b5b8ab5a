//! Transactions that wait for a block, each with everything that a template needs of it cached.
//!
//! Entries stand in the order of their arrival, and a transaction arrives after those that it
//! depends on; so any prefix, and any selection that keeps parents, is a valid block. A
//! reorganisation puts the disconnected blocks' transactions in front.

use std::collections::{HashMap, HashSet};
use std::sync::Arc;

use bitcoin::{OutPoint, Transaction, Txid, Wtxid};

use super::check::{COINBASE_MATURITY, Cost};
use super::coins::{Coin, Coins};

/// One transaction, checked, with its fixed facts.
#[derive(Debug)]
pub(super) struct Entry {
    pub(super) transaction: Transaction,
    pub(super) txid: Txid,
    pub(super) wtxid: Wtxid,
    pub(super) bytes: Arc<[u8]>,
    pub(super) weight: u64,
    pub(super) fee: u64,
    pub(super) sigop_cost: u64,
}

/// The pool.
#[derive(Debug, Default)]
pub(super) struct Mempool {
    entries: Vec<Arc<Entry>>,
    by_txid: HashMap<Txid, Arc<Entry>>,
    spent: HashSet<OutPoint>,
    /// Grows with each change, so that a template knows whether it is still the newest.
    generation: u64,
}

impl Entry {
    pub(super) fn new(transaction: Transaction, cost: Cost) -> Entry {
        Entry {
            txid: transaction.compute_txid(),
            wtxid: transaction.compute_wtxid(),
            bytes: bitcoin::consensus::serialize(&transaction).into(),
            weight: transaction.weight().to_wu(),
            transaction,
            fee: cost.fee,
            sigop_cost: cost.sigops,
        }
    }
}

impl Mempool {
    pub(super) fn len(&self) -> usize {
        self.entries.len()
    }

    pub(super) fn generation(&self) -> u64 {
        self.generation
    }

    pub(super) fn is_spent(&self, outpoint: &OutPoint) -> bool {
        self.spent.contains(outpoint)
    }

    pub(super) fn find(&self, txid: &Txid) -> Option<&Arc<Entry>> {
        self.by_txid.get(txid)
    }

    /// Adds a checked transaction whose inputs are free.
    pub(super) fn push(&mut self, entry: Arc<Entry>) {
        for input in &entry.transaction.input {
            let fresh = self.spent.insert(input.previous_output);
            assert!(fresh, "the pool holds no two spenders of one coin");
        }
        self.by_txid.insert(entry.txid, entry.clone());
        self.entries.push(entry);
        self.generation += 1;
    }

    /// Keeps what is still valid on the new tip: `returned` (of disconnected blocks) first, then
    /// what waited; without what the new blocks confirmed, conflict with, or made an orphan, and
    /// without what spends a coinbase that is immature again at `next_height`.
    pub(super) fn tip_changed(
        &mut self,
        coins: &Coins,
        next_height: u32,
        returned: Vec<Arc<Entry>>,
    ) {
        let spendable =
            |coin: &Coin| !coin.coinbase || coin.height + COINBASE_MATURITY <= next_height;
        let waiting = std::mem::take(&mut self.entries);
        self.by_txid.clear();
        self.spent.clear();
        self.generation += 1;
        for entry in returned.into_iter().chain(waiting) {
            let valid = entry.transaction.input.iter().all(|input| {
                let outpoint = &input.previous_output;
                !self.spent.contains(outpoint)
                    && (coins.find(outpoint).is_some_and(spendable)
                        || self.by_txid.contains_key(&outpoint.txid))
            });
            if valid && !self.by_txid.contains_key(&entry.txid) {
                self.push(entry);
            }
        }
    }

    /// The best paying transactions for a block, parents before children.
    pub(super) fn select(&self, count_max: usize, weight_max: u64, sigops_max: u64) -> Selection {
        let (mut free, bound): (Vec<_>, Vec<_>) =
            self.entries.iter().partition(|entry| !self.has_parent(entry));
        // Fee per weight, highest first; the sort is stable, so equal fees keep their order.
        free.sort_by_key(|entry| std::cmp::Reverse((entry.fee << 20) / entry.weight));
        let mut selection = Selection::default();
        let mut chosen = HashSet::new();
        for entry in free.into_iter().chain(bound) {
            let fits = selection.entries.len() < count_max
                && selection.weight + entry.weight <= weight_max
                && selection.sigop_cost + entry.sigop_cost <= sigops_max;
            let parents_in = entry.transaction.input.iter().all(|input| {
                let parent = &input.previous_output.txid;
                !self.by_txid.contains_key(parent) || chosen.contains(parent)
            });
            if fits && parents_in {
                chosen.insert(entry.txid);
                selection.weight += entry.weight;
                selection.sigop_cost += entry.sigop_cost;
                selection.fees += entry.fee;
                selection.entries.push(entry.clone());
            }
        }
        selection
    }

    fn has_parent(&self, entry: &Entry) -> bool {
        let mut inputs = entry.transaction.input.iter();
        inputs.any(|input| self.by_txid.contains_key(&input.previous_output.txid))
    }
}

/// The transactions of a block to be, with their sums.
#[derive(Debug, Default)]
pub(super) struct Selection {
    pub(super) entries: Vec<Arc<Entry>>,
    pub(super) fees: u64,
    pub(super) weight: u64,
    pub(super) sigop_cost: u64,
}
