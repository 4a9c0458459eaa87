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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{Token, guard, router, state::ServerOptions};
    use gridctl_telemetry::{Store, StoreOptions, Writer, WriterGuard, WriterOptions};
    use http_body_util::BodyExt;
    use tower::ServiceExt;

    const EXPORT: &str = "/opentelemetry.proto.collector.logs.v1.LogsService/Export";

    fn server(options: ServerOptions) -> (Server, WriterGuard, tempfile::TempDir) {
        let home = tempfile::tempdir().unwrap();
        let store = Store::open(home.path(), "gw", StoreOptions::default()).unwrap();
        let (writer, guard) = Writer::start(&store, WriterOptions::default()).unwrap();
        (Server::new(store, writer, options).unwrap(), guard, home)
    }

    /// The status of HTTP, and that of gRPC from the headers or the trailers of the answer.
    fn export(server: &Server, path: &str, headers: &[(&str, &str)], body: &[u8]) -> (u16, String) {
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .build()
            .unwrap();
        let mut request = Request::post(path).header("content-type", "application/grpc");
        for (name, value) in headers {
            request = request.header(*name, *value);
        }
        let request = request.body(Body::from(body.to_vec())).unwrap();
        let routes = guard::around_grpc(routes(), server);
        runtime.block_on(async {
            let answer = routes.oneshot(request).await.unwrap();
            let (parts, body) = answer.into_parts();
            let trailers = body.collect().await.unwrap().trailers().cloned();
            let said = parts.headers.get("grpc-status").cloned();
            let said = said.or_else(|| trailers?.get("grpc-status").cloned());
            let said = said.map_or(String::new(), |said| said.to_str().unwrap().to_owned());
            (parts.status.as_u16(), said)
        })
    }

    /// A message as gRPC frames it.
    fn frame(compressed: u8, message: &[u8]) -> Vec<u8> {
        let length = u32::try_from(message.len()).unwrap();
        [&[compressed], &length.to_be_bytes()[..], message].concat()
    }

    #[test]
    fn bad_messages_are_refused_with_a_status_that_says_so() {
        let (server, _guard, _home) = server(ServerOptions::default());
        let status =
            |headers: &[(&str, &str)], body: &[u8]| export(&server, EXPORT, headers, body).1;
        assert_eq!(status(&[], &frame(0, &[])), "0");
        assert_eq!(status(&[], &frame(0, &[0x0a, 0xff])), "3");
        // The spans of 2 bytes of a bomb.
        let spans = [0x12, 0].repeat(1 << 20);
        let mut bomb = spans;
        for tag in [0x12, 0x0a] {
            let mut outer = vec![tag];
            prost::encoding::encode_varint(bomb.len() as u64, &mut outer);
            outer.append(&mut bomb);
            bomb = outer;
        }
        assert_eq!(status(&[], &frame(0, &bomb)), "8");
        let mut packed = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
        std::io::Write::write_all(&mut packed, &vec![0; 64 << 20]).unwrap();
        let packed = frame(1, &packed.finish().unwrap());
        assert_eq!(status(&[("grpc-encoding", "gzip")], &packed), "8");
        assert_ne!(status(&[("grpc-encoding", "br")], &frame(1, &[])), "0");
        assert_ne!(status(&[], &frame(0, &[0; 9])[..8]), "0");
        assert_eq!(
            export(&server, "/x.Other/Call", &[], &frame(0, &[])).1,
            "12"
        );
    }

    #[test]
    fn the_token_is_needed() {
        let token = "t2".repeat(20);
        let options = ServerOptions::default().token(Token::new(token.as_str()).unwrap());
        let (server, _guard, _home) = server(options);
        assert_eq!(export(&server, EXPORT, &[], &frame(0, &[])).0, 401);
        let bearer = format!("Bearer {token}");
        let allowed = export(
            &server,
            EXPORT,
            &[("authorization", &bearer)],
            &frame(0, &[]),
        );
        assert_eq!(allowed, (200, "0".to_owned()));
    }

    #[test]
    fn the_other_routes_do_not_speak_it() {
        let (server, _guard, _home) = server(ServerOptions::default());
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .build()
            .unwrap();
        let request = Request::post(EXPORT)
            .header("host", "localhost")
            .body(Body::empty())
            .unwrap();
        let answer = runtime.block_on(router(&server).oneshot(request)).unwrap();
        assert_eq!(answer.status(), 404);
    }
}
