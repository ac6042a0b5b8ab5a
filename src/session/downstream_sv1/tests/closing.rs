//! How connections end: quietly where nobody would understand, after an answer where somebody does.

use super::*;
use crate::{Command, LimitReached, NotSv1, REPLIES_QUEUED_MAX, Refusal, State};
use wire::sv1::LINE_BYTES_MAX;

#[test]
fn other_protocols_are_closed_without_a_word_of_ours() {
    let tls = [0x16, 3, 1, 2, 0, 1, 0, 1, 0xfc, 3, 3];
    let cases: [(&[u8], NotSv1); 7] = [
        (b"GET / HTTP/1.1\r\nHost: x\r\n\r\n", NotSv1::Http),
        (b"POST /login HTTP/1.1\r\n", NotSv1::Http),
        (&tls, NotSv1::Tls),
        (b"PROXY TCP4 1.2.3.4 5.6.7.8 1 2\r\n", NotSv1::ProxyHeader),
        (b"\r\n\r\n\0\r\nQUIT\n\x21\x11\0\x0c", NotSv1::ProxyHeader),
        (b"\x03\0\0\x2f\x2a\xe0\0\0\0\0\0Cookie: mstshash=Administr\r\n", NotSv1::Other),
        (b"hello\n", NotSv1::Other),
    ];
    for (bytes, reason) in cases {
        for cut in 0..bytes.len() {
            let mut pair = Pair::new();
            pair.bytes(&bytes[..cut]);
            pair.bytes(&bytes[cut..]);
            assert_eq!(pair.closed, Some(Close::NotStratum(reason)), "cut at {cut}");
            let hears: &[u8] = if reason == NotSv1::Tls { &wire::TLS_REFUSAL } else { b"" };
            assert_eq!(pair.received, hears);
            assert_eq!(pair.machine.memory_bytes(), 0);
        }
    }
}

#[test]
fn the_refusal_of_tls_waits_for_a_buffer() {
    let mut pair = Pair::new();
    pair.sending = true;
    pair.bytes(&[0x16, 3, 1, 2, 0, 1]);
    assert_eq!((pair.closed, pair.received.len()), (None, 0));
    pair.sent();
    assert_eq!(pair.closed, Some(Close::NotStratum(NotSv1::Tls)));
    assert_eq!(pair.received, wire::TLS_REFUSAL);
}

#[test]
fn a_line_that_is_no_json_is_told_so_and_closed() {
    for line in ["{\"id\":1,\"method\":", "{\"id\": 1,, \"method\"}", "{\"a\":\"\\", "[]", "7"] {
        let mut pair = Pair::new();
        pair.say(SUBSCRIBE);
        pair.lines();
        let lines = pair.ask(line);
        assert_eq!(lines.len(), 1, "{line}");
        let hears = r#"{"id":null,"result":null,"error":[20,"not a JSON object"#;
        assert!(lines[0].starts_with(hears), "{line}: {lines:?}");
        assert_eq!(pair.closed, Some(Close::Malformed));
    }
}

