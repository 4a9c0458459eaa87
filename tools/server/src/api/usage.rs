//! Tokens, costs and calls.

use super::Made;
use crate::{
    problem::Problem,
    shapes::{OfRange, OfStack},
    state::Server,
    views::params::{CALLS, Params, TOOLS, USAGE},
};
use axum::extract::{RawQuery, State};
use gridctl_telemetry::query::UsageBy;

/// How far back usage is summed up unless a time is given.
const SINCE_DEFAULT: &str = "24h";
/// The number of calls of an answer unless the request says another.
const LIMIT_DEFAULT: usize = 20;

pub(super) async fn usage(
    State(server): State<Server>,
    RawQuery(query): RawQuery,
) -> Result<Made, Problem> {
    let params = Params::parse(query.as_deref(), USAGE)?;
    let range = params.range_or(SINCE_DEFAULT)?;
    let query = params.usage(range, &[UsageBy::Server])?;
    let stack = server.store().stack().to_owned();
    server
        .read(move |snapshot| {
            let report = snapshot.usage(&query)?;
            Made::new(&OfRange::new(&stack, None, range, &report))
        })
        .await
}

pub(super) async fn tools(
    State(server): State<Server>,
    RawQuery(query): RawQuery,
) -> Result<Made, Problem> {
    let params = Params::parse(query.as_deref(), TOOLS)?;
    let query = params.calls()?;
    let stack = server.store().stack().to_owned();
    server
        .read(move |snapshot| {
            let list = &snapshot.tools(&query)?;
            Made::new(&OfStack {
                stack: &stack,
                list,
            })
        })
        .await
}

pub(super) async fn calls(
    State(server): State<Server>,
    RawQuery(query): RawQuery,
) -> Result<Made, Problem> {
    let params = Params::parse(query.as_deref(), CALLS)?;
    let query = params.calls()?;
    let stack = server.store().stack().to_owned();
    server
        .read(move |snapshot| {
            let list = &snapshot.calls(&query, params.limit_or(LIMIT_DEFAULT))?;
            Made::new(&OfStack {
                stack: &stack,
                list,
            })
        })
        .await
}
