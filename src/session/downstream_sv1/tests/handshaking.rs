//! Subscribe, configure, authorize and the small requests: any order, always answered, in order.

use super::*;

fn check(says: &str, hears: &str) {
    let mut pair = Pair::new();
    pair.say(SUBSCRIBE);
    pair.lines();
    assert_eq!(pair.ask(says), [hears], "after {says}");
    assert_eq!(pair.closed, None);
}

#[test]
fn small_requests_are_answered() {
    check(
        r#"{"id":9,"method":"mining.extranonce.subscribe","params":[]}"#,
        r#"{"id":9,"result":null,"error":[20,"Not supported.",null]}"#,
    );
    check(
        r#"{"id":"a","method":"mining.nonsense","params":[]}"#,
        r#"{"id":"a","result":null,"error":[-3,"Method not found",null]}"#,
    );
    check(
        r#"{"id":4,"method":"mining.get_transactions","params":["1"]}"#,
        r#"{"id":4,"result":null,"error":[-3,"Method not found",null]}"#,
    );
    check(
        r#"{"id":4,"method":"mining.ping","params":[]}"#,
        r#"{"id":4,"result":"pong","error":null}"#,
    );
    check(
        r#"{"method":"mining.suggest_difficulty","params":[512]}"#,
        r#"{"id":null,"result":true,"error":null}"#,
    );
    check(
        concat!(
            r#"{"id":5,"method":"mining.suggest_target","#,
            r#""params":["00000000ffff0000000000000000000000000000000000000000000000000"#,
            r#"000"]}"#
        ),
        r#"{"id":5,"result":true,"error":null}"#,
    );
    check(
        r#"{"id":6,"method":"client.get_version","params":[]}"#,
        r#"{"id":6,"result":"headframe/0.1.0","error":null}"#,
    );
}

#[test]
fn answers_of_the_miner_need_no_answer() {
    let mut pair = Pair::new();
    pair.say(SUBSCRIBE);
    pair.lines();
    for line in [
        r#"{"id":1,"result":"pong","error":null}"#,
        r#"{"id":-1,"method":"pong","params":[]}"#,
        r#"{"id":1,"result":null,"error":[-3,"unknown",null]}"#,
        r#"{"id":1,"result":"cgminer/4.12","error":null}"#,
    ] {
        assert_eq!(pair.ask(line), [""; 0], "{line}");
    }
    assert_eq!(pair.closed, None);
}

