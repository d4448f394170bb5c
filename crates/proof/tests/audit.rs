//! What Braidlog stands on: every crate that its users link, with its licence, and every place of unsafe code.
//! `docs/audit.md` lists both with their reasons; this test holds the page to the manifests and the sources.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use serde_json::Value;

/// Licences under which code may be linked into a program of any licence. An expression is fine if one of its
/// alternatives is made of these alone.
const PERMISSIVE: [&str; 8] = [
    "MIT",
    "Apache-2.0",
    "Apache-2.0 WITH LLVM-exception",
    "BSD-2-Clause",
    "BSD-3-Clause",
    "Unlicense",
    "Unicode-3.0",
    "Zlib",
];

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../..").canonicalize().unwrap()
}

fn metadata(arguments: &[&str]) -> Value {
    let output = Command::new(env!("CARGO"))
        .args(["metadata", "--locked", "--format-version", "1"])
        .args(arguments)
        .current_dir(root())
        .output()
        .unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    serde_json::from_slice(&output.stdout).unwrap()
}

fn text<'a>(value: &'a Value, key: &str) -> &'a str {
    value[key].as_str().unwrap_or_else(|| panic!("no {key} in {value}"))
}

fn list<'a>(value: &'a Value, key: &str) -> &'a [Value] {
    value[key].as_array().unwrap_or_else(|| panic!("no {key}"))
}

/// The rows of the table in `docs/audit.md` whose heading begins with this word, cell by cell.
fn table(heading: &str) -> Vec<Vec<String>> {
    let page = fs::read_to_string(root().join("docs/audit.md")).unwrap();
    let rows: Vec<Vec<String>> = page
        .lines()
        .skip_while(|line| !line.starts_with(&format!("| {heading}")))
        .take_while(|line| line.starts_with('|'))
        .skip(2)
        .map(|line| line.trim_matches('|').split('|').map(|cell| cell.trim().replace('`', "")).collect())
        .collect();
    assert!(!rows.is_empty(), "no table of {heading} in docs/audit.md");
    rows
}

/// What a build of the library with all of its features links on Linux: what `cargo metadata` tells is more, for it takes the
/// features of the whole workspace together.
#[test]
fn what_users_link_is_listed_with_its_licence() {
    let output = Command::new(env!("CARGO"))
        .args(["tree", "--locked", "--package", "braidlog", "--all-features", "--edges", "normal"])
        .args(["--target", "x86_64-unknown-linux-gnu", "--prefix", "none", "--format", "{p};{l}"])
        .current_dir(root())
        .output()
        .unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let tree = String::from_utf8(output.stdout).unwrap();
    let packages = tree.lines().filter(|line| !line.is_empty() && !line.starts_with("braidlog"));
    let found: BTreeSet<(String, String)> = packages
        .map(|line| {
            let (package, licence) = line.split_once(';').unwrap();
            let name = package.split(' ').next().unwrap();
            (name.to_owned(), licence.trim_end_matches(" (*)").to_owned())
        })
        .collect();
    assert!(found.iter().any(|(name, _)| name == "libc"), "{tree}");
    let listed: BTreeSet<(String, String)> =
        table("crate").into_iter().map(|row| (row[0].clone(), row[1].clone())).collect();
    assert_eq!(found, listed, "docs/audit.md lists what users link, and nothing else");
}

#[test]
fn every_package_is_from_the_registry_and_permissively_licensed() {
    for manifest in ["Cargo.toml", "fuzz/Cargo.toml"] {
        for package in list(&metadata(&["--manifest-path", manifest]), "packages") {
            let name = text(package, "name");
            let Some(source) = package["source"].as_str() else { continue };
            assert_eq!(source, "registry+https://github.com/rust-lang/crates.io-index", "{name}");
            let licence = text(package, "license");
            let is_fine = licence.replace('/', " OR ").split(" OR ").any(|alternative| {
                let words = alternative.trim_matches(['(', ')', ' ']).to_owned();
                words.split(" AND ").all(|one| PERMISSIVE.contains(&one.trim_matches(['(', ')', ' '])))
            });
            let both = licence == "(MIT OR Apache-2.0) AND Unicode-3.0";
            assert!(is_fine || both, "{name} is under {licence}");
        }
    }
}

#[test]
fn unsafe_code_stands_where_the_page_says_and_nowhere_else() {
    let mut found = BTreeMap::new();
    let mut open = vec![root().join("crates")];
    while let Some(path) = open.pop() {
        if path.is_dir() {
            open.extend(fs::read_dir(&path).unwrap().map(|entry| entry.unwrap().path()));
        } else if path.extension().is_some_and(|extension| extension == "rs") {
            let word = concat!("uns", "afe");
            let count = fs::read_to_string(&path)
                .unwrap()
                .lines()
                .map(str::trim_start)
                .filter(|line| !line.starts_with("//") && !line.starts_with('#'))
                .filter(|line| {
                    ["{", "impl", "fn", "extern"].iter().any(|next| line.contains(&format!("{word} {next}")))
                })
                .count();
            if count > 0 {
                found.insert(path.strip_prefix(root()).unwrap().display().to_string(), count.to_string());
            }
        }
    }
    let listed: BTreeMap<String, String> =
        table("file").into_iter().map(|row| (row[0].clone(), row[1].clone())).collect();
    assert_eq!(found, listed, "docs/audit.md lists every place");
}

/// A line that panics if what it states is wrong; what the compiler checks is none, nor is what only a debug build does.
fn states_a_fact(line: &str) -> bool {
    let line = line.trim_start();
    let words =
        [".unwrap()", ".expect(\"", "unreachable!(", "panic!(", "assert!(", "assert_eq!(", "assert_ne!("];
    let is_checked_elsewhere =
        line.starts_with("//") || line.contains("const _") || line.contains("debug_assert");
    !is_checked_elsewhere && words.iter().any(|word| line.contains(word))
}

#[test]
fn panics_stand_where_the_page_says_and_nowhere_else() {
    let mut found = BTreeSet::new();
    let crates = ["format", "storage", "engine", "recovery", "braidlog"];
    let mut open: Vec<PathBuf> =
        crates.iter().map(|name| root().join("crates").join(name).join("src")).collect();
    while let Some(path) = open.pop() {
        let name = path.strip_prefix(root()).unwrap().display().to_string();
        // Tests, and the primitives of the models.
        if name.contains("tests") || name.contains("/primitive/") {
            continue;
        }
        if path.is_dir() {
            open.extend(fs::read_dir(&path).unwrap().map(|entry| entry.unwrap().path()));
            continue;
        }
        let text = fs::read_to_string(&path).unwrap();
        let code = text.split("\nmod tests {").next().unwrap();
        // The parts of a constant's assertion may stand below it.
        let mut is_constant = false;
        for line in code.lines() {
            is_constant |= line.contains("const _");
            if !is_constant && states_a_fact(line) {
                found.insert(name.clone());
            }
            is_constant &= !line.trim_end().ends_with(';');
        }
    }
    let listed: BTreeSet<String> = table("place").into_iter().map(|row| row[0].clone()).collect();
    assert_eq!(found, listed, "docs/audit.md lists every file that may panic");
}
