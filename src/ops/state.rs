//! The state folder: where it is, and the lock that lets only one `run` have it. The lock is an
//! flock on a file, so that it falls with the process however that ends; the file's text is the
//! holder's pid, for whoever is refused.

use std::fs::{self, DirBuilder, File, OpenOptions};
use std::io::{self, Read, Seek, Write};
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

use rustix::fs::{Access, FlockOperation, OFlags, access, flock, statvfs};
use rustix::process::geteuid;

/// The file that is locked.
const LOCK_FILE: &str = "lock";
/// A pid has at most seven digits; more is no text of ours.
const PID_BYTES_MAX: u64 = 16;

/// A state folder that is ours until this is dropped.
#[derive(Debug)]
pub struct StateFolder {
    path: PathBuf,
    _lock: File,
}

/// Why a state folder cannot be had: always the host's or the operator's to mend.
#[derive(Debug)]
pub enum StateError {
    /// Another `run` has it.
    Taken {
        /// The folder.
        path: PathBuf,
        /// The process that has it, if its pid could be read.
        pid: Option<u32>,
    },
    /// It cannot be made or written.
    Unwritable {
        /// The folder.
        path: PathBuf,
        /// The system's reason.
        cause: io::Error,
    },
    /// Its disk has no room for the block journal.
    NoRoom {
        /// The folder.
        path: PathBuf,
        /// Bytes that the journal needs.
        needed: u64,
        /// Bytes that this process may take.
        free: u64,
    },
    /// No folder is configured, and the environment names none.
    Nowhere,
}

impl std::fmt::Display for StateError {
    fn fmt(&self, out: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            StateError::Taken { path, pid } => {
                let who = pid.map_or("another process".to_owned(), |pid| format!("process {pid}"));
                let path = path.display();
                write!(
                    out,
                    "state folder {path} is in use by {who}; stop it, or give this one another \
                     [state] directory"
                )
            }
            StateError::Unwritable { path, cause } => {
                let path = path.display();
                write!(
                    out,
                    "state folder {path} cannot be written: {cause}; make it writable for this \
                     user, or set [state] directory"
                )
            }
            StateError::NoRoom { path, needed, free } => {
                let (path, needed, free) = (path.display(), needed >> 20, free >> 20);
                write!(
                    out,
                    "state folder {path} has {free} MiB of room, and the block journal needs \
                     {needed} MiB; make room, or set [state] directory"
                )
            }
            StateError::Nowhere => out.write_str(
                "no state folder: neither STATE_DIRECTORY nor XDG_STATE_HOME nor HOME is set; set \
                 [state] directory",
            ),
        }
    }
}

impl std::error::Error for StateError {}

impl StateFolder {
    /// Makes the folder if need be and takes its lock.
    pub fn take(path: &Path) -> Result<StateFolder, StateError> {
        let unwritable = |cause| StateError::Unwritable { path: path.to_owned(), cause };
        DirBuilder::new().recursive(true).mode(0o700).create(path).map_err(unwritable)?;
        let mut lock = open_lock(path, true).map_err(unwritable)?;
        if flock(&lock, FlockOperation::NonBlockingLockExclusive).is_err() {
            return Err(StateError::Taken { path: path.to_owned(), pid: read_pid(&mut lock) });
        }
        let write_pid = |lock: &mut File| {
            lock.set_len(0)?;
            lock.rewind()?;
            writeln!(lock, "{}", std::process::id())
        };
        write_pid(&mut lock).map_err(unwritable)?;
        Ok(StateFolder { path: path.to_owned(), _lock: lock })
    }

    /// Where it is.
    pub fn path(&self) -> &Path {
        &self.path
    }
}

/// Where the state is: what the file says, else what systemd or the desktop says.
pub fn folder(configured: Option<&Path>) -> Result<PathBuf, StateError> {
    from_environment(configured, |name| std::env::var_os(name).map(PathBuf::from))
}

fn from_environment(
    configured: Option<&Path>,
    variable: impl Fn(&str) -> Option<PathBuf>,
) -> Result<PathBuf, StateError> {
    // An empty variable means the same as none (XDG base directories say so; so does systemd).
    let set = |name| variable(name).filter(|value| !value.as_os_str().is_empty());
    if let Some(path) = configured {
        return Ok(path.to_owned());
    }
    if let Some(path) = set("STATE_DIRECTORY") {
        // systemd lists several folders with colons between them; the unit of ours names one.
        let text = path.to_string_lossy().into_owned();
        return Ok(PathBuf::from(text.split(':').next().unwrap_or_default()));
    }
    let base = set("XDG_STATE_HOME").or_else(|| Some(set("HOME")?.join(".local/state")));
    base.map(|base| base.join("headframe")).ok_or(StateError::Nowhere)
}

/// Whether `take` would succeed, without leaving anything behind. `Ok(Some(pid))`: a running
/// headframe has it.
pub fn probe(path: &Path) -> Result<Option<u32>, StateError> {
    let unwritable = |cause| StateError::Unwritable { path: path.to_owned(), cause };
    if let Ok(mut lock) = open_lock(path, false) {
        if flock(&lock, FlockOperation::NonBlockingLockExclusive).is_err() {
            return Ok(Some(read_pid(&mut lock).unwrap_or(0)));
        }
        return Ok(None);
    }
    if fs::metadata(path).is_ok() {
        let sample = path.join(format!(".check-{}", std::process::id()));
        File::create_new(&sample).map_err(unwritable)?;
        return fs::remove_file(&sample).map(|()| None).map_err(unwritable);
    }
    let parent = nearest(path);
    if !parent.is_dir() {
        return Err(unwritable(io::Error::from(io::ErrorKind::NotADirectory)));
    }
    access(parent, Access::WRITE_OK | Access::EXEC_OK)
        .map(|()| None)
        .map_err(|errno| unwritable(errno.into()))
}

