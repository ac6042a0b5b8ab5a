//! What any source of work gives: a node over RPC or IPC, a template provider, a simulated chain.
//! Plain data; `farm` makes jobs of it.

use alloc::sync::Arc;
use alloc::vec::Vec;

use crate::sha256::Hash256;

/// A block to be, all but its coinbase's script and outputs, its time and its nonce.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Template {
    /// Height of the block to be (BIP 34).
    pub height: u32,
    /// Hash of the tip on which it stands, in header byte order.
    pub prev_hash: Hash256,
    /// Header version before any rolling.
    pub version: u32,
    /// The network's target in compact form.
    pub bits: u32,
    /// The source's time when it made the template, in seconds since 1970.
    pub curtime: u32,
    /// Earliest header time that the network takes: one value per tip.
    pub min_ntime: u32,
    /// Subsidy and fees in satoshi.
    pub coinbase_value: u64,
    /// The coinbase transaction's version.
    pub coinbase_version: u32,
    /// The coinbase input's sequence.
    pub coinbase_sequence: u32,
    /// The coinbase transaction's lock time.
    pub coinbase_locktime: u32,
    /// The whole scriptPubKey that commits to the witnesses, where any transaction has one.
    pub witness_commitment: Option<Vec<u8>>,
    /// Bytes that the source wants in the coinbase's script.
    pub coinbase_aux: Vec<u8>,
    /// Siblings of the coinbase up to the root, nearest first.
    pub merkle_path: Vec<Hash256>,
    /// The other transactions with their witnesses, in block order.
    pub transactions: Arc<[Arc<[u8]>]>,
    /// Weight of those transactions, in weight units.
    pub weight: u64,
}
