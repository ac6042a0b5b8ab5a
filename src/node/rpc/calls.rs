//! The questions that this project has for a node, and what it takes from the answers.
//!
//! A node is asked for its features and never for its version: what it cannot do it says.

use std::thread;
use std::time::{Duration, Instant};

use pow::{Hash256, Header, Kernel, Target};
use serde_json::{Value, json};

use super::answer::Answer;
use super::client::{CallLimits, Client, Question};
use super::error::{RpcError, printable};
use crate::payout::Network;

/// `getblockchaininfo`.
#[derive(Clone, Debug, PartialEq)]
pub struct ChainInfo {
    /// The chain in bitcoind's word: main, test, testnet4, signet, regtest, or a stranger's.
    pub chain: String,
    /// Height of the tip.
    pub blocks: u32,
    /// Height of the best header.
    pub headers: u32,
    /// Hash of the tip, in header byte order.
    pub best_hash: Hash256,
    /// Whether the node still loads the chain.
    pub initial_download: bool,
    /// How much of the chain is verified, 0 to 1, by the node's estimate.
    pub progress: f64,
    /// What the node warns of.
    pub warnings: Vec<String>,
}

/// `getnetworkinfo`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NetworkInfo {
    /// The node's number of its version, to be shown and to see a change, never to be decided by.
    pub version: i64,
    /// Its name of itself.
    pub subversion: String,
    /// Peers.
    pub connections: u32,
    /// How far the peers' clocks are ahead of the node's, in seconds.
    pub timeoffset: i64,
    /// What the node warns of.
    pub warnings: Vec<String>,
}

/// `getmempoolinfo`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct MempoolInfo {
    /// Transactions that wait.
    pub size: u64,
    /// Their virtual size in bytes; four times that is their weight.
    pub bytes: u64,
}

/// One line of `getzmqnotifications`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ZmqNotification {
    /// Such as `pubhashblock`.
    pub kind: String,
    /// Where the node publishes it, in ZMQ's writing.
    pub address: String,
}

/// A header as the node's index knows it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct TipHeader {
    /// Its hash, in header byte order; it was computed from the rest.
    pub hash: Hash256,
    /// The hash of the header before it.
    pub prev_hash: Hash256,
    /// Its height.
    pub height: u32,
    /// Blocks on it, itself included; −1 when it is not in the main chain.
    pub confirmations: i64,
    /// Its version.
    pub version: u32,
    /// Its target in compact form.
    pub bits: u32,
    /// Its time, in seconds since 1970.
    pub time: u32,
    /// The median time of it and the ten before it: blocks on it must be later.
    pub median_time: u32,
}

/// What a wait for a tip ended with.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct TipSeen {
    /// The tip, in header byte order.
    pub hash: Hash256,
    /// Whether it is another than the caller knew.
    pub is_new: bool,
}

/// An answer to `getblocktemplate`, yet to be read by a [`super::TemplateReader`].
#[derive(Debug)]
pub struct TemplateAnswer(Answer);

impl TemplateAnswer {
    /// The template as the node wrote it.
    pub fn json(&self) -> &str {
        self.0.result()
    }
}

/// What `waitfornewblock` can do at this node.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Waits {
    /// It takes `current_tip`: no tip is missed.
    FromTip,
    /// It begins at the tip of the moment: one between two calls is missed.
    FromNow,
    /// There is none.
    Never,
}

/// A tip between two calls of an old `waitfornewblock` is seen after this time at the latest.
const BLIND_WAIT_MAX: Duration = Duration::from_secs(1);
/// Where there is none, the tip is looked at so often.
const POLL: Duration = Duration::from_millis(250);
/// bitcoind's code for a hash that it does not know.
const NOT_FOUND: i64 = -5;
/// What is asked of `getblocktemplate`; the rules are those that need a client's word.
const TEMPLATE_REQUEST: &str =
    "\"rules\":[\"segwit\"],\"capabilities\":[\"coinbasevalue\",\"longpoll\",\"proposal\"]";

impl Client {
    /// Which chain the node follows, and how far it is.
    pub fn blockchain_info(&mut self, limits: CallLimits) -> Result<ChainInfo, RpcError> {
        let value = self.call("getblockchaininfo", &json!([]), limits)?;
        let fields = Fields { method: "getblockchaininfo", value: &value };
        Ok(ChainInfo {
            chain: printable(fields.text("chain")?),
            blocks: fields.number("blocks")?,
            headers: fields.number("headers")?,
            best_hash: fields.hash("bestblockhash")?,
            initial_download: fields.field("initialblockdownload", Value::as_bool)?,
            progress: fields.field("verificationprogress", Value::as_f64)?,
            warnings: fields.warnings(),
        })
    }

