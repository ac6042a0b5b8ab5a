//! No secret reaches a log: the real binary at its most talkative, with a node that asks for a
//! password and a miner that sends one, and its log searched for both in every spelling.

use std::io::{BufRead, BufReader, Read, Write};
use std::net::{TcpListener, TcpStream};
use std::path::Path;
use std::process::{Command, Stdio};
use std::sync::mpsc::{Receiver, channel};

use crate::support::{HEADFRAME, Home, LIMIT};

/// As text, as the header that carries it, and as a miner would send it.
const SECRETS: [&str; 4] = [
    "correct-horse-battery",
    // "rpcuser:correct-horse-battery" in base 64, without what padding would change.
    "cnBjdXNlcjpjb3JyZWN0LWhvcnNlLWJhdHRlcn",
    "miner-password-of-old",
    "session-id-of-before",
];

/// A node that reads one request after the other, and knows nobody. Each header goes to the test.
fn node_that_refuses() -> (String, Receiver<String>) {
    let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
    let address = listener.local_addr().expect("bound").to_string();
    let (sender, receiver) = channel();
    std::thread::spawn(move || {
        for stream in listener.incoming().flatten() {
            let sender = sender.clone();
            std::thread::spawn(move || {
                let mut head = String::new();
                let mut reader = BufReader::new(&stream);
                while !head.ends_with("\r\n\r\n") && reader.read_line(&mut head).unwrap_or(0) > 0 {}
                let answer = "HTTP/1.1 401 Unauthorized\r\nContent-Length: 0\r\n\
                              WWW-Authenticate: Basic realm=\"jsonrpc\"\r\n\
                              Connection: close\r\n\r\n";
                // Whoever asked may be gone, and the test at its end.
                let _ = (&stream).write_all(answer.as_bytes());
                let _ = sender.send(head);
            });
        }
    });
    (address, receiver)
}

#[test]
fn a_log_at_its_finest_holds_no_password() {
    for format in ["text", "json"] {
        let home = Home::new();
        let (node, heard) = node_that_refuses();
        let file = home.write(&format!(
            "[listen]\naddress = \"127.0.0.1:0\"\n[http]\naddress = \"127.0.0.1:0\"\n\
             [state]\ndirectory = {:?}\n[node]\nrpc = \"http://{node}\"\nnetwork = \"regtest\"\n\
             user = \"rpcuser\"\npassword = \"{}\"\n[payout]\nscript = \"51\"\n\
             [log]\nlevel = \"trace\"\nformat = \"{format}\"\n",
            home.path("state"),
            SECRETS[0],
        ));
        let log = logged(&file, |stratum| {
            let head = heard.recv_timeout(LIMIT).expect("the node is asked");
            assert!(head.contains(SECRETS[1]), "the secret is on the wire: {head}");
            mine(stratum);
        });
        assert!(log.contains("DEBUG") && log.contains("401"), "{format}: it says little:\n{log}");
        for secret in SECRETS {
            assert!(!log.contains(secret), "{format}: {secret} is in the log:\n{log}");
        }
    }
}

/// All that a daemon says, from its start until it is ended behind `meanwhile`.
fn logged(file: &Path, meanwhile: impl FnOnce(&str)) -> String {
    let mut command = Command::new(HEADFRAME);
    command.args(["run", "--config"]).arg(file).stderr(Stdio::piped());
    let mut child = command.spawn().expect("it runs");
    let mut errors = BufReader::new(child.stderr.take().expect("piped"));
    let (mut log, mut start) = (String::new(), 0);
    while !log[start..].contains("miners connect here") {
        start = log.len();
        let read = errors.read_line(&mut log).expect("text");
        assert!(read > 0, "it ended too early:\n{log}");
    }
    let at = start + log[start..].find("127.0.0.1:").expect("an address");
    let stratum = log[at..].split(|c: char| !c.is_ascii_digit() && !".:".contains(c)).next();
    meanwhile(stratum.expect("an address"));
    let kill = Command::new("kill").arg("-TERM").arg(child.id().to_string()).status();
    assert!(kill.expect("kill runs").success());
    errors.read_to_string(&mut log).expect("text");
    assert_eq!(child.wait().expect("its code").code(), Some(0), "{log}");
    log
}

/// A miner with a password and a session id of before, that then breaks the protocol.
fn mine(stratum: &str) {
    let mut stream = TcpStream::connect(stratum).expect("it listens");
    stream.set_read_timeout(Some(LIMIT)).expect("a time-out");
    let lines = format!(
        "{{\"id\":1,\"method\":\"mining.subscribe\",\"params\":[\"test/1\",\"{}\"]}}\n\
         {{\"id\":2,\"method\":\"mining.authorize\",\"params\":[\"farm.rig\",\"{}\"]}}\n\
         {{\"id\":3,\"method\":\"{}\"\n",
        SECRETS[3], SECRETS[2], SECRETS[2],
    );
    stream.write_all(lines.as_bytes()).expect("sent");
    // Read to its end: the broken line closes it.
    let mut answers = Vec::new();
    stream.read_to_end(&mut answers).expect("its end");
}
