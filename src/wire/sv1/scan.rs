//! The fast way for the one hot line, `mining.submit`: a scanner that borrows and never allocates.
//!
//! It accepts the members `id`, `method` and `params` in any order, blanks anywhere, and
//! five or six plain strings. On anything else it gives up, and `super::parse` lets `serde_json`
//! judge: so nothing is ever refused here, and whatever is accepted must be what `serde_json`
//! makes of it.

use alloc::borrow::Cow;

use super::{ID_BYTES_MAX, Id, Message, Request, Submit};

/// Reads a usual `mining.submit`; `None` for every other line.
pub(super) fn submit(line: &str) -> Option<Message<'_>> {
    let (id, [worker, job_id, extranonce2, ntime, nonce], version_bits) = fields(line)?;
    let request = Request::Submit(Submit {
        worker: Cow::Borrowed(worker),
        job_id: Cow::Borrowed(job_id),
        extranonce2: Cow::Borrowed(extranonce2),
        ntime: Cow::Borrowed(ntime),
        nonce: Cow::Borrowed(nonce),
        version_bits: version_bits.map(Cow::Borrowed),
    });
    Some(Message { id, request })
}

/// The id, the five parameters that all send, and the sixth.
#[inline(always)]
fn fields(line: &str) -> Option<(Id<'_>, [&str; 5], Option<&str>)> {
    let mut scanner = Scanner { text: line, at: 0 };
    let (mut id, mut params, mut is_submit) = (None, None, false);
    scanner.skip_blanks();
    scanner.expect(b'{')?;
    loop {
        scanner.skip_blanks();
        let member = scanner.member()?;
        scanner.skip_blanks();
        scanner.expect(b':')?;
        scanner.skip_blanks();
        match member {
            // Of duplicate keys the last wins.
            Member::Id => id = Some(scanner.id()?),
            // Another method's line is not worth a second look.
            Member::Method => {
                scanner.take(br#""mining.submit""#)?;
                is_submit = true;
            }
            Member::Params => params = Some(scanner.params()?),
        }
        scanner.skip_blanks();
        match scanner.next()? {
            b',' => {}
            b'}' => break,
            _ => return None,
        }
    }
    scanner.skip_blanks();
    if scanner.at != line.len() || !is_submit {
        return None;
    }
    let (always, version_bits) = params?;
    Some((id.unwrap_or(Id::NULL), always, version_bits))
}

enum Member {
    Id,
    Method,
    Params,
}

/// Invariant: `at <= text.len()`, on a character's boundary.
struct Scanner<'a> {
    text: &'a str,
    at: usize,
}

impl<'a> Scanner<'a> {
    fn next(&mut self) -> Option<u8> {
        let byte = *self.text.as_bytes().get(self.at)?;
        self.at += 1;
        Some(byte)
    }

    fn peek(&self) -> Option<u8> {
        self.text.as_bytes().get(self.at).copied()
    }

    fn expect(&mut self, wanted: u8) -> Option<()> {
        (self.next()? == wanted).then_some(())
    }

    fn skip_blanks(&mut self) {
        while let Some(b' ' | b'\t' | b'\r' | b'\n') = self.peek() {
            self.at += 1;
        }
    }

    /// Goes over `wanted`. Comparing with what is expected keeps the way through a line free of
    /// lengths that must first be computed: the processor need not wait for any of them.
    #[inline(always)]
    fn take(&mut self, wanted: &[u8]) -> Option<()> {
        if !self.text.as_bytes().get(self.at..)?.starts_with(wanted) {
            return None;
        }
        self.at += wanted.len();
        Some(())
    }

    #[inline(always)]
    fn member(&mut self) -> Option<Member> {
        if self.take(br#""id""#).is_some() {
            Some(Member::Id)
        } else if self.take(br#""method""#).is_some() {
            Some(Member::Method)
        } else {
            self.take(br#""params""#).map(|()| Member::Params)
        }
    }

    /// A string without escapes, which is its own text.
    fn string(&mut self) -> Option<&'a str> {
        self.expect(b'"')?;
        let end = plain_end(self.text.as_bytes(), self.at)?;
        let text = self.text.get(self.at..end)?;
        self.at = end;
        self.expect(b'"')?;
        Some(text)
    }

    /// An integer, a plain string or null, as raw text.
    fn id(&mut self) -> Option<Id<'a>> {
        let start = self.at;
        match self.peek()? {
            b'"' => {
                self.string()?;
            }
            b'n' => self.take(b"null")?,
            b'-' => {
                self.at += 1;
                self.digits()?;
            }
            _ => self.digits()?,
        }
        let raw = self.text.get(start..self.at)?;
        (raw.len() <= ID_BYTES_MAX).then(|| Id::from_raw(raw))
    }

    /// An integer as JSON has it: no leading zeros.
    fn digits(&mut self) -> Option<()> {
        let first = self.next().filter(u8::is_ascii_digit)?;
        if first != b'0' {
            while self.peek().is_some_and(|byte| byte.is_ascii_digit()) {
                self.at += 1;
            }
        }
        Some(())
    }

    /// An array of five or six plain strings.
    fn params(&mut self) -> Option<([&'a str; 5], Option<&'a str>)> {
        self.expect(b'[')?;
        let mut always = [""; 5];
        for (index, text) in always.iter_mut().enumerate() {
            if index > 0 {
                self.expect(b',')?;
            }
            *text = self.element()?;
        }
        let mut version_bits = None;
        if self.peek()? == b',' {
            self.at += 1;
            version_bits = Some(self.element()?);
        }
        self.expect(b']')?;
        Some((always, version_bits))
    }

    /// A string with blanks around it.
    fn element(&mut self) -> Option<&'a str> {
        self.skip_blanks();
        let text = self.string()?;
        self.skip_blanks();
        Some(text)
    }
}

/// Where the plain text from `start` on ends: at a quote, a backslash or a control character.
///
/// Eight bytes at a time. In each of the three tests a false hit can only stand above a true one
/// of the same test, so the lowest hit of all is true.
fn plain_end(bytes: &[u8], start: usize) -> Option<usize> {
    const ONES: u64 = u64::from_ne_bytes([0x01; 8]);
    const HIGHS: u64 = u64::from_ne_bytes([0x80; 8]);
    let below = |word: u64, limit: u8| word.wrapping_sub(ONES * u64::from(limit)) & !word;
    let mut at = start;
    while let Some(chunk) = bytes.get(at..)?.first_chunk::<8>() {
        let word = u64::from_le_bytes(*chunk);
        let quote = below(word ^ (ONES * u64::from(b'"')), 1);
        let backslash = below(word ^ (ONES * u64::from(b'\\')), 1);
        let hits = (quote | backslash | below(word, b' ')) & HIGHS;
        // Most fields are eight digits or sixteen: their end is guessed right without counting.
        if hits & 0xff != 0 {
            return Some(at);
        }
        if hits != 0 {
            return Some(at + hits.trailing_zeros() as usize / 8);
        }
        at += chunk.len();
    }
    let rest = bytes[at..].iter().position(|byte| matches!(byte, b'"' | b'\\' | 0..b' '))?;
    Some(at + rest)
}
