//! What workers have done outlives the process: the real binary, killed while they mine, started
//! again on the same folder, and once more on one whose history is damaged.

#[path = "support/disk.rs"]
mod disk;
#[path = "support/rig.rs"]
mod rig;
mod support;

use std::fs;
use std::time::Instant;

use serde_json::Value;

use disk::Disk;
use rig::Rig;
use support::{Daemon, Home, LIMIT, get};

/// Every hash is a share and none a block.
const CHAIN: &str = "difficulty = 1e14\nblock_seconds = 0.0\n\
    [difficulty]\nstart = 1e-10\nminimum = 1e-10\nmaximum = 1e-10\n\
    [limits]\nworker_series = 2\n[log]\nformat = \"json\"\n";
/// Whatever ends the process, no more than so much of the workers' doing is lost.
const LOST_SECONDS_MAX: f64 = 10.0;

fn start(home: &Home) -> (Daemon, String, String) {
    serving(Daemon::start(&home.write(&home.config(CHAIN))))
}

/// A daemon once miners can have work, and where miners and pages are.
fn serving(mut daemon: Daemon) -> (Daemon, String, String) {
    let stratum = daemon.wait_for_address("miners connect here");
    let pages = daemon.wait_for_address("pages are served here");
    daemon.until_ready(&pages);
    (daemon, stratum, pages)
}

fn page(address: &str, path: &str) -> Value {
    let answer = get(address, path);
    let (_, body) = answer.split_once("\r\n\r\n").expect("a head and a body");
    serde_json::from_str(body).unwrap_or_else(|error| panic!("{error} in {body}"))
}

/// Mines `shares` good shares and one that is refused, and goes away.
fn mine(stratum: &str, name: &str, shares: u32) {
    let mut rig = Rig::connect(stratum, name, "x");
    let job = rig.job();
    for nonce in (0..shares).chain([0]) {
        let id = if nonce > 0 { 10 + nonce } else { 9 };
        rig.submit(&job, id, nonce);
    }
}

/// Accepted and refused shares of a worker, as the API has them.
fn shares(pages: &str, name: &str) -> (u64, u64) {
    let body = page(pages, &format!("/api/v1/workers?worker={name}"));
    let shares = &body["workers"][0]["shares"];
    let of = |result: &str| shares[result].as_u64().unwrap_or_default();
    (of("accepted"), of("rejected"))
}

/// Asks until the pages are as wanted.
fn until(pages: &str, what: &str, wanted: impl Fn() -> bool) {
    let started = Instant::now();
    while !wanted() {
        assert!(started.elapsed() < LIMIT, "{what}: {}", page(pages, "/api/v1/status"));
    }
}

fn uptime(pages: &str) -> f64 {
    page(pages, "/api/v1/status")["uptime_seconds"].as_f64().expect("a number")
}

/// When the history was last written, in seconds since the process began.
fn written(pages: &str) -> f64 {
    let status = page(pages, "/api/v1/status");
    let uptime = status["uptime_seconds"].as_f64().expect("a number");
    status["history"]["written_age_seconds"].as_f64().map_or(-1.0, |age| uptime - age)
}

