//! Listening sockets: one per shard and address, in one SO_REUSEPORT group, so that the kernel
//! spreads the miners over the shards. Made by `kept.rs` before any thread runs, or adopted where
//! an earlier process made them.
//!
//! What is set here is inherited by every accepted socket.

use std::net::SocketAddr;
use std::os::fd::OwnedFd;
use std::time::Duration;

use rustix::io::Errno;
use rustix::net::{
    AddressFamily, SocketFlags, SocketType, bind, getsockname, listen, socket_with, sockopt,
};

use crate::StartError;

/// Idle time before a connection is probed: after a power cut, half-open sockets must not hold
/// descriptors and prefixes while the farm returns.
const KEEPALIVE_IDLE: Duration = Duration::from_secs(30);
/// Time between two probes.
const KEEPALIVE_INTERVAL: Duration = Duration::from_secs(10);
/// Unanswered probes that end a connection.
const KEEPALIVE_PROBES: u32 = 3;
/// Time for which sent bytes may stay unacknowledged, in ms: the same limit for those who are
/// being sent to.
const USER_TIMEOUT_MS: u32 = 45_000;
/// Bytes that the kernel holds for a reader; more only hides that it is slow.
const SEND_BUFFER_BYTES: usize = 64 << 10;
/// A share is one small packet: pacing it with a timer each (bbr, many systems' default) costs a
/// shard about 1 µs and gains nothing.
const CONGESTION_CONTROL: &str = "cubic";
/// As many waiting connections as the system allows (`net.core.somaxconn`): a farm comes at once.
const BACKLOG: i32 = i32::MAX;

/// Makes the sockets that a group still lacks, bound to its address. Port 0 takes a free port, the
/// same for all. The place of each socket is its shard.
///
/// # Errors
/// [`StartError::PortTaken`] if anybody listens there already, even with SO_REUSEPORT; where a part
/// of the group was adopted, that somebody is we ourselves, and the others join it.
pub(crate) fn complete_group(
    address: SocketAddr,
    dual_stack: bool,
    group: Vec<Option<OwnedFd>>,
) -> Result<(SocketAddr, Vec<OwnedFd>), StartError> {
    assert!(!group.is_empty(), "a shard listens");
    let failed = |errno: Errno| match errno {
        Errno::ADDRINUSE => StartError::PortTaken { address },
        other => StartError::Listen { address, error: other.into() },
    };
    let mut bound = group.iter().flatten().next().map(bound_to).transpose().map_err(failed)?;
    let mut whole = Vec::new();
    for adopted in group {
        let socket = match adopted {
            Some(socket) => socket,
            None => join(address, dual_stack, bound).map_err(failed)?,
        };
        bound = Some(bound_to(&socket).map_err(failed)?);
        whole.push(socket);
    }
    // Once all are bound, so that a group whose port is taken in part refuses nobody.
    for socket in &whole {
        listen(socket, BACKLOG).map_err(failed)?;
    }
    Ok((bound.unwrap_or(address), whole))
}

/// Whether a socket that an earlier process made can serve as a listener on `address`: it listens
/// there in a group, and takes every option that a new one has.
pub(crate) fn adopt(socket: &OwnedFd, address: SocketAddr, dual_stack: bool) -> bool {
    let fits = || {
        let listens = sockopt::socket_type(socket)? == SocketType::STREAM
            && sockopt::socket_acceptconn(socket)?
            && sockopt::socket_reuseport(socket)?;
        if !listens || bound_to(socket)? != address {
            return Ok(false);
        }
        if address.is_ipv6() && sockopt::ipv6_v6only(socket)? == dual_stack {
            return Ok(false);
        }
        set_inherited_options(socket)?;
        Ok::<bool, Errno>(true)
    };
    fits().unwrap_or(false)
}

/// The address of a socket.
pub(crate) fn bound_to(socket: &OwnedFd) -> Result<SocketAddr, Errno> {
    SocketAddr::try_from(getsockname(socket)?)
}

/// A new socket in the group that is bound already, or the first of one. Bound without
/// SO_REUSEPORT, the first fails where anybody listens; the option comes after, so that the others
/// can join it and no port is ever free in between.
fn join(
    address: SocketAddr,
    dual_stack: bool,
    bound: Option<SocketAddr>,
) -> Result<OwnedFd, Errno> {
    let socket = open(address, dual_stack)?;
    match bound {
        Some(bound) => {
            sockopt::set_socket_reuseport(&socket, true)?;
            bind(&socket, &bound)?;
        }
        None => {
            bind(&socket, &address)?;
            sockopt::set_socket_reuseport(&socket, true)?;
        }
    }
    Ok(socket)
}

fn open(address: SocketAddr, dual_stack: bool) -> Result<OwnedFd, Errno> {
    let family = if address.is_ipv4() { AddressFamily::INET } else { AddressFamily::INET6 };
    let socket = socket_with(family, SocketType::STREAM, SocketFlags::CLOEXEC, None)?;
    if address.is_ipv6() {
        sockopt::set_ipv6_v6only(&socket, !dual_stack)?;
    }
    // Without it a restart would wait for its former connections' TIME_WAIT.
    sockopt::set_socket_reuseaddr(&socket, true)?;
    set_inherited_options(&socket)?;
    Ok(socket)
}

