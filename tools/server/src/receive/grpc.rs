//! OTLP over gRPC.
//!
//! [`tonic`] leaves messages encoded, so that their memory is bounded and they are stored in the same way as those
//! that come over HTTP.

use super::{
    Encoding,
    encoding::{answer_protobuf, code},
    store,
};
use crate::{
    guard::{BodyMemory, TELEMETRY_BYTES_MAX},
    problem::Problem,
    state::Server,
};
use axum::{
    Router,
    body::{Body, Bytes},
    extract::{Request, State},
    response::Response,
    routing::post,
};
use gridctl_telemetry::Signal;
use prost::bytes::{Buf, BufMut};
use std::{future::Future, pin::Pin};
use tonic::{
    Code, Status,
    codec::{Codec, CompressionEncoding, DecodeBuf, Decoder, EncodeBuf, Encoder},
    server::{Grpc, UnaryService},
};

pub(crate) fn routes() -> Router<Server> {
    let services = [
        ("logs.v1.LogsService", Signal::Logs),
        ("metrics.v1.MetricsService", Signal::Metrics),
        ("trace.v1.TraceService", Signal::Traces),
    ];
    let router = services
        .into_iter()
        .fold(Router::new(), |router, (service, signal)| {
            let path = format!("/opentelemetry.proto.collector.{service}/Export");
            let handler = move |state, request| export(signal, state, request);
            router.route(&path, post(handler))
        });
    router.fallback(async || {
        Status::unimplemented("only logs, metrics and traces are received").into_http::<Body>()
    })
}

async fn export(signal: Signal, State(server): State<Server>, request: Request) -> Response {
    let service = Export {
        signal,
        server,
        memory: request.extensions().get::<BodyMemory>().cloned(),
    };
    let answer = Grpc::new(Encoded)
        .accept_compressed(CompressionEncoding::Gzip)
        .max_decoding_message_size(TELEMETRY_BYTES_MAX)
        .unary(service, request)
        .await;
    answer.map(Body::new)
}

/// The method `Export` of one signal.
struct Export {
    signal: Signal,
    server: Server,
    memory: Option<BodyMemory>,
}

impl UnaryService<Bytes> for Export {
    type Response = Vec<u8>;
    type Future = Pin<Box<dyn Future<Output = Result<tonic::Response<Vec<u8>>, Status>> + Send>>;

    fn call(&mut self, request: tonic::Request<Bytes>) -> Self::Future {
        let (server, signal) = (self.server.clone(), self.signal);
        let memory = self.memory.take();
        Box::pin(async move {
            let bytes = request.into_inner();
            let decode = move || Encoding::Protobuf.decode(signal, &bytes);
            let stored = store(&server, memory, decode).await;
            let outcome = stored.map_err(|problem| status_of(&problem))?;
            Ok(tonic::Response::new(answer_protobuf(signal, &outcome)))
        })
    }
}

fn status_of(problem: &Problem) -> Status {
    Status::new(Code::from_i32(code(problem.status())), problem.detail())
}

/// Messages as their bytes.
#[derive(Debug, Clone, Copy)]
struct Encoded;

impl Codec for Encoded {
    type Encode = Vec<u8>;
    type Decode = Bytes;
    type Encoder = Encoded;
    type Decoder = Encoded;

    fn encoder(&mut self) -> Encoded {
        Encoded
    }

    fn decoder(&mut self) -> Encoded {
        Encoded
    }
}

impl Encoder for Encoded {
    type Item = Vec<u8>;
    type Error = Status;

    fn encode(&mut self, message: Vec<u8>, to: &mut EncodeBuf<'_>) -> Result<(), Status> {
        to.put_slice(&message);
        Ok(())
    }
}

impl Decoder for Encoded {
    type Item = Bytes;
    type Error = Status;

    fn decode(&mut self, from: &mut DecodeBuf<'_>) -> Result<Option<Bytes>, Status> {
        let length = from.remaining();
        Ok(Some(from.copy_to_bytes(length)))
    }
}
