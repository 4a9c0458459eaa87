//! Readings of the system's clocks.

use crate::{platform, time::Timestamp};

/// The clocks of a machine, read at the same time.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ClockReading {
    /// The time of the system clock, which may be wrong.
    pub wall: Timestamp,
    /// Nanoseconds since the machine booted, including time spent asleep.
    pub boot_nanos: u64,
    /// Identifies this boot of the machine; 0 when the system does not identify it.
    pub boot: u64,
}

impl ClockReading {
    /// Reads the system's clocks.
    #[must_use]
    pub fn now() -> ClockReading {
        ClockReading {
            wall: Timestamp::now(),
            boot_nanos: platform::boot_nanos(),
            boot: platform::boot_id().unwrap_or(UNKNOWN_BOOT),
        }
    }
}

/// The boot id when the system does not identify the boot.
pub(crate) const UNKNOWN_BOOT: u64 = 0;
