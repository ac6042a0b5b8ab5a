//! A simulated miner: firmware as its pool sees it, over bytes alone. It builds its headers from
//! what it was told, hashes them for real, and sends what meets its target. Some misbehave.

use std::collections::{BTreeMap, VecDeque};

use pow::{Difficulty, Hash256, Header, Kernel, Target, merkle_root};
use session::REPLIES_QUEUED_MAX;
use wire::sv1::write::client;
use wire::sv1::{ServerMessage, ServerNotify, granted_mask, parse_server, subscribed};

use crate::link::LinkId;
use crate::node::BITS;
use crate::random::Random;

/// Jobs that a miner remembers, to send a late share now and then.
const JOBS_KEPT: usize = 4;
/// Shares of a flood: what comes after a stall of the miner's line.
const FLOOD_SHARES: usize = 200;
/// Shares of a flood that goes beyond what may be queued: replies on the way fill the link's send
/// buffer and one send besides, the others wait.
const DEAF_FLOOD_SHARES: usize = 2 * REPLIES_QUEUED_MAX;
/// Hashes that are tried for one share, and for a block.
const TRIES: usize = 64;
const TRIES_FOR_BLOCK: usize = 800;
/// How far a miner rolls the time, in seconds.
const ROLLED_MAX: u64 = 600;
/// Later than any share's time may be, ahead of its job's, in seconds.
const FAR_AHEAD: u32 = 7_000 + 3_600;
/// Before all the blocks of the world, seconds since 1970.
const LONG_AGO: u32 = 1_700_000_000;
/// What was tried on earlier jobs and may be tried again.
const TRIED_KEPT: usize = 64;
/// Shares without a reply that a miner keeps over a cut, to send them again.
const UNSENT_KEPT: usize = 32;
const ID_CONFIGURE: u64 = 1;
const ID_SUBSCRIBE: u64 = 2;
const ID_AUTHORIZE: u64 = 3;
const ID_SHARES: u64 = 10;
const MASK: u32 = 0x1fff_e000;

/// How a miner behaves.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Role {
    /// As firmware should.
    Honest,
    /// Sends shares twice.
    Duplicator,
    /// Sends hashes that miss its target, or times that no block may have.
    Guesser,
    /// Sends bytes that are no Stratum.
    Babbler,
    /// Sends hundreds of shares at once.
    Flooder,
    /// Sends more at once than replies may be queued, and reads none.
    DeafFlooder,
    /// Connects and says nothing.
    Mute,
    /// Comes with the session id of another miner.
    Thief,
}

/// What a submit was, to judge its reply.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// A share that should count.
    Good,
    /// The same header again.
    Again,
    /// A hash that misses the target.
    Miss,
    /// A time that no block may have.
    Untimely,
    /// A share that had no reply when its link ended, on the connection that resumed.
    Resent,
}

/// A submit without a reply yet.
#[derive(Clone, Copy, Debug)]
pub struct Submitted {
    /// The header's hash.
    pub hash: Hash256,
    /// What it was.
    pub kind: Kind,
    /// The number of its job.
    pub job: u32,
}

/// What a miner has to tell the world.
#[derive(Clone, Debug)]
pub enum Note {
    /// It may mine from now on.
    Mining,
    /// It was given a job.
    Job {
        /// On this previous hash.
        prev_hash: Hash256,
        /// Its number.
        number: u32,
        /// The time that it tells.
        ntime: u32,
    },
    /// It has its former session again.
    Resumed,
    /// It was refused a session, old or new.
    TurnedAway,
    /// A share was credited.
    Credited(Submitted),
    /// A share was refused with this code.
    Refused(Submitted, i64),
    /// The server did something that it may not.
    Wrong(String),
}

/// A job as the miner was told.
#[derive(Clone, Debug)]
struct Job {
    id: String,
    number: u32,
    notify: ServerNotify<'static>,
}

/// What a miner is free to choose.
#[derive(Clone, Debug)]
struct Roll {
    extranonce2: Vec<u8>,
    ntime: u32,
    nonce: u32,
    bits: u32,
}

/// What a miner keeps of a connection that has ended.
#[derive(Clone, Debug, Default)]
struct Former {
    session_id: String,
    extranonce1: Vec<u8>,
    tip: usize,
    /// Shares without a reply, to be sent again if the session is the same.
    unanswered: Vec<(String, Roll, Submitted)>,
}

