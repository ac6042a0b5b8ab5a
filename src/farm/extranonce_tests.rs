//! Tests of `extranonce`: the space and the shards' pools against a model that keeps one place for
//! every value, over leases, refills, returns, deaths and time.

use std::collections::BTreeMap;

use proptest::prelude::*;

use super::*;

const SHARDS: u16 = 3;
/// A small ask, so that surplus, refill and exhaustion all happen within 255 prefixes.
const ASK: u32 = 2;

/// Where a value is. Resting values know the newest job and the moment of their release.
#[derive(Clone, Copy, Debug, PartialEq)]
enum Place {
    Free,
    Idle(u16),
    Used(u16),
    RestsAtShard(u16, u32),
    RestsAtFarm(u32),
}

#[derive(Clone, Debug)]
enum Op {
    Ask(u16),
    Take(u16),
    /// A storm of miners: until the shard is refused.
    Fill(u16),
    GiveBack(u16, usize),
    /// A miner takes its prefix along from one shard to another.
    Move(u16, u16, usize),
    ReturnSurplus(u16),
    ReturnForeign(u16, u32, u32),
    Die(u16),
    Job {
        new_tip: bool,
    },
    Pass {
        micros: u64,
    },
}

fn op() -> impl Strategy<Value = Op> {
    let shard = 0..SHARDS;
    prop_oneof![
        6 => shard.clone().prop_map(Op::Ask),
        8 => shard.clone().prop_map(Op::Take),
        1 => shard.clone().prop_map(Op::Fill),
        6 => (shard.clone(), any::<usize>()).prop_map(|(shard, nth)| Op::GiveBack(shard, nth)),
        4 => (shard.clone(), 0..SHARDS, any::<usize>())
            .prop_map(|(from, to, nth)| Op::Move(from, to, nth)),
        2 => shard.clone().prop_map(Op::ReturnSurplus),
        1 => (shard.clone(), 0u32..300, 1u32..9)
            .prop_map(|(shard, start, count)| Op::ReturnForeign(shard, start, count)),
        1 => shard.prop_map(Op::Die),
        2 => any::<bool>().prop_map(|new_tip| Op::Job { new_tip }),
        2 => (0..2 * REST_MICROS_MIN).prop_map(|micros| Op::Pass { micros }),
    ]
}

struct World {
    space: Space,
    pools: Vec<LeasePool>,
    places: Vec<Place>,
    /// When the last value was put to rest at (shard or farm) under a job.
    rested_last: BTreeMap<(Option<u16>, u32), Tick>,
    horizon: Horizon,
    number: u32,
    now: Tick,
}

impl World {
    fn new() -> World {
        let now = Tick(5);
        let mut places = vec![Place::Free; 256];
        // Value 0 is the farm's own; a place that nothing may touch.
        places[0] = Place::Used(SHARDS);
        let mut horizon = Horizon::default();
        horizon.adopt(1, 1);
        World {
            space: Space::new(1).expect("one byte"),
            pools: (0..SHARDS).map(|_| LeasePool::with_lease(now, ASK)).collect(),
            places,
            rested_last: BTreeMap::new(),
            horizon,
            number: 1,
            now,
        }
    }

    fn values(&self, wanted: impl Fn(Place) -> bool) -> Vec<u32> {
        let places = self.places.iter().enumerate();
        places.filter(|(_, place)| wanted(**place)).map(|(value, _)| value as u32).collect()
    }

    fn count(&self, wanted: impl Fn(Place) -> bool) -> u64 {
        self.values(wanted).len() as u64
    }

    fn rest_is_over(&self, holder: Option<u16>, job: u32) -> bool {
        let live = self.horizon.live().expect("there is always a job here");
        let last = self.rested_last[&(holder, job)];
        live.oldest > job && self.now >= last.plus_micros(REST_MICROS_MIN)
    }

    fn newest(&self) -> u32 {
        self.horizon.live().expect("there is always a job here").newest
    }

    fn apply(&mut self, op: &Op) {
        match *op {
            Op::Ask(shard) => self.ask(shard),
            Op::Take(shard) => self.take(shard),
            Op::Fill(shard) => {
                while self.pools[usize::from(shard)].full.is_none() {
                    self.ask(shard);
                    self.take(shard);
                }
            }
            Op::GiveBack(shard, nth) => self.give_back(shard, nth),
            Op::Move(from, to, nth) => self.take_along(from, to, nth),
            Op::ReturnSurplus(shard) => self.return_surplus(shard),
            Op::ReturnForeign(shard, start, count) => self.return_foreign(shard, start, count),
            Op::Die(shard) => self.die(shard),
            Op::Job { new_tip } => {
                self.number += 1;
                let tip = self.horizon.tip() + u32::from(new_tip);
                self.horizon.adopt(self.number, tip);
            }
            Op::Pass { micros } => self.now = self.now.plus_micros(micros),
        }
        self.advance();
        self.check();
    }

