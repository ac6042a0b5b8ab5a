//! The shares of a turn, hashed together: sessions hand them in, one call hashes them all, and each
//! connection gets its verdicts back in the same turn. Nothing is allocated in steady state.

use alloc::vec::Vec;
use core::mem;

use pow::{Hash256, Kernel};
use session::{ShareToCheck, Shared, Ticket, Verdict};

/// Shares that are hashed at once at most: sixteen full lanes of the widest kernel sixteen times
/// over. A batch that grows to it is hashed before further bytes are read.
pub(crate) const CHECKS_PER_BATCH: usize = 256;

/// Open shares of one connection after which its next bytes wait until they are judged. Far
/// below the replies that a session may queue, so that a fast miner is not mistaken for a slow
/// reader.
pub(crate) const CHECKS_PER_SLOT: u32 = 64;

const _: () = assert!((CHECKS_PER_SLOT as usize) < session::REPLIES_QUEUED_MAX);

/// Widths of one call to the kernel. A small one for the steady state, where a turn has one or two
/// shares and setting up a wide table would cost more than it saves.
const NARROW: usize = 4;
const WIDE: usize = 64;

struct Check {
    slot: u32,
    /// Its place in the order of arrival.
    sequence: u32,
    ticket: Ticket,
    to_check: ShareToCheck,
}

/// The open shares of a turn.
pub(crate) struct Batch {
    checks: Vec<Check>,
    hashes: Vec<Hash256>,
    /// How many checks were given out as verdicts already.
    delivered: usize,
    verdicts: Vec<(Ticket, Verdict)>,
}

impl Batch {
    pub(crate) fn new() -> Batch {
        // One buffer of submits may follow a batch that was nearly full.
        let reserved = 2 * CHECKS_PER_BATCH;
        Batch {
            checks: Vec::with_capacity(reserved),
            hashes: Vec::with_capacity(reserved),
            delivered: 0,
            verdicts: Vec::with_capacity(reserved),
        }
    }

    pub(crate) fn push(&mut self, slot: u32, ticket: Ticket, to_check: ShareToCheck) {
        assert!(self.hashes.is_empty(), "a batch that is being judged takes no more shares");
        let sequence = self.checks.len() as u32;
        self.checks.push(Check { slot, sequence, ticket, to_check });
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.checks.is_empty()
    }

    pub(crate) fn is_full(&self) -> bool {
        self.checks.len() >= CHECKS_PER_BATCH
    }

    /// Hashes everything, in as few calls as the kernel's widths allow.
    pub(crate) fn hash(&mut self, kernel: &Kernel, shared: &Shared) {
        // A connection's shares come together, and stay in the order in which they arrived.
        self.checks.sort_unstable_by_key(|check| (check.slot, check.sequence));
        self.hashes.resize(self.checks.len(), Hash256([0; 32]));
        if self.checks.len() <= NARROW {
            hash_by::<NARROW>(kernel, shared, &self.checks, &mut self.hashes);
        } else {
            hash_by::<WIDE>(kernel, shared, &self.checks, &mut self.hashes);
        }
    }

    /// The next connection's verdicts; when there are no more, the batch is empty again.
    pub(crate) fn next_verdicts(&mut self) -> Option<(u32, &[(Ticket, Verdict)])> {
        let left = &self.checks[self.delivered..];
        let Some(slot) = left.first().map(|check| check.slot) else {
            self.checks.clear();
            self.hashes.clear();
            self.delivered = 0;
            return None;
        };
        self.verdicts.clear();
        for (check, hash) in left.iter().zip(&self.hashes[self.delivered..]) {
            if check.slot != slot {
                break;
            }
            self.verdicts.push((check.ticket, Verdict { hash: *hash }));
        }
        self.delivered += self.verdicts.len();
        Some((slot, &self.verdicts))
    }

    /// The shares of the verdicts that were given out last, with their hashes.
    pub(crate) fn delivered(&self) -> impl Iterator<Item = (ShareToCheck, Hash256)> + '_ {
        let from = self.delivered - self.verdicts.len();
        let checks = self.checks[from..self.delivered].iter().map(|check| check.to_check);
        checks.zip(self.hashes[from..self.delivered].iter().copied())
    }

    /// The batch's memory, so that verdicts can be read while the shard is changed.
    pub(crate) fn lend(&mut self) -> Batch {
        let empty =
            Batch { checks: Vec::new(), hashes: Vec::new(), delivered: 0, verdicts: Vec::new() };
        mem::replace(self, empty)
    }
}

/// Hashes in groups of `N`: the kernel wants borrowed jobs, and a table of borrows cannot be kept
/// from turn to turn, so it stands on the stack.
fn hash_by<const N: usize>(
    kernel: &Kernel,
    shared: &Shared,
    checks: &[Check],
    hashes: &mut [Hash256],
) {
    for (checks, hashes) in checks.chunks(N).zip(hashes.chunks_mut(N)) {
        let share_of = |check: &Check| {
            let job = shared.job(check.to_check.job);
            (&job.work, check.to_check.share)
        };
        let mut shares = [share_of(&checks[0]); N];
        for (share, check) in shares.iter_mut().zip(checks).skip(1) {
            *share = share_of(check);
        }
        kernel.hash_shares(&shares[..checks.len()], hashes);
    }
}
