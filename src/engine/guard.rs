//! The fence between one connection's machine and its shard: a panic in there costs that
//! connection. Several in a short time are no accident, and then a clean restart is the better
//! service. Used by `plane.rs`.

use std::cell::RefCell;
use std::panic::{AssertUnwindSafe, catch_unwind};

use session::Tick;
use shard::{Guard, Panicked};

use crate::clock;

/// So many panics of one shard within the window end the process.
const PANICS_MAX: usize = 3;
/// The window, in µs.
const PANIC_WINDOW_US: u64 = 60_000_000;

/// The newest panics of one shard, those inside the fence and those outside.
#[derive(Debug, Default)]
pub(crate) struct Panics {
    newest: [Option<Tick>; PANICS_MAX],
}

impl Panics {
    /// Records one; true if it is the one too many.
    pub(crate) fn record(&mut self, now: Tick) -> bool {
        self.newest.rotate_left(1);
        self.newest[PANICS_MAX - 1] = Some(now);
        self.newest[0].is_some_and(|oldest| now.since(oldest) <= PANIC_WINDOW_US)
    }
}

/// The fence of one shard, for all its lives.
#[derive(Debug)]
pub(crate) struct Fence {
    shard: u16,
    panics: RefCell<Panics>,
}

impl Fence {
    pub(crate) fn new(shard: u16) -> Fence {
        Fence { shard, panics: RefCell::default() }
    }

    /// Counts a panic of this shard; ends the process if it is the one too many.
    pub(crate) fn note(&self, what: &str) {
        tracing::error!(shard = self.shard, "a panic in {what}: please report it");
        if self.panics.borrow_mut().record(clock::now()) {
            tracing::error!(shard = self.shard, "{PANICS_MAX} panics within a minute: aborting");
            std::process::abort();
        }
    }
}

impl Guard for Fence {
    fn run<T>(&self, call: impl FnOnce() -> T) -> Result<T, Panicked> {
        // A machine that panicked is never touched again, so nobody sees it half changed.
        catch_unwind(AssertUnwindSafe(call)).map_err(|_| {
            self.note("a connection");
            Panicked
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_third_panic_within_a_minute_is_one_too_many() {
        let verdicts = |seconds: &[u64]| {
            let mut panics = Panics::default();
            let at = |second: &u64| panics.record(Tick(second * 1_000_000));
            seconds.iter().map(at).collect::<Vec<bool>>()
        };
        assert_eq!(verdicts(&[1, 2, 3]), [false, false, true]);
        assert_eq!(verdicts(&[1, 31, 61]), [false, false, true]);
        assert_eq!(verdicts(&[1, 31, 62, 90, 122]), [false, false, false, true, true]);
        assert_eq!(verdicts(&[0, 100, 200, 300]), [false; 4]);
    }

    #[test]
    fn a_panic_becomes_a_value() {
        let fence = Fence::new(0);
        assert_eq!(fence.run(|| 7), Ok(7));
        assert_eq!(fence.run(|| -> u8 { panic!("inside the fence, on purpose") }), Err(Panicked));
        assert_eq!(fence.run(|| 8), Ok(8));
    }
}