    /// Who the node is to others.
    pub fn network_info(&mut self, limits: CallLimits) -> Result<NetworkInfo, RpcError> {
        let value = self.call("getnetworkinfo", &json!([]), limits)?;
        let fields = Fields { method: "getnetworkinfo", value: &value };
        Ok(NetworkInfo {
            version: fields.field("version", Value::as_i64)?,
            subversion: printable(fields.text("subversion")?),
            connections: fields.number("connections")?,
            timeoffset: fields.field("timeoffset", Value::as_i64)?,
            warnings: fields.warnings(),
        })
    }

    /// What waits for a block.
    pub fn mempool_info(&mut self, limits: CallLimits) -> Result<MempoolInfo, RpcError> {
        let value = self.call("getmempoolinfo", &json!([]), limits)?;
        let fields = Fields { method: "getmempoolinfo", value: &value };
        let size = fields.field("size", Value::as_u64)?;
        Ok(MempoolInfo { size, bytes: fields.field("bytes", Value::as_u64)? })
    }

    /// What the node publishes over ZMQ; nothing where it was built without.
    pub fn zmq_notifications(
        &mut self,
        limits: CallLimits,
    ) -> Result<Vec<ZmqNotification>, RpcError> {
        const METHOD_NOT_FOUND: i64 = -32601;
        let value = match self.call("getzmqnotifications", &json!([]), limits) {
            Err(RpcError::Rpc { code: METHOD_NOT_FOUND, .. }) => return Ok(Vec::new()),
            other => other?,
        };
        let lines = value.as_array().ok_or_else(|| garbage("getzmqnotifications", "no list"))?;
        lines
            .iter()
            .map(|line| {
                let fields = Fields { method: "getzmqnotifications", value: line };
                let kind = printable(fields.text("type")?);
                Ok(ZmqNotification { kind, address: printable(fields.text("address")?) })
            })
            .collect()
    }

    /// The hash of the node's tip.
    pub fn best_hash(&mut self, limits: CallLimits) -> Result<Hash256, RpcError> {
        let value = self.call("getbestblockhash", &json!([]), limits)?;
        value
            .as_str()
            .and_then(hash_of_text)
            .ok_or_else(|| garbage("getbestblockhash", "the result is no hash"))
    }

    /// A header by its hash; none if the node does not have it.
    pub fn header(
        &mut self,
        hash: &Hash256,
        limits: CallLimits,
    ) -> Result<Option<TipHeader>, RpcError> {
        match self.call("getblockheader", &json!([hash.to_string(), true]), limits) {
            Err(RpcError::Rpc { code: NOT_FOUND, .. }) => Ok(None),
            Err(error) => Err(error),
            Ok(value) => tip_header(&value, hash).map(Some),
        }
    }

    /// How many confirmations a block has, −1 beside the main chain; none if the node does not
    /// have it. What is asked about a block whose submission was not answered.
    pub fn header_of(
        &mut self,
        hash: &Hash256,
        limits: CallLimits,
    ) -> Result<Option<i64>, RpcError> {
        Ok(self.header(hash, limits)?.map(|header| header.confirmations))
    }

    /// The header of the node's tip. A tip that moves away between two questions is asked again.
    pub fn best_header(&mut self, limits: CallLimits) -> Result<TipHeader, RpcError> {
        let hash = self.best_hash(limits)?;
        self.header(&hash, limits)?
            .ok_or_else(|| garbage("getblockheader", "the node does not have its own tip"))
    }

    /// Waits until the tip is another than `known`, at most `patience` long; the node itself ends
    /// the wait, so that none of its threads stays taken.
    pub fn wait_new_block(
        &mut self,
        known: &Hash256,
        patience: Duration,
        limits: CallLimits,
    ) -> Result<TipSeen, RpcError> {
        let result = self.waits(limits).and_then(|waits| match waits {
            Waits::FromTip => self.wait_from(Some(known), patience, limits),
            Waits::FromNow => self.wait_blind(known, patience, limits),
            Waits::Never => self.poll_tip(known, patience, limits),
        });
        match result {
            Ok(hash) => Ok(TipSeen { hash, is_new: hash != *known }),
            Err(error) => {
                // Another node may answer there the next time.
                self.waits = None;
                Err(error)
            }
        }
    }

