//! headframe: the Stratum V1/V2 front of a Bitcoin mining farm.
//!
//! What may be typed is in `ops::cli`; each command below is one module of `ops`. No logic here.
#![forbid(unsafe_code)]

use std::process::ExitCode;

use ops::cli::{self, Command};
use ops::exit::{self, Exit, Stop};

/// Chosen by the table of `perf/run`, which builds without it to compare.
#[cfg(feature = "mimalloc")]
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

fn main() -> ExitCode {
    match cli::parse() {
        Ok(arguments) => exit::report(command(&arguments.command)).into(),
        Err(exit) => exit.into(),
    }
}

fn command(command: &Command) -> Result<Exit, Stop> {
    match command {
        Command::Run(args) => ops::run::run(args),
        Command::Check(args) => ops::check::check(args),
        Command::Demo(args) => ops::demo::demo(args),
        Command::Generate(args) => ops::generate::generate(&args.what),
        Command::Keys => Err(Stop::not_in_this_version("keys")),
        Command::Conform { .. } => Err(Stop::not_in_this_version("conform")),
    }
}
