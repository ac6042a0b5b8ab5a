//! One node, one connection, one question at a time.
//!
//! A call blocks until its answer is whole or its limits are reached. Every client has its own
//! connection, so that a block never waits behind a long poll: make one per thread.
//!
//! A host name is looked up once and again only when nobody answers there, so that a dead resolver
//! cannot hold a block back.

use std::fmt;
use std::fs::File;
use std::io::{ErrorKind, Read};
use std::net::{IpAddr, SocketAddr, ToSocketAddrs};
use std::path::Path;
use std::sync::mpsc;
use std::thread;
use std::time::Duration;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use serde_json::Value;
use ureq::{Agent, SendBody, Timeout};

use super::answer::Answer;
use super::calls::Waits;
use super::endpoint::{Auth, Endpoint};
use super::error::RpcError;
use super::upload::Upload;

/// How long a call may take and how much it may bring.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct CallLimits {
    /// From the sent request to the first byte of the answer.
    pub timeout: Duration,
    /// From there to the answer's end.
    pub stall: Duration,
    /// Longest answer, in bytes.
    pub answer_bytes_max: usize,
}

/// A node on the same network connects within milliseconds; one that needs longer is down.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(5);
/// bitcoind closes a connection after 30 s of silence (`rpcservertimeout`): ours ends before it,
/// so that no request meets a closing door.
const IDLE_MAX: Duration = Duration::from_secs(15);
/// "Work queue depth exceeded" passes at once, as a rule.
const BUSY_RETRIES: u32 = 3;
/// Between two of these tries.
const BUSY_PAUSE: Duration = Duration::from_millis(50);
/// bitcoind's cookie has 75 bytes; a longer file is something else.
const COOKIE_BYTES_MAX: u64 = 1_024;
/// bitcoind's heads have 150 bytes.
const HEAD_BYTES_MAX: usize = 16_384;
const KIB: usize = 1_024;

impl CallLimits {
    /// For everything but templates: what a healthy node answers within milliseconds, and within
    /// seconds while it connects a block.
    pub const QUICK: CallLimits = CallLimits {
        timeout: Duration::from_secs(10),
        stall: Duration::from_secs(5),
        answer_bytes_max: 1_024 * KIB,
    };
    /// For templates. A block's 4 MB are 8 MB of hex, and 16,666 transactions have 6 MB of facts
    /// at most; no template comes near the limit.
    pub const TEMPLATE: CallLimits = CallLimits {
        timeout: Duration::from_secs(30),
        stall: Duration::from_secs(15),
        answer_bytes_max: 32 * KIB * KIB,
    };
}

/// A connection to a node and the right to use it.
pub struct Client {
    endpoint: Endpoint,
    agent: Agent,
    /// Where the host was found, the address that answered last in front; empty before the first
    /// look.
    addresses: Vec<SocketAddr>,
    /// Nobody answered at these: the next call looks again.
    addresses_doubted: bool,
    authorization: Option<String>,
    last_id: u64,
    /// How this node waits for a tip, once it was asked.
    pub(super) waits: Option<Waits>,
}

/// What is sent: `before`, the block in hex, `after`.
pub(super) struct Question<'a> {
    pub(super) method: &'a str,
    pub(super) before: &'a str,
    pub(super) block: &'a [u8],
    pub(super) after: &'a str,
}

impl Client {
    /// A client; it connects when it is first asked.
    pub fn new(endpoint: &Endpoint) -> Client {
        Client {
            endpoint: endpoint.clone(),
            agent: agent(),
            addresses: Vec::new(),
            addresses_doubted: false,
            authorization: None,
            last_id: 0,
            waits: None,
        }
    }

    /// Whom it asks.
    pub fn endpoint(&self) -> &Endpoint {
        &self.endpoint
    }

    /// Leaves the connection, so that the next call makes a new one. The node's address and the
    /// cookie stay known.
    pub fn disconnect(&mut self) {
        self.agent = agent();
    }

    /// Asks for anything.
    ///
    /// # Errors
    /// See [`RpcError`]; nothing is known then about what the node did.
    pub fn call(
        &mut self,
        method: &str,
        params: &Value,
        limits: CallLimits,
    ) -> Result<Value, RpcError> {
        let params = params.to_string();
        let answer = self.ask(method, &params, limits)?;
        serde_json::from_str(answer.result())
            .map_err(|error| RpcError::Garbage(format!("{method}: {error}")))
    }

