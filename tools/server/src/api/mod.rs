//! JSON for programs.
//!
//! | address | what it answers |
//! |---|---|
//! | `/inventory` | what is stored of each signal of each server, as gridctl's own daemon does |
//! | `DELETE` of the root | a wipe, then the new inventory |
//! | `/logs`, `/spans`, `/metrics` | records, page by page, or all of them as lines |
//! | `/counts` | how many records there are, by severity, time and others |
//! | `/traces`, `/traces/{id}` | traces, page by page, and one trace |
//! | `/usage`, `/tools`, `/calls` | tokens, costs and calls |
//! | `/losses`, `/health` | what was lost, and whether the store works |
//! | `/suggestions` | keys and values to search for |
//! | `/live` | records as they arrive, as server-sent events |
//! | `/openapi.json` | all of this, for programs |
//!
//! All are below `/api/telemetry`. Parameters are those of [`Params`](crate::views::params::Params), shapes
//! those of [`shapes`](crate::shapes), errors are problem details.

mod lines;
mod records;
mod state;
#[cfg(test)]
mod tests;
mod traces;
mod usage;

use crate::{
    problem::Problem,
    state::Server,
    views::params::{self, View},
};
use axum::{
    Json, Router,
    http::{HeaderMap, HeaderValue, StatusCode, Uri, header::CONTENT_TYPE, header::LINK},
    response::{IntoResponse, Response},
    routing::{MethodRouter, any, delete, get},
};
use serde::Serialize;

/// Where the API is.
pub(crate) const ROOT: &str = "/api/telemetry";

/// An address below [`ROOT`], and what it answers.
struct Route {
    /// As in `openapi.json`, which a test compares with this.
    #[cfg_attr(not(test), expect(dead_code, reason = "for the test"))]
    method: &'static str,
    path: &'static str,
    /// The parameters that it accepts.
    #[cfg_attr(not(test), expect(dead_code, reason = "for the test"))]
    view: View,
    handler: fn() -> MethodRouter<Server>,
}

const ROUTES: &[Route] = &[
    Route {
        method: "delete",
        path: "",
        view: params::WIPE,
        handler: || delete(state::wipe),
    },
    Route {
        method: "get",
        path: "/inventory",
        view: params::INVENTORY,
        handler: || get(state::inventory),
    },
    Route {
        method: "get",
        path: "/logs",
        view: params::RECORDS,
        handler: || get(records::logs),
    },
    Route {
        method: "get",
        path: "/spans",
        view: params::SPANS,
        handler: || get(records::spans),
    },
    Route {
        method: "get",
        path: "/metrics",
        view: params::RECORDS,
        handler: || get(records::metrics),
    },
    Route {
        method: "get",
        path: "/counts",
        view: params::COUNTS,
        handler: || get(records::counts),
    },
    Route {
        method: "get",
        path: "/suggestions",
        view: params::SUGGESTIONS,
        handler: || get(records::suggestions),
    },
    Route {
        method: "get",
        path: "/live",
        view: params::LIVE,
        handler: || get(records::live),
    },
    Route {
        method: "get",
        path: "/traces",
        view: params::TRACES,
        handler: || get(traces::list),
    },
    Route {
        method: "get",
        path: "/traces/{id}",
        view: params::TRACE_DATA,
        handler: || get(traces::one),
    },
    Route {
        method: "get",
        path: "/usage",
        view: params::USAGE,
        handler: || get(usage::usage),
    },
    Route {
        method: "get",
        path: "/tools",
        view: params::TOOLS,
        handler: || get(usage::tools),
    },
    Route {
        method: "get",
        path: "/calls",
        view: params::CALLS,
        handler: || get(usage::calls),
    },
    Route {
        method: "get",
        path: "/losses",
        view: params::RANGE,
        handler: || get(state::losses),
    },
    Route {
        method: "get",
        path: "/health",
        view: params::NONE,
        handler: || get(state::health),
    },
    Route {
        method: "get",
        path: "/openapi.json",
        view: params::NONE,
        handler: || get(openapi),
    },
];

pub(crate) fn routes() -> Router<Server> {
    let known = ROUTES.iter().fold(Router::new(), |router, route| {
        router.route(&format!("{ROOT}{}", route.path), (route.handler)())
    });
    // Else the page of an address that does not exist would answer.
    known.route("/api/{*rest}", any(missing))
}

async fn missing(uri: Uri) -> Problem {
    let detail = format!(
        "there is nothing at {}: see {ROOT}/openapi.json",
        uri.path()
    );
    Problem::new(StatusCode::NOT_FOUND, detail)
}

async fn openapi() -> Response {
    let json = [(CONTENT_TYPE, HeaderValue::from_static("application/json"))];
    (json, include_str!("openapi.json")).into_response()
}

/// A page of a list, with the address of the next one.
#[derive(Debug, Serialize)]
struct Page<T> {
    #[serde(flatten)]
    list: T,
    #[serde(skip_serializing_if = "Option::is_none")]
    next: Option<String>,
}

/// JSON that was made where the store was read: the records need not be copied for that.
struct Made {
    json: Vec<u8>,
    next: Option<String>,
}

impl Made {
    fn new(shape: &impl Serialize) -> Result<Made, Problem> {
        Made::page(shape, None)
    }

    fn page(list: &impl Serialize, next: Option<String>) -> Result<Made, Problem> {
        let page = Page { list, next };
        let json =
            serde_json::to_vec(&page).map_err(|error| Problem::internal(error.to_string()))?;
        Ok(Made {
            json,
            next: page.next,
        })
    }
}

impl IntoResponse for Made {
    fn into_response(self) -> Response {
        let mut headers = HeaderMap::new();
        headers.insert(CONTENT_TYPE, HeaderValue::from_static("application/json"));
        let link = self.next.map(|next| format!("<{next}>; rel=\"next\""));
        if let Some(link) = link.and_then(|link| HeaderValue::try_from(link).ok()) {
            headers.insert(LINK, link);
        }
        (headers, self.json).into_response()
    }
}

/// A list whose JSON is an array.
fn array(list: &impl Serialize) -> Response {
    Json(list).into_response()
}
