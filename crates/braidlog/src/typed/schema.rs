//! Which records are values of a type, and how the payloads of earlier versions become some.

use std::collections::BTreeMap;
use std::fmt;

use crate::BoxError;

/// Makes a value of the payload that an earlier schema had.
pub(super) type Upgrade<T> = Box<dyn Fn(&[u8]) -> Result<T, BoxError> + Send + Sync>;

/// Which records are values of `T`, and of which schema.
#[must_use = "it says what a `TypedLog` is to be"]
pub struct Schema<T> {
    pub(super) kind: u8,
    pub(super) version: u32,
    pub(super) upgrades: BTreeMap<u32, Upgrade<T>>,
}

impl<T> Schema<T> {
    /// Version 0, for records of kind 0.
    pub fn new() -> Schema<T> {
        Schema { kind: 0, version: 0, upgrades: BTreeMap::new() }
    }

    /// Sets the kind that the values have: 0 to 239. Records of other kinds are no values.
    pub fn kind(self, kind: u8) -> Schema<T> {
        Schema { kind, ..self }
    }

    /// Sets the version that values are appended with. It is kept with each record, in 8 bytes; 0 is kept in none.
    pub fn version(self, version: u32) -> Schema<T> {
        Schema { version, ..self }
    }

    /// Says how the payload of an earlier `version` becomes a value. Each version has its own way to this one.
    pub fn upgrade(
        mut self,
        version: u32,
        upgrade: impl Fn(&[u8]) -> Result<T, BoxError> + Send + Sync + 'static,
    ) -> Schema<T> {
        self.upgrades.insert(version, Box::new(upgrade));
        self
    }
}

impl<T> Default for Schema<T> {
    fn default() -> Schema<T> {
        Schema::new()
    }
}

impl<T> fmt::Debug for Schema<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Schema")
            .field("kind", &self.kind)
            .field("version", &self.version)
            .field("upgrades", &self.upgrades.keys())
            .finish()
    }
}
