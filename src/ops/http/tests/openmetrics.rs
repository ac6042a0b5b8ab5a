//! `/metrics` read as a scraper reads it, and judged as its linter would: a parser of the text
//! format with the rules on names, families, counters and histograms.

use std::collections::{BTreeMap, BTreeSet};

use super::*;

/// Names and values, in the order in which they stand.
type Labels = Vec<(String, String)>;

/// One family of the page.
#[derive(Debug, Default)]
struct Family {
    kind: String,
    help: String,
    /// Suffix behind the family's name, labels, value.
    samples: Vec<(String, Labels, f64)>,
}

/// Reads labels up to the closing brace; gives what follows it.
fn labels(text: &str) -> Result<(Labels, &str), String> {
    let (mut found, mut rest) = (Vec::new(), text);
    loop {
        if let Some(rest) = rest.strip_prefix('}') {
            return Ok((found, rest));
        }
        let (name, value) = rest.split_once("=\"").ok_or(format!("no label in {rest}"))?;
        let (mut text, mut letters) = (String::new(), value.char_indices());
        let end = loop {
            match letters.next().ok_or("a value without an end")? {
                (at, '"') => break at,
                (_, '\\') => match letters.next() {
                    Some((_, 'n')) => text.push('\n'),
                    Some((_, letter @ ('"' | '\\'))) => text.push(letter),
                    other => return Err(format!("escaped {other:?}")),
                },
                (_, letter) => text.push(letter),
            }
        };
        found.push((name.to_owned(), text));
        rest = &value[end + 1..];
        rest = rest.strip_prefix(',').unwrap_or(rest);
    }
}

/// The families of a page in their order, or the first line that breaks the format.
fn parse(page: &str) -> Result<Vec<(String, Family)>, String> {
    let page = page.strip_suffix("# EOF\n").ok_or("the end is missing")?;
    let mut families: Vec<(String, Family)> = Vec::new();
    for line in page.lines() {
        let words: Vec<&str> = line.splitn(4, ' ').collect();
        match words[..] {
            ["#", what @ ("HELP" | "TYPE" | "UNIT"), name, says] => {
                if families.last().is_none_or(|(last, _)| last != name) {
                    families.push((name.to_owned(), Family::default()));
                }
                let (_, family) = families.last_mut().ok_or("none")?;
                if !family.samples.is_empty() {
                    return Err(format!("{line}: behind its samples"));
                }
                match what {
                    "HELP" => family.help = says.to_owned(),
                    "TYPE" => family.kind = says.to_owned(),
                    _ => {}
                }
            }
            _ => {
                let (name, family) = families.last_mut().ok_or(format!("{line}: no family"))?;
                let rest = line.strip_prefix(name.as_str()).ok_or(format!("{line}: not {name}"))?;
                let end = rest.find(['{', ' ']).ok_or(format!("{line}: no value"))?;
                let (suffix, rest) = rest.split_at(end);
                let (labels, rest) = match rest.strip_prefix('{') {
                    Some(rest) => labels(rest).map_err(|why| format!("{line}: {why}"))?,
                    None => (Vec::new(), rest),
                };
                let value = rest.trim_start().parse().map_err(|_| format!("{line}: no number"))?;
                family.samples.push((suffix.to_owned(), labels, value));
            }
        }
    }
    Ok(families)
}

