//! From a share back to the block that the network takes: the coinbase gets the witness that
//! miners never see, and the transactions follow.

use alloc::sync::Arc;
use alloc::vec::Vec;

use crate::coinbase::push_compact_size;
use crate::header::HEADER_BYTES;

/// Bytes of the lock time, which stands behind the witness.
const LOCKTIME_BYTES: usize = 4;
/// Bytes of the transaction version, which stands before the segwit marker.
const VERSION_BYTES: usize = 4;
/// BIP 141: one witness item, the 32-byte reserved value, zero by our own commitment.
const COINBASE_WITNESS: [u8; 34] = {
    let mut witness = [0; 34];
    witness[0] = 1;
    witness[1] = 32;
    witness
};

/// The coinbase as it stands in the block. `first` and `second` are the stripped halves that
/// miners hash; with `has_witness` the marker, the flag and the reserved value (32 zero bytes)
/// are added, as a block with a witness commitment needs them (BIP 141).
pub fn full_coinbase(first: &[u8], extranonce: &[u8], second: &[u8], has_witness: bool) -> Vec<u8> {
    assert!(first.len() >= VERSION_BYTES, "a coinbase's first half begins with its version");
    assert!(second.len() >= LOCKTIME_BYTES, "a coinbase's second half ends with its lock time");
    let stripped_bytes = first.len() + extranonce.len() + second.len();
    let mut whole = Vec::with_capacity(stripped_bytes + 2 + COINBASE_WITNESS.len());
    let (version, input) = first.split_at(VERSION_BYTES);
    let (outputs, locktime) = second.split_at(second.len() - LOCKTIME_BYTES);
    whole.extend_from_slice(version);
    if has_witness {
        whole.extend_from_slice(&[0, 1]);
    }
    whole.extend_from_slice(input);
    whole.extend_from_slice(extranonce);
    whole.extend_from_slice(outputs);
    if has_witness {
        whole.extend_from_slice(&COINBASE_WITNESS);
    }
    whole.extend_from_slice(locktime);
    whole
}

/// The block as it is submitted: header, count, coinbase, the other transactions in order.
pub fn assemble_block(
    header: &[u8; HEADER_BYTES],
    coinbase_full: &[u8],
    transactions: &[Arc<[u8]>],
) -> Vec<u8> {
    let bytes: usize = transactions.iter().map(|transaction| transaction.len()).sum();
    let mut block = Vec::with_capacity(HEADER_BYTES + 9 + coinbase_full.len() + bytes);
    block.extend_from_slice(header);
    push_compact_size(&mut block, 1 + transactions.len() as u64);
    block.extend_from_slice(coinbase_full);
    for transaction in transactions {
        block.extend_from_slice(transaction);
    }
    block
}
