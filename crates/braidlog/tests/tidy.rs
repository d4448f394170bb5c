//! What a compiler does not check: heads of files, links in the docs, paired labels, banned words.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::{Path, PathBuf};

/// The top of the repository.
fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../..").canonicalize().unwrap()
}

/// Every file with this extension, but for what a build made.
fn files(extension: &str) -> Vec<PathBuf> {
    fn visit(dir: &Path, extension: &str, found: &mut Vec<PathBuf>) {
        for entry in fs::read_dir(dir).unwrap() {
            let path = entry.unwrap().path();
            let name = path.file_name().unwrap().to_str().unwrap();
            if path.is_dir() && !name.starts_with('.') && name != "target" {
                visit(&path, extension, found);
            } else if path.extension().is_some_and(|found| found == extension) {
                found.push(path);
            }
        }
    }
    let mut found = Vec::new();
    visit(&root(), extension, &mut found);
    found.sort();
    assert!(!found.is_empty());
    found
}

fn read(path: &Path) -> String {
    fs::read_to_string(path).unwrap()
}

fn shown(path: &Path) -> String {
    path.strip_prefix(root()).unwrap_or(path).display().to_string()
}

/// Lines of Rust files in which one of these words stands. Words are given in parts, so that this file is
/// none of them.
fn lines_with(words: &[&[&str]], wanted: impl Fn(&Path) -> bool) -> Vec<String> {
    let words: Vec<String> = words.iter().map(|parts| parts.concat()).collect();
    let mut found = Vec::new();
    for path in files("rs").into_iter().filter(|path| wanted(path)) {
        for (index, line) in read(&path).lines().enumerate() {
            if words.iter().any(|word| line.contains(word)) {
                found.push(format!("{}:{}: {}", shown(&path), index + 1, line.trim()));
            }
        }
    }
    found
}

fn assert_none(found: Vec<String>, why: &str) {
    assert!(found.is_empty(), "{why}:\n{}", found.join("\n"));
}

#[test]
fn every_file_says_what_it_is() {
    let headless: Vec<_> = files("rs")
        .into_iter()
        .filter(|path| !read(path).starts_with("//! "))
        .map(|path| shown(&path))
        .collect();
    assert_none(headless, "files that do not open with `//!`");
}

#[test]
fn a_file_is_about_one_thing() {
    let long: Vec<_> = files("rs")
        .into_iter()
        .map(|path| (shown(&path), read(&path).lines().count()))
        .filter(|&(_, lines)| lines > 800)
        .map(|(path, lines)| format!("{path}: {lines} lines"))
        .collect();
    assert_none(long, "files above 800 lines: which second noun is hiding?");
}

#[test]
fn nothing_is_left_undone_or_muted() {
    let words: [&[&str]; 6] = [
        &["to", "do!("],
        &["unimplem", "ented!("],
        &["#[ig", "nore"],
        &["TO", "DO"],
        &["FIX", "ME"],
        &["XX", "X:"],
    ];
    assert_none(lines_with(&words, |_| true), "stubs and muted tests");
}

#[test]
fn tests_wait_for_events_and_not_for_time() {
    let words: [&[&str]; 3] = [&["thread::", "sleep"], &["time::", "sleep"], &["sleep", "_ms"]];
    let in_a_test = |path: &Path| {
        let path = shown(path);
        path.contains("/tests/") || path.contains("/tests.rs") || path.starts_with("crates/sim/")
    };
    assert_none(lines_with(&words, in_a_test), "sleeps in tests");
}

#[test]
fn the_product_waits_for_events_and_not_for_time() {
    let words: [&[&str]; 3] = [&["thread::", "sleep"], &["time::", "sleep"], &["sleep", "_ms"]];
    let in_the_product = |path: &Path| {
        let path = shown(path);
        let crates = ["braidlog", "engine", "format", "recovery", "storage"];
        crates.iter().any(|name| path.starts_with(&format!("crates/{name}/src/")))
    };
    assert_none(lines_with(&words, in_the_product), "sleeps in the product");
}

