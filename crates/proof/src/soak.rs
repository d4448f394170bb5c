//! A log that lives: sixteen writers, checkpoints, retention, recycling, backups, holds, kills and reopenings, for as
//! long as one likes, in a directory that must not grow.
//!
//! One process after another opens the log, recovers the state that its records lead to, and writes until it
//! is told to close, or is killed. After most of them the parent opens the log and a restored copy of its backup.
//!
//! The rule: what a writer was told is durable is in the state that checkpoint and log lead to, whatever was truncated
//! since; so it is in a backup that was complete afterwards. The bounds on disk, memory and descriptors hold at every
//! look, not at the end only. A seed draws everything but moments and interleavings.

mod life;
mod notes;
mod state;

use std::fs;
use std::os::unix::fs::MetadataExt;
use std::os::unix::process::ExitStatusExt;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::mpsc::{self, RecvTimeoutError};
use std::thread;
use std::time::{Duration, Instant};

use braidlog::Wal;
use braidlog_sim::Rng;
use tempfile::TempDir;

use crate::board::memory_dir;
use crate::counts::Counts;
use life::{DISK_MAX, Orders};
use notes::{Notes, Said};
use state::{Expected, Ledger, WRITERS};

/// The variable that makes a process a child: it holds its orders.
const CHILD: &str = "BRAIDLOG_SOAK_CHILD";
/// How often the parent weighs the directory while a process lives.
const WEIGH_EVERY: Duration = Duration::from_millis(50);
/// The longest that a process may take to end once it was told to: far longer than it needs.
const WATCHDOG: Duration = Duration::from_secs(120);

/// Makes this process the child, if a parent started it as one; then it does not return. To be called first in
/// `main`, or in the test that starts itself again.
pub fn child_main_if_asked() {
    if let Ok(orders) = std::env::var(CHILD) {
        life::live(&serde_json::from_str(&orders).expect("the parent writes orders that can be read"));
        std::process::exit(0);
    }
}

/// Soaks one log for this long. `child_args` are the arguments with which this executable, started again, comes to
/// [`child_main_if_asked`].
///
/// # Panics
/// If a promise of the log or a bound is broken; the log is kept, and the message says where.
pub fn run(time: Duration, seed: u64, child_args: &[&str]) -> Counts {
    let mut soak = Soak::new(seed, child_args);
    let until = Instant::now() + time;
    let soaked = catch_unwind(AssertUnwindSafe(|| {
        while Instant::now() < until {
            soak.round(until);
        }
        soak.end();
    }));
    if soaked.is_err() {
        let (lives, path) = (soak.lives, soak.temp.keep());
        panic!(
            "a promise is broken in process {lives} of seed {seed} (its message stands above); log and backup are kept \
             in {}; again, as far as the moments allow: cargo run --release -p braidlog-proof -- soak --seed {seed}",
            path.display()
        );
    }
    soak.counts
}

struct Soak<'a> {
    temp: TempDir,
    log: PathBuf,
    backup: PathBuf,
    notes: tempfile::TempPath,
    child_args: &'a [&'a str],
    rng: Rng,
    lives: u32,
    /// Of the log, and of the backup.
    expected: [Expected; 2],
    counts: Counts,
}

/// How a process ended.
#[derive(PartialEq, Eq)]
enum End {
    Killed,
    Closed,
}

