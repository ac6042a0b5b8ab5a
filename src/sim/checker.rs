//! What every world must keep, whatever goes wrong in it. Each check is a promise to miners or to
//! the farm; `tests/canaries.rs` shows for each that it can fail.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::net::IpAddr;

use farm::extranonce::REST_MICROS_MIN;
use farm::outage::RELEASED_PER_SECOND_MAX;
use pow::{Hash256, Target};
use session::{Prefix, SessionId};
use shard::ConnId;
use shard::counters::CloseReason;

use crate::faults::Faults;
use crate::host::Host;
use crate::link::LinkId;
use crate::miner::{Kind, Note, Role, Submitted};
use crate::node::BITS;
use crate::world::{SECOND, World};

const FNV_OFFSET: u64 = 0xcbf2_9ce4_8422_2325;
const FNV_PRIME: u64 = 0x0000_0100_0000_01b3;
/// Worlds up to this size are checked for disjoint prefixes after every turn, larger ones after
/// every 512th.
const MINERS_SMALL: usize = 64;
/// From a new tip to a healthy miner's job, on top of what the lanes and links take.
const TIP_BOUND_US: u64 = SECOND / 50;
/// The same where sends are short, their completions late, or the lanes nearly always full.
const TIP_BOUND_ROUGH_US: u64 = 4 * SECOND;
/// What each miner of the world may add to it: 20,000 of them, while they connect, 180 ms.
const TIP_BOUND_MINER_US: u64 = 9;
/// How long a peer may take nothing: nine seconds, two more for the last bytes of a session that
/// ends meanwhile, and the sweeps that notice.
const READER_US_MAX: u64 = 12 * SECOND;
/// How long a miner may go beyond the replies that are queued for it. Well before its silence as a
/// reader is over, so that it is the limit that ends it.
pub(crate) const FLOOD_US_MAX: u64 = 8 * SECOND;
/// A lane that is never full.
pub(crate) const LANE_SLOTS_AMPLE: usize = 16;
/// The stall of a shard excuses it for a while.
const STALL_EXCUSE_US: u64 = 6 * SECOND;

/// A job as it was made.
#[derive(Clone, Copy, Debug)]
pub(crate) struct MadeJob {
    /// Its place in the order of adopted tips.
    pub(crate) tip: usize,
    /// Its template's time, seconds since 1970.
    pub(crate) curtime: u32,
    /// When it was made, in virtual µs.
    pub(crate) made: u64,
}

/// A connection: shard, its life, and its number there.
type Holder = (usize, u32, ConnId);

/// Who has had a prefix: the connection, its session and address, when it was last seen, in which
/// turn.
type Use = (Holder, (Option<SessionId>, IpAddr), u64, u64);

/// For these somebody may have to leave who has done nothing wrong, as long as it does not mine.
const MAKING_ROOM: [CloseReason; 3] =
    [CloseReason::Crowded, CloseReason::Overload, CloseReason::Idle];

/// What the world has seen, and the first promise that was broken.
#[derive(Default)]
pub(crate) struct Checker {
    pub(crate) broken: Option<String>,
    pub(crate) panics: u64,
    pub(crate) deaths: u64,
    /// Floods beyond the queue of replies that have ended their connection.
    pub(crate) floods_cut: u64,
    /// Credit that dead shards had not reported: shares, and their work.
    pub(crate) unreported: u64,
    pub(crate) unreported_difficulty: f64,
    /// Blocks that dead shards had found no room for in their lanes.
    pub(crate) blocks_buried: u64,
    pub(crate) connections: u64,
    pub(crate) refused: u64,
    pub(crate) tips_planned: u64,
    pub(crate) power_cut_at: Option<u64>,
    pub(crate) power_back_us: u64,
    /// Connections that were closed for lack of work, and when the newest of them were.
    pub(crate) released: u64,
    recently_released: VecDeque<u64>,
    pub(crate) released_per_second: u64,
    /// The newest job when the node went down.
    pub(crate) newest_before_outage: u32,
    pub(crate) node_back_at: Option<u64>,
    pub(crate) work_back_us: Option<u64>,
    pub(crate) repeat_next_credit: bool,
    /// A job as a line, and how many tips there were then, for the world that lies.
    pub(crate) old_notify: Option<(usize, Vec<u8>)>,
    trace: Option<u64>,
    /// Every job, by its number less one.
    jobs: Vec<MadeJob>,
    /// Headers whose credit a miner has read.
    pub(crate) credited_headers: BTreeSet<[u8; 32]>,
    /// Headers that are blocks: credited, or read by a shard on its newest job.
    pub(crate) blocks: BTreeSet<[u8; 32]>,
    /// Good shares that were without a reply when their link ended: credited or not, until they
    /// are sent again.
    pub(crate) lost: BTreeSet<[u8; 32]>,
    pub(crate) resumed: u64,
    pub(crate) saved: u64,
    pub(crate) spoilt: u64,
    turns: u64,
    /// Who had each prefix last, and when.
    prefixes: BTreeMap<Prefix, Use>,
}

