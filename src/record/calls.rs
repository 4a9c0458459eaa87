use super::Value;
use crate::time::Timestamp;
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;

/// The key of a line under which a server's tools are.
pub(crate) const TOOL_USAGE: &str = "tool_usage";
/// The key of a line under which the skills of the stack are.
pub(crate) const PROMPT_USAGE: &str = "prompt_usage";

/// The cumulative counters of one tool of a server, or of one skill of the stack.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct CallCounts {
    /// Calls.
    pub calls: i64,
    /// The time of the last call; absent when it is not known.
    pub last_called_at: Option<Timestamp>,
    /// Tokens that went into the calls. Always zero for a skill.
    pub input_tokens: i64,
    /// Tokens that came out of the calls. Always zero for a skill.
    pub output_tokens: i64,
}

/// Counters by the name of a tool or a skill.
pub(crate) type Calls = BTreeMap<String, CallCounts>;

/// The maximum number of tools of a server, and of skills: the names come from outside, and each is
/// kept.
pub(crate) const CALL_NAMES_MAX: usize = 4096;
/// The longest name of a tool or a skill, in bytes.
pub(crate) const CALL_NAME_BYTES_MAX: usize = 255;

impl CallCounts {
    /// Raises each counter to that of `other` where that is larger.
    fn raise(&mut self, other: CallCounts) {
        self.calls = self.calls.max(other.calls);
        self.last_called_at = self.last_called_at.max(other.last_called_at);
        self.input_tokens = self.input_tokens.max(other.input_tokens);
        self.output_tokens = self.output_tokens.max(other.output_tokens);
    }

    /// Reads what it can: a counter that is missing or no integer is zero.
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
                    counts.last_called_at = text.parse().ok()
                }
                _ => {}
            }
        }
        Some(counts)
    }
}

/// Raises counters to those that a line has under `key`, counter by counter the larger value. A name
/// that is too long, or one too many, is left out.
pub(crate) fn raise_calls(calls: &mut Calls, entries: &[(String, Value)], key: &str) {
    let found = entries.iter().find(|(name, _)| name == key);
    let Some((_, Value::Object(entries))) = found else {
        return;
    };
    for (name, value) in entries {
        let has_room = calls.len() < CALL_NAMES_MAX || calls.contains_key(name);
        if name.len() <= CALL_NAME_BYTES_MAX
            && has_room
            && let Some(counts) = CallCounts::from_value(value)
        {
            calls.entry(name.clone()).or_default().raise(counts);
        }
    }
}
