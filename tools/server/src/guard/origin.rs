//! Requests that a page of another origin makes a browser send.
//!
//! Such a page could delete records, and learn from a script or an image that an address exists. A browser says
//! where a request comes from in `Sec-Fetch-Site`, or at least in `Origin`; a program that is no browser says
//! neither, and nobody else makes it send a request.

use crate::problem::Problem;
use axum::{
    extract::Request,
    http::{
        HeaderMap, HeaderValue, Method, StatusCode, Uri,
        header::{HeaderName, ORIGIN},
        uri::Authority,
    },
};

const SEC_FETCH_SITE: HeaderName = HeaderName::from_static("sec-fetch-site");
const SEC_FETCH_MODE: HeaderName = HeaderName::from_static("sec-fetch-mode");
const SEC_FETCH_DEST: HeaderName = HeaderName::from_static("sec-fetch-dest");

/// The origin of a page: a scheme and a host, with or without a port.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Origin(HeaderValue);

/// A text that is no [`Origin`].
#[derive(Debug, thiserror::Error)]
#[error("{origin:?} is no origin: give a scheme and a host, such as https://app.example.com:8443")]
pub struct OriginError {
    origin: String,
}

impl Origin {
    pub(crate) fn new(origin: &str) -> Result<Origin, OriginError> {
        let failed = || OriginError {
            origin: origin.to_owned(),
        };
        let uri: Uri = origin.parse().map_err(|_| failed())?;
        let (Some(scheme), Some(authority)) = (uri.scheme_str(), uri.authority()) else {
            return Err(failed());
        };
        let has_user = authority.as_str().contains('@');
        if has_user || uri.path() != "/" || uri.query().is_some() {
            return Err(failed());
        }
        let text = format!("{scheme}://{authority}").to_ascii_lowercase();
        HeaderValue::from_str(&text)
            .map(Origin)
            .map_err(|_| failed())
    }

    /// The origin as a header.
    pub(super) fn header(&self) -> HeaderValue {
        self.0.clone()
    }

    /// Whether the header of a request names this origin.
    pub(super) fn is(&self, origin: &HeaderValue) -> bool {
        self.0.as_bytes().eq_ignore_ascii_case(origin.as_bytes())
    }
}

/// The origin that the request names.
pub(super) fn of(request: &Request) -> Option<&HeaderValue> {
    request.headers().get(ORIGIN)
}

/// Refuses a request that comes from a page of another origin, unless it is a link that is followed.
///
/// `host` is the one that the request names.
pub(super) fn check(request: &Request, host: &Authority) -> Result<(), Problem> {
    let headers = request.headers();
    let site = headers.get(SEC_FETCH_SITE).map(HeaderValue::as_bytes);
    let is_own = match (site, of(request)) {
        // Links in other programs, bookmarks and what the user enters are `none`.
        (Some(b"same-origin" | b"none"), _) | (None, None) => true,
        (Some(_), _) => false,
        (None, Some(origin)) => is_of(origin, host),
    };
    let reads = matches!(*request.method(), Method::GET | Method::HEAD);
    if is_own || reads && is_followed_link(headers) {
        return Ok(());
    }
    let detail = "pages of other origins may not do this: only telemetry is taken from origins that \
                  --allow-origin names";
    Err(Problem::new(StatusCode::FORBIDDEN, detail))
}

/// Whether an origin is that of our pages. Its scheme does not matter: a proxy may add TLS.
fn is_of(origin: &HeaderValue, host: &Authority) -> bool {
    let origin = origin.to_str().unwrap_or_default();
    let (_, authority) = origin.split_once("://").unwrap_or_default();
    authority.eq_ignore_ascii_case(host.as_str())
}

/// Whether a browser shows the answer as a page of its own, which the page before cannot read.
fn is_followed_link(headers: &HeaderMap) -> bool {
    let says = |name, value| headers.get(name).is_some_and(|said| said == value);
    says(SEC_FETCH_MODE, "navigate") && says(SEC_FETCH_DEST, "document")
}
