//! The lanes between the coordinator and the shards: a bounded queue each way and a bell that wakes
//! only a sleeper. `plane.rs` holds a shard's end, `coordinator.rs` the other.
//!
//! ```text
//! coordinator ─ to_shard (256) ─────────────► shard k      bell: eventfd in the shard's ring
//!             ◄─ from_shard (1,024 + 64) ───                bell: eventfd read by the pump
//! ```
//!
//! Full is never loss: a message that does not fit goes back to its sender, which keeps it. The
//! last slots towards the coordinator are for blocks alone, so that no report is ever before one.
//!
//! A shard that was begun anew is another shard to the farm: messages carry the life they belong
//! to, and those of a former life are dropped (its leases went back when it died).

use std::os::fd::OwnedFd;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU32, AtomicU64, Ordering, fence};

use crossbeam::queue::ArrayQueue;
use farm::messages::{FoundBlock, FromShard, ToShard};
use rustix::event::{EventfdFlags, eventfd};
use rustix::io::Errno;

/// Messages under way to a shard. Jobs come every few seconds, leases and reports one at a time.
pub const TO_SHARD_MAX: usize = 256;
/// Messages under way from a shard, besides blocks: a second's reports and leases many times over.
pub const FROM_SHARD_MAX: usize = 1_024;
/// Slots that only blocks may use: more than a shard finds while the coordinator looks away.
pub const BLOCKS_RESERVED: usize = 64;

/// Wakes one sleeping thread through an event counter.
///
/// The sleeper says that it lies down, looks once more for news, and only then sleeps; who brings
/// news looks for a sleeper afterwards. One of the two always sees the other.
#[derive(Debug)]
pub(crate) struct Bell {
    asleep: AtomicBool,
    counter: OwnedFd,
}

impl Bell {
    /// A bell whose counter is polled by a ring: reads of it never block.
    pub(crate) fn polled() -> Result<Bell, Errno> {
        Bell::new(EventfdFlags::CLOEXEC | EventfdFlags::NONBLOCK)
    }

    /// A bell whose counter is read to wait.
    pub(crate) fn awaited() -> Result<Bell, Errno> {
        Bell::new(EventfdFlags::CLOEXEC)
    }

    fn new(flags: EventfdFlags) -> Result<Bell, Errno> {
        Ok(Bell { asleep: AtomicBool::new(false), counter: eventfd(0, flags)? })
    }

    /// Another handle of the counter, for whoever waits on it.
    pub(crate) fn counter(&self) -> std::io::Result<OwnedFd> {
        self.counter.try_clone()
    }

    /// Wakes the other side if it sleeps. To be called after the news was put down.
    pub(crate) fn ring(&self) {
        fence(Ordering::SeqCst);
        if self.asleep.load(Ordering::Relaxed) && self.asleep.swap(false, Ordering::SeqCst) {
            self.ring_always();
        }
    }

    /// Wakes the other side, asleep or not: the way out for one that sleeps by mistake.
    pub(crate) fn ring_always(&self) {
        // It can only fail when 2^64 wakes are unread, and then the other side is awake enough.
        let _ = rustix::io::write(&self.counter, &1_u64.to_ne_bytes());
    }

    /// Says that the caller is about to sleep; it must look for news once more before it does.
    pub(crate) fn lie_down(&self) {
        self.asleep.store(true, Ordering::SeqCst);
        fence(Ordering::SeqCst);
    }

    pub(crate) fn get_up(&self) {
        self.asleep.store(false, Ordering::Relaxed);
    }
}

/// How many found blocks are under way to where the end of this process cannot lose them, of all
/// shards: one that ends the process must not take the others' blocks with it.
#[derive(Debug, Default)]
pub(crate) struct BlocksUnderWay {
    given: AtomicU64,
    saved: AtomicU64,
}

impl BlocksUnderWay {
    /// Tells how many of all blocks that ever left the shards are out of danger.
    pub(crate) fn set_saved(&self, saved: u64) {
        self.saved.store(saved, Ordering::Release);
    }

