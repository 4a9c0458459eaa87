//! Records as they arrive, as server-sent events.
//!
//! One thread looks at the store for all viewers and tells them how far it goes. Each viewer then reads what is
//! new to it, a page at a time and only when its client has taken the page before: a slow viewer holds a page,
//! no snapshot, and delays nobody.
//!
//! The id of an event is a [`Position`]: which arrivals were being told, and the record that was told last.
//! A client that connects again sends it back in `Last-Event-ID` and misses and repeats nothing.

use crate::{problem::Problem, state::Server, views::params::Params};
use axum::{
    http::{HeaderMap, HeaderName, HeaderValue},
    response::{
        IntoResponse, Response,
        sse::{Event, Sse},
    },
};
use futures_util::stream;
use gridctl_telemetry::{
    Query, Signal, Snapshot, Store,
    query::{Cursor, Direction, StoredRecord},
};
use std::{
    collections::VecDeque,
    convert::Infallible,
    fmt,
    str::FromStr,
    sync::{Arc, Mutex, PoisonError},
    thread,
    time::Duration,
};
use tokio::{
    sync::{OwnedSemaphorePermit, Semaphore, watch},
    time::{sleep, timeout},
};

/// Maximum number of viewers.
const VIEWERS_MAX: usize = 32;
/// The number of records of a page, and their size in bytes after which it ends.
const PAGE_RECORDS_MAX: usize = 64;
const PAGE_BYTES: usize = 256 << 10;
/// How often a viewer for which nothing arrives is told that the server is there, so that neither side takes the
/// connection for lost.
const HEARTBEAT: Duration = Duration::from_secs(10);
/// How long a client waits before it connects again.
const RETRY: Duration = Duration::from_secs(1);
/// How long the thread waits at once, and after an error.
const LOOK_TIME: Duration = Duration::from_secs(1);
/// What a client sends when it connects again.
const LAST_EVENT_ID: HeaderName = HeaderName::from_static("last-event-id");

/// How far a store goes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Mark {
    /// Later records have this sequence or a higher one.
    next_sequence: u64,
    /// How often the database was replaced by another one, whose sequences begin again.
    replacements: u64,
}

/// The viewers of a server.
#[derive(Debug)]
pub(crate) struct Live {
    places: Arc<Semaphore>,
    /// `None` while there are no viewers, and no thread.
    marks: Arc<Mutex<Option<watch::Sender<Mark>>>>,
}

impl Default for Live {
    fn default() -> Live {
        Live {
            places: Arc::new(Semaphore::new(VIEWERS_MAX)),
            marks: Arc::default(),
        }
    }
}

impl Live {
    /// The marks of `store`. The first caller starts the thread, which ends after the last one is gone.
    fn marks(&self, store: &Store) -> Result<watch::Receiver<Mark>, Problem> {
        let mut marks = self.marks.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(sender) = &*marks {
            return Ok(sender.subscribe());
        }
        let next_sequence = store.snapshot()?.next_sequence()?;
        let (sender, receiver) = watch::channel(Mark {
            next_sequence,
            replacements: 0,
        });
        let (store, shared) = (store.clone(), Arc::clone(&self.marks));
        thread::Builder::new()
            .name("telemetry-live".to_owned())
            .spawn(move || look(&store, next_sequence, &shared))
            .map_err(|error| Problem::busy(format!("cannot start a thread: {error}")))?;
        *marks = Some(sender);
        Ok(receiver)
    }
}

/// Looks at `store` for as long as there are viewers.
fn look(store: &Store, next_sequence: u64, shared: &Mutex<Option<watch::Sender<Mark>>>) {
    let mut arrivals = None;
    let mut known = next_sequence;
    loop {
        let arrival = match &mut arrivals {
            None => store.arrivals(known).map(|opened| {
                arrivals = Some(opened);
                None
            }),
            Some(arrivals) => arrivals.next_timeout(LOOK_TIME),
        };
        let is_failed = arrival.is_err();
        let arrived = arrival.ok().flatten().and_then(|arrival| {
            let next_sequence = arrival.snapshot.next_sequence().ok()?;
            Some((next_sequence, arrival.is_replaced))
        });
        let mut marks = shared.lock().unwrap_or_else(PoisonError::into_inner);
        let Some(sender) = marks.as_ref().filter(|sender| sender.receiver_count() > 0) else {
            *marks = None;
            return;
        };
        if let Some((next_sequence, is_replaced)) = arrived {
            known = next_sequence;
            sender.send_modify(|mark| {
                mark.next_sequence = next_sequence;
                mark.replacements += u64::from(is_replaced);
            });
        }
        drop(marks);
        if is_failed {
            // The database is away: a daemon restarts, a file system is not mounted.
            thread::sleep(LOOK_TIME);
        }
    }
}

/// How far a viewer was told what arrived.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Position {
    /// Records from this sequence on were not told,
    since: u64,
    /// except that of those before this sequence,
    end: u64,
    /// the ones up to this were; `None` if none was.
    after: Option<Cursor>,
}

impl Position {
    /// Only records that arrive after `snapshot`.
    pub(crate) fn end_of(snapshot: &Snapshot) -> Result<Position, Problem> {
        Ok(Position::from(snapshot.next_sequence()?))
    }

    fn from(since: u64) -> Position {
        Position {
            since,
            end: since,
            after: None,
        }
    }
}

impl fmt::Display for Position {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.after {
            None => write!(f, "{:x}", self.since),
            Some(after) => write!(f, "{:x}-{:x}-{after}", self.since, self.end),
        }
    }
}

impl FromStr for Position {
    type Err = String;

