//! What this host must give: open files, locked memory, io_uring, cores, free ports, a clock.
//! `check` shows every finding; `run` refuses to start on a fault and logs the warnings. Nothing
//! here depends on /proc/sys, which a hardened unit does not see.

use std::io;
use std::net::{SocketAddr, TcpListener};
use std::path::Path;
use std::thread;
use std::time::{Duration, Instant};

use engine::{Placement, Pretend, UringError};
use rustix::fs::{Access, access};
use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
use rustix::thread::{CapabilitySet, capabilities};

use crate::config::{CONNECTIONS_DEFAULT, Config, FILES_BESIDE_CONNECTIONS, Spot};
use crate::finding::Finding;

/// glommio's executors refuse to start below this, whoever the user is.
const MEMLOCK_BYTES_MIN: u64 = 512 << 10;
/// What the rings of one shard lock, with the coordinator's part and something to spare: 1.5 MiB
/// were needed by one shard, 3 by two.
const MEMLOCK_BYTES_PER_SHARD: u64 = 2 << 20;
/// Fewer miners than this is no service; the limit of open files is then the fault.
const CONNECTIONS_USEFUL_MIN: u64 = 16;
/// What an administrator says about rings: 0 for all, 1 for a group, 2 for nobody. A hardened unit
/// may not see it.
const RINGS_DISABLED: &str = "/proc/sys/kernel/io_uring_disabled";
/// The rings of a process that was killed hold its listeners until the kernel has taken them down:
/// up to 100 ms were seen behind its end. Who holds a port for longer is another process.
const PORT_LIMIT: Duration = Duration::from_secs(2);
/// How often a port is tried meanwhile.
const PORT_RETRY_EVERY: Duration = Duration::from_millis(20);
/// Where time daemons say that the clock follows them.
const CLOCK_SIGNS: [&str; 4] = [
    "/run/systemd/timesync/synchronized",
    "/run/chrony/chronyd.pid",
    "/run/chronyd.pid",
    "/run/ntpd.pid",
];

/// Everything about limits, cores and the clock; ports and folders are asked separately.
pub fn findings(config: &Config) -> Vec<Finding> {
    let files = getrlimit(Resource::Nofile).maximum;
    let memory = getrlimit(Resource::Memlock).maximum;
    let mut found = Vec::new();
    let spot = Spot::of("limits", "connections");
    let few = connections(config.limits.connections, files).err();
    found.extend(few.map(|what| Finding::fault(spot, what)));
    found.extend(memlock(memory, shards_counted(config)));
    found.extend(rings(&Pretend::default()));
    found.extend(cores(config));
    found.extend(clock());
    found.extend(config.alerts.command.as_deref().and_then(command));
    found
}

/// Whether the command that hears of alerts can be run. It may come later, and miners mine without.
fn command(path: &Path) -> Option<Finding> {
    let runs = path.is_file() && access(path, Access::EXEC_OK).is_ok();
    let what = format!("{} cannot be run: no alert will get through", path.display());
    let remedy = "put the program there, readable and executable for the user that runs headframe";
    let spot = Spot::of("alerts", "command");
    (!runs).then(|| Finding::warning(spot, format!("{what}; {remedy}")))
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
    let spot = Spot::of("shards", "");
    match engine::probe(pretend) {
        Ok(capabilities) if capabilities.gather => None,
        Ok(_) => Some(Finding::warning(
            spot,
            "this kernel cannot let requests gather, so that each costs a little more; run Linux \
             6.12 or later",
        )),
        Err(error) => {
            let disabled = std::fs::read_to_string(RINGS_DISABLED).ok();
            let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
            Some(Finding::fault(spot, no_rings(&error, disabled.as_deref(), &status)))
        }
    }
}

