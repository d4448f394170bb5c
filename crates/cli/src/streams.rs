//! `braidlog streams`: the streams of a log, and how many records each has come to.

use serde::Serialize;

use crate::args::FactArgs;
use crate::failure::Failure;
use crate::log_dir;
use crate::output::Out;

/// What `streams --json` prints.
#[derive(Serialize)]
struct Streams {
    path: String,
    streams: Vec<Named>,
}

/// One stream.
#[derive(Serialize)]
struct Named {
    /// What its records carry.
    id: u64,
    name: String,
    /// Of its last record; 0 before the first.
    last_sequence: u64,
}

/// Runs the subcommand.
pub fn run(args: &FactArgs) -> Result<(), Failure> {
    let log = log_dir::open(&args.dir)?;
    let named = |stream: braidlog::StreamInfo| Named {
        id: stream.id,
        name: stream.name,
        last_sequence: stream.last_sequence,
    };
    let streams = Streams {
        path: args.dir.display().to_string(),
        streams: log.streams()?.into_iter().map(named).collect(),
    };
    let mut out = Out::stdout();
    if args.json {
        out.json(&streams)?;
        return out.flush();
    }
    for Named { id, name, last_sequence } in &streams.streams {
        out.line(format_args!("{id:>6}  {last_sequence:>20}  {name}"))?;
    }
    if streams.streams.is_empty() {
        out.line("no streams")?;
    }
    out.flush()
}
