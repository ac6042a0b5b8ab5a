//! The fleet against a small server of the tests' own, on real sockets, and its parts alone.
//!
//! The server checks every share from the bytes that were sent: it puts the coinbase together
//! anew and hashes it, and knows nothing of how the miner works.

use std::collections::HashSet;
use std::io::{BufRead, BufReader, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::sync::mpsc::{Receiver, Sender, channel};
use std::sync::{Arc, Mutex};
use std::thread;
use std::time::{Duration, Instant};

use pow::{Difficulty, Hash256, Kernel, Target};
use proptest::prelude::*;
use wire::hex;
use wire::sv1::write::{self, ConfigureReply, ErrorCode, Notify};
use wire::sv1::{Request, Submit, parse};

use crate::connection::{Found, JobCache, Miner, News, Verdict};
use crate::schedule::Schedule;
use crate::{CONNECTIONS_MAX, Fleet, FleetConfig, FleetError, measure_hash_rate};

const FIRST: &[u8] = &[0x11; 90];
const SECOND: &[u8] = &[0x22; 70];
const VERSION: u32 = 0x2000_0000;
const MASK: u32 = 0x1fff_e000;
const NTIME: u32 = 1_800_000_000;
const EXTRANONCE2_BYTES: usize = 4;
/// Easy enough for a share in some tens of thousands of hashes.
const DIFFICULTY: f64 = 1e-5;
/// Longer than any of this takes on a busy machine.
const PATIENCE: Duration = Duration::from_secs(60);

/// What the server does with a valid share.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Act {
    Accept,
    /// Send a clean job on a new tip, then refuse with 21.
    TipThenStale,
    /// Refuse with 21 out of the blue.
    Stale,
    /// Close the connection without an answer.
    Close,
    /// Answer in pieces of one byte.
    Drip,
    /// Say something that is no Stratum.
    Garbage,
}

#[derive(Debug)]
enum Seen {
    Subscribed,
    Share { connection: usize, act: Act, rolled: bool },
    Invalid(String),
}

/// Decides by the connection's number and the share's on it, both from 0.
type Rule = fn(usize, usize) -> Act;

struct Server {
    address: SocketAddr,
    seen: Receiver<Seen>,
}

struct Session {
    connection: usize,
    stream: TcpStream,
    extranonce1: Vec<u8>,
    tip: u8,
    shares: usize,
    headers: Arc<Mutex<HashSet<Vec<u8>>>>,
}

fn server(rule: Rule) -> Server {
    let listener = TcpListener::bind("127.0.0.1:0").expect("a free port");
    let address = listener.local_addr().expect("it is bound");
    let (events, seen) = channel();
    let headers = Arc::new(Mutex::new(HashSet::new()));
    thread::spawn(move || {
        for (connection, stream) in listener.incoming().enumerate() {
            let stream = stream.expect("an accepted socket");
            let extranonce1 = (connection as u32).to_be_bytes().to_vec();
            let headers = headers.clone();
            let session = Session { connection, stream, extranonce1, tip: 1, shares: 0, headers };
            let events = events.clone();
            thread::spawn(move || session.serve(rule, &events));
        }
    });
    Server { address, seen }
}

fn path() -> [Hash256; 2] {
    [Hash256([0x33; 32]), Hash256([0x44; 32])]
}

fn notify_line(tip: u8, clean: bool) -> Vec<u8> {
    let mut line = Vec::new();
    let job_id = format!("{tip:x}.0");
    let notify = Notify {
        job_id: &job_id,
        prev_hash: &Hash256([tip; 32]),
        coinbase_first: FIRST,
        coinbase_second: SECOND,
        merkle_path: &path(),
        version: VERSION,
        bits: 0x207f_ffff,
        ntime: NTIME,
        clean,
    };
    write::notify(&mut line, &notify);
    line
}

fn difficulty() -> Difficulty {
    Difficulty::new(DIFFICULTY).expect("it is positive")
}

