//! The counters of calls to tools and skills, which snapshots hold among their other keys.

use super::Value;
use crate::time::Timestamp;
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;

/// The key of a server's tools in a line.
pub(crate) const TOOL_USAGE: &str = "tool_usage";
/// The key of the stack's skills in a line.
pub(crate) const PROMPT_USAGE: &str = "prompt_usage";

/// How the zero time of Go is written, which stands for a time that is not known.
const UNKNOWN_TIME: &str = "0001-01-01T00:00:00Z";

/// The reserved server whose snapshots hold the skills of the stack. It is no server: it is in no list
/// of servers and in no total.
pub(crate) const SKILLS_SERVER: &str = "__skills__";

/// The cumulative counters of one tool of a server, or of one skill of the stack.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct CallCounts {
    /// The number of calls.
    pub calls: i64,
    /// The time of the last call; `None` when unknown.
    pub last_called_at: Option<Timestamp>,
    /// Tokens sent with the calls. Always zero for a skill.
    pub input_tokens: i64,
    /// Tokens returned by the calls. Always zero for a skill.
    pub output_tokens: i64,
}

/// Counters by the name of a tool or a skill.
pub(crate) type Calls = BTreeMap<String, CallCounts>;

/// Maximum number of tools of a server, and of skills. Names come from outside and are never
/// removed, so without a limit they could fill the memory. One more name stands for all others.
pub(crate) const CALL_NAMES_MAX: usize = 4096;
/// Maximum length of the name of a tool or a skill, in bytes.
pub(crate) const CALL_NAME_BYTES_MAX: usize = 255;

impl CallCounts {
    fn to_value(self) -> Value {
        let time = self
            .last_called_at
            .map_or_else(|| UNKNOWN_TIME.to_owned(), |time| time.to_string());
        let mut entries = vec![
            ("calls".to_owned(), Value::Int(self.calls)),
            ("last_called_at".to_owned(), Value::String(time)),
        ];
        let tokens = [
            ("input_tokens", self.input_tokens),
            ("output_tokens", self.output_tokens),
        ];
        for (key, count) in tokens.into_iter().filter(|(_, count)| *count != 0) {
            entries.push((key.to_owned(), Value::Int(count)));
        }
        Value::Object(entries)
    }

    /// Raises each counter to that of `other` if that is higher.
    fn raise(&mut self, other: CallCounts) {
        self.calls = self.calls.max(other.calls);
        self.last_called_at = self.last_called_at.max(other.last_called_at);
        self.input_tokens = self.input_tokens.max(other.input_tokens);
        self.output_tokens = self.output_tokens.max(other.output_tokens);
    }

    /// Reads the counters that are present and valid. A counter that is missing or not an integer
    /// is zero.
    fn from_value(value: &Value) -> Option<CallCounts> {
        let Value::Object(entries) = value else {
            return None;
        };
        let mut counts = CallCounts::default();
        for (key, value) in entries {
            match (key.as_str(), value) {
                ("calls", Value::Int(count)) => counts.calls = (*count).max(0),
                ("input_tokens", Value::Int(count)) => counts.input_tokens = (*count).max(0),
                ("output_tokens", Value::Int(count)) => counts.output_tokens = (*count).max(0),
                ("last_called_at", Value::String(text)) => {
                    counts.last_called_at = text.parse().ok();
                }
                _ => {}
            }
        }
        Some(counts)
    }
}

/// Whether a counter in `before` is higher than in `after`.
pub(crate) fn have_fallen(before: &Calls, after: &Calls) -> bool {
    before.iter().any(|(name, before)| {
        let after = after.get(name).copied().unwrap_or_default();
        after.calls < before.calls
            || after.input_tokens < before.input_tokens
            || after.output_tokens < before.output_tokens
    })
}

/// Raises counters to those under `key` of a line, each to the higher value. A name that is too
/// long, or exceeds the maximum number of names, is ignored.
pub(crate) fn raise_calls(calls: &mut Calls, entries: &[(String, Value)], key: &str) {
    let found = entries.iter().find(|(name, _)| name == key);
    let Some((_, Value::Object(entries))) = found else {
        return;
    };
    for (name, value) in entries {
        let has_room = calls.len() <= CALL_NAMES_MAX || calls.contains_key(name);
        if name.len() <= CALL_NAME_BYTES_MAX
            && has_room
            && let Some(counts) = CallCounts::from_value(value)
        {
            calls.entry(name.clone()).or_default().raise(counts);
        }
    }
}

/// The object that a line has under [`TOOL_USAGE`] or [`PROMPT_USAGE`], names ascending.
pub(crate) fn calls_to_value(calls: &Calls) -> Value {
    let entries = calls.iter();
    Value::Object(
        entries
            .map(|(name, counts)| (name.clone(), counts.to_value()))
            .collect(),
    )
}
