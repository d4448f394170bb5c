//! Durations and sizes as text: `100 ms`, `1h 30m`, `1.5 s`, `64 MiB`.
//!
//! The rule: what is written here is read back to the same value, to the nanosecond and the byte.

use std::time::Duration;

/// Units of time in nanoseconds, the shortest first; of those that are as long, the first is written.
const TIMES: [(&str, u128); 11] = [
    ("ns", 1),
    ("us", 1_000),
    ("µs", 1_000),
    ("ms", 1_000_000),
    ("s", 1_000_000_000),
    ("sec", 1_000_000_000),
    ("min", 60_000_000_000),
    ("m", 60_000_000_000),
    ("h", 3_600_000_000_000),
    ("d", 86_400_000_000_000),
    ("days", 86_400_000_000_000),
];

/// Units of sizes in bytes, in the same order.
const SIZES: [(&str, u128); 9] = [
    ("B", 1),
    ("KiB", 1 << 10),
    ("K", 1 << 10),
    ("MiB", 1 << 20),
    ("M", 1 << 20),
    ("GiB", 1 << 30),
    ("G", 1 << 30),
    ("TiB", 1 << 40),
    ("T", 1 << 40),
];

/// Reads a duration: numbers with units, which are added.
pub(super) fn read_duration(text: &str) -> Option<Duration> {
    let ns = read(text, &TIMES)?;
    let seconds = u64::try_from(ns / 1_000_000_000).ok()?;
    Some(Duration::new(seconds, (ns % 1_000_000_000) as u32))
}

/// Reads a size in bytes.
pub(super) fn read_size(text: &str) -> Option<u64> {
    u64::try_from(read(text, &SIZES)?).ok()
}

pub(super) fn write_duration(duration: Duration) -> String {
    write(duration.as_nanos(), &TIMES)
}

pub(super) fn write_size(bytes: u64) -> String {
    write(u128::from(bytes), &SIZES)
}

/// In the largest unit of which it is a whole number.
fn write(value: u128, units: &[(&str, u128)]) -> String {
    let smallest = units[0];
    let largest = units.iter().filter(|(_, unit)| value != 0 && value.is_multiple_of(*unit));
    let (name, unit) = largest.fold(smallest, |best, next| if next.1 > best.1 { *next } else { best });
    format!("{} {name}", value / unit)
}

/// The sum of all numbers, each with its unit, in the smallest one.
fn read(text: &str, units: &[(&str, u128)]) -> Option<u128> {
    let mut rest = text.trim();
    let mut sum: Option<u128> = None;
    while !rest.is_empty() {
        let (number, behind) = split(rest, |c| c.is_ascii_digit() || c == '.');
        let (name, behind) = split(behind.trim_start(), |c| c.is_alphabetic());
        let unit = units.iter().find(|(unit, _)| unit.eq_ignore_ascii_case(name))?.1;
        sum = Some(sum.unwrap_or(0).checked_add(times(number, unit)?)?);
        rest = behind.trim_start();
    }
    sum
}

/// Splits off what such characters make up at the front.
fn split(text: &str, is_part: impl Fn(char) -> bool) -> (&str, &str) {
    text.split_at(text.find(|c| !is_part(c)).unwrap_or(text.len()))
}

/// A decimal number of units, if that is a whole number of the smallest.
fn times(number: &str, unit: u128) -> Option<u128> {
    let (whole, fraction) = number.split_once('.').unwrap_or((number, "0"));
    let power = 10_u128.checked_pow(u32::try_from(fraction.len()).ok()?)?;
    let parts = fraction.parse::<u128>().ok()?.checked_mul(unit)?;
    if !parts.is_multiple_of(power) {
        return None;
    }
    whole.parse::<u128>().ok()?.checked_mul(unit)?.checked_add(parts / power)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn durations_are_read_as_people_write_them() {
        let ms = Duration::from_millis;
        for (text, duration) in [
            ("100ms", ms(100)),
            ("100 ms", ms(100)),
            (" 1.5s ", ms(1500)),
            ("1h 30m", ms(90 * 60_000)),
            ("1h30min", ms(90 * 60_000)),
            ("7d", ms(7 * 86_400_000)),
            ("250us", Duration::from_micros(250)),
            ("250µs", Duration::from_micros(250)),
            ("0s", Duration::ZERO),
            ("3 NS", Duration::from_nanos(3)),
        ] {
            assert_eq!(read_duration(text), Some(duration), "{text}");
        }
        for text in
            ["", " ", "100", "ms", "-1s", "1 fortnight", "0.5ns", "1..5s", ".s", "1e3s", "1s,2s", "9é"]
        {
            assert_eq!(read_duration(text), None, "{text}");
        }
        assert_eq!(read_duration("99999999999999999999 d"), None);
        assert_eq!(read_duration(&format!("{} h", u128::MAX)), None);
    }

    #[test]
    fn sizes_are_powers_of_1024_and_name_their_unit() {
        for (text, bytes) in [
            ("64 MiB", 64 << 20),
            ("64M", 64 << 20),
            ("4kib", 4096),
            ("1.5 GiB", 3 << 29),
            ("7 B", 7),
            ("2T", 2 << 40),
        ] {
            assert_eq!(read_size(text), Some(bytes), "{text}");
        }
        // Whether that is 1000 or 1024 is not for a log to guess.
        for text in ["64 MB", "1kB", "64", "0.3 B", "17179869184 G", "-1 B"] {
            assert_eq!(read_size(text), None, "{text}");
        }
    }

    #[test]
    fn the_largest_unit_that_fits_is_written() {
        assert_eq!(write_duration(Duration::from_millis(100)), "100 ms");
        assert_eq!(write_duration(Duration::from_secs(90)), "90 s");
        assert_eq!(write_duration(Duration::from_secs(86_400)), "1 d");
        assert_eq!(write_duration(Duration::ZERO), "0 ns");
        assert_eq!(write_size(64 << 20), "64 MiB");
        assert_eq!(write_size(1000), "1000 B");
    }

    proptest! {
        #[test]
        fn whatever_is_written_reads_back(seconds: u64, ns in 0..1_000_000_000_u32, bytes: u64, shift in 0..64_u32) {
            let duration = Duration::new(seconds, ns);
            prop_assert_eq!(read_duration(&write_duration(duration)), Some(duration));
            let whole = Duration::from_secs(seconds >> shift);
            prop_assert_eq!(read_duration(&write_duration(whole)), Some(whole));
            prop_assert_eq!(read_size(&write_size(bytes)), Some(bytes));
            prop_assert_eq!(read_size(&write_size(bytes << shift)), Some(bytes << shift));
        }
    }
}
