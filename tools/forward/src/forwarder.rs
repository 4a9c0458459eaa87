//! The worker: a thread for each signal, one that reads for all of them, and one that looks for new records.

use crate::{
    client::Client,
    cursor::{CursorFile, Position},
    endpoint::Endpoint,
    error::ForwardError,
    lane::Lane,
    reading::Reader,
    source::{LOOK_INTERVAL, Source, lock},
    stats::{ForwardEvent, ForwardStats, SignalStats},
};
use gridctl_telemetry::{ServerName, Signal, Store};
use std::{
    fmt::{self, Write as _},
    path::{Path, PathBuf},
    sync::{Arc, Condvar, Mutex, PoisonError},
    thread::{self, JoinHandle},
    time::Duration,
};
use xxhash_rust::xxh3::xxh3_64;

/// How long a forwarder that does not follow sends a batch again.
const GIVE_UP_AFTER_DEFAULT: Duration = Duration::from_secs(300);

/// What a [`Forwarder`] sends, and where.
#[derive(Clone)]
#[must_use]
pub struct ForwardOptions {
    endpoint: Endpoint,
    signals: Vec<Signal>,
    servers: Vec<ServerName>,
    cursor: Option<PathBuf>,
    anew: bool,
    follow: bool,
    give_up_after: Option<Duration>,
    on_event: Arc<dyn Fn(ForwardEvent) + Send + Sync>,
}

impl fmt::Debug for ForwardOptions {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ForwardOptions")
            .field("endpoint", &self.endpoint)
            .field("signals", &self.signals)
            .field("servers", &self.servers)
            .field("follow", &self.follow)
            .finish_non_exhaustive()
    }
}

impl ForwardOptions {
    /// All records that are stored, to this endpoint.
    pub fn new(endpoint: Endpoint) -> ForwardOptions {
        ForwardOptions {
            endpoint,
            signals: Vec::new(),
            servers: Vec::new(),
            cursor: None,
            anew: false,
            follow: false,
            give_up_after: None,
            on_event: Arc::new(|_| {}),
        }
    }

    /// Only this signal. Further calls add signals.
    pub fn signal(mut self, signal: Signal) -> ForwardOptions {
        self.signals.push(signal);
        self
    }

    /// Only records of this server. Further calls add servers.
    pub fn server(mut self, server: ServerName) -> ForwardOptions {
        self.servers.push(server);
        self
    }

    /// Sets the file that says what was sent. Default: one in the folder `forward` beside the database, which differs
    /// by the address of the endpoint and by the servers.
    pub fn cursor(mut self, path: impl Into<PathBuf>) -> ForwardOptions {
        self.cursor = Some(path.into());
        self
    }

    /// Sets whether all records are sent, also those that the cursor file says to have been sent. Default: no.
    pub fn anew(mut self, wanted: bool) -> ForwardOptions {
        self.anew = wanted;
        self
    }

    /// Sets whether new records are sent as they arrive, until the forwarder is stopped. Default: no.
    pub fn follow(mut self, wanted: bool) -> ForwardOptions {
        self.follow = wanted;
        self
    }

    /// Sets for how long a batch is sent again to an endpoint that is overloaded or away. Default: five minutes, and
    /// without end for a forwarder that follows.
    pub fn give_up_after(mut self, time: Duration) -> ForwardOptions {
        self.give_up_after = Some(time);
        self
    }

    /// Sets what to call with each event. It is called on the threads of the forwarder, and should return soon.
    pub fn on_event(
        mut self,
        call: impl Fn(ForwardEvent) + Send + Sync + 'static,
    ) -> ForwardOptions {
        self.on_event = Arc::new(call);
        self
    }

    /// The signals to send, each once.
    fn signals(&self) -> Vec<Signal> {
        let has_address = |signal: &Signal| self.endpoint.url(*signal).is_some();
        let is_wanted = |signal: &Signal| match self.signals.as_slice() {
            [] => has_address(signal),
            some => some.contains(signal),
        };
        Signal::ALL.into_iter().filter(is_wanted).collect()
    }

