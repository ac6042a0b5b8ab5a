//! Blocks are made here with the `bitcoin` crate from what a template says, as any miner would,
//! then broken one rule at a time.

use std::sync::Arc;
use std::time::Duration;

use bitcoin::absolute::LockTime;
use bitcoin::block::{Header, Version};
use bitcoin::consensus::{deserialize, serialize};
use bitcoin::hashes::Hash;
use bitcoin::{
    Amount, Block, BlockHash, CompactTarget, OutPoint, ScriptBuf, Sequence, Target, Transaction,
    TxIn, TxMerkleNode, TxOut, Witness, transaction,
};
use pow::{Hash256, Template};
use proptest::prelude::*;

use super::*;
use crate::link::{BlockFacts, BlockOutcome, JournalNote, JournalWord, NodeLink, SubmitBlock};

const START: UnixMicros = UnixMicros(1_800_000_000_000_000);

/// A chain on a virtual clock, at regtest's own difficulty unless a test says otherwise.
struct World {
    chain: Chain,
    now: UnixMicros,
    template: Arc<Template>,
    extranonce: u64,
}

fn easy(transactions: u32) -> Parameters {
    Parameters {
        difficulty: DIFFICULTY_MIN,
        block_seconds: 0.0,
        transactions,
        ..Parameters::default()
    }
}

impl World {
    fn new(parameters: Parameters) -> World {
        let mut chain = Chain::new(parameters, START).expect("the parameters are valid");
        let template = chain.take_template().expect("a new chain has a template");
        World { chain, now: START, template, extranonce: 0 }
    }

    /// Lets time pass in steps of the chain's own deadlines.
    fn pass(&mut self, seconds: f64) {
        let end = UnixMicros(self.now.0 + (seconds * 1e6) as u64);
        while self.chain.next_deadline() <= end {
            self.now = self.now.max(self.chain.next_deadline());
            self.chain.tick(self.now);
        }
        self.now = end;
        self.refresh();
    }

    fn refresh(&mut self) {
        if let Some(template) = self.chain.take_template() {
            self.template = template;
        }
    }

    fn submit(&mut self, block: &Block) -> BlockOutcome {
        let outcome = self.chain.submit(self.now, &serialize(block));
        self.refresh();
        outcome
    }

    fn find_block(&mut self) -> Block {
        let mut block = draft(&self.template);
        // Extranonces never repeat, so neither does a block that was invalidated before.
        self.extranonce += 1;
        let script = &block.txdata[0].input[0].script_sig;
        let script = [script.as_bytes(), &self.extranonce.to_le_bytes()].concat();
        block.txdata[0].input[0].script_sig = ScriptBuf::from_bytes(script);
        seal(&mut block);
        assert_eq!(self.submit(&block), BlockOutcome::Accepted);
        block
    }
}

/// The block that a template asks for, not sealed yet.
fn draft(template: &Template) -> Block {
    let height = ScriptBuf::builder().push_int(i64::from(template.height)).into_script();
    let mut outputs = vec![TxOut {
        value: Amount::from_sat(template.coinbase_value),
        script_pubkey: ScriptBuf::from_bytes([&[0x00, 0x14][..], &[0x77; 20]].concat()),
    }];
    outputs.extend(template.witness_commitment.iter().map(|script| TxOut {
        value: Amount::ZERO,
        script_pubkey: ScriptBuf::from_bytes(script.clone()),
    }));
    let coinbase = Transaction {
        version: transaction::Version(template.coinbase_version as i32),
        lock_time: LockTime::from_consensus(template.coinbase_locktime),
        input: vec![TxIn {
            previous_output: OutPoint::null(),
            script_sig: ScriptBuf::from_bytes([height.as_bytes(), b"/test/"].concat()),
            sequence: Sequence(template.coinbase_sequence),
            witness: Witness::from_slice(&[[0_u8; 32]]),
        }],
        output: outputs,
    };
    let others = template.transactions.iter().map(|bytes| deserialize(bytes).expect("valid"));
    Block {
        header: Header {
            version: Version::from_consensus(template.version as i32),
            prev_blockhash: BlockHash::from_byte_array(template.prev_hash.0),
            merkle_root: TxMerkleNode::all_zeros(),
            time: template.curtime,
            bits: CompactTarget::from_consensus(template.bits),
            nonce: 0,
        },
        txdata: std::iter::once(coinbase).chain(others).collect(),
    }
}

