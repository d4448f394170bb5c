//! Opening again: the log goes on where it ended, whoever ended it and how.

use std::collections::BTreeSet;
use std::fs;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use braidlog::{Append, Durability, DurabilityMode, Incarnation, Lsn, Options, TailState, Wal};
use braidlog_format::SegmentHeader;
use braidlog_sim::{SimClock, Stamp};

#[path = "support/patience.rs"]
mod patience;

use patience::until;

/// Small files, so that opening and closing often is cheap.
fn small() -> Options {
    Wal::options().num_stripes(2).stripe_capacity(16 << 10).segment_size(64 << 10).write_buffer_size(64 << 10)
}

fn directory(path: &Path) -> Vec<(String, u64)> {
    let mut files: Vec<_> = fs::read_dir(path)
        .unwrap()
        .map(|entry| {
            let entry = entry.unwrap();
            (entry.file_name().into_string().unwrap(), entry.metadata().unwrap().len())
        })
        .collect();
    files.sort();
    files
}

#[test]
fn lsns_go_on_and_the_incarnation_rises() {
    let dir = tempfile::tempdir().unwrap();
    let mut log_id = None;
    for opening in 1..=10u64 {
        let wal = small().open(dir.path()).unwrap();
        assert_eq!(wal.incarnation(), Incarnation(opening));
        assert_eq!(*log_id.get_or_insert(wal.log_id()), wal.log_id(), "a log keeps its identity");
        let report = wal.recovery_report();
        assert_eq!(report.last_lsn, Lsn((opening - 1) * 30));
        assert_eq!((report.log_id, report.incarnation), (wal.log_id(), wal.incarnation()));
        assert_eq!(report.tail, if opening == 1 { TailState::NewLog } else { TailState::Sealed });
        assert_eq!((wal.last_lsn(), wal.durable_lsn()), (report.last_lsn, report.last_lsn));
        for seq in 0..30 {
            let lsn = wal.append(Stamp::single(opening as u32, seq).payload(3000)).unwrap();
            assert_eq!(lsn, Lsn((opening - 1) * 30 + u64::from(seq) + 1));
        }
        wal.close().unwrap();
    }
    let reader = Wal::open_read_only(dir.path()).unwrap();
    for (index, record) in reader.iter(..).unwrap().enumerate() {
        let stamp = Stamp::of(&record.unwrap().payload);
        assert_eq!((stamp.writer as usize, stamp.seq as usize), (index / 30 + 1, index % 30));
    }
    assert_eq!(reader.last_lsn().unwrap(), Lsn(300));
}

#[test]
fn two_logs_have_two_identities() {
    let (one, two) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    let (one, two) = (small().open(one.path()).unwrap(), small().open(two.path()).unwrap());
    assert_ne!(one.log_id(), two.log_id());
}

/// What a life of `openings` leaves, each of which appends some records or none, and is closed or dropped.
fn quiet_life(openings: u64, appends: impl Fn(u64) -> u64) -> Vec<(String, u64)> {
    let dir = tempfile::tempdir().unwrap();
    let mut last = 0;
    for opening in 1..=openings {
        let wal = small().open(dir.path()).unwrap();
        assert_eq!((wal.incarnation(), wal.last_lsn()), (Incarnation(opening), Lsn(last)));
        for _ in 0..appends(opening) {
            last += 1;
            assert_eq!(wal.append(last.to_le_bytes()).unwrap(), Lsn(last));
        }
        if opening % 2 == 0 {
            wal.close().unwrap();
        }
    }
    let reader = Wal::open_read_only(dir.path()).unwrap();
    let payloads: Vec<_> = reader.iter(..).unwrap().map(|record| record.unwrap().payload).collect();
    assert!(payloads.iter().zip(1u64..).all(|(payload, lsn)| *payload == lsn.to_le_bytes()));
    assert_eq!(payloads.len() as u64, last);
    assert!(reader.segments().unwrap().len() as u64 <= last + 1, "a segment without a record is replaced");
    directory(dir.path())
}

#[test]
fn a_thousand_openings_without_an_append_leave_one_segment() {
    let files = quiet_life(1000, |_| 0);
    // The lock, the reserve and a segment.
    assert!(files.len() <= 6, "{files:?}");
    assert!(files.iter().map(|(_, len)| len).sum::<u64>() <= 96 << 10, "{files:?}");
}

#[test]
fn a_thousand_openings_with_an_append_now_and_then_stay_small() {
    let files = quiet_life(1000, |opening| u64::from(opening % 3 == 0));
    let records = 1000 / 3;
    // The lock, the manifest, the reserve and a segment without a record come to them.
    assert!(files.len() <= records + 7, "{} files", files.len());
    // A header, a round and a seal for each opening that wrote: three blocks. The manifest names each segment, and
    // the reserve has twice the room of three such manifests.
    let bytes = files.iter().map(|(_, len)| len).sum::<u64>();
    assert!(bytes <= records as u64 * 3 * 4096 + (192 << 10), "{bytes} bytes");
}

