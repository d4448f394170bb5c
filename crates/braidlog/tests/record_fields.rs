//! A record's payload may come in pieces and may carry a schema's version: every way to read gives both back.

use std::io::IoSlice;

use braidlog::{Append, ErrorKind, Options, Record, Replay, Target, Wal};
use proptest::prelude::*;

fn options() -> Options {
    Wal::options().background_threads(false).segment_size(64 << 10).stripe_capacity(4 << 10)
}

/// A record as it was appended.
#[derive(Clone, Debug)]
struct Made {
    kind: u8,
    schema: Option<u32>,
    pieces: Vec<Vec<u8>>,
    in_batch: bool,
}

impl Made {
    fn payload(&self) -> Vec<u8> {
        self.pieces.concat()
    }

    fn slices(&self) -> Vec<IoSlice<'_>> {
        self.pieces.iter().map(|piece| IoSlice::new(piece)).collect()
    }
}

fn append<'a>(made: &Made, slices: &'a [IoSlice<'a>]) -> Append<'a> {
    let append = Append::vectored(slices).kind(made.kind);
    if let Some(schema) = made.schema { append.schema(schema) } else { append }
}

fn made() -> impl Strategy<Value = Made> {
    let piece = prop_oneof![4 => proptest::collection::vec(any::<u8>(), 0..40), 1 => proptest::collection::vec(any::<u8>(), 3000..6000)];
    let pieces = proptest::collection::vec(piece, 0..4);
    (0..=239u8, any::<Option<u32>>(), pieces, any::<bool>())
        .prop_map(|(kind, schema, pieces, in_batch)| Made { kind, schema, pieces, in_batch })
}

fn write(wal: &Wal, all: &[Made]) {
    let mut batch = wal.batch();
    for made in all {
        let slices = made.slices();
        if made.in_batch {
            batch.push_with(append(made, &slices)).unwrap();
            continue;
        }
        if !batch.is_empty() {
            std::mem::replace(&mut batch, wal.batch()).commit().unwrap();
        }
        wal.append_with(append(made, &slices)).unwrap();
    }
    if !batch.is_empty() {
        batch.commit().unwrap();
    }
}

fn check<'a>(all: &[Made], read: impl IntoIterator<Item = &'a Record>) {
    let read: Vec<_> = read.into_iter().collect();
    assert_eq!(read.len(), all.len());
    for (lsn, (made, record)) in (1..).zip(all.iter().zip(read)) {
        assert_eq!(record.lsn.0, lsn);
        assert_eq!((record.kind.0, record.fields.schema), (made.kind, made.schema));
        assert_eq!(record.payload, made.payload());
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(40))]

    #[test]
    fn pieces_and_schemas_come_back_by_every_way_to_read(all in proptest::collection::vec(made(), 1..60)) {
        let dir = tempfile::tempdir().unwrap();
        let wal = options().open(dir.path()).unwrap();
        write(&wal, &all);
        let collect = |records: braidlog::Records| records.collect::<Result<Vec<_>, _>>().unwrap();
        check(&all, &collect(wal.replay().unwrap()));
        check(&all, &collect(wal.iter(..).unwrap()));
        let reversed = wal.iter_rev(..).unwrap().collect::<Result<Vec<_>, _>>().unwrap();
        check(&all, reversed.iter().rev());
        let mut followed = wal.subscribe(wal.first_lsn()).unwrap();
        let mut seen = Vec::new();
        while let Some(record) = followed.try_next().unwrap() {
            seen.push(record);
        }
        check(&all, &seen);
        let read: Vec<_> = (1..=all.len() as u64).map(|lsn| wal.read(braidlog::Lsn(lsn)).unwrap().unwrap()).collect();
        check(&all, &read);
        wal.close().unwrap();

        let wal = options().open(dir.path()).unwrap();
        let mut applied = [const { Vec::new() }; 3];
        wal.replay_partitioned(
            Replay::new(),
            &mut applied,
            |record| record.lsn.0,
            |applied, record| {
                applied.push(record.to_owned());
                Ok(())
            },
        ).unwrap();
        let mut applied = applied.concat();
        applied.sort_by_key(|record| record.lsn);
        check(&all, &applied);
    }
}

/// A fork wrote payloads without the fields before them.
#[test]
fn a_fork_keeps_what_records_carry() {
    let dir = tempfile::tempdir().unwrap();
    let (path, dest) = (dir.path().join("wal"), dir.path().join("fork"));
    let wal = options().open(path).unwrap();
    wal.append_with(Append::new(b"versioned").schema(7)).unwrap();
    wal.append(b"plain").unwrap();
    wal.fork(&dest, Target::lsn(wal.last_lsn())).unwrap();
    let read = |wal: &Wal| wal.iter(..).unwrap().collect::<Result<Vec<_>, _>>().unwrap();
    let (of_log, of_fork) = (read(&wal), read(&options().open(dest).unwrap()));
    assert_eq!(of_fork, of_log);
    assert_eq!(of_fork[0].fields.schema, Some(7));
}

#[test]
fn the_limit_counts_the_payload_and_not_what_stands_beside_it() {
    let dir = tempfile::tempdir().unwrap();
    let wal = options().max_record_bytes(1000).open(dir.path()).unwrap();
    let (most, more) = ([7; 1000], [7; 1]);
    wal.append_with(Append::vectored(&[IoSlice::new(&most)]).schema(1)).unwrap();
    let pieces = [IoSlice::new(&most), IoSlice::new(&more)];
    assert_eq!(wal.append_with(Append::vectored(&pieces)).unwrap_err().kind(), ErrorKind::InvalidInput);
    assert_eq!(wal.batch().push_with(Append::vectored(&pieces)).unwrap_err().kind(), ErrorKind::InvalidInput);
    assert_eq!(wal.last_lsn(), wal.first_lsn(), "what was refused left nothing");
}

#[test]
fn the_logs_own_kinds_are_refused_in_pieces_too() {
    let dir = tempfile::tempdir().unwrap();
    let wal = options().open(dir.path()).unwrap();
    for kind in 240..=255 {
        let append = Append::vectored(&[]).kind(kind).schema(1);
        assert_eq!(wal.append_with(append).unwrap_err().kind(), ErrorKind::InvalidInput);
        assert_eq!(wal.batch().push_with(append).unwrap_err().kind(), ErrorKind::InvalidInput);
    }
}
