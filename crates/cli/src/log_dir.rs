//! Opening a log to look at it.
//!
//! The rule: a directory that holds no log is an error. "No records", or worse "clean", said of a mistyped
//! path would be believed.

use std::fs;
use std::path::Path;

use braidlog::{ReadOnly, Retention, Wal};

use crate::args::ConfigArgs;
use crate::config;
use crate::failure::Failure;

/// Opens the log in `dir`, beside a writer or not.
pub fn open(dir: &Path) -> Result<ReadOnly, Failure> {
    require_log(dir)?;
    Ok(Wal::open_read_only(dir)?)
}

/// Opens the log in `dir` for writing, to change what it keeps: it gives up nothing by itself meanwhile.
pub fn open_for_change(dir: &Path, args: &ConfigArgs) -> Result<Wal, Failure> {
    let options = config::options(args, Wal::options())?;
    let options = options.num_stripes(1).background_threads(false).retention(Retention::keep_all());
    options.open(dir).map_err(Failure::opening)
}

/// Refuses a directory in which there is neither a segment nor a writer's lock.
pub fn require_log(dir: &Path) -> Result<(), Failure> {
    if names(dir)?.iter().any(|name| name == "LOCK" || name.ends_with(".wal") || name.ends_with(".walz")) {
        return Ok(());
    }
    Err(Failure::Failed(format!(
        "{} holds no log; give the directory that a log was written to",
        dir.display()
    )))
}

/// The names in `dir`, sorted.
pub fn names(dir: &Path) -> Result<Vec<String>, Failure> {
    let failed = |error| Failure::of(format_args!("cannot read the directory {}", dir.display()), error);
    let entries = fs::read_dir(dir).map_err(failed)?;
    let mut names = entries
        .map(|entry| Ok(entry.map_err(failed)?.file_name().to_string_lossy().into_owned()))
        .collect::<Result<Vec<_>, Failure>>()?;
    names.sort();
    Ok(names)
}
