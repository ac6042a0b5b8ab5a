//! The coordinator's host: a glommio executor on the last core that drives `farm::Coordinator`.
//!
//! One pump task does everything: it drains the lanes, the node and the engine's commands, then
//! awaits the event counter that all of them ring. It is never raced against anything, because a
//! cancelled read would lose wakes. A pulse from outside rings once a second and brings the time.
//! It also writes a counter of its own, on which a second task always has a read pending: the way
//! out should the executor ever park while the pump is ready (`host_glommio.rs`).

use std::collections::{BTreeMap, VecDeque};
use std::os::fd::OwnedFd;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::sync::mpsc::{Receiver, Sender};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::time::Instant;

use farm::blocks::{BlockFacts, Journaled, RestoredBlock, SubmitResult};
use farm::extranonce::ShardIndex;
use farm::ledger::WorkerStatus;
use farm::messages::{FromShard, MinerRow};
use farm::outage::{NO_WORK_MICROS, RELEASED_PER_SECOND_MAX};
use farm::{Coordinator, Input, Output, Status, WorkHealth};
use glommio::io::BufferedFile;
use glommio::{ExecutorJoinHandle, LocalExecutorBuilder, Placement};
use node::{BlockOutcome, JournalNote, JournalWord, NodeLink, SubmitBlock};
use session::Tick;

use crate::clock;
use crate::config::StartError;
use crate::fd::as_file;
use crate::host_glommio::{IO_MEMORY_BYTES, PREEMPT};
use crate::lanes::{Bell, BlocksUnderWay, CoordinatorEnd, Heard};

/// How often the farm is told the time, in µs.
const TIMER_US: u64 = 1_000_000;
/// Messages that are taken from one lane before the next one has its turn.
const MESSAGES_PER_LANE: usize = 256;

/// What the engine's handle asks of the coordinator.
pub(crate) enum Command {
    /// List all connections.
    ListMiners(Sender<Miners>),
    /// List some workers from an account's number on, and say where to go on.
    ListWorkers(usize, Sender<(Vec<WorkerStatus>, Option<usize>)>),
    /// Drain every shard.
    Drain,
    /// End the pump.
    Stop,
}

/// Part of the answer to [`Command::ListMiners`].
pub(crate) enum Miners {
    /// Connections of one shard, and whether these were the last of all.
    Rows(Vec<(Option<ShardIndex>, MinerRow)>, bool),
    /// Too many such questions are open.
    Busy,
}

/// What the coordinator publishes.
pub(crate) struct Board {
    state: Mutex<Published>,
    changed: Condvar,
    /// When the pump took its newest turn, in µs. Beside the lock: whoever asks whether the pump
    /// hangs must not wait for it.
    heartbeat_us: AtomicU64,
}

#[derive(Clone)]
struct Published {
    status: Arc<Status>,
    drained: bool,
}

impl Board {
    pub(crate) fn status(&self) -> Arc<Status> {
        self.lock().status.clone()
    }

    /// When the pump took its newest turn.
    pub(crate) fn heartbeat(&self) -> Tick {
        Tick(self.heartbeat_us.load(Relaxed))
    }

    /// Waits until every shard is drained and the node has answered for every block, or until the
    /// moment; tells whether both are so.
    pub(crate) fn wait_drained(&self, until: Instant) -> bool {
        let open = |state: &mut Published| !state.drained || state.status.blocks_unsettled > 0;
        let limit = until.saturating_duration_since(Instant::now());
        let waited = self.changed.wait_timeout_while(self.lock(), limit, open);
        let (state, timeout) = waited.unwrap_or_else(PoisonError::into_inner);
        drop(state);
        !timeout.timed_out()
    }

    fn publish(&self, change: impl FnOnce(&mut Published)) {
        change(&mut self.lock());
        self.changed.notify_all();
    }

    // A poisoned board still holds whole values: they are replaced, never changed in part.
    fn lock(&self) -> MutexGuard<'_, Published> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Everything that the pump works with.
pub(crate) struct Desk {
    coordinator: Coordinator,
    lanes: Vec<CoordinatorEnd>,
    node: NodeLink,
    /// Blocks that the node's line had no room for: tried again at every turn.
    blocks_waiting: VecDeque<SubmitBlock>,
    /// Blocks that came from shards.
    blocks_heard: u64,
    blocks: Arc<BlocksUnderWay>,
    commands: Receiver<Command>,
    askers: BTreeMap<u64, Sender<Miners>>,
    queries: u64,
    board: Arc<Board>,
    timer_due: Tick,
    status_changed: bool,
    drained: bool,
    stopped: bool,
}

impl Desk {
    pub(crate) fn new(
        coordinator: Coordinator,
        lanes: Vec<CoordinatorEnd>,
        node: NodeLink,
        blocks: Arc<BlocksUnderWay>,
        commands: Receiver<Command>,
    ) -> (Desk, Arc<Board>) {
        let published = Published { status: Arc::new(coordinator.status()), drained: false };
        let board = Arc::new(Board {
            state: Mutex::new(published),
            changed: Condvar::new(),
            heartbeat_us: AtomicU64::new(clock::now().as_micros()),
        });
        let desk = Desk {
            coordinator,
            lanes,
            node,
            blocks_waiting: VecDeque::new(),
            blocks_heard: 0,
            blocks,
            commands,
            askers: BTreeMap::new(),
            queries: 0,
            board: board.clone(),
            timer_due: Tick(0),
            status_changed: false,
            drained: false,
            stopped: false,
        };
        (desk, board)
    }

