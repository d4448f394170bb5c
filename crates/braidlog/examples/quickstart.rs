//! Open a log, append, close, open it again and replay: `cargo run -p braidlog --example quickstart [DIR]`.

use std::error::Error;
use std::io::Write;
use std::path::Path;

use braidlog::{Append, Durability, DurabilityMode, Wal};

/// Does it all in a log of its own.
pub fn run(dir: &Path, out: &mut impl Write) -> Result<(), Box<dyn Error>> {
    // Makes the directory if there is none, and recovers what it holds if there is one.
    let wal = Wal::options().mode(DurabilityMode::group_commit()).open(dir)?;
    let found = wal.recovery_report();
    writeln!(out, "opening {}, {} records found", wal.incarnation(), found.last_lsn)?;

    // Durable when it returns.
    let lsn = wal.append("debit alice 10")?;
    writeln!(out, "record {lsn} is durable")?;

    // A kind says what the bytes are; the durability is this record's own.
    let lsn = wal.append_with(Append::new("note: lunch").kind(7).durability(Durability::Async))?;
    writeln!(out, "record {lsn} is in the log, and soon durable")?;

    // All of it or nothing, after any crash.
    let mut batch = wal.batch();
    batch.push(1, "debit alice 5")?.push(1, "credit bob 5")?;
    writeln!(out, "records {} are durable together", batch.commit()?)?;

    // Returns at once; wait for it when it matters, or `.await` it.
    let ticket = wal.submit("debit carol 1")?;
    writeln!(out, "record {} is on its way", ticket.lsn())?;
    writeln!(out, "record {} is durable", ticket.wait()?)?;
    wal.close()?;

    let wal = Wal::options().open(dir)?;
    for record in wal.replay()? {
        let record = record?;
        let text = String::from_utf8_lossy(&record.payload);
        writeln!(out, "{:>4}  kind {}  {text}", record.lsn, record.kind.0)?;
    }
    wal.close()?;
    Ok(())
}

fn main() -> Result<(), Box<dyn Error>> {
    let scratch = tempfile::tempdir()?;
    let path = std::env::args_os().nth(1).map_or_else(|| scratch.path().join("wal"), Into::into);
    run(&path, &mut std::io::stdout())
}
