//! What firmware really sends, what it must not be able to do, and the scanner against the
//! general way.

use core::cell::Cell;
use proptest::prelude::*;
use proptest::test_runner::TestRunner;

use super::*;

fn check(line: &str, id: &str, request: Request<'_>) {
    let message = parse(line.as_bytes()).unwrap_or_else(|error| panic!("{line}: {error}"));
    assert_eq!(message.id.as_bytes(), id.as_bytes(), "{line}");
    assert_eq!(message.request, request, "{line}");
    // The general way says the same of every line that the scanner took.
    assert_eq!(parse_json(line), Ok(message), "{line}");
}

fn text(text: &str) -> Option<Cow<'_, str>> {
    Some(Cow::Borrowed(text))
}

fn subscribe<'a>(user_agent: &'a str, session_id: Option<&'a str>) -> Request<'a> {
    let session_id = session_id.map(Cow::Borrowed);
    Request::Subscribe(Subscribe { user_agent: text(user_agent), session_id })
}

fn rolling(mask: u32, min_bit_count: Option<u32>) -> Configure<'static> {
    let version_rolling = Some(VersionRolling { mask, min_bit_count });
    Configure { version_rolling, ..Configure::default() }
}

fn share(version_bits: Option<&str>) -> Request<'_> {
    Request::Submit(Submit {
        worker: "farm.rig1".into(),
        job_id: "1f.3".into(),
        extranonce2: "0000002a".into(),
        ntime: "5f5e1000".into(),
        nonce: "1a2b3c4d".into(),
        version_bits: version_bits.map(Cow::Borrowed),
    })
}