#[test]
fn a_log_that_was_dropped_is_released_and_whole() {
    let dir = tempfile::tempdir().unwrap();
    for opening in 0..20u64 {
        let wal = small().mode(DurabilityMode::asynchronous()).open(dir.path()).unwrap();
        assert_eq!(wal.last_lsn(), Lsn(opening * 3));
        let (clone, writer) = (wal.clone(), wal.writer());
        wal.append(b"wal").unwrap();
        drop(wal);
        clone.append(b"clone").unwrap();
        drop(clone);
        // The last handle closes the log, and what it accepted is saved.
        writer.append(b"writer").unwrap();
    }
    let wal = small().open(dir.path()).unwrap();
    assert_eq!(wal.replay().unwrap().count(), 60);
}

#[test]
fn a_ticket_or_a_batch_keeps_a_log_open() {
    let dir = tempfile::tempdir().unwrap();
    let wal = small().open(dir.path()).unwrap();
    let ticket = wal.submit(b"one").unwrap();
    let mut batch = wal.batch();
    drop(wal);
    assert_eq!(ticket.wait().unwrap(), Lsn(1));
    batch.push(0, b"two").unwrap();
    assert_eq!(batch.commit().unwrap().last, Lsn(2));
    assert_eq!(small().open(dir.path()).unwrap().last_lsn(), Lsn(2));
}

#[test]
fn other_options_may_be_used_every_time() {
    let dir = tempfile::tempdir().unwrap();
    let mut expected = 0;
    for (num_stripes, stripe_capacity, segment_size, background) in
        [(1, 4096, 64 << 10, true), (16, 1 << 20, 64 << 20, false), (4, 65_536, 1 << 20, true)]
    {
        for mode in [DurabilityMode::Synchronous, DurabilityMode::async_batched()] {
            let wal = Wal::options()
                .mode(mode)
                .num_stripes(num_stripes)
                .stripe_capacity(stripe_capacity)
                .segment_size(segment_size)
                .background_threads(background)
                .user_metadata(format!("opening {expected}"))
                .open(dir.path())
                .unwrap();
            for _ in 0..50 {
                wal.append(Stamp::single(0, expected).payload(2500)).unwrap();
                expected += 1;
            }
            wal.close().unwrap();
        }
    }
    let wal = Wal::options().open(dir.path()).unwrap();
    for (seq, record) in wal.replay().unwrap().enumerate() {
        assert_eq!(Stamp::of(&record.unwrap().payload), Stamp::single(0, seq as u32));
    }
    assert_eq!(wal.last_lsn(), Lsn(u64::from(expected)));
}

#[test]
fn a_batch_is_whole_after_reopening() {
    let dir = tempfile::tempdir().unwrap();
    let wal = small().open(dir.path()).unwrap();
    let mut batch = wal.batch();
    for index in 0..300 {
        batch.push(1, Stamp { writer: 0, seq: 0, index, count: 300 }.payload(1000)).unwrap();
    }
    batch.commit().unwrap();
    wal.close().unwrap();
    let wal = small().open(dir.path()).unwrap();
    for (index, record) in wal.replay().unwrap().enumerate() {
        let record = record.unwrap();
        assert_eq!(usize::from(Stamp::of(&record.payload).index), index);
        assert_eq!(record.batch_continues, index < 299);
    }
}

#[test]
fn segments_rotate_by_size_and_every_finished_one_is_sealed() {
    let dir = tempfile::tempdir().unwrap();
    // Without threads a successor is never late, so that the number of segments is known.
    let wal = small().background_threads(false).open(dir.path()).unwrap();
    for seq in 0..500 {
        let payload = Stamp::single(0, seq).payload(1000);
        wal.append_with(Append::new(&payload).durability(Durability::Async)).unwrap();
    }
    wal.flush().unwrap();
    assert!(wal.metrics().rotations >= 5, "{}", wal.metrics().rotations);
    wal.close().unwrap();
    let segments = Wal::open_read_only(dir.path()).unwrap().segments().unwrap();
    assert!(segments.len() >= 6);
    assert!(segments.iter().all(|segment| segment.sealed), "{segments:?}");
    for pair in segments.windows(2) {
        assert_eq!(pair[0].last.unwrap().next(), pair[1].base);
    }
    assert!(braidlog::verify(dir.path()).unwrap().is_clean());
}

