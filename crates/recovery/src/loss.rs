//! A recorded loss: LSNs that were given up because their records could not be had any more.
//!
//! The rule: what is lost is said for ever. The log's own entry takes the place of the lost records, each reader passes
//! it and tells, and no later record gets one of these LSNs.

use std::fmt;

use braidlog_format::{Incarnation, LossEntry, LsnRange};

/// LSNs that were given up: no record has them, and none ever will.
#[derive(Clone, PartialEq, Eq, Hash, Debug)]
pub struct Loss {
    /// Which ones.
    pub lsns: LsnRange,
    /// The opening of the log that gave them up.
    pub incarnation: Incarnation,
    /// Why.
    pub cause: LossCause,
    /// For people: what was found where.
    pub account: String,
}

/// Why LSNs were given up.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
#[repr(u8)]
pub enum LossCause {
    /// Bytes were not what they had been, or could not be read.
    Damage = 1,
    /// A file was missing.
    FileMissing = 2,
}

impl Loss {
    /// As the log and the manifest keep it.
    pub(crate) fn entry(&self) -> LossEntry<'_> {
        let Loss { lsns, incarnation, cause, account } = self;
        LossEntry { lsns: *lsns, incarnation: *incarnation, cause: *cause as u8, account }
    }
}

impl From<LossEntry<'_>> for Loss {
    fn from(entry: LossEntry<'_>) -> Loss {
        let LossEntry { lsns, incarnation, cause, account } = entry;
        let cause =
            if cause == LossCause::FileMissing as u8 { LossCause::FileMissing } else { LossCause::Damage };
        Loss { lsns, incarnation, cause, account: account.to_owned() }
    }
}

impl fmt::Display for Loss {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Loss { lsns, incarnation, account, .. } = self;
        write!(f, "records {lsns} were given up by opening {incarnation}: {account}")
    }
}
