//! The shard itself: what it is made of, and what happens to one connection. The order in which
//! things happen is in `turn`.

use alloc::boxed::Box;
use alloc::sync::Arc;
use alloc::vec::Vec;
use core::net::IpAddr;

use farm::extranonce::{Horizon, LeasePool, NoPrefix, ShardIndex};
use farm::jobs::Renderings;
use farm::ledger::{ShardWorkers, WorkerId};
use farm::messages::{FoundBlock, MinerState, ParkedSession};
use farm::resume::session_id;
use pow::{Hash256, Kernel};
use session::{
    Close, DownstreamSv1, Event, FoundShare, Input, NotSv1, Output, Prefix, Question, Refusal,
    Remembered, Rendering, SEND_BYTES_MAX, SendBuf, SessionId, Settings, Settled, ShareEvent,
    ShareOutcome, ShareToCheck, Shared, Tick,
};

use crate::admission::{
    ADOPTIONS_PER_TURN, Admission, AdmissionSettings, Beginning, Standing, Total,
    WAITING_FOR_ROOM_MAX,
};
use crate::checks::Batch;
use crate::counters::{CloseReason, Counters, SHARE_OUTCOMES};
use crate::deadlines::Deadlines;
use crate::fan_out::FanOut;
use crate::guard::{Guard, Panicked};
use crate::lane::Lane;
use crate::overload::Overload;
use crate::parked::PARKED_BYTES_MAX;
use crate::release::Releasing;
use crate::report::Outgoing;
use crate::resume::{RESUMES_WAITING_MAX, Resumes};
use crate::ring::{Chunk, ConnId, ListenerIndex, Ring};
use crate::send::{BUFFERS_POOLED_MAX, Buffers, FLUSH_US_MAX, SEND_STALL_US_MAX};
use crate::shedding::{EARLY_BYTES_EACH, Newcomers, Search};
use crate::slot::{Answers, Phase, Sending, Slot, Slots};
use crate::unsaved::Unsaved;

const _: () = assert!(SHARE_OUTCOMES == ShareOutcome::ALL.len());

/// What a shard is told when it is made.
#[derive(Clone, Debug)]
pub struct ShardSettings {
    /// The shard's number, for session ids.
    pub index: u16,
    /// Which life of this shard: its ledger counts from zero in each.
    pub incarnation: u32,
    /// A secret random number: session ids and fingerprints are keyed with it.
    pub seed: u64,
    /// What all sessions of the shard have in common.
    pub session: Settings,
    /// Who may connect.
    pub admission: AdmissionSettings,
    /// Send buffers that are made beforehand.
    pub buffers_reserved: usize,
}

/// The data plane of one core.
pub struct Shard<R: Ring> {
    pub(crate) settings: ShardSettings,
    kernel: Kernel,
    pub(crate) counters: Arc<Counters>,
    /// The live jobs. They change only between two handles of any session.
    pub(crate) shared: Shared,
    renderings: Renderings,
    pub(crate) leases: LeasePool,
    pub(crate) workers: ShardWorkers,
    pub(crate) admission: Admission<R::Socket>,
    pub(crate) slots: Slots,
    /// Who is not authorized yet.
    pub(crate) newcomers: Newcomers,
    pub(crate) search: Search,
    pub(crate) overload: Overload,
    /// When to look again for room for those that wait, if there was none in this turn.
    pub(crate) crowded_until: Option<Tick>,
    pub(crate) deadlines: Deadlines,
    pub(crate) batch: Batch,
    /// Slots that are to be drained into an open buffer in this turn, each once.
    pub(crate) ready: Vec<u32>,
    /// Connections whose receive ended for lack of buffers.
    pub(crate) rearm: Vec<ConnId>,
    /// Connections that wait for a prefix.
    pub(crate) asking: Vec<ConnId>,
    /// Sessions by their ids, those that are parked among them.
    pub(crate) resumes: Resumes,
    /// Answers that wait for their block.
    pub(crate) unsaved: Unsaved,
    /// The ring has, or will at once have, more than this turn has taken.
    pub(crate) is_behind: bool,
    /// Turns in a row that have put off the sweep because of that.
    pub(crate) sweeps_postponed: u32,
    pub(crate) fan_out: FanOut,
    buffers: Buffers,
    pub(crate) outgoing: Outgoing,
    pub(crate) draining: Option<Draining>,
    pub(crate) releasing: Option<Releasing>,
    /// Since when there is work: before that nobody could have had a share.
    pub(crate) work_since: Option<Tick>,
    /// The jobs whose shares can still be credited: what a prefix must outlive.
    pub(crate) horizon: Horizon,
    sessions_made: u64,
    pub(crate) miners_mining: u64,
}

