//! Whether a miner that rolls the version still does: some firmware loses it while it mines, and
//! with it a part of its speed, until it is started again. Nobody is closed for it.

/// What one connection's shares say of it.
#[derive(Debug, Default)]
pub(super) struct Rolling {
    /// Shares with rolled bits, up to [`ROLLED_MIN`].
    rolled: u8,
    /// Shares without any since the last one with; ≤ [`PLAIN_MAX`].
    plain: u8,
}

impl Rolling {
    /// Takes one share in; whether it is the one by which rolling counts as lost.
    pub(super) fn is_lost_with(&mut self, is_rolled: bool) -> bool {
        if is_rolled {
            self.rolled = (self.rolled + 1).min(ROLLED_MIN);
            self.plain = 0;
            return false;
        }
        if self.rolled < ROLLED_MIN {
            return false;
        }
        self.plain += 1;
        let is_lost = self.plain == PLAIN_MAX;
        if is_lost {
            // It counts again once it has rolled for as long again.
            *self = Rolling::default();
        }
        is_lost
    }
}

/// A miner rolls if it has sent this many shares with rolled bits.
const ROLLED_MIN: u8 = 100;

/// It has stopped with this many shares in a row without any: even under a mask of one bit chance
/// does that once in 2^32.
const PLAIN_MAX: u8 = 32;
