//! Who is silent, judged from the workers' accounts. Time is an input: nothing here waits or reads
//! a clock.
//!
//! A worker is watched from its first share on, and is silent when
//! - it has had no connection for the configured time, or
//! - it has found no share for that time *and* for 25 times as long as it usually needs for one.
//!
//! So a lottery miner with a share a day is not silent for lack of shares, but it is when it has
//! gone. Whoever is silent waits a tenth of the time for others: if half of a rack is silent by
//! then, the rack is told of and not its workers; if half of the farm, the farm is and not its
//! racks. What is told of is told once, and once more when it is back.

use std::collections::BTreeMap;
use std::sync::Arc;

use farm::ledger::{OTHER, WorkerStatus};
use session::Tick;

use super::alert::{GroupNews, NAMES_MAX, News, WorkerNews};

/// How many times its usual interval a worker may find nothing. Shares come as they will (Poisson):
/// e^-25 per share lets a farm of 20,000, each with a share a minute, hear of a miner that is well
/// once in seven years.
const INTERVALS_SILENT: f64 = 25.0;
/// Shares before an interval is known well enough to judge by.
const SHARES_KNOWN: u64 = 16;
/// Shares over which the interval is averaged.
const SHARES_AVERAGED: f64 = 64.0;
/// Fewer silent workers than this are told of one by one.
const GROUP_SILENT_MIN: usize = 3;
/// Whoever is silent for so long, in µs, is taken for gone and counts for its rack no more: a rack
/// that was sold must not hide the others.
const FORGOTTEN_MICROS: u64 = 24 * 3_600_000_000;
/// Of the configured time, in which others may join: shares of one power cut end within it.
const HOLD_PART: u64 = 10;
/// What separates a rack from its machine in a name, beside an `x` between two digits.
const SEPARATORS: [char; 6] = ['.', '-', '_', ':', '/', '#'];

/// Judges silence.
#[derive(Debug)]
pub(crate) struct Watch {
    rule: Rule,
    workers: BTreeMap<Arc<str>, Worker>,
    racks: BTreeMap<Arc<str>, Group>,
    farm: Group,
}

/// What silence is.
#[derive(Clone, Copy, Debug)]
struct Rule {
    silent_micros: u64,
    /// Between two shares at the pace that is wished for, in µs: a worker that sends more has a
    /// difficulty that does not suit it yet.
    interval_min_micros: f64,
    /// Whose newest share is older was silent before this process began.
    since: Tick,
}

#[derive(Debug)]
struct Worker {
    rack: Option<Arc<str>>,
    accepted: u64,
    /// Shares that the mean interval is made of.
    known: u64,
    interval_micros: f64,
    last_share: Option<Tick>,
    connections: u32,
    /// Without a connection, and since when.
    gone: Option<Tick>,
    silence: Option<Silence>,
    told: bool,
}

#[derive(Clone, Copy, Debug)]
struct Silence {
    /// When it was noticed.
    noticed: Tick,
    /// When it began: with the last share, or with the last connection's end.
    began: Tick,
}

/// A rack, or the farm.
#[derive(Debug, Default)]
struct Group {
    silent: usize,
    of: usize,
    told: bool,
    /// Less than half is silent, and since when.
    calm: Option<Tick>,
}

impl Watch {
    /// Of a process that began then. `pace_per_minute` is the wished rate of shares.
    pub(crate) fn new(silent_micros: u64, pace_per_minute: f64, began: Tick) -> Watch {
        let rule = Rule {
            silent_micros,
            interval_min_micros: 60e6 / pace_per_minute,
            since: Tick(began.as_micros().saturating_sub(silent_micros)),
        };
        let (workers, racks) = (BTreeMap::new(), BTreeMap::new());
        Watch { rule, workers, racks, farm: Group::default() }
    }

    /// Looks at the accounts at this moment; gives what is to be told.
    pub(crate) fn look(&mut self, now: Tick, workers: &[WorkerStatus]) -> Vec<News> {
        // The account of many is no machine.
        for status in workers.iter().filter(|status| &*status.name != OTHER) {
            let worker = self.workers.entry(status.name.clone());
            worker.or_insert_with(|| Worker::new(status)).observe(status, now);
        }
        let mut news = self.judge(now);
        self.count(now);
        self.groups_back(now, &mut news);
        if !self.farm.told {
            self.silent_news(now, &mut news);
        }
        news
    }

