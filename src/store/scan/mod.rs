#[cfg(feature = "simulation")]
pub(crate) mod check;
pub(crate) mod inventory;
pub(crate) mod series_scan;
pub(crate) mod space;
