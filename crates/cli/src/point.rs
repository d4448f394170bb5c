//! A point in a log's time as people write one: `1200`, `2026-11-27T14:00:00Z`, `5m ago`, `before-migration`.
//!
//! The rule: what reads like a number is an LSN, what reads like a time is a time, everything else is a name; and whoever
//! has named a point `1200` writes `name:1200`.

use std::str::FromStr;
use std::time::SystemTime;

use braidlog::{Lsn, Target};

/// A point.
#[derive(Clone, Debug)]
pub struct Point(Target);

impl Point {
    /// The point, without the record there if it is to be exclusive.
    pub fn target(&self, exclusive: bool) -> Target {
        let target = self.0.clone();
        if exclusive { target.exclusive() } else { target }
    }
}

impl FromStr for Point {
    type Err = String;

    fn from_str(text: &str) -> Result<Point, String> {
        let target = match text.split_once(':') {
            Some(("lsn", number)) => lsn(number).ok_or_else(|| format!("`{number}` is no LSN"))?,
            Some(("time", time)) => {
                self::time(time, SystemTime::now()).ok_or_else(|| format!("`{time}` is no time"))?
            }
            Some(("name", name)) => Target::restore_point(name),
            _ => match lsn(text).or_else(|| time(text, SystemTime::now())) {
                Some(target) => target,
                None if text.is_empty() => {
                    return Err("an LSN, a time or the name of a restore point".to_owned());
                }
                None => Target::restore_point(text),
            },
        };
        Ok(Point(target))
    }
}

fn lsn(text: &str) -> Option<Target> {
    let is_number = text.bytes().all(|byte| byte.is_ascii_digit());
    is_number.then(|| text.parse().ok()).flatten().map(|lsn| Target::lsn(Lsn(lsn)))
}

/// A time alone.
#[derive(Clone, Copy, Debug)]
pub struct Time(pub SystemTime);

impl FromStr for Time {
    type Err = String;

    fn from_str(text: &str) -> Result<Time, String> {
        let time = moment(text, SystemTime::now());
        time.map(Time).ok_or_else(|| "a time such as `2026-11-27T14:00:00Z`, `5m ago` or `now`".to_owned())
    }
}

/// RFC 3339, `now`, or `<duration> ago`.
fn moment(text: &str, now: SystemTime) -> Option<SystemTime> {
    if text == "now" {
        Some(now)
    } else if let Some(ago) = text.strip_suffix(" ago") {
        now.checked_sub(humantime::parse_duration(ago.trim()).ok()?)
    } else {
        humantime::parse_rfc3339_weak(text).ok()
    }
}

fn time(text: &str, now: SystemTime) -> Option<Target> {
    moment(text, now).map(Target::time)
}

#[cfg(test)]
mod tests {
    use std::time::{Duration, UNIX_EPOCH};

    use super::*;

    fn read(text: &str) -> String {
        text.parse::<Point>().unwrap().target(false).to_string()
    }

    #[test]
    fn numbers_are_lsns_times_are_times_and_the_rest_are_names() {
        assert_eq!(read("1200"), Target::lsn(Lsn(1200)).to_string());
        assert_eq!(read("lsn:7"), Target::lsn(Lsn(7)).to_string());
        let time = Target::time_ns(1_700_000_000_500_000_000).to_string();
        assert_eq!(read("2023-11-14T22:13:20.5Z"), time);
        assert_eq!(read("2023-11-14 22:13:20.5"), time);
        assert_eq!(read("time:2023-11-14T22:13:20.500Z"), time);
        for name in ["before-migration", "name:1200", "5m", "v1:2", "2023"].map(|name| (name, read(name))) {
            let expected = match name.0 {
                "2023" => Target::lsn(Lsn(2023)),
                name => Target::restore_point(name.strip_prefix("name:").unwrap_or(name)),
            };
            assert_eq!(name.1, expected.to_string());
        }
        for bad in ["", "lsn:x", "lsn:-1", "time:yesterday"] {
            assert!(bad.parse::<Point>().is_err(), "{bad}");
        }
    }

    #[test]
    fn so_long_ago_is_counted_from_now() {
        let now = UNIX_EPOCH + Duration::from_secs(1_700_000_000);
        let told = |text| time(text, now).map(|target| target.to_string());
        assert_eq!(told("5m ago"), Some(Target::time_ns(1_699_999_700_000_000_000).to_string()));
        assert_eq!(told("1h 30m ago"), Some(Target::time_ns(1_699_994_600_000_000_000).to_string()));
        assert_eq!(told("now"), Some(Target::time_ns(1_700_000_000_000_000_000).to_string()));
        assert_eq!(told("5 parsecs ago"), None);
    }
}
