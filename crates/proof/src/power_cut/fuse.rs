//! A simulated disk, mounted: a FUSE file system on [`SimDisk`], with a switch that cuts its power.
//!
//! The kernel caches nothing of it: files are opened with direct I/O, attributes and names are good for no time,
//! there is no write-back cache. So what the disk knows is what the process has been told, operation by operation.
//!
//! # Invariants
//! 1. A cut and the image of what it leaves are one step, between two operations. No operation has an effect
//!    after it, so nothing that is acknowledged later can rest on one: all get `EIO`.
//! 2. A mount is undone when it is dropped, whatever happened.

use std::collections::HashMap;
use std::ffi::OsStr;
use std::io::{Error, ErrorKind, Result};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, UNIX_EPOCH};

use braidlog_sim::{Profile, SimDisk};
use braidlog_storage::{FileAccess, FileIo, IO_ALIGN, LogDir, LogFile, Storage, read_full_at, write_all_at};
use fuser::{
    BackgroundSession, BsdFileFlags, Config, Errno, FileAttr, FileHandle, FileType, Filesystem, FopenFlags,
    Generation, INodeNo, LockOwner, MountOption, OpenAccMode, OpenFlags, RenameFlags, ReplyAttr, ReplyCreate,
    ReplyData, ReplyDirectory, ReplyEmpty, ReplyEntry, ReplyOpen, ReplyStatfs, ReplyWrite, Request,
    TimeOrNow, WriteFlags,
};
use rustix::fs::OFlags;
use rustix::mount::{UnmountFlags, unmount};

/// What the mounts are called in the system's list.
const MOUNT_NAME: &str = "braidlog-proof";
/// Where the root of the mount lies on the disk.
const ROOT: &str = "disk";
/// How long the kernel may believe a name or an attribute.
const NO_TIME: Duration = Duration::ZERO;

/// What a cut leaves.
#[derive(Clone, Copy, Debug)]
pub(super) struct Outcome {
    /// The seed of the image.
    pub(super) seed: u64,
    /// How badly the disk behaves.
    pub(super) profile: Profile,
}

/// The changing operation, counted from when it was armed, at which the power is cut.
#[derive(Clone, Copy, Debug)]
pub(super) struct Fuse {
    /// How many changing operations come before it.
    pub(super) operation: u64,
    /// Whether it still takes effect.
    pub(super) takes_effect: bool,
}

/// A mounted disk.
#[derive(Debug)]
pub(super) struct Mounted {
    shared: Arc<Shared>,
    path: PathBuf,
    session: Option<BackgroundSession>,
}

impl Mounted {
    /// Mounts `disk` on the directory `path`. `outcome` says what a cut will leave.
    ///
    /// # Errors
    /// What the system says if there is no FUSE, or this user may not mount.
    pub(super) fn new(disk: SimDisk, path: &Path, outcome: Outcome, has_direct_io: bool) -> Result<Mounted> {
        disk.open_dir(Path::new(ROOT), true)?;
        let shared = Arc::new(Shared {
            disk,
            outcome,
            has_direct_io,
            live: Mutex::new(Live { numbers: Numbers::new(), ..Live::default() }),
        });
        let mut config = Config::default();
        config.mount_options = vec![MountOption::FSName(MOUNT_NAME.into()), MountOption::NoAtime];
        let session = fuser::spawn_mount(Mount { shared: shared.clone() }, path, &config)?;
        Ok(Mounted { shared, path: path.to_owned(), session: Some(session) })
    }

    /// Arms a fuse; `blown` is called when it blows, on the file system's thread.
    pub(super) fn arm(&self, fuse: Fuse, blown: impl FnOnce() + Send + 'static) {
        let mut live = self.shared.lock();
        live.operations = 0;
        live.fuse = Some((fuse, Box::new(blown)));
    }

    /// Cuts the power, unless it is off already.
    pub(super) fn cut(&self) {
        self.shared.cut(&mut self.shared.lock());
    }

    /// How often a file was opened for direct I/O.
    pub(super) fn direct_opens(&self) -> u64 {
        self.shared.lock().direct_opens
    }

    /// Unmounts, and gives the disk as the cut has left it.
    ///
    /// # Errors
    /// What the system says if it cannot be unmounted.
    ///
    /// # Panics
    /// If the power was not cut.
    pub(super) fn unmount(mut self) -> Result<SimDisk> {
        if let Some(session) = self.session.take() {
            session.umount_and_join()?;
        }
        let after = self.shared.lock().after.take();
        Ok(after.expect("the power was cut"))
    }
}

