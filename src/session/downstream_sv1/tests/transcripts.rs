//! Whole conversations with the firmware that farms run, one file each in `transcripts/`, played
//! against the machine with a job feed and virtual time. Facts about single habits have their own
//! tests; here is what a machine says from its connect to its tenth minute, in order and on time.
//!
//! # A file
//!
//! First its head, a `key: value` per line: `firmware`, `agent` (what it calls itself, as we keep
//! it), `evidence` and `missing` (what no evidence was found for). The evidence is `recorded` (a
//! log or capture, posted by somebody or made with the program itself), `from source` (the
//! firmware's own code) or `composed` (put together from several sources, none of which shows it
//! whole). Then one step per line:
//! milliseconds since the first connect, a sign, and what belongs to it. `#` begins a comment.
//!
//! ```text
//! @ place           where the lines that the firmware sends below, up to the next @, come from
//! 0  node tip       the farm adopts a job on a new tip; `node job`: another one on the same tip
//! 0  want 4         the farm's policy wants this difficulty
//! 0  connect        a fresh connection
//! 10 > line         the firmware sends this line
//! 10 + line         and this one in the same segment
//! 10 raw 1603       the firmware sends these bytes, whatever is answered
//! 10 < line         we send this line next, at this very millisecond
//! 10 < difficulty 4 the same of mining.set_difficulty
//! 10 < work clean   the same of mining.notify; `work` alone: the miner may go on with what it has
//! 10 closed Silent  we close, for this reason
//! 10 hangup         the firmware closes, or the line breaks
//! 10 forget         the server starts anew, while nobody is connected: it knows no session
//! ```
//!
//! The firmware's lines are written as the firmware writes them, blanks and all. `{job}` is the id
//! of the newest work that it heard, `{job-1}` of the one before; `{ntime}` the time of that work;
//! `{nonce}` one that makes the share good, `{nonce:short}` such a one without its leading zeros,
//! `{nonce:poor}` one that misses the difficulty, `{nonce:again}` the last one once more;
//! `{session}` and `{extranonce1}` are from our answer to the last subscribe.
//!
//! # What the player demands
//!
//! The miner's side is played from the wire alone: extranonce1, work and difficulty are those that
//! were heard. Beyond what a file says, in every one: each line of the firmware has its source,
//! each line that we send is in the file and at its time, none goes between a request and its
//! answer, a difficulty goes before the first work, no id of work is used twice, the bits that may
//! be rolled are clear, nothing is silent for longer than the keep-alive, at least one share is
//! accepted, a new tip is heard of, and a session that is named in a subscribe and still there is
//! given back with its extranonce1 and its work, others with another one. Each is played three
//! times: in whole segments, in single bytes, and with segments cut in pieces of seven.

use super::*;
use crate::Parked;
use alloc::collections::VecDeque;
use wire::hex;
use wire::sv1::{Id, Request, ServerMessage, Subscribed, parse_server, subscribed};

/// One file, played in every way of cutting its segments.
macro_rules! transcripts {
    ($($name:ident: $file:literal,)*) => {$(
        #[test]
        fn $name() {
            play(concat!("transcripts/", $file), include_str!(concat!("transcripts/", $file)));
        }
    )*};
}

transcripts! {
    antminer_rwglr_mines: "antminer-rwglr.txt",
    antminer_s9_mines: "antminer-bmminer.txt",
    antminer_s19_mines: "antminer-s19.txt",
    antminer_s21_mines: "antminer-s21.txt",
    avalon_mines: "avalon.txt",
    bfgminer_mines: "bfgminer.txt",
    bfgminer_mines_as_a_proxy: "bfgminer-proxy.txt",
    bitaxe_mines: "bitaxe.txt",
    bitaxe_comes_back_from_its_fallback: "bitaxe-fallback.txt",
    braiins_os_mines: "braiins-os.txt",
    cgminer_mines: "cgminer.txt",
    cpuminer_mines: "cpuminer.txt",
    epic_mines: "epic.txt",
    luxos_mines: "luxos.txt",
    miningrigrentals_tests_and_mines: "miningrigrentals.txt",
    nerdminer_mines: "nerdminer.txt",
    nerdqaxe_mines: "nerdqaxe.txt",
    nicehash_verifies_and_mines: "nicehash.txt",
    para_mines_and_comes_back: "para.txt",
    vnish_mines: "vnish.txt",
    whatsminer_mines: "whatsminer.txt",
}

