//! Which difficulty a miner gets: where it starts, and how the controller's alarms become wishes.
//!
//! A start is, in this order: what stands in the password, what the firmware suggests, what the
//! worker had settled at before, what the class is known to need, the farm's own. All of it is a
//! hint, bounded as every other difficulty is, and forgotten with the first share: from there on
//! the shares speak. When the wish is announced, and which earlier ones still count, is in
//! `announcements`.

use super::{DownstreamSv1, Notice, State};
use crate::contract::Tick;
use crate::memory::Settled;
use crate::shared::Shared;
use crate::vardiff::{Alarm, Bounds};
use pow::Difficulty;

/// Where a miner says what difficulty it would have.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Hint {
    /// `mining.suggest_difficulty` or `mining.suggest_target`: mostly the firmware's own idea.
    Suggested,
    /// `d=` in the password: somebody has typed it.
    Password,
}

impl DownstreamSv1 {
    /// Takes a hint, unless a stronger one was given. However large or small, it stands for the
    /// allowed difficulty that is nearest.
    pub(super) fn take_hint(&mut self, shared: &Shared, hint: Hint, wanted: Option<Difficulty>) {
        let Some(wanted) = wanted else { return };
        if self.hint.is_none_or(|(former, _)| former <= hint) {
            self.hint = Some((hint, wanted));
            self.choose_start(shared);
        }
    }

    /// Chooses the start anew, as long as no share has shown anything.
    pub(super) fn choose_start(&mut self, shared: &Shared) {
        if self.vardiff.as_ref().is_none_or(|vardiff| vardiff.is_proven()) {
            return;
        }
        let settings = shared.settings();
        let of_class = self.class.start_difficulty().filter(|_| settings.start_by_class);
        let start = of_class.unwrap_or(settings.start_difficulty.get());
        let start = self.remembered(shared).map_or(start, |difficulty| difficulty.get());
        let start = self.hint.map_or(start, |(_, wanted)| wanted.get());
        let start = self.bounds(shared).nearest(start);
        self.change(start);
    }

    /// What its first name had settled at, if that was firmware of the same class.
    fn remembered(&self, shared: &Shared) -> Option<Difficulty> {
        let settled = shared.memory().of(self.names.first()?)?;
        (settled.class == self.class).then_some(settled.difficulty)
    }

    /// What the farm or a limit wants, whatever the shares say.
    pub(super) fn impose(&mut self, shared: &Shared, wanted: Difficulty) {
        self.change(shared.settings().bounded(wanted));
    }

    /// Takes in an accepted share of the newest difficulty.
    pub(super) fn weigh_share(&mut self, shared: &Shared) {
        let Some(vardiff) = self.vardiff.as_mut().filter(|vardiff| vardiff.is_running()) else {
            return;
        };
        let alarm = vardiff.share(self.now);
        self.settling = self.settling.saturating_add(1);
        if let Some(alarm) = alarm {
            self.heed(shared, alarm);
        }
        if self.settling == SHARES_SETTLED {
            let (difficulty, class) = (self.announcements.wanted(), self.class);
            self.notices.push_back(Notice::Settled(Settled { difficulty, class }));
        }
    }

    /// Takes in that nothing came.
    pub(super) fn weigh_silence(&mut self, shared: &Shared) {
        if self.state != State::Mining {
            return;
        }
        let alarm = self.vardiff.as_mut().and_then(|vardiff| vardiff.silence(self.now));
        if let Some(alarm) = alarm {
            self.heed(shared, alarm);
        }
    }

    /// When silence is to be weighed.
    pub(super) fn silence_due(&self) -> Tick {
        self.vardiff.as_ref().map_or(Tick::NEVER, |vardiff| vardiff.due().max(self.pause_ends()))
    }

    /// The miner was announced work: if it is of the difficulty that is wanted, its shares count
    /// from here on.
    pub(super) fn watch(&mut self) {
        if let Some(vardiff) = &mut self.vardiff
            && !vardiff.is_running()
            && self.announcements.is_heard()
        {
            vardiff.run(self.now);
        }
    }

    fn heed(&mut self, shared: &Shared, alarm: Alarm) {
        // What was found is not lost: the sum stands until the pause is over.
        if !alarm.urgent && self.now < self.pause_ends() {
            return;
        }
        let present = self.announcements.wanted();
        let wanted = self.bounds(shared).nearest(present.get() * alarm.factor);
        let Some(vardiff) = &mut self.vardiff else { return };
        vardiff.settle(alarm, wanted.get() / present.get());
        if wanted != present {
            vardiff.stop(self.now);
            self.settling = 0;
            self.announcements.want(wanted);
        }
    }

    /// Wants a difficulty of which nothing is known.
    fn change(&mut self, wanted: Difficulty) {
        if wanted == self.announcements.wanted() {
            return;
        }
        self.settling = 0;
        self.announcements.want(wanted);
        if let Some(vardiff) = &mut self.vardiff {
            vardiff.stop(self.now);
            vardiff.forget();
        }
    }

    /// Before this only a flood of shares changes the difficulty again.
    fn pause_ends(&self) -> Tick {
        match self.class.counts_shares_in_flight() {
            true => self.announcements.stepped_at().plus_micros(PAUSE_US),
            false => Tick::default(),
        }
    }

    /// What this miner may have: within the farm's bounds, and no harder than a block where that
    /// does not go below the farm's minimum.
    fn bounds(&self, shared: &Shared) -> Bounds {
        let settings = shared.settings();
        let floor = self.class.difficulty_floor().and_then(Difficulty::new);
        // A start below 1 means a network or miners to which no class's habits apply.
        let floor = floor.filter(|_| settings.start_difficulty.get() >= 1.0);
        let minimum = settings.bounded(floor.unwrap_or(settings.minimum_difficulty));
        let block = shared.newest().map(|job| shared.job(job.index).network_target.difficulty());
        let block = block.and_then(Difficulty::new);
        let maximum = match block {
            Some(block) if block < settings.maximum_difficulty => block,
            _ => settings.maximum_difficulty,
        };
        Bounds { minimum, maximum, powers_of_two: !self.class.takes_fractions() }
    }
}

/// The difficulty that a password asks for: `d=1024`, alone or among other words, of which the
/// first counts that can be read.
pub(super) fn of_password(password: &str) -> Option<Difficulty> {
    let words = password.split([',', ';', ' ', '&']);
    words.filter_map(|word| word.split_once('=')).find_map(|(key, number)| {
        let is_ours = PASSWORD_KEYS.iter().any(|ours| key.eq_ignore_ascii_case(ours));
        Difficulty::new(number.parse().ok().filter(|_| is_ours)?)
    })
}

/// What pools call it.
const PASSWORD_KEYS: [&str; 3] = ["d", "diff", "fd"];

/// Accepted shares at one difficulty that say that it suits: 80 s of them at 12 a minute. A flood
/// is over before, and a machine that fell silent has none.
const SHARES_SETTLED: u8 = 16;

/// Between two changes for firmware that shows shares in flight as rejected after each.
const PAUSE_US: u64 = 30_000_000;
