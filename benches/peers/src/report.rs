//! All that a run gave, kept as JSON: every repetition of every cell, on which machine, by which command.

use std::collections::BTreeMap;
use std::fs;
use std::io;
use std::path::Path;

use braidlog_benches::figure::Figure;
use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::cell::{Cell, Place};
use crate::outcome::Outcome;
use crate::peer::{LIST, Result};

/// One cell, once.
#[derive(Clone, PartialEq, Debug, Serialize, Deserialize)]
pub struct Measured {
    /// The how-manieth time, from 0.
    pub repetition: u32,
    /// Which cell.
    #[serde(flatten)]
    pub cell: Cell,
    /// How fast the page cache took bytes just before, in bytes per second.
    pub page_cache_rate: f64,
    /// What it gave, if it came to an end.
    pub outcome: Option<Outcome>,
    /// Why not, else.
    pub failure: Option<String>,
}

/// A run, or several that were put together.
#[derive(Clone, PartialEq, Debug, Serialize, Deserialize)]
pub struct Report {
    /// The machine, as `braidlog-benches` describes it.
    pub machine: Value,
    /// When it began, in seconds since the Unix epoch.
    pub began_at: u64,
    /// The command.
    pub command: String,
    /// The versions of the peers, by the name of their package.
    pub versions: BTreeMap<String, String>,
    /// All cells, in the order in which they ran.
    pub measured: Vec<Measured>,
}

impl Report {
    /// Reads one.
    ///
    /// # Errors
    /// What the system says, or that it is none.
    pub fn load(path: &Path) -> Result<Report> {
        Ok(serde_json::from_slice(&fs::read(path)?)?)
    }

    /// Writes it; a reader, or an interruption, finds the old one or the new one.
    ///
    /// # Errors
    /// What the system says.
    pub fn save(&self, path: &Path) -> Result<()> {
        if let Some(dir) = path.parent() {
            fs::create_dir_all(dir)?;
        }
        let fresh = path.with_extension("json.new");
        serde_json::to_writer(io::BufWriter::new(fs::File::create(&fresh)?), self)?;
        Ok(fs::rename(fresh, path)?)
    }

    /// Whether a cell ran already, that often.
    pub fn has(&self, repetition: u32, cell: &Cell) -> bool {
        self.measured.iter().any(|measured| measured.repetition == repetition && measured.cell == *cell)
    }

    /// The places that were measured, in order.
    pub fn places(&self) -> Vec<Place> {
        let mut places: Vec<Place> = self.measured.iter().map(|measured| measured.cell.place).collect();
        places.sort();
        places.dedup();
        places
    }

    /// The peers that were measured at one of these places, in the order of the list; those that this build does
    /// not have come last.
    pub fn peers(&self, places: &[Place]) -> Vec<String> {
        let mut peers: Vec<&String> = Vec::new();
        for Measured { cell, .. } in &self.measured {
            if places.contains(&cell.place) && !peers.contains(&&cell.peer) {
                peers.push(&cell.peer);
            }
        }
        let at = |peer: &str| LIST.iter().position(|listed| listed.name == peer).unwrap_or(LIST.len());
        peers.sort_by_key(|peer| at(peer));
        peers.into_iter().cloned().collect()
    }

    /// All that a cell gave, repetition by repetition.
    pub fn of<'report>(
        &'report self,
        place: Place,
        peer: &'report str,
    ) -> impl Iterator<Item = &'report Measured> {
        self.measured
            .iter()
            .filter(move |measured| measured.cell.place == place && measured.cell.peer == peer)
    }

    /// The repetitions of a cell that came to an end.
    pub fn outcomes(&self, place: Place, peer: &str) -> Vec<&Outcome> {
        let cell = |measured: &&Measured| measured.cell.place == place && measured.cell.peer == peer;
        self.measured.iter().filter(cell).filter_map(|measured| measured.outcome.as_ref()).collect()
    }

    /// Something of each repetition of a cell; `None` if it has none.
    pub fn figure(&self, place: Place, peer: &str, of: impl Fn(&Outcome) -> f64) -> Option<Figure> {
        let values: Vec<f64> =
            self.outcomes(place, peer).into_iter().map(of).filter(|value| value.is_finite()).collect();
        (!values.is_empty()).then(|| Figure::of(values))
    }

    /// The rate of one peer to that of another, in the same repetition each.
    pub fn ratio(&self, place: Place, peer: &str, to: &str) -> Option<Figure> {
        let rate = |peer: &str| -> BTreeMap<u32, f64> {
            let rates = self
                .measured
                .iter()
                .filter(|measured| measured.cell.place == place && measured.cell.peer == peer);
            rates
                .filter_map(|measured| Some((measured.repetition, measured.outcome.as_ref()?.rate())))
                .collect()
        };
        let (of, to) = (rate(peer), rate(to));
        let ratios: Vec<f64> =
            of.iter().filter_map(|(repetition, rate)| Some(rate / to.get(repetition)?)).collect();
        (!ratios.is_empty()).then(|| Figure::of(ratios))
    }
}
