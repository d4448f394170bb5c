//! Processes that die of `SIGKILL`, on the real file system, over and over on the same log.
//!
//! A chain is one log and some fifty processes on it, each with other options. A process is killed by its parent
//! after 0 to 60 ms, or kills itself before, amid or after its n-th operation on files, which may well be one of
//! recovery or of close. What it knew, the [`board`](crate::board) tells. After most of them the parent looks
//! into the log, read-only or by opening it, and holds it against all boards; sometimes the next process is the
//! first to look, and may be killed while it does.
//!
//! The rule: a seed draws everything but the moments of the parent's kills and the interleaving of threads. On a
//! failure the log is kept as it is, and the message names it, the seed and the command.

mod known;
mod life;

use std::io::Read;
use std::os::unix::process::ExitStatusExt;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::mpsc::{self, RecvTimeoutError};
use std::thread;
use std::time::{Duration, Instant};

use braidlog::storage::{FileAccess, FileIo, OsStorage, Storage};
use braidlog::{Lsn, ReadOnly, Wal};
use braidlog_sim::Rng;
use tempfile::TempDir;

use crate::board::{Board, OPERATIONS_MAX, Phase, Told, memory_dir};
use crate::counts::Counts;
use crate::extent::on_all_cores;
use crate::killing_storage::{Moment, Trap};
use known::{Known, Look};
use life::{Orders, WRITERS_MAX};

pub(crate) use life::any_options;

/// The variable that makes a process a child: it holds its orders.
const CHILD: &str = "BRAIDLOG_PROOF_CHILD";
/// How many processes one log sees.
const CHAIN_ROUNDS: u64 = 50;
/// The longest that a parent waits before it kills.
const PATIENCE_MAX: Duration = Duration::from_millis(60);
/// The longest that a process may take to die once it has nothing more to do: far longer than it needs.
const WATCHDOG: Duration = Duration::from_secs(120);

/// Makes this process the child, if a parent started it as one; then it does not return. To be called first in
/// `main`, or in the test that starts itself again.
pub fn child_main_if_asked() {
    if let Ok(orders) = std::env::var(CHILD) {
        life::live(&serde_json::from_str(&orders).expect("the parent writes orders that can be read"));
        std::process::exit(0);
    }
}

/// Kills processes: `rounds` of them, in chains of fifty on one log, on all cores. Chain `n` is drawn from
/// `seed + n`. After `deadline` no new process is started. `child_args` are the arguments with which this
/// executable, started again, comes to [`child_main_if_asked`].
///
/// # Panics
/// If a promise of the log is broken.
pub fn run(rounds: u64, seed: u64, deadline: Option<Instant>, child_args: &[&str]) -> Counts {
    on_all_cores(rounds.div_ceil(CHAIN_ROUNDS), deadline, |chain| {
        let rounds = CHAIN_ROUNDS.min(rounds - chain * CHAIN_ROUNDS);
        run_chain(rounds, seed + chain, deadline, child_args)
    })
}

fn run_chain(rounds: u64, seed: u64, deadline: Option<Instant>, child_args: &[&str]) -> Counts {
    let mut chain = Chain::new(seed, child_args, None);
    let lived = catch_unwind(AssertUnwindSafe(|| {
        for _ in 0..rounds {
            if deadline.is_some_and(|deadline| Instant::now() >= deadline) {
                break;
            }
            chain.round();
        }
        chain.end();
    }));
    if lived.is_err() {
        let (lives, path) = (chain.known.lives(), chain.temp.keep());
        panic!(
            "a promise is broken in process {lives} of seed {seed} (its message stands above); the log is kept in \
             {}; again, as far as the moments allow: cargo run --release -p braidlog-proof -- kill --rounds {rounds} --seed {seed}",
            path.display()
        );
    }
    chain.counts
}

/// One log and the processes on it.
pub(crate) struct Chain<'a> {
    temp: TempDir,
    /// The log's directory, which the first process makes.
    dir: PathBuf,
    board: tempfile::TempPath,
    child_args: &'a [&'a str],
    has_direct_io: bool,
    may_be_full: bool,
    rng: Rng,
    known: Known,
    pub(crate) counts: Counts,
}

/// How a process ended.
#[derive(PartialEq, Eq)]
enum End {
    Killed,
    /// By itself, with everything done.
    Finished,
}

