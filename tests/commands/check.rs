//! `check` as an operator meets it: broken files, each with the line, the fault and the remedy, and
//! nodes that are not as the file says. The files stand in `broken/`; each begins with what is to
//! be found, a line `#= line:column: text` for each finding.

use std::fs;
use std::io::{Read, Write};
use std::net::{IpAddr, Ipv4Addr, Shutdown, SocketAddr, TcpListener};
use std::path::{Path, PathBuf};
use std::process::{Command, Output};

use crate::support::{HEADFRAME, Home};

/// The issue asks for so many.
const BROKEN_MIN: usize = 30;
/// The first example of BIP173 on regtest, as an address of a network that may be mined here.
const PAYOUT: &str = "[payout]\naddress = \"bcrt1q6rhpng9evdsfnn833a4f4vej0asu6dk5srld6x\"\n";
/// Port 1, where nobody listens; a port that was free a moment ago may not be any more.
const NOBODY: SocketAddr = SocketAddr::new(IpAddr::V4(Ipv4Addr::LOCALHOST), 1);

#[test]
fn every_broken_file_is_refused_with_line_fault_and_remedy() {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/broken");
    let files: Vec<PathBuf> = fs::read_dir(folder)
        .expect("it is in the tree")
        .flatten()
        .map(|file| file.path())
        .collect();
    assert!(files.len() >= BROKEN_MIN, "{} files", files.len());
    for file in files {
        let text = fs::read_to_string(&file).expect("text");
        let wanted: Vec<&str> = text.lines().filter_map(|line| line.strip_prefix("#= ")).collect();
        assert!(!wanted.is_empty(), "{} does not say what is wrong", file.display());
        let home = Home::new();
        let output = check(&home, &text, &[]);
        let said = errors(&output);
        assert_eq!(output.status.code(), Some(78), "{}: {said}", file.display());
        assert_eq!(said.lines().count(), wanted.len(), "{}: {said}", file.display());
        for (line, wanted) in said.lines().zip(wanted) {
            let place = format!("{}:", home.path("farm.toml").display());
            let line = line.strip_prefix(&place).unwrap_or_else(|| panic!("{line}"));
            assert!(line.starts_with(wanted), "{}:\n{line}\n{wanted}", file.display());
            let remedy = line.rsplit("; ").next().filter(|remedy| remedy.len() < line.len());
            assert!(remedy.is_some_and(|remedy| !remedy.is_empty()), "{line} has no remedy");
            assert!(!line.contains("hunter2"), "a password is never repeated: {line}");
        }
    }
}

#[test]
fn a_good_file_is_0_and_shows_what_it_allows() {
    let home = Home::new();
    let output = check(&home, &home.config("[payout]\nsignature = \"/farm-7/\"\n"), &[]);
    assert_eq!(output.status.code(), Some(0), "{}", errors(&output));
    let said = String::from_utf8(output.stdout).expect("text");
    let script = "coinbase script: height 5 + tip 2 + extranonce1 4 + extranonce2 4 + \
                  signature 8 = 23 of 100 bytes";
    assert!(said.contains(script), "{said}");
    assert!(said.contains("own blocks       8           4           4 4294967295"), "{said}");
    assert!(said.lines().last().is_some_and(|last| last.starts_with("good: ")), "{said}");
}

#[test]
fn what_the_host_lacks_stands_where_the_file_asks_for_it() {
    let taken = TcpListener::bind("127.0.0.1:0").expect("a free port");
    let address = taken.local_addr().expect("bound");
    let home = Home::new();
    let text = home.config("").replacen("127.0.0.1:0", &address.to_string(), 1);
    let output = check(&home, &text, &[]);
    assert_eq!(output.status.code(), Some(69));
    let wanted = format!("{}:2:11: host: [listen] address ", home.path("farm.toml").display());
    assert!(errors(&output).lines().any(|line| line.starts_with(&wanted)), "{}", errors(&output));
}

