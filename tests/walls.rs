//! The walls between the rooms of the house: who may import whom, what the pure crates may never
//! name, and where `unsafe` may stand. Cargo enforces half of it; this test asserts all of it
//! against `cargo metadata` and the sources, so that a wall falls only on purpose.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

/// Crates whose behaviour is a function of their inputs: no clock, socket or randomness.
const PURE: [&str; 5] = ["pow", "wire", "session", "farm", "shard"];

/// What each member may use of the house and of the world, outside its tests.
const MAY_USE: [(&str, &[&str]); 16] = [
    ("pow", &["ring", "sha2"]),
    ("wire", &["pow", "memchr", "serde", "serde_json"]),
    ("session", &["pow", "wire"]),
    ("farm", &["pow", "wire", "session"]),
    ("shard", &["pow", "wire", "session", "farm"]),
    ("uring", &["shard", "io-uring", "libc", "rustix"]),
    (
        "engine",
        &[
            "pow",
            "wire",
            "session",
            "farm",
            "shard",
            "uring",
            "node",
            "glommio",
            "crossbeam",
            "nix",
            "rustix",
            "sd-notify",
            "tracing",
        ],
    ),
    (
        "node",
        &[
            "pow",
            "wire",
            "base64",
            "bitcoin",
            "miniscript",
            "rustix",
            "serde",
            "serde_json",
            "tracing",
            "ureq",
        ],
    ),
    (
        "ops",
        &[
            "pow",
            "session",
            "farm",
            "shard",
            "engine",
            "node",
            "miner",
            "serde_json",
            "serde",
            "toml",
            "clap",
            "clap_complete",
            "clap_mangen",
            "tracing",
            "tracing-appender",
            "tracing-subscriber",
            "axum",
            "tokio",
            "prometheus-client",
            "nix",
            "rusqlite",
            "rustix",
            "tempfile",
            "sd-notify",
            "ureq",
        ],
    ),
    ("sim", &["pow", "wire", "session", "farm", "shard"]),
    ("miner", &["pow", "wire", "mio", "rustix", "hdrhistogram"]),
    ("count", &["pow", "wire", "session", "farm", "shard"]),
    ("benches", &["pow", "wire", "session", "farm", "shard", "sim"]),
    (
        "perf",
        &[
            "pow",
            "wire",
            "session",
            "farm",
            "shard",
            "uring",
            "node",
            "regtest",
            "serde_json",
            "serde",
            "rustix",
            "socket2",
            "hdrhistogram",
        ],
    ),
    ("regtest", &["node", "bitcoin", "rustix", "serde_json", "socket2", "tempfile"]),
    ("headframe", &["ops", "mimalloc"]),
];

/// Words that a pure crate may not contain, and why.
const NEVER_IN_PURE: [(&str, &str); 12] = [
    ("extern crate std", "std carries clocks and sockets"),
    ("std::", "std carries clocks and sockets: use core and alloc"),
    ("Instant", "time is an input"),
    ("SystemTime", "time is an input"),
    ("TcpStream", "bytes are an input"),
    ("TcpListener", "bytes are an input"),
    ("UdpSocket", "bytes are an input"),
    ("HashMap", "its random state breaks replay: use an ordered map or a table"),
    ("HashSet", "its random state breaks replay: use an ordered set or a table"),
    ("RandomState", "it breaks replay"),
    ("getrandom", "randomness is an input"),
    ("thread_rng", "randomness is an input"),
];

/// The only places where `unsafe` may stand.
const UNSAFE_HOMES: [&str; 5] = [
    "src/pow/sha256/",
    "src/uring/",
    "src/engine/fd.rs",
    "src/shard/tests/allocations.rs",
    "benches/",
];

#[test]
fn members_use_only_what_the_table_allows() {
    let allowed: BTreeMap<&str, BTreeSet<&str>> =
        MAY_USE.iter().map(|(name, uses)| (*name, uses.iter().copied().collect())).collect();
    let mut faults = Vec::new();
    for (name, uses) in dependencies() {
        let Some(may) = allowed.get(name.as_str()) else {
            faults.push(format!("{name}: a new member needs a row in this table"));
            continue;
        };
        for used in uses.iter().filter(|used| !may.contains(used.as_str())) {
            faults.push(format!("{name} uses {used}, which its wall does not allow"));
        }
    }
    assert!(faults.is_empty(), "{}", faults.join("\n"));
}

#[test]
fn pure_crates_are_no_std_and_name_no_clock_socket_or_chance() {
    let mut faults = Vec::new();
    for name in PURE {
        let root = house().join("src").join(name);
        let lib = fs::read_to_string(root.join("lib.rs")).expect("every crate has a lib.rs");
        if !lib.contains("#![cfg_attr(not(test), no_std)]") && !lib.contains("#![no_std]") {
            faults.push(format!("{name}: lib.rs does not say no_std"));
        }
        for file in rust_files(&root).into_iter().filter(|file| !is_test_only(file)) {
            let text = fs::read_to_string(&file).expect("a listed file can be read");
            for (number, line) in product_lines(&text) {
                for (word, why) in NEVER_IN_PURE {
                    if names(line, word) {
                        faults.push(format!("{}:{number}: {word}: {why}", file.display()));
                    }
                }
            }
        }
    }
    assert!(faults.is_empty(), "{}", faults.join("\n"));
}

