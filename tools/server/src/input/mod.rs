//! What people write to choose records, on a command line and in an address alike: times, lengths of time,
//! severities, patterns, entries.

mod count;
mod filter;
mod window;
mod zone;

pub use self::{
    count::CountText,
    filter::{FilterText, Filters, LevelRange},
    window::WindowText,
    zone::Zone,
};

pub(crate) use self::count::length_text;

use gridctl_telemetry::{Error, Timestamp};

/// Why what was written cannot be read.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Invalid {
    /// One value is in none of the forms that are accepted.
    #[error("{name}: {source}")]
    Value {
        /// The name of the option or parameter, without hyphens before it.
        name: &'static str,
        /// What is wrong with it.
        source: Error,
    },
    /// A range of time ends before it begins.
    #[error("since {since} is after until {until}: exchange them")]
    Inverted {
        /// When the range begins.
        since: Timestamp,
        /// When it ends.
        until: Timestamp,
    },
}

impl Invalid {
    /// An error about the option or parameter `name`.
    pub(crate) fn value(name: &'static str) -> impl Fn(Error) -> Invalid {
        move |source| Invalid::Value { name, source }
    }
}
