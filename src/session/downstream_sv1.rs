//! The machine for one miner that speaks Stratum V1: from its first byte to its close. The shard
//! (or the simulator) owns it, feeds it and drains it; `contract` says how.
//!
//! ```text
//!   ExpectBytes ──`{`…──► ExpectHandshake ──subscribed and authorized──► Mining
//!        │                       │                                         │
//!        └───────────────────────┴────────► Closing ◄──────────────────────┘
//!                                              │ every answer written, every check settled
//!                                              ▼
//!                                            Closed: inert
//! ```
//!
//! Answers leave in the order of the requests, also where one waits for a verdict and later ones do
//! not; so they stay typed in a queue until the buffer takes them. What is announced when is in
//! `announcements`, which difficulty it is in `difficulty`, what a submit must pass in `submit`,
//! everything before the first job in `handshake`.

mod announcements;
mod answers;
mod difficulty;
mod handshake;
mod park;
mod rolling;
mod submit;

pub use answers::REPLIES_QUEUED_MAX;
pub use handshake::{NAME_BYTES_MAX, NAMES_MAX, USER_AGENT_BYTES_MAX};
pub use park::Parked;

use crate::class::Class;
use crate::contract::{
    Close, Command, Event, FoundShare, Input, LimitReached, NotSv1, Output, Policy, Prefix,
    Question, Refusal, SessionId, ShareEvent, ShareToCheck, Tick,
};
use crate::fingerprints::Fingerprints;
use crate::memory::Settled;
use crate::send_buf::SendBuf;
use crate::shared::Shared;
use crate::vardiff::Vardiff;
use alloc::boxed::Box;
use alloc::collections::VecDeque;
use alloc::vec::Vec;
use announcements::{Announcement, Announcements};
use answers::{Answer, Answers};
use difficulty::Hint;
use handshake::EarlyHints;
use pow::Difficulty;
use rolling::Rolling;
use submit::{Checks, LateBlocks};
use wire::sv1::{ErrorCode, Id, Lines, Message, Request, Splitter};
use wire::{FIRST_BYTES_MAX, FirstBytes};

/// Where a connection stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum State {
    /// Nothing yet, or too little to tell the protocol.
    ExpectBytes,
    /// Stratum V1; not yet both subscribed and authorized.
    ExpectHandshake,
    /// The miner gets work.
    Mining,
    /// Answers are still to be written, requests are no longer read.
    Closing(Close),
    /// Inert.
    Closed,
}

/// One miner's connection.
#[derive(Debug)]
pub struct DownstreamSv1 {
    state: State,
    /// The latest moment the machine was told of.
    now: Tick,
    opened: Tick,
    /// The connection's own seed for fingerprints.
    key: u64,
    /// All bytes so far while they are too few to tell the protocol; < `FIRST_BYTES_MAX`.
    first: Vec<u8>,
    splitter: Splitter,
    subscription: Subscription,
    user_agent: Option<Box<str>>,
    /// The family of firmware that the user agent names.
    class: Class,
    /// Authorized worker names; ≤ `NAMES_MAX`.
    names: Vec<Box<str>>,
    /// What the miner asked for, and how.
    hint: Option<(Hint, Difficulty)>,
    /// `None` where the difficulty changes by policy alone.
    vardiff: Option<Vardiff>,
    /// Accepted shares of the newest difficulty, up to where it is settled.
    settling: u8,
    early: EarlyHints,
    answers: Answers,
    checks: Checks,
    rolling: Rolling,
    announcements: Announcements,
    /// The tip to which `fingerprints.current` belongs.
    tip: u32,
    fingerprints: Fingerprints,
    /// Hits on superseded tips; few miners ever have one.
    late_blocks: Option<Box<LateBlocks>>,
    notices: VecDeque<Notice>,
    blocks: VecDeque<FoundShare>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Subscription {
    None,
    /// Wanted by the miner, perhaps as the session that it had, not yet asked of the host.
    Wanted(Option<SessionId>),
    ExpectGrant,
    Granted(Prefix, SessionId),
}

/// Events but for blocks, which are large and rare and go first.
#[derive(Debug, Clone, Copy)]
enum Notice {
    Subscribed,
    Authorized(u8),
    Mining,
    Share(ShareEvent),
    Settled(Settled),
    RollingLost,
}

impl DownstreamSv1 {
    /// A fresh connection. `key` is a random number of this connection's own: the seed of its
    /// fingerprints.
    pub fn new(now: Tick, shared: &Shared, key: u64) -> DownstreamSv1 {
        DownstreamSv1 {
            state: State::ExpectBytes,
            now,
            opened: now,
            key,
            first: Vec::new(),
            splitter: Splitter::new(),
            subscription: Subscription::None,
            user_agent: None,
            class: Class::Unknown,
            names: Vec::new(),
            hint: None,
            vardiff: shared.settings().pace().map(Vardiff::new),
            settling: 0,
            early: EarlyHints::default(),
            answers: Answers::default(),
            checks: Checks::default(),
            rolling: Rolling::default(),
            announcements: Announcements::new(shared.settings().start_difficulty),
            tip: shared.tip(),
            fingerprints: Fingerprints::default(),
            late_blocks: None,
            notices: VecDeque::new(),
            blocks: VecDeque::new(),
        }
    }

