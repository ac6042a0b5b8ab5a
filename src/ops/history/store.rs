//! The file: SQLite with a write-ahead log, so that anybody may read while we write. One
//! transaction for each batch, on disk when it returns. What comes in a quarter of an hour is
//! written in one place of the file; a worker's own row follows when the quarter is over, which is
//! a fifth of the writing (`schema.sql` has the view that adds the two).

use std::fs;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::time::Duration;

use farm::ledger::{OTHER, Reason, WorkerTotals};
use rusqlite::{Connection, ErrorCode, OpenFlags, Transaction, params};

use super::{Batch, BlockRow, EventRow, Kept, ShareRow};
use crate::state;

/// Written into each file. A file with a higher number is a later headframe's.
const VERSION: i64 = 1;
const PAGE_BYTES: u64 = 4_096;
/// The log beside the file. It is emptied into the file every 4 MiB, unless a reader holds an old
/// state open; then nothing more is written than this.
const WAL_BYTES_MAX: u64 = 64 << 20;
/// Shares stand by quarters of an hour, in seconds.
const QUARTER: i64 = 900;
/// How long shares and events are kept, in seconds.
const KEPT: i64 = 24 * 3_600;
/// A clock that goes back by more than so many seconds begins anew; by less, time stands still.
const BACK_MAX: i64 = 3_600;
/// Of the largest size, in hundredths: beyond the first the oldest shares go until the second.
const TRIM_ABOVE: u64 = 90;
const TRIM_TO: u64 = 80;
/// Events that are kept: more than two for each of 65,536 workers, in 12 MiB or so.
const EVENTS_MAX: i64 = 150_000;
/// Blocks that are kept.
const BLOCKS_MAX: i64 = 10_000;
/// Another program may hold the file for so long.
const BUSY: Duration = Duration::from_secs(2);

/// 2026-01-01, in seconds since 1970: a clock that stands before has not been set since power came
/// back.
const CLOCK_SET_SINCE: i64 = 1_767_225_600;

/// The open file.
pub(crate) struct Store {
    db: Connection,
    path: PathBuf,
    /// Device and inode of the file that is open.
    identity: Option<(u64, u64)>,
    wal: PathBuf,
    bytes_max: u64,
    open_from: i64,
}

/// Why something could not be done, and whose fault it is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Fault {
    /// The file is no history of ours, or not any more.
    Damaged(String),
    /// There is no room on the disk, or in the largest size.
    Full(String),
    /// A reader holds an old state of the file open, and the log grows.
    Held,
    /// Somebody has removed or replaced it.
    Gone,
    /// The clock is not set, and by it all that was written would be of the future, and go.
    Early,
    /// It cannot be read or written at the moment.
    Unavailable(String),
}

impl std::fmt::Display for Fault {
    fn fmt(&self, out: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Fault::Damaged(why) => write!(out, "it is damaged ({why})"),
            Fault::Full(why) => write!(out, "there is no room ({why}): free some disk"),
            Fault::Held => {
                let mib = WAL_BYTES_MAX >> 20;
                write!(out, "a program keeps reading it and its log has {mib} MiB: end that one")
            }
            Fault::Gone => write!(out, "its file was taken away: a new one is made"),
            Fault::Early => write!(out, "the clock stands before 2026: set it"),
            Fault::Unavailable(why) => write!(
                out,
                "it cannot be used now ({why}): see that file and folder are this user's, and that \
                 the disk works"
            ),
        }
    }
}

impl From<rusqlite::Error> for Fault {
    fn from(error: rusqlite::Error) -> Fault {
        let says = error.to_string();
        match error.sqlite_error_code() {
            Some(ErrorCode::DiskFull) => Fault::Full(says),
            Some(
                ErrorCode::SystemIoFailure
                | ErrorCode::CannotOpen
                | ErrorCode::ReadOnly
                | ErrorCode::PermissionDenied
                | ErrorCode::FileLockingProtocolFailed
                | ErrorCode::NoLargeFileSupport
                | ErrorCode::DatabaseBusy
                | ErrorCode::DatabaseLocked
                | ErrorCode::OutOfMemory
                | ErrorCode::OperationInterrupted,
            ) => Fault::Unavailable(says),
            // Anything else than ours: no database, other tables, other types in them.
            _ => Fault::Damaged(says),
        }
    }
}

