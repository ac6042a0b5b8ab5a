//! The journal over a storage that crashes after any write, writes short, fails and lies torn; and
//! the file as it is found, made, and put aside.

use std::fs;
use std::sync::atomic::{AtomicUsize, Ordering::Relaxed};

use proptest::prelude::*;

use super::*;

const SALT: [u8; SALT_BYTES] = *b"nobody knows it!";
const BYTES: u64 = 40 * GRAIN;

/// Memory that outlives its writer, as a file outlives a process.
#[derive(Clone, Default)]
struct Memory {
    bytes: Arc<Mutex<Vec<u8>>>,
    /// So many write calls still happen; after them the process is dead.
    writes_left: Arc<AtomicUsize>,
    /// Bytes that one call takes at most; 0 for all.
    short: usize,
}

impl Memory {
    fn new() -> Memory {
        let bytes = Arc::new(Mutex::new(vec![0; BYTES as usize]));
        Memory { bytes, writes_left: Arc::new(AtomicUsize::new(usize::MAX)), short: 0 }
    }

    fn read(&self) -> (Book, Vec<JournaledBlock>) {
        self.read_since(SystemTime::now() + SETTLED_KEPT)
    }

    /// With what was settled and found since then.
    fn read_since(&self, settled_since: SystemTime) -> (Book, Vec<JournaledBlock>) {
        let (book, left, unreadable) = Book::read(self, SALT, BYTES, settled_since);
        assert_eq!(unreadable, 0);
        (book, left)
    }

    fn hashes(&self) -> Vec<Hash256> {
        self.read().1.iter().map(|block| block.facts.hash).collect()
    }
}

impl Storage for Memory {
    fn read_at(&self, into: &mut [u8], at: u64) -> io::Result<usize> {
        let bytes = self.bytes.lock().expect("no test panics with it");
        let from = bytes.get(at as usize..).unwrap_or_default();
        let count = from.len().min(into.len());
        into[..count].copy_from_slice(&from[..count]);
        Ok(count)
    }

    fn write_at(&self, bytes: &[u8], at: u64) -> io::Result<usize> {
        let alive = self.writes_left.fetch_update(Relaxed, Relaxed, |left| left.checked_sub(1));
        if alive.is_err() {
            return Err(io::Error::from(io::ErrorKind::StorageFull));
        }
        let count = if self.short == 0 { bytes.len() } else { bytes.len().min(self.short) };
        let place = at as usize..at as usize + count;
        self.bytes.lock().expect("no test panics with it")[place].copy_from_slice(&bytes[..count]);
        Ok(count)
    }

    fn sync(&self) -> io::Result<()> {
        Ok(())
    }
}

/// A block of so many bytes whose header is of its own.
fn block(nth: u32, length: usize) -> (Arc<BlockFacts>, Vec<u8>) {
    let mut bytes = vec![0x5a; length.max(80)];
    bytes[..4].copy_from_slice(&nth.to_le_bytes());
    let hash = pow::Kernel::detect().sha256d(&bytes[..80]);
    (Arc::new(BlockFacts { hash, height: nth, worker: format!("rig.{nth}").into() }), bytes)
}

fn write(storage: &Memory, book: &mut Book, nth: u32, length: usize) -> Result<Hash256, String> {
    let (facts, bytes) = block(nth, length);
    let hash = facts.hash;
    write_record(storage, book, facts, &bytes, SystemTime::now()).map(|()| hash)
}

fn settle(storage: &Memory, book: &mut Book, hash: Hash256, refused: bool) {
    settle_record(storage, book, SettledBlock { hash, refused });
}

#[test]
fn what_was_written_comes_back_whole_and_in_its_order_until_it_is_settled() {
    let storage = Memory::new();
    let mut book = Book::new(SALT, BYTES);
    let hashes: Vec<Hash256> = (1..=4)
        .map(|nth| write(&storage, &mut book, nth, 5_000 * nth as usize).expect("room"))
        .collect();
    let (_, left) = storage.read();
    for (nth, found) in (1..).zip(&left) {
        let (facts, bytes) = block(nth, 5_000 * nth as usize);
        assert_eq!((&found.facts, &*found.bytes), (&facts, &*bytes));
        assert!(found.found.elapsed().expect("just now").as_secs() < 60);
    }
    assert_eq!(storage.hashes(), hashes);
    settle(&storage, &mut book, hashes[1], false);
    settle(&storage, &mut book, hashes[3], true);
    assert_eq!(storage.hashes(), [hashes[0], hashes[2]]);
    // A later process goes on where this one stood: numbers rise, the refused one is kept.
    let (mut book, _) = storage.read();
    assert_eq!(book.len(), 3);
    let newest = write(&storage, &mut book, 9, 100).expect("room");
    assert_eq!(storage.hashes(), [hashes[0], hashes[2], newest]);
    assert!(write(&storage, &mut book, 9, 100).is_ok(), "what is there is not written twice");
    assert_eq!(storage.read().0.len(), 4);
}

