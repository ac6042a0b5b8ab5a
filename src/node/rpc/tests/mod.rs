//! Conversations with a server that answers as it is told: what a client makes of every fault.

mod server;

use std::fs;
use std::path::PathBuf;
use std::time::{Duration, Instant};

use pow::Hash256;
use serde_json::{Value, json};

use super::client::{CallLimits, Client};
use super::endpoint::{Auth, Endpoint};
use super::error::RpcError;
use server::{Reply, Server, http};

/// Long enough for a loaded machine where an answer comes, and short where none does.
const LIMITS: CallLimits = CallLimits { timeout: Duration::from_secs(20), ..CallLimits::QUICK };
const SHORT: CallLimits = CallLimits {
    timeout: Duration::from_millis(300),
    stall: Duration::from_millis(300),
    answer_bytes_max: 1_024,
};

fn user() -> Auth {
    Auth::User { user: "farm".to_owned(), password: "pass word".to_owned() }
}

fn client(server: &Server, auth: Auth) -> Client {
    Client::new(&Endpoint::new(&format!("http://{}", server.address), auth).expect("a good one"))
}

fn conversation(replies: &[Reply]) -> (Server, Client) {
    let server = Server::start(replies);
    let client = client(&server, user());
    (server, client)
}

fn error(code: i64) -> String {
    json!({"result": null, "error": {"code": code, "message": "words"}, "id": 1}).to_string()
}

#[test]
fn questions_go_over_one_connection_until_it_is_left() {
    let (server, mut client) = conversation(&[Reply::Result(json!(7))]);
    for id in 1..=3 {
        assert_eq!(client.call("getblockcount", &json!(["a", 2]), LIMITS), Ok(json!(7)));
        let request = server.request();
        assert_eq!(request.connection, 0);
        let wanted = json!({"id": id, "method": "getblockcount", "params": ["a", 2]});
        assert_eq!(request.body, wanted);
        // "farm:pass word" in base64, as lower case as the server makes it.
        assert_eq!(request.authorization, "authorization: basic zmfybtpwyxnzihdvcmq=");
    }
    client.disconnect();
    assert_eq!(client.call("getblockcount", &json!([]), LIMITS), Ok(json!(7)));
    assert_eq!(server.request().connection, 1);
}

#[test]
fn http_statuses_and_their_bodies_are_told_apart() {
    for (reply, wanted) in [
        (Reply::Http(401, String::new()), RpcError::Unauthorized),
        (Reply::Http(403, String::new()), RpcError::Forbidden),
        (Reply::Http(503, "Work queue depth exceeded".into()), RpcError::Busy),
        (Reply::Http(500, error(-28)), RpcError::Warming("words".into())),
        (Reply::Http(500, error(-10)), RpcError::InitialDownload),
        (Reply::Http(500, error(-9)), RpcError::NoPeers),
        (Reply::Http(404, error(-32601)), RpcError::Rpc { code: -32601, message: "words".into() }),
    ] {
        let (_server, mut client) = conversation(&[reply]);
        assert_eq!(client.call("x", &json!([]), LIMITS), Err(wanted));
    }
}

#[test]
fn a_full_queue_is_asked_again_at_once() {
    let busy = Reply::Http(503, "Work queue depth exceeded".into());
    let (server, mut client) = conversation(&[busy.clone(), busy, Reply::Result(json!(null))]);
    let mut begins = 0;
    assert_eq!(client.submit_block(&[0xab, 0x01], LIMITS, &mut || begins += 1), Ok(None));
    assert_eq!(begins, 1, "the first byte went out once");
    for _ in 0..3 {
        assert_eq!(server.request().body["params"], json!(["ab01"]));
    }
}

