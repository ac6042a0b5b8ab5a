//! The journal: found blocks on disk, whole, from before they are sent until they are settled.
//!
//! One preallocated file in the state folder, so that a full disk takes no room from it. A record
//! is written by its own thread and synced by another: a `write()` outlives the process, the sync
//! outlives a loss of power, and neither is waited for by anything but the clerk. A record whose
//! block is settled is marked by one byte; a torn one is no record.
//!
//! What is not here: when a block is settled (`farm::blocks`), and how long one may wait (`clerk`).

mod book;
mod record;
pub(crate) mod storage;
#[cfg(test)]
mod tests;

use std::collections::VecDeque;
use std::fmt;
use std::fs::{File, OpenOptions, rename};
use std::io::{self, Read};
use std::iter;
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::thread;
use std::time::{Duration, Instant, SystemTime};

use pow::Hash256;
use rustix::fs::{FallocateFlags, fallocate};
use rustix::io::Errno;

use self::book::Book;
use self::record::{
    FileHead, GRAIN, HEAD_BYTES, HeadFault, RecordHead, SALT_BYTES, STATE_AT, State,
};
use self::storage::{Storage, read_all, write_all};
use crate::link::{BlockFacts, SettledBlock};

/// Blocks that were settled so recently are sent once more by the next process: a node that lost
/// power may have lost what it had taken, and perhaps no peer of it has the block.
const SETTLED_KEPT: Duration = Duration::from_secs(600);
/// So many of them, the newest: as many as may be with the nodes at once.
const SETTLED_KEPT_MAX: usize = 16;
/// The file's size: room for 16 blocks of the largest size at once, which is what may be with the
/// nodes unanswered; of usual blocks it holds twice as many, of a test chain's thousands.
pub const JOURNAL_BYTES: u64 = 64 << 20;
/// Bytes of blocks that wait for a disk that hangs. What comes beyond is sent unwritten.
const WAITING_BYTES_MAX: usize = JOURNAL_BYTES as usize;
/// The file's name in the state folder.
const FILE: &str = "blocks.journal";
/// Its name while it is being made: it gets its own once it is whole.
const FILE_NEW: &str = "blocks.journal.new";

const _: () = assert!(JOURNAL_BYTES >= GRAIN + 16 * (4_000_000 + 2 * GRAIN));

/// A block that an earlier process has left in the journal.
#[derive(Clone, Debug)]
pub struct JournaledBlock {
    /// The serialised block.
    pub bytes: Arc<[u8]>,
    /// Its hash, its height, its finder.
    pub facts: Arc<BlockFacts>,
    /// When it was written down.
    pub found: SystemTime,
}

/// The journal of one chain, opened and read, its threads not started yet.
pub struct Journal {
    storage: Arc<dyn Storage>,
    book: Book,
    warnings: Vec<String>,
}

/// Why there is no journal: the host's or the operator's to mend.
#[derive(Debug)]
pub struct JournalError {
    path: PathBuf,
    cause: io::Error,
}

/// What the journal tells of one block.
pub(super) struct News {
    pub(super) hash: Hash256,
    pub(super) what: What,
}

/// What happened to a record.
pub(super) enum What {
    /// It outlives this process.
    Written,
    /// It outlives a loss of power.
    Durable,
    /// It could not be written.
    Unwritten(Arc<str>),
    /// It is written, but could not be synced.
    Unsynced(Arc<str>),
}

/// Takes the journal's news, on its threads. It must not block.
pub(super) type OnNews = Arc<dyn Fn(News) + Send + Sync>;

impl Journal {
    /// Opens the journal in a state folder that is this process's alone, or makes it; gives the
    /// blocks of that chain that are not settled or were so lately, oldest first. A journal of
    /// another chain is put aside under that chain's name and found again when it is that chain's
    /// turn; one that this version cannot read is put aside too, and [`Journal::warnings`] says so.
    ///
    /// # Errors
    /// The folder cannot be written, or has no room for [`JOURNAL_BYTES`].
    pub fn open(
        folder: &Path,
        chain: &str,
    ) -> Result<(Journal, Vec<JournaledBlock>), JournalError> {
        let path = folder.join(FILE);
        Journal::open_sized(folder, chain, JOURNAL_BYTES)
            .map_err(|cause| JournalError { path, cause })
    }

