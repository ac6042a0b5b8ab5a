//! Listeners that outlive the process. While it runs, the service manager holds a second handle of
//! each (its fd store, by name); after a crash the next process gets them back, so that a miner's
//! SYN waits for it instead of being refused.
//!
//! ```text
//! start: what was kept ─┬─ a listener that is wanted and fits ──► adopted
//!                       └─ any other: forgotten by the manager, its waiting connections taken
//!                          over where the address stays, closed
//!        what is missing ──► made; all are given to the manager
//! ```
//!
//! A name says for which address and shard a socket is, so one that changed its meaning has
//! another name. Port 0 is another port with each start, so it is not kept.

use std::collections::BTreeMap;
use std::fmt;
use std::io;
use std::net::{SocketAddr, TcpListener};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::thread::sleep;
use std::time::{Duration, Instant};

use crate::config::{Listen, StartError};
use crate::fd;
use crate::listener::{adopt, bound_to, complete_group};

/// How long a port may still be taken by a listener that the manager was told to forget: it closes
/// in the background.
const FORGOTTEN_WITHIN: Duration = Duration::from_secs(1);
/// Between two looks whether such a port is free.
const LOOK_AGAIN: Duration = Duration::from_millis(5);
/// Waiting connections that are taken over from one superfluous listener: what its queue can hold,
/// and an end where somebody connects as fast as we take.
const WAITING_MAX: usize = 65_536;

/// Somebody who keeps listeners while no process of ours lives.
pub trait Keeper {
    /// Keeps a second handle of a socket under a name; to be told again is no fault.
    fn keep(&mut self, name: &str, socket: BorrowedFd<'_>);
    /// Forgets everything under these names, and has closed it on return, as far as can be known.
    fn forget(&mut self, names: &[String]);
}

/// Nobody keeps anything: a test, a demonstration, a shell.
#[derive(Debug, Clone, Copy)]
pub struct NoKeeper;

impl Keeper for NoKeeper {
    fn keep(&mut self, _: &str, _: BorrowedFd<'_>) {}
    fn forget(&mut self, _: &[String]) {}
}

/// What was kept for this process, by name.
#[derive(Default)]
pub struct Inherited(Vec<(String, OwnedFd)>);

impl Inherited {
    /// Takes what the service manager passed; to be called before this process opens anything.
    ///
    /// # Errors
    /// Where the environment speaks of descriptors that are not there: the manager's fault.
    pub fn take() -> io::Result<Inherited> {
        fd::passed_by_manager().map(Inherited)
    }

