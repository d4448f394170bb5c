//! What more cores would do: a model for machines that are not at hand, fed with what is measured on this one, and
//! held against it.
//!
//! # Asynchronous appends: three closed queueing networks, one in the other
//! 1. *Writers.* As many customers as threads run at once. Each works for itself (a delay) and then draws its LSN:
//!    a station that serves one at a time, since the counter's cache line is in one place. The longer the way from
//!    the core that had it last, the longer the service.
//! 2. *Rings.* The customers are rounds: as many as the used stripes hold. They go from the writers, taken together as
//!    one station, to the coordinator and back when their space is released.
//! 3. *Buffers.* Three customers between what the rings yield and the disk.
//!
//! Each is solved by exact mean value analysis (Reiser and Lavenberg: "Mean-value analysis of closed multichain
//! queuing networks", Journal of the ACM 27, 1980). No result exceeds what the processors can do in all.
//!
//! # Durable commits
//! All threads commit in one round after the other: a write and a sync, a wake-up, then for each committer what the
//! waking thread does for it, one after the other, and what it does itself, on as many cores as there are.
//!
//! # The rule
//! What is assumed and not measured is a constant here and is printed beside the table; what the model says of one
//! and two threads on this machine is printed beside what they do.

mod measure;

use std::fmt;

use braidlog_measure::figure::Figure;
use braidlog_measure::workload::RECORD_BYTES;
use serde::Serialize;

pub use measure::measure;

/// Cores that share a cache of the third level.
const CORES_PER_CACHE: u32 = 8;
/// A cache line from another such cache of the socket takes so many times what it takes from a core beside.
const TIMES_IN_SOCKET: f64 = 3.0;
/// And from the other socket.
const TIMES_ACROSS: f64 = 6.0;
/// The share of the coordinator's work that orders frames, and would stay where it is if helpers encoded.
const ORDER_SHARE: f64 = 0.35;
/// Helpers of the design with helpers.
const HELPERS: f64 = 4.0;
/// How many threads append.
const THREADS: [u32; 7] = [1, 2, 4, 8, 16, 32, 64];
/// Bytes that a record of 128 takes in a ring.
const RING_BYTES: f64 = 16.0 + 32.0 + RECORD_BYTES as f64;
/// Stripes and bytes of each, as by default.
const STRIPES: u32 = 16;
const STRIPE_BYTES: f64 = (1 << 20) as f64;
/// Bytes of a round on the disk, as by default, and how many are on their way.
const ROUND_BYTES: f64 = (1 << 20) as f64;
const BUFFERS: u32 = 3;

/// What the model is fed with, and what it says.
#[derive(Clone, Debug, Serialize)]
pub struct Cores {
    /// What was measured here.
    pub inputs: Inputs,
    /// The model beside the machine.
    pub checks: Vec<Check>,
    /// The asynchronous appends of other machines.
    pub asynchronous: Vec<Prediction>,
    /// Their durable commits.
    pub durable: Vec<Prediction>,
}

/// What is measured here: records of 128 bytes, medians of the repetitions.
#[derive(Clone, Copy, PartialEq, Debug, Serialize)]
pub struct Inputs {
    /// An append call, the median, its draw in it.
    pub append_ns: f64,
    /// A draw by one thread alone.
    pub draw_ns: f64,
    /// A cache line's way from one core to the other, when both run.
    pub line_ns: f64,
    /// What the coordinator takes for a record.
    pub coordinator_ns: f64,
    /// What the kernel takes to write it, on a thread of its own.
    pub writing_ns: f64,
    /// What the device takes in large writes, in bytes per second.
    pub disk_bytes_per_second: f64,
    /// Bytes of a record in the log's files.
    pub disk_bytes_per_record: f64,
    /// A write of 4096 bytes and its sync.
    pub sync_us: f64,
    /// From the call that wakes a thread until it runs, on a machine that is idle.
    pub wake_latency_us: f64,
    /// What the waking thread does for each that it wakes.
    pub wake_call_us: f64,
    /// Processor time of a durable commit of 64 threads.
    pub commit_cpu_us: f64,
}

/// The model and the machine.
#[derive(Clone, Debug, Serialize)]
pub struct Check {
    /// Whether the records were durable when their calls returned.
    pub is_durable: bool,
    /// How many threads appended.
    pub threads: u32,
    /// Records per second, as the model says.
    pub predicted: f64,
    /// Records per second, as measured.
    pub measured: Figure,
}

