//! The source of work: a chain that grows on its own clock and by the blocks that are submitted to
//! it. It checks every submitted block against its own template, hash by hash.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::sync::Arc;

use farm::blocks::{SubmitBlock, SubmitResult};
use pow::{Hash256, Header, Kernel, Target, Template, merkle_path, merkle_root};

use crate::random::Random;

const HEADER_BYTES: usize = 80;
/// Version, number of inputs, the null outpoint, the script's length.
const COINBASE_SCRIPT_AT: usize = 4 + 1 + 36 + 1;
/// About every 200th hash is a block: often enough to test, too seldom to drown in.
pub const BITS: u32 = 0x2001_4000;

/// The true time at which a world begins, seconds since 1970.
const EPOCH: u32 = 1_800_000_000;
/// How far a block's time may be ahead of the node's clock, in seconds.
const AHEAD_MAX: i64 = 7_200;
/// The tips whose times make the median that the next block's must pass.
const MEDIAN_TIPS: usize = 11;

/// How a tip comes about.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Move {
    /// On top of the present one.
    Forward,
    /// The one before the present returns.
    Return,
    /// A new one takes the place of the present, at its height.
    Rival,
    /// A new one takes its place that is lower by one: fewer blocks with more work.
    Lower,
}

/// What the node knows of a tip.
#[derive(Clone, Copy, Debug)]
struct Place {
    /// The height of the block that is sought on it.
    height: u32,
    /// The earliest time of that block.
    min_ntime: u32,
}

/// The simulated node.
pub struct Node {
    kernel: Kernel,
    random: Random,
    templates: BTreeMap<[u8; 32], Vec<Arc<Template>>>,
    /// Previous hashes in the order in which they were adopted; one may come back.
    pub tips: Vec<Hash256>,
    places: BTreeMap<[u8; 32], Place>,
    /// The times of the newest tips.
    times: VecDeque<u32>,
    /// How far its clock is off, in seconds.
    pub clock_off: i64,
    fees: u64,
    /// The hashes of all blocks that were submitted and are right.
    pub submitted: BTreeSet<[u8; 32]>,
    /// Blocks whose time the node's clock has not reached.
    pub too_new: BTreeSet<[u8; 32]>,
}

impl Node {
    /// A chain with no template yet, whose last blocks are ten minutes apart.
    pub fn new(kernel: Kernel, random: Random) -> Node {
        Node {
            kernel,
            random,
            templates: BTreeMap::new(),
            tips: Vec::new(),
            places: BTreeMap::new(),
            times: (1..=MEDIAN_TIPS as u32).rev().map(|ago| EPOCH - 600 * ago).collect(),
            clock_off: 0,
            fees: 0,
            submitted: BTreeSet::new(),
            too_new: BTreeSet::new(),
        }
    }

    /// What its clock shows, seconds since 1970.
    fn clock(&self, now: u64) -> i64 {
        i64::from(EPOCH) + (now / 1_000_000) as i64 + self.clock_off
    }

    /// A template on another tip.
    pub fn new_tip(&mut self, now: u64, how: Move) -> Arc<Template> {
        let before = self.tips.len().checked_sub(2).map(|place| self.tips[place]);
        if let Some(before) = before.filter(|_| how == Move::Return) {
            self.tips.push(before);
            // Another node, or this one begun anew, offers the very template once more.
            let same = self.templates[&before.0].last().expect("it had one").clone();
            return if self.random.happens(500) { same } else { self.refresh(now) };
        }
        let height = self.tips.last().map_or(100, |tip| self.places[&tip.0].height);
        let height = match how {
            Move::Forward | Move::Return => height + 1,
            Move::Rival => height,
            Move::Lower => height - 1,
        };
        let mut times: Vec<u32> = self.times.iter().copied().collect();
        times.sort_unstable();
        let min_ntime = times[MEDIAN_TIPS / 2] + 1;
        self.times.pop_front();
        self.times.push_back(self.clock(now).max(i64::from(min_ntime)) as u32);
        let tip = self.kernel.sha256d(&self.random.bits().to_le_bytes());
        self.places.insert(tip.0, Place { height, min_ntime });
        self.tips.push(tip);
        self.refresh(now)
    }

