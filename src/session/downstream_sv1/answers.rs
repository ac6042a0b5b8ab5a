//! Answers that wait for their turn: in the order of the requests, typed and small, until the
//! connection's buffer takes them as text.

use crate::contract::{Prefix, SessionId};
use crate::send_buf::SendBuf;
use crate::shared::Shared;
use alloc::borrow::Cow;
use alloc::boxed::Box;
use alloc::collections::VecDeque;
use alloc::vec::Vec;
use core::fmt::Write as _;
use wire::sv1::{
    ConfigureReply, ErrorCode, ID_BYTES_INLINE, Id, IdOwned, ParseError, Reason, write,
};

/// Requests that may wait for their answers: room for all that an honest miner pipelines, also
/// after a stall of its line. At 56 bytes each they take 56 KiB of a connection whose peer does not
/// read, within the 64 KiB that one may cost; who asks for more is cut off.
pub const REPLIES_QUEUED_MAX: usize = 1_024;

/// What the answers of one connection may take, in bytes: the places of the queue, and what long
/// ids and names of extensions hold beside it. Fewer answers may wait where they are long.
const QUEUE_BYTES_MAX: usize = 64 << 10;

const _: () = assert!(REPLIES_QUEUED_MAX * size_of::<(IdOwned, Answer)>() <= QUEUE_BYTES_MAX);

/// What a request is answered with.
#[derive(Debug)]
pub(super) enum Answer {
    True,
    Pong,
    Version,
    /// The result of subscribe, the same however often it is asked.
    Subscribed,
    Configured(Box<Configured>),
    Error(ErrorCode, &'static str),
    Invalid(Reason),
    /// To a line that is no message: says where it breaks, for firmware's own log.
    NoMessage(ParseError),
    /// Subscribe, until the farm grants a prefix.
    ExpectGrant,
    /// A submit, until its hash is known.
    ExpectVerdict,
}

/// The result of configure.
#[derive(Debug)]
pub(super) struct Configured {
    pub(super) version_rolling: Option<u32>,
    pub(super) minimum_difficulty: Option<bool>,
    pub(super) subscribe_extranonce: Option<bool>,
    pub(super) unknown: Vec<Cow<'static, str>>,
}

/// The queue.
#[derive(Debug, Default)]
pub(super) struct Answers {
    queue: VecDeque<(IdOwned, Answer)>,
    /// Entries at the front of which none waits for a verdict; ≤ `queue.len()`.
    settled: usize,
    /// Entries that are no answers to submits; ≤ `queue.len()`.
    others: usize,
    /// What the entries hold on the heap.
    heap_bytes: usize,
}

impl Answers {
    /// Queues the answer to a request that is no submit.
    pub(super) fn push(&mut self, id: Id<'_>, answer: Answer) {
        self.others += 1;
        self.enqueue(id, answer);
    }

    /// Queues the answer to a submit.
    pub(super) fn push_submit(&mut self, id: Id<'_>, answer: Answer) {
        self.enqueue(id, answer);
    }

    /// Room grows 1, 2, 4: most miners wait for one answer at a time, and the least room that a
    /// queue takes on its own would be a tenth of an idle connection's memory.
    fn enqueue(&mut self, id: Id<'_>, answer: Answer) {
        if self.queue.len() == self.queue.capacity() {
            self.queue.reserve_exact(self.queue.len().max(1));
        }
        let id = id.to_owned();
        self.heap_bytes += heap_bytes(&id, &answer);
        self.queue.push_back((id, answer));
    }

    /// Whether no further answer may wait: the peer asks without reading.
    pub(super) fn is_full(&self) -> bool {
        let (len, room) = (self.queue.len(), self.queue.capacity());
        let places = if len == room { 2 * room } else { room };
        let bytes = places * size_of::<(IdOwned, Answer)>() + self.heap_bytes;
        len >= REPLIES_QUEUED_MAX || bytes > QUEUE_BYTES_MAX
    }

    pub(super) fn len(&self) -> usize {
        self.queue.len()
    }

    pub(super) fn is_empty(&self) -> bool {
        self.queue.is_empty()
    }

    /// Whether every answer is to a submit.
    pub(super) fn only_submits(&self) -> bool {
        self.others == 0
    }

    /// Gives the oldest submit without a verdict its answer. After a clear there may be none.
    pub(super) fn settle_oldest(&mut self, answer: Answer) {
        while let Some((_, waiting)) = self.queue.get_mut(self.settled) {
            self.settled += 1;
            if matches!(waiting, Answer::ExpectVerdict) {
                *waiting = answer;
                return;
            }
        }
    }

    /// The prefix came: every subscribe can be answered.
    pub(super) fn grant(&mut self) {
        self.replace_grants(|| Answer::Subscribed);
    }

    /// No prefix will come.
    pub(super) fn refuse_grants(&mut self, text: &'static str) {
        self.replace_grants(|| Answer::Error(ErrorCode::Other, text));
    }

