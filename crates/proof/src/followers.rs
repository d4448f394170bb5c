//! A subscription from LSN 1 of a live log: sixteen writers, segments that end and are packed behind them, and crashes.
//!
//! On the simulated disk a follower takes an image of a crash whenever it likes: what it was given by then must be in the
//! image, at the same LSN and byte for byte. In a process of its own (`killed`) it writes down what it was given, and
//! is killed.
//!
//! The rule: what a subscription gave is a prefix of the log, whatever crashes; without a crash, in the end, all of it.

mod killed;

use std::sync::{Arc, OnceLock};
use std::thread;
use std::time::Duration;

use braidlog::{
    CheckpointPolicy, Compression, DurabilityMode, Lsn, Options, Record, Result, Retention, Subscription, Wal,
};
use braidlog_sim::{Profile, Rng, SimDisk};

use crate::counts::Counts;
use crate::extent::Extent;

pub use killed::{child_main_if_asked, run_killed};

/// Where the log is on its disk.
const PATH: &str = "wal";
/// How long a follower waits before it looks whether it has been given all.
const LOOK: Duration = Duration::from_millis(20);
/// Threads that write.
const WRITERS: u64 = 16;

/// Runs the seeds; counts records that were given, and images.
///
/// # Panics
/// If a promise is broken, with the seed, whose interleaving is another each time.
pub fn run(extent: &Extent) -> Counts {
    extent.run("followers", round)
}

/// One log from one seed, in two openings.
///
/// # Panics
/// If a promise is broken.
pub fn round(seed: u64) -> Counts {
    let mut rng = Rng::new(seed);
    let disk = SimDisk::new();
    let mut counts = Counts::default();
    let mut expected = Vec::new();
    for _ in 0..2 {
        expected = live(&disk, &mut rng, &expected, &mut counts);
    }
    counts.add("logs", 1);
    counts
}

/// Small segments, so that a follower comes through many.
fn options(rng: &mut Rng) -> Options {
    let modes = [DurabilityMode::Synchronous, DurabilityMode::group_commit(), DurabilityMode::asynchronous()];
    Wal::options()
        .mode(modes[rng.index(3)])
        .num_stripes(1 << rng.below(3))
        .stripe_capacity(16 << 10)
        .segment_size(64 << 10)
        .write_buffer_size(16 << 10)
        .retention(Retention::keep_all())
        .compression(Compression::AtOnce)
        .checkpoint_policy(CheckpointPolicy::never())
}

