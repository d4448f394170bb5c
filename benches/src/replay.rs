//! Replay beside the plainest loop that reads the same bytes, by turns, from a warm and a cold page cache.
//!
//! The loop is what a programmer would write who trusts the directory: one thread reads each segment 1 MiB at a
//! time, steps from entry to entry as `docs/format.md` has it and checks the same two checksums. It keeps none of
//! the log's other promises: no chain of segments, no verdict on what it cannot read, no bound but the end.
//!
//! # What is checked, after the clock
//! Every way has seen every record: their count, and the sum of their LSNs.

use std::fs::{self, File};
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use braidlog::storage::{FileAccess, FileIo, OsStorage, Storage};
use braidlog::{Records, Wal};
use serde::Serialize;

use crate::memory::{self, Memory};
use crate::scratch;
use crate::workload::{RECORD_BYTES, Result};
use braidlog_measure::figure::Figure;

/// Records of the log that is replayed, about: some 500 MiB, eight segments.
const RECORDS: u64 = 3_000_000;
/// Bytes that the loop reads at once.
const READ_BYTES: usize = 1 << 20;
/// Bytes before a segment's first entry.
const SEGMENT_HEADER_BYTES: usize = 4096;
/// Bytes of an entry before its payload.
const ENTRY_HEADER_BYTES: usize = 32;

/// Replay of one log, from a page cache in one state.
#[derive(Clone, Debug, Serialize)]
pub struct Replayed {
    /// Whether the page cache held the log.
    pub warm: bool,
    /// Records per second of the loop.
    pub plain: Figure,
    /// Records per second of `Wal::iter`: one thread.
    pub one_thread: Figure,
    /// Records per second of `Wal::replay`: as many threads as the machine runs at once.
    pub all_threads: Figure,
    /// One thread to the loop, repetition by repetition.
    pub one_to_plain: Figure,
    /// All threads to the loop, repetition by repetition.
    pub all_to_plain: Figure,
}

/// Replay, warm and cold, and the memory that a process of its own takes for it.
#[derive(Clone, Debug, Serialize)]
pub struct Replay {
    /// Records of 128 bytes in the log.
    pub records: u64,
    /// Warm, then cold.
    pub caches: Vec<Replayed>,
    /// What writing and replaying the log took in processes of their own.
    pub memory: Memory,
}

/// Which records were seen.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Seen {
    /// How many.
    pub records: u64,
    /// The sum of their LSNs.
    pub lsn_sum: u64,
}

impl Seen {
    /// Counts one record.
    pub fn count(&mut self, lsn: u64) {
        self.records += 1;
        self.lsn_sum += lsn;
    }

    /// What has been seen of a log with so many records when all of it has.
    pub fn all_of(records: u64) -> Seen {
        Seen { records, lsn_sum: records * (records + 1) / 2 }
    }
}

/// Measures replay of a fresh log.
///
/// # Errors
/// An error of the log or the system, or a wrong result.
pub fn replay(base: Option<&Path>, repetitions: usize) -> Result<Replay> {
    let dir = scratch::directory(base)?;
    let path = dir.path().join("log");
    let memory = memory::measure(&path, RECORDS * RECORD_BYTES as u64)?;
    let wal = Wal::options().open(&path)?;
    let records = wal.durable_lsn().get();
    let measure = |warm| measure(&wal, records, warm, repetitions);
    let caches = vec![measure(true)?, measure(false)?];
    wal.close()?;
    Ok(Replay { records, caches, memory })
}

fn measure(wal: &Wal, records: u64, warm: bool, repetitions: usize) -> Result<Replayed> {
    let (mut plain, mut one, mut all) = (Vec::new(), Vec::new(), Vec::new());
    let rate = |way: &mut dyn FnMut() -> Result<Seen>| -> Result<f64> {
        if !warm {
            drop_cache(wal.path())?;
        }
        let start = Instant::now();
        let seen = way()?;
        let took: Duration = start.elapsed();
        if seen != Seen::all_of(records) {
            return Err(format!("{seen:?} of a log with {records} records").into());
        }
        Ok(records as f64 / took.as_secs_f64())
    };
    // The first repetition warms up.
    for repetition in 0..=repetitions {
        let rates = [
            rate(&mut || read_plainly(wal.path()))?,
            rate(&mut || count(wal.iter(..)?))?,
            rate(&mut || count(wal.replay()?))?,
        ];
        if repetition > 0 {
            plain.push(rates[0]);
            one.push(rates[1]);
            all.push(rates[2]);
        }
    }
    let ratio = |rates: &[f64]| Figure::of(rates.iter().zip(&plain).map(|(rate, plain)| rate / plain));
    Ok(Replayed {
        warm,
        one_to_plain: ratio(&one),
        all_to_plain: ratio(&all),
        plain: Figure::of(plain.iter().copied()),
        one_thread: Figure::of(one),
        all_threads: Figure::of(all),
    })
}

/// Counts the records as they are lent.
///
/// # Errors
/// An error of the log.
pub fn count(mut records: Records) -> Result<Seen> {
    let mut seen = Seen::default();
    while let Some(record) = records.next_ref() {
        seen.count(record?.lsn.get());
    }
    Ok(seen)
}

