//! The sockets of the generator and of the echo: as a shard's, without its limits.

use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::os::fd::OwnedFd;
use std::time::Duration;

use rustix::io::{Errno, ioctl_fionbio};
use rustix::net::{self, AddressFamily, SocketFlags, SocketType, sockopt};
use socket2::{SockFilter, SockRef};

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
    let fd = client(server, number)?;
    loop {
        match net::connect(&fd, &server) {
            Err(Errno::INTR) => {}
            other => return other.map(|()| fd),
        }
    }
}

/// The same without waiting for the server's answer: where its queue is full that takes seconds,
/// in which other clients have to go on.
///
/// # Errors
/// What the kernel says; that nobody listens may show only later.
pub fn begin_connect(server: SocketAddr, number: u32) -> rustix::io::Result<OwnedFd> {
    let fd = client(server, number)?;
    ioctl_fionbio(&fd, true)?;
    match net::connect(&fd, &server) {
        Ok(()) | Err(Errno::INPROGRESS | Errno::INTR) => {}
        Err(error) => return Err(error),
    }
    // A ring waits for a blocking socket, and tells of a non-blocking one that it has nothing.
    ioctl_fionbio(&fd, false)?;
    Ok(fd)
}

/// Connects with the smallest receive buffer that the kernel allows.
///
/// # Errors
/// What the kernel says.
pub fn connect_narrow(server: SocketAddr, number: u32) -> rustix::io::Result<OwnedFd> {
    let fd = client(server, number)?;
    sockopt::set_socket_recv_buffer_size(&fd, 0)?;
    net::connect(&fd, &server)?;
    Ok(fd)
}

/// Nothing that comes for this socket arrives any more, and so nothing is acknowledged: its machine
/// has lost its power, as far as the other side can see.
///
/// # Errors
/// What the kernel says.
pub fn vanish(fd: &OwnedFd) -> std::io::Result<()> {
    /// BPF_RET with the constant 0: of every packet nothing is kept.
    const RETURN_CONSTANT: u16 = 0x06;
    SockRef::from(fd).attach_filter(&[SockFilter::new(RETURN_CONSTANT, 0, 0, 0)])
}

fn client(server: SocketAddr, number: u32) -> rustix::io::Result<OwnedFd> {
    assert!(server.ip().is_loopback(), "a load goes to this machine only");
    let family = AddressFamily::INET;
    let fd = net::socket_with(family, SocketType::STREAM, SocketFlags::CLOEXEC, None)?;
    sockopt::set_socket_linger(&fd, Some(Duration::ZERO))?;
    sockopt::set_tcp_nodelay(&fd, true)?;
    sockopt::set_tcp_congestion(&fd, CONGESTION_CONTROL)?;
    let source = Ipv4Addr::new(127, 0, 0, 2 + (number % SOURCE_ADDRESSES) as u8);
    net::bind(&fd, &SocketAddr::new(IpAddr::V4(source), 0))?;
    Ok(fd)
}
