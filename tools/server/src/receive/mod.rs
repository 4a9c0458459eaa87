//! OTLP over HTTP.

use crate::state::Server;
use axum::Router;

pub(crate) fn routes() -> Router<Server> {
    Router::new()
}
