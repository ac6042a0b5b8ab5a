//! Makes the transactions that fill the mempool: real ones, that any node would accept.
//!
//! Coins are of two kinds. Most are `OP_TRUE` behind P2WSH, which anybody may spend and which
//! cost nothing to make; one in 24 is P2WPKH and really signed, so that blocks carry signatures
//! too, although a signature made and verified costs more than ten other transactions. The
//! wallet knows which coins it may spend next, nothing about blocks.

use std::collections::VecDeque;

use bitcoin::absolute::LockTime;
use bitcoin::hashes::Hash;
use bitcoin::secp256k1::{All, Message, Secp256k1, SecretKey};
use bitcoin::sighash::{EcdsaSighashType, SighashCache};
use bitcoin::transaction::Version;
use bitcoin::{
    Amount, CompressedPublicKey, OutPoint, ScriptBuf, Sequence, Transaction, TxIn, TxOut, Witness,
    ecdsa,
};

use super::check::COINBASE_MATURITY;
use super::coins::{Coin, Coins};
use super::rng::Rng;

/// A coin below this is left alone: spending it would cost what it is worth.
const COIN_SATS_MIN: u64 = 2_000;
/// A coin above this is split, so that a matured coinbase becomes many coins again.
const COIN_SATS_LARGE: u64 = 100_000_000;
/// Outputs of such a split.
const SPLIT_OUTPUTS: usize = 20;
/// One output in so many pays to the key, so its spender carries a signature.
const SIGNED_ONE_IN: u64 = 24;
/// One transaction in so many has two inputs and two outputs.
const DOUBLE_ONE_IN: u64 = 16;
/// The least fee, in satoshis: about 1.3 per virtual byte.
const FEE_SATS_MIN: u64 = 150;
/// How far fees spread above the least.
const FEE_SATS_SPREAD: u64 = 3_000;
/// What an output of a funding transaction pays: a bit more than 1 per virtual byte.
const SPLIT_FEE_SATS_PER_OUTPUT: u64 = 50;

/// Keys, scripts, and the coins to spend next.
pub(super) struct Wallet {
    secp: Secp256k1<All>,
    secret: SecretKey,
    public: CompressedPublicKey,
    open_script: ScriptBuf,
    key_script: ScriptBuf,
    /// Spendable now, oldest first; some may have been spent by others meanwhile.
    ready: VecDeque<OutPoint>,
    /// Coinbases that still mature, lowest first.
    maturing: VecDeque<(u32, OutPoint)>,
}

impl Wallet {
    pub(super) fn new(seed: u64) -> Self {
        let secp = Secp256k1::new();
        let digest = bitcoin::hashes::sha256::Hash::hash(&seed.to_le_bytes());
        let secret = SecretKey::from_slice(digest.as_byte_array())
            .expect("a hash is zero or above the group order once in 2^127");
        let public = CompressedPublicKey(secret.public_key(&secp));
        Wallet {
            open_script: ScriptBuf::new_p2wsh(&open_witness_script().wscript_hash()),
            key_script: ScriptBuf::new_p2wpkh(&public.wpubkey_hash()),
            secp,
            secret,
            public,
            ready: VecDeque::new(),
            maturing: VecDeque::new(),
        }
    }

    /// The script that anybody may spend.
    pub(super) fn open_script(&self) -> &ScriptBuf {
        &self.open_script
    }

    /// Takes note of the outputs that a new tip brought, and of the coinbases that it matured.
    pub(super) fn tip_connected(&mut self, height: u32, created: &[(OutPoint, Coin)]) {
        for (outpoint, coin) in created {
            self.note(*outpoint, coin);
        }
        self.mature(height);
    }

    /// Starts again from the coins that exist, after blocks were disconnected.
    pub(super) fn rebuild(&mut self, tip_height: u32, coins: &[(OutPoint, &Coin)]) {
        self.ready.clear();
        self.maturing.clear();
        for (outpoint, coin) in coins {
            self.note(*outpoint, coin);
        }
        self.maturing.make_contiguous().sort_unstable();
        self.mature(tip_height);
    }

    fn note(&mut self, outpoint: OutPoint, coin: &Coin) {
        let script = &coin.output.script_pubkey;
        let ours = *script == self.open_script || *script == self.key_script;
        if !ours || coin.output.value.to_sat() < COIN_SATS_MIN {
            return;
        }
        match coin.coinbase {
            true => self.maturing.push_back((coin.height, outpoint)),
            false => self.ready.push_back(outpoint),
        }
    }

    // Spendable in the next block: that is 100 blocks after the coinbase's own.
    fn mature(&mut self, tip_height: u32) {
        while let Some(&(height, outpoint)) = self.maturing.front() {
            if height + COINBASE_MATURITY > tip_height + 1 {
                break;
            }
            self.maturing.pop_front();
            self.ready.push_front(outpoint);
        }
    }

