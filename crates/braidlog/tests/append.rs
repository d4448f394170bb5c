//! What an append promises to the one who calls it, in every mode and of every size.

use std::future::Future;
use std::pin::Pin;
use std::task::{Context, Waker};
use std::thread;
use std::time::Duration;

use braidlog::{Append, Durability, DurabilityMode, ErrorKind, Kind, Lsn, Options, Ticket, Wal, Writer};
use braidlog_sim::Stamp;
use tempfile::TempDir;

#[path = "support/block_on.rs"]
mod block_on;

use block_on::block_on;

const MODES: [DurabilityMode; 4] = [
    DurabilityMode::Synchronous,
    DurabilityMode::group_commit(),
    DurabilityMode::asynchronous(),
    DurabilityMode::async_batched(),
];

fn tempdir() -> TempDir {
    tempfile::tempdir().unwrap()
}

/// Rings as small as they may be, so that every path beside them is taken.
fn smallest() -> Options {
    Wal::options().num_stripes(1).stripe_capacity(4096).segment_size(64 << 10).write_buffer_size(8192)
}

/// No threads but the caller's: whatever happens, a call made it happen.
fn alone() -> Options {
    smallest().background_threads(false)
}

fn payloads(wal: &Wal) -> Vec<Vec<u8>> {
    wal.replay().unwrap().map(|record| record.unwrap().payload).collect()
}

#[test]
fn lsns_start_at_one_and_follow_one_another() {
    for mode in MODES {
        let dir = tempdir();
        let wal = Wal::options().mode(mode).open(dir.path()).unwrap();
        assert_eq!((wal.last_lsn(), wal.durable_lsn()), (Lsn::ZERO, Lsn::ZERO));
        for expected in 1..=20 {
            assert_eq!(wal.append(b"x").unwrap(), Lsn(expected), "{mode:?}");
            assert_eq!(wal.last_lsn(), Lsn(expected), "{mode:?}");
        }
        wal.close().unwrap();
    }
}

#[test]
fn what_was_appended_is_replayed_byte_for_byte_in_every_mode() {
    for mode in MODES {
        for background in [true, false] {
            let dir = tempdir();
            let wal = Wal::options().mode(mode).background_threads(background).open(dir.path()).unwrap();
            let appended: Vec<Vec<u8>> =
                (0..200).map(|seq| Stamp::single(0, seq).payload(16 + seq as usize * 7)).collect();
            for payload in &appended {
                wal.append(payload).unwrap();
            }
            wal.flush().unwrap();
            assert_eq!(payloads(&wal), appended, "{mode:?}");
            wal.close().unwrap();
            let wal = Wal::options().open(dir.path()).unwrap();
            assert_eq!(payloads(&wal), appended, "{mode:?}");
        }
    }
}

#[test]
fn a_synchronous_append_is_durable_when_it_returns() {
    for mode in &MODES[..2] {
        let dir = tempdir();
        let wal = Wal::options().mode(*mode).open(dir.path()).unwrap();
        for _ in 0..20 {
            let lsn = wal.append(b"x").unwrap();
            assert!(wal.durable_lsn() >= lsn, "{mode:?}");
            assert_eq!(wal.read(lsn).unwrap().unwrap().payload, b"x");
        }
    }
}

#[test]
fn an_asynchronous_append_is_visible_only_when_durable() {
    let dir = tempdir();
    let wal = alone().mode(DurabilityMode::asynchronous()).open(dir.path()).unwrap();
    let lsn = wal.append(b"x").unwrap();
    assert_eq!((wal.last_lsn(), wal.durable_lsn()), (Lsn(1), Lsn::ZERO));
    assert_eq!(wal.read(lsn).unwrap(), None);
    assert_eq!(wal.replay().unwrap().count(), 0);
    wal.wait_durable(lsn).unwrap();
    assert_eq!(wal.durable_lsn(), lsn);
    assert_eq!(wal.read(lsn).unwrap().unwrap().payload, b"x");
    assert_eq!(wal.replay().unwrap().count(), 1);
}

