//! The database file: opening, repairing and migrating it, and the disk beneath it.

pub(crate) mod disk;
pub(crate) mod fault;
pub(crate) mod open;
pub(crate) mod overlay;
pub(crate) mod reserve;
pub(crate) mod schema;
pub(crate) mod transaction;
