//! Every way to read a log gives the same records: one after another, by several threads, in partitions, in pieces, one by
//! one, beside the log's handle and in its process, by a subscription, from packed segments, from a backup and from a fork.
//!
//! A seed draws a log of several openings, written by several threads, with batches, checkpoints, truncations and packed
//! segments. What one thread reads from first to last is compared with what was appended, and all other ways with that.
//!
//! The rule: LSN, time, kind, batch and payload, and nothing missing or twice. A log is read before its segments are packed
//! and after, by the same handles.

use std::collections::BTreeMap;
use std::ops::{Bound, RangeInclusive};
use std::sync::Arc;
use std::thread;
use std::time::{Duration, UNIX_EPOCH};

use braidlog::{
    Append, CheckpointPolicy, Compression, DurabilityMode, ErrorKind, Lsn, Options, ReadOnly, Record,
    Records, Replay, Result, Retention, ReverseRecords, Route, Target, Wal, partition_of,
};
use braidlog_sim::{Profile, Rng, SimDisk};

use crate::counts::Counts;
use crate::extent::Extent;

/// Where the log is on its disk.
const PATH: &str = "wal";
/// Where its backup is.
const BACKUP: &str = "backup";

/// Runs the seeds; counts records, readings and segments.
///
/// # Panics
/// If two readings differ, with the seed and the command that has them differ again.
pub fn run(extent: &Extent) -> Counts {
    extent.run("readings", round)
}

/// One log from one seed.
///
/// # Panics
/// If two readings differ.
pub fn round(seed: u64) -> Counts {
    let mut run = Run {
        rng: Rng::new(seed),
        disk: SimDisk::new(),
        appended: BTreeMap::new(),
        forks: 0,
        counts: Counts::default(),
    };
    let openings = 1 + run.rng.below(4);
    for _ in 0..openings {
        run.live();
    }
    run.counts.add("logs", 1);
    run.counts
}

struct Run {
    rng: Rng,
    disk: SimDisk,
    /// What was acknowledged, by LSN, and has not been given up.
    appended: BTreeMap<u64, (u8, Vec<u8>)>,
    /// How many forks were made.
    forks: u64,
    counts: Counts,
}

impl Run {
    fn options(&mut self) -> Options {
        let modes =
            [DurabilityMode::Synchronous, DurabilityMode::group_commit(), DurabilityMode::asynchronous()];
        let by_itself = if self.rng.one_in(3) { Compression::AtOnce } else { Compression::Off };
        Wal::options()
            .compression(by_itself)
            .storage(Arc::new(self.disk.clone()))
            .mode(modes[self.rng.index(3)])
            .num_stripes(1 << self.rng.below(3))
            .stripe_capacity(32 << 10)
            .segment_size(64 << 10 << self.rng.below(4))
            .write_buffer_size(8192 << self.rng.below(4))
            .retention(Retention::keep_all())
            .checkpoint_policy(CheckpointPolicy::never())
    }

    /// One opening: writes, reads in every way, cuts the log, and closes it or loses power.
    fn live(&mut self) {
        let wal = self.options().open(PATH).expect("nothing is wrong with the log");
        self.write(&wal);
        if self.rng.one_in(2) {
            self.cut(&wal);
            self.write(&wal);
        }
        wal.flush().expect("nothing fails");
        let all = self.check_handle(&wal);
        let reader = self.options().open_read_only(PATH).expect("nothing is wrong with the log");
        self.check_reader(&reader, &all);
        if self.rng.one_in(2) {
            self.pack(&wal, &reader, &all);
        }
        if self.rng.one_in(2) {
            self.check_backup(&wal, &all);
        }
        if self.rng.one_in(2) {
            self.check_fork(&wal, &all);
        }
        if self.rng.one_in(3) {
            self.disk = self.disk.crash_clone(self.rng.next_u64(), Profile::Posix);
            drop(wal);
        } else {
            wal.close().expect("nothing fails");
        }
        let reader = self.options().open_read_only(PATH).expect("nothing is wrong with the log");
        self.check_reader(&reader, &all);
    }

    // Writing