/// Why there is no ring: switched off for the host, or filtered for this process, as far as it can
/// be seen from here; both look alike to whoever asks for one.
fn no_rings(error: &UringError, disabled: Option<&str>, status: &str) -> String {
    /// `Seccomp:` in a process's status: its system calls go through a filter.
    const FILTERED: &str = "2";
    let seccomp = status.lines().find_map(|line| line.strip_prefix("Seccomp:"));
    let filtered = seccomp.is_some_and(|mode| mode.trim() == FILTERED);
    match (error, disabled.map(str::trim)) {
        (UringError::Forbidden, Some("2")) => {
            "io_uring is disabled on this host; set `sysctl kernel.io_uring_disabled=0`, and put \
             it into /etc/sysctl.d so that it stays"
                .to_owned()
        }
        (UringError::Forbidden, Some("1")) if !filtered => {
            "io_uring is disabled for this user; set `sysctl kernel.io_uring_disabled=0`, or put \
             this user into the group of kernel.io_uring_group"
                .to_owned()
        }
        (UringError::Forbidden | UringError::Absent, _) if filtered => {
            "io_uring is filtered for this process (seccomp); let the container's profile, or \
             SystemCallFilter= of the unit, allow io_uring_setup, io_uring_enter and \
             io_uring_register"
                .to_owned()
        }
        _ => error.to_string(),
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

/// The shards whose locked memory the kernel counts: none of a user who may lock what they like.
fn shards_counted(config: &Config) -> usize {
    let may_lock =
        capabilities(None).is_ok_and(|sets| sets.effective.contains(CapabilitySet::IPC_LOCK));
    if may_lock {
        return 0;
    }
    // What is wrong with the cores is another finding.
    let placement = Placement::choose(config.shards.count, &config.shards.cores);
    placement.map_or(1, |placement| placement.shards.len())
}

/// Whether so many shards can have their rings.
fn memlock(maximum: Option<u64>, counted_shards: usize) -> Option<Finding> {
    let needed = (counted_shards as u64 * MEMLOCK_BYTES_PER_SHARD).max(MEMLOCK_BYTES_MIN);
    let bytes = maximum.filter(|bytes| *bytes < needed)?;
    // With room for those rings that count whole huge pages, four times what they need without.
    let mib = (needed >> 20).max(2) * 4;
    let kib = mib << 10;
    let what = format!(
        "locked memory is limited to {bytes} bytes, but the rings need {needed}; \
         raise it (LimitMEMLOCK={mib}M in the unit, `ulimit -l {kib}` in a shell)"
    );
    Some(Finding::fault(Spot::FILE, what))
}

fn cores(config: &Config) -> Vec<Finding> {
    let usable = engine::allowed_cores().unwrap_or_default();
    let foreign: Vec<_> =
        config.shards.cores.iter().filter(|core| !usable.contains(core)).collect();
    let mut found = Vec::new();
    if !foreign.is_empty() {
        let what = format!(
            "[shards] cores names {foreign:?}, but this process may use {usable:?}; name cores \
             among these, or widen CPUAffinity= or the cgroup"
        );
        found.push(Finding::fault(Spot::of("shards", "cores"), what));
    }
    if config.shards.count > usable.len() {
        let (count, cores) = (config.shards.count, usable.len());
        let what = format!("{count} shards share {cores} cores; one shard per core serves best");
        found.push(Finding::warning(Spot::of("shards", "count"), what));
    }
    found
}

fn clock() -> Option<Finding> {
    let synchronised = CLOCK_SIGNS.iter().any(|sign| Path::new(sign).exists());
    (!synchronised).then(|| {
        Finding::warning(
            Spot::FILE,
            "no time daemon says that the clock is synchronised, and blocks carry the time; run \
             systemd-timesyncd or chrony",
        )
    })
}

/// Waits until nobody listens on the fixed ports, for two seconds at most: a restart at once
/// finds those of the process before it still taken, and is not to fail by it. Who holds them
/// after that, [`ports`] says. What was `kept` for this process is not waited for.
pub fn await_ports(config: &Config, kept: &[SocketAddr]) {
    let until = Instant::now() + PORT_LIMIT;
    await_addresses(config, kept, || {
        thread::sleep(PORT_RETRY_EVERY);
        Instant::now() < until
    });
}

/// Tries the fixed ports until none is taken, or `pause` says that it has been long enough.
fn await_addresses(config: &Config, kept: &[SocketAddr], mut pause: impl FnMut() -> bool) {
    let taken = |address: SocketAddr| {
        let bound = TcpListener::bind(address);
        bound.is_err_and(|error| error.kind() == io::ErrorKind::AddrInUse)
    };
    while foreign(config, kept).any(|(_, address)| taken(address)) && pause() {}
}

/// Whether every fixed port can be listened on. What the headframe that runs as `own` listens on
/// is no fault: `check` must be usable beside it. Nor is what was `kept` for this process.
pub fn ports(config: &Config, own: Option<u32>, kept: &[SocketAddr]) -> Vec<Finding> {
    foreign(config, kept).filter_map(|(spot, address)| port(spot, address, own)).collect()
}

/// The addresses of the miners and of the pages, each with its place in the file, but those whose
/// ports were kept for this process: also by a wildcard, which holds the port of them all.
fn foreign(config: &Config, kept: &[SocketAddr]) -> impl Iterator<Item = (Spot, SocketAddr)> {
    let listen = config.listen.iter().enumerate().flat_map(|(table, listen)| {
        let spot = move |item| Spot { section: "listen", table, key: "address", item };
        listen.addresses.iter().enumerate().map(move |(item, address)| (spot(item), *address))
    });
    let all = listen.chain([(Spot::of("http", "address"), config.http)]);
    all.filter(|(_, address)| !kept.iter().any(|kept| kept.port() == address.port()))
}

fn port(spot: Spot, address: SocketAddr, own: Option<u32>) -> Option<Finding> {
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
    let section = spot.section;
    let what = format!("[{section}] address {address} cannot be used: {error}; {remedy}");
    Some(Finding::fault(spot, what))
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
    fn a_command_that_cannot_be_run_is_a_warning() {
        assert_eq!(command(Path::new("/bin/sh")), None);
        for path in ["/nowhere/on-alert", "/bin", "/etc/passwd"] {
            let found = command(Path::new(path)).expect(path);
            assert!(!found.is_fault() && found.what.contains(path), "{found:?}");
        }
    }

    #[test]
    fn open_files_bound_the_connections() {
        assert_eq!(connections(None, Some(1 << 20)), Ok(CONNECTIONS_DEFAULT));
        assert_eq!(connections(None, Some(51_000)), Ok(50_000));
        assert_eq!(connections(None, Some(20_000)), Ok(19_000), "fewer files, fewer miners");
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
        let finding = rings(&old(vec![Feature::MultishotReceive])).expect("no shard runs without");
        assert!(finding.is_fault() && finding.what.contains("multishot receive"), "{finding:?}");
        assert!(finding.what.contains("Linux 6.1"), "{finding:?}");
        let finding = rings(&old(vec![Feature::MinimumWait])).expect("it costs something");
        assert!(!finding.is_fault(), "{finding:?}");
        let eperm = rustix::io::Errno::PERM.raw_os_error();
        let forbidden = Pretend { setup_fails: Some(eperm), ..Pretend::default() };
        let finding = rings(&forbidden).expect("there is no ring");
        assert!(finding.is_fault() && finding.what.contains("io_uring is "), "{finding:?}");
    }

    #[test]
    fn disabled_and_filtered_rings_are_told_apart() {
        let told = |error, disabled, status| no_rings(&error, disabled, status);
        let (free, filtered) = ("Name:\tx\nSeccomp:\t0\n", "Seccomp:\t2\nSeccomp_filters:\t1\n");
        let forbidden = || UringError::Forbidden;
        assert!(
            told(forbidden(), Some("2\n"), filtered).starts_with("io_uring is disabled on this")
        );
        assert!(told(forbidden(), Some("1\n"), free).contains("kernel.io_uring_group"));
        for disabled in [Some("0\n"), None] {
            assert!(told(forbidden(), disabled, filtered).contains("SystemCallFilter="));
            assert!(told(UringError::Absent, disabled, filtered).contains("SystemCallFilter="));
        }
        assert!(told(forbidden(), None, free).contains("kernel.io_uring_disabled=0"));
        assert!(told(UringError::Absent, None, free).contains("Linux 6.1"));
        assert!(told(UringError::Files, Some("2"), filtered).contains("LimitNOFILE"));
    }

    #[test]
    fn little_locked_memory_is_a_fault() {
        assert_eq!(memlock(None, 16), None);
        assert_eq!(memlock(Some(512 << 10), 0), None, "not counted");
        assert_eq!(memlock(Some(8 << 20), 4), None);
        for (bytes, shards) in [(65_536, 0), (512 << 10, 1), (8 << 20, 5)] {
            let finding = memlock(Some(bytes), shards).expect("too little");
            assert!(finding.is_fault(), "{finding:?}");
            assert!(finding.what.contains(&format!("to {bytes} bytes")), "{finding:?}");
        }
    }

    #[test]
    fn a_taken_port_is_a_fault_unless_it_is_ours() {
        let holder = TcpListener::bind("127.0.0.1:0").expect("a free port");
        let address = holder.local_addr().expect("it is bound");
        let spot = Spot::of("listen", "address");
        let finding = port(spot, address, None).expect("the port is taken");
        assert!(finding.what.contains("another process listens there"), "{finding:?}");
        assert_eq!(port(spot, address, Some(std::process::id())), None);
        drop(holder);
        assert_eq!(port(spot, address, None), None);
    }

    #[test]
    fn ports_that_are_let_go_meanwhile_are_waited_for_and_others_are_not() {
        for section in ["listen", "http"] {
            let holder = TcpListener::bind("127.0.0.1:0").expect("a free port");
            let address = holder.local_addr().expect("it is bound");
            let other = if section == "listen" { "http" } else { "listen" };
            let text = format!(
                "[{section}]\naddress = \"{address}\"\n[{other}]\naddress = \"127.0.0.1:0\"\n\
                 [node]\nsimulated = true\n"
            );
            let (config, _) = Config::parse(Path::new("farm.toml"), &text).expect("a good file");
            await_addresses(&config, &[address], || panic!("what is kept is not waited for"));
            assert_eq!(ports(&config, None, &[address]), Vec::new());
            let mut pauses = 0;
            await_addresses(&config, &[], || {
                pauses += 1;
                pauses < 5
            });
            assert_eq!(
                (pauses, ports(&config, None, &[]).len()),
                (5, 1),
                "it is held all the time"
            );
            let (mut holder, mut pauses) = (Some(holder), 0);
            await_addresses(&config, &[], || {
                pauses += 1;
                if pauses == 3 {
                    holder = None;
                }
                true
            });
            assert_eq!((pauses, ports(&config, None, &[])), (3, Vec::new()));
        }
    }
}
