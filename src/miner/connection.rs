//! One miner's conversation with its server, sans-IO: lines and finds in, bytes and news out.
//!
//! It sends its whole greeting at once (configure, subscribe, authorize), keeps the newest job
//! with the difficulty of its arrival, and judges replies: a rejection is expected only if it is
//! 21 and a clean job for another tip came before the reply.

use std::collections::VecDeque;
use std::sync::Arc;
use std::time::{Duration, Instant};

use pow::{Difficulty, Hash256, Target};
use wire::sv1::write::client;
use wire::sv1::{ServerMessage, ServerNotify, granted_mask, parse_server, subscribed};

/// What we ask to roll: the bits that BIP320 leaves to miners.
const VERSION_MASK_WANTED: u32 = 0x1fff_e000;
/// Shares without a reply. A server that answers nothing gets no more than that.
const PENDING_MAX: usize = 256;
/// The longest extranonce2 that a server may ask for.
const EXTRANONCE2_BYTES_MAX: usize = 16;

const ID_CONFIGURE: u64 = 1;
const ID_SUBSCRIBE: u64 = 2;
const ID_AUTHORIZE: u64 = 3;
const ID_FIRST_SHARE: u64 = 4;

/// A job as announced, for all connections whose lines are alike.
#[derive(Debug)]
pub(crate) struct Job {
    pub(crate) job_id: String,
    pub(crate) work: pow::Work,
    pub(crate) version: u32,
    pub(crate) ntime: u32,
    pub(crate) clean: bool,
}

/// What one miner hashes: a job, its own extranonce, its own difficulty.
#[derive(Clone, Debug)]
pub(crate) struct Task {
    /// Rises with every clean job and every new connection: an earlier find is worthless.
    pub(crate) epoch: u32,
    pub(crate) job: Arc<Job>,
    pub(crate) extranonce1: Arc<[u8]>,
    pub(crate) extranonce2_size: usize,
    pub(crate) version_mask: u32,
    pub(crate) target: Target,
}

/// A header that met its miner's target.
#[derive(Clone, Debug)]
pub(crate) struct Found {
    pub(crate) connection: usize,
    pub(crate) epoch: u32,
    pub(crate) job: Arc<Job>,
    pub(crate) extranonce2: Vec<u8>,
    pub(crate) version_bits: Option<u32>,
    pub(crate) nonce: u32,
}

/// What a line of the server changed.
#[derive(Debug)]
pub(crate) enum News {
    /// Nothing that others need to know.
    Nothing,
    /// There is new work; `clean` when all earlier work is void.
    Work { clean: bool },
    /// A share was judged.
    Verdict(Verdict),
    /// The server wants us gone, or cannot be understood: close and come again.
    Close,
}

/// What the server said about a share.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Verdict {
    /// `None`: accepted. Else the error's code.
    pub(crate) code: Option<i64>,
    /// Whether a rejection was to be expected.
    pub(crate) expected: bool,
    pub(crate) latency: Duration,
}

/// Jobs whose lines were parsed last: the same line reaches every connection.
#[derive(Debug, Default)]
pub(crate) struct JobCache {
    recent: VecDeque<(Vec<u8>, usize, Arc<Job>)>,
}

/// Different lines at one time: clean and not, two jobs, two sizes.
const JOBS_CACHED_MAX: usize = 8;

#[derive(Debug)]
struct Pending {
    id: u64,
    sent: Instant,
    prev_hash: Hash256,
}

/// One miner.
#[derive(Debug)]
pub(crate) struct Miner {
    user: String,
    epoch: u32,
    extranonce1: Arc<[u8]>,
    /// 0 until subscribed.
    extranonce2_size: usize,
    version_mask: u32,
    difficulty: Option<Difficulty>,
    authorized: bool,
    job: Option<Arc<Job>>,
    target: Target,
    pending: VecDeque<Pending>,
    next_id: u64,
}

