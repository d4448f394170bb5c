//! Power cuts and kills in the middle of everything, against a model of what was promised.
//!
//! Several threads write while images of the disk are taken, each as one legal crash would leave it, and
//! each is opened and checked: what was acknowledged is there, byte for byte; what is there is a dense run
//! of what was appended, batches whole; the log goes on behind it, over more crashes and openings.
//!
//! One seed names one image of one moment; the moment itself is the scheduler's. `BRAIDLOG_CRASH_ROUNDS` makes
//! the run as long as you like, `BRAIDLOG_CRASH_SEED` says with which round it begins.

use std::collections::HashMap;
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Arc, Condvar, Mutex};
use std::thread;

use braidlog::{Append, Durability, DurabilityMode, ErrorKind, IoMode, Lsn, Options, SyncMethod, Wal};
use braidlog_sim::{Fault, Op, Profile, Rng, STAMP_LEN, SimDisk, Stamp};

#[path = "support/patience.rs"]
mod patience;

use patience::until;

const PATH: &str = "wal";
const WRITERS: usize = 6;
/// Images of one run.
const IMAGES: u64 = 25;
/// Records of each writer between two images, so that a run stays small though checks take their time.
const RECORDS_PER_IMAGE: u32 = 50;

#[test]
fn acknowledged_records_survive_what_posix_allows() {
    for (seed, mode) in runs(modes()) {
        Run::new(seed, mode, |options| options).crash(Profile::Posix);
    }
}

#[test]
fn acknowledged_records_survive_an_ordered_power_cut() {
    for (seed, mode) in runs(modes()) {
        Run::new(seed, mode, |options| options).crash(Profile::Ordered);
    }
}

#[test]
fn acknowledged_records_survive_a_kill() {
    for (seed, mode) in runs(modes()) {
        Run::new(seed, mode, |options| options).crash(Profile::Kept);
    }
}

#[test]
fn every_way_of_io_keeps_the_promise() {
    let ways = [
        (IoMode::Buffered, SyncMethod::Fdatasync),
        (IoMode::Buffered, SyncMethod::Fsync),
        (IoMode::Direct, SyncMethod::Fsync),
        (IoMode::Direct, SyncMethod::DirectSync),
    ];
    for (seed, (io_mode, sync_method)) in runs(ways) {
        let with = |options: Options| options.io_mode(io_mode).sync_method(sync_method);
        Run::new(seed, DurabilityMode::group_commit(), with).crash(Profile::Posix);
    }
}

#[test]
fn a_log_without_threads_keeps_the_promise() {
    for (seed, mode) in runs(modes()) {
        Run::new(seed, mode, |options| options.background_threads(false)).crash(Profile::Posix);
    }
}

#[test]
fn rounds_that_no_sync_covers_are_never_taken_for_damage() {
    // One thread and a small ring: it writes round after round, and nobody asks for a sync.
    let disk = SimDisk::new();
    let options = small(&disk).mode(DurabilityMode::asynchronous()).background_threads(false);
    let wal = options.open(PATH).unwrap();
    for seq in 0..40 {
        wal.append(Stamp::single(0, seq).payload(1000)).unwrap();
        if seq == 9 {
            wal.flush().unwrap();
        }
    }
    let rounds = wal.metrics().rounds;
    assert!(rounds > 5 && wal.durable_lsn() == Lsn(10), "{rounds} rounds");
    let mut lost = 0;
    for seed in 0..200 {
        let profile = if seed % 2 == 0 { Profile::Posix } else { Profile::Ordered };
        let after = disk.crash_clone(seed, profile);
        let wal =
            small(&after).open(PATH).unwrap_or_else(|error| panic!("seed {seed}, {profile:?}: {error}"));
        let found = wal.last_lsn().0;
        assert!((10..=40).contains(&found), "seed {seed}, {profile:?}: {found}");
        for (seq, record) in (0..).zip(wal.replay().unwrap()) {
            assert_eq!(Stamp::of(&record.unwrap().payload), Stamp::single(0, seq));
        }
        lost += u32::from(found < 40);
    }
    assert!(lost > 20, "{lost} of 200 power cuts lost something");
}

#[test]
fn a_device_that_ignores_flushes_is_found_out() {
    // The test of this test: without flushes the promise must break, and the checks must notice.
    let noticed = (0..20).any(|seed| {
        let disk = SimDisk::new();
        let wal = small(&disk).open(PATH).unwrap();
        for seq in 0..50 {
            wal.append(Stamp::single(0, seq).payload(500)).unwrap();
        }
        let after = disk.crash_clone(seed, Profile::LyingDisk);
        small(&after).open(PATH).map_or(true, |wal| wal.last_lsn() < Lsn(50))
    });
    assert!(noticed);
}

