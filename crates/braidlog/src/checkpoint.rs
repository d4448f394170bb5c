//! Checkpoints as calls of the handle: saving a state of the application beside the log.
//!
//! The rule: no checkpoint holds more than is durable, so that no state is restored that the log then denies.

use braidlog_format::Lsn;
use braidlog_recovery::{BoxError, CheckpointInfo, CheckpointOrder, CheckpointWriter, Manifest};

use crate::{Error, ReadOnly, Result, Wal};

/// Which checkpoint [`Wal::checkpoint_with`] takes.
///
/// ```
/// use std::io::Write;
///
/// use braidlog::{Checkpoint, Wal};
/// # let dir = tempfile::tempdir()?;
/// # let path = dir.path().join("wal");
/// let wal = Wal::options().open(path)?;
/// let lsn = wal.append(b"x = 1")?;
/// let info = wal.checkpoint_with(Checkpoint::at(lsn).incremental(), |writer| {
///     match writer.base() {
///         None => writer.write_all(b"all of the state")?,
///         Some(base) => writeln!(writer, "what changed since LSN {base}")?,
///     }
///     Ok(())
/// })?;
/// assert_eq!(info.lsn, lsn);
/// assert_eq!(wal.checkpoints(), [info]);
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[must_use = "it says which checkpoint is wanted, and takes none"]
pub struct Checkpoint {
    lsn: Lsn,
    replay_from: Lsn,
    incremental: bool,
    compress: bool,
}

impl Checkpoint {
    /// Of the state after the record with this LSN; [`Lsn::ZERO`] for the state before the first one.
    pub fn at(lsn: Lsn) -> Checkpoint {
        // The last LSN has no next one, and no record.
        let replay_from = Lsn(lsn.0.saturating_add(1));
        Checkpoint { lsn, replay_from, incremental: false, compress: false }
    }

    /// While transactions are open: the LSN at which the oldest of them began. Replay starts there, and the log is kept
    /// from there on. A recovery hands the records up to the checkpoint's LSN over again.
    pub fn replay_from(self, lsn: Lsn) -> Checkpoint {
        Checkpoint { replay_from: lsn, ..self }
    }

    /// Of the changes since the checkpoint before, if there is one to rest on that can be read. The log decides:
    /// [`CheckpointWriter::base`] says what to write. After
    /// [`checkpoint_chain_max`](crate::Options#structfield.checkpoint_chain_max) of them the next one holds all of the
    /// state.
    pub fn incremental(self) -> Checkpoint {
        Checkpoint { incremental: true, ..self }
    }

    /// With zstd; needs the cargo feature `zstd`, for reading it back too.
    pub fn compress(self) -> Checkpoint {
        Checkpoint { compress: true, ..self }
    }
}

/// # Checkpoints
impl Wal {
    /// Saves the state of the application, which `fill` writes, as it is after the record with this LSN: waits until
    /// that is durable, then writes and syncs a file of its own, and names it. Returns when the checkpoint is durable.
    /// From then on [`Wal::recover`] begins with it, and the log need not go back further. The last checkpoints are kept
    /// beside it.
    ///
    /// Who saves the state elsewhere, durably, takes a checkpoint without content: `|_| Ok(())`.
    ///
    /// Appends go on meanwhile; the state must be that of exactly this LSN, which may lie within a batch: the rest of it is
    /// replayed. One checkpoint is taken at a time, a second
    /// call waits.
    ///
    /// # Errors
    /// [`Application`](crate::ErrorKind::Application) with the error of `fill`;
    /// [`InvalidInput`](crate::ErrorKind::InvalidInput) for an LSN that no append has returned yet, or below that of the
    /// newest checkpoint; [`Closed`](crate::ErrorKind::Closed), also if the log is closed meanwhile;
    /// [`Failed`](crate::ErrorKind::Failed) if the log failed before the LSN was durable; [`Io`](crate::ErrorKind::Io)
    /// and [`NoSpace`](crate::ErrorKind::NoSpace). The checkpoints that there were stay as they are. If `fill` panics,
    /// the same holds.
    pub fn checkpoint(
        &self,
        lsn: Lsn,
        fill: impl FnOnce(&mut CheckpointWriter<'_>) -> Result<(), BoxError>,
    ) -> Result<CheckpointInfo> {
        self.checkpoint_with(Checkpoint::at(lsn), fill)
    }

    /// As [`Wal::checkpoint`]: of changes only, compressed, or while transactions are open.
    ///
    /// # Errors
    /// As [`Wal::checkpoint`]; [`InvalidInput`](crate::ErrorKind::InvalidInput) for a replay that would begin behind
    /// `lsn + 1` or before [`Wal::first_lsn`]; [`Unsupported`](crate::ErrorKind::Unsupported) for compression that is
    /// not built in.
    pub fn checkpoint_with(
        &self,
        checkpoint: Checkpoint,
        fill: impl FnOnce(&mut CheckpointWriter<'_>) -> Result<(), BoxError>,
    ) -> Result<CheckpointInfo> {
        let log = &self.log;
        let Checkpoint { lsn, replay_from, incremental, compress } = checkpoint;
        let inside = log.enter()?;
        if lsn > self.durable_lsn() {
            self.wait_durable(lsn)?;
        }
        let order = CheckpointOrder {
            lsn,
            durable: self.durable_lsn(),
            replay_from,
            incremental,
            compress,
            deltas_max: log.checkpoint_chain_max,
            chains_kept: log.checkpoints_kept,
        };
        let taken = log.checkpoints.write(&order, &|| log.gate.is_closing(), fill);
        drop(inside);
        let info = taken.map_err(|error| Error::checkpoint(&log.path, error))?;
        log.upkeep.checkpoint_taken(lsn);
        Ok(info)
    }

    /// The checkpoints that are kept, oldest first.
    pub fn checkpoints(&self) -> Vec<CheckpointInfo> {
        self.log.checkpoints.list()
    }
}

/// # Checkpoints
impl ReadOnly {
    /// The checkpoints that are kept, oldest first.
    ///
    /// # Errors
    /// [`Damaged`](crate::ErrorKind::Damaged) and [`Newer`](crate::ErrorKind::Newer) for the log's manifest;
    /// [`Io`](crate::ErrorKind::Io) from the system.
    pub fn checkpoints(&self) -> Result<Vec<CheckpointInfo>> {
        let manifest = Manifest::load(&self.dir).map_err(|error| Error::recovery(&self.path, error))?;
        Ok(CheckpointInfo::all(&manifest))
    }
}
