//! Kinds by name: what a log accepts as names, and that no record is dropped for the want of one.

use std::sync::Arc;

use braidlog::{Append, ErrorKind, Kind, Kinds, Wal};
use braidlog_sim::SimDisk;

fn kinds() -> Kinds {
    Kinds::new().name(7, "order").name(8, "payment")
}

#[test]
fn names_that_are_there_twice_are_refused_before_anything_is_touched() {
    let disk = SimDisk::new();
    for (kinds, words) in [
        (kinds().name(7, "other"), ["`kinds`", "7", "\"order\" and \"other\""]),
        (kinds().name(9, "order"), ["`kinds`", "7 and 9", "\"order\""]),
        (kinds().name(240, "mark"), ["`kinds`", "240", "239"]),
    ] {
        let error = Wal::options().storage(Arc::new(disk.clone())).kinds(kinds).open("wal").unwrap_err();
        let text = error.to_string();
        assert_eq!(error.kind(), ErrorKind::InvalidInput, "{text}");
        assert!(words.iter().all(|word| text.contains(word)), "{text}");
        assert_eq!(disk.counts().bytes_written, 0);
    }
}

#[test]
fn kinds_without_a_name_are_delivered_like_others() {
    let disk = SimDisk::new();
    let options = || Wal::options().storage(Arc::new(disk.clone())).background_threads(false);
    let wal = options().kinds(kinds()).open("wal").unwrap();
    assert_eq!(wal.kinds(), &kinds());
    let order = wal.kind("order").unwrap();
    assert_eq!(wal.kind("refund"), None);
    for kind in [order, Kind(8), Kind(9), Kind::USER_MAX] {
        wal.append_with(Append::new(b"x").kind(kind.0)).unwrap();
    }
    let named = |wal: &Wal| {
        let records = wal.replay().unwrap().map(Result::unwrap);
        records
            .map(|record| (record.kind.0, wal.kind_name(record.kind).map(str::to_owned)))
            .collect::<Vec<_>>()
    };
    let name = |name: &str| Some(name.to_owned());
    assert_eq!(named(&wal), [(7, name("order")), (8, name("payment")), (9, None), (239, None)]);
    wal.close().unwrap();

    // Names are not in the log: another opening may have others, or none.
    let wal = options().kinds(Kinds::new().name(9, "refund")).open("wal").unwrap();
    assert_eq!(named(&wal), [(7, None), (8, None), (9, name("refund")), (239, None)]);
    wal.close().unwrap();
    assert_eq!(named(&options().open("wal").unwrap()).len(), 4);
}