    fn cursor_path(&self, folder: &Path) -> PathBuf {
        self.cursor.clone().unwrap_or_else(|| {
            let mut text = String::new();
            for signal in Signal::ALL {
                let _ = writeln!(text, "{}", self.endpoint.url(signal).unwrap_or_default());
            }
            let mut servers: Vec<&str> = self.servers.iter().map(ServerName::as_str).collect();
            servers.sort_unstable();
            servers.dedup();
            for server in servers {
                let _ = writeln!(text, "{} {server}", server.len());
            }
            folder.join(format!("forward/{:016x}.json", xxh3_64(text.as_bytes())))
        })
    }
}

/// What the threads of a forwarder share.
pub(crate) struct Shared {
    pub(crate) source: Source,
    stats: Mutex<ForwardStats>,
    on_event: Arc<dyn Fn(ForwardEvent) + Send + Sync>,
    /// The number of signals that are being sent, and the first error of one.
    running: Mutex<(usize, Option<ForwardError>)>,
    ended: Condvar,
}

impl Shared {
    pub(crate) fn tell(&self, event: ForwardEvent) {
        (self.on_event)(event);
    }

    pub(crate) fn count(&self, signal: Signal, change: impl FnOnce(&mut SignalStats)) {
        let mut stats = lock(&self.stats);
        let mut signals = stats.signals.iter_mut();
        if let Some((_, stats)) = signals.find(|(of, _)| *of == signal) {
            change(stats);
        }
    }

    /// Whether all signals but one have sent all that they found.
    pub(crate) fn is_only_one_busy(&self) -> bool {
        let stats = lock(&self.stats);
        let busy = stats.signals.iter().filter(|(_, it)| !it.is_caught_up);
        busy.count() <= 1
    }

    fn end_one(&self, outcome: Result<(), ForwardError>) {
        let mut running = lock(&self.running);
        running.0 = running.0.saturating_sub(1);
        if let Err(error) = outcome {
            running.1.get_or_insert(error);
            // The others end in order: what cannot be sent is reported at once.
            self.source.stop();
        }
        drop(running);
        self.ended.notify_all();
    }
}

/// Sends stored records to an endpoint, on threads of its own.
///
/// Dropping it stops it.
pub struct Forwarder {
    shared: Arc<Shared>,
    cursor: Arc<CursorFile>,
    threads: Vec<JoinHandle<()>>,
}

impl fmt::Debug for Forwarder {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Forwarder")
            .field("cursor", &self.cursor.path())
            .finish_non_exhaustive()
    }
}

impl Forwarder {
    /// Starts to send. The memory that it takes is bounded: some 20 MiB, however much is stored.
    ///
    /// # Errors
    /// [`ForwardError::Option`] and [`ForwardError::File`] when an option or a file cannot be used;
    /// [`ForwardError::OtherDatabase`] and [`ForwardError::InUse`] when the cursor file is about another database or
    /// belongs to another forwarder; [`ForwardError::Store`] when the store cannot be read.
    pub fn start(store: &Store, options: ForwardOptions) -> Result<Forwarder, ForwardError> {
        let database = store.path();
        let folder = database.parent().unwrap_or(Path::new(".")).to_owned();
        let signals = options.signals();
        let path = options.cursor_path(&folder);
        let cursor = CursorFile::open(&path, store.stack(), &options.servers, options.anew)?;
        let mut clients = Vec::new();
        for signal in signals {
            let target = options.endpoint.target(signal).cloned().unwrap_or_default();
            clients.push((signal, Client::new(signal, &target)?));
        }
        let source = Source::new(store)?;
        for (signal, _) in &clients {
            check(&source, &cursor, cursor.position(*signal))?;
        }
        let cursor = Arc::new(cursor);
        let stats = clients
            .iter()
            .map(|(signal, _)| (*signal, SignalStats::default()));
        let shared = Arc::new(Shared {
            source,
            stats: Mutex::new(ForwardStats {
                signals: stats.collect(),
            }),
            on_event: options.on_event,
            running: Mutex::new((clients.len(), None)),
            ended: Condvar::new(),
        });
        let mut forwarder = Forwarder {
            shared: Arc::clone(&shared),
            cursor: Arc::clone(&cursor),
            threads: Vec::new(),
        };
        let (reader, read) = Reader::new();
        forwarder.spawn("telemetry-read", read)?;
        for (signal, client) in clients {
            let lane = Arc::new(Lane {
                signal,
                servers: options.servers.clone(),
                follow: options.follow,
                give_up_after: options
                    .give_up_after
                    .or_else(|| (!options.follow).then_some(GIVE_UP_AFTER_DEFAULT)),
                store: store.clone(),
                folder: folder.clone(),
                cursor: Arc::clone(&cursor),
                shared: Arc::clone(&shared),
                reader: reader.clone(),
            });
            forwarder.spawn(&format!("telemetry-{signal}"), move || {
                let outcome = lane.run(client);
                lane.shared.end_one(outcome);
            })?;
        }
        drop(reader);
        if options.follow {
            forwarder.spawn("telemetry-look", move || look(&shared))?;
        }
        Ok(forwarder)
    }

