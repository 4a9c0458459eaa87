//! The API over a store with all three signals.

use super::{ROOT, ROUTES};
use crate::{Server, ServerOptions, router};
use axum::{
    Router,
    body::{Body, to_bytes},
    http::{HeaderMap, Method, Request, StatusCode},
};
use gridctl_telemetry::{
    Level, LogRecord, MetricsSnapshot, ServerName, SpanRecord, Store, StoreOptions, Timestamp,
    Writer, WriterGuard, WriterOptions,
    external::opentelemetry_proto::tonic::{
        common::v1::{AnyValue, KeyValue, any_value},
        trace::v1::{Span, Status, status::StatusCode as SpanStatus},
    },
    record::CostCounts,
};
use http_body_util::BodyExt;
use serde_json::Value;
use std::{collections::BTreeSet, fs, future::Future};
use tower::ServiceExt;

const HTML: &str = "<script>alert(1)</script>";
/// A time long ago, so that the tests do not depend on today.
const THEN: i64 = 1_778_000_000_000_000_000;
const SECOND: i64 = 1_000_000_000;
const TRACE: &str = "00000000000000000000000000000001";

struct Stack {
    _home: tempfile::TempDir,
    store: Store,
    writer: Writer,
    _guard: WriterGuard,
    router: Router,
}

struct Answer {
    status: StatusCode,
    headers: HeaderMap,
    body: Vec<u8>,
}

impl Answer {
    fn json(&self) -> Value {
        let text = String::from_utf8_lossy(&self.body);
        serde_json::from_slice(&self.body).unwrap_or_else(|error| panic!("{error}: {text}"))
    }
}

fn name(name: &str) -> ServerName {
    ServerName::new(name).unwrap()
}

fn at(second: i64) -> Timestamp {
    Timestamp::from_unix_nanos(THEN + second * SECOND)
}

fn span(trace: u128, id: u64, parent: u64, second: i64) -> SpanRecord {
    let nanos = at(second).unix_nanos().unsigned_abs();
    let bytes = |id: u64| match id {
        0 => Vec::new(),
        id => id.to_be_bytes().to_vec(),
    };
    let tool = any_value::Value::StringValue("search".into());
    SpanRecord::new(Span {
        trace_id: trace.to_be_bytes().to_vec(),
        span_id: bytes(id),
        parent_span_id: bytes(parent),
        name: "tools/call".into(),
        start_time_unix_nano: nanos,
        end_time_unix_nano: nanos + 5_000_000 * id,
        attributes: vec![KeyValue {
            key: "tool.name".into(),
            value: Some(AnyValue { value: Some(tool) }),
            ..KeyValue::default()
        }],
        status: Some(Status {
            code: if id == 2 {
                SpanStatus::Error
            } else {
                SpanStatus::Ok
            }
            .into(),
            message: HTML.into(),
        }),
        ..Span::default()
    })
}

impl Stack {
    fn empty() -> Stack {
        let home = tempfile::tempdir().unwrap();
        let store = Store::open(home.path(), "gw", StoreOptions::default()).unwrap();
        let (writer, guard) = Writer::start(&store, WriterOptions::default()).unwrap();
        let server = Server::new(store.clone(), writer.clone(), ServerOptions::default()).unwrap();
        Stack {
            _home: home,
            router: router(&server),
            store,
            writer,
            _guard: guard,
        }
    }

    /// 40 log records, 6 spans in 3 traces, 2 snapshots.
    fn filled() -> Stack {
        let stack = Stack::empty();
        let [github, other] = ["github", "slack"].map(name);
        stack.logs(0..40);
        for trace in 1..=3 {
            for id in 1..=2 {
                let record = span(trace, id, id - 1, i64::try_from(trace).unwrap());
                stack.writer.span(&github, &record).unwrap();
            }
        }
        for (server, tokens) in [(&github, 100), (&other, 7)] {
            let mut snapshot = MetricsSnapshot::new(at(60));
            snapshot.diff.input_tokens = tokens;
            snapshot.diff.total_tokens = tokens;
            snapshot.total = snapshot.diff;
            snapshot.cost_diff = Some(CostCounts::default());
            stack.writer.metrics(server, &snapshot).unwrap();
        }
        stack.writer.flush().unwrap();
        stack
    }

