//! OTLP over HTTP, and over gRPC with the feature `grpc`, as <https://opentelemetry.io/docs/specs/otlp/#otlphttp> says.
//!
//! A request is answered in its own encoding, protobuf or JSON. An answer of success means that the records are
//! in the writer's queue, but for those that its partial success counts. A request that is refused as a whole has
//! left nothing in the queue: its client may send it again if the status is 429 or 503, and must not otherwise.

mod encoding;
#[cfg(feature = "grpc")]
pub(crate) mod grpc;
mod intake;
mod unpack;

pub(crate) use encoding::Encoding;
pub(crate) use intake::Intake;

use crate::{
    guard::BodyMemory,
    problem::Problem,
    state::{Server, blocking},
};
use axum::{
    Extension, Router,
    body::Bytes,
    extract::State,
    http::{HeaderMap, HeaderValue, StatusCode, header::ACCEPT_ENCODING},
    response::Response,
    routing::post,
};
use gridctl_telemetry::{
    Signal,
    receive::{OtlpMessage, OtlpOutcome},
};
use unpack::Packing;

pub(crate) fn routes() -> Router<Server> {
    let signals = [
        ("/v1/logs", Signal::Logs),
        ("/v1/metrics", Signal::Metrics),
        ("/v1/traces", Signal::Traces),
    ];
    signals
        .into_iter()
        .fold(Router::new(), |router, (path, signal)| {
            router.route(
                path,
                post(move |state, headers, memory, body| {
                    receive(signal, state, headers, memory, body)
                }),
            )
        })
}

async fn receive(
    signal: Signal,
    State(server): State<Server>,
    headers: HeaderMap,
    memory: Option<Extension<BodyMemory>>,
    body: Bytes,
) -> Result<Response, Problem> {
    let encoding = Encoding::of_body(&headers)?;
    let packing = Packing::of_body(&headers)?;
    let memory = memory.map(|Extension(memory)| memory);
    let decode = move || {
        let bytes = packing.unpack(&body)?;
        encoding.decode(signal, &bytes)
    };
    let outcome = store(&server, memory, decode).await?;
    Ok(encoding.answer(signal, &outcome))
}

/// Decodes a message and offers its records to the writer.
///
/// # Errors
///
/// What `decode` returns, and what [`Intake::take`] does.
async fn store(
    server: &Server,
    memory: Option<BodyMemory>,
    decode: impl FnOnce() -> Result<OtlpMessage, Problem> + Send + 'static,
) -> Result<OtlpOutcome, Problem> {
    // One at a time: the memory of decoded messages stays bounded, and they do not race for the room in the queue.
    let turn = server.intake().turn().await?;
    let server = server.clone();
    blocking(move || {
        // Both are given back after the body, even if the client has gone.
        let (_turn, _memory) = (turn, memory);
        Intake::take(&server, decode()?)
    })
    .await
}

/// The answer to a request that was refused, in the encoding of the request.
pub(crate) fn refusal(problem: &Problem, encoding: Encoding) -> Response {
    let mut response = encoding.status(problem);
    if problem.status() == StatusCode::UNSUPPORTED_MEDIA_TYPE {
        let packings = HeaderValue::from_static("gzip, zstd");
        response.headers_mut().insert(ACCEPT_ENCODING, packings);
    }
    response
}

impl Encoding {
    fn decode(self, signal: Signal, bytes: &[u8]) -> Result<OtlpMessage, Problem> {
        let decoded = match self {
            Encoding::Protobuf => OtlpMessage::from_protobuf(signal, bytes),
            Encoding::Json => OtlpMessage::from_json(signal, bytes),
        };
        decoded.map_err(|error| intake::problem_of(&error))
    }
}
