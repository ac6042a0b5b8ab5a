//! The clerk's way of a block, over a disk that hangs or fails and nodes that do.

use std::io;
use std::sync::mpsc::{Receiver, Sender, channel};
use std::sync::{Arc, Condvar, Mutex};
use std::time::{Duration, Instant, SystemTime};

use pow::Kernel;

use super::journal::storage::Storage;
use super::*;
use crate::link::tests::template;
use crate::link::{
    BlockFacts, JournalNote, JournalWord, NodeLink, SettledBlock, SubmitBlock, SubmitResult, link,
};

const PATIENCE: Duration = Duration::from_secs(20);
const BYTES: u64 = 1 << 20;

/// What a disk does when it is asked to write or to sync.
#[derive(Clone, Copy, Debug, PartialEq)]
enum Mood {
    Works,
    Hangs,
    Fails,
}

struct DiskState {
    bytes: Vec<u8>,
    writes: Mood,
    syncs: Mood,
}

#[derive(Clone)]
struct Disk(Arc<(Mutex<DiskState>, Condvar)>);

impl Disk {
    fn new(writes: Mood, syncs: Mood) -> Disk {
        let state = DiskState { bytes: vec![0; BYTES as usize], writes, syncs };
        Disk(Arc::new((Mutex::new(state), Condvar::new())))
    }

    fn turn(&self, writes: Mood, syncs: Mood) {
        let mut state = self.0.0.lock().expect("no test panics with it");
        (state.writes, state.syncs) = (writes, syncs);
        self.0.1.notify_all();
    }

    fn serve(
        &self,
        of: fn(&DiskState) -> Mood,
        act: impl FnOnce(&mut DiskState),
    ) -> io::Result<()> {
        let state = self.0.0.lock().expect("no test panics with it");
        let hangs = |state: &mut DiskState| of(state) == Mood::Hangs;
        let mut state = self.0.1.wait_while(state, hangs).expect("no test panics with it");
        match of(&state) {
            Mood::Fails => Err(io::Error::from(io::ErrorKind::StorageFull)),
            _ => {
                act(&mut state);
                Ok(())
            }
        }
    }

    fn journal(&self) -> (Journal, Vec<JournaledBlock>) {
        let settled_since = SystemTime::now() + Duration::from_secs(60);
        Journal::on(Arc::new(self.clone()), [7; 16], BYTES, settled_since, Vec::new())
    }
}

impl Storage for Disk {
    fn read_at(&self, into: &mut [u8], at: u64) -> io::Result<usize> {
        let state = self.0.0.lock().expect("no test panics with it");
        let from = state.bytes.get(at as usize..).unwrap_or_default();
        let count = from.len().min(into.len());
        into[..count].copy_from_slice(&from[..count]);
        Ok(count)
    }

    fn write_at(&self, bytes: &[u8], at: u64) -> io::Result<usize> {
        let place = at as usize..at as usize + bytes.len();
        self.serve(|state| state.writes, |state| state.bytes[place].copy_from_slice(bytes))?;
        Ok(bytes.len())
    }

    fn sync(&self) -> io::Result<()> {
        self.serve(|state| state.syncs, |_| {})
    }
}

/// A node in the test's hands: it tells of each block, and answers what it is told.
struct Puppet {
    came: Sender<Hash256>,
    answers: Receiver<BlockOutcome>,
}

struct Strings {
    came: Receiver<Hash256>,
    answers: Sender<BlockOutcome>,
}

fn puppet() -> (Box<dyn Submitter>, Strings) {
    let (came, hears) = channel();
    let (says, answers) = channel();
    (Box::new(Puppet { came, answers }), Strings { came: hears, answers: says })
}

impl Submitter for Puppet {
    fn submit(&mut self, _: &[u8], hash: &Hash256, sent: &mut dyn FnMut()) -> BlockOutcome {
        sent();
        // A test that has ended hears nothing more.
        let _ = self.came.send(*hash);
        self.answers.recv().expect("the test answers every block")
    }
}

impl Strings {
    fn next(&self) -> Hash256 {
        self.came.recv_timeout(PATIENCE).expect("a block comes")
    }

    fn say(&self, outcome: BlockOutcome) {
        self.answers.send(outcome).expect("the node listens");
    }
}

fn block(id: u64, node: u8) -> SubmitBlock {
    let bytes: Arc<[u8]> = Arc::from([id as u8; 200]);
    let hash = Kernel::detect().sha256d(&bytes[..80]);
    let facts = Arc::new(BlockFacts { hash, height: 1, worker: "rig".into() });
    SubmitBlock { id, node, attempt: 1, urgent: true, bytes, facts }
}

fn retried(id: u64) -> SubmitBlock {
    SubmitBlock { attempt: 2, urgent: false, ..block(id, 0) }
}

/// Waits for something that another thread brings.
fn wait<T>(link: &NodeLink, mut poll: impl FnMut(&NodeLink) -> Option<T>) -> T {
    let (woken, wakes) = channel();
    link.set_waker(Arc::new(move || {
        // The receiver is gone once the news was read.
        let _ = woken.send(());
    }));
    loop {
        if let Some(value) = poll(link) {
            return value;
        }
        wakes.recv_timeout(PATIENCE).expect("the clerk wakes us for news");
    }
}

