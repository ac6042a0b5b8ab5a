//! The commands as a user meets them: the real binary, its exit codes, and what it says.

mod support;

#[path = "commands/check.rs"]
mod check;
#[path = "commands/nodes.rs"]
mod nodes;
#[path = "commands/secrets.rs"]
mod secrets;

use std::fs;
use std::io::{BufRead, BufReader, Read, Write};
use std::net::{TcpListener, TcpStream};
use std::os::unix::process::ExitStatusExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};
use std::sync::mpsc::channel;
use std::time::{Duration, Instant};

use support::{Daemon, HEADFRAME, Home, LIMIT, get};

#[test]
fn what_is_not_in_this_version_is_refused_by_name() {
    let rows: [(&[&str], &str); 7] = [
        (&["keys"], "keys is not in this version\n"),
        (&["conform", "--sv1", "x"], "conform is not in this version\n"),
        (&["generate", "dashboard"], "generate dashboard is not in this version\n"),
        (&["demo", "--declare"], "--declare is not in this version\n"),
        (&["demo", "--protocol", "sv2"], "--protocol sv2 is not in this version\n"),
        (&["demo", "--protocol", "both"], "--protocol both is not in this version\n"),
        (&["demo", "--protocol", "sv1", "--declare"], "--declare is not in this version\n"),
    ];
    for (arguments, wanted) in rows {
        let output = headframe(arguments);
        assert_eq!(code(&output), 64, "{arguments:?}");
        assert_eq!(errors(&output), wanted, "{arguments:?}");
    }
}

#[test]
fn usage_errors_are_64_and_help_is_none() {
    let rows: [(&[&str], i32); 8] = [
        (&[], 64),
        (&["bogus"], 64),
        (&["run", "--bogus"], 64),
        (&["demo", "--miners", "0"], 64),
        (&["demo", "--seconds", "soon"], 64),
        (&["generate", "completions", "cmd.exe"], 64),
        (&["--help"], 0),
        (&["demo", "--help"], 0),
    ];
    for (arguments, wanted) in rows {
        assert_eq!(code(&headframe(arguments)), wanted, "{arguments:?}");
    }
    let version = headframe(&["--version"]);
    assert_eq!(code(&version), 0);
    let prefix = concat!("headframe ", env!("CARGO_PKG_VERSION"), " (");
    assert!(text(&version).starts_with(prefix), "{}", text(&version));
}

#[test]
fn generated_texts_come_from_the_program_itself() {
    let man = headframe(&["generate", "man"]);
    assert_eq!(code(&man), 0);
    assert!(text(&man).contains(".TH headframe 1"), "{}", text(&man));
    for shell in ["bash", "zsh", "fish", "powershell", "elvish"] {
        let completions = headframe(&["generate", "completions", shell]);
        assert_eq!(code(&completions), 0, "{shell}");
        assert!(text(&completions).contains("headframe"), "{shell}");
    }
    let house = Home::new();
    let sample = text(&headframe(&["generate", "config"]));
    let (ports, state) = (["0.0.0.0:3333", "127.0.0.1:9332"], "# directory = ");
    let sample = ports.iter().fold(sample, |text, port| text.replace(port, "127.0.0.1:0"));
    let directory = format!("directory = {:?} #", house.path("state"));
    let output = house.check(&sample.replace(state, &directory));
    assert_eq!(code(&output), 0, "{}", errors(&output));
}

#[test]
fn the_packaged_sample_is_the_generated_one() {
    let packaged = concat!(env!("CARGO_MANIFEST_DIR"), "/systemd/headframe.toml");
    let packaged = fs::read_to_string(packaged).expect("it is in the tree");
    assert_eq!(packaged, text(&headframe(&["generate", "config"])));
}

#[test]
fn a_wrong_file_is_78_with_every_finding_for_run_and_check() {
    let house = Home::new();
    let file = house.write("[listen]\nadress = \"x\"\n[node]\nsimulated = true\n[pool]\n");
    for command in ["run", "check"] {
        let output = headframe(&[command, "--config", file.to_str().expect("a plain path")]);
        assert_eq!(code(&output), 78);
        let path = file.display();
        let wanted = format!(
            "{path}:2:1: unknown key \"adress\" in [listen]; did you mean \"address\"?\n\
             {path}:5:2: section [pool] is not in this version; remove the section\n"
        );
        assert_eq!(errors(&output), wanted);
    }
}

