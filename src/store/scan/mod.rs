//! Reading what is stored: records in order, and accounts of what there is.

#[cfg(feature = "simulation")]
pub(crate) mod check;
pub(crate) mod inventory;
pub(crate) mod lookup;
pub(crate) mod order;
pub(crate) mod series_scan;
pub(crate) mod space;