fn play(name: &'static str, text: &str) {
    let script = Script::read(name, text);
    for piece in [usize::MAX, 1, 7] {
        let mut player = Player::new(&script, piece);
        player.play();
    }
}

/// A file, read.
struct Script {
    name: &'static str,
    agent: String,
    steps: Vec<Step>,
}

struct Step {
    /// Its line in the file, from 1.
    line: usize,
    millis: u64,
    act: Act,
}

enum Act {
    Connect,
    Hangup,
    Forget,
    NodeJob { new_tip: bool },
    Want(Difficulty),
    Say { line: String, joins: bool },
    SayRaw(Vec<u8>),
    Hear(String),
    Closed(String),
}

impl Script {
    fn read(name: &'static str, text: &str) -> Script {
        let mut head: Vec<(&str, &str)> = Vec::new();
        let mut steps = Vec::new();
        let mut source = None;
        for (at, line) in text.lines().enumerate() {
            let place = format!("{name}:{}", at + 1);
            if line.is_empty() || line.starts_with('#') {
                continue;
            }
            if let Some(found) = line.strip_prefix("@ ") {
                source = Some(found);
            } else if line.starts_with(|first: char| first.is_ascii_digit()) {
                let (millis, rest) = line.split_once(' ').unwrap_or_else(|| panic!("{place}"));
                let (sign, rest) = rest.trim_start().split_once(' ').unwrap_or((rest.trim(), ""));
                let act = Act::read(sign, rest, &place);
                let says = matches!(act, Act::Say { .. } | Act::SayRaw(_));
                assert!(!says || source.is_some(), "{place}: a line without its source");
                let millis = millis.parse().unwrap_or_else(|_| panic!("{place}: {millis}"));
                steps.push(Step { line: at + 1, millis, act });
            } else if let Some(more) = line.strip_prefix("  ") {
                assert!(!head.is_empty() && !more.is_empty(), "{place}: what is continued?");
            } else {
                head.push(line.split_once(": ").unwrap_or_else(|| panic!("{place}: {line}")));
            }
        }
        let keys: Vec<_> = head.iter().map(|(key, _)| *key).collect();
        assert_eq!(keys, ["firmware", "agent", "evidence", "missing"], "{name}");
        let evidence = head[2].1;
        assert!(["recorded", "from source", "composed"].contains(&evidence), "{name}: {evidence}");
        assert!(steps.is_sorted_by_key(|step| step.millis), "{name}: time goes on");
        Script { name, agent: head[1].1.to_owned(), steps }
    }
}

impl Act {
    fn read(sign: &str, rest: &str, place: &str) -> Act {
        match sign {
            "connect" => Act::Connect,
            "hangup" => Act::Hangup,
            "forget" => Act::Forget,
            "node" => Act::NodeJob { new_tip: rest == "tip" },
            "want" => Act::Want(difficulty(rest.parse().expect("a number"))),
            ">" | "+" => Act::Say { line: rest.to_owned(), joins: sign == "+" },
            "raw" => {
                let mut bytes = vec![0; rest.len() / 2];
                hex::decode_into(rest, &mut bytes).unwrap_or_else(|_| panic!("{place}: no hex"));
                Act::SayRaw(bytes)
            }
            "<" => Act::Hear(rest.to_owned()),
            "closed" => Act::Closed(rest.to_owned()),
            _ => panic!("{place}: no such sign: {sign}"),
        }
    }
}

