//! Who sends a request, and the page on which a browser shows the token.

use super::{Guard, token::Caller};
use crate::{pages::style_address, problem::Problem, state::Server};
use axum::{
    Form, Router,
    extract::{Query, Request, State},
    http::{
        HeaderMap, HeaderValue, Method, StatusCode,
        header::{ACCEPT, AUTHORIZATION, COOKIE, LOCATION, SET_COOKIE, WWW_AUTHENTICATE},
    },
    response::{IntoResponse, Response},
    routing::get,
};
use maud::{DOCTYPE, Markup, html};
use serde::Deserialize;

/// Where a browser shows the token.
const LOGIN: &str = "/login";
/// Where style and script are, which the login page needs and which have no data.
const ASSETS: &str = "/assets/";

impl Guard {
    /// Who sends the request.
    ///
    /// # Errors
    ///
    /// 401 if it does not show the token.
    pub(super) fn caller(&self, request: &Request) -> Result<Caller, Problem> {
        let page_token = self.sessions.page_token();
        let Some(token) = &self.token else {
            return Ok(Caller::Open(page_token));
        };
        let headers = request.headers();
        if let Some(given) = bearer(headers) {
            return token
                .is(given)
                .then_some(Caller::Bearer(page_token))
                .ok_or_else(|| unauthorized("the token is wrong"));
        }
        if let Some(session) = self.session_in(headers) {
            return Ok(Caller::Session(session));
        }
        let path = request.uri().path();
        if path == LOGIN || path.starts_with(ASSETS) {
            return Ok(Caller::Open(page_token));
        }
        Err(unauthorized(
            "a token is needed: send it as `Authorization: Bearer TOKEN`, or log in with a browser at /login",
        ))
    }

    fn session_in(&self, headers: &HeaderMap) -> Option<super::PageToken> {
        let cookies = headers.get_all(COOKIE).iter();
        cookies
            .filter_map(|header| header.to_str().ok())
            .flat_map(|header| header.split(';'))
            .filter_map(|cookie| cookie.trim().split_once('='))
            .filter(|(name, _)| *name == self.cookie)
            .find_map(|(_, id)| self.sessions.find(id))
    }
}

/// The answer to a request that is refused. A browser that lacks the token is led to the login page.
pub(super) fn refuse(problem: Problem, request: &Request) -> Response {
    let accepts = request.headers().get(ACCEPT);
    let accepts = accepts.and_then(|accepts| accepts.to_str().ok());
    let shows_pages = accepts.is_some_and(|accepts| accepts.contains("text/html"));
    if problem.status() != StatusCode::UNAUTHORIZED
        || request.method() != Method::GET
        || !shows_pages
    {
        return problem.into_response();
    }
    let asked = request.uri().path_and_query();
    let next = asked.map_or("/", |asked| asked.as_str());
    let query = form_urlencoded::Serializer::new(String::new())
        .append_pair("next", next)
        .finish();
    see_other(&format!("{LOGIN}?{query}"), None)
}

/// The token of the header `Authorization`.
fn bearer(headers: &HeaderMap) -> Option<&str> {
    let (scheme, token) = headers.get(AUTHORIZATION)?.to_str().ok()?.split_once(' ')?;
    scheme
        .eq_ignore_ascii_case("Bearer")
        .then(|| token.trim_start())
}

fn unauthorized(detail: &str) -> Problem {
    Problem::new(StatusCode::UNAUTHORIZED, detail)
        .header(WWW_AUTHENTICATE, HeaderValue::from_static("Bearer"))
}

/// Leads a browser to another address of this server.
fn see_other(to: &str, cookie: Option<String>) -> Response {
    let mut headers = HeaderMap::new();
    let fields = [(LOCATION, Some(to.to_owned())), (SET_COOKIE, cookie)];
    for (name, value) in fields {
        if let Some(Ok(value)) = value.map(HeaderValue::try_from) {
            headers.insert(name, value);
        }
    }
    (StatusCode::SEE_OTHER, headers).into_response()
}

/// Where to go after the login.
#[derive(Debug, Default, Deserialize)]
struct Next {
    #[serde(default)]
    next: String,
}

impl Next {
    /// The address, if it is one of this server.
    fn address(&self) -> &str {
        let begins = |start| self.next.starts_with(start);
        // `//host` and `/\host` are addresses elsewhere.
        if begins("/") && !begins("//") && !begins("/\\") {
            &self.next
        } else {
            "/"
        }
    }
}

#[derive(Deserialize)]
struct Login {
    token: String,
    #[serde(flatten)]
    next: Next,
}

pub(super) fn routes() -> Router<Server> {
    Router::new().route(LOGIN, get(show).post(log_in))
}

async fn show(Query(next): Query<Next>) -> Markup {
    page(&next, false)
}

async fn log_in(
    State(server): State<Server>,
    Form(login): Form<Login>,
) -> Result<Response, Problem> {
    let guard = server.guard();
    let is_right = guard
        .token
        .as_ref()
        .is_none_or(|token| token.is(login.token.trim()));
    if !is_right {
        return Ok((StatusCode::UNAUTHORIZED, page(&login.next, true)).into_response());
    }
    let session = guard.sessions.begin();
    let session = session.map_err(|error| Problem::internal(error.to_string()))?;
    let cookie = format!(
        "{}={session}; Path=/; HttpOnly; SameSite=Strict",
        guard.cookie
    );
    Ok(see_other(login.next.address(), Some(cookie)))
}

fn page(next: &Next, is_wrong: bool) -> Markup {
    html! {
        (DOCTYPE)
        html lang="en" {
            head {
                meta charset="utf-8";
                meta name="viewport" content="width=device-width, initial-scale=1";
                title { "Log in · gridctl-telemetry" }
                link rel="stylesheet" href=(style_address());
            }
            body {
                main {
                    h1 { "gridctl-telemetry" }
                    @if is_wrong {
                        p role="alert" { "This is not the token." }
                    }
                    form method="post" action=(LOGIN) {
                        input type="hidden" name="next" value=(next.address());
                        label for="token" { "Token" }
                        input type="password" name="token" id="token" required
                            autocomplete="current-password" autofocus;
                        button { "Log in" }
                    }
                    p { "The token is in the file that " code { "--token-file" } " names." }
                }
            }
        }
    }
}
