//! The store that is forwarded, and the news that all signals wait for: records that arrived, a database that was
//! replaced, the end.

use gridctl_telemetry::{Result, Snapshot, Store, query::Arrivals};
use std::{
    sync::{Condvar, Mutex, MutexGuard, PoisonError},
    time::{Duration, Instant},
};

/// How often the store is looked at.
pub(crate) const LOOK_INTERVAL: Duration = Duration::from_secs(1);

/// What is known about the store.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(crate) struct News {
    /// How often the database was replaced.
    pub(crate) replaced: u64,
    /// The identity of the database; 0 before anything was stored.
    pub(crate) database: u64,
    /// Every stored record has a lower sequence.
    pub(crate) next_sequence: u64,
    /// Whether forwarding is to end.
    pub(crate) is_stopped: bool,
}

/// A store that is looked at.
#[derive(Debug)]
pub(crate) struct Source {
    arrivals: Mutex<Arrivals>,
    news: Mutex<News>,
    changed: Condvar,
}

impl Source {
    /// Fails like [`Store::arrivals`] and [`Store::snapshot`].
    pub(crate) fn new(store: &Store) -> Result<Source> {
        let source = Source {
            arrivals: Mutex::new(store.arrivals(0)?),
            news: Mutex::default(),
            changed: Condvar::new(),
        };
        source.look()?;
        Ok(source)
    }

    /// Looks whether records have arrived.
    ///
    /// Fails when the store cannot be read.
    pub(crate) fn look(&self) -> Result<()> {
        let arrival = lock(&self.arrivals).next_timeout(Duration::ZERO)?;
        if let Some(arrival) = arrival {
            let next_sequence = arrival.snapshot.next_sequence()?;
            let database = arrival.snapshot.database_id()?.unwrap_or_default();
            let mut news = lock(&self.news);
            news.replaced += u64::from(arrival.is_replaced);
            (news.database, news.next_sequence) = (database, next_sequence);
            drop(news);
            self.changed.notify_all();
        }
        Ok(())
    }

    /// A new snapshot; `None` while there is no database.
    pub(crate) fn snapshot(&self) -> Result<Option<Snapshot>> {
        lock(&self.arrivals).snapshot()
    }

    pub(crate) fn news(&self) -> News {
        *lock(&self.news)
    }

    pub(crate) fn is_stopped(&self) -> bool {
        self.news().is_stopped
    }

    pub(crate) fn stop(&self) {
        lock(&self.news).is_stopped = true;
        self.changed.notify_all();
    }

    /// Waits until there are other news than `known`.
    pub(crate) fn wait_for_other(&self, known: News) -> News {
        let news = lock(&self.news);
        let waited = self.changed.wait_while(news, |news| *news == known);
        *waited.unwrap_or_else(PoisonError::into_inner)
    }

    /// Waits for `duration`, or until the end. Returns whether forwarding is to end.
    pub(crate) fn sleep(&self, duration: Duration) -> bool {
        let until = Instant::now().checked_add(duration);
        let mut news = lock(&self.news);
        loop {
            let left = until.map_or(Duration::MAX, |it| {
                it.saturating_duration_since(Instant::now())
            });
            if news.is_stopped || left.is_zero() {
                return news.is_stopped;
            }
            let waited = self.changed.wait_timeout(news, left);
            news = waited.unwrap_or_else(PoisonError::into_inner).0;
        }
    }
}

pub(crate) fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
