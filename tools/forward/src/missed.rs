//! Which records limits evicted before they were sent.
//!
//! The ledger counts the evicted records of each series, and says nothing about single ones. Limits evict the oldest
//! records first, and they are sent in that order, too: so evicted records are first those that were sent, and the
//! rest was missed. Where records with old times arrive late, the number is off by some of them.

use crate::stats::Missed;
use gridctl_telemetry::{
    ServerName, Signal, Timestamp, ledger::LedgerEntry, query::InventoryRecord,
};
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;

/// What is known about each series of a signal.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(transparent)]
pub(crate) struct Tally {
    series: BTreeMap<ServerName, Known>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "camelCase")]
struct Known {
    /// The number of sent records that were not evicted, as far as is known.
    sent: u64,
    /// The number of evicted records when the ledger was read last, and the last time among them.
    evicted: u64,
    evicted_to: Option<Timestamp>,
}

impl Tally {
    /// Notes a record that was sent, or refused.
    pub(crate) fn note_sent(&mut self, server: &ServerName) {
        if let Some(known) = self.series.get_mut(server) {
            known.sent += 1;
        } else {
            let known = Known {
                sent: 1,
                ..Known::default()
            };
            self.series.insert(server.clone(), known);
        }
    }

    /// Compares with what the ledger has about evictions of the signal. Returns what was missed since the last time.
    pub(crate) fn note_evicted(&mut self, signal: Signal, evicted: &[LedgerEntry]) -> Vec<Missed> {
        let mut missed = Vec::new();
        for entry in evicted {
            let (Some(server), true) = (&entry.server, entry.signal == Some(signal)) else {
                continue;
            };
            let known = self.series.entry(server.clone()).or_default();
            let new = entry.count.saturating_sub(known.evicted);
            let unsent = new.saturating_sub(known.sent);
            known.sent = known.sent.saturating_sub(new);
            known.evicted = entry.count;
            let before = known.evicted_to.replace(entry.to);
            if unsent > 0 {
                missed.push(Missed {
                    signal,
                    server: server.clone(),
                    count: unsent,
                    from: before.unwrap_or(entry.from).min(entry.to),
                    to: entry.to,
                });
            }
        }
        missed
    }

    /// All stored records are sent: no more of them can be evicted than there are. A wipe may have deleted some.
    pub(crate) fn note_caught_up(&mut self, signal: Signal, stored: &[InventoryRecord]) {
        for (server, known) in &mut self.series {
            let mut of_series = stored
                .iter()
                .filter(|it| it.signal == signal && it.server == *server);
            known.sent = known
                .sent
                .min(of_series.next().map_or(0, |it| it.record_count));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn evicted(count: u64, to: i64) -> LedgerEntry {
        serde_json::from_value(serde_json::json!({
            "server": "github", "signal": "logs", "cause": "retention", "count": count,
            "from": Timestamp::from_unix_nanos(0), "to": Timestamp::from_unix_nanos(to),
        }))
        .unwrap()
    }

    #[test]
    fn evicted_records_were_sent_first() {
        let server = ServerName::new("github").unwrap();
        let mut tally = Tally::default();
        let look = |tally: &mut Tally, count, to| -> Vec<(u64, i64)> {
            let missed = tally.note_evicted(Signal::Logs, &[evicted(count, to)]);
            missed
                .iter()
                .map(|it| (it.count, it.from.unix_nanos()))
                .collect()
        };
        // Before the first run.
        assert_eq!(look(&mut tally, 5, 10), [(5, 0)]);
        (0..10).for_each(|_| tally.note_sent(&server));
        assert_eq!(look(&mut tally, 12, 20), []);
        let json = serde_json::to_string(&tally).unwrap();
        let mut tally: Tally = serde_json::from_str(&json).unwrap();
        assert_eq!(look(&mut tally, 18, 30), [(3, 20)]);
        assert_eq!(look(&mut tally, 18, 30), []);
        // A wipe deleted what was sent.
        (0..10).for_each(|_| tally.note_sent(&server));
        tally.note_caught_up(Signal::Logs, &[]);
        assert_eq!(look(&mut tally, 19, 40), [(1, 30)]);
        assert!(
            tally
                .note_evicted(Signal::Traces, &[evicted(99, 1)])
                .is_empty()
        );
    }
}