#[test]
fn what_was_settled_lately_is_sent_again_and_takes_no_room() {
    let storage = Memory::new();
    let mut book = Book::new(SALT, BYTES);
    let hashes: Vec<Hash256> =
        (1..=20).map(|nth| write(&storage, &mut book, nth, 100).expect("room")).collect();
    for hash in &hashes[..19] {
        settle(&storage, &mut book, *hash, false);
    }
    let (book, left) = storage.read_since(SystemTime::now() - SETTLED_KEPT);
    let left: Vec<_> = left.iter().map(|block| block.facts.hash).collect();
    assert_eq!(left, hashes[19 - SETTLED_KEPT_MAX..], "the newest, and what is not settled");
    assert_eq!(book.len(), 1);
    assert_eq!(storage.hashes(), hashes[19..], "what was settled long ago is over");
}

#[test]
fn a_full_journal_says_so_and_the_oldest_refused_gives_way() {
    let storage = Memory::new();
    let mut book = Book::new(SALT, BYTES);
    // 39 grains are for records; each of these takes ten.
    let length = 10 * GRAIN as usize - HEAD_BYTES;
    let hashes: Vec<Hash256> =
        (1..=3).map(|nth| write(&storage, &mut book, nth, length).expect("room")).collect();
    let full = write(&storage, &mut book, 4, length).expect_err("nine grains are left");
    assert!(full.contains("3 unsettled blocks fill the journal"), "{full}");
    let small = write(&storage, &mut book, 5, 1_000).expect("there is room for a small one");
    settle(&storage, &mut book, hashes[1], true);
    let (mut book, _) = storage.read();
    let fourth = write(&storage, &mut book, 4, length).expect("the refused one has given way");
    assert_eq!(storage.hashes(), [hashes[0], hashes[2], small, fourth]);
    assert!(write(&storage, &mut book, 6, length).is_err());
    settle(&storage, &mut book, hashes[0], false);
    let sixth = write(&storage, &mut book, 6, length).expect("a settled one has given way");
    assert_eq!(storage.hashes(), [hashes[2], small, fourth, sixth]);
}

#[test]
fn a_record_with_any_byte_wrong_is_none_and_harms_no_other() {
    let storage = Memory::new();
    let mut book = Book::new(SALT, BYTES);
    write(&storage, &mut book, 1, 9_000).expect("room");
    let second = write(&storage, &mut book, 2, 9_000).expect("room");
    let intact = storage.bytes.lock().expect("alone").clone();
    let from = GRAIN as usize;
    // The state, the padding and what nobody reads are not covered.
    let covered = (0..8).chain(16..HEAD_BYTES + 9_000);
    for at in covered.step_by(7).map(|at| from + at) {
        let mut torn = intact.clone();
        torn[at] ^= 0x10;
        *storage.bytes.lock().expect("alone") = torn;
        assert_eq!(storage.hashes(), [second], "byte {at}");
    }
}

#[test]
fn nobody_can_hide_a_record_inside_a_block() {
    let storage = Memory::new();
    let mut book = Book::new(SALT, BYTES);
    let (inner, inner_bytes) = block(66, 200);
    let (state, found) = (State::Pending, SystemTime::now());
    let head = RecordHead { state, sequence: 7, length: 200, found, facts: inner };
    // Whoever writes a transaction does not know the salt.
    let head = head.encode(&[0; SALT_BYTES], &inner_bytes);
    let (_, mut bytes) = block(1, 3 * GRAIN as usize);
    let grain = GRAIN as usize - HEAD_BYTES;
    bytes[grain..grain + HEAD_BYTES].copy_from_slice(&head);
    bytes[grain + HEAD_BYTES..grain + HEAD_BYTES + 200].copy_from_slice(&inner_bytes);
    let (facts, _) = block(1, 80);
    write_record(&storage, &mut book, facts, &bytes, SystemTime::now()).expect("room");
    storage.bytes.lock().expect("alone")[GRAIN as usize + 600] ^= 1;
    assert!(storage.hashes().is_empty());
}

#[derive(Clone, Debug)]
enum Step {
    Write(usize),
    Settle(usize, bool),
    Restart,
}

fn step() -> impl Strategy<Value = Step> {
    prop_oneof![
        4 => (80..30_000usize).prop_map(Step::Write),
        3 => (any::<usize>(), any::<bool>()).prop_map(|(nth, refused)| Step::Settle(nth, refused)),
        1 => Just(Step::Restart),
    ]
}

