//! The controller of one miner's difficulty: from when its shares come it judges whether it is
//! faster or slower than it was, and by what factor its difficulty should change.
//!
//! Shares are Poisson arrivals, and the rate that they should have is known; so this is a matter of
//! statistics and not of a ladder. Two one-sided sums (CUSUM) weigh "twice as fast" and "half as
//! fast" against "as before", each share and each second of silence in units of ln 2:
//!
//! ```text
//!   faster:  + 1 per share, − 1.4427 per share that was due;   never below 0, alarm at ALARM
//!   slower:  − 1 per share, + 0.7213 per share that was due;   never below 0, alarm at ALARM
//! ```
//!
//! What is due is what the miner is known for at this difficulty, not the farm's wish alone: with
//! powers of two a miner may stand √2 off the wish for ever, and must neither be moved back and
//! forth for it nor be slower to be found when it changes. Since each sum begins anew wherever it
//! was at zero, the shares and seconds since then are an estimate of the new rate, made of what
//! came after the change alone.
//!
//! The other half of the decision, what a difficulty may be, is [`Bounds`]. What is not here: when
//! a difficulty is announced (`downstream_sv1::announcements`), and which shares count (those of
//! the newest difficulty: the session's matter).

use crate::contract::Tick;
use pow::Difficulty;

/// The rate of shares that the farm wishes of each miner, shares per second.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Pace(f32);

impl Pace {
    /// `None` where it is out of [`PER_MINUTE_MIN`] to [`PER_MINUTE_MAX`].
    pub fn per_minute(shares: f64) -> Option<Pace> {
        let allowed = (PER_MINUTE_MIN..=PER_MINUTE_MAX).contains(&shares);
        allowed.then_some(Pace((shares / 60.0) as f32))
    }

    /// In how many µs so many shares are due.
    pub fn due_us(self, shares: u32) -> u64 {
        (f64::from(shares) / f64::from(self.0) * 1e6) as u64
    }
}

/// A miner's speed is not what it was.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Alarm {
    /// The factor by which the difficulty should change.
    pub factor: f64,
    /// Whether shares flood in so that no pause between changes holds.
    pub urgent: bool,
    /// The rate at the present difficulty, shares per second, and how many shares say so.
    rate: f32,
    shares: f32,
}

/// What is known of one miner's speed.
#[derive(Debug, Clone)]
pub struct Vardiff {
    /// All up to here is counted; [`Tick::NEVER`] while the clock stands still.
    at: Tick,
    known: Window,
    faster: Sum,
    slower: Sum,
    pace: Pace,
    past: Past,
}

/// Shares within a time.
#[derive(Debug, Clone, Copy, Default)]
struct Window {
    shares: f32,
    seconds: f32,
}

/// One CUSUM, and what came since it was last at zero.
#[derive(Debug, Clone, Copy, Default)]
struct Sum {
    /// In shares, that is in units of ln 2; an alarm at [`ALARM`].
    score: f32,
    since: Window,
}

/// Whether the miner ever had a share. A machine that has none may be slow, or starting up, or off;
/// a farm that was cut from power must not come back to difficulties at which it floods itself.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Past {
    /// No share yet: nothing says that its start was right.
    New,
    /// No share yet and one fall: it falls on, more slowly.
    Unproven,
    /// It has shares.
    Proven,
    /// It had shares, and none since the last fall: off rather than slow, it falls no more.
    Silent,
}

impl Vardiff {
    /// Nothing known but the wish; the clock stands still.
    pub fn new(pace: Pace) -> Vardiff {
        let (faster, slower) = (Sum::default(), Sum::default());
        let known = Window::of(PRIOR_SHARES, pace.0);
        Vardiff { at: Tick::NEVER, known, faster, slower, pace, past: Past::New }
    }

    /// The miner has work of the newest difficulty: from here on its shares and its silence count.
    pub fn run(&mut self, now: Tick) {
        self.at = now;
    }

    /// It has none from now on: the clock stands still, and shares do not count.
    pub fn stop(&mut self, now: Tick) {
        if self.is_running() {
            self.pass(now);
        }
        self.at = Tick::NEVER;
    }

    /// Whether its shares and its silence count.
    pub fn is_running(&self) -> bool {
        self.at != Tick::NEVER
    }

    /// Whether any share of it was ever taken in.
    pub fn is_proven(&self) -> bool {
        matches!(self.past, Past::Proven | Past::Silent)
    }

    /// The rate at the present difficulty that the miner is known for, shares per second.
    pub fn rate(&self) -> f32 {
        self.known.rate()
    }

