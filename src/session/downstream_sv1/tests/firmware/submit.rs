//! F1 to F14: shares and jobs as firmware writes and keeps them, and its signs of life.

use super::*;
use crate::Command;
use wire::sv1::parse_server;

#[test]
fn f1_a_nonce_without_its_leading_zeros_is_padded() {
    // NerdMiner's `String(nonce, HEX)`: one share in sixteen has seven digits or fewer.
    for (from, digits) in [(0x0a9a_049c_u32, 7), (0x00bc_c3e1, 6), (0x0010_0000, 6)] {
        let mut pair = plain();
        let share = pair.good(from);
        let short = format!("{:x}", share.nonce_number);
        assert_eq!(short.len(), digits);
        assert_eq!(pair.ask(&Sub { nonce: short, ..share }.line(5)), [accepted(5)]);
    }
}

#[test]
fn f2_hex_of_either_case_and_nothing_else() {
    let mut pair = plain();
    let share = pair.good(0xabcd_0000);
    let upper = Sub {
        nonce: share.nonce.to_uppercase(),
        ntime: share.ntime.to_uppercase(),
        id: share.id.to_uppercase(),
        ..share.clone()
    };
    assert_eq!(pair.ask(&upper.line(5)), [accepted(5)]);
    for nonce in ["0xabcd00", "abcd00000", "+bcd0000", "abcd 000", "-1", "abcd000g", ""] {
        let odd = Sub { nonce: nonce.into(), ..share.clone() };
        assert_eq!(pair.ask(&odd.line(5)), [refused(5, 20, "invalid nonce")], "{nonce:?}");
    }
}

#[test]
fn f3_a_rolled_time_is_bound_to_the_template_and_never_to_a_clock() {
    for (ntime, right) in [
        (CURTIME - TIP_AGE_SECONDS - 1, false),
        (CURTIME - TIP_AGE_SECONDS, true),
        (CURTIME + 30, true),
        (CURTIME + 30 + 7_000, true),
        (CURTIME + 30 + 7_001, false),
    ] {
        let mut pair = plain();
        pair.pass(30 * SECOND);
        pair.lines();
        let share = Sub { ntime: format!("{ntime:08x}"), ..Sub::on(pair.id()) };
        let lines = pair.ask(&share.line(5));
        let refusal = refused(5, 20, "ntime out of range");
        assert_eq!(lines != [refusal], right, "{ntime}: {lines:?}");
    }
}

#[test]
fn f4_job_ids_are_numbers_that_never_come_again() {
    let mut pair = plain();
    let mut ids = vec![pair.id().to_string()];
    for number in 2..60_u32 {
        pair.adopt(job(number, 1 + number / 7, pair.now));
        pair.pass(31 * SECOND);
        let lines = pair.lines();
        ids.extend(lines.iter().map(|line| job_id(line).to_owned()));
        assert_eq!(pair.ask(SUBSCRIBE), [SUBSCRIBED], "nor after another subscribe");
    }
    let count = ids.len();
    assert!(count > 100);
    for id in &ids {
        // One hex number without leading zeros: some firmware writes it back as such.
        let number = u64::from_str_radix(id, 16).expect("hex");
        assert_eq!(format!("{number:x}"), *id);
    }
    ids.sort();
    ids.dedup();
    assert_eq!(ids.len(), count);
}

#[test]
fn f5_unknown_is_21_and_old_work_counts_until_its_tip_is_gone() {
    let mut pair = plain();
    let shares = [pair.good(0), pair.good(100_000), pair.good(200_000)];
    let unknown = Sub { id: "7ffffffff".into(), ..shares[0].clone() };
    assert_eq!(pair.ask(&unknown.line(5)), [refused(5, 21, "job not found")]);
    // A new job on the same tip makes nothing stale; a new tip does, and says so first.
    pair.adopt(job(2, 1, pair.now));
    assert_eq!(kinds(&pair.lines()), "notify");
    assert_eq!(pair.ask(&shares[0].line(5)), [accepted(5)]);
    assert_eq!(pair.ask(&shares[1].line(5)), [accepted(5)]);
    pair.sending = true;
    pair.adopt(job(3, 2, pair.now));
    pair.say(&shares[2].line(5));
    pair.sent();
    let lines = pair.lines();
    assert_eq!(kinds(&lines), "clean 5");
    assert_eq!(lines[1], refused(5, 21, "stale share"));
    assert_eq!(pair.outcomes()[0], ShareOutcome::UnknownJob, "kept apart from stale ones");
}

#[test]
fn f6_a_share_under_a_name_that_was_not_authorized_is_24() {
    let mut pair = plain();
    pair.say(&authorize(4, "farm.rig2"));
    pair.lines();
    for (from, name, right) in
        [(0, "w", true), (90_000, "farm.rig2", true), (0, "farm", false), (0, "W", false)]
    {
        let share = Sub { worker: name.into(), ..pair.good(from) };
        let hears = if right { accepted(5) } else { refused(5, 24, "unauthorized worker") };
        assert_eq!(pair.ask(&share.line(5)), [hears], "{name}");
    }
}

#[test]
fn f7_a_share_before_authorize_is_24_and_the_miner_may_go_on() {
    let mut pair = connected();
    pair.say(SUBSCRIBE);
    pair.lines();
    let share = Sub::on(RenderId { number: 1, second: CURTIME });
    assert_eq!(pair.ask(&share.line(5)), [refused(5, 24, "unauthorized worker")]);
    assert_eq!(kinds(&pair.ask(AUTHORIZE)), "3 difficulty clean");
    let share = pair.good(0);
    assert_eq!(pair.ask(&share.line(6)), [accepted(6)]);
}

