//! Typed entries: values come back as they were appended, by every codec, and what is no value is never taken for one.

use std::fmt::Debug;
use std::sync::Arc;

use braidlog::{
    BoxError, Codec, ErrorKind, Lsn, Options, Postcard, Readable, RecordRef, Rkyv, Schema, TypedLog,
    TypedReadOnly, TypedWal, Value, Wal,
};
use proptest::prelude::*;
use rkyv::rancor;
use rkyv::util::AlignedVec;

#[derive(
    Clone,
    PartialEq,
    Debug,
    rkyv::Archive,
    rkyv::Serialize,
    rkyv::Deserialize,
    serde::Serialize,
    serde::Deserialize,
)]
struct Order {
    id: u64,
    /// Asks for an alignment of 16, which no payload in a log has of itself.
    total: u128,
    lines: Vec<(String, u32)>,
    note: Option<String>,
}

fn order() -> impl Strategy<Value = Order> {
    let lines = proptest::collection::vec((".{0,12}", any::<u32>()), 0..5);
    let fields = (any::<u64>(), any::<u128>(), lines, proptest::option::of(".{0,80}"));
    fields.prop_map(|(id, total, lines, note)| Order { id, total, lines, note })
}

fn options() -> Options {
    Wal::options().background_threads(false).segment_size(64 << 10)
}

fn back(archived: &rkyv::Archived<Order>) -> Order {
    rkyv::deserialize::<Order, rancor::Error>(archived).unwrap()
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    #[test]
    fn values_come_back_as_they_were(orders in proptest::collection::vec(order(), 1..20), in_batch in any::<bool>()) {
        let dir = tempfile::tempdir().unwrap();
        let wal = options().open(dir.path()).unwrap();
        let archived = TypedWal::with(wal.clone(), Rkyv, Schema::new().kind(1).version(3));
        let compact = TypedWal::with(wal.clone(), Postcard, Schema::new().kind(2));
        for order in &orders {
            // So that payloads stand at every place that there is.
            wal.append_with(braidlog::Append::new("between").kind(9)).unwrap();
            if in_batch {
                let mut batch = wal.batch();
                archived.push(&mut batch, order).unwrap();
                compact.push(&mut batch, order).unwrap();
                batch.commit().unwrap();
            } else {
                archived.append(order).unwrap();
                compact.append(order).unwrap();
            }
        }
        let (mut seen, mut others) = (Vec::new(), 0);
        let mut records = archived.replay().unwrap();
        while let Some(record) = records.next_ref() {
            match record.unwrap().value {
                Value::Current(order) => seen.push(back(order)),
                Value::Upgraded(_) => panic!("no earlier schema"),
                Value::Raw => others += 1,
            }
        }
        prop_assert_eq!((&seen, others), (&orders, 2 * orders.len()));
        let mut records = compact.iter(..).unwrap();
        let mut seen = Vec::new();
        while let Some(record) = records.next_ref() {
            if let Value::Current(order) = record.unwrap().value {
                seen.push(order);
            }
        }
        prop_assert_eq!(seen, orders);
    }

    #[test]
    fn bytes_of_any_kind_are_refused_or_a_value_and_never_a_panic(bytes in proptest::collection::vec(any::<u8>(), 0..120)) {
        let dir = tempfile::tempdir().unwrap();
        let wal = options().open(dir.path()).unwrap();
        let lsn = wal.append(&bytes).unwrap();
        let archived = TypedWal::<Order, _>::new(wal.clone(), Rkyv);
        if let Some(Err(error)) = archived.replay().unwrap().next_ref() {
            prop_assert_eq!((error.kind(), error.lsns().map(|lsns| lsns.first)), (ErrorKind::Application, Some(lsn)));
        }
        let compact = TypedWal::<Order, _>::new(wal, Postcard);
        let _ = compact.replay().unwrap().next_ref();
    }
}

