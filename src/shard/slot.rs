//! The table of connections: who sits where, and in which use of the slot. A slot knows nothing of
//! Stratum; it holds the session, and what the ring has in flight for it.

use alloc::boxed::Box;
use alloc::vec::Vec;
use core::net::IpAddr;

use farm::ledger::WorkerId;
use farm::messages::MinerState;
use session::{DownstreamSv1, Prefix, SessionId, Tick};
use wire::proxy_protocol::ProxyReader;

use crate::resume::Claim;
use crate::ring::{ConnId, GENERATION_BITS};

/// Where a connection stands between accept and the ring's last completion.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Phase {
    /// Nobody sits here.
    Free,
    /// Served.
    Open,
    /// Its session has ended; what was written last is still going out.
    Flushing,
    /// The ring was told to close it.
    Closing,
}

/// The one send that the ring has in flight.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Sending {
    /// Bytes of the chunk that went out already (after short sends).
    pub(crate) from: usize,
    /// When bytes last went out, or the send began.
    pub(crate) progress: Tick,
    /// Answers to shares in it.
    pub(crate) answers: Answers,
}

/// Answered shares whose replies are not out yet, for the latency histogram.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Answers {
    pub(crate) count: u32,
    /// When the first of them arrived; meaningless while `count` is zero.
    pub(crate) since: Tick,
}

impl Answers {
    /// One more share was answered; it had arrived at `now`.
    pub(crate) fn add(&mut self, now: Tick) {
        if self.count == 0 {
            self.since = now;
        }
        self.count += 1;
    }
}

/// What the API wants to know of a connection beside its session.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Tally {
    pub(crate) accepted: u64,
    pub(crate) rejected: u64,
    pub(crate) connected: Tick,
    pub(crate) last_share: Option<Tick>,
}

/// One connection.
pub(crate) struct Slot {
    pub(crate) generation: u32,
    pub(crate) phase: Phase,
    /// The source address: the socket's, or what its PROXY header has named.
    pub(crate) peer: IpAddr,
    /// Present until the PROXY header that must come first is complete: until then nothing is for
    /// the session, and no source is counted.
    pub(crate) proxy: Option<Box<ProxyReader>>,
    /// Present exactly while the phase is [`Phase::Open`]. Boxed, so that a free slot is small and
    /// the sweep over all slots touches little memory.
    pub(crate) session: Option<Box<DownstreamSv1>>,
    pub(crate) state: MinerState,
    pub(crate) prefix: Option<Prefix>,
    pub(crate) session_id: Option<SessionId>,
    /// The ledger's number of each name of the session, by the session's own index: that of the
    /// others until something is credited to the name.
    pub(crate) workers: Vec<WorkerId>,
    pub(crate) sending: Option<Sending>,
    pub(crate) answers: Answers,
    /// Checks of it in the open batch.
    pub(crate) checks_open: u32,
    /// What its session held on the heap when it was last weighed; zero once it is authorized.
    pub(crate) early_bytes: u32,
    /// It is in the list of slots to be drained in this turn.
    pub(crate) is_ready: bool,
    /// The session has more to say once the present send is done.
    pub(crate) wants_buffer: bool,
    /// A share of it is a block: the answer waits until that is saved.
    pub(crate) found_block: bool,
    /// The peer sends no more; it is closed once it was answered.
    pub(crate) at_eof: bool,
    pub(crate) tally: Tally,
}

impl Slot {
    /// With what it may ask for a session.
    pub(crate) fn claim(&self) -> Claim {
        Claim { peer: self.peer.to_canonical(), connected: self.tally.connected }
    }
}

/// All slots of a shard. The table grows to the most connections that there ever were at once and
/// never beyond the admission's limit.
pub(crate) struct Slots {
    slots: Vec<Slot>,
    free: Vec<u32>,
    /// Slots that are not [`Phase::Free`].
    used: usize,
}

/// Room for more slots than this is not set aside beforehand.
const SLOTS_RESERVED_MAX: usize = 65_536;

impl Slots {
    /// An empty table with room for `connections_max`: what is not used yet takes addresses but no
    /// memory, and a table that never moves leaves no holes and stops no shard in a ramp.
    pub(crate) fn new(connections_max: usize) -> Slots {
        let reserved = connections_max.min(SLOTS_RESERVED_MAX);
        Slots { slots: Vec::with_capacity(reserved), free: Vec::with_capacity(reserved), used: 0 }
    }

    /// Seats a connection.
    pub(crate) fn seat(&mut self, peer: IpAddr, session: Box<DownstreamSv1>, now: Tick) -> ConnId {
        self.used += 1;
        let tally = Tally { accepted: 0, rejected: 0, connected: now, last_share: None };
        let seated = |generation| Slot {
            generation,
            phase: Phase::Open,
            peer,
            proxy: None,
            session: Some(session),
            state: MinerState::Connected,
            prefix: None,
            session_id: None,
            workers: Vec::new(),
            sending: None,
            answers: Answers::default(),
            checks_open: 0,
            early_bytes: 0,
            is_ready: false,
            wants_buffer: false,
            found_block: false,
            at_eof: false,
            tally,
        };
        if let Some(slot) = self.free.pop() {
            let place = &mut self.slots[slot as usize];
            assert_eq!(place.phase, Phase::Free);
            let generation = place.generation;
            *place = seated(generation);
            return ConnId { slot, generation };
        }
        let slot = self.slots.len() as u32;
        self.slots.push(seated(0));
        // Freeing a slot must never allocate.
        self.free.reserve(self.slots.len());
        ConnId { slot, generation: 0 }
    }

    /// The ring will not name this use of the slot again.
    pub(crate) fn vacate(&mut self, slot: u32) {
        let place = &mut self.slots[slot as usize];
        assert_ne!(place.phase, Phase::Free);
        assert!(place.session.is_none(), "the session has left before its connection");
        place.phase = Phase::Free;
        place.sending = None;
        place.generation = (place.generation + 1) & ((1 << GENERATION_BITS) - 1);
        self.free.push(slot);
        self.used -= 1;
    }

    /// The slot that a completion names, unless it belongs to a later connection now.
    pub(crate) fn named(&mut self, conn: ConnId) -> Option<&mut Slot> {
        let slot = self.slots.get_mut(conn.slot as usize)?;
        (slot.generation == conn.generation && slot.phase != Phase::Free).then_some(slot)
    }

    pub(crate) fn at(&self, slot: u32) -> &Slot {
        &self.slots[slot as usize]
    }

    pub(crate) fn at_mut(&mut self, slot: u32) -> &mut Slot {
        &mut self.slots[slot as usize]
    }

    pub(crate) fn conn(&self, slot: u32) -> ConnId {
        ConnId { slot, generation: self.slots[slot as usize].generation }
    }

    /// The table's length, free slots included.
    pub(crate) fn len(&self) -> u32 {
        self.slots.len() as u32
    }

    /// Connections between accept and the ring's last completion.
    pub(crate) fn used(&self) -> usize {
        self.used
    }
}