/// One simulated miner.
pub struct Miner {
    /// How it behaves.
    pub role: Role,
    /// Its connection, as shard and link.
    pub link: Option<(usize, LinkId)>,
    /// Since when it has had work on this connection.
    pub mining_since: Option<u64>,
    /// Where its newest job stands in the order of adopted tips; only ever rises.
    pub tip: usize,
    /// Shares without a reply.
    pub outstanding: BTreeMap<u64, Submitted>,
    /// The number of its newest job.
    pub newest_job: u32,
    name: String,
    line: Vec<u8>,
    next_id: u64,
    rolls_version: bool,
    rolls_time: bool,
    /// It tries again what was good on an earlier job, should that job's tip return.
    retries: bool,
    tried: VecDeque<(Hash256, u32, Roll)>,
    /// It names its session when it comes back, and sends again what had no reply.
    resumes: bool,
    session_id: Option<String>,
    former: Option<Former>,
    /// The session that it has named on this connection.
    asked: Option<String>,
    /// What the shares without a reply were, for a miner that resumes.
    sent: BTreeMap<u64, (String, Roll)>,
    mask: u32,
    extranonce1: Option<Vec<u8>>,
    extranonce2_size: usize,
    authorized: bool,
    target: Option<Target>,
    jobs: VecDeque<Job>,
    last: Option<(u64, Vec<u8>, Submitted)>,
    /// The shares of the newest `mine`, each with the place of its end in the bytes.
    found: Vec<(u64, Submitted)>,
    random: Random,
}

impl Miner {
    /// A miner that is not connected.
    /// So many per mille of the honest ones name their session when they come back.
    pub fn new(index: usize, role: Role, often_resumes: u64, mut random: Random) -> Miner {
        let [rolls_version, rolls_time, retries] =
            [500, 300, 300].map(|often| random.happens(often));
        let resumes = random.happens(often_resumes) && role == Role::Honest;
        Miner {
            role,
            link: None,
            mining_since: None,
            tip: 0,
            outstanding: BTreeMap::new(),
            newest_job: 0,
            name: format!("farm.{}", index % 16),
            line: Vec::new(),
            next_id: ID_SHARES,
            rolls_version,
            rolls_time,
            retries,
            tried: VecDeque::new(),
            resumes,
            session_id: None,
            former: None,
            asked: None,
            sent: BTreeMap::new(),
            mask: 0,
            extranonce1: None,
            extranonce2_size: 0,
            authorized: false,
            target: None,
            jobs: VecDeque::new(),
            last: None,
            found: Vec::new(),
            random,
        }
    }

    /// Its session's id, or that of the one it had last.
    pub fn session_id(&self) -> Option<String> {
        let former = self.former.as_ref().map(|former| former.session_id.clone());
        self.session_id.clone().or(former)
    }

    /// It is connected: what it says first. A thief says what it has stolen.
    pub fn connected(&mut self, link: (usize, LinkId), stolen: Option<String>) -> Vec<u8> {
        self.forget();
        self.link = Some(link);
        let own = self.former.as_ref().map(|former| former.session_id.clone());
        self.asked = stolen.or(own);
        let mut out = Vec::new();
        match self.role {
            Role::Mute => return out,
            Role::Babbler => return self.babble(),
            _ => {}
        }
        if self.rolls_version {
            client::configure(&mut out, ID_CONFIGURE, MASK, 2);
        }
        client::subscribe(&mut out, ID_SUBSCRIBE, "sim/1", self.asked.as_deref());
        client::authorize(&mut out, ID_AUTHORIZE, &self.name, "x");
        out
    }

    /// Its connection is gone; returns how many shares were without a reply.
    pub fn disconnected(&mut self) -> Vec<Submitted> {
        self.link = None;
        self.mining_since = None;
        self.remember();
        std::mem::take(&mut self.outstanding).into_values().collect()
    }

