//! The part of ZMTP 3.0 that a subscriber to bitcoind's `hashblock` needs: no encryption (the
//! mechanism NULL, the only one that bitcoind has), one subscription, small frames.
//!
//! ```text
//! us                                  bitcoind (PUB)
//! greeting, 64 bytes            ──►
//!                               ◄──   greeting
//! READY, Socket-Type SUB        ──►
//!                               ◄──   READY, Socket-Type PUB
//! 0x01 "hashblock"              ──►
//!                               ◄──   "hashblock" · 32 bytes of hash · 4 bytes of count
//! ```
//! Ours, because that is all of it: the crates for ZeroMQ bring an async runtime or libzmq, and
//! either is larger than the rest of this crate's network code. The header of a block is asked of
//! the node by RPC; whoever can write to this socket can at most make us ask.
//!
//! Sans-IO: [`Subscriber`] takes bytes in and gives bytes and hashes out. `tip_thread` owns the
//! socket.

use std::fmt;

use pow::Hash256;

/// Bytes of a greeting: signature, version, mechanism, role, filler.
const GREETING_BYTES: usize = 64;
/// A frame longer than that is not of this conversation: READY has about 30 bytes, a hash 32.
const FRAME_BYTES_MAX: u64 = 1_024;
/// Parts of one message: topic, hash, count; some publishers add one.
const PARTS_MAX: usize = 8;
/// The topic, which is also the subscription.
const TOPIC: &[u8] = b"hashblock";

/// More parts follow.
const FLAG_MORE: u8 = 0x01;
/// The size has eight bytes instead of one.
const FLAG_LONG: u8 = 0x02;
/// The frame is a command.
const FLAG_COMMAND: u8 = 0x04;

/// Why the other side is not what was configured.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ZmtpError {
    /// It does not begin with ZMTP's signature.
    NotZmtp,
    /// Its version is older than 3.
    Version(u8),
    /// It wants another security mechanism than NULL.
    Mechanism,
    /// It is no publisher.
    NotAPublisher,
    /// It refused with an ERROR command.
    Refused,
    /// A frame or message is larger than any of this conversation.
    TooLarge,
    /// A command or message that is cut off inside.
    Malformed,
}

impl fmt::Display for ZmtpError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            ZmtpError::NotZmtp => f.write_str("it does not speak ZMTP"),
            ZmtpError::Version(version) => write!(f, "it speaks ZMTP {version}, 3 is needed"),
            ZmtpError::Mechanism => f.write_str("it asks for a security mechanism"),
            ZmtpError::NotAPublisher => f.write_str("it is no publisher"),
            ZmtpError::Refused => f.write_str("it refused the connection"),
            ZmtpError::TooLarge => f.write_str("it sends more than a publisher of hashes would"),
            ZmtpError::Malformed => f.write_str("it sends a malformed message"),
        }
    }
}

impl std::error::Error for ZmtpError {}

/// One connection to a publisher.
pub struct Subscriber {
    stage: Stage,
    received: Vec<u8>,
    to_send: Vec<u8>,
    parts: Vec<Vec<u8>>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Stage {
    ExpectGreeting,
    ExpectReady,
    Subscribed,
}

struct Frame {
    flags: u8,
    body: Vec<u8>,
}

impl Default for Subscriber {
    fn default() -> Subscriber {
        Subscriber::new()
    }
}

impl Subscriber {
    /// A fresh connection; its greeting waits to be sent.
    pub fn new() -> Subscriber {
        Subscriber {
            stage: Stage::ExpectGreeting,
            received: Vec::new(),
            to_send: greeting(),
            parts: Vec::new(),
        }
    }

    /// Bytes to send now; empty when there are none.
    pub fn take_to_send(&mut self) -> Vec<u8> {
        std::mem::take(&mut self.to_send)
    }

    /// Whether the subscription is on its way.
    pub fn is_subscribed(&self) -> bool {
        self.stage == Stage::Subscribed
    }

