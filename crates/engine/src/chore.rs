//! Chores: what the log's owner has done on the maintenance thread, beside the files ahead of need.
//!
//! The rule: nobody waits for a chore. It holds none of the engine's locks, and while it runs, whoever needs a file makes
//! it himself.

use std::fmt::Debug;
use std::time::Duration;

use braidlog_format::Lsn;

/// Work for the maintenance thread of a log, such as to save a state or to remove old segments. It is given to
/// [`Engine::start`](crate::Engine::start).
///
/// It runs when it was [asked for](crate::Engine::ask_chore), after a segment was followed by the next, and when the
/// time that it named has come; never twice at once. Files and zeros that are asked for come first, as soon as it
/// returns: one with much to do returns `Some(Duration::ZERO)` between its steps.
///
/// It runs in a log that has failed as well; whether there is anything to do then is its own business.
pub trait Chore: Send + Sync + Debug {
    /// Does what is due. Says after which time to call again at the latest; `None` for not before it is asked for.
    ///
    /// A panic is caught, counted ([`Metrics::chore_panics`](crate::Metrics::chore_panics)) and fails nothing: the
    /// chore is called again after a minute at the latest.
    fn run(&self) -> Option<Duration>;

    /// The log closes and waits for the thread: a run under way shall end at its next step. None begins any more, but
    /// this may be called a moment before the last one begins.
    fn stop(&self);

    /// The log has closed well: it ends with a seal, and every record up to `last`, its last one, is durable. The
    /// directory is released when this returns. Called at most once, after the last run, by the thread that closes;
    /// never if the log has failed.
    fn closed(&self, last: Lsn) {
        let _ = last;
    }
}
