//! Is this block valid? In full, as bitcoind asks it, with the `bitcoin` crate.
//!
//! The order and the words are bitcoind's: first what needs no context (proof of work, merkle
//! root, form of the transactions), then the header in its place, then the block in its place
//! (height, witness commitment, weight), then the spending (coins, maturity, fees, scripts,
//! coinbase value). Nothing here comes from `pow`: what built the block does not judge it.
//!
//! Scripts are verified for the kinds of coins that this chain has: `OP_TRUE` behind P2WSH, and
//! P2WPKH. Spending any other kind is refused, never waved through.

use std::borrow::Cow;
use std::collections::{HashMap, HashSet};

use bitcoin::absolute::LockTime;
use bitcoin::block::Header;
use bitcoin::hashes::{Hash, HashEngine, sha256d};
use bitcoin::secp256k1::{Message, Secp256k1, VerifyOnly};
use bitcoin::sighash::{EcdsaSighashType, SighashCache};
use bitcoin::{
    Amount, Block, CompressedPublicKey, OutPoint, Script, ScriptBuf, Sequence, Transaction, TxIn,
    TxOut, Txid, ecdsa,
};

use super::coins::{Change, Coin, Coins};
use super::wallet::open_witness_script;

/// Blocks after which a coinbase may be spent (consensus.h, COINBASE_MATURITY).
pub(super) const COINBASE_MATURITY: u32 = 100;
/// Most weight units of a block (consensus.h, MAX_BLOCK_WEIGHT).
pub(super) const BLOCK_WEIGHT_MAX: u64 = 4_000_000;
/// Highest signature operation cost of a block (consensus.h, MAX_BLOCK_SIGOPS_COST).
pub(super) const BLOCK_SIGOPS_COST_MAX: u64 = 80_000;
/// How far a block's time may be ahead of the clock, in seconds (MAX_FUTURE_BLOCK_TIME).
pub(super) const FUTURE_SECONDS_MAX: u64 = 7_200;
/// Blocks between two halvings of the subsidy on regtest.
pub(super) const HALVING_INTERVAL: u32 = 150;
/// The regtest limit of the target, as compact bits.
const POW_LIMIT_BITS: u32 = 0x207f_ffff;
/// The header of a witness commitment's script: OP_RETURN, push of 36, BIP141's mark.
pub(super) const COMMITMENT_MARK: [u8; 6] = [0x6a, 0x24, 0xaa, 0x21, 0xa9, 0xed];
/// A commitment's script is at least so long; anything may follow.
const COMMITMENT_BYTES_MIN: usize = 38;

/// Why a block is refused, and whether the block itself is condemned by it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Reject {
    pub(super) reason: Cow<'static, str>,
    /// False where another body or a later time could make the same header valid.
    pub(super) lasting: bool,
}

/// A block's place in the chain.
#[derive(Clone, Copy, Debug)]
pub(super) struct Place {
    pub(super) height: u32,
    pub(super) bits: u32,
    pub(super) median_time_past: u32,
    pub(super) now_seconds: u64,
}

/// Whether the header must show its work: the chain's own blocks are trusted to have done it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Work {
    Shown,
    Assumed,
}

impl Reject {
    /// The block is condemned: the same again is "duplicate-invalid".
    pub(super) fn lasting(reason: &'static str) -> Reject {
        Reject { reason: Cow::Borrowed(reason), lasting: true }
    }

    /// This submission is refused, the header is not remembered.
    pub(super) fn for_now(reason: &'static str) -> Reject {
        Reject { reason: Cow::Borrowed(reason), lasting: false }
    }
}

/// What a spending is judged against.
#[derive(Clone, Copy)]
pub(super) struct Context<'a> {
    pub(super) coins: &'a Coins,
    pub(super) verifier: &'a Verifier,
}

/// What a valid block does to the coins, and what each transaction paid and cost, coinbase first.
#[derive(Debug)]
pub(super) struct Spent {
    pub(super) change: Change,
    pub(super) costs: Vec<Cost>,
}

/// Fee in satoshis and signature operation cost of one transaction.
#[derive(Clone, Copy, Debug)]
pub(super) struct Cost {
    pub(super) fee: u64,
    pub(super) sigops: u64,
}

