//! What is told: a block, or somebody who has gone silent or is back. The JSON of an alert is made
//! here and nowhere else; `docs/alerts.md` describes it, and a test holds the two together.

use std::sync::Arc;

use farm::blocks::{BlockRecord, Outcome};
use serde_json::{Map, Value, json};

/// Names that one alert lists. 16 of the longest, each byte escaped, are 10 KB: an alert fits into
/// a pipe's buffer whatever miners are called.
pub(super) const NAMES_MAX: usize = 16;
/// Rises when a field changes its meaning.
const VERSION: u32 = 1;

/// One thing that somebody should know.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Alert {
    /// Rises with each alert of this process, so that a receiver sees what it lacks.
    pub(crate) id: u64,
    /// Seconds since 1970.
    pub(crate) at: i64,
    pub(crate) news: News,
}

/// What happened.
#[derive(Clone, Debug, PartialEq)]
pub(crate) enum News {
    Block(BlockNews),
    WorkerSilent(WorkerNews),
    WorkerBack(WorkerNews),
    RackSilent(GroupNews),
    RackBack(GroupNews),
    FarmSilent(GroupNews),
    FarmBack(GroupNews),
}

/// A block, and what the nodes say of it.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct BlockNews {
    pub(crate) hash: String,
    pub(crate) height: u32,
    pub(crate) worker: Arc<str>,
    pub(crate) outcome: &'static str,
    pub(crate) reason: Option<Arc<str>>,
    /// An earlier process found it.
    pub(crate) restored: bool,
}

/// A worker, and how long it found nothing.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct WorkerNews {
    pub(crate) worker: Arc<str>,
    pub(crate) silent_seconds: u64,
    pub(crate) connections: u32,
}

/// A rack, or all of the farm where it has no name.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct GroupNews {
    pub(crate) rack: Option<Arc<str>>,
    /// Of its workers.
    pub(crate) silent: usize,
    pub(crate) of: usize,
    /// The first of the silent ones, by name.
    pub(crate) workers: Vec<Arc<str>>,
}

impl BlockNews {
    pub(crate) fn of(block: &BlockRecord) -> BlockNews {
        let reason = match &block.outcome {
            Outcome::Refused(reason) => Some(Arc::from(&**reason)),
            _ => None,
        };
        BlockNews {
            hash: block.facts.hash.0.iter().rev().map(|byte| format!("{byte:02x}")).collect(),
            height: block.facts.height,
            worker: Arc::from(&*block.facts.worker),
            outcome: block.outcome.name(),
            reason,
            restored: block.restored,
        }
    }
}

impl News {
    /// The kind as the JSON's word.
    pub(crate) fn kind(&self) -> &'static str {
        match self {
            News::Block(_) => "block",
            News::WorkerSilent(_) => "worker_silent",
            News::WorkerBack(_) => "worker_back",
            News::RackSilent(_) => "rack_silent",
            News::RackBack(_) => "rack_back",
            News::FarmSilent(_) => "farm_silent",
            News::FarmBack(_) => "farm_back",
        }
    }

    /// Blocks are money: they have room of their own, and go first.
    pub(crate) fn is_block(&self) -> bool {
        matches!(self, News::Block(_))
    }

    /// The same in a sentence for people.
    pub(crate) fn text(&self) -> String {
        match self {
            News::Block(block) => block.text(),
            News::WorkerSilent(WorkerNews { worker, silent_seconds, connections: 0 }) => {
                format!("{worker} is silent for {}: it is gone", minutes(*silent_seconds))
            }
            News::WorkerSilent(WorkerNews { worker, silent_seconds, .. }) => {
                let says = "it is connected and finds no share";
                format!("{worker} is silent for {}: {says}", minutes(*silent_seconds))
            }
            News::WorkerBack(WorkerNews { worker, silent_seconds, .. }) => {
                format!("{worker} is back after {}", minutes(*silent_seconds))
            }
            News::RackSilent(group) => format!("{} is silent: {}", group.name(), group.count()),
            News::FarmSilent(group) => format!("the farm is silent: {}", group.count()),
            News::RackBack(group) => format!("{} is back: {}", group.name(), group.rest()),
            News::FarmBack(group) => format!("the farm is back: {}", group.rest()),
        }
    }

    fn fields(&self) -> Value {
        match self {
            News::Block(BlockNews { hash, height, worker, outcome, reason, restored }) => json!({
                "hash": hash, "height": height, "worker": &**worker, "outcome": outcome,
                "reason": reason.as_deref(), "restored": restored,
            }),
            News::WorkerSilent(news) | News::WorkerBack(news) => json!({
                "worker": &*news.worker, "silent_seconds": news.silent_seconds,
                "connections": news.connections,
            }),
            News::RackSilent(group)
            | News::RackBack(group)
            | News::FarmSilent(group)
            | News::FarmBack(group) => json!({
                "rack": group.rack.as_deref(), "silent": group.silent, "of": group.of,
                "workers": group.workers.iter().map(|name| &**name).collect::<Vec<_>>(),
            }),
        }
    }
}

