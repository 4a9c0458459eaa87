//! Connections: how many there are, how long they may be idle, and how they end.
//!
//! [`axum::serve`] bounds neither, so this is a loop of our own over [`hyper`]'s connections. When all places are
//! taken, the connection that has been idle for the longest time gives its place to the next one: ten thousand
//! clients that say nothing, or half of something, do not keep out one that asks something.

#[cfg(feature = "grpc")]
use crate::{guard, receive};
use crate::{router, state::Server};
use axum::{Router, body::Body, extract::Request, response::Response};
use http_body_util::BodyExt;
use hyper::{body::Incoming, service::service_fn};
use hyper_util::{
    rt::{TokioExecutor, TokioIo, TokioTimer},
    server::conn::auto,
};
use std::{
    collections::BTreeMap,
    future::Future,
    io,
    pin::Pin,
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicBool, AtomicUsize, Ordering},
    },
    task::{Context, Poll, ready},
    time::Duration,
};
use tokio::{
    io::{AsyncRead, AsyncWrite, ReadBuf},
    net::{TcpListener, TcpStream},
    sync::{Notify, OwnedSemaphorePermit, Semaphore},
    task::JoinSet,
    time::{Instant, Sleep, sleep, timeout},
};
use tower::ServiceExt;

type Protocol = auto::Builder<TokioExecutor>;

/// The number of connections at once. A process may have 1,024 open files, and the database needs some.
const CONNECTIONS_MAX: usize = 512;
/// How long the head of a request may take to arrive, and how long a connection waits for the next request.
const HEAD_TIME_MAX: Duration = Duration::from_secs(15);
/// The number of headers of a request.
const HEADERS_MAX: usize = 100;
/// The size of the head of a request, and of what is buffered of a connection, in bytes.
const BUFFER_BYTES_MAX: usize = 64 << 10;
/// The number of requests at once on a connection with HTTP/2.
#[cfg(feature = "grpc")]
const STREAMS_MAX: u32 = 64;
/// The size of the headers of a request with HTTP/2, in bytes.
#[cfg(feature = "grpc")]
const HEADER_LIST_BYTES_MAX: u32 = 32 << 10;
/// How long a client may take to read the next part of an answer.
const WRITE_TIME_MAX: Duration = Duration::from_secs(30);
/// How long requests have to end after the server was asked to.
const GRACE: Duration = Duration::from_millis(500);
/// How long to wait after a connection could not be accepted.
const ACCEPT_PAUSE: Duration = Duration::from_millis(50);

/// Serves on `listener` until `shutdown` is ready. Then idle connections end at once, and requests have half a
/// second to end; live streams are cut off.
///
/// # Errors
///
/// If the address of `listener` is unknown, or other machines reach it and `server` has no token.
pub async fn serve(
    listener: TcpListener,
    server: Server,
    shutdown: impl Future<Output = ()>,
) -> io::Result<()> {
    let router = router(&server);
    let mut protocol = auto::Builder::new(TokioExecutor::new()).http1_only();
    protocol
        .http1()
        .timer(TokioTimer::new())
        .header_read_timeout(HEAD_TIME_MAX)
        .max_headers(HEADERS_MAX)
        .max_buf_size(BUFFER_BYTES_MAX);
    accept(listener, &server, router, protocol, shutdown).await
}

/// Receives OTLP over gRPC on `listener`, like [`serve`].
///
/// # Errors
///
/// Like [`serve`].
#[cfg(feature = "grpc")]
pub async fn serve_grpc(
    listener: TcpListener,
    server: Server,
    shutdown: impl Future<Output = ()>,
) -> io::Result<()> {
    let router = guard::around_grpc(receive::grpc::routes(), &server);
    let mut protocol = auto::Builder::new(TokioExecutor::new()).http2_only();
    protocol
        .http2()
        .timer(TokioTimer::new())
        .keep_alive_interval(HEAD_TIME_MAX)
        .max_concurrent_streams(STREAMS_MAX)
        .max_header_list_size(HEADER_LIST_BYTES_MAX);
    accept(listener, &server, router, protocol, shutdown).await
}

