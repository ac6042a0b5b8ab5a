//! The sample file, written from the table of keys, so that it can never name a key that the
//! reader refuses or forget one that it takes.

use super::keys::{Built, SECTIONS, Sample, Section, written};

/// Columns after which the remark of a key starts.
const REMARK_COLUMN: usize = 34;

/// A complete file in which every key has its default.
pub fn sample() -> String {
    let mut text = String::from(
        "# headframe.toml: every key of this version with its default.\n\
         # A line that starts with '#' shows a key that has no fixed default.\n\
         # `headframe check --config FILE` says what is wrong, and where.\n",
    );
    for section in SECTIONS.iter().filter(|section| section.built == Built::Yes) {
        write_section(&mut text, section);
    }
    text
}

fn write_section(text: &mut String, section: &Section) {
    let shown = section.keys.iter().filter(|key| !matches!(key.sample, Sample::Hidden));
    let lines: Vec<String> = shown
        .map(|key| {
            let (mark, value) = match key.sample {
                Sample::Default(value) => ("", value),
                Sample::Example(value) => ("# ", value),
                Sample::Hidden => unreachable!("hidden keys were left out above"),
            };
            let line = format!("{mark}{} = {value}", key.name);
            format!("{line:REMARK_COLUMN$}  # {}\n", key.what)
        })
        .collect();
    if lines.is_empty() {
        return;
    }
    text.push('\n');
    if !section.what.is_empty() {
        text.push_str(&format!("# {}\n", section.what));
    }
    let mark = if section.optional { "# " } else { "" };
    text.push_str(&format!("{mark}{}\n", written(section)));
    text.extend(lines);
}