/// Whose a block is: a slot, and the index of one of its names. `None` where that is not known.
type Finder = Option<(u32, u8)>;

/// How far a drain is.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Draining {
    pub(crate) since: Tick,
    /// The first slot that was not told yet.
    pub(crate) cursor: u32,
}

/// What a turn works with, besides the shard.
pub(crate) struct Hands<'a, R: Ring, G: Guard> {
    pub(crate) now: Tick,
    pub(crate) ring: &'a mut R,
    pub(crate) guard: &'a G,
}

impl<R: Ring> Shard<R> {
    /// A shard without connections or work.
    pub fn new(settings: ShardSettings, kernel: Kernel, counters: Arc<Counters>) -> Shard<R> {
        Shard {
            kernel,
            counters,
            shared: Shared::new(settings.session.clone()),
            renderings: Renderings::new(),
            leases: LeasePool::new(Tick(0)),
            workers: ShardWorkers::new(settings.incarnation),
            admission: Admission::new(settings.admission.clone()),
            slots: Slots::new(settings.admission.connections_max),
            newcomers: Newcomers::default(),
            search: Search::default(),
            overload: Overload::default(),
            crowded_until: None,
            deadlines: Deadlines::new(Tick(0)),
            batch: Batch::new(),
            ready: Vec::new(),
            rearm: Vec::new(),
            asking: Vec::new(),
            // A whole shard may lose its connections at once.
            resumes: Resumes::new(settings.admission.connections_max),
            unsaved: Unsaved::new(),
            is_behind: false,
            sweeps_postponed: 0,
            fan_out: FanOut::default(),
            buffers: Buffers::new(settings.buffers_reserved),
            outgoing: Outgoing::new(Tick(0)),
            draining: None,
            releasing: None,
            work_since: None,
            horizon: Horizon::default(),
            sessions_made: 0,
            miners_mining: 0,
            settings,
        }
    }

    /// Counts its connections with other shards, so that the limit on them is the farm's. Called
    /// before the first turn; a shard that is alone needs no such thing.
    pub fn share_total(&mut self, total: Arc<Total>) {
        self.admission.share_total(total);
    }

    /// Takes in where workers have settled. Called before the first turn with what an earlier life
    /// of the farm knew, and with what the coordinator tells.
    pub fn remember(&mut self, remembered: impl IntoIterator<Item = Remembered>) {
        remembered.into_iter().for_each(|remembered| self.shared.remember(remembered));
    }

    /// Arms the listeners. Called once, before the first turn.
    pub fn start(&mut self, ring: &mut R) {
        self.admission.steer(Tick(0), |listener: ListenerIndex, _| ring.accept(listener));
    }

    /// Takes a job that the coordinator made. Only between two handles.
    pub(crate) fn adopt_job(&mut self, job: Arc<session::Job>) {
        let stale = self.shared.newest().is_some_and(|newest| job.number <= newest.number);
        if stale || job.tip < self.shared.tip() {
            return;
        }
        let new_tip = job.tip > self.shared.tip();
        self.work_since.get_or_insert(job.received);
        let (number, received) = (job.number, job.received);
        self.horizon.adopt(number, job.tip);
        self.shared.adopt(job);
        self.counters.jobs.add(1);
        if self.fan_out.start(received, new_tip, self.slots.len()) {
            self.counters.jobs_coalesced.add(1);
        }
    }

    /// Gives an accepted socket its slot and its session.
    pub(crate) fn seat<G: Guard>(
        &mut self,
        socket: R::Socket,
        (peer, beginning): (IpAddr, Beginning),
        hands: &mut Hands<'_, R, G>,
    ) {
        self.sessions_made += 1;
        let seed = self.keyed(b"fingerprints");
        let session = Box::new(DownstreamSv1::new(hands.now, &self.shared, seed));
        let conn = self.slots.seat(peer, session, hands.now);
        if beginning == Beginning::ProxyHeader {
            self.slots.at_mut(conn.slot).proxy = Some(Box::default());
        }
        self.newcomers.seated(conn, self.admission.unauthenticated(), &mut self.slots);
        // Every list of slots has room for all, so that no share ever makes one grow.
        let slots = self.slots.len() as usize;
        self.ready.reserve(slots.saturating_sub(self.ready.len()));
        self.rearm.reserve(slots.saturating_sub(self.rearm.len()));
        self.counters.connections_accepted.add(1);
        hands.ring.adopt(socket, conn);
        self.reply(conn.slot, hands);
    }

