//! The names by which this server is called.

use crate::problem::Problem;
use axum::{
    extract::Request,
    http::{StatusCode, header::HOST, uri::Authority},
};
use std::net::IpAddr;

/// The hosts that a request may name.
#[derive(Debug)]
pub(super) struct Hosts {
    listen: IpAddr,
    allowed: Vec<String>,
}

impl Hosts {
    pub(super) fn new(listen: IpAddr, allowed: Vec<String>) -> Hosts {
        Hosts {
            listen: listen.to_canonical(),
            allowed,
        }
    }

    /// The host and port that the request names.
    ///
    /// # Errors
    ///
    /// 400 if it names none, or two; 421 if they are not this server's.
    pub(super) fn check(&self, request: &Request) -> Result<Authority, Problem> {
        let mut headers = request.headers().get_all(HOST).iter();
        let header = match (headers.next(), headers.next()) {
            (Some(host), None) => Some(
                Authority::try_from(host.as_bytes())
                    .map_err(|_| Problem::bad_request("the header Host is no host"))?,
            ),
            (None, _) => None,
            (Some(_), Some(_)) => return Err(Problem::bad_request("there are two headers Host")),
        };
        // HTTP/2, and requests to a proxy, have it in the address.
        let in_address = request.uri().authority().cloned();
        let named = match (header, in_address) {
            (Some(header), Some(other)) if header != other => {
                let detail = "the header Host and the address name two hosts";
                return Err(Problem::bad_request(detail));
            }
            (Some(named), _) | (None, Some(named)) => named,
            (None, None) => return Err(Problem::bad_request("the header Host is missing")),
        };
        if self.includes(named.host()) {
            return Ok(named);
        }
        let detail = format!(
            "this server is not called {:?}: allow the name with --allow-host",
            named.host()
        );
        Err(Problem::new(StatusCode::MISDIRECTED_REQUEST, detail))
    }

    fn includes(&self, host: &str) -> bool {
        let plain = host.trim_start_matches('[').trim_end_matches(']');
        if let Ok(address) = plain.parse::<IpAddr>() {
            let address = address.to_canonical();
            // A stranger can make a name of his own point here, but not an address.
            return address.is_loopback()
                || address == self.listen
                || self.listen.is_unspecified()
                || self.is_allowed(plain);
        }
        host.eq_ignore_ascii_case("localhost") || self.is_allowed(host)
    }

    fn is_allowed(&self, host: &str) -> bool {
        self.allowed
            .iter()
            .any(|allowed| allowed.eq_ignore_ascii_case(host))
    }
}