    /// Takes one input. Afterwards the host calls [`DownstreamSv1::poll_output`] until it waits.
    pub fn handle(&mut self, now: Tick, shared: &Shared, input: Input<'_>) {
        self.now = self.now.max(now);
        if self.state == State::Closed {
            return;
        }
        self.follow_tip(shared);
        match input {
            Input::Bytes(bytes) => self.receive(shared, bytes),
            Input::Verdicts(verdicts) => self.settle(shared, verdicts),
            Input::Policy(Policy::Difficulty(wanted)) => self.impose(shared, wanted),
            Input::Granted(prefix, session) => self.granted(shared, prefix, session),
            Input::Resumed(parked) => {
                parked.take().into_iter().for_each(|parked| self.resumed(shared, *parked));
            }
            Input::Refused(refusal) => self.refused(refusal),
            Input::Command(Command::Drain) => self.close_after_answers(Close::Drained),
            // With its first job there is a network's difficulty to hold the start against.
            Input::Job(_) if self.announcements.newest_job().is_none() => self.choose_start(shared),
            Input::Job(_) => {}
            // Every deadline is among those that `Output::Wait` names, so no other input pays.
            Input::Timer => {
                self.enforce_deadlines(shared);
                self.weigh_silence(shared);
            }
        }
    }

    /// Gives the next thing that the machine wants; [`Output::Wait`] ends the drain.
    pub fn poll_output(&mut self, shared: &Shared, out: &mut SendBuf) -> Output {
        if self.state == State::Closed {
            return Output::Wait(Tick::NEVER);
        }
        if let Subscription::Wanted(session) = self.subscription {
            self.subscription = Subscription::ExpectGrant;
            return Output::Ask(session.map_or(Question::Prefix, Question::Resume));
        }
        if let Some((ticket, share)) = self.checks.ask_next() {
            return Output::Check(ticket, share);
        }
        if let Some(event) = self.next_event() {
            return Output::Event(event);
        }
        if out.has_room()
            && let Some(output) = self.write(shared, out)
        {
            return output;
        }
        if let State::Closing(reason) = self.state
            && self.answers.is_empty()
            && self.checks.is_empty()
        {
            if reason == Close::NotStratum(NotSv1::Tls) {
                if !out.has_room() {
                    return Output::Wait(Tick::NEVER);
                }
                out.append(&wire::TLS_REFUSAL);
            }
            self.state = State::Closed;
            return Output::Close(reason);
        }
        self.release();
        Output::Wait(if out.has_room() { self.deadline(shared) } else { Tick::NEVER })
    }

    /// Where the connection stands.
    pub fn state(&self) -> State {
        self.state
    }

