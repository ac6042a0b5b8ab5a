//! One turn of a shard: take everything that has happened, serve it, give the ring what must go
//! out. **Read this file top-down to follow one share through the shard:**
//!
//! ```text
//!  ring ──► Completion::Received                        take_completions, received
//!           session.handle(Bytes)      the line is parsed, the cheap checks are made
//!           session.poll_output        Output::Check(ticket, share)  ──► the turn's batch
//!           … the turn's other connections …
//!           Kernel::hash_shares        one call for all shares of the turn        judge
//!           session.handle(Verdicts)   duplicate, target, network target; credit
//!           session.poll_output        Event::Share ──► ledger, counters          answer
//!                                      Event::Block ──► the coordinator, this turn
//!                                      the replies, in order, into one buffer     reply
//!  ring ◄── send                       the connection's one pending send
//! ```
//!
//! A new job walks the other way: lane ─► `adopt_job` ─► the fan-out's cursor ─► `reply`. Nothing
//! here waits, and nothing here is unbounded: each step has its budget per turn.

use farm::messages::MinerState;
use session::{Command, Input, Tick};

use crate::admission::{ADOPTIONS_PER_TURN, Steer, Waiting};
use crate::checks::CHECKS_PER_SLOT;
use crate::counters::CloseReason;
use crate::deadlines::DUE_PER_TURN;
use crate::fan_out::VISITS_PER_TURN;
use crate::guard::Guard;
use crate::lane::Lane;
use crate::release::Releasing;
use crate::ring::{AcceptEnd, Completion, ConnId, ReceiveEnd, Ring};
use crate::send::{REPLIES_UNREAD_MAX, UNREAD_US_MAX};
use crate::shard::{Hands, Shard};
use crate::slot::Phase;

/// Completions that one turn takes: some milliseconds of work, so that a flood delays a new job or
/// a deadline by no more than that.
pub const COMPLETIONS_PER_TURN: usize = 1_024;

/// Bytes after which a turn takes nothing more: about 2,000 shares. A ring's buffer can hold some
/// hundred requests, so that completions alone would not bound what a turn parses.
pub const BYTES_PER_TURN: u64 = 256 << 10;

/// Turns in a row that may put off the sweep because the ring has more than one turn takes: enough
/// to read something from 65,536 connections, few enough that a flood cannot stop the time.
pub const SWEEPS_POSTPONED_MAX: u32 = 64;

/// How soon is looked again for room for those that wait: a shard that is full must not spin.
const ROOM_LOOK_US: u64 = 20_000;

/// How long a drain may take before every connection is closed as it is: within the five seconds
/// that a stop may last, with one left for the ledger.
pub const DRAIN_US_MAX: u64 = 4_000_000;

/// What a turn leaves to its host: when the next one must be at the latest, and whether gathering
/// would cost anybody.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Turn {
    /// Completions that brought bytes or a connection. Above 4 it pays to let followers gather.
    pub served: usize,
    /// When the next turn must be at the latest; not after now when more work is at hand.
    pub deadline: Tick,
    /// A new job is going out: do not gather, and submit at once.
    pub fanning_out: bool,
    /// Every connection is closed, every message was sent: the shard may be dropped.
    pub drained: bool,
}

impl<R: Ring> Shard<R> {
    /// Serves everything that is at hand, without blocking. The host submits to the ring and waits
    /// afterwards, until the turn's deadline at the latest.
    pub fn turn<L: Lane, G: Guard>(
        &mut self,
        now: Tick,
        ring: &mut R,
        lane: &mut L,
        guard: &G,
    ) -> Turn {
        let mut hands = Hands { now, ring, guard };
        self.begin(now);
        self.read_lane(now, lane);
        self.send_saved(lane, &mut hands);
        self.fan_out(&mut hands);
        let served = self.take_completions(&mut hands);
        self.answer(&mut hands);
        self.relieve(&mut hands);
        self.resume(&mut hands);
        self.admit(&mut hands);
        self.sweep(&mut hands);
        self.drain_some(&mut hands);
        self.release_some(&mut hands);
        self.answer(&mut hands);
        self.write_lane(now, lane);
        self.outcome(now, served)
    }

    fn begin(&mut self, now: Tick) {
        self.counters.turns.add(1);
        self.counters.heartbeat_us.set(now.as_micros());
        if let Some(finished) = self.fan_out.finished(now) {
            let histogram = match finished.clean {
                true => &self.counters.fan_out_clean,
                false => &self.counters.fan_out_refresh,
            };
            histogram.record(finished.us, 1);
        }
    }