    pub(super) fn ask(
        &mut self,
        method: &str,
        params: &str,
        limits: CallLimits,
    ) -> Result<Answer, RpcError> {
        let question = Question { method, before: params, block: &[], after: "" };
        self.exchange(&question, limits, &mut || {})
    }

    /// One question, with a new cookie if the old one is not known any more, and again when the
    /// node was only busy.
    pub(super) fn exchange(
        &mut self,
        question: &Question<'_>,
        limits: CallLimits,
        sent: &mut dyn FnMut(),
    ) -> Result<Answer, RpcError> {
        let mut busy = 0;
        loop {
            let authorization = self.authorization()?;
            self.last_id += 1;
            let (status, body) = self.post(question, &authorization, limits, sent)?;
            match status {
                401 if self.cookie_changed(&authorization)? => {}
                401 => return Err(RpcError::Unauthorized),
                403 => return Err(RpcError::Forbidden),
                503 if busy < BUSY_RETRIES => {
                    busy += 1;
                    thread::sleep(BUSY_PAUSE);
                }
                503 => return Err(RpcError::Busy),
                _ => return Answer::read(status, body, self.last_id),
            }
        }
    }

    /// Sends a question to the first address where somebody listens.
    fn post(
        &mut self,
        question: &Question<'_>,
        authorization: &str,
        limits: CallLimits,
        sent: &mut dyn FnMut(),
    ) -> Result<(u16, Vec<u8>), RpcError> {
        let head = format!(
            "{{\"id\":{},\"method\":\"{}\",\"params\":{}",
            self.last_id, question.method, question.before
        );
        let tail = format!("{}}}", question.after);
        self.find()?;
        let mut last = RpcError::Unreachable("the host has no address".to_owned());
        for place in 0..self.addresses.len() {
            let mut upload = Upload {
                head: head.as_bytes(),
                block: question.block,
                tail: tail.as_bytes(),
                sent: &mut *sent,
                begun: false,
            };
            match self.post_to(self.addresses[place], &mut upload, authorization, limits) {
                Err(error @ RpcError::Unreachable(_)) if !upload.begun => last = error,
                result => {
                    self.addresses[..=place].rotate_right(1);
                    return result;
                }
            }
        }
        self.addresses_doubted = true;
        Err(last)
    }

    fn post_to(
        &self,
        address: SocketAddr,
        upload: &mut Upload<'_>,
        authorization: &str,
        limits: CallLimits,
    ) -> Result<(u16, Vec<u8>), RpcError> {
        let request = self
            .agent
            .post(format!("http://{address}/"))
            .header("authorization", authorization)
            .header("content-type", "application/json")
            .header("content-length", upload.length())
            .config()
            .timeout_connect(Some(CONNECT_TIMEOUT.min(limits.timeout)))
            .timeout_send_body(Some(limits.timeout))
            .timeout_recv_response(Some(limits.timeout))
            .timeout_recv_body(Some(limits.stall))
            .build();
        let response = request.send(SendBody::from_reader(upload)).map_err(fault)?;
        let status = response.status().as_u16();
        if matches!(status, 401 | 403 | 503) {
            // Its body says nothing more; without it the connection is left.
            return Ok((status, Vec::new()));
        }
        let mut body = Vec::new();
        let bounded = limits.answer_bytes_max as u64 + 1;
        let mut reader = response.into_body().into_reader().take(bounded);
        reader.read_to_end(&mut body).map_err(|error| fault(error.into()))?;
        match body.len() > limits.answer_bytes_max {
            true => Err(RpcError::TooLarge(limits.answer_bytes_max)),
            false => Ok((status, body)),
        }
    }

    /// Fills the addresses, unless good ones are known.
    fn find(&mut self) -> Result<(), RpcError> {
        let (host, port) = (self.endpoint.host(), self.endpoint.port());
        if let Ok(address) = host.parse::<IpAddr>() {
            self.addresses = vec![SocketAddr::new(address, port)];
            return Ok(());
        }
        if !self.addresses.is_empty() && !self.addresses_doubted {
            return Ok(());
        }
        match look_up(host, port) {
            Ok(found) => self.addresses = found,
            // The old ones are better than none.
            Err(error) if self.addresses.is_empty() => return Err(error),
            Err(_) => {}
        }
        self.addresses_doubted = false;
        Ok(())
    }