/// Merkle root, then work.
fn seal(block: &mut Block) {
    if let Some(root) = block.compute_merkle_root() {
        block.header.merkle_root = root;
    }
    work(block, true);
}

fn work(block: &mut Block, enough: bool) {
    let target = Target::from_compact(block.header.bits);
    while target.is_met_by(block.header.block_hash()) != enough {
        block.header.nonce += 1;
    }
}

/// The commitment to the witnesses as they are now.
fn commit(block: &mut Block) {
    let root = block.witness_root().expect("there is a coinbase");
    let commitment = Block::compute_witness_commitment(&root, &[0; 32]);
    let script = [&[0x6a, 0x24, 0xaa, 0x21, 0xa9, 0xed][..], &commitment[..]].concat();
    block.txdata[0].output[1].script_pubkey = ScriptBuf::from_bytes(script);
}

fn solve(template: &Template) -> Block {
    let mut block = draft(template);
    seal(&mut block);
    block
}

fn rejected(reason: &'static str) -> BlockOutcome {
    BlockOutcome::Rejected(reason.into())
}

#[test]
fn quick_blocks_do_not_run_the_mempool_dry() {
    // The arrivals keep up with the one kind; the other comes in bursts of three and four.
    for spacing in [Spacing::Fixed, Spacing::Poisson] {
        let parameters = Parameters { block_seconds: 2.0, spacing, ..easy(4_000) };
        let mut world = World::new(parameters);
        let end = world.chain.height() + 20;
        while world.chain.height() < end {
            world.now = world.chain.next_deadline();
            world.chain.tick(world.now);
            world.refresh();
            assert_eq!(world.template.height, world.chain.height() + 1);
            assert_eq!(world.template.transactions.len(), 4_000, "{spacing:?}");
            assert_eq!(world.template.merkle_path.len(), 12);
        }
        world.find_block();
    }
}

#[test]
fn blocks_made_from_templates_are_accepted_and_move_the_tip() {
    let mut world = World::new(easy(300));
    for found in 1..=8 {
        let before = world.template.clone();
        let block = world.find_block();
        assert_eq!(world.template.height, before.height + 1);
        assert_eq!(world.template.prev_hash.0, block.block_hash().to_byte_array());
        assert_eq!(block.txdata.len(), 301, "the second template's worth waits already");
        assert_eq!(world.chain.stats().accepted, found);
        world.pass(5.0);
    }
    assert_eq!(world.chain.height(), 208);
}

#[test]
fn four_thousand_transactions_make_a_path_of_twelve_and_a_valid_block() {
    let mut world = World::new(easy(4_000));
    assert_eq!(world.template.transactions.len(), 4_000);
    assert_eq!(world.template.merkle_path.len(), 12);
    let block = world.find_block();
    let root = pow::merkle_root(
        pow::Kernel::detect(),
        pow::Hash256(block.txdata[0].compute_txid().to_byte_array()),
        &pow_path_of(&block),
    );
    assert_eq!(root.0, block.header.merkle_root.to_byte_array());
    let signed = |one: &&Transaction| one.input[0].witness.len() == 2;
    assert!(block.txdata.iter().filter(signed).count() > 100, "some carry signatures");
}

fn pow_path_of(block: &Block) -> Vec<pow::Hash256> {
    let txids =
        block.txdata[1..].iter().map(|one| pow::Hash256(one.compute_txid().to_byte_array()));
    pow::merkle_path(&txids.collect::<Vec<_>>())
}

#[test]
fn heights_where_the_push_of_bip34_changes_its_form() {
    for tip in [0, 15, 16, 126, 127, 149, 254, 255, 32_766, 32_767] {
        let parameters = Parameters { start_height: tip, ..easy(10) };
        let mut world = World::new(parameters);
        assert_eq!(world.template.height, tip + 1);
        world.find_block();
    }
}

#[test]
fn subsidy_halves_every_150_blocks_and_ends() {
    let value = |tip| {
        let parameters = Parameters { start_height: tip, ..easy(0) };
        World::new(parameters).template.coinbase_value
    };
    assert_eq!(value(0), 5_000_000_000);
    assert_eq!(value(148), 5_000_000_000);
    assert_eq!(value(149), 2_500_000_000);
    assert_eq!(value(299), 1_250_000_000);
    assert_eq!(value(9_600), 0);
}

