//! The disk alone: what any log on it has to do for a commit, and how fast it takes bytes.
//!
//! The files are made as a log makes its own: those of the loop once, with zeros, and overwritten turn by turn;
//! that of the stream anew each time, with its space allocated. Where there is no direct I/O, the page cache is
//! what is measured, and it is said.

use std::fs;
use std::path::{Path, PathBuf};
use std::time::Duration;

use braidlog::storage::FileIo;
use braidlog_measure::figure::Figure;
use braidlog_measure::raw::{self, RawFile};
use serde::Serialize;

use crate::args::DurabilityArg;
use crate::failure::Failure;

/// Blocks of 4096 bytes of the loop's files: 8 MiB.
const LOOP_BLOCKS: u64 = 2048;
/// The most that the stream writes at a time.
const STREAM_BYTES_MAX: u64 = 512 << 20;

/// The raw disk, over all its turns; `None` for what was not measured.
#[derive(Clone, Copy, Default, Serialize)]
pub struct Raw {
    /// Turns per second of a write of 4096 bytes through the page cache and an `fdatasync`.
    pub loop_buffered_per_second: Option<Figure>,
    /// The same past the page cache; also `None` on a file system without direct I/O.
    pub loop_direct_per_second: Option<Figure>,
    /// Bytes per second of a stream of writes of 1 MiB, past the page cache if there is direct I/O.
    pub stream_bytes_per_second: Option<Figure>,
    /// Whether there is direct I/O.
    pub has_direct_io: bool,
}

/// The raw disk, to be measured.
pub struct Disk {
    dir: PathBuf,
    buffered: RawFile,
    direct: Option<RawFile>,
    buffered_rates: Vec<f64>,
    direct_rates: Vec<f64>,
    stream_rates: Vec<f64>,
}

impl Disk {
    /// Makes the files of the loops in `dir`.
    pub fn prepare(dir: &Path) -> Result<Disk, Failure> {
        let failed = |error| Failure::of(dir.display(), error);
        let buffered =
            RawFile::prepare(&dir.join("buffered"), FileIo::Buffered, LOOP_BLOCKS).map_err(failed)?;
        let direct = match RawFile::prepare(&dir.join("direct"), FileIo::Direct, LOOP_BLOCKS) {
            Ok(file) => Some(file),
            Err(error) if raw::is_unsupported(&error) => None,
            Err(error) => return Err(failed(error)),
        };
        Ok(Disk {
            dir: dir.to_owned(),
            buffered,
            direct,
            buffered_rates: Vec::new(),
            direct_rates: Vec::new(),
            stream_rates: Vec::new(),
        })
    }

    /// Measures for about so long what a log in this mode is held against: turns per second of the loop (the better
    /// of the two, which are measured by turns), or bytes per second of the stream.
    pub fn measure(&mut self, mode: DurabilityArg, seconds: f64, bytes_max: u64) -> Result<f64, Failure> {
        let rate = match mode {
            DurabilityArg::Async => self.stream(Duration::from_secs_f64(seconds), bytes_max),
            DurabilityArg::Group | DurabilityArg::Sync => self.turns(Duration::from_secs_f64(seconds / 2.0)),
        };
        rate.map_err(|error| Failure::of(self.dir.display(), error))
    }

    fn turns(&mut self, time: Duration) -> std::io::Result<f64> {
        let mut rate = self.buffered.turns_for(time)?.rate();
        self.buffered_rates.push(rate);
        if let Some(direct) = &mut self.direct {
            let direct_rate = direct.turns_for(time)?.rate();
            self.direct_rates.push(direct_rate);
            rate = rate.max(direct_rate);
        }
        Ok(rate)
    }

    fn stream(&mut self, time: Duration, bytes_max: u64) -> std::io::Result<f64> {
        let io = if self.direct.is_some() { FileIo::Direct } else { FileIo::Buffered };
        let path = self.dir.join("stream");
        let rate = raw::stream(&path, io, time, bytes_max.min(STREAM_BYTES_MAX));
        fs::remove_file(&path)?;
        self.stream_rates.push(*rate.as_ref().unwrap_or(&0.0));
        rate
    }

    /// What was measured so far.
    pub fn told(&self) -> Raw {
        let figure = |rates: &[f64]| (!rates.is_empty()).then(|| Figure::of(rates.iter().copied()));
        Raw {
            loop_buffered_per_second: figure(&self.buffered_rates),
            loop_direct_per_second: figure(&self.direct_rates),
            stream_bytes_per_second: figure(&self.stream_rates),
            has_direct_io: self.direct.is_some(),
        }
    }
}
