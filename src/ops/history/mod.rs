//! The history: what each worker did in the last 24 hours and its totals for ever, blocks, and what
//! happened, in a SQLite file of the state folder. A thread of its own asks the farm for its
//! accounts every few seconds and writes what is new; nobody waits for it, neither mining nor the
//! ops thread, so a disk that hangs keeps nothing but this from its work. What cannot be written
//! stays in memory and is written later.
//!
//! `store` is the file, `book` what must be written, `earlier` what the pages see of it.

mod book;
mod earlier;
mod store;

use std::fs;
use std::path::{Path, PathBuf};
use std::sync::mpsc::{Receiver, RecvTimeoutError, Sender, channel};
use std::sync::{Arc, Weak};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use engine::Engine;
use farm::Status;
use farm::blocks::{BlockRecord, Outcome};
use farm::ledger::{OTHER, WORKERS_MAX, WorkerStatus, WorkerTotals};

use self::book::{Book, Moment};
pub use self::earlier::{Earlier, HistoryState, HistoryStatus};
use self::store::{Fault, Store};
use crate::difficulties::Difficulties;
use crate::exit::Stop;
use crate::version;
use crate::view::Running;

/// The file's name in the state folder.
pub const FILE: &str = "history.db";
/// The file's largest size. 65,536 workers need less, and 20,000 a third of it.
pub const BYTES_MAX: u64 = 256 << 20;
/// Whatever ends this process, no more than this and the second of the accounts is lost.
const WRITE_EVERY: Duration = Duration::from_secs(5);
/// How often old rows are removed, in writes: about a minute.
const TRIM_EVERY: u32 = 12;
/// After a file could not be opened, writes are left out until it is tried again: about a minute.
const OPEN_AGAIN: u32 = 12;
/// The coordinator answers within milliseconds, unless it hangs.
const LIST_LIMIT: Duration = Duration::from_secs(2);
/// Damaged files that are kept for their owner to look at. Each may be as large as the history.
const ASIDE_MAX: usize = 4;

/// What an earlier process counted of a worker.
#[derive(Clone, Debug, Default, PartialEq)]
pub(crate) struct Kept {
    pub(crate) name: Arc<str>,
    /// Its place in the order in which the file got to know workers; 0 for [`OTHER`].
    pub(crate) place: u64,
    pub(crate) totals: WorkerTotals,
    pub(crate) best: f64,
    /// In seconds since 1970.
    pub(crate) last_share: Option<i64>,
}

/// What one write brings to the file.
#[derive(Debug, Default)]
pub(crate) struct Batch {
    shares: Vec<ShareRow>,
    blocks: Vec<BlockRow>,
    events: Vec<EventRow>,
}

/// What a worker did since the last write.
#[derive(Debug)]
struct ShareRow {
    name: Arc<str>,
    /// The file has no row for it, and is told of earlier counts too.
    is_new: bool,
    earlier: WorkerTotals,
    grown: WorkerTotals,
    best: f64,
    last_share: Option<i64>,
}

#[derive(Debug)]
struct BlockRow {
    hash: String,
    at: i64,
    height: u32,
    worker: Arc<str>,
    outcome: &'static str,
    reason: Option<Arc<str>>,
}

impl BlockRow {
    fn of(block: &BlockRecord, at: i64) -> BlockRow {
        let reason = match &block.outcome {
            Outcome::Refused(reason) => Some(Arc::from(&**reason)),
            _ => None,
        };
        BlockRow {
            hash: block.facts.hash.0.iter().rev().map(|byte| format!("{byte:02x}")).collect(),
            at,
            height: block.facts.height,
            worker: block.facts.worker.clone(),
            outcome: block.outcome.name(),
            reason,
        }
    }
}

/// Something that happened.
#[derive(Clone, Debug)]
struct EventRow {
    at: i64,
    kind: &'static str,
    worker: Option<Arc<str>>,
    says: String,
}

/// The thread that writes the history.
#[derive(Debug)]
pub struct History {
    stop: Sender<()>,
    ended: Receiver<()>,
}

