//! Sixteen threads commit at once and share syncs: `cargo run --release --example many_writers [DIR]`.

use std::thread;
use std::time::Instant;

use braidlog::Wal;

const THREADS: u64 = 16;
const RECORDS_PER_THREAD: u64 = 5_000;

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let scratch = tempfile::tempdir()?;
    let path = std::env::args_os().nth(1).map_or_else(|| scratch.path().join("wal"), Into::into);
    let wal = Wal::options().open(&path)?;
    let first = wal.last_lsn().next();

    let start = Instant::now();
    thread::scope(|scope| -> braidlog::Result<()> {
        let threads: Vec<_> = (0..THREADS)
            .map(|thread| {
                // A handle that prefers a stripe of its own.
                let writer = wal.writer();
                scope.spawn(move || -> braidlog::Result<()> {
                    for number in 0..RECORDS_PER_THREAD {
                        writer.append(format!("thread {thread}, record {number}"))?;
                    }
                    Ok(())
                })
            })
            .collect();
        threads.into_iter().try_for_each(|thread| thread.join().expect("a writer does not panic"))
    })?;
    let seconds = start.elapsed().as_secs_f64();

    let metrics = wal.metrics();
    println!("{} durable records in {seconds:.2} s", THREADS * RECORDS_PER_THREAD);
    println!("{} syncs, {:.1} records each", metrics.syncs, metrics.records_per_sync);
    println!("sync: median {} us", metrics.sync_latency.p50_ns / 1000);

    // One dense order, whatever thread and stripe a record came from.
    for (record, expected) in wal.iter(first..)?.zip(first.get()..) {
        assert_eq!(record?.lsn.get(), expected);
    }
    wal.close()?;
    Ok(())
}
