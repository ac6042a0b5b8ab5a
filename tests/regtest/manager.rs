//! A service manager as small as can be, for one daemon: it hears what the daemon says on its
//! socket, keeps the descriptors that it is given, and passes them to the next process as systemd
//! does: from number 3 on, told of in LISTEN_PID, LISTEN_FDS and LISTEN_FDNAMES.

use std::io::IoSliceMut;
use std::mem::MaybeUninit;
use std::os::fd::{AsRawFd, OwnedFd};
use std::os::unix::net::UnixDatagram;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::mpsc::{Receiver, Sender, channel};
use std::sync::{Arc, Mutex, MutexGuard};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use rustix::fs::fstat;
use rustix::io::{FdFlags, fcntl_dupfd_cloexec, fcntl_setfd};
use rustix::net::{RecvAncillaryBuffer, RecvAncillaryMessage, RecvFlags, recvmsg};

/// Puts the passed descriptors where the protocol wants them, and becomes the daemon. Its id is
/// the shell's.
const LAUNCH: &str = "ulimit -c 0; number=3
    for passed in $PASSED; do
        eval \"exec $number<&$passed $passed<&-\"
        number=$((number + 1))
    done
    unset PASSED
    LISTEN_PID=$$ WATCHDOG_PID=$$ exec \"$0\" run --config \"$1\"";
/// Above what the shell and the daemon's start number themselves.
const PASSED_FROM: i32 = 100;
/// Descriptors that are kept at most, of which the daemon is told.
pub const KEPT_MAX: usize = 8;
/// Nothing that a daemon says takes so long, unless it hangs.
const LIMIT: Duration = Duration::from_secs(120);
/// One datagram, and the descriptors that can come with it.
const DATAGRAM_BYTES: usize = 4_096;
/// Ends the thread that listens.
const END: &str = "END";
/// Tells apart what was said before.
const MARK: &str = "MARK";
/// One daemon is started at a time: until the shell runs, its descriptors are open to every child
/// of this process.
static STARTING: Mutex<()> = Mutex::new(());

/// Starts a process that no manager knows, and that inherits none of what they pass.
///
/// # Panics
/// If a start has panicked before.
pub fn alone<T>(start: impl FnOnce() -> T) -> T {
    let _starting = STARTING.lock().expect("nobody panicked");
    start()
}

/// What the daemon said in one datagram, and when it was heard.
#[derive(Debug)]
pub struct Told {
    /// When it was heard.
    pub at: Instant,
    /// Its lines, mostly `NAME=value`.
    pub lines: Vec<String>,
}

impl Told {
    /// Whether one of its lines is this.
    #[must_use]
    pub fn says(&self, line: &str) -> bool {
        self.lines.iter().any(|told| told == line)
    }

    /// The value of a variable that it names.
    #[must_use]
    pub fn value(&self, name: &str) -> Option<&str> {
        self.lines.iter().find_map(|line| line.strip_prefix(name)?.strip_prefix('='))
    }
}

/// The descriptors that are kept, by name.
type Store = Arc<Mutex<Vec<(String, OwnedFd)>>>;

/// The manager of one daemon. Its methods panic when the daemon says nothing for two minutes, or
/// the machine has no sockets: they are for tests and measurements.
#[derive(Debug)]
pub struct Manager {
    program: PathBuf,
    socket: PathBuf,
    store: Store,
    told: Receiver<Told>,
    thread: Option<JoinHandle<()>>,
}

impl Manager {
    /// The manager of a program, who listens on a socket at a path.
    ///
    /// # Panics
    /// As said above, and so do all others.
    #[must_use]
    pub fn new(program: &Path, socket: PathBuf) -> Manager {
        let program = program.to_owned();
        let heard = UnixDatagram::bind(&socket).expect("a socket");
        let (sender, told) = channel();
        let store = Store::default();
        let theirs = store.clone();
        let thread = Some(std::thread::spawn(move || listen(&heard, &sender, &theirs)));
        Manager { program, socket, store, told, thread }
    }

    /// Starts the daemon with everything that is kept; its standard error is piped.
    ///
    /// # Panics
    /// If there is no such program.
    #[must_use]
    pub fn start(&self, file: &Path) -> Child {
        let starting = STARTING.lock().expect("nobody panicked");
        let (names, passed): (Vec<String>, Vec<OwnedFd>) = self.passed().into_iter().unzip();
        let numbers: Vec<String> = passed.iter().map(|fd| fd.as_raw_fd().to_string()).collect();
        let mut command = Command::new("bash");
        command.args(["-c", LAUNCH]).arg(&self.program).arg(file).stderr(Stdio::piped());
        command.env("NOTIFY_SOCKET", &self.socket).env("WATCHDOG_USEC", "10000000");
        command.env("PASSED", numbers.join(" ")).env("FDSTORE", KEPT_MAX.to_string());
        if !names.is_empty() {
            command.env("LISTEN_FDS", names.len().to_string());
            command.env("LISTEN_FDNAMES", names.join(":"));
        }
        let daemon = command.spawn().expect("it runs");
        drop((passed, starting));
        daemon
    }

