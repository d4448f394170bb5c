//! What the records of a soak lead to: for each writer how many records it has appended, and a digest of them.
//!
//! The rule: a record is its writer's next one or nothing at all; a gap, a record that comes twice and another content
//! are refused where they come.

use std::io::{Read, Write};

use braidlog::{Applied, BoxError, CheckpointReader, CheckpointWriter, Lsn, RecordRef, Restore};

/// How many threads write.
pub(super) const WRITERS: usize = 16;
/// Bytes of a record before its filling.
const HEAD_LEN: usize = 9;

/// One writer's records.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
struct Line {
    /// How many.
    count: u64,
    digest: u64,
    /// The LSN of the last.
    last: Lsn,
}

/// All writers' records, up to an LSN.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub(super) struct Ledger {
    lines: [Line; WRITERS],
    lsn: Lsn,
}

/// The record with this number, from 1, of a writer.
pub(super) fn record(writer: usize, number: u64) -> Vec<u8> {
    let mut bytes = vec![writer as u8];
    bytes.extend(number.to_le_bytes());
    let mut word = mix(number ^ ((writer as u64) << 56));
    // 0 to 255 bytes of filling.
    for _ in 0..word % 32 * 8 + word % 7 {
        word = mix(word);
        bytes.push(word as u8);
    }
    bytes
}

/// What the digests must be, from the records as they were meant. It goes on from the last one that was asked for.
#[derive(Debug, Default)]
pub(super) struct Expected([(u64, u64); WRITERS]);

impl Expected {
    /// The digest of a writer's first `count` records.
    fn digest(&mut self, writer: usize, count: u64) -> u64 {
        let (known, so_far) = &mut self.0[writer];
        if count < *known {
            (*known, *so_far) = (0, 0);
        }
        while *known < count {
            *known += 1;
            *so_far = digest(*so_far, &record(writer, *known));
        }
        *so_far
    }
}

fn digest(before: u64, bytes: &[u8]) -> u64 {
    bytes.iter().fold(before, |digest, &byte| mix(digest ^ u64::from(byte)))
}

impl Ledger {
    /// The last record that is in it.
    pub(super) fn lsn(&self) -> Lsn {
        self.lsn
    }

    /// How many records of the writer are in it.
    pub(super) fn count(&self, writer: usize) -> u64 {
        self.lines[writer].count
    }

    /// Takes the next record of a writer.
    pub(super) fn push(&mut self, writer: usize, bytes: &[u8], lsn: Lsn) {
        let line = &mut self.lines[writer];
        line.count += 1;
        line.digest = digest(line.digest, bytes);
        line.last = lsn;
        self.lsn = lsn;
    }

    /// Checks that everything is in it of which a writer was told that it is durable, and nothing that none has begun.
    pub(super) fn check_counts(&self, whose: &str, acked: &[u64; WRITERS], begun: &[u64; WRITERS]) {
        for (writer, line) in self.lines.iter().enumerate() {
            let (count, acked, begun) = (line.count, acked[writer], begun[writer]);
            assert!(count >= acked, "{whose} has {count} records of writer {writer}, {acked} were durable");
            assert!(count <= begun, "{whose} has {count} records of writer {writer}, who began {begun}");
        }
    }

    /// Checks what the records were.
    pub(super) fn check_digests(&self, whose: &str, expected: &mut Expected) {
        for (writer, line) in self.lines.iter().enumerate() {
            let expected = expected.digest(writer, line.count);
            assert_eq!(line.digest, expected, "{whose}: the records of writer {writer}");
        }
    }

    /// Writes all of it, or what changed behind an LSN.
    pub(super) fn save(&self, writer: &mut CheckpointWriter<'_>) -> Result<(), BoxError> {
        let since = writer.base();
        for (index, line) in self.lines.iter().enumerate() {
            if since.is_none_or(|since| line.last > since) {
                writer.write_all(&[index as u8])?;
                for number in [line.count, line.digest, line.last.0] {
                    writer.write_all(&number.to_le_bytes())?;
                }
            }
        }
        Ok(())
    }
}

impl Restore for Ledger {
    fn restore(&mut self, part: &mut CheckpointReader<'_>) -> Result<(), BoxError> {
        if part.base().is_none() {
            *self = Ledger::default();
        }
        let mut bytes = Vec::new();
        part.read_to_end(&mut bytes)?;
        let mut lines = bytes.chunks_exact(25);
        for line in &mut lines {
            let number = |at: usize| u64::from_le_bytes(line[at..at + 8].try_into().expect("eight bytes"));
            self.lines[usize::from(line[0])] =
                Line { count: number(1), digest: number(9), last: Lsn(number(17)) };
        }
        assert!(lines.remainder().is_empty(), "a checkpoint has whole lines");
        self.lsn = part.lsn();
        Ok(())
    }

    fn apply(&mut self, record_ref: RecordRef<'_>) -> Result<Applied, BoxError> {
        // The log is kept from a little before the checkpoint on, as for an open transaction.
        if record_ref.lsn <= self.lsn {
            return Ok(Applied::Skipped);
        }
        if record_ref.lsn != self.lsn.next() {
            return Err(format!("LSN {} comes after {}", record_ref.lsn, self.lsn).into());
        }
        let payload = record_ref.payload;
        let writer = usize::from(*payload.first().ok_or("an empty record")?);
        if writer >= WRITERS || payload.len() < HEAD_LEN {
            return Err("no record of ours".into());
        }
        let number = self.lines[writer].count + 1;
        if payload != record(writer, number) {
            return Err(format!("not the record {number} of writer {writer}").into());
        }
        self.push(writer, payload, record_ref.lsn);
        Ok(Applied::Applied)
    }
}

/// One step of SplitMix64 (Steele, Lea, Flood: "Fast splittable pseudorandom number generators", 2014).
fn mix(word: u64) -> u64 {
    let word = word.wrapping_add(0x9E37_79B9_7F4A_7C15);
    let word = (word ^ (word >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
    let word = (word ^ (word >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
    word ^ (word >> 31)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ledger_tells_what_is_missing_and_what_nobody_wrote() {
        let mut ledger = Ledger::default();
        for number in 1..=3 {
            ledger.push(2, &record(2, number), Lsn(number));
        }
        let of = |count| {
            let mut counts = [0; WRITERS];
            counts[2] = count;
            counts
        };
        ledger.check_counts("it", &of(3), &of(4));
        for (acked, begun) in [(4, 4), (2, 2)] {
            let checked = std::panic::catch_unwind(|| ledger.check_counts("it", &of(acked), &of(begun)));
            assert!(checked.is_err(), "{acked} durable, {begun} begun");
        }
        let mut expected = Expected::default();
        ledger.check_digests("it", &mut expected);
        ledger.check_digests("it", &mut expected);
        ledger.lines[2].digest ^= 1;
        assert!(std::panic::catch_unwind(move || ledger.check_digests("it", &mut expected)).is_err());
    }
}
