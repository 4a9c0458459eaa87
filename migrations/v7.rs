//! Version 7: rows of several records.

use super::Migration;

/// Changes nothing: a row of one record stays as it is. Programs before this version take a row of several for one
/// record, and refuse the database.
pub(super) const MIGRATION: Migration = Migration {
    description: "allow rows of several records",
    apply: |_| Ok(()),
};
