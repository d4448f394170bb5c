//! Production put before damaged files: verifying, reading, opening for writing. Each must say what the model says.
//!
//! The rule: nothing may be said less exactly than the model says it. Every record that is lent is compared, every
//! error is located, and what must not change is compared byte by byte.

use std::sync::Arc;

use braidlog::{Error, ErrorKind, Options, Records, TailState, VerifyReport, VerifyTail, Wal, Warning};
use braidlog_format::{LsnRange, SegmentName};
use braidlog_sim::{Action, Profile, SimDisk};
use braidlog_storage::Storage;

use super::damage::Files;
use super::log::{Log, Record, name_of};
use super::model::{Opened, Place, Refusal, Tail, Verdicts, Verified};

const DIR: &str = "log";

/// What a damage came to.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Outcome {
    /// Opening and reading refuse the log and name the place.
    Refused,
    /// It opens, and reading stops with an error that names the place.
    ToldByReading,
    /// All records are there; a verification, or the report of the opening, tells the place.
    ToldByVerifying,
    /// A lawful prefix is left: what is gone was never acknowledged, or is one of the stated limits.
    Trimmed,
    /// All records are there, and nothing that counts was hit.
    Harmless,
}

impl Outcome {
    pub(super) fn name(self) -> &'static str {
        match self {
            Outcome::Refused => "refused at the right place",
            Outcome::ToldByReading => "opened and told when read",
            Outcome::ToldByVerifying => "read exactly and told by verify",
            Outcome::Trimmed => "cut to a lawful prefix",
            Outcome::Harmless => "harmless and read exactly",
        }
    }
}

/// How much of an outcome is looked at.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) struct Depth {
    /// Go on writing, close, and look again.
    pub(super) goes_on: bool,
}

/// Puts all judges before `files`, and compares what they say with `right`.
///
/// # Errors
/// What was said and what would have been right.
pub(super) fn judge(log: &Log, files: &Files, right: &Verdicts, depth: Depth) -> Result<Outcome, String> {
    let disk = SimDisk::new();
    let storage: Arc<dyn Storage> = Arc::new(disk.clone());
    storage.open_dir(DIR.as_ref(), true).map_err(|error| error.to_string())?;
    for (name, bytes) in files {
        disk.put_raw(format!("{DIR}/{name}"), bytes);
    }
    // From here on it is the judges who do things.
    disk.take_trace();
    let options = Wal::options()
        .storage(storage)
        .background_threads(false)
        .num_stripes(1)
        .stripe_capacity(4 << 10)
        .segment_size(64 << 10)
        .write_buffer_size(8 << 10);
    check_verify(&options, right).map_err(|what| format!("verify: {what}"))?;
    check_read(&options, log, right).map_err(|what| format!("reading: {what}"))?;
    check_no_change(&disk, files)?;
    check_open(&options, &disk, log, files, right, depth).map_err(|what| format!("opening: {what}"))?;
    Ok(outcome(log, right))
}

fn outcome(log: &Log, right: &Verdicts) -> Outcome {
    let told = right.verify.as_ref().is_ok_and(|verified| !verified.problems.is_empty());
    match &right.open {
        Err(_) => Outcome::Refused,
        Ok(opened) if opened.unreadable.is_some() => Outcome::ToldByReading,
        Ok(opened) if opened.last < whole(log) => Outcome::Trimmed,
        Ok(opened) if told || !opened.broken_seals.is_empty() => Outcome::ToldByVerifying,
        Ok(_) => Outcome::Harmless,
    }
}

/// The last record of the undamaged log that recovery keeps.
fn whole(log: &Log) -> u64 {
    let cut = log.records.iter().rev().take_while(|record| record.batch_continues).count();
    (log.records.len() - cut) as u64
}

fn same<T: PartialEq + std::fmt::Debug>(what: &str, found: T, right: T) -> Result<(), String> {
    if found == right { Ok(()) } else { Err(format!("{what} is {found:?}, and {right:?} is right")) }
}

