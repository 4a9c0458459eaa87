//! What an answer of an endpoint means, as the OTLP specification says
//! (<https://opentelemetry.io/docs/specs/otlp/#otlphttp-response>).

use crate::backoff::retry_after;
use gridctl_telemetry::Signal;
use opentelemetry_proto::tonic::collector::{
    logs::v1::ExportLogsServiceResponse, metrics::v1::ExportMetricsServiceResponse,
    trace::v1::ExportTraceServiceResponse,
};
use prost::Message;
use std::time::{Duration, SystemTime};

/// Maximum length of a text of an endpoint that is repeated in a message, in bytes.
const TEXT_BYTES_MAX: usize = 300;

/// What became of a batch.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Verdict {
    /// The endpoint has it, but for `rejected` records. `message` is a warning or a reason, often empty.
    Taken { rejected: u64, message: String },
    /// It may be taken later: after this time, if the endpoint said so.
    Later {
        after: Option<Duration>,
        reason: String,
        /// Whether it said so. Otherwise it may have taken the batch.
        is_answered: bool,
    },
    /// An answer that says neither yes nor no.
    Unclear { reason: String },
    /// No batch would be taken: the address or the credentials are wrong.
    Unusable { reason: String },
    /// The batch is too large.
    TooLarge { reason: String },
    /// This batch is never taken.
    Refused { reason: String },
}

/// An answer of an endpoint.
#[derive(Debug, Clone, Default)]
pub(crate) struct Answer<'a> {
    pub(crate) status: u16,
    pub(crate) content_type: Option<&'a str>,
    pub(crate) retry_after: Option<&'a str>,
    pub(crate) location: Option<&'a str>,
    /// The body; `None` when it is longer than is read.
    pub(crate) body: Option<&'a [u8]>,
}

impl Answer<'_> {
    /// What the answer to a batch of `signal` with this many records means.
    pub(crate) fn judge(&self, signal: Signal, records: u64, now: SystemTime) -> Verdict {
        let reason = self.reason();
        match self.status {
            200..=299 => self.acknowledged(signal, records),
            429 | 502 | 503 | 504 => Verdict::Later {
                after: self.retry_after.and_then(|header| retry_after(header, now)),
                reason,
                is_answered: true,
            },
            300..=399 => Verdict::Unusable {
                reason: match self.location {
                    Some(location) => format!(
                        "it redirects to {}, and redirects are not followed: pass the address that it means",
                        cut(without_secrets(location))
                    ),
                    None => reason,
                },
            },
            401 | 403 | 407 => Verdict::Unusable {
                reason: format!("{reason}: check the headers that are sent"),
            },
            404 | 405 => Verdict::Unusable {
                reason: format!("{reason}: check the address, or leave out the signal"),
            },
            413 => Verdict::TooLarge { reason },
            _ => Verdict::Refused { reason },
        }
    }

    /// Reads the answer of success, which must be the message that OTLP specifies.
    fn acknowledged(&self, signal: Signal, records: u64) -> Verdict {
        let is_protobuf = self.content_type.is_none_or(|it| {
            let kind = it.split(';').next().unwrap_or_default().trim();
            kind.eq_ignore_ascii_case("application/x-protobuf")
        });
        let unclear = |what: &str| Verdict::Unclear {
            reason: format!(
                "it answered {} with {what}, which is no answer of an OTLP receiver: check the address",
                self.status
            ),
        };
        let Some(body) = self.body else {
            return unclear("a body that is too long");
        };
        if !is_protobuf {
            let kind = cut(self.content_type.unwrap_or_default());
            return unclear(&format!("the content type {kind:?}"));
        }
        let read = match signal {
            Signal::Logs => ExportLogsServiceResponse::decode(body).map(|answer| {
                let partial = answer.partial_success.unwrap_or_default();
                (partial.rejected_log_records, partial.error_message)
            }),
            Signal::Metrics => ExportMetricsServiceResponse::decode(body).map(|answer| {
                let partial = answer.partial_success.unwrap_or_default();
                (partial.rejected_data_points, partial.error_message)
            }),
            Signal::Traces => ExportTraceServiceResponse::decode(body).map(|answer| {
                let partial = answer.partial_success.unwrap_or_default();
                (partial.rejected_spans, partial.error_message)
            }),
        };
        match read {
            Ok((rejected, message)) => Verdict::Taken {
                // A record of metrics has several points: no more records are rejected than were sent.
                rejected: u64::try_from(rejected).unwrap_or_default().min(records),
                message: cut(&message).to_owned(),
            },
            Err(_) => unclear("a body that cannot be read"),
        }
    }

    /// The status, and the text of the answer.
    fn reason(&self) -> String {
        let known = ureq::http::StatusCode::from_u16(self.status).ok();
        let name = known.and_then(|status| status.canonical_reason());
        let status = name.map_or_else(String::new, |name| format!(" {name}"));
        let text = self.text();
        let text = if text.is_empty() {
            text
        } else {
            format!(": {text}")
        };
        format!("it answered {}{status}{text}", self.status)
    }

    /// What the body says, if it is text or a message of the kind `Status`.
    fn text(&self) -> String {
        let body = self.body.unwrap_or_default();
        let kind = self.content_type.unwrap_or_default();
        if kind.starts_with("application/x-protobuf") {
            return Status::decode(body)
                .map_or_else(|_| String::new(), |it| cut(&it.message).to_owned());
        }
        if !kind.starts_with("text/plain") && !kind.starts_with("application/json") {
            return String::new();
        }
        let text = String::from_utf8_lossy(body);
        cut(text.trim()).to_owned()
    }
}