/// A look at the same payload from every place in memory.
#[test]
fn an_archive_is_read_wherever_it_lies() {
    let dir = tempfile::tempdir().unwrap();
    let wal = TypedWal::new(options().open(dir.path()).unwrap(), Rkyv);
    let order = Order { id: 1, total: u128::MAX, lines: vec![("a".repeat(40), 2)], note: None };
    wal.append(&order).unwrap();
    let record = wal.wal().iter(..).unwrap().next().unwrap().unwrap();
    for shift in 0..16 {
        let mut bytes = AlignedVec::<16>::new();
        bytes.extend_from_slice(&vec![0; shift]);
        bytes.extend_from_slice(&record.payload);
        let shifted = record_ref(&record, &bytes[shift..]);
        let mut scratch = AlignedVec::new();
        let read = wal.decode(shifted, &mut scratch).unwrap();
        let Value::Current(archived) = read.value else { panic!("a value") };
        assert_eq!(back(archived), order);
    }
}

fn record_ref<'a>(record: &braidlog::Record, payload: &'a [u8]) -> RecordRef<'a> {
    RecordRef {
        lsn: record.lsn,
        effective_at: record.effective_at,
        timestamp_ns: record.timestamp_ns,
        kind: record.kind,
        batch_continues: record.batch_continues,
        fields: braidlog::FieldsRef::default(),
        payload,
    }
}

/// Bytes that may be shared.
#[derive(rkyv::Archive, rkyv::Serialize)]
struct Twins {
    first: Arc<[u8]>,
    second: Arc<[u8]>,
}

#[test]
fn pointers_that_share_a_value_have_to_agree_on_it() {
    let dir = tempfile::tempdir().unwrap();
    let wal = TypedWal::new(options().open(dir.path()).unwrap(), Rkyv);
    let first: Arc<[u8]> = Arc::from(&b"shared"[..]);
    wal.append(&Twins { second: Arc::clone(&first), first }).unwrap();
    let payload = wal.wal().read(Lsn(1)).unwrap().unwrap().payload;
    // The last pointer ends with its length. Each is a pointer into the archive, but not both to one value.
    let mut torn = payload.clone();
    let last = torn.len() - 4;
    assert_eq!(torn[last..], 6u32.to_le_bytes());
    torn[last] = 5;
    wal.wal().append(&torn).unwrap();
    wal.wal().append(&payload).unwrap();

    let mut records = wal.replay().unwrap();
    let mut seen = Vec::new();
    while let Some(record) = records.next_ref() {
        seen.push(match record {
            Ok(record) => match record.value {
                Value::Current(twins) => Ok(std::ptr::eq(&*twins.first, &*twins.second)),
                _ => panic!("no value"),
            },
            Err(error) => Err((error.kind(), error.lsns().map(|lsns| lsns.first))),
        });
    }
    assert_eq!(seen, [Ok(true), Err((ErrorKind::Application, Some(Lsn(2)))), Ok(true)]);
}

/// Numbers of a fixed width: version 0 had 4 bytes, version 1 has 8.
struct Wide;

impl Codec<u64> for Wide {
    type View<'a> = u64;
    type Scratch = [u8; 8];

    fn encode<'a>(&self, value: &u64, scratch: &'a mut [u8; 8]) -> Result<&'a [u8], BoxError> {
        if *value == 13 {
            return Err("13 brings bad luck".into());
        }
        *scratch = value.to_le_bytes();
        Ok(scratch)
    }

    fn decode<'a>(&self, payload: &'a [u8], _: &'a mut [u8; 8]) -> Result<u64, BoxError> {
        wide(payload)
    }
}

fn wide(payload: &[u8]) -> Result<u64, BoxError> {
    Ok(u64::from_le_bytes(payload.try_into()?))
}

fn narrow(payload: &[u8]) -> Result<u64, BoxError> {
    Ok(u32::from_le_bytes(payload.try_into()?).into())
}