impl Store {
    /// Opens the file, or makes it where there is none.
    pub(crate) fn open(path: &Path, bytes_max: u64) -> Result<Store, Fault> {
        if state::is_no_plain_file(path) {
            return Err(Fault::Damaged("it is no plain file".to_owned()));
        }
        let flags = OpenFlags::SQLITE_OPEN_READ_WRITE
            | OpenFlags::SQLITE_OPEN_CREATE
            | OpenFlags::SQLITE_OPEN_NOFOLLOW
            | OpenFlags::SQLITE_OPEN_NO_MUTEX;
        let db = Connection::open_with_flags(path, flags)?;
        db.busy_timeout(BUSY)?;
        db.pragma_update(None, "page_size", PAGE_BYTES)?;
        db.pragma_update(None, "journal_mode", "WAL")?;
        db.pragma_update(None, "synchronous", "FULL")?;
        db.pragma_update(None, "journal_size_limit", 4 << 20)?;
        db.pragma_update(None, "max_page_count", bytes_max / PAGE_BYTES)?;
        match db.pragma_query_value(None, "user_version", |row| row.get::<_, i64>(0))? {
            0 => {
                db.execute_batch("BEGIN IMMEDIATE")?;
                db.execute_batch(include_str!("schema.sql"))?;
                db.pragma_update(None, "user_version", VERSION)?;
                db.execute_batch("COMMIT")?;
            }
            VERSION => {
                let says: String = db.pragma_query_value(None, "quick_check", |row| row.get(0))?;
                if says != "ok" {
                    return Err(Fault::Damaged(says));
                }
            }
            other => return Err(Fault::Damaged(format!("it has version {other}, not {VERSION}"))),
        }
        let open_from = db.query_row("SELECT open_from FROM meta", [], |row| row.get(0))?;
        let mut wal = path.as_os_str().to_owned();
        wal.push("-wal");
        let (identity, path) = (identity(path), path.to_owned());
        Ok(Store { db, path, identity, wal: wal.into(), bytes_max, open_from })
    }

    /// What earlier processes have counted, of every worker.
    pub(crate) fn load(&self) -> Result<Vec<Kept>, Fault> {
        let mut all = self.db.prepare(
            "SELECT name, t.accepted, t.difficulty, t.difficulty_rejected, t.blocks, t.best, \
             t.last_share, id FROM total t JOIN worker USING (name) ORDER BY name",
        )?;
        let rows = all.query_map([], |row| {
            let totals = WorkerTotals {
                accepted: row.get(1)?,
                difficulty_accepted: row.get(2)?,
                difficulty_rejected: row.get(3)?,
                blocks: row.get(4)?,
                ..WorkerTotals::default()
            };
            let (name, best, last_share) = (row.get::<_, String>(0)?, row.get(5)?, row.get(6)?);
            let place = if name == OTHER { 0 } else { row.get(7)? };
            Ok(Kept { name: name.into(), place, totals, best, last_share })
        })?;
        let mut kept = rows.collect::<Result<Vec<Kept>, _>>()?;
        let mut rejected = self.db.prepare("SELECT name, reason, count FROM total_rejected")?;
        let mut rows = rejected.query([])?;
        while let Some(row) = rows.next()? {
            let (name, label): (String, String) = (row.get(0)?, row.get(1)?);
            let reason = Reason::ALL.into_iter().find(|reason| reason.label() == label);
            let at = kept.binary_search_by(|kept| (*kept.name).cmp(&name));
            // SQLite sorts by bytes, as we do; a reason of a later version is nobody's here.
            if let (Ok(at), Some(reason)) = (at, reason) {
                kept[at].totals.rejected[reason as usize] = row.get(2)?;
            }
        }
        Ok(kept)
    }

