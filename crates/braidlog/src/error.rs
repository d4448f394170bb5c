//! The one public error: what happened, to what, and what to do about it.
//!
//! The rule: this is the only place where an inner error becomes a public one. Callers branch on
//! [`ErrorKind`], which is coarse and names an action; facts come from accessors, never from the text.

use std::error;
use std::fmt;
use std::io;
use std::path::Path;
use std::sync::Arc;

use braidlog_engine::EngineError;
use braidlog_format::{Lsn, LsnRange};
use braidlog_recovery::{
    BoxError, CheckpointError, CheckpointRefusal, RecoveryError, ReplayStopped, RestoreError, SalvageError,
    TargetError,
};
use braidlog_storage::is_no_space;

/// The result of a call of this crate.
pub type Result<T, E = Error> = std::result::Result<T, E>;

/// What the caller can do about an [`Error`].
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
#[non_exhaustive]
pub enum ErrorKind {
    /// The stripes have no room just now. Nothing was accepted: try again.
    Full,
    /// The time given was over. [`Error::is_indeterminate`] tells whether the records had been accepted.
    TimedOut,
    /// The call is wrong, and stays wrong however often it is made: fix it.
    InvalidInput,
    /// The device or the quota is full. Nothing was accepted: free space, and the log goes on by itself.
    NoSpace,
    /// Another handle or process has the directory open for writing: close that one, or open read-only.
    Locked,
    /// The log was closed. Nothing was accepted: open it again.
    Closed,
    /// A write or a sync failed, and the log acknowledges nothing more: open it again, which believes only
    /// what it reads back from the device.
    Failed,
    /// Data that had been acknowledged cannot be read back. Nothing was changed: restore or repair it.
    Damaged,
    /// The records lie before the log's start, which gave them up: start at the log's first LSN, or at a
    /// checkpoint.
    Truncated,
    /// The record was given up when the log was repaired, and [`Error::lsns`] were with it: no record has these LSNs, and
    /// none ever will. Only a backup or a replica can have what was there.
    Lost,
    /// A newer version wrote this: upgrade the program.
    Newer,
    /// This is not a log, or belongs to another one: give the right path, or move the file away.
    Foreign,
    /// The file system lacks what an option asks for: choose another value, or another file system.
    Unsupported,
    /// The operating system refused a call: see the message, mend it, and try again.
    Io,
    /// A callback of the application's own failed: see its error, which is the
    /// [source](std::error::Error::source).
    Application,
}

/// Why a call failed. Its text says what happened and what to do; [`Error::kind`] is for programs.
///
/// It is one pointer and cheap to clone, so that every waiter can have the failure that ended the log.
/// The text already holds that of [`source`](error::Error::source), which is there for its error code.
#[derive(Clone, Debug)]
pub struct Error {
    inner: Arc<Inner>,
}

#[derive(Debug)]
struct Inner {
    cause: Cause,
    /// The directory of the log, where the error is about one.
    path: Option<Arc<Path>>,
    /// The records that the failed call had handed over, and whose fate it does not know.
    accepted: Option<LsnRange>,
}

#[derive(Debug)]
enum Cause {
    Option {
        field: &'static str,
        value: String,
        limit: String,
    },
    /// A call that the state of the log does not allow, or a configuration: why, and what it may be.
    Refused(String),
    Locked,
    Open {
        operation: &'static str,
        source: io::Error,
    },
    Engine(EngineError),
    Recovery(RecoveryError),
    Checkpoint(CheckpointError),
    Restore(RestoreError),
    Salvage(SalvageError),
    /// A replay that ended early, and up to where it had applied every record.
    Replay(RestoreError, Lsn),
    /// A value that a codec does not make a payload of, or a record that it does not make a value of.
    Codec {
        lsn: Option<Lsn>,
        source: BoxError,
    },
    /// A record with a schema that its reader does not know.
    Schema {
        lsn: Lsn,
        version: u32,
        known: u32,
    },
}

