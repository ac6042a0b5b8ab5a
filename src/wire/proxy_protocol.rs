//! The PROXY protocol's header, versions 1 and 2: where a connection really comes from, said by a
//! load balancer before the first byte of its miner. (HAProxy's "The PROXY protocol", 2.1 and 2.2.)
//!
//! Sans-IO and without trust: whether a peer may, or must, send such a header is its caller's
//! decision. Of version 2's extensions (TLVs) nothing is read and nothing is kept.

use alloc::vec::Vec;
use core::fmt;
use core::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};

/// The longest line of version 1, its CR LF included: the specification's 107 bytes.
pub const PROXY_LINE_BYTES_MAX: usize = 107;

/// Bytes behind version 2's fixed head at most. Addresses take up to 216; load balancers add tens
/// of bytes of extensions, the names of a TLS client's certificate some hundreds.
pub const PROXY_PAYLOAD_BYTES_MAX: usize = 4_096;

const V1_SIGNATURE: &[u8] = b"PROXY ";
const V2_SIGNATURE: &[u8] = b"\r\n\r\n\0\r\nQUIT\n";
/// Signature, version and command, family and transport, length.
const V2_HEAD_BYTES: usize = 16;
/// Two addresses of four bytes and two ports.
const V2_IPV4_BYTES: usize = 12;
/// Two addresses of sixteen bytes and two ports.
const V2_IPV6_BYTES: usize = 36;
/// Two paths of 108 bytes.
const V2_UNIX_BYTES: usize = 216;

const _: () = assert!(V2_HEAD_BYTES + V2_IPV6_BYTES <= PROXY_LINE_BYTES_MAX);

/// Where a connection comes from, as its load balancer says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ProxySource {
    /// From the load balancer itself, for instance to see whether we live.
    Local,
    /// From a client of TCP over IP, at this address.
    Tcp(SocketAddr),
    /// From somebody whose address the load balancer does not know, or that is none of TCP's.
    Unknown,
}

/// What [`ProxyReader::feed`] has found.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ProxyStep {
    /// The header is not complete: all bytes were taken.
    NeedMore,
    /// The header is complete.
    Done {
        /// Bytes of the latest feed that belong to it; those behind are the client's.
        used: usize,
        /// What it says.
        source: ProxySource,
    },
}

/// Why the first bytes of a connection are no PROXY header: the load balancer's fault, or that of
/// whoever put it among those that must send one.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ProxyFault {
    /// Neither version's signature: the peer speaks something else.
    NotProxy,
    /// A line without an end in [`PROXY_LINE_BYTES_MAX`], or more than [`PROXY_PAYLOAD_BYTES_MAX`].
    TooLong,
    /// Version 2 announces fewer bytes than its addresses take.
    TooShort,
    /// Version 1's line does not have its fields.
    Line,
    /// Version 1's addresses or ports are none of its family.
    Address,
    /// The signature of version 2, then another version.
    Version(u8),
    /// A command that is neither LOCAL nor PROXY.
    Command(u8),
    /// Family and transport that the specification does not know.
    Family(u8),
}

impl fmt::Display for ProxyFault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            ProxyFault::NotProxy => f.write_str("no PROXY header"),
            ProxyFault::TooLong => f.write_str("the PROXY header is too long"),
            ProxyFault::TooShort => f.write_str("the PROXY header is shorter than its addresses"),
            ProxyFault::Line => f.write_str("the PROXY line does not have its fields"),
            ProxyFault::Address => f.write_str("the PROXY line has no addresses of its family"),
            ProxyFault::Version(version) => write!(f, "PROXY version {version} is not known"),
            ProxyFault::Command(command) => write!(f, "PROXY command {command} is not known"),
            ProxyFault::Family(family) => write!(f, "PROXY family {family:#04x} is not known"),
        }
    }
}

/// Reads one header in any split. It holds no more than [`PROXY_LINE_BYTES_MAX`] bytes, whatever
/// length a peer announces.
#[derive(Debug, Default)]
pub struct ProxyReader {
    /// What is needed for a judgement: a line, or a fixed head and its addresses.
    held: Vec<u8>,
    /// What the header said, and how many bytes of extensions are still to come.
    judged: Option<(ProxySource, usize)>,
}

impl ProxyReader {
    /// Before the first byte.
    pub fn new() -> ProxyReader {
        ProxyReader::default()
    }

    /// Takes the next bytes of the connection. Not to be called again after the header was
    /// complete or a fault was found.
    ///
    /// # Errors
    /// Why it is no header: the connection cannot be served.
    pub fn feed(&mut self, bytes: &[u8]) -> Result<ProxyStep, ProxyFault> {
        let mut used = 0;
        while self.judged.is_none() {
            let Some(byte) = bytes.get(used) else {
                return Ok(ProxyStep::NeedMore);
            };
            used += 1;
            self.held.push(*byte);
            self.judged = judge(&self.held)?;
        }
        let Some((source, extensions)) = self.judged else {
            return Ok(ProxyStep::NeedMore);
        };
        let skipped = extensions.min(bytes.len() - used);
        self.judged = Some((source, extensions - skipped));
        Ok(match extensions - skipped {
            0 => ProxyStep::Done { used: used + skipped, source },
            _ => ProxyStep::NeedMore,
        })
    }
}

