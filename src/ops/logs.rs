//! Logs: text or JSON lines on standard error, written by a thread of their own behind a bounded
//! queue. Whoever logs never waits: what does not fit is dropped and counted.

use std::io::{self, IsTerminal};

use tracing_appender::non_blocking::{ErrorCounter, NonBlockingBuilder, WorkerGuard};
use tracing_subscriber::filter::LevelFilter;
use tracing_subscriber::fmt::writer::BoxMakeWriter;

use crate::config::{Format, Log};
use crate::exit::Stop;

/// Lines that may wait for the writer: about a megabyte, and far more than a healthy farm says
/// in a second.
const LINES_WAITING_MAX: usize = 8_192;

/// Keeps the writer's thread; dropping it writes what is still waiting.
pub struct Logs {
    lost: ErrorCounter,
    _guard: WorkerGuard,
}

impl Logs {
    /// Starts the writer and makes it the destination of every log line of this process.
    pub fn start(log: Log) -> Result<Logs, Stop> {
        let (writer, guard) = NonBlockingBuilder::default()
            .buffered_lines_limit(LINES_WAITING_MAX)
            .lossy(true)
            .thread_name("log")
            .finish(io::stderr());
        let lost = writer.error_counter();
        let builder = tracing_subscriber::fmt()
            .with_max_level(LevelFilter::from_level(log.level))
            .with_ansi(io::stderr().is_terminal())
            .with_target(false)
            .with_writer(BoxMakeWriter::new(writer));
        let started = match log.format {
            Format::Text => builder.try_init(),
            Format::Json => builder.json().flatten_event(true).try_init(),
        };
        started.map_err(|error| Stop::internal(format!("logs cannot start: {error}")))?;
        Ok(Logs { lost, _guard: guard })
    }

    /// Counts the lines that were dropped.
    pub fn lost(&self) -> Lost {
        Lost(self.lost.clone())
    }
}

/// A view on the number of lines that were dropped since the start.
#[derive(Clone, Debug)]
pub struct Lost(ErrorCounter);

impl Lost {
    /// Lines dropped since the start.
    pub fn lines(&self) -> u64 {
        self.0.dropped_lines() as u64
    }
}
