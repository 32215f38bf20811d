//! The table of `undercroft bench` as a picture.

use plotters::coord::Shift;
use plotters::prelude::*;
use undercroft_cli::Failure;

use super::{Measured, Row};

/// Width and height in pixels.
const SIZE: (u32, u32) = (760, 640);

/// Signatures a second above, times below, both over the threads.
pub(super) fn svg(measured: &Measured) -> Result<String, Failure> {
    let mut text = String::new();
    draw(measured, &mut text).map_err(|error| Failure::failed(format!("cannot draw: {error}")))?;
    Ok(text)
}

type Area<'a> = DrawingArea<SVGBackend<'a>, Shift>;
type Failed = Box<dyn std::error::Error>;

fn draw(measured: &Measured, text: &mut String) -> Result<(), Failed> {
    let root = SVGBackend::with_string(text, SIZE).into_drawing_area();
    root.fill(&WHITE)?;
    let titled =
        root.titled(&format!("{} in {}", measured.algorithm, measured.device), ("sans-serif", 22))?;
    let (above, below) = titled.split_vertically(SIZE.1 / 2);
    let rate: fn(&Row) -> f64 = |row| row.rate;
    lines(&above, &measured.rows, "signatures a second", &[("", BLUE, rate)])?;
    let times: [Line; 2] = [("p50", BLUE, |row| row.p50_ms), ("p99", RED, |row| row.p99_ms)];
    lines(&below, &measured.rows, "milliseconds", &times)?;
    root.present()?;
    Ok(())
}

/// A name, a colour, and what of a row it shows.
type Line = (&'static str, RGBColor, fn(&Row) -> f64);

fn lines(area: &Area<'_>, rows: &[Row], what: &str, lines: &[Line]) -> Result<(), Failed> {
    let most = rows.iter().map(|row| row.threads).max().unwrap_or(1);
    let highest = lines.iter().flat_map(|(_, _, value)| rows.iter().map(value)).fold(0.0, f64::max);
    let mut chart = ChartBuilder::on(area)
        .margin(12)
        .x_label_area_size(36)
        .y_label_area_size(64)
        .build_cartesian_2d(0..u32::from(most) + 1, 0.0..highest * 1.1 + f64::MIN_POSITIVE)?;
    chart.configure_mesh().x_desc("threads").y_desc(what).light_line_style(TRANSPARENT).draw()?;
    for &(name, colour, value) in lines {
        let points = || rows.iter().map(move |row| (u32::from(row.threads), value(row)));
        let drawn = chart.draw_series(LineSeries::new(points(), colour.stroke_width(2)))?;
        if !name.is_empty() {
            drawn.label(name).legend(move |(x, y)| PathElement::new([(x, y), (x + 18, y)], colour));
        }
        chart.draw_series(points().map(|point| Circle::new(point, 3, colour.filled())))?;
    }
    if lines.len() > 1 {
        chart.configure_series_labels().background_style(WHITE).border_style(BLACK).draw()?;
    }
    Ok(())
}
