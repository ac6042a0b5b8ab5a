//! The chain: its tip, its coins, its mempool and its clock.
//!
//! Sans-IO: time comes in as microseconds since 1970, randomness from the seed; templates and
//! verdicts come out. `host` runs it on a thread, tests run it on a virtual clock.
//!
//! One block changes everything in one place, `connect`, whoever found it: the same full check
//! judges a submitted block and the chain's own, which alone are trusted to have worked.
//!
//! A chain is not a network: side branches are judged and remembered as bitcoind would answer
//! about them, but never followed. The active chain moves by valid blocks on its tip and by
//! [`Chain::reorg`].

use std::collections::{BTreeMap, HashMap, VecDeque};
use std::fmt;
use std::sync::Arc;

use bitcoin::block::Header;
use bitcoin::consensus::encode;
use bitcoin::hashes::Hash;
use bitcoin::{Block, BlockHash, Network, Transaction, Txid};
use pow::Template;

use super::assemble;
use super::check::{self, Place, Reject, Spent, Verifier, Work};
use super::coins::{Change, Coins};
use super::mempool::{Entry, Mempool, Selection};
use super::parameters::{ParameterError, Parameters, Spacing, bits_of_difficulty};
use super::rng::Rng;
use super::wallet::Wallet;
use crate::link::BlockOutcome;

/// How many blocks a reorganisation can take back: whole blocks are kept for so long only, and
/// late shares are credited for no longer.
pub const REORG_DEPTH_MAX: u32 = 6;
/// Most blocks that may replace them at once.
pub const REPLACEMENT_MAX: u32 = 100;
/// The mempool fills quickly to so many times the transactions of one template: what a block
/// leaves behind is a full template still.
const MEMPOOL_TEMPLATES: usize = 2;
/// It goes on filling slowly to so many, so that templates keep getting better on a long tip.
const MEMPOOL_TEMPLATES_MAX: usize = 3;
/// A template's worth of transactions arrives in at most this time, while the mempool fills
/// quickly.
const ARRIVAL_SECONDS: f64 = 5.0;
/// The same while it fills slowly, where no blocks of others give the measure.
const ARRIVAL_SLOW_SECONDS: f64 = 60.0;
/// The mempool's clock: arrivals come in portions.
const ARRIVAL_TICK_US: u64 = 250_000;
/// The last blocks of the history, which split matured coinbases into coins to spend.
const FUNDING_BLOCKS: u32 = 4;
/// Coins per transaction of a template that the history provides: waiting, spent, and returned.
const COINS_PER_TRANSACTION: u32 = 4;
/// Most outputs of one funding block: 172 weight units each, so that the block stays below 4 M.
const FUNDING_OUTPUTS_MAX: usize = 20_000;
/// Weight and signature operations that templates leave for the coinbase, as bitcoind does.
const RESERVED_WEIGHT: u64 = 8_000;
const RESERVED_SIGOPS: u64 = 400;
/// Where the active chain begins.
const GENESIS_HEIGHT: u32 = 0;
const MICROS: f64 = 1e6;

/// Microseconds since 1970: the only time that the chain knows.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct UnixMicros(pub u64);

impl UnixMicros {
    fn seconds(self) -> u64 {
        self.0 / 1_000_000
    }

    fn plus_seconds(self, seconds: f64) -> UnixMicros {
        UnixMicros(self.0.saturating_add((seconds * MICROS) as u64))
    }
}

/// What happened on the chain since its start.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Stats {
    /// Height of the tip.
    pub height: u32,
    /// Compact bits of the next block.
    pub bits: u32,
    /// Transactions that wait.
    pub mempool: usize,
    /// Templates made.
    pub templates: u64,
    /// Submitted blocks that became the tip.
    pub accepted: u64,
    /// Submitted blocks that the chain had already.
    pub duplicate: u64,
    /// Submitted blocks that were not on the tip any more.
    pub inconclusive: u64,
    /// Submitted blocks that were refused, by the node's reason.
    pub rejected: BTreeMap<String, u64>,
    /// Blocks that somebody else found.
    pub own_blocks: u64,
    /// Reorganisations.
    pub reorgs: u64,
}