    /// Takes bytes in, cut anywhere; tells the newest hash among them, in header byte order.
    ///
    /// # Errors
    /// The other side is not a publisher of hashes: close the connection.
    pub fn receive(&mut self, bytes: &[u8]) -> Result<Option<Hash256>, ZmtpError> {
        self.received.extend_from_slice(bytes);
        let mut newest = None;
        if self.stage == Stage::ExpectGreeting && !self.take_greeting()? {
            return Ok(None);
        }
        while let Some(frame) = self.take_frame()? {
            if frame.flags & FLAG_COMMAND != 0 {
                self.obey(&frame.body)?;
            } else if self.stage != Stage::Subscribed {
                return Err(ZmtpError::Malformed);
            } else if let Some(hash) = self.take_part(frame)? {
                newest = Some(hash);
            }
        }
        Ok(newest)
    }

    fn take_greeting(&mut self) -> Result<bool, ZmtpError> {
        let at = |index: usize| self.received.get(index).copied();
        if at(0).is_some_and(|byte| byte != 0xff) || at(9).is_some_and(|byte| byte & 1 == 0) {
            return Err(ZmtpError::NotZmtp);
        }
        if let Some(version) = at(10).filter(|version| *version < 3) {
            return Err(ZmtpError::Version(version));
        }
        if self.received.len() < GREETING_BYTES {
            return Ok(false);
        }
        let mechanism = &self.received[12..32];
        if &mechanism[..4] != b"NULL" || mechanism[4..].iter().any(|byte| *byte != 0) {
            return Err(ZmtpError::Mechanism);
        }
        self.received.drain(..GREETING_BYTES);
        self.stage = Stage::ExpectReady;
        push_frame(&mut self.to_send, FLAG_COMMAND, &[b"\x05READY", &socket_type("SUB")[..]]);
        Ok(true)
    }

    fn take_frame(&mut self) -> Result<Option<Frame>, ZmtpError> {
        let Some((flags, rest)) = self.received.split_first() else { return Ok(None) };
        let (flags, size_bytes) = (*flags, if flags & FLAG_LONG == 0 { 1 } else { 8 });
        let Some(size) = rest.get(..size_bytes) else { return Ok(None) };
        let size = size.iter().fold(0_u64, |size, byte| (size << 8) | u64::from(*byte));
        if size > FRAME_BYTES_MAX {
            return Err(ZmtpError::TooLarge);
        }
        let body = 1 + size_bytes..1 + size_bytes + size as usize;
        let Some(bytes) = self.received.get(body.clone()) else { return Ok(None) };
        let frame = Frame { flags, body: bytes.to_vec() };
        self.received.drain(..body.end);
        Ok(Some(frame))
    }

    fn obey(&mut self, command: &[u8]) -> Result<(), ZmtpError> {
        let (length, rest) = command.split_first().ok_or(ZmtpError::Malformed)?;
        let length = usize::from(*length);
        let name = rest.get(..length).ok_or(ZmtpError::Malformed)?;
        let data = &rest[length..];
        match name {
            b"READY" if self.stage == Stage::ExpectReady => {
                let kind = property(data, b"Socket-Type")?;
                if !matches!(kind, Some(b"PUB" | b"XPUB")) {
                    return Err(ZmtpError::NotAPublisher);
                }
                self.stage = Stage::Subscribed;
                push_frame(&mut self.to_send, 0, &[&[1], TOPIC]);
                Ok(())
            }
            b"ERROR" => Err(ZmtpError::Refused),
            // A PING carries two bytes of time to live and a context, which the PONG repeats.
            b"PING" => {
                let context = data.get(2..).ok_or(ZmtpError::Malformed)?;
                push_frame(&mut self.to_send, FLAG_COMMAND, &[b"\x04PONG", context]);
                Ok(())
            }
            _ => Ok(()),
        }
    }

