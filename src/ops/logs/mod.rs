//! Logs: text or JSON lines on standard error, or journald's own fields, written by a thread of
//! their own behind a bounded queue. Whoever logs never waits: what does not fit is dropped and
//! counted, and what says the same of the same peer again and again is held back and counted
//! (`limit`). Journald is written to in its native protocol (`journal`) behind the same queue; the
//! crate for that sends from whichever thread logs, and no shard may wait for journald.

mod journal;
mod limit;

use std::io::{self, IsTerminal};
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};

use tracing_appender::non_blocking::{ErrorCounter, NonBlocking, NonBlockingBuilder, WorkerGuard};
use tracing_subscriber::Layer;
use tracing_subscriber::filter::LevelFilter;
use tracing_subscriber::layer::SubscriberExt;
use tracing_subscriber::registry::Registry;
use tracing_subscriber::util::{SubscriberInitExt, TryInitError};

use self::journal::{Journal, JournalFormat};
use self::limit::{HoldBack, Limiter};
use crate::config::{Format, Log};
use crate::exit::Stop;

/// Lines that may wait for the writer: about a megabyte, and far more than a healthy farm says
/// in a second.
const LINES_WAITING_MAX: usize = 8_192;

/// Keeps the writer's thread; dropping it writes what is still waiting.
pub struct Logs {
    counts: LogCounts,
    _guard: WorkerGuard,
}

impl Logs {
    /// Starts the writer and makes it the destination of every log line of this process.
    pub fn start(log: Log) -> Result<Logs, Stop> {
        let undelivered = Arc::<AtomicU64>::default();
        let (writer, guard) = match log.format {
            Format::Text | Format::Json => queue(io::stderr()),
            Format::Journald => {
                let socket = Path::new(journal::SOCKET);
                let journal = Journal::open(socket, undelivered.clone());
                queue(journal.map_err(|error| {
                    Stop::unavailable(format!(
                        "[log] format = \"journald\": {} cannot be reached: {error}; use \"text\" \
                         or \"json\" where there is no journald",
                        socket.display()
                    ))
                })?)
            }
        };
        let limiter = Arc::<Limiter>::default();
        let counts = LogCounts { lost: writer.error_counter(), undelivered, limiter };
        let started = subscribe(log, writer, &counts.limiter);
        started.map_err(|error| Stop::internal(format!("logs cannot start: {error}")))?;
        Ok(Logs { counts, _guard: guard })
    }

    /// Counts the lines that nobody will read.
    pub fn counts(&self) -> LogCounts {
        self.counts.clone()
    }
}

fn queue<W: io::Write + Send + 'static>(to: W) -> (NonBlocking, WorkerGuard) {
    NonBlockingBuilder::default()
        .buffered_lines_limit(LINES_WAITING_MAX)
        .lossy(true)
        .thread_name("log")
        .finish(to)
}

fn subscribe(log: Log, to: NonBlocking, limiter: &Arc<Limiter>) -> Result<(), TryInitError> {
    let lines = tracing_subscriber::fmt::layer::<Registry>().with_writer(to);
    let text = lines.with_ansi(log.format == Format::Text && io::stderr().is_terminal());
    let text = text.with_target(false);
    let format = match log.format {
        Format::Text => text.boxed(),
        Format::Json => text.json().flatten_event(true).boxed(),
        Format::Journald => text.event_format(JournalFormat).boxed(),
    };
    tracing_subscriber::registry()
        .with(format)
        .with(HoldBack(limiter.clone()))
        .with(LevelFilter::from_level(log.level))
        .try_init()
}

/// A view on the number of lines that nobody will read.
#[derive(Clone, Debug)]
pub struct LogCounts {
    lost: ErrorCounter,
    undelivered: Arc<AtomicU64>,
    limiter: Arc<Limiter>,
}

impl LogCounts {
    /// Lines dropped since the start, because the writer was behind or journald took none.
    pub fn lost(&self) -> u64 {
        self.lost.dropped_lines() as u64 + self.undelivered.load(Relaxed)
    }

    /// Lines held back since the start, because others had said the same of the same peer.
    pub fn suppressed(&self) -> u64 {
        self.limiter.suppressed()
    }

    /// Says how much was held back in the minutes that have ended. For once a second.
    pub fn tell(&self) {
        for held in self.limiter.ended(std::time::Instant::now()) {
            let limit::Held { like, suppressed } = held;
            tracing::warn!(suppressed, like, "lines were held back: others said the same");
        }
    }
}
