//! The one monotonic clock of the engine: every thread counts from the same zero, so that a job's
//! tick means the same to the coordinator and to every shard.

use rustix::time::{ClockId, clock_gettime};
use session::Tick;

/// The present moment.
pub fn now() -> Tick {
    let time = clock_gettime(ClockId::Monotonic);
    Tick(time.tv_sec.cast_unsigned() * 1_000_000 + time.tv_nsec.cast_unsigned() / 1_000)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_counts_the_same_microseconds_on_every_thread() {
        let before = now();
        let between = std::thread::spawn(now).join().expect("no panic");
        let after = now();
        assert!(before <= between);
        assert!(between <= after);
        assert!(after.since(before) < 60_000_000, "a thread starts within a minute");
    }
}