/// Whether a file of `needed` bytes fits into the folder, which need not be there yet.
pub fn probe_room(path: &Path, needed: u64) -> Result<(), StateError> {
    // What cannot be asked is left to `run`: `probe` has said whether the folder can be had.
    let free = statvfs(nearest(path)).map_or(u64::MAX, |disk| {
        // The administrator's processes may take what is kept back from all others.
        let blocks = if geteuid().is_root() { disk.f_bfree } else { disk.f_bavail };
        blocks.saturating_mul(disk.f_frsize)
    });
    enough(path, needed, free)
}

fn enough(path: &Path, needed: u64, free: u64) -> Result<(), StateError> {
    if free >= needed {
        return Ok(());
    }
    Err(StateError::NoRoom { path: path.to_owned(), needed, free })
}

/// The folder, or what is there of the way to it.
fn nearest(path: &Path) -> &Path {
    let existing = path.ancestors().find(|folder| fs::metadata(folder).is_ok());
    existing.unwrap_or(Path::new("."))
}

/// Whether something else than a file of our own has this name: to open a pipe would hang, and a
/// link leads out of the folder.
pub(crate) fn is_no_plain_file(path: &Path) -> bool {
    path.symlink_metadata().is_ok_and(|what| !what.is_file())
}

fn open_lock(path: &Path, create: bool) -> io::Result<File> {
    let mut options = OpenOptions::new();
    // Through a link somebody else's file would be written to.
    let flags = OFlags::NOFOLLOW.bits().cast_signed();
    options.read(true).write(true).create(create).custom_flags(flags).open(path.join(LOCK_FILE))
}

fn read_pid(lock: &mut File) -> Option<u32> {
    let mut text = String::new();
    lock.take(PID_BYTES_MAX).read_to_string(&mut text).ok()?;
    text.trim().parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_folder_follows_the_file_then_systemd_then_the_desktop() {
        let some = |wanted: &'static str, value: &'static str| {
            move |name: &str| (name == wanted).then(|| PathBuf::from(value))
        };
        let at = |configured: Option<&str>, variable: &dyn Fn(&str) -> Option<PathBuf>| {
            from_environment(configured.map(Path::new), variable).map_err(|error| error.to_string())
        };
        assert_eq!(at(Some("/a"), &some("STATE_DIRECTORY", "/b")), Ok("/a".into()));
        assert_eq!(at(None, &some("STATE_DIRECTORY", "/b:/c")), Ok("/b".into()));
        assert_eq!(at(None, &some("XDG_STATE_HOME", "/x")), Ok("/x/headframe".into()));
        assert_eq!(at(None, &some("HOME", "/h")), Ok("/h/.local/state/headframe".into()));
        assert_eq!(at(None, &some("STATE_DIRECTORY", "")), Err(StateError::Nowhere.to_string()));
    }

    #[test]
    fn only_one_has_the_folder_and_the_second_hears_who() {
        let folder = tempfile::tempdir().expect("a folder");
        let path = folder.path().join("deep/state");
        assert!(matches!(probe(&path), Ok(None)));
        let taken = StateFolder::take(&path).expect("free");
        assert_eq!(taken.path(), path);
        let refused = StateFolder::take(&path).expect_err("taken").to_string();
        assert!(refused.contains(&format!("process {}", std::process::id())), "{refused}");
        assert!(matches!(probe(&path), Ok(Some(pid)) if pid == std::process::id()));
        drop(taken);
        assert!(matches!(probe(&path), Ok(None)));
        StateFolder::take(&path).expect("free again");
    }

    #[test]
    fn a_lock_that_is_a_link_is_refused_and_its_target_kept() {
        let folder = tempfile::tempdir().expect("a folder");
        let precious = folder.path().join("precious");
        fs::write(&precious, "not ours").expect("written");
        std::os::unix::fs::symlink(&precious, folder.path().join(LOCK_FILE)).expect("a link");
        let refused = StateFolder::take(folder.path()).expect_err("a link");
        assert!(matches!(refused, StateError::Unwritable { .. }), "{refused}");
        assert_eq!(fs::read_to_string(precious).expect("kept"), "not ours");
    }

    #[test]
    fn a_disk_without_room_for_the_journal_is_said_with_the_remedy() {
        let folder = tempfile::tempdir().expect("a folder");
        let path = folder.path().join("deep/state");
        assert!(probe_room(&path, 1).is_ok(), "the disk below has room for a byte");
        let error = probe_room(&path, u64::MAX).expect_err("no disk is so large").to_string();
        assert!(error.contains("MiB; make room, or set [state] directory"), "{error}");
        assert!(enough(&path, 64 << 20, 64 << 20).is_ok());
        let error = enough(&path, 64 << 20, (64 << 20) - 1).expect_err("a byte short").to_string();
        assert!(error.contains("has 63 MiB of room"), "{error}");
        assert!(error.contains("needs 64 MiB; make room, or set [state] directory"), "{error}");
        assert!(!path.exists());
    }

    #[test]
    fn a_folder_inside_a_file_is_unwritable() {
        let folder = tempfile::tempdir().expect("a folder");
        let file = folder.path().join("file");
        File::create(&file).expect("written");
        let error = probe(&file.join("state")).expect_err("no folder").to_string();
        assert!(
            error.contains("cannot be written") && error.contains("[state] directory"),
            "{error}"
        );
        assert!(StateFolder::take(&file.join("state")).is_err());
    }
}