    fn advance(&mut self) {
        let live = self.horizon.live();
        self.space.advance(live, self.now);
        self.pools.iter_mut().for_each(|pool| pool.advance(live, self.now));
        for value in 0..self.places.len() {
            match self.places[value] {
                Place::RestsAtFarm(job) if self.rest_is_over(None, job) => {
                    self.places[value] = Place::Free;
                }
                Place::RestsAtShard(shard, job) if self.rest_is_over(Some(shard), job) => {
                    self.places[value] = Place::Idle(shard);
                }
                _ => {}
            }
        }
    }

    fn ask(&mut self, shard: u16) {
        let idle = self.count(|place| place == Place::Idle(shard));
        let pool = &mut self.pools[usize::from(shard)];
        let Some(wanted) = pool.wanted(self.now) else {
            let refused_lately = pool.full.is_some() && self.now < pool.ask_after;
            assert!(idle > 0 || refused_lately, "an empty pool asks");
            return;
        };
        assert_eq!(pool.wanted(self.now), None, "one question at a time");
        match self.space.lease(ShardIndex(shard), wanted) {
            Ok(lease) => {
                assert!((1..=u64::from(wanted)).contains(&lease.prefixes()));
                pool.granted(&lease);
                for range in &lease.ranges {
                    for value in range.start()..=range.last() {
                        assert_eq!(self.places[value as usize], Place::Free, "{value} is disjoint");
                        self.places[value as usize] = Place::Idle(shard);
                    }
                }
            }
            Err(full) => {
                assert_eq!(self.count(|place| place == Place::Free), 0, "full only when full");
                assert_eq!(full.leased + full.resting, 255);
                self.pools[usize::from(shard)].refused(full, self.now);
            }
        }
    }

    fn take(&mut self, shard: u16) {
        let idle = self.count(|place| place == Place::Idle(shard));
        match self.pools[usize::from(shard)].take() {
            Ok(prefix) => {
                let value = value_of(prefix) as usize;
                assert_eq!(self.places[value], Place::Idle(shard), "{value} was this shard's");
                self.places[value] = Place::Used(shard);
            }
            Err(_) => assert_eq!(idle, 0, "refused only when nothing is idle"),
        }
    }

    fn give_back(&mut self, shard: u16, nth: usize) {
        let used = self.values(|place| place == Place::Used(shard));
        if used.is_empty() {
            return;
        }
        let value = used[nth % used.len()];
        let job = self.newest();
        self.pools[usize::from(shard)].give_back(
            prefix_of(value, 1),
            self.horizon.live(),
            self.now,
        );
        self.places[value as usize] = Place::RestsAtShard(shard, job);
        self.rested_last.insert((Some(shard), job), self.now);
    }

    /// Only what the shard holds can leave it, and it is used at once where it arrives.
    fn take_along(&mut self, from: u16, to: u16, nth: usize) {
        let foreign = self.values(|place| match place {
            Place::Free | Place::RestsAtFarm(_) => true,
            Place::Idle(owner) | Place::Used(owner) | Place::RestsAtShard(owner, _) => {
                owner != from && owner != SHARDS
            }
        });
        if let Some(value) = foreign.get(nth % foreign.len().max(1)) {
            let range = PrefixRange::new(*value, 1).expect("one value");
            let moved = self.space.transfer(ShardIndex(from), ShardIndex(to), prefix_of(*value, 1));
            assert_eq!(moved, Err(SpaceError::NotLeased(range)));
        }
        let used = self.values(|place| place == Place::Used(from));
        if let Some(value) = used.get(nth % used.len().max(1)) {
            let prefix = prefix_of(*value, 1);
            let moved = self.space.transfer(ShardIndex(from), ShardIndex(to), prefix);
            assert_eq!(moved, Ok(()));
            self.places[*value as usize] = Place::Used(to);
        }
    }

    fn return_surplus(&mut self, shard: u16) {
        while let Some(range) = self.pools[usize::from(shard)].surplus() {
            for value in range.start()..=range.last() {
                assert_eq!(self.places[value as usize], Place::Idle(shard));
                self.places[value as usize] = Place::RestsAtFarm(self.newest());
            }
            self.rested_last.insert((None, self.newest()), self.now);
            let live = self.horizon.live();
            let returned = self.space.give_back(ShardIndex(shard), range, live, self.now);
            assert_eq!(returned, Ok(()));
        }
        let idle = self.count(|place| place == Place::Idle(shard));
        assert!(idle < 255, "a shard keeps what it may need, not the space");
    }

