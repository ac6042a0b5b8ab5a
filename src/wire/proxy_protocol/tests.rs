//! Headers of both versions as load balancers send them, and every way to get one wrong.

use super::*;

use ProxyFault::*;

/// A header of version 2: version and command, family, what stands behind the length.
fn binary(version_command: u8, family: u8, payload: &[u8]) -> Vec<u8> {
    let length = u16::try_from(payload.len()).expect("two bytes of length").to_be_bytes();
    [V2_SIGNATURE, &[version_command, family], &length, payload].concat()
}

/// The addresses of version 2 over IPv4: 203.0.113.7:51000 to 10.0.0.2:3333.
const IPV4: &[u8] = &[203, 0, 113, 7, 10, 0, 0, 2, 0xc7, 0x38, 0x0d, 0x05];

/// The same over IPv6: 2001:db8::7.
fn ipv6() -> Vec<u8> {
    let source: Ipv6Addr = "2001:db8::7".parse().expect("an address");
    let destination = Ipv6Addr::LOCALHOST;
    [&source.octets()[..], &destination.octets(), &[0xc7, 0x38, 0x0d, 0x05]].concat()
}

/// An extension: type, length, value.
fn tlv(kind: u8, length: usize) -> Vec<u8> {
    let size = u16::try_from(length).expect("two bytes of length").to_be_bytes();
    [&[kind][..], &size, &vec![b'x'; length]].concat()
}

fn from(text: &str) -> ProxySource {
    ProxySource::Tcp(text.parse().expect("an address and a port"))
}

/// What a reader makes of these pieces: the source, and how many bytes it took of them all.
fn read(pieces: &[&[u8]]) -> Result<Option<(ProxySource, usize)>, ProxyFault> {
    let mut reader = ProxyReader::new();
    let mut before = 0;
    for piece in pieces {
        if let ProxyStep::Done { used, source } = reader.feed(piece)? {
            return Ok(Some((source, before + used)));
        }
        assert!(reader.held.len() <= PROXY_LINE_BYTES_MAX, "it holds no more than a line");
        before += piece.len();
    }
    Ok(None)
}

/// The same answer in every split into two, and byte by byte.
fn read_in_every_split(bytes: &[u8]) -> Result<Option<(ProxySource, usize)>, ProxyFault> {
    let whole = read(&[bytes]);
    for split in 0..=bytes.len() {
        let (first, second) = bytes.split_at(split);
        assert_eq!(read(&[first, second]), whole, "split at {split}");
    }
    let singles: Vec<&[u8]> = bytes.chunks(1).collect();
    assert_eq!(read(&singles), whole, "byte by byte");
    whole
}

#[test]
fn every_kind_of_header_names_its_source_in_every_split() {
    let certificate = [IPV4, &tlv(0x20, 700), &tlv(0x04, 0)].concat();
    for (header, expected) in [
        (b"PROXY TCP4 203.0.113.7 10.0.0.2 51000 3333\r\n".to_vec(), from("203.0.113.7:51000")),
        (b"PROXY TCP4 255.255.255.255 0.0.0.0 65535 0\r\n".to_vec(), from("255.255.255.255:65535")),
        (b"PROXY TCP6 2001:db8::7 ::1 51000 3333\r\n".to_vec(), from("[2001:db8::7]:51000")),
        (b"PROXY TCP6 ::ffff:10.0.0.7 ::1 1 2\r\n".to_vec(), from("[::ffff:10.0.0.7]:1")),
        (b"PROXY UNKNOWN\r\n".to_vec(), ProxySource::Unknown),
        (b"PROXY UNKNOWN ffff::1 ffff::2 65535 65535\r\n".to_vec(), ProxySource::Unknown),
        (binary(0x21, 0x11, IPV4), from("203.0.113.7:51000")),
        (binary(0x21, 0x11, &certificate), from("203.0.113.7:51000")),
        (binary(0x21, 0x21, &ipv6()), from("[2001:db8::7]:51000")),
        (binary(0x21, 0x21, &[ipv6(), tlv(3, 4)].concat()), from("[2001:db8::7]:51000")),
        (binary(0x21, 0x12, IPV4), ProxySource::Unknown),
        (binary(0x21, 0x22, &ipv6()), ProxySource::Unknown),
        (binary(0x21, 0x31, &[7; V2_UNIX_BYTES]), ProxySource::Unknown),
        (binary(0x21, 0x00, &[]), ProxySource::Unknown),
        (binary(0x21, 0x00, &tlv(3, 4)), ProxySource::Unknown),
        (binary(0x20, 0x00, &[]), ProxySource::Local),
        (binary(0x20, 0x11, IPV4), ProxySource::Local),
        (binary(0x20, 0xff, &[1, 2, 3]), ProxySource::Local),
        (binary(0x21, 0x11, &[IPV4, &tlv(4, 4_081)].concat()), from("203.0.113.7:51000")),
    ] {
        let line = b"{\"id\":1,\"method\":\"mining.subscribe\",\"params\":[]}\n";
        let stream = [&header[..], line].concat();
        let expected = Ok(Some((expected, header.len())));
        assert_eq!(read_in_every_split(&stream), expected, "{}", header.escape_ascii());
        assert_eq!(read_in_every_split(&header), expected, "nothing need follow");
        for cut in 0..header.len() {
            assert_eq!(read(&[&header[..cut]]), Ok(None), "{cut} bytes are no header yet");
        }
    }
}