    /// Takes everything that is at hand. Tells how much it was.
    fn turn(&mut self) -> usize {
        self.board.heartbeat_us.store(clock::now().as_micros(), Relaxed);
        let mut taken = self.take_commands() + self.take_from_node();
        for shard in 0..self.lanes.len() {
            taken += self.take_from_shard(shard);
        }
        let now = clock::now();
        if now >= self.timer_due || self.coordinator.deadline().is_some_and(|due| due <= now) {
            self.timer_due = now.plus_micros(TIMER_US);
            self.tell(Input::Timer);
        }
        self.submit_waiting();
        let unsaved = self.coordinator.blocks_unsaved() as u64;
        self.blocks.set_saved(self.blocks_heard - unsaved);
        if std::mem::take(&mut self.status_changed) {
            // Together, so that nobody sees a drained farm with the blocks of a moment before.
            let status = Arc::new(self.coordinator.status());
            let drained = self.drained;
            self.board.publish(|published| *published = Published { status, drained });
        }
        taken
    }

    fn take_commands(&mut self) -> usize {
        let mut taken = 0;
        while let Ok(command) = self.commands.try_recv() {
            taken += 1;
            match command {
                Command::ListMiners(asker) => {
                    self.queries += 1;
                    self.askers.insert(self.queries, asker);
                    self.tell(Input::ListMiners { query: self.queries });
                }
                // An asker that has gone away wants no answer.
                Command::ListWorkers(from, asker) => {
                    drop(asker.send(self.coordinator.workers(from)));
                    // A page a turn: blocks and templates come in between.
                    return taken;
                }
                Command::Drain => self.tell(Input::Drain),
                Command::Stop => self.stopped = true,
            }
        }
        taken
    }

    fn take_from_node(&mut self) -> usize {
        let mut taken = 0;
        // What an earlier process left behind is with the farm before any job.
        while let Some(block) = self.node.try_restored() {
            taken += 1;
            let facts = facts(&block.facts);
            self.tell(Input::Restored(RestoredBlock { bytes: block.bytes, facts }));
        }
        // The node hands over the template that shows it to be up before it says so: read in the
        // other order, the template is the farm's in this turn at the latest.
        if let Some(health) = self.node.try_work() {
            taken += 1;
            self.tell(Input::Work(match health {
                node::WorkHealth::Up => WorkHealth::Up,
                node::WorkHealth::Down => WorkHealth::Down,
            }));
        }
        if let Some(template) = self.node.try_template() {
            taken += 1;
            self.tell(Input::Template(template));
        }
        while let Some(answer) = self.node.try_result() {
            taken += 1;
            let result = verdict(&answer.outcome);
            let first_byte = answer.first_byte.map(tick_of);
            let (id, node) = (answer.id, answer.node);
            self.tell(Input::Submitted { id, node, result, first_byte });
        }
        while let Some(note) = self.node.try_note() {
            taken += 1;
            self.tell(input_of(note));
        }
        taken
    }

    fn take_from_shard(&mut self, shard: usize) -> usize {
        let index = shard_index(shard);
        for taken in 0..MESSAGES_PER_LANE {
            match self.lanes[shard].receive() {
                Some(Heard::Began) => self.tell(Input::ShardStarted(index)),
                Some(Heard::Message(message)) => {
                    self.blocks_heard += u64::from(matches!(message, FromShard::Block(_)));
                    self.tell(Input::FromShard(index, message));
                }
                None => return taken,
            }
        }
        MESSAGES_PER_LANE
    }

    /// Tells the farm something and does what it wants.
    fn tell(&mut self, input: Input) {
        self.coordinator.handle(clock::now(), input);
        while let Some(output) = self.coordinator.poll() {
            self.act(output);
        }
    }

