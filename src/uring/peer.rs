//! What the kernel knows of the other end of a connection. Used by `ring.rs` only.
#![allow(unsafe_code)]

use std::mem::{MaybeUninit, size_of};
use std::net::{IpAddr, SocketAddr};
use std::os::fd::{AsRawFd, OwnedFd};

/// Retransmissions of one segment without an answer after which a peer counts as silent: one or two
/// are a link that loses packets.
const RETRANSMISSIONS_MIN: u8 = 3;

/// Who is at the other end, unless it has gone already.
pub(crate) fn address_of(file: &OwnedFd) -> Option<IpAddr> {
    let address = rustix::net::getpeername(file).ok().flatten()?;
    SocketAddr::try_from(address).ok().map(|address| address.ip())
}

/// Since the last acknowledgement in µs, of a peer that owes one for bytes that were sent again and
/// again; zero for any other. One that does not read acknowledges all the same: that is no silence.
pub(crate) fn unacknowledged_us(file: &OwnedFd) -> u64 {
    let Some(info) = info_of(file) else {
        return 0;
    };
    let asked = info.tcpi_unacked > 0 && info.tcpi_retransmits >= RETRANSMISSIONS_MIN;
    if asked { u64::from(info.tcpi_last_ack_recv) * 1_000 } else { 0 }
}

fn info_of(file: &OwnedFd) -> Option<libc::tcp_info> {
    let mut info = MaybeUninit::<libc::tcp_info>::zeroed();
    let mut length = size_of::<libc::tcp_info>() as libc::socklen_t;
    let (level, option) = (libc::IPPROTO_TCP, libc::TCP_INFO);
    // SAFETY: `info` is writable for `length` bytes, and the file is open while it is borrowed.
    let result = unsafe {
        libc::getsockopt(file.as_raw_fd(), level, option, info.as_mut_ptr().cast(), &raw mut length)
    };
    // SAFETY: it is made of integers, for which zeros are values, as is all that the kernel wrote.
    (result == 0).then(|| unsafe { info.assume_init() })
}
