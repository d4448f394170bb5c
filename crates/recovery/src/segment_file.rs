//! The file of a segment, packed or not: the one place where its name is turned into bytes.
//!
//! The rule: what is not packed wins. A packed file gets its name when it was compared with the other, and only then does
//! that one go; where both are, a crash came between, and nobody need ask what the second is worth. So who finds
//! `<base>.wal` gone finds `<base>.walz`, unless the log has given the segment up.

use std::io::{self, ErrorKind};
use std::sync::Arc;

use braidlog_format::{Lsn, PackedName, SegmentName};
use braidlog_storage::{FileAccess, FileIo, LogDir, LogFile};

use crate::RecoveryError;
use crate::packed_file::{CannotUnpack, PackedFile};

/// A file that is open for reading.
#[derive(Debug)]
pub(crate) struct Opened {
    /// Its bytes; those of a packed segment as they were before.
    pub(crate) file: Arc<dyn LogFile>,
    /// The same, if it is a packed segment.
    pub(crate) packed: Option<Arc<PackedFile>>,
    /// The name under which it was found.
    pub(crate) name: String,
}

impl Opened {
    /// The packed segment with this base in the file of this name.
    pub(crate) fn packed(file: Arc<dyn LogFile>, name: &str, base: Lsn) -> Result<Opened, RecoveryError> {
        let packed = Arc::new(PackedFile::open(file, name, base)?);
        let file = Arc::clone(&packed) as Arc<dyn LogFile>;
        Ok(Opened { file, packed: Some(packed), name: name.to_owned() })
    }
}

/// Opens the file of this name; of a segment, under whichever of its names it is there.
pub(crate) fn open(dir: &Arc<dyn LogDir>, name: &str, io: FileIo) -> Result<Opened, RecoveryError> {
    match base_of(name) {
        Some(base) => open_segment(dir, base, io),
        None => open_as_it_is(dir, name, io),
    }
}

/// Opens the file of this name, and takes it for nothing but bytes.
pub(crate) fn open_as_it_is(dir: &Arc<dyn LogDir>, name: &str, io: FileIo) -> Result<Opened, RecoveryError> {
    let file = dir.open(name, FileAccess::Read, io).map_err(RecoveryError::io("open", name))?;
    Ok(Opened { file, packed: None, name: name.to_owned() })
}

fn open_segment(dir: &Arc<dyn LogDir>, base: Lsn, io: FileIo) -> Result<Opened, RecoveryError> {
    match open_as_it_is(dir, &SegmentName(base).to_string(), io) {
        Err(RecoveryError::Io { operation, file, source }) if source.kind() == ErrorKind::NotFound => {
            let name = PackedName(base).to_string();
            let packed = match dir.open(&name, FileAccess::Read, io) {
                Ok(packed) => packed,
                // What is missing is called by the name that it should have.
                Err(error) if error.kind() == ErrorKind::NotFound => {
                    return Err(RecoveryError::Io { operation, file, source });
                }
                Err(error) => return Err(RecoveryError::io("open", name)(error)),
            };
            Opened::packed(packed, &name, base)
        }
        opened => opened,
    }
}

/// The base LSN that the name of a segment's file says.
pub(crate) fn base_of(name: &str) -> Option<Lsn> {
    let plain = SegmentName::parse(name).map(|SegmentName(base)| base);
    plain.or_else(|| PackedName::parse(name).map(|PackedName(base)| base))
}

/// What it means that the file of this name could not be read.
pub(crate) fn read_error(name: &str) -> impl FnOnce(io::Error) -> RecoveryError {
    let name = name.to_owned();
    move |error| match error.get_ref().and_then(|inside| inside.downcast_ref::<CannotUnpack>()) {
        Some(&CannotUnpack { algorithm }) => RecoveryError::Compressed { file: name, algorithm },
        None => RecoveryError::io("read", name)(error),
    }
}