    /// 64 bits that nobody can guess who does not know the seed, other ones for each session.
    fn keyed(&self, purpose: &[u8]) -> u64 {
        let mut text = [0; 48];
        text[..8].copy_from_slice(&self.settings.seed.to_le_bytes());
        text[8..10].copy_from_slice(&self.settings.index.to_le_bytes());
        text[10..14].copy_from_slice(&self.settings.incarnation.to_le_bytes());
        text[14..22].copy_from_slice(&self.sessions_made.to_le_bytes());
        text[22..22 + purpose.len()].copy_from_slice(purpose);
        let hash = self.kernel.sha256d(&text);
        hash.0[..8].iter().fold(0, |bits, byte| bits << 8 | u64::from(*byte))
    }

    /// Tells a session something. A session that panics is closed; nobody else notices.
    pub(crate) fn handle<G: Guard>(
        &mut self,
        slot: u32,
        input: Input<'_>,
        hands: &mut Hands<'_, R, G>,
    ) {
        let Some(session) = self.slots.at_mut(slot).session.as_mut() else {
            return;
        };
        let (now, shared) = (hands.now, &self.shared);
        if let Err(Panicked) = hands.guard.run(|| session.handle(now, shared, input)) {
            self.poison(slot, hands);
        }
    }

    /// Takes what a session wants besides writing: its checks, questions, events and deadline.
    pub(crate) fn listen<G: Guard>(&mut self, slot: u32, hands: &mut Hands<'_, R, G>) {
        let mut closed = SendBuf::closed();
        self.drain(slot, &mut closed, hands);
        self.make_ready(slot);
        self.close_if_flushed(slot, hands);
    }

    /// Marks a slot to be answered in this turn.
    pub(crate) fn make_ready(&mut self, slot: u32) {
        let place = self.slots.at_mut(slot);
        if !place.is_ready && place.phase == Phase::Open {
            place.is_ready = true;
            self.ready.push(slot);
        }
    }

    /// Drains a session into its one pending send, if nothing of it is in flight.
    pub(crate) fn reply<G: Guard>(&mut self, slot: u32, hands: &mut Hands<'_, R, G>) {
        if self.slots.at(slot).session.is_none() {
            return;
        }
        if self.slots.at(slot).sending.is_some() {
            let mut closed = SendBuf::closed();
            self.drain(slot, &mut closed, hands);
            // What it could not say now it says when the send is done.
            self.slots.at_mut(slot).wants_buffer = true;
            return;
        }
        let mut buf = SendBuf::from_vec(self.buffers.take());
        let shared = self.drain(slot, &mut buf, hands);
        let place = self.slots.at_mut(slot);
        place.wants_buffer = shared.is_some() || buf.as_bytes().len() >= SEND_BYTES_MAX;
        let own = buf.into_vec();
        let poisoned = place.phase == Phase::Closing;
        match shared {
            Some(chunk) if !poisoned => {
                assert!(own.is_empty(), "nothing is written behind a shared chunk");
                self.send(slot, chunk, hands);
                self.buffers.put_back(own);
            }
            None if !own.is_empty() && !poisoned => self.send(slot, Chunk::Own(own), hands),
            _ => self.buffers.put_back(own),
        }
        self.close_if_flushed(slot, hands);
    }

    /// Polls a session until it waits. Returns the shared chunk that is to be its next send.
    fn drain<G: Guard>(
        &mut self,
        slot: u32,
        buf: &mut SendBuf,
        hands: &mut Hands<'_, R, G>,
    ) -> Option<Chunk> {
        let mut chunk = None;
        loop {
            let Some(session) = self.slots.at_mut(slot).session.as_mut() else {
                return chunk;
            };
            let shared = &self.shared;
            let Ok(output) = hands.guard.run(|| session.poll_output(shared, buf)) else {
                self.poison(slot, hands);
                return None;
            };
            match output {
                Output::Wrote => {}
                Output::Shared(rendering) => {
                    chunk = self.render(rendering, buf).or(chunk);
                }
                Output::Check(ticket, to_check) => {
                    self.batch.push(slot, ticket, to_check);
                    self.slots.at_mut(slot).checks_open += 1;
                }
                Output::Ask(Question::Prefix) => self.ask(slot),
                Output::Ask(Question::Resume(id)) => self.ask_for_session(slot, id, hands.now),
                Output::Event(event) => self.note(slot, event, hands.now),
                Output::Close(close) => {
                    // Without a drain it is the release that has told the session to end.
                    let reason = match reason_of(close) {
                        CloseReason::Drained if self.draining.is_none() => CloseReason::NoWork,
                        reason => reason,
                    };
                    self.end_session(slot, reason, hands);
                    return chunk;
                }
                Output::Wait(until) => {
                    self.set_deadline(slot, until);
                    return chunk;
                }
            }
        }
    }

