//! What `[alerts]` means: who hears of blocks and of silent miners, and when a miner is silent.

use std::fmt;
use std::path::{Path, PathBuf};

use ureq::http::Uri;

use super::value::Reader;

/// A power cut that ends within ten minutes is in the metrics and wakes nobody.
const SILENT_MINUTES: f64 = 10.0;
/// Three seconds serve tests; no machine starts again within a minute.
const SILENT_MINUTES_RANGE: std::ops::RangeInclusive<f64> = 0.05..=1_440.0;

/// `[alerts]`.
#[derive(Clone, Debug, PartialEq)]
pub struct Alerts {
    /// Gets each alert as a POST.
    pub webhook: Option<Webhook>,
    /// Is run for each alert: an absolute path, no arguments.
    pub command: Option<PathBuf>,
    /// Without a connection, or without a share although there should be one, in minutes.
    pub silent_minutes: f64,
}

/// A URL. Users, passwords and tokens stand in such URLs: it is never printed.
#[derive(Clone, PartialEq, Eq)]
pub struct Webhook(String);

impl Webhook {
    /// The URL, for the one who sends.
    pub(crate) fn url(&self) -> &str {
        &self.0
    }

    #[cfg(test)]
    pub(crate) fn of(url: String) -> Webhook {
        Webhook(url)
    }
}

impl fmt::Debug for Webhook {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        out.write_str("(a webhook)")
    }
}

/// Reads `[alerts]`.
pub(super) fn alerts(reader: &mut Reader<'_, '_>) -> Alerts {
    let webhook = webhook(reader);
    let command = command(reader);
    let silent_minutes = reader.number("silent_minutes", SILENT_MINUTES_RANGE);
    Alerts { webhook, command, silent_minutes: silent_minutes.unwrap_or(SILENT_MINUTES) }
}

/// No finding repeats the URL.
fn webhook(reader: &mut Reader<'_, '_>) -> Option<Webhook> {
    const REMEDY: &str = "write webhook = \"http://HOST:PORT/PATH\"";
    let given = reader.text("webhook")?;
    let uri = given.parse::<Uri>().ok();
    match uri.as_ref().and_then(Uri::scheme_str) {
        Some("http") => {}
        Some("https") => {
            let what = "webhook cannot be https: this version speaks no TLS";
            let remedy = "use http to a relay on this machine, or a command that calls curl";
            reader.fault("webhook", what, remedy);
            return None;
        }
        _ => {
            reader.fault("webhook", "webhook is no http:// URL", REMEDY);
            return None;
        }
    }
    if uri.as_ref().and_then(Uri::host).is_none_or(str::is_empty) {
        reader.fault("webhook", "webhook names no host", REMEDY);
        return None;
    }
    Some(Webhook(given))
}

fn command(reader: &mut Reader<'_, '_>) -> Option<PathBuf> {
    let given = reader.text("command")?;
    if !Path::new(&given).is_absolute() {
        let what = format!("command \"{given}\" is no absolute path");
        let remedy = "write the path of one program; arguments belong into a script";
        reader.fault("command", what, remedy);
        return None;
    }
    Some(PathBuf::from(given))
}
