//! One measurement: a peer, a workload, threads, bytes and memory. What is measured together is listed here.

use std::fmt;

use clap::ValueEnum;
use serde::{Deserialize, Serialize};

/// What is done.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug, Serialize, Deserialize, ValueEnum)]
#[serde(rename_all = "kebab-case")]
pub enum Workload {
    /// Appends that wait for nothing; then one flush
    Async,
    /// Each append waits until it is durable
    Durable,
    /// Batches of 100 with one wait
    Pipelined,
    /// 10,000 records of each thread on their way to the disk
    Tickets,
    /// What one call takes: one thread, 1 call in 64 timed
    AppendCall,
    /// Opening and reading all
    Replay,
}

impl Workload {
    /// All of them, in the order in which they run.
    pub const ALL: &[Workload] = &[
        Workload::Async,
        Workload::Durable,
        Workload::Pipelined,
        Workload::Tickets,
        Workload::AppendCall,
        Workload::Replay,
    ];

    /// With how many threads it runs.
    pub fn threads(self) -> &'static [u32] {
        match self {
            Workload::Async | Workload::Durable => &[1, 4, 16, 64],
            Workload::Pipelined | Workload::Tickets => &[1, 4],
            Workload::AppendCall | Workload::Replay => &[1],
        }
    }

    /// With records of how many bytes it runs.
    pub fn record_bytes(self) -> &'static [usize] {
        match self {
            Workload::Async => &[128, 1024, 65536],
            _ => &[128],
        }
    }

    /// In which states of memory it runs: syncs leave no time in which memory could matter.
    pub fn memories(self) -> &'static [Memory] {
        match self {
            Workload::Async | Workload::Tickets | Workload::Replay => &[Memory::Fresh, Memory::Warm],
            Workload::Durable | Workload::Pipelined | Workload::AppendCall => &[Memory::Fresh],
        }
    }

    /// Whether each append waits until it is durable.
    pub fn is_durable(self) -> bool {
        matches!(self, Workload::Durable | Workload::Pipelined)
    }
}

impl fmt::Display for Workload {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.to_possible_value().expect("no workload is skipped").get_name())
    }
}

/// In which state a cell finds the memory of the machine.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug, Serialize, Deserialize, ValueEnum)]
#[serde(rename_all = "kebab-case")]
pub enum Memory {
    /// Page cache dropped. A replay reads from the disk
    Fresh,
    /// Gigabytes touched and freed just before. A replay finds its files in the page cache
    Warm,
}

impl fmt::Display for Memory {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.to_possible_value().expect("no memory is skipped").get_name())
    }
}

/// What is measured together: the peers of it stand side by side in one table.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug, Serialize, Deserialize)]
pub struct Place {
    /// What is done.
    pub workload: Workload,
    /// Bytes of each record.
    pub record_bytes: usize,
    /// The state of memory.
    pub memory: Memory,
    /// How many threads append.
    pub threads: u32,
}

impl fmt::Display for Place {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Place { workload, record_bytes, memory, threads } = self;
        write!(f, "{workload}, {record_bytes} B, {memory} memory, {threads} thr")
    }
}

/// One measurement, once.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct Cell {
    /// Where it stands.
    #[serde(flatten)]
    pub place: Place,
    /// The name of the peer.
    pub peer: String,
}

/// A choice of places.
#[derive(Clone, PartialEq, Eq, Default, Debug)]
pub struct Choice {
    /// These workloads only; empty: all.
    pub workloads: Vec<Workload>,
    /// These threads only; empty: all that a workload has.
    pub threads: Vec<u32>,
    /// These sizes only; empty: all that a workload has.
    pub record_bytes: Vec<usize>,
    /// These states of memory only; empty: all that a workload has.
    pub memories: Vec<Memory>,
}

impl Choice {
    /// The places that are chosen, in the order in which they run.
    pub fn places(&self) -> Vec<Place> {
        fn is_chosen<T: PartialEq>(chosen: &[T], value: &T) -> bool {
            chosen.is_empty() || chosen.contains(value)
        }
        let mut places = Vec::new();
        for &workload in Workload::ALL.iter().filter(|workload| is_chosen(&self.workloads, workload)) {
            for &record_bytes in
                workload.record_bytes().iter().filter(|bytes| is_chosen(&self.record_bytes, bytes))
            {
                for &memory in workload.memories().iter().filter(|memory| is_chosen(&self.memories, memory)) {
                    for &threads in
                        workload.threads().iter().filter(|threads| is_chosen(&self.threads, threads))
                    {
                        // Large records saturate the device from few threads and past any cache.
                        if record_bytes == 128 || threads <= 4 && memory == Memory::Fresh {
                            places.push(Place { workload, record_bytes, memory, threads });
                        }
                    }
                }
            }
        }
        places
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn choice_of_nothing_is_all_and_a_choice_is_no_more_than_chosen() {
        let all = Choice::default().places();
        assert!(Workload::ALL.iter().all(|&workload| all.iter().any(|place| place.workload == workload)));
        let choice = Choice {
            workloads: vec![Workload::Async],
            threads: vec![4],
            record_bytes: vec![128],
            memories: vec![Memory::Warm],
        };
        let place = Place { workload: Workload::Async, record_bytes: 128, memory: Memory::Warm, threads: 4 };
        assert_eq!(choice.places(), [place]);
        assert_eq!(place.to_string(), "async, 128 B, warm memory, 4 thr");
    }
}
