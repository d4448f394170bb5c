//! The checkpoint files that the manifest names, as a verification sees them.
//!
//! The rule: each is read to its end, by itself. Beside a writer nothing counts against one that the manifest has
//! forgotten meanwhile.

use std::io::ErrorKind;
use std::sync::Arc;

use braidlog_format::ManifestCheckpoint;
use braidlog_storage::LogDir;

use super::reader::{Cut, NO_LSNS, Part};
use crate::verify::{Problem, VerifyReport, Warning};
use crate::{DamageCause, Manifest, RecoveryError};

/// Checks every checkpoint; counts and tells in the report.
///
/// # Errors
/// As [`verify`](crate::verify()).
pub(crate) fn check_checkpoints(
    dir: &Arc<dyn LogDir>,
    manifest: &Manifest,
    report: &mut VerifyReport,
) -> Result<(), RecoveryError> {
    for named in &manifest.checkpoints {
        let (name, what) = match check(dir, manifest, named) {
            Ok(()) => {
                report.checkpoints += 1;
                continue;
            }
            Err(_) if report.live && Manifest::load(dir)?.checkpoint(named.number).is_none() => continue,
            Err(RecoveryError::Compressed { file, algorithm }) => {
                report.warnings.push(Warning::PackedCheckpoint { name: file, algorithm });
                continue;
            }
            Err(RecoveryError::Damaged(damage)) => {
                report.problems.push(damage.into());
                continue;
            }
            Err(RecoveryError::Io { file, source, .. }) if source.kind() == ErrorKind::NotFound => {
                (file, DamageCause::FileMissing)
            }
            Err(RecoveryError::Foreign { file, .. }) => (file, DamageCause::NotTheNamed),
            Err(error) => return Err(error),
        };
        report.problems.push(Problem { segment: name, offset: 0, lsns: NO_LSNS, what });
    }
    Ok(())
}

fn check(
    dir: &Arc<dyn LogDir>,
    manifest: &Manifest,
    named: &ManifestCheckpoint,
) -> Result<(), RecoveryError> {
    // There is no name without a manifest that was written.
    let Some(log_id) = manifest.log_id() else { return Ok(()) };
    match Part::open(dir, log_id, named)?.check(&mut |_| Ok(())) {
        Ok(()) | Err(Cut::Time) => Ok(()),
        Err(Cut::Recovery(error)) => Err(error),
    }
}
