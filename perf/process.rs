//! What another process used, read from `/proc`: CPU over all its threads, and its own memory.

use std::fs;
use std::io;

use rustix::time::{ClockId, clock_gettime};

/// A reading of one process.
#[derive(Clone, Copy, Debug, Default)]
pub struct Usage {
    /// CPU time of all live threads, in nanoseconds.
    pub cpu_ns: u64,
    /// Resident memory of its own, in bytes: heap, stacks, rings; not the program's text, of which
    /// the first miners make the kernel load more.
    pub anonymous_bytes: u64,
}

/// Reads what the process has used since it started.
///
/// # Errors
/// When the process is gone.
pub fn usage(pid: u32) -> io::Result<Usage> {
    let mut cpu_ns = 0;
    for task in fs::read_dir(format!("/proc/{pid}/task"))? {
        // A thread may end between the listing and the reading.
        let Ok(text) = fs::read_to_string(task?.path().join("schedstat")) else { continue };
        cpu_ns += text.split(' ').next().and_then(|ns| ns.parse::<u64>().ok()).unwrap_or(0);
    }
    let status = fs::read_to_string(format!("/proc/{pid}/status"))?;
    let line = status.lines().find_map(|line| line.strip_prefix("RssAnon:")).unwrap_or("0 kB");
    let kib: u64 = line.trim().trim_end_matches(" kB").parse().unwrap_or(0);
    Ok(Usage { cpu_ns, anonymous_bytes: kib * 1_024 })
}

/// The monotonic clock, in nanoseconds: the same for every process of this machine.
#[must_use]
pub fn monotonic_ns() -> u64 {
    let now = clock_gettime(ClockId::Monotonic);
    now.tv_sec as u64 * 1_000_000_000 + now.tv_nsec as u64
}

/// The processor's name and the hashing extensions it has, for the head of a table.
#[must_use]
pub fn processor() -> String {
    let wanted = ["sha_ni", "avx2", "avx512f", "avx512vl", "vaes"];
    let found: Vec<&str> = wanted.into_iter().filter(|flag| processor_has(flag)).collect();
    let [name, family, model] = ["model name", "cpu family", "model\t"].map(processor_field);
    format!("{name} (family {family} model {model}; {})", found.join(" "))
}

/// Whether the processor has an extension, by the kernel's word for it.
#[must_use]
pub fn processor_has(flag: &str) -> bool {
    processor_field("flags").split(' ').any(|known| known == flag)
}

/// What the kernel says of the first processor under a name.
fn processor_field(name: &str) -> String {
    let text = fs::read_to_string("/proc/cpuinfo").unwrap_or_default();
    let line = text.lines().find(|line| line.starts_with(name));
    line.and_then(|line| line.split(": ").nth(1)).unwrap_or("?").to_owned()
}

/// The kernel's release, for the head of a table.
#[must_use]
pub fn kernel_release() -> String {
    let text = fs::read_to_string("/proc/sys/kernel/osrelease").unwrap_or_default();
    text.trim().to_owned()
}