/// Each way once in each round, with the seed of its run.
fn runs<T: Copy>(ways: [T; 4]) -> impl Iterator<Item = (u64, T)> {
    let number = |name| std::env::var(name).ok().map(|text| text.parse::<u64>().expect("a number"));
    let first = number("BRAIDLOG_CRASH_SEED").unwrap_or(0);
    let rounds = number("BRAIDLOG_CRASH_ROUNDS").unwrap_or(1);
    (first..first + rounds).flat_map(move |round| (round * 4..).zip(ways))
}

fn modes() -> [DurabilityMode; 4] {
    [
        DurabilityMode::Synchronous,
        DurabilityMode::group_commit(),
        DurabilityMode::asynchronous(),
        DurabilityMode::async_batched(),
    ]
}

fn small(disk: &SimDisk) -> Options {
    Wal::options()
        .storage(Arc::new(disk.clone()))
        .mode(DurabilityMode::Synchronous)
        .num_stripes(2)
        .stripe_capacity(4096)
        .segment_size(64 << 10)
        .write_buffer_size(16 << 10)
}

/// What one writer has begun and what it was promised. A writer appends its records in order.
#[derive(Default)]
struct Promise {
    /// Records whose append has begun: no other may be found.
    begun: AtomicU32,
    /// Records that were acknowledged as durable: all must be found.
    acknowledged: AtomicU32,
}

/// One log under load.
struct Run {
    seed: u64,
    disk: SimDisk,
    wal: Wal,
    promises: [Promise; WRITERS],
    /// Where records are, as their appends said.
    given: Mutex<HashMap<(u32, u32), Lsn>>,
    /// How many records each writer may append by now; `u32::MAX` ends the run.
    allowed: (Mutex<u32>, Condvar),
}

/// What was promised before an image was taken, and begun after it.
struct Bounds {
    acknowledged: [u32; WRITERS],
    begun: [u32; WRITERS],
    durable: Lsn,
}

impl Run {
    fn new(seed: u64, mode: DurabilityMode, with: impl Fn(Options) -> Options) -> Run {
        let disk = SimDisk::new();
        let wal = with(small(&disk).mode(mode)).open(PATH).unwrap();
        // Calls that do a part of their work, or are interrupted, belong to a normal day.
        disk.inject(Fault::short(Op::Write).one_in(7, seed).forever());
        disk.inject(Fault::interrupted(Op::Write).one_in(11, seed).forever());
        Run {
            seed,
            disk,
            wal,
            promises: Default::default(),
            given: Mutex::default(),
            allowed: Default::default(),
        }
    }

    fn crash(&self, profile: Profile) {
        thread::scope(|scope| {
            for writer in 0..WRITERS as u32 {
                scope.spawn(move || self.write(writer));
            }
            // Told also when a check fails, so that the writers end and the failure is shown.
            let _stop = OnDrop(|| self.allow(|allowed| *allowed = u32::MAX));
            for image in 0..IMAGES {
                let seed = self.seed << 32 | image;
                self.until_some_moment(&mut Rng::new(seed));
                let (disk, bounds) = self.image(seed, profile);
                self.check(&disk, &bounds, seed, profile);
            }
        });
        self.wal.close().unwrap();
        // A close that succeeded acknowledged everything that was begun.
        let (disk, mut bounds) = self.image(self.seed, Profile::Posix);
        assert_eq!(bounds.durable, self.wal.last_lsn());
        bounds.acknowledged = bounds.begun;
        self.check(&disk, &bounds, self.seed, profile);
    }

    fn allow(&self, change: impl Fn(&mut u32)) {
        change(&mut self.allowed.0.lock().unwrap());
        self.allowed.1.notify_all();
    }

    /// Allows some more records, and waits until the writers are somewhere on their way there.
    fn until_some_moment(&self, rng: &mut Rng) {
        let begun = || self.promises.iter().map(|promise| promise.begun.load(Ordering::SeqCst)).sum::<u32>();
        let moment = begun() + rng.below(u64::from(RECORDS_PER_IMAGE) * WRITERS as u64 * 3 / 4) as u32;
        self.allow(|allowed| *allowed += RECORDS_PER_IMAGE);
        until(|| begun() >= moment);
    }

