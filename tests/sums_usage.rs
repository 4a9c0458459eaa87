//! Usage is what the accumulator counted, to the token: across restarts, resets, wipes, clocks that are
//! set back, imported files and evicted snapshots.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::indexing_slicing,
    clippy::panic,
    reason = "a test fails by panicking"
)]

mod common;

use common::{Metered, Random, STACK, home_in_memory, on_demand, open, server};
use gridctl_telemetry::{
    Error, Record, ServerName, Signal, SpanRecord, Store, Timestamp, WriterOptions,
    config::{Retention, RetentionPolicy},
    external::{
        opentelemetry_proto::tonic::{
            common::v1::{AnyValue, KeyValue, any_value::Value as Any},
            trace::v1::Span,
        },
        time::UtcOffset,
    },
    import::{ImportBatch, Importer},
    lines::{ParsedLine, parse_line},
    maintenance::WipeScope,
    metrics::Attribution,
    query::{SeedRange, UsageBy, UsageCounts, UsageQuery, UsageReport, UsageRow},
    record::{CostCounts, TokenCounts},
};
use redb::{Database, ReadableTable, TableDefinition};
use std::{collections::BTreeMap, path::Path};

const SERVERS: [&str; 3] = ["atlassian", "github", "zapier"];
const TOOLS: [&str; 3] = ["fetch", "list", "search"];
const MINUTE: i64 = 60_000_000_000;
const HOUR: i64 = 60 * MINUTE;
/// 2020-09-13T12:26:40Z, before the present of the machine: a counter begins in the present.
const START: i64 = 1_600_000_000_000_000_000;

/// What was counted: by server and tool, where tokens without a tool and costs have no tool.
type Counts = BTreeMap<(String, Option<String>), UsageCounts>;

fn add(counts: &mut UsageCounts, other: UsageCounts) {
    counts.calls += other.calls;
    counts.tokens = counts.tokens.saturating_add(other.tokens);
    if let Some(cost) = other.cost {
        counts.cost = Some(counts.cost.unwrap_or_default().saturating_add(cost));
    }
}

fn tokens(input: i64, output: i64) -> TokenCounts {
    TokenCounts {
        input_tokens: input,
        output_tokens: output,
        total_tokens: input + output,
    }
}

fn usage(calls: i64, tokens: TokenCounts, cost: Option<CostCounts>) -> UsageCounts {
    let mut counts = UsageCounts::default();
    (counts.calls, counts.tokens, counts.cost) = (calls, tokens, cost);
    counts
}

/// A daemon that counts and stores, and a list of what it counted.
struct Daemon {
    metered: Metered,
    now: i64,
    /// Counted, and not flushed yet.
    pending: Counts,
    pending_skills: BTreeMap<String, i64>,
    /// What was flushed, by hour.
    flushed: BTreeMap<i64, Counts>,
    flushed_skills: BTreeMap<i64, BTreeMap<String, i64>>,
}

impl Daemon {
    fn start(home: &Path, is_seeded: bool) -> Daemon {
        Daemon::start_with(home, is_seeded, on_demand())
    }

    fn start_with(home: &Path, is_seeded: bool, options: WriterOptions) -> Daemon {
        let metered = Metered::start_with(home, options, SERVERS);
        if is_seeded {
            let seeded = metered.flusher.seed(&metered.store, SeedRange::default());
            seeded.unwrap();
        }
        Daemon {
            metered,
            now: START,
            pending: Counts::new(),
            pending_skills: BTreeMap::new(),
            flushed: BTreeMap::new(),
            flushed_skills: BTreeMap::new(),
        }
    }

    /// Restarts the daemon. What it had not flushed is lost, as in a crash.
    fn restart(self, home: &Path, is_seeded: bool) -> Daemon {
        self.metered.guard.close().unwrap();
        drop((
            self.metered.flusher,
            self.metered.writer,
            self.metered.store,
        ));
        Daemon {
            now: self.now,
            flushed: self.flushed,
            flushed_skills: self.flushed_skills,
            ..Daemon::start(home, is_seeded)
        }
    }

