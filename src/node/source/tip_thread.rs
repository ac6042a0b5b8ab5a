//! The thread that hears one node's tips: over ZMQ where that is configured and published, with a
//! look at the tip every second as the net under it, else with a call that the node answers when
//! its tip moves. Of each new tip it fetches the header, tells the choice and rings the bell.
//!
//! It is also the node's pulse: every answer, within two seconds at most, says that it is alive.
//! What is wrong with a node that is not, `node_thread` finds out.

use std::io::{ErrorKind, Read, Write};
use std::net::{TcpStream, ToSocketAddrs};
use std::time::{Duration, Instant};

use pow::Hash256;

use super::NodeConfig;
use super::choice::Observed;
use super::health::NodeFault;
use super::node_thread::fault_of_rpc;
use super::post::{Backoff, Post, SharedBell, Voice, What, pause_after};
use super::zmtp::Subscriber;
use crate::rpc::{CallLimits, Client, RpcError, ZmqNotification};

/// How long the node may wait for its tip to move before it answers anyway.
const WAIT: Duration = Duration::from_secs(2);
/// What is asked here a healthy node answers at once. So a node that hangs is found within
/// `WAIT` and this.
const LIMITS: CallLimits = CallLimits {
    timeout: Duration::from_secs(3),
    stall: Duration::from_secs(2),
    ..CallLimits::QUICK
};
/// Under ZMQ the tip is looked at so often: messages may be lost, and `invalidateblock` sends none.
const NET: Duration = Duration::from_secs(1);
/// A tip that moves faster than this is followed at this pace.
const TIP_PAUSE: Duration = Duration::from_millis(20);
/// The publisher is on the node's own host: this long a connection and a greeting may take, in
/// which no tip is heard.
const ZMQ_TIMEOUT: Duration = Duration::from_millis(500);
/// A publisher that failed is tried again after so long.
const ZMQ_RETRY: Duration = Duration::from_secs(10);
/// bitcoind's name of what we subscribe to.
const HASHBLOCK: &str = "pubhashblock";

pub(super) struct TipThread {
    client: Client,
    post: Post,
    bell: SharedBell,
    /// `tcp://host:port`.
    zmq: Option<String>,
    zmq_due: Instant,
    known: Option<Hash256>,
    warning: Option<String>,
}

/// A publisher that we are subscribed to.
struct Zmq {
    stream: TcpStream,
    subscriber: Subscriber,
}

impl TipThread {
    pub(super) fn new(config: &NodeConfig, post: Post, bell: SharedBell) -> TipThread {
        TipThread {
            client: Client::new(&config.endpoint),
            post,
            bell,
            zmq: config.zmq_hashblock.clone(),
            zmq_due: Instant::now(),
            known: None,
            warning: None,
        }
    }

    pub(super) fn run(mut self) {
        let mut backoff = Backoff::new();
        while !self.bell.is_stopped() {
            let began = self.post.clock.now();
            let error = match self.follow(&mut backoff) {
                Ok(()) => continue,
                Err(error) => error,
            };
            self.client.disconnect();
            // Where this thread is not let in, a long poll may still bring tips.
            self.bell.set_prompt(false);
            let fault = fault_of_rpc(error);
            let took = self.post.clock.now().saturating_sub(began);
            let pause = pause_after(&fault, took, backoff.next());
            // The rest is told by the thread of templates, which asks for more.
            let is_gone = matches!(
                fault,
                NodeFault::Unreachable(_)
                    | NodeFault::Cookie(_)
                    | NodeFault::Slow
                    | NodeFault::Stalled
            );
            if is_gone {
                self.post.observed(Observed::Failed(fault));
            }
            self.bell.doubt();
            if self.bell.pause(pause) {
                return;
            }
        }
    }

