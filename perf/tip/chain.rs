//! The node under measurement: blocks that come to it as if from a peer, and when it published
//! them.

use std::error::Error;
use std::io::{Read as _, Write as _};
use std::net::TcpStream;
use std::sync::mpsc::{Receiver, Sender, channel};
use std::thread;
use std::time::Duration;

use node::rpc::{CallLimits, Client};
use node::source::zmtp::Subscriber;
use perf::process::monotonic_ns;
use regtest::Bitcoind;
use serde_json::{Value, json};

/// Until a block that was handed over is published; it takes a second at most.
const PUBLISHED_MAX: Duration = Duration::from_secs(60);
/// How long one block may take to be heard of before another is found, and how many are.
const HEARD_PAUSE: Duration = Duration::from_secs(1);
const HEARD_TRIES: usize = 60;
/// Regtest's periods have so many blocks, and on the first tip of one no job is made from the
/// header alone, because the version's bits may change their meaning.
const PERIOD: u64 = 144;

/// A bitcoind whose mempool holds the transactions of the next block.
pub(crate) struct Chain {
    pub(crate) node: Bitcoind,
    transactions: usize,
    published: Receiver<(String, u64)>,
}

/// A block that was handed to the node; times by [`monotonic_ns`].
pub(crate) struct Tip {
    pub(crate) hash: String,
    /// When its `submitblock` was sent: the block is with the node, and not looked at yet.
    pub(crate) sent_ns: u64,
    /// When the node's `hashblock` was read.
    pub(crate) published_ns: u64,
}

/// A block that is ready to be handed over.
pub(crate) struct Block {
    hash: String,
    hex: String,
}

impl Chain {
    /// A node with coins for `blocks` blocks of `transactions` each; none where no peers are
    /// wanted.
    pub(crate) fn start(transactions: usize, blocks: usize) -> Option<Chain> {
        let mut node = Bitcoind::start_with_zmq(&[])?;
        node.make_coins(transactions * (blocks + 1));
        let (sender, published) = channel();
        let address = node.zmq();
        thread::spawn(move || subscribe(&address, &sender));
        until_heard(&mut node, &published);
        let height = node.height();
        if height % PERIOD + blocks as u64 + 1 >= PERIOD {
            node.mine_to(height.next_multiple_of(PERIOD));
        }
        node.fill_mempool(transactions);
        Some(Chain { node, transactions, published })
    }

    /// A client of its own.
    pub(crate) fn client(&self) -> Client {
        Client::new(&self.node.endpoint())
    }

    /// Puts the transactions of the block after the next into the mempool, and makes the next one
    /// of those that were there.
    pub(crate) fn prepare(&mut self) -> Result<Block, Box<dyn Error>> {
        let before = self.node.rpc("getrawmempool", json!([]));
        let count = before.as_array().map_or(0, Vec::len);
        if count != self.transactions {
            return Err(format!("{count} transactions, not {}", self.transactions).into());
        }
        self.node.fill_mempool(self.transactions);
        let address = regtest::address().to_string();
        let block = self.node.rpc("generateblock", json!([address, before, false]));
        let text = |name: &str| block[name].as_str().unwrap_or_default().to_owned();
        Ok(Block { hash: text("hash"), hex: text("hex") })
    }

    /// Hands the block over, as a peer or another miner would.
    pub(crate) fn submit(&mut self, block: &Block) -> Result<Tip, Box<dyn Error>> {
        let params = json!([block.hex]);
        let sent_ns = monotonic_ns();
        let answer = self.node.rpc("submitblock", params);
        if answer != Value::Null {
            return Err(format!("submitblock: {answer}").into());
        }
        loop {
            let heard = self.published.recv_timeout(PUBLISHED_MAX);
            let (hash, published_ns) =
                heard.map_err(|_| format!("bitcoind did not publish {}", block.hash))?;
            if hash == block.hash {
                return Ok(Tip { hash, sent_ns, published_ns });
            }
        }
    }
}

/// Finds blocks until one is heard of: what is published before the subscription has reached the
/// node is lost.
fn until_heard(node: &mut Bitcoind, published: &Receiver<(String, u64)>) {
    let heard = (0..HEARD_TRIES).any(|_| {
        node.mine(1);
        published.recv_timeout(HEARD_PAUSE).is_ok()
    });
    assert!(heard, "bitcoind publishes no hashblock");
}

/// A long poll waits for the next block, however long it takes to prepare it.
pub(crate) const POLL_LIMITS: CallLimits = CallLimits {
    timeout: Duration::from_secs(600),
    stall: Duration::from_secs(600),
    ..CallLimits::TEMPLATE
};

/// Tells of each hash as soon as it is read, until the node or the receiver has gone.
fn subscribe(address: &str, sender: &Sender<(String, u64)>) {
    let place = address.trim_start_matches("tcp://");
    let Ok(mut stream) = TcpStream::connect(place) else { return };
    let mut subscriber = Subscriber::new();
    let mut bytes = [0; 4_096];
    while stream.write_all(&subscriber.take_to_send()).is_ok() {
        let count = match stream.read(&mut bytes) {
            Ok(0) | Err(_) => return,
            Ok(count) => count,
        };
        let now_ns = monotonic_ns();
        match subscriber.receive(&bytes[..count]) {
            Ok(None) => {}
            Ok(Some(hash)) if sender.send((hash.to_string(), now_ns)).is_ok() => {}
            _ => return,
        }
    }
}
