//! Damage to what stands beside the segments, and to packed ones: the manifest, checkpoints, `.walz` files of a log that was
//! cut, each bit, sector, length and name.
//!
//! The model decodes nothing: a file is right if its bytes are those that the log wrote. What is right to say follows from
//! which file is not:
//! * The manifest: nothing is opened, and the error names it. If it is gone, the log's first file is missing.
//! * A checkpoint: every record can be read, a recovery leads to the same state by another checkpoint or by the same one,
//!   and `verify` names the file.
//! * A packed segment: `verify` names it; who opens or reads is told of it, or has every record exactly; all that stands
//!   in the segments behind it can be read.
//!
//! The rule: never wrong data, a short log, another state, or a panic; who refuses changes nothing.

use std::collections::BTreeMap;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::time::Duration;

use braidlog::{
    Applied, BoxError, CheckpointPolicy, CheckpointReader, Compress, Error, ErrorKind, Lsn, Options, Record,
    RecordRef, Restore, Result, Retention, Wal,
};
use braidlog_format::{PackedName, SegmentName};
use braidlog_sim::{SimClock, SimDisk};

use crate::counts::Counts;
use crate::extent::on_all_cores;

const DIR: &str = "log";
const MANIFEST: &str = "MANIFEST";
const SECTOR: usize = 512;

/// The files of the log, as they were written, and what they lead to.
struct Written {
    files: BTreeMap<String, Vec<u8>>,
    records: Vec<Record>,
    first: Lsn,
}

/// Damages every file in every way, but only every `stride`-th flip and cut.
///
/// # Panics
/// If anything says other than what the model says.
pub(super) fn run(stride: usize) -> Counts {
    let written = write();
    let mut damages = Vec::new();
    for name in written.files.keys().filter(|name| is_damaged_here(name)) {
        damages.extend(damages_to(&written, name, stride));
    }
    on_all_cores(damages.len() as u64, None, |index| {
        let (name, what, damaged) = &damages[index as usize];
        let mut files = written.files.clone();
        match damaged.of(&written, name) {
            Some(bytes) => files.insert(name.clone(), bytes),
            None => files.remove(name),
        };
        let judged = catch_unwind(AssertUnwindSafe(|| judge(&written, &files, name)));
        match judged {
            Ok(Ok(())) => {}
            Ok(Err(wrong)) => panic!("{name}, {damaged:?}: {wrong}"),
            Err(_) => panic!("{name}, {damaged:?}: a panic, whose message stands above"),
        }
        let mut counts = Counts::default();
        counts.add(what, 1);
        counts
    })
}

/// What became of a file.
#[derive(Debug)]
enum Damaged {
    Flip(usize, u8),
    /// A sector that has another byte all over.
    Filled(usize, u8),
    /// A sector of another file, from the same place.
    Of(String, usize),
    /// All of another file.
    All(String),
    Cut(usize),
    Grown,
    Missing,
}

impl Damaged {
    fn of(&self, written: &Written, name: &str) -> Option<Vec<u8>> {
        let mut bytes = written.files[name].clone();
        let sector = |at: usize, len: usize| at..(at + SECTOR).min(len);
        match self {
            Damaged::Flip(at, bit) => bytes[*at] ^= 1 << bit,
            Damaged::Filled(at, byte) => {
                let range = sector(*at, bytes.len());
                bytes[range].fill(*byte);
            }
            Damaged::Of(other, at) => {
                let other = &written.files[other];
                let range = sector(*at, bytes.len().min(other.len()));
                bytes[range.clone()].copy_from_slice(&other[range]);
            }
            Damaged::All(other) => bytes.clone_from(&written.files[other]),
            Damaged::Cut(len) => bytes.truncate(*len),
            Damaged::Grown => bytes.extend([0; SECTOR]),
            Damaged::Missing => return None,
        }
        Some(bytes)
    }
}