#[test]
fn without_a_file_the_searched_paths_are_named() {
    let house = Home::new();
    let output = Command::new(HEADFRAME).arg("run").current_dir(house.folder.path()).output();
    let output = output.expect("it runs");
    if Path::new("/etc/headframe/headframe.toml").exists() {
        return;
    }
    assert_eq!(code(&output), 78);
    let wanted = "looked for headframe.toml and /etc/headframe/headframe.toml; ";
    assert!(errors(&output).contains(wanted), "{}", errors(&output));
}

#[test]
fn a_small_limit_of_open_files_is_69_with_the_remedy() {
    let house = Home::new();
    let file = house.write(&house.config("[limits]\nconnections = 500\n"));
    for command in ["run", "check"] {
        let output = limited("ulimit -n 1400", command, &file);
        assert_eq!(code(&output), 69, "{}", errors(&output));
        let wanted = "open files are limited to 1400, but 500 connections need 1500; raise the \
                      limit (LimitNOFILE=1500 in the unit, `ulimit -n 1500` in a shell), or set \
                      [limits] connections to at most 400";
        assert!(errors(&output).contains(wanted), "{}", errors(&output));
    }
}

#[test]
fn little_locked_memory_is_69_with_the_remedy() {
    let house = Home::new();
    let file = house.write(&house.config(""));
    let output = limited("ulimit -l 64", "check", &file);
    assert_eq!(code(&output), 69, "{}", errors(&output));
    assert!(errors(&output).contains("LimitMEMLOCK=8M"), "{}", errors(&output));
}

#[test]
fn a_taken_port_is_69() {
    let holder = TcpListener::bind("127.0.0.1:0").expect("a free port");
    let taken = holder.local_addr().expect("bound").to_string();
    let house = Home::new();
    for section in ["listen", "http"] {
        let text = house.config("").replace(
            &format!("[{section}]\naddress = \"127.0.0.1:0\""),
            &format!("[{section}]\naddress = \"{taken}\""),
        );
        let file = house.write(&text);
        for command in ["run", "check"] {
            let output = headframe(&[command, "--config", file.to_str().expect("a plain path")]);
            assert_eq!(code(&output), 69, "{}", errors(&output));
            let wanted = format!("[{section}] address {taken} cannot be used: ");
            assert!(errors(&output).contains(&wanted), "{}", errors(&output));
            assert!(errors(&output).contains("another process listens there"));
        }
    }
}

#[test]
fn a_state_folder_that_cannot_be_is_69() {
    let house = Home::new();
    fs::write(house.path("state"), "a file stands in the way").expect("written");
    let file = house.write(&house.config(""));
    for command in ["run", "check"] {
        let output = headframe(&[command, "--config", file.to_str().expect("a plain path")]);
        assert_eq!(code(&output), 69, "{}", errors(&output));
        assert!(errors(&output).contains("cannot be written"), "{}", errors(&output));
    }
}

#[test]
fn one_run_per_state_folder_and_signals_are_obeyed() {
    let house = Home::new();
    let file = house.write(&house.config("[log]\nformat = \"json\"\n"));
    let mut daemon = Daemon::start(&file);
    let address = daemon.wait_for_address("pages are served here");
    assert!(get(&address, "/livez").contains("\"live\":true"));
    assert!(get(&address, "/metrics").contains("headframe_build_info"));
    daemon.until_ready(&address);

    let second = headframe(&["run", "--config", file.to_str().expect("a plain path")]);
    assert_eq!(code(&second), 69);
    let wanted = format!("is in use by process {}", daemon.child.id());
    assert!(errors(&second).contains(&wanted), "{}", errors(&second));
    let check = headframe(&["check", "--config", file.to_str().expect("a plain path")]);
    assert_eq!(code(&check), 0, "check works beside run: {}", errors(&check));

    daemon.signal("HUP");
    daemon.wait_for("SIGHUP: reloading the configuration is not in this version");
    daemon.signal("USR2");
    daemon.wait_for("SIGUSR2: upgrading in place is not in this version");
    assert!(get(&address, "/livez").contains("\"live\":true"), "it goes on");

    let asked = Instant::now();
    daemon.signal("TERM");
    assert_eq!(daemon.end(), Some(0));
    assert!(asked.elapsed() < Duration::from_secs(5), "{:?}", asked.elapsed());
    let again = Daemon::start(&file);
    drop(again);
}

