//! Where records are sent: addresses, headers, certificates, and the environment variables that OpenTelemetry
//! specifies for them (<https://opentelemetry.io/docs/specs/otel/protocol/exporter/>).

use crate::error::ForwardError;
use base64::{Engine as _, engine::general_purpose::STANDARD};
use gridctl_telemetry::Signal;
use percent_encoding::percent_decode_str;
use std::{fmt, fs, path::PathBuf, time::Duration};
use ureq::http::{HeaderName, HeaderValue, Uri};

/// The time within which an endpoint must have answered, unless something else is said.
const TIMEOUT_DEFAULT: Duration = Duration::from_secs(10);
/// The start of the names of the environment variables.
const PREFIX: &str = "OTEL_EXPORTER_OTLP_";

/// How requests are compressed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Compression {
    /// With gzip.
    #[default]
    Gzip,
    /// Not at all.
    None,
}

/// An OTLP/HTTP endpoint, for each signal.
#[derive(Debug, Clone)]
pub struct Endpoint {
    /// In the order of [`Signal::ALL`].
    targets: [Target; 3],
}

/// Where and how the records of one signal are sent.
#[derive(Clone)]
pub(crate) struct Target {
    /// Without a user and a password; `None` when the signal has no address.
    pub(crate) url: Option<Uri>,
    pub(crate) headers: Vec<(HeaderName, HeaderValue)>,
    pub(crate) timeout: Duration,
    pub(crate) compression: Compression,
    /// Files in PEM: the authorities that may have signed the endpoint's certificate, and this client's own
    /// certificate and key.
    pub(crate) authorities: Option<PathBuf>,
    pub(crate) certificate: Option<PathBuf>,
    pub(crate) key: Option<PathBuf>,
}

impl fmt::Debug for Target {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let names: Vec<&str> = self.headers.iter().map(|(name, _)| name.as_str()).collect();
        f.debug_struct("Target")
            .field("url", &self.shown_url())
            .field("headers", &names)
            .finish_non_exhaustive()
    }
}

impl Default for Target {
    fn default() -> Target {
        Target {
            url: None,
            headers: Vec::new(),
            timeout: TIMEOUT_DEFAULT,
            compression: Compression::default(),
            authorities: None,
            certificate: None,
            key: None,
        }
    }
}

impl Target {
    /// The address without the parts that can hold a secret: user, password and query.
    pub(crate) fn shown_url(&self) -> String {
        self.url.as_ref().map_or_else(String::new, shown)
    }

    /// Sets the address, and takes its user and password for the header `authorization`.
    fn set_url(&mut self, url: Uri) -> Result<(), ForwardError> {
        let (uri, credentials) = without_credentials(url)?;
        if let Some(value) = credentials {
            self.set_header(ureq::http::header::AUTHORIZATION, value);
        }
        self.url = Some(uri);
        Ok(())
    }

    fn set_header(&mut self, name: HeaderName, value: HeaderValue) {
        self.headers.retain(|(known, _)| *known != name);
        self.headers.push((name, value));
    }
}

/// An address without user, password and query.
pub(crate) fn shown(url: &Uri) -> String {
    let authority = url.authority().map_or("", |authority| authority.as_str());
    let host = authority
        .rsplit_once('@')
        .map_or(authority, |(_, host)| host);
    format!(
        "{}://{host}{}",
        url.scheme_str().unwrap_or("http"),
        url.path()
    )
}

impl Endpoint {
    /// The endpoint with this base address: `/v1/logs`, `/v1/metrics` and `/v1/traces` are appended to it.
    ///
    /// Fails with [`ForwardError::Option`] when it is no address of the kind `http://HOST:PORT` or `https://HOST`.
    pub fn at(base: &str) -> Result<Endpoint, ForwardError> {
        let mut endpoint = Endpoint {
            targets: Default::default(),
        };
        endpoint.set_base("the endpoint", base)?;
        Ok(endpoint)
    }

