//! The store of a stack over HTTP: pages for a browser, a JSON API, and a receiver of OTLP.
//!
//! A [`Server`] is a store with its writer and the [conditions](ServerOptions) under which others may use them.
//! [`router`] returns all its routes, for a daemon to mount into its own [`axum::Router`]; [`serve`] serves them
//! on a port.
//!
//! ```no_run
//! use gridctl_telemetry::{Store, StoreOptions, Writer, WriterOptions, home::default_home};
//! use gridctl_telemetry_server::{Server, ServerOptions, serve};
//!
//! # async fn run() -> Result<(), Box<dyn std::error::Error>> {
//! let store = Store::open(&default_home()?, "my-stack", StoreOptions::default())?;
//! let (writer, guard) = Writer::start(&store, WriterOptions::default())?;
//! let listener = tokio::net::TcpListener::bind("127.0.0.1:4318").await?;
//! let options = ServerOptions::default().listen(listener.local_addr()?);
//! let server = Server::new(store, writer, options)?;
//! serve(listener, server, async { /* until the daemon ends */ }).await?;
//! guard.close()?;
//! # Ok(())
//! # }
//! ```
//!
//! | module | what is in it |
//! |---|---|
//! | `state` | what all handlers share: the store, and the bound of concurrent reads |
//! | `guard` | who may send a request: host, origin, token, limits; the headers of answers |
//! | `serve` | connections: how many, how long they may be idle, and how they end |
//! | `problem` | errors as problem details, RFC 9457 |
//! | [`display`] | numbers, durations, costs and texts, as people read them |
//! | [`input`] | what people write to choose records, on a command line and in an address alike |
//! | [`shapes`] | the JSON that the programs print and the API answers |
//! | [`params`] | what a request asks for: the parameters of pages, of the API and of tools for agents |
//! | `views` | what pages and the API both show: histograms, series |
//! | `live` | records as they arrive |
//! | `pages` | HTML for a browser |
//! | `api` | JSON for programs |
//! | `receive` | OTLP over HTTP, and over gRPC with the feature `grpc` |

mod api;
pub mod display;
mod guard;
pub mod input;
mod live;
mod pages;
mod problem;
mod receive;
mod serve;
pub mod shapes;
mod state;
mod views;

pub use guard::{Origin, OriginError, Token, TokenError};
pub use problem::Problem;
pub use serve::serve;
#[cfg(feature = "grpc")]
pub use serve::serve_grpc;
pub use state::{Server, ServerError, ServerOptions};
pub use views::{params, rates::Rates};

use axum::Router;

/// All routes: the pages at `/`, the API at `/api/telemetry`, the receiver at `/v1`, and those that were
/// [added](ServerOptions::routes). Each request passes the guard first, whatever the daemon has around it.
///
/// Mount it at the root of a host: the pages link to each other from there.
pub fn router(server: &Server) -> Router {
    let routes = Router::new()
        .merge(pages::routes())
        .merge(api::routes())
        .merge(receive::routes())
        .merge(server.options().added.clone());
    guard::around(routes, server)
}
