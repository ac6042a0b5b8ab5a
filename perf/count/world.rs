//! One shard with its work and its miners, in memory.

use std::collections::VecDeque;
use std::sync::Arc;

use farm::extranonce::{ShardIndex, Space};
use farm::jobs::{JobMaker, JobSettings};
use farm::messages::{FoundBlock, FromShard, ToShard};
use pow::{Difficulty, Hash256, Kernel, Template};
use session::{Settings, ShareOutcome, Tick};
use shard::admission::{AdmissionSettings, AllowList};
use shard::guard::NoGuard;
use shard::{Counters, Lane, Shard, ShardSettings};
use wire::sv1::write::client;

use crate::memory_ring::MemoryRing;

/// Microseconds between two turns.
const TURN_US: u64 = 100;
/// Every hash is a share at this difficulty, and none is a block at mainnet's bits.
const EASIEST: f64 = 1e-10;
const MAINNET_BITS: u32 = 0x1703_255b;
const MERKLE_DEPTH: u8 = 12;
const CURTIME: u32 = 1_795_000_000;

pub(crate) struct World {
    shard: Shard<MemoryRing>,
    ring: MemoryRing,
    lane: Messages,
    counters: Arc<Counters>,
    maker: JobMaker,
    job_number: u32,
    tips: u8,
    now: Tick,
    line: Vec<u8>,
}

struct Messages {
    to_shard: VecDeque<ToShard>,
    space: Space,
}

impl Lane for Messages {
    fn receive(&mut self) -> Option<ToShard> {
        self.to_shard.pop_front()
    }

    fn send(&mut self, message: FromShard) -> Result<(), FromShard> {
        match message {
            FromShard::WantLease { prefixes } => {
                let lease = self.space.lease(ShardIndex(0), prefixes).expect("a large space");
                self.to_shard.push_back(ToShard::Lease(lease));
            }
            FromShard::Report(report) => self.to_shard.push_back(ToShard::Recycled(report)),
            _ => {}
        }
        Ok(())
    }

    fn send_block(&mut self, _: Box<FoundBlock>) -> Result<(), Box<FoundBlock>> {
        panic!("no share here is a block");
    }

    fn blocks_are_saved(&self) -> bool {
        true
    }
}

impl World {
    pub(crate) fn new() -> World {
        let session = Settings {
            start_difficulty: Difficulty::new(EASIEST).expect("positive"),
            fingerprints_max: 1 << 20,
            ..Settings::default()
        };
        let admission = AdmissionSettings {
            allow: vec![AllowList::private()],
            proxy_from: vec![AllowList::none()],
            connections_max: 1 << 20,
            per_source_max: 1 << 20,
            unauthenticated_max: 1 << 20,
        };
        let settings = ShardSettings {
            index: 0,
            incarnation: 1,
            seed: 1,
            session,
            admission,
            buffers_reserved: 1_024,
        };
        let kernel = Kernel::stub();
        let counters = Arc::new(Counters::default());
        let job = JobSettings {
            payout_script: vec![0x51; 22],
            signature: b"/count/".to_vec(),
            group_prefix: Vec::new(),
            extranonce1_size: 4,
            extranonce2_size: 4,
            version_mask: 0x1fff_e000,
            first_number: 1,
        };
        let mut world = World {
            shard: Shard::new(settings, kernel, counters.clone()),
            ring: MemoryRing::default(),
            lane: Messages {
                to_shard: VecDeque::new(),
                space: Space::new(4).expect("four bytes are allowed"),
            },
            counters,
            maker: JobMaker::new(job, kernel),
            job_number: 0,
            tips: 0,
            now: Tick(1_000_000),
            line: Vec::new(),
        };
        world.shard.start(&mut world.ring);
        world.new_job();
        world.turn();
        world
    }

    /// Connects miners up to `number` and lets them subscribe and authorize.
    pub(crate) fn connect(&mut self, number: u32) {
        for _ in 0..number {
            self.ring.connect();
        }
        self.turn();
        for socket in 0..number {
            self.line.clear();
            client::subscribe(&mut self.line, 1, "count/1", None);
            client::authorize(&mut self.line, 2, "worker", "x");
            self.ring.receive(socket, &self.line);
        }
        self.turn();
    }

    /// Bytes of one more share; the turn serves it.
    pub(crate) fn receive_share(&mut self, socket: u32, nonce: u32) {
        self.line.clear();
        let submit = client::Submit {
            worker: "worker",
            job_id: &format!("{:x}{:08x}", self.job_number, CURTIME),
            extranonce2: &[0, 0, 0, 1],
            ntime: CURTIME,
            nonce,
            version_bits: None,
        };
        client::submit(&mut self.line, 100 + u64::from(nonce), &submit);
        self.ring.receive(socket, &self.line);
    }

    /// A new tip, for the next turn.
    pub(crate) fn new_job(&mut self) {
        self.tips += 1;
        let template = Template {
            height: 850_000 + u32::from(self.tips),
            prev_hash: Hash256([self.tips; 32]),
            version: 0x2000_0000,
            bits: MAINNET_BITS,
            curtime: CURTIME,
            min_ntime: CURTIME - 3_600,
            coinbase_value: 312_500_000,
            coinbase_version: 2,
            coinbase_sequence: 0xffff_fffe,
            coinbase_locktime: 0,
            witness_commitment: Some(vec![0x6a; 38]),
            coinbase_aux: Vec::new(),
            merkle_path: (0..MERKLE_DEPTH).map(|level| Hash256([level; 32])).collect(),
            transactions: Arc::from([]),
            weight: 4_000,
        };
        let job = self.maker.make(&template, self.now).expect("the template is sound");
        self.job_number = job.number;
        self.ring.jobs_sent = 0;
        self.lane.to_shard.push_back(ToShard::Job(Arc::new(job)));
    }

    /// Turns until nothing is at hand.
    pub(crate) fn turn(&mut self) {
        loop {
            let turn = self.shard.turn(self.now, &mut self.ring, &mut self.lane, &NoGuard);
            // Less than a second in all, so that the job's own second stays that of its ids.
            self.now = Tick(self.now.as_micros() + u64::from(turn.deadline > self.now) / TURN_US);
            let quiet = turn.deadline > self.now && self.lane.to_shard.is_empty();
            if quiet && self.ring.is_idle() {
                return;
            }
        }
    }

    pub(crate) fn accepted(&self) -> u64 {
        self.counters.shares[ShareOutcome::Accepted as usize].value()
    }

    pub(crate) fn notified(&self) -> u32 {
        self.ring.jobs_sent
    }
}
