//! The farm's side of everything, as one sans-IO value: templates in, jobs out to every shard;
//! leases, reports and blocks in from the shards; whole blocks out to the node.
//!
//! `engine` hosts it on a core of its own and drives it by `handle` and then `poll` until `None`.
//! It never waits: what a lane or a node cannot take stays here under a limit.

use alloc::boxed::Box;
use alloc::collections::{BTreeMap, BTreeSet, VecDeque};
use alloc::sync::Arc;
use alloc::vec::Vec;

use pow::{Kernel, Template};
use session::{Job, Memory, Remembered, SessionId, Tick};

use crate::blocks::{
    BlockDesk, Journaled, RestoredBlock, RetryPolicy, SettledBlock, SubmitBlock, SubmitResult,
};
use crate::extranonce::{Horizon, PrefixRange, ShardIndex, Space, SpaceError};
use crate::jobs::{JobError, JobMaker, JobSettings, OUTBOX_MESSAGES_MAX, Outbox};
use crate::ledger::{Ledger, Report, WorkerStatus};
use crate::messages::{FromShard, MinerRow, ParkedSession, ToShard};
use crate::outage::{NoWork, Outage, RELEASED_PER_SECOND_MAX, Turn, WorkHealth};
use crate::resume::Directory;
use crate::status::{JOBS_SHOWN_MAX, JobStatus, ShardStatus, SpaceStatus, Status, WorkState};

/// Without a template for this long the status says that the source is silent, in µs. Nodes send
/// one at least every 60 s, because fees change; twice that is a fault and no slow minute.
pub const TEMPLATE_SILENCE_MICROS: u64 = 120_000_000;
/// Questions for the list of miners that are open at once: each walks every connection.
pub const MINER_QUERIES_MAX: usize = 4;
/// Workers of one answer: about 100 µs of the coordinator's time.
const WORKERS_PER_PAGE: usize = 1_024;
/// Workers of one message of where they have settled: about 100 µs of a shard's time.
const REMEMBERED_PER_MESSAGE: usize = 256;

/// A report is only sent back to a shard for which fewer messages wait. With one lease, the open
/// questions, where workers have settled, whether there is work and the drain this stays below what
/// an outbox holds, so that none of them is refused.
const RECYCLED_WAITING_MAX: usize = 8;

const _: () = assert!(RECYCLED_WAITING_MAX + MINER_QUERIES_MAX + 4 < OUTBOX_MESSAGES_MAX);

/// Sessions on their way to a shard find a place only where fewer messages wait: what waits for a
/// shard that takes nothing is not worth more than the rest. Who hears nothing begins a new
/// session.
const RESUMES_WAITING_MAX: usize = 15;

const _: () = assert!(
    RESUMES_WAITING_MAX + RECYCLED_WAITING_MAX + MINER_QUERIES_MAX + 4 < OUTBOX_MESSAGES_MAX
);

/// What the coordinator is told.
#[derive(Debug)]
pub enum Input {
    /// The source of work has a new template.
    Template(Arc<Template>),
    /// The source of work can give none any more, or can again: then the template that shows it
    /// came before.
    Work(WorkHealth),
    /// A node's answer to [`Output::SubmitBlock`], or that none came.
    Submitted {
        /// The number of the submission.
        id: u64,
        /// Which node.
        node: u8,
        /// The answer.
        result: SubmitResult,
        /// When the first byte went out, if any did.
        first_byte: Option<Tick>,
    },
    /// A block that the journal still had when the process started.
    Restored(RestoredBlock),
    /// What the journal says of a block.
    Journaled {
        /// The number of the submission.
        id: u64,
        /// Where it stands.
        journaled: Journaled,
    },
    /// A block went out before the journal had it: the disk took too long.
    SentFirst {
        /// The number of the submission.
        id: u64,
    },
    /// A shard's message.
    FromShard(ShardIndex, FromShard),
    /// A shard runs and its lane is open. A shard of that index that ran before is dead.
    ShardStarted(ShardIndex),
    /// A shard is gone and its lane was read to the end.
    ShardDied(ShardIndex),
    /// An operator wants to see the connections; answered by [`Output::Miners`].
    ListMiners {
        /// The asker's number, not used by another open question.
        query: u64,
    },
    /// Drain every shard; answered by [`Output::Drained`].
    Drain,
    /// Time has passed. Wanted once a second, and at [`Coordinator::deadline`].
    Timer,
}