impl<'a> Chain<'a> {
    /// A log in a directory for temporary files, or on a file system of its own that may be full.
    pub(crate) fn new(seed: u64, child_args: &'a [&'a str], small_disk: Option<&Path>) -> Chain<'a> {
        let temp = small_disk.map_or_else(TempDir::new, TempDir::new_in);
        let temp = temp.expect("there is a place for temporary files");
        let board =
            tempfile::NamedTempFile::new_in(memory_dir(temp.path())).expect("there is a place for boards");
        Chain {
            dir: temp.path().join("new/wal"),
            board: board.into_temp_path(),
            has_direct_io: has_direct_io(temp.path()),
            may_be_full: small_disk.is_some(),
            temp,
            child_args,
            rng: Rng::new(seed),
            known: Known::new(small_disk.is_some()),
            counts: Counts::default(),
        }
    }

    /// One process, from its start to its death, and mostly a look at what it left.
    pub(crate) fn round(&mut self) {
        let orders = self.orders();
        Board::create(&self.board, orders.writers);
        let patience = match orders.trap {
            None => Some(PATIENCE_MAX.mul_f64(self.rng.below(1000) as f64 / 1000.0)),
            Some(_) => None,
        };
        let end = self.live(&orders, patience);
        let told = Told::read(&self.board);
        self.count_end(&orders, &end, &told);
        self.known.bury(told);
        match self.rng.below(8) {
            // The next process is the first to look.
            0 | 1 => {}
            2..=5 => self.look_read_only(),
            _ => self.look_by_opening(),
        }
    }

    fn orders(&mut self) -> Orders {
        let rng = &mut self.rng;
        let trap = rng.one_in(2).then(|| Trap {
            // Recovery takes the first tens of operations; writing takes thousands.
            operation: match rng.below(4) {
                0 => rng.below(60),
                1 => rng.below(200),
                _ => (1 << rng.below(12)) + rng.below(300),
            },
            moment: [Moment::Before, Moment::Amid, Moment::After][rng.index(3)],
        });
        Orders {
            dir: self.dir.clone(),
            board: self.board.to_path_buf(),
            seed: rng.next_u64(),
            life: self.known.lives(),
            writers: 1 + rng.below(u64::from(WRITERS_MAX)) as u32,
            operations: (20 << rng.below(8)).min(OPERATIONS_MAX),
            trap,
            has_direct_io: self.has_direct_io,
            may_be_full: self.may_be_full,
        }
    }

    /// Starts a process and waits for its end, or kills it after `patience`.
    fn live(&self, orders: &Orders, patience: Option<Duration>) -> End {
        let mut child = spawn(orders, self.child_args);
        let mut stderr = child.stderr.take().expect("standard error is a pipe");
        let (sender, said) = mpsc::channel();
        thread::scope(|scope| {
            // The end of its standard error is the end of the process.
            scope.spawn(move || {
                let mut text = Vec::new();
                let _ = stderr.read_to_end(&mut text);
                let _ = sender.send(String::from_utf8_lossy(&text).into_owned());
            });
            let said = match said.recv_timeout(patience.unwrap_or(WATCHDOG)) {
                Ok(said) => said,
                Err(RecvTimeoutError::Timeout) => {
                    child.kill().expect("a child can be killed");
                    let said = said.recv().expect("the reader ends with the pipe");
                    assert!(patience.is_some(), "I13: a process did not end: {orders:?}\n{said}");
                    said
                }
                Err(RecvTimeoutError::Disconnected) => unreachable!("the reader sends before it ends"),
            };
            let status = child.wait().expect("a child can be waited for");
            match (status.signal(), status.code()) {
                (Some(9), _) => End::Killed,
                (_, Some(0)) => End::Finished,
                _ => panic!("a process failed ({status}): {orders:?}\n{said}"),
            }
        })
    }

    fn count_end(&mut self, orders: &Orders, end: &End, told: &Told) {
        let name = match (end, orders.trap.map(|trap| trap.moment)) {
            (End::Finished, _) => {
                self.counts.add("processes that ended by themselves", 1);
                return;
            }
            (End::Killed, None) => "kills by the parent",
            (End::Killed, Some(Moment::Before)) => "kills before an operation",
            (End::Killed, Some(Moment::Amid)) => "kills amid an operation",
            (End::Killed, Some(Moment::After)) => "kills after an operation",
        };
        self.counts.add(name, 1);
        self.counts.add("kills", 1);
        if told.phase == Phase::Started {
            self.counts.add("kills before the log was open", 1);
        }
    }

    /// Looks into the log as a reader does, which must change nothing.
    fn look_read_only(&mut self) {
        if !self.dir.join("LOCK").exists() {
            assert_eq!(self.known.last(), 0, "I1: the log is gone");
            return;
        }
        let before = listing(&self.dir);
        let log = Wal::open_read_only(&self.dir).expect("I12: a reader opens the log");
        assert!(!log.is_live().expect("a reader can ask"), "the dead hold no lock");
        self.check_read_only(&log);
        assert_eq!(listing(&self.dir), before, "I8: a reader changes nothing");
    }

    fn check_read_only(&mut self, log: &ReadOnly) {
        let look = Look {
            last: log.last_lsn().expect("I12: nothing is damaged"),
            records_from: &|lsn| log.iter(lsn..).expect("I12: nothing is damaged"),
            read: &|lsn| log.read(lsn).expect("I12: nothing is damaged"),
        };
        let checked = self.known.check(&look, &mut self.rng);
        self.count_checked("looks by a reader", checked);
    }

    /// Looks into the log by opening it for writing.
    fn look_by_opening(&mut self) {
        let options = any_options(&mut self.rng, self.has_direct_io);
        let wal = options.open(&self.dir).expect("I12: the log opens again");
        self.known.opened(wal.incarnation().0, wal.last_lsn().0);
        assert_eq!(wal.durable_lsn(), wal.last_lsn(), "I9: what is recovered is durable");
        let look = Look {
            last: wal.last_lsn(),
            records_from: &|lsn| wal.iter(lsn..).expect("I12: nothing is damaged"),
            read: &|lsn| wal.read(lsn).expect("I12: nothing is damaged"),
        };
        let checked = self.known.check(&look, &mut self.rng);
        self.count_checked("looks by opening", checked);
        match self.rng.below(2) {
            0 => wal.close().expect("nothing fails"),
            _ => drop(wal),
        }
    }

    /// The last look: at everything, in every way.
    pub(crate) fn end(&mut self) {
        self.look_read_only();
        self.look_by_opening();
        let log = Wal::open_read_only(&self.dir).expect("I12: a reader opens the log");
        self.known.check_all(log.iter(Lsn::FIRST..).expect("I12: nothing is damaged"));
        let report = braidlog::verify(&self.dir).expect("the log can be read");
        assert!(report.is_clean(), "I12: nothing is damaged: {report:?}");
        assert_eq!(report.last_lsn.0, self.known.last(), "verify reads to the same end");
        self.counts.add("logs", 1);
    }

    fn count_checked(&mut self, look: &'static str, (records, acknowledged): (u64, u64)) {
        self.counts.add(look, 1);
        self.counts.add("records checked", records);
        self.counts.add("acknowledged records checked", acknowledged);
    }
}

