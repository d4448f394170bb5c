//! Charts in SVG: rates by threads for the workloads that have threads, bars for the replay.
//!
//! The rule: a chart says what its axes are, starts at zero, and shows Braidlog, every yardstick and the best of the
//! others; the tables have them all.

use std::fs;
use std::path::Path;

use plotters::coord::Shift;
use plotters::prelude::*;
use plotters::style::full_palette as palette;

use crate::cell::{Memory, Place, Workload};
use crate::outcome::Outcome;
use crate::peer::{LIST, Result};
use crate::report::Report;
use crate::table::short;

/// Peers in a chart beside Braidlog and the yardsticks.
const OTHERS_MAX: usize = 7;
const SIZE: (u32, u32) = (960, 520);
const COLORS: [RGBColor; 12] = [
    RED,
    palette::GREY_700,
    palette::GREY,
    palette::BLUEGREY_300,
    palette::BLUE_700,
    palette::GREEN_700,
    palette::ORANGE_800,
    palette::PURPLE_500,
    palette::TEAL_500,
    palette::BROWN_500,
    palette::PINK_300,
    palette::LIME_800,
];

/// Writes all charts that the report has figures for.
///
/// # Errors
/// What the system or the drawing says.
pub fn all(report: &Report, out: &Path) -> Result<()> {
    fs::create_dir_all(out)?;
    for (workload, memory) in [
        (Workload::Async, Memory::Fresh),
        (Workload::Async, Memory::Warm),
        (Workload::Durable, Memory::Fresh),
    ] {
        let is_here =
            |place: &Place| place.workload == workload && place.memory == memory && place.record_bytes == 128;
        let places: Vec<Place> = report.places().into_iter().filter(is_here).collect();
        if !places.is_empty() {
            let name =
                if workload == Workload::Durable { "durable".to_owned() } else { format!("async-{memory}") };
            rates_by_threads(report, &places, &out.join(format!("{name}.svg")))?;
        }
    }
    let is_replay = |place: &Place| place.workload == Workload::Replay && place.record_bytes == 128;
    let places: Vec<Place> = report.places().into_iter().filter(is_replay).collect();
    if !places.is_empty() {
        replay(report, &places, &out.join("replay.svg"))?;
    }
    Ok(())
}

/// Who is shown: Braidlog, the yardsticks, and the best of the others by their greatest rate.
fn shown(report: &Report, places: &[Place]) -> Vec<String> {
    let peers = report.peers(places);
    let rate = |peer: &str| {
        let rates = places.iter().filter_map(|&place| report.figure(place, peer, Outcome::rate));
        rates.map(|figure| figure.median).fold(0.0, f64::max)
    };
    let is_ours = |peer: &str| {
        peer.starts_with("braidlog") || LIST.iter().any(|listed| listed.name == peer && listed.is_yardstick())
    };
    let (mut shown, mut others): (Vec<String>, Vec<String>) =
        peers.into_iter().partition(|peer| is_ours(peer));
    others.sort_by(|one, other| rate(other).total_cmp(&rate(one)));
    shown.extend(others.into_iter().take(OTHERS_MAX));
    shown.retain(|peer| rate(peer) > 0.0);
    shown
}

fn canvas(path: &Path) -> Result<DrawingArea<SVGBackend<'_>, Shift>> {
    let area = SVGBackend::new(path, SIZE).into_drawing_area();
    area.fill(&WHITE)?;
    Ok(area)
}

