//! Tables in Markdown: one for each workload, with peers down and threads across, and one with all details.
//!
//! The rule: a figure is the median of the repetitions. One of a wrong result carries a mark, and the notes
//! say what was wrong.

use std::fmt::Write;

use crate::cell::{Place, Workload};
use crate::outcome::Outcome;
use crate::peer::LIST;
use crate::report::Report;

/// The peer that the ratios are of.
const OURS: &str = "braidlog";

/// All tables of a report.
pub fn all(report: &Report) -> String {
    let mut text = head(report);
    let places = report.places();
    let mut groups: Vec<Place> = places.iter().map(|place| Place { threads: 0, ..*place }).collect();
    groups.dedup();
    for group in groups {
        let columns: Vec<Place> =
            places.iter().filter(|place| Place { threads: 0, ..**place } == group).copied().collect();
        let Place { workload, record_bytes, memory, .. } = group;
        let _ = write!(text, "\n## {workload}, {record_bytes} B, {memory} memory\n\n{}\n\n", about(workload));
        text += &rates(report, &columns);
        text += "\n";
        text += &details(report, &columns);
    }
    text
}

fn head(report: &Report) -> String {
    let mut text = String::from("# Braidlog beside other logs\n\n");
    for (key, value) in report.machine.as_object().into_iter().flatten() {
        let _ =
            writeln!(text, "* {key}: {}", value.as_str().map_or_else(|| value.to_string(), str::to_owned));
    }
    let repetitions = report.measured.iter().map(|measured| measured.repetition + 1).max().unwrap_or(0);
    let versions: Vec<String> =
        report.versions.iter().map(|(name, version)| format!("{name} {version}")).collect();
    let _ = writeln!(text, "* repetitions: {repetitions}; a figure is their median");
    let _ = writeln!(text, "* command: `{}`", report.command);
    if !versions.is_empty() {
        let _ = writeln!(text, "* versions: {}", versions.join(", "));
    }
    for memory in [crate::cell::Memory::Fresh, crate::cell::Memory::Warm] {
        let rates = report.measured.iter().filter(|measured| measured.cell.place.memory == memory);
        let rates: Vec<f64> = rates.map(|measured| measured.page_cache_rate / 1e9).collect();
        if !rates.is_empty() {
            let rate = braidlog_benches::figure::Figure::of(rates);
            let _ = writeln!(text, "* page cache, {memory} memory: {rate:.2} GB/s before a cell");
        }
    }
    text
}

fn about(workload: Workload) -> &'static str {
    match workload {
        Workload::Async => "Records per second, from the first append until all is on the device.",
        Workload::Durable => "Records per second, each waited for by its thread.",
        Workload::Pipelined => {
            "Records per second in batches of 100 with one wait; the latency is a batch's."
        }
        Workload::Tickets => "Records per second, each thread with 10,000 on their way to the disk.",
        Workload::AppendCall => {
            "Calls per second, final flush included; the latency is one call's, less what the clock takes."
        }
        Workload::Replay => "Records per second, opening included.",
    }
}

/// Peers down, threads across, and the ratios of ours.
fn rates(report: &Report, columns: &[Place]) -> String {
    let peers = report.peers(columns);
    let mut table = Table::new("records/s", columns.iter().map(|place| format!("{} thr", place.threads)));
    for peer in &peers {
        let cells = columns.iter().map(|&place| {
            let Some(figure) = report.figure(place, peer, Outcome::rate) else {
                let has_failed = report.of(place, peer).next().is_some();
                return if has_failed { "failed" } else { "" }.to_owned();
            };
            let all_ran = report.of(place, peer).all(|measured| measured.failure.is_none());
            let mark =
                if all_ran && report.outcomes(place, peer).iter().all(|outcome| outcome.check.is_right()) {
                    ""
                } else {
                    " !"
                };
            format!("{}{mark}", short(figure.median))
        });
        table.row(peer, cells);
    }
    let is_yardstick = |peer: &str| LIST.iter().any(|listed| listed.name == peer && listed.is_yardstick());
    if peers.iter().any(|peer| peer == OURS) && peers.len() > 1 {
        for yardstick in peers.iter().filter(|peer| is_yardstick(peer)) {
            let ratios = columns.iter().map(|&place| ratio(report, place, yardstick));
            table.row(&format!("*{OURS} to {yardstick}*"), ratios);
        }
        let best = columns.iter().map(|&place| {
            let others =
                peers.iter().filter(|peer| peer.split('/').next() != Some(OURS) && !is_yardstick(peer));
            let rate = |peer: &&String| {
                report.figure(place, peer, Outcome::rate).map_or(0.0, |figure| figure.median)
            };
            let best = others.max_by(|one, other| rate(one).total_cmp(&rate(other)));
            best.map_or_else(String::new, |best| ratio(report, place, best))
        });
        if peers.iter().any(|peer| peer.split('/').next() != Some(OURS) && !is_yardstick(peer)) {
            table.row(&format!("*{OURS} to the best peer*"), best.collect::<Vec<_>>());
        }
    }
    table.finish()
}

