//! Reading backward gives what reading forward gives, the other way round; and reading from a time on gives what is not older.

use std::sync::Arc;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use braidlog::storage::Clock;
use braidlog::{DurabilityMode, ErrorKind, Lsn, Options, Record, Result, Wal};
use braidlog_sim::{Profile, Rng, SimClock, SimDisk};

#[path = "support/small_log.rs"]
mod small_log;

const PATH: &str = "wal";

fn on(disk: &SimDisk, clock: &Arc<SimClock>) -> Options {
    Wal::options()
        .storage(Arc::new(disk.clone()))
        .clock(clock.clone())
        .mode(DurabilityMode::asynchronous())
        .background_threads(false)
        .num_stripes(1)
        .segment_size(256 << 10)
        .write_buffer_size(16 << 10)
}

/// Appends records of many sizes, alone and in batches, while time goes on, stands still and is set back.
fn write(wal: &Wal, clock: &SimClock, rng: &mut Rng, rounds: u64) {
    for _ in 0..rounds {
        for _ in 0..rng.below(8) {
            wal.append(vec![rng.below(256) as u8; 1 + rng.index(2000)]).unwrap();
        }
        if rng.one_in(3) {
            let mut batch = wal.batch();
            for _ in 0..1 + rng.below(30) {
                batch.push(1, vec![rng.below(256) as u8; rng.index(900)]).unwrap();
            }
            batch.commit().unwrap();
        }
        wal.flush().unwrap();
        match rng.below(4) {
            0 => {}
            1 => clock.set_wall_ns(clock.wall_ns() - rng.below(30_000_000)),
            _ => clock.advance(Duration::from_nanos(1 + rng.below(50_000_000))),
        }
    }
}

/// A log of several incarnations: sealed segments, one in the middle without a seal, one that is written.
fn log() -> (SimDisk, Arc<SimClock>, Wal) {
    let (disk, clock, mut rng) = (SimDisk::new(), Arc::new(SimClock::new()), Rng::new(6));
    let wal = on(&disk, &clock).open(PATH).unwrap();
    write(&wal, &clock, &mut rng, 180);
    let disk = disk.crash_clone(2, Profile::Kept);
    let wal = on(&disk, &clock).open(PATH).unwrap();
    write(&wal, &clock, &mut rng, 150);
    assert!(small_log::bases(&disk, PATH).len() > 5);
    (disk, clock, wal)
}

fn forward(records: braidlog::Records) -> Vec<Record> {
    records.collect::<Result<_>>().unwrap()
}

fn time(timestamp_ns: u64) -> SystemTime {
    UNIX_EPOCH + Duration::from_nanos(timestamp_ns)
}

#[test]
fn backward_is_forward_the_other_way_round_in_any_range() {
    let (disk, clock, wal) = log();
    let all = forward(wal.iter(..).unwrap());
    let last = all.len() as u64;
    let mut rng = Rng::new(1);
    let mut ranges: Vec<(u64, u64)> = (0..150)
        .map(|_| {
            let from = 1 + rng.below(last);
            (from, from + rng.below(300))
        })
        .collect();
    ranges.extend([(1, last), (1, 1), (last, last), (last - 1, last + 5)]);
    for base in small_log::bases(&disk, PATH) {
        ranges.extend([(base, base), (base.saturating_sub(2).max(1), base + 2)]);
    }
    for (from, to) in ranges {
        let mut expected = all[from as usize - 1..to.min(last) as usize].to_vec();
        expected.reverse();
        let range = Lsn(from)..=Lsn(to);
        assert_eq!(
            wal.iter_rev(range).unwrap().collect::<Result<Vec<_>>>().unwrap(),
            expected,
            "{from} to {to}"
        );
    }
    wal.close().unwrap();
    let closed = on(&disk, &clock).open_read_only(PATH).unwrap();
    let mut backward = closed.iter_rev(..).unwrap().collect::<Result<Vec<_>>>().unwrap();
    backward.reverse();
    assert_eq!(backward, all);
    assert_eq!(closed.iter_rev(Lsn(last + 1)..).unwrap().count(), 0);
}

#[test]
fn going_backward_reads_little_ahead_and_lends_from_a_bounded_buffer() {
    let (disk, _clock, wal) = log();
    wal.iter_rev(..).unwrap().for_each(drop);
    let before = disk.counts();
    let mut backward = wal.iter_rev(..).unwrap();
    let newest = backward.next_ref().unwrap().unwrap().lsn;
    assert_eq!(newest, wal.durable_lsn());
    assert!(disk.counts().bytes_read - before.bytes_read < 256 << 10, "the end of the log and no more");
    let (total, read) =
        (disk.list_raw(PATH).iter().map(|(_, len)| len).sum::<u64>(), disk.counts().bytes_read);
    backward.for_each(drop);
    assert!(disk.counts().bytes_read - read < 6 * total, "each byte is read a few times at most");
}