/// `google.rpc.Status`, with which a receiver says why it refuses.
#[derive(Clone, PartialEq, prost::Message)]
struct Status {
    #[prost(int32, tag = "1")]
    code: i32,
    #[prost(string, tag = "2")]
    message: String,
}

/// An address without its query, and without user and password.
fn without_secrets(location: &str) -> &str {
    let location = location.split(['?', '#']).next().unwrap_or_default();
    match location.rsplit_once('@') {
        Some((_, host)) => host,
        None => location,
    }
}

/// The start of a text.
fn cut(text: &str) -> &str {
    let mut end = text.len().min(TEXT_BYTES_MAX);
    while !text.is_char_boundary(end) {
        end -= 1;
    }
    text.get(..end).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;
    use opentelemetry_proto::tonic::collector::logs::v1::ExportLogsPartialSuccess;

    const PROTOBUF: Option<&str> = Some("application/x-protobuf");

    fn judge(answer: &Answer<'_>) -> Verdict {
        answer.judge(Signal::Logs, 10, SystemTime::UNIX_EPOCH)
    }

    fn ok<'a>(content_type: Option<&'a str>, body: &'a [u8]) -> Answer<'a> {
        Answer {
            status: 200,
            content_type,
            body: Some(body),
            ..Answer::default()
        }
    }

    fn status(status: u16) -> Answer<'static> {
        Answer {
            status,
            body: Some(b""),
            ..Answer::default()
        }
    }

    #[test]
    fn only_an_otlp_message_is_an_acknowledgement() {
        let taken = |rejected, message: &str| Verdict::Taken {
            rejected,
            message: message.to_owned(),
        };
        let partial = ExportLogsServiceResponse {
            partial_success: Some(ExportLogsPartialSuccess {
                rejected_log_records: 3,
                error_message: "too old".to_owned(),
            }),
        }
        .encode_to_vec();
        assert_eq!(judge(&ok(None, b"")), taken(0, ""));
        assert_eq!(judge(&ok(PROTOBUF, b"")), taken(0, ""));
        assert_eq!(
            judge(&Answer {
                status: 204,
                ..ok(None, b"")
            }),
            taken(0, "")
        );
        assert_eq!(
            judge(&ok(Some("application/x-protobuf; charset=utf-8"), &partial)),
            taken(3, "too old")
        );
        for unclear in [
            ok(Some("text/html"), b"<html>"),
            ok(Some("text/html"), b""),
            ok(Some("application/json"), b"{}"),
            ok(PROTOBUF, &partial[..partial.len() - 1]),
            ok(PROTOBUF, b"<html><body>sign in</body></html>"),
            ok(None, b"ok"),
            Answer {
                body: None,
                ..ok(PROTOBUF, b"")
            },
        ] {
            assert!(
                matches!(judge(&unclear), Verdict::Unclear { .. }),
                "{unclear:?}"
            );
        }
        // A receiver that lies cannot make more records rejected than were sent.
        let negative = ExportLogsServiceResponse {
            partial_success: Some(ExportLogsPartialSuccess {
                rejected_log_records: -4,
                error_message: "x".repeat(5000),
            }),
        }
        .encode_to_vec();
        assert_eq!(
            judge(&ok(PROTOBUF, &negative)),
            taken(0, &"x".repeat(TEXT_BYTES_MAX))
        );
    }

    #[test]
    fn each_status_has_one_meaning() {
        for retryable in [429, 502, 503, 504] {
            let verdict = judge(&Answer {
                retry_after: Some("7"),
                ..status(retryable)
            });
            let Verdict::Later {
                after,
                reason,
                is_answered: true,
            } = verdict
            else {
                panic!("{verdict:?}")
            };
            assert_eq!(after, Some(Duration::from_secs(7)));
            assert!(reason.contains(&retryable.to_string()), "{reason}");
        }
        for unusable in [301, 302, 307, 308, 401, 403, 404, 405, 407] {
            assert!(
                matches!(judge(&status(unusable)), Verdict::Unusable { .. }),
                "{unusable}"
            );
        }
        for refused in [400, 415, 422, 431, 500, 501, 505] {
            assert!(
                matches!(judge(&status(refused)), Verdict::Refused { .. }),
                "{refused}"
            );
        }
        assert!(matches!(judge(&status(413)), Verdict::TooLarge { .. }));
    }

    #[test]
    fn a_reason_has_the_text_of_the_answer_and_no_secret() {
        let message = Status {
            code: 3,
            message: "unknown tenant".to_owned(),
        }
        .encode_to_vec();
        let refused = Answer {
            content_type: PROTOBUF,
            body: Some(&message),
            ..status(400)
        };
        let Verdict::Refused { reason } = judge(&refused) else {
            panic!()
        };
        assert_eq!(reason, "it answered 400 Bad Request: unknown tenant");
        let location = Some("https://me:secret@elsewhere.example/v1/logs?token=secret");
        let Verdict::Unusable { reason } = judge(&Answer {
            location,
            ..status(307)
        }) else {
            panic!()
        };
        assert!(
            reason.contains("elsewhere.example/v1/logs") && !reason.contains("secret"),
            "{reason}"
        );
    }
}