/// Lines: threads along the bottom, evenly spaced, records per second upwards.
fn rates_by_threads(report: &Report, places: &[Place], path: &Path) -> Result<()> {
    let Place { workload, record_bytes, memory, .. } = places[0];
    let peers = shown(report, places);
    let points = |peer: &str| -> Vec<(f64, f64)> {
        let rate = |place: &Place| report.figure(*place, peer, Outcome::rate).map(|figure| figure.median);
        let points = places.iter().enumerate();
        points.filter_map(|(at, place)| Some((at as f64, rate(place)?))).collect()
    };
    let most = peers.iter().flat_map(|peer| points(peer)).map(|(_, rate)| rate).fold(0.0, f64::max);
    let area = canvas(path)?;
    let memory = if workload == Workload::Durable { String::new() } else { format!(", {memory} memory") };
    let mut chart = ChartBuilder::on(&area)
        .caption(
            format!("{workload}: {record_bytes}-byte records per second, all on the device{memory}"),
            ("sans-serif", 20),
        )
        .margin(12)
        .margin_right(190)
        .x_label_area_size(40)
        .y_label_area_size(64)
        .build_cartesian_2d(0.0..(places.len().max(2) - 1) as f64, 0.0..most * 1.05)?;
    let threads = |at: &f64| {
        let is_whole = (at - at.round()).abs() < 1e-6;
        places
            .get(at.round() as usize)
            .filter(|_| is_whole)
            .map_or_else(String::new, |place| place.threads.to_string())
    };
    chart
        .configure_mesh()
        .x_desc("threads")
        .x_labels(places.len())
        .x_label_formatter(&threads)
        .y_label_formatter(&|rate| short(*rate))
        .light_line_style(WHITE)
        .draw()?;
    for (at, peer) in peers.iter().enumerate() {
        let color = COLORS[at % COLORS.len()];
        let style = color.stroke_width(if at == 0 { 4 } else { 2 });
        let mut points = points(peer);
        if let [(_, rate)] = points[..] {
            // The limit of the device, which one thread reaches: for all.
            points = vec![(0.0, rate), ((places.len() - 1) as f64, rate)];
        }
        chart.draw_series(LineSeries::new(points.iter().copied(), style))?;
        chart.draw_series(points.iter().map(|&point| Circle::new(point, 3, color.filled())))?;
        legend(&area, at, peer, color)?;
    }
    area.present()?;
    Ok(())
}

/// A line of the legend, right of the chart.
fn legend(area: &DrawingArea<SVGBackend<'_>, Shift>, at: usize, name: &str, color: RGBColor) -> Result<()> {
    let (x, y) = (SIZE.0 as i32 - 184, 60 + 24 * at as i32);
    area.draw(&Rectangle::new([(x, y), (x + 14, y + 14)], color.filled()))?;
    area.draw(&Text::new(name.to_owned(), (x + 22, y + 2), ("sans-serif", 15)))?;
    Ok(())
}

/// Bars: for each peer one for a cold and one for a warm page cache.
fn replay(report: &Report, places: &[Place], path: &Path) -> Result<()> {
    let peers = shown(report, places);
    let rate = |place: Place, peer: &str| {
        report.figure(place, peer, Outcome::rate).map_or(0.0, |figure| figure.median)
    };
    let most =
        peers.iter().flat_map(|peer| places.iter().map(|&place| rate(place, peer))).fold(0.0, f64::max);
    let area = canvas(path)?;
    let mut chart = ChartBuilder::on(&area)
        .caption("replay: 128-byte records per second, opening included", ("sans-serif", 20))
        .margin(12)
        .x_label_area_size(40)
        .y_label_area_size(130)
        .build_cartesian_2d(0.0..most * 1.1, 0.0..peers.len() as f64)?;
    chart
        .configure_mesh()
        .disable_y_mesh()
        .disable_y_axis()
        .y_labels(0)
        .x_label_formatter(&|rate| short(*rate))
        .light_line_style(WHITE)
        .draw()?;
    for (at, peer) in peers.iter().enumerate() {
        // The first stands on top.
        let top = (peers.len() - at) as f64;
        for (bar, &place) in places.iter().enumerate() {
            let (from, to) = (top - 0.15 - 0.35 * bar as f64, top - 0.47 - 0.35 * bar as f64);
            let color = if place.memory == Memory::Fresh { palette::BLUE_700 } else { palette::ORANGE_800 };
            let rate = rate(place, peer);
            chart.draw_series([Rectangle::new([(0.0, to), (rate, from)], color.filled())])?;
            chart.draw_series([Text::new(
                short(rate),
                (rate + most * 0.005, from - 0.02),
                ("sans-serif", 12),
            )])?;
        }
        let (_, y) = chart.backend_coord(&(0.0, top - 0.4));
        area.draw(&Text::new(peer.clone(), (14, y), ("sans-serif", 15)))?;
    }
    for (at, (name, color)) in
        [("cold: read from the disk", palette::BLUE_700), ("warm: in the page cache", palette::ORANGE_800)]
            .into_iter()
            .enumerate()
    {
        let y = 330 + 24 * at as i32;
        area.draw(&Rectangle::new([(690, y), (704, y + 14)], color.filled()))?;
        area.draw(&Text::new(name, (712, y + 2), ("sans-serif", 15)))?;
    }
    area.present()?;
    Ok(())
}