    /// Another template on the present tip.
    pub fn refresh(&mut self, now: u64) -> Arc<Template> {
        self.fees += 1;
        let count = self.random.below(4);
        let transactions: Vec<Arc<[u8]>> =
            (0..count).map(|_| Arc::from(self.random.bits().to_le_bytes().repeat(8))).collect();
        let txids: Vec<Hash256> =
            transactions.iter().map(|bytes| self.kernel.sha256d(bytes)).collect();
        let prev_hash = *self.tips.last().expect("a tip comes first");
        let Place { height, min_ntime } = self.places[&prev_hash.0];
        let template = Arc::new(Template {
            height,
            prev_hash,
            version: 0x2000_0000,
            bits: BITS,
            curtime: self.clock(now).max(i64::from(min_ntime)) as u32,
            min_ntime,
            coinbase_value: 5_000_000_000 + self.fees,
            coinbase_version: 2,
            coinbase_sequence: 0xffff_fffe,
            coinbase_locktime: height - 1,
            witness_commitment: None,
            coinbase_aux: Vec::new(),
            merkle_path: merkle_path(&txids),
            weight: 4 * transactions.iter().map(|bytes| bytes.len() as u64).sum::<u64>(),
            transactions: transactions.into(),
        });
        self.templates.entry(prev_hash.0).or_default().push(template.clone());
        template
    }

    /// Judges a whole block. `Err` says why it is no block at all: our fault.
    pub fn judge(&mut self, now: u64, block: &SubmitBlock) -> Result<SubmitResult, String> {
        let bytes = &block.bytes;
        let header: &[u8; HEADER_BYTES] =
            bytes.first_chunk().ok_or("a block shorter than its header")?;
        let (hash, header) = (self.kernel.sha256d(header), Header::from_bytes(header));
        let target = Target::from_compact(BITS).expect("the bits are a target");
        if header.bits != BITS || !target.is_met_by(&hash) {
            return Err("a block without its proof of work".to_owned());
        }
        let templates = self.templates.get(&header.prev_hash.0).ok_or("a block on no tip")?;
        let stands = templates.iter().any(|template| self.stands_on(template, &header, bytes));
        if !stands {
            return Err("a block whose merkle root is not that of its transactions".to_owned());
        }
        if header.ntime < self.places[&header.prev_hash.0].min_ntime {
            return Err("a block before its earliest time".to_owned());
        }
        if i64::from(header.ntime) > self.clock(now) + AHEAD_MAX {
            self.too_new.insert(hash.0);
            return Ok(SubmitResult::TimeTooNew);
        }
        if !self.submitted.insert(hash.0) {
            return Ok(SubmitResult::Duplicate);
        }
        let current = self.tips.last() == Some(&header.prev_hash);
        Ok(if current { SubmitResult::Accepted } else { SubmitResult::Stale })
    }

    /// Whether a block is the template's own, with a coinbase of its height.
    fn stands_on(&self, template: &Template, header: &Header, bytes: &[u8]) -> bool {
        let tail: Vec<u8> = template.transactions.concat();
        let start = HEADER_BYTES + 1;
        let count = usize::from(bytes[HEADER_BYTES]);
        if count != template.transactions.len() + 1 || !bytes.ends_with(&tail) {
            return false;
        }
        let coinbase = &bytes[start..bytes.len() - tail.len()];
        let txid = self.kernel.sha256d(coinbase);
        // BIP34: its height is what the coinbase's script begins with, two bytes of it here.
        let [low, high, ..] = template.height.to_le_bytes();
        let height: &[u8] = if high > 0 || low > 0x7f { &[2, low, high] } else { &[1, low] };
        let script = coinbase.get(COINBASE_SCRIPT_AT..).unwrap_or_default();
        if !script.starts_with(height) {
            return false;
        }
        merkle_root(self.kernel, txid, &template.merkle_path) == header.merkle_root
    }
}
