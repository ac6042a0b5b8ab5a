//! A `getblocktemplate` answer becomes a [`Template`], or an error with the reason.
//!
//! A wrong template costs a block, or every share of the farm until somebody notices. So nothing
//! is taken on trust that can be checked here: numbers lie within what consensus allows, every
//! transaction hashes to what it is called, stands after those that it depends on, and the witness
//! commitment commits to exactly these. What cannot be seen from the template alone (whether the
//! coins exist, whether fees are true) is what a proposal to the node is for.
//!
//! Transactions that the template before had are known by their hash, and not decoded again.

mod raw;

use std::cmp::Ordering;
use std::collections::{HashMap, HashSet};
use std::fmt;
use std::sync::Arc;

use bitcoin::consensus::encode;
use bitcoin::hashes::Hash;
use pow::merkle::node;
use pow::{Hash256, Kernel, Target, Template, merkle_path, merkle_root};

use super::calls::TipHeader;
use super::error::printable;
use super::header::{COINBASE_SEQUENCE, COINBASE_VERSION, subsidy};
use crate::payout::Network;
use raw::{RawTemplate, RawTransaction};

/// Most transactions of a block beside its coinbase: the smallest has 60 bytes, which weigh 240.
pub(super) const TRANSACTIONS_MAX: usize = 16_666;
/// Consensus: most weight units of a block.
const WEIGHT_MAX: u64 = 4_000_000;
/// The least that bitcoind can be told to leave for header and coinbase (`blockreservedweight`).
const RESERVED_WEIGHT_MIN: u64 = 2_000;
/// Consensus: highest cost of a block's signature operations.
const SIGOPS_MAX: u64 = 80_000;
/// Every satoshi that there will ever be.
const MONEY_MAX: u64 = 2_100_000_000_000_000;
/// From here on a lock time is a time, so height − 1 could not be one.
const HEIGHT_MAX: u64 = 499_999_999;
/// Before version 4 no block is valid any more (BIP34, BIP66, BIP65).
const VERSION_MIN: u64 = 4;
/// What miners may roll (BIP320): bits here cannot be promised to a node.
const VERSION_ROLLED: u32 = 0x1fff_e000;
/// Consensus: how far, in seconds, a block's time may be ahead of a node's clock.
const AHEAD_SECONDS_MAX: u32 = 7_200;
/// A coinbase script has no room for more.
const AUX_BYTES_MAX: usize = 80;
/// BIP141's mark: OP_RETURN, a push of 36, four bytes.
const COMMITMENT_MARK: [u8; 6] = [0x6a, 0x24, 0xaa, 0x21, 0xa9, 0xed];
/// The mark and a hash; what follows is of no meaning to consensus.
const COMMITMENT_BYTES_MIN: usize = 38;
/// Beyond this it is no commitment but a burden.
const COMMITMENT_BYTES_MAX: usize = 100;
/// Rules with a `!` that we know how to mine under.
const RULES_KNOWN: [&str; 3] = ["csv", "segwit", "taproot"];

/// Reads one node's templates, one after the other.
#[derive(Debug)]
pub struct TemplateReader {
    network: Network,
    kernel: Kernel,
    /// The transactions of the last template, by their hash with witness.
    known: HashMap<Hash256, Known>,
}

/// What a template says beside the work itself.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TemplateFacts {
    /// What to give to the next long poll.
    pub longpollid: Option<String>,
    /// The rules in force, and behind them the deployments that can be signalled: when they
    /// change, the node's consensus may have.
    pub rules: Vec<String>,
    /// Fees of the transactions, in satoshis.
    pub fees: u64,
    /// Cost of the transactions' signature operations.
    pub sigops: u64,
}

/// What is wrong with a template. Always the node's fault, or of what stands between.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum TemplateError {
    /// It is no JSON, or not of the form of a template.
    Form(String),
    /// A field is missing, or cannot be.
    Field {
        /// The field, as BIP22, BIP23 and BIP145 name it.
        name: &'static str,
        /// What is wrong with it.
        fault: String,
    },
    /// A transaction cannot be.
    Transaction {
        /// Its place, from 0.
        index: usize,
        /// What is wrong with it.
        fault: String,
    },
    /// The chain is a signet, whose blocks need a signature that we cannot make.
    Signet,
    /// A rule is in force that we do not know.
    UnknownRule(String),
    /// The height is not the tip's plus one.
    HeightJump {
        /// By the template.
        height: u32,
        /// Of the block that it stands on, by its header.
        tip_height: u32,
    },
}

