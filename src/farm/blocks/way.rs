//! The way of one block to one node: attempts, waits, and the node's last word.

use session::Tick;

use super::outcome::{Next, Outcome, RetryPolicy, SubmitResult};

/// Without an answer for this long a submission counts as not answered, in µs: a node checks a
/// block within seconds, and a lost answer must not hold the next attempt for ever.
pub const ANSWER_MICROS_MAX: u64 = 60_000_000;

/// One block on its way to one node.
#[derive(Clone, Debug)]
pub(super) struct Way {
    step: Step,
    attempts: u32,
    /// The kind of the newest answer, and how many of it came in a row.
    newest: Option<(usize, u32)>,
}

/// What happens next on this way.
#[derive(Clone, Copy, Debug)]
enum Step {
    /// It is sent, for the first time or again.
    Send(Tick),
    /// The answer that is awaited is given up.
    GiveUp(Tick),
    /// The node's last word is known.
    Done,
}

impl Way {
    pub(super) fn new(now: Tick) -> Way {
        Way { step: Step::Send(now), attempts: 0, newest: None }
    }

    /// When something is to be done on it again.
    pub(super) fn due(&self) -> Option<Tick> {
        match self.step {
            Step::Send(due) | Step::GiveUp(due) => Some(due),
            Step::Done => None,
        }
    }

    pub(super) fn wants_sending(&self, now: Tick) -> bool {
        matches!(self.step, Step::Send(due) if due <= now)
    }

    pub(super) fn is_overdue(&self, now: Tick) -> bool {
        matches!(self.step, Step::GiveUp(due) if due <= now)
    }

    pub(super) fn is_done(&self) -> bool {
        matches!(self.step, Step::Done)
    }

    /// It goes out now; the number of this attempt, from 1.
    pub(super) fn send(&mut self, now: Tick) -> u32 {
        self.step = Step::GiveUp(now.plus_micros(ANSWER_MICROS_MAX));
        self.attempts += 1;
        self.attempts
    }

    /// Takes the node's answer; gives its last word, if this was it. An answer after the last word
    /// changes nothing.
    pub(super) fn answered(
        &mut self,
        result: &SubmitResult,
        retry: &RetryPolicy,
        now: Tick,
    ) -> Option<Outcome> {
        if self.is_done() {
            return None;
        }
        let kind = result.kind();
        let count = match self.newest {
            Some((same, count)) if same == kind => count.saturating_add(1),
            _ => 1,
        };
        self.newest = Some((kind, count));
        match retry.next(result, count) {
            Next::LastWord(outcome) => {
                self.step = Step::Done;
                Some(outcome)
            }
            Next::Again(wait) => {
                self.step = Step::Send(now.plus_micros(wait));
                None
            }
        }
    }
}
