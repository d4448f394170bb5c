//! The payload of a recorded loss: LSNs that were given up, which nothing ever takes again.
//!
//! The rule: the log's entry of kind [`Kind::LOSS`](crate::Kind::LOSS) and the manifest's entry of that name have the
//! same bytes.

use crate::entry::u64_at;
use crate::{DecodeError, Incarnation, Lsn, LsnRange};

/// Bytes of the payload before its account.
pub const LOSS_LEN: usize = 32;

const LAST: usize = 8;
const INCARNATION: usize = LAST + 8;
const CAUSE: usize = INCARNATION + 8;
const RESERVED: usize = CAUSE + 1;

/// LSNs that were given up.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct LossEntry<'a> {
    /// Which ones; not empty.
    pub lsns: LsnRange,
    /// The opening that gave them up.
    pub incarnation: Incarnation,
    /// 1: damage; 2: a file is missing.
    pub cause: u8,
    /// For people: what was found where.
    pub account: &'a str,
}

impl<'a> LossEntry<'a> {
    /// The payload without the account, which follows it.
    pub fn encode(&self) -> [u8; LOSS_LEN] {
        let mut bytes = [0; LOSS_LEN];
        bytes[..LAST].copy_from_slice(&self.lsns.first.0.to_le_bytes());
        bytes[LAST..INCARNATION].copy_from_slice(&self.lsns.last.0.to_le_bytes());
        bytes[INCARNATION..CAUSE].copy_from_slice(&self.incarnation.0.to_le_bytes());
        bytes[CAUSE] = self.cause;
        bytes
    }

    /// What a payload says that its checksum proved.
    ///
    /// # Errors
    /// [`DecodeError::InvalidField`] if it is none of a loss.
    pub fn decode(payload: &'a [u8]) -> Result<LossEntry<'a>, DecodeError> {
        let invalid = |field| DecodeError::InvalidField { field };
        let Some((fixed, account)) = payload.split_first_chunk::<LOSS_LEN>() else {
            return Err(invalid("payload length"));
        };
        let lsns = LsnRange { first: Lsn(u64_at(fixed, 0)), last: Lsn(u64_at(fixed, LAST)) };
        if lsns.first < Lsn::FIRST {
            return Err(invalid("first LSN"));
        }
        if lsns.is_empty() || lsns.last > Lsn::MAX {
            return Err(invalid("last LSN"));
        }
        if !matches!(fixed[CAUSE], 1 | 2) {
            return Err(invalid("cause"));
        }
        if fixed[RESERVED..].iter().any(|&byte| byte != 0) {
            return Err(invalid("reserved"));
        }
        Ok(LossEntry {
            lsns,
            incarnation: Incarnation(u64_at(fixed, INCARNATION)),
            cause: fixed[CAUSE],
            account: std::str::from_utf8(account).map_err(|_| invalid("account"))?,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_loss_round_trips_and_impossible_ones_are_refused() {
        let lsns = LsnRange { first: Lsn(70), last: Lsn(71) };
        let loss = LossEntry { lsns, incarnation: Incarnation(2), cause: 1, account: "two" };
        let payload = [&loss.encode()[..], b"two"].concat();
        assert_eq!(LossEntry::decode(&payload), Ok(loss));
        let patches: [(usize, &[u8]); 7] =
            [(0, &[0; 8]), (0, &[72]), (8, &[69]), (15, &[0x80]), (24, &[3]), (31, &[1]), (32, &[0xFF])];
        for (at, bytes) in patches {
            let mut payload = payload.clone();
            payload[at..at + bytes.len()].copy_from_slice(bytes);
            assert!(matches!(LossEntry::decode(&payload), Err(DecodeError::InvalidField { .. })), "at {at}");
        }
        assert!(LossEntry::decode(&payload[..31]).is_err());
    }
}
