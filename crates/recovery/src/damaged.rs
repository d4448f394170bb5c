//! Repair of a damaged log: look at all of it, plan, do it, tell. And telling only.
//!
//! The rule: whoever repairs has said which policy, holds the lock, and gets an account of every LSN.

use std::io;
use std::sync::Arc;

use braidlog_format::{Incarnation, LogId, Lsn};
use braidlog_storage::{Clock, LogDir};

use crate::mend::mend;
use crate::plan::{Action, DamagePolicy, Outcome, Part, Planned, RepairPlan, not_in_its_place, plan};
use crate::quarantine::Quarantine;
use crate::replay::History;
use crate::replay::planned::PlannedParts;
use crate::survey::{RepairProgress, Survey, missing, survey};
use crate::{Loss, Manifest, Problem, Records, RecoveryError, dir};

/// Opens a directory of the quarantine, which is made if need be; its path is given from the directory of the log.
pub type OpenQuarantine<'a> = dyn Fn(&str) -> io::Result<Arc<dyn LogDir>> + 'a;

/// What to do about damage, and with what.
pub struct OnDamage<'a> {
    /// What stays and what is given up.
    pub policy: DamagePolicy,
    /// Where time comes from.
    pub clock: Arc<dyn Clock>,
    /// Where damaged files go.
    pub quarantine: &'a OpenQuarantine<'a>,
}

/// What a repair did or would do.
#[derive(Clone, PartialEq, Eq, Debug)]
#[non_exhaustive]
pub struct RepairReport {
    /// The policy.
    pub policy: DamagePolicy,
    /// Every damaged place.
    pub problems: Vec<Problem>,
    /// Which LSNs are kept and which are given up.
    pub outcome: Outcome,
    /// What is recorded of it.
    pub losses: Vec<Loss>,
    /// What becomes of each segment file, in LSN order.
    pub files: Vec<RepairedFile>,
    /// No LSN up to here is ever given again.
    pub bound: Lsn,
    /// Where damaged files are, from the directory of the log.
    pub quarantined: Vec<String>,
}

/// What becomes of a segment file.
#[derive(Clone, PartialEq, Eq, Debug)]
#[non_exhaustive]
pub struct RepairedFile {
    /// Its name.
    pub name: String,
    /// Bytes of it before; 0 if there was none.
    pub len_bytes: u64,
    /// What becomes of it.
    pub what: WhatBecame,
    /// The file offsets between which it has what is kept, the ends not included.
    pub kept_bytes: Vec<(u64, u64)>,
}

/// What becomes of a file.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
#[non_exhaustive]
pub enum WhatBecame {
    /// It stays as it is.
    Kept,
    /// What is kept of it is written anew; the file itself goes into the quarantine.
    Rewritten,
    /// It was missing, and is made to hold what was lost with it.
    Made,
    /// It goes into the quarantine.
    SetAside,
}

impl RepairReport {
    /// Whether there is nothing to repair.
    pub fn is_clean(&self) -> bool {
        self.problems.is_empty() && self.files.iter().all(|file| file.what == WhatBecame::Kept)
    }

    fn of(survey: &Survey, plan: &RepairPlan) -> RepairReport {
        let damaged = survey.files.iter().flat_map(|file| file.damage.iter().cloned());
        let rewritten = plan.segments.iter().filter(|planned| planned.action == Action::Rewrite);
        let out_of_place = rewritten
            .filter_map(|planned| survey.files.get(planned.file?))
            .filter(|file| file.damage.is_empty())
            .map(not_in_its_place);
        let is_made = |planned: &&Planned| planned.action == Action::Make;
        let made = plan.segments.iter().filter(is_made);
        let missing = made.flat_map(|planned| planned.parts.iter().map(|part| missing(part.lsns())));
        let mut problems: Vec<_> = damaged.chain(out_of_place).chain(missing).map(Problem::from).collect();
        problems.sort_by_key(|problem| (problem.lsns.first, problem.lsns.last));
        let planned = plan.segments.iter().map(|planned| {
            let file = planned.file.and_then(|file| survey.files.get(file));
            let pieces = planned.parts.iter().filter_map(|part| match part {
                Part::Piece(piece) => Some((piece.from.offset, piece.to)),
                Part::Loss(_) => None,
            });
            RepairedFile {
                name: file.map_or_else(|| dir::segment_name(planned.base), |file| file.name.clone()),
                len_bytes: file.map_or(0, |file| file.len),
                what: match planned.action {
                    Action::Keep => WhatBecame::Kept,
                    Action::Rewrite => WhatBecame::Rewritten,
                    Action::Make => WhatBecame::Made,
                },
                kept_bytes: pieces.collect(),
            }
        });
        let set_aside = plan.set_aside.iter().filter_map(|&file| survey.files.get(file));
        let set_aside = set_aside.map(|file| RepairedFile {
            name: file.name.clone(),
            len_bytes: file.len,
            what: WhatBecame::SetAside,
            kept_bytes: Vec::new(),
        });
        RepairReport {
            policy: plan.policy,
            problems,
            outcome: plan.outcome.clone(),
            losses: plan.losses().cloned().collect(),
            files: planned.chain(set_aside).collect(),
            bound: plan.bound,
            quarantined: Vec::new(),
        }
    }
}

