//! Draws how the difficulty of each class of miner follows its speed, in virtual time, with the
//! controller and the miner that `src/session/tests/vardiff` judges.
//!
//! Usage: `perf-vardiff FOLDER`. One SVG for each class: above, the difficulty (blue) and the one
//! that would be exactly right (grey); below, shares a minute over three minutes. No clock is
//! involved: the same pictures on each run.
#![forbid(unsafe_code)]

#[path = "../../src/session/tests/vardiff/poisson.rs"]
mod poisson;

use std::error::Error;
use std::fmt::Write as _;
use std::fs;
use std::path::PathBuf;

use poisson::{Miner, PER_MINUTE};
use session::Class;

/// A class of miner: its name at subscribe, and its hashes per second.
const MINERS: [(&str, &str, f64); 6] = [
    ("antminer_s21", "Antminer S21/x", 200e12),
    ("whatsminer", "btminer", 110e12),
    ("bitaxe", "bitaxe/BM1370", 1.1e12),
    ("nicehash", "NiceHash/1.0.0", 40e15),
    ("cpuminer", "cpuminer/2.5.1", 12e6),
    ("lottery", "NerdMinerV2", 280e3),
];

/// What the machine does: up to which minute, at which part of its speed.
const DAY: [(f64, f64, &str); 7] = [
    (40.0, 1.0, "start"),
    (70.0, 0.5, "half"),
    (100.0, 1.0, "whole again"),
    (115.0, 0.0, "off"),
    (150.0, 1.0, "back"),
    (190.0, 0.25, "one board of four"),
    (240.0, 1.0, "repaired"),
];

fn main() -> Result<(), Box<dyn Error>> {
    let folder = PathBuf::from(std::env::args().nth(1).ok_or("usage: perf-vardiff FOLDER")?);
    fs::create_dir_all(&folder)?;
    for (name, agent, hashes) in MINERS {
        let (text, changes) = draw(name, Class::of(Some(agent)), hashes);
        fs::write(folder.join(format!("{name}.svg")), text)?;
        println!("{name}: {changes} changes of difficulty for 6 changes of speed");
    }
    Ok(())
}

/// One picture, and how often the difficulty changed.
fn draw(name: &str, class: Class, hashes: f64) -> (String, usize) {
    let speed = hashes / HASHES;
    let start = class.start_difficulty().unwrap_or(START);
    let mut miner = Miner::new(start, !class.takes_fractions(), 11);
    let (mut told, mut ideal) = (vec![(0.0, start)], Vec::new());
    for (until, part, _) in DAY {
        ideal.push((miner.now / 60.0, Miner::ideal(speed * part)));
        miner.mine(speed * part, until * 60.0);
        ideal.push((until, Miner::ideal(speed * part)));
    }
    told.extend(miner.changes.iter().map(|(at, to)| (at / 60.0, *to)));
    told.push((DAY[DAY.len() - 1].0, miner.difficulty));
    let changes = miner.changes.len();
    (svg(&format!("{name}, {hashes:e} hashes a second"), &told, &ideal, &miner.shares), changes)
}

