//! The exit codes of every command, and the error that carries one to `main`. Codes are part of
//! the contract with users: service managers and scripts decide by them.

use std::fmt::Display;
use std::io::Write;
use std::process::ExitCode;

/// How a command ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Exit {
    /// Done.
    Done = 0,
    /// `demo`: an expectation failed.
    Failed = 1,
    /// The command line is wrong, or asks for what is not in this version.
    Usage = 64,
    /// The host cannot do what the file asks for.
    Unavailable = 69,
    /// A fault of ours.
    Internal = 70,
    /// The configuration file is wrong.
    Config = 78,
}

impl From<Exit> for ExitCode {
    fn from(exit: Exit) -> ExitCode {
        ExitCode::from(exit as u8)
    }
}

/// Why a command stopped: what is said on standard error, a line each, and the code.
#[derive(Debug)]
pub struct Stop {
    /// The code of the process.
    pub exit: Exit,
    /// One line per finding.
    pub lines: Vec<String>,
}

impl Stop {
    /// Stops with one line.
    pub fn new(exit: Exit, line: impl Display) -> Stop {
        Stop { exit, lines: vec![line.to_string()] }
    }

    /// The host cannot: exit 69.
    pub fn unavailable(line: impl Display) -> Stop {
        Stop::new(Exit::Unavailable, line)
    }

    /// A fault of ours: exit 70.
    pub fn internal(line: impl Display) -> Stop {
        Stop::new(Exit::Internal, line)
    }

    /// Asked for by name in the contract, but not built: exit 64.
    pub fn not_in_this_version(what: &str) -> Stop {
        Stop::new(Exit::Usage, format!("{what} is not in this version"))
    }
}

impl From<crate::config::Faults> for Stop {
    fn from(faults: crate::config::Faults) -> Stop {
        Stop { exit: Exit::Config, lines: faults.lines().to_vec() }
    }
}

/// Says why a command stopped, if it did, and gives its exit code.
pub fn report(result: Result<Exit, Stop>) -> Exit {
    match result {
        Ok(exit) => exit,
        Err(stop) => {
            let mut errors = std::io::stderr().lock();
            for line in &stop.lines {
                // Nobody reads: the code still says it.
                let _ = writeln!(errors, "{line}");
            }
            stop.exit
        }
    }
}

/// One line on standard output. A reader that has gone is no fault.
pub(crate) fn say(line: &str) {
    let mut output = std::io::stdout().lock();
    let _ = writeln!(output, "{line}").and_then(|()| output.flush());
}