/// The miner's side, and the farm's.
struct Player<'a> {
    script: &'a Script,
    /// Segments arrive in pieces of at most so many bytes.
    piece: usize,
    began: Tick,
    pair: Pair,
    connected: bool,
    /// Connections so far.
    connects: u64,
    /// Job numbers and tips so far.
    jobs: u32,
    tips: u32,
    /// Lines that came and that the script has not asked for yet.
    heard: VecDeque<(u64, String)>,
    last_heard: Tick,
    /// Ids of requests without an answer; submits are not among them.
    unanswered: Vec<String>,
    session: String,
    /// The session that the last subscribe named.
    named: Option<SessionId>,
    /// Whether the last question was answered by a former session, until the miner hears of it.
    resumes: Option<bool>,
    /// What the last connection with work left at the server.
    parked: Option<Parked>,
    /// Sessions that were granted.
    sessions: u8,
    extranonce1: Vec<u8>,
    difficulty: Option<f64>,
    works: Vec<Heard>,
    /// Works of the connection before, for a miner that resumes.
    former_works: Vec<Heard>,
    last_nonce: u32,
    /// Work with clean on each tip that the miner heard of.
    tips_heard: Vec<Hash256>,
    outcomes: Vec<ShareOutcome>,
}

/// A line of the firmware, and the id of the answer for which nothing else may come; submits have
/// none.
struct Spoken {
    line: String,
    awaits: Option<String>,
}

/// Work, as the miner heard of it.
struct Heard {
    id: String,
    work: Work,
    version: u32,
    ntime: u32,
    difficulty: Difficulty,
}