#[test]
fn a_renewed_cookie_is_read_after_a_401_and_an_old_one_is_not_tried_twice() {
    let folder = Folder::new("cookie");
    let file = folder.0.join(".cookie");
    let refused = Reply::Http(401, String::new());
    let replies = [Reply::Result(json!(1)), refused.clone(), Reply::Result(json!(2)), refused];
    let server = Server::start(&replies);
    let mut client = client(&server, Auth::Cookie(file.clone()));
    assert!(matches!(client.call("x", &json!([]), LIMITS), Err(RpcError::Cookie(_))));
    fs::write(&file, "no cookie").expect("written");
    assert!(matches!(client.call("x", &json!([]), LIMITS), Err(RpcError::Cookie(_))));
    fs::write(&file, "__cookie__:old\n").expect("written");
    assert_eq!(client.call("x", &json!([]), LIMITS), Ok(json!(1)));
    fs::write(&file, "__cookie__:new").expect("written");
    assert_eq!(client.call("x", &json!([]), LIMITS), Ok(json!(2)));
    assert_eq!(client.call("x", &json!([]), LIMITS), Err(RpcError::Unauthorized));
    let said: Vec<String> = (0..4).map(|_| server.request().authorization).collect();
    assert_eq!(said[0], said[1]);
    assert_ne!(said[1], said[2]);
    assert_eq!(said[2], said[3], "nothing new in the file: asked once");
}

#[test]
fn silence_a_stall_and_a_broken_answer_are_told_apart() {
    let ask = |reply: &[u8], close: bool| {
        let bytes = reply.to_vec();
        let reply = if close { Reply::BytesThenClose(bytes) } else { Reply::Bytes(bytes) };
        conversation(&[reply]).1.call("x", &json!([]), SHORT)
    };
    let started = Instant::now();
    assert_eq!(ask(b"", false), Err(RpcError::Timeout));
    assert_eq!(ask(b"HTTP/1.1 200", false), Err(RpcError::Timeout));
    let half = b"HTTP/1.1 200 OK\r\nContent-Length: 99\r\n\r\n{\"result\":";
    assert_eq!(ask(half, false), Err(RpcError::Stalled));
    assert!(started.elapsed() < Duration::from_secs(10), "{:?}", started.elapsed());
    assert!(matches!(ask(b"", true), Err(RpcError::Unreachable(_))));
    assert!(matches!(ask(half, true), Err(RpcError::Unreachable(_))));
    assert!(matches!(ask(b"SSH-2.0-OpenSSH_9.2\r\n\r\n", true), Err(RpcError::Garbage(_))));
    let half = http(200, "{\"result\":{\"height\":");
    assert!(matches!(ask(half.as_bytes(), false), Err(RpcError::Garbage(_))));
    let elsewhere = b"HTTP/1.1 302 x\r\nLocation: http://127.0.0.1:1/\r\nContent-Length: 0\r\n\r\n";
    assert!(matches!(ask(elsewhere, false), Err(RpcError::Garbage(_))));
}

#[test]
fn a_hundred_megabytes_are_left_where_they_are() {
    let limits = CallLimits { answer_bytes_max: 100_000, ..LIMITS };
    let (_server, mut client) = conversation(&[Reply::Endless(b'['), Reply::Result(json!(1))]);
    assert_eq!(client.call("x", &json!([]), limits), Err(RpcError::TooLarge(100_000)));
    assert_eq!(client.call("x", &json!([]), limits), Ok(json!(1)), "and the client goes on");
    let long = format!("{{\"result\":\"{}\",\"error\":null,\"id\":1}}", "x".repeat(100_000));
    let (_server, mut client) = conversation(&[Reply::Http(200, long)]);
    assert_eq!(client.call("x", &json!([]), limits), Err(RpcError::TooLarge(100_000)));
}

#[test]
fn nobody_there_is_unreachable_and_tried_again() {
    for host in ["127.0.0.1", "localhost"] {
        let url = format!("http://{host}:1");
        let mut client = Client::new(&Endpoint::new(&url, user()).expect("a good one"));
        for _ in 0..2 {
            let result = client.call("x", &json!([]), LIMITS);
            assert!(matches!(result, Err(RpcError::Unreachable(_))), "{result:?}");
        }
    }
    // `localhost` may mean ::1 first: the address that answers is found.
    let server = Server::start(&[Reply::Result(json!(1))]);
    let url = format!("http://localhost:{}", server.address.port());
    let mut client = Client::new(&Endpoint::new(&url, user()).expect("a good one"));
    assert_eq!(client.call("x", &json!([]), LIMITS), Ok(json!(1)));
    assert_eq!(client.call("x", &json!([]), LIMITS), Ok(json!(1)));
    let url = "http://no-such-host.invalid:8332";
    let mut client = Client::new(&Endpoint::new(url, user()).expect("a good one"));
    let result = client.call("x", &json!([]), LIMITS);
    assert!(matches!(result, Err(RpcError::Unreachable(why)) if why.contains("no-such-host")));
}

