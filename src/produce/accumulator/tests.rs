use super::*;
use proptest::prelude::*;
use std::thread;

const MINUTE: i64 = 60_000_000_000;
/// A minute in the middle of an hour.
const START: i64 = 29_638_060;

fn at(minute: i64) -> Timestamp {
    Timestamp::from_unix_nanos(minute * MINUTE + 17)
}

fn name(name: &str) -> ServerName {
    ServerName::new(name).unwrap()
}

fn to(server: &ServerName) -> Attribution<'_> {
    Attribution {
        server,
        replica: None,
        client: None,
        tool: None,
    }
}

fn tokens(input: i64, output: i64) -> TokenCounts {
    TokenCounts::from_array([input, output, input + output])
}

fn cost(components: [i64; 4]) -> CostCounts {
    CostCounts::from_array(components)
}

fn minutes(count: u64) -> Duration {
    Duration::from_secs(count * 60)
}

#[test]
fn counts_reach_session_server_replica_and_client() {
    let accumulator = Accumulator::new();
    let (a, b) = (name("a"), name("b"));
    let from = |server, replica, client| Attribution {
        server,
        replica,
        client,
        tool: None,
    };
    accumulator.record_tokens(from(&a, Some("0"), Some("x")), 1, 2, at(START));
    accumulator.record_tokens(from(&a, Some("1"), None), 10, 20, at(START));
    accumulator.record_tokens(from(&b, None, Some("x")), 100, 200, at(START));
    accumulator.record_cost(from(&b, Some(""), Some("y")), cost([1, 2, 3, 4]), at(START));

    let usage = accumulator.snapshot();
    assert_eq!(usage.session, tokens(111, 222));
    assert_eq!(
        usage.servers.into_iter().collect::<Vec<_>>(),
        [("a".into(), tokens(11, 22)), ("b".into(), tokens(100, 200))]
    );
    assert_eq!(usage.replicas.len(), 1);
    assert_eq!(usage.replicas["a"]["0"], tokens(1, 2));
    assert_eq!(usage.replicas["a"]["1"], tokens(10, 20));
    assert_eq!(
        usage.clients.into_iter().collect::<Vec<_>>(),
        [("x".into(), tokens(101, 202))]
    );
    let usage = accumulator.cost_snapshot();
    assert_eq!(usage.session, cost([1, 2, 3, 4]));
    assert_eq!(usage.servers.into_keys().collect::<Vec<_>>(), ["b"]);
    assert_eq!(usage.clients.into_keys().collect::<Vec<_>>(), ["y"]);
    assert!(usage.replicas.is_empty());
}

#[test]
fn a_range_is_answered_by_the_minute_up_to_six_hours_and_by_the_hour_beyond() {
    let accumulator = Accumulator::new();
    let server = name("a");
    for minute in [
        START - 361,
        START - 360,
        START - 359,
        START - 40,
        START,
        START + 1,
    ] {
        accumulator.record_tokens(to(&server), 1, 0, at(minute));
    }
    let points = |range| {
        let series = accumulator.query(range, at(START));
        assert_eq!(
            series.servers.get("a"),
            (!series.session.is_empty()).then_some(&series.session)
        );
        let points = series.session.into_iter();
        let points = points.map(|point| {
            assert_eq!(point.time.unix_nanos() % MINUTE, 0);
            (point.time.unix_nanos() / MINUTE, point.counts.input_tokens)
        });
        (series.interval_seconds, points.collect::<Vec<_>>())
    };
    assert_eq!(points(Duration::ZERO), (60, vec![]));
    assert_eq!(points(Duration::from_nanos(1)), (60, vec![]));
    assert_eq!(points(minutes(1)), (60, vec![(START, 1)]));
    assert_eq!(points(minutes(40)), (60, vec![(START, 1)]));
    assert_eq!(points(minutes(41)), (60, vec![(START - 40, 1), (START, 1)]));
    assert_eq!(
        points(minutes(360)),
        (60, vec![(START - 359, 1), (START - 40, 1), (START, 1)])
    );
    // START is at 40 minutes past the hour.
    let hour = START - 40;
    assert_eq!(hour % 60, 0);
    assert_eq!(
        points(minutes(361)),
        (3600, vec![(hour - 360, 2), (hour, 2)])
    );
    assert_eq!(
        points(minutes(362)),
        (3600, vec![(hour - 360, 3), (hour, 2)])
    );
    assert_eq!(points(Duration::MAX), points(minutes(362)));
}