impl BlockNews {
    fn text(&self) -> String {
        let BlockNews { height, worker, hash, .. } = self;
        let what = match (self.outcome, &self.reason) {
            ("submitted", _) if self.restored => "is sent again".to_owned(),
            ("submitted", _) => "was found".to_owned(),
            ("accepted", _) => "is accepted".to_owned(),
            ("duplicate", _) => "was known to the node already".to_owned(),
            ("stale", _) => "came too late".to_owned(),
            (outcome, Some(reason)) => format!("is {outcome}: {reason}"),
            (outcome, None) => format!("is {outcome}"),
        };
        format!("block {height} of {worker} {what} ({hash})")
    }
}

impl GroupNews {
    fn name(&self) -> String {
        self.rack.as_ref().map_or("the farm".to_owned(), |rack| format!("rack {rack}"))
    }

    fn count(&self) -> String {
        format!("{} of its {} workers", self.silent, self.of)
    }

    fn rest(&self) -> String {
        match self.silent {
            0 => format!("all of its {} workers", self.of),
            silent => format!("{silent} of its {} workers are still silent", self.of),
        }
    }
}

fn minutes(seconds: u64) -> String {
    match seconds {
        0..120 => format!("{seconds} s"),
        120..7_200 => format!("{} min", seconds / 60),
        _ => format!("{} h", seconds / 3_600),
    }
}

impl Alert {
    /// The whole alert as one line of JSON. `dropped` is how many others were dropped since the
    /// last one that was delivered the same way.
    pub(crate) fn body(&self, dropped: u64) -> String {
        let mut body = Map::new();
        body.insert("version".to_owned(), json!(VERSION));
        body.insert("id".to_owned(), json!(self.id));
        body.insert("at".to_owned(), json!(self.at));
        body.insert("kind".to_owned(), json!(self.news.kind()));
        body.insert("text".to_owned(), json!(self.news.text()));
        body.insert("dropped".to_owned(), json!(dropped));
        if let Value::Object(fields) = self.news.fields() {
            body.extend(fields);
        }
        Value::Object(body).to_string()
    }
}

#[cfg(test)]
pub(super) mod tests {
    use super::*;

    pub(crate) fn worker(name: &str) -> WorkerNews {
        WorkerNews { worker: name.into(), silent_seconds: 660, connections: 0 }
    }

    fn group(silent: usize) -> GroupNews {
        let workers = vec!["farm.r1x1".into(), "farm.r1x2".into()];
        GroupNews { rack: Some("farm.r1".into()), silent, of: 40, workers }
    }

    fn every_kind() -> [News; 7] {
        let block = BlockNews::of(&crate::samples::block());
        [
            News::Block(block),
            News::WorkerSilent(worker("farm.a")),
            News::WorkerBack(WorkerNews { silent_seconds: 7_300, ..worker("farm.a") }),
            News::RackSilent(group(38)),
            News::RackBack(group(2)),
            News::FarmSilent(GroupNews { rack: None, ..group(39) }),
            News::FarmBack(GroupNews { rack: None, ..group(0) }),
        ]
    }

    #[test]
    fn a_sentence_says_what_happened() {
        let said = every_kind().map(|news| news.text());
        let hash = "ab".repeat(32);
        assert_eq!(said[0], format!("block 9 of farm.a is accepted ({hash})"));
        assert_eq!(said[1], "farm.a is silent for 11 min: it is gone");
        assert_eq!(said[2], "farm.a is back after 2 h");
        assert_eq!(said[3], "rack farm.r1 is silent: 38 of its 40 workers");
        assert_eq!(said[4], "rack farm.r1 is back: 2 of its 40 workers are still silent");
        assert_eq!(said[5], "the farm is silent: 39 of its 40 workers");
        assert_eq!(said[6], "the farm is back: all of its 40 workers");
    }

    #[test]
    fn the_page_describes_every_field_of_every_kind() {
        let page = include_str!("../../../docs/alerts.md");
        for news in every_kind() {
            let kind = format!("`{}`", news.kind());
            assert!(page.contains(&kind), "docs/alerts.md lacks {kind}");
            let body = Alert { id: 1, at: 2, news }.body(0);
            let body: Map<String, Value> = serde_json::from_str(&body).expect("JSON");
            for field in body.keys() {
                let quoted = format!("`{field}`");
                assert!(page.contains(&quoted), "docs/alerts.md lacks {quoted} of {kind}");
            }
        }
    }

    #[test]
    fn hostile_names_stay_json_and_fit_into_a_pipe() {
        let name: Arc<str> = "\u{1}\"\\\n".repeat(24).into();
        let workers = vec![name; NAMES_MAX];
        let news = News::RackSilent(GroupNews { workers, ..group(38) });
        let body = Alert { id: u64::MAX, at: i64::MAX, news }.body(u64::MAX);
        assert!(!body.contains('\n'), "one line");
        assert!(body.len() < 65_536, "{} bytes", body.len());
        let read: Value = serde_json::from_str(&body).expect("JSON");
        assert_eq!(read["workers"][15], "\u{1}\"\\\n".repeat(24));
    }
}
