//! `braidlog write`: each line of a file or of standard input becomes one record.
//!
//! ```text
//! reader thread --chunks--> writer threads --what was accepted--> acknowledger --> line-number<TAB>LSN
//! ```
//!
//! Every hand-over is bounded, so memory is too. Unless the threads are asked to be `--blocking`, a writer does
//! not wait for its own sync: the acknowledger waits for the oldest record that is on its way, and one fsync
//! covers all that were accepted meanwhile. Otherwise one thread would pay one fsync per line.
//!
//! An end by signal, by a failed append or by the end of the lines is one path: writers stop taking lines,
//! what was accepted becomes durable, the log is closed, the summary says how far it got.

mod acknowledger;
mod lines;
mod summary;
mod writer;

use std::fs::File;
use std::io::{self, Read};
use std::path::Path;
use std::sync::Mutex;
use std::sync::atomic::{AtomicU64, Ordering};
use std::thread;
use std::time::Instant;

use braidlog::{Durability, RecoveryReport, Retention, TailState, Wal};
use braidlog_measure::latency::Latencies;
use crossbeam::channel::{self, Receiver};
use indicatif::ProgressBar;

use crate::args::WriteArgs;
use crate::config;
use crate::failure::Failure;
use crate::output;
use crate::stop::Stop;
use acknowledger::Acknowledger;
use lines::{Chunk, Lines};
use summary::Summary;

/// How many chunks of lines may wait between the reader and the writers.
const CHUNKS_WAITING_MAX: usize = 64;
/// How many lines a chunk holds at most unless they make a batch.
const CHUNK_LINES_MAX: usize = 64;

/// What the threads of one run share.
struct Run<'a> {
    args: &'a WriteArgs,
    /// What the mode promises.
    durability: Durability,
    kind: u8,
    wal: &'a Wal,
    stop: &'a Stop,
    bar: ProgressBar,
    records: AtomicU64,
    bytes: AtomicU64,
    latencies: Mutex<Latencies>,
}

/// Runs the subcommand.
pub fn run(args: &WriteArgs) -> Result<(), Failure> {
    let (source, bytes_total) = open_source(&args.file)?;
    let (wal, durability) = open_log(args)?;
    let kind = args.kind.find(wal.kinds())?.0;
    if let Some(remark) = recovery_remark(wal.recovery_report()) {
        output::note(remark);
    }
    let stop = Stop::on_signal()?;
    let run = Run {
        args,
        durability,
        kind,
        wal: &wal,
        stop: &stop,
        bar: output::progress(bytes_total),
        records: AtomicU64::new(0),
        bytes: AtomicU64::new(0),
        latencies: Mutex::default(),
    };
    let started = Instant::now();
    run.write_all(read_in_background(args, source)?);
    // What no acknowledger has waited for (`async` without --ack) is made durable here, and counted.
    let closed = wal.close();
    let elapsed = started.elapsed();
    run.bar.finish_and_clear();

    let summary = Summary::new(&run, elapsed);
    let mut printed = Ok(());
    if args.json {
        printed = summary.print_json();
    } else {
        summary.print_text();
    }
    if summary.interrupted {
        output::note(format_args!("interrupted; closed at durable LSN {}", wal.durable_lsn()));
    }
    if let Some(failure) = stop.take_failure() {
        return Err(failure);
    }
    closed?;
    printed?;
    if summary.interrupted { Err(Failure::Interrupted) } else { Ok(()) }
}

