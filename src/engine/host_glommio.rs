//! The chosen host: a pinned glommio executor whose one task blocks in the shard's own ring. It
//! never yields, because nothing else lives on that executor: everything that can wake the shard
//! wakes it in the ring.

use glommio::{ExecutorJoinHandle, LocalExecutorBuilder, Placement};

use crate::config::StartError;
use crate::plane::{Berth, Started, serve};

/// Locked memory of an executor's own rings: its default is more than a service may lock.
pub(crate) const IO_MEMORY_BYTES: usize = 64 << 10;

/// Starts the shard's executor.
pub(crate) fn start(berth: Berth, started: Started) -> Result<ExecutorJoinHandle<()>, StartError> {
    LocalExecutorBuilder::new(Placement::Fixed(berth.core))
        .name(&format!("shard-{}", berth.index))
        .io_memory(IO_MEMORY_BYTES)
        .spawn(move || async move { serve(&berth, started) })
        .map_err(|error| StartError::Executor(error.to_string()))
}
