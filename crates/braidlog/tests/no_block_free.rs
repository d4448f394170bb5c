//! A device with not one free block: the log frees itself by what it keeps in reserve, again and again, and wherever it
//! crashes.

use std::sync::Arc;
use std::time::Duration;

use braidlog::{ErrorKind, Lsn, Retention, Wal};
use braidlog_sim::{Fault, Op, Profile, SimClock, SimDisk};

#[path = "support/small_log.rs"]
mod small_log;

use small_log::{PATH, assert_reads, assert_records, payload, small};

/// Bytes of a device that holds a handful of segments beside what the log needs ahead.
const DEVICE_LEN: u64 = 9 << 20;
/// The files of the reserve.
const RESERVE: [&str; 4] =
    ["MANIFEST.reserve", "MANIFEST.reserve2", "MANIFEST.reserve3", "CHECKPOINT.reserve"];

struct Full {
    disk: SimDisk,
    clock: Arc<SimClock>,
    wal: Wal,
}

impl Full {
    /// A log that was never cut, of which nothing is kept in spare, on a device that it has filled.
    fn new() -> Full {
        Full::with(Retention::keep_all())
    }

    fn with(retention: Retention) -> Full {
        let (disk, clock) = (SimDisk::new(), Arc::new(SimClock::new()));
        disk.set_capacity(Some(DEVICE_LEN));
        let wal = small(&disk, &clock).retention(retention).open(PATH).unwrap();
        let full = Full { wal, disk, clock };
        full.fill();
        full
    }

    /// Such a log of which a hold keeps everything.
    fn held() -> Full {
        let (disk, clock) = (SimDisk::new(), Arc::new(SimClock::new()));
        disk.set_capacity(Some(DEVICE_LEN));
        let full = Full { wal: open(&disk, &clock), disk, clock };
        full.wal.set_hold("replica", Lsn(1)).unwrap();
        full.fill();
        full
    }

    /// Appends until it is refused, and takes what is free then.
    fn fill(&self) {
        let refused = loop {
            let next = self.wal.last_lsn().next();
            match self.wal.append(payload(next)) {
                Ok(lsn) => assert_eq!(lsn, next),
                Err(error) => break error,
            }
        };
        assert_eq!(refused.kind(), ErrorKind::NoSpace, "{refused}");
        self.disk.set_capacity(Some(self.disk.used_bytes()));
    }

    /// Takes a checkpoint without content, gives up what lies before it, and appends.
    fn free_itself(&self, context: &str) {
        let (before, last) = (self.wal.first_lsn(), self.wal.durable_lsn());
        self.wal.checkpoint(last, |_| Ok(())).unwrap_or_else(|error| panic!("{context}: {error}"));
        let first = self.wal.truncate_before(last).unwrap_or_else(|error| panic!("{context}: {error}"));
        assert!(first > before, "{context}");
        assert_records(self.wal.iter(..), first, last);
        assert!(self.wal.append(payload(last.next())).is_ok(), "{context}: there is space");
    }

    /// The log on a disk where nobody has it open, without a free block.
    fn reopened_full(disk: SimDisk, clock: &Arc<SimClock>) -> Full {
        disk.set_capacity(Some(disk.used_bytes()));
        Full { wal: open(&disk, clock), disk, clock: clock.clone() }
    }

    fn reserve(&self) -> Vec<u64> {
        let files = self.disk.list_raw(PATH);
        files.iter().filter(|(name, _)| RESERVE.contains(&name.as_str())).map(|(_, len)| *len).collect()
    }
}

fn open(disk: &SimDisk, clock: &Arc<SimClock>) -> Wal {
    small(disk, clock).retention(Retention::keep_all()).open(PATH).unwrap()
}

#[test]
fn a_log_without_one_free_block_takes_a_checkpoint_and_gives_space_back_again_and_again() {
    let full = Full::new();
    let reserve = full.reserve();
    assert_eq!(reserve.len(), RESERVE.len());
    for round in 0..5 {
        // Not by the files that wait to be used again.
        full.free_itself(&format!("round {round}"));
        assert_eq!(full.reserve(), reserve, "what was used is there again");
        full.fill();
    }
    full.wal.close().unwrap();
    assert_reads(&small(&full.disk, &full.clock).open_read_only(PATH).unwrap());
}

