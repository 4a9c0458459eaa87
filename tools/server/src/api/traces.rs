//! Traces.

use super::{Made, ROOT};
use crate::{
    problem::Problem,
    shapes::{OfStack, TraceShape},
    state::Server,
    views::params::{Format, Params, TRACE_DATA, TRACES},
};
use axum::{
    body::{Body, Bytes},
    extract::{Path, RawQuery, State},
    http::{HeaderValue, StatusCode, header::CONTENT_TYPE},
    response::{IntoResponse, Response},
};
use futures_util::stream;
use gridctl_telemetry::{Query, Signal, Snapshot, lines::LineFormat, query::Cursor};
use serde::Deserialize;
use serde_json::value::RawValue;

/// The number of traces of a page unless the request says another.
const LIMIT_DEFAULT: usize = 50;
/// The size of a part of OTLP/JSON after which it ends, in bytes.
const PART_BYTES: usize = 256 << 10;
/// The digits of a trace id.
const ID_DIGITS: usize = 32;

pub(super) async fn list(
    State(server): State<Server>,
    RawQuery(query): RawQuery,
) -> Result<Made, Problem> {
    let params = Params::parse(query.as_deref(), TRACES)?;
    let stack = server.store().stack().to_owned();
    server
        .read(move |snapshot| {
            let query = params.traces()?;
            let page = &snapshot.traces(&query, params.limit_or(LIMIT_DEFAULT))?;
            let last = page.traces.last().filter(|_| page.has_more);
            let next = last.map(|last| {
                let cursor = query.cursor_after(last).to_string();
                params.link_with(&format!("{ROOT}/traces"), |params| {
                    params.cursor = Some(cursor);
                })
            });
            let shape = OfStack {
                stack: &stack,
                list: page,
            };
            Made::page(&shape, next)
        })
        .await
}

pub(super) async fn one(
    State(server): State<Server>,
    Path(id): Path<String>,
    RawQuery(query): RawQuery,
) -> Result<Response, Problem> {
    let params = Params::parse(query.as_deref(), TRACE_DATA)?;
    match params.format {
        None | Some(Format::Json) => {
            let stack = server.store().stack().to_owned();
            let made = server.read(move |snapshot| {
                let trace = snapshot.trace(&id)?.ok_or_else(|| missing(&id))?;
                Made::new(&OfStack {
                    stack: &stack,
                    list: &TraceShape::new(&trace),
                })
            });
            Ok(made.await?.into_response())
        }
        Some(Format::Otlp) => otlp(server, id).await,
        Some(Format::Ndjson) => Err(Problem::bad_request(
            "format: a trace is no list of lines; accepted: json or otlp",
        )),
    }
}

fn missing(id: &str) -> Problem {
    let shown: String = id.chars().take(ID_DIGITS).collect();
    Problem::new(
        StatusCode::NOT_FOUND,
        format!("no trace with the id {shown:?} is stored"),
    )
}

/// A trace as one `TracesData` of OTLP/JSON, with all its spans in the order of their ends.
///
/// It is read part by part, each from a snapshot of its own when the client has taken the part before.
async fn otlp(server: Server, id: String) -> Result<Response, Problem> {
    let id = server.read(move |snapshot| whole_id(snapshot, id)).await?;
    let (first, rest) = Spans::begin(server, id.clone()).part().await?;
    if first.is_empty() {
        return Err(missing(&id));
    }
    let mut begin = b"{\"resourceSpans\":[".to_vec();
    begin.extend_from_slice(&first);
    let parts = stream::try_unfold((Some(begin), Some(rest)), async |(begin, rest)| {
        if let Some(begin) = begin {
            return Ok(Some((Bytes::from(begin), (None, rest))));
        }
        let Some(rest) = rest else { return Ok(None) };
        if rest.is_complete {
            return Ok(Some((Bytes::from_static(b"]}"), (None, None))));
        }
        let read = rest.part().await;
        let (part, rest) = read.map_err(|problem| problem.detail().to_owned())?;
        Ok::<_, String>(Some((Bytes::from(part), (None, Some(rest)))))
    });
    let json = [(CONTENT_TYPE, HeaderValue::from_static("application/json"))];
    Ok((json, Body::from_stream(parts)).into_response())
}

/// The id that is meant by a part of one.
fn whole_id(snapshot: &Snapshot, id: String) -> Result<String, Problem> {
    let is_whole = id.bytes().filter(u8::is_ascii_hexdigit).count() == ID_DIGITS;
    if is_whole {
        return Ok(id);
    }
    let trace = snapshot.trace(&id)?.ok_or_else(|| missing(&id))?;
    Ok(trace.summary.trace_id)
}

/// The spans of a trace that are left to write.
struct Spans {
    server: Server,
    id: String,
    after: Option<Cursor>,
    is_complete: bool,
}

/// A line of OTLP/JSON.
#[derive(Deserialize)]
struct TracesData<'a> {
    #[serde(borrow, rename = "resourceSpans")]
    resource_spans: Vec<&'a RawValue>,
}

impl Spans {
    fn begin(server: Server, id: String) -> Spans {
        Spans {
            server,
            id,
            after: None,
            is_complete: false,
        }
    }

    /// The next spans, joined by commas.
    async fn part(mut self) -> Result<(Vec<u8>, Spans), Problem> {
        let server = self.server.clone();
        server
            .read(move |snapshot| {
                let mut query = Query::new(Signal::Traces)
                    .trace_id(&self.id)?
                    .skip_damaged();
                if let Some(after) = self.after {
                    query = query.after(after);
                }
                let mut scan = snapshot.scan(&query)?;
                let (mut out, mut line) = (Vec::new(), Vec::new());
                let is_first = self.after.is_none();
                self.is_complete = true;
                while let Some(record) = scan.next()? {
                    line.clear();
                    record.json(LineFormat::Otlp).write(&mut line)?;
                    let data: TracesData<'_> = serde_json::from_slice(&line)
                        .map_err(|error| Problem::internal(error.to_string()))?;
                    for spans in data.resource_spans {
                        if !(is_first && out.is_empty()) {
                            out.push(b',');
                        }
                        out.extend_from_slice(spans.get().as_bytes());
                    }
                    self.after = Some(record.cursor());
                    if out.len() > PART_BYTES {
                        self.is_complete = false;
                        break;
                    }
                }
                Ok((out, self))
            })
            .await
    }
}
