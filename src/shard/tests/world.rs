//! What the tests of the shard have in common: a ring and a lane in memory, jobs made by `farm`,
//! and the lines that a miner sends. The ring does what it is told and nothing by itself; the
//! simulator has one with faults.

use std::collections::{BTreeMap, VecDeque};
use std::net::{IpAddr, Ipv4Addr};
use std::sync::Arc;

use farm::extranonce::{ShardIndex, Space};
use farm::jobs::{JobMaker, JobSettings};
use farm::messages::{FoundBlock, FromShard, ToShard};
use pow::{Difficulty, Hash256, Kernel, Template};
use session::{Job, Pace, Settings, Tick};
use shard::{
    AdmissionSettings, AllowList, Chunk, Completion, ConnId, Counters, Lane, ListenerIndex,
    NoGuard, Ring, Shard, ShardSettings, Turn,
};

/// Bytes of one received buffer, as the real ring has them.
const BUFFER_BYTES: usize = 4_096;

/// A ring in memory. Sends succeed at once unless a test says otherwise.
pub(crate) struct MemoryRing {
    pub(crate) completions: VecDeque<Completion<Vec<u8>, u32>>,
    free: Vec<Vec<u8>>,
    /// What was sent on each slot and not read by the test yet.
    pub(crate) wire: Vec<Vec<u8>>,
    /// The connection of each adopted socket.
    pub(crate) adopted: BTreeMap<u32, ConnId>,
    pub(crate) refused: Vec<u32>,
    pub(crate) closed: Vec<ConnId>,
    pub(crate) armed: Vec<ListenerIndex>,
    pub(crate) rearmed: Vec<ConnId>,
    /// Sends that are kept back instead of done: the test finishes them.
    pub(crate) hold_sends: bool,
    pub(crate) held: VecDeque<(ConnId, Chunk, usize)>,
    pub(crate) lent: usize,
    /// Peers that are gone without a word: for how long they have acknowledged nothing.
    pub(crate) gone_us: BTreeMap<ConnId, u64>,
}

impl MemoryRing {
    pub(crate) fn new(slots: usize) -> MemoryRing {
        MemoryRing {
            completions: VecDeque::with_capacity(4 * slots + 64),
            free: (0..2 * slots + 8).map(|_| Vec::with_capacity(BUFFER_BYTES)).collect(),
            wire: (0..slots).map(|_| Vec::with_capacity(8 * BUFFER_BYTES)).collect(),
            adopted: BTreeMap::new(),
            refused: Vec::new(),
            closed: Vec::new(),
            armed: Vec::new(),
            rearmed: Vec::new(),
            hold_sends: false,
            held: VecDeque::with_capacity(slots),
            lent: 0,
            gone_us: BTreeMap::new(),
        }
    }

    /// Bytes arrive.
    pub(crate) fn deliver(&mut self, conn: ConnId, bytes: &[u8]) {
        for bytes in bytes.chunks(BUFFER_BYTES) {
            let mut buf = self.free.pop().expect("the test gives no more than there are buffers");
            buf.clear();
            buf.extend_from_slice(bytes);
            self.completions.push_back(Completion::Received { conn, buf });
        }
    }

    /// A socket is accepted.
    pub(crate) fn connect(&mut self, socket: u32, peer: IpAddr) {
        let listener = ListenerIndex(0);
        self.completions.push_back(Completion::Accepted { listener, socket, peer });
    }

    /// What was sent to a connection since the last call.
    pub(crate) fn read(&mut self, conn: ConnId) -> String {
        let bytes = std::mem::take(&mut self.wire[conn.slot as usize]);
        String::from_utf8(bytes).expect("the shard sends text")
    }

    /// Finishes the oldest send that was held, after `count` bytes.
    pub(crate) fn finish_send(&mut self, count: usize) {
        let (conn, chunk, from) = self.held.pop_front().expect("a send is held");
        let sent = count.min(chunk.bytes().len() - from);
        self.wire[conn.slot as usize].extend_from_slice(&chunk.bytes()[from..from + sent]);
        self.completions.push_back(Completion::Sent { conn, chunk, result: Ok(sent) });
    }
}

impl Ring for MemoryRing {
    type Buf = Vec<u8>;
    type Socket = u32;