    /// What [`Journal::open`] would take of the disk for that chain, in bytes: nothing where its
    /// journal is there. Looks only.
    pub fn room_needed(folder: &Path, chain: &str) -> u64 {
        let own = |path: PathBuf| {
            let head = File::open(path).and_then(|file| read_head(&file));
            matches!(head, Ok(Ok(head)) if head.chain == chain)
        };
        let there = own(folder.join(FILE)) || own(folder.join(format!("{FILE}.{chain}")));
        if there { 0 } else { JOURNAL_BYTES }
    }

    fn open_sized(
        folder: &Path,
        chain: &str,
        bytes: u64,
    ) -> io::Result<(Journal, Vec<JournaledBlock>)> {
        let path = folder.join(FILE);
        let mut warnings = Vec::new();
        put_aside_what_is_not_ours(folder, chain, &mut warnings)?;
        let asleep = folder.join(format!("{FILE}.{chain}"));
        if !path.exists() && asleep.exists() {
            rename(&asleep, &path)?;
        }
        if !path.exists() {
            make(folder, chain, bytes)?;
        }
        let file = OpenOptions::new().read(true).write(true).open(&path)?;
        let found = file.metadata()?.len();
        if found < bytes {
            warnings.push(format!(
                "the block journal was cut short to {found} of {bytes} bytes: blocks that stood \
                 behind are not sent again"
            ));
        }
        // One that was cut short gets its room back; what is in it counts even if there is none.
        if let Err(error) = reserve(&file, bytes) {
            warnings.push(format!("the block journal is short of room: {error}"));
        }
        let bytes = file.metadata()?.len();
        let head = read_head(&file)?.map_err(|_| io::Error::other("its head cannot be read"))?;
        let settled_since = SystemTime::now() - SETTLED_KEPT;
        let (journal, left) =
            Journal::on(Arc::new(file), head.salt, bytes, settled_since, warnings);
        Ok((journal, left))
    }

    /// The journal on a storage whose head was read already.
    pub(crate) fn on(
        storage: Arc<dyn Storage>,
        salt: [u8; SALT_BYTES],
        bytes: u64,
        settled_since: SystemTime,
        mut warnings: Vec<String>,
    ) -> (Journal, Vec<JournaledBlock>) {
        let (book, left, unreadable) = Book::read(&*storage, salt, bytes, settled_since);
        if unreadable > 0 {
            warnings.push(format!(
                "the block journal has {unreadable} places that cannot be read: look after the disk"
            ));
        }
        (Journal { storage, book, warnings }, left)
    }

    /// What an operator should know about how it was found.
    pub fn warnings(&self) -> &[String] {
        &self.warnings
    }

    /// Starts the journal's threads.
    pub(super) fn start(self, on_news: OnNews) -> io::Result<Writer> {
        let desk = Arc::new(Desk::default());
        let (storage, book) = (self.storage, self.book);
        let (syncing, news) = (desk.clone(), on_news.clone());
        let synced = storage.clone();
        let builder = thread::Builder::new().name("journal-sync".into());
        builder.spawn(move || syncing.sync(&*synced, &news))?;
        let writing = desk.clone();
        let builder = thread::Builder::new().name("journal".into());
        let spawned = builder.spawn(move || writing.write(&*storage, book, &on_news));
        if spawned.is_err() {
            desk.close();
        }
        spawned.map(|_| Writer { desk })
    }
}

impl fmt::Debug for Journal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Journal({} records)", self.book.len())
    }
}

impl fmt::Display for JournalError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (path, cause, mib) = (self.path.display(), &self.cause, JOURNAL_BYTES >> 20);
        write!(
            f,
            "the block journal {path} cannot be used: {cause}; it must be writable and needs {mib} \
             MiB once: make room, or set [state] directory"
        )
    }
}

impl std::error::Error for JournalError {}

/// Hands records to the journal's threads. Nothing here waits for a disk.
pub(super) struct Writer {
    desk: Arc<Desk>,
}

impl Writer {
    /// Has a block written; the news say what became of it.
    ///
    /// # Errors
    /// So much waits for the disk already that this block is not taken.
    pub(super) fn write(&self, facts: &Arc<BlockFacts>, block: &Arc<[u8]>) -> Result<(), Arc<str>> {
        let mut state = self.desk.lock();
        if state.waiting_bytes + block.len() > WAITING_BYTES_MAX {
            return Err("the disk hangs, and more blocks wait for it than may".into());
        }
        state.waiting_bytes += block.len();
        let (facts, block, found) = (facts.clone(), block.clone(), SystemTime::now());
        state.tasks.push_back(Task::Write { facts, block, found });
        drop(state);
        self.desk.more.notify_all();
        Ok(())
    }

