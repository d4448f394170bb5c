//! Every tiny workload, every moment of it, every image of a crash at that moment.
//!
//! The workloads are all sequences of up to three of seven steps, each on several ways of I/O. The moments are
//! before and after each storage operation of the last step; those of the steps before it belong to shorter
//! sequences. At each moment all images are judged that [`SimDisk::crash_images`] enumerates, within the largest
//! [`Bound`] that holds no more of them than asked for; from every image that keeps the order of the operations
//! recovery is struck, at each of its own. Known crash bugs of file systems need no more operations than that
//! ("Finding Crash-Consistency Bugs with Bounded Black-Box Crash Testing", OSDI 2018).
//!
//! The rule: nothing is drawn here. A workload is a number, and its images come in order.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use braidlog::{Append, Durability, DurabilityMode, IoMode, LsnRange, Options, SyncMethod, Wal};
use braidlog_sim::{Bound, Op, Profile, SimClock, SimDisk, Stamp};

use crate::counts::Counts;
use crate::extent::Extent;
use crate::judge::{Judge, changes, read_all};
use crate::mix::{AGE, PATH, plain};
use crate::model::{Model, UnitId, kind_of};
use crate::observed::{Observed, Observer, Side};

/// Bytes of a payload in a batch: of two batches the ring takes one.
const BATCHED: usize = 1500;
/// The steps of a workload at most.
const STEPS_MAX: u32 = 3;

/// One step.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Step {
    /// A record, durable when its append returns.
    Sync,
    /// A record that nobody waits for.
    Async,
    /// A batch of two that nobody waits for. A second one finds the ring full: the first is written, and not synced.
    Batch,
    /// A record that fills more than a page, and is durable when its append returns.
    Large,
    /// Everything is made durable.
    Flush,
    /// A record that begins a segment.
    Rotate,
    /// The log is closed and opened again.
    Reopen,
}

const STEPS: [Step; 7] =
    [Step::Sync, Step::Async, Step::Batch, Step::Large, Step::Flush, Step::Rotate, Step::Reopen];

const WAYS: [(IoMode, SyncMethod); 3] = [
    (IoMode::Buffered, SyncMethod::Fdatasync),
    (IoMode::Direct, SyncMethod::Fsync),
    (IoMode::Direct, SyncMethod::DirectSync),
];

/// How many workloads of up to `steps` steps there are. Their numbers are those below.
pub fn workloads(steps: u32) -> u64 {
    (0..=steps).map(|len| (STEPS.len() as u64).pow(len)).sum::<u64>() * WAYS.len() as u64
}

/// All workloads of a full run.
pub const WORKLOADS: u64 = 1200;

/// Runs workloads by their numbers, with up to so many images for each moment; counts images and moments.
///
/// # Panics
/// If a promise is broken, with the workload and the command that runs it again.
pub fn run(extent: &Extent, images_max: u64) -> Counts {
    assert_eq!(WORKLOADS, workloads(STEPS_MAX));
    let rest = WORKLOADS.saturating_sub(extent.seed);
    let extent = Extent { rounds: extent.rounds.min(rest), ..*extent };
    extent.run("enumerate", |number| workload(number, images_max))
}

/// The ways of I/O change fastest, and shorter sequences come first.
fn parse(number: u64) -> ((IoMode, SyncMethod), Vec<Step>) {
    let way = WAYS[(number % WAYS.len() as u64) as usize];
    let mut rest = number / WAYS.len() as u64;
    let mut len = 0;
    while rest >= (STEPS.len() as u64).pow(len) {
        rest -= (STEPS.len() as u64).pow(len);
        len += 1;
    }
    let step = |_| {
        let step = STEPS[(rest % STEPS.len() as u64) as usize];
        rest /= STEPS.len() as u64;
        step
    };
    (way, (0..len).map(step).collect())
}

fn workload(number: u64, images_max: u64) -> Counts {
    let (way, steps) = parse(number);
    let corner = Arc::new(Corner(Mutex::new(Now {
        disk: SimDisk::new(),
        model: Model::default(),
        judge: Judge::default(),
        wal: None,
        is_watching: steps.is_empty(),
        images_max,
        told: format!("{way:?}, {steps:?}"),
    })));
    let clock = Arc::new(SimClock::new());
    let mut run = Run { corner: corner.clone(), clock, way, begun: 0 };
    let mut wal = run.open();
    for (index, step) in steps.iter().enumerate() {
        corner.now().is_watching = index + 1 == steps.len();
        wal = run.step(*step, wal);
    }
    corner.now().moment();
    corner.now().is_watching = false;
    corner.now().wal = None;
    drop(wal);
    let mut counts = corner.now().judge.take_counts();
    counts.add("workloads", 1);
    counts
}

struct Run {
    corner: Arc<Corner>,
    clock: Arc<SimClock>,
    way: (IoMode, SyncMethod),
    /// How many records were begun.
    begun: u32,
}

impl Run {
    fn options(&self) -> Options {
        let (io_mode, sync_method) = self.way;
        plain()
            .mode(DurabilityMode::asynchronous())
            .io_mode(io_mode)
            .sync_method(sync_method)
            .segment_age_max(Some(AGE))
            .clock(self.clock.clone())
    }

    fn open(&self) -> Wal {
        let disk = self.corner.now().disk.clone();
        let storage = Observed::new(Arc::new(disk), self.corner.clone());
        let wal = self.options().storage(Arc::new(storage)).open(PATH);
        let wal = wal.unwrap_or_else(|error| panic!("I12: {error}"));
        let found = read_all(wal.replay());
        let now = &mut *self.corner.now();
        now.model.check(&found, wal.incarnation());
        now.model.settle(&found);
        now.model.incarnate(wal.incarnation());
        now.wal = Some(wal.clone());
        wal
    }

