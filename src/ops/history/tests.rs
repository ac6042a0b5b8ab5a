//! The history with real files: restarts, clocks that jump, damage, no room, readers.

use std::collections::BTreeMap;

use farm::ledger::{LongRates, Reason};
use rusqlite::{Connection, OpenFlags};
use session::Tick;
use tempfile::TempDir;

use super::*;
use crate::samples;

/// 2026-11-21 in the middle of a quarter.
const START: i64 = 1_795_219_200 + 400;
/// Enough for every test but those about room.
const ROOM: u64 = 16 << 20;

fn moment(unix: i64) -> Moment {
    Moment { tick: Tick(1_000_000_000_000), unix }
}

fn worker(name: &str, accepted: u64, stale: u64) -> WorkerStatus {
    let mut totals = WorkerTotals { accepted, blocks: accepted / 7, ..WorkerTotals::default() };
    totals.rejected[Reason::Stale as usize] = stale;
    totals.difficulty_accepted = accepted as f64 * 16.0;
    totals.difficulty_rejected = stale as f64 * 16.0;
    WorkerStatus {
        name: name.into(),
        place: u64::from(name != OTHER),
        totals,
        hashes_per_second: 1.0,
        long_rates: LongRates::default(),
        connections: 1,
        last_share: Some(Tick(1_000_000_000_000 - 3_000_000)),
        best_difficulty: accepted as f64,
        settled: None,
    }
}

/// A process that has begun on the state folder.
fn process(folder: &TempDir, bytes_max: u64) -> Writer {
    let path = folder.path().join(FILE);
    let mut writer = Writer::new(path, bytes_max, Arc::new(Earlier::opening()));
    writer.open();
    writer
}

/// What the pages show of the workers.
fn shown(writer: &Writer, live: &[WorkerStatus]) -> BTreeMap<Arc<str>, WorkerTotals> {
    let mut all = live.to_vec();
    writer.earlier.complete(&mut all, moment(START).tick, START);
    all.into_iter().map(|row| (row.name, row.totals)).collect()
}

fn reader(folder: &TempDir) -> Connection {
    let path = folder.path().join(FILE);
    Connection::open_with_flags(path, OpenFlags::SQLITE_OPEN_READ_ONLY).expect("it is there")
}

fn number(reader: &Connection, query: &str) -> i64 {
    reader.query_row(query, [], |row| row.get(0)).expect("a number")
}

fn aside(folder: &TempDir) -> usize {
    let names = fs::read_dir(folder.path()).expect("a folder").flatten();
    let names = names.map(|entry| entry.file_name().to_string_lossy().into_owned());
    names.filter(|name| name.contains("damaged") && !name.ends_with("-wal")).count()
}

#[test]
fn totals_survive_a_process_that_is_killed() {
    let folder = tempfile::tempdir().expect("a folder");
    let status = samples::status();
    let mut first = process(&folder, ROOM);
    first.write(&[worker("a", 70, 3), worker("b", 1, 0)], &status, moment(START));
    first.write(&[worker("a", 77, 4), worker("b", 1, 0)], &status, moment(START + 5));
    assert_eq!(first.earlier.status().state, HistoryState::Writing);
    // Nothing is closed or said: what is on disk is all there is.
    std::mem::forget(first);
    let mut second = process(&folder, ROOM);
    let mut whole = worker("a", 77, 4).totals;
    whole.add(&worker("a", 7, 1).totals);
    let live = [worker("a", 7, 1), worker("c", 2, 0)];
    let totals = shown(&second, &live);
    assert_eq!(totals["a"], whole);
    assert_eq!(totals["b"], worker("b", 1, 0).totals, "it has not come back");
    assert_eq!(totals["c"], worker("c", 2, 0).totals);
    assert_eq!(second.earlier.status().totals.accepted, 78);
    second.write(&live, &status, moment(START + 10));
    let third = process(&folder, ROOM);
    assert_eq!(shown(&third, &[])["a"], whole);
    let mut absent = Vec::new();
    third.earlier.complete(&mut absent, moment(START).tick, START + 60);
    assert_eq!(absent[0].connections, 0);
    assert_eq!(absent[0].best_difficulty, 77.0);
    let age = moment(START).tick.since(absent[0].last_share.expect("it had one"));
    assert_eq!(age / 1_000_000, 60 - 10 + 3);
}

/// A generator for the one test that needs chance; the same each time.
fn chance(state: &mut u64, below: u64) -> u64 {
    *state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
    (*state >> 33) % below
}

