//! A TCP proxy in front of a bitcoind: it passes questions and answers on, can keep blocks from the
//! node, and notes when templates pass. It knows HTTP as far as lengths, and judges nothing.

use std::io::{BufRead, BufReader, Write, copy, sink};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::sync::atomic::{AtomicBool, Ordering::SeqCst};
use std::sync::{Arc, Mutex};
use std::thread;
use std::time::Instant;

/// The proxy's handle. Its threads end with the test.
pub(crate) struct Proxy {
    address: SocketAddr,
    gate: Arc<Gate>,
}

struct Gate {
    node: String,
    swallows: AtomicBool,
    /// When the first template since the last question went to the client.
    template: Mutex<Option<Instant>>,
}

impl Proxy {
    /// A proxy of the node at this URL.
    pub(crate) fn start(url: &str) -> Proxy {
        let listener = TcpListener::bind("127.0.0.1:0").expect("a free port");
        let address = listener.local_addr().expect("bound");
        let gate = Arc::new(Gate {
            node: url.trim_start_matches("http://").to_owned(),
            swallows: AtomicBool::new(false),
            template: Mutex::new(None),
        });
        let shared = gate.clone();
        thread::spawn(move || {
            for client in listener.incoming().flatten() {
                let gate = shared.clone();
                // How a connection ends is the affair of both its ends.
                thread::spawn(move || {
                    let _ = gate.relay(client);
                });
            }
        });
        Proxy { address, gate }
    }

    /// Where clients connect, as a URL.
    pub(crate) fn url(&self) -> String {
        format!("http://{}", self.address)
    }

    /// Whether blocks are kept from the node from now on.
    pub(crate) fn swallow(&self, swallows: bool) {
        self.gate.swallows.store(swallows, SeqCst);
    }

    /// When the first template since [`Proxy::forget_template`] passed, if one has.
    pub(crate) fn template(&self) -> Option<Instant> {
        *self.gate.template.lock().expect("no thread panics with it")
    }

    pub(crate) fn forget_template(&self) {
        *self.gate.template.lock().expect("no thread panics with it") = None;
    }
}

impl Gate {
    /// One connection: a question, its answer, and so on until one side closes.
    fn relay(&self, mut client: TcpStream) -> Option<()> {
        // What a client sent before it was killed may be read after the gate was opened again.
        let swallowed_once = self.swallows.load(SeqCst);
        let mut questions = BufReader::new(client.try_clone().ok()?);
        let mut node = None;
        loop {
            let question = message(&mut questions)?;
            let is = |method: &str| contains(&question, &format!("\"method\":\"{method}\""));
            if (swallowed_once || self.swallows.load(SeqCst)) && is("submitblock") {
                // The client waits in vain until it gives up or dies.
                copy(&mut questions, &mut sink()).ok()?;
                return None;
            }
            if node.is_none() {
                node = Some(BufReader::new(TcpStream::connect(&self.node).ok()?));
            }
            let node = node.as_mut()?;
            node.get_mut().write_all(&question).ok()?;
            let answer = message(node)?;
            if is("getblocktemplate") && contains(&answer, "\"previousblockhash\"") {
                let mut template = self.template.lock().expect("no thread panics with it");
                template.get_or_insert_with(Instant::now);
            }
            client.write_all(&answer).ok()?;
        }
    }
}

/// One HTTP message, head and body; none at the end of the connection.
fn message(reader: &mut impl BufRead) -> Option<Vec<u8>> {
    let (mut bytes, mut length) = (Vec::new(), 0);
    loop {
        let start = bytes.len();
        reader.read_until(b'\n', &mut bytes).ok().filter(|count| *count > 0)?;
        let line = String::from_utf8_lossy(&bytes[start..]).to_ascii_lowercase();
        if let Some(value) = line.strip_prefix("content-length:") {
            length = value.trim().parse().expect("a length");
        }
        if line.trim().is_empty() {
            break;
        }
    }
    let start = bytes.len();
    bytes.resize(start + length, 0);
    reader.read_exact(&mut bytes[start..]).ok()?;
    Some(bytes)
}

fn contains(bytes: &[u8], text: &str) -> bool {
    bytes.windows(text.len()).any(|window| window == text.as_bytes())
}