#[test]
fn costs_that_are_none_are_refused_and_counted() {
    let accumulator = Accumulator::new();
    let server = name("a");
    let usd = |input| CostUsd {
        output: 1.0,
        input,
        ..CostUsd::default()
    };
    for refused in [
        f64::NAN,
        -0.000_001,
        f64::NEG_INFINITY,
        f64::INFINITY,
        9_223_372_036_854.775,
        1e300,
    ] {
        accumulator.record_cost_usd(to(&server), usd(refused), at(START));
    }
    accumulator.record_cost(to(&server), cost([0, 0, 0, -1]), at(START));
    assert_eq!(
        accumulator.refused(),
        RefusedCosts {
            not_a_number: 1,
            negative: 3,
            too_large: 3,
        }
    );
    assert!(accumulator.cost_snapshot().servers.is_empty());

    for (value, micro_usd) in [
        (0.0, 0),
        (-0.0, 0),
        (0.000_001_4, 1),
        (0.000_001_6, 2),
        (0.1 + 0.2, 300_000),
        (12.345_678, 12_345_678),
    ] {
        accumulator.clear_cost();
        accumulator.record_cost_usd(to(&server), usd(value), at(START));
        assert_eq!(
            accumulator.cost_snapshot().session,
            cost([micro_usd, 1_000_000, 0, 0])
        );
    }
}

#[test]
fn counters_stop_at_the_largest_integer() {
    let accumulator = Accumulator::new();
    let server = name("a");
    accumulator.record_tokens(to(&server), u64::MAX, 1, at(START));
    accumulator.record_tokens(to(&server), 1, 1, at(START));
    accumulator.restore([(&server, tokens(1, 1))]);
    let highest = TokenCounts::from_array([i64::MAX, 3, i64::MAX]);
    assert_eq!(accumulator.snapshot().session, highest);
}

#[test]
fn restoring_loses_nothing_and_counts_nothing_twice() {
    let accumulator = Accumulator::new();
    let server = name("a");
    accumulator.record_tokens(to(&server), 1, 1, at(START));
    for _ in 0..2 {
        accumulator.restore([(&server, tokens(100, 50))]);
        accumulator.restore_cost([(&server, cost([7, 0, 0, -7]))]);
    }
    assert_eq!(accumulator.snapshot().servers["a"], tokens(101, 51));
    assert_eq!(accumulator.cost_snapshot().servers["a"], cost([7, 0, 0, 0]));
    // What was counted elsewhere has no minute here.
    assert_eq!(accumulator.query(minutes(60), at(START)).session.len(), 1);
}

#[test]
fn a_replay_leaves_out_what_belongs_to_no_single_minute() {
    let server = name("a");
    for (reset, cost_reset, replays_tokens, replays_cost) in [
        (false, false, true, true),
        (false, true, true, false),
        (true, false, false, false),
        (true, true, false, false),
    ] {
        let accumulator = Accumulator::new();
        let snapshot = MetricsSnapshot {
            reset,
            cost_reset,
            diff: tokens(1, 2),
            total: tokens(100, 100),
            cost_diff: Some(cost([3, 0, 0, 0])),
            cost_total: Some(cost([100; 4])),
            ..MetricsSnapshot::new(at(START - 5))
        };
        accumulator.replay_snapshot(&server, &snapshot);
        let series = accumulator.query(minutes(10), at(START));
        assert_eq!(!series.session.is_empty(), replays_tokens);
        let costs = accumulator.query_cost(minutes(10), at(START));
        assert_eq!(!costs.session.is_empty(), replays_cost);
        assert!(accumulator.snapshot().servers.is_empty());
        assert!(accumulator.cost_snapshot().servers.is_empty());
    }
}