    /// Gives the accounts of all but the `most` workers that were seen last to `other`: names come
    /// from miners, and a file for ever would have room for none.
    pub(crate) fn fold(&mut self, most: usize, other: &str) -> Result<(), Fault> {
        let count: usize =
            self.db.query_row("SELECT count(*) FROM worker", [], |row| row.get(0))?;
        if count <= most + 1 {
            return Ok(());
        }
        let (open_from, work) = (self.open_from, self.db.transaction()?);
        roll(&work, open_from)?;
        work.execute(
            "CREATE TEMP TABLE gone AS SELECT id FROM worker WHERE name <> ?1 \
             ORDER BY last_share DESC LIMIT -1 OFFSET ?2",
            params![other, most],
        )?;
        work.execute(
            "INSERT INTO worker (name, first_seen) VALUES (?1, 0) ON CONFLICT (name) DO NOTHING",
            [other],
        )?;
        work.execute(
            "UPDATE worker SET accepted = worker.accepted + g.accepted, \
             difficulty = worker.difficulty + g.difficulty, blocks = worker.blocks + g.blocks, \
             difficulty_rejected = worker.difficulty_rejected + g.difficulty_rejected, \
             best = max(worker.best, g.best) FROM (SELECT sum(accepted) AS accepted, \
             sum(difficulty) AS difficulty, sum(blocks) AS blocks, max(best) AS best, \
             sum(difficulty_rejected) AS difficulty_rejected FROM worker \
             WHERE id IN (SELECT id FROM gone)) g WHERE name = ?1",
            [other],
        )?;
        work.execute(
            "INSERT INTO worker_rejected SELECT (SELECT id FROM worker WHERE name = ?1), reason, \
             sum(count) FROM worker_rejected WHERE worker IN (SELECT id FROM gone) \
             GROUP BY reason ON CONFLICT (worker, reason) DO UPDATE \
             SET count = count + excluded.count",
            [other],
        )?;
        for table in ["share", "rejected", "worker_rejected"] {
            let remove = format!("DELETE FROM {table} WHERE worker IN (SELECT id FROM gone)");
            work.execute(&remove, [])?;
        }
        work.execute("DELETE FROM worker WHERE id IN (SELECT id FROM gone)", [])?;
        work.execute("DROP TABLE gone", [])?;
        Ok(work.commit()?)
    }

    /// Writes a batch, whole or not at all. It is on disk when this returns.
    pub(crate) fn write(&mut self, batch: &Batch, now: i64) -> Result<(), Fault> {
        if identity(&self.path) != self.identity {
            return Err(Fault::Gone);
        }
        if now < CLOCK_SET_SINCE && self.open_from >= CLOCK_SET_SINCE {
            return Err(Fault::Early);
        }
        self.room()?;
        let quarter = now - now.rem_euclid(QUARTER);
        let mut open_from = self.open_from;
        let work = self.db.transaction()?;
        if quarter > open_from || quarter < open_from - BACK_MAX {
            roll(&work, quarter)?;
            open_from = quarter;
        }
        for row in &batch.shares {
            write_share(&work, open_from, now, row)?;
        }
        for row in &batch.blocks {
            write_block(&work, row)?;
        }
        for EventRow { at, kind, worker, says } in &batch.events {
            let insert = "INSERT INTO event (at, kind, worker, says) VALUES (?1, ?2, ?3, ?4)";
            let mut insert = work.prepare_cached(insert)?;
            insert.execute(params![at, kind, worker.as_deref(), says])?;
        }
        work.commit()?;
        self.open_from = open_from;
        Ok(())
    }

