//! Reading stored records in order, and reporting their number, size and location.

#[cfg(feature = "simulation")]
pub(crate) mod check;
pub(crate) mod excess;
pub(crate) mod inventory;
pub(crate) mod lookup;
pub(crate) mod order;
mod row_cursor;
pub(crate) mod series_scan;
pub(crate) mod space;
pub(crate) mod tally;
pub(crate) mod verify;
