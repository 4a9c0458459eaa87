//! The schema, version by version.
//!
//! Each file migrates a database from the previous version to its own. `MIGRATIONS` lists them in
//! order: the position in the list is the version. A released file is never changed, because databases
//! were made by it. `fixtures/` has a database of every version, which a test opens and reads with the
//! current code.

mod v1;
mod v2;

use crate::store::Fault;
use redb::WriteTransaction;

/// The migration to one version.
pub(crate) struct Migration {
    /// The change, as shown to a user who waits for it.
    pub(crate) description: &'static str,
    /// Makes the change, inside the transaction that also writes the new version.
    pub(crate) apply: fn(&WriteTransaction) -> Result<(), Fault>,
}

/// All migrations, from an empty file to the current version.
pub(crate) const MIGRATIONS: &[Migration] = &[v1::MIGRATION, v2::MIGRATION];
