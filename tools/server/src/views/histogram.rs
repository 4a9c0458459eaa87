//! How many records there are over time, by severity.

use super::params::Params;
use crate::{
    input::{CountText, FilterText},
    problem::Problem,
};
use gridctl_telemetry::{
    Level, Query, Signal, Snapshot, Timestamp,
    query::{CountBy, CountReport, Direction, Interval, TimeRange},
};
use std::time::{Duration, Instant};

/// The number of bins that a length of time is chosen for.
const BINS_WANTED: i64 = 60;
/// Maximum number of bins, for intervals that a request chooses.
const BINS_MAX: usize = 1000;
/// The number of bins that are counted at once where records must be read.
const BINS_AT_ONCE: usize = 4;

const SECOND: i64 = 1_000_000_000;
const MINUTE: i64 = 60 * SECOND;
const HOUR: i64 = 60 * MINUTE;
const DAY: i64 = 24 * HOUR;

/// The lengths of bins, which readers can add up in their heads.
const LENGTHS: [i64; 26] = [
    SECOND / 1000,
    SECOND / 100,
    SECOND / 10,
    SECOND / 2,
    SECOND,
    2 * SECOND,
    5 * SECOND,
    10 * SECOND,
    15 * SECOND,
    30 * SECOND,
    MINUTE,
    2 * MINUTE,
    5 * MINUTE,
    10 * MINUTE,
    15 * MINUTE,
    30 * MINUTE,
    HOUR,
    2 * HOUR,
    3 * HOUR,
    6 * HOUR,
    12 * HOUR,
    DAY,
    2 * DAY,
    7 * DAY,
    14 * DAY,
    28 * DAY,
];

/// The numbers of records of a range of time.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Histogram {
    /// The oldest first, without gaps.
    pub(crate) bins: Vec<Bin>,
    /// The length of a bin.
    pub(crate) interval: CountText,
    /// All that were counted.
    pub(crate) counts: Counts,
    /// Older records were not counted, because counting took too long; `None` if all were.
    pub(crate) counted_since: Option<Timestamp>,
}

/// The numbers of records of one interval.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Bin {
    pub(crate) since: Timestamp,
    /// Not in the interval.
    pub(crate) until: Timestamp,
    pub(crate) counts: Counts,
}

/// Numbers of records by severity.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(crate) struct Counts {
    /// Below info.
    pub(crate) debug: u64,
    /// Also of records that have no severity.
    pub(crate) info: u64,
    pub(crate) warn: u64,
    /// Also of more severe ones.
    pub(crate) error: u64,
}

impl Counts {
    pub(crate) fn total(&self) -> u64 {
        self.debug + self.info + self.warn + self.error
    }

    fn add(&mut self, level: Option<Level>, count: u64) {
        *match level {
            Some(level) if level >= Level::ERROR => &mut self.error,
            Some(level) if level >= Level::WARN => &mut self.warn,
            Some(level) if level < Level::INFO => &mut self.debug,
            _ => &mut self.info,
        } += count;
    }
}

impl Histogram {
    /// Counts the records of `signal` that are asked for, in the intervals that are asked for, or in about
    /// sixty. `None` when no record is stored in the range.
    ///
    /// Without a filter, or with one of severities alone, the summaries of blocks tell the numbers. Else
    /// records are read, the newest first, for no longer than about `patience`.
    pub(crate) fn count(
        snapshot: &Snapshot,
        params: &Params,
        signal: Signal,
        patience: Duration,
    ) -> Result<Option<Histogram>, Problem> {
        let Some((since, until)) = covered(snapshot, params, signal)? else {
            return Ok(None);
        };
        let by = match &params.interval {
            Some(by) => by.clone(),
            None => interval_for(until.unix_nanos().saturating_sub(since.unix_nanos())),
        };
        let CountBy::Interval(interval) = by.read(&params.zone())? else {
            return Err(Problem::bad_request(
                "interval: expected hour, day or a length of time such as 15m",
            ));
        };
        let mut bins = bins(&interval, &by, since, until)?;
        let counting = Counting {
            snapshot,
            params,
            signal,
            interval: &interval,
        };
        let counted_since = counting.fill(&mut bins, patience)?;
        let mut counts = Counts::default();
        for bin in &bins {
            counts.debug += bin.counts.debug;
            counts.info += bin.counts.info;
            counts.warn += bin.counts.warn;
            counts.error += bin.counts.error;
        }
        Ok(Some(Histogram {
            bins,
            interval: by,
            counts,
            counted_since,
        }))
    }
}