    /// Appends by several threads at once.
    fn write(&mut self, wal: &Wal) {
        let threads = 1 + self.rng.below(4);
        // Some logs are long enough that threads read ahead, which begins behind the first MiB.
        let (records, longest) = if self.rng.one_in(2) { (150, 16_000) } else { (60, 600) };
        let written: Vec<_> = thread::scope(|scope| {
            let writers: Vec<_> = (0..threads)
                .map(|_| {
                    let rng = Rng::new(self.rng.next_u64());
                    scope.spawn(move || write_alone(wal, rng, records, longest))
                })
                .collect();
            writers.into_iter().map(|writer| writer.join().expect("a writer does not panic")).collect()
        });
        for (lsn, record) in written.into_iter().flatten() {
            assert!(self.appended.insert(lsn, record).is_none(), "I5: LSN {lsn} was given twice");
        }
    }

    /// Takes a checkpoint and gives up what lies before it, or some of that.
    fn cut(&mut self, wal: &Wal) {
        wal.flush().expect("nothing fails");
        let last = wal.durable_lsn();
        wal.checkpoint(last, |_| Ok(())).expect("nothing fails");
        let first = wal.first_lsn();
        let to = Lsn(first.0 + self.rng.below(last.0 - first.0 + 1));
        let first = wal.truncate_before(to).expect("nothing needs it");
        self.appended.retain(|lsn, _| *lsn >= first.0);
        self.counts.add("truncations", 1);
    }

    // Reading

    /// What one thread reads from the first record to the last; it is what was appended.
    fn check_serial(&mut self, records: Records) -> Vec<Record> {
        let all: Vec<Record> = records.collect::<Result<_>>().expect("nothing is damaged");
        assert_eq!(all.len(), self.appended.len(), "I1, I2: as many records as were appended");
        for (record, (&lsn, (kind, payload))) in all.iter().zip(&self.appended) {
            let found = (record.lsn.0, record.kind.0, &record.payload);
            assert!(found == (lsn, *kind, payload), "I1, I4: LSN {lsn} is what was appended");
        }
        let is_in_order = |pair: &[Record]| {
            pair[0].lsn.next() == pair[1].lsn && pair[0].timestamp_ns <= pair[1].timestamp_ns
        };
        assert!(all.windows(2).all(is_in_order), "I2, I4: LSNs are dense, and time does not go back");
        self.counts.add("records", all.len() as u64);
        all
    }

    fn check_handle(&mut self, wal: &Wal) -> Vec<Record> {
        let all = self.check_serial(wal.iter(..).expect("nothing is wrong with the log"));
        self.check_replays(&Handle::Writer(wal), &all);
        let mut subscription = wal.subscribe(wal.first_lsn()).expect("the log starts there");
        for expected in &all {
            let given = subscription.try_next().expect("nothing is damaged");
            assert!(given.as_ref() == Some(expected), "LSN {}, subscribed to, is {given:?}", expected.lsn);
        }
        assert!(subscription.try_next().expect("nothing fails").is_none(), "no record comes of nothing");
        assert_eq!(subscription.lag(), 0);
        self.counts.add("readings", 1);
        all
    }

    fn check_reader(&mut self, reader: &ReadOnly, all: &[Record]) {
        // Beside a writer it may know less, as long as no mark tells of the last round.
        let last = reader.last_lsn().expect("nothing is wrong with the log");
        let shown: Vec<Record> = all.iter().filter(|record| record.lsn <= last).cloned().collect();
        if !reader.is_live().expect("the simulated disk tells") {
            assert_eq!(shown.len(), all.len(), "I1: a log that nobody writes is there as a whole");
        }
        let read: Vec<Record> = reader.iter(..=last).and_then(Iterator::collect).expect("nothing is damaged");
        assert!(read == shown, "a reader beside the log reads what its handle reads");
        self.check_replays(&Handle::Reader(reader), &shown);
    }

