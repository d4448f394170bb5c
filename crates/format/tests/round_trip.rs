//! Properties of the codec over all values and all bytes: what is encoded is decoded, what proves itself was
//! encoded so, and bytes that nobody encoded are refused without a panic.

use braidlog_format::{
    BLOCK_LEN, DecodeError, ENTRY_HEADER_LEN, Entry, EntryHeader, ExtendedField, ExtendedFields, Flags,
    INDEX_POINTS_MAX, Incarnation, IndexPoint, Kind, LogId, Lsn, Predecessor, SEGMENT_HEADER_LEN, Salt, Seal,
    SealView, SegmentHeader, SegmentName, SyncMark, TornName, USER_METADATA_MAX, UserMetadata, checksum,
};
use proptest::collection::vec;
use proptest::prelude::*;

const HEAD: usize = ENTRY_HEADER_LEN as usize;

/// A file offset at which an entry may stand.
fn offset() -> impl Strategy<Value = u64> {
    (512_u64..1 << 40).prop_map(|words| words * 8)
}

fn flags() -> impl Strategy<Value = Flags> {
    (0_u8..16).prop_map(|bits| Flags::from_bits(bits).unwrap())
}

/// A kind and flags with which version 1 reads an entry.
fn readable() -> impl Strategy<Value = (Kind, Flags)> {
    (any::<u8>().prop_map(Kind), flags())
        .prop_map(|(kind, flags)| (kind, if kind.is_known() { flags } else { flags.with(Flags::IGNORABLE) }))
}

/// Header and payload of an entry that version 1 reads.
fn entry() -> impl Strategy<Value = (EntryHeader, Vec<u8>)> {
    (any::<u64>(), any::<u64>(), readable(), vec(any::<u8>(), 0..600)).prop_map(
        |(lsn, timestamp_ns, (kind, flags), payload)| {
            (EntryHeader::for_payload(Lsn(lsn), timestamp_ns, kind, flags, &payload), payload)
        },
    )
}

/// The bytes of an entry in its place.
fn encode(header: &EntryHeader, payload: &[u8], salt: Salt, offset: u64) -> Vec<u8> {
    let mut bytes = header.encode(salt, offset).to_vec();
    bytes.extend_from_slice(payload);
    bytes.resize(header.entry_len() as usize, 0);
    bytes
}

fn predecessor_and_base() -> impl Strategy<Value = (Option<Predecessor>, Lsn)> {
    let facts = (any::<u64>(), any::<u32>(), any::<bool>());
    prop_oneof![
        (1..=Lsn::MAX.0).prop_map(|base| (None, Lsn(base))),
        (1..Lsn::MAX.0, any::<u64>(), facts).prop_map(|(base, count, (timestamp, checksum, sealed))| {
            let last = base + count % (Lsn::MAX.0 - base);
            let predecessor = Predecessor {
                base: Lsn(base),
                last: Lsn(last),
                last_timestamp_ns: timestamp,
                last_checksum: checksum,
                sealed,
            };
            (Some(predecessor), Lsn(last + 1))
        }),
    ]
}

fn segment_header() -> impl Strategy<Value = SegmentHeader> {
    let ids = (any::<[u8; 16]>(), any::<u64>(), any::<u32>(), any::<u64>(), any::<bool>());
    let open = any::<prop::sample::Index>();
    (ids, predecessor_and_base(), vec(any::<u8>(), 0..=USER_METADATA_MAX), open).prop_map(
        |((log_id, incarnation, salt, created_at_ns, recycled), (predecessor, base), metadata, open)| {
            SegmentHeader {
                log_id: LogId(log_id),
                incarnation: Incarnation(incarnation),
                salt: Salt(salt),
                base,
                predecessor,
                recycled,
                created_at_ns,
                user_metadata: UserMetadata::new(&metadata).unwrap(),
                open_from: Some(Lsn(open.index(base.0 as usize) as u64)).filter(|&lsn| lsn != Lsn::ZERO),
            }
        },
    )
}