#[test]
fn answers_of_a_wrong_type_name_the_field() {
    let info = json!({
        "chain": "main", "blocks": 5, "headers": 6, "bestblockhash": "00".repeat(32),
        "initialblockdownload": false, "verificationprogress": 1, "warnings": "old"
    });
    let (_server, mut client) = conversation(&[Reply::Result(info.clone())]);
    let good = client.blockchain_info(LIMITS).expect("a good one");
    assert_eq!((good.blocks, good.headers, good.warnings), (5, 6, vec!["old".to_owned()]));
    for (field, value) in [
        ("chain", json!(7)),
        ("blocks", json!(-1)),
        ("blocks", json!(4_294_967_296_u64)),
        ("blocks", json!(1.5)),
        ("headers", json!("6")),
        ("bestblockhash", json!("00")),
        ("bestblockhash", json!("zz".repeat(32))),
        ("initialblockdownload", json!(null)),
        ("verificationprogress", json!([])),
    ] {
        let mut bad = info.clone();
        bad[field] = value;
        let (_server, mut client) = conversation(&[Reply::Result(bad)]);
        let Err(RpcError::Garbage(why)) = client.blockchain_info(LIMITS) else { panic!("{field}") };
        assert!(why.contains(field), "{field}: {why}");
    }
    for bad in [json!(null), json!([1]), json!("x"), json!([{"type": 1, "address": "x"}])] {
        let (_server, mut client) = conversation(&[Reply::Result(bad.clone())]);
        assert!(client.blockchain_info(LIMITS).is_err(), "{bad}");
        assert!(client.zmq_notifications(LIMITS).is_err(), "{bad}");
        assert!(client.best_hash(LIMITS).is_err(), "{bad}");
    }
    let (_server, mut client) = conversation(&[Reply::Result(json!({"a": 1}))]);
    let verdict = client.submit_block(&[0], LIMITS, &mut || {});
    assert!(matches!(verdict, Err(RpcError::Garbage(_))), "an object is no verdict: {verdict:?}");
}

/// The first block of the main chain, as its index tells of it.
fn genesis() -> Value {
    json!({
        "hash": "000000000019d6689c085ae165831e934ff763ae46a2a6c172b3f1b60a8ce26f",
        "confirmations": 3, "height": 0, "version": 1,
        "merkleroot": "4a5e1e4baab89f3a32518a88c31bc87f618f76673e2cc77ab2127b7afdeda33b",
        "time": 1_231_006_505, "mediantime": 1_231_006_505, "nonce": 2_083_236_893_u32,
        "bits": "1d00ffff"
    })
}

#[test]
fn a_header_must_hash_to_what_it_was_asked_by() {
    let mut hash = [0; 32];
    let text = genesis()["hash"].as_str().expect("a text").to_owned();
    wire::hex::decode_into(&text, &mut hash).expect("hex");
    hash.reverse();
    let hash = Hash256(hash);
    let (server, mut client) = conversation(&[Reply::Result(genesis())]);
    let header = client.header(&hash, LIMITS).expect("an answer").expect("a header");
    assert_eq!((header.height, header.confirmations, header.time), (0, 3, 1_231_006_505));
    assert_eq!((header.prev_hash, header.bits), (Hash256::ZERO, 0x1d00_ffff));
    assert_eq!(server.request().body["params"], json!([text, true]));
    for (field, value) in [
        ("time", json!(1_231_006_506)),
        ("bits", json!("1d00fffe")),
        ("bits", json!("1d00ff")),
        ("bits", json!("1d00fffff")),
        ("nonce", json!(-1)),
        ("version", json!("1")),
        ("previousblockhash", json!("11".repeat(32))),
        ("previousblockhash", json!(5)),
        ("height", json!(-1)),
        ("mediantime", json!(null)),
    ] {
        let mut bad = genesis();
        bad[field] = value.clone();
        let (_server, mut client) = conversation(&[Reply::Result(bad)]);
        let result = client.header(&hash, LIMITS);
        assert!(matches!(result, Err(RpcError::Garbage(_))), "{field} {value}: {result:?}");
    }
    let (_server, mut client) = conversation(&[Reply::Http(500, error(-5))]);
    assert_eq!(client.header_of(&hash, LIMITS), Ok(None));
}

