//! Headers, merkle trees, coinbases and blocks against the `bitcoin` crate, which shares nothing
//! with `pow`.

use std::sync::Arc;

use bitcoin::absolute::LockTime;
use bitcoin::consensus::{deserialize, serialize};
use bitcoin::hashes::Hash;
use bitcoin::{Amount, OutPoint, ScriptBuf, Sequence, Transaction, TxIn, TxOut, Witness};
use pow::{
    Coinbase, CoinbaseError, CoinbaseParts, Extranonce, Hash256, Header, Kernel, Share, Template,
    Work, WorkParts, assemble_block, bip34_push, full_coinbase, merkle_path, merkle_root,
};
use proptest::collection::vec;
use proptest::prelude::*;

/// Heights where the push changes its form: small numbers, sign bytes, lengths.
const HEIGHTS: [u32; 18] = [
    0,
    1,
    2,
    15,
    16,
    17,
    75,
    127,
    128,
    255,
    256,
    32_767,
    32_768,
    65_535,
    65_536,
    8_388_607,
    8_388_608,
    u32::MAX,
];

fn height() -> impl Strategy<Value = u32> {
    prop_oneof![prop::sample::select(HEIGHTS.to_vec()), 0..2_000_000_u32, any::<u32>()]
}

fn transaction(seed: u8, with_witness: bool) -> Transaction {
    let witness = if with_witness { Witness::from_slice(&[[seed; 9]]) } else { Witness::new() };
    Transaction {
        version: bitcoin::transaction::Version::TWO,
        lock_time: LockTime::ZERO,
        input: vec![TxIn {
            previous_output: OutPoint::new(bitcoin::Txid::from_byte_array([seed; 32]), 0),
            script_sig: ScriptBuf::new(),
            sequence: Sequence::MAX,
            witness,
        }],
        output: vec![TxOut { value: Amount::from_sat(1), script_pubkey: ScriptBuf::new() }],
    }
}

/// The scriptPubKey that commits to these transactions' witnesses (BIP 141), reserved value 0.
fn commitment(transactions: &[Transaction]) -> Vec<u8> {
    let mut wtxids = vec![bitcoin::Wtxid::all_zeros()];
    wtxids.extend(transactions.iter().map(Transaction::compute_wtxid));
    let root = bitcoin::merkle_tree::calculate_root(wtxids.into_iter().map(|id| id.to_raw_hash()))
        .expect("not empty");
    let hash = bitcoin::Block::compute_witness_commitment(&root.into(), &[0; 32]);
    [&[0x6a, 0x24, 0xaa, 0x21, 0xa9, 0xed], &hash.to_byte_array()[..]].concat()
}

fn template(height: u32, transactions: &[Transaction], with_witness: bool) -> Template {
    let txids: Vec<Hash256> =
        transactions.iter().map(|tx| Hash256(tx.compute_txid().to_byte_array())).collect();
    Template {
        height,
        prev_hash: Hash256([9; 32]),
        version: 0x2000_0000,
        bits: 0x207f_ffff,
        curtime: 1_700_000_000,
        min_ntime: 1_699_999_000,
        coinbase_value: 5_000_000_123,
        coinbase_version: 2,
        coinbase_sequence: 0xffff_fffe,
        coinbase_locktime: height.wrapping_sub(1),
        witness_commitment: with_witness.then(|| commitment(transactions)),
        coinbase_aux: vec![0xaa, 0xbb],
        merkle_path: merkle_path(&txids),
        transactions: transactions.iter().map(|tx| Arc::from(serialize(tx))).collect(),
        weight: transactions.iter().map(|tx| tx.weight().to_wu()).sum(),
    }
}

