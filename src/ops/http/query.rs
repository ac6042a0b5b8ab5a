//! What a page was asked for: which rows, and how many. A parameter that is unknown, comes twice or
//! makes no sense is refused with the reason, because a filter that is passed over shows a farm
//! that is not there.

use std::fmt::Display;
use std::ops::RangeInclusive;
use std::str::FromStr;

use axum::extract::rejection::QueryRejection;
use axum::extract::{FromRequestParts, Query};
use axum::http::StatusCode;
use axum::http::request::Parts;
use axum::response::Response;
use farm::ledger::ledger_name;

use super::api::error;

/// Rows of one page.
pub(super) const ROWS_MAX: usize = 1_000;
/// Rows of a page that does not say how many.
const ROWS_DEFAULT: usize = 100;
/// Letters of a wrong value that are said back.
const SAID_BACK_MAX: usize = 40;

/// The parameters of a request, each taken once.
#[derive(Debug)]
pub(super) struct Asked(Vec<(String, String)>);

/// Why a request makes no sense; an answer of its own.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Nonsense(String);

impl From<Nonsense> for Response {
    fn from(Nonsense(reason): Nonsense) -> Response {
        error(StatusCode::BAD_REQUEST, &reason)
    }
}

impl<S: Send + Sync> FromRequestParts<S> for Asked {
    type Rejection = Response;

    async fn from_request_parts(parts: &mut Parts, state: &S) -> Result<Asked, Response> {
        let asked = Query::<Vec<(String, String)>>::from_request_parts(parts, state).await;
        let Query(pairs) = asked.map_err(|rejection: QueryRejection| {
            error(StatusCode::BAD_REQUEST, &rejection.body_text())
        })?;
        Ok(Asked(pairs))
    }
}

impl Asked {
    /// The value of a parameter, if it was given.
    pub(super) fn text(&mut self, name: &str) -> Result<Option<String>, Nonsense> {
        let Some(at) = self.0.iter().position(|(given, _)| given == name) else { return Ok(None) };
        let (_, value) = self.0.remove(at);
        if self.0.iter().any(|(given, _)| given == name) {
            return Err(Nonsense(format!("{name} is given twice")));
        }
        Ok(Some(value))
    }

    /// A parameter as anything that is read from text; `what` is said of a value that is none.
    pub(super) fn value<T: FromStr>(
        &mut self,
        name: &str,
        what: impl Display,
    ) -> Result<Option<T>, Nonsense> {
        let Some(text) = self.text(name)? else { return Ok(None) };
        let short = || said_back(&text);
        let wrong = |_| Nonsense(format!("{name} is {what}, not \"{}\"", short()));
        text.parse().map(Some).map_err(wrong)
    }

    /// A parameter that is one of these words.
    pub(super) fn word<T: Copy>(
        &mut self,
        name: &str,
        words: &[(&str, T)],
    ) -> Result<Option<T>, Nonsense> {
        let Some(text) = self.text(name)? else { return Ok(None) };
        let found = words.iter().find(|(word, _)| *word == text);
        found.map(|(_, meaning)| Some(*meaning)).ok_or_else(|| {
            let known: Vec<&str> = words.iter().map(|(word, _)| *word).collect();
            Nonsense(format!("{name} is one of {}, not \"{}\"", known.join(", "), said_back(&text)))
        })
    }

    /// Which rows of a list, with nothing left over: the last to be asked for.
    pub(super) fn rows(mut self) -> Result<Rows, Nonsense> {
        const LIMIT: RangeInclusive<usize> = 1..=ROWS_MAX;
        let offset = self.value("offset", "a whole number")?.unwrap_or(0);
        let what = format!("a whole number from 1 to {ROWS_MAX}");
        let limit = self.value("limit", &what)?.unwrap_or(ROWS_DEFAULT);
        if !LIMIT.contains(&limit) {
            return Err(Nonsense(format!("limit is {what}, not \"{limit}\"")));
        }
        self.nothing_else()?;
        Ok(Rows { offset, limit })
    }

    /// Refuses whatever has not been taken.
    pub(super) fn nothing_else(self) -> Result<(), Nonsense> {
        match self.0.first() {
            None => Ok(()),
            Some((name, _)) => {
                Err(Nonsense(format!("there is no parameter \"{}\" here", said_back(name))))
            }
        }
    }
}

/// A value that is said back to whoever sent it: cut, so that an answer stays short.
fn said_back(text: &str) -> String {
    text.chars().take(SAID_BACK_MAX).collect()
}