/// Bytes to write over others: one, or a number at an end of its range.
fn patch() -> impl Strategy<Value = Vec<u8>> {
    prop_oneof![
        any::<u8>().prop_map(|byte| vec![byte]),
        prop::sample::select(vec![0, 1, Lsn::MAX.0, Lsn::MAX.0 + 1, u64::MAX - 1, u64::MAX])
            .prop_map(|number| number.to_le_bytes().to_vec()),
    ]
}

fn field() -> impl Strategy<Value = (u8, Vec<u8>)> {
    prop_oneof![
        any::<[u8; 8]>().prop_map(|value| (1, value.to_vec())),
        any::<[u8; 8]>().prop_map(|value| (2, value.to_vec())),
        any::<[u8; 4]>().prop_map(|value| (3, value.to_vec())),
        any::<[u8; 5]>().prop_map(|value| (4, value.to_vec())),
        any::<[u8; 8]>().prop_map(|value| (5, value.to_vec())),
        Just((6, Vec::new())),
        (128_u8.., vec(any::<u8>(), 0..=255)),
    ]
}

/// What a field's bytes are to be decoded to, said without the decoder.
fn meaning((number, value): &(u8, Vec<u8>)) -> ExtendedField<'_> {
    let number_at = |from: usize| value[from..].iter().rev().fold(0, |all, &byte| all << 8 | u64::from(byte));
    match number {
        1 => ExtendedField::Transaction(number_at(0)),
        2 => ExtendedField::Stream(number_at(0)),
        3 => ExtendedField::Schema(number_at(0) as u32),
        4 => ExtendedField::Compression { algorithm: value[0], plain_len: number_at(1) as u32 },
        5 => ExtendedField::Sequence(number_at(0)),
        6 => ExtendedField::Provisional,
        &number => ExtendedField::Ignorable(number, value),
    }
}