    /// Waits until a writer that has appended so many may go on; whether it shall.
    fn goes_on(&self, seq: u32) -> bool {
        let allowed = self.allowed.0.lock().unwrap();
        *self.allowed.1.wait_while(allowed, |allowed| *allowed <= seq).unwrap() < u32::MAX
    }

    /// An image of this moment. What was promised is read before, what was begun after, so that both hold
    /// for whatever moment the image shows.
    fn image(&self, seed: u64, profile: Profile) -> (SimDisk, Bounds) {
        let acknowledged =
            self.promises.each_ref().map(|promise| promise.acknowledged.load(Ordering::SeqCst));
        let durable = self.wal.durable_lsn();
        let disk = self.disk.crash_clone(seed, profile);
        let begun = self.promises.each_ref().map(|promise| promise.begun.load(Ordering::SeqCst));
        (disk, Bounds { acknowledged, begun, durable })
    }

    fn write(&self, writer: u32) {
        let mut rng = Rng::new(self.seed << 8 | u64::from(writer));
        let promise = &self.promises[writer as usize];
        let handle = self.wal.writer();
        let mut seq = 0;
        while self.goes_on(seq) {
            let count = if rng.one_in(5) { 2 + rng.below(5) as u16 } else { 1 };
            promise.begun.store(seq + u32::from(count), Ordering::SeqCst);
            let is_durable = if count > 1 {
                self.batch(&handle, writer, seq, count, &mut rng)
            } else {
                self.single(&handle, Stamp::single(writer, seq), &mut rng)
            };
            seq += u32::from(count);
            if is_durable || (rng.one_in(20) && self.flush()) {
                promise.acknowledged.store(seq, Ordering::SeqCst);
            }
        }
    }

    fn flush(&self) -> bool {
        self.wal.flush().unwrap();
        true
    }

    /// Appends a batch; whether it was acknowledged as durable.
    fn batch(&self, handle: &braidlog::Writer, writer: u32, seq: u32, count: u16, rng: &mut Rng) -> bool {
        let durability = any_durability(rng);
        let mut batch = handle.batch().durability(durability);
        for index in 0..count {
            let stamp = Stamp { writer, seq: seq + u32::from(index), index, count };
            batch.push(5, stamp.payload(len(rng))).unwrap();
        }
        let lsns = batch.commit().unwrap();
        let mut given = self.given.lock().unwrap();
        given.extend((seq..).zip(lsns.iter()).map(|(seq, lsn)| ((writer, seq), lsn)));
        durability != Durability::Async
    }

    /// Appends one record; whether it was acknowledged as durable.
    fn single(&self, handle: &braidlog::Writer, stamp: Stamp, rng: &mut Rng) -> bool {
        let payload = stamp.payload(len(rng));
        let (lsn, is_durable) = match rng.below(6) {
            0 => match self.wal.submit(&payload) {
                Ok(ticket) => (ticket.wait().unwrap(), true),
                Err(failed) => {
                    assert_eq!(failed.error().kind(), ErrorKind::Full);
                    let lsn = handle.append(&payload).unwrap();
                    (lsn, self.wal.durable_lsn() >= lsn)
                }
            },
            1 => {
                let lsn = handle.append(&payload).unwrap();
                self.wal.wait_durable(lsn).unwrap();
                (lsn, true)
            }
            _ => {
                let durability = any_durability(rng);
                let append = Append::new(&payload).kind(9).durability(durability);
                (handle.append_with(append).unwrap(), durability != Durability::Async)
            }
        };
        self.given.lock().unwrap().insert((stamp.writer, stamp.seq), lsn);
        is_durable
    }