    /// A range that reaches beyond what the shard holds is refused whole.
    fn return_foreign(&mut self, shard: u16, start: u32, count: u32) {
        let held = |value: u32| match self.places.get(value as usize) {
            Some(Place::Idle(owner) | Place::Used(owner) | Place::RestsAtShard(owner, _)) => {
                *owner == shard
            }
            _ => false,
        };
        if (start..start + count).all(held) {
            return;
        }
        let range = PrefixRange::new(start, count).expect("within 2^32");
        let returned =
            self.space.give_back(ShardIndex(shard), range, self.horizon.live(), self.now);
        assert_eq!(returned, Err(SpaceError::NotLeased(range)));
    }

    fn die(&mut self, shard: u16) {
        self.space.shard_died(ShardIndex(shard), self.horizon.live(), self.now);
        self.pools[usize::from(shard)] = LeasePool::with_lease(self.now, ASK);
        let job = self.newest();
        let mut any = false;
        for place in &mut self.places {
            let held = match *place {
                Place::Idle(owner) | Place::Used(owner) | Place::RestsAtShard(owner, _) => {
                    owner == shard
                }
                Place::Free | Place::RestsAtFarm(_) => false,
            };
            if held {
                *place = Place::RestsAtFarm(job);
                any = true;
            }
        }
        if any {
            self.rested_last.insert((None, job), self.now);
        }
    }

    fn check(&self) {
        let resting = self.count(|place| matches!(place, Place::RestsAtFarm(_)));
        assert_eq!(self.space.free(), self.count(|place| place == Place::Free));
        assert_eq!(self.space.resting(), resting);
        assert_eq!(self.space.free() + self.space.leased() + resting, 255);
        for (shard, pool) in (0..SHARDS).zip(&self.pools) {
            let idle = self.count(|place| place == Place::Idle(shard));
            let used = self.count(|place| place == Place::Used(shard));
            let rests = |place| matches!(place, Place::RestsAtShard(owner, _) if owner == shard);
            assert_eq!(pool.idle(), idle);
            assert_eq!(pool.resting(), self.count(rests));
            assert_eq!(self.space.leased_to(ShardIndex(shard)), idle + used + pool.resting());
        }
    }

    /// Every shard ends, the jobs end, time passes: nothing may have leaked.
    fn end(mut self) {
        (0..SHARDS).for_each(|shard| self.die(shard));
        self.apply(&Op::Job { new_tip: true });
        self.apply(&Op::Pass { micros: REST_MICROS_MIN });
        assert_eq!(self.space.free(), 255, "all capacity comes back");
        assert_eq!(self.space.free.by_start.len(), 1, "and is whole again");
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 512, ..ProptestConfig::default() })]

    #[test]
    fn every_value_has_one_place_and_none_is_lost(ops in prop::collection::vec(op(), 1..400)) {
        let mut world = World::new();
        ops.iter().for_each(|op| world.apply(op));
        world.end();
    }

    #[test]
    fn a_prefix_reads_back(value in any::<u32>(), len in 1u8..=4) {
        let value = if len == 4 { value } else { value & ((1 << (8 * u32::from(len))) - 1) };
        let prefix = prefix_of(value, len);
        prop_assert_eq!(prefix.as_bytes().len(), usize::from(len));
        prop_assert_eq!(value_of(prefix), value);
    }
}

#[test]
fn the_space_has_256_to_the_len_minus_one_miners() {
    for len in 1..=4 {
        let space = Space::new(len).expect("a possible length");
        assert_eq!(space.capacity(), 256u64.pow(u32::from(len)) - 1);
        assert_eq!(space.free(), space.capacity());
    }
    assert_eq!(Space::new(0).err(), Some(SpaceError::Width(0)));
    assert_eq!(Space::new(5).err(), Some(SpaceError::Width(5)));
}

#[test]
fn every_prefix_of_two_bytes_is_given_out_once_and_then_refused_with_the_reason() {
    let mut space = Space::new(2).expect("two bytes");
    let mut seen = vec![false; 65_536];
    let full = loop {
        match space.lease(ShardIndex((space.leased() % 7) as u16), LEASE_PREFIXES) {
            Ok(lease) => {
                assert!(lease.prefixes() <= 65_535 / LEASE_PARTS_MIN, "one shard starves no other");
                for range in &lease.ranges {
                    for value in range.start()..=range.last() {
                        assert!(!seen[value as usize]);
                        seen[value as usize] = true;
                    }
                }
            }
            Err(full) => break full,
        }
    };
    assert!(!seen[0], "the farm's own");
    assert!(seen[1..].iter().all(|seen| *seen));
    assert_eq!(full, SpaceFull { capacity: 65_535, leased: 65_535, resting: 0 });
    assert!(full.to_string().contains("of 65535 prefixes 65535 are leased and 0 rest"));
}