#[test]
fn a_node_is_asked_whether_its_wait_begins_at_a_tip() {
    let known = Hash256([0x11; 32]);
    let new = "22".repeat(32);
    let wait = Reply::Result(json!({"hash": new, "height": 9}));
    let patience = Duration::from_secs(2);

    let help = Reply::Result(json!("waitfornewblock ( timeout \"current_tip\" )"));
    let (server, mut client) = conversation(&[help, wait.clone()]);
    let seen = client.wait_new_block(&known, patience, LIMITS).expect("a tip");
    assert!(seen.is_new && seen.hash == Hash256([0x22; 32]));
    assert_eq!(server.request().body["params"], json!(["waitfornewblock"]));
    assert_eq!(server.request().body["params"], json!([2_000, "11".repeat(32)]));

    // An old one: the tip is looked at before, and the wait is short.
    let help = Reply::Result(json!("waitfornewblock ( timeout )"));
    let same = Reply::Result(json!("11".repeat(32)));
    let (server, mut client) = conversation(&[help, same.clone(), wait]);
    assert!(client.wait_new_block(&known, patience, LIMITS).expect("a tip").is_new);
    server.request();
    assert_eq!(server.request().body["method"], "getbestblockhash");
    let millis = server.request().body["params"][0].as_u64().expect("a time");
    assert!((1..=1_000).contains(&millis), "{millis}");

    // None at all: the tip is looked at now and then.
    let help = Reply::Result(json!("help: unknown command: waitfornewblock"));
    let changed = Reply::Result(json!(new));
    let (_server, mut client) = conversation(&[help, same.clone(), changed]);
    assert!(client.wait_new_block(&known, patience, LIMITS).expect("a tip").is_new);
    let help = Reply::Result(json!("help: unknown command: waitfornewblock"));
    let (_server, mut client) = conversation(&[help, same]);
    let short = Duration::from_millis(20);
    assert!(!client.wait_new_block(&known, short, LIMITS).expect("a tip").is_new);
}

#[test]
fn a_template_is_asked_for_with_the_rules_and_the_id_of_the_last() {
    let (server, mut client) = conversation(&[Reply::Result(json!({"height": 1}))]);
    let answer = client.template(Some("a\"b"), LIMITS).expect("an answer");
    assert_eq!(answer.json(), "{\"height\":1}");
    let request = &server.request().body["params"][0];
    assert_eq!(request["rules"], json!(["segwit"]));
    assert_eq!(request["longpollid"], "a\"b");
    assert!(client.template(None, LIMITS).is_ok());
    assert!(server.request().body["params"][0].get("longpollid").is_none());
    assert!(matches!(client.propose(&[1, 2], LIMITS), Err(RpcError::Garbage(_))), "no verdict");
    let request = &server.request().body["params"][0];
    assert_eq!((&request["mode"], &request["data"]), (&json!("proposal"), &json!("0102")));
}

/// A folder that is removed at the end.
struct Folder(PathBuf);

impl Folder {
    fn new(name: &str) -> Folder {
        let name = format!("headframe-rpc-{name}-{}", std::process::id());
        let path = std::env::temp_dir().join(name);
        fs::create_dir_all(&path).expect("a folder");
        Folder(path)
    }
}

impl Drop for Folder {
    fn drop(&mut self) {
        // Nothing depends on it.
        let _ = fs::remove_dir_all(&self.0);
    }
}