    fn check_replays(&mut self, log: &Handle<'_>, all: &[Record]) {
        let (first, last) = (log.first_lsn(), all.last().map_or(Lsn::ZERO, |record| record.lsn));
        // Beside a writer there may be more by now: nothing is asked of what lies behind the last record that is known.
        let end = if log.is_beside_a_writer() { last } else { last.next() };
        if end < first {
            return;
        }
        let among = |rng: &mut Rng| Lsn(first.0 + rng.below(end.0 - first.0 + 1));

        // By several threads, in much memory or little.
        let threads = 2 + self.rng.index(6);
        let replay = Replay::new().threads(threads).memory_bytes(2 << 20 << self.rng.below(5));
        let read: Vec<Record> = log
            .replay(replay.clone().range(first..=last))
            .collect::<Result<_>>()
            .expect("nothing is damaged");
        assert!(read == all, "{threads} threads read what one reads");

        // From anywhere to anywhere, in two pieces: where one stops the other goes on.
        let (one, other) = (among(&mut self.rng), among(&mut self.rng));
        let (from, to) = (one.min(other), one.max(other));
        let wanted: Vec<&Record> = all.iter().filter(|record| (from..to).contains(&record.lsn)).collect();
        let mut pieces = Vec::new();
        let mut records = log.replay(replay.clone().range(from..to));
        for record in records.by_ref().take(self.rng.index(wanted.len() + 1)) {
            pieces.push(record.expect("nothing is damaged"));
        }
        if !pieces.is_empty() {
            assert_eq!(records.applied_to(), pieces[pieces.len() - 1].lsn, "what was given was applied");
            let rest = (Bound::Excluded(records.applied_to()), Bound::Excluded(to));
            drop(records);
            for record in log.replay(replay.clone().range(rest)) {
                pieces.push(record.expect("nothing is damaged"));
            }
            assert!(pieces.iter().eq(wanted.iter().copied()), "two pieces are the whole, {from}..{to}");
        }

        // Up to a point: whole batches that end there or before.
        let target = among(&mut self.rng).max(Lsn::FIRST);
        let until = Target::lsn(target).inclusive();
        let read = log.try_replay(replay.clone().range(first..).until(until));
        match read {
            Ok(records) => {
                let read: Vec<Record> = records.collect::<Result<_>>().expect("nothing is damaged");
                let whole = all.iter().rposition(|record| record.lsn <= target && !record.batch_continues);
                let expected = whole.map_or(&[][..], |index| &all[..=index]);
                assert!(read == expected, "up to LSN {target}: {} records", read.len());
            }
            Err(error) => {
                let is_beyond = target > last || target < first;
                assert!(is_beyond && error.kind() != ErrorKind::Damaged, "LSN {target}: {error}");
            }
        }

        // In partitions: each key in order, and all of them together are all.
        let partitions = 1 + self.rng.index(5);
        let mut states: Vec<Vec<Record>> = vec![Vec::new(); partitions];
        let replay = replay.range(first..=last);
        let done = log.replay_partitioned(replay, &mut states);
        assert_eq!((done.0, done.1), (all.len() as u64, last), "records, and up to where they were applied");
        for (index, state) in states.iter().enumerate() {
            assert!(
                state.windows(2).all(|pair| pair[0].lsn < pair[1].lsn),
                "a partition is applied in order"
            );
            let is_here = |record: &Record| match route_of(&record.payload) {
                Route::All => true,
                Route::Key(key) => partition_of(key, partitions) == index,
            };
            assert!(state.iter().eq(all.iter().filter(|record| is_here(record))), "partition {index}");
        }

        // From the end on.
        let (from, to) = (among(&mut self.rng), among(&mut self.rng));
        let (from, to) = (from.min(to), from.max(to));
        let backward: Vec<Record> =
            log.iter_rev(from..=to).collect::<Result<_>>().expect("nothing is damaged");
        let expected = all.iter().rev().filter(|record| (from..=to).contains(&record.lsn));
        assert!(backward.iter().eq(expected), "{from}..={to}, from the end on");

        // From a time on; beside a writer there may be more by now.
        if let Some(record) = all.get(self.rng.index(all.len().max(1))) {
            let time = record.timestamp_ns;
            let since: Vec<Record> = log.iter_since(time).collect::<Result<_>>().expect("nothing is damaged");
            let since = since.iter().filter(|other| other.lsn <= last);
            let expected = all.iter().filter(|other| other.timestamp_ns >= time);
            assert!(since.eq(expected), "from the time of LSN {} on", record.lsn);
        }

        // One by one.
        for _ in 0..8 {
            let lsn = among(&mut self.rng);
            let expected = all.iter().find(|record| record.lsn == lsn);
            assert!(log.read(lsn).as_ref() == expected, "LSN {lsn} of {first} to {last}, read alone");
        }
        self.counts.add("readings", 7);
    }

