//! The table of `perf-storms`: the conditions, then one line a figure.

use std::fmt::Write as _;
use std::fs;
use std::process::Command;

use perf::process;

use crate::Plan;
use crate::crowd::may_be_real_time;
use crate::figures::Figure;

/// A machine with more to do before the first row is not quiet.
const LOAD_MAX: f64 = 0.7;

/// The whole table as Markdown.
pub(crate) fn render(plan: &Plan, load_before: &str, figures: &[Figure]) -> String {
    let mut text = String::from("# Storms and hostile crowds\n\n");
    // Writing into a string cannot fail.
    let _ = conditions(&mut text, plan, load_before);
    let _ = writeln!(text, "\n| what | figure | budget | | quiet | |\n|---|---|---|---|---|---|");
    for figure in figures {
        let _ = writeln!(text, "| {figure} |");
    }
    text
}

fn conditions(text: &mut String, plan: &Plan, load_before: &str) -> std::fmt::Result {
    writeln!(text, "- Command: `perf/run --only storms`; each row on a daemon of its own")?;
    writeln!(text, "- Commit: {}", output("git", &["describe", "--always", "--dirty"]))?;
    writeln!(text, "- CPU: {}, {} cores", process::processor(), output("nproc", &["--all"]))?;
    writeln!(text, "- Kernel: {}", process::kernel_release())?;
    let busy = match load_before.split(' ').next().and_then(|load| load.parse::<f64>().ok()) {
        Some(load) if load <= LOAD_MAX => "",
        _ => "; **the machine was busy with other things, so no figure counts**",
    };
    let load = load();
    writeln!(text, "- Load average: {load_before} before, {load} at the end{busy}")?;
    writeln!(
        text,
        "- headframe: one shard, all its threads on one core, limits as by default; every \
         generator on the other core"
    )?;
    let priority = match may_be_real_time() {
        true => "with a real-time priority, so that no other crowd delays them",
        false => "**without** a real-time priority, so that other crowds delay them",
    };
    writeln!(text, "- Latencies: of miners with 2 shares a second each, {priority}")?;
    writeln!(text, "- Farms: 12 shares a minute and miner, before and after")?;
    if plan.short || plan.scale < 1.0 || plan.only.is_some() {
        let scale = plan.scale;
        writeln!(text, "- A part or a miniature ({scale} of the clients): no figures of record")?;
    }
    Ok(())
}

/// The load averages of 1, 5 and 15 minutes.
pub(crate) fn load() -> String {
    let load = fs::read_to_string("/proc/loadavg").unwrap_or_default();
    load.split(' ').take(3).collect::<Vec<_>>().join(" ")
}

/// What a small program prints, for the head of the table.
fn output(program: &str, arguments: &[&str]) -> String {
    let output = Command::new(program).args(arguments).output();
    let text = output.map(|output| output.stdout).unwrap_or_default();
    String::from_utf8_lossy(&text).trim().to_owned()
}