impl Checker {
    /// A promise is broken; the first one counts.
    pub(crate) fn fail(&mut self, what: String) {
        self.broken.get_or_insert(what);
    }

    /// Folds something that happened into the trace.
    pub(crate) fn trace(&mut self, words: &[u64]) {
        let mut hash = self.trace.unwrap_or(FNV_OFFSET);
        for word in words {
            hash = (hash ^ word).wrapping_mul(FNV_PRIME);
            hash ^= hash >> 29;
        }
        self.trace = Some(hash);
    }

    pub(crate) fn trace_hash(&self) -> u64 {
        self.trace.unwrap_or(FNV_OFFSET)
    }

    pub(crate) fn credited(&self) -> u64 {
        self.credited_headers.len() as u64
    }

    /// The coordinator makes its next job.
    pub(crate) fn job_made(&mut self, job: MadeJob) {
        self.jobs.push(job);
    }

    pub(crate) fn newest_job(&self) -> u32 {
        self.jobs.len() as u32
    }

    fn job(&self, number: u32) -> Option<MadeJob> {
        self.jobs.get((number as usize).checked_sub(1)?).copied()
    }

    /// A link ended with these shares without a reply.
    pub(crate) fn lost(&mut self, shares: &[Submitted]) {
        let good = |share: &&Submitted| matches!(share.kind, Kind::Good | Kind::Resent);
        let unknown = |share: &&Submitted| !self.credited_headers.contains(&share.hash.0);
        let lost = shares.iter().filter(good).filter(unknown);
        self.lost.extend(lost.map(|share| share.hash.0));
    }

    fn credit(&mut self, share: &Submitted) {
        if matches!(share.kind, Kind::Miss | Kind::Untimely) {
            self.fail(format!("a {:?} share was credited", share.kind));
        }
        if !self.credited_headers.insert(share.hash.0) {
            self.fail(format!("a share was credited twice: {:02x?}", &share.hash.0[28..]));
        }
        // Sent again and credited now, so it was not before: whoever counted it twice is found out.
        self.lost.remove(&share.hash.0);
        self.saved += u64::from(share.kind == Kind::Resent);
        let target = Target::from_compact(BITS).expect("the bits are a target");
        if target.is_met_by(&share.hash) {
            self.blocks.insert(share.hash.0);
        }
    }
}

impl World {
    /// What a miner has learned, held against what it should.
    pub(crate) fn note(&mut self, miner: usize, note: Note) {
        match note {
            Note::Mining => self.check_power(),
            Note::TurnedAway if self.hosts.iter().any(|host| host.ring.is_draining) => {}
            Note::TurnedAway => self.checker.fail(format!("miner {miner} got no session")),
            Note::Resumed => self.checker.resumed += 1,
            Note::Job { prev_hash, number, ntime } => {
                self.check_job(miner, prev_hash, number, ntime);
            }
            Note::Credited(share) => {
                self.checker.trace(&[7, u64::from_le_bytes(first_bytes(&share.hash))]);
                self.checker.credit(&share);
                if std::mem::take(&mut self.checker.repeat_next_credit) {
                    self.checker.credit(&share);
                }
            }
            Note::Refused(share, code) => self.check_refusal(miner, &share, code),
            Note::Wrong(what) => self.checker.fail(format!("miner {miner}: {what}")),
        }
    }

