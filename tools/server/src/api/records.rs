//! Records, how many there are, and what to search for.

use super::{Made, ROOT, lines};
use crate::{
    live,
    problem::Problem,
    shapes::{OfRange, OfStack, RecordShape},
    state::Server,
    views::{
        params::{COUNTS, Format, LIVE, Params, RECORDS, SPANS, SUGGESTIONS},
        suggest::Suggestions,
    },
};
use axum::{
    extract::{RawQuery, State},
    http::HeaderMap,
    response::{IntoResponse, Response},
};
use gridctl_telemetry::{
    Signal,
    lines::LineFormat,
    query::{Direction, StoredRecord},
};
use serde::Serialize;

/// The number of records of a page unless the request says another.
const LIMIT_DEFAULT: usize = 100;
/// The size of the records of a page after which it ends, in bytes.
const PAGE_BYTES: usize = 4 << 20;

/// A page of records.
#[derive(Debug, Serialize)]
struct Records<'a> {
    records: Vec<RecordShape<'a>>,
    /// The number of blocks and records that cannot be read and were left out.
    #[serde(skip_serializing_if = "is_zero")]
    damaged: usize,
}

#[expect(clippy::trivially_copy_pass_by_ref, reason = "as serde calls it")]
fn is_zero(count: &usize) -> bool {
    *count == 0
}

pub(super) async fn logs(
    State(server): State<Server>,
    RawQuery(query): RawQuery,
) -> Result<Response, Problem> {
    let params = Params::parse(query.as_deref(), RECORDS)?;
    list(server, params, Signal::Logs, "/logs").await
}

pub(super) async fn spans(
    State(server): State<Server>,
    RawQuery(query): RawQuery,
) -> Result<Response, Problem> {
    let params = Params::parse(query.as_deref(), SPANS)?;
    list(server, params, Signal::Traces, "/spans").await
}

pub(super) async fn metrics(
    State(server): State<Server>,
    RawQuery(query): RawQuery,
) -> Result<Response, Problem> {
    let params = Params::parse(query.as_deref(), RECORDS)?;
    list(server, params, Signal::Metrics, "/metrics").await
}

async fn list(
    server: Server,
    params: Params,
    signal: Signal,
    path: &'static str,
) -> Result<Response, Problem> {
    match params.format {
        None | Some(Format::Json) => Ok(page(server, params, signal, path).await?.into_response()),
        Some(Format::Ndjson) => lines::all(server, params, signal, LineFormat::Ndjson).await,
        Some(Format::Otlp) => lines::all(server, params, signal, LineFormat::Otlp).await,
    }
}

async fn page(
    server: Server,
    params: Params,
    signal: Signal,
    path: &'static str,
) -> Result<Made, Problem> {
    let stack = server.store().stack().to_owned();
    let read = move |snapshot: &gridctl_telemetry::Snapshot| {
        let limit = params.limit_or(LIMIT_DEFAULT);
        let mut scan = snapshot.scan(&params.records(signal, Direction::Backward)?)?;
        let mut stored: Vec<StoredRecord> = Vec::new();
        let mut bytes = 0;
        let mut has_more = false;
        while let Some(record) = scan.next()? {
            has_more = stored.len() >= limit || bytes > PAGE_BYTES;
            if has_more {
                break;
            }
            bytes += record.payload_bytes();
            stored.push(record.to_stored()?);
        }
        let last = stored.last().filter(|_| has_more);
        let next = last.map(|last| {
            let cursor = last.cursor().to_string();
            params.link_with(&format!("{ROOT}{path}"), |params| {
                params.cursor = Some(cursor);
            })
        });
        let page = &Records {
            records: stored.iter().map(RecordShape::new).collect(),
            damaged: scan.damage().len(),
        };
        Made::page(
            &OfStack {
                stack: &stack,
                list: page,
            },
            next,
        )
    };
    server.read(read).await
}

pub(super) async fn counts(
    State(server): State<Server>,
    RawQuery(query): RawQuery,
) -> Result<Made, Problem> {
    let params = Params::parse(query.as_deref(), COUNTS)?;
    let by = params.counted_by()?;
    let stack = server.store().stack().to_owned();
    server
        .read(move |snapshot| {
            let signal = params.signal.unwrap_or(Signal::Logs);
            let query = params.records(signal, Direction::Forward)?;
            let report = snapshot.count(&query, &by)?;
            Made::new(&OfRange::new(
                &stack,
                Some(signal),
                params.range()?,
                &report,
            ))
        })
        .await
}

pub(super) async fn suggestions(
    State(server): State<Server>,
    RawQuery(query): RawQuery,
) -> Result<Made, Problem> {
    let params = Params::parse(query.as_deref(), SUGGESTIONS)?;
    let stack = server.store().stack().to_owned();
    server
        .read(move |snapshot| {
            let signal = params.signal.unwrap_or(Signal::Logs);
            let list = &Suggestions::find(snapshot, &params, signal)?;
            Made::new(&OfStack {
                stack: &stack,
                list,
            })
        })
        .await
}

pub(super) async fn live(
    State(server): State<Server>,
    headers: HeaderMap,
    RawQuery(query): RawQuery,
) -> Result<Response, Problem> {
    let params = Params::parse(query.as_deref(), LIVE)?;
    let signal = params.signal.unwrap_or(Signal::Logs);
    let stream = live::stream(server, &params, signal, &headers, |stored| {
        serde_json::to_string(&RecordShape::new(stored))
            .map_err(|error| Problem::internal(error.to_string()))
    });
    Ok(stream.await?.into_response())
}