#[test]
fn f8_no_miner_hears_nothing_for_longer_than_30_seconds() {
    // Cgminer gives up after 90 s without a line, ESP-Miner after 5 minutes without a job.
    let mut mining = plain();
    let mut parked = Pair::new();
    parked.say(SUBSCRIBE);
    parked.say(AUTHORIZE);
    parked.lines();
    for _ in 0..60 {
        mining.pass(30 * SECOND);
        assert_eq!(kinds(&mining.lines()), "notify", "the node is silent, its last job is not");
        parked.pass(30 * SECOND);
        assert_eq!(kinds(&parked.lines()), "difficulty", "there was never a job");
    }
    assert_eq!((mining.closed, parked.closed), (None, None));
}

#[test]
fn f9_a_pong_of_any_kind_or_none_is_fine() {
    let mut pair = plain();
    for pong in [
        r#"{"id": 7, "result": "pong", "error": null}"#,
        r#"{"id":-1,"method":"pong","params":[]}"#,
        r#"{"id":7,"method":"mining.pong","params":[]}"#,
        r#"{"id":7,"result":true,"error":null}"#,
        r#"{"id":7,"result":null,"error":[-3,"unknown",null]}"#,
    ] {
        assert_eq!(pair.ask(pong), [""; 0], "{pong}");
    }
    pair.pass(3_600 * SECOND);
    assert_eq!(pair.closed, None);
    let share = pair.good(0);
    assert!(pair.ask(&share.line(5)).contains(&accepted(5)));
}

#[test]
fn f10_methods_of_other_pools_are_answered() {
    for method in [
        "client.show_message",
        "mining.get_transactions",
        "mining.capabilities",
        "mining.set_goal",
        "mining.term",
        "mining.hashes_done",
        "mining.multi_version",
    ] {
        let mut pair = plain();
        let line = format!(r#"{{"id":9,"method":"{method}","params":["1"]}}"#);
        assert_eq!(pair.ask(&line), [refused(9, -3, "Method not found")]);
        assert_eq!(pair.closed, None);
    }
    let version = plain().ask(r#"{"id":9,"method":"client.get_version","params":[]}"#);
    assert!(version[0].starts_with(r#"{"id":9,"result":"headframe/"#), "{version:?}");
}

#[test]
fn f11_a_drain_sends_nobody_elsewhere() {
    // ESP-Miner ignores the address of a client.reconnect, cgminer takes only its own domain's. A
    // close is what all of them understand: they come back to the address that they have.
    let mut pair = plain();
    let share = pair.good(0);
    pair.sending = true;
    pair.say(&share.line(5));
    pair.input(Input::Command(Command::Drain));
    pair.sent();
    assert_eq!(pair.lines(), [accepted(5)]);
    assert_eq!(pair.closed, Some(Close::Drained));
}

#[test]
fn f13_true_is_literal_in_order_and_waits_for_nobody() {
    let mut pair = plain();
    let before = pair.now;
    let shares = [pair.good(0), pair.good(100_000)];
    let lines = pair.ask(&format!(
        "{}\n{{\"id\":6,\"method\":\"mining.ping\"}}\n{}\n",
        shares[0].line(5),
        shares[1].line(7)
    ));
    assert_eq!(kinds(&lines), "5 6 7");
    assert_eq!((&lines[0], &lines[2]), (&accepted(5), &accepted(7)));
    assert_eq!(pair.now, before, "in the same turn, whoever else is to hear of it");
}

/// An Avalon controller serves several machines, each of which may have its own connection.
#[test]
fn f14_machines_behind_one_controller_are_told_apart_by_connection() {
    let mut pairs = [plain(), plain()];
    let share = pairs[0].good(0);
    for pair in &mut pairs {
        // The same fields on two connections are two shares, each under its own prefix.
        assert_eq!(pair.ask(&share.line(5)), [accepted(5)]);
    }
    // And several on one connection by the names that they authorized.
    let [mut pair, _] = pairs;
    pair.say(&authorize(6, "avalon.2"));
    let share = Sub { worker: "avalon.2".into(), ..pair.good(500_000) };
    pair.say(&share.line(7));
    let Some(Event::Share(last)) = pair.events.last() else { panic!("{:?}", pair.events) };
    assert_eq!((last.worker, last.outcome), (Some(1), ShareOutcome::Accepted));
}

#[test]
fn f16_a_notify_has_nine_params_and_clean_is_the_last() {
    let mut pair = connected();
    let lines = pair.ask(&BITAXE.join("\n"));
    let notify = lines.last().expect("the job");
    assert!(parse_server(notify.as_bytes()).is_ok());
    let params = &notify[notify.find('[').expect("params") + 1..notify.len() - 2];
    // The branch is the one nested array; without it the commas part the rest.
    let (head, rest) = params.split_once('[').expect("the branch");
    let (branch, tail) = rest.split_once(']').expect("its end");
    assert_eq!(head.split(',').count() + tail.split(',').count() - 1, 9, "{params}");
    assert!(branch.split(',').count() <= 32);
    assert!(tail.ends_with(",true"));
}

#[test]
fn f18_nobody_is_banned_for_bad_shares() {
    let mut pair = plain();
    for nth in 0..500 {
        let (poor, sub) = (pair.poor(nth), Sub { nonce: "xyz".into(), ..pair.poor(nth) });
        assert_eq!(pair.ask(&poor.line(5)), [refused(5, 23, "low difficulty share")]);
        assert_eq!(pair.ask(&sub.line(6)), [refused(6, 20, "invalid nonce")]);
    }
    let good = pair.good(10_000);
    assert_eq!(pair.ask(&good.line(7)), [accepted(7)]);
    assert_eq!(pair.ask(&good.line(8)), [refused(8, 22, "duplicate share")]);
    assert_eq!(pair.closed, None);
}
