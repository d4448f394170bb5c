//! Durable commits of 128 bytes, through the public API: how long one takes, and how many there are when threads
//! block for each or have many on their way.
//!
//! `cargo bench -p braidlog-benches --bench commit`. What was committed is read back and checked when the clock has
//! stopped.
#![allow(missing_docs, reason = "what the macros make is called by criterion only")]

mod repeat;

use std::time::{Duration, Instant};

use braidlog::storage::FileIo;
use braidlog::{DurabilityMode, Wal};
use braidlog_benches::pipelined::{self, Shape};
use braidlog_benches::raw::RawFile;
use braidlog_benches::scratch;
use braidlog_benches::workload::{Load, RECORD_BYTES};
use criterion::{BenchmarkId, Criterion, Throughput, criterion_group, criterion_main};

/// One thread: each iteration is one commit, or one turn of the raw loop.
fn latency(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("commit/latency");
    group.sample_size(20).warm_up_time(Duration::from_millis(200)).measurement_time(Duration::from_secs(2));
    for (name, mode) in
        [("Synchronous", DurabilityMode::Synchronous), ("GroupCommit", DurabilityMode::group_commit())]
    {
        let dir = scratch::directory(None).expect("a directory");
        let options = Wal::options().mode(mode);
        let wal = options.open(dir.path()).expect("the log opens");
        let mut load = Load { threads: 1, records: 0, record_bytes: RECORD_BYTES };
        let mut payload = load.payload(0);
        group.bench_function(name, |bencher| {
            bencher.iter_custom(|iterations| {
                let start = Instant::now();
                for _ in 0..iterations {
                    Load::number(&mut payload, load.records);
                    wal.append(&payload).expect("it is durable");
                    load.records += 1;
                }
                let took = start.elapsed();
                assert_eq!(wal.durable_lsn().get(), load.total());
                took
            });
        });
        wal.close().expect("the log closes");
        load.check(&options, dir.path()).expect("the result is right");
    }
    for (name, io) in [("raw, buffered", FileIo::Buffered), ("raw, direct", FileIo::Direct)] {
        let dir = scratch::directory(None).expect("a directory");
        // A file system without direct I/O has no such row.
        let Ok(mut file) = RawFile::prepare(&dir.path().join("raw"), io, 4096) else { continue };
        group.bench_function(name, |bencher| {
            bencher.iter_custom(|turns| file.turns(turns).expect("the disk writes").whole.iter().sum());
        });
    }
    group.finish();
}

/// Threads that wait for each of their records.
fn blocking(criterion: &mut Criterion) {
    let options = Wal::options().mode(DurabilityMode::group_commit());
    let mut group = repeat::group(criterion, "commit/blocking", 3.0);
    for threads in [1, 4, 16, 64] {
        let load = Load::spread(threads, 1000 * threads);
        group.throughput(Throughput::Elements(load.total()));
        group.bench_function(BenchmarkId::from_parameter(threads), |bencher| {
            repeat::runs(bencher, |dir| Ok(load.run(dir, &options)?.elapsed));
        });
    }
    group.finish();
}

/// Threads that submit, and wait seldom.
fn pipelined(criterion: &mut Criterion) {
    for (name, shape, records) in [
        ("commit/batches of 100", Shape::Batches(100), 100_000),
        ("commit/10,000 in flight", Shape::InFlight(10_000), 400_000),
    ] {
        let mut group = repeat::group(criterion, name, 3.0);
        for threads in [1, 4] {
            let load = Load::spread(threads, records);
            group.throughput(Throughput::Elements(load.total()));
            group.bench_function(BenchmarkId::from_parameter(threads), |bencher| {
                repeat::runs(bencher, |dir| Ok(pipelined::run(&load, shape, dir)?.elapsed));
            });
        }
        group.finish();
    }
}

criterion_group!(benches, latency, blocking, pipelined);
criterion_main!(benches);
