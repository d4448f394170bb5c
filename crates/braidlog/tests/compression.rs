//! Compressed segments: what is due is compressed and nothing else changes, whatever fails, is damaged, is read or backed up
//! meanwhile.

use std::collections::BTreeSet;
use std::path::Path;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use braidlog::{
    Compress, Compression, DamageCause, ErrorKind, Event, HealthState, Lsn, Options, Retention, UpkeepTask,
    Wal,
};
use braidlog_sim::{Fault, Op, SimClock, SimDisk};

#[path = "support/small_log.rs"]
mod small_log;
#[path = "support/upkept.rs"]
mod upkept;

use small_log::{PATH, append, assert_reads, assert_records, fill, small};
use upkept::Log;

const HOUR: Duration = Duration::from_secs(3600);

impl Log {
    /// The base LSNs of segments that are compressed, and of those that are not. All records can be read.
    #[track_caller]
    fn segments(&self) -> (Vec<u64>, Vec<u64>) {
        assert_records(self.wal.iter(..), self.wal.first_lsn(), self.wal.durable_lsn());
        segments(&self.disk, PATH)
    }

    #[track_caller]
    fn maintained(&self) -> (Vec<u64>, Vec<u64>) {
        self.wal.maintain().unwrap();
        self.segments()
    }
}

fn segments(disk: &SimDisk, dir: &str) -> (Vec<u64>, Vec<u64>) {
    let mut names: Vec<String> = disk.list_raw(dir).into_iter().map(|(name, _)| name).collect();
    names.sort_unstable();
    assert!(!names.iter().any(|name| name.ends_with(".new")), "{names:?}");
    let with = |end: &str| {
        names.iter().filter_map(|name| name.strip_suffix(end)).map(|base| base.parse().unwrap()).collect()
    };
    (with(".walz"), with(".wal"))
}

fn at_once(options: Options) -> Options {
    options.compression(Compression::AtOnce)
}

/// Bytes of the files in a directory.
fn bytes(disk: &SimDisk, dir: &str) -> usize {
    disk.list_raw(dir).iter().map(|(name, _)| disk.read_raw(format!("{dir}/{name}")).len()).sum()
}

#[test]
fn finished_segments_are_compressed_at_once_and_the_log_is_what_it_was() {
    let log = Log::open(at_once);
    fill(&log.wal, 5);
    let (compressed, plain) = log.segments();
    assert!(compressed.is_empty(), "nothing happens between calls in a log without threads");
    let before = bytes(&log.disk, PATH);
    let (now, left) = log.maintained();
    assert_eq!((now.as_slice(), left.as_slice()), plain.split_at(plain.len() - 1));
    let told = log.events();
    let told: Vec<u64> = told
        .iter()
        .filter_map(|event| match event {
            Event::Compressed { base, plain_bytes, compressed_bytes } => {
                assert!(compressed_bytes < &(plain_bytes / 4));
                Some(base.0)
            }
            _ => None,
        })
        .collect();
    assert_eq!(told, now);
    let status = log.wal.upkeep();
    assert_eq!(status.segments_compressed, now.len() as u64);
    assert_eq!(status.log_bytes, bytes(&log.disk, PATH) as u64);
    assert_eq!(status.bytes_saved, (before - bytes(&log.disk, PATH)) as u64);
    assert!(status.bytes_saved > 40_000 * now.len() as u64, "{status:?}");

    let log = log.reopen(at_once);
    append(&log.wal, 20);
    let (again, _) = log.maintained();
    assert!(again.len() > now.len() && again.starts_with(&now));
    log.wal.close().unwrap();
    let report = small(&log.disk, &log.clock).verify(PATH, |_| ()).unwrap();
    assert!(report.is_clean(), "{:?}", report.problems);
    assert_eq!(assert_reads(&small(&log.disk, &log.clock).open_read_only(PATH).unwrap()), report.last_lsn);
}

