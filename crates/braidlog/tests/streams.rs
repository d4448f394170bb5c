//! Streams: dense sequences in LSN order, whoever appends, over openings, truncations, losses and forks.

use std::collections::HashMap;
use std::sync::Arc;
use std::thread;
use std::time::Duration;

use braidlog::{
    Append, DamagePolicy, Durability, DurabilityMode, ErrorKind, Lsn, LsnRange, Options, Records, Replay,
    Stream, StreamInfo, Target, Wal,
};
use braidlog_sim::{Fault, Op, Profile, SimClock, SimDisk};

#[path = "support/block_on.rs"]
mod block_on;
#[path = "support/one_ring.rs"]
mod one_ring;
#[path = "support/small_log.rs"]
mod small_log;

use block_on::block_on;
use one_ring::one_ring;
use small_log::{PATH, small};

fn options(disk: &SimDisk) -> Options {
    small(disk, &Arc::new(SimClock::new()))
}

/// Sequences and payloads of the records of a stream, whose LSNs rise.
#[track_caller]
fn given(records: Records) -> Vec<(u64, Vec<u8>)> {
    let mut before = Lsn(0);
    records
        .map(|record| {
            let record = record.unwrap();
            assert!(record.lsn > before);
            before = record.lsn;
            (record.fields.sequence.unwrap(), record.payload)
        })
        .collect()
}

/// That the stream gives its records from `first` on without a hole; how many.
#[track_caller]
fn assert_dense(stream: &Stream, first: u64) -> u64 {
    let records = given(stream.replay_with(Replay::new().range(..)).unwrap());
    for (place, (sequence, _)) in records.iter().enumerate() {
        assert_eq!(*sequence, first + place as u64, "{}", stream.name());
    }
    assert_eq!(stream.last_sequence(), first + records.len() as u64 - 1, "{}", stream.name());
    records.len() as u64
}

fn last_sequences(streams: &[StreamInfo]) -> Vec<(&str, u64)> {
    streams.iter().map(|stream| (stream.name.as_str(), stream.last_sequence)).collect()
}

#[test]
fn each_stream_counts_its_own_records_and_gives_them_alone() {
    let dir = tempfile::tempdir().unwrap();
    let wal = Wal::options().open(dir.path()).unwrap();
    let (orders, mails) = (wal.stream("orders").unwrap(), wal.stream("mails").unwrap());
    assert_eq!((orders.id(), mails.id(), orders.name()), (1, 2, "orders"));
    assert_eq!(orders.last_sequence(), 0);
    let first = orders.append(b"apple").unwrap();
    assert_eq!((first.sequence, first.lsn), (1, Lsn(1)));
    wal.append(b"of no stream").unwrap();
    let mail = mails.append_with(Append::new(b"thanks").kind(7).schema(3)).unwrap();
    assert_eq!((mail.sequence, mail.lsn), (1, Lsn(3)));
    let (second, ticket) = orders.submit(Append::new(b"pear")).unwrap();
    assert_eq!((second.sequence, second.lsn, ticket.lsn()), (2, Lsn(4), Lsn(4)));
    ticket.wait().unwrap();
    let third = block_on(orders.append_async(Append::new(b"plum"))).unwrap();
    assert_eq!(third.sequence, 3);

    let expected = [(1, b"apple".to_vec()), (2, b"pear".to_vec()), (3, b"plum".to_vec())];
    assert_eq!(given(orders.replay().unwrap()), expected);
    let record = mails.replay().unwrap().next().unwrap().unwrap();
    assert_eq!((record.kind.0, record.payload.as_slice()), (7, &b"thanks"[..]));
    assert_eq!((record.fields.stream, record.fields.schema), (Some(mails.id()), Some(3)));
    assert_eq!(wal.replay().unwrap().count(), 5, "the log has all of them");
    // Another handle of a stream is the same stream.
    assert_eq!(wal.stream("orders").unwrap().append(b"fig").unwrap().sequence, 4);
    assert_eq!(last_sequences(&wal.streams().unwrap()), [("orders", 4), ("mails", 1)]);

    let beside = Wal::open_read_only(dir.path()).unwrap();
    wal.close().unwrap();
    assert_eq!(last_sequences(&beside.streams().unwrap()), [("orders", 4), ("mails", 1)]);
    assert_eq!(given(beside.replay().unwrap().of_stream(mails.id())).len(), 1);
    assert_eq!(orders.append(b"late").unwrap_err().kind(), ErrorKind::Closed);
}

