//! File systems that are really full.
//!
//! Three rounds on each of two kinds (ext4 on a loop device, a tmpfs of limited size): the library fills it, is
//! refused, heals when space is freed, is closed while full and opened with not one block left; processes are
//! killed while it is full, filled and freed in turn; the command fills it.
//!
//! The rule: I17, a full disk loses nothing and heals. What was refused is absent, what was accepted is there while
//! the disk is full and afterwards, and nobody has to open the log again. Where nothing can be mounted the harness
//! says so and counts nothing.

mod small_disk;

use std::collections::BTreeMap;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::Path;
use std::thread;
use std::time::{Duration, Instant};

use braidlog::{Append, Durability, ErrorKind, HealthState, Lsn, Retention, Wal};
use braidlog_sim::{Rng, STAMP_LEN, Stamp};

use crate::command::{self, Event, Writing};
use crate::counts::Counts;
use crate::kill::{Chain, any_options, has_direct_io};
use crate::line_oracle::{LineOracle, text_of};
use small_disk::{Kind, SmallDisk};

/// How long the log may take to see that there is space again: far longer than it needs.
const WATCHDOG: Duration = Duration::from_secs(120);
/// How many times one log is filled.
const FILLINGS: u32 = 3;
/// The size of the file system that the command fills: its sixteen stripes of 1 MiB must fit into one file, or
/// nothing is ever admitted.
const COMMAND_MIB: u64 = 64;
/// How many processes are killed on one full file system.
const KILLS: u64 = 8;

/// Fills file systems: `rounds` times each kind in each way, drawn from `seed`. After `deadline` no new round is
/// begun. `child_args` are as in [`kill::run`](crate::kill::run).
///
/// Without the right to mount it prints why, and counts nothing.
///
/// # Panics
/// If a promise of the log is broken.
pub fn run(rounds: u64, seed: u64, deadline: Option<Instant>, child_args: &[&str]) -> Counts {
    let mut counts = Counts::default();
    for kind in [Kind::Ext4, Kind::Tmpfs] {
        if let Err(why) = SmallDisk::new(kind, COMMAND_MIB) {
            println!(
                "SKIPPED: no full {kind:?}, as none can be mounted ({why}); the simulated disk stands in for it"
            );
            continue;
        }
        for round in 0..rounds {
            if deadline.is_some_and(|deadline| Instant::now() >= deadline) {
                break;
            }
            let seed = seed + round;
            let filled = catch_unwind(AssertUnwindSafe(|| {
                let mut rng = Rng::new(seed);
                fill_with_library(&mounted(kind, 24 + rng.below(16)), &mut rng, &mut counts);
                kill_while_full(&mounted(kind, 24 + rng.below(16)), &mut rng, child_args, &mut counts);
                let filled = fill_with_command(&mounted(kind, COMMAND_MIB), &mut rng, &mut counts);
                filled.unwrap_or_else(|broken| panic!("{broken}"));
            }));
            if filled.is_err() {
                panic!(
                    "a promise is broken on a full {kind:?} (its message stands above); again: cargo run --release \
                     -p braidlog-proof -- no-space --rounds 1 --seed {seed}"
                );
            }
        }
    }
    counts
}

fn mounted(kind: Kind, mib: u64) -> SmallDisk {
    SmallDisk::new(kind, mib).expect("it can be mounted, as it could before")
}

// --- The library ---

/// What the log accepted: the record at each LSN.
type Accepted = BTreeMap<u64, Stamp>;

