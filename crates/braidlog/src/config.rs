//! Options as text: a table in TOML or any format of serde, and variables of the environment.
//!
//! The rule: what is not understood is refused, by the name of its key and with what is expected there. Nothing is guessed and
//! nothing passed over. Limits are checked where they always are, when the log is opened, and by the same names.

mod keys;
mod layer;
mod quantity;
mod value;

use serde::de::Error as _;
use serde::{Deserialize, Deserializer, Serialize, Serializer};

use crate::Options;
use layer::Layer;
use value::Value;

#[cfg(feature = "config")]
mod sources {
    use std::ffi::{OsStr, OsString};
    use std::path::Path;
    use std::sync::Arc;
    use std::{env, fs};

    use super::*;
    use crate::{Error, Result};

    /// # Configuration
    ///
    /// With the cargo feature `config`, options also come from a table in TOML and from variables of the environment. What
    /// is there twice is decided by who can say it best, the later over the earlier:
    ///
    /// 1. the [preset](#presets) that the key `preset` or the variable `BRAIDLOG_PRESET` names, or else the defaults;
    /// 2. the other keys of the table;
    /// 3. the other variables;
    /// 4. the code that goes on with the options.
    ///
    /// Keys are the names of the fields, with tables for [`mode`](Options#structfield.mode),
    /// [`retention`](Options#structfield.retention), [`checkpoint_policy`](Options#structfield.checkpoint_policy) and
    /// [`kinds`](Options#structfield.kinds). Durations are texts like `"100 ms"` or `"1h 30m"`, or numbers of milliseconds;
    /// sizes are texts like `"64 MiB"`, or numbers of bytes; `"none"` is no limit. A variable is named like its key:
    /// `BRAIDLOG_SEGMENT_SIZE`, `BRAIDLOG_RETENTION_AGE`. Storage, clock and listener are for the code alone.
    /// `docs/configuration.md` has every key.
    ///
    /// ```
    /// use std::time::Duration;
    ///
    /// use braidlog::{DurabilityMode, Options};
    ///
    /// let table = r#"
    ///     preset = "balanced"
    ///     segment_size = "256 MiB"
    ///
    ///     [mode]
    ///     flush_interval = "20 ms"
    ///
    ///     [kinds]
    ///     order = 7
    /// "#;
    /// let options = Options::from_toml(table)?.num_stripes(4);
    /// assert_eq!(options.mode, DurabilityMode::Async { flush_interval: Duration::from_millis(20) });
    /// assert_eq!(Options::from_toml(&options.to_toml())?.segment_size, 256 << 20);
    ///
    /// let error = Options::from_toml("segment_siz = 1").unwrap_err();
    /// assert!(error.to_string().contains("segment_size"));
    /// # Ok::<(), braidlog::Error>(())
    /// ```
    ///
    /// With the cargo feature `serde` alone, `Options` can be a part of a configuration of your own, in any format.
    impl Options {
        /// The options that a table in TOML says.
        ///
        /// # Errors
        /// [`InvalidInput`](crate::ErrorKind::InvalidInput) for what is no TOML, an unknown key, or a value that its key
        /// cannot have. What is out of its limits is told when the log is opened.
        pub fn from_toml(table: &str) -> Result<Options> {
            Options::default().configured(table, [("", ""); 0])
        }

        /// The options that the environment says.
        ///
        /// # Errors
        /// [`InvalidInput`](crate::ErrorKind::InvalidInput) for a variable with a value that it cannot have, and for one that
        /// looks like a slip of the pen: its name is nearly that of a variable, and none.
        pub fn from_env() -> Result<Options> {
            Options::default().configured("", env::vars_os())
        }

        /// The options that a file says, in TOML, and over it the environment.
        ///
        /// # Errors
        /// [`Io`](crate::ErrorKind::Io) and [`Foreign`](crate::ErrorKind::Foreign) if the file cannot be read, and as
        /// [`Options::from_toml`] and [`Options::from_env`].
        pub fn load(file: impl AsRef<Path>) -> Result<Options> {
            Options::default().load_over(file)
        }

        /// These options, and over them what a file and the environment say, as in [`Options::configured`].
        ///
        /// # Errors
        /// As [`Options::load`].
        pub fn load_over(self, file: impl AsRef<Path>) -> Result<Options> {
            let path: Arc<Path> = file.as_ref().into();
            let table = fs::read_to_string(&path)
                .map_err(|source| Error::open("read the configuration", &path, source))?;
            self.layered(&table, Some(&path), env::vars_os())
        }

        /// These options, and over them what a table in TOML and such variables say: those whose names begin with `BRAIDLOG_`.
        /// A preset takes the place of all of these options but the storage, the clock and the listener.
        ///
        /// # Errors
        /// As [`Options::from_toml`] and [`Options::from_env`].
        pub fn configured<K: AsRef<OsStr>, V: AsRef<OsStr>>(
            self,
            table: &str,
            variables: impl IntoIterator<Item = (K, V)>,
        ) -> Result<Options> {
            self.layered(table, None, variables)
        }

        fn layered<K: AsRef<OsStr>, V: AsRef<OsStr>>(
            self,
            table: &str,
            path: Option<&Arc<Path>>,
            variables: impl IntoIterator<Item = (K, V)>,
        ) -> Result<Options> {
            let table: Value =
                toml::from_str(table).map_err(|error| Error::unfit(path, error.to_string()))?;
            let table = Layer::table(table).map_err(|what| Error::unfit(path, what))?;
            let ours = variables.into_iter().filter_map(|(name, value)| {
                let is_ours = name.as_ref().as_encoded_bytes().starts_with(layer::PREFIX.as_bytes());
                is_ours.then(|| (name.as_ref().to_owned(), value.as_ref().to_owned()))
            });
            let ours: Vec<(OsString, OsString)> = ours.collect();
            let variables = Layer::variables(ours).map_err(|what| Error::unfit(None, what))?;
            let preset = variables.preset().map_err(|what| Error::unfit(None, what))?;
            let preset = match preset {
                Some(preset) => Some(preset),
                None => table.preset().map_err(|what| Error::unfit(path, what))?,
            };
            let options = preset.map_or_else(|| self.clone(), |preset| self.with_code_of(preset));
            let options = table.over(options).map_err(|what| Error::unfit(path, what))?;
            variables.over(options).map_err(|what| Error::unfit(None, what))
        }

        /// The table in TOML that says these options: all of them, but storage, clock and listener.
        /// [`Options::from_toml`] reads it to the same options.
        pub fn to_toml(&self) -> String {
            toml::to_string(&keys::write(self)).expect("a table of texts, numbers and flags can be written")
        }
    }
}

#[cfg(feature = "config")]
impl Options {
    /// `preset`, with what is code in these options.
    fn with_code_of(&self, preset: Options) -> Options {
        let Options { on_event, storage, clock, .. } = self.clone();
        Options { on_event, storage, clock, ..preset }
    }
}

/// As [`Options::to_toml`].
impl Serialize for Options {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        keys::write(self).serialize(serializer)
    }
}

/// As [`Options::from_toml`]: a table of the keys of `docs/configuration.md`, `preset` among them.
impl<'de> Deserialize<'de> for Options {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Options, D::Error> {
        let table = Layer::table(Value::deserialize(deserializer)?).map_err(D::Error::custom)?;
        let preset = table.preset().map_err(D::Error::custom)?.unwrap_or_default();
        table.over(preset).map_err(D::Error::custom)
    }
}

#[cfg(all(test, feature = "config"))]
mod tests;
