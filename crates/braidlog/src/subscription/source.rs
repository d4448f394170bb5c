//! Who tells a subscription how far the log is durable: the engine of this process, or the files of another's.

use std::path::Path;
use std::sync::Arc;
use std::task::{Context, Poll};

use braidlog_engine::{EngineError, Wait, WatchKey};
use braidlog_format::Lsn;

use super::beside::Beside;
use crate::log::Log;
use crate::{Error, Result};

/// How far the log is.
pub(super) enum Reached {
    /// Not beyond what was asked.
    NoFurther,
    /// Everything up to this LSN, which is beyond, is durable.
    Durable(Lsn),
    /// As far as it will come: it is closed.
    End,
    /// Nobody knows: this thread may not wait for it, and another may.
    Refused(Error),
}

pub(super) enum Source {
    /// The log is open in this process. Not a handle: it does not keep the log open.
    Writer {
        log: Arc<Log>,
        /// Where the engine keeps the waker of the task that polled last.
        watch: Option<WatchKey>,
    },
    /// Another process may have it open.
    Beside(Beside),
}

impl Source {
    pub(super) fn path(&self) -> &Arc<Path> {
        match self {
            Source::Writer { log, .. } => &log.path,
            Source::Beside(beside) => beside.path(),
        }
    }

    /// The last record that is durable; of another process's log, when somebody last looked.
    pub(super) fn last(&self) -> Lsn {
        match self {
            Source::Writer { log, .. } => log.engine.durable_lsn(),
            Source::Beside(beside) => beside.last(),
        }
    }

    /// Whether the log is durable beyond `seen`, now or before the wait is over.
    pub(super) fn wait_beyond(&mut self, seen: Lsn, wait: Wait) -> Result<Reached> {
        match self {
            Source::Writer { log, .. } => {
                let mut beyond = log.engine.beyond(seen);
                if let Ok(None) = beyond
                    && wait != Wait::Never
                {
                    if let Err(refused) = log.check_may_wait() {
                        return Ok(Reached::Refused(refused));
                    }
                    beyond = log.engine.wait_beyond(seen, wait).map(Some);
                }
                reached(log, beyond)
            }
            Source::Beside(beside) => beside.wait_beyond(seen, wait),
        }
    }

    /// As [`wait_beyond`](Source::wait_beyond), for a task.
    pub(super) fn poll_beyond(&mut self, seen: Lsn, cx: &mut Context<'_>) -> Poll<Result<Reached>> {
        match self {
            Source::Writer { log, watch } => {
                let beyond = log.engine.poll_beyond(seen, watch, cx.waker());
                beyond.map(|beyond| reached(log, beyond.map(Some)))
            }
            Source::Beside(beside) => beside.poll_beyond(seen, cx),
        }
    }
}

impl Drop for Source {
    fn drop(&mut self) {
        if let Source::Writer { log, watch } = self {
            log.engine.end_watch(watch);
        }
    }
}

fn reached(log: &Log, beyond: Result<Option<Lsn>, EngineError>) -> Result<Reached> {
    #[cfg(braidlog_sabotage)]
    let beyond = match beyond {
        Ok(Some(_)) if braidlog_sabotage::is("subscription_gives_what_is_written") => {
            Ok(Some(log.engine.metrics().written_lsn))
        }
        beyond => beyond,
    };
    match beyond {
        Ok(Some(durable)) => Ok(Reached::Durable(durable)),
        Ok(None) | Err(EngineError::TimedOut { .. }) => Ok(Reached::NoFurther),
        Err(EngineError::Closed) => Ok(Reached::End),
        Err(error) => Err(log.error(error)),
    }
}
