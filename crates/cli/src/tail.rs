//! `braidlog tail`: the last records of a log, and with `-f` those that another process appends.
//!
//! The watch begins before the log is looked at, so that nothing that becomes durable in between is slept
//! through. What to print next is an LSN, not a file position: a rotation, a crash of the writer and its
//! successor's new segment make no difference.

use std::time::Duration;

use braidlog::Lsn;

use crate::args::TailArgs;
use crate::failure::Failure;
use crate::log_dir;
use crate::output::Out;
use crate::record;

/// How long to sleep at most. Everything a writer does wakes the watch; this is for a file system that
/// forgets to tell.
const LOOK_AGAIN: Duration = Duration::from_secs(30);

/// Runs the subcommand.
pub fn run(args: &TailArgs) -> Result<(), Failure> {
    let log = log_dir::open(&args.dir)?;
    let mut watch = if args.follow { Some(log.watch()?) } else { None };
    let mut out = Out::stdout();
    let mut last = log.last_lsn()?;
    let mut next = Lsn(last.0.saturating_sub(args.count)).next();
    loop {
        if next <= last {
            let printed = record::print_all(&mut out, &mut log.iter(next..=last)?, &args.print);
            out.flush()?;
            next = printed?.map_or(next, Lsn::next);
        }
        let Some(watch) = &mut watch else { return Ok(()) };
        watch.wait(LOOK_AGAIN)?;
        last = log.last_lsn()?;
    }
}
