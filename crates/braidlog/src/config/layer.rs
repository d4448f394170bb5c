//! One source of options, a table or the environment: which of the keys it has, and what stands behind them.
//!
//! The rule: a layer is made only of keys that there are. It is laid over options key by key, in the order of the keys and not
//! of the text.

#[cfg(feature = "config")]
use std::ffi::OsString;

use super::keys::{GROUPS, KEYS, KINDS, PRESET, kind, kinds, preset};
use super::value::Value;
use crate::{Kinds, Options};

/// What the names of variables begin with.
#[cfg(feature = "config")]
pub(super) const PREFIX: &str = "BRAIDLOG_";

/// The entries of one source.
#[derive(Debug)]
pub(super) struct Layer(Vec<Entry>);

#[derive(Debug)]
struct Entry {
    /// As in [`KEYS`].
    path: String,
    /// What a person calls it: ``option `segment_size` ``.
    shown: String,
    value: Value,
}

impl Entry {
    fn unfit(&self, expected: &str) -> String {
        unfit(&self.shown, &self.value, expected)
    }
}

fn unfit(shown: &str, value: &Value, expected: &str) -> String {
    format!("{shown} is {value}, but {expected}")
}

impl Layer {
    /// What a table says.
    pub(super) fn table(table: Value) -> Result<Layer, String> {
        let Value::Table(entries) = table else {
            return Err(format!("the options are {table}, but a table is expected"));
        };
        let mut layer = Layer(Vec::new());
        for (key, value) in entries {
            match value {
                Value::Table(entries) if GROUPS.contains(&key.as_str()) => {
                    for (inner, value) in entries {
                        layer.add_key(&format!("{key}.{inner}"), value)?;
                    }
                }
                value => layer.add_key(&key, value)?,
            }
        }
        Ok(layer)
    }

    fn add_key(&mut self, key: &str, value: Value) -> Result<(), String> {
        let path = if key == "mode.name" { "mode" } else { key };
        let shown = format!("option `{key}`");
        if !paths().any(|known| known == path) {
            if GROUPS.contains(&path) {
                let inner: Vec<&str> =
                    paths().filter_map(|known| known.strip_prefix(path)?.strip_prefix('.')).collect();
                return Err(unfit(&shown, &value, &format!("a table of {} is expected", inner.join(", "))));
            }
            // Its table may have been forgotten.
            let apart = |known: &str| {
                let inner = known.rsplit_once('.').map_or(known, |(_, inner)| inner);
                distance(path, known).min(distance(path, inner))
            };
            let nearest = paths().min_by_key(|known| apart(known)).unwrap_or_default();
            return Err(format!("there is no {shown}: the nearest one is `{nearest}`"));
        }
        self.add(Entry { path: path.to_owned(), shown, value })
    }

    /// What variables say, all of whose names begin with [`PREFIX`]. One whose name is nearly that of a key is a slip; others
    /// are somebody else's.
    #[cfg(feature = "config")]
    pub(super) fn variables(variables: Vec<(OsString, OsString)>) -> Result<Layer, String> {
        let mut layer = Layer(Vec::new());
        for (name, value) in variables {
            let name = name.to_string_lossy();
            let shown = format!("variable `{name}`");
            match paths().find(|path| variable(path) == name) {
                Some(path) => {
                    let value = value.into_string().map_err(|value| {
                        format!("{shown} is {}, but a text in UTF-8 is expected", value.display())
                    })?;
                    layer.add(Entry { path: path.to_owned(), shown, value: Value::Text(value) })?;
                }
                None => {
                    let apart = paths().map(variable).map(|known| (distance(&name, &known), known));
                    let (apart, nearest) = apart.min().unwrap_or_default();
                    if apart <= 2.max(name.len().saturating_sub(PREFIX.len()) / 4) {
                        return Err(format!("there is no {shown}: the nearest one is `{nearest}`"));
                    }
                }
            }
        }
        Ok(layer)
    }

    fn add(&mut self, entry: Entry) -> Result<(), String> {
        if self.0.iter().any(|other| other.path == entry.path) {
            return Err(format!("{} is there twice", entry.shown));
        }
        self.0.push(entry);
        Ok(())
    }

    fn get(&self, path: &str) -> Option<&Entry> {
        self.0.iter().find(|entry| entry.path == path)
    }

    /// The options upon which it is laid, if it names any.
    pub(super) fn preset(&self) -> Result<Option<Options>, String> {
        let entry = self.get(PRESET);
        entry.map(|entry| preset(&entry.value).map_err(|expected| entry.unfit(&expected))).transpose()
    }

    /// These options, changed by what the layer says.
    pub(super) fn over(&self, mut options: Options) -> Result<Options, String> {
        for key in &KEYS {
            if let Some(entry) = self.get(key.path) {
                (key.set)(&mut options, &entry.value).map_err(|expected| entry.unfit(&expected))?;
            }
        }
        if let (Some(_), Some(hex)) = (self.get("user_metadata"), self.get("user_metadata_hex")) {
            return Err(hex.unfit("`user_metadata` is set too: one of them is expected"));
        }
        if let Some(entry) = self.get(KINDS) {
            options.kinds = match &entry.value {
                Value::Table(named) => table_of_kinds(&entry.shown, named)?,
                value => kinds(value).map_err(|expected| entry.unfit(&expected))?,
            };
        }
        Ok(options)
    }
}

fn table_of_kinds(shown: &str, named: &[(String, Value)]) -> Result<Kinds, String> {
    let named = named.iter().map(|(name, number)| {
        let shown = || format!("{}.{name}`", shown.trim_end_matches('`'));
        kind(number).map(|kind| (kind, name.clone())).map_err(|expected| unfit(&shown(), number, &expected))
    });
    named.collect()
}

/// Every key that there is.
pub(super) fn paths() -> impl Iterator<Item = &'static str> {
    [PRESET, KINDS].into_iter().chain(KEYS.iter().map(|key| key.path))
}

/// The variable of a key.
#[cfg(feature = "config")]
pub(super) fn variable(path: &str) -> String {
    format!("{PREFIX}{}", path.replace('.', "_").to_ascii_uppercase())
}

/// How many characters must be put in, left out or changed to make one text of the other.
fn distance(one: &str, other: &str) -> usize {
    let other: Vec<char> = other.chars().collect();
    let mut row: Vec<usize> = (0..=other.len()).collect();
    for (line, c) in one.chars().enumerate() {
        let mut diagonal = line;
        let mut left = line + 1;
        for (above, d) in row.iter_mut().skip(1).zip(&other) {
            let changed = diagonal + usize::from(c != *d);
            diagonal = *above;
            left = changed.min(left + 1).min(diagonal + 1);
            *above = left;
        }
        if let Some(first) = row.first_mut() {
            *first = line + 1;
        }
    }
    row.last().copied().unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn distances_count_what_must_be_changed() {
        for (one, other, expected) in [
            ("", "", 0),
            ("", "abc", 3),
            ("abc", "", 3),
            ("segment_siz", "segment_size", 1),
            ("kitten", "sitting", 3),
            ("flaw", "lawn", 2),
        ] {
            assert_eq!(distance(one, other), expected, "{one} {other}");
            assert_eq!(distance(other, one), expected, "{other} {one}");
        }
    }

    #[cfg(feature = "config")]
    #[test]
    fn every_key_has_a_variable_of_its_own() {
        let mut names: Vec<String> = paths().map(variable).collect();
        names.sort();
        let all = names.len();
        names.dedup();
        assert_eq!(names.len(), all);
    }
}
