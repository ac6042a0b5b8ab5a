//! Tells the log of every found block and of the node's last word on it, from the snapshots.

use farm::Status;
use farm::blocks::{BlockRecord, Outcome};

/// What has been told already.
#[derive(Debug, Default)]
pub(crate) struct BlockLog {
    /// Blocks that were told as submitted, without an outcome.
    open: Vec<u64>,
    /// The highest number that was told.
    told: Option<u64>,
}

impl BlockLog {
    /// Tells what is new since the last snapshot.
    pub(crate) fn tell(&mut self, status: &Status) {
        for block in &status.blocks {
            let fresh = self.told.is_none_or(|told| block.id > told);
            let settled = block.outcome != Outcome::Submitted;
            let waited = self.open.contains(&block.id);
            if fresh {
                self.told = Some(block.id);
            }
            if fresh && !settled {
                self.open.push(block.id);
            }
            if settled && (fresh || waited) {
                self.open.retain(|id| *id != block.id);
                tell(block);
            }
        }
        // What left the snapshot's bounded list will never be told: forgotten, not kept.
        self.open.retain(|id| status.blocks.iter().any(|block| block.id == *id));
    }
}

fn tell(block: &BlockRecord) {
    let hash: String = block.hash.0.iter().rev().map(|byte| format!("{byte:02x}")).collect();
    let (height, worker) = (block.height, &*block.worker);
    match &block.outcome {
        Outcome::Submitted => {}
        Outcome::Accepted => tracing::info!(height, hash, worker, "block accepted"),
        Outcome::Duplicate => {
            tracing::info!(height, hash, worker, "block known to the node already")
        }
        Outcome::Stale => tracing::warn!(height, hash, worker, "block came too late"),
        Outcome::Refused(reason) => {
            tracing::error!(height, hash, worker, %reason, "block refused by the node");
        }
        Outcome::Unknown => tracing::error!(height, hash, worker, "no answer on a block"),
    }
}
