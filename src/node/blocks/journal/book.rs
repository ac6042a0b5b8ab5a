//! Which parts of the file are taken, and by what; how the file is read at the start.
//!
//! A record never moves. Its place is free again once it is settled, and what was settled lately is
//! sent again for as long as nobody has written over it; a refused one is kept until its place is
//! needed. What an unsettled record stands on is never written to.

use std::collections::BTreeMap;
use std::io;
use std::sync::Arc;
use std::time::SystemTime;

use pow::{Hash256, Kernel};

use super::record::{GRAIN, HEAD_BYTES, RecordHead, SALT_BYTES, State, extent, is_whole};
use super::storage::{Storage, read_all};
use super::{JournaledBlock, SETTLED_KEPT_MAX};

/// No block is larger (4,000,000 weight units), nor has fewer bytes than a header.
const BLOCK_BYTES_MAX: u32 = 4_000_000;
const HEADER_BYTES: u32 = 80;

/// The file's map.
pub(super) struct Book {
    salt: [u8; SALT_BYTES],
    bytes: u64,
    /// By where it begins.
    taken: BTreeMap<u64, Entry>,
    next_sequence: u64,
    /// Where the next record is looked a place for.
    cursor: u64,
}

#[derive(Clone, Copy, Debug)]
struct Entry {
    extent: u64,
    hash: Hash256,
    sequence: u64,
    refused: bool,
}

impl Book {
    /// The map of an empty file of so many bytes.
    pub(super) fn new(salt: [u8; SALT_BYTES], bytes: u64) -> Book {
        Book { salt, bytes, taken: BTreeMap::new(), next_sequence: 1, cursor: GRAIN }
    }

    /// Reads a whole file: its map, the blocks in it that are to be sent, oldest first, and how
    /// many places could not be read. To be sent is what is not settled, and of what is settled
    /// but was found after `settled_since` the newest [`SETTLED_KEPT_MAX`].
    pub(super) fn read(
        storage: &dyn Storage,
        salt: [u8; SALT_BYTES],
        bytes: u64,
        settled_since: SystemTime,
    ) -> (Book, Vec<JournaledBlock>, usize) {
        let mut book = Book::new(salt, bytes);
        let mut unreadable = 0;
        let mut pending: BTreeMap<u64, JournaledBlock> = BTreeMap::new();
        let mut settled: BTreeMap<u64, JournaledBlock> = BTreeMap::new();
        let mut at = GRAIN;
        while at + GRAIN <= bytes {
            let record = read_record(storage, &salt, at, bytes);
            unreadable += usize::from(record.is_err());
            let Ok(Some((head, block))) = record else {
                at += GRAIN;
                continue;
            };
            let extent = extent(u64::from(head.length));
            book.next_sequence = book.next_sequence.max(head.sequence.saturating_add(1));
            let RecordHead { state, sequence, facts, found, .. } = head;
            let hash = facts.hash;
            let left = JournaledBlock { bytes: block, facts, found };
            if state == State::Settled {
                if found >= settled_since {
                    settled.insert(sequence, left);
                }
                if settled.len() > SETTLED_KEPT_MAX {
                    settled.pop_first();
                }
            } else if book.place_of(&hash).is_none() {
                let refused = state == State::Refused;
                book.taken.insert(at, Entry { extent, hash, sequence, refused });
                if !refused {
                    pending.insert(sequence, left);
                }
            }
            at += extent;
        }
        pending.append(&mut settled);
        (book, pending.into_values().collect(), unreadable)
    }

    /// Finds a place for a block and takes it: where, and the record's number. None if unsettled
    /// records leave no room.
    pub(super) fn take(&mut self, hash: Hash256, length: usize) -> Option<(u64, u64)> {
        let extent = extent(length as u64);
        let at = loop {
            let found = self.gap(self.cursor, extent).or_else(|| self.gap(GRAIN, extent));
            match found {
                Some(at) => break at,
                None => self.drop_oldest_refused()?,
            }
        };
        let sequence = self.next_sequence;
        self.next_sequence += 1;
        self.cursor = at + extent;
        self.taken.insert(at, Entry { extent, hash, sequence, refused: false });
        Some((at, sequence))
    }

    /// The first free place of that extent at or after `from`.
    fn gap(&self, from: u64, extent: u64) -> Option<u64> {
        let before = self.taken.range(..from).next_back();
        let mut at = from.max(before.map_or(GRAIN, |(at, entry)| at + entry.extent));
        for (start, entry) in self.taken.range(from..) {
            if at + extent <= *start {
                break;
            }
            at = start + entry.extent;
        }
        (at + extent <= self.bytes).then_some(at)
    }

    fn drop_oldest_refused(&mut self) -> Option<()> {
        let refused = self.taken.iter().filter(|(_, entry)| entry.refused);
        let oldest = refused.min_by_key(|(_, entry)| entry.sequence).map(|(at, _)| *at)?;
        self.taken.remove(&oldest).map(drop)
    }

    /// Where the record of a block begins.
    pub(super) fn place_of(&self, hash: &Hash256) -> Option<u64> {
        self.taken.iter().find(|(_, entry)| entry.hash == *hash).map(|(at, _)| *at)
    }

    /// The record there is over.
    pub(super) fn settle(&mut self, at: u64, refused: bool) {
        match self.taken.get_mut(&at) {
            Some(entry) if refused => entry.refused = true,
            Some(_) => drop(self.taken.remove(&at)),
            None => {}
        }
    }

    /// Records that hold their places, refused ones included.
    pub(super) fn len(&self) -> usize {
        self.taken.len()
    }

    pub(super) fn salt(&self) -> &[u8; SALT_BYTES] {
        &self.salt
    }
}

/// The record that begins there, if a whole one does.
fn read_record(
    storage: &dyn Storage,
    salt: &[u8; SALT_BYTES],
    at: u64,
    end: u64,
) -> io::Result<Option<(RecordHead, Arc<[u8]>)>> {
    let mut bytes = [0; HEAD_BYTES];
    if !read_all(storage, &mut bytes, at)? {
        return Ok(None);
    }
    let Some(head) = RecordHead::decode(&bytes) else { return Ok(None) };
    let possible = (HEADER_BYTES..=BLOCK_BYTES_MAX).contains(&head.length);
    if !possible || at + extent(u64::from(head.length)) > end {
        return Ok(None);
    }
    let mut block = vec![0; head.length as usize];
    if !read_all(storage, &mut block, at + HEAD_BYTES as u64)? || !is_whole(&bytes, salt, &block) {
        return Ok(None);
    }
    let header = &block[..HEADER_BYTES as usize];
    let true_hash = Kernel::detect().sha256d(header) == head.facts.hash;
    Ok(true_hash.then(|| (head, block.into())))
}
