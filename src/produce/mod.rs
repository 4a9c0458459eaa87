//! What produces records: the side of the daemon that is being observed.

pub(crate) mod redact;
