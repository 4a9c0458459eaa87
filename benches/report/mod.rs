//! What a run of the suite has found, how it compares with the committed figures, and how it is shown.

mod charts;
mod markdown;

pub use self::{
    charts::draw,
    markdown::{figures_table, machines, replace_between},
};

use crate::{
    measure::{median, nanos, ratio, time},
    workload::GatewayLogs,
};
use anyhow::{Context, Result};
use serde::{Deserialize, Serialize};
use std::{collections::BTreeMap, fs, hint::black_box, path::Path};

/// A figure that is worse than the committed one by more than this share is reported.
const WORSE_BY: f64 = 0.1;

/// The figures of each part of the suite, by its name.
#[derive(Debug, Default, Serialize, Deserialize)]
pub struct Figures {
    /// The parts by name.
    pub parts: BTreeMap<String, Part>,
}

/// What one part of the suite has found.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Part {
    /// When it ran, as a date.
    pub measured: String,
    /// Where it ran.
    pub machine: String,
    /// The commit that ran.
    pub commit: String,
    /// The time of a fixed computation, to compare machines.
    pub yardstick_nanos: u64,
    /// The lines of the table.
    pub figures: Vec<Figure>,
    /// For a chart: points of a curve.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub curves: Vec<Curve>,
}

/// A curve of a chart.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Curve {
    /// Its name in the legend.
    pub name: String,
    /// Its points.
    pub points: Vec<(f64, f64)>,
}

/// A line of the table.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Figure {
    /// Its name for the comparison with other runs and for charts.
    pub id: String,
    /// What was measured.
    pub what: String,
    /// The unit of all values.
    pub unit: Unit,
    /// The value of our store.
    pub value: f64,
    /// What stands beside it: peers, and the entropy.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub beside: Vec<Beside>,
    /// What the value must reach.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub targets: Vec<Target>,
}

/// A value that stands beside ours.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Beside {
    /// Whose it is.
    pub name: String,
    /// The value.
    pub value: f64,
}

/// What a value must reach.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Target {
    /// The bound, in words.
    pub bound: String,
    /// What is bounded, in words.
    pub found: String,
    /// Whether it does.
    pub met: bool,
}

/// The unit of a value, which says whether more is better.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Unit {
    /// On disk or in memory.
    Bytes,
    /// A time.
    Nanos,
    /// Processor time, which is shown in seconds.
    CpuSeconds,
    /// A rate.
    RecordsPerSecond,
    /// A rate.
    BytesPerSecond,
    /// Instructions of the processor.
    Instructions,
    /// Bytes by bytes.
    Ratio,
}

impl Unit {
    /// Whether the figure moves with the speed of the machine.
    fn is_timed(self) -> bool {
        match self {
            Unit::Nanos | Unit::CpuSeconds | Unit::RecordsPerSecond | Unit::BytesPerSecond => true,
            Unit::Bytes | Unit::Instructions | Unit::Ratio => false,
        }
    }

    /// How many times as bad `new` is as `old`.
    fn worsened(self, old: f64, new: f64) -> f64 {
        match self {
            Unit::RecordsPerSecond | Unit::BytesPerSecond => old / new,
            Unit::Bytes | Unit::Nanos | Unit::CpuSeconds | Unit::Instructions | Unit::Ratio => {
                new / old
            }
        }
    }

    /// The value as text.
    #[must_use]
    pub fn show(self, value: f64) -> String {
        match self {
            Unit::Bytes => format!("{:.1} MB", value / 1e6),
            Unit::Nanos if value < 1e3 => format!("{value:.0} ns"),
            Unit::Nanos if value < 1e6 => format!("{:.1} µs", value / 1e3),
            Unit::Nanos if value < 1e9 => format!("{:.2} ms", value / 1e6),
            Unit::Nanos => format!("{:.1} s", value / 1e9),
            Unit::CpuSeconds => format!("{value:.1} s"),
            Unit::RecordsPerSecond => format!("{:.0} k/s", value / 1e3),
            Unit::BytesPerSecond => format!("{:.0} MB/s", value / 1e6),
            Unit::Instructions => format!("{value:.0}"),
            Unit::Ratio => format!("{value:.2}"),
        }
    }
}

