//! Options that the command's flags do not say: from `--config FILE`, and over it from the environment.
//!
//! The rule: flags go before both. What opens a log for writing reads them; what only prints takes the names of kinds.

use std::env;
use std::str::FromStr;

use braidlog::{Durability, DurabilityMode, Kind, Kinds, Options, Wal};

use crate::args::{ConfigArgs, DurabilityArg};
use crate::failure::Failure;

/// These options, and over them what the file and the environment say.
pub fn options(args: &ConfigArgs, base: Options) -> Result<Options, Failure> {
    let options = match &args.config {
        Some(file) => base.load_over(file),
        None => base.configured("", env::vars_os()),
    };
    options.map_err(Failure::opening)
}

/// The names of kinds.
pub fn kinds(args: &ConfigArgs) -> Result<Kinds, Failure> {
    Ok(options(args, Wal::options())?.kinds)
}

/// The mode that a flag names: with the delays of the configured one if it is of that sort, or else with its defaults.
pub fn mode(flag: DurabilityArg, configured: DurabilityMode) -> DurabilityMode {
    let (durability, default) = match flag {
        DurabilityArg::Async => (Durability::Async, DurabilityMode::asynchronous()),
        DurabilityArg::Group => (Durability::GroupCommit, DurabilityMode::group_commit()),
        DurabilityArg::Sync => (Durability::Synchronous, DurabilityMode::Synchronous),
    };
    if configured.durability() == durability { configured } else { default }
}

/// A kind on the command line: its number, or the name that the configuration gives it.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum KindArg {
    /// Its number.
    Number(Kind),
    /// Its name.
    Name(String),
}

impl FromStr for KindArg {
    type Err = String;

    fn from_str(text: &str) -> Result<KindArg, String> {
        match text.parse::<i64>() {
            Ok(number) => match u8::try_from(number) {
                Ok(kind) => Ok(KindArg::Number(Kind(kind))),
                Err(_) => {
                    Err("a kind is a number from 0 to 255, or a name that the configuration has".to_owned())
                }
            },
            Err(_) => Ok(KindArg::Name(text.to_owned())),
        }
    }
}

/// Reads a kind that may be appended.
pub fn user_kind(text: &str) -> Result<KindArg, String> {
    match text.parse()? {
        KindArg::Number(kind) if !kind.is_user() => {
            Err("kinds of records are 0 to 239, or a name that the configuration has".to_owned())
        }
        kind => Ok(kind),
    }
}

impl KindArg {
    /// The kind that it stands for.
    pub fn find(&self, kinds: &Kinds) -> Result<Kind, Failure> {
        match self {
            KindArg::Number(kind) => Ok(*kind),
            KindArg::Name(name) => kinds.get(name).ok_or_else(|| {
                let known: Vec<&str> = kinds.iter().map(|(_, name)| name).collect();
                let known = if known.is_empty() { "none".to_owned() } else { known.join(", ") };
                Failure::Usage(format!(
                    "no kind is called `{name}`; `[kinds]` in the file of --config and BRAIDLOG_KINDS name them, now: {known}"
                ))
            }),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn kinds_are_numbers_or_names() {
        let kinds = Kinds::new().name(7, "order");
        let find = |text: &str| text.parse::<KindArg>().unwrap().find(&kinds);
        assert_eq!(find("7").unwrap(), Kind(7));
        assert_eq!(find("order").unwrap(), Kind(7));
        assert!(find("payment").unwrap_err().message().unwrap().contains("now: order"));
        assert!("256".parse::<KindArg>().is_err() && "-1".parse::<KindArg>().is_err());
        assert!(user_kind("239").is_ok() && user_kind("order").is_ok() && user_kind("240").is_err());
    }

    #[test]
    fn modes_of_the_sort_that_is_configured_keep_its_delays() {
        let configured = DurabilityMode::async_batched();
        assert_eq!(mode(DurabilityArg::Async, configured), configured);
        assert_eq!(mode(DurabilityArg::Group, configured), DurabilityMode::group_commit());
        assert_eq!(mode(DurabilityArg::Sync, configured), DurabilityMode::Synchronous);
    }
}
