//! The judgement on a demonstration: was every share accepted that should have been, did the
//! node's own check take a block, and did every miner have its share.

use std::collections::BTreeMap;

use miner::Stats;
use serde_json::json;

use super::Plan;
use super::progress::Facts;

/// The last figures, and what was wrong with them.
pub(super) struct Outcome {
    stats: Stats,
    blocks: u64,
    height: u32,
    reasons: Vec<String>,
}

/// Judges the figures. `refused` are the node's reasons against blocks of ours.
pub(super) fn judge(
    stats: Stats,
    facts: &Facts,
    refused: BTreeMap<String, u64>,
    drained: bool,
) -> Outcome {
    let mut reasons = Vec::new();
    if stats.rejected_unexpected() > 0 {
        let codes: Vec<String> =
            stats.rejected.iter().map(|(code, count)| format!("{count} × {code}")).collect();
        reasons.push(format!(
            "{} shares were rejected that should not have been (by code: {})",
            stats.rejected_unexpected(),
            codes.join(", ")
        ));
    }
    if stats.unanswered > 0 {
        reasons.push(format!("{} shares were never answered", stats.unanswered));
    }
    if stats.without_share() > 0 {
        reasons.push(format!("{} miners have no accepted share", stats.without_share()));
    }
    if facts.blocks == 0 {
        reasons.push("the node accepted no block".to_owned());
    }
    for (reason, count) in refused {
        reasons.push(format!("the node refused {count} blocks: {reason}"));
    }
    if !drained {
        reasons.push("the farm did not drain in time".to_owned());
    }
    Outcome { stats, blocks: facts.blocks, height: facts.height, reasons }
}

impl Outcome {
    /// Why it failed; empty if it did not.
    pub(super) fn reasons(&self) -> &[String] {
        &self.reasons
    }

    /// The summary for people; its last line is part of the contract.
    pub(super) fn lines(&self, plan: &Plan) -> Vec<String> {
        let Outcome { stats, blocks, height, .. } = self;
        let each = &stats.accepted_by_connection;
        vec![
            String::new(),
            format!(
                "{} miners hashed {:.1} million times; each has {} to {} accepted shares",
                plan.miners,
                stats.hashes as f64 / 1e6,
                each.iter().min().unwrap_or(&0),
                each.iter().max().unwrap_or(&0),
            ),
            format!(
                "{} of {} rejects were expected (a new tip was on its way); height is {height}",
                stats.rejected_expected,
                stats.rejected_total(),
            ),
            format!(
                "demo: accepted={} rejected={} blocks={blocks} p50_us={} p99_us={}",
                stats.accepted,
                stats.rejected_total(),
                stats.p50_us,
                stats.p99_us,
            ),
        ]
    }

    /// The same for programs, as one line.
    pub(super) fn json(&self, plan: &Plan) -> String {
        let stats = &self.stats;
        json!({
            "accepted": stats.accepted,
            "rejected": stats.rejected_total(),
            "rejected_expected": stats.rejected_expected,
            "unanswered": stats.unanswered,
            "blocks": self.blocks,
            "height": self.height,
            "p50_us": stats.p50_us,
            "p99_us": stats.p99_us,
            "miners": plan.miners,
            "miners_without_share": stats.without_share(),
            "hashes": stats.hashes,
            "share_difficulty": plan.share_difficulty,
            "block_difficulty": plan.block_difficulty,
            "passed": self.reasons.is_empty(),
            "reasons": self.reasons,
        })
        .to_string()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn good() -> (Stats, Facts) {
        let stats = Stats {
            accepted: 3,
            accepted_by_connection: vec![1, 2],
            rejected: BTreeMap::from([(21, 1)]),
            rejected_expected: 1,
            p50_us: 40,
            p99_us: 90,
            ..Stats::default()
        };
        let facts = Facts {
            connected: 2,
            accepted: 3,
            rejected: 1,
            blocks: 1,
            height: 201,
            p50_us: 40,
            p99_us: 90,
        };
        (stats, facts)
    }

    #[test]
    fn the_last_line_is_as_promised() {
        let (stats, facts) = good();
        let outcome = judge(stats, &facts, BTreeMap::new(), true);
        assert!(outcome.reasons().is_empty(), "{:?}", outcome.reasons());
        let lines = outcome.lines(&Plan::of(2, 30, 2, 1e7));
        let wanted = "demo: accepted=3 rejected=1 blocks=1 p50_us=40 p99_us=90";
        assert_eq!(lines.last().map(String::as_str), Some(wanted));
    }

    #[test]
    fn each_broken_expectation_is_named() {
        let refused = BTreeMap::from([("bad-txnmrklroot".to_owned(), 2)]);
        type Spoil = fn(&mut Stats, &mut Facts);
        let rows: [(&str, Spoil); 4] = [
            ("1 shares were rejected", |stats, _| stats.rejected_expected = 0),
            ("2 shares were never answered", |stats, _| stats.unanswered = 2),
            ("1 miners have no accepted share", |stats, _| stats.accepted_by_connection[0] = 0),
            ("the node accepted no block", |_, facts| facts.blocks = 0),
        ];
        for (wanted, spoil) in rows {
            let (mut stats, mut facts) = good();
            spoil(&mut stats, &mut facts);
            let outcome = judge(stats, &facts, BTreeMap::new(), true);
            assert_eq!(outcome.reasons().len(), 1, "{:?}", outcome.reasons());
            assert!(outcome.reasons()[0].starts_with(wanted), "{:?}", outcome.reasons());
        }
        let (stats, facts) = good();
        let outcome = judge(stats, &facts, refused, false);
        assert_eq!(outcome.reasons().len(), 2, "{:?}", outcome.reasons());
        assert!(outcome.reasons()[0].contains("bad-txnmrklroot"));
    }
}
