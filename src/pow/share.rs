//! Share validation: from (job, extranonce, version, time, nonce) to the header's hash.

use alloc::vec::Vec;
use core::fmt;

use crate::header::Header;
use crate::merkle::merkle_root;
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
    coinbase: Vec<u8>,
    extranonce_at: usize,
    extranonce_size: usize,
    path: Vec<Hash256>,
    prev_hash: Hash256,
    bits: u32,
}

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
        Ok(Work {
            coinbase,
            extranonce_at: parts.coinbase_first.len(),
            extranonce_size,
            path: parts.merkle_path.to_vec(),
            prev_hash: parts.prev_hash,
            bits: parts.bits,
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

    /// The header that a share stands for: for a found block, not for the hot path.
    pub fn header(&self, kernel: Kernel, share: &Share) -> Header {
        assert_eq!(share.extranonce.len(), self.extranonce_size);
        let mut coinbase = self.coinbase.clone();
        coinbase[self.extranonce_at..][..self.extranonce_size]
            .copy_from_slice(share.extranonce.as_slice());
        Header {
            version: share.version,
            prev_hash: self.prev_hash,
            merkle_root: merkle_root(kernel, kernel.sha256d(&coinbase), &self.path),
            ntime: share.ntime,
            bits: self.bits,
            nonce: share.nonce,
        }
    }
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

impl Kernel {
    /// Hashes any number of shares, each over its own work, into as many places of `out`.
    pub fn hash_shares(&self, shares: &[(&Work, Share)], out: &mut [Hash256]) {
        assert_eq!(shares.len(), out.len(), "one place per share");
        for ((work, share), out) in shares.iter().zip(out) {
            *out = self.hash_share(work, share);
        }
    }

    /// Hashes one share.
    pub fn hash_share(&self, work: &Work, share: &Share) -> Hash256 {
        work.header(*self, share).hash(*self)
    }
}