/// A machine that is not here.
#[derive(Clone, Copy, PartialEq, Debug, Serialize)]
pub struct Machine {
    /// Its cores.
    pub cores: u32,
    /// Its sockets.
    pub sockets: u32,
    /// Whether its disk is the one measured; else it takes whatever comes.
    pub has_disk: bool,
}

/// How the log is built.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Design {
    /// As it is.
    Present,
    /// Helpers encode what the coordinator has put in order; wake-ups spread from core to core.
    Helpers,
    /// That, and each socket draws LSNs from a band of its own.
    HelpersAndBands,
}

/// What the model says of one design on one machine.
#[derive(Clone, Copy, PartialEq, Debug, Serialize)]
pub struct Prediction {
    /// The machine.
    pub machine: Machine,
    /// The design.
    pub design: Design,
    /// How many threads append.
    pub threads: u32,
    /// Records per second.
    pub per_second: f64,
    /// The least of the bounds: what to change first.
    pub limit: Limit,
}

/// What bounds a rate.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Limit {
    /// The appending threads themselves.
    Writers,
    /// The cache line of the LSN counter.
    Lsn,
    /// The coordinator.
    Coordinator,
    /// All processors together.
    Processors,
    /// The disk: its bytes, or its syncs.
    Disk,
    /// Waking who waits.
    WakeUps,
}

/// The throughput of so many customers who spend `delay` by themselves and are served at each station in turn.
pub fn throughput(customers: u32, delay: f64, services: &[f64]) -> f64 {
    let mut queues = vec![0.0; services.len()];
    let mut rate = 0.0;
    for count in 1..=customers {
        // Who arrives finds each station as it is, on average, with one customer fewer (the arrival theorem).
        let times: Vec<f64> =
            services.iter().zip(&queues).map(|(service, queue)| service * (1.0 + queue)).collect();
        rate = f64::from(count) / (delay + times.iter().sum::<f64>());
        queues = times.iter().map(|time| rate * time).collect();
    }
    rate
}

impl Inputs {
    /// A draw among so many writers, each equally likely to have drawn last. They fill cache by cache and socket by
    /// socket.
    fn draw_among(&self, writers: u32, machine: Machine, design: Design) -> f64 {
        let per_socket = machine.cores / machine.sockets;
        let in_socket = writers.min(per_socket);
        let near = writers.min(CORES_PER_CACHE);
        let (all, far) = match design {
            Design::HelpersAndBands => (in_socket, 0),
            Design::Present | Design::Helpers => (writers, writers - in_socket),
        };
        let times = f64::from(near - 1)
            + f64::from(in_socket - near) * TIMES_IN_SOCKET
            + f64::from(far) * TIMES_ACROSS;
        self.draw_ns + self.line_ns * times / f64::from(all)
    }

    /// Asynchronous appends, the disk in the figure.
    pub fn asynchronous(&self, machine: Machine, design: Design, threads: u32) -> Prediction {
        let cores = machine.cores;
        let running = threads.min(if cores > 2 { cores - 1 } else { cores });
        let draw = self.draw_among(running, machine, design);
        let counters = match design {
            Design::HelpersAndBands => f64::from(running.div_ceil(cores / machine.sockets)),
            Design::Present | Design::Helpers => 1.0,
        };
        let own = self.append_ns - self.draw_ns;
        let writers = throughput(running.div_ceil(counters as u32), own, &[draw]) * counters;
        let coordinator = match design {
            Design::Present => self.coordinator_ns,
            Design::Helpers | Design::HelpersAndBands => {
                self.coordinator_ns * ORDER_SHARE.max((1.0 - ORDER_SHARE) / HELPERS)
            }
        };
        let rounds = f64::from(threads.min(STRIPES)) * STRIPE_BYTES
            / RING_BYTES
            / (ROUND_BYTES / self.disk_bytes_per_record);
        let in_rings = throughput(rounds.floor().max(1.0) as u32, 0.0, &[1.0 / writers, coordinator]);
        let disk = if machine.has_disk {
            self.disk_bytes_per_record * 1e9 / self.disk_bytes_per_second
        } else {
            0.0
        };
        let written = throughput(BUFFERS, 0.0, &[1.0 / in_rings, disk]);
        let processors = f64::from(cores) / (self.append_ns + self.coordinator_ns + self.writing_ns);
        let bounds = [
            (f64::from(running) / (own + draw), Limit::Writers),
            (counters / draw, Limit::Lsn),
            (1.0 / coordinator, Limit::Coordinator),
            (processors, Limit::Processors),
            (1.0 / disk, Limit::Disk),
        ];
        let limit = bounds.into_iter().min_by(|one, other| one.0.total_cmp(&other.0)).expect("five").1;
        Prediction { machine, design, threads, per_second: written.min(processors) * 1e9, limit }
    }