    /// Where its sockets are bound, so that nobody takes those ports for somebody else's.
    pub fn addresses(&self) -> Vec<SocketAddr> {
        self.0.iter().filter_map(|(_, socket)| bound_to(socket).ok()).collect()
    }
}

impl fmt::Debug for Inherited {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_list().entries(self.0.iter().map(|(name, _)| name)).finish()
    }
}

/// All listening sockets of the engine.
#[derive(Debug)]
pub(crate) struct Listeners {
    /// In the order of the configuration, with the ports that were taken.
    pub(crate) addresses: Vec<SocketAddr>,
    /// For each shard, one socket per address in their order.
    pub(crate) sockets: Vec<Vec<OwnedFd>>,
    /// Connections that waited at listeners that are no longer wanted, each with the place of its
    /// address.
    pub(crate) waiting: Vec<(usize, OwnedFd)>,
}

impl Listeners {
    /// Adopts what fits, makes what is missing, and has the keeper hold exactly that.
    pub(crate) fn open(
        listen: &[Listen],
        shards: usize,
        inherited: Inherited,
        keeper: &mut dyn Keeper,
    ) -> Result<Listeners, StartError> {
        if listen.is_empty() {
            return Err(StartError::NoListener);
        }
        let (groups, superfluous) = sort(listen, shards, inherited);
        let adopted = groups.iter().flatten().flatten().count();
        let (forgotten, waiting) = let_go(listen, superfluous, keeper);
        let patience = if forgotten > 0 { FORGOTTEN_WITHIN } else { Duration::ZERO };
        let until = Instant::now() + patience;
        let mut addresses = Vec::new();
        let mut sockets: Vec<Vec<OwnedFd>> = (0..shards).map(|_| Vec::new()).collect();
        for (place, group) in groups.into_iter().enumerate() {
            let (bound, group) = open_group(listen, place, group, until)?;
            addresses.push(bound);
            for (shard, socket) in group.into_iter().enumerate() {
                if listen[place].address.port() != 0 {
                    keeper.keep(&name(bound, shard), socket.as_fd());
                }
                sockets[shard].push(socket);
            }
        }
        if adopted + forgotten > 0 {
            let made = shards * listen.len() - adopted;
            let waited = waiting.len();
            tracing::info!(adopted, made, forgotten, waited, "listeners were kept for us");
        }
        Ok(Listeners { addresses, sockets, waiting })
    }
}

/// The sockets of each address, one place per shard.
type Groups = Vec<Vec<Option<OwnedFd>>>;

/// The sockets that can be used, each at its place, and the others.
fn sort(
    listen: &[Listen],
    shards: usize,
    inherited: Inherited,
) -> (Groups, Vec<(String, OwnedFd)>) {
    let mut groups: Groups = listen.iter().map(|_| (0..shards).map(|_| None).collect()).collect();
    let mut wanted = BTreeMap::new();
    for (place, listen) in listen.iter().enumerate() {
        wanted.extend((0..shards).map(|shard| (name(listen.address, shard), (place, shard))));
    }
    let mut superfluous = Vec::new();
    for (name, socket) in inherited.0 {
        let free = wanted.get(&name).filter(|(place, shard)| {
            let (address, dual_stack) = (listen[*place].address, dual_stack(listen, *place));
            groups[*place][*shard].is_none() && adopt(&socket, address, dual_stack)
        });
        match free {
            Some((place, shard)) => groups[*place][*shard] = Some(socket),
            None => superfluous.push((name, socket)),
        }
    }
    (groups, superfluous)
}

/// Has the keeper forget what is superfluous, then takes over the connections that wait there if
/// their address stays, and closes it. In this order, so that a connection which comes meanwhile
/// is taken too. The number of sockets, and the connections.
fn let_go(
    listen: &[Listen],
    superfluous: Vec<(String, OwnedFd)>,
    keeper: &mut dyn Keeper,
) -> (usize, Vec<(usize, OwnedFd)>) {
    let (names, sockets): (Vec<String>, Vec<OwnedFd>) = superfluous.into_iter().unzip();
    if !names.is_empty() {
        keeper.forget(&names);
    }
    let forgotten = sockets.len();
    let mut waiting = Vec::new();
    for socket in sockets {
        let Ok(address) = bound_to(&socket) else { continue };
        let Some(place) = listen.iter().position(|listen| listen.address == address) else {
            continue;
        };
        let listener = TcpListener::from(socket);
        if listener.set_nonblocking(true).is_err() {
            continue;
        }
        let come = std::iter::from_fn(|| listener.accept().ok()).take(WAITING_MAX);
        waiting.extend(come.map(|(connection, _)| (place, OwnedFd::from(connection))));
    }
    (forgotten, waiting)
}

/// Completes the group of one address. A port that is taken is waited for until `until`.
fn open_group(
    listen: &[Listen],
    place: usize,
    group: Vec<Option<OwnedFd>>,
    until: Instant,
) -> Result<(SocketAddr, Vec<OwnedFd>), StartError> {
    let (address, dual_stack) = (listen[place].address, dual_stack(listen, place));
    let copy = |socket: &Option<OwnedFd>| {
        let copied = socket.as_ref().map(OwnedFd::try_clone).transpose();
        copied.map_err(|error| StartError::Os { what: "duplicating a listener", error })
    };
    loop {
        let copies = group.iter().map(copy).collect::<Result<_, _>>()?;
        match complete_group(address, dual_stack, copies) {
            Err(StartError::PortTaken { .. }) if Instant::now() < until => sleep(LOOK_AGAIN),
            opened => return opened,
        }
    }
}

/// One wildcard for both families, unless IPv4 has a listener of its own on that port.
fn dual_stack(listen: &[Listen], place: usize) -> bool {
    let port = listen[place].address.port();
    let mut others = listen.iter().map(|other| other.address);
    !others.any(|other| other.is_ipv4() && other.port() == port)
}

/// What the manager calls a listener: it allows no colon.
fn name(address: SocketAddr, shard: usize) -> String {
    format!("stratum-{address}-{shard}").replace(':', "_")
}

#[cfg(test)]
mod tests {
    use std::io::Read;
    use std::net::TcpStream;

