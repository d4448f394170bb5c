//! The ladder of durability: how far a record has come, and the watermark of each rung.
//!
//! The rule: each rung has one watermark, an LSN up to which every record has come so far. It only rises, and stands on the
//! end of a batch.

use braidlog_format::{Lsn, LsnRange};

use crate::error::EngineError;
use crate::shared::Shared;
use crate::waiters::Awaited;

/// How far a record has come on its way to the device.
///
/// What each promises holds for every record before it too. A later version may know of more, such as a copy on
/// another machine; they have no order among each other that is promised.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
#[non_exhaustive]
pub enum Rung {
    /// It has its LSN and is in the log's memory. Lost if the process ends before more is done.
    Accepted,
    /// The system has it: the call that wrote it has returned. It survives a kill of the process, and not a power cut or a
    /// crash of the system. It is no promise once the log has failed, since a system that could not sync
    /// may drop what it had.
    Written,
    /// The device has it: a sync that covers it has returned. It survives a power cut.
    Durable,
}

impl Shared {
    /// The last LSN that has come to `rung`.
    pub(crate) fn watermark(&self, rung: Rung) -> Lsn {
        match rung {
            Rung::Accepted => self.lsns.last(),
            Rung::Written => self.waiters.written(),
            Rung::Durable => self.waiters.durable(),
        }
    }

    /// Whether the wait is over: `lsns` have come to the rung, or the log has failed before they had. Durability is looked
    /// at before failure, since what is durable was promised; what is only written is not after a failure.
    pub(crate) fn settled(&self, rung: Rung, lsns: LsnRange) -> Option<Result<(), EngineError>> {
        let is_durable = || self.waiters.durable() >= lsns.last;
        if rung == Rung::Accepted || is_durable() {
            return Some(Ok(()));
        }
        match self.failure.get() {
            // The sync that covers these may have completed before the failure.
            Some(_) if is_durable() => Some(Ok(())),
            #[cfg(braidlog_sabotage)]
            Some(_)
                if braidlog_sabotage::is("written_believed_after_a_failure")
                    && rung == Rung::Written
                    && self.waiters.written() >= lsns.last =>
            {
                Some(Ok(()))
            }
            Some(failure) => Some(Err(EngineError::Failed { failure: failure.clone(), lsns: Some(lsns) })),
            None => (rung == Rung::Written && self.waiters.written() >= lsns.last).then_some(Ok(())),
        }
    }

    /// Asks for `lsn` to be brought to the rung at once, by the background thread if need be.
    pub(crate) fn ask_for(&self, rung: Rung, lsn: Lsn) {
        match rung {
            Rung::Accepted => {}
            Rung::Written => self.demand.ask_written(lsn),
            Rung::Durable => {
                self.demand.ask_urgent(lsn);
                self.demand.ask_served(lsn);
            }
        }
    }
}

impl Rung {
    /// Where those wait who wait for it; `None` where nobody has to.
    pub(crate) fn awaited(self) -> Option<Awaited> {
        match self {
            Rung::Accepted => None,
            Rung::Written => Some(Awaited::Written),
            Rung::Durable => Some(Awaited::Durable),
        }
    }
}
