//! Which thread runs on which core. Decided once at the start from the cores that this process may
//! use (cgroups, `CPUAffinity=`, taskset); called by `start.rs`.
//!
//! The last core is the coordinator's; the others are the shards'. More shards than cores go round
//! robin, which works but gains nothing. One core runs everything: all threads block when idle.

use rustix::thread::{CpuSet, sched_getaffinity, sched_setaffinity};

use crate::StartError;

/// The kernel's affinity masks are asked for this many cores.
const CORES_MAX: usize = 1_024;

/// Shards at most: the coordinator's lanes and the extranonce leases are sized for a machine.
pub const SHARDS_MAX: usize = 256;

/// Where the threads go.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Placement {
    /// The core of each shard, in the order of the shards.
    pub shards: Vec<usize>,
    /// The core of the coordinator.
    pub coordinator: usize,
    /// More shards than cores of their own: they share, which is worth a warning.
    pub crowded: bool,
}

impl Placement {
    /// Places `shards` shards (0 = as many as there are cores beside the coordinator's) on
    /// `cores` (empty = all that this process may use).
    ///
    /// # Errors
    /// A core that this process may not use, or too many shards.
    pub fn choose(shards: usize, cores: &[usize]) -> Result<Placement, StartError> {
        let allowed = allowed_cores()?;
        if let Some(foreign) = cores.iter().find(|core| !allowed.contains(core)) {
            return Err(StartError::Core { core: *foreign, allowed });
        }
        let chosen = if cores.is_empty() { &allowed } else { cores };
        if shards > SHARDS_MAX {
            return Err(StartError::Shards { asked: shards });
        }
        Ok(Placement::on(shards, chosen))
    }

    fn on(shards: usize, cores: &[usize]) -> Placement {
        let (&coordinator, others) = cores.split_last().expect("a process runs on some core");
        let free = if others.is_empty() { cores } else { others };
        let count = if shards == 0 { free.len().min(SHARDS_MAX) } else { shards };
        Placement {
            shards: (0..count).map(|shard| free[shard % free.len()]).collect(),
            coordinator,
            crowded: count > free.len(),
        }
    }
}

/// The cores that the calling thread may run on, in rising order.
///
/// # Errors
/// What the kernel says.
pub fn allowed_cores() -> Result<Vec<usize>, StartError> {
    let set = sched_getaffinity(None).map_err(|errno| StartError::Os {
        what: "asking for the cores of this process",
        error: errno.into(),
    })?;
    Ok((0..CORES_MAX).filter(|core| set.is_set(*core)).collect())
}

/// Binds the calling thread to one core.
pub(crate) fn pin(core: usize) -> Result<(), StartError> {
    let mut set = CpuSet::new();
    set.set(core);
    sched_setaffinity(None, &set).map_err(|errno| StartError::Os {
        what: "pinning a thread to its core",
        error: errno.into(),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_last_core_is_the_coordinators() {
        let placed = |shards, cores: &[usize]| {
            let placement = Placement::on(shards, cores);
            (placement.shards, placement.coordinator, placement.crowded)
        };
        assert_eq!(placed(0, &[0, 1, 2, 3]), (vec![0, 1, 2], 3, false));
        assert_eq!(placed(2, &[0, 1, 2, 3]), (vec![0, 1], 3, false));
        assert_eq!(placed(4, &[4, 6]), (vec![4, 4, 4, 4], 6, true));
        assert_eq!(placed(5, &[1, 3, 5]), (vec![1, 3, 1, 3, 1], 5, true));
        assert_eq!(placed(0, &[7]), (vec![7], 7, false));
        assert_eq!(placed(2, &[7]), (vec![7, 7], 7, true));
    }

    #[test]
    fn a_core_that_is_not_ours_is_refused() {
        let refused = Placement::choose(1, &[CORES_MAX + 1]).expect_err("there is no such core");
        assert!(refused.to_string().contains("core 1025"), "{refused}");
        assert!(Placement::choose(SHARDS_MAX + 1, &[]).is_err());
        let placement = Placement::choose(0, &[]).expect("this process runs on some core");
        assert!(!placement.shards.is_empty());
    }

    #[test]
    fn a_pinned_thread_runs_on_its_core_only() {
        let pinned = std::thread::spawn(|| {
            let core = *allowed_cores()?.last().expect("a process runs on some core");
            pin(core)?;
            Ok::<_, StartError>((core, allowed_cores()?))
        });
        let (core, left) = pinned.join().expect("no panic").expect("our own core");
        assert_eq!(left, vec![core]);
    }
}
