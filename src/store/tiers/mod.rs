//! The two tiers of records, rows and blocks, and the view through which readers and writers see
//! both.

pub(crate) mod blocks;
pub(crate) mod cache;
pub(crate) mod rows;
pub(crate) mod sealer;
pub(crate) mod view;
