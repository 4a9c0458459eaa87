//! Traces, one trace and usage, as a browser without script gets them.

use crate::pages::tests::{Site, attribute};
use axum::http::StatusCode;
use gridctl_telemetry::{
    Level, LogRecord, ServerName, SpanRecord, Timestamp,
    external::opentelemetry_proto::tonic::{
        common::v1::{AnyValue, KeyValue, any_value},
        trace::v1::{Span, Status, span::Event},
    },
};
use std::collections::BTreeSet;

const MILLI: i64 = 1_000_000;
const EVIL: &str = "\"'><script>alert(1)</script><img src=x onerror=alert(2)>";

fn id(trace: u8) -> String {
    format!("{trace:02x}").repeat(16)
}

/// A span of a trace from and to these milliseconds, which are counted from a minute ago.
fn span(trace: u8, id: u64, parent: u64, from: i64, to: i64) -> Span {
    let begin = Timestamp::now().unix_nanos() / 60_000_000_000 * 60_000_000_000 - 60_000 * MILLI;
    let id_of = |id: u64| {
        if id == 0 {
            Vec::new()
        } else {
            id.to_be_bytes().to_vec()
        }
    };
    Span {
        trace_id: vec![trace; 16],
        span_id: id_of(id),
        parent_span_id: id_of(parent),
        name: format!("span {id};"),
        start_time_unix_nano: (begin + from * MILLI).cast_unsigned(),
        end_time_unix_nano: (begin + to * MILLI).cast_unsigned(),
        ..Span::default()
    }
}

fn entry(key: &str, value: any_value::Value) -> KeyValue {
    KeyValue {
        key: key.to_owned(),
        value: Some(AnyValue { value: Some(value) }),
        ..KeyValue::default()
    }
}

fn text(key: &str, value: &str) -> KeyValue {
    entry(key, any_value::Value::StringValue(value.to_owned()))
}

fn number(key: &str, value: i64) -> KeyValue {
    entry(key, any_value::Value::IntValue(value))
}

fn failed(span: Span, message: &str) -> Span {
    Span {
        status: Some(Status {
            code: 2,
            message: message.to_owned(),
        }),
        ..span
    }
}

impl Site {
    fn spans(&self, server: &str, spans: impl IntoIterator<Item = Span>) {
        let server = ServerName::new(server).unwrap();
        for span in spans {
            self.writer.span(&server, &SpanRecord::new(span)).unwrap();
        }
        self.writer.flush().unwrap();
    }

    async fn ok(&self, address: &str) -> String {
        let (status, body) = self.get(address).await;
        assert_eq!(status, StatusCode::OK, "{address}\n{body}");
        for forbidden in ["<script>", "<img", " style=\"", "NaN", "\"'>"] {
            assert!(!body.contains(forbidden), "{address}: {forbidden}\n{body}");
        }
        body
    }
}

/// The names of the spans that have a row, in its order.
fn rows(page: &str) -> Vec<u64> {
    let rows = page.split("waterfall-label\">span ").skip(1);
    rows.map(|rest| rest.split_once(';').unwrap().0.parse().unwrap())
        .collect()
}

#[tokio::test]
async fn a_trace_full_of_html_is_text() {
    let site = Site::new();
    let mut evil = failed(span(1, 1, 0, 0, 50), EVIL);
    evil.name = EVIL.to_owned();
    evil.attributes = vec![
        text(EVIL, EVIL),
        text("tool", EVIL),
        text("client.name", EVIL),
    ];
    evil.events = vec![Event {
        name: EVIL.to_owned(),
        attributes: vec![text("exception.message", EVIL)],
        ..Event::default()
    }];
    site.spans("<b>'\"&", [evil]);
    let log = LogRecord::new(Timestamp::now(), Level::WARN, EVIL).with("trace_id", id(1));
    let server = ServerName::new("<b>'\"&").unwrap();
    site.writer.log(&server, &log).unwrap();
    site.writer.flush().unwrap();
    for address in [
        "/traces".to_owned(),
        "/traces?grep=script".to_owned(),
        format!("/traces/{}", id(1)),
        format!("/traces/{}?find=%3Cscript%3E", id(1)),
        "/usage?by=tool".to_owned(),
    ] {
        let body = site.ok(&address).await;
        assert!(body.contains("&lt;script&gt;"), "{address}");
        assert!(!body.contains("<b>"), "{address}");
    }
    for address in [
        "/traces?grep=%22%3E%3Cscript%3E(",
        "/traces?%3Cscript%3E=1",
        "/traces/%3Cscript%3E",
        "/usage?by=%3Cscript%3E",
        "/usage?since=%22%3E%3Cscript%3E",
    ] {
        let (status, body) = site.get(address).await;
        assert_eq!(status, StatusCode::BAD_REQUEST, "{address}");
        assert!(!body.contains("<script>"), "{address}\n{body}");
    }
}

