use super::Engine;
use crate::workload::{Recorded, Row, server_name, server_names};
use anyhow::{Context, Result};
use gridctl_telemetry::{
    Query, ServerName, Signal, Store, StoreOptions, Writer, WriterOptions, ingest::WhenFull,
    query::Direction,
};
use std::{ops::ControlFlow, path::Path, time::Duration};

/// Both cores of a small machine: the producers of a bench wait for the writer, as those of a daemon do not.
const COMMIT_THREADS: usize = 2;

/// The store of this repository, written to through its queue and writer thread, which redacts every
/// record.
#[derive(Debug)]
pub struct OurStore {
    store: Store,
    servers: Vec<ServerName>,
}

impl OurStore {
    /// The store, for operations that no peer has.
    #[must_use]
    pub fn store(&self) -> &Store {
        &self.store
    }

    /// Stores records in one commit, if the writer's limits allow that. Skips errors, which are
    /// committed at once.
    pub fn fill<R: Recorded>(&mut self, records: &mut Vec<Row<R>>) -> Result<()> {
        records.retain(|record| !record.record.is_urgent());
        let patient = WriterOptions::default()
            .commit_interval_max(Duration::from_secs(60))
            .commit_interval_min(Duration::from_secs(60));
        self.write(records, patient)?;
        Ok(())
    }

    /// Stores records without the filters that find them.
    pub fn ingest_bare<R: Recorded>(&mut self, records: &[Row<R>]) -> Result<()> {
        self.write(records, WriterOptions::default().summaries(false))?;
        Ok(())
    }

    /// Writes and flushes, and returns the number of commits.
    fn write<R: Recorded>(&self, records: &[Row<R>], options: WriterOptions) -> Result<u64> {
        let options = options
            .commit_threads(COMMIT_THREADS)
            .when_full(WhenFull::Block)
            .flush_timeout(Duration::from_secs(60 * 10));
        let (writer, guard) = Writer::start(&self.store, options)?;
        for record in records {
            let server = self.servers.get(record.server).context("a server")?;
            record.record.offer(&writer, server)?;
        }
        writer.flush()?;
        let commits = writer.stats().commits;
        guard.close()?;
        Ok(commits)
    }

    /// All log records of a server.
    pub fn query(&self, server: usize) -> Result<Query> {
        Ok(Query::new(Signal::Logs).server(server_name(server)?))
    }
}

impl Engine for OurStore {
    const NAME: &'static str = "gridctl-telemetry";

    fn open(folder: &Path) -> Result<OurStore> {
        Ok(OurStore {
            store: Store::open(folder, "bench", StoreOptions::default())?,
            servers: server_names()?,
        })
    }

    /// A `batch_max` of `usize::MAX` keeps the writer's default limits.
    fn ingest<R: Recorded>(&mut self, records: &[Row<R>], batch_max: usize) -> Result<u64> {
        let options = WriterOptions::default();
        if batch_max == usize::MAX {
            self.write(records, options)
        } else {
            self.write(records, options.batch_records_max(batch_max))
        }
    }

    /// Reads every value of a record, and passes the message on.
    fn scan(
        &self,
        server: usize,
        direction: Direction,
        visit: &mut dyn FnMut(&[u8]) -> ControlFlow<()>,
    ) -> Result<()> {
        let query = self.query(server)?.direction(direction);
        let mut scan = self.store.snapshot()?.scan(&query)?;
        while let Some(record) = scan.next()? {
            let log = std::hint::black_box(record.log()?.context("a log record")?);
            if visit(log.message.as_bytes()).is_break() {
                break;
            }
        }
        Ok(())
    }

    /// Unlike those of the peers, these records are decoded.
    fn last(&self, server: usize, count: usize) -> Result<usize> {
        let records = self.store.last(&self.query(server)?, count)?;
        Ok(std::hint::black_box(records).len())
    }

    fn close(self) -> Result<()> {
        Ok(())
    }
}