    fn replace_grants(&mut self, with: impl Fn() -> Answer) {
        for (_, answer) in &mut self.queue {
            if matches!(answer, Answer::ExpectGrant) {
                *answer = with();
            }
        }
    }

    pub(super) fn clear(&mut self) {
        *self = Answers::default();
    }

    /// Writes what can be written; whether that was anything.
    pub(super) fn write(
        &mut self,
        out: &mut SendBuf,
        granted: Option<(Prefix, SessionId)>,
        shared: &Shared,
    ) -> bool {
        let before = self.queue.len();
        while out.has_room()
            && let Some((_, answer)) = self.queue.front()
            && !matches!(answer, Answer::ExpectGrant | Answer::ExpectVerdict)
            && let Some((id, answer)) = self.queue.pop_front()
        {
            self.settled = self.settled.saturating_sub(1);
            self.heap_bytes -= heap_bytes(&id, &answer);
            write_answer(out.vec(), id.as_id(), &answer, granted, shared);
        }
        if self.queue.is_empty() {
            self.others = 0;
        }
        self.queue.len() < before
    }

    /// Gives back what a burst took.
    pub(super) fn release(&mut self) {
        if self.queue.is_empty() && self.queue.capacity() > ENTRIES_KEPT_MAX {
            self.queue = VecDeque::new();
        }
    }

    pub(super) fn memory_bytes(&self) -> usize {
        self.queue.capacity() * size_of::<(IdOwned, Answer)>() + self.heap_bytes
    }
}

/// What an entry holds beside its place in the queue. No answer that takes the place of an open one
/// holds anything.
fn heap_bytes(id: &IdOwned, answer: &Answer) -> usize {
    let id = Some(id.as_id().as_bytes().len()).filter(|length| *length > ID_BYTES_INLINE);
    let names = match answer {
        Answer::Configured(configured) => {
            let names = configured.unknown.iter();
            let names: usize = names.map(|name| size_of::<Cow<'_, str>>() + name.len()).sum();
            size_of::<Configured>() + names
        }
        _ => 0,
    };
    id.unwrap_or(0) + names
}

fn write_answer(
    out: &mut Vec<u8>,
    id: Id<'_>,
    answer: &Answer,
    granted: Option<(Prefix, SessionId)>,
    shared: &Shared,
) {
    match answer {
        Answer::True => write::result_true(out, id),
        Answer::Pong => write::pong(out, id),
        Answer::Version => write::result_text(out, id, VERSION),
        Answer::Subscribed => {
            let (prefix, session) = granted.expect("subscribed is answered after the grant");
            let size = usize::from(shared.settings().extranonce2_size);
            let session = HexText::of(session);
            write::subscribe_result(out, id, session.as_str(), prefix.as_bytes(), size);
        }
        Answer::Configured(configured) => {
            let reply = ConfigureReply {
                version_rolling: configured.version_rolling,
                minimum_difficulty: configured.minimum_difficulty,
                subscribe_extranonce: configured.subscribe_extranonce,
                unknown: &configured.unknown,
            };
            write::configure_result(out, id, &reply);
        }
        Answer::Error(code, text) => write::error(out, id, *code, text),
        Answer::Invalid(reason) => {
            let text = alloc::format!("{reason}");
            write::error(out, id, ErrorCode::Other, &text);
        }
        Answer::NoMessage(error) => {
            let text = alloc::format!("{error}");
            write::error(out, id, ErrorCode::Other, &text);
        }
        Answer::ExpectGrant | Answer::ExpectVerdict => {
            unreachable!("an open answer is not written")
        }
    }
}

/// A session id as text, without allocation.
struct HexText {
    digits: [u8; 16],
    len: usize,
}

impl HexText {
    fn of(session: SessionId) -> HexText {
        let mut text = HexText { digits: [0; 16], len: 0 };
        write!(text, "{:016x}", session.0).expect("64 bits are 16 digits");
        text
    }

    fn as_str(&self) -> &str {
        core::str::from_utf8(&self.digits[..self.len]).expect("hex digits are text")
    }
}

impl core::fmt::Write for HexText {
    fn write_str(&mut self, text: &str) -> core::fmt::Result {
        let end = self.len + text.len();
        let place = self.digits.get_mut(self.len..end).ok_or(core::fmt::Error)?;
        place.copy_from_slice(text.as_bytes());
        self.len = end;
        Ok(())
    }
}

/// What `client.get_version` is told.
const VERSION: &str = concat!("headframe/", env!("CARGO_PKG_VERSION"));

/// An idle connection keeps room for the answers to one receive buffer of submits, not for a burst.
const ENTRIES_KEPT_MAX: usize = 32;

const _: () = assert!(size_of::<(IdOwned, Answer)>() <= 56, "answers that wait stay small");
