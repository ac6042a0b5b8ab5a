//! Silence, judged on made-up accounts over made-up time.

use super::*;
use crate::samples;

const MINUTE: u64 = 60_000_000;
const LOOK_MICROS: u64 = 5_000_000;
/// When the process began.
const BEGAN: Tick = Tick(100 * MINUTE);

/// A farm whose workers find a share each so many seconds, as long as they are on.
struct Farm {
    watch: Watch,
    now: Tick,
    workers: Vec<Machine>,
}

struct Machine {
    status: WorkerStatus,
    seconds: f64,
    hashes: bool,
    next: f64,
}

impl Farm {
    /// Ten minutes are silence, twelve shares a minute the wish.
    fn new() -> Farm {
        let watch = Watch::new(10 * MINUTE, 12.0, BEGAN);
        Farm { watch, now: BEGAN, workers: Vec::new() }
    }

    fn with(mut self, names: impl IntoIterator<Item = String>, seconds: f64) -> Farm {
        for name in names {
            let status = samples::worker(&name);
            let next = self.now.as_micros() as f64 + seconds * 1e6;
            self.workers.push(Machine { status, seconds, hashes: true, next });
        }
        self
    }

    fn each(&mut self, names: &str, change: impl Fn(&mut Machine)) {
        let named = |machine: &&mut Machine| machine.status.name.starts_with(names);
        self.workers.iter_mut().filter(named).for_each(change);
    }

    /// The machines lose their power.
    fn off(&mut self, names: &str) {
        self.each(names, |machine| (machine.hashes, machine.status.connections) = (false, 0));
    }

    fn on(&mut self, names: &str) {
        let now = self.now.as_micros() as f64;
        self.each(names, |machine| {
            (machine.hashes, machine.status.connections) = (true, 1);
            machine.next = now + machine.seconds * 1e6;
        });
    }

    /// They stay connected, and find nothing.
    fn idle(&mut self, names: &str) {
        self.each(names, |machine| machine.hashes = false);
    }

    /// What is told within so many minutes, each with its minute.
    fn pass(&mut self, minutes: u64) -> Vec<(u64, String)> {
        let start = self.now;
        let mut told = Vec::new();
        while self.now.since(start) < minutes * MINUTE {
            self.now = self.now.plus_micros(LOOK_MICROS);
            for machine in self.workers.iter_mut().filter(|machine| machine.hashes) {
                while machine.next <= self.now.as_micros() as f64 {
                    machine.status.totals.accepted += 1;
                    machine.status.last_share = Some(Tick(machine.next as u64));
                    machine.next += machine.seconds * 1e6;
                }
            }
            let statuses: Vec<WorkerStatus> =
                self.workers.iter().map(|machine| machine.status.clone()).collect();
            let minute = self.now.since(start) / MINUTE;
            let news = self.watch.look(self.now, &statuses);
            told.extend(news.iter().map(|news| (minute, news.text())));
        }
        told
    }
}

fn rack(rack: u32, machines: u32) -> impl Iterator<Item = String> {
    (1..=machines).map(move |machine| format!("farm.r{rack}x{machine}"))
}

fn said(minute: u64, text: &str) -> Vec<(u64, String)> {
    vec![(minute, text.to_owned())]
}

#[test]
fn a_worker_that_goes_is_told_of_once_and_when_it_is_back() {
    let mut farm = Farm::new().with(rack(1, 6), 5.0);
    assert_eq!(farm.pass(30), []);
    farm.off("farm.r1x3");
    // Ten minutes, and one for others to join.
    assert_eq!(farm.pass(60), said(11, "farm.r1x3 is silent for 11 min: it is gone"));
    assert_eq!(farm.watch.farm.silent, 1);
    farm.on("farm.r1x3");
    assert_eq!(farm.pass(60), said(0, "farm.r1x3 is back after 60 min"));
    farm.off("farm.r1x3");
    assert_eq!(farm.pass(12).len(), 1, "it may happen again");
}

#[test]
fn a_worker_that_is_connected_and_finds_nothing_is_silent_by_its_own_pace() {
    let names = || ["a", "b", "c", "quick", "slow"].map(str::to_owned);
    let mut farm = Farm::new().with(names().into_iter().take(4), 5.0);
    farm = farm.with(names().into_iter().skip(4), 90.0);
    assert_eq!(farm.pass(60), []);
    farm.idle("quick");
    farm.idle("slow");
    let told = farm.pass(120);
    assert_eq!(
        told[0],
        (11, "quick is silent for 11 min: it is connected and finds no share".into())
    );
    // 25 × 90 s, less what had passed since its last share, and a minute.
    let (minute, text) = &told[1];
    assert!((36..=39).contains(minute), "{told:?}");
    assert!(text.starts_with("slow is silent for 38 min"), "{text}");
    assert_eq!(told.len(), 2);
    farm.on("slow");
    assert_eq!(farm.pass(5), said(1, "slow is back after 2 h"));
}

#[test]
fn a_lottery_miner_is_silent_when_it_goes_and_never_for_lack_of_shares() {
    let day = 24.0 * 3_600.0;
    let mut farm = Farm::new().with(["nerd".to_owned()], day);
    assert_eq!(farm.pass(20 * 24 * 60), [], "20 shares in 20 days");
    farm.idle("nerd");
    assert_eq!(farm.pass(3 * 24 * 60), [], "three days without one");
    farm.off("nerd");
    assert_eq!(farm.pass(60), said(11, "nerd is silent for 11 min: it is gone"));
    farm.on("nerd");
    assert_eq!(farm.pass(60), said(0, "nerd is back after 60 min"), "with its connection");
}