#[test]
fn payloads_of_every_size_come_back_from_the_smallest_rings() {
    let lens = (0..70).chain([511, 512, 513, 2000, 2047, 2048, 2049]).chain((4000..4200).step_by(7));
    let lens: Vec<usize> =
        lens.chain([8191, 8192, 8193, 65_535, 65_536, 65_537, 200 << 10, 3 << 20]).collect();
    for mode in MODES {
        for background in [true, false] {
            let dir = tempdir();
            let wal = smallest().mode(mode).background_threads(background).open(dir.path()).unwrap();
            for &len in &lens {
                wal.append(vec![len as u8; len]).unwrap();
            }
            wal.flush().unwrap();
            for (record, &len) in wal.replay().unwrap().zip(&lens) {
                let record = record.unwrap();
                assert_eq!(record.payload.len(), len, "{mode:?}");
                assert!(record.payload.iter().all(|&byte| byte == len as u8), "{mode:?} {len}");
            }
            assert_eq!(wal.durable_lsn(), Lsn(lens.len() as u64));
            wal.close().unwrap();
        }
    }
}

#[test]
fn kinds_of_the_user_are_kept_and_those_of_the_log_refused() {
    let dir = tempdir();
    let wal = Wal::options().open(dir.path()).unwrap();
    for kind in [0, 1, 7, 239] {
        let lsn = wal.append_with(Append::new(b"x").kind(kind)).unwrap();
        assert_eq!(wal.read(lsn).unwrap().unwrap().kind, Kind(kind));
    }
    for kind in 240..=255 {
        let error = wal.append_with(Append::new(b"x").kind(kind)).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::InvalidInput);
        assert!(error.to_string().contains(&kind.to_string()), "{error}");
        assert_eq!(wal.batch().push(kind, b"x").unwrap_err().kind(), ErrorKind::InvalidInput);
        assert_eq!(
            wal.submit_with(Append::new(b"x").kind(kind)).unwrap_err().kind(),
            ErrorKind::InvalidInput
        );
    }
    assert_eq!(wal.append(b"x").unwrap(), Lsn(5), "a refused append takes no LSN");
}

#[test]
fn exactly_max_record_bytes_are_accepted_and_one_more_is_refused() {
    for options in [Wal::options(), smallest(), alone()] {
        let dir = tempdir();
        let wal = options.max_record_bytes(100_000).open(dir.path()).unwrap();
        let (most, more) = (vec![1; 100_000], vec![1; 100_001]);
        wal.append(&most).unwrap();
        for error in [
            wal.append(&more).unwrap_err(),
            wal.try_append(&more).unwrap_err().into(),
            wal.append_timeout(&more, Duration::from_secs(60)).unwrap_err().into(),
            wal.submit(&more).unwrap_err().into(),
        ] {
            assert_eq!(error.kind(), ErrorKind::InvalidInput);
            assert!(!error.is_indeterminate());
            let text = error.to_string();
            assert!(text.contains("100001") && text.contains("100000"), "{text}");
        }
        assert_eq!(wal.append(&most).unwrap(), Lsn(2));
        assert_eq!(payloads(&wal), [most.clone(), most]);
    }
}

#[test]
fn the_records_of_a_batch_count_together_against_the_limit() {
    let dir = tempdir();
    // A hundred payloads of 1000 bytes, and 40 more for each but the first.
    let most = 100 * 1000 + 99 * 40;
    let wal = smallest().max_record_bytes(most).open(dir.path()).unwrap();
    let mut batch = wal.batch();
    for _ in 0..100 {
        batch.push(1, vec![2; 1000]).unwrap();
    }
    for refused in [&b""[..], b"x"] {
        let error = batch.push(1, refused).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::InvalidInput);
        assert!(error.to_string().contains(&most.to_string()), "{error}");
    }
    assert_eq!((batch.len(), batch.payload_bytes()), (100, 100_000), "the batch is as it was");
    assert_eq!(batch.commit().unwrap().count(), 100);
    assert_eq!(wal.append(b"x").unwrap(), Lsn(101));
    wal.close().unwrap();
    assert_eq!(smallest().open(dir.path()).unwrap().last_lsn(), Lsn(101));
}

