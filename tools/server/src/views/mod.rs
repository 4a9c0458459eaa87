//! What pages and the API both show.

pub(crate) mod histogram;
pub(crate) mod overview;
pub mod params;
pub(crate) mod rates;
pub(crate) mod steps;
pub(crate) mod suggest;
pub(crate) mod wipe;
