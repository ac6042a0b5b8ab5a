//! What difficulty each worker had settled at, by its name: where its next connection starts, on
//! whatever shard. The farm has one that numbers what it learns, each shard has a copy that it is
//! told of; so a session looks it up where it is and nobody asks anybody.

use alloc::collections::BTreeMap;
use alloc::sync::Arc;
use alloc::vec::Vec;

use pow::Difficulty;

use crate::class::Class;

/// Workers that are remembered, as many as have accounts of their own; beyond them the one that
/// was learned of longest ago goes. All in use they cost about 10 MiB, and 5 in each shard, which
/// shares the names.
pub const REMEMBERED_MAX: usize = 65_536;

/// A difficulty that suits a miner: it has found enough shares there to say so.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Settled {
    /// The difficulty.
    pub difficulty: Difficulty,
    /// The firmware that it suits: another machine under the same name may be of another size.
    pub class: Class,
}

/// A worker and where it has settled.
#[derive(Debug, Clone, PartialEq)]
pub struct Remembered {
    /// Its name.
    pub worker: Arc<str>,
    /// Where.
    pub settled: Settled,
}

/// Where workers have settled.
#[derive(Debug)]
pub struct Memory {
    by_name: BTreeMap<Arc<str>, (u64, Settled)>,
    /// In the order in which they were learned; each name once.
    by_number: BTreeMap<u64, Arc<str>>,
    newest: u64,
    remembered_max: usize,
}

impl Default for Memory {
    fn default() -> Memory {
        Memory::with_limit(REMEMBERED_MAX)
    }
}

impl Memory {
    /// An empty one for so many workers.
    pub fn with_limit(remembered_max: usize) -> Memory {
        let (by_name, by_number) = (BTreeMap::new(), BTreeMap::new());
        Memory { by_name, by_number, newest: 0, remembered_max }
    }

    /// Where this worker has settled.
    pub fn of(&self, worker: &str) -> Option<Settled> {
        self.by_name.get(worker).map(|(_, settled)| *settled)
    }

    /// Learns where a worker has settled.
    pub fn learn(&mut self, Remembered { worker, settled }: Remembered) {
        if let Some((number, before)) = self.by_name.get_mut(&worker) {
            if *before == settled {
                return;
            }
            self.by_number.remove(number);
        } else if self.by_name.len() >= self.remembered_max
            && let Some((_, oldest)) = self.by_number.pop_first()
        {
            self.by_name.remove(&oldest);
        }
        self.newest += 1;
        self.by_number.insert(self.newest, worker.clone());
        self.by_name.insert(worker, (self.newest, settled));
    }

    /// The number of what was learned last; each thing learned has a higher one.
    pub fn newest(&self) -> u64 {
        self.newest
    }

    /// At most `most` of what was learned after the number, in that order, and the number of the
    /// last of them.
    pub fn after(&self, number: u64, most: usize) -> (Vec<Remembered>, u64) {
        let learned = self.by_number.range(number + 1..).take(most);
        let mut last = number;
        let remembered = learned.filter_map(|(number, worker)| {
            last = *number;
            let settled = self.of(worker)?;
            Some(Remembered { worker: worker.clone(), settled })
        });
        (remembered.collect(), last)
    }

    /// How many workers are remembered.
    pub fn len(&self) -> usize {
        self.by_name.len()
    }

    /// Whether none is.
    pub fn is_empty(&self) -> bool {
        self.by_name.is_empty()
    }
}

impl Settled {
    /// What is remembered of a name when one of its connections settles. Where others are here
    /// under it, machines of several sizes perhaps, the lowest of them stays: who starts too low
    /// is at its difficulty within seconds, who starts too high is not heard of for minutes.
    #[must_use]
    pub fn beside(self, before: Option<Settled>, others: bool) -> Settled {
        match before.filter(|before| others && before.difficulty < self.difficulty) {
            Some(before) => before,
            None => self,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn settled(difficulty: f64) -> Settled {
        let difficulty = Difficulty::new(difficulty).expect("positive");
        Settled { difficulty, class: Class::Antminer }
    }

    fn remembered(worker: &str, difficulty: f64) -> Remembered {
        Remembered { worker: worker.into(), settled: settled(difficulty) }
    }

    #[test]
    fn the_newest_of_a_name_stays_and_the_oldest_name_goes() {
        let mut memory = Memory::with_limit(2);
        memory.learn(remembered("a", 1.0));
        memory.learn(remembered("b", 2.0));
        memory.learn(remembered("a", 4.0));
        memory.learn(remembered("c", 8.0));
        assert_eq!(memory.len(), 2);
        assert_eq!(memory.of("a"), Some(settled(4.0)));
        assert_eq!(memory.of("b"), None, "learned of longest ago");
        assert_eq!(memory.of("c"), Some(settled(8.0)));
    }

    #[test]
    fn what_is_news_is_told_in_pieces_and_once() {
        let mut memory = Memory::default();
        for number in 0..5 {
            memory.learn(remembered(&format!("w{number}"), 1.0));
        }
        memory.learn(remembered("w0", 1.0));
        let (first, told) = memory.after(0, 3);
        assert_eq!(first.len(), 3);
        let (rest, told) = memory.after(told, 3);
        assert_eq!(rest, [remembered("w3", 1.0), remembered("w4", 1.0)]);
        assert_eq!((memory.after(told, 3), memory.newest()), ((vec![], told), told));
        memory.learn(remembered("w1", 2.0));
        assert_eq!(memory.after(told, 3).0, [remembered("w1", 2.0)]);
    }

    #[test]
    fn machines_under_one_name_start_at_the_lowest() {
        let (low, high) = (settled(512.0), settled(65_536.0));
        assert_eq!(high.beside(None, true), high);
        assert_eq!(low.beside(Some(high), true), low);
        assert_eq!(high.beside(Some(low), true), low);
        assert_eq!(
            high.beside(Some(low), false),
            high,
            "it is alone: what it has is what it needs"
        );
    }
}
