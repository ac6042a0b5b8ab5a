//! The JSON of a template, cut into fields that are not yet believed.
//!
//! Every field is kept as its own text, so that a wrong one can be named, and so that no nonsense
//! inside of it costs memory: `[[[[…` in place of a number is compared with nothing but a limit.

use std::collections::BTreeMap;
use std::fmt;

use pow::Hash256;
use serde::de::{Error, SeqAccess, Visitor};
use serde::{Deserialize, Deserializer};
use serde_json::value::RawValue;

use super::{TRANSACTIONS_MAX, TemplateError};
use crate::rpc::calls::hash_of_text;
use crate::rpc::error::printable;

/// A field that is no transaction is never longer, in bytes of JSON.
const SMALL_BYTES_MAX: usize = 4_096;

/// A field as it stands there; none if it is missing or null.
type Raw<'a> = Option<&'a RawValue>;

#[derive(Deserialize)]
pub(super) struct RawTemplate<'a> {
    #[serde(borrow)]
    pub(super) version: Raw<'a>,
    #[serde(borrow)]
    pub(super) rules: Raw<'a>,
    #[serde(borrow)]
    pub(super) vbavailable: Raw<'a>,
    #[serde(borrow)]
    pub(super) vbrequired: Raw<'a>,
    #[serde(borrow)]
    pub(super) previousblockhash: Raw<'a>,
    #[serde(borrow, deserialize_with = "bounded")]
    pub(super) transactions: Vec<RawTransaction<'a>>,
    #[serde(borrow)]
    pub(super) coinbaseaux: Raw<'a>,
    #[serde(borrow)]
    pub(super) coinbasevalue: Raw<'a>,
    #[serde(borrow)]
    pub(super) longpollid: Raw<'a>,
    #[serde(borrow)]
    pub(super) mintime: Raw<'a>,
    #[serde(borrow)]
    pub(super) curtime: Raw<'a>,
    #[serde(borrow)]
    pub(super) bits: Raw<'a>,
    #[serde(borrow)]
    pub(super) height: Raw<'a>,
    #[serde(borrow)]
    pub(super) signet_challenge: Raw<'a>,
    #[serde(borrow)]
    pub(super) default_witness_commitment: Raw<'a>,
}

#[derive(Deserialize)]
pub(super) struct RawTransaction<'a> {
    #[serde(borrow)]
    data: Raw<'a>,
    #[serde(borrow)]
    pub(super) txid: Raw<'a>,
    #[serde(borrow)]
    pub(super) hash: Raw<'a>,
    #[serde(borrow)]
    depends: Raw<'a>,
    #[serde(borrow)]
    pub(super) fee: Raw<'a>,
    #[serde(borrow)]
    pub(super) sigops: Raw<'a>,
    #[serde(borrow)]
    pub(super) weight: Raw<'a>,
}

impl<'a> RawTemplate<'a> {
    pub(super) fn read(json: &'a str) -> Result<RawTemplate<'a>, TemplateError> {
        serde_json::from_str(json)
            .map_err(|error| TemplateError::Form(printable(&error.to_string())))
    }

    /// A whole number within limits.
    pub(super) fn number(
        &self,
        name: &'static str,
        raw: Raw<'a>,
        min: u64,
        max: u64,
    ) -> Result<u64, TemplateError> {
        let number = number(raw).and_then(|number| match number < min {
            true => Err(format!("is {number}, below {min}")),
            false if number > max => Err(format!("is {number}, above {max}")),
            false => Ok(number),
        });
        number.map_err(|fault| TemplateError::Field { name, fault })
    }

    pub(super) fn hash(&self, name: &'static str, raw: Raw<'a>) -> Result<Hash256, TemplateError> {
        hash(raw).map_err(|fault| TemplateError::Field { name, fault })
    }

    /// A text that may be missing.
    pub(super) fn text(
        &self,
        name: &'static str,
        raw: Raw<'a>,
    ) -> Result<Option<String>, TemplateError> {
        small(name, raw)
    }

    /// A list of texts that may be missing.
    pub(super) fn texts(
        &self,
        name: &'static str,
        raw: Raw<'a>,
    ) -> Result<Vec<String>, TemplateError> {
        Ok(small(name, raw)?.unwrap_or_default())
    }

    /// The keys of an object that may be missing.
    pub(super) fn names(
        &self,
        name: &'static str,
        raw: Raw<'a>,
    ) -> Result<Vec<String>, TemplateError> {
        let object = small::<BTreeMap<String, &RawValue>>(name, raw)?;
        Ok(object.unwrap_or_default().into_keys().collect())
    }

    /// The values of an object of texts that may be missing, in the order of its keys.
    pub(super) fn values(
        &self,
        name: &'static str,
        raw: Raw<'a>,
    ) -> Result<Vec<String>, TemplateError> {
        let object = small::<BTreeMap<String, String>>(name, raw)?;
        Ok(object.unwrap_or_default().into_values().collect())
    }

    /// Bytes in hex that may be missing.
    pub(super) fn bytes(
        &self,
        name: &'static str,
        raw: Raw<'a>,
        max: usize,
    ) -> Result<Option<Vec<u8>>, TemplateError> {
        if raw.is_none() {
            return Ok(None);
        }
        let bytes = digits(raw).and_then(|text| match text.len() / 2 > max {
            true => Err(format!("has more than {max} bytes")),
            false => decode(text),
        });
        bytes.map(Some).map_err(|fault| TemplateError::Field { name, fault })
    }
}

impl<'a> RawTransaction<'a> {
    pub(super) fn hash(&self, name: &str, raw: Raw<'a>) -> Result<Hash256, String> {
        hash(raw).map_err(|fault| format!("its {name} {fault}"))
    }

