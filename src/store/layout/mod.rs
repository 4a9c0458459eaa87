//! The layout of a database: its tables, the keys and sizes of their entries, the state of a
//! series, and the format of blocks.

pub(crate) mod block;
pub(crate) mod checked;
pub(crate) mod footprint;
pub(crate) mod keys;
pub(crate) mod row;
pub(crate) mod series;
pub(crate) mod tables;
pub(crate) mod values;