impl Error {
    /// What the caller can do about it.
    pub fn kind(&self) -> ErrorKind {
        match &self.inner.cause {
            Cause::Option { .. } | Cause::Refused(_) => ErrorKind::InvalidInput,
            Cause::Codec { .. } => ErrorKind::Application,
            Cause::Schema { version, known, .. } if version > known => ErrorKind::Newer,
            Cause::Schema { .. } => ErrorKind::InvalidInput,
            Cause::Locked => ErrorKind::Locked,
            Cause::Open { source, .. } => match source.kind() {
                io::ErrorKind::NotFound | io::ErrorKind::NotADirectory => ErrorKind::Foreign,
                io::ErrorKind::InvalidInput => ErrorKind::InvalidInput,
                _ => io_kind(source),
            },
            Cause::Engine(error) => engine_kind(error),
            Cause::Recovery(error) => recovery_kind(error),
            Cause::Checkpoint(error) => match error {
                CheckpointError::Application(_) => ErrorKind::Application,
                CheckpointError::Refused(CheckpointRefusal::NoCompression) => ErrorKind::Unsupported,
                CheckpointError::Refused(_) => ErrorKind::InvalidInput,
                CheckpointError::Cancelled => ErrorKind::Closed,
                CheckpointError::Recovery(error) => recovery_kind(error),
            },
            Cause::Salvage(error) => match error {
                SalvageError::Application { .. } => ErrorKind::Application,
                SalvageError::Recovery(error) => recovery_kind(error),
            },
            Cause::Restore(error) | Cause::Replay(error, _) => match error {
                RestoreError::Application { .. } => ErrorKind::Application,
                RestoreError::TimedOut { .. } => ErrorKind::TimedOut,
                RestoreError::Recovery(error) => recovery_kind(error),
            },
        }
    }

    /// Whether the records of the failed call may have been accepted and may still be found later: neither
    /// success nor failure is known. [`Error::lsns`] names them. An append that failed any other way is
    /// absent, now and after every crash.
    pub fn is_indeterminate(&self) -> bool {
        self.inner.accepted.is_some()
    }

    /// The records that the error is about: those of an [indeterminate](Error::is_indeterminate) append, those
    /// that are damaged, or the one that the application would not take. [`Lsn::MAX`](crate::Lsn::MAX) as the last says that nobody knows where the damage
    /// ends.
    pub fn lsns(&self) -> Option<LsnRange> {
        if let Cause::Restore(RestoreError::Application { lsn: Some(lsn), .. })
        | Cause::Replay(RestoreError::Application { lsn: Some(lsn), .. }, _) = self.inner.cause
        {
            return Some(LsnRange { first: lsn, last: lsn });
        }
        if let Cause::Salvage(SalvageError::Application { lsn, .. })
        | Cause::Codec { lsn: Some(lsn), .. }
        | Cause::Schema { lsn, .. } = self.inner.cause
        {
            return Some(LsnRange { first: lsn, last: lsn });
        }
        match self.recovery_error() {
            Some(RecoveryError::Damaged(damage)) => (!damage.lsns.is_empty()).then_some(damage.lsns),
            Some(RecoveryError::Lost(loss)) => Some(loss.lsns),
            Some(RecoveryError::NoCheckpoint { log_start, .. }) => {
                Some(LsnRange { first: Lsn::FIRST, last: log_start.prev() })
            }
            _ => self.inner.accepted,
        }
    }

    /// Of a [partitioned replay](crate::Wal::replay_partitioned) that ended early: every record of its range up to here
    /// was applied.
    pub fn applied_to(&self) -> Option<Lsn> {
        if let Cause::Replay(_, applied_to) = self.inner.cause { Some(applied_to) } else { None }
    }

    /// The name of the file that the error is about, within [`Error::path`].
    pub fn segment(&self) -> Option<&str> {
        match (&self.inner.cause, self.recovery_error()) {
            (Cause::Engine(EngineError::Failed { failure, .. }), _) => Some(&failure.file),
            (_, Some(error)) => recovery_file(error),
            _ => None,
        }
    }

    /// Where in [`Error::segment`] the damage begins, in bytes.
    pub fn offset(&self) -> Option<u64> {
        match self.recovery_error() {
            Some(RecoveryError::Damaged(damage)) => Some(damage.offset),
            _ => None,
        }
    }

    /// The directory that the error is about.
    pub fn path(&self) -> Option<&Path> {
        self.inner.path.as_deref()
    }

    /// What reading the log's files came to, whoever asked for it.
    fn recovery_error(&self) -> Option<&RecoveryError> {
        match &self.inner.cause {
            Cause::Recovery(error)
            | Cause::Checkpoint(CheckpointError::Recovery(error))
            | Cause::Restore(RestoreError::Recovery(error))
            | Cause::Replay(RestoreError::Recovery(error), _)
            | Cause::Salvage(SalvageError::Recovery(error)) => Some(error),
            _ => None,
        }
    }