/// What the coordinator wants.
#[derive(Debug)]
pub enum Output {
    /// A message for a shard's lane. If the lane is full, hand it to [`Coordinator::unsent`].
    ToShard(ShardIndex, ToShard),
    /// A block for one node, now; each node has its own.
    SubmitBlock(SubmitBlock),
    /// Nothing more is to be done for this block: its record in the journal is over.
    BlockSettled(SettledBlock),
    /// Connections, for the question `query`.
    Miners {
        /// The asker's number.
        query: u64,
        /// The shard that serves these connections; `None` where no shard is left to answer.
        shard: Option<ShardIndex>,
        /// Some of its connections.
        rows: Vec<MinerRow>,
        /// Every shard has answered to the end.
        done: bool,
    },
    /// [`MINER_QUERIES_MAX`] questions are open: ask later.
    MinersBusy {
        /// The asker's number.
        query: u64,
    },
    /// Every shard is drained.
    Drained,
    /// There was no work for [`crate::outage::NO_WORK_MICROS`]: miners are released.
    Released,
    /// There is work again for a farm that had released its miners.
    Serving,
    /// [`Coordinator::status`] has changed.
    StatusChanged,
}

/// What the farm's coordinator starts from.
#[derive(Clone, Debug)]
pub struct CoordinatorSettings {
    /// What all jobs have in common; the extranonce space has its `extranonce1_size`.
    pub jobs: JobSettings,
    /// The nodes that blocks go to, at least one.
    pub nodes: usize,
    /// When blocks are submitted again.
    pub retry: RetryPolicy,
    /// The silence after which the source of work is said to be silent, in µs.
    pub template_silence_micros: u64,
    /// What becomes of the miners when there is no work.
    pub no_work: NoWork,
}

/// The farm's coordinator.
pub struct Coordinator {
    now: Tick,
    started: Tick,
    jobs: JobMaker,
    newest: Option<Arc<Job>>,
    /// What is shown of the newest jobs, oldest first.
    job_facts: VecDeque<JobStatus>,
    horizon: Horizon,
    template_at: Option<Tick>,
    jobs_made: u64,
    jobs_refused: u64,
    job_error: Option<JobError>,
    template_silence_micros: u64,
    outage: Outage,
    space: Space,
    lease_faults: u64,
    sessions: Directory,
    ledger: Ledger,
    /// Where workers have settled.
    memory: Memory,
    /// The number up to which every shard knows it when it starts.
    memory_given: u64,
    desk: BlockDesk,
    shards: BTreeMap<ShardIndex, Seat>,
    /// Where the next poll begins, so that no shard is always served last.
    turn: ShardIndex,
    queries: BTreeMap<u64, BTreeSet<ShardIndex>>,
    notices: VecDeque<Output>,
    draining: bool,
    drained_said: bool,
    status_changed: bool,
}

#[derive(Default)]
struct Seat {
    outbox: Outbox,
    /// Its lane was full; not tried again before the next input.
    blocked: bool,
    drained: bool,
    refusals: u64,
    /// The number up to which it knows where workers have settled.
    remembers: u64,
}

impl Coordinator {
    /// A farm without shards and work.
    pub fn new(
        settings: CoordinatorSettings,
        kernel: Kernel,
        now: Tick,
    ) -> Result<Coordinator, SpaceError> {
        Ok(Coordinator {
            now,
            started: now,
            space: Space::new(settings.jobs.extranonce1_size)?,
            jobs: JobMaker::new(settings.jobs, kernel),
            newest: None,
            job_facts: VecDeque::with_capacity(JOBS_SHOWN_MAX),
            horizon: Horizon::default(),
            template_at: None,
            jobs_made: 0,
            jobs_refused: 0,
            job_error: None,
            template_silence_micros: settings.template_silence_micros,
            outage: Outage::new(settings.no_work, now),
            lease_faults: 0,
            sessions: Directory::default(),
            ledger: Ledger::new(now),
            memory: Memory::default(),
            memory_given: 0,
            desk: BlockDesk::new(settings.nodes, settings.retry),
            shards: BTreeMap::new(),
            turn: ShardIndex(0),
            queries: BTreeMap::new(),
            notices: VecDeque::new(),
            draining: false,
            drained_said: false,
            status_changed: true,
        })
    }

