//! Records from a time on.

use std::path::Path;
use std::sync::Arc;
use std::time::SystemTime;

use braidlog_format::Lsn;
use braidlog_recovery::{LogReader, timestamp_ns};

use crate::{Error, ErrorKind, ReadOnly, Records, Result, Wal};

impl Wal {
    /// The durable records whose [timestamp](crate::Record::timestamp_ns) is `time` or later. A record has the time at which
    /// its round was written, shortly after its append; it never decreases along the log, even where the clock was set
    /// back, and all records of a batch have the same. Finding the first one costs some small reads, however long the
    /// log is.
    ///
    /// ```
    /// use std::time::{Duration, SystemTime};
    /// # let dir = tempfile::tempdir()?;
    /// # let wal = braidlog::Wal::options().open(dir.path())?;
    /// # wal.append(b"payload")?;
    /// let hour = Duration::from_secs(3600);
    /// assert_eq!(wal.iter_since(SystemTime::now() - hour)?.count(), 1);
    /// assert_eq!(wal.iter_since(SystemTime::now() + hour)?.count(), 0);
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    ///
    /// # Errors
    /// [`Closed`](crate::ErrorKind::Closed); [`Io`](crate::ErrorKind::Io) from the system;
    /// [`Damaged`](crate::ErrorKind::Damaged) if the header of a segment cannot be read; while reading, as
    /// [`Records::next_ref`].
    pub fn iter_since(&self, time: SystemTime) -> Result<Records> {
        self.log.check_open()?;
        since(&self.log.reader, &self.log.path, time, self.durable_lsn())
    }
}

impl ReadOnly {
    /// The records that can be read now whose timestamp is `time` or later, as [`Wal::iter_since`] finds them.
    ///
    /// # Errors
    /// As [`Wal::iter_since`] and [`ReadOnly::iter`].
    pub fn iter_since(&self, time: SystemTime) -> Result<Records> {
        since(&self.reader, &self.path, time, self.last_lsn()?)
    }
}

fn since(reader: &LogReader, path: &Arc<Path>, time: SystemTime, visible: Lsn) -> Result<Records> {
    loop {
        let first = reader.first_since(timestamp_ns(time), visible);
        let first = first.map_err(|error| Error::recovery(path, error))?;
        match Records::open(reader, path, first.., visible) {
            // The log was truncated just now: it starts later than it did.
            Err(error) if error.kind() == ErrorKind::Truncated => {}
            opened => return opened,
        }
    }
}
