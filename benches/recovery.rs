//! Replay of 128-byte records from a warm page cache, through the public API: one thread, and all.
//!
//! `cargo bench -p braidlog-benches --bench recovery`. The log is written once; count and LSNs of each replay are
//! checked when the clock has stopped.
#![allow(missing_docs, reason = "what the macros make is called by criterion only")]

use std::time::{Duration, Instant};

use braidlog::{DurabilityMode, Wal};
use braidlog_benches::replay::{self, Seen};
use braidlog_benches::scratch;
use braidlog_benches::workload::{Load, Result};
use criterion::{Criterion, SamplingMode, Throughput, criterion_group, criterion_main};

type Way = fn(&Wal) -> Result<Seen>;

fn recovery(criterion: &mut Criterion) {
    let dir = scratch::directory(None).expect("a directory");
    let options = Wal::options().mode(DurabilityMode::asynchronous());
    let load = Load::spread(4, 1_000_000);
    load.run(dir.path(), &options).expect("the log is written");
    let wal = options.open(dir.path()).expect("the log opens");

    let mut group = criterion.benchmark_group("replay/128 B warm");
    group
        .sample_size(20)
        .sampling_mode(SamplingMode::Flat)
        .warm_up_time(Duration::from_millis(500))
        .measurement_time(Duration::from_secs(4))
        .throughput(Throughput::Elements(load.total()));
    let ways: [(&str, Way); 3] = [
        ("plain loop", |wal| replay::read_plainly(wal.path())),
        ("one thread", |wal| replay::count(wal.iter(..)?)),
        ("all threads", |wal| replay::count(wal.replay()?)),
    ];
    for (name, way) in ways {
        group.bench_function(name, |bencher| {
            bencher.iter_custom(|iterations| {
                let mut took = Duration::ZERO;
                for _ in 0..iterations {
                    let start = Instant::now();
                    let seen = way(&wal).expect("the log is read");
                    took += start.elapsed();
                    assert_eq!(seen, Seen::all_of(load.total()));
                }
                took
            });
        });
    }
    group.finish();
    wal.close().expect("the log closes");
}

criterion_group!(benches, recovery);
criterion_main!(benches);
