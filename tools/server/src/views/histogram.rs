//! How many records there are over time, by severity.

use super::{
    params::Params,
    steps::{DAY, HOUR, ROUND, SECOND},
};
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
/// The number of bins that are counted at once.
const BINS_AT_ONCE: usize = 4;

/// The number of records that are read between two looks at the clock.
const RECORDS_AT_ONCE: u64 = 256;

/// The lengths of bins below a second.
const SHORT: [i64; 4] = [SECOND / 1000, SECOND / 100, SECOND / 10, SECOND / 2];

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
    /// Without a filter, or with one of severities alone, the summaries of blocks tell most numbers. Else
    /// records are read. Either takes no longer than about `patience`: the newest records are counted first.
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
    let fits = |length: &i64| range / *length < BINS_WANTED;
    let length = SHORT.into_iter().chain(ROUND).find(fits);
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
    /// Counts the records of `bins`, the newest first. Returns from when on they were counted, unless all were.
    fn fill(&self, bins: &mut [Bin], patience: Duration) -> Result<Option<Timestamp>, Problem> {
        let asked = self.params.range()?;
        let only_levels = FilterText {
            level: None,
            ..self.params.filter.clone()
        } == FilterText::default();
        let whole = self.params.with(|params| {
            params.cursor = None;
            if only_levels {
                // The summaries of blocks tell the numbers of all severities.
                params.filter.level = None;
            }
        });
        let query = whole.records(self.signal, Direction::Backward)?;
        let deadline = Instant::now() + patience;
        let mut left = bins;
        while !left.is_empty() {
            let (rest, newest) = left.split_at_mut(left.len().saturating_sub(BINS_AT_ONCE));
            if let (Some(first), Some(last)) = (newest.first(), newest.last()) {
                let (since, until) = (first.since, last.until);
                let range = TimeRange {
                    since: Some(asked.since.map_or(since, |asked| asked.max(since))),
                    until: Some(asked.until.map_or(until, |asked| asked.min(until))),
                };
                let query = query.clone().range(range);
                if only_levels {
                    self.add(self.report(&query)?, newest);
                } else if let Some(since) = self.read(&query, newest, deadline)? {
                    return Ok(Some(since));
                }
                if !rest.is_empty() && Instant::now() > deadline {
                    return Ok(Some(since));
                }
            }
            left = rest;
        }
        Ok(None)
    }

    fn report(&self, query: &Query) -> Result<CountReport, Problem> {
        let by = [CountBy::Level, CountBy::Interval(self.interval.clone())];
        Ok(self.snapshot.count(query, &by)?)
    }

    /// Reads the records of `bins` one by one, the newest first, since a bin can have millions of them. Returns the
    /// time of the last one that was counted by `deadline`, unless all were.
    fn read(
        &self,
        query: &Query,
        bins: &mut [Bin],
        deadline: Instant,
    ) -> Result<Option<Timestamp>, Problem> {
        let mut records = self.snapshot.scan(query)?;
        let mut count = 0_u64;
        while let Some(record) = records.next()? {
            let next = bins.partition_point(|bin| bin.since <= record.timestamp);
            if let Some(bin) = next.checked_sub(1).and_then(|place| bins.get_mut(place)) {
                bin.counts.add(record.level(), 1);
            }
            count += 1;
            if count.is_multiple_of(RECORDS_AT_ONCE) && Instant::now() > deadline {
                return Ok(Some(record.timestamp));
            }
        }
        Ok(None)
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

#[cfg(test)]
mod tests {
    use super::{super::steps::MINUTE, *};
    use crate::views::params::LOGS;
    use gridctl_telemetry::{
        LogRecord, ServerName, Store, StoreOptions, Writer, WriterGuard, WriterOptions,
    };

    /// Noon in UTC.
    const THEN: i64 = 1_778_241_600 * SECOND;
    const LONG: Duration = Duration::from_secs(3600);

    impl Counts {
        fn total(&self) -> u64 {
            self.debug + self.info + self.warn + self.error
        }
    }

    fn at(seconds: i64) -> Timestamp {
        Timestamp::from_unix_nanos(THEN + seconds * SECOND)
    }

    fn params(query: &str) -> Params {
        Params::parse(Some(query), LOGS).unwrap()
    }

    /// A record every ten seconds of an hour, each sixth of which is an error and each sixth a warning.
    fn hour() -> (tempfile::TempDir, Store, Writer, WriterGuard) {
        let home = tempfile::tempdir().unwrap();
        let store = Store::open(home.path(), "gw", StoreOptions::default()).unwrap();
        let (writer, guard) = Writer::start(&store, WriterOptions::default()).unwrap();
        for number in 0..360 {
            let level = match number % 6 {
                0 => Level::ERROR,
                1 => Level::WARN,
                2 => Level::DEBUG,
                _ => Level::INFO,
            };
            let server = ["github", "slack"][usize::from(number % 9 == 0)];
            let record = LogRecord::new(at(number * 10), level, format!("record {number}"));
            let server = ServerName::new(server).unwrap();
            writer.log(&server, &record).unwrap();
        }
        writer.flush().unwrap();
        (home, store, writer, guard)
    }

    #[test]
    fn all_records_are_in_bins_whatever_is_asked_for() {
        let (_home, store, _writer, _guard) = hour();
        let snapshot = store.snapshot().unwrap();
        let count = |query: &str| {
            Histogram::count(&snapshot, &params(query), Signal::Logs, LONG)
                .unwrap()
                .unwrap()
        };
        let all = count("");
        assert_eq!(all.interval.to_string(), "1m");
        assert_eq!(all.bins.len(), 60);
        assert_eq!(all.counts.total(), 360);
        for bin in &all.bins {
            let Counts {
                debug,
                info,
                warn,
                error,
            } = bin.counts;
            assert_eq!((debug, info, warn, error), (1, 3, 1, 1));
        }
        // Numbers from summaries and numbers from records are the same.
        for (by_summaries, by_records) in [
            ("", "grep=record"),
            ("level=warn", "level=warn&grep=record"),
            (
                "level=debug..warn&server=slack",
                "level=debug..warn&server=slack&field=!x",
            ),
            ("interval=7m", "interval=7m&not-grep=other"),
            (
                "since=%401778242000&until=%401778243333",
                "since=%401778242000&until=%401778243333&grep=record",
            ),
        ] {
            let by_records = count(by_records);
            assert_eq!(count(by_summaries), by_records, "{by_summaries}");
            assert!(by_records.counts.total() > 0);
        }
        assert_eq!(count("level=warn").counts.total(), 120);
        assert_eq!(count("interval=hour").bins.len(), 1);
        // Within a bin, only what is in the range counts.
        assert_eq!(
            count("since=%401778241605&until=%401778241625")
                .counts
                .total(),
            2
        );
    }

    #[test]
    fn a_range_without_records_has_no_bins() {
        let (_home, store, _writer, _guard) = hour();
        let snapshot = store.snapshot().unwrap();
        let count = |query: &str| Histogram::count(&snapshot, &params(query), Signal::Logs, LONG);
        for query in ["server=nobody", "until=2020-01-01", "since=2100-01-01"] {
            assert_eq!(count(query).unwrap(), None, "{query}");
        }
        let none = Histogram::count(&snapshot, &params(""), Signal::Traces, LONG).unwrap();
        assert_eq!(none, None);
        let many = count("interval=1ms").unwrap_err();
        assert!(
            many.detail().contains("more than 1000 parts"),
            "{}",
            many.detail()
        );
    }

    #[test]
    fn the_newest_records_are_counted_first_where_that_takes_long() {
        let (_home, store, _writer, _guard) = hour();
        let snapshot = store.snapshot().unwrap();
        let asked = params("grep=record");
        let cut = Histogram::count(&snapshot, &asked, Signal::Logs, Duration::ZERO)
            .unwrap()
            .unwrap();
        assert_eq!(cut.counted_since, Some(at(56 * 60)));
        assert_eq!(cut.counts.total(), 24);
        assert_eq!(cut.bins[55].counts.total(), 0);
        assert_eq!(cut.bins[56].counts.total(), 6);
    }

    #[test]
    fn days_are_those_of_the_zone() {
        let zone = crate::input::Zone::posix("CET-1CEST,M3.5.0,M10.5.0/3").unwrap();
        let [since, until] = ["2026-03-28T00:00:00Z", "2026-03-30T12:00:00Z"]
            .map(|text| text.parse::<Timestamp>().unwrap());
        let bins = bins(&zone.days(), &CountText::Day, since, until).unwrap();
        let hours = |bin: &Bin| (bin.until.unix_nanos() - bin.since.unix_nanos()) / HOUR;
        // The clocks go forward on the second day.
        assert_eq!(bins.iter().map(hours).collect::<Vec<_>>(), [24, 23, 24]);
        assert!(bins.windows(2).all(|two| two[0].until == two[1].since));
    }

    #[test]
    fn every_range_has_a_suitable_interval() {
        for (range, interval) in [
            (1, "1ms"),
            (MINUTE, "2s"),
            (HOUR, "2m"),
            (HOUR - 1, "1m"),
            (DAY, "30m"),
            (7 * DAY, "3h"),
            (29 * DAY, "12h"),
            (30 * DAY, "day"),
            (59 * DAY, "day"),
        ] {
            assert_eq!(interval_for(range).to_string(), interval, "{range}");
        }
        assert!(matches!(interval_for(i64::MAX), CountText::Every(_)));
    }
}