#[test]
fn a_batch_takes_consecutive_lsns_and_only_its_last_record_ends_it() {
    for mode in MODES {
        let dir = tempdir();
        let wal = smallest().mode(mode).open(dir.path()).unwrap();
        wal.append(b"before").unwrap();
        let mut batch = wal.batch();
        for seq in 0..50u8 {
            batch.push(seq, vec![seq; usize::from(seq)]).unwrap();
        }
        let lsns = batch.commit().unwrap();
        assert_eq!((lsns.first, lsns.last), (Lsn(2), Lsn(51)));
        wal.append(b"after").unwrap();
        wal.flush().unwrap();
        let records: Vec<_> = wal.replay().unwrap().map(Result::unwrap).collect();
        assert_eq!(records.len(), 52);
        assert!(!records[0].batch_continues && !records[51].batch_continues);
        for (seq, record) in (0..50u8).zip(&records[1..]) {
            assert_eq!(record.kind, Kind(seq));
            assert_eq!(record.payload, vec![seq; usize::from(seq)]);
            assert_eq!(record.batch_continues, seq < 49, "{seq}");
        }
    }
}

#[test]
fn an_empty_batch_is_refused_and_a_dropped_one_leaves_no_trace() {
    let dir = tempdir();
    let wal = Wal::options().open(dir.path()).unwrap();
    assert!(wal.batch().is_empty());
    assert_eq!(wal.batch().commit().unwrap_err().kind(), ErrorKind::InvalidInput);
    assert_eq!(wal.batch().submit().unwrap_err().error().kind(), ErrorKind::InvalidInput);
    let mut dropped = wal.batch();
    dropped.push(0, b"x").unwrap();
    drop(dropped);
    assert_eq!(wal.append(b"y").unwrap(), Lsn(1));
    assert_eq!(payloads(&wal), [b"y"]);
}

#[test]
fn a_batch_larger_than_all_rings_commits_with_one_thread_and_no_other() {
    for mode in MODES {
        let dir = tempdir();
        let wal = alone().mode(mode).open(dir.path()).unwrap();
        wal.append(b"before").unwrap();
        let mut batch = wal.batch();
        for seq in 0..1000 {
            batch.push(0, Stamp::single(0, seq).payload(3000)).unwrap();
        }
        assert_eq!(batch.commit().unwrap().count(), 1000, "{mode:?}");
        wal.append(b"after").unwrap();
        wal.flush().unwrap();
        assert_eq!(payloads(&wal).len(), 1002);
        wal.close().unwrap();
    }
}

#[test]
fn a_batch_larger_than_a_segment_lies_whole_in_one() {
    let dir = tempdir();
    let wal = smallest().open(dir.path()).unwrap();
    for round in 0..5 {
        let mut batch = wal.batch();
        for seq in 0..100 {
            batch.push(0, Stamp::single(round, seq).payload(2000)).unwrap();
        }
        let lsns = batch.commit().unwrap();
        let segments = wal_segments(&wal);
        assert!(
            segments.iter().any(|&(first, last)| first <= lsns.first && lsns.last <= last),
            "{segments:?}"
        );
    }
}

fn wal_segments(wal: &Wal) -> Vec<(Lsn, Lsn)> {
    let bases: Vec<Lsn> =
        Wal::open_read_only(wal.path()).unwrap().segments().unwrap().iter().map(|s| s.base).collect();
    let ends = bases.iter().skip(1).map(|base| base.prev()).chain([wal.last_lsn()]);
    bases.iter().copied().zip(ends).collect()
}

#[test]
fn a_full_ring_hands_the_payload_back_and_takes_it_later() {
    let dir = tempdir();
    let wal = alone().mode(DurabilityMode::asynchronous()).open(dir.path()).unwrap();
    let mut accepted = 0;
    let failed = loop {
        match wal.try_append(Stamp::single(0, accepted).payload(1000)) {
            Ok(_) => accepted += 1,
            Err(failed) => break failed,
        }
        assert!(accepted < 100_000, "a ring of 4 KiB takes only so much");
    };
    assert_eq!(failed.error().kind(), ErrorKind::Full);
    assert!(!failed.error().is_indeterminate());
    let payload = failed.into_payload();
    assert_eq!(Stamp::of(&payload).seq, accepted);

    let failed = wal.submit(payload).unwrap_err();
    assert_eq!(failed.error().kind(), ErrorKind::Full);
    let (error, payload) = failed.into_parts();
    assert_eq!(error.kind(), ErrorKind::Full);

    let mut batch = wal.batch();
    batch.push(0, &payload).unwrap();
    let batch = batch.submit().unwrap_err().into_payload();
    assert_eq!(batch.len(), 1, "a refused batch comes back whole");

    wal.flush().unwrap();
    let lsn = wal.try_append(payload).unwrap();
    assert_eq!(lsn, Lsn(u64::from(accepted) + 1), "no refused append took an LSN");
    wal.flush().unwrap();
    for (seq, payload) in payloads(&wal).iter().enumerate() {
        assert_eq!(Stamp::of(payload), Stamp::single(0, seq as u32));
    }
}

