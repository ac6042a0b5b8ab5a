//! What the farm does about having no work: nothing for a while, because nodes restart and links
//! flap, and then what its operator wants. A value of a few fields that `coordinator` feeds; the
//! pace of a release and its connections are the shards'.

use session::Tick;

/// So long a farm keeps its miners without work, in µs: a node that restarts is back by then, and
/// an ASIC that waits longer earns more at its second pool.
pub const NO_WORK_MICROS: u64 = 60_000_000;

/// Miners of the whole farm that are released in a second at most: so many reconnects no other
/// pool, and no access switch, minds.
pub const RELEASED_PER_SECOND_MAX: u32 = 1_000;

/// What an operator wants of a farm that has had no work for [`NO_WORK_MICROS`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum NoWork {
    /// Refuse new miners and close the others, so that they use their second and third pool.
    Release,
    /// Keep them all on the last job.
    Park,
}

/// Whether the source of work can give any.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum WorkHealth {
    /// It can: the template that shows it was handed over before.
    Up,
    /// It cannot, whatever the reason.
    Down,
}

/// The farm without work, as its operator sees it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct OutageStatus {
    /// Since when there is none, in µs.
    pub micros: u64,
    /// Miners are being released, or are all gone.
    pub is_released: bool,
}

/// What every shard is to be told.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Turn {
    Release,
    Serve,
}

/// Whether the farm has work, and since when it has not.
#[derive(Debug)]
pub(crate) struct Outage {
    policy: NoWork,
    health: WorkHealth,
    /// A farm without a single job is without work from its start.
    since: Option<Tick>,
    is_released: bool,
}

impl Outage {
    pub(crate) fn new(policy: NoWork, now: Tick) -> Outage {
        Outage { policy, health: WorkHealth::Up, since: Some(now), is_released: false }
    }

    /// The source has said how it is. With `has_job`, there is one to mine on when it is well.
    pub(crate) fn told(&mut self, health: WorkHealth, has_job: bool, now: Tick) -> Option<Turn> {
        self.health = health;
        match health {
            WorkHealth::Up if has_job => self.end(),
            WorkHealth::Up => None,
            WorkHealth::Down => {
                self.since.get_or_insert(now);
                None
            }
        }
    }

    /// A job was made. What a source that is down had sent before is no work.
    pub(crate) fn job_made(&mut self) -> Option<Turn> {
        match self.health {
            WorkHealth::Up => self.end(),
            WorkHealth::Down => None,
        }
    }

    fn end(&mut self) -> Option<Turn> {
        self.since = None;
        core::mem::take(&mut self.is_released).then_some(Turn::Serve)
    }

    /// Time has passed.
    pub(crate) fn advance(&mut self, now: Tick) -> Option<Turn> {
        if self.due().is_none_or(|due| now < due) {
            return None;
        }
        self.is_released = true;
        Some(Turn::Release)
    }

    /// When the farm has been without work for too long.
    pub(crate) fn due(&self) -> Option<Tick> {
        let waits = self.policy == NoWork::Release && !self.is_released;
        self.since.filter(|_| waits).map(|since| since.plus_micros(NO_WORK_MICROS))
    }

    /// Whether miners are being released.
    pub(crate) fn is_released(&self) -> bool {
        self.is_released
    }

    pub(crate) fn status(&self, now: Tick) -> Option<OutageStatus> {
        let since = self.since?;
        Some(OutageStatus { micros: now.since(since), is_released: self.is_released })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const LIMIT: u64 = NO_WORK_MICROS;

    fn at_work(policy: NoWork) -> Outage {
        let mut outage = Outage::new(policy, Tick(0));
        assert_eq!(outage.job_made(), None);
        outage
    }

    #[test]
    fn sixty_seconds_are_waited_and_then_miners_go_until_there_is_work() {
        let mut outage = at_work(NoWork::Release);
        assert_eq!((outage.due(), outage.status(Tick(5))), (None, None));
        assert_eq!(outage.told(WorkHealth::Down, true, Tick(10)), None);
        assert_eq!(outage.told(WorkHealth::Down, true, Tick(20)), None, "it began at the first");
        assert_eq!(outage.advance(Tick(9 + LIMIT)), None);
        assert_eq!(outage.due(), Some(Tick(10 + LIMIT)));
        assert_eq!(outage.advance(Tick(10 + LIMIT)), Some(Turn::Release));
        assert_eq!((outage.advance(Tick(99 + LIMIT)), outage.due()), (None, None), "said once");
        let status = outage.status(Tick(11 + LIMIT));
        assert_eq!(status, Some(OutageStatus { micros: LIMIT + 1, is_released: true }));
        assert_eq!(outage.job_made(), None, "what was under way when it went down");
        assert_eq!(outage.told(WorkHealth::Up, true, Tick(12 + LIMIT)), Some(Turn::Serve));
        assert_eq!((outage.is_released(), outage.status(Tick(13 + LIMIT))), (false, None));
    }

    #[test]
    fn a_shorter_outage_is_none_of_the_miners_business() {
        let mut outage = at_work(NoWork::Release);
        outage.told(WorkHealth::Down, true, Tick(10));
        assert_eq!(outage.told(WorkHealth::Up, true, Tick(45_000_000)), None);
        assert_eq!(outage.advance(Tick(10 * LIMIT)), None);
        outage.told(WorkHealth::Down, true, Tick(10 * LIMIT));
        assert_eq!(outage.due(), Some(Tick(11 * LIMIT)), "each is counted from its own start");
    }

    #[test]
    fn parked_miners_stay() {
        let mut outage = at_work(NoWork::Park);
        outage.told(WorkHealth::Down, true, Tick(10));
        assert_eq!((outage.due(), outage.advance(Tick(100 * LIMIT))), (None, None));
        let status = outage.status(Tick(10 + LIMIT));
        assert_eq!(status, Some(OutageStatus { micros: LIMIT, is_released: false }));
    }

    #[test]
    fn a_farm_that_never_had_a_job_is_without_work() {
        let mut outage = Outage::new(NoWork::Release, Tick(7));
        assert_eq!(outage.told(WorkHealth::Up, false, Tick(8)), None, "no template yet");
        assert_eq!(outage.advance(Tick(7 + LIMIT)), Some(Turn::Release));
        assert_eq!(outage.job_made(), Some(Turn::Serve));
    }
}