fn reject<T>(reason: &'static str) -> Result<T, Reject> {
    Err(Reject::lasting(reason))
}

fn reject_for_now<T>(reason: &'static str) -> Result<T, Reject> {
    Err(Reject::for_now(reason))
}

/// The subsidy of a block, halved every [`HALVING_INTERVAL`] blocks, in satoshis.
pub(super) fn subsidy(height: u32) -> u64 {
    let halvings = height / HALVING_INTERVAL;
    if halvings >= 64 { 0 } else { 5_000_000_000 >> halvings }
}

/// What needs no chain to be judged (bitcoind: CheckBlock).
pub(super) fn alone(block: &Block, txids: &[Txid], work: Work) -> Result<(), Reject> {
    if work == Work::Shown {
        proof_of_work(&block.header)?;
    }
    let leaves = txids.iter().map(|txid| txid.to_byte_array()).collect();
    let (root, mutated) = merkle_root(leaves);
    if root != block.header.merkle_root.to_byte_array() {
        return reject_for_now("bad-txnmrklroot");
    }
    if mutated {
        return reject_for_now("bad-txns-duplicate");
    }
    let stripped: usize = block.txdata.iter().map(Transaction::base_size).sum();
    if block.txdata.is_empty() || stripped as u64 * 4 > BLOCK_WEIGHT_MAX {
        return reject("bad-blk-length");
    }
    if !block.txdata[0].is_coinbase() {
        return reject("bad-cb-missing");
    }
    if block.txdata[1..].iter().any(Transaction::is_coinbase) {
        return reject("bad-cb-multiple");
    }
    let mut legacy_sigop_cost = 0;
    for transaction in &block.txdata {
        transaction_alone(transaction)?;
        legacy_sigop_cost += transaction.total_sigop_cost(|_| None) as u64;
    }
    if legacy_sigop_cost > BLOCK_SIGOPS_COST_MAX {
        return reject("bad-blk-sigops");
    }
    Ok(())
}

fn proof_of_work(header: &Header) -> Result<(), Reject> {
    let target = header.target();
    let limit =
        bitcoin::Target::from_compact(bitcoin::CompactTarget::from_consensus(POW_LIMIT_BITS));
    if target > limit || !target.is_met_by(header.block_hash()) {
        return reject_for_now("high-hash");
    }
    Ok(())
}

fn transaction_alone(transaction: &Transaction) -> Result<(), Reject> {
    if transaction.input.is_empty() {
        return reject("bad-txns-vin-empty");
    }
    if transaction.output.is_empty() {
        return reject("bad-txns-vout-empty");
    }
    let mut total = Amount::ZERO;
    for output in &transaction.output {
        if output.value > Amount::MAX_MONEY {
            return reject("bad-txns-vout-toolarge");
        }
        total += output.value;
        if total > Amount::MAX_MONEY {
            return reject("bad-txns-txouttotal-toolarge");
        }
    }
    let mut seen = HashSet::with_capacity(transaction.input.len());
    if !transaction.input.iter().all(|input| seen.insert(input.previous_output)) {
        return reject("bad-txns-inputs-duplicate");
    }
    if transaction.is_coinbase() {
        if !(2..=100).contains(&transaction.input[0].script_sig.len()) {
            return reject("bad-cb-length");
        }
    } else if transaction.input.iter().any(|input| input.previous_output.is_null()) {
        return reject("bad-txns-prevout-null");
    }
    Ok(())
}

/// The header in its place (bitcoind: ContextualCheckBlockHeader).
pub(super) fn header_in_place(header: &Header, place: &Place) -> Result<(), Reject> {
    if header.bits.to_consensus() != place.bits {
        return reject_for_now("bad-diffbits");
    }
    if header.time <= place.median_time_past {
        return reject_for_now("time-too-old");
    }
    if u64::from(header.time) > place.now_seconds + FUTURE_SECONDS_MAX {
        return reject_for_now("time-too-new");
    }
    if header.version.to_consensus() < 4 {
        let reason = format!("bad-version(0x{:08x})", header.version.to_consensus());
        return Err(Reject { reason: Cow::Owned(reason), lasting: false });
    }
    Ok(())
}

