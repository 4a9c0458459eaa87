//! `serve`: pages, an API and a receiver of OTLP over the store of a stack.

use super::store_options;
use crate::{Outcome, interrupt::Interrupt, output::note, scope};
use anyhow::Context;
use gridctl_telemetry::{Store, Writer, WriterOptions, config::RetentionPolicy, home::list_stacks};
#[cfg(feature = "grpc")]
use gridctl_telemetry_server::serve_grpc;
use gridctl_telemetry_server::{Server, ServerOptions, Token, display::escape, serve};
use std::{
    io::Write,
    net::SocketAddr,
    path::{Path, PathBuf},
    process::{Command, Stdio},
    thread,
};
use tokio::{
    net::TcpListener,
    runtime::{self, Runtime},
    sync::watch,
};

/// The number of threads that serve requests. Reads and decoding run on others.
const WORKERS: usize = 2;
/// The number of threads that read, decode and write.
const BLOCKING_THREADS_MAX: usize = 16;

#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// The stack; may be left out when there is only one. A new one is created
    stack: Option<String>,
    /// The address and port to listen on. An address that other machines reach needs --token-file
    #[arg(long, value_name = "ADDRESS:PORT", default_value = "127.0.0.1:4318")]
    listen: SocketAddr,
    /// Another address and port, on which OTLP is received over gRPC [usual port: 4317]
    #[cfg(feature = "grpc")]
    #[arg(long, value_name = "ADDRESS:PORT")]
    listen_grpc: Option<SocketAddr>,
    /// Open the pages in a browser
    #[arg(long)]
    open: bool,
    /// A file with the token that every request must show, which only its owner may read (mode 0600)
    #[arg(long, value_name = "FILE")]
    token_file: Option<PathBuf>,
    /// An origin whose pages may send telemetry, such as `https://app.example.com`; may be given several times
    #[arg(long, value_name = "ORIGIN")]
    allow_origin: Vec<String>,
    /// A name by which this server is called, such as telemetry.example.com; may be given several times
    #[arg(long, value_name = "HOST")]
    allow_host: Vec<String>,
}

pub(crate) fn run(home: &Path, args: &Args, out: &mut impl Write) -> anyhow::Result<Outcome> {
    let mut options = ServerOptions::default();
    if let Some(file) = &args.token_file {
        options = options.token(Token::from_file(file)?);
    }
    for origin in &args.allow_origin {
        options = options.allow_origin(origin)?;
    }
    for host in &args.allow_host {
        options = options.allow_host(host);
    }
    // Before anything is created: a refused address must leave no trace.
    options.check_address(args.listen)?;
    let runtime = runtime::Builder::new_multi_thread()
        .worker_threads(WORKERS)
        .max_blocking_threads(BLOCKING_THREADS_MAX)
        .thread_name("serve")
        .enable_all()
        .build()
        .context("cannot start threads")?;
    let (listener, address) = listen(&runtime, "--listen", args.listen)?;
    #[cfg(feature = "grpc")]
    let grpc = match args.listen_grpc {
        Some(address) => {
            options.check_address(address)?;
            Some(listen(&runtime, "--listen-grpc", address)?)
        }
        None => None,
    };
    let (store, is_new) = open(home, args.stack.as_ref())?;
    let retention = is_new.then(RetentionPolicy::default);
    let writer_options = WriterOptions::default().retention(retention);
    let (writer, guard) = Writer::start(&store, writer_options)?;
    let stack = escape(store.stack());
    #[cfg(feature = "mcp")]
    let options = options.routes(gridctl_telemetry_mcp::Mcp::of_store(store.clone()).routes());
    let server = Server::new(store, writer, options.listen(address))?;

    let (asked, ask) = watch::channel(false);
    let interrupt = Interrupt::install()?;
    interrupt.on_request(move || _ = asked.send(true));
    // An end without a message is one, too.
    let end = async |mut ask: watch::Receiver<bool>| _ = ask.wait_for(|asked| *asked).await;
    let url = url(address);
    writeln!(out, "{stack}: pages at {url}, OTLP at {url}v1/")?;
    #[cfg(feature = "mcp")]
    writeln!(out, "{stack}: answers for agents at {url}mcp")?;
    #[cfg(feature = "grpc")]
    let receiving = grpc.map(|(listener, address)| {
        let (server, ask) = (server.clone(), ask.clone());
        (
            address,
            runtime.spawn(serve_grpc(listener, server, end(ask))),
        )
    });
    #[cfg(feature = "grpc")]
    if let Some((address, _)) = &receiving {
        writeln!(out, "{stack}: OTLP over gRPC at {address}")?;
    }
    out.flush()?;
    if args.open {
        open_browser(&url);
    }
    let outcome = runtime.block_on(serve(listener, server, end(ask)));
    #[cfg(feature = "grpc")]
    if let Some((_, receiving)) = receiving {
        runtime.block_on(receiving)??;
    }
    // A read that waits for the disk must not hold up the end.
    runtime.shutdown_background();
    guard.close()?;
    outcome?;
    Ok(Outcome::Done)
}

/// Takes an address. Returns it with the port that the system chose.
fn listen(
    runtime: &Runtime,
    option: &str,
    address: SocketAddr,
) -> anyhow::Result<(TcpListener, SocketAddr)> {
    let bound = runtime.block_on(TcpListener::bind(address));
    let listener = bound.with_context(|| {
        format!(
            "cannot listen on {address}: pass another port with {option}, or end the program that has it"
        )
    })?;
    let address = listener.local_addr()?;
    Ok((listener, address))
}

/// The stack, and whether it is new.
fn open(home: &Path, named: Option<&String>) -> anyhow::Result<(Store, bool)> {
    let known = list_stacks(home)?;
    let is_new = named.is_some_and(|named| !known.contains(named));
    let stack = match named {
        Some(named) => named.clone(),
        None => scope::pick_stack(home, None, &known)?,
    };
    let store = Store::open(home, &stack, store_options().set_aside_damaged(true))?;
    if is_new {
        note(&format!("created the stack {}", escape(&stack)));
    }
    Ok((store, is_new))
}

/// The address as a browser on this machine takes it.
fn url(address: SocketAddr) -> String {
    let ip = match address {
        SocketAddr::V4(address) if address.ip().is_unspecified() => "127.0.0.1".to_owned(),
        SocketAddr::V6(address) if address.ip().is_unspecified() => "[::1]".to_owned(),
        SocketAddr::V4(address) => address.ip().to_string(),
        SocketAddr::V6(address) => format!("[{}]", address.ip()),
    };
    format!("http://{ip}:{}/", address.port())
}

fn open_browser(url: &str) {
    let program = if cfg!(target_os = "macos") {
        "open"
    } else {
        "xdg-open"
    };
    let started = Command::new(program)
        .arg(url)
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .spawn();
    match started {
        // Without a wait, its entry in the table of processes would stay.
        Ok(mut child) => _ = thread::Builder::new().spawn(move || child.wait()),
        Err(error) => note(&format!("cannot run {program}: {error}; open {url}")),
    }
}