#[test]
fn who_connects_again_in_time_is_not_silent() {
    let mut farm = Farm::new().with(rack(1, 3), 5.0);
    farm.pass(10);
    for _ in 0..20 {
        farm.off("farm");
        assert_eq!(farm.pass(9), []);
        farm.on("farm");
        assert_eq!(farm.pass(1), []);
    }
}

#[test]
fn a_rack_is_one_alert_and_one_return() {
    let mut farm = Farm::new().with(rack(1, 40), 5.0).with(rack(2, 40), 5.0).with(rack(3, 40), 5.0);
    assert_eq!(farm.pass(30), []);
    farm.off("farm.r2x");
    assert_eq!(farm.pass(600), said(11, "rack farm.r2 is silent: 40 of its 40 workers"));
    farm.on("farm.r2x");
    assert_eq!(farm.pass(600), said(1, "rack farm.r2 is back: all of its 40 workers"));
}

#[test]
fn what_stays_silent_when_a_rack_is_back_is_told_of_when_it_is_back_too() {
    let mut farm = Farm::new().with(rack(1, 10), 5.0).with(rack(2, 30), 5.0);
    farm.pass(30);
    farm.off("farm.r1x");
    assert_eq!(farm.pass(30), said(11, "rack farm.r1 is silent: 10 of its 10 workers"));
    farm.on("farm.r1x1");
    farm.on("farm.r1x4");
    farm.on("farm.r1x5");
    assert_eq!(farm.pass(30), [], "1, 10, 4 and 5 are not more than half");
    (6..=9).for_each(|machine| farm.on(&format!("farm.r1x{machine}")));
    let back = "rack farm.r1 is back: 2 of its 10 workers are still silent";
    assert_eq!(farm.pass(30), said(1, back));
    farm.on("farm.r1x2");
    farm.on("farm.r1x3");
    let told: Vec<String> = farm.pass(30).into_iter().map(|(_, text)| text).collect();
    assert_eq!(told, ["farm.r1x2 is back after 90 min", "farm.r1x3 is back after 90 min"]);
}

#[test]
fn a_power_cut_is_one_alert_and_what_stays_dark_is_told_of() {
    let mut farm = Farm::new();
    for number in 1..=50 {
        farm = farm.with(rack(number, 40), 5.0);
    }
    farm.pass(10);
    farm.off("farm");
    assert_eq!(farm.pass(60), said(11, "the farm is silent: 2000 of its 2000 workers"));
    farm.on("farm");
    farm.off("farm.r17x");
    farm.off("farm.r18x5");
    let told = farm.pass(60);
    // All of rack 17, and 5 and 5 of rack 18's 40 (x5 is no prefix of another's number).
    assert_eq!(told[0], (1, "the farm is back: 41 of its 2000 workers are still silent".into()));
    let rest: Vec<&str> = told[1..].iter().map(|(_, text)| text.as_str()).collect();
    assert_eq!(rest.len(), 2, "{rest:?}");
    assert!(rest.contains(&"rack farm.r17 is silent: 40 of its 40 workers"), "{rest:?}");
    assert!(rest.iter().any(|text| text.starts_with("farm.r18x5 is silent for ")), "{rest:?}");
}

#[test]
fn only_who_was_not_silent_when_an_earlier_process_ended_is_missed() {
    let names = ["old", "fresh", "never"].map(str::to_owned);
    let mut farm = Farm::new().with(names, 5.0);
    farm.each("", |machine| (machine.hashes, machine.status.connections) = (false, 0));
    farm.each("old", |old| old.status.last_share = Some(Tick(BEGAN.0 - 11 * MINUTE)));
    farm.each("fresh", |fresh| fresh.status.last_share = Some(Tick(BEGAN.0 - MINUTE)));
    assert_eq!(farm.pass(60), said(11, "fresh is silent for 11 min: it is gone"));
}

#[test]
fn a_rack_that_was_sold_is_forgotten_after_a_day_and_remembered_if_it_returns() {
    let mut farm = Farm::new().with(rack(1, 20), 5.0).with(rack(2, 10), 5.0);
    farm.pass(30);
    farm.off("farm.r1x");
    assert_eq!(farm.pass(25 * 60).len(), 1);
    assert_eq!(farm.watch.farm.silent, 0);
    farm.off("farm.r2x");
    let told = farm.pass(30);
    assert_eq!(told, said(11, "rack farm.r2 is silent: 10 of its 10 workers"));
    farm.on("farm.r1x");
    assert_eq!(farm.pass(30), said(1, "rack farm.r1 is back: all of its 20 workers"));
}

#[test]
fn the_account_of_many_names_is_no_machine() {
    let mut farm = Farm::new().with([OTHER.to_owned()], 5.0);
    farm.pass(30);
    farm.off(OTHER);
    assert_eq!(farm.pass(60), []);
}

#[test]
fn racks_by_their_names() {
    for (name, rack) in [
        ("farm.r07-12", Some("farm.r07")),
        ("farm.r07x12", Some("farm.r07")),
        ("farm.10x0x7x12", Some("farm.10x0x7")),
        ("account.rig", Some("account")),
        ("bc1qxyz.hall/3", Some("bc1qxyz.hall")),
        ("max", None),
        ("x1", None),
        ("1x", None),
        (".a", None),
        ("a.", None),
        ("", None),
        ("шахта_1", Some("шахта")),
        ("farm.é", Some("farm")),
    ] {
        assert_eq!(rack_of(name), rack, "{name}");
    }
}
