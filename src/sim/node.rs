//! The source of work: a chain that grows on its own clock and by the blocks that are submitted to
//! it. It checks every submitted block against its own template, hash by hash.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use farm::blocks::{SubmitBlock, SubmitResult};
use pow::{Hash256, Header, Kernel, Target, Template, merkle_path, merkle_root};

use crate::random::Random;

const HEADER_BYTES: usize = 80;
/// About every 200th hash is a block: often enough to test, too seldom to drown in.
pub const BITS: u32 = 0x2001_4000;

/// The simulated node.
pub struct Node {
    kernel: Kernel,
    random: Random,
    templates: BTreeMap<[u8; 32], Vec<Arc<Template>>>,
    /// Previous hashes in the order in which they were adopted; one may come back.
    pub tips: Vec<Hash256>,
    height: u32,
    fees: u64,
    /// The hashes of all blocks that were submitted and are right.
    pub submitted: BTreeSet<[u8; 32]>,
}

impl Node {
    /// A chain with no template yet.
    pub fn new(kernel: Kernel, random: Random) -> Node {
        Node {
            kernel,
            random,
            templates: BTreeMap::new(),
            tips: Vec::new(),
            height: 100,
            fees: 0,
            submitted: BTreeSet::new(),
        }
    }

    /// A template on a new tip, or with `back` on the tip before this one.
    pub fn new_tip(&mut self, now: u64, back: bool) -> Arc<Template> {
        let before = self.tips.len().checked_sub(2).map(|place| self.tips[place]);
        let tip = match before.filter(|_| back) {
            Some(before) => before,
            None => {
                self.height += 1;
                self.kernel.sha256d(&self.random.bits().to_le_bytes())
            }
        };
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
        let curtime = 1_800_000_000 + (now / 1_000_000) as u32;
        let template = Arc::new(Template {
            height: self.height,
            prev_hash,
            version: 0x2000_0000,
            bits: BITS,
            curtime,
            min_ntime: 1_799_990_000,
            coinbase_value: 5_000_000_000 + self.fees,
            coinbase_version: 2,
            coinbase_sequence: 0xffff_fffe,
            coinbase_locktime: self.height - 1,
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
    pub fn judge(&mut self, block: &SubmitBlock) -> Result<SubmitResult, String> {
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
        merkle_root(self.kernel, txid, &template.merkle_path) == header.merkle_root
    }
}
