//! The lies of a sabotaged run: where they are placed, and those that the world tells itself.

use farm::extranonce::ShardIndex;
use farm::messages::ToShard;

use crate::faults::Sabotage;
use crate::world::{SECOND, World};

/// When a sabotaged world tells its lie: every miner mines by then.
const LIE_AT_US: u64 = 12 * SECOND;

impl World {
    /// Places the lie of a sabotaged run where it will be told.
    pub(crate) fn sabotage(&mut self) {
        let Some(lie) = self.plan.sabotage else { return };
        match lie {
            Sabotage::BytesTwice => self.hosts[0].ring.sabotage = Some(lie),
            Sabotage::EndlessSendBuffer => {
                self.hosts.iter_mut().for_each(|host| host.ring.sabotage = Some(lie));
            }
            Sabotage::LostJob | Sabotage::LostBlock | Sabotage::PaddedReport => {
                self.hosts[0].lane.sabotage = Some(lie);
            }
            Sabotage::ForeignReset | Sabotage::SharedLease => {}
            Sabotage::LeaseOfTheDead | Sabotage::SameLife | Sabotage::ClockOfTheDate => {}
            Sabotage::TipWithoutNumber | Sabotage::ForgottenShares => {
                self.hosts.iter_mut().for_each(|host| host.lane.sabotage = Some(lie));
            }
            Sabotage::ForgottenWithReset => {
                for host in &mut self.hosts {
                    host.ring.sabotage = Some(lie);
                    host.lane.forgotten = host.ring.forgotten.clone();
                }
            }
            Sabotage::LostReply | Sabotage::CreditTwice | Sabotage::OldTip => {}
            Sabotage::BorrowedAddress => {}
        }
    }

    /// The lies that are told by the world itself; once each.
    pub(crate) fn lie(&mut self, host: usize) {
        if self.plan.sabotage.is_none() || self.now < LIE_AT_US {
            return;
        }
        match self.plan.sabotage {
            Some(Sabotage::ForeignReset) => {
                let Some(link) = self.miners[0].link.map(|(_, link)| link) else { return };
                let found = self.with_ring(host, |ring| ring.report_reset(link));
                if found {
                    self.plan.sabotage = None;
                }
            }
            Some(Sabotage::SharedLease) if self.hosts.len() > 1 => {
                let lease = self.hosts[0].lane.last_lease.clone();
                if let Some(lease) = lease {
                    self.plan.sabotage = None;
                    let other = &mut self.hosts[1].lane;
                    other.now = self.now;
                    other.forge(ToShard::Lease(lease));
                    let shard = ShardIndex(1);
                    self.wake(usize::from(shard.0), self.now);
                }
            }
            Some(Sabotage::LeaseOfTheDead) => {
                let held = &mut self.hosts[host];
                let granted = held.shard.connections().any(|held| held.prefix.is_some());
                if let Some(lease) = held.dead_lease.take_if(|_| granted) {
                    held.lane.now = self.now;
                    held.lane.forge(ToShard::Lease(lease));
                    self.wake(host, self.now);
                }
            }
            _ => {}
        }
    }

    /// What a miner reads, after the world has lied about it.
    pub(crate) fn tamper(&mut self, miner: usize, mut bytes: Vec<u8>) -> Vec<u8> {
        let notify = b"{\"id\":null,\"method\":\"mining.notify\"";
        if self.plan.sabotage == Some(Sabotage::OldTip)
            && self.checker.old_notify.is_none()
            && bytes.starts_with(notify)
            && bytes.ends_with(b"\n")
        {
            self.checker.old_notify = Some((self.node.tips.len(), bytes.clone()));
        }
        let Some(lie) = self.plan.sabotage.filter(|_| self.now > LIE_AT_US) else {
            return bytes;
        };
        let credit = b"\"result\":true,\"error\":null}\n";
        let is_reply = bytes.starts_with(b"{\"id\":") && bytes.ends_with(credit);
        let is_one = bytes.iter().filter(|byte| **byte == b'\n').count() == 1;
        match lie {
            Sabotage::LostReply if is_reply && is_one && miner == 0 => {
                self.plan.sabotage = None;
                Vec::new()
            }
            Sabotage::CreditTwice if is_reply && is_one => {
                self.plan.sabotage = None;
                self.checker.repeat_next_credit = true;
                bytes
            }
            Sabotage::OldTip => {
                let at = self.miners[miner].tip;
                let old = self.checker.old_notify.take_if(|(tips, _)| at >= *tips);
                if let Some((_, old)) = old {
                    self.plan.sabotage = None;
                    bytes.extend(old);
                }
                bytes
            }
            _ => bytes,
        }
    }
}
