//! The miners' side of the network: they connect, write, read, mine and come back.

use std::net::{IpAddr, Ipv4Addr};

use crate::checker::FLOOD_US_MAX;
use crate::faults::{Faults, Sabotage};
use crate::link::LinkId;
use crate::miner::{Note, Role};
use crate::random::Random;
use crate::world::{Event, SECOND, World};

impl World {
    pub(crate) fn connect(&mut self, index: usize) {
        if self.miners[index].link.is_some() {
            return;
        }
        let host = self.random.below(self.hosts.len() as u64) as usize;
        let link = self.next_link;
        self.next_link += 1;
        let draining = self.hosts[host].ring.is_draining;
        self.checker.connections += u64::from(!draining);
        let role = self.miners[index].role;
        let stolen = if role == Role::Thief { self.steal(index) } else { None };
        let borrows = self.plan.sabotage == Some(Sabotage::BorrowedAddress);
        let owner = stolen.as_ref().map(|(victim, _)| *victim).filter(|_| borrows);
        let [_, a, b, c] = (owner.unwrap_or(index) as u32 + 1).to_be_bytes();
        let peer = IpAddr::V4(Ipv4Addr::new(10, a, b, c));
        self.with_ring(host, |ring| ring.connect(link, index, peer));
        let hello = self.miners[index].connected((host, link), stolen.map(|(_, id)| id));
        if matches!(role, Role::Babbler | Role::Flooder | Role::DeafFlooder | Role::Mute) {
            self.with_ring(host, |ring| {
                if let Some(link) = ring.link(link) {
                    link.excuse = Some("its miner misbehaves");
                }
            });
        }
        self.write(host, link, &hello);
    }

    /// What a thief names as its session: mostly another miner's, now and then no id at all.
    fn steal(&mut self, thief: usize) -> Option<(usize, String)> {
        let victim = self.random.below(self.miners.len() as u64) as usize;
        let mut id = self.miners[victim].session_id().filter(|_| victim != thief)?;
        match self.random.below(8) {
            0 => drop(id.pop()),
            1 => id = "not even hexadecimal".to_owned(),
            2 => id = format!("{:016x}", self.random.bits()),
            _ => {}
        }
        Some((victim, id))
    }

    fn write(&mut self, host: usize, link: LinkId, bytes: &[u8]) {
        let arrivals = self.with_ring(host, |ring| ring.miner_writes(link, bytes));
        arrivals.into_iter().for_each(|at| self.at(at, Event::Up(host, link)));
    }

    pub(crate) fn mine(&mut self, index: usize, link: LinkId) {
        let Some((host, _)) = self.miners[index].link.filter(|(_, held)| *held == link) else {
            return;
        };
        if self.mining {
            let bytes = self.miners[index].mine(self.kernel);
            if !bytes.is_empty() {
                if self.miners[index].role == Role::DeafFlooder {
                    self.stop_for_good(host, link);
                }
                self.write_shares(index, host, link, &bytes);
            }
        }
        self.mine_later(index, link);
    }

    /// A miner that reads no more, and must be cut off by what it goes on to send.
    fn stop_for_good(&mut self, host: usize, link: LinkId) {
        let now = self.now;
        let has_begun = self.with_ring(host, |ring| match ring.link(link) {
            Some(link) if !link.is_reader_stopped => {
                link.is_reader_stopped = true;
                link.disturb(now, "its miner floods and does not read");
                true
            }
            _ => false,
        });
        // Counted from the first flood: those that follow are no excuse.
        if has_begun {
            self.after(FLOOD_US_MAX, Event::FloodDue(host, link));
        }
    }

    /// Sends what a miner has just mined.
    pub(crate) fn write_shares(&mut self, miner: usize, host: usize, link: LinkId, bytes: &[u8]) {
        let found = self.miners[miner].found();
        self.with_ring(host, |ring| ring.miner_submits(link, found));
        self.write(host, link, bytes);
    }

    fn mine_later(&mut self, index: usize, link: LinkId) {
        let micros = self.random.within(1, 2 * self.plan.share_us);
        self.after(micros, Event::Mine(index, link));
    }

    pub(crate) fn deliver(&mut self, host: usize, link: LinkId) {
        let bytes = self.with_ring(host, |ring| ring.arrive_down(link));
        let miner = self.hosts[host].ring.peek(link).map(|link| link.miner);
        let Some(miner) = miner.filter(|_| !bytes.is_empty()) else { return };
        if self.miners[miner].link != Some((host, link)) {
            return;
        }
        let bytes = self.tamper(miner, bytes);
        let notes = self.miners[miner].read(self.now, &bytes);
        for note in notes {
            if let Note::Mining = note {
                self.mine_later(miner, link);
            }
            self.note(miner, note);
        }
    }

    pub(crate) fn hang_up(&mut self, host: usize, link: LinkId) {
        let Some(end) = self.hosts[host].ring.peek(link) else { return };
        let miner = end.miner;
        let attached = self.miners[miner].link == Some((host, link));
        if attached && end.is_clogged && end.broken.is_none() {
            return self.after(SECOND / 5, Event::HangUp(host, link));
        }
        self.with_ring(host, |ring| ring.forget(link));
        if attached {
            self.lose(miner);
        }
    }

    /// A miner has lost its connection and will come back.
    pub(crate) fn lose(&mut self, miner: usize) {
        let lost = self.miners[miner].disconnected();
        self.checker.lost(&lost);
        let away = self.plan.away_us;
        let micros = if away > 0 { away } else { self.random.within(SECOND / 20, 2 * SECOND) };
        self.after(micros, Event::Connect(miner));
    }
}

pub(crate) fn draw_role(faults: &Faults, random: &mut Random) -> Role {
    if !random.happens(faults.hostile) {
        return Role::Honest;
    }
    const BAD: [Role; 7] = [
        Role::Duplicator,
        Role::Guesser,
        Role::Babbler,
        Role::Flooder,
        Role::DeafFlooder,
        Role::Mute,
        Role::Thief,
    ];
    BAD[random.below(BAD.len() as u64) as usize]
}
