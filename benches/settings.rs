//! Criterion's settings for every bench here: short, because ratios within one run are what counts.

use std::time::Duration;

use criterion::Criterion;

/// Each function is measured for so many milliseconds, after a quarter of that to warm up.
pub(crate) fn short(measured_ms: u64) -> Criterion {
    let measured = Duration::from_millis(measured_ms);
    Criterion::default()
        .warm_up_time(measured / 4)
        .measurement_time(measured)
        .sample_size(30)
        .without_plots()
}
