//! Real blocks of the main network: each is mined again as a share of a job, by every kernel.
//!
//! | block | what it shows |
//! |---|---|
//! | 0 | the genesis block, one transaction |
//! | 00000000b0c5a240… | a whole block of 2009 with a merkle path |
//! | 603,351 | a whole block with a witness commitment and rolled version bits |
//! | 883,230 | a deep merkle path, a witness commitment and rolled version bits |
//! | headers | 1, 100,000, 125,552, 277,316 |

use std::sync::Arc;

use bitcoin::consensus::{deserialize, serialize};
use bitcoin::hashes::Hash;
use bitcoin::hex::FromHex;
use bitcoin::{Network, Transaction};
use pow::{
    Difficulty, Extranonce, Hash256, Header, Kernel, Share, Target, Work, WorkParts,
    assemble_block, bip34_push, full_coinbase, merkle_path, merkle_root,
};

/// The version bits that miners may roll (BIP 320).
const ROLLED_BITS: u32 = 0x1fff_e000;

fn from_hex(text: &str) -> Vec<u8> {
    let digits: String = text.split_whitespace().collect();
    Vec::from_hex(&digits).expect("hex")
}

/// A hash as explorers print it.
fn hash(text: &str) -> Hash256 {
    let mut bytes: [u8; 32] = from_hex(text).try_into().expect("32 bytes");
    bytes.reverse();
    Hash256(bytes)
}

/// A coinbase cut around the last bytes of its script, where miners roll.
struct Cut {
    first: Vec<u8>,
    extranonce: Vec<u8>,
    second: Vec<u8>,
}

fn cut(coinbase: &Transaction, extranonce_size: usize) -> Cut {
    let mut stripped = coinbase.clone();
    stripped.input[0].witness = bitcoin::Witness::new();
    let bytes = serialize(&stripped);
    // Version, count, outpoint and the script's length stand before the script.
    let end = 4 + 1 + 36 + 1 + stripped.input[0].script_sig.len();
    let (first, second) = bytes.split_at(end);
    let (first, extranonce) = first.split_at(end - extranonce_size);
    Cut { first: first.to_vec(), extranonce: extranonce.to_vec(), second: second.to_vec() }
}

/// Hashes a block's coinbase, path and header as a share, by every kernel, and checks that it is
/// the block.
fn mine_again(header: &Header, cut: &Cut, path: &[Hash256], block_hash: Hash256) {
    let work = Work::new(WorkParts {
        coinbase_first: &cut.first,
        coinbase_second: &cut.second,
        extranonce_size: cut.extranonce.len(),
        merkle_path: path,
        prev_hash: header.prev_hash,
        bits: header.bits,
    })
    .expect("within the limits");
    let share = Share {
        extranonce: Extranonce::new(&cut.extranonce).expect("within the limit"),
        version: header.version,
        ntime: header.ntime,
        nonce: header.nonce,
    };
    let target = Target::from_compact(header.bits).expect("the network's");
    for kernel in Kernel::available() {
        let hash = kernel.hash_share(&work, &share);
        assert_eq!(hash, block_hash, "{kernel:?}");
        assert!(target.is_met_by(&hash));
        assert!(Difficulty::of_hash(&hash).get() >= target.difficulty());
        assert_eq!(work.header(kernel, &share), *header, "{kernel:?}");
        // Among others in a batch it is the only block.
        let other = Share { nonce: share.nonce ^ 1, ..share };
        let mut batch = vec![(&work, other); 20];
        batch[13] = (&work, share);
        let mut out = [Hash256::ZERO; 20];
        kernel.hash_shares(&batch, &mut out);
        let blocks: Vec<usize> = (0..20).filter(|at| target.is_met_by(&out[*at])).collect();
        assert_eq!(blocks, [13], "{kernel:?}");
    }
}

/// Takes a whole block apart, mines it again, and puts it together again byte by byte.
fn whole_block(bytes: &[u8], extranonce_size: usize, block_hash: &str) -> bitcoin::Block {
    let block: bitcoin::Block = deserialize(bytes).expect("a block");
    let header = Header::from_bytes(bytes[..80].try_into().expect("80 bytes"));
    let txids: Vec<Hash256> =
        block.txdata.iter().map(|tx| Hash256(tx.compute_txid().to_byte_array())).collect();
    let path = merkle_path(&txids[1..]);
    assert_eq!(merkle_root(Kernel::detect(), txids[0], &path), header.merkle_root);
    let cut = cut(&block.txdata[0], extranonce_size);
    mine_again(&header, &cut, &path, hash(block_hash));

    let has_witness = !block.txdata[0].input[0].witness.is_empty();
    let coinbase = full_coinbase(&cut.first, &cut.extranonce, &cut.second, has_witness);
    let transactions: Vec<Arc<[u8]>> =
        block.txdata[1..].iter().map(|tx| Arc::from(serialize(tx))).collect();
    assert_eq!(assemble_block(&header.to_bytes(), &coinbase, &transactions), bytes);
    block
}

#[test]
fn the_genesis_block() {
    let bytes = serialize(&bitcoin::constants::genesis_block(Network::Bitcoin));
    let hash = "000000000019d6689c085ae165831e934ff763ae46a2a6c172b3f1b60a8ce26f";
    whole_block(&bytes, 16, hash);
}

#[test]
fn a_whole_block_without_witness() {
    let bytes = from_hex(include_str!("blocks/00000000b0c5a240.hex"));
    let hash = "00000000b0c5a240b2a61d2e75692224efd4cbecdf6eaf4cc2cf477ca7c270e7";
    let block = whole_block(&bytes, 2, hash);
    assert_eq!(block.txdata.len(), 2);
}

