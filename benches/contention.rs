//! Asynchronous appends of 128 bytes from 1 to 64 threads over 1 to 64 stripes, through the public API, the final
//! flush included: what sharing a stripe costs, and what a stripe that nobody needs costs.
//!
//! `cargo bench -p braidlog-benches --bench contention`. One iteration is a whole run over a fresh log, checked when
//! the clock has stopped.
#![allow(missing_docs, reason = "what the macros make is called by criterion only")]

mod repeat;

use braidlog::{DurabilityMode, Wal};

use braidlog_benches::workload::Load;
use criterion::{BenchmarkId, Criterion, Throughput, criterion_group, criterion_main};

fn contention(criterion: &mut Criterion) {
    for stripes in [1, 4, 16, 64] {
        let options = Wal::options().mode(DurabilityMode::asynchronous()).num_stripes(stripes);
        let mut group = repeat::group(criterion, &format!("contention/{stripes} stripes"), 1.0);
        for threads in [1, 4, 16, 64] {
            let load = Load::spread(threads, 400_000);
            group.throughput(Throughput::Elements(load.total()));
            group.bench_function(BenchmarkId::from_parameter(threads), |bencher| {
                repeat::runs(bencher, |dir| Ok(load.run(dir, &options)?.elapsed));
            });
        }
        group.finish();
    }
}

criterion_group!(benches, contention);
criterion_main!(benches);