#[test]
fn what_no_stream_can_be_is_refused_and_changes_nothing() {
    let dir = tempfile::tempdir().unwrap();
    let wal = Wal::options().open(dir.path().join("wal")).unwrap();
    for name in [String::new(), "x".repeat(256)] {
        let error = wal.stream(&name).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::InvalidInput);
        assert!(error.to_string().contains("1 to 255 bytes"), "{error}");
    }
    assert!(wal.streams().unwrap().is_empty());
    let stream = wal.stream(&"x".repeat(255)).unwrap();
    assert_eq!(stream.append_with(Append::new(b"").kind(240)).unwrap_err().kind(), ErrorKind::InvalidInput);
    assert_eq!(stream.append(b"first").unwrap().sequence, 1);
    let other = Wal::options().open(dir.path().join("other")).unwrap();
    let mut batch = other.batch();
    let error = batch.push_to(&stream, Append::new(b"")).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::InvalidInput);
    assert!(batch.is_empty());
}

#[test]
fn a_log_has_ten_thousand_streams_and_makes_them_with_one_change() {
    let disk = SimDisk::new();
    let wal = options(&disk).open(PATH).unwrap();
    let names: Vec<String> = (0..10_000).map(|number| format!("tenant {number}")).collect();
    let names: Vec<&str> = names.iter().map(String::as_str).collect();
    let streams = wal.streams_named(&names).unwrap();
    assert!(streams.iter().zip(&names).all(|(stream, name)| stream.name() == *name));
    let error = wal.stream("one more").unwrap_err();
    assert_eq!(error.kind(), ErrorKind::InvalidInput);
    assert_eq!(wal.stream("tenant 77").unwrap().id(), streams[77].id());
    streams[9_999].append(b"x").unwrap();
    wal.close().unwrap();
    let wal = options(&disk).open(PATH).unwrap();
    assert_eq!(wal.streams().unwrap().len(), 10_000);
    assert_eq!(wal.stream("tenant 9999").unwrap().last_sequence(), 1);
}

#[test]
fn threads_that_share_streams_leave_no_hole_and_no_disorder() {
    let dir = tempfile::tempdir().unwrap();
    let wal = Wal::options().mode(DurabilityMode::asynchronous()).open(dir.path()).unwrap();
    let streams = wal.streams_named(&["a", "b", "c"]).unwrap();
    let drawn: Vec<Vec<(u64, u64, Lsn)>> = thread::scope(|scope| {
        let run = |thread: usize| {
            let streams = &streams;
            move || {
                let mut drawn = Vec::new();
                for number in 0..2000 {
                    let stream = &streams[(thread + number) % 3];
                    let placed = stream.append(number.to_le_bytes()).unwrap();
                    drawn.push((stream.id(), placed.sequence, placed.lsn));
                }
                drawn
            }
        };
        let threads: Vec<_> = (0..6).map(|thread| scope.spawn(run(thread))).collect();
        threads.into_iter().map(|thread| thread.join().unwrap()).collect()
    });
    wal.flush().unwrap();
    let by_place: HashMap<(u64, u64), Lsn> =
        drawn.into_iter().flatten().map(|(id, sequence, lsn)| ((id, sequence), lsn)).collect();
    assert_eq!(by_place.len(), 12_000, "no place was given twice");
    for stream in &streams {
        assert_eq!(assert_dense(stream, 1), 4000);
    }
    for record in wal.replay().unwrap() {
        let record = record.unwrap();
        let place = (record.fields.stream.unwrap(), record.fields.sequence.unwrap());
        assert_eq!(by_place[&place], record.lsn);
    }
}

