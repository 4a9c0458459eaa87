//! The figures as charts.

use super::{Curve, Figure, Figures, Unit};
use anyhow::{Context, Result};
use plotters::prelude::*;
use std::{fs, path::Path};

const WIDTH: u32 = 860;
const BAR: u32 = 22;
const OURS: RGBColor = RGBColor(37, 99, 235);
const PEER: RGBColor = RGBColor(156, 163, 175);
const BOUND: RGBColor = RGBColor(220, 38, 38);
const INK: RGBColor = RGBColor(31, 41, 55);
static CURVES: [RGBColor; 4] = [OURS, BOUND, RGBColor(5, 150, 105), PEER];
const NAME: &str = "gridctl-telemetry";

/// Draws all charts that there are figures for into the folder, and returns their file names with a line of text each.
pub fn draw(figures: &Figures, folder: &Path) -> Result<Vec<(String, String)>> {
    fs::create_dir_all(folder)?;
    let mut drawn = Vec::new();
    for (name, title, sources) in BARS {
        let groups: Vec<&Figure> = sources
            .iter()
            .filter_map(|(part, id)| figures.figure(part, id))
            .collect();
        if !groups.is_empty() {
            let file = format!("{name}.svg");
            bars(&folder.join(&file), title, &groups).with_context(|| format!("draw {file}"))?;
            drawn.push((file, (*title).to_owned()));
        }
    }
    for (name, title, part, axes) in LINES {
        let curves = figures.parts.get(*part).map(|part| &part.curves);
        if let Some(curves) = curves.filter(|curves| !curves.is_empty()) {
            let file = format!("{name}.svg");
            lines(&folder.join(&file), title, curves, axes)
                .with_context(|| format!("draw {file}"))?;
            drawn.push((file, (*title).to_owned()));
        }
    }
    Ok(drawn)
}

/// The file, the title, and the figures whose values are bars: the part and the name of each.
type Bars = (
    &'static str,
    &'static str,
    &'static [(&'static str, &'static str)],
);

const BARS: &[Bars] = &[
    (
        "size-logs",
        "1,000,000 log records on disk, MB: less is better",
        &[("sizes", "size.logs")],
    ),
    (
        "size-spans",
        "1,000,000 spans on disk, MB: less is better",
        &[("sizes", "size.spans")],
    ),
    (
        "ingest",
        "durable log records a second: more is better",
        &[
            ("ingest", "ingest.large"),
            ("ingest", "ingest.1000"),
            ("ingest", "ingest.100"),
        ],
    ),
    (
        "scan",
        "log records read a second: more is better",
        &[("scan", "scan.forward"), ("scan", "scan.backward")],
    ),
    (
        "last",
        "the last records of a server, from a handle that was just opened: less is better",
        &[("scan", "last.1000"), ("scan", "last.20")],
    ),
    (
        "events",
        "processor time of an event for its thread: less is better",
        &[("events", "event.row"), ("events", "event.span")],
    ),
];

/// The names of both axes, and whether the first is logarithmic.
type Axes = (&'static str, &'static str, bool);

const LINES: &[(&str, &str, &str, Axes)] = &[
    (
        "last-by-size",
        "short reads by the size of the store",
        "growth",
        ("records in the store", "µs", true),
    ),
    (
        "memory",
        "resident memory of a daemon at full load",
        "memory",
        ("records written", "MiB", false),
    ),
];

/// Draws a group of horizontal bars for each figure, ours first. The entropy is a line.
fn bars(path: &Path, title: &str, groups: &[&Figure]) -> Result<()> {
    const HEAD: i32 = 40;
    const LEFT: i32 = 230;
    const RIGHT: i32 = 110;
    let row = i32::try_from(BAR)?;
    let rows: usize = groups.iter().map(|group| group.beside.len() + 2).sum();
    let height = u32::try_from(HEAD)? + BAR * u32::try_from(rows)? + 8;
    let root = SVGBackend::new(path, (WIDTH, height)).into_drawing_area();
    root.fill(&WHITE)?;
    root.draw(&Text::new(
        title,
        (12, 12),
        ("sans-serif", 17).into_font().color(&INK),
    ))?;
    let small = ("sans-serif", 13).into_font().color(&INK);
    let mut top = HEAD;
    for group in groups {
        let heading = ("sans-serif", 13)
            .into_font()
            .style(FontStyle::Bold)
            .color(&INK);
        root.draw(&Text::new(group.what.clone(), (12, top + 4), heading))?;
        top += row;
        let mut values = vec![(NAME, group.value, OURS)];
        values.extend(
            group
                .beside
                .iter()
                .map(|peer| (&*peer.name, peer.value, PEER)),
        );
        values.sort_by(|a, b| {
            let order = a.1.total_cmp(&b.1);
            if group.unit == Unit::RecordsPerSecond {
                order.reverse()
            } else {
                order
            }
        });
        let most = values.iter().map(|value| value.1).fold(0.0, f64::max);
        let length = f64::from(i32::try_from(WIDTH)? - LEFT - RIGHT);
        for (name, value, color) in values {
            let color = if name.starts_with("entropy") {
                BOUND
            } else {
                color
            };
            let end = LEFT + pixels(length * value / most);
            root.draw(&Text::new(name.to_owned(), (24, top + 3), small.clone()))?;
            root.draw(&Rectangle::new(
                [(LEFT, top + 3), (end.max(LEFT + 1), top + row - 3)],
                color.filled(),
            ))?;
            let text = group.unit.show(value);
            root.draw(&Text::new(text, (end + 6, top + 3), small.clone()))?;
            top += row;
        }
    }
    root.present()?;
    Ok(())
}

