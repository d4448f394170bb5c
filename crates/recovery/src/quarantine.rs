//! Where damaged files go: a directory beside the segments, one for each repair, with a report for each file.
//!
//! The rule: a file is there, durably, before anything happens to the one in the log. Nothing in it is ever deleted or
//! written over; a repair that was interrupted finds what it had put there.

use std::io::ErrorKind;
use std::sync::Arc;

use braidlog_format::{BLOCK_LEN, Incarnation};
use braidlog_storage::{FileAccess, FileIo, LogDir, LogFile, write_all_at};

use crate::dir::{QUARANTINE, path_of};
use crate::patient::Patient;
use crate::window::{STREAM_LEN, Window};
use crate::{OpenQuarantine, RecoveryError};

/// Where a copy grows before it has a name.
const TEMPORARY: &str = "copy.new";

/// The quarantine of one repair.
pub(crate) struct Quarantine<'a> {
    open: &'a OpenQuarantine<'a>,
    incarnation: Incarnation,
    /// The directories that are open, by their numbers.
    dirs: Vec<(String, Arc<dyn LogDir>)>,
}

impl<'a> Quarantine<'a> {
    /// That of the repair by this opening.
    pub(crate) fn new(open: &'a OpenQuarantine<'a>, incarnation: Incarnation) -> Quarantine<'a> {
        Quarantine { open, incarnation, dirs: Vec::new() }
    }

    /// Puts a file of the log there, under its own name, with a report beside it; where that is, from the directory of
    /// the log. The file in the log stays.
    ///
    /// # Errors
    /// [`RecoveryError::Io`].
    pub(crate) fn keep(
        &mut self,
        dir: &Arc<dyn LogDir>,
        name: &str,
        report: &str,
    ) -> Result<String, RecoveryError> {
        #[cfg(braidlog_sabotage)]
        if braidlog_sabotage::is("damaged_file_kept_nowhere") {
            return Ok(format!("{}/{name}", self.directory(0)?.0));
        }
        for number in 0.. {
            let (path, to) = self.directory(number)?;
            let placed = place(dir, name, &to)?;
            if placed {
                put_report(&to, &format!("{name}.txt"), report)?;
                sync(&to)?;
                return Ok(format!("{path}/{name}"));
            }
        }
        Err(RecoveryError::io("write", name)(ErrorKind::AlreadyExists.into()))
    }

    /// The directory with this number: another one where an earlier repair left another file of the name.
    fn directory(&mut self, number: usize) -> Result<(String, Arc<dyn LogDir>), RecoveryError> {
        if let Some(known) = self.dirs.get(number) {
            return Ok(known.clone());
        }
        let path = match number {
            0 => format!("{QUARANTINE}/{}", self.incarnation),
            number => format!("{QUARANTINE}/{}-{number}", self.incarnation),
        };
        let dir = (self.open)(&path).map_err(RecoveryError::io("make", path.as_str()))?;
        self.dirs.push((path.clone(), Arc::clone(&dir)));
        Ok((path, dir))
    }
}

/// Puts the file into the directory, if there is none of that name or the very same; whether it is there.
fn place(from: &Arc<dyn LogDir>, name: &str, to: &Arc<dyn LogDir>) -> Result<bool, RecoveryError> {
    match from.link_into(name, to.path()) {
        Ok(()) => Ok(true),
        Err(error) if error.kind() == ErrorKind::AlreadyExists => is_same(from, to, name),
        Err(error) if matches!(error.kind(), ErrorKind::Unsupported | ErrorKind::CrossesDevices) => {
            match to.open(name, FileAccess::Read, FileIo::Buffered) {
                Ok(_) => is_same(from, to, name),
                Err(error) if error.kind() == ErrorKind::NotFound => copy(from, name, to).map(|()| true),
                Err(error) => Err(RecoveryError::io("open", name)(error)),
            }
        }
        Err(error) => Err(RecoveryError::io("link", name)(error)),
    }
}

/// The bytes of a file as they are on the disk, as far as they can be read.
fn open(dir: &Arc<dyn LogDir>, name: &str) -> Result<Window, RecoveryError> {
    let file = dir.open(name, FileAccess::Read, FileIo::Buffered).map_err(RecoveryError::io("open", name))?;
    Window::over(Arc::new(Patient::over(file)), name, STREAM_LEN)
}

/// Whether both files of this name have the same bytes.
fn is_same(a: &Arc<dyn LogDir>, b: &Arc<dyn LogDir>, name: &str) -> Result<bool, RecoveryError> {
    let (mut a, mut b) = (open(a, name)?, open(b, name)?);
    if a.len() != b.len() {
        return Ok(false);
    }
    let mut at = 0;
    while at < a.len() {
        let need = BLOCK_LEN.min(a.len() - at);
        a.fill(at, need)?;
        b.fill(at, need)?;
        let (x, y) = (a.at(at), b.at(at));
        let len = x.len().min(y.len());
        if len == 0 || x.get(..len) != y.get(..len) {
            return Ok(false);
        }
        at = at.saturating_add(len as u64);
    }
    Ok(true)
}

/// Copies the file, as far as it can be read.
fn copy(from: &Arc<dyn LogDir>, name: &str, to: &Arc<dyn LogDir>) -> Result<(), RecoveryError> {
    let file = create(to, TEMPORARY)?;
    let mut window = open(from, name)?;
    let mut at = 0;
    while at < window.len() {
        window.fill(at, BLOCK_LEN.min(window.len() - at))?;
        let held = window.at(at);
        if held.is_empty() {
            break;
        }
        write_all_at(&*file, held, at).map_err(RecoveryError::io("copy", name))?;
        at = at.saturating_add(held.len() as u64);
    }
    file.sync_all().map_err(RecoveryError::io("sync", name))?;
    to.rename(TEMPORARY, name, false).map_err(RecoveryError::io("rename", name))
}

/// Writes what people want to know of the file.
fn put_report(dir: &Arc<dyn LogDir>, name: &str, report: &str) -> Result<(), RecoveryError> {
    let file = create(dir, TEMPORARY)?;
    write_all_at(&*file, report.as_bytes(), 0).map_err(RecoveryError::io("write", name))?;
    file.sync_all().map_err(RecoveryError::io("sync", name))?;
    dir.rename(TEMPORARY, name, true).map_err(RecoveryError::io("rename", name))
}

/// Makes a file; one of that name that an interrupted repair left was never finished.
fn create(dir: &Arc<dyn LogDir>, name: &str) -> Result<Arc<dyn LogFile>, RecoveryError> {
    match dir.remove(name) {
        Err(error) if error.kind() != ErrorKind::NotFound => {
            return Err(RecoveryError::io("remove", name)(error));
        }
        _ => {}
    }
    dir.open(name, FileAccess::CreateNew, FileIo::Buffered).map_err(RecoveryError::io("create", name))
}

fn sync(dir: &Arc<dyn LogDir>) -> Result<(), RecoveryError> {
    #[cfg(braidlog_sabotage)]
    if braidlog_sabotage::is("quarantine_not_synced") {
        return Ok(());
    }
    dir.sync().map_err(RecoveryError::io("sync", path_of(dir)))
}
