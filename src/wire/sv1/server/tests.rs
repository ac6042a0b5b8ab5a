//! Answers and requests in the forms that pools use.

use super::*;

fn read(line: &str) -> ServerMessage<'_> {
    parse_server(line.as_bytes()).unwrap_or_else(|error| panic!("{line}: {error}"))
}

#[test]
fn errors_in_each_form_that_pools_use() {
    for (answer, code, text) in [
        (r#""result":null,"error":[21,"Stale",null]"#, 21, "Stale"),
        (r#""result":false,"error":[-3,"Method not found"]"#, -3, "Method not found"),
        (r#""error":{"code":23,"message":"Low difficulty"}"#, 23, "Low difficulty"),
        (r#""result":null,"error":"Unauthorized""#, 0, "Unauthorized"),
        (r#""result":false,"reject-reason":"Above target""#, 0, "Above target"),
        (r#""result":null,"error":["x"]"#, 0, ""),
        (r#""result":null,"error":true"#, 0, "true"),
    ] {
        let line = format!(r#"{{"id":5,{answer}}}"#);
        let ServerMessage::Error { id, error } = read(&line) else { panic!("{line}") };
        assert_eq!(id.as_u64(), Some(5));
        assert_eq!((error.code, &*error.text), (code, text), "{line}");
    }
}

#[test]
fn results_with_and_without_the_fast_way() {
    for (line, id) in [
        (r#"{"id":12,"result":true,"error":null}"#, "12"),
        (r#"{"id":0,"result":true,"error":null}"#, "0"),
        (r#"{"result": true, "error": null, "id": 12}"#, "12"),
        (r#"{"id":"12","result":true,"error":null}"#, r#""12""#),
        (r#"{"id":12,"result":true}"#, "12"),
    ] {
        let ServerMessage::Result { id: read_id, result } = read(line) else { panic!("{line}") };
        assert_eq!((read_id.as_bytes(), result), (id.as_bytes(), "true"));
    }
    for line in [
        r#"{"id":,"result":true,"error":null}"#,
        r#"{"id":01,"result":true,"error":null}"#,
        r#"{"id":1 2,"result":true,"error":null}"#,
    ] {
        assert!(parse_server(line.as_bytes()).is_err(), "{line}");
    }
}

#[test]
fn subscriptions_in_each_form_that_pools_use() {
    for (subscriptions, session_id) in [
        (r#"[["mining.set_difficulty","a1"],["mining.notify","a1"]]"#, Some("a1")),
        (r#"[["mining.notify","b2"]]"#, Some("b2")),
        (r#"["mining.notify","c3"]"#, Some("c3")),
        ("[]", None),
    ] {
        let result = format!(r#"[{subscriptions},"0000abcd",4]"#);
        let Some(subscribed) = subscribed(&result) else { panic!("{result}") };
        assert_eq!(subscribed.session_id.as_deref(), session_id);
        assert_eq!(subscribed.extranonce1, [0, 0, 0xab, 0xcd]);
        assert_eq!(subscribed.extranonce2_size, 4);
    }
    for result in ["true", "[]", r#"[[],"0",4]"#, r#"[[],"zz",4]"#, r#"[[],"00",-1]"#, "[[],1,2]"] {
        assert_eq!(subscribed(result), None, "{result}");
    }
}

#[test]
fn masks_are_granted_only_with_true() {
    for (result, mask) in [
        (r#"{"version-rolling":true,"version-rolling.mask":"1fffe000"}"#, Some(0x1fff_e000)),
        (r#"{"version-rolling":false,"version-rolling.mask":"1fffe000"}"#, None),
        (r#"{"version-rolling":true}"#, None),
        ("{}", None),
        ("true", None),
    ] {
        assert_eq!(granted_mask(result), mask, "{result}");
    }
}

#[test]
fn requests_of_a_server() {
    for (method, params, expected) in [
        ("mining.set_difficulty", "[0.001]", ServerMessage::SetDifficulty(0.001)),
        ("mining.set_version_mask", r#"["1fffe000"]"#, ServerMessage::SetVersionMask(0x1fff_e000)),
        (
            "mining.set_extranonce",
            r#"["ab01",3]"#,
            ServerMessage::SetExtranonce { extranonce1: [0xab, 1].to_vec(), extranonce2_size: 3 },
        ),
        ("mining.ping", "[]", ServerMessage::Ping { id: Id::NULL }),
        ("client.get_version", "[]", ServerMessage::GetVersion { id: Id::NULL }),
        ("client.reconnect", r#"["a",1,2]"#, ServerMessage::Reconnect),
        (
            "client.show_message",
            "[]",
            ServerMessage::Unknown { method: "client.show_message".into() },
        ),
        ("mining.set_difficulty", "[0]", ServerMessage::Invalid(Reason::BadValue("difficulty"))),
        ("mining.notify", r#"["1"]"#, ServerMessage::Invalid(Reason::BadValue("notify"))),
    ] {
        let line = format!(r#"{{"id":null,"method":"{method}","params":{params}}}"#);
        assert_eq!(read(&line), expected);
    }
}

#[test]
fn a_merkle_path_beyond_any_block_is_refused() {
    let hash = "ab".repeat(32);
    let line = |nodes: usize| {
        let path = alloc::vec![format!(r#""{hash}""#); nodes].join(",");
        format!(
            r#"{{"id":null,"method":"mining.notify",
                "params":["1","{hash}","00","00",[{path}],"1","2","3",true]}}"#
        )
    };
    assert!(matches!(read(&line(MERKLE_PATH_MAX)), ServerMessage::Notify(_)));
    assert!(matches!(read(&line(MERKLE_PATH_MAX + 1)), ServerMessage::Invalid(_)));
}
