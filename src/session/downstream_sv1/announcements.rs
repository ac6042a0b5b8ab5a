//! What one miner is told of work and difficulty, and when: which rendering is due, which
//! difficulty goes with it, and by which difficulty a share must be judged later.
//!
//! The rules (one id never stands for two difficulties, and firmware never sees an id twice):
//!
//! - A new job is announced at once; the present one again after 30 s of silence, as the rendering
//!   of the present second.
//! - A difficulty goes out in one write with a new rendering and `clean`, at most once per second.
//!   Between two steps the wish may change as often as it likes: the last one counts.
//! - Where a miner waits for it before it authorizes, the difficulty goes ahead alone.
//! - Without any job the difficulty alone is repeated as the sign of life.
//! - Cgminer keeps two difficulties, and each notify takes up one of them. So a step waits until
//!   every difficulty that was said has had its notify, or the miner would stay one step behind.

use crate::contract::Tick;
use crate::job::{JobRef, RenderId, Rendering};
use crate::shared::{Found, Shared};
use alloc::vec::Vec;
use pow::{Difficulty, Target};

/// Something to be announced now.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) enum Announcement {
    /// There is no job: the difficulty alone.
    Difficulty,
    /// A rendering of the newest job.
    Work { job: JobRef, rendering: Rendering, new_tip: bool },
}

impl Announcement {
    /// Whether everything that the miner has is worthless now.
    pub(super) fn is_new_tip(&self) -> bool {
        matches!(self, Announcement::Work { new_tip: true, .. })
    }
}

/// Renderings announced one after another under one difficulty and one mask.
#[derive(Debug, Clone, Copy)]
pub(super) struct Epoch {
    /// The first rendering of the epoch.
    since: RenderId,
    /// The last one; ≥ `since`.
    until: RenderId,
    pub(super) difficulty: Difficulty,
    pub(super) target: Target,
    /// Version bits that the miner may set; `None` if it never negotiated.
    pub(super) mask: Option<u32>,
}

/// The history of one connection, as short as it can be.
#[derive(Debug)]
pub(super) struct Announcements {
    wanted: Difficulty,
    /// The last difficulty that was written, and when.
    written: Option<Difficulty>,
    written_at: Tick,
    /// Difficulties written that no notify has followed yet, as far as firmware keeps them:
    /// ≤ `UNHEARD_MAX`.
    unheard: u8,
    /// The miner waits for the first difficulty before it goes on to mining.
    awaited: bool,
    /// The first job of a connection that has resumed is still to be announced.
    anew: bool,
    /// When anything was last announced.
    spoken_at: Tick,
    mask: Option<u32>,
    newest: Option<Epoch>,
    /// Oldest first; ≤ `EPOCHS_OLDER_MAX`.
    older: Vec<Epoch>,
}

impl Announcements {
    pub(super) fn new(start: Difficulty) -> Announcements {
        Announcements {
            wanted: start,
            written: None,
            written_at: Tick::default(),
            unheard: 0,
            awaited: false,
            anew: false,
            spoken_at: Tick::default(),
            mask: None,
            newest: None,
            older: Vec::new(),
        }
    }

    pub(super) fn want(&mut self, difficulty: Difficulty) {
        self.wanted = difficulty;
    }

    pub(super) fn wanted(&self) -> Difficulty {
        self.wanted
    }

    /// Whether the last that the miner was told is what is wanted.
    pub(super) fn is_heard(&self) -> bool {
        self.written == Some(self.wanted)
    }

    /// When the difficulty was last changed.
    pub(super) fn stepped_at(&self) -> Tick {
        self.written_at
    }

    /// Whether this id belongs to the difficulty that was announced last.
    pub(super) fn is_newest(&self, id: RenderId) -> bool {
        self.newest.as_ref().is_some_and(|epoch| epoch.since <= id)
    }

    pub(super) fn difficulty(&self) -> Difficulty {
        self.written.unwrap_or(self.wanted)
    }

    /// A new connection of the same miner: everything that it was given keeps its target, and it
    /// is told its difficulty again with a new rendering. `fresh` is what this connection has had
    /// before it resumed; firmware that does not ask for version rolling again keeps its mask.
    pub(super) fn resume(&mut self, fresh: &Announcements, shared: &Shared) {
        self.wanted = shared.settings().bounded(self.wanted);
        self.written = None;
        self.unheard = 0;
        self.awaited = fresh.awaited;
        self.anew = true;
        if fresh.mask.is_some() {
            self.grant_mask(fresh.mask);
        }
    }

    /// The number of the newest job that the miner was given.
    pub(super) fn newest_job(&self) -> Option<u32> {
        self.newest.as_ref().map(|epoch| epoch.until.number)
    }

    /// Gives back room that a miner without a connection does not need.
    pub(super) fn shrink(&mut self) {
        self.older.shrink_to_fit();
    }

    pub(super) fn mask(&self) -> Option<u32> {
        self.mask
    }

    /// What configure granted. Miners use it at once, also on the work that they have; so the
    /// present epoch takes what either mask allows, and only the next one is strict.
    pub(super) fn grant_mask(&mut self, mask: Option<u32>) {
        self.mask = mask;
        if let Some(epoch) = &mut self.newest {
            epoch.mask = match (epoch.mask, mask) {
                (Some(before), Some(now)) => Some(before | now),
                (before, now) => now.or(before),
            };
        }
    }

