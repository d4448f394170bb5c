//! On what a figure was measured. A fact that cannot be found out is said to be unknown.
//!
//! The facts are Linux's; elsewhere most are unknown.

use std::fs;
use std::path::Path;
use std::thread;

use serde::Serialize;

/// The facts that a published figure carries.
#[derive(Clone, Debug, Serialize)]
pub struct Machine {
    /// The processor's name.
    pub processor: String,
    /// Threads that run at once.
    pub threads: usize,
    /// The kernel's release.
    pub kernel: String,
    /// Type, device and options of the file system that was written to.
    pub file_system: String,
    /// The system's load of the last minute when the measurement began: what disturbed it.
    pub load: String,
}

impl Machine {
    /// The machine that this runs on, and the file system of `dir`.
    pub fn here(dir: &Path) -> Machine {
        let processor = read("/proc/cpuinfo")
            .lines()
            .find_map(|line| line.strip_prefix("model name")?.split_once(':'))
            .map_or_else(unknown, |(_, name)| name.trim().to_owned());
        Machine {
            processor,
            threads: thread::available_parallelism().map_or(0, usize::from),
            kernel: or_unknown(read("/proc/sys/kernel/osrelease").trim()),
            file_system: file_system(dir),
            load: or_unknown(read("/proc/loadavg").split(' ').next().unwrap_or_default()),
        }
    }
}

/// The mount with the longest path that is a beginning of `dir`'s.
fn file_system(dir: &Path) -> String {
    let dir = dir.canonicalize().unwrap_or_else(|_| dir.to_owned());
    let mounts = read("/proc/mounts");
    let mounts = mounts.lines().filter_map(|line| {
        let fields: Vec<&str> = line.split(' ').collect();
        let [device, path, kind, options, ..] = fields[..] else { return None };
        dir.starts_with(path).then(|| (path.len(), format!("{kind} on {device} ({options})")))
    });
    mounts.max().map_or_else(unknown, |(_, mount)| mount)
}

fn read(path: &str) -> String {
    fs::read_to_string(path).unwrap_or_default()
}

fn or_unknown(text: &str) -> String {
    if text.is_empty() { unknown() } else { text.to_owned() }
}

fn unknown() -> String {
    "unknown".to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nothing_is_left_out() {
        let machine = Machine::here(&std::env::temp_dir());
        assert!(machine.threads > 0);
        for fact in [machine.processor, machine.kernel, machine.file_system, machine.load] {
            assert!(!fact.is_empty());
        }
    }
}
