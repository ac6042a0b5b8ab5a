//! Everything a miner says besides its shares: subscribe, configure, authorize, suggestions. Any
//! order, any number of times; work begins when it has both subscribed and authorized.

use super::answers::{Answer, Configured};
use super::difficulty::{Hint, of_password};
use super::{DownstreamSv1, Notice, State, Subscription};
use crate::class::Class;
use crate::contract::{Close, Prefix, Refusal, SessionId};
use crate::shared::Shared;
use alloc::borrow::Cow;
use alloc::boxed::Box;
use pow::Difficulty;
use wire::sv1::{Configure, ErrorCode, Id, Subscribe};

/// Worker names on one connection: a rental proxy or a controller of several machines has a few.
pub const NAMES_MAX: usize = 8;

/// Longest worker name, bytes. Firmware that allows long names stops at 191; names are never sent
/// back, because some overflow a buffer beyond 127.
pub const NAME_BYTES_MAX: usize = 191;

/// Bytes kept of what the firmware calls itself: the longest seen has 60.
pub const USER_AGENT_BYTES_MAX: usize = 128;

impl DownstreamSv1 {
    /// The session that the miner wants to resume is asked for once. What is no id of ours is
    /// ignored: the answer then names a new one, as firmware expects of a server that restarted.
    pub(super) fn subscribe(&mut self, shared: &Shared, id: Id<'_>, subscribe: &Subscribe<'_>) {
        if self.user_agent.is_none() {
            let agent = subscribe.user_agent.as_deref().map(printable_start);
            self.user_agent = agent.filter(|agent| !agent.is_empty());
            self.class = Class::of(self.user_agent.as_deref());
            self.choose_start(shared);
        }
        // It would refuse us for it, and say less clearly why.
        let size = shared.settings().extranonce2_size;
        if self.class == Class::NiceHash && size < self.class.extranonce2_size_min() {
            let text = "an extranonce2 of 4 bytes is needed for NiceHash";
            return self.answer(id, Answer::Error(ErrorCode::Other, text));
        }
        let answer = match self.subscription {
            Subscription::None => {
                let former = subscribe.session_id.as_deref().and_then(SessionId::parse);
                self.subscription = Subscription::Wanted(former);
                Answer::ExpectGrant
            }
            Subscription::Wanted(_) | Subscription::ExpectGrant => Answer::ExpectGrant,
            Subscription::Granted(..) => Answer::Subscribed,
        };
        self.answer(id, answer);
        self.answer_early_hints();
    }

    pub(super) fn granted(&mut self, shared: &Shared, prefix: Prefix, session: SessionId) {
        if self.subscription != Subscription::ExpectGrant {
            return;
        }
        self.subscription = Subscription::Granted(prefix, session);
        self.answers.grant();
        if self.class.awaits_difficulty() {
            self.announcements.await_difficulty();
        }
        self.notices.push_back(Notice::Subscribed);
        self.begin_mining(shared);
    }

    pub(super) fn refused(&mut self, refusal: Refusal) {
        self.close_after_answers(Close::Refused(refusal));
    }

    pub(super) fn authorize(
        &mut self,
        shared: &Shared,
        id: Id<'_>,
        name: &str,
        password: Option<&str>,
    ) {
        if let Err(text) = check_name(name) {
            return self.answer(id, Answer::Error(ErrorCode::Unauthorized, text));
        }
        if self.worker(name).is_none() {
            if self.names.len() == NAMES_MAX {
                let text = "too many workers on one connection";
                return self.answer(id, Answer::Error(ErrorCode::Unauthorized, text));
            }
            // Exactly one more: most connections never have a second name.
            self.names.reserve_exact(1);
            self.names.push(name.into());
            self.notices.push_back(Notice::Authorized((self.names.len() - 1) as u8));
        }
        self.answer(id, Answer::True);
        self.take_hint(shared, Hint::Password, password.and_then(of_password));
        self.begin_mining(shared);
    }

