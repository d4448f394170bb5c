//! SIGKILL at random moments, over and over on the same directory, with ever other options.
//!
//! After each kill: every record that was acknowledged, in this round or any before, stands at its LSN; the
//! LSNs are dense; nothing is there twice or was never written; batches are whole; what was found once is
//! found again; `verify` is content. A moment is a number of acknowledgements or of bytes fed, so that some
//! fall into the opening, some into rotations, most between.
//!
//! `BRAIDLOG_KILL_ROUNDS` (50) and `BRAIDLOG_KILL_SEED` (random, printed when the test fails) set the run.

use std::collections::{HashMap, HashSet};
use std::hash::{BuildHasher, RandomState};
use std::io::Write;
use std::path::Path;
use std::process::ChildStdin;
use std::thread;

use braidlog::Wal;

use crate::support::{Live, Random, arg, read_all, run};

/// One life of a writing process.
#[derive(Clone, Debug)]
struct Round {
    number: u64,
    writers: u64,
    durability: &'static str,
    batch: u64,
    blocking: bool,
    segment_size: &'static str,
    kill: Kill,
    /// Whether the library opens and closes the log before the next process does.
    reopen: bool,
}

#[derive(Clone, Copy, Debug)]
enum Kill {
    AfterAcks(u64),
    AfterBytes(u64),
}

impl Round {
    fn random(random: &mut Random, number: u64) -> Round {
        Round {
            number,
            writers: random.pick(&[1, 2, 4, 16]),
            durability: random.pick(&["sync", "group", "group", "async"]),
            batch: random.pick(&[1, 1, 7, 64]),
            blocking: random.below(2) == 0,
            segment_size: random.pick(&["64K", "64K", "256K", "64M"]),
            kill: match random.below(3) {
                0 => Kill::AfterBytes(random.pick(&[0, 1 << 10, 64 << 10, 1 << 20])),
                _ => Kill::AfterAcks(1 + random.below(1200)),
            },
            reopen: random.below(2) == 0,
        }
    }

    fn args(&self, dir: &Path) -> Vec<String> {
        let mut args = vec!["write".to_string(), arg(dir).to_string(), "--ack".to_string()];
        for (name, value) in [
            ("--writers", self.writers.to_string()),
            ("--durability", self.durability.to_string()),
            ("--batch", self.batch.to_string()),
            ("--segment-size", self.segment_size.to_string()),
        ] {
            args.extend([name.to_string(), value]);
        }
        if self.blocking {
            args.push("--blocking".to_string());
        }
        args
    }

    /// Writes, is killed, and gives the acknowledgements that were read from it.
    fn live(&self, dir: &Path, seed: u64) -> Vec<(u64, u64)> {
        let mut writer = Live::start(self.args(dir));
        let stdin = writer.take_stdin();
        let round = self.number;
        let mut acks = Vec::new();
        match self.kill {
            Kill::AfterAcks(count) => {
                // Enough to get there, and more, so that most are killed while they still write.
                let lines = count + self.batch + Random(seed ^ round).below(2000);
                let feeder = thread::spawn(move || feed(stdin, seed, round, lines, u64::MAX));
                while (acks.len() as u64) < count {
                    let ack = writer.next_ack();
                    acks.push(ack.unwrap_or_else(|| panic!("it ended by itself: {:?}", writer.wait())));
                }
                acks.extend(writer.kill_and_drain());
                drop(feeder.join().unwrap());
            }
            Kill::AfterBytes(bytes) => {
                let stdin = feed(stdin, seed, round, u64::MAX, bytes);
                acks.extend(writer.kill_and_drain());
                drop(stdin);
            }
        }
        acks
    }
}

/// Feeds so many lines, or until `bytes` were fed or the process has ended. The pipe comes back open: a
/// process that sees the end of its input ends by itself.
fn feed(mut stdin: ChildStdin, seed: u64, round: u64, lines: u64, bytes: u64) -> ChildStdin {
    let mut fed = 0;
    for line in 1..=lines {
        let mut text = payload(seed, round, line);
        text.push(b'\n');
        if fed >= bytes || stdin.write_all(&text).is_err() {
            break;
        }
        fed += text.len() as u64;
    }
    stdin
}

