//! The chosen host: a pinned glommio executor whose one task blocks in the shard's own ring. It
//! never yields, because nothing else lives on that executor: everything that can wake the shard
//! wakes it in the ring.

use std::time::Duration;

use glommio::{ExecutorJoinHandle, LocalExecutorBuilder, Placement};

use crate::config::StartError;
use crate::plane::{Berth, Started, serve};

/// Locked memory of an executor's own rings: its default is more than a service may lock.
pub(crate) const IO_MEMORY_BYTES: usize = 64 << 10;

/// How long a task may run before glommio looks at its rings again. As good as never: an executor
/// of glommio 0.9.0 whose timer fires between its last look at the rings and its tasks takes them
/// for done and parks with a task that is ready, for ever. With the usual milliseconds that was
/// seen on a busy machine; and nothing here needs the timer, because no task runs for long.
pub(crate) const PREEMPT: Duration = Duration::from_secs(60);

/// Starts the shard's executor.
pub(crate) fn start(berth: Berth, started: Started) -> Result<ExecutorJoinHandle<()>, StartError> {
    LocalExecutorBuilder::new(Placement::Fixed(berth.core))
        .name(&format!("shard-{}", berth.index))
        .io_memory(IO_MEMORY_BYTES)
        .preempt_timer(PREEMPT)
        .spawn(move || async move { serve(&berth, started) })
        .map_err(|error| StartError::Executor(error.to_string()))
}
