//! The post: what waits for a receiver, and how much of it. A way of delivery has a queue of fixed
//! length and a pace, so that neither a storm of alerts nor a receiver that hangs can take memory
//! or keep anybody waiting. Blocks have room and pace of their own: no storm of silence pushes one
//! out.

use std::collections::VecDeque;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use super::alert::Alert;

/// Blocks that wait, and others; then the oldest goes. An alert is at most 2 KB in memory.
const BLOCKS_WAITING_MAX: usize = 64;
const OTHERS_WAITING_MAX: usize = 256;
/// Alerts of a kind that may go out at once: a bad day of a large farm.
const BURST: u64 = 20;
/// Then one in so long: nobody reads more than 20 a minute.
const PACE: Duration = Duration::from_secs(3);

/// One way of delivery as its thread and the others see it.
#[derive(Debug)]
pub(crate) struct Way {
    /// As the metrics call it.
    pub(crate) name: &'static str,
    inner: Mutex<Inner>,
    changed: Condvar,
    delivered: AtomicU64,
    failed: AtomicU64,
    dropped: AtomicU64,
}

#[derive(Debug)]
struct Inner {
    blocks: Lane,
    others: Lane,
    /// Dropped since the newest that was taken out.
    dropped: u64,
    /// Asked to end, and until when it may still deliver.
    end: Option<Instant>,
}

/// How a way of delivery is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct WayStatus {
    /// `webhook` or `command`.
    pub way: &'static str,
    /// Taken by the receiver.
    pub delivered: u64,
    /// Given up after all tries.
    pub failed: u64,
    /// Never tried: too many waited.
    pub dropped: u64,
    /// Waiting now.
    pub waiting: usize,
}

impl Way {
    /// A way whose pace begins at this moment.
    pub(crate) fn new(name: &'static str, now: Instant) -> Way {
        let lane = |limit| Lane::new(limit, now);
        let (blocks, others) = (lane(BLOCKS_WAITING_MAX), lane(OTHERS_WAITING_MAX));
        let inner = Mutex::new(Inner { blocks, others, dropped: 0, end: None });
        let (delivered, failed, dropped) = Default::default();
        Way { name, inner, changed: Condvar::new(), delivered, failed, dropped }
    }

    /// How it is.
    pub(crate) fn status(&self) -> WayStatus {
        let inner = self.lock();
        WayStatus {
            way: self.name,
            delivered: self.delivered.load(Relaxed),
            failed: self.failed.load(Relaxed),
            dropped: self.dropped.load(Relaxed),
            waiting: inner.blocks.waiting.len() + inner.others.waiting.len(),
        }
    }

    /// Hands in an alert. Never waits for a delivery.
    pub(crate) fn put(&self, alert: Arc<Alert>) {
        let mut inner = self.lock();
        let lane = if alert.news.is_block() { &mut inner.blocks } else { &mut inner.others };
        if lane.put(alert) {
            inner.dropped += 1;
            self.dropped.fetch_add(1, Relaxed);
        }
        drop(inner);
        self.changed.notify_one();
    }

    /// Waits for the next alert that may go out, with the number of those dropped before it. `None`
    /// at the end: nothing waits any more, or the time is over.
    pub(crate) fn take(&self) -> Option<(Arc<Alert>, u64)> {
        let mut inner = self.lock();
        loop {
            let now = Instant::now();
            if inner.end.is_some_and(|end| now >= end) {
                return None;
            }
            let ending = inner.end.is_some();
            let wait = match inner.next(now) {
                Next::Alert(alert) => return Some((alert, std::mem::take(&mut inner.dropped))),
                Next::Nothing | Next::At(_) if ending => return None,
                Next::Nothing => None,
                Next::At(at) => Some(at.saturating_duration_since(now)),
            };
            inner = self.wait(inner, wait);
        }
    }

    /// Asks for the end: what waits may still go out until the moment, without a second try.
    pub(crate) fn end(&self, until: Instant) {
        self.lock().end = Some(until);
        self.changed.notify_all();
    }

    /// Waits, but not beyond the end; whether to go on.
    pub(crate) fn pause(&self, time: Duration) -> bool {
        let until = Instant::now() + time;
        let mut inner = self.lock();
        loop {
            let left = until.saturating_duration_since(Instant::now());
            if inner.end.is_some() || left.is_zero() {
                return inner.end.is_none();
            }
            inner = self.wait(inner, Some(left));
        }
    }

    /// How long something may take that began now and is limited to so much.
    pub(crate) fn limit(&self, limit: Duration) -> Duration {
        let end = self.lock().end;
        end.map_or(limit, |end| limit.min(end.saturating_duration_since(Instant::now())))
    }

    /// Counts what became of an alert.
    pub(crate) fn count(&self, delivered: bool) {
        let counter = if delivered { &self.delivered } else { &self.failed };
        counter.fetch_add(1, Relaxed);
    }

    fn wait<'i>(
        &self,
        inner: MutexGuard<'i, Inner>,
        time: Option<Duration>,
    ) -> MutexGuard<'i, Inner> {
        match time {
            None => self.changed.wait(inner).unwrap_or_else(PoisonError::into_inner),
            Some(time) => {
                let woken = self.changed.wait_timeout(inner, time);
                woken.unwrap_or_else(PoisonError::into_inner).0
            }
        }
    }

    // A poisoned lock still holds whole values.
    fn lock(&self) -> MutexGuard<'_, Inner> {
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// What may go out.
enum Next {
    Alert(Arc<Alert>),
    /// Something waits for its pace until then.
    At(Instant),
    Nothing,
}