    /// A connection wants a prefix. Each asks once, so that without those that have left there are
    /// never more than slots.
    pub(crate) fn ask(&mut self, slot: u32) {
        if self.asking.len() >= self.slots.len() as usize {
            let slots = &mut self.slots;
            self.asking.retain(|conn| slots.named(*conn).is_some_and(|at| at.session.is_some()));
        }
        self.asking.push(self.slots.conn(slot));
    }

    /// A connection wants the session that its miner had before.
    fn ask_for_session(&mut self, slot: u32, id: SessionId, now: Tick) {
        if !self.resumes.ask(self.slots.conn(slot), id, now) {
            self.counters.resumes_in_vain.add(1);
            self.ask(slot);
        }
    }

    /// A rendering as a chunk of its own if nothing stands before it, else as a copy.
    fn render(&mut self, rendering: Rendering, buf: &mut SendBuf) -> Option<Chunk> {
        let job = self.shared.job(rendering.job);
        let bytes = self.renderings.get(job, rendering.second, rendering.clean);
        if buf.is_empty() {
            buf.close();
            return Some(Chunk::Shared(bytes));
        }
        buf.append(&bytes);
        None
    }

    /// Gives a chunk to the ring. Nothing else of this connection is in flight.
    fn send<G: Guard>(&mut self, slot: u32, chunk: Chunk, hands: &mut Hands<'_, R, G>) {
        let place = self.slots.at_mut(slot);
        assert!(place.sending.is_none(), "one send in flight per connection");
        assert!(matches!(place.phase, Phase::Open | Phase::Flushing));
        let answers = core::mem::take(&mut place.answers);
        place.sending = Some(Sending { from: 0, progress: hands.now, answers });
        self.counters.sends.add(1);
        let conn = self.slots.conn(slot);
        self.deadlines.lower(slot, hands.now.plus_micros(SEND_STALL_US_MAX));
        if core::mem::take(&mut self.slots.at_mut(slot).found_block) {
            return self.unsaved.hold(conn, chunk, hands.now);
        }
        hands.ring.send(conn, chunk, 0);
    }

    /// Sends the answers of blocks that are saved by now, or will not be soon.
    pub(crate) fn send_saved<L: Lane, G: Guard>(&mut self, lane: &L, hands: &mut Hands<'_, R, G>) {
        let saved = self.outgoing.blocks_held().0 == 0 && lane.blocks_are_saved();
        while let Some((conn, chunk)) = self.unsaved.next(saved, hands.now) {
            let open = self.slots.named(conn).is_some_and(|place| place.phase != Phase::Closing);
            match open {
                true => hands.ring.send(conn, chunk, 0),
                false => self.recycle(chunk),
            }
        }
    }

    /// A chunk came back: the rest goes first, then whatever the session has to say.
    pub(crate) fn sent<G: Guard>(
        &mut self,
        conn: ConnId,
        chunk: Chunk,
        result: Result<usize, i32>,
        hands: &mut Hands<'_, R, G>,
    ) {
        let Some(place) = self.slots.named(conn) else {
            self.counters.completions_stale.add(1);
            return self.recycle(chunk);
        };
        let Some(sending) = place.sending.as_mut().filter(|_| place.phase != Phase::Closing) else {
            return self.recycle(chunk);
        };
        let Ok(bytes) = result else {
            self.recycle(chunk);
            return self.lose(conn.slot, CloseReason::PeerReset, hands);
        };
        self.counters.bytes_sent.add(bytes as u64);
        sending.from += bytes;
        if bytes > 0 {
            sending.progress = hands.now;
        }
        if sending.from < chunk.bytes().len() {
            self.counters.short_sends.add(1);
            return hands.ring.send(conn, chunk, sending.from);
        }
        let answers = sending.answers;
        place.sending = None;
        let (eager, flushing) = (place.wants_buffer, place.phase == Phase::Flushing);
        if answers.count > 0 {
            let latency_us = hands.now.since(answers.since);
            self.counters.share_latency.record(latency_us, u64::from(answers.count));
        }
        self.recycle(chunk);
        if eager && !flushing {
            self.handle(conn.slot, Input::Timer, hands);
            self.listen(conn.slot, hands);
        }
        self.close_if_flushed(conn.slot, hands);
    }

    fn recycle(&mut self, chunk: Chunk) {
        if let Chunk::Own(buffer) = chunk {
            self.buffers.put_back(buffer);
        }
    }