impl<'a> Player<'a> {
    fn new(script: &'a Script, piece: usize) -> Player<'a> {
        let mut pair = Pair::new();
        pair.grants = false;
        Player {
            script,
            piece,
            began: pair.now,
            connected: false,
            connects: 0,
            jobs: 0,
            tips: 0,
            heard: VecDeque::new(),
            last_heard: pair.now,
            unanswered: Vec::new(),
            session: String::new(),
            named: None,
            resumes: None,
            parked: None,
            sessions: 0,
            extranonce1: Vec::new(),
            difficulty: None,
            works: Vec::new(),
            former_works: Vec::new(),
            last_nonce: 0,
            tips_heard: Vec::new(),
            outcomes: Vec::new(),
            pair,
        }
    }

    fn play(&mut self) {
        let mut steps = self.script.steps.iter().peekable();
        while let Some(step) = steps.next() {
            self.pass_until(step.millis);
            if !matches!(step.act, Act::Hear(_)) {
                self.nothing_is_left(step);
            }
            match &step.act {
                Act::Say { line, .. } => {
                    let mut segment = vec![self.spell(step, line)];
                    while let Some(joined) = steps.next_if(|next| {
                        next.millis == step.millis
                            && matches!(next.act, Act::Say { joins: true, .. })
                    }) {
                        let Act::Say { line, .. } = &joined.act else { unreachable!("matched") };
                        segment.push(self.spell(joined, line));
                    }
                    self.say(&segment);
                }
                _ => self.act(step),
            }
        }
        let end = self.script.steps.last().expect("a script has steps");
        self.nothing_is_left(end);
        self.judge();
    }

    fn act(&mut self, step: &Step) {
        match &step.act {
            Act::Connect => self.connect(),
            Act::Hangup => self.connected = false,
            Act::Forget => {
                assert!(!self.connected, "{}: while nobody is connected", self.at(step));
                // A fresh one has nothing to leave.
                self.take_machine();
                self.parked = None;
            }
            Act::NodeJob { new_tip } => {
                self.jobs += 1;
                self.tips += u32::from(*new_tip);
                let job = job(self.jobs, self.tips, self.pair.now);
                if self.connected {
                    self.pair.adopt(job);
                    self.listen();
                } else {
                    let _ = self.pair.shared.adopt(Arc::new(job));
                }
            }
            Act::Want(wanted) => {
                self.pair.input(Input::Policy(crate::Policy::Difficulty(*wanted)));
                self.listen();
            }
            Act::Say { .. } => unreachable!("said where it is found"),
            Act::SayRaw(bytes) => {
                self.pair.bytes(bytes);
                let answer = core::mem::take(&mut self.pair.received);
                assert!(!answer.contains(&b'{'), "{}: Stratum to a stranger", self.at(step));
            }
            Act::Hear(wanted) => self.hear(step, wanted),
            Act::Closed(reason) => {
                let closed = self.pair.closed.map(|close| format!("{close:?}"));
                assert_eq!(closed.as_deref(), Some(reason.as_str()), "{}", self.at(step));
                self.connected = false;
            }
        }
        if self.connected && self.pair.closed.is_some() {
            let next = self.script.steps.iter().find(|next| next.line > step.line);
            let expected = next.is_some_and(|next| matches!(next.act, Act::Closed(_)));
            assert!(expected, "{}: closed for {:?}", self.at(step), self.pair.closed);
        }
    }

    fn connect(&mut self) {
        assert!(!self.connected, "{}: one connection at a time", self.script.name);
        self.gather();
        self.take_machine();
        self.pair.closed = None;
        self.pair.renderings.clear();
        self.pair.input(Input::Timer);
        self.connected = true;
        self.last_heard = self.pair.now;
        self.unanswered.clear();
        if !self.works.is_empty() {
            self.former_works = core::mem::take(&mut self.works);
        }
        self.difficulty = None;
    }

    /// A fresh machine; the server keeps of the last one what may be resumed.
    fn take_machine(&mut self) {
        self.connects += 1;
        let fresh = DownstreamSv1::new(self.pair.now, &self.pair.shared, self.connects);
        let last = core::mem::replace(&mut self.pair.machine, fresh);
        self.parked = last.park().or(self.parked.take());
    }

    /// Answers what the machine asks of its host.
    fn answer_question(&mut self) {
        let Some(question) = self.pair.question.take() else { return };
        assert_eq!(question, self.named.map_or(Question::Prefix, Question::Resume));
        let found = self.parked.take_if(|parked| self.named == Some(parked.session_id()));
        self.resumes = Some(found.is_some());
        if found.is_some() {
            return self.pair.input(Input::Resumed(&mut found.map(Box::new)));
        }
        self.sessions += 1;
        let prefix = Prefix::new(&[0xa1, 0xb2, 0xc3, self.sessions]).expect("four bytes");
        let session = SessionId(0x0123_4567_89ab_cd00 + u64::from(self.sessions));
        self.pair.input(Input::Granted(prefix, session));
    }

    /// Lets time go on, with every moment at which the machine wants to be woken.
    fn pass_until(&mut self, millis: u64) {
        let target = self.began.plus_micros(millis * 1_000);
        while self.connected && self.pair.closed.is_none() && self.pair.wait <= target {
            let step = self.pair.wait.since(self.pair.now);
            assert!(step > 0, "{}: a deadline that does not pass", self.script.name);
            self.pair.pass(step);
            self.listen();
        }
        self.pair.now = target;
    }

    /// Lets a segment arrive in pieces. A request waits for its answer once it is there as a whole.
    fn say(&mut self, lines: &[Spoken]) {
        let segment: String = lines.iter().map(|spoken| format!("{}\n", spoken.line)).collect();
        let mut lines = lines.iter();
        for piece in segment.as_bytes().chunks(self.piece.min(segment.len())) {
            for _ in piece.iter().filter(|byte| **byte == b'\n') {
                let spoken = lines.next().expect("as many as ends of lines");
                self.unanswered.extend(spoken.awaits.clone());
            }
            self.pair.bytes(piece);
            self.answer_question();
            self.listen();
        }
    }

    /// Takes in what came, as a miner would, and holds it against the rules for all.
    fn listen(&mut self) {
        let millis = self.pair.now.since(self.began) / 1_000;
        let keepalive = self.pair.shared.settings().keepalive_us;
        for line in self.pair.lines() {
            let silence = self.pair.now.since(self.last_heard);
            assert!(silence <= keepalive, "{} at {millis}: {silence} µs silent", self.script.name);
            self.last_heard = self.pair.now;
            let place = format!("{} at {millis}: {line}", self.script.name);
            match parse_server(line.as_bytes()).unwrap_or_else(|error| panic!("{place}: {error}")) {
                ServerMessage::Result { id, result } => {
                    self.answered(id);
                    if let Some(subscribed) = subscribed(result) {
                        self.subscribed(&subscribed);
                    }
                }
                ServerMessage::Error { id, .. } => self.answered(id),
                ServerMessage::SetDifficulty(number) => {
                    assert!(self.unanswered.is_empty(), "{place} before {:?}", self.unanswered);
                    self.difficulty = Some(number);
                }
                ServerMessage::Notify(notify) => {
                    assert!(self.unanswered.is_empty(), "{place} before {:?}", self.unanswered);
                    let number = self.difficulty.unwrap_or_else(|| panic!("{place}: how hard?"));
                    let known = self.works.iter().any(|work| *work.id == *notify.job_id);
                    assert!(!known, "{place}: an id is used twice");
                    assert_eq!(notify.version & MASK, 0, "{place}");
                    if notify.clean && self.tips_heard.last() != Some(&notify.prev_hash) {
                        self.tips_heard.push(notify.prev_hash);
                    }
                    self.works.push(Heard {
                        id: notify.job_id.clone().into_owned(),
                        work: notify.work(self.extranonce1.len() + 4).expect("it can be hashed"),
                        version: notify.version,
                        ntime: notify.ntime,
                        difficulty: difficulty(number),
                    });
                }
                other => panic!("{place}: {other:?} is never sent"),
            }
            self.heard.push_back((millis, line));
        }
        self.gather();
    }

    /// A session that was resumed is the same in all that the miner sees, and its work goes on.
    fn subscribed(&mut self, subscribed: &Subscribed<'_>) {
        let session = subscribed.session_id.as_deref().expect("a session");
        // Asked twice on one connection, the answer is the same.
        let resumes = self.resumes.take();
        let same = resumes.unwrap_or(true);
        let name = self.script.name;
        assert_eq!(session == self.session, same, "{name}: {session}");
        assert_eq!(subscribed.extranonce1 == self.extranonce1, same, "{name}");
        if resumes == Some(true) {
            self.works = core::mem::take(&mut self.former_works);
        }
        self.session = session.to_owned();
        self.extranonce1.clone_from(&subscribed.extranonce1);
    }

    fn answered(&mut self, id: Id<'_>) {
        let id = String::from_utf8_lossy(id.as_bytes());
        if let Some(place) = self.unanswered.iter().position(|waiting| **waiting == *id) {
            assert_eq!(place, 0, "{}: {id} is answered out of turn", self.script.name);
            self.unanswered.remove(0);
        }
    }

    fn gather(&mut self) {
        self.outcomes.extend(self.pair.outcomes());
    }

    fn hear(&mut self, step: &Step, wanted: &str) {
        let wanted_line = match wanted.strip_prefix("difficulty ") {
            Some(number) => {
                format!(r#"{{"id":null,"method":"mining.set_difficulty","params":[{number}]}}"#)
            }
            None => {
                let id = self.works.last().map_or("", |work| &work.id);
                self.fill_session(wanted).replace("{job}", id)
            }
        };
        let Some((millis, line)) = self.heard.pop_front() else {
            panic!("{}: nothing was sent, expected: {wanted}", self.at(step));
        };
        assert_eq!(millis, step.millis, "{}: at another time: {line}", self.at(step));
        match wanted {
            "work" | "work clean" => {
                let clean = if wanted == "work" { ",false]}" } else { ",true]}" };
                assert!(is_notify(&line) && line.ends_with(clean), "{}: {line}", self.at(step));
            }
            _ => assert_eq!(line, wanted_line, "{}", self.at(step)),
        }
    }

    fn nothing_is_left(&self, step: &Step) {
        let left = &self.heard;
        assert!(left.is_empty(), "{}: not in the file before it: {left:#?}", self.at(step));
    }

    fn fill_session(&self, line: &str) -> String {
        let mut extranonce1 = Vec::new();
        hex::encode(&mut extranonce1, &self.extranonce1);
        let extranonce1 = String::from_utf8(extranonce1).expect("hex is text");
        line.replace("{session}", &self.session).replace("{extranonce1}", &extranonce1)
    }

    /// A line of the firmware with everything filled in.
    fn spell(&mut self, step: &Step, line: &str) -> Spoken {
        let mut line = self.fill_session(line);
        if line.contains("{job") || line.contains("{nonce") {
            line = self.spell_share(step, &line);
        }
        assert!(!line.contains("{job") && !line.contains("{n"), "{}: {line}", self.at(step));
        let message = wire::sv1::parse(line.as_bytes());
        let message = message.unwrap_or_else(|error| panic!("{}: {error}", self.at(step)));
        if let Request::Subscribe(subscribe) = &message.request {
            self.named = subscribe.session_id.as_deref().and_then(SessionId::parse);
        }
        let waits = !message.id.is_null()
            && !matches!(
                message.request,
                Request::Submit(_) | Request::InvalidSubmit(_) | Request::Response(_)
            );
        let id = String::from_utf8_lossy(message.id.as_bytes());
        let awaits = waits.then(|| id.into_owned());
        Spoken { line, awaits }
    }

    fn spell_share(&mut self, step: &Step, line: &str) -> String {
        let back = if line.contains("{job-1}") { 2 } else { 1 };
        let heard = self.works.len().checked_sub(back).map(|at| &self.works[at]);
        let heard = heard.unwrap_or_else(|| panic!("{}: no such work was heard", self.at(step)));
        let line = line.replace("{job-1}", &heard.id).replace("{job}", &heard.id);
        let line = line.replace("{ntime}", &format!("{:08x}", heard.ntime));
        let Some((before, rest)) = line.split_once("{nonce") else { return line };
        let (kind, after) = rest.split_once('}').expect("the brace is closed");
        let template = format!("{before}00000000{after}");
        let message = wire::sv1::parse(template.as_bytes()).expect("a message");
        let Request::Submit(submit) = message.request else {
            panic!("{}: a nonce without a submit", self.at(step));
        };
        let bits = submit.version_bits.as_deref().map_or(0, number);
        let share = Share {
            extranonce: self.extranonce(&submit.extranonce2),
            version: heard.version | bits,
            ntime: number(&submit.ntime),
            nonce: 0,
        };
        let nonce = match kind {
            ":again" => self.last_nonce,
            _ => self.search(heard, share, kind),
        };
        self.last_nonce = nonce;
        match kind {
            ":short" => format!("{before}{nonce:x}{after}"),
            _ => format!("{before}{nonce:08x}{after}"),
        }
    }

    fn extranonce(&self, extranonce2: &str) -> Extranonce {
        let mut second = [0; 4];
        assert_eq!(hex::decode_into(extranonce2, &mut second), Ok(4), "{extranonce2}");
        Extranonce::joined(&self.extranonce1, &second).expect("eight bytes")
    }

    fn search(&self, heard: &Heard, share: Share, kind: &str) -> u32 {
        let target = Target::from_difficulty(heard.difficulty);
        let is_good = kind != ":poor";
        let start = if kind == ":short" { 0x00ab_c000_u32 } else { 0x9abc_d000 };
        (start..start + 1_000_000)
            .filter(|nonce| *nonce != self.last_nonce)
            .find(|nonce| {
                let share = Share { nonce: *nonce, ..share };
                target.is_met_by(&self.pair.kernel.hash_share(&heard.work, &share)) == is_good
            })
            .expect("one in a few hundred")
    }

    /// What holds at the end of every conversation.
    fn judge(&mut self) {
        self.gather();
        let name = self.script.name;
        let accepted = self.outcomes.iter().filter(|outcome| **outcome == ShareOutcome::Accepted);
        assert!(accepted.count() > 0, "{name}: no share counted: {:?}", self.outcomes);
        assert!(self.tips_heard.len() >= 2, "{name}: it heard of no new tip");
        let agent = self.pair.machine.user_agent().unwrap_or("none");
        assert_eq!(agent, self.script.agent, "{name}");
        if self.connected {
            let silence = self.pair.now.since(self.last_heard);
            assert!(silence <= self.pair.shared.settings().keepalive_us, "{name}: silent");
            assert_eq!(self.unanswered, [""; 0], "{name}: without an answer");
        }
    }

    fn at(&self, step: &Step) -> String {
        format!("{}:{} (pieces of {})", self.script.name, step.line, self.piece)
    }
}

fn number(hex_digits: &str) -> u32 {
    hex::u32_left_padded(hex_digits).unwrap_or_else(|| panic!("no number: {hex_digits}"))
}
