//! The policy of a store: its limits, and the clock by which the age of records is judged.

pub(crate) mod clock;
pub(crate) mod limits;
pub(crate) mod system_clock;
