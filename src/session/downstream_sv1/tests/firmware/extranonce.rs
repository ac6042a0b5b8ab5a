//! D1 to D6: what firmware can roll, and what it sends of it.

use super::*;

fn with_size(extranonce2_size: u8) -> Pair {
    Pair::with(Settings { extranonce2_size, ..easy() })
}

#[test]
fn d1_four_bytes_unless_told_otherwise_and_never_fewer_for_nicehash() {
    assert_eq!(Settings::default().extranonce2_size, 4);
    let nicehash = r#"{"id":1,"method":"mining.subscribe","params":["NiceHash/1.0.0"]}"#;
    for size in [2, 3, 4, 8, 16] {
        let mut pair = with_size(size);
        let lines = pair.ask(nicehash);
        let is_told = lines[0].ends_with(&format!(r#""a1b2c3d4",{size}],"error":null}}"#));
        assert_eq!(is_told, size >= 4, "{lines:?}");
        if size < 4 {
            let text = "an extranonce2 of 4 bytes is needed for NiceHash";
            assert_eq!(lines, [refused(1, 20, text)]);
            assert_eq!((pair.asked, pair.closed), (0, None), "it costs no prefix");
        }
        // Cgminer and its kin take 2 to 16.
        let mut pair = with_size(size);
        let lines = pair.ask(r#"{"id":1,"method":"mining.subscribe","params":["cgminer/4.12"]}"#);
        assert!(lines[0].ends_with(&format!(r#""a1b2c3d4",{size}],"error":null}}"#)));
    }
}

#[test]
fn d2_whatsminer_needs_three_bytes_and_its_repetition_counts_once() {
    use crate::Class;
    let sizes = Class::ALL.map(|class| (class, class.extranonce2_size_min()));
    for (class, size) in sizes {
        let wanted = match class {
            Class::NiceHash => 4,
            Class::Whatsminer => 3,
            _ => 2,
        };
        assert_eq!(size, wanted, "{class:?}");
    }
    // Two bytes of it are used up in no time, and it begins anew: counted once, told 22.
    let mut pair = Pair::mining(easy());
    let share = pair.good(0);
    assert_eq!(pair.ask(&share.line(5)), [accepted(5)]);
    assert_eq!(pair.ask(&share.line(5)), [refused(5, 22, "duplicate share")]);
    assert_eq!(pair.outcomes(), [ShareOutcome::Accepted, ShareOutcome::Duplicate]);
}

#[test]
fn d3_an_extranonce2_of_another_length_is_refused_and_counted() {
    // The last one is NerdMiner 1.7.0's: blanks where zeros should be.
    for extranonce2 in ["", "00", "000001", "0000000001", "0000000000000001", "       1"] {
        let mut pair = plain();
        let share = Sub { extranonce2: extranonce2.into(), ..pair.good(0) };
        assert_eq!(pair.ask(&share.line(5)), [refused(5, 20, "invalid extranonce2")]);
        assert_eq!(pair.outcomes(), [ShareOutcome::Malformed], "{extranonce2:?}");
        assert_eq!(pair.closed, None);
    }
}

#[test]
fn d4_extranonce_subscribe_is_not_supported() {
    for mut pair in [connected(), subscribed("x"), plain()] {
        let asked = r#"{"id":"xnsub","method":"mining.extranonce.subscribe","params":[]}"#;
        let hears = r#"{"id":"xnsub","result":null,"error":[20,"Not supported.",null]}"#;
        assert_eq!(pair.ask(asked), [hears]);
        assert_eq!(pair.closed, None);
    }
}

#[test]
fn d5_a_prefix_never_changes_whatever_happens() {
    let mut pair = Pair::mining(easy());
    let prefix = pair.machine.extranonce1();
    let mut heard = Vec::new();
    for step in 2..40_u32 {
        pair.adopt(job(step, 1 + step / 3, pair.now));
        want(&mut pair, f64::from(step) * 1e-7);
        pair.pass(u64::from(step) * 777_777);
        heard.extend(pair.lines());
    }
    assert!(heard.len() > 60, "{}", heard.len());
    assert!(heard.iter().all(|line| is_notify(line) || is_set_difficulty(line)), "{heard:#?}");
    assert_eq!(pair.machine.extranonce1(), prefix);
    assert_eq!(pair.ask(SUBSCRIBE), [SUBSCRIBED]);
}

#[test]
fn d6_only_a_good_share_is_remembered_against_repetition() {
    let mut pair = plain();
    let (good, poor) = (pair.good(0), pair.poor(0));
    // The same header, spoilt in ways that are noticed before the hash and after it.
    let spoilt = Sub { worker: "v".into(), ..good.clone() };
    assert_eq!(pair.ask(&spoilt.line(5)), [refused(5, 24, "unauthorized worker")]);
    for _ in 0..2 {
        assert_eq!(pair.ask(&poor.line(5)), [refused(5, 23, "low difficulty share")]);
    }
    assert_eq!(pair.ask(&good.line(5)), [accepted(5)]);
    // Cgminer sends a share again when its answer is late: it hears that it was counted.
    assert_eq!(pair.ask(&good.line(5)), [refused(5, 22, "duplicate share")]);
}