#[test]
fn totals_are_exact_over_restarts_and_clocks_that_jump() {
    let folder = tempfile::tempdir().expect("a folder");
    let status = samples::status();
    let (mut state, mut unix) = (7, START);
    let mut model: BTreeMap<Arc<str>, WorkerTotals> = BTreeMap::new();
    let mut live: BTreeMap<Arc<str>, (u64, u64)> = BTreeMap::new();
    let mut writer = process(&folder, ROOM);
    let rows = |live: &BTreeMap<Arc<str>, (u64, u64)>| -> Vec<WorkerStatus> {
        live.iter().map(|(name, (accepted, stale))| worker(name, *accepted, *stale)).collect()
    };
    for step in 0..400 {
        for _ in 0..chance(&mut state, 8) {
            let name: Arc<str> = format!("rig.{}", chance(&mut state, 12)).into();
            let counts = live.entry(name).or_default();
            *counts = (counts.0 + chance(&mut state, 9), counts.1 + chance(&mut state, 3));
        }
        unix += match chance(&mut state, 20) {
            0 => 90_000,
            1 => -7_200,
            2 => -30,
            _ => chance(&mut state, 400) as i64,
        };
        writer.write(&rows(&live), &status, moment(unix));
        let state_now = writer.earlier.status();
        assert_eq!(state_now.state, HistoryState::Writing, "step {step}: {:?}", state_now.says);
        if chance(&mut state, 10) == 0 {
            for row in rows(&std::mem::take(&mut live)) {
                model.entry(row.name).or_default().add(&row.totals);
            }
            writer = process(&folder, ROOM);
            assert_eq!(shown(&writer, &[]), model, "step {step}");
        }
    }
    assert!(model.len() == 12 && model.values().all(|totals| totals.accepted > 100), "{model:?}");
}

#[test]
fn anybody_may_read_while_it_is_written() {
    let folder = tempfile::tempdir().expect("a folder");
    let mut status = samples::status();
    let mut writer = process(&folder, ROOM);
    writer.write(&[worker("a", 10, 1)], &status, moment(START));
    let reading = reader(&folder);
    // A reader in the middle of a long look sees one state, and keeps nobody from writing.
    reading.execute_batch("BEGIN").expect("begun");
    assert_eq!(number(&reading, "SELECT accepted FROM total WHERE name = 'a'"), 10);
    status.blocks.push(crate::samples::block());
    writer.write(&[worker("a", 25, 1)], &status, moment(START + 900));
    assert_eq!(writer.earlier.status().failures, 0);
    assert_eq!(number(&reading, "SELECT accepted FROM total WHERE name = 'a'"), 10);
    reading.execute_batch("COMMIT").expect("ended");
    assert_eq!(number(&reading, "SELECT accepted FROM total WHERE name = 'a'"), 25);
    assert_eq!(number(&reading, "SELECT count(*) FROM share"), 2, "two quarters");
    assert_eq!(number(&reading, "SELECT sum(accepted) FROM share"), 25);
    assert_eq!(number(&reading, "SELECT count FROM total_rejected WHERE reason = 'stale'"), 1);
    assert_eq!(number(&reading, "SELECT height FROM block WHERE outcome = 'accepted'"), 9);
    assert_eq!(number(&reading, "SELECT count(*) FROM event WHERE kind = 'connected'"), 1);
}

#[test]
fn a_day_is_kept_and_the_totals_for_ever() {
    let folder = tempfile::tempdir().expect("a folder");
    let status = samples::status();
    let mut writer = process(&folder, ROOM);
    for quarter in 0..200 {
        let rows = [worker("a", 10 * (quarter + 1), quarter)];
        writer.write(&rows, &status, moment(START + 900 * quarter as i64));
    }
    writer.store.as_mut().expect("open").trim(START + 900 * 199).expect("trimmed");
    let reading = reader(&folder);
    assert_eq!(number(&reading, "SELECT count(*) FROM share"), 97);
    assert_eq!(number(&reading, "SELECT sum(accepted) FROM share"), 970);
    assert_eq!(number(&reading, "SELECT accepted FROM total"), 2_000);
    assert_eq!(number(&reading, "SELECT count FROM total_rejected"), 199);
}

#[test]
fn a_day_without_a_write_costs_no_totals() {
    let folder = tempfile::tempdir().expect("a folder");
    let status = samples::status();
    let mut writer = process(&folder, ROOM);
    writer.write(&[worker("a", 10, 1)], &status, moment(START));
    // Old rows are removed, also where nothing was written for so long that all are old.
    writer.store.as_mut().expect("open").trim(START + 3 * 86_400).expect("trimmed");
    drop(writer);
    let writer = process(&folder, ROOM);
    assert_eq!(shown(&writer, &[])["a"], worker("a", 10, 1).totals);
}