    /// Durable commits of threads that wait for each.
    pub fn durable(&self, machine: Machine, design: Design, threads: u32) -> Prediction {
        let woken = f64::from(threads - 1);
        let at_once = f64::from(threads.min(machine.cores));
        let wakers = if design == Design::Present { 1.0 } else { at_once.sqrt() };
        let calls = woken * self.wake_call_us / wakers;
        let themselves = f64::from(threads) * (self.commit_cpu_us - self.wake_call_us).max(0.0) / at_once;
        let waking = if threads == 1 { 0.0 } else { self.wake_latency_us + calls + themselves };
        let round = self.sync_us + self.append_ns / 1e3 + waking;
        let bounds = [
            (self.sync_us, Limit::Disk),
            (calls + self.wake_latency_us, Limit::WakeUps),
            (themselves, Limit::Processors),
        ];
        let limit = bounds.into_iter().max_by(|one, other| one.0.total_cmp(&other.0)).expect("three").1;
        Prediction { machine, design, threads, per_second: f64::from(threads) * 1e6 / round, limit }
    }
}

impl Inputs {
    fn of(&self, machine: Machine, design: Design, threads: u32, is_durable: bool) -> Prediction {
        if is_durable {
            self.durable(machine, design, threads)
        } else {
            self.asynchronous(machine, design, threads)
        }
    }

    fn table(&self, is_durable: bool) -> Vec<Prediction> {
        let mut rows = Vec::new();
        for (cores, sockets) in [(2, 1), (16, 1), (64, 1), (64, 2)] {
            for has_disk in [true, false] {
                for design in [Design::Present, Design::Helpers, Design::HelpersAndBands] {
                    // Bands change nothing on one socket, nor for commits; commits always have their disk.
                    let is_told = (design != Design::HelpersAndBands || (sockets > 1 && !is_durable))
                        && (has_disk || !is_durable)
                        && (design == Design::Present || cores > 2);
                    let machine = Machine { cores, sockets, has_disk };
                    let row = |threads| self.of(machine, design, threads, is_durable);
                    rows.extend(THREADS.map(row).into_iter().filter(|_| is_told));
                }
            }
        }
        rows
    }
}

impl Design {
    fn name(self) -> &'static str {
        match self {
            Design::Present => "as it is",
            Design::Helpers => "helpers",
            Design::HelpersAndBands => "helpers, bands",
        }
    }
}

impl Limit {
    fn letter(self) -> char {
        match self {
            Limit::Writers => 'w',
            Limit::Lsn => 'l',
            Limit::Coordinator => 'c',
            Limit::Processors => 'p',
            Limit::Disk => 'd',
            Limit::WakeUps => 'k',
        }
    }
}

