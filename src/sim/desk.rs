//! The coordinator's place: what it hears from lanes and node, and what becomes of what it says.

use std::sync::Arc;

use farm::blocks::{SettledBlock, SubmitBlock, SubmitResult};
use farm::extranonce::ShardIndex;
use farm::jobs::JobSettings;
use farm::messages::ToShard;
use farm::{Input, Output, WorkHealth};
use pow::Template;
use session::Tick;

use crate::checker::MadeJob;
use crate::lane::News;
use crate::node::Move;
use crate::world::{EXTRANONCE2_SIZE, Event, SECOND, World};

const EXTRANONCE1_SIZE: u8 = 4;
/// How long the world waits before it offers a message to a full lane again.
const LANE_RETRY_US: u64 = 1_000;
/// How long after a release its last connections may still be closing: those that do not read.
const RELEASE_OVER_US: u64 = 20 * SECOND;

impl World {
    /// Messages that have arrived at the coordinator.
    pub(crate) fn coordinate(&mut self) {
        let first = self.random.below(self.hosts.len() as u64) as usize;
        for turn in 0..self.hosts.len() {
            let index = (first + turn) % self.hosts.len();
            self.hosts[index].lane.now = self.now;
            while let Some(news) = self.hosts[index].lane.take() {
                let shard = ShardIndex(index as u16);
                self.tell_coordinator(match news {
                    News::Began => Input::ShardStarted(shard),
                    News::Message(message) => Input::FromShard(shard, message),
                });
            }
        }
    }

    pub(crate) fn tell_coordinator(&mut self, input: Input) {
        self.coordinator.handle(Tick(self.now), input);
        while let Some(output) = self.coordinator.poll() {
            match output {
                Output::ToShard(shard, message) => self.send_to_shard(shard, message),
                Output::SubmitBlock(block) => self.submit(&block),
                Output::BlockSettled(block) => self.settled(&block),
                Output::Drained => self.all_drained = true,
                Output::Released => {
                    self.hosts.iter_mut().for_each(|host| host.ring.is_releasing = true);
                }
                Output::Serving => self.after(RELEASE_OVER_US, Event::ReleaseOver),
                Output::Miners { .. } | Output::MinersBusy { .. } | Output::StatusChanged => {}
            }
        }
    }

    fn send_to_shard(&mut self, shard: ShardIndex, message: ToShard) {
        let index = usize::from(shard.0);
        let lane = &mut self.hosts[index].lane;
        lane.now = self.now;
        match lane.offer(message) {
            Ok(at) => self.wake(index, at),
            Err(message) => {
                self.coordinator.unsent(shard, message);
                if self.retry_at.is_none_or(|at| at <= self.now) {
                    self.retry_at = Some(self.now + LANE_RETRY_US);
                    self.after(LANE_RETRY_US, Event::CoordinatorTimer);
                }
            }
        }
    }

    /// The node gives no more work, and the farm is told so.
    pub(crate) fn lose_node(&mut self) {
        self.node_is_down = true;
        self.checker.newest_before_outage = self.checker.newest_job();
        self.tell_coordinator(Input::Work(WorkHealth::Down));
    }

    /// The node is back, on another tip: first its template, then the word that it is well.
    pub(crate) fn regain_node(&mut self) {
        self.node_is_down = false;
        self.checker.node_back_at = Some(self.now);
        self.new_tip(true);
        self.tell_coordinator(Input::Work(WorkHealth::Up));
        for block in std::mem::take(&mut self.blocks_waiting) {
            self.submit(&block);
        }
    }

    fn submit(&mut self, block: &SubmitBlock) {
        if self.node_is_down {
            return self.blocks_waiting.push(block.clone());
        }
        // The backup is the first node's peer: what one has, the other knows. It is dead more often
        // than not, and no block may wait for it.
        let silence = || SubmitResult::Unknown("silence".into());
        if block.node > 0 {
            let dead = !self.healed && self.backup_random.happens(600);
            let result = if dead { Ok(silence()) } else { self.node.judge(self.now, block) };
            let micros = self.backup_random.within(60_000, 90_000);
            return match result {
                Ok(result) => self.after(micros, Event::NodeAnswers(block.id, block.node, result)),
                Err(what) => self.checker.fail(what),
            };
        }
        let result = match self.node.judge(self.now, block) {
            Ok(result) => result,
            Err(what) => return self.checker.fail(what),
        };
        let silent = !self.healed && self.random.happens(self.faults.silent_node);
        let found = result == SubmitResult::Accepted;
        let result = if silent { silence() } else { result };
        let micros = self.random.within(100, 50_000);
        self.after(micros, Event::NodeAnswers(block.id, block.node, result));
        if found && !self.healed {
            self.after(micros, Event::Tip);
        }
    }

    /// The farm takes a block for done: some node must have it, or must have refused it.
    fn settled(&mut self, block: &SettledBlock) {
        let known = self.node.submitted.contains(&block.hash.0);
        if !known || block.refused {
            self.checker.fail(format!("a block was given up: {block:?}"));
        }
    }

    pub(crate) fn new_tip(&mut self, again: bool) {
        if (again && self.healed) || self.node_is_down {
            return;
        }
        let reorg = !self.healed && self.random.happens(self.faults.reorgs);
        let how = match self.random.below(4) {
            _ if !reorg => Move::Forward,
            0 => Move::Rival,
            1 => Move::Lower,
            _ => Move::Return,
        };
        let template = self.node.new_tip(self.now, how);
        self.adopt(template);
        let tip = self.node.tips.len() - 1;
        self.after(self.tip_bound_us(), Event::TipDue(tip, self.now));
        if again && self.checker.tips_planned == 0 {
            self.checker.tips_planned += 1;
            self.after(2 * SECOND, Event::Refresh);
        }
    }

    pub(crate) fn refresh(&mut self) {
        if self.healed {
            return;
        }
        if self.node_is_down {
            // Its clock of templates goes on, without any.
        } else if self.random.happens(300) {
            self.at(self.now, Event::Tip);
        } else {
            let template = self.node.refresh(self.now);
            self.adopt(template);
        }
        let micros = self.random.within(SECOND / 10, 6 * SECOND);
        self.after(micros, Event::Refresh);
    }

    fn adopt(&mut self, template: Arc<Template>) {
        let (tip, made) = (self.node.tips.len() - 1, self.now);
        self.checker.job_made(MadeJob { tip, curtime: template.curtime, made });
        self.tell_coordinator(Input::Template(template));
    }
}

pub(crate) fn job_settings() -> JobSettings {
    JobSettings {
        payout_script: vec![0x51],
        signature: b"/sim/".to_vec(),
        group_prefix: Vec::new(),
        extranonce1_size: EXTRANONCE1_SIZE,
        extranonce2_size: EXTRANONCE2_SIZE,
        version_mask: 0x1fff_e000,
        first_number: 1,
    }
}