/// A reorganisation that cannot be done: the caller's fault.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ReorgError {
    /// Depth is 0, or more than [`REORG_DEPTH_MAX`] or than the blocks since the start.
    Depth(u32),
    /// More than [`REPLACEMENT_MAX`] new blocks.
    Replacement(u32),
}

impl fmt::Display for ReorgError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            ReorgError::Depth(depth) => write!(
                f,
                "a reorganisation takes back 1 to {REORG_DEPTH_MAX} blocks that came after the \
                 start, not {depth}"
            ),
            ReorgError::Replacement(count) => {
                write!(f, "at most {REPLACEMENT_MAX} blocks replace others, not {count}")
            }
        }
    }
}

impl std::error::Error for ReorgError {}

/// Everything known about one header.
#[derive(Clone, Copy, Debug)]
struct Known {
    height: u32,
    prev: BlockHash,
    time: u32,
    /// Bits that a block on top of it must have.
    next_bits: u32,
    /// Refused for good, or taken back by an order: no block may stand on it.
    failed: bool,
}

/// A block of the active chain that can still be taken back.
struct Connected {
    hash: BlockHash,
    change: Change,
    entries: Vec<Arc<Entry>>,
}

/// The simulated chain.
pub struct Chain {
    parameters: Parameters,
    bits: u32,
    rng: Rng,
    wallet: Wallet,
    verifier: Verifier,
    coins: Coins,
    mempool: Mempool,
    index: HashMap<BlockHash, Known>,
    active: Vec<BlockHash>,
    recent: VecDeque<Connected>,
    template: Option<Arc<Template>>,
    template_generation: u64,
    template_due: UnixMicros,
    own_block_due: Option<UnixMicros>,
    arrivals_due: UnixMicros,
    stats: Stats,
}

impl fmt::Debug for Chain {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Chain").field("height", &self.height()).finish_non_exhaustive()
    }
}

impl Chain {
    /// Builds the history up to `start_height`, fills the mempool, and makes the first template.
    ///
    /// # Errors
    /// A parameter is outside its limits.
    pub fn new(parameters: Parameters, now: UnixMicros) -> Result<Chain, ParameterError> {
        parameters.validate()?;
        let bits = bits_of_difficulty(parameters.difficulty)?;
        let genesis = bitcoin::constants::genesis_block(Network::Regtest).header;
        let known = Known {
            height: GENESIS_HEIGHT,
            prev: genesis.prev_blockhash,
            time: genesis.time,
            next_bits: bits,
            failed: false,
        };
        let mut chain = Chain {
            parameters,
            bits,
            rng: Rng::new(parameters.seed),
            wallet: Wallet::new(parameters.seed),
            verifier: Verifier::new(),
            coins: Coins::default(),
            mempool: Mempool::default(),
            index: HashMap::from([(genesis.block_hash(), known)]),
            active: vec![genesis.block_hash()],
            recent: VecDeque::new(),
            template: None,
            template_generation: 0,
            template_due: now,
            own_block_due: None,
            arrivals_due: now.plus_seconds(ARRIVAL_TICK_US as f64 / MICROS),
            stats: Stats::default(),
        };
        chain.build_history(now);
        chain.fill_mempool(now, parameters.transactions as usize * MEMPOOL_TEMPLATES);
        chain.tip_moved(now);
        Ok(chain)
    }

    /// Height of the tip.
    pub fn height(&self) -> u32 {
        self.active.len() as u32 - 1
    }

    /// Hash of the tip, in header byte order.
    pub fn tip(&self) -> [u8; 32] {
        self.tip_hash().to_byte_array()
    }

    #[cfg(test)]
    pub(super) fn tip_coinbase_outpoint(&self) -> bitcoin::OutPoint {
        self.recent.back().expect("a block came after the start").change.created[0].0
    }

