//! What produces records: the side of the daemon that is being observed.

mod log_router;

pub use self::log_router::{LogOptions, LogRouter, RouterFilter, RouterLayer};
