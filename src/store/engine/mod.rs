//! The database file: opening, repairing and migrating it, and the disk beneath it.

pub(crate) mod disk;
pub(crate) mod fault;
pub(crate) mod open;
pub(crate) mod overlay;
pub(crate) mod reserve;
pub(crate) mod schema;

/// One file per schema version.
#[path = "../../../migrations/mod.rs"]
pub(crate) mod migrations;
