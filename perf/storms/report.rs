//! The table of `perf-storms`: the conditions, then one line a figure.

use std::fmt::Write as _;
use std::fs;
use std::process::Command;

use perf::process;

use crate::Plan;
use crate::crowd::may_be_real_time;
use crate::figures::Figure;

/// The whole table as Markdown.
pub(crate) fn render(plan: &Plan, figures: &[Figure]) -> String {
    let mut text = String::from("# Storms and hostile crowds\n\n");
    // Writing into a string cannot fail.
    let _ = conditions(&mut text, plan);
    let _ = writeln!(text, "\n| what | figure | budget | | quiet | |\n|---|---|---|---|---|---|");
    for figure in figures {
        let _ = writeln!(text, "| {figure} |");
    }
    text
}

fn conditions(text: &mut String, plan: &Plan) -> std::fmt::Result {
    writeln!(text, "- Command: `perf/run --only storms`; each row on a daemon of its own")?;
    writeln!(text, "- Commit: {}", output("git", &["describe", "--always", "--dirty"]))?;
    writeln!(text, "- CPU: {}, {} cores", process::processor(), output("nproc", &["--all"]))?;
    writeln!(text, "- Kernel: {}", process::kernel_release())?;
    let load = fs::read_to_string("/proc/loadavg").unwrap_or_default();
    let load = load.split(' ').take(3).collect::<Vec<_>>().join(" ");
    writeln!(text, "- Load average at the end: {load}")?;
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

/// What a small program prints, for the head of the table.
fn output(program: &str, arguments: &[&str]) -> String {
    let output = Command::new(program).args(arguments).output();
    let text = output.map(|output| output.stdout).unwrap_or_default();
    String::from_utf8_lossy(&text).trim().to_owned()
}