    /// Makes the next transaction, from coins that `find` says are free to spend; nothing when no
    /// coin is left.
    pub(super) fn next_transaction<'a>(
        &mut self,
        rng: &mut Rng,
        split_wanted: bool,
        find: impl Fn(&OutPoint) -> Option<&'a Coin>,
    ) -> Option<Transaction> {
        let (first, coin) = self.take(&find)?;
        let large = coin.output.value.to_sat() >= COIN_SATS_LARGE;
        let mut inputs = vec![(first, coin.output.clone())];
        let mut count = 1;
        if large && split_wanted {
            count = SPLIT_OUTPUTS;
        } else if rng.below(DOUBLE_ONE_IN) == 0
            && let Some((second, coin)) = self.take(&find)
        {
            inputs.push((second, coin.output.clone()));
            count = 2;
        }
        let fee = FEE_SATS_MIN + rng.below(FEE_SATS_SPREAD);
        Some(self.spend(rng, &inputs, count, fee))
    }

    /// Coins that may be spent now, as far as nobody else spent them.
    pub(super) fn ready(&self) -> usize {
        self.ready.len()
    }

    /// How many of them are large. These are matured coinbases, which come to the front.
    pub(super) fn large_ready(&self, coins: &Coins) -> usize {
        let large = |outpoint: &&OutPoint| {
            coins.find(outpoint).is_some_and(|coin| coin.output.value.to_sat() >= COIN_SATS_LARGE)
        };
        self.ready.iter().take_while(large).count()
    }

    /// Splits the foremost coin into `count` for the start of a chain.
    pub(super) fn split<'a>(
        &mut self,
        rng: &mut Rng,
        count: usize,
        find: impl Fn(&OutPoint) -> Option<&'a Coin>,
    ) -> Option<Transaction> {
        let (outpoint, coin) = self.take(&find)?;
        let fee = SPLIT_FEE_SATS_PER_OUTPUT * count as u64;
        Some(self.spend(rng, &[(outpoint, coin.output.clone())], count, fee))
    }

    fn take<'a>(
        &mut self,
        find: &impl Fn(&OutPoint) -> Option<&'a Coin>,
    ) -> Option<(OutPoint, &'a Coin)> {
        while let Some(outpoint) = self.ready.pop_front() {
            if let Some(coin) = find(&outpoint) {
                return Some((outpoint, coin));
            }
        }
        None
    }

    // Equal outputs; what does not divide and what dust would be left goes to the fee.
    fn spend(
        &self,
        rng: &mut Rng,
        inputs: &[(OutPoint, TxOut)],
        count: usize,
        fee: u64,
    ) -> Transaction {
        let total: u64 = inputs.iter().map(|(_, output)| output.value.to_sat()).sum();
        let fee = fee.min(total / 2);
        let count = count.min(((total - fee) / (COIN_SATS_MIN / 2)) as usize).max(1);
        let each = (total - fee) / count as u64;
        let output = (0..count).map(|_| {
            let signed = rng.below(SIGNED_ONE_IN) == 0;
            let script = if signed { &self.key_script } else { &self.open_script };
            TxOut { value: Amount::from_sat(each), script_pubkey: script.clone() }
        });
        let mut transaction = Transaction {
            version: Version::TWO,
            lock_time: LockTime::ZERO,
            output: output.collect(),
            input: inputs.iter().map(|(outpoint, _)| unsigned_input(*outpoint)).collect(),
        };
        self.sign(&mut transaction, inputs);
        transaction
    }

    fn sign(&self, transaction: &mut Transaction, inputs: &[(OutPoint, TxOut)]) {
        for (index, (_, spent)) in inputs.iter().enumerate() {
            let witness = if spent.script_pubkey == self.key_script {
                let kind = EcdsaSighashType::All;
                let hash = SighashCache::new(&*transaction)
                    .p2wpkh_signature_hash(index, &spent.script_pubkey, spent.value, kind)
                    .expect("the index is of this transaction and the script is P2WPKH");
                let message = Message::from_digest(hash.to_byte_array());
                let signature = self.secp.sign_ecdsa(&message, &self.secret);
                Witness::p2wpkh(&ecdsa::Signature::sighash_all(signature), &self.public.0)
            } else {
                Witness::from_slice(&[open_witness_script().as_bytes()])
            };
            transaction.input[index].witness = witness;
        }
    }
}

/// The witness script behind the coins that anybody may spend.
pub(super) fn open_witness_script() -> ScriptBuf {
    ScriptBuf::builder().push_opcode(bitcoin::opcodes::OP_TRUE).into_script()
}

fn unsigned_input(previous_output: OutPoint) -> TxIn {
    TxIn {
        previous_output,
        script_sig: ScriptBuf::new(),
        sequence: Sequence::ENABLE_RBF_NO_LOCKTIME,
        witness: Witness::new(),
    }
}
