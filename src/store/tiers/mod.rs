//! The two places where a record can be, rows and blocks, and the views of them that readers and
//! writers hold.

pub(crate) mod blocks;
pub(crate) mod cache;
pub(crate) mod rows;
pub(crate) mod sealer;
pub(crate) mod view;