#[test]
fn a_damaged_file_is_moved_aside_and_a_new_one_begins() {
    let folder = tempfile::tempdir().expect("a folder");
    let status = samples::status();
    let path = folder.path().join(FILE);
    let rows: Vec<_> = (0..500).map(|rig| worker(&format!("rig.{rig}"), 10, 1)).collect();
    let damages: [(&str, &dyn Fn()); 3] = [
        ("no database", &|| fs::write(&path, "once upon a time").expect("written")),
        ("a folder", &|| {
            fs::remove_file(&path).expect("removed");
            fs::create_dir(&path).expect("made");
        }),
        ("pages", &|| {
            let mut bytes = fs::read(&path).expect("read");
            bytes[8_192..].iter_mut().for_each(|byte| *byte ^= 0x55);
            fs::write(&path, bytes).expect("written");
        }),
    ];
    for (number, (what, damage)) in damages.iter().enumerate() {
        let mut writer = process(&folder, ROOM);
        writer.write(&rows, &status, moment(START));
        drop(writer);
        damage();
        let mut writer = process(&folder, ROOM);
        assert_eq!(aside(&folder), number + 1, "{what}");
        writer.write(&rows, &status, moment(START));
        assert_eq!(writer.earlier.status().state, HistoryState::Writing, "{what}");
        drop(writer);
        assert_eq!(shown(&process(&folder, ROOM), &[]).len(), 500, "{what}");
    }
}

#[test]
fn a_file_that_breaks_while_it_is_open_costs_no_totals() {
    let folder = tempfile::tempdir().expect("a folder");
    let status = samples::status();
    let mut writer = process(&folder, ROOM);
    writer.write(&[worker("a", 70, 3), worker("gone", 5, 0)], &status, moment(START));
    drop(writer);
    let mut writer = process(&folder, ROOM);
    writer.write(&[worker("a", 7, 1)], &status, moment(START + 5));
    writer.failed(Fault::Damaged("on purpose".to_owned()));
    assert_eq!(aside(&folder), 1);
    writer.write(&[worker("a", 9, 1)], &status, moment(START + 10));
    drop(writer);
    let totals = shown(&process(&folder, ROOM), &[]);
    assert_eq!((totals["a"].accepted, totals["a"].rejected_all()), (79, 4));
    assert_eq!(totals["gone"].accepted, 5);
}

#[test]
fn too_many_damaged_files_are_not_heaped_up() {
    let folder = tempfile::tempdir().expect("a folder");
    for number in 0..ASIDE_MAX {
        fs::write(folder.path().join(format!("{FILE}.damaged-{number}")), "x").expect("written");
    }
    fs::write(folder.path().join(FILE), "once upon a time").expect("written");
    let writer = process(&folder, ROOM);
    assert_eq!(aside(&folder), ASIDE_MAX);
    assert_eq!(writer.earlier.status().state, HistoryState::Failing);
    assert_eq!(
        fs::read_to_string(folder.path().join(FILE)).expect("it is there"),
        "once upon a time"
    );
}

#[test]
fn what_finds_no_room_is_written_when_there_is_some() {
    let folder = tempfile::tempdir().expect("a folder");
    let status = samples::status();
    let mut writer = process(&folder, 40 * 4_096);
    let rows: Vec<_> = (0..5_000).map(|rig| worker(&format!("rig.{rig}"), 10, 1)).collect();
    writer.write(&rows, &status, moment(START));
    let failing = writer.earlier.status();
    assert_eq!((failing.state, failing.failures), (HistoryState::Failing, 1));
    assert!(failing.says.expect("a reason").contains("full"), "it says why");
    // The same file, with room.
    writer.bytes_max = ROOM;
    writer.store = None;
    writer.open();
    writer.write(&rows, &status, moment(START + 60));
    assert_eq!(writer.earlier.status().state, HistoryState::Writing);
    drop(writer);
    let totals = shown(&process(&folder, ROOM), &[]);
    assert_eq!(totals.len(), 5_000);
    assert!(totals.values().all(|totals| totals.accepted == 10 && totals.rejected_all() == 1));
}