fn answer(link: &NodeLink) -> SubmitResult {
    wait(link, NodeLink::try_result)
}

fn note(link: &NodeLink) -> JournalNote {
    wait(link, NodeLink::try_note)
}

fn words(link: &NodeLink, id: u64, count: usize) -> Vec<JournalWord> {
    let notes = (0..count).map(|_| note(link));
    notes.map(|note| (note.id == id).then_some(note.word).expect("of this block")).collect()
}

fn one_node(disk: &Disk) -> (NodeLink, Strings) {
    let (link, end) = link();
    let (node, strings) = puppet();
    start(end, Some(disk.journal()), vec![vec![node]]).expect("threads");
    (link, strings)
}

#[test]
fn a_block_is_in_the_journal_before_it_goes_out_and_until_it_is_settled() {
    let disk = Disk::new(Mood::Works, Mood::Works);
    let (line, node) = one_node(&disk);
    let block = block(1, 0);
    let hash = block.facts.hash;
    line.submit(block).expect("room");
    assert_eq!(node.next(), hash);
    let left = disk.journal().1;
    assert_eq!((left[0].facts.hash, &*left[0].bytes), (hash, &[1; 200][..]), "kill -9 here");
    assert_eq!(words(&line, 1, 2), [JournalWord::Written, JournalWord::Durable]);
    node.say(BlockOutcome::Accepted);
    let said = answer(&line);
    assert_eq!((said.id, said.node, said.outcome), (1, 0, BlockOutcome::Accepted));
    let first_byte = said.first_byte.expect("it went out");
    assert!(said.submitted <= first_byte && first_byte <= said.decided);
    assert_eq!(disk.journal().1.len(), 1, "an answer alone settles nothing");
    line.settle(SettledBlock { hash, refused: false });
    // The engine's end waits for the mark.
    drop(line);
    assert!(disk.journal().1.is_empty());
}

#[test]
fn a_disk_that_hangs_delays_no_block_by_more_than_its_time() {
    let disk = Disk::new(Mood::Hangs, Mood::Works);
    let (line, node) = one_node(&disk);
    let began = Instant::now();
    line.submit(block(1, 0)).expect("room");
    node.next();
    let waited = began.elapsed();
    assert!(waited >= JOURNAL_WAIT_MAX, "{waited:?}: it was worth a try");
    assert!(waited < JOURNAL_WAIT_MAX * 20, "{waited:?}");
    assert_eq!(words(&line, 1, 1), [JournalWord::SentFirst]);
    node.say(BlockOutcome::Accepted);
    answer(&line);
    // The next one does not wait for a disk that is known to hang.
    line.submit(block(2, 0)).expect("room");
    assert_eq!(words(&line, 2, 1), [JournalWord::SentFirst]);
    node.next();
    assert!(disk.journal().1.is_empty());
    disk.turn(Mood::Works, Mood::Works);
    let mut written = Vec::new();
    while written.len() < 2 {
        let JournalNote { id, word } = note(&line);
        if word == JournalWord::Durable {
            written.push(id);
        }
    }
    assert_eq!(disk.journal().1.len(), 2, "written after all, and not settled yet");
    node.say(BlockOutcome::Accepted);
    // All is well again: the next block is written before it goes.
    line.submit(block(3, 0)).expect("room");
    node.next();
    assert_eq!(words(&line, 3, 2), [JournalWord::Written, JournalWord::Durable]);
    node.say(BlockOutcome::Accepted);
}

#[test]
fn a_disk_that_is_known_to_hang_delays_no_block_at_all() {
    let disk = Disk::new(Mood::Hangs, Mood::Works);
    let (line, node) = one_node(&disk);
    let mut waits = Vec::new();
    for id in 1..=6 {
        let began = Instant::now();
        let block = block(id, 0);
        let hash = block.facts.hash;
        line.submit(block).expect("room");
        node.next();
        waits.push(began.elapsed());
        node.say(BlockOutcome::Accepted);
        answer(&line);
        // What is settled without the disk does not make it a good one.
        line.settle(SettledBlock { hash, refused: false });
    }
    assert!(waits[0] >= JOURNAL_WAIT_MAX, "{waits:?}: the first was worth a try");
    // One quick one shows it: nothing but the wait takes so long each time.
    assert!(waits[1..].iter().any(|wait| *wait < JOURNAL_WAIT_MAX), "{waits:?}");
    disk.turn(Mood::Works, Mood::Works);
}

#[test]
fn a_sync_that_hangs_or_fails_delays_nothing() {
    let disk = Disk::new(Mood::Works, Mood::Hangs);
    let (line, node) = one_node(&disk);
    for id in 1..=2 {
        line.submit(block(id, 0)).expect("room");
        node.next();
        assert_eq!(words(&line, id, 1), [JournalWord::Written]);
        node.say(BlockOutcome::Accepted);
        answer(&line);
    }
    assert_eq!(disk.journal().1.len(), 2);
    disk.turn(Mood::Works, Mood::Fails);
    for _ in 0..2 {
        let word = note(&line).word;
        assert!(matches!(&word, JournalWord::Failed(why) if why.contains("sync")), "{word:?}");
    }
}