impl History {
    /// Starts writing the history of a farm into its state folder.
    pub fn start(state: &Path, farm: &Arc<Running>) -> Result<History, Stop> {
        let (stop, asked) = channel();
        let (end, ended) = channel();
        let (farm, earlier) = (Arc::downgrade(farm), farm.earlier.clone());
        let (path, state) = (state.join(FILE), state.to_owned());
        std::thread::Builder::new()
            .name("history".to_owned())
            .spawn(move || {
                // Dropped at the end, however it comes.
                let _end: Sender<()> = end;
                let difficulties = Difficulties::open(&state, unix());
                Writer::new(path, BYTES_MAX, earlier).serve(&farm, difficulties, &asked);
            })
            .map_err(Stop::unavailable)?;
        Ok(History { stop, ended })
    }

    /// Writes what is still unwritten, and waits for that until the moment; a disk that hangs does
    /// not hold up the end.
    pub fn stop(self, until: Instant) {
        // It may have ended by a panic, which is in the log.
        let _ = self.stop.send(());
        let limit = until.saturating_duration_since(Instant::now());
        if self.ended.recv_timeout(limit) == Err(RecvTimeoutError::Timeout) {
            tracing::warn!("the history's last seconds were not written in time: the disk is slow");
        }
    }
}

/// What writes: the file, where there is one, and what it lacks.
struct Writer {
    path: PathBuf,
    bytes_max: u64,
    earlier: Arc<Earlier>,
    store: Option<Store>,
    book: Book,
    /// The book knows what earlier processes counted, or that this cannot be known.
    learned: bool,
    writes: u32,
    /// Writes to leave out before the file is tried again.
    pause: u32,
    /// The fault that was said, so that it is said once.
    said: Option<Fault>,
}

impl Writer {
    fn new(path: PathBuf, bytes_max: u64, earlier: Arc<Earlier>) -> Writer {
        let book = Book::default();
        let (store, said) = (None, None);
        Writer { path, bytes_max, earlier, store, book, learned: false, writes: 0, pause: 0, said }
    }

    fn serve(mut self, farm: &Weak<Running>, mut difficulties: Difficulties, asked: &Receiver<()>) {
        self.book.event(unix(), "start", None, format!("headframe {}", version::LONG));
        self.open();
        loop {
            let more = asked.recv_timeout(WRITE_EVERY) == Err(RecvTimeoutError::Timeout);
            if !more {
                self.book.event(unix(), "stop", None, "asked to end".to_owned());
            }
            let Some(farm) = farm.upgrade() else { return };
            self.turn(&farm.engine, &mut difficulties);
            if !more {
                return;
            }
        }
    }

    /// Asks the farm and writes what is new. A coordinator that hangs is not waited for again and
    /// again: the accounts stand still with it.
    fn turn(&mut self, engine: &Engine, difficulties: &mut Difficulties) {
        let Ok(workers) = engine.list_workers(LIST_LIMIT) else { return };
        let now = Moment { tick: engine::now(), unix: unix() };
        self.write(&workers, &engine.status(), now);
        difficulties.note(&workers, now.unix);
        difficulties.write();
    }

    fn write(&mut self, workers: &[WorkerStatus], status: &Status, now: Moment) {
        if self.store.is_none() {
            match self.pause {
                0 => self.open(),
                _ => self.pause -= 1,
            }
        }
        // Behind the opening, because a new file must be told of earlier counts too.
        let batch = self.book.batch(workers, status, now);
        let Some(store) = &mut self.store else { return };
        let written = store.write(&batch, now.unix);
        if written.is_ok() {
            self.book.written(&batch, workers, status);
        }
        self.writes = self.writes.wrapping_add(1);
        // Also when there is no room: perhaps there is some behind the oldest rows.
        let full = matches!(written, Err(Fault::Full(_)));
        let trimmed = match full || self.writes.is_multiple_of(TRIM_EVERY) {
            true => store.trim(now.unix),
            false => Ok(()),
        };
        let bytes = store.bytes();
        match written.and(trimmed).and(bytes) {
            Ok(bytes) => {
                match self.said.take() {
                    None => {}
                    Some(Fault::Damaged(_)) => {
                        tracing::info!("a new history is written: the damaged one has the former");
                    }
                    Some(_) => tracing::info!("the history is written again: nothing is lost"),
                }
                self.earlier.wrote(now.tick, bytes);
            }
            Err(fault) => self.failed(fault),
        }
    }

