//! `forward`: send what is stored to an OTLP/HTTP endpoint.

use crate::{
    Outcome,
    interrupt::Interrupt,
    output::{note, progress_bar},
    scope::{Scope, ScopeArgs, SignalParser},
    screen::{Output, Screen},
};
use anyhow::{Context, bail};
use bytesize::ByteSize;
use gridctl_telemetry::{Signal, StoreOptions};
use gridctl_telemetry_forward::{
    Compression, Endpoint, ForwardEvent, ForwardOptions, ForwardStats, Forwarder,
};
use humantime::format_duration;
use std::{
    io::Write,
    path::{Path, PathBuf},
    time::Duration,
};

/// How often the progress is shown, and an interrupt noticed.
const LOOK_INTERVAL: Duration = Duration::from_millis(200);
/// The page cache, in bytes. Each block is read once.
const PAGE_CACHE_BYTES: usize = 1 << 20;

#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    #[command(flatten)]
    scope: ScopeArgs,
    /// Only this signal; may be given several times
    #[arg(long, value_parser = SignalParser)]
    signal: Vec<Signal>,
    /// The address of an OTLP/HTTP receiver: `/v1/logs` and so on are appended to it
    /// [default: `$OTEL_EXPORTER_OTLP_ENDPOINT`, and those of single signals]
    #[arg(long, value_name = "URL")]
    endpoint: Option<String>,
    /// Send new records as they arrive, until interrupted
    #[arg(long)]
    follow: bool,
    /// The file that stores what was sent: a later run with the same FILE sends only the rest
    /// [default: a file beside the database for each endpoint]
    #[arg(long, value_name = "FILE")]
    cursor: Option<PathBuf>,
    /// Send all records, also those that were sent before
    #[arg(long)]
    anew: bool,
    /// A header of each request; may be given several times. Other users of this machine can see it:
    /// `$OTEL_EXPORTER_OTLP_HEADERS` hides it from them
    #[arg(long, value_name = "NAME=VALUE")]
    header: Vec<String>,
    /// How long the endpoint has to answer, such as 500ms [default: 10s]
    #[arg(long, value_name = "DURATION")]
    timeout: Option<humantime::Duration>,
    /// How long a batch is sent again to an endpoint that is overloaded or away [default: 5m, and with
    /// --follow without end]
    #[arg(long, value_name = "DURATION")]
    give_up_after: Option<humantime::Duration>,
    /// How requests are compressed [default: gzip]
    #[arg(long, value_name = "FORMAT")]
    compression: Option<Packing>,
    /// A file in PEM with the authorities that may have signed the endpoint's certificate [default: the
    /// system's]
    #[arg(long, value_name = "FILE")]
    certificate: Option<PathBuf>,
    /// A file in PEM with the certificate by which the endpoint knows this client
    #[arg(long, value_name = "FILE", requires = "client_key")]
    client_certificate: Option<PathBuf>,
    /// The file in PEM with its key
    #[arg(long, value_name = "FILE", requires = "client_certificate")]
    client_key: Option<PathBuf>,
}

/// How requests are compressed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
enum Packing {
    /// With gzip
    Gzip,
    /// Not at all
    None,
}

impl Args {
    fn endpoint(&self) -> anyhow::Result<Endpoint> {
        let variable = |name: &str| std::env::var(name).ok();
        let mut endpoint = Endpoint::from_variables(self.endpoint.as_deref(), variable)?;
        for header in &self.header {
            let Some((name, value)) = header.split_once('=') else {
                // The header may be a secret.
                bail!("--header has no =: pass NAME=VALUE");
            };
            endpoint = endpoint.header(name.trim(), value.trim())?;
        }
        if let Some(timeout) = self.timeout {
            endpoint = endpoint.timeout(timeout.into());
        }
        if let Some(packing) = self.compression {
            endpoint = endpoint.compression(match packing {
                Packing::Gzip => Compression::Gzip,
                Packing::None => Compression::None,
            });
        }
        if let Some(path) = &self.certificate {
            endpoint = endpoint.authorities(path);
        }
        if let (Some(certificate), Some(key)) = (&self.client_certificate, &self.client_key) {
            endpoint = endpoint.client_certificate(certificate, key);
        }
        Ok(endpoint)
    }
}

