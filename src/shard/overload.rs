//! How overloaded a shard is, told by how long it has been behind: since when each of its turns
//! has left something in the ring. Whatever waits there waits at most that long, so this is the
//! delay of a share, measured without looking at one. (Queueing delay that does not fall is what
//! CoDel, RFC 8289, acts on too; a queue's length alone says nothing about time.)
//!
//! A burst is no overload: it is served within some turns. What follows from a level is done by
//! `admission` (1: nobody is seated, listeners stop) and `shedding` (2: the oldest that are not
//! authorized go, 3: those go too that do not hash). Time is an input; nothing here measures it.

use session::Tick;

/// Behind for so long, the shard is at the level of the index plus one, in µs.
///
/// 100 ms: ten times what a share may take, and still nothing that a miner notices. 500 ms: to
/// accept nobody has not helped, so those that are here cause it. 2 s: nor did shedding those that
/// are not authorized, and miners begin to send their shares elsewhere after some seconds.
const RAISED_AT_US: [u64; LEVEL_MAX as usize] = [100_000, 500_000, 2_000_000];

/// The highest level.
pub const LEVEL_MAX: u8 = 3;

/// A shard that is behind for no longer than this is calm.
const CALM_US_MAX: u64 = 10_000;

/// Calm for so long, the level falls by one: longer than it takes to rise by one, so that it does
/// not swing, and short enough that a farm that returns does not wait for us.
const LOWERED_AFTER_US: u64 = 1_000_000;

/// The overload of one shard.
#[derive(Debug, Default)]
pub(crate) struct Overload {
    level: u8,
    /// The first of the turns in a row that left something in the ring.
    behind_since: Option<Tick>,
    /// Since when the shard was calm; of a meaning only above level 0.
    calm_since: Tick,
}

impl Overload {
    /// A turn of this moment has taken what it may, and left something in the ring or nothing.
    pub(crate) fn observe(&mut self, now: Tick, is_behind: bool) {
        let behind_us = match is_behind {
            true => now.since(*self.behind_since.get_or_insert(now)),
            false => {
                self.behind_since = None;
                0
            }
        };
        let reached = RAISED_AT_US.iter().filter(|at| behind_us >= **at).count() as u8;
        if reached > self.level {
            self.level = reached;
        }
        if behind_us > CALM_US_MAX || self.level == 0 {
            self.calm_since = now;
        } else if now.since(self.calm_since) >= LOWERED_AFTER_US {
            self.level -= 1;
            self.calm_since = now;
        }
    }

    /// 0 to [`LEVEL_MAX`].
    pub(crate) fn level(&self) -> u8 {
        self.level
    }

    /// When the level would fall if nothing happened until then.
    pub(crate) fn deadline(&self) -> Tick {
        match self.level {
            0 => Tick::NEVER,
            _ => self.calm_since.plus_micros(LOWERED_AFTER_US),
        }
    }
}

#[cfg(test)]
mod tests {
    use alloc::vec::Vec;

    use super::*;

    /// The level at each millisecond of a time in which the shard is behind where `is_behind` says.
    fn levels(milliseconds: u64, is_behind: impl Fn(u64) -> bool) -> Vec<u8> {
        let mut overload = Overload::default();
        let mut observed = |at: u64| {
            overload.observe(Tick(at * 1_000), is_behind(at));
            overload.level()
        };
        (0..milliseconds).map(&mut observed).collect()
    }

    /// The first moment of each level, in the order in which they come.
    fn changes(levels: &[u8]) -> Vec<(usize, u8)> {
        let mut changes = Vec::from([(0, levels[0])]);
        for (at, level) in levels.iter().enumerate() {
            if changes.last().is_none_or(|(_, last)| last != level) {
                changes.push((at, *level));
            }
        }
        changes
    }

    #[test]
    fn a_level_rises_with_the_time_behind_and_falls_with_the_time_of_calm() {
        let seen = levels(9_000, |at| (1_000..4_000).contains(&at));
        let rising = [(0, 0), (1_100, 1), (1_500, 2), (3_000, 3)];
        let falling = [(4_999, 2), (5_999, 1), (6_999, 0)];
        assert_eq!(changes(&seen), [&rising[..], &falling].concat());
    }

    #[test]
    fn bursts_are_no_overload_however_many() {
        let seen = levels(20_000, |at| at % 100 < 99);
        assert_eq!(changes(&seen), [(0, 0)]);
        let seen = levels(20_000, |at| at % 102 < 101);
        assert_eq!(seen.iter().max(), Some(&1), "{:?}", changes(&seen));
    }

    #[test]
    fn a_level_does_not_swing_while_bursts_come() {
        let seen = levels(9_000, |at| at < 700 || at % 900 < 50);
        assert_eq!(changes(&seen), [(0, 0), (100, 1), (500, 2)], "it is never calm for a second");
    }

    #[test]
    fn a_shard_that_slept_is_calm_and_says_when_it_wants_to_look() {
        let mut overload = Overload::default();
        assert_eq!(overload.deadline(), Tick::NEVER);
        for at in [0, 150_000] {
            overload.observe(Tick(at), true);
        }
        assert_eq!((overload.level(), overload.deadline()), (1, Tick(1_150_000)));
        overload.observe(Tick(160_000), false);
        overload.observe(Tick(1_150_000), false);
        assert_eq!((overload.level(), overload.deadline()), (0, Tick::NEVER));
        // Nothing was in the ring for an hour, then more than a turn takes: that is one turn.
        overload.observe(Tick(3_600_000_000), true);
        assert_eq!(overload.level(), 0);
    }
}