#[test]
fn a_simulated_node_has_no_peers_to_ask() {
    let home = Home::new();
    let output = check(&home, &home.config(""), &["--peers"]);
    assert_eq!(output.status.code(), Some(0), "{}", errors(&output));
}

#[test]
fn a_node_that_is_not_there_is_69_with_the_line_and_the_remedy() {
    let home = Home::new();
    let cookie = home.path("cookie");
    fs::write(&cookie, "__cookie__:x").expect("written");
    let text = with_node(&home, NOBODY, &format!("cookie_file = {cookie:?}"));
    let output = check(&home, &text, &[]);
    assert_eq!(output.status.code(), Some(0), "run starts without: {}", errors(&output));
    let output = check(&home, &text, &["--peers"]);
    assert_eq!(output.status.code(), Some(69), "{}", errors(&output));
    let wanted = format!("farm.toml:8:7: {NOBODY}: the node cannot be reached: ");
    assert!(errors(&output).contains(&wanted), "{}", errors(&output));
    assert!(errors(&output).contains("; is bitcoind running"), "{}", errors(&output));
}

#[test]
fn a_node_that_refuses_the_password_is_69_and_says_so() {
    let home = Home::new();
    let listener = TcpListener::bind("127.0.0.1:0").expect("a free port");
    let address = listener.local_addr().expect("bound");
    std::thread::spawn(move || {
        for stream in listener.incoming() {
            let Ok(mut stream) = stream else { return };
            let mut request = [0; 4_096];
            // Whatever was asked; a peer that has gone needs no answer.
            let _ = stream.read(&mut request);
            let _ = stream.write_all(b"HTTP/1.1 401 Unauthorized\r\nContent-Length: 0\r\n\r\n");
            // A close before all was read would be a reset, which may overtake the answer.
            let _ = stream.shutdown(Shutdown::Write);
            let _ = std::io::copy(&mut stream, &mut std::io::sink());
        }
    });
    let text = with_node(&home, address, "user = \"me\"\npassword = \"hunter2\"");
    let output = check(&home, &text, &["--peers"]);
    assert_eq!(output.status.code(), Some(69), "{}", errors(&output));
    let wanted =
        format!("farm.toml:10:12: {address}: the node refuses our credentials (HTTP 401);");
    assert!(errors(&output).contains(&wanted), "{}", errors(&output));
    assert!(!errors(&output).contains("hunter2"), "{}", errors(&output));
}

#[test]
fn a_password_file_that_cannot_be_read_ends_run_too() {
    let home = Home::new();
    let address = SocketAddr::from(([127, 0, 0, 1], 9));
    let login = format!("user = \"me\"\npassword_file = {:?}", home.path("none"));
    let file = home.write(&with_node(&home, address, &login));
    for command in ["check", "run"] {
        let output = Command::new(HEADFRAME).arg(command).arg("--config").arg(&file).output();
        let output = output.expect("it runs");
        assert_eq!(output.status.code(), Some(69), "{command}: {}", errors(&output));
        let wanted = format!("farm.toml:10:17: {address}: the password file ");
        assert!(errors(&output).contains(&wanted), "{command}: {}", errors(&output));
    }
}

/// A regtest node at `address`; its `rpc` stands on line 8, the lines of `login` follow.
fn with_node(home: &Home, address: SocketAddr, login: &str) -> String {
    format!(
        "[listen]\naddress = \"127.0.0.1:0\"\n[http]\naddress = \"127.0.0.1:0\"\n\
         [state]\ndirectory = {:?}\n[node]\nrpc = \"http://{address}\"\n{login}\n\
         network = \"regtest\"\n{PAYOUT}",
        home.path("state"),
    )
}

fn check(home: &Home, text: &str, more: &[&str]) -> Output {
    let file = home.write(text);
    let mut command = Command::new(HEADFRAME);
    command.arg("check").arg("--config").arg(&file).args(more);
    command.output().expect("it runs")
}

fn errors(output: &Output) -> String {
    String::from_utf8(output.stderr.clone()).expect("text")
}