impl Drop for Mounted {
    fn drop(&mut self) {
        if let Some(session) = self.session.take() {
            // On the way out of a failure a process may still have files open: the mount goes all the same.
            let _ = unmount(&self.path, UnmountFlags::DETACH);
            drop(session);
        }
    }
}

/// Undoes the mounts of runs that were killed and could not do so themselves. A mount whose process is alive
/// answers, and is left alone.
///
/// # Errors
/// What the system says if its list of mounts cannot be read.
pub(super) fn sweep() -> Result<()> {
    let mounts = std::fs::read_to_string("/proc/self/mounts")?;
    let ours = mounts.lines().filter_map(|line| line.strip_prefix(MOUNT_NAME)?.split_whitespace().next());
    for path in ours.map(Path::new) {
        let is_dead = std::fs::metadata(path).is_err_and(|error| error.kind() == ErrorKind::NotConnected);
        if is_dead {
            // Another run may sweep at this moment.
            let _ = unmount(path, UnmountFlags::DETACH);
        }
    }
    Ok(())
}

#[derive(Debug)]
struct Shared {
    disk: SimDisk,
    outcome: Outcome,
    has_direct_io: bool,
    live: Mutex<Live>,
}

/// A function to be called when the power goes off.
type Blown = Box<dyn FnOnce() + Send>;

/// What changes while it is mounted.
#[derive(Default)]
struct Live {
    /// What the cut has left, once it has happened: nothing has an effect any more.
    after: Option<SimDisk>,
    fuse: Option<(Fuse, Blown)>,
    /// Changing operations since the fuse was armed.
    operations: u64,
    direct_opens: u64,
    numbers: Numbers,
    handles: HashMap<u64, Handle>,
    next_handle: u64,
}

impl std::fmt::Debug for Live {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Live").field("operations", &self.operations).finish_non_exhaustive()
    }
}

/// An open file.
#[derive(Clone, Debug)]
struct Handle {
    file: Arc<dyn LogFile>,
    is_direct: bool,
    is_synchronous: bool,
}

impl Shared {
    fn lock(&self) -> MutexGuard<'_, Live> {
        // A panic of the harness's own is reported by the harness; the mount still has to be undone.
        self.live.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn cut(&self, live: &mut Live) {
        if live.after.is_none() {
            live.after = Some(self.disk.crash_clone(self.outcome.seed, self.outcome.profile));
        }
    }

    /// Runs an operation that only looks.
    fn look<T>(&self, run: impl FnOnce(&mut Live) -> Result<T>) -> Result<T> {
        let mut live = self.lock();
        if live.after.is_some() {
            return Err(power_is_off());
        }
        run(&mut live)
    }

    /// Runs an operation that changes something; the fuse counts it.
    fn change<T>(&self, run: impl FnOnce(&mut Live) -> Result<T>) -> Result<T> {
        let mut live = self.lock();
        if live.after.is_some() {
            return Err(power_is_off());
        }
        let number = live.operations;
        live.operations += 1;
        let Some((fuse, blown)) = live.fuse.take_if(|(fuse, _)| fuse.operation == number) else {
            return run(&mut live);
        };
        if fuse.takes_effect {
            // Whether it succeeds, nobody will know.
            let _ = run(&mut live);
        }
        self.cut(&mut live);
        drop(live);
        blown();
        Err(power_is_off())
    }

    /// The directory that holds `path`, and the name of `path` in it.
    fn place<'a>(&self, path: &'a Path) -> Result<(Arc<dyn LogDir>, &'a str)> {
        let parent = path.parent().ok_or(ErrorKind::InvalidInput)?;
        let name = path.file_name().and_then(OsStr::to_str).ok_or(ErrorKind::InvalidInput)?;
        Ok((self.disk.open_dir(parent, false)?, name))
    }

    /// Whether `path` is a file, and how long; an error if there is nothing.
    fn attributes(&self, number: u64, path: &Path) -> Result<FileAttr> {
        if path == Path::new(ROOT) {
            return Ok(attributes(number, false, 0));
        }
        let (parent, name) = self.place(path)?;
        let entry = parent.list()?.into_iter().find(|entry| entry.name == name).ok_or(ErrorKind::NotFound)?;
        Ok(attributes(number, entry.is_file, entry.len))
    }

    /// Opens a file as the flags of `open` say.
    fn open(&self, live: &mut Live, path: &Path, flags: OpenFlags, is_new: bool) -> Result<FileHandle> {
        let (parent, name) = self.place(path)?;
        let bits = OFlags::from_bits_retain(flags.0 as u32);
        let is_direct = bits.contains(OFlags::DIRECT);
        if is_direct && !self.has_direct_io {
            return Err(ErrorKind::InvalidInput.into());
        }
        let access = match flags.acc_mode() {
            _ if is_new => FileAccess::CreateNew,
            OpenAccMode::O_RDONLY => FileAccess::Read,
            OpenAccMode::O_WRONLY | OpenAccMode::O_RDWR => FileAccess::Write,
        };
        // The disk takes it as buffered: the kernel has copied the bytes, and their address says nothing. What
        // else a direct file refuses is checked here.
        let file = parent.open(name, access, FileIo::Buffered)?;
        live.direct_opens += u64::from(is_direct);
        live.next_handle += 1;
        let handle = Handle { file, is_direct, is_synchronous: bits.contains(OFlags::DSYNC) };
        live.handles.insert(live.next_handle, handle);
        Ok(FileHandle(live.next_handle))
    }
}

