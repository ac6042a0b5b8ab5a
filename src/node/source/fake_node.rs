//! A node for tests: HTTP over real sockets, a real chain of regtest headers, and on command
//! whatever a node should not do. It has no transactions and takes every proposal unless told.

use std::collections::BTreeMap;
use std::io::{BufRead, BufReader, Read, Write};
use std::net::{Shutdown, SocketAddr, TcpListener, TcpStream};
use std::sync::{Arc, Condvar, Mutex, MutexGuard};
use std::thread;
use std::time::{Duration, Instant};

use bitcoin::hashes::Hash;
use pow::{Hash256, Header, Kernel, Target};
use serde_json::{Value, json};

const BITS: u32 = 0x207f_ffff;

/// What the node does with requests of one method.
#[derive(Clone, Debug)]
pub(super) enum Habit {
    /// An RPC error.
    Error(i64, &'static str),
    /// Another result than the true one.
    Result(Value),
    /// A status, without a JSON body.
    Status(u16),
    /// This body, with a status of 200.
    Body(Vec<u8>),
    /// The head and half of the body, and then nothing more.
    Stall,
    /// The head and half of the body, and the connection is closed.
    Cut,
    /// The head of a body of so many bytes, and bytes without end.
    Huge(usize),
    /// Nothing at all, until the habit is over.
    Hang,
}

pub(super) struct FakeNode {
    address: SocketAddr,
    inner: Arc<Inner>,
}

struct Inner {
    state: Mutex<State>,
    changed: Condvar,
}

struct State {
    chain: Vec<Header>,
    habits: BTreeMap<&'static str, Habit>,
    requests: BTreeMap<String, usize>,
    long_polls: usize,
    connections: Vec<TcpStream>,
    salt: u32,
    down: bool,
}

impl FakeNode {
    /// A node with the first block alone.
    pub(super) fn start() -> FakeNode {
        let listener = TcpListener::bind("127.0.0.1:0").expect("a free port");
        let address = listener.local_addr().expect("it is bound");
        let inner = Arc::new(Inner {
            state: Mutex::new(State {
                chain: Vec::new(),
                habits: BTreeMap::new(),
                requests: BTreeMap::new(),
                long_polls: 0,
                connections: Vec::new(),
                salt: u32::from(address.port()),
                down: false,
            }),
            changed: Condvar::new(),
        });
        let served = inner.clone();
        thread::spawn(move || {
            for stream in listener.incoming().flatten() {
                let inner = served.clone();
                let mut state = inner.lock();
                if state.down {
                    continue;
                }
                state.connections.extend(stream.try_clone());
                drop(state);
                thread::spawn(move || inner.serve(&stream));
            }
        });
        FakeNode { address, inner }
    }

    pub(super) fn url(&self) -> String {
        format!("http://{}", self.address)
    }

    /// The template that it gives now.
    pub(super) fn template(&self) -> Value {
        self.inner.lock().template()
    }

    /// Finds `blocks` blocks on the tip.
    pub(super) fn mine(&self, blocks: usize) -> Hash256 {
        let mut state = self.inner.lock();
        (0..blocks).for_each(|_| state.mine());
        self.inner.changed.notify_all();
        state.tip()
    }

    /// Takes blocks back and finds others.
    pub(super) fn reorganise(&self, back: usize, blocks: usize) -> Hash256 {
        let mut state = self.inner.lock();
        let kept = state.chain.len() - back;
        state.chain.truncate(kept);
        state.salt += 1;
        drop(state);
        self.mine(blocks)
    }

    pub(super) fn has(&self, method: &'static str, habit: Habit) {
        self.inner.lock().habits.insert(method, habit);
    }

    /// Every habit is over.
    pub(super) fn heal(&self) {
        let mut state = self.inner.lock();
        state.habits.clear();
        state.down = false;
        self.inner.changed.notify_all();
    }

    /// Closes every connection, and each new one, until it is healed.
    pub(super) fn go_down(&self) {
        let mut state = self.inner.lock();
        state.down = true;
        for connection in state.connections.drain(..) {
            drop(connection.shutdown(Shutdown::Both));
        }
        self.inner.changed.notify_all();
    }

    /// Requests of a method so far.
    pub(super) fn requests(&self, method: &str) -> usize {
        self.inner.lock().requests.get(method).copied().unwrap_or(0)
    }

    /// Requests for a template that wait for the next tip, so far.
    pub(super) fn long_polls(&self) -> usize {
        self.inner.lock().long_polls
    }
}

impl State {
    fn tip(&self) -> Hash256 {
        self.chain.last().map_or(first_block(), |header| header.hash(Kernel::detect()))
    }

    fn height(&self) -> u32 {
        self.chain.len() as u32
    }

