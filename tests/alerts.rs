//! Alerts of the real binary, told to real receivers: a server that takes them, one that hangs, one
//! that answers 500, one that is gone; commands that hang, fail and flood. Miners mine meanwhile.

#[path = "support/rig.rs"]
mod rig;
mod support;

use std::fs::{self, Permissions};
use std::io::{BufRead, BufReader, Read, Write};
use std::net::{TcpListener, TcpStream};
use std::os::unix::fs::PermissionsExt;
use std::sync::mpsc::{Receiver, channel};
use std::time::{Duration, Instant};

use serde_json::{Value, json};

use rig::Rig;
use support::{Daemon, Home, LIMIT, get};

/// Every hash is a share and none a block.
const NO_BLOCKS: &str = "difficulty = 1e14\nblock_seconds = 0.0\n\
    [difficulty]\nstart = 1e-10\nminimum = 1e-10\nmaximum = 1e-10\n[log]\nformat = \"json\"\n";
/// Every hash is a block.
const ALL_BLOCKS: &str = "difficulty = 4.66e-10\nblock_seconds = 0.0\n\
    [difficulty]\nstart = 1e-10\nminimum = 1e-10\nmaximum = 1e-10\n[log]\nformat = \"json\"\n";
/// Three seconds without a connection are silence.
const SOON: f64 = 0.05;
/// A share is answered within it, whoever hangs.
const ANSWER_MAX: Duration = Duration::from_secs(5);

/// How a receiver treats what comes.
#[derive(Clone, Copy)]
enum Manners {
    Takes,
    Says500,
    Hangs,
}

/// A webhook: gives each body that it was sent.
fn receiver(manners: Manners) -> (String, Receiver<Value>) {
    let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
    let address = listener.local_addr().expect("bound");
    let (bodies, received) = channel();
    std::thread::spawn(move || {
        let mut held = Vec::new();
        for stream in listener.incoming().map_while(Result::ok) {
            let Some(body) = body(&stream) else { continue };
            if bodies.send(body).is_err() {
                return;
            }
            // Who is gone by now does not read it.
            let _ = match manners {
                Manners::Takes => (&stream).write_all(b"HTTP/1.1 200 OK\r\n\r\n"),
                Manners::Says500 => (&stream).write_all(b"HTTP/1.1 500 No\r\n\r\n"),
                Manners::Hangs => {
                    held.push(stream);
                    Ok(())
                }
            };
        }
    });
    (format!("http://token:hunter2@{address}/hook/hunter2"), received)
}

fn body(stream: &TcpStream) -> Option<Value> {
    let mut reader = BufReader::new(stream);
    let mut length = 0;
    loop {
        let mut line = String::new();
        reader.read_line(&mut line).ok()?;
        let line = line.trim_end().to_ascii_lowercase();
        if let Some(value) = line.strip_prefix("content-length: ") {
            length = value.parse().ok()?;
        }
        if line.is_empty() {
            break;
        }
    }
    let mut body = vec![0; length];
    reader.read_exact(&mut body).ok()?;
    serde_json::from_slice(&body).ok()
}

struct Farm {
    daemon: Daemon,
    stratum: String,
    pages: String,
    home: Home,
}

impl Farm {
    /// `command` is the text of a script that stands at `HOME/on-alert`.
    fn start(chain: &str, alerts: &str, command: &str) -> Farm {
        let home = Home::new();
        let alerts = alerts.replace("HOME", &home.folder.path().display().to_string());
        let script = home.path("on-alert");
        fs::write(&script, format!("#!/bin/sh\n{command}\n")).expect("written");
        fs::set_permissions(&script, Permissions::from_mode(0o755)).expect("set");
        let file = home.write(&home.config(&format!("{chain}[alerts]\n{alerts}")));
        let mut daemon = Daemon::start(&file);
        let stratum = daemon.wait_for_address("miners connect here");
        let pages = daemon.wait_for_address("pages are served here");
        daemon.until_ready(&pages);
        Farm { daemon, stratum, pages, home }
    }