proptest! {
    #[test]
    fn entry_is_decoded_as_it_was_encoded(
        (header, payload) in entry(), salt in any::<u32>(), offset in offset(), behind in vec(any::<u8>(), 0..40),
    ) {
        let mut bytes = encode(&header, &payload, Salt(salt), offset);
        prop_assert_eq!(bytes.len() as u64, header.entry_len());
        bytes.extend_from_slice(&behind);
        let decoded = Entry::decode(&bytes, Salt(salt), offset).unwrap();
        prop_assert_eq!(decoded.header, header);
        prop_assert_eq!(decoded.payload, &payload);
        prop_assert_eq!(&decoded.checksum.to_le_bytes()[..], &bytes[16..20]);
    }

    #[test]
    fn entry_placed_late_has_the_bytes_of_one_placed_at_once(
        (header, _) in entry(), salt in any::<u32>(), offset in offset(), late in 0_u8..16,
    ) {
        let EntryHeader { lsn, timestamp_ns, kind, flags, payload_len, payload_checksum } = header;
        let late = Flags::from_bits(late).unwrap();
        let mut bytes = EntryHeader::encode_unplaced(kind, flags, payload_len, payload_checksum);
        EntryHeader::add_flags_unplaced(&mut bytes, late);
        prop_assert_eq!(EntryHeader::payload_len_unplaced(&bytes), payload_len);
        let checksum = EntryHeader::place(&mut bytes, lsn, timestamp_ns, Salt(salt), offset);
        let at_once = EntryHeader { flags: flags.with(late), ..header }.encode(Salt(salt), offset);
        prop_assert_eq!(bytes, at_once);
        prop_assert_eq!(EntryHeader::stored_checksum(&at_once), checksum);
    }

    #[test]
    fn entry_proves_itself_in_its_place_only(
        (header, payload) in entry(), salt in any::<u32>(), other_salt in any::<u32>(), offset in offset(),
        other_offset in offset(),
    ) {
        let bytes = encode(&header, &payload, Salt(salt), offset);
        let same = Salt(other_salt).seed(other_offset) == Salt(salt).seed(offset);
        let found = Entry::decode(&bytes, Salt(other_salt), other_offset);
        prop_assert_eq!(found.is_ok(), same);
    }

    #[test]
    fn cut_entry_is_short_and_says_by_how_much(
        (header, payload) in entry(), salt in any::<u32>(), offset in offset(), cut in any::<prop::sample::Index>(),
    ) {
        let bytes = encode(&header, &payload, Salt(salt), offset);
        let have = cut.index(bytes.len());
        let need = if have < HEAD { ENTRY_HEADER_LEN } else { header.entry_len() };
        let expected = Err(DecodeError::Short { have: have as u64, need });
        prop_assert_eq!(Entry::decode(&bytes[..have], Salt(salt), offset), expected);
    }

    #[test]
    fn changed_entry_is_noticed_wherever_it_was_changed(
        (header, payload) in entry(), salt in any::<u32>(), offset in offset(),
        at in any::<prop::sample::Index>(), by in 1_u8..,
    ) {
        let mut bytes = encode(&header, &payload, Salt(salt), offset);
        let at = at.index(bytes.len());
        bytes[at] ^= by;
        let error = Entry::decode(&bytes, Salt(salt), offset).unwrap_err();
        let expected = match at {
            0..HEAD => matches!(error, DecodeError::HeaderChecksum { .. }),
            _ if at < HEAD + payload.len() => matches!(error, DecodeError::PayloadChecksum { .. }),
            _ => error == DecodeError::NonZeroPadding,
        };
        prop_assert!(expected, "byte {}: {}", at, error);
    }

    /// Any header bytes with a right checksum: what is decoded is what stands there, or a reason why not.
    #[test]
    fn mutated_header_with_a_right_checksum_is_read_as_it_stands(
        words in any::<[[u8; 16]; 2]>(), reserved in prop::sample::select(vec![[0, 0], [0, 1], [1, 0]]), salt in any::<u32>(), offset in offset(),
    ) {
        let mut bytes: [u8; HEAD] = words.concat().try_into().unwrap();
        bytes[22..24].copy_from_slice(&reserved);
        let lsn = Lsn(u64::from_le_bytes(bytes[..8].try_into().unwrap()));
        let timestamp_ns = u64::from_le_bytes(bytes[8..16].try_into().unwrap());
        EntryHeader::place(&mut bytes, lsn, timestamp_ns, Salt(salt), offset);
        let (kind, flags) = (Kind(bytes[20]), bytes[21]);
        match EntryHeader::decode(&bytes, Salt(salt), offset) {
            Ok(header) => {
                prop_assert_eq!(reserved, [0, 0]);
                prop_assert_eq!((header.lsn, header.timestamp_ns), (lsn, timestamp_ns));
                prop_assert_eq!(header.encode(Salt(salt), offset), bytes);
            }
            Err(DecodeError::InvalidField { .. }) => prop_assert!(reserved != [0, 0]),
            Err(DecodeError::NewerFlags { bits }) => prop_assert_eq!((bits, flags > 15), (flags, true)),
            Err(DecodeError::NewerKind { kind: newer }) => {
                prop_assert_eq!((newer, kind.is_known(), flags & 8), (kind.0, false, 0));
            }
            Err(error) => prop_assert!(false, "{}", error),
        }
    }

    #[test]
    fn bytes_that_nobody_encoded_are_refused(
        bytes in vec(any::<u8>(), 0..300), block in vec(any::<u8>(), 4096), salt in any::<u32>(), offset in offset(),
        file_len in any::<u64>(), trailer in any::<[u8; 4]>(),
    ) {
        // No more than one in 2^32 of these proves itself.
        prop_assert!(Entry::decode(&bytes, Salt(salt), offset).is_err());
        let mut block: [u8; 4096] = block.try_into().unwrap();
        prop_assert!(SegmentHeader::decode(&block).is_err());
        block[..5].copy_from_slice(b"GWAL\x01");
        prop_assert!(SegmentHeader::decode(&block).is_err());
        // Of the others there are some that mean something; none makes them panic or answer out of bounds.
        if let Some(start) = SealView::locate(file_len, trailer) {
            let end = start + ENTRY_HEADER_LEN + u64::from(u32::from_le_bytes(trailer));
            prop_assert_eq!(end, file_len);
        }
        if let Ok(view) = SealView::decode(&bytes) {
            prop_assert!(8 * view.in_doubt().len() + 16 * view.index().len() < bytes.len());
        }
        prop_assert_eq!(SyncMark::decode(&bytes).is_ok_and(|_| bytes.len() != 16), false);
        if let Ok((fields, rest)) = ExtendedFields::split(&bytes) {
            prop_assert!(rest.len() + 2 <= bytes.len());
            prop_assert!(fields.count() <= bytes.len() / 2);
        }
    }

    #[test]
    fn segment_header_is_decoded_as_it_was_encoded(header in segment_header(), dirt in any::<u8>()) {
        let mut block = [dirt; SEGMENT_HEADER_LEN as usize];
        header.encode(&mut block);
        prop_assert_eq!(SegmentHeader::decode(&block), Ok(header));
    }

    /// Changed bytes under a right checksum: refused, or decoded to what encodes to these very bytes.
    #[test]
    fn mutated_segment_header_with_a_right_checksum_is_read_as_it_stands(
        header in segment_header(), at in 0_usize..400, value in patch(),
    ) {
        let mut block = [0; SEGMENT_HEADER_LEN as usize];
        header.encode(&mut block);
        block[at..at + value.len()].copy_from_slice(&value);
        let sum = checksum::crc32(&block[..4092]);
        block[4092..].copy_from_slice(&sum.to_le_bytes());
        if let Ok(decoded) = SegmentHeader::decode(&block) {
            let mut again = [0; SEGMENT_HEADER_LEN as usize];
            decoded.encode(&mut again);
            prop_assert_eq!(&again[..], &block[..]);
        }
    }

    #[test]
    fn sync_mark_is_decoded_as_it_was_encoded(durable_lsn in any::<u64>(), block in 1..u64::MAX / BLOCK_LEN) {
        let mark = SyncMark { durable_lsn: Lsn(durable_lsn), synced_offset: block * BLOCK_LEN };
        prop_assert_eq!(SyncMark::decode(&mark.encode()), Ok(mark));
        prop_assert!(SyncMark::decode(&mark.encode()[1..]).is_err());
    }

    #[test]
    fn seal_is_decoded_as_it_was_encoded(
        facts in any::<(u64, u64, u64, u32)>(), in_doubt in vec(any::<u64>(), 0..700),
        points in vec(any::<(u64, u64)>(), 0..=INDEX_POINTS_MAX), start in 1_u64..1 << 30,
    ) {
        let index: Vec<IndexPoint> =
            points.into_iter().map(|(lsn, offset)| IndexPoint { lsn: Lsn(lsn), offset }).collect();
        let (count, last_lsn, last_timestamp_ns, last_checksum) = facts;
        let seal = Seal {
            count,
            last_lsn: Lsn(last_lsn),
            last_timestamp_ns,
            last_checksum,
            in_doubt: &in_doubt,
            index: &index,
        };
        let mut payload = vec![0xFF; seal.payload_len() as usize];
        seal.encode(&mut payload);
        let view = SealView::decode(&payload).unwrap();
        let found = (view.count, view.last_lsn.0, view.last_timestamp_ns, view.last_checksum);
        prop_assert_eq!(found, facts);
        prop_assert_eq!(view.in_doubt().collect::<Vec<_>>(), &in_doubt[..]);
        prop_assert_eq!(view.index().collect::<Vec<_>>(), &index[..]);
        let start = start * BLOCK_LEN;
        let end = start + ENTRY_HEADER_LEN + payload.len() as u64;
        prop_assert_eq!(SealView::locate(end, *payload.last_chunk().unwrap()), Some(start));
        // Its lists do not fit into a block less.
        prop_assert!(44 + 8 * in_doubt.len() + 16 * index.len() + 4096 > payload.len());
    }

    #[test]
    fn extended_fields_are_decoded_as_they_were_encoded(
        fields in vec(field(), 0..8), rest in vec(any::<u8>(), 0..50),
    ) {
        let bytes: Vec<u8> =
            fields.iter().flat_map(|(number, value)| [&[*number, value.len() as u8], &value[..]].concat()).collect();
        let mut payload = (bytes.len() as u16).to_le_bytes().to_vec();
        payload.extend_from_slice(&bytes);
        payload.extend_from_slice(&rest);
        let (found, found_rest) = ExtendedFields::split(&payload).unwrap();
        prop_assert_eq!(found_rest, &rest);
        let found: Vec<_> = found.map(Result::unwrap).collect();
        prop_assert_eq!(found, fields.iter().map(meaning).collect::<Vec<_>>());
    }

    #[test]
    fn known_field_has_its_length_and_no_other(number in prop_oneof![0_u8..7, 0_u8..128], value in vec(any::<u8>(), 0..12)) {
        let mut payload = (2 + value.len() as u16).to_le_bytes().to_vec();
        payload.extend([number, value.len() as u8]);
        payload.extend_from_slice(&value);
        let (mut fields, _) = ExtendedFields::split(&payload).unwrap();
        let documented = matches!((number, value.len()), (1 | 2 | 5, 8) | (3, 4) | (4, 5) | (6, 0));
        prop_assert_eq!(fields.next().unwrap().is_ok(), documented);
    }

    #[test]
    fn field_cut_anywhere_is_refused(
        fields in vec(field(), 1..5), cut in any::<prop::sample::Index>(),
    ) {
        let ends: Vec<usize> = fields
            .iter()
            .scan(0, |end, (_, value)| {
                *end += 2 + value.len();
                Some(*end)
            })
            .collect();
        let bytes: Vec<u8> =
            fields.iter().flat_map(|(number, value)| [&[*number, value.len() as u8], &value[..]].concat()).collect();
        let len = cut.index(bytes.len());
        let mut payload = (len as u16).to_le_bytes().to_vec();
        payload.extend_from_slice(&bytes[..len]);
        let (found, _) = ExtendedFields::split(&payload).unwrap();
        let whole = len == 0 || ends.contains(&len);
        prop_assert_eq!(found.clone().all(|field| field.is_ok()), whole);
        prop_assert_eq!(ExtendedFields::split(&payload[..payload.len() - 1]).is_err(), true);
    }

    #[test]
    fn names_are_parsed_as_they_were_written(base in any::<u64>(), incarnation in any::<u64>()) {
        let name = SegmentName(Lsn(base));
        prop_assert_eq!(SegmentName::parse(&name.to_string()), Some(name));
        prop_assert_eq!(TornName::parse(&name.to_string()), None);
        let torn = TornName { base: Lsn(base), incarnation: Incarnation(incarnation) };
        prop_assert_eq!(TornName::parse(&torn.to_string()), Some(torn));
        prop_assert_eq!(SegmentName::parse(&torn.to_string()), None);
    }

    #[test]
    fn names_sort_as_their_lsns_do(one in any::<u64>(), other in any::<u64>()) {
        let (name, other_name) = (SegmentName(Lsn(one)).to_string(), SegmentName(Lsn(other)).to_string());
        prop_assert_eq!(name.cmp(&other_name), one.cmp(&other));
    }

    #[test]
    fn what_parses_as_a_name_is_written_so(name in "[0-9+]?[0-9]{19,20}(-[0-9]{0,3})?(\\.wal|\\.torn)") {
        if let Some(segment) = SegmentName::parse(&name) {
            prop_assert_eq!(segment.to_string(), &name[..]);
        }
        if let Some(torn) = TornName::parse(&name) {
            prop_assert_eq!(torn.to_string(), &name[..]);
        }
    }
}