/// What a linter has to say of a page.
fn lint(families: &[(String, Family)]) -> Vec<String> {
    let (mut said, mut names) = (Vec::new(), BTreeSet::new());
    let word = |name: &str| {
        let mut letters = name.chars();
        letters.next().is_some_and(|first| first.is_ascii_lowercase())
            && letters.all(|c| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '_')
    };
    for (name, family) in families {
        let mut say = |what: &str| said.push(format!("{name}: {what}"));
        if !names.insert(name) {
            say("stands twice");
        }
        if !word(name) || !name.starts_with("headframe_") {
            say("is no good name");
        }
        if family.help.is_empty() || family.kind.is_empty() {
            say("has no help or type");
        }
        let units = ["_ms", "_us", "_millis", "_micros", "_milliseconds", "_kib", "_percent"];
        if units.iter().any(|unit| name.ends_with(unit)) {
            say("is not in a base unit");
        }
        if ["_total", "_count", "_sum", "_bucket"].iter().any(|end| name.ends_with(end)) {
            say("has an ending of the format's own");
        }
        let mut series = BTreeSet::new();
        for (suffix, labels, value) in &family.samples {
            let fits = match family.kind.as_str() {
                "counter" => suffix == "_total" && *value >= 0.0,
                "gauge" => suffix.is_empty(),
                "histogram" => ["_bucket", "_sum", "_count"].contains(&suffix.as_str()),
                _ => false,
            };
            if !fits || value.is_nan() {
                say(&format!("a {} with {suffix:?} and {value}", family.kind));
            }
            let unique: BTreeSet<&str> = labels.iter().map(|(name, _)| name.as_str()).collect();
            if unique.len() < labels.len() || unique.iter().any(|name| !word(name)) {
                say("labels that stand twice, or bad names");
            }
            if !series.insert((suffix, labels.clone())) {
                say(&format!("the same series twice: {labels:?}"));
            }
        }
        if family.kind == "histogram" {
            histogram(family).into_iter().for_each(|what| say(&what));
        }
    }
    said
}

/// What is wrong with a histogram's buckets.
fn histogram(family: &Family) -> Vec<String> {
    let mut series: BTreeMap<Labels, Vec<(f64, f64)>> = BTreeMap::new();
    let mut counts: BTreeMap<Labels, f64> = BTreeMap::new();
    let mut said = Vec::new();
    for (suffix, labels, value) in &family.samples {
        let (bound, rest): (Vec<_>, Vec<_>) =
            labels.iter().cloned().partition(|(name, _)| name == "le");
        match (suffix.as_str(), &bound[..]) {
            ("_bucket", [(_, bound)]) => {
                let bound = bound.parse().unwrap_or(f64::NAN);
                series.entry(rest).or_default().push((bound, *value));
            }
            ("_bucket", _) => said.push("a bucket without its bound".to_owned()),
            ("_count", _) => drop(counts.insert(rest, *value)),
            _ => {}
        }
    }
    for (labels, buckets) in &series {
        let rise = buckets.windows(2).all(|two| two[0].0 < two[1].0 && two[0].1 <= two[1].1);
        let last = buckets.last().copied();
        let whole = counts.get(labels).map(|count| (f64::INFINITY, *count));
        if !rise || last != whole {
            said.push(format!("its buckets do not add up: {buckets:?} of {whole:?}"));
        }
    }
    said
}

#[test]
fn a_scraper_reads_the_page_and_its_linter_has_nothing_to_say() {
    let mut farm = Farm::new();
    farm.series = 3;
    farm.change(|status| status.template_age_micros = Some(1));
    *farm.nodes.lock().expect("no test panics with it") = vec![bitcoind(NodeHealth::Ready)];
    for counters in &farm.counters {
        (0..20).for_each(|bits| counters.share_latency.record(1 << bits, 1 + bits));
    }
    let (_, page) = get(serving(Arc::new(farm)), "/metrics");
    let families = parse(&page).unwrap_or_else(|why| panic!("{why} in\n{page}"));
    assert!(families.len() > 60, "{}", families.len());
    assert_eq!(lint(&families), [""; 0]);
}