    /// Follows the node's tip until it fails or everything ends.
    fn follow(&mut self, backoff: &mut Backoff) -> Result<(), RpcError> {
        let best = self.client.best_hash(LIMITS)?;
        // A node that does not let us ask how it waits may still have its publisher.
        self.bell.set_prompt(self.client.can_wait(LIMITS).unwrap_or(false));
        self.learn(best)?;
        self.bell.doubt();
        while !self.bell.is_stopped() {
            if self.zmq.is_some() && Instant::now() >= self.zmq_due {
                self.follow_zmq(backoff)?;
            } else {
                self.post.tell(What::TipSource("wait"));
                self.follow_calls(backoff)?;
            }
        }
        Ok(())
    }

    /// With blocking calls, until the publisher may be tried again.
    fn follow_calls(&mut self, backoff: &mut Backoff) -> Result<(), RpcError> {
        while !self.bell.is_stopped() {
            if self.zmq.is_some() && Instant::now() >= self.zmq_due {
                return Ok(());
            }
            let began = Instant::now();
            let known = self.known.unwrap_or(Hash256::ZERO);
            let seen = self.client.wait_new_block(&known, WAIT, LIMITS)?;
            backoff.reset();
            if seen.is_new {
                self.learn(seen.hash)?;
                continue;
            }
            self.post.observed(Observed::Heard);
            // A node that does not wait is not asked without end.
            if began.elapsed() < WAIT / 2 {
                self.bell.pause(WAIT / 2);
            }
        }
        Ok(())
    }

    /// With the publisher, until that fails; the node's own failures are errors.
    fn follow_zmq(&mut self, backoff: &mut Backoff) -> Result<(), RpcError> {
        self.zmq_due = Instant::now() + ZMQ_RETRY;
        let address = self.zmq.clone().unwrap_or_default();
        let published = self.client.zmq_notifications(LIMITS)?;
        let (use_it, warning) = judge_publisher(&address, &published);
        self.warn(warning);
        if !use_it {
            return Ok(());
        }
        let mut zmq = match Zmq::connect(&address) {
            Ok(zmq) => zmq,
            Err(why) => {
                self.warn(Some(format!("zmq_hashblock {address}: {why}")));
                return Ok(());
            }
        };
        self.post.tell(What::TipSource("zmq"));
        let mut net_due = Instant::now();
        while !self.bell.is_stopped() {
            let hash = match zmq.next(net_due) {
                Ok(Some(hash)) => hash,
                Ok(None) => {
                    let best = self.client.best_hash(LIMITS)?;
                    backoff.reset();
                    net_due = Instant::now() + NET;
                    best
                }
                Err(why) => {
                    self.warn(Some(format!("zmq_hashblock {address}: {why}")));
                    return Ok(());
                }
            };
            if self.known == Some(hash) {
                self.post.observed(Observed::Heard);
            } else {
                self.learn(hash)?;
            }
        }
        Ok(())
    }

    /// Fetches a tip's header and tells it.
    fn learn(&mut self, hash: Hash256) -> Result<(), RpcError> {
        let learned = self.post.clock.now();
        // Not there or beside the chain: it has moved on, and the next look will show where to.
        let header = self.client.header(&hash, LIMITS)?;
        self.known = Some(hash);
        if let Some(header) = header.filter(|header| header.confirmations > 0) {
            self.post.observed(Observed::Tip { header, learned });
            self.bell.ring(header);
        }
        self.bell.pause(TIP_PAUSE);
        Ok(())
    }

    fn warn(&mut self, warning: Option<String>) {
        if self.warning != warning {
            let list = warning.iter().cloned().collect();
            self.post.tell(What::Warnings(Voice::Tips, list));
            self.warning = warning;
        }
    }
}

