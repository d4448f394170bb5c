//! A counter for each word that survives crashes: log first, then change memory; at start, replay.
//! `cargo run --example replay [DIR] WORD...`, and again with other words.

use std::collections::BTreeMap;

use braidlog::Wal;

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

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let scratch = tempfile::tempdir()?;
    let mut args = std::env::args().skip(1);
    let path = args.next().map_or_else(|| scratch.path().join("wal"), Into::into);
    let wal = Wal::options().open(&path)?;

    // The state that the last run had acknowledged, whatever ended it. The payloads are lent, not copied.
    let mut counters = Counters::default();
    let mut records = wal.replay()?;
    while let Some(record) = records.next_ref() {
        let record = record?;
        counters.apply(record.kind.0, record.payload);
    }
    println!("replayed {} records", wal.durable_lsn());

    for word in args {
        let kind = if word == "clear" { CLEAR } else { ADD };
        // Durable before it is applied: what anyone has seen in memory is never lost.
        wal.append_with(braidlog::Append::new(&word).kind(kind))?;
        counters.apply(kind, word.as_bytes());
    }
    for (word, count) in &counters.0 {
        println!("{count:>6}  {word}");
    }
    wal.close()?;
    Ok(())
}
