//! When each connection next wants the time: one dense table, swept every 250 ms. A wheel or heap
//! would cost an allocation or a cache miss per share; a sweep over 20,000 entries reads 160 KB
//! four times a second.

use alloc::vec::Vec;

use session::Tick;

/// How late a deadline of a connection may be served. The shortest of them is a second.
pub(crate) const SWEEP_US: u64 = 250_000;

/// Deadlines that one turn serves. After a power cut 20,000 handshakes can end in one sweep; the
/// others then go on in the next turns, between the shares.
pub(crate) const DUE_PER_TURN: usize = 256;

/// The deadlines of all slots, and how far the present sweep is.
pub(crate) struct Deadlines {
    due: Vec<Tick>,
    next_sweep: Tick,
    /// The first slot that the present sweep has not looked at; `None` between sweeps.
    cursor: Option<u32>,
}

impl Deadlines {
    pub(crate) fn new(now: Tick) -> Deadlines {
        Deadlines { due: Vec::new(), next_sweep: now.plus_micros(SWEEP_US), cursor: None }
    }

    /// Sets when a slot wants the time; [`Tick::NEVER`] for a slot that does not.
    pub(crate) fn set(&mut self, slot: u32, due: Tick) {
        let slot = slot as usize;
        if self.due.len() <= slot {
            self.due.resize(slot + 1, Tick::NEVER);
        }
        self.due[slot] = due;
    }

    /// Brings a slot's deadline forward.
    pub(crate) fn lower(&mut self, slot: u32, due: Tick) {
        let held = self.due.get(slot as usize).copied().unwrap_or(Tick::NEVER);
        self.set(slot, held.min(due));
    }

    /// The next slot that is due, its entry cleared; `None` when this sweep has found all.
    pub(crate) fn next(&mut self, now: Tick) -> Option<u32> {
        if self.cursor.is_none() {
            if now < self.next_sweep {
                return None;
            }
            self.next_sweep = now.plus_micros(SWEEP_US);
            self.cursor = Some(0);
        }
        let from = self.cursor.unwrap_or(0) as usize;
        let found = self.due.iter().skip(from).position(|due| *due <= now);
        self.cursor = found.map(|ahead| (from + ahead + 1) as u32);
        let slot = from + found?;
        self.due[slot] = Tick::NEVER;
        Some(slot as u32)
    }

    /// When the next sweep begins or goes on.
    pub(crate) fn next_sweep(&self) -> Tick {
        if self.cursor.is_some() { Tick(0) } else { self.next_sweep }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_sweep_finds_all_that_is_due_once() {
        let mut deadlines = Deadlines::new(Tick(0));
        for (slot, due) in [(0, 5), (1, SWEEP_US + 9), (2, SWEEP_US), (7, 1)] {
            deadlines.set(slot, Tick(due));
        }
        assert_eq!(deadlines.next(Tick(SWEEP_US - 1)), None);
        let now = Tick(SWEEP_US);
        let found: Vec<u32> = core::iter::from_fn(|| deadlines.next(now)).collect();
        assert_eq!(found, [0, 2, 7]);
        assert_eq!(deadlines.next_sweep(), Tick(2 * SWEEP_US));
        assert_eq!(deadlines.next(Tick(2 * SWEEP_US)), Some(1));
        assert_eq!(deadlines.next_sweep(), Tick(0));
        assert_eq!(deadlines.next(Tick(2 * SWEEP_US)), None);
    }

    #[test]
    fn a_cut_sweep_goes_on_where_it_was() {
        let mut deadlines = Deadlines::new(Tick(0));
        for slot in 0..10 {
            deadlines.set(slot, Tick(1));
        }
        let now = Tick(SWEEP_US);
        assert_eq!(deadlines.next(now), Some(0));
        assert_eq!(deadlines.next_sweep(), Tick(0), "the rest is due at once");
        let rest: Vec<u32> = core::iter::from_fn(|| deadlines.next(now)).collect();
        assert_eq!(rest, (1..10).collect::<Vec<u32>>());
    }
}