#[test]
fn segments_are_compressed_after_an_age_that_counts_while_the_log_is_open() {
    let aged = |options: Options| options.compression(Compression::AfterAge(HOUR));
    let log = Log::open(aged);
    fill(&log.wal, 3);
    let (none, plain) = log.maintained();
    assert!(none.is_empty());
    log.clock.advance(HOUR / 2);
    // A wall clock that jumps says nothing of age, nor does time during which nobody had the log open.
    log.clock.set_wall_ns(u64::MAX / 2);
    assert!(log.maintained().0.is_empty());
    log.wal.close().unwrap();
    log.clock.advance(10 * HOUR);
    let log = Log::open_on(log.disk, log.clock, aged);
    fill(&log.wal, 2);
    assert!(log.maintained().0.is_empty());
    log.clock.advance(HOUR / 2);
    let (compressed, rest) = log.maintained();
    // Those of the first opening; the last of them was finished when the second began.
    assert_eq!(compressed, plain[..plain.len() - 1]);
    assert!(rest.len() > 2, "{rest:?}");
    log.clock.advance(HOUR);
    assert_eq!(log.maintained().1.len(), 1);
}

#[test]
fn segments_are_compressed_on_order_up_to_where_it_says() {
    let log = Log::open(|options| options);
    fill(&log.wal, 6);
    let (_, plain) = log.maintained();
    assert!(log.segments().0.is_empty(), "by default nothing is compressed");
    let mut told = Vec::new();
    let how = Compress::new().before(Lsn(plain[2] + 1)).level(19);
    let report = log.wal.compress_with(how, |progress| told.push(progress)).unwrap();
    assert_eq!(log.segments().0, plain[..2]);
    assert_eq!((report.compressed, report.kept.len(), report.damaged.len()), (2, 0, 0));
    assert!(report.compressed_bytes < report.plain_bytes / 4);
    assert!(told.is_sorted_by_key(|progress| progress.bytes_done));
    let last = told.last().unwrap();
    assert_eq!((last.segment.0, last.bytes_done), (plain[1], last.bytes_total));
    let rest = log.wal.compress().unwrap();
    assert_eq!(log.segments(), (plain[..plain.len() - 1].to_vec(), plain[plain.len() - 1..].to_vec()));
    assert_eq!(rest.compressed, plain.len() - 3);
    let nothing = log.wal.compress().unwrap();
    assert_eq!((nothing.compressed, nothing.kept.len(), nothing.plain_bytes), (0, 0, 0));
    for level in [0, 20] {
        assert!(log.wal.compress_with(Compress::new().level(level), |_| ()).is_err());
    }
}

#[test]
fn damaged_segment_stays_as_it_is_and_is_told() {
    let log = Log::open(at_once);
    fill(&log.wal, 4);
    let (_, plain) = log.segments();
    let name = format!("{PATH}/{:020}.wal", plain[1]);
    let mut bytes = log.disk.read_raw(&name);
    bytes[30_000] ^= 1;
    log.disk.put_raw(&name, &bytes);
    let failed = log.wal.maintain().unwrap_err();
    assert!(failed.to_string().contains(&format!("{:020}.wal", plain[1])), "{failed}");
    let is_told = |event: &Event| matches!(event, Event::UpkeepFailed { task: UpkeepTask::Compression, .. });
    assert_eq!(log.events().iter().filter(|event| is_told(event)).count(), 1);
    assert_eq!(log.wal.health().state, HealthState::Upkeep);
    // The others are compressed all the same, and it is not tried again and again.
    log.wal.maintain().unwrap();
    let (compressed, left) = segments(&log.disk, PATH);
    assert_eq!(
        (compressed.len(), left.as_slice()),
        (plain.len() - 2, &[plain[1], plain[plain.len() - 1]][..])
    );
    assert_eq!(log.disk.read_raw(&name), bytes);
    let report = log.wal.compress().unwrap();
    assert_eq!((report.compressed, report.damaged.len()), (0, 1));
    assert!(matches!(report.damaged[0].what, DamageCause::Entry(_)), "{}", report.damaged[0]);
}

#[test]
fn what_fails_is_told_and_tried_again_and_loses_nothing() {
    for op in [Op::Create, Op::Write, Op::Sync, Op::Rename, Op::SyncDir, Op::Remove] {
        let log = Log::open(at_once);
        fill(&log.wal, 3);
        log.disk.inject(Fault::eio(op));
        log.wal.maintain().unwrap_err();
        assert_eq!(log.disk.faults_struck(), 1);
        assert_records(log.wal.iter(..), Lsn(1), log.wal.durable_lsn());
        assert_eq!(log.wal.upkeep().failing[0].task, UpkeepTask::Compression, "{op:?}");
        let (compressed, left) = log.maintained();
        assert_eq!((compressed.is_empty(), left.len()), (false, 1), "{op:?}");
        assert!(log.wal.upkeep().failing.is_empty(), "{op:?}");
    }
}