    /// Packs what is finished, and reads it all again, by those who knew it otherwise too.
    fn pack(&mut self, wal: &Wal, reader: &ReadOnly, all: &[Record]) {
        let report = wal.compress().expect("nothing fails");
        assert!(report.damaged.is_empty(), "I12: nothing is damaged");
        assert!(self.check_handle(wal) == all, "a segment that is packed has the records that it had");
        self.check_reader(reader, all);
        let another = self.options().open_read_only(PATH).expect("nothing is wrong with the log");
        self.check_reader(&another, all);
        self.counts.add("packed segments", report.compressed as u64);
    }

    /// Makes a log of what lies before a point, which has the same records up to there, and goes on on its own.
    fn check_fork(&mut self, wal: &Wal, all: &[Record]) {
        self.forks += 1;
        let (first, last, dest) = (wal.first_lsn(), wal.durable_lsn(), format!("fork {}", self.forks));
        // A log that was cut goes back to its newest checkpoint, and no further.
        let oldest = wal.checkpoints().last().map_or(first.prev(), |newest| newest.lsn);
        let target = Lsn(oldest.0 + self.rng.below(last.0 - oldest.0 + 1));
        let whole = all.iter().rposition(|record| record.lsn <= target && !record.batch_continues);
        let before = whole.map_or(&[][..], |index| &all[..=index]);
        let report = match wal.fork(&dest, Target::lsn(target).inclusive()) {
            Ok(report) => report,
            Err(error) => {
                let is_unreachable = before.last().is_none_or(|last| last.lsn < oldest.max(Lsn::FIRST));
                assert!(is_unreachable && error.kind() != ErrorKind::Damaged, "a fork at {target}: {error}");
                return;
            }
        };
        assert_eq!(report.records, before.len() as u64, "a fork at {target} has what lies before it");
        let reader = self.options().open_read_only(&dest).expect("a fork opens");
        let read: Vec<Record> = reader.iter(..).and_then(Iterator::collect).expect("nothing is damaged");
        assert!(read == before, "a fork has the records of its log, up to {target}");
        self.check_replays(&Handle::Reader(&reader), before);
        let fork = self.options().open(&dest).expect("a fork opens");
        let next = fork.append("another future").expect("nothing fails");
        assert_eq!(next, report.last_lsn.next(), "a fork goes on where it ends");
        fork.close().expect("nothing fails");
        let read = reader.read(next).expect("nothing is damaged").expect("it is there");
        assert_eq!(read.payload, b"another future");
        assert!(
            wal.iter(..).and_then(Iterator::collect::<Result<Vec<_>>>).expect("nothing is damaged") == all
        );
        self.counts.add("forks", 1);
    }

    fn check_backup(&mut self, wal: &Wal, all: &[Record]) {
        wal.backup(BACKUP).expect("nothing fails");
        let backup = self.options().open_read_only(BACKUP).expect("a backup opens");
        assert!(!backup.is_live().expect("the simulated disk tells"));
        let read: Vec<Record> = backup.iter(..).and_then(Iterator::collect).expect("nothing is damaged");
        assert!(read == all, "a backup has what the log has");
        self.check_replays(&Handle::Reader(&backup), all);
        self.counts.add("backups", 1);
    }
}