    /// Keeps what a later connection needs to go on with this one's session.
    fn remember(&mut self) {
        let (Some(session_id), Some(extranonce1)) =
            (self.session_id.take(), self.extranonce1.clone())
        else {
            return;
        };
        if !self.resumes {
            return;
        }
        let good = |share: &Submitted| matches!(share.kind, Kind::Good | Kind::Resent);
        let sent = std::mem::take(&mut self.sent).into_iter();
        let unanswered = sent.filter_map(|(id, (job, roll))| {
            let share = self.outstanding.get(&id).copied().filter(good)?;
            Some((job, roll, Submitted { kind: Kind::Resent, ..share }))
        });
        let mut unanswered: Vec<_> = unanswered.collect();
        // Those that were not even sent again stay for the next time.
        let left = self.former.take().filter(|former| former.session_id == session_id);
        unanswered.extend(left.into_iter().flat_map(|former| former.unanswered));
        unanswered.truncate(UNSENT_KEPT);
        self.former = Some(Former { session_id, extranonce1, tip: self.tip, unanswered });
    }

    fn forget(&mut self) {
        self.line.clear();
        self.next_id = ID_SHARES;
        self.mask = 0;
        self.extranonce1 = None;
        self.session_id = None;
        self.sent.clear();
        self.authorized = false;
        self.target = None;
        self.tip = 0;
        self.newest_job = 0;
        self.jobs.clear();
        self.tried.clear();
        self.last = None;
    }

    fn babble(&mut self) -> Vec<u8> {
        let kind = self.random.below(4);
        let count = self.random.within(1, 12_000) as usize;
        let mut bytes = match kind {
            0 => b"{\"id\":1,\"method\":\"mining.subscribe\",\"params\":[\"".to_vec(),
            1 => b"GET / HTTP/1.1\r\n\r\n".to_vec(),
            2 => b"{\"id\":null}\n{\"id\":[],\"method\":7}\n[[[[{}]]]]\n".to_vec(),
            _ => vec![0x16, 3, 1, 2, 0, 1],
        };
        bytes.extend((0..count).map(|_| self.random.bits() as u8));
        bytes
    }

    /// Bytes have come from the server.
    pub fn read(&mut self, now: u64, bytes: &[u8]) -> Vec<Note> {
        let mut notes = Vec::new();
        self.line.extend_from_slice(bytes);
        while let Some(end) = self.line.iter().position(|byte| *byte == b'\n') {
            let line: Vec<u8> = self.line.drain(..=end).collect();
            self.line_came(now, &line[..end], &mut notes);
        }
        notes
    }

    fn line_came(&mut self, now: u64, line: &[u8], notes: &mut Vec<Note>) {
        let message = match parse_server(line) {
            Ok(message) => message,
            Err(_) => {
                let text = String::from_utf8_lossy(line).into_owned();
                return notes.push(Note::Wrong(format!("no message: {text}")));
            }
        };
        match message {
            ServerMessage::Result { id, result } => {
                self.result(number(id.as_bytes()), result, notes)
            }
            ServerMessage::Error { id, error } => {
                self.refused(number(id.as_bytes()), error.code, notes);
            }
            ServerMessage::SetDifficulty(difficulty) => {
                let difficulty = Difficulty::new(difficulty).expect("the parser refuses others");
                self.target = Some(Target::from_difficulty(difficulty));
            }
            ServerMessage::Notify(notify) => self.notified(notify, notes),
            other if self.role == Role::Honest => {
                notes.push(Note::Wrong(format!("not expected: {other:?}")));
            }
            _ => {}
        }
        let ready = self.authorized && self.target.is_some() && !self.jobs.is_empty();
        if ready && self.mining_since.is_none() && self.extranonce1.is_some() {
            self.mining_since = Some(now);
            notes.push(Note::Mining);
        }
    }

    fn result(&mut self, id: u64, result: &str, notes: &mut Vec<Note>) {
        match id {
            ID_CONFIGURE => self.mask = granted_mask(result).unwrap_or(0),
            ID_SUBSCRIBE => match subscribed(result) {
                Some(granted) => {
                    self.extranonce2_size = granted.extranonce2_size;
                    let session_id = granted.session_id.unwrap_or_default().into_owned();
                    self.granted(session_id, granted.extranonce1, notes);
                }
                None => notes.push(Note::Wrong(format!("no subscription: {result}"))),
            },
            ID_AUTHORIZE => self.authorized = true,
            id => match self.replied(id) {
                Some(share) => notes.push(Note::Credited(share)),
                None => notes.push(Note::Wrong(format!("a reply to nothing that was asked: {id}"))),
            },
        }
    }