fn power_is_off() -> Error {
    Error::other("the power is off")
}

impl Live {
    fn path(&self, number: INodeNo) -> Result<PathBuf> {
        Ok(self.numbers.paths.get(&number.0).ok_or(ErrorKind::NotFound)?.clone())
    }

    fn child(&self, parent: INodeNo, name: &OsStr) -> Result<PathBuf> {
        Ok(self.path(parent)?.join(name))
    }

    fn handle(&self, handle: FileHandle) -> Result<Handle> {
        Ok(self.handles.get(&handle.0).ok_or(ErrorKind::InvalidInput)?.clone())
    }
}

impl Handle {
    fn check_aligned(&self, offset: u64, len: usize) -> Result<()> {
        let is_aligned = offset.is_multiple_of(IO_ALIGN as u64) && len.is_multiple_of(IO_ALIGN);
        if self.is_direct && !is_aligned { Err(ErrorKind::InvalidInput.into()) } else { Ok(()) }
    }
}

/// The numbers by which the kernel knows paths. A file keeps its number when it is renamed.
#[derive(Default, Debug)]
struct Numbers {
    paths: HashMap<u64, PathBuf>,
    numbers: HashMap<PathBuf, u64>,
    last: u64,
}

impl Numbers {
    fn new() -> Numbers {
        let mut numbers = Numbers::default();
        let root = numbers.of(Path::new(ROOT));
        debug_assert_eq!(root, INodeNo::ROOT.0);
        numbers
    }

    fn of(&mut self, path: &Path) -> u64 {
        if let Some(&number) = self.numbers.get(path) {
            return number;
        }
        self.last += 1;
        self.insert(self.last, path);
        self.last
    }

    fn insert(&mut self, number: u64, path: &Path) {
        self.paths.insert(number, path.to_owned());
        self.numbers.insert(path.to_owned(), number);
    }

    fn remove(&mut self, path: &Path) -> Option<u64> {
        let number = self.numbers.remove(path)?;
        self.paths.remove(&number);
        Some(number)
    }

    fn rename(&mut self, from: &Path, to: &Path) {
        self.remove(to);
        if let Some(number) = self.remove(from) {
            self.insert(number, to);
        }
    }
}

fn attributes(number: u64, is_file: bool, len: u64) -> FileAttr {
    FileAttr {
        ino: INodeNo(number),
        size: len,
        blocks: len.div_ceil(512),
        atime: UNIX_EPOCH,
        mtime: UNIX_EPOCH,
        ctime: UNIX_EPOCH,
        crtime: UNIX_EPOCH,
        kind: if is_file { FileType::RegularFile } else { FileType::Directory },
        perm: if is_file { 0o644 } else { 0o755 },
        nlink: if is_file { 1 } else { 2 },
        uid: 0,
        gid: 0,
        rdev: 0,
        blksize: IO_ALIGN as u32,
        flags: 0,
    }
}

fn errno(error: &Error) -> Errno {
    match error.kind() {
        ErrorKind::NotFound => Errno::ENOENT,
        ErrorKind::AlreadyExists => Errno::EEXIST,
        ErrorKind::InvalidInput => Errno::EINVAL,
        ErrorKind::NotADirectory => Errno::ENOTDIR,
        ErrorKind::StorageFull => Errno::ENOSPC,
        ErrorKind::CrossesDevices => Errno::EXDEV,
        ErrorKind::Unsupported => Errno::EOPNOTSUPP,
        ErrorKind::PermissionDenied => Errno::EBADF,
        _ => Errno::EIO,
    }
}

/// The file system as the kernel sees it.
struct Mount {
    shared: Arc<Shared>,
}

