//! What a store keeps: its limits, and the time by which the age of records is judged.

pub(crate) mod clock;
pub(crate) mod limits;
pub(crate) mod system_clock;
