//! Sixteen threads commit at once and share syncs: `cargo run --release -p braidlog --example many_writers [DIR]`.

use std::error::Error;
use std::io::Write;
use std::path::Path;
use std::thread;
use std::time::Instant;

use braidlog::{Metrics, Wal};

const THREADS: u64 = 16;

/// Lets each thread append `records_per_thread` records, each durable before the next, and looks at the order that came of it.
pub fn run(dir: &Path, records_per_thread: u64, out: &mut impl Write) -> Result<Metrics, Box<dyn Error>> {
    let wal = Wal::options().open(dir)?;
    let first = wal.last_lsn().next();
    thread::scope(|scope| -> braidlog::Result<()> {
        let threads: Vec<_> = (0..THREADS)
            .map(|thread| {
                // A handle that prefers a stripe of its own.
                let writer = wal.writer();
                scope.spawn(move || -> braidlog::Result<()> {
                    for number in 0..records_per_thread {
                        writer.append(format!("{thread} {number}"))?;
                    }
                    Ok(())
                })
            })
            .collect();
        threads.into_iter().try_for_each(|thread| thread.join().expect("a writer does not panic"))
    })?;
    let metrics = wal.metrics();

    // One dense order for all, and each thread's own order within it.
    let mut next = [0; THREADS as usize];
    for (record, lsn) in wal.iter(first..)?.zip(first.get()..) {
        let record = record?;
        let text = String::from_utf8(record.payload)?;
        let (thread, number) = text.split_once(' ').ok_or("a record has a space")?;
        let next = &mut next[thread.parse::<usize>()?];
        if record.lsn.get() != lsn || number.parse() != Ok(*next) {
            return Err(format!("record {}, {text:?}, is out of order", record.lsn).into());
        }
        *next += 1;
    }
    wal.close()?;
    writeln!(out, "{THREADS} threads appended {} records", next.iter().sum::<u64>())?;
    writeln!(
        out,
        "every record is there, once and in its thread's order: {}",
        next == [records_per_thread; 16]
    )?;
    Ok(metrics)
}

fn main() -> Result<(), Box<dyn Error>> {
    let scratch = tempfile::tempdir()?;
    let path = std::env::args_os().nth(1).map_or_else(|| scratch.path().join("wal"), Into::into);
    let start = Instant::now();
    let metrics = run(&path, 5_000, &mut std::io::stdout())?;
    println!("{:.2} s with the reading", start.elapsed().as_secs_f64());
    println!("{} syncs, {:.1} records each", metrics.syncs, metrics.records_per_sync);
    println!("sync: median {} us", metrics.sync_latency.p50_ns / 1000);
    Ok(())
}
