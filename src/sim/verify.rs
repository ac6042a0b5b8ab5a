//! What must hold when the storm is over: everything that miners, shards, ledger and node know is
//! one story, and a drain leaves nothing behind.

use farm::blocks::Declined;
use farm::messages::MinerState;
use session::ShareOutcome;

use crate::miner::Role;
use crate::world::World;

impl World {
    /// The storm is long over and the last share was answered: everything must agree.
    pub(crate) fn verify(&mut self) {
        self.verify_miners();
        self.verify_credit();
        self.verify_blocks();
        self.verify_status();
    }

    fn verify_miners(&mut self) {
        let (job, tip) = (self.checker.newest_job(), self.node.tips.len() - 1);
        for (index, miner) in self.miners.iter().enumerate() {
            let honest = !matches!(
                miner.role,
                Role::Babbler | Role::Flooder | Role::DeafFlooder | Role::Mute
            );
            if !honest {
                continue;
            }
            if miner.mining_since.is_none() || miner.newest_job != job || miner.tip != tip {
                let at = (miner.newest_job, miner.tip);
                let what = format!("miner {index} is at job and tip {at:?}, not {:?}", (job, tip));
                return self.checker.fail(format!("30 s after the storm {what}"));
            }
            if let Some((id, share)) = miner.outstanding.first_key_value() {
                let what = format!("miner {index} has no reply to request {id}: {share:?}");
                return self.checker.fail(what);
            }
        }
    }

    /// What miners have read, what shards have counted and what the ledger holds is one sum.
    fn verify_credit(&mut self) {
        let accepted = ShareOutcome::Accepted as usize;
        let counted: u64 =
            self.hosts.iter().map(|host| host.counters.shares[accepted].value()).sum();
        let difficulty: f64 =
            self.hosts.iter().map(|host| host.counters.difficulty_accepted.value()).sum();
        let totals = self.coordinator.status().totals;
        let read = self.checker.credited();
        let lost = self.checker.lost.len() as u64;
        if counted < read || counted > read + lost {
            let what = format!("shards credited {counted} shares, miners read {read}, lost {lost}");
            return self.checker.fail(what);
        }
        let lost = self.checker.unreported;
        if totals.accepted != counted - lost {
            let ledger = totals.accepted;
            let what = format!("the ledger holds {ledger} shares, the shards counted {counted}");
            return self.checker.fail(format!("{what}, the dead had not reported {lost}"));
        }
        let difficulty = difficulty - self.checker.unreported_difficulty;
        if (totals.difficulty_accepted - difficulty).abs() > 1e-9 * difficulty.max(1e-9) {
            let (ledger, what) = (totals.difficulty_accepted, "the ledger's credited work");
            self.checker.fail(format!("{what} is {ledger:e}, the shards' {difficulty:e}"));
        }
    }

    /// Every block that was credited or read has reached the node, but for those that came too
    /// late by the farm's own rules: it was credited on its tip and declined when the next one was
    /// there. And but for those that a shard took with it, because its lane was full when it died.
    /// One whose time the node's clock has not reached, after a jump, is with the farm until then.
    fn verify_blocks(&mut self) {
        let reached = |hash: &&[u8; 32]| {
            self.node.submitted.contains(*hash) || self.node.too_new.contains(*hash)
        };
        let missing = self.checker.blocks.iter().filter(|hash| !reached(hash)).count();
        let declined = self.coordinator.status().block_counts.declined;
        let late = [Declined::TooOld, Declined::TooManyLate];
        let late: u64 = late.iter().map(|reason| declined[*reason as usize]).sum();
        if missing as u64 > late + self.checker.blocks_buried {
            let found = self.checker.blocks.len();
            self.checker.fail(format!("{missing} of {found} blocks never reached a node"));
        }
    }

    /// Every template made a job, nobody has returned what was not its own, and everybody who mines
    /// is in the ledger once.
    fn verify_status(&mut self) {
        let status = self.coordinator.status();
        if let Some(error) = status.job_error.filter(|_| status.jobs_refused > 0) {
            return self.checker.fail(format!("a template gave no job: {error}"));
        }
        if status.space.faults > 0 {
            let faults = status.space.faults;
            return self.checker.fail(format!("{faults} returned ranges were not leased"));
        }
        let connections = self.hosts.iter().flat_map(|host| host.shard.connections());
        let mining = connections.filter(|held| held.state == MinerState::Mining).count() as u64;
        if status.connections != mining {
            let ledger = status.connections;
            self.checker.fail(format!("the ledger holds {ledger} connections, {mining} mine"));
        }
    }

    /// The drain is over: nobody is left, every prefix is back, and everybody has said so.
    pub(crate) fn verify_drained(&mut self) {
        let left: usize = self.hosts.iter().map(|host| host.shard.connections().count()).sum();
        let drained = self.hosts.iter().all(|host| host.drained);
        if left > 0 || !drained || !self.all_drained {
            self.checker.fail(format!("a drain of 6 s has left {left} connections"));
        }
    }
}
