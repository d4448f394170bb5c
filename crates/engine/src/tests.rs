//! Models of the engine's protocols, run by loom on the production code; and tests of what they owe to each other.
//!
//! `RUSTFLAGS="--cfg braidlog_loom" cargo test -p braidlog-engine --lib --release loom`. Bounds and their
//! reasons are in `docs/testing.md`, and the deliberate bug that turns each model red.

#[cfg(not(any(braidlog_loom, braidlog_shuttle)))]
mod chores;
#[cfg(not(any(braidlog_loom, braidlog_shuttle)))]
mod demand;
#[cfg(not(any(braidlog_loom, braidlog_shuttle)))]
mod gap;
#[cfg(braidlog_loom)]
mod loom_close;
#[cfg(braidlog_loom)]
mod loom_committers;
#[cfg(braidlog_loom)]
mod loom_failure;
#[cfg(braidlog_loom)]
mod loom_flight;
#[cfg(braidlog_loom)]
mod loom_flusher;
#[cfg(braidlog_loom)]
mod loom_frontier;
#[cfg(braidlog_loom)]
mod loom_jobs;
#[cfg(braidlog_loom)]
mod loom_merge;
#[cfg(braidlog_loom)]
mod loom_role;
#[cfg(braidlog_loom)]
mod loom_room;
#[cfg(braidlog_loom)]
mod loom_rungs;
#[cfg(braidlog_loom)]
mod loom_stripe;
#[cfg(braidlog_loom)]
mod loom_tasks;
#[cfg(braidlog_loom)]
mod loom_waiters;
#[cfg(braidlog_loom)]
mod loom_wakers;
#[cfg(braidlog_loom)]
mod loom_watch;
#[cfg(not(any(braidlog_loom, braidlog_shuttle)))]
mod rotation;
#[cfg(not(braidlog_shuttle))]
mod small_log;
#[cfg(not(any(braidlog_loom, braidlog_shuttle)))]
mod spares;
#[cfg(not(any(braidlog_loom, braidlog_shuttle)))]
mod wakers;

/// Runs a model with at most three preemptions: every known bug of such protocols needs no more, and a model
/// of one module then ends in seconds.
#[cfg(braidlog_loom)]
fn model(check: impl Fn() + Sync + Send + 'static) {
    model_with(3, check);
}

/// Runs a model with at most so many preemptions. Nothing cuts it short: not time, not a number of
/// interleavings. One that explores next to nothing fails, and so does one that does not come to an end.
#[cfg(braidlog_loom)]
fn model_with(preemptions: usize, check: impl Fn() + Sync + Send + 'static) {
    use std::sync::Arc;
    use std::sync::atomic::{AtomicUsize, Ordering::Relaxed};

    // For longer runs: more preemptions than the model asks for.
    let more = std::env::var("BRAIDLOG_LOOM_PREEMPTIONS").ok().map(|bound| bound.parse().expect("a number"));
    let preemptions = more.unwrap_or(0).max(preemptions);
    let runs = Arc::new(AtomicUsize::new(0));
    let mut builder = loom::model::Builder::new();
    builder.preemption_bound = Some(preemptions);
    builder.max_duration = None;
    builder.max_permutations = None;
    // Places to switch in one interleaving. A whole log has many; one that reaches this goes in circles.
    builder.max_branches = 5_000;
    let counter = Arc::clone(&runs);
    builder.check(move || {
        counter.fetch_add(1, Relaxed);
        check();
    });
    let runs = runs.load(Relaxed);
    assert!(runs >= 4, "the model explored only {runs} interleavings: it proves nothing");
    println!("{runs} interleavings");
}
