//! A real bitcoind, on regtest as a rule, in a folder of its own, on free ports, for any test of
//! the house.
//!
//! `tests/peers bitcoind` says where the program is, and fetches it once. Where that fails the
//! test fails, unless `HEADFRAME_NO_PEERS=1` says that no peers are wanted: then
//! [`Bitcoind::start`] gives none, and the test says that it was skipped.
//!
//! Coins need no keys here: blocks pay to the script `OP_TRUE` behind a witness program, which
//! anybody spends.
//!
//! What tests and measurements of a service share stands beside it: a manager of services
//! ([`manager`]), and clients that knock all the time ([`knocks`]).

#![forbid(unsafe_code)]

pub mod knocks;
pub mod manager;

use std::fs::{self, File};
use std::io::{BufRead, BufReader};
use std::iter;
use std::net::TcpListener;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::thread;
use std::time::Duration;

use bitcoin::absolute::LockTime;
use bitcoin::consensus::encode::serialize_hex;
use bitcoin::{
    Address, Amount, Network, OutPoint, ScriptBuf, Sequence, Transaction, TxIn, TxOut, Txid,
    Witness, transaction,
};
use node::rpc::{Auth, CallLimits, Client, Endpoint, RpcError};
use serde_json::{Value, json};
use tempfile::TempDir;

/// Blocks on a coinbase before it can be spent.
const MATURITY: u64 = 100;
/// Outputs of one splitting transaction: below the 400,000 weight units that are relayed.
const SPLIT_OUTPUTS: usize = 2_000;
/// What each of them holds, in satoshis: enough for a fee and above the dust.
const COIN: u64 = 100_000;
/// What each transaction of the mempool pays, in satoshis.
const FEE: u64 = 1_000;
/// Where its nodes listen, and others that must be told a port.
const PORTS: std::ops::Range<u16> = 21_000..23_000;
/// No answer of a node on this machine takes so long.
const LIMITS: CallLimits = CallLimits {
    timeout: Duration::from_secs(120),
    stall: Duration::from_secs(60),
    answer_bytes_max: 64 * 1_024 * 1_024,
};

/// A node, running or not. Dropping it ends the process and removes the folder.
#[derive(Debug)]
pub struct Bitcoind {
    program: PathBuf,
    folder: TempDir,
    rpc_port: Port,
    p2p_port: Port,
    zmq_port: Port,
    chain: &'static str,
    options: Vec<String>,
    /// Whether its blocks end where its own defaults say.
    default_blocks: bool,
    child: Option<Child>,
    client: Client,
    /// Coins that can be spent, each of [`COIN`] satoshis.
    coins: Vec<OutPoint>,
    /// The lowest height whose coinbase was not split yet.
    next_coinbase: u64,
}

impl Bitcoind {
    /// A node that has answered its first questions; none where no peers are wanted.
    ///
    /// `options` are added to its command line. It publishes `hashblock` over ZMQ only if they
    /// contain what [`Bitcoind::start_with_zmq`] adds.
    pub fn start(options: &[&str]) -> Option<Bitcoind> {
        let mut node = Bitcoind::prepare(options)?;
        node.run();
        Some(node)
    }

    /// The same, with `hashblock` over ZMQ at [`Bitcoind::zmq`].
    pub fn start_with_zmq(options: &[&str]) -> Option<Bitcoind> {
        let mut node = Bitcoind::prepare(options)?;
        node.options.push(format!("-zmqpubhashblock={}", node.zmq()));
        node.run();
        Some(node)
    }

    /// A node that does not run yet: [`Bitcoind::run`] starts it.
    pub fn prepare(options: &[&str]) -> Option<Bitcoind> {
        Bitcoind::prepare_on("regtest", options)
    }