impl Session {
    fn serve(mut self, rule: Rule, events: &Sender<Seen>) {
        let reader = self.stream.try_clone().expect("a second handle");
        for line in BufReader::new(reader).split(b'\n') {
            let Ok(line) = line else { return };
            let message = parse(&line).expect("the miner's lines are Stratum");
            let mut out = Vec::new();
            match message.request {
                Request::Configure(configure) => {
                    let asked = configure.version_rolling.expect("it asks to roll");
                    let version_rolling = Some(asked.mask & MASK);
                    let reply = ConfigureReply { version_rolling, ..ConfigureReply::default() };
                    write::configure_result(&mut out, message.id, &reply);
                }
                Request::Subscribe(_) => {
                    let extranonce1 = &self.extranonce1;
                    let size = EXTRANONCE2_BYTES;
                    write::subscribe_result(&mut out, message.id, "s", extranonce1, size);
                    let _ = events.send(Seen::Subscribed);
                }
                Request::Authorize { .. } => {
                    write::result_true(&mut out, message.id);
                    write::set_difficulty(&mut out, difficulty());
                    out.extend_from_slice(&notify_line(self.tip, true));
                }
                Request::Submit(submit) => {
                    let act = rule(self.connection, self.shares);
                    self.shares += 1;
                    let judged = self.judge(&submit);
                    self.answer(message.id, act, &mut out);
                    let seen = match judged {
                        Ok(rolled) => Seen::Share { connection: self.connection, act, rolled },
                        Err(fault) => Seen::Invalid(fault),
                    };
                    if self.send(&out, act).is_err() || events.send(seen).is_err() {
                        return;
                    }
                    continue;
                }
                other => panic!("not in a miner's repertory here: {other:?}"),
            }
            if self.stream.write_all(&out).is_err() {
                return;
            }
        }
    }

    fn answer(&mut self, id: wire::sv1::Id<'_>, act: Act, out: &mut Vec<u8>) {
        match act {
            Act::Accept | Act::Drip => write::result_true(out, id),
            Act::TipThenStale => {
                self.tip += 1;
                out.extend_from_slice(&notify_line(self.tip, true));
                write::error(out, id, ErrorCode::Stale, "stale");
            }
            Act::Stale => write::error(out, id, ErrorCode::Stale, "stale"),
            Act::Close => {}
            Act::Garbage => out.extend_from_slice(b"HTTP/1.1 400 Bad Request\r\n\r\n"),
        }
    }

    fn send(&mut self, out: &[u8], act: Act) -> std::io::Result<()> {
        match act {
            Act::Close => self.stream.shutdown(std::net::Shutdown::Both),
            Act::Drip => out.iter().try_for_each(|byte| self.stream.write_all(&[*byte])),
            _ => self.stream.write_all(out),
        }
    }

    // Ok: whether any version bit was rolled.
    fn judge(&self, submit: &Submit<'_>) -> Result<bool, String> {
        let mut extranonce2 = [0; 16];
        let size = hex::decode_into(&submit.extranonce2, &mut extranonce2)
            .map_err(|error| format!("{error:?}"))?;
        if size != EXTRANONCE2_BYTES {
            return Err(format!("an extranonce2 of {size} bytes"));
        }
        let number = |text: &str| hex::u32_left_padded(text).ok_or(format!("no number: {text}"));
        let bits = number(submit.version_bits.as_deref().unwrap_or(""))?;
        if bits & !MASK != 0 {
            return Err(format!("bits {bits:08x} outside the mask"));
        }
        let tip = submit.job_id.split('.').next().and_then(hex::u32_left_padded);
        let tip = tip.ok_or("no such job")? as u8;
        let kernel = Kernel::named("ring").expect("ring runs everywhere");
        let coinbase = [FIRST, &self.extranonce1, &extranonce2[..size], SECOND].concat();
        let mut root = kernel.sha256d(&coinbase);
        for sibling in path() {
            root = kernel.sha256d(&[root.0, sibling.0].concat());
        }
        let header = [
            &(VERSION | bits).to_le_bytes()[..],
            &[tip; 32],
            &root.0,
            &number(&submit.ntime)?.to_le_bytes(),
            &0x207f_ffff_u32.to_le_bytes(),
            &number(&submit.nonce)?.to_le_bytes(),
        ];
        let header = header.concat();
        if !Target::from_difficulty(difficulty()).is_met_by(&kernel.sha256d(&header)) {
            return Err("its hash misses the target".into());
        }
        match self.headers.lock().expect("no test thread panics with it").insert(header) {
            true => Ok(bits != 0),
            false => Err("the same header twice".into()),
        }
    }
}

impl Server {
    fn next(&self) -> Seen {
        self.seen.recv_timeout(PATIENCE).expect("the fleet is at work")
    }

    fn fleet(&self, connections: usize) -> Fleet {
        Fleet::start(config(self.address, connections)).expect("it starts")
    }
}