    /// Whoever was told of and hashes again is told of at once.
    fn judge(&mut self, now: Tick) -> Vec<News> {
        let mut news = Vec::new();
        for (name, worker) in &mut self.workers {
            let began = worker.silent_since(&self.rule, now);
            match (began, worker.silence) {
                (Some(began), None) => worker.silence = Some(Silence { noticed: now, began }),
                (None, Some(silence)) => {
                    if std::mem::take(&mut worker.told) {
                        news.push(News::WorkerBack(worker.news(name, silence, now)));
                    }
                    worker.silence = None;
                }
                _ => {}
            }
        }
        news
    }

    fn count(&mut self, now: Tick) {
        for group in self.racks.values_mut().chain([&mut self.farm]) {
            (group.silent, group.of) = (0, 0);
        }
        for worker in self.workers.values().filter(|worker| worker.counts(&self.rule, now)) {
            if let Some(name) = &worker.rack {
                if !self.racks.contains_key(name) {
                    self.racks.insert(name.clone(), Group::default());
                }
                if let Some(rack) = self.racks.get_mut(name) {
                    rack.add(worker);
                }
            }
            self.farm.add(worker);
        }
    }

    /// A group is back when more than half of it has hashed for as long as others were waited for.
    fn groups_back(&mut self, now: Tick, news: &mut Vec<News>) {
        let hold = self.rule.hold_micros();
        let back: Vec<Arc<str>> = self
            .racks
            .iter_mut()
            .filter_map(|(name, rack)| rack.is_back(now, hold).then(|| name.clone()))
            .collect();
        for name in back {
            news.push(News::RackBack(self.group(Some(&name))));
            // The rest is named or counted there: each is told of when it is back.
            let rest =
                self.workers.values_mut().filter(|worker| worker.rack.as_ref() == Some(&name));
            rest.for_each(|worker| worker.told = worker.silence.is_some());
        }
        if self.farm.is_back(now, hold) {
            news.push(News::FarmBack(self.group(None)));
        }
    }

    /// Tells of the farm, else of racks, else of workers.
    fn silent_news(&mut self, now: Tick, news: &mut Vec<News>) {
        let hold = self.rule.hold_micros();
        let mut due: Vec<(Arc<str>, Silence)> = Vec::new();
        for (name, worker) in &self.workers {
            let waited = |silence: &Silence| now.since(silence.noticed) >= hold;
            let rack_told = worker.rack.as_ref().is_some_and(|rack| self.racks[rack].told);
            if let Some(silence) = worker.silence.filter(waited)
                && !worker.told
                && !rack_told
                && worker.counts(&self.rule, now)
            {
                due.push((name.clone(), silence));
            }
        }
        let one_rack = self.racks.values().any(|rack| rack.silent == self.farm.silent);
        if !due.is_empty() && self.farm.is_silent() && !one_rack {
            self.farm.tell();
            news.push(News::FarmSilent(self.group(None)));
            return;
        }
        for (name, silence) in due {
            let rack = self.workers[&name].rack.clone();
            match rack.and_then(|name| Some((self.racks.get_mut(&name)?, name))) {
                // Told of a moment ago, because of another of its workers.
                Some((rack, _)) if rack.told => {}
                Some((rack, rack_name)) if rack.is_silent() => {
                    rack.tell();
                    news.push(News::RackSilent(self.group(Some(&rack_name))));
                }
                _ => {
                    if let Some(worker) = self.workers.get_mut(&name) {
                        worker.told = true;
                        news.push(News::WorkerSilent(worker.news(&name, silence, now)));
                    }
                }
            }
        }
    }

    fn group(&self, rack: Option<&Arc<str>>) -> GroupNews {
        let group = rack.map_or(&self.farm, |rack| &self.racks[rack]);
        let silent = self.workers.iter().filter(|(_, worker)| {
            worker.silence.is_some() && (rack.is_none() || worker.rack.as_ref() == rack)
        });
        let workers = silent.take(NAMES_MAX).map(|(name, _)| name.clone()).collect();
        GroupNews { rack: rack.cloned(), silent: group.silent, of: group.of, workers }
    }
}

