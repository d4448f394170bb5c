//! Models of the engine's protocols, run by loom on the production code.
//!
//! `RUSTFLAGS="--cfg braidlog_loom" cargo test -p braidlog-engine --lib --release loom`. Bounds and their
//! reasons are in `docs/testing.md`.

#[cfg(braidlog_loom)]
mod loom_merge;
#[cfg(braidlog_loom)]
mod loom_stripe;
#[cfg(braidlog_loom)]
mod loom_waiters;

/// Runs a model with at most three preemptions: every known bug of such protocols needs no more, and the
/// largest model ends within a minute. Nothing cuts it short; a model that explores next to nothing fails.
#[cfg(braidlog_loom)]
fn model(check: impl Fn() + Sync + Send + 'static) {
    use std::sync::Arc;
    use std::sync::atomic::{AtomicUsize, Ordering::Relaxed};

    let runs = Arc::new(AtomicUsize::new(0));
    let mut builder = loom::model::Builder::new();
    builder.preemption_bound = Some(3);
    builder.max_duration = None;
    builder.max_permutations = None;
    let counter = Arc::clone(&runs);
    builder.check(move || {
        counter.fetch_add(1, Relaxed);
        check();
    });
    let runs = runs.load(Relaxed);
    assert!(runs >= 4, "the model explored only {runs} interleavings: it proves nothing");
    println!("{runs} interleavings");
}