fn values<L: Readable, T: Debug + Copy, C>(log: &TypedLog<L, T, C>) -> Vec<Result<T, ErrorKind>>
where
    C: for<'a> Codec<T, View<'a> = T>,
{
    let mut records = log.replay().unwrap();
    let mut values = Vec::new();
    while let Some(record) = records.next_ref() {
        values.push(match record {
            Ok(record) => match record.value {
                Value::Current(value) => Ok(value),
                Value::Upgraded(value) => Ok(*value),
                Value::Raw => continue,
            },
            Err(error) => Err(error.kind()),
        });
    }
    values
}

#[test]
fn earlier_schemas_are_upgraded_and_unknown_ones_are_told_and_passed() {
    let dir = tempfile::tempdir().unwrap();
    let wal = options().open(dir.path()).unwrap();
    wal.append(7u32.to_le_bytes()).unwrap();
    let second = TypedWal::with(wal.clone(), Wide, Schema::new().version(1).upgrade(0, narrow));
    second.append(&u64::MAX).unwrap();
    let third = TypedWal::with(wal.clone(), Wide, Schema::new().version(2));
    third.append(&5).unwrap();
    assert_eq!(values(&second), [Ok(7), Ok(u64::MAX), Err(ErrorKind::Newer)]);
    assert_eq!(values(&third), [Err(ErrorKind::InvalidInput), Err(ErrorKind::InvalidInput), Ok(5)]);

    // Each version has its own way.
    let schema = Schema::new().version(2).upgrade(0, narrow).upgrade(1, |payload| Ok(wide(payload)? / 2));
    let both = TypedWal::with(wal.clone(), Wide, schema);
    assert_eq!(values(&both), [Ok(7), Ok(u64::MAX / 2), Ok(5)]);
}

#[test]
fn a_value_that_is_refused_leaves_nothing() {
    let dir = tempfile::tempdir().unwrap();
    let wal = TypedWal::new(options().open(dir.path()).unwrap(), Wide);
    let error = wal.append(&13).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Application);
    assert!(error.to_string().contains("13 brings bad luck"), "{error}");
    assert!(!error.is_indeterminate());
    assert_eq!(wal.wal().last_lsn().0, 0);
}

#[test]
fn a_log_that_is_only_read_gives_the_same_values() {
    let dir = tempfile::tempdir().unwrap();
    let wal = options().open(dir.path()).unwrap();
    let schema = || Schema::new().kind(4).version(1).upgrade(0, narrow);
    wal.append_with(braidlog::Append::new(&7u32.to_le_bytes()).kind(4)).unwrap();
    wal.append("of another kind").unwrap();
    let writer = TypedWal::with(wal.clone(), Wide, schema());
    writer.append(&8).unwrap();
    writer.append(&9).unwrap();
    wal.append_with(braidlog::Append::new(b"no number").kind(4).schema(1)).unwrap();
    let all = [Ok(7), Ok(8), Ok(9), Err(ErrorKind::Application)];
    assert_eq!(values(&writer), all);
    wal.close().unwrap();

    let reader = TypedReadOnly::with(Wal::open_read_only(dir.path()).unwrap(), Wide, schema());
    assert_eq!(values(&reader), all);
    let (mut records, mut raw) = (reader.iter(..=Lsn(2)).unwrap(), 0);
    while let Some(record) = records.next_ref() {
        raw += u32::from(matches!(record.unwrap().value, Value::Raw));
    }
    assert_eq!((raw, records.applied_to()), (1, Lsn(2)));

    // A record from anywhere.
    let read = reader.log().read(Lsn(3)).unwrap().unwrap();
    let fields = read.fields.encode();
    let fields = braidlog::FieldsRef::of_bytes(&fields[2..]);
    let mut scratch = [0; 8];
    let decoded = reader.decode(RecordRef { fields, ..record_ref(&read, &read.payload) }, &mut scratch);
    assert!(matches!(decoded.unwrap().value, Value::Current(8)));
    let upgraded = reader.decode(record_ref(&read, &read.payload), &mut scratch);
    assert_eq!(upgraded.err().unwrap().kind(), ErrorKind::Application, "version 0 has 4 bytes");
}
