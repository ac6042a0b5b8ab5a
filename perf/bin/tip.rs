//! How long a new block of somebody else takes from a real bitcoind to the last miner: to its
//! first clean job, made from the block's header alone, and to the job of the node's full template.
//!
//! Usage: `perf-tip [short] [out=FOLDER] [miners=N] [transactions=N] [tips=N]`. Without a bitcoind
//! (`HEADFRAME_NO_PEERS=1`) it says so and measures nothing.
//!
//! First the node alone is asked, as the floor: nobody has a full template before the node has
//! written it. Then headframe stands behind it, with and without `zmq_hashblock`. Each block
//! holds the transactions of headframe's last template and as many new ones wait behind it, so
//! that no transaction of the next template was seen before: as on a chain with full blocks.
#![forbid(unsafe_code)]

#[path = "../tip/chain.rs"]
mod chain;
#[path = "../tip/report.rs"]
mod report;
#[path = "../tip/rows.rs"]
mod rows;

use std::error::Error;
use std::fs;
use std::path::PathBuf;

use chain::Chain;
use rows::Way;

/// What was asked for.
struct Plan {
    /// A few seconds, only to see that it runs.
    short: bool,
    /// Miners that wait for each tip.
    miners: usize,
    /// In each block, and in each template behind it.
    transactions: usize,
    /// Tips of each row.
    tips: usize,
    /// Where `tip.md` goes.
    out: Option<PathBuf>,
}

fn main() -> Result<(), Box<dyn Error>> {
    let plan = Plan::parse()?;
    let blocks = plan.tips * (1 + Way::ALL.len());
    let Some(mut chain) = Chain::start(plan.transactions, blocks) else { return Ok(()) };
    eprintln!("perf-tip: the node alone");
    let node = rows::node_alone(&mut chain, plan.tips)?;
    let mut rows = Vec::new();
    for way in Way::ALL {
        eprintln!("perf-tip: headframe, {}", way.name());
        rows.push(rows::headframe(&mut chain, way, plan.miners, plan.tips)?);
    }
    let text = report::render(&plan, &mut chain, &node, &rows);
    println!("{text}");
    if let Some(folder) = &plan.out {
        fs::create_dir_all(folder)?;
        fs::write(folder.join("tip.md"), &text)?;
    }
    Ok(())
}

impl Plan {
    fn parse() -> Result<Plan, Box<dyn Error>> {
        let mut plan =
            Plan { short: false, miners: 1_000, transactions: 4_200, tips: 12, out: None };
        for argument in std::env::args().skip(1) {
            match argument.split_once('=') {
                None if argument == "short" => {
                    plan.short = true;
                    (plan.miners, plan.transactions, plan.tips) = (100, 100, 2);
                }
                Some(("miners", number)) => plan.miners = number.parse()?,
                Some(("transactions", number)) => plan.transactions = number.parse()?,
                Some(("tips", number)) => plan.tips = number.parse()?,
                Some(("out", folder)) => plan.out = Some(PathBuf::from(folder)),
                _ => return Err(format!("unknown argument {argument}").into()),
            }
        }
        match plan.transactions > 0 && plan.miners > 0 && plan.tips > 0 {
            true => Ok(plan),
            false => Err("nothing to measure".into()),
        }
    }
}
