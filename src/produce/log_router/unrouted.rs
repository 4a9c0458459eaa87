//! Counts of events that name only servers that are not configured.

use crate::{error::excerpt, record::ServerName};

/// Maximum number of names that are counted separately: names come from the fields of events, so
/// their number is unbounded.
const NAMES_MAX: usize = 64;

/// Log events that a [`LogRouter`](super::LogRouter) received and that named only servers that are
/// not configured. They are counted whether or not the server for unrouted events stored them.
#[derive(Debug, Clone, PartialEq, Eq, Default, serde::Serialize)]
#[serde(rename_all = "camelCase")]
#[non_exhaustive]
pub struct UnroutedEvents {
    /// The counts of the first 64 names, in the order of their first events.
    pub by_key: Vec<UnroutedKey>,
    /// The count of all further names, and of keys that are not text.
    pub others: u64,
}

/// The number of events that named one server.
#[derive(Debug, Clone, PartialEq, Eq, serde::Serialize)]
#[serde(rename_all = "camelCase")]
#[non_exhaustive]
pub struct UnroutedKey {
    /// The field: `component`, `server` or `server.name`.
    pub field: &'static str,
    /// The name in that field of the nearest span that has one, else of the event. A name too long
    /// for a server is truncated to its first 64 characters.
    pub name: String,
    /// The number of events.
    pub count: u64,
}

impl UnroutedEvents {
    /// The number of events.
    #[must_use]
    pub fn total(&self) -> u64 {
        self.by_key.iter().map(|key| key.count).sum::<u64>() + self.others
    }

    /// Counts an event whose first key is `key`; `None` when the key is not text.
    pub(super) fn count(&mut self, key: Option<(&'static str, &str)>) {
        let Some((field, name)) = key else {
            self.others += 1;
            return;
        };
        let cut;
        let name = if name.len() > ServerName::BYTES_MAX {
            cut = excerpt(name);
            &*cut
        } else {
            name
        };
        let known = |key: &&mut UnroutedKey| key.field == field && key.name == name;
        if let Some(key) = self.by_key.iter_mut().find(known) {
            key.count += 1;
        } else if self.by_key.len() < NAMES_MAX {
            self.by_key.push(UnroutedKey {
                field,
                name: name.to_owned(),
                count: 1,
            });
        } else {
            self.others += 1;
        }
    }
}