fn svg(title: &str, told: &[(f64, f64)], ideal: &[(f64, f64)], shares: &[f64]) -> String {
    let all = told.iter().chain(ideal).map(|(_, number)| *number).filter(|number| *number > 0.0);
    let (low, high) = all.fold((f64::MAX, 0.0_f64), |(low, high), n| (low.min(n), high.max(n)));
    let (low, high) = (low.log2().floor(), high.log2().ceil());
    let height = |number: f64| {
        let part = (number.max(1e-300).log2().max(low) - low) / (high - low);
        TOP + PANEL * (1.0 - part)
    };
    let mut out = format!(
        "<svg xmlns=\"http://www.w3.org/2000/svg\" width=\"{}\" height=\"{}\" \
         font-family=\"sans-serif\" font-size=\"12\">\n<text x=\"10\" y=\"18\">{title}: \
         difficulty told (blue) and ideal (grey); shares a minute, wished {PER_MINUTE}</text>\n",
        LEFT + WIDTH + 20.0,
        TOP + 2.0 * PANEL + 90.0
    );
    let mut power = low;
    while power <= high {
        let (y, number) = (height(power.exp2()), power.exp2());
        let _ = writeln!(out, "<text x=\"4\" y=\"{:.0}\">{number}</text>", y + 4.0);
        let _ = writeln!(out, "<path d=\"M{LEFT} {y:.0}h{WIDTH}\" stroke=\"#eee\"/>");
        power += ((high - low) / 8.0).ceil().max(1.0);
    }
    for (until, _, what) in DAY {
        let x = x_of(until);
        let bottom = TOP + 2.0 * PANEL + 40.0;
        let _ = writeln!(out, "<path d=\"M{x:.0} {TOP}V{bottom}\" stroke=\"#ddd\"/>");
        let _ = writeln!(
            out,
            "<text x=\"{:.0}\" y=\"{:.0}\" text-anchor=\"end\">{what}</text>",
            x - 3.0,
            bottom + 14.0
        );
    }
    // Off is no difficulty: the line of the ideal breaks there.
    for pair in ideal.chunks(2).filter(|pair| pair[0].1 > 0.0) {
        let points = [(x_of(pair[0].0), height(pair[0].1)), (x_of(pair[1].0), height(pair[1].1))];
        line(&mut out, &points, "#999");
    }
    let mut steps = Vec::new();
    for pair in told.windows(2) {
        steps.extend([(x_of(pair[0].0), height(pair[0].1)), (x_of(pair[1].0), height(pair[0].1))]);
    }
    line(&mut out, &steps, "#2a6f97");
    rates(&mut out, shares);
    out + "</svg>\n"
}

/// Shares a minute, over the last three minutes.
fn rates(out: &mut String, shares: &[f64]) {
    let base = TOP + 2.0 * PANEL + 40.0;
    let height = |rate: f64| base - rate.min(RATE_MAX) / RATE_MAX * PANEL;
    for rate in [0.0, PER_MINUTE, 2.0 * PER_MINUTE, RATE_MAX] {
        let y = height(rate);
        let _ = writeln!(out, "<path d=\"M{LEFT} {y:.0}h{WIDTH}\" stroke=\"#eee\"/>");
        let _ = writeln!(out, "<text x=\"4\" y=\"{:.0}\">{rate}/min</text>", y + 4.0);
    }
    let end = DAY[DAY.len() - 1].0;
    let points: Vec<(f64, f64)> = (0..(end * 4.0) as u32)
        .map(|quarter| {
            let minute = f64::from(quarter) / 4.0;
            let window = (minute - 3.0).max(0.0) * 60.0..minute * 60.0;
            let found = shares.iter().filter(|at| window.contains(at)).count();
            let rate = found as f64 / ((window.end - window.start) / 60.0).max(0.25);
            (x_of(minute), height(rate))
        })
        .collect();
    line(out, &points, "#a63d40");
}

fn line(out: &mut String, points: &[(f64, f64)], colour: &str) {
    let points = points.iter().fold(String::new(), |mut text, (x, y)| {
        let _ = write!(text, "{x:.1},{y:.1} ");
        text
    });
    let _ = writeln!(
        out,
        "<polyline points=\"{}\" fill=\"none\" stroke=\"{colour}\" stroke-width=\"1.5\"/>",
        points.trim_end()
    );
}

fn x_of(minute: f64) -> f64 {
    LEFT + minute / DAY[DAY.len() - 1].0 * WIDTH
}

/// Hashes behind one unit of difficulty.
const HASHES: f64 = 4_294_967_296.0;
/// The farm's start for everybody else.
const START: f64 = 16_384.0;
const LEFT: f64 = 110.0;
const TOP: f64 = 34.0;
const WIDTH: f64 = 860.0;
const PANEL: f64 = 190.0;
/// What is above is drawn here.
const RATE_MAX: f64 = 48.0;
