//! What happens to a world from outside: links that break, clog and vanish, readers that stop,
//! shards that stall, the power cut, and the end of all that.

use crate::link::LinkId;
use crate::ring::RESET;
use crate::world::{Event, SECOND, World};

const ETIMEDOUT: i32 = 110;
/// When the kernel gives up on a peer that acknowledges nothing (TCP_USER_TIMEOUT), shortened as
/// the whole storm is.
const PEER_TIMEOUT_US: u64 = 20 * SECOND;
/// How far the node's clock jumps from the truth, in seconds.
const CLOCK_OFF_MAX: u64 = 3_600;
/// The longest stall of a shard.
const STALL_US_MAX: u64 = 5 * SECOND;
/// The longest clog, beyond what a slow reader is allowed.
const CLOG_US_MAX: u64 = 15 * SECOND;

impl World {
    /// Sets the first of each kind of weather on its way.
    pub(crate) fn begin_weather(&mut self) {
        for (mean, event) in self.means() {
            self.again(mean, event);
        }
        if let Some(at) = self.plan.power_cut_at {
            self.at(at, Event::PowerCut);
        }
    }

    fn means(&self) -> [(u64, Event); 7] {
        let faults = &self.faults;
        [
            (faults.reset_us, Event::Reset),
            (faults.vanish_us, Event::Vanish),
            (faults.clog_us, Event::Clog),
            (faults.stop_reader_us, Event::StopReader),
            (faults.stall_us, Event::Stall),
            (faults.death_us, Event::Death),
            (faults.clock_us, Event::ClockJump),
        ]
    }

    /// The next one of a kind, if the kind is on.
    fn again(&mut self, mean: u64, event: Event) {
        if mean > 0 && !self.healed {
            let micros = self.random.within(1, 2 * mean);
            self.after(micros, event);
        }
    }

    pub(crate) fn change_weather(&mut self, event: Event) {
        match event {
            Event::Unclog(host, link) => return self.release(host, link, true),
            Event::StartReader(host, link) => return self.release(host, link, false),
            Event::Heal => return self.heal(),
            Event::PowerCut => return self.cut_power(),
            _ => {}
        }
        if self.healed {
            return;
        }
        match event {
            Event::Reset => self.reset_one(),
            Event::Vanish => self.vanish_one(),
            Event::Clog => self.clog_some(),
            Event::StopReader => self.stop_one(),
            Event::Stall => self.stall_one(),
            Event::Death => self.kill_one(),
            // The virtual clock is monotonic and the shards' alone; only the node knows the date.
            Event::ClockJump => {
                let seconds = self.random.within(0, 2 * CLOCK_OFF_MAX) as i64;
                self.node.clock_off = seconds - CLOCK_OFF_MAX as i64;
            }
            _ => {}
        }
        let kind = std::mem::discriminant(&event);
        let again =
            self.means().into_iter().find(|(_, other)| std::mem::discriminant(other) == kind);
        if let Some((mean, event)) = again {
            self.again(mean, event);
        }
    }

    /// A miner that is connected, and its link.
    fn somebody(&mut self) -> Option<(usize, usize, LinkId)> {
        let miner = self.random.below(self.miners.len() as u64) as usize;
        let (host, link) = self.miners[miner].link?;
        Some((miner, host, link))
    }

    fn reset_one(&mut self) {
        let Some((miner, host, link)) = self.somebody() else { return };
        if self.random.happens(500) {
            if self.random.happens(500) {
                self.submit_last(miner, host, link);
            }
            self.with_ring(host, |ring| ring.break_link(link, RESET));
        } else {
            let at = self.with_ring(host, |ring| ring.miner_closes(link));
            self.at(at, Event::Up(host, link));
        }
        self.lose(miner);
    }

    /// One more share, which the shard finds in one turn with the reset behind it.
    fn submit_last(&mut self, miner: usize, host: usize, link: LinkId) {
        let (sender, kernel) = (&mut self.miners[miner], self.kernel);
        let bytes = match self.mining {
            true if self.random.happens(500) => sender.mine_block(kernel),
            true => sender.mine(kernel),
            false => Vec::new(),
        };
        if !bytes.is_empty() {
            self.write_shares(miner, host, link, &bytes);
        }
        self.with_ring(host, |ring| ring.arrive_at_once(link));
    }

