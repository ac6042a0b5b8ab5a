//! `docs/operations.md` against `docs/metrics.md`: whoever is woken up finds what to do, and no
//! advice is about a metric that is not there.

use std::collections::BTreeSet;
use std::fs;
use std::path::Path;

fn page(name: &str) -> String {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("docs").join(name);
    fs::read_to_string(path).expect("the page")
}

/// Each metric with its text, from the list that another test holds against the program.
fn metrics(page: &str) -> Vec<(String, String)> {
    let entries = page.split("\n- `").skip(1).map(|entry| {
        let entry = entry.split("\n\n").next().unwrap_or(entry);
        let (name, text) = entry.split_once('`').expect("a name");
        (name.to_owned(), text.split_whitespace().collect::<Vec<_>>().join(" "))
    });
    entries.collect()
}

/// The metrics that a page names: `headframe_…` in full, or `_…` behind one of the same family.
fn named(page: &str) -> BTreeSet<String> {
    let mut names = BTreeSet::new();
    for line in page.lines() {
        let mut family = String::new();
        for quoted in line.split('`').skip(1).step_by(2) {
            let is_name = |letter: char| letter.is_ascii_lowercase() || letter == '_';
            let mut rest = quoted;
            while let Some(at) = rest.find("headframe_") {
                let end = rest[at..].find(|letter| !is_name(letter)).unwrap_or(rest.len() - at);
                names.insert(rest[at..at + end].to_owned());
                family = rest[at..at + end].rsplit_once('_').expect("a name").0.to_owned();
                rest = &rest[at + end..];
            }
            if quoted.starts_with('_') && quoted.chars().all(is_name) {
                names.insert(format!("{family}{quoted}"));
            }
        }
    }
    names
}

#[test]
fn every_alert_has_its_advice_and_every_advice_its_metric() {
    let metrics = metrics(&page("metrics.md"));
    let (_, advice) = page("operations.md").split_once("\n## Alerts\n").map_or_else(
        || panic!("the page has a part on alerts"),
        |(before, advice)| (before.to_owned(), advice.to_owned()),
    );
    let advised = named(&advice);
    let with_alert = metrics.iter().filter(|(_, text)| text.contains("**Alert**"));
    let missing: Vec<_> =
        with_alert.map(|(name, _)| name).filter(|name| !advised.contains(*name)).collect();
    assert!(missing.is_empty(), "nobody says what to do at {missing:?}");
    let known: BTreeSet<_> = metrics.iter().map(|(name, _)| name.as_str()).collect();
    for name in named(&page("operations.md")) {
        let family = name.strip_suffix("_bucket").unwrap_or(&name);
        assert!(known.contains(family), "no metric is called {name}");
    }
}
