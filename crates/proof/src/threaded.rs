//! The whole log with all its threads under shuttle, over the simulated disk: random schedules, and crashes in
//! the middle of them.
//!
//! A workload is tiny and drawn from a seed: two to four writers with a few calls each, the log's own threads,
//! and perhaps one that closes, one that reads, a disk that fails. It is run in many schedules, half of the
//! workloads with random ones, half with priorities that change at few places (PCT: "A Randomized Scheduler with
//! Probabilistic Guarantees of Finding Bugs", ASPLOS 2010). Threads may switch at every lock, wait and atomic of
//! the engine and on both sides of every storage operation; there, too, images of crashes are taken, which are
//! judged when the threads have ended. A schedule in which not every thread returns fails (I10, I13).
//!
//! Only under `--cfg braidlog_shuttle`, under which the log works nowhere else:
//! `RUSTFLAGS="--cfg braidlog_shuttle" CARGO_TARGET_DIR=target/shuttle cargo run --release -p braidlog-proof -- threaded`.
//!
//! The rule: no lock of this harness is held where threads may switch, so that what it does at one moment is one
//! step for all of them.

use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use braidlog::storage::Clock;
use braidlog::{
    Append, Durability, DurabilityMode, Error, ErrorKind, HealthState, Lsn, LsnRange, Options, Ticket, Wal,
    Writer,
};
use braidlog_sim::{Fault, Op, Profile, Rng, STAMP_LEN, SimDisk, Stamp};
use shuttle::scheduler::{PctScheduler, RandomScheduler, Scheduler};
use shuttle::thread;

use crate::counts::Counts;
use crate::extent::Extent;
use crate::judge::{changes, read_all};
use crate::mix::{PATH, any_durability, plain};
use crate::model::{Model, Seen, kind_of};
use crate::observed::{Observed, Observer, Side};

/// Schedules of one workload.
pub const SCHEDULES: usize = 20;
/// At how many places a schedule by priorities changes them.
const PCT_DEPTH: usize = 3;
/// Images of one schedule at the most.
const IMAGES_MAX: usize = 3;
/// Bytes of a thread's stack: recovery holds pages on it.
const STACK: usize = 1 << 18;
/// What each reading moves the clock on by: whatever waits for a time reaches it.
const TICK: Duration = Duration::from_micros(500);
/// The age at which segments end, where they do: some tens of readings of the clock.
const AGE: Duration = Duration::from_millis(10);

/// Runs the seeds, each a workload in [`SCHEDULES`] schedules.
///
/// # Panics
/// If a promise is broken, with the seed and the command that breaks it again.
pub fn run(extent: &Extent) -> Counts {
    extent.run("threaded", |seed| round_on(seed, |disk, seed, profile| disk.crash_clone(seed, profile)))
}

/// One workload, in which crashes leave what `crash` says. For tests of this test: with
/// [`Profile::LyingDisk`] it has to fail.
///
/// # Panics
/// If a promise is broken.
pub fn round_on(seed: u64, crash: Crash) -> Counts {
    if seed.is_multiple_of(2) {
        schedules(seed, RandomScheduler::new_from_seed(seed, SCHEDULES), crash)
    } else {
        schedules(seed, PctScheduler::new_from_seed(seed, PCT_DEPTH, SCHEDULES), crash)
    }
}

/// Makes an image of a crash from a disk, a seed and a profile.
pub type Crash = fn(&SimDisk, u64, Profile) -> SimDisk;

fn schedules(seed: u64, scheduler: impl Scheduler + 'static, crash: Crash) -> Counts {
    let counts: Arc<Mutex<Counts>> = Arc::default();
    let told = counts.clone();
    let mut config = shuttle::Config::new();
    config.stack_size = STACK;
    config.silence_warnings = true; // Weak orderings are loom's to check.
    let done = shuttle::Runner::new(scheduler, config).run(move || {
        let counted = Workload::new(seed, crash).run();
        locked(&told).merge(&counted);
    });
    let mut counts = std::mem::take(&mut *locked(&counts));
    counts.add("schedules", done as u64);
    counts.add("workloads", 1);
    counts
}

fn locked<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// What one schedule runs.
struct Workload {
    rng: Rng,
    desk: Arc<Desk>,
    /// Whether the disk fails at some time.
    is_failing: bool,
    /// Whether a thread closes the log while others append.
    is_closed: bool,
}

