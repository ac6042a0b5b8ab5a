//! Merkle paths from the coinbase to the root. The tree's other branches are nobody's business:
//! a miner changes the coinbase only.

use alloc::vec::Vec;

use crate::sha256::{Hash256, Kernel};

/// The siblings on the way from the coinbase (place 0) to the root, nearest first.
///
/// `txids` are those of the block's other transactions in block order, without the coinbase.
/// An odd row repeats its last node, as consensus asks.
pub fn merkle_path(txids: &[Hash256]) -> Vec<Hash256> {
    let kernel = Kernel::detect();
    let mut path = Vec::new();
    // Place 0 of each row holds a stand-in: it is on the coinbase's way and never read.
    let mut row = Vec::with_capacity(txids.len() + 2);
    row.push(Hash256::ZERO);
    row.extend_from_slice(txids);
    while row.len() > 1 {
        if !row.len().is_multiple_of(2) {
            row.extend(row.last().copied());
        }
        path.push(row[1]);
        let pairs: Vec<[u8; 64]> =
            row.chunks_exact(2).map(|pair| node(&pair[0], &pair[1])).collect();
        row.truncate(pairs.len());
        kernel.hash_nodes(&pairs, &mut row);
    }
    path
}

/// The root above a coinbase with this txid.
pub fn merkle_root(kernel: Kernel, coinbase_txid: Hash256, path: &[Hash256]) -> Hash256 {
    path.iter().fold(coinbase_txid, |left, right| kernel.sha256d(&node(&left, right)))
}

/// The 64 bytes that the parent of two nodes hashes.
pub fn node(left: &Hash256, right: &Hash256) -> [u8; 64] {
    let mut bytes = [0; 64];
    bytes[..32].copy_from_slice(&left.0);
    bytes[32..].copy_from_slice(&right.0);
    bytes
}