    /// Whether the disk has been at one and the same task for longer than that: it hangs. This
    /// holds also when everybody who waited for it has been settled without it.
    pub(super) fn hangs(&self, now: Instant, limit: Duration) -> bool {
        let busy = self.desk.lock().busy_since;
        busy.is_some_and(|since| now.saturating_duration_since(since) >= limit)
    }

    /// Has a block's record marked as over.
    pub(super) fn settle(&self, block: SettledBlock) {
        self.desk.lock().tasks.push_back(Task::Settle(block));
        self.desk.more.notify_all();
    }

    /// Lets the threads end after what they were given, and waits for it, for so long at most.
    pub(super) fn end(self, limit: Duration) {
        self.desk.close();
        let busy = |state: &mut DeskState| !state.ended;
        drop(self.desk.more.wait_timeout_while(self.desk.lock(), limit, busy));
    }
}

impl Drop for Writer {
    fn drop(&mut self) {
        self.desk.close();
    }
}

enum Task {
    Write { facts: Arc<BlockFacts>, block: Arc<[u8]>, found: SystemTime },
    Settle(SettledBlock),
}

/// What the journal's two threads share with the clerk.
#[derive(Default)]
struct Desk {
    state: Mutex<DeskState>,
    more: Condvar,
}

#[derive(Default)]
struct DeskState {
    tasks: VecDeque<Task>,
    /// Bytes of the blocks among them.
    waiting_bytes: usize,
    /// When the writing thread took the task that it is at.
    busy_since: Option<Instant>,
    /// Written and not synced yet.
    written: Vec<Hash256>,
    closed: bool,
    /// The writing thread has done everything.
    ended: bool,
}

impl Desk {
    // A poisoned desk still holds whole values: nothing panics between two of its fields.
    fn lock(&self) -> MutexGuard<'_, DeskState> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn close(&self) {
        self.lock().closed = true;
        self.more.notify_all();
    }

    /// The writing thread.
    fn write(&self, storage: &dyn Storage, mut book: Book, on_news: &OnNews) {
        while let Some(task) = self.next_task() {
            match task {
                Task::Write { facts, block, found } => {
                    let (hash, bytes) = (facts.hash, block.len());
                    let written = write_record(storage, &mut book, facts, &block, found);
                    drop(block);
                    let mut state = self.lock();
                    state.waiting_bytes -= bytes;
                    if written.is_ok() {
                        state.written.push(hash);
                    }
                    drop(state);
                    let what = match written {
                        Ok(()) => What::Written,
                        Err(reason) => What::Unwritten(reason.into()),
                    };
                    on_news(News { hash, what });
                    self.more.notify_all();
                }
                Task::Settle(block) => settle_record(storage, &mut book, block),
            }
        }
        self.lock().ended = true;
        self.more.notify_all();
    }

    fn next_task(&self) -> Option<Task> {
        let mut state = self.lock();
        state.busy_since = None;
        let idle = |state: &mut DeskState| state.tasks.is_empty() && !state.closed;
        let waited = self.more.wait_while(state, idle);
        let mut state = waited.unwrap_or_else(PoisonError::into_inner);
        let task = state.tasks.pop_front()?;
        state.busy_since = Some(Instant::now());
        Some(task)
    }

    /// The syncing thread: one sync for everything that was written meanwhile.
    fn sync(&self, storage: &dyn Storage, on_news: &OnNews) {
        loop {
            let idle = |state: &mut DeskState| state.written.is_empty() && !state.ended;
            let waited = self.more.wait_while(self.lock(), idle);
            let mut state = waited.unwrap_or_else(PoisonError::into_inner);
            let written = std::mem::take(&mut state.written);
            drop(state);
            if written.is_empty() {
                return;
            }
            let synced = storage.sync();
            for hash in written {
                let what = match &synced {
                    Ok(()) => What::Durable,
                    Err(error) => What::Unsynced(format!("the sync failed: {error}").into()),
                };
                on_news(News { hash, what });
            }
        }
    }
}

/// Writes one record: the block first, so that the head, which makes it one, comes last.
fn write_record(
    storage: &dyn Storage,
    book: &mut Book,
    facts: Arc<BlockFacts>,
    block: &[u8],
    found: SystemTime,
) -> Result<(), String> {
    let hash = facts.hash;
    if !storage.can_be_found() {
        return Err("somebody deleted the journal's file: start headframe again".to_owned());
    }
    if book.place_of(&hash).is_some() {
        return Ok(());
    }
    let Some((at, sequence)) = book.take(hash, block.len()) else {
        return Err(format!("no room: {} unsettled blocks fill the journal", book.len()));
    };
    let state = State::Pending;
    let head = RecordHead { state, sequence, length: block.len() as u32, found, facts };
    let head = head.encode(book.salt(), block);
    let body = write_all(storage, block, at + HEAD_BYTES as u64);
    body.and_then(|()| write_all(storage, &head, at)).map_err(|error| {
        // What is torn is no record, so its place is free; the next one is tried elsewhere.
        book.settle(at, false);
        format!("the write failed: {error}")
    })
}

