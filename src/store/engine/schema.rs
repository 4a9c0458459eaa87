//! The schema version, and the migration from older versions.

use crate::store::engine::fault::Fault;
use redb::{
    Database, ReadTransaction, ReadableDatabase, ReadableTable, TableDefinition, TableHandle,
    WriteTransaction,
};
use xxhash_rust::xxh3::xxh3_64;

/// The migration to one version.
pub(crate) struct Migration {
    /// A description of the change, shown to users while it runs.
    pub(crate) description: &'static str,
    /// Makes the change, inside the transaction that also writes the new version.
    pub(crate) apply: fn(&WriteTransaction) -> Result<(), Fault>,
}

/// `meta` has had this name and these types in every version, and must keep them: programs of all
/// versions read the schema version from it first.
pub(crate) const META: TableDefinition<'_, &str, u64> = TableDefinition::new("meta");
/// The name of the entry of [`META`] with the schema version.
pub(crate) const SCHEMA_VERSION: &str = "schema_version";

/// The name of the entry of [`META`] with the checksum of all others. Databases before version 5 have
/// none.
const META_CHECKSUM: &str = "checksum";

/// The checksum of all entries of [`META`] except itself.
fn meta_checksum(meta: &impl ReadableTable<&'static str, u64>) -> Result<u64, Fault> {
    let mut bytes = Vec::with_capacity(1024);
    for entry in meta.iter()? {
        let (name, value) = entry?;
        if name.value() != META_CHECKSUM {
            bytes.extend_from_slice(name.value().as_bytes());
            bytes.push(0);
            bytes.extend_from_slice(&value.value().to_le_bytes());
        }
    }
    Ok(xxh3_64(&bytes))
}

/// Stores the checksum of [`META`], at the end of a transaction.
pub(crate) fn seal_meta(transaction: &WriteTransaction) -> Result<(), Fault> {
    let mut meta = transaction.open_table(META)?;
    let checksum = meta_checksum(&meta)?;
    let stored = meta.get(META_CHECKSUM)?.map(|stored| stored.value());
    if stored != Some(checksum) {
        meta.insert(META_CHECKSUM, checksum)?;
    }
    Ok(())
}

/// Fails when an entry of [`META`] is damaged: a wrong clock would expire all records, and a wrong
/// sequence would give two records the same number.
pub(crate) fn check_meta(meta: &impl ReadableTable<&'static str, u64>) -> Result<(), Fault> {
    let stored = meta.get(META_CHECKSUM)?.map(|stored| stored.value());
    if stored != Some(meta_checksum(meta)?) {
        let what = "the counters of the database: the checksum does not match";
        return Err(Fault::Corrupt(what.to_owned()));
    }
    Ok(())
}

/// What the tables of a file tell about it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Found {
    /// No tables: the database was just created.
    Empty,
    /// A database of this crate.
    Version(u64),
    /// A redb database of another program.
    Foreign,
}

/// A step of a migration. Passed to the callback of
/// [`StoreOptions::on_migration`](crate::StoreOptions::on_migration) before the step.
#[derive(Debug, Clone, Copy, PartialEq, Eq, serde::Serialize)]
#[serde(rename_all = "camelCase")]
#[non_exhaustive]
pub struct MigrationStep {
    /// The schema version after this step.
    pub version: u64,
    /// The schema version after the last step.
    pub target: u64,
    /// A description of the step.
    pub description: &'static str,
}

/// Finds out what a file is, for a program that writes version `current`.
pub(crate) fn find(transaction: &ReadTransaction, current: u64) -> Result<Found, Fault> {
    let tables: Vec<String> = transaction
        .list_tables()?
        .map(|table| table.name().to_owned())
        .collect();
    if tables.is_empty() && transaction.list_multimap_tables()?.next().is_none() {
        return Ok(Found::Empty);
    }
    match transaction.open_table(META) {
        Ok(table) => {
            let version = table.get(SCHEMA_VERSION)?.map(|version| version.value());
            // A damaged version would migrate tables that are migrated already. What a newer program
            // writes is not judged.
            if version.is_none_or(|version| version < current)
                && table.get(META_CHECKSUM)?.is_some()
            {
                check_meta(&table)?;
            }
            Ok(version.map_or(Found::Foreign, Found::Version))
        }
        Err(
            redb::TableError::TableDoesNotExist(_)
            | redb::TableError::TableTypeMismatch { .. }
            | redb::TableError::TableIsMultimap(_),
        ) => Ok(Found::Foreign),
        Err(error) => Err(error.into()),
    }
}

