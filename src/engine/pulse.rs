//! The heartbeat of the coordinator: a thread that rings its bell once a second, whatever happens
//! on any core, and writes its rescue counter (`coordinator.rs`). Nothing else runs here.

use std::sync::{Arc, Condvar, Mutex, PoisonError};
use std::thread::{self, JoinHandle};
use std::time::Duration;

use crate::config::StartError;
use crate::lanes::Bell;

/// The time between two beats.
const BEAT: Duration = Duration::from_secs(1);

pub(crate) struct Pulse {
    stop: Arc<(Mutex<bool>, Condvar)>,
    thread: Option<JoinHandle<()>>,
}

impl Pulse {
    pub(crate) fn start(bell: Arc<Bell>, rescue: Bell) -> Result<Pulse, StartError> {
        let stop = Arc::new((Mutex::new(false), Condvar::new()));
        let seen = stop.clone();
        let beat = move || {
            let (stopped, changed) = &*seen;
            let mut guard = stopped.lock().unwrap_or_else(PoisonError::into_inner);
            while !*guard {
                bell.ring_always();
                rescue.ring_always();
                let waited = changed.wait_timeout(guard, BEAT);
                guard = waited.unwrap_or_else(PoisonError::into_inner).0;
            }
        };
        let thread = thread::Builder::new()
            .name("pulse".to_owned())
            .spawn(beat)
            .map_err(|error| StartError::Os { what: "starting the pulse's thread", error })?;
        Ok(Pulse { stop, thread: Some(thread) })
    }
}

impl Drop for Pulse {
    fn drop(&mut self) {
        *self.stop.0.lock().unwrap_or_else(PoisonError::into_inner) = true;
        self.stop.1.notify_all();
        if let Some(thread) = self.thread.take() {
            // It cannot panic; and if it did, there is nothing left to beat for.
            let _ = thread.join();
        }
    }
}
