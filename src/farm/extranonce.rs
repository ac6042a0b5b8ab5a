//! The farm's extranonce space: who may use which extranonce1, and when one may be used again.
//!
//! `Space` lives with the coordinator and hands ranges to the shards; a `LeasePool` lives in each
//! shard and hands single prefixes of those ranges to miners, without a round trip. Nothing here
//! knows connections, channels or upstreams: a prefix is a number, and every number has exactly
//! one place at any time (free, leased to one shard, or resting).
//!
//! Two miners with one extranonce1 would search the same headers, and a miner that got the prefix
//! of one that just left could be credited for the shares of its predecessor, whose fingerprints
//! left with it. So a prefix rests after use until no job of its last miner can be credited any
//! more, and for a floor of time besides.

use alloc::collections::{BTreeMap, VecDeque};
use alloc::vec::Vec;
use core::fmt;

use session::{Prefix, Tick};

/// The longest extranonce1 of a group, in bytes: the farm-wide layout is 4 + 4.
pub const EXTRANONCE1_BYTES_MAX: usize = Prefix::BYTES_MAX;
/// What a shard asks for at a time: a reconnect storm of 10,000 miners costs ten messages, and an
/// idle shard holds back one four-millionth of the space.
pub const LEASE_PREFIXES: u32 = 1_024;
/// In a small space no single lease may take more than this part of it, so that one shard cannot
/// starve the others.
const LEASE_PARTS_MIN: u64 = 64;
/// A lease travels as at most this many ranges: a fragmented space costs more messages, not larger
/// ones.
pub const LEASE_RANGES_MAX: usize = 64;
/// A shard returns what it holds idle above this many leases, so that a storm on one shard does
/// not keep its prefixes from the others for ever.
const IDLE_LEASES_MAX: u64 = 4;
/// The least rest of a prefix, in µs. Jobs may change quickly (a short chain of tips), while
/// shares and blocks of the last miner are still under way in lanes and buffers.
pub const REST_MICROS_MIN: u64 = 10_000_000;
/// A shard that was refused asks again after this long, in µs: a full space is no reason to load
/// the coordinator with questions.
const ASK_AGAIN_MICROS: u64 = 1_000_000;

/// Which shard, counted from zero; stable over restarts of that shard.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct ShardIndex(pub u16);

/// The jobs for which a share can still be credited: those of the current tip, by number. `None`
/// in its place means that there is no such job.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct LiveJobs {
    /// The lowest number that a share may still be credited for.
    pub oldest: u32,
    /// The highest number handed out so far.
    pub newest: u32,
}

/// Follows the live jobs from one job to the next, on either side.
#[derive(Clone, Copy, Debug, Default)]
pub struct Horizon {
    tip: u32,
    live: Option<LiveJobs>,
}

impl Horizon {
    /// A job was adopted. Numbers rise, and so do tips.
    pub fn adopt(&mut self, number: u32, tip: u32) {
        let oldest = match self.live {
            Some(live) if tip == self.tip => live.oldest,
            _ => number,
        };
        debug_assert!(tip >= self.tip && oldest <= number);
        self.tip = tip;
        self.live = Some(LiveJobs { oldest, newest: number });
    }

    /// The jobs that a share can be credited for.
    pub fn live(&self) -> Option<LiveJobs> {
        self.live
    }

    /// The newest tip's number; 0 before the first job.
    pub fn tip(&self) -> u32 {
        self.tip
    }
}

/// A run of extranonce1 values, read as big-endian numbers. Never empty, never past the space.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct PrefixRange {
    start: u32,
    count: u32,
}

impl PrefixRange {
    /// `count` values from `start`; `None` when empty or when it passes 2^32 − 1.
    pub fn new(start: u32, count: u32) -> Option<PrefixRange> {
        let last = start.checked_add(count.checked_sub(1)?)?;
        debug_assert!(last >= start);
        Some(PrefixRange { start, count })
    }

    /// The first value.
    pub fn start(&self) -> u32 {
        self.start
    }

    /// How many values, at least 1.
    pub fn count(&self) -> u32 {
        self.count
    }

    fn last(&self) -> u32 {
        self.start + (self.count - 1)
    }
}

impl From<Prefix> for PrefixRange {
    fn from(prefix: Prefix) -> PrefixRange {
        PrefixRange { start: value_of(prefix), count: 1 }
    }
}