    /// A bad value in the options: which field, what it was, what it may be.
    pub(crate) fn option(field: &'static str, value: impl Into<String>, limit: impl Into<String>) -> Error {
        Error::new(Cause::Option { field, value: value.into(), limit: limit.into() }, None)
    }

    /// A call that the state of the log does not allow.
    pub(crate) fn refused(path: &Arc<Path>, what: String) -> Error {
        Error::new(Cause::Refused(what), Some(path))
    }

    /// A configuration that cannot be used: what in it, and why.
    #[cfg(feature = "config")]
    pub(crate) fn unfit(path: Option<&Arc<Path>>, what: String) -> Error {
        Error::new(Cause::Refused(what), path)
    }

    pub(crate) fn closed(path: &Arc<Path>) -> Error {
        Error::engine(path, EngineError::Closed)
    }

    pub(crate) fn checkpoint(path: &Arc<Path>, error: CheckpointError) -> Error {
        Error::new(Cause::Checkpoint(error), Some(path))
    }

    pub(crate) fn restore(path: &Arc<Path>, error: RestoreError) -> Error {
        Error::new(Cause::Restore(error), Some(path))
    }

    pub(crate) fn salvage(path: &Arc<Path>, error: SalvageError) -> Error {
        Error::new(Cause::Salvage(error), Some(path))
    }

    pub(crate) fn target(path: &Arc<Path>, error: TargetError) -> Error {
        match error {
            TargetError::Recovery(error) => Error::recovery(path, error),
            error => Error::refused(path, error.to_string()),
        }
    }

    pub(crate) fn replay(path: &Arc<Path>, stopped: ReplayStopped) -> Error {
        Error::new(Cause::Replay(stopped.error, stopped.applied_to), Some(path))
    }

    pub(crate) fn locked(path: &Arc<Path>) -> Error {
        Error::new(Cause::Locked, Some(path))
    }

    /// The directory could not be had: `operation` completes "cannot ...".
    pub(crate) fn open(operation: &'static str, path: &Arc<Path>, source: io::Error) -> Error {
        Error::new(Cause::Open { operation, source }, Some(path))
    }

    pub(crate) fn engine(path: &Arc<Path>, error: EngineError) -> Error {
        let accepted = match &error {
            EngineError::TimedOut { lsns } | EngineError::Failed { lsns, .. } => *lsns,
            _ => None,
        };
        Error { inner: Arc::new(Inner { cause: Cause::Engine(error), path: Some(path.clone()), accepted }) }
    }

    /// The error of a wait for records that had been accepted before: their fate is open, unless there are
    /// no such records.
    pub(crate) fn engine_after(path: &Arc<Path>, error: EngineError, accepted: LsnRange) -> Error {
        let accepted = (!matches!(error, EngineError::UnknownLsn { .. })).then_some(accepted);
        Error { inner: Arc::new(Inner { cause: Cause::Engine(error), path: Some(path.clone()), accepted }) }
    }

    #[cold]
    pub(crate) fn codec(path: &Arc<Path>, lsn: Option<Lsn>, source: BoxError) -> Error {
        Error::new(Cause::Codec { lsn, source }, Some(path))
    }

    pub(crate) fn unknown_schema(path: &Arc<Path>, lsn: Lsn, version: u32, known: u32) -> Error {
        Error::new(Cause::Schema { lsn, version, known }, Some(path))
    }

    #[cold]
    pub(crate) fn recovery(path: &Arc<Path>, error: RecoveryError) -> Error {
        Error::new(Cause::Recovery(error), Some(path))
    }

    fn new(cause: Cause, path: Option<&Arc<Path>>) -> Error {
        Error { inner: Arc::new(Inner { cause, path: path.cloned(), accepted: None }) }
    }
}

fn io_kind(error: &io::Error) -> ErrorKind {
    if is_no_space(error) { ErrorKind::NoSpace } else { ErrorKind::Io }
}

fn engine_kind(error: &EngineError) -> ErrorKind {
    match error {
        EngineError::Full => ErrorKind::Full,
        EngineError::NoSpace => ErrorKind::NoSpace,
        EngineError::TooLarge { .. }
        | EngineError::ReservedKind { .. }
        | EngineError::EmptyBatch
        | EngineError::UnknownLsn { .. } => ErrorKind::InvalidInput,
        EngineError::TimedOut { .. } => ErrorKind::TimedOut,
        EngineError::Closed => ErrorKind::Closed,
        EngineError::Failed { .. } => ErrorKind::Failed,
        EngineError::UnsupportedIo { .. } => ErrorKind::Unsupported,
        EngineError::Start { source, .. } => io_kind(source),
        _ => ErrorKind::Failed,
    }
}