    /// The firmware's name for itself, cut at [`USER_AGENT_BYTES_MAX`]. Never to be trusted.
    pub fn user_agent(&self) -> Option<&str> {
        self.user_agent.as_deref()
    }

    /// The family of firmware that the miner says it is. Never to be trusted.
    pub fn class(&self) -> Class {
        self.class
    }

    /// The authorized worker names, in the order in which they came.
    pub fn names(&self) -> &[Box<str>] {
        &self.names
    }

    /// The difficulty that the miner was last told, or will be told first.
    pub fn difficulty(&self) -> Difficulty {
        self.announcements.difficulty()
    }

    /// The difficulty that the miner asked for: a hint for where it starts.
    pub fn suggested_difficulty(&self) -> Option<Difficulty> {
        self.hint.map(|(_, wanted)| wanted)
    }

    /// The version bits that the miner may set; zero if it never asked.
    pub fn version_mask(&self) -> u32 {
        self.announcements.mask().unwrap_or(0)
    }

    /// The prefix that was granted: given back by the host when the connection is gone.
    pub fn extranonce1(&self) -> Option<Prefix> {
        match self.subscription {
            Subscription::Granted(prefix, _) => Some(prefix),
            _ => None,
        }
    }

    /// The session's id, once granted.
    pub fn session_id(&self) -> Option<SessionId> {
        match self.subscription {
            Subscription::Granted(_, session) => Some(session),
            _ => None,
        }
    }

    /// Shares that were read and not judged yet, each with its worker's index into
    /// [`DownstreamSv1::names`]. With [`DownstreamSv1::blocks`] the only thing that may be asked of
    /// a machine after one of its calls panicked: the queues are whole, whatever else is not.
    pub fn open_shares(&self) -> impl Iterator<Item = (ShareToCheck, u8)> + '_ {
        self.checks.all()
    }