fn config(address: SocketAddr, connections: usize) -> FleetConfig {
    FleetConfig {
        address,
        connections,
        threads: 2,
        user_prefix: "test".into(),
        seed: 7,
        kernel: Kernel::detect(),
    }
}

#[test]
fn each_of_many_connections_has_a_share_and_no_header_comes_twice() {
    let server = server(|_, _| Act::Accept);
    let fleet = server.fleet(40);
    let mut with_share = HashSet::new();
    let mut any_rolled = false;
    let mut shares = 0;
    while with_share.len() < 40 || shares < 200 {
        match server.next() {
            Seen::Share { connection, rolled, .. } => {
                with_share.insert(connection);
                any_rolled |= rolled;
                shares += 1;
            }
            Seen::Invalid(fault) => panic!("{fault}"),
            Seen::Subscribed => {}
        }
    }
    assert!(any_rolled);
    let stats = fleet.stop();
    assert_eq!(stats.without_share(), 0);
    assert_eq!(stats.rejected_total(), 0);
    assert_eq!(stats.unanswered, 0);
    assert_eq!(stats.accepted, stats.submitted);
    assert_eq!(stats.accepted, stats.accepted_by_connection.iter().sum::<u64>());
    assert!(stats.p50_us > 0 && stats.p99_us >= stats.p50_us);
    assert!(stats.hashes > 0);
    assert_eq!((stats.connected, stats.working), (0, 0));
}

#[test]
fn stale_shares_are_expected_only_after_a_clean_job_on_another_tip() {
    let server = server(|_, share| match share {
        0 => Act::TipThenStale,
        1 => Act::Stale,
        _ => Act::Accept,
    });
    let fleet = server.fleet(1);
    let mut accepted = false;
    while !accepted {
        match server.next() {
            Seen::Share { act, .. } => accepted = act == Act::Accept,
            Seen::Invalid(fault) => panic!("{fault}"),
            Seen::Subscribed => {}
        }
    }
    let stats = fleet.stop();
    assert!(stats.rejected[&21] >= 2);
    // Shares in flight together with the first one may count on either side; both kinds occur.
    assert!(stats.rejected_expected >= 1);
    assert!(stats.accepted >= 1);
}

#[test]
fn a_closed_or_confused_connection_comes_again_and_mines_on() {
    for act in [Act::Close, Act::Garbage] {
        let rule: Rule = match act {
            Act::Close => |connection, _| if connection < 3 { Act::Close } else { Act::Accept },
            _ => |connection, _| if connection < 3 { Act::Garbage } else { Act::Accept },
        };
        let server = server(rule);
        let fleet = server.fleet(3);
        let mut with_share = HashSet::new();
        while with_share.len() < 3 {
            match server.next() {
                Seen::Share { connection, act: Act::Accept, .. } => {
                    with_share.insert(connection);
                }
                Seen::Invalid(fault) => panic!("{fault}"),
                Seen::Share { .. } | Seen::Subscribed => {}
            }
        }
        let stats = fleet.stop();
        assert!(stats.reconnects >= 3, "{stats:?}");
        assert!(stats.unanswered >= 3, "{stats:?}");
        assert_eq!(stats.rejected_total(), 0);
    }
}

#[test]
fn replies_in_pieces_of_one_byte_are_understood() {
    let server = server(|_, _| Act::Drip);
    let fleet = server.fleet(2);
    for _ in 0..10 {
        if let Seen::Invalid(fault) = server.next() {
            panic!("{fault}");
        }
    }
    let stats = fleet.stop();
    assert_eq!((stats.accepted, stats.rejected_total()), (stats.submitted, 0));
}

#[test]
fn five_hundred_connections_are_up_at_once() {
    let server = server(|_, _| Act::Accept);
    let fleet = server.fleet(500);
    let mut subscribed = 0;
    while subscribed < 500 {
        subscribed += usize::from(matches!(server.next(), Seen::Subscribed));
    }
    assert_eq!(fleet.stop().reconnects, 0);
}

#[test]
fn a_server_that_is_not_there_is_no_error_and_stop_is_quick() {
    let listener = TcpListener::bind("127.0.0.1:0").expect("a free port");
    let address = listener.local_addr().expect("it is bound");
    drop(listener);
    let fleet = Fleet::start(config(address, 5)).expect("it starts");
    let stats = fleet.stop();
    assert_eq!((stats.connected, stats.submitted), (0, 0));
}