#[test]
fn fees_are_part_of_the_coinbase_value() {
    let world = World::new(easy(50));
    // Height 201 is past one halving; 50 transactions pay at least 150 satoshis each.
    assert!(world.template.coinbase_value >= 2_500_000_000 + 50 * 150);
}

#[test]
fn blocks_put_together_by_pow_pass_the_check_that_knows_nothing_of_it() {
    let kernel = pow::Kernel::detect();
    for (tip, transactions) in [(0, 0), (15, 0), (16, 0), (127, 7), (149, 40), (200, 300)] {
        let mut world = World::new(Parameters { start_height: tip, ..easy(transactions) });
        let template = world.template.clone();
        let parts = pow::CoinbaseParts {
            template: &template,
            prefix: b"up",
            extranonce_size: 8,
            payout_script: &[0x51],
            signature: b"/farm-7/",
        };
        let coinbase = pow::Coinbase::new(&parts).expect("it fits into 100 bytes");
        let work = pow::Work::new(pow::WorkParts {
            coinbase_first: &coinbase.first,
            coinbase_second: &coinbase.second,
            extranonce_size: 8,
            merkle_path: &template.merkle_path,
            prev_hash: template.prev_hash,
            bits: template.bits,
        });
        let work = work.expect("the template's path is short");
        let target = pow::Target::from_compact(template.bits).expect("valid bits");
        let extranonce = pow::Extranonce::new(&[1, 2, 3, 4, 5, 6, 7, 8]).expect("8 bytes");
        let (version, ntime) = (template.version | 0x0abc_e000, template.curtime);
        let share = |nonce| pow::Share { extranonce, version, ntime, nonce };
        let share = (0..).map(share).find(|one| target.is_met_by(&kernel.hash_share(&work, one)));
        let share = share.expect("half of all hashes do");
        let header = work.header(kernel, &share).to_bytes();
        let whole =
            pow::full_coinbase(&coinbase.first, extranonce.as_slice(), &coinbase.second, true);
        let block = pow::assemble_block(&header, &whole, &template.transactions);
        let outcome = world.chain.submit(world.now, &block);
        assert_eq!(outcome, BlockOutcome::Accepted, "height {}", tip + 1);
    }
}

/// One way of breaking a block before it is sealed, and what the node must say.
struct Break {
    reason: &'static str,
    /// Whether the same block again is known as invalid.
    lasting: bool,
    how: fn(&mut Block),
}

