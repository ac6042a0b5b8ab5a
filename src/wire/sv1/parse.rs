//! A miner's line to a typed request.
//!
//! `mining.submit` in its usual form goes through `super::scan`; every other line, and every
//! submit that the scanner does not understand, goes through `serde_json`. Both give the same
//! message (the differential test at the bottom). A request with a bad field is a
//! [`Request::Invalid`] to be answered; only a line that is no JSON object is an error here.

use alloc::borrow::Cow;
use core::fmt;

use super::json::{self, Envelope, Value, Values};
use super::message::{EXTENSION_NAME_BYTES_MAX, EXTENSIONS_UNKNOWN_MAX};
use super::scan;
use super::{
    Configure, ID_BYTES_MAX, Id, LINE_BYTES_MAX, Message, MinimumDifficulty, Reason, Reply,
    Request, Submit, Subscribe, VersionRolling,
};
use crate::hex;

/// Why a line is no message at all. The fault is the peer's; the session decides what follows.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ParseError {
    /// No JSON object: broken JSON, another value, or bytes after the object.
    NotAnObject {
        /// Where it went wrong, in bytes from 1; 0 where the line ended too early.
        column: usize,
    },
    /// Not UTF-8.
    NotText,
    /// Longer than [`LINE_BYTES_MAX`].
    TooLong,
}

impl fmt::Display for ParseError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            ParseError::NotAnObject { column } => {
                write!(f, "not a JSON object (at column {column})")
            }
            ParseError::NotText => f.write_str("not UTF-8 text"),
            ParseError::TooLong => write!(f, "longer than {LINE_BYTES_MAX} bytes"),
        }
    }
}

impl core::error::Error for ParseError {}

/// Reads one line of a miner, without its end. Allocates only for escapes and extensions.
pub fn parse(line: &[u8]) -> Result<Message<'_>, ParseError> {
    let line = line_text(line)?;
    match scan::submit(line) {
        Some(message) => Ok(message),
        None => parse_json(line),
    }
}

/// Checks a line's length and that it is text.
pub(super) fn line_text(line: &[u8]) -> Result<&str, ParseError> {
    if line.len() > LINE_BYTES_MAX {
        return Err(ParseError::TooLong);
    }
    core::str::from_utf8(line).map_err(|_| ParseError::NotText)
}

/// Reads a line's fields, whoever sent it.
pub(super) fn line_envelope(line: &str) -> Result<Envelope<'_>, ParseError> {
    json::envelope(line).map_err(|error| ParseError::NotAnObject { column: error.column() })
}

/// The general way: any JSON.
fn parse_json(line: &str) -> Result<Message<'_>, ParseError> {
    let envelope = line_envelope(line)?;
    let (id, request) = match id(envelope.id) {
        Ok(id) => (id, request(&envelope)),
        // JSON-RPC: where the id cannot be told, the answer's is null.
        Err(reason) => (Id::NULL, Err(reason)),
    };
    let invalid = |reason| match method(&envelope) {
        Value::Text(method) if method == SUBMIT => Request::InvalidSubmit(reason),
        _ => Request::Invalid(reason),
    };
    Ok(Message { id, request: request.unwrap_or_else(invalid) })
}

/// The id that an answer echoes.
pub(super) fn id(raw: Option<&str>) -> Result<Id<'_>, Reason> {
    let Some(raw) = raw else { return Ok(Id::NULL) };
    match raw.as_bytes() {
        [b'[' | b'{' | b't' | b'f', ..] => Err(Reason::WrongType("id")),
        _ if raw.len() > ID_BYTES_MAX => Err(Reason::BadValue("id")),
        _ => Ok(Id::from_raw(raw)),
    }
}

fn method<'a>(envelope: &Envelope<'a>) -> Value<'a> {
    Value::of(envelope.method.unwrap_or("null"))
}