    fn spawn(
        &mut self,
        name: &str,
        run: impl FnOnce() + Send + 'static,
    ) -> Result<(), ForwardError> {
        let thread = thread::Builder::new().name(name.to_owned()).spawn(run);
        let thread = thread
            .map_err(|error| ForwardError::Option(format!("cannot start a thread: {error}")))?;
        self.threads.push(thread);
        Ok(())
    }

    /// The cursor file.
    #[must_use]
    pub fn cursor(&self) -> &Path {
        self.cursor.path()
    }

    /// What it has done since it was started.
    #[must_use]
    pub fn stats(&self) -> ForwardStats {
        lock(&self.shared.stats).clone()
    }

    /// Waits until all is sent, it was stopped, or an error ended it; at most this long. Returns whether it has ended.
    #[must_use]
    pub fn wait(&self, timeout: Duration) -> bool {
        let running = lock(&self.shared.running);
        let waited = (self.shared.ended).wait_timeout_while(running, timeout, |it| it.0 > 0);
        waited.unwrap_or_else(PoisonError::into_inner).0.0 == 0
    }

    /// Stops it like [`Forwarder::stop`]. Returns what it has done, and whether an error ended it.
    ///
    /// Fails, in the second value, with that error.
    pub fn finish(mut self) -> (ForwardStats, Result<(), ForwardError>) {
        self.end();
        let error = lock(&self.shared.running).1.take();
        (self.stats(), error.map_or(Ok(()), Err))
    }

    /// Stops it, within a second: an answer that takes longer is not waited for, and the batch is sent again by the
    /// next forwarder with the same cursor file. Returns what it has done.
    ///
    /// Fails with the error that ended it, if one did.
    pub fn stop(self) -> Result<ForwardStats, ForwardError> {
        let (stats, outcome) = self.finish();
        outcome.map(|()| stats)
    }

    fn end(&mut self) {
        self.shared.source.stop();
        for thread in self.threads.drain(..) {
            // A panic of a thread was reported by the panic hook.
            let _ = thread.join();
        }
    }
}

impl Drop for Forwarder {
    fn drop(&mut self) {
        self.end();
    }
}

/// Looks for new records, and for a database that was replaced, until the end.
fn look(shared: &Shared) {
    let mut failing = None;
    while !shared.source.sleep(LOOK_INTERVAL) {
        match shared.source.look() {
            Ok(()) => failing = None,
            Err(error) => {
                let reason = error.to_string();
                if failing.as_ref() != Some(&reason) {
                    failing = Some(reason.clone());
                    shared.tell(ForwardEvent::Failing { reason });
                }
            }
        }
    }
}

/// Fails when a position is one of another database, or of a newer state of this one.
fn check(
    source: &Source,
    cursor: &CursorFile,
    position: Option<Position>,
) -> Result<(), ForwardError> {
    let Some(position) = position else {
        return Ok(());
    };
    let news = source.news();
    if position.database != news.database && position.end_sequence > 0 {
        return Err(ForwardError::OtherDatabase {
            path: cursor.path().to_owned(),
            found: position.database,
            expected: news.database,
        });
    }
    if position.end_sequence > news.next_sequence {
        return Err(ForwardError::File(format!(
            "{} says that records were sent that the database does not have: it was replaced by an older copy; begin \
             anew, which sends all of it",
            cursor.path().display()
        )));
    }
    Ok(())
}
