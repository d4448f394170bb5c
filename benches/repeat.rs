//! How criterion repeats a whole run over a fresh log: few times, since each writes and syncs a real disk and is
//! checked when its clock has stopped.

use std::path::Path;
use std::time::Duration;

use braidlog_benches::scratch;
use braidlog_benches::workload::Result;
use criterion::measurement::WallTime;
use criterion::{AxisScale, Bencher, BenchmarkGroup, Criterion, PlotConfiguration, SamplingMode};

/// A group of whole runs: ten samples of about a tenth of `seconds` each, but at least a run.
pub fn group<'a>(criterion: &'a mut Criterion, name: &str, seconds: f64) -> BenchmarkGroup<'a, WallTime> {
    let mut group = criterion.benchmark_group(name);
    group
        .sample_size(10)
        .sampling_mode(SamplingMode::Flat)
        .warm_up_time(Duration::from_millis(1))
        .measurement_time(Duration::from_secs_f64(seconds))
        .plot_config(PlotConfiguration::default().summary_scale(AxisScale::Logarithmic));
    group
}

/// Measures a run that is given an empty directory, and tells how long the part took that counts.
///
/// # Panics
/// If the run fails or says that its result is wrong.
pub fn runs(bencher: &mut Bencher<'_>, run: impl Fn(&Path) -> Result<Duration>) {
    bencher.iter_custom(|iterations| {
        let one = |_| {
            let dir = scratch::directory(None).expect("a directory");
            run(dir.path()).expect("the result is right")
        };
        (0..iterations).map(one).sum()
    });
}