    fn logs(&self, numbers: std::ops::Range<i64>) {
        for number in numbers {
            let (server, level) = match number % 4 {
                0 => ("slack", Level::ERROR),
                1 => ("github", Level::WARN),
                _ => ("github", Level::INFO),
            };
            let record = LogRecord::new(at(number), level, format!("{HTML} {number}"))
                .with("number", number)
                .with("trace_id", TRACE);
            self.writer.log(&name(server), &record).unwrap();
        }
        self.writer.flush().unwrap();
    }

    async fn send(&self, method: Method, path: &str, headers: &[(&str, &str)]) -> Answer {
        let response = self.open(method, path, headers).await;
        let (parts, body) = response.into_parts();
        Answer {
            status: parts.status,
            headers: parts.headers,
            body: to_bytes(body, usize::MAX).await.unwrap().into(),
        }
    }

    async fn open(
        &self,
        method: Method,
        path: &str,
        headers: &[(&str, &str)],
    ) -> axum::response::Response {
        let mut request = Request::builder()
            .method(method)
            .uri(path)
            .header("host", "127.0.0.1:4318");
        for (name, value) in headers {
            request = request.header(*name, *value);
        }
        let request = request.body(Body::empty()).unwrap();
        self.router.clone().oneshot(request).await.unwrap()
    }

    async fn get(&self, path: &str) -> Answer {
        self.send(Method::GET, &format!("{ROOT}{path}"), &[]).await
    }

    async fn found(&self, path: &str) -> Value {
        let answer = self.get(path).await;
        let text = String::from_utf8_lossy(&answer.body);
        assert_eq!(answer.status, StatusCode::OK, "{path}: {text}");
        answer.json()
    }

    async fn page_token(&self) -> String {
        let answer = self.get("/inventory").await;
        answer.headers["x-page-token"].to_str().unwrap().to_owned()
    }
}

fn run(test: impl Future<Output = ()>) {
    tokio::runtime::Runtime::new().unwrap().block_on(test);
}

/// Checks a value by the parts of JSON Schema that the document uses.
fn validate(document: &Value, schema: &Value, value: &Value, place: &str) -> Result<(), String> {
    if let Some(reference) = schema["$ref"].as_str() {
        let target = document.pointer(reference.trim_start_matches('#')).unwrap();
        return validate(document, target, value, place);
    }
    if let Some(any) = schema["anyOf"].as_array() {
        let mut outcomes = any
            .iter()
            .map(|schema| validate(document, schema, value, place));
        let errors: Vec<String> = outcomes.by_ref().map_while(Result::err).collect();
        let is_valid = errors.len() < any.len();
        return is_valid.then_some(()).ok_or_else(|| errors.join(", nor "));
    }
    let is_type = match schema["type"].as_str().unwrap() {
        "object" => value.is_object(),
        "array" => value.is_array(),
        "string" => value.is_string(),
        "integer" => value.is_i64() || value.is_u64(),
        "boolean" => value.is_boolean(),
        "null" => value.is_null(),
        other => panic!("{place}: the type {other}"),
    };
    if !is_type {
        return Err(format!("{place}: {value} is no {}", schema["type"]));
    }
    if let Some(choice) = schema["enum"].as_array()
        && !choice.contains(value)
    {
        return Err(format!("{place}: {value} is none of {choice:?}"));
    }
    if schema["format"] == "date-time" {
        let time = value.as_str().unwrap().parse::<Timestamp>();
        time.map_err(|error| format!("{place}: {error}"))?;
    }
    for name in schema["required"].as_array().into_iter().flatten() {
        if value.get(name.as_str().unwrap()).is_none() {
            return Err(format!("{place}: {name} is missing"));
        }
    }
    for (name, member) in value.as_object().into_iter().flatten() {
        match schema["properties"].get(name) {
            Some(schema) => validate(document, schema, member, &format!("{place}.{name}"))?,
            None if schema["additionalProperties"] == false => {
                return Err(format!("{place}: {name} is not in the document"));
            }
            None => {}
        }
    }
    for (index, item) in value.as_array().into_iter().flatten().enumerate() {
        if let Some(schema) = schema.get("items") {
            validate(document, schema, item, &format!("{place}[{index}]"))?;
        }
    }
    Ok(())
}