    /// Takes in an accepted share of the newest difficulty.
    pub fn share(&mut self, now: Tick) -> Option<Alarm> {
        if !self.is_running() {
            return None;
        }
        let waited = self.pass(now);
        self.past = Past::Proven;
        self.known.shares += 1.0;
        self.slower.since.shares += 1.0;
        if self.slower.score >= ALARM {
            return Some(self.alarm(self.slower.since));
        }
        self.slower.score -= 1.0;
        if self.slower.score <= 0.0 {
            self.slower = Sum::default();
        }
        self.faster.since.shares += 1.0;
        self.faster.score += 1.0;
        if self.faster.score <= 0.0 {
            // A long wait before it stays in the estimate: what a stalled link delivers at once
            // was found in all of that time.
            let is_stall = waited * self.expected() > STALL_SHARES;
            let stall = Window { shares: 1.0, seconds: waited };
            let since = if is_stall { stall } else { Window::default() };
            self.faster = Sum { score: 0.0, since };
        }
        let since = self.faster.since;
        if since.shares > BURST_SHARES && since.seconds <= BURST_SECONDS {
            let alarm = self.alarm(since);
            return Some(Alarm { factor: BURST_FACTOR, urgent: true, ..alarm });
        }
        if self.faster.score >= ALARM {
            return Some(self.alarm(since));
        }
        self.drift()
    }

    /// What was found once may have been missed by a little, and what changes slowly gives no
    /// alarm: a long memory tells both.
    fn drift(&mut self) -> Option<Alarm> {
        if self.known.shares < 2.0 * MEMORY_SHARES {
            return None;
        }
        self.known.shares *= 0.5;
        self.known.seconds *= 0.5;
        let off = self.known.rate() / self.pace.0;
        let is_off = !(1.0 / DRIFT_MAX..=DRIFT_MAX).contains(&off);
        let lean = if off > 1.0 { 1.0 / LEAN } else { LEAN };
        let alarm = self.alarm(self.known);
        is_off.then_some(Alarm { factor: alarm.factor * lean, ..alarm })
    }

    /// Takes in that nothing came, if it is due.
    pub fn silence(&mut self, now: Tick) -> Option<Alarm> {
        // Only then: what is due must not hang on how often somebody looks.
        if now < self.due() {
            return None;
        }
        self.pass(now);
        (self.slower.score >= ALARM).then(|| self.alarm(self.slower.since))
    }

    /// When silence is to be taken in if no share comes before.
    pub fn due(&self) -> Tick {
        if !self.is_running() || self.past == Past::Silent {
            return Tick::NEVER;
        }
        let left = (ALARM - self.slower.score) / self.slower_per_second();
        // Rounded up, so that the alarm is there when the time is.
        self.at.plus_micros((left.max(0.0) * MICROS) as u64 + ROUNDING_US)
    }

    /// The difficulty was changed by `factor` upon this alarm; 1 if it had to stay. The clock runs
    /// on; whoever has yet to announce the change stops it.
    pub fn settle(&mut self, alarm: Alarm, factor: f64) {
        if alarm.shares == 0.0 && factor < 1.0 {
            self.past = if self.is_proven() { Past::Silent } else { Past::Unproven };
        }
        self.known = match alarm.urgent {
            true => Window::of(PRIOR_SHARES, self.pace.0),
            false => Window::of(alarm.shares.max(1.0), alarm.rate / factor as f32),
        };
        self.faster = Sum::default();
        self.slower = Sum::default();
    }

    /// The difficulty was changed for another reason: nothing is known at the new one.
    pub fn forget(&mut self) {
        *self = Vardiff { at: self.at, past: self.past, ..Vardiff::new(self.pace) };
    }

    /// Lets the time up to `now` pass without a share; seconds that it was.
    fn pass(&mut self, now: Tick) -> f32 {
        let mut seconds = now.since(self.at) as f32 / MICROS;
        self.at = self.at.max(now);
        let slower_per_second = self.slower_per_second();
        if self.past == Past::Silent {
            // However long it was off, that says nothing of its speed.
            let left = (ALARM - 1.0 - self.slower.score) / slower_per_second;
            seconds = seconds.min(left.max(0.0));
        }
        self.faster.score -= FASTER_PER_DUE * self.expected() * seconds;
        self.slower.score += slower_per_second * seconds;
        for window in [&mut self.known, &mut self.faster.since, &mut self.slower.since] {
            window.seconds += seconds;
        }
        seconds
    }

    fn slower_per_second(&self) -> f32 {
        let patience = if self.past == Past::Unproven { UNPROVEN_PATIENCE } else { 1.0 };
        SLOWER_PER_DUE * self.expected() / patience
    }

    /// What is due per second: what the miner is known for, but not so far off the wish that a
    /// slow drift could carry it away.
    fn expected(&self) -> f32 {
        self.known.rate().clamp(self.pace.0 / KNOWN_OFF_MAX, self.pace.0 * KNOWN_OFF_MAX)
    }

