//! What the ring's tests share: sockets on loopback, and a drive loop that is bounded by a deadline
//! and never sleeps.

use std::net::{TcpListener, TcpStream};
use std::os::fd::OwnedFd;
use std::time::{Duration, Instant};

use rustix::net::sockopt::set_socket_send_buffer_size;
use shard::{Completion, ConnId, ListenerIndex, Ring as _};
use uring::{Buffer, Ring, Setup, Socket};

/// Beyond this a test has failed: everything here takes milliseconds.
const PATIENCE: Duration = Duration::from_secs(20);

/// What shards use too: a slow reader shows after this many bytes.
const SEND_BUFFER_BYTES: usize = 64 << 10;

/// One event of a ring, as the tests see it.
pub(crate) type Event = Completion<Buffer, Socket>;

/// A ring for a handful of connections.
pub(crate) fn small() -> Setup {
    Setup { entries: 64, completions: 256, buffers: 64, buffer_bytes: 512, ..Setup::default() }
}

/// A ring that accepts on a free port of loopback.
pub(crate) fn serve(setup: Setup) -> (Ring, std::net::SocketAddr) {
    let listener = TcpListener::bind("127.0.0.1:0").expect("loopback has a free port");
    set_socket_send_buffer_size(&listener, SEND_BUFFER_BYTES).expect("accepted sockets inherit it");
    let address = listener.local_addr().expect("a bound socket has an address");
    let mut ring = Ring::new(setup).expect("the tests need io_uring");
    let index = ring.listen(OwnedFd::from(listener));
    assert_eq!(index, ListenerIndex(0));
    ring.accept(index);
    (ring, address)
}

/// Lets `handle` take completions until it says true. Panics when that takes too long.
pub(crate) fn drive(ring: &mut Ring, mut handle: impl FnMut(&mut Ring, Event) -> bool) {
    let deadline = Instant::now() + PATIENCE;
    loop {
        while let Some(event) = ring.next() {
            if handle(ring, event) {
                return;
            }
        }
        let left = deadline.checked_duration_since(Instant::now()).expect("it took too long");
        ring.wait(Some(left), None).expect("the ring lives");
    }
}

/// Connects a client and gives its server side to `conn`.
pub(crate) fn connect(ring: &mut Ring, address: std::net::SocketAddr, conn: ConnId) -> TcpStream {
    let client = TcpStream::connect(address).expect("the listener has a backlog");
    client.set_read_timeout(Some(PATIENCE)).expect("a timeout can be set");
    drive(ring, |ring, event| match event {
        Completion::Accepted { socket, peer, .. } => {
            assert!(peer.is_loopback());
            ring.adopt(socket, conn);
            true
        }
        other => panic!("{other:?} while accepting"),
    });
    client
}

/// A connection's name.
pub(crate) fn conn(slot: u32, generation: u32) -> ConnId {
    ConnId { slot, generation }
}
