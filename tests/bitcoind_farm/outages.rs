//! What a node does to its farm's miners: nothing that they notice, unless it is away for so long
//! that the operator wants them let go.

use std::time::{Duration, Instant};

use miner::Stats;
use regtest::Bitcoind;

use crate::crowd::Crowd;
use crate::farm::{Farm, SHARES, assert_only_stale, config, until, wait_for, with_backup};
use crate::proxy::Proxy;
use crate::support::Home;

/// Listeners of one farm.
const CROWD: usize = 50;
/// So few shares that no listener's farm finds a block.
const NONE: f64 = 1e-9;
/// A node that is away for so long is no reason to let anybody go: it restarts.
const RESTART: Duration = Duration::from_secs(45);
/// After so long, a farm has let its miners go if its operator wants that.
const AWAY: Duration = Duration::from_secs(120);
/// From one miner's release to the next.
const RELEASE_INTERVAL: Duration = Duration::from_millis(1);
/// The time in which miners have a new job after the first good template.
const NEW_JOB_MAX: Duration = Duration::from_secs(1);
/// Tips of a flood, and its time.
const FLOOD: u32 = 200;
const FLOOD_TIME: Duration = Duration::from_secs(60);

#[test]
fn everybody_follows_whatever_happens_to_the_chain_and_the_node() {
    let Some(mut node) = Bitcoind::start_with_zmq(&[]) else { return };
    node.mine(1);
    let home = Home::new();
    let text = config(&home, &node.url(), &node.cookie(), "script = \"51\"", NONE);
    let zmq = format!("network = \"regtest\"\nzmq_hashblock = \"{}\"\n", node.zmq());
    let farm = Farm::start(&home.write(&text.replace("network = \"regtest\"\n", &zmq)));
    let crowd = farm.crowd(CROWD);
    let flood = flood(&mut node);
    crowd.works_on(&flood[199]);
    node.invalidate(&flood[195]);
    crowd.works_on(&flood[194]);
    let other = node.mine_empty();
    crowd.works_on(&other);
    node.reconsider(&flood[195]);
    crowd.works_on(&flood[199]);
    node.stop();
    until("a farm that knows", || !farm.is_ready());
    node.run();
    let tip = node.mine(1).remove(0);
    crowd.works_on(&tip);
    node.kill();
    until("a farm that knows", || !farm.is_ready());
    node.run_unready(&["-reindex"]);
    farm.until_ready();
    let tip = node.mine_empty();
    crowd.works_on(&tip);
    nobody_left(&farm, &crowd);
    farm.end();
}

/// A new tip every 300 ms.
fn flood(node: &mut Bitcoind) -> Vec<String> {
    let begin = Instant::now();
    let mut tips = Vec::new();
    for number in 0..FLOOD {
        wait_for(begin + FLOOD_TIME * number / FLOOD);
        tips.extend(node.mine(1));
    }
    tips
}

fn nobody_left(farm: &Farm, crowd: &Crowd) {
    assert_eq!(crowd.ended(), 0);
    assert_eq!(farm.metric("headframe_connections_closed_total"), 0.0);
}

#[test]
fn a_backup_with_another_tip_of_the_same_height_takes_everybody_over() {
    let Some(mut main) = Bitcoind::start(&[]) else { return };
    let Some(mut backup) = Bitcoind::start(&[]) else { return };
    let tip = main.mine(3).remove(2);
    backup.mine(2);
    let other = backup.mine_empty();
    let home = Home::new();
    let text = config(&home, &main.url(), &main.cookie(), "script = \"51\"", NONE);
    let text = with_backup(&text, &backup.url(), &backup.cookie());
    let farm = Farm::start(&home.write(&text));
    let crowd = farm.crowd(CROWD);
    crowd.works_on(&tip);
    main.signal("STOP");
    crowd.works_on(&other);
    main.signal("CONT");
    let higher = main.mine(1).remove(0);
    crowd.works_on(&higher);
    main.kill();
    crowd.works_on(&other);
    nobody_left(&farm, &crowd);
    farm.end();
}

