use super::Engine;
use crate::workload::{Recorded, Row};
use anyhow::Result;
use gridctl_telemetry::query::Direction;
use rusqlite::{Connection, params};
use std::{ops::ControlFlow, path::Path};

/// `SQLite` in WAL mode, every commit synced.
#[derive(Debug)]
pub struct Sqlite {
    connection: Connection,
    sequence: i64,
}

impl Engine for Sqlite {
    const NAME: &'static str = "SQLite, a row a record";

    fn open(folder: &Path) -> Result<Sqlite> {
        let connection = Connection::open(folder.join("rows.sqlite"))?;
        connection.pragma_update(None, "journal_mode", "WAL")?;
        connection.pragma_update(None, "synchronous", "FULL")?;
        // KiB, when negative: large enough that no page is read twice.
        connection.pragma_update(None, "cache_size", -65_536)?;
        connection.execute_batch(SCHEMA)?;
        Ok(Sqlite {
            connection,
            sequence: 0,
        })
    }

    fn ingest<R: Recorded>(&mut self, records: &[Row<R>], batch_max: usize) -> Result<u64> {
        let mut commits = 0;
        for batch in records.chunks(batch_max) {
            let transaction = self.connection.transaction()?;
            let mut insert = transaction.prepare_cached(
                "INSERT INTO logs (server, timestamp, sequence, line) VALUES (?1, ?2, ?3, ?4)",
            )?;
            for record in batch {
                let server = i64::try_from(record.server)?;
                let timestamp = record.record.timestamp().unix_nanos();
                insert.execute(params![server, timestamp, self.sequence, &*record.line])?;
                self.sequence += 1;
            }
            drop(insert);
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
        let mut select = self.connection.prepare_cached(match direction {
            Direction::Forward => {
                "SELECT line FROM logs WHERE server = ?1 ORDER BY timestamp, sequence"
            }
            Direction::Backward => {
                "SELECT line FROM logs WHERE server = ?1 ORDER BY timestamp DESC, sequence DESC"
            }
        })?;
        let mut rows = select.query(params![i64::try_from(server)?])?;
        while let Some(row) = rows.next()? {
            if visit(row.get_ref(0)?.as_bytes()?).is_break() {
                break;
            }
        }
        Ok(())
    }

    fn close(self) -> Result<()> {
        self.connection.close().map_err(|(_, error)| error.into())
    }
}

/// Clustered by the key of the queries.
const SCHEMA: &str = "CREATE TABLE IF NOT EXISTS logs (
    server INTEGER NOT NULL,
    timestamp INTEGER NOT NULL,
    sequence INTEGER NOT NULL,
    line BLOB NOT NULL,
    PRIMARY KEY (server, timestamp, sequence)
) WITHOUT ROWID";
