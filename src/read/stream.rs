//! Following a store as an asynchronous stream, on any executor.

use super::{Follow, FollowHandle, StoredRecord};
use crate::error::{Error, Result};
use futures_core::Stream;
use std::{
    collections::VecDeque,
    path::Path,
    pin::Pin,
    sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError},
    task::{Context, Poll, Waker},
    time::Duration,
};

/// Maximum number of records that wait to be taken.
const WAITING_RECORDS_MAX: usize = 64;
/// How long the thread waits for room before it looks whether it was ended.
const ROOM_INTERVAL: Duration = Duration::from_millis(250);

/// The records of a query as they arrive, as a stream: see [`Follow::into_stream`].
///
/// Dropping it ends its thread.
#[derive(Debug)]
pub struct FollowStream {
    shared: Arc<Shared>,
    handle: FollowHandle,
}

#[derive(Debug, Default)]
struct Shared {
    state: Mutex<State>,
    taken: Condvar,
}

#[derive(Debug, Default)]
struct State {
    waiting: VecDeque<Result<StoredRecord>>,
    waker: Option<Waker>,
    is_ended: bool,
}

impl Follow {
    /// Turns this into a stream, which a thread of its own feeds: reading a store blocks. At most 64
    /// records wait to be taken. The stream ends when [`Follow::handle`] ends it.
    ///
    /// Fails with [`Error::Io`] when the thread cannot be started.
    pub fn into_stream(self) -> Result<FollowStream> {
        let shared = Arc::new(Shared::default());
        let handle = self.handle();
        let feeding = Arc::clone(&shared);
        std::thread::Builder::new()
            .name("telemetry-follow".to_owned())
            .spawn(move || feeding.feed(self))
            .map_err(|error| {
                Error::io("start a thread that follows", Path::new("telemetry"), error)
            })?;
        Ok(FollowStream { shared, handle })
    }
}

impl FollowStream {
    /// The handle that ends the stream.
    #[must_use]
    pub fn handle(&self) -> FollowHandle {
        self.handle.clone()
    }
}

impl Shared {
    fn feed(&self, follow: Follow) {
        let handle = follow.handle();
        for record in follow {
            let mut state = self.lock();
            while state.waiting.len() >= WAITING_RECORDS_MAX && !handle.is_stopped() {
                let waited = self.taken.wait_timeout(state, ROOM_INTERVAL);
                state = waited.unwrap_or_else(PoisonError::into_inner).0;
            }
            state.waiting.push_back(record);
            wake(state);
        }
        let mut state = self.lock();
        state.is_ended = true;
        wake(state);
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Wakes the task after the lock is released: it may run at once, and needs the lock.
fn wake(mut state: MutexGuard<'_, State>) {
    let waker = state.waker.take();
    drop(state);
    if let Some(waker) = waker {
        waker.wake();
    }
}

impl Stream for FollowStream {
    type Item = Result<StoredRecord>;

    fn poll_next(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        let mut state = self.shared.lock();
        if let Some(record) = state.waiting.pop_front() {
            self.shared.taken.notify_one();
            return Poll::Ready(Some(record));
        }
        if state.is_ended {
            return Poll::Ready(None);
        }
        state.waker = Some(context.waker().clone());
        Poll::Pending
    }
}

impl Drop for FollowStream {
    fn drop(&mut self) {
        self.handle.stop();
        self.shared.taken.notify_one();
    }
}
