//! One turn of a shard.

use session::Tick;

/// What a turn leaves to its host: when the next one must be at the latest, and whether gathering
/// would cost anybody.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Turn {
    /// Completions that brought bytes or a connection. Above 4 it pays to let followers gather.
    pub served: usize,
    /// When the next turn must be at the latest; in the past when more work is at hand now.
    pub deadline: Tick,
    /// A new job is going out: do not gather, and submit at once.
    pub fanning_out: bool,
    /// Every connection is closed, every message was sent: the shard may be dropped.
    pub drained: bool,
}
