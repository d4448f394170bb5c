//! The table of deliberate bugs against the code that has them. The bugs themselves are tried by the command:
//! `cargo run --release -p braidlog-proof -- sabotage`.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::{Path, PathBuf};

use braidlog_proof::part::root;
use braidlog_proof::sabotage::bugs::BUGS;
use braidlog_proof::sabotage::harness::HARNESSES;

/// The sources of the product's crates, as users get them.
fn product() -> Vec<(PathBuf, String)> {
    fn visit(dir: &Path, found: &mut Vec<(PathBuf, String)>) {
        for entry in fs::read_dir(dir).unwrap() {
            let path = entry.unwrap().path();
            if path.is_dir() {
                visit(&path, found);
            } else if path.extension().is_some_and(|extension| extension == "rs") {
                let text = fs::read_to_string(&path).unwrap();
                found.push((path, text));
            }
        }
    }
    let mut found = Vec::new();
    for name in ["braidlog", "cli", "engine", "format", "recovery", "sim", "storage"] {
        visit(&root().join("crates").join(name).join("src"), &mut found);
    }
    found
}

#[test]
fn every_bug_stands_in_one_file_of_the_code_and_in_the_table_once() {
    let mut in_code: BTreeMap<String, BTreeSet<PathBuf>> = BTreeMap::new();
    for (path, text) in product() {
        for rest in text.split("braidlog_sabotage::is(\"").skip(1) {
            let name = rest.split('"').next().unwrap();
            in_code.entry(name.to_owned()).or_default().insert(path.clone());
        }
    }
    let spread: Vec<_> = in_code.iter().filter(|(_, files)| files.len() > 1).collect();
    assert!(spread.is_empty(), "bugs in several files: {spread:?}");
    let in_table: BTreeSet<_> = BUGS.iter().map(|bug| bug.name.to_owned()).collect();
    assert_eq!(in_table.len(), BUGS.len(), "a bug stands in the table twice");
    let in_code: BTreeSet<_> = in_code.into_keys().collect();
    assert_eq!(in_code, in_table, "the bugs in the code, and those in the table");
    assert!(BUGS.len() >= 20);
}

#[test]
fn no_normal_build_knows_the_bugs() {
    for (path, text) in product() {
        for (index, line) in text.lines().enumerate() {
            // The compiler sees to it that what asks stands behind the attribute: without, the crate is unknown.
            let known =
                ["braidlog_sabotage::is(\"", "#[cfg(braidlog_sabotage)]", "#[cfg(not(braidlog_sabotage))]"];
            let rest = known.iter().fold(line.to_owned(), |rest, known| rest.replace(known, ""));
            assert!(!rest.contains("braidlog_sabotage"), "{}:{}: {line}", path.display(), index + 1);
        }
    }
    for name in ["engine", "recovery"] {
        let manifest = fs::read_to_string(root().join("crates").join(name).join("Cargo.toml")).unwrap();
        let (_, rest) = manifest.split_once("[target.'cfg(braidlog_sabotage)'.dependencies]\n").unwrap();
        assert!(rest.starts_with("braidlog-sabotage"), "{name}");
        assert_eq!(manifest.matches("braidlog-sabotage").count(), 1, "{name}");
    }
}

#[test]
fn every_bug_says_what_it_does_and_has_a_harness_that_exists() {
    let names: BTreeSet<_> = HARNESSES.iter().map(|harness| harness.name).collect();
    assert_eq!(names.len(), HARNESSES.len(), "a harness stands in the list twice");
    for bug in BUGS {
        assert!(!bug.does.is_empty() && !bug.breaks.is_empty(), "{}", bug.name);
        let harness = bug.harness();
        assert!(harness.source().is_none_or(|source| root().join(source).is_file()), "{}", harness.name);
    }
}

#[test]
fn every_bug_stands_in_the_page_on_testing() {
    let page = fs::read_to_string(root().join("docs/testing.md")).unwrap();
    let missing: Vec<_> =
        BUGS.iter().map(|bug| bug.name).filter(|name| !page.contains(&format!("\n| `{name}` |"))).collect();
    assert!(missing.is_empty(), "docs/testing.md has no row for {missing:?}; the gate prints them");
}
