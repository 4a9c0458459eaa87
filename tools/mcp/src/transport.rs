//! How questions arrive: over stdio, or over HTTP.

use crate::handler::Mcp;
use axum::Router;
use gridctl_telemetry_server::Server;
use rmcp::{
    RoleServer,
    service::{ServerInitializeError, serve_server},
    transport::{
        async_rw::AsyncRwTransport,
        streamable_http_server::{
            StreamableHttpServerConfig, StreamableHttpService, session::never::NeverSessionManager,
        },
    },
};
use std::{
    future::Future,
    io,
    pin::Pin,
    sync::Arc,
    task::{Context, Poll, ready},
    time::Duration,
};
use tokio::{
    io::{AsyncRead, AsyncWrite, ReadBuf},
    sync::Notify,
    time::sleep,
};

/// Where agents ask over HTTP.
const PATH: &str = "/mcp";
/// The size of a message, in bytes.
const MESSAGE_BYTES_MAX: usize = 64 << 10;
/// How long answers have to be sent after the client has closed its side.
const GRACE: Duration = Duration::from_millis(500);

impl Mcp {
    /// Serves one client over standard input and output, until it closes them or `shutdown` is ready. Nothing else may be
    /// written to standard output meanwhile.
    ///
    /// # Errors
    ///
    /// If the client does not begin as the protocol says, or its side cannot be read or written.
    pub async fn serve_stdio(self, shutdown: impl Future<Output = ()>) -> io::Result<()> {
        self.serve(tokio::io::stdin(), tokio::io::stdout(), shutdown)
            .await
    }

    /// Serves one client that writes to `read` and reads from `write`, like [`Mcp::serve_stdio`].
    ///
    /// # Errors
    ///
    /// Like [`Mcp::serve_stdio`].
    pub async fn serve(
        self,
        read: impl AsyncRead + Send + Unpin + 'static,
        write: impl AsyncWrite + Send + Unpin + 'static,
        shutdown: impl Future<Output = ()>,
    ) -> io::Result<()> {
        let closed = Arc::new(Notify::new());
        let read = Watched {
            read,
            closed: Arc::clone(&closed),
        };
        let transport = AsyncRwTransport::<RoleServer, _, _>::new(read, write)
            .with_max_line_length(MESSAGE_BYTES_MAX);
        let mcp = self.of_client();
        let serving = async {
            match serve_server(mcp.clone(), transport).await {
                Ok(running) => running.waiting().await.map(drop).map_err(io::Error::other),
                Err(
                    ServerInitializeError::ConnectionClosed(_) | ServerInitializeError::Cancelled,
                ) => Ok(()),
                Err(error) => Err(io::Error::other(error)),
            }
        };
        // The protocol waits for answers that are being made; a question without a reader need not be answered.
        let closed = async {
            closed.notified().await;
            sleep(GRACE).await;
        };
        let outcome = tokio::select! {
            outcome = serving => outcome,
            () = closed => Ok(()),
            () = shutdown => Ok(()),
        };
        mcp.end();
        outcome
    }

    /// Routes for a server, at `/mcp`: each question is a request, and no session is kept. The server's guard decides who may
    /// ask, see [`ServerOptions::routes`](gridctl_telemetry_server::ServerOptions::routes).
    pub fn routes(&self) -> Router<Server> {
        let mcp = self.clone();
        let config = StreamableHttpServerConfig::default()
            .with_legacy_session_mode(false)
            .with_json_response(true)
            .with_max_request_body_bytes(MESSAGE_BYTES_MAX)
            // The guard has checked both, and knows which are allowed.
            .disable_allowed_hosts()
            .disable_allowed_origins();
        let sessions = Arc::new(NeverSessionManager::default());
        let service = StreamableHttpService::new(move || Ok(mcp.clone()), sessions, config);
        Router::new().route_service(PATH, service)
    }
}

/// Input that tells when it has ended.
struct Watched<R> {
    read: R,
    closed: Arc<Notify>,
}

impl<R: AsyncRead + Unpin> AsyncRead for Watched<R> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let before = buffer.filled().len();
        let read = ready!(Pin::new(&mut self.read).poll_read(context, buffer));
        if read.is_err() || buffer.filled().len() == before {
            self.closed.notify_one();
        }
        Poll::Ready(read)
    }
}