#[test]
fn log_with_threads_compresses_by_itself_and_closes_in_the_middle_of_it() {
    let disk = SimDisk::new();
    let options = |disk: &SimDisk| {
        at_once(small(disk, &Arc::new(SimClock::new())))
            .clock(Arc::new(braidlog::storage::SystemClock::new()))
            .background_threads(true)
    };
    for _ in 0..10 {
        let wal = options(&disk).open(PATH).unwrap();
        fill(&wal, 3);
        let last = wal.last_lsn();
        wal.close().unwrap();
        // Nothing is left half done.
        segments(&disk, PATH);
        assert_eq!(assert_reads(&options(&disk).open_read_only(PATH).unwrap()), last);
    }
    let (told, is_told) = std::sync::mpsc::channel();
    let options = options(&disk).on_event(move |event| {
        if let Event::Compressed { base, .. } = event {
            told.send(*base).unwrap();
        }
    });
    let wal = options.open(PATH).unwrap();
    fill(&wal, 3);
    // Every one that was finished by now comes to it, if it has not yet; one may be in the middle of it.
    let names = disk.list_raw(PATH).into_iter();
    let bases: BTreeSet<u64> = names
        .filter_map(|(name, _)| name.strip_suffix(".walz").or(name.strip_suffix(".wal"))?.parse().ok())
        .collect();
    let wanted = Lsn(*bases.iter().nth_back(1).unwrap());
    while is_told.recv().unwrap() != wanted {}
    assert_records(wal.iter(..), Lsn(1), wal.durable_lsn());
}

#[test]
fn compressed_log_is_backed_up_and_a_backup_becomes_compressed_with_it() {
    let log = Log::open(|options| options.retention(Retention::keep_all()));
    fill(&log.wal, 4);
    let backup = || log.wal.backup("backup").unwrap();
    let read = || {
        let report = small(&log.disk, &log.clock).verify("backup", |_| ()).unwrap();
        assert!(report.is_clean(), "{:?}", report.problems);
        assert_reads(&small(&log.disk, &log.clock).open_read_only("backup").unwrap())
    };
    backup();
    assert_eq!(read(), log.wal.durable_lsn());
    let (none, plain) = segments(&log.disk, "backup");
    assert!(none.is_empty());
    append(&log.wal, 20);
    log.wal.compress().unwrap();
    // A file that the disk has damaged goes when its segment comes under the other name.
    let damaged = format!("backup/{:020}.wal", plain[1]);
    let mut bytes = log.disk.read_raw(&damaged);
    bytes[40] ^= 1;
    log.disk.put_raw(&damaged, &bytes);
    let report = backup();
    assert_eq!(read(), log.wal.durable_lsn());
    let (compressed, rest) = segments(&log.disk, "backup");
    assert_eq!((compressed.clone(), rest), log.segments());
    assert!(compressed.starts_with(&plain));
    assert!(report.copied + report.linked > plain.len());
    // And nothing is brought again.
    let again = backup();
    assert_eq!(again.unchanged, compressed.len() + 1, "{again:?}");
    // It opens as a log.
    let wal = small(&log.disk, &log.clock).open("backup").unwrap();
    assert_eq!(wal.append(b"more").unwrap(), log.wal.durable_lsn().next());
}

