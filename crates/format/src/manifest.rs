//! The entries of a manifest: what a log knows of its own life beside its records.
//!
//! The rule: each entry has a fixed part, decoded by offsets, and at most one text behind it. An entry whose kind is
//! not known is refused as newer unless it is flagged ignorable.

use crate::entry::{u32_at, u64_at};
use crate::{DecodeError, Incarnation, Kind, LossEntry, Lsn, LsnRange};

/// The name of the manifest.
pub const MANIFEST_NAME: &str = "MANIFEST";
/// The name under which the next manifest is written.
pub const MANIFEST_NEW_NAME: &str = "MANIFEST.new";
/// The names of the files whose blocks are kept for manifests on a device that has none left.
pub const MANIFEST_RESERVE_NAMES: [&str; 3] = ["MANIFEST.reserve", "MANIFEST.reserve2", "MANIFEST.reserve3"];
/// The most bytes of the name of a hold or a restore point.
pub const MANIFEST_TEXT_MAX: usize = 255;

/// One entry of a manifest.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum ManifestEntry<'a> {
    /// The first entry.
    Head(ManifestHead),
    /// A checkpoint that is complete and durable.
    Checkpoint(ManifestCheckpoint),
    /// Somebody needs the log from an LSN on.
    Hold {
        /// The first LSN that is needed.
        lsn: Lsn,
        /// Who needs it: 1 to [`MANIFEST_TEXT_MAX`] bytes.
        name: &'a str,
    },
    /// A named point up to which the log can be restored.
    RestorePoint {
        /// The last LSN before the point.
        lsn: Lsn,
        /// When it was set, in nanoseconds since the Unix epoch.
        time_ns: u64,
        /// What it is called: 1 to [`MANIFEST_TEXT_MAX`] bytes.
        name: &'a str,
    },
    /// LSNs that were given up.
    Loss {
        /// Which ones.
        lsns: LsnRange,
        /// The opening that gave them up.
        incarnation: Incarnation,
        /// 1: damage; 2: a file is missing.
        cause: u8,
        /// For people: what was found where.
        account: &'a str,
    },
    /// How old a segment is.
    SegmentAge {
        /// Its base LSN.
        base: Lsn,
        /// The log's uptime when the segment was sealed, in nanoseconds.
        sealed_at_uptime_ns: u64,
    },
    /// A stream of records that the log holds beside others.
    Stream {
        /// Its number, from 1, which its records carry.
        id: u64,
        /// The sequence of its last record up to `as_of`; 0 if it has none there.
        last_sequence: u64,
        /// The LSN up to which its records are counted.
        as_of: Lsn,
        /// What it is called: 1 to [`MANIFEST_TEXT_MAX`] bytes.
        name: &'a str,
    },
}

/// The first entry of a manifest.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct ManifestHead {
    /// The base LSN of the first segment that belongs to the log.
    pub log_start: Lsn,
    /// Every record up to here was durable when the manifest was written.
    pub durable: Lsn,
    /// For how long the log had been open for writing, over all openings, in nanoseconds.
    pub uptime_ns: u64,
    /// The number that the next checkpoint gets, from 1.
    pub next_checkpoint: u64,
}

/// A checkpoint, as the manifest names it.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct ManifestCheckpoint {
    /// Its number, from 1; given once.
    pub number: u64,
    /// It holds the effect of every record up to here.
    pub lsn: Lsn,
    /// The first LSN that has to be replayed upon it: `lsn + 1`, or less while a transaction was open.
    pub replay_from: Lsn,
    /// The checkpoint whose changes it holds; 0 if it stands alone.
    pub base: u64,
    /// Bytes of its file.
    pub bytes: u64,
    /// When it was begun, in nanoseconds since the Unix epoch.
    pub created_at_ns: u64,
    /// The header checksum of its end entry: which file of that name is meant.
    pub end_checksum: u32,
}

const HEAD_LEN: usize = 32;
const CHECKPOINT_LEN: usize = 56;
const HOLD_LEN: usize = 8;
const RESTORE_POINT_LEN: usize = 16;
const SEGMENT_AGE_LEN: usize = 16;
const STREAM_LEN: usize = 24;
const FIXED_MAX: usize = CHECKPOINT_LEN;

