//! Arguments at the ends of their types: refused or answered, and no reason to panic.
//!
//! Tests are built with checks for overflow, so an addition that overflows is a panic here.

use std::ops::Bound;
use std::sync::Arc;
use std::time::{Duration, UNIX_EPOCH};

use braidlog::{
    Append, Applied, BoxError, CheckpointReader, Compress, Lsn, LsnRange, Options, RecordRef, Recover,
    Replay, Restore, Target, Wal, partition_of,
};
use braidlog_sim::SimDisk;

const LSNS: [Lsn; 6] = [Lsn::ZERO, Lsn::FIRST, Lsn(5), Lsn::MAX, Lsn(Lsn::MAX.0 + 1), Lsn(u64::MAX)];

fn log() -> (Options, Wal) {
    let options = Wal::options().storage(Arc::new(SimDisk::new())).background_threads(false);
    let wal = options.open("wal").unwrap();
    for _ in 0..5 {
        wal.append(b"x").unwrap();
    }
    (options, wal)
}

struct Nothing;

impl Restore for Nothing {
    fn restore(&mut self, _: &mut CheckpointReader<'_>) -> Result<(), BoxError> {
        Ok(())
    }

    fn apply(&mut self, _: RecordRef<'_>) -> Result<Applied, BoxError> {
        Ok(Applied::Applied)
    }
}

#[test]
fn no_lsn_makes_a_call_panic() {
    let (options, wal) = log();
    let reader = options.open_read_only("wal").unwrap();
    for from in LSNS {
        for to in LSNS {
            let all: Vec<Bound<Lsn>> =
                [from, to].into_iter().flat_map(|lsn| [Bound::Included(lsn), Bound::Excluded(lsn)]).collect();
            for start in all.iter().chain([&Bound::Unbounded]) {
                for end in all.iter().chain([&Bound::Unbounded]) {
                    let range = (*start, *end);
                    let _ = wal.iter(range).map(|records| records.count());
                    let _ = wal.iter_rev(range).map(|records| records.count());
                    let _ = reader.iter(range).map(|records| records.count());
                    let _ = wal.replay_with(Replay::new().range(range)).map(|records| records.count());
                }
            }
            let range = LsnRange { first: from, last: to };
            let _ = (range.count(), range.is_empty(), range.contains(to), range.iter().next());
        }
        let _ = wal.read(from);
        let _ = reader.read(from);
        let _ = wal.subscribe(from).map(|mut records| records.try_next());
        let _ = wal.wait_durable(from);
        let _ = wal.replay_with(Replay::new().until(Target::lsn(from))).map(|records| records.count());
        let _ = wal.recover_with(Recover::new().until(Target::lsn(from).exclusive()), &mut Nothing);
        let _ = reader.lsn_at(&Target::lsn(from));
        let _ = wal.set_hold("hold", from);
        let _ = wal.compress_with(Compress::new().before(from), |_| ());
        let _ = wal.checkpoint(from, |_| Ok(()));
        let _ = wal.truncate_before(from);
        let _ = (from.next(), from.prev());
    }
    assert_eq!(wal.append(b"goes on").unwrap(), wal.last_lsn());
}

#[test]
fn no_time_and_no_number_makes_a_call_panic() {
    let (options, wal) = log();
    for timeout in [Duration::ZERO, Duration::MAX] {
        wal.append_timeout(b"x", timeout).unwrap_or_default();
        let ticket = wal.submit(b"x").unwrap();
        let _ = ticket.wait_timeout(timeout);
        let mut records = wal.subscribe(Lsn::FIRST).unwrap();
        let _ = records.next_timeout(timeout);
        let _ = wal.recover_with(Recover::new().max_time(timeout), &mut Nothing);
        for options in
            [options.clone().segment_age_max(Some(timeout)), options.clone().compression_level(i32::MIN)]
        {
            let _ = options.open("other");
        }
    }
    for time_ns in [0, u64::MAX] {
        let _ = wal.replay_with(Replay::new().until(Target::time_ns(time_ns))).map(|records| records.count());
        let _ = wal.replay_with(Replay::new().threads(time_ns as usize)).map(|records| records.count());
    }
    let far = Duration::from_secs(1 << 61);
    for time in
        [UNIX_EPOCH.checked_sub(far), Some(UNIX_EPOCH), UNIX_EPOCH.checked_add(far)].into_iter().flatten()
    {
        let _ = wal.iter_since(time).map(|records| records.count());
    }
    for kind in [0, 239, 240, 255] {
        assert_eq!(wal.append_with(Append::new(b"x").kind(kind)).is_ok(), kind <= 239);
    }
    for partitions in [0, 1, usize::MAX] {
        assert!(partition_of(u64::MAX, partitions) <= partitions.saturating_sub(1));
    }
    let states: &mut [u64] = &mut [];
    let refused = wal.replay_partitioned(Replay::new(), states, |_| 0_u64, |_, _| Ok(())).unwrap_err();
    assert_eq!(refused.kind(), braidlog::ErrorKind::InvalidInput);
    assert!(wal.restore_point("").is_err());
}