#[test]
fn totals_outlive_a_kill_and_a_damaged_history_is_moved_aside() {
    let home = Home::new();
    let (mut daemon, stratum, pages) = start(&home);
    mine(&stratum, "farm.a", 50);
    mine(&stratum, "farm.b", 20);
    until(&pages, "the accounts", || {
        shares(&pages, "farm.a") == (50, 1) && shares(&pages, "farm.b") == (20, 1)
    });
    let mined = uptime(&pages);
    until(&pages, "the write", || written(&pages) > mined);
    assert!(written(&pages) - mined < LOST_SECONDS_MAX, "{} to {mined}", written(&pages));
    daemon.child.kill().expect("kill -9");
    daemon.child.wait().expect("dead");

    let (mut daemon, stratum, pages) = start(&home);
    mine(&stratum, "farm.a", 7);
    until(&pages, "both processes' sum", || shares(&pages, "farm.a") == (57, 2));
    assert_eq!(shares(&pages, "farm.b"), (20, 1), "it has not come back, and is there");
    // The snapshot is a second behind the accounts.
    until(&pages, "of this process, and of both", || {
        let status = page(&pages, "/api/v1/status");
        status["shares"]["accepted"] == 7 && status["shares_ever"]["accepted"] == 77
    });
    for line in [
        "headframe_worker_shares_total{worker=\"farm.a\",result=\"accepted\"} 57",
        "headframe_worker_shares_total{worker=\"farm.b\",result=\"rejected\"} 1",
        "headframe_history_up 1",
    ] {
        // Series of workers begin a second after the history was read.
        until(&pages, line, || get(&pages, "/metrics").lines().any(|found| found == line));
    }
    // An orderly end loses nothing at all.
    daemon.signal("TERM");
    assert_eq!(daemon.end(), Some(0));
    let (mut daemon, _, pages) = start(&home);
    until(&pages, "the sum", || shares(&pages, "farm.a") == (57, 2));
    daemon.signal("TERM");
    assert_eq!(daemon.end(), Some(0));

    fs::write(home.path("state/history.db"), "once upon a time").expect("written");
    let mut daemon = Daemon::start(&home.write(&home.config(CHAIN)));
    let said = daemon.wait_for("the damaged history is here now");
    assert!(said.contains("history.db.damaged-"), "{said}");
    daemon.signal("TERM");
    assert_eq!(daemon.end(), Some(0));
    let files = fs::read_dir(home.path("state")).expect("a folder").flatten();
    let names: Vec<String> =
        files.map(|file| file.file_name().to_string_lossy().into_owned()).collect();
    assert!(names.iter().any(|name| name.starts_with("history.db.damaged-")), "{names:?}");
    assert!(names.iter().any(|name| name == "history.db"), "{names:?}");
}

#[test]
fn a_disk_without_room_keeps_nobody_from_mining_and_nothing_is_lost() {
    let home = Home::new();
    let disk = Disk::new(&home);
    let (mut daemon, stratum, pages) = serving(disk.start(&home.write(&home.config(CHAIN))));
    mine(&stratum, "farm.a", 10);
    until(&pages, "the first write", || written(&pages) >= 0.0);
    disk.turn("full");
    mine(&stratum, "farm.a", 20);
    let history = || page(&pages, "/api/v1/status")["history"].clone();
    until(&pages, "the fault", || history()["state"] == "failing");
    assert!(history()["says"].as_str().is_some_and(|why| why.contains("room")), "{}", history());
    assert!(get(&pages, "/metrics").lines().any(|line| line == "headframe_history_up 0"));
    mine(&stratum, "farm.a", 30);
    until(&pages, "the accounts", || shares(&pages, "farm.a") == (60, 3));
    disk.turn("works");
    until(&pages, "a disk with room", || history()["state"] == "writing");
    daemon.child.kill().expect("kill -9");
    daemon.child.wait().expect("dead");
    let (mut daemon, _, pages) = start(&home);
    until(&pages, "all of it", || shares(&pages, "farm.a") == (60, 3));
    daemon.signal("TERM");
    assert_eq!(daemon.end(), Some(0));
}

#[test]
fn a_disk_that_hangs_keeps_neither_miners_nor_pages_nor_the_end_waiting() {
    let home = Home::new();
    let disk = Disk::new(&home);
    let (mut daemon, stratum, pages) = serving(disk.start(&home.write(&home.config(CHAIN))));
    disk.turn("hangs");
    mine(&stratum, "farm.a", 10);
    let behind = || {
        let status = page(&pages, "/api/v1/status");
        let age = status["history"]["written_age_seconds"].as_f64();
        age.unwrap_or_else(|| status["uptime_seconds"].as_f64().expect("a number"))
    };
    until(&pages, "a write that hangs", || behind() > 12.0);
    mine(&stratum, "farm.a", 20);
    until(&pages, "the accounts", || shares(&pages, "farm.a") == (30, 2));
    daemon.signal("TERM");
    assert_eq!(daemon.end(), Some(0), "it ends without the disk");
}
