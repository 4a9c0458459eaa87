//! The size of a database on the disk, and how much of that is in use.

use crate::{
    error::{Error, Result},
    home::StackPath,
    platform::{self, allocated_bytes},
    store::{
        engine::{fault::Fault, reserve},
        layout::{
            footprint::PAGE_BYTES,
            tables::{
                BLOCK_CHUNKS, BLOCKS, DAMAGE, EVICTED, LIMITS, LOSSES, MERGE_QUEUE, META, ROWS,
                SERIES, SUMMARIES, TOTALS, WIPES, WRITERS, meta,
            },
        },
    },
};
use redb::{ReadTransaction, ReadableTable, ReadableTableMetadata, TableDefinition, TableHandle};
use std::fs::Metadata;

/// The size of a stack's database on the disk.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, serde::Serialize)]
#[serde(rename_all = "camelCase")]
#[non_exhaustive]
pub struct DiskUsage {
    /// The length of the file, in bytes. It doubles as the file grows, and most of the new part is a
    /// hole.
    pub file_bytes: u64,
    /// The disk blocks of the file and of the reserve beside it, in bytes.
    pub used_bytes: u64,
}

/// The size of a stack's telemetry on the disk, and what its parts are used for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, serde::Serialize)]
#[non_exhaustive]
#[serde(rename_all = "camelCase")]
pub struct Space {
    /// The disk blocks of stored records, in bytes.
    pub live_bytes: u64,
    /// The disk blocks of deleted records, in bytes. New records reuse them before the file grows;
    /// [`Store::compact`](crate::Store::compact) returns them to the file system.
    pub free_bytes: u64,
    /// The reserve beside the database, which lets deletions succeed on a full disk, in bytes.
    pub reserve_bytes: u64,
    /// All disk blocks together, in bytes, without files that were set aside: limits are not about them.
    pub used_bytes: u64,
    /// The disk blocks of damaged files that were set aside beside the database, in bytes; see
    /// [`list_set_aside`](crate::home::list_set_aside).
    pub set_aside_bytes: u64,
    /// The length of the database file, holes included, in bytes.
    pub file_bytes: u64,
    /// The limit of all disk blocks together, in bytes, see
    /// [`RetentionPolicy::max_total_bytes`](crate::config::RetentionPolicy::max_total_bytes); absent without a
    /// limit.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub limit_bytes: Option<u64>,
}

/// The file system that holds a stack's telemetry.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, serde::Serialize)]
#[serde(rename_all = "camelCase")]
#[non_exhaustive]
pub struct FileSystem {
    /// Its size, in bytes.
    pub total_bytes: u64,
    /// The space that this user may still fill, in bytes. A quota of the user may allow less.
    pub available_bytes: u64,
}

/// The file system of the database in `place`.
pub(crate) fn file_system(place: &StackPath) -> Result<FileSystem> {
    let path = place.database();
    let (total_bytes, available_bytes) = platform::file_system_bytes(&path)
        .map_err(|error| Error::io("examine the file system of", &path, error))?;
    Ok(FileSystem {
        total_bytes,
        available_bytes,
    })
}

/// The size on the disk of the database in `place`.
pub(crate) fn disk_usage(place: &StackPath) -> Result<DiskUsage> {
    let database = examine_file(place)?;
    Ok(DiskUsage {
        file_bytes: database.len(),
        used_bytes: allocated_bytes(&database) + reserve::bytes(place),
    })
}

/// The size on the disk of the database in `place`, whose tables take `counted_bytes`, see
/// [`live_bytes`].
pub(crate) fn measure(
    place: &StackPath,
    counted_bytes: u64,
    limit_bytes: Option<u64>,
) -> Result<Space> {
    let database = examine_file(place)?;
    let blocks_bytes = allocated_bytes(&database);
    // In a tiny database, `counted_bytes` can exceed the disk blocks by some pages.
    let live_bytes = counted_bytes.min(blocks_bytes);
    let reserve_bytes = reserve::bytes(place);
    Ok(Space {
        live_bytes,
        free_bytes: blocks_bytes.saturating_sub(live_bytes),
        reserve_bytes,
        used_bytes: blocks_bytes + reserve_bytes,
        set_aside_bytes: (place.list_set_aside()?.iter())
            .map(|it| it.size_bytes)
            .sum(),
        file_bytes: database.len(),
        limit_bytes,
    })
}