/// Answers with a value, or with the error's number.
macro_rules! answer {
    ($reply:ident, $outcome:expr, $value:pat => $answer:expr) => {
        match $outcome {
            Ok($value) => $answer,
            Err(error) => $reply.error(errno(&error)),
        }
    };
}

impl Filesystem for Mount {
    fn lookup(&self, _: &Request, parent: INodeNo, name: &OsStr, reply: ReplyEntry) {
        let found = self.shared.look(|live| {
            let path = live.child(parent, name)?;
            self.shared.attributes(live.numbers.of(&path), &path)
        });
        answer!(reply, found, found => reply.entry(&NO_TIME, &found, Generation(0)));
    }

    fn getattr(&self, _: &Request, number: INodeNo, handle: Option<FileHandle>, reply: ReplyAttr) {
        let found = self.shared.look(|live| match handle {
            Some(handle) => Ok(attributes(number.0, true, live.handle(handle)?.file.len()?)),
            None => self.shared.attributes(number.0, &live.path(number)?),
        });
        answer!(reply, found, found => reply.attr(&NO_TIME, &found));
    }

    fn setattr(
        &self,
        _: &Request,
        number: INodeNo,
        _mode: Option<u32>,
        _uid: Option<u32>,
        _gid: Option<u32>,
        size: Option<u64>,
        _atime: Option<TimeOrNow>,
        _mtime: Option<TimeOrNow>,
        _ctime: Option<std::time::SystemTime>,
        handle: Option<FileHandle>,
        _crtime: Option<std::time::SystemTime>,
        _chgtime: Option<std::time::SystemTime>,
        _bkuptime: Option<std::time::SystemTime>,
        _flags: Option<BsdFileFlags>,
        reply: ReplyAttr,
    ) {
        let changed = self.shared.change(|live| {
            let file = match handle {
                Some(handle) => live.handle(handle)?.file,
                None => {
                    let path = live.path(number)?;
                    let (parent, name) = self.shared.place(&path)?;
                    parent.open(name, FileAccess::Write, FileIo::Buffered)?
                }
            };
            if let Some(size) = size {
                file.set_len(size)?;
            }
            Ok(attributes(number.0, true, file.len()?))
        });
        answer!(reply, changed, changed => reply.attr(&NO_TIME, &changed));
    }

    fn mkdir(&self, _: &Request, parent: INodeNo, name: &OsStr, _mode: u32, _umask: u32, reply: ReplyEntry) {
        let made = self.shared.change(|live| {
            let path = live.child(parent, name)?;
            self.shared.disk.open_dir(&path, true)?;
            Ok(attributes(live.numbers.of(&path), false, 0))
        });
        answer!(reply, made, made => reply.entry(&NO_TIME, &made, Generation(0)));
    }

    fn unlink(&self, _: &Request, parent: INodeNo, name: &OsStr, reply: ReplyEmpty) {
        let removed = self.shared.change(|live| {
            let path = live.child(parent, name)?;
            let (parent, name) = self.shared.place(&path)?;
            parent.remove(name)?;
            live.numbers.remove(&path);
            Ok(())
        });
        answer!(reply, removed, () => reply.ok());
    }

    fn rename(
        &self,
        _: &Request,
        parent: INodeNo,
        name: &OsStr,
        new_parent: INodeNo,
        new_name: &OsStr,
        flags: RenameFlags,
        reply: ReplyEmpty,
    ) {
        let renamed = self.shared.change(|live| {
            if parent != new_parent {
                return Err(ErrorKind::CrossesDevices.into());
            }
            if !RenameFlags::RENAME_NOREPLACE.contains(flags) {
                return Err(ErrorKind::InvalidInput.into());
            }
            let (from, to) = (live.child(parent, name)?, live.child(parent, new_name)?);
            let ((directory, name), (_, new_name)) = (self.shared.place(&from)?, self.shared.place(&to)?);
            directory.rename(name, new_name, flags.is_empty())?;
            live.numbers.rename(&from, &to);
            Ok(())
        });
        answer!(reply, renamed, () => reply.ok());
    }

    fn open(&self, _: &Request, number: INodeNo, flags: OpenFlags, reply: ReplyOpen) {
        let opened = self.shared.look(|live| {
            let path = live.path(number)?;
            self.shared.open(live, &path, flags, false)
        });
        answer!(reply, opened, handle => reply.opened(handle, FopenFlags::FOPEN_DIRECT_IO));
    }

