//! Alerts: a webhook or a command hears of blocks and of who goes silent. One thread looks at the
//! farm's snapshots and judges, one thread for each way of delivery sends; between them stand
//! queues of fixed length that drop their oldest. Nobody who mines or serves waits for any of it.
//!
//! `watch` judges silence, `alert` is what is told, `post` what waits, `courier` who delivers.
//! Without a webhook or a command there is no thread and nothing is judged.

mod alert;
mod courier;
mod post;
mod watch;

use std::collections::BTreeMap;
use std::sync::mpsc::{Receiver, RecvTimeoutError, Sender, channel};
use std::sync::{Arc, Weak};
use std::time::{Duration, Instant};

use farm::Status;
use farm::blocks::Outcome;

use self::alert::{Alert, BlockNews, News};
use self::courier::Deliver;
use self::post::Way;
pub use self::post::WayStatus;
use self::watch::Watch;
use crate::config;
use crate::exit::Stop;
use crate::history::{HistoryState, unix};
use crate::view::{Running, View};

/// How often blocks are looked for: the snapshot is as old at most.
const LOOK_EVERY: Duration = Duration::from_secs(1);
/// How often the accounts are asked for, where silence is a matter of minutes.
const LIST_EVERY: Duration = Duration::from_secs(5);
/// The coordinator answers within milliseconds, unless it hangs.
const LIST_LIMIT: Duration = Duration::from_secs(2);
/// What earlier processes counted is waited for so long; a disk that hangs silences nobody.
const HISTORY_LIMIT_MICROS: u64 = 60_000_000;

/// What is asked for, and the ways of delivery, for those who show how they are.
#[derive(Debug)]
pub struct Alerts {
    asked: config::Alerts,
    pace_per_minute: f64,
    webhook: Option<Arc<Way>>,
    command: Option<Arc<Way>>,
}

impl Alerts {
    /// As the file asks for them; no way is asked for as a rule. Miners are meant to send shares at
    /// that pace.
    pub(crate) fn new(asked: &config::Alerts, pace_per_minute: f64) -> Alerts {
        let way = |name| Arc::new(Way::new(name, Instant::now()));
        let webhook = asked.webhook.as_ref().map(|_| way("webhook"));
        let command = asked.command.as_ref().map(|_| way("command"));
        Alerts { asked: asked.clone(), pace_per_minute, webhook, command }
    }

    /// How each way is.
    pub(crate) fn status(&self) -> Vec<WayStatus> {
        self.ways().map(|way| way.status()).collect()
    }

    fn ways(&self) -> impl Iterator<Item = &Arc<Way>> {
        self.webhook.iter().chain(&self.command)
    }

    fn couriers(&self) -> Vec<(Arc<Way>, Deliver)> {
        let asked = &self.asked;
        let webhook = self.webhook.clone().zip(asked.webhook.clone().map(Deliver::webhook));
        let command = self.command.clone().zip(asked.command.clone().map(Deliver::Command));
        webhook.into_iter().chain(command).collect()
    }
}

/// The threads behind it.
#[derive(Debug)]
pub(crate) struct Threads {
    /// Until when the last alerts may go out.
    end: Sender<Instant>,
    ended: Receiver<()>,
}

impl Threads {
    /// Starts to judge and to deliver; nothing where no way is asked for.
    pub(crate) fn start(farm: &Arc<Running>) -> Result<Option<Threads>, Stop> {
        let couriers = farm.alerts.couriers();
        if couriers.is_empty() {
            return Ok(None);
        }
        let (end, asked) = channel();
        let (alive, ended) = channel();
        let ways: Vec<Arc<Way>> = couriers.iter().map(|(way, _)| way.clone()).collect();
        for (way, deliver) in couriers {
            let alive: Sender<()> = alive.clone();
            let courier = move || {
                courier::serve(&way, &deliver);
                drop(alive);
            };
            spawn("alert-courier", courier)?;
        }
        let judge = Judge::new(&farm.alerts, ways, farm.started());
        let farm = Arc::downgrade(farm);
        let serve = move || {
            judge.serve(&farm, &asked);
            drop(alive);
        };
        spawn("alerts", serve)?;
        Ok(Some(Threads { end, ended }))
    }

