//! The simulated lane: two bounded queues with a delay each, in order, like the engine's. Some of
//! the slots towards the coordinator are for blocks alone.

use std::collections::VecDeque;

use farm::messages::{FoundBlock, FromShard, Lease, ToShard};
use shard::Lane;

use crate::faults::Sabotage;
use crate::random::Random;

/// Slots that only a block may use.
const BLOCK_SLOTS: usize = 4;

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
    to_shard: VecDeque<(u64, ToShard)>,
    from_shard: VecDeque<(u64, FromShard)>,
    tip_seen: u32,
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
            tip_seen: 0,
            last_lease: None,
        }
    }

    /// The coordinator sends; a full lane gives the message back.
    pub fn offer(&mut self, message: ToShard) -> Result<u64, ToShard> {
        if self.to_shard.len() >= self.slots {
            return Err(message);
        }
        let at = self.arrival(self.to_shard.back().map(|(at, _)| *at));
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
        self.to_shard.push_back((at, message));
        Ok(at)
    }

    /// Puts a message before the shard that the coordinator never sent.
    pub fn forge(&mut self, message: ToShard) {
        self.to_shard.push_back((self.now, message));
    }

    /// The next message that has arrived at the coordinator.
    pub fn take(&mut self) -> Option<FromShard> {
        let (at, _) = self.from_shard.front()?;
        if *at > self.now {
            return None;
        }
        let (_, mut message) = self.from_shard.pop_front()?;
        if self.sabotage == Some(Sabotage::PaddedReport)
            && let FromShard::Report(report) = &mut message
            && let Some(row) = report.rows.iter_mut().find(|row| row.totals.accepted > 0)
        {
            // Every time: the ledger puts a single wrong report right with the next one.
            row.totals.accepted += 1;
        }
        Some(message)
    }

    /// When the next message arrives at the shard.
    pub fn next_arrival(&self) -> Option<u64> {
        self.to_shard.front().map(|(at, _)| *at)
    }

    /// Messages under way, in both directions.
    pub fn depths(&self) -> [usize; 2] {
        [self.to_shard.len(), self.from_shard.len()]
    }

    fn arrival(&mut self, last: Option<u64>) -> u64 {
        let at = self.now + self.random.within(1, self.delay_us_max.max(1));
        at.max(last.unwrap_or(0))
    }

    fn push(&mut self, message: FromShard) {
        let at = self.arrival(self.from_shard.back().map(|(at, _)| *at));
        self.wishes.push(at);
        self.from_shard.push_back((at, message));
    }
}

impl Lane for SimLane {
    fn receive(&mut self) -> Option<ToShard> {
        let (at, _) = self.to_shard.front()?;
        if *at > self.now {
            return None;
        }
        self.to_shard.pop_front().map(|(_, message)| message)
    }

    fn send(&mut self, message: FromShard) -> Result<(), FromShard> {
        if self.from_shard.len() + BLOCK_SLOTS > self.slots.max(BLOCK_SLOTS + 1) {
            return Err(message);
        }
        self.push(message);
        Ok(())
    }

    fn send_block(&mut self, block: Box<FoundBlock>) -> Result<(), Box<FoundBlock>> {
        if self.sabotage == Some(Sabotage::LostBlock) {
            self.sabotage = None;
            return Ok(());
        }
        if self.from_shard.len() >= self.slots.max(BLOCK_SLOTS + 1) {
            return Err(block);
        }
        self.push(FromShard::Block(block));
        Ok(())
    }
}
