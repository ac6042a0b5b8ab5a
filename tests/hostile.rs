//! Bad input against the real daemon over real sockets. Each test tries one kind of it beside a
//! witness, a miner who submits shares all the time and fails the test when an answer takes a
//! second. Afterwards the closes are counted under their reasons, memory has kept its limit,
//! nothing has panicked, and the daemon drains. Bad configuration is in `commands`.

mod support;

#[path = "support/farm.rs"]
mod farm;

use std::net::Ipv4Addr;
use std::time::{Duration, Instant};

use farm::{Farm, Peer};
use serde_json::{Value, json};

/// What any attack here may cost beyond what is needed for ordinary miners: the tables and buffers
/// of some hundred connections and the allocator's reserves, far below what is thrown at it.
const GROWTH_MAX_KIB: u64 = 32 << 10;
/// The longest line that is read, without its end.
const LINE_BYTES_MAX: usize = 8_192;
/// One submit before the job is known, for those who do not care.
const BLIND_SUBMIT: &str = concat!(
    r#"{"id": 4, "method": "mining.submit", "#,
    r#""params": ["farm.rig", "1.1", "00000000", "5f5e1000", "00000001"]}"#,
    "\n"
);

#[test]
fn other_protocols_are_closed_and_only_tls_hears_why() {
    let farm = Farm::start("");
    let mut openings: Vec<(&str, Vec<u8>)> = vec![
        ("http", b"GET / HTTP/1.1\r\nHost: x\r\n\r\n".to_vec()),
        ("http", b"POST / HTTP/1.1\r\nContent-Length: 2\r\n\r\n{}".to_vec()),
        ("http", b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n".to_vec()),
        ("proxy_header", b"PROXY TCP4 10.0.0.1 10.0.0.2 4000 3333\r\n{\"id\": 1}\n".to_vec()),
        (
            "proxy_header",
            b"\r\n\r\n\0\r\nQUIT\n\x21\x11\0\x0c\x0a\0\0\x01\x0a\0\0\x02\x0f\xa0\x0d\x05".to_vec(),
        ),
        ("not_stratum", b"SSH-2.0-OpenSSH_9.6\r\n".to_vec()),
        ("not_stratum", vec![0; 4_096]),
        ("not_stratum", vec![0xff; 4_096]),
        ("not_stratum", (0..=255).collect()),
        ("not_stratum", b"\n".repeat(100)),
        ("not_stratum", b"hello\n".to_vec()),
        ("not_stratum", b"[1, 2, 3]\n".to_vec()),
    ];
    let mut hello = b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03".to_vec();
    hello.resize(517, 0x5a);
    openings.push(("tls", hello));
    // An SV2 miner begins with 64 random bytes.
    let mut random = Random(0x9e37_79b9_7f4a_7c15);
    openings.extend((0..200).map(|_| ("not_stratum", random.bytes(64))));
    for (expected, bytes) in &openings {
        let peer = farm.connect();
        peer.send(bytes);
        // A fatal alert, handshake_failure: 40 is a parenthesis.
        let answer: &[&str] = if *expected == "tls" { &["\x15\x03\x03\0\x02\x02("] } else { &[] };
        assert_eq!(peer.ended().lines, answer, "{bytes:?}");
    }
    for reason in ["http", "proxy_header", "tls", "not_stratum"] {
        let count = openings.iter().filter(|(expected, _)| *expected == reason).count();
        farm.until_closed(reason, count as u64);
    }
    farm.end();
}

#[test]
fn lines_that_are_no_requests_are_answered_and_closed() {
    let farm = Farm::start("");
    let lines: [&[u8]; 8] = [
        b"garbage\n",
        b"{\"id\": 1, \"method\": \n",
        b"\x00\x01\x02\xfe\xff\n",
        b"{\"id\": 1, \"method\": \"mining.\xff\xfe\", \"params\": []}\n",
        b"[]\n",
        b"\"mining.subscribe\"\n",
        b"{\"id\": 1, \"method\": \"mining.ping\", \"params\": []}}\n",
        b"GET / HTTP/1.1\r\n",
    ];
    let count = lines.len() as u64;
    for line in lines {
        let mut peer = farm.miner();
        peer.send(line);
        let error = peer.answer().expect("an answer");
        assert_eq!(error["error"][0], 20, "{error}");
        peer.ended();
    }
    farm.until_closed("malformed", count);
    let halves = ["{", "{\"id\": 1, \"method\": \"mining.subs", "{\"id\": 1}\n{\"id\": 2, "];
    for (number, half) in halves.iter().cycle().take(60).enumerate() {
        let peer = farm.connect();
        peer.send(half.as_bytes());
        match number % 2 {
            0 => peer.close(),
            _ => drop(peer),
        }
    }
    farm.until("60 ends", || farm.closed("peer_closed") + farm.closed("peer_reset") == 60);
    farm.end();
}

#[test]
fn a_line_without_an_end_is_cut_and_holds_no_memory() {
    let farm = Farm::start("");
    let before = farm.resident_kib();
    let text = vec![b'a'; 1 << 20];
    for number in 0..16 {
        let peer = if number % 2 == 0 { farm.miner() } else { farm.connect() };
        peer.send(b"{\"id\": 1, \"method\": \"");
        // 1 GiB; what was taken before the cut lies in the kernel's buffers.
        let taken = (0..1_024).map_while(|_| Some(peer.send(&text)).filter(|n| *n == text.len()));
        let taken = taken.count();
        assert!(taken < 16, "{taken} MiB of one line were taken");
        peer.ended();
    }
    farm.until_closed("limit", 16);
    // As many as may be, each within the limit, none of which ever ends its line.
    let mut open = Vec::new();
    for _ in 0..300 {
        let peer = farm.miner();
        let mut line = b"{\"id\": 1, \"method\": \"".to_vec();
        line.resize(LINE_BYTES_MAX, b'a');
        assert_eq!(peer.send(&line), LINE_BYTES_MAX);
        open.push(peer);
    }
    let received = || farm.metric("headframe_received_bytes_total", "");
    farm.until("all bytes", || received() > 300 * LINE_BYTES_MAX as u64);
    for peer in open.drain(..150) {
        peer.send(b"\", \"params\": []}\n");
        assert!(peer.ended().lines.len() < 20, "beyond the limit by its end");
    }
    open.into_iter().for_each(Peer::close);
    farm.until_closed("limit", 16 + 150);
    assert!(farm.growth_kib(before) < GROWTH_MAX_KIB, "{} KiB", farm.growth_kib(before));
    println!("memory grew by {} KiB at most", farm.growth_kib(before));
    farm.end();
}

#[test]
fn deep_and_huge_json_is_read_within_the_limit_and_cut_beyond() {
    let farm = Farm::start("");
    let before = farm.resident_kib();
    let around = |params: &str| {
        format!("{{\"id\": 7, \"method\": \"mining.subscribe\", \"params\": {params}}}\n")
    };
    let deep = |depth: usize| format!("{}{}", "[".repeat(depth), "]".repeat(depth));
    let objects = |depth: usize| format!("{}1{}", "{\"a\":".repeat(depth), "}".repeat(depth));
    let within = [
        around(&deep(100)),
        around(&deep(4_000)),
        around(&format!("[{}]", objects(1_300))),
        around(&format!("[{}1]", "1,".repeat(4_000))),
        around(&format!("[\"{}\"]", "\\u0041".repeat(1_300))),
        around(&format!("[\"{}\"]", "\\ud800".repeat(1_300))),
        around(&format!("[{}]", "9".repeat(8_000))),
        around(&format!("[{{{}\"z\": 0}}]", "\"a\": 1,".repeat(1_100))),
        format!("{{\"id\": \"{}\", \"method\": \"mining.ping\"}}\n", "i".repeat(8_000)),
        format!("{{\"id\": {}, \"method\": \"mining.ping\"}}\n", deep(4_000)),
        format!("{{\"id\": 7, \"method\": \"{}\"}}\n", "m".repeat(8_000)),
    ];
    let mut closed = 0;
    for line in &within {
        assert!(line.len() <= LINE_BYTES_MAX, "{}", line.len());
        let mut peer = farm.miner();
        peer.send(line.as_bytes());
        let answer = peer.answer().expect("a whole line is answered");
        assert!(answer.get("result").is_some() && answer.get("error").is_some(), "{answer}");
        // What is no JSON message at all ends the connection; everything else does not.
        if answer["error"][1] == "not a JSON object" {
            peer.ended();
            closed += 1;
        } else {
            assert!(peer.is_alive(), "{answer}");
        }
    }
    farm.until_closed("malformed", closed);
    let beyond = [around(&deep(1 << 20)), around(&format!("[{}1]", "1,".repeat(1 << 20)))];
    for line in &beyond {
        let peer = farm.miner();
        peer.send(line.as_bytes());
        peer.ended();
    }
    farm.until_closed("limit", beyond.len() as u64);
    assert!(farm.growth_kib(before) < GROWTH_MAX_KIB, "{} KiB", farm.growth_kib(before));
    println!("memory grew by {} KiB at most", farm.growth_kib(before));
    farm.end();
}

#[test]
fn wrong_types_in_every_field_are_answered_one_by_one() {
    let farm = Farm::start("");
    let requests = [
        ("mining.subscribe", json!(["cgminer/4", "00000001"])),
        ("mining.authorize", json!(["farm.rig", "x"])),
        ("mining.submit", json!(["farm.rig", "1.1", "00000000", "5f5e1000", "00000001", "0"])),
        ("mining.suggest_difficulty", json!([16.0])),
        ("mining.suggest_target", json!(["00ffff"])),
        ("mining.extranonce.subscribe", json!([])),
        ("mining.ping", json!([])),
        ("client.get_version", json!([])),
        ("mining.get_transactions", json!(["1.1"])),
        (
            "mining.configure",
            json!([["version-rolling", "minimum-difficulty"], {
            "version-rolling.mask": "1fffe000", "version-rolling.min-bit-count": 2,
            "minimum-difficulty.value": 1}]),
        ),
    ];
    let mut peer = farm.miner();
    let mut asked = 0;
    for (method, params) in &requests {
        for wrong in wrong_values() {
            for request in variants(method, params, &wrong) {
                asked += 1;
                peer.send(format!("{request}\n").as_bytes());
                let answer = peer.answer().unwrap_or_else(|| panic!("closed at {request}"));
                assert_eq!(answer["id"], request["id"], "{request}: {answer}");
                let (result, error) = (&answer["result"], &answer["error"]);
                assert_ne!(result.is_null(), error.is_null(), "{request}: {answer}");
            }
        }
        assert!(peer.is_alive());
    }
    assert!(asked > 500, "{asked}");
    peer.close();
    // A method or an id of the wrong type: an answer, and an end only if it is no message.
    for wrong in wrong_values() {
        for field in ["method", "id"] {
            let mut request = json!({"id": 3, "method": "mining.ping", "params": []});
            request[field] = wrong.clone();
            let mut peer = farm.miner();
            peer.send(format!("{request}\n").as_bytes());
            // Without a method it is an answer of the miner's own, which is not answered.
            peer.send(b"{\"id\": 9, \"method\": \"mining.ping\", \"params\": []}\n");
            peer.answer().unwrap_or_else(|| panic!("closed at {request}"));
        }
    }
    farm.end();
}

#[test]
fn a_submit_out_of_order_is_answered_25_and_closed_or_24() {
    let farm = Farm::start("");
    for line in [BLIND_SUBMIT, "{\"id\": 4, \"method\": \"mining.submit\", \"params\": 7}\n"] {
        let mut peer = farm.connect();
        peer.send(line.as_bytes());
        assert_eq!(peer.answer().expect("an answer")["error"][0], 25, "{line}");
        assert!(peer.ended().lines.is_empty());
    }
    farm.until_closed("not_subscribed", 2);
    let mut peer = farm.connect();
    peer.subscribe();
    peer.send(BLIND_SUBMIT.as_bytes());
    assert_eq!(peer.answer().expect("an answer")["error"][0], 24);
    assert!(peer.is_alive());
    peer.begin_mining();
    peer.close();
    farm.end();
}

#[test]
fn floods_are_answered_in_order_or_cut_off() {
    let farm = Farm::start("");
    let before = farm.resident_kib();
    let ping = |id| format!("{{\"id\": {id}, \"method\": \"mining.ping\", \"params\": []}}\n");
    let unknown = |id| format!("{{\"id\": {id}, \"method\": \"no.such\", \"params\": [{id}]}}\n");
    let submit = |id| BLIND_SUBMIT.replacen('4', &format!("{id}"), 1);
    let authorize = |id| {
        format!("{{\"id\": {id}, \"method\": \"mining.authorize\", \"params\": [\"w{id}\", 1]}}\n")
    };
    let kinds: [&dyn Fn(usize) -> String; 4] = [&ping, &unknown, &submit, &authorize];
    let mut cut = 0;
    for (number, line) in kinds.iter().cycle().take(8).enumerate() {
        let patient = number < kinds.len();
        let peer = farm.miner();
        let answered = flood(peer, *line, patient);
        if answered < FLOOD_REQUESTS {
            cut += 1;
        }
        assert!(!patient || answered == FLOOD_REQUESTS, "a reader got {answered} answers");
    }
    farm.until_closed("limit", cut);
    println!("{cut} of 4 impatient peers were cut off");
    assert!(farm.growth_kib(before) < GROWTH_MAX_KIB, "{} KiB", farm.growth_kib(before));
    println!("memory grew by {} KiB at most", farm.growth_kib(before));
    farm.end();
}

#[test]
fn thousands_of_connections_meet_their_limits() {
    let farm = Farm::start("[limits]\nconnections = 400\nunauthenticated = 100\nper_source = 60\n");
    let refused = |reason: &str| {
        farm.metric("headframe_connections_refused_total", &format!("reason=\"{reason}\""))
    };
    // A farm behind one address is no attack.
    let nat = Ipv4Addr::new(127, 0, 0, 2);
    let mut miners: Vec<Peer> = Vec::new();
    for _ in 0..250 {
        let mut peer = farm.connect_from(nat).expect("there is room");
        peer.begin_mining();
        miners.push(peer);
    }
    assert_eq!(refused("per_source"), 0);
    // So many strangers of one address are.
    let stranger = Ipv4Addr::new(127, 0, 0, 3);
    let accepted = || farm.metric("headframe_connections_accepted_total", "");
    let before = accepted();
    let strangers: Vec<Peer> =
        (0..60).map(|_| farm.connect_from(stranger).expect("there is room")).collect();
    strangers.iter().for_each(|peer| assert!(peer.send(b"{") == 1));
    farm.until("60 strangers", || accepted() == before + 60);
    for _ in 0..1_000 {
        if let Some(peer) = farm.connect_from(stranger) {
            assert!(peer.ended().lines.is_empty());
        }
    }
    assert_eq!(refused("per_source"), 1_000);
    // Miners take the places that are left, then those of the strangers.
    for _ in miners.len()..399 {
        miners.push(farm.try_miner().expect("a stranger makes room"));
    }
    farm.until("60 ends", || farm.closed("crowded") + farm.closed("handshake") == 60);
    assert!(farm.closed("crowded") > 0, "they had 15 s otherwise");
    assert_eq!(refused("connections"), 0);
    // Now the farm is full, and nobody who mines has to go.
    for _ in 0..1_000 {
        assert!(farm.connect().ended().lines.is_empty());
    }
    assert_eq!(refused("connections"), 1_000);
    miners.iter_mut().for_each(|miner| assert!(miner.is_alive()));
    miners.into_iter().for_each(Peer::close);
    farm.until("room", || farm.metric("headframe_miners{", "state=\"mining\"") == 1);
    farm.miner().close();
    farm.end();
}

#[test]
fn strangers_that_take_every_place_of_theirs_keep_nobody_out() {
    let farm = Farm::start("[limits]\nunauthenticated = 50\n");
    let flood: Vec<Peer> = (0..200).map(|_| farm.connect()).collect();
    let mut miners: Vec<Peer> =
        (0..20).map(|_| farm.try_miner().expect("its turn comes")).collect();
    assert!(farm.closed("crowded") > 100, "{}", farm.closed("crowded"));
    miners.iter_mut().for_each(|miner| assert!(miner.is_alive()));
    flood.into_iter().for_each(|peer| assert!(peer.ended().lines.is_empty()));
    miners.into_iter().for_each(Peer::close);
    farm.end();
}

#[test]
fn half_open_connections_make_room_for_the_farm_that_returns() {
    const MINERS: u64 = 120;
    let farm = Farm::start(&format!("[limits]\nconnections = {}\n", MINERS + 1));
    let gone: Vec<Peer> = (0..MINERS).map(|_| farm.miner()).collect();
    gone.iter().for_each(Peer::vanish);
    // It has its own back-off; until they are known to be gone, a machine is refused.
    let mut back = Vec::new();
    farm.until("the farm", || {
        back.extend(farm.try_miner());
        back.len() as u64 == MINERS
    });
    farm.until_closed("unresponsive", MINERS);
    back.iter_mut().for_each(|miner| assert!(miner.is_alive()));
    back.into_iter().for_each(Peer::close);
    drop(gone);
    farm.end();
}

#[test]
fn a_reader_that_stops_is_cut_off() {
    let farm = Farm::start("");
    let before = farm.resident_kib();
    // Who goes on asking is over its limit at once.
    for _ in 0..20 {
        let peer = farm.connect_narrow();
        let line = fat_request();
        while peer.send(line.as_bytes()) == line.len() {}
    }
    let cut = || farm.closed("limit") + farm.closed("slow_reader");
    farm.until("20 ends", || cut() == 20);
    // Who does not ask any more has as long as a send may stall.
    let received = || farm.metric("headframe_received_bytes_total", "");
    let sent = || farm.metric("headframe_sent_bytes_total", "");
    let mut stalled = Vec::new();
    for _ in 0..4 {
        let peer = farm.connect_narrow();
        let batch = fat_request().repeat(30);
        loop {
            let (heard, said) = (received(), sent());
            assert_eq!(peer.send(batch.as_bytes()), batch.len());
            farm.until("the batch", || received() >= heard + batch.len() as u64);
            let since = Instant::now();
            let told = || sent() > said + batch.len() as u64 / 2;
            let mut goes = told();
            while !goes && since.elapsed() < Duration::from_millis(300) {
                goes = told();
            }
            if !goes {
                break;
            }
        }
        stalled.push(peer);
    }
    farm.until("4 ends", || cut() == 24);
    assert!(farm.closed("slow_reader") >= 4);
    drop(stalled);
    assert!(farm.growth_kib(before) < GROWTH_MAX_KIB, "{} KiB", farm.growth_kib(before));
    println!("memory grew by {} KiB at most", farm.growth_kib(before));
    farm.end();
}

#[test]
fn a_handshake_without_an_end_is_cut_at_its_deadline() {
    let farm = Farm::start("");
    let begun = Instant::now();
    let mut watched = Vec::new();
    let handshake = "{\"id\": 1, \"method\": \"mining.subscribe\", \"params\": []}\n";
    let openings = ["", "{", "{\"id\": 1, \"me", handshake];
    for opening in openings.iter().cycle().take(120) {
        let peer = farm.connect();
        peer.send(opening.as_bytes());
        watched.push((peer, opening.is_empty()));
    }
    let drips: Vec<Peer> = (0..DRIPPERS).map(|_| farm.connect()).collect();
    let dripping = std::thread::spawn(move || drip_until_cut(drips));
    let (silent, begun_talking): (Vec<_>, Vec<_>) =
        watched.into_iter().partition(|(_, silent)| *silent);
    silent.into_iter().for_each(|(peer, _)| assert!(peer.ended().lines.is_empty()));
    let first = begun.elapsed();
    assert!((4.9..9.0).contains(&first.as_secs_f64()), "first byte: {first:?}");
    begun_talking.into_iter().for_each(|(peer, _)| drop(peer.ended()));
    let dripped = dripping.join().expect("it was cut");
    for whole in [begun.elapsed(), dripped] {
        assert!((14.9..19.0).contains(&whole.as_secs_f64()), "handshake: {whole:?}");
    }
    farm.until_closed("handshake", 120 + DRIPPERS);
    farm.end();
}

#[test]
fn a_reset_at_any_step_leaves_nothing_behind() {
    let farm = Farm::start("");
    let before = farm.descriptors();
    let steps: [fn(&mut Peer); 6] = [
        |_| {},
        |peer| drop(peer.subscribe()),
        |peer| drop(peer.begin_mining()),
        |peer| drop((peer.begin_mining(), peer.send(&BLIND_SUBMIT.as_bytes()[..40]))),
        |peer| drop((peer.begin_mining(), peer.send(BLIND_SUBMIT.as_bytes()))),
        |peer| assert!(peer.send(b"{\"id\": 1, ") > 0),
    ];
    for step in steps.iter().cycle().take(steps.len() * 50) {
        let mut peer = farm.connect();
        step(&mut peer);
        peer.reset();
    }
    // Who is gone before it was accepted was never served; the witness still is.
    let served = || farm.metric("headframe_connections_accepted_total", "") - 1;
    farm.until("all resets", || farm.closed("peer_reset") == served() && served() >= 200);
    farm.until("all descriptors", || farm.descriptors() <= before);
    farm.end();
}

/// Requests of one flood.
const FLOOD_REQUESTS: usize = 20_000;
/// Requests that a fast and fair peer has open; the daemon queues 1,024 answers.
const FLOOD_WINDOW: usize = 64;

/// Sends all requests, a patient peer with a window; returns how many were answered, in order.
fn flood(mut peer: Peer, line: &dyn Fn(usize) -> String, patient: bool) -> usize {
    if patient {
        let mut answered = 0;
        while answered < FLOOD_REQUESTS {
            let to = (answered + FLOOD_WINDOW).min(FLOOD_REQUESTS);
            peer.send((answered..to).map(line).collect::<String>().as_bytes());
            while answered < to {
                let Some(answer) = peer.answer() else { return answered };
                assert_eq!(answer["id"], answered, "{answer}");
                answered += 1;
            }
        }
        peer.close();
        return answered;
    }
    let all = (0..FLOOD_REQUESTS).map(line).collect::<String>();
    std::thread::scope(|scope| {
        let writer = peer.stream().try_clone().expect("a socket");
        scope.spawn(move || Peer::of(writer).send(all.as_bytes()));
        let mut answered = 0;
        while answered < FLOOD_REQUESTS {
            let Some(answer) = peer.answer() else { return answered };
            assert_eq!(answer["id"], answered, "{answer}");
            answered += 1;
        }
        peer.close();
        answered
    })
}

/// A request whose answer is about as long as it is itself, above 600 bytes.
fn fat_request() -> String {
    let names: Vec<_> = (0..8).map(|number| format!("{number}").repeat(64)).collect();
    format!("{}\n", json!({"id": 1, "method": "mining.configure", "params": [names, {}]}))
}

/// Connections that send a byte now and then.
const DRIPPERS: u64 = 1_000;

/// Sends a byte on each about every half second, and returns how long it took until the other side
/// had enough of all of them.
fn drip_until_cut(mut peers: Vec<Peer>) -> Duration {
    let begun = Instant::now();
    let pause = Some(Duration::from_millis(500));
    let mut line = b"{\"id\": 1, \"method\": \"mining.subscribe\", \"params\": []}".iter();
    let is_quiet = |peer: &Peer| {
        // Nothing is said to somebody who never ends a line: it is either quiet or over.
        let read = std::io::Read::read(&mut peer.stream(), &mut [0]);
        read.is_err_and(|error| error.kind() == std::io::ErrorKind::WouldBlock)
    };
    while let Some(first) = peers.first() {
        first.stream().set_nonblocking(false).expect("a socket");
        first.stream().set_read_timeout(pause).expect("a time-out");
        is_quiet(first);
        let byte = line.next().expect("the line is longer than their time");
        for peer in &peers {
            // What is closed meanwhile takes nothing, and is sorted out below.
            peer.send(&[*byte]);
        }
        peers.iter().for_each(|peer| peer.stream().set_nonblocking(true).expect("a socket"));
        peers.retain(is_quiet);
    }
    begun.elapsed()
}

/// A request with one value wrong: each parameter in turn, all of them, one too many.
fn variants(method: &str, params: &Value, wrong: &Value) -> Vec<Value> {
    let whole = json!({"id": 5, "method": method, "params": params});
    let mut all = Vec::new();
    for index in 0..=params.as_array().map_or(0, Vec::len) {
        let mut request = whole.clone();
        let fields = request["params"].as_array_mut().expect("an array");
        if index < fields.len() {
            fields[index] = wrong.clone();
        } else {
            fields.push(wrong.clone());
        }
        all.push(request);
        let mut short = whole.clone();
        short["params"].as_array_mut().expect("an array").truncate(index);
        all.push(short);
    }
    for key in params[1].as_object().into_iter().flat_map(|options| options.keys()) {
        let mut request = whole.clone();
        request["params"][1][key] = wrong.clone();
        all.push(request);
    }
    let mut request = whole;
    request["params"] = wrong.clone();
    all.push(request);
    all
}

/// Values of every JSON type, and those at the ends of their ranges.
fn wrong_values() -> Vec<Value> {
    vec![
        Value::Null,
        json!(true),
        json!(-1),
        json!(3.5),
        json!(1e308),
        json!(u64::MAX),
        json!(""),
        json!("zz"),
        json!("\0\u{7f}\"\\"),
        json!("\u{1f600}"),
        json!("f".repeat(1_000)),
        json!([]),
        json!([[[]], {}]),
        json!({}),
        json!({"a": {"b": [null]}}),
    ]
}

/// The same bytes in each run.
struct Random(u64);

impl Random {
    fn bytes(&mut self, count: usize) -> Vec<u8> {
        let mut next = || {
            self.0 ^= self.0 << 13;
            self.0 ^= self.0 >> 7;
            self.0 ^= self.0 << 17;
            (self.0 >> 32) as u8
        };
        (0..count).map(|_| next()).collect()
    }
}