    /// Lets some connections have the newest job. A new tip goes before the bytes of this turn.
    /// Who does not mine yet gets it when it does: to touch it here, after a stall, would be to
    /// judge its silence before its bytes are read.
    fn fan_out<G: Guard>(&mut self, hands: &mut Hands<'_, R, G>) {
        let Some(newest) = self.shared.newest() else {
            return;
        };
        for _ in 0..VISITS_PER_TURN {
            let Some(slot) = self.fan_out.next(self.slots.len()) else {
                return;
            };
            if self.slots.at(slot).state == MinerState::Mining {
                self.handle(slot, Input::Job(newest), hands);
                self.reply(slot, hands);
            }
        }
    }

    /// Takes what the ring has, and lets sessions read it. Shares gather in the batch.
    fn take_completions<G: Guard>(&mut self, hands: &mut Hands<'_, R, G>) -> usize {
        let mut served = 0;
        let read_before = self.counters.bytes_received.value();
        self.is_behind = true;
        for _ in 0..COMPLETIONS_PER_TURN {
            let read = self.counters.bytes_received.value().wrapping_sub(read_before);
            if self.outgoing.is_choked() || read >= BYTES_PER_TURN {
                break;
            }
            let Some(completion) = hands.ring.next() else {
                self.is_behind = !self.rearm.is_empty();
                break;
            };
            let brings =
                matches!(completion, Completion::Received { .. } | Completion::Accepted { .. });
            served += usize::from(brings);
            self.complete(completion, hands);
        }
        // The buffers of this turn are back, so that these receives will find some.
        while let Some(conn) = self.rearm.pop() {
            if self.slots.named(conn).is_some_and(|place| place.phase == Phase::Open) {
                hands.ring.recv(conn);
            }
        }
        served
    }

    fn complete<G: Guard>(
        &mut self,
        completion: Completion<R::Buf, R::Socket>,
        hands: &mut Hands<'_, R, G>,
    ) {
        match completion {
            Completion::Received { conn, buf } => self.received(conn, buf, hands),
            Completion::Sent { conn, chunk, result } => self.sent(conn, chunk, result, hands),
            Completion::ReceiveEnded { conn, cause } => self.receive_ended(conn, cause, hands),
            Completion::Accepted { listener, socket, peer } => {
                let offered = self.admission.offer(Waiting { socket, listener, peer });
                if let Err((socket, reason)) = offered {
                    self.counters.refused[reason as usize].add(1);
                    hands.ring.refuse(socket);
                }
            }
            Completion::AcceptEnded { listener, cause } => {
                let fault = matches!(cause, AcceptEnd::Exhausted | AcceptEnd::Failed(_));
                self.counters.accept_errors.add(u64::from(fault));
                self.admission.ended(listener, hands.now, fault);
            }
            Completion::Closed { conn } => match self.slots.named(conn).is_some() {
                true => self.slots.vacate(conn.slot),
                false => self.counters.completions_stale.add(1),
            },
            Completion::Woken => {}
        }
    }

    /// Bytes of a connection: its session reads them now, its shares are judged with the others.
    fn received<G: Guard>(&mut self, conn: ConnId, mut buf: R::Buf, hands: &mut Hands<'_, R, G>) {
        let open = self.slots.named(conn).map(|place| place.checks_open);
        if self.batch.is_full() || open.is_some_and(|open| open >= CHECKS_PER_SLOT) {
            self.answer(hands);
        }
        let bytes = hands.ring.bytes(&mut buf);
        let length = bytes.len() as u64;
        match self.slots.named(conn) {
            None => self.counters.completions_stale.add(1),
            Some(place) if place.proxy.is_some() => {
                let mut bytes = bytes.to_vec();
                hands.ring.give(buf);
                return self.received_header(conn.slot, &mut bytes, hands);
            }
            Some(place) => {
                let (now, shared) = (hands.now, &self.shared);
                let handled = place.session.as_mut().map(|session| {
                    hands.guard.run(|| session.handle(now, shared, Input::Bytes(bytes)))
                });
                self.counters.receives.add(1);
                self.counters.bytes_received.add(length);
                match handled {
                    None => {}
                    Some(Ok(())) => self.heard(conn.slot, hands),
                    Some(Err(_)) => self.poison(conn.slot, hands),
                }
            }
        }
        hands.ring.give(buf);
    }

    /// A session has read something: it is listened to, unless it asks too much.
    fn heard<G: Guard>(&mut self, slot: u32, hands: &mut Hands<'_, R, G>) {
        self.listen(slot, hands);
        let place = self.slots.at(slot);
        let stalled =
            place.sending.is_some_and(|sending| hands.now.since(sending.progress) >= UNREAD_US_MAX);
        let queued = || place.session.as_ref().map_or(0, |session| session.replies_queued());
        if stalled && queued() > REPLIES_UNREAD_MAX {
            return self.lose(slot, CloseReason::SlowReader, hands);
        }
        self.weigh(slot, hands);
    }