/// What a header says that ends with the last byte of `held`, and how many bytes of extensions
/// follow; `None` while it goes on.
fn judge(held: &[u8]) -> Result<Option<(ProxySource, usize)>, ProxyFault> {
    let begins = |signature: &[u8]| {
        let common = held.len().min(signature.len());
        held[..common] == signature[..common]
    };
    if begins(V1_SIGNATURE) {
        return judge_line(held).map(|source| source.map(|source| (source, 0)));
    }
    if !begins(V2_SIGNATURE) {
        return Err(ProxyFault::NotProxy);
    }
    let Some(head) = held.first_chunk::<V2_HEAD_BYTES>() else {
        return Ok(None);
    };
    judge_binary(head, &held[V2_HEAD_BYTES..])
}

fn judge_line(held: &[u8]) -> Result<Option<ProxySource>, ProxyFault> {
    if let Some(line) = held.strip_suffix(b"\r\n") {
        return line_source(&line[V1_SIGNATURE.len()..]).map(Some);
    }
    match held.last() {
        Some(b'\n') => Err(ProxyFault::Line),
        _ if held.len() >= PROXY_LINE_BYTES_MAX => Err(ProxyFault::TooLong),
        _ => Ok(None),
    }
}

/// `TCP4 source destination port port`, or `UNKNOWN` and whatever follows.
fn line_source(fields: &[u8]) -> Result<ProxySource, ProxyFault> {
    let text = core::str::from_utf8(fields).map_err(|_| ProxyFault::Line)?;
    let mut fields = text.split(' ');
    let is_ipv4 = match fields.next() {
        Some("UNKNOWN") => return Ok(ProxySource::Unknown),
        Some("TCP4") => true,
        Some("TCP6") => false,
        _ => return Err(ProxyFault::Line),
    };
    let mut next = || fields.next().ok_or(ProxyFault::Line);
    let (source, destination) = (next()?, next()?);
    let (source_port, destination_port) = (next()?, next()?);
    if fields.next().is_some() {
        return Err(ProxyFault::Line);
    }
    // The destination is ours and says nothing new, but a line that has it wrong is wrong.
    address(destination, is_ipv4)?;
    port(destination_port)?;
    Ok(ProxySource::Tcp(SocketAddr::new(address(source, is_ipv4)?, port(source_port)?)))
}

fn address(text: &str, is_ipv4: bool) -> Result<IpAddr, ProxyFault> {
    let address = match is_ipv4 {
        true => text.parse().map(IpAddr::V4),
        false => text.parse().map(IpAddr::V6),
    };
    address.map_err(|_| ProxyFault::Address)
}

/// Digits without leading zeros, at most 65535.
fn port(text: &str) -> Result<u16, ProxyFault> {
    let is_canonical = text == "0" || text.starts_with(|digit: char| ('1'..='9').contains(&digit));
    is_canonical.then(|| text.parse().ok()).flatten().ok_or(ProxyFault::Address)
}

fn judge_binary(
    head: &[u8; V2_HEAD_BYTES],
    behind: &[u8],
) -> Result<Option<(ProxySource, usize)>, ProxyFault> {
    let [.., version_command, family, high, low] = *head;
    let payload = usize::from(u16::from_be_bytes([high, low]));
    if version_command >> 4 != 2 {
        return Err(ProxyFault::Version(version_command >> 4));
    }
    if payload > PROXY_PAYLOAD_BYTES_MAX {
        return Err(ProxyFault::TooLong);
    }
    match version_command & 0x0f {
        // The family of a LOCAL command is to be ignored, whatever it is.
        0 => return Ok(Some((ProxySource::Local, payload))),
        1 => {}
        command => return Err(ProxyFault::Command(command)),
    }
    let least = match family {
        0x00 => 0,
        0x11 | 0x12 => V2_IPV4_BYTES,
        0x21 | 0x22 => V2_IPV6_BYTES,
        0x31 | 0x32 => V2_UNIX_BYTES,
        other => return Err(ProxyFault::Family(other)),
    };
    if payload < least {
        return Err(ProxyFault::TooShort);
    }
    Ok(match family {
        0x11 => behind.first_chunk::<V2_IPV4_BYTES>().map(|fields| {
            let [a, b, c, d, _, _, _, _, high, low, ..] = *fields;
            (tcp(Ipv4Addr::new(a, b, c, d).into(), [high, low]), payload - V2_IPV4_BYTES)
        }),
        0x21 => behind.first_chunk::<V2_IPV6_BYTES>().and_then(|fields| {
            let source = Ipv6Addr::from(*fields.first_chunk::<16>()?);
            let [.., high, low, _, _] = *fields;
            Some((tcp(source.into(), [high, low]), payload - V2_IPV6_BYTES))
        }),
        // Datagrams and local sockets do not reach a listener of TCP: an address of theirs would
        // name nobody.
        _ => Some((ProxySource::Unknown, payload)),
    })
}

fn tcp(address: IpAddr, port: [u8; 2]) -> ProxySource {
    ProxySource::Tcp(SocketAddr::new(address, u16::from_be_bytes(port)))
}

#[cfg(test)]
mod tests;
