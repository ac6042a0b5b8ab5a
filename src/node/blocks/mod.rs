//! From the engine's hands to every node, by way of the journal: no block is lost to a crash.
//!
//! ```text
//! NodeEnd ─► clerk ─► journal   write() of the whole block, then fsync beside everything else
//!              │         │      at most 50 ms are spent on waiting for the write()
//!              └────◄────┘
//!              ├─► queue of node 0 ─► its submit threads ─► answer ─► NodeEnd
//!              └─► queue of node 1 ─► …
//! ```
//!
//! Read `clerk` (what happens when), `journal` (what is on disk and survives what), `queue` (one
//! node's blocks and its threads). A node is anything that implements [`Submitter`].
//!
//! Deliberately absent: what an answer means and when a block is tried again (`farm::blocks`), and
//! how a node is talked to.

mod clerk;
mod journal;
mod queue;
pub mod rpc;
#[cfg(test)]
mod tests;

use std::io;

use pow::Hash256;

pub use self::clerk::{JOURNAL_WAIT_MAX, RESTORED_SENT_MAX};
pub use self::journal::{JOURNAL_BYTES, Journal, JournalError, JournaledBlock};
use crate::link::{BlockOutcome, NodeEnd};

/// One way to a node, used by one thread, which may block in it.
pub trait Submitter: Send {
    /// Sends a block and waits for the verdict. `sent` is called when its first byte goes out.
    ///
    /// The time that this takes must be bounded: meanwhile no other block goes this way.
    fn submit(&mut self, block: &[u8], hash: &Hash256, sent: &mut dyn FnMut()) -> BlockOutcome;
}

/// Starts the threads that serve the line's blocks: the clerk, the journal's two where there is a
/// journal, and one for each submitter. `nodes` are in the order of their numbers; the last
/// submitter of a node that has several takes urgent blocks only. They end once the engine has
/// dropped its link and everything that it handed over was sent.
///
/// Call it before anything is published: the journal's unsettled blocks keep templates back until
/// they are sent.
///
/// # Errors
/// The host has no thread left.
pub fn start(
    end: NodeEnd,
    journal: Option<(Journal, Vec<JournaledBlock>)>,
    nodes: Vec<Vec<Box<dyn Submitter>>>,
) -> io::Result<()> {
    clerk::start(end, journal, nodes)
}
