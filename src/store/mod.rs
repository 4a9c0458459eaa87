//! The database.

pub(crate) mod block;

/// The largest payload that is stored, in bytes.
pub(crate) const RECORD_BYTES_MAX: usize = 16 << 20;