    /// What the farm and the counters learn from a session.
    fn note(&mut self, slot: u32, event: Event, now: Tick) {
        match event {
            Event::Subscribed => self.note_subscribed(slot),
            Event::Authorized { worker } => self.note_name(slot, worker),
            Event::Mining => self.note_mining(slot),
            Event::Share(share) => self.note_share(slot, share, now),
            Event::Block(found) => self.note_block(slot, found, now),
            Event::Settled(settled) => self.note_settled(slot, settled),
            Event::RollingLost => self.counters.rolling_lost.add(1),
        }
    }

    fn note_mining(&mut self, slot: u32) {
        self.miners_mining += 1;
        let place = self.slots.at_mut(slot);
        place.state = MinerState::Mining;
        self.newcomers.forget_bytes(place);
        self.admission.authenticated(place.peer);
    }

    fn note_subscribed(&mut self, slot: u32) {
        let place = self.slots.at_mut(slot);
        place.state = MinerState::Subscribed;
        if let Some(session) = &place.session {
            self.counters.subscribed[session.class() as usize].add(1);
        }
    }

    fn note_name(&mut self, slot: u32, worker: u8) {
        let place = self.slots.at_mut(slot);
        let names = place.session.as_ref().map_or(&[][..], |session| session.names());
        // Names are only ever appended; one that authorizes again is known.
        while place.workers.len() <= usize::from(worker) {
            let name = names.get(place.workers.len());
            let id = name.map_or(WorkerId::OTHER, |name| self.workers.known(name));
            place.workers.push(id);
            self.workers.connected(id);
        }
    }

    /// Its first name is what its next connection will begin with.
    fn note_settled(&mut self, slot: u32, settled: Settled) {
        if let Some(id) = self.slots.at(slot).workers.first() {
            self.workers.settled(*id, settled);
        }
    }

    /// The account of a name of a connection, which it gets when something is credited to it: to
    /// say names costs nothing, and no account is ever taken away. While every account is given,
    /// this looks once per share whether another connection has got one for the name.
    fn account(&mut self, slot: u32, worker: u8) -> WorkerId {
        let had = self.account_so_far(slot, worker);
        if had != WorkerId::OTHER {
            return had;
        }
        let place = self.slots.at_mut(slot);
        let names = place.session.as_ref().map_or(&[][..], |session| session.names());
        let worker = usize::from(worker);
        let (Some(id), Some(name)) = (place.workers.get_mut(worker), names.get(worker)) else {
            return WorkerId::OTHER;
        };
        *id = self.workers.intern(name);
        self.workers.disconnected(WorkerId::OTHER);
        self.workers.connected(*id);
        *id
    }

    /// The account that a name of a connection has by now.
    fn account_so_far(&self, slot: u32, worker: u8) -> WorkerId {
        let workers = &self.slots.at(slot).workers;
        workers.get(usize::from(worker)).copied().unwrap_or(WorkerId::OTHER)
    }

    /// What the ledger calls a name of a connection, with an account or without one.
    pub(crate) fn called(&self, slot: u32, worker: u8) -> Option<Arc<str>> {
        let names = self.slots.at(slot).session.as_ref()?.names();
        names.get(usize::from(worker)).map(|name| self.workers.called(name))
    }

    fn note_share(&mut self, slot: u32, share: ShareEvent, now: Tick) {
        let (outcome, difficulty) = (share.outcome, share.difficulty);
        let id = match share.worker {
            Some(worker) if outcome == ShareOutcome::Accepted => self.account(slot, worker),
            Some(worker) => self.account_so_far(slot, worker),
            None => WorkerId::OTHER,
        };
        let place = self.slots.at_mut(slot);
        place.answers.add(now);
        self.workers.count(id, outcome, difficulty, share.hash_difficulty, now);
        self.counters.shares[outcome as usize].add(1);
        self.counters.best_share_difficulty.raise(share.hash_difficulty);
        if outcome == ShareOutcome::Accepted {
            self.counters.difficulty_accepted.add(difficulty);
            place.tally.accepted += 1;
            place.tally.last_share = Some(now);
        } else {
            self.counters.difficulty_rejected.add(difficulty);
            place.tally.rejected += 1;
        }
    }

    fn note_block(&mut self, slot: u32, found: FoundShare, now: Tick) {
        let job = self.shared.job(found.job);
        assert_eq!(job.number, found.number, "a block is noted before its job can go");
        self.slots.at_mut(slot).found_block = true;
        let to_check = ShareToCheck { job: found.job, share: found.share };
        self.hold_block(to_check, found.hash, Some((slot, found.worker)), now);
    }

