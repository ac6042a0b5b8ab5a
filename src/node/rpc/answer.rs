//! What came back over HTTP, told apart: the node's result, the node's error, or nonsense.
//!
//! bitcoind sends its errors as HTTP 500 or 404 with the JSON body that counts; 401, 403 and 503
//! come without one.

use std::ops::Range;

use serde::{Deserialize, Deserializer};
use serde_json::value::RawValue;

use super::error::{RpcError, printable};

/// A good answer: its text, and where in it the result stands.
#[derive(Debug)]
pub(super) struct Answer {
    text: String,
    result: Range<usize>,
}

/// The envelope of JSON-RPC 1.0, in which bitcoind answers those who do not ask for 2.0.
#[derive(Deserialize)]
struct Envelope<'a> {
    /// The JSON `null` is a result too, and not the lack of one.
    #[serde(borrow, default, deserialize_with = "present")]
    result: Option<&'a RawValue>,
    error: Option<NodeError>,
    #[serde(borrow)]
    id: Option<&'a RawValue>,
}

#[derive(Deserialize)]
struct NodeError {
    code: i64,
    #[serde(default)]
    message: String,
}

impl Answer {
    /// Reads the body of an HTTP answer to the request `id`.
    pub(super) fn read(status: u16, body: Vec<u8>, id: u64) -> Result<Answer, RpcError> {
        let garbage = |why: &dyn std::fmt::Display, text: &str| {
            let ok = if status == 200 { String::new() } else { format!("HTTP {status}, ") };
            RpcError::Garbage(printable(&format!("{ok}{why}: {text}")))
        };
        let text = String::from_utf8(body).map_err(|error| {
            let good = &error.as_bytes()[..error.utf8_error().valid_up_to()];
            garbage(&"not UTF-8 after", &String::from_utf8_lossy(good))
        })?;
        // A list would do for serde, with the fields in their order.
        if !text.trim_start().starts_with('{') {
            return Err(garbage(&"no JSON object", &text));
        }
        let envelope: Envelope<'_> =
            serde_json::from_str(&text).map_err(|error| garbage(&error, &text))?;
        if let Some(error) = envelope.error {
            return Err(RpcError::of_node(error.code, &error.message));
        }
        if envelope.id.is_none_or(|given| given.get() != id.to_string()) {
            return Err(garbage(&"the answer to another question", &text));
        }
        let Some(result) = envelope.result.filter(|_| status == 200) else {
            return Err(garbage(&"no result", &text));
        };
        let start = result.get().as_ptr().addr() - text.as_ptr().addr();
        let result = start..start + result.get().len();
        Ok(Answer { text, result })
    }

    /// The result, as JSON.
    pub(super) fn result(&self) -> &str {
        &self.text[self.result.clone()]
    }
}

fn present<'de, D: Deserializer<'de>>(from: D) -> Result<Option<&'de RawValue>, D::Error> {
    <&RawValue>::deserialize(from).map(Some)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn read(status: u16, body: &str) -> Result<String, RpcError> {
        Answer::read(status, body.as_bytes().to_vec(), 7).map(|answer| answer.result().to_owned())
    }

    #[test]
    fn results_of_every_kind() {
        for result in ["null", "\"inconclusive\"", "{\"a\": [1, 2]}", "12"] {
            let body = format!("{{\"result\":{result},\"error\":null,\"id\":7}}\n");
            assert_eq!(read(200, &body).as_deref(), Ok(result));
        }
    }

    #[test]
    fn the_body_of_an_http_error_is_what_counts() {
        let body = |code: i64| {
            format!("{{\"result\":null,\"error\":{{\"code\":{code},\"message\":\"m\"}},\"id\":7}}")
        };
        assert_eq!(read(500, &body(-28)), Err(RpcError::Warming("m".into())));
        assert_eq!(read(500, &body(-9)), Err(RpcError::NoPeers));
        let unknown = RpcError::Rpc { code: -32601, message: "m".into() };
        assert_eq!(read(404, &body(-32601)), Err(unknown));
        // JSON-RPC 2.0 has errors with HTTP 200 and without a result.
        let without = "{\"error\":{\"code\":-10,\"message\":\"m\"},\"id\":7}";
        assert_eq!(read(200, without), Err(RpcError::InitialDownload));
    }

    #[test]
    fn nonsense_is_said_to_be_so() {
        for (status, body, wanted) in [
            (200, "", "no JSON object"),
            (200, "<html>no</html>", "<html>no</html>"),
            (404, "<html>no</html>", "HTTP 404, no JSON object"),
            (200, "{\"result\":{\"a\":1", "EOF"),
            (200, "[null,null,7]", "no JSON object"),
            (200, "{}", "another question"),
            (200, "{\"error\":null,\"id\":7}", "no result"),
            (200, "{\"result\":null,\"id\":8}", "another question"),
            (200, "{\"result\":null,\"error\":\"bad\",\"id\":7}", "invalid type"),
            (200, "{\"result\":1,\"result\":2,\"id\":7}", "duplicate field"),
            (500, "{\"result\":1,\"error\":null,\"id\":7}", "HTTP 500, no result"),
        ] {
            let Err(RpcError::Garbage(why)) = read(status, body) else { panic!("{body}") };
            assert!(why.contains(wanted), "{body}: {why}");
        }
        let bytes = Answer::read(200, vec![b'a', 0xff, 0xfe], 7);
        assert!(matches!(bytes, Err(RpcError::Garbage(why)) if why.contains("not UTF-8 after: a")));
    }

    proptest! {
        #[test]
        fn no_bytes_make_it_panic(status in 100_u16..600, body: Vec<u8>) {
            let _ = Answer::read(status, body, 7);
        }

        #[test]
        fn a_prefix_of_an_answer_is_none(cut in 0_usize..44) {
            let whole = "{\"result\":{\"height\":7},\"error\":null,\"id\":7}";
            let cut = cut.min(whole.len() - 1);
            prop_assert!(matches!(read(200, &whole[..cut]), Err(RpcError::Garbage(_))));
        }
    }
}
