//! A counter for each word that survives crashes: log first, then change memory; at start, replay.
//! `cargo run -p braidlog --example replay [DIR] WORD...`, and again with other words.

use std::collections::BTreeMap;
use std::error::Error;
use std::io::Write;
use std::path::Path;

use braidlog::{Append, Wal};

/// What the records mean; the log itself does not care.
const ADD: u8 = 1;
const CLEAR: u8 = 2;

/// The state of the application: what its log says, applied in order.
#[derive(Default)]
struct Counters(BTreeMap<String, u64>);

impl Counters {
    fn apply(&mut self, kind: u8, payload: &[u8]) {
        let word = String::from_utf8_lossy(payload).into_owned();
        match kind {
            ADD => *self.0.entry(word).or_default() += 1,
            CLEAR => self.0.clear(),
            // A record of a later version of this program.
            _ => {}
        }
    }
}

/// Adds words to the counters of a log, and tells all of them.
pub fn run(dir: &Path, words: &[String], out: &mut impl Write) -> Result<(), Box<dyn Error>> {
    let wal = Wal::options().open(dir)?;

    // The state that the last run had acknowledged, whatever ended it. The payloads are lent, not copied.
    let mut counters = Counters::default();
    let mut records = wal.replay()?;
    while let Some(record) = records.next_ref() {
        let record = record?;
        counters.apply(record.kind.0, record.payload);
    }
    writeln!(out, "replayed {} records", wal.durable_lsn())?;

    for word in words {
        let kind = if word == "clear" { CLEAR } else { ADD };
        // Durable before it is applied: what anyone has seen in memory is never lost.
        wal.append_with(Append::new(word).kind(kind))?;
        counters.apply(kind, word.as_bytes());
    }
    for (word, count) in &counters.0 {
        writeln!(out, "{count:>6}  {word}")?;
    }
    wal.close()?;
    Ok(())
}

fn main() -> Result<(), Box<dyn Error>> {
    let scratch = tempfile::tempdir()?;
    let mut args = std::env::args().skip(1);
    let path = args.next().map_or_else(|| scratch.path().join("wal"), Into::into);
    run(&path, &args.collect::<Vec<_>>(), &mut std::io::stdout())
}