/// A share of such a template, followed to the whole block, as the `bitcoin` crate reads it.
fn mined(template: &Template, extranonce: &[u8], payout: &[u8]) -> (bitcoin::Block, Hash256) {
    let kernel = Kernel::detect();
    let parts = CoinbaseParts {
        template,
        prefix: &[1, 2, 3],
        extranonce_size: extranonce.len(),
        payout_script: payout,
        signature: b"/pow/",
    };
    let coinbase = Coinbase::new(&parts).expect("within the limits");
    let work = Work::new(WorkParts {
        coinbase_first: &coinbase.first,
        coinbase_second: &coinbase.second,
        extranonce_size: extranonce.len(),
        merkle_path: &template.merkle_path,
        prev_hash: template.prev_hash,
        bits: template.bits,
    })
    .expect("within the limits");
    let share = Share {
        extranonce: Extranonce::new(extranonce).expect("within the limit"),
        version: template.version | 0x1fff_e000,
        ntime: template.curtime,
        nonce: 77,
    };
    let has_witness = template.witness_commitment.is_some();
    let full = full_coinbase(&coinbase.first, extranonce, &coinbase.second, has_witness);
    let header = work.header(kernel, &share);
    let block = assemble_block(&header.to_bytes(), &full, &template.transactions);
    (deserialize(&block).expect("a block"), kernel.hash_share(&work, &share))
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    #[test]
    fn headers_read_and_hash_as_bitcoins_do(bytes in any::<[[u8; 40]; 2]>()) {
        let bytes: [u8; 80] = bytes.concat().try_into().expect("80 bytes");
        let ours = Header::from_bytes(&bytes);
        let theirs: bitcoin::block::Header = deserialize(&bytes).expect("any 80 bytes");
        prop_assert_eq!(ours.to_bytes(), bytes);
        prop_assert_eq!(ours.version, theirs.version.to_consensus() as u32);
        prop_assert_eq!(ours.prev_hash.0, theirs.prev_blockhash.to_byte_array());
        prop_assert_eq!(ours.merkle_root.0, theirs.merkle_root.to_byte_array());
        prop_assert_eq!(ours.ntime, theirs.time);
        prop_assert_eq!(ours.bits, theirs.bits.to_consensus());
        prop_assert_eq!(ours.nonce, theirs.nonce);
        let hash = ours.hash(Kernel::detect());
        prop_assert_eq!(hash.0, theirs.block_hash().to_byte_array());
        prop_assert_eq!(hash.to_string(), theirs.block_hash().to_string());
    }

    #[test]
    fn merkle_paths_lead_to_bitcoins_root(txids in vec(any::<[u8; 32]>(), 1..70)) {
        let txids: Vec<Hash256> = txids.into_iter().map(Hash256).collect();
        let theirs = txids.iter().map(|id| bitcoin::Txid::from_byte_array(id.0).to_raw_hash());
        let theirs = bitcoin::merkle_tree::calculate_root(theirs).expect("not empty");
        let path = merkle_path(&txids[1..]);
        for kernel in Kernel::available() {
            let root = merkle_root(kernel, txids[0], &path);
            prop_assert_eq!(root.0, theirs.to_byte_array(), "{:?}", kernel);
        }
    }

    #[test]
    fn heights_are_pushed_as_bitcoin_pushes_them(height in height()) {
        let theirs = bitcoin::script::Builder::new().push_int(i64::from(height)).into_script();
        prop_assert_eq!(bip34_push(height), theirs.as_bytes());
    }

    #[test]
    fn blocks_are_what_bitcoin_checks(
        height in height(),
        count in 0..20_u8,
        with_witness in any::<bool>(),
        extranonce in vec(any::<u8>(), 1..=32),
        payout in vec(any::<u8>(), 0..300),
    ) {
        let transactions: Vec<Transaction> =
            (0..count).map(|seed| transaction(seed, with_witness && seed % 2 == 0)).collect();
        let template = template(height, &transactions, with_witness);
        let (block, hash) = mined(&template, &extranonce, &payout);
        prop_assert!(block.check_merkle_root());
        prop_assert_eq!(block.block_hash().to_byte_array(), hash.0);
        prop_assert!(block.check_witness_commitment());
        prop_assert_eq!(&block.txdata[1..], &transactions[..]);

        let coinbase = &block.txdata[0];
        prop_assert!(coinbase.is_coinbase());
        prop_assert_eq!(coinbase.version.0, 2);
        prop_assert_eq!(coinbase.lock_time.to_consensus_u32(), height.wrapping_sub(1));
        let input = &coinbase.input[0];
        prop_assert_eq!(input.sequence.0, 0xffff_fffe);
        let script = [&bip34_push(height)[..], &[0xaa, 0xbb, 1, 2, 3], &extranonce, b"/pow/"];
        prop_assert_eq!(input.script_sig.as_bytes(), script.concat());
        prop_assert_eq!(input.witness.len(), usize::from(with_witness));
        prop_assert_eq!(coinbase.output.len(), 1 + usize::from(with_witness));
        prop_assert_eq!(coinbase.output[0].value.to_sat(), 5_000_000_123);
        prop_assert_eq!(coinbase.output[0].script_pubkey.as_bytes(), &payout[..]);
        if let Some(script) = &template.witness_commitment {
            prop_assert_eq!(coinbase.output[1].value.to_sat(), 0);
            prop_assert_eq!(coinbase.output[1].script_pubkey.as_bytes(), &script[..]);
            prop_assert_eq!(input.witness.nth(0), Some(&[0; 32][..]));
        }
    }
}