/// Migrates `database` through `migrations`. Each step and its version number are one transaction,
/// so after an interruption the version matches the tables.
pub(crate) fn migrate(
    database: &Database,
    migrations: &[Migration],
    progress: &dyn Fn(MigrationStep),
) -> Result<(), Fault> {
    let target = migrations.len() as u64;
    // A write transaction would wait for those of other processes.
    if find(&database.begin_read()?, target)? == Found::Version(target) {
        return Ok(());
    }
    let mut is_new = false;
    for (migration, version) in migrations.iter().zip(1..) {
        let transaction = database.begin_write()?;
        {
            let mut table = transaction.open_table(META)?;
            let found = table
                .get(SCHEMA_VERSION)?
                .map_or(0, |version| version.value());
            // Read inside the transaction, because another process may have migrated in the
            // meantime.
            if found >= version {
                continue;
            }
            is_new |= found == 0;
            if !is_new {
                progress(MigrationStep {
                    version,
                    target,
                    description: migration.description,
                });
            }
            table.insert(SCHEMA_VERSION, version)?;
        }
        (migration.apply)(&transaction)?;
        seal_meta(&transaction)?;
        transaction.commit()?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::cell::RefCell;

    const NAMES: TableDefinition<'_, u64, &str> = TableDefinition::new("names");

    fn database() -> Database {
        Database::builder()
            .create_with_backend(redb::backends::InMemoryBackend::new())
            .unwrap()
    }

    fn version(database: &Database) -> Found {
        find(&database.begin_read().unwrap(), 1).unwrap()
    }

    fn step(apply: fn(&redb::WriteTransaction) -> Result<(), Fault>) -> Migration {
        Migration {
            description: "a step",
            apply,
        }
    }

    #[test]
    fn migrates_step_by_step_and_says_so() {
        let database = database();
        assert_eq!(version(&database), Found::Empty);
        let mut steps = vec![step(|transaction| {
            transaction.open_table(NAMES)?.insert(1, "one")?;
            Ok(())
        })];
        let seen = RefCell::new(Vec::new());
        let progress = |step: MigrationStep| seen.borrow_mut().push((step.version, step.target));
        migrate(&database, &steps, &progress).unwrap();
        assert_eq!(version(&database), Found::Version(1));
        assert!(
            seen.borrow().is_empty(),
            "a new database has nothing to migrate"
        );

        for _ in 0..2 {
            steps.push(step(|transaction| {
                let mut names = transaction.open_table(NAMES)?;
                let count = names.iter()?.count() as u64;
                names.insert(count + 1, "more")?;
                Ok(())
            }));
        }
        migrate(&database, &steps, &progress).unwrap();
        migrate(&database, &steps, &progress).unwrap();
        assert_eq!(version(&database), Found::Version(3));
        assert_eq!(*seen.borrow(), [(2, 3), (3, 3)]);

        seen.borrow_mut().clear();
        let new = self::database();
        migrate(&new, &steps, &progress).unwrap();
        assert_eq!(version(&new), Found::Version(3));
        assert!(seen.borrow().is_empty(), "nor when it takes several steps");
        let names = database.begin_read().unwrap().open_table(NAMES).unwrap();
        assert_eq!(names.iter().unwrap().count(), 3);
    }

    #[test]
    fn a_failed_step_leaves_the_version_before_it() {
        let database = database();
        let steps = [
            step(|_| Ok(())),
            step(|transaction| {
                transaction.open_table(NAMES)?.insert(1, "half-done")?;
                Err(Fault::Corrupt("on purpose".into()))
            }),
        ];
        assert!(migrate(&database, &steps, &|_| {}).is_err());
        assert_eq!(version(&database), Found::Version(1));
        assert!(database.begin_read().unwrap().open_table(NAMES).is_err());
    }

    #[test]
    fn somebody_elses_database_is_recognised() {
        let database = database();
        let transaction = database.begin_write().unwrap();
        transaction
            .open_table(NAMES)
            .unwrap()
            .insert(1, "theirs")
            .unwrap();
        transaction.commit().unwrap();
        assert_eq!(version(&database), Found::Foreign);
    }
}
