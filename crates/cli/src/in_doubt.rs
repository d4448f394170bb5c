//! `braidlog in-doubt`: transactions that were prepared and are not decided, and deciding them by hand.
//!
//! The rule: nothing is decided that was not named. Who decides by hand what a coordinator decides too may contradict it.

use serde::Serialize;

use crate::args::{InDoubtArgs, InDoubtCommand};
use crate::failure::Failure;
use crate::log_dir;
use crate::output::{self, Out};

/// What `in-doubt --json` prints.
#[derive(Serialize)]
struct Transactions {
    path: String,
    in_doubt: Vec<Prepared>,
}

/// One transaction.
#[derive(Serialize)]
struct Prepared {
    /// What its coordinator calls it; what is no UTF-8 is replaced.
    global_id: String,
    transaction: String,
    /// The LSN with which it begins: the log is kept from there on.
    begin: u64,
    prepared_at: u64,
}

/// Runs the subcommand.
pub fn run(args: &InDoubtArgs) -> Result<(), Failure> {
    if let Some(command) = &args.command {
        log_dir::require_log(&args.dir)?;
        let wal = log_dir::open_for_change(&args.dir, &args.config)?;
        match command {
            InDoubtCommand::Commit { global_id } => {
                let lsn = wal.commit_prepared(global_id)?;
                output::note(format_args!("committed at LSN {lsn}"));
            }
            InDoubtCommand::Rollback { global_id } => {
                wal.rollback_prepared(global_id)?;
                output::note("rolled back");
            }
        }
        wal.close()?;
    }
    let found = log_dir::open(&args.dir)?.in_doubt()?;
    let prepared = |found: braidlog::InDoubt| Prepared {
        global_id: String::from_utf8_lossy(&found.global_id).into_owned(),
        transaction: found.transaction.to_string(),
        begin: found.begin.0,
        prepared_at: found.prepared_at.0,
    };
    let transactions = Transactions {
        path: args.dir.display().to_string(),
        in_doubt: found.into_iter().map(prepared).collect(),
    };
    let mut out = Out::stdout();
    if args.json {
        out.json(&transactions)?;
        return out.flush();
    }
    for Prepared { global_id, transaction, begin, prepared_at } in &transactions.in_doubt {
        out.line(format_args!("{global_id}  transaction {transaction}, LSN {begin} to {prepared_at}"))?;
    }
    if transactions.in_doubt.is_empty() {
        out.line("nothing is in doubt")?;
    }
    out.flush()
}