/// A transaction that was checked.
#[derive(Clone, Debug)]
struct Known {
    txid: Hash256,
    bytes: Arc<[u8]>,
    weight: u64,
    has_witness: bool,
}

/// The transactions of one template, in block order.
#[derive(Default)]
struct Body {
    txids: Vec<Hash256>,
    wtxids: Vec<Hash256>,
    bytes: Vec<Arc<[u8]>>,
    weight: u64,
    fees: u64,
    sigops: u64,
    has_witness: bool,
}

impl TemplateReader {
    /// A reader for a node of this network.
    pub fn new(network: Network) -> TemplateReader {
        TemplateReader { network, kernel: Kernel::detect(), known: HashMap::new() }
    }

    /// Reads a template. What it stands on it does not tell: [`TemplateReader::fits`] looks at
    /// that.
    ///
    /// # Errors
    /// The template is not to be mined, whatever else is known about the node.
    pub fn read(&mut self, json: &str) -> Result<(Template, TemplateFacts), TemplateError> {
        let raw = RawTemplate::read(json)?;
        let rules = self.rules(&raw)?;
        let height = raw.number("height", raw.height, 1, HEIGHT_MAX)? as u32;
        let prev_hash = raw.hash("previousblockhash", raw.previousblockhash)?;
        let body = self.body(&raw.transactions)?;
        let coinbase_value = raw.number("coinbasevalue", raw.coinbasevalue, 0, MONEY_MAX)?;
        self.is_whole_reward(height, body.fees, coinbase_value)?;
        let times = times(&raw)?;
        let bits = self.bits(&raw)?;
        let template = Template {
            height,
            prev_hash,
            version: version(&raw)?,
            bits,
            curtime: times.0,
            min_ntime: times.1,
            coinbase_value,
            coinbase_version: COINBASE_VERSION,
            coinbase_sequence: COINBASE_SEQUENCE,
            coinbase_locktime: height - 1,
            witness_commitment: self.commitment(&raw, &body)?,
            coinbase_aux: coinbase_aux(&raw)?,
            merkle_path: merkle_path(&body.txids),
            transactions: body.bytes.into(),
            weight: body.weight,
        };
        let longpollid = raw.text("longpollid", raw.longpollid)?;
        let (fees, sigops) = (body.fees, body.sigops);
        Ok((template, TemplateFacts { longpollid, rules, fees, sigops }))
    }

    fn rules(&self, raw: &RawTemplate<'_>) -> Result<Vec<String>, TemplateError> {
        let mut rules = raw.texts("rules", raw.rules)?;
        for rule in rules.iter().filter_map(|rule| rule.strip_prefix('!')) {
            match rule {
                "signet" => return Err(TemplateError::Signet),
                _ if RULES_KNOWN.contains(&rule) => {}
                _ => return Err(TemplateError::UnknownRule(printable(rule))),
            }
        }
        if raw.signet_challenge.is_some() || self.network == Network::Signet {
            return Err(TemplateError::Signet);
        }
        rules.extend(raw.names("vbavailable", raw.vbavailable)?);
        Ok(rules)
    }

