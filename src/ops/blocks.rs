//! Tells the log of every found block, of every change in what nodes and the journal say of it, and
//! of the last word: one line each, from the snapshots.

use std::collections::BTreeMap;

use farm::Status;
use farm::blocks::{BlockRecord, Journaled, Outcome, SubmitResult};

/// What has been told already.
#[derive(Debug, Default)]
pub(crate) struct BlockLog {
    /// By the block's number; what left the snapshot's bounded list is forgotten.
    told: BTreeMap<u64, Told>,
    /// The highest number that was told.
    newest: Option<u64>,
}

/// What was told of one block.
#[derive(Debug)]
struct Told {
    outcome: Outcome,
    journal_failed: bool,
    sent_first: bool,
    answers: Vec<Option<SubmitResult>>,
}

impl Told {
    fn new(nodes: usize) -> Told {
        let (outcome, answers) = (Outcome::Submitted, vec![None; nodes]);
        Told { outcome, journal_failed: false, sent_first: false, answers }
    }
}

impl BlockLog {
    /// Tells what is new since the last snapshot. `name_of` gives a node's name.
    pub(crate) fn tell(&mut self, status: &Status, name_of: impl Fn(usize) -> String) {
        for block in &status.blocks {
            if self.newest.is_none_or(|newest| block.id > newest) {
                self.newest = Some(block.id);
                self.told.insert(block.id, Told::new(block.nodes.len()));
                tell_found(block);
            }
            if let Some(told) = self.told.get_mut(&block.id) {
                tell_journal(block, told);
                tell_answers(block, told, &name_of);
                if told.outcome != block.outcome {
                    told.outcome = block.outcome.clone();
                    tell_outcome(block);
                }
            }
        }
        self.told.retain(|id, _| status.blocks.iter().any(|block| block.id == *id));
    }
}

fn hash(block: &BlockRecord) -> String {
    block.facts.hash.0.iter().rev().map(|byte| format!("{byte:02x}")).collect()
}

fn tell_found(block: &BlockRecord) {
    let (height, hash, worker) = (block.facts.height, hash(block), &*block.facts.worker);
    if block.restored {
        let what = "block of an earlier process: the journal had it, and it is sent again";
        tracing::warn!(height, hash, worker, "{what}");
    } else {
        tracing::info!(height, hash, worker, late = block.late, "block found");
    }
}

fn tell_journal(block: &BlockRecord, told: &mut Told) {
    let (height, hash) = (block.facts.height, hash(block));
    if block.sent_first && !told.sent_first {
        told.sent_first = true;
        tracing::warn!(height, hash, "block sent before it was journaled: the disk is slow");
    }
    if let (Journaled::Failed(reason), false) = (&block.journaled, told.journal_failed) {
        told.journal_failed = true;
        tracing::error!(height, hash, %reason, "block not journaled: a crash now would lose it");
    }
}

fn tell_answers(block: &BlockRecord, told: &mut Told, name_of: &impl Fn(usize) -> String) {
    let (height, hash) = (block.facts.height, hash(block));
    let first_byte_us = block.first_byte_micros();
    for (place, (said, told)) in block.nodes.iter().zip(&mut told.answers).enumerate() {
        let Some(answer) = said.answer.as_ref().filter(|answer| Some(*answer) != told.as_ref())
        else {
            continue;
        };
        *told = Some(answer.clone());
        let (node, attempt) = (name_of(place), said.attempts);
        let what = format!("block answered: {answer}");
        match answer {
            SubmitResult::Accepted | SubmitResult::Duplicate => {
                tracing::info!(height, hash, node, attempt, first_byte_us, "{what}");
            }
            _ => tracing::warn!(height, hash, node, attempt, first_byte_us, "{what}"),
        }
    }
}

fn tell_outcome(block: &BlockRecord) {
    let (height, hash, worker) = (block.facts.height, hash(block), &*block.facts.worker);
    match &block.outcome {
        Outcome::Submitted => {}
        Outcome::Accepted => tracing::info!(height, hash, worker, "block accepted"),
        Outcome::Duplicate => {
            tracing::info!(height, hash, worker, "block known to the node already")
        }
        Outcome::Stale => tracing::warn!(height, hash, worker, "block came too late"),
        Outcome::Refused(reason) => {
            let what = "block refused by the node: it is kept in the journal; please look into it";
            tracing::error!(height, hash, worker, %reason, "{what}");
        }
    }
}
