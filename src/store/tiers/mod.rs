//! The two places where a record can be: a row, or a block.

pub(crate) mod blocks;
pub(crate) mod rows;
pub(crate) mod sealer;