fn fill_with_library(disk: &SmallDisk, rng: &mut Rng, counts: &mut Counts) {
    let dir = disk.path().join("wal");
    for filling in 0..FILLINGS {
        disk.take(&format!("ballast {filling}"), 3);
    }
    // For the end, when all the rest is full.
    disk.take("spare", 3);
    let has_direct_io = has_direct_io(disk.path());
    let wal = any_options(rng, has_direct_io).open(&dir).expect("there is space");
    let mut accepted = Accepted::new();
    for filling in 0..FILLINGS {
        fill(&wal, filling, rng, &mut accepted);
        counts.add("fillings", 1);
        check_full(&wal, &accepted);
        // Less space would not matter either: what holds an LSN has its own.
        disk.stuff();
        check_full(&wal, &accepted);
        disk.unstuff();
        disk.free(&format!("ballast {filling}"));
        heal(&wal, filling, &mut accepted);
        counts.add("heals", 1);
    }
    fill(&wal, FILLINGS, rng, &mut accepted);
    match rng.below(2) {
        0 => wal.close().expect("I18: what was accepted has space"),
        _ => {
            wal.flush().expect("I17: what was accepted has space");
            drop(wal);
        }
    }
    counts.add("closes while full", 1);
    reopen_without_space(disk, rng, has_direct_io, &mut accepted);
    counts.add("opens with not one block free", 1);
    free_itself(disk, rng, has_direct_io, &mut accepted);
    counts.add("logs that freed themselves", 1);
    counts.add("records checked", accepted.len() as u64);
}

/// Appends from several threads until each is refused.
fn fill(wal: &Wal, filling: u32, rng: &mut Rng, accepted: &mut Accepted) {
    thread::scope(|scope| {
        let writers = 1 + rng.below(4) as u32;
        let threads: Vec<_> = (0..writers)
            .map(|writer| {
                let rng = Rng::new(rng.next_u64());
                scope.spawn(move || append_until_refused(wal, filling << 8 | writer, rng))
            })
            .collect();
        for thread in threads {
            accepted.extend(thread.join().expect("a writer is refused, and nothing else"));
        }
    });
}

fn append_until_refused(wal: &Wal, writer: u32, mut rng: Rng) -> Vec<(u64, Stamp)> {
    let mut accepted = Vec::new();
    for seq in 0.. {
        let durability =
            [Durability::Synchronous, Durability::GroupCommit, Durability::Async, Durability::Async];
        let durability = durability[rng.index(4)];
        let count = if rng.one_in(8) { 2 + rng.below(6) as u16 } else { 1 };
        let stamps: Vec<_> = (0..count).map(|index| Stamp { writer, seq, index, count }).collect();
        let payload = |stamp: &Stamp, rng: &mut Rng| stamp.payload(STAMP_LEN + rng.index(9000));
        let appended = if count == 1 {
            let payload = payload(&stamps[0], &mut rng);
            wal.append_with(Append::new(&payload).durability(durability))
        } else {
            let mut batch = wal.batch().durability(durability);
            for stamp in &stamps {
                batch.push(0, payload(stamp, &mut rng)).expect("the batch is small");
            }
            batch.commit().map(|lsns| lsns.first)
        };
        match appended {
            Ok(first) => accepted.extend((first.0..).zip(stamps)),
            Err(error) => {
                assert_eq!(error.kind(), ErrorKind::NoSpace, "I17: a full disk is no failure: {error}");
                assert!(!error.is_indeterminate(), "I17: what is refused is absent");
                return accepted;
            }
        }
    }
    unreachable!("a disk is finite")
}

/// Everything but appending works.
fn check_full(wal: &Wal, accepted: &Accepted) {
    assert_ne!(wal.health().state, HealthState::Failed, "I17: a full disk is no failure");
    wal.flush().expect("I17: what was accepted has space");
    assert_eq!(wal.durable_lsn(), wal.last_lsn());
    check_records(wal.iter(..).expect("reading needs no space"), accepted);
    check_dir(wal.path(), accepted);
}

/// Others may look as well, while the disk is full.
fn check_dir(dir: &Path, accepted: &Accepted) {
    let report = braidlog::verify(dir).expect("the log can be read");
    assert!(report.is_clean(), "I12: nothing is damaged: {report:?}");
    let log = Wal::open_read_only(dir).expect("a reader needs no space");
    if !log.is_live().expect("a reader can ask") {
        check_records(log.iter(..).expect("a reader needs no space"), accepted);
    }
}