    fn mine(&mut self) {
        let mut header = Header {
            version: 0x2000_0000,
            prev_hash: self.tip(),
            merkle_root: Hash256([self.salt as u8; 32]),
            ntime: 1_800_000_000 + self.height(),
            bits: BITS,
            nonce: self.salt << 8,
        };
        let target = Target::from_compact(BITS).expect("regtest's own");
        while !target.is_met_by(&header.hash(Kernel::detect())) {
            header.nonce += 1;
        }
        self.chain.push(header);
    }

    fn template(&self) -> Value {
        let height = self.height() + 1;
        let tip = self.tip().to_string();
        json!({
            "capabilities": ["proposal"], "version": 0x2000_0000, "rules": ["csv", "!segwit"],
            "vbavailable": {}, "vbrequired": 0, "previousblockhash": tip, "transactions": [],
            "coinbaseaux": {}, "coinbasevalue": 5_000_000_000_u64 >> (height / 150),
            "longpollid": format!("{tip}1"), "mintime": 1_800_000_000 + height - 1,
            "mutable": ["time", "transactions", "prevblock"], "noncerange": "00000000ffffffff",
            "sigoplimit": 80_000, "sizelimit": 4_000_000, "weightlimit": 4_000_000,
            "curtime": 1_800_000_100 + height, "bits": format!("{BITS:08x}"), "height": height,
            "target": "7fffff0000000000000000000000000000000000000000000000000000000000",
            "default_witness_commitment":
                "6a24aa21a9ede2f61c3f71d1defd3fa999dfa36953755c690689799962b48bebd836974e8cf9",
        })
    }

    fn header(&self, asked: &str) -> Option<Value> {
        let find = |header: &&Header| header.hash(Kernel::detect()).to_string() == asked;
        let at = self.chain.iter().position(|header| find(&header))?;
        let header = &self.chain[at];
        Some(json!({
            "hash": asked, "confirmations": self.chain.len() - at, "height": at + 1,
            "version": header.version, "merkleroot": header.merkle_root.to_string(),
            "time": header.ntime, "mediantime": 1_800_000_000 + at, "nonce": header.nonce,
            "bits": format!("{BITS:08x}"), "previousblockhash": header.prev_hash.to_string(),
        }))
    }
}

impl Inner {
    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().expect("no test panics while it holds the node")
    }

    fn serve(&self, stream: &TcpStream) {
        let mut reader = BufReader::new(stream);
        while let Some(request) = read_request(&mut reader) {
            let method = match &request["params"][0]["mode"] {
                mode if mode == "proposal" => "proposal".to_owned(),
                _ => request["method"].as_str().unwrap_or_default().to_owned(),
            };
            let mut state = self.lock();
            *state.requests.entry(method.clone()).or_default() += 1;
            state.long_polls += usize::from(!request["params"][0]["longpollid"].is_null());
            let habit = state.habits.get(method.as_str()).or(state.habits.get("*")).cloned();
            drop(state);
            let goes_on = match habit {
                Some(habit) => self.misbehave(stream, &method, habit, &request),
                None => respond(stream, &self.answer(&method, &request), &request["id"]),
            };
            if goes_on.is_none() {
                drop(stream.shutdown(Shutdown::Both));
                return;
            }
        }
    }

    fn answer(&self, method: &str, request: &Value) -> Result<Value, (i64, &'static str)> {
        let params = &request["params"];
        let state = self.lock();
        match method {
            "help" => Ok(json!("waitfornewblock ( timeout \"current_tip\" )")),
            "getbestblockhash" => Ok(json!(state.tip().to_string())),
            "getblockhash" => Ok(json!(first_block().to_string())),
            "getblockheader" => {
                let header = state.header(params[0].as_str().unwrap_or_default());
                header.ok_or((-5, "Block not found"))
            }
            "getblockchaininfo" => Ok(json!({
                "chain": "regtest", "blocks": state.height(), "headers": state.height(),
                "bestblockhash": state.tip().to_string(), "initialblockdownload": false,
                "verificationprogress": 1.0, "warnings": [],
            })),
            "getnetworkinfo" => Ok(json!({
                "version": 290_400, "subversion": "/Fake:1.0/", "connections": 0,
                "timeoffset": 0, "warnings": "",
            })),
            "getmempoolinfo" => Ok(json!({ "size": 0, "bytes": 0 })),
            "getzmqnotifications" => Ok(json!([])),
            "submitblock" | "proposal" => Ok(Value::Null),
            "waitfornewblock" => {
                let patience = Duration::from_millis(params[0].as_u64().unwrap_or(0));
                let known = params[1].as_str().unwrap_or_default().to_owned();
                let state = self.wait_for_tip(state, &known, patience);
                Ok(json!({ "hash": state.tip().to_string(), "height": state.height() }))
            }
            "getblocktemplate" => {
                let id = params[0]["longpollid"].as_str().map(str::to_owned);
                let Some(id) = id else { return Ok(state.template()) };
                let known = &id[..64];
                let state = self.wait_for_tip(state, known, Duration::from_secs(60));
                Ok(state.template())
            }
            _ => Err((-32601, "Method not found")),
        }
    }

