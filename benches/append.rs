//! Appends of 16 bytes to 64 KiB from 1 to 64 threads in each mode, through the public API, the final flush
//! included.
//!
//! `cargo bench -p braidlog-benches --bench append`. One iteration is a whole run over a fresh log, whose result is
//! checked when the clock has stopped, so time and disk have a bound: some minutes, and at most 100 MiB at once.
#![allow(missing_docs, reason = "what the macros make is called by criterion only")]

mod repeat;

use braidlog::{DurabilityMode, Wal};

use braidlog_benches::workload::Load;
use criterion::{BenchmarkId, Criterion, Throughput, criterion_group, criterion_main};

const KIB: usize = 1024;
/// Record sizes, and their names.
const SIZES: [(usize, &str); 4] = [(16, "16 B"), (128, "128 B"), (KIB, "1 KiB"), (64 * KIB, "64 KiB")];
/// The most bytes of payload in a run.
const BYTES_MAX: usize = 64 << 20;

/// Records of a run of `threads` threads in all: some hundredths of a second on a disk that syncs in 200 us.
type Records = fn(u32) -> u32;

fn append(criterion: &mut Criterion) {
    let modes: [(&str, DurabilityMode, Records); 3] = [
        ("Async", DurabilityMode::asynchronous(), |_| 400_000),
        ("GroupCommit", DurabilityMode::group_commit(), |threads| 200 * threads),
        ("Synchronous", DurabilityMode::Synchronous, |threads| 200 * threads),
    ];
    for (mode_name, mode, records) in modes {
        let options = Wal::options().mode(mode);
        for (record_bytes, size_name) in SIZES {
            let mut group = repeat::group(criterion, &format!("append/{mode_name}/{size_name}"), 1.0);
            for threads in [1, 4, 16, 64] {
                let most = records(threads).min((BYTES_MAX / record_bytes) as u32);
                let load = Load { record_bytes, ..Load::spread(threads, most) };
                // Bytes tell more of large records, and records of small ones.
                group.throughput(if record_bytes < KIB {
                    Throughput::Elements(load.total())
                } else {
                    Throughput::Bytes(load.total() * record_bytes as u64)
                });
                group.bench_function(BenchmarkId::from_parameter(threads), |bencher| {
                    repeat::runs(bencher, |dir| Ok(load.run(dir, &options)?.elapsed));
                });
            }
            group.finish();
        }
    }
}

criterion_group!(benches, append);
criterion_main!(benches);