    /// The endpoint that the environment variables of the OTLP exporter describe, of which `base` replaces the
    /// addresses if it is given: `OTEL_EXPORTER_OTLP_ENDPOINT`, `_HEADERS`, `_TIMEOUT`, `_COMPRESSION`,
    /// `_CERTIFICATE`, `_CLIENT_KEY` and `_CLIENT_CERTIFICATE`, and those of single signals, such as
    /// `OTEL_EXPORTER_OTLP_LOGS_ENDPOINT`. `variable` returns the value of a variable.
    ///
    /// Fails with [`ForwardError::Option`] when there is no address, and when a variable cannot be understood.
    pub fn from_variables(
        base: Option<&str>,
        variable: impl Fn(&str) -> Option<String>,
    ) -> Result<Endpoint, ForwardError> {
        // Empty ones count as unset.
        let read = |name: &str| {
            let name = format!("{PREFIX}{name}");
            let value = variable(&name).map(|value| value.trim().to_owned());
            value
                .filter(|value| !value.is_empty())
                .map(|value| (name, value))
        };
        let mut endpoint = Endpoint {
            targets: Default::default(),
        };
        match (base, read("ENDPOINT")) {
            (Some(base), _) => endpoint.set_base("the endpoint", base)?,
            (None, Some((name, base))) => endpoint.set_base(&name, &base)?,
            (None, None) => {}
        }
        for (signal, target) in Signal::ALL.into_iter().zip(&mut endpoint.targets) {
            let word = signal.as_str().to_uppercase();
            let of_signal = |name: &str| read(&format!("{word}_{name}"));
            let either = |name: &str| of_signal(name).or_else(|| read(name));
            if base.is_none() {
                if let Some((name, url)) = of_signal("ENDPOINT") {
                    target.set_url(parse_url(&name, &url)?)?;
                }
                if target.url.is_some()
                    && let Some((name, protocol)) = either("PROTOCOL")
                    && protocol != "http/protobuf"
                {
                    return Err(ForwardError::Option(format!(
                        "{name} is {protocol:?}, and only \"http/protobuf\" is sent: set that, and the address of \
                         an OTLP/HTTP receiver, whose usual port is 4318"
                    )));
                }
            }
            for (name, list) in read("HEADERS").into_iter().chain(of_signal("HEADERS")) {
                for (key, value) in parse_headers(&name, &list)? {
                    target.set_header(key, value);
                }
            }
            if let Some((name, millis)) = either("TIMEOUT") {
                target.timeout = millis.parse().map(Duration::from_millis).map_err(|_| {
                    ForwardError::Option(format!(
                        "{name} is {millis:?}: set a number of milliseconds, such as 10000"
                    ))
                })?;
            }
            if let Some((name, compression)) = either("COMPRESSION") {
                target.compression = match compression.as_str() {
                    "gzip" => Compression::Gzip,
                    "none" => Compression::None,
                    _ => {
                        return Err(ForwardError::Option(format!(
                            "{name} is {compression:?}: set gzip or none"
                        )));
                    }
                };
            }
            let path = |name: &str| either(name).map(|(_, path)| PathBuf::from(path));
            target.authorities = path("CERTIFICATE");
            target.certificate = path("CLIENT_CERTIFICATE");
            target.key = path("CLIENT_KEY");
        }
        if endpoint.targets.iter().all(|target| target.url.is_none()) {
            return Err(ForwardError::Option(format!(
                "there is no endpoint: pass its address, or set {PREFIX}ENDPOINT"
            )));
        }
        Ok(endpoint)
    }

    /// Adds a header to each request, which replaces one of the same name.
    ///
    /// Fails with [`ForwardError::Option`], which does not have the value, when the name or the value is none that
    /// HTTP allows.
    pub fn header(mut self, name: &str, value: &str) -> Result<Endpoint, ForwardError> {
        let (name, value) = parse_header("the header", name, value)?;
        for target in &mut self.targets {
            target.set_header(name.clone(), value.clone());
        }
        Ok(self)
    }

    /// Sets the time within which the endpoint must have answered. Default: 10 seconds.
    #[must_use]
    pub fn timeout(mut self, timeout: Duration) -> Endpoint {
        self.targets.iter_mut().for_each(|it| it.timeout = timeout);
        self
    }

    /// Sets how requests are compressed. Default: gzip.
    #[must_use]
    pub fn compression(mut self, compression: Compression) -> Endpoint {
        (self.targets.iter_mut()).for_each(|it| it.compression = compression);
        self
    }

    /// Sets the file in PEM with the authorities of which one must have signed the endpoint's certificate.
    /// Default: those of the system.
    #[must_use]
    pub fn authorities(mut self, path: impl Into<PathBuf>) -> Endpoint {
        let path = path.into();
        (self.targets.iter_mut()).for_each(|it| it.authorities = Some(path.clone()));
        self
    }

    /// Sets the files in PEM with the certificate and the key by which the endpoint knows this client.
    #[must_use]
    pub fn client_certificate(
        mut self,
        certificate: impl Into<PathBuf>,
        key: impl Into<PathBuf>,
    ) -> Endpoint {
        let (certificate, key) = (certificate.into(), key.into());
        for target in &mut self.targets {
            target.certificate = Some(certificate.clone());
            target.key = Some(key.clone());
        }
        self
    }

    /// The address of a signal without user, password and query; `None` when it has none.
    #[must_use]
    pub fn url(&self, signal: Signal) -> Option<String> {
        let target = self.target(signal)?;
        target.url.as_ref().map(shown)
    }

