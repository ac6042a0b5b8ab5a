//! Where each value of a good file stands, for findings that come later: a port that is taken, a
//! node that refuses the password. A value that the file does not give is shown where its section
//! begins, or at the beginning of the file.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use super::fault::place;
use super::raw::{RawConfig, RawValue};

/// The value of a section that a finding is about.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Spot {
    /// The section's name, as `node.backup`.
    pub section: &'static str,
    /// Which of several sections of that name, from 0.
    pub table: usize,
    /// The key; empty for the section itself.
    pub key: &'static str,
    /// Which item of a list, from 0; 0 also for a value that is no list.
    pub item: usize,
}

impl Spot {
    /// The value of a key in the first section of that name.
    pub const fn of(section: &'static str, key: &'static str) -> Spot {
        Spot { section, table: 0, key, item: 0 }
    }

    /// What only the file as a whole can be blamed for.
    pub const FILE: Spot = Spot::of("", "");
}

/// Every value's line and column.
#[derive(Clone, Debug)]
pub struct Places {
    path: PathBuf,
    places: BTreeMap<Spot, (usize, usize)>,
}

impl Places {
    /// The places of everything in `raw`, which was read from `text`.
    pub(super) fn of(path: &Path, text: &str, raw: &RawConfig<'_>) -> Places {
        let mut counts = BTreeMap::new();
        let mut places = BTreeMap::new();
        for table in raw.all() {
            let section = table.section.name;
            let next = counts.entry(section).or_insert(0_usize);
            let spot = |key, item| Spot { section, table: *next, key, item };
            places.insert(spot("", 0), place(text, table.offset));
            for (key, value) in &table.values {
                for (item, offset) in offsets(value).into_iter().enumerate() {
                    places.insert(spot(key, item), place(text, offset));
                }
            }
            *next += 1;
        }
        Places { path: path.to_owned(), places }
    }

    /// `file:line:column` of a value.
    pub fn show(&self, spot: Spot) -> String {
        let first = Spot { item: 0, ..spot };
        let head = Spot { key: "", ..first };
        let place = [spot, first, head].iter().find_map(|spot| self.places.get(spot));
        let (line, column) = place.copied().unwrap_or((1, 1));
        format!("{}:{line}:{column}", self.path.display())
    }

    /// The file.
    pub fn path(&self) -> &Path {
        &self.path
    }
}

/// The offset of a value; of a list, that of each item.
fn offsets(value: &RawValue<'_>) -> Vec<usize> {
    match value.value.as_array() {
        Some(items) if !items.is_empty() => items.iter().map(|item| item.span().start).collect(),
        _ => vec![value.offset],
    }
}
