//! The schema, version by version.
//!
//! Each file leads from the version before it to its own, and `MIGRATIONS` lists them in order: the
//! place in the list is the version. A file that has been released is never changed: databases out
//! there were made by it. `fixtures/` keeps a database of every version, which a test opens and
//! reads with the present code.

mod v1;
mod v2;

use crate::store::Fault;
use redb::WriteTransaction;

/// One step.
pub(crate) struct Migration {
    /// What the step does, for whoever waits for it.
    pub(crate) description: &'static str,
    /// Does it, inside the transaction that also writes the new version.
    pub(crate) apply: fn(&WriteTransaction) -> Result<(), Fault>,
}

/// Every step, from an empty file to the present version.
pub(crate) const MIGRATIONS: &[Migration] = &[v1::MIGRATION, v2::MIGRATION];