#[test]
fn an_end_is_told_to_every_miner() {
    let (_house, mut daemon, address) = mined(Daemon::start);
    let mut miners: Vec<TcpStream> = (0..8).map(|_| at_work(&address)).collect();
    let asked = Instant::now();
    daemon.signal("TERM");
    for miner in &mut miners {
        let mut rest = Vec::new();
        miner.read_to_end(&mut rest).expect("its end, in order");
    }
    assert_eq!(daemon.end(), Some(0));
    assert!(asked.elapsed() < Duration::from_secs(5), "{:?}", asked.elapsed());
}

/// The exit status is then that of the signal itself, so that nobody takes it for a drained end.
#[test]
fn a_second_signal_ends_it_at_once_even_where_signals_are_ignored() {
    let (_house, daemon, address) = mined(Daemon::start);
    let signal = ended_by(daemon, &address);
    // Whoever started this test may ignore them too.
    let (interrupt, kill, terminate) = (2, 9, 15);
    assert!([interrupt, kill, terminate].contains(&signal), "{signal}");
    let (_house, daemon, address) = mined(|file| {
        let mut shell = Command::new("sh");
        shell.args(["-c", "trap '' INT TERM; exec \"$0\" run --config \"$1\"", HEADFRAME]);
        Daemon::of(shell.arg(file).stderr(Stdio::piped()).spawn().expect("it runs"))
    });
    assert_eq!(ended_by(daemon, &address), kill);
}

/// The number of the signal by which a daemon with a miner at work ends when it hears two.
fn ended_by(mut daemon: Daemon, address: &str) -> i32 {
    let _miner = at_work(address);
    // Stopped, it takes both signals at once when it goes on: no luck is needed to be in time.
    daemon.signal("STOP");
    while !is_stopped(daemon.child.id()) {
        std::thread::yield_now();
    }
    daemon.signal("TERM");
    daemon.signal("INT");
    let asked = Instant::now();
    daemon.signal("CONT");
    let status = daemon.child.wait().expect("its end");
    assert!(asked.elapsed() < Duration::from_secs(4), "{:?}", asked.elapsed());
    status.signal().unwrap_or_else(|| panic!("{status}"))
}

/// Whether every thread of a process has come to its stop: the signal alone is no proof.
fn is_stopped(pid: u32) -> bool {
    let tasks = fs::read_dir(format!("/proc/{pid}/task")).expect("it lives");
    tasks.flatten().all(|task| {
        let stat = fs::read_to_string(task.path().join("stat")).unwrap_or_default();
        stat.rsplit(") ").next().is_some_and(|rest| rest.starts_with('T'))
    })
}

/// A daemon with work, and where miners connect.
fn mined(start: impl Fn(&Path) -> Daemon) -> (Home, Daemon, String) {
    let house = Home::new();
    let file = house.write(&house.config("[log]\nformat = \"json\"\n"));
    let mut daemon = start(&file);
    let stratum = daemon.wait_for_address("miners connect here");
    let pages = daemon.wait_for_address("pages are served here");
    daemon.until_ready(&pages);
    (house, daemon, stratum)
}

/// A miner that has its first job.
fn at_work(address: &str) -> TcpStream {
    let stream = TcpStream::connect(address).expect("it listens");
    stream.set_read_timeout(Some(LIMIT)).expect("a time-out");
    let hello = "{\"id\":1,\"method\":\"mining.subscribe\",\"params\":[]}\n\
                 {\"id\":2,\"method\":\"mining.authorize\",\"params\":[\"farm.a\",\"x\"]}\n";
    (&stream).write_all(hello.as_bytes()).expect("sent");
    let mut lines = BufReader::new(&stream).lines();
    while !lines.next().expect("it goes on").expect("text").contains("\"method\":\"mining.notify\"")
    {
    }
    drop(lines);
    stream
}