/// What the coordinator grants to a shard: prefixes that no other shard has.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Lease {
    /// The granted runs, at most [`LEASE_RANGES_MAX`].
    pub ranges: Vec<PrefixRange>,
    /// The length of extranonce1 in bytes, 1 to 4.
    pub extranonce1_len: u8,
}

impl Lease {
    /// How many prefixes are granted.
    pub fn prefixes(&self) -> u64 {
        self.ranges.iter().map(|range| u64::from(range.count)).sum()
    }
}

/// The operator's limit: every extranonce1 of the group is in use or resting.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SpaceFull {
    /// All prefixes of the group.
    pub capacity: u64,
    /// Prefixes that shards hold.
    pub leased: u64,
    /// Prefixes that wait until no job of their last miner can be credited.
    pub resting: u64,
}

impl fmt::Display for SpaceFull {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "extranonce space full: of {} prefixes {} are leased and {} rest until the jobs of \
             their last miners have ended",
            self.capacity, self.leased, self.resting
        )
    }
}

impl core::error::Error for SpaceFull {}

/// The caller's mistake, or a message of a shard that was declared dead meanwhile.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SpaceError {
    /// A range came back that this shard does not hold; it was left where it is.
    NotLeased(PrefixRange),
    /// An extranonce1 has 1 to 4 bytes.
    Width(u8),
}

impl fmt::Display for SpaceError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            SpaceError::NotLeased(range) => {
                write!(f, "{} prefixes from {:08x} are not leased", range.count, range.start)
            }
            SpaceError::Width(len) => write!(f, "extranonce1 of {len} bytes: 1 to 4 are possible"),
        }
    }
}

impl core::error::Error for SpaceError {}

/// One group's extranonce1 values, on the coordinator's side.
///
/// Invariant: `free + leased + resting == capacity`, and no value is in two places.
pub struct Space {
    extranonce1_len: u8,
    capacity: u64,
    free: Ranges,
    leased: BTreeMap<ShardIndex, Ranges>,
    resting: Resting,
}

impl Space {
    /// The whole group of `extranonce1_len` bytes, all free. Value 0 is never given to a miner: it
    /// stays the farm's own, hence 256^len − 1.
    pub fn new(extranonce1_len: u8) -> Result<Space, SpaceError> {
        if extranonce1_len == 0 || usize::from(extranonce1_len) > EXTRANONCE1_BYTES_MAX {
            return Err(SpaceError::Width(extranonce1_len));
        }
        let capacity = (1u64 << (8 * u32::from(extranonce1_len))) - 1;
        let mut free = Ranges::default();
        let count = u32::try_from(capacity).map_err(|_| SpaceError::Width(extranonce1_len))?;
        free.insert(PrefixRange { start: 1, count });
        Ok(Space {
            extranonce1_len,
            capacity,
            free,
            leased: BTreeMap::new(),
            resting: Resting::default(),
        })
    }

    /// Grants up to `wanted` prefixes to `shard`: fewer in a small or fragmented space, never none.
    pub fn lease(&mut self, shard: ShardIndex, wanted: u32) -> Result<Lease, SpaceFull> {
        if self.free.count() == 0 {
            return Err(SpaceFull {
                capacity: self.capacity,
                leased: self.leased(),
                resting: self.resting.count(),
            });
        }
        let part = u32::try_from((self.capacity / LEASE_PARTS_MIN).max(1)).unwrap_or(u32::MAX);
        let mut missing = wanted.clamp(1, LEASE_PREFIXES).min(part);
        let owned = self.leased.entry(shard).or_default();
        let mut ranges = Vec::new();
        while missing > 0 && ranges.len() < LEASE_RANGES_MAX {
            let Some(range) = self.free.take_lowest(missing) else { break };
            missing -= range.count;
            owned.insert(range);
            ranges.push(range);
        }
        Ok(Lease { ranges, extranonce1_len: self.extranonce1_len })
    }

    /// `shard` gives `range` back; it rests from `now` because some of it may have been used a
    /// moment ago. Refused whole when any of it is not leased to that shard.
    pub fn give_back(
        &mut self,
        shard: ShardIndex,
        range: PrefixRange,
        live: Option<LiveJobs>,
        now: Tick,
    ) -> Result<(), SpaceError> {
        let owned = self.leased.get_mut(&shard).ok_or(SpaceError::NotLeased(range))?;
        if !owned.remove(range) {
            return Err(SpaceError::NotLeased(range));
        }
        self.resting.add(range, live, now);
        Ok(())
    }

