//! B1 to B19: in which order firmware introduces itself, and what it must hear first.

use super::*;

#[test]
fn b1_authorize_before_subscribe_and_work_after_both() {
    let mut pair = connected();
    assert_eq!(kinds(&pair.ask(AUTHORIZE)), "3", "no job yet");
    assert_eq!(kinds(&pair.ask(SUBSCRIBE)), "2 difficulty clean");
    // S9j: subscribe, authorize, configure; it closes where one of them goes unanswered.
    let mut pair = connected();
    let lines = pair.ask(&[SUBSCRIBE, AUTHORIZE, CONFIGURE].join("\n"));
    assert_eq!(kinds(&lines), "2 3 1 difficulty clean");
}

#[test]
fn b2_configure_in_any_state() {
    // NerdQAxe: subscribe, configure, authorize, suggest, extranonce.subscribe, ids 1 to 5.
    let said = [
        r#"{"id": 1, "method": "mining.subscribe", "params": ["NerdQAxe++/BM1370/v1.0.36"]}"#,
        concat!(
            r#"{"id": 2, "method": "mining.configure", "params": [["version-rolling"], "#,
            r#"{"version-rolling.mask": "ffffffff"}]}"#
        ),
        r#"{"id": 3, "method": "mining.authorize", "params": ["w", "x"]}"#,
        r#"{"id": 4, "method": "mining.suggest_difficulty", "params": [1000]}"#,
        r#"{"id": 5, "method": "mining.extranonce.subscribe", "params": []}"#,
    ];
    let mut pair = connected();
    assert_eq!(kinds(&pair.ask(&said.join("\n"))), "1 2 3 4 5 difficulty clean");
    assert_eq!(pair.machine.version_mask(), MASK);
    // And again while it mines.
    let mask = configure(r#"[["version-rolling"],{"version-rolling.mask":"00ffe000"}]"#);
    assert_eq!(kinds(&pair.ask(&mask)), "1");
    assert_eq!(pair.machine.version_mask(), 0x00ff_e000);
}

#[test]
fn b3_configure_first_is_answered_before_anything_else() {
    let mut pair = connected();
    let granted = concat!(
        r#"{"id":1,"result":{"version-rolling":true,"version-rolling.mask":"1fffe000"},"#,
        r#""error":null}"#
    );
    assert_eq!(pair.ask(BITAXE[0]), [granted]);
    assert_eq!(kinds(&pair.ask(BITAXE[1])), "2");
    assert_eq!(kinds(&pair.ask(BITAXE[2])), "3 difficulty clean");
}

#[test]
fn b4_the_next_line_after_a_request_is_its_answer() {
    let mut pair = Pair::mining(easy());
    // A tip, a step and a keep-alive are due while each of these is asked.
    for (step, request) in (1_u32..).zip([CONFIGURE, SUBSCRIBE, AUTHORIZE, BITAXE[0]]) {
        pair.sending = true;
        pair.say(request);
        want(&mut pair, f64::from(step) * 1e-6);
        pair.adopt(job(1 + step, 1 + step, pair.now));
        pair.pass(31 * SECOND);
        pair.sent();
        let id = &request[6..7];
        assert_eq!(kinds(&pair.lines()), format!("{id} difficulty clean"), "{request}");
    }
}

#[test]
fn b5_a_suggestion_before_the_subscribe_is_kept_as_a_hint() {
    let target = "00000000ffff0000000000000000000000000000000000000000000000000000";
    for (line, hint) in [
        (r#"{"id":1,"method":"mining.suggest_difficulty","params":[2048]}"#.to_owned(), 2_048.0),
        (format!(r#"{{"id":1,"method":"mining.suggest_target","params":["{target}"]}}"#), 1.0),
    ] {
        let mut pair = connected();
        assert_eq!(pair.ask(&line), [accepted(1)]);
        assert_eq!(kinds(&pair.ask(SUBSCRIBE)), "2");
        assert_eq!(kinds(&pair.ask(AUTHORIZE)), "3 difficulty clean");
        assert_eq!(pair.machine.suggested_difficulty(), Difficulty::new(hint));
    }
}

#[test]
fn b6_suggestions_in_every_spelling() {
    for (call, hint) in [
        (r#""mining.suggest_difficulty(512)","params":[]"#, 512.0),
        (r#""mining.suggest_difficulty","params":512"#, 512.0),
        (r#""mining.suggest_difficulty","params":["512"]"#, 512.0),
        (r#""mining.suggest_difficulty","params":[512.5]"#, 512.5),
        (r#""mining.suggest_difficulty","params":[0.0001]"#, 0.0001),
    ] {
        let mut pair = plain();
        assert_eq!(pair.ask(&format!(r#"{{"id":8,"method":{call}}}"#)), [accepted(8)]);
        assert_eq!(pair.machine.suggested_difficulty(), Difficulty::new(hint), "{call}");
    }
}

#[test]
fn b7_every_request_is_answered() {
    for (call, hears) in [
        (r#""mining.suggest_difficulty","params":[64]"#, accepted(8)),
        (r#""mining.suggest_difficulty","params":[]"#, refused(8, 20, "Missing difficulty")),
        (r#""mining.suggest_difficulty","params":[0]"#, refused(8, 20, "Invalid difficulty")),
        (r#""mining.multi_version","params":[1]"#, refused(8, -3, "Method not found")),
        (r#""mining.suggest_target","params":["0"]"#, refused(8, 20, "Invalid target")),
        (r#""mining.extranonce.subscribe","params":[]"#, refused(8, 20, "Not supported.")),
    ] {
        let mut pair = plain();
        assert_eq!(pair.ask(&format!(r#"{{"id":8,"method":{call}}}"#)), [hears]);
        assert_eq!(pair.closed, None);
    }
}

#[test]
fn b8_configure_answers_with_no_key_that_was_not_asked() {
    let mut pair = Pair::new();
    let asked = concat!(
        r#"{"id": 196, "method": "mining.configure", "params": [["version-rolling"], "#,
        r#"{"version-rolling.mask": "1fffe000"}]}"#
    );
    let granted = concat!(
        r#"{"id":196,"result":{"version-rolling":true,"version-rolling.mask":"1fffe000"},"#,
        r#""error":null}"#
    );
    assert_eq!(pair.ask(asked), [granted]);
    assert_eq!(
        pair.ask(&configure("[[],{}]")),
        [r#"{"id":1,"result":{},"error":null}"#],
        "nothing asked, nothing told"
    );
}

#[test]
fn b9_configure_is_read_leniently() {
    let all = r#""version-rolling":true,"version-rolling.mask":"1fffe000""#;
    let more = format!(r#"{all},"minimum-difficulty":false,"subscribe-extranonce":false"#);
    for (asked, granted) in [
        (r#"[["version-rolling"]]"#, all),
        (r#"[["version-rolling"],{}]"#, all),
        (r#"[["version-rolling"],[]]"#, all),
        (r#"[["version-rolling"],{"version-rolling.mask":"ffffffff"}]"#, all),
        (r#"[["version-rolling"],{"version-rolling.mask":"1FFFE000"}]"#, all),
        (r#"[["version-rolling"],{"version-rolling.min-bit-count":2}]"#, all),
        (r#"[["version-rolling"],{"version-rolling.min-bit-count":"16"}]"#, all),
        (r#"[["version-rolling"],{"version-rolling.min-bit-count":"many"}]"#, all),
        (r#"[["version-rolling"],{"version-rolling.min-bit-count":null}]"#, all),
        (
            concat!(
                r#"[["version-rolling","minimum-difficulty","subscribe-extranonce"],"#,
                r#"{"minimum-difficulty.value":2048,"version-rolling.mask":"1fffe000"}]"#
            ),
            &more,
        ),
        (
            concat!(
                r#"[["version-rolling","minimum-difficulty","subscribe-extranonce"],"#,
                r#"{"minimum-difficulty.value":"lots","version-rolling.mask":"1fffe000"}]"#
            ),
            &more,
        ),
        (r#"[["info","version-rolling"]]"#, &format!(r#"{all},"info":false"#)),
    ] {
        for id in ["0", "9966"] {
            let mut pair = Pair::new();
            let line = format!(r#"{{"id":{id},"method":"mining.configure","params":{asked}}}"#);
            let hears = format!(r#"{{"id":{id},"result":{{{granted}}},"error":null}}"#);
            assert_eq!(pair.ask(&line), [hears], "{asked}");
        }
    }
}

#[test]
fn b10_version_rolling_is_granted_before_the_subscribe_is_complete() {
    let mut pair = connected();
    pair.grants = false;
    assert_eq!(kinds(&pair.ask(&[CONFIGURE, SUBSCRIBE].join("\n"))), "1");
    assert_eq!(pair.machine.version_mask(), MASK);
    pair.grant();
    pair.input(Input::Timer);
    assert_eq!(pair.lines(), [SUBSCRIBED]);
}

#[test]
fn b11_a_bad_session_to_resume_is_a_new_session_of_even_length() {
    // As seen in the field: odd digits, an md5 of another pool, one of cgminer 3.7.2.
    for session in [
        r#""b08cf00d1""#,
        r#""0000508d1""#,
        r#""ae6812eb4cd7735a302a8a9dd95cf71f""#,
        r#""deadbeefcafebabe0400000000000000""#,
        r#""not hex""#,
        r#""""#,
        r#""ffffffffffffffff""#,
        "5",
        r#"["b08cf00d"]"#,
    ] {
        let mut pair = connected();
        let line = format!(r#"{{"id":2,"method":"mining.subscribe","params":["x",{session}]}}"#);
        pair.say(&line);
        assert_eq!(pair.lines(), [SUBSCRIBED], "{session}");
        let id = SUBSCRIBED.split('"').nth(7).expect("the session id");
        assert_eq!((id.len(), session.contains(id)), (16, false));
        // Cgminer tries again with nothing, on this or another connection.
        assert_eq!(pair.ask(r#"{"id":2,"method":"mining.subscribe","params":[]}"#), [SUBSCRIBED]);
    }
}

#[test]
fn b12_a_subscribe_without_params_is_one() {
    for params in ["[]", "null", "[null]", "{}"] {
        let mut pair = connected();
        let line = format!(r#"{{"id":2,"method":"mining.subscribe","params":{params}}}"#);
        let lines = pair.ask(&line);
        assert_eq!(lines == [SUBSCRIBED], params != "{}", "{params}: {lines:?}");
        assert_eq!(pair.closed, None);
    }
}

#[test]
fn b13_twice_is_once_and_several_names_are_a_set() {
    let mut pair = plain();
    let before = (pair.machine.extranonce1(), pair.machine.session_id());
    assert_eq!(pair.ask(SUBSCRIBE), [SUBSCRIBED]);
    assert_eq!(pair.ask(AUTHORIZE), [accepted(3)]);
    assert_eq!((pair.machine.extranonce1(), pair.machine.session_id()), before);
    assert_eq!((pair.asked, pair.machine.names().len()), (1, 1));
    for (id, name) in [(4, "rig.2"), (5, "rig.3")] {
        assert_eq!(pair.ask(&authorize(id, name)), [accepted(id)]);
    }
    let good = pair.good(0);
    for (worker, from) in [("w", 0), ("rig.3", 100_000), ("rig.2", 200_000)] {
        let share = Sub { worker: worker.into(), ..pair.good(from) };
        assert_eq!(pair.ask(&share.line(6)), [accepted(6)], "{worker}");
    }
    let stranger = Sub { worker: "rig.4".into(), ..good };
    assert_eq!(pair.ask(&stranger.line(6)), [refused(6, 24, "unauthorized worker")]);
    let credited: Vec<_> = pair
        .events
        .iter()
        .filter_map(|event| match event {
            Event::Share(share) => Some(share.worker),
            _ => None,
        })
        .collect();
    assert_eq!(credited, [Some(0), Some(2), Some(1), None]);
}

#[test]
fn b14_a_password_may_be_missing_or_anything() {
    for password in ["", ",null", r#","""#, r#","x""#, r#","d=512""#, r#","fd=1,diff=2""#, ",1"] {
        let mut pair = subscribed("x");
        let line = format!(r#"{{"id":3,"method":"mining.authorize","params":["w"{password}]}}"#);
        assert_eq!(pair.ask(&line)[0], accepted(3), "{password}");
    }
}

/// What firmware calls itself, and the class that it gets for it.
const AGENTS: [(&str, crate::Class); 29] = {
    use crate::Class::*;
    [
        ("bmminer/2.0.0", Antminer),
        ("Antminer S19k Pro/Fri Dec 2 10:09:06 CST 2022", Antminer),
        ("Antminer BHB42601/Mon Apr 3 2023", Antminer),
        ("Antminer S21 Pro/Tue Jun 4 2024", Antminer),
        ("Antminer S21/Tue Jun 4 2024", AntminerS21),
        ("btminer/1.0", Whatsminer),
        ("whatsminer/v1.0", Whatsminer),
        ("cgminer/4.11.1", Cgminer),
        ("cgminer/3.7.2", Cgminer),
        ("bosminer-plus-tuner 0.2.0-b1", Braiins),
        ("bosminer/0.2.0", Braiins),
        ("Braiins OS", Braiins),
        ("LUXminer 2024.5.1", LuxOs),
        ("Antminer S19k Pro|LUXminer 2026.3.30|BHB56902|BHB56902", LuxOs),
        ("MiningRigRentals/Test/1.0", MiningRigRentals),
        ("vnish/1.2.6", Vnish),
        ("xminer-1.2.6", Vnish),
        ("PowerPlay-BM/1.0", Epic),
        ("bitaxe/BM1370/v2.12.2", Bitaxe),
        ("NerdQAxe++/BM1370/v1.0.36", NerdAxe),
        ("NerdAxe/BM1366/v1.0.36", NerdAxe),
        ("NerdNOS/1.0", NerdNos),
        ("NerdMinerV2/V1.8.3", Lottery),
        ("NMMiner/v2.0.04", Lottery),
        ("NiceHash/1.0.0", NiceHash),
        ("excavator", NiceHash),
        ("bfgminer/5.5.0", Bfgminer),
        ("cpuminer/2.5.1", Cpuminer),
        ("", Unknown),
    ]
};

#[test]
fn b15_a_name_chooses_a_class_and_is_never_trusted() {
    for (agent, class) in AGENTS {
        let pair = subscribed(agent);
        assert_eq!(crate::Class::of(pair.machine.user_agent()), class, "{agent}");
    }
    for (sent, kept) in [
        ("x".repeat(1_000), "x".repeat(crate::USER_AGENT_BYTES_MAX)),
        (r"cg\nminer: accepted".into(), "cg".into()),
        (r"cg\u001b[2Jminer".into(), "cg".into()),
    ] {
        let pair = subscribed(&sent);
        assert_eq!(pair.machine.user_agent(), Some(&*kept));
    }
    assert_eq!(subscribed(r"\u0000").machine.user_agent(), None);
}

#[test]
fn b16_the_difficulty_comes_at_once_and_before_the_first_job() {
    for order in [[SUBSCRIBE, AUTHORIZE], [AUTHORIZE, SUBSCRIBE]] {
        let mut pair = connected();
        pair.say(r#"{"id":1,"method":"mining.suggest_difficulty","params":[1000]}"#);
        pair.say(order[0]);
        pair.lines();
        let lines = pair.ask(order[1]);
        assert_eq!(kinds(&lines)[2..], *"difficulty clean", "{lines:?}");
        assert_eq!(pair.machine.difficulty(), difficulty(1e-7), "ours, not the suggested one");
    }
    // Without a job it comes all the same: NiceHash refuses a pool that says none.
    let mut pair = Pair::new();
    assert_eq!(kinds(&pair.ask(&BITAXE.join("\n"))), "1 2 3 difficulty");
}

#[test]
fn b16_a_probe_hears_the_difficulty_before_it_authorizes() {
    let subscribe =
        r#"{"id":2,"method":"mining.subscribe","params":["MiningRigRentals/Test/1.0"]}"#;
    // With a job and without one.
    for mut pair in [connected(), Pair::new()] {
        assert_eq!(kinds(&pair.ask(subscribe)), "2 difficulty");
        assert_eq!(kinds(&pair.ask(subscribe)), "2", "once");
        pair.pass(9 * SECOND);
        assert!(pair.lines().is_empty(), "it has what it waited for");
        // A step in between waits until the difficulty before it has had its job: B7.
        want(&mut pair, 2e-7);
        pair.say(AUTHORIZE);
        pair.adopt(job(2, 2, pair.now));
        pair.pass(2 * SECOND);
        assert_eq!(kinds(&pair.lines()), "3 clean difficulty clean");
    }
    // To everybody else a difficulty would come between two requests: B4.
    assert_eq!(kinds(&connected().ask(&subscribe.replace("/Test", ""))), "2 difficulty");
    assert_eq!(kinds(&connected().ask(&subscribe.replace("MiningRig", "Rig"))), "2");
    // Who does not wait is not told twice.
    let mut pair = connected();
    let lines = pair.ask(&[subscribe, AUTHORIZE].join("\n"));
    assert_eq!(kinds(&lines), "2 3 difficulty clean");
}

#[test]
fn b17_the_first_job_comes_after_authorize() {
    let mut pair = connected();
    pair.say(CONFIGURE);
    pair.say(SUBSCRIBE);
    pair.adopt(job(2, 2, pair.now));
    pair.pass(10 * SECOND);
    assert_eq!(kinds(&pair.lines()), "1 2", "firmware would ignore a job now");
    assert_eq!(kinds(&pair.ask(AUTHORIZE)), "3 difficulty clean");
}

#[test]
fn b19_a_share_without_a_handshake_is_25_and_a_close() {
    // NMMiner opens its connection again after a cut and goes on where it was.
    let mut pair = connected();
    let share = Sub::on(RenderId { number: 1, second: CURTIME });
    assert_eq!(pair.ask(&share.line(41)), [refused(41, 25, "not subscribed")]);
    assert_eq!(pair.closed, Some(Close::NotSubscribed));
}

#[test]
fn b14_a_password_may_ask_for_a_difficulty() {
    for (password, wanted) in [
        ("d=1024", 1_024.0),
        ("x,d=65536", 65_536.0),
        ("D=2048;x", 2_048.0),
        ("diff=4096", 4_096.0),
        ("fd=512", 512.0),
        ("d=1000", 1_024.0),
        ("d=0.001", 1.0),
        ("d=0", 16_384.0),
        ("d=-5", 16_384.0),
        ("d=nan", 16_384.0),
        ("d=inf", 16_384.0),
        ("d=1e999", 16_384.0),
        ("d=4194304", 4_194_304.0),
        ("d=4294967296", 4_194_304.0),
        ("d=5000000000", 4_194_304.0),
        ("d=1e300", 4_194_304.0),
        ("d=bad,d=8", 8.0),
        ("d=0;x=4;diff=32", 32.0),
        ("d=8,d=bad", 8.0),
        ("d=bad,x=8", 16_384.0),
        ("d=", 16_384.0),
        ("id=7", 16_384.0),
        ("x", 16_384.0),
    ] {
        let (minimum_difficulty, maximum_difficulty) = (difficulty(1.0), difficulty(4_194_304.0));
        let mut pair = Pair::with(Settings { minimum_difficulty, maximum_difficulty, ..real() });
        pair.adopt(job(1, 1, pair.now));
        pair.say(SUBSCRIBE);
        // Somebody typed the password; the firmware suggests the same to every pool.
        pair.say(r#"{"id":4,"method":"mining.suggest_difficulty","params":[16384]}"#);
        pair.lines();
        let authorize =
            format!(r#"{{"id":3,"method":"mining.authorize","params":["w","{password}"]}}"#);
        assert_eq!(kinds(&pair.ask(&authorize)), "3 difficulty clean", "{password}");
        assert_eq!(pair.machine.difficulty().get(), wanted, "{password}");
    }
}

#[test]
fn b18_a_socket_without_a_miner_is_closed_in_time() {
    let mut silent = Pair::new();
    silent.pass(0);
    assert_eq!(silent.wait, Tick(55 * SECOND), "from its opening, not from what it says");
    silent.pass(5 * SECOND);
    assert_eq!(silent.closed, Some(Close::Silent));
    // One byte a second buys no time.
    for handshake in [SUBSCRIBE, AUTHORIZE] {
        let mut pair = Pair::new();
        pair.say(handshake);
        for _ in 0..14 {
            pair.pass(SECOND);
            pair.bytes(b" ");
        }
        assert_eq!(pair.closed, None);
        pair.pass(SECOND);
        assert_eq!(pair.closed, Some(Close::HandshakeTimeout), "{handshake}");
    }
}
