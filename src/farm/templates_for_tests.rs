//! Templates for tests, made with the `bitcoin` crate and not with `pow`: what one builds, the
//! other has to take.

use std::sync::Arc;

use bitcoin::consensus::encode::serialize;
use bitcoin::hashes::Hash;
use bitcoin::{
    Amount, Block, OutPoint, ScriptBuf, Sequence, Transaction, TxIn, TxMerkleNode, TxOut, Txid,
    Witness, WitnessMerkleNode, Wtxid, absolute, merkle_tree, transaction,
};
use pow::{Hash256, Template};

use crate::jobs::JobSettings;

/// Mask of BIP 323, as SV1 miners get it in solo.
pub(crate) const MASK: u32 = 0x1fff_e000;

/// Transactions that spend outputs from nowhere, with a witness each.
pub(crate) fn transactions(count: usize) -> Vec<Transaction> {
    (0..count).map(transaction).collect()
}

fn transaction(nth: usize) -> Transaction {
    let mut txid = [0x55; 32];
    txid[..8].copy_from_slice(&(nth as u64).to_le_bytes());
    let previous_output = OutPoint::new(Txid::from_byte_array(txid), 0);
    let witness = Witness::from_slice(&[vec![nth as u8; 1 + nth % 70], vec![0x51]]);
    Transaction {
        version: transaction::Version::TWO,
        lock_time: absolute::LockTime::ZERO,
        input: vec![TxIn {
            previous_output,
            script_sig: ScriptBuf::new(),
            sequence: Sequence::ENABLE_RBF_NO_LOCKTIME,
            witness,
        }],
        output: vec![TxOut {
            value: Amount::from_sat(1_000 + nth as u64),
            script_pubkey: ScriptBuf::from_bytes(vec![0x51]),
        }],
    }
}

/// A template on the tip `prev` with these transactions, as a node would give it.
pub(crate) fn template(height: u32, prev: u8, transactions: &[Transaction]) -> Template {
    let txids: Vec<Hash256> =
        transactions.iter().map(|tx| Hash256(tx.compute_txid().to_byte_array())).collect();
    let bodies: Vec<Arc<[u8]>> = transactions.iter().map(|tx| serialize(tx).into()).collect();
    Template {
        height,
        prev_hash: Hash256([prev; 32]),
        version: 0x2000_0000 | 0x0000_6000,
        bits: 0x207f_ffff,
        curtime: 1_700_000_100,
        min_ntime: 1_700_000_001,
        coinbase_value: 5_000_000_000,
        coinbase_version: 2,
        coinbase_sequence: 0xffff_fffe,
        coinbase_locktime: height - 1,
        witness_commitment: Some(commitment(transactions)),
        coinbase_aux: vec![0xaa],
        merkle_path: pow::merkle_path(&txids),
        transactions: bodies.into(),
        weight: transactions.iter().map(|tx| tx.weight().to_wu()).sum(),
    }
}

/// The output script that commits to the witnesses (BIP 141), over a reserved value of zeros.
fn commitment(transactions: &[Transaction]) -> Vec<u8> {
    let coinbase = Wtxid::all_zeros();
    let wtxids = core::iter::once(coinbase).chain(transactions.iter().map(|tx| tx.compute_wtxid()));
    let root: TxMerkleNode = merkle_tree::calculate_root(wtxids.map(|wtxid| wtxid.to_raw_hash()))
        .map(Into::into)
        .expect("there is a coinbase");
    let root = WitnessMerkleNode::from_raw_hash(root.to_raw_hash());
    let committed = Block::compute_witness_commitment(&root, &[0; 32]);
    let mut script = vec![0x6a, 0x24, 0xaa, 0x21, 0xa9, 0xed];
    script.extend_from_slice(&committed.to_byte_array());
    script
}

/// Settings of a solo farm: 4 + 4, one group.
pub(crate) fn settings() -> JobSettings {
    JobSettings {
        payout_script: vec![0x00, 0x14, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7],
        signature: b"/farm-7/".to_vec(),
        group_prefix: Vec::new(),
        extranonce1_size: 4,
        extranonce2_size: 4,
        version_mask: MASK,
        first_number: 1,
    }
}
