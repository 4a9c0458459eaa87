use super::{Engine, row_key, row_keys};
use crate::workload::{Recorded, Row};
use anyhow::Result;
use fjall::{Database, Keyspace, KeyspaceCreateOptions, PersistMode};
use gridctl_telemetry::query::Direction;
use std::{fmt, ops::ControlFlow, path::Path};

/// fjall with a row a record: a log-structured merge tree.
pub struct FjallRows {
    database: Database,
    rows: Keyspace,
    sequence: u64,
}

impl fmt::Debug for FjallRows {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("FjallRows").finish_non_exhaustive()
    }
}

impl Engine for FjallRows {
    const NAME: &'static str = "fjall, a row a record";

    fn open(folder: &Path) -> Result<FjallRows> {
        let database = Database::builder(folder).open()?;
        let rows = database.keyspace("rows", KeyspaceCreateOptions::default)?;
        Ok(FjallRows {
            database,
            rows,
            sequence: 0,
        })
    }

    fn ingest<R: Recorded>(&mut self, records: &[Row<R>], batch_max: usize) -> Result<u64> {
        let mut commits = 0;
        for batch in records.chunks(batch_max) {
            let mut write = self
                .database
                .batch()
                .durability(Some(PersistMode::SyncData));
            for record in batch {
                let timestamp = record.record.timestamp().unix_nanos();
                let key = row_key(record.server, timestamp, self.sequence)?;
                write.insert(&self.rows, key, &*record.line);
                self.sequence += 1;
            }
            write.commit()?;
            commits += 1;
        }
        Ok(commits)
    }

    fn scan(
        &self,
        server: usize,
        direction: Direction,
        visit: &mut dyn FnMut(&[u8]) -> ControlFlow<()>,
    ) -> Result<()> {
        let mut range = self.rows.range(row_keys(server)?);
        while let Some(row) = match direction {
            Direction::Forward => range.next(),
            Direction::Backward => range.next_back(),
        } {
            if visit(&row.value()?).is_break() {
                break;
            }
        }
        Ok(())
    }

    fn close(self) -> Result<()> {
        Ok(())
    }
}
