//! The bare host: a pinned thread that runs the data plane. For tests and for comparison with
//! `host_glommio.rs`; the plane is the same.

use std::thread::{self, JoinHandle};

use crate::config::StartError;
use crate::placement::pin;
use crate::plane::{Berth, Started, serve};

/// Starts the shard's thread.
pub(crate) fn start(berth: Berth, started: Started) -> Result<JoinHandle<()>, StartError> {
    let name = format!("shard-{}", berth.index);
    let run = move || match pin(berth.core) {
        Ok(()) => serve(&berth, started),
        // The engine has given up waiting if nobody hears it.
        Err(error) => drop(started.send(Err(error))),
    };
    let spawned = thread::Builder::new().name(name).spawn(run);
    spawned.map_err(|error| StartError::Os { what: "starting a shard's thread", error })
}
