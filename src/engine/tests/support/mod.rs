//! A miner over a plain blocking socket, for the engine's tests: it subscribes, authorizes, waits
//! for work, and finds shares that really hash below its target.

use std::io::{BufRead, BufReader, Write};
use std::net::{SocketAddr, TcpStream};
use std::time::Duration;

use pow::{Difficulty, Extranonce, Hash256, Kernel, Share, Target, Work};
use wire::sv1::write::client;
use wire::sv1::{ServerMessage, parse_server, subscribed};

/// Beyond this a test has failed: everything here takes milliseconds.
pub(crate) const PATIENCE: Duration = Duration::from_secs(30);

/// One connection and what it was told.
pub(crate) struct Miner {
    socket: BufReader<TcpStream>,
    name: String,
    pub(crate) extranonce1: Vec<u8>,
    /// The id of its session.
    pub(crate) session: String,
    extranonce2_size: usize,
    difficulty: f64,
    job: Option<Job>,
    next_id: u64,
    next_nonce: u32,
}

/// The newest work.
struct Job {
    id: String,
    work: Work,
    version: u32,
    ntime: u32,
}

/// A share that was found.
pub(crate) struct Found {
    job_id: String,
    share: Share,
    extranonce2: Vec<u8>,
}

/// What a server said to a request.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Answer {
    /// The raw text of a result.
    Result(String),
    /// The code of an error.
    Error(i64),
}

impl Miner {
    /// Connects and sends subscribe and authorize in one piece; has work when it returns.
    pub(crate) fn at_work(address: SocketAddr, name: &str) -> Miner {
        Miner::connected(address, name).with_work(None, b"")
    }

    /// The same, with the header of a load balancer in front.
    pub(crate) fn at_work_behind(address: SocketAddr, name: &str, header: &[u8]) -> Miner {
        Miner::connected(address, name).with_work(None, header)
    }

    /// The same over a connection that it has, naming a session that it had.
    pub(crate) fn back_at_work(self, session: &str) -> Miner {
        self.with_work(Some(session), b"")
    }

    fn with_work(mut self, session: Option<&str>, header: &[u8]) -> Miner {
        let (miner, mut hello) = (&mut self, header.to_vec());
        let name = miner.name.clone();
        client::subscribe(&mut hello, 1, "test/1", session);
        client::authorize(&mut hello, 2, &name, "x");
        miner.send(&hello);
        let Answer::Result(text) = miner.answer_to(1) else { panic!("subscribe was refused") };
        let granted = subscribed(&text).expect("a subscription");
        miner.session = granted.session_id.expect("its id").into_owned();
        miner.extranonce1 = granted.extranonce1;
        miner.extranonce2_size = granted.extranonce2_size;
        assert_eq!(miner.answer_to(2), Answer::Result("true".into()));
        while miner.job.is_none() {
            assert_eq!(miner.read(), None, "only news before the first job");
        }
        self
    }

    /// A connection that has said nothing yet.
    pub(crate) fn connected(address: SocketAddr, name: &str) -> Miner {
        Miner::over(TcpStream::connect(address).expect("the engine listens"), name)
    }

    /// A miner on a socket of the test's own.
    pub(crate) fn over(socket: TcpStream, name: &str) -> Miner {
        socket.set_read_timeout(Some(PATIENCE)).expect("a timeout can be set");
        Miner {
            socket: BufReader::new(socket),
            name: name.to_owned(),
            extranonce1: Vec::new(),
            session: String::new(),
            extranonce2_size: 0,
            difficulty: f64::MAX,
            job: None,
            next_id: 10,
            next_nonce: 0,
        }
    }

    /// The socket, to mistreat it.
    pub(crate) fn socket(&self) -> &TcpStream {
        self.socket.get_ref()
    }

    pub(crate) fn send(&mut self, bytes: &[u8]) {
        self.socket.get_mut().write_all(bytes).expect("the engine reads");
    }