    fn call(&mut self, name: &str, tool: Option<&str>, counts: TokenCounts) {
        let server = server(name);
        let to = Attribution::new(&server).tool(tool);
        let at = Timestamp::from_unix_nanos(self.now);
        self.metered.accumulator.record_call(to, at);
        let [input, output] = [counts.input_tokens, counts.output_tokens];
        let unsigned = i64::cast_unsigned;
        self.metered
            .accumulator
            .record_tokens(to, unsigned(input), unsigned(output), at);
        let key = (name.to_owned(), tool.map(str::to_owned));
        let counts = usage(i64::from(tool.is_some()), counts, None);
        add(self.pending.entry(key).or_default(), counts);
    }

    fn cost(&mut self, name: &str, cost: CostCounts) {
        let at = Timestamp::from_unix_nanos(self.now);
        self.metered
            .accumulator
            .record_cost(Attribution::new(&server(name)), cost, at);
        let counts = usage(0, TokenCounts::default(), Some(cost));
        add(
            self.pending.entry((name.to_owned(), None)).or_default(),
            counts,
        );
    }

    fn skill(&mut self, name: &str) {
        self.metered
            .accumulator
            .record_skill_call(name, Timestamp::from_unix_nanos(self.now));
        *self.pending_skills.entry(name.to_owned()).or_default() += 1;
    }

    fn flush(&mut self) {
        self.metered.flush_at(Timestamp::from_unix_nanos(self.now));
        let hour = self.now.div_euclid(HOUR) * HOUR;
        let flushed = self.flushed.entry(hour).or_default();
        let servers = self.metered.flusher.configured_servers();
        self.pending.retain(|key, counts| {
            let is_flushed = servers.iter().any(|server| server.as_str() == key.0);
            if is_flushed {
                add(flushed.entry(key.clone()).or_default(), *counts);
            }
            !is_flushed
        });
        if !servers.is_empty() {
            let flushed = self.flushed_skills.entry(hour).or_default();
            for (skill, calls) in std::mem::take(&mut self.pending_skills) {
                *flushed.entry(skill).or_default() += calls;
            }
        }
    }

    fn clear(&mut self) {
        self.metered.accumulator.clear();
        for counts in self.pending.values_mut() {
            *counts = usage(0, TokenCounts::default(), counts.cost);
        }
    }

    fn clear_cost(&mut self) {
        self.metered.accumulator.clear_cost();
        for counts in self.pending.values_mut() {
            counts.cost = None;
        }
    }

    fn wipe(&mut self, name: &str) {
        let scope = WipeScope::everything().server(server(name));
        self.metered.writer.wipe(&scope).unwrap();
        self.pending.retain(|key, _| key.0 != name);
        for flushed in self.flushed.values_mut() {
            flushed.retain(|key, _| key.0 != name);
        }
    }

    /// What was flushed in the hours from `since` to `until`, by what `key` makes of hour, server and
    /// tool.
    fn expected<K: Ord>(
        &self,
        [since, until]: [i64; 2],
        key: impl Fn(i64, &str, Option<&String>) -> K,
    ) -> BTreeMap<K, UsageCounts> {
        let mut expected = BTreeMap::new();
        for (hour, flushed) in self.flushed.range(since..until) {
            for ((server, tool), counts) in flushed {
                let key = key(*hour, server, tool.as_ref());
                add(expected.entry(key).or_default(), *counts);
            }
        }
        expected.retain(|_, counts| !counts.is_zero());
        expected
    }

    fn usage(&self, [since, until]: [i64; 2], by: &[UsageBy]) -> UsageReport {
        let range = Timestamp::from_unix_nanos(since)..Timestamp::from_unix_nanos(until);
        let query = UsageQuery::new().range(range);
        let query = by.iter().fold(query, |query, by| query.by(*by));
        self.metered.store.usage(&query).unwrap()
    }

