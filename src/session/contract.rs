//! What goes into a session and what comes out of it: the contract of the shard, the simulator and
//! the fuzzers with every machine of this crate. Types only; no behaviour of a protocol.

use crate::downstream_sv1::Parked;
use crate::job::{JobIndex, JobRef, Rendering};
use crate::memory::Settled;
use alloc::boxed::Box;
use pow::{Difficulty, Hash256, Share};

/// A moment: microseconds on one monotonic clock, whose zero means nothing.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Default)]
pub struct Tick(pub u64);

impl Tick {
    /// The moment that never comes: a machine that waits for it has nothing to do by itself.
    pub const NEVER: Tick = Tick(u64::MAX);

    /// Microseconds since the clock's zero.
    pub const fn as_micros(self) -> u64 {
        self.0
    }

    /// The moment `micros` microseconds later; it stops at [`Tick::NEVER`].
    #[must_use]
    pub const fn plus_micros(self, micros: u64) -> Tick {
        Tick(self.0.saturating_add(micros))
    }

    /// Microseconds from `earlier` to this moment; zero if `earlier` is later.
    pub const fn since(self, earlier: Tick) -> u64 {
        self.0.saturating_sub(earlier.0)
    }
}

/// What a machine is told. Every input carries the present moment beside it.
#[derive(Debug)]
pub enum Input<'a> {
    /// Bytes as they came from the peer, in any split. They may be changed in place.
    Bytes(&'a mut [u8]),
    /// A job was adopted by [`crate::Shared`]. A wake-up only: what is newest stands there.
    Job(JobRef),
    /// Hashes of shares that this machine gave out with [`Output::Check`], in any order.
    Verdicts(&'a [(Ticket, Verdict)]),
    /// What the farm decided about this miner.
    Policy(Policy),
    /// The moment named by [`Output::Wait`] came (or time simply passed). Only this input ends a
    /// connection whose time is over.
    Timer,
    /// The answer to either question: the miner's own extranonce and its new session's id.
    Granted(Prefix, SessionId),
    /// The better answer to [`Question::Resume`]: what this miner's former connection left. The
    /// machine takes it; lent, because an input that owns something costs each share its drop.
    Resumed(&'a mut Option<Box<Parked>>),
    /// The other answer to either question.
    Refused(Refusal),
    /// What the operator wants of this connection.
    Command(Command),
}

/// What a machine wants. The host drains until [`Output::Wait`] before the machine's next input.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Output {
    /// Bytes were written into the [`crate::SendBuf`].
    Wrote,
    /// The bytes of this rendering are to follow. With an empty buffer the host may send the shared
    /// bytes as they are and then passes a closed buffer; otherwise it appends them.
    Shared(Rendering),
    /// A share to hash; the answer is wanted as [`Input::Verdicts`] in this same turn.
    Check(Ticket, ShareToCheck),
    /// Something only the host or the farm can give.
    Ask(Question),
    /// Something the farm wants to know.
    Event(Event),
    /// The connection ends: send what is in the buffer, then close. The machine is inert now.
    Close(Close),
    /// Nothing more to do before this moment or the next input.
    Wait(Tick),
}

/// What a machine asks its host.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Question {
    /// An extranonce prefix of its own; answered by [`Input::Granted`] or [`Input::Refused`].
    Prefix,
    /// The session that the miner had before; answered by [`Input::Resumed`] or, where there is
    /// none for it, as [`Question::Prefix`] is.
    Resume(SessionId),
}

/// Why there is no extranonce prefix for a miner.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Refusal {
    /// The farm's extranonce space is used up.
    ExtranonceExhausted,
    /// The farm takes no new miners now.
    Draining,
}

/// What the farm decides about a miner.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Policy {
    /// The difficulty from now on: announced with a new rendering, at most once per second.
    Difficulty(Difficulty),
}

/// What the operator wants of a connection.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Command {
    /// Answer what was read, then close.
    Drain,
}

/// Names one share under validation; unique among those that are open on a connection.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct Ticket(pub u32);

/// A share that passed every check that needs no hash.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct ShareToCheck {
    /// Where its job stands in [`crate::Shared`].
    pub job: JobIndex,
    /// What the miner found.
    pub share: Share,
}

/// What hashing a share gave.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Verdict {
    /// The double SHA-256 of the share's header.
    pub hash: Hash256,
}

/// What the farm learns from a connection.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Event {
    /// The miner subscribed and was answered; see `DownstreamSv1::user_agent`.
    Subscribed,
    /// A worker name was accepted; the index is into `DownstreamSv1::names`.
    Authorized {
        /// Index into the connection's names.
        worker: u8,
    },
    /// Subscribed and authorized: from here on the miner gets work.
    Mining,
    /// A share was judged and its answer is on the way.
    Share(ShareEvent),
    /// A share meets the network's target, whatever the miner was told about it.
    Block(FoundShare),
    /// The miner has found so many shares at its difficulty that it suits it.
    Settled(Settled),
    /// A miner that rolled the version has stopped: it does a fraction of its work, or draws more
    /// power for it, until it is started again.
    RollingLost,
}

/// A judged share.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct ShareEvent {
    /// Index into the connection's names; `None` if the name is not among them.
    pub worker: Option<u8>,
    /// What became of it.
    pub outcome: ShareOutcome,
    /// The difficulty that its job was announced with: what it is worth if accepted, else zero
    /// where the share never got as far as a job.
    pub difficulty: f64,
    /// The difficulty of its hash; zero if it was not hashed.
    pub hash_difficulty: f64,
}

