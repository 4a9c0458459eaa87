use super::{Engine, row_key, row_keys};
use crate::workload::{Recorded, Row};
use anyhow::Result;
use gridctl_telemetry::query::Direction;
use redb::{ConcurrencyMode, Database, ReadableDatabase, TableDefinition};
use std::{ops::ControlFlow, path::Path};

const ROWS: TableDefinition<'_, &[u8; 20], &[u8]> = TableDefinition::new("rows");

/// redb with a row a record, in the same multi-process mode as our store.
#[derive(Debug)]
pub struct RedbRows {
    database: Database,
    sequence: u64,
}

impl Engine for RedbRows {
    const NAME: &'static str = "redb, a row a record";

    fn open(folder: &Path) -> Result<RedbRows> {
        let database = Database::builder()
            .set_concurrency_mode(ConcurrencyMode::MultiWriter)
            .create(folder.join("rows.redb"))?;
        Ok(RedbRows {
            database,
            sequence: 0,
        })
    }

    fn ingest<R: Recorded>(&mut self, records: &[Row<R>], batch_max: usize) -> Result<u64> {
        let mut commits = 0;
        for batch in records.chunks(batch_max) {
            let transaction = self.database.begin_write()?;
            let mut rows = transaction.open_table(ROWS)?;
            for record in batch {
                let timestamp = record.record.timestamp().unix_nanos();
                let key = row_key(record.server, timestamp, self.sequence)?;
                rows.insert(&key, &*record.line)?;
                self.sequence += 1;
            }
            drop(rows);
            transaction.commit()?;
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
        let rows = self.database.begin_read()?.open_table(ROWS)?;
        let keys = row_keys(server)?;
        let mut range = rows.range::<&[u8; 20]>(keys.start()..=keys.end())?;
        while let Some(row) = match direction {
            Direction::Forward => range.next(),
            Direction::Backward => range.next_back(),
        } {
            if visit(row?.1.value()).is_break() {
                break;
            }
        }
        Ok(())
    }

    fn close(self) -> Result<()> {
        Ok(())
    }
}
