//! `docs/features.md` and `docs/testing.md` name files and tests. A name that leads nowhere is worse than none.

use std::fs;
use std::path::{Path, PathBuf};

/// A file as the page names it: from `crates/`, or from the top.
fn find(name: &str) -> Option<PathBuf> {
    let top = Path::new(env!("CARGO_MANIFEST_DIR")).join("../..");
    [top.join("crates").join(name), top.join(name)].into_iter().find(|path| path.is_file())
}

/// What stands between backticks.
fn names(cell: &str) -> impl Iterator<Item = &str> {
    cell.split('`').skip(1).step_by(2)
}

#[test]
fn every_feature_names_a_file_and_a_test_that_exist() {
    let page = fs::read_to_string(find("docs/features.md").unwrap()).unwrap();
    let mut last = 0;
    let mut wrong = Vec::new();
    for row in page.lines() {
        let cells: Vec<&str> = row.split('|').map(str::trim).collect();
        let [_, number, _what, places, tests, _] = cells[..] else { continue };
        let Ok(number) = number.parse::<u32>() else { continue };
        assert!(number > last, "row {number} is not in its place");
        last = number;

        let missing = names(places).filter(|name| find(name).is_none());
        wrong.extend(missing.map(|name| format!("row {number}: there is no file {name}")));
        let (mut text, mut count) = (String::new(), 0);
        for name in names(tests) {
            if name.ends_with(".rs") {
                text = find(name).map_or_else(String::new, |path| fs::read_to_string(path).unwrap());
            } else if text.contains(&format!("#[test]\n    fn {name}()"))
                || text.contains(&format!("#[test]\nfn {name}()"))
            {
                count += 1;
            } else {
                wrong.push(format!("row {number}: there is no test {name}"));
            }
        }
        if count == 0 {
            wrong.push(format!("row {number} names no test"));
        }
    }
    assert!(last > 0, "the page has no rows");
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

/// All sources of the repository, one after the other.
fn sources() -> String {
    let top = Path::new(env!("CARGO_MANIFEST_DIR")).join("../..");
    let mut text = String::new();
    let mut open = vec![top.join("crates"), top.join("fuzz/src"), top.join("fuzz/tests")];
    while let Some(path) = open.pop() {
        if path.is_dir() {
            open.extend(fs::read_dir(&path).unwrap().map(|entry| entry.unwrap().path()));
        } else if path.extension().is_some_and(|extension| extension == "rs") {
            text += &fs::read_to_string(&path).unwrap();
        }
    }
    text
}

#[test]
fn every_test_that_the_page_on_testing_names_exists() {
    let page = fs::read_to_string(find("docs/testing.md").unwrap()).unwrap();
    let sources = sources();
    // A test's name is a sentence; what is shorter is a word of the code, and a bug's name stands in quotes there.
    let sentences = page.lines().flat_map(names).filter(|name| {
        name.matches('_').count() >= 3
            && name.bytes().all(|byte| byte.is_ascii_lowercase() || b"_0123456789".contains(&byte))
    });
    let (mut count, mut missing) = (0, Vec::new());
    for name in sentences {
        count += 1;
        if !sources.contains(&format!("fn {name}(")) && !sources.contains(&format!("\"{name}\"")) {
            missing.push(name);
        }
    }
    assert!(count > 50, "the page names {count} tests");
    assert!(missing.is_empty(), "docs/testing.md names what is not there: {missing:#?}");
}