    /// What happened so far.
    pub fn stats(&self) -> Stats {
        Stats {
            height: self.height(),
            bits: self.index[&self.tip_hash()].next_bits,
            mempool: self.mempool.len(),
            ..self.stats.clone()
        }
    }

    /// The newest template, once.
    pub fn take_template(&mut self) -> Option<Arc<Template>> {
        self.template.take()
    }

    /// When [`Chain::tick`] has something to do.
    pub fn next_deadline(&self) -> UnixMicros {
        let first = self.arrivals_due.min(self.template_due);
        self.own_block_due.map_or(first, |due| first.min(due))
    }

    /// Does what is due: transactions arrive, somebody finds a block, a template grows old.
    pub fn tick(&mut self, now: UnixMicros) {
        if now >= self.arrivals_due {
            let elapsed = (now.0 - self.arrivals_due.0 + ARRIVAL_TICK_US) as f64 / MICROS;
            self.transactions_arrive(now, elapsed);
            self.arrivals_due = UnixMicros(now.0 + ARRIVAL_TICK_US);
        }
        if self.own_block_due.is_some_and(|due| now >= due) {
            if self.rng.unit() < self.parameters.reorgs && !self.recent.is_empty() {
                let depth = 1 + self.rng.below(self.recent.len().min(2) as u64) as u32;
                self.reorg(now, depth, depth + 1).expect("the blocks to take back are kept");
            } else {
                self.mine(now);
            }
        }
        if now >= self.template_due {
            if self.mempool.generation() != self.template_generation {
                self.make_template(now);
            }
            self.template_due = now.plus_seconds(self.parameters.template_seconds);
        }
    }

    /// Somebody else finds a block, now.
    pub fn mine(&mut self, now: UnixMicros) {
        let selection = self.select();
        self.connect_own(now, &selection);
        self.tip_moved(now);
    }

    /// Changes the difficulty as a retarget does: with a block, which is found at once, so that
    /// no work on the old bits is on the new tip.
    ///
    /// # Errors
    /// The difficulty is outside its limits; nothing changed.
    pub fn set_difficulty(
        &mut self,
        now: UnixMicros,
        difficulty: f64,
    ) -> Result<(), ParameterError> {
        let next_bits = bits_of_difficulty(difficulty)?;
        let selection = self.select();
        let block = self.own_block(now, &selection);
        self.bits = next_bits;
        self.connect_trusted(&block, now);
        self.tip_moved(now);
        Ok(())
    }

    /// Takes back the last `depth` blocks and finds `replacement` others in their stead.
    ///
    /// With more blocks than before this is the network's better branch; with as many or fewer
    /// (0 is possible) it is what `invalidateblock` does, and the old branch is invalid since.
    ///
    /// # Errors
    /// The depth or the replacement is outside its limits; nothing changed.
    pub fn reorg(
        &mut self,
        now: UnixMicros,
        depth: u32,
        replacement: u32,
    ) -> Result<(), ReorgError> {
        if depth == 0 || depth as usize > self.recent.len() {
            return Err(ReorgError::Depth(depth));
        }
        if replacement > REPLACEMENT_MAX {
            return Err(ReorgError::Replacement(replacement));
        }
        let mut returned = VecDeque::new();
        for _ in 0..depth {
            let block = self.recent.pop_back().expect("the depth was compared");
            self.active.pop();
            self.coins.revert(&block.change);
            let known = self.index.get_mut(&block.hash).expect("an active block is known");
            known.failed = replacement <= depth;
            block.entries.into_iter().rev().for_each(|entry| returned.push_front(entry));
        }
        self.mempool.tip_changed(&self.coins, self.height() + 1, returned.into());
        self.wallet.rebuild(self.height(), &self.coins.sorted());
        for _ in 0..replacement {
            let selection = self.select();
            self.connect_own(now, &selection);
        }
        self.stats.reorgs += 1;
        self.tip_moved(now);
        Ok(())
    }