#[expect(
    clippy::cast_possible_truncation,
    reason = "a length within the chart, which has fewer than a thousand pixels"
)]
fn pixels(length: f64) -> i32 {
    length.round() as i32
}

fn lines(path: &Path, title: &str, curves: &[Curve], axes: &Axes) -> Result<()> {
    let root = SVGBackend::new(path, (WIDTH, 320)).into_drawing_area();
    root.fill(&WHITE)?;
    let (x_name, y_name, is_logarithmic) = *axes;
    let points = || curves.iter().flat_map(|curve| &curve.points);
    let x_least = points().map(|point| point.0).fold(f64::MAX, f64::min);
    let x_most = points().map(|point| point.0).fold(0.0, f64::max);
    let y_most = points().map(|point| point.1).fold(0.0, f64::max) * 1.15;
    let mut chart = ChartBuilder::on(&root);
    chart
        .caption(title, ("sans-serif", 17).into_font().color(&INK))
        .margin(12)
        .x_label_area_size(38)
        .y_label_area_size(56);
    macro_rules! plot {
        ($x:expr) => {{
            let mut chart = chart.build_cartesian_2d($x, 0.0..y_most)?;
            chart
                .configure_mesh()
                .light_line_style(TRANSPARENT)
                .x_desc(x_name)
                .y_desc(y_name)
                .x_label_formatter(&|x| count(*x))
                .y_label_formatter(&|y| format!("{y:.0}"))
                .label_style(("sans-serif", 12).into_font().color(&INK))
                .draw()?;
            for (curve, color) in curves.iter().zip(CURVES.iter().cycle()) {
                chart
                    .draw_series(LineSeries::new(
                        curve.points.iter().copied(),
                        color.stroke_width(2),
                    ))?
                    .label(&curve.name)
                    .legend(move |(x, y)| {
                        PathElement::new(vec![(x, y), (x + 18, y)], color.stroke_width(2))
                    });
            }
            chart
                .configure_series_labels()
                .background_style(WHITE)
                .border_style(PEER)
                .label_font(("sans-serif", 12).into_font().color(&INK))
                .draw()?;
        }};
    }
    if is_logarithmic {
        plot!((x_least..x_most).log_scale());
    } else {
        plot!(x_least..x_most);
    }
    root.present()?;
    Ok(())
}

/// A number of records as a short text.
fn count(records: f64) -> String {
    if records >= 1e6 {
        format!("{} M", records / 1e6)
    } else {
        format!("{} k", records / 1e3)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::report::Part;

    #[test]
    fn a_chart_has_a_bar_for_each_peer() -> Result<()> {
        let figure = Figure::new("size.logs", "logs", Unit::Bytes, 2e6)
            .beside("entropy", 1e6)
            .beside("fjall", 3e6);
        let curve = Curve {
            name: "last(20)".to_owned(),
            points: vec![(5e4, 20.0), (1e6, 21.0)],
        };
        let part = |figures, curves| Part {
            measured: String::new(),
            machine: String::new(),
            commit: String::new(),
            yardstick_nanos: 1,
            figures,
            curves,
        };
        let mut figures = Figures::default();
        figures
            .parts
            .insert("sizes".to_owned(), part(vec![figure], Vec::new()));
        figures
            .parts
            .insert("growth".to_owned(), part(Vec::new(), vec![curve]));
        let folder = tempfile::tempdir()?;
        let drawn = draw(&figures, folder.path())?;
        let names: Vec<&str> = drawn.iter().map(|(name, _)| &**name).collect();
        assert_eq!(names, ["size-logs.svg", "last-by-size.svg"]);
        let chart = fs::read_to_string(folder.path().join("size-logs.svg"))?;
        for text in ["gridctl-telemetry", "entropy", "fjall", "3.0 MB"] {
            assert!(chart.contains(text), "{text}");
        }
        Ok(())
    }
}