const BREAKS: &[Break] = &[
    Break {
        reason: "bad-cb-amount",
        lasting: true,
        how: |block| block.txdata[0].output[0].value += Amount::from_sat(1),
    },
    Break {
        reason: "bad-cb-height",
        lasting: true,
        how: |block| block.txdata[0].input[0].script_sig = ScriptBuf::from_bytes(vec![2, 0, 0x7f]),
    },
    Break {
        reason: "bad-cb-length",
        lasting: false,
        how: |block| block.txdata[0].input[0].script_sig = ScriptBuf::from_bytes(vec![0x51; 101]),
    },
    Break {
        reason: "bad-cb-length",
        lasting: false,
        how: |block| block.txdata[0].input[0].script_sig = ScriptBuf::from_bytes(vec![0x51]),
    },
    Break {
        reason: "bad-witness-nonce-size",
        lasting: false,
        how: |block| block.txdata[0].input[0].witness = Witness::new(),
    },
    Break {
        reason: "bad-witness-nonce-size",
        lasting: false,
        how: |block| block.txdata[0].input[0].witness = Witness::from_slice(&[[0_u8; 31]]),
    },
    Break {
        reason: "bad-witness-merkle-match",
        lasting: false,
        how: |block| block.txdata[0].input[0].witness = Witness::from_slice(&[[1_u8; 32]]),
    },
    Break {
        reason: "bad-witness-merkle-match",
        lasting: false,
        how: |block| {
            block.txdata.pop();
        },
    },
    Break {
        reason: "unexpected-witness",
        lasting: true,
        how: |block| {
            block.txdata[0].output.pop();
        },
    },
    Break { reason: "bad-cb-missing", lasting: false, how: |block| drop(block.txdata.remove(0)) },
    Break {
        reason: "bad-cb-multiple",
        lasting: false,
        how: |block| {
            let mut second = block.txdata[0].clone();
            second.input[0].script_sig.push_opcode(bitcoin::opcodes::OP_TRUE);
            block.txdata.push(second);
        },
    },
    Break {
        reason: "bad-txns-inputs-missingorspent",
        lasting: true,
        how: |block| {
            let mut again = block.txdata[1].clone();
            again.output[0].value -= Amount::ONE_SAT;
            block.txdata.push(again);
            commit(block);
        },
    },
    Break {
        reason: "bad-txns-inputs-missingorspent",
        lasting: true,
        how: |block| {
            block.txdata[1].input[0].previous_output.vout += 100_000;
            commit(block);
        },
    },
    Break {
        reason: "bad-txns-in-belowout",
        lasting: true,
        how: |block| {
            block.txdata[1].output[0].value += Amount::ONE_BTC;
            commit(block);
        },
    },
    Break {
        reason: "bad-txns-inputs-duplicate",
        lasting: false,
        how: |block| {
            let input = block.txdata[1].input[0].clone();
            block.txdata[1].input.push(input);
        },
    },
    Break {
        reason: "bad-txns-vout-empty",
        lasting: false,
        how: |block| block.txdata[1].output.clear(),
    },
    Break {
        reason: "bad-txns-vout-toolarge",
        lasting: false,
        how: |block| block.txdata[1].output[0].value = Amount::MAX_MONEY + Amount::ONE_SAT,
    },
    Break {
        reason: "block-script-verify-flag-failed",
        lasting: true,
        how: |block| {
            let signed = |one: &&mut Transaction| one.input[0].witness.len() == 2;
            let victim = block.txdata.iter_mut().find(signed).expect("one in eight is signed");
            // The signature covers the outputs.
            victim.output[0].value -= Amount::ONE_SAT;
            commit(block);
        },
    },
    Break {
        reason: "block-script-verify-flag-failed",
        lasting: true,
        how: |block| {
            let open = |one: &&mut Transaction| one.input[0].witness.len() == 1;
            let victim =
                block.txdata.iter_mut().skip(1).find(open).expect("most are open to anybody");
            victim.input[0].witness = Witness::from_slice(&[[0x52]]);
            commit(block);
        },
    },
    Break {
        reason: "bad-txns-nonfinal",
        lasting: true,
        how: |block| block.txdata[0].lock_time = LockTime::from_consensus(100_000),
    },
    Break {
        reason: "bad-txns-nonfinal",
        lasting: true,
        how: |block| {
            let open = |one: &&mut Transaction| one.input[0].witness.len() == 1;
            let victim =
                block.txdata.iter_mut().skip(1).find(open).expect("most are open to anybody");
            victim.input[0].sequence = Sequence::from_height(1_000);
            commit(block);
        },
    },
    Break {
        reason: "bad-blk-weight",
        lasting: true,
        how: |block| {
            let filler = ScriptBuf::from_bytes([&[0x6a][..], &[0; 900_000]].concat());
            let output = TxOut { value: Amount::ZERO, script_pubkey: filler };
            block.txdata[0].output.insert(0, output);
            // The witness alone brings it over: stripped it is still below a million bytes.
            block.txdata[1].input[0].witness = Witness::from_slice(&[vec![0; 400_000]]);
            let root = block.witness_root().expect("there is a coinbase");
            let hash = Block::compute_witness_commitment(&root, &[0; 32]);
            let script = [&[0x6a, 0x24, 0xaa, 0x21, 0xa9, 0xed][..], &hash[..]].concat();
            block.txdata[0].output[2].script_pubkey = ScriptBuf::from_bytes(script);
        },
    },
    Break {
        reason: "bad-blk-length",
        lasting: false,
        how: |block| {
            let filler = ScriptBuf::from_bytes([&[0x6a][..], &[0; 1_000_000]].concat());
            block.txdata[0].output.push(TxOut { value: Amount::ZERO, script_pubkey: filler });
        },
    },
    Break {
        reason: "bad-blk-sigops",
        lasting: false,
        how: |block| {
            // 20,001 OP_CHECKSIG, each counted four times.
            let filler = ScriptBuf::from_bytes(vec![0xac; 20_001]);
            block.txdata[0].output.push(TxOut { value: Amount::ZERO, script_pubkey: filler });
        },
    },
    Break {
        reason: "time-too-old",
        lasting: false,
        // The start is so long after the block before that the median is an hour and more back.
        how: |block| block.header.time -= 100_000,
    },
    Break { reason: "time-too-new", lasting: false, how: |block| block.header.time += 7_300 },
    Break {
        reason: "bad-diffbits",
        lasting: false,
        how: |block| block.header.bits = CompactTarget::from_consensus(0x207f_fffe),
    },
    Break {
        reason: "bad-version(0x00000003)",
        lasting: false,
        how: |block| block.header.version = Version::from_consensus(3),
    },
    Break {
        reason: "prev-blk-not-found",
        lasting: false,
        how: |block| block.header.prev_blockhash = BlockHash::from_byte_array([7; 32]),
    },
];

