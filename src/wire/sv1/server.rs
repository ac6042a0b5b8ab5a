//! A server's line, for those who play the miner: the CPU miner and the load generators.
//!
//! Tolerant as firmware is: answers carry their error in any of the forms that pools use.
//! It keeps no state, so that whose answer a result is, is the caller's to know by its id.

use alloc::borrow::Cow;
use alloc::vec::Vec;

use pow::{Hash256, Work, WorkError, WorkParts};

use super::json::{self, Envelope, Value, Values};
use super::message::Reason;
use super::parse::{ParseError, id, line_envelope, line_text};
use super::{ID_BYTES_MAX, Id};
use crate::hex;

/// One line of a server.
#[derive(Clone, Debug, PartialEq)]
pub enum ServerMessage<'a> {
    /// An answer with an error.
    Error {
        /// Of the request.
        id: Id<'a>,
        /// What the server says.
        error: ServerError<'a>,
    },
    /// `client.get_version`, to be answered.
    GetVersion {
        /// To be echoed.
        id: Id<'a>,
    },
    /// A known method with a field that makes no sense.
    Invalid(Reason),
    /// `mining.notify`.
    Notify(ServerNotify<'a>),
    /// `mining.ping`, to be answered.
    Ping {
        /// To be echoed.
        id: Id<'a>,
    },
    /// `client.reconnect`, whatever address it names.
    Reconnect,
    /// An answer without an error.
    Result {
        /// Of the request.
        id: Id<'a>,
        /// The result as raw JSON text: `true`, or for [`subscribed`] and [`granted_mask`].
        result: &'a str,
    },
    /// `mining.set_difficulty`: finite and above zero.
    SetDifficulty(f64),
    /// `mining.set_extranonce`.
    SetExtranonce {
        /// The new first half.
        extranonce1: Vec<u8>,
        /// The new size of the second half in bytes.
        extranonce2_size: usize,
    },
    /// `mining.set_version_mask`.
    SetVersionMask(u32),
    /// Any other method.
    Unknown {
        /// Its name as sent.
        method: Cow<'a, str>,
    },
}

/// The error of an answer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ServerError<'a> {
    /// 0 where the server gave none.
    pub code: i64,
    /// Empty where the server gave none.
    pub text: Cow<'a, str>,
}

/// `mining.notify`, decoded.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ServerNotify<'a> {
    /// To be sent back with a share.
    pub job_id: Cow<'a, str>,
    /// In internal (header) order: the words of the wire are swapped back.
    pub prev_hash: Hash256,
    /// The coinbase before the extranonces.
    pub coinbase_first: Vec<u8>,
    /// The coinbase after the extranonces.
    pub coinbase_second: Vec<u8>,
    /// From the coinbase up to the root, in internal order.
    pub merkle_path: Vec<Hash256>,
    /// The header's version.
    pub version: u32,
    /// The header's compact target.
    pub bits: u32,
    /// The header's time in seconds.
    pub ntime: u32,
    /// Whether all earlier jobs are to be dropped.
    pub clean: bool,
}

impl ServerNotify<'_> {
    /// What a miner with so many bytes of extranonce, both halves together, hashes of it.
    pub fn work(&self, extranonce_size: usize) -> Result<Work, WorkError> {
        Work::new(WorkParts {
            coinbase_first: &self.coinbase_first,
            coinbase_second: &self.coinbase_second,
            extranonce_size,
            merkle_path: &self.merkle_path,
            prev_hash: self.prev_hash,
            bits: self.bits,
        })
    }
}

/// The result of `mining.subscribe`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Subscribed<'a> {
    /// To be sent with a later subscribe, to resume.
    pub session_id: Option<Cow<'a, str>>,
    /// The first half of the extranonce.
    pub extranonce1: Vec<u8>,
    /// The size of the second half in bytes.
    pub extranonce2_size: usize,
}

/// A merkle path is as long as the block's transactions are deep; no block holds 2^32 of them.
pub const MERKLE_PATH_MAX: usize = 32;