    /// Finds a share of the newest job, submits it, and returns the answer.
    pub(crate) fn submit_share(&mut self) -> Answer {
        let found = self.find_share();
        self.submit(&found)
    }

    /// Finds a share of the newest job.
    pub(crate) fn find_share(&mut self) -> Found {
        let (share, extranonce2) = self.find();
        let job_id = self.job.as_ref().expect("it has work").id.clone();
        Found { job_id, share, extranonce2 }
    }

    /// Submits a share, perhaps of a former connection, and returns the answer.
    pub(crate) fn submit(&mut self, found: &Found) -> Answer {
        let Found { job_id, share, extranonce2 } = found;
        self.next_id += 1;
        let mut line = Vec::new();
        let submit = client::Submit {
            worker: &self.name,
            job_id,
            extranonce2,
            ntime: share.ntime,
            nonce: share.nonce,
            version_bits: None,
        };
        client::submit(&mut line, self.next_id, &submit);
        self.send(&line);
        self.answer_to(self.next_id)
    }

    /// Hashes until a header is below the target of the miner's difficulty.
    fn find(&mut self) -> (Share, Vec<u8>) {
        const LANES: usize = 64;
        let kernel = Kernel::detect();
        let difficulty = Difficulty::new(self.difficulty).expect("a positive number");
        let target = Target::from_difficulty(difficulty);
        let extranonce2 = vec![7; self.extranonce2_size];
        let extranonce = Extranonce::joined(&self.extranonce1, &extranonce2).expect("at most 32");
        let job = self.job.as_ref().expect("it has work");
        loop {
            let first = self.next_nonce;
            self.next_nonce += LANES as u32;
            let shares: Vec<(&Work, Share)> = (first..self.next_nonce)
                .map(|nonce| {
                    let (version, ntime) = (job.version, job.ntime);
                    (&job.work, Share { extranonce, version, ntime, nonce })
                })
                .collect();
            let mut hashes = [Hash256([0; 32]); LANES];
            kernel.hash_shares(&shares, &mut hashes);
            if let Some(at) = hashes.iter().position(|hash| target.is_met_by(hash)) {
                self.next_nonce = first + at as u32 + 1;
                return (shares[at].1, extranonce2);
            }
        }
    }

    /// Reads until the answer to a request comes.
    pub(crate) fn answer_to(&mut self, wanted: u64) -> Answer {
        loop {
            if let Some((id, answer)) = self.read() {
                assert_eq!(id, wanted, "answers come in the order of the requests");
                return answer;
            }
        }
    }

    /// Reads one line: an answer is returned, news is remembered.
    fn read(&mut self) -> Option<(u64, Answer)> {
        let mut line = String::new();
        let read = self.socket.read_line(&mut line).expect("the engine answers");
        assert!(read > 0, "the engine closed the connection");
        match parse_server(line.trim_end().as_bytes()).expect("a line of JSON") {
            ServerMessage::Result { id, result } => {
                Some((id.as_u64().expect("our own id"), Answer::Result(result.to_owned())))
            }
            ServerMessage::Error { id, error } => {
                Some((id.as_u64().expect("our own id"), Answer::Error(error.code)))
            }
            ServerMessage::SetDifficulty(difficulty) => {
                self.difficulty = difficulty;
                None
            }
            ServerMessage::Notify(notify) => {
                let extranonce_size = self.extranonce1.len() + self.extranonce2_size;
                self.job = Some(Job {
                    work: notify.work(extranonce_size).expect("the work is sound"),
                    id: notify.job_id.into_owned(),
                    version: notify.version,
                    ntime: notify.ntime,
                });
                None
            }
            other => panic!("{other:?}"),
        }
    }

    /// Reads until the engine closes the connection.
    pub(crate) fn read_to_end(mut self) {
        let mut line = String::new();
        while self.socket.read_line(&mut line).is_ok_and(|read| read > 0) {
            line.clear();
        }
    }
}