    fn create(
        &self,
        _: &Request,
        parent: INodeNo,
        name: &OsStr,
        _mode: u32,
        _umask: u32,
        flags: i32,
        reply: ReplyCreate,
    ) {
        let created = self.shared.change(|live| {
            let path = live.child(parent, name)?;
            let handle = self.shared.open(live, &path, OpenFlags(flags), true)?;
            Ok((attributes(live.numbers.of(&path), true, 0), handle))
        });
        answer!(reply, created, (made, handle) => {
            reply.created(&NO_TIME, &made, Generation(0), handle, FopenFlags::FOPEN_DIRECT_IO);
        });
    }

    fn read(
        &self,
        _: &Request,
        _number: INodeNo,
        handle: FileHandle,
        offset: u64,
        size: u32,
        _flags: OpenFlags,
        _owner: Option<LockOwner>,
        reply: ReplyData,
    ) {
        let read = self.shared.look(|live| {
            let handle = live.handle(handle)?;
            if offset < handle.file.len()? {
                handle.check_aligned(offset, size as usize)?;
            }
            let mut bytes = vec![0; size as usize];
            let count = read_full_at(&*handle.file, &mut bytes, offset)?;
            bytes.truncate(count);
            Ok(bytes)
        });
        answer!(reply, read, bytes => reply.data(&bytes));
    }

    fn write(
        &self,
        _: &Request,
        _number: INodeNo,
        handle: FileHandle,
        offset: u64,
        data: &[u8],
        _write_flags: WriteFlags,
        _flags: OpenFlags,
        _owner: Option<LockOwner>,
        reply: ReplyWrite,
    ) {
        let written = self.shared.change(|live| {
            let handle = live.handle(handle)?;
            handle.check_aligned(offset, data.len())?;
            write_all_at(&*handle.file, data, offset)?;
            if handle.is_synchronous { handle.file.sync_data() } else { Ok(()) }
        });
        answer!(reply, written, () => reply.written(data.len() as u32));
    }

    fn flush(&self, _: &Request, _: INodeNo, _: FileHandle, _: LockOwner, reply: ReplyEmpty) {
        reply.ok();
    }

    fn release(
        &self,
        _: &Request,
        _number: INodeNo,
        handle: FileHandle,
        _flags: OpenFlags,
        _owner: Option<LockOwner>,
        _flush: bool,
        reply: ReplyEmpty,
    ) {
        // Also when the power is off: a handle is memory, not disk.
        self.shared.lock().handles.remove(&handle.0);
        reply.ok();
    }

    fn fsync(&self, _: &Request, _: INodeNo, handle: FileHandle, datasync: bool, reply: ReplyEmpty) {
        let synced = self.shared.change(|live| {
            let file = live.handle(handle)?.file;
            if datasync { file.sync_data() } else { file.sync_all() }
        });
        answer!(reply, synced, () => reply.ok());
    }

    fn readdir(&self, _: &Request, number: INodeNo, _: FileHandle, offset: u64, mut reply: ReplyDirectory) {
        let listed = self.shared.look(|live| {
            let path = live.path(number)?;
            let entries = self.shared.disk.open_dir(&path, false)?.list()?;
            let numbered = |entry: braidlog_storage::DirEntry| {
                let kind = if entry.is_file { FileType::RegularFile } else { FileType::Directory };
                (live.numbers.of(&path.join(&entry.name)), kind, entry.name)
            };
            Ok(entries.into_iter().map(numbered).collect::<Vec<_>>())
        });
        answer!(reply, listed, entries => {
            for (place, (number, kind, name)) in (1..).zip(entries).skip(offset as usize) {
                if reply.add(INodeNo(number), place, kind, name) {
                    break;
                }
            }
            reply.ok();
        });
    }

    fn fsyncdir(&self, _: &Request, number: INodeNo, _: FileHandle, _: bool, reply: ReplyEmpty) {
        let synced = self.shared.change(|live| self.shared.disk.open_dir(&live.path(number)?, false)?.sync());
        answer!(reply, synced, () => reply.ok());
    }

    fn statfs(&self, _: &Request, _: INodeNo, reply: ReplyStatfs) {
        let pages = (1 << 40) / IO_ALIGN as u64;
        reply.statfs(pages, pages, pages, 0, 0, IO_ALIGN as u32, 255, IO_ALIGN as u32);
    }

    fn fallocate(
        &self,
        _: &Request,
        _number: INodeNo,
        handle: FileHandle,
        offset: u64,
        length: u64,
        mode: i32,
        reply: ReplyEmpty,
    ) {
        let allocated = self.shared.change(|live| match mode {
            0 => live.handle(handle)?.file.allocate(offset + length),
            _ => Err(ErrorKind::Unsupported.into()),
        });
        answer!(reply, allocated, () => reply.ok());
    }
}