fn recovery_kind(error: &RecoveryError) -> ErrorKind {
    match error {
        RecoveryError::Damaged(_) => ErrorKind::Damaged,
        RecoveryError::Newer { .. } => ErrorKind::Newer,
        RecoveryError::Foreign { .. } => ErrorKind::Foreign,
        RecoveryError::Truncated { .. } => ErrorKind::Truncated,
        RecoveryError::Lost(_) => ErrorKind::Lost,
        RecoveryError::Io { source, .. } => io_kind(source),
        RecoveryError::Compressed { .. } => ErrorKind::Unsupported,
        _ => ErrorKind::Damaged,
    }
}

fn recovery_file(error: &RecoveryError) -> Option<&str> {
    match error {
        RecoveryError::Damaged(damage) => Some(&damage.segment),
        RecoveryError::Newer { file, .. }
        | RecoveryError::Foreign { file, .. }
        | RecoveryError::Compressed { file, .. }
        | RecoveryError::Io { file, .. } => Some(file),
        _ => None,
    }
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if let Some(path) = self.path() {
            write!(f, "{}: ", path.display())?;
        }
        match &self.inner.cause {
            Cause::Option { field, value, limit } => write!(f, "option `{field}` is {value}, but {limit}"),
            Cause::Refused(what) => f.write_str(what),
            Cause::Codec { lsn: None, source } => {
                write!(f, "the value cannot be encoded: {source}: nothing was appended")
            }
            Cause::Codec { lsn: Some(lsn), source } => write!(
                f,
                "the record with LSN {lsn} is no value of the type that it is read as: {source}: give the codec and the kind \
                 that it was appended with"
            ),
            Cause::Schema { lsn, version, known } if version > known => write!(
                f,
                "the record with LSN {lsn} has version {version} of its schema, and this program knows {known}: upgrade the \
                 program"
            ),
            Cause::Schema { lsn, version, .. } => write!(
                f,
                "the record with LSN {lsn} has version {version} of its schema, and no upgrade from it was given: give one \
                 with `Schema::upgrade`"
            ),
            Cause::Locked => write!(
                f,
                "the log is open for writing elsewhere, in another process or another handle of this one: close \
                 it there, or open it read-only"
            ),
            Cause::Open { operation, source } => {
                write!(f, "cannot {operation}: {source}: {}", open_advice(source))
            }
            Cause::Engine(error) => fmt_engine(f, error, self.inner.accepted),
            Cause::Recovery(error)
            | Cause::Restore(RestoreError::Recovery(error))
            | Cause::Replay(RestoreError::Recovery(error), _)
            | Cause::Salvage(SalvageError::Recovery(error)) => {
                write!(f, "{error}: {}", recovery_advice(error))
            }
            Cause::Checkpoint(error) => write!(f, "{error}: {}", checkpoint_advice(error)),
            Cause::Restore(error @ RestoreError::Application { .. }) => {
                write!(f, "{error}: nothing was changed; mend the cause and recover a new state")
            }
            Cause::Salvage(error @ SalvageError::Application { .. }) => {
                write!(f, "{error}: the file is as it was; mend the cause and begin again")
            }
            Cause::Replay(error, applied_to) => {
                write!(
                    f,
                    "{error}: every record up to LSN {applied_to} was applied; mend the cause and replay again"
                )
            }
            Cause::Restore(error @ RestoreError::TimedOut { .. }) => {
                write!(f, "{error}: nothing is lost; give it more time, with a new state")
            }
        }
    }
}

fn open_advice(error: &io::Error) -> &'static str {
    match error.kind() {
        io::ErrorKind::PermissionDenied | io::ErrorKind::ReadOnlyFilesystem => {
            "give this user the right to write there, or choose another path"
        }
        io::ErrorKind::NotADirectory => "a log is a directory; give the path of one, or of none yet",
        io::ErrorKind::NotFound => "give the path of an existing log",
        _ if is_no_space(error) => "free space and open it again",
        _ => "nothing was changed; mend the cause and open it again",
    }
}

fn checkpoint_advice(error: &CheckpointError) -> &'static str {
    match error {
        CheckpointError::Refused(CheckpointRefusal::NoCompression) => {
            "build it with that, or take the checkpoint without compression"
        }
        CheckpointError::Refused(_) => "no checkpoint was taken",
        CheckpointError::Cancelled => "open the log again",
        CheckpointError::Recovery(RecoveryError::Io { source, .. }) if is_no_space(source) => {
            "free space and take it again; the checkpoints before it are as they were"
        }
        _ => "mend the cause and take it again; the checkpoints before it are as they were",
    }
}

