//! Version 8: blocks of spans without what follows from others of their trace.

use super::Migration;

/// Changes nothing: the blocks stay as they are, and get the new form when they are merged. Programs before this
/// version would report new blocks as damaged, and refuse the database in place of that.
pub(super) const MIGRATION: Migration = Migration {
    description: "allow blocks of spans that refer to each other",
    apply: |_| Ok(()),
};