/// Where storage operations meet the model.
#[derive(Debug)]
struct Desk {
    /// The open log, to be asked what is durable.
    wal: Mutex<Option<Wal>>,
    now: Mutex<Now>,
}

#[derive(Debug)]
struct Now {
    disk: SimDisk,
    model: Model,
    rng: Rng,
    /// What crashes left, and what was promised at that moment.
    images: Vec<(SimDisk, Model)>,
    /// What was durable when somebody first heard that the log has failed.
    failed_at: Option<Lsn>,
    is_watching: bool,
    crash: Crash,
}

impl Desk {
    fn now(&self) -> MutexGuard<'_, Now> {
        locked(&self.now)
    }

    /// What the log says is durable, which may let others run.
    fn durable(&self) -> Option<Lsn> {
        let wal = locked(&self.wal).clone();
        wal.map(|wal| wal.durable_lsn())
    }
}

impl Observer for Desk {
    fn at(&self, side: Side, op: Op) {
        if std::thread::panicking() {
            return;
        }
        thread::yield_now();
        if !changes(op) || (side == Side::Before && op != Op::Sync) || !self.now().wants_image() {
            return;
        }
        // Read before the image is taken: it shows at least that.
        let durable = self.durable();
        self.now().image(durable);
    }
}

impl Now {
    fn wants_image(&mut self) -> bool {
        self.is_watching && self.images.len() < IMAGES_MAX && self.rng.one_in(8)
    }

    fn image(&mut self, durable: Option<Lsn>) {
        let profile = [Profile::Posix, Profile::Posix, Profile::Ordered, Profile::Kept][self.rng.index(4)];
        let image = (self.crash)(&self.disk, self.rng.next_u64(), profile);
        let mut model = self.model.clone();
        model.acknowledge(durable.unwrap_or(Lsn::ZERO));
        self.images.push((image, model));
    }
}

/// A clock for which time passes as it is read.
#[derive(Debug, Default)]
struct Ticking(AtomicU64);

impl Ticking {
    fn tick(&self) -> u64 {
        self.0.fetch_add(TICK.as_nanos() as u64, Relaxed)
    }
}

impl Clock for Ticking {
    fn wall_ns(&self) -> u64 {
        1_000_000_000 + self.tick()
    }

    fn monotonic(&self) -> Duration {
        Duration::from_nanos(self.tick())
    }
}

impl Workload {
    fn new(seed: u64, crash: Crash) -> Workload {
        let mut rng = Rng::new(seed);
        let now = Now {
            disk: SimDisk::new(),
            model: Model::default(),
            rng: Rng::new(rng.next_u64()),
            images: Vec::new(),
            failed_at: None,
            is_watching: false,
            crash,
        };
        let (is_failing, is_closed) = (rng.one_in(4), rng.one_in(4));
        let desk = Arc::new(Desk { wal: Mutex::new(None), now: Mutex::new(now) });
        Workload { rng, desk, is_failing, is_closed }
    }

    fn run(mut self) -> Counts {
        let wal = self.open();
        let mut threads = Vec::new();
        for writer in 0..2 + self.rng.below(3) as u32 {
            let mut caller = Caller {
                rng: Rng::new(self.rng.next_u64()),
                desk: self.desk.clone(),
                wal: wal.clone(),
                handle: wal.writer(),
                writer,
                begun: 0,
                is_failing: self.is_failing,
                is_closed: self.is_closed,
            };
            threads.push(thread::spawn(move || caller.run()));
        }
        if self.rng.one_in(4) {
            let (wal, desk) = (wal.clone(), self.desk.clone());
            threads.push(thread::spawn(move || read(&wal, &desk)));
        }
        if self.is_closed {
            let wal = wal.clone();
            threads.push(thread::spawn(move || drop(wal.close())));
        }
        for thread in threads {
            thread.join().expect("a thread of the workload ends well");
        }
        self.end(&wal);
        let rotations = wal.metrics().rotations;
        let wal_of_desk = locked(&self.desk.wal).take();
        drop((wal_of_desk, wal));
        let mut counts = self.judge();
        counts.add("segments that another follows", rotations);
        counts
    }