    fn body(&mut self, transactions: &[RawTransaction<'_>]) -> Result<Body, TemplateError> {
        let mut body = Body::default();
        let mut known = HashMap::with_capacity(transactions.len());
        let mut seen = HashSet::with_capacity(transactions.len());
        for (index, raw) in transactions.iter().enumerate() {
            let fault = |fault: String| TemplateError::Transaction { index, fault };
            let wtxid = raw.hash("hash", raw.hash).map_err(fault)?;
            let txid = raw.hash("txid", raw.txid).map_err(fault)?;
            let one = match self.known.get(&wtxid) {
                Some(one) => one.clone(),
                None => checked(raw, &wtxid).map_err(fault)?,
            };
            if one.txid != txid {
                return Err(fault(format!("its txid is {}, not {txid}", one.txid)));
            }
            if !seen.insert(txid) {
                return Err(fault("it stands there twice".to_owned()));
            }
            raw.depends_on_earlier(index).map_err(fault)?;
            let weight = raw.number("weight", raw.weight, WEIGHT_MAX).map_err(fault)?;
            if weight != one.weight {
                return Err(fault(format!("its weight is {}, not {weight}", one.weight)));
            }
            body.fees += raw.number("fee", raw.fee, MONEY_MAX).map_err(fault)?;
            body.sigops += raw.number("sigops", raw.sigops, SIGOPS_MAX).map_err(fault)?;
            body.weight += weight;
            body.has_witness |= one.has_witness;
            body.txids.push(txid);
            body.wtxids.push(wtxid);
            body.bytes.push(one.bytes.clone());
            known.insert(wtxid, one);
        }
        body.within_limits()?;
        self.known = known;
        Ok(body)
    }

    /// More than subsidy and fees no node takes. Less is valid and burns the difference, for ever,
    /// which nobody means.
    fn is_whole_reward(&self, height: u32, fees: u64, value: u64) -> Result<(), TemplateError> {
        let whole = subsidy(height, self.network) + fees;
        let side = match value.cmp(&whole) {
            Ordering::Equal => return Ok(()),
            Ordering::Greater => "above",
            Ordering::Less => "below",
        };
        let fault = format!("is {value}, {side} subsidy and fees, which are {whole}");
        Err(TemplateError::Field { name: "coinbasevalue", fault })
    }

    fn bits(&self, raw: &RawTemplate<'_>) -> Result<u32, TemplateError> {
        let fault = |fault: String| TemplateError::Field { name: "bits", fault };
        let text = raw.text("bits", raw.bits)?.ok_or_else(|| fault("is missing".to_owned()))?;
        let bits = match text.len() {
            8 => u32::from_str_radix(&text, 16).ok(),
            _ => None,
        };
        let bits = bits.ok_or_else(|| fault(format!("is {text}, not eight digits of hex")))?;
        let limit = match self.network {
            Network::Regtest => 0x207f_ffff,
            _ => 0x1d00_ffff,
        };
        match Target::from_compact(bits) {
            Some(target) if Some(target) <= Target::from_compact(limit) => Ok(bits),
            _ => Err(fault(format!("is {text}, which is no target of {}", self.network))),
        }
    }

    /// Whether the header that a template stands on bears it: height, bits and times. `now` is our
    /// clock, in seconds since 1970.
    ///
    /// # Errors
    /// No block of this template would be valid on that header.
    pub fn fits(
        &self,
        template: &Template,
        tip: &TipHeader,
        now: u32,
    ) -> Result<(), TemplateError> {
        assert_eq!(template.prev_hash, tip.hash, "the caller looks for the right header");
        let Template { height, bits, min_ntime, curtime, .. } = *template;
        let field = |name, fault| Err(TemplateError::Field { name, fault });
        if tip.height.checked_add(1) != Some(height) {
            return Err(TemplateError::HeightJump { height, tip_height: tip.height });
        }
        let median = tip.median_time;
        if min_ntime <= median {
            return field("mintime", format!("is {min_ntime}, not after the median {median}"));
        }
        // Right after the median, or at a retarget a little before the tip's own time (BIP94).
        // What is kept as the earliest time of a tip must not be raised by a node that errs.
        let latest = median.saturating_add(1).max(tip.time);
        if min_ntime > latest {
            return field("mintime", format!("is {min_ntime}, and {latest} at most on that tip"));
        }
        let settled = self.network == Network::Main && !height.is_multiple_of(2_016);
        if settled && bits != tip.bits {
            let fault = format!("is {bits:08x}, and {:08x} at the tip", tip.bits);
            return field("bits", fault);
        }
        // A clock that is behind the tip may be wrong itself, and judges nobody.
        let credible = now >= tip.time;
        if credible && curtime > now.saturating_add(AHEAD_SECONDS_MAX) {
            let fault = format!(
                "is {curtime}, more than {AHEAD_SECONDS_MAX} s ahead of our clock, {now}: one of \
                 the two clocks is wrong"
            );
            return field("curtime", fault);
        }
        Ok(())
    }

    fn commitment(
        &self,
        raw: &RawTemplate<'_>,
        body: &Body,
    ) -> Result<Option<Vec<u8>>, TemplateError> {
        let name = "default_witness_commitment";
        let fault = |fault: String| Err(TemplateError::Field { name, fault });
        let Some(script) = raw.bytes(name, raw.default_witness_commitment, COMMITMENT_BYTES_MAX)?
        else {
            return match body.has_witness {
                true => fault("is missing, but transactions have witnesses".to_owned()),
                false => Ok(None),
            };
        };
        if script.len() < COMMITMENT_BYTES_MIN || !script.starts_with(&COMMITMENT_MARK) {
            return fault("is no commitment of BIP141".to_owned());
        }
        // The coinbase's own leaf and its witness are 32 zeros each.
        let root = merkle_root(self.kernel, Hash256::ZERO, &merkle_path(&body.wtxids));
        let hash = self.kernel.sha256d(&node(&root, &Hash256::ZERO));
        match script[6..38] == hash.0 {
            true => Ok(Some(script)),
            false => fault("does not commit to these transactions".to_owned()),
        }
    }
}

impl Body {
    fn within_limits(&self) -> Result<(), TemplateError> {
        let field = |name, fault| Err(TemplateError::Field { name, fault });
        let most = WEIGHT_MAX - RESERVED_WEIGHT_MIN;
        if self.weight > most {
            let fault = format!("weigh {}, and {most} at most leave a coinbase", self.weight);
            return field("transactions", fault);
        }
        if self.sigops > SIGOPS_MAX {
            let fault = format!("cost {} signature operations, above {SIGOPS_MAX}", self.sigops);
            return field("transactions", fault);
        }
        if self.fees > MONEY_MAX {
            return field("transactions", format!("pay {} in fees", self.fees));
        }
        Ok(())
    }
}

/// Decodes a transaction and looks whether it is what it is called.
fn checked(raw: &RawTransaction<'_>, wtxid: &Hash256) -> Result<Known, String> {
    let bytes = raw.data()?;
    let transaction: bitcoin::Transaction =
        encode::deserialize(&bytes).map_err(|error| format!("its data is none: {error}"))?;
    if transaction.is_coinbase() {
        return Err("it is a coinbase".to_owned());
    }
    let computed = Hash256(transaction.compute_wtxid().to_byte_array());
    if computed != *wtxid {
        return Err(format!("its hash is {computed}, not {wtxid}"));
    }
    Ok(Known {
        txid: Hash256(transaction.compute_txid().to_byte_array()),
        weight: transaction.weight().to_wu(),
        has_witness: transaction.input.iter().any(|input| !input.witness.is_empty()),
        bytes: bytes.into(),
    })
}

fn version(raw: &RawTemplate<'_>) -> Result<u32, TemplateError> {
    // A version with its highest bit set is negative to consensus, and then too low.
    let version = raw.number("version", raw.version, VERSION_MIN, i32::MAX as u64)? as u32;
    let required = match raw.vbrequired {
        None => 0,
        some => raw.number("vbrequired", some, 0, u64::from(u32::MAX))? as u32,
    };
    match required & VERSION_ROLLED {
        0 => Ok(version | required),
        rolled => Err(TemplateError::Field {
            name: "vbrequired",
            fault: format!("asks for {rolled:08x}, bits that miners roll (BIP320)"),
        }),
    }
}

/// The node's time and the earliest that the network takes.
fn times(raw: &RawTemplate<'_>) -> Result<(u32, u32), TemplateError> {
    let most = u64::from(u32::MAX);
    let curtime = raw.number("curtime", raw.curtime, 1, most)? as u32;
    let mintime = raw.number("mintime", raw.mintime, 1, most)? as u32;
    match mintime <= curtime {
        true => Ok((curtime, mintime)),
        false => Err(TemplateError::Field {
            name: "curtime",
            fault: format!("is {curtime}, before mintime, which is {mintime}"),
        }),
    }
}

/// The values of `coinbaseaux`, byte for byte (BIP22); its keys mean nothing.
fn coinbase_aux(raw: &RawTemplate<'_>) -> Result<Vec<u8>, TemplateError> {
    let name = "coinbaseaux";
    let mut all = Vec::new();
    for text in raw.values(name, raw.coinbaseaux)? {
        let mut bytes = [0; AUX_BYTES_MAX];
        let count = wire::hex::decode_into(&text, &mut bytes).ok();
        let count = count.filter(|count| all.len() + count <= AUX_BYTES_MAX);
        let fault =
            || format!("holds {}, not up to {AUX_BYTES_MAX} bytes of hex", printable(&text));
        let count = count.ok_or_else(|| TemplateError::Field { name, fault: fault() })?;
        all.extend_from_slice(&bytes[..count]);
    }
    Ok(all)
}

impl fmt::Display for TemplateError {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            TemplateError::Form(why) => write!(out, "the template makes no sense: {why}"),
            TemplateError::Field { name, fault } => write!(out, "the template's {name} {fault}"),
            TemplateError::Transaction { index, fault } => {
                write!(out, "the template's transaction {index}: {fault}")
            }
            TemplateError::Signet => {
                out.write_str("the node is on a signet, whose blocks need its owner's signature")
            }
            TemplateError::UnknownRule(rule) => {
                write!(out, "the node follows the rule {rule}, which this version does not know")
            }
            TemplateError::HeightJump { height, tip_height } => {
                write!(out, "the template's height is {height} on a tip of height {tip_height}")
            }
        }
    }
}

impl std::error::Error for TemplateError {}

#[cfg(test)]
mod tests;