    /// Whether no block is under way.
    pub(crate) fn is_none(&self) -> bool {
        self.saved.load(Ordering::Acquire) >= self.given.load(Ordering::Acquire)
    }
}

/// What the two ends of one shard's lanes share.
pub(crate) struct Line {
    to_shard: ArrayQueue<(u32, ToShard)>,
    from_shard: ArrayQueue<(u32, FromShard)>,
    shard_bell: Bell,
    coordinator_bell: Arc<Bell>,
    blocks: Arc<BlocksUnderWay>,
    /// Which life of the shard runs; 0 before the first.
    life: AtomicU32,
    /// The coordinator has something that did not fit: tell it when there is room.
    wants_room: AtomicBool,
    stop: AtomicBool,
    to_shard_full: AtomicU64,
    from_shard_full: AtomicU64,
}

/// How full a shard's lanes are, for metrics.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct LaneStatus {
    /// Messages under way to the shard, at most [`TO_SHARD_MAX`].
    pub to_shard: usize,
    /// Messages that did not fit and stayed with the coordinator, since the start.
    pub to_shard_full: u64,
    /// Messages under way from the shard, at most [`FROM_SHARD_MAX`] + [`BLOCKS_RESERVED`].
    pub from_shard: usize,
    /// Messages that did not fit and stayed with the shard, since the start.
    pub from_shard_full: u64,
}

impl Line {
    pub(crate) fn new(
        coordinator_bell: Arc<Bell>,
        blocks: Arc<BlocksUnderWay>,
    ) -> Result<Line, Errno> {
        Ok(Line {
            to_shard: ArrayQueue::new(TO_SHARD_MAX),
            from_shard: ArrayQueue::new(FROM_SHARD_MAX + BLOCKS_RESERVED),
            shard_bell: Bell::polled()?,
            coordinator_bell,
            blocks,
            life: AtomicU32::new(0),
            wants_room: AtomicBool::new(false),
            stop: AtomicBool::new(false),
            to_shard_full: AtomicU64::new(0),
            from_shard_full: AtomicU64::new(0),
        })
    }

    /// Tells the shard's host to end, whatever the shard does.
    pub(crate) fn stop(&self) {
        self.stop.store(true, Ordering::SeqCst);
        self.shard_bell.ring_always();
    }

    /// The found blocks of all shards that are under way.
    pub(crate) fn blocks(&self) -> &BlocksUnderWay {
        &self.blocks
    }

    pub(crate) fn status(&self) -> LaneStatus {
        LaneStatus {
            to_shard: self.to_shard.len(),
            to_shard_full: self.to_shard_full.load(Ordering::Relaxed),
            from_shard: self.from_shard.len(),
            from_shard_full: self.from_shard_full.load(Ordering::Relaxed),
        }
    }
}

/// A shard's end of its lanes, for one life of the shard.
pub(crate) struct ShardEnd {
    line: Arc<Line>,
    life: u32,
}

impl ShardEnd {
    /// Begins a life of the shard; the farm hears of it before its first message.
    pub(crate) fn begin(line: Arc<Line>, life: u32) -> ShardEnd {
        assert!(life > line.life.load(Ordering::Relaxed), "lives are counted up");
        line.life.store(life, Ordering::Release);
        line.coordinator_bell.ring();
        ShardEnd { line, life }
    }

    pub(crate) fn is_stopped(&self) -> bool {
        self.line.stop.load(Ordering::Relaxed)
    }

    /// Another handle of the counter that wakes the shard.
    pub(crate) fn counter(&self) -> std::io::Result<OwnedFd> {
        self.line.shard_bell.counter()
    }

    /// Says that the shard is about to sleep. True if it may: there is no news.
    pub(crate) fn lie_down(&self) -> bool {
        self.line.shard_bell.lie_down();
        let quiet = self.line.to_shard.is_empty() && !self.is_stopped();
        if !quiet {
            self.line.shard_bell.get_up();
        }
        quiet
    }

    pub(crate) fn get_up(&self) {
        self.line.shard_bell.get_up();
    }