proptest! {
    #![proptest_config(ProptestConfig {
        cases: 256,
        failure_persistence: None,
        ..ProptestConfig::default()
    })]

    /// Whatever a process does, and after whichever write call it dies: what it was told to be
    /// written and has not settled comes back; what it has settled does not; nothing else does.
    #[test]
    fn a_crash_after_any_write_loses_nothing_that_was_written(
        steps in prop::collection::vec(step(), 1..40),
        crash in 0..120usize,
        short in prop_oneof![Just(0), 1_000..20_000usize],
    ) {
        let mut storage = Memory::new();
        storage.short = short;
        storage.writes_left.store(crash, Relaxed);
        let mut book = Book::new(SALT, BYTES);
        let mut kept: Vec<Hash256> = Vec::new();
        // The mark of a settled one may be lost with the crash: sent again, it is a duplicate.
        let mut settled: Vec<Hash256> = Vec::new();
        for (nth, step) in (1..).zip(steps) {
            match step {
                Step::Write(length) => {
                    if let Ok(hash) = write(&storage, &mut book, nth, length) {
                        kept.push(hash);
                    }
                }
                Step::Settle(nth, refused) if !kept.is_empty() => {
                    let hash = kept.remove(nth % kept.len());
                    let alive = storage.writes_left.load(Relaxed) > 0;
                    settle(&storage, &mut book, hash, refused);
                    if !alive {
                        settled.push(hash);
                    }
                }
                Step::Settle(..) => {}
                Step::Restart => book = storage.read().0,
            }
        }
        let found = storage.hashes();
        let unsettled: Vec<Hash256> =
            found.iter().copied().filter(|hash| !settled.contains(hash)).collect();
        prop_assert_eq!(unsettled, kept);
    }
}

#[test]
fn a_write_that_fails_leaves_its_place_and_is_made_elsewhere() {
    let storage = Memory::new();
    let mut book = Book::new(SALT, BYTES);
    storage.writes_left.store(1, Relaxed);
    let failed = write(&storage, &mut book, 1, 9_000).expect_err("the head does not fit");
    assert!(failed.contains("the write failed"), "{failed}");
    storage.writes_left.store(usize::MAX, Relaxed);
    let again = write(&storage, &mut book, 1, 9_000).expect("it works again");
    assert_eq!(storage.hashes(), [again]);
    assert!(book.place_of(&again) > Some(GRAIN), "another place: that one may be bad");
}

#[test]
fn the_file_is_made_once_and_has_its_room() {
    let folder = tempfile::tempdir().expect("a folder");
    let (journal, left) = Journal::open(folder.path(), "main").expect("made");
    assert!(left.is_empty() && journal.warnings().is_empty());
    let made = fs::metadata(folder.path().join(FILE)).expect("there");
    assert_eq!(made.len(), JOURNAL_BYTES);
    drop(journal);
    let (journal, _) = Journal::open(folder.path(), "main").expect("opened again");
    assert!(journal.warnings().is_empty());
    let missing = folder.path().join("missing");
    let error = Journal::open(&missing, "main").expect_err("no folder").to_string();
    assert!(error.contains("64 MiB") && error.contains("[state] directory"), "{error}");
}

/// Leaves one block in the folder's journal of a chain.
fn leave(folder: &Path, chain: &str, nth: u32) -> Hash256 {
    let (journal, _) = Journal::open_sized(folder, chain, BYTES).expect("opened");
    let Journal { storage, mut book, .. } = journal;
    let (facts, bytes) = block(nth, 5_000);
    let hash = facts.hash;
    write_record(&*storage, &mut book, facts, &bytes, SystemTime::now()).expect("room");
    hash
}

fn reopened(folder: &Path, chain: &str) -> (Vec<Hash256>, Vec<String>) {
    let (journal, left) = Journal::open_sized(folder, chain, BYTES).expect("opened");
    (left.iter().map(|block| block.facts.hash).collect(), journal.warnings)
}

#[test]
fn each_chain_has_its_own_journal_and_finds_it_again() {
    let folder = tempfile::tempdir().expect("a folder");
    let on_main = leave(folder.path(), "main", 1);
    let (left, warnings) = reopened(folder.path(), "regtest");
    assert!(left.is_empty() && warnings[0].contains("the chain main"), "{warnings:?}");
    let on_regtest = leave(folder.path(), "regtest", 2);
    assert_eq!(reopened(folder.path(), "main").0, [on_main]);
    assert_eq!(reopened(folder.path(), "main").0, [on_main], "read is not settled");
    assert_eq!(reopened(folder.path(), "regtest").0, [on_regtest]);
}

