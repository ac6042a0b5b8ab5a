//! The ring with real sockets on loopback: what arrives, what leaves, and how connections end.

mod support;

use std::collections::BTreeMap;
use std::io::{Read, Write};
use std::net::{Shutdown, TcpStream};
use std::os::fd::OwnedFd;
use std::rc::Rc;
use std::time::{Duration, Instant};

use rustix::io::Errno;
use rustix::net::sockopt;
use shard::{AcceptEnd, Chunk, Completion, ConnId, ListenerIndex, ReceiveEnd, Ring as _};
use support::{conn, connect, drive, serve, small};
use uring::{Buffer, Feature, Pretend, Ring, Setup};

#[test]
fn many_clients_hear_their_own_bytes() {
    const CLIENTS: u32 = 50;
    let (mut ring, address) = serve(small());
    let mut clients: Vec<TcpStream> =
        (0..CLIENTS).map(|slot| connect(&mut ring, address, conn(slot, 7))).collect();
    for (index, client) in clients.iter_mut().enumerate() {
        write!(client, "hello from {index}").expect("it is connected");
    }
    let mut echoed = 0;
    drive(&mut ring, |ring, event| {
        match event {
            Completion::Received { conn, buf } => {
                let bytes = take(ring, buf);
                ring.send(conn, Chunk::Own(bytes), 0);
            }
            Completion::Sent { chunk, result, .. } => {
                assert_eq!(result, Ok(chunk.bytes().len()));
                echoed += 1;
            }
            other => panic!("{other:?}"),
        }
        echoed == CLIENTS
    });
    for (index, client) in clients.iter_mut().enumerate() {
        let expected = format!("hello from {index}");
        let mut heard = vec![0; expected.len()];
        client.read_exact(&mut heard).expect("the echo arrives");
        assert_eq!(heard, expected.as_bytes());
    }
}

#[test]
fn a_slow_reader_gets_every_byte_by_short_sends() {
    let (mut ring, address) = serve(small());
    let first = TcpStream::connect(address).expect("the listener has a backlog");
    let mut socket = None;
    drive(&mut ring, |_, event| match event {
        Completion::Accepted { socket: accepted, .. } => {
            socket = Some(accepted);
            true
        }
        other => panic!("{other:?}"),
    });
    let one = conn(3, 1);
    ring.adopt(socket.expect("it was accepted"), one);
    let bytes: Rc<[u8]> = (0..8_000_000_u32).map(|at| (at % 251) as u8).collect();
    let expected = bytes.to_vec();
    let reader = std::thread::spawn(move || {
        let mut heard = Vec::new();
        (&first).read_to_end(&mut heard).expect("the stream ends");
        heard
    });
    ring.send(one, Chunk::Shared(bytes), 0);
    let (mut from, mut short) = (0, 0);
    drive(&mut ring, |ring, event| match event {
        Completion::Sent { chunk, result, .. } => {
            from += result.expect("the reader is slow, not gone");
            if from < chunk.bytes().len() {
                short += 1;
                ring.send(one, chunk, from);
            } else {
                ring.close(one);
            }
            false
        }
        Completion::Closed { conn } => conn == one,
        other => panic!("{other:?}"),
    });
    assert!(short > 0, "8 MB never fit into a socket at once");
    assert!(reader.join().expect("the reader is well") == expected, "bytes differ");
}

#[test]
fn a_reset_ends_the_receive_with_its_errno() {
    let (mut ring, address) = serve(small());
    let one = conn(0, 1);
    let client = connect(&mut ring, address, one);
    sockopt::set_socket_linger(&client, Some(Duration::ZERO)).expect("linger can be set");
    drop(client);
    drive(&mut ring, |_, event| match event {
        Completion::ReceiveEnded { conn, cause } => {
            assert_eq!(conn, one);
            assert_eq!(cause, ReceiveEnd::Failed(Errno::CONNRESET.raw_os_error()));
            true
        }
        other => panic!("{other:?}"),
    });
    ring.send(one, Chunk::Own(b"too late".to_vec()), 0);
    drive(&mut ring, |_, event| match event {
        Completion::Sent { chunk, result, .. } => {
            assert_eq!(chunk.bytes(), b"too late");
            assert_eq!(result, Err(Errno::PIPE.raw_os_error()));
            true
        }
        other => panic!("{other:?}"),
    });
    ring.close(one);
    drive(&mut ring, |_, event| matches!(event, Completion::Closed { conn } if conn == one));
}

