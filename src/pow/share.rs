//! Share validation: from (job, extranonce, version, time, nonce) to the header's hash.
//!
//! ```text
//! coinbase:  first                    extranonce   second           padding
//!            └ whole blocks ┘└ one or two rolled blocks ┘└ fixed blocks ────┘
//!              midstate         spliced per share          expanded schedules
//! ```
//! [`Work`] does once per job what no share changes; `sha256::dispatch` hashes. What a hash is
//! good for, and whether the share may come at all, is decided elsewhere, and the cheap checks
//! come first. Nothing here allocates per share.

use alloc::vec::Vec;
use core::fmt;

use crate::header::Header;
use crate::merkle::merkle_root;
use crate::sha256::kernels::portable::midstate;
#[cfg(target_arch = "x86_64")]
use crate::sha256::words::{Schedule, schedule};
use crate::sha256::words::{pad, words};
use crate::sha256::{Hash256, Kernel};

/// Most bytes that a miner rolls: what SV2 allows an extranonce prefix and suffix together.
pub const EXTRANONCE_SIZE_MAX: usize = 32;
/// Deepest merkle path: 2^16 transactions would exceed the block's weight twice over.
pub const PATH_DEPTH_MAX: usize = 16;

/// What a job is hashed from, borrowed for [`Work::new`].
#[derive(Clone, Copy, Debug)]
pub struct WorkParts<'a> {
    /// The stripped coinbase before the extranonce.
    pub coinbase_first: &'a [u8],
    /// The stripped coinbase after it.
    pub coinbase_second: &'a [u8],
    /// Bytes of the whole rolled part, extranonce1 and extranonce2 together.
    pub extranonce_size: usize,
    /// Siblings from the coinbase up to the root.
    pub merkle_path: &'a [Hash256],
    /// Hash of the tip.
    pub prev_hash: Hash256,
    /// The header's compact target.
    pub bits: u32,
}

/// A job, prepared so that a share costs nothing but its compressions.
#[derive(Clone, Debug)]
pub struct Work {
    /// The state after the whole blocks before the extranonce.
    midstate: [u32; 8],
    /// The blocks that the extranonce touches, zeros in its place; `shape.rolled` of them.
    rolled: [[u8; 64]; ROLLED_BLOCKS_MAX],
    /// Where it begins in them.
    extranonce_at: usize,
    extranonce_size: usize,
    /// What follows, padding included.
    fixed: Vec<FixedBlock>,
    /// The merkle path as words.
    path_words: Vec<[u32; 8]>,
    #[cfg(target_arch = "x86_64")]
    prev_words: [u32; 8],
    shape: Shape,
    /// The coinbase with zeros in the extranonce's place, for found blocks and for kernels
    /// that know no midstates.
    coinbase: Vec<u8>,
    /// Bytes of the coinbase before the extranonce.
    first_bytes: usize,
    path: Vec<Hash256>,
    prev_hash: Hash256,
    bits: u32,
}

/// A block that no share changes.
#[derive(Clone, Debug)]
struct FixedBlock {
    bytes: [u8; 64],
    #[cfg(target_arch = "x86_64")]
    schedule: Schedule,
}

/// What decides how many compressions a share takes: only shares alike go side by side.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct Shape {
    /// Blocks that the extranonce touches.
    pub(crate) rolled: usize,
    /// Blocks behind them.
    pub(crate) fixed: usize,
    /// Nodes of the merkle path.
    pub(crate) depth: usize,
}

/// An extranonce of at most 32 bytes that begins within a block ends in it or in the next.
const ROLLED_BLOCKS_MAX: usize = 2;
const _: () = assert!(63 + EXTRANONCE_SIZE_MAX <= 64 * ROLLED_BLOCKS_MAX);

/// Parts that make no work. The source's fault.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum WorkError {
    /// The extranonce has no bytes, or more than [`EXTRANONCE_SIZE_MAX`].
    ExtranonceSize {
        /// The bytes asked for.
        bytes: usize,
    },
    /// The merkle path is longer than [`PATH_DEPTH_MAX`].
    PathTooDeep {
        /// Its length.
        depth: usize,
    },
}

impl fmt::Display for WorkError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            WorkError::ExtranonceSize { bytes } => {
                write!(f, "an extranonce of {bytes} bytes: 1 to {EXTRANONCE_SIZE_MAX} are possible")
            }
            WorkError::PathTooDeep { depth } => {
                write!(f, "a merkle path of {depth} nodes: at most {PATH_DEPTH_MAX} are possible")
            }
        }
    }
}

impl core::error::Error for WorkError {}

