//! The daemon under the storm: a real `headframe run` with its defaults, and what its pages and the
//! kernel say of it.

use std::error::Error;
use std::fs::{self, File};
use std::io::{Read as _, Write as _};
use std::net::{SocketAddr, TcpStream};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::atomic::{AtomicU32, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use perf::process;
use perf::servers::{free_port, program, wait_ready};
use rustix::process::{Pid, Signal, kill_process};
use rustix::thread::{CpuSet, sched_setaffinity};

/// What the runner waits for comes sooner, unless it never comes.
const LIMIT: Duration = Duration::from_secs(150);
/// Between two glances.
const GLANCE: Duration = Duration::from_millis(20);
/// The core that the daemon has for itself.
const CORE: usize = 0;
/// The core of everybody else.
const CROWDS_CORE: usize = 1;

/// What of the file differs from row to row.
pub(crate) struct Setting {
    /// Seconds between new tips.
    pub(crate) tip_seconds: f64,
    /// The hardest difficulty; every hash is a share of the easiest one.
    pub(crate) difficulty_max: f64,
}

impl Setting {
    /// No tip comes, every hash is a share.
    pub(crate) const QUIET: Setting = Setting { tip_seconds: 3_600.0, difficulty_max: 1e-10 };
}

/// Memory that grew by no more within some seconds has stopped growing.
const STEADY_BYTES: u64 = 1 << 20;
const STEADY: Duration = Duration::from_secs(4);

/// Where one daemon after the other has its ports and its state.
pub(crate) struct Place {
    /// Where miners connect.
    pub(crate) address: SocketAddr,
    /// Its pages.
    pub(crate) http: SocketAddr,
    /// Its configuration.
    pub(crate) file: PathBuf,
    /// Removed in the end.
    pub(crate) folder: PathBuf,
}

impl Place {
    /// Free ports and an empty folder.
    pub(crate) fn new(setting: &Setting) -> Result<Place, Box<dyn Error>> {
        static NEXT: AtomicU32 = AtomicU32::new(0);
        let number = NEXT.fetch_add(1, Ordering::Relaxed);
        let name = format!("headframe-storms-{}-{number}", std::process::id());
        let folder = std::env::temp_dir().join(name);
        fs::create_dir_all(&folder)?;
        let address = SocketAddr::from(([127, 0, 0, 1], free_port()?));
        let http = SocketAddr::from(([127, 0, 0, 1], free_port()?));
        let Setting { tip_seconds, difficulty_max } = setting;
        let state = folder.join("state");
        // The limits are the defaults. The witnesses' two shares a second are what is wished, so
        // that no difficulty is ever announced to them.
        let text = format!(
            "[listen]\naddress = [\"{address}\"]\n[state]\ndirectory = {state:?}\n\
             [shards]\ncount = 1\n[difficulty]\nstart = 1e-10\nminimum = 1e-10\n\
             maximum = {difficulty_max:e}\nshares_per_minute = 120\n[node]\nsimulated = true\n\
             [node.simulation]\ndifficulty = 1e14\nblock_seconds = {tip_seconds}\n\
             spacing = \"fixed\"\ntransactions = 4000\n\
             [http]\naddress = \"{http}\"\n[log]\nlevel = \"warn\"\n"
        );
        let file = folder.join("headframe.toml");
        fs::write(&file, text)?;
        Ok(Place { address, http, file, folder })
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.folder);
    }
}

/// One process of the daemon.
pub(crate) struct Daemon {
    /// Where miners connect.
    pub(crate) address: SocketAddr,
    http: SocketAddr,
    process: Child,
}

impl Daemon {
    /// Starts one that no manager knows, and waits until it is ready.
    pub(crate) fn start(place: &Place) -> Result<Daemon, Box<dyn Error>> {
        let daemon = Daemon::begin(place)?;
        wait_ready(place.http)?;
        Ok(daemon)
    }

    /// Starts one and waits for nothing.
    pub(crate) fn begin(place: &Place) -> Result<Daemon, Box<dyn Error>> {
        let log = File::options().create(true).append(true).open(place.folder.join("log"))?;
        let mut command = Command::new(program("headframe"));
        command.args(["run".as_ref(), "--config".as_ref(), place.file.as_os_str()]);
        command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(log);
        let process = on_its_core(move || command.spawn())??;
        Ok(Daemon::of(place, process))
    }

    /// Takes over a process that somebody else has started.
    pub(crate) fn of(place: &Place, process: Child) -> Daemon {
        Daemon { address: place.address, http: place.http, process }
    }

    /// Sends a signal.
    pub(crate) fn signal(&self, signal: Signal) -> Result<(), Box<dyn Error>> {
        let pid = Pid::from_child(&self.process);
        Ok(kill_process(pid, signal)?)
    }

    /// Waits for its end; whether it was in order.
    pub(crate) fn end(&mut self) -> Result<bool, Box<dyn Error>> {
        Ok(self.process.wait()?.success())
    }