#[test]
fn numbers_outside_their_limits_are_refused() {
    let address = "127.0.0.1:1".parse().expect("an address");
    for connections in [0, CONNECTIONS_MAX + 1] {
        let refused = Fleet::start(config(address, connections)).expect_err("out of range");
        assert!(matches!(refused, FleetError::Connections(number) if number == connections));
    }
    let none = FleetConfig { threads: 0, ..config(address, 1) };
    assert!(matches!(Fleet::start(none), Err(FleetError::Threads(0))));
}

#[test]
fn the_hash_rate_is_measured() {
    let rate = measure_hash_rate(Kernel::detect(), 1, Duration::from_millis(50));
    assert!(rate > 10_000.0, "{rate}");
}

#[test]
fn hash_threads_give_way_to_everybody_and_nobody_else_does() {
    let before = rustix::process::getpriority_process(None).expect("it can be asked");
    let lowered = thread::spawn(|| {
        crate::hash::lower_priority();
        rustix::process::getpriority_process(None).expect("it can be asked")
    });
    assert_eq!(lowered.join().expect("it does not panic"), 19);
    assert_eq!(rustix::process::getpriority_process(None), Ok(before));
}

/// A miner that has its greeting answered and a job.
fn greeted() -> (Miner, JobCache, Vec<u8>) {
    let (mut miner, mut cache, mut out) = (Miner::new("a.0".into()), JobCache::default(), vec![]);
    miner.connected(&mut out);
    let lines: Vec<Vec<u8>> = out.split(|byte| *byte == b'\n').map(<[u8]>::to_vec).collect();
    assert_eq!(lines.len(), 4, "three requests at once");
    out.clear();
    let now = Instant::now();
    for request in &lines[..3] {
        let message = parse(request).expect("Stratum");
        let mut reply = Vec::new();
        match message.request {
            Request::Subscribe(_) => {
                write::subscribe_result(&mut reply, message.id, "s", &[1, 2], 2);
            }
            Request::Authorize { user, .. } => {
                assert_eq!(user, "a.0");
                write::result_true(&mut reply, message.id);
            }
            _ => write::error(&mut reply, message.id, ErrorCode::Other, "no"),
        }
        assert!(matches!(say(&mut miner, now, &reply, &mut cache), News::Nothing));
    }
    assert!(miner.task().is_none(), "there is no job yet");
    let news = say(&mut miner, now, &notify_line(1, true), &mut cache);
    assert!(matches!(news, News::Work { clean: true }));
    (miner, cache, out)
}

fn say(miner: &mut Miner, now: Instant, line: &[u8], cache: &mut JobCache) -> News {
    miner.line(now, line.strip_suffix(b"\n").unwrap_or(line), cache, &mut Vec::new())
}

fn find(miner: &Miner) -> Found {
    let task = miner.task().expect("it has work");
    Found {
        connection: 0,
        epoch: task.epoch,
        job: task.job,
        extranonce2: vec![0, 1],
        version_bits: None,
        nonce: 5,
    }
}