pub(crate) fn run(
    home: &Path,
    screen: &Screen,
    args: &Args,
    out: &mut Output,
) -> anyhow::Result<Outcome> {
    let endpoint = args.endpoint()?;
    let smaller = |options: StoreOptions| options.page_cache_bytes(PAGE_CACHE_BYTES);
    let Scope { store, servers } = args.scope.open_with(home, smaller)?;
    let mut options = ForwardOptions::new(endpoint)
        .follow(args.follow)
        .anew(args.anew);
    options = args
        .signal
        .iter()
        .copied()
        .fold(options, ForwardOptions::signal);
    options = servers.into_iter().fold(options, ForwardOptions::server);
    if let Some(path) = &args.cursor {
        options = options.cursor(path);
    }
    if let Some(time) = args.give_up_after {
        options = options.give_up_after(time.into());
    }
    let interrupt = Interrupt::install()?;
    let stored = store.snapshot()?.inventory(None)?;
    let bar = progress_bar(
        stored.iter().map(|it| it.record_count).sum(),
        "{wide_bar} {human_pos}/{human_len} records, {per_sec}",
    );
    let screen = screen.clone();
    let noting = bar.clone();
    options = options.on_event(move |event| {
        noting.suspend(|| note(&described(&event, &screen)));
    });
    let forwarder = Forwarder::start(&store, options)?;
    while !forwarder.wait(LOOK_INTERVAL) && !interrupt.requested() {
        let stats = forwarder.stats();
        let sent = stats.sum(|it| it.sent + it.rejected + it.refused);
        if args.follow {
            bar.set_length(bar.length().unwrap_or_default().max(sent));
        }
        bar.set_position(sent);
    }
    let was_interrupted = interrupt.requested();
    let cursor = forwarder.cursor().to_owned();
    let (stats, outcome) = forwarder.finish();
    bar.finish_and_clear();
    writeln!(out, "{}", totals(&stats))?;
    outcome.with_context(|| {
        format!(
            "not all records were sent; what was is in {}, and the next run sends the rest",
            cursor.display()
        )
    })?;
    let has_problems = stats.sum(|it| it.rejected + it.refused + it.missed + it.damaged) > 0;
    Ok(match (was_interrupted, has_problems) {
        (true, _) => Outcome::Interrupted,
        (false, true) => Outcome::Problems,
        (false, false) => Outcome::Done,
    })
}

/// What was done, in a line.
fn totals(stats: &ForwardStats) -> String {
    let mut parts = vec![format!(
        "sent {} records in {} requests, {}",
        stats.sent(),
        stats.sum(|it| it.batches),
        ByteSize::b(stats.sum(|it| it.bytes)).display().iec()
    )];
    for (count, what) in [
        (
            stats.sum(|it| it.rejected),
            "rejected of batches that were taken",
        ),
        (stats.sum(|it| it.refused), "refused"),
        (
            stats.sum(|it| it.missed),
            "evicted by limits before they were sent",
        ),
        (stats.sum(|it| it.damaged), "not readable"),
        (stats.sum(|it| it.retries), "requests sent again"),
        (
            stats.sum(|it| it.maybe_twice + it.in_flight),
            "perhaps there twice, because no answer came",
        ),
    ] {
        if count > 0 {
            parts.push(format!("{count} {what}"));
        }
    }
    parts.join("; ")
}

/// An event in a line. The caller escapes it.
fn described(event: &ForwardEvent, screen: &Screen) -> String {
    match event {
        ForwardEvent::Resumed {
            signal,
            records_max,
        } => format!(
            "{signal}: the last run ended while a batch was on its way; up to {records_max} records may be sent a \
             second time"
        ),
        ForwardEvent::Trouble {
            signal,
            reason,
            retry_in,
        } => {
            let wait = format_duration(Duration::from_millis(
                u64::try_from(retry_in.as_millis()).unwrap_or(u64::MAX),
            ));
            format!("{signal}: {reason}; sending again in {wait}")
        }
        ForwardEvent::Recovered { signal } => format!("{signal}: taken again"),
        ForwardEvent::Rejected {
            signal,
            records: 0,
            message,
        } => format!("{signal}: the endpoint warns: {message}"),
        ForwardEvent::Rejected {
            signal,
            records,
            message,
        } => format!("{signal}: the endpoint rejected {records} records of a batch: {message}"),
        ForwardEvent::Refused {
            signal,
            records,
            reason,
            file,
        } => {
            let kept = file.as_ref().map_or_else(
                || "too many were refused before, so it was not kept".to_owned(),
                |file| format!("it is in {}", file.display()),
            );
            format!("{signal}: a batch of {records} records is refused for ever: {reason}; {kept}")
        }
        ForwardEvent::Missed(missed) => format!(
            "{}: limits evicted {} records of {} before they were sent, with times from {} to {}",
            missed.signal,
            missed.count,
            missed.server,
            screen.time(missed.from),
            screen.time(missed.to)
        ),
        ForwardEvent::Damaged {
            signal,
            records,
            what,
        } => {
            let records =
                records.map_or_else(|| "an unknown number of".to_owned(), |it| it.to_string());
            format!("{signal}: {records} records cannot be read, and are not sent: {what}")
        }
        ForwardEvent::Replaced { signal } => {
            format!(
                "{signal}: the database was replaced by another one, and all of its records are sent"
            )
        }
        ForwardEvent::Failing { reason } => format!("{reason}; trying again"),
        other => format!("{other:?}"),
    }
}
