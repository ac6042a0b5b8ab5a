//! Journald's native protocol: one datagram for each line, `NAME=value` for each field, so that
//! `journalctl WORKER=farm.a` finds what is said of a worker. A value ends with its line here, and
//! control characters in it become blanks: names come from miners.

use std::fmt::{self, Write};
use std::io;
use std::os::unix::net::UnixDatagram;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};

use tracing::field::{Field, Visit};
use tracing::{Event, Level, Subscriber};
use tracing_subscriber::fmt::format::Writer;
use tracing_subscriber::fmt::{FmtContext, FormatEvent, FormatFields};
use tracing_subscriber::registry::LookupSpan;

/// Where journald listens.
pub(crate) const SOCKET: &str = "/run/systemd/journal/socket";
/// Bytes of one value: a datagram of all fields stays far below what a socket takes.
const VALUE_BYTES_MAX: usize = 4_096;

/// Sends each line as a datagram. For the log's own thread: it waits for journald.
pub(crate) struct Journal {
    socket: UnixDatagram,
    path: PathBuf,
    undelivered: Arc<AtomicU64>,
}

impl Journal {
    pub(crate) fn open(path: &Path, undelivered: Arc<AtomicU64>) -> io::Result<Journal> {
        // Somebody must listen now; later on each line is sent with the path, because journald
        // makes a new socket when it starts again.
        UnixDatagram::unbound()?.connect(path)?;
        let socket = UnixDatagram::unbound()?;
        Ok(Journal { socket, path: path.to_owned(), undelivered })
    }
}

impl io::Write for Journal {
    fn write(&mut self, line: &[u8]) -> io::Result<usize> {
        if self.socket.send_to(line, &self.path).is_err() {
            self.undelivered.fetch_add(1, Relaxed);
        }
        Ok(line.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// Writes an event as a datagram's text.
pub(crate) struct JournalFormat;

impl<S, N> FormatEvent<S, N> for JournalFormat
where
    S: Subscriber + for<'l> LookupSpan<'l>,
    N: for<'w> FormatFields<'w> + 'static,
{
    fn format_event(
        &self,
        _: &FmtContext<'_, S, N>,
        mut writer: Writer<'_>,
        event: &Event<'_>,
    ) -> fmt::Result {
        let metadata = event.metadata();
        writeln!(writer, "PRIORITY={}", priority(*metadata.level()))?;
        writeln!(writer, "SYSLOG_IDENTIFIER=headframe")?;
        if let (Some(file), Some(line)) = (metadata.file(), metadata.line()) {
            writeln!(writer, "CODE_FILE={file}\nCODE_LINE={line}")?;
        }
        let mut fields = Fields { writer, result: Ok(()) };
        event.record(&mut fields);
        fields.result
    }
}

/// As syslog numbers them.
fn priority(level: Level) -> u8 {
    match level {
        Level::ERROR => 3,
        Level::WARN => 4,
        Level::INFO => 6,
        Level::DEBUG | Level::TRACE => 7,
    }
}

struct Fields<'w> {
    writer: Writer<'w>,
    result: fmt::Result,
}

impl Fields<'_> {
    fn field(&mut self, field: &Field, value: fmt::Arguments<'_>) -> fmt::Result {
        // Journald takes capitals, digits and underscores; one in front is its own.
        for letter in field.name().trim_start_matches(['_', '.']).chars() {
            let kept = letter.is_ascii_alphanumeric();
            self.writer.write_char(if kept { letter.to_ascii_uppercase() } else { '_' })?;
        }
        self.writer.write_char('=')?;
        let mut value_of = Value { writer: &mut self.writer, left: VALUE_BYTES_MAX };
        value_of.write_fmt(value)?;
        self.writer.write_char('\n')
    }
}

impl Visit for Fields<'_> {
    fn record_str(&mut self, field: &Field, value: &str) {
        self.result = self.result.and_then(|()| self.field(field, format_args!("{value}")));
    }

    fn record_debug(&mut self, field: &Field, value: &dyn fmt::Debug) {
        self.result = self.result.and_then(|()| self.field(field, format_args!("{value:?}")));
    }
}

/// Takes a bounded value without control characters.
struct Value<'v, 'w> {
    writer: &'v mut Writer<'w>,
    left: usize,
}