impl Rule {
    fn hold_micros(&self) -> u64 {
        self.silent_micros / HOLD_PART
    }
}

impl Worker {
    fn new(status: &WorkerStatus) -> Worker {
        Worker {
            rack: rack_of(&status.name).map(Arc::from),
            accepted: status.totals.accepted,
            known: 0,
            interval_micros: 0.0,
            last_share: status.last_share,
            connections: status.connections,
            gone: None,
            silence: None,
            told: false,
        }
    }

    fn observe(&mut self, status: &WorkerStatus, now: Tick) {
        let shares = status.totals.accepted.saturating_sub(self.accepted);
        let before = std::mem::replace(&mut self.last_share, status.last_share);
        if let (1.., Some(before), Some(last)) = (shares, before, status.last_share)
            && self.silence.is_none()
        {
            // A silence between two shares says nothing about how long one usually takes.
            self.learn(shares, last.since(before));
        }
        self.accepted = status.totals.accepted;
        self.connections = status.connections;
        self.gone = match status.connections {
            0 => self.gone.or(Some(now)),
            _ => None,
        };
    }

    fn learn(&mut self, shares: u64, micros: u64) {
        self.known += shares;
        let weight = (shares as f64 / (self.known as f64).min(SHARES_AVERAGED)).min(1.0);
        self.interval_micros += weight * (micros as f64 / shares as f64 - self.interval_micros);
    }

    /// Silent, and since when.
    fn silent_since(&self, rule: &Rule, now: Tick) -> Option<Tick> {
        let last = self.last_share.filter(|last| *last >= rule.since)?;
        if let Some(gone) = self.gone.filter(|gone| now.since(*gone) >= rule.silent_micros) {
            return Some(gone.max(last));
        }
        if self.known < SHARES_KNOWN {
            return None;
        }
        let usual = self.interval_micros.max(rule.interval_min_micros);
        let limit = (INTERVALS_SILENT * usual).max(rule.silent_micros as f64);
        (now.since(last) as f64 >= limit).then_some(last)
    }

    /// It is watched, and not taken for gone.
    fn counts(&self, rule: &Rule, now: Tick) -> bool {
        let watched = self.last_share.is_some_and(|last| last >= rule.since);
        let forgotten = |silence: Silence| now.since(silence.noticed) >= FORGOTTEN_MICROS;
        watched && !self.silence.is_some_and(forgotten)
    }

    fn news(&self, name: &Arc<str>, silence: Silence, now: Tick) -> WorkerNews {
        WorkerNews {
            worker: name.clone(),
            silent_seconds: now.since(silence.began) / 1_000_000,
            connections: self.connections,
        }
    }
}

impl Group {
    fn add(&mut self, worker: &Worker) {
        self.of += 1;
        self.silent += usize::from(worker.silence.is_some());
    }

    fn is_silent(&self) -> bool {
        self.silent >= GROUP_SILENT_MIN && self.silent * 2 >= self.of
    }

    fn tell(&mut self) {
        (self.told, self.calm) = (true, None);
    }

    /// Told of, and calm for so long; it is then told of no more.
    fn is_back(&mut self, now: Tick, hold_micros: u64) -> bool {
        if !self.told || self.silent * 2 >= self.of {
            self.calm = None;
            return false;
        }
        let back = now.since(*self.calm.get_or_insert(now)) >= hold_micros;
        self.told = !back;
        back
    }
}

/// The rack of a worker: its name up to the last separator. Farms name machines by their place
/// (`farm.r07-12`, `farm.rack7x12`) or by their address (`farm.10x0x7x12`).
fn rack_of(name: &str) -> Option<&str> {
    let bytes = name.as_bytes();
    let digit = |at: usize| bytes.get(at).is_some_and(u8::is_ascii_digit);
    let separates = |at: usize, sign: char| {
        let between = sign == 'x' && at > 0 && digit(at - 1) && digit(at + 1);
        SEPARATORS.contains(&sign) || between
    };
    let (at, _) = name.char_indices().rfind(|(at, sign)| separates(*at, *sign))?;
    (at > 0 && at + 1 < name.len()).then(|| &name[..at])
}

#[cfg(test)]
#[path = "watch_tests.rs"]
mod tests;
