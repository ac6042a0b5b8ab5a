//! What may be typed. Help, man page and completions all come from these definitions. A flag of
//! the contract whose feature is not built yet is known here, so that it can be refused by name.

use std::path::PathBuf;

use crate::exit::Exit;

use clap::{Args, Parser, Subcommand, ValueEnum};

/// The Stratum V1/V2 front of a Bitcoin mining farm.
#[derive(Debug, Parser)]
#[command(name = "headframe", version = crate::version::LONG, max_term_width = 100)]
pub struct Cli {
    /// What to do.
    #[command(subcommand)]
    pub command: Command,
}

/// The commands.
#[derive(Debug, Subcommand)]
pub enum Command {
    /// Run the daemon.
    ///
    /// SIGTERM drains within 5 s and ends it; a second SIGTERM ends it at once.
    Run(FileArgs),
    /// Check a configuration file and this host.
    ///
    /// One line per finding, with its place in the file and the remedy. Exit 78: the file; 69: the
    /// host (io_uring, open files, locked memory, state folder, ports) or, with --peers, a node;
    /// 0: `run` would start.
    Check(CheckArgs),
    /// Show everything at work on this machine: nothing to install, no configuration.
    ///
    /// A simulated node with a real chain of its own, the proxy, and miners that really hash on
    /// the CPU, all over loopback. Exit 0 when every share that should be accepted was.
    Demo(DemoArgs),
    /// Print a sample configuration, the man page or shell completions.
    Generate(GenerateArgs),
    /// Make an authority key pair for SV2 miners (not in this version).
    #[command(hide = true)]
    Keys,
    /// Scripted conversations against any implementation (not in this version).
    #[command(hide = true)]
    Conform {
        /// Whatever it will take.
        #[arg(trailing_var_arg = true, allow_hyphen_values = true)]
        rest: Vec<String>,
    },
}

/// Which file to read.
#[derive(Args, Debug)]
pub struct FileArgs {
    /// The configuration; else ./headframe.toml, then /etc/headframe/headframe.toml.
    #[arg(long, value_name = "FILE")]
    pub config: Option<PathBuf>,
}

/// The flags of `check`.
#[derive(Args, Debug)]
pub struct CheckArgs {
    /// Which file to read.
    #[command(flatten)]
    pub file: FileArgs,
    /// Also ask the nodes: network, login, health, and whether they would take our blocks.
    #[arg(long)]
    pub peers: bool,
}

/// The flags of `demo`.
#[derive(Args, Debug)]
pub struct DemoArgs {
    /// How many miners connect.
    #[arg(long, value_name = "N", default_value_t = 8,
          value_parser = clap::value_parser!(u32).range(1..=10_000))]
    pub miners: u32,
    /// How long they mine.
    #[arg(long, value_name = "S", default_value_t = 30,
          value_parser = clap::value_parser!(u32).range(1..=86_400))]
    pub seconds: u32,
    /// Print one JSON object as the last line instead of the summary.
    #[arg(long)]
    pub json: bool,
    /// What the miners speak (only sv1 is in this version).
    #[arg(long, value_enum, hide = true)]
    pub protocol: Option<Protocol>,
    /// Mine declared jobs (not in this version).
    #[arg(long, hide = true)]
    pub declare: bool,
}

/// The protocols of `demo --protocol`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum Protocol {
    /// Stratum V1.
    Sv1,
    /// Stratum V2.
    Sv2,
    /// Half of the miners each.
    Both,
}

/// What `generate` prints.
#[derive(Args, Debug)]
pub struct GenerateArgs {
    /// What to print.
    #[command(subcommand)]
    pub what: Generate,
}

/// What `generate` can print.
#[derive(Debug, Subcommand)]
pub enum Generate {
    /// A configuration with every key and its default.
    Config,
    /// The man page, in roff.
    Man,
    /// Completions for a shell.
    Completions {
        /// For which shell.
        #[arg(value_enum)]
        shell: clap_complete::Shell,
    },
    /// Dashboards for Grafana (not in this version).
    #[command(hide = true)]
    Dashboard,
}

/// Reads this process's arguments. The error is an exit code: clap has said everything already,
/// and help and version are no errors.
pub fn parse() -> Result<Cli, Exit> {
    Cli::try_parse().map_err(|error| {
        let exit = if error.use_stderr() { Exit::Usage } else { Exit::Done };
        // Nobody reads: the code still says it.
        let _ = error.print();
        exit
    })
}