/// A name made of the time would be given twice.
#[test]
fn segments_that_begin_in_the_same_instant_are_all_kept() {
    let dir = tempfile::tempdir().unwrap();
    let options = small().background_threads(false).clock(Arc::new(SimClock::new()));
    for opening in 0..3 {
        let wal = options.open(dir.path()).unwrap();
        for seq in 0..30 {
            wal.append(Stamp::single(opening, seq).payload(9000)).unwrap();
        }
        assert!(wal.metrics().rotations > 3);
        wal.close().unwrap();
    }
    let reader = Wal::open_read_only(dir.path()).unwrap();
    let found: Vec<_> = reader.iter(..).unwrap().map(|record| Stamp::of(&record.unwrap().payload)).collect();
    let appended: Vec<_> =
        (0..3).flat_map(|opening| (0..30).map(move |seq| Stamp::single(opening, seq))).collect();
    assert_eq!(found, appended);
}

#[test]
fn segments_rotate_by_age_when_they_hold_a_record() {
    let dir = tempfile::tempdir().unwrap();
    let clock = Arc::new(SimClock::new());
    let hour = Duration::from_secs(3600);
    let options = small().segment_age_max(Some(hour)).background_threads(false).clock(clock.clone());
    let wal = options.open(dir.path()).unwrap();
    clock.advance(2 * hour);
    wal.append(b"the first, from which the age counts").unwrap();
    clock.advance(hour / 2);
    wal.append(b"young enough").unwrap();
    assert_eq!(wal.metrics().rotations, 0);
    clock.advance(hour / 2);
    wal.append(b"too old").unwrap();
    assert_eq!(wal.metrics().rotations, 1);
    clock.advance(hour / 2);
    wal.append(b"young again").unwrap();
    assert_eq!(wal.metrics().rotations, 1);
    wal.close().unwrap();
    assert!(braidlog::verify(dir.path()).unwrap().is_clean());
}

#[test]
fn a_segment_that_grows_old_while_nothing_is_written_is_followed_by_the_next() {
    let dir = tempfile::tempdir().unwrap();
    let wal = Wal::options().segment_age_max(Some(Duration::from_millis(1))).open(dir.path()).unwrap();
    wal.append(b"x").unwrap();
    until(|| wal.metrics().rotations > 0);
    wal.append(b"y").unwrap();
    wal.close().unwrap();
    assert!(Wal::open_read_only(dir.path()).unwrap().segments().unwrap().len() >= 2);
}

#[test]
fn user_metadata_stands_in_every_segment_of_its_opening() {
    let dir = tempfile::tempdir().unwrap();
    for metadata in ["first", "second"] {
        let wal = small().background_threads(false).user_metadata(metadata).open(dir.path()).unwrap();
        for _ in 0..20 {
            wal.append([0; 9000]).unwrap();
        }
        wal.close().unwrap();
    }
    let mut found = Vec::new();
    for (name, _) in directory(dir.path()).into_iter().filter(|(name, _)| name.ends_with(".wal")) {
        let bytes = fs::read(dir.path().join(name)).unwrap();
        let header = SegmentHeader::decode(bytes.first_chunk().unwrap()).unwrap();
        found.push((header.incarnation, header.user_metadata.as_bytes().to_vec()));
    }
    assert!(found.len() > 4);
    for (incarnation, metadata) in found {
        assert_eq!(metadata, if incarnation == Incarnation(1) { &b"first"[..] } else { b"second" });
    }
}

/// Checksums are seeded with the salt: bytes of one segment that end up in another must not validate there.
#[test]
fn no_two_segments_share_a_salt() {
    let dir = tempfile::tempdir().unwrap();
    for _ in 0..3 {
        let wal = small().background_threads(false).open(dir.path()).unwrap();
        for _ in 0..20 {
            wal.append([0; 9000]).unwrap();
        }
        wal.close().unwrap();
    }
    let mut salts = BTreeSet::new();
    let mut segments = 0;
    for (name, _) in directory(dir.path()).into_iter().filter(|(name, _)| name.ends_with(".wal")) {
        let bytes = fs::read(dir.path().join(name)).unwrap();
        salts.insert(SegmentHeader::decode(bytes.first_chunk().unwrap()).unwrap().salt.0);
        segments += 1;
    }
    assert!(segments > 6);
    assert_eq!(salts.len(), segments);
}

#[test]
fn close_cuts_what_was_allocated_ahead() {
    let dir = tempfile::tempdir().unwrap();
    let wal = Wal::options().open(dir.path()).unwrap();
    wal.append(b"x").unwrap();
    wal.close().unwrap();
    let files = directory(dir.path());
    assert!(files.iter().map(|(_, len)| len).sum::<u64>() <= 96 << 10, "{files:?}");
    assert!(files.iter().all(|(name, _)| !name.ends_with(".prep")), "{files:?}");
}