fn lsns(range: Option<LsnRange>) -> Option<(u64, u64)> {
    range.filter(|range| !range.is_empty()).map(|range| (range.first.0, range.last.0))
}

fn place(error: &Error) -> Place {
    Place {
        file: error.segment().unwrap_or("no file").to_owned(),
        offset: error.offset().unwrap_or(u64::MAX),
        lsns: lsns(error.lsns()),
    }
}

fn check_refusal(error: &Error, right: &Refusal) -> Result<(), String> {
    match right {
        Refusal::Damaged(_) if error.kind() != ErrorKind::Damaged => {
            Err(format!("it is called {:?} ({error}), and {right:?} is right", error.kind()))
        }
        Refusal::Damaged(right) => same("the damaged place", &place(error), right),
        Refusal::Other(kind, file) => {
            same("the refusal", (error.kind(), error.segment()), (*kind, Some(file.as_str())))
        }
    }
}

fn check_verify(options: &Options, right: &Verdicts) -> Result<(), String> {
    match (options.verify(DIR, |_| ()), &right.verify) {
        (Err(error), Err(right)) => check_refusal(&error, right),
        (Err(error), Ok(right)) => Err(format!("it failed ({error}), and {right:?} is right")),
        (Ok(report), Err(right)) => Err(format!("it reports {report:?}, and {right:?} is right")),
        (Ok(report), Ok(right)) => check_report(&report, right),
    }
}

fn check_report(report: &VerifyReport, right: &Verified) -> Result<(), String> {
    let mut problems: Vec<Place> = report
        .problems
        .iter()
        .map(|problem| Place {
            file: problem.segment.clone(),
            offset: problem.offset,
            lsns: lsns(Some(problem.lsns)),
        })
        .collect();
    if let Some(doubtful) = &right.doubtful {
        problems.retain(|problem| problem != doubtful);
    }
    if right.more {
        if let Some(missing) = right.problems.iter().find(|right| !problems.contains(right)) {
            return Err(format!("{missing:?} is not among {problems:?}"));
        }
    } else {
        same("the list of problems", &problems, &right.problems)?;
        same("the count of records", report.records, right.records)?;
    }
    let Some(right) = &right.tail else { return Ok(()) };
    let found = match report.tail {
        VerifyTail::Empty => Tail::Empty,
        VerifyTail::Sealed => Tail::Sealed,
        VerifyTail::Unsealed => Tail::Unsealed,
        VerifyTail::Torn => return check_torn_warning(report, right),
        other => return Err(format!("the tail is {other:?}, and {right:?} is right")),
    };
    same("the tail", &found, right)
}

/// A torn tail is a warning that says where it begins, or what it was meant to be.
fn check_torn_warning(report: &VerifyReport, right: &Tail) -> Result<(), String> {
    let Tail::Torn { file, offset, cut_bytes } = right else {
        return Err(format!("the tail is torn, and {right:?} is right"));
    };
    let is_told = report.warnings.iter().any(|warning| match warning {
        Warning::TornTail { segment, offset: from, bytes } => {
            (segment, from, bytes) == (file, offset, cut_bytes)
        }
        Warning::UnfinishedSeal { segment, offset: from } => (segment, from) == (file, offset),
        _ => false,
    });
    let is_a_problem = report.problems.iter().any(|problem| problem.offset == *offset);
    if is_told || is_a_problem {
        Ok(())
    } else {
        Err(format!("{:?} does not tell of {right:?}", report.warnings))
    }
}

