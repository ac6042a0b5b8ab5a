//! Every form byte for byte, and read back by the other side's parser.

use alloc::borrow::Cow;
use alloc::string::String;
use proptest::prelude::*;

use super::*;
use crate::sv1::{
    Configure, IdOwned, Request, ServerMessage, ServerNotify, granted_mask, parse, parse_server,
    subscribed,
};

fn id(line: &str) -> IdOwned {
    let Ok(message) = parse(line.as_bytes()) else { panic!("{line}") };
    message.id.to_owned()
}

fn written(write: impl FnOnce(&mut Vec<u8>)) -> String {
    let mut out = Vec::new();
    write(&mut out);
    String::from_utf8(out).unwrap_or_else(|error| panic!("{error}"))
}

#[test]
fn answers_byte_for_byte() {
    let seven = id(r#"{"id":7}"#);
    let seven = seven.as_id();
    for (expected, actual) in [
        ("{\"id\":7,\"result\":true,\"error\":null}\n", written(|out| result_true(out, seven))),
        ("{\"id\":7,\"result\":\"pong\",\"error\":null}\n", written(|out| pong(out, seven))),
        (
            "{\"id\":7,\"result\":\"headframe/0.1\",\"error\":null}\n",
            written(|out| result_text(out, seven, "headframe/0.1")),
        ),
        (
            "{\"id\":7,\"result\":null,\"error\":[23,\"Low difficulty\",null]}\n",
            written(|out| error(out, seven, ErrorCode::LowDifficulty, "Low difficulty")),
        ),
        (
            "{\"id\":null,\"result\":null,\"error\":[-3,\"No \\\"\\\\\\u000a\",null]}\n",
            written(|out| error(out, Id::NULL, ErrorCode::MethodNotFound, "No \"\\\n")),
        ),
        (
            "{\"id\":7,\"result\":[[[\"mining.set_difficulty\",\"00ab\"],\
             [\"mining.notify\",\"00ab\"]],\
             \"01020304\",4],\"error\":null}\n",
            written(|out| subscribe_result(out, seven, "00ab", &[1, 2, 3, 4], 4)),
        ),
        (
            "{\"id\":null,\"method\":\"mining.set_version_mask\",\"params\":[\"1fffe000\"]}\n",
            written(|out| set_version_mask(out, 0x1fff_e000)),
        ),
        ("{\"id\":9,\"method\":\"mining.ping\",\"params\":[]}\n", written(|out| ping(out, 9))),
        (
            "{\"id\":9,\"method\":\"client.get_version\",\"params\":[]}\n",
            written(|out| get_version(out, 9)),
        ),
    ] {
        assert_eq!(actual, expected);
    }
}

#[test]
fn codes_are_those_of_the_protocol() {
    use ErrorCode::*;
    let codes =
        [Other, Stale, Duplicate, LowDifficulty, Unauthorized, NotSubscribed, MethodNotFound];
    assert_eq!(codes.map(ErrorCode::number), [20, 21, 22, 23, 24, 25, -3]);
}

#[test]
fn configure_answers_only_what_was_asked() {
    let unknown = [Cow::Borrowed("info"), Cow::Borrowed("a\"b")];
    for (reply, expected) in [
        (ConfigureReply::default(), "{}"),
        (
            ConfigureReply { version_rolling: Some(0x1fff_e000), ..Default::default() },
            r#"{"version-rolling":true,"version-rolling.mask":"1fffe000"}"#,
        ),
        (
            ConfigureReply { version_rolling: Some(0), ..Default::default() },
            r#"{"version-rolling":false}"#,
        ),
        (
            ConfigureReply {
                version_rolling: Some(0xe000),
                minimum_difficulty: Some(false),
                subscribe_extranonce: Some(false),
                unknown: &unknown,
            },
            concat!(
                r#"{"version-rolling":true,"version-rolling.mask":"0000e000","#,
                r#""minimum-difficulty":false,"subscribe-extranonce":false,"#,
                r#""info":false,"a\"b":false}"#,
            ),
        ),
        (
            ConfigureReply { minimum_difficulty: Some(true), ..Default::default() },
            r#"{"minimum-difficulty":true}"#,
        ),
    ] {
        let line = written(|out| configure_result(out, Id::NULL, &reply));
        assert_eq!(line, format!("{{\"id\":null,\"result\":{expected},\"error\":null}}\n"));
    }
}

#[test]
fn difficulties_have_no_exponent() {
    for (value, expected) in [
        (1024.0, "1024"),
        (1e-9, "0.000000001"),
        (0.5, "0.5"),
        (1e21, "1000000000000000000000"),
        (16384.0, "16384"),
    ] {
        let Some(difficulty) = Difficulty::new(value) else { panic!("{value}") };
        let line = written(|out| set_difficulty(out, difficulty));
        let params = format!("\"params\":[{expected}]}}\n");
        assert_eq!(
            line,
            "{\"id\":null,\"method\":\"mining.set_difficulty\",".to_string() + &params
        );
        let Ok(ServerMessage::SetDifficulty(read)) = parse_server(line.trim_end().as_bytes())
        else {
            panic!("{line}");
        };
        assert_eq!(read, value);
    }
}

/// Block 100,000's predecessor: in the explorer's order, as SV1 sends it, and in the header's.
#[test]
fn notify_byte_for_byte() {
    let explorer = "000000000002d01c1fccc21636b607dfd930d31d01c3a62104612a1719011250";
    let mut prev_hash = Hash256([0; 32]);
    assert_eq!(hex::decode_into(explorer, &mut prev_hash.0), Ok(32));
    prev_hash.0.reverse();
    let path = [Hash256([0x11; 32]), Hash256([0xfe; 32])];
    let mut job = Notify {
        job_id: "1f.3",
        prev_hash: &prev_hash,
        coinbase_first: &[0x01, 0x00],
        coinbase_second: &[0xff, 0xab, 0x00],
        merkle_path: &path,
        version: 0x2000_0000,
        bits: 0x1b04_864c,
        ntime: 0x4d1b_2237,
        clean: true,
    };
    let expected = "{\"id\":null,\"method\":\"mining.notify\",\"params\":[\"1f.3\",\
        \"1901125004612a1701c3a621d930d31d36b607df1fccc2160002d01c00000000\",\"0100\",\"ffab00\",\
        [\"1111111111111111111111111111111111111111111111111111111111111111\",\
        \"fefefefefefefefefefefefefefefefefefefefefefefefefefefefefefefefe\"],\
        \"20000000\",\"1b04864c\",\"4d1b2237\",true]}\n";
    assert_eq!(written(|out| notify(out, &job)), expected);
    job.merkle_path = &[];
    job.clean = false;
    let line = written(|out| notify(out, &job));
    assert!(line.contains("\"ffab00\",[],\"20000000\""), "{line}");
    assert!(line.ends_with(",false]}\n"), "{line}");
}

#[test]
fn client_lines_byte_for_byte() {
    let share = client::Submit {
        worker: "farm.\"1\"",
        job_id: "1f.3",
        extranonce2: &[0, 0, 0, 42],
        ntime: 0x5f5e_1000,
        nonce: 0x0a2b_3c4d,
        version_bits: Some(0x00c0_0000),
    };
    for (expected, actual) in [
        (
            "{\"id\":1,\"method\":\"mining.configure\",\"params\":[[\"version-rolling\"],\
             {\"version-rolling.mask\":\"1fffe000\",\"version-rolling.min-bit-count\":2}]}\n",
            written(|out| client::configure(out, 1, 0x1fff_e000, 2)),
        ),
        (
            "{\"id\":2,\"method\":\"mining.subscribe\",\"params\":[\"ua/1\",\"00ab\"]}\n",
            written(|out| client::subscribe(out, 2, "ua/1", Some("00ab"))),
        ),
        (
            "{\"id\":2,\"method\":\"mining.subscribe\",\"params\":[\"ua/1\"]}\n",
            written(|out| client::subscribe(out, 2, "ua/1", None)),
        ),
        (
            "{\"id\":3,\"method\":\"mining.authorize\",\"params\":[\"farm.1\",\"x\"]}\n",
            written(|out| client::authorize(out, 3, "farm.1", "x")),
        ),
        (
            "{\"id\":4,\"method\":\"mining.submit\",\"params\":[\"farm.\\\"1\\\"\",\"1f.3\",\
             \"0000002a\",\"5f5e1000\",\"0a2b3c4d\",\"00c00000\"]}\n",
            written(|out| client::submit(out, 4, &share)),
        ),
    ] {
        assert_eq!(actual, expected);
    }
    let Some(difficulty) = Difficulty::new(512.0) else { panic!("512 is positive") };
    let line = written(|out| client::suggest_difficulty(out, 5, difficulty));
    let Ok(message) = parse(line.trim_end().as_bytes()) else { panic!("{line}") };
    assert_eq!(message.request, Request::SuggestDifficulty(512.0));
    assert_eq!(message.id.as_u64(), Some(5));
}

#[test]
fn nothing_allocates_where_capacity_suffices() {
    let hash = Hash256([7; 32]);
    let path = [hash; 12];
    for (nodes, clean) in [(0, false), (1, true), (12, true), (12, false)] {
        let job = Notify {
            job_id: "ffffffff.7fffffff",
            prev_hash: &hash,
            coinbase_first: &[1; 120],
            coinbase_second: &[2; 90],
            merkle_path: &path[..nodes],
            version: 1,
            bits: 2,
            ntime: 3,
            clean,
        };
        let length = written(|out| notify(out, &job)).len();
        assert_eq!(notify_bytes(&job), length);
        let mut out = Vec::with_capacity(length);
        let before = (out.as_ptr(), out.capacity());
        notify(&mut out, &job);
        assert_eq!((out.as_ptr(), out.capacity()), before);
    }
    let Some(difficulty) = Difficulty::new(1e-9) else { panic!("1e-9 is positive") };
    let mut out = Vec::with_capacity(1024);
    let before = (out.as_ptr(), out.capacity());
    error(&mut out, Id::NULL, ErrorCode::Stale, "Stale");
    subscribe_result(&mut out, Id::NULL, "0123456789abcdef", &[1; 4], 4);
    configure_result(&mut out, Id::NULL, &ConfigureReply::default());
    set_difficulty(&mut out, difficulty);
    assert_eq!((out.as_ptr(), out.capacity()), before);
}

proptest! {
    /// The other side reads what was written, whatever it was.
    #[test]
    fn notify_reads_back(
        job_id in "[0-9a-f]{1,8}\\.[0-9a-f]{1,8}",
        prev_hash in any::<[u8; 32]>(),
        coinbase_first in prop::collection::vec(any::<u8>(), 0..200),
        coinbase_second in prop::collection::vec(any::<u8>(), 0..200),
        path in prop::collection::vec(any::<[u8; 32]>(), 0..=16),
        [version, bits, ntime] in any::<[u32; 3]>(),
        clean in any::<bool>(),
    ) {
        let merkle_path: Vec<_> = path.into_iter().map(Hash256).collect();
        let line = written(|out| notify(out, &Notify {
            job_id: &job_id,
            prev_hash: &Hash256(prev_hash),
            coinbase_first: &coinbase_first,
            coinbase_second: &coinbase_second,
            merkle_path: &merkle_path,
            version, bits, ntime, clean,
        }));
        let expected = ServerNotify {
            job_id: Cow::Borrowed(&job_id),
            prev_hash: Hash256(prev_hash),
            coinbase_first,
            coinbase_second,
            merkle_path,
            version, bits, ntime, clean,
        };
        let read = parse_server(line.trim_end().as_bytes());
        prop_assert_eq!(read, Ok(ServerMessage::Notify(expected)));
    }

    #[test]
    fn any_text_reads_back(user: String, password: String, id: u64) {
        let line = written(|out| client::authorize(out, id, &user, &password));
        prop_assert_eq!(line.bytes().filter(|byte| *byte == b'\n').count(), 1);
        let Ok(message) = parse(line.trim_end_matches('\n').as_bytes()) else { panic!("{line}") };
        prop_assert_eq!(message.id.as_u64(), Some(id));
        let password = Some(Cow::Owned(password));
        prop_assert_eq!(message.request, Request::Authorize { user: user.into(), password });
    }

    #[test]
    fn the_handshake_reads_back(mask in 1..=u32::MAX, extranonce1 in any::<[u8; 6]>()) {
        let line = written(|out| client::configure(out, 1, mask, 2));
        let Ok(message) = parse(line.trim_end().as_bytes()) else { panic!("{line}") };
        let Request::Configure(Configure { version_rolling: Some(rolling), .. }) = message.request
        else { panic!("{line}") };
        prop_assert_eq!((rolling.mask, rolling.min_bit_count), (mask, Some(2)));

        let reply = ConfigureReply { version_rolling: Some(mask), ..Default::default() };
        let line = written(|out| configure_result(out, message.id, &reply));
        let Ok(ServerMessage::Result { result, .. }) = parse_server(line.trim_end().as_bytes())
        else { panic!("{line}") };
        prop_assert_eq!(granted_mask(result), Some(mask));

        let line = written(|out| subscribe_result(out, message.id, "s1", &extranonce1, 4));
        let Ok(ServerMessage::Result { result, .. }) = parse_server(line.trim_end().as_bytes())
        else { panic!("{line}") };
        let Some(read) = subscribed(result) else { panic!("{line}") };
        prop_assert_eq!(read.session_id.as_deref(), Some("s1"));
        prop_assert_eq!(read.extranonce1, extranonce1);
        prop_assert_eq!(read.extranonce2_size, 4);
    }
}
