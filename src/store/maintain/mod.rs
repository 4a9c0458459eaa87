pub(crate) mod compact;
pub(crate) mod eviction;
pub(crate) mod merge;
pub(crate) mod pass;