    fn wait_for_tip<'a>(
        &self,
        state: MutexGuard<'a, State>,
        known: &str,
        patience: Duration,
    ) -> MutexGuard<'a, State> {
        let same = |state: &mut State| state.tip().to_string() == known && !state.down;
        self.changed.wait_timeout_while(state, patience, same).expect("nobody panics").0
    }

    /// None closes the connection.
    fn misbehave(
        &self,
        mut stream: &TcpStream,
        method: &str,
        habit: Habit,
        request: &Value,
    ) -> Option<()> {
        let id = &request["id"];
        let true_body = || body(&self.answer(method, request), id).1;
        match habit {
            Habit::Error(code, words) => respond(stream, &Err((code, words)), id),
            Habit::Result(value) => respond(stream, &Ok(value), id),
            Habit::Status(status) => write_answer(stream, status, b""),
            Habit::Body(bytes) => write_answer(stream, 200, &bytes),
            Habit::Stall => {
                let bytes = true_body();
                write_head(stream, 200, bytes.len())?;
                stream.write_all(&bytes[..bytes.len() / 2]).ok()?;
                self.wait_until_over(method);
                None
            }
            Habit::Cut => {
                let bytes = true_body();
                write_head(stream, 200, bytes.len())?;
                stream.write_all(&bytes[..bytes.len() / 2]).ok().and(None)
            }
            Habit::Huge(size) => {
                write_head(stream, 200, size)?;
                while stream.write_all(&[b' '; 65_536]).is_ok() {}
                None
            }
            Habit::Hang => {
                self.wait_until_over(method);
                None
            }
        }
    }

    fn wait_until_over(&self, method: &str) {
        let on =
            |state: &mut State| state.habits.contains_key(method) || state.habits.contains_key("*");
        let limit = Duration::from_secs(120);
        drop(self.changed.wait_timeout_while(self.lock(), limit, on).expect("nobody panics"));
    }
}

fn first_block() -> Hash256 {
    let block = bitcoin::constants::genesis_block(bitcoin::Network::Regtest);
    Hash256(block.block_hash().to_byte_array())
}

fn read_request(reader: &mut BufReader<&TcpStream>) -> Option<Value> {
    let mut length = 0;
    loop {
        let mut line = String::new();
        if reader.read_line(&mut line).ok()? == 0 {
            return None;
        }
        let line = line.trim().to_ascii_lowercase();
        if let Some(value) = line.strip_prefix("content-length:") {
            length = value.trim().parse().ok()?;
        }
        if line.is_empty() {
            break;
        }
    }
    let mut bytes = vec![0; length];
    reader.read_exact(&mut bytes).ok()?;
    serde_json::from_slice(&bytes).ok()
}

fn body(answer: &Result<Value, (i64, &'static str)>, id: &Value) -> (u16, Vec<u8>) {
    let (status, value) = match answer {
        Ok(result) => (200, json!({ "result": result, "error": null, "id": id })),
        Err((code, message)) => {
            let error = json!({ "code": code, "message": message });
            (500, json!({ "result": null, "error": error, "id": id }))
        }
    };
    (status, value.to_string().into_bytes())
}

fn respond(
    stream: &TcpStream,
    answer: &Result<Value, (i64, &'static str)>,
    id: &Value,
) -> Option<()> {
    let (status, bytes) = body(answer, id);
    write_answer(stream, status, &bytes)
}

fn write_answer(mut stream: &TcpStream, status: u16, bytes: &[u8]) -> Option<()> {
    write_head(stream, status, bytes.len())?;
    stream.write_all(bytes).ok()
}

fn write_head(mut stream: &TcpStream, status: u16, length: usize) -> Option<()> {
    let head = format!(
        "HTTP/1.1 {status} Whatever\r\nContent-Type: application/json\r\n\
         Content-Length: {length}\r\n\r\n"
    );
    stream.write_all(head.as_bytes()).ok()
}

/// Waits until something is so.
pub(super) fn until(what: &str, limit: Duration, mut is_so: impl FnMut() -> bool) {
    let end = Instant::now() + limit;
    while !is_so() {
        assert!(Instant::now() < end, "after {limit:?} still not: {what}");
        thread::park_timeout(Duration::from_millis(5));
    }
}
