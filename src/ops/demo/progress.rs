//! Progress for people: one redrawn line on a terminal, a plain line each second elsewhere. With
//! `--json` it goes to standard error, so that standard output holds the one object alone.

use std::io::{self, IsTerminal, Write};
use std::time::Duration;

use miner::Stats;
use node::simulated::Control;

/// The figures of one moment.
pub(super) struct Facts {
    pub(super) connected: usize,
    pub(super) accepted: u64,
    pub(super) rejected: u64,
    /// Accepted by the node's own check.
    pub(super) blocks: u64,
    pub(super) height: u32,
    pub(super) p50_us: u64,
    pub(super) p99_us: u64,
}

impl Facts {
    pub(super) fn of(stats: &Stats, node: &Control) -> Facts {
        let chain = node.stats();
        Facts {
            connected: stats.connected,
            accepted: stats.accepted,
            rejected: stats.rejected_total(),
            blocks: chain.accepted,
            height: chain.height,
            p50_us: stats.p50_us,
            p99_us: stats.p99_us,
        }
    }
}

/// Where progress goes, and how.
pub(super) struct Progress {
    to_stderr: bool,
    redraws: bool,
    /// A redrawn line stands there without its end.
    open: bool,
}

impl Progress {
    pub(super) fn new(to_stderr: bool) -> Progress {
        let terminal =
            if to_stderr { io::stderr().is_terminal() } else { io::stdout().is_terminal() };
        Progress { to_stderr, redraws: terminal, open: false }
    }

    /// How often it is worth showing.
    pub(super) fn every(&self) -> Duration {
        Duration::from_millis(if self.redraws { 250 } else { 1_000 })
    }

    /// A line that stays.
    pub(super) fn line(&mut self, text: &str) {
        self.end();
        self.write(&format!("{text}\n"));
    }

    /// The figures.
    pub(super) fn show(&mut self, elapsed: Duration, end: Duration, facts: &Facts) {
        let text = format!(
            "{:>3}/{} s  {} miners  accepted {}  rejected {}  blocks {}  height {}  p50 {} µs  \
             p99 {} µs",
            elapsed.as_secs(),
            end.as_secs(),
            facts.connected,
            facts.accepted,
            facts.rejected,
            facts.blocks,
            facts.height,
            facts.p50_us,
            facts.p99_us,
        );
        if self.redraws {
            // To the line's beginning, and erase what stood there.
            self.write(&format!("\r\x1b[2K{text}"));
            self.open = true;
        } else {
            self.write(&format!("{text}\n"));
        }
    }

    /// Ends a redrawn line.
    pub(super) fn end(&mut self) {
        if std::mem::take(&mut self.open) {
            self.write("\n");
        }
    }

    fn write(&self, text: &str) {
        // Nobody reads: the demonstration goes on all the same, for its exit code.
        let _ = if self.to_stderr {
            let mut errors = io::stderr().lock();
            errors.write_all(text.as_bytes()).and_then(|()| errors.flush())
        } else {
            let mut output = io::stdout().lock();
            output.write_all(text.as_bytes()).and_then(|()| output.flush())
        };
    }
}
