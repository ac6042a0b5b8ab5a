//! Tests of the machine through one harness: a shard of one connection with virtual time, whose
//! hashes are real. Nothing is mocked; the miner's side searches its nonces itself.

mod announcing;
mod closing;
mod firmware;
mod handshaking;
mod properties;
mod remembering;
mod resuming;
mod steering;
mod submitting;
mod transcripts;

use crate::{
    Close, DownstreamSv1, Event, Input, Job, Output, Prefix, Question, RenderId, Rendering,
    SendBuf, SessionId, Settings, ShareEvent, ShareOutcome, ShareToCheck, Shared, Tick, Ticket,
    Verdict,
};
use alloc::sync::Arc;
use pow::{Difficulty, Extranonce, Hash256, Kernel, Share, Target, Work, WorkParts};
use wire::sv1::write;

pub(super) const SECOND: u64 = 1_000_000;
pub(super) const CURTIME: u32 = 1_700_000_000;
/// Seconds by which the tip's median time is behind: a slow day.
pub(super) const TIP_AGE_SECONDS: u32 = 3 * 3_600;
pub(super) const MASK: u32 = 0x1fff_e000;
pub(super) const PREFIX: [u8; 4] = [0xa1, 0xb2, 0xc3, 0xd4];
pub(super) const SESSION: SessionId = SessionId(0x0123_4567_89ab_cdef);

/// One connection and its shard.
pub(super) struct Pair {
    pub(super) now: Tick,
    pub(super) shared: Shared,
    pub(super) machine: DownstreamSv1,
    kernel: Kernel,
    /// Whether the connection's one send is in flight.
    pub(super) sending: bool,
    /// Whether questions for a prefix are answered at once.
    pub(super) grants: bool,
    /// Whether checks are hashed and answered at once.
    pub(super) hashes: bool,
    pub(super) received: Vec<u8>,
    pub(super) events: Vec<Event>,
    pub(super) renderings: Vec<Rendering>,
    pub(super) checks: Vec<(Ticket, ShareToCheck)>,
    pub(super) asked: u32,
    /// The newest question.
    pub(super) question: Option<Question>,
    pub(super) closed: Option<Close>,
    pub(super) wait: Tick,
}

impl Pair {
    pub(super) fn new() -> Pair {
        Pair::with(easy())
    }

    pub(super) fn with(settings: Settings) -> Pair {
        let shared = Shared::new(settings);
        let now = Tick(50 * SECOND);
        Pair {
            now,
            machine: DownstreamSv1::new(now, &shared, 0x5eed),
            shared,
            kernel: Kernel::detect(),
            sending: false,
            grants: true,
            hashes: true,
            received: Vec::new(),
            events: Vec::new(),
            renderings: Vec::new(),
            checks: Vec::new(),
            asked: 0,
            question: None,
            closed: None,
            wait: Tick::NEVER,
        }
    }

    /// Subscribed, authorized as `w`, with version rolling, on job 1; nothing left to read.
    pub(super) fn mining(settings: Settings) -> Pair {
        let mut pair = Pair::with(settings);
        pair.adopt(job(1, 1, pair.now));
        pair.shake_hands();
        pair
    }

    pub(super) fn shake_hands(&mut self) {
        self.say(CONFIGURE);
        self.say(SUBSCRIBE);
        self.say(AUTHORIZE);
        self.lines();
        self.events.clear();
    }

    pub(super) fn input(&mut self, input: Input<'_>) {
        self.machine.handle(self.now, &self.shared, input);
        self.drain();
    }

    pub(super) fn bytes(&mut self, bytes: &[u8]) {
        self.input(Input::Bytes(&mut bytes.to_vec()));
    }

    pub(super) fn say(&mut self, line: &str) {
        self.bytes(format!("{line}\n").as_bytes());
    }

    /// Says one line and hears what comes.
    pub(super) fn ask(&mut self, line: &str) -> Vec<String> {
        self.say(line);
        self.lines()
    }

    pub(super) fn pass(&mut self, micros: u64) {
        self.now = self.now.plus_micros(micros);
        self.input(Input::Timer);
    }

    pub(super) fn adopt(&mut self, job: Job) {
        let newest = self.shared.adopt(Arc::new(job));
        self.input(Input::Job(newest));
    }

    /// The send came through: the shard drains again.
    pub(super) fn sent(&mut self) {
        self.sending = false;
        self.input(Input::Timer);
    }

    /// What the miner received since the last call.
    pub(super) fn lines(&mut self) -> Vec<String> {
        let text = String::from_utf8(core::mem::take(&mut self.received)).expect("text");
        assert!(text.is_empty() || text.ends_with('\n'), "half a line: {text}");
        assert!(!text.contains('\r'), "LF alone");
        text.lines().map(str::to_owned).collect()
    }

    /// The same over as many sends as it takes.
    pub(super) fn all_lines(&mut self) -> Vec<String> {
        let mut all = self.lines();
        loop {
            self.sent();
            match self.lines() {
                lines if lines.is_empty() => return all,
                lines => all.extend(lines),
            }
        }
    }

