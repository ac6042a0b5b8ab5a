//! The body of a request while it goes out. A block is turned into hex on the way, so that it is
//! never held a second time in twice its size.

use std::io::{self, Read};

/// `head`, then `block` in hex, then `tail`; says when the sending begins.
pub(super) struct Upload<'a> {
    pub(super) head: &'a [u8],
    pub(super) block: &'a [u8],
    pub(super) tail: &'a [u8],
    /// Called at the first read, which comes right after the request's head was written.
    pub(super) sent: &'a mut dyn FnMut(),
    pub(super) begun: bool,
}

/// What is encoded at a time, in bytes of the block.
const STEP_BYTES: usize = 16_384;

impl Upload<'_> {
    /// Its whole length in bytes, as `Content-Length` says it.
    pub(super) fn length(&self) -> usize {
        self.head.len() + 2 * self.block.len() + self.tail.len()
    }
}

impl Read for Upload<'_> {
    fn read(&mut self, out: &mut [u8]) -> io::Result<usize> {
        if !self.begun {
            self.begun = true;
            (self.sent)();
        }
        if !self.head.is_empty() {
            return self.head.read(out);
        }
        if !self.block.is_empty() {
            let count = self.block.len().min(out.len() / 2).min(STEP_BYTES);
            if count == 0 {
                return Err(io::Error::other("a buffer too small for one byte in hex"));
            }
            let (now, rest) = self.block.split_at(count);
            let mut digits = Vec::with_capacity(2 * count);
            wire::hex::encode(&mut digits, now);
            out[..digits.len()].copy_from_slice(&digits);
            self.block = rest;
            return Ok(digits.len());
        }
        self.tail.read(out)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_block_leaves_as_hex_and_its_beginning_is_told_once() {
        let block: Vec<u8> = (0..STEP_BYTES * 2 + 5).map(|index| index as u8).collect();
        let mut begins = 0;
        let mut sent = || begins += 1;
        let mut upload =
            Upload { head: b"[\"", block: &block, tail: b"\"]", sent: &mut sent, begun: false };
        let bytes = upload.length();
        let mut all = Vec::new();
        upload.read_to_end(&mut all).expect("memory");
        assert_eq!(begins, 1);
        assert_eq!(all.len(), bytes);
        let hex: String = block.iter().map(|byte| format!("{byte:02x}")).collect();
        assert_eq!(all, format!("[\"{hex}\"]").into_bytes());
    }
}
