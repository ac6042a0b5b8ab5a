//! A job: one piece of work for the whole farm, immutable, and the renderings that miners are given
//! of it. The bytes of a rendering are `farm`'s; here is only what names them.

use crate::contract::Tick;
use alloc::vec::Vec;
use pow::{Target, Work};

/// One piece of work, the same for all miners but for their extranonces.
#[derive(Debug)]
pub struct Job {
    /// Farm-wide number: rises, never reused, zero for no job.
    pub number: u32,
    /// Rises by one with each adopted previous hash.
    pub tip: u32,
    /// Height of the block that is sought.
    pub height: u32,
    /// When the template came in: the zero of the job's own seconds.
    pub received: Tick,
    /// The template's time, seconds since 1970.
    pub curtime: u32,
    /// The earliest time that the network takes, seconds since 1970.
    pub min_ntime: u32,
    /// The header's version with every bit of `version_mask` cleared.
    pub version: u32,
    /// Bits that miners may set.
    pub version_mask: u32,
    /// What makes a share a block.
    pub network_target: Target,
    /// A seed for fingerprints of everything that makes this job's headers differ from another's.
    pub content: u64,
    /// The coinbase's and merkle path's precomputed state, with previous hash and bits.
    pub work: Work,
    /// The stripped coinbase before the extranonce (SV1 coinb1).
    pub coinbase_first: Vec<u8>,
    /// The stripped coinbase after the extranonce (SV1 coinb2).
    pub coinbase_second: Vec<u8>,
    /// Whether it takes the place of a coinbase-only job on the same tip: miners must drop that.
    pub replaces_coinbase_only: bool,
}

impl Job {
    /// The job's own second at `now`: the template's time plus what passed since it came in.
    pub fn second_at(&self, now: Tick) -> u32 {
        let elapsed = u32::try_from(now.since(self.received) / MICROS_PER_SECOND);
        self.curtime.saturating_add(elapsed.unwrap_or(u32::MAX))
    }

    /// When the job's own second `second` begins.
    pub fn begin_of(&self, second: u32) -> Tick {
        let seconds = u64::from(second.saturating_sub(self.curtime));
        self.received.plus_micros(seconds.saturating_mul(MICROS_PER_SECOND))
    }

    /// The latest time that a share of this job may carry at `now`. Bound to the template's clock,
    /// never to `min_ntime` (hours old on a slow day) and never to a wall clock.
    pub fn ntime_max(&self, now: Tick) -> u32 {
        self.second_at(now).saturating_add(NTIME_AHEAD_SECONDS_MAX)
    }
}

/// Where a job stands in [`crate::Shared`]: its number modulo [`crate::JOBS_LIVE_MAX`].
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct JobIndex(pub u8);

/// A job and the place where it stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct JobRef {
    /// Where it stands.
    pub index: JobIndex,
    /// Its number, so that a place taken by a later job is noticed.
    pub number: u32,
}

/// One `mining.notify` as many miners get it: a job, the second for which it was made, and whether
/// miners must drop what they have.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct Rendering {
    /// Where the job stands.
    pub job: JobIndex,
    /// The job's own second: the notify's ntime, seconds since 1970 (`Job::second_at`).
    pub second: u32,
    /// The notify's last parameter.
    pub clean: bool,
}

/// The job id of a rendering on the wire: the job's number, then the second in eight digits, in
/// lower-case hex without leading zeros. One hex number and nothing else, because a miner in the
/// field reads ids as a 64-bit number and writes that number back.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct RenderId {
    /// The job's number.
    pub number: u32,
    /// The rendering's second.
    pub second: u32,
}

impl RenderId {
    /// Reads an id; hex of either case, nothing else.
    pub fn parse(text: &str) -> Option<RenderId> {
        // `u64::from_str_radix` alone would take a sign.
        let digits = text.bytes().all(|byte| byte.is_ascii_hexdigit());
        let id = (digits && text.len() <= 16).then(|| u64::from_str_radix(text, 16).ok())??;
        let (number, second) = ((id >> 32) as u32, id as u32);
        (number > 0).then_some(RenderId { number, second })
    }
}

impl core::fmt::Display for RenderId {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        write!(f, "{:x}{:08x}", self.number, self.second)
    }
}

const MICROS_PER_SECOND: u64 = 1_000_000;

/// The network takes two hours; 200 seconds are left for a node whose clock is behind ours.
const NTIME_AHEAD_SECONDS_MAX: u32 = 7_000;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_id_reads_back_as_it_was_written() {
        for (number, second) in [(1, 2), (0xabc, 0x68f0_c0de), (u32::MAX, u32::MAX)] {
            let id = RenderId { number, second };
            assert_eq!(RenderId::parse(&id.to_string()), Some(id));
            assert_eq!(RenderId::parse(&id.to_string().to_uppercase()), Some(id));
        }
    }

    #[test]
    fn what_is_no_id_is_refused() {
        for text in [
            "",
            "1",
            "6553f100",
            "+16553f100",
            "1.6553f100",
            "g6553f100",
            "1 6553f100",
            "11234567812345678",
            "000000006553f100",
        ] {
            assert_eq!(RenderId::parse(text), None, "{text:?}");
        }
    }
}