#[test]
fn unsafe_stands_only_in_its_homes() {
    let mut faults = Vec::new();
    let mut homes_seen = 0;
    for file in rust_files(&house()) {
        let place = file.strip_prefix(house()).expect("listed below the root").to_path_buf();
        let place = place.to_string_lossy().into_owned();
        let at_home = UNSAFE_HOMES.iter().any(|home| place.starts_with(home));
        let text = fs::read_to_string(&file).expect("a listed file can be read");
        for (index, line) in text.lines().enumerate() {
            // What stands behind a quote is text.
            let code = line.split('"').next().unwrap_or_default();
            let code = code.split("//").next().unwrap_or_default();
            let words = ["unsafe {", "unsafe fn ", "unsafe impl "];
            if !words.iter().any(|word| code.contains(word)) {
                continue;
            }
            homes_seen += usize::from(at_home);
            if !at_home {
                faults.push(format!("{place}:{}: unsafe outside its homes", index + 1));
            }
        }
    }
    assert!(faults.is_empty(), "{}", faults.join("\n"));
    assert!(homes_seen > 0, "the kernels and the ring have unsafe blocks: the search is blind");
}

#[test]
fn crates_say_forbid_or_deny_unsafe_code() {
    for (name, _) in MAY_USE {
        let lib = match name {
            "headframe" => house().join("src/main.rs"),
            "count" => house().join("perf/count/main.rs"),
            "regtest" => house().join("tests/regtest/lib.rs"),
            "benches" | "perf" => house().join(name).join("lib.rs"),
            _ => house().join("src").join(name).join("lib.rs"),
        };
        let text = fs::read_to_string(&lib).expect("every member has its root file");
        let word = if matches!(name, "pow" | "uring" | "engine") { "deny" } else { "forbid" };
        let said = text.contains(&format!("#![{word}(unsafe_code)]"))
            || (name == "uring" && text.contains("#![deny(unsafe_op_in_unsafe_fn)]"));
        assert!(said, "{}: #![{word}(unsafe_code)] is missing", lib.display());
    }
}

/// Every member's normal dependencies, as cargo itself sees them.
fn dependencies() -> BTreeMap<String, BTreeSet<String>> {
    let output = Command::new(env!("CARGO"))
        .args(["metadata", "--format-version", "1", "--no-deps", "--locked", "--offline"])
        .current_dir(house())
        .output()
        .expect("cargo runs");
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let metadata: serde_json::Value =
        serde_json::from_slice(&output.stdout).expect("cargo prints JSON");
    let mut members = BTreeMap::new();
    for package in metadata["packages"].as_array().expect("packages") {
        let uses = package["dependencies"].as_array().expect("dependencies").iter();
        let normal = uses.filter(|used| used["kind"].is_null());
        let names = normal.map(|used| used["name"].as_str().expect("a name").to_owned());
        members.insert(package["name"].as_str().expect("a name").to_owned(), names.collect());
    }
    assert!(members.len() >= MAY_USE.len(), "members are missing from the metadata");
    members
}

/// The lines that are neither comments nor behind a `#[cfg(test)]`: the one item behind it where
/// that ends with a semicolon, else the rest of the file, where the test module stands.
fn product_lines(text: &str) -> Vec<(usize, &str)> {
    let mut kept = Vec::new();
    let mut lines = text.lines().enumerate();
    while let Some((index, line)) = lines.next() {
        if line.trim() == "#[cfg(test)]" {
            match lines.next() {
                Some((_, item)) if item.trim_end().ends_with(';') => continue,
                _ => break,
            }
        }
        let code = line.split("//").next().unwrap_or_default();
        if !code.trim().is_empty() {
            kept.push((index + 1, code));
        }
    }
    kept
}

/// Whether a line names a word as a whole, not as a part of a longer one.
fn names(line: &str, word: &str) -> bool {
    line.match_indices(word).any(|(at, _)| {
        let before = line[..at].chars().next_back();
        let after = line[at + word.len()..].chars().next();
        let part = |c: Option<char>| c.is_some_and(|c| c.is_alphanumeric() || c == '_');
        !part(before) && (word.ends_with(':') || !part(after))
    })
}

/// Files that only tests compile: a crate's `tests` folder, and modules named as tests.
fn is_test_only(file: &Path) -> bool {
    let place = file.to_string_lossy();
    place.contains("/tests/") || place.ends_with("tests.rs") || place.ends_with("build.rs")
}

fn rust_files(root: &Path) -> Vec<PathBuf> {
    let mut files = Vec::new();
    for entry in fs::read_dir(root).expect("a folder of the house").flatten() {
        let path = entry.path();
        let name = entry.file_name().to_string_lossy().into_owned();
        if path.is_dir() && name != "target" && !name.starts_with('.') {
            files.extend(rust_files(&path));
        } else if name.ends_with(".rs") {
            files.push(path);
        }
    }
    files.sort();
    files
}

fn house() -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR"))
}