    /// A job's previous hash is that of its tip, its time has moved with the virtual clock and not
    /// with any other, and tips never go back on a connection.
    fn check_job(&mut self, index: usize, prev_hash: Hash256, job: u32, ntime: u32) {
        self.checker.trace(&[8, u64::from(job)]);
        let Some(MadeJob { tip, curtime, made }) = self.checker.job(job) else {
            return self.checker.fail(format!("miner {index} was given job {job}, made by nobody"));
        };
        if self.node.tips[tip] != prev_hash {
            return self.checker.fail(format!("job {job} has another tip's previous hash"));
        }
        self.check_work_back(job);
        let latest = u64::from(curtime) + (self.now - made) / SECOND;
        if !(u64::from(curtime)..=latest).contains(&ntime.into()) {
            let what = format!("job {job} tells the time {ntime}, not {curtime} to {latest}");
            return self.checker.fail(what);
        }
        let miner = &mut self.miners[index];
        if tip < miner.tip {
            let (newer, what) = (miner.tip, "was sent back from tip");
            return self.checker.fail(format!("miner {index} {what} {newer} to tip {tip}"));
        }
        miner.tip = tip;
    }

    /// A refusal must be the miner's own doing, or a tip that it was told of before.
    fn check_refusal(&mut self, index: usize, share: &Submitted, code: i64) {
        self.checker.refused += 1;
        self.checker.trace(&[9, code as u64]);
        let tip = self.checker.job(share.job).map_or(0, |job| job.tip);
        if share.kind == Kind::Resent {
            return self.check_refused_again(index, share, (tip, code));
        }
        let is_stale = code == 21 && tip < self.miners[index].tip;
        let deserved = match share.kind {
            Kind::Good | Kind::Resent => false,
            Kind::Again => code == 22,
            Kind::Miss => code == 23,
            Kind::Untimely => code == 20,
        };
        if !deserved && !is_stale {
            let what = format!("miner {index}: a {:?} share was refused with {code}", share.kind);
            self.checker.fail(what);
        }
    }

    /// After an outage: how long until the first miner has a job that was made since.
    fn check_work_back(&mut self, job: u32) {
        let checker = &mut self.checker;
        if let Some(back) = checker.node_back_at
            && job > checker.newest_before_outage
        {
            checker.work_back_us.get_or_insert(self.now - back);
        }
    }

    /// Miners without work leave at the pace of the whole farm, whatever their shards do.
    fn check_pace(&mut self) {
        let (now, checker) = (self.now, &mut self.checker);
        let count = |host: &Host| host.counters.closed[CloseReason::NoWork as usize].value();
        let released: u64 = self.hosts.iter().map(count).sum();
        for _ in checker.released..released {
            checker.recently_released.push_back(now);
        }
        checker.released = released;
        while checker.recently_released.front().is_some_and(|at| at + SECOND <= now) {
            checker.recently_released.pop_front();
        }
        let within = checker.recently_released.len() as u64;
        checker.released_per_second = checker.released_per_second.max(within);
        // What was told to leave with a reply under way, or before a stall, leaves behind it.
        let pace = u64::from(RELEASED_PER_SECOND_MAX);
        if within > pace + pace / 10 {
            checker.fail(format!("{within} miners were released within a second"));
        }
    }

    /// A share that was sent again may have been credited before its link ended, or its tip may be
    /// over, of which the miner need not have heard yet. A shard that hardly hears the coordinator
    /// may lack its job.
    fn check_refused_again(&mut self, index: usize, share: &Submitted, (tip, code): (usize, i64)) {
        let may_lack = self.faults.lane_slots < LANE_SLOTS_AMPLE;
        let is_over = tip + 1 < self.node.tips.len();
        match code {
            // A late block is known too when it comes again, and was never credited.
            22 if is_over => self.checker.spoilt += 1,
            22 => {
                self.checker.saved += 1;
                if self.checker.lost.remove(&share.hash.0) {
                    self.checker.credit(&Submitted { kind: Kind::Again, ..*share });
                }
            }
            21 if is_over || may_lack => self.checker.spoilt += 1,
            _ => {
                let what = format!("miner {index}: a share sent again was refused with {code}");
                self.checker.fail(what);
            }
        }
    }

