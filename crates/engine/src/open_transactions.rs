//! The transactions that have begun and have no end, as the marks say that go into the log.
//!
//! The rule: it sees every mark once, in LSN order, before anything that stands behind the mark is written. So where a segment
//! begins or ends it is exact, and the segment's header and seal may say it.

use std::collections::BTreeMap;

use braidlog_format::{Kind, Lsn, OpenTransaction, TxId};

/// The open transactions of a log.
#[derive(Debug, Default)]
pub(crate) struct OpenTransactions {
    by_id: BTreeMap<TxId, Open>,
}

#[derive(Clone, Copy, Debug)]
struct Open {
    begin: Lsn,
    is_prepared: bool,
}

impl OpenTransactions {
    /// Those that an opening finds: only what was prepared outlives an opening.
    pub(crate) fn of(in_doubt: &[OpenTransaction]) -> OpenTransactions {
        let open = |open: &OpenTransaction| (open.transaction, Open { begin: open.begin, is_prepared: true });
        OpenTransactions { by_id: in_doubt.iter().map(open).collect() }
    }

    /// Whether entries of this kind are to be [noted](OpenTransactions::note).
    #[inline]
    pub(crate) fn concerns(kind: Kind) -> bool {
        (Kind::TX_BEGIN..=Kind::TX_DECISION).contains(&kind)
    }

    /// A mark of this kind goes into the log at `lsn`. `read` fills in the first bytes of its payload, which has `len` bytes: two words
    /// say which transaction it belongs to, and where that began.
    pub(crate) fn note(&mut self, kind: Kind, lsn: Lsn, len: u64, read: impl FnOnce(&mut [u8])) {
        let mut mark = [[0; 8]; 2];
        let bytes = mark.as_flattened_mut();
        let known = bytes.len().min(usize::try_from(len).unwrap_or(usize::MAX));
        read(&mut bytes[..known]);
        let [transaction, begin] = mark.map(u64::from_le_bytes);
        let (id, begin) = (TxId(transaction), Lsn(begin));
        match kind {
            Kind::TX_BEGIN => {
                self.by_id.insert(id, Open { begin: lsn, is_prepared: false });
            }
            Kind::TX_PREPARE => {
                self.by_id.insert(id, Open { begin, is_prepared: true });
            }
            // One that is one batch was never open.
            Kind::TX_COMMIT if begin == Lsn::ZERO => {}
            _ => {
                self.by_id.remove(&id);
            }
        }
    }

    /// Where the first of them begins.
    pub(crate) fn from(&self) -> Option<Lsn> {
        self.by_id.values().map(|open| open.begin).min()
    }

    /// The ids of those that are prepared, in ascending order.
    pub(crate) fn in_doubt(&self) -> Vec<u64> {
        #[cfg(braidlog_sabotage)]
        if braidlog_sabotage::is("seal_forgets_who_is_in_doubt") {
            return Vec::new();
        }
        self.by_id.iter().filter(|(_, open)| open.is_prepared).map(|(id, _)| id.0).collect()
    }
}

#[cfg(all(test, not(any(braidlog_loom, braidlog_shuttle))))]
mod tests {
    use braidlog_format::{TxAbort, TxBegin, TxCommit, TxDecision, TxPrepare};

    use super::*;

    fn note(open: &mut OpenTransactions, kind: Kind, lsn: u64, payload: &[u8]) {
        assert!(OpenTransactions::concerns(kind));
        open.note(kind, Lsn(lsn), payload.len() as u64, |mark| mark.copy_from_slice(&payload[..mark.len()]));
    }

    #[test]
    fn a_transaction_is_open_from_its_begin_to_its_end_and_in_doubt_from_its_prepare_on() {
        let mut open = OpenTransactions::of(&[OpenTransaction { transaction: TxId(9), begin: Lsn(3) }]);
        assert_eq!((open.from(), open.in_doubt()), (Some(Lsn(3)), vec![9]));
        for id in [10, 11, 12] {
            let begin = TxBegin { transaction: TxId(id), label: b"" }.encode();
            note(&mut open, Kind::TX_BEGIN, id, &begin);
        }
        let decision = TxDecision { transaction: TxId(9), begin: Lsn(3), commit: true }.encode();
        note(&mut open, Kind::TX_DECISION, 13, &decision);
        assert_eq!((open.from(), open.in_doubt()), (Some(Lsn(10)), vec![]));

        let commit = |id, begin| TxCommit { transaction: TxId(id), begin, entries: 1 }.encode();
        // It was never open, whatever it is called.
        note(&mut open, Kind::TX_COMMIT, 14, &commit(10, None));
        assert_eq!(open.from(), Some(Lsn(10)));
        note(&mut open, Kind::TX_COMMIT, 15, &commit(10, Some(Lsn(10))));
        assert_eq!(open.from(), Some(Lsn(11)));
        let abort = TxAbort { transaction: TxId(11), begin: Lsn(11) }.encode();
        note(&mut open, Kind::TX_ABORT, 16, &abort);
        let prepare = TxPrepare { transaction: TxId(12), begin: Lsn(12), entries: 0, global_id: b"g" };
        note(&mut open, Kind::TX_PREPARE, 17, &[&prepare.encode()[..], b"g"].concat());
        assert_eq!((open.from(), open.in_doubt()), (Some(Lsn(12)), vec![12]));
        for kind in [Kind(0), Kind::SYNC_MARK, Kind::TX_GO_BACK] {
            assert!(!OpenTransactions::concerns(kind));
        }
    }
}
