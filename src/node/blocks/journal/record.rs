//! The bytes of the journal: the head of the file, and the head of a record.
//!
//! ```text
//! file    0  head: magic, format, chain, salt, checksum                          (one grain)
//!      4096  record: head (512 bytes), the block's bytes, up to the next grain
//!         …  records and free grains, in any order
//!
//! record  0  magic   8  state   16  sequence   24  length   28  height   32  found (µs since 1970)
//!        40  hash   72  the finder's name, with its length before it   480  checksum
//! ```
//!
//! Numbers are little-endian. The state is outside the checksum: it is the one byte that changes
//! later. The checksum begins with the file's secret salt, so that nobody can hide a record inside
//! a transaction; it covers the head and the block, so that a torn record is none.

use std::sync::Arc;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use pow::{Hash256, Kernel};

use crate::link::BlockFacts;

/// Records begin at multiples of this: a page, which a disk writes whole or not at all.
pub(super) const GRAIN: u64 = 4_096;
/// Bytes of a head, of the file or of a record: one sector.
pub(super) const HEAD_BYTES: usize = 512;
/// Where a record's state stands in its head.
pub(super) const STATE_AT: u64 = 8;
/// Bytes of the salt.
pub(super) const SALT_BYTES: usize = 16;
/// The format that this version writes and reads.
const FORMAT: u32 = 1;

const FILE_MAGIC: [u8; 8] = *b"HEADFRBJ";
const RECORD_MAGIC: [u8; 8] = *b"HFBLOCK\n";
const CHECKSUM_AT: usize = 480;
const NAME_AT: usize = 72;
const CHAIN_BYTES_MAX: usize = 31;
/// Names are for people; a longer one is cut.
const NAME_BYTES_MAX: usize = 255;

const _: () = assert!(NAME_AT + 1 + NAME_BYTES_MAX <= CHECKSUM_AT);
const _: () = assert!(CHECKSUM_AT + 32 == HEAD_BYTES);

/// What stands at the file's beginning.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct FileHead {
    /// The chain that the blocks belong to.
    pub(super) chain: String,
    /// What checksums begin with.
    pub(super) salt: [u8; SALT_BYTES],
}

/// Why a file is not a journal that can be read.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum HeadFault {
    /// It is no journal, or a damaged one.
    Unreadable,
    /// Another version of Headframe wrote it.
    Format(u32),
}

/// A record's state.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum State {
    /// To be sent.
    Pending,
    /// Over: its place is free.
    Settled,
    /// Over, but kept to be looked at while there is room.
    Refused,
}

/// A record without its block.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct RecordHead {
    pub(super) state: State,
    pub(super) sequence: u64,
    pub(super) length: u32,
    pub(super) found: SystemTime,
    pub(super) facts: Arc<BlockFacts>,
}

impl FileHead {
    pub(super) fn encode(&self) -> [u8; HEAD_BYTES] {
        let mut bytes = [0; HEAD_BYTES];
        let chain = &self.chain.as_bytes()[..self.chain.len().min(CHAIN_BYTES_MAX)];
        bytes[..8].copy_from_slice(&FILE_MAGIC);
        bytes[8..12].copy_from_slice(&FORMAT.to_le_bytes());
        bytes[12] = chain.len() as u8;
        bytes[13..13 + chain.len()].copy_from_slice(chain);
        bytes[48..48 + SALT_BYTES].copy_from_slice(&self.salt);
        let sum = Kernel::detect().sha256d(&bytes[..CHECKSUM_AT]);
        bytes[CHECKSUM_AT..].copy_from_slice(&sum.0);
        bytes
    }

    pub(super) fn decode(bytes: &[u8; HEAD_BYTES]) -> Result<FileHead, HeadFault> {
        if bytes[..8] != FILE_MAGIC {
            return Err(HeadFault::Unreadable);
        }
        // Magic and format stand where they stand in every version.
        let format = u32_at(bytes, 8);
        if format != FORMAT {
            return Err(HeadFault::Format(format));
        }
        let sum = Kernel::detect().sha256d(&bytes[..CHECKSUM_AT]);
        let chain = bytes.get(13..13 + usize::from(bytes[12]));
        let chain = chain.and_then(|chain| String::from_utf8(chain.to_vec()).ok());
        match chain {
            Some(chain) if bytes[CHECKSUM_AT..] == sum.0 => {
                let mut salt = [0; SALT_BYTES];
                salt.copy_from_slice(&bytes[48..48 + SALT_BYTES]);
                Ok(FileHead { chain, salt })
            }
            _ => Err(HeadFault::Unreadable),
        }
    }
}

