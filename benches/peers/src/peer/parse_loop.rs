//! The yardstick of a replay: one thread that reads Braidlog's files in pieces of 1 MiB, takes the entries apart
//! and checks the same two checksums of each. It looks at nothing else.
//!
//! The layout is that of `docs/format.md`, written down here once more, so that the loop owes the library nothing.

use std::fs::{self, File};
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};

use crc32fast::Hasher;

use super::braidlog::{Braidlog, Thread};
use super::{Peer, Result, Setup};
use crate::host;

/// Bytes of one read.
const PIECE: usize = 1 << 20;
/// Bytes of the header of a file.
const FILE_HEADER: u64 = 4096;
/// Bytes of the header of an entry.
const ENTRY_HEADER: usize = 32;
/// Kinds above are the log's own.
const USER_KIND_MAX: u8 = 239;

/// Braidlog, read by the loop.
pub struct ParseLoop(Braidlog);

impl Peer for ParseLoop {
    type Appender<'log> = Thread;

    const FLUSH_SYNCS: bool = true;

    fn open(dir: &Path, setup: &Setup) -> Result<ParseLoop> {
        Ok(ParseLoop(Braidlog::open(dir, setup)?))
    }

    fn appender(&self, thread: u32) -> Result<Thread> {
        self.0.appender(thread)
    }

    fn flush(&self) -> Result<()> {
        self.0.flush()
    }

    fn close(self) -> Result<()> {
        self.0.close()
    }

    fn replay(dir: &Path, _setup: &Setup, mut each: impl FnMut(&[u8])) -> Result<()> {
        let is_segment = |path: &PathBuf| path.extension().is_some_and(|extension| extension == "wal");
        let mut buf = Vec::with_capacity(2 * PIECE);
        for path in host::files(dir)?.into_iter().filter(is_segment) {
            read_segment(&path, &mut buf, &mut each)?;
        }
        Ok(())
    }
}

fn number(bytes: &[u8], at: usize) -> u32 {
    u32::from_le_bytes(*bytes[at..].first_chunk().expect("a header is longer"))
}

/// Reads entries up to the first that does not prove itself.
fn read_segment(path: &Path, buf: &mut Vec<u8>, each: &mut impl FnMut(&[u8])) -> Result<()> {
    let (file, len) = (File::open(path)?, fs::metadata(path)?.len());
    let mut header = [0; FILE_HEADER as usize];
    file.read_exact_at(&mut header, 0)?;
    let salt = number(&header, 32);

    // The buffer holds the file from `offset` on; `at` is the next entry in it.
    let (mut offset, mut at) = (FILE_HEADER, 0);
    buf.clear();
    loop {
        let entry = &buf[at..];
        let payload_len = if entry.len() < ENTRY_HEADER { None } else { Some(number(entry, 24) as usize) };
        let entry_len = payload_len.map_or(ENTRY_HEADER, |len| ENTRY_HEADER + len.next_multiple_of(8));
        if entry.len() < entry_len {
            // A length is believed here before it is proved; a wrong one ends at the end of the file.
            offset += at as u64;
            buf.drain(..at);
            at = 0;
            let had = buf.len();
            let more = (len - offset - had as u64).min(PIECE as u64) as usize;
            if more == 0 {
                return Ok(());
            }
            buf.resize(had + more, 0);
            file.read_exact_at(&mut buf[had..], offset + had as u64)?;
            continue;
        }
        let seed = salt.wrapping_add(((offset + at as u64) / 8) as u32);
        let mut checked = Hasher::new_with_initial(seed);
        checked.update(&entry[..16]);
        checked.update(&entry[20..ENTRY_HEADER]);
        if checked.finalize() != number(entry, 16) {
            return Ok(());
        }
        let payload = &entry[ENTRY_HEADER..ENTRY_HEADER + payload_len.unwrap_or(0)];
        if crc32fast::hash(payload) != number(entry, 28) {
            return Err(format!("{}: damage at {}", path.display(), offset + at as u64).into());
        }
        if entry[20] <= USER_KIND_MAX {
            each(payload);
        }
        at += entry_len;
    }
}
