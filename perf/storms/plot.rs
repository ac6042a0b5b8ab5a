//! The pictures, as plain SVG: what those that stayed noticed of a storm, and how a tip spreads.

use std::fmt::Write as _;

use perf::crowds::{TipSpread, Working};

use crate::figures::Latency;

const LEFT: f64 = 80.0;
const TOP: f64 = 50.0;
const WIDTH: f64 = 760.0;
const PANEL: f64 = 220.0;
const GAP: f64 = 50.0;
/// One point of a curve of percentiles.
const BUCKET_NS: u64 = 100_000_000;
const COLOURS: [&str; 3] = ["#2a6f97", "#e09f3e", "#9e2a2b"];
/// The decades of latency that are drawn, in µs.
const LATENCY_DECADES: (f64, f64) = (1.0, 6.0);

/// Above, the percentiles of those that stayed; below, how many of the others have work. The window
/// is (from, the cut, to).
pub(crate) fn storm(
    title: &str,
    samples: &[(u64, u32)],
    back: &[Working],
    (from_ns, cut_ns, to_ns): (u64, u64, u64),
) -> String {
    let x = |ns: u64| {
        let part = (ns.saturating_sub(from_ns)) as f64 / (to_ns - from_ns).max(1) as f64;
        LEFT + part.min(1.0) * WIDTH
    };
    let mut svg = head(title, TOP + 2.0 * PANEL + GAP + 40.0);
    let (low, high) = LATENCY_DECADES;
    let height = |us: u32| {
        let decade = f64::from(us.max(1)).log10().clamp(low, high);
        TOP + PANEL * (1.0 - (decade - low) / (high - low))
    };
    for (decade, name) in (1..=6).zip(["10 µs", "100 µs", "1 ms", "10 ms", "100 ms", "1 s"]) {
        rule(&mut svg, height(10_u32.pow(decade)), name);
    }
    let buckets: Vec<(u64, Latency)> = (from_ns..to_ns)
        .step_by(BUCKET_NS as usize)
        .map(|ns| (ns + BUCKET_NS / 2, Latency::of(samples, ns, ns + BUCKET_NS)))
        .filter(|(_, latency)| latency.count > 0)
        .collect();
    let curve = |value: fn(&Latency) -> u32| {
        buckets.iter().map(|(ns, latency)| (x(*ns), height(value(latency)))).collect::<Vec<_>>()
    };
    line(&mut svg, &curve(|latency| latency.p50_us), COLOURS[0]);
    line(&mut svg, &curve(|latency| latency.p99_us), COLOURS[1]);
    line(&mut svg, &curve(|latency| latency.max_us), COLOURS[2]);
    let names = ["p50 of those that stayed", "p99", "max (per 100 ms)"];
    legend(&mut svg, &names);
    let bottom = TOP + 2.0 * PANEL + GAP;
    let mut at_ns: Vec<u64> = back
        .iter()
        .flat_map(|back| back.after_us.iter().map(|us| back.since_ns + u64::from(*us) * 1_000))
        .collect();
    at_ns.sort_unstable();
    let all = at_ns.len().max(1) as f64;
    let mut points = vec![(x(from_ns), bottom - PANEL), (x(cut_ns), bottom - PANEL)];
    points.push((x(cut_ns), bottom));
    let each = |(index, ns): (usize, &u64)| (x(*ns), bottom - PANEL * (index + 1) as f64 / all);
    points.extend(thinned(at_ns.len()).map(|index| each((index, &at_ns[index]))));
    points.push((x(to_ns), bottom - PANEL));
    for (part, name) in [(0.0, "none"), (0.5, "half"), (1.0, "all")] {
        rule(&mut svg, bottom - PANEL * part, name);
    }
    line(&mut svg, &points, COLOURS[0]);
    text(&mut svg, LEFT, bottom - PANEL - 8.0, "the others that have work");
    for tenth in 0..=(to_ns - from_ns) / 500_000_000 {
        let ns = from_ns + tenth * 500_000_000;
        let since = (ns as f64 - cut_ns as f64) / 1e9;
        text(&mut svg, x(ns) - 10.0, bottom + 18.0, &format!("{since:.1} s"));
    }
    svg + "</svg>\n"
}

/// How many miners have a tip, over the time since the first had it.
pub(crate) fn fan_out(title: &str, curves: &[(&str, &TipSpread)]) -> String {
    let longest = curves.iter().map(|(_, tip)| tip.last_us()).max().unwrap_or(1).max(1);
    let bottom = TOP + 1.5 * PANEL;
    let mut svg = head(title, bottom + 40.0);
    for (part, name) in [(0.0, "0 %"), (0.5, "50 %"), (1.0, "100 %")] {
        rule(&mut svg, bottom - 1.5 * PANEL * part, name);
    }
    for ((_, tip), colour) in curves.iter().zip(COLOURS) {
        let all = tip.after_us.len().max(1) as f64;
        let points: Vec<(f64, f64)> = thinned(tip.after_us.len())
            .map(|index| {
                let x = LEFT + f64::from(tip.after_us[index]) / f64::from(longest) * WIDTH;
                (x, bottom - 1.5 * PANEL * (index + 1) as f64 / all)
            })
            .collect();
        line(&mut svg, &points, colour);
    }
    let names: Vec<&str> = curves.iter().map(|(name, _)| *name).collect();
    legend(&mut svg, &names);
    for part in 0..=8 {
        let ms = f64::from(longest) / 1e3 * f64::from(part) / 8.0;
        let x = LEFT + WIDTH * f64::from(part) / 8.0;
        text(&mut svg, x - 10.0, bottom + 18.0, &format!("{ms:.0} ms"));
    }
    svg + "</svg>\n"
}

/// Some hundred of many points, the last one among them.
fn thinned(points: usize) -> impl Iterator<Item = usize> {
    let step = (points / 300).max(1);
    (0..points).step_by(step).chain(points.checked_sub(1))
}

fn head(title: &str, height: f64) -> String {
    format!(
        "<svg xmlns=\"http://www.w3.org/2000/svg\" width=\"{}\" height=\"{height}\" \
         font-family=\"sans-serif\" font-size=\"12\">\n<text x=\"10\" y=\"18\">{title}</text>\n",
        LEFT + WIDTH + 40.0
    )
}

fn text(svg: &mut String, x: f64, y: f64, text: &str) {
    let _ = writeln!(svg, "<text x=\"{x:.0}\" y=\"{y:.0}\">{text}</text>");
}

fn rule(svg: &mut String, y: f64, name: &str) {
    text(svg, 10.0, y + 4.0, name);
    let _ = writeln!(svg, "<path d=\"M{LEFT} {y:.1}h{WIDTH}\" stroke=\"#ddd\"/>");
}

fn legend(svg: &mut String, names: &[&str]) {
    for (index, (name, colour)) in names.iter().zip(COLOURS).enumerate() {
        let x = LEFT + 190.0 * index as f64;
        let _ = writeln!(svg, "<text x=\"{x:.0}\" y=\"38\" fill=\"{colour}\">{name}</text>");
    }
}

fn line(svg: &mut String, points: &[(f64, f64)], colour: &str) {
    let points: String = points.iter().map(|(x, y)| format!("{x:.1},{y:.1} ")).collect();
    let points = points.trim_end();
    let _ = writeln!(
        svg,
        "<polyline points=\"{points}\" fill=\"none\" stroke=\"{colour}\" stroke-width=\"1.5\"/>"
    );
}