impl Figure {
    /// A figure without peers and targets.
    #[must_use]
    pub fn new(id: &str, what: impl Into<String>, unit: Unit, value: f64) -> Figure {
        Figure {
            id: id.to_owned(),
            what: what.into(),
            unit,
            value,
            beside: Vec::new(),
            targets: Vec::new(),
        }
    }

    /// Adds a value that stands beside ours.
    #[must_use]
    pub fn beside(mut self, name: impl Into<String>, value: f64) -> Figure {
        self.beside.push(Beside {
            name: name.into(),
            value,
        });
        self
    }

    /// Adds a target.
    #[must_use]
    pub fn at_most(self, bound: f64) -> Figure {
        let (found, met) = (self.unit.show(self.value), self.value <= bound);
        let bound = format!("≤ {}", self.unit.show(bound));
        self.target(bound, found, met)
    }

    /// Adds a target.
    #[must_use]
    pub fn at_least(self, bound: f64) -> Figure {
        let (found, met) = (self.unit.show(self.value), self.value >= bound);
        let bound = format!("≥ {}", self.unit.show(bound));
        self.target(bound, found, met)
    }

    /// Adds a target: at most this many times `of`, which is called `name`.
    #[must_use]
    pub fn at_most_times(self, bound: f64, of: f64, name: &str) -> Figure {
        let times = self.value / of;
        self.target(
            format!("≤ {bound:.2}x {name}"),
            format!("{times:.2}x"),
            times <= bound,
        )
    }

    /// Adds a target: at least this many times `of`, which is called `name`.
    #[must_use]
    pub fn at_least_times(self, bound: f64, of: f64, name: &str) -> Figure {
        let times = self.value / of;
        self.target(
            format!("≥ {bound:.1}x {name}"),
            format!("{times:.2}x"),
            times >= bound,
        )
    }

    /// Adds a target in words.
    #[must_use]
    pub fn target(mut self, bound: String, found: String, met: bool) -> Figure {
        self.targets.push(Target { bound, found, met });
        self
    }
}

impl Part {
    /// The figure with this name.
    #[must_use]
    pub fn figure(&self, id: &str) -> Option<&Figure> {
        self.figures.iter().find(|figure| figure.id == id)
    }
}

impl Figures {
    /// The figures of a file; none if it does not exist.
    pub fn read(path: &Path) -> Result<Figures> {
        match fs::read_to_string(path) {
            Ok(text) => serde_json::from_str(&text)
                .with_context(|| format!("{} has no figures", path.display())),
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(Figures::default()),
            Err(error) => Err(error).with_context(|| format!("read {}", path.display())),
        }
    }

    /// Writes the figures as JSON.
    pub fn write(&self, path: &Path) -> Result<()> {
        let mut text = serde_json::to_string_pretty(self)?;
        text.push('\n');
        if let Some(folder) = path.parent() {
            fs::create_dir_all(folder).with_context(|| format!("create {}", folder.display()))?;
        }
        fs::write(path, text).with_context(|| format!("write {}", path.display()))
    }

    /// The figure with this name of a part.
    #[must_use]
    pub fn figure(&self, part: &str, id: &str) -> Option<&Figure> {
        self.parts.get(part)?.figure(id)
    }

