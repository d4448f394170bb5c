//! Standard output and standard error: facts go to the one, remarks and progress to the other.
//!
//! Nothing here panics when the reader of a pipe has gone: standard output then ends the command quietly
//! ([`Failure::ClosedPipe`]), standard error is simply no longer heard.

use std::io::{self, BufWriter, IsTerminal, Stdout, Write};
use std::ops::RangeInclusive;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use braidlog::{Lsn, RepairProgress};
use indicatif::{HumanBytes, ProgressBar, ProgressDrawTarget, ProgressStyle};
use serde::Serialize;

use crate::failure::{self, Failure};

/// Standard output, buffered.
pub struct Out(BufWriter<Stdout>);

impl Out {
    /// Takes standard output.
    pub fn stdout() -> Out {
        Out(BufWriter::with_capacity(1 << 16, io::stdout()))
    }

    /// Lets `write` put bytes into the buffer.
    pub fn write(&mut self, write: impl FnOnce(&mut dyn Write) -> io::Result<()>) -> Result<(), Failure> {
        write(&mut self.0).map_err(failure::of_stdout)
    }

    /// One line of text.
    pub fn line(&mut self, line: impl std::fmt::Display) -> Result<(), Failure> {
        self.write(|out| writeln!(out, "{line}"))
    }

    /// One line of JSON.
    pub fn json(&mut self, value: &impl Serialize) -> Result<(), Failure> {
        self.write(|out| {
            serde_json::to_writer(&mut *out, value)?;
            out.write_all(b"\n")
        })
    }

    /// Hands on what is buffered.
    pub fn flush(&mut self) -> Result<(), Failure> {
        self.0.flush().map_err(failure::of_stdout)
    }
}

/// A remark on standard error.
pub fn note(message: impl std::fmt::Display) {
    // Nobody is left to be told that standard error cannot be written.
    let _ = writeln!(io::stderr().lock(), "braidlog: {message}");
}

/// A progress bar on standard error, in bytes; invisible unless that is a terminal.
pub fn progress(bytes_total: Option<u64>) -> ProgressBar {
    let bar = ProgressBar::with_draw_target(bytes_total, ProgressDrawTarget::stderr());
    let template = match bytes_total {
        Some(_) => "{bar:40} {bytes}/{total_bytes} {bytes_per_sec} {eta} {msg}",
        None => "{spinner} {bytes} {bytes_per_sec} {elapsed} {msg}",
    };
    bar.with_style(ProgressStyle::with_template(template).unwrap_or_else(|_| ProgressStyle::default_bar()))
}

/// A progress bar for the reading of a damaged log, and what moves it.
pub fn repair_progress() -> (ProgressBar, impl FnMut(&RepairProgress)) {
    let bar = progress(Some(0));
    let shown = bar.clone();
    let told = move |now: &RepairProgress| {
        shown.set_length(now.bytes_total);
        shown.set_position(now.bytes_done);
        shown.set_message(now.segment.clone());
    };
    (bar, told)
}

/// A progress bar on standard error, in steps; invisible unless that is a terminal.
pub fn steps(total: u64) -> ProgressBar {
    let bar = ProgressBar::with_draw_target(Some(total), ProgressDrawTarget::stderr());
    let style = ProgressStyle::with_template("{bar:40} {pos}/{len} {elapsed} {msg}");
    let bar = bar.with_style(style.unwrap_or_else(|_| ProgressStyle::default_bar()));
    // A step takes seconds: the clock goes on meanwhile.
    if !bar.is_hidden() {
        bar.enable_steady_tick(Duration::from_millis(250));
    }
    bar
}

/// A progress bar for records that are printed: on standard error, in LSNs of a range; invisible unless that is a terminal and
/// standard output is none, where the records themselves show how far it is.
pub struct Printed {
    bar: ProgressBar,
    range: RangeInclusive<u64>,
}

impl Printed {
    /// Of the LSNs of this range.
    pub fn of(range: RangeInclusive<Lsn>) -> Printed {
        let range = range.start().0..=range.end().0;
        let bar = if io::stdout().is_terminal() {
            ProgressBar::hidden()
        } else {
            steps(range.end().saturating_sub(*range.start()).saturating_add(1))
        };
        Printed { bar, range }
    }

    /// The record with this LSN is printed, and with it all between it and the end of the range at which it began.
    pub fn reach(&self, lsn: Lsn, is_reverse: bool) {
        // A record takes less time than drawing does.
        if lsn.0.is_multiple_of(1024) {
            let (first, last) = (self.range.start(), self.range.end());
            let done = if is_reverse { last.saturating_sub(lsn.0) } else { lsn.0.saturating_sub(*first) };
            self.bar.set_position(done.saturating_add(1));
        }
    }

    /// There is nothing more to print.
    pub fn finish(&self) {
        self.bar.finish_and_clear();
    }
}

/// `12345` as `12,345`.
pub fn count(n: u64) -> String {
    indicatif::HumanCount(n).to_string()
}

/// Bytes as people read them: `1.21 MiB`.
pub fn bytes(n: u64) -> String {
    HumanBytes(n).to_string()
}

/// A duration in the unit that suits it: `480 ns`, `172.0 us`, `12.1 ms`, `1.5 s`.
pub fn duration(ns: u64) -> String {
    match ns {
        0..1_000 => format!("{ns} ns"),
        1_000..1_000_000 => format!("{:.1} us", ns as f64 / 1e3),
        1_000_000..1_000_000_000 => format!("{:.1} ms", ns as f64 / 1e6),
        _ => format!("{:.1} s", ns as f64 / 1e9),
    }
}

/// `n` things, by name: `1 record`, `2 records`.
pub fn plural(n: u64, one: &str) -> String {
    format!("{} {one}{}", count(n), if n == 1 { "" } else { "s" })
}

/// Nanoseconds since the Unix epoch as RFC 3339.
pub fn rfc3339(ns: u64) -> String {
    let time: SystemTime = UNIX_EPOCH + Duration::from_nanos(ns);
    humantime::format_rfc3339_nanos(time).to_string()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_are_written_as_rfc_3339() {
        assert_eq!(rfc3339(1_700_000_000_000_000_001), "2023-11-14T22:13:20.000000001Z");
    }

    #[test]
    fn durations_are_written_in_the_unit_that_suits_them() {
        let written = [480, 172_049, 12_100_000, 1_500_000_000].map(duration);
        assert_eq!(written, ["480 ns", "172.0 us", "12.1 ms", "1.5 s"]);
    }

    #[test]
    fn one_thing_takes_no_plural() {
        assert_eq!(plural(1, "record"), "1 record");
        assert_eq!(plural(0, "record"), "0 records");
        assert_eq!(plural(12_345, "record"), "12,345 records");
    }
}
