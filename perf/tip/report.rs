//! What `perf-tip` prints: the conditions and two tables.

use std::fmt::Write as _;
use std::process::Command;

use perf::process;
use perf::report::Spread;
use perf::tips::TipReport;
use serde_json::json;

use crate::Plan;
use crate::chain::{Chain, Tip};
use crate::rows::{NodeTip, Row};

/// The whole result as Markdown.
pub(crate) fn render(plan: &Plan, chain: &mut Chain, node: &[NodeTip], rows: &[Row]) -> String {
    let mut text = String::from("# A new tip on a real bitcoind, to the last miner\n\n");
    // Writing into a string cannot fail.
    let _ = conditions(&mut text, plan, chain);
    let _ = node_table(&mut text, node);
    let _ = headframe_table(&mut text, plan, rows);
    text
}

fn conditions(text: &mut String, plan: &Plan, chain: &mut Chain) -> std::fmt::Result {
    let info = chain.node.rpc("getnetworkinfo", json!([]));
    let (miners, transactions, tips) = (plan.miners, plan.transactions, plan.tips);
    writeln!(
        text,
        "- Command: `perf-tip miners={miners} transactions={transactions} tips={tips}`"
    )?;
    writeln!(text, "- Commit: {}", output("git", &["describe", "--always", "--dirty"]))?;
    writeln!(text, "- CPU: {}, {} cores", process::processor(), output("nproc", &["--all"]))?;
    writeln!(text, "- Kernel: {}", process::kernel_release())?;
    let load = std::fs::read_to_string("/proc/loadavg").unwrap_or_default();
    let load = load.split(' ').take(3).collect::<Vec<_>>().join(" ");
    writeln!(text, "- Load average at the end: {load} (this measurement alone makes about 1)")?;
    let name = info["subversion"].as_str().unwrap_or("?").trim_matches('/');
    writeln!(text, "- Node: {name} on regtest, on whichever core is free")?;
    writeln!(text, "- headframe: one shard, all its threads on one core; generator on the other")?;
    writeln!(
        text,
        "- Each block: {transactions} transactions, and as many wait behind it, all of them new"
    )?;
    if plan.short {
        writeln!(text, "- Short: it runs, and no more: no figures of record")?;
    }
    writeln!(text, "- Milliseconds, median (min–max) of {tips} tips\n")
}

fn node_table(text: &mut String, node: &[NodeTip]) -> std::fmt::Result {
    let row = |text: &mut String, what: &str, value: &dyn Fn(&NodeTip) -> f64| {
        writeln!(text, "| {what} | {} |", Spread::of(node.iter().map(value)))
    };
    writeln!(text, "## The node alone\n\n| | |\n|---|---|")?;
    row(text, "block sent to `hashblock` published", &|one| {
        ms(one.tip.sent_ns, one.tip.published_ns)
    })?;
    row(text, "block sent to the whole answer of the long poll", &|one| {
        ms(one.tip.sent_ns, one.polled_ns)
    })?;
    row(text, "published to the whole answer of the long poll", &|one| {
        ms(one.tip.published_ns, one.polled_ns)
    })?;
    row(text, "`getblocktemplate` once more, the template being made", &|one| {
        one.again.as_secs_f64() * 1e3
    })?;
    row(text, "the answer, MB", &|one| one.answer_bytes as f64 / 1e6)?;
    row(text, "its transactions", &|one| one.transactions as f64)?;
    row(text, "our reading of it, every transaction new", &|one| one.parse.as_secs_f64() * 1e3)?;
    row(text, "the same, every transaction known", &|one| one.parse_known.as_secs_f64() * 1e3)
}

fn headframe_table(text: &mut String, plan: &Plan, rows: &[Row]) -> std::fmt::Result {
    let miners = plan.miners;
    writeln!(text, "\n## headframe, {miners} miners\n")?;
    writeln!(
        text,
        "| tips by | from | first miner, coinbase-only | **last miner, coinbase-only** \
        | first miner, full | **last miner, full** | tips with a coinbase-only job |"
    )?;
    writeln!(text, "|---|---|---|---|---|---|---|")?;
    for row in rows {
        let empty: Vec<_> =
            row.tips.iter().filter(|(_, report)| report.coinbase_only == miners).collect();
        for published in [false, true] {
            let name = ["block sent to the node", "`hashblock` published"][usize::from(published)];
            let start = |tip: &Tip| if published { tip.published_ns } else { tip.sent_ns };
            let since = |(tip, report): &(Tip, TipReport), end: fn(&TipReport) -> u64| {
                ms(start(tip), end(report))
            };
            let early = |end| Spread::of(empty.iter().map(|one| since(one, end)));
            let full = |end| Spread::of(row.tips.iter().map(|one| since(one, end)));
            writeln!(
                text,
                "| {} | {name} | {} | {} | {} | {} | {} of {} |",
                row.way.name(),
                early(|report| report.first_job.first_ns),
                early(|report| report.first_job.last_ns),
                full(|report| report.full_job.first_ns),
                full(|report| report.full_job.last_ns),
                empty.len(),
                row.tips.len(),
            )?;
        }
    }
    Ok(())
}

/// Negative where the end came first: the node may publish a tip after it has woken other threads.
fn ms(from_ns: u64, to_ns: u64) -> f64 {
    (to_ns as i64 - from_ns as i64) as f64 / 1e6
}

/// What a small program prints, for the head of the table.
fn output(program: &str, arguments: &[&str]) -> String {
    let output = Command::new(program).args(arguments).output();
    let text = output.map(|output| output.stdout).unwrap_or_default();
    String::from_utf8_lossy(&text).trim().to_owned()
}
