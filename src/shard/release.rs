//! How miners leave when there is no work: ASICs look at their second and third pool only when
//! their connection ends, so it ends, at a pace that no switch or pool minds. Whoever comes
//! meanwhile is refused by `admission`.

use session::{Command, Input, Tick};

use crate::fan_out::VISITS_PER_TURN;
use crate::guard::Guard;
use crate::ring::Ring;
use crate::shard::{Hands, Shard};

/// How far a release is.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Releasing {
    /// From one close to the next, in µs.
    interval_us: u64,
    /// When the next connection may be closed; never when all have been told.
    next: Tick,
    /// The first slot that was not looked at.
    cursor: u32,
}

impl Releasing {
    /// When the release wants a turn.
    pub(crate) fn deadline(&self) -> Tick {
        self.next
    }
}

impl<R: Ring> Shard<R> {
    /// There is no work. A release under way goes on, at the new pace.
    pub(crate) fn begin_release(&mut self, per_second: u32, now: Tick) {
        self.admission.set_work(false);
        let interval_us = 1_000_000 / u64::from(per_second.clamp(1, 1_000_000));
        let begun = Releasing { interval_us, next: now, cursor: 0 };
        self.releasing.get_or_insert(begun).interval_us = interval_us;
    }

    /// There is work again.
    pub(crate) fn end_release(&mut self) {
        self.admission.set_work(true);
        self.releasing = None;
    }

    /// Tells some sessions to end, as many as the pace allows. A drain goes before.
    pub(crate) fn release_some<G: Guard>(&mut self, hands: &mut Hands<'_, R, G>) {
        let Some(mut releasing) = self.releasing.filter(|_| self.draining.is_none()) else {
            return;
        };
        let end = self.slots.len();
        let to = end.min(releasing.cursor + VISITS_PER_TURN);
        while releasing.cursor < to && releasing.next <= hands.now {
            let slot = releasing.cursor;
            releasing.cursor += 1;
            if self.slots.at(slot).session.is_none() {
                continue;
            }
            self.handle(slot, Input::Command(Command::Drain), hands);
            self.reply(slot, hands);
            // Late turns make the release slower, never a burst.
            releasing.next = hands.now.plus_micros(releasing.interval_us);
        }
        if releasing.cursor == end {
            // Nobody is seated before there is work again.
            releasing.next = Tick::NEVER;
        }
        self.releasing = Some(releasing);
    }
}
