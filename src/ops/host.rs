//! What this host must give: open files, locked memory, io_uring, cores, free ports, a clock.
//! `check` shows every finding; `run` refuses to start on a fault and logs the warnings. Nothing
//! here reads /proc/sys, which a hardened unit does not see.

use std::fmt;
use std::io;
use std::net::{SocketAddr, TcpListener};
use std::path::Path;

use engine::Pretend;
use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};

use crate::config::{CONNECTIONS_DEFAULT, Config, FILES_BESIDE_CONNECTIONS};

/// glommio's executors refuse to start below this.
const MEMLOCK_BYTES_MIN: u64 = 512 * 1024;
/// Fewer miners than this is no service; the limit of open files is then the fault.
const CONNECTIONS_USEFUL_MIN: u64 = 16;
/// Where time daemons say that the clock follows them.
const CLOCK_SIGNS: [&str; 4] = [
    "/run/systemd/timesync/synchronized",
    "/run/chrony/chronyd.pid",
    "/run/chronyd.pid",
    "/run/ntpd.pid",
];

/// One thing that `check` has to say about the host.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Finding {
    /// `run` would not start.
    Fault(String),
    /// `run` starts all the same.
    Warning(String),
}

impl fmt::Display for Finding {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Finding::Fault(text) => write!(out, "host: {text}"),
            Finding::Warning(text) => write!(out, "host: warning: {text}"),
        }
    }
}

/// Everything about limits, cores and the clock; ports and folders are asked separately.
pub fn findings(config: &Config) -> Vec<Finding> {
    let files = getrlimit(Resource::Nofile).maximum;
    let memory = getrlimit(Resource::Memlock).maximum;
    let mut found = Vec::new();
    found.extend(connections(config.limits.connections, files).err().map(Finding::Fault));
    found.extend(memlock(memory));
    found.extend(rings(&Pretend::default()));
    found.extend(cores(config));
    found.extend(clock());
    found
}

/// How many miners may connect: what the file says, or what the limit of open files allows.
pub fn connections(configured: Option<usize>, files_max: Option<u64>) -> Result<usize, String> {
    let beside = FILES_BESIDE_CONNECTIONS as u64;
    let room = files_max.map_or(u64::MAX, |files| files.saturating_sub(beside));
    let wanted = configured.unwrap_or(CONNECTIONS_DEFAULT) as u64;
    let least = if configured.is_some() { wanted } else { CONNECTIONS_USEFUL_MIN };
    if room >= least {
        return Ok(wanted.min(room) as usize);
    }
    let files = files_max.unwrap_or_default();
    let needed = wanted + beside;
    let lower = match room {
        0 => String::new(),
        room => format!(", or set [limits] connections to at most {room}"),
    };
    Err(format!(
        "open files are limited to {files}, but {wanted} connections need {needed}; raise the \
         limit (LimitNOFILE={needed} in the unit, `ulimit -n {needed}` in a shell){lower}"
    ))
}

/// Whether the kernel gives the shards their rings, asked feature by feature.
fn rings(pretend: &Pretend) -> Option<Finding> {
    match engine::probe(pretend) {
        Ok(capabilities) if capabilities.gather => None,
        Ok(_) => Some(Finding::Warning(
            "this kernel cannot let requests gather (Linux 6.12): plain waits, a little dearer"
                .to_owned(),
        )),
        Err(error) => Some(Finding::Fault(error.to_string())),
    }
}

/// Raises the soft limits to the hard ones: the soft ones are small for old programs' sake.
pub fn raise_limits() -> io::Result<()> {
    for resource in [Resource::Nofile, Resource::Memlock] {
        let limit = getrlimit(resource);
        setrlimit(resource, Rlimit { current: limit.maximum, maximum: limit.maximum })?;
    }
    Ok(())
}

/// The hard limit of open files; none means no limit.
pub fn files_max() -> Option<u64> {
    getrlimit(Resource::Nofile).maximum
}

fn memlock(maximum: Option<u64>) -> Option<Finding> {
    let bytes = maximum.filter(|bytes| *bytes < MEMLOCK_BYTES_MIN)?;
    Some(Finding::Fault(format!(
        "locked memory is limited to {bytes} bytes, but an executor needs {MEMLOCK_BYTES_MIN}; \
         raise it (LimitMEMLOCK=64M in the unit, `ulimit -l 65536` in a shell)"
    )))
}

fn cores(config: &Config) -> Vec<Finding> {
    let usable = engine::allowed_cores().unwrap_or_default();
    let foreign: Vec<_> =
        config.shards.cores.iter().filter(|core| !usable.contains(core)).collect();
    let mut found = Vec::new();
    if !foreign.is_empty() {
        found.push(Finding::Fault(format!(
            "[shards] cores names {foreign:?}, but this process may use {usable:?}; name cores \
             among these, or widen CPUAffinity= or the cgroup"
        )));
    }
    if config.shards.count > usable.len() {
        found.push(Finding::Warning(format!(
            "{} shards share {} cores; one shard per core serves best",
            config.shards.count,
            usable.len()
        )));
    }
    found
}

fn clock() -> Option<Finding> {
    let synchronised = CLOCK_SIGNS.iter().any(|sign| Path::new(sign).exists());
    (!synchronised).then(|| {
        Finding::Warning(
            "no time daemon says that the clock is synchronised; blocks carry the time: run \
             systemd-timesyncd or chrony"
                .to_owned(),
        )
    })
}

