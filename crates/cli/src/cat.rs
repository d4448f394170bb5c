//! `braidlog cat`: records in LSN order, or in the reverse of it.
//!
//! It prints what is durable at the moment it looks; a record is never shown that a crash could take back.

use braidlog::{Lsn, ReverseRecords};

use crate::args::{CatArgs, PolicyArg};
use crate::failure::Failure;
use crate::log_dir;
use crate::output::{self, Out, Printed};
use crate::record::Printer;

/// Runs the subcommand.
pub fn run(args: &CatArgs) -> Result<(), Failure> {
    let (from, to) = (Lsn(args.from), args.to.map(Lsn));
    if to.is_some_and(|to| to < from) {
        return Err(Failure::Usage(format!(
            "--to {} lies before --from {from}; give a range that goes upward",
            to.unwrap_or_default()
        )));
    }
    let printer = Printer::new(&args.print)?;
    if let Some(policy) = args.on_damage {
        return print_damaged(args, policy, &printer);
    }
    let log = log_dir::open(&args.dir)?;
    let last = match &args.until {
        Some(point) => log.lsn_at(&point.target(args.exclusive))?,
        None => log.last_lsn()?,
    };
    let to = to.map_or(last, |to| to.min(last));
    let from = match &args.since {
        Some(since) => match log.iter_since(since.0)?.next_ref().transpose()? {
            Some(first) => first.lsn.max(from),
            None => return Ok(()),
        },
        None => from,
    };
    if from > to {
        return Ok(());
    }
    let (mut out, bar) = (Out::stdout(), Printed::of(from..=to));
    let printed = if args.reverse {
        print_reverse(&mut out, log.iter_rev(from..=to)?, &printer, &bar)
    } else {
        printer.print_all(&mut out, &mut log.iter(from..=to)?, &bar)
    };
    bar.finish();
    // What stands before damage is shown before the damage is told.
    out.flush()?;
    printed
}

/// Prints what a policy keeps of a damaged log.
fn print_damaged(args: &CatArgs, policy: PolicyArg, printer: &Printer) -> Result<(), Failure> {
    log_dir::require_log(&args.dir)?;
    // All of it is read before the first record is printed.
    let (bar, told) = output::repair_progress();
    let log = braidlog::read_damaged_with(&args.dir, policy.into(), told);
    bar.finish_and_clear();
    let log = log?;
    let range = Lsn(args.from)..=args.to.map_or(Lsn::MAX, Lsn);
    let shown = (*range.start()).max(log.first_lsn())..=(*range.end()).min(log.last_lsn());
    let (mut out, bar) = (Out::stdout(), Printed::of(shown));
    let mut records = log.iter(range);
    let printed = printer.print_all(&mut out, &mut records, &bar);
    bar.finish();
    out.flush()?;
    for loss in records.losses() {
        output::note(format_args!("passed over: records {}: {}", loss.lsns, loss.account));
    }
    printed
}

fn print_reverse(
    out: &mut Out,
    mut records: ReverseRecords,
    printer: &Printer,
    bar: &Printed,
) -> Result<(), Failure> {
    while let Some(record) = records.next_ref() {
        let record = record?;
        printer.print(out, &record)?;
        bar.reach(record.lsn, true);
    }
    Ok(())
}
