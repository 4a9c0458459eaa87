pub(crate) mod disk;
pub(crate) mod fault;
pub(crate) mod open;
pub(crate) mod overlay;
pub(crate) mod reserve;
pub(crate) mod schema;

/// One file a schema version.
#[path = "../../../migrations/mod.rs"]
pub(crate) mod migrations;