    fn hold_block(&mut self, block: ShareToCheck, hash: Hash256, finder: Finder, now: Tick) {
        let id = finder.map_or(WorkerId::OTHER, |(slot, worker)| self.account(slot, worker));
        let worker = finder.and_then(|(slot, worker)| self.called(slot, worker));
        let worker = worker.unwrap_or_else(|| self.workers.name(WorkerId::OTHER).clone());
        let job = self.shared.job(block.job);
        self.workers.count_block(id);
        self.counters.blocks_found.add(1);
        self.outgoing.hold_block(Box::new(FoundBlock {
            job_number: job.number,
            tip: job.tip,
            header: job.work.header(self.kernel, &block.share).to_bytes(),
            extranonce: block.share.extranonce,
            hash,
            worker,
            found: now,
        }));
    }

    /// Answers those who asked for a prefix, as far as the lease goes.
    pub(crate) fn grant_prefixes<G: Guard>(&mut self, hands: &mut Hands<'_, R, G>) {
        let mut answered = 0;
        while let Some(conn) = self.asking.get(answered).copied() {
            let alive = self.slots.named(conn).is_some_and(|place| place.session.is_some());
            if alive {
                match self.leases.take() {
                    Ok(prefix) => self.grant(conn.slot, prefix, hands),
                    Err(NoPrefix::Asked) if self.draining.is_none() => break,
                    Err(NoPrefix::Asked) => self.refuse(conn.slot, Refusal::Draining, hands),
                    Err(NoPrefix::Full(_)) if self.reclaim_prefix(hands.now) => continue,
                    Err(NoPrefix::Full(_)) => {
                        self.refuse(conn.slot, Refusal::ExtranonceExhausted, hands);
                    }
                }
            }
            answered += 1;
        }
        self.asking.drain(..answered);
    }

    fn grant<G: Guard>(&mut self, slot: u32, prefix: Prefix, hands: &mut Hands<'_, R, G>) {
        self.sessions_made += 1;
        let id = session_id(ShardIndex(self.settings.index), self.keyed(b"session id"));
        self.hold(self.slots.conn(slot), prefix, id);
        self.handle(slot, Input::Granted(prefix, id), hands);
        self.make_ready(slot);
    }

    /// A connection has a prefix and a session now.
    pub(crate) fn hold(&mut self, conn: ConnId, prefix: Prefix, id: SessionId) {
        let place = self.slots.at_mut(conn.slot);
        (place.prefix, place.session_id) = (Some(prefix), Some(id));
        self.resumes.begins(id, conn);
    }

    fn refuse<G: Guard>(&mut self, slot: u32, refusal: Refusal, hands: &mut Hands<'_, R, G>) {
        self.handle(slot, Input::Refused(refusal), hands);
        self.make_ready(slot);
    }

    fn set_deadline(&mut self, slot: u32, until: Tick) {
        let stalled = self.slots.at(slot).sending.map(|sending| sending.progress);
        let stalled = stalled.map_or(Tick::NEVER, |since| since.plus_micros(SEND_STALL_US_MAX));
        self.deadlines.set(slot, until.min(stalled));
    }

    /// A deadline of a connection has come: of its session, or of the ring's progress with it.
    pub(crate) fn due<G: Guard>(&mut self, slot: u32, hands: &mut Hands<'_, R, G>) {
        let place = self.slots.at(slot);
        let stalled = place
            .sending
            .is_some_and(|sending| hands.now.since(sending.progress) >= SEND_STALL_US_MAX);
        match place.phase {
            Phase::Free | Phase::Closing => {}
            Phase::Flushing => self.close(slot, hands),
            Phase::Open if stalled => self.lose(slot, CloseReason::SlowReader, hands),
            Phase::Open => {
                self.handle(slot, Input::Timer, hands);
                self.reply(slot, hands);
            }
        }
    }

    /// Ends a connection in any phase at once: nothing more is flushed. What was read of it is
    /// judged first, while there is a session to credit it to: one of its shares may be a block.
    pub(crate) fn lose<G: Guard>(
        &mut self,
        slot: u32,
        reason: CloseReason,
        hands: &mut Hands<'_, R, G>,
    ) {
        if self.slots.at(slot).checks_open > 0 {
            self.answer(hands);
        }
        self.cut_off(slot, reason, hands);
    }

    fn cut_off<G: Guard>(&mut self, slot: u32, reason: CloseReason, hands: &mut Hands<'_, R, G>) {
        self.end_session(slot, reason, hands);
        if self.slots.at(slot).phase == Phase::Flushing {
            self.close(slot, hands);
        }
    }

    /// A call into the session panicked: it is driven no more, and only its connection ends. Its
    /// open shares are credited to nobody, but those that are blocks go out all the same.
    pub(crate) fn poison<G: Guard>(&mut self, slot: u32, hands: &mut Hands<'_, R, G>) {
        self.counters.panics.add(1);
        self.salvage(slot, hands);
        self.cut_off(slot, CloseReason::Panicked, hands);
    }