    /// Compares the usage of a range of hours with what was flushed in it.
    fn check(&self, range: [i64; 2]) {
        let sum = self.expected(range, |_, _, _| ());
        let sum = sum.get(&()).copied().unwrap_or_default();
        let rows = |by: &[UsageBy]| {
            let report = self.usage(range, by);
            assert_eq!(zero_is_none(report.total), zero_is_none(sum), "by {by:?}");
            report.rows
        };
        assert_eq!(keyed(rows(&[]), |_| ()), self.expected(range, |_, _, _| ()));
        assert_eq!(
            keyed(rows(&[UsageBy::Hour]), |row| row.time.unwrap().unix_nanos()),
            self.expected(range, |hour, _, _| hour)
        );
        assert_eq!(
            keyed(rows(&[UsageBy::Server]), |row| name(row.server.as_ref())),
            self.expected(range, |_, server, _| server.to_owned())
        );
        let by = [UsageBy::Server, UsageBy::Day];
        assert_eq!(
            keyed(rows(&by), |row| (
                row.time.unwrap().unix_nanos(),
                name(row.server.as_ref())
            )),
            self.expected(range, |hour, server, _| (
                hour.div_euclid(24 * HOUR) * 24 * HOUR,
                server.to_owned()
            ))
        );
        let by = [UsageBy::Tool, UsageBy::Server, UsageBy::Hour];
        let mut by_tool = self.expected(range, |hour, server, tool| {
            (hour, server.to_owned(), tool.cloned())
        });
        for counts in by_tool.values_mut() {
            counts.cost = None;
        }
        by_tool.retain(|_, counts| !counts.is_zero());
        assert_eq!(
            keyed(rows(&by), |row| (
                row.time.unwrap().unix_nanos(),
                name(row.server.as_ref()),
                row.tool.clone()
            )),
            by_tool
        );
    }

    fn check_skills(&self, [since, until]: [i64; 2]) {
        let report = self.usage([since, until], &[UsageBy::Hour, UsageBy::Skill]);
        let mut found: BTreeMap<i64, BTreeMap<String, i64>> = BTreeMap::new();
        for row in report.rows {
            let hour = found.entry(row.time.unwrap().unix_nanos()).or_default();
            hour.insert(row.skill.unwrap(), row.counts.calls);
        }
        let expected = self.flushed_skills.range(since..until);
        let expected = expected.filter(|(_, skills)| !skills.is_empty());
        let expected = expected.map(|(hour, skills)| (*hour, skills.clone()));
        assert_eq!(found, expected.collect());
    }
}

fn name(server: Option<&ServerName>) -> String {
    server.unwrap().to_string()
}

/// A cost of zero and none are the same.
fn zero_is_none(counts: UsageCounts) -> UsageCounts {
    let cost = counts.cost.filter(|cost| *cost != CostCounts::default());
    usage(counts.calls, counts.tokens, cost)
}

fn keyed<K: Ord + std::fmt::Debug>(
    rows: Vec<UsageRow>,
    key: impl Fn(&UsageRow) -> K,
) -> BTreeMap<K, UsageCounts> {
    let mut keyed = BTreeMap::new();
    for row in rows {
        let before = keyed.insert(key(&row), zero_is_none(row.counts));
        assert_eq!(before, None, "two rows of {:?}", key(&row));
    }
    keyed
}

const EVER: [i64; 2] = [0, i64::MAX];

fn step(daemon: &mut Daemon, random: &mut Random) {
    let name = SERVERS[random.below(SERVERS.len())];
    let any = |random: &mut Random, bound| random.below(bound).try_into().unwrap();
    match random.below(40) {
        0 => daemon.clear(),
        1 => daemon.clear_cost(),
        2 => daemon.wipe(name),
        3 => daemon.metered.flusher.remove_server(name),
        4..=5 => daemon.metered.flusher.add_server(name).unwrap(),
        6..=8 => {
            let cost = CostCounts {
                input_micro_usd: any(random, 1000),
                cache_read_micro_usd: any(random, 3),
                ..CostCounts::default()
            };
            daemon.cost(name, cost);
        }
        9..=10 => daemon.skill(TOOLS[random.below(2)]),
        11..=20 => {
            daemon.now += any(random, 40) * MINUTE;
            daemon.flush();
        }
        _ => {
            let tool = (!random.one_in(4)).then(|| TOOLS[random.below(TOOLS.len())]);
            // A call has a token, so that a server that was added again is known from one that was
            // counted from zero.
            let counts = tokens(1 + any(random, 50), any(random, 50));
            daemon.call(name, tool, counts);
        }
    }
}