#[test]
fn an_append_that_waits_for_room_drives_a_log_without_threads() {
    let dir = tempdir();
    let wal = alone().mode(DurabilityMode::asynchronous()).open(dir.path()).unwrap();
    for seq in 0..1000 {
        wal.append(Stamp::single(0, seq).payload(1000)).unwrap();
    }
    wal.flush().unwrap();
    assert_eq!(payloads(&wal).len(), 1000);
}

#[test]
fn try_append_is_durable_when_it_returns_if_the_mode_says_so() {
    for mode in &MODES[..2] {
        for background in [true, false] {
            let dir = tempdir();
            let wal = Wal::options().mode(*mode).background_threads(background).open(dir.path()).unwrap();
            let lsn = wal.try_append(b"x").unwrap();
            assert!(wal.durable_lsn() >= lsn);
            let lsn = wal.writer().try_append(b"x").unwrap();
            assert!(wal.durable_lsn() >= lsn);
        }
    }
}

#[test]
fn a_ticket_completes_when_its_record_is_durable() {
    for mode in MODES {
        let dir = tempdir();
        let wal = Wal::options().mode(mode).open(dir.path()).unwrap();
        let ticket = wal.submit(b"one").unwrap();
        assert_eq!((ticket.lsn(), ticket.lsns().count()), (Lsn(1), 1));
        assert_eq!(ticket.wait().unwrap(), Lsn(1));
        assert!(wal.durable_lsn() >= Lsn(1), "{mode:?}");

        let ticket = wal.submit_with(Append::new(b"two").kind(2)).unwrap();
        assert!(ticket.wait_timeout(Duration::from_secs(60)).unwrap());
        assert!(ticket.is_durable());

        let ticket = wal.submit(b"three").unwrap();
        assert_eq!(block_on(ticket).unwrap(), Lsn(3));
        assert!(wal.durable_lsn() >= Lsn(3), "{mode:?}");

        let mut batch = wal.batch();
        batch.push(0, b"four").unwrap().push(0, b"five").unwrap();
        let ticket = batch.submit().unwrap();
        assert_eq!((ticket.lsn(), ticket.lsns().first, ticket.lsns().last), (Lsn(5), Lsn(4), Lsn(5)));
        assert_eq!(block_on(ticket).unwrap(), Lsn(5));
        assert_eq!(wal.durable_lsn(), Lsn(5));
    }
}

#[test]
fn a_thread_that_waits_for_a_ticket_needs_no_other() {
    for mode in MODES {
        let dir = tempdir();
        let wal = alone().mode(mode).open(dir.path()).unwrap();
        let tickets: Vec<Ticket> = (0..3).map(|_| wal.submit(b"x").unwrap()).collect();
        assert!(tickets.iter().all(|ticket| !ticket.is_durable()), "nothing happens between calls");
        let last = wal.submit(b"x").unwrap();
        for ticket in tickets {
            let lsn = ticket.lsn();
            assert_eq!(ticket.wait().unwrap(), lsn);
        }
        assert_eq!(block_on(last).unwrap(), Lsn(4), "a task drives the log as it polls");
    }
}

#[test]
fn a_dropped_ticket_gives_up_the_wait_and_not_the_write() {
    for mode in MODES {
        let dir = tempdir();
        let wal = Wal::options().mode(mode).open(dir.path()).unwrap();
        for seq in 0..100 {
            let mut ticket = wal.submit(Stamp::single(0, seq).payload(100)).unwrap();
            // Every other one is dropped after it left its waker with the log.
            if seq % 2 == 0 {
                let _ = Pin::new(&mut ticket).poll(&mut Context::from_waker(Waker::noop()));
            }
            drop(ticket);
        }
        wal.flush().unwrap();
        assert_eq!(payloads(&wal).len(), 100, "{mode:?}");
    }
}

