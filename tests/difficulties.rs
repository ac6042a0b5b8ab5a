//! The difficulty that a worker had settled at is where it starts again: the real binary, another
//! connection, a kill and a restart on the same folder, and one whose file of difficulties is
//! damaged.

#[path = "support/rig.rs"]
mod rig;
mod support;

use std::fs;
use std::time::Instant;

use rig::Rig;
use support::{Daemon, Home, LIMIT};

/// Every hash is a share at all of these difficulties, and none a block.
const CHAIN: &str = "difficulty = 1e14\nblock_seconds = 0.0\n\
    [difficulty]\nstart = 1e-12\nminimum = 1e-12\nmaximum = 1.2e-10\n[log]\nformat = \"json\"\n";
/// 2^-33, the power of two within these bounds that is nearest to what the miner asks for.
const SETTLED: f64 = 1.0 / 8_589_934_592.0;
/// Shares after which a difficulty is settled.
const SHARES: u32 = 16;

fn start(home: &Home) -> (Daemon, String) {
    let mut daemon = Daemon::start(&home.write(&home.config(CHAIN)));
    let stratum = daemon.wait_for_address("miners connect here");
    let pages = daemon.wait_for_address("pages are served here");
    daemon.until_ready(&pages);
    (daemon, stratum)
}

/// Connects anew, finds so many shares, and goes; the difficulty that it was told first.
fn mine(stratum: &str, name: &str, password: &str, shares: u32) -> f64 {
    let mut rig = Rig::connect(stratum, name, password);
    let told = rig.hear(|message| message["method"] == "mining.set_difficulty");
    let job = rig.job();
    for nonce in 0..shares {
        assert_eq!(rig.submit(&job, 10 + nonce, nonce)["result"], true);
    }
    let told = told["params"][0].as_f64().expect("a number");
    // The JSON reader of this test is wrong by a bit now and then; these are powers of two.
    told.log2().round().exp2()
}

#[test]
fn a_worker_starts_where_it_had_settled_over_connections_and_restarts() {
    let home = Home::new();
    let file = home.path("state").join("difficulties");
    let (mut daemon, stratum) = start(&home);
    let unknown = mine(&stratum, "farm.b", "x", 0);
    assert!(unknown < SETTLED, "{unknown}");
    assert_eq!(mine(&stratum, "farm.a", "d=1e-10", SHARES), SETTLED);
    let mined = Instant::now();
    let written = || fs::read_to_string(&file).is_ok_and(|text| text.contains("unknown farm.a\n"));
    while !written() {
        assert!(mined.elapsed() < LIMIT, "it is never written");
    }
    assert_eq!(mine(&stratum, "farm.a", "x", 0), SETTLED, "in the same process");
    daemon.child.kill().expect("kill -9");
    daemon.child.wait().expect("dead");

    let (mut daemon, stratum) = start(&home);
    assert_eq!(mine(&stratum, "farm.a", "x", 0), SETTLED, "after a kill");
    assert_eq!(mine(&stratum, "farm.b", "x", 0), unknown, "it had found nothing");
    assert_eq!(mine(&stratum, "farm.a", "d=1e-12", 0), unknown, "what is asked for goes first");
    daemon.signal("TERM");
    assert_eq!(daemon.end(), Some(0));

    let text = fs::read_to_string(&file).expect("it is there");
    fs::write(&file, &text[..text.len() / 2]).expect("damaged");
    let mut daemon = Daemon::start(&home.write(&home.config(CHAIN)));
    let line = daemon.wait_for("the file of difficulties is damaged");
    assert!(line.contains("difficulties.damaged"), "{line}");
    let stratum = daemon.wait_for_address("miners connect here");
    let pages = daemon.wait_for_address("pages are served here");
    daemon.until_ready(&pages);
    assert_eq!(mine(&stratum, "farm.a", "x", 0), unknown, "as if it were new");
    assert!(home.path("state").join("difficulties.damaged").exists(), "it is kept");
}
