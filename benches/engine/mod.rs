//! The trait that all engines implement.

mod fjall_rows;
mod flat_files;
mod gzip_files;
mod our_store;
mod redb_rows;
mod sqlite;

pub use self::{
    fjall_rows::FjallRows, flat_files::FlatFiles, gzip_files::GzipFiles, our_store::OurStore,
    redb_rows::RedbRows, sqlite::Sqlite,
};

use crate::workload::{Recorded, Row};
use anyhow::Result;
use gridctl_telemetry::query::Direction;
use std::{ops::ControlFlow, path::Path};

/// An engine that stores records of one signal on the disk and reads them back.
///
/// The peers store a record's line, our store the record; each reads back the form it stored.
pub trait Engine: Sized {
    /// The name in the table.
    const NAME: &'static str;

    /// Opens what is in `folder`, or creates it.
    fn open(folder: &Path) -> Result<Self>;

    /// Stores records durably, at most `batch_max` in a commit, and returns the number of commits.
    fn ingest<R: Recorded>(&mut self, records: &[Row<R>], batch_max: usize) -> Result<u64>;

    /// Passes the stored records of a server to `visit`, ordered by time, in either direction.
    fn scan(
        &self,
        server: usize,
        direction: Direction,
        visit: &mut dyn FnMut(&[u8]) -> ControlFlow<()>,
    ) -> Result<()>;

    /// Reads the last `count` records of a server, and returns their number.
    fn last(&self, server: usize, count: usize) -> Result<usize> {
        let mut records = Vec::with_capacity(count);
        if count > 0 {
            self.scan(server, Direction::Backward, &mut |record| {
                records.push(record.to_vec());
                if records.len() < count {
                    ControlFlow::Continue(())
                } else {
                    ControlFlow::Break(())
                }
            })?;
        }
        records.reverse();
        Ok(std::hint::black_box(records).len())
    }

    /// Closes the engine as an orderly shutdown does.
    fn close(self) -> Result<()>;
}

/// A key of the engines that have keys and rows: records of one server sort by time, and records of
/// the same time by their order of arrival.
fn row_key(server: usize, timestamp: i64, sequence: u64) -> Result<[u8; 20]> {
    let mut key = Vec::with_capacity(20);
    key.extend_from_slice(&u32::try_from(server)?.to_be_bytes());
    key.extend_from_slice(&(timestamp.cast_unsigned() ^ (1 << 63)).to_be_bytes());
    key.extend_from_slice(&sequence.to_be_bytes());
    <[u8; 20]>::try_from(key).map_err(|_| anyhow::anyhow!("a key has 20 bytes"))
}

/// The keys of all records of a server.
fn row_keys(server: usize) -> Result<std::ops::RangeInclusive<[u8; 20]>> {
    Ok(row_key(server, i64::MIN, 0)?..=row_key(server, i64::MAX, u64::MAX)?)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::workload::{GatewayLogs, SERVERS};

    /// The records that an engine returns, forward.
    fn forward<E: Engine>(engine: &E, server: usize) -> Result<Vec<Vec<u8>>> {
        let mut found = Vec::new();
        engine.scan(server, Direction::Forward, &mut |record| {
            found.push(record.to_vec());
            ControlFlow::Continue(())
        })?;
        Ok(found)
    }

    fn returns_what_it_stored<E: Engine>(stores_lines: bool) -> Result<()> {
        let records = GatewayLogs::new(1).take(5000).collect::<Result<Vec<_>>>()?;
        let folder = tempfile::tempdir()?;
        let mut engine = E::open(folder.path())?;
        assert!(engine.ingest(&records, 1000)? >= 5, "{}", E::NAME);
        engine.close()?;
        let engine = E::open(folder.path())?;
        for server in 0..SERVERS.len() {
            let wanted: Vec<&[u8]> = records
                .iter()
                .filter(|record| record.server == server)
                .map(|record| &*record.line)
                .collect();
            let found = forward(&engine, server)?;
            assert_eq!(found.len(), wanted.len(), "{}", E::NAME);
            if stores_lines {
                assert_eq!(found, wanted, "{}", E::NAME);
            }
            let mut backward = Vec::new();
            engine.scan(server, Direction::Backward, &mut |record| {
                backward.push(record.to_vec());
                ControlFlow::Continue(())
            })?;
            backward.reverse();
            assert_eq!(found, backward, "{}", E::NAME);
            assert_eq!(engine.last(server, 100)?, 100, "{}", E::NAME);
            assert_eq!(engine.last(server, 5000)?, found.len(), "{}", E::NAME);
        }
        engine.close()
    }

    #[test]
    fn every_engine_returns_what_it_stored() -> Result<()> {
        returns_what_it_stored::<OurStore>(false)?;
        returns_what_it_stored::<RedbRows>(true)?;
        returns_what_it_stored::<Sqlite>(true)?;
        returns_what_it_stored::<FjallRows>(true)?;
        returns_what_it_stored::<FlatFiles>(true)?;
        returns_what_it_stored::<GzipFiles>(true)
    }
}
