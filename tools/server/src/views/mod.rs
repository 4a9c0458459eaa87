//! What pages and the API both show.

#[allow(dead_code, reason = "the pages begin to use it")]
pub(crate) mod histogram;
pub(crate) mod overview;
#[allow(dead_code, reason = "the pages and the API begin to use it")]
pub(crate) mod params;
pub(crate) mod rates;
#[allow(dead_code, reason = "the pages begin to use it")]
pub(crate) mod suggest;
pub(crate) mod wipe;
