//! How a node's threads talk to the source's thread and to each other: news one way, a bell the
//! other, one clock for all, and the pauses after failures.

use std::collections::VecDeque;
use std::sync::mpsc::SyncSender;
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use super::choice::Observed;
use super::health::NodeFault;
use crate::rpc::{RpcError, TemplateAnswer, TipHeader};

/// News that wait for the source's thread; it takes each within microseconds.
pub(super) const NEWS_MAX: usize = 64;
/// The pause after a first failure; it doubles with each further one.
const PAUSE_MIN: Duration = Duration::from_millis(100);
/// The longest pause.
const PAUSE_MAX: Duration = Duration::from_secs(5);
/// The longest pause where asking costs neither side anything: a node that is down or starts is
/// back some time, and whoever has restarted it looks for its work at once.
const CHEAP_PAUSE_MAX: Duration = Duration::from_secs(1);
/// What was refused within this time has cost nothing: nobody listens, or the cookie is not there.
/// A name that is looked up in vain or a host that is silent takes longer.
const CHEAP_MAX: Duration = Duration::from_millis(50);
/// A node that must be changed before it can be used is asked so often.
const WRONG_PAUSE: Duration = Duration::from_secs(30);

/// What a node's thread has to say.
pub(super) struct News {
    /// Which node.
    pub(super) node: usize,
    /// When it was said.
    pub(super) at: Duration,
    /// What.
    pub(super) what: What,
}

pub(super) enum What {
    /// For the choice.
    Observed(Observed),
    /// How long the node took to answer with a template.
    Latency(Duration),
    /// Warnings of one of the node's threads, which replace its earlier ones.
    Warnings(Voice, Vec<String>),
    /// How tips are learned now.
    TipSource(&'static str),
}

/// Who warns.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Voice {
    /// The thread of templates.
    Templates,
    /// The thread of tips.
    Tips,
}

/// One node's way to the source's thread.
#[derive(Clone)]
pub(super) struct Post {
    pub(super) node: usize,
    pub(super) clock: Clock,
    pub(super) sender: SyncSender<News>,
}

impl Post {
    pub(super) fn observed(&self, observed: Observed) {
        self.tell(What::Observed(observed));
    }

    /// When the source has ended there is nobody to tell, and the bell says so soon.
    pub(super) fn tell(&self, what: What) {
        let news = News { node: self.node, at: self.clock.now(), what };
        drop(self.sender.send(news));
    }
}

/// The source's time: monotonic, from its start.
#[derive(Clone, Copy)]
pub(super) struct Clock(Instant);

impl Clock {
    pub(super) fn start() -> Clock {
        Clock(Instant::now())
    }

    pub(super) fn now(self) -> Duration {
        self.0.elapsed()
    }
}

/// What wakes a node's thread of templates.
#[derive(Default)]
pub(super) struct Bell {
    state: Mutex<Rung>,
    changed: Condvar,
}

#[derive(Default)]
struct Rung {
    tip: Option<TipHeader>,
    /// Whether the node tells of a tip as it moves, once that is known.
    prompt: Option<bool>,
    news: bool,
    doubted: bool,
    /// As many as a `Poller` has on their way.
    polled: VecDeque<Polled>,
    stopped: bool,
}

/// What a long poll ended with.
pub(super) struct Polled {
    /// Which of the node's long polls.
    pub(super) number: u64,
    /// When it began.
    pub(super) asked: Duration,
    /// What came.
    pub(super) answer: Result<TemplateAnswer, RpcError>,
}

/// Why a wait ended.
pub(super) enum Wake {
    /// The time is over.
    Time,
    /// The node has another tip.
    News,
    /// It was silent or is back: somebody should look how it is.
    Doubt,
    /// A long poll was answered.
    Polled(Polled),
    /// Everything ends.
    Stop,
}

impl Bell {
    /// The node has another tip.
    pub(super) fn ring(&self, tip: TipHeader) {
        let mut state = self.lock();
        state.tip = Some(tip);
        state.news = true;
        drop(state);
        self.changed.notify_all();
    }

    /// Whether the node was found to tell of a tip as it moves, without a long poll.
    pub(super) fn set_prompt(&self, prompt: bool) {
        self.lock().prompt = Some(prompt);
    }

    /// What was found last.
    pub(super) fn is_prompt(&self) -> Option<bool> {
        self.lock().prompt
    }

    /// Somebody should look how the node is.
    pub(super) fn doubt(&self) {
        self.lock().doubted = true;
        self.changed.notify_all();
    }

    pub(super) fn polled(&self, polled: Polled) {
        self.lock().polled.push_back(polled);
        self.changed.notify_all();
    }

    pub(super) fn stop(&self) {
        self.lock().stopped = true;
        self.changed.notify_all();
    }

    /// The newest tip that was rung for.
    pub(super) fn tip(&self) -> Option<TipHeader> {
        self.lock().tip
    }

    pub(super) fn is_stopped(&self) -> bool {
        self.lock().stopped
    }