    /// Takes over where workers had settled in an earlier life of the farm, oldest first. Every
    /// shard is given the same when it is made, so that its first miner is known.
    pub fn remember(&mut self, remembered: impl IntoIterator<Item = Remembered>) {
        remembered.into_iter().for_each(|remembered| self.memory.learn(remembered));
        self.memory_given = self.memory.newest();
    }

    /// Where workers have settled.
    pub fn memory(&self) -> &Memory {
        &self.memory
    }

    /// Takes one input in. Drain [`Coordinator::poll`] before the next.
    pub fn handle(&mut self, now: Tick, input: Input) {
        self.now = now.max(self.now);
        self.shards.values_mut().for_each(|seat| seat.blocked = false);
        match input {
            Input::Template(template) => self.adopt(&template),
            Input::Work(health) => {
                let turn = self.outage.told(health, self.newest.is_some(), self.now);
                self.turn_shards(turn);
                self.status_changed = true;
            }
            Input::Submitted { id, node, result, first_byte } => {
                self.desk.submitted(id, node, result, first_byte, self.now);
                self.status_changed = true;
            }
            Input::Restored(block) => self.desk.restore(block, self.now),
            Input::Journaled { id, journaled } => {
                self.desk.journaled(id, journaled);
                self.status_changed = true;
            }
            Input::SentFirst { id } => self.desk.sent_first(id),
            Input::FromShard(shard, message) => self.take_message(shard, message),
            Input::ShardStarted(shard) => self.shard_started(shard),
            Input::ShardDied(shard) => self.shard_died(shard),
            Input::ListMiners { query } => self.list_miners(query),
            Input::Drain => self.drain(),
            Input::Timer => {
                self.space.advance(self.horizon.live(), self.now);
                let turn = self.outage.advance(self.now);
                self.turn_shards(turn);
                self.status_changed = true;
            }
        }
    }

    /// What to do next; blocks before jobs, jobs on a new tip before everything else.
    pub fn poll(&mut self) -> Option<Output> {
        if let Some(block) = self.desk.poll(self.now) {
            self.status_changed = true;
            return Some(Output::SubmitBlock(block));
        }
        if let Some(block) = self.desk.next_settled() {
            return Some(Output::BlockSettled(block));
        }
        if let Some((shard, message)) = self.next_message() {
            return Some(Output::ToShard(shard, message));
        }
        if let Some(notice) = self.notices.pop_front() {
            return Some(notice);
        }
        if core::mem::take(&mut self.status_changed) {
            return Some(Output::StatusChanged);
        }
        None
    }

    /// A shard's lane was full: its messages wait for the next input.
    pub fn unsent(&mut self, shard: ShardIndex, message: ToShard) {
        if let Some(seat) = self.shards.get_mut(&shard) {
            seat.blocked = true;
            seat.outbox.unsent(message);
        }
    }

    /// When [`Input::Timer`] is wanted besides once a second.
    pub fn deadline(&self) -> Option<Tick> {
        [self.desk.due(), self.outage.due()].into_iter().flatten().min()
    }

    fn adopt(&mut self, template: &Template) {
        self.template_at = Some(self.now);
        self.status_changed = true;
        let job = match self.jobs.make(template, self.now) {
            Ok(job) => Arc::new(job),
            Err(error) => {
                self.jobs_refused += 1;
                self.job_error = Some(error);
                return;
            }
        };
        self.jobs_made += 1;
        self.job_error = None;
        let tip_since = match self.job_facts.back() {
            Some(before) if before.tip == job.tip => before.tip_since,
            _ => self.now,
        };
        if self.job_facts.len() == JOBS_SHOWN_MAX {
            self.job_facts.pop_front();
        }
        self.job_facts.push_back(JobStatus::of(&job, template, tip_since));
        self.desk.keep(job.clone(), template);
        self.horizon.adopt(job.number, job.tip);
        self.space.advance(self.horizon.live(), self.now);
        for seat in self.shards.values_mut() {
            seat.push(ToShard::Job(job.clone()));
        }
        self.newest = Some(job);
        let turn = self.outage.job_made();
        self.turn_shards(turn);
    }