    fn push(&self, message: FromShard, limit: usize) -> Result<(), FromShard> {
        // Nobody else pushes here, so the length can only shrink meanwhile.
        let pushed = if self.line.from_shard.len() < limit {
            self.line.from_shard.push((self.life, message)).map_err(|(_, message)| message)
        } else {
            Err(message)
        };
        if pushed.is_err() {
            self.line.from_shard_full.fetch_add(1, Ordering::Relaxed);
        }
        self.line.coordinator_bell.ring();
        pushed
    }
}

impl shard::Lane for ShardEnd {
    fn receive(&mut self) -> Option<ToShard> {
        loop {
            let (life, message) = self.line.to_shard.pop()?;
            if self.line.wants_room.swap(false, Ordering::SeqCst) {
                self.line.coordinator_bell.ring();
            }
            if life == self.life {
                return Some(message);
            }
        }
    }

    fn send(&mut self, message: FromShard) -> Result<(), FromShard> {
        self.push(message, FROM_SHARD_MAX)
    }

    fn send_block(&mut self, block: Box<FoundBlock>) -> Result<(), Box<FoundBlock>> {
        // Counted before it can be heard of, so that it is never in danger uncounted.
        self.line.blocks.given.fetch_add(1, Ordering::AcqRel);
        self.push(FromShard::Block(block), FROM_SHARD_MAX + BLOCKS_RESERVED).map_err(|message| {
            self.line.blocks.given.fetch_sub(1, Ordering::AcqRel);
            match message {
                FromShard::Block(block) => block,
                other => unreachable!("a block was sent, {other:?} came back"),
            }
        })
    }

    fn blocks_are_saved(&self) -> bool {
        self.line.blocks.is_none()
    }
}

/// What the coordinator reads from a lane.
pub(crate) enum Heard {
    /// A new life of the shard has begun; one that ran before is dead.
    Began,
    /// A message of the present life.
    Message(FromShard),
}

/// The coordinator's end of one shard's lanes.
pub(crate) struct CoordinatorEnd {
    line: Arc<Line>,
    life: u32,
    /// A message of a life that the farm had not heard of when it was read.
    early: Option<FromShard>,
}

impl CoordinatorEnd {
    pub(crate) fn new(line: Arc<Line>) -> CoordinatorEnd {
        CoordinatorEnd { line, life: 0, early: None }
    }

    /// The next news of the shard, in its order.
    pub(crate) fn receive(&mut self) -> Option<Heard> {
        if let Some(message) = self.early.take() {
            return Some(Heard::Message(message));
        }
        // Read before the queue: what a former life said last is then in the queue already.
        let present = self.line.life.load(Ordering::Acquire);
        if let Some((life, message)) = self.line.from_shard.pop() {
            if life == self.life {
                return Some(Heard::Message(message));
            }
            self.life = life;
            self.early = Some(message);
            return Some(Heard::Began);
        }
        let begun = present > self.life;
        self.life = present;
        begun.then_some(Heard::Began)
    }

    /// Sends to the present life of the shard, or gives the message back while the lane is full.
    pub(crate) fn send(&mut self, message: ToShard) -> Result<(), ToShard> {
        let pushed = self.line.to_shard.push((self.life, message)).or_else(|(life, message)| {
            self.line.wants_room.store(true, Ordering::SeqCst);
            // The shard may have made room just before it could see the wish.
            self.line.to_shard.push((life, message)).map_err(|(_, message)| message)
        });
        if pushed.is_err() {
            self.line.to_shard_full.fetch_add(1, Ordering::Relaxed);
        }
        self.line.shard_bell.ring();
        pushed
    }
}

#[cfg(test)]
mod tests {
    use std::thread;

    use farm::messages::ToShard;
    use shard::Lane;

    use super::*;

    fn line() -> Arc<Line> {
        let bell = Arc::new(Bell::awaited().expect("an eventfd"));
        Arc::new(Line::new(bell, Arc::default()).expect("an eventfd"))
    }