    fn act(&mut self, output: Output) {
        match output {
            Output::ToShard(shard, message) => {
                if let Err(message) = self.lanes[usize::from(shard.0)].send(message) {
                    self.coordinator.unsent(shard, message);
                }
            }
            Output::SubmitBlock(block) => {
                self.blocks_waiting.push_back(SubmitBlock {
                    id: block.id,
                    node: block.node,
                    attempt: block.attempt,
                    urgent: block.urgent,
                    bytes: block.bytes,
                    facts: facts_for_node(&block.facts),
                });
                self.submit_waiting();
            }
            Output::BlockSettled(block) => {
                let farm::blocks::SettledBlock { hash, refused } = block;
                self.node.settle(node::SettledBlock { hash, refused });
            }
            Output::Miners { query, shard, rows, done } => {
                let rows = rows.into_iter().map(|row| (shard, row)).collect();
                self.answer(query, Miners::Rows(rows, done), done);
            }
            Output::MinersBusy { query } => self.answer(query, Miners::Busy, true),
            Output::Drained => {
                self.drained = true;
                self.status_changed = true;
            }
            Output::StatusChanged => self.status_changed = true,
            Output::Released => tracing::warn!(
                "no work for {} s: refusing new miners and closing the others at {} a second, so \
                 that they use their next pools ([failover] no_work = \"park\" keeps them)",
                NO_WORK_MICROS / 1_000_000,
                RELEASED_PER_SECOND_MAX
            ),
            Output::Serving => tracing::info!("there is work again: miners are served"),
        }
    }

    fn submit_waiting(&mut self) {
        while let Some(block) = self.blocks_waiting.pop_front() {
            if let Err(block) = self.node.submit(block) {
                self.blocks_waiting.push_front(block);
                return;
            }
        }
    }

    fn answer(&mut self, query: u64, part: Miners, done: bool) {
        let Some(asker) = self.askers.get(&query) else { return };
        if asker.send(part).is_err() || done {
            self.askers.remove(&query);
        }
    }

    /// Serves until it is told to stop.
    async fn pump(mut self, bell: Arc<Bell>, counter: OwnedFd) {
        let counter = as_file(counter);
        while !self.stopped {
            if self.turn() > 0 {
                continue;
            }
            bell.lie_down();
            if self.turn() == 0 && !self.stopped {
                read_counter(&counter).await;
            }
            bell.get_up();
        }
    }
}

/// The node's crate knows no farm, nor the farm's a node: here they meet.
fn facts(of: &node::BlockFacts) -> Arc<BlockFacts> {
    let node::BlockFacts { hash, height, worker } = of;
    Arc::new(BlockFacts { hash: *hash, height: *height, worker: worker.clone() })
}

fn facts_for_node(of: &BlockFacts) -> Arc<node::BlockFacts> {
    let BlockFacts { hash, height, worker } = of;
    Arc::new(node::BlockFacts { hash: *hash, height: *height, worker: worker.clone() })
}

fn verdict(outcome: &BlockOutcome) -> SubmitResult {
    match outcome {
        BlockOutcome::Unknown(reason) => SubmitResult::Unknown(Arc::from(&**reason)),
        outcome => SubmitResult::from_bip22(outcome.reason()),
    }
}

fn input_of(note: JournalNote) -> Input {
    let JournalNote { id, word } = note;
    let journaled = match word {
        JournalWord::Off => Journaled::Off,
        JournalWord::Written => Journaled::Written,
        JournalWord::Durable => Journaled::Durable,
        JournalWord::Failed(reason) => Journaled::Failed(reason),
        JournalWord::SentFirst => return Input::SentFirst { id },
    };
    Input::Journaled { id, journaled }
}

/// The same moment on the engine's clock, which is the monotonic one too.
fn tick_of(moment: Instant) -> Tick {
    let ago = moment.elapsed().as_micros() as u64;
    Tick(clock::now().as_micros().saturating_sub(ago))
}

fn shard_index(shard: usize) -> ShardIndex {
    ShardIndex(u16::try_from(shard).expect("at most SHARDS_MAX"))
}

async fn read_counter(counter: &BufferedFile) {
    counter.read_at(0, size_of::<u64>()).await.expect("an event counter can be read");
}

/// Starts the coordinator's executor. `rescue` is written once a second by the pulse.
pub(crate) fn start(
    core: usize,
    desk: Desk,
    bell: Arc<Bell>,
    rescue: OwnedFd,
) -> Result<ExecutorJoinHandle<()>, StartError> {
    let counter = bell.counter().map_err(|error| StartError::Os {
        what: "duplicating the coordinator's event counter",
        error,
    })?;
    LocalExecutorBuilder::new(Placement::Fixed(core))
        .name("coordinator")
        .io_memory(IO_MEMORY_BYTES)
        .preempt_timer(PREEMPT)
        .spawn(move || async move {
            let dies = AbortOnPanic;
            let rescue = async move {
                let rescue = as_file(rescue);
                loop {
                    read_counter(&rescue).await;
                }
            };
            let rescue = glommio::spawn_local(rescue);
            desk.pump(bell, counter).await;
            rescue.cancel().await;
            std::mem::forget(dies);
        })
        .map_err(|error| StartError::Executor(error.to_string()))
}

/// Without its coordinator a farm mines on an old tip for ever: better to start again.
struct AbortOnPanic;

impl Drop for AbortOnPanic {
    fn drop(&mut self) {
        tracing::error!("a panic in the coordinator: aborting; please report it");
        std::process::abort();
    }
}