#[test]
fn a_clock_that_jumps_ahead_and_back_takes_no_minute_away() {
    let accumulator = Accumulator::new();
    let server = name("a");
    let year = 365 * 24 * 60;
    for minute in START + year..START + year + SERIES_MINUTES {
        accumulator.record_tokens(to(&server), 1, 0, at(minute));
    }
    for minute in START..START + 10 {
        accumulator.record_tokens(to(&server), 1, 0, at(minute));
    }
    let series = accumulator.query(minutes(60), at(START + 9));
    assert_eq!(series.session.len(), 10);
    for extreme in [Timestamp::MIN, Timestamp::MAX] {
        accumulator.record_tokens(to(&server), 1, 0, extreme);
        let series = accumulator.query(minutes(1), extreme);
        assert_eq!(series.session.len(), 1);
    }
}

#[test]
fn names_are_bounded() {
    let accumulator = Accumulator::new();
    let server = name("a");
    let long = "x".repeat(256);
    for client in (0..NAMES_MAX + 10)
        .map(|index| index.to_string())
        .chain([long])
    {
        let attribution = Attribution {
            server: &server,
            replica: Some(&client),
            client: Some(&client),
            tool: None,
        };
        accumulator.record_tokens(attribution, 1, 0, at(START));
    }
    let usage = accumulator.snapshot();
    for names in [&usage.clients, &usage.replicas["a"]] {
        assert_eq!(names.len(), NAMES_MAX + 1);
        assert_eq!(names[OTHER], tokens(11, 0));
    }
}

#[test]
fn threads_lose_no_count() {
    let accumulator = Accumulator::new();
    let server = name("a");
    let start = std::sync::Barrier::new(4);
    thread::scope(|scope| {
        for thread in 0..4 {
            let (accumulator, server, start) = (&accumulator, &server, &start);
            scope.spawn(move || {
                let client = format!("client {}", thread % 2);
                let recorder = accumulator.recorder(Attribution {
                    client: Some(&client),
                    ..to(server)
                });
                start.wait();
                for index in 0..2000 {
                    recorder.record_tokens(1, 2, at(START + index / 7));
                    accumulator.record_cost(to(server), cost([1, 0, 0, 1]), at(START + index / 7));
                }
            });
        }
    });
    assert_eq!(accumulator.snapshot().session, tokens(8000, 16_000));
    assert_eq!(
        accumulator.snapshot().clients["client 1"],
        tokens(4000, 8000)
    );
    assert_eq!(
        accumulator.cost_snapshot().session,
        cost([8000, 0, 0, 8000])
    );
    let series = accumulator.query(minutes(360), at(START + 300));
    assert_eq!(series.session.len(), 286);
    assert!(
        series.session[..285]
            .iter()
            .all(|point| point.counts == tokens(28, 56))
    );
}

#[derive(Debug, Clone)]
enum Operation {
    Tokens(usize, usize, i64, [u8; 2]),
    Cost(usize, usize, i64, [u8; 4]),
    Restore(usize, [i16; 2]),
    RestoreCost(usize, [i16; 4]),
    Replay(usize, i64, [i8; 2], Option<[i8; 4]>, bool, bool),
    Clear,
    ClearCost,
}

const SERVERS: [&str; 2] = ["a", "b"];
const CLIENTS: [&str; 3] = ["", "x", "y"];

fn any_operation() -> impl Strategy<Value = Operation> {
    let minute = || {
        prop_oneof![
            0_i64..3,
            358_i64..363,
            SERIES_MINUTES - 2..SERIES_MINUTES + 3,
            Just(3 * SERIES_MINUTES + 1),
            Just(-1),
        ]
        .prop_map(|minute| START + minute)
    };
    let (server, client) = (|| 0..SERVERS.len(), || 0..CLIENTS.len());
    prop_oneof![
        6 => (server(), client(), minute(), any::<[u8; 2]>())
            .prop_map(|(a, b, c, d)| Operation::Tokens(a, b, c, d)),
        4 => (server(), client(), minute(), any::<[u8; 4]>())
            .prop_map(|(a, b, c, d)| Operation::Cost(a, b, c, d)),
        1 => (server(), any::<[i16; 2]>()).prop_map(|(a, b)| Operation::Restore(a, b)),
        1 => (server(), any::<[i16; 4]>()).prop_map(|(a, b)| Operation::RestoreCost(a, b)),
        4 => (server(), minute(), any::<[i8; 2]>(), any::<Option<[i8; 4]>>(), any::<bool>(), any::<bool>())
            .prop_map(|(a, b, c, d, e, f)| Operation::Replay(a, b, c, d, e, f)),
        1 => Just(Operation::Clear),
        1 => Just(Operation::ClearCost),
    ]
}