#[test]
fn a_history_that_is_full_forgets_its_oldest_hours_and_no_totals() {
    let folder = tempfile::tempdir().expect("a folder");
    let status = samples::status();
    // Room for a few hours of so many workers.
    let (room, workers, quarters) = (2 << 20, 1_000, 60);
    let mut writer = process(&folder, room);
    for quarter in 1..=quarters {
        let row = |rig| worker(&format!("rig.{rig}"), quarter, 0);
        let rows: Vec<_> = (0..workers).map(row).collect();
        writer.write(&rows, &status, moment(START + 900 * quarter as i64));
        writer.store.as_mut().expect("open").trim(START + 900 * quarter as i64).expect("trimmed");
        assert_eq!(writer.earlier.status().state, HistoryState::Writing, "quarter {quarter}");
    }
    let bytes = fs::metadata(folder.path().join(FILE)).expect("a file").len();
    assert!(bytes <= room, "{bytes}");
    let kept = number(&reader(&folder), "SELECT count(DISTINCT at) FROM share");
    assert!((5..quarters as i64).contains(&kept), "{kept} quarters");
    drop(writer);
    let totals = shown(&process(&folder, room), &[]);
    assert!(totals.len() == workers && totals.values().all(|totals| totals.accepted == quarters));
}

#[test]
fn a_folder_that_is_away_is_looked_for_again() {
    let folder = tempfile::tempdir().expect("a folder");
    let path = folder.path().join("away").join(FILE);
    let mut writer = Writer::new(path, ROOM, Arc::new(Earlier::opening()));
    let status = samples::status();
    writer.open();
    assert_eq!(writer.earlier.status().state, HistoryState::Failing);
    fs::create_dir(folder.path().join("away")).expect("made");
    for second in 0..=i64::from(OPEN_AGAIN) {
        writer.write(&[worker("a", 7, 0)], &status, moment(START + 5 * second));
    }
    assert_eq!(writer.earlier.status().state, HistoryState::Writing);
}

#[test]
fn names_of_long_ago_give_their_accounts_to_the_others() {
    let folder = tempfile::tempdir().expect("a folder");
    let status = samples::status();
    let mut writer = process(&folder, ROOM);
    for (rig, at) in (0..30).map(|rig| (rig, START + rig)) {
        writer.write(&[worker(&format!("rig.{rig:02}"), 10, 2)], &status, moment(at));
    }
    let store = writer.store.as_mut().expect("open");
    store.fold(20, OTHER).expect("folded");
    let kept = store.load().expect("read");
    let names: Vec<&str> = kept.iter().map(|kept| &*kept.name).collect();
    assert_eq!((kept.len(), names[0], names[1], names[20]), (21, OTHER, "rig.10", "rig.29"));
    let mut whole = WorkerTotals::default();
    kept.iter().for_each(|kept| whole.add(&kept.totals));
    assert_eq!((whole.accepted, whole.rejected_all()), (300, 60));
    assert_eq!((kept[0].totals.accepted, kept[0].totals.rejected_all()), (100, 20));
    store.fold(20, OTHER).expect("nothing to do");
    assert_eq!(store.load().expect("read"), kept);
}

#[test]
fn a_file_that_is_taken_away_is_made_anew_with_all_totals() {
    let folder = tempfile::tempdir().expect("a folder");
    let (status, live) = (samples::status(), [worker("a", 70, 3)]);
    let mut writer = process(&folder, ROOM);
    writer.write(&live, &status, moment(START));
    fs::remove_file(folder.path().join(FILE)).expect("it was there");
    let live = [worker("a", 77, 3)];
    writer.write(&live, &status, moment(START + 5));
    let said = writer.earlier.status();
    assert_eq!(said.state, HistoryState::Failing);
    assert!(said.says.is_some_and(|says| says.contains("taken away")), "it is said");
    writer.write(&live, &status, moment(START + 10));
    assert_eq!(writer.earlier.status().state, HistoryState::Writing);
    drop(writer);
    assert_eq!(shown(&process(&folder, ROOM), &[])["a"], live[0].totals);
}

#[test]
fn what_is_no_plain_file_is_moved_aside() {
    let elsewhere = tempfile::tempdir().expect("a folder");
    let link = |path: &Path| {
        std::os::unix::fs::symlink(elsewhere.path().join("precious"), path).expect("a link");
    };
    let pipe = |path: &Path| {
        let made = std::process::Command::new("mkfifo").arg(path).status().expect("mkfifo runs");
        assert!(made.success());
    };
    let places: [&dyn Fn(&Path); 3] =
        [&|path| fs::create_dir(path).expect("a folder"), &link, &pipe];
    for put in places {
        let folder = tempfile::tempdir().expect("a folder");
        put(&folder.path().join(FILE));
        let writer = process(&folder, ROOM);
        assert!(writer.store.is_some(), "{:?}", writer.earlier.status());
        assert_eq!(aside(&folder), 1);
        assert!(!elsewhere.path().join("precious").exists(), "nothing is made elsewhere");
    }
}