    /// Whether the node itself ends a wait for a tip, as it moves.
    pub fn can_wait(&mut self, limits: CallLimits) -> Result<bool, RpcError> {
        self.waits(limits).map(|waits| waits != Waits::Never)
    }

    fn waits(&mut self, limits: CallLimits) -> Result<Waits, RpcError> {
        if let Some(waits) = self.waits {
            return Ok(waits);
        }
        let help = self.call("help", &json!(["waitfornewblock"]), limits)?;
        let waits = match help.as_str() {
            Some(text) if text.contains("current_tip") => Waits::FromTip,
            Some(text) if text.starts_with("waitfornewblock") => Waits::FromNow,
            _ => Waits::Never,
        };
        self.waits = Some(waits);
        Ok(waits)
    }

    fn wait_from(
        &mut self,
        known: Option<&Hash256>,
        patience: Duration,
        limits: CallLimits,
    ) -> Result<Hash256, RpcError> {
        // 0 would be for ever.
        let millis = patience.as_millis().clamp(1, u128::from(u32::MAX)) as u64;
        let params = match known {
            Some(known) => json!([millis, known.to_string()]),
            None => json!([millis]),
        };
        let timeout = limits.timeout + patience;
        let value = self.call("waitfornewblock", &params, CallLimits { timeout, ..limits })?;
        Fields { method: "waitfornewblock", value: &value }.hash("hash")
    }

    fn wait_blind(
        &mut self,
        known: &Hash256,
        patience: Duration,
        limits: CallLimits,
    ) -> Result<Hash256, RpcError> {
        let until = Instant::now() + patience;
        loop {
            let hash = self.best_hash(limits)?;
            let left = until.saturating_duration_since(Instant::now());
            if hash != *known || left.is_zero() {
                return Ok(hash);
            }
            let hash = self.wait_from(None, left.min(BLIND_WAIT_MAX), limits)?;
            if hash != *known {
                return Ok(hash);
            }
        }
    }

    fn poll_tip(
        &mut self,
        known: &Hash256,
        patience: Duration,
        limits: CallLimits,
    ) -> Result<Hash256, RpcError> {
        let until = Instant::now() + patience;
        loop {
            let hash = self.best_hash(limits)?;
            let left = until.saturating_duration_since(Instant::now());
            if hash != *known || left.is_zero() {
                return Ok(hash);
            }
            thread::sleep(left.min(POLL));
        }
    }

    /// A template; with the id of an earlier one as soon as a better one is there.
    ///
    /// A long poll that is given up still holds one of the node's RPC threads until its tip or its
    /// mempool changes (bitcoin/bitcoin#10436). So `limits.timeout` of a long poll must be long,
    /// and tips are waited for with [`Client::wait_new_block`], which the node itself ends.
    pub fn template(
        &mut self,
        longpollid: Option<&str>,
        limits: CallLimits,
    ) -> Result<TemplateAnswer, RpcError> {
        let params = match longpollid {
            None => format!("[{{{TEMPLATE_REQUEST}}}]"),
            Some(id) => format!("[{{{TEMPLATE_REQUEST},\"longpollid\":{}}}]", json!(id)),
        };
        self.ask("getblocktemplate", &params, limits).map(TemplateAnswer)
    }

    /// Hands a serialised block over: none if it is the new tip, else BIP22's reason. `sent` is
    /// called once, when the request's first bytes went out.
    ///
    /// # Errors
    /// Nothing is known about the block then: ask with [`Client::header_of`].
    pub fn submit_block(
        &mut self,
        block: &[u8],
        limits: CallLimits,
        sent: &mut dyn FnMut(),
    ) -> Result<Option<String>, RpcError> {
        let method = "submitblock";
        let question = Question { method, before: "[\"", block, after: "\"]" };
        let mut told = false;
        let mut sent = || {
            if !std::mem::replace(&mut told, true) {
                sent();
            }
        };
        reason(method, &self.exchange(&question, limits, &mut sent)?)
    }

