//! Who makes room in a full house although authorized: connections that have never had a share
//! accepted, found by a look at all of them. Of the source with the most of these the oldest goes
//! first, so that one machine cannot hold the places of many; among equals the address decides.

use alloc::collections::{BTreeMap, BinaryHeap};
use alloc::vec::Vec;
use core::net::IpAddr;

use session::Tick;

use crate::ring::ConnId;

/// What one look has found, and not sent away yet.
#[derive(Default)]
pub(crate) struct Idle {
    /// By source; once they are ordered the oldest is the last.
    found: BTreeMap<IpAddr, Vec<(Tick, ConnId)>>,
    /// How many each source has; empty until they are ordered.
    order: BinaryHeap<(usize, IpAddr)>,
    len: usize,
}

impl Idle {
    /// A look begins.
    pub(crate) fn clear(&mut self) {
        *self = Idle::default();
    }

    /// This one has never had a share accepted, and could have since that moment.
    pub(crate) fn add(&mut self, source: IpAddr, since: Tick, conn: ConnId) {
        self.found.entry(source.to_canonical()).or_default().push((since, conn));
        self.len += 1;
    }

    /// The look is over.
    pub(crate) fn order(&mut self) {
        for conns in self.found.values_mut() {
            conns.sort_unstable_by_key(|(since, conn)| core::cmp::Reverse((*since, conn.slot)));
        }
        self.order = self.found.iter().map(|(source, conns)| (conns.len(), *source)).collect();
    }

    /// Who goes next. It may have left by now, or had a share.
    pub(crate) fn next(&mut self) -> Option<ConnId> {
        let (_, source) = self.order.pop()?;
        let conns = self.found.get_mut(&source)?;
        let (_, conn) = conns.pop()?;
        self.len -= 1;
        if conns.is_empty() {
            self.found.remove(&source);
        } else {
            self.order.push((conns.len(), source));
        }
        Some(conn)
    }

    /// How many are left.
    pub(crate) fn len(&self) -> usize {
        self.len
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_source_with_the_most_gives_its_oldest_first() {
        let mut idle = Idle::default();
        let found = [("10.0.0.1", 5), ("10.0.0.2", 9), ("::ffff:10.0.0.2", 7), ("10.0.0.2", 8)];
        for (slot, (source, since)) in (0..).zip(found) {
            let source = source.parse().expect("an address");
            idle.add(source, Tick(since), ConnId { slot, generation: 0 });
        }
        assert_eq!(idle.next(), None, "the look is not over");
        idle.order();
        let left = core::iter::from_fn(|| idle.next()).map(|conn| conn.slot).collect::<Vec<_>>();
        // Three, then two of the second source; then one each, and the higher address.
        assert_eq!(left, [2, 3, 1, 0]);
        assert_eq!((idle.len(), idle.found.len(), idle.next()), (0, 0, None));
    }
}
