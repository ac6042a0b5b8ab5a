//! Whose turn it is to be hashed for.
//!
//! All miners share one engine, so hash time goes round in slices. Those who have no accepted
//! share yet come first, so that with N miners each soon has one; then all in turn. Every slice
//! is a header space of its own: no header is tried twice.

use std::collections::VecDeque;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Condvar, Mutex, MutexGuard, PoisonError};

use crate::connection::{Found, Task};

/// Nonces of a slice: a few milliseconds, so that the turn goes round and threads stop soon.
pub(crate) const SLICE_NONCES: u32 = 1 << 16;

/// What a hash thread does next.
#[derive(Clone, Debug)]
pub(crate) struct Slice {
    pub(crate) connection: usize,
    pub(crate) task: Task,
    /// Stop at the first find: the next miner without a share comes first then.
    pub(crate) one_is_enough: bool,
    pub(crate) extranonce2: Vec<u8>,
    pub(crate) version: u32,
    pub(crate) version_bits: Option<u32>,
    pub(crate) first_nonce: u32,
    /// The schedule's count of clean jobs at the start; a later one voids the slice.
    pub(crate) cleans: u64,
}

/// The turn order, shared by the IO thread and the hash threads.
#[derive(Debug)]
pub(crate) struct Schedule {
    state: Mutex<State>,
    work: Condvar,
    cleans: AtomicU64,
    stopping: AtomicBool,
    hashes: AtomicU64,
}

#[derive(Debug)]
struct State {
    slots: Vec<Slot>,
    needy: VecDeque<usize>,
    served: VecDeque<usize>,
    seed: u64,
}

#[derive(Debug, Default)]
struct Slot {
    task: Option<Task>,
    /// Slices so far: rises for ever, also over reconnects.
    slices: u64,
    has_share: bool,
    /// A find is on its way to the server: no need to look for another one first.
    in_flight: bool,
    queued: bool,
}

impl Slot {
    fn needs_share(&self) -> bool {
        !self.has_share && !self.in_flight
    }
}

impl Schedule {
    pub(crate) fn new(connections: usize, seed: u64) -> Self {
        let slots = std::iter::repeat_with(Slot::default).take(connections).collect();
        let state = State { slots, needy: VecDeque::new(), served: VecDeque::new(), seed };
        Schedule {
            state: Mutex::new(state),
            work: Condvar::new(),
            cleans: AtomicU64::new(0),
            stopping: AtomicBool::new(false),
            hashes: AtomicU64::new(0),
        }
    }

    /// A connection has other work, or none.
    pub(crate) fn assign(&self, connection: usize, task: Option<Task>) {
        let mut state = self.lock();
        let slot = &mut state.slots[connection];
        slot.task = task;
        if slot.task.is_none() {
            slot.in_flight = false;
        } else if !slot.queued {
            state.queue(connection);
            self.work.notify_one();
        }
    }

    /// A clean job came: threads drop what they are at, and ask for work again.
    pub(crate) fn clean_job(&self) {
        self.cleans.fetch_add(1, Ordering::Relaxed);
    }

    /// A share was answered, or could not be sent.
    pub(crate) fn settled(&self, connection: usize, accepted: bool) {
        let slot = &mut self.lock().slots[connection];
        slot.in_flight = false;
        slot.has_share |= accepted;
    }

    /// The next slice; waits for work. `None`: stop.
    pub(crate) fn next(&self) -> Option<Slice> {
        let mut state = self.lock();
        loop {
            if self.stopping.load(Ordering::Relaxed) {
                return None;
            }
            let cleans = self.cleans.load(Ordering::Relaxed);
            if let Some(slice) = state.next(cleans) {
                return Some(slice);
            }
            state = self.work.wait(state).unwrap_or_else(PoisonError::into_inner);
        }
    }

    /// A hash thread found a share.
    pub(crate) fn found(&self, found: &Found) {
        self.lock().slots[found.connection].in_flight = true;
    }

    /// Whether a slice is still worth its hashes.
    pub(crate) fn is_current(&self, slice: &Slice) -> bool {
        let current = self.cleans.load(Ordering::Relaxed) == slice.cleans;
        current && !self.stopping.load(Ordering::Relaxed)
    }

    pub(crate) fn hashed(&self, hashes: u32) {
        self.hashes.fetch_add(u64::from(hashes), Ordering::Relaxed);
    }

    pub(crate) fn hashes(&self) -> u64 {
        self.hashes.load(Ordering::Relaxed)
    }

    pub(crate) fn stop(&self) {
        // Under the lock, so that a thread on its way into the wait does not miss it.
        let _state = self.lock();
        self.stopping.store(true, Ordering::Relaxed);
        self.work.notify_all();
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl State {
    fn queue(&mut self, connection: usize) {
        let slot = &mut self.slots[connection];
        slot.queued = true;
        match slot.needs_share() {
            true => self.needy.push_back(connection),
            false => self.served.push_back(connection),
        }
    }

    fn next(&mut self, cleans: u64) -> Option<Slice> {
        loop {
            let was_needy = !self.needy.is_empty();
            let connection = self.needy.pop_front().or_else(|| self.served.pop_front())?;
            let slot = &mut self.slots[connection];
            let Some(task) = slot.task.clone() else {
                slot.queued = false;
                continue;
            };
            let needs_share = slot.needs_share();
            if was_needy && !needs_share {
                // It got its share while it waited: others come first.
                self.served.push_back(connection);
                continue;
            }
            let number = slot.slices;
            slot.slices += 1;
            self.queue(connection);
            return Some(slice(connection, task, number, self.seed, needs_share, cleans));
        }
    }
}

// Slice `number` of a connection: the version's rolled bits count first, then the extranonce2.
fn slice(
    connection: usize,
    task: Task,
    number: u64,
    seed: u64,
    one_is_enough: bool,
    cleans: u64,
) -> Slice {
    let mask = task.version_mask;
    let rolls = mask.count_ones();
    let rolled = spread(number, mask);
    let counter = (number >> rolls).to_be_bytes();
    let size = task.extranonce2_size;
    let extranonce2: Vec<u8> = (0..size)
        .map(|place| (size - place).checked_sub(1).map_or(0, |i| byte(counter, i)))
        .collect();
    let first_nonce = (mix(seed ^ (connection as u64) << 40 ^ number) as u32) & !(SLICE_NONCES - 1);
    Slice {
        connection,
        one_is_enough,
        extranonce2,
        version: task.job.version & !mask | rolled,
        version_bits: (mask != 0).then_some(rolled),
        first_nonce,
        cleans,
        task,
    }
}

// Byte `place` of a big-endian counter, counted from its least significant one.
fn byte(counter: [u8; 8], place: usize) -> u8 {
    counter.len().checked_sub(place + 1).map_or(0, |at| counter[at])
}

/// Lays the low bits of `number` into the set bits of `mask`, lowest first.
fn spread(number: u64, mask: u32) -> u32 {
    let mut rest = mask;
    let mut spread = 0;
    let mut bits = number;
    while rest != 0 {
        let lowest = rest & rest.wrapping_neg();
        if bits & 1 != 0 {
            spread |= lowest;
        }
        bits >>= 1;
        rest &= rest - 1;
    }
    spread
}

/// The finaliser of SplitMix64: nonces of all sizes occur, also those that print short.
pub(crate) fn mix(value: u64) -> u64 {
    let mut z = value.wrapping_add(0x9e37_79b9_7f4a_7c15);
    z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    z ^ (z >> 31)
}