/// Serves connections with a protocol until `shutdown` is ready.
async fn accept(
    listener: TcpListener,
    server: &Server,
    router: Router,
    protocol: Protocol,
    shutdown: impl Future<Output = ()>,
) -> io::Result<()> {
    let address = listener.local_addr()?;
    (server.options().check_address(address)).map_err(io::Error::other)?;
    let connections = Arc::new(Connections::default());
    let mut tasks = JoinSet::new();
    tokio::pin!(shutdown);
    loop {
        let accepted = tokio::select! {
            () = &mut shutdown => break,
            // Ended tasks are taken away, or they would fill the memory.
            Some(_) = tasks.join_next() => continue,
            accepted = listener.accept() => accepted,
        };
        let Ok((stream, _)) = accepted else {
            // Too many open files, as a rule. An idle connection gives its file back.
            connections.end_idlest();
            sleep(ACCEPT_PAUSE).await;
            continue;
        };
        let Some(place) = connections.place().await else {
            continue;
        };
        tasks.spawn(run(stream, router.clone(), protocol.clone(), place));
    }
    drop(listener);
    connections.end_all();
    let all = async { while tasks.join_next().await.is_some() {} };
    if timeout(GRACE, all).await.is_err() {
        tasks.shutdown().await;
    }
    Ok(())
}

/// Serves one connection.
async fn run(stream: TcpStream, router: Router, protocol: Protocol, place: Place) {
    // If that fails, answers are only later.
    let _ = stream.set_nodelay(true);
    let connection = Arc::clone(&place.connection);
    let service = service_fn(|mut request: Request<Incoming>| {
        request
            .extensions_mut()
            .insert(Link(Arc::clone(&connection)));
        router.clone().oneshot(request.map(Body::new))
    });
    let stream = TokioIo::new(Impatient::new(stream));
    let serving = protocol.serve_connection(stream, service);
    tokio::pin!(serving);
    loop {
        tokio::select! {
            // A client that breaks a rule or leaves is no error of the server.
            _ = &mut serving => return,
            () = connection.told.notified() => {
                if !connection.is_busy() {
                    return;
                }
                serving.as_mut().graceful_shutdown();
            }
        }
    }
}

/// The places for connections, and who has them.
#[derive(Debug)]
struct Connections {
    places: Arc<Semaphore>,
    /// The oldest first.
    open: Mutex<BTreeMap<u64, Arc<Connection>>>,
}

/// A connection that has a place.
#[derive(Debug)]
struct Connection {
    /// The number of requests that are received and not answered to the end.
    requests: AtomicUsize,
    idle_since: Mutex<Instant>,
    /// Whether it was told to end.
    is_told: AtomicBool,
    told: Notify,
}

/// Gives the place back when it is dropped.
#[derive(Debug)]
struct Place {
    number: u64,
    connection: Arc<Connection>,
    connections: Arc<Connections>,
    _permit: OwnedSemaphorePermit,
}

impl Default for Connections {
    fn default() -> Connections {
        Connections {
            places: Arc::new(Semaphore::new(CONNECTIONS_MAX)),
            open: Mutex::default(),
        }
    }
}

impl Connections {
    /// A place for a new connection: a free one, or that of the connection that is idle for the longest time.
    /// `None` if all are busy.
    async fn place(self: &Arc<Self>) -> Option<Place> {
        let permit = match Arc::clone(&self.places).try_acquire_owned() {
            Ok(permit) => permit,
            Err(_) if self.end_idlest() => Arc::clone(&self.places).acquire_owned().await.ok()?,
            Err(_) => return None,
        };
        let connection = Arc::new(Connection {
            requests: AtomicUsize::new(0),
            idle_since: Mutex::new(Instant::now()),
            is_told: AtomicBool::new(false),
            told: Notify::new(),
        });
        let mut open = self.open();
        let number = open.last_key_value().map_or(0, |(last, _)| last + 1);
        open.insert(number, Arc::clone(&connection));
        Some(Place {
            number,
            connection,
            connections: Arc::clone(self),
            _permit: permit,
        })
    }