    /// Looks for blocks in what a session that panicked had read or found, and not handed over:
    /// nobody else will ever hash it.
    fn salvage<G: Guard>(&mut self, slot: u32, hands: &mut Hands<'_, R, G>) {
        let Some(session) = self.slots.at(slot).session.as_ref() else {
            return;
        };
        let left = hands.guard.run(|| {
            let found = session
                .blocks()
                .map(|FoundShare { job, share, worker, .. }| (ShareToCheck { job, share }, worker));
            found.chain(session.open_shares()).collect::<Vec<_>>()
        });
        for (to_check, worker) in left.unwrap_or_default() {
            let mut hash = [Hash256([0; 32])];
            let work = &self.shared.job(to_check.job).work;
            self.kernel.hash_shares(&[(work, to_check.share)], &mut hash);
            self.rescue(to_check, hash[0], Some((slot, worker)), hands.now);
        }
    }

    /// Sends a share of a session that panicked if it is a block. It may be found in the session
    /// and in the batch, but never in two turns.
    fn rescue(&mut self, to_check: ShareToCheck, hash: Hash256, finder: Finder, now: Tick) {
        let is_block = self.shared.job(to_check.job).network_target.is_met_by(&hash);
        if is_block && !self.outgoing.holds(&hash) {
            self.hold_block(to_check, hash, finder, now);
        }
    }

    /// The session is over. It is parked where its miner may come back; else what it has held goes
    /// back. What is in flight may still go out.
    fn end_session<G: Guard>(
        &mut self,
        slot: u32,
        reason: CloseReason,
        hands: &mut Hands<'_, R, G>,
    ) {
        let live = self.horizon.live();
        let place = self.slots.at_mut(slot);
        let Some(session) = place.session.take() else {
            return;
        };
        assert_eq!(place.phase, Phase::Open);
        place.phase = Phase::Flushing;
        if let Some(id) = place.session_id.take() {
            self.resumes.ends(id);
        }
        let may_return = may_return(reason) && self.draining.is_none();
        let parked = hands.guard.run(|| if may_return { session.park() } else { None });
        if parked.is_err() {
            self.counters.panics.add(1);
        }
        let (peer, since) = (place.peer.to_canonical(), hands.now);
        match (place.prefix.take(), parked) {
            (Some(_), Ok(Some(session))) => {
                self.resumes.parked.put(Box::new(ParkedSession { peer, since, session }));
            }
            (Some(prefix), _) => self.leases.give_back(prefix, live, hands.now),
            (None, _) => {}
        }
        for worker in core::mem::take(&mut place.workers) {
            self.workers.disconnected(worker);
        }
        let is_source_known = place.proxy.take().is_none();
        let standing = match place.state {
            MinerState::Mining => Standing::Authenticated,
            _ => Standing::Unauthenticated(is_source_known.then_some(place.peer)),
        };
        self.miners_mining -= u64::from(standing == Standing::Authenticated);
        self.newcomers.forget_bytes(place);
        if reason == CloseReason::Malformed {
            self.counters.malformed_peer.set(place.peer);
        }
        place.answers = Answers::default();
        self.admission.left(standing);
        self.counters.closed[reason as usize].add(1);
        self.deadlines.set(slot, hands.now.plus_micros(FLUSH_US_MAX));
    }

    /// Closes a connection that has ended and has nothing in flight.
    pub(crate) fn close_if_flushed<G: Guard>(&mut self, slot: u32, hands: &mut Hands<'_, R, G>) {
        let place = self.slots.at(slot);
        if place.sending.is_some() {
            return;
        }
        match place.phase {
            Phase::Flushing => self.close(slot, hands),
            Phase::Open if place.at_eof && !place.is_ready => {
                self.lose(slot, CloseReason::PeerClosed, hands);
            }
            _ => {}
        }
    }

    fn close<G: Guard>(&mut self, slot: u32, hands: &mut Hands<'_, R, G>) {
        let place = self.slots.at_mut(slot);
        assert_eq!(place.phase, Phase::Flushing);
        place.phase = Phase::Closing;
        self.deadlines.set(slot, Tick::NEVER);
        hands.ring.close(self.slots.conn(slot));
    }

    /// Hashes the open shares and hands out the verdicts.
    pub(crate) fn judge<G: Guard>(&mut self, hands: &mut Hands<'_, R, G>) {
        if self.batch.is_empty() {
            return;
        }
        self.counters.batches.add(1);
        self.batch.hash(&self.kernel, &self.shared);
        let mut batch = self.batch.lend();
        while let Some((slot, verdicts)) = batch.next_verdicts() {
            self.slots.at_mut(slot).checks_open = 0;
            self.handle(slot, Input::Verdicts(verdicts), hands);
            self.make_ready(slot);
            if self.slots.at(slot).session.is_none() {
                self.rescue_blocks(&batch, hands.now);
            }
        }
        self.batch = batch;
    }