fn examine_file(place: &StackPath) -> Result<Metadata> {
    let path = place.database();
    std::fs::metadata(&path).map_err(|error| Error::io("examine", &path, error))
}

/// The size of the pages that tables occupy, in bytes.
pub(crate) fn live_bytes(transaction: &ReadTransaction) -> Result<u64, Fault> {
    let blocks = transaction
        .open_table(META)?
        .get(meta::BLOCK_DISK_BYTES)?
        .map_or(0, |bytes| bytes.value());
    // The tables of blocks are counted as blocks are written and deleted; redb would read all of their
    // pages to count them.
    let mut bytes = blocks + ENGINE_PAGES * PAGE_BYTES as u64;
    bytes += table_bytes(transaction, META)?;
    bytes += table_bytes(transaction, SERIES)?;
    bytes += table_bytes(transaction, ROWS)?;
    bytes += table_bytes(transaction, MERGE_QUEUE)?;
    bytes += table_bytes(transaction, WIPES)?;
    bytes += table_bytes(transaction, TOTALS)?;
    bytes += table_bytes(transaction, LIMITS)?;
    bytes += table_bytes(transaction, LOSSES)?;
    bytes += table_bytes(transaction, EVICTED)?;
    bytes += table_bytes(transaction, WRITERS)?;
    bytes += table_bytes(transaction, DAMAGE)?;
    Ok(bytes)
}

/// The size of the pages of one table, in bytes.
fn table_bytes<K: redb::Key + 'static, V: redb::Value + 'static>(
    transaction: &ReadTransaction,
    definition: TableDefinition<'_, K, V>,
) -> Result<u64, Fault> {
    // redb counts pages by a recursion that follows them wherever they lead, and a damaged page that
    // leads back to itself would end the process.
    walk(transaction, definition)?;
    let stats = transaction.open_table(definition)?.stats()?;
    Ok(stats.stored_bytes() + stats.metadata_bytes() + stats.fragmented_bytes())
}

/// Reads a table from its first entry to its last, which redb bounds: afterwards, no page is known to lead
/// back to itself. Fails when the entries are not in order, or not as many as there should be.
fn walk<K: redb::Key + 'static, V: redb::Value + 'static>(
    transaction: &ReadTransaction,
    definition: TableDefinition<'_, K, V>,
) -> Result<(), Fault> {
    let table = transaction.open_table(definition)?;
    let wrong = |what: &str| {
        let name = definition.name();
        Err(Fault::Corrupt(format!("the table {name}: {what}")))
    };
    let length = table.len()?;
    let mut count = 0;
    let mut last: Option<Vec<u8>> = None;
    for entry in table.iter()? {
        let key = entry?.0;
        let key = key.value();
        let key = K::as_bytes(&key);
        let key = key.as_ref();
        if last
            .as_ref()
            .is_some_and(|last| K::compare(last, key).is_ge())
        {
            return wrong("its keys are not in order");
        }
        let last = last.get_or_insert_default();
        last.clear();
        last.extend_from_slice(key);
        count += 1;
        if count > length {
            break;
        }
    }
    if count != length {
        return wrong("it has not as many entries as it should");
    }
    Ok(())
}

/// Reads all tables from their first entries to their last. Fails when one is not whole.
pub(crate) fn walk_all(transaction: &ReadTransaction) -> Result<(), Fault> {
    live_bytes(transaction)?;
    walk(transaction, BLOCKS)?;
    walk(transaction, BLOCK_CHUNKS)?;
    walk(transaction, SUMMARIES)
}