    fn open(&mut self) -> Wal {
        let disk = self.desk.now().disk.clone();
        let storage = Observed::new(Arc::new(disk.clone()), self.desk.clone());
        let options: Options = plain()
            .num_stripes(1 << self.rng.below(2))
            .mode(self.any_mode())
            .background_threads(!self.rng.one_in(4))
            .clock(Arc::new(Ticking::default()))
            .storage(Arc::new(storage))
            // Segments follow one another by age, as nobody writes enough to fill one.
            .segment_age_max(self.rng.one_in(2).then_some(AGE));
        let wal = options.open(PATH).unwrap_or_else(|error| panic!("{error}"));
        *locked(&self.desk.wal) = Some(wal.clone());
        let mut now = self.desk.now();
        now.model.incarnate(wal.incarnation());
        // Images are few, and what opening leaves is the same in every schedule.
        now.is_watching = true;
        drop(now);
        if self.is_failing {
            let n = 1 + self.rng.below(4);
            let fault = match self.rng.below(4) {
                0 => Fault::eio(Op::Write),
                1 => Fault::lost_sync(),
                2 => Fault::eio(Op::Sync).after_effect(),
                _ => Fault::eio(Op::Sync),
            };
            disk.inject(fault.nth(n));
        }
        wal
    }

    fn any_mode(&mut self) -> DurabilityMode {
        let max_delay = Duration::from_millis(1 + self.rng.below(3));
        match self.rng.below(4) {
            0 => DurabilityMode::Synchronous,
            1 => DurabilityMode::GroupCommit { max_delay, max_batch_size: 3 },
            2 => DurabilityMode::Async { flush_interval: max_delay },
            _ => DurabilityMode::AsyncBatched { max_delay, max_batch_size: 2 },
        }
    }

    /// Closes the log: what it accepted is durable, or reported.
    fn end(&self, wal: &Wal) {
        let closed = wal.close();
        let durable = wal.durable_lsn();
        let has_failed = wal.health().state == HealthState::Failed;
        assert_eq!(closed.is_err(), has_failed, "I18: {closed:?}");
        assert!(self.is_failing || !has_failed, "{closed:?}");
        let mut now = self.desk.now();
        if let Some(failed_at) = now.failed_at {
            assert_eq!(durable, failed_at, "I10: an acknowledgement after the failure");
        }
        assert!(now.model.is_dense(), "I7: LSNs are dense");
        if closed.is_ok() {
            let last = now.model.last();
            assert_eq!((wal.last_lsn(), durable), (last, last), "I18: everything accepted is durable");
            now.model.acknowledge(last);
        } else {
            now.model.acknowledge(durable);
        }
    }

    /// Opens what the crashes have left, and what the log left at its end.
    fn judge(&self) -> Counts {
        let mut counts = Counts::default();
        let (after, model, images) = {
            let now = &mut *self.desk.now();
            now.is_watching = false;
            let after = (now.crash)(&now.disk, now.rng.next_u64(), Profile::Posix);
            (after, now.model.clone(), std::mem::take(&mut now.images))
        };
        counts.add("images", images.len() as u64 + 1);
        for (image, model) in images {
            // The reader judges as recovery does; opening for writing would be scheduled too.
            let reader = plain().storage(Arc::new(image)).open_read_only(PATH);
            let found = read_all(reader.unwrap_or_else(|error| panic!("I12: {error}")).iter(..));
            model.check_recovered(&found);
        }
        let reopened = plain().storage(Arc::new(after)).open(PATH);
        let reopened = reopened.unwrap_or_else(|error| panic!("I13: {error}"));
        model.check(&read_all(reopened.replay()), reopened.incarnation());
        if model.durable() < model.last() {
            counts.add("schedules that lost what was not promised", 1);
        }
        counts
    }
}

/// One thread that appends.
struct Caller {
    rng: Rng,
    desk: Arc<Desk>,
    wal: Wal,
    handle: Writer,
    writer: u32,
    begun: u32,
    is_failing: bool,
    is_closed: bool,
}

impl Caller {
    fn run(&mut self) {
        for _ in 0..1 + self.rng.below(3) {
            match self.rng.below(8) {
                0..4 => self.append(),
                4 => self.batch(),
                5 | 6 => self.submit(),
                _ => self.flush(),
            }
        }
    }

