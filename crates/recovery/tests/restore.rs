//! Restoring an application from checkpoints and records: what it is given, what it is told, and what stops it.

mod support;

use std::io::{Read, Write};
use std::time::Duration;

use braidlog_format::Lsn;
use braidlog_recovery::{
    Applied, BoxError, CheckpointOrder, CheckpointReader, Disposed, LogReader, RecordRef, Restore,
    RestoreError, RestoreHow, RestorePhase, truncate,
};
use braidlog_sim::Action;
use support::keys::{Bytes, Keys, Store, log_of, order_at, restored, try_restored, two_chains};

#[test]
fn records_of_open_transactions_come_again() {
    let (disk, pen) = log_of(9);
    let store = Store::open(&disk);
    let order = CheckpointOrder { replay_from: Lsn(3), ..order_at(Lsn(6)) };
    store.write(&order, &Keys::of(&pen.model[..6])).unwrap();
    let mut found = Bytes::default();
    let report = restored(&store, &mut found, pen.durable);
    assert_eq!(found.applied, (3..=9).map(Lsn).collect::<Vec<_>>());
    assert_eq!(report.replayed.map(|lsns| (lsns.first, lsns.last)), Some((Lsn(3), Lsn(9))));
    let (keys, report) = store.restore(pen.durable).unwrap();
    assert_eq!((report.total, report.applied, report.skipped), (7, 3, 4));
    assert_eq!(keys, Keys::of(&pen.model));
}

#[test]
fn all_records_of_an_open_transaction_come_again_also_if_the_checkpoint_is_younger_than_the_call() {
    let (disk, pen) = log_of(9);
    let store = Store::open(&disk);
    let order = CheckpointOrder { replay_from: Lsn(3), ..order_at(Lsn(6)) };
    store.write(&order, &Keys::of(&pen.model[..6])).unwrap();
    // The caller asked how far the log is durable before the checkpoint was taken.
    let mut found = Bytes::default();
    let report = restored(&store, &mut found, Lsn(4));
    assert_eq!(found.applied, (3..=6).map(Lsn).collect::<Vec<_>>());
    assert_eq!(report.replayed.map(|lsns| (lsns.first, lsns.last)), Some((Lsn(3), Lsn(6))));
}

#[test]
fn an_application_that_fails_ends_the_recovery_with_its_own_error() {
    let (disk, store, pen) = two_chains();
    let mut keys = Keys { fails_at: Some(Lsn(12)), ..Keys::default() };
    let failed = try_restored(&store, &mut keys, pen.durable, None);
    let Err(RestoreError::Application { lsn, source }) = failed else { panic!("{failed:?}") };
    assert_eq!((lsn, source.to_string()), (Some(Lsn(12)), "the application does not like it".to_owned()));
    assert_eq!(keys.applied, Lsn(11), "everything before it was applied");

    struct Picky;
    impl Restore for Picky {
        fn restore(&mut self, part: &mut CheckpointReader<'_>) -> Result<(), BoxError> {
            Err(format!("no state of LSN {}", part.lsn()).into())
        }
        fn apply(&mut self, _: RecordRef<'_>) -> Result<Applied, BoxError> {
            unreachable!("there is no state to apply it to")
        }
    }
    let failed = try_restored(&store, &mut Picky, pen.durable, None);
    let Err(RestoreError::Application { lsn: None, source }) = failed else { panic!("{failed:?}") };
    assert_eq!(source.to_string(), "no state of LSN 6");
    // Nothing came of it.
    assert_eq!(Store::open(&disk).restore(pen.durable).unwrap().0, Keys::of(&pen.model));
}