fn request<'a>(envelope: &Envelope<'a>) -> Result<Request<'a>, Reason> {
    let method = match method(envelope) {
        Value::Text(method) => method,
        Value::Absent => return response(envelope),
        _ => return Err(Reason::WrongType("method")),
    };
    let mut params = Values::of(envelope.params);
    Ok(match &*method {
        SUBMIT => Request::Submit(submit(&mut params)?),
        "mining.subscribe" => Request::Subscribe(Subscribe {
            user_agent: optional_text(params.take(0), "user agent")?,
            // What is no text is no id of ours, like any other unknown one.
            session_id: optional_text(params.take(1), "session id").ok().flatten(),
        }),
        "mining.authorize" => Request::Authorize {
            user: required_text(params.take(0), "worker name")?,
            password: scalar_text(params.take(1), "password")?,
        },
        "mining.configure" => Request::Configure(configure(&mut params)?),
        "mining.suggest_difficulty" => {
            Request::SuggestDifficulty(difficulty(&params.take(0), "difficulty")?)
        }
        "mining.suggest_target" => Request::SuggestTarget(target(&params.take(0))?),
        "mining.extranonce.subscribe" => Request::ExtranonceSubscribe,
        "mining.ping" => Request::Ping,
        "client.get_version" => Request::GetVersion,
        // ESP-Miner answers our ping with a request of this name.
        "pong" | "mining.pong" => Request::Response(Reply::Text(Cow::Borrowed("pong"))),
        other => match suggestion_in_name(other) {
            Some(number) => Request::SuggestDifficulty(difficulty(&number, "difficulty")?),
            None => Request::Unknown { method },
        },
    })
}

/// A line without a method is an answer, if it has anything of one.
fn response<'a>(envelope: &Envelope<'a>) -> Result<Request<'a>, Reason> {
    if envelope.result.is_none() && envelope.error.is_none() {
        return Err(Reason::Missing("method"));
    }
    if !matches!(Value::of(envelope.error.unwrap_or("null")), Value::Absent) {
        return Ok(Request::Response(Reply::Failed));
    }
    let result = envelope.result.unwrap_or("null");
    Ok(Request::Response(match Value::of(result) {
        Value::Absent => Reply::Failed,
        Value::Text(text) => Reply::Text(text),
        _ => Reply::Other(result),
    }))
}

fn submit<'a>(params: &mut Values<'a>) -> Result<Submit<'a>, Reason> {
    Ok(Submit {
        worker: required_text(params.take(0), "worker name")?,
        job_id: required_text(params.take(1), "job id")?,
        extranonce2: required_text(params.take(2), "extranonce2")?,
        ntime: required_text(params.take(3), "ntime")?,
        nonce: required_text(params.take(4), "nonce")?,
        version_bits: optional_text(params.take(5), "version bits")?,
    })
}

/// The number of `mining.suggest_difficulty(512)`.
fn suggestion_in_name(method: &str) -> Option<Value<'_>> {
    let number = method.strip_prefix("mining.suggest_difficulty(")?.strip_suffix(')')?;
    Some(Value::Text(Cow::Borrowed(number)))
}

fn configure<'a>(params: &mut Values<'a>) -> Result<Configure<'a>, Reason> {
    let names = match params.take(0) {
        Value::Nested(raw) if raw.starts_with('[') => raw,
        Value::Text(name) => return Ok(configure_one(name)),
        Value::Absent => "[]",
        _ => return Err(Reason::WrongType("extensions")),
    };
    let options = match params.take(1) {
        Value::Nested(raw) if raw.starts_with('{') => options(raw)?,
        Value::Nested("[]") | Value::Absent => Options::default(),
        _ => return Err(Reason::WrongType("extension options")),
    };
    let mut configure = Configure::default();
    let mut wrong = false;
    json::each_element(names, |raw| {
        match Value::of(raw) {
            Value::Text(name) => ask(&mut configure, name, &options),
            _ => wrong = true,
        }
        !wrong
    });
    if wrong { Err(Reason::WrongType("extensions")) } else { Ok(configure) }
}

/// A lone name where the array should be.
fn configure_one(name: Cow<'_, str>) -> Configure<'_> {
    let mut configure = Configure::default();
    ask(&mut configure, name, &Options::default());
    configure
}

fn ask<'a>(configure: &mut Configure<'a>, name: Cow<'a, str>, options: &Options) {
    let unknown = &mut configure.unknown;
    match &*name {
        "version-rolling" => {
            let mask = options.mask.unwrap_or(u32::MAX);
            let rolling = VersionRolling { mask, min_bit_count: options.min_bit_count };
            configure.version_rolling = Some(rolling);
        }
        "minimum-difficulty" => {
            let value = options.minimum_difficulty;
            configure.minimum_difficulty = Some(MinimumDifficulty { value });
        }
        "subscribe-extranonce" => configure.subscribe_extranonce = true,
        other => {
            let room = unknown.len() < EXTENSIONS_UNKNOWN_MAX;
            if room && other.len() <= EXTENSION_NAME_BYTES_MAX && !unknown.contains(&name) {
                unknown.push(name);
            }
        }
    }
}