#[test]
fn the_document_and_the_routes_agree() {
    run(async {
        let stack = Stack::filled();
        let document = stack.found("/openapi.json").await;
        assert_eq!(document["openapi"], "3.1.0");
        let documented: BTreeSet<(String, String)> = document["paths"]
            .as_object()
            .unwrap()
            .iter()
            .flat_map(|(path, methods)| {
                let methods = methods.as_object().unwrap().keys();
                methods.map(move |method| (path.clone(), method.clone()))
            })
            .collect();
        let routes: BTreeSet<(String, String)> = ROUTES
            .iter()
            .map(|route| (format!("{ROOT}{}", route.path), route.method.to_owned()))
            .collect();
        assert_eq!(documented, routes);

        let token = stack.page_token().await;
        // A wipe comes last.
        for route in ROUTES.iter().rev() {
            let path = format!("{ROOT}{}", route.path);
            let operation = &document["paths"][&path][route.method];
            let parameters = operation["parameters"].as_array().unwrap();
            let mut named = BTreeSet::new();
            for parameter in parameters {
                let parameter = match parameter["$ref"].as_str() {
                    Some(to) => document.pointer(to.trim_start_matches('#')).unwrap(),
                    None => parameter,
                };
                if parameter["in"] == "query" {
                    named.insert(parameter["name"].as_str().unwrap());
                }
            }
            let accepted = BTreeSet::from_iter(route.view.concat());
            assert_eq!(named, accepted, "{path}");

            // An answer with records in it, so that all of its shape is looked at.
            let query = match route.path {
                "/usage" => "?since=2026-01-01&by=server,hour",
                "/counts" => "?by=level,server,15m",
                "/inventory" | "" => "?server=github",
                "/logs" => "?limit=2",
                _ => "",
            };
            let method = Method::from_bytes(route.method.to_uppercase().as_bytes()).unwrap();
            let path = format!("{}{query}", path.replace("{id}", TRACE));
            let headers = [("x-page-token", &*token)];
            let response = stack.open(method, &path, &headers).await;
            assert_eq!(response.status(), StatusCode::OK, "{path}");
            let content = response.headers()["content-type"]
                .to_str()
                .unwrap()
                .to_owned();
            let described = &operation["responses"]["200"]["content"][&content];
            assert!(described.is_object(), "{path}: {content}");
            if content == "application/json" {
                let body = response.into_body().collect().await.unwrap().to_bytes();
                let json: Value = serde_json::from_slice(&body).unwrap();
                let outcome = validate(&document, &described["schema"], &json, &path);
                assert_eq!(outcome, Ok(()), "{json:#}");
            }
        }
        let problem = stack.get("/logs?level=loud").await.json();
        let schema = &document["components"]["schemas"]["Problem"];
        assert_eq!(validate(&document, schema, &problem, "problem"), Ok(()));
        // What a check overlooks is no check.
        let wrong = serde_json::json!({ "title": 1, "status": 400, "detail": "", "more": 1 });
        validate(&document, schema, &wrong, "problem").unwrap_err();
    });
}

#[test]
fn pages_follow_each_other() {
    run(async {
        let stack = Stack::filled();
        for (list, members, first, count) in [
            ("logs", "records", "/logs?limit=7", 40),
            ("logs", "records", "/logs?limit=40", 40),
            (
                "logs",
                "records",
                "/logs?limit=7&direction=forward&level=warn..",
                20,
            ),
            ("spans", "records", "/spans?limit=4&server=github", 6),
            ("traces", "traces", "/traces?limit=1", 3),
            ("traces", "traces", "/traces?limit=2&order=slowest", 3),
        ] {
            let mut seen = Vec::new();
            let mut next = Some(format!("{ROOT}{first}"));
            while let Some(path) = next {
                let answer = stack.send(Method::GET, &path, &[]).await;
                let json = answer.json();
                let page = json[members].as_array().unwrap();
                assert!(!page.is_empty() && seen.len() < count, "{path}");
                seen.extend(page.iter().map(ToString::to_string));
                next = json["next"].as_str().map(str::to_owned);
                let link = answer
                    .headers
                    .get("link")
                    .map(|link| link.to_str().unwrap());
                let linked = next.as_ref().map(|next| format!("<{next}>; rel=\"next\""));
                assert_eq!(link, linked.as_deref());
            }
            assert_eq!(seen.len(), count, "{list} {first}");
            assert_eq!(BTreeSet::from_iter(&seen).len(), count, "{first}");
        }
    });
}