#[test]
fn a_recovery_that_takes_too_long_says_so_and_can_be_called_again() {
    let (disk, pen) = log_of(40);
    let store = Store::open(&disk);
    let big = vec![b'x'; 5 << 20];
    store.checkpoints.write(&order_at(Lsn(20)), &|| false, |writer| Ok(writer.write_all(&big)?)).unwrap();

    /// Takes its time over each chunk and each record.
    struct Slow<'a> {
        clock: &'a braidlog_sim::SimClock,
        bytes: usize,
        applied: u64,
    }
    impl Restore for Slow<'_> {
        fn restore(&mut self, part: &mut CheckpointReader<'_>) -> Result<(), BoxError> {
            let mut buffer = vec![0; 1 << 20];
            loop {
                self.clock.advance(Duration::from_secs(1));
                match part.read(&mut buffer)? {
                    0 => return Ok(()),
                    read => self.bytes += read,
                }
            }
        }
        fn apply(&mut self, _: RecordRef<'_>) -> Result<Applied, BoxError> {
            self.clock.advance(Duration::from_secs(1));
            self.applied += 1;
            Ok(Applied::Applied)
        }
    }

    let mut phases = Vec::new();
    for seconds in [0, 3, 5, 6, 10, 20, 25, 26, 27, 100] {
        let mut slow = Slow { clock: &store.clock, bytes: 0, applied: 0 };
        match try_restored(&store, &mut slow, pen.durable, Some(Duration::from_secs(seconds))) {
            Ok(report) => {
                assert!(seconds >= 25, "{seconds} s are not enough");
                assert_eq!((slow.bytes, slow.applied, report.total), (5 << 20, 20, 20));
                assert_eq!(report.time.restoring, Duration::from_secs(6));
                assert_eq!(report.time.replaying, Duration::from_secs(20));
            }
            Err(RestoreError::TimedOut { max_time, phase, records, records_total }) => {
                assert!(seconds < 26, "{seconds} s are enough");
                assert_eq!(max_time, Duration::from_secs(seconds));
                assert_eq!(records, slow.applied);
                assert_eq!(records_total, if phase == RestorePhase::Replaying { 20 } else { 0 });
                phases.push(phase);
            }
            Err(error) => panic!("{error}"),
        }
    }
    phases.dedup();
    assert_eq!(phases, [RestorePhase::Restoring, RestorePhase::Replaying]);
}

#[test]
fn progress_is_told_and_comes_to_the_end() {
    let (disk, pen) = log_of(10);
    let store = Store::open(&disk);
    let big = vec![b'x'; 5 << 20];
    store.checkpoints.write(&order_at(Lsn(4)), &|| false, |writer| Ok(writer.write_all(&big)?)).unwrap();
    let mut told = Vec::new();
    let reader = LogReader::of_writer(store.dir.clone(), Lsn::FIRST);
    let mut progress = |now: &braidlog_recovery::RestoreProgress| told.push(*now);
    let how = RestoreHow {
        clock: &*store.clock,
        max_time: None,
        ahead: None,
        held_bytes: 0,
        until: None,
        progress: &mut progress,
    };
    let report = store.checkpoints.restore(&reader, pen.durable, how, &mut Bytes::default()).unwrap();
    for phase in [RestorePhase::Checking, RestorePhase::Restoring] {
        let of_phase: Vec<_> = told.iter().filter(|now| now.phase == phase).collect();
        assert!(of_phase.len() >= 5, "{phase}: {} times", of_phase.len());
        assert!(of_phase.is_sorted_by_key(|now| now.checkpoint_bytes), "{phase}");
        let read = of_phase.last().unwrap().checkpoint_bytes;
        // All but the header, which is read when the file is opened.
        assert_eq!(read, report.checkpoint_bytes - 4096, "{phase}");
    }
    let last = told.last().unwrap();
    assert_eq!((last.phase, last.records, last.records_total), (RestorePhase::Replaying, 6, 6));
}

