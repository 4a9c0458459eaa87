//! Costs, as people and programs read them.

use super::grouped;
use gridctl_telemetry::record::CostCounts;

/// Micro-USD in a USD.
pub const MICROS_PER_USD: i128 = 1_000_000;

/// A whole cost, in micro-USD.
#[must_use]
pub fn micro_usd(cost: CostCounts) -> i128 {
    [
        cost.input_micro_usd,
        cost.output_micro_usd,
        cost.cache_read_micro_usd,
        cost.cache_write_micro_usd,
    ]
    .map(i128::from)
    .iter()
    .sum()
}

/// How many digits after the point a cost needs: cents, unless they would say little or nothing of it.
#[must_use]
pub fn decimals(micro_usd: i128) -> usize {
    match micro_usd.unsigned_abs() {
        0 | 100_000.. => 2,
        1_000.. => 4,
        _ => 6,
    }
}

/// A cost in USD, rounded to at most six digits after the point.
#[must_use]
pub fn usd(micro_usd: i128, decimals: usize) -> String {
    let sign = if micro_usd < 0 { "-" } else { "" };
    let micro_usd = i128::try_from(micro_usd.unsigned_abs()).unwrap_or(i128::MAX);
    let unit = 10_i128.pow(6_u32.saturating_sub(u32::try_from(decimals).unwrap_or(6)));
    let rounded = micro_usd.saturating_add(unit / 2) / unit * unit;
    let fraction = format!("{:06}", rounded % MICROS_PER_USD);
    format!(
        "{sign}${}.{}",
        grouped(rounded / MICROS_PER_USD),
        fraction.get(..decimals).unwrap_or(&fraction)
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_small_cost_is_not_rounded_to_nothing() {
        for (micro_usd, expected) in [
            (0, "$0.00"),
            (1, "$0.000001"),
            (999, "$0.000999"),
            (1_000, "$0.0010"),
            (43_215, "$0.0432"),
            (100_000, "$0.10"),
            (1_995_000, "$2.00"),
            (1_234_567_890_000, "$1,234,567.89"),
            (99_999, "$0.1000"),
            (-1_500_000, "-$1.50"),
        ] {
            assert_eq!(usd(micro_usd, decimals(micro_usd)), expected);
        }
    }
}