/// One thread's records, by LSN.
fn write_alone(wal: &Wal, mut rng: Rng, records: u64, longest: usize) -> Vec<(u64, (u8, Vec<u8>))> {
    let mut written = Vec::new();
    let mut left = 1 + rng.below(records);
    while left > 0 {
        let count = if rng.one_in(5) { 2 + rng.below(12) } else { 1 };
        let mut batch: Vec<(u8, Vec<u8>)> =
            (0..count).map(|_| (rng.below(240) as u8, text(&mut rng, longest))).collect();
        let first = match &batch[..] {
            [(kind, payload)] => wal.append_with(Append::new(payload).kind(*kind)).expect("nothing fails"),
            many => {
                let mut batch = wal.batch();
                for (kind, payload) in many {
                    batch.push(*kind, payload).expect("it is within the limit");
                }
                batch.commit().expect("nothing fails").first
            }
        };
        written.extend((first.0..).zip(batch.drain(..)));
        left = left.saturating_sub(count);
    }
    written
}

/// Words, which can be packed, or noise, which cannot.
fn text(rng: &mut Rng, longest: usize) -> Vec<u8> {
    let len = if rng.one_in(20) { rng.index(longest * 4) } else { rng.index(longest) };
    let mut bytes = vec![0; len];
    if rng.one_in(4) {
        rng.fill(&mut bytes);
        return bytes;
    }
    const WORDS: [&[u8]; 4] = [b"order ", b"customer ", b"shipped ", b"42 "];
    let mut at = 0;
    while at < len {
        let word = WORDS[rng.index(4)];
        let taken = word.len().min(len - at);
        bytes[at..at + taken].copy_from_slice(&word[..taken]);
        at += taken;
    }
    bytes
}

/// The key of a record; some concern all.
fn route_of(payload: &[u8]) -> Route {
    match payload.len() {
        len if len % 31 == 7 => Route::All,
        len => Route::Key(len as u64 % 13),
    }
}

/// What reads: the log's own process, or another.
enum Handle<'a> {
    Writer(&'a Wal),
    Reader(&'a ReadOnly),
}

impl Handle<'_> {
    fn first_lsn(&self) -> Lsn {
        match self {
            Handle::Writer(wal) => wal.first_lsn(),
            Handle::Reader(reader) => reader.first_lsn().expect("nothing is wrong with the log"),
        }
    }

    fn is_beside_a_writer(&self) -> bool {
        match self {
            Handle::Writer(_) => false,
            Handle::Reader(reader) => reader.is_live().expect("the simulated disk tells"),
        }
    }

    fn try_replay(&self, replay: Replay) -> Result<Records> {
        match self {
            Handle::Writer(wal) => wal.replay_with(replay),
            Handle::Reader(reader) => reader.replay_with(replay),
        }
    }

    fn replay(&self, replay: Replay) -> Records {
        self.try_replay(replay).expect("nothing is wrong with the log")
    }

    /// The count of records, and the LSN up to which all were applied.
    fn replay_partitioned(&self, replay: Replay, states: &mut [Vec<Record>]) -> (u64, Lsn) {
        let apply = |state: &mut Vec<Record>, record: braidlog::RecordRef<'_>| {
            state.push(record.to_owned());
            Ok(())
        };
        let key = |record: &braidlog::RecordRef<'_>| route_of(record.payload);
        let done = match self {
            Handle::Writer(wal) => wal.replay_partitioned(replay, states, key, apply),
            Handle::Reader(reader) => reader.replay_partitioned(replay, states, key, apply),
        };
        let done = done.expect("nothing is damaged");
        (done.records, done.applied_to)
    }

    fn iter_rev(&self, range: RangeInclusive<Lsn>) -> ReverseRecords {
        match self {
            Handle::Writer(wal) => wal.iter_rev(range),
            Handle::Reader(reader) => reader.iter_rev(range),
        }
        .expect("nothing is wrong with the log")
    }

    fn iter_since(&self, timestamp_ns: u64) -> Records {
        let time = UNIX_EPOCH + Duration::from_nanos(timestamp_ns);
        match self {
            Handle::Writer(wal) => wal.iter_since(time),
            Handle::Reader(reader) => reader.iter_since(time),
        }
        .expect("nothing is wrong with the log")
    }

    fn read(&self, lsn: Lsn) -> Option<Record> {
        match self {
            Handle::Writer(wal) => wal.read(lsn),
            Handle::Reader(reader) => reader.read(lsn),
        }
        .expect("nothing is damaged")
    }
}