    fn from_str(text: &str) -> Result<Position, String> {
        let invalid = || "it is no position of a live stream".to_owned();
        let number = |text: &str| {
            let is_hex = text.bytes().all(|byte| byte.is_ascii_hexdigit());
            let number = u64::from_str_radix(text, 16).ok();
            number.filter(|_| is_hex).ok_or_else(invalid)
        };
        let mut parts = text.splitn(3, '-');
        let position = Position::from(number(parts.next().unwrap_or_default())?);
        match (parts.next(), parts.next()) {
            (None, _) => Ok(position),
            (Some(end), Some(after)) => Ok(Position {
                end: number(end)?,
                after: Some(after.parse().map_err(|_| invalid())?),
                ..position
            }),
            _ => Err(invalid()),
        }
    }
}

/// The records of `signal` that `params` asks for and that arrive from now on, or after the position of
/// `Last-Event-ID` or of the parameter `cursor`. The data of each event is what `show` makes of a record.
///
/// Fails when there are too many viewers already.
pub(crate) async fn stream(
    server: Server,
    params: &Params,
    signal: Signal,
    headers: &HeaderMap,
    show: impl Fn(&StoredRecord) -> Result<String, Problem> + Clone + Send + Sync + 'static,
) -> Result<Response, Problem> {
    let place = Arc::clone(&server.live().places).try_acquire_owned();
    let place = place.map_err(|_| {
        Problem::busy(format!(
            "there are {VIEWERS_MAX} viewers of live records already"
        ))
    })?;
    let last = headers.get(LAST_EVENT_ID);
    let last = last.and_then(|last| last.to_str().ok()?.parse::<Position>().ok());
    let asked = match last {
        Some(last) => Some(last),
        None => params.typed_cursor::<Position>()?,
    };
    let all = params.with(|params| params.cursor = None);
    let query = all
        .records(signal, Direction::Forward)?
        .direction(Direction::Forward);
    let shared = server.clone();
    let (marks, position) = server
        .read(move |snapshot| {
            let marks = shared.live().marks(shared.store())?;
            let end = Position::end_of(snapshot)?;
            // A position beyond the end is one of another database, all of whose successor is new.
            let position = match asked {
                Some(asked) if asked.since.max(asked.end) > end.since => Position::from(0),
                Some(asked) => asked,
                None => end,
            };
            Ok((marks, position))
        })
        .await?;
    let replacements = marks.borrow().replacements;
    let viewer = Viewer {
        server,
        query,
        replacements,
        marks,
        position,
        events: VecDeque::from([Event::default()
            .retry(RETRY)
            .comment("records as they arrive")]),
        show,
        _place: place,
    };
    let events = stream::unfold(viewer, async |mut viewer| {
        let event = viewer.next().await;
        Some((Ok::<_, Infallible>(event), viewer))
    });
    // A proxy that collects the answer would hold events back.
    let headers = [(
        HeaderName::from_static("x-accel-buffering"),
        HeaderValue::from_static("no"),
    )];
    Ok((headers, Sse::new(events)).into_response())
}

struct Viewer<F> {
    server: Server,
    query: Query,
    marks: watch::Receiver<Mark>,
    replacements: u64,
    position: Position,
    events: VecDeque<Event>,
    show: F,
    _place: OwnedSemaphorePermit,
}

/// What a page of arrivals was.
struct Told {
    events: VecDeque<Event>,
    position: Position,
}

impl<F> Viewer<F>
where
    F: Fn(&StoredRecord) -> Result<String, Problem> + Clone + Send + Sync + 'static,
{
    /// The next event; a heartbeat when nothing arrives for some time.
    async fn next(&mut self) -> Event {
        loop {
            if let Some(event) = self.events.pop_front() {
                return event;
            }
            let mark = *self.marks.borrow_and_update();
            if mark.replacements != self.replacements {
                self.replacements = mark.replacements;
                self.position = Position::from(0);
            }
            if self.position.end <= self.position.since && mark.next_sequence > self.position.since
            {
                self.position.end = mark.next_sequence;
                self.position.after = None;
            }
            if self.position.end > self.position.since {
                let Ok(told) = self.read().await else {
                    // The database is away. The next call tries again.
                    sleep(LOOK_TIME).await;
                    return heartbeat();
                };
                self.events = told.events;
                self.position = told.position;
                continue;
            }
            match timeout(HEARTBEAT, self.marks.changed()).await {
                Ok(Ok(())) => {}
                Ok(Err(_)) | Err(_) => return heartbeat(),
            }
        }
    }

    /// Reads a page of the arrivals that are being told.
    async fn read(&self) -> Result<Told, Problem> {
        let (query, mut position, show) = (self.query.clone(), self.position, self.show.clone());
        self.server
            .read(move |snapshot| {
                let mut query = query.since_sequence(position.since);
                if let Some(after) = position.after {
                    query = query.after(after);
                }
                let mut scan = snapshot.scan(&query)?;
                let mut events = VecDeque::new();
                let mut bytes = 0;
                while let Some(record) = scan.next()? {
                    if record.sequence >= position.end {
                        continue;
                    }
                    if events.len() >= PAGE_RECORDS_MAX || bytes > PAGE_BYTES {
                        return Ok(Told { events, position });
                    }
                    position.after = Some(record.cursor());
                    let data = show(&record.to_stored()?)?;
                    bytes += data.len();
                    events.push_back(Event::default().id(position.to_string()).data(data));
                }
                Ok(Told {
                    events,
                    position: Position::from(position.end),
                })
            })
            .await
    }
}

fn heartbeat() -> Event {
    Event::default().comment("")
}