#[test]
fn what_may_not_be_opened_now_is_not_taken_for_damaged() {
    use rusqlite::ffi::{self, Error};
    for code in [ffi::SQLITE_CANTOPEN, ffi::SQLITE_READONLY, ffi::SQLITE_PERM, ffi::SQLITE_IOERR] {
        let fault = Fault::from(rusqlite::Error::SqliteFailure(Error::new(code), None));
        assert!(matches!(fault, Fault::Unavailable(_)), "{code}: {fault:?}");
    }
    for code in [ffi::SQLITE_CORRUPT, ffi::SQLITE_NOTADB] {
        let fault = Fault::from(rusqlite::Error::SqliteFailure(Error::new(code), None));
        assert!(matches!(fault, Fault::Damaged(_)), "{code}: {fault:?}");
    }
}

#[test]
fn a_clock_that_was_not_set_costs_nothing() {
    let folder = tempfile::tempdir().expect("a folder");
    let (status, live) = (samples::status(), [worker("a", 70, 3)]);
    let mut writer = process(&folder, ROOM);
    writer.write(&live, &status, moment(START));
    drop(writer);
    let mut writer = process(&folder, ROOM);
    writer.write(&[worker("a", 7, 0)], &status, moment(1_000));
    assert_eq!(writer.earlier.status().state, HistoryState::Failing);
    assert_eq!(number(&reader(&folder), "SELECT sum(accepted) FROM share"), 70);
    writer.write(&[worker("a", 8, 0)], &status, moment(START + 60));
    assert_eq!(number(&reader(&folder), "SELECT sum(accepted) FROM share"), 78);
}

#[test]
fn names_that_only_connect_leave_nothing_in_the_file() {
    let folder = tempfile::tempdir().expect("a folder");
    let status = samples::status();
    let mut writer = process(&folder, ROOM);
    let mut rows: Vec<_> = (0..500).map(|name| worker(&format!("{name}"), 0, 0)).collect();
    rows.push(worker(OTHER, 0, 0));
    writer.write(&rows, &status, moment(START));
    for count in ["worker", "share", "event WHERE worker IS NOT NULL"] {
        let count = format!("SELECT count(*) FROM {count}");
        assert_eq!(number(&reader(&folder), &count), 0, "{count}");
    }
    rows[3] = worker("3", 1, 0);
    rows[500] = worker(OTHER, 0, 1);
    writer.write(&rows, &status, moment(START + 5));
    rows[3].connections = 0;
    rows[500].connections = 0;
    writer.write(&rows, &status, moment(START + 10));
    drop(writer);
    let totals = shown(&process(&folder, ROOM), &[]);
    let names: Vec<&str> = totals.keys().map(|name| &**name).collect();
    assert_eq!(
        (names, totals["3"].accepted, totals[OTHER].rejected_all()),
        (vec!["3", OTHER], 1, 1)
    );
    let of_workers = "SELECT count(*) FROM event WHERE worker IS NOT NULL";
    assert_eq!(number(&reader(&folder), of_workers), 2, "it came and went");
}

#[test]
fn the_order_of_first_shares_outlives_a_process() {
    let folder = tempfile::tempdir().expect("a folder");
    let status = samples::status();
    let mut writer = process(&folder, ROOM);
    let row = |name: &str, place| WorkerStatus { place, ..worker(name, 5, 0) };
    writer.write(&[row("z", 1), row("m", 2), row(OTHER, 0)], &status, moment(START));
    writer.write(&[row("z", 1), row("m", 2), row("a", 3)], &status, moment(START + 5));
    drop(writer);
    let second = process(&folder, ROOM);
    let mut live = vec![row("!x", 1), row("m", 2), row("b", 3), row(OTHER, 0)];
    second.earlier.complete(&mut live, moment(START).tick, START);
    live.sort_by_key(|row| row.place);
    let names: Vec<&str> = live.iter().map(|row| &*row.name).collect();
    assert_eq!(names, [OTHER, "z", "m", "a", "!x", "b"]);
    assert_eq!(live[0].place, 0);
    assert!(live.windows(2).all(|pair| pair[0].place < pair[1].place), "no two have one place");
}