    fn vanish_one(&mut self) {
        let Some((miner, host, link)) = self.somebody() else { return };
        let now = self.now;
        self.with_ring(host, |ring| {
            if let Some(link) = ring.link(link) {
                link.is_clogged = true;
                link.disturb(now, "its miner vanished");
            }
        });
        self.after(PEER_TIMEOUT_US, Event::TimedOut(host, link));
        self.lose(miner);
    }

    pub(crate) fn time_out(&mut self, host: usize, link: LinkId) {
        self.with_ring(host, |ring| ring.break_link(link, ETIMEDOUT));
    }

    /// Swizzle: a random subset of all links stops, and is released in random order.
    fn clog_some(&mut self) {
        let share = self.random.within(50, 700);
        for miner in 0..self.miners.len() {
            let Some((host, link)) = self.miners[miner].link else { continue };
            if !self.random.happens(share) {
                continue;
            }
            let now = self.now;
            let micros = self.random.within(1_000, CLOG_US_MAX);
            let clogged = self.with_ring(host, |ring| match ring.link(link) {
                Some(link) if !link.is_clogged => {
                    link.is_clogged = true;
                    link.disturb(now, "it was clogged");
                    true
                }
                _ => false,
            });
            if clogged {
                self.after(micros, Event::Unclog(host, link));
            }
        }
    }

    fn stop_one(&mut self) {
        let Some((_, host, link)) = self.somebody() else { return };
        let now = self.now;
        self.with_ring(host, |ring| {
            if let Some(link) = ring.link(link) {
                link.is_reader_stopped = true;
                link.disturb(now, "its miner did not read");
            }
        });
        let micros = self.random.within(SECOND, 40 * SECOND);
        self.after(micros, Event::StartReader(host, link));
    }

    fn release(&mut self, host: usize, link: LinkId, from_clog: bool) {
        let now = self.now;
        self.with_ring(host, |ring| {
            let Some(link) = ring.link(link) else { return };
            // A miner that vanished does not come back on its old connection.
            if from_clog && link.excuse != Some("its miner vanished") {
                link.is_clogged = false;
            }
            if !from_clog {
                link.is_reader_stopped = false;
            }
            link.disturbed_at = Some(now);
        });
        self.at(now, Event::Up(host, link));
        self.at(now, Event::Down(host, link));
    }

    fn stall_one(&mut self) {
        let host = self.random.below(self.hosts.len() as u64) as usize;
        let micros = self.random.within(1_000, STALL_US_MAX);
        let now = self.now;
        let host = &mut self.hosts[host];
        host.busy_until = host.busy_until.max(now + micros);
        host.stalled_at = Some(host.busy_until);
    }

    /// A shard dies: between two turns, or in the middle of one.
    fn kill_one(&mut self) {
        let host = self.random.below(self.hosts.len() as u64) as usize;
        if self.random.happens(500) {
            self.bury(host, false);
        } else {
            let completions = self.random.within(1, 8);
            self.hosts[host].ring.dies_after = Some(completions);
        }
    }

    /// The power fails: every link is gone at once, and everybody returns within two seconds.
    fn cut_power(&mut self) {
        self.checker.power_cut_at = Some(self.now);
        for miner in 0..self.miners.len() {
            if let Some((host, link)) = self.miners[miner].link {
                self.with_ring(host, |ring| ring.break_link(link, RESET));
                self.lose(miner);
            }
        }
    }

    /// Nothing goes wrong from here on.
    fn heal(&mut self) {
        self.healed = true;
        let healed = self.faults.healed();
        for host in 0..self.hosts.len() {
            self.hosts[host].ring.faults = healed.clone();
            self.hosts[host].ring.dies_after = None;
            let links: Vec<LinkId> = self.hosts[host].ring.links().map(|link| link.id).collect();
            for link in links {
                self.release(host, link, true);
                self.release(host, link, false);
            }
        }
    }
}