    pub(crate) fn target(&self, signal: Signal) -> Option<&Target> {
        let mut targets = Signal::ALL.iter().zip(&self.targets);
        targets
            .find(|(of, _)| **of == signal)
            .map(|(_, target)| target)
    }

    fn set_base(&mut self, name: &str, base: &str) -> Result<(), ForwardError> {
        let base = parse_url(name, base)?;
        for (signal, target) in Signal::ALL.into_iter().zip(&mut self.targets) {
            let path = base.path().trim_end_matches('/');
            let query = base.query().map(|query| format!("?{query}"));
            let path = format!("{path}/v1/{signal}{}", query.unwrap_or_default());
            let mut parts = base.clone().into_parts();
            parts.path_and_query = path.parse().ok();
            let url = Uri::from_parts(parts);
            target.set_url(url.map_err(|_| bad_url(name))?)?;
        }
        Ok(())
    }
}

/// The address may hold a password, so the message does not have it.
fn bad_url(name: &str) -> ForwardError {
    ForwardError::Option(format!(
        "{name} is no address that can be used: pass http://HOST:PORT or https://HOST, of an OTLP/HTTP receiver"
    ))
}

fn parse_url(name: &str, text: &str) -> Result<Uri, ForwardError> {
    let url: Uri = text.parse().map_err(|_| bad_url(name))?;
    let has_host = url.host().is_some_and(|host| !host.is_empty());
    if has_host && matches!(url.scheme_str(), Some("http" | "https")) {
        Ok(url)
    } else {
        Err(bad_url(name))
    }
}

/// An address without user and password, and the header that they are.
fn without_credentials(url: Uri) -> Result<(Uri, Option<HeaderValue>), ForwardError> {
    let bad = || bad_url("the endpoint");
    let authority = url.authority().ok_or_else(bad)?.as_str();
    let Some((user, host)) = authority.rsplit_once('@') else {
        return Ok((url, None));
    };
    let decoded: Vec<u8> = percent_decode_str(user).collect();
    let mut value: HeaderValue =
        (format!("Basic {}", STANDARD.encode(decoded)).parse()).map_err(|_| bad())?;
    value.set_sensitive(true);
    let host = host.parse().map_err(|_| bad())?;
    let mut parts = url.into_parts();
    parts.authority = Some(host);
    Ok((Uri::from_parts(parts).map_err(|_| bad())?, Some(value)))
}

/// `k1=v1,k2=v2`, percent-encoded.
fn parse_headers(name: &str, list: &str) -> Result<Vec<(HeaderName, HeaderValue)>, ForwardError> {
    let entries = list.split(',').map(str::trim).filter(|it| !it.is_empty());
    entries
        .map(|entry| {
            let (key, value) = entry.split_once('=').ok_or_else(|| {
                ForwardError::Option(format!("{name} has an entry without =: set NAME=VALUE,…"))
            })?;
            let decode = |text: &str| {
                percent_decode_str(text.trim())
                    .decode_utf8_lossy()
                    .into_owned()
            };
            parse_header(name, &decode(key), &decode(value))
        })
        .collect()
}

fn parse_header(
    of: &str,
    name: &str,
    value: &str,
) -> Result<(HeaderName, HeaderValue), ForwardError> {
    let parsed: HeaderName = (name.parse()).map_err(|_| {
        ForwardError::Option(format!(
            "{of} has a name that HTTP does not allow: {name:?}"
        ))
    })?;
    let mut value: HeaderValue = value.parse().map_err(|_| {
        ForwardError::Option(format!("{of} {name} has a value that HTTP does not allow"))
    })?;
    value.set_sensitive(true);
    Ok((parsed, value))
}