    fn next(&mut self) -> Option<Completion<Vec<u8>, u32>> {
        let completion = self.completions.pop_front();
        self.lent += usize::from(matches!(completion, Some(Completion::Received { .. })));
        completion
    }

    fn bytes<'a>(&'a mut self, buf: &'a mut Vec<u8>) -> &'a mut [u8] {
        buf
    }

    fn give(&mut self, buf: Vec<u8>) {
        self.lent -= 1;
        self.free.push(buf);
    }

    fn accept(&mut self, listener: ListenerIndex) {
        self.armed.push(listener);
    }

    fn stop_accepting(&mut self, listener: ListenerIndex) {
        let cause = shard::AcceptEnd::Stopped;
        self.completions.push_back(Completion::AcceptEnded { listener, cause });
    }

    fn adopt(&mut self, socket: u32, conn: ConnId) {
        self.adopted.insert(socket, conn);
    }

    fn refuse(&mut self, socket: u32) {
        self.refused.push(socket);
    }

    fn recv(&mut self, conn: ConnId) {
        self.rearmed.push(conn);
    }

    fn send(&mut self, conn: ConnId, chunk: Chunk, from: usize) {
        assert!(from < chunk.bytes().len(), "a send has bytes");
        assert!(!self.closed.contains(&conn), "nothing is sent after close");
        self.held.push_back((conn, chunk, from));
        if !self.hold_sends {
            self.finish_send(usize::MAX);
        }
    }

    fn unacknowledged_us(&mut self, conn: ConnId) -> u64 {
        self.gone_us.get(&conn).copied().unwrap_or(0)
    }

    fn close(&mut self, conn: ConnId) {
        assert!(!self.closed.contains(&conn), "a connection is closed once");
        self.closed.push(conn);
        while let Some(at) = self.held.iter().position(|(held, ..)| *held == conn) {
            let (conn, chunk, _) = self.held.remove(at).expect("it was found there");
            self.completions.push_back(Completion::Sent { conn, chunk, result: Err(125) });
        }
        self.completions.push_back(Completion::Closed { conn });
    }
}

/// A lane in memory, with a limit that a test may set.
pub(crate) struct MemoryLane {
    pub(crate) to_shard: VecDeque<ToShard>,
    pub(crate) from_shard: VecDeque<FromShard>,
    pub(crate) room: usize,
    pub(crate) blocks_are_saved: bool,
    /// Answers wishes for prefixes, as the coordinator does, where there is none.
    pub(crate) space: Option<Space>,
}

impl MemoryLane {
    pub(crate) fn new() -> MemoryLane {
        MemoryLane {
            to_shard: VecDeque::with_capacity(64),
            from_shard: VecDeque::with_capacity(64),
            room: usize::MAX,
            blocks_are_saved: true,
            space: Some(Space::new(4).expect("four bytes are a width")),
        }
    }

    /// The messages of one kind that have come.
    pub(crate) fn take<T>(&mut self, pick: impl Fn(FromShard) -> Option<T>) -> Vec<T> {
        self.from_shard.drain(..).filter_map(pick).collect()
    }
}

impl Lane for MemoryLane {
    fn receive(&mut self) -> Option<ToShard> {
        self.to_shard.pop_front()
    }

    fn send(&mut self, message: FromShard) -> Result<(), FromShard> {
        if self.from_shard.len() >= self.room {
            return Err(message);
        }
        if let FromShard::WantLease { prefixes } = message
            && let Some(space) = &mut self.space
        {
            let lease = space.lease(ShardIndex(0), prefixes).expect("the space is large");
            self.to_shard.push_back(ToShard::Lease(lease));
            return Ok(());
        }
        self.from_shard.push_back(message);
        Ok(())
    }

    fn send_block(&mut self, block: Box<FoundBlock>) -> Result<(), Box<FoundBlock>> {
        if self.from_shard.len() >= self.room {
            return Err(block);
        }
        self.from_shard.push_back(FromShard::Block(block));
        Ok(())
    }

    fn blocks_are_saved(&self) -> bool {
        self.blocks_are_saved
    }
}

