//! Errors as problem details, RFC 9457.

use axum::{
    Extension, Json,
    http::{
        HeaderMap, HeaderName, HeaderValue, StatusCode,
        header::{CONTENT_TYPE, RETRY_AFTER},
    },
    response::{IntoResponse, Response},
};
use gridctl_telemetry::Error;
use serde::Serialize;
use std::{fmt, io, path::Path};

/// An error that a client is told of: `Display` says what is wrong, and what to do about it.
///
/// Its response has the problem as an extension, too, so that a layer can tell it in another form.
#[derive(Debug, Clone, Serialize)]
pub struct Problem {
    title: &'static str,
    status: u16,
    detail: String,
    #[serde(skip)]
    /// Boxed, because results with a problem are moved around.
    headers: Box<HeaderMap>,
}

impl Problem {
    pub(crate) fn new(status: StatusCode, detail: impl Into<String>) -> Self {
        Self {
            title: status.canonical_reason().unwrap_or("Error"),
            status: status.as_u16(),
            detail: detail.into(),
            headers: Box::default(),
        }
    }

    /// A server that has too much to do. The client is told to try again after a second.
    #[must_use]
    pub fn busy(detail: impl Into<String>) -> Self {
        Self::new(StatusCode::SERVICE_UNAVAILABLE, detail)
            .header(RETRY_AFTER, HeaderValue::from_static("1"))
    }

    /// A database that cannot be reached. The client is told to try again after a second.
    #[must_use]
    pub fn away(path: &Path, error: &io::Error) -> Self {
        Self::busy(format!(
            "the database {} is away ({error}): the answers come back with it",
            path.display()
        ))
    }

    /// Adds a header to the answer.
    pub(crate) fn header(mut self, name: HeaderName, value: HeaderValue) -> Self {
        self.headers.insert(name, value);
        self
    }

    /// A fault of the server or its store.
    #[must_use]
    pub fn internal(detail: impl Into<String>) -> Self {
        Self::new(StatusCode::INTERNAL_SERVER_ERROR, detail)
    }

    /// A parameter or a body that is wrong.
    #[must_use]
    pub fn bad_request(detail: impl Into<String>) -> Self {
        Self::new(StatusCode::BAD_REQUEST, detail)
    }

    /// The headers of the answer that belong to the error.
    pub(crate) fn headers(&self) -> &HeaderMap {
        &self.headers
    }

    /// The status code of the answer.
    pub(crate) fn status(&self) -> StatusCode {
        StatusCode::from_u16(self.status).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR)
    }

    /// What is wrong, for a person.
    pub(crate) fn detail(&self) -> &str {
        &self.detail
    }
}

impl fmt::Display for Problem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(&self.detail)
    }
}

impl std::error::Error for Problem {}

impl From<Error> for Problem {
    fn from(error: Error) -> Self {
        let detail = error.to_string();
        match error {
            Error::UnknownSignal { .. }
            | Error::UnknownLevel { .. }
            | Error::InvalidTimestamp { .. }
            | Error::InvalidTime { .. }
            | Error::InvalidFilter { .. }
            | Error::AmbiguousTraceId { .. }
            | Error::InvalidCursor { .. }
            | Error::InvalidServerName { .. }
            | Error::InvalidOption { .. }
            | Error::IncompatibleUsage { .. } => Self::bad_request(detail),
            // Another try can succeed: the file comes back, the disk has room again.
            Error::Io { .. }
            | Error::StorageFull { .. }
            | Error::Database { .. }
            | Error::DatabaseReplaced { .. }
            | Error::NotFlushed { .. }
            | Error::ForeignOwner { .. }
            | Error::NotAFile { .. }
            | Error::NotADatabase { .. } => Self::busy(detail),
            _ => Self::internal(detail),
        }
    }
}

impl IntoResponse for Problem {
    fn into_response(self) -> Response {
        let json = HeaderValue::from_static("application/problem+json");
        let headers = HeaderMap::clone(&self.headers);
        let body = Json(self.clone());
        let content_type = [(CONTENT_TYPE, json)];
        (self.status(), headers, content_type, Extension(self), body).into_response()
    }
}
