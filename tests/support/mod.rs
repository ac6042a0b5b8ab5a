//! What the tests of the real binary share: a folder with a configuration, a daemon that is told
//! what to do by signals, and its pages. No test is here, and no miner.

use std::fs;
use std::io::{BufRead, BufReader, Read, Write};
use std::net::TcpStream;
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStderr, Command, Stdio};
use std::time::{Duration, Instant};

use tempfile::TempDir;

pub(crate) const HEADFRAME: &str = env!("CARGO_BIN_EXE_headframe");
/// Nothing here takes so long, unless it hangs.
pub(crate) const LIMIT: Duration = Duration::from_secs(120);

/// A folder for one test: its file, its state, its temporary files.
pub(crate) struct Home {
    pub(crate) folder: TempDir,
}

impl Home {
    pub(crate) fn new() -> Home {
        let folder = tempfile::tempdir().expect("a folder");
        fs::create_dir(folder.path().join("tmp")).expect("a folder");
        Home { folder }
    }

    pub(crate) fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    /// A good file on free ports, with `more` at its end.
    pub(crate) fn config(&self, more: &str) -> String {
        format!(
            "[listen]\naddress = \"127.0.0.1:0\"\n[http]\naddress = \"127.0.0.1:0\"\n\
             [state]\ndirectory = {:?}\n[node]\nsimulated = true\n\
             [node.simulation]\ntransactions = 10\nstart_height = 110\n{more}",
            self.path("state"),
        )
    }

    pub(crate) fn write(&self, text: &str) -> PathBuf {
        let file = self.path("farm.toml");
        fs::write(&file, text).expect("written");
        file
    }
}

/// A process that runs until it is told to end, and what it says on standard error.
pub(crate) struct Daemon {
    pub(crate) child: Child,
    errors: BufReader<ChildStderr>,
}

impl Daemon {
    pub(crate) fn start(file: &Path) -> Daemon {
        let mut command = Command::new(HEADFRAME);
        command.arg("run").arg("--config").arg(file).stderr(Stdio::piped());
        Daemon::of(command.spawn().expect("it runs"))
    }

    pub(crate) fn of(mut child: Child) -> Daemon {
        let errors = BufReader::new(child.stderr.take().expect("piped"));
        Daemon { child, errors }
    }

    /// Reads on until a line contains `wanted`.
    pub(crate) fn wait_for(&mut self, wanted: &str) -> String {
        let mut said = String::new();
        loop {
            let start = said.len();
            let read = self.errors.read_line(&mut said).expect("text");
            assert!(read > 0, "it ended before {wanted:?}:\n{said}");
            if said[start..].contains(wanted) {
                return said[start..].to_owned();
            }
        }
    }

    /// Reads on, in JSON, until a line says `what` listens where; gives the address.
    pub(crate) fn wait_for_address(&mut self, what: &str) -> String {
        let line = self.wait_for(what);
        let rest = line.split("\"address\":\"").nth(1).and_then(|rest| rest.split('"').next());
        rest.expect("the log names the address").to_owned()
    }

    /// Asks until the pages say that miners can have work.
    pub(crate) fn until_ready(&mut self, address: &str) {
        let started = Instant::now();
        while !get(address, "/readyz").contains("\"ready\":true") {
            assert!(started.elapsed() < LIMIT, "{}", get(address, "/readyz"));
        }
    }

    pub(crate) fn signal(&self, name: &str) {
        let mut kill = Command::new("kill");
        kill.arg(format!("-{name}")).arg(self.child.id().to_string());
        assert!(kill.status().expect("kill runs").success());
    }

    /// Its exit code, once it has ended by itself.
    pub(crate) fn end(&mut self) -> Option<i32> {
        let mut rest = Vec::new();
        self.errors.read_to_end(&mut rest).expect("its end");
        self.child.wait().expect("its code").code()
    }
}

impl Drop for Daemon {
    fn drop(&mut self) {
        // It may have ended already.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

pub(crate) fn get(address: &str, path: &str) -> String {
    let mut stream = TcpStream::connect(address).expect("it listens");
    write!(stream, "GET {path} HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n").expect("sent");
    let mut answer = String::new();
    stream.read_to_string(&mut answer).expect("an answer");
    answer
}
