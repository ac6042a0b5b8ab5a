//! The simulated lane: two bounded queues with a delay each, in order, like the engine's. Some of
//! the slots towards the coordinator are for blocks alone. As there, it outlives the lives of its
//! shard: what a former life said last is heard, what it was to be told is dropped.

use std::cell::RefCell;
use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::rc::Rc;
use std::sync::Arc;

use farm::ledger::WorkerId;
use farm::messages::{FoundBlock, FromShard, Lease, ParkedSession, ToShard};
use session::{DownstreamSv1, Input, Job, Output, Question, SendBuf, Settings, Shared};
use shard::Lane;
use wire::sv1::write::client;

use crate::faults::Sabotage;
use crate::random::Random;

/// Slots that only a block may use.
const BLOCK_SLOTS: usize = 4;

/// What the coordinator hears from a lane.
pub enum News {
    /// A new life of the shard has begun; one that ran before is dead.
    Began,
    /// A message of the present life.
    Message(FromShard),
}

/// What one life of a shard has told so far, whether or not it has arrived.
#[derive(Default)]
pub struct Told {
    workers: BTreeMap<WorkerId, (u64, f64)>,
    /// Blocks.
    pub blocks: u64,
}

impl Told {
    /// Credited shares and credited work.
    pub fn credit(&self) -> (u64, f64) {
        let add = |sum: (u64, f64), row: &(u64, f64)| (sum.0 + row.0, sum.1 + row.1);
        self.workers.values().fold((0, 0.0), add)
    }
}

/// One shard's lane.
pub struct SimLane {
    /// The present moment; the world sets it before every call.
    pub now: u64,
    /// Longest way of a message, in µs.
    pub delay_us_max: u64,
    /// A lie to be told.
    pub sabotage: Option<Sabotage>,
    /// When a message that was just sent arrives.
    pub wishes: Vec<u64>,
    slots: usize,
    random: Random,
    /// Each with the life that it is for.
    to_shard: VecDeque<(u64, u32, ToShard)>,
    from_shard: VecDeque<(u64, News)>,
    /// The life of the shard that runs; 0 before the first.
    life: u32,
    /// The newest life that the coordinator has heard of.
    heard: u32,
    /// What the present life has told.
    pub told: Told,
    tip_seen: u32,
    /// Every job that went this way, for the worlds that lie about tips and about shares.
    jobs: Vec<Arc<Job>>,
    /// Blocks that never arrive, for the world that lies about them.
    pub forgotten: Rc<RefCell<BTreeSet<[u8; 32]>>>,
    /// The newest lease that went to the shard, for a world that lies about leases.
    pub last_lease: Option<Lease>,
}

impl SimLane {
    /// An empty lane with so many slots in each direction.
    pub fn new(slots: usize, delay_us_max: u64, random: Random) -> SimLane {
        SimLane {
            now: 0,
            delay_us_max,
            sabotage: None,
            wishes: Vec::new(),
            slots,
            random,
            to_shard: VecDeque::new(),
            from_shard: VecDeque::new(),
            life: 0,
            heard: 0,
            told: Told::default(),
            tip_seen: 0,
            jobs: Vec::new(),
            forgotten: Rc::default(),
            last_lease: None,
        }
    }

    /// A life of the shard begins; the coordinator hears of it behind the last words of the one
    /// before.
    pub fn begin(&mut self) {
        self.life += 1;
        self.told = Told::default();
        self.push(News::Began);
    }

    /// Whether a block would find no slot.
    pub fn is_full(&self) -> bool {
        self.from_shard.len() >= self.slots.max(BLOCK_SLOTS + 1)
    }

    /// The coordinator sends; a full lane gives the message back.
    pub fn offer(&mut self, message: ToShard) -> Result<u64, ToShard> {
        if self.to_shard.len() >= self.slots {
            return Err(message);
        }
        let message = self.disguise(message);
        let at = self.arrival(self.to_shard.back().map(|(at, _, _)| *at));
        match &message {
            ToShard::Job(job) if job.tip > self.tip_seen => {
                self.tip_seen = job.tip;
                if self.sabotage == Some(Sabotage::LostJob) && job.tip > 2 {
                    self.sabotage = None;
                    return Ok(at);
                }
            }
            ToShard::Lease(lease) => self.last_lease = Some(lease.clone()),
            _ => {}
        }
        self.to_shard.push_back((at, self.heard, message));
        Ok(at)
    }

    /// A lie: a job on a tip that returns is the one that was made there at first.
    fn disguise(&mut self, message: ToShard) -> ToShard {
        let job = match message {
            ToShard::Job(job) => job,
            ToShard::Resumed { id, parked: Some(parked) }
                if self.sabotage == Some(Sabotage::ForgottenShares) =>
            {
                let newest = self.jobs.last().expect("a session had work");
                let parked = Some(without_shares(*parked, newest));
                return ToShard::Resumed { id, parked };
            }
            message => return message,
        };
        if self.sabotage == Some(Sabotage::ForgottenShares) {
            self.jobs.push(job.clone());
        }
        if self.sabotage != Some(Sabotage::TipWithoutNumber) {
            return ToShard::Job(job);
        }
        let is_first = |first: &&Arc<Job>| {
            first.tip < job.tip && first.work.prev_hash() == job.work.prev_hash()
        };
        let Some(first) = self.jobs.iter().rev().find(is_first) else {
            self.jobs.push(job.clone());
            return ToShard::Job(job);
        };
        ToShard::Job(Arc::new(forged(&job, job.tip, first)))
    }