#[test]
fn usage_is_what_was_counted() {
    let mut random = Random::from_env();
    for round in 0..8 {
        let home = home_in_memory();
        let mut daemon = Daemon::start(home.path(), true);
        // The skills of a process that was not seeded cannot be told from those before it.
        let is_always_seeded = round % 2 == 0;
        for _ in 0..400 {
            step(&mut daemon, &mut random);
            if random.one_in(60) {
                if random.one_in(2) {
                    daemon.flush();
                }
                let is_seeded = is_always_seeded || random.one_in(2);
                daemon = daemon.restart(home.path(), is_seeded);
            }
        }
        daemon.flush();
        daemon.check(EVER);
        if is_always_seeded {
            daemon.check_skills(EVER);
        }
        for _ in 0..5 {
            let hour = |random: &mut Random| {
                let hours = (daemon.now - START) / HOUR + 1;
                let after = random.below(usize::try_from(hours).unwrap());
                START.div_euclid(HOUR) * HOUR + i64::try_from(after).unwrap() * HOUR
            };
            let mut range = [hour(&mut random), hour(&mut random)];
            range.sort_unstable();
            daemon.check(range);
            if is_always_seeded {
                daemon.check_skills(range);
            }
        }
        daemon.metered.guard.close().unwrap();
    }
}

#[test]
fn a_clock_that_is_set_back_changes_no_count() {
    let mut random = Random::from_env();
    for _ in 0..4 {
        let home = home_in_memory();
        let mut daemon = Daemon::start(home.path(), true);
        for _ in 0..400 {
            step(&mut daemon, &mut random);
            if random.one_in(80) {
                daemon.now -= i64::try_from(random.below(300)).unwrap() * MINUTE;
            }
            if random.one_in(80) {
                daemon = daemon.restart(home.path(), true);
            }
        }
        daemon.flush();
        daemon.check(EVER);
        daemon.check_skills(EVER);
        daemon.metered.guard.close().unwrap();
    }
}

fn at(text: &str) -> Timestamp {
    text.parse().unwrap()
}

/// Stores NDJSON lines, in which single quotes are double ones, as an import does.
fn import(store: &Store, lines: &[&str]) {
    let mut importer = Importer::new(store).unwrap();
    let mut batch = ImportBatch::default();
    for line in lines {
        let line = line.replace('\'', "\"");
        let Ok(ParsedLine::Metrics(found)) = parse_line(Signal::Metrics, line.as_bytes()) else {
            panic!("no snapshot: {line}");
        };
        for (name, snapshot) in found {
            let record = Record::Metrics(snapshot);
            batch.push(&server(&name.unwrap()), &record).unwrap();
        }
    }
    importer.add(batch).unwrap();
}

/// Calls and tokens by tool.
fn by_tool(store: &Store, query: &UsageQuery) -> Vec<(Option<String>, i64, i64)> {
    let report = store.usage(&query.clone().by(UsageBy::Tool)).unwrap();
    let rows = report.rows.into_iter();
    rows.map(|row| (row.tool, row.counts.calls, row.counts.tokens.total_tokens))
        .collect()
}

fn tool(name: &str, calls: i64, tokens: i64) -> (Option<String>, i64, i64) {
    (Some(name.to_owned()), calls, tokens)
}

