//! The floor: the same ring, the same bytes in and out, and nothing in between. For every line it
//! answers with a line of the asked size; a line that begins with `B` makes it send one job-sized
//! line to every other connection, in batches as a shard does.
//!
//! Usage: `perf-echo ADDRESS REPLY_BYTES JOB_BYTES [plain]`; `plain` never gathers.
#![forbid(unsafe_code)]

use std::error::Error;
use std::net::SocketAddr;
use std::rc::Rc;
use std::time::Duration;

use perf::sockets;
use shard::{Chunk, Completion, ConnId, ListenerIndex, Ring as _};
use uring::{Ring, Setup};

/// As a shard: followers may gather after a turn that served more than this many connections.
const GATHER_ABOVE: usize = 4;
const GATHER_US: u32 = 500;
/// As a shard: how many connections one turn of a fan-out serves.
const FAN_OUT_BATCH: usize = 256;

struct Conn {
    generation: u32,
    open: bool,
    sending: bool,
    replies_owed: usize,
    job_owed: bool,
}

struct Echo {
    ring: Ring,
    conns: Vec<Conn>,
    free: Vec<u32>,
    pool: Vec<Vec<u8>>,
    reply: Vec<u8>,
    job: Rc<[u8]>,
    fan_out_at: Option<usize>,
}

fn main() -> Result<(), Box<dyn Error>> {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let [address, reply_bytes, job_bytes, rest @ ..] = arguments.as_slice() else {
        return Err("usage: perf-echo ADDRESS REPLY_BYTES JOB_BYTES [plain]".into());
    };
    let address: SocketAddr = address.parse()?;
    let gather = rest.is_empty();
    let mut ring = Ring::new(Setup { gather, ..Setup::default() })?;
    let listener = ring.listen(sockets::listen(address)?);
    ring.accept(listener);
    let mut echo = Echo {
        ring,
        conns: Vec::new(),
        free: Vec::new(),
        pool: Vec::new(),
        reply: line_of(reply_bytes.parse()?),
        job: line_of(job_bytes.parse()?).into(),
        fan_out_at: None,
    };
    println!("listening");
    let mut served = 0;
    loop {
        let busy = echo.fan_out_at.is_some();
        let gathering = gather && served > GATHER_ABOVE && !busy;
        let deadline = if busy { Duration::ZERO } else { Duration::from_millis(500) };
        echo.ring.wait(Some(deadline), gathering.then_some(GATHER_US))?;
        served = echo.turn(listener);
    }
}

fn line_of(bytes: usize) -> Vec<u8> {
    let mut line = vec![b'x'; bytes.max(1)];
    line[bytes.max(1) - 1] = b'\n';
    line
}

impl Echo {
    fn turn(&mut self, listener: ListenerIndex) -> usize {
        let mut served = 0;
        while let Some(completion) = self.ring.next() {
            match completion {
                Completion::Accepted { socket, .. } => self.accept(socket),
                Completion::AcceptEnded { .. } => self.ring.accept(listener),
                Completion::Received { conn, mut buf } => {
                    served += 1;
                    let bytes = self.ring.bytes(&mut buf);
                    let lines = bytes.iter().filter(|byte| **byte == b'\n').count();
                    let broadcast = bytes.first() == Some(&b'B');
                    self.ring.give(buf);
                    if broadcast {
                        self.broadcast(conn.slot as usize);
                    } else {
                        self.conns[conn.slot as usize].replies_owed += lines;
                        self.flush(conn.slot as usize);
                    }
                }
                Completion::ReceiveEnded { conn, cause: shard::ReceiveEnd::NoBuffers } => {
                    self.ring.recv(conn);
                }
                Completion::ReceiveEnded { conn, .. } => {
                    self.conns[conn.slot as usize].open = false;
                    self.ring.close(conn);
                }
                Completion::Sent { conn, chunk, .. } => {
                    if let Chunk::Own(mut buffer) = chunk {
                        buffer.clear();
                        self.pool.push(buffer);
                    }
                    self.conns[conn.slot as usize].sending = false;
                    self.flush(conn.slot as usize);
                }
                Completion::Closed { conn } => self.free.push(conn.slot),
                Completion::Woken => {}
            }
        }
        self.fan_out();
        served
    }

    fn accept(&mut self, socket: <Ring as shard::Ring>::Socket) {
        let slot = self.free.pop().unwrap_or_else(|| {
            self.conns.push(Conn {
                generation: 0,
                open: false,
                sending: false,
                replies_owed: 0,
                job_owed: false,
            });
            (self.conns.len() - 1) as u32
        });
        let conn = &mut self.conns[slot as usize];
        conn.generation = (conn.generation + 1) & ((1 << shard::ring::GENERATION_BITS) - 1);
        (conn.open, conn.sending, conn.replies_owed, conn.job_owed) = (true, false, 0, false);
        self.ring.adopt(socket, ConnId { slot, generation: conn.generation });
    }

    fn broadcast(&mut self, asker: usize) {
        for (slot, conn) in self.conns.iter_mut().enumerate() {
            conn.job_owed = conn.open && slot != asker;
        }
        self.fan_out_at = Some(0);
    }

    fn fan_out(&mut self) {
        let Some(start) = self.fan_out_at else { return };
        let end = (start + FAN_OUT_BATCH).min(self.conns.len());
        for slot in start..end {
            self.flush(slot);
        }
        self.fan_out_at = (end < self.conns.len()).then_some(end);
    }

    fn flush(&mut self, slot: usize) {
        let conn = &mut self.conns[slot];
        if conn.sending || !conn.open {
            return;
        }
        let id = ConnId { slot: slot as u32, generation: conn.generation };
        if conn.job_owed {
            (conn.job_owed, conn.sending) = (false, true);
            self.ring.send(id, Chunk::Shared(self.job.clone()), 0);
        } else if conn.replies_owed > 0 {
            let mut buffer = self.pool.pop().unwrap_or_default();
            for _ in 0..std::mem::take(&mut conn.replies_owed) {
                buffer.extend_from_slice(&self.reply);
            }
            conn.sending = true;
            self.ring.send(id, Chunk::Own(buffer), 0);
        }
    }
}