#[test]
fn each_broken_rule_has_its_reason_and_the_chain_goes_on() {
    let mut world = World::new(easy(60));
    for (number, broken) in BREAKS.iter().enumerate() {
        let mut block = draft(&world.template);
        (broken.how)(&mut block);
        seal(&mut block);
        assert_eq!(world.submit(&block), rejected(broken.reason), "break {number}");
        let again = if broken.lasting { "duplicate-invalid" } else { broken.reason };
        assert_eq!(world.submit(&block), rejected(again), "break {number}, again");
        world.find_block();
        world.pass(10.0);
    }
}

#[test]
fn a_wrong_root_and_missing_work_are_told_apart() {
    let mut world = World::new(easy(60));
    let mut block = draft(&world.template);
    seal(&mut block);
    block.header.merkle_root = TxMerkleNode::from_byte_array([9; 32]);
    work(&mut block, true);
    assert_eq!(world.submit(&block), rejected("bad-txnmrklroot"));

    let mut block = draft(&world.template);
    seal(&mut block);
    work(&mut block, false);
    assert_eq!(world.submit(&block), rejected("high-hash"));

    // Easier bits than the chain's own limit are no way around it.
    block.header.bits = CompactTarget::from_consensus(0x2100_ffff);
    assert_eq!(world.submit(&block), rejected("high-hash"));
}

#[test]
fn a_repeated_tail_has_the_same_root_and_is_refused() {
    // Five transactions below the coinbase: repeating the last two keeps the root
    // (CVE-2012-2459).
    let mut world = World::new(easy(5));
    let mut block = solve(&world.template);
    assert_eq!(block.txdata.len(), 6);
    let tail: Vec<_> = block.txdata[4..].to_vec();
    block.txdata.extend(tail);
    assert_eq!(block.compute_merkle_root(), Some(block.header.merkle_root));
    assert_eq!(world.submit(&block), rejected("bad-txns-duplicate"));
    block.txdata.truncate(6);
    assert_eq!(world.submit(&block), BlockOutcome::Accepted, "the header was not condemned");
}

#[test]
fn bytes_that_are_no_block() {
    let mut world = World::new(easy(5));
    let bytes = serialize(&solve(&world.template));
    let mut longer = bytes.clone();
    longer.push(0);
    for broken in [&[][..], &bytes[..80], &bytes[..bytes.len() - 1], &longer, &[0xff; 200]] {
        let outcome = world.chain.submit(world.now, broken);
        assert_eq!(outcome, rejected("Block decode failed"));
    }
    assert_eq!(world.chain.submit(world.now, &bytes), BlockOutcome::Accepted);
    assert_eq!(world.chain.stats().rejected["Block decode failed"], 5);
}

#[test]
fn immature_coinbases_cannot_be_spent() {
    let mut world = World::new(Parameters { start_height: 120, ..easy(5) });
    let open = super::wallet::open_witness_script();
    world.chain.mine(world.now);
    world.refresh();
    // The block just found by the chain itself pays its coinbase to anybody.
    let coinbase = world.chain.tip_coinbase_outpoint();
    let mut block = draft(&world.template);
    block.txdata.push(Transaction {
        version: transaction::Version::TWO,
        lock_time: LockTime::ZERO,
        input: vec![TxIn {
            previous_output: coinbase,
            script_sig: ScriptBuf::new(),
            sequence: Sequence::MAX,
            witness: Witness::from_slice(&[open.as_bytes()]),
        }],
        output: vec![TxOut { value: Amount::ONE_BTC, script_pubkey: ScriptBuf::new() }],
    });
    commit(&mut block);
    seal(&mut block);
    assert_eq!(world.submit(&block), rejected("bad-txns-premature-spend-of-coinbase"));
}