    fn alarm(&self, since: Window) -> Alarm {
        // Silence without a share is as if one came now, and says no more than that.
        let shares = since.shares.max(1.0);
        let least = if since.shares == 0.0 { self.pace.0 / SILENT_FALL } else { 0.0 };
        let rate = (shares / since.seconds.max(INSTANT_SECONDS)).max(least);
        let factor = f64::from(rate / self.pace.0);
        Alarm { factor, urgent: false, rate, shares: since.shares }
    }
}

impl Window {
    fn of(shares: f32, rate: f32) -> Window {
        Window { shares, seconds: shares / rate }
    }

    fn rate(&self) -> f32 {
        self.shares / self.seconds.max(INSTANT_SECONDS)
    }
}

/// What difficulties a miner may have.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Bounds {
    /// None is easier, whatever the others say.
    pub minimum: Difficulty,
    /// None is harder.
    pub maximum: Difficulty,
    /// Powers of two alone: firmware of ASICs cuts other numbers down.
    pub powers_of_two: bool,
}

impl Bounds {
    /// The allowed difficulty that is nearest to `wanted`, as a factor.
    pub fn nearest(&self, wanted: f64) -> Difficulty {
        let (minimum, maximum) = (self.minimum.get(), self.maximum.get().max(self.minimum.get()));
        let wanted = if wanted.is_nan() { minimum } else { wanted.clamp(minimum, maximum) };
        let rounded = match self.powers_of_two {
            true => nearest_power_of_two(wanted),
            false => short(wanted),
        };
        // The bounds themselves may be no powers of two.
        let fits = match rounded {
            rounded if rounded > maximum => rounded / 2.0,
            rounded if rounded < minimum => rounded * 2.0,
            rounded => rounded,
        };
        let fits = if (minimum..=maximum).contains(&fits) { fits } else { wanted };
        Difficulty::new(fits).expect("between two difficulties")
    }
}

/// The power of two that is the fewest times larger or smaller.
fn nearest_power_of_two(number: f64) -> f64 {
    let below = f64::from_bits(number.to_bits() & !MANTISSA);
    if number > below * core::f64::consts::SQRT_2 { below * 2.0 } else { below }
}

/// A number near it, within 1 in 256, that has few digits.
fn short(number: f64) -> f64 {
    f64::from_bits(number.to_bits() & !(MANTISSA >> 7))
}

/// The bits behind the point of an `f64`.
const MANTISSA: u64 = (1 << 52) - 1;

/// 1 / ln 2: twice as many as were due, against as many as were due.
const FASTER_PER_DUE: f32 = core::f32::consts::LOG2_E;

/// 1 / (2 ln 2): half as many as were due.
const SLOWER_PER_DUE: f32 = core::f32::consts::LOG2_E / 2.0;

/// Where a sum gives alarm, in shares; × ln 2 it is the logarithm of the odds. Higher means fewer
/// needless changes and later found ones: `tests/vardiff.rs` judges both.
const ALARM: f32 = 12.0;

/// What the wish counts against what a new miner does, shares.
const PRIOR_SHARES: f32 = 16.0;

/// A miner's past counts for this many shares up to twice as many: about half an hour of 12 a
/// minute. It is known to within 5 % then.
const MEMORY_SHARES: f32 = 256.0;

/// Nobody is known for a rate that is further off the wish. Beyond √2, where powers of two may
/// leave a miner; below 2, where it is to be found however slowly it came there.
const KNOWN_OFF_MAX: f32 = 1.6;

/// What a long memory finds further off the wish than this is corrected, but by [`LEAN`] less, so
/// that a miner between two powers of two stays where it is.
const DRIFT_MAX: f32 = 1.25;
const LEAN: f64 = 1.13;

/// More shares than these within a second raise the difficulty fourfold at once, second by second,
/// so that a machine of any size reaches its difficulty in seconds. Less of a rise than such a
/// burst seems to say, because a burst says little.
const BURST_SHARES: f32 = 8.0;
const BURST_SECONDS: f32 = 1.0;
const BURST_FACTOR: f64 = 4.0;

/// A wait in which more shares than these were due is rather a stalled link than chance.
const STALL_SHARES: f32 = 4.0;

/// The most by which the difficulty falls upon silence alone, once in 83 s at 12 shares a minute.
const SILENT_FALL: f32 = 16.0;

/// The next falls of a miner that never had a share take this many times as long: machines take
/// minutes from their first words to their first share.
const UNPROVEN_PATIENCE: f32 = 4.0;

/// No rate is measured over less than this.
const INSTANT_SECONDS: f32 = 1e-6;

const MICROS: f32 = 1e6;

/// More than an `f32` is off at the longest wait that is ever due.
const ROUNDING_US: u64 = 2_000;

/// One share in ten minutes: slower, and a miner that changes is found after hours.
pub const PER_MINUTE_MIN: f64 = 0.1;

/// Ten shares a second: beyond, a farm is busy with shares that say nothing more.
pub const PER_MINUTE_MAX: f64 = 600.0;

const _: () = assert!(size_of::<Vardiff>() <= 48, "every miner has one");
