//! Plays storms and hostile crowds against the real daemon, and measures what its miners notice.
//!
//! Usage: `perf-storms [short] [out=FOLDER] [scale=F] [only=ROW]`. Each row starts a daemon of its
//! own on the first core and its crowds (`perf-crowd`) on the second. The miners whose latency is
//! measured are a process of their own with a real-time priority, so that they are never late
//! because another crowd has the core; where that is not allowed the table says so. A budget that
//! is relative stands beside the quiet value of the same daemon and the same crowds.
//!
//! `scale` multiplies the numbers of clients, for development: only 1 makes figures of record.
#![forbid(unsafe_code)]

#[path = "../storms/crowd.rs"]
mod crowd;
#[path = "../storms/daemon.rs"]
mod daemon;
#[path = "../storms/figures.rs"]
mod figures;
#[path = "../storms/hostile.rs"]
mod hostile;
#[path = "../storms/lost.rs"]
mod lost;
#[path = "../storms/pages.rs"]
mod pages;
#[path = "../storms/plot.rs"]
mod plot;
#[path = "../storms/power.rs"]
mod power;
#[path = "../storms/report.rs"]
mod report;
#[path = "../storms/service.rs"]
mod service;
#[path = "../storms/spread.rs"]
mod spread;

use std::error::Error;
use std::fs;
use std::path::PathBuf;
use std::time::Duration;

use figures::{Figure, Picture};

/// What was asked for.
pub(crate) struct Plan {
    /// A few seconds, only to see that it runs.
    pub(crate) short: bool,
    /// What the numbers of clients are multiplied with.
    pub(crate) scale: f64,
    /// Only rows whose names begin like this.
    pub(crate) only: Option<String>,
    /// Where the table and the pictures go.
    pub(crate) out: Option<PathBuf>,
}

/// What a row found.
#[derive(Default)]
pub(crate) struct Found {
    /// For the table.
    pub(crate) figures: Vec<Figure>,
    /// For the eye.
    pub(crate) pictures: Vec<Picture>,
}

/// One row of the table: its name, whether the short run plays it too, and how.
type Row = (&'static str, bool, fn(&Plan) -> Result<Found, Box<dyn Error>>);

/// In the order of the table.
const ROWS: [Row; 13] = [
    ("power-9000", true, power::nine_thousand),
    ("power-18000", false, power::eighteen_thousand),
    ("firmware", false, power::firmware),
    ("strangers", false, hostile::strangers),
    ("connects", false, hostile::connects),
    ("garbage", true, hostile::garbage),
    ("low", false, hostile::low_shares),
    ("readers", false, hostile::readers),
    ("half-open", false, lost::half_open),
    ("tips", true, spread::tips),
    ("kill", true, service::kill),
    ("pages", true, pages::pages),
    ("drain", true, service::drain),
];

fn main() -> Result<(), Box<dyn Error>> {
    let plan = Plan::parse()?;
    regtest::manager::raise_open_files();
    daemon::pin_runner()?;
    let load_before = report::load();
    let mut found = Found::default();
    for (name, in_short, play) in ROWS {
        let wanted = plan.only.as_ref().is_none_or(|only| name.starts_with(only.as_str()));
        if !wanted || (plan.short && !in_short) {
            continue;
        }
        eprintln!("perf-storms: {name}");
        let row = play(&plan).map_err(|error| format!("{name}: {error}"))?;
        row.figures.iter().for_each(|figure| eprintln!("  {figure}"));
        found.figures.extend(row.figures);
        found.pictures.extend(row.pictures);
    }
    let text = report::render(&plan, &load_before, &found.figures);
    println!("{text}");
    if let Some(folder) = &plan.out {
        let pictures = folder.join("storms");
        fs::create_dir_all(&pictures)?;
        fs::write(folder.join("storms.md"), &text)?;
        for picture in &found.pictures {
            fs::write(pictures.join(format!("{}.svg", picture.name)), &picture.svg)?;
        }
    }
    Ok(())
}

impl Plan {
    fn parse() -> Result<Plan, Box<dyn Error>> {
        let mut plan = Plan { short: false, scale: 1.0, only: None, out: None };
        for argument in std::env::args().skip(1) {
            match argument.split_once('=') {
                None if argument == "short" => (plan.short, plan.scale) = (true, 0.02),
                Some(("scale", factor)) => plan.scale = factor.parse()?,
                Some(("only", name)) => plan.only = Some(name.to_owned()),
                Some(("out", folder)) => plan.out = Some(PathBuf::from(folder)),
                _ => return Err(format!("unknown argument {argument}").into()),
            }
        }
        Ok(plan)
    }

    /// So many clients of a full run's, at least a handful.
    pub(crate) fn clients(&self, full: u32) -> u32 {
        ((f64::from(full) * self.scale).round() as u32).max(10)
    }

    /// How long something is watched.
    pub(crate) fn watch(&self, full_seconds: u64) -> Duration {
        match self.short {
            true => Duration::from_millis(700),
            false => Duration::from_secs(full_seconds),
        }
    }
}