#[derive(Default)]
struct Options {
    mask: Option<u32>,
    min_bit_count: Option<u32>,
    minimum_difficulty: Option<f64>,
}

fn options(raw: &str) -> Result<Options, Reason> {
    let mut options = Options::default();
    let mut outcome = Ok(());
    let read = json::each_member(raw, |key, raw| {
        if outcome.is_ok() {
            outcome = option(&mut options, key, Value::of(raw));
        }
    });
    if read.is_err() {
        return Err(Reason::WrongType("extension options"));
    }
    outcome.map(|()| options)
}

/// A duplicate key overwrites what an earlier one said, also with null.
fn option(options: &mut Options, key: &str, value: Value<'_>) -> Result<(), Reason> {
    const MASK: &str = "version-rolling.mask";
    const MIN_BIT_COUNT: &str = "version-rolling.min-bit-count";
    const MINIMUM_DIFFICULTY: &str = "minimum-difficulty.value";
    match key {
        MASK => {
            options.mask = match optional_text(value, MASK)? {
                None => None,
                Some(text) => {
                    let digits = without_0x(text.trim());
                    Some(hex::u32_left_padded(digits).ok_or(Reason::BadValue(MASK))?)
                }
            };
        }
        // Hints that decide nothing: one that cannot be read is as good as none.
        MIN_BIT_COUNT => options.min_bit_count = bit_count(&value),
        MINIMUM_DIFFICULTY => {
            options.minimum_difficulty = value.number().filter(|number| *number > 0.0);
        }
        _ => {}
    }
    Ok(())
}

/// A small whole number, or a string with one in it.
fn bit_count(value: &Value<'_>) -> Option<u32> {
    match value {
        Value::Number(text) => text.parse().ok(),
        Value::Text(text) => text.trim().parse().ok(),
        _ => None,
    }
}

/// A number or a string with a number in it: finite and above zero.
fn difficulty(value: &Value<'_>, field: &'static str) -> Result<f64, Reason> {
    match value {
        Value::Absent => Err(Reason::Missing(field)),
        Value::Number(_) | Value::Text(_) => {
            value.number().filter(|number| *number > 0.0).ok_or(Reason::BadValue(field))
        }
        _ => Err(Reason::WrongType(field)),
    }
}

/// Up to 64 digits, the most significant first, as a 256-bit number above zero.
fn target(value: &Value<'_>) -> Result<[u8; 32], Reason> {
    const FIELD: &str = "target";
    let text = match value {
        Value::Text(text) => without_0x(text.trim()),
        Value::Absent => return Err(Reason::Missing(FIELD)),
        _ => return Err(Reason::WrongType(FIELD)),
    };
    let mut padded = *b"0000000000000000000000000000000000000000000000000000000000000000";
    let lead = padded.len().checked_sub(text.len()).ok_or(Reason::BadValue(FIELD))?;
    padded[lead..].copy_from_slice(text.as_bytes());
    let padded = core::str::from_utf8(&padded).map_err(|_| Reason::BadValue(FIELD))?;
    let mut target = [0; 32];
    hex::decode_into(padded, &mut target).map_err(|_| Reason::BadValue(FIELD))?;
    if target == [0; 32] { Err(Reason::BadValue(FIELD)) } else { Ok(target) }
}

fn without_0x(text: &str) -> &str {
    text.strip_prefix("0x").or_else(|| text.strip_prefix("0X")).unwrap_or(text)
}

fn required_text<'a>(value: Value<'a>, field: &'static str) -> Result<Cow<'a, str>, Reason> {
    optional_text(value, field)?.ok_or(Reason::Missing(field))
}

fn optional_text<'a>(
    value: Value<'a>,
    field: &'static str,
) -> Result<Option<Cow<'a, str>>, Reason> {
    match value {
        Value::Absent => Ok(None),
        Value::Text(text) => Ok(Some(text)),
        Value::BadText => Err(Reason::BadValue(field)),
        _ => Err(Reason::WrongType(field)),
    }
}

fn scalar_text<'a>(value: Value<'a>, field: &'static str) -> Result<Option<Cow<'a, str>>, Reason> {
    match value {
        Value::Bool(true) => Ok(Some(Cow::Borrowed("true"))),
        Value::Bool(false) => Ok(Some(Cow::Borrowed("false"))),
        Value::Number(raw) => Ok(Some(Cow::Borrowed(raw))),
        other => optional_text(other, field),
    }
}

const SUBMIT: &str = "mining.submit";

#[cfg(test)]
mod tests;