    /// Ends the connection that is idle for the longest time. Returns whether there is one.
    fn end_idlest(&self) -> bool {
        let open = self.open();
        let idle = open.values().filter(|connection| connection.can_end());
        let idlest = idle.min_by_key(|connection| *lock(&connection.idle_since));
        idlest.map(|connection| connection.end()).is_some()
    }

    /// Ends all connections: idle ones at once, others after the answers that they are at.
    fn end_all(&self) {
        for connection in self.open().values() {
            connection.end();
        }
    }

    fn open(&self) -> MutexGuard<'_, BTreeMap<u64, Arc<Connection>>> {
        lock(&self.open)
    }
}

impl Connection {
    fn is_busy(&self) -> bool {
        self.requests.load(Ordering::Acquire) > 0
    }

    fn can_end(&self) -> bool {
        !self.is_busy() && !self.is_told.load(Ordering::Acquire)
    }

    fn end(&self) {
        self.is_told.store(true, Ordering::Release);
        self.told.notify_one();
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        self.connections.open().remove(&self.number);
    }
}

/// The connection of a request, as an extension of it.
#[derive(Debug, Clone)]
pub(crate) struct Link(Arc<Connection>);

impl Link {
    /// Keeps the connection from being ended in favour of another one. A client that is slow to send its request has
    /// no claim to its place.
    pub(crate) fn busy(self) -> Busy {
        self.0.requests.fetch_add(1, Ordering::AcqRel);
        Busy(self.0)
    }
}

/// A request that is received and not answered to the end.
#[derive(Debug)]
pub(crate) struct Busy(Arc<Connection>);

impl Busy {
    /// Keeps the connection busy until the body of the response is sent or given up.
    pub(crate) fn until_sent(self, response: Response) -> Response {
        response.map(|body| {
            Body::new(body.map_frame(move |frame| {
                let _busy = &self;
                frame
            }))
        })
    }
}

impl Drop for Busy {
    fn drop(&mut self) {
        *lock(&self.0.idle_since) = Instant::now();
        self.0.requests.fetch_sub(1, Ordering::AcqRel);
    }
}

/// A connection whose writes fail if the client does not read: its answer would take memory for ever.
struct Impatient {
    stream: TcpStream,
    /// Runs while a write waits.
    patience: Option<Pin<Box<Sleep>>>,
}

impl Impatient {
    fn new(stream: TcpStream) -> Impatient {
        Impatient {
            stream,
            patience: None,
        }
    }

    fn write_with<T>(
        &mut self,
        context: &mut Context<'_>,
        write: impl FnOnce(Pin<&mut TcpStream>, &mut Context<'_>) -> Poll<io::Result<T>>,
    ) -> Poll<io::Result<T>> {
        let written = write(Pin::new(&mut self.stream), context);
        if written.is_ready() {
            self.patience = None;
            return written;
        }
        let patience = self
            .patience
            .get_or_insert_with(|| Box::pin(sleep(WRITE_TIME_MAX)));
        ready!(patience.as_mut().poll(context));
        Poll::Ready(Err(io::ErrorKind::TimedOut.into()))
    }
}

impl AsyncRead for Impatient {
    fn poll_read(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_read(context, buffer)
    }
}

impl AsyncWrite for Impatient {
    fn poll_write(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        self.write_with(context, |stream, context| stream.poll_write(context, bytes))
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        bytes: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        self.write_with(context, |stream, context| {
            stream.poll_write_vectored(context, bytes)
        })
    }

    fn is_write_vectored(&self) -> bool {
        self.stream.is_write_vectored()
    }

    fn poll_flush(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.write_with(context, AsyncWrite::poll_flush)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.write_with(context, AsyncWrite::poll_shutdown)
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