    fn drain(&mut self) {
        loop {
            self.poll();
            if !self.hashes || self.checks.is_empty() {
                return;
            }
            let verdicts: Vec<_> = core::mem::take(&mut self.checks)
                .into_iter()
                .map(|(ticket, check)| (ticket, Verdict { hash: self.hash(&check) }))
                .collect();
            self.machine.handle(self.now, &self.shared, Input::Verdicts(&verdicts));
        }
    }

    fn poll(&mut self) {
        let mut out = if self.sending { SendBuf::closed() } else { SendBuf::new() };
        for _ in 0..10_000 {
            match self.machine.poll_output(&self.shared, &mut out) {
                Output::Wrote => assert!(!out.is_empty()),
                Output::Shared(rendering) => {
                    assert!(out.is_open());
                    let alone = out.is_empty();
                    out.append(&render(&self.shared, rendering));
                    self.renderings.push(rendering);
                    // As the shard does: shared bytes go as they are, and nothing behind them.
                    if alone {
                        out.close();
                    }
                }
                Output::Check(ticket, share) => self.checks.push((ticket, share)),
                Output::Ask(question) => {
                    self.asked += 1;
                    self.question = Some(question);
                    if self.grants {
                        self.grant();
                    }
                }
                Output::Event(event) => self.events.push(event),
                Output::Close(close) => {
                    assert_eq!(self.closed.replace(close), None, "closed once");
                }
                Output::Wait(tick) => {
                    self.wait = tick;
                    let again = !self.sending && !out.is_open();
                    self.received.extend_from_slice(&out.into_vec());
                    // The shared bytes are through: what was held back follows.
                    if again {
                        self.poll();
                    }
                    return;
                }
            }
        }
        panic!("the machine never waits");
    }

    pub(super) fn grant(&mut self) {
        let prefix = Prefix::new(&PREFIX).expect("four bytes");
        self.machine.handle(self.now, &self.shared, Input::Granted(prefix, SESSION));
    }

    pub(super) fn hash(&self, check: &ShareToCheck) -> Hash256 {
        self.kernel.hash_share(&self.shared.job(check.job).work, &check.share)
    }

    /// The rendering that the miner works on.
    pub(super) fn id(&self) -> RenderId {
        let rendering = self.renderings.last().expect("a job was announced");
        RenderId { number: self.shared.job(rendering.job).number, second: rendering.second }
    }

    /// A share on `id` that is wanted by `wanted`, searched for as a miner does.
    pub(super) fn search(&self, id: RenderId, from: u32, wanted: impl Fn(&Hash256) -> bool) -> Sub {
        let (crate::Found::Current(index) | crate::Found::Superseded(index)) =
            self.shared.find(id.number)
        else {
            panic!("the job is gone")
        };
        let job = self.shared.job(index);
        let mut sub = Sub::on(id);
        for nonce in from..from + 1_000_000 {
            let extranonce = Extranonce::joined(&PREFIX, &[0, 0, 0, 1]).expect("eight bytes");
            let version = job.version;
            let share = Share { extranonce, version, ntime: sub.ntime_number, nonce };
            if wanted(&self.kernel.hash_share(&job.work, &share)) {
                sub.nonce = format!("{nonce:08x}");
                sub.nonce_number = nonce;
                return sub;
            }
        }
        panic!("no nonce")
    }

    /// A share that meets the miner's difficulty.
    pub(super) fn good(&self, from: u32) -> Sub {
        let target = Target::from_difficulty(self.machine.difficulty());
        self.search(self.id(), from, |hash| target.is_met_by(hash))
    }

    /// A share that misses it.
    pub(super) fn poor(&self, from: u32) -> Sub {
        let target = Target::from_difficulty(self.machine.difficulty());
        self.search(self.id(), from, |hash| !target.is_met_by(hash))
    }

    pub(super) fn outcomes(&mut self) -> Vec<ShareOutcome> {
        let events = core::mem::take(&mut self.events);
        let share = |event| match event {
            Event::Share(ShareEvent { outcome, .. }) => Some(outcome),
            _ => None,
        };
        events.into_iter().filter_map(share).collect()
    }

    pub(super) fn blocks(&self) -> usize {
        self.events.iter().filter(|event| matches!(event, Event::Block(_))).count()
    }
}

/// A submit's fields as text, to be spoilt one by one.
#[derive(Debug, Clone)]
pub(super) struct Sub {
    pub(super) worker: String,
    pub(super) id: String,
    pub(super) extranonce2: String,
    pub(super) ntime: String,
    pub(super) nonce: String,
    pub(super) bits: Option<String>,
    pub(super) ntime_number: u32,
    pub(super) nonce_number: u32,
}

impl Sub {
    pub(super) fn on(id: RenderId) -> Sub {
        Sub {
            worker: "w".into(),
            id: id.to_string(),
            extranonce2: "00000001".into(),
            ntime: format!("{:08x}", id.second),
            nonce: "00000000".into(),
            bits: None,
            ntime_number: id.second,
            nonce_number: 0,
        }
    }