    /// Asks whether a serialised block would be valid but for its proof of work: none if so, else
    /// the node's reason.
    pub fn propose(
        &mut self,
        block: &[u8],
        limits: CallLimits,
    ) -> Result<Option<String>, RpcError> {
        let method = "getblocktemplate";
        let before = "[{\"mode\":\"proposal\",\"rules\":[\"segwit\"],\"data\":\"";
        let question = Question { method, before, block, after: "\"}]" };
        reason(method, &self.exchange(&question, limits, &mut || {})?)
    }
}

impl ChainInfo {
    /// The chain as we name it; none if it is a stranger's.
    pub fn network(&self) -> Option<Network> {
        [Network::Main, Network::Test, Network::Testnet4, Network::Signet, Network::Regtest]
            .into_iter()
            .find(|network| network.to_string() == self.chain)
    }
}

/// BIP22's answer: null, or a word.
fn reason(method: &'static str, answer: &Answer) -> Result<Option<String>, RpcError> {
    match serde_json::from_str::<Option<String>>(answer.result()) {
        Ok(reason) => Ok(reason.map(|reason| printable(&reason))),
        Err(error) => Err(garbage(method, &error.to_string())),
    }
}

fn garbage(method: &str, why: &str) -> RpcError {
    RpcError::Garbage(format!("{method}: {why}"))
}

/// A header, which must have the hash that it was asked by, and the work that it claims.
fn tip_header(value: &Value, asked: &Hash256) -> Result<TipHeader, RpcError> {
    let fields = Fields { method: "getblockheader", value };
    // The first block of a chain has none before it.
    let prev_hash = match value["previousblockhash"] {
        Value::Null => Hash256::ZERO,
        _ => fields.hash("previousblockhash")?,
    };
    let bits = fields.text("bits")?;
    let bits = match bits.len() {
        8 => u32::from_str_radix(bits, 16).ok(),
        _ => None,
    };
    let header = Header {
        version: fields.field("version", Value::as_i64)? as u32,
        prev_hash,
        merkle_root: fields.hash("merkleroot")?,
        ntime: fields.number("time")?,
        bits: bits.ok_or_else(|| garbage("getblockheader", "bits are no eight digits"))?,
        nonce: fields.number("nonce")?,
    };
    let target = Target::from_compact(header.bits);
    let hash = header.hash(Kernel::detect());
    if hash != *asked || !target.is_some_and(|target| target.is_met_by(&hash)) {
        return Err(garbage("getblockheader", "the header has not the hash that it was asked by"));
    }
    Ok(TipHeader {
        hash,
        prev_hash,
        height: fields.number("height")?,
        confirmations: fields.field("confirmations", Value::as_i64)?,
        version: header.version,
        bits: header.bits,
        time: header.ntime,
        median_time: fields.number("mediantime")?,
    })
}

/// A hash as bitcoind writes it: the most significant byte first.
pub(super) fn hash_of_text(text: &str) -> Option<Hash256> {
    let mut bytes = [0; 32];
    match wire::hex::decode_into(text, &mut bytes) {
        Ok(32) => {
            bytes.reverse();
            Some(Hash256(bytes))
        }
        _ => None,
    }
}

/// Takes fields out of a small answer, and says which is not what it should be.
struct Fields<'a> {
    method: &'static str,
    value: &'a Value,
}

impl<'a> Fields<'a> {
    fn field<T>(&self, name: &str, take: impl Fn(&'a Value) -> Option<T>) -> Result<T, RpcError> {
        let missing = || garbage(self.method, &format!("{name} is missing or of a wrong type"));
        self.value.get(name).and_then(take).ok_or_else(missing)
    }

    fn text(&self, name: &str) -> Result<&'a str, RpcError> {
        self.field(name, Value::as_str)
    }

    fn number(&self, name: &str) -> Result<u32, RpcError> {
        self.field(name, |value| value.as_u64().and_then(|number| number.try_into().ok()))
    }

    fn hash(&self, name: &str) -> Result<Hash256, RpcError> {
        self.field(name, |value| value.as_str().and_then(hash_of_text))
    }

    /// One text at old nodes, a list at new ones.
    fn warnings(&self) -> Vec<String> {
        let warnings = &self.value["warnings"];
        let list = warnings.as_array().map(Vec::as_slice);
        let texts = list.unwrap_or(std::slice::from_ref(warnings)).iter();
        texts.filter_map(Value::as_str).filter(|text| !text.is_empty()).map(printable).collect()
    }
}
