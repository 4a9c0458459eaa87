//! What is stored and what was lost, whether the store works, and wipes.

use super::{Made, array};
use crate::{
    guard::PageToken,
    problem::Problem,
    shapes::LossesShape,
    state::Server,
    views::{
        params::{INVENTORY, NONE, Params, RANGE, WIPE},
        wipe::Wipe,
    },
};
use axum::{
    extract::{RawQuery, State},
    http::{HeaderMap, HeaderName, HeaderValue},
    response::{IntoResponse, Response},
};
use gridctl_telemetry::{
    Snapshot, Timestamp,
    maintenance::{Space, WriterStatus},
    query::InventoryRecord,
};
use serde::Serialize;

/// Has the page token: in the answer of the inventory, and in the request of a wipe.
const PAGE_TOKEN: HeaderName = HeaderName::from_static("x-page-token");

pub(super) async fn inventory(
    State(server): State<Server>,
    page_token: PageToken,
    RawQuery(query): RawQuery,
) -> Result<Response, Problem> {
    let params = Params::parse(query.as_deref(), INVENTORY)?;
    let records = server
        .read(move |snapshot| stored(snapshot, &params))
        .await?;
    let mut headers = HeaderMap::new();
    if let Ok(token) = HeaderValue::try_from(page_token.as_str()) {
        headers.insert(PAGE_TOKEN, token);
    }
    Ok((headers, array(&records)).into_response())
}

/// What is stored of the servers and the signal that are asked for.
fn stored(snapshot: &Snapshot, params: &Params) -> Result<Vec<InventoryRecord>, Problem> {
    let mut records = snapshot.inventory(None)?;
    records.retain(|record| {
        (params.servers.is_empty() || params.servers.contains(&record.server))
            && params.signal.is_none_or(|signal| signal == record.signal)
    });
    Ok(records)
}

/// Deletes what is asked for, and answers what is stored then. Without a server or a signal, it is of all.
pub(super) async fn wipe(
    State(server): State<Server>,
    page_token: PageToken,
    headers: HeaderMap,
    RawQuery(query): RawQuery,
) -> Result<Response, Problem> {
    let given = headers.get(PAGE_TOKEN);
    page_token.check(given.and_then(|token| token.to_str().ok()))?;
    let params = Params::parse(query.as_deref(), WIPE)?;
    Wipe::of(&params)?.run(&server).await?;
    let all = |snapshot: &Snapshot| Ok(snapshot.inventory(None)?);
    Ok(array(&server.read(all).await?))
}

pub(super) async fn losses(
    State(server): State<Server>,
    RawQuery(query): RawQuery,
) -> Result<Made, Problem> {
    let params = Params::parse(query.as_deref(), RANGE)?;
    let stack = server.store().stack().to_owned();
    server
        .read(move |snapshot| {
            let mut losses = LossesShape::default();
            for entry in snapshot.ledger(params.range()?)? {
                let server = entry.server.as_ref();
                if params.servers.is_empty()
                    || server.is_none_or(|server| params.servers.contains(server))
                {
                    losses.add(&stack, entry);
                }
            }
            Made::new(&losses)
        })
        .await
}

/// Whether the store works.
#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
struct Health<'a> {
    /// `ok`, or `degraded` while a writer cannot store, or something is known to be damaged.
    status: &'static str,
    stack: &'a str,
    /// Whether a running process writes.
    is_writing: bool,
    writers: Vec<WriterStatus>,
    #[serde(skip_serializing_if = "Option::is_none")]
    last_commit: Option<Timestamp>,
    space: Space,
    /// The number of parts that are known to be damaged.
    damaged: usize,
}

pub(super) async fn health(
    State(server): State<Server>,
    RawQuery(query): RawQuery,
) -> Result<Made, Problem> {
    Params::parse(query.as_deref(), NONE)?;
    let store = server.store().clone();
    server
        .read(move |snapshot| {
            let writers = store.writers()?;
            let damaged = snapshot.known_damage()?.len();
            let is_failing =
                |writer: &WriterStatus| writer.is_running && writer.failing_since.is_some();
            let is_degraded = damaged > 0 || writers.iter().any(is_failing);
            Made::new(&Health {
                status: if is_degraded { "degraded" } else { "ok" },
                stack: store.stack(),
                is_writing: writers.iter().any(|writer| writer.is_running),
                writers,
                last_commit: snapshot.last_commit()?,
                space: store.space()?,
                damaged,
            })
        })
        .await
}
