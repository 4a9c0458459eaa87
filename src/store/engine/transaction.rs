//! Write transactions that survive damage.
//!
//! redb trusts the pages of its file, and panics on some that are damaged. [`guarded`](super::fault::guarded)
//! catches that panic. But while it unwinds, the tables and the transaction are dropped, and if the panic came
//! while redb held a lock, each of them panics again, which would end the process. So each is dropped under
//! a guard of its own.

use crate::store::engine::{
    fault::{Fault, GuardedDrop},
    schema,
};
use redb::{Key, TableDefinition, Value};

/// A table, opened for writing.
pub(crate) type Table<'t, K, V> = GuardedDrop<redb::Table<'t, K, V>>;

/// A write transaction. It is rolled back when it is dropped.
pub(crate) struct WriteTransaction(GuardedDrop<redb::WriteTransaction>);

impl WriteTransaction {
    pub(crate) fn new(inner: redb::WriteTransaction) -> WriteTransaction {
        WriteTransaction(GuardedDrop::new(inner))
    }

    /// Opens a table, and creates it if it is missing.
    pub(crate) fn open_table<K: Key + 'static, V: Value + 'static>(
        &self,
        definition: TableDefinition<'_, K, V>,
    ) -> Result<Table<'_, K, V>, Fault> {
        Ok(GuardedDrop::new(self.0.open_table(definition)?))
    }

    /// Makes the changes durable.
    pub(crate) fn commit(self) -> Result<(), Fault> {
        schema::seal_meta(&self.0)?;
        Ok(self.0.into_inner().commit()?)
    }

    /// Takes all changes back.
    pub(crate) fn abort(self) -> Result<(), Fault> {
        Ok(self.0.into_inner().abort()?)
    }

    /// The number of pages that are in use. For tests.
    #[cfg(test)]
    pub(crate) fn allocated_pages(&self) -> Result<u64, Fault> {
        Ok(self.0.stats()?.allocated_pages())
    }
}
