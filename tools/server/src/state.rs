//! What all handlers share.

use crate::problem::Problem;
use gridctl_telemetry::{Snapshot, Store, Writer};
use std::sync::Arc;
use tokio::{sync::Semaphore, task};

/// The number of reads that run at once. More would only compete for the processor and hold memory.
const READS_MAX: usize = 4;

/// A store with its writer, as handlers use it. Clones share both.
#[derive(Clone)]
pub struct Server {
    shared: Arc<Shared>,
}

struct Shared {
    store: Store,
    writer: Writer,
    reads: Semaphore,
}

impl Server {
    /// Serves `store`. What is received goes to `writer`, which is that of the daemon.
    pub fn new(store: Store, writer: Writer) -> Self {
        let reads = Semaphore::new(READS_MAX);
        Self {
            shared: Arc::new(Shared {
                store,
                writer,
                reads,
            }),
        }
    }

    pub(crate) fn store(&self) -> &Store {
        &self.shared.store
    }

    pub(crate) fn writer(&self) -> &Writer {
        &self.shared.writer
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
        let _permit = self.shared.reads.acquire().await;
        let store = self.shared.store.clone();
        task::spawn_blocking(move || read(&store.snapshot()?))
            .await
            .map_err(|_| Problem::internal("a read ended early"))?
    }
}
