//! One node's long poll: a request on a thread and a connection of its own, which can be forgotten
//! but not taken back.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering::Relaxed};
use std::thread;
use std::time::Duration;

use pow::Hash256;

use super::post::{Polled, Post, SharedBell};
use crate::rpc::{CallLimits, Client, Endpoint, RpcError, TemplateAnswer};

/// A quiet node does not answer for hours, and one that is given up still holds a thread of the
/// node's. Tips, and templates every 30 s, come without it.
const LONG_POLL_LIMITS: CallLimits = CallLimits {
    timeout: Duration::from_secs(3_600),
    stall: Duration::from_secs(15),
    ..CallLimits::TEMPLATE
};
/// Long polls of one node that may be on their way, forgotten ones included: with one for waiting
/// and one for plain requests a node of four RPC threads still serves.
const POLLS_MAX: usize = 2;
/// Stack of a thread that reads one answer.
const STACK_BYTES: usize = 1 << 20;

pub(super) struct Poller {
    endpoint: Endpoint,
    post: Post,
    bell: SharedBell,
    /// Number of the newest long poll, and the tip that it was asked on.
    open: Option<(u64, Hash256)>,
    last_number: u64,
    on_their_way: Arc<AtomicUsize>,
}

impl Poller {
    pub(super) fn new(endpoint: &Endpoint, post: Post, bell: SharedBell) -> Poller {
        Poller {
            endpoint: endpoint.clone(),
            post,
            bell,
            open: None,
            last_number: 0,
            on_their_way: Arc::default(),
        }
    }

    /// Whether an answer is awaited.
    pub(super) fn is_open(&self) -> bool {
        self.open.is_some()
    }

    /// Leaves the open long poll to itself.
    pub(super) fn forget(&mut self) {
        self.open = None;
    }

    /// Opens one, from a template on `tip` on, unless one on that tip is open. One on another tip
    /// would have been answered by a node that is well, so it is left to itself.
    pub(super) fn open(&mut self, longpollid: String, tip: Hash256) {
        if self.open.is_some_and(|(_, asked_on)| asked_on == tip) {
            return;
        }
        self.open = None;
        if self.on_their_way.fetch_add(1, Relaxed) >= POLLS_MAX {
            self.on_their_way.fetch_sub(1, Relaxed);
            return;
        }
        self.last_number += 1;
        let (number, asked) = (self.last_number, self.post.clock.now());
        let (bell, on_their_way) = (self.bell.clone(), self.on_their_way.clone());
        let mut client = Client::new(&self.endpoint);
        let spawned = thread::Builder::new()
            .name(format!("poll-{}", self.post.node))
            .stack_size(STACK_BYTES)
            .spawn(move || {
                let answer = client.template(Some(&longpollid), LONG_POLL_LIMITS);
                on_their_way.fetch_sub(1, Relaxed);
                bell.polled(Polled { number, asked, answer });
            });
        match spawned {
            Ok(_) => self.open = Some((number, tip)),
            // Without a thread there is no long poll: plain requests do.
            Err(_) => drop(self.on_their_way.fetch_sub(1, Relaxed)),
        }
    }

    /// The answer, if it is the one that is awaited, and when it was asked for.
    pub(super) fn take(
        &mut self,
        polled: Polled,
    ) -> Option<Result<(Duration, TemplateAnswer), RpcError>> {
        self.open.take_if(|(number, _)| *number == polled.number)?;
        Some(polled.answer.map(|answer| (polled.asked, answer)))
    }
}
