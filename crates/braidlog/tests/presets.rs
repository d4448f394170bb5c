//! What each preset may lose: measured under a kill of the process and under power cuts, against what it states.
//!
//! Time is the test's own. It moves only when the log's background thread has seen what was appended, so that a record is
//! exactly as old as the test says, and what a crash takes is counted to the record, on both sides of the window.

use std::io::{BufRead, BufReader, Write};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::thread;
use std::time::Duration;

use braidlog::storage::Clock;
use braidlog::{Append, CheckpointPolicy, Durability, DurabilityMode, Lsn, Options, Retention, Wal};
use braidlog_sim::{Profile, SimClock, SimDisk};

#[path = "support/patience.rs"]
mod patience;

use patience::until;

const MS: Duration = Duration::from_millis(1);
const NS: Duration = Duration::from_nanos(1);

/// Names, options and stated windows of all there are. `performance` is `high_throughput` as its documentation changes it.
fn presets() -> [(&'static str, Options, Duration); 6] {
    let performance = DurabilityMode::Async { flush_interval: 5000 * MS };
    [
        ("max_durability", Options::max_durability(), Duration::ZERO),
        ("default", Wal::options(), Duration::ZERO),
        ("balanced", Options::balanced(), 100 * MS),
        ("high_throughput", Options::high_throughput(), 1000 * MS),
        ("performance", Options::high_throughput().mode(performance), 5000 * MS),
        ("development", Options::development(), 10_000 * MS),
    ]
}

/// Runs the test for each of them, all at once: they wait most of the time.
fn for_each(test: impl Fn(&str, Options, Duration) + Sync) {
    thread::scope(|scope| {
        for (name, options, window) in presets() {
            let test = &test;
            scope.spawn(move || test(name, options, window));
        }
    });
}

/// A clock that stands still, and counts how often the log's background thread reads it.
#[derive(Debug, Default)]
struct Watched {
    time: SimClock,
    looks: AtomicU64,
}

impl Clock for Watched {
    fn wall_ns(&self) -> u64 {
        self.time.wall_ns()
    }

    fn monotonic(&self) -> Duration {
        if thread::current().name() == Some("braidlog-flush") {
            self.looks.fetch_add(1, Ordering::Relaxed);
        }
        self.time.monotonic()
    }
}

impl Watched {
    /// Returns when the background thread has looked at what there is now, and at what time it is. A turn of it reads the clock
    /// four times at most, a round four more: of twelve readings the last ones are a whole turn's.
    fn until_seen(&self) {
        let enough = self.looks.load(Ordering::Relaxed) + 12;
        until(|| self.looks.load(Ordering::Relaxed) >= enough);
    }
}

/// Appends 5 records, lets the window pass, appends 3 more and lets all but a nanosecond of it pass. What the stated window
/// allows to be lost now is the last 3; with none, nothing.
fn write(wal: &Wal, clock: &Watched, window: Duration) {
    for _ in 0..5 {
        wal.append(b"older than the window").unwrap();
    }
    if window.is_zero() {
        assert_eq!(wal.durable_lsn(), Lsn(5));
    } else {
        clock.until_seen();
        assert_eq!(wal.durable_lsn(), Lsn::ZERO, "nothing is synced before its time");
        clock.time.advance(window);
        until(|| wal.durable_lsn() == Lsn(5));
    }
    for _ in 0..3 {
        wal.append(b"within it").unwrap();
    }
    if !window.is_zero() {
        clock.until_seen();
        clock.time.advance(window - NS);
        clock.until_seen();
        assert_eq!(wal.durable_lsn(), Lsn(5));
    }
}

/// How many of the 8 records must be there, and are: not one more is lost than the window says, nor one less.
fn left(window: Duration) -> Lsn {
    if window.is_zero() { Lsn(8) } else { Lsn(5) }
}

#[test]
fn a_power_cut_costs_what_the_preset_states_and_no_more() {
    for_each(|name, options, window| {
        assert_eq!(options.mode.loss_window(), window, "{name}");
        let (disk, clock) = (SimDisk::new(), Arc::new(Watched::default()));
        let wal = options.clone().storage(Arc::new(disk.clone())).clock(clock.clone()).open("wal").unwrap();
        write(&wal, &clock, window);
        for seed in 0..20 {
            let after = disk.crash_clone(seed, Profile::Posix);
            let log = options.clone().storage(Arc::new(after)).background_threads(false).open("wal").unwrap();
            assert_eq!(log.last_lsn(), left(window), "{name}, seed {seed}");
        }
        // Whoever asks for more gets it.
        wal.append_with(Append::new(b"must stay").durability(Durability::GroupCommit)).unwrap();
        let after = options.storage(Arc::new(disk.crash_clone(0, Profile::Posix)));
        assert_eq!(after.background_threads(false).open("wal").unwrap().last_lsn(), Lsn(9), "{name}");
    });
}

/// A record every quarter of the window, and a power cut after each: whatever is older than the window is there.
#[test]
fn a_stream_of_records_is_never_further_behind_than_the_window() {
    for_each(|name, options, window| {
        let (disk, clock) = (SimDisk::new(), Arc::new(Watched::default()));
        let wal = options.clone().storage(Arc::new(disk.clone())).clock(clock.clone()).open("wal").unwrap();
        let mut accepted_at = Vec::new();
        let mut lost_most = 0;
        for step in 0..8 {
            wal.append(b"one of many").unwrap();
            accepted_at.push(clock.time.monotonic());
            clock.until_seen();
            let now = clock.time.monotonic();
            let must_stay = accepted_at.iter().filter(|at| **at + window <= now).count();
            let after = disk.crash_clone(step, Profile::Posix);
            let log = options.clone().storage(Arc::new(after)).background_threads(false).open("wal").unwrap();
            let stayed = log.last_lsn().0 as usize;
            assert!(stayed >= must_stay, "{name}, step {step}: {stayed} of {must_stay}");
            lost_most = lost_most.max(accepted_at.len() - stayed);
            clock.time.advance(window / 4);
        }
        assert_eq!(lost_most, if window.is_zero() { 0 } else { 4 }, "{name}: a window of records");
    });
}

const DIR: &str = "BRAIDLOG_TEST_PRESET_IN";

#[test]
fn a_kill_costs_what_the_preset_states_and_no_more() {
    const NAME: &str = "a_kill_costs_what_the_preset_states_and_no_more";
    if let Some(dir) = std::env::var_os(DIR).map(PathBuf::from) {
        write_until_killed(&dir);
    }
    let dir = tempfile::tempdir().unwrap();
    for_each(|name, options, window| {
        let dir = dir.path().join(name);
        let mut child = Command::new(std::env::current_exe().unwrap())
            .args(["--exact", NAME, "--nocapture", "--test-threads=1"])
            .env(DIR, &dir)
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let mut lines = BufReader::new(child.stdout.take().unwrap()).lines().map(Result::unwrap);
        assert!(lines.any(|line| line == "@written"), "{name}: it got so far");
        child.kill().unwrap();
        child.wait().unwrap();
        assert_eq!(options.open(&dir).unwrap().last_lsn(), left(window), "{name}");
    });
}

fn write_until_killed(dir: &Path) -> ! {
    let name = dir.file_name().unwrap();
    let (_, options, window) = presets().into_iter().find(|(preset, ..)| name == *preset).unwrap();
    let clock = Arc::new(Watched::default());
    let wal = options.clock(clock.clone()).open(dir).unwrap();
    write(&wal, &clock, window);
    std::io::stdout().write_all(b"\n@written\n").unwrap();
    loop {
        thread::park();
    }
}

#[test]
fn presets_have_the_figures_that_they_state() {
    let due_after = |records| CheckpointPolicy::default().records(Some(records));
    let figures = presets().map(|(name, options, _)| (name, options.checkpoint_policy));
    assert_eq!(
        figures,
        [
            ("max_durability", due_after(1_000)),
            ("default", due_after(1_000)),
            ("balanced", due_after(10_000)),
            ("high_throughput", due_after(100_000)),
            ("performance", due_after(100_000)),
            ("development", due_after(100_000)),
        ]
    );
    assert_eq!(Options::max_durability().mode, DurabilityMode::Synchronous);
    assert_eq!(Options::max_durability().retention, Retention::segments(10).checkpoints(7));
    assert_eq!(Options::high_throughput().segment_size, 256 << 20);
    let development = Options::development();
    let memory = development.num_stripes * development.stripe_capacity;
    assert_eq!((memory, development.segment_size), (1 << 20, 8 << 20));
}