    /// Judges the open shares, grants prefixes, and writes every connection's replies at once.
    pub(crate) fn answer<G: Guard>(&mut self, hands: &mut Hands<'_, R, G>) {
        loop {
            self.judge(hands);
            self.grant_prefixes(hands);
            if self.ready.is_empty() {
                return;
            }
            let mut next = 0;
            while let Some(slot) = self.ready.get(next).copied() {
                next += 1;
                self.slots.at_mut(slot).is_ready = false;
                self.reply(slot, hands);
            }
            self.ready.clear();
        }
    }

    fn receive_ended<G: Guard>(
        &mut self,
        conn: ConnId,
        cause: ReceiveEnd,
        hands: &mut Hands<'_, R, G>,
    ) {
        let Some(place) = self.slots.named(conn) else {
            self.counters.completions_stale.add(1);
            return;
        };
        match cause {
            ReceiveEnd::NoBuffers => {
                self.counters.no_buffers.add(1);
                self.rearm.push(conn);
            }
            ReceiveEnd::Failed(_) => self.lose(conn.slot, CloseReason::PeerReset, hands),
            ReceiveEnd::Eof => {
                // What was read before is still answered: `answer` closes it behind the replies.
                place.at_eof = true;
                self.make_ready(conn.slot);
            }
        }
    }

    /// Seats accepted sockets, within the turn's budget and the limits.
    fn admit<G: Guard>(&mut self, hands: &mut Hands<'_, R, G>) {
        self.make_room(hands);
        self.crowded_until = None;
        for _ in 0..ADOPTIONS_PER_TURN {
            let Some((waiting, verdict)) = self.admission.next(self.slots.used()) else {
                let again = hands.now.plus_micros(ROOM_LOOK_US);
                self.crowded_until = (self.admission.waiting() > 0).then_some(again);
                break;
            };
            match verdict {
                Ok(beginning) => self.seat(waiting.socket, (waiting.peer, beginning), hands),
                Err(reason) => {
                    self.counters.refused[reason as usize].add(1);
                    hands.ring.refuse(waiting.socket);
                }
            }
        }
        let ring = &mut *hands.ring;
        self.admission.steer(hands.now, |listener, steer| match steer {
            Steer::Arm => ring.accept(listener),
            Steer::Stop => ring.stop_accepting(listener),
        });
    }

    /// Serves connections whose time has come. Not while bytes of them may still wait in the ring:
    /// after a stall, a peer that spoke in time must be heard before it is judged.
    fn sweep<G: Guard>(&mut self, hands: &mut Hands<'_, R, G>) {
        if self.is_behind && self.sweeps_postponed < SWEEPS_POSTPONED_MAX {
            self.sweeps_postponed += 1;
            return;
        }
        self.sweeps_postponed = 0;
        for _ in 0..DUE_PER_TURN {
            let Some(slot) = self.deadlines.next(hands.now) else {
                return;
            };
            self.due(slot, hands);
        }
    }

    /// While draining: tells some sessions to end, and closes what is left when time is up.
    fn drain_some<G: Guard>(&mut self, hands: &mut Hands<'_, R, G>) {
        let Some(mut draining) = self.draining else {
            return;
        };
        let late = hands.now.since(draining.since) >= DRAIN_US_MAX;
        let end = self.slots.len();
        let to = if late { end } else { end.min(draining.cursor + VISITS_PER_TURN) };
        for slot in if late { 0 } else { draining.cursor }..to {
            if late {
                self.lose(slot, CloseReason::Drained, hands);
            } else {
                self.handle(slot, Input::Command(Command::Drain), hands);
                self.reply(slot, hands);
            }
        }
        draining.cursor = to;
        self.draining = Some(draining);
    }

    fn outcome(&self, now: Tick, served: usize) -> Turn {
        let telling = self.draining.is_some_and(|draining| draining.cursor < self.slots.len());
        let seating = self.admission.waiting() > 0 && self.crowded_until.is_none();
        let busy = telling || self.fan_out.is_active() || seating;
        let releasing = self.releasing.as_ref().filter(|_| self.draining.is_none());
        let released = releasing.map_or(Tick::NEVER, Releasing::deadline);
        let swept = self.deadlines.next_sweep().min(self.outgoing.deadline(now)).min(released);
        let armed = self.admission.deadline().unwrap_or(Tick::NEVER);
        let armed = armed.min(self.resumes.deadline(now)).min(self.unsaved.deadline(now));
        let crowded = self.crowded_until.unwrap_or(Tick::NEVER).min(self.overload.deadline());
        Turn {
            served,
            deadline: if busy { now } else { swept.min(armed).min(crowded) },
            fanning_out: self.fan_out.is_active(),
            drained: self.outgoing.is_drained(),
        }
    }
}
