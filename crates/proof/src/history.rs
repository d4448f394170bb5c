//! An application whose state is all that it was ever told: every record of a log from the first on, also those that the log
//! has given up since.
//!
//! The rule: what a checkpoint holds and what the log still has must agree. So whatever is held against the model is held
//! against checkpoints, truncations and the log at once.

use std::io::{Read, Write};

use braidlog::{
    Applied, BoxError, CheckpointReader, CheckpointWriter, Lsn, RecordRef, Restore, RestoreReport, Result,
    Wal,
};
use braidlog_sim::Stamp;

use crate::model::Seen;

/// Bytes of a record in a checkpoint.
const SEEN_LEN: usize = 34;

/// The records from LSN 1 on.
#[derive(Default, Debug)]
pub struct History {
    /// Those that it was given; the one at index 0 has LSN 1.
    pub records: Vec<Seen>,
}

impl History {
    /// What a recovery gives, and its report.
    ///
    /// # Errors
    /// Those of the recovery.
    pub fn of(wal: &Wal) -> Result<(Vec<Seen>, RestoreReport)> {
        let mut history = History::default();
        let report = wal.recover(&mut history)?;
        Ok((history.records, report))
    }

    /// Writes the state after the record with this LSN, or what changed since the base.
    ///
    /// # Errors
    /// Those of the writer.
    pub fn write(&self, lsn: Lsn, writer: &mut CheckpointWriter<'_>) -> Result<(), BoxError> {
        let from = writer.base().unwrap_or(Lsn::ZERO).0 as usize;
        for seen in &self.records[from..lsn.0 as usize] {
            writer.write_all(&encode(seen))?;
        }
        Ok(())
    }
}

impl Restore for History {
    fn restore(&mut self, part: &mut CheckpointReader<'_>) -> Result<(), BoxError> {
        match part.base() {
            None => self.records.clear(),
            Some(base) => assert_eq!(base.0, self.records.len() as u64, "I2: changes upon another state"),
        }
        let mut bytes = Vec::new();
        part.read_to_end(&mut bytes)?;
        let (whole, rest) = bytes.as_chunks::<SEEN_LEN>();
        assert!(rest.is_empty(), "I1: half a record in a checkpoint");
        for bytes in whole {
            self.records.push(decode(bytes, Lsn(self.records.len() as u64 + 1)));
        }
        assert_eq!(part.lsn().0, self.records.len() as u64, "I1: the state of another LSN");
        Ok(())
    }

    fn apply(&mut self, record: RecordRef<'_>) -> Result<Applied, BoxError> {
        let seen = Seen::new(&record);
        let index = record.lsn.0 as usize - 1;
        if let Some(known) = self.records.get(index) {
            assert_eq!(*known, seen, "I4: the record is another than a checkpoint was made of");
            return Ok(Applied::Skipped);
        }
        assert_eq!(index, self.records.len(), "I2: {seen:?} does not follow the state");
        self.records.push(seen);
        Ok(Applied::Applied)
    }
}

fn encode(seen: &Seen) -> [u8; SEEN_LEN] {
    let Seen { lsn: _, timestamp_ns, stamp, len, kind, batch_continues } = *seen;
    let mut bytes = [0; SEEN_LEN];
    bytes[..8].copy_from_slice(&timestamp_ns.to_le_bytes());
    bytes[8..12].copy_from_slice(&stamp.writer.to_le_bytes());
    bytes[12..16].copy_from_slice(&stamp.seq.to_le_bytes());
    bytes[16..20].copy_from_slice(&u32::from(stamp.index).to_le_bytes());
    bytes[20..24].copy_from_slice(&u32::from(stamp.count).to_le_bytes());
    bytes[24..28].copy_from_slice(&len.to_le_bytes());
    bytes[28..32].copy_from_slice(&u32::from(kind).to_le_bytes());
    bytes[32] = u8::from(batch_continues);
    bytes
}

fn decode(bytes: &[u8; SEEN_LEN], lsn: Lsn) -> Seen {
    let u32_at = |at: usize| u32::from_le_bytes(bytes[at..at + 4].try_into().expect("the length is right"));
    let timestamp_ns = u64::from(u32_at(0)) | u64::from(u32_at(4)) << 32;
    let stamp =
        Stamp { writer: u32_at(8), seq: u32_at(12), index: u32_at(16) as u16, count: u32_at(20) as u16 };
    let (len, kind, batch_continues) = (u32_at(24), u32_at(28) as u8, bytes[32] != 0);
    Seen { lsn, timestamp_ns, stamp, len, kind, batch_continues }
}