    /// A miner takes its prefix along to another shard, without a rest: it stays the same miner's,
    /// and everything that tells its shares apart goes with it. Refused when `from` does not hold
    /// it.
    pub fn transfer(
        &mut self,
        from: ShardIndex,
        to: ShardIndex,
        prefix: Prefix,
    ) -> Result<(), SpaceError> {
        let range = PrefixRange::from(prefix);
        let owned = self.leased.get_mut(&from).ok_or(SpaceError::NotLeased(range))?;
        if !owned.remove(range) {
            return Err(SpaceError::NotLeased(range));
        }
        self.leased.entry(to).or_default().insert(range);
        Ok(())
    }

    /// A shard is gone, with all that it knew about its prefixes: its whole lease rests.
    pub fn shard_died(&mut self, shard: ShardIndex, live: Option<LiveJobs>, now: Tick) {
        let owned = self.leased.remove(&shard).unwrap_or_default();
        for range in owned.iter() {
            self.resting.add(range, live, now);
        }
    }

    /// Time has passed or jobs have ended: what has rested enough is free again.
    pub fn advance(&mut self, live: Option<LiveJobs>, now: Tick) {
        while let Some(rested) = self.resting.pop_over(live, now) {
            rested.iter().for_each(|range| self.free.insert(range));
        }
        debug_assert_eq!(self.free() + self.leased() + self.resting(), self.capacity);
    }

    /// 256^len − 1.
    pub fn capacity(&self) -> u64 {
        self.capacity
    }

    /// Prefixes that can be leased at once.
    pub fn free(&self) -> u64 {
        self.free.count()
    }

    /// Prefixes that shards hold, used or not.
    pub fn leased(&self) -> u64 {
        self.leased.values().map(Ranges::count).sum()
    }

    /// Prefixes that one shard holds, used or not.
    pub fn leased_to(&self, shard: ShardIndex) -> u64 {
        self.leased.get(&shard).map_or(0, Ranges::count)
    }

    /// Prefixes that wait before they are free again.
    pub fn resting(&self) -> u64 {
        self.resting.count()
    }

    /// The length of extranonce1 in bytes.
    pub fn extranonce1_len(&self) -> u8 {
        self.extranonce1_len
    }
}

/// Why a shard cannot give a miner a prefix at this moment.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum NoPrefix {
    /// The coordinator will answer; ask the pool again then.
    Asked,
    /// The whole group is full.
    Full(SpaceFull),
}

/// The prefixes that one shard holds and no miner of it uses.
pub struct LeasePool {
    extranonce1_len: u8,
    /// Used from the end, so that a small working set of values goes round.
    free: VecDeque<PrefixRange>,
    free_count: u64,
    resting: Resting,
    /// What is asked for at a time.
    lease_prefixes: u32,
    /// At this many idle prefixes or fewer the pool asks.
    refill_at: u64,
    asked: bool,
    ask_after: Tick,
    full: Option<SpaceFull>,
}

impl LeasePool {
    /// An empty pool; `now` so that its first question is due at once.
    pub fn new(now: Tick) -> LeasePool {
        LeasePool::with_lease(now, LEASE_PREFIXES)
    }

    /// As [`LeasePool::new`], asking for `lease_prefixes` at a time.
    pub fn with_lease(now: Tick, lease_prefixes: u32) -> LeasePool {
        LeasePool {
            extranonce1_len: 0,
            free: VecDeque::with_capacity(LEASE_RANGES_MAX),
            free_count: 0,
            resting: Resting::default(),
            lease_prefixes,
            refill_at: u64::from(lease_prefixes / 2),
            asked: false,
            ask_after: now,
            full: None,
        }
    }

    /// A prefix that is nobody else's.
    pub fn take(&mut self) -> Result<Prefix, NoPrefix> {
        let Some(range) = self.free.back_mut() else {
            return Err(self.full.map_or(NoPrefix::Asked, NoPrefix::Full));
        };
        let value = range.last();
        range.count -= 1;
        if range.count == 0 {
            self.free.pop_back();
        }
        self.free_count -= 1;
        Ok(prefix_of(value, self.extranonce1_len))
    }

    /// A miner has left: its prefix rests from `now` until the jobs of `live` are gone.
    pub fn give_back(&mut self, prefix: Prefix, live: Option<LiveJobs>, now: Tick) {
        self.learn_width(prefix);
        self.resting.add(PrefixRange::from(prefix), live, now);
    }