#[test]
fn links_in_the_docs_lead_somewhere() {
    let mut broken = Vec::new();
    for path in files("md") {
        let text = read(&path);
        for link in text.split("](").skip(1) {
            let target = link.split(')').next().unwrap().split('#').next().unwrap().trim();
            let is_outside = target.contains("://") || target.starts_with("mailto:") || target.is_empty();
            if !is_outside && !path.parent().unwrap().join(target).exists() {
                broken.push(format!("{}: {target}", shown(&path)));
            }
        }
    }
    assert_none(broken, "links that lead nowhere");
}

/// The labels of a text: words of lower case letters with one dot, in square brackets, that are no links.
fn labels(text: &str) -> Vec<String> {
    let is_word =
        |word: &str| !word.is_empty() && word.bytes().all(|byte| byte.is_ascii_lowercase() || byte == b'_');
    text.split('[')
        .skip(1)
        .filter_map(|rest| rest.split_once(']'))
        .filter(|(_, after)| !after.starts_with('('))
        .map(|(label, _)| label)
        .filter(|label| label.split_once('.').is_some_and(|(room, name)| is_word(room) && is_word(name)))
        .map(str::to_owned)
        .collect()
}

#[test]
fn every_ordering_has_its_partner_and_its_entry_in_the_docs() {
    let mut used: BTreeMap<String, Vec<String>> = BTreeMap::new();
    for path in files("rs").into_iter().filter(|path| shown(path).starts_with("crates/engine/src/")) {
        for (index, line) in read(&path).lines().enumerate() {
            // Only a comment carries a label; an index expression has no letters on both sides of a dot alone.
            let Some((_, comment)) = line.split_once("//") else { continue };
            for label in labels(comment) {
                used.entry(label).or_default().push(format!("{}:{}", shown(&path), index + 1));
            }
        }
    }
    let alone: Vec<_> = used.iter().filter(|(_, places)| places.len() < 2).collect();
    assert!(alone.is_empty(), "labels without a partner: {alone:?}");

    let page = read(&root().join("docs/concurrency.md"));
    let listed: BTreeSet<String> = labels(&page).into_iter().collect();
    let used: BTreeSet<String> = used.into_keys().collect();
    let unlisted: Vec<_> = used.difference(&listed).collect();
    assert!(unlisted.is_empty(), "labels that docs/concurrency.md does not list: {unlisted:?}");
    let unused: Vec<_> = listed.difference(&used).collect();
    assert!(unused.is_empty(), "labels in docs/concurrency.md that no code carries: {unused:?}");
}

#[test]
fn only_the_benchmarks_look_at_single_parts() {
    let asking: Vec<_> = files("toml")
        .into_iter()
        .filter(|path| read(path).contains("\"components\""))
        .map(|path| shown(&path))
        .collect();
    assert_eq!(asking, ["benches/Cargo.toml"]);
}

#[test]
fn dependencies_point_down_only() {
    for (name, may_name) in [
        ("format", &[][..]),
        ("storage", &[]),
        ("sim", &["storage"]),
        // `sabotage` under its own cfg only: a test of the proof's table sees to that.
        ("engine", &["format", "storage", "sim", "sabotage"]),
        ("recovery", &["format", "storage", "sim", "sabotage"]),
    ] {
        let manifest = read(&root().join("crates").join(name).join("Cargo.toml"));
        // The deliberate bugs are no layer: no normal build has them.
        let manifest = manifest.replace(
            "[target.'cfg(braidlog_sabotage)'.dependencies]\nbraidlog-sabotage.workspace = true\n",
            "",
        );
        for line in manifest.lines().filter(|line| line.starts_with("braidlog")) {
            let dependency = line.split(['.', ' ', '=']).next().unwrap();
            let lawful = may_name.iter().any(|below| dependency == format!("braidlog-{below}"));
            assert!(lawful, "{name} must not know {dependency}");
        }
    }
    for name in ["cli", "measure"] {
        let manifest = read(&root().join("crates").join(name).join("Cargo.toml"));
        for line in manifest.lines().filter(|line| line.starts_with("braidlog")) {
            let dependency = line.split(['.', ' ', '=']).next().unwrap();
            let is_lawful = dependency == "braidlog" || (name == "cli" && dependency == "braidlog-measure");
            assert!(is_lawful, "{name} uses the public API alone and must not know {dependency}");
        }
    }
}