#[test]
fn the_demo_finds_blocks_and_leaves_nothing_behind() {
    let house = Home::new();
    let output = house.demo(&["--miners", "4", "--seconds", "10"]);
    assert_eq!(code(&output), 0, "{}\n{}", text(&output), errors(&output));
    let out = text(&output);
    assert!(out.contains("see http://127.0.0.1:"), "{out}");
    let last = out.lines().last().expect("a summary");
    let figures = last.strip_prefix("demo: ").expect("the promised line").split(' ');
    let figures: Vec<(&str, u64)> = figures
        .map(|figure| figure.split_once('=').expect("name=value"))
        .map(|(name, value)| (name, value.parse().expect("a whole number")))
        .collect();
    let names: Vec<&str> = figures.iter().map(|(name, _)| *name).collect();
    assert_eq!(names, ["accepted", "rejected", "blocks", "p50_us", "p99_us"]);
    assert!(figures[0].1 >= 4 && figures[2].1 >= 1, "{last}");
    assert!(figures[3].1 > 0 && figures[4].1 >= figures[3].1, "{last}");
    assert_eq!(house.left_behind(), Vec::<PathBuf>::new());
}

#[test]
fn the_demo_as_json_is_one_object_and_an_interrupt_cleans_up() {
    let house = Home::new();
    let mut demo = house.command(&["demo", "--json", "--miners", "2", "--seconds", "600"]);
    let demo = demo.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().expect("it runs");
    let mut daemon = Daemon::of(demo);
    daemon.wait_for("see http://127.0.0.1:");
    daemon.wait_for("  2 miners  accepted ");
    assert_eq!(house.left_behind().len(), 1, "its state folder");
    daemon.signal("INT");
    let mut out = String::new();
    let stdout = daemon.child.stdout.as_mut().expect("piped");
    stdout.read_to_string(&mut out).expect("text");
    let object: serde_json::Value = serde_json::from_str(out.trim_end()).expect("one object");
    assert_eq!(object["miners"], 2);
    assert_eq!(object["unanswered"], 0);
    // Whether a block was found by then is luck; the exit code follows the object.
    let passed = object["passed"].as_bool().expect("a verdict");
    assert_eq!(daemon.end(), Some(i32::from(!passed)), "{object}");
    assert_eq!(house.left_behind(), Vec::<PathBuf>::new());
}

impl Home {
    fn check(&self, text: &str) -> Output {
        let file = self.write(text);
        headframe(&["check", "--config", file.to_str().expect("a plain path")])
    }

    fn command(&self, arguments: &[&str]) -> Command {
        let mut command = Command::new(HEADFRAME);
        command.args(arguments).env("TMPDIR", self.path("tmp"));
        command
    }

    fn demo(&self, arguments: &[&str]) -> Output {
        self.command(&["demo"]).args(arguments).output().expect("it runs")
    }

    fn left_behind(&self) -> Vec<PathBuf> {
        let entries = fs::read_dir(self.path("tmp")).expect("a folder");
        entries.flatten().map(|entry| entry.path()).collect()
    }
}

fn headframe(arguments: &[&str]) -> Output {
    within(Command::new(HEADFRAME).args(arguments))
}

/// Runs a command of headframe's in a shell that lowers a limit first.
fn limited(limit: &str, command: &str, file: &Path) -> Output {
    let script = format!("{limit} && exec \"$0\" \"$1\" --config \"$2\"");
    within(Command::new("sh").args(["-c", &script, HEADFRAME, command]).arg(file))
}

/// Ends what hangs, so that a test fails instead.
fn within(command: &mut Command) -> Output {
    let child = command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().expect("it runs");
    let id = child.id();
    let (sender, receiver) = channel();
    std::thread::spawn(move || sender.send(child.wait_with_output()));
    match receiver.recv_timeout(LIMIT) {
        Ok(output) => output.expect("its output"),
        Err(_) => {
            let _ = Command::new("kill").args(["-9", &id.to_string()]).status();
            panic!("{command:?} hangs")
        }
    }
}

fn code(output: &Output) -> i32 {
    output.status.code().expect("it ended by itself")
}

fn text(output: &Output) -> String {
    String::from_utf8(output.stdout.clone()).expect("text")
}

fn errors(output: &Output) -> String {
    String::from_utf8(output.stderr.clone()).expect("text")
}
