//! Which shard has a session: an id names the shard that made it, and the few sessions that have
//! moved since are in the coordinator's directory. A shard that is asked for an id which it does
//! not know asks the coordinator, who asks the shard that should have it; the session then travels
//! over both lanes (`messages`). Nobody waits for anybody: who hears nothing begins a new session.

use alloc::collections::BTreeMap;

use session::SessionId;

use crate::extranonce::ShardIndex;

/// Sessions that live on another shard than the one that made them, at most. Beyond it the one that
/// moved longest ago is not found any more, and its miner begins a new session when it reconnects:
/// three times the largest farm in one process, 4 MiB.
pub const MOVED_MAX: usize = 65_536;

/// An id of a session that `shard` makes: the shard in the top byte, `random` in the others. 56
/// bits are enough, because an id is worth nothing from another address than its miner's.
pub fn session_id(shard: ShardIndex, random: u64) -> SessionId {
    debug_assert!(shard.0 <= 0xff, "there are at most 256 shards");
    SessionId(u64::from(shard.0) << 56 | random >> 8)
}

/// The shard that made a session.
fn maker(id: SessionId) -> ShardIndex {
    ShardIndex((id.0 >> 56) as u16)
}

/// Where the sessions are that have moved.
#[derive(Default)]
pub struct Directory {
    moved: BTreeMap<SessionId, Moved>,
    /// The same ones in the order of their moves.
    by_age: BTreeMap<u64, SessionId>,
    moves: u64,
}

struct Moved {
    to: ShardIndex,
    /// Which move it was; unique.
    sequence: u64,
}

impl Directory {
    /// The shard that has this session, if any has.
    pub fn shard_of(&self, id: SessionId) -> ShardIndex {
        self.moved.get(&id).map_or(maker(id), |moved| moved.to)
    }

    /// A session has moved.
    pub fn moved(&mut self, id: SessionId, to: ShardIndex) {
        self.forget(id);
        if maker(id) == to {
            return;
        }
        if self.moved.len() >= MOVED_MAX
            && let Some((_, oldest)) = self.by_age.pop_first()
        {
            self.moved.remove(&oldest);
        }
        self.moves += 1;
        self.moved.insert(id, Moved { to, sequence: self.moves });
        self.by_age.insert(self.moves, id);
    }

    /// A shard is gone, and every session on it.
    pub fn shard_died(&mut self, shard: ShardIndex) {
        self.moved.retain(|_, moved| moved.to != shard);
        let moved = &self.moved;
        self.by_age.retain(|_, id| moved.contains_key(id));
    }

    /// How many sessions live away from the shard that made them.
    pub fn len(&self) -> usize {
        self.moved.len()
    }

    /// Whether every session is where it was made.
    pub fn is_empty(&self) -> bool {
        self.moved.is_empty()
    }

    fn forget(&mut self, id: SessionId) {
        if let Some(former) = self.moved.remove(&id) {
            self.by_age.remove(&former.sequence);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_id_names_its_maker_until_it_moves() {
        let mut directory = Directory::default();
        let id = session_id(ShardIndex(255), u64::MAX);
        assert_eq!(id, SessionId(u64::MAX));
        assert_eq!(session_id(ShardIndex(3), 0x1234_5678_9abc_deff).0, 0x0312_3456_789a_bcde);
        assert_eq!(directory.shard_of(id), ShardIndex(255));
        directory.moved(id, ShardIndex(2));
        directory.moved(id, ShardIndex(1));
        assert_eq!((directory.shard_of(id), directory.len()), (ShardIndex(1), 1));
        directory.moved(id, ShardIndex(255));
        assert_eq!((directory.shard_of(id), directory.is_empty()), (ShardIndex(255), true));
    }

    #[test]
    fn a_dead_shard_has_no_sessions() {
        let mut directory = Directory::default();
        let ids = [1, 2, 3].map(|number| session_id(ShardIndex(0), number << 8));
        directory.moved(ids[0], ShardIndex(1));
        directory.moved(ids[1], ShardIndex(2));
        directory.moved(ids[2], ShardIndex(1));
        directory.shard_died(ShardIndex(1));
        assert_eq!(ids.map(|id| directory.shard_of(id).0), [0, 2, 0]);
        assert_eq!((directory.len(), directory.by_age.len()), (1, 1));
    }

    #[test]
    fn it_is_bounded_and_forgets_the_oldest_move() {
        let mut directory = Directory::default();
        let id = |number: usize| session_id(ShardIndex(0), (number as u64) << 8);
        (0..MOVED_MAX).for_each(|number| directory.moved(id(number), ShardIndex(1)));
        directory.moved(id(0), ShardIndex(2));
        directory.moved(id(MOVED_MAX), ShardIndex(1));
        assert_eq!((directory.len(), directory.by_age.len()), (MOVED_MAX, MOVED_MAX));
        assert_eq!(directory.shard_of(id(1)), ShardIndex(0), "moved longest ago");
        assert_eq!(directory.shard_of(id(0)), ShardIndex(2), "moved again");
    }
}