    /// Judges a block, and makes it the tip if it is valid and stands on the tip.
    pub fn submit(&mut self, now: UnixMicros, bytes: &[u8]) -> BlockOutcome {
        let outcome = self.judge(now, bytes);
        match &outcome {
            BlockOutcome::Accepted => self.stats.accepted += 1,
            BlockOutcome::Duplicate => self.stats.duplicate += 1,
            BlockOutcome::Inconclusive => self.stats.inconclusive += 1,
            BlockOutcome::Rejected(reason) => {
                // Without details in brackets: the reasons are few, whatever peers send.
                let kind = reason.split_once('(').map_or(&**reason, |(kind, _)| kind.trim_end());
                *self.stats.rejected.entry(kind.to_string()).or_default() += 1;
            }
            BlockOutcome::Unknown(_) => unreachable!("this node always answers"),
        }
        outcome
    }

    fn judge(&mut self, now: UnixMicros, bytes: &[u8]) -> BlockOutcome {
        let Ok(block) = encode::deserialize::<Block>(bytes) else {
            return BlockOutcome::Rejected("Block decode failed".into());
        };
        match self.index.get(&block.block_hash()) {
            Some(known) if known.failed => {
                return BlockOutcome::Rejected("duplicate-invalid".into());
            }
            Some(_) => return BlockOutcome::Duplicate,
            None => {}
        }
        match self.connect(&block, now, Work::Shown) {
            Ok(true) => {
                self.tip_moved(now);
                BlockOutcome::Accepted
            }
            Ok(false) => BlockOutcome::Inconclusive,
            Err(reject) => BlockOutcome::Rejected(reject.reason),
        }
    }

    // True: the block is the tip now. False: it is valid as far as a side branch can be judged.
    fn connect(&mut self, block: &Block, now: UnixMicros, work: Work) -> Result<bool, Reject> {
        let txids: Vec<Txid> = block.txdata.iter().map(Transaction::compute_txid).collect();
        check::alone(block, &txids, work)?;
        let prev = block.header.prev_blockhash;
        let Some(parent) = self.index.get(&prev).copied() else {
            return Err(Reject::for_now("prev-blk-not-found"));
        };
        if parent.failed {
            return Err(Reject::for_now("bad-prevblk"));
        }
        let place = Place {
            height: parent.height + 1,
            bits: parent.next_bits,
            median_time_past: self.median_time_past(prev),
            now_seconds: now.seconds(),
        };
        check::header_in_place(&block.header, &place)?;
        let on_tip = prev == self.tip_hash();
        let checked = check::body_in_place(block, &place).and_then(|()| match on_tip {
            true => self.check_spending(block, &txids, &place).map(Some),
            false => Ok(None),
        });
        match checked {
            Ok(Some(spent)) => {
                self.remember(block, &place, false);
                self.extend(block, &txids, spent);
                Ok(true)
            }
            Ok(None) => {
                self.remember(block, &place, false);
                Ok(false)
            }
            Err(reject) => {
                if reject.lasting {
                    self.remember(block, &place, true);
                }
                Err(reject)
            }
        }
    }

    fn check_spending(
        &self,
        block: &Block,
        txids: &[Txid],
        place: &Place,
    ) -> Result<Spent, Reject> {
        // The mempool verified a transaction's scripts when it came; the wtxid covers witnesses.
        let scripts_known = |txid: &Txid, transaction: &Transaction| {
            let entry = self.mempool.find(txid);
            entry.is_some_and(|entry| entry.wtxid == transaction.compute_wtxid())
        };
        let mtp_at = |height: u32| self.median_time_past(self.active[height as usize]);
        let context = check::Context { coins: &self.coins, verifier: &self.verifier };
        check::spending(block, txids, place, context, scripts_known, mtp_at)
    }

    fn remember(&mut self, block: &Block, place: &Place, failed: bool) {
        let Header { prev_blockhash: prev, time, .. } = block.header;
        // On the tip the difficulty in force decides what comes next, elsewhere the parent's.
        let next_bits = if prev == self.tip_hash() { self.bits } else { place.bits };
        let known = Known { height: place.height, prev, time, next_bits, failed };
        self.index.insert(block.block_hash(), known);
    }