    /// After a power cut: how long until the last miner mines again.
    fn check_power(&mut self) {
        if let Some(cut) = self.checker.power_cut_at {
            self.checker.power_back_us = self.now - cut;
        }
    }

    /// After each turn: the shard has kept to its limits and to its contract with the ring.
    pub(crate) fn check_turn(&mut self, index: usize, panics: u64) {
        self.lie(index);
        self.excuse_overtaken(index);
        self.checker.turns += 1;
        self.check_pace();
        self.check_taken(index, panics);
        let host = &mut self.hosts[index];
        // Who does not mine yet may have to make room for others.
        let made_room = MAKING_ROOM.map(|reason| host.counters.closed[reason as usize].value());
        let made_room = made_room.iter().sum();
        let mut room = made_room - std::mem::replace(&mut host.made_room, made_room);
        let mut closed = std::mem::take(&mut host.ring.closed_without_reason);
        closed.retain(|miner| {
            let excused = room > 0 && self.miners[*miner].mining_since.is_none();
            room -= u64::from(excused);
            !excused
        });
        if closed.len() as u64 > panics {
            self.checker.fail(format!("miners {closed:?} were closed without a reason"));
        }
        if host.ring.buffers_out() != 0 {
            let out = host.ring.buffers_out();
            self.checker.fail(format!("{out} buffers outlive their turn"));
        }
        for level in host.shard.levels() {
            if level.held > level.limit {
                self.checker.fail(format!("{level:?} is over its limit"));
            }
        }
        let small = self.miners.len() <= MINERS_SMALL;
        if small || self.checker.turns.is_multiple_of(512) {
            self.check_prefixes();
        }
    }

    /// A miner's older connection may be accepted behind its newest one, after a stall or for lack
    /// of descriptors. Whoever accepts it takes it for the newer one, and claims the session for
    /// it.
    fn excuse_overtaken(&mut self, index: usize) {
        let adopted = std::mem::take(&mut self.hosts[index].ring.adopted);
        for (miner, link) in adopted {
            let Some((host, newest)) = self.miners[miner].link.filter(|held| held.1 > link) else {
                continue;
            };
            if let Some(newest) = self.hosts[host].ring.link(newest) {
                newest.excuse = Some("its miner's older connection was accepted later");
            }
        }
    }

    /// A block on the newest job is one as soon as the shard has read it, whether or not its miner
    /// lives to see the reply. Only a session that panics, or that its miner's misbehaviour or a
    /// drain has ended, may leave shares unread.
    fn check_taken(&mut self, index: usize, panics: u64) {
        let newest = self.checker.newest_job();
        let ring = &mut self.hosts[index].ring;
        let taken = std::mem::take(&mut ring.taken);
        if panics > 0 || ring.is_draining || ring.is_releasing {
            return;
        }
        let read = |miner: usize| {
            matches!(self.miners[miner].role, Role::Honest | Role::Duplicator | Role::Guesser)
        };
        let taken = taken.iter().filter(|(miner, share)| {
            let is_new = matches!(share.kind, Kind::Good | Kind::Again | Kind::Miss);
            share.job == newest && is_new && read(*miner)
        });
        let target = Target::from_compact(BITS).expect("the bits are a target");
        let blocks = taken.filter(|(_, share)| target.is_met_by(&share.hash));
        self.checker.blocks.extend(blocks.map(|(_, share)| share.hash.0));
    }

