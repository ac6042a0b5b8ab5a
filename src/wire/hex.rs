//! Bytes as hexadecimal text, both ways, without allocation.
//!
//! Lower case out, either case in, no `0x`: the forms that SV1 firmware sends and expects.
//! [`crate::sv1`] and `session` call it; it knows nothing of messages.

use alloc::vec::Vec;
use core::fmt;

/// Why a text is not the bytes that were asked for. The fault is the sender's.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum HexError {
    /// A character that is no hexadecimal digit.
    Digit,
    /// An odd number of digits, or more than the destination holds.
    Length,
}

impl fmt::Display for HexError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            HexError::Digit => "not a hexadecimal digit",
            HexError::Length => "wrong number of hexadecimal digits",
        })
    }
}

impl core::error::Error for HexError {}

/// Appends `bytes` as lower-case digits.
pub fn encode(out: &mut Vec<u8>, bytes: &[u8]) {
    let start = out.len();
    out.resize(start + bytes.len() * 2, 0);
    // One shape of loop over fixed pairs, without a table: the compiler makes vectors of it.
    for (pair, byte) in out[start..].as_chunks_mut::<2>().0.iter_mut().zip(bytes) {
        *pair = [digit(byte >> 4), digit(byte & 0x0f)];
    }
}

/// Appends `number` as eight digits, the most significant first.
pub fn encode_u32(out: &mut Vec<u8>, number: u32) {
    encode(out, &number.to_be_bytes());
}

/// Decodes `text` into the front of `bytes` and returns how many bytes it was.
pub fn decode_into(text: &str, bytes: &mut [u8]) -> Result<usize, HexError> {
    let (pairs, odd) = text.as_bytes().as_chunks::<2>();
    if !odd.is_empty() || pairs.len() > bytes.len() {
        return Err(HexError::Length);
    }
    // Bad digits are gathered and looked at once, to keep the loop free of branches.
    let mut bad = 0;
    for (byte, [high, low]) in bytes.iter_mut().zip(pairs) {
        let (high, low) = (VALUES[usize::from(*high)], VALUES[usize::from(*low)]);
        bad |= high | low;
        *byte = high << 4 | low & 0x0f;
    }
    if bad & NO_DIGIT == 0 { Ok(pairs.len()) } else { Err(HexError::Digit) }
}

/// Reads one to eight digits as a number, as if padded with zeros on the left.
///
/// Some firmware drops leading zeros, which shortens one nonce in sixteen.
pub fn u32_left_padded(text: &str) -> Option<u32> {
    if text.is_empty() || text.len() > 8 {
        return None;
    }
    let (mut number, mut bad) = (0, 0);
    for character in text.bytes() {
        let value = VALUES[usize::from(character)];
        bad |= value;
        number = number << 4 | u32::from(value & 0x0f);
    }
    (bad & NO_DIGIT == 0).then_some(number)
}

fn digit(nibble: u8) -> u8 {
    nibble + b'0' + if nibble > 9 { b'a' - b'9' - 1 } else { 0 }
}

/// Marks, in [`VALUES`], a character that is no digit; no digit's value has this bit.
const NO_DIGIT: u8 = 0x80;

/// The value of each character as a hexadecimal digit.
const VALUES: [u8; 256] = {
    let mut values = [NO_DIGIT; 256];
    let mut value = 0;
    while value < 16 {
        values[b"0123456789abcdef"[value] as usize] = value as u8;
        values[b"0123456789ABCDEF"[value] as usize] = value as u8;
        value += 1;
    }
    values
};

#[cfg(test)]
mod tests {
    use alloc::string::String;
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn numbers_as_firmware_writes_them() {
        for (text, number) in [
            ("1a2b3c4d", Some(0x1a2b_3c4d)),
            ("A2B3C4D", Some(0x0a2b_3c4d)),
            ("0", Some(0)),
            ("ffffffff", Some(u32::MAX)),
            ("", None),
            ("100000000", None),
            ("0x12", None),
            ("-1", None),
            (" 1", None),
            ("g", None),
            ("é", None),
        ] {
            assert_eq!(u32_left_padded(text), number, "{text}");
        }
    }

    #[test]
    fn decoding_refuses_what_does_not_fit() {
        let mut bytes = [0; 2];
        assert_eq!(decode_into("abCD", &mut bytes), Ok(2));
        assert_eq!(bytes, [0xab, 0xcd]);
        assert_eq!(decode_into("01", &mut bytes), Ok(1));
        assert_eq!(decode_into("", &mut bytes), Ok(0));
        assert_eq!(decode_into("abc", &mut bytes), Err(HexError::Length));
        assert_eq!(decode_into("abcdef", &mut bytes), Err(HexError::Length));
        assert_eq!(decode_into("ag", &mut bytes), Err(HexError::Digit));
        assert_eq!(decode_into("é", &mut bytes), Err(HexError::Digit));
    }

    proptest! {
        #[test]
        fn bytes_read_back(bytes in prop::collection::vec(any::<u8>(), 0..100), upper: bool) {
            let mut out = Vec::from(&b"kept"[..]);
            encode(&mut out, &bytes);
            let expected: String = bytes.iter().map(|byte| format!("{byte:02x}")).collect();
            prop_assert_eq!(&out[..4], b"kept");
            prop_assert_eq!(&out[4..], expected.as_bytes());
            let text = if upper { expected.to_uppercase() } else { expected };
            let mut back = alloc::vec![0; bytes.len()];
            prop_assert_eq!(decode_into(&text, &mut back), Ok(bytes.len()));
            prop_assert_eq!(back, bytes);
        }

        #[test]
        fn numbers_read_back(number: u32) {
            let mut out = Vec::new();
            encode_u32(&mut out, number);
            let text = String::from_utf8_lossy(&out);
            prop_assert_eq!(u32_left_padded(&text), Some(number));
            prop_assert_eq!(u32_left_padded(&format!("{number:x}")), Some(number));
        }
    }
}
