//! The service manager, as systemd is one: what it is told of this process, and what it keeps for
//! the next. Called on the ops thread by `run`; where there is no manager, nobody is told.
//!
//! ```text
//! FDSTORE=1 FDNAME=… for each listener ─► READY=1 STATUS=… ─► WATCHDOG=1 while all threads turn
//!   ─► STOPPING=1 ─► EXTEND_TIMEOUT_USEC=… STATUS=… while it drains
//! ```

use std::io::{self, Read};
use std::os::fd::{AsFd, BorrowedFd};
use std::os::unix::net::UnixStream;
use std::time::Duration;

use engine::Keeper;
use sd_notify::NotifyState;

use crate::view::{View, Work, hanging, work};

/// FileDescriptorStoreMax= of our unit, for managers that do not say theirs (systemd before 254).
const KEPT_MAX: usize = 64;
/// Where newer ones say it.
const KEPT_MAX_VARIABLE: &str = "FDSTORE";
/// Where a manager is, if there is one.
const SOCKET_VARIABLE: &str = "NOTIFY_SOCKET";
/// How long the manager may take to read what it was told before: it does nothing else then.
const BARRIER_LIMIT: Duration = Duration::from_secs(1);
/// While it drains, the process says more often than this that it goes on.
const DRAINING_US: u32 = 5_000_000;

/// The service manager of this process, if any.
#[derive(Debug)]
pub(crate) struct Manager {
    /// What it does not hear for so long has died.
    watchdog: Option<Duration>,
    /// What it was told last.
    status: String,
    /// It could not be told something, which was logged.
    is_deaf: bool,
    /// Sockets that it was asked to keep.
    kept: usize,
}

impl Manager {
    /// The manager that the environment names.
    pub(crate) fn found() -> Manager {
        let watchdog = sd_notify::watchdog_enabled();
        Manager { watchdog, status: String::new(), is_deaf: false, kept: 0 }
    }

    /// How often it wants to be told that all is well: twice within its patience, at least.
    pub(crate) fn look_every(&self) -> Duration {
        self.watchdog.map_or(Duration::MAX, |patience| patience / 2)
    }

    /// The farm listens, which says nothing about work.
    pub(crate) fn ready(&mut self, farm: &dyn View) {
        self.warn_of_a_small_store(std::env::var(KEPT_MAX_VARIABLE).ok().as_deref());
        let status = status_line(farm);
        self.tell(&[NotifyState::Ready, NotifyState::Status(&status)]);
        self.status = status;
    }

    /// The farm is looked at: its watchdog is fed where every thread turns, and a status that has
    /// changed is told.
    pub(crate) fn look(&mut self, farm: &dyn View) {
        if self.watchdog.is_some() && hanging(farm).is_empty() {
            self.tell(&[NotifyState::Watchdog]);
        }
        let status = status_line(farm);
        if status != self.status {
            self.tell(&[NotifyState::Status(&status)]);
            self.status = status;
        }
    }

    /// The process is about to end.
    pub(crate) fn stopping(&mut self) {
        self.tell(&[NotifyState::Stopping]);
    }

    /// It still drains.
    pub(crate) fn draining(&mut self, farm: &dyn View) {
        let status = format!("draining, {} connections are left", connections(farm));
        let extend = NotifyState::ExtendTimeoutUsec(DRAINING_US);
        self.tell(&[extend, NotifyState::Status(&status)]);
    }

    fn warn_of_a_small_store(&self, said: Option<&str>) {
        let max = said.and_then(|said| said.parse().ok()).unwrap_or(KEPT_MAX);
        if self.kept > max && std::env::var_os(SOCKET_VARIABLE).is_some() {
            tracing::warn!(
                "the service manager keeps {max} of {} listeners at most, so that a crash may \
                 refuse miners; set FileDescriptorStoreMax={} in the unit",
                self.kept,
                self.kept
            );
        }
    }

    fn tell(&mut self, states: &[NotifyState<'_>]) {
        self.heard(sd_notify::notify(states));
    }

    /// That the manager cannot be told is said once: it would be said every second.
    fn heard(&mut self, told: io::Result<()>) {
        let Err(error) = told else { return self.is_deaf = false };
        if !std::mem::replace(&mut self.is_deaf, true) {
            tracing::warn!("the service manager cannot be told: {error}");
        }
    }

    /// Waits until the manager has read everything so far: it then closes the descriptor that came
    /// with the question. One that does not know the question does the same.
    fn wait_until_read(&mut self) -> io::Result<()> {
        let (mut here, there) = UnixStream::pair()?;
        here.set_read_timeout(Some(BARRIER_LIMIT))?;
        sd_notify::notify_with_fds(&[NotifyState::Custom("BARRIER=1")], &[there.as_fd()])?;
        drop(there);
        here.read(&mut [0]).map(drop)
    }
}

impl Keeper for Manager {
    fn keep(&mut self, name: &str, socket: BorrowedFd<'_>) {
        self.kept += 1;
        let states = [NotifyState::FdStore, NotifyState::FdName(name)];
        self.heard(sd_notify::notify_with_fds(&states, &[socket]));
    }

    fn forget(&mut self, names: &[String]) {
        for name in names {
            self.tell(&[NotifyState::FdStoreRemove, NotifyState::FdName(name)]);
        }
        let read = self.wait_until_read();
        self.heard(read);
    }
}

/// One line for `systemctl status`: what hangs, else who mines on what.
fn status_line(farm: &dyn View) -> String {
    if let Some(first) = hanging(farm).first() {
        return first.to_string();
    }
    let work = match work(farm, &farm.status()) {
        Work::None => "no work from the node yet",
        Work::Current => "work is current",
        Work::Silent => "the node has fallen silent",
        Work::Unknown => "nobody knows about work",
    };
    format!("{} connections, {work}", connections(farm))
}

/// Connections that are open now, whatever they are at.
fn connections(farm: &dyn View) -> u64 {
    let open = |shard: &crate::view::ShardView| {
        let counters = &shard.counters;
        let mining = counters.miners_mining.value() + counters.miners_parked.value();
        mining + counters.miners_setup.value()
    };
    farm.shards().iter().map(open).sum()
}