    /// Lets every shard release its miners, or serve them again.
    fn turn_shards(&mut self, turn: Option<Turn>) {
        let (message, notice): (fn(u32) -> ToShard, _) = match turn {
            Some(Turn::Release) => (release, Output::Released),
            Some(Turn::Serve) => (|_| ToShard::Serve, Output::Serving),
            None => return,
        };
        let shards = self.shards.len() as u32;
        self.shards.values_mut().for_each(|seat| seat.push(message(shards)));
        self.notices.push_back(notice);
    }

    fn take_message(&mut self, shard: ShardIndex, message: FromShard) {
        match message {
            FromShard::Block(block) => {
                // A block that is declined is counted by its reason; a dead shard's block counts.
                self.status_changed = true;
                let _ = self.desk.found(*block, self.now);
            }
            FromShard::Report(report) => self.apply(shard, report),
            FromShard::WantLease { prefixes } => self.lease(shard, prefixes),
            FromShard::Returned(ranges) => self.take_back(shard, &ranges),
            FromShard::WantParked { id, peer, connected } => {
                self.want_parked(
                    shard,
                    id,
                    ToShard::GiveParked { asker: shard, id, peer, connected },
                );
            }
            FromShard::Parked { asker, id, parked } => self.hand_over(shard, asker, id, parked),
            FromShard::Miners { query, rows, done } => self.miners(shard, query, rows, done),
            FromShard::Drained => {
                self.space.shard_died(shard, self.horizon.live(), self.now);
                if let Some(seat) = self.shards.get_mut(&shard) {
                    seat.drained = true;
                }
                self.leave_queries(shard);
                self.say_drained();
            }
        }
    }

    fn apply(&mut self, shard: ShardIndex, mut report: Box<Report>) {
        let seat = self.shards.get_mut(&shard);
        if seat.is_none() {
            // A dead shard's last words: its credit counts, its connections are gone.
            report.rows.iter_mut().for_each(|row| row.connections = 0);
        }
        self.ledger.apply(shard, &report, self.now);
        self.ledger.take_settled().into_iter().for_each(|settled| self.memory.learn(settled));
        report.rows.clear();
        // A lane that is stuck fills up with what matters, not with memory to be used again.
        if let Some(seat) = seat.filter(|seat| seat.outbox.len() < RECYCLED_WAITING_MAX) {
            seat.push(ToShard::Recycled(report));
        }
    }

    fn lease(&mut self, shard: ShardIndex, prefixes: u32) {
        let Some(seat) = self.shards.get_mut(&shard) else { return };
        self.space.advance(self.horizon.live(), self.now);
        let answer = match self.space.lease(shard, prefixes) {
            Ok(lease) => ToShard::Lease(lease),
            Err(full) => {
                seat.refusals += 1;
                ToShard::LeaseRefused(full)
            }
        };
        // A shard has one question open; one that asks on and on gets no more than its lane takes.
        if let Err(ToShard::Lease(lease)) = seat.outbox.push(answer) {
            self.take_back(shard, &lease.ranges);
        }
    }

    fn take_back(&mut self, shard: ShardIndex, ranges: &[PrefixRange]) {
        for range in ranges {
            let returned = self.space.give_back(shard, *range, self.horizon.live(), self.now);
            self.lease_faults += u64::from(returned.is_err());
        }
    }

    /// A miner of `asker` names a session that is not there.
    fn want_parked(&mut self, asker: ShardIndex, id: SessionId, question: ToShard) {
        let holder = self.sessions.shard_of(id);
        let seat = self.shards.get_mut(&holder).filter(|seat| holder != asker && !seat.drained);
        let asked = seat.is_some_and(|seat| seat.offer(question));
        if !asked {
            self.answer_resume(asker, id, None);
        }
    }

    /// A session leaves the shard `from`, and its prefix with it. If nobody is there to take it any
    /// more, the prefix rests.
    fn hand_over(
        &mut self,
        from: ShardIndex,
        asker: ShardIndex,
        id: SessionId,
        parked: Option<Box<ParkedSession>>,
    ) {
        let prefix = parked.as_ref().map(|parked| parked.session.prefix());
        if let Some(prefix) = prefix {
            if !self.shards.contains_key(&from) {
                // A dead shard's last words: its whole lease rests already.
                return self.answer_resume(asker, id, None);
            }
            if self.space.transfer(from, asker, prefix).is_err() {
                self.lease_faults += 1;
                return self.answer_resume(asker, id, None);
            }
            self.sessions.moved(id, asker);
        }
        self.answer_resume(asker, id, parked);
    }

