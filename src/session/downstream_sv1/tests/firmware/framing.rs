//! A1 to A17: how firmware cuts and writes its lines, and how ours must look to it.

use super::*;
use crate::{LimitReached, NotSv1};
use wire::sv1::{LINE_BYTES_MAX, parse_server};

#[test]
fn a1_several_messages_in_one_segment() {
    let mut pair = connected();
    let lines = pair.ask(&BITAXE.join("\n"));
    assert_eq!(kinds(&lines), "1 2 3 difficulty clean");
}

#[test]
fn a2_one_line_over_many_segments_and_half_a_line_at_the_end() {
    let said = format!("{SUBSCRIBE}\n{AUTHORIZE}\n");
    for size in 1..said.len() {
        let mut pair = connected();
        said.as_bytes().chunks(size).for_each(|piece| pair.bytes(piece));
        assert_eq!(kinds(&pair.lines()), "2 3 difficulty clean", "pieces of {size}");
    }
    // All but its end: when the peer closes now, nobody was authorized by it.
    let mut pair = connected();
    pair.say(SUBSCRIBE);
    pair.lines();
    pair.bytes(AUTHORIZE.as_bytes());
    assert_eq!(pair.lines(), [""; 0]);
    assert!(pair.machine.names().is_empty());
    assert!(pair.machine.memory_bytes() <= LINE_BYTES_MAX, "one partial line is all it holds");
}

#[test]
fn a3_every_end_of_line_is_taken_and_lf_alone_is_sent() {
    for end in ["\n", "\r\n", "\n\n", "\r\n\r\n", "\n \t\r\n"] {
        let mut pair = connected();
        pair.bytes(format!("{end}{SUBSCRIBE}{end}{AUTHORIZE}{end}").as_bytes());
        // `lines` asserts that each ends in LF and none has a CR.
        assert_eq!(kinds(&pair.lines()), "2 3 difficulty clean", "{end:?}");
    }
}

#[test]
fn a4_a_line_of_8_kib_is_read_and_a_longer_one_closes() {
    for authorized in [false, true] {
        for (over, closed) in [(0, None), (1, Some(Close::Limit(LimitReached::LineBytes)))] {
            let mut pair = if authorized { plain() } else { subscribed("x") };
            let ping = r#"{"id":7,"method":"mining.ping","params":[]}"#;
            let blanks = " ".repeat(LINE_BYTES_MAX + over - ping.len());
            let lines = pair.ask(&ping.replace("[]}", &format!("[]{blanks}}}")));
            assert_eq!(lines.len(), 1 - over, "{over} over the cap: {lines:?}");
            assert_eq!(pair.closed, closed);
        }
    }
}

#[test]
fn a5_other_protocols_on_the_port_are_closed_quietly_and_told_apart() {
    let mstshash = b"\x03\0\0\x2f\x2a\xe0\0\0\0\0\0Cookie: mstshash=Administr\r\n";
    let cases: [(&[u8], NotSv1); 4] = [
        (b"GET / HTTP/1.1\r\nHost: x\r\n\r\n", NotSv1::Http),
        (b"POST / HTTP/1.1\r\nContent-Length: 2\r\n\r\n{}", NotSv1::Http),
        (&[0x16, 3, 1, 2, 0, 1, 0, 1, 0xfc, 3, 3], NotSv1::Tls),
        (mstshash, NotSv1::Other),
    ];
    for (bytes, other) in cases {
        let mut pair = Pair::new();
        pair.bytes(bytes);
        assert_eq!(pair.closed, Some(Close::NotStratum(other)), "{}", bytes.escape_ascii());
        assert!(!pair.received.contains(&b'{'), "no Stratum is spoken to it");
    }
}

