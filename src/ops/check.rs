//! `check`: the file first, then the host, one line per finding. Leaves nothing behind and can
//! be used beside a headframe that runs.

use crate::cli::CheckArgs;
use crate::config::Config;
use crate::exit::{Exit, Stop, say};
use crate::host::{self, Finding};
use crate::state;

/// Checks the file and the host; the first fault's kind decides the exit code.
pub fn check(args: &CheckArgs) -> Result<Exit, Stop> {
    if args.peers {
        return Err(Stop::not_in_this_version("--peers"));
    }
    let config = Config::load(args.file.config.as_deref())?;
    let mut findings = host::findings(&config);
    let own = match state::folder(config.state_directory.as_deref()).and_then(|f| state::probe(&f))
    {
        Ok(own) => own,
        Err(error) => {
            findings.push(Finding::Fault(error.to_string()));
            None
        }
    };
    findings.extend(host::ports(&config, own));
    let faults = findings.iter().any(|finding| matches!(finding, Finding::Fault(_)));
    let lines: Vec<String> = findings.iter().map(ToString::to_string).collect();
    if faults {
        return Err(Stop { exit: Exit::Unavailable, lines });
    }
    lines.iter().for_each(|line| say(line));
    say("good: `headframe run` would start");
    Ok(Exit::Done)
}