fn check_read(options: &Options, log: &Log, right: &Verdicts) -> Result<(), String> {
    let reader = match (options.open_read_only(DIR), &right.open) {
        (Err(error), Err(right)) => return check_refusal(&error, right),
        (Err(error), Ok(right)) => return Err(format!("it failed ({error}), and {right:?} is right")),
        (Ok(_), Err(right)) => return Err(format!("it opened, and {right:?} is right")),
        (Ok(reader), Ok(_)) => reader,
    };
    let Ok(opened) = &right.open else { return Ok(()) };
    let last = reader.last_lsn().map_err(|error| error.to_string())?;
    same("the last LSN", last.0, opened.last)?;
    let records = reader.iter(..).map_err(|error| error.to_string())?;
    check_records(records, &log.records, opened.last, opened.unreadable.as_ref())
}

/// All records up to `last`, exactly as written, or all before the place that cannot be read, and its error.
fn check_records(
    mut records: Records,
    written: &[Record],
    last: u64,
    unreadable: Option<&Place>,
) -> Result<(), String> {
    let mut next = 1;
    while let Some(record) = records.next_ref() {
        let record = match record {
            Ok(record) => record,
            Err(error) => {
                let Some(right) = unreadable else {
                    return Err(format!("LSN {next} is an error ({error}), and can be read"));
                };
                check_refusal(&error, &Refusal::Damaged(right.clone()))?;
                let first = right.lsns.map_or(next, |(first, _)| first);
                return same("the first record that is not given", next, first);
            }
        };
        let written = written.get(next as usize - 1).filter(|_| next <= last);
        let Some(written) = written else { return Err(format!("{record:?} is there and never was")) };
        if (record.lsn.0, record.kind.0, record.batch_continues, record.payload)
            != (next, written.kind, written.batch_continues, &*written.payload)
        {
            return Err(format!("LSN {next} is {record:?}, and was written as {written:?}"));
        }
        next += 1;
    }
    match unreadable {
        None => same("the last record that is given", next - 1, last),
        Some(place) => {
            Err(format!("it ends without an error behind LSN {}, and not with {place:?}", next - 1))
        }
    }
}

/// Looking changes nothing, and asks for no more memory than a file has bytes.
fn check_no_change(disk: &SimDisk, files: &Files) -> Result<(), String> {
    let longest = files.values().map(Vec::len).max().unwrap_or(0).next_multiple_of(4096);
    for traced in disk.take_trace() {
        match traced.action {
            Action::Read { len, .. } if len > longest as u64 => {
                return Err(format!("{traced:?}, and no file is longer than {longest} bytes"));
            }
            Action::Open | Action::Read { .. } | Action::SyncAll | Action::SyncData | Action::DropCache => {}
            _ => return Err(format!("looking at the log did this: {traced:?}")),
        }
    }
    same_files(disk, files, |_| false)
}

fn same_files(disk: &SimDisk, files: &Files, may_differ: impl Fn(&str) -> bool) -> Result<(), String> {
    for (name, bytes) in files.iter().filter(|(name, _)| !may_differ(name)) {
        let is_there = disk.list_raw(DIR).iter().any(|(found, _)| found == name);
        if !is_there || disk.read_raw(format!("{DIR}/{name}")) != *bytes {
            return Err(format!("{name} was changed"));
        }
    }
    Ok(())
}

fn is_prepared(name: &str) -> bool {
    name.ends_with(".prep")
}

fn is_unknown(name: &str) -> bool {
    SegmentName::parse(name).is_none() && !is_prepared(name) && !name.ends_with(".torn")
}