/// One dimension of the model, with integers for counts.
#[derive(Debug, Default)]
struct Model<T> {
    counted: BTreeMap<String, T>,
    restored: BTreeMap<String, T>,
    clients: BTreeMap<String, T>,
    minutes: BTreeMap<(String, i64), T>,
}

impl<T: Dimension> Model<T> {
    fn count(&mut self, server: &str, client: &str, minute: i64, counts: T) {
        self.counted.entry(server.into()).or_default().add(counts);
        self.restored.entry(server.into()).or_default();
        if !client.is_empty() {
            self.clients.entry(client.into()).or_default().add(counts);
        }
        self.minutes
            .entry((server.into(), minute))
            .or_default()
            .add(counts);
    }

    fn usage(&self) -> Usage<T> {
        let mut usage = Usage {
            servers: self.restored.clone(),
            clients: self.clients.clone(),
            ..Usage::default()
        };
        for (server, counts) in &self.counted {
            usage
                .servers
                .entry(server.clone())
                .or_default()
                .add(*counts);
        }
        for counts in usage.servers.values() {
            usage.session.add(*counts);
        }
        usage
    }

    fn series(&self, range: i64, interval: i64, now: i64) -> TimeSeries<T> {
        let sum = |server: Option<&str>| {
            let mut points = BTreeMap::<i64, T>::new();
            for ((name, minute), counts) in &self.minutes {
                let age = now - minute;
                if server.is_none_or(|server| server == name)
                    && (0..range.min(SERIES_MINUTES)).contains(&age)
                    && !counts.is_zero()
                {
                    points
                        .entry(minute / interval * interval)
                        .or_default()
                        .add(*counts);
                }
            }
            let point = |(minute, counts)| Point {
                time: Timestamp::from_unix_nanos(minute * MINUTE),
                counts,
            };
            points.into_iter().map(point).collect::<Vec<_>>()
        };
        TimeSeries {
            interval_seconds: interval.unsigned_abs() * 60,
            session: sum(None),
            servers: SERVERS
                .iter()
                .map(|server| ((*server).to_owned(), sum(Some(server))))
                .filter(|(_, points)| !points.is_empty())
                .collect(),
        }
    }

    fn clear(&mut self) {
        for counts in [&mut self.counted, &mut self.restored, &mut self.clients]
            .into_iter()
            .flat_map(BTreeMap::values_mut)
        {
            *counts = T::default();
        }
        self.minutes.clear();
    }
}

/// Which minute each bucket of the ring holds, by server and place.
type Held = BTreeMap<(usize, i64), i64>;

/// Gives `minute` its bucket, and says whether it got it.
fn hold(
    held: &mut Held,
    model: &mut Model<TokenCounts>,
    costs: &mut Model<CostCounts>,
    server: usize,
    minute: i64,
    replayed: bool,
) -> bool {
    let place = (server, minute % SERIES_MINUTES);
    match held.insert(place, minute) {
        Some(before) if before > minute && replayed => {
            held.insert(place, before);
            return false;
        }
        Some(before) if before != minute => {
            let gone = (SERVERS[server].to_owned(), before);
            model.minutes.remove(&gone);
            costs.minutes.remove(&gone);
        }
        _ => {}
    }
    true
}

