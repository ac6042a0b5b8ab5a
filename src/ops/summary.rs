//! One line a minute that says how the farm fares: hash rate, shares, miners, the age of the job.
//! Whoever reads the log sees at a glance that it mines, and since when it does not.

use farm::Status;
use session::Tick;

/// Between two lines, in µs.
const EVERY_MICROS: u64 = 60_000_000;

/// What has been told already.
#[derive(Debug)]
pub(crate) struct Summary {
    due: Tick,
    accepted: u64,
    rejected: u64,
}

/// The figures of one line.
#[derive(Debug, PartialEq)]
struct Figures {
    hashes_per_second: f64,
    /// Shares since the last line.
    accepted: u64,
    rejected: u64,
    miners: u64,
    /// `None` before the first job.
    job_age_seconds: Option<f64>,
}

impl Summary {
    /// The first line comes a minute from `now`.
    pub(crate) fn new(now: Tick) -> Summary {
        Summary { due: now.plus_micros(EVERY_MICROS), accepted: 0, rejected: 0 }
    }

    /// Says the line when it is due.
    pub(crate) fn tell(&mut self, now: Tick, status: &Status) {
        let Some(figures) = self.figures(now, status) else { return };
        let text = figures.text();
        let Figures { hashes_per_second, accepted, rejected, miners, job_age_seconds } = figures;
        tracing::info!(hashes_per_second, accepted, rejected, miners, job_age_seconds, "{text}");
    }

    fn figures(&mut self, now: Tick, status: &Status) -> Option<Figures> {
        if now < self.due {
            return None;
        }
        // From now on, not from when it was due: a machine that slept has no minutes to make good.
        self.due = now.plus_micros(EVERY_MICROS);
        let (accepted, rejected) = (status.totals.accepted, status.totals.rejected_all());
        let age = status.job.as_ref().map(|job| now.since(job.received) as f64 / 1e6);
        let figures = Figures {
            hashes_per_second: status.hashes_per_second,
            accepted: accepted.saturating_sub(self.accepted),
            rejected: rejected.saturating_sub(self.rejected),
            miners: status.connections,
            job_age_seconds: age,
        };
        (self.accepted, self.rejected) = (accepted, rejected);
        Some(figures)
    }
}

impl Figures {
    fn text(&self) -> String {
        let shares = self.accepted + self.rejected;
        let part = if shares > 0 { 100.0 * self.rejected as f64 / shares as f64 } else { 0.0 };
        let job = match self.job_age_seconds {
            Some(age) => format!("job {age:.0} s old"),
            None => "no job yet".to_owned(),
        };
        format!(
            "{}, {} shares accepted, {} rejected ({part:.1} %) in a minute, {} miners, {job}",
            rate(self.hashes_per_second),
            self.accepted,
            self.rejected,
            self.miners,
        )
    }
}

/// A hash rate as people say it.
pub(crate) fn rate(hashes_per_second: f64) -> String {
    const UNITS: [(f64, &str); 6] = [
        (1e18, "EH/s"),
        (1e15, "PH/s"),
        (1e12, "TH/s"),
        (1e9, "GH/s"),
        (1e6, "MH/s"),
        (1e3, "kH/s"),
    ];
    let unit = UNITS.into_iter().find(|(unit, _)| hashes_per_second >= *unit);
    let (unit, name) = unit.unwrap_or((1.0, "H/s"));
    format!("{:.2} {name}", hashes_per_second / unit)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::samples;

    #[test]
    fn a_line_a_minute_tells_what_the_minute_brought() {
        let mut status = samples::status();
        let start = Tick(5_000_000);
        let after = |seconds: u64| start.plus_micros(seconds * 1_000_000);
        let mut summary = Summary::new(start);
        assert_eq!(summary.figures(after(59), &status), None);
        status.totals.accepted = 990;
        status.totals.rejected[0] = 10;
        status.hashes_per_second = 1.234e15;
        status.connections = 42;
        let figures = summary.figures(after(60), &status).expect("due");
        assert_eq!(
            figures.text(),
            "1.23 PH/s, 990 shares accepted, 10 rejected (1.0 %) in a minute, 42 miners, no job yet"
        );
        assert_eq!(summary.figures(after(119), &status), None);
        status.totals.accepted = 1_000;
        status.job = Some(samples::job(after(107)));
        let figures = summary.figures(after(3_600), &status).expect("due, once");
        assert_eq!((figures.accepted, figures.rejected), (10, 0));
        assert_eq!(figures.job_age_seconds, Some(3_493.0));
        assert_eq!(summary.figures(after(3_601), &status), None, "no hour is made good");
    }

    #[test]
    fn a_rate_has_a_unit_that_suits_it() {
        assert_eq!(rate(0.0), "0.00 H/s");
        assert_eq!(rate(999.0), "999.00 H/s");
        assert_eq!(rate(250e12), "250.00 TH/s");
        assert_eq!(rate(5e21), "5000.00 EH/s");
    }
}
