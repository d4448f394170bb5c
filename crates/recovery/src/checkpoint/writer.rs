//! A checkpoint under way: the state as it comes, cut into chunks.
//!
//! The rule: the first failure is the last word. Whoever fills the writer may overlook an error that it gave; the
//! checkpoint fails all the same.

use std::io::{self, Write};

use braidlog_format::{
    CHECKPOINT_CHUNK_MAX, CHECKPOINT_DATA, CHECKPOINT_HEAD, COMPRESSION_FIELDS_LEN, CheckpointHead, Flags,
    Lsn, ZSTD, compression_fields,
};

use crate::RecoveryError;
use crate::compression;
use crate::stream::{StreamFinished, StreamWriter};

/// Takes a state: in order, through [`io::Write`]. It holds one chunk of 1 MiB, two if they are compressed, beside a
/// buffer of 2 MiB.
pub struct CheckpointWriter<'a> {
    stream: StreamWriter,
    /// What will be the next chunk.
    chunk: Vec<u8>,
    base: Option<Lsn>,
    compress: bool,
    is_cancelled: &'a dyn Fn() -> bool,
    failure: Option<Failure>,
    state_bytes: u64,
}

/// Why a checkpoint cannot be finished.
#[derive(Debug)]
pub(crate) enum Failure {
    Cancelled,
    Recovery(RecoveryError),
}

impl<'a> CheckpointWriter<'a> {
    pub(crate) fn begin(
        mut stream: StreamWriter,
        head: &CheckpointHead,
        base: Option<Lsn>,
        compress: bool,
        is_cancelled: &'a dyn Fn() -> bool,
    ) -> Result<CheckpointWriter<'a>, RecoveryError> {
        stream.put(CHECKPOINT_HEAD, Flags::NONE, &[&head.encode()])?;
        let chunk = Vec::with_capacity(CHECKPOINT_CHUNK_MAX);
        Ok(CheckpointWriter { stream, chunk, base, compress, is_cancelled, failure: None, state_bytes: 0 })
    }

    /// The LSN up to which the state is known already: `Some` asks for no more than what has changed since then (and
    /// for anything that was not complete then), `None` for all of it.
    pub fn base(&self) -> Option<Lsn> {
        self.base
    }

    /// Bytes of state that were taken until now.
    pub fn state_bytes(&self) -> u64 {
        self.state_bytes
    }

    /// What keeps the checkpoint from being finished.
    pub(crate) fn take_failure(&mut self) -> Option<Failure> {
        self.failure.take()
    }

    /// Writes the rest and gives the file its name.
    pub(crate) fn finish(mut self, name: &str) -> Result<StreamFinished, RecoveryError> {
        self.put_chunk()?;
        self.stream.finish(name, false)
    }

    fn put_chunk(&mut self) -> Result<(), RecoveryError> {
        if self.chunk.is_empty() {
            return Ok(());
        }
        let packed = if self.compress {
            compression::compress(&self.chunk, COMPRESSION_FIELDS_LEN)
                .map_err(RecoveryError::io("compress", "a chunk of a checkpoint"))?
        } else {
            None
        };
        match packed {
            Some(packed) => {
                let plain_len = u32::try_from(self.chunk.len()).unwrap_or(u32::MAX);
                let flags = Flags::EXTENDED.with(Flags::COMPRESSED);
                let fields = compression_fields(ZSTD, plain_len);
                self.stream.put(CHECKPOINT_DATA, flags, &[&fields, &packed])?;
            }
            None => self.stream.put(CHECKPOINT_DATA, Flags::NONE, &[&self.chunk])?,
        }
        self.chunk.clear();
        Ok(())
    }

    /// Remembers a failure, and makes of it what the caller of `write` gets.
    fn fail(&mut self, failure: Failure) -> io::Error {
        let told = match &failure {
            Failure::Cancelled => io::Error::other(Cancelled),
            Failure::Recovery(RecoveryError::Io { source, .. }) => {
                io::Error::new(source.kind(), source.to_string())
            }
            Failure::Recovery(error) => io::Error::other(error.to_string()),
        };
        self.failure = Some(failure);
        told
    }
}

/// What the writer says when the log is being closed.
#[derive(Clone, Copy, Debug, thiserror::Error)]
#[error("the log is being closed, and the checkpoint given up")]
struct Cancelled;

impl Write for CheckpointWriter<'_> {
    fn write(&mut self, buf: &[u8]) -> io::Result<usize> {
        if self.failure.is_some() {
            return Err(io::Error::other("the checkpoint failed before"));
        }
        if (self.is_cancelled)() {
            return Err(self.fail(Failure::Cancelled));
        }
        let room = CHECKPOINT_CHUNK_MAX.saturating_sub(self.chunk.len());
        let taken = buf.get(..room).unwrap_or(buf);
        self.chunk.extend_from_slice(taken);
        if self.chunk.len() >= CHECKPOINT_CHUNK_MAX
            && let Err(error) = self.put_chunk()
        {
            return Err(self.fail(Failure::Recovery(error)));
        }
        self.state_bytes = self.state_bytes.saturating_add(taken.len() as u64);
        Ok(taken.len())
    }

    /// Does nothing: chunks are cut by size, and made durable together.
    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

impl std::fmt::Debug for CheckpointWriter<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("CheckpointWriter")
            .field("base", &self.base)
            .field("state_bytes", &self.state_bytes)
            .finish_non_exhaustive()
    }
}
