//! Requests to an endpoint.

use crate::{
    answer::{Answer, Verdict},
    endpoint::{Compression, Target, read_pem},
    error::ForwardError,
};
use flate2::write::GzEncoder;
use gridctl_telemetry::Signal;
use std::{
    fmt::Write as _,
    io::{self, Write as _},
    sync::Arc,
    time::SystemTime,
};
use ureq::{
    Agent,
    http::{HeaderMap, Uri, header},
    tls::{Certificate, ClientCert, PemItem, PrivateKey, RootCerts, TlsConfig, parse_pem},
};

/// Maximum length of an answer that is read, in bytes.
const ANSWER_BYTES_MAX: u64 = 64 << 10;
const USER_AGENT: &str = concat!("gridctl-telemetry/", env!("CARGO_PKG_VERSION"));

/// Sends the records of one signal.
#[derive(Debug)]
pub(crate) struct Client {
    agent: Agent,
    signal: Signal,
    url: Uri,
    headers: HeaderMap,
    compression: Compression,
}

impl Client {
    /// Fails when a file of a certificate cannot be used.
    pub(crate) fn new(signal: Signal, target: &Target) -> Result<Client, ForwardError> {
        let url = target.url.clone().ok_or_else(|| {
            ForwardError::Option(format!(
                "there is no endpoint for {signal}: pass its address"
            ))
        })?;
        let mut config = Agent::config_builder()
            .http_status_as_error(false)
            // Headers and records are for the address that was given.
            .max_redirects(0)
            .max_redirects_will_error(false)
            .timeout_global(Some(target.timeout))
            .user_agent(USER_AGENT)
            .accept("application/x-protobuf")
            .max_idle_connections(1);
        if url.scheme_str() == Some("https") {
            config = config.tls_config(tls(target)?);
        }
        let mut headers = HeaderMap::new();
        headers.extend(target.headers.iter().cloned());
        let kind = header::HeaderValue::from_static("application/x-protobuf");
        headers.insert(header::CONTENT_TYPE, kind);
        if target.compression == Compression::Gzip {
            let gzip = header::HeaderValue::from_static("gzip");
            headers.insert(header::CONTENT_ENCODING, gzip);
        }
        Ok(Client {
            agent: config.build().into(),
            signal,
            url,
            headers,
            compression: target.compression,
        })
    }

    /// The body of a request with a message.
    pub(crate) fn body_of(&self, message: Vec<u8>) -> io::Result<Vec<u8>> {
        match self.compression {
            Compression::None => Ok(message),
            Compression::Gzip => {
                let body = Vec::with_capacity(message.len() / 4);
                let mut encoder = GzEncoder::new(body, flate2::Compression::fast());
                encoder.write_all(&message)?;
                encoder.finish()
            }
        }
    }

    /// Sends a body that has this many records, and returns what became of it.
    pub(crate) fn send(&self, body: &[u8], records: u64) -> Verdict {
        let mut request = self.agent.post(&self.url);
        if let Some(headers) = request.headers_mut() {
            headers.clone_from(&self.headers);
        }
        let mut response = match request.send(body) {
            Ok(response) => response,
            Err(error) => return self.failed(&error),
        };
        let body = response.body_mut().with_config();
        let body = match body.limit(ANSWER_BYTES_MAX).read_to_vec() {
            Ok(body) => Some(body),
            Err(ureq::Error::BodyExceedsLimit(_)) => None,
            Err(error) => return self.failed(&error),
        };
        let header = |name| response.headers().get(name)?.to_str().ok();
        let answer = Answer {
            status: response.status().as_u16(),
            content_type: header(header::CONTENT_TYPE),
            retry_after: header(header::RETRY_AFTER),
            location: header(header::LOCATION),
            body: body.as_deref(),
        };
        answer.judge(self.signal, records, SystemTime::now())
    }

    /// What a request without a whole answer means.
    fn failed(&self, error: &ureq::Error) -> Verdict {
        let later = |reason: String| Verdict::Later {
            after: None,
            reason,
            is_answered: false,
        };
        match error {
            ureq::Error::Timeout(_) => {
                let timeout = self.agent.config().timeouts().global.unwrap_or_default();
                later(format!("it did not answer within {timeout:?}"))
            }
            ureq::Error::HostNotFound => later("its name is not known".to_owned()),
            ureq::Error::ConnectionFailed => later("it cannot be reached".to_owned()),
            ureq::Error::Io(error) if !is_of_tls(error) => {
                later(format!("the connection failed: {}", with_causes(error)))
            }
            ureq::Error::Protocol(_) | ureq::Error::BodyStalled => {
                later(format!("its answer broke off or is not HTTP: {error}"))
            }
            error => Verdict::Unusable {
                reason: format!(
                    "the connection cannot be trusted or used: {}",
                    with_causes(error)
                ),
            },
        }
    }
}

/// Whether an error is that of a certificate or another one of TLS that is no error of the network.
fn is_of_tls(error: &io::Error) -> bool {
    (error.get_ref()).is_some_and(|error| error.downcast_ref::<rustls::Error>().is_some())
}

/// An error and its causes in one line.
fn with_causes(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut cause = error.source();
    while let Some(error) = cause {
        let said = error.to_string();
        if !text.contains(&said) {
            let _ = write!(text, ": {said}");
        }
        cause = error.source();
    }
    text
}

fn tls(target: &Target) -> Result<TlsConfig, ForwardError> {
    let authorities: Vec<Certificate<'static>> = if let Some(path) = &target.authorities {
        certificates(path)?
    } else {
        let found = rustls_native_certs::load_native_certs();
        (found.certs.iter())
            .map(|certificate| Certificate::from_der(certificate).to_owned())
            .collect()
    };
    if authorities.is_empty() {
        return Err(ForwardError::File(
            "the system has no certificates of authorities: install them (ca-certificates), or name a file with \
             the one that signed the endpoint's"
                .to_owned(),
        ));
    }
    let own = match (&target.certificate, &target.key) {
        (Some(certificate), Some(key)) => {
            let unreadable = |error| {
                ForwardError::File(format!(
                    "{} has no key that can be used: {error}",
                    key.display()
                ))
            };
            let key = PrivateKey::from_pem(&read_pem(key)?).map_err(unreadable)?;
            Some(ClientCert::new_with_certs(&certificates(certificate)?, key))
        }
        (None, None) => None,
        _ => {
            return Err(ForwardError::Option(
                "a client's certificate and its key go together: name both".to_owned(),
            ));
        }
    };
    Ok(TlsConfig::builder()
        .root_certs(RootCerts::new_with_certs(&authorities))
        .client_cert(own)
        .unversioned_rustls_crypto_provider(Arc::new(rustls::crypto::ring::default_provider()))
        .build())
}

fn certificates(path: &std::path::PathBuf) -> Result<Vec<Certificate<'static>>, ForwardError> {
    let pem = read_pem(path)?;
    let certificates: Vec<Certificate<'static>> = parse_pem(&pem)
        .filter_map(|item| match item {
            Ok(PemItem::Certificate(certificate)) => Some(certificate),
            _ => None,
        })
        .collect();
    if certificates.is_empty() {
        return Err(ForwardError::File(format!(
            "{} has no certificate in PEM",
            path.display()
        )));
    }
    Ok(certificates)
}