#[test]
fn the_end_of_a_stream_comes_after_its_bytes() {
    let (mut ring, address) = serve(small());
    let mut client = connect(&mut ring, address, conn(0, 1));
    client.write_all(b"last words").expect("it is connected");
    client.shutdown(Shutdown::Write).expect("it is connected");
    let mut heard = Vec::new();
    drive(&mut ring, |ring, event| match event {
        Completion::Received { buf, .. } => {
            heard.extend(take(ring, buf));
            false
        }
        Completion::ReceiveEnded { cause, .. } => {
            assert_eq!(cause, ReceiveEnd::Eof);
            true
        }
        other => panic!("{other:?}"),
    });
    assert_eq!(heard, b"last words");
}

/// Connections are closed at every moment of a send and a receive, and their slots are used again
/// at once: nobody ever hears of a former user of its slot.
#[test]
fn a_close_races_completions_and_slots_are_reused() {
    const ROUNDS: u32 = 200;
    let (mut ring, address) = serve(small());
    let big: Rc<[u8]> = vec![b'x'; 4_000_000].into();
    for generation in 1..=ROUNDS {
        let one = conn(0, generation);
        let mut client = connect(&mut ring, address, one);
        write!(client, "{generation}").expect("it is connected");
        if generation % 3 != 0 {
            ring.send(one, Chunk::Shared(big.clone()), 0); // nobody reads it
        }
        if generation % 4 == 1 {
            ring.wait(Some(Duration::ZERO), None).expect("the ring lives");
        }
        if generation % 2 == 0 {
            drive(&mut ring, |ring, event| match event {
                Completion::Received { conn, buf } => {
                    assert_eq!((conn, take(ring, buf)), (one, generation.to_string().into_bytes()));
                    true
                }
                Completion::Sent { conn, .. } => {
                    assert_eq!(conn, one);
                    false
                }
                other => panic!("{other:?}"),
            });
        }
        ring.close(one);
        ring.close(one); // changes nothing
        drive(&mut ring, |_, event| match event {
            Completion::Sent { conn, .. } => {
                assert_eq!(conn, one);
                false
            }
            Completion::Closed { conn } => {
                assert_eq!(conn, one);
                true
            }
            other => panic!("{other:?} after the close"),
        });
    }
    assert_eq!(Rc::strong_count(&big), 1, "every chunk came back");
    assert_eq!(ring.statistics().stale, 0, "no completion came after its Closed");
    ring.send(conn(0, ROUNDS), Chunk::Own(vec![1]), 0);
    let given_back = ring.next();
    let cancelled = Errno::CANCELED.raw_os_error();
    let Some(Completion::Sent { result, .. }) = given_back else { panic!("{given_back:?}") };
    assert_eq!(result, Err(cancelled), "a send after the close gives its chunk back");
}

#[test]
fn without_buffers_a_receive_ends_and_goes_on_when_armed_again() {
    const CLIENTS: u32 = 8;
    let (mut ring, address) = serve(Setup { buffers: 2, buffer_bytes: 16, ..small() });
    let mut clients: Vec<TcpStream> =
        (0..CLIENTS).map(|slot| connect(&mut ring, address, conn(slot, 1))).collect();
    let said = |slot: u32| format!("{slot}: more than sixteen bytes, in any case");
    for (slot, client) in (0..).zip(&mut clients) {
        client.write_all(said(slot).as_bytes()).expect("it is connected");
    }
    let mut heard: BTreeMap<ConnId, Vec<u8>> = BTreeMap::new();
    let mut held = Vec::new();
    let (mut times_starved, mut bytes_held) = (0, 0);
    let expected: usize = (0..CLIENTS).map(|slot| said(slot).len()).sum();
    drive(&mut ring, |ring, event| {
        match event {
            Completion::Received { conn, mut buf } => {
                bytes_held += ring.bytes(&mut buf).len();
                held.push((conn, buf));
            }
            Completion::ReceiveEnded { conn, cause: ReceiveEnd::NoBuffers } => {
                times_starved += 1;
                for (conn, buf) in held.drain(..) {
                    heard.entry(conn).or_default().extend(take(ring, buf));
                }
                ring.recv(conn);
            }
            other => panic!("{other:?}"),
        }
        bytes_held == expected
    });
    for (conn, buf) in held {
        heard.entry(conn).or_default().extend(take(&mut ring, buf));
    }
    assert!(times_starved > 0, "two buffers never suffice for eight");
    for (conn, bytes) in heard {
        assert_eq!(bytes, said(conn.slot).into_bytes());
    }
}