/// What every accepted socket inherits.
fn set_inherited_options(socket: &OwnedFd) -> Result<(), Errno> {
    sockopt::set_tcp_nodelay(socket, true)?;
    sockopt::set_socket_keepalive(socket, true)?;
    sockopt::set_tcp_keepidle(socket, KEEPALIVE_IDLE)?;
    sockopt::set_tcp_keepintvl(socket, KEEPALIVE_INTERVAL)?;
    sockopt::set_tcp_keepcnt(socket, KEEPALIVE_PROBES)?;
    sockopt::set_tcp_user_timeout(socket, USER_TIMEOUT_MS)?;
    sockopt::set_socket_send_buffer_size(socket, SEND_BUFFER_BYTES)?;
    // A kernel without it has its own default, which serves too.
    if let Err(error) = sockopt::set_tcp_congestion(socket, CONGESTION_CONTROL) {
        tracing::debug!(%error, "the system's own congestion control is used");
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use std::net::{TcpListener, TcpStream};

    use super::*;

    const ANY_PORT: &str = "127.0.0.1:0";

    fn bind_group(
        address: SocketAddr,
        dual_stack: bool,
        count: usize,
    ) -> Result<(SocketAddr, Vec<OwnedFd>), StartError> {
        complete_group(address, dual_stack, (0..count).map(|_| None).collect())
    }

    fn any_port() -> SocketAddr {
        ANY_PORT.parse().expect("an address")
    }

    #[test]
    fn a_group_shares_one_port_and_its_sockets_inherit_the_options() {
        let (address, group) = bind_group(any_port(), false, 3).expect("loopback has a free port");
        assert_eq!(group.len(), 3);
        let listeners: Vec<TcpListener> = group.into_iter().map(TcpListener::from).collect();
        let clients: Vec<TcpStream> =
            (0..60).map(|_| TcpStream::connect(address).expect("somebody listens")).collect();
        let mut accepted = [0; 3];
        for (index, listener) in listeners.iter().enumerate() {
            listener.set_nonblocking(true).expect("it is a socket");
            while let Ok((socket, _)) = listener.accept() {
                accepted[index] += 1;
                assert!(socket.nodelay().expect("it is a socket"));
                assert!(sockopt::socket_keepalive(&socket).expect("it is a socket"));
                let idle = sockopt::tcp_keepidle(&socket).expect("it is a socket");
                assert_eq!(idle, KEEPALIVE_IDLE);
                let timeout = sockopt::tcp_user_timeout(&socket).expect("it is a socket");
                assert_eq!(timeout, USER_TIMEOUT_MS);
            }
        }
        assert_eq!(accepted.iter().sum::<usize>(), clients.len());
        assert!(accepted.iter().all(|count| *count > 0), "the kernel spreads: {accepted:?}");
    }

    #[test]
    fn a_port_that_somebody_holds_is_an_error() {
        let plain = TcpListener::bind(ANY_PORT).expect("loopback has a free port");
        let taken = plain.local_addr().expect("it is bound");
        assert!(matches!(bind_group(taken, false, 2), Err(StartError::PortTaken { .. })));
        let (shared, _group) = bind_group(any_port(), false, 1).expect("a free port");
        let refused = bind_group(shared, false, 1).expect_err("even with SO_REUSEPORT");
        assert!(refused.to_string().contains(&shared.to_string()), "{refused}");
    }

    #[test]
    fn a_port_with_connections_of_a_former_life_is_taken_at_once() {
        let (address, group) = bind_group(any_port(), false, 1).expect("a free port");
        let listener = TcpListener::from(group.into_iter().next().expect("one socket"));
        let client = TcpStream::connect(address).expect("somebody listens");
        let (server, _) = listener.accept().expect("somebody connects");
        drop((server, listener)); // the server's side closes first: TIME_WAIT is here
        bind_group(address, false, 1).expect("a restart does not wait");
        drop(client);
    }

    #[test]
    fn a_group_that_was_adopted_in_part_is_completed() {
        let (address, group) = bind_group(any_port(), false, 2).expect("a free port");
        let mut group: Vec<Option<OwnedFd>> = group.into_iter().map(Some).collect();
        group[0] = None;
        group.push(None);
        let (bound, whole) = complete_group(address, false, group).expect("they join");
        assert_eq!((bound, whole.len()), (address, 3));
        let listeners: Vec<TcpListener> = whole.into_iter().map(TcpListener::from).collect();
        let clients: Vec<TcpStream> =
            (0..60).map(|_| TcpStream::connect(address).expect("somebody listens")).collect();
        for listener in &listeners {
            listener.set_nonblocking(true).expect("it is a socket");
            assert!(listener.accept().is_ok(), "the kernel spreads over all of them");
        }
        drop(clients);
    }

    #[test]
    fn only_a_listener_of_the_same_kind_is_adopted() {
        let (address, group) = bind_group(any_port(), false, 1).expect("a free port");
        let ours = &group[0];
        sockopt::set_tcp_user_timeout(ours, 1).expect("it is a socket");
        sockopt::set_tcp_nodelay(ours, false).expect("it is a socket");
        assert!(adopt(ours, address, false));
        assert_eq!(sockopt::tcp_user_timeout(ours), Ok(USER_TIMEOUT_MS), "set anew");
        assert_eq!(sockopt::tcp_nodelay(ours), Ok(true), "set anew");
        assert!(!adopt(ours, any_port(), false), "another port");
        let alone = OwnedFd::from(TcpListener::bind(ANY_PORT).expect("a free port"));
        let there = bound_to(&alone).expect("it is bound");
        assert!(!adopt(&alone, there, false), "nobody can join it");
        let client = OwnedFd::from(TcpStream::connect(address).expect("somebody listens"));
        let there = bound_to(&client).expect("it is bound");
        assert!(!adopt(&client, there, false), "it does not listen");
        let any_port = "[::1]:0".parse().expect("an address");
        let (address, group) = bind_group(any_port, false, 1).expect("a free port");
        assert!(adopt(&group[0], address, false));
        assert!(!adopt(&group[0], address, true), "it takes no IPv4");
        assert!(!adopt(
            &std::fs::File::open("/dev/null").expect("it is there").into(),
            there,
            true
        ));
    }
}
