//! A block outlives the process that found it: the real binary, killed between a share and the
//! node's answer, and started again.

#[path = "support/rig.rs"]
mod rig;
mod support;

use std::fs;
use std::time::Instant;

use serde_json::Value;

use rig::Rig;
use support::{Daemon, Home, LIMIT, get};

/// Half of all hashes are blocks, and nobody else finds one.
const CHAIN: &str = "difficulty = 4.66e-10\nblock_seconds = 0.0\n";
const REST: &str = "[difficulty]\nstart = 1e-10\nminimum = 1e-10\nmaximum = 1e-10\n\
    [log]\nformat = \"json\"\n";
/// So many tries are no block at all once in a million runs.
const TRIES: u32 = 20;

/// The daemon of a file, and where miners and pages are.
fn start(home: &Home, answer_seconds: f64) -> (Daemon, String, String) {
    let text = home.config(&format!("{CHAIN}answer_seconds = {answer_seconds:?}\n{REST}"));
    let mut daemon = Daemon::start(&home.write(&text));
    let stratum = daemon.wait_for_address("miners connect here");
    let pages = daemon.wait_for_address("pages are served here");
    (daemon, stratum, pages)
}

fn page(address: &str, path: &str) -> Value {
    let answer = get(address, path);
    let (_, body) = answer.split_once("\r\n\r\n").expect("a head and a body");
    serde_json::from_str(body).expect("JSON")
}

/// Mines until some block must have been found.
fn mine(stratum: &str) {
    let mut rig = Rig::connect(stratum, "farm.a", "x");
    let job = rig.job();
    for nonce in 0..TRIES {
        rig.submit(&job, 10 + nonce, nonce);
    }
}

/// Asks until the blocks' page is as wanted.
fn until(pages: &str, wanted: impl Fn(&[Value]) -> bool) -> Vec<Value> {
    let started = Instant::now();
    loop {
        let body = page(pages, "/api/v1/blocks");
        let blocks = body["blocks"].as_array().expect("a list").clone();
        if wanted(&blocks) {
            return blocks;
        }
        assert!(started.elapsed() < LIMIT, "{body}");
    }
}

#[test]
fn a_block_outlives_a_kill_between_share_and_answer() {
    let home = Home::new();
    // This node takes so long that the process dies before it has heard anything.
    let (mut daemon, stratum, pages) = start(&home, 60.0);
    daemon.until_ready(&pages);
    mine(&stratum);
    let journaled = |block: &Value| block["journal"] == "written" || block["journal"] == "durable";
    let first = until(&pages, |blocks| blocks.last().is_some_and(journaled)).pop();
    let first = first.expect("it was found");
    assert_eq!((&first["outcome"], &first["restored"]), (&"submitted".into(), &false.into()));
    daemon.child.kill().expect("kill -9");
    daemon.child.wait().expect("dead");
    assert!(fs::metadata(home.path("state/blocks.journal")).is_ok());

    let (mut daemon, _, pages) = start(&home, 0.0);
    daemon.until_ready(&pages);
    let ready = Instant::now();
    let blocks = until(&pages, |blocks| !blocks.is_empty());
    let job_age = page(&pages, "/api/v1/status")["job"]["age_seconds"].as_f64().expect("a job");
    let between = ready.elapsed().as_secs_f64();
    assert_eq!(blocks.last().expect("the oldest")["hash"], first["hash"], "and it comes first");
    for block in &blocks {
        assert_eq!(block["restored"], true, "{block}");
        let sent_age = block["first_byte_age_seconds"].as_f64().expect("it went out");
        assert!(sent_age + between >= job_age, "sent {sent_age} s ago, the job {job_age} s");
    }
    // The chain of the same seed begins again: the first of them is its next block.
    let settled = |block: &Value| block["outcome"] != "submitted";
    let blocks = until(&pages, |blocks| blocks.iter().all(settled));
    let (oldest, others) = blocks.split_last().expect("the oldest");
    assert_eq!(oldest["outcome"], "accepted", "{oldest}");
    assert!(others.iter().all(|other| other["outcome"] == "stale"), "{others:?}");
    daemon.signal("TERM");
    assert_eq!(daemon.end(), Some(0));
}