/// Restoring takes its time; meanwhile other threads take checkpoints, and cut the log by them.
#[test]
fn a_recovery_reads_on_what_is_given_up_while_it_is_under_way() {
    struct Slow<'a> {
        store: &'a Store,
        reader: &'a LogReader,
        all: Keys,
        keys: Keys,
        removed: usize,
    }
    impl Restore for Slow<'_> {
        fn restore(&mut self, part: &mut CheckpointReader<'_>) -> Result<(), BoxError> {
            let Slow { store, reader, .. } = self;
            // All that is being read loses its name, and the newest checkpoint needs nothing of the log.
            let last = self.all.applied;
            for _ in 0..2 {
                let order = CheckpointOrder { chains_kept: 1, ..order_at(last) };
                store.write(&order, &self.all)?;
            }
            let mut dispose = |name: &str| {
                store.dir.remove(name)?;
                self.removed += 1;
                Ok(Disposed::Removed)
            };
            truncate(&store.dir, &store.manifest, reader.pins(), last, last, &mut dispose)?;
            self.keys.restore(part)
        }
        fn apply(&mut self, record: RecordRef<'_>) -> Result<Applied, BoxError> {
            self.keys.apply(record)
        }
    }

    let (_disk, store, pen) = two_chains();
    let reader = LogReader::of_writer(store.dir.clone(), Lsn::FIRST);
    let all = Keys::of(&pen.model);
    let mut slow = Slow { store: &store, reader: &reader, all, keys: Keys::default(), removed: 0 };
    let how = RestoreHow {
        clock: &*store.clock,
        max_time: None,
        ahead: None,
        held_bytes: 0,
        until: None,
        progress: &mut |_| {},
    };
    let report = store.checkpoints.restore(&reader, pen.durable, how, &mut slow).unwrap();
    assert_eq!((report.checkpoint_files, report.total), (3, 2));
    slow.keys.begun = 0;
    assert_eq!(slow.keys, slow.all);
    // What lay before it went, and what it read stayed until then.
    assert_eq!((slow.removed, store.manifest.current().log_start), (5, Lsn(11)));
    assert_eq!(store.checkpoints.list().len(), 1);
}

#[test]
fn the_check_of_a_large_checkpoint_is_stopped_in_time_too() {
    let (_disk, pen) = log_of(4);
    let store = Store::open(&pen.disk);
    let big = vec![b'x'; 5 << 20];
    store.checkpoints.write(&order_at(Lsn(4)), &|| false, |writer| Ok(writer.write_all(&big)?)).unwrap();
    let reader = LogReader::of_writer(store.dir.clone(), Lsn::FIRST);
    for (seconds, is_enough) in [(2, false), (4, false), (20, true)] {
        // Each MiB takes a second.
        let mut progress = |_: &_| store.clock.advance(Duration::from_secs(1));
        let max_time = Some(Duration::from_secs(seconds));
        let how = RestoreHow {
            clock: &*store.clock,
            max_time,
            ahead: None,
            held_bytes: 0,
            until: None,
            progress: &mut progress,
        };
        match store.checkpoints.restore(&reader, pen.durable, how, &mut Bytes::default()) {
            Ok(_) => assert!(is_enough, "{seconds} s"),
            Err(RestoreError::TimedOut { phase, .. }) => {
                assert_eq!((is_enough, phase), (false, RestorePhase::Checking), "{seconds} s");
            }
            Err(error) => panic!("{error}"),
        }
    }
}

#[test]
fn a_state_of_any_size_passes_in_pieces() {
    let (disk, pen) = log_of(2);
    let store = Store::open(&disk);
    disk.take_trace();
    let mib = vec![b'x'; 1 << 20];
    store
        .checkpoints
        .write(&order_at(Lsn(2)), &|| false, |writer| (0..40).try_for_each(|_| Ok(writer.write_all(&mib)?)))
        .unwrap();
    let mut found = Bytes::default();
    restored(&store, &mut found, pen.durable);
    assert_eq!(found.bytes.len(), 40 << 20);
    let (mut written, mut read, mut unsynced) = (0, 0, 0);
    for traced in disk.take_trace().iter().filter(|traced| traced.name.contains(".ckpt")) {
        match traced.action {
            Action::Write { len, .. } => {
                assert!(len <= 3 << 20, "{len} bytes at once");
                (written, unsynced) = (written + len, unsynced + len);
                assert!(unsynced <= 20 << 20, "{unsynced} bytes that wait for a sync");
            }
            Action::SyncAll => unsynced = 0,
            Action::Read { len, .. } => {
                assert!(len <= 2 << 20, "{len} bytes at once");
                read += len;
            }
            _ => {}
        }
    }
    assert!(written > 40 << 20 && read > 80 << 20, "{written} and {read} bytes");
}