/// The fixed part of an entry.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct ManifestFixed {
    bytes: [u8; FIXED_MAX],
    len: usize,
}

impl ManifestFixed {
    fn new() -> ManifestFixed {
        ManifestFixed { bytes: [0; FIXED_MAX], len: 0 }
    }

    fn put(mut self, bytes: &[u8]) -> ManifestFixed {
        self.bytes[self.len..self.len + bytes.len()].copy_from_slice(bytes);
        self.len += bytes.len();
        self
    }

    fn word(self, word: u64) -> ManifestFixed {
        self.put(&word.to_le_bytes())
    }

    /// Its bytes.
    pub fn as_bytes(&self) -> &[u8] {
        &self.bytes[..self.len]
    }
}

impl<'a> ManifestEntry<'a> {
    /// The kind of the entry, in a manifest.
    pub const fn kind(&self) -> Kind {
        Kind(match self {
            ManifestEntry::Head(_) => 1,
            ManifestEntry::Checkpoint(_) => 2,
            ManifestEntry::Hold { .. } => 3,
            ManifestEntry::RestorePoint { .. } => 4,
            ManifestEntry::Loss { .. } => 5,
            ManifestEntry::SegmentAge { .. } => 6,
            ManifestEntry::Stream { .. } => 7,
        })
    }

    /// The payload: its fixed part, and the text that follows.
    pub fn encode(&self) -> (ManifestFixed, &'a str) {
        let fixed = ManifestFixed::new();
        match *self {
            ManifestEntry::Head(head) => {
                let fixed = fixed.word(head.log_start.0).word(head.durable.0);
                (fixed.word(head.uptime_ns).word(head.next_checkpoint), "")
            }
            ManifestEntry::Checkpoint(checkpoint) => {
                let fixed = fixed
                    .word(checkpoint.number)
                    .word(checkpoint.lsn.0)
                    .word(checkpoint.replay_from.0)
                    .word(checkpoint.base)
                    .word(checkpoint.bytes)
                    .word(checkpoint.created_at_ns);
                (fixed.word(u64::from(checkpoint.end_checksum)), "")
            }
            ManifestEntry::Hold { lsn, name } => (fixed.word(lsn.0), name),
            ManifestEntry::RestorePoint { lsn, time_ns, name } => (fixed.word(lsn.0).word(time_ns), name),
            ManifestEntry::Loss { lsns, incarnation, cause, account } => {
                (fixed.put(&LossEntry { lsns, incarnation, cause, account }.encode()), account)
            }
            ManifestEntry::SegmentAge { base, sealed_at_uptime_ns } => {
                (fixed.word(base.0).word(sealed_at_uptime_ns), "")
            }
            ManifestEntry::Stream { id, last_sequence, as_of, name } => {
                (fixed.word(id).word(last_sequence).word(as_of.0), name)
            }
        }
    }