#[test]
fn files_of_the_go_daemon_are_summed_up() {
    let home = home_in_memory();
    let store = open(home.path());
    import(
        &store,
        &[
            // The first process.
            "{'ts':'2020-05-08T10:00:00Z','server':'github','reset':true,'diff':{'input_tokens':100,'output_tokens':50,'total_tokens':150},'total':{'input_tokens':100,'output_tokens':50,'total_tokens':150},'cost_diff':{'input_micro_usd':300},'cost_total':{'input_micro_usd':300},'tool_usage':{'search':{'calls':2,'input_tokens':90,'output_tokens':50}}}",
            "{'ts':'2020-05-08T10:01:00Z','server':'github','diff':{'input_tokens':10,'output_tokens':0,'total_tokens':10},'total':{'input_tokens':110,'output_tokens':50,'total_tokens':160},'cost_diff':{'input_micro_usd':30},'cost_total':{'input_micro_usd':330},'tool_usage':{'search':{'calls':3,'input_tokens':100,'output_tokens':50}}}",
            // The server was removed and added again: everything is repeated, and 5 tokens are new.
            "{'ts':'2020-05-08T10:02:00Z','server':'github','reset':true,'diff':{'input_tokens':115,'output_tokens':50,'total_tokens':165},'total':{'input_tokens':115,'output_tokens':50,'total_tokens':165},'cost_diff':{'input_micro_usd':340},'cost_total':{'input_micro_usd':340},'tool_usage':{'search':{'calls':4,'input_tokens':105,'output_tokens':50}}}",
            // Another process, which counts from zero.
            "{'ts':'2020-05-08T11:00:00Z','server':'github','reset':true,'diff':{'input_tokens':7,'output_tokens':1,'total_tokens':8},'total':{'input_tokens':7,'output_tokens':1,'total_tokens':8},'cost_diff':{'input_micro_usd':20},'cost_total':{'input_micro_usd':20},'tool_usage':{'search':{'calls':1,'input_tokens':7,'output_tokens':1}}}",
            // The cost was cleared.
            "{'ts':'2020-05-08T11:01:00Z','server':'github','cost_reset':true,'diff':{'input_tokens':1,'output_tokens':0,'total_tokens':1},'total':{'input_tokens':8,'output_tokens':1,'total_tokens':9},'cost_diff':{'input_micro_usd':4},'cost_total':{'input_micro_usd':4},'tool_usage':{'search':{'calls':1,'input_tokens':7,'output_tokens':1}}}",
        ],
    );
    let report = store.usage(&UsageQuery::new().by(UsageBy::Hour)).unwrap();
    let hours: Vec<_> = report
        .rows
        .iter()
        .map(|row| {
            let UsageCounts {
                calls,
                tokens,
                cost,
                ..
            } = row.counts;
            (
                row.time.unwrap(),
                calls,
                tokens.total_tokens,
                cost.unwrap().input_micro_usd,
            )
        })
        .collect();
    assert_eq!(
        hours,
        [
            (at("2020-05-08T10:00:00Z"), 4, 165, 340),
            (at("2020-05-08T11:00:00Z"), 1, 9, 24)
        ]
    );
    assert_eq!(
        by_tool(&store, &UsageQuery::new()),
        [(None, 0, 11), tool("search", 5, 163)]
    );
    // The counters at the start of a range are those of the snapshot before it.
    let query = UsageQuery::new().range(at("2020-05-08T10:02:00Z")..at("2020-05-08T11:00:00Z"));
    assert_eq!(by_tool(&store, &query), [tool("search", 1, 5)]);
}

#[test]
fn files_that_are_imported_later_change_no_count_of_the_daemon() {
    let home = home_in_memory();
    let mut daemon = Daemon::start(home.path(), true);
    daemon.call("github", Some("search"), tokens(5, 0));
    daemon.flush();
    import(
        &daemon.metered.store,
        &[
            "{'ts':'2020-05-08T10:00:00Z','server':'github','reset':true,'diff':{'input_tokens':100,'output_tokens':0,'total_tokens':100},'total':{'input_tokens':100,'output_tokens':0,'total_tokens':100},'tool_usage':{'search':{'calls':70,'input_tokens':100}}}",
            "{'ts':'2020-05-08T10:01:00Z','server':'github','diff':{'input_tokens':10,'output_tokens':0,'total_tokens':10},'total':{'input_tokens':110,'output_tokens':0,'total_tokens':110},'tool_usage':{'search':{'calls':71,'input_tokens':110}}}",
        ],
    );
    daemon.now += MINUTE;
    daemon.call("github", Some("search"), tokens(6, 0));
    daemon.flush();
    let query = UsageQuery::new();
    assert_eq!(
        by_tool(&daemon.metered.store, &query),
        [tool("search", 73, 121)]
    );
    let query = query.range(Timestamp::from_unix_nanos(START)..);
    assert_eq!(
        by_tool(&daemon.metered.store, &query),
        [tool("search", 2, 11)]
    );
    daemon.metered.guard.close().unwrap();
}

