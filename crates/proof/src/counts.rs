//! What a run did, counted by name: images, schedules, kills, flips.
//!
//! The rule: a count says what was checked, never what was tried; runs and threads are added up with
//! [`Counts::merge`].

use std::collections::BTreeMap;
use std::fmt;

/// How often each thing was done.
#[derive(Clone, Default, PartialEq, Eq, Debug)]
pub struct Counts(pub BTreeMap<&'static str, u64>);

impl Counts {
    /// Adds `n` to what is counted as `name`.
    pub fn add(&mut self, name: &'static str, n: u64) {
        *self.0.entry(name).or_default() += n;
    }

    /// Adds everything that another run counted.
    pub fn merge(&mut self, other: &Counts) {
        for (&name, &n) in &other.0 {
            self.add(name, n);
        }
    }

    /// What was counted as `name`; 0 if nothing was.
    pub fn get(&self, name: &str) -> u64 {
        self.0.get(name).copied().unwrap_or(0)
    }
}

impl fmt::Display for Counts {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (index, (name, n)) in self.0.iter().enumerate() {
            let comma = if index > 0 { ", " } else { "" };
            write!(f, "{comma}{n} {name}")?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn counts_are_added_up_by_name() {
        let mut counts = Counts::default();
        counts.add("images", 2);
        let mut other = Counts::default();
        other.add("images", 3);
        other.add("crashes", 1);
        counts.merge(&other);
        assert_eq!((counts.get("images"), counts.get("kills")), (5, 0));
        assert_eq!(counts.to_string(), "1 crashes, 5 images");
    }
}