/// Marks a record as over. If that fails, the block is sent once more after the next start, and
/// the node says that it has it.
fn settle_record(storage: &dyn Storage, book: &mut Book, block: SettledBlock) {
    let Some(at) = book.place_of(&block.hash) else { return };
    let state = if block.refused { State::Refused } else { State::Settled };
    // Without the mark its place stays taken: what is not marked is not written over.
    if write_all(storage, &[state.byte()], at + STATE_AT).is_ok() {
        book.settle(at, block.refused);
    }
}

/// Moves away a journal of another chain or of a format that this version does not know.
fn put_aside_what_is_not_ours(
    folder: &Path,
    chain: &str,
    warnings: &mut Vec<String>,
) -> io::Result<()> {
    let path = folder.join(FILE);
    let is_file = match path.symlink_metadata() {
        Ok(what) => what.is_file(),
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
        Err(error) => return Err(error),
    };
    // To open a pipe would hang.
    let head = if is_file { read_head(&File::open(&path)?)? } else { Err(HeadFault::Unreadable) };
    let (aside, what) = match head {
        Ok(head) if head.chain == chain => return Ok(()),
        Ok(head) => {
            let aside = free_name(folder, &head.chain);
            let other = head.chain;
            warnings
                .push(format!("the block journal is of the chain {other}: put aside as {aside}"));
            return rename(&path, folder.join(aside));
        }
        Err(HeadFault::Format(format)) => (
            free_name(folder, &format!("format-{format}")),
            format!("has format {format}, which this version does not know"),
        ),
        Err(HeadFault::Unreadable) => {
            (free_name(folder, "unreadable"), "cannot be read".to_owned())
        }
    };
    warnings
        .push(format!("the block journal {what}: put aside as {aside}; blocks in it are not sent"));
    rename(&path, folder.join(aside))
}

/// A name that no file has yet: what was put aside before may hold blocks too.
fn free_name(folder: &Path, aside: &str) -> String {
    let numbered = (2_u64..).map(|number| format!("{FILE}.{aside}.{number}"));
    let mut names = iter::once(format!("{FILE}.{aside}")).chain(numbered);
    // A name that cannot be looked at counts as taken only if something is known to be there.
    let taken = |name: &String| folder.join(name).symlink_metadata().is_ok();
    names.find(|name| !taken(name)).expect("a folder has fewer files than there are numbers")
}

/// Makes a whole new file and then gives it its name: a start that dies here leaves no half one.
fn make(folder: &Path, chain: &str, bytes: u64) -> io::Result<()> {
    let new = folder.join(FILE_NEW);
    let mut options = OpenOptions::new();
    let file = options.write(true).create(true).truncate(true).mode(0o600).open(&new)?;
    reserve(&file, bytes)?;
    let mut salt = [0; SALT_BYTES];
    File::open("/dev/urandom")?.read_exact(&mut salt)?;
    let head = FileHead { chain: chain.to_owned(), salt }.encode();
    write_all(&file, &head, 0)?;
    file.sync_all()?;
    rename(&new, folder.join(FILE))?;
    File::open(folder)?.sync_all()
}

/// Takes the room for so many bytes from the disk, so that nobody else can.
fn reserve(file: &File, bytes: u64) -> io::Result<()> {
    match fallocate(file, FallocateFlags::empty(), 0, bytes) {
        Ok(()) => Ok(()),
        Err(Errno::OPNOTSUPP | Errno::NOSYS) => {
            // Zeros do the same where the file system cannot promise room.
            let zeros = vec![0; 1 << 20];
            let mut at = file.metadata()?.len();
            while at < bytes {
                let part = zeros.len().min((bytes - at) as usize);
                write_all(file, &zeros[..part], at)?;
                at += part as u64;
            }
            Ok(())
        }
        Err(errno) => Err(errno.into()),
    }
}

fn read_head(file: &File) -> io::Result<Result<FileHead, HeadFault>> {
    let mut bytes = [0; HEAD_BYTES];
    let whole = read_all(file, &mut bytes, 0)?;
    Ok(if whole { FileHead::decode(&bytes) } else { Err(HeadFault::Unreadable) })
}