#[test]
fn a_checkpoint_and_a_truncation_need_no_block_that_becomes_free_between_them() {
    let full = Full::new();
    let reserve = full.reserve();
    let last = full.wal.durable_lsn();
    // As on a file system that gives back late what was removed, and to whoever asks first.
    full.disk.keep_freed_space(true);
    full.wal.checkpoint(last, |_| Ok(())).unwrap();
    let first = full.wal.truncate_before(last).unwrap();
    assert!(first > Lsn(1));
    assert_eq!(full.reserve().len(), 1, "the file for a hold is left");
    full.disk.keep_freed_space(false);
    assert!(full.wal.append(payload(last.next())).is_ok(), "there is space");
    full.wal.set_hold("another", first).unwrap();
    assert_eq!(full.reserve(), reserve, "what was used is there again");
    full.wal.close().unwrap();
    assert_reads(&small(&full.disk, &full.clock).open_read_only(PATH).unwrap());
}

#[test]
fn a_hold_moves_and_goes_without_one_free_block() {
    let full = Full::held();
    let last = full.wal.durable_lsn();
    for lsn in 1..=20 {
        full.wal.set_hold("replica", Lsn(lsn)).unwrap();
    }
    full.wal.checkpoint(last, |_| Ok(())).unwrap();
    let first = full.wal.truncate_before(Lsn(20)).unwrap();
    assert!(first > Lsn(1) && first <= Lsn(20), "{first}");
    full.fill();
    assert!(full.wal.release_hold("replica").unwrap());
    full.free_itself("without the hold");
}

#[test]
fn the_last_of_the_reserve_is_for_what_gives_space_back() {
    let full = Full::held();
    let reserve = full.reserve();
    let last = full.wal.durable_lsn();
    full.disk.keep_freed_space(true);
    // These lead to no space.
    let refused = [full.wal.set_hold("another", Lsn(5)), full.wal.restore_point("now").map(drop)];
    for refused in refused {
        assert_eq!(refused.unwrap_err().kind(), ErrorKind::NoSpace);
    }
    assert_eq!(full.reserve(), reserve, "nothing of it was used");
    full.wal.checkpoint(last, |_| Ok(())).unwrap();
    // These lead to some, and would leave too little for what does it.
    full.wal.set_hold("replica", Lsn(5)).unwrap();
    let refused = [full.wal.set_hold("replica", last), full.wal.checkpoint(last, |_| Ok(())).map(drop)];
    for refused in refused {
        assert_eq!(refused.unwrap_err().kind(), ErrorKind::NoSpace);
    }
    full.disk.keep_freed_space(false);
    full.wal.set_hold("replica", last).unwrap();
    full.disk.keep_freed_space(true);
    let first = full.wal.truncate_before(last).unwrap();
    assert!(first > Lsn(1));
    full.disk.keep_freed_space(false);
    assert!(full.wal.append(payload(last.next())).is_ok(), "there is space");
}

#[test]
fn ages_that_find_no_space_to_be_saved_keep_no_segment_from_going() {
    const DAY: Duration = Duration::from_secs(24 * 3600);
    let full = Full::with(Retention::segments(2).age(DAY));
    let last = full.wal.durable_lsn();
    full.clock.advance(2 * DAY);
    full.disk.keep_freed_space(true);
    full.wal.checkpoint(last, |_| Ok(())).unwrap();
    let _ = full.wal.maintain();
    assert!(full.wal.first_lsn() > Lsn(1));
    full.disk.keep_freed_space(false);
    full.wal.maintain().unwrap();
    assert!(full.wal.append(payload(last.next())).is_ok(), "there is space");
}

#[test]
fn an_opening_without_one_free_block_finds_the_reserve_and_frees_the_log() {
    let mut full = Full::new();
    for opening in 0..3 {
        full.wal.close().unwrap();
        full = Full::reopened_full(full.disk, &full.clock);
        full.free_itself(&format!("opening {opening}"));
        full.fill();
    }
}

