//! Templates for others, and the chain's own blocks, both from one selection of the mempool.
//!
//! The template's merkle path comes from `pow`, as it would in any client of a node; the block
//! check, which uses nothing of `pow`, shows whether it was right.

use std::sync::Arc;

use bitcoin::absolute::LockTime;
use bitcoin::block::{Header, Version};
use bitcoin::hashes::Hash;
use bitcoin::{
    Amount, Block, BlockHash, CompactTarget, OutPoint, ScriptBuf, Sequence, Transaction, TxIn,
    TxMerkleNode, TxOut, Witness, transaction,
};
use pow::{Hash256, Template};

use super::check::{self, COMMITMENT_MARK};
use super::mempool::Selection;

/// BIP9's version without any deployment signalled.
const VERSION: u32 = 0x2000_0000;
/// A coinbase is locked to the block before its own (BIP54), so its input must not be final.
const COINBASE_SEQUENCE: u32 = 0xffff_fffe;
/// What the commitment hashes beside the root: the coinbase's witness, 32 zeros as everybody's.
const WITNESS_RESERVED: [u8; 32] = [0; 32];

/// Where a block goes.
#[derive(Clone, Copy, Debug)]
pub(super) struct HeaderParts {
    pub(super) height: u32,
    pub(super) prev: BlockHash,
    pub(super) bits: u32,
    pub(super) time: u32,
}

/// Work for others.
pub(super) fn template(parts: &HeaderParts, selection: &Selection, min_ntime: u32) -> Template {
    let txids: Vec<Hash256> =
        selection.entries.iter().map(|entry| Hash256(entry.txid.to_byte_array())).collect();
    let transactions: Vec<Arc<[u8]>> =
        selection.entries.iter().map(|entry| entry.bytes.clone()).collect();
    Template {
        height: parts.height,
        prev_hash: Hash256(parts.prev.to_byte_array()),
        version: VERSION,
        bits: parts.bits,
        curtime: parts.time,
        min_ntime,
        coinbase_value: check::subsidy(parts.height) + selection.fees,
        coinbase_version: 2,
        coinbase_sequence: COINBASE_SEQUENCE,
        coinbase_locktime: parts.height - 1,
        witness_commitment: Some(commitment_script(selection).into_bytes()),
        coinbase_aux: Vec::new(),
        merkle_path: pow::merkle_path(&txids),
        transactions: transactions.into(),
        weight: selection.weight,
    }
}

/// A whole block that pays `payout`; `extra` makes its coinbase unique.
pub(super) fn block(
    parts: &HeaderParts,
    selection: &Selection,
    payout: &ScriptBuf,
    extra: u64,
) -> Block {
    let coinbase = Transaction {
        version: transaction::Version::TWO,
        lock_time: LockTime::from_consensus(parts.height - 1),
        input: vec![TxIn {
            previous_output: OutPoint::null(),
            script_sig: ScriptBuf::builder()
                .push_int(i64::from(parts.height))
                .push_slice(extra.to_le_bytes())
                .into_script(),
            sequence: Sequence(COINBASE_SEQUENCE),
            witness: Witness::from_slice(&[WITNESS_RESERVED]),
        }],
        output: vec![
            TxOut {
                value: Amount::from_sat(check::subsidy(parts.height) + selection.fees),
                script_pubkey: payout.clone(),
            },
            TxOut { value: Amount::ZERO, script_pubkey: commitment_script(selection) },
        ],
    };
    let mut leaves = vec![coinbase.compute_txid().to_byte_array()];
    leaves.extend(selection.entries.iter().map(|entry| entry.txid.to_byte_array()));
    let (root, _) = check::merkle_root(leaves);
    let others = selection.entries.iter().map(|entry| entry.transaction.clone());
    Block {
        header: Header {
            version: Version::from_consensus(VERSION as i32),
            prev_blockhash: parts.prev,
            merkle_root: TxMerkleNode::from_byte_array(root),
            time: parts.time,
            bits: CompactTarget::from_consensus(parts.bits),
            nonce: extra as u32,
        },
        txdata: std::iter::once(coinbase).chain(others).collect(),
    }
}

// BIP141: the root over the wtxids, with zeros in the coinbase's place.
fn commitment_script(selection: &Selection) -> ScriptBuf {
    let mut leaves = vec![[0; 32]];
    leaves.extend(selection.entries.iter().map(|entry| entry.wtxid.to_byte_array()));
    let hash = check::sha256d_of(&check::merkle_root(leaves).0, &WITNESS_RESERVED);
    ScriptBuf::from_bytes([&COMMITMENT_MARK[..], &hash].concat())
}
