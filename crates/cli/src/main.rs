//! The `braidlog` command: write, read, watch and check a log directory from outside a program.
//!
//! The rule of this crate: it uses the public API of `braidlog` and nothing else (`braidlog_measure`, which `bench`
//! needs, keeps the same rule), so whatever it shows, a program that links the library can show too. Every subcommand is a file of the same name.
//!
//! Exit codes: 0 fine, 1 damage or a failure was found, 2 bad usage, 130 interrupted (after a clean close).

mod args;
mod backup;
mod bench;
mod cat;
mod checkpoint;
mod clean;
mod compress;
mod config;
mod demo;
mod estimate;
mod failure;
mod fork;
mod holds;
mod in_doubt;
mod log_dir;
mod output;
mod point;
mod record;
mod repair;
mod restore_points;
mod salvage;
mod segments;
mod stat;
mod stop;
mod streams;
mod tail;
mod verify;
mod write;

use std::process::ExitCode;

use clap::Parser;
use clap::error::ErrorKind;

use args::{Args, Command};
use failure::Failure;

fn main() -> ExitCode {
    let args = match Args::try_parse() {
        Ok(args) => args,
        Err(error) => return refuse(&error),
    };
    let done = match args.command {
        Command::Write(args) => write::run(&args),
        Command::Cat(args) => cat::run(&args),
        Command::Tail(args) => tail::run(&args),
        Command::Stat(args) => stat::run(&args),
        Command::Segments(args) => segments::run(&args),
        Command::Verify(args) => verify::run(&args),
        Command::Repair(args) => repair::run(&args),
        Command::Salvage(args) => salvage::run(&args),
        Command::Checkpoint(args) => checkpoint::run(&args),
        Command::Clean(args) => clean::run(&args),
        Command::Compress(args) => compress::run(&args),
        Command::Backup(args) => backup::run(&args),
        Command::Holds(args) => holds::run(&args),
        Command::Fork(args) => fork::run(&args),
        Command::RestorePoints(args) => restore_points::run(&args),
        Command::Streams(args) => streams::run(&args),
        Command::InDoubt(args) => in_doubt::run(&args),
        Command::Estimate(args) => estimate::run(&args),
        Command::Demo(args) => demo::run(&args),
        Command::Bench(args) => bench::run(&args),
    };
    match done {
        Ok(()) | Err(Failure::ClosedPipe) => ExitCode::SUCCESS,
        Err(failure) => {
            if let Some(message) = failure.message() {
                output::note(message);
            }
            ExitCode::from(failure.code())
        }
    }
}

/// Says what is wrong with the command line; help and version, which arrive the same way, are no error.
fn refuse(error: &clap::Error) -> ExitCode {
    if !error.use_stderr() {
        // A reader that went away (`--help | head`) has all it wanted.
        let _ = error.print();
        return ExitCode::SUCCESS;
    }
    let text = error.to_string();
    match error.kind() {
        ErrorKind::DisplayHelpOnMissingArgumentOrSubcommand => eprintln!("{}", text.trim_end()),
        _ => output::note(text.strip_prefix("error: ").unwrap_or(&text).trim_end()),
    }
    ExitCode::from(failure::BAD_USAGE)
}