fn ratio(report: &Report, place: Place, to: &str) -> String {
    report.ratio(place, OURS, to).map_or_else(String::new, |ratio| format!("{:.2}", ratio.median))
}

/// A row for each cell.
fn details(report: &Report, columns: &[Place]) -> String {
    let heads = [
        "thr",
        "records/s",
        "least",
        "most",
        "p50",
        "p99",
        "p99.9",
        "> 1 us",
        "CPU s/M",
        "flush s",
        "disk B/rec",
        "RSS MiB",
        "records",
        "notes",
    ];
    let mut table = Table::new("peer", heads.map(str::to_owned));
    for peer in report.peers(columns) {
        for &place in columns {
            let Some(rate) = report.figure(place, &peer, Outcome::rate) else {
                let failures: Vec<&str> =
                    report.of(place, &peer).filter_map(|measured| measured.failure.as_deref()).collect();
                if let Some(failure) = failures.last() {
                    let mut cells = vec![String::new(); heads.len()];
                    cells[0] = place.threads.to_string();
                    cells[heads.len() - 1] = format!("FAILED: {failure}");
                    table.row(&peer, cells);
                }
                continue;
            };
            let median =
                |of: &dyn Fn(&Outcome) -> f64| report.figure(place, &peer, of).map(|figure| figure.median);
            let latency = |of: fn(&crate::outcome::Latency) -> u64| {
                let time = median(&|outcome| {
                    outcome.latency.as_ref().map_or(f64::NAN, |latency| of(latency) as f64)
                });
                time.map_or_else(String::new, time_of_ns)
            };
            let above =
                median(&|outcome| outcome.latency.map_or(f64::NAN, |latency| latency.above_1us * 100.0));
            let outcomes = report.outcomes(place, &peer);
            table.row(
                &peer,
                [
                    place.threads.to_string(),
                    short(rate.median),
                    short(rate.min),
                    short(rate.max),
                    latency(|latency| latency.p50_ns),
                    latency(|latency| latency.p99_ns),
                    latency(|latency| latency.p999_ns),
                    if place.workload.is_durable() {
                        String::new()
                    } else {
                        above.map_or_else(String::new, |share| format!("{share:.2} %"))
                    },
                    median(&Outcome::cpu_per_million).map_or_else(String::new, |cpu| format!("{cpu:.2}")),
                    median(&|outcome| outcome.flush_seconds)
                        .map_or_else(String::new, |seconds| format!("{seconds:.2}")),
                    median(&Outcome::disk_per_record).map_or_else(String::new, |bytes| format!("{bytes:.0}")),
                    median(&|outcome| outcome.resident_bytes as f64 / f64::from(1 << 20))
                        .map_or_else(String::new, |mib| format!("{mib:.0}")),
                    median(&|outcome| outcome.records as f64).map_or_else(String::new, short),
                    notes(report, place, &peer, &outcomes),
                ],
            );
        }
    }
    table.finish()
}

/// What is to be said of a cell: of the last repetition, and every fault of the others.
fn notes(report: &Report, place: Place, peer: &str, outcomes: &[&Outcome]) -> String {
    let mut notes: Vec<String> = outcomes.last().map(|outcome| outcome.notes.clone()).unwrap_or_default();
    let failures: Vec<&str> =
        report.of(place, peer).filter_map(|measured| measured.failure.as_deref()).collect();
    if let Some(failure) = failures.last() {
        let all = failures.len() + outcomes.len();
        notes.push(format!("FAILED in {} of {all} repetitions: {failure}", failures.len()));
    }
    for fault in outcomes.iter().flat_map(|outcome| outcome.check.faults()) {
        if !notes.contains(&fault) {
            notes.push(fault);
        }
    }
    if let Some(last) = outcomes.last() {
        notes.extend(last.open_seconds.map(|seconds| format!("first record after {:.0} ms", seconds * 1e3)));
        notes.extend(last.timer_ns.map(|ns| format!("clock: {ns} ns")));
        if let Some(bytes) = last.in_flight_bytes {
            notes.push(format!("{:.1} MB in flight", bytes as f64 / 1e6));
            let alone = Place { workload: Workload::Async, ..place };
            if let (Some(rate), Some(alone)) =
                (report.figure(place, OURS, Outcome::rate), report.figure(alone, OURS, Outcome::rate))
            {
                notes.push(format!("{:.2} of async", rate.median / alone.median));
            }
        }
    }
    notes.join("; ")
}

/// Rows of cells that are padded to columns.
struct Table {
    rows: Vec<Vec<String>>,
}

impl Table {
    fn new(corner: &str, heads: impl IntoIterator<Item = String>) -> Table {
        Table { rows: vec![[corner.to_owned()].into_iter().chain(heads).collect()] }
    }