    /// Puts a message before the shard that the coordinator never sent.
    pub fn forge(&mut self, message: ToShard) {
        self.to_shard.push_back((self.now, self.life, message));
    }

    /// The next message that has arrived at the coordinator.
    pub fn take(&mut self) -> Option<News> {
        let (at, _) = self.from_shard.front()?;
        if *at > self.now {
            return None;
        }
        let (_, mut news) = self.from_shard.pop_front()?;
        if let News::Began = news {
            self.heard += 1;
        }
        if self.sabotage == Some(Sabotage::PaddedReport)
            && let News::Message(FromShard::Report(report)) = &mut news
            && let Some(row) = report.rows.iter_mut().find(|row| row.totals.accepted > 0)
        {
            // Every time: the ledger puts a single wrong report right with the next one.
            row.totals.accepted += 1;
        }
        Some(news)
    }

    /// When the next message arrives at the shard.
    pub fn next_arrival(&self) -> Option<u64> {
        self.to_shard.front().map(|(at, _, _)| *at)
    }

    /// Messages under way, in both directions.
    pub fn depths(&self) -> [usize; 2] {
        [self.to_shard.len(), self.from_shard.len()]
    }

    fn arrival(&mut self, last: Option<u64>) -> u64 {
        let at = self.now + self.random.within(1, self.delay_us_max.max(1));
        at.max(last.unwrap_or(0))
    }

    fn push(&mut self, news: News) {
        let at = self.arrival(self.from_shard.back().map(|(at, _)| *at));
        self.wishes.push(at);
        self.from_shard.push_back((at, news));
    }
}

/// A job on another tip, or with another's content.
fn forged(job: &Job, tip: u32, content: &Job) -> Job {
    Job {
        number: job.number,
        tip,
        height: job.height,
        received: job.received,
        curtime: job.curtime,
        min_ntime: job.min_ntime,
        version: job.version,
        version_mask: job.version_mask,
        network_target: job.network_target,
        content: content.content,
        work: content.work.clone(),
        coinbase_first: content.coinbase_first.clone(),
        coinbase_second: content.coinbase_second.clone(),
        replaces_coinbase_only: job.replaces_coinbase_only,
    }
}

/// A session as it is when its fingerprints do not travel: it is made to see two tips that never
/// were, after which a session forgets the shares before them.
fn without_shares(parked: ParkedSession, newest: &Job) -> Box<ParkedSession> {
    let ParkedSession { peer, since, session } = parked;
    let mut shared = Shared::new(Settings::default());
    shared.adopt(Arc::new(forged(newest, newest.tip + 2, newest)));
    let mut machine = DownstreamSv1::new(since, &shared, 0);
    let mut hello = Vec::new();
    client::subscribe(&mut hello, 1, "sim/1", Some(&format!("{:016x}", session.session_id().0)));
    machine.handle(since, &shared, Input::Bytes(&mut hello));
    let asked = machine.poll_output(&shared, &mut SendBuf::closed());
    assert!(matches!(asked, Output::Ask(Question::Resume(_))), "{asked:?}");
    machine.handle(since, &shared, Input::Resumed(&mut Some(Box::new(session))));
    let session = machine.park().expect("it had work before");
    assert!(!session.has_shares(), "they are forgotten");
    Box::new(ParkedSession { peer, since, session })
}

impl Lane for SimLane {
    fn receive(&mut self) -> Option<ToShard> {
        loop {
            let (at, _, _) = self.to_shard.front()?;
            if *at > self.now {
                return None;
            }
            let (_, life, message) = self.to_shard.pop_front()?;
            if life == self.life {
                return Some(message);
            }
        }
    }

    fn send(&mut self, message: FromShard) -> Result<(), FromShard> {
        if self.from_shard.len() + BLOCK_SLOTS > self.slots.max(BLOCK_SLOTS + 1) {
            return Err(message);
        }
        if let FromShard::Report(report) = &message {
            let rows = report.rows.iter();
            let credit =
                rows.map(|row| (row.id, (row.totals.accepted, row.totals.difficulty_accepted)));
            self.told.workers.extend(credit);
        }
        self.push(News::Message(message));
        Ok(())
    }

    fn send_block(&mut self, block: Box<FoundBlock>) -> Result<(), Box<FoundBlock>> {
        if self.sabotage == Some(Sabotage::LostBlock) {
            self.sabotage = None;
            return Ok(());
        }
        if self.forgotten.borrow().contains(&block.hash.0) {
            return Ok(());
        }
        if self.is_full() {
            return Err(block);
        }
        self.told.blocks += 1;
        self.push(News::Message(FromShard::Block(block)));
        Ok(())
    }

    /// The simulated desk keeps a block at once when it has come.
    fn blocks_are_saved(&self) -> bool {
        let is_block = |(_, news): &(u64, News)| matches!(news, News::Message(FromShard::Block(_)));
        !self.from_shard.iter().any(is_block)
    }
}
