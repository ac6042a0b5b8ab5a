//! Shares: every outcome, the order of the checks, blocks, and the duplicate table.

use super::*;
use crate::LimitReached;

const TRUE: &str = r#"{"id":5,"result":true,"error":null}"#;

fn error(code: i32, text: &str) -> String {
    format!(r#"{{"id":5,"result":null,"error":[{code},"{text}",null]}}"#)
}

/// Spoils a good share, and says what is answered and noticed.
fn check(spoil: impl Fn(&mut Sub), answer: &str, outcome: ShareOutcome) {
    let mut pair = Pair::mining(easy());
    let mut share = pair.good(0);
    spoil(&mut share);
    assert_eq!(pair.ask(&share.line(5)), [answer], "{share:?}");
    assert_eq!(pair.outcomes(), [outcome], "{share:?}");
    assert_eq!(pair.closed, None);
}

#[test]
fn a_good_share_is_true_and_credited() {
    let mut pair = Pair::mining(easy());
    let share = pair.good(0);
    assert_eq!(pair.ask(&share.line(5)), [TRUE]);
    let [Event::Share(event)] = pair.events[..] else { panic!("{:?}", pair.events) };
    assert_eq!(event.worker, Some(0));
    assert_eq!(event.outcome, ShareOutcome::Accepted);
    assert_eq!(event.difficulty, 1e-7);
    assert!(event.hash_difficulty >= 1e-7);
}

#[test]
fn ten_thousand_shares_without_a_miss_at_a_trivial_difficulty() {
    let settings = Settings {
        start_difficulty: difficulty(1e-9),
        fingerprints_max: 20_000,
        ..Settings::default()
    };
    let mut pair = Pair::mining(settings);
    let mut from = 0;
    for _ in 0..10_000 {
        let share = pair.good(from);
        from = share.nonce_number + 1;
        assert_eq!(pair.ask(&share.line(5)), [TRUE]);
    }
    assert_eq!(pair.outcomes(), [ShareOutcome::Accepted; 10_000]);
}

#[test]
fn each_fault_has_its_code() {
    use ShareOutcome::*;
    check(|share| share.worker = "v".into(), &error(24, "unauthorized worker"), Unauthorized);
    check(|share| share.worker = " w ".into(), TRUE, Accepted);
    for id in ["26553f100", "16553f0ff", "", "1", "zz", "1.6553f100", "16553f1001"] {
        check(|share| share.id = id.into(), &error(21, "job not found"), UnknownJob);
    }
    for extranonce2 in ["", "000001", "0000000001", "0x000001", "0000000g", "000000001"] {
        let answer = error(20, "invalid extranonce2");
        check(|share| share.extranonce2 = extranonce2.into(), &answer, Malformed);
    }
    for ntime in ["", "6553f10", "06553f100", "0x6553f1", "+553f100", "6553f10g"] {
        check(|share| share.ntime = ntime.into(), &error(20, "invalid ntime"), Malformed);
    }
    for nonce in ["", "000000001", "0x1", "-1", "0000000g", " 1"] {
        check(|share| share.nonce = nonce.into(), &error(20, "invalid nonce"), Malformed);
    }
    for bits in ["", "0x2000", "200000000", "zz"] {
        let answer = error(20, "invalid version bits");
        check(|share| share.bits = Some(bits.into()), &answer, Malformed);
    }
    for bits in ["00000001", "20000000", "40000000", "80000000", "c0000000", "ffffffff"] {
        let answer = error(20, "invalid version mask");
        check(|share| share.bits = Some(bits.into()), &answer, VersionOutsideMask);
    }
    check(|share| share.bits = Some("00000000".into()), TRUE, Accepted);
}

#[test]
fn time_is_bound_to_the_template_and_its_age() {
    let answer = |pair: &mut Pair, ntime: u32| {
        let mut share = pair.search(pair.id(), 0, |_| true);
        share.ntime = format!("{ntime:08x}");
        let before = pair.outcomes().len();
        assert_eq!(before, 0);
        pair.say(&share.line(5));
        pair.outcomes()
    };
    let mut pair = Pair::mining(easy());
    pair.pass(20 * SECOND);
    let max = CURTIME + 20 + 7_000;
    for (ntime, right) in [
        (CURTIME - TIP_AGE_SECONDS - 1, false),
        (CURTIME - TIP_AGE_SECONDS, true),
        (CURTIME - 1, true),
        (max, true),
        (max + 1, false),
        (0, false),
        (u32::MAX, false),
    ] {
        let bad = answer(&mut pair, ntime) == [ShareOutcome::BadNtime];
        assert_eq!(bad, !right, "{ntime}");
    }
    // A fresh regtest chain: its tip is years old.
    let old = CURTIME - 10 * 365 * 86_400;
    pair.adopt(Job { min_ntime: old, ..job(2, 2, pair.now) });
    assert_ne!(answer(&mut pair, old), [ShareOutcome::BadNtime]);
    assert_ne!(answer(&mut pair, CURTIME), [ShareOutcome::BadNtime]);
}

#[test]
fn nonces_are_left_padded_and_hex_is_of_either_case() {
    let mut pair = Pair::mining(easy());
    let target = Target::from_difficulty(pair.machine.difficulty());
    let mut share = pair.search(pair.id(), 0xa_0000, |hash| target.is_met_by(hash));
    share.nonce = format!("{:X}", share.nonce_number);
    share.ntime = share.ntime.to_uppercase();
    share.id = share.id.to_uppercase();
    assert!(share.nonce.len() < 8);
    assert_eq!(pair.ask(&share.line(5)), [TRUE]);
}

#[test]
fn rolled_versions_count_and_the_sixth_field_means_nothing_without_negotiation() {
    let mut pair = Pair::mining(easy());
    let target = Target::from_difficulty(pair.machine.difficulty());
    let bits = (1..5_000).map(|roll: u32| roll << 13 & MASK).find(|bits| {
        let extranonce = Extranonce::joined(&PREFIX, &[0, 0, 0, 1]).expect("fits");
        let (ntime, nonce) = (CURTIME, 0);
        let share = Share { extranonce, version: 0x2000_0000 | bits, ntime, nonce };
        let index = pair.shared.newest().expect("a job").index;
        target.is_met_by(&pair.hash(&ShareToCheck { job: index, share }))
    });
    let mut share = Sub::on(pair.id());
    share.bits = Some(format!("{:08x}", bits.expect("one in 430")));
    assert_eq!(pair.ask(&share.line(5)), [TRUE]);

    let mut plain = Pair::with(easy());
    plain.adopt(job(1, 1, plain.now));
    plain.say(SUBSCRIBE);
    plain.say(AUTHORIZE);
    plain.lines();
    assert!(plain.ask(&share.line(5))[0].contains("[23,"), "hashed with no bits");
    let mut share = plain.good(0);
    share.bits = Some("ffffffff".into());
    assert_eq!(plain.ask(&share.line(5)), [TRUE]);
}

#[test]
fn a_configure_in_the_middle_holds_for_the_present_work_too() {
    let mut pair = Pair::with(easy());
    pair.adopt(job(1, 1, pair.now));
    pair.say(SUBSCRIBE);
    pair.say(AUTHORIZE);
    pair.say(CONFIGURE);
    pair.lines();
    let mut share = pair.good(0);
    share.bits = Some("00002000".into());
    assert!(!pair.ask(&share.line(5))[0].contains("[20,"));
    share.bits = Some("00000001".into());
    assert!(pair.ask(&share.line(5))[0].contains("[20,"));
    // A narrower mask later: strict from the next job on.
    pair.say(&CONFIGURE.replace("ffffffff", "0000e000"));
    share.bits = Some("1fff0000".into());
    assert!(!pair.ask(&share.line(5))[1..].concat().contains("[20,"));
    pair.adopt(job(2, 1, pair.now));
    pair.lines();
    let mut share = pair.good(0);
    share.bits = Some("1fff0000".into());
    assert!(pair.ask(&share.line(5))[0].contains("[20,"));
}

#[test]
fn the_first_check_that_fails_answers() {
    let mut pair = Pair::mining(easy());
    let mut share = pair.poor(0);
    share.worker = "nobody".into();
    share.id = "900000009".into();
    share.extranonce2 = "00".into();
    share.bits = Some("00000001".into());
    share.ntime = "00000000".into();
    let mut heard = Vec::new();
    let good = pair.poor(0);
    heard.push(pair.ask(&share.line(5)));
    share.worker = good.worker.clone();
    heard.push(pair.ask(&share.line(5)));
    share.id = good.id.clone();
    heard.push(pair.ask(&share.line(5)));
    share.extranonce2 = good.extranonce2.clone();
    heard.push(pair.ask(&share.line(5)));
    share.bits = None;
    heard.push(pair.ask(&share.line(5)));
    share.ntime = good.ntime.clone();
    heard.push(pair.ask(&share.line(5)));
    assert!(heard.iter().all(|lines| lines.len() == 1));
    use ShareOutcome::*;
    let order = [Unauthorized, UnknownJob, Malformed, VersionOutsideMask, BadNtime, LowDifficulty];
    assert_eq!(pair.outcomes(), order);
}

#[test]
fn a_duplicate_is_22_and_a_poor_share_does_not_poison_the_table() {
    let mut pair = Pair::mining(easy());
    let (good, poor) = (pair.good(0), pair.poor(0));
    for _ in 0..2 {
        assert_eq!(pair.ask(&poor.line(5)), [error(23, "low difficulty share")]);
    }
    assert_eq!(pair.ask(&good.line(5)), [TRUE]);
    for _ in 0..2 {
        assert_eq!(pair.ask(&good.line(5)), [error(22, "duplicate share")]);
    }
    // The same header under a later rendering of its job.
    pair.pass(30 * SECOND);
    pair.lines();
    let again = Sub { id: pair.id().to_string(), ..good };
    assert_eq!(pair.ask(&again.line(5)), [error(22, "duplicate share")]);
}

#[test]
fn two_alike_in_one_batch_count_once_whatever_comes_back_first() {
    for order in [[0, 1], [1, 0]] {
        let mut pair = Pair::mining(easy());
        pair.hashes = false;
        let share = pair.good(0);
        pair.say(&format!("{}\n{}", share.line(5), share.line(6)));
        let checks = core::mem::take(&mut pair.checks);
        assert_eq!(checks.len(), 2);
        for place in order {
            let (ticket, check) = checks[place];
            let verdict = Verdict { hash: pair.hash(&check) };
            pair.input(Input::Verdicts(&[(ticket, verdict)]));
        }
        let lines = pair.lines();
        assert_eq!(kinds(&lines), "5 6");
        assert!(lines[0].contains("true"));
        assert!(lines[1].contains("[22,"));
    }
}

#[test]
fn old_work_on_the_same_tip_is_full_credit_and_on_a_superseded_tip_stale() {
    let mut pair = Pair::mining(easy());
    let shares = [pair.good(0), pair.good(100_000), pair.good(200_000), pair.good(300_000)];
    pair.adopt(job(2, 1, pair.now));
    pair.lines();
    assert_eq!(pair.ask(&shares[0].line(5)), [TRUE]);
    pair.adopt(job(3, 2, pair.now));
    pair.lines();
    assert_eq!(pair.ask(&shares[1].line(5)), [error(21, "stale share")]);
    assert_eq!(pair.ask(&shares[0].line(5)), [error(22, "duplicate share")]);
    for tip in 3..=7 {
        pair.adopt(job(tip + 1, tip, pair.now));
    }
    pair.lines();
    assert_eq!(pair.ask(&shares[2].line(5)), [error(21, "stale share")], "six tips behind");
    pair.adopt(job(9, 8, pair.now));
    pair.lines();
    assert_eq!(pair.ask(&shares[3].line(5)), [error(21, "job not found")], "seven");
    use ShareOutcome::*;
    assert_eq!(pair.outcomes(), [Accepted, Stale, Duplicate, Stale, UnknownJob]);
}

fn block_job(number: u32, tip: u32, now: Tick) -> Job {
    let network_target = Target::from_difficulty(difficulty(1e-7));
    Job { network_target, ..job(number, tip, now) }
}

fn block_pair(start: f64) -> Pair {
    let settings = Settings { start_difficulty: difficulty(start), ..Settings::default() };
    let mut pair = Pair::with(settings);
    pair.adopt(block_job(1, 1, pair.now));
    pair.shake_hands();
    pair
}

#[test]
fn a_block_is_told_whatever_the_miner_hears() {
    let target = Target::from_difficulty(difficulty(1e-7));
    // Easier than the share target: a block and 23.
    let mut pair = block_pair(1e9);
    let share = pair.search(pair.id(), 0, |hash| target.is_met_by(hash));
    assert!(pair.ask(&share.line(5))[0].contains("[23,"));
    assert_eq!(pair.blocks(), 1);
    assert!(pair.ask(&share.line(5))[0].contains("[22,"));
    assert_eq!(pair.blocks(), 1, "once per header");
    let Some(Event::Block(found)) = pair.events.iter().find(|e| matches!(e, Event::Block(_)))
    else {
        panic!("a block")
    };
    assert_eq!((found.number, found.worker), (1, 0));
    assert!(target.is_met_by(&found.hash));
    let check = ShareToCheck { job: found.job, share: found.share };
    assert_eq!(pair.hash(&check), found.hash);

    // Harder than the share target: a block and true, and the next share is just a share.
    let mut pair = block_pair(1e-9);
    let share = pair.search(pair.id(), 0, |hash| target.is_met_by(hash));
    assert_eq!(pair.ask(&share.line(5)), [TRUE]);
    assert_eq!(pair.blocks(), 1);
    let easy = Target::from_difficulty(difficulty(1e-9));
    let share = pair.search(pair.id(), 0, |hash| !target.is_met_by(hash) && easy.is_met_by(hash));
    assert_eq!(pair.ask(&share.line(5)), [TRUE]);
    assert_eq!(pair.blocks(), 1);
}

#[test]
fn late_blocks_are_told_once_per_header_and_few_per_second() {
    let mut pair = block_pair(1e-7);
    let mut shares = vec![pair.good(0)];
    for _ in 0..20 {
        shares.push(pair.good(shares[shares.len() - 1].nonce_number + 1));
    }
    for tip in 2..=4 {
        pair.adopt(block_job(tip, tip, pair.now));
        pair.lines();
        assert_eq!(kinds(&pair.ask(&shares[0].line(5))), "5");
        assert_eq!(pair.blocks(), 1, "the same header, tip {tip}");
    }
    use ShareOutcome::*;
    assert_eq!(pair.outcomes(), [Stale, Duplicate, Duplicate]);
    for share in &shares[1..] {
        pair.say(&share.line(5));
    }
    assert_eq!(pair.blocks(), 7, "eight in a second with the first");
    pair.pass(SECOND);
    for share in &shares[1..] {
        pair.say(&share.line(5));
    }
    assert_eq!(pair.blocks(), 15);
}

#[test]
fn a_block_in_flight_survives_the_close_of_its_connection() {
    let mut pair = block_pair(1e-7);
    pair.hashes = false;
    let share = pair.good(0);
    pair.say(&share.line(5));
    pair.bytes(&[b'x'; 9_000]);
    assert_eq!(pair.closed, None, "the verdict is awaited");
    let (ticket, check) = pair.checks.remove(0);
    let verdict = Verdict { hash: pair.hash(&check) };
    pair.input(Input::Verdicts(&[(ticket, verdict)]));
    assert_eq!(pair.blocks(), 1);
    assert_eq!(pair.closed, Some(Close::Limit(LimitReached::LineBytes)));
}

#[test]
fn a_full_table_raises_the_difficulty_and_cuts_off_who_ignores_it() {
    let settings = Settings {
        start_difficulty: difficulty(1e-9),
        fingerprints_max: 256,
        ..Settings::default()
    };
    let mut pair = Pair::mining(settings.clone());
    let id = pair.id();
    let old = Target::from_difficulty(difficulty(1e-9));
    let mut from = 0;
    let mut accepted = 0;
    while pair.closed.is_none() {
        let share = pair.search(id, from, |hash| old.is_met_by(hash));
        from = share.nonce_number + 1;
        pair.pass(100_000);
        pair.say(&share.line(5));
        accepted += 1;
        assert!(accepted <= 400, "it goes on");
    }
    assert_eq!(accepted, 256 + 64);
    assert_eq!(pair.closed, Some(Close::Limit(LimitReached::Fingerprints)));
    let lines = pair.lines();
    let steps: Vec<_> = lines.iter().filter(|line| is_set_difficulty(line)).collect();
    assert_eq!(steps.len(), 1);
    assert!(steps[0].ends_with("[0.000000004]}"), "{steps:?}");
    assert_eq!(lines.iter().filter(|line| line.contains("true,\"error\"")).count(), 320);

    // A tip in between gives the room back, and nothing is raised.
    let mut pair = Pair::mining(settings);
    for tip in 1..10 {
        let mut from = 0;
        for _ in 0..200 {
            let share = pair.good(from);
            from = share.nonce_number + 1;
            pair.say(&share.line(5));
        }
        pair.adopt(job(tip + 1, tip + 1, pair.now));
    }
    assert_eq!(pair.machine.difficulty(), difficulty(1e-9));
    assert_eq!(pair.outcomes(), [ShareOutcome::Accepted; 1_800]);
}

#[test]
fn a_submit_with_wrong_types_is_a_malformed_share() {
    for params in [r#""w""#, r#""w",1,2,3,4"#, r#"null,"1","1","1","1""#, r#"[],{},7,8,9"#] {
        let mut pair = Pair::mining(easy());
        let line = format!(r#"{{"id":5,"method":"mining.submit","params":[{params}]}}"#);
        assert!(pair.ask(&line)[0].starts_with(r#"{"id":5,"result":null,"error":[20,"#));
        assert_eq!(pair.outcomes(), [ShareOutcome::Malformed], "{params}");
        assert_eq!(pair.closed, None);
    }
}

#[test]
fn a_thousand_submits_in_one_burst_are_all_answered() {
    let mut pair = Pair::mining(easy());
    let burst: String = (0..1_000).map(|id| pair.good(id << 16).line(id) + "\n").collect();
    pair.bytes(burst.as_bytes());
    assert_eq!(pair.closed, None);
    let lines = pair.all_lines();
    assert_eq!(lines.len(), 1_000);
    assert!(lines.iter().all(|line| line.contains("\"result\":true")), "{lines:?}");
}
