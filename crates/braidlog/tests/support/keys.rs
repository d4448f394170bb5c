//! An application in miniature: values by key, which records set (`key=value`) and checkpoints hold.
#![allow(dead_code, reason = "each test file uses its part")]

use std::collections::BTreeMap;
use std::io::{BufRead, Write};

use braidlog::{Applied, BoxError, CheckpointReader, CheckpointWriter, Lsn, RecordRef, Restore};

/// Values by key, each with the record that set it.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct Keys {
    pub values: BTreeMap<String, (String, Lsn)>,
    pub applied: Lsn,
}

impl Keys {
    pub fn set(&mut self, record: &str, lsn: Lsn) -> Result<(), BoxError> {
        let (key, value) = record.split_once('=').ok_or_else(|| format!("no `=` in `{record}`"))?;
        self.values.insert(key.to_owned(), (value.to_owned(), lsn));
        self.applied = lsn;
        Ok(())
    }

    /// All of it, or what changed since the base.
    pub fn write(&self, writer: &mut CheckpointWriter<'_>) -> Result<(), BoxError> {
        let base = writer.base();
        for (key, (value, lsn)) in &self.values {
            if base.is_none_or(|base| *lsn > base) {
                writeln!(writer, "{key}={value}@{lsn}")?;
            }
        }
        Ok(())
    }
}

impl Restore for Keys {
    fn restore(&mut self, part: &mut CheckpointReader<'_>) -> Result<(), BoxError> {
        if part.base().is_none() {
            self.values.clear();
        }
        let mut line = String::new();
        while part.read_line(&mut line)? > 0 {
            let (record, lsn) = line.trim_end().rsplit_once('@').ok_or("no `@`")?;
            self.set(record, lsn.parse()?)?;
            line.clear();
        }
        self.applied = part.lsn();
        Ok(())
    }

    fn apply(&mut self, record: RecordRef<'_>) -> Result<Applied, BoxError> {
        if record.lsn <= self.applied {
            return Ok(Applied::Skipped);
        }
        self.set(std::str::from_utf8(record.payload)?, record.lsn)?;
        Ok(Applied::Applied)
    }
}