    /// Asks for the end: the last block is told of, and what waits goes out once, until the moment.
    pub(crate) fn end(&self, until: Instant) {
        // The judge may have ended by a panic, which is in the log.
        let _ = self.end.send(until);
    }

    /// Waits for that; a receiver that hangs does not hold up the end.
    pub(crate) fn wait(self, until: Instant) {
        let limit = until.saturating_duration_since(Instant::now());
        if self.ended.recv_timeout(limit) == Err(RecvTimeoutError::Timeout) {
            tracing::warn!("the last alerts were not delivered in time");
        }
    }
}

fn spawn(name: &str, body: impl FnOnce() + Send + 'static) -> Result<(), Stop> {
    let thread = std::thread::Builder::new().name(name.to_owned()).spawn(body);
    thread.map(|_| ()).map_err(Stop::unavailable)
}

/// Looks at snapshots, and hands what is news to every way.
struct Judge {
    watch: Watch,
    list_every: Duration,
    ways: Vec<Arc<Way>>,
    /// What was told of each block of the snapshot, by the block's number.
    blocks: BTreeMap<u64, Outcome>,
    next_id: u64,
}

impl Judge {
    fn new(alerts: &Alerts, ways: Vec<Arc<Way>>, began: session::Tick) -> Judge {
        let silent = Duration::from_secs_f64(alerts.asked.silent_minutes * 60.0);
        let silent_micros = u64::try_from(silent.as_micros()).unwrap_or(u64::MAX);
        Judge {
            watch: Watch::new(silent_micros, alerts.pace_per_minute, began),
            list_every: (silent / 10).clamp(LOOK_EVERY, LIST_EVERY),
            ways,
            blocks: BTreeMap::new(),
            next_id: 1,
        }
    }

    fn serve(mut self, farm: &Weak<Running>, end: &Receiver<Instant>) {
        let mut listed = Instant::now();
        loop {
            let asked = match end.recv_timeout(LOOK_EVERY) {
                Ok(until) => Some(until),
                Err(RecvTimeoutError::Timeout) => None,
                // Nobody is left who could ask.
                Err(RecvTimeoutError::Disconnected) => Some(Instant::now()),
            };
            let Some(farm) = farm.upgrade() else { return };
            self.look_at_blocks(&farm.status());
            if let Some(until) = asked {
                self.ways.iter().for_each(|way| way.end(until));
                return;
            }
            if listed.elapsed() >= self.list_every {
                listed = Instant::now();
                self.look_at_workers(&farm);
            }
        }
    }

    fn look_at_blocks(&mut self, status: &Status) {
        let told = std::mem::take(&mut self.blocks);
        for block in &status.blocks {
            if told.get(&block.id) != Some(&block.outcome) {
                self.tell(News::Block(BlockNews::of(block)));
            }
            self.blocks.insert(block.id, block.outcome.clone());
        }
    }

    fn look_at_workers(&mut self, farm: &Running) {
        let uptime = farm.now().since(farm.started());
        if farm.history().state == HistoryState::Opening && uptime < HISTORY_LIMIT_MICROS {
            return;
        }
        // Of a coordinator that hangs nothing is known: silence is judged when it is back.
        let Ok(workers) = farm.list_workers(LIST_LIMIT) else { return };
        for news in self.watch.look(farm.now(), &workers) {
            self.tell(news);
        }
    }

    fn tell(&mut self, news: News) {
        let alert = Arc::new(Alert { id: self.next_id, at: unix(), news });
        self.next_id += 1;
        tracing::info!(kind = alert.news.kind(), "alert: {}", alert.news.text());
        self.ways.iter().for_each(|way| way.put(alert.clone()));
    }
}