/// Reads every segment of the log in `dir` with the plain loop.
///
/// # Errors
/// An error of the system, or an entry that does not prove itself.
pub fn read_plainly(dir: &Path) -> Result<Seen> {
    let mut seen = Seen::default();
    let mut buf = vec![0; READ_BYTES];
    for path in segments(dir)? {
        read_segment(&File::open(path)?, &mut buf, &mut seen)?;
    }
    Ok(seen)
}

fn read_segment(file: &File, buf: &mut [u8], seen: &mut Seen) -> Result<()> {
    // The file offset of the buffer's first byte, how much of the buffer is filled, and where the next entry is.
    let (mut start, mut filled, mut at) = (0_u64, file.read_at(buf, 0)?, SEGMENT_HEADER_BYTES);
    let salt = number(buf, 32);
    loop {
        let entry = match entry_at(&buf[..filled], at, start, salt) {
            Ok(entry) => entry,
            // The space ahead of the pen.
            Err(_) if buf[at..at + ENTRY_HEADER_BYTES] == [0; ENTRY_HEADER_BYTES] => return Ok(()),
            Err(error) => return Err(error),
        };
        let Some(entry) = entry else {
            // The rest of an entry is in the bytes that follow.
            buf.copy_within(at..filled, 0);
            (start, filled, at) = (start + at as u64, filled - at, 0);
            let read = file.read_at(&mut buf[filled..], start + filled as u64)?;
            if read == 0 {
                return Ok(());
            }
            filled += read;
            continue;
        };
        match entry.kind {
            242 => return Ok(()),
            240 | 241 => {}
            _ => seen.count(entry.lsn),
        }
        at += entry.bytes;
    }
}

struct PlainEntry {
    lsn: u64,
    kind: u8,
    bytes: usize,
}

/// The entry at `at`, proved; `None` if it goes on behind the buffer.
#[inline]
fn entry_at(buf: &[u8], at: usize, start: u64, salt: u32) -> Result<Option<PlainEntry>> {
    let Some(header) = buf.get(at..at + ENTRY_HEADER_BYTES) else { return Ok(None) };
    let mut checked = [0; ENTRY_HEADER_BYTES - 4];
    checked[..16].copy_from_slice(&header[..16]);
    checked[16..].copy_from_slice(&header[20..]);
    let seed = salt.wrapping_add(((start + at as u64) / 8) as u32);
    let mut hasher = crc32fast::Hasher::new_with_initial(seed);
    hasher.update(&checked);
    if hasher.finalize() != number(header, 16) {
        return Err(format!("no entry at {}", start + at as u64).into());
    }
    let payload_bytes = number(header, 24) as usize;
    let bytes = ENTRY_HEADER_BYTES + payload_bytes.next_multiple_of(8);
    let payload = at + ENTRY_HEADER_BYTES..at + ENTRY_HEADER_BYTES + payload_bytes;
    if at + bytes > buf.len() {
        return Ok(None);
    }
    if crc32fast::hash(&buf[payload]) != number(header, 28) {
        return Err(format!("no payload at {}", start + at as u64).into());
    }
    let lsn = u64::from_le_bytes(header[..8].try_into()?);
    Ok(Some(PlainEntry { lsn, kind: header[20], bytes }))
}

fn number(bytes: &[u8], at: usize) -> u32 {
    u32::from_le_bytes(bytes[at..at + 4].try_into().expect("four bytes"))
}

/// The segment files in `dir`, in LSN order.
fn segments(dir: &Path) -> Result<Vec<PathBuf>> {
    let paths: std::io::Result<Vec<_>> = fs::read_dir(dir)?.map(|entry| Ok(entry?.path())).collect();
    let mut paths = paths?;
    paths.retain(|path| path.extension().is_some_and(|extension| extension == "wal"));
    paths.sort();
    Ok(paths)
}

/// Lets the page cache forget the segments in `dir`.
pub(crate) fn drop_cache(dir: &Path) -> Result<()> {
    let storage = OsStorage.open_dir(dir, false)?;
    for path in segments(dir)? {
        let name = path.file_name().and_then(|name| name.to_str()).ok_or("a segment without a name")?;
        let file = storage.open(name, FileAccess::Read, FileIo::Buffered)?;
        file.sync_all()?;
        file.drop_cache()?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::workload::Load;

    #[test]
    fn loop_and_log_see_the_same_records() {
        let dir = scratch::directory(None).unwrap();
        let options = Wal::options().segment_size(1 << 20);
        let load = Load::spread(3, 30_000);
        load.run(dir.path(), &options).unwrap();
        assert_eq!(read_plainly(dir.path()).unwrap(), Seen::all_of(load.total()));
        let wal = options.open(dir.path()).unwrap();
        assert_eq!(count(wal.replay().unwrap()).unwrap(), Seen::all_of(load.total()));
        // Beside the writer, whose segment has space ahead of its pen.
        wal.append(b"one more").unwrap();
        assert_eq!(read_plainly(dir.path()).unwrap(), Seen::all_of(load.total() + 1));
        wal.close().unwrap();
    }

    #[test]
    fn loop_refuses_a_flipped_bit() {
        let dir = scratch::directory(None).unwrap();
        Load::spread(1, 100).run(dir.path(), &Wal::options()).unwrap();
        let path = segments(dir.path()).unwrap().remove(0);
        let mut bytes = fs::read(&path).unwrap();
        bytes[SEGMENT_HEADER_BYTES + 1000] ^= 1;
        fs::write(&path, bytes).unwrap();
        assert!(read_plainly(dir.path()).is_err());
    }
}
