//! The power is cut under the release binary: `braidlog write` on a mounted simulated disk.
//!
//! A chain is one log and several cuts. The binary is fed lines and prints what it acknowledges; at a drawn
//! number of acknowledgements, or at a drawn operation on files (recovery's, too), the disk stops and an image of
//! what a power cut leaves is made. The binary is killed, or left to find out that its disk answers nothing but
//! errors. The image is mounted, `verify` and `cat` must be content with it and show every line that was
//! acknowledged, and the next `write` goes on.
//!
//! The rule: a seed draws everything but the interleaving. Where no FUSE file system can be mounted the harness
//! says so, counts no cut, and the simulated disk under the library has to stand in.

mod fuse;

use std::io;
use std::path::{Path, PathBuf};
use std::time::Instant;

use braidlog_sim::{Profile, Rng, SimDisk};
use tempfile::TempDir;

use crate::command::{self, Event, Writing};
use crate::counts::Counts;
use crate::extent::on_all_cores;
use crate::line_oracle::{LineOracle, text_of};
use fuse::{Fuse, Mounted, Outcome};

/// How many cuts one log sees.
const CHAIN_CUTS: u64 = 5;
/// What is counted when the power was cut and the image was checked.
const CUTS: &str = "power cuts";

/// Cuts the power `cuts` times, in chains of five on one log, on all cores. Chain `n` is drawn from `seed + n`.
/// After `deadline` no new cut is begun.
///
/// Without FUSE it prints why, and counts nothing.
///
/// # Panics
/// If a promise of the log is broken.
pub fn run(cuts: u64, seed: u64, deadline: Option<Instant>) -> Counts {
    if let Err(why) = probe() {
        println!(
            "SKIPPED: no power cut of the release binary, as no FUSE file system can be mounted ({why}); the \
             simulated disk under the library stands in for it"
        );
        return Counts::default();
    }
    on_all_cores(cuts.div_ceil(CHAIN_CUTS), deadline, |number| {
        let cuts = CHAIN_CUTS.min(cuts - number * CHAIN_CUTS);
        let mut chain = Chain::new(seed + number, None);
        if let Err(broken) = chain.run(cuts, deadline) {
            panic!(
                "{broken}\nagain: cargo run --release -p braidlog-proof -- power-cut --rounds {cuts} --seed {}",
                seed + number
            );
        }
        chain.counts
    })
}

/// The control: one chain on a disk that ignores flushes. What the harness noticed, or `None` if it noticed
/// nothing in all the cuts; an error if no FUSE file system can be mounted.
///
/// # Errors
/// What the system says against mounting.
pub fn notices_a_lying_disk(seed: u64) -> io::Result<Option<String>> {
    probe()?;
    Ok(Chain::new(seed, Some(Profile::LyingDisk)).run(CHAIN_CUTS, None).err())
}

/// Whether a FUSE file system can be mounted. Mounts that a killed run has left behind go first.
fn probe() -> io::Result<()> {
    fuse::sweep()?;
    let place = TempDir::new()?;
    let outcome = Outcome { seed: 0, profile: Profile::Ordered };
    let mounted = Mounted::new(SimDisk::new(), place.path(), outcome, true)?;
    mounted.cut();
    mounted.unmount().map(drop)
}

/// One log and the cuts that it goes through.
struct Chain {
    place: TempDir,
    rng: Rng,
    seed: u64,
    /// The profile of every cut, if it is not to be drawn.
    profile: Option<Profile>,
    has_direct_io: bool,
    oracle: LineOracle,
    counts: Counts,
}

/// One run of the command, and its end.
#[derive(Debug)]
struct Plan {
    options: Vec<String>,
    batch: u64,
    lines: u64,
    cut: Cut,
    /// Whether the process dies with the power, or finds out.
    is_killed: bool,
}

/// When the power is cut; if the process ends before, then at once.
#[derive(Clone, Copy, Debug)]
enum Cut {
    AfterAcks(u64),
    AtOperation(Fuse),
}

impl Chain {
    fn new(seed: u64, profile: Option<Profile>) -> Chain {
        let mut rng = Rng::new(seed);
        Chain {
            place: TempDir::new().expect("there is a place for temporary files"),
            has_direct_io: !rng.one_in(3),
            rng,
            seed,
            profile,
            oracle: LineOracle::new(seed),
            counts: Counts::default(),
        }
    }

    fn run(&mut self, cuts: u64, deadline: Option<Instant>) -> Result<(), String> {
        let mut disk = SimDisk::new();
        let mut done = 0;
        for number in 0..cuts {
            if deadline.is_some_and(|deadline| Instant::now() >= deadline) {
                break;
            }
            let plan = self.plan();
            disk = self.cut(disk, &plan).map_err(|broken| {
                format!(
                    "seed {}, cut {number}, direct I/O {}: {broken}: {plan:?}",
                    self.seed, self.has_direct_io
                )
            })?;
            done += 1;
        }
        self.finish(disk).map_err(|broken| format!("seed {}, at the end: {broken}", self.seed))?;
        self.counts.add(CUTS, done);
        self.counts.add("logs", 1);
        self.counts.add("acknowledged lines checked", self.oracle.acknowledged());
        self.counts.add("records checked", self.oracle.found());
        Ok(())
    }