impl fmt::Display for Cores {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Inputs {
            append_ns,
            draw_ns,
            line_ns,
            coordinator_ns,
            writing_ns,
            disk_bytes_per_second,
            disk_bytes_per_record,
            sync_us,
            wake_latency_us,
            wake_call_us,
            commit_cpu_us,
        } = self.inputs;
        writeln!(f, "a model of more cores, 128 bytes; measured here:")?;
        writeln!(
            f,
            "  append {append_ns:.1} ns, of it a draw {draw_ns:.1}; a cache line's way {line_ns:.1} ns"
        )?;
        writeln!(
            f,
            "  coordinator {coordinator_ns:.1} ns a record, the kernel's part of the write {writing_ns:.1}"
        )?;
        let mib = disk_bytes_per_second / f64::from(1 << 20);
        writeln!(
            f,
            "  disk {mib:.0} MiB/s, {disk_bytes_per_record:.1} bytes a record; write + sync {sync_us:.1} us"
        )?;
        writeln!(
            f,
            "  wake-up: {wake_latency_us:.1} us until it runs, {wake_call_us:.2} us of the call for each of 64"
        )?;
        writeln!(f, "  processor time of a commit of 64 threads {commit_cpu_us:.2} us")?;
        writeln!(
            f,
            "assumed: {CORES_PER_CACHE} cores share a cache, a line takes {TIMES_IN_SOCKET} times as long from another of the"
        )?;
        writeln!(
            f,
            "  socket, {TIMES_ACROSS} times from the other socket; helpers: {HELPERS}, {ORDER_SHARE} of the coordinator's work stays"
        )?;
        writeln!(f, "the model beside this machine, records per second")?;
        for Check { is_durable, threads, predicted, measured } in &self.checks {
            let mode = if *is_durable { "GroupCommit" } else { "Async" };
            writeln!(f, "  {mode:11} {threads:2} threads: model {predicted:.0}, measured {measured:.0}")?;
        }
        writeln!(f, "limited by: d disk, c coordinator, l LSN counter, w writers, p processors, k wake-ups")?;
        for (what, unit, rows) in
            [("Async, million", 1e6, &self.asynchronous), ("GroupCommit, thousand", 1e3, &self.durable)]
        {
            write!(f, "{:36}", format!("{what} a second; threads"))?;
            THREADS.iter().try_for_each(|threads| write!(f, "{threads:8} "))?;
            writeln!(f)?;
            for row in rows.chunk_by(|one, next| (one.machine, one.design) == (next.machine, next.design)) {
                let Machine { cores, sockets, has_disk } = row[0].machine;
                let disk = if has_disk { "" } else { ", no disk" };
                write!(f, "  {:34}", format!("{cores} cores/{sockets}{disk}, {}", row[0].design.name()))?;
                row.iter().try_for_each(|cell| {
                    write!(f, "{:7.1} {}", cell.per_second / unit, cell.limit.letter())
                })?;
                writeln!(f)?;
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const INPUTS: Inputs = Inputs {
        append_ns: 50.0,
        draw_ns: 4.0,
        line_ns: 20.0,
        coordinator_ns: 40.0,
        writing_ns: 10.0,
        disk_bytes_per_second: 1e9,
        disk_bytes_per_record: 160.0,
        sync_us: 100.0,
        wake_latency_us: 20.0,
        wake_call_us: 1.0,
        commit_cpu_us: 5.0,
    };

    fn machine(cores: u32, sockets: u32) -> Machine {
        Machine { cores, sockets, has_disk: false }
    }

    fn is_close(one: f64, other: f64) -> bool {
        (one / other - 1.0).abs() < 1e-9
    }

    #[test]
    fn throughput_is_that_of_the_networks_whose_solution_is_known() {
        assert!(is_close(throughput(1, 3.0, &[1.0]), 1.0 / 4.0));
        // The machine repairman with two customers: a delay of 1 and a service of 1 (Erlang's loss formula).
        assert!(is_close(throughput(2, 1.0, &[1.0]), 0.8));
        // Balanced stations: customers / (customers + stations - 1).
        assert!(is_close(throughput(3, 0.0, &[1.0, 1.0]), 3.0 / 4.0));
        // Two stations of rates 2 and 1 with two customers.
        assert!(is_close(throughput(2, 0.0, &[0.5, 1.0]), 6.0 / 7.0));
        assert!(
            (throughput(10_000, 1.0, &[0.25, 0.5]) - 2.0).abs() < 1e-3,
            "the slowest station, in the end"
        );
    }

    #[test]
    fn one_writer_alternates_with_its_coordinator_and_many_meet_the_bottleneck() {
        let one = INPUTS.asynchronous(machine(16, 1), Design::Present, 1);
        assert!(is_close(one.per_second, 1e9 / 90.0), "{one:?}");
        let many = INPUTS.asynchronous(machine(64, 1), Design::Present, 64);
        assert_eq!(many.limit, Limit::Lsn);
        assert!(many.per_second < INPUTS.asynchronous(machine(16, 1), Design::Present, 8).per_second);
    }

    #[test]
    fn each_design_lifts_what_it_is_for() {
        let rate =
            |sockets, design, threads| INPUTS.asynchronous(machine(64, sockets), design, threads).per_second;
        assert!(rate(1, Design::Helpers, 4) > rate(1, Design::Present, 4));
        assert!(rate(2, Design::HelpersAndBands, 64) > rate(2, Design::Helpers, 64));
        assert_eq!(rate(2, Design::HelpersAndBands, 16), rate(2, Design::Helpers, 16), "one socket is used");
        let commits = |design| INPUTS.durable(machine(64, 1), design, 64).per_second;
        assert!(commits(Design::Helpers) > commits(Design::Present));
    }

    #[test]
    fn no_prediction_exceeds_the_disk_or_the_processors() {
        for row in INPUTS.table(false) {
            let processors = f64::from(row.machine.cores) * 1e9 / 100.0;
            assert!(row.per_second > 0.0 && row.per_second <= processors, "{row:?}");
            assert!(!row.machine.has_disk || row.per_second <= 1e9 / 160.0, "{row:?}");
        }
        for row in INPUTS.table(true) {
            assert!(row.per_second <= f64::from(row.threads) * 1e6 / INPUTS.sync_us, "{row:?}");
        }
    }
}