#[test]
fn only_a_journal_that_is_not_there_yet_needs_room() {
    let folder = tempfile::tempdir().expect("a folder");
    let needed = |chain| Journal::room_needed(folder.path(), chain);
    assert_eq!(needed("main"), JOURNAL_BYTES);
    leave(folder.path(), "main", 1);
    assert_eq!((needed("main"), needed("regtest")), (0, JOURNAL_BYTES));
    leave(folder.path(), "regtest", 2);
    assert_eq!((needed("main"), needed("regtest")), (0, 0), "one sleeps under its chain's name");
    fs::write(folder.path().join(FILE), "no journal").expect("written");
    assert_eq!((needed("main"), needed("regtest")), (0, JOURNAL_BYTES));
    assert_eq!(Journal::room_needed(&folder.path().join("missing"), "main"), JOURNAL_BYTES);
}

#[test]
fn what_cannot_be_read_is_put_aside_and_said() {
    let changes: [(usize, u8, &str); 3] =
        [(0, 0xff, "unreadable"), (8, 0x02, "format-3"), (481, 0xff, "unreadable")];
    for (at, flip, name) in changes {
        let folder = tempfile::tempdir().expect("a folder");
        leave(folder.path(), "main", 1);
        let path = folder.path().join(FILE);
        let mut bytes = fs::read(&path).expect("read");
        bytes[at] ^= flip;
        fs::write(&path, &bytes).expect("written");
        let (left, warnings) = reopened(folder.path(), "main");
        assert!(left.is_empty() && warnings[0].contains(name), "{warnings:?}");
        let aside = folder.path().join(format!("{FILE}.{name}"));
        assert_eq!(fs::read(aside).expect("kept"), bytes);
    }
}

#[test]
fn what_was_put_aside_before_is_never_written_over() {
    let folder = tempfile::tempdir().expect("a folder");
    let path = folder.path().join(FILE);
    let mut kept = Vec::new();
    for nonce in 1..=3 {
        leave(folder.path(), "main", nonce);
        let mut bytes = fs::read(&path).expect("read");
        bytes[0] ^= 0xff;
        fs::write(&path, &bytes).expect("written");
        kept.push(bytes);
        assert!(reopened(folder.path(), "main").0.is_empty());
    }
    let names = ["unreadable", "unreadable.2", "unreadable.3"];
    for (name, bytes) in names.into_iter().zip(kept) {
        let aside = folder.path().join(format!("{FILE}.{name}"));
        assert!(fs::read(aside).expect("kept") == bytes, "{name}");
    }
}

#[test]
fn a_file_that_was_cut_short_gives_what_is_left() {
    let folder = tempfile::tempdir().expect("a folder");
    let first = leave(folder.path(), "main", 1);
    leave(folder.path(), "main", 2);
    let path = folder.path().join(FILE);
    let file = OpenOptions::new().write(true).open(&path).expect("there");
    file.set_len(3 * GRAIN + 100).expect("cut");
    let (left, warnings) = reopened(folder.path(), "main");
    assert_eq!(left, [first]);
    assert!(warnings[0].contains("cut short"), "{warnings:?}");
    assert_eq!(fs::metadata(&path).expect("there").len(), BYTES, "its room is back");
}

#[test]
fn a_pipe_in_its_place_is_put_aside_and_not_waited_for() {
    let folder = tempfile::tempdir().expect("a folder");
    let path = folder.path().join(FILE);
    let made = std::process::Command::new("mkfifo").arg(&path).status().expect("mkfifo runs");
    assert!(made.success());
    let (left, warnings) = reopened(folder.path(), "main");
    assert!(left.is_empty() && warnings[0].contains("put aside"), "{warnings:?}");
    assert!(fs::metadata(&path).expect("a new one").is_file());
}

#[test]
fn a_journal_that_was_deleted_takes_no_block_for_safe() {
    let folder = tempfile::tempdir().expect("a folder");
    let (journal, _) = Journal::open_sized(folder.path(), "main", BYTES).expect("opened");
    let Journal { storage, mut book, .. } = journal;
    let (facts, bytes) = block(1, 100);
    let write = |book: &mut Book, (facts, bytes): (Arc<BlockFacts>, Vec<u8>)| {
        write_record(&*storage, book, facts, &bytes, SystemTime::now())
    };
    assert_eq!(write(&mut book, (facts, bytes)), Ok(()));
    fs::remove_file(folder.path().join(FILE)).expect("it was there");
    let refused = write(&mut book, block(2, 100)).expect_err("a later process cannot find it");
    assert!(refused.contains("deleted"), "{refused}");
}