    fn plan(&mut self) -> Plan {
        let rng = &mut self.rng;
        let pick = |rng: &mut Rng, of: &[u64]| of[rng.index(of.len())];
        let batch = pick(rng, &[1, 1, 1, 7, 50]);
        let durability = ["sync", "group", "group", "async"][rng.index(4)];
        let segment_size = ["64K", "64K", "256K", "1M"][rng.index(4)];
        let mut options: Vec<String> = ["--durability", durability, "--segment-size", segment_size]
            .map(str::to_owned)
            .into_iter()
            .chain(["--writers".into(), pick(rng, &[1, 2, 4, 16]).to_string()])
            .chain(["--batch".into(), batch.to_string()])
            .collect();
        if rng.one_in(2) {
            options.push("--blocking".into());
        }
        let cut = match rng.below(5) {
            // Recovery takes the first tens of operations.
            0 => Cut::AtOperation(Fuse { operation: rng.below(30), takes_effect: rng.one_in(2) }),
            1 | 2 => {
                let operation = (8 << rng.below(6)) + rng.below(32);
                Cut::AtOperation(Fuse { operation, takes_effect: rng.one_in(2) })
            }
            _ => Cut::AfterAcks(1 + rng.below(2000)),
        };
        // More than the cut needs, or so few that some end in time and close the log. Whole batches only: input
        // that ends within one would make a shorter one of the rest.
        let most = if rng.one_in(8) { 50 } else { 10_000 };
        let lines = (most + rng.below(500)).next_multiple_of(batch);
        Plan { options, batch, lines, cut, is_killed: rng.one_in(2) }
    }

    fn outcome(&mut self) -> Outcome {
        let drawn = if self.rng.one_in(4) { Profile::Ordered } else { Profile::Posix };
        Outcome { seed: self.rng.next_u64(), profile: self.profile.unwrap_or(drawn) }
    }

    fn mount(&mut self, disk: SimDisk) -> Mounted {
        let outcome = self.outcome();
        let mounted = Mounted::new(disk, self.place.path(), outcome, self.has_direct_io);
        mounted.expect("the disk can be mounted, as it could before")
    }

    fn dir(&self) -> PathBuf {
        self.place.path().join("wal")
    }

    /// Checks what the last cut has left, and lets the command go on from there until the power is cut again: the
    /// disk after that.
    fn cut(&mut self, disk: SimDisk, plan: &Plan) -> Result<SimDisk, String> {
        let mounted = self.mount(disk);
        self.look()?;
        self.write(&mounted, plan)?;
        self.counts.add("files opened for direct I/O", mounted.direct_opens());
        Ok(mounted.unmount().expect("nobody uses the mount any more"))
    }

    fn write(&mut self, mounted: &Mounted, plan: &Plan) -> Result<(), String> {
        let (sender, receiver) = command::events();
        if let Cut::AtOperation(fuse) = plan.cut {
            let sender = sender.clone();
            mounted.arm(fuse, move || {
                // Nobody listens once the process has ended.
                let _ = sender.send(Event::Call);
            });
        }
        let (seed, round) = (self.seed, self.oracle.begin(plan.batch));
        let text = move |line| text_of(seed, round, line);
        let mut writing = Writing::start(&self.dir(), &plan.options, plan.lines, text, (sender, receiver));
        let (mut acks, mut is_cut) = (0, false);
        let mut acknowledged = Vec::new();
        loop {
            match writing.next_event() {
                Event::Ack { line, lsn } => {
                    acknowledged.push((line, lsn));
                    acks += 1;
                    let Cut::AfterAcks(most) = plan.cut else { continue };
                    if acks != most {
                        continue;
                    }
                    mounted.cut();
                }
                Event::Call => {}
                Event::Ended => break,
            }
            is_cut = true;
            if plan.is_killed {
                writing.kill();
            }
        }
        // A cut right after the end of the process, if it came to its end.
        mounted.cut();
        let (status, said, fed) = writing.wait();
        self.oracle.fed(fed);
        for (line, lsn) in acknowledged {
            self.oracle.acknowledge(line, lsn)?;
        }
        let name = match (plan.cut, is_cut, plan.is_killed) {
            (_, false, _) => "power cuts after the process had ended",
            (Cut::AfterAcks(_), ..) => "power cuts after an acknowledgement",
            (Cut::AtOperation(_), ..) => "power cuts at an operation",
        };
        self.counts.add(name, 1);
        // A process whose disk is gone says so and ends; it does not panic, and it does not hang.
        match status.code() {
            Some(0) => Ok(()),
            Some(1) if is_cut => Ok(()),
            None if is_cut && plan.is_killed => Ok(()),
            _ => Err(format!("I10: the process ended as it should not ({status}): {said}")),
        }
    }

    /// Reads the log with the command, and holds it against what is known.
    fn look(&mut self) -> Result<(), String> {
        let dir = self.dir();
        if !has_log(&dir) {
            return self.oracle.check(&[]);
        }
        let last = command::verify(&dir)?;
        let records = command::cat(&dir)?;
        if last != records.len() as u64 {
            return Err(format!("verify reads to LSN {last}, and cat to {}", records.len()));
        }
        self.oracle.check(&records)
    }

    /// The log goes on, is closed, and shows everything, whatever the power does then.
    fn finish(&mut self, disk: SimDisk) -> Result<(), String> {
        let never = Cut::AfterAcks(u64::MAX);
        let plan = Plan { options: Vec::new(), batch: 1, lines: 20, cut: never, is_killed: false };
        let disk = self.cut(disk, &plan)?;
        let mounted = self.mount(disk);
        self.look()?;
        mounted.cut();
        mounted.unmount().expect("nobody uses the mount any more");
        Ok(())
    }
}

/// Whether there is a segment: before the first is durable there is no log, and nothing was acknowledged.
fn has_log(dir: &Path) -> bool {
    let names = std::fs::read_dir(dir).into_iter().flatten();
    names.filter_map(Result::ok).any(|entry| entry.path().extension().is_some_and(|found| found == "wal"))
}
