//! The file in the state folder that says what difficulty each worker had settled at, so that after
//! a restart each starts there. The history's thread writes it every few seconds if there is news;
//! it is read once, before the first miner. Whatever is wrong with it costs nobody more than a
//! start: it is moved aside with a message, and a new one begins.
//!
//! ```text
//!   headframe difficulties 1
//!   1764000000 65536 antminer farm.r1x12      when it was last here, where, its firmware, its name
//!   …                                         the longest away first
//!   end 2 9f3b…                               how many, and a checksum of all that stands before
//! ```

use std::collections::BTreeMap;
use std::fs::{self, File};
use std::io::{ErrorKind, Read, Write};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use farm::ledger::{OTHER, WorkerStatus};
use pow::Difficulty;
use session::{Class, REMEMBERED_MAX, Remembered, Settled};

use crate::state;

/// The file's name in the state folder.
const FILE: &str = "difficulties";
const HEAD: &str = "headframe difficulties 1";
/// Whoever was away for longer may have got another machine.
const KEPT_SECONDS: i64 = 24 * 3_600;
/// When a worker was last here is worth writing again so seldom.
const SEEN_EVERY_SECONDS: i64 = 3_600;
/// 65,536 of the longest lines have 10 MB; a larger file is another.
const BYTES_MAX: u64 = 16 << 20;

/// What the file says, and is to say.
#[derive(Debug)]
pub(crate) struct Difficulties {
    path: PathBuf,
    workers: BTreeMap<Arc<str>, Entry>,
    /// The file lacks something.
    news: bool,
    /// What went wrong was said.
    said: bool,
}

#[derive(Clone, Copy, Debug, PartialEq)]
struct Entry {
    /// In seconds since 1970.
    seen: i64,
    settled: Settled,
}

impl Difficulties {
    /// Reads the file of that state folder; what is none is moved aside.
    pub(crate) fn open(state: &Path, unix: i64) -> Difficulties {
        let path = state.join(FILE);
        let workers = match read(&path) {
            Ok(workers) => workers,
            Err(Fault::Unreadable(why)) => {
                let says = "miners start as if they were new";
                let file = path.display();
                tracing::warn!(%file, "difficulties cannot be read: {why}; {says}");
                BTreeMap::new()
            }
            Err(Fault::Damaged(why)) => {
                move_aside(&path, why, unix);
                BTreeMap::new()
            }
        };
        let mut difficulties = Difficulties { path, workers, news: false, said: false };
        difficulties.forget(unix);
        difficulties
    }

    /// Where workers have settled, the longest away first.
    pub(crate) fn remembered(&self) -> Arc<[Remembered]> {
        let remembered = |(worker, entry): (&Arc<str>, &Entry)| Remembered {
            worker: worker.clone(),
            settled: entry.settled,
        };
        self.by_age().into_iter().map(remembered).collect()
    }

    /// Takes in the accounts of this moment.
    pub(crate) fn note(&mut self, workers: &[WorkerStatus], unix: i64) {
        for worker in workers.iter().filter(|worker| &*worker.name != OTHER) {
            let before = self.workers.get(&worker.name).copied();
            let Some(settled) = worker.settled.or(before.map(|entry| entry.settled)) else {
                continue;
            };
            let changed = before.is_none_or(|entry| entry.settled != settled);
            let old = before.is_some_and(|entry| unix - entry.seen >= SEEN_EVERY_SECONDS);
            if changed || (old && worker.connections > 0) {
                self.workers.insert(worker.name.clone(), Entry { seen: unix, settled });
                self.news = true;
            }
        }
        self.forget(unix);
    }

    /// Writes the file anew if it lacks something. It is whole or as before, whenever this ends.
    pub(crate) fn write(&mut self) {
        if !self.news {
            return;
        }
        match self.replace() {
            Ok(()) => (self.news, self.said) = (false, false),
            Err(error) if !self.said => {
                let says = "mining goes on; after a restart miners may start as if they were new";
                let file = self.path.display();
                tracing::warn!(%file, "difficulties cannot be written: {error}; {says}");
                self.said = true;
            }
            Err(_) => {}
        }
    }

    fn replace(&self) -> std::io::Result<()> {
        let aside = self.path.with_extension("new");
        let mut file = File::create(&aside)?;
        file.write_all(self.text().as_bytes())?;
        // Else a power cut could leave the name on an empty file.
        file.sync_data()?;
        fs::rename(&aside, &self.path)
    }

    fn text(&self) -> String {
        let mut text = format!("{HEAD}\n");
        for (name, Entry { seen, settled }) in self.by_age() {
            let (difficulty, class) = (settled.difficulty.get(), settled.class.name());
            text.push_str(&format!("{seen} {difficulty} {class} {name}\n"));
        }
        let sum = checksum(text.as_bytes());
        text.push_str(&format!("end {} {sum:016x}\n", self.workers.len()));
        text
    }