    /// A prefix that came along with its miner may be here before any lease is.
    fn learn_width(&mut self, prefix: Prefix) {
        self.extranonce1_len = prefix.as_bytes().len() as u8;
    }

    /// A miner has left at `since`, was waited for, and is not expected any more. `newest_job` is
    /// the newest that it was given. Its prefix has rested while it was waited for; it rests on
    /// only if one of its jobs is still live.
    pub fn give_back_parked(
        &mut self,
        prefix: Prefix,
        newest_job: u32,
        since: Tick,
        (live, now): (Option<LiveJobs>, Tick),
    ) {
        if jobs_gone(Some(newest_job), live) && now.since(since) >= REST_MICROS_MIN {
            self.learn_width(prefix);
            self.add(PrefixRange::from(prefix));
        } else {
            self.give_back(prefix, live, now);
        }
    }

    /// Time has passed or jobs have ended: what has rested enough can be taken again.
    pub fn advance(&mut self, live: Option<LiveJobs>, now: Tick) {
        while let Some(rested) = self.resting.pop_over(live, now) {
            rested.iter().for_each(|range| self.add(range));
        }
    }

    /// How many prefixes to ask the coordinator for, if any; at most one question is open. The
    /// caller sends it, or says [`LeasePool::not_asked`].
    pub fn wanted(&mut self, now: Tick) -> Option<u32> {
        if self.asked || self.free_count > self.refill_at || now < self.ask_after {
            return None;
        }
        self.asked = true;
        Some(self.lease_prefixes)
    }

    /// The question could not be sent (a full lane): it will be asked again.
    pub fn not_asked(&mut self) {
        self.asked = false;
    }

    /// The coordinator's answer.
    pub fn granted(&mut self, lease: &Lease) {
        debug_assert!(self.extranonce1_len == 0 || self.extranonce1_len == lease.extranonce1_len);
        self.extranonce1_len = lease.extranonce1_len;
        self.asked = false;
        self.full = None;
        // A small space grants less than was asked for; the refill mark follows what it grants.
        self.refill_at = lease.prefixes().min(u64::from(self.lease_prefixes)) / 2;
        for range in &lease.ranges {
            self.add(*range);
        }
    }

    /// The coordinator's refusal; the pool asks again later.
    pub fn refused(&mut self, full: SpaceFull, now: Tick) {
        self.asked = false;
        self.full = Some(full);
        self.ask_after = now.plus_micros(ASK_AGAIN_MICROS);
    }

    /// One run of what is held idle above need, to be sent back. Call until `None`.
    pub fn surplus(&mut self) -> Option<PrefixRange> {
        let keep = IDLE_LEASES_MAX * u64::from(self.lease_prefixes);
        // The oldest runs go, because the newest are the ones in use.
        let first = *self.free.front()?;
        if self.free_count < keep + u64::from(first.count) {
            return None;
        }
        self.free.pop_front();
        self.free_count -= u64::from(first.count);
        Some(first)
    }

    /// Prefixes that can be taken at once.
    pub fn idle(&self) -> u64 {
        self.free_count
    }

    /// Prefixes whose last miner's jobs can still be credited.
    pub fn resting(&self) -> u64 {
        self.resting.count()
    }

    fn add(&mut self, range: PrefixRange) {
        self.free_count += u64::from(range.count);
        if let Some(last) = self.free.back_mut() {
            if last.last().checked_add(1) == Some(range.start) {
                last.count += range.count;
                return;
            }
            if range.last().checked_add(1) == Some(last.start) {
                last.start = range.start;
                last.count += range.count;
                return;
            }
        }
        self.free.push_back(range);
    }
}

/// Values that must not be used before their last users' jobs are gone, in groups of one newest
/// job. Groups stand in order of time, and both bounds rise with time, so the oldest is over first.
///
/// Values of one group merge into runs. What stands between two runs is in use or free, so the
/// memory follows the connections of the moment, however many came and went on one long tip.
#[derive(Default)]
struct Resting {
    groups: VecDeque<Group>,
    count: u64,
}

struct Group {
    newest_job: Option<u32>,
    opened: Tick,
    until: Tick,
    values: Ranges,
}

impl Resting {
    fn count(&self) -> u64 {
        self.count
    }