impl State {
    pub(super) fn byte(self) -> u8 {
        match self {
            State::Pending => b'P',
            State::Settled => b'S',
            State::Refused => b'R',
        }
    }

    /// Whatever is not known to be over is sent again: that costs nothing.
    fn of(byte: u8) -> State {
        match byte {
            b'S' => State::Settled,
            b'R' => State::Refused,
            _ => State::Pending,
        }
    }
}

impl RecordHead {
    /// The head of a record for these block bytes.
    pub(super) fn encode(&self, salt: &[u8; SALT_BYTES], block: &[u8]) -> [u8; HEAD_BYTES] {
        assert_eq!(self.length as usize, block.len());
        let mut bytes = [0; HEAD_BYTES];
        let found = self.found.duration_since(UNIX_EPOCH).unwrap_or_default().as_micros() as u64;
        let name = cut(&self.facts.worker, NAME_BYTES_MAX).as_bytes();
        bytes[..8].copy_from_slice(&RECORD_MAGIC);
        bytes[STATE_AT as usize] = self.state.byte();
        bytes[16..24].copy_from_slice(&self.sequence.to_le_bytes());
        bytes[24..28].copy_from_slice(&self.length.to_le_bytes());
        bytes[28..32].copy_from_slice(&self.facts.height.to_le_bytes());
        bytes[32..40].copy_from_slice(&found.to_le_bytes());
        bytes[40..72].copy_from_slice(&self.facts.hash.0);
        bytes[NAME_AT] = name.len() as u8;
        bytes[NAME_AT + 1..NAME_AT + 1 + name.len()].copy_from_slice(name);
        let sum = checksum(salt, &bytes, block);
        bytes[CHECKSUM_AT..].copy_from_slice(&sum);
        bytes
    }

    /// What a head says, if it is one; whether it is true, [`is_whole`] tells.
    pub(super) fn decode(bytes: &[u8; HEAD_BYTES]) -> Option<RecordHead> {
        if bytes[..8] != RECORD_MAGIC {
            return None;
        }
        let mut hash = [0; 32];
        hash.copy_from_slice(&bytes[40..72]);
        let name = &bytes[NAME_AT + 1..NAME_AT + 1 + usize::from(bytes[NAME_AT])];
        let found = UNIX_EPOCH.checked_add(Duration::from_micros(u64_at(bytes, 32)));
        let facts = BlockFacts {
            hash: Hash256(hash),
            height: u32_at(bytes, 28),
            worker: String::from_utf8_lossy(name).into(),
        };
        Some(RecordHead {
            state: State::of(bytes[STATE_AT as usize]),
            sequence: u64_at(bytes, 16),
            length: u32_at(bytes, 24),
            found: found.unwrap_or(UNIX_EPOCH),
            facts: Arc::new(facts),
        })
    }
}

/// Whether a head and its block were written together, to the last byte.
pub(super) fn is_whole(head: &[u8; HEAD_BYTES], salt: &[u8; SALT_BYTES], block: &[u8]) -> bool {
    head[CHECKSUM_AT..] == checksum(salt, head, block)
}

/// Bytes that a record takes in the file.
pub(super) fn extent(length: u64) -> u64 {
    (HEAD_BYTES as u64 + length).next_multiple_of(GRAIN)
}

fn checksum(salt: &[u8; SALT_BYTES], head: &[u8; HEAD_BYTES], block: &[u8]) -> [u8; 32] {
    let kernel = Kernel::detect();
    let mut covered = Vec::with_capacity(HEAD_BYTES + 64);
    covered.extend_from_slice(salt);
    covered.extend_from_slice(&head[16..CHECKSUM_AT]);
    covered.extend_from_slice(&kernel.sha256d(block).0);
    kernel.sha256d(&covered).0
}

/// At most so many bytes of a text, not splitting a character.
fn cut(text: &str, bytes_max: usize) -> &str {
    &text[..text.floor_char_boundary(bytes_max)]
}

fn u32_at(bytes: &[u8; HEAD_BYTES], at: usize) -> u32 {
    u32::from_le_bytes([bytes[at], bytes[at + 1], bytes[at + 2], bytes[at + 3]])
}

fn u64_at(bytes: &[u8; HEAD_BYTES], at: usize) -> u64 {
    u64::from(u32_at(bytes, at)) | u64::from(u32_at(bytes, at + 4)) << 32
}