    /// The same on another chain: main, test, testnet4, signet. It has no peers there and finds
    /// no blocks, and must never get any of the world's.
    pub fn prepare_on(chain: &'static str, options: &[&str]) -> Option<Bitcoind> {
        let program = program()?;
        let folder = tempfile::tempdir().expect("a folder");
        let [rpc_port, p2p_port, zmq_port] = [(); 3].map(|()| Port::claim());
        let cookie = folder.path().join(cookie_of(chain));
        let url = format!("http://127.0.0.1:{}", rpc_port.number);
        let endpoint = Endpoint::new(&url, Auth::Cookie(cookie));
        let client = Client::new(&endpoint.expect("a good address"));
        let options = options.iter().map(|&option| option.to_owned()).collect();
        let coins = Vec::new();
        let child = None;
        Some(Bitcoind {
            program,
            folder,
            rpc_port,
            p2p_port,
            zmq_port,
            chain,
            options,
            default_blocks: false,
            child,
            client,
            coins,
            next_coinbase: 1,
        })
    }

    /// Leaves it where it ends its blocks; otherwise they may be as large as they can.
    pub fn with_default_blocks(mut self) -> Bitcoind {
        self.default_blocks = true;
        self
    }

    /// Starts it and waits until it has loaded its chain.
    pub fn run(&mut self) {
        let mut said = Vec::new();
        let mut output = self.spawn(&[]);
        loop {
            let mut line = String::new();
            let count = output.read_line(&mut line).expect("text");
            assert!(count > 0, "bitcoind ended:\n{}", said.concat());
            if line.contains("Done loading") {
                break;
            }
            said.push(line);
        }
        drain(output);
    }

    /// Starts it with more options and waits for nothing.
    pub fn run_unready(&mut self, options: &[&str]) {
        let output = self.spawn(options);
        drain(output);
    }

    fn spawn(&mut self, more: &[&str]) -> BufReader<impl std::io::Read + Send + use<>> {
        assert!(self.child.is_none(), "it runs already");
        let mut command = Command::new(&self.program);
        command
            .arg(format!("-chain={}", self.chain))
            .arg(format!("-datadir={}", self.folder.path().display()))
            .arg(format!("-rpcport={}", self.rpc_port.number))
            .arg(format!("-bind=127.0.0.1:{}", self.p2p_port.number))
            .args(["-server", "-listenonion=0", "-dnsseed=0", "-fixedseeds=0", "-discover=0"])
            .args(["-printtoconsole=1", "-debuglogfile=0", "-dbcache=32", "-par=1"])
            // As on the main chain: on regtest it would look over its whole mempool with each
            // transaction, and over all headers with each block.
            .args(["-checkmempool=0", "-checkblockindex=0"])
            .args((self.chain == "regtest").then_some("-acceptnonstdtxn=1"))
            .args(self.full_blocks())
            .args(&self.options)
            .args(more)
            .stdout(Stdio::piped())
            .stderr(Stdio::null());
        let mut child = command.spawn().expect("bitcoind starts");
        let output = BufReader::new(child.stdout.take().expect("piped"));
        self.child = Some(child);
        output
    }