#[test]
fn every_filter_narrows() {
    run(async {
        let stack = Stack::filled();
        for (path, count) in [
            ("/logs?grep=%3Cscript%3E&fixed-strings=true", 40),
            ("/logs?grep=ALERT&case-sensitive=true", 0),
            ("/logs?not-grep=%3E%201%24", 39),
            ("/logs?field=number%3E%3D38", 2),
            ("/logs?not-field=number%3E%3D38", 38),
            ("/logs?server=slack&server=github", 40),
            ("/logs?server=nobody", 0),
            ("/logs?since=%401778000010&until=%401778000020", 10),
            ("/logs?trace=0001&level=error", 10),
            ("/spans?kind=client", 0),
            ("/spans?status=error&name=CALL", 3),
            ("/spans?parent=01", 3),
            ("/spans?min-duration=10ms", 3),
            ("/spans?max-duration=9ms&span=01", 3),
            ("/metrics?field=diff.total_tokens%3E50", 1),
        ] {
            let found = stack.found(path).await;
            assert_eq!(found["records"].as_array().unwrap().len(), count, "{path}");
        }
        let failed = stack
            .found("/calls?errors=true&order=slowest&tool=SEAR")
            .await;
        // The second span of each trace is a part of the call that the first one is.
        assert_eq!(failed["calls"].as_array().unwrap().len(), 0);
        let tools = stack.found("/tools").await;
        assert_eq!(tools["tools"][0]["calls"], 3);
        let counts = stack
            .found("/counts?by=field:number&field=number%3C5")
            .await;
        assert_eq!(counts["rows"].as_array().unwrap().len(), 5);
        let usage = stack.found("/usage?since=2026-01-01&by=server").await;
        assert_eq!(usage["total"]["tokens"]["input_tokens"], 107);
        let suggested = stack.found("/suggestions").await;
        assert_eq!(suggested["servers"], serde_json::json!(["github", "slack"]));
        assert_eq!(suggested["keys"][0]["count"], 40);
    });
}

#[test]
fn an_error_says_what_is_accepted() {
    run(async {
        let stack = Stack::filled();
        for (path, status, said) in [
            ("/logs?sevrer=x", 400, "accepted are server, since"),
            ("/logs?level=loud", 400, "level: "),
            ("/logs?cursor=x", 400, "cursor: "),
            (
                "/logs?kind=client",
                400,
                "there is no parameter \"kind\" here",
            ),
            (
                "/counts?by=hour,day",
                400,
                "by: a record is counted in one length of time",
            ),
            ("/usage?by=level", 400, "by: \"level\" is unknown"),
            ("/live?cursor=x", 400, "cursor: it is no position"),
            ("/traces?cursor=zz", 400, "cursor"),
            ("/traces/xyz", 400, "xyz"),
            ("/traces/0123456789", 404, "no trace"),
            (
                "/traces/00000000000000000000000000000009?format=otlp",
                404,
                "no trace",
            ),
            ("/nothing", 404, "openapi.json"),
            ("/inventory?signal=smoke", 400, "signal: "),
        ] {
            let answer = stack.get(path).await;
            assert_eq!(answer.status.as_u16(), status, "{path}");
            assert_eq!(answer.headers["content-type"], "application/problem+json");
            let detail = answer.json()["detail"].as_str().unwrap().to_owned();
            assert!(detail.contains(said), "{path}: {detail}");
        }
    });
}

#[test]
fn a_wipe_needs_the_page_token_and_answers_what_is_left() {
    run(async {
        let stack = Stack::filled();
        let refused = stack.send(Method::DELETE, ROOT, &[]).await;
        assert_eq!(refused.status, StatusCode::FORBIDDEN);
        let token = stack.page_token().await;
        let headers = [("x-page-token", &*token)];
        let wrong = stack
            .send(Method::DELETE, &format!("{ROOT}?signal=smoke"), &headers)
            .await;
        assert_eq!(wrong.status, StatusCode::BAD_REQUEST);
        assert_eq!(stack.found("/inventory").await.as_array().unwrap().len(), 5);

        for (query, left) in [
            ("?server=&signal=traces", 4),
            ("?server=slack&signal=", 2),
            ("?until=%401778000002&signal=logs", 2),
            ("?server=nobody", 2),
            ("", 0),
        ] {
            let path = format!("{ROOT}{query}");
            let answer = stack.send(Method::DELETE, &path, &headers).await;
            assert_eq!(answer.status, StatusCode::OK, "{query}");
            assert_eq!(answer.json(), stack.found("/inventory").await);
            assert_eq!(answer.json().as_array().unwrap().len(), left, "{query}");
        }
        // A stack that was wiped while its records were looked at.
        assert_eq!(stack.found("/logs").await["records"], serde_json::json!([]));
        assert_eq!(
            stack.found("/traces").await["traces"],
            serde_json::json!([])
        );
    });
}