/// Which rows of a list are shown.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Rows {
    pub(super) offset: usize,
    limit: usize,
}

impl Rows {
    /// The rows of this page, and how many there are in all.
    pub(super) fn of<T, R>(
        self,
        all: impl Iterator<Item = T>,
        row: impl Fn(T) -> R,
    ) -> (usize, Vec<R>) {
        let (mut total, mut shown) = (0, Vec::new());
        for item in all {
            if total >= self.offset && shown.len() < self.limit {
                shown.push(row(item));
            }
            total += 1;
        }
        (total, shown)
    }
}

/// A name, or the beginning of one in front of a `*`. A name may be given as the miner gives it,
/// also where the ledger has cut or marked it.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct NameFilter(Option<String>);

impl NameFilter {
    /// As the parameter of that name says; everything where there is none.
    pub(super) fn of(asked: &mut Asked, parameter: &str) -> Result<NameFilter, Nonsense> {
        asked.text(parameter).map(NameFilter)
    }

    pub(super) fn takes(&self, name: &str) -> bool {
        match self.0.as_deref() {
            None => true,
            Some(wanted) => match wanted.strip_suffix('*') {
                Some(beginning) => name.starts_with(beginning),
                None => name == wanted || name == ledger_name(wanted),
            },
        }
    }
}

#[cfg(test)]
mod tests {
    use farm::ledger::OTHER;

    use super::*;

    fn asked(pairs: &[(&str, &str)]) -> Asked {
        let owned = |(name, value): &(&str, &str)| ((*name).to_owned(), (*value).to_owned());
        Asked(pairs.iter().map(owned).collect())
    }

    #[test]
    fn a_page_is_what_was_asked_for_and_no_more() {
        let rows = asked(&[("offset", "7"), ("limit", "2")]).rows().expect("sense");
        assert_eq!(rows.of(0..10, |row| row), (10, vec![7, 8]));
        assert_eq!(rows.of(0..8, |row| row), (8, vec![7]));
        assert_eq!(rows.of(0..3, |row| row), (3, vec![]));
        let rows = asked(&[]).rows().expect("sense");
        assert_eq!(rows.of(0..5_000, |row| row).1.len(), ROWS_DEFAULT);
    }

    #[test]
    fn nonsense_is_refused_with_the_reason() {
        let reason = |pairs: &[(&str, &str)]| asked(pairs).rows().expect_err("nonsense").0;
        let limit = "limit is a whole number from 1 to 1000, not ";
        assert_eq!(reason(&[("limit", "0")]), format!("{limit}\"0\""));
        assert_eq!(reason(&[("limit", "1001")]), format!("{limit}\"1001\""));
        assert_eq!(reason(&[("limit", "all")]), format!("{limit}\"all\""));
        assert_eq!(reason(&[("offset", "-1")]), "offset is a whole number, not \"-1\"");
        assert_eq!(reason(&[("offset", "1"), ("offset", "2")]), "offset is given twice");
        assert_eq!(reason(&[("colour", "red")]), "there is no parameter \"colour\" here");
        let long = reason(&[(&"π".repeat(60_000), "")]);
        assert_eq!(long.chars().filter(|c| *c == 'π').count(), SAID_BACK_MAX);
    }

    #[test]
    fn a_name_is_whole_or_its_beginning() {
        let filter = |text: &str| NameFilter::of(&mut asked(&[("worker", text)]), "worker");
        let whole = filter("farm.a").expect("sense");
        assert!(whole.takes("farm.a") && !whole.takes("farm.a1"));
        // The ledger cuts a name of 97 to 191 bytes, and marks one that is its own.
        for given in ["w".repeat(97), "ü".repeat(95), OTHER.to_owned()] {
            let kept = ledger_name(&given);
            assert_ne!(kept, given);
            let whole = filter(&given).expect("sense");
            assert!(whole.takes(&kept) && !whole.takes(&ledger_name(&format!("{given}1"))));
            assert!(filter(&kept).expect("sense").takes(&kept), "as the pages show it");
        }
        assert!(filter(OTHER).expect("sense").takes(OTHER), "and all others");
        let beginning = filter("farm.*").expect("sense");
        assert!(beginning.takes("farm.a1") && !beginning.takes("firm.a1"));
        assert!(NameFilter::of(&mut asked(&[]), "worker").expect("sense").takes("anybody"));
    }
}