fn spawn(orders: &Orders, child_args: &[&str]) -> Child {
    Command::new(std::env::current_exe().expect("a process knows its executable"))
        .args(child_args)
        .env(CHILD, serde_json::to_string(orders).expect("orders can be written"))
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(Stdio::piped())
        .spawn()
        .expect("this executable can be started again")
}

/// Whether files in `dir` may be opened for direct I/O.
pub(crate) fn has_direct_io(dir: &Path) -> bool {
    let dir = OsStorage.open_dir(dir, false).expect("the directory is there");
    let is_direct = dir.open("probe", FileAccess::CreateNew, FileIo::Direct).is_ok();
    if is_direct {
        dir.remove("probe").expect("the probe is ours");
    }
    is_direct
}

/// The names in a directory, with the length and the time of the last change of each.
fn listing(dir: &Path) -> Vec<(String, u64, std::time::SystemTime)> {
    let entries = std::fs::read_dir(dir).expect("the directory can be read").map(|entry| {
        let entry = entry.expect("the directory can be read");
        let metadata = entry.metadata().expect("the file is there");
        let changed = metadata.modified().expect("files have times");
        (entry.file_name().to_string_lossy().into_owned(), metadata.len(), changed)
    });
    let mut listing: Vec<_> = entries.collect();
    listing.sort();
    listing
}