    /// What lets its blocks be as large as they can, in its own words.
    fn full_blocks(&self) -> Vec<&'static str> {
        if self.default_blocks {
            return Vec::new();
        }
        let size = self.knows("-blockmaxsize=").then_some("-blockmaxsize=4000000");
        iter::once("-blockmaxweight=4000000").chain(size).collect()
    }

    /// Asks it to end, and waits for that.
    pub fn stop(&mut self) {
        self.rpc("stop", json!([]));
        let mut child = self.child.take().expect("it runs");
        child.wait().expect("its end");
    }

    /// Ends it as a power cut would: nothing is written any more.
    pub fn kill(&mut self) {
        if let Some(mut child) = self.child.take() {
            // It may have ended already.
            let _ = child.kill();
            let _ = child.wait();
        }
    }

    /// Sends a signal by its name, such as STOP and CONT.
    pub fn signal(&self, name: &str) {
        let id = self.child.as_ref().expect("it runs").id().to_string();
        let sent = Command::new("kill").arg(format!("-{name}")).arg(id).status();
        assert!(sent.expect("kill runs").success());
    }

    /// Where it answers, with its cookie.
    pub fn endpoint(&self) -> Endpoint {
        self.client.endpoint().clone()
    }

    /// The same as a URL.
    pub fn url(&self) -> String {
        self.client.endpoint().url()
    }

    /// Its cookie file.
    pub fn cookie(&self) -> PathBuf {
        self.folder.path().join(cookie_of(self.chain))
    }

    /// Where it publishes `hashblock`, if it was started so.
    pub fn zmq(&self) -> String {
        format!("tcp://127.0.0.1:{}", self.zmq_port.number)
    }

    /// Where other nodes connect.
    pub fn p2p(&self) -> String {
        format!("127.0.0.1:{}", self.p2p_port.number)
    }

    /// Whether its own help has this text: Knots, for one, knows options that Core does not.
    pub fn knows(&self, text: &str) -> bool {
        let help = Command::new(&self.program).arg("-help-debug").output().expect("it runs");
        String::from_utf8_lossy(&help.stdout).contains(text)
    }

    /// Its folder.
    pub fn folder(&self) -> &Path {
        self.folder.path()
    }

    /// Asks it anything that must succeed.
    pub fn rpc(&mut self, method: &str, params: Value) -> Value {
        let answer = self.try_rpc(method, params);
        answer.unwrap_or_else(|error| panic!("{method}: {error}"))
    }

    /// Asks it anything.
    ///
    /// # Errors
    /// The node's, as they are.
    pub fn try_rpc(&mut self, method: &str, params: Value) -> Result<Value, RpcError> {
        self.client.call(method, &params, LIMITS)
    }

    /// Its height.
    pub fn height(&mut self) -> u64 {
        self.rpc("getblockcount", json!([])).as_u64().expect("a number")
    }

    /// Its tip.
    pub fn tip(&mut self) -> String {
        self.rpc("getbestblockhash", json!([])).as_str().expect("a hash").to_owned()
    }

    /// Finds blocks, with what the mempool holds, and gives their hashes.
    pub fn mine(&mut self, count: u64) -> Vec<String> {
        let hashes = self.rpc("generatetoaddress", json!([count, address().to_string()]));
        serde_json::from_value(hashes).expect("a list of hashes")
    }

    /// Finds a block without transactions that pays to others than the harness does: another one
    /// also where a block was taken back. Gives its hash.
    pub fn mine_empty(&mut self) -> String {
        let block = self.rpc("generateblock", json!(["raw(51)", []]));
        block["hash"].as_str().expect("a hash").to_owned()
    }

    /// Finds blocks until this height.
    pub fn mine_to(&mut self, height: u64) {
        let now = self.height();
        if height > now {
            self.mine(height - now);
        }
    }

    /// Takes a block and all on it back.
    pub fn invalidate(&mut self, hash: &str) {
        self.rpc("invalidateblock", json!([hash]));
    }

    /// Allows it again.
    pub fn reconsider(&mut self, hash: &str) {
        self.rpc("reconsiderblock", json!([hash]));
    }

    /// Puts so many more transactions into the mempool, each with a witness and a coin of its own.
    /// Blocks are found for the coins where they are short, so do this before what must not move.
    pub fn fill_mempool(&mut self, count: usize) {
        self.make_coins(count);
        for coin in self.coins.split_off(self.coins.len() - count) {
            let output = TxOut {
                value: Amount::from_sat(COIN - FEE),
                script_pubkey: address().script_pubkey(),
            };
            self.send(&spend(coin, vec![output]));
        }
    }

    /// Finds blocks until there are coins for so many transactions: those find no more blocks then.
    pub fn make_coins(&mut self, count: usize) {
        while self.coins.len() < count {
            self.split_coinbase();
        }
    }

    /// Makes small coins of the first coinbase that is ours and was not spent yet.
    fn split_coinbase(&mut self) {
        let coin = loop {
            let height = self.next_coinbase;
            self.next_coinbase += 1;
            self.mine_to(height + MATURITY);
            if let Some(coin) = self.coinbase_of(height) {
                break coin;
            }
        };
        let output =
            TxOut { value: Amount::from_sat(COIN), script_pubkey: address().script_pubkey() };
        // What is above the outputs is the fee, which nobody misses.
        let split = spend(coin, vec![output; SPLIT_OUTPUTS]);
        self.send(&split);
        self.mine(1);
        let txid = split.compute_txid();
        self.coins.extend((0..SPLIT_OUTPUTS as u32).map(|vout| OutPoint::new(txid, vout)));
    }

    /// The coinbase of a height, if everybody may spend it.
    fn coinbase_of(&mut self, height: u64) -> Option<OutPoint> {
        let hash = self.rpc("getblockhash", json!([height]));
        let block = self.rpc("getblock", json!([hash, 2]));
        let coinbase = &block["tx"][0];
        let script = coinbase["vout"][0]["scriptPubKey"]["hex"].as_str().expect("a script");
        let txid: Txid = coinbase["txid"].as_str().expect("a txid").parse().expect("a txid");
        let ours = script == address().script_pubkey().to_hex_string();
        ours.then(|| OutPoint::new(txid, 0))
    }

    fn send(&mut self, transaction: &Transaction) {
        // 0: no fee is too high.
        self.rpc("sendrawtransaction", json!([serialize_hex(transaction), 0]));
    }
}

