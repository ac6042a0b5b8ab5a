//! Which protocol a connection speaks, judged by its first bytes and nothing else.
//!
//! A pure function: it keeps no state and may be asked again with more bytes. Session calls it
//! before the first line, because an SV2 connection begins with 64 uniformly random bytes, one in
//! 256 of which begins like any byte: a lone `{` proves nothing.

/// What the first bytes of a connection look like.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum FirstBytes {
    /// An HTTP request line.
    Http,
    /// Not decided yet: ask again with more bytes.
    NeedMore,
    /// None of the known ones: SV2's random key, or garbage.
    Other,
    /// A PROXY protocol header, version 1 or 2.
    Proxy,
    /// A Stratum V1 line.
    Sv1,
    /// A TLS ClientHello.
    Tls,
}

/// After this many bytes [`looks_like`] has always decided. An SV2 client's first act is 64 bytes.
pub const FIRST_BYTES_MAX: usize = 64;

/// Tells the protocol by the first bytes of a connection, `first` being all of them so far.
///
/// The answer never changes when more bytes follow, except from [`FirstBytes::NeedMore`].
pub fn looks_like(first: &[u8]) -> FirstBytes {
    let mut undecided = false;
    for (signature, protocol) in SIGNATURES {
        match begins_with(first, signature) {
            Answer::Yes => return *protocol,
            Answer::Maybe => undecided = true,
            Answer::No => {}
        }
    }
    match tls(first) {
        Answer::Yes => return FirstBytes::Tls,
        Answer::Maybe => undecided = true,
        Answer::No => {}
    }
    match sv1(first) {
        Answer::Yes => return FirstBytes::Sv1,
        Answer::Maybe => undecided = true,
        Answer::No => {}
    }
    if undecided { FirstBytes::NeedMore } else { FirstBytes::Other }
}

enum Answer {
    Maybe,
    No,
    Yes,
}

/// Whole signatures, so that a random key is taken for one of them once in 2^32 at most.
const SIGNATURES: &[(&[u8], FirstBytes)] = &[
    (b"GET ", FirstBytes::Http),
    (b"POST ", FirstBytes::Http),
    (b"HEAD ", FirstBytes::Http),
    (b"PUT /", FirstBytes::Http),
    (b"DELETE ", FirstBytes::Http),
    (b"OPTIONS ", FirstBytes::Http),
    (b"CONNECT ", FirstBytes::Http),
    (b"PATCH ", FirstBytes::Http),
    (b"TRACE ", FirstBytes::Http),
    (b"PRI * HTTP/2.0", FirstBytes::Http),
    (b"PROXY ", FirstBytes::Proxy),
    (b"\r\n\r\n\0\r\nQUIT\n", FirstBytes::Proxy),
];

fn begins_with(first: &[u8], signature: &[u8]) -> Answer {
    let common = first.len().min(signature.len());
    if first[..common] != signature[..common] {
        Answer::No
    } else if common == signature.len() {
        Answer::Yes
    } else {
        Answer::Maybe
    }
}

/// A TLS record of type handshake (16 03 0x), of a plausible length, holding a ClientHello (01).
fn tls(first: &[u8]) -> Answer {
    let plausible = |at: usize, byte: u8| match at {
        0 => byte == 0x16,
        1 => byte == 0x03,
        2 => byte <= 0x04,
        // The high byte of the length: a record carries at most 2^14 bytes of plaintext.
        3 => byte <= 0x40,
        4 => true,
        _ => byte == 0x01,
    };
    let seen = first.len().min(TLS_BYTES);
    if !first[..seen].iter().enumerate().all(|(at, byte)| plausible(at, *byte)) {
        return Answer::No;
    }
    if seen < TLS_BYTES {
        return Answer::Maybe;
    }
    let length = u16::from_be_bytes([first[3], first[4]]);
    if (TLS_HELLO_BYTES_MIN..=TLS_RECORD_BYTES_MAX).contains(&length) {
        Answer::Yes
    } else {
        Answer::No
    }
}

/// Record header and the first byte of the handshake message in it.
const TLS_BYTES: usize = 6;
/// A ClientHello has at least version, random, and three lengths.
const TLS_HELLO_BYTES_MIN: u16 = 42;
/// RFC 8446, 5.1: a plaintext record is at most 2^14 bytes long.
const TLS_RECORD_BYTES_MAX: u16 = 1 << 14;

/// After blanks an object's `{`, then its first key's quote, and text as far as is looked at.
fn sv1(first: &[u8]) -> Answer {
    let Some(brace) = first.iter().position(|byte| !is_blank(*byte)) else {
        return if first.len() < FIRST_BYTES_MAX { Answer::Maybe } else { Answer::No };
    };
    if first[brace] != b'{' {
        return Answer::No;
    }
    let object = &first[brace + 1..];
    let line_end = object.iter().position(|byte| *byte == b'\n');
    let line = &object[..line_end.unwrap_or(object.len())];
    let window = line.len().min(SV1_TEXT_BYTES - 1);
    if !line[..window].iter().all(|byte| is_text(*byte)) {
        return Answer::No;
    }
    // Two bytes `{\n` are a random key's once in 65,536; a short line must also look like JSON.
    match line[..window].iter().find(|byte| !is_blank(**byte)) {
        Some(b'"') if window == SV1_TEXT_BYTES - 1 => Answer::Yes,
        Some(b'"') | None if line_end.is_none() && window < SV1_TEXT_BYTES - 1 => Answer::Maybe,
        Some(b'"') if line.trim_ascii_end().ends_with(b"}") => Answer::Yes,
        _ => Answer::No,
    }
}

/// How many bytes from the `{` on must be text (or all up to a newline).
const SV1_TEXT_BYTES: usize = 16;

fn is_blank(byte: u8) -> bool {
    matches!(byte, b' ' | b'\t' | b'\r' | b'\n')
}

fn is_text(byte: u8) -> bool {
    matches!(byte, b' '..=b'~' | b'\t' | b'\r')
}
