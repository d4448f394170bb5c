//! Where the readers of this process stand, so that no truncation takes a file from under one.
//!
//! The rule: who wants to read pins the place first, and who truncates raises the floor first. Both are steps under one
//! lock, so either the pin is there when the floor is raised, and the floor stays below it, or the floor is there when
//! the pin is asked for, and there is none.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard};

use braidlog_format::Lsn;

use crate::locked::locked;

/// The places of all readers of one open log. A clone is another handle on the same.
#[derive(Clone, Debug)]
pub struct Pins(Arc<Mutex<Places>>);

#[derive(Debug)]
struct Places {
    /// Nothing below is read any more.
    floor: Lsn,
    /// The readers by place, and how many stand there.
    at: BTreeMap<Lsn, usize>,
}

impl Pins {
    /// No reader yet, of a log that starts at `start`.
    pub fn new(start: Lsn) -> Pins {
        Pins(Arc::new(Mutex::new(Places { floor: start, at: BTreeMap::new() })))
    }

    /// The first LSN that may be read.
    pub fn floor(&self) -> Lsn {
        self.locked().floor
    }

    /// The lowest place at which a reader stands.
    pub fn min(&self) -> Option<Lsn> {
        self.locked().at.keys().next().copied()
    }

    /// The lowest place that a truncation leaves to a reader.
    pub(crate) fn lowest(&self) -> Option<Lsn> {
        self.locked().lowest()
    }

    /// Keeps the log from `lsn` on until the pin is dropped or moved on.
    ///
    /// # Errors
    /// The first LSN that may be read, if that lies above.
    pub(crate) fn pin(&self, lsn: Lsn) -> Result<Pin, Lsn> {
        let mut places = self.locked();
        if lsn < places.floor {
            return Err(places.floor);
        }
        *places.at.entry(lsn).or_insert(0) += 1;
        drop(places);
        Ok(Pin { pins: self.clone(), lsn })
    }

    /// Keeps the whole log, from where it starts now.
    pub(crate) fn pin_all(&self) -> Pin {
        let mut places = self.locked();
        let lsn = places.floor;
        *places.at.entry(lsn).or_insert(0) += 1;
        drop(places);
        Pin { pins: self.clone(), lsn }
    }

    /// Raises the floor to `wanted`, or as far as `round_down` allows: it is given the lowest place of a reader, or
    /// `wanted` if that is lower, and says where a segment begins that is not above. Gives the floor.
    pub(crate) fn raise(&self, wanted: Lsn, round_down: impl FnOnce(Lsn) -> Lsn) -> Lsn {
        let mut places = self.locked();
        let lowest = places.lowest().unwrap_or(Lsn::MAX);
        places.floor = places.floor.max(round_down(wanted.min(lowest)));
        places.floor
    }

    /// Sets the floor back to where the log still starts, after a truncation that failed.
    pub(crate) fn lower(&self, start: Lsn) {
        let mut places = self.locked();
        places.floor = places.floor.min(start);
    }

    /// A pin that panicked elsewhere left the places whole.
    fn locked(&self) -> MutexGuard<'_, Places> {
        locked(&self.0)
    }
}

/// A place in the log that no truncation passes while this lives.
#[derive(Debug)]
pub(crate) struct Pin {
    pins: Pins,
    lsn: Lsn,
}

impl Pin {
    /// Keeps the log from another place on as well.
    ///
    /// # Errors
    /// As [`Pins::pin`].
    pub(crate) fn another(&self, lsn: Lsn) -> Result<Pin, Lsn> {
        self.pins.pin(lsn)
    }

    /// Moves the pin on to `lsn`, which does not lie below.
    pub(crate) fn move_to(&mut self, lsn: Lsn) {
        let mut places = self.pins.locked();
        *places.at.entry(lsn).or_insert(0) += 1;
        places.leave(self.lsn);
        drop(places);
        self.lsn = lsn;
    }
}

impl Drop for Pin {
    fn drop(&mut self) {
        self.pins.locked().leave(self.lsn);
    }
}

impl Places {
    fn lowest(&self) -> Option<Lsn> {
        #[cfg(braidlog_sabotage)]
        if braidlog_sabotage::is("pins_passed_over") {
            return None;
        }
        self.at.keys().next().copied()
    }

    fn leave(&mut self, lsn: Lsn) {
        if let Some(count) = self.at.get_mut(&lsn) {
            *count -= 1;
            if *count == 0 {
                self.at.remove(&lsn);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Segments begin at 1, 11, 21, and so on.
    fn round_down(lsn: Lsn) -> Lsn {
        Lsn((lsn.0 - 1) / 10 * 10 + 1)
    }

    #[test]
    fn floor_stops_at_the_segment_of_the_lowest_pin() {
        let pins = Pins::new(Lsn(1));
        let (low, mut high) = (pins.pin(Lsn(27)).unwrap(), pins.pin(Lsn(45)).unwrap());
        let other = pins.pin(Lsn(27)).unwrap();
        assert_eq!((pins.min(), pins.raise(Lsn(60), round_down)), (Some(Lsn(27)), Lsn(21)));
        drop(low);
        assert_eq!(pins.raise(Lsn(60), round_down), Lsn(21), "another reader stands there");
        drop(other);
        assert_eq!((pins.min(), pins.raise(Lsn(60), round_down)), (Some(Lsn(45)), Lsn(41)));
        high.move_to(Lsn(58));
        assert_eq!(pins.raise(Lsn(60), round_down), Lsn(51));
        drop(high);
        assert_eq!((pins.min(), pins.raise(Lsn(60), round_down)), (None, Lsn(51)));
        assert_eq!(pins.raise(Lsn(61), round_down), Lsn(61));
    }

    #[test]
    fn nobody_pins_what_lies_below_the_floor_until_it_is_lowered() {
        let pins = Pins::new(Lsn(11));
        assert_eq!(pins.pin(Lsn(10)).unwrap_err(), Lsn(11));
        pins.raise(Lsn(31), round_down);
        assert_eq!(pins.pin(Lsn(30)).unwrap_err(), Lsn(31));
        assert_eq!(pins.raise(Lsn(21), round_down), Lsn(31), "it never falls by itself");
        pins.lower(Lsn(11));
        assert!(pins.pin(Lsn(11)).is_ok());
        assert_eq!(pins.floor(), Lsn(11));
        assert_eq!(pins.min(), None);
    }
}
