//! The schema, version by version.
//!
//! Each file migrates a database from the previous version to its own. `MIGRATIONS` lists them in
//! order: the position in the list is the version. A released file is never changed, because databases
//! were made by it. `fixtures/` has a database of every version, which a test opens and reads with the
//! current code.

mod v1;
mod v2;
mod v3;
mod v4;
mod v5;
mod v6;
mod v7;
mod v8;

use crate::store::engine::schema::Migration;

/// All migrations, from an empty file to the current version.
pub(crate) const MIGRATIONS: &[Migration] = &[
    v1::MIGRATION,
    v2::MIGRATION,
    v3::MIGRATION,
    v4::MIGRATION,
    v5::MIGRATION,
    v6::MIGRATION,
    v7::MIGRATION,
    v8::MIGRATION,
];