    /// The epoch in which this id was announced.
    pub(super) fn epoch_of(&self, id: RenderId) -> Option<&Epoch> {
        let holds = |epoch: &&Epoch| epoch.since <= id && id <= epoch.until;
        self.newest.as_ref().filter(holds).or_else(|| self.older.iter().find(holds))
    }

    /// When something is to be announced if nothing changes; the past if it is due.
    pub(super) fn due(&self, shared: &Shared) -> Tick {
        let silence = self.spoken_at.plus_micros(shared.settings().keepalive_us);
        let step = if self.written == Some(self.wanted) { Tick::NEVER } else { self.step_at() };
        let Some(job) = shared.newest() else {
            return match self.written {
                Some(_) => silence,
                // It was given work on another shard, of which this one is yet to hear.
                None if self.anew => Tick::NEVER,
                None => step,
            };
        };
        match &self.newest {
            // The same job again needs a second of its own, or its id would be used twice.
            Some(epoch) if epoch.until.number == job.number => {
                let fresh = shared.job(job.index).begin_of(epoch.until.second.saturating_add(1));
                silence.min(step).max(fresh)
            }
            // Only on another shard can there have been a later one.
            Some(epoch) if epoch.until.number > job.number => Tick::NEVER,
            _ => Tick::default(),
        }
    }

    /// What is to be announced now.
    pub(super) fn next(&self, now: Tick, shared: &Shared) -> Option<Announcement> {
        if now < self.due(shared) {
            return None;
        }
        let Some(job) = shared.newest() else { return Some(Announcement::Difficulty) };
        let stepped = self.steps_at(now);
        let (new_tip, clean) = match &self.newest {
            None => (true, true),
            Some(epoch) => {
                let new_tip = epoch.until.number < shared.clean_number();
                let difficulty = if stepped { self.wanted } else { self.difficulty() };
                (new_tip, new_tip || self.anew || epoch.difficulty != difficulty)
            }
        };
        let second = shared.job(job.index).second_at(now);
        let rendering = Rendering { job: job.index, second, clean };
        Some(Announcement::Work { job, rendering, new_tip })
    }

    /// The miner says no more before it hears a difficulty.
    pub(super) fn await_difficulty(&mut self) {
        self.awaited = true;
    }

    /// What is to be announced to a miner that is not mining yet.
    pub(super) fn next_early(&self) -> Option<Announcement> {
        (self.awaited && self.written.is_none()).then_some(Announcement::Difficulty)
    }

    /// Takes note that `due` is announced; the difficulty that must be written before it.
    pub(super) fn announce(
        &mut self,
        now: Tick,
        shared: &Shared,
        due: Announcement,
    ) -> Option<Difficulty> {
        let stepped = self.steps_at(now);
        if stepped {
            self.written = Some(self.wanted);
            self.written_at = now;
        }
        self.spoken_at = now;
        match due {
            Announcement::Difficulty => {
                self.unheard = (self.unheard + 1).min(UNHEARD_MAX);
                self.written
            }
            Announcement::Work { job, rendering, .. } => {
                let id = RenderId { number: job.number, second: rendering.second };
                self.enter(id, shared);
                self.anew = false;
                self.unheard = self.unheard.saturating_sub(1);
                stepped.then_some(self.wanted)
            }
        }
    }

    pub(super) fn memory_bytes(&self) -> usize {
        self.older.capacity() * size_of::<Epoch>()
    }

    fn steps_at(&self, now: Tick) -> bool {
        self.written != Some(self.wanted) && self.unheard == 0 && now >= self.step_at()
    }

    fn step_at(&self) -> Tick {
        match self.written {
            None => Tick::default(),
            Some(_) => self.written_at.plus_micros(STEP_US_MIN),
        }
    }

    /// Lengthens the newest epoch up to `id`, or begins a new one.
    fn enter(&mut self, id: RenderId, shared: &Shared) {
        let difficulty = self.written.expect("a difficulty goes before the first job");
        let mask = self.mask;
        if let Some(epoch) = &mut self.newest {
            assert!(epoch.until < id, "ids rise: {id} after {}", epoch.until);
            if epoch.difficulty == difficulty && epoch.mask == mask {
                epoch.until = id;
                return;
            }
        }
        let target = Target::from_difficulty(difficulty);
        let begun = Epoch { since: id, until: id, difficulty, target, mask };
        if let Some(ended) = self.newest.replace(begun) {
            self.older.retain(|epoch| shared.find(epoch.until.number) != Found::Unknown);
            if self.older.len() == EPOCHS_OLDER_MAX {
                self.older.remove(0);
            }
            self.older.push(ended);
        }
    }
}

/// The difficulty that cgminer's next notify takes up, and the one after it.
const UNHEARD_MAX: u8 = 2;

/// At most one difficulty step per connection and second.
const STEP_US_MIN: u64 = 1_000_000;

/// A ramp of factor 4 from difficulty 1 to that of the largest machine takes ten steps; shares of
/// an epoch before these are too old to be in flight.
const EPOCHS_OLDER_MAX: usize = 15;
