//! Changing what is stored: each file is one kind of transaction.

pub(crate) mod append;
pub(crate) mod import;
pub(crate) mod seal;
pub(crate) mod wipe;