/// The line with this number: its name, and bytes that nothing but its name and the seed decide. Most are
/// short, some longer than a page, a few longer than what is left of a small segment.
fn payload(seed: u64, round: u64, line: u64) -> Vec<u8> {
    let mut random = Random(seed ^ (round << 32) ^ line);
    let filler = match random.below(400) {
        0 => random.below(100_000),
        1..9 => random.below(10_000),
        _ => random.below(300),
    };
    let mut text = format!("{round} {line} ").into_bytes();
    text.extend((0..filler).map(|at| b' '.wrapping_add((at as u8).wrapping_mul(31) % 200)));
    text.retain(|byte| *byte != b'\n');
    text
}

/// The round and line that a payload names.
fn name_of(payload: &[u8]) -> Option<(u64, u64)> {
    let mut words = payload.splitn(3, |byte| *byte == b' ').map(|word| std::str::from_utf8(word).ok());
    Some((words.next()??.parse().ok()?, words.next()??.parse().ok()?))
}

/// Everything that is known without looking into the log.
#[derive(Default)]
struct Known {
    seed: u64,
    rounds: Vec<Round>,
    /// The round and line that each acknowledged LSN was given to.
    acknowledged: HashMap<u64, (u64, u64)>,
    /// What was found last time, in LSN order.
    found: Vec<(u64, u64)>,
}

impl Known {
    fn check(&mut self, dir: &Path) {
        let verified = run(["verify", arg(dir)]);
        assert_eq!(verified.code, Some(0), "{verified:?}");

        let mut found = Vec::new();
        let mut batch_rest = None;
        for record in read_all(dir) {
            let lsn = record.lsn;
            let name = name_of(&record.payload).unwrap_or_else(|| panic!("LSN {lsn} was never written"));
            assert!(
                record.payload == payload(self.seed, name.0, name.1),
                "LSN {lsn} is not what was written"
            );
            let (round, line) = name;
            let batch = self.rounds[round as usize].batch;
            if let Some(expected) = batch_rest {
                assert_eq!(name, expected, "LSN {lsn} stands inside a batch");
            } else {
                assert_eq!((line - 1) % batch, 0, "LSN {lsn} does not begin a batch");
            }
            batch_rest = (line % batch != 0).then_some((round, line + 1));
            found.push(name);
        }
        assert_eq!(batch_rest, None, "the last batch is not whole");
        let names: HashSet<_> = found.iter().collect();
        assert_eq!(names.len(), found.len(), "a line is there twice");
        for (lsn, name) in &self.acknowledged {
            assert_eq!(found.get(*lsn as usize - 1), Some(name), "LSN {lsn} was acknowledged");
        }
        assert!(found.starts_with(&self.found), "what was found once is found again");
        self.found = found;
    }
}

fn number_from_environment(name: &str) -> Option<u64> {
    let value = std::env::var(name).ok()?;
    Some(value.parse().unwrap_or_else(|_| panic!("{name} is no number: {value}")))
}

#[test]
fn acknowledged_records_survive_sigkill_at_random_moments() {
    let rounds = number_from_environment("BRAIDLOG_KILL_ROUNDS").unwrap_or(50);
    let seed =
        number_from_environment("BRAIDLOG_KILL_SEED").unwrap_or_else(|| RandomState::new().hash_one(0));
    println!("BRAIDLOG_KILL_SEED={seed} BRAIDLOG_KILL_ROUNDS={rounds}");

    let dir = tempfile::tempdir().unwrap();
    let mut random = Random(seed);
    let mut known = Known { seed, ..Known::default() };
    for number in 0..rounds {
        let round = Round::random(&mut random, number);
        println!("{round:?}");
        let (kill, reopen) = (round.kill, round.reopen);
        known.rounds.push(round.clone());
        for (line, lsn) in round.live(dir.path(), seed) {
            let before = known.acknowledged.insert(lsn, (number, line));
            assert_eq!(before, None, "LSN {lsn} was acknowledged before");
        }
        if !dir.path().join("LOCK").exists() {
            // It was killed before it had opened anything.
            assert!(matches!(kill, Kill::AfterBytes(_)) && known.acknowledged.is_empty());
            continue;
        }
        known.check(dir.path());
        if reopen {
            let wal = Wal::options().open(dir.path()).expect("the log opens again");
            assert_eq!(wal.last_lsn().0, known.found.len() as u64, "opening keeps what reading shows");
            wal.close().unwrap();
            known.check(dir.path());
        }
    }
    assert!(
        rounds < 20 || known.acknowledged.len() > 100,
        "hardly anything was written: the run shows nothing"
    );
    let end = run(["write", arg(dir.path()), arg(Path::new("/dev/null"))]);
    assert_eq!(end.code, Some(0), "the log opens in the end: {end:?}");
    known.check(dir.path());
}