    // The one place where the tip moves forward.
    fn extend(&mut self, block: &Block, txids: &[Txid], spent: Spent) {
        let Spent { change, costs } = spent;
        let hash = block.block_hash();
        let transactions = block.txdata.iter().zip(txids).zip(&costs).skip(1);
        let entries = transactions.map(|((transaction, txid), cost)| {
            let waiting = self.mempool.find(txid).cloned();
            waiting.unwrap_or_else(|| Arc::new(Entry::new(transaction.clone(), *cost)))
        });
        let entries = entries.collect();
        self.coins.apply(&change);
        self.active.push(hash);
        self.wallet.tip_connected(self.height(), &change.created);
        self.mempool.tip_changed(&self.coins, self.height() + 1, Vec::new());
        self.recent.push_back(Connected { hash, change, entries });
        if self.recent.len() > REORG_DEPTH_MAX as usize {
            self.recent.pop_front();
        }
    }

    fn connect_own(&mut self, now: UnixMicros, selection: &Selection) {
        let block = self.own_block(now, selection);
        self.connect_trusted(&block, now);
    }

    fn connect_trusted(&mut self, block: &Block, now: UnixMicros) {
        let connected = self.connect(block, now, Work::Assumed);
        assert_eq!(connected, Ok(true), "the chain's own blocks pass its own check");
        self.stats.own_blocks += 1;
    }

    fn own_block(&mut self, now: UnixMicros, selection: &Selection) -> Block {
        let tip = self.tip_hash();
        let header = assemble::HeaderParts {
            height: self.height() + 1,
            prev: tip,
            bits: self.index[&tip].next_bits,
            time: self.block_time(now),
        };
        let nonce = self.rng.next_u64();
        assemble::block(&header, selection, self.wallet.open_script(), nonce)
    }

    fn select(&self) -> Selection {
        self.mempool.select(
            self.parameters.transactions as usize,
            check::BLOCK_WEIGHT_MAX - RESERVED_WEIGHT,
            check::BLOCK_SIGOPS_COST_MAX - RESERVED_SIGOPS,
        )
    }

    fn tip_moved(&mut self, now: UnixMicros) {
        let mean = self.parameters.block_seconds;
        self.own_block_due = (mean > 0.0).then(|| match self.parameters.spacing {
            Spacing::Fixed => now.plus_seconds(mean),
            Spacing::Poisson => now.plus_seconds(self.rng.exponential(mean)),
        });
        // Blocks in quick succession outrun the arrivals; the tip's first template is full still.
        let wanted = self.parameters.transactions as usize;
        self.fill_mempool(now, wanted.saturating_sub(self.mempool.len()));
        self.make_template(now);
        self.template_due = now.plus_seconds(self.parameters.template_seconds);
    }

    fn make_template(&mut self, now: UnixMicros) {
        let tip = self.tip_hash();
        let selection = self.select();
        let header = assemble::HeaderParts {
            height: self.height() + 1,
            prev: tip,
            bits: self.index[&tip].next_bits,
            time: self.block_time(now),
        };
        let min_ntime = self.median_time_past(tip) + 1;
        self.template = Some(Arc::new(assemble::template(&header, &selection, min_ntime)));
        self.template_generation = self.mempool.generation();
        self.stats.templates += 1;
    }

    fn transactions_arrive(&mut self, now: UnixMicros, elapsed_seconds: f64) {
        let wanted = self.parameters.transactions as usize;
        let seconds = match self.parameters.block_seconds {
            seconds if self.mempool.len() < wanted * MEMPOOL_TEMPLATES => match seconds {
                0.0 => ARRIVAL_SECONDS,
                // Twice as fast as blocks take them, or quick blocks would run the pool dry.
                seconds => ARRIVAL_SECONDS.min(seconds / 2.0),
            },
            0.0 => ARRIVAL_SLOW_SECONDS,
            seconds => seconds.max(ARRIVAL_SECONDS),
        };
        let portion = wanted as f64 / seconds * elapsed_seconds;
        self.fill_mempool(now, portion.ceil() as usize);
    }

