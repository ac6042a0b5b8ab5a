//! Blocks that outlive the process that found them: killed with kill -9 at a random moment, while
//! the node is down, with one of two nodes dead, and on a disk that hangs.

use std::collections::BTreeSet;
use std::fs;
use std::hash::{BuildHasher, RandomState};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use regtest::Bitcoind;
use serde_json::{Value, json};

use crate::farm::{
    Farm, SHARES, SIGNATURE, assert_only_stale, block_at, config, from_environment, until, wait_for,
};
use crate::proxy::Proxy;
use crate::support::{Daemon, HEADFRAME, Home};

/// Blocks that survive a kill -9 where the environment does not say it.
const RUNS: u64 = 10;
/// Of the kinds that have their node started again each time, only so many of those.
const RUNS_PER_RESTART: u64 = 5;
/// Where nobody listens.
const NOBODY: &str = "http://127.0.0.1:1";
/// Blocks that a node must take from a farm whose journal hangs.
const BLOCKS: u64 = 3;

fn runs() -> u64 {
    from_environment("HEADFRAME_RUNS", RUNS)
}

fn payout() -> String {
    format!("script = \"51\"\nsignature = \"{SIGNATURE}\"")
}

#[test]
fn a_found_block_survives_a_kill_at_any_moment() {
    let Some(mut node) = Bitcoind::start(&[]) else { return };
    node.mine(1);
    let proxy = Proxy::start(&node.url());
    let home = Home::new();
    let text = config(&home, &proxy.url(), &node.cookie(), &payout(), SHARES);
    kill_and_look(&mut node, &proxy, &home.write(&text), runs());
}

#[test]
fn a_found_block_survives_a_kill_where_the_first_of_two_nodes_is_dead() {
    let Some(mut node) = Bitcoind::start(&[]) else { return };
    node.mine(1);
    let proxy = Proxy::start(&node.url());
    let home = Home::new();
    let text = config(&home, NOBODY, &node.cookie(), &payout(), SHARES);
    let backup = format!(
        "[[node.backup]]\nrpc = \"{}\"\ncookie_file = {:?}\n[payout]\n",
        proxy.url(),
        node.cookie()
    );
    let text = text.replace("[payout]\n", &backup);
    kill_and_look(&mut node, &proxy, &home.write(&text), runs().div_ceil(RUNS_PER_RESTART));
}

/// As often as that: a farm finds a block that its node never sees, is killed, and starts again.
fn kill_and_look(node: &mut Bitcoind, proxy: &Proxy, file: &Path, runs: u64) {
    let mut farm = Farm::start(file);
    let mut seen = BTreeSet::new();
    let (mut sent, mut unsent) = (0, 0);
    while sent < runs {
        proxy.swallow(true);
        let fleet = farm.fleet(1);
        until("a share", || fleet.stats().submitted > 0);
        let moment = random_moment();
        wait_for(Instant::now() + moment);
        farm.kill();
        assert_only_stale(&fleet.stop());
        proxy.swallow(false);
        // From here on nobody mines: what the node gets comes out of the journal.
        farm = Farm::start(file);
        let mut ours = proxy.swallowed().into_iter().map(|block| block.block_hash());
        match ours.find(|hash| seen.insert(*hash)) {
            // The process died before a block was out: that counts for nothing.
            None => unsent += 1,
            Some(first) => {
                sent += 1;
                survives(node, &farm, &first.to_string(), moment);
            }
        }
        seen.extend(ours);
    }
    eprintln!("{sent} killed with a block on its way, {unsent} before that");
    farm.end();
}

/// From a microsecond to a quarter of a second, every order of magnitude alike.
fn random_moment() -> Duration {
    let random = RandomState::new().hash_one(());
    let exponent = (random >> 32) as f64 / 2_f64.powi(32) * 18.0;
    Duration::from_secs_f64(exponent.exp2() / 1e6)
}

