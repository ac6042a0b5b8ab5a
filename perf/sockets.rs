//! The sockets of the generator and of the echo: as a shard's, without its limits.

use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::os::fd::OwnedFd;
use std::time::Duration;

use rustix::io::Errno;
use rustix::net::{self, AddressFamily, SocketFlags, SocketType, sockopt};

/// As a shard's listener.
const CONGESTION_CONTROL: &str = "cubic";
/// Source addresses to spread connections over: one has 28,000 ports.
const SOURCE_ADDRESSES: u32 = 8;

/// A listener with the longest backlog.
///
/// # Errors
/// What the kernel says.
pub fn listen(address: SocketAddr) -> rustix::io::Result<OwnedFd> {
    let family = AddressFamily::INET;
    let fd = net::socket_with(family, SocketType::STREAM, SocketFlags::CLOEXEC, None)?;
    sockopt::set_socket_reuseaddr(&fd, true)?;
    sockopt::set_tcp_nodelay(&fd, true)?;
    sockopt::set_tcp_congestion(&fd, CONGESTION_CONTROL)?;
    net::bind(&fd, &address)?;
    net::listen(&fd, i32::MAX)?;
    Ok(fd)
}

/// Connects to a server on the loopback interface from one of several source addresses, and
/// makes the later close a reset, so that no port waits.
///
/// # Errors
/// What the kernel says.
pub fn connect(server: SocketAddr, number: u32) -> rustix::io::Result<OwnedFd> {
    assert!(server.ip().is_loopback(), "a load goes to this machine only");
    let family = AddressFamily::INET;
    let fd = net::socket_with(family, SocketType::STREAM, SocketFlags::CLOEXEC, None)?;
    sockopt::set_socket_linger(&fd, Some(Duration::ZERO))?;
    sockopt::set_tcp_nodelay(&fd, true)?;
    sockopt::set_tcp_congestion(&fd, CONGESTION_CONTROL)?;
    let source = Ipv4Addr::new(127, 0, 0, 2 + (number % SOURCE_ADDRESSES) as u8);
    net::bind(&fd, &SocketAddr::new(IpAddr::V4(source), 0))?;
    loop {
        match net::connect(&fd, &server) {
            Err(Errno::INTR) => {}
            other => return other.map(|()| fd),
        }
    }
}
