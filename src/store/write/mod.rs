pub(crate) mod append;
pub(crate) mod import;
pub(crate) mod seal;
pub(crate) mod wipe;