#[test]
fn submit_lines_of_firmware() {
    let bits = share(Some("00c00000"));
    let fields = r#""farm.rig1","1f.3","0000002a","5f5e1000","1a2b3c4d""#;
    let spaced = r#""farm.rig1", "1f.3", "0000002a", "5f5e1000", "1a2b3c4d""#;
    // cgminer and its many children: params first, blanks, numeric id.
    let cgminer =
        format!(r#"{{"params": [{spaced}, "00c00000"], "id": 812, "method": "mining.submit"}}"#);
    check(&cgminer, "812", bits.clone());
    // ESP-Miner: id first, blanks after the colons.
    let esp =
        format!(r#"{{"id": 5, "method": "mining.submit", "params": [{spaced}, "00c00000"]}}"#);
    check(&esp, "5", bits.clone());
    // NerdMiner: no rolling, five parameters.
    let five = format!(r#"{{"id":7,"method":"mining.submit","params":[{fields}]}}"#);
    check(&five, "7", share(None));
    // A null or a seventh parameter, an id that is a string or missing, a version of JSON-RPC.
    let null = format!(r#"{{"id":"s1","method":"mining.submit","params":[{fields},null]}}"#);
    check(&null, r#""s1""#, share(None));
    let seven = format!(r#"{{"method":"mining.submit","params":[{fields},"00c00000","x",[1]]}}"#);
    check(&seven, "null", bits.clone());
    let rpc = format!(
        r#"{{"jsonrpc":"2.0","id":-1,"method":"mining.submit","params":[{fields},"00c00000"]}}"#
    );
    check(&rpc, "-1", bits.clone());
    // Escapes where none are needed, a key given twice: the last wins.
    let escaped = format!(
        r#"{{"\u0069d":1,"method":"x","params":[],"method":"mining\u002esubmit",
            "id":9007199254740993000,"params":[{fields},"00c00000"]}}"#
    );
    check(&escaped, "9007199254740993000", bits);
}

#[test]
fn worker_names_keep_what_was_sent() {
    for (json, name) in [
        (r"a\u0062c", "abc"),
        (r#"q\"uote"#, "q\"uote"),
        ("wörker", "wörker"),
        (" farm ", " farm "),
        ("", ""),
        (r"\ud83d\ude00", "😀"),
    ] {
        let line = format!(r#"{{"id":1,"method":"mining.authorize","params":["{json}","x"]}}"#);
        check(&line, "1", Request::Authorize { user: name.into(), password: text("x") });
        let line =
            format!(r#"{{"id":1,"method":"mining.submit","params":["{json}","","","",""]}}"#);
        let Ok(Message { request: Request::Submit(submit), .. }) = parse(line.as_bytes()) else {
            panic!("{line}");
        };
        assert_eq!(submit.worker, name);
    }
}

#[test]
fn subscribe_lines_of_firmware() {
    let line = |params: &str| format!(r#"{{"id": 1, "method": "mining.subscribe"{params}}}"#);
    let none = || Request::Subscribe(Subscribe::default());
    check(&line(r#", "params": ["cgminer/4.11.1"]"#), "1", subscribe("cgminer/4.11.1", None));
    check(
        &line(r#", "params": ["bosminer-plus-tuner 0.2.0", null, "pool.example:3333", null]"#),
        "1",
        subscribe("bosminer-plus-tuner 0.2.0", None),
    );
    // Whatsminer echoes a session id of odd length; it is nobody's business here.
    check(
        &line(r#", "params": ["btminer/1.0", "b08cf00d1"]"#),
        "1",
        subscribe("btminer/1.0", Some("b08cf00d1")),
    );
    for session in ["5", "true", r#"["b"]"#, "{}", r#""\ud800""#] {
        let params = format!(r#", "params": ["x", {session}]"#);
        check(&line(&params), "1", subscribe("x", None));
    }
    check(&line(r#", "params": []"#), "1", none());
    check(&line(r#", "params": null"#), "1", none());
    check(&line(""), "1", none());
    check(&line(r#", "params": "NMMiner""#), "1", subscribe("NMMiner", None));
}

#[test]
fn configure_lines_of_firmware() {
    let line =
        |params: &str| format!(r#"{{"id":0,"method":"mining.configure","params":{params}}}"#);
    let configure = Request::Configure;
    // ESP-Miner; S19's bmminer; one without a mask; upper case, 0x and text for a number.
    check(
        &line(r#"[["version-rolling"], {"version-rolling.mask": "ffffffff"}]"#),
        "0",
        configure(rolling(0xffff_ffff, None)),
    );
    check(
        &line(
            r#"[["version-rolling"],
            {"version-rolling.min-bit-count":2,"version-rolling.mask":"00c00000"}]"#,
        ),
        "0",
        configure(rolling(0x00c0_0000, Some(2))),
    );
    check(&line(r#"[["version-rolling"]]"#), "0", configure(rolling(u32::MAX, None)));
    check(
        &line(
            r#"[["version-rolling"],
            {"version-rolling.mask":"0x1FFFE000","version-rolling.min-bit-count":"16"}]"#,
        ),
        "0",
        configure(rolling(0x1fff_e000, Some(16))),
    );
    // Whatsminer asks for more, and others for what nobody knows.
    let everything = Configure {
        minimum_difficulty: Some(MinimumDifficulty { value: Some(2048.0) }),
        subscribe_extranonce: true,
        unknown: alloc::vec!["info".into()],
        ..rolling(0x1fff_e000, Some(16))
    };
    check(
        &line(
            r#"[["minimum-difficulty","info","version-rolling","subscribe-extranonce","info"],
            {"minimum-difficulty.value":2048,"version-rolling.mask":"1fffe000",
             "version-rolling.min-bit-count":16,"info.hw-version":"x"}]"#,
        ),
        "0",
        configure(everything),
    );
    for nothing in ["[]", "null", "[[]]", "[[],{}]", "[null,null]", "[[],[]]"] {
        check(&line(nothing), "0", configure(Configure::default()));
    }
    check(&line(r#"["version-rolling"]"#), "0", configure(rolling(u32::MAX, None)));
}

#[test]
fn hints_of_configure_that_nobody_can_read_are_none() {
    for (bits, difficulty) in [
        ("-1", "-1"),
        ("2.0", "0"),
        (r#""2x""#, r#""much""#),
        (r#""""#, r#""""#),
        ("true", "true"),
        ("null", "null"),
        ("[]", "{}"),
        ("1e99", "1e999"),
    ] {
        let line = format!(
            r#"{{"id":0,"method":"mining.configure","params":[["version-rolling",
            "minimum-difficulty"],{{"version-rolling.min-bit-count":{bits},
            "minimum-difficulty.value":{difficulty}}}]}}"#
        );
        let minimum_difficulty = Some(MinimumDifficulty { value: None });
        let configure = Configure { minimum_difficulty, ..rolling(u32::MAX, None) };
        check(&line, "0", Request::Configure(configure));
    }
}

#[test]
fn unknown_extensions_are_bounded() {
    let names: alloc::vec::Vec<_> = (0..100).map(|number| format!(r#""x{number}""#)).collect();
    let long = "y".repeat(EXTENSION_NAME_BYTES_MAX + 1);
    let line = format!(
        r#"{{"id":1,"method":"mining.configure","params":[["{long}",{}]]}}"#,
        names.join(",")
    );
    let Ok(Message { request: Request::Configure(configure), .. }) = parse(line.as_bytes()) else {
        panic!("{line}");
    };
    assert_eq!(configure.unknown.len(), EXTENSIONS_UNKNOWN_MAX);
    assert_eq!(configure.unknown[0], "x0");
}

#[test]
fn passwords_of_any_scalar_type() {
    for (params, password) in [
        (r#"["farm.rig1","d=1024"]"#, text("d=1024")),
        (r#"["farm.rig1",123]"#, text("123")),
        (r#"["farm.rig1",1.50]"#, text("1.50")),
        (r#"["farm.rig1",true]"#, text("true")),
        (r#"["farm.rig1",null]"#, None),
        (r#"["farm.rig1"]"#, None),
        (r#""farm.rig1""#, None),
    ] {
        let line = format!(r#"{{"id":"auth","method":"mining.authorize","params":{params}}}"#);
        let user = "farm.rig1".into();
        check(&line, r#""auth""#, Request::Authorize { user, password });
    }
}

#[test]
fn suggestions_in_every_form() {
    for (line, difficulty) in [
        (r#"{"id":4,"method":"mining.suggest_difficulty","params":[512]}"#, 512.0),
        (r#"{"id":4,"method":"mining.suggest_difficulty","params":["1024.5"]}"#, 1024.5),
        (r#"{"id":4,"method":"mining.suggest_difficulty","params":0.00015}"#, 0.00015),
        (r#"{"id":4,"method":"mining.suggest_difficulty","params":"256"}"#, 256.0),
        (r#"{"id":4,"method":"mining.suggest_difficulty(512)","params":[]}"#, 512.0),
        (r#"{"id":4,"method":"mining.suggest_difficulty( 64 )"}"#, 64.0),
    ] {
        check(line, "4", Request::SuggestDifficulty(difficulty));
    }
    let mut target = [0; 32];
    target[4] = 0xff;
    target[5] = 0xff;
    for text in [
        "00000000ffff0000000000000000000000000000000000000000000000000000",
        "0x00000000FFFF0000000000000000000000000000000000000000000000000000",
        "ffff0000000000000000000000000000000000000000000000000000",
    ] {
        let line = format!(r#"{{"id":4,"method":"mining.suggest_target","params":["{text}"]}}"#);
        check(&line, "4", Request::SuggestTarget(target));
    }
}

#[test]
fn the_rest_of_what_miners_say() {
    let unknown = |method: &'static str| Request::Unknown { method: method.into() };
    for (method, request) in [
        ("mining.extranonce.subscribe", Request::ExtranonceSubscribe),
        ("mining.ping", Request::Ping),
        ("client.get_version", Request::GetVersion),
        ("pong", Request::Response(Reply::Text("pong".into()))),
        ("mining.multi_version", unknown("mining.multi_version")),
        ("mining.get_transactions", unknown("mining.get_transactions")),
        ("mining.capabilities", unknown("mining.capabilities")),
        ("mining.suggest_difficulty_", unknown("mining.suggest_difficulty_")),
        ("", unknown("")),
    ] {
        let line = format!(r#"{{"id":12,"method":"{method}","params":[1,{{"a":[]}}]}}"#);
        check(&line, "12", request);
    }
    for (answer, reply) in [
        (r#""result":"cgminer/4.11.1","error":null"#, Reply::Text("cgminer/4.11.1".into())),
        (r#""result":"pong""#, Reply::Text("pong".into())),
        (r#""result":true,"error":null"#, Reply::Other("true")),
        (r#""result":{"a":1},"method":null"#, Reply::Other(r#"{"a":1}"#)),
        (r#""result":null,"error":[-3,"no method",null]"#, Reply::Failed),
        (r#""error":"unknown method""#, Reply::Failed),
        (r#""result":null,"error":null"#, Reply::Failed),
    ] {
        check(&format!(r#"{{{answer},"id":3}}"#), "3", Request::Response(reply));
    }
}

#[test]
fn ids_are_echoed_byte_for_byte() {
    let long = format!(r#""{}""#, "i".repeat(ID_BYTES_MAX - 2));
    let ids = [
        "0",
        "-7",
        "1e3",
        "1.50",
        "18446744073709551616",
        "null",
        r#""""#,
        r#""a\u0041\"""#,
        &long,
    ];
    for id in ids {
        check(&format!(r#"{{"id": {id} ,"method":"mining.ping"}}"#), id, Request::Ping);
        let owned = parse(format!(r#"{{"id":{id},"method":"mining.ping"}}"#).as_bytes())
            .map(|message| message.id.to_owned());
        assert_eq!(owned.as_ref().map(|id| id.as_id().as_bytes()), Ok(id.as_bytes()));
    }
    check(r#"{"method":"mining.ping"}"#, "null", Request::Ping);
    let longer = format!(r#""{}""#, "i".repeat(ID_BYTES_MAX - 1));
    let digits = "9".repeat(ID_BYTES_MAX + 1);
    for (id, reason) in [
        ("true", Reason::WrongType("id")),
        ("[1]", Reason::WrongType("id")),
        ("{}", Reason::WrongType("id")),
        (&longer, Reason::BadValue("id")),
        (&digits, Reason::BadValue("id")),
    ] {
        check(
            &format!(r#"{{"id":{id},"method":"mining.ping"}}"#),
            "null",
            Request::Invalid(reason),
        );
    }
}

/// Method, parameters, and what is wrong with them.
const WRONG_FIELDS: &[(&str, &str, Reason)] = &[
    ("mining.subscribe", r#"[1]"#, Reason::WrongType("user agent")),
    ("mining.subscribe", r#"["\ud800"]"#, Reason::BadValue("user agent")),
    ("mining.authorize", "null", Reason::Missing("worker name")),
    ("mining.authorize", "[]", Reason::Missing("worker name")),
    ("mining.authorize", "[5]", Reason::WrongType("worker name")),
    ("mining.authorize", "{}", Reason::WrongType("worker name")),
    ("mining.authorize", r#"["a",[]]"#, Reason::WrongType("password")),
    ("mining.submit", "[]", Reason::Missing("worker name")),
    ("mining.submit", r#"["a"]"#, Reason::Missing("job id")),
    ("mining.submit", r#"["a",7,"0","0","0"]"#, Reason::WrongType("job id")),
    ("mining.submit", r#"["a","b",null,"0","0"]"#, Reason::Missing("extranonce2")),
    ("mining.submit", r#"["a","b","c",1600000000,"0"]"#, Reason::WrongType("ntime")),
    ("mining.submit", r#"["a","b","c","d",{}]"#, Reason::WrongType("nonce")),
    ("mining.submit", r#"["a","b","c","d","e",0]"#, Reason::WrongType("version bits")),
    ("mining.submit", r#"["a","b","c","d","\udc00"]"#, Reason::BadValue("nonce")),
    ("mining.configure", "[7]", Reason::WrongType("extensions")),
    ("mining.configure", "[[7]]", Reason::WrongType("extensions")),
    ("mining.configure", "[[],7]", Reason::WrongType("extension options")),
    (
        "mining.configure",
        r#"[["version-rolling"],{"version-rolling.mask":536862720}]"#,
        Reason::WrongType("version-rolling.mask"),
    ),
    (
        "mining.configure",
        r#"[["version-rolling"],{"version-rolling.mask":"1fffe0000"}]"#,
        Reason::BadValue("version-rolling.mask"),
    ),
    ("mining.suggest_difficulty", "[]", Reason::Missing("difficulty")),
    ("mining.suggest_difficulty", "[0]", Reason::BadValue("difficulty")),
    ("mining.suggest_difficulty", "[-1]", Reason::BadValue("difficulty")),
    ("mining.suggest_difficulty", "[1e999]", Reason::BadValue("difficulty")),
    ("mining.suggest_difficulty", r#"["nan"]"#, Reason::BadValue("difficulty")),
    ("mining.suggest_difficulty", r#"["inf"]"#, Reason::BadValue("difficulty")),
    ("mining.suggest_difficulty", "[[1]]", Reason::WrongType("difficulty")),
    ("mining.suggest_difficulty(x)", "[]", Reason::BadValue("difficulty")),
    ("mining.suggest_target", "[]", Reason::Missing("target")),
    ("mining.suggest_target", "[1]", Reason::WrongType("target")),
    ("mining.suggest_target", r#"["0"]"#, Reason::BadValue("target")),
    ("mining.suggest_target", r#"["gg"]"#, Reason::BadValue("target")),
    ("mining.suggest_target", r#"["é"]"#, Reason::BadValue("target")),
];

#[test]
fn a_wrong_field_is_answered_and_named() {
    for (method, params, reason) in WRONG_FIELDS {
        let line = format!(r#"{{"id":3,"method":"{method}","params":{params}}}"#);
        let request = match *method {
            "mining.submit" => Request::InvalidSubmit(*reason),
            _ => Request::Invalid(*reason),
        };
        check(&line, "3", request);
    }
    let (wrong, missing) = (Reason::WrongType("method"), Reason::Missing("method"));
    check(r#"{"id":3,"method":5}"#, "3", Request::Invalid(wrong));
    check(r#"{"id":3,"params":[]}"#, "3", Request::Invalid(missing));
    check("{}", "null", Request::Invalid(missing));
    // A share whose id cannot be echoed is still counted as one.
    let share = r#"{"id":[3],"method":"mining.submit","params":[]}"#;
    check(share, "null", Request::InvalidSubmit(Reason::WrongType("id")));
}

#[test]
fn what_is_no_object_is_an_error() {
    for line in [
        "",
        "x",
        "5",
        "null",
        "[]",
        r#"[{"id":1,"method":"mining.ping"}]"#,
        r#"{"id":1"#,
        r#"{"id":1}{"id":2}"#,
        r#"{"id":01,"method":"mining.ping"}"#,
        // A miner that does not escape a quote in its worker's name.
        r#"{"id":3,"method":"mining.authorize","params":["a"b","x"]}"#,
        "{\"id\":1,\"method\":\"mining.ping\",\"params\":[\"\u{1}\"]}",
    ] {
        let outcome = parse(line.as_bytes());
        assert!(matches!(outcome, Err(ParseError::NotAnObject { .. })), "{line}: {outcome:?}");
    }
    // A good submit with something behind it, or a control character in its last bytes.
    let good = r#"{"method":"mining.submit","params":["a","b","c","d","e"],"id":"i"}"#;
    assert!(parse(good.as_bytes()).is_ok());
    for bad in [
        format!("{good}x"),
        format!("{good} {good}"),
        format!("{good},"),
        good.replace("\"i\"", "\"\u{3}\""),
        good.replace("\"i\"", "\"i"),
    ] {
        let outcome = parse(bad.as_bytes());
        assert!(matches!(outcome, Err(ParseError::NotAnObject { .. })), "{bad}: {outcome:?}");
    }
    assert_eq!(parse(b"{\"id\":\"\xff\"}"), Err(ParseError::NotText));
    assert_eq!(parse(&[b' '; LINE_BYTES_MAX + 1]), Err(ParseError::TooLong));
}

#[test]
fn deep_and_long_lines_neither_recurse_nor_explode() {
    let half = LINE_BYTES_MAX / 2 - 64;
    let deep = format!("{}{}", "[".repeat(half), "]".repeat(half));
    for (method, reason) in [
        ("mining.authorize", Reason::WrongType("worker name")),
        ("mining.configure", Reason::WrongType("extensions")),
    ] {
        let line = format!(r#"{{"id":1,"method":"{method}","params":{deep}}}"#);
        check(&line, "1", Request::Invalid(reason));
        let line = format!(r#"{{"x":{deep},"id":1,"method":"mining.ping"}}"#);
        check(&line, "1", Request::Ping);
    }
    let open = format!(r#"{{"id":1,"method":"mining.ping","params":{}"#, "[".repeat(half));
    assert!(matches!(parse(open.as_bytes()), Err(ParseError::NotAnObject { .. })));
    let long = format!(r#"["a"{}]"#, r#","b""#.repeat(LINE_BYTES_MAX / 4 - 32));
    let line = format!(r#"{{"id":1,"method":"mining.authorize","params":{long}}}"#);
    check(&line, "1", Request::Authorize { user: "a".into(), password: text("b") });
}

/// Pieces of lines that are nearly a submit: what the scanner takes, and each way to miss it.
fn any_text() -> impl Strategy<Value = String> {
    prop_oneof![
        60 => "[a-zA-Z0-9._/ -]{0,20}",
        1 => "[ -~]{0,12}",
        1 => prop::sample::select(alloc::vec![
            r"\n", r"\u0061", r#"\""#, r"\\", r"\ud800", r"\x", "é", "😀", "\u{1}",
            "\u{7f}", "\t",
        ])
        .prop_map(|odd| format!("aaaaaa{odd}bbbb")),
    ]
    .prop_map(|text| format!("\"{text}\""))
}

fn any_value() -> impl Strategy<Value = String> {
    prop_oneof![
        6 => any_text(),
        9 => any::<i64>().prop_map(|number| number.to_string()),
        2 => "-?(0|[1-9][0-9]{0,24})(\\.[0-9]{1,3})?([eE][+-]?[0-9]{1,3})?",
        1 => "-?0?[0-9]{0,3}[.eE+-]?[0-9]{0,2}",
        2 => prop::sample::select(alloc::vec![
            "null", "true", "false", "nul", "nulL", "[]", "{}", "[1,[2]]", r#"{"id":[]}"#, "",
        ])
        .prop_map(String::from),
    ]
}

fn blanks() -> impl Strategy<Value = String> {
    prop_oneof![
        80 => Just(String::new()),
        40 => "[ \t\r\n]{1,2}",
        1 => "[ \u{b}\u{a0}]",
    ]
}

fn any_params() -> impl Strategy<Value = String> {
    let element = |odd| {
        let value = prop_oneof![60 => any_text(), odd => any_value()];
        (blanks(), value, blanks()).prop_map(|(before, value, after)| before + &value + &after)
    };
    let count = prop_oneof![4 => 5..=6_usize, 1 => 0..=9_usize];
    let array = count.prop_flat_map(move |count| prop::collection::vec(element(1), count));
    prop_oneof![
        9 => array.prop_map(|elements| format!("[{}]", elements.join(","))),
        1 => element(60),
    ]
}

fn any_member() -> impl Strategy<Value = (String, String)> {
    let keys = prop::sample::select(alloc::vec![
        "id", "method", "params", "jsonrpc", r"\u0069d", "", "ID"
    ]);
    (keys, any_value()).prop_map(|(key, value)| (format!("\"{key}\""), value))
}

/// The three members shuffled, sometimes with others, sometimes cut or with a byte changed.
fn any_line() -> impl Strategy<Value = alloc::vec::Vec<u8>> {
    let method = prop_oneof![
        9 => Just("\"mining.submit\"".to_string()),
        1 => any_value(),
    ];
    let usual = (
        any_value(),
        method,
        any_params(),
        prop_oneof![
            2 => Just(alloc::vec![]),
            1 => prop::collection::vec(any_member(), 1..3),
        ],
    );
    let members = usual.prop_flat_map(|(id, method, params, more)| {
        let mut members = alloc::vec![
            ("\"id\"".to_string(), id),
            ("\"method\"".to_string(), method),
            ("\"params\"".to_string(), params),
        ];
        members.extend(more);
        Just(members).prop_shuffle()
    });
    let damage = prop_oneof![
        18 => Just(None),
        1 => (any::<prop::sample::Index>(), Just(None)).prop_map(Some),
        1 => (any::<prop::sample::Index>(), any::<u8>().prop_map(Some)).prop_map(Some),
    ];
    (members, prop::collection::vec(blanks(), 4), damage).prop_map(|(members, blanks, damage)| {
        let members: alloc::vec::Vec<_> = members
            .into_iter()
            .map(|(key, value)| {
                let [b0, b1, b2, b3] = &blanks[..] else { unreachable!("four were asked for") };
                format!("{b0}{key}{b1}:{b2}{value}{b3}")
            })
            .collect();
        let mut line = format!("{{{}}}", members.join(",")).into_bytes();
        match damage {
            Some((at, None)) => line.truncate(at.index(line.len())),
            Some((at, Some(byte))) => {
                let at = at.index(line.len());
                line[at] = byte;
            }
            None => {}
        }
        line
    })
}

#[test]
fn the_scanner_and_the_general_way_agree() {
    let (taken, left) = (Cell::new(0), Cell::new(0));
    let config = ProptestConfig { failure_persistence: None, ..ProptestConfig::with_cases(4096) };
    let mut runner = TestRunner::new(config);
    let outcome = runner.run(&any_line(), |line| {
        let Ok(line) = core::str::from_utf8(&line) else {
            prop_assert_eq!(parse(&line), Err(ParseError::NotText));
            return Ok(());
        };
        match scan::submit(line) {
            Some(message) => {
                taken.set(taken.get() + 1);
                prop_assert_eq!(parse_json(line), Ok(message));
            }
            None => left.set(left.get() + 1),
        }
        Ok(())
    });
    outcome.unwrap_or_else(|error| panic!("{error}"));
    // Both sides of the test were really there.
    assert!(taken.get() > 400, "only {} of {} lines scanned", taken.get(), left.get());
    assert!(left.get() > 400, "only {} lines were left to the general way", left.get());
}

proptest! {
    #[test]
    fn no_bytes_panic(line in prop::collection::vec(any::<u8>(), 0..512)) {
        let _ = parse(&line);
        let _ = crate::sv1::parse_server(&line);
    }

    #[test]
    fn no_text_panics(line in "[\\[\\]{}:,\"\\\\a-f0-9 eE+.-]{0,128}") {
        let _ = parse(line.as_bytes());
        let _ = crate::sv1::parse_server(line.as_bytes());
    }

    #[test]
    fn a_usual_submit_is_scanned(
        worker in "[a-z0-9._]{1,40}",
        job in "[0-9a-f]{1,8}",
        extranonce2 in "[0-9a-f]{8}",
        id in any::<u32>(),
    ) {
        let line = format!(
            r#"{{"id":{id},"method":"mining.submit",
                "params":["{worker}","{job}","{extranonce2}","5f5e1000","1a2b3c4d","00c00000"]}}"#
        );
        prop_assert!(scan::submit(&line).is_some(), "{}", line);
    }
}