#[test]
fn late_blocks_are_inconclusive_and_known_after() {
    let mut world = World::new(easy(20));
    let late = solve(&world.template);
    world.find_rival(&late);
    assert_eq!(world.submit(&late), BlockOutcome::Inconclusive);
    assert_eq!(world.submit(&late), BlockOutcome::Duplicate);
    let tip = world.find_block();
    assert_eq!(world.submit(&tip), BlockOutcome::Duplicate);
    let stats = world.chain.stats();
    assert_eq!((stats.inconclusive, stats.duplicate, stats.accepted), (1, 2, 2));
}

impl World {
    /// Another block for the same place, which comes first.
    fn find_rival(&mut self, than: &Block) {
        let mut rival = draft(&self.template);
        rival.txdata[0].input[0].script_sig.push_opcode(bitcoin::opcodes::OP_TRUE);
        seal(&mut rival);
        assert_ne!(rival.block_hash(), than.block_hash());
        assert_eq!(self.submit(&rival), BlockOutcome::Accepted);
    }
}

#[test]
fn a_longer_branch_takes_blocks_back_and_returns_their_transactions() {
    let mut world = World::new(easy(40));
    let first = world.find_block();
    let second = world.find_block();
    world.chain.reorg(world.now, 2, 3).expect("two blocks can be taken back");
    world.refresh();
    assert_eq!(world.chain.height(), 203);
    assert_eq!(world.submit(&first), BlockOutcome::Duplicate);
    assert_eq!(world.submit(&second), BlockOutcome::Duplicate);
    // What they held is confirmed again or waits, so nothing was spent twice.
    for _ in 0..4 {
        world.find_block();
        world.pass(5.0);
    }
}

#[test]
fn an_equal_or_lower_branch_is_an_invalidated_one() {
    for replacement in [0, 1, 2] {
        let mut world = World::new(easy(40));
        world.find_block();
        let second = world.find_block();
        let on_second = draft(&world.template);
        world.chain.reorg(world.now, 2, replacement).expect("two blocks can be taken back");
        world.refresh();
        assert_eq!(world.chain.height(), 200 + replacement);
        assert_eq!(world.template.height, 201 + replacement);
        assert_eq!(world.submit(&second), rejected("duplicate-invalid"));
        let mut late = on_second;
        seal(&mut late);
        assert_eq!(world.submit(&late), rejected("bad-prevblk"));
        world.find_block();
    }
}

#[test]
fn reorganisations_have_their_limits() {
    let mut world = World::new(easy(0));
    assert_eq!(world.chain.reorg(world.now, 1, 1), Err(ReorgError::Depth(1)));
    for _ in 0..10 {
        world.chain.mine(world.now);
    }
    assert_eq!(world.chain.reorg(world.now, 0, 1), Err(ReorgError::Depth(0)));
    assert_eq!(world.chain.reorg(world.now, 7, 8), Err(ReorgError::Depth(7)));
    assert_eq!(world.chain.reorg(world.now, 1, 101), Err(ReorgError::Replacement(101)));
    assert_eq!(world.chain.reorg(world.now, 6, 7), Ok(()));
    assert_eq!(world.chain.height(), 211);
}

#[test]
fn difficulty_changes_with_a_new_tip() {
    let mut world = World::new(easy(10));
    let old = solve(&world.template);
    world.chain.set_difficulty(world.now, 4e-9).expect("a valid difficulty");
    world.refresh();
    assert_eq!(world.template.height, 202);
    assert_eq!(world.template.bits, bits_of_difficulty(4e-9).expect("valid"));
    assert_eq!(world.submit(&old), BlockOutcome::Inconclusive);
    world.find_block();
    assert_eq!(world.template.bits, bits_of_difficulty(4e-9).expect("valid"));
    assert!(world.chain.set_difficulty(world.now, f64::NAN).is_err());
}

#[test]
fn blocks_of_others_come_on_the_chains_own_clock() {
    let fixed = Parameters { block_seconds: 10.0, spacing: Spacing::Fixed, ..easy(10) };
    let mut world = World::new(fixed);
    world.pass(100.5);
    assert_eq!(world.chain.height(), 210);

    let mut world = World::new(Parameters { spacing: Spacing::Poisson, ..fixed });
    world.pass(4_000.0);
    let own = world.chain.stats().own_blocks;
    assert!((320..480).contains(&own), "{own} blocks in 400 mean intervals");
    // A block that we find restarts the clock of the fixed spacing.
    let mut world = World::new(fixed);
    world.pass(9.0);
    world.find_block();
    world.pass(9.0);
    assert_eq!(world.chain.height(), 201);
}

