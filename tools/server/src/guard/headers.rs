//! The headers of every answer.

use super::Origin;
use axum::{
    extract::Request,
    http::{
        HeaderMap, HeaderValue,
        header::{
            ACCESS_CONTROL_ALLOW_HEADERS, ACCESS_CONTROL_ALLOW_METHODS,
            ACCESS_CONTROL_ALLOW_ORIGIN, ACCESS_CONTROL_EXPOSE_HEADERS, ACCESS_CONTROL_MAX_AGE,
            ACCESS_CONTROL_REQUEST_HEADERS, CACHE_CONTROL, CONTENT_SECURITY_POLICY, HeaderName,
            REFERRER_POLICY, VARY, X_CONTENT_TYPE_OPTIONS,
        },
    },
    response::Response,
};

/// What a page may load and do: nothing from elsewhere, and no script or style in the page itself.
const RESOURCES: &str = "default-src 'self'; base-uri 'none'; form-action 'self'; \
                                    frame-ancestors 'none'; object-src 'none'";

const FIXED: [(HeaderName, &str); 5] = [
    (CONTENT_SECURITY_POLICY, RESOURCES),
    (X_CONTENT_TYPE_OPTIONS, "nosniff"),
    // Not `no-referrer`: a browser would then hide the origin of our own forms from us.
    (REFERRER_POLICY, "same-origin"),
    (
        HeaderName::from_static("cross-origin-opener-policy"),
        "same-origin",
    ),
    (
        HeaderName::from_static("cross-origin-resource-policy"),
        "same-origin",
    ),
];

/// Adds the fixed headers, and those for a page of another origin. Unless the handler has said otherwise, the
/// answer has data and is not kept by a cache.
pub(super) fn add(response: &mut Response, cors: Option<HeaderMap>) {
    let headers = response.headers_mut();
    for (name, value) in FIXED {
        headers.insert(name, HeaderValue::from_static(value));
    }
    headers
        .entry(CACHE_CONTROL)
        .or_insert(HeaderValue::from_static("no-store"));
    headers.extend(cors.unwrap_or_default());
}

/// The headers that let a page of `origin` send telemetry and see the answer.
pub(super) fn cors(origin: &Origin, request: &Request) -> HeaderMap {
    let mut headers = HeaderMap::new();
    headers.insert(ACCESS_CONTROL_ALLOW_ORIGIN, origin.header());
    headers.insert(VARY, HeaderValue::from_static("Origin"));
    headers.insert(
        ACCESS_CONTROL_EXPOSE_HEADERS,
        HeaderValue::from_static("Retry-After"),
    );
    headers.insert(
        ACCESS_CONTROL_ALLOW_METHODS,
        HeaderValue::from_static("POST"),
    );
    // Some SDKs have headers of their own, and the origin is trusted.
    if let Some(asked) = request.headers().get(ACCESS_CONTROL_REQUEST_HEADERS) {
        headers.insert(ACCESS_CONTROL_ALLOW_HEADERS, asked.clone());
    }
    headers.insert(ACCESS_CONTROL_MAX_AGE, HeaderValue::from_static("3600"));
    headers
}