/// Writes and follows; gives all that the log holds in the end, which begins with what it held.
fn live(disk: &SimDisk, rng: &mut Rng, before: &[Record], counts: &mut Counts) -> Vec<Record> {
    let mut seed = || Rng::new(rng.next_u64());
    let (mut early_rng, mut late_rng, mut options_rng) = (seed(), seed(), seed());
    let writers: Vec<Rng> = (0..WRITERS).map(|_| seed()).collect();
    let options = options(&mut options_rng).storage(Arc::new(disk.clone()));
    let wal = options.open(PATH).expect("nothing is wrong with the log");
    let early = wal.subscribe(Lsn::FIRST).expect("the log starts there");
    let last = OnceLock::new();
    let (beside, early, late) = thread::scope(|scope| {
        let early = scope.spawn(|| follow(early, disk, &mut early_rng));
        let all: Vec<_> = writers.into_iter().map(|rng| scope.spawn(|| write(&wal, rng))).collect();
        let reader = options.open_read_only(PATH).expect("nothing is wrong with the log");
        let beside = reader.subscribe(Lsn::FIRST).expect("the log starts there");
        let beside = scope.spawn(|| follow_beside(beside, &last));
        // By itself the log packs only as fast as nobody notices.
        let packer = scope.spawn(|| (0..6).for_each(|_| drop(wal.compress().expect("nothing fails"))));
        let from = Lsn(1 + late_rng.below(wal.last_lsn().0 + 100));
        let late = wal.subscribe(from).expect("the log starts below");
        let late = scope.spawn(move || (from, follow(late, disk, &mut late_rng)));
        all.into_iter().for_each(|writer| writer.join().expect("a writer does not panic"));
        packer.join().expect("who packs does not panic");
        wal.compress().expect("nothing fails");
        wal.close().expect("nothing fails");
        last.set(wal.last_lsn()).expect("it is said once");
        (
            beside.join().expect("followers see what is right"),
            early.join().expect("followers see what is right"),
            late.join().expect("followers see what is right"),
        )
    });
    let log = options.open_read_only(PATH).expect("nothing is wrong with the log");
    let all: Vec<Record> = log.iter(..).and_then(Iterator::collect).expect("nothing is damaged");
    assert!(all.starts_with(before), "I1: what there was is there");
    assert!(early.given == all, "I14: from LSN 1 on every record is given once and in order");
    assert!(beside == all, "I14: a follower beside the log is given every record once and in order");
    let (from, late) = late;
    let rest = &all[(from.0 as usize - 1).min(all.len())..];
    assert!(late.given == rest, "I14: from LSN {from} on every record is given once and in order");
    counts.add("records given", (early.given.len() + late.given.len()) as u64);
    let packed = disk.list_raw(PATH).iter().filter(|(name, _)| name.ends_with(".walz")).count();
    counts.add("packed segments", packed as u64);
    counts.add("images", early.images + late.images);
    counts.add("segments", log.segments().expect("nothing is wrong with the log").len() as u64);
    all
}

/// What a follower was given, and how many crashes it saw.
struct Followed {
    given: Vec<Record>,
    images: u64,
}

fn follow(subscription: Subscription, disk: &SimDisk, rng: &mut Rng) -> Followed {
    let mut followed = Followed { given: Vec::new(), images: 0 };
    for record in subscription {
        followed.given.push(record.expect("nothing fails"));
        if rng.one_in(150) {
            let profile = Profile::HONEST[rng.index(3)];
            // Whatever the writers are at; all that was given was given before.
            let image = disk.crash_clone(rng.next_u64(), profile);
            check_image(image, &followed.given, rng);
            followed.images += 1;
        }
    }
    followed
}

/// Of a log that another handle writes, as if it were another process's. No closing ends it, so it is told when it has been
/// given all.
fn follow_beside(mut subscription: Subscription, last: &OnceLock<Lsn>) -> Vec<Record> {
    let mut given = Vec::new();
    while last.get().is_none_or(|last| subscription.next_lsn() <= *last) {
        given.extend(subscription.next_timeout(LOOK).expect("nothing fails"));
    }
    given
}

/// A crash takes back nothing that was given.
fn check_image(image: SimDisk, given: &[Record], rng: &mut Rng) {
    let wal = options(rng).background_threads(false).storage(Arc::new(image)).open(PATH);
    let wal = wal.expect("I12: a crash is no damage");
    let first = given[0].lsn;
    let kept: Vec<Record> =
        wal.iter(first..).and_then(Iterator::collect::<Result<_>>).expect("I12: no damage");
    assert!(
        kept.len() >= given.len(),
        "I14: {} records were given from {first} on, {} are left",
        given.len(),
        kept.len()
    );
    let wrong = given.iter().zip(&kept).find(|(given, kept)| given != kept);
    assert!(wrong.is_none(), "I14: a record that was given is another now: {wrong:?}");
}

fn write(wal: &Wal, mut rng: Rng) {
    for seq in 0..60 {
        // What segments are packed for.
        let mut payload = format!("record {seq} of a writer, and of no other. ").into_bytes();
        payload = payload.repeat(1 + rng.index(20));
        if rng.one_in(5) {
            let mut batch = wal.batch();
            for _ in 0..1 + rng.below(6) {
                batch.push(1, &payload).expect("it is within the limit");
            }
            batch.commit().expect("nothing fails");
        } else {
            wal.append(&payload).expect("nothing fails");
        }
    }
}
