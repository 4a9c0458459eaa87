//! What a request must fulfil before a handler sees it.
//!
//! In this order:
//!
//! 1. The header `Host` names this server, else the page that sent the request may be that of a stranger whose
//!    name points to this machine (DNS rebinding).
//! 2. The request is not that of a page of another origin, see [`origin`].
//! 3. It shows the token, if there is one, see [`token`].
//! 4. There is room for it: [`limits`] bounds how many requests run, how large their bodies are and how long
//!    they take to arrive.
//!
//! Handlers that delete records also check the [`PageToken`]. Every answer gets the headers in [`headers`].

mod headers;
mod host;
mod limits;
mod login;
mod origin;
mod token;

pub(crate) use self::{
    limits::{BodyMemory, TELEMETRY_BYTES_MAX},
    token::{PageToken, Sessions},
};
pub use self::{
    origin::{Origin, OriginError},
    token::{Token, TokenError},
};

use crate::{
    problem::Problem,
    receive::{self, Encoding},
    state::{Server, ServerOptions},
};
use axum::{
    Router,
    extract::{DefaultBodyLimit, Request, State},
    http::{Method, StatusCode},
    middleware::{self, Next},
    response::{IntoResponse, Response},
};
use host::Hosts;
use limits::{FORM_BYTES_MAX, Limits};
use token::Caller;
use tower_http::catch_panic::CatchPanicLayer;

/// Where OTLP is received. Only these addresses take requests of other origins.
const RECEIVER: &str = "/v1/";

/// The conditions of one server.
pub(crate) struct Guard {
    hosts: Hosts,
    origins: Vec<Origin>,
    token: Option<Token>,
    /// The name of the cookie with a session. It has the port, because the servers of a machine share cookies.
    cookie: String,
    sessions: Sessions,
    limits: Limits,
}

impl Guard {
    pub(crate) fn new(options: &ServerOptions, sessions: Sessions) -> Guard {
        Guard {
            hosts: Hosts::new(options.listen.ip(), options.hosts.clone()),
            origins: options.origins.clone(),
            token: options.token.clone(),
            cookie: format!("gridctl-telemetry-{}", options.listen.port()),
            sessions,
            limits: Limits::default(),
        }
    }

    /// Refuses a request by what it says about itself.
    fn check(&self, request: &Request) -> Result<Caller, Problem> {
        let authority = self.hosts.check(request)?;
        let is_allowed = is_receiver(request) && self.allowed_origin(request).is_some();
        if !is_allowed {
            origin::check(request, &authority)?;
        }
        self.caller(request)
    }

    /// The origin of a request that is one of the allowed ones.
    fn allowed_origin(&self, request: &Request) -> Option<&Origin> {
        let origin = origin::of(request)?;
        self.origins.iter().find(|allowed| allowed.is(origin))
    }
}

fn is_receiver(request: &Request) -> bool {
    request.uri().path().starts_with(RECEIVER)
}

/// Puts the guard in front of all routes.
pub(crate) fn around(router: Router<Server>, server: &Server) -> Router {
    router
        .merge(login::routes())
        .method_not_allowed_fallback(async || {
            Problem::new(
                StatusCode::METHOD_NOT_ALLOWED,
                "this address takes requests of another method",
            )
        })
        // The guard has limits of its own.
        .layer(DefaultBodyLimit::disable())
        .layer(CatchPanicLayer::custom(|_| {
            Problem::internal("the request ended in an error of the program").into_response()
        }))
        .layer(middleware::from_fn_with_state(server.clone(), pass))
        .with_state(server.clone())
}

/// Lets a request pass to its handler, or answers it.
async fn pass(State(server): State<Server>, request: Request, next: Next) -> Response {
    let guard = server.guard();
    let telemetry = is_receiver(&request)
        .then(|| Encoding::of_body(request.headers()).unwrap_or(Encoding::Json));
    let allowed = telemetry.and_then(|_| guard.allowed_origin(&request));
    let cors = allowed.map(|origin| headers::cors(origin, &request));
    let mut response = match (&cors, request.method()) {
        // A browser asks before a page of another origin sends something; it cannot show a token then.
        (Some(_), &Method::OPTIONS) => match guard.hosts.check(&request) {
            Ok(_) => StatusCode::NO_CONTENT.into_response(),
            Err(problem) => problem.into_response(),
        },
        _ => match guard.check(&request) {
            Ok(caller) => {
                let bytes_max = if telemetry.is_some() {
                    TELEMETRY_BYTES_MAX
                } else {
                    FORM_BYTES_MAX
                };
                guard.limits.run(request, caller, bytes_max, next).await
            }
            Err(problem) => login::refuse(problem, &request),
        },
    };
    // An exporter expects refusals in its own encoding, wherever they come from.
    if let Some(encoding) = telemetry
        && let Some(problem) = response.extensions().get::<Problem>()
    {
        response = receive::refusal(problem, encoding);
    }
    headers::add(&mut response, cors);
    response
}

/// Puts the guard in front of the routes of gRPC. No page makes a browser send such requests: it does not speak
/// HTTP/2 without TLS.
#[cfg(feature = "grpc")]
pub(crate) fn around_grpc(router: Router<Server>, server: &Server) -> Router {
    router
        .layer(middleware::from_fn_with_state(server.clone(), pass_grpc))
        .with_state(server.clone())
}

#[cfg(feature = "grpc")]
async fn pass_grpc(State(server): State<Server>, request: Request, next: Next) -> Response {
    let guard = server.guard();
    match guard.caller(&request) {
        Ok(caller) => {
            let limits = &guard.limits;
            limits.run(request, caller, TELEMETRY_BYTES_MAX, next).await
        }
        // A client of gRPC knows what the status of HTTP means.
        Err(problem) => problem.into_response(),
    }
}