#[test]
fn records_of_several_streams_are_one_batch() {
    let dir = tempfile::tempdir().unwrap();
    let wal = Wal::options().open(dir.path()).unwrap();
    let (a, b) = (wal.stream("a").unwrap(), wal.stream("b").unwrap());
    a.append(b"before").unwrap();
    let push = |batch: &mut braidlog::Batch| {
        batch.push_to(&b, Append::new(b"b1").kind(2).schema(9)).unwrap();
        batch.push(1, b"of none").unwrap();
        batch.push_to(&a, Append::new(b"a1")).unwrap().push_to(&b, Append::new(b"b2")).unwrap();
    };
    let mut batch = wal.batch();
    push(&mut batch);
    // Of a batch that is dropped nothing was drawn.
    drop(batch);
    for round in 0..3 {
        let mut batch = wal.batch();
        push(&mut batch);
        let lsns = match round {
            0 => batch.commit().unwrap(),
            1 => {
                let ticket = batch.submit().unwrap();
                let lsns = ticket.lsns();
                ticket.wait().unwrap();
                lsns
            }
            _ => block_on(batch.commit_async()).unwrap(),
        };
        assert_eq!(lsns.count(), 4);
    }
    assert_eq!((assert_dense(&a, 1), assert_dense(&b, 1)), (4, 6));
    let records: Vec<_> = wal.iter(Lsn(2)..).unwrap().map(Result::unwrap).collect();
    for batch in records.chunks(4) {
        let continues: Vec<bool> = batch.iter().map(|record| record.batch_continues).collect();
        assert_eq!(continues, [true, true, true, false]);
        assert_eq!((batch[0].kind.0, batch[0].fields.schema), (2, Some(9)));
        assert_eq!((batch[1].fields.stream, &batch[1].payload[..]), (None, &b"of none"[..]));
    }
}

#[test]
fn appends_to_many_streams_share_a_sync_and_are_counted_as_others_are() {
    let disk = SimDisk::new();
    let wal = Wal::options().storage(Arc::new(disk.clone())).open(PATH).unwrap();
    let names: Vec<String> = (0..8).map(|number| number.to_string()).collect();
    let streams = wal.streams_named(&names.iter().map(String::as_str).collect::<Vec<_>>()).unwrap();
    let before = disk.counts().syncs();
    let hold = disk.hold_syncs();
    thread::scope(|scope| {
        let first = scope.spawn(|| streams[0].append(b"first").unwrap());
        hold.wait_for_held(1);
        let others = |number: usize| {
            let (wal, streams) = (&wal, &streams);
            move || {
                if number.is_multiple_of(4) {
                    let mut batch = wal.batch();
                    batch.push_to(&streams[number % 8], Append::new(b"in a batch")).unwrap();
                    batch.commit().unwrap();
                } else {
                    streams[number % 8].append(b"other").unwrap();
                }
            }
        };
        let others: Vec<_> = (0..32).map(|number| scope.spawn(others(number))).collect();
        while wal.last_lsn() < Lsn(33) {
            thread::yield_now();
        }
        hold.let_through(2);
        first.join().unwrap();
        for other in others {
            other.join().unwrap();
        }
    });
    hold.release();
    assert_eq!(disk.counts().syncs() - before, 2);
    assert_eq!(wal.metrics().commit_latency.count, 33);
}

#[test]
fn a_record_that_was_refused_leaves_no_hole() {
    let disk = SimDisk::new();
    let wal = one_ring(&disk, DurabilityMode::asynchronous()).background_threads(false).open(PATH).unwrap();
    let stream = wal.stream("s").unwrap();
    let mut accepted = 0;
    loop {
        match stream.submit(Append::new(&[7; 500])) {
            Ok((placed, _)) => {
                accepted += 1;
                assert_eq!(placed.sequence, accepted);
            }
            Err(error) => {
                assert_eq!(error.kind(), ErrorKind::Full);
                break;
            }
        }
    }
    let mut batch = wal.batch();
    batch.push_to(&stream, Append::new(&[7; 500])).unwrap();
    let batch = batch.submit().unwrap_err().into_payload();
    assert_eq!(stream.last_sequence(), accepted);
    wal.flush().unwrap();
    batch.submit().unwrap().wait().unwrap();
    assert_eq!(
        stream.append_with(Append::new(b"x").durability(Durability::Synchronous)).unwrap().sequence,
        accepted + 2
    );
    assert_eq!(assert_dense(&stream, 1), accepted + 2);
}