    fn answer_resume(
        &mut self,
        asker: ShardIndex,
        id: SessionId,
        parked: Option<Box<ParkedSession>>,
    ) {
        let prefix = parked.as_ref().map(|parked| parked.session.prefix());
        let seat = self.shards.get_mut(&asker).filter(|seat| !seat.drained);
        let answered = seat.is_some_and(|seat| seat.offer(ToShard::Resumed { id, parked }));
        if let Some(prefix) = prefix.filter(|_| !answered) {
            self.take_back(asker, &[PrefixRange::from(prefix)]);
        }
    }

    fn shard_started(&mut self, shard: ShardIndex) {
        if self.shards.contains_key(&shard) {
            self.shard_died(shard);
        }
        let mut seat = Seat { remembers: self.memory_given, ..Seat::default() };
        let jobs: Vec<Arc<Job>> = self.desk.jobs_live().cloned().collect();
        if !jobs.is_empty() {
            seat.push(ToShard::Jobs(jobs));
        }
        if self.outage.is_released() {
            // The others keep their pace: this one has nobody yet whom it could close.
            seat.push(release(self.shards.len() as u32 + 1));
        }
        if self.draining {
            seat.push(ToShard::Drain);
        }
        self.shards.insert(shard, seat);
        self.status_changed = true;
    }

    fn shard_died(&mut self, shard: ShardIndex) {
        self.shards.remove(&shard);
        self.space.shard_died(shard, self.horizon.live(), self.now);
        self.sessions.shard_died(shard);
        self.ledger.shard_died(shard);
        self.leave_queries(shard);
        self.say_drained();
        self.status_changed = true;
    }

    fn list_miners(&mut self, query: u64) {
        if self.queries.len() >= MINER_QUERIES_MAX || self.queries.contains_key(&query) {
            self.notices.push_back(Output::MinersBusy { query });
            return;
        }
        let mut asked = BTreeSet::new();
        for (shard, seat) in self.shards.iter_mut().filter(|(_, seat)| !seat.drained) {
            if seat.outbox.push(ToShard::ListMiners { query }).is_ok() {
                asked.insert(*shard);
            }
        }
        if asked.is_empty() {
            self.notices.push_back(no_miners(query));
            return;
        }
        self.queries.insert(query, asked);
    }

    fn miners(&mut self, shard: ShardIndex, query: u64, rows: Vec<MinerRow>, done: bool) {
        let Some(open) = self.queries.get_mut(&query) else { return };
        if done {
            open.remove(&shard);
        }
        let done = open.is_empty();
        if done {
            self.queries.remove(&query);
        }
        self.notices.push_back(Output::Miners { query, shard: Some(shard), rows, done });
    }

    /// A shard that is gone answers no question any more.
    fn leave_queries(&mut self, shard: ShardIndex) {
        let notices = &mut self.notices;
        self.queries.retain(|query, open| {
            let ended = open.remove(&shard) && open.is_empty();
            if ended {
                notices.push_back(no_miners(*query));
            }
            !ended
        });
    }

    fn drain(&mut self) {
        if self.draining {
            return;
        }
        self.draining = true;
        self.shards.values_mut().for_each(|seat| seat.push(ToShard::Drain));
        self.say_drained();
        self.status_changed = true;
    }

    fn say_drained(&mut self) {
        let all = self.shards.values().all(|seat| seat.drained);
        if self.draining && all && !self.drained_said {
            self.drained_said = true;
            self.notices.push_back(Output::Drained);
        }
    }

    fn next_message(&mut self) -> Option<(ShardIndex, ToShard)> {
        self.spread_memory();
        let turn = self.turn;
        let from_turn = self.shards.range_mut(turn..).next_message();
        let (shard, message) = match from_turn {
            Some(found) => found,
            None => self.shards.range_mut(..turn).next_message()?,
        };
        self.turn = ShardIndex(shard.0.wrapping_add(1));
        Some((shard, message))
    }

