//! What nodes say about a block, which of it is a last word, and when to ask again.
//!
//! BIP 22 gives the words; what they mean for a farm that must not lose a block is decided here.
//! It knows no block and no node: `way` counts the attempts, the desk weighs several nodes.

use alloc::sync::Arc;
use core::fmt;

/// What became of a block, by the best word of all nodes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// No node has given a last word yet.
    Submitted,
    /// A node took it into its best chain.
    Accepted,
    /// A node had it already.
    Duplicate,
    /// Valid as far as it was looked at, but not on the best chain.
    Stale,
    /// The reason against it.
    Refused(Arc<str>),
}

impl Outcome {
    /// Higher is better news; a node's better word replaces another's.
    pub(super) fn rank(&self) -> u8 {
        match self {
            Outcome::Submitted => 0,
            Outcome::Refused(_) => 1,
            Outcome::Stale => 2,
            Outcome::Duplicate => 3,
            Outcome::Accepted => 4,
        }
    }

    /// As logs, metrics and the API call it.
    pub fn name(&self) -> &'static str {
        match self {
            Outcome::Submitted => "submitted",
            Outcome::Accepted => "accepted",
            Outcome::Duplicate => "duplicate",
            Outcome::Stale => "stale",
            Outcome::Refused(_) => "refused",
        }
    }
}

/// A node's answer to one submission.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum SubmitResult {
    /// In the best chain.
    Accepted,
    /// Known already.
    Duplicate,
    /// Not on the best chain.
    Stale,
    /// The node has not made up its mind, or its tip is moving: asked again on the new tip.
    NotBest(Arc<str>),
    /// Valid once its time has come: tried again.
    TimeTooNew,
    /// The node lacks the block before it: one that catches up, or lost its newest blocks in a
    /// crash. Tried again.
    MissingPrevious,
    /// The node holds the block before it, or the block itself, for invalid: what its operator
    /// took back for a while (`invalidateblock`), he may allow again. Tried again.
    InvalidBranch(Arc<str>),
    /// Refused for this reason.
    Refused(Arc<str>),
    /// No answer, and why: a timeout, a broken link, a node that starts or wants a password. The
    /// node may have the block. Tried again.
    Unknown(Arc<str>),
}

impl SubmitResult {
    /// How many kinds of answers there are.
    pub const KINDS: usize = 9;

    /// The names of all kinds, in the order of [`SubmitResult::kind`].
    pub const NAMES: [&'static str; SubmitResult::KINDS] = [
        "accepted",
        "duplicate",
        "stale",
        "not_best",
        "time_too_new",
        "missing_previous",
        "invalid_branch",
        "refused",
        "no_answer",
    ];

    /// Reads the result of `submitblock` (BIP 22): null is acceptance, else a reason.
    pub fn from_bip22(reason: Option<&str>) -> SubmitResult {
        match reason {
            None => SubmitResult::Accepted,
            Some("duplicate") => SubmitResult::Duplicate,
            Some("inconclusive" | "stale-prevblk" | "stale-work") => SubmitResult::Stale,
            // The tip moves under the check: what it is on the new one, the next answer tells.
            Some(
                reason @ ("duplicate-inconclusive"
                | "inconclusive-not-best-prevblk"
                | "stale-chain-tip"),
            ) => SubmitResult::NotBest(Arc::from(reason)),
            Some("time-too-new") => SubmitResult::TimeTooNew,
            Some("prev-blk-not-found") => SubmitResult::MissingPrevious,
            // Neither says that this block breaks a rule, and both end with `reconsiderblock`: the
            // second is also said of a block whose header came from a peer while the block before
            // it was invalid, and then its body is still needed.
            Some(reason @ ("bad-prevblk" | "duplicate-invalid")) => {
                SubmitResult::InvalidBranch(Arc::from(reason))
            }
            Some(reason) => SubmitResult::Refused(Arc::from(reason)),
        }
    }

    /// Which kind of answer it is, below [`SubmitResult::KINDS`].
    pub fn kind(&self) -> usize {
        match self {
            SubmitResult::Accepted => 0,
            SubmitResult::Duplicate => 1,
            SubmitResult::Stale => 2,
            SubmitResult::NotBest(_) => 3,
            SubmitResult::TimeTooNew => 4,
            SubmitResult::MissingPrevious => 5,
            SubmitResult::InvalidBranch(_) => 6,
            SubmitResult::Refused(_) => 7,
            SubmitResult::Unknown(_) => 8,
        }
    }