#[test]
fn without_a_reserve_the_log_says_that_there_is_no_space_and_loses_nothing() {
    let full = Full::new();
    let last = full.wal.durable_lsn();
    full.wal.close().unwrap();
    let free = full.disk.used_bytes();
    for name in RESERVE {
        full.disk.remove_raw(format!("{PATH}/{name}"));
    }
    // Somebody else took the blocks.
    full.disk.set_capacity(Some(full.disk.used_bytes()));
    let wal = open(&full.disk, &full.clock);
    assert!(full.reserve().is_empty());
    let error = wal.checkpoint(last, |_| Ok(())).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::NoSpace, "{error}");
    assert_records(wal.iter(..), Lsn(1), last);
    // As soon as there are some, they are kept.
    full.disk.set_capacity(Some(free + (64 << 10)));
    wal.set_hold("replica", Lsn(1)).unwrap();
    assert_eq!(full.reserve().len(), RESERVE.len());
}

#[test]
fn a_crash_at_any_operation_without_one_free_block_leaves_a_log_that_frees_itself() {
    let mut operations = 0;
    let closed = Full::new();
    closed.wal.close().unwrap();
    for after_effect in [false, true] {
        for n in 1.. {
            let full = Full::reopened_full(closed.disk.crash_clone(0, Profile::Kept), &closed.clock);
            let last = full.wal.durable_lsn();
            let died = Fault::eio(Op::Any).nth(n);
            full.disk.inject(if after_effect { died.after_effect() } else { died });
            full.disk.inject(Fault::eio(Op::Any).nth(n + 1).forever());
            let struck = full.disk.faults_struck();
            let _ = full.wal.checkpoint(last, |_| Ok(())).and_then(|_| full.wal.truncate_before(last));
            let is_over = full.disk.faults_struck() == struck;
            full.disk.clear_faults();
            if is_over {
                operations += n - 1;
                break;
            }
            for seed in 0..3 {
                for profile in Profile::HONEST {
                    let context = format!("operation {n}, {profile:?}, seed {seed}");
                    let disk = full.disk.crash_clone(seed, profile);
                    let report = small(&disk, &full.clock).verify(PATH, |_| ()).unwrap();
                    assert!(report.is_clean(), "{context}: {:?}", report.problems);
                    let again = Full { wal: open(&disk, &full.clock), disk, clock: full.clock.clone() };
                    assert_eq!(again.wal.durable_lsn(), last, "{context}");
                    if again.wal.first_lsn() == Lsn(1) {
                        again.free_itself(&context);
                    }
                    assert!(again.wal.append(payload(again.wal.last_lsn().next())).is_ok(), "{context}");
                }
            }
        }
    }
    assert!(operations > 40, "{operations} operations");
}

/// A checkpoint, a hold that moves and the cut behind both, in either order. A hold that moved first took what the checkpoint needed.
#[test]
fn a_checkpoint_and_a_hold_come_in_either_order_and_the_log_is_cut_behind_both() {
    for hold_first in [false, true] {
        for goes in [false, true] {
            let full = Full::held();
            let last = full.wal.durable_lsn();
            let move_hold = || {
                if goes {
                    full.wal.release_hold("replica").map(|was_there| assert!(was_there))
                } else {
                    full.wal.set_hold("replica", last)
                }
            };
            full.disk.keep_freed_space(true);
            if hold_first {
                move_hold().unwrap();
                // Another one would take the checkpoint's, or the cut's.
                let refused = full.wal.set_hold("replica", last.next());
                assert_eq!(refused.unwrap_err().kind(), ErrorKind::NoSpace);
            }
            full.wal.checkpoint(last, |_| Ok(())).unwrap();
            if !hold_first {
                move_hold().unwrap();
            }
            let first = full.wal.truncate_before(last).unwrap();
            assert!(first > Lsn(1), "hold first: {hold_first}, it goes: {goes}");
            assert!(full.reserve().is_empty(), "all of it was used");
            full.disk.keep_freed_space(false);
            assert!(full.wal.append(payload(last.next())).is_ok(), "there is space");
        }
    }
}
