//! Blocks that outlive the process that found them: killed with kill -9 at a random moment, while
//! the node is down, with one of two nodes dead, and on a disk that hangs.

use std::hash::{BuildHasher, RandomState};
use std::path::Path;
use std::time::{Duration, Instant};

use miner::Fleet;
use regtest::Bitcoind;

use crate::disk::Disk;
use crate::farm::{
    Farm, SHARES, SIGNATURE, assert_only_stale, block_at, config, from_environment, until,
    wait_for, with_backup,
};
use crate::proxy::Proxy;
use crate::support::Home;

/// Blocks that survive a kill -9 where the environment does not say it.
const RUNS: u64 = 10;
/// So many blocks are in the farm's hands at once; on regtest, a burst of shares is more.
const OPEN_MAX: u64 = ::farm::blocks::BLOCKS_OPEN_MAX as u64;
/// Where nobody listens.
const NOBODY: &str = "http://127.0.0.1:1";

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
    let text = with_backup(&text, &proxy.url(), &node.cookie());
    kill_and_look(&mut node, &proxy, &home.write(&text), runs());
}

/// As often as that: a farm finds a block that its node never sees, tells its miner so, is killed,
/// and starts again.
fn kill_and_look(node: &mut Bitcoind, proxy: &Proxy, file: &Path, runs: u64) {
    let mut farm = Farm::start(file);
    for _ in 0..runs {
        let height = works_on_tip(&farm, node);
        proxy.swallow(true);
        let fleet = farm.fleet(1);
        until("a share that was taken", || fleet.stats().accepted > 0);
        let (taken, moment) = killed(farm, fleet);
        proxy.swallow(false);
        // From here on nobody mines: what the node gets comes out of the journal.
        farm = Farm::start(file);
        assert!(farm.restored() >= taken.min(OPEN_MAX), "of {taken}, killed after {moment:?}");
        survives(node, height + 1, moment);
    }
    farm.end();
}

/// Waits until what the farm restored has its place in the chain and the farm works behind it: a
/// share found before would be a block beside it. Gives the chain's height.
fn works_on_tip(farm: &Farm, node: &mut Bitcoind) -> u64 {
    let mut height = 0;
    until("work on the newest tip", || {
        let unsettled = farm.page("/api/v1/blocks")["unsettled"].as_u64();
        height = node.height();
        let job = farm.page("/api/v1/status")["job"]["height"].as_u64();
        unsettled == Some(0) && job == Some(height + 1)
    });
    height
}

/// From a microsecond to a quarter of a second, every order of magnitude alike.
fn random_moment() -> Duration {
    let random = RandomState::new().hash_one(());
    let exponent = (random >> 32) as f64 / 2_f64.powi(32) * 18.0;
    Duration::from_secs_f64(exponent.exp2() / 1e6)
}

/// Kills a farm at a random moment from now on. Gives how many shares its miners have been told to
/// be good, each of them a block, and the moment.
fn killed(farm: Farm, fleet: Fleet) -> (u64, Duration) {
    let moment = random_moment();
    wait_for(Instant::now() + moment);
    farm.kill();
    let stats = fleet.stop();
    assert_only_stale(&stats);
    (stats.accepted, moment)
}

/// The first block that was found is in the main chain, or lost to another of ours alone.
fn survives(node: &mut Bitcoind, height: u64, moment: Duration) {
    let what = format!("the block at {height} of a farm killed after {moment:?}");
    until(&what, || node.height() >= height);
    let winner = block_at(node, height);
    let said = winner.txdata[0].input[0].script_sig.as_bytes();
    assert!(said.ends_with(SIGNATURE.as_bytes()), "{what} is another's");
}

#[test]
fn a_block_found_while_the_node_is_down_is_mined_when_it_is_back() {
    let Some(mut node) = Bitcoind::start(&[]) else { return };
    node.mine(1);
    let home = Home::new();
    let file = home.write(&config(&home, &node.url(), &node.cookie(), &payout(), SHARES));
    for _ in 0..runs() {
        let farm = Farm::start(&file);
        let height = works_on_tip(&farm, &mut node);
        node.stop();
        let fleet = farm.fleet(1);
        until("a share that was taken", || fleet.stats().accepted > 0);
        let (taken, moment) = killed(farm, fleet);
        node.run();
        let farm = Farm::start(&file);
        assert!(farm.restored() >= taken.min(OPEN_MAX), "of {taken}, killed after {moment:?}");
        survives(&mut node, height + 1, moment);
        farm.end();
    }
}

#[test]
fn a_found_block_survives_a_kill_on_a_disk_that_hangs() {
    let Some(mut node) = Bitcoind::start(&[]) else { return };
    node.mine(1);
    let home = Home::new();
    let file = home.write(&config(&home, &node.url(), &node.cookie(), &payout(), SHARES));
    let disk = Disk::new(&home);
    for _ in 0..runs() {
        let farm = Farm::of(disk.start(&file));
        disk.turn("hangs");
        let height = works_on_tip(&farm, &mut node);
        let fleet = farm.fleet(1);
        until("a share that was taken", || fleet.stats().accepted > 0);
        let blocks = farm.page("/api/v1/blocks");
        let first = blocks["blocks"].as_array().and_then(|blocks| blocks.last());
        let first = first.expect("a share is a block");
        assert_eq!(first["sent_before_journaled"], true, "{first}");
        let (_, moment) = killed(farm, fleet);
        // The node has it: nothing is sent again.
        survives(&mut node, height + 1, moment);
        disk.turn("works");
    }
    let farm = Farm::start(&file);
    farm.end();
}