#[test]
fn a_full_disk_is_said_and_tried_again_with_the_next_attempt() {
    let disk = Disk::new(Mood::Fails, Mood::Works);
    let (line, node) = one_node(&disk);
    line.submit(block(1, 0)).expect("room");
    node.next();
    let word = words(&line, 1, 1).remove(0);
    assert!(matches!(&word, JournalWord::Failed(why) if why.contains("write")), "{word:?}");
    node.say(BlockOutcome::Unknown("nobody there".into()));
    answer(&line);
    disk.turn(Mood::Works, Mood::Works);
    line.submit(retried(1)).expect("room");
    node.next();
    assert_eq!(words(&line, 1, 2), [JournalWord::Written, JournalWord::Durable]);
    node.say(BlockOutcome::Accepted);
}

#[test]
fn what_an_earlier_process_left_goes_out_before_any_template() {
    let disk = Disk::new(Mood::Works, Mood::Works);
    let (line, node) = one_node(&disk);
    for id in 1..=3 {
        line.submit(block(id, 0)).expect("room");
    }
    node.next();
    words(&line, 1, 1);
    while disk.journal().1.len() < 3 {
        std::thread::yield_now();
    }
    // It dies here: nothing was answered. The next process reads the same disk.
    let (line, end) = link();
    let (puppets, strings): (Vec<_>, Vec<_>) = (0..2).map(|_| puppet()).unzip();
    let nodes = puppets.into_iter().map(|puppet| vec![puppet]).collect();
    start(end.clone(), Some(disk.journal()), nodes).expect("threads");
    end.publish(template(8));
    assert!(line.try_template().is_none());
    for id in 1..=3 {
        let restored = line.try_restored().expect("all three, in their order");
        assert_eq!(&*restored.bytes, [id as u8; 200]);
        for node in 0..2 {
            let (bytes, facts) = (restored.bytes.clone(), restored.facts.clone());
            let block = SubmitBlock { id, node, attempt: 1, urgent: false, bytes, facts };
            line.submit(block).expect("room");
        }
    }
    for round in 1..=3 {
        for node in &strings {
            node.next();
        }
        if round < 3 {
            // The next block waits for the answer to this one.
            assert!(line.try_template().is_none(), "round {round}: not all are sent");
            strings.iter().for_each(|node| node.say(BlockOutcome::Duplicate));
        }
    }
    // Their answers are not awaited.
    assert_eq!(wait(&line, NodeLink::try_template).height, 8);
    strings.iter().for_each(|node| node.say(BlockOutcome::Duplicate));
    assert!(line.try_note().is_none(), "they were in the journal all along");
}

#[test]
fn a_node_that_is_dead_holds_up_neither_the_other_nor_a_newer_block() {
    let (line, end) = link();
    let (dead, silent) = puppet();
    let (reserve, quick) = puppet();
    let (living, node) = puppet();
    start(end, None, vec![vec![dead, reserve], vec![living]]).expect("threads");
    let old = SubmitBlock { urgent: false, ..block(1, 0) };
    line.submit(old.clone()).expect("room");
    assert_eq!(silent.next(), old.facts.hash);
    assert_eq!(words(&line, 1, 1), [JournalWord::Off]);
    // The first thread of that node is taken; another old block waits, a new one does not.
    line.submit(SubmitBlock { urgent: false, ..block(2, 0) }).expect("room");
    let new = block(3, 0);
    line.submit(new.clone()).expect("room");
    assert_eq!(quick.next(), new.facts.hash);
    line.submit(SubmitBlock { node: 1, ..new }).expect("room");
    node.next();
    node.say(BlockOutcome::Accepted);
    assert_eq!(answer(&line).node, 1);
    // An attempt that is under way is not made twice.
    line.submit(SubmitBlock { attempt: 2, ..old }).expect("room");
    silent.say(BlockOutcome::Unknown("at last".into()));
    assert_eq!(answer(&line).id, 1);
    assert_eq!(silent.next(), block(2, 0).facts.hash);
    assert!(silent.came.try_recv().is_err());
    silent.say(BlockOutcome::Accepted);
    quick.say(BlockOutcome::Accepted);
}

#[test]
fn a_panic_on_the_way_costs_one_attempt() {
    let (line, end) = link();
    let (node, Strings { came, answers }) = puppet();
    start(end, None, vec![vec![node]]).expect("threads");
    line.submit(block(1, 0)).expect("room");
    came.recv_timeout(PATIENCE).expect("it came");
    drop(answers);
    for id in 1..=2 {
        let said = answer(&line);
        assert_eq!(said.id, id);
        assert!(matches!(said.outcome, BlockOutcome::Unknown(_)), "{said:?}");
        line.submit(block(id + 1, 0)).expect("room");
    }
}