    fn row(&mut self, name: &str, cells: impl IntoIterator<Item = String>) {
        let cells = cells.into_iter().map(|cell| cell.replace('|', "/").replace('\n', " "));
        self.rows.push([name.to_owned()].into_iter().chain(cells).collect());
    }

    fn finish(self) -> String {
        let columns = self.rows[0].len();
        let width =
            |column: usize| self.rows.iter().map(|row| row[column].chars().count()).max().unwrap_or(0);
        let widths: Vec<usize> = (0..columns).map(width).collect();
        let mut text = String::new();
        for (at, row) in self.rows.iter().enumerate() {
            for (column, (cell, width)) in row.iter().zip(&widths).enumerate() {
                // Names and notes stand left, numbers right.
                let is_left = column == 0 || self.rows[0][column] == "notes";
                let _ = if is_left {
                    write!(text, "| {cell:<width$} ")
                } else {
                    write!(text, "| {cell:>width$} ")
                };
            }
            text += "|\n";
            if at == 0 {
                for (column, width) in widths.iter().enumerate() {
                    let is_left = column == 0 || self.rows[0][column] == "notes";
                    let line = "-".repeat(width + 1);
                    text += &if is_left { format!("|{line}-") } else { format!("|{line}:") };
                }
                text += "|\n";
            }
        }
        text
    }
}

/// A number in four characters and its unit.
pub fn short(value: f64) -> String {
    match value {
        _ if value >= 9_999_500.0 => format!("{:.1}M", value / 1e6),
        _ if value >= 999_950.0 => format!("{:.2}M", value / 1e6),
        _ if value >= 9_999.5 => format!("{:.1}k", value / 1e3),
        _ => format!("{value:.0}"),
    }
}

fn time_of_ns(ns: f64) -> String {
    match ns {
        _ if ns < 10_000.0 => format!("{ns:.0} ns"),
        _ if ns < 1_000_000.0 => format!("{:.1} us", ns / 1e3),
        _ => format!("{:.2} ms", ns / 1e6),
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use super::*;
    use crate::cell::{Cell, Memory};
    use crate::record::Check;
    use crate::report::Measured;

    fn measured(repetition: u32, peer: &str, threads: u32, rate: u64) -> Measured {
        let place = Place { workload: Workload::Async, record_bytes: 128, memory: Memory::Fresh, threads };
        let outcome = Outcome { records: rate, seconds: 1.0, ..Outcome::default() };
        let cell = Cell { place, peer: peer.to_owned() };
        Measured { repetition, cell, page_cache_rate: 1e9, outcome: Some(outcome), failure: None }
    }

    fn report(measured: Vec<Measured>) -> Report {
        Report {
            machine: serde_json::json!({"processor": "a fast one"}),
            began_at: 0,
            command: "run".to_owned(),
            versions: BTreeMap::new(),
            measured,
        }
    }

    #[test]
    fn numbers_are_short_and_do_not_lose_their_size() {
        let told = [0.0, 9_999.0, 9_999.6, 123_456.0, 999_960.0, 7_110_000.0, 19_080_000.0].map(short);
        assert_eq!(told, ["0", "9999", "10.0k", "123.5k", "1.00M", "7.11M", "19.1M"]);
        assert_eq!([9_000.0, 12_345.0, 2_560_000.0].map(time_of_ns), ["9000 ns", "12.3 us", "2.56 ms"]);
    }

    #[test]
    fn ratio_is_the_median_of_ratios_of_the_same_repetition() {
        let rates = [(0, 30, 10), (1, 20, 20), (2, 90, 45)];
        let cells = rates.iter().flat_map(|&(repetition, ours, theirs)| {
            [measured(repetition, OURS, 4, ours), measured(repetition, "mutexvec", 4, theirs)]
        });
        let text = all(&report(cells.collect()));
        assert!(text.contains("| braidlog               |    30 |"), "{text}");
        assert!(text.contains("| *braidlog to mutexvec* |  2.00 |"), "{text}");
    }

    #[test]
    fn wrong_result_and_failure_are_seen_in_the_tables() {
        let mut lossy = measured(0, "mutexvec", 1, 50);
        lossy.outcome.as_mut().unwrap().check = Check { read: 40, missing: 10, ..Check::default() };
        let mut failed = measured(0, "directvec", 1, 0);
        (failed.outcome, failed.failure) = (None, Some("no | disk".to_owned()));
        // One repetition that failed is not hidden by another that did not.
        let mut once = measured(1, OURS, 1, 0);
        (once.outcome, once.failure) = (None, Some("full".to_owned()));
        let text = all(&report(vec![measured(0, OURS, 1, 99), lossy, failed, once]));
        assert!(text.contains("99 ! |") && text.contains("FAILED in 1 of 2 repetitions: full"), "{text}");
        assert!(text.contains("|  50 ! |") || text.contains("50 ! |"), "{text}");
        assert!(text.contains("LOST: 10 of 50") && text.contains("FAILED: no / disk"), "{text}");
        assert!(text.contains("failed |"), "{text}");
    }
}