fn check_open(
    options: &Options,
    disk: &SimDisk,
    log: &Log,
    files: &Files,
    right: &Verdicts,
    depth: Depth,
) -> Result<(), String> {
    let wal = match (options.open(DIR), &right.open) {
        (Err(error), Err(right)) => {
            check_refusal(&error, right)?;
            return same_files(disk, files, |_| false);
        }
        (Err(error), Ok(right)) => return Err(format!("it failed ({error}), and {right:?} is right")),
        (Ok(_), Err(right)) => return Err(format!("it opened, and {right:?} is right")),
        (Ok(wal), Ok(_)) => wal,
    };
    let Ok(opened) = &right.open else { return Ok(()) };
    let report = wal.recovery_report();
    same("the last LSN", report.last_lsn.0, opened.last)?;
    same("the list of broken seals", &report.damaged_seals, &opened.broken_seals)?;
    let of = |is_it: fn(&str) -> bool| files.keys().filter(|name| is_it(name)).cloned().collect::<Vec<_>>();
    same("the list of removed files", &report.removed_prepared, &of(is_prepared))?;
    same("the list of files left alone", &report.ignored, &of(is_unknown))?;
    let mut kept_as = None;
    let found = match &report.tail {
        TailState::NewLog => Tail::Empty,
        TailState::Sealed => Tail::Sealed,
        TailState::Unsealed => Tail::Unsealed,
        TailState::Torn { segment, offset, cut_bytes, kept_as: name } => {
            kept_as = name.clone();
            Tail::Torn { file: segment.clone(), offset: *offset, cut_bytes: *cut_bytes }
        }
        other => return Err(format!("the tail is {other:?}")),
    };
    same("the tail", &found, &opened.tail)?;
    check_kept(disk, files, opened, kept_as.as_deref())?;
    let replayed = wal.replay().map_err(|error| error.to_string())?;
    check_records(replayed, &log.records, opened.last, opened.unreadable.as_ref())?;
    if depth.goes_on { go_on(options, disk, &wal, log, opened) } else { Ok(()) }
}

/// What opening changed: the last segment is cut to what is kept, what was cut stands beside it, prepared files
/// are gone; all else is as it was.
fn check_kept(disk: &SimDisk, files: &Files, opened: &Opened, kept_as: Option<&str>) -> Result<(), String> {
    let next = name_of(opened.last + 1);
    let kept_name = opened.kept.as_ref().map(|(name, _)| name.as_str());
    let may_differ = |name: &str| name == next || Some(name) == kept_name || is_prepared(name);
    same_files(disk, files, may_differ)?;
    for (name, bytes) in files.iter().filter(|(name, _)| is_prepared(name)) {
        // Another of this name may have been made.
        let is_there = disk.list_raw(DIR).iter().any(|(found, _)| found == name);
        if is_there && disk.read_raw(format!("{DIR}/{name}")) == *bytes {
            return Err(format!("{name} was left there"));
        }
    }
    let Some((name, end)) = &opened.kept else { return Ok(()) };
    let before = &files[name];
    if *name != next {
        let kept = &before[..before.len().min(*end as usize)];
        if disk.read_raw(format!("{DIR}/{name}")) != kept {
            return Err(format!("{name} is not cut to its first {end} bytes"));
        }
    }
    if let Tail::Torn { offset, cut_bytes, .. } = &opened.tail {
        let Some(kept_as) = kept_as else { return Err("the torn tail was not kept".to_owned()) };
        let end = before.len().min((offset + cut_bytes) as usize);
        if disk.read_raw(format!("{DIR}/{kept_as}")) != before[*offset as usize..end] {
            return Err(format!("{kept_as} is not what was cut"));
        }
    }
    Ok(())
}

/// A record that is appended takes the next LSN, and both it and what was recovered outlive a power cut.
fn go_on(options: &Options, disk: &SimDisk, wal: &Wal, log: &Log, opened: &Opened) -> Result<(), String> {
    let lsn = wal.append(b"goes on").map_err(|error| error.to_string())?;
    same("the LSN of the next record", lsn.0, opened.last + 1)?;
    let after: Arc<dyn Storage> = Arc::new(disk.crash_clone(opened.last, Profile::Posix));
    let mut records = log.records[..opened.last as usize].to_vec();
    records.push(Record { kind: 0, payload: b"goes on".to_vec(), batch_continues: false });
    let reader = options.clone().storage(after).open_read_only(DIR).map_err(|error| error.to_string())?;
    let read = reader.iter(..).map_err(|error| error.to_string())?;
    check_records(read, &records, lsn.0, opened.unreadable.as_ref())
}
