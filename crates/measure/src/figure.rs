//! Figures from repetitions: the middle one, and how far the others are from it.

use std::fmt;
use std::time::Duration;

use serde::Serialize;

/// The median of some repetitions, and the least and the greatest of them.
#[derive(Clone, Copy, PartialEq, Debug, Serialize)]
pub struct Figure {
    /// The median.
    pub median: f64,
    /// The least.
    pub min: f64,
    /// The greatest.
    pub max: f64,
    /// How many there are.
    pub count: usize,
}

impl Figure {
    /// The figure of these repetitions.
    ///
    /// # Panics
    /// If there are none, or one is no number.
    pub fn of(values: impl IntoIterator<Item = f64>) -> Figure {
        let mut values: Vec<f64> = values.into_iter().collect();
        values.sort_by(|one, other| one.partial_cmp(other).expect("a figure is a number"));
        let (min, max) = (values[0], values[values.len() - 1]);
        Figure { median: median_of_sorted(&values), min, max, count: values.len() }
    }
}

impl fmt::Display for Figure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let places = f.precision().unwrap_or(0);
        write!(f, "{:.places$}  ({:.places$} to {:.places$})", self.median, self.min, self.max)
    }
}

/// The median of some durations, in microseconds.
///
/// # Panics
/// If there are none.
pub fn median_us(durations: &mut [Duration]) -> f64 {
    durations.sort_unstable();
    let values: Vec<f64> = durations.iter().map(|duration| duration.as_nanos() as f64 / 1000.0).collect();
    median_of_sorted(&values)
}

fn median_of_sorted(values: &[f64]) -> f64 {
    let middle = values.len() / 2;
    if values.len() % 2 == 1 { values[middle] } else { (values[middle - 1] + values[middle]) / 2.0 }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn median_is_the_middle_and_the_spread_reaches_to_the_ends() {
        let figure = Figure::of([5.0, 1.0, 9.0]);
        assert_eq!(figure, Figure { median: 5.0, min: 1.0, max: 9.0, count: 3 });
        assert_eq!(Figure::of([1.0, 2.0, 4.0, 9.0]).median, 3.0);
        assert_eq!(format!("{figure:.1}"), "5.0  (1.0 to 9.0)");
        assert_eq!(median_us(&mut [Duration::from_micros(7), Duration::from_nanos(1500)]), 4.25);
    }
}
