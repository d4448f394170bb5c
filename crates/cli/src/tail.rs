//! `braidlog tail`: the last records of a log, and with `-f` those that another process appends.
//!
//! What to print next is an LSN, not a file position: a rotation, a crash of the writer and its successor's new segment
//! make no difference.

use braidlog::{Lsn, Subscription};

use crate::args::TailArgs;
use crate::failure::Failure;
use crate::log_dir;
use crate::output::{Out, Printed};
use crate::record::Printer;

/// Runs the subcommand.
pub fn run(args: &TailArgs) -> Result<(), Failure> {
    let printer = Printer::new(&args.print)?;
    let log = log_dir::open(&args.dir)?;
    let last = log.last_lsn()?;
    let next = Lsn(last.0.saturating_sub(args.count)).next().max(log.first_lsn()?);
    let mut out = Out::stdout();
    let printed = if args.follow {
        follow(&mut out, log.subscribe(next)?, &printer)
    } else {
        let bar = Printed::of(next..=last);
        let printed = printer.print_all(&mut out, &mut log.iter(next..=last)?, &bar);
        bar.finish();
        printed
    };
    // What stands before damage is shown before the damage is told.
    out.flush()?;
    printed
}

fn follow(out: &mut Out, mut records: Subscription, printer: &Printer) -> Result<(), Failure> {
    loop {
        if records.lag() == 0 {
            // Before it waits.
            out.flush()?;
        }
        let Some(record) = records.next_ref() else { return Ok(()) };
        printer.print(out, &record?)?;
    }
}