#[test]
fn reorganisations_come_as_often_as_the_parameter_says() {
    let spacing = Spacing::Fixed;
    let mut world =
        World::new(Parameters { block_seconds: 1.0, spacing, reorgs: 0.25, ..easy(20) });
    world.pass(400.5);
    let stats = world.chain.stats();
    assert!((70..130).contains(&stats.reorgs), "{} of 400", stats.reorgs);
    world.find_block();
}

#[test]
fn a_growing_mempool_makes_new_templates_on_the_same_tip() {
    let mut world = World::new(Parameters { template_seconds: 2.0, ..easy(200) });
    world.find_block();
    let first = world.template.clone();
    world.pass(2.5);
    let second = world.template.clone();
    assert_eq!(first.prev_hash, second.prev_hash);
    assert_ne!(first.merkle_path, second.merkle_path);
    assert!(second.coinbase_value > first.coinbase_value, "better fees replace worse ones");
    assert_eq!(second.min_ntime, first.min_ntime, "one value per tip");
    world.find_block();
}

#[test]
fn templates_keep_getting_better_on_a_long_tip_and_stay_full_after_a_block() {
    let mut world = World::new(Parameters { template_seconds: 5.0, ..easy(200) });
    for _ in 0..6 {
        let value = world.template.coinbase_value;
        world.pass(5.0);
        assert!(world.template.coinbase_value > value);
    }
    for _ in 0..10 {
        world.find_block();
        assert_eq!(world.template.transactions.len(), 200);
        world.pass(5.0);
    }
}

#[test]
fn a_block_on_an_older_template_of_the_same_tip_is_accepted() {
    let mut world = World::new(Parameters { template_seconds: 2.0, ..easy(200) });
    world.find_block();
    let older = world.template.clone();
    world.pass(2.5);
    assert_ne!(older.merkle_path, world.template.merkle_path);
    assert_eq!(world.submit(&solve(&older)), BlockOutcome::Accepted);
}

#[test]
fn the_same_seed_gives_the_same_chain() {
    let parameters =
        Parameters { block_seconds: 3.0, reorgs: 0.1, template_seconds: 1.0, ..easy(30) };
    let run = |seed| {
        let mut world = World::new(Parameters { seed, ..parameters });
        let mut templates = vec![world.template.clone()];
        for _ in 0..40 {
            world.pass(1.0);
            templates.push(world.template.clone());
        }
        templates
    };
    assert_eq!(run(5), run(5));
    assert_ne!(run(5), run(6));
}

#[test]
fn transactions_do_not_run_out() {
    let mut world = World::new(easy(100));
    for _ in 0..300 {
        world.find_block();
        world.pass(5.0);
    }
    assert_eq!(world.template.transactions.len(), 100);
}

#[test]
fn bits_are_never_easier_than_the_difficulty() {
    assert_eq!(bits_of_difficulty(1.0), Ok(0x1d00_ffff));
    assert_eq!(bits_of_difficulty(DIFFICULTY_MIN), Ok(0x207f_ffff));
    assert_eq!(bits_of_difficulty(16_307.420_938_523_983), Ok(0x1b04_04cb));
    for wrong in [0.0, -1.0, f64::NAN, f64::INFINITY, 1e19, 1e-10] {
        assert!(bits_of_difficulty(wrong).is_err(), "{wrong}");
    }
}

#[test]
fn parameters_have_limits() {
    let wrong = [
        Parameters { difficulty: 0.0, ..easy(1) },
        Parameters { block_seconds: 0.01, ..easy(1) },
        Parameters { block_seconds: f64::NAN, ..easy(1) },
        Parameters { transactions: TRANSACTIONS_MAX + 1, ..easy(1) },
        Parameters { reorgs: 1.5, ..easy(1) },
        Parameters { start_height: START_HEIGHT_MAX + 1, ..easy(1) },
        Parameters { template_seconds: 0.0, ..easy(1) },
        Parameters { answer_seconds: -1.0, ..easy(1) },
    ];
    for parameters in wrong {
        assert!(Chain::new(parameters, START).is_err(), "{parameters:?}");
    }
    let most = Parameters { transactions: TRANSACTIONS_MAX, ..easy(1) };
    let mut world = World::new(most);
    assert_eq!(world.template.merkle_path.len(), 13);
    world.find_block();
}

