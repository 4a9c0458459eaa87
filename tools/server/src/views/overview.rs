//! Each server of a stack: what is stored of it, and how its last day went.

use super::{
    rates::Rates,
    steps::{self, before},
};
use crate::{display::micro_usd, input::Zone, problem::Problem};
use gridctl_telemetry::{
    Level, Query, ServerName, Signal, Snapshot, Timestamp,
    maintenance::ServerLimits,
    query::{CountBy, InventoryRecord, UsageBy, UsageQuery},
};
use std::{collections::BTreeMap, time::Duration};

/// The number of hours that are looked at, the present one included.
pub(crate) const HOURS: usize = 24;

/// The servers of a stack.
#[derive(Debug)]
pub(crate) struct Overview {
    /// When the first of the hours begins.
    pub(crate) since: Timestamp,
    pub(crate) servers: Vec<ServerView>,
    /// What of the inventory cannot be read.
    pub(crate) unreadable: Vec<String>,
}

/// A server. Numbers by hour are of the last [`HOURS`], the oldest first.
#[derive(Debug)]
pub(crate) struct ServerView {
    pub(crate) name: ServerName,
    /// What is stored, by signal.
    pub(crate) stored: Vec<InventoryRecord>,
    pub(crate) limits: Option<ServerLimits>,
    /// Records a second of the last minute, of all signals.
    pub(crate) rate: f64,
    /// Log records and spans.
    pub(crate) records: Vec<u64>,
    /// Log records of errors.
    pub(crate) error_logs: u64,
    pub(crate) failed_spans: u64,
    pub(crate) tokens: Vec<u64>,
    pub(crate) micro_usd: Vec<u64>,
}

impl ServerView {
    fn new(name: ServerName) -> ServerView {
        ServerView {
            name,
            stored: Vec::new(),
            limits: None,
            rate: 0.0,
            records: vec![0; HOURS],
            error_logs: 0,
            failed_spans: 0,
            tokens: vec![0; HOURS],
            micro_usd: vec![0; HOURS],
        }
    }

    /// The number of stored records.
    pub(crate) fn record_count(&self) -> u64 {
        self.stored.iter().map(|stored| stored.record_count).sum()
    }

    pub(crate) fn size_bytes(&self) -> u64 {
        self.stored.iter().map(|stored| stored.size_bytes).sum()
    }

    /// The signal that is closest to its limit.
    pub(crate) fn fullest(&self) -> Option<&InventoryRecord> {
        self.stored.iter().max_by_key(|stored| stored.size_bytes)
    }

    pub(crate) fn newest(&self) -> Option<Timestamp> {
        self.stored.iter().map(|stored| stored.newest_time).max()
    }
}

impl Overview {
    /// Reads it. Damaged parts are left out.
    ///
    /// # Errors
    ///
    /// If the database cannot be read.
    pub(crate) fn read(
        snapshot: &Snapshot,
        now: Timestamp,
        zone: &Zone,
    ) -> Result<Overview, Problem> {
        let hours = zone.hours();
        let back = Duration::from_secs(60 * 60 * (HOURS as u64 - 1));
        let since = before(hours.start_of(now), back);
        let range = since..=now;
        let hour_of = |time: Timestamp| {
            let nanos = time.unix_nanos().saturating_sub(since.unix_nanos());
            usize::try_from(nanos / steps::HOUR)
                .unwrap_or(0)
                .min(HOURS - 1)
        };

        let (inventory, findings) = snapshot.readable_inventory()?;
        let mut servers: BTreeMap<ServerName, ServerView> = BTreeMap::new();
        for stored in inventory {
            view_of(&mut servers, &stored.server).stored.push(stored);
        }
        for signal in [Signal::Logs, Signal::Traces] {
            let query = Query::new(signal).range(range.clone()).skip_damaged();
            let by = [
                CountBy::Server,
                CountBy::Level,
                CountBy::Interval(hours.clone()),
            ];
            for row in snapshot.count(&query, &by)?.rows {
                let (Some(server), Some(time)) = (row.server, row.time) else {
                    continue;
                };
                let view = view_of(&mut servers, &server);
                add(&mut view.records, hour_of(time), row.count);
                if row.level.is_some_and(|level| level >= Level::ERROR) {
                    match signal {
                        Signal::Traces => view.failed_spans += row.count,
                        _ => view.error_logs += row.count,
                    }
                }
            }
        }
        let usage = UsageQuery::new()
            .range(range)
            .by(UsageBy::Server)
            .by(UsageBy::Hour)
            .zone({
                let zone = zone.clone();
                move |time| zone.offset_at(time)
            })
            .skip_damaged();
        for row in snapshot.usage(&usage)?.rows {
            let (Some(server), Some(time)) = (row.server, row.time) else {
                continue;
            };
            let view = view_of(&mut servers, &server);
            let tokens = u64::try_from(row.counts.tokens.total_tokens).unwrap_or(0);
            add(&mut view.tokens, hour_of(time), tokens);
            let cost = row.counts.cost.map_or(0, micro_usd);
            add(
                &mut view.micro_usd,
                hour_of(time),
                u64::try_from(cost).unwrap_or(0),
            );
        }
        let rates = Rates::measure(snapshot, now)?;
        let mut servers: Vec<ServerView> = servers.into_values().collect();
        for server in &mut servers {
            server.rate = Signal::ALL
                .into_iter()
                .map(|signal| rates.of(&server.name, signal))
                .sum();
            // A server without limits of its own, or whose limits cannot be read, has none to show.
            server.limits = snapshot.limits_of(Some(&server.name)).ok().flatten();
        }
        Ok(Overview {
            since,
            servers,
            unreadable: findings.into_iter().map(|found| found.what).collect(),
        })
    }
}

fn view_of<'a>(
    servers: &'a mut BTreeMap<ServerName, ServerView>,
    name: &ServerName,
) -> &'a mut ServerView {
    servers
        .entry(name.clone())
        .or_insert_with(|| ServerView::new(name.clone()))
}

fn add(hours: &mut [u64], hour: usize, count: u64) {
    if let Some(sum) = hours.get_mut(hour) {
        *sum = sum.saturating_add(count);
    }
}