/// The body in its place (bitcoind: ContextualCheckBlock).
pub(super) fn body_in_place(block: &Block, place: &Place) -> Result<(), Reject> {
    for transaction in &block.txdata {
        if !is_final(transaction, place) {
            return reject("bad-txns-nonfinal");
        }
    }
    let coinbase = &block.txdata[0].input[0];
    let height = ScriptBuf::builder().push_int(i64::from(place.height)).into_script();
    if !coinbase.script_sig.as_bytes().starts_with(height.as_bytes()) {
        return reject("bad-cb-height");
    }
    witness_commitment(block, coinbase)?;
    if block.weight().to_wu() > BLOCK_WEIGHT_MAX {
        return reject("bad-blk-weight");
    }
    Ok(())
}

fn is_final(transaction: &Transaction, place: &Place) -> bool {
    let reached = match transaction.lock_time {
        LockTime::Blocks(height) => height.to_consensus_u32() < place.height,
        // BIP113: times are compared with the median time past.
        LockTime::Seconds(time) => time.to_consensus_u32() < place.median_time_past,
    };
    let zero = transaction.lock_time.to_consensus_u32() == 0;
    zero || reached || transaction.input.iter().all(|input| input.sequence == Sequence::MAX)
}

fn witness_commitment(block: &Block, coinbase: &TxIn) -> Result<(), Reject> {
    let is_commitment = |output: &&TxOut| {
        let script = output.script_pubkey.as_bytes();
        script.len() >= COMMITMENT_BYTES_MIN && script.starts_with(&COMMITMENT_MARK)
    };
    // BIP141: the last output of that form counts.
    let Some(commitment) = block.txdata[0].output.iter().rev().find(is_commitment) else {
        let bare = |transaction: &Transaction| {
            transaction.input.iter().all(|input| input.witness.is_empty())
        };
        return if block.txdata.iter().all(bare) { Ok(()) } else { reject("unexpected-witness") };
    };
    let reserved = coinbase.witness.nth(0).filter(|value| value.len() == 32);
    let Some(reserved) = reserved.filter(|_| coinbase.witness.len() == 1) else {
        return reject_for_now("bad-witness-nonce-size");
    };
    let others = block.txdata[1..].iter().map(|one| one.compute_wtxid().to_byte_array());
    let leaves = std::iter::once([0; 32]).chain(others).collect();
    let expected = sha256d_of(&merkle_root(leaves).0, reserved);
    if commitment.script_pubkey.as_bytes()[6..38] != expected {
        return reject_for_now("bad-witness-merkle-match");
    }
    Ok(())
}

/// The double SHA-256 of two strings in a row.
pub(super) fn sha256d_of(left: &[u8], right: &[u8]) -> [u8; 32] {
    let mut engine = sha256d::Hash::engine();
    engine.input(left);
    engine.input(right);
    sha256d::Hash::from_engine(engine).to_byte_array()
}

/// The root of a merkle tree, and whether two equal neighbours make it ambiguous (CVE-2012-2459).
pub(super) fn merkle_root(mut level: Vec<[u8; 32]>) -> ([u8; 32], bool) {
    let mut mutated = false;
    while level.len() > 1 {
        mutated |= level.chunks_exact(2).any(|pair| pair[0] == pair[1]);
        level = level
            .chunks(2)
            .map(|pair| sha256d_of(&pair[0], pair.get(1).unwrap_or(&pair[0])))
            .collect();
    }
    (level.first().copied().unwrap_or([0; 32]), mutated)
}