/// Reads a file of certificates or a key.
pub(crate) fn read_pem(path: &PathBuf) -> Result<Vec<u8>, ForwardError> {
    fs::read(path)
        .map_err(|error| ForwardError::File(format!("cannot read {}: {error}", path.display())))
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::BTreeMap;

    fn from(base: Option<&str>, variables: &[(&str, &str)]) -> Result<Endpoint, ForwardError> {
        let variables: BTreeMap<String, String> = variables
            .iter()
            .map(|(name, value)| (format!("{PREFIX}{name}"), (*value).to_owned()))
            .collect();
        Endpoint::from_variables(base, |name| variables.get(name).cloned())
    }

    fn urls(endpoint: &Endpoint) -> Vec<String> {
        Signal::ALL
            .map(|it| endpoint.url(it).unwrap_or_default())
            .to_vec()
    }

    fn headers(endpoint: &Endpoint, signal: Signal) -> Vec<(&str, &str)> {
        let target = endpoint.target(signal).unwrap();
        let headers = target.headers.iter();
        headers
            .map(|(name, value)| (name.as_str(), value.to_str().unwrap()))
            .collect()
    }

    #[test]
    fn a_base_address_gets_the_paths_of_signals_and_others_are_used_as_they_are() {
        let order = Signal::ALL.map(Signal::as_str);
        let paths = |base: &str| order.map(|it| format!("{base}/v1/{it}")).to_vec();
        for (base, shown) in [
            ("http://localhost:4318", "http://localhost:4318"),
            ("http://localhost:4318/", "http://localhost:4318"),
            ("https://a.example/otlp/", "https://a.example/otlp"),
            (
                "https://me:secret@a.example?key=secret",
                "https://a.example",
            ),
        ] {
            assert_eq!(urls(&Endpoint::at(base).unwrap()), paths(shown), "{base}");
            assert_eq!(
                urls(&from(None, &[("ENDPOINT", base)]).unwrap()),
                paths(shown)
            );
        }
        let other = from(
            None,
            &[("ENDPOINT", "http://a"), ("LOGS_ENDPOINT", "http://b/logs")],
        );
        assert_eq!(other.unwrap().url(Signal::Logs).unwrap(), "http://b/logs");
        let only = from(None, &[("TRACES_ENDPOINT", "http://b:1")]).unwrap();
        assert_eq!(only.url(Signal::Traces).unwrap(), "http://b:1/");
        assert_eq!(only.url(Signal::Logs), None);
        // Options win.
        let option = from(
            Some("http://c"),
            &[("LOGS_ENDPOINT", "http://b/logs"), ("PROTOCOL", "grpc")],
        );
        assert_eq!(
            option.unwrap().url(Signal::Logs).unwrap(),
            "http://c/v1/logs"
        );
    }

    #[test]
    fn headers_and_credentials_are_sent_and_never_shown() {
        let endpoint = from(
            Some("http://user:p%40ss@c"),
            &[
                ("HEADERS", "X-Key=a%20secret , team=1"),
                ("LOGS_HEADERS", "team=2"),
            ],
        );
        let endpoint = endpoint.unwrap().header("x-more", "b secret").unwrap();
        assert_eq!(
            headers(&endpoint, Signal::Logs),
            [
                ("authorization", "Basic dXNlcjpwQHNz"),
                ("x-key", "a secret"),
                ("team", "2"),
                ("x-more", "b secret"),
            ]
        );
        assert_eq!(headers(&endpoint, Signal::Traces)[2], ("team", "1"));
        let shown = format!("{endpoint:?}");
        assert!(
            !shown.contains("secret") && !shown.contains("dXN"),
            "{shown}"
        );
        for wrong in [
            Endpoint::at("http://c").unwrap().header("x", "a\nsecret"),
            Endpoint::at("ftp://me:secret@c"),
            Endpoint::at("me:secret@c"),
            Endpoint::at("secret"),
            from(None, &[("ENDPOINT", "secret")]),
            from(Some("http://c"), &[("HEADERS", "secret")]),
        ] {
            let error = wrong.unwrap_err().to_string();
            assert!(!error.contains("secret"), "{error}");
        }
    }

    #[test]
    fn variables_of_signals_win_and_wrong_ones_are_named() {
        let endpoint = from(
            Some("http://c"),
            &[
                ("TIMEOUT", "1500"),
                ("LOGS_TIMEOUT", "20"),
                ("COMPRESSION", "none"),
                ("TRACES_COMPRESSION", "gzip"),
                ("CERTIFICATE", "/a"),
                ("METRICS_CERTIFICATE", "/b"),
                ("CLIENT_KEY", ""),
            ],
        )
        .unwrap();
        let of = |signal| endpoint.target(signal).unwrap();
        assert_eq!(of(Signal::Logs).timeout, Duration::from_millis(20));
        assert_eq!(of(Signal::Traces).timeout, Duration::from_millis(1500));
        assert_eq!(of(Signal::Logs).compression, Compression::None);
        assert_eq!(of(Signal::Traces).compression, Compression::Gzip);
        assert_eq!(of(Signal::Metrics).authorities, Some(PathBuf::from("/b")));
        assert_eq!(of(Signal::Logs).key, None);
        for (name, value) in [
            ("TIMEOUT", "soon"),
            ("LOGS_COMPRESSION", "zip"),
            ("TRACES_PROTOCOL", "grpc"),
            ("METRICS_ENDPOINT", "nowhere"),
        ] {
            let error = from(None, &[("ENDPOINT", "http://c"), (name, value)]).unwrap_err();
            assert!(error.to_string().contains(name), "{error}");
        }
        let none = from(None, &[]).unwrap_err().to_string();
        assert!(none.contains("OTEL_EXPORTER_OTLP_ENDPOINT"), "{none}");
    }
}
