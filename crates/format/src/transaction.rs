//! The payloads of a transaction's marks: where it begins, how it ends, and the points inside it.
//!
//! The rule: a mark says which transaction it belongs to in its first eight bytes, and where that began in the next eight, if it
//! did before the mark. A transaction that is one batch begins with its commit, which then says 0.

use crate::entry::u64_at;
use crate::{DecodeError, Lsn, TxId};

const BEGIN: usize = 8;
const ENTRIES: usize = BEGIN + 8;
const AFTER_ENTRIES: usize = ENTRIES + 8;
const CODE: usize = 16;
const CODE_RESERVED: usize = CODE + 1;
const CODED_LEN: usize = 24;

/// A transaction begins, whose records come one by one.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct TxBegin<'a> {
    /// Its id.
    pub transaction: TxId,
    /// The application's own.
    pub label: &'a [u8],
}

/// A transaction takes effect.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct TxCommit {
    /// Its id.
    pub transaction: TxId,
    /// The LSN of its [`TxBegin`]; `None` if it has none: then this entry and the rest of its batch are the transaction.
    pub begin: Option<Lsn>,
    /// How many entries it has behind its begin: its records, those that it has gone back from too, and each [`TxGoBack`].
    /// Of one batch: its records, all of which take effect.
    pub entries: u64,
}

/// A transaction is given up.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct TxAbort {
    /// Its id.
    pub transaction: TxId,
    /// The LSN of its [`TxBegin`].
    pub begin: Lsn,
}

/// A transaction is complete, durable and undecided.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct TxPrepare<'a> {
    /// Its id.
    pub transaction: TxId,
    /// The LSN of its [`TxBegin`].
    pub begin: Lsn,
    /// As [`TxCommit::entries`].
    pub entries: u64,
    /// What the coordinator calls it.
    pub global_id: &'a [u8],
}

/// The decision on a prepared transaction.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct TxDecision {
    /// Its id.
    pub transaction: TxId,
    /// The LSN of its [`TxBegin`].
    pub begin: Lsn,
    /// Whether it takes effect.
    pub commit: bool,
}

/// A transaction goes back to a point inside it.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct TxGoBack {
    /// Its id.
    pub transaction: TxId,
    /// Its [`TxBegin`], or the last of its records that still takes effect: those behind it, up to this mark, take none.
    pub to: Lsn,
}

fn invalid(field: &'static str) -> DecodeError {
    DecodeError::InvalidField { field }
}

fn transaction_in(payload: &[u8]) -> Result<TxId, DecodeError> {
    match u64_at(payload, 0) {
        0 => Err(invalid("transaction")),
        id => Ok(TxId(id)),
    }
}

/// The LSN of a TxBegin, or 0.
fn lsn_in(payload: &[u8]) -> Result<Lsn, DecodeError> {
    let lsn = Lsn(u64_at(payload, BEGIN));
    if lsn > Lsn::MAX { Err(invalid("begin LSN")) } else { Ok(lsn) }
}

fn begin_in(payload: &[u8]) -> Result<Lsn, DecodeError> {
    let lsn = lsn_in(payload)?;
    if lsn < Lsn::FIRST { Err(invalid("begin LSN")) } else { Ok(lsn) }
}

fn exactly<const LEN: usize>(payload: &[u8]) -> Result<&[u8; LEN], DecodeError> {
    payload.try_into().map_err(|_| invalid("payload length"))
}

fn at_least(payload: &[u8], len: usize) -> Result<(&[u8], &[u8]), DecodeError> {
    payload.split_at_checked(len).ok_or(invalid("payload length"))
}

fn words<const LEN: usize>(words: &[u64]) -> [u8; LEN] {
    let mut bytes = [0; LEN];
    for (slot, word) in bytes.chunks_exact_mut(8).zip(words) {
        slot.copy_from_slice(&word.to_le_bytes());
    }
    bytes
}

/// The code that a payload has behind two numbers; what follows is reserved.
fn code_in(payload: &[u8; CODED_LEN]) -> Result<u8, DecodeError> {
    if payload[CODE_RESERVED..].iter().any(|&byte| byte != 0) {
        return Err(invalid("reserved"));
    }
    Ok(payload[CODE])
}