    /// One page, whole, and how long it took from the connect to its last byte.
    pub(crate) fn get(&self, path: &str) -> Result<(String, Duration), Box<dyn Error>> {
        let started = Instant::now();
        let mut stream = TcpStream::connect(self.http)?;
        stream.set_read_timeout(Some(LIMIT))?;
        write!(stream, "GET {path} HTTP/1.0\r\nHost: localhost\r\n\r\n")?;
        let mut answer = String::new();
        stream.read_to_string(&mut answer)?;
        let took = started.elapsed();
        let (head, body) = answer.split_once("\r\n\r\n").ok_or("no answer")?;
        match head.lines().next().is_some_and(|line| line.contains(" 200 ")) {
            true => Ok((body.to_owned(), took)),
            false => Err(format!("{path}: {head}").into()),
        }
    }

    /// The same as JSON.
    pub(crate) fn json(&self, path: &str) -> Result<serde_json::Value, Box<dyn Error>> {
        Ok(serde_json::from_str(&self.get(path)?.0)?)
    }

    /// The sum of a metric's samples whose line contains `label`.
    pub(crate) fn metric(&self, name: &str, label: &str) -> Result<u64, Box<dyn Error>> {
        Ok(sum(&self.get("/metrics")?.0, name, label))
    }

    /// Waits for something that its pages or the kernel show.
    pub(crate) fn until(
        &self,
        what: &str,
        mut come: impl FnMut(&Daemon) -> Result<bool, Box<dyn Error>>,
    ) -> Result<(), Box<dyn Error>> {
        let since = Instant::now();
        while !come(self)? {
            if since.elapsed() > LIMIT {
                return Err(format!("{what} did not come\n{}", self.get("/metrics")?.0).into());
            }
            thread::sleep(GLANCE);
        }
        Ok(())
    }

    /// Files and sockets that it holds.
    pub(crate) fn descriptors(&self) -> Result<usize, Box<dyn Error>> {
        Ok(fs::read_dir(format!("/proc/{}/fd", self.process.id()))?.count())
    }

    /// Its memory once that has stopped growing: before the oldest jobs go it does.
    pub(crate) fn steady_memory(&self) -> Result<u64, Box<dyn Error>> {
        let since = Instant::now();
        loop {
            let before = self.memory();
            thread::sleep(STEADY);
            let after = self.memory();
            if after <= before + STEADY_BYTES {
                return Ok(after);
            }
            if since.elapsed() > LIMIT {
                return Err("its memory grows for ever without a miner".into());
            }
        }
    }

    /// Memory of its own, in bytes.
    pub(crate) fn memory(&self) -> u64 {
        process::usage(self.process.id()).unwrap_or_default().anonymous_bytes
    }
}

impl Drop for Daemon {
    fn drop(&mut self) {
        // It may have ended already.
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}

/// The sum of a metric's samples on a page.
pub(crate) fn sum(page: &str, name: &str, label: &str) -> u64 {
    let named = |line: &&str| {
        line.strip_prefix(name).is_some_and(|rest| rest.starts_with(['{', ' ']))
            && line.contains(label)
    };
    let values = page.lines().filter(named).filter_map(|line| line.rsplit(' ').next());
    values.filter_map(|value| value.parse::<f64>().ok()).sum::<f64>() as u64
}

/// Why connections were closed, and how many for each reason.
pub(crate) fn closes(page: &str) -> String {
    let named = |line: &&str| line.starts_with("headframe_connections_closed_total{");
    let reasons = page.lines().filter(named).filter_map(|line| {
        let reason = line.split("reason=\"").nth(1)?.split('"').next()?;
        let count = line.rsplit(' ').next().filter(|count| *count != "0")?;
        Some(format!("{count} {reason}"))
    });
    reasons.collect::<Vec<_>>().join(", ")
}

/// Starts a process that inherits the daemon's core from this thread, which then goes back to that
/// of the crowds.
pub(crate) fn on_its_core<T>(start: impl FnOnce() -> T) -> Result<T, Box<dyn Error>> {
    pin(CORE)?;
    let started = start();
    pin_runner()?;
    Ok(started)
}

/// Keeps this thread off the daemon's core.
pub(crate) fn pin_runner() -> Result<(), Box<dyn Error>> {
    pin(CROWDS_CORE)
}

fn pin(core: usize) -> Result<(), Box<dyn Error>> {
    let mut cores = CpuSet::new();
    cores.set(core);
    Ok(sched_setaffinity(None, &cores)?)
}

/// Pages of the kernel that hold what sockets have not delivered, in bytes.
pub(crate) fn kernel_socket_bytes() -> u64 {
    let text = fs::read_to_string("/proc/net/sockstat").unwrap_or_default();
    let line = text.lines().find_map(|line| line.strip_prefix("TCP:")).unwrap_or_default();
    let pages = line.split(' ').skip_while(|word| *word != "mem").nth(1);
    pages.and_then(|pages| pages.parse::<u64>().ok()).unwrap_or(0) * 4_096
}

/// How often a listener's queue was full or dropped a connection, on this machine so far.
pub(crate) fn listen_drops() -> u64 {
    let text = fs::read_to_string("/proc/net/netstat").unwrap_or_default();
    let mut rows = text.lines().filter_map(|line| line.strip_prefix("TcpExt: "));
    let (Some(names), Some(values)) = (rows.next(), rows.next()) else { return 0 };
    let mut both = names.split(' ').zip(values.split(' '));
    let found = both.find(|(name, _)| *name == "ListenDrops");
    found.and_then(|(_, value)| value.parse().ok()).unwrap_or(0)
}

/// The folder that Place made, for a manager's socket.
pub(crate) fn notify_socket(folder: &Path) -> PathBuf {
    folder.join("notify")
}