    /// Waits for news, at most `patience`.
    pub(super) fn wait(&self, patience: Duration) -> Wake {
        let idle = |state: &mut Rung| {
            !(state.news || state.doubted || state.stopped) && state.polled.is_empty()
        };
        let (mut state, _) = self
            .changed
            .wait_timeout_while(self.lock(), patience, idle)
            .unwrap_or_else(PoisonError::into_inner);
        if state.stopped {
            return Wake::Stop;
        }
        if let Some(polled) = state.polled.pop_front() {
            return Wake::Polled(polled);
        }
        let (news, doubted) = (state.news, state.doubted);
        (state.news, state.doubted) = (false, false);
        match (doubted, news) {
            (true, _) => Wake::Doubt,
            (false, true) => Wake::News,
            (false, false) => Wake::Time,
        }
    }

    /// Waits whatever is rung for, unless everything ends; tells whether it does.
    pub(super) fn pause(&self, patience: Duration) -> bool {
        let (state, _) = self
            .changed
            .wait_timeout_while(self.lock(), patience, |state| !state.stopped)
            .unwrap_or_else(PoisonError::into_inner);
        state.stopped
    }

    // A poisoned bell still holds whole values: each field is set at once.
    fn lock(&self) -> MutexGuard<'_, Rung> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// How long to leave a node alone after a fault, where `backoff` is what its failures in a row ask
/// for and `took` is how long it took to fail.
pub(super) fn pause_after(fault: &NodeFault, took: Duration, backoff: Duration) -> Duration {
    match fault {
        NodeFault::Unreachable(_) | NodeFault::Cookie(_) if took < CHEAP_MAX => {
            backoff.min(CHEAP_PAUSE_MAX)
        }
        NodeFault::Warming(_) => backoff.min(CHEAP_PAUSE_MAX),
        NodeFault::WrongNetwork { .. }
        | NodeFault::Signet
        | NodeFault::UnknownRule(_)
        | NodeFault::ProposalRefused(_) => WRONG_PAUSE,
        _ => backoff,
    }
}

/// Pauses that grow with each failure in a row.
pub(super) struct Backoff {
    next: Duration,
}

impl Backoff {
    pub(super) fn new() -> Backoff {
        Backoff { next: PAUSE_MIN }
    }

    pub(super) fn reset(&mut self) {
        self.next = PAUSE_MIN;
    }

    pub(super) fn next(&mut self) -> Duration {
        let pause = self.next;
        self.next = (pause * 2).min(PAUSE_MAX);
        pause
    }
}

/// A bell that both threads of a node hold.
pub(super) type SharedBell = Arc<Bell>;

#[cfg(test)]
mod tests {
    use pow::Hash256;

    use super::*;

    #[test]
    fn pauses_double_from_a_tenth_of_a_second_to_five() {
        let mut backoff = Backoff::new();
        let pauses: Vec<u128> = (0..8).map(|_| backoff.next().as_millis()).collect();
        assert_eq!(pauses, [100, 200, 400, 800, 1_600, 3_200, 5_000, 5_000]);
        backoff.reset();
        assert_eq!(backoff.next(), PAUSE_MIN);
    }

    #[test]
    fn a_node_that_is_down_or_starts_is_asked_every_second_and_one_that_errs_is_left_alone() {
        let refused = || NodeFault::Unreachable("connection refused".into());
        let (at_once, late) = (Duration::from_millis(1), Duration::from_secs(2));
        for (fault, took, wanted) in [
            (refused(), at_once, CHEAP_PAUSE_MAX),
            (refused(), late, PAUSE_MAX),
            (NodeFault::Warming("Loading block index".into()), late, CHEAP_PAUSE_MAX),
            (NodeFault::Unauthorized, at_once, PAUSE_MAX),
            (NodeFault::Slow, late, PAUSE_MAX),
            (NodeFault::Stalled, late, PAUSE_MAX),
            (NodeFault::Busy, at_once, PAUSE_MAX),
            (NodeFault::Garbage("half of it".into()), at_once, PAUSE_MAX),
            (NodeFault::Signet, at_once, WRONG_PAUSE),
        ] {
            let mut backoff = Backoff::new();
            let pauses: Vec<Duration> =
                (0..8).map(|_| pause_after(&fault, took, backoff.next())).collect();
            assert_eq!(pauses.last(), Some(&wanted), "{fault:?} after {took:?}");
            let first = if wanted == WRONG_PAUSE { WRONG_PAUSE } else { PAUSE_MIN };
            assert_eq!(pauses.first(), Some(&first), "{fault:?}");
        }
    }

    #[test]
    fn a_bell_remembers_what_was_rung_before_the_wait() {
        let bell = Bell::default();
        let tip = TipHeader {
            hash: Hash256([1; 32]),
            prev_hash: Hash256::ZERO,
            height: 1,
            confirmations: 1,
            version: 1,
            bits: 0x207f_ffff,
            time: 2,
            median_time: 1,
        };
        bell.ring(tip);
        assert!(matches!(bell.wait(Duration::from_secs(60)), Wake::News));
        assert!(matches!(bell.wait(Duration::ZERO), Wake::Time));
        assert_eq!(bell.tip(), Some(tip));
        bell.doubt();
        assert!(!bell.pause(Duration::ZERO), "a pause is not ended by news");
        bell.stop();
        assert!(bell.pause(Duration::from_secs(60)));
        assert!(matches!(bell.wait(Duration::from_secs(60)), Wake::Stop));
    }
}