    /// The index of an authorized name, given as firmware sends it. Blanks around it are forgiven
    /// in a share, which is worth more than its spelling.
    pub(super) fn worker(&self, name: &str) -> Option<u8> {
        let name = name.trim();
        let found = self.names.iter().position(|known| **known == *name)?;
        Some(found as u8)
    }

    /// BIP310. Only what was asked for is answered: some firmware disconnects on other keys.
    pub(super) fn configure(&mut self, shared: &Shared, id: Id<'_>, configure: &Configure<'_>) {
        let granted = configure.version_rolling.map(|wanted| {
            let mask = wanted.mask & shared.settings().version_mask;
            self.announcements.grant_mask((mask != 0).then_some(mask));
            mask
        });
        let unknown = configure.unknown.iter();
        let configured = Configured {
            version_rolling: granted,
            // The farm's own minimum stands; a promise to keep the miner's would be untrue.
            minimum_difficulty: configure.minimum_difficulty.map(|_| false),
            // A miner's prefix never changes here, so there is nothing to subscribe to.
            subscribe_extranonce: configure.subscribe_extranonce.then_some(false),
            unknown: unknown.map(|name| Cow::Owned(name.as_ref().into())).collect(),
        };
        self.answer(id, Answer::Configured(Box::new(configured)));
    }

    /// A hint, always answered: some firmware waits for ever otherwise.
    pub(super) fn suggest(&mut self, shared: &Shared, id: Id<'_>, wanted: Option<Difficulty>) {
        self.take_hint(shared, Hint::Suggested, wanted);
        if !self.comes_early(id) {
            return self.answer(id, AGREED);
        }
        self.early.agreed += 1;
    }

    /// A method of another pool, or of another time.
    pub(super) fn unknown(&mut self, id: Id<'_>) {
        if !self.comes_early(id) {
            return self.answer(id, UNKNOWN);
        }
        self.early.unknown += 1;
    }

    /// Whether the answer to a hint must wait for that to subscribe. Bfgminer sends hints with the
    /// id null before it subscribes, and takes the next line, whatever its id, for that answer.
    fn comes_early(&self, id: Id<'_>) -> bool {
        let waiting = self.early.agreed + self.early.unknown;
        id.is_null() && self.subscription == Subscription::None && waiting < EARLY_HINTS_MAX
    }

    fn answer_early_hints(&mut self) {
        let EarlyHints { agreed, unknown } = core::mem::take(&mut self.early);
        (0..agreed).for_each(|_| self.answer(Id::NULL, AGREED));
        (0..unknown).for_each(|_| self.answer(Id::NULL, UNKNOWN));
    }

    fn begin_mining(&mut self, shared: &Shared) {
        let granted = matches!(self.subscription, Subscription::Granted(..));
        if granted && !self.names.is_empty() && self.state == State::ExpectHandshake {
            self.state = State::Mining;
            self.choose_start(shared);
            self.notices.push_back(Notice::Mining);
        }
    }
}

/// Hints without an id that came before the subscribe: how many, by their answer.
#[derive(Debug, Default)]
pub(super) struct EarlyHints {
    agreed: u8,
    unknown: u8,
}

/// Bfgminer sends two at most; the answers to more are not worth a place.
const EARLY_HINTS_MAX: u8 = 4;

const AGREED: Answer = Answer::True;
const UNKNOWN: Answer = Answer::Error(ErrorCode::MethodNotFound, "Method not found");

fn check_name(name: &str) -> Result<(), &'static str> {
    if name.is_empty() {
        Err("worker name is empty")
    } else if name.len() > NAME_BYTES_MAX {
        Err("worker name is too long")
    } else if name.chars().any(char::is_control) {
        Err("worker name has control characters")
    } else if name.starts_with(char::is_whitespace) || name.ends_with(char::is_whitespace) {
        Err("worker name has blanks around it")
    } else {
        Ok(())
    }
}

/// The start of a text, cut between characters, up to the first control character.
fn printable_start(text: &str) -> Box<str> {
    let mut end = text.find(char::is_control).unwrap_or(text.len()).min(USER_AGENT_BYTES_MAX);
    while !text.is_char_boundary(end) {
        end -= 1;
    }
    text[..end].trim().into()
}
