//! The fence between one connection's machine and its shard: a panic in there costs that
//! connection. Several in a short time are no accident, and then a clean restart is the better
//! service: the process ends as soon as no found block would be lost with it. Used by `plane.rs`.

use std::cell::{Cell, RefCell};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::thread;
use std::time::{Duration, Instant};

use session::Tick;
use shard::{Guard, Panicked};

use crate::clock;

/// So many panics of one shard within the window end the process.
const PANICS_MAX: usize = 3;
/// The window, in µs.
const PANIC_WINDOW_US: u64 = 60_000_000;
/// How long the end of the process may wait for found blocks to be safe. A journal's `write()`
/// takes milliseconds; without one, a node's answer takes a second or two. A disk and nodes that
/// all hang must not keep a broken shard alive: its miners are not served meanwhile.
const LAST_BLOCKS_MAX: Duration = Duration::from_secs(2);
/// How often it looks whether they are.
const LAST_BLOCKS_POLL: Duration = Duration::from_millis(1);

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
    doomed: Cell<bool>,
}

impl Fence {
    pub(crate) fn new(shard: u16) -> Fence {
        Fence { shard, panics: RefCell::default(), doomed: Cell::new(false) }
    }

    /// Counts a panic of this shard. The one too many dooms the process, but does not end it here:
    /// this may be in the middle of a turn that has found a block.
    pub(crate) fn note(&self, what: &str) {
        tracing::error!(shard = self.shard, "a panic in {what}: please report it");
        if self.panics.borrow_mut().record(clock::now()) && !self.doomed.replace(true) {
            tracing::error!(shard = self.shard, "{PANICS_MAX} panics within a minute: aborting");
        }
    }

    /// Whether there was a panic too many: no further turn is to be begun.
    pub(crate) fn is_doomed(&self) -> bool {
        self.doomed.get()
    }

    /// Ends the process once no found block would be lost with it, or after [`LAST_BLOCKS_MAX`].
    pub(crate) fn end_process(&self, mut blocks_are_safe: impl FnMut() -> bool) -> ! {
        let until = Instant::now() + LAST_BLOCKS_MAX;
        while !blocks_are_safe() {
            if Instant::now() >= until {
                tracing::error!(shard = self.shard, "a found block is not safe: aborting anyway");
                break;
            }
            thread::sleep(LAST_BLOCKS_POLL);
        }
        std::process::abort()
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
    use std::os::unix::process::ExitStatusExt;
    use std::process::Command;

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
    fn a_block_that_is_never_safe_does_not_keep_the_process_alive() {
        const CHILD: &str = "ENGINE_TEST_NEVER_SAFE";
        if std::env::var_os(CHILD).is_some() {
            Fence::new(0).end_process(|| false);
        }
        let name = "guard::tests::a_block_that_is_never_safe_does_not_keep_the_process_alive";
        let status = Command::new(std::env::current_exe().expect("this test binary"))
            .args(["--exact", name])
            .env(CHILD, "1")
            .status()
            .expect("it runs again");
        let abort = 6;
        assert_eq!(status.signal(), Some(abort));
    }

    #[test]
    fn a_panic_becomes_a_value() {
        let fence = Fence::new(0);
        assert_eq!(fence.run(|| 7), Ok(7));
        assert_eq!(fence.run(|| -> u8 { panic!("inside the fence, on purpose") }), Err(Panicked));
        assert_eq!(fence.run(|| 8), Ok(8));
    }
}