#[test]
fn thousands_of_futures_complete_on_one_thread() {
    let dir = tempdir();
    let wal = Wal::options().open(dir.path()).unwrap();
    for _ in 0..10 {
        let tickets: Vec<Ticket> = (0..500).map(|_| wal.submit(b"x").unwrap()).collect();
        let last = tickets.last().unwrap().lsn();
        // Awaited from the last to the first: most are durable before they are polled.
        for ticket in tickets.into_iter().rev() {
            block_on(ticket).unwrap();
        }
        assert!(wal.durable_lsn() >= last);
    }
}

#[test]
fn a_writer_appends_to_the_same_log_and_prefers_no_one() {
    let dir = tempdir();
    let wal = Wal::options().num_stripes(4).open(dir.path()).unwrap();
    thread::scope(|scope| {
        for _ in 0..16 {
            let writer: Writer = wal.writer().clone();
            scope.spawn(move || {
                writer.append(b"append").unwrap();
                writer.append_with(Append::new(b"with").kind(9).durability(Durability::Async)).unwrap();
                writer.try_append(b"try").unwrap();
                writer.submit(b"submit").unwrap().wait().unwrap();
                let mut batch = writer.batch();
                batch.push(0, b"one").unwrap().push(0, b"two").unwrap();
                batch.commit().unwrap();
            });
        }
    });
    assert_eq!(wal.last_lsn(), Lsn(16 * 6));
    assert_eq!(wal.replay().unwrap().count(), 16 * 6);
}

#[test]
fn writers_are_spread_over_all_stripes() {
    let dir = tempdir();
    let wal = smallest().num_stripes(8).background_threads(false).mode(DurabilityMode::asynchronous());
    let wal = wal.open(dir.path()).unwrap();
    let writers: Vec<_> = (0..8).map(|_| wal.writer()).collect();
    for writer in &writers {
        // Most of a ring each: two that shared one would find it full.
        drop(writer.submit([0; 1500]).unwrap());
        drop(writer.submit([0; 1500]).unwrap());
    }
    assert_eq!(writers[0].submit([0; 1500]).unwrap_err().error().kind(), ErrorKind::Full);
    wal.close().unwrap();
}

#[test]
fn waiting_for_an_lsn_that_no_append_returned_is_refused() {
    let dir = tempdir();
    let wal = Wal::options().open(dir.path()).unwrap();
    let error = wal.wait_durable(Lsn(1)).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::InvalidInput);
    assert!(!error.is_indeterminate());
    let lsn = wal.append(b"x").unwrap();
    wal.wait_durable(lsn).unwrap();
    wal.wait_durable(Lsn::ZERO).unwrap();
    assert_eq!(wal.wait_durable(lsn.next()).unwrap_err().kind(), ErrorKind::InvalidInput);
    assert_eq!(wal.wait_durable(Lsn(u64::MAX)).unwrap_err().kind(), ErrorKind::InvalidInput);
}

