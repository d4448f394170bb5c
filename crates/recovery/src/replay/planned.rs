//! Records of a damaged log as a policy would keep them, read from the damaged files themselves.
//!
//! The rule: what is given is what a repair would write, piece by piece, and what a repair would record as lost is passed and
//! told. Nothing is changed.

use std::sync::Arc;

use braidlog_format::{Lsn, SEGMENT_HEADER_LEN};
use braidlog_storage::LogDir;

use super::{History, Open};
use crate::index::Indexes;
use crate::plan::{Part, RepairPlan};
use crate::scan::{Found, Scan, Step};
use crate::survey::{self, Piece, Survey};
use crate::window::{STREAM_LEN, Window};
use crate::{DamageCause, Loss, RecoveryError};

/// What a plan keeps and gives up, in LSN order.
#[derive(Debug, Default)]
pub(crate) struct PlannedParts {
    parts: Vec<PlannedPart>,
    /// The last LSN that is kept or given up.
    pub(crate) last: Lsn,
}

#[derive(Debug)]
enum PlannedPart {
    Piece { file: String, piece: Piece },
    Loss(Loss),
}

impl PlannedPart {
    fn last(&self) -> Lsn {
        match self {
            PlannedPart::Piece { piece, .. } => piece.lsns.last,
            PlannedPart::Loss(loss) => loss.lsns.last,
        }
    }
}

impl PlannedParts {
    pub(crate) fn of(survey: &Survey, plan: &RepairPlan) -> PlannedParts {
        let mut parts = Vec::new();
        for planned in &plan.segments {
            let file = planned.file.and_then(|file| survey.files.get(file));
            for part in &planned.parts {
                parts.push(match (part, file) {
                    (Part::Piece(piece), Some(file)) => {
                        PlannedPart::Piece { file: file.name.clone(), piece: *piece }
                    }
                    // Only a file has a piece.
                    (Part::Piece(_), None) => continue,
                    (Part::Loss(loss), _) => PlannedPart::Loss(loss.clone()),
                });
            }
        }
        let last = parts.last().map_or(survey.start.prev(), PlannedPart::last);
        PlannedParts { parts, last }
    }
}

/// Where a reader of planned parts stands.
#[derive(Debug)]
pub(super) struct AtPart {
    parts: Arc<PlannedParts>,
    /// The part that is read.
    index: usize,
}

impl AtPart {
    /// The records from `from` to `to` of the same parts.
    pub(super) fn again(&self, dir: &Arc<dyn LogDir>, from: Lsn, to: Lsn) -> History {
        History::planned(dir, &self.parts, from, to)
    }
}

impl History {
    /// The records from `from` to `to` as a plan keeps them.
    pub(crate) fn planned(dir: &Arc<dyn LogDir>, parts: &Arc<PlannedParts>, from: Lsn, to: Lsn) -> History {
        let from = from.max(Lsn::FIRST);
        let index = parts.parts.partition_point(|part| part.last() < from);
        let planned = Some(AtPart { parts: Arc::clone(parts), index });
        let indexes = Arc::new(Indexes::default());
        History { planned, ..History::new(dir, &indexes, Arc::new([]), from, to.min(parts.last), None) }
    }

    /// As `look_for_next`, in the parts of a plan.
    pub(super) fn look_in_parts(&mut self) -> Result<Option<Found>, RecoveryError> {
        while self.next <= self.to {
            let Some(AtPart { parts, index }) = &self.planned else { break };
            let Some(part) = parts.parts.get(*index) else { break };
            let (file, piece) = match part {
                PlannedPart::Piece { file, piece } => (file, *piece),
                PlannedPart::Loss(loss) => {
                    self.losses.push(loss.clone());
                    self.next = loss.lsns.last.next();
                    self.next_part();
                    continue;
                }
            };
            let Some(open) = &mut self.open else {
                let (window, _) = Window::open_patient(&self.dir, file, STREAM_LEN)?;
                self.open = Some(Open {
                    scan: Scan::at(window, piece.from),
                    header: survey::rebuilt(piece.from.base, piece.from.salt),
                    successor: None,
                    quick_to: piece.lsns.last.min(self.to),
                    entered_at: piece.from.offset.max(SEGMENT_HEADER_LEN),
                    ask_at: 0,
                    passed_over: None,
                });
                continue;
            };
            if open.scan.at.offset >= piece.to {
                self.passed = self.passed.saturating_add(open.passed());
                self.open = None;
                self.next_part();
                continue;
            }
            let wanted = open.scan.at.next >= self.next;
            match if wanted { open.scan.step()? } else { open.scan.step_over()? } {
                Step::Entry(found) if wanted && found.header.kind.takes_lsn() => {
                    self.next = open.scan.at.next;
                    return Ok(Some(found));
                }
                Step::Entry(found) => {
                    if let Some(loss) = open.scan.loss(&found) {
                        self.pass_loss(loss)?;
                    }
                }
                // It proved itself when the plan was made.
                Step::Stop(_) => {
                    let offset = open.scan.at.offset;
                    return Err(RecoveryError::damaged(file, offset, piece.lsns, DamageCause::EndsEarly));
                }
            }
        }
        Ok(None)
    }

    fn next_part(&mut self) {
        if let Some(at) = &mut self.planned {
            at.index += 1;
        }
    }
}