/// Reads one line of a server, without its end.
pub fn parse_server(line: &[u8]) -> Result<ServerMessage<'_>, ParseError> {
    let line = line_text(line)?;
    if let Some(message) = plain_true(line) {
        return Ok(message);
    }
    let envelope = line_envelope(line)?;
    Ok(match id(envelope.id) {
        Ok(id) => message(&envelope, id).unwrap_or_else(ServerMessage::Invalid),
        Err(reason) => ServerMessage::Invalid(reason),
    })
}

/// Reads the result of `mining.subscribe`.
pub fn subscribed(result: &str) -> Option<Subscribed<'_>> {
    let mut fields = Values::of(Some(result));
    let Value::Nested(subscriptions) = fields.take(0) else { return None };
    let (Value::Text(extranonce1), size) = (fields.take(1), fields.take(2)) else { return None };
    // Pools list one subscription or several, or just the pair of one.
    let [first, second] = json::elements(subscriptions);
    let session_id = match Value::of(first.unwrap_or("null")) {
        Value::Nested(pair) => json::elements::<2>(pair)[1],
        _ => second,
    };
    Some(Subscribed {
        session_id: match Value::of(session_id.unwrap_or("null")) {
            Value::Text(text) => Some(text),
            _ => None,
        },
        extranonce1: bytes(&extranonce1)?,
        extranonce2_size: integer(&size)?,
    })
}

/// Reads which version bits the result of `mining.configure` grants; `None` where it grants none.
pub fn granted_mask(result: &str) -> Option<u32> {
    let (mut granted, mut mask) = (false, None);
    json::each_member(result, |key, raw| match (key, Value::of(raw)) {
        ("version-rolling", value) => granted = value == Value::Bool(true),
        ("version-rolling.mask", Value::Text(text)) => mask = hex::u32_left_padded(&text),
        _ => {}
    })
    .ok()?;
    mask.filter(|_| granted)
}

/// The answer to most shares, in the very form that [`super::write::result_true`] gives it: a load
/// generator reads millions of them.
fn plain_true(line: &str) -> Option<ServerMessage<'_>> {
    let raw = line.strip_prefix(r#"{"id":"#)?.strip_suffix(r#","result":true,"error":null}"#)?;
    let plain = !raw.is_empty() && raw.len() <= ID_BYTES_MAX && !raw.starts_with('0');
    (plain && raw.bytes().all(|byte| byte.is_ascii_digit()))
        .then(|| ServerMessage::Result { id: Id::from_raw(raw), result: "true" })
}

fn message<'a>(envelope: &Envelope<'a>, id: Id<'a>) -> Result<ServerMessage<'a>, Reason> {
    let method = match Value::of(envelope.method.unwrap_or("null")) {
        Value::Text(method) => method,
        Value::Absent => return answer(envelope, id),
        _ => return Err(Reason::WrongType("method")),
    };
    let mut params = Values::of(envelope.params);
    Ok(match &*method {
        "mining.notify" => {
            ServerMessage::Notify(notify(&mut params).ok_or(Reason::BadValue("notify"))?)
        }
        "mining.set_difficulty" => {
            let difficulty = params.take(0).number().filter(|number| *number > 0.0);
            ServerMessage::SetDifficulty(difficulty.ok_or(Reason::BadValue("difficulty"))?)
        }
        "mining.set_version_mask" => {
            let mask = number_u32(&params.take(0));
            ServerMessage::SetVersionMask(mask.ok_or(Reason::BadValue("version mask"))?)
        }
        "mining.set_extranonce" => {
            let (extranonce1, size) = (blob(&params.take(0)), integer(&params.take(1)));
            let (Some(extranonce1), Some(extranonce2_size)) = (extranonce1, size) else {
                return Err(Reason::BadValue("extranonce"));
            };
            ServerMessage::SetExtranonce { extranonce1, extranonce2_size }
        }
        "mining.ping" => ServerMessage::Ping { id },
        "client.get_version" => ServerMessage::GetVersion { id },
        "client.reconnect" => ServerMessage::Reconnect,
        _ => ServerMessage::Unknown { method },
    })
}