#[test]
fn calls_without_a_token_count() {
    let home = home_in_memory();
    let mut daemon = Daemon::start(home.path(), true);
    for calls in 1..=3 {
        daemon.call("github", Some("list"), tokens(0, 0));
        daemon.flush();
        let query = UsageQuery::new();
        assert_eq!(
            by_tool(&daemon.metered.store, &query),
            [tool("list", calls, 0)]
        );
    }
    daemon.metered.guard.close().unwrap();
}

#[test]
fn counters_that_rise_above_their_old_values_after_a_clear_count_from_zero() {
    let home = home_in_memory();
    let mut daemon = Daemon::start(home.path(), true);
    daemon.call("github", Some("list"), tokens(1, 0));
    daemon.flush();
    daemon.clear();
    for _ in 0..3 {
        daemon.call("github", Some("list"), tokens(2, 0));
    }
    daemon.flush();
    let query = UsageQuery::new();
    assert_eq!(by_tool(&daemon.metered.store, &query), [tool("list", 4, 7)]);
    daemon.metered.guard.close().unwrap();
}

#[test]
fn nothing_that_expired_is_counted_again() {
    let home = home_in_memory();
    let retention = RetentionPolicy::new(Retention::default().max_age_days(7));
    let options = on_demand().retention(Some(retention));
    let mut daemon = Daemon::start_with(home.path(), true, options);
    let now = Timestamp::now().unix_nanos();
    // Counted eight days ago, six days ago and now.
    for days in [8, 6, 0] {
        daemon.now = now - days * 24 * HOUR;
        daemon.call("github", Some("search"), tokens(9, 1));
        daemon.call("github", None, tokens(1, 0));
        daemon.skill("review");
        daemon.flush();
    }
    // The counters before the first snapshot are not known, so its tokens belong to no tool.
    let query = UsageQuery::new();
    assert_eq!(
        by_tool(&daemon.metered.store, &query),
        [(None, 0, 12), tool("search", 1, 10)]
    );
    let skills = daemon
        .metered
        .store
        .usage(&query.by(UsageBy::Skill))
        .unwrap();
    assert_eq!(skills.total.calls, 1);
    daemon.metered.guard.close().unwrap();
}

#[test]
fn a_lost_snapshot_takes_its_own_counts_with_it() {
    let home = home_in_memory();
    let store = open(home.path());
    import(
        &store,
        &[
            "{'ts':'2020-05-08T10:00:00Z','server':'github','diff':{'input_tokens':5,'output_tokens':0,'total_tokens':5},'total':{'input_tokens':5,'output_tokens':0,'total_tokens':5},'tool_usage':{'search':{'calls':2,'input_tokens':5},'list':{'calls':1}}}",
            // Of 100 lost tokens, the tool has counted 40.
            "{'ts':'2020-05-08T10:02:00Z','server':'github','diff':{'input_tokens':7,'output_tokens':0,'total_tokens':7},'total':{'input_tokens':112,'output_tokens':0,'total_tokens':112},'tool_usage':{'search':{'calls':5,'input_tokens':52},'list':{'calls':1}}}",
            "{'ts':'2020-05-08T10:03:00Z','server':'github','diff':{'input_tokens':1,'output_tokens':0,'total_tokens':1},'total':{'input_tokens':113,'output_tokens':0,'total_tokens':113},'tool_usage':{'search':{'calls':6,'input_tokens':53},'list':{'calls':1}}}",
        ],
    );
    let query = UsageQuery::new();
    assert_eq!(
        by_tool(&store, &query),
        [(None, 0, 12), tool("search", 1, 1)]
    );
}

