//! An accept that finds no descriptor. It lowers the limit of its whole process, so it has a test
//! binary of its own.

mod support;

use std::net::TcpStream;

use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
use shard::{AcceptEnd, Completion, ListenerIndex, Ring as _};
use support::{conn, connect, drive, serve, small};

#[test]
fn an_accept_without_descriptors_ends_and_goes_on_when_armed_again() {
    let (mut ring, address) = serve(small());
    let _first = connect(&mut ring, address, conn(0, 1));
    // The kernel notes the limit when an accept is armed, not when it runs.
    ring.stop_accepting(ListenerIndex(0));
    drive(&mut ring, |_, event| matches!(event, Completion::AcceptEnded { .. }));
    let waiting = TcpStream::connect(address).expect("the kernel's backlog takes it");
    let former = getrlimit(Resource::Nofile);
    setrlimit(Resource::Nofile, Rlimit { current: Some(3), ..former }).expect("it may be lowered");
    ring.accept(ListenerIndex(0));
    drive(&mut ring, |_, event| match event {
        Completion::AcceptEnded { listener, cause } => {
            assert_eq!((listener, cause), (ListenerIndex(0), AcceptEnd::Exhausted));
            true
        }
        other => panic!("{other:?}"),
    });
    setrlimit(Resource::Nofile, former).expect("it may be raised again");
    ring.accept(ListenerIndex(0));
    drive(&mut ring, |ring, event| match event {
        Completion::Accepted { socket, .. } => {
            ring.adopt(socket, conn(1, 1));
            true
        }
        other => panic!("{other:?}"),
    });
    drop(waiting);
}