    /// Second handles that a child inherits.
    fn passed(&self) -> Vec<(String, OwnedFd)> {
        let copy = |(name, kept): &(String, OwnedFd)| {
            let copy = fcntl_dupfd_cloexec(kept, PASSED_FROM).expect("a number");
            fcntl_setfd(&copy, FdFlags::empty()).expect("it is open");
            (name.clone(), copy)
        };
        self.lock().iter().map(copy).collect()
    }

    fn lock(&self) -> MutexGuard<'_, Vec<(String, OwnedFd)>> {
        self.store.lock().expect("nobody panicked")
    }

    /// What is kept, by name.
    ///
    /// # Panics
    /// If a thread of it has panicked.
    pub fn kept(&self) -> Vec<String> {
        let mut names: Vec<String> = self.lock().iter().map(|(name, _)| name.clone()).collect();
        names.sort_unstable();
        names
    }

    /// Closes everything that is kept, as when a service is stopped for good.
    ///
    /// # Panics
    /// If a thread of it has panicked.
    pub fn forget_all(&self) {
        self.lock().clear();
    }

    /// The next thing that the daemon says.
    ///
    /// # Panics
    /// If it does not come.
    pub fn hear(&self) -> Told {
        self.told.recv_timeout(LIMIT).expect("it speaks in time")
    }

    /// Listens until the daemon says a line.
    ///
    /// # Panics
    /// If it does not come.
    pub fn hear_until(&self, line: &str) -> Told {
        let since = Instant::now();
        loop {
            let told = self.hear();
            if told.says(line) {
                return told;
            }
            assert!(since.elapsed() < LIMIT, "it never said {line:?}, last {told:?}");
        }
    }

    /// Everything that was said and not heard yet.
    ///
    /// # Panics
    /// If it does not come.
    pub fn rest(&self) -> Vec<Told> {
        // Datagrams keep their order.
        self.send(MARK);
        std::iter::from_fn(|| Some(self.hear()).filter(|told| !told.says(MARK))).collect()
    }

    fn send(&self, text: &str) {
        let sender = UnixDatagram::unbound().expect("a socket");
        sender.send_to(text.as_bytes(), &self.socket).expect("it is heard");
    }
}

impl Drop for Manager {
    fn drop(&mut self) {
        self.send(END);
        let ended = self.thread.take().map(JoinHandle::join);
        assert!(std::thread::panicking() || matches!(ended, Some(Ok(()))), "the manager failed");
    }
}

fn listen(socket: &UnixDatagram, told: &Sender<Told>, store: &Store) {
    loop {
        let (text, files) = receive(socket);
        if text == END {
            return;
        }
        let lines = text.lines().map(str::to_owned).collect();
        let new = Told { at: Instant::now(), lines };
        take(&new, files, &mut store.lock().expect("nobody panicked"));
        // Nobody listens any more when a test has failed.
        let _ = told.send(new);
    }
}

/// Keeps and forgets as systemd does. A barrier's descriptor is closed by being dropped.
fn take(told: &Told, files: Vec<OwnedFd>, store: &mut Vec<(String, OwnedFd)>) {
    let name = told.value("FDNAME").unwrap_or("stored");
    if told.says("FDSTOREREMOVE=1") {
        store.retain(|(kept, _)| kept != name);
    }
    if told.says("FDSTORE=1") {
        assert!(!name.contains(':') && name.is_ascii(), "{name:?} is no name");
        for file in files {
            let inode = |file: &OwnedFd| fstat(file).expect("a file").st_ino;
            let known = store.iter().any(|(_, kept)| inode(kept) == inode(&file));
            if !known && store.len() < KEPT_MAX {
                store.push((name.to_owned(), file));
            }
        }
    }
}

fn receive(socket: &UnixDatagram) -> (String, Vec<OwnedFd>) {
    let mut bytes = [0; DATAGRAM_BYTES];
    let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(16))];
    let mut control = RecvAncillaryBuffer::new(&mut space);
    let parts = &mut [IoSliceMut::new(&mut bytes)];
    let message = recvmsg(socket, parts, &mut control, RecvFlags::CMSG_CLOEXEC);
    let count = message.expect("a datagram").bytes;
    let mut files = Vec::new();
    for message in control.drain() {
        if let RecvAncillaryMessage::ScmRights(passed) = message {
            files.extend(passed);
        }
    }
    (String::from_utf8_lossy(&bytes[..count]).into_owned(), files)
}

/// What the kernel calls a process's limit of open files, raised to what it may be.
///
/// # Panics
/// If the kernel does not allow what it says it does.
pub fn raise_open_files() -> u64 {
    use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
    let maximum = getrlimit(Resource::Nofile).maximum;
    let all = Rlimit { current: maximum, maximum };
    setrlimit(Resource::Nofile, all).expect("as many as are allowed");
    maximum.unwrap_or(u64::MAX)
}
