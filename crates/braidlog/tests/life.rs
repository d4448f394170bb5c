//! Everything at once, and a crash at any moment of it: writers, automatic checkpoints, retention, and backups one after
//! another, on real threads. What was acknowledged and is not in a checkpoint is there, the state can be restored, and so
//! it can from the backup.
//!
//! One seed names one image of one moment; the moment itself is the scheduler's. `BRAIDLOG_CRASH_ROUNDS` makes the run
//! as long as you like.

use std::io::{Read, Write};
use std::sync::atomic::{AtomicU32, AtomicU64, Ordering};
use std::sync::{Arc, Condvar, Mutex};
use std::thread;

use braidlog::{
    Applied, BoxError, CheckpointPolicy, CheckpointReader, ErrorKind, Lsn, Options, RecordRef, Restore,
    Retention, Wal,
};
use braidlog_sim::{Profile, Rng, SimClock, SimDisk, Stamp};

#[path = "support/patience.rs"]
mod patience;
#[path = "support/small_log.rs"]
mod small_log;

use patience::until;
use small_log::{PATH, small};

const DEST: &str = "backup";
const WRITERS: u32 = 3;
const IMAGES: u64 = 15;
/// Records of each writer between two images, so that a run stays small though checks take their time.
const RECORDS_PER_IMAGE: u32 = 20;

fn options(disk: &SimDisk) -> Options {
    // The system's clock: a round that is held back waits for it.
    small(disk, &Arc::new(SimClock::new()))
        .clock(Options::default().clock)
        .background_threads(true)
        .retention(Retention::segments(3))
        .checkpoint_policy(CheckpointPolicy::never().records(Some(10)))
}

/// A state: how far the log has come, and how many records of each writer it has seen.
#[derive(Default, PartialEq, Eq, Debug)]
struct State {
    lsn: Lsn,
    seen: [u32; WRITERS as usize],
}

impl State {
    fn take(&mut self, record: RecordRef<'_>) {
        assert_eq!(record.lsn, self.lsn.next(), "dense");
        let stamp = Stamp::of(record.payload);
        let seen = &mut self.seen[stamp.writer as usize];
        assert_eq!(stamp.seq, *seen, "each record of writer {} once, in order", stamp.writer);
        *seen += 1;
        self.lsn = record.lsn;
    }

    fn save(&self, to: &mut impl Write) -> std::io::Result<()> {
        to.write_all(&self.lsn.0.to_le_bytes())?;
        self.seen.iter().try_for_each(|seen| to.write_all(&seen.to_le_bytes()))
    }
}

impl Restore for State {
    fn restore(&mut self, part: &mut CheckpointReader) -> Result<(), BoxError> {
        let mut word = [0; 8];
        part.read_exact(&mut word)?;
        self.lsn = Lsn(u64::from_le_bytes(word));
        for seen in &mut self.seen {
            let mut word = [0; 4];
            part.read_exact(&mut word)?;
            *seen = u32::from_le_bytes(word);
        }
        Ok(())
    }

    fn apply(&mut self, record: RecordRef<'_>) -> Result<Applied, BoxError> {
        self.take(record);
        Ok(Applied::Applied)
    }
}

/// What had been promised before an image was taken.
struct Promised {
    durable: Lsn,
    acknowledged: [u32; WRITERS as usize],
    /// The last LSN of the last backup that was complete.
    backup: Lsn,
}

#[test]
fn a_crash_at_any_moment_loses_nothing_and_the_backup_is_a_log() {
    let rounds = std::env::var("BRAIDLOG_CRASH_ROUNDS").map_or(1, |text| text.parse().expect("a number"));
    for round in 0..rounds {
        run(round);
    }
}