#[test]
fn every_boundary_height_reads_back() {
    for height in HEIGHTS {
        let theirs = bitcoin::script::Builder::new().push_int(i64::from(height)).into_script();
        assert_eq!(bip34_push(height), theirs.as_bytes(), "height {height}");
        let (block, _) = mined(&template(height, &[], true), &[7; 8], &[0x51]);
        // The crate's reader knows data pushes of signed 32-bit numbers only.
        if (17..=i32::MAX as u32).contains(&height) {
            assert_eq!(block.bip34_block_height().ok(), Some(u64::from(height)));
        }
    }
    // As testnet4's block 15 begins, and the ends of that range.
    assert_eq!(bip34_push(15), [0x5f]);
    assert_eq!(bip34_push(1), [0x51]);
    assert_eq!(bip34_push(17), [1, 17]);
    assert_eq!(bip34_push(128), [2, 0x80, 0]);
    assert_eq!(bip34_push(32_768), [3, 0, 0x80, 0]);
    assert_eq!(bip34_push(16), [0x60]);
}

#[test]
fn scripts_outside_two_to_a_hundred_bytes_are_refused() {
    let mut template = template(1, &[], false);
    template.coinbase_aux.clear();
    let make = |extranonce_size, signature: &[u8]| {
        Coinbase::new(&CoinbaseParts {
            template: &template,
            prefix: &[],
            extranonce_size,
            payout_script: &[],
            signature,
        })
    };
    assert_eq!(make(0, &[]).err(), Some(CoinbaseError::ScriptTooShort { bytes: 1 }));
    assert!(make(1, &[]).is_ok());
    assert!(make(8, &[b'x'; 91]).is_ok());
    assert_eq!(make(8, &[b'x'; 92]).err(), Some(CoinbaseError::ScriptTooLong { bytes: 101 }));
}

/// Enough transactions that their count needs three bytes.
#[test]
fn a_block_of_three_hundred_transactions_holds_together() {
    let transactions: Vec<Transaction> =
        (0..300_u32).map(|seed| transaction(seed as u8, seed % 3 == 0)).collect();
    let template = template(800_000, &transactions, true);
    assert_eq!(template.merkle_path.len(), 9);
    let (block, hash) = mined(&template, &[7; 8], &[0x51]);
    assert_eq!(block.txdata.len(), 301);
    assert!(block.check_merkle_root());
    assert!(block.check_witness_commitment());
    assert_eq!(block.block_hash().to_byte_array(), hash.0);
}