#[test]
fn reading_shows_exactly_what_is_asked_for() {
    let dir = tempdir();
    let wal = smallest().open(dir.path()).unwrap();
    for seq in 0..500 {
        wal.append_with(Append::new(&Stamp::single(0, seq).payload(700)).durability(Durability::Async))
            .unwrap();
    }
    wal.flush().unwrap();
    let lsns = |records: braidlog::Records| records.map(|record| record.unwrap().lsn.0).collect::<Vec<_>>();
    assert_eq!(lsns(wal.iter(..).unwrap()), (1..=500).collect::<Vec<_>>());
    assert_eq!(lsns(wal.iter(Lsn(90)..=Lsn(310)).unwrap()), (90..=310).collect::<Vec<_>>());
    assert_eq!(lsns(wal.iter(Lsn(499)..).unwrap()), [499, 500]);
    assert_eq!(lsns(wal.iter(Lsn(499)..Lsn(9000)).unwrap()), [499, 500]);
    assert_eq!(lsns(wal.iter(Lsn(7)..Lsn(8)).unwrap()), [7]);
    assert!(lsns(wal.iter(Lsn(501)..).unwrap()).is_empty());
    assert!(lsns(wal.iter(Lsn(8)..Lsn(8)).unwrap()).is_empty());
    for seq in [0, 1, 250, 499] {
        let record = wal.read(Lsn(u64::from(seq) + 1)).unwrap().unwrap();
        assert_eq!(Stamp::of(&record.payload).seq, seq);
    }
    assert_eq!(wal.read(Lsn::ZERO).unwrap(), None);
    assert_eq!(wal.read(Lsn(501)).unwrap(), None);

    let mut lent = wal.replay().unwrap();
    let mut seq = 0;
    while let Some(record) = lent.next_ref() {
        assert_eq!(Stamp::of(record.unwrap().payload).seq, seq);
        seq += 1;
    }
    assert_eq!(seq, 500);
    assert!(lent.next_ref().is_none() && lent.next().is_none(), "the end is the end");
}

struct Bomb;

impl AsRef<[u8]> for Bomb {
    fn as_ref(&self) -> &[u8] {
        panic!("a payload that cannot be had")
    }
}

#[test]
fn a_payload_that_panics_takes_no_lsn_and_leaves_the_log_working() {
    let dir = tempdir();
    let wal = Wal::options().open(dir.path()).unwrap();
    wal.append(b"one").unwrap();
    thread::scope(|scope| {
        assert!(scope.spawn(|| drop(wal.append(Bomb))).join().is_err());
        assert!(scope.spawn(|| drop(wal.submit(Bomb))).join().is_err());
        assert!(scope.spawn(|| wal.batch().push(0, Bomb).is_ok()).join().is_err());
    });
    assert_eq!(wal.append(b"two").unwrap(), Lsn(2));
    assert_eq!(payloads(&wal), [b"one", b"two"]);
}

#[test]
fn metrics_count_what_was_done() {
    let dir = tempdir();
    let wal = alone().mode(DurabilityMode::Synchronous).open(dir.path()).unwrap();
    assert_eq!((wal.metrics().appends, wal.metrics().syncs), (0, 0));
    for _ in 0..10 {
        wal.append(vec![7; 1000]).unwrap();
    }
    let metrics = wal.metrics();
    assert_eq!((metrics.appends, metrics.rounds, metrics.syncs), (10, 10, 10));
    assert!(metrics.bytes >= 10_000, "{}", metrics.bytes);
    assert_eq!(metrics.records_per_sync, 1.0);
    assert_eq!((metrics.durable_lsn, metrics.written_lsn, metrics.last_lsn), (Lsn(10), Lsn(10), Lsn(10)));
    assert_eq!((metrics.sync_latency.count, metrics.commit_latency.count), (10, 10));
    assert!(metrics.commit_latency.p50_ns <= metrics.commit_latency.max_ns);
    for _ in 0..10 {
        wal.append_with(Append::new(b"x").durability(Durability::Async)).unwrap();
    }
    let metrics = wal.metrics();
    assert_eq!((metrics.last_lsn, metrics.durable_lsn, metrics.syncs), (Lsn(20), Lsn(10), 10));
    wal.flush().unwrap();
    let metrics = wal.metrics();
    assert_eq!((metrics.durable_lsn, metrics.syncs), (Lsn(20), 11));
    // A log that was opened again counts anew.
    wal.close().unwrap();
    let wal = alone().open(dir.path()).unwrap();
    assert_eq!((wal.metrics().appends, wal.metrics().last_lsn), (0, Lsn(20)));
}

#[test]
fn handles_go_to_any_thread() {
    fn everywhere<T: Send + Sync + 'static>() {}
    fn anywhere<T: Send + 'static>() {}
    fn unpinned<T: Unpin>() {}
    everywhere::<Wal>();
    everywhere::<Writer>();
    everywhere::<Ticket>();
    everywhere::<braidlog::ReadOnly>();
    everywhere::<braidlog::Options>();
    everywhere::<braidlog::Error>();
    anywhere::<braidlog::Batch>();
    anywhere::<braidlog::Records>();
    unpinned::<Ticket>();
}
