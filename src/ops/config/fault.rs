//! What is wrong with a configuration file: where, what, and the remedy. Every finding of a file
//! is kept, in the order of the file, so that one run of `check` shows all there is to mend.

use std::fmt;
use std::path::{Path, PathBuf};

/// One finding, at a byte offset of the file.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Fault {
    pub(crate) offset: usize,
    pub(crate) what: String,
    pub(crate) remedy: String,
}

impl Fault {
    pub(crate) fn new(offset: usize, what: impl Into<String>, remedy: impl Into<String>) -> Fault {
        Fault { offset, what: what.into(), remedy: remedy.into() }
    }
}

/// Everything that is wrong with one file, each finding on a line of its own.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Faults {
    lines: Vec<String>,
}

impl Faults {
    /// Faults at places inside the text of `path`.
    pub(crate) fn within(path: &Path, text: &str, mut faults: Vec<Fault>) -> Faults {
        faults.sort_by_key(|fault| fault.offset);
        let line = |fault: Fault| {
            let (line, column) = place(text, fault.offset);
            format!("{}:{line}:{column}: {}; {}", path.display(), fault.what, fault.remedy)
        };
        let mut lines: Vec<String> = faults.into_iter().map(line).collect();
        // Two rules about one value may stumble over the same thing.
        lines.dedup();
        Faults { lines }
    }

    /// The file as a whole cannot be read: the place is its very beginning.
    pub(crate) fn of_file(path: &Path, what: impl fmt::Display, remedy: &str) -> Faults {
        Faults { lines: vec![format!("{}:1:1: {what}; {remedy}", path.display())] }
    }

    /// No file was named and none stands where one is looked for.
    pub(crate) fn not_found(searched: &[PathBuf]) -> Faults {
        let paths: Vec<String> = searched.iter().map(|path| path.display().to_string()).collect();
        Faults {
            lines: vec![format!(
                "no configuration file: looked for {}; name one with --config, or write one with \
                 `headframe generate config > headframe.toml`",
                paths.join(" and ")
            )],
        }
    }

    /// The findings, ready to print, in the order of the file.
    pub fn lines(&self) -> &[String] {
        &self.lines
    }
}

impl fmt::Display for Faults {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        out.write_str(&self.lines.join("\n"))
    }
}

impl std::error::Error for Faults {}

/// Line and column of a byte offset, both from 1; the column counts characters, as editors do.
pub(crate) fn place(text: &str, offset: usize) -> (usize, usize) {
    let mut end = offset.min(text.len());
    while !text.is_char_boundary(end) {
        end -= 1;
    }
    let before = &text[..end];
    let line = before.matches('\n').count() + 1;
    let start = before.rfind('\n').map_or(0, |newline| newline + 1);
    (line, before[start..].chars().count() + 1)
}

/// The known name that `given` was probably meant to be.
pub(crate) fn nearest<'a>(given: &str, known: impl Iterator<Item = &'a str>) -> Option<&'a str> {
    /// Two slips of the finger; in a short name only one, or everything would resemble it.
    const SLIPS_MAX: usize = 2;
    let slips_max = if given.chars().count() <= 3 { 1 } else { SLIPS_MAX };
    known
        .map(|name| (slips(given, name), name))
        .filter(|(count, _)| *count <= slips_max)
        .min()
        .map(|(_, name)| name)
}

/// Edit distance where a swap of two neighbours counts as one slip, as typing has it.
fn slips(left: &str, right: &str) -> usize {
    let left: Vec<char> = left.chars().collect();
    let right: Vec<char> = right.chars().collect();
    let mut rows = vec![vec![0; right.len() + 1]; left.len() + 1];
    for (i, row) in rows.iter_mut().enumerate() {
        row[0] = i;
    }
    rows[0] = (0..=right.len()).collect();
    for i in 1..=left.len() {
        for j in 1..=right.len() {
            let same = usize::from(left[i - 1] != right[j - 1]);
            let mut best =
                (rows[i - 1][j] + 1).min(rows[i][j - 1] + 1).min(rows[i - 1][j - 1] + same);
            let swapped =
                i > 1 && j > 1 && left[i - 1] == right[j - 2] && left[i - 2] == right[j - 1];
            if swapped {
                best = best.min(rows[i - 2][j - 2] + 1);
            }
            rows[i][j] = best;
        }
    }
    rows[left.len()][right.len()]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn places_count_lines_and_characters_from_one() {
        let text = "a = 1\nÄÖ = 2\n";
        assert_eq!(place(text, 0), (1, 1));
        assert_eq!(place(text, 6), (2, 1));
        assert_eq!(place(text, text.find('2').expect("it is there")), (2, 6));
        assert_eq!(place(text, 7), (2, 1), "inside a character: its beginning");
        assert_eq!(place(text, 999), (3, 1));
    }

    #[test]
    fn a_slip_of_the_finger_finds_its_name() {
        let known = ["address", "allow", "start"];
        assert_eq!(nearest("adress", known.into_iter()), Some("address"));
        assert_eq!(nearest("strat", known.into_iter()), Some("start"));
        assert_eq!(nearest("colour", known.into_iter()), None);
    }
}