fn check_records(records: braidlog::Records, accepted: &Accepted) {
    let mut expected = accepted.iter();
    let first = accepted.keys().next().copied().unwrap_or(1);
    for (lsn, record) in (first..).zip(records) {
        let record = record.expect("I12: nothing is damaged");
        let stamp = Stamp::of(&record.payload);
        assert_eq!(record.lsn, Lsn(lsn), "I2: LSNs are dense");
        assert_eq!(
            Some((&lsn, &stamp)),
            expected.next(),
            "I1, I4: what was accepted is there, and nothing else"
        );
    }
    assert_eq!(expected.next(), None, "I1: what was accepted is there");
}

/// Appends as one does who was told that there is no space: again, until there is. Nobody opens the log again.
fn heal(wal: &Wal, filling: u32, accepted: &mut Accepted) {
    let writer = 1 << 16 | filling;
    let started = Instant::now();
    let mut seq = 0;
    while seq < 20 {
        let stamp = Stamp::single(writer, seq);
        match wal.append_with(Append::new(&stamp.payload(500)).durability(Durability::GroupCommit)) {
            Ok(lsn) => {
                accepted.insert(lsn.0, stamp);
                seq += 1;
            }
            Err(error) => {
                assert_eq!(error.kind(), ErrorKind::NoSpace, "I17: a full disk is no failure: {error}");
                assert!(started.elapsed() < WATCHDOG, "I13: there is space, and the log does not see it");
                thread::yield_now();
            }
        }
    }
}

fn reopen_without_space(disk: &SmallDisk, rng: &mut Rng, has_direct_io: bool, accepted: &mut Accepted) {
    let dir = disk.path().join("wal");
    disk.stuff();
    assert_eq!(disk.free_blocks(), 0, "not one block is free");
    check_dir(&dir, accepted);
    let wal = any_options(rng, has_direct_io).open(&dir).expect("I17: opening needs no space");
    check_records(wal.replay().expect("reading needs no space"), accepted);
    let refused = wal.append(Stamp::single(u32::MAX, 0).payload(100)).expect_err("not one block is free");
    assert_eq!(refused.kind(), ErrorKind::NoSpace, "{refused}");
    assert_eq!(wal.health().state, HealthState::NoSpace);
    // Opened and closed once more: an opening that could make nothing has broken nothing.
    wal.close().expect("nothing was accepted");
    let wal = any_options(rng, has_direct_io).open(&dir).expect("I17: opening needs no space");
    check_records(wal.replay().expect("reading needs no space"), accepted);
    disk.unstuff();
    disk.free("spare");
    heal(&wal, FILLINGS, accepted);
    check_full(&wal, accepted);
    wal.close().expect("nothing fails");
    check_dir(&dir, accepted);
}

/// With not one block free the log takes a checkpoint without content, and gives up what lies before it: by what it
/// keeps in reserve. Then there is space, and nobody else has freed any.
fn free_itself(disk: &SmallDisk, rng: &mut Rng, has_direct_io: bool, accepted: &mut Accepted) {
    let dir = disk.path().join("wal");
    for round in 1..=FILLINGS {
        let wal = any_options(rng, has_direct_io)
            .retention(Retention::keep_all())
            .open(&dir)
            .expect("there is space, or opening needs none");
        fill(&wal, FILLINGS + 2 * round, rng, accepted);
        wal.flush().expect("I17: what was accepted has space");
        // Without the log's own attempts to find space, which may have some for a moment.
        wal.close().expect("I18: what was accepted has space");
        disk.stuff();
        assert_eq!(disk.free_blocks(), 0, "not one block is free");
        let wal = any_options(rng, has_direct_io)
            .retention(Retention::keep_all())
            .open(&dir)
            .expect("I17: opening needs no space");
        let last = wal.durable_lsn();
        wal.checkpoint(last, |_| Ok(())).expect("I17: the log keeps space for that");
        let first = wal.truncate_before(last).expect("I17: the log keeps space for that");
        accepted.retain(|lsn, _| *lsn >= first.0);
        heal(&wal, FILLINGS + 2 * round + 1, accepted);
        check_full(&wal, accepted);
        wal.close().expect("nothing fails");
        check_dir(&dir, accepted);
        disk.unstuff();
    }
}