    /// Tells a shard for which nothing else waits where workers have settled.
    fn spread_memory(&mut self) {
        let newest = self.memory.newest();
        let behind = self.shards.values_mut().filter(|seat| seat.remembers < newest);
        for seat in behind.filter(|seat| !seat.blocked && seat.outbox.is_empty()) {
            let (news, known) = self.memory.after(seat.remembers, REMEMBERED_PER_MESSAGE);
            seat.remembers = known;
            seat.push(ToShard::Remember(news));
        }
    }

    /// The farm at this moment, without its workers.
    pub fn status(&self) -> Status {
        let now = self.now;
        let shards = self.shards.iter().map(|(shard, seat)| ShardStatus {
            shard: *shard,
            leased: self.space.leased_to(*shard),
            lease_refusals: seat.refusals,
            messages_waiting: seat.outbox.len(),
            jobs_replaced: seat.outbox.jobs_replaced(),
            drained: seat.drained,
        });
        Status {
            at: now,
            uptime_micros: now.since(self.started),
            work: self.work_state(),
            outage: self.outage.status(now),
            template_age_micros: self.template_at.map(|at| now.since(at)),
            job: self.job_facts.back().cloned(),
            jobs: self.job_facts.iter().cloned().collect(),
            jobs_made: self.jobs_made,
            jobs_refused: self.jobs_refused,
            job_error: self.job_error,
            workers: self.ledger.len(),
            connections: self.ledger.connections(),
            totals: *self.ledger.total(),
            hashes_per_second: self.ledger.hashes_per_second(now),
            long_rates: self.ledger.long_rates(now),
            blocks: self.desk.records().cloned().collect(),
            block_counts: self.desk.counts(),
            block_answers: self.desk.answers().to_vec(),
            block_first_byte_micros: self.desk.first_byte_micros(),
            blocks_unsettled: self.desk.unsettled(),
            space: SpaceStatus {
                capacity: self.space.capacity(),
                free: self.space.free(),
                leased: self.space.leased(),
                resting: self.space.resting(),
                faults: self.lease_faults,
            },
            shards: shards.collect(),
            draining: self.draining,
        }
    }

    /// Blocks that would be lost if the process ended now.
    pub fn blocks_unsaved(&self) -> usize {
        self.desk.unsaved()
    }

    /// Some workers' accounts, from that number on, and the number of the next one: there may be
    /// 65,536 of them, and no single answer may hold up a block or a new tip.
    pub fn workers(&self, from: usize) -> (Vec<WorkerStatus>, Option<usize>) {
        self.ledger.page(from, WORKERS_PER_PAGE, self.now)
    }

    fn work_state(&self) -> WorkState {
        match (self.template_at, &self.newest) {
            (Some(at), _) if self.now.since(at) > self.template_silence_micros => WorkState::Silent,
            (_, Some(_)) => WorkState::Current,
            (_, None) => WorkState::None,
        }
    }
}

impl Seat {
    /// For what is never refused: jobs, and what the limits above leave room for.
    fn push(&mut self, message: ToShard) {
        let pushed = self.outbox.push(message);
        debug_assert!(pushed.is_ok());
    }

    /// For what is better lost than in the way. Whether it has found a place.
    fn offer(&mut self, message: ToShard) -> bool {
        self.outbox.len() < RESUMES_WAITING_MAX && self.outbox.push(message).is_ok()
    }
}

/// The first message among some seats.
trait NextMessage {
    fn next_message(self) -> Option<(ShardIndex, ToShard)>;
}

impl<'a, I: Iterator<Item = (&'a ShardIndex, &'a mut Seat)>> NextMessage for I {
    fn next_message(mut self) -> Option<(ShardIndex, ToShard)> {
        self.find_map(|(shard, seat)| {
            let message = if seat.blocked { None } else { seat.outbox.pop() };
            message.map(|message| (*shard, message))
        })
    }
}

/// The order to release miners for one of so many shards, which release as many each.
fn release(shards: u32) -> ToShard {
    ToShard::Release { per_second: (RELEASED_PER_SECOND_MAX / shards.max(1)).max(1) }
}

fn no_miners(query: u64) -> Output {
    Output::Miners { query, shard: None, rows: Vec::new(), done: true }
}

#[cfg(test)]
#[path = "coordinator_tests.rs"]
mod tests;