impl Work {
    /// Prepares a job.
    pub fn new(parts: WorkParts<'_>) -> Result<Work, WorkError> {
        let extranonce_size = parts.extranonce_size;
        if !(1..=EXTRANONCE_SIZE_MAX).contains(&extranonce_size) {
            return Err(WorkError::ExtranonceSize { bytes: extranonce_size });
        }
        if parts.merkle_path.len() > PATH_DEPTH_MAX {
            return Err(WorkError::PathTooDeep { depth: parts.merkle_path.len() });
        }
        let mut coinbase = parts.coinbase_first.to_vec();
        coinbase.extend_from_slice(&[0; EXTRANONCE_SIZE_MAX][..extranonce_size]);
        coinbase.extend_from_slice(parts.coinbase_second);
        let (before, after) = coinbase.split_at(parts.coinbase_first.len() / 64 * 64);
        let extranonce_at = parts.coinbase_first.len() - before.len();
        let blocks = padded(after, coinbase.len());
        let rolled_blocks = (extranonce_at + extranonce_size).div_ceil(64);
        let (rolled_part, fixed_part) = blocks.split_at(rolled_blocks);
        let mut rolled = [[0; 64]; ROLLED_BLOCKS_MAX];
        rolled[..rolled_blocks].copy_from_slice(rolled_part);
        let fixed: Vec<FixedBlock> = fixed_part.iter().map(FixedBlock::new).collect();
        let depth = parts.merkle_path.len();
        let shape = Shape { rolled: rolled_blocks, fixed: fixed.len(), depth };
        Ok(Work {
            midstate: midstate(before.as_chunks().0),
            rolled,
            extranonce_at,
            extranonce_size,
            fixed,
            path_words: parts.merkle_path.iter().map(|hash| words(&hash.0)).collect(),
            #[cfg(target_arch = "x86_64")]
            prev_words: words(&parts.prev_hash.0),
            shape,
            first_bytes: parts.coinbase_first.len(),
            path: parts.merkle_path.to_vec(),
            prev_hash: parts.prev_hash,
            bits: parts.bits,
            coinbase,
        })
    }

    /// Hash of the tip.
    pub fn prev_hash(&self) -> Hash256 {
        self.prev_hash
    }

    /// The header's compact target.
    pub fn bits(&self) -> u32 {
        self.bits
    }

    /// Bytes that a share's extranonce has.
    pub fn extranonce_size(&self) -> usize {
        self.extranonce_size
    }

    /// Siblings from the coinbase up to the root.
    pub fn path(&self) -> &[Hash256] {
        &self.path
    }

    /// Compressions that a share of this work takes: the floor of its cost.
    pub fn compressions(&self) -> usize {
        // A node is two blocks and the digest's one, a header likewise.
        self.shape.rolled + self.shape.fixed + 1 + 3 * self.shape.depth + 3
    }

    /// The header that a share stands for: for a found block, not for the hot path.
    pub fn header(&self, kernel: Kernel, share: &Share) -> Header {
        assert_eq!(share.extranonce.len(), self.extranonce_size);
        let mut coinbase = self.coinbase.clone();
        coinbase[self.first_bytes..][..self.extranonce_size]
            .copy_from_slice(share.extranonce.as_slice());
        let txid = kernel.sha256d(&coinbase);
        self.header_over(merkle_root(kernel, txid, &self.path), share)
    }

    pub(crate) fn header_over(&self, merkle_root: Hash256, share: &Share) -> Header {
        Header {
            version: share.version,
            prev_hash: self.prev_hash,
            merkle_root,
            ntime: share.ntime,
            bits: self.bits,
            nonce: share.nonce,
        }
    }

    pub(crate) fn shape(&self) -> Shape {
        self.shape
    }

    pub(crate) fn midstate(&self) -> &[u32; 8] {
        &self.midstate
    }

    /// The blocks that the extranonce touches, with this share's in its place.
    #[inline]
    pub(crate) fn rolled_blocks(&self, share: &Share) -> [[u8; 64]; ROLLED_BLOCKS_MAX] {
        assert_eq!(share.extranonce.len(), self.extranonce_size, "checked before hashing");
        let mut blocks = self.rolled;
        blocks.as_flattened_mut()[self.extranonce_at..][..self.extranonce_size]
            .copy_from_slice(share.extranonce.as_slice());
        blocks
    }

    pub(crate) fn fixed_block(&self, place: usize) -> &[u8; 64] {
        &self.fixed[place].bytes
    }

    #[cfg(target_arch = "x86_64")]
    pub(crate) fn fixed_schedule(&self, place: usize) -> &Schedule {
        &self.fixed[place].schedule
    }

    pub(crate) fn path_words(&self, level: usize) -> &[u32; 8] {
        &self.path_words[level]
    }

