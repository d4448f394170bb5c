//! Spares: files of segments that the log has given up, kept to become segments again. Their blocks are allocated and
//! written, so the new segment needs no zeros ahead of its pen, and a sync of it changes no map of the file.
//!
//! # Invariants
//! 1. A file gives its old name up, durably, before anything is written to it.
//! 2. It has no other name: a link, such as a backup's, would see its bytes change.
//! 3. It was a segment before the one under the pen. So each LSN in it, those that its marks name as the next ones too, lies
//!    below the base of every segment that it can become, and none of its entries can come back, whatever the salts are.
//! 4. At most [`SPARES_MAX`] wait. They are used before anything is allocated, and given up when space is short.

use std::io;
use std::ops::RangeInclusive;
use std::sync::Arc;

use braidlog_format::{SEGMENT_HEADER_LEN, Salt, SegmentHeader, SegmentName, block_ceil};
use braidlog_storage::{AlignedBuf, FileAccess, FileIo, LogDir, LogFile, is_no_space, read_full_at};

use crate::primitive::Mutex;
use crate::space::Prepared;

/// The most files that wait.
const SPARES_MAX: usize = 2;

/// What a file was before it was recycled.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct EarlierLife {
    pub(crate) salt: Salt,
    /// Bytes of the file: all of them were written.
    pub(crate) len: u64,
}

/// A file that waits, under a name of prepared files.
#[derive(Debug)]
struct Spare {
    name: String,
    file: Arc<dyn LogFile>,
    earlier: EarlierLife,
}

/// The files that wait.
#[derive(Debug)]
pub(crate) struct Spares {
    dir: Arc<dyn LogDir>,
    io: FileIo,
    waiting: Mutex<Vec<Spare>>,
    /// One file at a time is recycled; and whether no more are.
    ended: Mutex<bool>,
}

impl Spares {
    pub(crate) fn new(dir: Arc<dyn LogDir>, io: FileIo) -> Spares {
        Spares { dir, io, waiting: Mutex::new(Vec::new()), ended: Mutex::new(false) }
    }

    /// Makes the file of a segment, whose name says its base, a spare named `spare_name`, if one is wanted and its length is
    /// within `lens`. Says whether the segment's name is gone, durably; if not, nothing was changed.
    ///
    /// # Errors
    /// What the storage says: the name may be gone or not. An error too once the log is closed.
    pub(crate) fn recycle(
        &self,
        base: SegmentName,
        spare_name: String,
        lens: RangeInclusive<u64>,
    ) -> io::Result<bool> {
        let ended = self.ended.lock();
        if *ended {
            return Err(io::Error::other("the log is closed"));
        }
        if self.waiting.lock().len() >= SPARES_MAX {
            return Ok(false);
        }
        let name = base.to_string();
        let file = self.dir.open(&name, FileAccess::Write, self.io)?;
        let len = file.len()?;
        if !lens.contains(&len) || is_linked(&*file)? {
            return Ok(false);
        }
        let Some(salt) = salt_of(&*file, base)? else { return Ok(false) };
        self.dir.rename(&name, &spare_name, false)?;
        // From here on nobody links to it any more: a link that came before is seen now.
        let kept = self.sync_names().and_then(|()| Ok(!is_linked(&*file)?));
        match kept {
            Ok(true) => {
                let earlier = EarlierLife { salt, len };
                self.waiting.lock().push(Spare { name: spare_name, file, earlier });
                Ok(true)
            }
            other => {
                drop(file);
                self.dir.remove(&spare_name)?;
                other.map(|_| true)
            }
        }
    }

    fn sync_names(&self) -> io::Result<()> {
        #[cfg(braidlog_sabotage)]
        if braidlog_sabotage::is("old_name_not_synced_away") {
            return Ok(());
        }
        self.dir.sync()
    }

    /// A spare with `capacity` bytes allocated, or `capacity_min` where the device has no more. One that cannot have
    /// that is given up.
    pub(crate) fn take(&self, capacity: u64, capacity_min: u64) -> Option<Prepared> {
        loop {
            let spare = self.waiting.lock().pop()?;
            let at_least = |capacity: u64| {
                let capacity = capacity.max(block_ceil(spare.earlier.len));
                spare.file.allocate(capacity).map(|()| capacity)
            };
            let allocated = at_least(capacity).or_else(|error| {
                if is_no_space(&error) && capacity_min < capacity {
                    at_least(capacity_min)
                } else {
                    Err(error)
                }
            });
            match allocated {
                Ok(capacity) => {
                    let Spare { name, file, earlier } = spare;
                    return Some(Prepared { name, file, capacity, earlier: Some(earlier) });
                }
                Err(_) => self.give_up(spare),
            }
        }
    }

    /// Gives the space of all spares back to the device; says whether there were any.
    pub(crate) fn give_all_up(&self) -> bool {
        let spares = std::mem::take(&mut *self.waiting.lock());
        let were_any = !spares.is_empty();
        spares.into_iter().for_each(|spare| self.give_up(spare));
        were_any
    }

    fn give_up(&self, spare: Spare) {
        drop(spare.file);
        // What stays is removed at the next open.
        let _ = self.dir.remove(&spare.name);
    }

    /// Recycles nothing more, and waits for a file that is being recycled: soon the directory may be another's.
    pub(crate) fn end(&self) {
        *self.ended.lock() = true;
        self.give_all_up();
    }
}

fn is_linked(file: &dyn LogFile) -> io::Result<bool> {
    #[cfg(braidlog_sabotage)]
    if braidlog_sabotage::is("linked_file_recycled") {
        return Ok(false);
    }
    Ok(file.links()? > 1)
}

/// The salt of a segment; `None` if the file is not the segment that its name says.
fn salt_of(file: &dyn LogFile, name: SegmentName) -> io::Result<Option<Salt>> {
    let mut block = AlignedBuf::zeroed(SEGMENT_HEADER_LEN as usize);
    read_full_at(file, &mut block, 0)?;
    let header = block.first_chunk().and_then(|block| SegmentHeader::decode(block).ok());
    Ok(header.filter(|header| header.base == name.0).map(|header| header.salt))
}
