//! `docs/features.md` names files and tests. A name that leads nowhere is worse than none.

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