fn recovery_advice(error: &RecoveryError) -> &'static str {
    if let RecoveryError::NoCheckpoint { .. } = error {
        return "restore the directory from a backup, or one of these files; or replay, with a range, what the log still \
                holds";
    }
    match recovery_kind(error) {
        ErrorKind::Unsupported => "build the program with the cargo feature `zstd`; nothing was changed",
        ErrorKind::Newer => "upgrade the program that opens it; nothing was changed",
        ErrorKind::Foreign => "give the right directory, or move the file out of it; nothing was changed",
        ErrorKind::Truncated => "read from there on, or begin with a checkpoint",
        ErrorKind::Lost => "a backup or a replica may have them",
        ErrorKind::NoSpace => "free space and open it again; nothing was lost",
        ErrorKind::Io => "mend the cause and open it again; nothing was lost",
        _ => "restore it from a backup or a replica, or repair it; nothing was changed",
    }
}

fn fmt_engine(f: &mut fmt::Formatter<'_>, error: &EngineError, accepted: Option<LsnRange>) -> fmt::Result {
    match error {
        EngineError::Full => {
            write!(f, "the stripes are full and nothing was accepted: try again, or call one that waits")
        }
        EngineError::NoSpace => {
            write!(
                f,
                "the device is full and nothing was accepted: free space, and the log goes on by itself"
            )
        }
        EngineError::TooLarge { len, max } => write!(
            f,
            "a record of {len} bytes is larger than `max_record_bytes`, which is {max}: split it, or open the \
             log with a larger limit"
        ),
        EngineError::ReservedKind { kind } => {
            write!(f, "kind {kind} belongs to the log: use one of 0 to 239")
        }
        EngineError::EmptyBatch => write!(f, "the batch holds no record: push one, or do not commit it"),
        EngineError::UnknownLsn { lsn, last } => write!(
            f,
            "LSN {lsn} has not been given to any record (the last is {last}): wait for one that an append \
             returned"
        ),
        EngineError::Closed => write!(f, "the log is closed and nothing was accepted: open it again"),
        EngineError::UnsupportedIo { what, source } => write!(
            f,
            "the file system lacks {what}, which an option asks for ({source}): set `io_mode` and `sync_method` \
             to their defaults, or use another file system"
        ),
        EngineError::Start { what, source } => {
            write!(f, "cannot {what}: {source}: {}", open_advice(source))
        }
        EngineError::TimedOut { .. } => match accepted {
            Some(lsns) => write!(
                f,
                "the time was over before LSN {lsns} was known to be durable: it is in the log and may still \
                 become durable, so do not append it again; wait for LSN {} or look after the next open",
                lsns.last
            ),
            None => write!(f, "the time was over before there was room, and nothing was accepted: try again"),
        },
        EngineError::Failed { failure, .. } => {
            write!(f, "the log failed ({failure}) and acknowledges nothing more: ")?;
            match accepted {
                Some(lsns) => write!(
                    f,
                    "LSN {lsns} may or may not be durable; open the log again and look whether it is there"
                ),
                None => write!(f, "open the log again"),
            }
        }
        other => write!(f, "{other}: open the log again"),
    }
}

impl error::Error for Error {
    fn source(&self) -> Option<&(dyn error::Error + 'static)> {
        match &self.inner.cause {
            Cause::Open { source, .. } => Some(source),
            Cause::Codec { source, .. }
            | Cause::Checkpoint(CheckpointError::Application(source))
            | Cause::Restore(RestoreError::Application { source, .. })
            | Cause::Replay(RestoreError::Application { source, .. }, _)
            | Cause::Salvage(SalvageError::Application { source, .. }) => Some(&**source),
            Cause::Recovery(RecoveryError::Io { source, .. })
            | Cause::Checkpoint(CheckpointError::Recovery(RecoveryError::Io { source, .. }))
            | Cause::Restore(RestoreError::Recovery(RecoveryError::Io { source, .. }))
            | Cause::Replay(RestoreError::Recovery(RecoveryError::Io { source, .. }), _)
            | Cause::Salvage(SalvageError::Recovery(RecoveryError::Io { source, .. })) => Some(source),
            Cause::Engine(EngineError::Failed { failure, .. }) => Some(&*failure.error),
            Cause::Engine(EngineError::UnsupportedIo { source, .. } | EngineError::Start { source, .. }) => {
                Some(&**source)
            }
            _ => None,
        }
    }
}