    /// What an entry of a manifest says; its payload was proved by its checksum.
    ///
    /// # Errors
    /// [`DecodeError::InvalidField`] if the payload is none of its kind; [`DecodeError::NewerKind`] for a kind that is
    /// not known.
    pub fn decode(kind: Kind, payload: &'a [u8]) -> Result<ManifestEntry<'a>, DecodeError> {
        let entry = match kind.0 {
            1 => {
                let fixed = fixed::<HEAD_LEN>(payload)?;
                let head = ManifestHead {
                    log_start: first(u64_at(fixed, 0), "log start")?,
                    durable: last(u64_at(fixed, 8), "durable LSN")?,
                    uptime_ns: u64_at(fixed, 16),
                    next_checkpoint: counted(u64_at(fixed, 24), "next checkpoint")?,
                };
                // What goes is sealed, and what is sealed is durable.
                check(head.log_start.prev() <= head.durable, "durable LSN")?;
                ManifestEntry::Head(head)
            }
            2 => {
                let fixed = fixed::<CHECKPOINT_LEN>(payload)?;
                let checkpoint = ManifestCheckpoint {
                    number: counted(u64_at(fixed, 0), "number")?,
                    lsn: last(u64_at(fixed, 8), "LSN")?,
                    replay_from: first(u64_at(fixed, 16), "replay from")?,
                    base: u64_at(fixed, 24),
                    bytes: u64_at(fixed, 32),
                    created_at_ns: u64_at(fixed, 40),
                    end_checksum: u32_at(fixed, 48),
                };
                check(checkpoint.base < checkpoint.number, "base")?;
                check(checkpoint.replay_from.prev() <= checkpoint.lsn, "replay from")?;
                check(u32_at(fixed, 52) == 0, "reserved")?;
                ManifestEntry::Checkpoint(checkpoint)
            }
            3 => {
                let (fixed, rest) = split::<HOLD_LEN>(payload)?;
                ManifestEntry::Hold { lsn: first(u64_at(fixed, 0), "LSN")?, name: name(rest)? }
            }
            4 => {
                let (fixed, rest) = split::<RESTORE_POINT_LEN>(payload)?;
                let lsn = last(u64_at(fixed, 0), "LSN")?;
                ManifestEntry::RestorePoint { lsn, time_ns: u64_at(fixed, 8), name: name(rest)? }
            }
            5 => {
                let LossEntry { lsns, incarnation, cause, account } = LossEntry::decode(payload)?;
                ManifestEntry::Loss { lsns, incarnation, cause, account }
            }
            6 => {
                let fixed = fixed::<SEGMENT_AGE_LEN>(payload)?;
                let base = first(u64_at(fixed, 0), "base LSN")?;
                ManifestEntry::SegmentAge { base, sealed_at_uptime_ns: u64_at(fixed, 8) }
            }
            7 => {
                let (fixed, rest) = split::<STREAM_LEN>(payload)?;
                ManifestEntry::Stream {
                    id: counted(u64_at(fixed, 0), "stream")?,
                    last_sequence: u64_at(fixed, 8),
                    as_of: last(u64_at(fixed, 16), "as of")?,
                    name: name(rest)?,
                }
            }
            kind => return Err(DecodeError::NewerKind { kind }),
        };
        Ok(entry)
    }
}

fn check(holds: bool, field: &'static str) -> Result<(), DecodeError> {
    if holds { Ok(()) } else { Err(DecodeError::InvalidField { field }) }
}

/// A payload that is its fixed part.
fn fixed<const LEN: usize>(payload: &[u8]) -> Result<&[u8; LEN], DecodeError> {
    payload.try_into().map_err(|_| DecodeError::InvalidField { field: "payload length" })
}

/// The fixed part of a payload, and the rest.
fn split<const LEN: usize>(payload: &[u8]) -> Result<(&[u8; LEN], &[u8]), DecodeError> {
    payload.split_first_chunk().ok_or(DecodeError::InvalidField { field: "payload length" })
}

/// An LSN that a record may have.
fn first(lsn: u64, field: &'static str) -> Result<Lsn, DecodeError> {
    check((Lsn::FIRST.0..=Lsn::MAX.0).contains(&lsn), field)?;
    Ok(Lsn(lsn))
}

/// An LSN up to which records may be, which may be none.
fn last(lsn: u64, field: &'static str) -> Result<Lsn, DecodeError> {
    check(lsn <= Lsn::MAX.0, field)?;
    Ok(Lsn(lsn))
}

/// A number that counts from 1.
fn counted(number: u64, field: &'static str) -> Result<u64, DecodeError> {
    check(number > 0, field)?;
    Ok(number)
}

fn name(bytes: &[u8]) -> Result<&str, DecodeError> {
    check(!bytes.is_empty() && bytes.len() <= MANIFEST_TEXT_MAX, "name")?;
    text(bytes, "name")
}

fn text<'a>(bytes: &'a [u8], field: &'static str) -> Result<&'a str, DecodeError> {
    std::str::from_utf8(bytes).map_err(|_| DecodeError::InvalidField { field })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn samples() -> Vec<ManifestEntry<'static>> {
        let checkpoint = ManifestCheckpoint {
            number: 4,
            lsn: Lsn(90),
            replay_from: Lsn(80),
            base: 3,
            bytes: 4200,
            created_at_ns: 5,
            end_checksum: 6,
        };
        vec![
            ManifestEntry::Head(ManifestHead {
                log_start: Lsn(50),
                durable: Lsn(99),
                uptime_ns: 7,
                next_checkpoint: 5,
            }),
            ManifestEntry::Checkpoint(checkpoint),
            ManifestEntry::Hold { lsn: Lsn(60), name: "replica \u{2192} 2" },
            ManifestEntry::RestorePoint { lsn: Lsn(0), time_ns: 8, name: "before" },
            ManifestEntry::Loss {
                lsns: LsnRange { first: Lsn(70), last: Lsn(70) },
                incarnation: Incarnation(2),
                cause: 1,
                account: "",
            },
            ManifestEntry::SegmentAge { base: Lsn(50), sealed_at_uptime_ns: 3 },
            ManifestEntry::Stream { id: 2, last_sequence: 40, as_of: Lsn(98), name: "orders" },
        ]
    }

