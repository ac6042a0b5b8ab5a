//! The first stage: what the file says, with the place of every word, and nothing that the table
//! of keys does not know. Values are not looked at here; the second stage turns them into a
//! `Config` that cannot be wrong.

use std::collections::BTreeMap;

use toml::Spanned;
use toml::de::{DeTable, DeValue};

use super::fault::{Fault, nearest};
use super::keys::{self, Built, Key, SECTIONS, Section, Shape};

/// One table of the file: the place of its head, and its raw values.
#[derive(Debug)]
pub(crate) struct RawTable<'t> {
    pub(crate) section: &'static Section,
    /// Where its name stands in the file.
    pub(crate) offset: usize,
    pub(crate) values: BTreeMap<&'static str, RawValue<'t>>,
}

/// One `key = value`.
#[derive(Debug)]
pub(crate) struct RawValue<'t> {
    pub(crate) offset: usize,
    pub(crate) value: DeValue<'t>,
}

/// The file as it was written.
#[derive(Debug, Default)]
pub(crate) struct RawConfig<'t> {
    tables: Vec<RawTable<'t>>,
}

impl<'t> RawConfig<'t> {
    /// Reads TOML; whatever does not belong there is added to `faults`.
    pub(crate) fn read(text: &'t str, faults: &mut Vec<Fault>) -> RawConfig<'t> {
        let (document, errors) = DeTable::parse_recoverable(text);
        let mut raw = RawConfig::default();
        if errors.is_empty() {
            raw.take_document(document.into_inner(), faults);
        }
        // Recovered values of a broken document would only add false findings.
        faults.extend(errors.iter().map(|error| {
            let offset = error.span().map_or(0, |span| span.start);
            let message = error.message().replace('\n', ", ");
            Fault::new(offset, format!("not TOML: {message}"), "mend the syntax (toml.io)")
        }));
        raw
    }

    /// Whether nothing at all was read.
    pub(crate) fn is_empty(&self) -> bool {
        self.tables.is_empty()
    }

    /// The only table of a section that stands once.
    pub(crate) fn table(&self, section: &str) -> Option<&RawTable<'t>> {
        self.tables.iter().find(|table| table.section.name == section)
    }

    /// All tables of a section that may be repeated.
    pub(crate) fn tables(&self, section: &str) -> impl Iterator<Item = &RawTable<'t>> {
        self.tables.iter().filter(move |table| table.section.name == section)
    }

    /// All tables, in the order of the file within each section.
    pub(crate) fn all(&self) -> impl Iterator<Item = &RawTable<'t>> {
        self.tables.iter()
    }

    fn take_document(&mut self, document: DeTable<'t>, faults: &mut Vec<Fault>) {
        for (name, value) in document {
            let offset = name.span().start;
            match keys::find(name.get_ref()) {
                Some(section) => self.take_section(section, offset, value, faults),
                None => faults.push(unknown_at_top(name.get_ref(), offset)),
            }
        }
    }

    fn take_section(
        &mut self,
        section: &'static Section,
        offset: usize,
        value: Spanned<DeValue<'t>>,
        faults: &mut Vec<Fault>,
    ) {
        if section.built == Built::NotYet {
            faults.push(section_not_yet(section, offset));
            return;
        }
        match (value.into_inner(), section.shape) {
            (DeValue::Table(table), _) => self.take_table(section, offset, table, faults),
            (DeValue::Array(items), Shape::TableOrSeveral) => {
                for item in items {
                    let place = item.span().start;
                    match item.into_inner() {
                        DeValue::Table(table) => self.take_table(section, place, table, faults),
                        _ => faults.push(not_a_section(section, place)),
                    }
                }
            }
            _ => faults.push(not_a_section(section, offset)),
        }
    }

    fn take_table(
        &mut self,
        section: &'static Section,
        offset: usize,
        table: DeTable<'t>,
        faults: &mut Vec<Fault>,
    ) {
        let mut values = BTreeMap::new();
        for (name, value) in table {
            let key_offset = name.span().start;
            let inner = format!("{}.{}", section.name, name.get_ref());
            if let Some(inner) = keys::find(&inner) {
                self.take_section(inner, key_offset, value, faults);
                continue;
            }
            match section.key(name.get_ref()) {
                Some(Key { built: Built::NotYet, name, .. }) => faults.push(Fault::new(
                    key_offset,
                    format!("key \"{name}\" in [{}] is not in this version", section.name),
                    "remove the line",
                )),
                Some(key) => {
                    let offset = value.span().start;
                    values.insert(key.name, RawValue { offset, value: value.into_inner() });
                }
                None => faults.push(unknown_in_section(section, name.get_ref(), key_offset)),
            }
        }
        self.tables.push(RawTable { section, offset, values });
    }
}

fn section_not_yet(section: &Section, offset: usize) -> Fault {
    Fault::new(
        offset,
        format!("section [{}] is not in this version", section.name),
        "remove the section",
    )
}

fn not_a_section(section: &Section, offset: usize) -> Fault {
    let written = match section.shape {
        Shape::Table => format!("write [{}] on a line of its own, once", section.name),
        Shape::TableOrSeveral => format!("write [{0}] once or [[{0}]] several times", section.name),
    };
    Fault::new(offset, format!("\"{}\" is a section, not a value", section.name), written)
}

fn unknown_at_top(name: &str, offset: usize) -> Fault {
    let sections = || SECTIONS.iter().map(|section| section.name).filter(|n| !n.contains('.'));
    let what = format!("unknown section \"{name}\"");
    // A key that lost its section is commoner than a section that nobody ever heard of.
    if let Some(section) = SECTIONS.iter().find(|section| section.key(name).is_some()) {
        return Fault::new(offset, what, format!("\"{name}\" belongs under [{}]", section.name));
    }
    Fault::new(offset, what, suggestion(name, sections))
}

fn unknown_in_section(section: &Section, name: &str, offset: usize) -> Fault {
    let inner_names = SECTIONS.iter().filter_map(|other| {
        let rest = other.name.strip_prefix(section.name)?;
        rest.strip_prefix('.')
    });
    let names: Vec<&str> = section.keys.iter().map(|key| key.name).chain(inner_names).collect();
    let what = format!("unknown key \"{name}\" in [{}]", section.name);
    Fault::new(offset, what, suggestion(name, || names.iter().copied()))
}

fn suggestion<'a, I: Iterator<Item = &'a str>>(name: &str, known: impl Fn() -> I) -> String {
    match nearest(name, known()) {
        Some(meant) => format!("did you mean \"{meant}\"?"),
        None => format!("known here: {}", known().collect::<Vec<_>>().join(", ")),
    }
}
