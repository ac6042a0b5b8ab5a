//! Received bytes to lines, in place, over any split of the bytes.
//!
//! A line that lies whole in the received bytes is handed out where it lies. Only a line that is
//! cut by the end of the bytes is copied, into a buffer that is given back when the line is done.
//! Each connection has one [`Splitter`]; the cap holds before and after the handshake.

use alloc::vec::Vec;
use core::fmt;

/// The longest line in bytes, without its end. Pools cap at 1 KB to 50 KB; no firmware is known
/// to send 2 KB.
pub const LINE_BYTES_MAX: usize = 8192;

/// A buffer of at most this capacity is kept when it is empty: it holds any usual line, so that
/// lines that are cut do not allocate each time.
pub const PARTIAL_BYTES_KEPT: usize = 256;

const _: () = assert!(PARTIAL_BYTES_KEPT <= LINE_BYTES_MAX);

/// A line above [`LINE_BYTES_MAX`]: the peer's fault, and there is no way to go on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct LineTooLong;

impl fmt::Display for LineTooLong {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "a line longer than {LINE_BYTES_MAX} bytes")
    }
}

impl core::error::Error for LineTooLong {}

/// The unfinished line of one connection.
#[derive(Debug, Default)]
pub struct Splitter {
    /// Invariant: `partial.len() <= LINE_BYTES_MAX`, and without a newline.
    partial: Vec<u8>,
    /// The line in `partial` was handed out and goes before the next byte is looked at.
    spent: bool,
    broken: bool,
}

impl Splitter {
    /// A splitter at the beginning of a connection. Allocates nothing.
    pub const fn new() -> Splitter {
        Splitter { partial: Vec::new(), spent: false, broken: false }
    }

    /// Takes the next bytes of the connection. Drain the lines: what is not drained is lost.
    pub fn feed<'a>(&'a mut self, bytes: &'a [u8]) -> Lines<'a> {
        Lines { splitter: self, rest: bytes }
    }

    /// Bytes of the unfinished line.
    pub fn partial_bytes(&self) -> usize {
        if self.spent { 0 } else { self.partial.len() }
    }

    /// Bytes of memory that the unfinished line takes.
    pub fn memory_bytes(&self) -> usize {
        self.partial.capacity()
    }

    /// Empties the buffer, and gives it back unless it is small.
    fn release(&mut self) {
        self.spent = false;
        if self.partial.capacity() > PARTIAL_BYTES_KEPT {
            self.partial = Vec::new();
        } else {
            self.partial.clear();
        }
    }

    /// Appends to the unfinished line, or breaks where that makes it too long.
    fn keep(&mut self, bytes: &[u8]) -> Result<(), LineTooLong> {
        let needed = self.partial.len() + bytes.len();
        if needed > LINE_BYTES_MAX {
            self.broken = true;
            self.partial = Vec::new();
            return Err(LineTooLong);
        }
        if needed > self.partial.capacity() {
            // Doubling, but never beyond the cap: the buffer is part of a memory budget.
            let capacity = needed.max(2 * self.partial.capacity());
            let capacity = capacity.clamp(PARTIAL_BYTES_KEPT, LINE_BYTES_MAX);
            self.partial.reserve_exact(capacity - self.partial.len());
        }
        self.partial.extend_from_slice(bytes);
        Ok(())
    }
}

/// The lines that end in one piece of received bytes.
#[derive(Debug)]
pub struct Lines<'a> {
    splitter: &'a mut Splitter,
    rest: &'a [u8],
}

impl Lines<'_> {
    /// The next line without its end (LF or CRLF); lines of blanks only are left out.
    ///
    /// `None` when the bytes are used up. After an error nothing more comes, on this call and on
    /// every later piece of the connection.
    #[allow(clippy::should_implement_trait)] // The line lends from `self`; Iterator cannot.
    pub fn next(&mut self) -> Option<Result<&[u8], LineTooLong>> {
        if self.splitter.spent {
            self.splitter.release();
        }
        while !self.splitter.broken && !self.rest.is_empty() {
            let Some(end) = memchr::memchr(b'\n', self.rest) else {
                let rest = core::mem::take(&mut self.rest);
                return self.splitter.keep(rest).err().map(Err);
            };
            let (line, rest) = (&self.rest[..end], &self.rest[end + 1..]);
            self.rest = rest;
            if self.splitter.partial.is_empty() {
                if line.len() > LINE_BYTES_MAX {
                    self.splitter.broken = true;
                    return Some(Err(LineTooLong));
                }
                if !is_blank(line) {
                    return Some(Ok(without_return(line)));
                }
            } else if let Err(error) = self.splitter.keep(line) {
                return Some(Err(error));
            } else if is_blank(&self.splitter.partial) {
                self.splitter.release();
            } else {
                self.splitter.spent = true;
                return Some(Ok(without_return(&self.splitter.partial)));
            }
        }
        None
    }
}

fn is_blank(line: &[u8]) -> bool {
    line.iter().all(|byte| matches!(byte, b' ' | b'\t' | b'\r'))
}

fn without_return(line: &[u8]) -> &[u8] {
    line.strip_suffix(b"\r").unwrap_or(line)
}

#[cfg(test)]
mod tests;
