//! The way of decoded messages into the writer's queue: one message at a time, and only while there is room.
//!
//! A queue that is full drops records. A client can wait, and sends again what was refused, so a message is refused
//! as a whole before the queue is full. Only a message that is larger than the queue, or whose room others take
//! meanwhile, is stored in part; the client is told how much.

use crate::{problem::Problem, state::Server};
use axum::http::StatusCode;
use gridctl_telemetry::{
    Writer,
    ingest::DropCause,
    receive::{OtlpMessage, OtlpMessageError, OtlpOutcome, OtlpReason},
};
use std::{
    sync::Arc,
    thread,
    time::{Duration, Instant},
};
use tokio::{
    sync::{OwnedSemaphorePermit, Semaphore},
    time::timeout,
};

/// The number of log records or spans that are offered to the writer without a look at its queue.
const PART_RECORDS: usize = 4096;
/// The part of the queue that may be taken before records are offered. The rest has room for a message as SDKs send
/// them, also beside other producers.
const FULLNESS_MAX: f64 = 0.5;
/// How long a message waits for room before it is refused.
const ROOM_WAIT: Duration = Duration::from_secs(1);
/// How long the rest of a message waits of which a part is stored: to refuse it would lose it.
const REST_WAIT: Duration = Duration::from_secs(10);
/// How often to look for room.
const ROOM_INTERVAL: Duration = Duration::from_millis(5);
/// How long a request waits for those before it.
const TURN_WAIT: Duration = Duration::from_secs(10);

/// Who may put records into the queue.
#[derive(Debug)]
pub(crate) struct Intake {
    turns: Arc<Semaphore>,
}

impl Default for Intake {
    fn default() -> Intake {
        let turns = Arc::new(Semaphore::new(1));
        Intake { turns }
    }
}

impl Intake {
    /// Waits until no other message is decoded and offered, for as long as the permit is kept.
    ///
    /// # Errors
    ///
    /// 503 if that takes too long.
    pub(crate) async fn turn(&self) -> Result<OwnedSemaphorePermit, Problem> {
        let turn = Arc::clone(&self.turns).acquire_owned();
        match timeout(TURN_WAIT, turn).await {
            Ok(Ok(turn)) => Ok(turn),
            _ => Err(Problem::busy("too much telemetry arrives at once")),
        }
    }

    /// Offers the records of a message to the writer. Blocks the thread while the queue has no room.
    ///
    /// # Errors
    ///
    /// 503 if the queue has no room, or is closed. Then no record of the message is in it.
    pub(crate) fn take(server: &Server, message: OtlpMessage) -> Result<OtlpOutcome, Problem> {
        let mut outcome = OtlpOutcome::default();
        for part in message.split(PART_RECORDS) {
            let patience = if outcome.accepted == 0 {
                ROOM_WAIT
            } else {
                REST_WAIT
            };
            if !has_room(server.writer(), patience) && outcome.accepted == 0 {
                return Err(Problem::busy("the queue of the writer is full"));
            }
            // Without room, the writer counts what it drops.
            outcome.add(server.otlp().store(part));
        }
        if outcome.accepted == 0
            && outcome
                .rejected
                .iter()
                .any(|(reason, _)| is_passing(*reason))
        {
            return Err(Problem::busy("the writer takes no records now"));
        }
        Ok(outcome)
    }
}

/// Waits until the queue has room.
fn has_room(writer: &Writer, patience: Duration) -> bool {
    let deadline = Instant::now() + patience;
    while writer.fullness() > FULLNESS_MAX {
        if Instant::now() >= deadline {
            return false;
        }
        thread::sleep(ROOM_INTERVAL);
    }
    true
}

/// Whether the same record could be stored later.
fn is_passing(reason: OtlpReason) -> bool {
    matches!(
        reason,
        OtlpReason::Dropped(DropCause::QueueFull | DropCause::Closed)
    )
}

/// What a client is told about a message that cannot be decoded.
pub(super) fn problem_of(error: &OtlpMessageError) -> Problem {
    match error {
        OtlpMessageError::TooLarge { .. } => {
            Problem::new(StatusCode::PAYLOAD_TOO_LARGE, error.to_string())
        }
        _ => Problem::bad_request(format!("the body is no OTLP message: {error}")),
    }
}
