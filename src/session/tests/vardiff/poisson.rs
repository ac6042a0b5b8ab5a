//! One miner in virtual time, whose shares come as those of real miners do: each hash is a share
//! by chance, so the waits between shares are exponential. The controller of its difficulty is the
//! real one. Seeded, so that a run can be repeated; the plots of `perf` are drawn from the same.

use pow::Difficulty;
use session::{Alarm, Bounds, Pace, Tick, Vardiff};

/// A farm's wish, as `shares_per_minute` has it by default.
pub(crate) const PER_MINUTE: f64 = 12.0;

/// Random numbers that are the same on each run (splitmix64).
pub(crate) struct Random(u64);

impl Random {
    pub(crate) fn new(seed: u64) -> Random {
        Random(seed)
    }

    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut mixed = self.0;
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        mixed ^ (mixed >> 31)
    }

    /// A wait of mean 1.
    fn wait(&mut self) -> f64 {
        let unit = ((self.next() >> 11) as f64 + 0.5) / (1_u64 << 53) as f64;
        -unit.ln()
    }
}

/// A miner and the controller of its difficulty.
pub(crate) struct Miner {
    pub(crate) vardiff: Vardiff,
    pub(crate) difficulty: f64,
    /// Seconds since the beginning.
    pub(crate) now: f64,
    /// Every change: when, and to what.
    pub(crate) changes: Vec<(f64, f64)>,
    /// When each share came.
    pub(crate) shares: Vec<f64>,
    bounds: Bounds,
    random: Random,
}

impl Miner {
    pub(crate) fn new(start: f64, powers_of_two: bool, seed: u64) -> Miner {
        let number = |number| Difficulty::new(number).expect("a positive number");
        let pace = Pace::per_minute(PER_MINUTE).expect("within the limits");
        let mut vardiff = Vardiff::new(pace);
        vardiff.run(tick(0.0));
        Miner {
            vardiff,
            difficulty: start,
            now: 0.0,
            changes: Vec::new(),
            shares: Vec::new(),
            bounds: Bounds { minimum: number(1e-9), maximum: number(1e15), powers_of_two },
            random: Random::new(seed),
        }
    }

    /// The difficulty at which this speed would be exactly the wish.
    pub(crate) fn ideal(speed: f64) -> f64 {
        speed * 60.0 / PER_MINUTE
    }

    /// Mines up to `end` at `speed`: units of difficulty per second, 0 for a machine that is off.
    pub(crate) fn mine(&mut self, speed: f64, end: f64) {
        loop {
            let share = self.now + self.random.wait() * self.difficulty / speed.max(1e-300);
            let due = match self.vardiff.due() {
                Tick::NEVER => f64::INFINITY,
                due => (due.as_micros() as f64 / 1e6).max(self.now),
            };
            if share.min(due) > end {
                // The next wait is drawn anew: chance has no memory.
                self.now = end;
                return;
            }
            self.now = share.min(due);
            let alarm = if share <= due {
                self.shares.push(share);
                self.vardiff.share(tick(share))
            } else {
                self.vardiff.silence(tick(due))
            };
            alarm.into_iter().for_each(|alarm| self.heed(alarm));
        }
    }

    /// What the session does with an alarm. A change is announced in the same moment.
    pub(crate) fn heed(&mut self, alarm: Alarm) {
        let wanted = self.bounds.nearest(self.difficulty * alarm.factor).get();
        self.vardiff.settle(alarm, wanted / self.difficulty);
        if wanted != self.difficulty {
            self.difficulty = wanted;
            self.changes.push((self.now, wanted));
        }
    }
}

pub(crate) fn tick(seconds: f64) -> Tick {
    Tick((seconds * 1e6).round() as u64)
}