#[test]
fn full_queues_lose_nothing() {
    const CLIENTS: u32 = 64;
    let setup = Setup { entries: 2, completions: 4, buffers: 256, ..small() };
    let (mut ring, address) = serve(setup);
    let mut clients: Vec<TcpStream> =
        (0..CLIENTS).map(|slot| connect(&mut ring, address, conn(slot, 1))).collect();
    for client in &mut clients {
        client.write_all(b"ping").expect("it is connected");
    }
    // All of it becomes ready before anything is taken.
    let (mut received, mut sent) = (0, 0);
    drive(&mut ring, |ring, event| {
        match event {
            Completion::Received { conn, buf } => {
                assert_eq!(take(ring, buf), b"ping");
                received += 1;
                ring.send(conn, Chunk::Own(b"pong".to_vec()), 0);
            }
            Completion::Sent { result, .. } => {
                assert_eq!(result, Ok(4));
                sent += 1;
            }
            other => panic!("{other:?}"),
        }
        sent == CLIENTS
    });
    assert_eq!(received, CLIENTS);
    assert!(ring.statistics().overflows > 0, "four completions hold no 64");
    for client in &mut clients {
        let mut heard = [0; 4];
        client.read_exact(&mut heard).expect("the answer arrives");
        assert_eq!(&heard, b"pong");
    }
}

#[test]
fn dropping_a_ring_closes_everything_in_flight() {
    let (mut ring, address) = serve(small());
    let mut reading = connect(&mut ring, address, conn(0, 1));
    let big = vec![b'y'; 4_000_000];
    let sending = connect(&mut ring, address, conn(1, 1));
    let mut unread = connect(&mut ring, address, conn(2, 1));
    ring.send(conn(1, 1), Chunk::Own(big), 0);
    unread.write_all(b"nobody takes this").expect("it is connected");
    let accepted_unseen = TcpStream::connect(address).expect("the listener has a backlog");
    ring.close(conn(2, 1));
    ring.wait(Some(Duration::ZERO), None).expect("the ring lives");
    drop(ring);
    let mut rest = Vec::new();
    assert_eq!(reading.read_to_end(&mut rest).expect("closed in order"), 0);
    for mut client in [&sending, &unread, &accepted_unseen] {
        client.set_read_timeout(Some(Duration::from_secs(20))).expect("a timeout can be set");
        let ended = client.read_to_end(&mut rest);
        let reset = ended.err().map(|error| error.kind());
        assert!(matches!(reset, None | Some(std::io::ErrorKind::ConnectionReset)), "{reset:?}");
    }
    assert!(TcpStream::connect(address).is_err(), "the listener is closed too");
}

#[test]
fn an_event_counter_wakes_a_waiting_ring_once_per_wake() {
    use rustix::event::{EventfdFlags, eventfd};
    let counter = eventfd(0, EventfdFlags::CLOEXEC | EventfdFlags::NONBLOCK).expect("an eventfd");
    let mut ring = Ring::new(small()).expect("the tests need io_uring");
    ring.watch(counter.try_clone().expect("a second handle"));
    for _ in 0..3 {
        let writer = counter.try_clone().expect("a second handle");
        let waker = std::thread::spawn(move || {
            rustix::io::write(&writer, &1_u64.to_ne_bytes()).expect("far from full")
        });
        drive(&mut ring, |_, event| matches!(event, Completion::Woken));
        waker.join().expect("the waker is well");
    }
    let mut left = [0; 8];
    assert_eq!(rustix::io::read(&counter, &mut left), Err(Errno::AGAIN), "all wakes were read");
}

#[test]
fn a_wait_ends_at_its_deadline_with_and_without_gathering() {
    for missing in [vec![], vec![Feature::MinimumWait]] {
        let pretend = Pretend { missing, setup_fails: None };
        let expected = pretend.missing.is_empty();
        let mut ring = Ring::new(Setup { pretend, ..small() }).expect("gathering is optional");
        assert_eq!(ring.can_gather(), expected, "this kernel gathers unless masked");
        let started = Instant::now();
        ring.wait(Some(Duration::from_millis(20)), Some(500)).expect("a deadline is no error");
        assert!(started.elapsed() >= Duration::from_millis(20));
        assert!(ring.next().is_none());
    }
    let without = Ring::new(Setup { gather: false, ..small() }).expect("gathering is optional");
    assert!(!without.can_gather());
}