#[test]
fn days_are_those_of_the_zone() {
    let home = home_in_memory();
    let mut daemon = Daemon::start(home.path(), true);
    for time in ["2020-05-08T18:29:00Z", "2020-05-08T18:31:00Z"] {
        daemon.now = at(time).unix_nanos();
        daemon.call("github", None, tokens(1, 0));
        daemon.flush();
    }
    let india = UtcOffset::from_hms(5, 30, 0).unwrap();
    let query = UsageQuery::new().by(UsageBy::Day);
    let days = |query| {
        let report = daemon.metered.store.usage(&query).unwrap();
        let days = report.rows.iter().map(|row| row.time.unwrap());
        days.collect::<Vec<_>>()
    };
    assert_eq!(days(query.clone()), [at("2020-05-08T00:00:00Z")]);
    assert_eq!(
        days(query.zone(move |_| india)),
        [at("2020-05-07T18:30:00Z"), at("2020-05-08T18:30:00Z")]
    );
    daemon.metered.guard.close().unwrap();
}

#[test]
fn rows_are_json_with_the_names_of_the_daemon() {
    let home = home_in_memory();
    let mut daemon = Daemon::start(home.path(), true);
    daemon.now = at("2020-05-08T10:30:00Z").unix_nanos();
    daemon.call("github", Some("search"), tokens(40, 25));
    let cost = CostCounts {
        input_micro_usd: 12,
        ..CostCounts::default()
    };
    daemon.cost("github", cost);
    daemon.flush();
    let query = UsageQuery::new().by(UsageBy::Server).by(UsageBy::Hour);
    let report = daemon.metered.store.usage(&query).unwrap();
    let counts = r#""calls":1,"tokens":{"input_tokens":40,"output_tokens":25,"total_tokens":65},"cost":{"input_micro_usd":12,"output_micro_usd":0,"cache_read_micro_usd":0,"cache_write_micro_usd":0}"#;
    assert_eq!(
        serde_json::to_string(&report).unwrap(),
        format!(
            r#"{{"rows":[{{"time":"2020-05-08T10:00:00Z","server":"github",{counts}}}],"total":{{{counts}}}}}"#
        )
    );
    daemon.metered.guard.close().unwrap();
}

#[test]
fn what_is_counted_apart_is_refused_together() {
    let home = home_in_memory();
    let store = open(home.path());
    let query = UsageQuery::new().by(UsageBy::Tool).by(UsageBy::Model);
    let error = store.usage(&query).unwrap_err();
    assert!(matches!(error, Error::IncompatibleUsage { .. }), "{error}");
    let query = UsageQuery::new().by(UsageBy::Day).by(UsageBy::Model);
    assert_eq!(store.usage(&query).unwrap(), UsageReport::default());
}

#[test]
fn usage_beside_a_damaged_block_is_summed_up() {
    const CHUNKS: TableDefinition<'_, &[u8; 23], &[u8]> = TableDefinition::new("pieces");
    let home = home_in_memory();
    let mut daemon = Daemon::start(home.path(), true);
    for _ in 0..85 {
        daemon.call("github", Some("search"), tokens(10, 0));
        daemon.flush();
        daemon.now += MINUTE;
    }
    daemon.metered.guard.close().unwrap();
    drop((
        daemon.metered.flusher,
        daemon.metered.writer,
        daemon.metered.store,
    ));
    {
        let path = home.path().join("telemetry").join(STACK);
        let database = Database::open(path.join("telemetry.redb")).unwrap();
        let transaction = database.begin_write().unwrap();
        let mut chunks = transaction.open_table(CHUNKS).unwrap();
        let (key, mut chunk) = {
            let second = chunks.iter().unwrap().nth(1).unwrap().unwrap();
            (*second.0.value(), second.1.value().to_vec())
        };
        *chunk.last_mut().unwrap() ^= 1;
        chunks.insert(&key, chunk.as_slice()).unwrap();
        drop(chunks);
        transaction.commit().unwrap();
    }
    let store = open(home.path());
    let query = UsageQuery::new().by(UsageBy::Tool);
    let refused = store.usage(&query);
    assert!(matches!(refused, Err(Error::Corrupt { .. })), "{refused:?}");
    let report = store.usage(&query.clone().skip_damaged()).unwrap();
    assert_eq!(report.damage.len(), 1);
    let lost = i64::try_from(report.damage[0].records.unwrap()).unwrap();
    assert!((1..80).contains(&lost), "{lost}");
    assert_eq!(report.total.tokens, tokens((85 - lost) * 10, 0));
    // What lies before a range is not read, except for the last snapshot.
    let late = query.range(Timestamp::from_unix_nanos(START + 70 * MINUTE)..);
    assert_eq!(by_tool(&store, &late), [tool("search", 15, 150)]);
}