    /// What of `new` is worse than it is here by more than a tenth, in words.
    ///
    /// Times are compared as if both runs had been on one machine: its speed is told by the peers that stand beside the
    /// figure in both, or else by the yardstick.
    #[must_use]
    pub fn worse(&self, name: &str, new: &Part) -> Vec<String> {
        let Some(old) = self.parts.get(name) else {
            return Vec::new();
        };
        let mut worse = Vec::new();
        for now in &new.figures {
            let Some(before) = old.figure(&now.id) else {
                continue;
            };
            let slower = if now.unit.is_timed() {
                slower(before, now)
                    .unwrap_or_else(|| ratio(new.yardstick_nanos, old.yardstick_nanos))
            } else {
                1.0
            };
            let times = now.unit.worsened(before.value, now.value) / slower;
            if times > 1.0 + WORSE_BY {
                let (before, unit) = (before.value, now.unit);
                worse.push(format!(
                    "{}: {}, committed is {}; {:.0} % worse{}",
                    now.what,
                    unit.show(now.value),
                    unit.show(before),
                    (times - 1.0) * 100.0,
                    if unit.is_timed() {
                        format!(", with {slower:.2} for the speed of the machine")
                    } else {
                        String::new()
                    }
                ));
            }
        }
        worse
    }
}

/// How many times as slow the peers are as before, at the median.
fn slower(before: &Figure, now: &Figure) -> Option<f64> {
    let mut changes: Vec<f64> = now
        .beside
        .iter()
        .filter_map(|peer| {
            let old = before.beside.iter().find(|old| old.name == peer.name)?;
            Some(now.unit.worsened(old.value, peer.value))
        })
        .collect();
    changes.sort_by(f64::total_cmp);
    changes.get(changes.len() / 2).copied()
}

/// The time of a fixed computation without any code of ours: reading and compressing log lines.
pub fn yardstick() -> Result<u64> {
    let records = GatewayLogs::new(1)
        .take(10_000)
        .collect::<Result<Vec<_>>>()?;
    let mut times = Vec::new();
    for _ in 0..5 {
        let ((), took) = time(|| {
            for record in &records {
                black_box(serde_json::from_slice::<serde_json::Value>(&record.line)?);
            }
            let lines: Vec<&[u8]> = records.iter().map(|record| &*record.line).collect();
            black_box(zstd::bulk::compress(&lines.concat(), 3)?);
            Ok(())
        })?;
        times.push(nanos(took));
    }
    median(&times)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn part(yardstick_nanos: u64, value: f64, peer: Option<f64>, unit: Unit) -> Part {
        let mut figure = Figure::new("a", "a figure", unit, value);
        if let Some(peer) = peer {
            figure = figure.beside("a peer", peer);
        }
        Part {
            measured: String::new(),
            machine: String::new(),
            commit: String::new(),
            yardstick_nanos,
            figures: vec![figure],
            curves: Vec::new(),
        }
    }

    #[test]
    fn only_what_is_worse_by_more_than_a_tenth_is_reported() {
        use Unit::{Bytes, Nanos, RecordsPerSecond};
        for (old, new, is_worse) in [
            (
                part(1, 100.0, None, Bytes),
                part(2, 109.0, None, Bytes),
                false,
            ),
            (
                part(1, 100.0, None, Bytes),
                part(2, 111.0, None, Bytes),
                true,
            ),
            (
                part(1, 100.0, None, Bytes),
                part(2, 50.0, None, Bytes),
                false,
            ),
            // A machine that is half as fast.
            (
                part(1, 100.0, None, Nanos),
                part(2, 210.0, None, Nanos),
                false,
            ),
            (
                part(1, 100.0, None, Nanos),
                part(1, 210.0, None, Nanos),
                true,
            ),
            (
                part(2, 100.0, None, Nanos),
                part(1, 60.0, None, Nanos),
                true,
            ),
            // Peers know better than the yardstick.
            (
                part(1, 100.0, Some(10.0), RecordsPerSecond),
                part(2, 95.0, Some(10.0), RecordsPerSecond),
                false,
            ),
            (
                part(1, 100.0, Some(10.0), RecordsPerSecond),
                part(1, 95.0, Some(12.0), RecordsPerSecond),
                true,
            ),
        ] {
            let mut figures = Figures::default();
            figures.parts.insert("p".to_owned(), old);
            let worse = figures.worse("p", &new);
            assert_eq!(!worse.is_empty(), is_worse, "{new:?} {worse:?}");
        }
    }
}