#[test]
fn readers_of_another_handle_see_the_same_before_and_after() {
    let log = Log::open(|options| options);
    fill(&log.wal, 5);
    let reader = small(&log.disk, &log.clock).open_read_only(PATH).unwrap();
    let before: Vec<_> = reader.segments().unwrap();
    let mut half = reader.iter(..).unwrap();
    for _ in 0..10 {
        half.next().unwrap().unwrap();
    }
    log.wal.compress().unwrap();
    let last = half.map(|record| record.unwrap().lsn).last().unwrap();
    // What the last mark says is durable.
    assert!(last >= log.wal.durable_lsn().prev());
    assert_eq!(assert_reads(&reader), last);
    let after = reader.segments().unwrap();
    assert_eq!(before.len(), after.len());
    for (one, other) in before.iter().zip(&after).take(after.len() - 1) {
        assert_eq!((one.base, one.last, one.len_bytes), (other.base, other.last, other.plain_bytes));
        assert!(!one.compressed && other.compressed);
        assert!(Path::new(&other.name).extension().is_some_and(|extension| extension == "walz"));
    }
}

#[test]
fn compressed_segments_are_given_up_and_their_files_are_not_used_again() {
    let log = Log::open(|options| at_once(options).retention(Retention::segments(2)));
    fill(&log.wal, 6);
    log.wal.maintain().unwrap();
    let last = log.wal.last_lsn();
    for _ in 0..2 {
        log.wal.checkpoint(last, |_| Ok(())).unwrap();
    }
    let (compressed, left) = log.maintained();
    assert_eq!((compressed.len(), left.len()), (1, 1));
    assert_eq!(log.wal.first_lsn().0, compressed[0]);
    let status = log.wal.upkeep();
    assert!(status.segments_removed > 3 && status.segments_recycled == 0, "{status:?}");
    fill(&log.wal, 2);
    log.maintained();
}

/// It waited for the lock that the compression holds which called it.
#[test]
fn what_would_wait_for_a_compression_is_refused_in_its_progress() {
    let log = Log::open(|options| options);
    fill(&log.wal, 4);
    let wal = &log.wal;
    let mut calls = 0;
    let report = wal.compress_with(Compress::new(), |_| {
        calls += 1;
        for refused in [wal.compress().map(drop), wal.maintain(), wal.close()] {
            assert_eq!(refused.unwrap_err().kind(), ErrorKind::InvalidInput);
        }
        drop(wal.pause_maintenance());
        // What waits for nobody goes on.
        let lsn = wal.append(b"in between").unwrap();
        wal.checkpoint(lsn, |_| Ok(())).unwrap();
        wal.set_hold("progress", wal.first_lsn()).unwrap();
        assert!(wal.read(lsn).unwrap().is_some());
    });
    assert!(calls > 0 && report.unwrap().compressed > 0);
    // A panic there leaves nobody behind who compresses.
    let caught = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| {
        fill(wal, 2);
        wal.compress_with(Compress::new(), |_| panic!("in the progress")).map(drop)
    }));
    assert!(caught.is_err());
    assert!(wal.compress().unwrap().compressed > 0);
    // Nor does a checkpoint begin one, which another compression may be waiting for.
    let lsn = wal.durable_lsn();
    let taken = wal.checkpoint(lsn, |_| Ok(wal.compress().map(drop)?));
    assert_eq!(taken.unwrap_err().kind(), ErrorKind::Application);
    log.wal.maintain().unwrap();
    log.wal.close().unwrap();
}

#[test]
fn whoever_hears_of_a_compressed_segment_may_close_the_log() {
    for on_order in [false, true] {
        let (disk, clock) = (SimDisk::new(), Arc::new(SimClock::new()));
        let handle: Arc<Mutex<Option<Wal>>> = Arc::default();
        let (told, closed) = (handle.clone(), Arc::new(Mutex::new(Vec::new())));
        let results = closed.clone();
        let options = small(&disk, &clock).on_event(move |event| {
            let is_compressed = matches!(event, Event::Compressed { .. });
            let wal = if is_compressed { told.lock().unwrap().take() } else { None };
            results.lock().unwrap().extend(wal.map(|wal| wal.close()));
        });
        let options = if on_order { options } else { at_once(options) };
        let wal = options.open(PATH).unwrap();
        fill(&wal, 4);
        *handle.lock().unwrap() = Some(wal.clone());
        if on_order {
            assert!(wal.compress().unwrap().compressed > 0);
        } else {
            wal.maintain().unwrap();
        }
        let closed = closed.lock().unwrap();
        assert!(matches!(closed[..], [Ok(())]), "{closed:?}");
        assert_eq!(wal.append(b"more").unwrap_err().kind(), ErrorKind::Closed);
    }
}
