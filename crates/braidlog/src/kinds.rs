//! Names for the kinds of records, so that programs and people need not know numbers.
//!
//! The rule: a name stands for one number and a number for one name. The log itself stores numbers; a kind without a name is
//! delivered like any other.

use std::fmt;

use braidlog_format::Kind;

use crate::{Error, Result, Wal};

/// The most bytes of a name.
const NAME_MAX: usize = 64;

/// Which names the kinds of a log's records have: [`Options::kinds`](crate::Options#structfield.kinds).
///
/// Names are not in the log: give the same ones at each opening. Records of a kind that has none are delivered all the same.
///
/// ```
/// use braidlog::{Append, Kinds, Wal};
/// # let dir = tempfile::tempdir()?;
/// # let path = dir.path().join("wal");
/// let kinds = Kinds::new().name(7, "order").name(8, "payment");
/// let wal = Wal::options().kinds(kinds).open(path)?;
/// let order = wal.kind("order").unwrap();
/// let lsn = wal.append_with(Append::new(b"2 apples").kind(order.0))?;
/// let record = wal.read(lsn)?.unwrap();
/// assert_eq!(wal.kind_name(record.kind), Some("order"));
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Clone, PartialEq, Eq, Default)]
pub struct Kinds {
    /// In ascending order, first of numbers. What is there twice is refused when the log is opened.
    named: Vec<(Kind, String)>,
}

impl Kinds {
    /// No names.
    #[must_use]
    pub const fn new() -> Kinds {
        Kinds { named: Vec::new() }
    }

    /// Names a kind. Opening the log refuses a kind above 239, a kind or a name that is there twice, and a name that is empty, has
    /// more than 64 bytes or a control character.
    #[must_use]
    pub fn name(mut self, kind: u8, name: impl Into<String>) -> Kinds {
        let named = (Kind(kind), name.into());
        let at = self.named.partition_point(|other| *other <= named);
        self.named.insert(at, named);
        self
    }

    /// The kind of this name.
    pub fn get(&self, name: &str) -> Option<Kind> {
        self.named.iter().find(|(_, other)| other == name).map(|(kind, _)| *kind)
    }

    /// The name of this kind.
    pub fn name_of(&self, kind: Kind) -> Option<&str> {
        let at = self.named.binary_search_by_key(&kind, |(kind, _)| *kind).ok()?;
        self.named.get(at).map(|(_, name)| name.as_str())
    }

    /// All kinds that have a name, in order.
    pub fn iter(&self) -> impl Iterator<Item = (Kind, &str)> {
        self.named.iter().map(|(kind, name)| (*kind, name.as_str()))
    }

    /// Whether no kind has a name.
    pub fn is_empty(&self) -> bool {
        self.named.is_empty()
    }

    pub(crate) fn check(&self) -> Result<()> {
        let refuse = |value: String, limit: &str| Err(Error::option("kinds", value, limit));
        for (at, (kind, name)) in self.named.iter().enumerate() {
            if !kind.is_user() {
                return refuse(format!("{kind} for {name:?}"), "the most is 239");
            }
            if name.is_empty() || name.len() > NAME_MAX || name.contains(char::is_control) {
                return refuse(
                    format!("{kind} for {name:?}"),
                    "a name has 1 to 64 bytes and no control character",
                );
            }
            for (other, others_name) in self.named.iter().skip(at + 1) {
                if other == kind {
                    return refuse(format!("{kind} for {name:?} and {others_name:?}"), "a kind has one name");
                }
                if others_name == name {
                    return refuse(format!("{kind} and {other} for {name:?}"), "a name stands for one kind");
                }
            }
        }
        Ok(())
    }
}

impl fmt::Debug for Kinds {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_map().entries(self.iter().map(|(kind, name)| (name, kind.0))).finish()
    }
}

impl<S: Into<String>> FromIterator<(u8, S)> for Kinds {
    fn from_iter<I: IntoIterator<Item = (u8, S)>>(named: I) -> Kinds {
        named.into_iter().fold(Kinds::new(), |kinds, (kind, name)| kinds.name(kind, name))
    }
}

/// # Kinds by name
impl Wal {
    /// The names that [`Options::kinds`](crate::Options#structfield.kinds) gave to the kinds of records.
    pub fn kinds(&self) -> &Kinds {
        &self.log.kinds
    }

    /// The kind of this name, if one was given.
    pub fn kind(&self, name: &str) -> Option<Kind> {
        self.kinds().get(name)
    }

    /// The name of this kind, if one was given. A record of another kind is no less a record.
    pub fn kind_name(&self, kind: Kind) -> Option<&str> {
        self.kinds().name_of(kind)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_and_kinds_lead_to_one_another() {
        let kinds = Kinds::new().name(239, "last").name(0, "first").name(7, "order");
        kinds.check().unwrap();
        assert_eq!(kinds.get("order"), Some(Kind(7)));
        assert_eq!(kinds.name_of(Kind(239)), Some("last"));
        assert_eq!((kinds.get("other"), kinds.name_of(Kind(8))), (None, None));
        assert_eq!(format!("{kinds:?}"), r#"{"first": 0, "order": 7, "last": 239}"#);
        assert_eq!(kinds, [(7, "order"), (0, "first"), (239, "last")].into_iter().collect());
        Kinds::new().check().unwrap();
    }

    #[test]
    fn what_is_there_twice_or_cannot_be_is_refused() {
        let long = "n".repeat(65);
        for (kinds, words) in [
            (Kinds::new().name(7, "order").name(7, "payment"), ["7", "order", "payment", "one name"]),
            (Kinds::new().name(8, "order").name(7, "order"), ["7", "8", "order", "one kind"]),
            (Kinds::new().name(7, "order").name(7, "order"), ["7", "order", "order", "one name"]),
            (Kinds::new().name(240, "mark"), ["240", "mark", "the most", "239"]),
            (Kinds::new().name(1, ""), ["1", "\"\"", "1 to 64", "bytes"]),
            (Kinds::new().name(1, "a\nb"), ["1", "a\\nb", "control", "character"]),
            (Kinds::new().name(1, long), ["1", "nnn", "1 to 64", "bytes"]),
        ] {
            let error = kinds.check().unwrap_err();
            let text = error.to_string();
            assert_eq!(error.kind(), crate::ErrorKind::InvalidInput);
            assert!(text.contains("`kinds`") && words.iter().all(|word| text.contains(word)), "{text}");
        }
    }
}