impl Write for Value<'_, '_> {
    fn write_str(&mut self, text: &str) -> fmt::Result {
        for letter in text.chars() {
            self.left = self.left.saturating_sub(letter.len_utf8());
            if self.left == 0 {
                return Ok(());
            }
            self.writer.write_char(if letter.is_control() { ' ' } else { letter })?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use tracing_subscriber::Layer;
    use tracing_subscriber::layer::SubscriberExt;

    use super::*;

    /// A journald that listens in a folder of its own, and what is sent to it while `log` runs.
    fn received(log: impl FnOnce()) -> Vec<String> {
        let folder = tempfile::tempdir().expect("a folder");
        let path = folder.path().join("socket");
        let journald = UnixDatagram::bind(&path).expect("bound");
        let undelivered = Arc::<AtomicU64>::default();
        let journal = Journal::open(&path, undelivered.clone()).expect("it listens");
        let (writer, guard) = super::super::queue(journal);
        let lines = tracing_subscriber::fmt::layer().with_writer(writer);
        let lines = lines.event_format(JournalFormat).boxed();
        tracing::subscriber::with_default(tracing_subscriber::registry().with(lines), log);
        drop(guard);
        assert_eq!(undelivered.load(Relaxed), 0);
        journald.set_read_timeout(Some(Duration::from_millis(100))).expect("a time-out");
        let mut datagrams = Vec::new();
        let mut buffer = [0; 65_536];
        while let Ok(length) = journald.recv(&mut buffer) {
            let text = std::str::from_utf8(&buffer[..length]).expect("text");
            datagrams.push(text.to_owned());
        }
        datagrams
    }

    #[test]
    fn each_field_is_one_of_the_journals() {
        let datagrams = received(|| {
            tracing::warn!(worker = "farm.a", height = 9, node = %"10.0.0.1", "block {}", "found");
        });
        assert_eq!(datagrams.len(), 1);
        let lines: Vec<&str> = datagrams[0].lines().collect();
        for wanted in [
            "PRIORITY=4",
            "SYSLOG_IDENTIFIER=headframe",
            "CODE_FILE=src/ops/logs/journal.rs",
            "MESSAGE=block found",
            "WORKER=farm.a",
            "HEIGHT=9",
            "NODE=10.0.0.1",
        ] {
            assert!(lines.contains(&wanted), "{wanted} is missing in {lines:?}");
        }
    }

    #[test]
    fn a_hostile_name_stays_in_its_field_and_is_cut() {
        let name = format!("a\nPRIORITY=0\r\u{1b}[31m\0{}", "π".repeat(50_000));
        let datagrams = received(|| tracing::info!(worker = &*name, %name, "miner"));
        let lines: Vec<&str> = datagrams[0].lines().collect();
        assert!(!lines.contains(&"PRIORITY=0"), "{lines:?}");
        let worker = lines.iter().find_map(|line| line.strip_prefix("WORKER=")).expect("a field");
        assert!(worker.starts_with("a PRIORITY=0  [31m ππ"), "{}", &worker[..40]);
        assert!(worker.len() <= VALUE_BYTES_MAX, "{}", worker.len());
        assert!(!datagrams[0].contains(['\u{1b}', '\0', '\r']));
    }

    #[test]
    fn a_journald_that_is_away_is_counted_and_one_that_is_back_is_used() {
        use std::io::Write as _;
        let folder = tempfile::tempdir().expect("a folder");
        let path = folder.path().join("socket");
        let undelivered = Arc::<AtomicU64>::default();
        assert!(Journal::open(&path, undelivered.clone()).is_err(), "nobody listens");
        let first = UnixDatagram::bind(&path).expect("bound");
        let mut journal = Journal::open(&path, undelivered.clone()).expect("it listens");
        drop(first);
        journal.write_all(b"MESSAGE=lost\n").expect("counted, no fault");
        assert_eq!(undelivered.load(Relaxed), 1);
        std::fs::remove_file(&path).expect("removed");
        let second = UnixDatagram::bind(&path).expect("bound");
        journal.write_all(b"MESSAGE=heard\n").expect("sent");
        let mut buffer = [0; 64];
        let length = second.recv(&mut buffer).expect("a datagram");
        assert_eq!(&buffer[..length], b"MESSAGE=heard\n");
    }
}
