//! Listening sockets: one per shard and address, in one SO_REUSEPORT group, so that the kernel
//! spreads the miners over the shards. Made by `start.rs` before any thread runs.
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

/// Binds `count` sockets to one address. Port 0 takes a free port, the same for all.
///
/// # Errors
/// [`StartError::PortTaken`] if anybody listens there already, even with SO_REUSEPORT.
pub(crate) fn bind_group(
    address: SocketAddr,
    dual_stack: bool,
    count: usize,
) -> Result<(SocketAddr, Vec<OwnedFd>), StartError> {
    assert!(count > 0, "a shard listens");
    let failed = |errno: Errno| match errno {
        Errno::ADDRINUSE => StartError::PortTaken { address },
        other => StartError::Listen { address, error: other.into() },
    };
    // Bound without SO_REUSEPORT, the first one fails where anybody listens; the option comes
    // after, so that the others can join it and no port is ever free in between.
    let first = open(address, dual_stack).map_err(failed)?;
    bind(&first, &address).map_err(failed)?;
    sockopt::set_socket_reuseport(&first, true).map_err(failed)?;
    let bound = getsockname(&first).map_err(failed)?;
    let bound = SocketAddr::try_from(bound).map_err(failed)?;
    let mut group = vec![first];
    while group.len() < count {
        let next = open(address, dual_stack).map_err(failed)?;
        sockopt::set_socket_reuseport(&next, true).map_err(failed)?;
        bind(&next, &bound).map_err(failed)?;
        group.push(next);
    }
    for socket in &group {
        listen(socket, BACKLOG).map_err(failed)?;
    }
    Ok((bound, group))
}

fn open(address: SocketAddr, dual_stack: bool) -> Result<OwnedFd, Errno> {
    let family = if address.is_ipv4() { AddressFamily::INET } else { AddressFamily::INET6 };
    let socket = socket_with(family, SocketType::STREAM, SocketFlags::CLOEXEC, None)?;
    if address.is_ipv6() {
        sockopt::set_ipv6_v6only(&socket, !dual_stack)?;
    }
    // Without it a restart would wait for its former connections' TIME_WAIT.
    sockopt::set_socket_reuseaddr(&socket, true)?;
    sockopt::set_tcp_nodelay(&socket, true)?;
    sockopt::set_socket_keepalive(&socket, true)?;
    sockopt::set_tcp_keepidle(&socket, KEEPALIVE_IDLE)?;
    sockopt::set_tcp_keepintvl(&socket, KEEPALIVE_INTERVAL)?;
    sockopt::set_tcp_keepcnt(&socket, KEEPALIVE_PROBES)?;
    sockopt::set_tcp_user_timeout(&socket, USER_TIMEOUT_MS)?;
    sockopt::set_socket_send_buffer_size(&socket, SEND_BUFFER_BYTES)?;
    // A kernel without it has its own default, which serves too.
    if let Err(error) = sockopt::set_tcp_congestion(&socket, CONGESTION_CONTROL) {
        tracing::debug!(%error, "the system's own congestion control is used");
    }
    Ok(socket)
}

#[cfg(test)]
mod tests {
    use std::net::{TcpListener, TcpStream};

    use super::*;

    const ANY_PORT: &str = "127.0.0.1:0";

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
}