fn damages_to(written: &Written, name: &str, stride: usize) -> Vec<(String, &'static str, Damaged)> {
    let len = written.files[name].len();
    let others = || written.files.keys().filter(|other| other.as_str() != name).cloned();
    let flips =
        (0..len * 8).step_by(stride).map(|bit| ("bit flips", Damaged::Flip(bit / 8, (bit % 8) as u8)));
    let cuts = (0..len).step_by(stride).map(|len| ("cut files", Damaged::Cut(len)));
    let sectors = (0..len).step_by(SECTOR);
    let filled = sectors.clone().flat_map(|at| {
        [("zeroed runs of sectors", Damaged::Filled(at, 0)), ("sectors of ones", Damaged::Filled(at, 0xFF))]
    });
    let misplaced = sectors.flat_map(|at| {
        let from = others().filter(move |other| written.files[other].len() > at);
        from.map(move |other| ("misplaced sectors and blocks", Damaged::Of(other, at)))
    });
    let whole = others().map(|other| ("swapped files", Damaged::All(other)));
    let single = [("grown files", Damaged::Grown), ("missing files", Damaged::Missing)];
    let all = flips.chain(cuts).chain(filled).chain(misplaced).chain(whole).chain(single);
    all.map(|(what, damaged)| (name.to_owned(), what, damaged)).collect()
}

fn is_damaged_here(name: &str) -> bool {
    name == MANIFEST || name.ends_with(".ckpt") || name.ends_with(".walz")
}

// The log

fn options(disk: &SimDisk, clock: &Arc<SimClock>) -> Options {
    Wal::options()
        .storage(Arc::new(disk.clone()))
        .clock(clock.clone())
        .background_threads(false)
        .num_stripes(1)
        .stripe_capacity(4 << 10)
        .segment_size(64 << 10)
        .write_buffer_size(8 << 10)
        .segment_age_max(Some(Duration::from_millis(1)))
        .retention(Retention::keep_all().checkpoints(2))
        .checkpoint_policy(CheckpointPolicy::never())
}

/// A log that was cut, with two checkpoints, of which all finished segments are packed.
fn write() -> Written {
    let (disk, clock) = (SimDisk::new(), Arc::new(SimClock::new()));
    let wal = options(&disk, &clock).open(DIR).expect("nothing is wrong");
    let checkpoint = |lsn: Lsn| {
        let state: Vec<u8> = (1..=lsn.0).flat_map(u64::to_le_bytes).collect();
        wal.checkpoint(lsn, |writer| Ok(std::io::Write::write_all(writer, &state)?)).expect("nothing fails");
    };
    for segment in 0..6u8 {
        for record in 0..4 {
            let payload =
                format!("record {record} of segment {segment}; ").repeat(4 + usize::from(segment) * 3);
            wal.append(payload).expect("nothing fails");
        }
        // The next record begins another segment.
        clock.advance(Duration::from_millis(2));
        match segment {
            2 => checkpoint(wal.durable_lsn()),
            4 => checkpoint(Lsn(wal.durable_lsn().0 - 2)),
            _ => {}
        }
    }
    wal.truncate_before(Lsn(9)).expect("nothing needs it");
    wal.compress_with(Compress::new(), |_| ()).expect("nothing fails");
    let records: Vec<Record> = wal.iter(..).and_then(Iterator::collect).expect("nothing is damaged");
    let first = wal.first_lsn();
    wal.close().expect("nothing fails");
    let names = disk.list_raw(DIR).into_iter().map(|(name, _)| name);
    let kept = names.filter(|name| is_damaged_here(name) || name.ends_with(".wal"));
    let files: BTreeMap<_, _> =
        kept.map(|name| (name.clone(), disk.read_raw(format!("{DIR}/{name}")))).collect();
    let count = |end: &str| files.keys().filter(|name| name.ends_with(end)).count();
    assert!(first > Lsn(1) && count(".walz") >= 3 && count(".ckpt") == 2, "{first}: {:?}", files.keys());
    Written { files, records, first }
}

// The judges

/// A state that knows which records it was told, in which order.
#[derive(Default)]
struct Told(Vec<u64>);

impl Restore for Told {
    fn restore(&mut self, part: &mut CheckpointReader<'_>) -> std::result::Result<(), BoxError> {
        let mut bytes = Vec::new();
        std::io::Read::read_to_end(part, &mut bytes)?;
        self.0 = bytes.as_chunks().0.iter().map(|lsn| u64::from_le_bytes(*lsn)).collect();
        Ok(())
    }

