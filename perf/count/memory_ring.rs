//! A ring that is only memory: what is pushed is received, what is sent is kept and done at once.

use std::collections::VecDeque;
use std::net::{IpAddr, Ipv4Addr};

use shard::{Chunk, Completion, ConnId, ListenerIndex, Ring};

/// See the file's header.
#[derive(Default)]
pub(crate) struct MemoryRing {
    completions: VecDeque<Completion<Vec<u8>, u32>>,
    spare: Vec<Vec<u8>>,
    /// The connection of each accepted socket, by its number.
    pub(crate) conns: Vec<ConnId>,
    /// Chunks that carried a job.
    pub(crate) jobs_sent: u32,
    /// The bytes of the last chunk that was one connection's own.
    pub(crate) last_own: Vec<u8>,
}

impl MemoryRing {
    pub(crate) fn connect(&mut self) {
        let socket = self.conns.len() as u32;
        self.conns.push(ConnId { slot: u32::MAX, generation: 0 });
        let peer = IpAddr::V4(Ipv4Addr::new(10, 0, (socket >> 8) as u8, socket as u8));
        let listener = ListenerIndex(0);
        self.completions.push_back(Completion::Accepted { listener, socket, peer });
    }

    pub(crate) fn receive(&mut self, socket: u32, bytes: &[u8]) {
        let mut buf = self.spare.pop().unwrap_or_default();
        buf.clear();
        buf.extend_from_slice(bytes);
        let conn = self.conns[socket as usize];
        self.completions.push_back(Completion::Received { conn, buf });
    }

    pub(crate) fn is_idle(&self) -> bool {
        self.completions.is_empty()
    }
}

impl Ring for MemoryRing {
    type Buf = Vec<u8>;
    type Socket = u32;

    fn next(&mut self) -> Option<Completion<Vec<u8>, u32>> {
        self.completions.pop_front()
    }

    fn bytes<'a>(&'a mut self, buf: &'a mut Vec<u8>) -> &'a mut [u8] {
        buf
    }

    fn give(&mut self, buf: Vec<u8>) {
        self.spare.push(buf);
    }

    fn accept(&mut self, _: ListenerIndex) {}

    fn stop_accepting(&mut self, _: ListenerIndex) {}

    fn adopt(&mut self, socket: u32, conn: ConnId) {
        self.conns[socket as usize] = conn;
    }

    fn refuse(&mut self, socket: u32) {
        panic!("connection {socket} was refused");
    }

    fn recv(&mut self, _: ConnId) {}

    fn send(&mut self, conn: ConnId, chunk: Chunk, _: usize) {
        let bytes = chunk.bytes();
        let length = bytes.len();
        match &chunk {
            Chunk::Shared(_) => self.jobs_sent += 1,
            Chunk::Own(_) => {
                // A first job is copied behind the difficulty; nothing else here is that long.
                self.jobs_sent += u32::from(length > JOB_BYTES_MIN);
                self.last_own.clear();
                self.last_own.extend_from_slice(&bytes[..length.min(JOB_BYTES_MIN)]);
            }
        }
        self.completions.push_back(Completion::Sent { conn, chunk, result: Ok(length) });
    }

    fn unacknowledged_us(&mut self, _: ConnId) -> u64 {
        0
    }

    fn close(&mut self, conn: ConnId) {
        panic!("connection {} was closed", conn.slot);
    }
}

const JOB_BYTES_MIN: usize = 600;
