//! What a number counts, and how it is written.

use super::{float, trimmed};
use crate::display::{decimals, duration, grouped, usd};
use std::time::Duration;

/// What the numbers of a chart are.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Unit {
    /// Things that are counted, with their names: one of them, and several.
    Count(&'static str, &'static str),
    /// Costs, in micro-USD.
    MicroUsd,
    /// Durations, in nanoseconds.
    Nanos,
}

impl Unit {
    pub(crate) const RECORDS: Unit = Unit::Count("record", "records");
    pub(crate) const TOKENS: Unit = Unit::Count("token", "tokens");
    pub(crate) const CALLS: Unit = Unit::Count("call", "calls");

    /// A number in full, with its unit: `1,234 records`, `$0.0120`, `12.3ms`.
    pub(crate) fn full(self, value: u64) -> String {
        match self {
            Unit::Count(one, _) if value == 1 => format!("1 {one}"),
            Unit::Count(_, several) => format!("{} {several}", grouped(value)),
            _ => self.cell(value),
        }
    }

    /// A number in a column whose heading says what it counts: `1,234`.
    pub(crate) fn cell(self, value: u64) -> String {
        match self {
            Unit::Count(..) => grouped(value),
            Unit::MicroUsd => usd(i128::from(value), decimals(i128::from(value))),
            Unit::Nanos => duration(Duration::from_nanos(value)),
        }
    }

    /// A round number on an axis: `12k`, `$0.05`, `250ms`.
    pub(crate) fn brief(self, value: u64) -> String {
        match self {
            Unit::Count(..) => brief_count(value),
            Unit::MicroUsd => brief_usd(value),
            Unit::Nanos => brief_duration(value),
        }
    }
}

fn brief_count(value: u64) -> String {
    scaled(
        value,
        &[
            (1_000_000_000_000_000_000, "E"),
            (1_000_000_000_000_000, "P"),
            (1_000_000_000_000, "T"),
            (1_000_000_000, "G"),
            (1_000_000, "M"),
            (1_000, "k"),
        ],
    )
}

fn brief_usd(micro_usd: u64) -> String {
    if micro_usd >= 1_000_000_000 {
        return format!("${}", brief_count(micro_usd / 1_000_000));
    }
    format!("${}", trimmed(float(i128::from(micro_usd)) / 1e6, 6))
}

fn brief_duration(nanos: u64) -> String {
    const MINUTE: u64 = 60_000_000_000;
    const HOUR: u64 = 60 * MINUTE;
    const DAY: u64 = 24 * HOUR;
    let parts = |unit: u64, name: &str, rest: u64, rest_name: &str| {
        let rest = nanos % unit / rest;
        let whole = nanos / unit;
        if rest == 0 {
            format!("{whole}{name}")
        } else {
            format!("{whole}{name}{rest}{rest_name}")
        }
    };
    match nanos {
        DAY.. => parts(DAY, "d", HOUR, "h"),
        HOUR.. => parts(HOUR, "h", MINUTE, "m"),
        MINUTE.. => parts(MINUTE, "m", 1_000_000_000, "s"),
        0 => "0".to_owned(),
        1..1_000 => format!("{nanos}ns"),
        _ => scaled(
            nanos,
            &[(1_000_000_000, "s"), (1_000_000, "ms"), (1_000, "µs")],
        ),
    }
}

/// A number with at most two digits after the point, in the largest unit that it reaches.
fn scaled(value: u64, units: &[(u64, &str)]) -> String {
    match units.iter().find(|(unit, _)| value >= *unit) {
        Some((unit, name)) => {
            let shown = float(i128::from(value)) / float(i128::from(*unit));
            format!("{}{name}", trimmed(shown, 2))
        }
        None => value.to_string(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_are_brief_on_an_axis_and_full_in_a_text() {
        for (unit, value, brief, full) in [
            (Unit::RECORDS, 0, "0", "0 records"),
            (Unit::RECORDS, 1, "1", "1 record"),
            (Unit::TOKENS, 1_500, "1.5k", "1,500 tokens"),
            (Unit::CALLS, 2_000_000, "2M", "2,000,000 calls"),
            (
                Unit::CALLS,
                u64::MAX,
                "18.45E",
                "18,446,744,073,709,551,615 calls",
            ),
            (Unit::MicroUsd, 0, "$0", "$0.00"),
            (Unit::MicroUsd, 50_000, "$0.05", "$0.0500"),
            (Unit::MicroUsd, 20, "$0.00002", "$0.000020"),
            (Unit::MicroUsd, 2_000_000_000, "$2k", "$2,000.00"),
            (Unit::Nanos, 0, "0", "0ns"),
            (Unit::Nanos, 250_000_000, "250ms", "250ms"),
            (Unit::Nanos, 1_500_000_000, "1.5s", "1.50s"),
            (Unit::Nanos, 90_000_000_000, "1m30s", "1m30s"),
            (Unit::Nanos, 7_200_000_000_000, "2h", "2h00m"),
            (Unit::Nanos, 2 * 86_400_000_000_000, "2d", "48h00m"),
        ] {
            assert_eq!(unit.brief(value), brief);
            assert_eq!(unit.full(value), full);
        }
    }
}