/// A farm whose node is away for a while, with miners who hash and others who listen.
struct Orphan {
    name: &'static str,
    proxy: Proxy,
    farm: Farm,
    fleet: miner::Fleet,
    crowd: Crowd,
    /// The node's files must outlive the farm.
    _home: Home,
}

/// Miners that hash for one farm.
const FLEET: usize = 8;

impl Orphan {
    fn of(node: &Bitcoind, name: &'static str) -> Orphan {
        let (proxy, home) = (Proxy::start(&node.url()), Home::new());
        let payout = format!("script = \"51\"\n[failover]\nno_work = \"{name}\"");
        let text = config(&home, &proxy.url(), &node.cookie(), &payout, SHARES);
        let farm = Farm::start(&home.write(&text));
        let (fleet, crowd) = (farm.fleet(FLEET), farm.crowd(CROWD));
        Orphan { name, proxy, farm, fleet, crowd, _home: home }
    }

    /// After the node has been away for so long.
    fn holds(&self, away: Duration) {
        if away == RESTART || self.name == "park" {
            nobody_left(&self.farm, &self.crowd);
            let Stats { connected, reconnects, .. } = self.fleet.stats();
            assert_eq!((connected, reconnects), (FLEET, 0), "{}", self.name);
            return;
        }
        until("the release", || self.crowd.ended() == CROWD);
        let mut ends = self.crowd.ends();
        ends.sort_unstable();
        let took = ends[CROWD - 1] - ends[0];
        assert!(took * 2 >= RELEASE_INTERVAL * CROWD as u32, "{CROWD} miners left in {took:?}");
        assert!(!self.farm.is_ready());
    }

    /// Once the node is back and has given a template.
    fn goes_on(&self) {
        until("a template", || self.proxy.template().is_some());
        let template = self.proxy.template().expect("it was just there");
        // Whom the farm has let go of is let in again.
        let back = (self.crowd.ended() > 0).then(|| self.farm.crowd(CROWD));
        let waited = match &back {
            Some(_) => Duration::ZERO,
            None => self.crowd.job_since(template) - template,
        };
        assert!(waited <= NEW_JOB_MAX, "{}: jobs {waited:?} after the template", self.name);
        eprintln!("{}: the last of {CROWD} jobs {waited:?} after the template", self.name);
        let accepted = self.fleet.stats().accepted;
        until("shares again", || self.fleet.stats().accepted >= accepted + 3);
        until("all of them at work", || self.fleet.stats().working == FLEET);
    }

    fn end(self) {
        let stats = self.fleet.stop();
        assert_only_stale(&stats);
        self.farm.end();
    }
}

#[test]
fn miners_stay_or_go_as_the_operator_wants_while_the_node_is_away() {
    let Some(mut node) = Bitcoind::start(&[]) else { return };
    node.mine(1);
    let farms = ["release", "park"].map(|name| Orphan::of(&node, name));
    let height = node.height();
    until("a few blocks", || node.height() >= height + 3);
    node.stop();
    farms.iter().for_each(|farm| farm.proxy.forget_template());
    let since = Instant::now();
    for away in [RESTART, AWAY] {
        wait_for(since + away);
        farms.iter().for_each(|farm| farm.holds(away));
    }
    node.run();
    farms.iter().for_each(Orphan::goes_on);
    farms.into_iter().for_each(Orphan::end);
}

#[test]
fn tips_as_fast_as_shares_bring_no_reject_but_stale() {
    let Some(mut node) = Bitcoind::start(&[]) else { return };
    node.mine(1);
    let home = Home::new();
    let text = config(&home, &node.url(), &node.cookie(), "script = \"51\"", 20.0 * SHARES);
    let farm = Farm::start(&home.write(&text));
    let fleet = farm.fleet(FLEET);
    until("many tips", || node.height() >= 100);
    let stats = fleet.stop();
    assert_only_stale(&stats);
    eprintln!("{} accepted, {:?} rejected", stats.accepted, stats.rejected);
    farm.end();
}