#[test]
fn damage_ends_the_way_back_and_hides_nothing_behind_it() {
    let (disk, clock, wal) = log();
    let all = forward(wal.iter(..).unwrap());
    wal.close().unwrap();
    let name = format!("{PATH}/{:020}.wal", 1);
    let bytes = disk.read_raw(&name);
    // A payload that occurs once, in the middle of the first segment.
    let victim = all[40..].iter().find(|record| record.payload.len() > 1000).unwrap();
    let place = bytes.windows(1000).position(|window| window == &victim.payload[..1000]).unwrap();
    disk.flip_bit(&name, place as u64 + 500, 1);
    let log = on(&disk, &clock).open_read_only(PATH).unwrap();
    let mut backward = log.iter_rev(..).unwrap();
    for expected in all[victim.lsn.0 as usize..].iter().rev() {
        assert_eq!(&backward.next().unwrap().unwrap(), expected);
    }
    let error = backward.next().unwrap().unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Damaged);
    assert_eq!(error.lsns().unwrap().first, victim.lsn);
    assert!(backward.next().is_none());
}

#[test]
fn from_a_time_on_comes_what_is_not_older() {
    let (disk, clock, wal) = log();
    let all = forward(wal.iter(..).unwrap());
    assert!(all.windows(2).all(|pair| pair[0].timestamp_ns <= pair[1].timestamp_ns));
    let (first, last) = (all[0].timestamp_ns, all[all.len() - 1].timestamp_ns);
    assert!(last - first > 1_000_000_000);
    let mut rng = Rng::new(3);
    let mut times: Vec<u64> = (0..100).map(|_| first + rng.below(last - first)).collect();
    // Exactly one of a record, and just beside it.
    times.extend(
        all.iter()
            .step_by(37)
            .flat_map(|record| [record.timestamp_ns - 1, record.timestamp_ns, record.timestamp_ns + 1]),
    );
    times.extend([0, first, last, last + 1, u64::MAX]);
    let fresh = || on(&disk, &clock).open_read_only(PATH).unwrap();
    let beside = fresh();
    let visible = beside.last_lsn().unwrap().0 as usize;
    for time_ns in times {
        let expected = all.partition_point(|record| record.timestamp_ns < time_ns);
        let found = forward(wal.iter_since(time(time_ns)).unwrap());
        assert_eq!(found, all[expected..], "{time_ns}");
        let found = forward(beside.iter_since(time(time_ns)).unwrap());
        assert_eq!(found, all[expected.min(visible)..visible], "{time_ns} beside the writer");
    }
    assert_eq!(forward(wal.iter_since(UNIX_EPOCH - Duration::from_secs(1)).unwrap()), all);
    wal.close().unwrap();
    let middle = all[all.len() / 2].timestamp_ns;
    let expected = all.partition_point(|record| record.timestamp_ns < middle);
    assert_eq!(forward(fresh().iter_since(time(middle)).unwrap()), all[expected..]);
}

#[test]
fn the_first_record_of_a_time_is_found_with_few_reads() {
    let (disk, clock) = (SimDisk::new(), Arc::new(SimClock::new()));
    let wal = on(&disk, &clock).open(PATH).unwrap();
    for _ in 0..600 {
        for _ in 0..40 {
            wal.append([7; 400]).unwrap();
        }
        wal.flush().unwrap();
        clock.advance(Duration::from_millis(1));
    }
    wal.close().unwrap();
    let segments = small_log::bases(&disk, PATH).len();
    assert!(segments > 30);
    let log = on(&disk, &clock).open_read_only(PATH).unwrap();
    let all = forward(log.iter(..).unwrap());
    for record in all.iter().step_by(997) {
        let before = disk.counts();
        let first = log.iter_since(time(record.timestamp_ns)).unwrap().next().unwrap().unwrap();
        assert_eq!(first.timestamp_ns, record.timestamp_ns);
        let reads = disk.counts().reads - before.reads;
        assert!(reads < 60, "{reads} reads in {segments} segments");
    }
}

#[test]
fn nothing_below_the_start_of_the_log_is_given() {
    let (disk, clock) = (SimDisk::new(), Arc::new(SimClock::new()));
    let wal = small_log::small(&disk, &clock).open(PATH).unwrap();
    small_log::fill(&wal, 5);
    wal.checkpoint(wal.durable_lsn(), |_| Ok(())).unwrap();
    let first = wal.truncate_before(Lsn(3 * small_log::PER_SEGMENT)).unwrap();
    assert!(first > Lsn::FIRST);
    assert_eq!(wal.iter_rev(..).unwrap().last().unwrap().unwrap().lsn, first);
    assert_eq!(wal.iter_since(UNIX_EPOCH).unwrap().next().unwrap().unwrap().lsn, first);
    assert_eq!(wal.iter_rev(first.prev()..).unwrap_err().kind(), ErrorKind::Truncated);
}