/// A share that is a block.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct FoundShare {
    /// Where its job stands in [`crate::Shared`] until the next job is adopted.
    pub job: JobIndex,
    /// The number of that job.
    pub number: u32,
    /// What the miner found.
    pub share: Share,
    /// The header's hash.
    pub hash: Hash256,
    /// Index into the connection's names.
    pub worker: u8,
}

/// What became of a submit, in the order in which the causes are looked for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum ShareOutcome {
    /// The share counts.
    Accepted,
    /// Code 25: nobody subscribed on this connection.
    NotSubscribed,
    /// Code 24: the worker is not among the connection's authorized names.
    Unauthorized,
    /// Code 21: no live job of this connection has that id.
    UnknownJob,
    /// Code 20: a field has the wrong type, length or digits.
    Malformed,
    /// Code 20: version bits outside the granted mask.
    VersionOutsideMask,
    /// Code 20: the time is outside the job's window.
    BadNtime,
    /// Code 22: this header was already counted.
    Duplicate,
    /// Code 21: the job's previous hash was superseded.
    Stale,
    /// Code 23: the hash misses the job's share target.
    LowDifficulty,
}

impl ShareOutcome {
    /// Every outcome, in the order of the checks.
    pub const ALL: [ShareOutcome; 10] = [
        ShareOutcome::Accepted,
        ShareOutcome::NotSubscribed,
        ShareOutcome::Unauthorized,
        ShareOutcome::UnknownJob,
        ShareOutcome::Malformed,
        ShareOutcome::VersionOutsideMask,
        ShareOutcome::BadNtime,
        ShareOutcome::Duplicate,
        ShareOutcome::Stale,
        ShareOutcome::LowDifficulty,
    ];

    /// A short name for logs and metrics, in snake case.
    pub const fn name(self) -> &'static str {
        match self {
            ShareOutcome::Accepted => "accepted",
            ShareOutcome::NotSubscribed => "not_subscribed",
            ShareOutcome::Unauthorized => "unauthorized",
            ShareOutcome::UnknownJob => "unknown_job",
            ShareOutcome::Malformed => "malformed",
            ShareOutcome::VersionOutsideMask => "version_outside_mask",
            ShareOutcome::BadNtime => "bad_ntime",
            ShareOutcome::Duplicate => "duplicate",
            ShareOutcome::Stale => "stale",
            ShareOutcome::LowDifficulty => "low_difficulty",
        }
    }
}

/// Why a connection ends. The shard counts it under the reason that an operator can act on
/// (`shard::counters::CloseReason`).
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Close {
    /// The first bytes were not Stratum V1: closed without an answer, but for TLS's own.
    NotStratum(NotSv1),
    /// No byte came in time.
    Silent,
    /// No subscribe and authorize in time.
    HandshakeTimeout,
    /// A line that is not JSON, or JSON that is no message.
    Malformed,
    /// A submit on a connection that never subscribed; closing makes firmware start again.
    NotSubscribed,
    /// The peer went over a limit.
    Limit(LimitReached),
    /// There is no extranonce prefix for this miner.
    Refused(Refusal),
    /// The host wanted it.
    Drained,
}

/// What the first bytes of a connection looked like, if not like Stratum V1.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum NotSv1 {
    /// An HTTP request.
    Http,
    /// A TLS ClientHello.
    Tls,
    /// A PROXY protocol header, version 1 or 2, from a peer that is not trusted to send one.
    ProxyHeader,
    /// Anything else.
    Other,
}

/// Which limit a peer went over.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum LimitReached {
    /// A line longer than the splitter's cap.
    LineBytes,
    /// More requests than may wait for their answers.
    RepliesQueued,
    /// Its shares filled the duplicate table although its difficulty was raised.
    Fingerprints,
}

/// A miner's own extranonce1: fixed as long as its connection lives.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct Prefix {
    bytes: [u8; Prefix::BYTES_MAX],
    len: u8,
}

impl Prefix {
    /// The farm never gives a miner more than four bytes of its own (the extranonce budget).
    pub const BYTES_MAX: usize = 4;

    /// The prefix made of `bytes`; `None` if they are more than [`Prefix::BYTES_MAX`].
    pub fn new(bytes: &[u8]) -> Option<Prefix> {
        let mut own = [0; Prefix::BYTES_MAX];
        own.get_mut(..bytes.len())?.copy_from_slice(bytes);
        Some(Prefix { bytes: own, len: bytes.len() as u8 })
    }

    /// The prefix's bytes in the order in which they stand in the coinbase.
    pub fn as_bytes(&self) -> &[u8] {
        &self.bytes[..usize::from(self.len)]
    }
}

/// Names a session across reconnects; 64 bits that nobody can guess. Sent as 16 hex digits.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct SessionId(pub u64);

impl SessionId {
    /// Reads an id as it is sent, hex of either case. `None` for all that was never an id of ours,
    /// as firmware sends that kept another pool's, or half of one.
    pub fn parse(text: &str) -> Option<SessionId> {
        // `u64::from_str_radix` alone would take a sign.
        let digits = text.len() == 16 && text.bytes().all(|byte| byte.is_ascii_hexdigit());
        digits.then(|| u64::from_str_radix(text, 16).ok().map(SessionId))?
    }
}
