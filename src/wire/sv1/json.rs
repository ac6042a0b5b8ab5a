//! JSON values left as they lie in the line, over `serde_json`.
//!
//! Nothing here recurses with the depth of the input (raw values are skipped with an explicit
//! stack) and each byte is looked at a bounded number of times. What the values mean is for
//! `super::parse` and [`super::server`].

use alloc::borrow::Cow;
use alloc::string::String;
use core::fmt;

use serde::de::{Deserialize, Deserializer, IgnoredAny, MapAccess, SeqAccess, Visitor};
use serde_json::value::RawValue;

/// The fields of a JSON-RPC object as raw JSON text. Of duplicate keys the last wins.
#[derive(Default)]
pub(super) struct Envelope<'a> {
    pub(super) id: Option<&'a str>,
    pub(super) method: Option<&'a str>,
    pub(super) params: Option<&'a str>,
    pub(super) result: Option<&'a str>,
    pub(super) error: Option<&'a str>,
    /// Some pools name the reason of a rejected share here.
    pub(super) reject_reason: Option<&'a str>,
}

/// One JSON value, as far as anything is read out of it.
#[derive(Debug, PartialEq)]
pub(super) enum Value<'a> {
    /// No such parameter, or null.
    Absent,
    /// A string whose escapes make no text.
    BadText,
    Bool(bool),
    /// An array or object as raw text.
    Nested(&'a str),
    /// A number as it was written.
    Number(&'a str),
    Text(Cow<'a, str>),
}

/// The first parameters of a request.
pub(super) struct Values<'a> {
    values: [Value<'a>; VALUES_MAX],
}

/// Enough for `mining.notify`, which has most; further elements are skipped.
pub(super) const VALUES_MAX: usize = 9;

impl<'a> Value<'a> {
    /// Reads a raw JSON text that is known to be well-formed.
    pub(super) fn of(raw: &'a str) -> Value<'a> {
        match raw.as_bytes().first() {
            Some(b'"') => text(raw).map_or(Value::BadText, Value::Text),
            Some(b'[' | b'{') => Value::Nested(raw),
            Some(b't') => Value::Bool(true),
            Some(b'f') => Value::Bool(false),
            None | Some(b'n') => Value::Absent,
            Some(_) => Value::Number(raw),
        }
    }

    /// The number in a number or in a string, where it is finite.
    pub(super) fn number(&self) -> Option<f64> {
        let text = match self {
            Value::Number(raw) => raw,
            Value::Text(text) => text.trim(),
            _ => return None,
        };
        text.parse().ok().filter(|number: &f64| number.is_finite())
    }
}

impl<'a> Values<'a> {
    /// The elements of an array; a lone scalar or object is an array of one.
    pub(super) fn of(params: Option<&'a str>) -> Values<'a> {
        let mut values = [const { Value::Absent }; VALUES_MAX];
        match Value::of(params.unwrap_or("null")) {
            Value::Nested(raw) if raw.starts_with('[') => {
                for (value, raw) in values.iter_mut().zip(elements::<VALUES_MAX>(raw)) {
                    *value = Value::of(raw.unwrap_or("null"));
                }
            }
            value => values[0] = value,
        }
        Values { values }
    }

    /// Takes the parameter at `index` out; one that is not there is [`Value::Absent`].
    pub(super) fn take(&mut self, index: usize) -> Value<'a> {
        let value = self.values.get_mut(index);
        value.map_or(Value::Absent, |value| core::mem::replace(value, Value::Absent))
    }
}

/// Reads a line as one object. The error is `serde_json`'s, with its column.
pub(super) fn envelope(line: &str) -> Result<Envelope<'_>, serde_json::Error> {
    let mut envelope = Envelope::default();
    each_member(line, |key, raw| match key {
        "id" => envelope.id = Some(raw),
        "method" => envelope.method = Some(raw),
        "params" => envelope.params = Some(raw),
        "result" => envelope.result = Some(raw),
        "error" => envelope.error = Some(raw),
        "reject-reason" => envelope.reject_reason = Some(raw),
        _ => {}
    })?;
    Ok(envelope)
}

/// Calls `member` with each key and raw value of an object, in the order of the text.
pub(super) fn each_member<'a>(
    raw: &'a str,
    member: impl FnMut(&str, &'a str),
) -> Result<(), serde_json::Error> {
    let mut json = serde_json::Deserializer::from_str(raw);
    json.deserialize_map(Members(member))?;
    json.end()
}

/// The first `N` elements of an array as raw text; none of something else.
pub(super) fn elements<const N: usize>(raw: &str) -> [Option<&str>; N] {
    let mut found = [None; N];
    let mut at = 0;
    each_element(raw, |element| {
        if let Some(slot) = found.get_mut(at) {
            *slot = Some(element);
        }
        at += 1;
        at < N
    });
    found
}

/// Calls `element` with the raw text of each element of an array while it returns true.
/// Something else than an array has none.
pub(super) fn each_element<'a>(raw: &'a str, element: impl FnMut(&'a str) -> bool) {
    let mut json = serde_json::Deserializer::from_str(raw);
    // A raw text comes from a parsed line, so the only possible error is another type.
    let _ = json.deserialize_seq(Elements(element));
}

/// The text of a raw JSON string, borrowed where it has no escapes.
pub(super) fn text(raw: &str) -> Option<Cow<'_, str>> {
    serde_json::from_str(raw).ok().map(|Text(text)| text)
}

struct Text<'a>(Cow<'a, str>);

impl<'de> Deserialize<'de> for Text<'de> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_str(TextVisitor)
    }
}

struct TextVisitor;

impl<'de> Visitor<'de> for TextVisitor {
    type Value = Text<'de>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a string")
    }

    fn visit_borrowed_str<E>(self, text: &'de str) -> Result<Text<'de>, E> {
        Ok(Text(Cow::Borrowed(text)))
    }

    fn visit_str<E>(self, text: &str) -> Result<Text<'de>, E> {
        Ok(Text(Cow::Owned(String::from(text))))
    }
}

struct Members<F>(F);

impl<'de, F: FnMut(&str, &'de str)> Visitor<'de> for Members<F> {
    type Value = ();

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("an object")
    }

    fn visit_map<A: MapAccess<'de>>(mut self, mut map: A) -> Result<(), A::Error> {
        while let Some(Text(key)) = map.next_key()? {
            let value: &RawValue = map.next_value()?;
            (self.0)(&key, value.get());
        }
        Ok(())
    }
}

struct Elements<F>(F);

impl<'de, F: FnMut(&'de str) -> bool> Visitor<'de> for Elements<F> {
    type Value = ();

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("an array")
    }

    fn visit_seq<A: SeqAccess<'de>>(mut self, mut seq: A) -> Result<(), A::Error> {
        while let Some(element) = seq.next_element::<&RawValue>()? {
            if !(self.0)(element.get()) {
                while seq.next_element::<IgnoredAny>()?.is_some() {}
                break;
            }
        }
        Ok(())
    }
}