#[test]
fn a_prefix_rests_until_its_jobs_are_gone_and_for_the_floor_besides() {
    let mut pool = LeasePool::with_lease(Tick(0), 1);
    let range = PrefixRange::new(7, 1).expect("one value");
    pool.granted(&Lease { ranges: vec![range], extranonce1_len: 4 });
    let mut horizon = Horizon::default();
    horizon.adopt(10, 1);
    let prefix = pool.take().expect("the one");
    assert_eq!(prefix.as_bytes(), [0, 0, 0, 7]);
    pool.give_back(prefix, horizon.live(), Tick(0));
    let late = Tick(REST_MICROS_MIN);
    horizon.adopt(11, 1);
    pool.advance(horizon.live(), late);
    assert_eq!(pool.take(), Err(NoPrefix::Asked), "job 10 can still be credited");
    horizon.adopt(12, 2);
    pool.advance(horizon.live(), Tick(REST_MICROS_MIN - 1));
    assert_eq!(pool.take(), Err(NoPrefix::Asked), "the floor is not reached");
    pool.advance(horizon.live(), late);
    assert_eq!(pool.take(), Ok(prefix));
}

#[test]
fn a_prefix_that_was_waited_for_has_rested_meanwhile_unless_its_jobs_live() {
    let mut pool = LeasePool::with_lease(Tick(0), 1);
    let range = PrefixRange::new(7, 1).expect("one value");
    pool.granted(&Lease { ranges: vec![range], extranonce1_len: 4 });
    let mut horizon = Horizon::default();
    horizon.adopt(10, 1);
    let prefix = pool.take().expect("the one");
    let (since, late) = (Tick(5), Tick(5 + REST_MICROS_MIN));
    for (oldest_tip, now, idle) in [(false, late, 0), (true, Tick(6), 0), (true, late, 1)] {
        let mut horizon = horizon;
        if oldest_tip {
            horizon.adopt(11, 2);
        }
        pool.give_back_parked(prefix, 10, since, (horizon.live(), now));
        assert_eq!((pool.idle(), pool.resting()), (idle, 1 - idle), "{oldest_tip} {now:?}");
        horizon.adopt(12, 3);
        pool.advance(horizon.live(), Tick(3 * REST_MICROS_MIN));
        assert_eq!(pool.take(), Ok(prefix));
    }
}

#[test]
fn without_any_job_only_time_counts_and_churn_does_not_put_it_off() {
    let mut pool = LeasePool::with_lease(Tick(0), 2);
    let range = PrefixRange::new(1, 2).expect("two values");
    pool.granted(&Lease { ranges: vec![range], extranonce1_len: 1 });
    let (first, second) = (pool.take().expect("one"), pool.take().expect("two"));
    pool.give_back(first, None, Tick(0));
    // The other one comes and goes at the very end of the first one's group.
    pool.give_back(second, None, Tick(REST_MICROS_MIN));
    pool.advance(None, Tick(REST_MICROS_MIN));
    assert_eq!((pool.idle(), pool.resting()), (1, 1));
}

#[test]
fn churn_on_one_long_tip_keeps_few_runs() {
    let mut space = Space::new(4).expect("four bytes");
    let mut pool = LeasePool::new(Tick(0));
    let mut horizon = Horizon::default();
    horizon.adopt(1, 1);
    for second in 0..200_000u64 {
        let now = Tick(second);
        if let Some(wanted) = pool.wanted(now) {
            pool.granted(&space.lease(ShardIndex(0), wanted).expect("four billion"));
        }
        let prefix = pool.take().expect("leased ahead");
        pool.give_back(prefix, horizon.live(), now);
    }
    assert_eq!(pool.resting(), 200_000);
    let runs: usize = pool.resting.groups.iter().map(|group| group.values.by_start.len()).sum();
    assert!(runs <= 2, "{runs} runs for prefixes that nobody uses");
}

#[test]
fn the_top_of_the_space_does_not_overflow() {
    let mut ranges = Ranges::default();
    ranges.insert(PrefixRange::new(1, u32::MAX).expect("all but zero"));
    assert!(ranges.remove(PrefixRange::new(u32::MAX, 1).expect("the last value")));
    assert!(ranges.remove(PrefixRange::new(u32::MAX - 5, 5).expect("those before")));
    assert!(!ranges.remove(PrefixRange::new(u32::MAX - 6, 2).expect("half of it is gone")));
    ranges.insert(PrefixRange::new(u32::MAX, 1).expect("the last value"));
    ranges.insert(PrefixRange::new(u32::MAX - 5, 5).expect("those before"));
    assert_eq!(ranges.count(), u64::from(u32::MAX));
    assert_eq!(ranges.by_start.len(), 1);
    assert_eq!(PrefixRange::new(u32::MAX, 2), None);
    assert_eq!(PrefixRange::new(3, 0), None);
}