/// Whether to subscribe, and what to tell the operator. The node may be behind a forwarded port,
/// so another port is a warning only.
fn judge_publisher(address: &str, published: &[ZmqNotification]) -> (bool, Option<String>) {
    let mut hashblocks = published.iter().filter(|line| line.kind == HASHBLOCK).peekable();
    if hashblocks.peek().is_none() {
        let warning = format!(
            "zmq_hashblock is configured, but the node publishes none: set \
             zmqpubhashblock={address} in its bitcoin.conf"
        );
        return (false, Some(warning));
    }
    let port = |address: &str| address.rsplit(':').next().map(str::to_owned);
    let all: Vec<&str> = hashblocks.map(|line| line.address.as_str()).collect();
    if all.iter().any(|published| port(published) == port(address)) {
        return (true, None);
    }
    let all = all.join(", ");
    (true, Some(format!("zmq_hashblock is {address}, but the node publishes at {all}")))
}

impl Zmq {
    fn connect(address: &str) -> Result<Zmq, String> {
        let place = address.strip_prefix("tcp://").unwrap_or(address);
        let addresses = place.to_socket_addrs().map_err(|error| error.to_string())?;
        let mut last = "no address".to_owned();
        for address in addresses {
            match TcpStream::connect_timeout(&address, ZMQ_TIMEOUT) {
                Ok(stream) => return Zmq::greet(stream),
                Err(error) => last = error.to_string(),
            }
        }
        Err(last)
    }

    fn greet(stream: TcpStream) -> Result<Zmq, String> {
        let limit = Some(ZMQ_TIMEOUT);
        stream.set_write_timeout(limit).map_err(|error| error.to_string())?;
        let mut zmq = Zmq { stream, subscriber: Subscriber::new() };
        let until = Instant::now() + ZMQ_TIMEOUT;
        zmq.send()?;
        while !zmq.subscriber.is_subscribed() {
            if Instant::now() >= until {
                return Err("no ZMQ publisher answers there".to_owned());
            }
            zmq.next(until)?;
        }
        Ok(zmq)
    }

    /// The newest hash, or none by `until`.
    fn next(&mut self, until: Instant) -> Result<Option<Hash256>, String> {
        let mut bytes = [0; 16_384];
        loop {
            let left = until.saturating_duration_since(Instant::now());
            if left.is_zero() {
                return Ok(None);
            }
            // A limit of less than a millisecond may mean none.
            let left = left.max(Duration::from_millis(1));
            self.stream.set_read_timeout(Some(left)).map_err(|error| error.to_string())?;
            let count = match self.stream.read(&mut bytes) {
                Ok(0) => return Err("the publisher closed the connection".to_owned()),
                Ok(count) => count,
                Err(error) => match error.kind() {
                    ErrorKind::WouldBlock | ErrorKind::TimedOut => return Ok(None),
                    ErrorKind::Interrupted => continue,
                    _ => return Err(error.to_string()),
                },
            };
            let was_subscribed = self.subscriber.is_subscribed();
            let hash = self.subscriber.receive(&bytes[..count]).map_err(|e| e.to_string())?;
            self.send()?;
            if hash.is_some() || was_subscribed != self.subscriber.is_subscribed() {
                return Ok(hash);
            }
        }
    }

    fn send(&mut self) -> Result<(), String> {
        let bytes = self.subscriber.take_to_send();
        self.stream.write_all(&bytes).map_err(|error| error.to_string())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn line(kind: &str, address: &str) -> ZmqNotification {
        ZmqNotification { kind: kind.into(), address: address.into() }
    }

    #[test]
    fn a_publisher_is_checked_against_what_the_node_says() {
        let ours = "tcp://10.0.0.5:28332";
        let (use_it, warning) = judge_publisher(ours, &[line("pubrawtx", ours)]);
        let warning = warning.expect("it publishes no hashes");
        assert!(!use_it && warning.contains("zmqpubhashblock=tcp://10.0.0.5:28332"), "{warning}");
        let good = [line("pubrawtx", ours), line(HASHBLOCK, "tcp://0.0.0.0:28332")];
        assert_eq!(judge_publisher(ours, &good), (true, None));
        let (use_it, warning) = judge_publisher(ours, &[line(HASHBLOCK, "tcp://0.0.0.0:1")]);
        assert!(use_it && warning.is_some_and(|words| words.contains("tcp://0.0.0.0:1")));
    }
}
