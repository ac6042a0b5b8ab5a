//! The 80-byte block header, field by field. Whether it meets a target is `target`'s business.

use crate::sha256::kernels::portable::midstate;
#[cfg(target_arch = "x86_64")]
use crate::sha256::words::words;
use crate::sha256::{Hash256, Kernel};

/// Bytes of a serialized header.
pub const HEADER_BYTES: usize = 80;

/// A block header in host numbers; hashes are in header (internal) byte order.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Header {
    /// Version with its rolled bits (BIP 320).
    pub version: u32,
    /// Hash of the previous header.
    pub prev_hash: Hash256,
    /// Root of the transactions' merkle tree.
    pub merkle_root: Hash256,
    /// Seconds since 1970.
    pub ntime: u32,
    /// Target in compact form.
    pub bits: u32,
    /// The miner's 32 bits.
    pub nonce: u32,
}

impl Header {
    /// The header as it is hashed and sent: numbers little-endian.
    pub fn to_bytes(&self) -> [u8; HEADER_BYTES] {
        let mut bytes = [0; HEADER_BYTES];
        bytes[..4].copy_from_slice(&self.version.to_le_bytes());
        bytes[4..36].copy_from_slice(&self.prev_hash.0);
        bytes[36..68].copy_from_slice(&self.merkle_root.0);
        bytes[68..72].copy_from_slice(&self.ntime.to_le_bytes());
        bytes[72..76].copy_from_slice(&self.bits.to_le_bytes());
        bytes[76..].copy_from_slice(&self.nonce.to_le_bytes());
        bytes
    }

    /// Reads the 80 bytes; every value is a header.
    pub fn from_bytes(bytes: &[u8; HEADER_BYTES]) -> Header {
        let number = |at: usize| {
            u32::from_le_bytes([bytes[at], bytes[at + 1], bytes[at + 2], bytes[at + 3]])
        };
        let hash = |at: usize| {
            let mut hash = [0; 32];
            hash.copy_from_slice(&bytes[at..at + 32]);
            Hash256(hash)
        };
        Header {
            version: number(0),
            prev_hash: hash(4),
            merkle_root: hash(36),
            ntime: number(68),
            bits: number(72),
            nonce: number(76),
        }
    }

    /// The double SHA-256 that proof of work is about.
    pub fn hash(&self, kernel: Kernel) -> Hash256 {
        kernel.sha256d(&self.to_bytes())
    }
}

/// A header without its nonce, prepared for hashing it with many.
#[derive(Clone, Debug)]
pub(crate) struct HeaderStart {
    /// The state after the first 64 bytes.
    pub(crate) midstate: [u32; 8],
    /// The words between them and the nonce: end of the root, time, bits.
    #[cfg(target_arch = "x86_64")]
    pub(crate) tail: [u32; 3],
    bytes: [u8; HEADER_BYTES],
}

impl HeaderStart {
    pub(crate) fn new(header: &[u8; HEADER_BYTES]) -> HeaderStart {
        HeaderStart {
            midstate: midstate(header[..64].as_chunks().0),
            #[cfg(target_arch = "x86_64")]
            tail: words(&header[64..76]),
            bytes: *header,
        }
    }

    /// The whole header with this nonce.
    pub(crate) fn with(&self, nonce: u32) -> [u8; HEADER_BYTES] {
        let mut bytes = self.bytes;
        bytes[76..].copy_from_slice(&nonce.to_le_bytes());
        bytes
    }
}