    pub(super) fn number(&self, name: &str, raw: Raw<'a>, max: u64) -> Result<u64, String> {
        match number(raw) {
            Ok(number) if number <= max => Ok(number),
            Ok(number) => Err(format!("its {name} is {number}, above {max}")),
            Err(fault) => Err(format!("its {name} {fault}")),
        }
    }

    pub(super) fn data(&self) -> Result<Vec<u8>, String> {
        let data = digits(self.data).and_then(decode);
        data.map_err(|fault| format!("its data {fault}"))
    }

    /// Whether `depends` names, counted from 1, nothing but transactions before this one.
    pub(super) fn depends_on_earlier(&self, index: usize) -> Result<(), String> {
        let raw = self.depends.ok_or("its depends is missing")?;
        let range: DependsRange = serde_json::from_str(raw.get())
            .map_err(|error| format!("its depends is no list of numbers: {error}"))?;
        match range.0 {
            Some((_, most)) if most > index as u64 => {
                Err(format!("it depends on number {most}, but is itself number {}", index + 1))
            }
            Some((0, _)) => Err("it depends on number 0, the coinbase".to_owned()),
            _ => Ok(()),
        }
    }
}

fn number(raw: Raw<'_>) -> Result<u64, String> {
    let text = raw.ok_or("is missing")?.get();
    if !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit()) {
        return text.parse().map_err(|_| format!("is {}, too much", printable(text)));
    }
    Err(match text.strip_prefix('-') {
        Some(rest) if rest.starts_with(|c: char| c.is_ascii_digit()) => {
            format!("is negative: {}", printable(text))
        }
        _ => format!("is {}, no whole number", printable(text)),
    })
}

fn hash(raw: Raw<'_>) -> Result<Hash256, String> {
    let text = digits(raw)?;
    hash_of_text(text).ok_or_else(|| format!("is {}, no hash", printable(text)))
}

/// What stands between two quotes. An escape is no digit, so none needs to be undone.
fn digits<'a>(raw: Raw<'a>) -> Result<&'a str, String> {
    let text = raw.ok_or("is missing")?.get();
    let inside = text.strip_prefix('"').and_then(|text| text.strip_suffix('"'));
    inside.ok_or_else(|| format!("is {}, no text", printable(text)))
}

fn decode(text: &str) -> Result<Vec<u8>, String> {
    let mut bytes = vec![0; text.len() / 2];
    match wire::hex::decode_into(text, &mut bytes) {
        Ok(_) => Ok(bytes),
        Err(error) => Err(format!("is no hex: {error}")),
    }
}

fn small<'a, T: Deserialize<'a>>(
    name: &'static str,
    raw: Raw<'a>,
) -> Result<Option<T>, TemplateError> {
    let Some(raw) = raw else { return Ok(None) };
    let fault = |fault: String| TemplateError::Field { name, fault };
    if raw.get().len() > SMALL_BYTES_MAX {
        return Err(fault(format!("is longer than {SMALL_BYTES_MAX} bytes")));
    }
    let value = serde_json::from_str(raw.get());
    value.map(Some).map_err(|error| fault(format!("is of a wrong type: {error}")))
}

/// The transactions, at most as many as a block can hold.
fn bounded<'de, D: Deserializer<'de>>(from: D) -> Result<Vec<RawTransaction<'de>>, D::Error> {
    struct Bounded;

    impl<'de> Visitor<'de> for Bounded {
        type Value = Vec<RawTransaction<'de>>;

        fn expecting(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
            out.write_str("a list of transactions")
        }

        fn visit_seq<S: SeqAccess<'de>>(self, mut list: S) -> Result<Self::Value, S::Error> {
            let mut all = Vec::new();
            while let Some(one) = list.next_element()? {
                if all.len() == TRANSACTIONS_MAX {
                    let fault = format_args!("more than {TRANSACTIONS_MAX} transactions");
                    return Err(S::Error::custom(fault));
                }
                all.push(one);
            }
            Ok(all)
        }
    }

    from.deserialize_seq(Bounded)
}

/// The least and the largest number of a list, which itself is not kept.
struct DependsRange(Option<(u64, u64)>);

impl<'de> Deserialize<'de> for DependsRange {
    fn deserialize<D: Deserializer<'de>>(from: D) -> Result<DependsRange, D::Error> {
        struct Range;

        impl<'de> Visitor<'de> for Range {
            type Value = DependsRange;

            fn expecting(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
                out.write_str("a list of numbers from 1")
            }

            fn visit_seq<S: SeqAccess<'de>>(self, mut list: S) -> Result<Self::Value, S::Error> {
                let mut range: Option<(u64, u64)> = None;
                while let Some(one) = list.next_element::<u64>()? {
                    let (least, most) = range.unwrap_or((one, one));
                    range = Some((least.min(one), most.max(one)));
                }
                Ok(DependsRange(range))
            }
        }

        from.deserialize_seq(Range)
    }
}