    fn by_age(&self) -> Vec<(&Arc<str>, &Entry)> {
        let mut workers: Vec<_> = self.workers.iter().collect();
        workers.sort_by_key(|(_, entry)| entry.seen);
        workers
    }

    /// Those that were away for too long, and the longest away where they are too many.
    fn forget(&mut self, unix: i64) {
        self.workers.retain(|_, entry| unix - entry.seen < KEPT_SECONDS);
        let many = self.workers.len().saturating_sub(REMEMBERED_MAX);
        if many > 0 {
            let oldest: Vec<Arc<str>> =
                self.by_age().into_iter().take(many).map(|(name, _)| name.clone()).collect();
            for name in oldest {
                self.workers.remove(&name);
            }
        }
    }
}

/// Why there is nothing to read.
#[derive(Debug)]
enum Fault {
    /// The system's reason.
    Unreadable(std::io::Error),
    /// What is wrong.
    Damaged(&'static str),
}

fn read(path: &Path) -> Result<BTreeMap<Arc<str>, Entry>, Fault> {
    if state::is_no_plain_file(path) {
        return Err(Fault::Damaged("it is no plain file"));
    }
    let file = match File::open(path) {
        Ok(file) => file,
        Err(error) if error.kind() == ErrorKind::NotFound => return Ok(BTreeMap::new()),
        Err(error) => return Err(Fault::Unreadable(error)),
    };
    let mut bytes = Vec::new();
    file.take(BYTES_MAX + 1).read_to_end(&mut bytes).map_err(Fault::Unreadable)?;
    let text = String::from_utf8(bytes).map_err(|_| Fault::Damaged("it is no text"))?;
    parse(&text).map_err(Fault::Damaged)
}

fn parse(text: &str) -> Result<BTreeMap<Arc<str>, Entry>, &'static str> {
    let end = text.trim_end_matches('\n').rfind('\n').ok_or("it is cut short")? + 1;
    let (body, last) = text.split_at(end);
    let rows = body.strip_prefix(HEAD).and_then(|body| body.strip_prefix('\n'));
    let rows = rows.ok_or("it does not begin as it should")?;
    let mut workers = BTreeMap::new();
    for row in rows.lines() {
        let (name, entry) = entry(row).ok_or("a line is none of ours")?;
        workers.insert(name, entry);
    }
    let sum = checksum(body.as_bytes());
    let whole = last == format!("end {} {sum:016x}\n", workers.len());
    whole.then_some(workers).ok_or("it is cut short or was changed")
}

fn entry(row: &str) -> Option<(Arc<str>, Entry)> {
    let mut words = row.splitn(4, ' ');
    let seen = words.next()?.parse().ok()?;
    let difficulty = words.next()?.parse().ok().and_then(Difficulty::new)?;
    let class = words.next()?;
    let class = Class::ALL.into_iter().find(|known| known.name() == class)?;
    let name = words.next()?;
    Some((Arc::from(name), Entry { seen, settled: Settled { difficulty, class } }))
}

/// FNV-1a in 64 bits: against a disk's faults, not against anybody.
fn checksum(bytes: &[u8]) -> u64 {
    let step = |sum: u64, byte: &u8| (sum ^ u64::from(*byte)).wrapping_mul(0x100_0000_01b3);
    bytes.iter().fold(0xcbf2_9ce4_8422_2325, step)
}

