//! Transactions that change the stored records, one kind per file.

pub(crate) mod append;
pub(crate) mod import;
pub(crate) mod recover;
pub(crate) mod seal;
pub(crate) mod wipe;