    /// As metrics and the API call it.
    pub fn name(&self) -> &'static str {
        SubmitResult::NAMES[self.kind()]
    }

    /// The node's own words, where it gave some.
    pub fn reason(&self) -> Option<&str> {
        match self {
            SubmitResult::NotBest(reason)
            | SubmitResult::InvalidBranch(reason)
            | SubmitResult::Refused(reason)
            | SubmitResult::Unknown(reason) => Some(reason),
            _ => None,
        }
    }
}

/// When a block is sent to a node again.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct RetryPolicy {
    /// The first wait after no answer, in µs; it doubles with each that follows.
    pub wait_first_micros: u64,
    /// The longest of those waits, in µs: a node that comes back has the block within it.
    pub wait_max_micros: u64,
    /// The wait for a clock or a tip to move, in µs.
    pub wait_steady_micros: u64,
    /// Attempts of a block whose time is ahead of the node's clock.
    pub time_attempts_max: u32,
    /// Attempts while the node's tip moves under the block.
    pub tip_attempts_max: u32,
    /// Attempts of a block whose previous one the node lacks or holds for invalid.
    pub previous_attempts_max: u32,
    /// For so long after one node's last word the others are still tried, in µs. The one may have
    /// no peers, and then nobody else would ever hear of the block.
    pub others_micros_max: u64,
}

impl Default for RetryPolicy {
    fn default() -> RetryPolicy {
        RetryPolicy {
            wait_first_micros: 250_000,
            wait_max_micros: 10_000_000,
            wait_steady_micros: 1_000_000,
            // 7,200 s is as far as a block's time may be ahead at all.
            time_attempts_max: 7_200,
            tip_attempts_max: 5,
            // About an hour: who lost more than that, or took it back for longer, lost the block's
            // whole branch.
            previous_attempts_max: 366,
            others_micros_max: 600_000_000,
        }
    }
}

/// What an answer leads to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Next {
    /// Nothing more is to be had from this node.
    LastWord(Outcome),
    /// Send it again after so many µs.
    Again(u64),
}

impl RetryPolicy {
    /// What follows from the `count`th answer of this kind in a row.
    pub(super) fn next(&self, result: &SubmitResult, count: u32) -> Next {
        let growing = |count: u32| {
            let doubled = self.wait_first_micros.saturating_mul(1 << (count - 1).min(16));
            Next::Again(doubled.min(self.wait_max_micros))
        };
        let steady = Next::Again(self.wait_steady_micros);
        let refused = |reason: &str| Next::LastWord(Outcome::Refused(Arc::from(reason)));
        match result {
            SubmitResult::Accepted => Next::LastWord(Outcome::Accepted),
            SubmitResult::Duplicate => Next::LastWord(Outcome::Duplicate),
            SubmitResult::Stale => Next::LastWord(Outcome::Stale),
            SubmitResult::Refused(reason) => refused(reason),
            SubmitResult::NotBest(_) if count < self.tip_attempts_max => steady,
            SubmitResult::NotBest(_) => Next::LastWord(Outcome::Stale),
            SubmitResult::TimeTooNew if count < self.time_attempts_max => steady,
            SubmitResult::TimeTooNew => refused("time-too-new"),
            SubmitResult::MissingPrevious if count < self.previous_attempts_max => growing(count),
            SubmitResult::MissingPrevious => refused("prev-blk-not-found"),
            SubmitResult::InvalidBranch(_) if count < self.previous_attempts_max => growing(count),
            SubmitResult::InvalidBranch(reason) => refused(reason),
            SubmitResult::Unknown(_) => growing(count),
        }
    }
}

impl fmt::Display for SubmitResult {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match (self, self.reason()) {
            (SubmitResult::Unknown(reason), _) => write!(f, "no answer: {reason}"),
            (_, Some(reason)) => f.write_str(reason),
            (SubmitResult::Stale, None) => f.write_str("not on the best chain"),
            (SubmitResult::TimeTooNew, None) => f.write_str("time-too-new"),
            (SubmitResult::MissingPrevious, None) => f.write_str("prev-blk-not-found"),
            (_, None) => f.write_str(self.name()),
        }
    }
}
