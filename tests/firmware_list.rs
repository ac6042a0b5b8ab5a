//! The tables of firmware's habits in `docs/protocol.md` against the tests: no entry without an
//! answer, a test and its evidence, no test that no entry names.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::Path;

/// How many habits each letter has.
const ENTRIES: [(char, u32); 6] = [('A', 17), ('B', 19), ('C', 12), ('D', 7), ('E', 9), ('F', 20)];

/// Entries whose answer comes with a later part, and which.
const LATER: [(&str, &str); 5] = [
    ("D7", "upstreams"),
    ("E9", "upstreams"),
    ("F15", "upstreams"),
    ("F19", "upstreams"),
    ("F20", "upstreams"),
];

/// What nobody has seen on a machine says so.
const COMPOSED: &str = "composed, not verified";
const EVIDENCE: [&str; 3] = ["recorded", "from source", COMPOSED];

#[derive(Debug)]
struct Entry {
    id: String,
    habit: String,
    answer: String,
    test: String,
    evidence: String,
}

#[test]
fn every_entry_is_there_in_order_and_has_no_empty_part() {
    let entries = entries();
    let ids: Vec<_> = entries.iter().map(|entry| entry.id.clone()).collect();
    let wanted: Vec<_> = ENTRIES
        .iter()
        .flat_map(|(letter, count)| (1..=*count).map(move |number| format!("{letter}{number}")))
        .collect();
    assert_eq!(ids, wanted);
    for Entry { id, habit, answer, evidence, .. } in &entries {
        assert!(habit.len() > 10, "{id} has no habit: {habit:?}");
        assert!(answer.len() > 3, "{id} has no answer: {answer:?}");
        let kinds = EVIDENCE.iter().filter(|kind| evidence.contains(**kind));
        assert!(kinds.count() > 0, "{id} has no kind of evidence: {evidence:?}");
        let cites = evidence.contains('(');
        assert!(cites || evidence == COMPOSED, "{id} does not cite: {evidence:?}");
        let bare = evidence.replace(COMPOSED, "").contains("composed");
        assert!(!bare, "{id} does not say that nobody verified it: {evidence:?}");
    }
}

#[test]
fn every_entry_names_its_tests_and_they_exist() {
    let tests = tests_by_id();
    let later: BTreeMap<_, _> = LATER.into_iter().collect();
    for Entry { id, test, .. } in entries() {
        if let Some(part) = later.get(&*id) {
            assert_eq!(test, format!("comes with {part}"), "{id}");
            assert_eq!(tests.get(&id), None, "{id} is answered now: its entry says later");
            continue;
        }
        let named: BTreeSet<String> =
            test.split('`').skip(1).step_by(2).map(str::to_owned).collect();
        assert!(!named.is_empty(), "{id} names no test: {test:?}");
        assert_eq!(Some(&named), tests.get(&id), "{id}: the list against the sources");
    }
}

/// The rows of the tables: `| id | habit | answer | test | evidence |`.
fn entries() -> Vec<Entry> {
    let page = fs::read_to_string(root().join("docs/protocol.md")).expect("the page");
    let (_, tables) = page.split_once("\n## Habits of firmware\n").expect("the tables");
    let (tables, _) = tables.split_once("\n### Where firmware contradicts").expect("their end");
    let rows = tables.lines().filter(|line| line.starts_with('|'));
    let rows = rows.filter(|line| !line.starts_with("| id |") && !line.starts_with("|---"));
    rows.map(|row| {
        let cells = row.strip_prefix("| ").and_then(|row| row.strip_suffix(" |"));
        let cells: Vec<_> = cells.expect("a whole row").split(" | ").map(str::to_owned).collect();
        let [id, habit, answer, test, evidence] =
            cells.try_into().unwrap_or_else(|_| panic!("five cells: {row}"));
        Entry { id, habit, answer, test, evidence }
    })
    .collect()
}

/// Every test of the sources whose name begins with an entry's id.
fn tests_by_id() -> BTreeMap<String, BTreeSet<String>> {
    let mut tests: BTreeMap<String, BTreeSet<String>> = BTreeMap::new();
    for source in sources(&root().join("src")) {
        for (_, rest) in source.match_indices("#[test]\n").map(|(at, mark)| {
            let rest = &source[at + mark.len()..];
            (at, rest.trim_start())
        }) {
            let name = rest.strip_prefix("fn ").and_then(|rest| rest.split('(').next());
            let Some((name, id)) = name.and_then(|name| Some((name, name.split_once('_')?.0)))
            else {
                continue;
            };
            let mut letters = id.chars();
            let letter = letters.next().filter(|letter| ('a'..='f').contains(letter));
            let number = letters.as_str();
            if letter.is_some() && !number.is_empty() && number.bytes().all(|b| b.is_ascii_digit())
            {
                tests.entry(id.to_uppercase()).or_default().insert(name.to_owned());
            }
        }
    }
    tests
}

fn sources(folder: &Path) -> Vec<String> {
    let mut texts = Vec::new();
    for entry in fs::read_dir(folder).expect("a folder of the house").flatten() {
        let path = entry.path();
        if path.is_dir() {
            texts.extend(sources(&path));
        } else if path.extension().is_some_and(|ending| ending == "rs") {
            texts.push(fs::read_to_string(&path).expect("a listed file can be read"));
        }
    }
    texts
}

fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}