    pub(super) fn line(&self, id: u32) -> String {
        let Sub { worker, id: job, extranonce2, ntime, nonce, .. } = self;
        let mut params = vec![worker, job, extranonce2, ntime, nonce];
        params.extend(&self.bits);
        let params: Vec<_> = params.into_iter().map(|text| format!("\"{text}\"")).collect();
        let params = params.join(",");
        format!(r#"{{"id":{id},"method":"mining.submit","params":[{params}]}}"#)
    }
}

pub(super) const CONFIGURE: &str = concat!(
    r#"{"id":1,"method":"mining.configure","params":[["version-rolling"],"#,
    r#"{"version-rolling.mask":"ffffffff","version-rolling.min-bit-count":2}]}"#
);
pub(super) const SUBSCRIBE: &str = r#"{"id":2,"method":"mining.subscribe","params":["miner/1.0"]}"#;
pub(super) const AUTHORIZE: &str = r#"{"id":3,"method":"mining.authorize","params":["w","x"]}"#;
pub(super) const SUBSCRIBED: &str = concat!(
    r#"{"id":2,"result":[[["mining.set_difficulty","0123456789abcdef"],"#,
    r#"["mining.notify","0123456789abcdef"]],"a1b2c3d4",4],"error":null}"#
);

/// One share in a few hundred hashes.
pub(super) fn easy() -> Settings {
    Settings { start_difficulty: difficulty(1e-7), ..Settings::default() }
}

/// As [`easy`], and the shares decide the difficulty.
pub(super) fn steered() -> Settings {
    Settings { start_difficulty: difficulty(STEERED), ..real() }
}

/// What a farm runs with.
pub(super) fn real() -> Settings {
    Settings {
        minimum_difficulty: difficulty(1e-9),
        start_by_class: true,
        wished_pace: crate::Pace::per_minute(12.0),
        ..Settings::default()
    }
}

/// A power of two near 1e-7.
pub(super) const STEERED: f64 = 1.0 / 8_388_608.0;

pub(super) fn difficulty(number: f64) -> Difficulty {
    Difficulty::new(number).expect("a positive number")
}

/// A job that came in at `received`; its network target is out of reach.
pub(super) fn job(number: u32, tip: u32, received: Tick) -> Job {
    let first = vec![number as u8; 60];
    let second = vec![0x52; 50];
    let path = [Hash256([7; 32]), Hash256([8; 32])];
    let parts = WorkParts {
        coinbase_first: &first,
        coinbase_second: &second,
        extranonce_size: 8,
        merkle_path: &path,
        prev_hash: Hash256([tip as u8; 32]),
        bits: 0x1703_4219,
    };
    Job {
        number,
        tip,
        height: 800_000 + tip,
        received,
        curtime: CURTIME,
        min_ntime: CURTIME - TIP_AGE_SECONDS,
        version: 0x2000_0000,
        version_mask: MASK,
        network_target: Target::from_compact(0x1703_4219).expect("mainnet's"),
        content: u64::from(number).wrapping_mul(0x1234_5678_9abc_def1),
        work: Work::new(parts).expect("fits"),
        coinbase_first: first,
        coinbase_second: second,
        replaces_coinbase_only: false,
    }
}

/// The bytes of a rendering, as the farm makes them.
pub(super) fn render(shared: &Shared, rendering: Rendering) -> Vec<u8> {
    let job = shared.job(rendering.job);
    let id = RenderId { number: job.number, second: rendering.second }.to_string();
    let mut out = Vec::new();
    let notify = write::Notify {
        job_id: &id,
        prev_hash: &job.work.prev_hash(),
        coinbase_first: &job.coinbase_first,
        coinbase_second: &job.coinbase_second,
        merkle_path: job.work.path(),
        version: job.version,
        bits: job.work.bits(),
        ntime: rendering.second,
        clean: rendering.clean,
    };
    write::notify(&mut out, &notify);
    out
}

pub(super) fn is_notify(line: &str) -> bool {
    line.starts_with(r#"{"id":null,"method":"mining.notify""#)
}

pub(super) fn is_set_difficulty(line: &str) -> bool {
    line.starts_with(r#"{"id":null,"method":"mining.set_difficulty""#)
}

/// Kinds of lines, for tests in which order is all.
pub(super) fn kinds(lines: &[String]) -> String {
    let kind = |line: &String| match line {
        line if is_notify(line) && line.ends_with(",true]}") => "clean".to_owned(),
        line if is_notify(line) => "notify".to_owned(),
        line if is_set_difficulty(line) => "difficulty".to_owned(),
        line => line[6..].split(',').next().unwrap_or_default().to_owned(),
    };
    lines.iter().map(kind).collect::<Vec<_>>().join(" ")
}

#[test]
fn an_idle_session_is_small() {
    let pair = Pair::mining(easy());
    let whole = size_of::<DownstreamSv1>() + pair.machine.memory_bytes();
    assert!(size_of::<DownstreamSv1>() <= 608, "{} bytes", size_of::<DownstreamSv1>());
    println!("{} bytes, {whole} with what it holds", size_of::<DownstreamSv1>());
    assert!(whole <= 1_400, "{whole} bytes with what it holds");
}
