//! The coinbase transaction of a job, in two halves around the bytes that miners roll.
//!
//! ```text
//! first:  version · 1 input · null outpoint · script length ·
//!         [ height push · aux · prefix                       ← scriptSig, 2..=100 bytes
//! miner:    extranonce
//! second:   signature ] · sequence · outputs · lock time
//! ```
//! Both halves are stripped of the witness, so that their hash is the txid; `block` puts it back.

use alloc::vec::Vec;
use core::fmt;

use crate::template::Template;

/// Consensus: a coinbase script has at least this many bytes ("bad-cb-length").
pub const SCRIPT_BYTES_MIN: usize = 2;
/// Consensus: a coinbase script has at most this many bytes ("bad-cb-length").
pub const SCRIPT_BYTES_MAX: usize = 100;

/// What makes a coinbase besides the template.
#[derive(Clone, Copy, Debug)]
pub struct CoinbaseParts<'a> {
    /// Where height, value, commitment and the fixed fields come from.
    pub template: &'a Template,
    /// Fixed bytes before the miner's own: the upstream's prefix, padding, a group id.
    pub prefix: &'a [u8],
    /// Bytes that the miner's extranonces (1 and 2) fill.
    pub extranonce_size: usize,
    /// scriptPubKey that gets the whole value.
    pub payout_script: &'a [u8],
    /// Bytes after the extranonce that say who made the block.
    pub signature: &'a [u8],
}

/// The two halves as SV1 names them, coinb1 and coinb2, without witness.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Coinbase {
    /// Everything before the extranonce.
    pub first: Vec<u8>,
    /// Everything after it.
    pub second: Vec<u8>,
}

/// A coinbase that the network would refuse. The operator's or the source's fault, by field.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum CoinbaseError {
    /// Height, aux, prefix, extranonce and signature together exceed [`SCRIPT_BYTES_MAX`].
    ScriptTooLong {
        /// The script's length in bytes.
        bytes: usize,
    },
    /// They have fewer than [`SCRIPT_BYTES_MIN`] bytes.
    ScriptTooShort {
        /// The script's length in bytes.
        bytes: usize,
    },
}

impl fmt::Display for CoinbaseError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            CoinbaseError::ScriptTooLong { bytes } => write!(
                f,
                "the coinbase script would have {bytes} bytes, {SCRIPT_BYTES_MAX} are allowed: \
                 shorten the signature or the extranonce"
            ),
            CoinbaseError::ScriptTooShort { bytes } => write!(
                f,
                "the coinbase script would have {bytes} bytes, {SCRIPT_BYTES_MIN} are needed: \
                 lengthen the extranonce"
            ),
        }
    }
}

impl core::error::Error for CoinbaseError {}

impl Coinbase {
    /// Lays out the halves; the extranonce's place between them is `extranonce_size` bytes.
    pub fn new(parts: &CoinbaseParts<'_>) -> Result<Coinbase, CoinbaseError> {
        let height = bip34_push(parts.template.height);
        let before = height.len() + parts.template.coinbase_aux.len() + parts.prefix.len();
        let bytes = before + parts.extranonce_size + parts.signature.len();
        if bytes > SCRIPT_BYTES_MAX {
            return Err(CoinbaseError::ScriptTooLong { bytes });
        }
        if bytes < SCRIPT_BYTES_MIN {
            return Err(CoinbaseError::ScriptTooShort { bytes });
        }
        Ok(Coinbase { first: first_half(parts, &height, bytes), second: second_half(parts) })
    }
}

fn first_half(parts: &CoinbaseParts<'_>, height: &[u8], script_bytes: usize) -> Vec<u8> {
    let mut first = Vec::with_capacity(42 + script_bytes);
    first.extend_from_slice(&parts.template.coinbase_version.to_le_bytes());
    push_compact_size(&mut first, 1);
    first.extend_from_slice(&[0; 32]);
    first.extend_from_slice(&[0xff; 4]);
    push_compact_size(&mut first, script_bytes as u64);
    first.extend_from_slice(height);
    first.extend_from_slice(&parts.template.coinbase_aux);
    first.extend_from_slice(parts.prefix);
    first
}

fn second_half(parts: &CoinbaseParts<'_>) -> Vec<u8> {
    let commitment = parts.template.witness_commitment.as_deref();
    let mut second = Vec::with_capacity(64 + parts.payout_script.len() + parts.signature.len());
    second.extend_from_slice(parts.signature);
    second.extend_from_slice(&parts.template.coinbase_sequence.to_le_bytes());
    push_compact_size(&mut second, 1 + u64::from(commitment.is_some()));
    push_output(&mut second, parts.template.coinbase_value, parts.payout_script);
    if let Some(script) = commitment {
        push_output(&mut second, 0, script);
    }
    second.extend_from_slice(&parts.template.coinbase_locktime.to_le_bytes());
    second
}

fn push_output(transaction: &mut Vec<u8>, value: u64, script: &[u8]) {
    transaction.extend_from_slice(&value.to_le_bytes());
    push_compact_size(transaction, script.len() as u64);
    transaction.extend_from_slice(script);
}

/// The script bytes that push a height as BIP 34 wants it: `OP_0`, `OP_1`..`OP_16`, above that
/// the shortest little-endian number with a clear sign bit.
pub fn bip34_push(height: u32) -> Vec<u8> {
    const OP_0: u8 = 0x00;
    const OP_1: u8 = 0x51;
    match height {
        0 => [OP_0].into(),
        1..=16 => [OP_1 + (height as u8 - 1)].into(),
        _ => {
            let bytes = u64::from(height).to_le_bytes();
            let bits = u32::BITS - height.leading_zeros();
            // One bit more than the number has: the sign, or 128 would read as minus zero.
            let length = (bits as usize + 1).div_ceil(8);
            let mut push = Vec::with_capacity(1 + length);
            push.push(length as u8);
            push.extend_from_slice(&bytes[..length]);
            push
        }
    }
}

/// Appends Bitcoin's variable-length count.
pub(crate) fn push_compact_size(bytes: &mut Vec<u8>, value: u64) {
    match value {
        0..=0xfc => bytes.push(value as u8),
        0xfd..=0xffff => {
            bytes.push(0xfd);
            bytes.extend_from_slice(&(value as u16).to_le_bytes());
        }
        0x1_0000..=0xffff_ffff => {
            bytes.push(0xfe);
            bytes.extend_from_slice(&(value as u32).to_le_bytes());
        }
        _ => {
            bytes.push(0xff);
            bytes.extend_from_slice(&value.to_le_bytes());
        }
    }
}