    /// Blocks whose [`Event::Block`] was not handed over yet.
    pub fn blocks(&self) -> impl Iterator<Item = FoundShare> + '_ {
        self.blocks.iter().copied()
    }

    /// Requests whose answers are not written yet.
    pub fn replies_queued(&self) -> usize {
        self.answers.len()
    }

    /// Bytes of memory behind the struct itself.
    pub fn memory_bytes(&self) -> usize {
        let names: usize = self.names.iter().map(|name| name.len() + size_of::<Box<str>>()).sum();
        self.first.capacity()
            + self.splitter.memory_bytes()
            + names
            + self.user_agent.as_ref().map_or(0, |agent| agent.len())
            + self.answers.memory_bytes()
            + self.checks.memory_bytes()
            + self.announcements.memory_bytes()
            + self.fingerprints.memory_bytes()
            + self.late_blocks.as_ref().map_or(0, |late| late.memory_bytes())
            + self.notices.capacity() * size_of::<Notice>()
            + self.blocks.capacity() * size_of::<FoundShare>()
    }

    /// Gives back what a burst took; an ordinary window of shares keeps its room.
    fn release(&mut self) {
        self.answers.release();
        self.checks.release();
        if self.notices.capacity() > NOTICES_KEPT_MAX {
            self.notices = VecDeque::new();
        }
    }

    /// A new tip makes the fingerprints those of the previous one.
    fn follow_tip(&mut self, shared: &Shared) {
        let steps = shared.tip().saturating_sub(self.tip).min(2);
        for _ in 0..steps {
            self.fingerprints.turn_over();
        }
        // Not back: a resumed session may know a tip that this shard has not heard of yet.
        self.tip = self.tip.max(shared.tip());
    }

    fn receive(&mut self, shared: &Shared, bytes: &[u8]) {
        if self.state != State::ExpectBytes {
            return self.read(shared, bytes);
        }
        let first = core::mem::take(&mut self.first);
        match judge_first(&first, bytes) {
            FirstBytes::NeedMore => {
                self.first = first;
                self.first.extend_from_slice(bytes);
            }
            FirstBytes::Sv1 => {
                self.state = State::ExpectHandshake;
                self.read(shared, &first);
                self.read(shared, bytes);
            }
            FirstBytes::Http => self.close_now(Close::NotStratum(NotSv1::Http)),
            FirstBytes::Tls => self.close_now(Close::NotStratum(NotSv1::Tls)),
            FirstBytes::Proxy => self.close_now(Close::NotStratum(NotSv1::ProxyHeader)),
            FirstBytes::Other => self.close_now(Close::NotStratum(NotSv1::Other)),
        }
    }

    fn read(&mut self, shared: &Shared, bytes: &[u8]) {
        let mut splitter = core::mem::take(&mut self.splitter);
        self.read_lines(shared, splitter.feed(bytes));
        self.splitter = splitter;
    }

    fn read_lines(&mut self, shared: &Shared, mut lines: Lines<'_>) {
        while !matches!(self.state, State::Closing(_)) {
            match lines.next() {
                Some(Ok(line)) => self.line(shared, line),
                Some(Err(_)) => self.close_now(Close::Limit(LimitReached::LineBytes)),
                None => break,
            }
        }
    }

    fn line(&mut self, shared: &Shared, line: &[u8]) {
        // Looked at where it lies: to move it out would cost a share a fifth of its parsing.
        let parsed = wire::sv1::parse(line);
        let Message { id, request } = match &parsed {
            Ok(message) => message,
            Err(error) => {
                self.answer(Id::NULL, Answer::NoMessage(*error));
                return self.close_after_answers(Close::Malformed);
            }
        };
        let id = *id;
        match request {
            Request::Submit(submit) => self.submit(shared, id, submit),
            Request::Subscribe(subscribe) => self.subscribe(shared, id, subscribe),
            Request::Authorize { user, password } => {
                self.authorize(shared, id, user, password.as_deref());
            }
            Request::Configure(configure) => self.configure(shared, id, configure),
            Request::SuggestDifficulty(number) => {
                self.suggest(shared, id, Difficulty::new(*number))
            }
            Request::SuggestTarget(target) => {
                let difficulty = pow::Target::from_be_bytes(*target).difficulty();
                self.suggest(shared, id, Difficulty::new(difficulty));
            }
            Request::ExtranonceSubscribe => {
                self.answer(id, Answer::Error(ErrorCode::Other, "Not supported."));
            }
            Request::Ping => self.answer(id, Answer::Pong),
            Request::GetVersion => self.answer(id, Answer::Version),
            Request::Unknown { .. } => self.unknown(id),
            Request::InvalidSubmit(reason) => self.bad_submit(id, *reason),
            Request::Invalid(reason) => self.answer(id, Answer::Invalid(*reason)),
            // Whatever a miner answers to a ping, it lives; nothing else hangs on it.
            Request::Response(_) => {}
        }
    }

    /// Queues an answer, unless the peer asks without reading.
    fn answer(&mut self, id: Id<'_>, answer: Answer) {
        if self.answers.is_full() {
            return self.close_now(Close::Limit(LimitReached::RepliesQueued));
        }
        self.answers.push(id, answer);
    }

    fn next_event(&mut self) -> Option<Event> {
        if let Some(found) = self.blocks.pop_front() {
            return Some(Event::Block(found));
        }
        Some(match self.notices.pop_front()? {
            Notice::Subscribed => Event::Subscribed,
            Notice::Authorized(worker) => Event::Authorized { worker },
            Notice::Mining => Event::Mining,
            Notice::Share(share) => Event::Share(share),
            Notice::Settled(settled) => Event::Settled(settled),
            Notice::RollingLost => Event::RollingLost,
        })
    }

    /// Writes answers and announces work. Work for a new tip overtakes the answers to submits, so
    /// that a miner hears of the tip before it hears "stale"; but nothing goes before the answer
    /// to a handshake request, for which firmware waits as the very next line.
    fn write(&mut self, shared: &Shared, out: &mut SendBuf) -> Option<Output> {
        let announcement = match self.state {
            State::Mining => self.announcements.next(self.now, shared),
            State::ExpectHandshake => self.announcements.next_early(),
            _ => None,
        };
        if let Some(due) = announcement
            && due.is_new_tip()
            && self.answers.only_submits()
        {
            return Some(self.announce(shared, out, due));
        }
        if self.answers.write(out, self.subscription_parts(), shared) {
            return Some(Output::Wrote);
        }
        let due = announcement.filter(|_| self.answers.is_empty())?;
        Some(self.announce(shared, out, due))
    }

    fn announce(&mut self, shared: &Shared, out: &mut SendBuf, due: Announcement) -> Output {
        let difficulty = self.announcements.announce(self.now, shared, due);
        if let Some(difficulty) = difficulty {
            wire::sv1::write::set_difficulty(out.vec(), difficulty);
        }
        match due {
            Announcement::Work { rendering, .. } => {
                self.watch();
                Output::Shared(rendering)
            }
            Announcement::Difficulty => Output::Wrote,
        }
    }

    fn subscription_parts(&self) -> Option<(Prefix, SessionId)> {
        match self.subscription {
            Subscription::Granted(prefix, session) => Some((prefix, session)),
            _ => None,
        }
    }

    /// Ends the connection without waiting for a reader. Shares that are being hashed are still
    /// settled, because one of them may be a block.
    fn close_now(&mut self, reason: Close) {
        self.answers.clear();
        self.close_after_answers(reason);
    }

    /// Ends the connection when everything that was read is answered. The first reason stays.
    fn close_after_answers(&mut self, reason: Close) {
        if !matches!(self.state, State::Closing(_) | State::Closed) {
            self.answers.refuse_grants(no_session(reason));
            self.state = State::Closing(reason);
        }
    }

    fn enforce_deadlines(&mut self, shared: &Shared) {
        if self.now >= self.handshake_deadline(shared) {
            let silent = self.state == State::ExpectBytes && self.first.is_empty();
            self.close_now(if silent { Close::Silent } else { Close::HandshakeTimeout });
        }
    }

    fn handshake_deadline(&self, shared: &Shared) -> Tick {
        let settings = shared.settings();
        match self.state {
            State::ExpectBytes if self.first.is_empty() => {
                self.opened.plus_micros(settings.first_byte_us.min(settings.handshake_us))
            }
            State::ExpectBytes | State::ExpectHandshake => {
                self.opened.plus_micros(settings.handshake_us)
            }
            State::Mining | State::Closing(_) | State::Closed => Tick::NEVER,
        }
    }

    fn deadline(&self, shared: &Shared) -> Tick {
        match self.state {
            State::Mining if self.answers.is_empty() => {
                self.announcements.due(shared).min(self.silence_due())
            }
            _ => self.handshake_deadline(shared),
        }
    }
}

