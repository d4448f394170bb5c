//! Deliberate bugs: a suite that catches them all is a suite that looks. Which bug a process has, the environment
//! variable `BRAIDLOG_SABOTAGE` says.
//!
//! The rule: no normal build knows this crate. The product's crates depend on it under
//! `--cfg braidlog_sabotage` only, and each place that asks stands behind the same cfg.

use std::sync::OnceLock;

/// The variable that names the bug.
pub const VARIABLE: &str = "BRAIDLOG_SABOTAGE";

/// Whether this process has the bug of this name.
pub fn is(name: &str) -> bool {
    static CHOSEN: OnceLock<Option<String>> = OnceLock::new();
    CHOSEN.get_or_init(|| std::env::var(VARIABLE).ok()).as_deref() == Some(name)
}
