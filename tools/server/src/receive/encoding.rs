//! Protobuf and JSON: which of them a request has, and the answers in it.

use crate::problem::Problem;
use axum::{
    http::{HeaderMap, HeaderValue, StatusCode, header::CONTENT_TYPE},
    response::{IntoResponse, Response},
};
use gridctl_telemetry::{
    Signal,
    external::opentelemetry_proto::tonic::collector::{
        logs::v1::{ExportLogsPartialSuccess, ExportLogsServiceResponse},
        metrics::v1::{ExportMetricsPartialSuccess, ExportMetricsServiceResponse},
        trace::v1::{ExportTracePartialSuccess, ExportTraceServiceResponse},
    },
    receive::OtlpOutcome,
};
use prost::Message;
use serde_json::{Map, Value, json};

/// The encoding of a body.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Encoding {
    /// `application/x-protobuf`.
    Protobuf,
    /// `application/json`.
    Json,
}

/// `google.rpc.Status`, without details.
#[derive(Clone, PartialEq, Message)]
pub(super) struct Status {
    /// `google.rpc.Code`.
    #[prost(int32, tag = "1")]
    code: i32,
    #[prost(string, tag = "2")]
    message: String,
}

impl Encoding {
    /// The encoding of a request's body.
    ///
    /// # Errors
    ///
    /// 415 if it is another, or not named.
    pub(crate) fn of_body(headers: &HeaderMap) -> Result<Encoding, Problem> {
        let named = headers.get(CONTENT_TYPE);
        let named = named.map_or(Ok(""), HeaderValue::to_str).unwrap_or("?");
        let (essence, _) = named.split_once(';').unwrap_or((named, ""));
        let essence = essence.trim();
        let known = [Encoding::Protobuf, Encoding::Json];
        let found = known
            .into_iter()
            .find(|known| essence.eq_ignore_ascii_case(known.media_type()));
        found.ok_or_else(|| {
            let detail = format!(
                "the content type {named:?} is unknown: send application/x-protobuf or application/json"
            );
            Problem::new(StatusCode::UNSUPPORTED_MEDIA_TYPE, detail)
        })
    }

    fn media_type(self) -> &'static str {
        match self {
            Encoding::Protobuf => "application/x-protobuf",
            Encoding::Json => "application/json",
        }
    }

    /// The answer of success.
    pub(super) fn answer(self, signal: Signal, outcome: &OtlpOutcome) -> Response {
        let body = match self {
            Encoding::Protobuf => answer_protobuf(signal, outcome),
            Encoding::Json => answer_json(signal, outcome).to_string().into_bytes(),
        };
        self.response(StatusCode::OK, &HeaderMap::new(), body)
    }

    /// The answer of failure: a `google.rpc.Status`.
    pub(super) fn status(self, problem: &Problem) -> Response {
        let (code, message) = (code(problem.status()), problem.detail().to_owned());
        let body = match self {
            Encoding::Protobuf => Status { code, message }.encode_to_vec(),
            Encoding::Json => json!({ "code": code, "message": message })
                .to_string()
                .into_bytes(),
        };
        self.response(problem.status(), problem.headers(), body)
    }

    fn response(self, status: StatusCode, headers: &HeaderMap, body: Vec<u8>) -> Response {
        let content_type = HeaderValue::from_static(self.media_type());
        (
            status,
            headers.clone(),
            [(CONTENT_TYPE, content_type)],
            body,
        )
            .into_response()
    }
}

/// Why records are not stored, with the number of each kind.
pub(super) fn reasons(outcome: &OtlpOutcome) -> String {
    let reasons = outcome.rejected.iter();
    let reasons = reasons.map(|(reason, count)| format!("{count}: {reason}"));
    reasons.collect::<Vec<_>>().join("; ")
}

fn rejected(outcome: &OtlpOutcome) -> Option<i64> {
    let total = outcome.rejected_total();
    (total > 0).then(|| i64::try_from(total).unwrap_or(i64::MAX))
}

pub(super) fn answer_protobuf(signal: Signal, outcome: &OtlpOutcome) -> Vec<u8> {
    let (rejected, error_message) = (rejected(outcome), reasons(outcome));
    match signal {
        Signal::Logs => ExportLogsServiceResponse {
            partial_success: rejected.map(|rejected_log_records| ExportLogsPartialSuccess {
                rejected_log_records,
                error_message,
            }),
        }
        .encode_to_vec(),
        Signal::Metrics => ExportMetricsServiceResponse {
            partial_success: rejected.map(|rejected_data_points| ExportMetricsPartialSuccess {
                rejected_data_points,
                error_message,
            }),
        }
        .encode_to_vec(),
        Signal::Traces => ExportTraceServiceResponse {
            partial_success: rejected.map(|rejected_spans| ExportTracePartialSuccess {
                rejected_spans,
                error_message,
            }),
        }
        .encode_to_vec(),
    }
}

fn answer_json(signal: Signal, outcome: &OtlpOutcome) -> Value {
    let key = match signal {
        Signal::Logs => "rejectedLogRecords",
        Signal::Metrics => "rejectedDataPoints",
        Signal::Traces => "rejectedSpans",
    };
    let mut answer = Map::new();
    if let Some(rejected) = rejected(outcome) {
        // OTLP/JSON has integers of 64 bits as text.
        let partial = json!({ key: rejected.to_string(), "errorMessage": reasons(outcome) });
        answer.insert("partialSuccess".to_owned(), partial);
    }
    Value::Object(answer)
}

/// The `google.rpc.Code` of a status of HTTP.
pub(super) fn code(status: StatusCode) -> i32 {
    match status {
        StatusCode::BAD_REQUEST | StatusCode::UNSUPPORTED_MEDIA_TYPE => 3,
        StatusCode::REQUEST_TIMEOUT => 4,
        StatusCode::NOT_FOUND => 5,
        StatusCode::FORBIDDEN | StatusCode::MISDIRECTED_REQUEST => 7,
        StatusCode::PAYLOAD_TOO_LARGE | StatusCode::TOO_MANY_REQUESTS => 8,
        StatusCode::METHOD_NOT_ALLOWED => 12,
        StatusCode::SERVICE_UNAVAILABLE => 14,
        StatusCode::UNAUTHORIZED => 16,
        _ => 13,
    }
}
