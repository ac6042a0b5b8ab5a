//! The thread that delivers what waits for one way: a POST of JSON, or a command with the JSON on
//! its standard input. Every try has a time limit, and tries are few; a receiver that is gone costs
//! this thread its time and nobody else anything. Neither URL nor body gets into the log: both may
//! hold what only the receiver should know.

use std::fmt;
use std::io::Write;
use std::os::unix::process::CommandExt;
use std::path::PathBuf;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use rustix::process::{Pid, Signal, WaitId, WaitIdOptions, kill_process_group, waitid};
use ureq::Agent;

use super::post::Way;
use crate::config::Webhook;

/// From the look-up of the name to the head of the answer. Receivers that work on an alert for
/// longer should answer first.
const WEBHOOK_LIMIT: Duration = Duration::from_secs(5);
/// A command that needs longer should leave the work to somebody else. Then it is killed, with
/// whatever it has started.
const COMMAND_LIMIT: Duration = Duration::from_secs(10);
/// How often a command is looked after.
const COMMAND_LOOK_EVERY: Duration = Duration::from_millis(20);
/// Tries of one alert; the pause after the first, each later one twice as long: 15 s in all.
const TRIES: u32 = 5;
const FIRST_PAUSE: Duration = Duration::from_secs(1);
/// No receiver needs a longer head; the rest of its answer is not read.
const HEAD_BYTES_MAX: usize = 16_384;

/// How alerts are delivered.
pub(crate) enum Deliver {
    Webhook(Box<Agent>, Webhook),
    Command(PathBuf),
}

/// Why a try failed, without a secret.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Fault {
    why: String,
    /// Another try may be better.
    again: bool,
}

impl fmt::Display for Fault {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        out.write_str(&self.why)
    }
}

impl Fault {
    fn passing(why: impl Into<String>) -> Fault {
        Fault { why: why.into(), again: true }
    }
}

/// Delivers until the end is asked for.
pub(crate) fn serve(way: &Way, deliver: &Deliver) {
    let mut failing = false;
    while let Some((alert, dropped)) = way.take() {
        let body = alert.body(dropped);
        let kind = alert.news.kind();
        let outcome = tries(way, || deliver.once(way, kind, &body));
        way.count(outcome.is_ok());
        let to = way.name;
        match &outcome {
            Ok(()) if failing => tracing::info!(to, "alerts are delivered again"),
            Ok(()) => {}
            Err(fault) => {
                let what = "given up; see to the receiver";
                tracing::warn!(to, kind, id = alert.id, "alert not delivered: {fault}; {what}");
            }
        }
        failing = outcome.is_err();
    }
}

/// Tries a few times, with longer and longer pauses.
fn tries(way: &Way, once: impl Fn() -> Result<(), Fault>) -> Result<(), Fault> {
    let mut pause = FIRST_PAUSE;
    for _ in 1..TRIES {
        match once() {
            Err(fault) if fault.again => {
                if !way.pause(pause) {
                    return Err(fault);
                }
            }
            outcome => return outcome,
        }
        pause *= 2;
    }
    once()
}

impl Deliver {
    /// A POST to that URL.
    pub(crate) fn webhook(webhook: Webhook) -> Deliver {
        let config = Agent::config_builder()
            .proxy(None)
            .max_redirects(0)
            .max_redirects_will_error(false)
            .http_status_as_error(false)
            .max_response_header_size(HEAD_BYTES_MAX)
            .max_idle_connections(0)
            .user_agent("headframe");
        Deliver::Webhook(Box::new(config.build().new_agent()), webhook)
    }

    fn once(&self, way: &Way, kind: &str, body: &str) -> Result<(), Fault> {
        match self {
            Deliver::Webhook(agent, url) => post(agent, url, body, way.limit(WEBHOOK_LIMIT)),
            Deliver::Command(path) => run(path, kind, body, way.limit(COMMAND_LIMIT)),
        }
    }
}

fn post(agent: &Agent, webhook: &Webhook, body: &str, limit: Duration) -> Result<(), Fault> {
    let request = agent.post(webhook.url()).content_type("application/json");
    let request = request.config().timeout_global(Some(limit)).build();
    let answer = request.send(body).map_err(|error| Fault::passing(exchange(&error, limit)))?;
    let status = answer.status();
    if status.is_success() {
        return Ok(());
    }
    // What is refused once is refused again, unless it is for the moment.
    let again = status.is_server_error() || matches!(status.as_u16(), 408 | 425 | 429);
    Err(Fault { why: format!("the webhook answered {}", status.as_u16()), again })
}

/// What went wrong; other errors of the client may repeat the URL.
fn exchange(error: &ureq::Error, limit: Duration) -> String {
    match error {
        ureq::Error::Timeout(_) => format!("the webhook took longer than {} s", limit.as_secs()),
        ureq::Error::HostNotFound => "the webhook's host is not known".to_owned(),
        ureq::Error::ConnectionFailed => "nobody took the webhook's connection".to_owned(),
        ureq::Error::Io(error) => format!("the webhook cannot be reached: {}", error.kind()),
        _ => "what the webhook answered is no HTTP".to_owned(),
    }
}

/// Runs the command once: the JSON on its standard input, nothing of what it writes is read, and
/// whatever it has started ends with it.
fn run(path: &PathBuf, kind: &str, body: &str, limit: Duration) -> Result<(), Fault> {
    let end = Instant::now() + limit;
    let child = Command::new(path)
        .env("HEADFRAME_ALERT", kind)
        .current_dir("/")
        .stdin(Stdio::piped())
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .process_group(0)
        .spawn();
    let mut child = child.map_err(|error| {
        Fault::passing(format!("the command cannot be started: {}", error.kind()))
    })?;
    if let Some(mut stdin) = child.stdin.take() {
        // A body fits into the pipe, so that this waits for nobody. One who does not read it may
        // have ended already.
        let _ = stdin.write_all(body.as_bytes());
    }
    let pid = Pid::from_child(&child);
    let ended = ended(pid, end);
    // Its group still has its number, because the child has not been waited for: nobody else's.
    let _ = kill_process_group(pid, Signal::KILL);
    let status = child.wait().map_err(|error| Fault::passing(error.to_string()))?;
    match (ended, status.code()) {
        (false, _) => Err(Fault::passing(format!(
            "the command took longer than {} s and was killed",
            limit.as_secs()
        ))),
        (true, Some(0)) => Ok(()),
        (true, Some(code)) => Err(Fault::passing(format!("the command ended with code {code}"))),
        (true, None) => Err(Fault::passing("the command was ended by a signal")),
    }
}

/// Whether the child ends in time; it is left to be waited for.
fn ended(pid: Pid, end: Instant) -> bool {
    let options = WaitIdOptions::EXITED | WaitIdOptions::NOHANG | WaitIdOptions::NOWAIT;
    loop {
        match waitid(WaitId::Pid(pid), options) {
            Ok(None) if Instant::now() < end => std::thread::sleep(COMMAND_LOOK_EVERY),
            Ok(None) => return false,
            // An error says that there is no such child: it has ended.
            Ok(Some(_)) | Err(_) => return true,
        }
    }
}

#[cfg(test)]
#[path = "courier_tests.rs"]
mod tests;