    /// Opens the file; what is none is moved aside, and a new one begins.
    fn open(&mut self) {
        self.pause = OPEN_AGAIN;
        match self.opened() {
            Ok(store) => self.store = Some(store),
            Err(fault) => self.failed(fault),
        }
    }

    fn opened(&mut self) -> Result<Store, Fault> {
        let mut store = Store::open(&self.path, self.bytes_max)?;
        if self.learned {
            self.book.begin_anew();
            return Ok(store);
        }
        store.fold(WORKERS_MAX, OTHER)?;
        let kept = store.load()?;
        self.book.learn(&kept);
        self.learned = true;
        self.earlier.learned(kept, engine::now());
        Ok(store)
    }

    fn failed(&mut self, fault: Fault) {
        self.earlier.failed(fault.to_string());
        if self.said.as_ref() != Some(&fault) {
            let history = self.path.display();
            let says = "mining goes on, and totals are kept in memory";
            tracing::warn!(%history, "history: {fault}; {says}");
            self.said = Some(fault.clone());
        }
        if fault == Fault::Gone {
            // Its shares of the last day went with it; totals are in memory, and written anew.
            (self.store, self.pause) = (None, 0);
        }
        if let Fault::Damaged(_) = fault {
            self.store = None;
            match move_aside(&self.path, unix()) {
                Ok(aside) => {
                    let history = aside.display();
                    let says = "the damaged history is here now, and a new one begins";
                    tracing::warn!(%history, "{says}");
                    // What the damaged one counted cannot be known, unless it was learned before.
                    self.learned = true;
                    match Store::open(&self.path, self.bytes_max) {
                        Ok(store) => {
                            self.book.begin_anew();
                            self.store = Some(store);
                            self.earlier.learned_nothing(engine::now());
                        }
                        Err(fault) => self.earlier.failed(fault.to_string()),
                    }
                }
                Err(why) => {
                    let history = self.path.display();
                    tracing::error!(%history, "the damaged history cannot be moved aside: {why}");
                }
            }
        }
    }
}

/// Gives a damaged file another name, with its log, so that its owner can look at it.
fn move_aside(path: &Path, unix: i64) -> Result<PathBuf, String> {
    let with = |ending: &str| {
        let mut name = path.as_os_str().to_owned();
        name.push(ending);
        PathBuf::from(name)
    };
    let folder = path.parent().ok_or("it has no folder")?;
    let begins = format!("{FILE}.damaged-");
    let entries = fs::read_dir(folder).map_err(|error| error.to_string())?;
    let names = entries.flatten().map(|entry| entry.file_name().to_string_lossy().into_owned());
    let aside = names.filter(|name| name.starts_with(&begins) && !name.ends_with("-wal")).count();
    if aside >= ASIDE_MAX {
        return Err(format!("there are {aside} already: look at them, and remove them"));
    }
    // Never over another one: two may break within a second.
    let mut names = (0..=ASIDE_MAX).map(|number| format!(".damaged-{unix}-{number}"));
    let to = names.find(|to| !with(to).exists()).ok_or("there is no free name")?;
    fs::rename(path, with(&to)).map_err(|error| error.to_string())?;
    // There is none where it was closed in order; the index of the log is made anew from it.
    let _ = fs::rename(with("-wal"), with(&format!("{to}-wal")));
    let _ = fs::remove_file(with("-shm"));
    Ok(with(&to))
}

/// Seconds since 1970.
pub(crate) fn unix() -> i64 {
    let now = SystemTime::now().duration_since(UNIX_EPOCH);
    now.map_or(0, |now| i64::try_from(now.as_secs()).unwrap_or(0))
}

#[cfg(test)]
mod tests;