    use shard::AllowList;

    use super::*;

    /// The fd store of a service manager, in memory.
    #[derive(Default)]
    struct Store(Vec<(String, OwnedFd)>);

    impl Store {
        fn names(&self) -> Vec<&str> {
            let mut names: Vec<&str> = self.0.iter().map(|(name, _)| name.as_str()).collect();
            names.sort_unstable();
            names.dedup();
            names
        }

        fn passed(&self) -> Inherited {
            let copy = |(name, socket): &(String, OwnedFd)| {
                (name.clone(), socket.try_clone().expect("a second handle"))
            };
            Inherited(self.0.iter().map(copy).collect())
        }
    }

    impl Keeper for Store {
        fn keep(&mut self, name: &str, socket: BorrowedFd<'_>) {
            let inode = |socket: BorrowedFd<'_>| rustix::fs::fstat(socket).expect("a file").st_ino;
            if !self.0.iter().any(|(_, kept)| inode(kept.as_fd()) == inode(socket)) {
                let copy = socket.try_clone_to_owned().expect("a second handle");
                self.0.push((name.to_owned(), copy));
            }
        }

        fn forget(&mut self, names: &[String]) {
            self.0.retain(|(name, _)| !names.contains(name));
        }
    }

    fn listen(address: SocketAddr) -> Listen {
        Listen { address, allow: AllowList::private(), proxy_from: AllowList::none() }
    }

    /// A port that can be taken twice. Each test has addresses of its own, from which nobody
    /// connects, so that nobody else takes it in between.
    fn free(ip: &str) -> SocketAddr {
        let holder = TcpListener::bind((ip, 0)).expect("loopback has a free port");
        holder.local_addr().expect("it is bound")
    }

    fn open(listen: &[Listen], shards: usize, store: &mut Store) -> Listeners {
        let inherited = store.passed();
        Listeners::open(listen, shards, inherited, store).expect("the ports are ours")
    }

    /// Ends the listeners as a crash does, with connections in their queues.
    fn crash_with_waiting(listeners: Listeners, count: usize) -> Vec<TcpStream> {
        let address = listeners.addresses[0];
        let connect = |_| TcpStream::connect(address).expect("somebody listens");
        (0..count).map(connect).collect()
    }

    /// Everybody who waits at any of the sockets.
    fn accept_all(listeners: &Listeners) -> usize {
        let sockets = listeners.sockets.iter().flatten();
        let accept = |socket: &OwnedFd| {
            let listener = TcpListener::from(socket.try_clone().expect("a second handle"));
            listener.set_nonblocking(true).expect("it is a socket");
            std::iter::from_fn(|| listener.accept().ok()).count()
        };
        sockets.map(accept).sum()
    }

    #[test]
    fn whoever_waits_through_a_crash_is_served_by_the_next_life() {
        let (address, mut store) = (free("127.0.7.1"), Store::default());
        let first = open(&[listen(address)], 3, &mut store);
        assert_eq!(store.names().len(), 3);
        assert!(store.names().iter().all(|name| !name.contains(':')));
        let clients = crash_with_waiting(first, 30);
        assert!(TcpStream::connect(address).is_ok(), "nobody is refused in between");
        let second = open(&[listen(address)], 3, &mut store);
        assert_eq!((store.0.len(), second.waiting.len()), (3, 0));
        assert_eq!(accept_all(&second), clients.len() + 1);
    }

