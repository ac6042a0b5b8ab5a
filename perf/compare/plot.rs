//! One plot: CPU per share of every server in every closed loop, as a plain SVG bar chart.

use std::fmt::Write as _;

use crate::scenarios::{Load, Row};

const BAR: f64 = 18.0;
const LEFT: f64 = 330.0;
const WIDTH: f64 = 560.0;

/// The chart; shorter bars are better.
#[must_use]
pub(crate) fn cpu_per_share(rows: &[Row]) -> String {
    let closed = rows.iter().filter(|row| matches!(row.load, Load::Closed));
    let bars: Vec<&Row> = closed.filter(|row| row.invalid.is_none()).collect();
    let longest = bars.iter().map(|row| row.cpu_us.max).fold(1e-9, f64::max);
    let height = (bars.len() as f64 + 2.0) * (BAR + 6.0);
    let mut svg = format!(
        "<svg xmlns=\"http://www.w3.org/2000/svg\" width=\"{}\" height=\"{height}\" \
         font-family=\"sans-serif\" font-size=\"12\">\n\
         <text x=\"10\" y=\"18\">CPU per share, closed loop, in µs (bar: median; line: min–max)\
         </text>\n",
        LEFT + WIDTH + 80.0
    );
    for (index, row) in bars.iter().enumerate() {
        let y = (index as f64 + 1.5) * (BAR + 6.0);
        let x = |us: f64| LEFT + us / longest * WIDTH;
        let middle = y + BAR / 2.0;
        let colour = if row.server.contains("floor") { "#999" } else { "#2a6f97" };
        let _ = writeln!(
            svg,
            "<text x=\"10\" y=\"{}\">{}, {} connections</text>\
             <rect x=\"{LEFT}\" y=\"{y}\" width=\"{:.1}\" height=\"{BAR}\" fill=\"{colour}\"/>\
             <line x1=\"{:.1}\" x2=\"{:.1}\" y1=\"{middle}\" y2=\"{middle}\" stroke=\"#000\"/>\
             <text x=\"{:.1}\" y=\"{}\">{:.1}</text>",
            middle + 4.0,
            row.server,
            row.connections,
            x(row.cpu_us.median) - LEFT,
            x(row.cpu_us.min),
            x(row.cpu_us.max),
            x(row.cpu_us.max) + 6.0,
            middle + 4.0,
            row.cpu_us.median,
        );
    }
    svg.push_str("</svg>\n");
    svg
}
