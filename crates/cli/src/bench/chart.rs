//! The rows of `braidlog bench` as an SVG picture: threads to the right in powers of two, records per second upwards
//! in powers of ten; one panel for each record size, one line for each mode, and what the disk does alone as level lines.

use std::error::Error;

use plotters::prelude::*;

use super::{Report, Row};

const PANEL_SIZE: (u32, u32) = (820, 480);
const FONT: &str = "sans-serif";
const MODES: [(&str, RGBColor); 3] =
    [("async", RGBColor(0, 114, 178)), ("group", RGBColor(0, 158, 115)), ("sync", RGBColor(213, 94, 0))];
const RAW_STREAM: RGBColor = RGBColor(86, 180, 233);
const RAW_LOOP: RGBColor = RGBColor(120, 120, 120);

type Drawn<T> = Result<T, Box<dyn Error>>;

/// The picture as text.
pub fn draw(report: &Report) -> Drawn<String> {
    let mut sizes: Vec<u64> = report.rows.iter().map(|row| row.record_bytes).collect();
    sizes.sort_unstable();
    sizes.dedup();
    let mut svg = String::new();
    {
        let size = (PANEL_SIZE.0, PANEL_SIZE.1 * sizes.len() as u32);
        let area = SVGBackend::with_string(&mut svg, size).into_drawing_area();
        area.fill(&WHITE).map_err(|error| error.to_string())?;
        for (panel, &bytes) in area.split_evenly((sizes.len(), 1)).iter().zip(&sizes) {
            draw_size(panel, report, bytes).map_err(|error| error.to_string())?;
        }
        area.present().map_err(|error| error.to_string())?;
    }
    Ok(svg)
}

fn draw_size<DB: DrawingBackend>(
    panel: &DrawingArea<DB, plotters::coord::Shift>,
    report: &Report,
    bytes: u64,
) -> Result<(), DrawingAreaErrorKind<DB::ErrorType>> {
    let rows: Vec<&Row> = report.rows.iter().filter(|row| row.record_bytes == bytes).collect();
    let stream = report.raw.stream_bytes_per_second.map(|figure| figure.median / bytes as f64);
    let turns = [report.raw.loop_buffered_per_second, report.raw.loop_direct_per_second];
    let turns = turns.into_iter().flatten().map(|figure| figure.median).reduce(f64::max);

    let rates = rows.iter().map(|row| row.records_per_second.median).chain(stream).chain(turns);
    let (low, high) = ends(rates.map(f64::log10));
    let (least, most) = ends(rows.iter().map(|row| f64::from(row.threads).log2()));

    let mut chart = ChartBuilder::on(panel)
        .caption(format!("Braidlog beside the disk: records of {bytes} bytes"), (FONT, 20))
        .margin(12)
        .x_label_area_size(42)
        .y_label_area_size(84)
        .build_cartesian_2d(least - 0.2..most + 0.2, low.floor()..high.ceil() + 0.1)?;
    chart
        .configure_mesh()
        .x_desc("threads")
        .y_desc("records per second")
        .x_labels(12)
        .x_label_formatter(&|power| {
            whole(*power).map_or_else(String::new, |power| 2_f64.powi(power).to_string())
        })
        .y_labels(10)
        .y_label_formatter(&|power| whole(*power).map_or_else(String::new, |power| short(10_f64.powi(power))))
        .light_line_style(TRANSPARENT)
        .label_style((FONT, 13))
        .draw()?;
    let mut line = |name: String, color: RGBColor, width: u32, points: Vec<(f64, f64)>| {
        let style = color.stroke_width(width);
        if width > 1 {
            chart.draw_series(points.iter().map(|&point| Circle::new(point, 3, color.filled())))?;
        }
        let series = chart.draw_series(LineSeries::new(points, style))?;
        series.label(name).legend(move |(x, y)| PathElement::new([(x, y), (x + 18, y)], style));
        Ok::<(), DrawingAreaErrorKind<DB::ErrorType>>(())
    };
    for (mode, color) in MODES {
        let mut points: Vec<(f64, f64)> = rows
            .iter()
            .filter(|row| row.mode == mode)
            .map(|row| (f64::from(row.threads).log2(), row.records_per_second.median.log10()))
            .collect();
        points.sort_by(|one, other| one.0.total_cmp(&other.0));
        if !points.is_empty() {
            line(mode.to_owned(), color, 2, points)?;
        }
    }
    let level = |rate: f64| vec![(least, rate.log10()), (most, rate.log10())];
    if let Some(rate) = stream {
        line("raw stream of 1 MiB".to_owned(), RAW_STREAM, 1, level(rate))?;
    }
    if let Some(rate) = turns {
        line("raw write 4096 + fdatasync".to_owned(), RAW_LOOP, 1, level(rate))?;
    }
    chart
        .configure_series_labels()
        .position(SeriesLabelPosition::LowerRight)
        .background_style(WHITE.mix(0.9))
        .border_style(BLACK.mix(0.3))
        .label_font((FONT, 13))
        .draw()
}

/// The least and the greatest.
fn ends(values: impl Iterator<Item = f64>) -> (f64, f64) {
    values.fold((f64::MAX, f64::MIN), |(least, most), value| (value.min(least), value.max(most)))
}

/// The power at a line of the mesh, if it is a whole one: the others have no label.
fn whole(power: f64) -> Option<i32> {
    ((power - power.round()).abs() < 1e-9).then(|| power.round() as i32)
}

/// `10000` as `10k`.
fn short(rate: f64) -> String {
    match rate {
        1e6.. => format!("{}M", rate / 1e6),
        1e3.. => format!("{}k", rate / 1e3),
        _ => rate.to_string(),
    }
}
