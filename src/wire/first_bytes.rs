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

/// What a TLS client is answered before its connection ends: one record (RFC 8446, 5.1 and 6) with
/// the fatal alert handshake_failure. Its log then names the fault, instead of a lost connection
/// that it tries again and again.
pub const TLS_REFUSAL: [u8; 7] = [0x15, 0x03, 0x03, 0x00, 0x02, 0x02, 0x28];

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

#[cfg(test)]
mod tests {
    use super::*;

    /// SplitMix64: a fixed seed, so that the test is the same each time.
    struct Random(u64);

    impl Random {
        fn next(&mut self) -> u64 {
            self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
            let mut mixed = self.0;
            mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
            mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
            mixed ^ (mixed >> 31)
        }

        fn key(&mut self) -> [u8; FIRST_BYTES_MAX] {
            let mut key = [0; FIRST_BYTES_MAX];
            for word in key.as_chunks_mut::<8>().0 {
                *word = self.next().to_le_bytes();
            }
            key
        }
    }

    /// The answer is the same in every split: undecided up to some byte, then final.
    fn decided(bytes: &[u8]) -> FirstBytes {
        let answers = (0..=bytes.len()).map(|seen| looks_like(&bytes[..seen]));
        let mut decided = FirstBytes::NeedMore;
        for answer in answers {
            assert!(decided == FirstBytes::NeedMore || decided == answer, "{bytes:x?}");
            decided = answer;
        }
        decided
    }

    #[test]
    fn a_million_random_keys_are_other_in_every_split() {
        let mut random = Random(2026);
        for _ in 0..1_000_000 {
            let key = random.key();
            assert_eq!(decided(&key), FirstBytes::Other, "{key:x?}");
        }
    }

    /// The same for keys that begin as the known protocols do, which chance makes too seldom.
    #[test]
    fn random_keys_with_a_known_beginning_are_other_in_every_split() {
        let mut random = Random(64);
        let beginnings = SIGNATURES.iter().map(|(signature, _)| *signature);
        for beginning in beginnings.chain([&b"{"[..], b"{\"", b"\r\n{", b"\x16\x03\x01"]) {
            for length in 1..beginning.len().max(2) {
                for _ in 0..1_000 {
                    let mut key = random.key();
                    key[..length].copy_from_slice(&beginning[..length]);
                    // Where chance goes on as the protocol does, it is made to go on otherwise.
                    key[length] ^= u8::from(beginning.get(length) == Some(&key[length]));
                    assert_eq!(decided(&key), FirstBytes::Other, "{key:x?}");
                }
            }
        }
    }

    #[test]
    fn lines_of_firmware_are_sv1_in_every_split() {
        for line in [
            "{\"id\": 1, \"method\": \"mining.subscribe\", \"params\": [\"cgminer/4.11.1\"]}\n",
            "{\"id\":1,\"method\":\"mining.configure\",\"params\":[[\"version-rolling\"],{}]}\n",
            "\r\n \t{\"method\": \"mining.authorize\", \"params\": [\"a\", \"x\"], \"id\": 2}\n",
            "{ \"params\": [512], \"id\": 0, \"method\": \"mining.suggest_difficulty\"}\n",
            "{\"id\":1}\r\n",
        ] {
            assert_eq!(decided(line.as_bytes()), FirstBytes::Sv1, "{line}");
        }
    }

    #[test]
    fn other_protocols_on_the_port() {
        for (bytes, expected) in [
            (&b"GET / HTTP/1.1\r\nHost: x\r\n\r\n"[..], FirstBytes::Http),
            (b"POST /api HTTP/1.1\r\n", FirstBytes::Http),
            (b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n", FirstBytes::Http),
            (b"PROXY TCP4 10.0.0.1 10.0.0.2 5 3333\r\n", FirstBytes::Proxy),
            (b"\r\n\r\n\0\r\nQUIT\n\x21\x11\x00\x0c", FirstBytes::Proxy),
            (b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03", FirstBytes::Tls),
            (b"\x16\x03\x01\xff\xff\x01\x00\x01\xfc\x03\x03", FirstBytes::Other),
            (b"\x16\x03\x01\x02\x00\x02\x00\x01\xfc\x03\x03", FirstBytes::Other),
            // A remote desktop's hello.
            (b"\x03\x00\x00\x2f\x2a\xe0\x00\x00\x00\x00\x00Cookie: mstshash=a", FirstBytes::Other),
            (b"[{\"id\":1}]", FirstBytes::Other),
            (b"{}\n", FirstBytes::Other),
            (b"{\n\"id\":1}\n", FirstBytes::Other),
            (b"{\"id\":\x001,\"method\"", FirstBytes::Other),
            (&[b' '; FIRST_BYTES_MAX], FirstBytes::Other),
            (b"{\"id\":1,", FirstBytes::NeedMore),
            (b"", FirstBytes::NeedMore),
            (b"\n", FirstBytes::NeedMore),
            (b"GE", FirstBytes::NeedMore),
            (b"\x16\x03", FirstBytes::NeedMore),
        ] {
            assert_eq!(decided(bytes), expected, "{}", bytes.escape_ascii());
        }
    }

    #[test]
    fn every_connection_is_decided_within_the_bound() {
        let mut blanks = [b' '; FIRST_BYTES_MAX];
        blanks[FIRST_BYTES_MAX - 1] = b'{';
        assert_ne!(looks_like(&blanks), FirstBytes::Sv1);
        for byte in 0..=255_u8 {
            assert_ne!(looks_like(&[byte; FIRST_BYTES_MAX]), FirstBytes::NeedMore, "{byte}");
        }
    }
}
