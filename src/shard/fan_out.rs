//! How a new job reaches every connection: a cursor that goes round the slots, some per turn, so
//! that shares are served in between. A newer job makes the cursor go round once more from where it
//! stands; sessions always take the newest job, so nobody is sent a job that was overtaken.

use session::Tick;

/// Slots that one turn visits. Their sends are submitted together, unlinked; then completions are
/// taken before the next ones.
pub(crate) const VISITS_PER_TURN: u32 = 256;

/// A job on its way to the connections.
#[derive(Clone, Copy, Debug)]
struct Round {
    received: Tick,
    clean: bool,
    left: u32,
}

/// The fan-out of the newest job.
#[derive(Default)]
pub(crate) struct FanOut {
    cursor: u32,
    round: Option<Round>,
    /// The round that has just submitted its last send.
    submitted: Option<Round>,
}

/// A fan-out that is over, for the histograms.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Finished {
    pub(crate) us: u64,
    pub(crate) clean: bool,
}

impl FanOut {
    /// A job was adopted. Whether it replaces one that was still on its way. Where nobody can want
    /// it, nothing is on its way.
    pub(crate) fn start(&mut self, received: Tick, clean: bool, slots: u32) -> bool {
        if slots == 0 {
            return false;
        }
        let overtaken = self.round.take();
        // The connections that the former job has not reached yet wait since that one.
        let clean = clean || overtaken.is_some_and(|round| round.clean);
        self.round = Some(Round { received, clean, left: slots });
        overtaken.is_some()
    }

    /// The next slot to visit.
    pub(crate) fn next(&mut self, slots: u32) -> Option<u32> {
        let round = self.round.as_mut()?;
        if round.left == 0 {
            self.submitted = self.round.take();
            return None;
        }
        round.left -= 1;
        let slot = self.cursor % slots;
        self.cursor = slot + 1;
        Some(slot)
    }

    /// What the ring has submitted since the former turn: the last sends of a round, perhaps.
    pub(crate) fn finished(&mut self, now: Tick) -> Option<Finished> {
        let round = self.submitted.take()?;
        Some(Finished { us: now.since(round.received), clean: round.clean })
    }

    pub(crate) fn is_active(&self) -> bool {
        self.round.is_some()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use alloc::vec::Vec;

    #[test]
    fn every_slot_is_visited_once_per_job() {
        let mut fan_out = FanOut::default();
        assert!(!fan_out.start(Tick(10), true, 5));
        let mut visited: Vec<u32> = core::iter::from_fn(|| fan_out.next(5)).collect();
        visited.sort_unstable();
        assert_eq!(visited, [0, 1, 2, 3, 4]);
        assert!(!fan_out.is_active());
        assert_eq!(fan_out.finished(Tick(30)), Some(Finished { us: 20, clean: true }));
        assert_eq!(fan_out.finished(Tick(31)), None);
    }

    #[test]
    fn a_newer_job_overtakes_and_starves_nobody() {
        let mut fan_out = FanOut::default();
        fan_out.start(Tick(0), true, 4);
        assert_eq!((fan_out.next(4), fan_out.next(4)), (Some(0), Some(1)));
        assert!(fan_out.start(Tick(5), false, 4));
        let visited: Vec<u32> = core::iter::from_fn(|| fan_out.next(4)).collect();
        assert_eq!(visited, [2, 3, 0, 1], "those who wait longest come first");
        let finished = fan_out.finished(Tick(9)).expect("it is over");
        assert!(finished.clean, "some waited for the clean job that was overtaken");
    }

    #[test]
    fn without_a_slot_there_is_no_round() {
        let mut fan_out = FanOut::default();
        assert!(!fan_out.start(Tick(0), true, 0));
        assert!(!fan_out.start(Tick(1), false, 0), "nobody waited for the former one");
        assert_eq!(
            (fan_out.is_active(), fan_out.next(1), fan_out.finished(Tick(9))),
            (false, None, None)
        );
    }
}
