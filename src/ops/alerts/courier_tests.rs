//! Deliveries to receivers that are real and behave badly: servers on loopback, programs.

use std::fs::{self, Permissions};
use std::io::{BufRead, BufReader, Read};
use std::net::{SocketAddr, TcpListener};
use std::os::unix::fs::PermissionsExt;
use std::thread::JoinHandle;

use tempfile::TempDir;

use super::*;

/// No test waits for it, unless something hangs.
const LONG: Duration = Duration::from_secs(60);
const SHORT: Duration = Duration::from_millis(200);

/// Answers one request with `answer` after `hold`, and gives what it was sent.
fn server(answer: &'static str, hold: Option<Duration>) -> (SocketAddr, JoinHandle<String>) {
    let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
    let address = listener.local_addr().expect("bound");
    let served = std::thread::spawn(move || {
        let (stream, _) = listener.accept().expect("a client");
        let mut reader = BufReader::new(&stream);
        let mut said = String::new();
        let mut length = 0;
        loop {
            let start = said.len();
            reader.read_line(&mut said).expect("a head");
            let line = said[start..].trim_end().to_ascii_lowercase();
            if let Some(value) = line.strip_prefix("content-length: ") {
                length = value.parse().expect("a number");
            }
            if line.is_empty() {
                break;
            }
        }
        let mut body = vec![0; length];
        reader.read_exact(&mut body).expect("a body");
        said.push_str(&String::from_utf8(body).expect("text"));
        match hold {
            // Until the client gives up.
            Some(limit) => {
                stream.set_read_timeout(Some(limit)).expect("set");
                let _ = (&stream).read(&mut [0]);
            }
            None => (&stream).write_all(answer.as_bytes()).expect("sent"),
        }
        said
    });
    (address, served)
}

fn send(url: String, limit: Duration) -> Result<(), Fault> {
    let Deliver::Webhook(agent, webhook) = Deliver::webhook(Webhook::of(url)) else {
        unreachable!("it was made one")
    };
    post(&agent, &webhook, "{\"id\":1}", limit)
}

#[test]
fn a_webhook_gets_a_post_of_json_with_its_login() {
    let (address, served) = server("HTTP/1.1 204 No Content\r\n\r\n", None);
    assert_eq!(send(format!("http://me:hunter2@{address}/hook?token=x"), LONG), Ok(()));
    let said = served.join().expect("served").to_ascii_lowercase();
    assert!(said.starts_with("post /hook?token=x http/1.1\r\n"), "{said}");
    assert!(said.contains("content-type: application/json\r\n"), "{said}");
    // me:hunter2
    assert!(said.contains("authorization: basic bwu6ahvudgvymg=="), "{said}");
    assert!(said.ends_with("\r\n\r\n{\"id\":1}"), "{said}");
}

#[test]
fn what_a_webhook_answers_decides_whether_it_is_tried_again() {
    for (answer, again) in [
        ("HTTP/1.1 500 No\r\n\r\n", true),
        ("HTTP/1.1 429 No\r\n\r\n", true),
        ("HTTP/1.1 404 No\r\n\r\n", false),
        ("HTTP/1.1 302 Go\r\nLocation: http://127.0.0.1:1/\r\n\r\n", false),
        ("what?\r\n\r\n", true),
    ] {
        let (address, served) = server(answer, None);
        let url = format!("http://me:hunter2@{address}/token");
        let fault = send(url, LONG).expect_err(answer);
        assert_eq!(fault.again, again, "{answer}: {fault}");
        assert!(!fault.why.contains("hunter2") && !fault.why.contains("token"), "{fault}");
        served.join().expect("served");
    }
}

#[test]
fn a_webhook_that_hangs_or_is_gone_is_a_passing_fault() {
    let (address, served) = server("", Some(LONG));
    let fault = send(format!("http://{address}/"), SHORT).expect_err("it hangs");
    assert!(fault.again && fault.why.contains("took longer"), "{fault}");
    served.join().expect("the client has let it go");
    // Nobody listens on port 1.
    let fault = send("http://127.0.0.1:1/token".to_owned(), LONG).expect_err("nobody is there");
    assert!(fault.again && !fault.why.contains("token"), "{fault}");
}

fn script(text: &str) -> (TempDir, PathBuf) {
    let folder = tempfile::tempdir().expect("a folder");
    let path = folder.path().join("on-alert");
    fs::write(&path, format!("#!/bin/sh\ncd \"${{0%/*}}\"\n{text}\n")).expect("written");
    fs::set_permissions(&path, Permissions::from_mode(0o755)).expect("set");
    (folder, path)
}

#[test]
fn a_command_gets_the_alert_on_its_standard_input() {
    let (folder, path) = script("cat > got; echo \"$HEADFRAME_ALERT\" > kind");
    assert_eq!(run(&path, "block", "{\"id\":1}", LONG), Ok(()));
    let read = |name| fs::read_to_string(folder.path().join(name)).expect("written");
    assert_eq!((read("got").as_str(), read("kind").as_str()), ("{\"id\":1}", "block\n"));
}

#[test]
fn a_command_that_fails_is_tried_again() {
    for (text, why) in [("exit 3", "code 3"), ("kill -TERM $$", "signal")] {
        let (_folder, path) = script(text);
        let fault = run(&path, "block", "{}", LONG).expect_err(text);
        assert!(fault.again && fault.why.contains(why), "{fault}");
    }
    let fault = run(&"/nowhere/at-all".into(), "block", "{}", LONG).expect_err("there is none");
    assert!(fault.why.contains("cannot be started"), "{fault}");
}

#[test]
fn a_command_that_hangs_is_killed_with_what_it_started() {
    let (folder, path) = script("sh -c 'echo $$ > child; exec sleep 600' & echo $$ > self; wait");
    let limit = Duration::from_secs(1);
    let fault = run(&path, "block", "{}", limit).expect_err("it hangs");
    assert!(fault.why.contains("was killed"), "{fault}");
    let gone = |name: &str| {
        let pid = fs::read_to_string(folder.path().join(name)).expect("written in a second");
        let stat = fs::read_to_string(format!("/proc/{}/stat", pid.trim())).unwrap_or_default();
        // Whoever inherits a dead grandchild may take a moment to bury it.
        stat.is_empty() || stat.contains(") Z ")
    };
    let end = Instant::now() + LONG;
    while !(gone("self") && gone("child")) {
        assert!(Instant::now() < end, "it lives on");
    }
}

#[test]
fn a_command_that_floods_its_output_or_reads_nothing_is_not_noticed() {
    let (_folder, path) = script("exec head -c 100000000 /dev/zero");
    assert_eq!(run(&path, "block", &"x".repeat(60_000), LONG), Ok(()));
}

#[test]
fn a_try_that_failed_is_repeated_until_the_end_is_asked_for() {
    let way = Way::new("command", Instant::now());
    let calls = std::cell::Cell::new(0);
    let once = || {
        calls.set(calls.get() + 1);
        match calls.get() {
            1 => Err(Fault::passing("not yet")),
            _ => Ok(()),
        }
    };
    assert_eq!(tries(&way, once), Ok(()));
    assert_eq!(calls.get(), 2);
    way.end(Instant::now() + LONG);
    calls.set(0);
    assert!(tries(&way, once).is_err());
    assert_eq!(calls.get(), 1, "no second try at the end");
}