/// Whether every fixed port can be listened on. What the headframe that runs as `own` listens on
/// is no fault: `check` must be usable beside it.
pub fn ports(config: &Config, own: Option<u32>) -> Vec<Finding> {
    let miners = config.listen.iter().flat_map(|listen| listen.addresses.iter());
    let all = miners.map(|address| ("[listen]", address)).chain([("[http]", &config.http)]);
    all.filter_map(|(section, address)| port(section, *address, own)).collect()
}

fn port(section: &str, address: SocketAddr, own: Option<u32>) -> Option<Finding> {
    let error = TcpListener::bind(address).err()?;
    let remedy = match error.kind() {
        io::ErrorKind::AddrInUse if own.is_some_and(|pid| listens(pid, address)) => return None,
        io::ErrorKind::AddrInUse => "another process listens there: stop it, or change the port",
        io::ErrorKind::AddrNotAvailable => "no interface has this address: use one that has",
        io::ErrorKind::PermissionDenied => {
            "use a port from 1024 on, or AmbientCapabilities=CAP_NET_BIND_SERVICE in the unit"
        }
        _ => "change the address",
    };
    let text = format!("{section} address {address} cannot be used: {error}; {remedy}");
    Some(Finding::Fault(text))
}

/// Whether process `pid` has a listening socket on the port of `address`, as far as can be seen.
/// What cannot be seen is believed to be so: the lock on the state folder already said that this
/// process is a headframe.
fn listens(pid: u32, address: SocketAddr) -> bool {
    let Ok(files) = std::fs::read_dir(format!("/proc/{pid}/fd")) else { return true };
    let held: Vec<String> = files
        .flatten()
        .filter_map(|file| std::fs::read_link(file.path()).ok())
        .map(|target| target.to_string_lossy().into_owned())
        .collect();
    listening_inodes(address.port()).iter().any(|inode| held.contains(&format!("socket:[{inode}]")))
}

/// The inodes of all sockets that listen on `port`, from the kernel's tables.
fn listening_inodes(port: u16) -> Vec<String> {
    let tables = ["/proc/net/tcp", "/proc/net/tcp6"];
    let text: String =
        tables.iter().filter_map(|table| std::fs::read_to_string(table).ok()).collect();
    let wanted = format!(":{port:04X}");
    text.lines()
        .filter_map(|line| {
            // Columns: number, local address, remote address, state (0A: LISTEN), … inode.
            let columns: Vec<&str> = line.split_whitespace().collect();
            let listening = columns.get(3) == Some(&"0A");
            let here = columns.get(1).is_some_and(|local| local.ends_with(&wanted));
            (listening && here).then(|| columns.get(9).map(|inode| (*inode).to_owned()))?
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use engine::Feature;

    use super::*;

    #[test]
    fn open_files_bound_the_connections() {
        assert_eq!(connections(None, Some(1 << 20)), Ok(CONNECTIONS_DEFAULT));
        assert_eq!(connections(None, Some(4_096)), Ok(3_096), "fewer files, fewer miners");
        assert_eq!(connections(Some(3_000), Some(4_000)), Ok(3_000));
        let error = connections(Some(3_001), Some(4_000)).expect_err("one too many");
        assert!(error.contains("limited to 4000"), "{error}");
        assert!(error.contains("LimitNOFILE=4001"), "{error}");
        assert!(error.contains("connections to at most 3000"), "{error}");
        let error = connections(None, Some(500)).expect_err("hardly any");
        assert!(!error.contains("at most"), "{error}");
        assert_eq!(connections(Some(7), None), Ok(7));
    }

    #[test]
    fn a_kernel_that_lacks_something_is_a_fault_and_named() {
        let old = |missing| Pretend { missing, ..Pretend::default() };
        let Some(Finding::Fault(text)) = rings(&old(vec![Feature::MultishotReceive])) else {
            panic!("no shard runs without it")
        };
        assert!(text.contains("multishot receive"), "{text}");
        assert!(text.contains("Linux 6.1"), "{text}");
        let finding = rings(&old(vec![Feature::MinimumWait]));
        assert!(matches!(finding, Some(Finding::Warning(_))), "{finding:?}");
        let eperm = rustix::io::Errno::PERM.raw_os_error();
        let forbidden = Pretend { setup_fails: Some(eperm), ..Pretend::default() };
        let Some(Finding::Fault(text)) = rings(&forbidden) else { panic!("there is no ring") };
        assert!(text.contains("kernel.io_uring_disabled=0"), "{text}");
    }

    #[test]
    fn little_locked_memory_is_a_fault() {
        assert_eq!(memlock(None), None);
        assert_eq!(memlock(Some(MEMLOCK_BYTES_MIN)), None);
        assert!(
            matches!(memlock(Some(65_536)), Some(Finding::Fault(text)) if text.contains("65536"))
        );
    }

    #[test]
    fn a_taken_port_is_a_fault_unless_it_is_ours() {
        let holder = TcpListener::bind("127.0.0.1:0").expect("a free port");
        let address = holder.local_addr().expect("it is bound");
        let Some(Finding::Fault(text)) = port("[listen]", address, None) else {
            panic!("the port is taken")
        };
        assert!(text.contains("another process listens there"), "{text}");
        assert_eq!(port("[listen]", address, Some(std::process::id())), None);
        drop(holder);
        assert_eq!(port("[listen]", address, None), None);
    }
}