// --- Processes that are killed ---

fn kill_while_full(disk: &SmallDisk, rng: &mut Rng, child_args: &[&str], counts: &mut Counts) {
    disk.take("ballast", disk.free_mib() / 2);
    let mut chain = Chain::new(rng.next_u64(), child_args, Some(disk.path()));
    for _ in 0..KILLS {
        chain.round();
        if disk.path().join("ballast").exists() && rng.one_in(3) {
            disk.free("ballast");
        }
        if rng.one_in(3) {
            // The next process finds not one block, and may be killed while it opens.
            disk.stuff();
            chain.round();
            disk.unstuff();
        }
    }
    chain.end();
    counts.add("kills on a full disk", chain.counts.get("kills"));
    counts.add("records checked", chain.counts.get("records checked"));
}

// --- The command ---

fn fill_with_command(disk: &SmallDisk, rng: &mut Rng, counts: &mut Counts) -> Result<(), String> {
    let dir = disk.path().join("wal");
    disk.take("ballast", COMMAND_MIB / 2);
    let mut oracle = LineOracle::new(rng.next_u64());
    let options = ["--segment-size", "256K", "--writers", "4"].map(str::to_owned);

    let (code, said) = write(&dir, &options, u64::MAX, rng.next_u64(), &mut oracle)?;
    if code != Some(1) || !said.contains("full") {
        return Err(format!("I17: a full disk is told as such, and ends the command: {code:?} {said}"));
    }
    counts.add("fillings", 1);
    look(&dir, &mut oracle)?;
    disk.stuff();
    assert_eq!(disk.free_blocks(), 0, "not one block is free");
    look(&dir, &mut oracle)?;
    let (code, said) = write(&dir, &options, 10, rng.next_u64(), &mut oracle)?;
    if code != Some(1) || !said.contains("full") {
        return Err(format!("I17: without a block the command ends as with few: {code:?} {said}"));
    }
    look(&dir, &mut oracle)?;
    disk.unstuff();
    disk.free("ballast");
    let (code, said) = write(&dir, &options, 100, rng.next_u64(), &mut oracle)?;
    if code != Some(0) {
        return Err(format!("I17: with space the command goes on: {code:?} {said}"));
    }
    look(&dir, &mut oracle)?;
    counts.add("heals", 1);
    counts.add("acknowledged lines checked", oracle.acknowledged());
    Ok(())
}

/// Runs the command to its end; its exit code, and what it said.
fn write(
    dir: &Path,
    options: &[String],
    lines: u64,
    seed: u64,
    oracle: &mut LineOracle,
) -> Result<(Option<i32>, String), String> {
    let round = oracle.begin(1);
    let lines_seed = oracle.seed();
    let text = move |line| text_of(lines_seed, round, line);
    let mut options = options.to_vec();
    options.extend(["--durability".to_owned(), ["sync", "group", "async"][(seed % 3) as usize].to_owned()]);
    let mut writing = Writing::start(dir, &options, lines, text, command::events());
    let mut acknowledged = Vec::new();
    while let Event::Ack { line, lsn } = writing.next_event() {
        acknowledged.push((line, lsn));
    }
    let (status, said, fed) = writing.wait();
    oracle.fed(fed);
    for (line, lsn) in acknowledged {
        oracle.acknowledge(line, lsn)?;
    }
    Ok((status.code(), said))
}

fn look(dir: &Path, oracle: &mut LineOracle) -> Result<(), String> {
    let last = command::verify(dir)?;
    let records = command::cat(dir)?;
    if last != records.len() as u64 {
        return Err(format!("verify reads to LSN {last}, and cat to {}", records.len()));
    }
    oracle.check(&records)
}