#[test]
fn the_linter_sees_faults() {
    let bad = |page: &str| lint(&parse(&format!("{page}# EOF\n")).expect("the format is right"));
    let head = "# HELP headframe_a A.\n# TYPE headframe_a counter\n";
    assert_eq!(bad(&format!("{head}headframe_a_total 1\n")), [""; 0]);
    for page in [
        format!("{head}headframe_a 1\n"),
        format!("{head}headframe_a_total{{x=\"1\"}} 1\nheadframe_a_total{{x=\"1\"}} 2\n"),
        format!("{head}headframe_a_total{{x=\"1\",x=\"2\"}} 1\n"),
        head.replace("_a", "_a_ms"),
        head.replace("counter", "histogram") + "headframe_a_bucket{le=\"+Inf\"} 2\n",
    ] {
        assert!(!bad(&page).is_empty(), "{page}");
    }
    assert!(parse("headframe_a 1\n# EOF\n").is_err(), "no family");
    assert!(parse(head).is_err(), "no end");
}

#[test]
fn workers_have_metrics_of_their_own_if_they_are_asked_for_and_few() {
    let mut farm = Farm::new();
    farm.series = 2;
    if let Ok(workers) = &mut farm.workers {
        workers[29].name = "a\"b\\c\nd".into();
        workers.push(WorkerStatus { name: "other".into(), place: 0, ..worker(1) });
    }
    let of = worker_shares(farm);
    assert_eq!(of("a\"b\\c\nd", "accepted"), Some(5.0));
    assert_eq!(of("farm.01", "rejected"), Some(3.0));
    assert_eq!(of("farm.02", "accepted"), None, "two are asked for");
    assert_eq!(of("other", "accepted"), Some(29.0 * 5.0), "all others, and the others");
    let (_, page) = get(serving(Arc::new(Farm::new())), "/metrics");
    assert!(!page.contains("headframe_worker_"), "nobody asked");
}

/// What the page says of a worker's shares by their result, where it says anything.
fn worker_shares(farm: Farm) -> impl Fn(&str, &str) -> Option<f64> {
    let (_, page) = get(serving(Arc::new(farm)), "/metrics");
    let families = parse(&page).expect("hostile names are escaped");
    let mut families = families.into_iter();
    let shares = families.find(|(name, _)| name == "headframe_worker_shares");
    let samples = shares.map_or_else(Vec::new, |(_, shares)| shares.samples);
    move |name, result| {
        let wanted = [("worker", name), ("result", result)];
        let wanted: Vec<_> = wanted.map(|(name, of)| (name.to_owned(), of.to_owned())).into();
        let found = samples.iter().find(|(_, labels, _)| *labels == wanted);
        found.map(|(_, _, value)| *value)
    }
}

#[test]
fn nobody_takes_the_series_of_another_worker() {
    let farm = |newcomers: &[&str]| {
        let mut farm = Farm::new();
        farm.series = 28;
        let workers = farm.workers.as_mut().expect("they can be had");
        for (name, place) in newcomers.iter().zip(31..) {
            workers.push(WorkerStatus { name: (*name).into(), place, ..worker(1) });
        }
        worker_shares(farm)
    };
    let (before, after) = (farm(&[]), farm(&["!x", "other~1", "farm.000"]));
    for number in 0..28 {
        let name = format!("farm.{number:02}");
        assert_eq!((before(&name, "accepted"), after(&name, "accepted")), (Some(5.0), Some(5.0)));
    }
    assert_eq!((before("!x", "accepted"), after("!x", "accepted")), (None, None));
    assert_eq!(before("other", "accepted"), Some(2.0 * 5.0));
    assert_eq!(after("other", "accepted"), Some(5.0 * 5.0), "by what they brought themselves");
}

#[test]
fn series_of_workers_are_absent_rather_than_too_low() {
    let mut farm = Farm::new();
    (farm.series, farm.learned) = (2, None);
    assert_eq!(worker_shares(farm)("other", "accepted"), None, "earlier counts are not known");
    let mut farm = Farm::new();
    (farm.series, farm.learned) = (2, Some(Tick(NOW.as_micros() - 500_000)));
    assert_eq!(worker_shares(farm)("other", "accepted"), None, "a list may be of before");
    let mut farm = Farm::new();
    (farm.series, farm.workers) = (2, Err(ListError::Busy));
    assert_eq!(worker_shares(farm)("other", "accepted"), None, "there is no list");
}
