//! The hash threads: take a slice, try its nonces, report what met the target.
//!
//! They run at the lowest priority, so that whatever they mine for is not slowed by them.

use std::sync::mpsc::SyncSender;
use std::thread;
use std::time::{Duration, Instant};

use pow::{Extranonce, Hash256, Header, Kernel, Share, Target};

use crate::connection::Found;
use crate::schedule::{SLICE_NONCES, Schedule, Slice};

/// Nonces between two looks at whether the work is still wanted: well below a millisecond.
const CHUNK_NONCES: u32 = 1 << 12;
const _: () = assert!(SLICE_NONCES.is_multiple_of(CHUNK_NONCES));
/// The weakest claim to a core that nice knows.
const NICE_LOWEST: i32 = 19;

/// Hashes for `schedule` until it stops. Finds go to `finds`, and `wake` is called for each.
pub(crate) fn run(
    kernel: Kernel,
    schedule: &Schedule,
    finds: &SyncSender<Found>,
    wake: &impl Fn(),
) {
    lower_priority();
    while let Some(slice) = schedule.next() {
        let done = mine(kernel, schedule, &slice, &mut |found| {
            schedule.found(&found);
            // The IO thread ends after the hash threads, so the way is open.
            let sent = finds.send(found).is_ok();
            wake();
            sent
        });
        schedule.hashed(done);
    }
}

// Returns how many nonces were tried.
fn mine(
    kernel: Kernel,
    schedule: &Schedule,
    slice: &Slice,
    report: &mut impl FnMut(Found) -> bool,
) -> u32 {
    let task = &slice.task;
    let extranonce = Extranonce::joined(&task.extranonce1, &slice.extranonce2)
        .expect("subscribe's answer was checked against the limit");
    let share = Share { extranonce, version: slice.version, ntime: task.job.ntime, nonce: 0 };
    let header = task.job.work.header(kernel, &share);
    let mut done = 0;
    while done < SLICE_NONCES && schedule.is_current(slice) {
        let mut nonces = Vec::new();
        let first = slice.first_nonce + done;
        scan(kernel, &header, first, CHUNK_NONCES, &task.target, &mut |nonce| nonces.push(nonce));
        done += CHUNK_NONCES;
        for nonce in nonces {
            let found = Found {
                connection: slice.connection,
                epoch: task.epoch,
                job: task.job.clone(),
                extranonce2: slice.extranonce2.clone(),
                version_bits: slice.version_bits,
                nonce,
            };
            if !report(found) || slice.one_is_enough {
                return done;
            }
        }
    }
    done
}

/// Tries `count` nonces from `first` on and names those whose hash meets the target.
fn scan(
    kernel: Kernel,
    header: &Header,
    first: u32,
    count: u32,
    target: &Target,
    found: &mut impl FnMut(u32),
) {
    let mut bytes = header.to_bytes();
    for nonce in first..=first + (count - 1) {
        bytes[76..].copy_from_slice(&nonce.to_le_bytes());
        if target.is_met_by(&kernel.sha256d(&bytes)) {
            found(nonce);
        }
    }
}

/// Measures what `threads` hash threads reach together, in hashes per second: with the same scan
/// and the same priority as mining itself.
pub fn measure_hash_rate(kernel: Kernel, threads: usize, time: Duration) -> f64 {
    let hasher = || {
        lower_priority();
        let header = Header {
            version: 0x2000_0000,
            prev_hash: Hash256::ZERO,
            merkle_root: Hash256::ZERO,
            ntime: 0,
            bits: 0,
            nonce: 0,
        };
        let impossible = Target::from_le_bytes([0; 32]);
        let started = Instant::now();
        let mut first = 0_u32;
        while started.elapsed() < time {
            scan(kernel, &header, first, CHUNK_NONCES, &impossible, &mut |_| {});
            first = first.wrapping_add(CHUNK_NONCES);
        }
        (first, started.elapsed())
    };
    let measured: Vec<(u32, Duration)> = thread::scope(|scope| {
        let running: Vec<_> = (0..threads.max(1)).map(|_| scope.spawn(hasher)).collect();
        running.into_iter().map(|one| one.join().expect("hashing does not panic")).collect()
    });
    measured.iter().map(|(hashes, time)| f64::from(*hashes) / time.as_secs_f64()).sum()
}

// Linux keeps the nice value per thread. Where it cannot be set we hash all the same.
pub(crate) fn lower_priority() {
    let _ = rustix::process::setpriority_process(None, NICE_LOWEST);
}
