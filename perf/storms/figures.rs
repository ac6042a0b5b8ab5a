//! What a row says: a figure beside its budget; and percentiles of what miners noticed.

use std::fmt;
use std::time::Duration;

/// A p99 above this without any storm is that of a machine that has other things to do: nothing can
/// be said of a figure beside it.
pub(crate) const QUIET_US_MAX: u32 = 20_000;

/// Of fewer answers the p99 is only the slowest.
const ANSWERS_MIN: usize = 200;

/// One line of the table.
pub(crate) struct Figure {
    /// What was measured.
    pub(crate) what: String,
    /// The value, with its unit.
    pub(crate) value: String,
    /// What it may be; empty where it is only recorded.
    pub(crate) budget: String,
    /// Whether it is within the budget, where there is one.
    pub(crate) met: Option<bool>,
    /// The value without the storm, where the budget is relative to it.
    pub(crate) quiet: String,
    /// What else is worth knowing.
    pub(crate) note: String,
}

/// A drawing for the folder of results.
pub(crate) struct Picture {
    /// The file's name without its ending.
    pub(crate) name: String,
    /// The drawing.
    pub(crate) svg: String,
}

/// Percentiles of a window, in µs.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Latency {
    /// Answers in the window.
    pub(crate) count: usize,
    /// The median.
    pub(crate) p50_us: u32,
    /// Of a hundred, the slowest but one.
    pub(crate) p99_us: u32,
    /// The slowest.
    pub(crate) max_us: u32,
}

impl Latency {
    /// Of the answers that came in a window, by (moment in ns, latency in µs).
    pub(crate) fn of(samples: &[(u64, u32)], from_ns: u64, to_ns: u64) -> Latency {
        let within = samples.iter().filter(|(at, _)| (from_ns..to_ns).contains(at));
        let mut sorted: Vec<u32> = within.map(|(_, latency)| *latency).collect();
        sorted.sort_unstable();
        let at = |part: f64| {
            let rank = (part * sorted.len() as f64).ceil() as usize;
            sorted.get(rank.saturating_sub(1)).copied().unwrap_or(0)
        };
        Latency { count: sorted.len(), p50_us: at(0.5), p99_us: at(0.99), max_us: at(1.0) }
    }
}

impl Latency {
    /// Whether a window without a storm is fit to be compared with.
    pub(crate) fn is_quiet(&self) -> bool {
        self.count > 0 && self.p99_us <= QUIET_US_MAX
    }
}

impl fmt::Display for Latency {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let ms = |us: u32| f64::from(us) / 1e3;
        let (p50, p99, max) = (ms(self.p50_us), ms(self.p99_us), ms(self.max_us));
        write!(f, "p50 {p50:.2}, p99 {p99:.2}, max {max:.2} ms of {}", self.count)
    }
}

impl Figure {
    /// A value that is only recorded.
    pub(crate) fn recorded(what: impl Into<String>, value: impl Into<String>) -> Figure {
        Figure {
            what: what.into(),
            value: value.into(),
            budget: String::new(),
            met: None,
            quiet: String::new(),
            note: String::new(),
        }
    }

    /// A time that has a limit.
    pub(crate) fn time(what: impl Into<String>, value: Duration, limit: Duration) -> Figure {
        let budget = format!("≤ {}", seconds(limit));
        let met = Some(value <= limit);
        Figure { budget, met, ..Figure::recorded(what, seconds(value)) }
    }

    /// A number that has to be as another one.
    pub(crate) fn holds(what: impl Into<String>, value: String, budget: &str, met: bool) -> Figure {
        let budget = budget.to_owned();
        Figure { budget, met: Some(met), ..Figure::recorded(what, value) }
    }

    /// The p99 of miners beside that of the quiet window; `times` is what it may be of that.
    pub(crate) fn p99(
        what: impl Into<String>,
        storm: Latency,
        quiet: Latency,
        times: Option<f64>,
    ) -> Figure {
        let ratio = f64::from(storm.p99_us) / f64::from(quiet.p99_us.max(1));
        let value = format!("{:.2} ms, {ratio:.2} ×", f64::from(storm.p99_us) / 1e3);
        let is_quiet = quiet.is_quiet();
        let enough = storm.count >= ANSWERS_MIN;
        let doubt = if is_quiet { "" } else { "**the machine was not quiet**; " };
        Figure {
            budget: times.map_or(String::new(), |times| format!("≤ {times} × quiet")),
            met: times.filter(|_| is_quiet && enough).map(|times| ratio <= times),
            quiet: format!("{:.2} ms", f64::from(quiet.p99_us) / 1e3),
            note: format!("{doubt}{storm}; quiet {quiet}"),
            ..Figure::recorded(what, value)
        }
    }

    /// With a remark.
    pub(crate) fn noting(self, note: impl Into<String>) -> Figure {
        Figure { note: note.into(), ..self }
    }
}

impl fmt::Display for Figure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let met = met(self.met);
        let Figure { what, value, budget, quiet, note, .. } = self;
        write!(f, "{what} | {value} | {budget} | {met} | {quiet} | {note}")
    }
}

/// How the table says it.
fn met(met: Option<bool>) -> &'static str {
    match met {
        Some(true) => "met",
        Some(false) => "**missed**",
        None => "recorded",
    }
}

/// A time in the unit that suits it.
pub(crate) fn seconds(time: Duration) -> String {
    match time.as_secs_f64() {
        short if short < 1.0 => format!("{:.0} ms", short * 1e3),
        long => format!("{long:.2} s"),
    }
}