/// What the block spends and creates (bitcoind: ConnectBlock).
///
/// `scripts_known` says which transactions had their scripts verified before; `mtp_at` gives the
/// median time past of the active block at a height, for relative lock times.
pub(super) fn spending(
    block: &Block,
    txids: &[Txid],
    place: &Place,
    context: Context<'_>,
    scripts_known: impl Fn(&Txid, &Transaction) -> bool,
    mtp_at: impl Fn(u32) -> u32,
) -> Result<Spent, Reject> {
    let mut ledger = Spending::new(context.coins);
    let mut costs = Vec::with_capacity(txids.len());
    let mut sigops = 0;
    for (index, (transaction, txid)) in block.txdata.iter().zip(txids).enumerate() {
        let coinbase = index == 0;
        let spent = if coinbase { Vec::new() } else { ledger.spend(transaction)? };
        let fee = if coinbase { 0 } else { fee(transaction, &spent, place.height)? };
        if !relative_locks_passed(transaction, &spent, place, &mtp_at) {
            return reject("bad-txns-nonfinal");
        }
        let cost = Cost { fee, sigops: sigop_cost(transaction, &spent) };
        costs.push(cost);
        sigops += cost.sigops;
        if sigops > BLOCK_SIGOPS_COST_MAX {
            return reject("bad-blk-sigops");
        }
        if !coinbase && !scripts_known(txid, transaction) {
            context.verifier.verify(transaction, &spent)?;
        }
        ledger.create(transaction, *txid, place.height, coinbase);
    }
    let fees: u64 = costs.iter().map(|cost| cost.fee).sum();
    let claimed: Amount = block.txdata[0].output.iter().map(|output| output.value).sum();
    if claimed.to_sat() > subsidy(place.height) + fees {
        return reject("bad-cb-amount");
    }
    Ok(Spent { change: ledger.finish(), costs })
}

/// A single transaction for the mempool, on the coins that exist: what it pays and costs.
pub(super) fn transaction(
    transaction: &Transaction,
    place: &Place,
    context: Context<'_>,
) -> Result<Cost, Reject> {
    transaction_alone(transaction)?;
    let spent = Spending::new(context.coins).spend(transaction)?;
    let fee = fee(transaction, &spent, place.height)?;
    context.verifier.verify(transaction, &spent)?;
    Ok(Cost { fee, sigops: sigop_cost(transaction, &spent) })
}

fn sigop_cost(transaction: &Transaction, spent: &[Coin]) -> u64 {
    let output_of = |outpoint: &OutPoint| {
        let mut inputs = transaction.input.iter().zip(spent);
        let (_, coin) = inputs.find(|(input, _)| input.previous_output == *outpoint)?;
        Some(coin.output.clone())
    };
    transaction.total_sigop_cost(output_of) as u64
}

// The coins as the block sees them while its transactions are gone through in order.
struct Spending<'a> {
    coins: &'a Coins,
    gone: HashSet<OutPoint>,
    spent: Vec<(OutPoint, Coin)>,
    created: HashMap<OutPoint, Coin>,
    order: Vec<OutPoint>,
}

impl<'a> Spending<'a> {
    fn new(coins: &'a Coins) -> Self {
        Spending {
            coins,
            gone: HashSet::new(),
            spent: Vec::new(),
            created: HashMap::new(),
            order: Vec::new(),
        }
    }

    fn spend(&mut self, transaction: &Transaction) -> Result<Vec<Coin>, Reject> {
        let mut spent = Vec::with_capacity(transaction.input.len());
        for input in &transaction.input {
            let outpoint = input.previous_output;
            if let Some(coin) = self.created.remove(&outpoint) {
                spent.push(coin);
                continue;
            }
            match self.coins.find(&outpoint) {
                Some(coin) if self.gone.insert(outpoint) => {
                    self.spent.push((outpoint, coin.clone()));
                    spent.push(coin.clone());
                }
                _ => return reject("bad-txns-inputs-missingorspent"),
            }
        }
        Ok(spent)
    }

    fn create(&mut self, transaction: &Transaction, txid: Txid, height: u32, coinbase: bool) {
        for (vout, output) in transaction.output.iter().enumerate() {
            // Nobody can spend it, so it is no coin.
            if output.script_pubkey.is_op_return() {
                continue;
            }
            let outpoint = OutPoint::new(txid, vout as u32);
            self.created.insert(outpoint, Coin { output: output.clone(), height, coinbase });
            self.order.push(outpoint);
        }
    }

