//! Appends of 128 bytes from 1 to 64 threads in each mode, through the public API, the final flush included.
//!
//! `cargo bench -p braidlog-benches`. One iteration is a whole run over a fresh log, whose result is checked when
//! the clock has stopped, so time and disk have a bound: some minutes, and at most 400 MiB at once.
#![allow(missing_docs, reason = "what the macros make is called by criterion only")]

use std::hint::black_box;
use std::time::Duration;

use braidlog::{DurabilityMode, Wal};
use braidlog_benches::scratch;
use braidlog_benches::workload::Load;
use criterion::{BenchmarkId, Criterion, SamplingMode, Throughput, criterion_group, criterion_main};

/// A mode, its name, and about how many records a run with so many threads appends: some tenths of a second on
/// a disk that syncs in 200 us.
type Mode = (&'static str, DurabilityMode, fn(u32) -> u32);

fn append(criterion: &mut Criterion) {
    let modes: [Mode; 3] = [
        ("Async", DurabilityMode::asynchronous(), |_| 1_000_000),
        ("GroupCommit", DurabilityMode::group_commit(), |threads| 1000 * threads),
        ("Synchronous", DurabilityMode::Synchronous, |threads| 1000 * threads),
    ];
    for (name, mode, records) in modes {
        let mut group = criterion.benchmark_group(format!("append/{name}"));
        group
            .sample_size(10)
            .sampling_mode(SamplingMode::Flat)
            .warm_up_time(Duration::from_millis(1))
            .measurement_time(Duration::from_secs(4));
        for threads in [1, 4, 16, 64] {
            let options = Wal::options().mode(mode);
            let load = Load::spread(threads, records(threads));
            group.throughput(Throughput::Elements(load.total()));
            group.bench_function(BenchmarkId::from_parameter(threads), |bencher| {
                bencher.iter_custom(|iterations| {
                    let run = || {
                        let dir = scratch::directory(None).expect("a directory");
                        load.run(black_box(dir.path()), &options).expect("the result is right").elapsed
                    };
                    (0..iterations).map(|_| run()).sum()
                });
            });
        }
        group.finish();
    }
}

criterion_group!(benches, append);
criterion_main!(benches);