    /// What a miner has asked for, it may have only if it was its own, and then whole.
    fn granted(&mut self, session_id: String, extranonce1: Vec<u8>, notes: &mut Vec<Note>) {
        let is_same = self.asked.as_ref() == Some(&session_id);
        if is_same && self.role == Role::Thief {
            notes.push(Note::Wrong("was given the session of another".to_owned()));
        }
        match &mut self.former {
            Some(former) if is_same => {
                if former.extranonce1 != extranonce1 {
                    notes.push(Note::Wrong("resumed with another extranonce".to_owned()));
                }
                self.tip = former.tip;
                notes.push(Note::Resumed);
            }
            former => *former = None,
        }
        self.extranonce1 = Some(extranonce1);
        self.session_id = Some(session_id);
    }

    fn replied(&mut self, id: u64) -> Option<Submitted> {
        self.sent.remove(&id);
        self.outstanding.remove(&id)
    }

    fn refused(&mut self, id: u64, code: i64, notes: &mut Vec<Note>) {
        match self.replied(id) {
            Some(share) => notes.push(Note::Refused(share, code)),
            None if id == ID_SUBSCRIBE => notes.push(Note::TurnedAway),
            None if self.role == Role::Honest => {
                notes.push(Note::Wrong(format!("error {code} for request {id}")));
            }
            None => {}
        }
    }

    fn notified(&mut self, notify: ServerNotify<'_>, notes: &mut Vec<Note>) {
        let id = notify.job_id.to_string();
        let number = u64::from_str_radix(&id, 16).map_or(0, |id| (id >> 32) as u32);
        self.newest_job = number;
        notes.push(Note::Job { prev_hash: notify.prev_hash, number, ntime: notify.ntime });
        if notify.clean {
            self.jobs.clear();
        }
        self.jobs.truncate(JOBS_KEPT - 1);
        let notify = ServerNotify { job_id: id.clone().into(), ..notify };
        self.jobs.push_front(Job { id, number, notify });
    }

    /// Searches for a moment; what it sends.
    pub fn mine(&mut self, kernel: Kernel) -> Vec<u8> {
        let mut out = Vec::new();
        if self.mining_since.is_none() {
            return out;
        }
        self.send_again(&mut out);
        match self.role {
            Role::Honest | Role::Thief | Role::DeafFlooder => {
                self.find(kernel, Kind::Good, &mut out)
            }
            Role::Guesser => {
                let untimely = self.random.happens(300);
                self.find(kernel, if untimely { Kind::Untimely } else { Kind::Miss }, &mut out);
            }
            Role::Flooder => {
                (0..FLOOD_SHARES).for_each(|_| self.find(kernel, Kind::Good, &mut out))
            }
            Role::Duplicator => match self.last.take() {
                Some((_, line, share)) => {
                    let id = self.next_id - 1;
                    self.outstanding.insert(id, Submitted { kind: Kind::Again, ..share });
                    out = line;
                }
                None => self.find(kernel, Kind::Good, &mut out),
            },
            Role::Babbler | Role::Mute => {}
        }
        out
    }

    /// Sends what had no reply when the former connection ended.
    fn send_again(&mut self, out: &mut Vec<u8>) {
        let Some(former) = &mut self.former else { return };
        for (job, roll, share) in std::mem::take(&mut former.unanswered) {
            self.send(&job, roll, share, out);
        }
    }

    /// The shares in the bytes of the newest `mine`, each with the place of its end there.
    pub fn found(&mut self) -> Vec<(u64, Submitted)> {
        std::mem::take(&mut self.found)
    }

    fn find(&mut self, kernel: Kernel, kind: Kind, out: &mut Vec<u8>) {
        if let Some(target) = self.target {
            self.search(kernel, kind, (target, TRIES), out);
        }
    }

    /// Searches until it has found a block, if it has work and patience; what it sends.
    pub fn mine_block(&mut self, kernel: Kernel) -> Vec<u8> {
        let mut out = Vec::new();
        if self.mining_since.is_some() && self.role == Role::Honest {
            let target = Target::from_compact(BITS).expect("the bits are a target");
            self.search(kernel, Kind::Good, (target, TRIES_FOR_BLOCK), &mut out);
        }
        out
    }