#[test]
fn requests_before_the_bad_line_are_answered_and_those_after_are_not() {
    let mut pair = Pair::new();
    let lines = pair.ask(&format!("{SUBSCRIBE}\nnonsense\n{AUTHORIZE}"));
    assert_eq!(lines.len(), 2);
    assert!(lines[0].starts_with(r#"{"id":2,"#));
    assert_eq!(pair.closed, Some(Close::Malformed));
    assert!(pair.machine.names().is_empty());
}

#[test]
fn a_line_over_the_cap_ends_it_and_holds_no_memory() {
    let mut pair = Pair::new();
    pair.say(SUBSCRIBE);
    pair.lines();
    pair.bytes(&[b'{'; LINE_BYTES_MAX]);
    assert_eq!(pair.closed, None);
    assert!(pair.machine.memory_bytes() <= LINE_BYTES_MAX + 1_024);
    pair.bytes(b"{");
    assert_eq!(pair.closed, Some(Close::Limit(LimitReached::LineBytes)));
    for _ in 0..1_000 {
        pair.bytes(&[b'x'; 4_096]);
    }
    assert!(pair.machine.memory_bytes() <= 1_024);
    assert!(pair.received.is_empty());
}

#[test]
fn a_submit_without_subscribe_is_25_and_a_close() {
    for params in [r#""w","1","00","00","00""#, r#""w""#, ""] {
        let mut pair = Pair::new();
        pair.say(AUTHORIZE);
        pair.lines();
        let line = format!(r#"{{"id":4,"method":"mining.submit","params":[{params}]}}"#);
        let hears = r#"{"id":4,"result":null,"error":[25,"not subscribed",null]}"#;
        assert_eq!(pair.ask(&line), [hears]);
        assert_eq!(pair.closed, Some(Close::NotSubscribed));
        assert_eq!(pair.outcomes(), [ShareOutcome::NotSubscribed]);
    }
}

#[test]
fn silence_and_a_half_handshake_run_out_of_time() {
    let mut pair = Pair::new();
    pair.pass(0);
    assert_eq!(pair.wait, pair.now.plus_micros(5 * SECOND));
    pair.pass(5 * SECOND - 1);
    assert_eq!(pair.closed, None);
    pair.pass(1);
    assert_eq!(pair.closed, Some(Close::Silent));

    for begin in ["{", "\r\n", SUBSCRIBE] {
        let mut pair = Pair::new();
        let start = pair.now;
        pair.bytes(begin.as_bytes());
        assert_eq!(pair.wait, start.plus_micros(15 * SECOND));
        pair.pass(15 * SECOND - 1);
        assert_eq!(pair.closed, None);
        pair.pass(1);
        assert_eq!(pair.closed, Some(Close::HandshakeTimeout), "{begin:?}");
    }
}

#[test]
fn whatever_comes_in_the_deadline_is_asked_for_until_it_ends_the_connection() {
    let mut pair = Pair::new();
    let deadline = pair.now.plus_micros(15 * SECOND);
    pair.say(SUBSCRIBE);
    for _ in 0..20 {
        pair.now = pair.now.plus_micros(SECOND);
        pair.say(r#"{"id":7,"method":"mining.ping","params":[]}"#);
        pair.lines();
        assert_eq!((pair.closed, pair.wait), (None, deadline));
        // With a send in flight it waits for that send, which has a deadline of its own.
        pair.sending = true;
        pair.say(r#"{"id":8,"method":"mining.ping","params":[]}"#);
        pair.sending = false;
        pair.input(Input::Job(crate::JobRef { index: crate::JobIndex(0), number: 1 }));
        pair.lines();
        assert_eq!((pair.closed, pair.wait), (None, deadline));
    }
    pair.pass(0);
    assert_eq!(pair.closed, Some(Close::HandshakeTimeout));
}

#[test]
fn a_miner_at_work_has_no_deadline() {
    let mut pair = Pair::mining(easy());
    for _ in 0..1_000 {
        pair.pass(30 * SECOND);
    }
    assert_eq!(pair.closed, None);
}

#[test]
fn no_prefix_is_an_error_and_a_close() {
    let mut pair = Pair::new();
    pair.grants = false;
    pair.say(SUBSCRIBE);
    pair.input(Input::Refused(Refusal::ExtranonceExhausted));
    let lines = pair.lines();
    assert!(lines[0].contains("no extranonce left"), "{lines:?}");
    assert_eq!(pair.closed, Some(Close::Refused(Refusal::ExtranonceExhausted)));
    pair.grant();
    pair.input(Input::Timer);
    assert_eq!(pair.machine.extranonce1(), None, "a grant after the end changes nothing");
}

#[test]
fn a_reader_that_stops_is_cut_at_the_limit() {
    let mut pair = Pair::mining(easy());
    pair.sending = true;
    let ping = r#"{"id":7,"method":"mining.ping","params":[]}"#;
    for _ in 0..REPLIES_QUEUED_MAX {
        pair.say(ping);
    }
    assert_eq!(pair.closed, None);
    assert_eq!(pair.wait, Tick::NEVER, "only the end of the send changes anything");
    pair.say(ping);
    assert_eq!(pair.closed, Some(Close::Limit(LimitReached::RepliesQueued)));
    assert!(pair.received.is_empty());
}

#[test]
fn long_answers_that_nobody_reads_take_no_more_than_many_short_ones() {
    let names: Vec<_> = (0..8).map(|number| format!("{number}").repeat(64)).collect();
    let fat = format!(r#"{{"id":1,"method":"mining.configure","params":[{names:?},{{}}]}}"#);
    let long_id = format!(r#"{{"id":"{}","method":"mining.ping","params":[]}}"#, "i".repeat(126));
    for line in [fat, long_id] {
        let mut pair = Pair::mining(easy());
        pair.sending = true;
        let mut most = 0;
        while pair.closed.is_none() {
            most = most.max(pair.machine.memory_bytes());
            pair.say(&line);
        }
        assert_eq!(pair.closed, Some(Close::Limit(LimitReached::RepliesQueued)));
        assert!((16 << 10..68 << 10).contains(&most), "{most} bytes");
        // Whoever reads may ask for as many as it likes.
        let mut pair = Pair::mining(easy());
        for _ in 0..3_000 {
            pair.say(&line);
            assert_eq!(pair.all_lines().len(), 1);
        }
    }
}

#[test]
fn queued_answers_leave_when_the_send_is_done() {
    let mut pair = Pair::mining(easy());
    pair.sending = true;
    for id in 0..REPLIES_QUEUED_MAX {
        pair.say(&format!(r#"{{"id":{id},"method":"mining.ping","params":[]}}"#));
    }
    assert!(pair.received.is_empty());
    pair.sent();
    let ids: Vec<_> = (0..REPLIES_QUEUED_MAX).map(|id| id.to_string()).collect();
    assert_eq!(kinds(&pair.all_lines()), ids.join(" "));
}

#[test]
fn drain_answers_what_was_read_then_closes() {
    let mut pair = Pair::mining(easy());
    pair.hashes = false;
    let share = pair.good(0);
    pair.say(&share.line(5));
    pair.input(Input::Command(Command::Drain));
    assert_eq!(pair.closed, None, "a share is being hashed");
    let (ticket, check) = pair.checks.remove(0);
    let verdict = Verdict { hash: pair.hash(&check) };
    pair.input(Input::Verdicts(&[(ticket, verdict)]));
    assert_eq!(pair.lines(), [r#"{"id":5,"result":true,"error":null}"#]);
    assert_eq!(pair.closed, Some(Close::Drained));
}

#[test]
fn after_the_close_the_machine_is_inert() {
    let mut pair = Pair::mining(easy());
    pair.input(Input::Command(Command::Drain));
    assert_eq!(pair.closed, Some(Close::Drained));
    assert_eq!(pair.machine.state(), State::Closed);
    pair.events.clear();
    let share = pair.good(0);
    pair.say(&share.line(5));
    pair.say(SUBSCRIBE);
    pair.adopt(job(2, 2, pair.now));
    pair.input(Input::Policy(crate::Policy::Difficulty(difficulty(2.0))));
    pair.input(Input::Verdicts(&[(Ticket(0), Verdict { hash: Hash256([0; 32]) })]));
    pair.input(Input::Command(Command::Drain));
    pair.pass(1_000 * SECOND);
    assert!(pair.received.is_empty());
    assert!(pair.events.is_empty());
    assert!(pair.checks.is_empty());
    assert_eq!(pair.wait, Tick::NEVER);
}
