//! The public interface of the library, line by line, in `docs/api.txt`: a change to it is seen in review, or is none.
//!
//! The rule: what a program can name or call through the crate `braidlog` is listed, wherever in the workspace it is written.
//! After a change that is meant: `BRAIDLOG_WRITE_API=1 cargo test -p braidlog-proof --test api`.

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use public_api::Builder;

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../..").canonicalize().unwrap()
}

/// Each public item of a crate of the workspace, with all of its features. The compiler is the pinned one, so the form of
/// what it tells, which is unstable, is the one that `public-api` of the pinned version reads.
fn items(package: &str) -> BTreeSet<String> {
    let target = root().join("target/api");
    let output = Command::new(env!("CARGO"))
        .args(["rustdoc", "--locked", "--lib", "--all-features", "--package", package, "--target-dir"])
        .arg(&target)
        .args(["--", "-Z", "unstable-options", "--output-format", "json", "--cap-lints", "allow"])
        .env("RUSTC_BOOTSTRAP", "1")
        .env_remove("RUSTDOCFLAGS")
        .current_dir(root())
        .output()
        .unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let json = target.join("doc").join(format!("{}.json", package.replace('-', "_")));
    let api = Builder::from_rustdoc_json(json)
        .omit_blanket_impls(true)
        .omit_auto_trait_impls(true)
        .omit_auto_derived_impls(true)
        .build()
        .unwrap();
    api.items().map(ToString::to_string).collect()
}

/// The name in the root of `krate` to which an item belongs: what an `impl` is for, or the first that is named.
fn owner<'a>(item: &'a str, krate: &str) -> Option<&'a str> {
    let item = match item.strip_prefix("impl") {
        Some(implementation) => implementation.split_once(" for ").map_or(implementation, |(_, of)| of),
        None => item,
    };
    let prefix = format!("{krate}::");
    let path = item.split_once(prefix.as_str())?.1;
    path.split(|c: char| !c.is_alphanumeric() && c != '_').next()
}

/// The listing: what the crate has itself, and of the crates below it what it hands on.
fn listing() -> String {
    let facade = items("braidlog");
    let mut lines: BTreeSet<String> = facade.clone();
    for package in ["braidlog-format", "braidlog-storage", "braidlog-engine", "braidlog-recovery"] {
        let krate = package.replace('-', "_");
        let handed_on = |name: &str| facade.contains(&format!("pub use braidlog::{name}"));
        let of_facade = items(package)
            .into_iter()
            .filter(|item| package == "braidlog-storage" || owner(item, &krate).is_some_and(handed_on));
        lines.extend(of_facade);
    }
    lines.into_iter().map(|line| line + "\n").collect()
}

#[test]
fn public_interface_is_the_listed_one() {
    let path = root().join("docs/api.txt");
    let found = listing();
    if std::env::var_os("BRAIDLOG_WRITE_API").is_some() {
        fs::write(&path, &found).unwrap();
    }
    let listed = fs::read_to_string(&path).unwrap();
    let (found, listed): (BTreeSet<&str>, BTreeSet<&str>) =
        (found.lines().collect(), listed.lines().collect());
    let gone: Vec<String> = listed.difference(&found).map(|line| format!("- {line}")).collect();
    let new: Vec<String> = found.difference(&listed).map(|line| format!("+ {line}")).collect();
    assert!(
        gone.is_empty() && new.is_empty(),
        "the public interface is not what docs/api.txt lists; if that is meant, write it again with \
         BRAIDLOG_WRITE_API=1:\n{}\n{}",
        gone.join("\n"),
        new.join("\n")
    );
    // It would list nothing if nothing were found.
    for line in [
        "pub fn braidlog::Wal::close(&self)",
        "pub struct braidlog_format::Lsn(",
        "pub trait braidlog_storage::Storage",
    ] {
        assert!(found.iter().any(|item| item.starts_with(line)), "{line}");
    }
}
