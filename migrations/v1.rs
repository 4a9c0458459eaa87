//! Version 1: records in two tiers, rows and blocks.

use super::Migration;
use crate::store::engine::fault::Fault;
use redb::{TableDefinition, WriteTransaction};

/// Creates the tables. Their names and types are written out here instead of taken from
/// `store::layout::tables`, because those change with the code and this version does not.
pub(super) const MIGRATION: Migration = Migration {
    description: "create the tables",
    apply,
};

fn apply(transaction: &WriteTransaction) -> Result<(), Fault> {
    transaction.open_table(TableDefinition::<(&str, u8), &[u8]>::new("series"))?;
    transaction.open_table(TableDefinition::<&[u8; 20], &[u8]>::new("rows"))?;
    transaction.open_table(TableDefinition::<&[u8; 21], &[u8; 54]>::new("blocks"))?;
    transaction.open_table(TableDefinition::<&[u8; 23], &[u8]>::new("pieces"))?;
    transaction.open_table(TableDefinition::<(&str, u8), &[u8]>::new("wipes"))?;
    transaction.open_table(TableDefinition::<(i64, &str, u8, u8), &[u8]>::new("losses"))?;
    transaction.open_table(TableDefinition::<u64, &[u8]>::new("writers"))?;
    Ok(())
}