    #[test]
    fn fewer_shards_take_over_those_who_wait_and_close_the_rest() {
        let (address, mut store) = (free("127.0.7.2"), Store::default());
        let mut clients = crash_with_waiting(open(&[listen(address)], 4, &mut store), 60);
        let second = open(&[listen(address)], 2, &mut store);
        assert_eq!((store.0.len(), second.sockets.len()), (2, 2));
        assert!(!second.waiting.is_empty(), "some waited at what is gone");
        assert_eq!(second.waiting.len() + accept_all(&second), clients.len());
        drop(second);
        // Their other ends were closed in order, none was cut before.
        let end = |client: &mut TcpStream| client.read(&mut [0]).expect("its end, in order");
        assert!(clients.iter_mut().all(|client| end(client) == 0));
        let third = open(&[listen(address)], 5, &mut store);
        assert_eq!((store.0.len(), third.sockets.len()), (5, 5));
    }

    #[test]
    fn an_address_that_is_gone_is_closed_and_a_new_one_made() {
        let (stays, goes, comes) = (free("127.0.7.5"), free("127.0.7.6"), free("127.0.7.7"));
        let mut store = Store::default();
        drop(open(&[listen(stays), listen(goes)], 2, &mut store));
        assert!(TcpStream::connect(goes).is_ok(), "the store holds it");
        let second = open(&[listen(comes), listen(stays)], 2, &mut store);
        assert_eq!(second.addresses, [comes, stays]);
        let wanted = [name(stays, 0), name(stays, 1), name(comes, 0), name(comes, 1)];
        assert_eq!(store.names(), wanted);
        assert!(TcpStream::connect(goes).is_err(), "nobody listens there any more");
    }

    #[test]
    fn what_does_not_fit_its_name_is_replaced() {
        let (address, mut store) = (free("127.0.7.3"), Store::default());
        let alone = OwnedFd::from(TcpListener::bind(address).expect("it is free"));
        store.keep(&name(address, 0), alone.as_fd());
        let file = OwnedFd::from(std::fs::File::open("/dev/null").expect("it is there"));
        store.keep("somebody's", file.as_fd());
        drop((alone, file));
        let listeners = open(&[listen(address)], 2, &mut store);
        assert_eq!(store.names(), [name(address, 0), name(address, 1)]);
        assert!(adopt(&listeners.sockets[0][0], address, true));
    }

    #[test]
    fn two_under_one_name_become_one_that_is_served() {
        let (address, mut store) = (free("127.0.7.4"), Store::default());
        let first = open(&[listen(address)], 2, &mut store);
        store.0.iter_mut().for_each(|(kept, _)| *kept = name(address, 0));
        let clients = crash_with_waiting(first, 20);
        let second = open(&[listen(address)], 1, &mut store);
        assert_eq!((store.0.len(), store.names().len()), (1, 1));
        assert_eq!(second.waiting.len() + accept_all(&second), clients.len());
        assert!((0..20).all(|_| TcpStream::connect(address).is_ok()));
        assert_eq!(accept_all(&second), 20, "the store holds nothing that nobody serves");
    }

    #[test]
    fn any_port_is_not_kept() {
        let mut store = Store::default();
        open(&[listen("127.0.0.1:0".parse().expect("an address"))], 2, &mut store);
        assert_eq!(store.names(), Vec::<&str>::new());
    }

    #[test]
    fn a_wildcard_that_changed_its_families_is_made_anew() {
        let port = free("::1").port();
        let (all, four) = (format!("[::]:{port}"), format!("0.0.0.0:{port}"));
        let all = listen(all.parse().expect("an address"));
        let four = listen(four.parse().expect("an address"));
        let mut store = Store::default();
        drop(open(std::slice::from_ref(&all), 2, &mut store));
        let both = open(&[all, four], 2, &mut store);
        assert_eq!((store.0.len(), both.addresses.len()), (4, 2));
        assert!(TcpStream::connect(("127.0.0.1", port)).is_ok());
    }
}