fn refusal(id: u64, code: ErrorCode) -> Vec<u8> {
    let code = code.number();
    format!(r#"{{"id":{id},"result":null,"error":[{code},"no",null]}}"#).into_bytes()
}

#[test]
fn a_rejection_is_judged_by_what_came_before_it() {
    let (mut miner, mut cache, mut out) = greeted();
    let sent = Instant::now();
    let later = sent + Duration::from_millis(3);
    let found = find(&miner);
    for _ in 0..4 {
        assert!(miner.submit(sent, &found, &mut out));
    }
    let verdict = |news| match news {
        News::Verdict(verdict) => verdict,
        other => panic!("{other:?}"),
    };
    let latency = Duration::from_millis(3);
    let code = ErrorCode::Stale;
    // Before any clean job, 21 is the server's mistake.
    let news = say(&mut miner, later, &refusal(4, code), &mut cache);
    assert_eq!(verdict(news), Verdict { code: Some(21), expected: false, latency });
    // A clean job on the same tip excuses nothing.
    let mut same_tip = notify_line(1, true);
    same_tip.insert(1, b' ');
    assert!(matches!(say(&mut miner, later, &same_tip, &mut cache), News::Work { clean: true }));
    let news = say(&mut miner, later, &refusal(5, code), &mut cache);
    assert!(!verdict(news).expected);
    // One on another tip excuses 21 and nothing else.
    assert!(!miner.submit(later, &found, &mut out), "its work is void by now");
    say(&mut miner, later, &notify_line(2, true), &mut cache);
    let news = say(&mut miner, later, &refusal(6, code), &mut cache);
    assert_eq!(verdict(news), Verdict { code: Some(21), expected: true, latency });
    let news = say(&mut miner, later, &refusal(7, ErrorCode::LowDifficulty), &mut cache);
    assert_eq!(verdict(news), Verdict { code: Some(23), expected: false, latency });
    assert_eq!(miner.unanswered(), 0);
    // An answer that nobody waits for is nobody's.
    assert!(matches!(say(&mut miner, later, &refusal(7, code), &mut cache), News::Nothing));
}

#[test]
fn a_difficulty_counts_from_the_next_job_on() {
    let (mut miner, mut cache, _) = greeted();
    let now = Instant::now();
    assert_eq!(miner.task().expect("work").target, Target::MAX);
    let mut line = Vec::new();
    write::set_difficulty(&mut line, difficulty());
    say(&mut miner, now, &line, &mut cache);
    assert_eq!(miner.task().expect("work").target, Target::MAX);
    say(&mut miner, now, &notify_line(1, false), &mut cache);
    assert_eq!(miner.task().expect("work").target, Target::from_difficulty(difficulty()));
    assert_eq!(miner.task().expect("work").version_mask, 0, "configure was refused");
}

#[test]
fn pings_are_answered_and_impossible_answers_end_the_connection() {
    let (mut miner, mut cache, mut out) = greeted();
    let now = Instant::now();
    let ping = br#"{"id":9,"method":"mining.ping","params":[]}"#;
    assert!(matches!(miner.line(now, ping, &mut cache, &mut out), News::Nothing));
    assert!(out.starts_with(br#"{"id":9,"#), "{}", String::from_utf8_lossy(&out));
    let mut fresh = Miner::new("a.1".into());
    fresh.connected(&mut Vec::new());
    let huge = br#"{"id":2,"result":[[],"00",4000],"error":null}"#;
    assert!(matches!(say(&mut fresh, now, huge, &mut cache), News::Close));
    let refused = br#"{"id":3,"result":false,"error":null}"#;
    assert!(matches!(say(&mut fresh, now, refused, &mut cache), News::Close));
}

#[test]
fn those_without_a_share_come_first() {
    let schedule = Schedule::new(3, 1);
    let (miner, ..) = greeted();
    for connection in 0..3 {
        schedule.assign(connection, miner.task());
    }
    schedule.settled(1, true);
    let turns: Vec<usize> =
        (0..6).map(|_| schedule.next().expect("there is work").connection).collect();
    assert_eq!(turns, [0, 2, 0, 2, 0, 2]);
    schedule.found(&find(&miner));
    assert_eq!(schedule.next().expect("there is work").connection, 2, "0 has a find under way");
    schedule.settled(0, true);
    schedule.settled(2, true);
    let turns: HashSet<usize> =
        (0..3).map(|_| schedule.next().expect("there is work").connection).collect();
    assert_eq!(turns.len(), 3, "all in turn");
    let slice = schedule.next().expect("there is work");
    assert!(schedule.is_current(&slice));
    schedule.clean_job();
    assert!(!schedule.is_current(&slice));
    schedule.stop();
    assert!(schedule.next().is_none());
}

proptest! {
    #![proptest_config(ProptestConfig {
        cases: 32,
        failure_persistence: None,
        ..ProptestConfig::default()
    })]

    /// Whatever mask is granted, no two slices of a connection have the same header space, and
    /// only granted bits are rolled.
    #[test]
    fn slices_are_header_spaces_of_their_own(mask: u32, rounds in 1_usize..400) {
        let mask = mask & MASK;
        let (mut miner, mut cache, _) = greeted();
        let mut line = Vec::new();
        write::set_version_mask(&mut line, mask);
        say(&mut miner, Instant::now(), &line, &mut cache);
        let schedule = Schedule::new(1, 3);
        schedule.assign(0, miner.task());
        let mut spaces = HashSet::new();
        for _ in 0..rounds {
            let slice = schedule.next().expect("there is work");
            prop_assert_eq!(slice.version & !mask, VERSION & !mask);
            prop_assert_eq!(slice.extranonce2.len(), 2);
            prop_assert_eq!(slice.version_bits, (mask != 0).then_some(slice.version & mask));
            prop_assert!(spaces.insert((slice.extranonce2, slice.version)));
        }
    }
}