#[test]
fn a_database_that_is_away_is_waited_for() {
    run(async {
        let stack = Stack::filled();
        let path = stack.store.path();
        let away = path.with_extension("away");
        fs::rename(&path, &away).unwrap();
        for address in ["/inventory", "/logs", "/traces", "/health", "/live"] {
            let answer = stack.get(address).await;
            assert_eq!(answer.status, StatusCode::SERVICE_UNAVAILABLE, "{address}");
            assert_eq!(answer.headers["retry-after"], "1");
            assert!(
                answer.json()["detail"]
                    .as_str()
                    .unwrap()
                    .contains("is away")
            );
        }
        fs::rename(&away, &path).unwrap();
        assert_eq!(
            stack.found("/logs").await["records"]
                .as_array()
                .unwrap()
                .len(),
            40
        );
    });
}

#[test]
fn all_records_come_as_lines() {
    run(async {
        let stack = Stack::filled();
        stack.logs(40..3000);
        for (path, count) in [
            ("/logs?format=ndjson", 3000),
            ("/logs?format=ndjson&limit=17&direction=backward", 17),
            ("/logs?format=ndjson&level=error", 750),
            ("/spans?format=otlp", 6),
        ] {
            let answer = stack.get(path).await;
            assert_eq!(answer.headers["content-type"], "application/x-ndjson");
            let text = String::from_utf8(answer.body).unwrap();
            let lines = text
                .lines()
                .map(|line| serde_json::from_str::<Value>(line).unwrap());
            let spans = |line: &Value| {
                line["resourceSpans"].as_array().map_or(1, |resources| {
                    let scopes = resources
                        .iter()
                        .flat_map(|of| of["scopeSpans"].as_array().unwrap());
                    scopes
                        .map(|scope| scope["spans"].as_array().unwrap().len())
                        .sum()
                })
            };
            assert_eq!(
                lines.map(|line| spans(&line)).sum::<usize>(),
                count,
                "{path}"
            );
        }
    });
}

#[test]
fn a_large_trace_comes_as_one_document() {
    run(async {
        let stack = Stack::empty();
        for id in 1..=50_000 {
            let record = span(7, id, id / 2, 0);
            stack.writer.span(&name("github"), &record).unwrap();
            if id.is_multiple_of(1000) {
                stack.writer.flush().unwrap();
            }
        }
        let answer = stack.get("/traces/0000000000000007?format=otlp").await;
        let document = answer.json();
        let spans: BTreeSet<&str> = document["resourceSpans"]
            .as_array()
            .unwrap()
            .iter()
            .flat_map(|resource| resource["scopeSpans"].as_array().unwrap())
            .flat_map(|scope| scope["spans"].as_array().unwrap())
            .map(|span| span["spanId"].as_str().unwrap())
            .collect();
        assert_eq!(spans.len(), 50_000);
        let trace = stack.found("/traces/0000000000000007").await;
        assert_eq!(trace["spans"], 50_000);
        assert_eq!(trace["isCut"], true);
    });
}

/// Reads the events of a live stream.
struct Viewer {
    body: Body,
    text: String,
    last_id: Option<String>,
}

impl Viewer {
    async fn open(stack: &Stack, query: &str, last_id: Option<&str>) -> Viewer {
        let headers: Vec<_> = last_id
            .map(|id| ("last-event-id", id))
            .into_iter()
            .collect();
        let response = stack
            .open(Method::GET, &format!("{ROOT}/live{query}"), &headers)
            .await;
        assert_eq!(response.status(), StatusCode::OK);
        assert_eq!(response.headers()["content-type"], "text/event-stream");
        Viewer {
            body: response.into_body(),
            text: String::new(),
            last_id: None,
        }
    }