#[test]
fn a_suggestion_is_kept_as_a_hint() {
    let mut pair = Pair::new();
    pair.say(r#"{"id":1,"method":"mining.suggest_difficulty","params":["512"]}"#);
    assert_eq!(pair.machine.suggested_difficulty(), Difficulty::new(512.0));
    assert_eq!(pair.machine.difficulty(), difficulty(1e-7));
}

#[test]
fn configure_answers_only_what_was_asked() {
    let rolling = |mask: &str| format!(r#""version-rolling":true,"version-rolling.mask":"{mask}""#);
    for (asked, granted) in [
        (
            concat!(
                r#"["version-rolling"],{"version-rolling.mask":"1fffe000","#,
                r#""version-rolling.min-bit-count":16}"#
            ),
            rolling("1fffe000"),
        ),
        (r#"["version-rolling"]"#, rolling("1fffe000")),
        (r#"["version-rolling"],{"version-rolling.mask":"00ff0001"}"#, rolling("00ff0000")),
        (
            r#"["version-rolling"],{"version-rolling.mask":"00000001"}"#,
            r#""version-rolling":false"#.to_owned(),
        ),
        (
            concat!(
                r#"["minimum-difficulty","subscribe-extranonce","info"],"#,
                r#"{"minimum-difficulty.value":2048}"#
            ),
            r#""minimum-difficulty":false,"subscribe-extranonce":false,"info":false"#.to_owned(),
        ),
    ] {
        check(
            &format!(r#"{{"id":1,"method":"mining.configure","params":[{asked}]}}"#),
            &format!(r#"{{"id":1,"result":{{{granted}}},"error":null}}"#),
        );
    }
}

#[test]
fn any_order_leads_to_work_and_nothing_goes_before_an_answer() {
    let orders = [
        [CONFIGURE, SUBSCRIBE, AUTHORIZE],
        [SUBSCRIBE, CONFIGURE, AUTHORIZE],
        [SUBSCRIBE, AUTHORIZE, CONFIGURE],
        [AUTHORIZE, SUBSCRIBE, CONFIGURE],
        [AUTHORIZE, CONFIGURE, SUBSCRIBE],
        [CONFIGURE, AUTHORIZE, SUBSCRIBE],
    ];
    for order in orders {
        // Line by line, then all in one segment.
        let mut pair = Pair::new();
        pair.adopt(job(1, 1, pair.now));
        let mut heard = Vec::new();
        for line in order {
            let lines = pair.ask(line);
            assert!(lines[0].starts_with(&line[..7]), "{line} is answered first: {lines:?}");
            heard.extend(lines);
        }
        assert_eq!(heard.len(), 5);
        let mut pair = Pair::new();
        pair.adopt(job(1, 1, pair.now));
        let lines = pair.ask(&order.join("\n"));
        let ids = order.map(|line| line[6..7].to_owned()).join(" ");
        assert_eq!(kinds(&lines), format!("{ids} difficulty clean"));
        assert!(lines.contains(&SUBSCRIBED.to_owned()));
        assert_eq!(pair.machine.version_mask(), MASK);
        assert_eq!(pair.machine.user_agent(), Some("miner/1.0"));
    }
}

#[test]
fn what_follows_a_subscribe_waits_for_the_grant() {
    let mut pair = Pair::new();
    pair.adopt(job(1, 1, pair.now));
    pair.grants = false;
    assert_eq!(pair.ask(&[SUBSCRIBE, AUTHORIZE, CONFIGURE].join("\n")), [""; 0]);
    assert_eq!(pair.asked, 1);
    pair.say(SUBSCRIBE);
    assert_eq!(pair.asked, 1, "a second subscribe asks for no second prefix");
    pair.grant();
    pair.input(Input::Timer);
    assert_eq!(kinds(&pair.lines()), "2 3 1 2 difficulty clean");
    pair.grant();
    assert_eq!(pair.events.iter().filter(|event| **event == Event::Subscribed).count(), 1);
}

#[test]
fn subscribe_twice_is_the_same_answer_twice() {
    let mut pair = Pair::mining(easy());
    assert_eq!(pair.ask(SUBSCRIBE), [SUBSCRIBED]);
    assert_eq!(pair.asked, 1);
    let resumed = r#"{"id":2,"method":"mining.subscribe","params":["x","b08cf00d1"]}"#;
    assert_eq!(pair.ask(resumed), [SUBSCRIBED]);
    assert_eq!(pair.ask(r#"{"id":2,"method":"mining.subscribe","params":[]}"#), [SUBSCRIBED]);
}

#[test]
fn several_names_are_a_set() {
    let mut pair = Pair::new();
    for name in ["one", "one", "two", "one"] {
        let line = format!(r#"{{"id":3,"method":"mining.authorize","params":["{name}",null]}}"#);
        assert_eq!(pair.ask(&line), [r#"{"id":3,"result":true,"error":null}"#]);
    }
    assert_eq!(pair.machine.names(), ["one".into(), "two".into()]);
    assert_eq!(
        pair.events,
        [Event::Authorized { worker: 0 }, Event::Authorized { worker: 1 }],
        "a name is new once"
    );
}

#[test]
fn bad_names_are_refused() {
    let long = "n".repeat(crate::NAME_BYTES_MAX + 1);
    let fits = "n".repeat(crate::NAME_BYTES_MAX);
    for (name, right) in
        [("", false), ("  ", false), (&long, false), (r"a\u0007b", false), (&fits, true)]
    {
        let mut pair = Pair::new();
        let line = format!(r#"{{"id":3,"method":"mining.authorize","params":["{name}"]}}"#);
        let lines = pair.ask(&line);
        assert_eq!(lines.len(), 1);
        assert_eq!(lines[0].contains(r#""result":true"#), right, "{name:?}: {lines:?}");
        assert_eq!(lines[0].contains(r#""error":[24,"#), !right, "{name:?}: {lines:?}");
        assert_eq!(pair.closed, None);
    }
}

#[test]
fn the_ninth_name_is_refused() {
    let mut pair = Pair::new();
    for number in 0..=crate::NAMES_MAX {
        let line = format!(r#"{{"id":3,"method":"mining.authorize","params":["n{number}"]}}"#);
        let right = pair.ask(&line)[0].contains(r#""result":true"#);
        assert_eq!(right, number < crate::NAMES_MAX);
    }
    assert_eq!(pair.machine.names().len(), crate::NAMES_MAX);
}

#[test]
fn a_long_user_agent_is_cut_between_characters() {
    let mut pair = Pair::new();
    let agent = "é".repeat(100);
    pair.say(&format!(r#"{{"id":1,"method":"mining.subscribe","params":["x{agent}"]}}"#));
    let kept = pair.machine.user_agent().expect("kept");
    assert_eq!(kept.len(), 127);
    assert!(kept.starts_with("xé"));
}

#[test]
fn wrong_types_are_errors_not_disconnects() {
    for line in [
        r#"{"id":1,"method":"mining.authorize","params":[]}"#,
        r#"{"id":1,"method":"mining.authorize","params":[{}]}"#,
        r#"{"id":1,"method":"mining.suggest_difficulty","params":[-1]}"#,
        r#"{"id":1,"method":"mining.suggest_difficulty","params":["x"]}"#,
        r#"{"id":1,"method":"mining.suggest_target","params":["zz"]}"#,
        r#"{"id":1,"method":"mining.configure","params":[7]}"#,
        r#"{"id":1,"method":7}"#,
    ] {
        let mut pair = Pair::new();
        pair.say(SUBSCRIBE);
        pair.lines();
        let lines = pair.ask(line);
        assert_eq!(lines.len(), 1, "{line}");
        assert!(lines[0].starts_with(r#"{"id":1,"result":null,"error":[20,"#), "{lines:?}");
        assert_eq!(pair.closed, None, "{line}");
    }
}

#[test]
fn ids_of_every_kind_are_echoed() {
    for id in ["0", "-1", "null", r#""auth""#, r#""""#, "18446744073709551616", "1.5"] {
        let mut pair = Pair::new();
        let lines = pair.ask(&format!(r#"{{"id":{id},"method":"mining.ping"}}"#));
        assert_eq!(lines, [format!(r#"{{"id":{id},"result":"pong","error":null}}"#)]);
    }
    let mut pair = Pair::new();
    let lines = pair.ask(r#"{"method":"mining.ping","params":null}"#);
    assert_eq!(lines, [r#"{"id":null,"result":"pong","error":null}"#]);
}

#[test]
fn firmware_that_subscribes_in_odd_ways_is_understood() {
    for params in [
        "[]",
        "null",
        r#"["bosminer/0.2",null]"#,
        r#"["bosminer/0.2",null,"host:3333",null]"#,
        r#"["cgminer/4.12","0123456789abcdef"]"#,
        r#"["btminer/1.0","b08cf00d1"]"#,
    ] {
        let mut pair = Pair::new();
        let line = format!(r#"{{"id":2,"method":"mining.subscribe","params":{params}}}"#);
        assert_eq!(pair.ask(&line), [SUBSCRIBED], "{params}");
    }
}

#[test]
fn passwords_of_every_kind_are_let_through() {
    for password in ["", ",null", r#","""#, r#","x""#, r#","d=512""#, ",1"] {
        let mut pair = Pair::new();
        let line = format!(r#"{{"id":3,"method":"mining.authorize","params":["w"{password}]}}"#);
        assert_eq!(pair.ask(&line), [r#"{"id":3,"result":true,"error":null}"#], "{password}");
    }
}

#[test]
fn work_before_authorize_is_not_there_and_a_submit_is_24() {
    let mut pair = Pair::new();
    pair.adopt(job(1, 1, pair.now));
    pair.say(SUBSCRIBE);
    pair.lines();
    let share = Sub::on(RenderId { number: 1, second: CURTIME });
    let hears = r#"{"id":5,"result":null,"error":[24,"unauthorized worker",null]}"#;
    assert_eq!(pair.ask(&share.line(5)), [hears]);
    assert_eq!(pair.closed, None);
    assert_eq!(kinds(&pair.ask(AUTHORIZE)), "3 difficulty clean");
}