/// One damaged file is kept for its owner to look at: the newest.
fn move_aside(path: &Path, why: &str, unix: i64) {
    let aside = path.with_extension("damaged");
    let (file, says) = (aside.display(), "it is here now; miners start as if they were new");
    match fs::rename(path, &aside) {
        Ok(()) => tracing::warn!(%file, unix, "the file of difficulties is damaged: {why}; {says}"),
        Err(error) => {
            let file = path.display();
            tracing::warn!(%file, "the damaged file of difficulties cannot be moved: {error}");
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::samples;

    const NOW: i64 = 1_764_000_000;

    fn worker(name: &str, difficulty: Option<f64>) -> WorkerStatus {
        let difficulty = difficulty.and_then(Difficulty::new);
        let settled = difficulty.map(|difficulty| Settled { difficulty, class: Class::Whatsminer });
        WorkerStatus { settled, ..samples::worker(name) }
    }

    fn names(difficulties: &Difficulties) -> Vec<String> {
        difficulties.remembered().iter().map(|known| known.worker.to_string()).collect()
    }

    #[test]
    fn what_is_written_is_read_again_bit_for_bit() {
        let folder = tempfile::tempdir().expect("a folder");
        let mut first = Difficulties::open(folder.path(), NOW);
        assert!(first.remembered().is_empty());
        let workers = [
            worker("farm.a", Some(1.0 / 3.0)),
            worker("a name with blanks \"and more\"", Some(65_536.0)),
            worker("шахта", Some(1e-9)),
            worker("new", None),
            worker(OTHER, Some(1.0)),
        ];
        first.note(&workers, NOW);
        first.write();
        let again = Difficulties::open(folder.path(), NOW + 1);
        assert_eq!(again.workers, first.workers);
        assert_eq!(names(&again).len(), 3);
    }

    #[test]
    fn nothing_is_written_without_news() {
        let folder = tempfile::tempdir().expect("a folder");
        let mut difficulties = Difficulties::open(folder.path(), NOW);
        difficulties.note(&[worker("a", Some(2.0))], NOW);
        difficulties.write();
        let path = folder.path().join(FILE);
        fs::remove_file(&path).expect("it was written");
        difficulties.note(&[worker("a", Some(2.0))], NOW + 60);
        difficulties.write();
        assert!(!path.exists());
        difficulties.note(&[worker("a", Some(2.0))], NOW + SEEN_EVERY_SECONDS);
        difficulties.write();
        assert!(path.exists(), "it is still here");
    }

    #[test]
    fn a_day_away_and_it_is_forgotten_the_longest_away_first() {
        let folder = tempfile::tempdir().expect("a folder");
        let mut difficulties = Difficulties::open(folder.path(), NOW);
        difficulties.note(&[worker("b", Some(2.0))], NOW);
        difficulties.note(&[worker("a", Some(2.0))], NOW + 10);
        difficulties.write();
        assert_eq!(names(&difficulties), ["b", "a"]);
        let later = Difficulties::open(folder.path(), NOW + KEPT_SECONDS);
        assert_eq!(names(&later), ["a"]);
        let many: Vec<WorkerStatus> =
            (0..REMEMBERED_MAX).map(|number| worker(&number.to_string(), Some(1.0))).collect();
        difficulties.note(&many, NOW + 20);
        assert_eq!(difficulties.workers.len(), REMEMBERED_MAX);
        assert!(!difficulties.workers.contains_key("b") && !difficulties.workers.contains_key("a"));
        assert!((difficulties.text().len() as u64) < BYTES_MAX);
    }

    #[test]
    fn a_damaged_file_is_moved_aside_and_a_new_one_begins() {
        let folder = tempfile::tempdir().expect("a folder");
        let path = folder.path().join(FILE);
        let mut good = Difficulties::open(folder.path(), NOW);
        good.note(&[worker("farm.a", Some(512.0))], NOW);
        let text = good.text();
        let damaged = [
            Vec::new(),
            b"\n".to_vec(),
            vec![0xff; 100],
            text.as_bytes()[..text.len() - 3].to_vec(),
            text.replace("512", "513").into_bytes(),
            text.replace("512", "-1").into_bytes(),
            text.replace("whatsminer", "nobody").into_bytes(),
            text.replace("difficulties 1", "difficulties 2").into_bytes(),
        ];
        for bytes in damaged {
            fs::write(&path, &bytes).expect("written");
            let mut opened = Difficulties::open(folder.path(), NOW);
            assert!(opened.remembered().is_empty());
            assert!(!path.exists());
            let aside = fs::read(path.with_extension("damaged")).expect("it is kept");
            assert_eq!(aside, bytes);
            opened.note(&[worker("farm.a", Some(512.0))], NOW);
            opened.write();
            assert_eq!(names(&Difficulties::open(folder.path(), NOW)), ["farm.a"]);
        }
    }

    #[test]
    fn a_pipe_in_its_place_is_moved_aside_and_not_waited_for() {
        let folder = tempfile::tempdir().expect("a folder");
        let path = folder.path().join(FILE);
        let made = std::process::Command::new("mkfifo").arg(&path).status().expect("mkfifo runs");
        assert!(made.success());
        assert!(Difficulties::open(folder.path(), NOW).remembered().is_empty());
        assert!(!path.exists() && path.with_extension("damaged").exists());
    }

    #[test]
    fn what_cannot_be_written_waits() {
        let folder = tempfile::tempdir().expect("a folder");
        let state = folder.path().join("state");
        fs::create_dir(&state).expect("a folder");
        let mut difficulties = Difficulties::open(&state, NOW);
        fs::remove_dir(&state).expect("empty");
        difficulties.note(&[worker("farm.a", Some(512.0))], NOW);
        difficulties.write();
        fs::create_dir(&state).expect("a folder");
        difficulties.write();
        assert_eq!(names(&Difficulties::open(&state, NOW)), ["farm.a"]);
    }
}
