//! One record on standard output, in each of the formats of `cat` and `tail`.
//!
//! Records are bytes: what is not UTF-8 is never replaced by something that is. JSON carries such a payload
//! as `payload_hex` instead of `payload`.

use std::io::{self, Write};

use braidlog::{Kind, Kinds, RecordRef, Records};
use serde::Serialize;

use crate::args::{Format, PrintArgs};
use crate::config;
use crate::failure::Failure;
use crate::output::{self, Out, Printed};

/// A record as JSON.
#[derive(Serialize)]
struct Json<'a> {
    lsn: u64,
    timestamp: String,
    timestamp_ns: u64,
    kind: u8,
    /// Its name, if the configuration has one.
    #[serde(skip_serializing_if = "Option::is_none")]
    kind_name: Option<&'a str>,
    /// Whether the next record belongs to the same atomic batch.
    batch_continues: bool,
    #[serde(skip_serializing_if = "Option::is_none")]
    transaction: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    stream: Option<u64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    sequence: Option<u64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    schema: Option<u32>,
    /// Whether it takes effect only if its transaction is committed, and then.
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    provisional: bool,
    len: usize,
    #[serde(skip_serializing_if = "Option::is_none")]
    payload: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    payload_hex: Option<String>,
}

/// Which records are printed, and how.
pub struct Printer {
    format: Format,
    kind: Option<Kind>,
    kinds: Kinds,
}

impl Printer {
    /// What the command line asks for.
    pub fn new(print: &PrintArgs) -> Result<Printer, Failure> {
        let kinds = config::kinds(&print.config)?;
        let kind = print.kind.as_ref().map(|kind| kind.find(&kinds)).transpose()?;
        Ok(Printer { format: print.format, kind, kinds })
    }

    /// Prints what `records` gives, and shows how far it is.
    pub fn print_all(&self, out: &mut Out, records: &mut Records, bar: &Printed) -> Result<(), Failure> {
        while let Some(record) = records.next_ref() {
            let record = record?;
            self.print(out, &record)?;
            bar.reach(record.lsn, false);
        }
        Ok(())
    }

    /// Prints a record, if it is one that is wanted.
    pub fn print(&self, out: &mut Out, record: &RecordRef<'_>) -> Result<(), Failure> {
        out.write(|out| self.write(out, record))
    }

    /// Writes a record, if it is one that is wanted. The log's own entries, such as the commit of a transaction, are shown where the
    /// format has a place for their kind, and where they are asked for.
    pub fn write(&self, out: &mut dyn Write, record: &RecordRef<'_>) -> io::Result<()> {
        let shown = record.kind.is_user() || self.format == Format::Json;
        if !self.kind.map_or(shown, |kind| kind == record.kind) {
            return Ok(());
        }
        write_record(out, self.format, record, &self.kinds)
    }
}

fn write_record(
    out: &mut dyn Write,
    format: Format,
    record: &RecordRef<'_>,
    kinds: &Kinds,
) -> io::Result<()> {
    match format {
        Format::Raw => return out.write_all(record.payload),
        Format::Text => out.write_all(record.payload)?,
        Format::Hex => write_hex(out, record.payload)?,
        Format::Json => {
            let text = std::str::from_utf8(record.payload).ok();
            let json = Json {
                lsn: record.lsn.0,
                timestamp: output::rfc3339(record.timestamp_ns),
                timestamp_ns: record.timestamp_ns,
                kind: record.kind.0,
                kind_name: kinds.name_of(record.kind),
                batch_continues: record.batch_continues,
                transaction: record.fields.transaction().map(|id| id.to_string()),
                stream: record.fields.stream(),
                sequence: record.fields.sequence(),
                schema: record.fields.schema(),
                provisional: record.fields.provisional(),
                len: record.payload.len(),
                payload: text,
                payload_hex: text.is_none().then(|| hex(record.payload)),
            };
            serde_json::to_writer(&mut *out, &json)?;
        }
    }
    out.write_all(b"\n")
}

fn write_hex(out: &mut dyn Write, payload: &[u8]) -> io::Result<()> {
    for byte in payload {
        write!(out, "{byte:02x}")?;
    }
    Ok(())
}

fn hex(payload: &[u8]) -> String {
    let mut text = Vec::with_capacity(2 * payload.len());
    write_hex(&mut text, payload).expect("a Vec takes all");
    String::from_utf8(text).expect("hexadecimal digits")
}