    /// The number of the next record.
    async fn next(&mut self) -> i64 {
        loop {
            if let Some((event, rest)) = self.text.split_once("\n\n") {
                let (event, rest) = (event.to_owned(), rest.to_owned());
                self.text = rest;
                let field = |name: &str| {
                    let mut lines = event.lines();
                    lines
                        .find_map(|line| line.strip_prefix(name))
                        .map(str::trim)
                };
                let Some(data) = field("data:") else { continue };
                self.last_id = field("id:").map(str::to_owned);
                let record: Value = serde_json::from_str(data).unwrap();
                return record["record"]["number"].as_i64().unwrap();
            }
            let frame = self.body.frame().await.unwrap().unwrap();
            let bytes = frame.into_data().unwrap();
            self.text.push_str(std::str::from_utf8(&bytes).unwrap());
        }
    }

    async fn take(&mut self, count: usize) -> Vec<i64> {
        let mut numbers = Vec::new();
        for _ in 0..count {
            numbers.push(self.next().await);
        }
        numbers
    }
}

#[test]
fn a_viewer_that_connects_again_misses_and_repeats_nothing() {
    run(async {
        let stack = Stack::filled();
        let mut viewer = Viewer::open(&stack, "", None).await;
        stack.logs(100..300);
        let mut seen = viewer.take(70).await;
        // It leaves in the middle of what arrived, and more arrives meanwhile, with older times, too.
        for step in 0..4 {
            let id = viewer.last_id.clone().unwrap();
            drop(viewer);
            stack.logs(300 + step * 10..310 + step * 10);
            stack.logs(40 + step * 10..50 + step * 10);
            viewer = Viewer::open(&stack, "", Some(&id)).await;
            seen.extend(viewer.take(30).await);
        }
        seen.extend(viewer.take(280 - seen.len()).await);
        let mut sorted = seen.clone();
        sorted.sort_unstable();
        let expected: Vec<i64> = (40..80).chain(100..340).collect();
        assert_eq!(sorted, expected);

        let mut errors = Viewer::open(&stack, "?level=error&server=slack", None).await;
        stack.logs(400..408);
        assert_eq!(errors.take(2).await, [400, 404]);
    });
}

#[test]
fn a_slow_viewer_delays_nobody_and_viewers_are_bounded() {
    run(async {
        let stack = Stack::empty();
        let mut slow = Viewer::open(&stack, "", None).await;
        let mut quick = Viewer::open(&stack, "", None).await;
        stack.logs(0..500);
        assert_eq!(quick.take(500).await.len(), 500);
        assert_eq!(slow.take(500).await, (0..500).collect::<Vec<_>>());
        let mut more = Vec::new();
        for _ in 2..32 {
            more.push(Viewer::open(&stack, "", None).await);
        }
        let refused = stack.get("/live").await;
        assert_eq!(refused.status, StatusCode::SERVICE_UNAVAILABLE);
        more.pop();
        let _place = Viewer::open(&stack, "", None).await;
    });
}

#[test]
fn a_viewer_outlives_a_wipe() {
    run(async {
        let stack = Stack::filled();
        let mut viewer = Viewer::open(&stack, "", None).await;
        stack.logs(50..53);
        assert_eq!(viewer.take(2).await, [50, 51]);
        let id = viewer.last_id.clone().unwrap();
        let token = stack.page_token().await;
        let headers = [("x-page-token", &*token)];
        let wiped = stack.send(Method::DELETE, ROOT, &headers).await;
        assert_eq!(wiped.json(), serde_json::json!([]));
        stack.logs(60..62);
        let mut again = Viewer::open(&stack, "", Some(&id)).await;
        assert_eq!(again.take(2).await, [60, 61]);
        // This one had the page with the third record already.
        assert_eq!(viewer.take(3).await, [52, 60, 61]);
    });
}

#[test]
fn a_viewer_sees_what_replaces_the_database() {
    run(async {
        let stack = Stack::filled();
        let mut viewer = Viewer::open(&stack, "", None).await;
        let other = Stack::empty();
        other.logs(0..3);
        let copy = stack.store.path().with_extension("new");
        fs::copy(other.store.path(), &copy).unwrap();
        fs::rename(&copy, stack.store.path()).unwrap();
        assert_eq!(viewer.take(3).await, [0, 1, 2]);
    });
}
