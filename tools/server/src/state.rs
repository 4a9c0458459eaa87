//! What all handlers share.

use crate::{
    guard::{Guard, Origin, OriginError, Sessions, Token},
    live::Live,
    problem::Problem,
    receive::Intake,
};
use axum::Router;
use gridctl_telemetry::{Snapshot, Store, Writer, receive::OtlpWriter};
use std::{
    fs,
    net::{IpAddr, Ipv4Addr, SocketAddr},
    sync::Arc,
};
use tokio::{sync::Semaphore, task};

/// The number of reads that run at once. More would only compete for the processor and hold memory.
const READS_MAX: usize = 4;

/// The port of OTLP over HTTP.
const PORT_DEFAULT: u16 = 4318;

/// A store with its writer, as handlers use it. Clones share both.
#[derive(Clone)]
pub struct Server {
    shared: Arc<Shared>,
}

struct Shared {
    store: Store,
    writer: Writer,
    otlp: OtlpWriter,
    options: ServerOptions,
    guard: Guard,
    intake: Intake,
    reads: Arc<Semaphore>,
    live: Live,
}

/// Who may use a [`Server`], and from where.
///
/// The default is for a server at `127.0.0.1:4318` that only this machine reaches, without a token.
///
/// ```
/// use gridctl_telemetry_server::{ServerOptions, Token};
///
/// # fn main() -> Result<(), Box<dyn std::error::Error>> {
/// let options = ServerOptions::default()
///     .listen("192.0.2.7:4318".parse()?)
///     .token(Token::new("89f1c2d4a6b34e5f8091a2b3c4d5e6f7")?)
///     .allow_host("telemetry.example.com")
///     .allow_origin("https://app.example.com")?;
/// # Ok(())
/// # }
/// ```
#[derive(Debug, Clone)]
#[must_use]
pub struct ServerOptions {
    pub(crate) listen: SocketAddr,
    pub(crate) token: Option<Token>,
    pub(crate) hosts: Vec<String>,
    pub(crate) origins: Vec<Origin>,
    pub(crate) added: Router<Server>,
    otlp: Option<OtlpWriter>,
}

impl Default for ServerOptions {
    fn default() -> ServerOptions {
        ServerOptions {
            listen: SocketAddr::new(IpAddr::V4(Ipv4Addr::LOCALHOST), PORT_DEFAULT),
            token: None,
            hosts: Vec::new(),
            origins: Vec::new(),
            added: Router::new(),
            otlp: None,
        }
    }
}

impl ServerOptions {
    /// Sets the address that the server listens on. One that other machines reach needs a
    /// [token](ServerOptions::token). Default: `127.0.0.1:4318`.
    pub fn listen(mut self, address: SocketAddr) -> ServerOptions {
        self.listen = address;
        self
    }

    /// Sets the token that every request must show: as `Authorization: Bearer`, or a browser on the login
    /// page. Default: none.
    pub fn token(mut self, token: Token) -> ServerOptions {
        self.token = Some(token);
        self
    }

    /// Lets requests name this host, without a port, in their header `Host`, in addition to the loopback names
    /// and the address that the server listens on. Others are refused: a page elsewhere could let its own name
    /// point to this machine and read the store.
    pub fn allow_host(mut self, host: impl Into<String>) -> ServerOptions {
        self.hosts.push(host.into().to_ascii_lowercase());
        self
    }

    /// Lets pages of this origin, such as `https://app.example.com`, send telemetry. They cannot read it.
    ///
    /// # Errors
    ///
    /// [`OriginError`] if it is not a scheme and a host, with or without a port.
    pub fn allow_origin(mut self, origin: &str) -> Result<ServerOptions, OriginError> {
        self.origins.push(Origin::new(origin)?);
        Ok(self)
    }

    /// Adds routes, such as those of `gridctl-telemetry-mcp`, which the guard protects like all others. A body may have
    /// 64 KiB, and an answer 60 seconds.
    pub fn routes(mut self, routes: Router<Server>) -> ServerOptions {
        self.added = self.added.merge(routes);
        self
    }