    /// No two live connections have one prefix, on whatever shard, and none is given again before
    /// it has rested.
    fn check_prefixes(&mut self) {
        let (now, checker) = (self.now, &mut self.checker);
        let mut served = 0;
        for (index, host) in self.hosts.iter().enumerate() {
            for connection in host.shard.connections() {
                served += 1;
                let Some(prefix) = connection.prefix else { continue };
                let holder = (index, host.life(), connection.conn);
                let whose = (connection.session_id, connection.peer);
                let entry = (holder, whose, now, checker.turns);
                let Some((former, owner, at, turn)) = checker.prefixes.insert(prefix, entry) else {
                    continue;
                };
                // The same session of the same address has moved: never while both have it. Two
                // turns may come in one microsecond, so their number tells them apart.
                let is_live = turn == checker.turns;
                let is_resumed = owner == whose && whose.0.is_some() && !is_live;
                if former == holder || is_resumed {
                    continue;
                }
                let what = if is_live { "is live" } else { "was used a moment ago" };
                if now - at < REST_MICROS_MIN {
                    let (here, there) = (index, former.0);
                    return checker
                        .fail(format!("{prefix:?} {what} on shard {there} and is on {here}"));
                }
            }
        }
        if served != self.total.held() {
            let held = self.total.held();
            checker.fail(format!("{served} connections are served, the farm counts {held}"));
        }
    }

    /// A peer that takes nothing is cut off in time.
    pub(crate) fn check_readers(&mut self) {
        for host in &self.hosts {
            let since = host.stalled_at.unwrap_or(0);
            for link in host.ring.links().filter(|link| link.pending.is_some()) {
                let stuck_us = self.now.saturating_sub(since.max(link.pending_since));
                if stuck_us > READER_US_MAX {
                    let what = format!("miner {} has taken nothing for {stuck_us} µs", link.miner);
                    return self.checker.fail(what);
                }
            }
        }
    }

    /// A flood beyond the queue of replies has cost its miner the connection.
    pub(crate) fn check_flood(&mut self, index: usize, link: LinkId) {
        let flooded = self.now - FLOOD_US_MAX;
        let host = &self.hosts[index];
        let held = host.ring.peek(link).filter(|link| !link.shard_closed);
        let Some(link) = held else {
            self.checker.floods_cut += 1;
            return;
        };
        let disturbed = link.is_clogged
            || !link.is_reader_stopped
            || link.broken.is_some()
            || link.disturbed_at.is_some_and(|at| at > flooded)
            || host.stalled_at.is_some_and(|at| at > flooded);
        if !disturbed {
            let what = format!("the flood of miner {} was not cut off", link.miner);
            self.checker.fail(what);
        }
    }

    /// How long a tip may take to a healthy miner.
    pub(crate) fn tip_bound_us(&self) -> u64 {
        let Faults { short_sends, completion_us_max, lane_slots, .. } = self.faults;
        let rough = short_sends > 0 || completion_us_max > 0 || lane_slots < LANE_SLOTS_AMPLE;
        let bound_us = if rough { TIP_BOUND_ROUGH_US } else { TIP_BOUND_US };
        let crowd_us = TIP_BOUND_MINER_US * self.miners.len() as u64;
        bound_us + crowd_us + 4 * self.faults.lane_us_max + 4 * self.faults.delay_us_max
    }

    /// Every miner that nothing has happened to since the tip was adopted works on it, or on one
    /// that is newer.
    pub(crate) fn check_tip(&mut self, tip: usize, adopted: u64) {
        for (index, miner) in self.miners.iter().enumerate() {
            let Some((host, link)) = miner.link else { continue };
            let since = miner.mining_since.is_some_and(|since| since <= adopted);
            let (host, Some(link)) = (&self.hosts[host], self.hosts[host].ring.peek(link)) else {
                continue;
            };
            let recent = |at: Option<u64>| at.is_some_and(|at| at + STALL_EXCUSE_US >= adopted);
            let disturbed = link.is_clogged
                || link.is_reader_stopped
                || link.broken.is_some()
                || link.shard_closed
                || recent(link.disturbed_at)
                || recent(host.stalled_at);
            if since && !disturbed && miner.tip < tip && miner.role != Role::Flooder {
                let what = format!("miner {index} is on tip {}, not on {tip}", miner.tip);
                return self.checker.fail(format!("{what}, {} µs late", self.now - adopted));
            }
        }
    }
}

fn first_bytes(hash: &Hash256) -> [u8; 8] {
    *hash.0.first_chunk().expect("a hash has 32 bytes")
}