impl Drop for Bitcoind {
    fn drop(&mut self) {
        self.kill();
    }
}

/// Where [`Bitcoind::mine`] pays to, and whence everybody may spend.
pub fn address() -> Address {
    Address::p2wsh(&open_script(), Network::Regtest)
}

fn open_script() -> ScriptBuf {
    ScriptBuf::from_bytes(vec![0x51])
}

fn spend(coin: OutPoint, output: Vec<TxOut>) -> Transaction {
    let input = TxIn {
        previous_output: coin,
        script_sig: ScriptBuf::new(),
        sequence: Sequence::MAX,
        witness: Witness::from_slice(&[open_script().as_bytes()]),
    };
    Transaction {
        version: transaction::Version::TWO,
        lock_time: LockTime::ZERO,
        input: vec![input],
        output,
    }
}

/// The program, from `tests/peers`; none where no peers are wanted.
fn program() -> Option<PathBuf> {
    if std::env::var_os("HEADFRAME_NO_PEERS").is_some_and(|value| value == "1") {
        eprintln!("skipped: HEADFRAME_NO_PEERS=1, and this needs a bitcoind");
        return None;
    }
    let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("../peers");
    let output = Command::new(script).arg("bitcoind").output().expect("tests/peers runs");
    assert!(
        output.status.success(),
        "no bitcoind could be had (HEADFRAME_NO_PEERS=1 skips what needs one):\n{}",
        String::from_utf8_lossy(&output.stderr)
    );
    Some(String::from_utf8(output.stdout).expect("a path").trim().into())
}

/// Where bitcoind puts its cookie for a chain.
fn cookie_of(chain: &str) -> PathBuf {
    match chain {
        "main" => ".cookie".into(),
        "test" => "testnet3/.cookie".into(),
        other => Path::new(other).join(".cookie"),
    }
}

/// A port for one program alone, as long as this lives: also while the program is down, and
/// whatever other tests run beside this one.
///
/// It lies below the ports that the kernel gives to whoever asks for any, and a locked file keeps
/// the other programs of the tests away from it.
#[derive(Debug)]
pub struct Port {
    number: u16,
    /// Its lock ends with it.
    _lock: File,
}

impl Port {
    /// The lowest that is free.
    pub fn claim() -> Port {
        let folder = std::env::temp_dir().join("headframe-test-ports");
        fs::create_dir_all(&folder).expect("a folder for the locks");
        let claimed = PORTS.into_iter().find_map(|number| {
            let path = folder.join(number.to_string());
            let lock = File::options().create(true).append(true).open(path).expect("a lock");
            lock.try_lock().ok()?;
            TcpListener::bind(("127.0.0.1", number)).ok()?;
            Some(Port { number, _lock: lock })
        });
        claimed.expect("a port that nobody else has")
    }

    /// Its number.
    pub fn number(&self) -> u16 {
        self.number
    }
}

/// Reads on, so that the node never waits for its log to be read.
fn drain(mut output: BufReader<impl std::io::Read + Send + 'static>) {
    thread::spawn(move || {
        let mut line = Vec::new();
        while output.read_until(b'\n', &mut line).is_ok_and(|count| count > 0) {
            line.clear();
        }
    });
}
