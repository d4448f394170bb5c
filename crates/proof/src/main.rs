//! The command that runs the proof, whole or by part, and prints what was counted.

use std::path::PathBuf;
use std::process::ExitCode;

use braidlog_proof::full::{self, Ledger};
use braidlog_proof::part::PARTS;
use clap::{Parser, Subcommand};

/// Tries to break Braidlog's promises, and counts how often it could not.
#[derive(Parser)]
#[command(name = "braidlog-proof", version)]
struct Cli {
    #[command(subcommand)]
    part: Command,
}

#[derive(Subcommand)]
enum Command {
    /// Run every part that the ledger does not have for this commit, and print the table
    All {
        /// Only these parts
        parts: Vec<String>,
        /// Run what the ledger has already, too
        #[arg(long)]
        again: bool,
        /// Where the ledger and the output of the parts go [default: `proof` in the target directory]
        #[arg(long)]
        ledger: Option<PathBuf>,
    },
    /// Print the table of what the ledger has
    Report {
        /// Where the ledger is [default: `proof` in the target directory]
        #[arg(long)]
        ledger: Option<PathBuf>,
    },
    /// List the parts
    List,
}

fn main() -> ExitCode {
    match Cli::parse().part {
        Command::All { parts, again, ledger } => {
            if let Some(unknown) = parts.iter().find(|name| braidlog_proof::part::find(name).is_none()) {
                eprintln!("there is no part `{unknown}`: see `list`");
                return ExitCode::from(2);
            }
            match Ledger::open(ledger).and_then(|ledger| full::run(&ledger, &parts, again)) {
                Ok(true) => ExitCode::SUCCESS,
                Ok(false) => ExitCode::FAILURE,
                Err(error) => failed(&error),
            }
        }
        Command::Report { ledger } => match Ledger::open(ledger) {
            Ok(ledger) => {
                print!("{}", ledger.table());
                ExitCode::SUCCESS
            }
            Err(error) => failed(&error),
        },
        Command::List => {
            PARTS.iter().for_each(|part| println!("{:<24} {}", part.name, part.what));
            ExitCode::SUCCESS
        }
    }
}

fn failed(error: &std::io::Error) -> ExitCode {
    eprintln!("the ledger: {error}");
    ExitCode::FAILURE
}