fn answer<'a>(envelope: &Envelope<'a>, id: Id<'a>) -> Result<ServerMessage<'a>, Reason> {
    if envelope.result.is_none() && envelope.error.is_none() {
        return Err(Reason::Missing("method"));
    }
    let error = match Value::of(envelope.error.unwrap_or("null")) {
        Value::Absent => match Value::of(envelope.reject_reason.unwrap_or("null")) {
            Value::Text(text) => ServerError { code: 0, text },
            _ => {
                return Ok(ServerMessage::Result { id, result: envelope.result.unwrap_or("null") });
            }
        },
        Value::Text(text) => ServerError { code: 0, text },
        Value::Nested(raw) => nested_error(raw),
        _ => ServerError { code: 0, text: Cow::Borrowed(envelope.error.unwrap_or("")) },
    };
    Ok(ServerMessage::Error { id, error })
}

/// `[code, "text", …]` or `{"code": …, "message": …}`.
fn nested_error(raw: &str) -> ServerError<'_> {
    let [mut code, mut text] = [None; 2];
    if raw.starts_with('[') {
        [code, text] = json::elements(raw);
    } else {
        // The raw text comes from a parsed line: an object that reads.
        let _ = json::each_member(raw, |key, raw| match key {
            "code" => code = Some(raw),
            "message" => text = Some(raw),
            _ => {}
        });
    }
    ServerError {
        code: match Value::of(code.unwrap_or("null")) {
            Value::Number(raw) => raw.parse().unwrap_or(0),
            _ => 0,
        },
        text: match Value::of(text.unwrap_or("null")) {
            Value::Text(text) => text,
            _ => Cow::Borrowed(""),
        },
    }
}

fn notify<'a>(params: &mut Values<'a>) -> Option<ServerNotify<'a>> {
    let Value::Text(job_id) = params.take(0) else { return None };
    let Value::Text(prev_hash) = params.take(1) else { return None };
    let (first, second) = (params.take(2), params.take(3));
    let path = match params.take(4) {
        Value::Nested(raw) if raw.starts_with('[') => raw,
        Value::Absent => "[]",
        _ => return None,
    };
    let mut swapped = hash(&prev_hash)?;
    swap_words(&mut swapped);
    Some(ServerNotify {
        job_id,
        prev_hash: Hash256(swapped),
        coinbase_first: blob(&first)?,
        coinbase_second: blob(&second)?,
        merkle_path: merkle_path(path)?,
        version: number_u32(&params.take(5))?,
        bits: number_u32(&params.take(6))?,
        ntime: number_u32(&params.take(7))?,
        clean: params.take(8) == Value::Bool(true),
    })
}

fn merkle_path(raw: &str) -> Option<Vec<Hash256>> {
    let (mut path, mut good) = (Vec::new(), true);
    json::each_element(raw, |element| {
        let node = match Value::of(element) {
            Value::Text(text) => hash(&text),
            _ => None,
        };
        good = path.len() < MERKLE_PATH_MAX && node.map(|node| path.push(Hash256(node))).is_some();
        good
    });
    good.then_some(path)
}

/// Reverses the bytes of each four-byte word: SV1's order of the previous hash, both ways.
pub(super) fn swap_words(hash: &mut [u8; 32]) {
    for word in hash.as_chunks_mut::<4>().0 {
        word.reverse();
    }
}

fn hash(text: &str) -> Option<[u8; 32]> {
    let mut hash = [0; 32];
    (hex::decode_into(text, &mut hash) == Ok(hash.len())).then_some(hash)
}

fn blob(value: &Value<'_>) -> Option<Vec<u8>> {
    match value {
        Value::Text(text) => bytes(text),
        _ => None,
    }
}

fn bytes(text: &str) -> Option<Vec<u8>> {
    let mut bytes = alloc::vec![0; text.len() / 2];
    hex::decode_into(text, &mut bytes).ok()?;
    Some(bytes)
}

fn number_u32(value: &Value<'_>) -> Option<u32> {
    match value {
        Value::Text(text) => hex::u32_left_padded(text),
        _ => None,
    }
}

fn integer(value: &Value<'_>) -> Option<usize> {
    match value {
        Value::Number(raw) => raw.parse().ok(),
        _ => None,
    }
}

#[cfg(test)]
mod tests;