    /// Counts of a way by result: delivered, failed, dropped.
    fn counts(&self, way: &str) -> [u64; 3] {
        let metrics = get(&self.pages, "/metrics");
        ["delivered", "failed", "dropped"].map(|result| {
            let name = format!("headframe_alerts_total{{way=\"{way}\",result=\"{result}\"}} ");
            let line = metrics.lines().find_map(|line| line.strip_prefix(&name));
            line.and_then(|count| count.parse().ok()).expect("a number")
        })
    }

    /// Ends it in order, whatever hangs.
    fn end(mut self) {
        self.daemon.signal("TERM");
        assert_eq!(self.daemon.end(), Some(0));
    }
}

/// A miner that hashes on the newest job that it has heard of.
struct Miner {
    rig: Rig,
    next: u32,
}

impl Miner {
    fn connect(farm: &Farm, name: &str) -> Miner {
        Miner { rig: Rig::connect(&farm.stratum, name, "x"), next: 10 }
    }

    /// Submits a share and waits for the answer.
    fn submit(&mut self) -> Value {
        let job = self.rig.job();
        self.next += 1;
        let asked = Instant::now();
        let answer = self.rig.submit(&job, self.next, self.next);
        assert!(asked.elapsed() < ANSWER_MAX, "{:?}", asked.elapsed());
        answer
    }

    fn mine(&mut self, shares: u32) {
        (0..shares).for_each(|_| assert_eq!(self.submit()["result"], true));
    }
}

fn webhook(url: &str) -> String {
    format!("webhook = \"{url}\"\nsilent_minutes = {SOON}\n")
}

/// Asks until it is as wanted.
fn until(what: &str, wanted: impl Fn() -> bool) {
    let started = Instant::now();
    while !wanted() {
        assert!(started.elapsed() < LIMIT, "{what}");
    }
}

fn next(received: &Receiver<Value>) -> Value {
    received.recv_timeout(LIMIT).expect("an alert")
}

#[test]
fn a_worker_that_goes_is_told_of_once_and_when_it_is_back() {
    let (url, received) = receiver(Manners::Takes);
    let farm = Farm::start(NO_BLOCKS, &webhook(&url), "");
    let mut stays = Miner::connect(&farm, "farm.a");
    stays.mine(3);
    let mut goes = Miner::connect(&farm, "farm.b\" <b>");
    goes.mine(3);
    drop(goes);
    let silent = next(&received);
    assert_eq!((&silent["kind"], &silent["id"]), (&json!("worker_silent"), &json!(1)));
    assert_eq!(silent["worker"], "farm.b\" <b>");
    assert_eq!((&silent["connections"], &silent["dropped"]), (&json!(0), &json!(0)));
    assert!(silent["silent_seconds"].as_u64().is_some_and(|seconds| seconds >= 3), "{silent}");
    let _back = Miner::connect(&farm, "farm.b\" <b>");
    let back = next(&received);
    assert_eq!((&back["kind"], &back["worker"]), (&json!("worker_back"), &silent["worker"]));
    assert_eq!(back["id"], 2, "nothing was said in between");
    until("two deliveries", || farm.counts("webhook") == [2, 0, 0]);
    farm.end();
}

#[test]
fn a_rack_is_one_alert_and_a_command_hears_it_too() {
    let (url, received) = receiver(Manners::Takes);
    let alerts = format!("{}command = \"HOME/on-alert\"\n", webhook(&url));
    let farm =
        Farm::start(NO_BLOCKS, &alerts, "cat >> \"${0%/*}/heard\"; echo >> \"${0%/*}/heard\"");
    let mut racks: Vec<Miner> = Vec::new();
    for number in 0..10 {
        let mut miner = Miner::connect(&farm, &format!("farm.r{}x{number}", number / 5));
        miner.mine(1);
        racks.push(miner);
    }
    // The other rack has one more, so that half of the farm hashes.
    let mut more = Miner::connect(&farm, "farm.r1x10");
    more.mine(1);
    racks.drain(..5);
    let silent = next(&received);
    assert_eq!((&silent["kind"], &silent["rack"]), (&json!("rack_silent"), &json!("farm.r0")));
    assert_eq!((&silent["silent"], &silent["of"]), (&json!(5), &json!(5)));
    assert_eq!(silent["workers"][4], "farm.r0x4");
    let _back: Vec<Miner> =
        (0..5).map(|number| Miner::connect(&farm, &format!("farm.r0x{number}"))).collect();
    let back = next(&received);
    assert_eq!((&back["kind"], &back["silent"]), (&json!("rack_back"), &json!(0)));
    until("two runs", || farm.counts("command") == [2, 0, 0]);
    let heard = fs::read_to_string(farm.home.path("heard")).expect("the command has run");
    let kind = |line| serde_json::from_str::<Value>(line).expect("JSON")["kind"].clone();
    let kinds: Vec<Value> = heard.lines().map(kind).collect();
    assert_eq!(kinds, [json!("rack_silent"), json!("rack_back")]);
    farm.end();
}