/// A shard with everything that it needs, and a clock.
pub(crate) struct World {
    pub(crate) shard: Shard<MemoryRing>,
    pub(crate) ring: MemoryRing,
    pub(crate) lane: MemoryLane,
    pub(crate) counters: Arc<Counters>,
    pub(crate) now: Tick,
    maker: JobMaker,
    tip: u8,
}

/// Who must begin with a PROXY header: no miner of these tests has its address there.
const PROXIES: &str = "172.16.0.0/24";
/// One of them.
pub(crate) const PROXY: &str = "172.16.0.9";
/// Every hash meets it.
pub(crate) const TRIVIAL: f64 = 1e-12;
/// The easiest bits of the main network: no test finds a block by chance.
pub(crate) const BITS: u32 = 0x1d00_ffff;
const EXTRANONCE2_SIZE: u8 = 4;
pub(crate) const SECOND: u64 = 1_000_000;

impl World {
    pub(crate) fn new(slots: usize) -> World {
        World::with(slots, AllowList::private(), usize::MAX)
    }

    pub(crate) fn with(slots: usize, allow: AllowList, per_source_max: usize) -> World {
        World::numbered(0, slots, allow, per_source_max)
    }

    /// A world whose shard has this number.
    pub(crate) fn numbered(
        index: u16,
        slots: usize,
        allow: AllowList,
        per_source_max: usize,
    ) -> World {
        let (allow, proxies) = (vec![allow], AllowList::parse([PROXIES]).expect("a block"));
        let proxy_from = vec![proxies];
        let admission = AdmissionSettings {
            allow,
            proxy_from,
            connections_max: slots,
            per_source_max,
            unauthenticated_max: slots,
        };
        World::admitting(index, slots, admission, session())
    }

    /// A world with these limits.
    pub(crate) fn limited(connections_max: usize, unauthenticated_max: usize) -> World {
        World::under(connections_max, unauthenticated_max, session())
    }

    /// A world in which difficulties follow the shares, at 12 a minute.
    pub(crate) fn following(connections_max: usize) -> World {
        let session = Settings { wished_pace: Pace::per_minute(12.0), ..session() };
        World::under(connections_max, connections_max, session)
    }

    fn under(connections_max: usize, unauthenticated_max: usize, session: Settings) -> World {
        let allow = vec![AllowList::private()];
        let proxy_from = vec![AllowList::none()];
        let per_source_max = usize::MAX;
        let limits = AdmissionSettings {
            allow,
            proxy_from,
            connections_max,
            per_source_max,
            unauthenticated_max,
        };
        World::admitting(0, 2 * connections_max, limits, session)
    }

    /// A world whose miners' difficulties follow their shares.
    pub(crate) fn steered(index: u16, slots: usize) -> World {
        let admission = AdmissionSettings {
            allow: vec![AllowList::private()],
            proxy_from: vec![AllowList::none()],
            connections_max: slots,
            per_source_max: usize::MAX,
            unauthenticated_max: slots,
        };
        let session = Settings { wished_pace: Pace::per_minute(12.0), ..session() };
        World::admitting(index, slots, admission, session)
    }

    fn admitting(
        index: u16,
        slots: usize,
        admission: AdmissionSettings,
        session: Settings,
    ) -> World {
        let kernel = Kernel::detect();
        let counters = Arc::new(Counters::default());
        let buffers_reserved = slots;
        let settings =
            ShardSettings { index, incarnation: 1, seed: 7, session, admission, buffers_reserved };
        let mut shard = Shard::new(settings, kernel, counters.clone());
        let mut ring = MemoryRing::new(slots);
        shard.start(&mut ring);
        let maker = JobMaker::new(job_settings(), kernel);
        let now = Tick(SECOND);
        World { shard, ring, lane: MemoryLane::new(), counters, now, maker, tip: 0 }
    }

    /// A job on a new tip.
    pub(crate) fn new_tip(&mut self) -> Arc<Job> {
        self.tip += 1;
        self.job(BITS)
    }

    /// A job on the present tip, with these bits.
    pub(crate) fn job(&mut self, bits: u32) -> Arc<Job> {
        let template = template(self.tip, bits, self.now);
        let job = Arc::new(self.maker.make(&template, self.now).expect("the template is sound"));
        self.lane.to_shard.push_back(ToShard::Job(job.clone()));
        job
    }

