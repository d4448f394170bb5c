//! Checkpoint files: their names, and what their entries hold. A checkpoint file is a [stream](crate::StreamHeader) of
//! one head, which says of what it is the state, then chunks of that state, then the end of every stream.
//!
//! The rule: a chunk is small enough to be checked whole before a byte of it is handed on.

use crate::entry::u64_at;
use crate::name::{digits, digits20};
use crate::{DecodeError, Kind, Lsn, STREAM_PAYLOAD_MAX};

/// The most bytes of state in one chunk.
pub const CHECKPOINT_CHUNK_MAX: usize = STREAM_PAYLOAD_MAX;

/// First entry of a checkpoint file.
pub const CHECKPOINT_HEAD: Kind = Kind(1);
/// A chunk of the state.
pub const CHECKPOINT_DATA: Kind = Kind(2);

/// Bytes of a [`CheckpointHead`].
pub const CHECKPOINT_HEAD_LEN: usize = BASE + 8;

const LSN: usize = 0;
const REPLAY_FROM: usize = LSN + 8;
const BASE: usize = REPLAY_FROM + 8;

/// Of what a checkpoint file holds the state.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub struct CheckpointHead {
    /// The state is that after the record with this LSN; [`Lsn::ZERO`]: before the first one.
    pub lsn: Lsn,
    /// The first record that must be read again to go on from this state: `lsn + 1`, or less while a transaction was
    /// open.
    pub replay_from: Lsn,
    /// The checkpoint to whose state this file holds the changes; `None` if it holds all of the state.
    pub base: Option<u64>,
}

impl CheckpointHead {
    /// The payload.
    pub fn encode(&self) -> [u8; CHECKPOINT_HEAD_LEN] {
        let mut bytes = [0; CHECKPOINT_HEAD_LEN];
        bytes[LSN..REPLAY_FROM].copy_from_slice(&self.lsn.0.to_le_bytes());
        bytes[REPLAY_FROM..BASE].copy_from_slice(&self.replay_from.0.to_le_bytes());
        bytes[BASE..].copy_from_slice(&self.base.unwrap_or(0).to_le_bytes());
        bytes
    }

    /// What a payload says.
    ///
    /// # Errors
    /// [`DecodeError::Short`] for a payload of another length, [`DecodeError::InvalidField`] for values that go with
    /// no checkpoint.
    pub fn decode(payload: &[u8]) -> Result<CheckpointHead, DecodeError> {
        if payload.len() != CHECKPOINT_HEAD_LEN {
            return Err(DecodeError::Short { have: payload.len() as u64, need: CHECKPOINT_HEAD_LEN as u64 });
        }
        let base = u64_at(payload, BASE);
        let head = CheckpointHead {
            lsn: Lsn(u64_at(payload, LSN)),
            replay_from: Lsn(u64_at(payload, REPLAY_FROM)),
            base: (base != 0).then_some(base),
        };
        if head.lsn >= Lsn::MAX {
            return Err(DecodeError::InvalidField { field: "LSN" });
        }
        if head.replay_from < Lsn::FIRST || head.replay_from > head.lsn.next() {
            return Err(DecodeError::InvalidField { field: "replay from" });
        }
        Ok(head)
    }
}

/// The name of a checkpoint file: its LSN in 20 digits and its number, as `<20 digits>-<number>.ckpt`, so that names
/// sort as states do.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub struct CheckpointName {
    /// The LSN of its state.
    pub lsn: Lsn,
    /// Its number, which no other checkpoint of the log has.
    pub number: u64,
}

impl CheckpointName {
    /// What a file name says, if it is the name of a checkpoint.
    pub fn parse(name: &str) -> Option<CheckpointName> {
        let (lsn, number) = name.strip_suffix(".ckpt")?.split_once('-')?;
        Some(CheckpointName { lsn: Lsn(digits20(lsn)?), number: canonical(number)? })
    }
}

impl std::fmt::Display for CheckpointName {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{:020}-{}.ckpt", self.lsn.0, self.number)
    }
}

/// The name of a file whose blocks are kept for a small checkpoint on a device that has none left.
pub const CHECKPOINT_RESERVE_NAME: &str = "CHECKPOINT.reserve";

/// The name of the checkpoint with this number while it is written: `<number>.ckpt.new`. Left-over ones are removed
/// at open.
pub fn unfinished_checkpoint_name(number: u64) -> String {
    format!("{number}.ckpt.new")
}

/// The number that a file name says, if it is the name of a checkpoint that is being written.
pub fn parse_unfinished_checkpoint(name: &str) -> Option<u64> {
    canonical(name.strip_suffix(".ckpt.new")?)
}

/// A number from 1 on, without leading zeros: each has one name.
fn canonical(text: &str) -> Option<u64> {
    if text.starts_with('0') { None } else { digits(text) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_round_trip_and_others_are_left_alone() {
        let name = CheckpointName { lsn: Lsn(42), number: 7 };
        assert_eq!(name.to_string(), "00000000000000000042-7.ckpt");
        assert_eq!(CheckpointName::parse(&name.to_string()), Some(name));
        assert_eq!(parse_unfinished_checkpoint(&unfinished_checkpoint_name(7)), Some(7));
        for other in ["42-7.ckpt", "00000000000000000042-07.ckpt", "00000000000000000042-.ckpt", "7.ckpt"] {
            assert_eq!(CheckpointName::parse(other), None, "{other}");
        }
        for other in [".ckpt.new", "07.ckpt.new", "+7.ckpt.new", "7.ckpt.new.bak"] {
            assert_eq!(parse_unfinished_checkpoint(other), None, "{other}");
        }
    }

    #[test]
    fn a_head_round_trips_and_impossible_ones_are_refused() {
        let full = CheckpointHead { lsn: Lsn::ZERO, replay_from: Lsn::FIRST, base: None };
        let delta = CheckpointHead { lsn: Lsn(9), replay_from: Lsn(3), base: Some(4) };
        for head in [full, delta] {
            assert_eq!(CheckpointHead::decode(&head.encode()), Ok(head));
            assert!(CheckpointHead::decode(&head.encode()[1..]).is_err());
        }
        for impossible in [
            CheckpointHead { replay_from: Lsn(11), ..delta },
            CheckpointHead { replay_from: Lsn(0), ..delta },
            CheckpointHead { lsn: Lsn::MAX, ..delta },
        ] {
            assert!(CheckpointHead::decode(&impossible.encode()).is_err(), "{impossible:?}");
        }
    }
}