#[test]
fn appends_wait_for_room_and_stay_dense() {
    let disk = SimDisk::new();
    let wal = one_ring(&disk, DurabilityMode::asynchronous()).open(PATH).unwrap();
    let streams = wal.streams_named(&["a", "b"]).unwrap();
    thread::scope(|scope| {
        for _ in 0..3 {
            scope.spawn(|| {
                for number in 0..100 {
                    let stream = &streams[number % 2];
                    stream.append([1; 900]).unwrap();
                    let mut batch = wal.batch();
                    batch.push_to(stream, Append::new(&[2; 300])).unwrap();
                    batch.push_to(&streams[0], Append::new(&[3; 300])).unwrap();
                    batch.commit().unwrap();
                    block_on(stream.append_async(Append::new(&[4; 900]))).unwrap();
                }
            });
        }
    });
    wal.flush().unwrap();
    let count = assert_dense(&streams[0], 1) + assert_dense(&streams[1], 1);
    assert_eq!(count, 3 * 100 * 4);
}

#[test]
fn a_subscription_gives_one_stream_as_it_grows() {
    let dir = tempfile::tempdir().unwrap();
    let wal = Wal::options().open(dir.path()).unwrap();
    let (a, b) = (wal.stream("a").unwrap(), wal.stream("b").unwrap());
    a.append(b"1").unwrap();
    b.append(b"other").unwrap();
    let mut feed = a.subscribe(Lsn(1)).unwrap();
    assert_eq!(feed.next().unwrap().unwrap().payload, b"1");
    assert!(feed.try_next().unwrap().is_none());
    assert_eq!(feed.next_lsn(), Lsn(3), "what is another's was passed");
    let writer = thread::spawn(move || {
        for number in 2..=50_u64 {
            b.append(b"other").unwrap();
            a.append(number.to_string()).unwrap();
        }
    });
    for number in 2..=50 {
        let record = feed.next().unwrap().unwrap();
        assert_eq!(record.fields.sequence, Some(number));
        assert_eq!(record.payload, number.to_string().as_bytes());
    }
    writer.join().unwrap();
    wal.close().unwrap();
    assert!(feed.next().is_none());
}

#[test]
fn an_opening_counts_on_from_what_the_log_noted_and_a_truncation_takes_nothing_from_it() {
    let mut disk = SimDisk::new();
    let mut expected = [0; 3];
    for opening in 0..4 {
        let wal = options(&disk).open(PATH).unwrap();
        let names = ["often", "seldom", "never"];
        let streams = wal.streams_named(&names).unwrap();
        for (stream, &expected) in streams.iter().zip(&expected) {
            assert_eq!(stream.last_sequence(), expected, "opening {opening}: {}", stream.name());
        }
        for round in 0..3 {
            for number in 0..30 {
                expected[0] += 1;
                assert_eq!(streams[0].append([1; 4000]).unwrap().sequence, expected[0]);
                if number == 7 && round == 1 {
                    expected[1] += 1;
                    assert_eq!(streams[1].append([2; 10]).unwrap().sequence, expected[1]);
                }
            }
            let lsn = wal.durable_lsn();
            wal.checkpoint(lsn, |_| Ok(())).unwrap();
            let start = wal.truncate_before(lsn).unwrap();
            assert!(lsn.0 - start.0 < 17, "no more than a segment is kept: {start} of {lsn}");
        }
        match opening {
            0 => wal.close().unwrap(),
            1 => drop(wal),
            _ => disk = disk.crash_clone(opening, Profile::HONEST[0]),
        }
    }
}

#[test]
fn a_fork_goes_on_where_each_stream_was_at_its_point() {
    let disk = SimDisk::new();
    let wal = options(&disk).open(PATH).unwrap();
    let (a, b) = (wal.stream("a").unwrap(), wal.stream("b").unwrap());
    for _ in 0..40 {
        a.append([1; 4000]).unwrap();
    }
    wal.restore_point("here").unwrap();
    for _ in 0..40 {
        a.append([1; 4000]).unwrap();
        b.append([1; 4000]).unwrap();
    }
    wal.maintain().unwrap();
    wal.fork("past", Target::restore_point("here")).unwrap();
    wal.backup("copy").unwrap();
    wal.close().unwrap();
    let past = options(&disk).open("past").unwrap();
    assert_eq!(last_sequences(&past.streams().unwrap()), [("a", 40), ("b", 0)]);
    assert_eq!(past.stream("a").unwrap().append(b"x").unwrap().sequence, 41);
    assert_eq!(past.stream("b").unwrap().append(b"x").unwrap().sequence, 1);
    past.close().unwrap();
    let copy = options(&disk).open("copy").unwrap();
    assert_eq!(last_sequences(&copy.streams().unwrap()), [("a", 80), ("b", 40)]);
}

