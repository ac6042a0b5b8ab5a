//! What goes wrong in a world, and how often. Each seed draws its own rates and switches whole
//! kinds off (swarm testing): with everything on at once some bugs hide behind others.

use crate::random::Random;

/// A canary: one deliberate lie in the world around the shard, to show that the checkers see it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Sabotage {
    /// The ring delivers one buffer of bytes twice.
    BytesTwice,
    /// The ring reports a healthy connection as reset.
    ForeignReset,
    /// The lane loses a job on a new tip on its way to one shard.
    LostJob,
    /// The lane loses a found block.
    LostBlock,
    /// The lane gives one shard's lease to another shard too.
    SharedLease,
    /// A reply to a share vanishes on a healthy link.
    LostReply,
    /// A miner is told of its credit twice.
    CreditTwice,
    /// A miner is sent the job of a former tip again.
    OldTip,
    /// Reports reach the coordinator with a share too many.
    PaddedReport,
    /// A shard that begins anew is given the lease of its former life at once.
    LeaseOfTheDead,
    /// A shard that begins anew counts under the number of its former life.
    SameLife,
    /// A tip that returns makes the jobs of its first time again: no number tells its two times
    /// apart in the coinbase.
    TipWithoutNumber,
    /// A shard's clock jumps with the date.
    ClockOfTheDate,
    /// Whoever reads nothing is sent to without end.
    EndlessSendBuffer,
    /// Thieves come from the address of the miner whose session they name.
    BorrowedAddress,
    /// A session that moves to another shard comes there without the shares that were counted.
    ForgottenShares,
    /// A share is forgotten with a connection that is reset before the turn is over, as a shard
    /// once did.
    ForgottenWithReset,
}

/// The rates of one world. Zero is off.
#[derive(Clone, Debug, Default)]
pub struct Faults {
    /// Per mille of sends that take fewer bytes than there is room for.
    pub short_sends: u64,
    /// Completions may overtake each other by so many places, where they may at all.
    pub reorder: u64,
    /// Longest time from a send to its completion, in µs.
    pub completion_us_max: u64,
    /// Per mille of receives that end for lack of buffers.
    pub no_buffers: u64,
    /// Per mille of closes after which the ring still reports something of the closed connection:
    /// more than a real ring may do, and the reason for generations.
    pub stale: u64,
    /// Provided buffers per shard.
    pub buffers: usize,
    /// Per mille of writes that arrive in pieces.
    pub splits: u64,
    /// Longest way of a byte, in µs.
    pub delay_us_max: u64,
    /// Mean time between two resets in the world, in µs.
    pub reset_us: u64,
    /// Mean time between two miners that vanish without a word, in µs.
    pub vanish_us: u64,
    /// Mean time between two clogs of a random subset of the links, in µs.
    pub clog_us: u64,
    /// Mean time between two readers that stop, in µs.
    pub stop_reader_us: u64,
    /// Per mille of accepts that end for lack of descriptors.
    pub exhausted: u64,
    /// Mean time between two stalls of a shard, in µs.
    pub stall_us: u64,
    /// Mean time between two deaths of a shard, in µs.
    pub death_us: u64,
    /// Mean time between two jumps of the node's clock, in µs.
    pub clock_us: u64,
    /// Longest way of a message between shard and coordinator, in µs.
    pub lane_us_max: u64,
    /// Messages that a lane holds.
    pub lane_slots: usize,
    /// Guarded calls per million that panic.
    pub panics: u64,
    /// Per mille of submissions that the node does not answer.
    pub silent_node: u64,
    /// Per mille of new tips that do not stand on the one before: it gives way to a rival of its
    /// height or a lower one, or to the one before it, which returns.
    pub reorgs: u64,
    /// Per mille of miners that misbehave.
    pub hostile: u64,
}

impl Faults {
    /// A world where everything works, with short delays.
    pub fn none() -> Faults {
        Faults {
            buffers: 64,
            delay_us_max: 2_000,
            lane_us_max: 500,
            lane_slots: 64,
            ..Faults::default()
        }
    }

    /// The world of a seed.
    pub fn draw(random: &mut Random) -> Faults {
        const SECOND: u64 = 1_000_000;
        let mut maybe = |low, high| if random.happens(500) { random.within(low, high) } else { 0 };
        Faults {
            short_sends: maybe(10, 500),
            reorder: maybe(2, 16),
            completion_us_max: maybe(100, 20_000),
            no_buffers: maybe(5, 200),
            stale: maybe(100, 1_000),
            splits: maybe(50, 1_000),
            reset_us: maybe(SECOND / 2, 10 * SECOND),
            vanish_us: maybe(2 * SECOND, 20 * SECOND),
            clog_us: maybe(5 * SECOND, 20 * SECOND),
            stop_reader_us: maybe(5 * SECOND, 20 * SECOND),
            exhausted: maybe(10, 300),
            stall_us: maybe(5 * SECOND, 30 * SECOND),
            clock_us: maybe(3 * SECOND, 30 * SECOND),
            death_us: maybe(5 * SECOND, 40 * SECOND),
            panics: maybe(1, 200),
            silent_node: maybe(50, 500),
            reorgs: maybe(50, 300),
            hostile: maybe(50, 400),
            lane_us_max: 50 + maybe(100, 100_000),
            delay_us_max: 200 + maybe(1_000, 300_000),
            buffers: if random.happens(500) { 64 } else { random.within(2, 8) as usize },
            lane_slots: if random.happens(500) { 64 } else { random.within(2, 8) as usize },
        }
    }

    /// The same world after its faults: what was slow stays slow, what fails stops failing.
    pub fn healed(&self) -> Faults {
        Faults {
            buffers: self.buffers,
            lane_slots: self.lane_slots,
            lane_us_max: self.lane_us_max,
            delay_us_max: self.delay_us_max,
            reorder: self.reorder,
            splits: self.splits,
            completion_us_max: self.completion_us_max,
            hostile: self.hostile,
            ..Faults::default()
        }
    }
}
