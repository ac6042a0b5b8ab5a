//! House style that a machine can check: line and function length, file headers, leftovers.

use std::fs;
use std::path::{Path, PathBuf};

const COLUMNS_MAX: usize = 100;
const FUNCTION_LINES_MAX: usize = 70;

/// What must not be left in a source file. Split, so that this file does not find itself.
const LEFTOVERS: [&str; 11] = [
    concat!("TO", "DO"),
    concat!("FIX", "ME"),
    concat!("XX", "X"),
    concat!("todo", "!("),
    concat!("unimplemented", "!("),
    concat!("dbg", "!("),
    concat!("#[ig", "nore"),
    concat!("allow(dead", "_code"),
    concat!("allow(unused", "_variables"),
    concat!("under con", "struction"),
    concat!("/ro", "ot/"),
];

#[test]
fn sources_are_tidy() {
    let mut faults = Vec::new();
    let files = sources(&PathBuf::from(env!("CARGO_MANIFEST_DIR")));
    assert!(files.len() > 30, "the walk found only {} files", files.len());
    for file in files {
        let text = fs::read_to_string(&file).expect("a listed file can be read");
        check_lines(&file, &text, &mut faults);
        if file.extension().is_some_and(|ending| ending == "rs") {
            if !text.starts_with("//!") {
                faults.push(format!("{}:1: a header says what this file is", file.display()));
            }
            check_functions(&file, &text, &mut faults);
        }
    }
    assert!(faults.is_empty(), "{}", faults.join("\n"));
}

#[test]
fn the_function_rule_sees_a_long_function() {
    let body = "    let x = 1;\n".repeat(FUNCTION_LINES_MAX);
    let text = format!("//! a\nfn long() {{\n{body}}}\n");
    let mut faults = Vec::new();
    check_functions(Path::new("x.rs"), &text, &mut faults);
    assert_eq!(faults.len(), 1);
}

fn check_lines(file: &Path, text: &str, faults: &mut Vec<String>) {
    for (index, line) in text.lines().enumerate() {
        let place = || format!("{}:{}", file.display(), index + 1);
        let link = line.contains("://") || line.contains("](");
        // A row of a table is one line, however much its cells say.
        let row = line.starts_with("| ") && file.extension().is_some_and(|ending| ending == "md");
        if line.chars().count() > COLUMNS_MAX && !link && !row {
            faults.push(format!("{}: over {COLUMNS_MAX} columns", place()));
        }
        if line.ends_with(' ') || line.ends_with('\t') {
            faults.push(format!("{}: blanks at the end", place()));
        }
        if let Some(found) = LEFTOVERS.iter().find(|leftover| line.contains(**leftover)) {
            faults.push(format!("{}: {found} is a leftover", place()));
        }
    }
}

/// rustfmt puts a function's closing brace at its own indentation, so counting needs no parser.
fn check_functions(file: &Path, text: &str, faults: &mut Vec<String>) {
    let lines: Vec<&str> = text.lines().collect();
    for (start, line) in lines.iter().enumerate() {
        let code = line.trim_start();
        let indent = line.len() - code.len();
        let head = code.strip_prefix("pub(crate) ").or(code.strip_prefix("pub(super) "));
        let head = head.or(code.strip_prefix("pub ")).unwrap_or(code);
        let head = ["const ", "async ", "unsafe "]
            .iter()
            .fold(head, |head, word| head.strip_prefix(word).unwrap_or(head));
        if !head.starts_with("fn ") || code.ends_with('}') || code.ends_with(';') {
            continue;
        }
        let close = format!("{}}}", " ".repeat(indent));
        let length = lines[start..].iter().position(|line| *line == close);
        if let Some(length) = length.filter(|length| length + 1 > FUNCTION_LINES_MAX) {
            let name = head[3..].split(['(', '<']).next().unwrap_or_default();
            faults.push(format!(
                "{}:{}: {name} has {} lines, more than {FUNCTION_LINES_MAX}",
                file.display(),
                start + 1,
                length + 1
            ));
        }
    }
}

fn sources(root: &Path) -> Vec<PathBuf> {
    let mut files = Vec::new();
    for entry in fs::read_dir(root).expect("a folder of the house").flatten() {
        let path = entry.path();
        let name = entry.file_name().to_string_lossy().into_owned();
        let hidden = name.starts_with('.') && name != ".ci";
        if path.is_dir() && name != "target" && name != "results" && !hidden {
            files.extend(sources(&path));
        } else if name.ends_with(".rs") || name.ends_with(".md") || name.ends_with(".toml") {
            files.push(path);
        }
    }
    files.sort();
    files
}