/// A failed append that hands its payload back.
///
/// `?` turns it into [`Error`] where the payload is not wanted.
///
/// Before the payload is appended again, ask [`Error::is_indeterminate`]: if it is, the record may be in the
/// log already.
pub struct AppendError<P> {
    error: Error,
    payload: P,
}

impl<P> AppendError<P> {
    pub(crate) fn new(error: Error, payload: P) -> AppendError<P> {
        AppendError { error, payload }
    }

    /// Why the append failed.
    pub fn error(&self) -> &Error {
        &self.error
    }

    /// The payload, as it was given.
    pub fn into_payload(self) -> P {
        self.payload
    }

    /// The error and the payload.
    pub fn into_parts(self) -> (Error, P) {
        (self.error, self.payload)
    }
}

impl<P> From<AppendError<P>> for Error {
    fn from(failed: AppendError<P>) -> Error {
        failed.error
    }
}

// By hand, as payloads need not be `Debug` and are rarely worth printing.
impl<P> fmt::Debug for AppendError<P> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("AppendError").field("error", &self.error).finish_non_exhaustive()
    }
}

impl<P> fmt::Display for AppendError<P> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(&self.error, f)
    }
}

impl<P> error::Error for AppendError<P> {
    fn source(&self) -> Option<&(dyn error::Error + 'static)> {
        error::Error::source(&self.error)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn path() -> Arc<Path> {
        Path::new("some/log").into()
    }

    #[test]
    fn each_message_names_the_thing_and_what_to_do() {
        let lsns = LsnRange { first: Lsn(3), last: Lsn(5) };
        let io = |kind: io::ErrorKind| Arc::new(io::Error::from(kind));
        for (error, kind, words) in [
            (EngineError::Full, ErrorKind::Full, vec!["try again"]),
            (EngineError::NoSpace, ErrorKind::NoSpace, vec!["free space"]),
            (EngineError::TooLarge { len: 9, max: 8 }, ErrorKind::InvalidInput, vec!["9", "8", "split"]),
            (EngineError::ReservedKind { kind: 240 }, ErrorKind::InvalidInput, vec!["240", "0 to 239"]),
            (EngineError::EmptyBatch, ErrorKind::InvalidInput, vec!["push one"]),
            (EngineError::TimedOut { lsns: None }, ErrorKind::TimedOut, vec!["nothing was accepted"]),
            (EngineError::TimedOut { lsns: Some(lsns) }, ErrorKind::TimedOut, vec!["3..=5", "do not append"]),
            (EngineError::Closed, ErrorKind::Closed, vec!["open it again"]),
            (
                EngineError::UnsupportedIo { what: "O_DIRECT", source: io(io::ErrorKind::InvalidInput) },
                ErrorKind::Unsupported,
                vec!["O_DIRECT", "io_mode"],
            ),
            (
                EngineError::UnknownLsn { lsn: Lsn(9), last: Lsn(2) },
                ErrorKind::InvalidInput,
                vec!["9", "2", "append"],
            ),
        ] {
            let error = Error::engine(&path(), error);
            let text = error.to_string();
            assert_eq!(error.kind(), kind, "{text}");
            assert!(text.starts_with("some/log: "), "{text}");
            assert!(words.iter().all(|word| text.contains(word)), "{text}");
        }
    }

    #[test]
    fn only_accepted_records_make_an_error_indeterminate() {
        let lsns = LsnRange { first: Lsn(3), last: Lsn(5) };
        let none = Error::engine(&path(), EngineError::TimedOut { lsns: None });
        assert!(!none.is_indeterminate());
        assert_eq!(none.lsns(), None);
        let some = Error::engine(&path(), EngineError::TimedOut { lsns: Some(lsns) });
        assert!(some.is_indeterminate());
        assert_eq!(some.lsns(), Some(lsns));
        let waited = Error::engine_after(&path(), EngineError::TimedOut { lsns: None }, lsns);
        assert_eq!((waited.is_indeterminate(), waited.lsns()), (true, Some(lsns)));
    }

    #[test]
    fn an_error_is_one_pointer_and_goes_everywhere() {
        fn everywhere<T: Send + Sync + Clone + error::Error + 'static>() {}
        everywhere::<Error>();
        assert_eq!(size_of::<Error>(), size_of::<usize>());
    }
}