    fn begin(&mut self, count: u16) -> (crate::model::UnitId, Vec<(Stamp, Vec<u8>)>) {
        let seq = self.begun;
        self.begun += u32::from(count);
        let writer = self.writer;
        let stamp = |index| Stamp { writer, seq: seq + u32::from(index), index, count };
        let len = match self.rng.below(8) {
            0 => 1900,
            1 => 3000,
            _ => STAMP_LEN + self.rng.index(50),
        };
        let id = self.desk.now().model.begin(stamp(0), &vec![len; usize::from(count)]);
        (id, (0..count).map(|index| (stamp(index), stamp(index).payload(len))).collect())
    }

    fn told(&self, id: crate::model::UnitId, result: &braidlog::Result<LsnRange>, is_durable: bool) {
        match result {
            Ok(lsns) => {
                let mut now = self.desk.now();
                now.model.accept(id, *lsns);
                if is_durable {
                    now.model.acknowledge(lsns.last);
                }
            }
            Err(error) => {
                match error.lsns() {
                    Some(lsns) => self.desk.now().model.accept_in_doubt(id, lsns),
                    None => self.desk.now().model.refuse(id),
                }
                self.expect(error);
            }
        }
    }

    /// Holds an error against what may be wrong.
    fn expect(&self, error: &Error) {
        match error.kind() {
            ErrorKind::Failed => {
                assert!(self.is_failing, "{error}");
                let durable = self.wal.durable_lsn();
                let failed_at = *self.desk.now().failed_at.get_or_insert(durable);
                assert_eq!(durable, failed_at, "I10: an acknowledgement after the failure");
            }
            ErrorKind::Closed => assert!(self.is_closed, "{error}"),
            _ => panic!("{error}"),
        }
    }

    fn append(&mut self) {
        let (id, records) = self.begin(1);
        let (stamp, payload) = &records[0];
        let durability = any_durability(&mut self.rng);
        let append = Append::new(payload).kind(kind_of(*stamp)).durability(durability);
        let appended = self.handle.append_with(append).map(|lsn| LsnRange { first: lsn, last: lsn });
        self.told(id, &appended, durability != Durability::Async);
    }

    fn batch(&mut self) {
        let (id, records) = self.begin(2);
        let durability = any_durability(&mut self.rng);
        let mut batch = self.handle.batch().durability(durability);
        for (stamp, payload) in &records {
            batch.push(kind_of(*stamp), payload).unwrap_or_else(|error| panic!("{error}"));
        }
        self.told(id, &batch.commit(), durability != Durability::Async);
    }

    fn submit(&mut self) {
        let (id, records) = self.begin(1);
        let (stamp, payload) = &records[0];
        match self.wal.submit_with(Append::new(payload).kind(kind_of(*stamp))) {
            Ok(ticket) => {
                self.told(id, &Ok(ticket.lsns()), false);
                self.ticket(ticket);
            }
            Err(error) if error.kind() == ErrorKind::Full => self.desk.now().model.refuse(id),
            Err(error) => self.told(id, &Err(error), false),
        }
    }

    fn ticket(&mut self, ticket: Ticket) {
        let waited = match self.rng.below(3) {
            0 => ticket.wait(),
            1 => shuttle::future::block_on(ticket),
            _ => return,
        };
        match waited {
            Ok(lsn) => self.desk.now().model.acknowledge(lsn),
            Err(error) => self.expect(&error),
        }
    }

    fn flush(&self) {
        let returned = self.desk.now().model.returned();
        match self.wal.flush() {
            Ok(()) => self.desk.now().model.acknowledge(returned),
            Err(error) => self.expect(&error),
        }
    }
}

/// Reads beside the writers: what is shown is durable.
fn read(wal: &Wal, desk: &Desk) {
    let shown = match wal.replay() {
        Ok(records) => read_all(Ok(records)),
        Err(error) => {
            assert_eq!(error.kind(), ErrorKind::Closed, "{error}");
            return;
        }
    };
    let durable = wal.durable_lsn();
    let seen: &[Seen] = &shown;
    let mut now = desk.now();
    now.model.check_shown(seen, durable);
    now.model.acknowledge(Lsn(seen.len() as u64));
}