    /// Removes what is older than a day, and where the largest size is near, the oldest first.
    pub(crate) fn trim(&mut self, now: i64) -> Result<(), Fault> {
        let since = now - KEPT;
        // A quarter goes when all of it is too old, and is in the workers' own rows: where nothing
        // could be written for a day, the last one is not.
        for table in ["share", "rejected"] {
            let closed = "at < (SELECT open_from FROM meta)";
            let remove = format!("DELETE FROM {table} WHERE at < ?1 AND {closed}");
            self.db.execute(&remove, [since - QUARTER])?;
        }
        let newest = "(SELECT max(id) FROM event)";
        let events = format!("DELETE FROM event WHERE at < ?1 OR id <= {newest} - {EVENTS_MAX}");
        self.db.execute(&events, [since])?;
        self.db.execute(
            "DELETE FROM block WHERE hash IN \
             (SELECT hash FROM block ORDER BY at DESC LIMIT -1 OFFSET ?1)",
            [BLOCKS_MAX],
        )?;
        if self.used()? > self.bytes_max / 100 * TRIM_ABOVE {
            while self.used()? > self.bytes_max / 100 * TRIM_TO && self.trim_oldest()? {}
        }
        Ok(())
    }

    /// Whether there was something older than the quarter that is being filled, or an event.
    fn trim_oldest(&mut self) -> Result<bool, Fault> {
        let oldest = "(SELECT min(at) FROM share WHERE at < (SELECT open_from FROM meta))";
        let mut removed = 0;
        // Shares last: they say which quarter is the oldest.
        for table in ["rejected", "share"] {
            removed += self.db.execute(&format!("DELETE FROM {table} WHERE at = {oldest}"), [])?;
        }
        removed += self.db.execute(
            "DELETE FROM event WHERE id <= (SELECT min(id) FROM event) + ?1",
            [EVENTS_MAX / 10],
        )?;
        Ok(removed > 0)
    }

    /// Bytes on disk, the log with them.
    pub(crate) fn bytes(&self) -> Result<u64, Fault> {
        let pages: u64 = self.db.pragma_query_value(None, "page_count", |row| row.get(0))?;
        Ok(pages * PAGE_BYTES + self.wal_bytes())
    }

    /// Bytes of the file that hold something.
    fn used(&self) -> Result<u64, Fault> {
        let pages: u64 = self.db.pragma_query_value(None, "page_count", |row| row.get(0))?;
        let free: u64 = self.db.pragma_query_value(None, "freelist_count", |row| row.get(0))?;
        Ok(pages.saturating_sub(free) * PAGE_BYTES)
    }

    fn wal_bytes(&self) -> u64 {
        fs::metadata(&self.wal).map_or(0, |wal| wal.len())
    }

    /// Nothing is written while a reader keeps the log from being emptied and it has grown.
    fn room(&self) -> Result<(), Fault> {
        if self.wal_bytes() < WAL_BYTES_MAX {
            return Ok(());
        }
        let emptied =
            self.db.query_row("PRAGMA wal_checkpoint(TRUNCATE)", [], |row| row.get::<_, i64>(0))?;
        if emptied == 0 { Ok(()) } else { Err(Fault::Held) }
    }
}

/// Adds what is in the open quarters to the workers' own rows, and opens another one. What the
/// clock has not come to yet, because it went back, is in those rows now and stands nowhere else.
fn roll(work: &Transaction<'_>, open_from: i64) -> Result<(), Fault> {
    work.execute_batch(
        "UPDATE worker SET accepted = worker.accepted + s.accepted, \
         difficulty = worker.difficulty + s.difficulty, blocks = worker.blocks + s.blocks, \
         difficulty_rejected = worker.difficulty_rejected + s.difficulty_rejected, \
         best = max(worker.best, s.best), last_share = coalesce(s.last_share, worker.last_share) \
         FROM (SELECT worker, sum(accepted) AS accepted, sum(difficulty) AS difficulty, \
         sum(blocks) AS blocks, sum(difficulty_rejected) AS difficulty_rejected, \
         max(best) AS best, max(last_share) AS last_share FROM share \
         WHERE at >= (SELECT open_from FROM meta) GROUP BY worker) s WHERE worker.id = s.worker; \
         INSERT INTO worker_rejected SELECT worker, reason, sum(count) FROM rejected \
         WHERE at >= (SELECT open_from FROM meta) GROUP BY worker, reason \
         ON CONFLICT (worker, reason) DO UPDATE SET count = count + excluded.count;",
    )?;
    work.execute("DELETE FROM share WHERE at >= ?1", [open_from])?;
    work.execute("DELETE FROM rejected WHERE at >= ?1", [open_from])?;
    work.execute("UPDATE meta SET open_from = ?1", [open_from])?;
    Ok(())
}

