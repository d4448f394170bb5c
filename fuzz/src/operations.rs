//! Any bytes as a run of the log: operations, options, faults and crashes, each chosen by a byte, against the model.
//!
//! The driver, its model and its judge are those of `crates/proof/src/single.rs`; here a byte string stands in the
//! place of its seed, so that a fuzzer can change one choice and keep the others.

use braidlog_proof::counts::Counts;
use braidlog_proof::single;

/// Images that one input may have judged, at most: an input is to be over in milliseconds.
const IMAGES_MAX: u64 = 16;
/// Bytes of an input that are used.
pub const CHOICES_MAX: usize = 1024;

/// Runs what these bytes choose; what was counted.
///
/// # Panics
/// If a promise is broken.
pub fn check(bytes: &[u8]) -> Counts {
    let bytes = &bytes[..bytes.len().min(CHOICES_MAX)];
    single::round_from(bytes, IMAGES_MAX)
}