/// A damaged log that is read as a policy would keep it, and not changed.
#[derive(Debug)]
pub struct DamagedLog {
    dir: Arc<dyn LogDir>,
    parts: Arc<PlannedParts>,
    report: RepairReport,
    first: Lsn,
}

impl DamagedLog {
    /// Looks at all of the log in `dir`, which nobody writes. `progress` is called about once for each MiB.
    ///
    /// # Errors
    /// As [`repair`].
    pub fn open(
        dir: &Arc<dyn LogDir>,
        policy: DamagePolicy,
        progress: &mut dyn FnMut(&RepairProgress),
    ) -> Result<DamagedLog, RecoveryError> {
        let (_, survey, plan) = look(dir, policy, progress)?;
        Ok(DamagedLog {
            dir: Arc::clone(dir),
            parts: Arc::new(PlannedParts::of(&survey, &plan)),
            report: RepairReport::of(&survey, &plan),
            first: survey.start,
        })
    }

    /// What a repair with the policy would do.
    pub fn report(&self) -> &RepairReport {
        &self.report
    }

    /// The first LSN of the log.
    pub fn first_lsn(&self) -> Lsn {
        self.first
    }

    /// The last LSN that is kept or given up.
    pub fn last_lsn(&self) -> Lsn {
        self.parts.last
    }

    /// The records from `from` to `to` that are kept. What is given up between them is passed, and told by
    /// [`Records::losses`].
    pub fn iter(&self, from: Lsn, to: Lsn) -> Records {
        Records::new(History::planned(&self.dir, &self.parts, from, to))
    }
}

/// Repairs the log in `dir`, if it is damaged. The caller holds the directory's lock. `progress` is called about once for each
/// MiB that was read.
///
/// # Errors
/// [`RecoveryError::Newer`] and [`RecoveryError::Foreign`], whatever the policy: nothing was changed.
/// [`RecoveryError::Damaged`] if the manifest is. [`RecoveryError::Io`]: called again, it comes to the same.
pub fn repair(
    dir: &Arc<dyn LogDir>,
    new_log_id: LogId,
    how: &OnDamage<'_>,
    progress: &mut dyn FnMut(&RepairProgress),
) -> Result<RepairReport, RecoveryError> {
    let (manifest, survey, plan) = look(dir, how.policy, progress)?;
    let mut report = RepairReport::of(&survey, &plan);
    if how.policy != DamagePolicy::Refuse && !plan.is_empty() {
        let incarnation = Incarnation(survey.incarnation.0.saturating_add(1));
        let mut quarantine = Quarantine::new(how.quarantine, incarnation);
        report.quarantined = mend(dir, &how.clock, manifest, &survey, &plan, &mut quarantine, new_log_id)?;
    }
    Ok(report)
}

/// What [`repair`] would do. Nothing is changed.
///
/// # Errors
/// As [`repair`].
pub fn repair_plan(
    dir: &Arc<dyn LogDir>,
    policy: DamagePolicy,
    progress: &mut dyn FnMut(&RepairProgress),
) -> Result<RepairReport, RecoveryError> {
    let (_, survey, plan) = look(dir, policy, progress)?;
    Ok(RepairReport::of(&survey, &plan))
}

fn look(
    dir: &Arc<dyn LogDir>,
    policy: DamagePolicy,
    progress: &mut dyn FnMut(&RepairProgress),
) -> Result<(Manifest, Survey, RepairPlan), RecoveryError> {
    let listing = dir::list(dir)?;
    let manifest = Manifest::load(dir)?;
    let survey = survey(dir, &listing, &manifest, progress)?;
    let plan = plan(&survey, policy);
    Ok((manifest, survey, plan))
}