fn agree(
    accumulator: &Accumulator,
    models: (&Model<TokenCounts>, &Model<CostCounts>),
    now: i64,
    range: i64,
) -> Result<(), TestCaseError> {
    let duration = minutes(range.unsigned_abs());
    let interval = if range <= 360 { 1 } else { 60 };
    let series = accumulator.query(duration, at(now));
    prop_assert_eq!(series, models.0.series(range, interval, now));
    let series = accumulator.query_cost(duration, at(now));
    prop_assert_eq!(series, models.1.series(range, interval, now));
    Ok(())
}

proptest! {
    #[test]
    fn agrees_with_a_model(operations in proptest::collection::vec(any_operation(), 1..40)) {
        let accumulator = Accumulator::new();
        let servers = SERVERS.map(name);
        let mut model = Model::<TokenCounts>::default();
        let mut costs = Model::<CostCounts>::default();
        let mut held = Held::new();
        for operation in operations {
            match operation.clone() {
                Operation::Tokens(server, client, minute, [input, output]) => {
                    let attribution = Attribution { client: Some(CLIENTS[client]), ..to(&servers[server]) };
                    accumulator.record_tokens(attribution, input.into(), output.into(), at(minute));
                    hold(&mut held, &mut model, &mut costs, server, minute, false);
                    let counts = tokens(input.into(), output.into());
                    model.count(SERVERS[server], CLIENTS[client], minute, counts);
                }
                Operation::Cost(server, client, minute, components) => {
                    let attribution = Attribution { client: Some(CLIENTS[client]), ..to(&servers[server]) };
                    let counts = cost(components.map(i64::from));
                    accumulator.record_cost(attribution, counts, at(minute));
                    hold(&mut held, &mut model, &mut costs, server, minute, false);
                    costs.count(SERVERS[server], CLIENTS[client], minute, counts);
                }
                Operation::Restore(server, [input, output]) => {
                    let total = [input, output, input].map(i64::from);
                    accumulator.restore([(&servers[server], TokenCounts::from_array(total))]);
                    let total = TokenCounts::from_array(total.map(|count| count.max(0)));
                    model.restored.insert(SERVERS[server].into(), total);
                }
                Operation::RestoreCost(server, total) => {
                    let total = total.map(i64::from);
                    accumulator.restore_cost([(&servers[server], cost(total))]);
                    let total = cost(total.map(|count| count.max(0)));
                    costs.restored.insert(SERVERS[server].into(), total);
                }
                Operation::Replay(server, minute, diff, cost_diff, reset, cost_reset) => {
                    let diff = tokens(diff[0].into(), diff[1].into());
                    let cost_diff = cost_diff.map(|diff| cost(diff.map(i64::from)));
                    let snapshot = MetricsSnapshot {
                        reset, cost_reset, diff, cost_diff, ..MetricsSnapshot::new(at(minute))
                    };
                    accumulator.replay_snapshot(&servers[server], &snapshot);
                    let key = (SERVERS[server].to_owned(), minute);
                    if !reset && !diff.is_zero()
                        && hold(&mut held, &mut model, &mut costs, server, minute, true)
                    {
                        let diff = diff.to_array().map(|count| count.max(0));
                        model.minutes.entry(key.clone()).or_default().add(TokenCounts::from_array(diff));
                    }
                    if let Some(diff) = cost_diff && !reset && !cost_reset && !diff.is_zero()
                        && hold(&mut held, &mut model, &mut costs, server, minute, true)
                    {
                        costs.minutes.entry(key).or_default().add(cost(diff.to_array().map(|count| count.max(0))));
                    }
                }
                Operation::Clear => {
                    accumulator.clear();
                    model.clear();
                }
                Operation::ClearCost => {
                    accumulator.clear_cost();
                    costs.clear();
                }
            }
            prop_assert_eq!(accumulator.snapshot(), model.usage(), "after {:?}", operation);
            prop_assert_eq!(accumulator.cost_snapshot(), costs.usage(), "after {:?}", operation);
            agree(&accumulator, (&model, &costs), START + 361, 360)?;
        }
        for now in [START + 1, START + 361, START + SERIES_MINUTES] {
            for range in [1, 360, 361, SERIES_MINUTES + 5] {
                agree(&accumulator, (&model, &costs), now, range)?;
            }
        }
    }
}
