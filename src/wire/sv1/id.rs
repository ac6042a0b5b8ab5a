//! The id of a request, kept as the text that the miner wrote.
//!
//! Firmware sends numbers, strings, null or nothing, and compares the answer's id with what it
//! sent; so the id is echoed byte for byte and never understood. A request without an id is
//! answered with null.

use alloc::boxed::Box;
use core::fmt;

/// The raw JSON text of an id: a number, a string with its quotes, or `null`.
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct Id<'a>(&'a [u8]);

/// An [`Id`] that outlives its line: up to [`ID_BYTES_INLINE`] bytes without allocation.
#[derive(Clone, PartialEq, Eq)]
pub struct IdOwned(Stored);

/// The longest id that is echoed, in bytes of JSON text. A UUID in quotes takes 38; a connection
/// may have many replies queued, so a longer one would let a peer make us store its text.
pub const ID_BYTES_MAX: usize = 128;

/// The longest id that an [`IdOwned`] keeps without allocating: any 64-bit number fits.
pub const ID_BYTES_INLINE: usize = 22;

impl<'a> Id<'a> {
    /// The id of a request that has none.
    pub const NULL: Id<'static> = Id(b"null");

    /// Takes the raw JSON text of an id. The caller has checked its kind and its length.
    pub(super) fn from_raw(raw: &'a str) -> Id<'a> {
        debug_assert!(raw.len() <= ID_BYTES_MAX);
        Id(raw.as_bytes())
    }

    /// The JSON text, as the miner wrote it.
    pub fn as_bytes(&self) -> &'a [u8] {
        self.0
    }

    /// True where the id is null or was missing.
    pub fn is_null(&self) -> bool {
        self.0 == b"null"
    }

    /// The id as a number, where it is a plain one.
    pub fn as_u64(&self) -> Option<u64> {
        core::str::from_utf8(self.0).ok()?.parse().ok()
    }

    /// Keeps the id beyond its line.
    pub fn to_owned(&self) -> IdOwned {
        let mut inline = [0; ID_BYTES_INLINE];
        IdOwned(match inline.get_mut(..self.0.len()) {
            Some(front) => {
                front.copy_from_slice(self.0);
                Stored::Inline { len: self.0.len() as u8, bytes: inline }
            }
            None => Stored::Boxed(self.0.into()),
        })
    }
}

impl IdOwned {
    /// The id, to be written.
    pub fn as_id(&self) -> Id<'_> {
        match &self.0 {
            Stored::Inline { len, bytes } => Id(&bytes[..usize::from(*len)]),
            Stored::Boxed(bytes) => Id(bytes),
        }
    }
}

impl fmt::Debug for Id<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Id({})", self.0.escape_ascii())
    }
}

impl fmt::Debug for IdOwned {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.as_id().fmt(f)
    }
}

impl From<Id<'_>> for IdOwned {
    fn from(id: Id<'_>) -> IdOwned {
        id.to_owned()
    }
}

/// Invariant: `len <= ID_BYTES_INLINE`.
#[derive(Clone, PartialEq, Eq)]
enum Stored {
    Boxed(Box<[u8]>),
    Inline { len: u8, bytes: [u8; ID_BYTES_INLINE] },
}

const _: () = assert!(size_of::<IdOwned>() == 24);
