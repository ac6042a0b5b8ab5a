//! Starts a floor, a peer and headframe in turn, loads each the same way, and prints one table of
//! medians with min–max and ratios; the same as JSON and as a plot into a folder.
//!
//! Usage: `perf-compare [short] [peer=FOLDER] [out=FOLDER] [rounds=N] [only=TITLE]`. Without the
//! peer the table says so and is not the table of record. Rounds interleave: A B C A B C, so that
//! a machine whose speed drifts drifts for all of them.
#![forbid(unsafe_code)]

#[path = "../compare/plot.rs"]
mod plot;
#[path = "../compare/scenarios.rs"]
mod scenarios;
#[path = "../compare/table.rs"]
mod table;

use std::error::Error;
use std::fs;
use std::path::PathBuf;

use scenarios::{Plan, Row};

fn main() -> Result<(), Box<dyn Error>> {
    let plan = parse()?;
    let mut rows: Vec<Row> = Vec::new();
    let wanted = |title: &str| plan.only.as_ref().is_none_or(|only| title.starts_with(only));
    for scenario in scenarios::all(&plan).into_iter().filter(|one| wanted(&one.title())) {
        eprintln!("perf-compare: {}", scenario.title());
        rows.extend(scenario.run(&plan)?);
    }
    let text = table::render(&plan, &rows);
    println!("{text}");
    if let Some(folder) = &plan.out {
        fs::create_dir_all(folder)?;
        fs::write(folder.join("table.md"), &text)?;
        fs::write(folder.join("table.json"), serde_json::to_string_pretty(&rows)?)?;
        fs::write(folder.join("cpu.svg"), plot::cpu_per_share(&rows))?;
    }
    match rows.iter().find(|row| row.rounds == 0) {
        Some(row) => Err(format!("{}, {}: no round succeeded", row.scenario, row.server).into()),
        None => Ok(()),
    }
}

fn parse() -> Result<Plan, Box<dyn Error>> {
    let mut plan = Plan { short: false, rounds: 3, peer: None, out: None, only: None };
    for argument in std::env::args().skip(1) {
        match argument.split_once('=') {
            None if argument == "short" => (plan.short, plan.rounds) = (true, 1),
            Some(("peer", folder)) => plan.peer = Some(PathBuf::from(folder)),
            Some(("only", title)) => plan.only = Some(title.to_owned()),
            Some(("out", folder)) => plan.out = Some(PathBuf::from(folder)),
            Some(("rounds", number)) => plan.rounds = number.parse()?,
            _ => return Err(format!("unknown argument {argument}").into()),
        }
    }
    Ok(plan)
}
