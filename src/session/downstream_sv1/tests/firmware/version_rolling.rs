//! E1 to E8: which bits of the version firmware rolls, and how it tells of them.

use super::*;

/// A share with these bits that meets the difficulty of a trivial pair.
fn rolled(pair: &Pair, bits: &str, from: u32) -> Sub {
    Sub { bits: Some(bits.into()), ..pair.search(pair.id(), from, |_| true) }
}

/// Mining with rolled versions, at a difficulty that every hash meets.
fn trivial() -> Pair {
    Pair::mining(Settings { start_difficulty: difficulty(1e-12), ..Settings::default() })
}

#[test]
fn e1_three_readings_of_the_sixth_field_agree() {
    let pair = trivial();
    let version = pair.shared.job(pair.shared.newest().expect("a job").index).version;
    assert_eq!(version & MASK, 0, "no bit of the job stands where miners roll");
    for bits in [0x0000_2000_u32, 0x1fff_e000, 0x12ef_0000, 0x0080_0000] {
        let (or, xor) = (version | bits, version ^ bits);
        let replaced = (version & !MASK) | (bits & MASK);
        assert_eq!((or, xor), (replaced, replaced));
        let mut pair = trivial();
        pair.hashes = false;
        pair.say(&rolled(&pair, &format!("{bits:08x}"), 0).line(5));
        assert_eq!(pair.checks[0].1.share.version, replaced, "what is hashed");
    }
}

#[test]
fn e2_the_mask_is_what_both_sides_can_roll() {
    for (ours, asked, granted) in [
        (0x1fff_e000_u32, "ffffffff", Some("1fffe000")),
        (0x1fff_e000, "00c00000", Some("00c00000")),
        (0x00ff_e000, "1fffe000", Some("00ffe000")),
        (0x0000_e000, "ffff0000", None),
        (0, "ffffffff", None),
    ] {
        let mut pair = Pair::with(Settings { version_mask: ours, ..easy() });
        let asked =
            configure(&format!(r#"[["version-rolling"],{{"version-rolling.mask":"{asked}"}}]"#));
        let result = match granted {
            Some(mask) => format!(r#""version-rolling":true,"version-rolling.mask":"{mask}""#),
            None => r#""version-rolling":false"#.into(),
        };
        let hears = format!(r#"{{"id":1,"result":{{{result}}},"error":null}}"#);
        assert_eq!(pair.ask(&asked), [hears]);
    }
}

#[test]
fn e3_the_mask_is_said_in_the_answer_to_configure_and_nowhere_else() {
    // An S21 of 2025 drops the connection over a set_version_mask before its authorize.
    for order in [[CONFIGURE, SUBSCRIBE, AUTHORIZE], [SUBSCRIBE, AUTHORIZE, CONFIGURE]] {
        let mut pair = connected();
        let mut lines = pair.ask(&order.join("\n"));
        for number in 2..5 {
            pair.adopt(job(number, number, pair.now));
            pair.pass(30 * SECOND);
        }
        lines.extend(pair.lines());
        assert!(lines.len() > 5);
        assert!(lines.iter().all(|line| !line.contains("set_version_mask")), "{lines:#?}");
        let said = lines.iter().filter(|line| line.contains("1fffe000"));
        assert_eq!(said.count(), 1);
    }
}

#[test]
fn e4_five_fields_six_or_a_zero_are_all_shares() {
    let mut pair = trivial();
    let share = pair.good(0);
    assert_eq!(pair.ask(&share.line(5)), [accepted(5)], "negotiated, and nothing rolled");
    let zero = Sub { bits: Some("00000000".into()), ..pair.good(1_000) };
    assert_eq!(pair.ask(&zero.line(5)), [accepted(5)]);
    // Never negotiated: the sixth field means nothing, whatever it says.
    let mut pair = plain();
    for (bits, from) in [("00000000", 0), ("00002000", 100_000), ("c0000000", 200_000)] {
        let share = Sub { bits: Some(bits.into()), ..pair.good(from) };
        assert_eq!(pair.ask(&share.line(5)), [accepted(5)], "{bits}");
    }
}

#[test]
fn e5_bits_outside_the_mask_are_refused() {
    for bits in ["40000000", "80000000", "c0000000", "20000000", "00000001", "ffffffff"] {
        let mut pair = trivial();
        let share = rolled(&pair, bits, 0);
        assert_eq!(pair.ask(&share.line(5)), [refused(5, 20, "invalid version mask")], "{bits}");
        assert_eq!(pair.outcomes(), [ShareOutcome::VersionOutsideMask]);
    }
}

#[test]
fn e6_the_mask_that_is_told_is_the_mask_that_holds() {
    let mut pair = connected();
    let lines = pair.ask(CONFIGURE);
    assert!(lines[0].contains(r#""version-rolling.mask":"1fffe000""#), "{lines:?}");
    assert_eq!(pair.machine.version_mask(), MASK);
    // A mask of nothing is said as no rolling: never true with 00000000.
    let nothing = configure(r#"[["version-rolling"],{"version-rolling.mask":"00000000"}]"#);
    let hears = r#"{"id":1,"result":{"version-rolling":false},"error":null}"#;
    assert_eq!(pair.ask(&nothing), [hears]);
    assert_eq!(pair.machine.version_mask(), 0);
}

#[test]
fn e7_a_wider_wish_gets_no_more_than_ours() {
    let wide = configure(r#"[["version-rolling"],{"version-rolling.mask":"1fffffe0"}]"#);
    for (ours, granted) in [(0x1fff_e000_u32, "1fffe000"), (0x1fff_ffe0, "1fffffe0")] {
        let mut pair = Pair::with(Settings { version_mask: ours, ..easy() });
        let hears = format!(r#""version-rolling.mask":"{granted}""#);
        assert!(pair.ask(&wide)[0].contains(&hears), "{granted}");
    }
}

#[test]
fn e8_a_miner_that_stops_rolling_is_noticed_once() {
    let mut pair = trivial();
    let mut nonce = 0_u32;
    let mut send = |bits: Option<&str>, count: u32| {
        for _ in 0..count {
            nonce += 1;
            let share = Sub { bits: bits.map(Into::into), ..Sub::on(pair.id()) };
            let share = Sub { nonce: format!("{nonce:08x}"), ..share };
            assert_eq!(pair.ask(&share.line(5)).len(), 1);
        }
        let lost = pair.events.iter().filter(|event| **event == Event::RollingLost).count();
        pair.events.clear();
        lost
    };
    assert_eq!(send(None, 200), 0, "it never rolled");
    assert_eq!(send(Some("00002000"), 99), 0);
    assert_eq!(send(Some("00000000"), 40), 0, "nor long enough");
    assert_eq!(send(Some("00004000"), 1), 0);
    assert_eq!(send(None, 31), 0, "chance");
    assert_eq!(send(Some("00008000"), 1), 0);
    assert_eq!(send(Some("00000000"), 31), 0, "chance again");
    assert_eq!(send(None, 1), 1);
    assert_eq!(send(None, 500), 0, "once");
    assert_eq!(send(Some("00006000"), 100), 0);
    assert_eq!(send(None, 500), 1, "after a restart that did not last");
    assert_eq!(pair.closed, None, "nobody is closed for it");
}
