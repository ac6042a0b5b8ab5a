//! Reading single values: each reader knows the type, the unit and the range of what it reads,
//! and says in the error how the value would be written rightly.

use std::fmt::Display;
use std::net::SocketAddr;
use std::ops::RangeInclusive;

use shard::{AllowList, CidrError};
use toml::de::{DeArray, DeValue};

use super::fault::{Fault, nearest};
use super::raw::{RawTable, RawValue};

/// Reads the values of one table and collects what is wrong with them.
pub(crate) struct Reader<'r, 't> {
    pub(crate) table: Option<&'r RawTable<'t>>,
    pub(crate) faults: &'r mut Vec<Fault>,
}

impl<'r, 't> Reader<'r, 't> {
    /// The raw value of a key, if the file has it.
    pub(crate) fn raw(&self, key: &str) -> Option<&'r RawValue<'t>> {
        self.table.and_then(|table| table.values.get(key))
    }

    /// Where a fault of this key is shown: at its value, else at the head of the section.
    pub(crate) fn offset(&self, key: &str) -> usize {
        let head = self.table.map_or(0, |table| table.offset);
        self.raw(key).map_or(head, |raw| raw.offset)
    }

    /// Adds a finding at the value of `key`.
    pub(crate) fn fault(&mut self, key: &str, what: impl Into<String>, remedy: impl Into<String>) {
        let offset = self.offset(key);
        self.faults.push(Fault::new(offset, what, remedy));
    }

    /// `true` or `false`.
    pub(crate) fn flag(&mut self, key: &str, default: bool) -> bool {
        let Some(raw) = self.raw(key) else { return default };
        if let DeValue::Boolean(value) = raw.value {
            return value;
        }
        self.wrong_type(key, raw, "true or false", &format!("{key} = true"));
        default
    }

    /// A text, as written.
    pub(crate) fn text(&mut self, key: &str) -> Option<String> {
        let raw = self.raw(key)?;
        if let Some(text) = raw.value.as_str() {
            return Some(text.to_owned());
        }
        self.wrong_type(key, raw, "a text in quotes", &format!("{key} = \"…\""));
        None
    }

    /// One of a few words.
    pub(crate) fn word<T: Copy>(&mut self, key: &str, words: &[(&str, T)], default: T) -> T {
        let Some(given) = self.text(key) else { return default };
        if let Some((_, value)) = words.iter().find(|(word, _)| *word == given) {
            return *value;
        }
        let known: Vec<&str> = words.iter().map(|(word, _)| *word).collect();
        let remedy = match nearest(&given, known.iter().copied()) {
            Some(meant) => format!("did you mean \"{meant}\"?"),
            None => format!("use one of {}", known.join(", ")),
        };
        self.fault(key, format!("{key} cannot be \"{given}\""), remedy);
        default
    }

    /// A whole number within its limits.
    pub(crate) fn whole(&mut self, key: &str, range: RangeInclusive<u64>) -> Option<u64> {
        let raw = self.raw(key)?;
        let DeValue::Integer(integer) = &raw.value else {
            self.wrong_type(key, raw, "a whole number", &format!("{key} = {}", range.end()));
            return None;
        };
        let value = i128::from_str_radix(integer.as_str(), integer.radix()).unwrap_or(i128::MAX);
        match u64::try_from(value).ok().filter(|value| range.contains(value)) {
            Some(value) => Some(value),
            None => {
                self.out_of_range(key, integer, range.start(), range.end());
                None
            }
        }
    }

    /// A number, whole or not, within its limits. TOML's `inf` and `nan` are never within.
    pub(crate) fn number(&mut self, key: &str, range: RangeInclusive<f64>) -> Option<f64> {
        let raw = self.raw(key)?;
        let written = match &raw.value {
            DeValue::Integer(integer) => {
                i128::from_str_radix(integer.as_str(), integer.radix()).ok().map(|v| v as f64)
            }
            DeValue::Float(float) => float.as_str().parse().ok(),
            _ => {
                let example = format!("{key} = 1.5");
                self.wrong_type(key, raw, "a number without quotes or unit", &example);
                return None;
            }
        };
        match written.filter(|value| range.contains(value)) {
            Some(value) => Some(value),
            None => {
                let given = match &raw.value {
                    DeValue::Integer(integer) => integer.to_string(),
                    DeValue::Float(float) => float.as_str().to_owned(),
                    _ => String::new(),
                };
                self.out_of_range(key, given, range.start(), range.end());
                None
            }
        }
    }

    /// One socket address.
    pub(crate) fn address(&mut self, key: &str) -> Option<SocketAddr> {
        let given = self.text(key)?;
        let offset = self.offset(key);
        self.socket_address(key, offset, &given)
    }