#[test]
fn a_whole_block_with_witness_commitment_and_rolled_version() {
    let bytes = from_hex(include_str!("blocks/603351.hex"));
    let hash = "000000000000000000136973e9bfdfc7151d9929d33fa95827a4107ec5115eed";
    let block = whole_block(&bytes, 8, hash);
    assert!(block.check_witness_commitment());
    assert!(!block.txdata[0].input[0].witness.is_empty());
    assert_ne!(block.header.version.to_consensus() as u32 & ROLLED_BITS, 0);
    let script = block.txdata[0].input[0].script_sig.as_bytes();
    assert!(script.starts_with(&bip34_push(603_351)));
}

#[test]
fn a_deep_path_with_witness_commitment_and_rolled_version() {
    let lines: Vec<&str> = include_str!("blocks/883230.txt").lines().collect();
    let value = |key: &str| -> String {
        let of_key = lines.iter().filter_map(|line| line.strip_prefix(key));
        of_key.collect()
    };
    let header: [u8; 80] = from_hex(&value("header ")).try_into().expect("80 bytes");
    let header = Header::from_bytes(&header);
    assert_eq!(header.version & ROLLED_BITS, 0x0060_0000);
    let bytes = from_hex(&value("coinbase "));
    let coinbase: Transaction = deserialize(&bytes).expect("a transaction");
    let path: Vec<Hash256> =
        lines.iter().filter_map(|line| line.strip_prefix("path ")).map(hash).collect();
    assert_eq!(path.len(), 10);
    for extranonce_size in [4, 8, 12] {
        let cut = cut(&coinbase, extranonce_size);
        assert!(cut.first[42..].starts_with(&bip34_push(883_230)));
        mine_again(&header, &cut, &path, hash(&value("hash ")));
        assert_eq!(full_coinbase(&cut.first, &cut.extranonce, &cut.second, true), bytes);
    }
}

#[test]
fn a_merkle_tree_of_four() {
    let txids = [
        "8c14f0db3df150123e6f3dbbf30f8b955a8249b62ac1d1ff16284aefa3d06d87",
        "fff2525b8931402dd09222c50775608f75787bd2b87e56995a7bdd30f79702c4",
        "6359f0868171b1d194cbee1af2f16ea598ae8fad666d9b012c8ed2b79a236ec4",
        "e9a66845e05d5abc0ad04ec80f774a7e585c6e8db975962d069a522137b80c1d",
    ]
    .map(hash);
    let root = hash("f3e94742aca4b5ef85488dc37c06c3282295ffec960994b2c0d5ac2a25a95766");
    for kernel in Kernel::available() {
        assert_eq!(merkle_root(kernel, txids[0], &merkle_path(&txids[1..])), root, "{kernel:?}");
    }
}

#[test]
fn headers_prove_their_work() {
    /// Version, previous hash, merkle root, time, bits, nonce, and the block's hash.
    type Row = (u32, &'static str, &'static str, u32, u32, u32, &'static str);
    let rows: [Row; 4] = [
        (
            1,
            "000000000019d6689c085ae165831e934ff763ae46a2a6c172b3f1b60a8ce26f",
            "0e3e2357e806b6cdb1f70b54c3a3a17b6714ee1f0e68bebb44a74b1efd512098",
            1_231_469_665,
            0x1d00_ffff,
            2_573_394_689,
            "00000000839a8e6886ab5951d76f411475428afc90947ee320161bbf18eb6048",
        ),
        (
            1,
            "000000000002d01c1fccc21636b607dfd930d31d01c3a62104612a1719011250",
            "f3e94742aca4b5ef85488dc37c06c3282295ffec960994b2c0d5ac2a25a95766",
            1_293_623_863,
            0x1b04_864c,
            274_148_111,
            "000000000003ba27aa200b1cecaad478d2b00432346c3f1f3986da1afd33e506",
        ),
        (
            1,
            "00000000000008a3a41b85b8b29ad444def299fee21793cd8b9e567eab02cd81",
            "2b12fcf1b09288fcaff797d71e950e71ae42b91e8bdb2304758dfcffc2b620e3",
            1_305_998_791,
            0x1a44_b9f2,
            2_504_433_986,
            "00000000000000001e8d6829a8a21adc5d38d0a473b144b6765798e61f98bd1d",
        ),
        (
            2,
            "0000000000000002a7bbd25a417c0374cc55261021e8a9ca74442b01284f0569",
            "c91c008c26e50763e9f548bb8b2fc323735f73577effbc55502c51eb4cc7cf2e",
            1_388_185_914,
            419_668_748,
            924_591_752,
            "0000000000000001b6b9a13b095e96db41c4a928b97ef2d944a9b31b2cc7bdc4",
        ),
    ];
    for (version, prev, root, ntime, bits, nonce, block_hash) in rows {
        let (prev_hash, merkle_root) = (hash(prev), hash(root));
        let header = Header { version, prev_hash, merkle_root, ntime, bits, nonce };
        let target = Target::from_compact(bits).expect("the network's");
        for kernel in Kernel::available() {
            assert_eq!(header.hash(kernel).to_string(), block_hash, "{kernel:?}");
        }
        assert!(target.is_met_by(&hash(block_hash)));
        let next = Header { nonce: nonce.wrapping_add(1), ..header };
        assert!(!target.is_met_by(&next.hash(Kernel::detect())));
    }
}
