//! Clients that connect all the time, in bursts, and say what became of each connection: answered,
//! ended, refused, or swallowed. The kernel completes a connection that waits in a listener's
//! queue, so only an answer or an end tells its client anything.

use std::io::{BufRead, BufReader, ErrorKind, Write};
use std::net::{SocketAddr, TcpStream};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};
use std::thread::JoinHandle;
use std::time::Duration;

use socket2::Socket;

/// Clients of one crowd, each with its bursts.
const CLIENTS: usize = 4;
/// Connections of one burst.
const BURST: usize = 48;
/// Whoever hears nothing for so long has been swallowed: no deadline of the daemon's is longer.
const PATIENCE: Duration = Duration::from_secs(30);
const SUBSCRIBE: &[u8] = b"{\"id\":1,\"method\":\"mining.subscribe\",\"params\":[\"knock/1\"]}\n";

/// What became of the connections.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Knocks {
    /// They got their subscription.
    pub answered: u64,
    /// Their other side closed or reset them.
    pub ended: u64,
    /// Nobody listened.
    pub refused: u64,
    /// The connect got no answer.
    pub unreached: u64,
    /// They were opened, and heard nothing.
    pub swallowed: u64,
}

impl Knocks {
    fn plus(self, more: Knocks) -> Knocks {
        Knocks {
            answered: self.answered + more.answered,
            ended: self.ended + more.ended,
            refused: self.refused + more.refused,
            unreached: self.unreached + more.unreached,
            swallowed: self.swallowed + more.swallowed,
        }
    }
}

/// The clients at work.
#[derive(Debug)]
pub struct Crowd {
    stop: Arc<AtomicBool>,
    threads: Vec<JoinHandle<Knocks>>,
}

impl Crowd {
    /// Starts to knock.
    #[must_use]
    pub fn start(address: SocketAddr) -> Crowd {
        let stop = Arc::new(AtomicBool::new(false));
        let client = |_| {
            let stop = stop.clone();
            std::thread::spawn(move || {
                let mut all = Knocks::default();
                loop {
                    // The last burst begins after the end was asked for, and sees what is then.
                    let is_last = stop.load(Relaxed);
                    all = all.plus(burst(address));
                    if is_last {
                        return all;
                    }
                }
            })
        };
        let threads = (0..CLIENTS).map(client).collect();
        Crowd { stop, threads }
    }

    /// Lets every client finish its burst and make one more, and adds up.
    ///
    /// # Panics
    /// If a client has.
    #[must_use]
    pub fn stop(self) -> Knocks {
        self.stop.store(true, Relaxed);
        let counts = self.threads.into_iter().map(|thread| thread.join().expect("it counts"));
        counts.fold(Knocks::default(), Knocks::plus)
    }
}

/// Opens connections, then asks all for their answers.
fn burst(address: SocketAddr) -> Knocks {
    let mut knocks = Knocks::default();
    let mut open = Vec::new();
    for _ in 0..BURST {
        match TcpStream::connect_timeout(&address, PATIENCE) {
            Ok(stream) => open.push(stream),
            Err(error) if error.kind() == ErrorKind::ConnectionRefused => knocks.refused += 1,
            // Opened and cut in one moment.
            Err(error) if error.kind() == ErrorKind::ConnectionReset => knocks.ended += 1,
            Err(_) => knocks.unreached += 1,
        }
    }
    for stream in &mut open {
        // It may have been cut already; the read tells.
        let _ = stream.write_all(SUBSCRIBE);
    }
    for stream in open {
        stream.set_read_timeout(Some(PATIENCE)).expect("a time-out");
        let mut line = String::new();
        match BufReader::new(&stream).read_line(&mut line) {
            Ok(0) => knocks.ended += 1,
            Ok(_) => knocks.answered += 1,
            Err(error) if error.kind() == ErrorKind::ConnectionReset => knocks.ended += 1,
            Err(_) => knocks.swallowed += 1,
        }
        // With a reset no port of this machine stays behind in TIME_WAIT.
        let linger = Socket::from(stream).set_linger(Some(Duration::ZERO));
        linger.expect("a socket");
    }
    knocks
}