    /// The header that says who we are, from the cookie file if it was not read yet.
    fn authorization(&mut self) -> Result<String, RpcError> {
        if self.authorization.is_none() {
            self.authorization = Some(authorization_of(self.endpoint.auth())?);
        }
        Ok(self.authorization.clone().expect("it was just made"))
    }

    /// After a 401: whether the cookie file has something new, which is used from here on.
    fn cookie_changed(&mut self, refused: &str) -> Result<bool, RpcError> {
        self.authorization = None;
        Ok(self.authorization()? != refused)
    }
}

/// Without the secret.
impl fmt::Debug for Client {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        out.debug_struct("Client").field("endpoint", &self.endpoint).finish_non_exhaustive()
    }
}

/// A place for one connection, without the proxies that the environment may name: a node is near.
fn agent() -> Agent {
    let config = Agent::config_builder()
        .proxy(None)
        .max_redirects(0)
        .max_redirects_will_error(false)
        .http_status_as_error(false)
        .max_response_header_size(HEAD_BYTES_MAX)
        .max_idle_connections(1)
        .max_idle_age(IDLE_MAX)
        .user_agent("headframe");
    config.build().new_agent()
}

/// What a failed exchange was.
fn fault(error: ureq::Error) -> RpcError {
    match error {
        ureq::Error::Timeout(Timeout::Resolve | Timeout::Connect) => {
            RpcError::Unreachable("nobody took the connection".to_owned())
        }
        ureq::Error::Timeout(Timeout::RecvBody) => RpcError::Stalled,
        ureq::Error::Timeout(_) => RpcError::Timeout,
        ureq::Error::Io(error) if error.kind() == ErrorKind::UnexpectedEof => {
            RpcError::Unreachable("the node closed the connection".to_owned())
        }
        ureq::Error::Io(error) => RpcError::Unreachable(error.to_string()),
        other => RpcError::Garbage(other.to_string()),
    }
}

/// The system's resolver has no time limit of its own that one could rely on, so it runs aside.
fn look_up(host: &str, port: u16) -> Result<Vec<SocketAddr>, RpcError> {
    let (result, answer) = mpsc::channel();
    let name = (host.to_owned(), port);
    let asked = thread::Builder::new().name("resolve".to_owned()).spawn(move || {
        // Nobody waits any more: the answer is dropped.
        let _ = result.send(name.to_socket_addrs().map(Vec::from_iter));
    });
    let unknown =
        |why: String| RpcError::Unreachable(format!("the host name {host} is not known: {why}"));
    asked.map_err(|error| unknown(error.to_string()))?;
    match answer.recv_timeout(CONNECT_TIMEOUT) {
        Ok(Ok(found)) if !found.is_empty() => Ok(found),
        Ok(Ok(_)) => Err(unknown("it has no address".to_owned())),
        Ok(Err(error)) => Err(unknown(error.to_string())),
        Err(_) => Err(unknown("the resolver does not answer".to_owned())),
    }
}

fn authorization_of(auth: &Auth) -> Result<String, RpcError> {
    let pair = match auth {
        Auth::User { user, password } => format!("{user}:{password}"),
        Auth::Cookie(path) => read_cookie(path)?,
    };
    Ok(format!("Basic {}", STANDARD.encode(pair)))
}

fn read_cookie(path: &Path) -> Result<String, RpcError> {
    let fault = |why: String| RpcError::Cookie(format!("{}: {why}", path.display()));
    let file = File::open(path).map_err(|error| fault(error.to_string()))?;
    let mut text = String::new();
    let mut bounded = file.take(COOKIE_BYTES_MAX);
    bounded.read_to_string(&mut text).map_err(|error| fault(error.to_string()))?;
    let cookie = text.trim();
    match cookie.contains(':') && !cookie.contains(char::is_whitespace) {
        true => Ok(cookie.to_owned()),
        // bitcoind renames a whole file into place, so it is never half written.
        false => Err(fault("it holds no cookie of bitcoind's".to_owned())),
    }
}