    /// Opens an image, over and over, and holds it against the promises.
    fn check(&self, disk: &SimDisk, bounds: &Bounds, seed: u64, profile: Profile) {
        let round = self.seed / 4;
        let told = || format!("BRAIDLOG_CRASH_SEED={round}, image {seed:#x}, {profile:?}");
        let mut rng = Rng::new(seed);
        // Sometimes recovery itself is hit, by an error and then by another power cut.
        let interrupted = disk.crash_clone(seed, Profile::Kept);
        interrupted.inject(Fault::eio(Op::Any).nth(1 + rng.below(60)));
        drop(small(&interrupted).open(PATH));
        let (after_all, _) = self.check_once(&interrupted.crash_clone(seed, Profile::Posix), bounds, &told());

        // A reader shows what recovery will keep, and changes nothing.
        let reader = small(disk).open_read_only(PATH).unwrap();
        let shown = reader.iter(..).unwrap().map(|record| record.unwrap().lsn).last().unwrap_or(Lsn::ZERO);
        assert_eq!(shown, reader.last_lsn().unwrap(), "{}", told());

        let (recovered, wal) = self.check_once(disk, bounds, &told());
        assert_eq!(shown, recovered, "{}: a reader sees what is kept", told());
        if profile == Profile::Kept {
            assert!(after_all <= recovered, "{}", told());
        }
        // What was recovered is durable: the power fails again at once.
        let (again, _) = self.check_once(&disk.crash_clone(seed + 1, Profile::Posix), bounds, &told());
        assert_eq!(again, recovered, "{}", told());

        // The log goes on right behind, and once more, and once more.
        let mut incarnation = wal.incarnation();
        let mut last = recovered;
        let mut wal = Some(wal);
        for opening in 0..3 {
            let open = wal.take().unwrap_or_else(|| {
                let reopened = small(disk).background_threads(rng.one_in(2)).open(PATH).unwrap();
                assert!(reopened.incarnation() > incarnation, "{}", told());
                reopened
            });
            incarnation = open.incarnation();
            assert_eq!(open.last_lsn(), last, "{}: opening {opening}", told());
            last = last.next();
            assert_eq!(open.append([opening; 3000]).unwrap(), last, "{}", told());
            assert_eq!(open.replay().unwrap().count() as u64, last.0, "{}", told());
            match rng.below(3) {
                0 => open.close().unwrap(),
                1 => drop(open),
                _ => {
                    // Killed: the process is gone, and what it left is opened elsewhere.
                    let killed = disk.crash_clone(seed, Profile::Kept);
                    assert_eq!(small(&killed).open(PATH).unwrap().last_lsn(), last, "{}", told());
                }
            }
        }
        let report = small(disk).verify(PATH, |_| ()).unwrap();
        assert!(report.is_clean(), "{}: {report:?}", told());
        assert_eq!(report.last_lsn, last, "{}", told());
    }

    /// Opens an image and reads everything; the last LSN, and the open log.
    fn check_once(&self, disk: &SimDisk, bounds: &Bounds, told: &str) -> (Lsn, Wal) {
        let wal = small(disk).open(PATH).unwrap_or_else(|error| panic!("{told}: {error}"));
        let mut found = [0; WRITERS];
        let mut expected = Lsn::FIRST;
        let mut open: Option<Stamp> = None;
        for record in wal.replay().unwrap() {
            let record = record.unwrap_or_else(|error| panic!("{told}: {error}"));
            assert_eq!(record.lsn, expected, "{told}: dense");
            expected = expected.next();
            let stamp = Stamp::of(&record.payload);
            let seq = &mut found[stamp.writer as usize];
            assert_eq!(stamp.seq, *seq, "{told}: each record of writer {} once, in order", stamp.writer);
            *seq += 1;
            let given = self.given.lock().unwrap().get(&(stamp.writer, stamp.seq)).copied();
            assert_eq!(record.lsn, given.unwrap_or(record.lsn), "{told}: where its append said");
            assert_eq!(stamp.index, open.map_or(0, |before| before.index + 1), "{told}: batches do not mix");
            assert_eq!(record.batch_continues, stamp.index + 1 < stamp.count, "{told}");
            open = record.batch_continues.then_some(stamp);
        }
        assert_eq!(open, None, "{told}: the last batch is whole");
        let last = expected.prev();
        assert_eq!(wal.last_lsn(), last, "{told}");
        assert!(last >= bounds.durable, "{told}: {last} of {} durable records", bounds.durable);
        for writer in 0..WRITERS {
            let (least, most) = (bounds.acknowledged[writer], bounds.begun[writer]);
            let found = found[writer];
            assert!(least <= found, "{told}: writer {writer} has {found} of {least} acknowledged");
            assert!(found <= most, "{told}: writer {writer} has {found}, but began only {most}");
        }
        (last, wal)
    }
}

fn any_durability(rng: &mut Rng) -> Durability {
    [Durability::Synchronous, Durability::GroupCommit, Durability::Async][rng.index(3)]
}

fn len(rng: &mut Rng) -> usize {
    let bound = if rng.one_in(20) { 12_000 } else { 300 };
    STAMP_LEN + rng.index(bound)
}

/// Runs something when it is dropped, by a panic too.
struct OnDrop<F: Fn()>(F);

impl<F: Fn()> Drop for OnDrop<F> {
    fn drop(&mut self) {
        (self.0)();
    }
}
