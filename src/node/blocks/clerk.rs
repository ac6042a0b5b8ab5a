//! The clerk: takes blocks off the line, has each written down, and lets it go to its node.
//!
//! A block waits for the journal's `write()` for at most [`JOURNAL_WAIT_MAX`], and not at all
//! while the disk is known to hang; then it goes out unwritten, and that is said. All nodes get it
//! in the same moment. Blocks that an earlier process left behind are in the journal already: they
//! go out at once, and no template passes before they have, or [`RESTORED_SENT_MAX`] is over.
//!
//! The clerk's thread waits in one place, for the line, and is nudged by the journal's threads and
//! the nodes'. It decides nothing about answers: those go straight back to the engine.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::io;
use std::sync::{Arc, Mutex, PoisonError};
use std::thread;
use std::time::{Duration, Instant};

use pow::Hash256;

use super::Submitter;
use super::journal::{Journal, JournaledBlock, News, OnNews, What, Writer};
use super::queue::{OnSent, Queue};
use crate::link::{
    BlockSource, JournalNote, JournalWord, NodeEnd, RestoredBlock, SettledBlock, SubmitBlock,
};

/// A block waits no longer than this to be written down: a slow disk must not cost the block.
pub const JOURNAL_WAIT_MAX: Duration = Duration::from_millis(50);
/// Templates wait no longer than this for blocks of an earlier process to be sent: a node that
/// cannot be reached must not keep the farm from its work.
pub const RESTORED_SENT_MAX: Duration = Duration::from_secs(5);
/// How long the clerk's end may take: what was settled last is still written down.
const END_MAX: Duration = Duration::from_millis(200);
/// The clerk looks up so often without being nudged; nothing depends on it.
const IDLE: Duration = Duration::from_secs(60);

/// What other threads tell the clerk.
enum Told {
    Journal(News),
    Sent(u8, Hash256),
}

type Inbox = Arc<Mutex<VecDeque<Told>>>;

struct Clerk {
    end: NodeEnd,
    journal: Option<Writer>,
    queues: Vec<Queue>,
    inbox: Inbox,
    papers: BTreeMap<[u8; 32], Paper>,
    /// Blocks that wait to be written down, in the order in which they came.
    held: VecDeque<Held>,
    /// What of an earlier process still has to go out before templates may pass.
    unsent: BTreeSet<(u8, [u8; 32])>,
    unsent_until: Instant,
    keeps_templates: bool,
}

/// How it stands with the journal's record of one block.
struct Paper {
    id: u64,
    state: PaperState,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum PaperState {
    /// The journal was asked to write it.
    Asked(Instant),
    /// It is in the journal.
    Written,
    /// It is not, and will not be without another try.
    Failed,
}

struct Held {
    block: SubmitBlock,
    handed_over: Instant,
}

/// Starts the clerk and all threads behind it.
pub(super) fn start(
    end: NodeEnd,
    journal: Option<(Journal, Vec<JournaledBlock>)>,
    nodes: Vec<Vec<Box<dyn Submitter>>>,
) -> io::Result<()> {
    let inbox = Inbox::default();
    let tell: Arc<dyn Fn(Told) + Send + Sync> = {
        let (inbox, end) = (inbox.clone(), end.clone());
        Arc::new(move |told| {
            inbox.lock().unwrap_or_else(PoisonError::into_inner).push_back(told);
            end.nudge();
        })
    };
    let telling = tell.clone();
    let on_news: OnNews = Arc::new(move |news| telling(Told::Journal(news)));
    let on_sent: OnSent = Arc::new(move |node, hash| tell(Told::Sent(node, hash)));
    let mut clerk = Clerk {
        end: end.clone(),
        journal: None,
        queues: Vec::new(),
        inbox,
        papers: BTreeMap::new(),
        held: VecDeque::new(),
        unsent: BTreeSet::new(),
        unsent_until: Instant::now() + RESTORED_SENT_MAX,
        keeps_templates: false,
    };
    for (number, submitters) in (0..).zip(nodes) {
        clerk.queues.push(Queue::start(number, submitters, &end, &on_sent)?);
    }
    if let Some((journal, left)) = journal {
        clerk.journal = Some(journal.start(on_news)?);
        clerk.restore(left);
    }
    end.serve(true);
    let serving = thread::Builder::new().name("blocks".into()).spawn(move || clerk.serve());
    if serving.is_err() {
        end.serve(false);
    }
    serving.map(drop)
}

impl Clerk {
    fn restore(&mut self, left: Vec<JournaledBlock>) {
        for block in &left {
            let hash = block.facts.hash.0;
            self.papers.insert(hash, Paper { id: 0, state: PaperState::Written });
            self.unsent.extend((0..).take(self.queues.len()).map(|node| (node, hash)));
        }
        self.keeps_templates = !left.is_empty();
        let restored = left.into_iter();
        let restored = restored
            .map(|JournaledBlock { bytes, facts, .. }| RestoredBlock { bytes, facts })
            .collect();
        self.end.restore(restored);
    }