    /// Whether a server with these options may listen on `address`.
    ///
    /// # Errors
    ///
    /// [`ServerError::WithoutToken`] if other machines reach it, and there is no token.
    pub fn check_address(&self, address: SocketAddr) -> Result<(), ServerError> {
        if address.ip().to_canonical().is_loopback() || self.token.is_some() {
            return Ok(());
        }
        Err(ServerError::WithoutToken { address })
    }

    /// Sets the writer that received records go to, such as that of
    /// [`Telemetry`](gridctl_telemetry::Telemetry), with the servers that it stores. Default: one that stores
    /// the records of every server.
    pub fn receiver(mut self, otlp: OtlpWriter) -> ServerOptions {
        self.otlp = Some(otlp);
        self
    }
}

/// Why there is no [`Server`].
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ServerError {
    /// Other machines reach the address, and there is no token.
    #[error(
        "other machines can reach {address}: set a token, or listen on a loopback address such as 127.0.0.1:4318"
    )]
    WithoutToken {
        /// The address to listen on.
        address: SocketAddr,
    },
    /// The system has no random numbers for secrets.
    #[error("the system has no random numbers: {source}")]
    Random {
        /// What the system said.
        source: getrandom::Error,
    },
}

impl Server {
    /// Serves `store`. What is received goes through `writer`, unless the options have a receiver.
    ///
    /// # Errors
    ///
    /// All of [`ServerError`].
    pub fn new(
        store: Store,
        writer: Writer,
        options: ServerOptions,
    ) -> Result<Server, ServerError> {
        options.check_address(options.listen)?;
        let otlp = options.otlp.clone().unwrap_or_else(|| {
            let otlp = OtlpWriter::new(writer.clone());
            otlp.set_takes_any_server(true);
            otlp
        });
        let sessions = Sessions::new().map_err(|source| ServerError::Random { source })?;
        Ok(Server {
            shared: Arc::new(Shared {
                store,
                writer,
                otlp,
                guard: Guard::new(&options, sessions),
                options,
                intake: Intake::default(),
                reads: Arc::new(Semaphore::new(READS_MAX)),
                live: Live::default(),
            }),
        })
    }

    pub(crate) fn store(&self) -> &Store {
        &self.shared.store
    }

    pub(crate) fn live(&self) -> &Live {
        &self.shared.live
    }

    pub(crate) fn writer(&self) -> &Writer {
        &self.shared.writer
    }

    pub(crate) fn otlp(&self) -> &OtlpWriter {
        &self.shared.otlp
    }

    pub(crate) fn intake(&self) -> &Intake {
        &self.shared.intake
    }

    pub(crate) fn options(&self) -> &ServerOptions {
        &self.shared.options
    }

    pub(crate) fn guard(&self) -> &Guard {
        &self.shared.guard
    }

    /// What `read` finds in a snapshot. It runs on a thread that may block.
    ///
    /// # Errors
    ///
    /// What `read` returns, and if the store cannot be read.
    pub(crate) async fn read<T: Send + 'static>(
        &self,
        read: impl FnOnce(&Snapshot) -> Result<T, Problem> + Send + 'static,
    ) -> Result<T, Problem> {
        let permit = Arc::clone(&self.shared.reads).acquire_owned().await;
        let store = self.shared.store.clone();
        blocking(move || {
            // Until the read ends, also if its caller has gone: else more reads would run than there may be.
            let _permit = permit;
            // The open handle would go on reading a file that is deleted.
            if let Err(error) = fs::metadata(store.path()) {
                return Err(Problem::away(&store.path(), &error));
            }
            read(&store.snapshot()?)
        })
        .await
    }

    /// What `write` does with the writer, such as a wipe. It runs on a thread that may block.
    ///
    /// # Errors
    ///
    /// What `write` returns.
    pub(crate) async fn write<T: Send + 'static>(
        &self,
        write: impl FnOnce(&Writer) -> Result<T, Problem> + Send + 'static,
    ) -> Result<T, Problem> {
        let writer = self.shared.writer.clone();
        blocking(move || write(&writer)).await
    }
}

/// Runs `call` on a thread that may block.
pub(crate) async fn blocking<T: Send + 'static>(
    call: impl FnOnce() -> Result<T, Problem> + Send + 'static,
) -> Result<T, Problem> {
    task::spawn_blocking(call)
        .await
        .map_err(|_| Problem::internal("the call ended early"))?
}