impl Run<'_> {
    /// Writes until the lines end or the run is stopped.
    fn write_all(&self, chunks: Receiver<Result<Chunk, Failure>>) {
        let acknowledger = Acknowledger::new(self);
        let (accepted, on_their_way) = channel::bounded(acknowledger::ON_THEIR_WAY_MAX);
        thread::scope(|scope| {
            if acknowledger.is_needed() {
                scope.spawn(|| acknowledger.run(on_their_way));
            } else {
                drop(on_their_way);
            }
            for _ in 0..self.args.writers {
                let (chunks, accepted) = (chunks.clone(), accepted.clone());
                let acknowledger = &acknowledger;
                scope.spawn(move || writer::run(self, &chunks, &accepted, acknowledger));
            }
            // The acknowledger ends when the last writer has let go of its sender.
            drop(accepted);
        });
    }

    fn count(&self, records: u64, bytes: u64) {
        // Relaxed: read after the threads were joined.
        self.records.fetch_add(records, Ordering::Relaxed);
        self.bytes.fetch_add(bytes, Ordering::Relaxed);
        self.bar.inc(bytes + records);
    }
}

fn open_source(file: &Path) -> Result<(Box<dyn Read + Send>, Option<u64>), Failure> {
    if file.as_os_str() == "-" {
        return Ok((Box::new(io::stdin()), None));
    }
    let failed = |error| Failure::of(file.display(), error);
    let source = File::open(file).map_err(failed)?;
    let metadata = source.metadata().map_err(failed)?;
    if metadata.is_dir() {
        return Err(Failure::Usage(format!(
            "{} is a directory; name a file, or - for standard input",
            file.display()
        )));
    }
    Ok((Box::new(source), metadata.is_file().then_some(metadata.len())))
}

fn open_log(args: &WriteArgs) -> Result<(Wal, Durability), Failure> {
    // What goes, and when, is for the log's owner to say, or for `clean`.
    let mut options = config::options(&args.config, Wal::options().retention(Retention::keep_all()))?;
    if let Some(flag) = args.durability {
        options.mode = config::mode(flag, options.mode);
    }
    // A name that there is not makes no log.
    args.kind.find(&options.kinds)?;
    if let Some(bytes) = args.segment_size {
        options = options.segment_size(bytes);
    }
    Ok((options.open(&args.dir).map_err(Failure::opening)?, options.mode.durability()))
}

/// Reads on a thread of its own, which is left behind if the run ends first: a read of a terminal or a pipe
/// cannot be called off.
fn read_in_background(
    args: &WriteArgs,
    source: Box<dyn Read + Send>,
) -> Result<Receiver<Result<Chunk, Failure>>, Failure> {
    let (sender, receiver) = channel::bounded(CHUNKS_WAITING_MAX);
    let name = args.file.display().to_string();
    let (chunk_lines, hold) = match args.batch {
        // A blocking writer that held several lines would make those behind the first wait.
        1 if args.blocking => (1, false),
        1 => (CHUNK_LINES_MAX, false),
        // A batch is handed over whole: it waits for its last line.
        lines => (lines as usize, true),
    };
    thread::Builder::new()
        .name("reader".to_string())
        .spawn(move || {
            let mut lines = Lines::new(source, &name, chunk_lines, hold);
            while let Some(chunk) = lines.next_chunk() {
                let end = chunk.is_err();
                // Nobody takes lines any more: the run has been stopped.
                if sender.send(chunk).is_err() || end {
                    return;
                }
            }
        })
        .map_err(|error| Failure::of("cannot start a thread", error))?;
    Ok(receiver)
}

/// What opening the log found that its user may want to know; nothing after a clean end.
pub fn recovery_remark(report: &RecoveryReport) -> Option<String> {
    let mut remarks = Vec::new();
    if let TailState::Torn { segment, offset, cut_bytes, kept_as } = &report.tail {
        let kept = kept_as.as_ref().map_or_else(|| "not kept".to_string(), |name| format!("kept as {name}"));
        remarks.push(format!(
            "cut a torn, never acknowledged tail of {} off {segment} at byte {offset} ({kept})",
            output::plural(*cut_bytes, "byte")
        ));
    }
    for name in &report.damaged_seals {
        remarks.push(format!("the seal of {name} is damaged, its records are not"));
    }
    (!remarks.is_empty())
        .then(|| format!("recovered {}: {}", output::plural(report.last_lsn.0, "record"), remarks.join("; ")))
}