    fn add(&mut self, range: PrefixRange, live: Option<LiveJobs>, now: Tick) {
        self.count += u64::from(range.count);
        let newest_job = live.map(|live| live.newest);
        let until = now.plus_micros(REST_MICROS_MIN);
        if let Some(group) = self.groups.back_mut() {
            // Without jobs only time ends a group, so a group must not grow for ever.
            let open = newest_job.is_some() || now.since(group.opened) < REST_MICROS_MIN;
            if group.newest_job == newest_job && open {
                group.until = until;
                group.values.insert(range);
                return;
            }
        }
        let mut values = Ranges::default();
        values.insert(range);
        self.groups.push_back(Group { newest_job, opened: now, until, values });
    }

    /// The oldest group, once it has rested enough.
    fn pop_over(&mut self, live: Option<LiveJobs>, now: Tick) -> Option<Ranges> {
        let first = self.groups.front()?;
        if !jobs_gone(first.newest_job, live) || now < first.until {
            return None;
        }
        let values = self.groups.pop_front()?.values;
        self.count -= values.count();
        Some(values)
    }
}

/// Whether no job up to `newest` can be credited any more.
fn jobs_gone(newest: Option<u32>, live: Option<LiveJobs>) -> bool {
    match (newest, live) {
        (Some(newest), Some(live)) => live.oldest > newest,
        (None, _) | (_, None) => true,
    }
}

/// A set of values as runs that neither touch nor overlap.
#[derive(Default)]
struct Ranges {
    by_start: BTreeMap<u32, u32>,
    count: u64,
}

impl Ranges {
    fn count(&self) -> u64 {
        self.count
    }

    fn iter(&self) -> impl Iterator<Item = PrefixRange> + '_ {
        self.by_start.iter().map(|(start, count)| PrefixRange { start: *start, count: *count })
    }

    /// Adds values that are not in the set yet.
    fn insert(&mut self, range: PrefixRange) {
        self.count += u64::from(range.count);
        let mut merged = range;
        let before = self.by_start.range(..range.start).next_back();
        if let Some((start, count)) = before.map(|(start, count)| (*start, *count)) {
            debug_assert!(u64::from(start) + u64::from(count) <= u64::from(range.start));
            if u64::from(start) + u64::from(count) == u64::from(range.start) {
                merged = PrefixRange { start, count: count + merged.count };
            }
        }
        let next = range.last().checked_add(1);
        if let Some(count) = next.and_then(|next| self.by_start.remove(&next)) {
            merged.count += count;
        }
        self.by_start.insert(merged.start, merged.count);
    }

    /// Takes up to `count` values from the lowest run; low values first keep the set in few runs.
    fn take_lowest(&mut self, count: u32) -> Option<PrefixRange> {
        let (start, held) = self.by_start.pop_first()?;
        let taken = count.min(held);
        if taken < held {
            self.by_start.insert(start + taken, held - taken);
        }
        self.count -= u64::from(taken);
        Some(PrefixRange { start, count: taken })
    }

    /// Takes exactly `range` out; `false`, and nothing changed, when some of it is not in the set.
    fn remove(&mut self, range: PrefixRange) -> bool {
        let Some((&start, &count)) = self.by_start.range(..=range.start).next_back() else {
            return false;
        };
        let end = u64::from(start) + u64::from(count);
        let range_end = u64::from(range.start) + u64::from(range.count);
        if range_end > end {
            return false;
        }
        self.by_start.remove(&start);
        if start < range.start {
            self.by_start.insert(start, range.start - start);
        }
        if range_end < end {
            let rest = PrefixRange { start: range.last() + 1, count: (end - range_end) as u32 };
            self.by_start.insert(rest.start, rest.count);
        }
        self.count -= u64::from(range.count);
        true
    }
}

/// The bytes of a value, big-endian in `len` bytes.
fn prefix_of(value: u32, len: u8) -> Prefix {
    let bytes = value.to_be_bytes();
    let used = &bytes[EXTRANONCE1_BYTES_MAX - usize::from(len)..];
    Prefix::new(used).expect("a lease's length was checked when the space was made")
}

/// The value of the bytes that [`prefix_of`] made.
fn value_of(prefix: Prefix) -> u32 {
    prefix.as_bytes().iter().fold(0, |value, byte| (value << 8) | u32::from(*byte))
}

#[cfg(test)]
#[path = "extranonce_tests.rs"]
mod tests;
