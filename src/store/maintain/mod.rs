//! Maintenance of a store: keeps it within its limits, its blocks full and its file small.

pub(crate) mod compact;
pub(crate) mod eviction;
pub(crate) mod maintenance;
pub(crate) mod merge;
pub(crate) mod overwrite;
pub(crate) mod summaries;
