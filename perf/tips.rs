//! How a new tip reaches the miners, as the load generator sees it: the first job on it, which may
//! come from its header alone, and the first job of the node's full template.

use pow::Hash256;
use serde::{Deserialize, Serialize};
use wire::sv1::server::{ServerMessage, parse_server};

/// When a job was read, by [`monotonic_ns`](crate::process::monotonic_ns).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Arrival {
    /// By the first miner that had it.
    pub first_ns: u64,
    /// By the last one.
    pub last_ns: u64,
}

/// One tip that has reached every miner.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct TipReport {
    /// The tip, as people and bitcoind write a hash.
    pub prev_hash: String,
    /// Each miner's first job on it, of whatever kind.
    pub first_job: Arrival,
    /// Miners whose first job on it was coinbase-only.
    pub coinbase_only: usize,
    /// Miners whose first job on it did not tell them to drop earlier ones.
    pub unclean: usize,
    /// Each miner's first job on it with transactions.
    pub full_job: Arrival,
}

/// Follows the newest tip through all miners.
#[derive(Debug)]
pub struct TipWatch {
    miners: Vec<Stage>,
    /// Miners that have the full job.
    complete: usize,
    /// The newest job line, and what it says: a server sends many miners the same bytes, and to
    /// compare them is cheap.
    line: Vec<u8>,
    job: Option<Job>,
    report: TipReport,
}

#[derive(Clone, Copy, Debug)]
struct Job {
    prev_hash: Hash256,
    coinbase_only: bool,
    clean: bool,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Stage {
    ExpectJob,
    ExpectFullJob,
    Complete,
}

impl TipWatch {
    /// Nobody has heard anything.
    #[must_use]
    pub fn new(miners: usize) -> TipWatch {
        TipWatch {
            miners: vec![Stage::ExpectJob; miners],
            complete: 0,
            line: Vec::new(),
            job: None,
            report: TipReport::default(),
        }
    }

    /// A miner read a job announcement.
    pub fn hear(&mut self, miner: usize, line: &[u8], now_ns: u64) {
        if self.line != line {
            self.take_line(line);
        }
        let Some(job) = self.job else { return };
        let stage = &mut self.miners[miner];
        if *stage == Stage::ExpectJob {
            *stage = Stage::ExpectFullJob;
            self.report.coinbase_only += usize::from(job.coinbase_only);
            self.report.unclean += usize::from(!job.clean);
            self.report.first_job.extend_to(now_ns);
        }
        if *stage == Stage::ExpectFullJob && !job.coinbase_only {
            *stage = Stage::Complete;
            self.complete += 1;
            self.report.full_job.extend_to(now_ns);
        }
    }

    fn take_line(&mut self, line: &[u8]) {
        line.clone_into(&mut self.line);
        self.job = match parse_server(line) {
            Ok(ServerMessage::Notify(job)) => Some(Job {
                prev_hash: job.prev_hash,
                coinbase_only: job.merkle_path.is_empty(),
                clean: job.clean,
            }),
            _ => None,
        };
        let Some(prev_hash) = self.job.map(|job| job.prev_hash.to_string()) else { return };
        if prev_hash != self.report.prev_hash {
            self.miners.fill(Stage::ExpectJob);
            self.complete = 0;
            self.report = TipReport { prev_hash, ..TipReport::default() };
        }
    }

    /// The tip, once every miner has the full job on it.
    pub fn take(&mut self) -> Option<TipReport> {
        let all = self.complete == self.miners.len();
        // What follows on this tip is of no interest: nobody is waited for any more.
        all.then(|| {
            self.complete = 0;
            self.report.clone()
        })
    }
}

impl Arrival {
    fn extend_to(&mut self, now_ns: u64) {
        if self.first_ns == 0 {
            self.first_ns = now_ns;
        }
        self.last_ns = now_ns;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const EMPTY: &str = "";

    fn line(tip: char, branch: &str, clean: bool) -> Vec<u8> {
        let prev_hash = tip.to_string().repeat(64);
        let job = format!(
            r#"["7","{prev_hash}","01","02",[{branch}],"20000000","1d00ffff","65000000",{clean}]"#
        );
        format!(r#"{{"id":null,"method":"mining.notify","params":{job}}}"#).into_bytes()
    }

    fn full(tip: char, clean: bool) -> Vec<u8> {
        line(tip, &format!("\"{}\"", "03".repeat(32)), clean)
    }

    #[test]
    fn a_tip_is_told_once_when_the_last_miner_has_the_full_job() {
        let mut watch = TipWatch::new(2);
        let (empty, full) = (line('a', EMPTY, true), full('a', true));
        watch.hear(0, &empty, 10);
        watch.hear(0, &full, 30);
        // Later renderings of the same job change nothing.
        watch.hear(0, &full, 35);
        assert_eq!(watch.take(), None);
        // The slow one never saw the first.
        watch.hear(1, &full, 40);
        let told = TipReport {
            prev_hash: "a".repeat(64),
            first_job: Arrival { first_ns: 10, last_ns: 40 },
            coinbase_only: 1,
            unclean: 0,
            full_job: Arrival { first_ns: 30, last_ns: 40 },
        };
        assert_eq!(watch.take(), Some(told));
        watch.hear(1, &full, 45);
        assert_eq!(watch.take(), None);
    }

    #[test]
    fn a_tip_that_is_overtaken_is_not_told() {
        let mut watch = TipWatch::new(2);
        watch.hear(0, &full('a', true), 10);
        watch.hear(0, &full('b', false), 20);
        watch.hear(1, &full('b', true), 21);
        let told = watch.take().expect("all have it");
        assert_eq!((told.prev_hash, told.unclean), ("b".repeat(64), 1));
        assert_eq!(told.first_job, Arrival { first_ns: 20, last_ns: 21 });
    }
}