#[tokio::test]
async fn odd_spans_have_their_places() {
    let site = Site::new();
    let mut without_start = span(1, 6, 1, 0, 30);
    without_start.start_time_unix_nano = 0;
    site.spans(
        "gateway",
        [
            span(1, 1, 0, 0, 50),
            // Outside of the span above it, on both sides.
            span(1, 2, 1, -5, 70),
            // No duration.
            span(1, 3, 1, 10, 10),
            // Its parent is missing.
            failed(span(1, 4, 99, 20, 30), "denied"),
            // It ends before it begins, and is its own ancestor.
            span(1, 5, 5, 40, 35),
            without_start,
        ],
    );
    let body = site.ok(&format!("/traces/{}", id(1))).await;
    assert_eq!(
        rows(&body).into_iter().collect::<BTreeSet<_>>(),
        (1..=6).collect()
    );
    for expected in [
        "It begins 5.00ms before the span above it.",
        "It ends 20.0ms after the span above it.",
        "The span above it is not stored",
        "It is its own ancestor",
        "unknown: it ended before it began",
        "unknown: it does not say when it began or ended",
        "<span class=\"waterfall-took\">0ns</span>",
        "1 span failed",
        "denied",
    ] {
        assert!(body.contains(expected), "{expected}\n{body}");
    }
    let part = format!("/traces/{}", &id(1)[..8]);
    assert!(site.ok(&part).await.contains("span 1;"));
    for (address, expected) in [
        (format!("/traces/{}", id(9)), StatusCode::NOT_FOUND),
        ("/traces/xyz".to_owned(), StatusCode::BAD_REQUEST),
        (
            format!("/traces/{}?cursor=x", id(1)),
            StatusCode::BAD_REQUEST,
        ),
        (format!("/traces/{}?grep=x", id(1)), StatusCode::BAD_REQUEST),
    ] {
        assert_eq!(site.get(&address).await.0, expected, "{address}");
    }
    // A place that is no longer stored is the whole trace.
    let gone = site.ok(&format!("/traces/{}?cursor=ffffff.", id(1))).await;
    assert!(gone.contains("no longer stored") && rows(&gone).len() == 6);
}

#[tokio::test]
async fn log_records_are_in_their_spans_and_in_order() {
    let site = Site::new();
    site.spans("gateway", [span(1, 1, 0, 0, 50)]);
    let begin = span(1, 1, 0, 0, 0).start_time_unix_nano.cast_signed();
    let gateway = ServerName::new("gateway").unwrap();
    for (millis, level, message) in [(20, Level::ERROR, "second"), (-3, Level::INFO, "first")] {
        let at = Timestamp::from_unix_nanos(begin + millis * MILLI);
        let log = LogRecord::new(at, level, message)
            .with("trace_id", id(1))
            .with("span_id", format!("{:016x}", 1));
        site.writer.log(&gateway, &log).unwrap();
    }
    let only = LogRecord::new(Timestamp::now(), Level::INFO, "alone").with("trace_id", id(2));
    site.writer.log(&gateway, &only).unwrap();
    site.writer.flush().unwrap();
    let body = site.ok(&format!("/traces/{}", id(1))).await;
    // As points on the span: the one before it is marked as outside.
    assert!(
        body.contains("waterfall-mark level-error\" cx=\"40%\""),
        "{body}"
    );
    assert!(body.contains("is-outside level-info\" cx=\"0%\""), "{body}");
    let (_, list) = body.split_once("trace-logs").unwrap();
    assert!(list.find("first").unwrap() < list.find("second").unwrap());
    assert!(list.contains("-3.00ms") && list.contains("+20.0ms"));
    // A trace of which only a log record is stored.
    let body = site.ok(&format!("/traces/{}", id(2))).await;
    assert!(body.contains("Log records of a trace") && body.contains("alone"));
}

#[tokio::test]
async fn every_record_of_a_large_trace_is_reached_by_links() {
    let site = Site::new();
    let root = span(1, 1, 0, 0, 2_000);
    let chunks = (0..40_i64).map(|chunk| {
        let first = 2 + u64::try_from(chunk).unwrap() * 50;
        let above = span(1, first, 1, chunk * 50, chunk * 50 + 50);
        let below = (1..50_i64).map(move |item| {
            let at = chunk * 50 + item;
            span(1, first + item.cast_unsigned(), first, at, at + 1)
        });
        std::iter::once(above).chain(below).collect::<Vec<_>>()
    });
    let chunks: Vec<Span> = chunks.flatten().collect();
    let count = 1 + chunks.len() as u64;
    site.spans("batch", std::iter::once(root).chain(chunks));

    let mut seen = BTreeSet::new();
    let mut pages = vec![format!("/traces/{}", id(1))];
    let mut visited = BTreeSet::new();
    while let Some(page) = pages.pop() {
        if !visited.insert(page.clone()) {
            continue;
        }
        let body = site.ok(&page).await;
        let rows = rows(&body);
        assert!(
            rows.len() <= 301 && body.len() < 1 << 20,
            "{page}: {}",
            rows.len()
        );
        seen.extend(rows);
        let more = body.split("waterfall-more ").skip(1);
        pages.extend(more.map(|rest| attribute(rest, "", "href").unwrap()));
    }
    assert_eq!(seen, (1..=count).collect());
    // A record that is not on the first page is found, and its link leads to it.
    let body = site
        .ok(&format!("/traces/{}?find=span+1999%3B", id(1)))
        .await;
    assert!(body.contains(&format!("1 of {}", "2,001")), "{body}");
    let link = attribute(&body, "found-list", "href").unwrap();
    let (address, anchor) = link.split_once('#').unwrap();
    let body = site.ok(address).await;
    let (_, row) = body.split_once(&format!("id=\"{anchor}\"")).unwrap();
    assert!(row.contains("<mark>span 1999;</mark>"));
}