    #[cfg(target_arch = "x86_64")]
    pub(crate) fn prev_words(&self) -> &[u32; 8] {
        &self.prev_words
    }

    /// What the extranonce stands between.
    pub(crate) fn coinbase_halves(&self) -> (&[u8], &[u8]) {
        let (first, rest) = self.coinbase.split_at(self.first_bytes);
        (first, &rest[self.extranonce_size..])
    }
}

impl FixedBlock {
    fn new(bytes: &[u8; 64]) -> FixedBlock {
        FixedBlock {
            bytes: *bytes,
            #[cfg(target_arch = "x86_64")]
            schedule: schedule(words(bytes)),
        }
    }
}

/// The end of a message of `length` bytes as blocks, padding included.
fn padded(end: &[u8], length: usize) -> Vec<[u8; 64]> {
    let (whole, rest) = end.as_chunks::<64>();
    let (tail, used) = pad(rest, length);
    let mut blocks = whole.to_vec();
    blocks.extend_from_slice(&tail[..used]);
    blocks
}

/// The whole rolled part, extranonce1 and extranonce2, inline.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Extranonce {
    bytes: [u8; EXTRANONCE_SIZE_MAX],
    len: u8,
}

impl Extranonce {
    /// `None` for more than [`EXTRANONCE_SIZE_MAX`] bytes.
    pub fn new(bytes: &[u8]) -> Option<Extranonce> {
        Extranonce::joined(bytes, &[])
    }

    /// Extranonce1 and extranonce2 in this order; `None` where they do not fit.
    pub fn joined(first: &[u8], second: &[u8]) -> Option<Extranonce> {
        let len = first.len() + second.len();
        let mut bytes = [0; EXTRANONCE_SIZE_MAX];
        bytes.get_mut(..first.len())?.copy_from_slice(first);
        bytes.get_mut(first.len()..len)?.copy_from_slice(second);
        Some(Extranonce { bytes, len: len as u8 })
    }

    /// Its bytes in coinbase order.
    pub fn as_slice(&self) -> &[u8] {
        &self.bytes[..usize::from(self.len)]
    }

    /// How many bytes it has.
    pub fn len(&self) -> usize {
        usize::from(self.len)
    }

    /// Whether it has none.
    pub fn is_empty(&self) -> bool {
        self.len == 0
    }
}

/// What a miner found: everything that its job does not say.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Share {
    /// The whole rolled part of the coinbase.
    pub extranonce: Extranonce,
    /// The header's version, rolled bits and all.
    pub version: u32,
    /// The header's time, in seconds since 1970.
    pub ntime: u32,
    /// The header's nonce.
    pub nonce: u32,
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parts(path: &[Hash256], extranonce_size: usize) -> WorkParts<'_> {
        WorkParts {
            coinbase_first: &[1; 80],
            coinbase_second: &[2; 79],
            extranonce_size,
            merkle_path: path,
            prev_hash: Hash256::ZERO,
            bits: 0x1d00_ffff,
        }
    }

    #[test]
    fn a_share_of_depth_12_takes_42_compressions() {
        let path = [Hash256::ZERO; 12];
        let work = Work::new(parts(&path, 8)).expect("within the limits");
        assert_eq!(work.compressions(), 42);
    }

    #[test]
    fn parts_beyond_the_limits_are_refused() {
        let path = [Hash256::ZERO; PATH_DEPTH_MAX + 1];
        let error = |path, size| Work::new(parts(path, size)).expect_err("beyond the limits");
        assert_eq!(error(&path, 8), WorkError::PathTooDeep { depth: 17 });
        assert_eq!(error(&[], 0), WorkError::ExtranonceSize { bytes: 0 });
        assert_eq!(error(&[], 33), WorkError::ExtranonceSize { bytes: 33 });
        assert!(Work::new(parts(&path[1..], EXTRANONCE_SIZE_MAX)).is_ok());
    }

    #[test]
    fn extranonces_join_and_stay_within_their_limit() {
        let joined = Extranonce::joined(&[1, 2, 3, 4], &[5, 6]).expect("within the limit");
        assert_eq!(joined.as_slice(), [1, 2, 3, 4, 5, 6]);
        assert_eq!(Extranonce::new(&[1, 2, 3, 4, 5, 6]), Some(joined));
        assert_eq!(joined.len(), 6);
        assert!(Extranonce::new(&[]).expect("within the limit").is_empty());
        assert!(Extranonce::new(&[0; EXTRANONCE_SIZE_MAX]).is_some());
        assert_eq!(Extranonce::new(&[0; EXTRANONCE_SIZE_MAX + 1]), None);
        assert_eq!(Extranonce::joined(&[0; 40], &[0; 2]), None);
    }
}