/// The range that bins cover: the one that is asked for, and where it is open, from the oldest stored record
/// to the newest one, or to the time of the request.
fn covered(
    snapshot: &Snapshot,
    params: &Params,
    signal: Signal,
) -> Result<Option<(Timestamp, Timestamp)>, Problem> {
    let asked = params.range()?;
    let (inventory, _) = snapshot.readable_inventory()?;
    let stored = inventory.iter().filter(|series| {
        series.signal == signal
            && (params.servers.is_empty() || params.servers.contains(&series.server))
    });
    let times = stored.map(|series| (series.oldest_time, series.newest_time));
    let Some((oldest, newest)) = times.reduce(|(a, b), (c, d)| (a.min(c), b.max(d))) else {
        return Ok(None);
    };
    let end = Timestamp::from_unix_nanos(newest.unix_nanos().saturating_add(1));
    let since = asked.since.unwrap_or(oldest);
    let until = match asked.until {
        Some(until) => until,
        None if asked.since.is_some() => end.max(params.now()),
        None => end,
    };
    Ok((since < until && since < end && oldest < until).then_some((since, until)))
}

/// A length of bins for a range of this length in nanoseconds.
fn interval_for(range: i64) -> CountText {
    let fits = |length: &&i64| range / **length < BINS_WANTED;
    let length = LENGTHS.iter().find(fits).copied();
    match length.unwrap_or(range / BINS_WANTED / DAY * DAY) {
        HOUR => CountText::Hour,
        DAY => CountText::Day,
        length => {
            // An interval has 366 days at most.
            let length = length.clamp(1, 366 * DAY).unsigned_abs();
            CountText::Every(Duration::from_nanos(length))
        }
    }
}

/// Empty bins from `since` until `until`.
fn bins(
    interval: &Interval,
    by: &CountText,
    since: Timestamp,
    until: Timestamp,
) -> Result<Vec<Bin>, Problem> {
    let mut bins = Vec::new();
    let mut start = interval.start_of(since);
    while start < until {
        if bins.len() >= BINS_MAX {
            return Err(Problem::bad_request(format!(
                "interval: {by} divides the range into more than {BINS_MAX} parts; take a longer one"
            )));
        }
        // Within the next interval, however long this one is: days have 23 to 25 hours.
        let step = match by {
            CountText::Hour => HOUR + HOUR / 2,
            CountText::Day => 26 * HOUR,
            CountText::Every(length) => i64::try_from(length.as_nanos()).unwrap_or(i64::MAX),
            _ => DAY,
        };
        let later = Timestamp::from_unix_nanos(start.unix_nanos().saturating_add(step));
        let end = interval.start_of(later);
        if end <= start {
            break;
        }
        bins.push(Bin {
            since: start,
            until: end,
            counts: Counts::default(),
        });
        start = end;
    }
    Ok(bins)
}

struct Counting<'a> {
    snapshot: &'a Snapshot,
    params: &'a Params,
    signal: Signal,
    interval: &'a Interval,
}

impl Counting<'_> {
    /// Counts the records of `bins`. Returns from when on they were counted, unless all were.
    fn fill(&self, bins: &mut [Bin], patience: Duration) -> Result<Option<Timestamp>, Problem> {
        let asked = self.params.range()?;
        let (Some(first), Some(last)) = (bins.first().copied(), bins.last().copied()) else {
            return Ok(None);
        };
        let within = |since: Timestamp, until: Timestamp| TimeRange {
            since: Some(asked.since.map_or(since, |asked| asked.max(since))),
            until: Some(asked.until.map_or(until, |asked| asked.min(until))),
        };
        let only_levels = FilterText {
            level: None,
            ..self.params.filter.clone()
        } == FilterText::default();
        let whole = self.params.with(|params| params.cursor = None);
        if only_levels {
            let all = whole.with(|params| params.filter = FilterText::default());
            let query = all.records(self.signal, Direction::Forward)?;
            let report = self.report(query, within(first.since, last.until))?;
            self.add(report, bins);
            return Ok(None);
        }
        let query = whole.records(self.signal, Direction::Forward)?;
        let begun = Instant::now();
        let mut left = bins;
        while !left.is_empty() {
            let (rest, newest) = left.split_at_mut(left.len().saturating_sub(BINS_AT_ONCE));
            if let (Some(first), Some(last)) = (newest.first(), newest.last()) {
                let since = first.since;
                let report = self.report(query.clone(), within(since, last.until))?;
                self.add(report, newest);
                if !rest.is_empty() && begun.elapsed() > patience {
                    return Ok(Some(since));
                }
            }
            left = rest;
        }
        Ok(None)
    }

    fn report(&self, query: Query, range: TimeRange) -> Result<CountReport, Problem> {
        let by = [CountBy::Level, CountBy::Interval(self.interval.clone())];
        Ok(self.snapshot.count(&query.range(range), &by)?)
    }

    fn add(&self, report: CountReport, bins: &mut [Bin]) {
        let wanted = self.params.filter.level;
        for row in report.rows {
            let is_wanted =
                wanted.is_none_or(|wanted| row.level.is_some_and(|level| wanted.contains(level)));
            let bin = row.time.and_then(|time| {
                let place = bins.binary_search_by_key(&time, |bin| bin.since).ok()?;
                bins.get_mut(place)
            });
            if let Some(bin) = bin.filter(|_| is_wanted) {
                bin.counts.add(row.level, row.count);
            }
        }
    }
}