impl Inner {
    fn next(&mut self, now: Instant) -> Next {
        match self.blocks.next(now) {
            Next::Alert(alert) => Next::Alert(alert),
            Next::Nothing => self.others.next(now),
            Next::At(at) => match self.others.next(now) {
                Next::At(other) => Next::At(at.min(other)),
                Next::Nothing => Next::At(at),
                alert => alert,
            },
        }
    }
}

/// A queue with a length and a pace.
#[derive(Debug)]
struct Lane {
    waiting: VecDeque<Arc<Alert>>,
    waiting_max: usize,
    /// Alerts that may go out at once.
    allowed: u64,
    /// When one more was allowed last.
    allowed_at: Instant,
}

impl Lane {
    fn new(waiting_max: usize, now: Instant) -> Lane {
        let waiting = VecDeque::with_capacity(waiting_max);
        Lane { waiting, waiting_max, allowed: BURST, allowed_at: now }
    }

    /// Whether one was dropped for it: the oldest, because the newest says how it is now.
    fn put(&mut self, alert: Arc<Alert>) -> bool {
        let full = self.waiting.len() >= self.waiting_max;
        if full {
            self.waiting.pop_front();
        }
        self.waiting.push_back(alert);
        full
    }

    fn next(&mut self, now: Instant) -> Next {
        let paces = now.saturating_duration_since(self.allowed_at).as_nanos() / PACE.as_nanos();
        let paces = u32::try_from(paces).unwrap_or(u32::MAX);
        self.allowed_at += PACE * paces;
        self.allowed = (self.allowed + u64::from(paces)).min(BURST);
        if self.waiting.is_empty() {
            return Next::Nothing;
        }
        if self.allowed == 0 {
            return Next::At(self.allowed_at + PACE);
        }
        self.allowed -= 1;
        self.waiting.pop_front().map_or(Next::Nothing, Next::Alert)
    }
}

#[cfg(test)]
mod tests {
    use super::super::alert::{BlockNews, News, tests::worker};
    use super::*;

    fn silent(id: u64) -> Arc<Alert> {
        Arc::new(Alert { id, at: 0, news: News::WorkerSilent(worker("farm.a")) })
    }

    fn block(id: u64) -> Arc<Alert> {
        let news = News::Block(BlockNews::of(&crate::samples::block()));
        Arc::new(Alert { id, at: 0, news })
    }

    /// What goes out at that moment, by number.
    fn out(way: &Way, now: Instant) -> Vec<u64> {
        let mut inner = way.lock();
        std::iter::from_fn(|| match inner.next(now) {
            Next::Alert(alert) => Some(alert.id),
            Next::At(_) | Next::Nothing => None,
        })
        .collect()
    }

    #[test]
    fn a_burst_goes_out_at_once_and_then_one_in_three_seconds() {
        let start = Instant::now();
        let way = Way::new("webhook", start);
        (0..60).for_each(|id| way.put(silent(id)));
        assert_eq!(out(&way, start), (0..20).collect::<Vec<_>>());
        assert!(out(&way, start + PACE - Duration::from_millis(1)).is_empty());
        assert_eq!(out(&way, start + PACE), [20]);
        assert_eq!(out(&way, start + 4 * PACE), [21, 22, 23]);
        assert_eq!(out(&way, start + 10_000 * PACE), (24..44).collect::<Vec<_>>(), "no more saved");
    }

    #[test]
    fn a_storm_drops_its_oldest_and_never_a_block() {
        let start = Instant::now();
        let way = Way::new("webhook", start);
        (0..3).for_each(|id| way.put(block(id)));
        (100..10_100).for_each(|id| way.put(silent(id)));
        let status = way.status();
        assert_eq!((status.waiting, status.dropped), (256 + 3, 10_000 - 256));
        let first = out(&way, start);
        assert_eq!(first[..4], [0, 1, 2, 10_100 - 256], "blocks first, then what is newest");
        assert_eq!(first.len(), 3 + 20, "blocks have a pace of their own");
    }

    #[test]
    fn who_takes_one_hears_how_many_were_dropped_before_it() {
        let way = Way::new("webhook", Instant::now());
        (0..300).for_each(|id| way.put(silent(id)));
        let taken = |way: &Way| way.take().map(|(alert, dropped)| (alert.id, dropped));
        assert_eq!(taken(&way), Some((44, 44)));
        assert_eq!(taken(&way), Some((45, 0)));
    }

    #[test]
    fn the_end_wakes_who_waits_and_sends_out_what_may_go() {
        let way = Arc::new(Way::new("webhook", Instant::now()));
        let waits = way.clone();
        let waits = std::thread::spawn(move || waits.take().is_none());
        way.end(Instant::now() + Duration::from_secs(60));
        assert!(waits.join().expect("no panic"));
        way.put(block(7));
        assert_eq!(way.take().map(|(alert, _)| alert.id), Some(7));
        assert!(way.take().is_none());
        assert!(!way.pause(Duration::from_secs(60)), "nobody is waited for");
        way.put(block(8));
        way.end(Instant::now());
        assert!(way.take().is_none(), "the time is over");
        assert_eq!(way.limit(Duration::from_secs(5)), Duration::ZERO);
    }
}