impl<'a> Soak<'a> {
    fn new(seed: u64, child_args: &'a [&'a str]) -> Soak<'a> {
        let temp = TempDir::new().expect("there is a place for temporary files");
        let notes =
            tempfile::NamedTempFile::new_in(memory_dir(temp.path())).expect("there is a place for notes");
        let notes = notes.into_temp_path();
        Notes::create(&notes);
        Soak {
            log: temp.path().join("log"),
            backup: temp.path().join("backup"),
            temp,
            notes,
            child_args,
            rng: Rng::new(seed),
            lives: 0,
            expected: Default::default(),
            counts: Counts::default(),
        }
    }

    /// One process, and a look at what it left.
    fn round(&mut self, until: Instant) {
        let left = until.saturating_duration_since(Instant::now());
        // Mostly short lives; a long one shows what grows.
        let longest = if self.rng.one_in(6) { 20_000 } else { 2_000 };
        let life = Duration::from_millis(100 + self.rng.below(longest)).min(left);
        let killed = !self.rng.one_in(3);
        let end = self.live(life, killed);
        self.counts.add(if end == End::Killed { "kills" } else { "closes" }, 1);
        self.look();
    }

    /// The last process closes the log; then log and backup are verified byte by byte.
    fn end(&mut self) {
        self.live(Duration::from_millis(500), false);
        self.look();
        let said = Notes::read(&self.notes);
        for (name, total) in said.totals() {
            self.counts.add(name, total);
        }
        let report = braidlog::verify(&self.log).expect("the log can be verified");
        assert!(report.is_clean(), "the log: {:?}", report.problems);
    }

    /// Starts a process, weighs the directory while it lives, and ends it.
    fn live(&mut self, life: Duration, killed: bool) -> End {
        let orders = Orders {
            log: self.log.clone(),
            backup: self.backup.clone(),
            notes: self.notes.to_path_buf(),
            seed: self.rng.next_u64(),
            life: if killed { WATCHDOG } else { life },
        };
        self.lives += 1;
        let mut child = spawn(&orders, self.child_args);
        let began = Instant::now();
        let (sender, ended) = mpsc::channel();
        let (status, most, weighings) = thread::scope(|scope| {
            let id = child.id();
            scope.spawn(move || sender.send(child.wait().expect("a child can be waited for")));
            let (mut most, mut weighings) = (0, 0);
            let status = loop {
                match ended.recv_timeout(WEIGH_EVERY) {
                    Ok(status) => break status,
                    Err(RecvTimeoutError::Disconnected) => unreachable!("the waiter sends before it ends"),
                    Err(RecvTimeoutError::Timeout) => {}
                }
                most = most.max(weight(&self.log));
                weighings += 1;
                if (killed && began.elapsed() >= life) || began.elapsed() >= WATCHDOG {
                    kill(id);
                }
            };
            (status, most, weighings)
        });
        assert!(most <= DISK_MAX, "the log took {most} bytes on disk, {DISK_MAX} are allowed");
        self.counts.add("weighings", weighings);
        let most_before = self.counts.get("most bytes on disk");
        self.counts.add("most bytes on disk", most.saturating_sub(most_before));
        end_of(status)
    }

    /// Opens the log and a restored copy of its backup, and checks what they lead to. Sometimes the next process is the
    /// first to open the log.
    fn look(&mut self) {
        let said = Notes::read(&self.notes);
        if self.rng.one_in(3) {
            return;
        }
        let wal = Wal::options().open(&self.log).expect("the log opens again");
        let checked = check(&wal, "the log", &said.acked, &said.begun, &mut self.expected[0]);
        self.counts.add("acknowledged records checked", checked);
        wal.close().expect("nothing fails");
        self.look_at_backup(&said);
    }

    fn look_at_backup(&mut self, said: &Said) {
        if said.backups == 0 {
            return;
        }
        let report = braidlog::verify(&self.backup).expect("the backup can be verified");
        assert!(report.is_clean(), "the backup: {:?}", report.problems);
        let restored = self.temp.path().join("restored");
        fs::create_dir(&restored).expect("a directory can be made");
        for file in fs::read_dir(&self.backup).expect("the backup can be listed") {
            let file = file.expect("the backup can be listed");
            fs::copy(file.path(), restored.join(file.file_name())).expect("a backup can be copied");
        }
        let wal = Wal::options().open(&restored).expect("a restored backup opens");
        let checked = check(&wal, "the backup", &said.backed_up, &said.begun, &mut self.expected[1]);
        self.counts.add("records checked in restored backups", checked);
        wal.close().expect("nothing fails");
        fs::remove_dir_all(&restored).expect("a directory can be removed");
    }
}

/// Recovers the state and checks it; how many records had to be in it.
fn check(
    wal: &Wal,
    whose: &str,
    acked: &[u64; WRITERS],
    begun: &[u64; WRITERS],
    expected: &mut Expected,
) -> u64 {
    let mut ledger = Ledger::default();
    wal.recover(&mut ledger).expect("the state can be recovered");
    ledger.check_counts(whose, acked, begun);
    ledger.check_digests(whose, expected);
    acked.iter().sum()
}

fn spawn(orders: &Orders, child_args: &[&str]) -> Child {
    let myself = std::env::current_exe().expect("this executable has a path");
    Command::new(myself)
        .args(child_args)
        .env(CHILD, serde_json::to_string(orders).expect("orders can be written"))
        .stdout(Stdio::null())
        .spawn()
        .expect("this executable can be started again")
}

fn kill(id: u32) {
    let pid = rustix::process::Pid::from_raw(id as i32).expect("a child has a number");
    // It may have ended by now.
    let _ = rustix::process::kill_process(pid, rustix::process::Signal::KILL);
}

fn end_of(status: ExitStatus) -> End {
    match (status.signal(), status.code()) {
        (Some(9), _) => End::Killed,
        (_, Some(0)) => End::Closed,
        _ => panic!("the process failed: {status}; its message stands above"),
    }
}

/// Bytes that the files of a directory take on the device. A file that goes meanwhile takes none.
fn weight(dir: &Path) -> u64 {
    let Ok(entries) = fs::read_dir(dir) else { return 0 };
    entries.flatten().filter_map(|entry| entry.metadata().ok()).map(|file| file.blocks() * 512).sum()
}