    fn fill_mempool(&mut self, now: UnixMicros, portion: usize) {
        let wanted = self.parameters.transactions as usize;
        let room = (wanted * MEMPOOL_TEMPLATES_MAX).saturating_sub(self.mempool.len());
        let place = self.next_place(now);
        for _ in 0..portion.min(room) {
            let split = self.wallet.ready() < wanted;
            let (coins, mempool) = (&self.coins, &self.mempool);
            let find = |outpoint: &_| coins.find(outpoint).filter(|_| !mempool.is_spent(outpoint));
            let Some(transaction) = self.wallet.next_transaction(&mut self.rng, split, find) else {
                break;
            };
            self.accept(transaction, &place);
        }
    }

    // The mempool's door: the same rules as in a block, with the scripts verified.
    fn accept(&mut self, transaction: Transaction, place: &Place) {
        let context = check::Context { coins: &self.coins, verifier: &self.verifier };
        let accepted = check::transaction(&transaction, place, context);
        let cost = accepted.expect("the wallet makes valid transactions");
        self.mempool.push(Arc::new(Entry::new(transaction, cost)));
    }

    fn next_place(&self, now: UnixMicros) -> Place {
        let tip = self.tip_hash();
        Place {
            height: self.height() + 1,
            bits: self.index[&tip].next_bits,
            median_time_past: self.median_time_past(tip),
            now_seconds: now.seconds(),
        }
    }

    fn build_history(&mut self, now: UnixMicros) {
        let spacing = match self.parameters.block_seconds {
            0.0 => ARRIVAL_SECONDS,
            seconds => seconds,
        };
        let start = self.parameters.start_height;
        for height in 1..=start {
            let age = f64::from(start - height + 1) * spacing * MICROS;
            let then = UnixMicros(now.0.saturating_sub(age as u64));
            if height + FUNDING_BLOCKS > start {
                self.fund(then, start - height + 1);
            }
            self.connect_own(then, &self.mempool.select(usize::MAX, u64::MAX, u64::MAX));
        }
        // History is not taken back: the blocks that pay for everything stay.
        self.recent.clear();
        self.stats = Stats::default();
    }

    // Splits what has matured, so that the coins suffice once the last funding block is there.
    fn fund(&mut self, now: UnixMicros, blocks_left: u32) {
        let wanted = (self.parameters.transactions * COINS_PER_TRANSACTION) as usize;
        let large = self.wallet.large_ready(&self.coins);
        let missing = wanted.saturating_sub(self.wallet.ready() - large);
        let outputs = missing.div_ceil(blocks_left as usize).min(FUNDING_OUTPUTS_MAX);
        // An equal part of the matured coinbases for each funding block that is left.
        let sources = large.div_ceil(blocks_left as usize).min(outputs);
        let place = self.next_place(now);
        for _ in 0..sources {
            let coins = &self.coins;
            let find = |outpoint: &_| coins.find(outpoint);
            let count = outputs.div_ceil(sources);
            let Some(split) = self.wallet.split(&mut self.rng, count, find) else { break };
            self.accept(split, &place);
        }
    }

    fn tip_hash(&self) -> BlockHash {
        *self.active.last().expect("genesis is never taken back")
    }

    // A miner's clock, but never at or below the median time past.
    fn block_time(&self, now: UnixMicros) -> u32 {
        let earliest = self.median_time_past(self.tip_hash()) + 1;
        u32::try_from(now.seconds()).unwrap_or(u32::MAX).max(earliest)
    }

    fn median_time_past(&self, tip: BlockHash) -> u32 {
        let mut times = Vec::with_capacity(11);
        let mut next = tip;
        while let Some(known) = self.index.get(&next).filter(|_| times.len() < 11) {
            times.push(known.time);
            next = known.prev;
        }
        times.sort_unstable();
        times[times.len() / 2]
    }
}