    fn step(&mut self, step: Step, wal: Wal) -> Wal {
        match step {
            Step::Sync => self.append(&wal, 40, Durability::Synchronous),
            Step::Async => self.append(&wal, 40, Durability::Async),
            Step::Large => self.append(&wal, 5000, Durability::Synchronous),
            Step::Rotate => {
                self.clock.advance(2 * AGE);
                self.append(&wal, 40, Durability::Synchronous);
            }
            Step::Batch => {
                let (id, stamps) = self.begin(2, BATCHED);
                let mut batch = wal.batch().durability(Durability::Async);
                for stamp in stamps {
                    batch
                        .push(kind_of(stamp), stamp.payload(BATCHED))
                        .unwrap_or_else(|error| panic!("{error}"));
                }
                self.accepted(id, batch.commit(), false);
            }
            Step::Flush => {
                wal.flush().unwrap_or_else(|error| panic!("{error}"));
                self.all_durable();
            }
            Step::Reopen => {
                wal.close().unwrap_or_else(|error| panic!("{error}"));
                self.all_durable();
                self.corner.now().moment();
                self.corner.now().wal = None;
                drop(wal);
                return self.open();
            }
        }
        wal
    }

    fn begin(&mut self, count: u16, len: usize) -> (UnitId, Vec<Stamp>) {
        let seq = self.begun;
        self.begun += u32::from(count);
        let stamp = |index| Stamp { writer: 0, seq: seq + u32::from(index), index, count };
        let id = self.corner.now().model.begin(stamp(0), &vec![len; usize::from(count)]);
        (id, (0..count).map(stamp).collect())
    }

    fn append(&mut self, wal: &Wal, len: usize, durability: Durability) {
        let (id, stamps) = self.begin(1, len);
        let payload = stamps[0].payload(len);
        let append = Append::new(&payload).kind(kind_of(stamps[0])).durability(durability);
        let lsns = wal.append_with(append).map(|lsn| LsnRange { first: lsn, last: lsn });
        self.accepted(id, lsns, durability != Durability::Async);
    }

    fn accepted(&self, id: UnitId, lsns: braidlog::Result<LsnRange>, is_durable: bool) {
        let lsns = lsns.unwrap_or_else(|error| panic!("{error}"));
        let model = &mut self.corner.now().model;
        assert_eq!(lsns.first, model.last().next(), "I7: LSNs are dense");
        model.accept(id, lsns);
        if is_durable {
            model.acknowledge(lsns.last);
        }
    }

    fn all_durable(&self) {
        let model = &mut self.corner.now().model;
        model.acknowledge(model.last());
    }
}

#[derive(Debug)]
struct Now {
    disk: SimDisk,
    model: Model,
    judge: Judge,
    wal: Option<Wal>,
    is_watching: bool,
    images_max: u64,
    told: String,
}

#[derive(Debug)]
struct Corner(Mutex<Now>);

impl Corner {
    fn now(&self) -> MutexGuard<'_, Now> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Observer for Corner {
    fn at(&self, _side: Side, op: Op) {
        // A broken promise unwinds through the log, which may ask its storage for more.
        if std::thread::panicking() {
            return;
        }
        let mut now = self.now();
        if let Some(wal) = &now.wal {
            let durable = wal.durable_lsn();
            now.model.acknowledge(durable);
        }
        if now.is_watching && changes(op) {
            now.moment();
        }
    }
}

impl Now {
    /// Judges every image of a crash now.
    fn moment(&mut self) {
        self.judge.count("moments", 1);
        let bounds = [Bound::Damage, Bound::Sectors, Bound::Pages];
        let fits = |bound: &&Bound| self.disk.crash_images(**bound).total() <= self.images_max;
        let bound = bounds.iter().find(fits);
        let strict = bound.map(|&bound| (bound, u64::MAX));
        // Those in order are few, and recovery is struck from each.
        for (bound, struck) in strict.into_iter().chain([(Bound::Ordered, 1)]) {
            self.judge.count(name_of(bound), 1);
            let images = self.disk.crash_images(bound);
            for number in 0..images.total() {
                let told = Told(&self.told, bound, number);
                let profile = if bound == Bound::Ordered { Profile::Ordered } else { Profile::Posix };
                self.judge.image_with(&images.image(number), profile, &self.model, number, struck);
                drop(told);
            }
        }
    }
}

/// Under what a moment's images are counted.
fn name_of(bound: Bound) -> &'static str {
    match bound {
        Bound::Damage => "moments with ruined sectors",
        Bound::Sectors => "moments with torn pages",
        Bound::Pages => "moments with whole pages",
        _ => "moments in order",
    }
}

/// Says which image it was, if judging it panics.
struct Told<'a>(&'a str, Bound, u64);

impl Drop for Told<'_> {
    fn drop(&mut self) {
        if std::thread::panicking() {
            eprintln!("{}: image {} of {:?}", self.0, self.2, self.1);
        }
    }
}

#[cfg(test)]
mod tests {
    use std::collections::HashSet;

    use super::*;

    #[test]
    fn every_number_is_another_workload() {
        let all: HashSet<String> = (0..WORKLOADS).map(|number| format!("{:?}", parse(number))).collect();
        assert_eq!(all.len() as u64, WORKLOADS);
        assert_eq!(parse(WORKLOADS - 1).1.len() as u32, STEPS_MAX);
    }
}
