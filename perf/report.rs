//! What one load run reports, as the generator prints it and the runner reads it.

use serde::{Deserialize, Serialize};

/// One run of the load generator against one server, or the sum of several generators.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
pub struct LoadReport {
    /// Connections held open.
    pub connections: u64,
    /// From the first connect to the last miner that has work, in microseconds.
    pub ramp_us: u64,
    /// Shares (or echoed lines) answered within the measured window.
    pub answered: u64,
    /// Of these, answered with anything but `true`.
    pub refused: u64,
    /// Shares that fell due in the measured window (open loop; 0 in a closed one).
    pub due: u64,
    /// The measured window, in microseconds.
    pub window_us: u64,
    /// The server's CPU in the window, in nanoseconds.
    pub server_cpu_ns: u64,
    /// The generator's CPU in the window, in nanoseconds.
    pub generator_cpu_ns: u64,
    /// The server's own memory at the end, in bytes.
    pub server_bytes: u64,
    /// How much of it came after the first connection, in bytes.
    pub server_growth_bytes: i64,
    /// Latency percentiles in microseconds; from the due time in an open loop.
    pub p50_us: u64,
    /// The 99th percentile, likewise.
    pub p99_us: u64,
    /// The largest, likewise.
    pub max_us: u64,
    /// Fan-outs seen: first to last byte over all connections, in microseconds each.
    pub fan_out_us: Vec<u64>,
    /// The server's CPU for each fan-out, in nanoseconds.
    pub fan_out_cpu_ns: Vec<u64>,
    /// Connections that the server closed.
    pub closed: u64,
    /// The bytes of one request and of one reply, so that the floor can be given the same.
    pub request_bytes: u64,
    /// See `request_bytes`.
    pub reply_bytes: u64,
    /// The bytes of one job announcement.
    pub job_bytes: u64,
}

impl LoadReport {
    /// The server's CPU per answered share, in nanoseconds.
    #[must_use]
    pub fn cpu_per_share_ns(&self) -> f64 {
        self.server_cpu_ns as f64 / self.answered.max(1) as f64
    }

    /// The bytes of one request, one reply and one job.
    #[must_use]
    pub fn bytes(&self) -> [u64; 3] {
        [self.request_bytes, self.reply_bytes, self.job_bytes]
    }

    /// How much of one core the server used, 1.0 being all of it.
    #[must_use]
    pub fn server_core(&self) -> f64 {
        self.server_cpu_ns as f64 / (self.window_us.max(1) as f64 * 1e3)
    }

    /// How much of one core the generator used.
    #[must_use]
    pub fn generator_core(&self) -> f64 {
        self.generator_cpu_ns as f64 / (self.window_us.max(1) as f64 * 1e3)
    }
}

/// The median with the smallest and the largest value beside it.
#[derive(Clone, Copy, Debug, Default, Serialize, Deserialize)]
pub struct Spread {
    /// The middle value; of an even number, the lower middle.
    pub median: f64,
    /// The smallest value.
    pub min: f64,
    /// The largest value.
    pub max: f64,
}

impl Spread {
    /// The spread of the values; all zero when there are none.
    #[must_use]
    pub fn of(values: impl IntoIterator<Item = f64>) -> Spread {
        let mut values: Vec<f64> = values.into_iter().collect();
        values.sort_by(f64::total_cmp);
        let Some((first, last)) = values.first().zip(values.last()) else {
            return Spread::default();
        };
        Spread { median: values[(values.len() - 1) / 2], min: *first, max: *last }
    }
}

impl std::fmt::Display for Spread {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let digits = if self.median < 10.0 { 2 } else { usize::from(self.median < 100.0) };
        write!(f, "{:.*} ({:.*}–{:.*})", digits, self.median, digits, self.min, digits, self.max)
    }
}