    /// One or several socket addresses.
    pub(crate) fn addresses(&mut self, key: &str) -> Option<Vec<(usize, SocketAddr)>> {
        let items = self.texts(key, "[\"0.0.0.0:3333\"]")?;
        if items.is_empty() {
            self.fault(key, format!("{key} is empty"), format!("write {key} = [\"0.0.0.0:3333\"]"));
        }
        let read = |(offset, text): (usize, String)| {
            Some((offset, self.socket_address(key, offset, &text)?))
        };
        Some(items.into_iter().filter_map(read).collect())
    }

    /// Networks, and the words that stand for several.
    pub(crate) fn networks(&mut self, key: &str) -> Option<AllowList> {
        let items = self.texts(key, "[\"private\"]")?;
        let mut good = Vec::with_capacity(items.len());
        for (offset, text) in &items {
            match AllowList::parse([text.as_str()]) {
                Ok(_) => good.push(text.as_str()),
                Err((_, error)) => {
                    let what = format!("\"{text}\" is no network");
                    self.faults.push(Fault::new(*offset, what, network_remedy(&error)));
                }
            }
        }
        AllowList::parse(good).ok()
    }

    /// Several whole numbers.
    pub(crate) fn wholes(&mut self, key: &str, range: RangeInclusive<u64>) -> Option<Vec<u64>> {
        let raw = self.raw(key)?;
        let whole = |value: &DeValue<'_>| {
            let integer = value.as_integer()?;
            let value = u64::from_str_radix(integer.as_str(), integer.radix()).ok()?;
            range.contains(&value).then_some(value)
        };
        let read: Option<Vec<u64>> = raw
            .value
            .as_array()
            .and_then(|items| items.iter().map(|item| whole(item.get_ref())).collect());
        if read.is_none() {
            let what = format!("{key} must be a list of numbers up to {}", range.end());
            self.fault(key, what, format!("write {key} = [0, 1]"));
        }
        read
    }

    /// A text or a list of texts, each with its place.
    pub(crate) fn texts(&mut self, key: &str, example: &str) -> Option<Vec<(usize, String)>> {
        let raw = self.raw(key)?;
        if let Some(text) = raw.value.as_str() {
            return Some(vec![(raw.offset, text.to_owned())]);
        }
        let texts = |items: &DeArray<'_>| {
            let text = |item: &toml::Spanned<DeValue<'_>>| {
                Some((item.span().start, item.get_ref().as_str()?.to_owned()))
            };
            items.iter().map(text).collect::<Option<Vec<_>>>()
        };
        let read = raw.value.as_array().and_then(texts);
        if read.is_none() {
            self.wrong_type(key, raw, "a list of texts", &format!("{key} = {example}"));
        }
        read
    }

    fn socket_address(&mut self, key: &str, offset: usize, text: &str) -> Option<SocketAddr> {
        if let Ok(address) = text.parse() {
            return Some(address);
        }
        let what = format!("{key} \"{text}\" is not IP:PORT");
        let remedy = if text.parse::<std::net::IpAddr>().is_ok() {
            "add the port, as in \"0.0.0.0:3333\" or \"[::]:3333\"".to_owned()
        } else if let Some(port) = text.strip_prefix(':').or(text.strip_prefix("*:")) {
            format!("for every interface write \"0.0.0.0:{port}\" or \"[::]:{port}\"")
        } else {
            "write the number of an interface and a port, as in \"0.0.0.0:3333\"; names are not \
             looked up"
                .to_owned()
        };
        self.faults.push(Fault::new(offset, what, remedy));
        None
    }

    fn wrong_type(&mut self, key: &str, raw: &RawValue<'_>, wanted: &str, example: &str) {
        let given = match raw.value.type_str() {
            "integer" => "a whole number",
            "float" => "a number",
            "boolean" => "true or false",
            "string" => "a text",
            "array" => "a list",
            "datetime" => "a date",
            _ => "a table",
        };
        let what = format!("{key} must be {wanted}, not {given}");
        self.faults.push(Fault::new(raw.offset, what, format!("write for example {example}")));
    }

    fn out_of_range(
        &mut self,
        key: &str,
        given: impl Display,
        low: impl Display,
        high: impl Display,
    ) {
        self.fault(key, format!("{key} cannot be {given}"), format!("use {low} to {high}"));
    }
}

fn network_remedy(error: &CidrError) -> String {
    match error {
        CidrError::Address(_) => "write \"10.0.0.0/8\", \"private\" or \"any\"".to_owned(),
        CidrError::Bits(_) => "the number after the slash is 0 to 32, for IPv6 0 to 128".to_owned(),
        CidrError::HostBits(block) => format!("the network is \"{block}\""),
    }
}