    fn apply(&mut self, record: RecordRef<'_>) -> std::result::Result<Applied, BoxError> {
        self.0.push(record.lsn.0);
        Ok(Applied::Applied)
    }
}

fn judge(
    written: &Written,
    files: &BTreeMap<String, Vec<u8>>,
    name: &str,
) -> std::result::Result<(), String> {
    let (disk, clock) = (SimDisk::new(), Arc::new(SimClock::new()));
    let options = options(&disk, &clock);
    braidlog_storage::Storage::open_dir(&disk, DIR.as_ref(), true).map_err(|error| error.to_string())?;
    for (name, bytes) in files {
        disk.put_raw(format!("{DIR}/{name}"), bytes);
    }
    let is_right = files.get(name) == written.files.get(name);
    let checked = match name {
        MANIFEST => judge_manifest(&options, written, files, is_right),
        name if name.ends_with(".ckpt") => judge_checkpoint(&options, written, name, is_right),
        name => judge_packed(&options, written, name, is_right),
    };
    checked?;
    // Reading, and an opening that was refused, have changed nothing; one that was not goes on.
    match options.open(DIR) {
        Ok(_) if name == MANIFEST && !is_right => Err("it opened".to_owned()),
        Ok(wal) => {
            let next = wal.append("goes on").map_err(|error| error.to_string())?;
            let last = written.records[written.records.len() - 1].lsn;
            if next == last.next() {
                Ok(())
            } else {
                Err(format!("the next record is {next}, behind {last}"))
            }
        }
        Err(error) if is_right || name.ends_with(".ckpt") => Err(format!("it is not opened: {error}")),
        Err(_) => {
            let is_kept =
                |(name, bytes): (&String, &Vec<u8>)| disk.read_raw(format!("{DIR}/{name}")) == *bytes;
            if files.iter().all(is_kept) { Ok(()) } else { Err("a refusal changed a file".to_owned()) }
        }
    }
}

fn judge_manifest(
    options: &Options,
    written: &Written,
    files: &BTreeMap<String, Vec<u8>>,
    is_right: bool,
) -> std::result::Result<(), String> {
    if is_right {
        return exact(options, written);
    }
    let error = match options.open_read_only(DIR) {
        Ok(_) => return Err("it opened".to_owned()),
        Err(error) => error,
    };
    let (kind, file) = (error.kind(), error.segment().unwrap_or_default());
    let first = SegmentName(Lsn(1)).to_string();
    let is_told = match files.get(MANIFEST) {
        // Without it, the log starts at LSN 1.
        None => kind == ErrorKind::Damaged && file == first,
        Some(bytes) => {
            let differs =
                bytes.iter().zip(&written.files[MANIFEST]).map(|(one, two)| (one ^ two).count_ones());
            let is_one_bit = bytes.len() == written.files[MANIFEST].len() && differs.sum::<u32>() == 1;
            let kinds = [ErrorKind::Damaged, ErrorKind::Foreign, ErrorKind::Newer];
            file == MANIFEST && kinds.contains(&kind) && (!is_one_bit || kind == ErrorKind::Damaged)
        }
    };
    if is_told { Ok(()) } else { Err(format!("it is {kind:?} of `{file}`: {error}")) }
}

fn judge_checkpoint(
    options: &Options,
    written: &Written,
    name: &str,
    is_right: bool,
) -> std::result::Result<(), String> {
    exact(options, written)?;
    let log = options.open_read_only(DIR).map_err(|error| error.to_string())?;
    let mut told = Told::default();
    let report = log.recover(&mut told).map_err(|error| format!("no recovery: {error}"))?;
    let last = written.records[written.records.len() - 1].lsn.0;
    if !told.0.iter().copied().eq(1..=last) {
        return Err(format!("the state is another: {:?}", told.0));
    }
    let newest = written.files.keys().rfind(|name| name.ends_with(".ckpt"));
    let is_passed_over = report.passed_over.iter().any(|passed| passed.checkpoint.file == name);
    if is_passed_over != (!is_right && newest.map(String::as_str) == Some(name)) {
        return Err(format!("passed over: {:?}", report.passed_over));
    }
    verify_names(options, name, is_right)
}

