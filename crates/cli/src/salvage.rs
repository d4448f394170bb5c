//! `braidlog salvage`: the records of one segment file, whatever became of its log and of its header.
//!
//! The rule: the file is read and nothing else; each record proves itself. What is lost between them is told on standard
//! error.

use std::fs::File;
use std::io::{BufWriter, Write};

use crate::args::SalvageArgs;
use crate::failure::Failure;
use crate::output::{self, Out};
use crate::record::Printer;

/// Runs the subcommand.
pub fn run(args: &SalvageArgs) -> Result<(), Failure> {
    let printer = Printer::new(&args.print)?;
    let mut target = match &args.out {
        None => Target::Stdout(Out::stdout()),
        Some(path) => {
            let made = File::create_new(path);
            let file =
                made.map_err(|error| Failure::of(format_args!("cannot make {}", path.display()), error))?;
            Target::File(BufWriter::new(file))
        }
    };
    let mut failure = None;
    let salvaged = braidlog::salvage(&args.file, |record| {
        let printed = target.write(|out| printer.write(out, &record));
        printed.map_err(|error| {
            failure = Some(error);
            "standard output is closed".into()
        })
    });
    let flushed = target.flush();
    if let Some(failure) = failure {
        return Err(failure);
    }
    let report = salvaged?;
    flushed?;
    for problem in &report.problems {
        output::note(format_args!("passed over: {problem}"));
    }
    for loss in &report.losses {
        output::note(loss);
    }
    let header = match &report.header {
        Some(header) => format!("segment {} of log {}", header.base, header.log_id),
        None => "the header is lost".to_owned(),
    };
    output::note(format_args!("{} found; {header}", output::plural(report.records, "record")));
    Ok(())
}

/// Where records go.
enum Target {
    Stdout(Out),
    File(BufWriter<File>),
}

impl Target {
    fn write(&mut self, write: impl FnOnce(&mut dyn Write) -> std::io::Result<()>) -> Result<(), Failure> {
        match self {
            Target::Stdout(out) => out.write(write),
            Target::File(file) => write(file).map_err(|error| Failure::of("cannot write the output", error)),
        }
    }

    fn flush(&mut self) -> Result<(), Failure> {
        match self {
            Target::Stdout(out) => out.flush(),
            Target::File(file) => {
                let synced = file.flush().and_then(|()| file.get_ref().sync_all());
                synced.map_err(|error| Failure::of("cannot write the output", error))
            }
        }
    }
}