    /// A message's hash, once its last part is there.
    fn take_part(&mut self, frame: Frame) -> Result<Option<Hash256>, ZmtpError> {
        if self.parts.len() == PARTS_MAX {
            return Err(ZmtpError::TooLarge);
        }
        self.parts.push(frame.body);
        if frame.flags & FLAG_MORE != 0 {
            return Ok(None);
        }
        let parts = std::mem::take(&mut self.parts);
        match parts.as_slice() {
            [topic, hash, ..] if topic == TOPIC => {
                let mut hash: [u8; 32] =
                    hash.as_slice().try_into().map_err(|_| ZmtpError::Malformed)?;
                // bitcoind sends it as people read it, most significant byte first.
                hash.reverse();
                Ok(Some(Hash256(hash)))
            }
            _ => Ok(None),
        }
    }
}

fn greeting() -> Vec<u8> {
    let mut bytes = vec![0; GREETING_BYTES];
    bytes[0] = 0xff;
    bytes[9] = 0x7f;
    // 3.0, so that the subscription travels as a message, which every publisher understands.
    bytes[10] = 3;
    bytes[12..16].copy_from_slice(b"NULL");
    bytes
}

fn socket_type(kind: &str) -> Vec<u8> {
    let mut bytes = b"\x0bSocket-Type".to_vec();
    bytes.extend_from_slice(&(kind.len() as u32).to_be_bytes());
    bytes.extend_from_slice(kind.as_bytes());
    bytes
}

/// Our frames are short: their size has one byte.
fn push_frame(out: &mut Vec<u8>, flags: u8, parts: &[&[u8]]) {
    let size: usize = parts.iter().map(|part| part.len()).sum();
    if let Ok(size) = u8::try_from(size) {
        out.extend_from_slice(&[flags, size]);
    } else {
        out.push(flags | FLAG_LONG);
        out.extend_from_slice(&(size as u64).to_be_bytes());
    }
    parts.iter().for_each(|part| out.extend_from_slice(part));
}

/// The value of one property in a READY's metadata; names are compared without regard to case.
fn property<'a>(mut data: &'a [u8], wanted: &[u8]) -> Result<Option<&'a [u8]>, ZmtpError> {
    while let Some((length, rest)) = data.split_first() {
        let cut = ZmtpError::Malformed;
        let (name, rest) = rest.split_at_checked(usize::from(*length)).ok_or(cut)?;
        let (size, rest) = rest.split_at_checked(4).ok_or(cut)?;
        let size = size.iter().fold(0_usize, |size, byte| (size << 8) | usize::from(*byte));
        let (value, rest) = rest.split_at_checked(size).ok_or(cut)?;
        if name.eq_ignore_ascii_case(wanted) {
            return Ok(Some(value));
        }
        data = rest;
    }
    Ok(None)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// What a PUB socket of libzmq 4.3 sends: greeting 3.1 and READY with an empty identity left
    /// out, then messages.
    fn publisher(messages: &[[u8; 32]]) -> Vec<u8> {
        let mut bytes = vec![0; GREETING_BYTES];
        (bytes[0], bytes[9], bytes[10], bytes[11]) = (0xff, 0x7f, 3, 1);
        bytes[12..16].copy_from_slice(b"NULL");
        push_frame(&mut bytes, FLAG_COMMAND, &[b"\x05READY", &socket_type("PUB")]);
        for (count, hash) in messages.iter().enumerate() {
            push_frame(&mut bytes, FLAG_MORE, &[TOPIC]);
            push_frame(&mut bytes, FLAG_MORE, &[hash]);
            push_frame(&mut bytes, 0, &[&(count as u32).to_le_bytes()]);
        }
        bytes
    }

    fn hash(first: u8) -> [u8; 32] {
        let mut hash = [0; 32];
        hash[0] = first;
        hash
    }

    #[test]
    fn a_conversation_cut_anywhere_brings_every_hash() {
        let bytes = publisher(&[hash(1), hash(2)]);
        for cut in 1..bytes.len() {
            let mut subscriber = Subscriber::new();
            let mut sent = subscriber.take_to_send();
            let mut heard = Vec::new();
            for part in [&bytes[..cut], &bytes[cut..]] {
                heard.extend(subscriber.receive(part).expect("a good publisher"));
                sent.extend(subscriber.take_to_send());
            }
            assert!(subscriber.is_subscribed());
            // As people read it the hash begins with its most significant byte.
            assert_eq!(heard.last().map(|hash| hash.0[31]), Some(2), "cut at {cut}");
            assert!(sent.ends_with(b"\x00\x0a\x01hashblock"));
            assert_eq!(&sent[64..72], b"\x04\x19\x05READY");
        }
    }

    #[test]
    fn of_many_hashes_at_once_the_newest_counts() {
        let hashes: Vec<[u8; 32]> = (0..200).map(hash).collect();
        let newest = Subscriber::new().receive(&publisher(&hashes)).expect("a good publisher");
        assert_eq!(newest.map(|hash| hash.0[31]), Some(199));
    }

    #[test]
    fn a_ping_is_answered_with_its_context() {
        let mut subscriber = Subscriber::new();
        subscriber.receive(&publisher(&[])).expect("a good publisher");
        subscriber.take_to_send();
        let mut ping = Vec::new();
        push_frame(&mut ping, FLAG_COMMAND, &[b"\x04PING", &[0, 100], b"abc"]);
        assert_eq!(subscriber.receive(&ping), Ok(None));
        assert_eq!(subscriber.take_to_send(), b"\x04\x08\x04PONGabc");
    }

    #[test]
    fn what_is_no_publisher_is_told_apart() {
        let good = publisher(&[]);
        let with = |at: usize, byte: u8| {
            let mut bytes = good.clone();
            bytes[at] = byte;
            bytes
        };
        let mut worker = good[..GREETING_BYTES].to_vec();
        push_frame(&mut worker, FLAG_COMMAND, &[b"\x05READY", &socket_type("PUSH")]);
        let mut cut_ready = good[..GREETING_BYTES].to_vec();
        push_frame(&mut cut_ready, FLAG_COMMAND, &[b"\x05READY", b"\x0bSocket"]);
        let mut refusal = good[..GREETING_BYTES].to_vec();
        push_frame(&mut refusal, FLAG_COMMAND, &[b"\x05ERROR", b"\x03no!"]);
        let mut huge = good.clone();
        huge.extend_from_slice(&[FLAG_LONG, 0, 0, 0, 1, 0, 0, 0, 0]);
        let mut parts = good.clone();
        (0..=PARTS_MAX).for_each(|_| push_frame(&mut parts, FLAG_MORE, &[b"x"]));
        let mut short = good.clone();
        push_frame(&mut short, FLAG_MORE, &[TOPIC]);
        push_frame(&mut short, 0, &[&[7; 31]]);
        let mut early = good[..GREETING_BYTES].to_vec();
        push_frame(&mut early, 0, &[TOPIC]);
        let rows: [(&[u8], ZmtpError); 11] = [
            (b"HTTP/1.1 400 Bad Request\r\n", ZmtpError::NotZmtp),
            (&with(9, 0x7e), ZmtpError::NotZmtp),
            (&with(10, 1), ZmtpError::Version(1)),
            (&with(12, b'P'), ZmtpError::Mechanism),
            (&worker, ZmtpError::NotAPublisher),
            (&cut_ready, ZmtpError::Malformed),
            (&refusal, ZmtpError::Refused),
            (&huge, ZmtpError::TooLarge),
            (&parts, ZmtpError::TooLarge),
            (&short, ZmtpError::Malformed),
            (&early, ZmtpError::Malformed),
        ];
        for (bytes, error) in rows {
            assert_eq!(Subscriber::new().receive(bytes), Err(error));
        }
    }
}