fn judge_packed(
    options: &Options,
    written: &Written,
    name: &str,
    is_right: bool,
) -> std::result::Result<(), String> {
    if is_right {
        return exact(options, written);
    }
    let Some(PackedName(base)) = PackedName::parse(name) else {
        return Err("it is no packed segment".to_owned());
    };
    let plain = SegmentName(base).to_string();
    let names_it = |error: &Error| {
        let file = error.segment().unwrap_or_default();
        let kinds = [ErrorKind::Damaged, ErrorKind::Foreign, ErrorKind::Newer, ErrorKind::Unsupported];
        (file == name || file == plain) && kinds.contains(&error.kind())
    };
    match options.open_read_only(DIR) {
        Err(error) if names_it(&error) => return Ok(()),
        Err(error) => return Err(format!("opening says {error}")),
        Ok(log) => {
            let mut next = written.records.iter();
            for record in log.iter(written.first..).map_err(|error| error.to_string())? {
                match record {
                    Ok(record) if next.next() == Some(&record) => {}
                    Ok(record) => return Err(format!("LSN {} is another record", record.lsn)),
                    Err(error) if names_it(&error) => break,
                    Err(error) => return Err(format!("reading says {error}")),
                }
            }
            let behind =
                written.files.keys().filter_map(|other| base_of(other)).filter(|other| *other > base).min();
            let behind = behind.unwrap_or(Lsn::MAX);
            let expected = written.records.iter().filter(|record| record.lsn >= behind).cloned();
            let read: Vec<Record> = log
                .iter(behind..)
                .and_then(Iterator::collect)
                .map_err(|error| format!("behind it: {error}"))?;
            if !expected.eq(read) {
                return Err("what stands behind it is not read".to_owned());
            }
        }
    }
    verify_names(options, name, is_right)
}

fn base_of(name: &str) -> Option<Lsn> {
    let plain = SegmentName::parse(name).map(|SegmentName(base)| base);
    plain.or_else(|| PackedName::parse(name).map(|PackedName(base)| base))
}

/// Whether `verify` tells of this file, if there is something to tell.
fn verify_names(options: &Options, name: &str, is_right: bool) -> std::result::Result<(), String> {
    let report = match options.verify(DIR, |_| ()) {
        Ok(report) => report,
        Err(error) if !is_right && error.segment() == Some(name) => return Ok(()),
        Err(error) => return Err(format!("verify says {error}")),
    };
    let plain = name.replace(".walz", ".wal");
    let is_told = report.problems.iter().any(|problem| problem.segment == name || problem.segment == plain);
    let is_told = is_told || format!("{:?}", report.warnings).contains(name);
    if is_told != is_right { Ok(()) } else { Err(format!("verify says {report:?}")) }
}

/// That every record is there, as it was written.
fn exact(options: &Options, written: &Written) -> std::result::Result<(), String> {
    let read: Result<Vec<Record>> = options.open_read_only(DIR).and_then(|log| log.iter(..)?.collect());
    match read {
        Ok(read) if read == written.records => Ok(()),
        Ok(read) => Err(format!("{} records, or others", read.len())),
        Err(error) => Err(format!("it is not read: {error}")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Judges that would let anything pass prove nothing: each damage is judged by a model that takes it for what was written.
    #[test]
    fn judges_notice_damage_that_the_model_does_not_know() {
        let written = write();
        for name in written.files.keys().filter(|name| is_damaged_here(name)) {
            let len = written.files[name].len();
            for damaged in [Damaged::Flip(len / 2, 3), Damaged::Flip(5, 1), Damaged::Cut(len / 2)] {
                let mut files = written.files.clone();
                files.extend(damaged.of(&written, name).map(|bytes| (name.clone(), bytes)));
                judge(&written, &files, name).unwrap_or_else(|wrong| panic!("{name}, {damaged:?}: {wrong}"));
                let believed =
                    Written { files: files.clone(), records: written.records.clone(), first: written.first };
                assert!(judge(&believed, &files, name).is_err(), "{name}: {damaged:?} is let pass");
            }
        }
    }
}
