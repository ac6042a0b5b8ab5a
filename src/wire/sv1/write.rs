//! Messages to bytes, appended to the caller's buffer.
//!
//! Nothing here allocates while the buffer's capacity suffices. The forms are those that pools
//! send: `"id":null` present in notifications (some firmware needs it), LF alone, an empty merkle
//! path as `[]`, errors as `[code,"text",null]`, difficulties without exponent.
//! `session` writes answers and `farm` renders jobs with it; [`client`] is the miner's side.

use alloc::vec::Vec;
use core::fmt::{self, Write as _};

use pow::{Difficulty, Hash256};

use super::Id;
use super::server::swap_words;
use crate::hex;

/// The errors of SV1 that have a number.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ErrorCode {
    /// 22: the share was sent before.
    Duplicate,
    /// 23: the hash does not meet the share's target.
    LowDifficulty,
    /// -3: no such method.
    MethodNotFound,
    /// 25: before subscribe.
    NotSubscribed,
    /// 20: anything else.
    Other,
    /// 21: the job is unknown or stale.
    Stale,
    /// 24: the worker is not authorized.
    Unauthorized,
}

impl ErrorCode {
    /// The number on the wire.
    pub const fn number(self) -> i32 {
        match self {
            ErrorCode::MethodNotFound => -3,
            ErrorCode::Other => 20,
            ErrorCode::Stale => 21,
            ErrorCode::Duplicate => 22,
            ErrorCode::LowDifficulty => 23,
            ErrorCode::Unauthorized => 24,
            ErrorCode::NotSubscribed => 25,
        }
    }
}

/// The answer to `mining.configure`. `None` is an extension that was not asked for: some firmware
/// disconnects on a key that it did not ask for.
#[derive(Clone, Copy, Debug, Default)]
pub struct ConfigureReply<'a> {
    /// The granted mask; 0 refuses.
    pub version_rolling: Option<u32>,
    /// Whether the minimum difficulty is honoured.
    pub minimum_difficulty: Option<bool>,
    /// Whether the extranonce may change.
    pub subscribe_extranonce: Option<bool>,
    /// Extensions that are not known, each refused.
    pub unknown: &'a [alloc::borrow::Cow<'a, str>],
}

/// The parts of a `mining.notify`.
#[derive(Clone, Copy, Debug)]
pub struct Notify<'a> {
    /// No character of it needs escaping.
    pub job_id: &'a str,
    /// In internal (header) order.
    pub prev_hash: &'a Hash256,
    /// The coinbase before the extranonces.
    pub coinbase_first: &'a [u8],
    /// The coinbase after the extranonces.
    pub coinbase_second: &'a [u8],
    /// From the coinbase up to the root, in internal order.
    pub merkle_path: &'a [Hash256],
    /// The header's version, its rollable bits clear.
    pub version: u32,
    /// The header's compact target.
    pub bits: u32,
    /// The header's time in seconds.
    pub ntime: u32,
    /// Whether all earlier jobs are to be dropped.
    pub clean: bool,
}

/// Answers a request with `true`.
pub fn result_true(out: &mut Vec<u8>, id: Id<'_>) {
    result(out, id, b"true");
}

/// Answers a request with a text: a version.
pub fn result_text(out: &mut Vec<u8>, id: Id<'_>, text: &str) {
    answer(out, id);
    string(out, text);
    out.extend_from_slice(NO_ERROR);
}

