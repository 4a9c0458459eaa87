//! Times, as a calendar and a clock show them.

use gridctl_telemetry::external::time::OffsetDateTime;

/// A time to the second, `2026-05-08 14:03:20`, without its zone.
#[must_use]
pub fn clock_seconds(local: OffsetDateTime) -> String {
    format!(
        "{} {:02}:{:02}:{:02}",
        local.date(),
        local.hour(),
        local.minute(),
        local.second()
    )
}

/// A time to the millisecond, `2026-05-08 14:03:20.500`, without its zone. Always 23 columns for the years of
/// timestamps.
#[must_use]
pub fn clock_millis(local: OffsetDateTime) -> String {
    format!("{}.{:03}", clock_seconds(local), local.millisecond())
}
