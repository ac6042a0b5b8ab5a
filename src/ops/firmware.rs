//! Warns of firmware that this farm's work does not suit, once per class and reason: what a miner
//! cannot hash right it hashes wrong without a word, and all its shares are refused. And names the
//! machine whose lines break the protocol, at most once a look.
//!
//! The class is what miners say they are; whoever lies gets a warning in vain.

use std::net::IpAddr;

use farm::status::JobStatus;
use session::Class;
use shard::counters::CloseReason;

use crate::view::ShardView;

/// What has been told already.
#[derive(Debug, Default)]
pub(crate) struct FirmwareLog {
    coinbase: [bool; Class::ALL.len()],
    extranonce2: [bool; Class::ALL.len()],
    /// Connections of each shard that were closed for a broken line, as far as they were told.
    malformed: Vec<u64>,
}

impl FirmwareLog {
    /// Tells what is new, with the newest job and what miners may roll.
    pub(crate) fn tell(
        &mut self,
        shards: &[ShardView],
        job: Option<&JobStatus>,
        extranonce2_size: u8,
    ) {
        let subscribed = |class: Class| {
            shards.iter().any(|shard| shard.counters.subscribed[class as usize].value() > 0)
        };
        for warning in self.warnings(subscribed, job, extranonce2_size) {
            tracing::warn!("{warning}");
        }
        for (peer, warning) in self.broken_lines(shards) {
            tracing::warn!(%peer, "{warning}");
        }
    }

    fn broken_lines(&mut self, shards: &[ShardView]) -> Vec<(IpAddr, String)> {
        self.malformed.resize(shards.len(), 0);
        let mut warnings = Vec::new();
        for (told, ShardView { counters, .. }) in self.malformed.iter_mut().zip(shards) {
            let count = counters.closed[CloseReason::Malformed as usize].value();
            let more = count.saturating_sub(core::mem::replace(told, count));
            if let Some(peer) = counters.malformed_peer.value().filter(|_| more > 0) {
                let warning = format!(
                    "{peer} sent a line that is no message and was closed (it is the newest of \
                     {more} such): if it is a miner, look for a quote or backslash in its worker \
                     name or password"
                );
                warnings.push((peer, warning));
            }
        }
        warnings
    }

    fn warnings(
        &mut self,
        subscribed: impl Fn(Class) -> bool,
        job: Option<&JobStatus>,
        extranonce2_size: u8,
    ) -> Vec<String> {
        let mut warnings = Vec::new();
        for class in Class::ALL.into_iter().filter(|class| subscribed(*class)) {
            let (told, name) = (&mut self.coinbase[class as usize], class.name());
            if let Some(job) = job
                && !job.suits(class)
                && !core::mem::replace(told, true)
            {
                let limit = class.coinbase_limit();
                let half = limit.half_bytes.map(|half| format!(", no half above {half}"));
                warnings.push(format!(
                    "a miner of class {name} has come, whose firmware is known to hash coinbases \
                     of up to {} bytes{}; ours has {}: look for refused shares, and shorten the \
                     payout script or the signature",
                    limit.bytes,
                    half.unwrap_or_default(),
                    job.coinbase_bytes(),
                ));
            }
            let (told, least) =
                (&mut self.extranonce2[class as usize], class.extranonce2_size_min());
            if extranonce2_size < least && !core::mem::replace(told, true) {
                warnings.push(format!(
                    "a miner of class {name} has come, whose firmware needs an extranonce2 of \
                     {least} bytes: set [listen] extranonce2_size = {least} or more"
                ));
            }
        }
        warnings
    }
}

#[cfg(test)]
mod tests {
    use session::Tick;

    use super::*;
    use crate::samples;

    fn job(coinbase_bytes: usize) -> JobStatus {
        JobStatus { coinbase_parts: [100, 8, coinbase_bytes - 108], ..samples::job(Tick(0)) }
    }

    #[test]
    fn f17_a_class_is_warned_of_once_and_only_if_it_is_there() {
        let mut log = FirmwareLog::default();
        let nobody = |_: Class| false;
        let both = |class: Class| matches!(class, Class::NiceHash | Class::Vnish);
        assert_eq!(log.warnings(nobody, Some(&job(600)), 4), [""; 0]);
        assert_eq!(log.warnings(both, None, 4), [""; 0], "no job yet");
        assert_eq!(log.warnings(both, Some(&job(500)), 4), [""; 0], "it suits both");
        let warnings = log.warnings(both, Some(&job(501)), 4);
        assert_eq!(warnings.len(), 1, "{warnings:?}");
        assert!(warnings[0].contains("class nicehash"), "{warnings:?}");
        assert!(warnings[0].contains("up to 500 bytes; ours has 501"), "{warnings:?}");
        assert_eq!(log.warnings(both, Some(&job(9_000)), 4), [""; 0], "once");
        let warnings = log.warnings(both, Some(&job(17_000)), 4);
        assert!(warnings.len() == 1 && warnings[0].contains("class vnish"), "{warnings:?}");
    }

    #[test]
    fn a12_the_machine_that_breaks_its_lines_is_named() {
        let counters = std::sync::Arc::<shard::Counters>::default();
        let shards = [ShardView::new(0, &std::sync::Arc::default()), ShardView::new(1, &counters)];
        let mut log = FirmwareLog::default();
        assert_eq!(log.broken_lines(&shards), []);
        counters.closed[CloseReason::Malformed as usize].add(3);
        counters.malformed_peer.set("10.0.0.7".parse().expect("an address"));
        let warnings = log.broken_lines(&shards);
        assert_eq!(warnings.len(), 1);
        assert!(
            warnings[0].1.starts_with("10.0.0.7 sent a line that is no message"),
            "{warnings:?}"
        );
        assert!(warnings[0].1.contains("newest of 3 such"), "{warnings:?}");
        assert_eq!(log.broken_lines(&shards), [], "told once");
    }

    #[test]
    fn a_listener_with_too_little_to_roll_is_told_the_key() {
        let mut log = FirmwareLog::default();
        let whatsminer = |class: Class| class == Class::Whatsminer;
        assert_eq!(log.warnings(whatsminer, Some(&job(200)), 3), [""; 0]);
        let warnings = log.warnings(whatsminer, Some(&job(200)), 2);
        assert_eq!(warnings.len(), 1);
        assert!(warnings[0].contains("[listen] extranonce2_size = 3"), "{warnings:?}");
        assert_eq!(log.warnings(whatsminer, Some(&job(200)), 2), [""; 0], "once");
    }
}
