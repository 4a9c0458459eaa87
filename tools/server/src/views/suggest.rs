//! What a search can be completed with: names, keys and values that are stored.

use super::params::Params;
use crate::{display::entries, problem::Problem};
use gridctl_telemetry::{Query, Record, ServerName, Signal, Snapshot, Value, query::Direction};
use serde::Serialize;
use std::{
    cmp::Reverse,
    collections::{BTreeMap, BTreeSet},
};

/// The number of newest records that are looked at.
const SAMPLE: usize = 2000;
/// Maximum number of keys, and of names of spans.
const KEYS_MAX: usize = 200;
/// Maximum number of values of a key: one with more values is no choice.
const VALUES_MAX: usize = 50;
/// Maximum length of a value, in bytes.
const VALUE_BYTES_MAX: usize = 100;

/// What is stored, by a sample of the newest records.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct Suggestions {
    /// All servers, sorted.
    pub(crate) servers: Vec<ServerName>,
    /// The keys of entries, the most frequent first.
    pub(crate) keys: Vec<Key>,
    /// The names of spans, sorted.
    pub(crate) names: Vec<String>,
    /// The number of records that were looked at.
    pub(crate) sampled: usize,
}

/// A key of entries.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub(crate) struct Key {
    #[serde(rename = "key")]
    pub(crate) path: String,
    /// The number of records of the sample that have it.
    pub(crate) count: usize,
    /// Its values, the most frequent first; empty if there are too many to choose from.
    pub(crate) values: Vec<String>,
}

#[derive(Default)]
struct Seen {
    count: usize,
    values: BTreeMap<String, usize>,
    has_many: bool,
}

impl Suggestions {
    /// Looks at the newest records of `signal` of the servers that are asked for.
    pub(crate) fn find(
        snapshot: &Snapshot,
        params: &Params,
        signal: Signal,
    ) -> Result<Suggestions, Problem> {
        let query = (params.servers.iter().cloned()).fold(Query::new(signal), Query::server);
        let query = query.direction(Direction::Backward).skip_damaged();
        let mut keys: BTreeMap<String, Seen> = BTreeMap::new();
        let mut names = BTreeSet::new();
        let mut sampled = 0;
        for record in snapshot.scan(&query)?.records().take(SAMPLE) {
            let record = record?.record;
            sampled += 1;
            if let Record::Span(span) = &record
                && names.len() < KEYS_MAX
            {
                names.insert(span.span.name.clone());
            }
            for (key, value) in entries(&record) {
                if keys.len() < 2 * KEYS_MAX || keys.contains_key(&key) {
                    keys.entry(key).or_default().add(&value);
                }
            }
        }
        let mut keys: Vec<Key> = keys.into_iter().map(|(key, seen)| seen.key(key)).collect();
        keys.sort_by(|a, b| b.count.cmp(&a.count).then_with(|| a.path.cmp(&b.path)));
        keys.truncate(KEYS_MAX);
        Ok(Suggestions {
            servers: snapshot.servers()?,
            keys,
            names: names.into_iter().collect(),
            sampled,
        })
    }

    /// Expressions for the parameter `field`, at most `max`: keys, then keys with values.
    pub(crate) fn fields(&self, max: usize) -> Vec<String> {
        let keys = self.keys.iter().map(|key| key.path.clone());
        let values = self.keys.iter().flat_map(|key| {
            let values = key.values.iter();
            values.map(|value| format!("{}={value}", key.path))
        });
        keys.chain(values).take(max).collect()
    }
}

impl Seen {
    fn add(&mut self, value: &Value) {
        self.count += 1;
        let text = match value {
            Value::String(text) => text.clone(),
            Value::Array(_) | Value::Object(_) => return,
            value => value.to_string(),
        };
        if self.has_many || text.is_empty() || text.len() > VALUE_BYTES_MAX {
            return;
        }
        *self.values.entry(text).or_default() += 1;
        if self.values.len() > VALUES_MAX {
            self.has_many = true;
            self.values.clear();
        }
    }

    fn key(self, path: String) -> Key {
        let mut values: Vec<(String, usize)> = self.values.into_iter().collect();
        values.sort_by_key(|(_, count)| Reverse(*count));
        Key {
            path,
            count: self.count,
            values: values.into_iter().map(|(value, _)| value).collect(),
        }
    }
}
