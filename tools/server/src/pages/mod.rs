//! HTML for a browser.
//!
//! A handler takes a [`Viewer`](layout::Viewer) and calls [`layout::show`] with a function that makes a
//! [`Page`](layout::Page) from a snapshot; the frame around it and the page of an error are made there.
//! All of it works without script, except for showing new records as they arrive.

mod address;
mod assets;
mod charts;
mod layout;
mod ledger;
mod logs;
mod overview;
mod parts;
mod record;
mod search;
mod trace;
mod traces;
mod usage;
mod wipe;

pub(crate) use assets::style as style_address;

use crate::{problem::Problem, state::Server};
use axum::{
    Router,
    http::StatusCode,
    response::Response,
    routing::{get, post},
};

pub(crate) fn routes() -> Router<Server> {
    Router::new()
        .route("/assets/{file}", get(assets::serve))
        .route("/", get(overview::overview))
        .route("/logs", get(logs::logs))
        .route("/logs/histogram", get(logs::histogram))
        .route("/logs/live", get(logs::live))
        .route("/ledger", get(ledger::ledger))
        .route("/wipe", get(wipe::ask).post(wipe::wipe))
        .route("/traces", get(traces::traces))
        .route("/traces/{id}", get(trace::trace))
        .route("/usage", get(usage::usage))
        .route("/theme", post(layout::choose_theme))
        .fallback(missing)
}

/// The page of an address that does not exist.
async fn missing(viewer: layout::Viewer) -> Response {
    let detail = format!("There is no page at {}.", viewer.address().path());
    layout::error(&viewer, &Problem::new(StatusCode::NOT_FOUND, detail))
}

#[cfg(test)]
mod tests;