    fn payload(entry: &ManifestEntry<'_>) -> Vec<u8> {
        let (fixed, text) = entry.encode();
        [fixed.as_bytes(), text.as_bytes()].concat()
    }

    #[test]
    fn entries_round_trip() {
        for entry in samples() {
            assert_eq!(ManifestEntry::decode(entry.kind(), &payload(&entry)), Ok(entry));
        }
    }

    #[test]
    fn payloads_of_another_length_are_refused() {
        for entry in samples() {
            let payload = payload(&entry);
            let (fixed, text) = entry.encode();
            for len in 0..fixed.as_bytes().len() {
                let found = ManifestEntry::decode(entry.kind(), &payload[..len]);
                assert!(matches!(found, Err(DecodeError::InvalidField { .. })), "{entry:?} of {len} bytes");
            }
            if text.is_empty() && !matches!(entry, ManifestEntry::Loss { .. }) {
                let longer = [&payload[..], &[0]].concat();
                assert!(ManifestEntry::decode(entry.kind(), &longer).is_err(), "{entry:?}");
            }
        }
    }

    #[test]
    fn impossible_values_are_refused() {
        let samples = samples();
        let too_large = (1_u64 << 63).to_le_bytes();
        let patches: &[(usize, usize, &[u8])] = &[
            (0, 0, &[0; 8]),    // A log starts at 1 at the earliest.
            (0, 0, &[101, 0]),  // The start is above what is durable.
            (0, 8, &too_large), // No LSN.
            (0, 24, &[0; 8]),   // Checkpoints count from 1.
            (1, 0, &[0; 8]),    // So does this one.
            (1, 8, &too_large),
            (1, 16, &[92]), // A record between checkpoint and replay.
            (1, 24, &[4]),  // Its own base.
            (1, 55, &[1]),
            (2, 0, &[0; 8]),
            (2, 8, &[0xFF]), // No UTF-8.
            (3, 0, &too_large),
            (4, 8, &[69]), // An empty loss.
            (4, 24, &[3]),
            (4, 31, &[1]),
            (5, 0, &[0; 8]),
            (6, 0, &[0; 8]),
            (6, 16, &too_large),
            (6, 24, &[0xFF]),
        ];
        for (index, at, bytes) in patches {
            let entry = samples[*index];
            let mut payload = payload(&entry);
            payload[*at..at + bytes.len()].copy_from_slice(bytes);
            let found = ManifestEntry::decode(entry.kind(), &payload);
            assert!(matches!(found, Err(DecodeError::InvalidField { .. })), "{entry:?} at {at}: {found:?}");
        }
        for len in [0, MANIFEST_TEXT_MAX + 1] {
            let named = [&[1, 0, 0, 0, 0, 0, 0, 0][..], &vec![b'x'; len]].concat();
            assert!(ManifestEntry::decode(Kind(3), &named).is_err(), "a name of {len} bytes");
        }
        assert!(ManifestEntry::decode(Kind(8), &[]).unwrap_err().is_newer());
    }
}