/// What a subscribe hears that still waits for its session when the connection is closed.
fn no_session(reason: Close) -> &'static str {
    match reason {
        Close::Drained | Close::Refused(Refusal::Draining) => "no new miners",
        Close::Refused(Refusal::ExtranonceExhausted) => "no extranonce left for a new miner",
        Close::Malformed => "closed: a later line is no message",
        Close::NotSubscribed => "closed: a submit came before the session",
        // Nobody is answered any more.
        Close::NotStratum(_) | Close::Silent | Close::HandshakeTimeout | Close::Limit(_) => {
            "closed"
        }
    }
}

/// Tells the protocol by what came before and what comes now.
fn judge_first(before: &[u8], bytes: &[u8]) -> FirstBytes {
    if before.is_empty() {
        return wire::looks_like(bytes);
    }
    let mut first = [0; FIRST_BYTES_MAX];
    let more = bytes.len().min(FIRST_BYTES_MAX - before.len());
    first[..before.len()].copy_from_slice(before);
    first[before.len()..before.len() + more].copy_from_slice(&bytes[..more]);
    wire::looks_like(&first[..before.len() + more])
}

/// One event per share of an ordinary window, and those of a handshake.
const NOTICES_KEPT_MAX: usize = 32;

#[cfg(test)]
mod tests;
