//! The store of a stack over HTTP: pages for a browser, a JSON API, and a receiver of OTLP.
//!
//! [`router`] returns all routes, for a daemon to mount into its own [`axum::Router`].
//!
//! | module | what is in it |
//! |---|---|
//! | `state` | what all handlers share: the store, and the bound of concurrent reads |
//! | `problem` | errors as problem details, RFC 9457 |
//! | [`display`] | numbers, durations, costs and texts, as people read them |
//! | [`input`] | what people write to choose records, on a command line and in an address alike |
//! | `views` | what pages and the API both show: parameters of an address, histograms, series |
//! | `pages` | HTML for a browser |
//! | `api` | JSON for programs |
//! | `receive` | OTLP/HTTP |

mod api;
pub mod display;
pub mod input;
mod pages;
mod problem;
mod receive;
mod state;
mod views;

pub use state::Server;

use axum::Router;

/// All routes: the pages at `/`, the API at `/api/telemetry`, the receiver at `/v1`.
pub fn router(server: Server) -> Router {
    Router::new()
        .merge(pages::routes())
        .merge(api::routes())
        .merge(receive::routes())
        .with_state(server)
}
