//! The engine's only `unsafe`: descriptors that change hands by their numbers. An event counter
//! becomes a file of glommio, so that the coordinator's executor can await its wakes
//! (`coordinator.rs`); what the service manager passed becomes ours (`kept.rs`).
#![allow(unsafe_code)]

use std::io;
use std::os::fd::{FromRawFd, IntoRawFd, OwnedFd};
use std::sync::atomic::{AtomicBool, Ordering};

use glommio::io::BufferedFile;

/// Hands a descriptor over to glommio. Must be called on an executor's thread.
pub(crate) fn as_file(descriptor: OwnedFd) -> BufferedFile {
    // SAFETY: the descriptor is open, ours alone, and given away by `into_raw_fd`; the file closes
    // it.
    unsafe { BufferedFile::from_raw_fd(descriptor.into_raw_fd()) }
}

/// Takes over, once in the life of the process, the descriptors that the service manager passed to
/// it, with their names. Later calls find none.
///
/// # Errors
/// Where the environment speaks of descriptors that are not there, or names too few or too many.
pub(crate) fn passed_by_manager() -> io::Result<Vec<(String, OwnedFd)>> {
    static TAKEN: AtomicBool = AtomicBool::new(false);
    if TAKEN.swap(true, Ordering::AcqRel) {
        return Ok(Vec::new());
    }
    let passed = sd_notify::listen_fds_with_names()?;
    // SAFETY: the environment says that these are for this very process and for nothing else in
    // it, sd-notify found all of them open, and nobody takes them a second time.
    let own = |descriptor| unsafe { OwnedFd::from_raw_fd(descriptor) };
    Ok(passed.map(|(descriptor, name)| (name, own(descriptor))).collect())
}

#[cfg(test)]
mod tests {
    use glommio::LocalExecutorBuilder;
    use rustix::event::{EventfdFlags, eventfd};

    use super::*;

    #[test]
    fn a_counter_is_read_through_its_file() {
        let counter = eventfd(3, EventfdFlags::CLOEXEC).expect("an eventfd");
        let writer = counter.try_clone().expect("a second handle");
        let read = LocalExecutorBuilder::default()
            .io_memory(64 << 10)
            .spawn(move || async move {
                let file = as_file(counter);
                let mut sums = Vec::new();
                for _ in 0..2 {
                    let bytes = file.read_at(0, 8).await.expect("a counter can be read");
                    sums.push(u64::from_ne_bytes(bytes[..].try_into().expect("eight bytes")));
                    rustix::io::write(&writer, &9_u64.to_ne_bytes()).expect("far from full");
                }
                file.close().await.expect("it was open");
                sums
            })
            .expect("an executor")
            .join()
            .expect("no panic");
        assert_eq!(read, [3, 9]);
    }
}