/// Waits on real time until the link has something, woken by its waker.
fn await_some<T>(link: &NodeLink, mut poll: impl FnMut(&NodeLink) -> Option<T>) -> T {
    let (woken, wakes) = std::sync::mpsc::channel();
    link.set_waker(Arc::new(move || {
        // The receiver is gone once the news was read.
        let _ = woken.send(());
    }));
    loop {
        if let Some(value) = poll(link) {
            return value;
        }
        wakes.recv_timeout(Duration::from_secs(30)).expect("the node wakes us for news");
    }
}

#[test]
fn the_thread_publishes_templates_answers_blocks_and_obeys() {
    let (link, control) = spawn(easy(50)).expect("a thread starts");
    let template = await_some(&link, NodeLink::try_template);
    let solved = solve(&template);
    let bytes: Arc<[u8]> = serialize(&solved).into();
    let hash = Hash256(solved.block_hash().to_byte_array());
    let facts = Arc::new(BlockFacts { hash, height: template.height, worker: "rig".into() });
    let block = SubmitBlock { id: 42, node: 0, attempt: 1, urgent: true, bytes, facts };
    link.submit(block).expect("there is room");
    let result = await_some(&link, NodeLink::try_result);
    assert_eq!((result.id, result.node, result.outcome), (42, 0, BlockOutcome::Accepted));
    let first_byte = result.first_byte.expect("it went out");
    assert!(result.submitted <= first_byte && first_byte <= result.decided);
    let note = JournalNote { id: 42, word: JournalWord::Off };
    assert_eq!(link.try_note(), Some(note), "this chain keeps no journal");
    assert_eq!(control.stats().accepted, 1);

    control.reorg(1, 2).expect("an order fits");
    let height = |link: &NodeLink, height| {
        await_some(link, |link| link.try_template().filter(|new| new.height == height))
    };
    height(&link, 203);
    control.mine().expect("an order fits");
    height(&link, 204);
    control.set_difficulty(2e-9).expect("a valid difficulty");
    assert_eq!(Some(height(&link, 205).bits), bits_of_difficulty(2e-9).ok());
    assert!(matches!(control.set_difficulty(0.0), Err(ControlError::Difficulty(_))));
    assert!(matches!(control.reorg(0, 1), Err(ControlError::Reorg(_))));
}

proptest! {
    // A failing case prints itself; nothing is written beside the sources.
    #![proptest_config(ProptestConfig {
        cases: 24,
        failure_persistence: None,
        ..ProptestConfig::default()
    })]

    /// Whatever happens in whatever order, the newest template makes a block that is accepted.
    #[test]
    fn the_newest_template_is_always_good(
        seed: u64,
        steps in prop::collection::vec((0_u8..5, 1_u32..4, 0_u32..5), 1..25),
    ) {
        let mut world = World::new(Parameters { seed, template_seconds: 1.0, ..easy(25) });
        for (kind, depth, replacement) in steps {
            match kind {
                0 => drop(world.find_block()),
                1 => world.chain.mine(world.now),
                2 => drop(world.chain.reorg(world.now, depth, replacement)),
                3 => world.chain.set_difficulty(world.now, 1e-9).expect("valid"),
                _ => world.pass(f64::from(replacement)),
            }
            world.refresh();
            prop_assert_eq!(world.template.prev_hash.0, world.chain.tip());
        }
        world.find_block();
    }

    /// A flipped bit anywhere in a valid block is never accepted, and the block itself still is.
    #[test]
    fn no_flipped_bit_is_accepted(seed: u64, places in prop::collection::vec(any::<u32>(), 20)) {
        let mut world = World::new(Parameters { seed, difficulty: 1e-6, ..easy(10) });
        let bytes = serialize(&solve(&world.template));
        for place in places {
            let bit = place as usize % (bytes.len() * 8);
            let mut flipped = bytes.clone();
            flipped[bit / 8] ^= 1 << (bit % 8);
            let outcome = world.chain.submit(world.now, &flipped);
            prop_assert!(matches!(outcome, BlockOutcome::Rejected(_)), "bit {}: {}", bit, outcome);
        }
        prop_assert_eq!(world.chain.submit(world.now, &bytes), BlockOutcome::Accepted);
    }
}
