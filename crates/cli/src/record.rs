//! One record on standard output, in each of the formats of `cat` and `tail`.
//!
//! Records are bytes: what is not UTF-8 is never replaced by something that is. JSON carries such a payload
//! as `payload_hex` instead of `payload`.

use std::io::{self, Write};

use braidlog::{RecordRef, Records};
use serde::Serialize;

use crate::args::{Format, PrintArgs};
use crate::failure::Failure;
use crate::output::{self, Out, Printed};

/// A record as JSON.
#[derive(Serialize)]
struct Json<'a> {
    lsn: u64,
    timestamp: String,
    timestamp_ns: u64,
    kind: u8,
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
    len: usize,
    #[serde(skip_serializing_if = "Option::is_none")]
    payload: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    payload_hex: Option<String>,
}

/// Prints what `records` gives, and shows how far it is.
pub fn print_all(
    out: &mut Out,
    records: &mut Records,
    print: &PrintArgs,
    bar: &Printed,
) -> Result<(), Failure> {
    while let Some(record) = records.next_ref() {
        let record = record?;
        self::print(out, &record, print)?;
        bar.reach(record.lsn, false);
    }
    Ok(())
}

/// Prints a record, if it is one that is wanted.
pub fn print(out: &mut Out, record: &RecordRef<'_>, print: &PrintArgs) -> Result<(), Failure> {
    if print.kind.is_none_or(|kind| kind == record.kind.0) {
        out.write(|out| write_record(out, print.format, record))?;
    }
    Ok(())
}

/// Prints one record.
pub fn write_record(out: &mut dyn Write, format: Format, record: &RecordRef<'_>) -> io::Result<()> {
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
                batch_continues: record.batch_continues,
                transaction: record.fields.transaction().map(|id| id.to_string()),
                stream: record.fields.stream(),
                sequence: record.fields.sequence(),
                schema: record.fields.schema(),
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