/// The pages used by redb itself: the list of free pages, and the roots of tables.
const ENGINE_PAGES: u64 = 16;

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        ingest::{WhenFull, Writer, WriterOptions},
        record::{Level, LogRecord, ServerName},
        store::{Store, StoreOptions, WipeScope},
        time::Timestamp,
    };

    /// Stores `records` records for each server in turn, with text that does not compress.
    fn fill(store: &Store, options: &WriterOptions, servers: u64, rounds: u64, records: u64) {
        let options = options.clone().when_full(WhenFull::Block);
        let (writer, guard) = Writer::start(store, options).unwrap();
        let mut random = random_ids(servers);
        for round in 0..rounds {
            for server in 0..servers {
                let name = ServerName::new(format!("server {server}")).unwrap();
                for number in 0..records {
                    let at = Timestamp::from_unix_nanos((round * records + number).cast_signed());
                    let record = LogRecord::new(at, Level::INFO, "a line of some length")
                        .with("trace_id", format!("{:032x}", random()))
                        .with("number", number);
                    writer.log(&name, &record).unwrap();
                }
            }
            writer.flush().unwrap();
        }
        guard.close().unwrap();
    }

    fn random_ids(seed: u64) -> impl FnMut() -> u128 {
        let mut state = u128::from(seed) + 1;
        move || {
            state = state.wrapping_mul(0xda94_2042_e4dd_58b5_0000_0001_2345_6789) ^ (state >> 65);
            state
        }
    }

    #[test]
    fn live_bytes_are_what_the_engine_has_allocated() {
        let never = std::time::Duration::from_secs(3600);
        let default = WriterOptions::default()
            .commit_interval_min(never)
            .commit_interval_max(never);
        let tiny = default.clone().tiering(40, 25, 16);
        for (what, options, servers, rounds, records) in [
            ("blocks", &default, 5, 8, 5000),
            ("rows", &default, 3, 3, 1000),
            ("both", &default, 20, 20, 300),
            ("small blocks", &tiny, 3, 100, 30),
        ] {
            let home = tempfile::tempdir().unwrap();
            let store = Store::open(home.path(), "stack", StoreOptions::default()).unwrap();
            fill(&store, options, servers, rounds, records);
            for wiped in [false, true] {
                if wiped {
                    let scope =
                        WipeScope::everything().server(ServerName::new("server 1").unwrap());
                    store.wipe(&scope).unwrap();
                }
                let writer = store.writer().unwrap();
                // Pages freed by a commit stay allocated until later commits release them.
                for _ in 0..4 {
                    let touch =
                        |transaction: &crate::store::engine::transaction::WriteTransaction| {
                            transaction.open_table(META)?.insert("touched", 1)?;
                            Ok(())
                        };
                    writer.transact("touch", touch).unwrap();
                }
                let allocated = writer
                    .transact("examine", |transaction| {
                        Ok(transaction.allocated_pages()? * PAGE_BYTES as u64)
                    })
                    .unwrap();
                let live = {
                    let snapshot = store.snapshot().unwrap();
                    let view = snapshot.view();
                    view.read(|| live_bytes(view.transaction())).unwrap()
                };
                // And a few pages, which only matter for the smallest database.
                let allowed = allocated * 3 / 100 + 8 * PAGE_BYTES as u64;
                assert!(
                    live.abs_diff(allocated) <= allowed,
                    "{what}: {live} bytes are live, {allocated} are allocated"
                );
                let space = store.space().unwrap();
                assert_eq!(space.live_bytes, live);
                assert!(
                    space.used_bytes >= allocated && space.free_bytes > 0,
                    "{space:?}"
                );
            }
        }
    }

    /// Adds entries of some hundred bytes to a table, and checks that they are counted.
    fn counts<K: redb::Key + 'static>(
        store: &Store,
        table: TableDefinition<'_, K, &'static [u8]>,
        key: impl for<'k> Fn(i64, &'k str) -> K::SelfType<'k>,
    ) {
        let live_bytes = || {
            let snapshot = store.snapshot().unwrap();
            let view = snapshot.view();
            view.read(|| live_bytes(view.transaction())).unwrap()
        };
        let before = live_bytes();
        let add = |transaction: &crate::store::engine::transaction::WriteTransaction| {
            let mut table = transaction.open_table(table)?;
            for number in 1000..1500 {
                let name = format!("server {number}");
                table.insert(key(number, &name), [7_u8; 400].as_slice())?;
            }
            Ok(())
        };
        store.writer().unwrap().transact("fill", add).unwrap();
        let added = live_bytes().saturating_sub(before);
        // Pages are partly empty.
        assert!(
            (200_000..600_000).contains(&added),
            "{}: {added}",
            table.name()
        );
    }

    #[test]
    fn every_table_is_counted() {
        let home = tempfile::tempdir().unwrap();
        let store = Store::open(home.path(), "stack", StoreOptions::default()).unwrap();
        counts(&store, SERIES, |_, name| (name, 0));
        counts(&store, WIPES, |_, name| (name, 0));
        counts(&store, TOTALS, |_, name| name);
        counts(&store, LIMITS, |_, name| name);
        counts(&store, LOSSES, |number, name| (number, name, 0, 0));
        counts(&store, EVICTED, |_, name| (name, 0));
        counts(&store, WRITERS, |number, _| number.cast_unsigned());
        counts(&store, DAMAGE, |number, _| number.cast_unsigned());
    }
}