    fn finish(mut self) -> Change {
        let created = self.order.iter();
        let created = created
            .filter_map(|outpoint| self.created.remove(outpoint).map(|coin| (*outpoint, coin)))
            .collect();
        Change { spent: self.spent, created }
    }
}

fn fee(transaction: &Transaction, spent: &[Coin], height: u32) -> Result<u64, Reject> {
    if spent.iter().any(|coin| coin.coinbase && height - coin.height < COINBASE_MATURITY) {
        return reject("bad-txns-premature-spend-of-coinbase");
    }
    let paid_in: Amount = spent.iter().map(|coin| coin.output.value).sum();
    let paid_out: Amount = transaction.output.iter().map(|output| output.value).sum();
    match paid_in.to_sat().checked_sub(paid_out.to_sat()) {
        Some(fee) => Ok(fee),
        None => reject("bad-txns-in-belowout"),
    }
}

// BIP68: an input may say how old its coin must be, in blocks or in units of 512 seconds.
fn relative_locks_passed(
    transaction: &Transaction,
    spent: &[Coin],
    place: &Place,
    mtp_at: impl Fn(u32) -> u32,
) -> bool {
    if transaction.version.0 < 2 {
        return true;
    }
    transaction.input.iter().zip(spent).all(|(input, coin)| {
        match input.sequence.to_relative_lock_time() {
            None => true,
            Some(bitcoin::relative::LockTime::Blocks(blocks)) => {
                coin.height + u32::from(blocks.value()) <= place.height
            }
            Some(bitcoin::relative::LockTime::Time(units)) => {
                let since = mtp_at(coin.height.saturating_sub(1));
                since + u32::from(units.value()) * 512 <= place.median_time_past
            }
        }
    })
}

/// Verifies scripts of the two kinds of coins that this chain has.
pub(super) struct Verifier {
    secp: Secp256k1<VerifyOnly>,
}

impl Verifier {
    pub(super) fn new() -> Self {
        Verifier { secp: Secp256k1::verification_only() }
    }

    fn verify(&self, transaction: &Transaction, spent: &[Coin]) -> Result<(), Reject> {
        let mut cache = SighashCache::new(transaction);
        for (index, (input, coin)) in transaction.input.iter().zip(spent).enumerate() {
            let script = &coin.output.script_pubkey;
            let passed = if script.is_p2wsh() {
                open_script_passes(input, script)
            } else if script.is_p2wpkh() {
                self.key_passes(&mut cache, index, input, &coin.output)
            } else {
                return reject(
                    "block-script-verify-flag-failed (a kind of script that the simulated node \
                     does not run)",
                );
            };
            if !passed {
                return reject("block-script-verify-flag-failed");
            }
        }
        Ok(())
    }

    fn key_passes(
        &self,
        cache: &mut SighashCache<&Transaction>,
        index: usize,
        input: &TxIn,
        spent: &TxOut,
    ) -> bool {
        let [Some(signature), Some(key)] = [input.witness.nth(0), input.witness.nth(1)] else {
            return false;
        };
        let Ok(signature) = ecdsa::Signature::from_slice(signature) else { return false };
        let Ok(key) = CompressedPublicKey::from_slice(key) else { return false };
        let paid_to_key = spent.script_pubkey == ScriptBuf::new_p2wpkh(&key.wpubkey_hash());
        let alone = input.script_sig.is_empty() && input.witness.len() == 2;
        let known = signature.sighash_type == EcdsaSighashType::All;
        if !paid_to_key || !alone || !known {
            return false;
        }
        let script = &spent.script_pubkey;
        cache
            .p2wpkh_signature_hash(index, script, spent.value, EcdsaSighashType::All)
            .map(|hash| Message::from_digest(hash.to_byte_array()))
            .is_ok_and(|message| {
                self.secp.verify_ecdsa(&message, &signature.signature, &key.0).is_ok()
            })
    }
}

fn open_script_passes(input: &TxIn, script: &Script) -> bool {
    let open = open_witness_script();
    input.script_sig.is_empty()
        && input.witness.len() == 1
        && input.witness.nth(0) == Some(open.as_bytes())
        && *script == ScriptBuf::new_p2wsh(&open.wscript_hash())
}
