//! One node's blocks, and the threads that send them.
//!
//! Urgent blocks go first, and where a node has several threads the last one takes nothing else:
//! a node that does not answer for an old block must not hold up a new one. A block that is queued
//! or under way already is not queued again: its answer is still to come.

use std::collections::{BTreeSet, VecDeque};
use std::io;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::thread;
use std::time::Instant;

use pow::Hash256;

use super::Submitter;
use crate::link::{BlockOutcome, NodeEnd, SubmitBlock, SubmitResult};

/// Tells the clerk that the first byte of a block went out, or that it was tried in vain.
pub(super) type OnSent = Arc<dyn Fn(u8, Hash256) + Send + Sync>;

/// The blocks that wait for one node. Dropping it lets its threads end after the last of them.
pub(super) struct Queue {
    shared: Arc<Shared>,
}

#[derive(Default)]
struct Shared {
    state: Mutex<State>,
    more: Condvar,
}

#[derive(Default)]
struct State {
    urgent: VecDeque<Task>,
    others: VecDeque<Task>,
    /// The blocks that wait or are under way.
    known: BTreeSet<u64>,
    closed: bool,
}

struct Task {
    block: SubmitBlock,
    handed_over: Instant,
}

impl Queue {
    /// Starts the threads of node `number`.
    pub(super) fn start(
        number: u8,
        submitters: Vec<Box<dyn Submitter>>,
        end: &NodeEnd,
        on_sent: &OnSent,
    ) -> io::Result<Queue> {
        let queue = Queue { shared: Arc::default() };
        let count = submitters.len();
        for (place, submitter) in submitters.into_iter().enumerate() {
            let name = match place {
                0 => format!("submit-{number}"),
                _ => format!("submit-{number}.{place}"),
            };
            let worker = Worker {
                shared: queue.shared.clone(),
                urgent_only: place > 0 && place + 1 == count,
                submitter,
                end: end.clone(),
                on_sent: on_sent.clone(),
            };
            thread::Builder::new().name(name).spawn(move || worker.work())?;
        }
        Ok(queue)
    }

    /// Queues a block, unless it is queued or under way.
    pub(super) fn push(&self, block: SubmitBlock, handed_over: Instant) {
        let mut state = self.shared.lock();
        if !state.known.insert(block.id) {
            return;
        }
        let task = Task { block, handed_over };
        match task.block.urgent {
            true => state.urgent.push_back(task),
            false => state.others.push_back(task),
        }
        drop(state);
        self.shared.more.notify_all();
    }
}

impl Drop for Queue {
    fn drop(&mut self) {
        self.shared.lock().closed = true;
        self.shared.more.notify_all();
    }
}

impl Shared {
    // A poisoned queue still holds whole values: nothing panics between two of its fields.
    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn take(&self, urgent_only: bool) -> Option<Task> {
        let mut state = self.lock();
        loop {
            let mut task = state.urgent.pop_front();
            if task.is_none() && !urgent_only {
                task = state.others.pop_front();
            }
            if task.is_some() || state.closed {
                return task;
            }
            state = self.more.wait(state).unwrap_or_else(PoisonError::into_inner);
        }
    }
}

struct Worker {
    shared: Arc<Shared>,
    urgent_only: bool,
    submitter: Box<dyn Submitter>,
    end: NodeEnd,
    on_sent: OnSent,
}

impl Worker {
    fn work(mut self) {
        while let Some(Task { block, handed_over }) = self.shared.take(self.urgent_only) {
            let (hash, node) = (block.facts.hash, block.node);
            let mut first_byte = None;
            let mut sent = || {
                if first_byte.is_none() {
                    first_byte = Some(Instant::now());
                    (self.on_sent)(node, hash);
                }
            };
            // Whatever panics in there, the next block finds this thread at its place.
            let submit = || self.submitter.submit(&block.bytes, &hash, &mut sent);
            let outcome = catch_unwind(AssertUnwindSafe(submit)).unwrap_or_else(|_| {
                BlockOutcome::Unknown("a panic while it was sent: please report it".into())
            });
            (self.on_sent)(node, hash);
            self.shared.lock().known.remove(&block.id);
            self.end.answer(SubmitResult {
                id: block.id,
                node,
                outcome,
                submitted: handed_over,
                first_byte,
                decided: Instant::now(),
            });
        }
    }
}