fn span(trace: u8, attributes: &[(&str, Any)]) -> Record {
    let attribute = |(key, value): &(&str, Any)| KeyValue {
        key: (*key).to_owned(),
        value: Some(AnyValue {
            value: Some(value.clone()),
        }),
        ..KeyValue::default()
    };
    let record = SpanRecord::new(Span {
        trace_id: vec![trace; 16],
        span_id: vec![1; 8],
        end_time_unix_nano: START.cast_unsigned() + u64::from(trace),
        attributes: attributes.iter().map(attribute).collect(),
        ..Span::default()
    });
    Record::Span(Box::new(record))
}

#[test]
fn models_are_those_of_the_semantic_conventions() {
    let home = home_in_memory();
    let store = open(home.path());
    let text = |text: &str| Any::StringValue(text.to_owned());
    let int = Any::IntValue;
    let mut importer = Importer::new(&store).unwrap();
    let mut batch = ImportBatch::default();
    for record in [
        span(
            1,
            &[
                ("gen_ai.request.model", text("small")),
                ("gen_ai.response.model", text("small-2020")),
                ("gen_ai.usage.input_tokens", int(100)),
                ("gen_ai.usage.output_tokens", int(20)),
            ],
        ),
        // The agent of that model call: the same tokens.
        span(
            1,
            &[
                ("gen_ai.operation.name", text("invoke_agent")),
                ("gen_ai.request.model", text("small")),
                ("gen_ai.usage.input_tokens", int(100)),
                ("gen_ai.usage.output_tokens", int(20)),
            ],
        ),
        // An agent elsewhere, whose model calls are not here.
        span(
            2,
            &[
                ("gen_ai.operation.name", text("invoke_agent")),
                ("gen_ai.request.model", text("large")),
                ("gen_ai.usage.input_tokens", int(7)),
            ],
        ),
        // The names of earlier versions.
        span(
            3,
            &[
                ("gen_ai.request.model", text("large")),
                ("gen_ai.usage.prompt_tokens", int(30)),
                ("gen_ai.usage.completion_tokens", int(3)),
            ],
        ),
        span(4, &[("gen_ai.usage.output_tokens", int(1))]),
        span(5, &[("gen_ai.request.model", text("silent"))]),
        span(6, &[("gen_ai.usage.input_tokens", text("many"))]),
        span(7, &[("gen_ai.usage.input_tokens", int(-1))]),
    ] {
        batch.push(&server("github"), &record).unwrap();
    }
    importer.add(batch).unwrap();
    let query = UsageQuery::new().by(UsageBy::Model);
    let report = store.usage(&query).unwrap();
    let rows: Vec<_> = report
        .rows
        .iter()
        .map(|row| (row.model.as_deref(), row.counts.calls, row.counts.tokens))
        .collect();
    assert_eq!(
        rows,
        [
            (None, 1, tokens(0, 1)),
            (Some("large"), 2, tokens(37, 3)),
            (Some("small-2020"), 1, tokens(100, 20)),
        ]
    );
    assert_eq!(report.total, usage(4, tokens(137, 24), None));
    let elsewhere = query.clone().server(server("zapier"));
    assert_eq!(store.usage(&elsewhere).unwrap().rows, []);
    let servers = store.usage(&query.by(UsageBy::Server)).unwrap();
    assert!(
        servers
            .rows
            .iter()
            .all(|row| name(row.server.as_ref()) == "github")
    );
}
