//! Tasks that append: `cargo run -p braidlog --example async_tokio [DIR]`.
//!
//! The log knows no runtime; everything that can be waited for is a `Future`, and this is tokio's. No task holds a thread while
//! it waits for room or for the disk.

use std::error::Error;
use std::io::Write;
use std::path::Path;
use std::time::Duration;

use braidlog::{Lsn, Wal};
use tokio::task::JoinSet;
use tokio::time::timeout;

/// A service's requests: each is a task, and is answered when its record is durable. All that wait share a sync.
async fn serve(wal: &Wal, requests: usize) -> Result<usize, Box<dyn Error>> {
    let mut tasks = JoinSet::new();
    for request in 0..requests {
        let wal = wal.clone();
        tasks.spawn(async move { wal.append_async(format!("request {request}")).await });
    }
    let mut answered = 0;
    while let Some(task) = tasks.join_next().await {
        let lsn = task??;
        assert!(wal.durable_lsn() >= lsn);
        answered += 1;
    }
    Ok(answered)
}

/// An import: many records on their way at once, and one wait for the last of them.
async fn import(wal: &Wal, lines: usize) -> Result<Lsn, Box<dyn Error>> {
    let mut last = Lsn::ZERO;
    for line in 0..lines {
        // Waits only if the log has no room.
        last = wal.submit_async(format!("line {line}")).await?.lsn();
    }
    wal.durable(last).await?;
    Ok(last)
}

/// Does it all in a log of its own.
pub async fn run(dir: &Path, out: &mut impl Write) -> Result<(), Box<dyn Error>> {
    // Opening recovers, which blocks: at a start that is all there is to do, later it belongs into `spawn_blocking`.
    let wal = Wal::options().open(dir)?;
    writeln!(out, "{} requests answered", serve(&wal, 100).await?)?;
    writeln!(out, "imported, durable up to record {}", import(&wal, 1_000).await?)?;

    // One record, and the rungs of its way to the disk.
    let ticket = wal.submit_async("order 7").await?;
    ticket.written().await?;
    writeln!(out, "record {} survives a kill of this process", ticket.lsn())?;
    ticket.durable().await?;
    writeln!(out, "record {} survives a power cut", ticket.lsn())?;

    // Dropping a future ends the wait and never the write: a time limit costs no record.
    let ticket = wal.submit_async("order 8").await?;
    let lsn = ticket.lsn();
    if timeout(Duration::from_nanos(1), ticket).await.is_err() {
        wal.durable(lsn).await?;
    }
    writeln!(out, "record {lsn} is durable, whoever stopped waiting for it")?;

    // Closing waits for the log's threads.
    let closing = wal.clone();
    tokio::task::spawn_blocking(move || closing.close()).await??;
    let records = Wal::open_read_only(dir)?.replay()?.count();
    writeln!(out, "{records} records are in the log")?;
    Ok(())
}

fn main() -> Result<(), Box<dyn Error>> {
    let scratch = tempfile::tempdir()?;
    let path = std::env::args_os().nth(1).map_or_else(|| scratch.path().join("wal"), Into::into);
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_time().build()?;
    runtime.block_on(run(&path, &mut std::io::stdout()))
}