fn run(round: u64) {
    let disk = SimDisk::new();
    let wal = options(&disk).open(PATH).unwrap();
    wal.set_snapshot_source(take_checkpoint);
    let allowed = (Mutex::new(0), Condvar::new());
    let allow = |count: u32| {
        *allowed.0.lock().unwrap() = count;
        allowed.1.notify_all();
    };
    let acknowledged: [AtomicU32; WRITERS as usize] = Default::default();
    let acknowledged_now = || acknowledged.each_ref().map(|count| count.load(Ordering::SeqCst));
    let backup = AtomicU64::new(0);
    thread::scope(|scope| {
        let _stop = OnDrop(|| allow(u32::MAX));
        for writer in 0..WRITERS {
            let (wal, allowed, acknowledged) = (&wal, &allowed, &acknowledged[writer as usize]);
            scope.spawn(move || {
                let mut seq = 0;
                loop {
                    let may =
                        allowed.1.wait_while(allowed.0.lock().unwrap(), |allowed| *allowed <= seq).unwrap();
                    if *may == u32::MAX {
                        return;
                    }
                    drop(may);
                    wal.append(Stamp::single(writer, seq).payload(3000)).unwrap();
                    seq += 1;
                    acknowledged.store(seq, Ordering::SeqCst);
                }
            });
        }
        let mut rng = Rng::new(round);
        for image in 0..IMAGES {
            allow((image as u32 + 1) * RECORDS_PER_IMAGE);
            let backing = scope.spawn(|| {
                let report = wal.backup(DEST).unwrap();
                backup.store(report.last_lsn.0, Ordering::SeqCst);
            });
            let moment = rng.below(u64::from(RECORDS_PER_IMAGE * WRITERS)) + wal.durable_lsn().0;
            let is_over =
                || acknowledged_now().iter().all(|&count| count == (image as u32 + 1) * RECORDS_PER_IMAGE);
            until(|| wal.durable_lsn().0 >= moment || is_over());
            let promised = Promised {
                durable: wal.durable_lsn(),
                acknowledged: acknowledged_now(),
                backup: Lsn(backup.load(Ordering::SeqCst)),
            };
            let profile = Profile::HONEST[image as usize % Profile::HONEST.len()];
            let told = format!("round {round}, image {image}, {profile:?}");
            let after = disk.crash_clone(round << 32 | image, profile);
            backing.join().unwrap();
            check(&after, &promised, &told);
        }
    });
    // No reader is left, so what no checkpoint needs goes, if it has not yet.
    take_checkpoint(&wal).unwrap();
    take_checkpoint(&wal).unwrap();
    wal.maintain().unwrap();
    let upkeep = wal.upkeep();
    assert!(upkeep.failing.is_empty() && upkeep.segments_removed > 0, "{upkeep:?}");
    wal.close().unwrap();
}

/// Replays into a state of its own, as far as the log is durable, and saves that.
fn take_checkpoint(wal: &Wal) -> Result<(), BoxError> {
    let mut state = State::default();
    wal.recover(&mut state)?;
    wal.checkpoint(state.lsn, |writer| Ok(state.save(writer)?))?;
    Ok(())
}

fn check(disk: &SimDisk, promised: &Promised, told: &str) {
    let wal =
        options(disk).background_threads(false).open(PATH).unwrap_or_else(|error| panic!("{told}: {error}"));
    assert!(wal.last_lsn() >= promised.durable, "{told}");
    // Nothing of the log continues the backup before, or there is none: the new one is refused until it is whole.
    let may_be_refused = promised.backup == Lsn::ZERO || promised.backup.next() < wal.first_lsn();
    let state = restored(&wal, told);
    for (seen, least) in state.seen.iter().zip(promised.acknowledged) {
        assert!(*seen >= least, "{told}: {state:?} of {:?}", promised.acknowledged);
    }
    drop(wal);
    match options(disk).verify(DEST, |_| ()) {
        Ok(report) if !may_be_refused => assert!(report.is_clean(), "{told}: {report:?}"),
        Ok(_) => {}
        Err(error) => {
            assert!(error.kind() == ErrorKind::Foreign && promised.backup == Lsn::ZERO, "{told}: {error}")
        }
    }
    match options(disk).background_threads(false).open(DEST) {
        Ok(wal) => {
            assert!(wal.last_lsn() >= promised.backup, "{told}: {} of {}", wal.last_lsn(), promised.backup);
            restored(&wal, told);
        }
        Err(error) => assert!(error.kind() == ErrorKind::Damaged && may_be_refused, "{told}: {error}"),
    }
}

#[track_caller]
fn restored(wal: &Wal, told: &str) -> State {
    let mut state = State::default();
    wal.recover(&mut state).unwrap_or_else(|error| panic!("{told}: {error}"));
    assert_eq!(state.lsn, wal.last_lsn(), "{told}");
    state
}

struct OnDrop<F: Fn()>(F);

impl<F: Fn()> Drop for OnDrop<F> {
    fn drop(&mut self) {
        self.0();
    }
}