#[test]
fn sequences_of_lost_records_are_not_given_again() {
    let disk = SimDisk::new();
    let wal = options(&disk).open(PATH).unwrap();
    let names = ["a", "b", "lost"];
    let streams = wal.streams_named(&names).unwrap();
    for (stream, byte) in [(0, 1), (1, 2), (2, 3), (0, 1), (1, 2)] {
        streams[stream].append([byte; 4000]).unwrap();
    }
    let disk = disk.crash_clone(1, Profile::HONEST[0]);
    let file = format!("{PATH}/00000000000000000001.wal");
    let bytes = disk.read_raw(&file);
    let at = bytes.windows(4000).position(|window| window.iter().all(|&byte| byte == 3)).unwrap();
    disk.write_raw(&file, at as u64 + 100, &[9]);
    let wal = options(&disk).on_damage(DamagePolicy::SkipDamaged).open(PATH).unwrap();
    assert_eq!(wal.recovery_report().losses[0].lsns, LsnRange { first: Lsn(3), last: Lsn(3) });
    // The first two have records behind the loss, which say how many they are; the third may have had the lost one.
    let next = |wal: &Wal| names.map(|name| wal.stream(name).unwrap().last_sequence() + 1);
    assert_eq!(next(&wal), [3, 3, 2]);
    wal.stream("lost").unwrap().append(b"found").unwrap();
    wal.close().unwrap();
    assert_eq!(next(&options(&disk).open(PATH).unwrap()), [3, 3, 3]);
}

#[test]
fn a_full_log_of_many_streams_frees_itself() {
    let (disk, clock) = (SimDisk::new(), Arc::new(SimClock::new()));
    disk.set_capacity(Some(60 << 20));
    let wal = small(&disk, &clock).open(PATH).unwrap();
    let names: Vec<String> = (0..9000).map(|n| format!("{n:0>100}")).collect();
    let names: Vec<&str> = names.iter().map(String::as_str).collect();
    wal.streams_named(&names).unwrap();
    let refused = loop {
        match wal.append([7; 8000]) {
            Ok(_) => {}
            Err(error) => break error,
        }
    };
    assert_eq!(refused.kind(), ErrorKind::NoSpace, "{refused}");
    disk.set_capacity(Some(disk.used_bytes()));
    let last = wal.durable_lsn();
    wal.checkpoint(last, |_| Ok(())).unwrap();
    wal.truncate_before(last).unwrap();
    wal.append([7; 8000]).unwrap();
}

#[test]
fn an_append_that_waits_for_space_keeps_nobody_from_making_some_and_from_closing() {
    for closes in [false, true] {
        let disk = SimDisk::new();
        let mode = DurabilityMode::Async { flush_interval: Duration::from_secs(1) };
        let wal = options(&disk).mode(mode).open(PATH).unwrap();
        let stream = wal.stream("s").unwrap();
        for _ in 0..40 {
            wal.append([7; 8000]).unwrap();
        }
        wal.flush().unwrap();
        let last = wal.durable_lsn();
        wal.checkpoint(last, |_| Ok(())).unwrap();
        let before = disk.faults_struck();
        disk.inject(Fault::no_space(Op::Write).on(".wal").forever());
        let appends = thread::spawn(move || while stream.append([7; 8000]).is_ok() {});
        // It leads a round that finds no space, again and again.
        while disk.faults_struck() == before {
            thread::yield_now();
        }
        if closes {
            let wal = wal.clone();
            thread::spawn(move || wal.truncate_before(last)).join().unwrap().unwrap();
        }
        assert!(wal.close().is_err());
        appends.join().unwrap();
    }
}