#[test]
fn the_longest_line_is_taken_and_a_longer_one_is_not() {
    let unknown = |bytes: usize| {
        let filler = "x".repeat(bytes - "PROXY UNKNOWN \r\n".len());
        format!("PROXY UNKNOWN {filler}\r\n").into_bytes()
    };
    let longest = unknown(PROXY_LINE_BYTES_MAX);
    assert_eq!(longest.len(), 107);
    assert_eq!(read_in_every_split(&longest), Ok(Some((ProxySource::Unknown, 107))));
    assert_eq!(read_in_every_split(&unknown(PROXY_LINE_BYTES_MAX + 1)), Err(TooLong));
    assert_eq!(read_in_every_split(&[&b"PROXY "[..], &[b'x'; 4_096]].concat()), Err(TooLong));
}

#[test]
fn garbage_is_told_apart() {
    let announced = |length: [u8; 2]| [V2_SIGNATURE, &[0x21, 0x11], &length].concat();
    for (bytes, expected) in [
        (b"{\"id\":1,\"method\":\"mining.subscribe\"}\n".to_vec(), NotProxy),
        (b"GET / HTTP/1.1\r\n\r\n".to_vec(), NotProxy),
        (b"\r\n{\"id\":1}\n".to_vec(), NotProxy),
        (b"\x16\x03\x01\x02\x00\x01".to_vec(), NotProxy),
        (b"PROXYTCP4 1.2.3.4 5.6.7.8 9 10\r\n".to_vec(), NotProxy),
        (b"proxy TCP4 1.2.3.4 5.6.7.8 9 10\r\n".to_vec(), NotProxy),
        (b"PROXY TCP4 1.2.3.4 5.6.7.8 9 10\n".to_vec(), Line),
        (b"PROXY TCP4 1.2.3.4 5.6.7.8 9\r\n".to_vec(), Line),
        (b"PROXY TCP4 1.2.3.4 5.6.7.8 9 10 11\r\n".to_vec(), Line),
        (b"PROXY TCP4  1.2.3.4 5.6.7.8 9 10\r\n".to_vec(), Line),
        (b"PROXY UDP4 1.2.3.4 5.6.7.8 9 10\r\n".to_vec(), Line),
        (b"PROXY \r\n".to_vec(), Line),
        (b"PROXY TCP4 \xff 5.6.7.8 9 10\r\n".to_vec(), Line),
        (b"PROXY TCP4 ::1 5.6.7.8 9 10\r\n".to_vec(), Address),
        (b"PROXY TCP4 1.2.3.4 ::1 9 10\r\n".to_vec(), Address),
        (b"PROXY TCP6 1.2.3.4 5.6.7.8 9 10\r\n".to_vec(), Address),
        (b"PROXY TCP4 01.2.3.4 5.6.7.8 9 10\r\n".to_vec(), Address),
        (b"PROXY TCP4 1.2.3 5.6.7.8 9 10\r\n".to_vec(), Address),
        (b"PROXY TCP4 1.2.3.4 5.6.7.8 65536 10\r\n".to_vec(), Address),
        (b"PROXY TCP4 1.2.3.4 5.6.7.8 09 10\r\n".to_vec(), Address),
        (b"PROXY TCP4 1.2.3.4 5.6.7.8 +9 10\r\n".to_vec(), Address),
        (b"PROXY TCP4 1.2.3.4 5.6.7.8 9 \r\n".to_vec(), Address),
        (binary(0x11, 0x11, IPV4), Version(1)),
        (binary(0x31, 0x11, IPV4), Version(3)),
        (binary(0x22, 0x11, IPV4), Command(2)),
        (binary(0x21, 0x13, IPV4), Family(0x13)),
        (binary(0x21, 0x10, IPV4), Family(0x10)),
        (binary(0x21, 0x41, IPV4), Family(0x41)),
        (binary(0x21, 0x11, &IPV4[..11]), TooShort),
        (binary(0x21, 0x21, IPV4), TooShort),
        (binary(0x21, 0x31, IPV4), TooShort),
        (announced([0x10, 0x01]), TooLong),
        (announced([0xff, 0xff]), TooLong),
    ] {
        let text = bytes.escape_ascii();
        assert_eq!(read_in_every_split(&bytes), Err(expected), "{text}");
        assert!(!expected.to_string().is_empty());
    }
}

#[test]
fn a_plain_miner_is_known_by_its_first_byte() {
    assert_eq!(read(&[b"{"]), Err(NotProxy));
}

proptest::proptest! {
    /// Whatever comes, a reader ends or waits, and holds no more than a line.
    #[test]
    fn anything_is_read_the_same_in_any_split(
        mut bytes in proptest::collection::vec(proptest::num::u8::ANY, 0..300),
        like in 0..3_usize,
        split in 0..300_usize,
    ) {
        let head: [&[u8]; 3] = [b"", b"PROXY TCP4 1.2.3.4 5.6.7.8 ", V2_SIGNATURE];
        bytes.splice(0..0, head[like].iter().copied());
        let whole = read(&[&bytes]);
        let (first, second) = bytes.split_at(split.min(bytes.len()));
        proptest::prop_assert_eq!(read(&[first, second]), whole);
    }
}