/// A block that was found is in the main chain, or lost to another of ours alone.
fn survives(node: &mut Bitcoind, farm: &Farm, first: &str, moment: Duration) {
    let mut header = Value::Null;
    until(&format!("the block {first} of a farm killed after {moment:?}"), || {
        header = node.try_rpc("getblockheader", json!([first])).unwrap_or_default();
        !header.is_null()
    });
    let restored = &farm.page("/api/v1/status")["blocks"]["restored"];
    assert!(restored.as_u64() > Some(0), "{restored}");
    if header["confirmations"].as_i64() < Some(1) {
        let winner = block_at(node, header["height"].as_u64().expect("a height"));
        let said = winner.txdata[0].input[0].script_sig.as_bytes();
        assert!(said.ends_with(SIGNATURE.as_bytes()), "{first} lost, killed after {moment:?}");
    }
}

#[test]
fn a_block_found_while_the_node_is_down_is_mined_when_it_is_back() {
    let Some(mut node) = Bitcoind::start(&[]) else { return };
    node.mine(1);
    let home = Home::new();
    let file = home.write(&config(&home, &node.url(), &node.cookie(), &payout(), SHARES));
    for _ in 0..runs().div_ceil(RUNS_PER_RESTART) {
        let farm = Farm::start(&file);
        let height = node.height();
        node.stop();
        let fleet = farm.fleet(1);
        let mut first = Value::Null;
        until("a block in the journal", || {
            // The newest comes first.
            let page = farm.page("/api/v1/blocks");
            let found = page["blocks"].as_array().and_then(|blocks| blocks.last());
            first = found.cloned().unwrap_or_default();
            first["journal"] == "written" || first["journal"] == "durable"
        });
        let moment = random_moment();
        wait_for(Instant::now() + moment);
        farm.kill();
        assert_only_stale(&fleet.stop());
        node.run();
        let farm = Farm::start(&file);
        survives(&mut node, &farm, first["hash"].as_str().expect("a hash"), moment);
        assert!(node.height() > height);
        farm.end();
    }
}

#[test]
fn a_disk_that_hangs_keeps_no_block_from_the_node() {
    let Some(mut node) = Bitcoind::start(&[]) else { return };
    node.mine(1);
    let home = Home::new();
    let file = home.write(&config(&home, &node.url(), &node.cookie(), &payout(), SHARES));
    let (disk, hangs) = (hanging_disk(&home), home.path("hangs"));
    let mut command = Command::new(HEADFRAME);
    command.arg("run").arg("--config").arg(&file).stderr(Stdio::piped());
    command.env("LD_PRELOAD", &disk).env("HEADFRAME_TEST_HANGS", &hangs);
    let farm = Farm::of(Daemon::of(command.spawn().expect("it runs")));
    fs::write(&hangs, "").expect("written");
    let height = node.height();
    let fleet = farm.fleet(2);
    until("blocks in the chain", || node.height() >= height + BLOCKS);
    let blocks = farm.page("/api/v1/blocks")["blocks"].clone();
    let accepted = |block: &&Value| block["outcome"] == "accepted";
    let taken: Vec<&Value> = blocks.as_array().expect("a list").iter().filter(accepted).collect();
    assert!(!taken.is_empty(), "{blocks}");
    for block in taken {
        assert_eq!(block["sent_before_journaled"], true, "{block}");
        assert_ne!(block["journal"], "durable", "{block}");
    }
    farm.kill();
    assert_only_stale(&fleet.stop());
    // What the journal was hung on is no obstacle for the next process.
    let farm = Farm::start(&file);
    let fleet = farm.fleet(1);
    let height = node.height();
    until("blocks again", || node.height() > height);
    assert_only_stale(&fleet.stop());
    farm.end();
}

/// A library for LD_PRELOAD under which writes at a place and fdatasync() hang for as long as the
/// file named by `HEADFRAME_TEST_HANGS` exists: only a journal uses these.
fn hanging_disk(home: &Home) -> PathBuf {
    let (source, library) = (home.path("disk.c"), home.path("disk.so"));
    fs::write(&source, include_str!("hanging_disk.c")).expect("written");
    let mut compiler = Command::new("cc");
    compiler.args(["-shared", "-fPIC", "-O1", "-o"]).arg(&library).arg(&source);
    assert!(compiler.status().expect("tests/run installs a C compiler").success());
    library
}
