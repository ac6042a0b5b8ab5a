//! A session without a connection: what a miner must find again when it comes back under its
//! session id, so that the shares that it had in flight still count, once. The shard keeps it,
//! bounds it and carries it to wherever the miner has landed; here is only what it is made of.
//!
//! Not in it: names and user agent, which the miner says again; answers, which nobody waits for.

use super::announcements::Announcements;
use super::submit::LateBlocks;
use super::{DownstreamSv1, Subscription};
use crate::contract::{Prefix, SessionId};
use crate::fingerprints::Fingerprints;
use crate::shared::Shared;
use crate::vardiff::Vardiff;
use alloc::boxed::Box;

/// What is kept of a session when its connection has ended: its id and extranonce, which jobs it
/// was given with which targets and version mask, and which of its shares were counted.
#[derive(Debug)]
pub struct Parked {
    prefix: Prefix,
    session: SessionId,
    newest_job: u32,
    /// The seed under which `fingerprints` were made.
    key: u64,
    tip: u32,
    announcements: Announcements,
    vardiff: Option<Vardiff>,
    fingerprints: Fingerprints,
    late_blocks: Option<Box<LateBlocks>>,
}

impl Parked {
    /// The id under which the miner may ask for it.
    pub fn session_id(&self) -> SessionId {
        self.session
    }

    /// The extranonce1 that stays its own.
    pub fn prefix(&self) -> Prefix {
        self.prefix
    }

    /// The newest job that it was given: no share of a later one can come of it.
    pub fn newest_job(&self) -> u32 {
        self.newest_job
    }

    /// Whether any of its shares was counted, on the present tip or the one before.
    pub fn has_shares(&self) -> bool {
        self.fingerprints.len() > 0
    }

    /// Bytes of memory, this struct included.
    pub fn memory_bytes(&self) -> usize {
        size_of::<Parked>()
            + self.announcements.memory_bytes()
            + self.fingerprints.memory_bytes()
            + self.late_blocks.as_ref().map_or(0, |late| late.memory_bytes())
    }
}

impl DownstreamSv1 {
    /// Ends the machine and keeps what a later connection of the same miner may resume. `None`
    /// where it never had work: there is nothing in flight then, and its prefix is better given
    /// back.
    pub fn park(mut self) -> Option<Parked> {
        let Subscription::Granted(prefix, session) = self.subscription else { return None };
        let newest_job = self.announcements.newest_job()?;
        self.announcements.shrink();
        self.vardiff.iter_mut().for_each(|vardiff| vardiff.stop(self.now));
        Some(Parked {
            prefix,
            session,
            newest_job,
            key: self.key,
            tip: self.tip,
            announcements: self.announcements,
            vardiff: self.vardiff,
            fingerprints: self.fingerprints,
            late_blocks: self.late_blocks,
        })
    }

    /// The miner is back. It subscribes and authorizes as any other, but its old work counts.
    pub(super) fn resumed(&mut self, shared: &Shared, parked: Parked) {
        if self.subscription != Subscription::ExpectGrant {
            return;
        }
        let fresh = core::mem::replace(&mut self.announcements, parked.announcements);
        self.announcements.resume(&fresh, shared);
        // Its clock stands still: what it did in between, nobody knows.
        if let (Some(vardiff), Some(parked)) = (&mut self.vardiff, parked.vardiff) {
            *vardiff = parked;
        }
        self.key = parked.key;
        self.tip = parked.tip;
        self.fingerprints = parked.fingerprints;
        self.late_blocks = parked.late_blocks;
        self.follow_tip(shared);
        self.granted(shared, parked.prefix, parked.session);
    }
}
