//! The loss ledger, in a line.

use gridctl_telemetry::{ledger::LedgerEntry, ledger::LossCause};
use std::collections::BTreeMap;

/// What the limits took, or nothing when they took nothing: that is no loss, but was wanted.
pub(crate) fn retired<'a>(losses: impl IntoIterator<Item = &'a LedgerEntry>) -> Option<String> {
    let taken = losses
        .into_iter()
        .filter(|loss| loss.cause == LossCause::Retention)
        .map(|loss| (loss.count, loss.to))
        .reduce(|(count, to), (more, later)| (count + more, to.max(later)))?;
    let (count, to) = taken;
    Some(format!("retention took {count} records, up to {to}"))
}

/// What was lost, or nothing when nothing was.
pub(crate) fn summary<'a>(losses: impl IntoIterator<Item = &'a LedgerEntry>) -> Option<String> {
    let mut by_cause: BTreeMap<LossCause, (u64, u64)> = BTreeMap::new();
    let mut range = None;
    for loss in losses {
        if loss.cause == LossCause::Retention {
            continue;
        }
        let (entries, records) = by_cause.entry(loss.cause).or_default();
        *entries += 1;
        *records += loss.count;
        let (from, to) = range.unwrap_or((loss.from, loss.to));
        range = Some((loss.from.min(from), loss.to.max(to)));
    }
    let (from, to) = range?;
    let parts: Vec<String> = by_cause
        .into_iter()
        .map(|(cause, (entries, records))| match cause {
            // Nobody could count what a process had in memory when it was killed.
            LossCause::Crash => format!("the daemon was killed {entries} times"),
            cause => format!("{records} records ({cause})"),
        })
        .collect();
    Some(format!(
        "lost: {}; between {from} and {to}",
        parts.join(", ")
    ))
}

#[cfg(test)]
mod tests {
    use super::*;
    use gridctl_telemetry::Timestamp;

    #[test]
    fn losses_are_summed_by_cause() {
        let loss = |cause: LossCause, count: u64, at: i64| -> LedgerEntry {
            let to = Timestamp::from_unix_nanos(at + 1_000_000_000);
            let entry = serde_json::json!({
                "server": "github",
                "signal": "logs",
                "cause": cause,
                "count": count,
                "from": Timestamp::from_unix_nanos(at),
                "to": to,
            });
            serde_json::from_value(entry).unwrap()
        };
        assert_eq!(summary(&[]), None);
        let losses = [
            loss(LossCause::QueueFull, 3, 5_000_000_000),
            loss(LossCause::Crash, 0, 1_000_000_000),
            loss(LossCause::QueueFull, 4, 2_000_000_000),
            loss(LossCause::Retention, 10, 0),
            loss(LossCause::Retention, 5, 500_000_000),
        ];
        assert_eq!(
            retired(&losses).unwrap(),
            "retention took 15 records, up to 1970-01-01T00:00:01.5Z"
        );
        assert_eq!(retired(&losses[..3]), None);
        assert_eq!(
            summary(&losses).unwrap(),
            "lost: 7 records (queue full), the daemon was killed 1 times; between \
             1970-01-01T00:00:01Z and 1970-01-01T00:00:06Z"
        );
    }
}