#[test]
fn a6_a_proxy_header_from_nobody_trusted_is_closed() {
    let v2 = b"\r\n\r\n\0\r\nQUIT\n\x21\x11\0\x0c\x7f\0\0\x01\x7f\0\0\x01\x12\x34\x0d\x05";
    for header in [&b"PROXY TCP4 10.0.0.9 10.0.0.1 4660 3333\r\n"[..], v2] {
        let mut pair = Pair::new();
        pair.bytes(&[header, SUBSCRIBE.as_bytes(), b"\n"].concat());
        assert_eq!(pair.closed, Some(Close::NotStratum(NotSv1::ProxyHeader)));
        assert!(pair.received.is_empty());
    }
}

#[test]
fn a7_of_duplicate_keys_the_last_wins() {
    let mut pair = plain();
    let twice = concat!(
        r#"{"id":1,"method":"mining.nonsense","params":[7],"#,
        r#""id":2,"method":"mining.ping","params":[]}"#
    );
    assert_eq!(pair.ask(twice), [r#"{"id":2,"result":"pong","error":null}"#]);
    // In a share too, whichever of its two readers takes it.
    let good = pair.good(0).line(5);
    let params = &good[good.find(r#""params""#).expect("there")..good.len() - 1];
    let bad = r#""params":["w","0","0","0","0"]"#;
    let line = |first: &str, second: &str| {
        format!(r#"{{"id":5,"method":"mining.submit",{first},{second}}}"#)
    };
    assert_eq!(pair.ask(&line(params, bad)), [refused(5, 21, "job not found")]);
    assert_eq!(pair.ask(&line(bad, params)), [accepted(5)]);
}

#[test]
fn a8_an_id_of_any_kind_comes_back_as_it_was() {
    let mut pair = plain();
    for id in ["0", "-1", "null", r#""auth""#, r#""xnsub""#, r#""txlist1""#, "4294967296", "1e3"] {
        let line = format!(r#"{{"id":{id},"method":"mining.ping","params":[]}}"#);
        assert_eq!(pair.ask(&line), [format!(r#"{{"id":{id},"result":"pong","error":null}}"#)]);
    }
    let without = r#"{"method":"mining.ping","params":[]}"#;
    assert_eq!(pair.ask(without), [r#"{"id":null,"result":"pong","error":null}"#]);
    // What cannot be an id is answered without one, and nobody is cut off for it.
    for id in ["[1]", "{}", "true"] {
        let lines = pair.ask(&format!(r#"{{"id":{id},"method":"mining.ping","params":[]}}"#));
        assert!(lines[0].starts_with(r#"{"id":null,"result":null,"error":[20,"#), "{lines:?}");
    }
    assert_eq!(pair.closed, None);
}

/// Bfgminer asks without an id before it subscribes, and takes the next line for the answer to its
/// subscribe. So the answers to those wait for that one; with an id they do not.
#[test]
fn a8_hints_without_an_id_are_answered_behind_the_subscribe() {
    let target = "00000000ffff0000000000000000000000000000000000000000000000000000";
    let suggest =
        format!(r#"{{"id": null, "method": "mining.suggest_target", "params": ["{target}"]}}"#);
    let able = r#"{"id":null,"method":"mining.capabilities","params":[{"notify":[]}]}"#;
    for split in [false, true] {
        let mut pair = connected();
        let lines = if split {
            [&suggest, able, SUBSCRIBE].into_iter().flat_map(|line| pair.ask(line)).collect()
        } else {
            pair.ask(&format!("{suggest}\n{able}\n{SUBSCRIBE}"))
        };
        let unknown = r#"{"id":null,"result":null,"error":[-3,"Method not found",null]}"#;
        let agreed = r#"{"id":null,"result":true,"error":null}"#;
        assert_eq!(lines, [SUBSCRIBED, agreed, unknown]);
        assert_eq!(pair.machine.suggested_difficulty(), Difficulty::new(1.0));
        assert_eq!(pair.ask(able), [unknown], "afterwards at once");
    }
    // Who sends many of them hears of the rest at once: nothing grows with them.
    let mut pair = connected();
    for _ in 0..100 {
        pair.say(able);
    }
    assert_eq!(pair.lines().len(), 96);
    assert_eq!(pair.ask(SUBSCRIBE).len(), 5);
}

#[test]
fn a9_params_may_be_null_missing_short_or_long() {
    for params in [
        "",
        r#","params":null"#,
        r#","params":[]"#,
        r#","params":["bosminer-plus-tuner 0.2.0",null]"#,
        r#","params":["bosminer-plus-tuner 0.2.0",null,"host:3333",null]"#,
    ] {
        let mut pair = connected();
        let line = format!(r#"{{"id":2,"method":"mining.subscribe"{params}}}"#);
        assert_eq!(pair.ask(&line), [SUBSCRIBED], "{params}");
    }
    let mut pair = plain();
    let share = pair.good(0);
    let longer = share.line(5).replace("]}", r#","00000000","more",7]}"#);
    assert_eq!(pair.ask(&longer), [accepted(5)]);
    let shorter = r#"{"id":6,"method":"mining.submit","params":["w"]}"#;
    assert_eq!(pair.ask(shorter), [refused(6, 20, "Missing job id")]);
    assert_eq!(pair.closed, None);
}

#[test]
fn a10_deep_and_huge_arrays_are_answered_within_the_line() {
    let half = LINE_BYTES_MAX / 2 - 64;
    let deep = format!("{}{}", "[".repeat(half), "]".repeat(half));
    let huge = format!("[0{}]", ",0".repeat(half - 64));
    let keys: String = (0..500).map(|key| format!(r#""k{key}":0,"#)).collect();
    for params in [deep, huge, format!(r#"{{{keys}"z":0}}"#)] {
        for method in ["mining.authorize", "mining.subscribe", "mining.configure"] {
            let mut pair = subscribed("x");
            let line = format!(r#"{{"id":3,"method":"{method}","params":{params}}}"#);
            let lines = pair.ask(&line);
            assert!(lines[0].starts_with(r#"{"id":3,"result":null,"error":[20,"#), "{lines:?}");
            assert_eq!(pair.closed, None);
            assert!(pair.machine.memory_bytes() <= 1_024, "nothing of it is kept");
        }
    }
}

#[test]
fn a11_lines_are_never_interleaved() {
    let mut pair = Pair::mining(easy());
    // Answers, errors, a step and two jobs come while a send is in flight: one writer, whole lines.
    pair.sending = true;
    for id in 10..40 {
        pair.say(&pair.poor(id << 16).line(id));
        pair.say(&format!(r#"{{"id":{id},"method":"mining.ping","params":[]}}"#));
    }
    want(&mut pair, 1e-6);
    pair.adopt(job(2, 1, pair.now));
    pair.adopt(job(3, 2, pair.now));
    assert!(pair.received.is_empty());
    pair.pass(2 * SECOND);
    let lines = pair.all_lines();
    assert!(lines.len() > 60);
    for line in lines {
        assert!(parse_server(line.as_bytes()).is_ok(), "{line}");
    }
}

#[test]
fn a12_a_quote_that_was_not_escaped_is_told_and_closed() {
    let mut pair = subscribed("bitaxe/BM1370/v2.12.2");
    let lines = pair.ask(r#"{"id":3,"method":"mining.authorize","params":["farm."rig" 1","x"]}"#);
    assert_eq!(lines.len(), 1);
    assert!(lines[0].starts_with(r#"{"id":null,"result":null,"error":[20,"not a JSON object"#));
    assert!(lines[0].contains("(at column 54)"), "{lines:?}");
    assert_eq!(pair.closed, Some(Close::Malformed));
    assert!(pair.machine.names().is_empty());
}

#[test]
fn a12_a_subscribe_in_the_same_burst_hears_why_it_gets_no_session() {
    let mut pair = connected();
    let lines = pair.ask(concat!(
        r#"{"id":2,"method":"mining.subscribe","params":["bitaxe/BM1370/v2.12.2"]}"#,
        "\n",
        r#"{"id":3,"method":"mining.authorize","params":["farm."rig" 1","x"]}"#,
    ));
    assert_eq!(lines.len(), 2, "{lines:?}");
    let text = "closed: a later line is no message";
    assert_eq!(lines[0], format!(r#"{{"id":2,"result":null,"error":[20,"{text}",null]}}"#));
    assert!(lines[1].contains("(at column 54)"), "{lines:?}");
    assert_eq!(pair.closed, Some(Close::Malformed));
}

#[test]
fn a13_long_and_escaped_names_are_taken_and_never_sent_back() {
    for length in [63, 80, 127, 128, 191, 192] {
        let name = "n".repeat(length);
        let mut pair = connected();
        pair.say(SUBSCRIBE);
        pair.say(&authorize(3, &name));
        let lines = pair.all_lines();
        assert_eq!(lines[1] == accepted(3), length <= 191, "{length}: {lines:?}");
        assert!(!lines.concat().contains("nnnn"), "Whatsminer overflows beyond 127");
    }
    // Some firmware writes %25 for a percent sign: another name, kept as it came.
    let mut pair = subscribed("x");
    pair.say(&authorize(3, "a%2525b"));
    pair.say(&authorize(3, r"a\u002525b"));
    assert_eq!(pair.machine.names(), ["a%2525b".into(), "a%25b".into()]);
}

#[test]
fn a14_names_with_blanks_around_or_control_characters_are_refused() {
    for (name, text) in [
        (" w", "worker name has blanks around it"),
        ("w ", "worker name has blanks around it"),
        ("w\u{a0}", "worker name has blanks around it"),
        (r"w\u001b[2J", "worker name has control characters"),
        (r"w\n", "worker name has control characters"),
        (r"\tw", "worker name has control characters"),
        (r"w\u0000", "worker name has control characters"),
        ("w\u{7f}", "worker name has control characters"),
        ("", "worker name is empty"),
    ] {
        let mut pair = subscribed("x");
        assert_eq!(pair.ask(&authorize(3, name)), [refused(3, 24, text)], "{name:?}");
        assert!(pair.machine.names().is_empty());
        assert_eq!(pair.closed, None, "it may try another name");
    }
    let mut pair = subscribed("x");
    assert_eq!(pair.ask(&authorize(3, "a b"))[0], accepted(3), "within it a blank is a letter");
}

#[test]
fn a15_notifications_have_the_id_null_and_every_line_begins_with_its_id() {
    let mut pair = connected();
    let mut lines = pair.ask(&BITAXE.join("\n"));
    pair.pass(30 * SECOND);
    pair.adopt(job(2, 2, pair.now));
    lines.extend(pair.lines());
    assert_eq!(kinds(&lines), "1 2 3 difficulty clean notify clean");
    for line in &lines {
        let notifies = is_notify(line) || is_set_difficulty(line);
        assert!(notifies || line.starts_with(r#"{"id":"#), "{line}");
        assert_eq!(notifies, line.contains(r#""method""#), "{line}");
        assert!(!line.contains("jsonrpc"), "{line}");
    }
}

#[test]
fn a17_errors_are_arrays_of_code_text_and_null() {
    let mut pair = plain();
    let share = pair.good(0);
    let spoilt = Sub { nonce: "zz".into(), ..share.clone() };
    let stranger = Sub { worker: "v".into(), ..share };
    for (line, error) in [
        (spoilt.line(5), r#"[20,"invalid nonce",null]"#),
        (stranger.line(5), r#"[24,"unauthorized worker",null]"#),
        (r#"{"id":5,"method":"no"}"#.into(), r#"[-3,"Method not found",null]"#),
        (r#"{"id":5,"method":7}"#.into(), r#"[20,"Wrong type of method",null]"#),
    ] {
        let hears = format!(r#"{{"id":5,"result":null,"error":{error}}}"#);
        assert_eq!(pair.ask(&line), [hears]);
    }
}
