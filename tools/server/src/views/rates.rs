//! How many records a second arrive.

use super::steps::before;
use gridctl_telemetry::{Query, ServerName, Signal, Snapshot, Timestamp, query::CountBy};
use std::{collections::BTreeMap, time::Duration};

/// The time over which records are counted for the rate.
const RATE_TIME: Duration = Duration::from_secs(60);

/// The number of records of the last minute, of each server and signal that had any.
#[derive(Debug)]
pub struct Rates(BTreeMap<(ServerName, Signal), u64>);

impl Rates {
    /// Counts the records of the minute before `now`.
    ///
    /// # Errors
    ///
    /// Like [`Snapshot::count`].
    pub fn measure(snapshot: &Snapshot, now: Timestamp) -> gridctl_telemetry::Result<Rates> {
        let since = before(now, RATE_TIME);
        let mut counts = BTreeMap::new();
        for signal in Signal::ALL {
            let query = Query::new(signal).range(since..=now).skip_damaged();
            for row in snapshot.count(&query, &[CountBy::Server])?.rows {
                if let Some(server) = row.server {
                    counts.insert((server, signal), row.count);
                }
            }
        }
        Ok(Rates(counts))
    }

    /// The records a second of a signal of a server.
    #[must_use]
    pub fn of(&self, server: &ServerName, signal: Signal) -> f64 {
        let count = self.0.get(&(server.clone(), signal));
        per_second_of(count.copied().unwrap_or(0))
    }

    /// The records a second of each signal.
    #[must_use]
    pub fn by_signal(&self) -> BTreeMap<Signal, f64> {
        Signal::ALL
            .into_iter()
            .map(|signal| {
                let of_signal = self.0.iter().filter(|((_, of), _)| *of == signal);
                (
                    signal,
                    per_second_of(of_signal.map(|(_, count)| count).sum()),
                )
            })
            .collect()
    }
}

#[expect(
    clippy::cast_precision_loss,
    reason = "a rate has two decimals, far from where a number of records is rounded"
)]
fn per_second_of(records: u64) -> f64 {
    // To a hundredth, so that JSON has no digits that mean nothing.
    (records as f64 / RATE_TIME.as_secs_f64() * 100.0).round() / 100.0
}
