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
mod traces;
mod usage;

use crate::{problem::Problem, state::Server};
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
    /// The methods, as in the OpenAPI document.
    #[cfg_attr(not(test), expect(dead_code, reason = "for the test of the document"))]
    methods: &'static [&'static str],
    path: &'static str,
    handler: fn() -> MethodRouter<Server>,
}

const ROUTES: &[Route] = &[
    Route {
        methods: &["delete"],
        path: "",
        handler: || delete(state::wipe),
    },
    Route {
        methods: &["get"],
        path: "/inventory",
        handler: || get(state::inventory),
    },
    Route {
        methods: &["get"],
        path: "/logs",
        handler: || get(records::logs),
    },
    Route {
        methods: &["get"],
        path: "/spans",
        handler: || get(records::spans),
    },
    Route {
        methods: &["get"],
        path: "/metrics",
        handler: || get(records::metrics),
    },
    Route {
        methods: &["get"],
        path: "/counts",
        handler: || get(records::counts),
    },
    Route {
        methods: &["get"],
        path: "/suggestions",
        handler: || get(records::suggestions),
    },
    Route {
        methods: &["get"],
        path: "/live",
        handler: || get(records::live),
    },
    Route {
        methods: &["get"],
        path: "/traces",
        handler: || get(traces::list),
    },
    Route {
        methods: &["get"],
        path: "/traces/{id}",
        handler: || get(traces::one),
    },
    Route {
        methods: &["get"],
        path: "/usage",
        handler: || get(usage::usage),
    },
    Route {
        methods: &["get"],
        path: "/tools",
        handler: || get(usage::tools),
    },
    Route {
        methods: &["get"],
        path: "/calls",
        handler: || get(usage::calls),
    },
    Route {
        methods: &["get"],
        path: "/losses",
        handler: || get(state::losses),
    },
    Route {
        methods: &["get"],
        path: "/health",
        handler: || get(state::health),
    },
    Route {
        methods: &["get"],
        path: "/openapi.json",
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
