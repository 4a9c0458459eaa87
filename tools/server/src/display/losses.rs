//! One-line summaries of the ledger.

use gridctl_telemetry::{
    Timestamp,
    ledger::{LedgerEntry, LossCause},
};
use std::collections::BTreeMap;

/// The number of evicted records; `None` when there are none. Evictions are not losses: limits cause
/// them.
#[must_use]
pub fn evicted<'a>(
    entries: impl IntoIterator<Item = &'a LedgerEntry>,
    time: impl Fn(Timestamp) -> String,
) -> Option<String> {
    let (count, to) = entries
        .into_iter()
        .filter(|loss| loss.cause == LossCause::Retention)
        .map(|loss| (loss.count, loss.to))
        .reduce(|(count, to), (more, later)| (count + more, to.max(later)))?;
    Some(format!(
        "limits evicted {count} records with times up to {}",
        time(to)
    ))
}

/// The lost records by cause; `None` when there are none.
#[must_use]
pub fn summary<'a>(
    losses: impl IntoIterator<Item = &'a LedgerEntry>,
    time: impl Fn(Timestamp) -> String,
) -> Option<String> {
    let mut by_cause: BTreeMap<LossCause, (u64, u64)> = BTreeMap::new();
    let mut recovered = 0;
    let mut range = None;
    for loss in losses {
        if loss.cause == LossCause::Retention {
            continue;
        }
        let (entries, records) = by_cause.entry(loss.cause).or_default();
        *entries += 1;
        *records += loss.count;
        recovered += loss.recovered;
        let (from, to) = range.unwrap_or((loss.from, loss.to));
        range = Some((loss.from.min(from), loss.to.max(to)));
    }
    let (from, to) = range?;
    let parts: Vec<String> = by_cause
        .into_iter()
        .map(|(cause, (entries, records))| match cause {
            // A killed process cannot count the records that it had in memory.
            LossCause::Crash => format!(
                "the uncommitted records of {entries} killed writer{}{}",
                if entries == 1 { "" } else { "s" },
                match recovered {
                    0 => String::new(),
                    recovered => format!(" ({recovered} were recovered)"),
                }
            ),
            LossCause::SetAside => format!(
                "the records of {entries} damaged file{} that {} set aside",
                if entries == 1 { "" } else { "s" },
                if entries == 1 { "was" } else { "were" }
            ),
            cause => format!("{records} records ({cause})"),
        })
        .collect();
    Some(format!(
        "lost between {} and {}: {}",
        time(from),
        time(to),
        parts.join(", ")
    ))
}

#[cfg(test)]
mod tests {
    use super::*;

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
        let time = |time: Timestamp| time.to_string();
        assert_eq!(summary(&[], time), None);
        let losses = [
            loss(LossCause::QueueFull, 3, 5_000_000_000),
            loss(LossCause::Crash, 0, 1_000_000_000),
            loss(LossCause::QueueFull, 4, 2_000_000_000),
            loss(LossCause::Retention, 10, 0),
            loss(LossCause::Retention, 5, 500_000_000),
        ];
        assert_eq!(
            evicted(&losses, time).unwrap(),
            "limits evicted 15 records with times up to 1970-01-01T00:00:01.5Z"
        );
        assert_eq!(evicted(&losses[..3], time), None);
        assert_eq!(
            summary(&losses, time).unwrap(),
            "lost between 1970-01-01T00:00:01Z and 1970-01-01T00:00:06Z: 7 records (queue full), the \
             uncommitted records of 1 killed writer"
        );
    }
}
