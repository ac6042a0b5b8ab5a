//! `check`: the file first, then the host, then, if asked to, the nodes; one line per finding.
//! Leaves nothing behind and can be used beside a headframe that runs.

use std::env;
use std::path::Path;

use node::blocks::Journal;

use crate::capacity;
use crate::cli::CheckArgs;
use crate::config::{Config, NodeConfig, Spot, payout};
use crate::exit::{Exit, Stop, say};
use crate::finding::Finding;
use crate::state::StateError;
use crate::{host, logins, nodes, state};

/// Where our unit has systemd put the state.
const OF_THE_SERVICE: &str = "/var/lib/headframe";

/// Checks the file and the host; the first fault's kind decides the exit code.
pub fn check(args: &CheckArgs) -> Result<Exit, Stop> {
    let (config, places) = Config::load(args.file.config.as_deref())?;
    let mut findings = host::findings(&config);
    let own = of_state(&config).unwrap_or_else(|error| {
        findings.push(Finding::fault(Spot::of("state", "directory"), error.to_string()));
        None
    });
    if own.is_none() {
        host::await_ports(&config, &[]);
    }
    findings.extend(host::ports(&config, own, &[]));
    findings.extend(of_money(&config));
    if let NodeConfig::Bitcoind(nodes) = &config.node {
        findings.extend(logins::findings(nodes, places.path()));
    }
    let mut well = Vec::new();
    if args.peers
        && let NodeConfig::Bitcoind(configured) = &config.node
    {
        let (found, ready) = nodes::ask(&config, configured);
        findings.extend(found);
        well = ready;
    }
    let lines: Vec<String> = findings.iter().map(|finding| finding.line(&places)).collect();
    let connections = host::connections(config.limits.connections, host::files_max());
    let connections = connections.unwrap_or_default();
    let table = capacity::table(&config, connections);
    if findings.iter().any(Finding::is_fault) {
        table.iter().for_each(|line| say(line));
        return Err(Stop { exit: Exit::Unavailable, lines });
    }
    lines.iter().chain(&well).chain(&table).for_each(|line| say(line));
    say("good: `headframe run` would start");
    Ok(Exit::Done)
}

/// Whether `run` would get its state folder and the room in it; who has it already, if anybody.
fn of_state(config: &Config) -> Result<Option<u32>, StateError> {
    // The service has its folder from systemd, and a shell does not know it.
    let is_told = config.state_directory.is_some() || env::var_os("STATE_DIRECTORY").is_some();
    if !is_told && let Ok(Some(pid)) = state::probe(Path::new(OF_THE_SERVICE)) {
        return Ok(Some(pid));
    }
    let folder = state::folder(config.state_directory.as_deref())?;
    let own = state::probe(&folder)?;
    state::probe_room(&folder, Journal::room_needed(&folder, &config.node.chain()))?;
    Ok(own)
}

/// A payout that is allowed and unwise.
fn of_money(config: &Config) -> Option<Finding> {
    let what = payout::warning(&config.payout, &config.node)?;
    Some(Finding::warning(Spot::of("payout", ""), what).of("payout"))
}