    /// The session that has read these shares panicked before it could say what they are. What it
    /// still held itself has gone out under its finder's name; for the others nobody knows one.
    fn rescue_blocks(&mut self, batch: &Batch, now: Tick) {
        for (to_check, hash) in batch.delivered() {
            self.rescue(to_check, hash, None, now);
        }
    }

    /// The connections that are being served, for checks from outside.
    pub fn connections(&self) -> impl Iterator<Item = Connection> + '_ {
        let open = (0..self.slots.len()).filter(|slot| self.slots.at(*slot).session.is_some());
        open.map(|slot| {
            let place = self.slots.at(slot);
            let &Slot { peer, state, prefix, session_id, .. } = place;
            Connection { conn: self.slots.conn(slot), peer, state, prefix, session_id }
        })
    }

    /// How full everything is that has a limit, each with its limit.
    pub fn levels(&self) -> [Level; 12] {
        let level = |name, held, limit| Level { name, held, limit };
        let connections_max = self.settings.admission.connections_max;
        let (blocks, blocks_max) = self.outgoing.blocks_held();
        let (parked, parked_max) = self.resumes.parked.level();
        let unauthenticated = self.admission.unauthenticated();
        let unauthenticated_max = self.settings.admission.unauthenticated_max;
        let early_max = unauthenticated_max.saturating_mul(2 * EARLY_BYTES_EACH);
        let newcomers_max = 2 * connections_max + ADOPTIONS_PER_TURN;
        let sockets_max = connections_max + WAITING_FOR_ROOM_MAX;
        [
            level("connections", self.slots.used(), connections_max),
            level("connections not authorized", unauthenticated, unauthenticated_max),
            level("newcomers in order", self.newcomers.len(), newcomers_max),
            level("connections found idle", self.search.idle_found(), connections_max),
            level("bytes of connections not authorized", self.newcomers.bytes(), early_max),
            level("sockets waiting", self.admission.waiting(), sockets_max),
            level("connections that ask for a prefix", self.asking.len(), connections_max),
            level("blocks held", blocks, blocks_max),
            level("pooled buffers", self.buffers.len(), BUFFERS_POOLED_MAX),
            level("parked sessions", parked, parked_max),
            level("bytes of parked sessions", self.resumes.parked.bytes(), PARKED_BYTES_MAX),
            level("connections that resume", self.resumes.waiting(), RESUMES_WAITING_MAX),
        ]
    }
}

/// One served connection, as a check from outside sees it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Connection {
    /// Its slot, and which use of it.
    pub conn: ConnId,
    /// The source address.
    pub peer: IpAddr,
    /// Where it stands.
    pub state: MinerState,
    /// Its extranonce1, once granted.
    pub prefix: Option<Prefix>,
    /// Its session's id, once granted.
    pub session_id: Option<SessionId>,
}

/// How full something is that has a limit.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Level {
    /// What it is.
    pub name: &'static str,
    /// How much it holds.
    pub held: usize,
    /// How much it may hold.
    pub limit: usize,
}

/// Whether a miner whose connection ended so may have its session back. Who went over a limit or
/// broke the protocol begins anew, and a session that panicked is not to be trusted.
fn may_return(reason: CloseReason) -> bool {
    use CloseReason::{NoWork, PeerClosed, PeerReset, Resumed, SlowReader, Unresponsive};
    matches!(reason, NoWork | PeerClosed | PeerReset | Resumed | SlowReader | Unresponsive)
}

/// The counted reason of a session's own close.
fn reason_of(close: Close) -> CloseReason {
    match close {
        Close::NotStratum(NotSv1::Http) => CloseReason::Http,
        Close::NotStratum(NotSv1::Tls) => CloseReason::Tls,
        Close::NotStratum(NotSv1::ProxyHeader) => CloseReason::ProxyHeader,
        Close::NotStratum(NotSv1::Other) => CloseReason::NotStratum,
        Close::Malformed => CloseReason::Malformed,
        Close::NotSubscribed => CloseReason::NotSubscribed,
        Close::Silent | Close::HandshakeTimeout => CloseReason::Handshake,
        Close::Limit(_) => CloseReason::Limit,
        Close::Refused(Refusal::ExtranonceExhausted) => CloseReason::NoPrefix,
        Close::Refused(Refusal::Draining) | Close::Drained => CloseReason::Drained,
    }
}
