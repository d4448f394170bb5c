//! The marks of transactions are as `docs/format.md` has them: each field in its place, and what a table excludes is refused.

use braidlog_format::{DecodeError, Lsn, TxAbort, TxBegin, TxCommit, TxDecision, TxGoBack, TxId, TxPrepare};

#[path = "support/document.rs"]
mod document;

use document::Document;

const ID: u64 = 0x0102_0304_0506_0708;
const BEGIN: u64 = 0x1112_1314_1516_1718;
const ENTRIES: u64 = 0x2122_2324_2526_2728;

fn page(mark: &str, numbers: &[(&str, u64)], rest: &[u8]) -> Vec<u8> {
    Document::read().payload(mark, numbers, rest)
}

/// The payload with other bytes at `at` is refused, and so is one of another length.
fn refused<T>(
    decode: impl Fn(&[u8]) -> Result<T, DecodeError>,
    payload: &[u8],
    fixed: bool,
    patches: &[(usize, &[u8])],
) {
    let is_invalid = |payload: &[u8]| matches!(decode(payload), Err(DecodeError::InvalidField { .. }));
    for (at, bytes) in patches {
        let mut patched = payload.to_vec();
        patched[*at..at + bytes.len()].copy_from_slice(bytes);
        assert!(is_invalid(&patched), "at {at}: {bytes:?}");
    }
    if fixed {
        assert!(is_invalid(&payload[..payload.len() - 1]));
        assert!(is_invalid(&[payload, &[0]].concat()));
    } else {
        assert!(is_invalid(&payload[..7]));
    }
}

const NO_ID: (usize, &[u8]) = (0, &[0; 8]);
const NO_LSN: (usize, &[u8]) = (8, &[0; 8]);
const ABOVE_ALL_LSNS: (usize, &[u8]) = (15, &[0x80]);

#[test]
fn tx_begin_is_as_documented() {
    let begin = TxBegin { transaction: TxId(ID), label: b"label" };
    let payload = page("TxBegin", &[("transaction", ID)], b"label");
    assert_eq!([&begin.encode()[..], b"label"].concat(), payload);
    assert_eq!(TxBegin::decode(&payload), Ok(begin));
    refused(|payload| TxBegin::decode(payload).map(drop), &payload, false, &[NO_ID]);
}

#[test]
fn tx_commit_is_as_documented() {
    let numbers = |begin| [("transaction", ID), ("begin LSN", begin), ("entry count", ENTRIES)];
    for (begin, number) in [(Some(Lsn(BEGIN)), BEGIN), (None, 0)] {
        let commit = TxCommit { transaction: TxId(ID), begin, entries: ENTRIES };
        let payload = page("TxCommit", &numbers(number), &[]);
        assert_eq!(commit.encode()[..], payload);
        assert_eq!(TxCommit::decode(&payload), Ok(commit));
        refused(TxCommit::decode, &payload, true, &[NO_ID, ABOVE_ALL_LSNS]);
    }
}

#[test]
fn tx_abort_is_as_documented() {
    let abort = TxAbort { transaction: TxId(ID), begin: Lsn(BEGIN) };
    let payload = page("TxAbort", &[("transaction", ID), ("begin LSN", BEGIN)], &[]);
    assert_eq!(abort.encode()[..], payload);
    assert_eq!(TxAbort::decode(&payload), Ok(abort));
    refused(TxAbort::decode, &payload, true, &[NO_ID, NO_LSN, ABOVE_ALL_LSNS]);
}

#[test]
fn tx_prepare_is_as_documented() {
    let prepare =
        TxPrepare { transaction: TxId(ID), begin: Lsn(BEGIN), entries: ENTRIES, global_id: b"global" };
    let numbers = [("transaction", ID), ("begin LSN", BEGIN), ("entry count", ENTRIES)];
    let payload = page("TxPrepare", &numbers, b"global");
    assert_eq!([&prepare.encode()[..], b"global"].concat(), payload);
    assert_eq!(TxPrepare::decode(&payload), Ok(prepare));
    let patches = [NO_ID, NO_LSN, ABOVE_ALL_LSNS];
    refused(|payload| TxPrepare::decode(payload).map(drop), &payload, false, &patches);
}

#[test]
fn tx_decision_is_as_documented() {
    for (commit, number) in [(true, 1), (false, 2)] {
        let decision = TxDecision { transaction: TxId(ID), begin: Lsn(BEGIN), commit };
        let numbers = [("transaction", ID), ("begin LSN", BEGIN), ("decision", number)];
        let payload = page("TxDecision", &numbers, &[]);
        assert_eq!(decision.encode()[..], payload);
        assert_eq!(TxDecision::decode(&payload), Ok(decision));
        let patches: [(usize, &[u8]); 6] =
            [NO_ID, NO_LSN, ABOVE_ALL_LSNS, (16, &[0]), (16, &[3]), (23, &[1])];
        refused(TxDecision::decode, &payload, true, &patches);
    }
}

#[test]
fn tx_go_back_is_as_documented() {
    let mark = TxGoBack { transaction: TxId(ID), to: Lsn(BEGIN) };
    let payload = page("TxGoBack", &[("transaction", ID), ("to LSN", BEGIN)], &[]);
    assert_eq!(mark.encode()[..], payload);
    assert_eq!(TxGoBack::decode(&payload), Ok(mark));
    refused(TxGoBack::decode, &payload, true, &[NO_ID, NO_LSN, ABOVE_ALL_LSNS]);
}