fn write_share(
    work: &Transaction<'_>,
    quarter: i64,
    now: i64,
    row: &ShareRow,
) -> Result<(), Fault> {
    if row.is_new {
        write_worker(work, now, row)?;
    }
    let ShareRow { name, grown, best, last_share, .. } = row;
    let mut share = work.prepare_cached(
        "INSERT INTO share SELECT ?1, id, ?3, ?4, ?5, ?6, ?7, ?8 FROM worker WHERE name = ?2 \
         ON CONFLICT (at, worker) DO UPDATE SET accepted = accepted + excluded.accepted, \
         difficulty = difficulty + excluded.difficulty, blocks = blocks + excluded.blocks, \
         difficulty_rejected = difficulty_rejected + excluded.difficulty_rejected, \
         best = max(best, excluded.best), last_share = coalesce(excluded.last_share, last_share)",
    )?;
    share.execute(params![
        quarter,
        name,
        grown.accepted,
        grown.difficulty_accepted,
        grown.difficulty_rejected,
        grown.blocks,
        best,
        last_share,
    ])?;
    for (reason, count) in rejected(grown) {
        let mut insert = work.prepare_cached(
            "INSERT INTO rejected SELECT ?1, id, ?3, ?4 FROM worker WHERE name = ?2 \
             ON CONFLICT (at, worker, reason) DO UPDATE SET count = count + excluded.count",
        )?;
        insert.execute(params![quarter, name, reason, count])?;
    }
    Ok(())
}

/// The row of a worker that the file does not have, with what was counted before.
fn write_worker(work: &Transaction<'_>, now: i64, row: &ShareRow) -> Result<(), Fault> {
    let ShareRow { name, earlier, .. } = row;
    let mut worker = work.prepare_cached(
        "INSERT INTO worker (name, first_seen, accepted, difficulty, difficulty_rejected, blocks) \
         VALUES (?1, ?2, ?3, ?4, ?5, ?6) ON CONFLICT (name) DO NOTHING",
    )?;
    worker.execute(params![
        name,
        now,
        earlier.accepted,
        earlier.difficulty_accepted,
        earlier.difficulty_rejected,
        earlier.blocks,
    ])?;
    for (reason, count) in rejected(earlier) {
        let mut insert = work.prepare_cached(
            "INSERT INTO worker_rejected SELECT id, ?2, ?3 FROM worker WHERE name = ?1 \
             ON CONFLICT (worker, reason) DO NOTHING",
        )?;
        insert.execute(params![name, reason, count])?;
    }
    Ok(())
}

/// The reasons for which anything was refused.
fn rejected(totals: &WorkerTotals) -> impl Iterator<Item = (&'static str, u64)> + '_ {
    let all =
        Reason::ALL.into_iter().map(|reason| (reason.label(), totals.rejected[reason as usize]));
    all.filter(|(_, count)| *count > 0)
}

fn write_block(work: &Transaction<'_>, row: &BlockRow) -> Result<(), Fault> {
    let BlockRow { hash, at, height, worker, outcome, reason } = row;
    let mut block = work.prepare_cached(
        "INSERT INTO block VALUES (?1, ?2, ?3, ?4, ?5, ?6) \
         ON CONFLICT (hash) DO UPDATE SET outcome = excluded.outcome, reason = excluded.reason",
    )?;
    block.execute(params![hash, at, height, worker, outcome, reason.as_deref()])?;
    Ok(())
}

/// Which file has this name now.
fn identity(path: &Path) -> Option<(u64, u64)> {
    path.symlink_metadata().ok().map(|file| (file.dev(), file.ino()))
}