/// Answers `mining.ping`.
pub fn pong(out: &mut Vec<u8>, id: Id<'_>) {
    result(out, id, br#""pong""#);
}

/// Refuses a request.
pub fn error(out: &mut Vec<u8>, id: Id<'_>, code: ErrorCode, text: &str) {
    answer(out, id);
    out.extend_from_slice(br#"null,"error":["#);
    display(out, code.number());
    out.push(b',');
    string(out, text);
    out.extend_from_slice(b",null]}\n");
}

/// Answers `mining.subscribe`. `session_id` goes for both subscriptions.
pub fn subscribe_result(
    out: &mut Vec<u8>,
    id: Id<'_>,
    session_id: &str,
    extranonce1: &[u8],
    extranonce2_size: usize,
) {
    answer(out, id);
    out.extend_from_slice(br#"[[["mining.set_difficulty","#);
    string(out, session_id);
    out.extend_from_slice(br#"],["mining.notify","#);
    string(out, session_id);
    out.extend_from_slice(b"]],\"");
    hex::encode(out, extranonce1);
    out.extend_from_slice(b"\",");
    display(out, extranonce2_size);
    out.push(b']');
    out.extend_from_slice(NO_ERROR);
}

/// Answers `mining.configure`, with the extensions that were asked for and no other key.
pub fn configure_result(out: &mut Vec<u8>, id: Id<'_>, reply: &ConfigureReply<'_>) {
    answer(out, id);
    out.push(b'{');
    let members = out.len();
    if let Some(mask) = reply.version_rolling {
        member(out, members, "version-rolling", mask != 0);
        if mask != 0 {
            out.extend_from_slice(br#","version-rolling.mask":""#);
            hex::encode_u32(out, mask);
            out.push(b'"');
        }
    }
    if let Some(granted) = reply.minimum_difficulty {
        member(out, members, "minimum-difficulty", granted);
    }
    if let Some(granted) = reply.subscribe_extranonce {
        member(out, members, "subscribe-extranonce", granted);
    }
    for name in reply.unknown {
        member(out, members, name, false);
    }
    out.push(b'}');
    out.extend_from_slice(NO_ERROR);
}

/// Announces the difficulty of the next job.
pub fn set_difficulty(out: &mut Vec<u8>, difficulty: Difficulty) {
    out.extend_from_slice(br#"{"id":null,"method":"mining.set_difficulty","params":["#);
    display(out, difficulty);
    out.extend_from_slice(END_OF_PARAMS);
}

/// Announces which bits of the version may be rolled from the next job on.
pub fn set_version_mask(out: &mut Vec<u8>, mask: u32) {
    out.extend_from_slice(br#"{"id":null,"method":"mining.set_version_mask","params":[""#);
    hex::encode_u32(out, mask);
    out.push(b'"');
    out.extend_from_slice(END_OF_PARAMS);
}

/// Announces a job. Reserves the whole line at once.
pub fn notify(out: &mut Vec<u8>, notify: &Notify<'_>) {
    debug_assert!(notify.job_id.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'.'));
    out.reserve(notify_bytes(notify));
    out.extend_from_slice(br#"{"id":null,"method":"mining.notify","params":[""#);
    out.extend_from_slice(notify.job_id.as_bytes());
    out.extend_from_slice(QUOTE_COMMA_QUOTE);
    let mut prev_hash = notify.prev_hash.0;
    swap_words(&mut prev_hash);
    hex::encode(out, &prev_hash);
    out.extend_from_slice(QUOTE_COMMA_QUOTE);
    hex::encode(out, notify.coinbase_first);
    out.extend_from_slice(QUOTE_COMMA_QUOTE);
    hex::encode(out, notify.coinbase_second);
    out.extend_from_slice(b"\",[");
    for (index, node) in notify.merkle_path.iter().enumerate() {
        out.extend_from_slice(if index == 0 { b"\"" } else { b",\"" });
        hex::encode(out, &node.0);
        out.push(b'"');
    }
    out.extend_from_slice(b"],\"");
    hex::encode_u32(out, notify.version);
    out.extend_from_slice(QUOTE_COMMA_QUOTE);
    hex::encode_u32(out, notify.bits);
    out.extend_from_slice(QUOTE_COMMA_QUOTE);
    hex::encode_u32(out, notify.ntime);
    out.extend_from_slice(if notify.clean { b"\",true" } else { b"\",false" });
    out.extend_from_slice(END_OF_PARAMS);
}

/// Asks the miner for a sign of life.
pub fn ping(out: &mut Vec<u8>, id: u64) {
    request(out, id, "mining.ping");
    out.extend_from_slice(END_OF_PARAMS);
}

/// Asks the miner for its firmware's version.
pub fn get_version(out: &mut Vec<u8>, id: u64) {
    request(out, id, "client.get_version");
    out.extend_from_slice(END_OF_PARAMS);
}

/// What a miner sends: for the CPU miner and the load generators.
pub mod client {
    use super::*;

    /// A share to be sent.
    #[derive(Clone, Copy, Debug)]
    pub struct Submit<'a> {
        /// The authorized worker's name.
        pub worker: &'a str,
        /// The job's id as announced.
        pub job_id: &'a str,
        /// Of the size that subscribe's answer gave.
        pub extranonce2: &'a [u8],
        /// The header's time in seconds.
        pub ntime: u32,
        /// The header's nonce.
        pub nonce: u32,
        /// The rolled bits; `None` leaves the sixth parameter out.
        pub version_bits: Option<u32>,
    }

    /// Asks to roll the version under `mask`.
    pub fn configure(out: &mut Vec<u8>, id: u64, mask: u32, min_bit_count: u32) {
        request(out, id, "mining.configure");
        out.extend_from_slice(br#"["version-rolling"],{"version-rolling.mask":""#);
        hex::encode_u32(out, mask);
        out.extend_from_slice(br#"","version-rolling.min-bit-count":"#);
        display(out, min_bit_count);
        out.push(b'}');
        out.extend_from_slice(END_OF_PARAMS);
    }

    /// Subscribes to work, or resumes a session.
    pub fn subscribe(out: &mut Vec<u8>, id: u64, user_agent: &str, session_id: Option<&str>) {
        request(out, id, "mining.subscribe");
        string(out, user_agent);
        if let Some(session_id) = session_id {
            out.push(b',');
            string(out, session_id);
        }
        out.extend_from_slice(END_OF_PARAMS);
    }

    /// Authorizes a worker.
    pub fn authorize(out: &mut Vec<u8>, id: u64, user: &str, password: &str) {
        request(out, id, "mining.authorize");
        string(out, user);
        out.push(b',');
        string(out, password);
        out.extend_from_slice(END_OF_PARAMS);
    }

    /// Suggests a difficulty.
    pub fn suggest_difficulty(out: &mut Vec<u8>, id: u64, difficulty: Difficulty) {
        request(out, id, "mining.suggest_difficulty");
        display(out, difficulty);
        out.extend_from_slice(END_OF_PARAMS);
    }

    /// Sends a share.
    pub fn submit(out: &mut Vec<u8>, id: u64, share: &Submit<'_>) {
        request(out, id, "mining.submit");
        string(out, share.worker);
        out.push(b',');
        string(out, share.job_id);
        out.extend_from_slice(b",\"");
        hex::encode(out, share.extranonce2);
        out.extend_from_slice(QUOTE_COMMA_QUOTE);
        hex::encode_u32(out, share.ntime);
        out.extend_from_slice(QUOTE_COMMA_QUOTE);
        hex::encode_u32(out, share.nonce);
        if let Some(bits) = share.version_bits {
            out.extend_from_slice(QUOTE_COMMA_QUOTE);
            hex::encode_u32(out, bits);
        }
        out.push(b'"');
        out.extend_from_slice(END_OF_PARAMS);
    }
}

const QUOTE_COMMA_QUOTE: &[u8] = b"\",\"";
const END_OF_PARAMS: &[u8] = b"]}\n";
const NO_ERROR: &[u8] = b",\"error\":null}\n";
/// A notify's bytes besides its job id, its halves, its path and its last word.
const NOTIFY_BYTES: usize = 161;
/// A node of the path with its quotes.
const NODE_BYTES: usize = 2 * 32 + 2;

/// The exact length of a notify.
fn notify_bytes(notify: &Notify<'_>) -> usize {
    let halves = notify.coinbase_first.len() + notify.coinbase_second.len();
    let nodes = notify.merkle_path.len();
    let path = nodes * NODE_BYTES + nodes.saturating_sub(1);
    let last = if notify.clean { "true".len() } else { "false".len() };
    NOTIFY_BYTES + notify.job_id.len() + 2 * halves + path + last
}

fn result(out: &mut Vec<u8>, id: Id<'_>, json: &[u8]) {
    answer(out, id);
    out.extend_from_slice(json);
    out.extend_from_slice(NO_ERROR);
}

fn answer(out: &mut Vec<u8>, id: Id<'_>) {
    out.extend_from_slice(b"{\"id\":");
    out.extend_from_slice(id.as_bytes());
    out.extend_from_slice(b",\"result\":");
}

fn request(out: &mut Vec<u8>, id: u64, method: &str) {
    out.extend_from_slice(b"{\"id\":");
    display(out, id);
    out.extend_from_slice(b",\"method\":\"");
    out.extend_from_slice(method.as_bytes());
    out.extend_from_slice(b"\",\"params\":[");
}

/// A boolean member of an object whose members began at `start`.
fn member(out: &mut Vec<u8>, start: usize, name: &str, granted: bool) {
    if out.len() > start {
        out.push(b',');
    }
    string(out, name);
    out.extend_from_slice(if granted { b":true" } else { b":false" });
}

/// A JSON string, escaped where it must be.
fn string(out: &mut Vec<u8>, text: &str) {
    out.push(b'"');
    for byte in text.bytes() {
        match byte {
            b'"' | b'\\' => out.extend_from_slice(&[b'\\', byte]),
            0..b' ' => {
                out.extend_from_slice(b"\\u00");
                hex::encode(out, &[byte]);
            }
            _ => out.push(byte),
        }
    }
    out.push(b'"');
}

fn display(out: &mut Vec<u8>, value: impl fmt::Display) {
    // Appending to a vector cannot fail.
    let _ = write!(Appender(out), "{value}");
}

struct Appender<'a>(&'a mut Vec<u8>);

impl fmt::Write for Appender<'_> {
    fn write_str(&mut self, text: &str) -> fmt::Result {
        self.0.extend_from_slice(text.as_bytes());
        Ok(())
    }
}

#[cfg(test)]
mod tests;
