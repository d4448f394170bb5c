//! Open a log, append, close, open it again and replay: `cargo run --example quickstart [DIR]`.

use braidlog::{Append, Durability, DurabilityMode, Wal};

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let scratch = tempfile::tempdir()?;
    let path = std::env::args_os().nth(1).map_or_else(|| scratch.path().join("wal"), Into::into);

    // Makes the directory if there is none, and recovers what it holds if there is one.
    let wal = Wal::options().mode(DurabilityMode::group_commit()).open(&path)?;
    let found = wal.recovery_report();
    println!("{}: opening {}, {} records found", path.display(), wal.incarnation(), found.last_lsn);

    // Durable when it returns.
    let lsn = wal.append(b"debit alice 10")?;
    println!("record {lsn} is durable");

    // A kind says what the bytes are; the durability is this record's own.
    let lsn = wal.append_with(Append::new(b"note: lunch").kind(7).durability(Durability::Async))?;
    println!("record {lsn} is in the log, and soon durable");

    // All of it or nothing, after any crash.
    let mut batch = wal.batch();
    batch.push(1, b"debit alice 5")?.push(1, b"credit bob 5")?;
    println!("records {} are durable together", batch.commit()?);

    // Returns at once; wait for it when it matters, or `.await` it.
    let ticket = wal.submit(b"debit carol 1")?;
    println!("record {} is on its way", ticket.lsn());
    println!("record {} is durable", ticket.wait()?);
    wal.close()?;

    let wal = Wal::options().open(&path)?;
    for record in wal.replay()? {
        let record = record?;
        println!("{:>4}  kind {}  {}", record.lsn, record.kind.0, String::from_utf8_lossy(&record.payload));
    }
    wal.close()?;
    Ok(())
}
