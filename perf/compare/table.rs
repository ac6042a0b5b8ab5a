//! The table: one line a row, ratios to the floor of the same comparison.

use std::fmt::Write as _;

use perf::process;

use crate::scenarios::{Load, Plan, Row};

/// The whole table as Markdown.
#[must_use]
pub(crate) fn render(plan: &Plan, rows: &[Row]) -> String {
    let mut text = String::new();
    let _ = writeln!(text, "# SV1 shares, one shard\n");
    let _ = writeln!(
        text,
        "- CPU: {}, server on one core, generators on the other",
        process::processor()
    );
    let _ = writeln!(text, "- Kernel: {}", process::kernel_release());
    let _ = writeln!(text, "- Medians (min–max) of {} interleaved rounds", plan.rounds);
    let record = match (plan.short || plan.only.is_some(), &plan.peer) {
        (true, _) => "a part of the whole: not the table of record",
        (false, None) => "peer not built: this is not the table of record",
        (false, Some(_)) => "with the peer: the table of record",
    };
    let _ = writeln!(text, "- This table: {record}\n");
    let mut scenario = String::new();
    for row in rows {
        if row.scenario != scenario {
            let _ = writeln!(text, "\n## {}\n\n{}", row.scenario, head(&row.load));
            scenario.clone_from(&row.scenario);
        }
        let floor = rows
            .iter()
            .find(|other| (&other.scenario, other.connections) == (&row.scenario, row.connections));
        let _ = writeln!(text, "{}", line(row, floor.unwrap_or(row)));
    }
    text
}

fn head(load: &Load) -> &'static str {
    match load {
        Load::FanOut | Load::Storm => {
            "| miners | server | first to last byte ms | × first row | CPU µs per miner | ramp ms \
             | job bytes | note |\n|---|---|---|---|---|---|---|---|"
        }
        Load::Idle => {
            "| miners | server | bytes per miner | MiB in all | ramp ms | note |\n\
             |---|---|---|---|---|---|"
        }
        _ => {
            "| miners | server | CPU µs per share | × first row | shares/s | p50 µs | p99 µs \
             | server core | generator core | ramp ms | bytes in, out | note |\n\
             |---|---|---|---|---|---|---|---|---|---|---|---|"
        }
    }
}

fn line(row: &Row, floor: &Row) -> String {
    let note = match (&row.invalid, row.refused) {
        (Some(why), _) => format!("**invalid**: {why}"),
        (None, 0) => String::new(),
        (None, refused) => format!("{refused} refused"),
    };
    let server = format!("{} | {}", row.connections, row.server);
    match row.load {
        Load::FanOut | Load::Storm => format!(
            "| {server} | {} | {:.2} | {} | {} | {} | {note} |",
            row.fan_out_ms,
            row.fan_out_ms.median / floor.fan_out_ms.median.max(1e-9),
            row.fan_out_cpu_us,
            row.ramp_ms,
            row.bytes[2],
        ),
        Load::Idle => format!(
            "| {server} | {} | {} | {} | {note} |",
            row.bytes_per_connection, row.server_mib, row.ramp_ms,
        ),
        _ => format!(
            "| {server} | {} | {:.2} | {} | {} | {} | {} | {} | {} | {}, {} | {note} |",
            row.cpu_us,
            row.cpu_us.median / floor.cpu_us.median.max(1e-9),
            row.rate,
            row.p50_us,
            row.p99_us,
            row.server_core,
            row.generator_core,
            row.ramp_ms,
            row.bytes[0],
            row.bytes[1],
        ),
    }
}
