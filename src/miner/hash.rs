//! The hash threads: take a slice, try its nonces, report what met the target.
//!
//! They run at the lowest priority, so that whatever they mine for is not slowed by them.

use std::ops::Range;
use std::sync::mpsc::SyncSender;
use std::thread;
use std::time::{Duration, Instant};

use pow::{Extranonce, Kernel, Share, Target};

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
    let header = task.job.work.header(kernel, &share).to_bytes();
    let mut done = 0;
    while done < SLICE_NONCES && schedule.is_current(slice) {
        let mut nonces = Vec::new();
        let first = slice.first_nonce + done;
        kernel.scan_header(&header, chunk(first), &task.target, &mut |nonce, _| nonces.push(nonce));
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

/// Measures what `threads` hash threads reach together, in hashes per second: with the same scan
/// and the same priority as mining itself.
pub fn measure_hash_rate(kernel: Kernel, threads: usize, time: Duration) -> f64 {
    let hasher = || {
        lower_priority();
        let header = [0; pow::header::HEADER_BYTES];
        let impossible = Target::from_le_bytes([0; 32]);
        let started = Instant::now();
        let mut first = 0_u32;
        let mut hashes = 0_u64;
        while started.elapsed() < time {
            kernel.scan_header(&header, chunk(first), &impossible, &mut |_, _| {});
            first = first.wrapping_add(CHUNK_NONCES);
            hashes += u64::from(CHUNK_NONCES);
        }
        hashes as f64 / started.elapsed().as_secs_f64()
    };
    thread::scope(|scope| {
        let running: Vec<_> = (0..threads.max(1)).map(|_| scope.spawn(hasher)).collect();
        running.into_iter().map(|one| one.join().expect("hashing does not panic")).sum()
    })
}

// The very last nonce of all is left out: a half-open range of u32 cannot hold it.
fn chunk(first: u32) -> Range<u32> {
    first..first.saturating_add(CHUNK_NONCES)
}

// Linux keeps the nice value per thread. Where it cannot be set we hash all the same.
pub(crate) fn lower_priority() {
    let _ = rustix::process::setpriority_process(None, NICE_LOWEST);
}