    fn wants(prefixes: u32) -> FromShard {
        FromShard::WantLease { prefixes }
    }

    #[test]
    fn a_full_lane_gives_back_and_keeps_room_for_blocks() {
        let line = line();
        let mut shard = ShardEnd::begin(line.clone(), 1);
        for index in 0..FROM_SHARD_MAX {
            shard.send(wants(index as u32)).expect("there is room");
        }
        assert!(matches!(shard.send(wants(7)), Err(FromShard::WantLease { prefixes: 7 })));
        // `push` is what `send_block` uses; a whole block is not needed to fill a slot.
        for _ in 0..BLOCKS_RESERVED {
            shard.push(wants(0), FROM_SHARD_MAX + BLOCKS_RESERVED).expect("reserved slots");
        }
        assert!(shard.push(wants(0), FROM_SHARD_MAX + BLOCKS_RESERVED).is_err());
        let status = line.status();
        assert_eq!(status.from_shard, FROM_SHARD_MAX + BLOCKS_RESERVED);
        assert_eq!(status.from_shard_full, 2);

        let mut coordinator = CoordinatorEnd::new(line.clone());
        coordinator.life = 1;
        for _ in 0..TO_SHARD_MAX {
            coordinator.send(ToShard::Drain).expect("there is room");
        }
        let given_back = coordinator.send(ToShard::ListMiners { query: 5 });
        assert!(matches!(given_back, Err(ToShard::ListMiners { query: 5 })));
        assert!(line.wants_room.load(Ordering::SeqCst));
        assert!(matches!(shard.receive(), Some(ToShard::Drain)));
        assert!(!line.wants_room.load(Ordering::SeqCst), "the shard has told of the room");
        assert_eq!(line.status().to_shard_full, 1);
    }

    #[test]
    fn a_new_life_is_told_before_its_messages_and_never_gets_those_of_the_old() {
        let line = line();
        let mut coordinator = CoordinatorEnd::new(line.clone());
        assert!(coordinator.receive().is_none());
        let mut first = ShardEnd::begin(line.clone(), 1);
        assert!(matches!(coordinator.receive(), Some(Heard::Began)));
        assert!(coordinator.receive().is_none());
        first.send(wants(1)).expect("there is room");
        coordinator.send(ToShard::Drain).expect("there is room");
        drop(first);
        let mut second = ShardEnd::begin(line, 2);
        second.send(wants(2)).expect("there is room");
        let mut heard = Vec::new();
        while let Some(news) = coordinator.receive() {
            heard.push(match news {
                Heard::Began => 0,
                Heard::Message(FromShard::WantLease { prefixes }) => prefixes,
                Heard::Message(other) => panic!("{other:?}"),
            });
        }
        assert_eq!(heard, [1, 0, 2]);
        coordinator.send(ToShard::ListMiners { query: 9 }).expect("there is room");
        assert!(matches!(second.receive(), Some(ToShard::ListMiners { query: 9 })));
    }

    #[test]
    fn a_sleeper_is_always_woken_and_nobody_is_lost() {
        const MESSAGES: u32 = 20_000;
        let line = line();
        let mut shard = ShardEnd::begin(line.clone(), 1);
        let coordinator = thread::spawn(move || {
            let mut end = CoordinatorEnd::new(line.clone());
            let mut expected = 0;
            while expected < MESSAGES {
                line.coordinator_bell.lie_down();
                match end.receive() {
                    Some(Heard::Message(FromShard::WantLease { prefixes })) => {
                        assert_eq!(prefixes, expected);
                        expected += 1;
                    }
                    Some(_) => {}
                    None => {
                        let mut wakes = [0; 8];
                        rustix::io::read(&line.coordinator_bell.counter, &mut wakes)
                            .expect("a blocking counter");
                    }
                }
                line.coordinator_bell.get_up();
            }
        });
        for index in 0..MESSAGES {
            let mut message = wants(index);
            while let Err(back) = shard.send(message) {
                message = back;
                thread::yield_now();
            }
        }
        coordinator.join().expect("every message came, in its order");
    }
}