impl Miner {
    pub(crate) fn new(user: String) -> Self {
        Miner {
            user,
            epoch: 0,
            extranonce1: Arc::from([]),
            extranonce2_size: 0,
            version_mask: 0,
            difficulty: None,
            authorized: false,
            job: None,
            target: Target::MAX,
            pending: VecDeque::new(),
            next_id: ID_FIRST_SHARE,
        }
    }

    /// The connection ended: forgets everything, and returns how many shares stay unanswered.
    pub(crate) fn disconnected(&mut self) -> usize {
        let unanswered = self.pending.len();
        let user = std::mem::take(&mut self.user);
        *self = Miner { epoch: self.epoch.wrapping_add(1), ..Miner::new(user) };
        unanswered
    }

    /// The connection stands: greets.
    pub(crate) fn connected(&mut self, out: &mut Vec<u8>) {
        client::configure(out, ID_CONFIGURE, VERSION_MASK_WANTED, 2);
        client::subscribe(out, ID_SUBSCRIBE, "headframe-miner/0.1", None);
        client::authorize(out, ID_AUTHORIZE, &self.user, "x");
    }

    /// What to hash now, once the greeting was answered and a job came.
    pub(crate) fn task(&self) -> Option<Task> {
        let job = self.job.as_ref().filter(|_| self.authorized)?;
        Some(Task {
            epoch: self.epoch,
            job: job.clone(),
            extranonce1: self.extranonce1.clone(),
            extranonce2_size: self.extranonce2_size,
            version_mask: self.version_mask,
            target: self.target,
        })
    }

    /// Shares sent and not answered yet.
    pub(crate) fn unanswered(&self) -> usize {
        self.pending.len()
    }

    /// Writes a share, unless its work is void by now, or too many wait.
    pub(crate) fn submit(&mut self, now: Instant, found: &Found, out: &mut Vec<u8>) -> bool {
        let prev_hash = found.job.work.prev_hash();
        if found.epoch != self.epoch || self.pending.len() >= PENDING_MAX {
            return false;
        }
        let share = client::Submit {
            worker: &self.user,
            job_id: &found.job.job_id,
            extranonce2: &found.extranonce2,
            ntime: found.job.ntime,
            nonce: found.nonce,
            version_bits: found.version_bits,
        };
        client::submit(out, self.next_id, &share);
        self.pending.push_back(Pending { id: self.next_id, sent: now, prev_hash });
        self.next_id += 1;
        true
    }

    /// Takes one line of the server; answers go to `out`.
    pub(crate) fn line(
        &mut self,
        now: Instant,
        line: &[u8],
        cache: &mut JobCache,
        out: &mut Vec<u8>,
    ) -> News {
        let size = self.extranonce1.len() + self.extranonce2_size;
        if let Some(job) = cache.find(line, size) {
            return self.adopt(job);
        }
        match parse_server(line) {
            Ok(ServerMessage::Notify(notify)) if self.extranonce2_size > 0 => {
                match cache.make(line, size, &notify) {
                    Some(job) => self.adopt(job),
                    None => News::Close,
                }
            }
            Ok(ServerMessage::Result { id, result }) => self.result(now, id.as_u64(), result),
            Ok(ServerMessage::Error { id, error }) => self.error(now, id.as_u64(), error.code),
            Ok(ServerMessage::SetDifficulty(difficulty)) => {
                self.difficulty = Difficulty::new(difficulty);
                News::Nothing
            }
            Ok(ServerMessage::SetVersionMask(mask)) => {
                self.version_mask = mask & VERSION_MASK_WANTED;
                self.refreshed()
            }
            Ok(ServerMessage::Ping { id }) => {
                wire::sv1::write::pong(out, id);
                News::Nothing
            }
            Ok(ServerMessage::GetVersion { id }) => {
                wire::sv1::write::result_text(out, id, "headframe-miner/0.1");
                News::Nothing
            }
            Ok(ServerMessage::SetExtranonce { .. } | ServerMessage::Unknown { .. }) => {
                // Never subscribed to, and free to be ignored.
                News::Nothing
            }
            Ok(ServerMessage::Notify(_) | ServerMessage::Invalid(_) | ServerMessage::Reconnect)
            | Err(_) => News::Close,
        }
    }