#[test]
fn gathering_brings_followers_in_one_wait() {
    const CLIENTS: u32 = 8;
    let (mut ring, address) = serve(small());
    let mut clients: Vec<TcpStream> =
        (0..CLIENTS).map(|slot| connect(&mut ring, address, conn(slot, 1))).collect();
    let sender = std::thread::spawn(move || {
        clients.iter_mut().for_each(|client| client.write_all(b"x").expect("connected"));
        clients
    });
    let (mut heard, mut waits) = (0, 0);
    while heard < CLIENTS {
        ring.wait(Some(Duration::from_secs(20)), Some(200_000)).expect("the ring lives");
        waits += 1;
        while let Some(event) = ring.next() {
            let Completion::Received { buf, .. } = event else { panic!("{event:?}") };
            ring.give(buf);
            heard += 1;
        }
    }
    drop(sender.join().expect("the sender is well"));
    assert!(waits <= 2, "eight writes within 200 ms took {waits} waits");
}

#[test]
fn an_accept_stops_on_request_and_can_be_armed_again() {
    let (mut ring, address) = serve(small());
    let listener = ListenerIndex(0);
    let stopped = |ring: &mut Ring| {
        drive(ring, |_, event| {
            let Completion::AcceptEnded { cause, .. } = event else { return false };
            assert_eq!(cause, AcceptEnd::Stopped);
            true
        });
    };
    ring.stop_accepting(listener);
    ring.stop_accepting(listener);
    stopped(&mut ring);
    ring.stop_accepting(listener);
    stopped(&mut ring);
    let _waiting = TcpStream::connect(address).expect("the kernel's backlog takes it");
    ring.wait(Some(Duration::from_millis(5)), None).expect("the ring lives");
    assert!(ring.next().is_none(), "nothing is accepted while stopped");
    ring.accept(listener);
    drive(&mut ring, |ring, event| match event {
        Completion::Accepted { socket, .. } => {
            ring.refuse(socket);
            true
        }
        other => panic!("{other:?}"),
    });
}

#[test]
fn a_socket_that_is_still_connecting_can_be_adopted() {
    use rustix::net::{AddressFamily, SocketFlags, SocketType, socket_with};
    let server = std::net::TcpListener::bind("127.0.0.1:0").expect("loopback has a free port");
    let address = server.local_addr().expect("a bound socket has an address");
    let flags = SocketFlags::CLOEXEC | SocketFlags::NONBLOCK;
    let client: OwnedFd =
        socket_with(AddressFamily::INET, SocketType::STREAM, flags, None).expect("a socket");
    let started = rustix::net::connect(&client, &address);
    assert!(matches!(started, Ok(()) | Err(Errno::INPROGRESS)), "{started:?}");
    let mut ring = Ring::new(small()).expect("the tests need io_uring");
    let one = conn(0, 1);
    ring.adopt_fd(client, one);
    ring.send(one, Chunk::Own(b"hello".to_vec()), 0);
    ring.wait(Some(Duration::ZERO), None).expect("the ring lives");
    let (mut peer, _) = server.accept().expect("the client connects");
    let mut heard = [0; 5];
    peer.read_exact(&mut heard).expect("the bytes arrive");
    peer.write_all(&heard).expect("it is connected");
    drive(&mut ring, |ring, event| match event {
        Completion::Received { buf, .. } => {
            assert_eq!(take(ring, buf), b"hello");
            true
        }
        Completion::Sent { result, .. } => {
            assert_eq!(result, Ok(5));
            false
        }
        other => panic!("{other:?}"),
    });
}

#[test]
fn sizes_that_no_kernel_accepts_are_refused() {
    for setup in [
        Setup { buffers: 3, ..small() },
        Setup { buffers: 0, ..small() },
        Setup { buffer_bytes: 0, ..small() },
    ] {
        let refused = Ring::new(setup).err().expect("it must be refused");
        assert!(refused.to_string().contains("a ring cannot be made like this"), "{refused}");
    }
}

/// Takes the bytes of a received buffer and gives it back.
fn take(ring: &mut Ring, mut buf: Buffer) -> Vec<u8> {
    let bytes = ring.bytes(&mut buf).to_vec();
    ring.give(buf);
    bytes
}