#[test]
fn a_block_is_told_of_with_its_outcome() {
    let (url, received) = receiver(Manners::Takes);
    let farm = Farm::start(ALL_BLOCKS, &webhook(&url), "");
    let mut miner = Miner::connect(&farm, "farm.a");
    // Half of them are blocks, and all of these are among those that the page shows.
    for _ in 0..20 {
        miner.submit();
    }
    let block = loop {
        let alert = next(&received);
        if alert["outcome"] != "submitted" {
            break alert;
        }
    };
    assert_eq!((&block["kind"], &block["outcome"]), (&json!("block"), &json!("accepted")));
    assert_eq!((&block["worker"], &block["restored"]), (&json!("farm.a"), &json!(false)));
    let blocks = get(&farm.pages, "/api/v1/blocks");
    assert!(blocks.contains(block["hash"].as_str().expect("a hash")), "{blocks}");
    farm.end();
}

#[test]
fn receivers_that_hang_are_in_nobodys_way() {
    let (url, received) = receiver(Manners::Hangs);
    let alerts = format!("{}command = \"HOME/on-alert\"\n", webhook(&url));
    let farm = Farm::start(ALL_BLOCKS, &alerts, "echo $$ > \"${0%/*}/pid\"; exec sleep 600");
    let mut miner = Miner::connect(&farm, "farm.a");
    let pid = farm.home.path("pid");
    let mut hanging = 0;
    while hanging == 0 || !pid.exists() {
        hanging += received.try_iter().count();
        miner.submit();
    }
    // Both hang now: shares are answered, pages served, and what does not fit is dropped.
    for _ in 0..200 {
        miner.submit();
        assert!(get(&farm.pages, "/livez").starts_with("HTTP/1.1 200"));
    }
    assert_eq!(farm.counts("webhook")[0], 0);
    let waiting = get(&farm.pages, "/metrics");
    let waiting = waiting.lines().find(|line| line.starts_with("headframe_alerts_waiting{"));
    assert!(waiting.is_some(), "they are counted");
    farm.end();
}

#[test]
fn receivers_that_refuse_or_fail_are_given_up_and_no_secret_is_said() {
    let (url, received) = receiver(Manners::Says500);
    let alerts = format!("{}command = \"HOME/on-alert\"\n", webhook(&url));
    let mut farm = Farm::start(NO_BLOCKS, &alerts, "exit 3");
    Miner::connect(&farm, "farm.a").mine(1);
    let first = next(&received);
    assert_eq!((next(&received), next(&received)), (first.clone(), first), "the same again");
    for _ in 0..2 {
        let line = farm.daemon.wait_for("alert not delivered");
        let why = ["answered 500", "code 3"].iter().any(|why| line.contains(why));
        assert!(why && !line.contains("hunter2"), "{line}");
    }
    assert_eq!((farm.counts("webhook"), farm.counts("command")), ([0, 1, 0], [0, 1, 0]));
    farm.end();
}

#[test]
fn without_a_way_there_is_nothing() {
    let farm = Farm::start(NO_BLOCKS, "", "");
    let metrics = get(&farm.pages, "/metrics");
    assert!(!metrics.contains("headframe_alerts_total{"), "{metrics}");
    farm.end();
}