    fn serve(mut self) {
        loop {
            match self.end.wait(self.patience()) {
                BlockSource::Block { block, submitted } => self.take(block, submitted),
                BlockSource::Settled(block) => self.settle(block),
                BlockSource::Nothing => {}
                BlockSource::Closed => break,
            }
            self.hear();
            self.release_overdue(Instant::now());
            self.release_templates(Instant::now());
        }
        // Nobody waits for answers any more, but what was handed over is still sent.
        while let Some(held) = self.held.pop_front() {
            self.send(held);
        }
        self.queues.clear();
        if let Some(journal) = self.journal.take() {
            journal.end(END_MAX);
        }
        self.end.serve(false);
    }

    /// Until something is due without anybody's nudge.
    fn patience(&self) -> Duration {
        let held = self.held.iter().filter_map(|held| self.waits_until(&held.block));
        let gate = (!self.unsent.is_empty()).then_some(self.unsent_until);
        let due = held.chain(gate).min();
        due.map_or(IDLE, |due| due.saturating_duration_since(Instant::now()))
    }

    fn take(&mut self, block: SubmitBlock, handed_over: Instant) {
        let now = Instant::now();
        self.write_down(&block, now);
        match self.waits_until(&block) {
            Some(until) if until > now => self.held.push_back(Held { block, handed_over }),
            _ => self.send(Held { block, handed_over }),
        }
    }

    /// Has a block written down that is not: for the first time, or because that failed before.
    fn write_down(&mut self, block: &SubmitBlock, now: Instant) {
        let Some(journal) = &self.journal else {
            if block.attempt == 1 {
                self.say(block.id, JournalWord::Off);
            }
            return;
        };
        let hangs = journal.hangs(now, JOURNAL_WAIT_MAX);
        if let Some(paper) = self.papers.get_mut(&block.facts.hash.0) {
            paper.id = block.id;
            if paper.state != PaperState::Failed {
                return;
            }
        }
        let (id, hash) = (block.id, block.facts.hash.0);
        match journal.write(&block.facts, &block.bytes) {
            Ok(()) => {
                // On a disk that hangs nobody waits: this one goes out as if its time were over.
                let asked = if hangs { now.checked_sub(JOURNAL_WAIT_MAX) } else { Some(now) };
                let state = PaperState::Asked(asked.unwrap_or(now));
                self.papers.insert(hash, Paper { id, state });
                if hangs {
                    self.say(id, JournalWord::SentFirst);
                }
            }
            Err(reason) => {
                self.papers.insert(hash, Paper { id, state: PaperState::Failed });
                self.say(id, JournalWord::Failed(reason));
            }
        }
    }

    /// Whether a block waits for its record, and how long at most.
    fn waits_until(&self, block: &SubmitBlock) -> Option<Instant> {
        match self.papers.get(&block.facts.hash.0)?.state {
            PaperState::Asked(since) => Some(since + JOURNAL_WAIT_MAX),
            PaperState::Written | PaperState::Failed => None,
        }
    }

    fn settle(&mut self, block: SettledBlock) {
        self.papers.remove(&block.hash.0);
        if let Some(journal) = &self.journal {
            journal.settle(block);
        }
    }

    fn hear(&mut self) {
        loop {
            let told = self.inbox.lock().unwrap_or_else(PoisonError::into_inner).pop_front();
            match told {
                Some(Told::Journal(News { hash, what })) => self.hear_journal(hash, what),
                Some(Told::Sent(node, hash)) => {
                    self.unsent.remove(&(node, hash.0));
                }
                None => return,
            }
        }
    }

    fn hear_journal(&mut self, hash: Hash256, what: What) {
        // What is settled meanwhile is nobody's concern any more.
        let Some(paper) = self.papers.get_mut(&hash.0) else { return };
        let id = paper.id;
        let word = match what {
            What::Written => {
                paper.state = PaperState::Written;
                JournalWord::Written
            }
            What::Durable => JournalWord::Durable,
            What::Unwritten(reason) => {
                paper.state = PaperState::Failed;
                JournalWord::Failed(reason)
            }
            What::Unsynced(reason) => JournalWord::Failed(reason),
        };
        self.say(id, word);
        self.release(|held| held.block.facts.hash == hash);
    }

    /// Sends what has waited long enough, and says that it went out unwritten.
    fn release_overdue(&mut self, now: Instant) {
        let overdue = |held: &&Held| self.waits_until(&held.block).is_some_and(|it| it <= now);
        let ids: BTreeSet<u64> = self.held.iter().filter(overdue).map(|it| it.block.id).collect();
        for id in &ids {
            self.say(*id, JournalWord::SentFirst);
        }
        self.release(|held| ids.contains(&held.block.id));
    }

    fn release(&mut self, free: impl Fn(&Held) -> bool) {
        for held in std::mem::take(&mut self.held) {
            match free(&held) {
                true => self.send(held),
                false => self.held.push_back(held),
            }
        }
    }

    fn send(&self, Held { block, handed_over }: Held) {
        // The desk numbers the nodes that it was told of, and these are they.
        if let Some(queue) = self.queues.get(usize::from(block.node)) {
            queue.push(block, handed_over);
        }
    }

    fn release_templates(&mut self, now: Instant) {
        if self.keeps_templates && (self.unsent.is_empty() || now >= self.unsent_until) {
            self.keeps_templates = false;
            self.unsent.clear();
            self.end.release_templates();
        }
    }

    fn say(&self, id: u64, word: JournalWord) {
        self.end.note(JournalNote { id, word });
    }
}