    fn adopt(&mut self, job: Arc<Job>) -> News {
        // A difficulty counts from the next job on (the oldest custom of SV1).
        self.target = self.difficulty.map_or(Target::MAX, Target::from_difficulty);
        let clean = job.clean;
        self.epoch = self.epoch.wrapping_add(u32::from(clean));
        self.job = Some(job);
        match self.authorized {
            true => News::Work { clean },
            false => News::Nothing,
        }
    }

    fn refreshed(&self) -> News {
        match self.task() {
            Some(_) => News::Work { clean: false },
            None => News::Nothing,
        }
    }

    fn result(&mut self, now: Instant, id: Option<u64>, result: &str) -> News {
        match id {
            Some(ID_CONFIGURE) => {
                self.version_mask = granted_mask(result).unwrap_or(0) & VERSION_MASK_WANTED;
                self.refreshed()
            }
            Some(ID_SUBSCRIBE) => {
                let Some(answer) = subscribed(result) else { return News::Close };
                let size = answer.extranonce2_size;
                let total = answer.extranonce1.len() + size;
                let usable = (1..=EXTRANONCE2_BYTES_MAX).contains(&size);
                if !usable || total > pow::share::EXTRANONCE_SIZE_MAX {
                    return News::Close;
                }
                self.extranonce1 = answer.extranonce1.into();
                self.extranonce2_size = size;
                News::Nothing
            }
            Some(ID_AUTHORIZE) => {
                self.authorized = result == "true";
                if self.authorized { self.refreshed() } else { News::Close }
            }
            Some(id) if result == "true" => self.judged(now, id, None),
            // Some pools refuse with a plain false.
            Some(id) => self.judged(now, id, Some(0)),
            None => News::Close,
        }
    }

    fn error(&mut self, now: Instant, id: Option<u64>, code: i64) -> News {
        match id {
            // Without version rolling we mine on; without the other two we cannot.
            Some(ID_CONFIGURE) => News::Nothing,
            Some(ID_SUBSCRIBE | ID_AUTHORIZE) | None => News::Close,
            Some(id) => self.judged(now, id, Some(code)),
        }
    }

    fn judged(&mut self, now: Instant, id: u64, code: Option<i64>) -> News {
        let Some(place) = self.pending.iter().position(|pending| pending.id == id) else {
            return News::Nothing;
        };
        let pending = self.pending.remove(place).expect("it was just found there");
        let tip = self.job.as_ref().map(|job| job.work.prev_hash());
        let expected = code.is_none() || code == Some(21) && tip != Some(pending.prev_hash);
        let latency = now.saturating_duration_since(pending.sent);
        News::Verdict(Verdict { code, expected, latency })
    }
}

impl JobCache {
    fn find(&self, line: &[u8], extranonce_size: usize) -> Option<Arc<Job>> {
        let mut recent = self.recent.iter();
        let hit = recent.find(|(known, size, _)| *size == extranonce_size && known == line);
        hit.map(|(_, _, job)| job.clone())
    }

    fn make(
        &mut self,
        line: &[u8],
        extranonce_size: usize,
        notify: &ServerNotify<'_>,
    ) -> Option<Arc<Job>> {
        let job = Arc::new(Job {
            job_id: notify.job_id.clone().into_owned(),
            work: notify.work(extranonce_size).ok()?,
            version: notify.version,
            ntime: notify.ntime,
            clean: notify.clean,
        });
        if self.recent.len() == JOBS_CACHED_MAX {
            self.recent.pop_front();
        }
        self.recent.push_back((line.to_vec(), extranonce_size, job.clone()));
        Some(job)
    }
}