    fn search(
        &mut self,
        kernel: Kernel,
        kind: Kind,
        (target, tries): (Target, usize),
        out: &mut Vec<u8>,
    ) {
        let old = self.random.happens(150);
        let place = if old { self.random.below(self.jobs.len() as u64) as usize } else { 0 };
        let job = self.jobs[place].clone();
        let Some(extranonce1) = self.extranonce1.clone() else { return };
        let mut recalled = self.recall(&job).filter(|_| kind == Kind::Good);
        for _ in 0..tries {
            let roll = recalled.take().unwrap_or_else(|| self.roll(&job, kind));
            let notify = &job.notify;
            let coinbase = [
                &notify.coinbase_first[..],
                &extranonce1,
                &roll.extranonce2,
                &notify.coinbase_second,
            ];
            let txid = kernel.sha256d(&coinbase.concat());
            let header = Header {
                version: notify.version | roll.bits,
                prev_hash: notify.prev_hash,
                merkle_root: merkle_root(kernel, txid, &notify.merkle_path),
                ntime: roll.ntime,
                bits: notify.bits,
                nonce: roll.nonce,
            };
            let hash = kernel.sha256d(&header.to_bytes());
            if target.is_met_by(&hash) == (kind == Kind::Miss) {
                continue;
            }
            return self.submit(&job, roll, Submitted { hash, kind, job: job.number }, out);
        }
    }

    /// What a job leaves to its miner, drawn.
    fn roll(&mut self, job: &Job, kind: Kind) -> Roll {
        let extranonce2 = self.random.bits().to_le_bytes()[..self.extranonce2_size].to_vec();
        let (nonce, bits) = (self.random.bits() as u32, self.random.bits() as u32 & self.mask);
        let told = job.notify.ntime;
        let ntime = match kind {
            Kind::Untimely if self.random.happens(500) => LONG_AGO,
            Kind::Untimely => told + FAR_AHEAD,
            _ if self.rolls_time => told + self.random.below(ROLLED_MAX) as u32,
            _ => told,
        };
        Roll { extranonce2, ntime, nonce, bits }
    }

    /// What was good on an earlier job of this job's tip, each once.
    fn recall(&mut self, job: &Job) -> Option<Roll> {
        let prev_hash = job.notify.prev_hash;
        // The node's clock may have jumped back since.
        let in_time = |roll: &Roll| roll.ntime <= job.notify.ntime + ROLLED_MAX as u32;
        let place = self.tried.iter().position(|(tip, number, roll)| {
            *tip == prev_hash && *number < job.number && in_time(roll)
        })?;
        self.tried.remove(place).map(|(_, _, roll)| roll)
    }

    /// Sends one share under the next id.
    fn send(&mut self, job: &str, roll: Roll, submitted: Submitted, out: &mut Vec<u8>) {
        client::submit(out, self.next_id, &self.spell(job, &roll));
        self.outstanding.insert(self.next_id, submitted);
        self.found.push((out.len() as u64, submitted));
        if self.resumes {
            self.sent.insert(self.next_id, (job.to_owned(), roll));
        }
        self.next_id += 1;
    }

    fn spell<'a>(&'a self, job: &'a str, roll: &'a Roll) -> client::Submit<'a> {
        client::Submit {
            worker: &self.name,
            job_id: job,
            extranonce2: &roll.extranonce2,
            ntime: roll.ntime,
            nonce: roll.nonce,
            version_bits: self.rolls_version.then_some(roll.bits),
        }
    }

    fn submit(&mut self, job: &Job, roll: Roll, submitted: Submitted, out: &mut Vec<u8>) {
        let id = self.next_id;
        self.send(&job.id, roll.clone(), submitted, out);
        if self.role == Role::Duplicator {
            // The same share under the next id, to be sent later.
            let mut line = Vec::new();
            client::submit(&mut line, self.next_id, &self.spell(&job.id, &roll));
            self.next_id += 1;
            self.last = Some((id, line, submitted));
        }
        if self.role == Role::DeafFlooder {
            for _ in 0..DEAF_FLOOD_SHARES {
                client::submit(out, self.next_id, &self.spell(&job.id, &roll));
                let again = Submitted { kind: Kind::Again, ..submitted };
                self.outstanding.insert(self.next_id, again);
                self.next_id += 1;
            }
        }
        if self.retries {
            self.tried.truncate(TRIED_KEPT - 1);
            self.tried.push_front((job.notify.prev_hash, job.number, roll));
        }
    }
}

/// The number of a reply; what is no number is none of ours.
fn number(id: &[u8]) -> u64 {
    let text = std::str::from_utf8(id).unwrap_or_default();
    text.parse().unwrap_or(0)
}
