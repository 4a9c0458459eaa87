//! Version 4: summaries of blocks.

use super::Migration;
use crate::store::engine::fault::Fault;
use redb::{TableDefinition, WriteTransaction};

/// Creates the table of summaries. The blocks that there are get theirs when they are merged or the
/// database is compacted, because reading all of them would take long; until then, they are read.
pub(super) const MIGRATION: Migration = Migration {
    description: "create the table of summaries",
    apply,
};

fn apply(transaction: &WriteTransaction) -> Result<(), Fault> {
    transaction.open_table(TableDefinition::<&[u8; 21], &[u8]>::new("summaries"))?;
    Ok(())
}