#[tokio::test]
async fn lists_of_traces_lead_through_all_of_them() {
    let site = Site::new();
    for trace in 1..=25_u8 {
        let took = i64::from(trace) * 10 % 70 + 1;
        let root = span(trace, 1, 0, i64::from(trace), i64::from(trace) + took);
        site.spans(
            "gateway",
            [if trace % 5 == 0 {
                failed(root, "denied")
            } else {
                root
            }],
        );
    }
    for (filter, expected) in [
        ("", 25),
        ("&order=slowest", 25),
        ("&errors=true", 5),
        ("&min-duration=40ms", 10),
    ] {
        let mut address = format!("/traces?limit=4{filter}");
        let mut found = Vec::new();
        loop {
            let body = site.ok(&address).await;
            let names = body.split("trace-name\" href=\"/traces/").skip(1);
            found.extend(names.map(|rest| rest[..32].to_owned()));
            match attribute(&body, "rel=\"next\"", "href") {
                Some(next) => address = next,
                None => break,
            }
        }
        let distinct: BTreeSet<&String> = found.iter().collect();
        assert_eq!(
            (found.len(), distinct.len()),
            (expected, expected),
            "{filter}"
        );
    }
    // The points of the chart are the same traces.
    let body = site.ok("/traces").await;
    let (chart, _) = body.split_once("List of traces").unwrap();
    assert_eq!(chart.matches("<a href=\"/traces/").count(), 25);
    assert_eq!(chart.matches("<svg class=\"point-failed\"").count(), 5);
    // A cursor of a list in another order is refused.
    let next = attribute(&site.ok("/traces?limit=4").await, "rel=\"next\"", "href").unwrap();
    let (status, _) = site.get(&format!("{next}&order=slowest")).await;
    assert_eq!(status, StatusCode::BAD_REQUEST);
    let (status, body) = site.get("/traces?min-duration=soon").await;
    assert_eq!(status, StatusCode::BAD_REQUEST);
    assert!(body.contains("value=\"soon\""));
    assert!(
        site.ok("/traces?server=nobody")
            .await
            .contains("No trace matches")
    );
}

#[tokio::test]
async fn models_are_counted_once_and_tools_with_their_percentiles() {
    let site = Site::new();
    let tokens = |span: Span, operation: &str, input, output| Span {
        attributes: vec![
            text("gen_ai.operation.name", operation),
            text("gen_ai.response.model", "sonnet <4>"),
            number("gen_ai.usage.input_tokens", input),
            number("gen_ai.usage.output_tokens", output),
        ],
        ..span
    };
    let call = Span {
        attributes: vec![text("tool.name", "search")],
        ..failed(span(1, 4, 1, 60, 80), "denied")
    };
    site.spans(
        "gateway",
        [
            // The agent says what its calls below say.
            tokens(span(1, 1, 0, 0, 100), "invoke_agent", 1_300, 70),
            tokens(span(1, 2, 1, 0, 20), "chat", 1_000, 50),
            tokens(span(1, 3, 1, 30, 50), "chat", 300, 20),
            call,
        ],
    );
    let body = site.ok(&format!("/traces/{}", id(1))).await;
    let (_, models) = body.split_once("Language models").unwrap();
    for expected in ["sonnet &lt;4&gt;", ">2<", ">1,300<", ">70<"] {
        assert!(models.contains(expected), "{expected}\n{models}");
    }
    let body = site.ok("/usage?by=model&since=1h").await;
    for expected in ["sonnet &lt;4&gt;", "1,370", "+1,370", "(new)", "100%"] {
        assert!(body.contains(expected), "{expected}\n{body}");
    }
    let body = site.ok("/usage?by=tool").await;
    for expected in ["search", "20.0ms", "(100%)", "/traces?server=gateway"] {
        assert!(body.contains(expected), "{expected}\n{body}");
    }
    for address in [
        "/usage",
        "/usage?by=skill",
        "/usage?by=model&since=2h&until=1h",
    ] {
        let body = site.ok(address).await;
        assert!(
            body.contains("was counted") || body.contains("was called"),
            "{address}"
        );
    }
}