impl<'a> TxBegin<'a> {
    /// The payload without the label, which follows it.
    pub fn encode(&self) -> [u8; 8] {
        words(&[self.transaction.0])
    }

    /// What a payload says that its checksum proved.
    ///
    /// # Errors
    /// [`DecodeError::InvalidField`] if it is none of a TxBegin.
    pub fn decode(payload: &'a [u8]) -> Result<TxBegin<'a>, DecodeError> {
        let (fixed, label) = at_least(payload, BEGIN)?;
        Ok(TxBegin { transaction: transaction_in(fixed)?, label })
    }
}

impl TxCommit {
    /// The payload.
    pub fn encode(&self) -> [u8; AFTER_ENTRIES] {
        words(&[self.transaction.0, self.begin.unwrap_or(Lsn::ZERO).0, self.entries])
    }

    /// What a payload says that its checksum proved.
    ///
    /// # Errors
    /// [`DecodeError::InvalidField`] if it is none of a TxCommit.
    pub fn decode(payload: &[u8]) -> Result<TxCommit, DecodeError> {
        let payload: &[u8; AFTER_ENTRIES] = exactly(payload)?;
        let begin = Some(lsn_in(payload)?).filter(|&begin| begin != Lsn::ZERO);
        Ok(TxCommit { transaction: transaction_in(payload)?, begin, entries: u64_at(payload, ENTRIES) })
    }
}

impl TxAbort {
    /// The payload.
    pub fn encode(&self) -> [u8; ENTRIES] {
        words(&[self.transaction.0, self.begin.0])
    }

    /// What a payload says that its checksum proved.
    ///
    /// # Errors
    /// [`DecodeError::InvalidField`] if it is none of a TxAbort.
    pub fn decode(payload: &[u8]) -> Result<TxAbort, DecodeError> {
        let payload: &[u8; ENTRIES] = exactly(payload)?;
        Ok(TxAbort { transaction: transaction_in(payload)?, begin: begin_in(payload)? })
    }
}

impl<'a> TxPrepare<'a> {
    /// The payload without the global id, which follows it.
    pub fn encode(&self) -> [u8; AFTER_ENTRIES] {
        words(&[self.transaction.0, self.begin.0, self.entries])
    }

    /// What a payload says that its checksum proved.
    ///
    /// # Errors
    /// [`DecodeError::InvalidField`] if it is none of a TxPrepare.
    pub fn decode(payload: &'a [u8]) -> Result<TxPrepare<'a>, DecodeError> {
        let (fixed, global_id) = at_least(payload, AFTER_ENTRIES)?;
        Ok(TxPrepare {
            transaction: transaction_in(fixed)?,
            begin: begin_in(fixed)?,
            entries: u64_at(fixed, ENTRIES),
            global_id,
        })
    }
}

impl TxDecision {
    /// The payload.
    pub fn encode(&self) -> [u8; CODED_LEN] {
        words(&[self.transaction.0, self.begin.0, if self.commit { 1 } else { 2 }])
    }

    /// What a payload says that its checksum proved.
    ///
    /// # Errors
    /// [`DecodeError::InvalidField`] if it is none of a TxDecision.
    pub fn decode(payload: &[u8]) -> Result<TxDecision, DecodeError> {
        let payload: &[u8; CODED_LEN] = exactly(payload)?;
        let commit = match code_in(payload)? {
            1 => true,
            2 => false,
            _ => return Err(invalid("decision")),
        };
        Ok(TxDecision { transaction: transaction_in(payload)?, begin: begin_in(payload)?, commit })
    }
}

impl TxGoBack {
    /// The payload.
    pub fn encode(&self) -> [u8; ENTRIES] {
        words(&[self.transaction.0, self.to.0])
    }

    /// What a payload says that its checksum proved.
    ///
    /// # Errors
    /// [`DecodeError::InvalidField`] if it is none of a TxGoBack.
    pub fn decode(payload: &[u8]) -> Result<TxGoBack, DecodeError> {
        let payload: &[u8; ENTRIES] = exactly(payload)?;
        Ok(TxGoBack { transaction: transaction_in(payload)?, to: begin_in(payload)? })
    }
}