    pub(crate) fn turn(&mut self) -> Turn {
        self.shard.turn(self.now, &mut self.ring, &mut self.lane, &NoGuard)
    }

    /// Turns until nothing is at hand any more.
    pub(crate) fn settle(&mut self) -> Turn {
        for _ in 0..1_000 {
            let turn = self.turn();
            let idle = self.ring.completions.is_empty() && self.lane.to_shard.is_empty();
            if idle && turn.deadline > self.now {
                return turn;
            }
        }
        panic!("the shard never comes to rest");
    }

    /// Connects a miner from 10.x.y.z and takes it through its handshake.
    pub(crate) fn miner(&mut self, number: u32) -> ConnId {
        let conn = self.connect(number);
        self.ring.deliver(conn, HANDSHAKE);
        self.settle();
        conn
    }

    pub(crate) fn connect(&mut self, number: u32) -> ConnId {
        self.knock(number);
        self.settle();
        self.ring.adopted[&number]
    }

    /// A socket from 10.x.y.z is accepted, and the shard has not seen it yet.
    pub(crate) fn knock(&mut self, number: u32) {
        let [_, a, b, c] = number.to_be_bytes();
        self.ring.connect(number, IpAddr::V4(Ipv4Addr::new(10, a, b, c)));
    }

    /// Lets time pass in steps of a quarter of a second.
    pub(crate) fn pass(&mut self, micros: u64) {
        let end = self.now.plus_micros(micros);
        while self.now < end {
            self.now = self.now.plus_micros(SECOND / 4).min(end);
            self.settle();
        }
    }
}

/// What sessions are like unless a test says otherwise: all have one difficulty.
fn session() -> Settings {
    Settings {
        extranonce2_size: EXTRANONCE2_SIZE,
        start_difficulty: Difficulty::new(TRIVIAL).expect("positive"),
        ..Settings::default()
    }
}

pub(crate) fn job_settings() -> JobSettings {
    JobSettings {
        payout_script: vec![0x51],
        signature: b"/test/".to_vec(),
        group_prefix: Vec::new(),
        extranonce1_size: 4,
        extranonce2_size: EXTRANONCE2_SIZE,
        version_mask: 0x1fff_e000,
        first_number: 1,
    }
}

/// A template on a tip, with these bits; another one at each moment.
pub(crate) fn template(tip: u8, bits: u32, now: Tick) -> Template {
    let transactions: Vec<Arc<[u8]>> = vec![Arc::from([tip; 64].as_slice())];
    Template {
        height: 100 + u32::from(tip),
        prev_hash: Hash256([tip; 32]),
        version: 0x2000_0000,
        bits,
        curtime: 1_800_000_000,
        min_ntime: 1_799_990_000,
        coinbase_value: 5_000_000_000 + now.as_micros(),
        coinbase_version: 2,
        coinbase_sequence: 0xffff_fffe,
        coinbase_locktime: 0,
        witness_commitment: None,
        coinbase_aux: Vec::new(),
        merkle_path: vec![Hash256([tip; 32]); 2],
        transactions: transactions.into(),
        weight: 256,
    }
}

pub(crate) const HANDSHAKE: &[u8] =
    b"{\"id\":1,\"method\":\"mining.subscribe\",\"params\":[\"t/1\"]}\n\
{\"id\":2,\"method\":\"mining.authorize\",\"params\":[\"farm.1\",\"x\"]}\n";

/// The job id of the last notify in a text.
pub(crate) fn job_id(text: &str) -> Option<&str> {
    let line = text.lines().rfind(|line| line.contains("mining.notify"))?;
    let id = line.split_once("\"params\":[\"")?.1;
    Some(id.split_once('"')?.0)
}

/// A share: any nonce does at [`TRIVIAL`].
pub(crate) fn submit(id: u32, job_id: &str, nonce: u32) -> String {
    let ntime = 1_800_000_000;
    format!(
        "{{\"id\":{id},\"method\":\"mining.submit\",\"params\":[\"farm.1\",\"{job_id}\",\
         \"00000001\",\"{ntime:08x}\",\"{nonce:08x}\"]}}\n"
    )
}
